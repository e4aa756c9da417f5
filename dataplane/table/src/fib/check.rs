//! The trie against its own rules: what a table's shape must be at each moment, whatever happened before.
//!
//! In unit tests crowns and moves into new memory come early (see `crown` and `compact`), so that small histories
//! meet them often. The answers are held against a sorted map here as well as in `tests/fib_model.rs`.

use std::collections::BTreeMap;

use proptest::{collection::vec, prelude::*};

use super::{
    Address, Entry, Fib, NO_ROUTE, Prefix, View,
    arena::Arena,
    blocks::{
        DENSE_DOWN_TO, DENSE_FROM, Skip, block_words, inner, inner_bitmap, only_own_route, only_slot, slot,
    },
    crown, directory,
    node::{DENSE_PAIRS, Kind, STRIDE, Target, covering_positions, highest},
};
use crate::RouteId;

/// What a walk over all nodes finds.
#[derive(Default)]
struct Found {
    blocks: Vec<(u32, u32)>,
    routes: usize,
}

/// Checks everything below an entry at a depth; `pinned` levels must be dense.
fn check_below<A: Address>(arena: &Arena, entry: Entry, depth: u32, pinned: u32, found: &mut Found) {
    let (kind, place) = match entry.target() {
        Target::Nothing => return assert_eq!(pinned, 0, "a crown has no gaps"),
        Target::Route(_) => {
            assert_eq!(pinned, 0, "a crown has no gaps");
            found.routes += 1;
            return;
        }
        Target::Node(kind, place) => (kind, place),
    };
    assert!(depth < u32::from(A::BITS), "a node at depth {depth}");
    assert!(pinned == 0 || kind == Kind::Dense, "a crown is dense");
    found.blocks.push((place, block_words::<A>(arena, kind, place)));
    if kind == Kind::Skip {
        let skip = Skip::<A>::read(arena, place);
        assert!(
            skip.count >= 2 * STRIDE && skip.count.is_multiple_of(STRIDE),
            "a skip of {} bits",
            skip.count
        );
        assert_eq!(
            skip.bits,
            skip.bits.network(skip.count as u8),
            "bits behind a skip's count"
        );
        assert!(skip.behind != Entry::NOTHING, "a skip leads somewhere");
        if let Target::Node(kind, place) = skip.behind.target() {
            assert!(kind != Kind::Skip, "two skips in a row");
            assert!(
                kind != Kind::Sparse || only_slot(arena, place).is_none(),
                "a skip and a node that leads on"
            );
        }
        return check_below::<A>(arena, skip.behind, depth + skip.count, 0, found);
    }
    let bitmap = inner_bitmap(arena, kind, place);
    assert_eq!(bitmap & 1, 0, "position 0 does not exist");
    found.routes += bitmap.count_ones() as usize;
    let entries: Vec<Entry> = (0..64).map(|number| slot(arena, kind, place, number)).collect();
    let nodes = entries.iter().filter(|entry| entry.is_node()).count() as u32;
    if kind == Kind::Sparse {
        assert!(
            bitmap != 0 || entries.iter().any(|entry| *entry != Entry::NOTHING),
            "an empty node"
        );
        assert_eq!(
            only_own_route(arena, place),
            None,
            "a node for a route that the entry could be"
        );
        assert!(nodes < DENSE_FROM, "{nodes} nodes behind a sparse node");
        if let Some((_, behind)) = only_slot(arena, place)
            && let Target::Node(kind, place) = behind.target()
        {
            assert!(kind != Kind::Skip, "a node that leads on to a skip");
            assert!(
                kind != Kind::Sparse || only_slot(arena, place).is_none(),
                "two nodes that lead on"
            );
        }
    } else {
        assert!(
            pinned > 0 || nodes >= DENSE_DOWN_TO,
            "{nodes} nodes behind a dense node"
        );
        for number in 0..64 {
            let covering = bitmap & covering_positions(number);
            let expected = match covering {
                _ if entries[number as usize].is_route() => entries[number as usize].0,
                0 => NO_ROUTE.0,
                _ => inner(arena, kind, place, highest(covering)),
            };
            assert_eq!(
                arena.get(place, DENSE_PAIRS + 2 * number + 1),
                expected,
                "the route of slot {number}"
            );
        }
    }
    for entry in entries {
        check_below::<A>(arena, entry, depth + STRIDE, pinned.saturating_sub(1), found);
    }
}

/// Checks a table's shape and that each word of its memory is accounted for once.
fn check<A: Address>(fib: &Fib<A>) {
    let mut found = Found::default();
    let pinned = fib.crown.as_ref().map_or(0, |crown| crown.levels);
    check_below::<A>(&fib.arena, fib.root, 0, pinned, &mut found);
    if let Some(crown) = &fib.crown {
        found.blocks.push((crown.directory.place(), directory::WORDS));
    }
    assert_eq!(found.routes, fib.len());
    let live: u64 = found.blocks.iter().map(|(_, words)| u64::from(*words)).sum();
    assert_eq!(live, fib.arena.live_words());
    found.blocks.sort_unstable();
    for pair in found.blocks.windows(2) {
        assert!(pair[0].0 + pair[0].1 <= pair[1].0, "blocks overlap: {pair:?}");
    }
    let (retired, top) = fib.arena.retired_words_and_top();
    let older = fib.retired.iter().flat_map(|retired| &retired.blocks);
    let older: u64 = older.map(|block| u64::from(block.words)).sum();
    assert_eq!(
        live + retired + older + fib.arena.free_words(),
        top,
        "words are lost"
    );
}

