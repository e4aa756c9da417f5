//! The FIB against the simplest thing that is right: a sorted map, searched from the longest prefix down.
//!
//! Random histories of insert, remove and publish; at each publish, and again at the end, every view still held must
//! answer as its map does.

use std::collections::BTreeMap;

use proptest::{collection::vec, prelude::*};
use weft_table::{
    RouteId,
    fib::{Address, Fib, NO_ROUTE, Prefix, View},
};

type Model<A> = BTreeMap<Prefix<A>, RouteId>;

fn model_lookup<A: Address>(model: &Model<A>, address: A, longest: u8) -> Option<(Prefix<A>, RouteId)> {
    (0..=longest).rev().find_map(|length| {
        let prefix = Prefix::containing(address, length);
        model.get(&prefix).map(|route| (prefix, *route))
    })
}

#[derive(Clone, Debug)]
enum Step<A: Address> {
    Insert(Prefix<A>, RouteId),
    /// Removes the n-th route that is there, so that removals hit.
    RemoveNth(prop::sample::Index),
    /// Removes a prefix that may be there or not.
    Remove(Prefix<A>),
    /// Publishes; the view is kept for this many publishes.
    Publish(u8),
}

trait Generate: Address {
    /// Addresses that share bits with each other, and some that do not.
    fn address() -> BoxedStrategy<Self>;
    fn length() -> BoxedStrategy<u8>;
    fn flip(self, bit: u8) -> Self;
}

impl Generate for u32 {
    fn address() -> BoxedStrategy<u32> {
        prop_oneof![
            any::<u32>(),
            (0_u32..1024).prop_map(|low| 0x0a00_0000 | low),
            (0_u32..256).prop_map(|middle| 0x0a00_0000 | middle << 8),
            (0_u32..4096).prop_map(|top| top << 20),
            Just(0),
            Just(u32::MAX),
        ]
        .boxed()
    }

    fn length() -> BoxedStrategy<u8> {
        prop_oneof![
            0_u8..=32,
            20_u8..=26,
            Just(24_u8),
            Just(32_u8),
            (0_u8..=5).prop_map(|level| level * 6)
        ]
        .boxed()
    }

    fn flip(self, bit: u8) -> u32 {
        self ^ 1_u32.checked_shl(u32::from(bit)).unwrap_or(0)
    }
}

impl Generate for u128 {
    fn address() -> BoxedStrategy<u128> {
        prop_oneof![
            any::<u128>(),
            (0_u128..1024).prop_map(|low| 0xfd00 << 112 | low),
            (0_u128..4096).prop_map(|middle| 0x2001_0db8 << 96 | middle << 76),
            (0_u128..256, 0_u128..16).prop_map(|(net, host)| 0xfd00 << 112 | net << 64 | host),
            Just(0),
            Just(u128::MAX),
        ]
        .boxed()
    }

    fn length() -> BoxedStrategy<u8> {
        prop_oneof![
            0_u8..=128,
            28_u8..=66,
            Just(48_u8),
            Just(64_u8),
            Just(128_u8),
            (0_u8..=21).prop_map(|level| level * 6)
        ]
        .boxed()
    }

    fn flip(self, bit: u8) -> u128 {
        self ^ 1_u128.checked_shl(u32::from(bit)).unwrap_or(0)
    }
}

fn prefix<A: Generate>() -> impl Strategy<Value = Prefix<A>> {
    (A::address(), A::length()).prop_map(|(address, length)| Prefix::containing(address, length))
}

fn step<A: Generate>() -> impl Strategy<Value = Step<A>> {
    prop_oneof![
        10 => (prefix(), 0_u32..1000).prop_map(|(prefix, route)| Step::Insert(prefix, RouteId(route))),
        6 => any::<prop::sample::Index>().prop_map(Step::RemoveNth),
        1 => prefix().prop_map(Step::Remove),
        2 => (0_u8..6).prop_map(Step::Publish),
    ]
}

/// A published view, the routes it must show, and for how many publishes it is still held.
struct Held<A: Address> {
    view: View<A>,
    model: Model<A>,
    publishes: u8,
}