type Model<A> = BTreeMap<Prefix<A>, RouteId>;

fn check_view<A: Address>(view: &View<A>, model: &Model<A>) {
    // The edges of all prefixes: the first address, the one before and the first half's end.
    let host_bit = |prefix: &Prefix<A>| A::from_word(0, 1 << 31).shifted_right(u32::from(prefix.length()));
    let addresses: Vec<A> = model
        .keys()
        .flat_map(|prefix| [prefix.address(), prefix.address().or(host_bit(prefix))])
        .collect();
    let mut bulk = vec![RouteId(0); addresses.len()];
    view.lookup_bulk(&addresses, &mut bulk);
    for (address, bulk) in addresses.into_iter().zip(bulk) {
        let found = (0..=A::BITS)
            .rev()
            .find_map(|length| model.get(&Prefix::containing(address, length)));
        assert_eq!(view.lookup(address), found.copied(), "{}", address.to_ip());
        assert_eq!(
            bulk,
            found.copied().unwrap_or(NO_ROUTE),
            "{} in bulk",
            address.to_ip()
        );
    }
}

/// Prefixes from a number: many in few places, so that nodes fill, share paths and fall empty again.
trait FromSeed: Address {
    fn prefix(seed: u64) -> Prefix<Self>;
}

impl FromSeed for u32 {
    fn prefix(seed: u64) -> Prefix<u32> {
        let length = [6, 8, 11, 12, 13, 17, 18, 18, 19, 24, 24, 24, 25, 30, 31, 32][seed as usize & 15];
        let address = match seed >> 4 & 3 {
            0 => (seed >> 32) as u32,
            1 => 0x0a00_0000 | (seed >> 32) as u32 & 0x000f_ff00,
            2 => 0x0a01_0200 | (seed >> 32) as u32 & 0x0000_00ff,
            _ => (seed >> 32) as u32 & 0xfff0_0000,
        };
        Prefix::containing(address, length)
    }
}

impl FromSeed for u128 {
    fn prefix(seed: u64) -> Prefix<u128> {
        let length = [3, 12, 29, 32, 36, 42, 47, 48, 48, 48, 54, 60, 64, 127, 128, 128][seed as usize & 15];
        let random = u128::from(seed >> 8);
        let address = match seed >> 4 & 3 {
            0 => random << 72,
            1 => 0xfd00 << 112 | (random & 0x3f) << 80,
            2 => 0x2001_0db8 << 96 | (random & 0xff) << 64 | (random >> 8 & 0xff),
            _ => 0x2001 << 112 | (random & 0xfff) << 76,
        };
        Prefix::containing(address, length)
    }
}

fn levels<A: Address>(fib: &Fib<A>) -> u32 {
    fib.crown.as_ref().map_or(0, |crown| crown.levels)
}

/// A history: seeds of prefixes, and in each batch how many of a hundred changes add a route.
fn run<A: FromSeed>(batches: Vec<(u64, u8, usize)>) {
    let mut fib = Fib::<A>::with_hugepages(false);
    let mut model = Model::new();
    let mut present = vec![];
    let mut held: Vec<(View<A>, Model<A>)> = vec![];
    for (seed, adding, changes) in batches {
        let mut random = seed;
        for _ in 0..changes {
            random = random
                .wrapping_mul(0x5851_f42d_4c95_7f2d)
                .wrapping_add(0x1405_7b7e_f767_814f);
            let seed = random ^ random >> 29;
            if present.is_empty() || seed % 100 < u64::from(adding) {
                let prefix = A::prefix(seed.rotate_left(17));
                let route = RouteId((seed >> 40) as u32);
                let old = model.insert(prefix, route);
                assert_eq!(fib.insert(prefix, route), old);
                if old.is_none() {
                    present.push(prefix);
                }
            } else {
                let prefix = present.swap_remove((seed >> 20) as usize % present.len());
                assert_eq!(fib.remove(prefix), model.remove(&prefix));
                assert_eq!(fib.remove(prefix), None);
            }
        }
        check(&fib);
        held.push((fib.publish(), model.clone()));
        check(&fib);
        if held.len() > 3 {
            let (view, model) = held.remove(seed as usize % 3);
            check_view(&view, &model);
        }
    }
    for (view, model) in &held {
        check_view(view, model);
    }
    for prefix in present {
        assert!(fib.remove(prefix).is_some());
    }
    drop(held);
    fib.publish();
    check(&fib);
    assert_eq!(fib.publish().lookup(A::default()), None);
    assert_eq!((fib.len(), fib.memory().lookup, levels(&fib)), (0, 0, 0));
}