impl<A: Generate> Held<A> {
    fn check(&self, addresses: &[A]) {
        // The given ones, and both sides of each prefix's edges.
        let edges = self.model.keys().flat_map(|prefix| {
            let host_bits = A::BITS - prefix.length();
            [
                prefix.address(),
                prefix.address().flip(host_bits),
                prefix.address().flip(host_bits.saturating_sub(1)),
            ]
        });
        let addresses: Vec<A> = addresses.iter().copied().chain(edges).collect();
        let mut bulk = vec![RouteId(77); addresses.len()];
        self.view.lookup_bulk(&addresses, &mut bulk);
        for (address, bulk) in addresses.iter().zip(bulk) {
            let expected = model_lookup(&self.model, *address, A::BITS).map(|(_, route)| route);
            assert_eq!(self.view.lookup(*address), expected, "{}", address.to_ip());
            assert_eq!(bulk, expected.unwrap_or(NO_ROUTE), "{} in bulk", address.to_ip());
        }
    }
}

fn run<A: Generate>(steps: Vec<Step<A>>, addresses: Vec<A>) {
    let mut fib = Fib::<A>::with_hugepages(false);
    let mut model = Model::new();
    let mut held: Vec<Held<A>> = vec![];
    for step in steps {
        match step {
            Step::Insert(prefix, route) => {
                let covering = prefix
                    .length()
                    .checked_sub(1)
                    .and_then(|longest| model_lookup(&model, prefix.address(), longest));
                assert_eq!(fib.covering(prefix), covering, "what covers {prefix}");
                assert_eq!(fib.get(prefix), model.get(&prefix).copied());
                assert_eq!(fib.insert(prefix, route), model.insert(prefix, route), "{prefix}");
            }
            Step::RemoveNth(index) => {
                if model.is_empty() {
                    continue;
                }
                let prefix = *model.keys().nth(index.index(model.len())).unwrap();
                assert_eq!(fib.remove(prefix), model.remove(&prefix), "{prefix}");
            }
            Step::Remove(prefix) => assert_eq!(fib.remove(prefix), model.remove(&prefix), "{prefix}"),
            Step::Publish(publishes) => {
                let now = Held {
                    view: fib.publish(),
                    model: model.clone(),
                    publishes,
                };
                now.check(&addresses);
                held.push(now);
                for held in &held {
                    held.check(&addresses);
                }
                held.retain_mut(|held| {
                    held.publishes = held.publishes.saturating_sub(1);
                    held.publishes > 0
                });
            }
        }
        assert_eq!(fib.len(), model.len());
    }
    assert!(
        fib.iter()
            .eq(model.iter().map(|(prefix, route)| (*prefix, *route))),
        "iteration in order"
    );
    for address in &addresses {
        assert_eq!(
            fib.longest_match(*address),
            model_lookup(&model, *address, A::BITS)
        );
    }
    drop(fib);
    for held in held {
        held.check(&addresses);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 4 } else { 64 }, ..ProptestConfig::default() })]

    #[test]
    fn ipv4_views_agree_with_a_sorted_list(
        steps in vec(step::<u32>(), 0..300),
        addresses in vec(u32::address(), 0..40),
    ) {
        run(steps, addresses);
    }

    #[test]
    fn ipv6_views_agree_with_a_sorted_list(
        steps in vec(step::<u128>(), 0..300),
        addresses in vec(u128::address(), 0..40),
    ) {
        run(steps, addresses);
    }
}

/// A generator that needs no crate: SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ value >> 31
    }
}