fn histories() -> impl Strategy<Value = Vec<(u64, u8, usize)>> {
    let adding = prop_oneof![Just(95_u8), Just(50), Just(5)];
    let changes = prop_oneof![0_usize..3, 1_usize..60, 100_usize..700];
    vec((any::<u64>(), adding, changes), 1..16)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 2 } else { 16 }, ..ProptestConfig::default() })]

    #[test]
    fn an_ipv4_table_keeps_its_shape_and_loses_no_memory(batches in histories()) {
        run::<u32>(batches);
    }

    #[test]
    fn an_ipv6_table_keeps_its_shape_and_loses_no_memory(batches in histories()) {
        run::<u128>(batches);
    }
}

#[test]
fn the_shape_depends_on_the_routes_and_not_on_how_they_came() {
    let prefixes: Vec<Prefix<u32>> = (0..400_u64)
        .map(|n| FromSeed::prefix(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
        .collect();
    let (mut straight, mut around) = (Fib::<u32>::new(), Fib::<u32>::new());
    for prefix in &prefixes[..20] {
        straight.insert(*prefix, RouteId(1));
    }
    for prefix in prefixes.iter().rev() {
        around.insert(*prefix, RouteId(1));
    }
    let kept: std::collections::HashSet<_> = prefixes[..20].iter().collect();
    for prefix in prefixes.iter().filter(|prefix| !kept.contains(prefix)) {
        around.remove(*prefix);
    }
    assert!(straight.iter().eq(around.iter()));
    assert_eq!(straight.memory().lookup, around.memory().lookup);
}

#[test]
fn a_table_that_grows_gets_a_crown_and_one_that_shrinks_loses_it() {
    let mut fib = Fib::<u32>::new();
    let mut model = Model::new();
    let prefixes: Vec<Prefix<u32>> = (0..3000_u64)
        .map(|number| FromSeed::prefix(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
        .collect();
    for (number, prefix) in prefixes.iter().enumerate() {
        fib.insert(*prefix, RouteId(number as u32));
        model.insert(*prefix, RouteId(number as u32));
    }
    assert_eq!(levels(&fib), 0, "a crown comes with a publish");
    let crowned = fib.publish();
    assert_eq!(levels(&fib), crown::LEVELS);
    check(&fib);
    check_view(&crowned, &model);
    let mut older = vec![(crowned, model.clone())];
    for (left, expected) in [(200, 2), (30, 0)] {
        for prefix in &prefixes[left..] {
            if !prefixes[..left].contains(prefix) {
                fib.remove(*prefix);
                model.remove(prefix);
            }
        }
        older.push((fib.publish(), model.clone()));
        assert_eq!(levels(&fib), expected, "{} routes", fib.len());
        check(&fib);
    }
    for (view, model) in &older {
        check_view(view, model);
    }
}

#[test]
fn memory_of_removed_routes_is_given_back() {
    let mut fib = Fib::<u128>::with_hugepages(false);
    let prefixes: Vec<Prefix<u128>> = (0..20_000_u64)
        .map(|number| FromSeed::prefix(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
        .collect();
    for prefix in &prefixes {
        fib.insert(*prefix, RouteId(1));
    }
    fib.publish();
    let full = fib.memory();
    for prefix in &prefixes[500..] {
        fib.remove(*prefix);
    }
    // The first publish retires the old nodes, later ones find the gaps.
    for route in 2..6 {
        for prefix in &prefixes[..500] {
            fib.insert(*prefix, RouteId(route));
        }
        fib.publish();
    }
    check(&fib);
    let left = fib.memory();
    assert!(left.reserved < full.reserved / 10, "{left:?} of {full:?}");
}

#[test]
fn a_change_copies_the_nodes_on_its_path_and_no_more() {
    let mut fib = Fib::<u32>::new();
    for number in 0..2000_u32 {
        fib.insert(Prefix::containing(number << 12, 24), RouteId(number));
    }
    let view = fib.publish();
    for (prefix, most) in [
        (Prefix::containing(0, 0), 1),
        (Prefix::containing(77 << 12, 24), 4),
    ] {
        fib.insert(prefix, RouteId(9));
        let (retired, _) = fib.arena.retired_words_and_top();
        assert!(
            retired > 0 && retired <= most * 256,
            "{prefix} copied {retired} words"
        );
        fib.publish();
    }
    drop(view);
}

#[test]
fn four_thousand_small_tables_cost_a_few_kilobytes_each() {
    let mut fib = Fib::<u32>::new();
    fib.insert(Prefix::containing(0, 0), RouteId(0));
    for host in 0..32 {
        fib.insert(Prefix::containing(0x0a00_0000 + host * 7, 32), RouteId(host));
        fib.publish();
    }
    let memory = fib.memory();
    assert!(memory.reserved + memory.writer < 8192, "{memory:?}");
    assert_eq!(Fib::<u32>::new().memory().reserved, 0);
}