/// Dense nodes, growing memory and moves into new memory only show in tables of some size.
fn churn<A: Address>(mut generate: impl FnMut(&mut Random) -> Prefix<A>, routes: usize) {
    let mut random = Random(7);
    let mut fib = Fib::<A>::with_hugepages(false);
    let mut model = Model::new();
    let mut present: Vec<Prefix<A>> = vec![];
    let mut held: Vec<(View<A>, Model<A>)> = vec![];
    let phases = [
        (routes, 90),
        (routes, 50),
        (routes, 10),
        (routes / 2, 90),
        (routes * 2, 5),
    ];
    for (steps, inserts) in phases {
        for number in 0..steps {
            if present.is_empty() || random.next() % 100 < inserts {
                let prefix = generate(&mut random);
                let route = RouteId((random.next() >> 40) as u32);
                let old = model.insert(prefix, route);
                assert_eq!(fib.insert(prefix, route), old);
                if old.is_none() {
                    present.push(prefix);
                }
            } else {
                let prefix = present.swap_remove(random.next() as usize % present.len());
                assert_eq!(fib.remove(prefix), model.remove(&prefix), "{prefix}");
            }
            if number % (routes / 100) == 0 {
                held.push((fib.publish(), Model::new()));
                if number % (routes / 4) == 0 {
                    held.last_mut().unwrap().1 = model.clone();
                }
                if held.len() > 30 {
                    let (view, model) = held.remove(0);
                    for (prefix, route) in &model {
                        let expected = model_lookup(&model, prefix.address(), A::BITS);
                        assert!(
                            expected.is_some_and(|(found, _)| found != *prefix)
                                || expected == Some((*prefix, *route))
                        );
                        assert_eq!(view.lookup(prefix.address()), expected.map(|(_, route)| route));
                    }
                }
            }
        }
        assert!(
            fib.iter()
                .eq(model.iter().map(|(prefix, route)| (*prefix, *route)))
        );
    }
    let view = fib.publish();
    for _ in 0..routes {
        let address = generate(&mut random).address();
        let expected = model_lookup(&model, address, A::BITS).map(|(_, route)| route);
        assert_eq!(view.lookup(address), expected);
    }
}

#[test]
fn a_large_ipv4_table_agrees_with_a_sorted_list_through_growth_and_decay() {
    let routes = if cfg!(miri) { 400 } else { 6_000 };
    churn::<u32>(
        |random| {
            let value = random.next();
            let length = [24, 24, 24, 24, 22, 23, 20, 16, 19, 21, 32, 28, 12, 8][value as usize % 14];
            Prefix::containing(0x0a00_0000 | (value >> 32) as u32 & 0x0fff_ffff, length)
        },
        routes,
    );
}

#[test]
fn a_large_ipv6_table_agrees_with_a_sorted_list_through_growth_and_decay() {
    let routes = if cfg!(miri) { 400 } else { 6_000 };
    churn::<u128>(
        |random| {
            let value = random.next();
            let length = [48, 48, 48, 32, 40, 44, 36, 64, 128, 30][value as usize % 10];
            let low = if length > 64 { u128::from(random.next()) } else { 0 };
            Prefix::containing(0x2001 << 112 | u128::from(value >> 24) << 72 | low, length)
        },
        routes,
    );
}

#[test]
fn the_writer_may_move_to_another_thread_and_views_may_be_shared() {
    fn moves<T: Send>(_: &T) {}
    fn is_shared<T: Send + Sync + Clone>(_: &T) {}
    let fib = Fib::<u128>::new();
    moves(&fib);
    is_shared(&fib.view());
}

#[test]
fn views_may_be_used_and_dropped_on_other_threads_while_the_writer_goes_on() {
    let mut fib = Fib::<u32>::new();
    let rounds = if cfg!(miri) { 20 } else { 2000 };
    let (send, receive) = std::sync::mpsc::sync_channel::<(View<u32>, u32)>(4);
    let reader = std::thread::spawn(move || {
        let mut seen = 0;
        for (view, round) in receive {
            // In each round all routes carry the round's number.
            let addresses: Vec<u32> = (0..64).map(|net| net << 26 | 5).collect();
            let mut routes = vec![NO_ROUTE; 64];
            view.lookup_bulk(&addresses, &mut routes);
            assert!(
                routes.iter().all(|route| route.0 == round),
                "one view shows one batch"
            );
            seen += 1;
        }
        seen
    });
    for round in 0..rounds {
        for net in 0..64_u32 {
            fib.insert(
                Prefix::containing(net << 26, 6 + (round % 3) as u8 * 9),
                RouteId(round),
            );
            fib.remove(Prefix::containing(net << 26, 6 + ((round + 2) % 3) as u8 * 9));
        }
        send.send((fib.publish(), round)).unwrap();
    }
    drop(send);
    assert_eq!(reader.join().unwrap(), rounds);
    assert_eq!(fib.len(), 64);
}
