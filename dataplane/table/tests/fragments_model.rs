//! Fragments in any order, of many datagrams, against a model that remembers every byte.
#![cfg(not(loom))]

use std::collections::{BTreeMap, BTreeSet};

use proptest::{collection::vec, prelude::*};
use weft_table::fragments::{Fragments, Part, REMEMBERED, Seen, WAITING};

/// Datagrams are named by a number; what the first fragment says is the name once more.
type Table = Fragments<u8, u8, (u8, u16)>;

fn part(start: u16, end: u16, is_last: bool) -> Part {
    Part { start, end, is_last }
}

fn first_of(key: u8, part: Part) -> Option<u8> {
    (part.start == 0).then_some(key)
}

/// What becomes of a fragment in the end: true if it passes at once.
fn offer(table: &mut Table, key: u8, part: Part, now: u32) -> Seen<u8> {
    let seen = table.see(key, 0, part, first_of(key, part), now);
    if let Seen::Early(place) = seen {
        table.hold(place, (key, part.start)).unwrap();
    }
    seen
}

fn released(table: &mut Table) -> Vec<(u8, u16)> {
    std::iter::from_fn(|| table.released())
        .map(|(says, (key, start))| {
            assert_eq!(says, key);
            (key, start)
        })
        .collect()
}

#[test]
fn what_comes_before_the_first_waits_for_it_and_passes_in_the_order_in_which_it_came() {
    let mut table = Table::new(8, 64);
    assert!(matches!(
        offer(&mut table, 1, part(2000, 2100, true), 0),
        Seen::Early(_)
    ));
    assert!(matches!(
        offer(&mut table, 1, part(1000, 2000, false), 0),
        Seen::Early(_)
    ));
    assert!(table.released().is_none());
    assert_eq!(offer(&mut table, 1, part(0, 1000, false), 0), Seen::Passes(1));
    assert_eq!(released(&mut table), [(1, 2000), (1, 1000)]);
    assert!(table.is_empty(), "all of it has passed");
}

#[test]
fn no_byte_passes_twice_and_none_behind_the_end() {
    let mut table = Table::new(8, 64);
    assert_eq!(offer(&mut table, 1, part(0, 1000, false), 0), Seen::Passes(1));
    assert_eq!(offer(&mut table, 1, part(992, 2000, false), 0), Seen::Overlaps);
    assert_eq!(offer(&mut table, 1, part(0, 1000, false), 0), Seen::Overlaps);
    assert_eq!(offer(&mut table, 1, part(2000, 3000, false), 0), Seen::Passes(1));
    assert_eq!(
        offer(&mut table, 1, part(1000, 2000, true), 0),
        Seen::Overlaps,
        "more came behind it"
    );
    assert_eq!(offer(&mut table, 1, part(3000, 3001, true), 0), Seen::Passes(1));
    assert_eq!(
        offer(&mut table, 1, part(4000, 4008, false), 0),
        Seen::Overlaps,
        "behind the end"
    );
    assert_eq!(offer(&mut table, 1, part(1000, 2000, false), 0), Seen::Passes(1));
    assert!(table.is_empty());
}

#[test]
fn who_waits_too_long_is_given_back_and_who_is_not_whole_forgotten() {
    let mut table = Table::new(8, 64);
    offer(&mut table, 1, part(8, 16, false), 5);
    offer(&mut table, 2, part(0, 16, false), 5);
    let mut lost = Vec::new();
    table.expire(5 + WAITING, |fragment| lost.push(fragment));
    assert!(lost.is_empty() && table.len() == 2);
    table.expire(6 + WAITING, |fragment| lost.push(fragment));
    assert_eq!((lost.as_slice(), table.len()), (&[(1, 8)][..], 1));
    table.expire(6 + REMEMBERED, |fragment| lost.push(fragment));
    assert!(table.is_empty() && lost.len() == 1);
    // Its places are free again.
    for key in 0..2 {
        assert!(matches!(
            offer(&mut table, key, part(8, 16, false), 40),
            Seen::Early(_)
        ));
    }
}

#[test]
fn one_sender_takes_a_quarter_of_the_room() {
    let mut table: Fragments<u32, u32, u32> = Fragments::new(16, 16);
    let late = part(8, 16, false);
    let from = |table: &mut Fragments<u32, u32, u32>, sender, key| table.see(key, sender, late, None, 0);
    for key in 0..4 {
        assert!(matches!(from(&mut table, 1, key), Seen::Early(_)));
    }
    assert_eq!(from(&mut table, 1, 4), Seen::TooMany);
    let Seen::Early(place) = from(&mut table, 2, 5) else {
        panic!("another sender has room")
    };
    for number in 0..4 {
        assert_eq!(table.hold(place, number), Ok(()));
    }
    assert_eq!(table.hold(place, 4), Err(4));
}

#[test]
fn a_datagram_in_too_many_parts_is_refused() {
    let mut table = Table::new(8, 64);
    offer(&mut table, 1, part(0, 8, false), 0);
    let refused = (1..60)
        .find(|number| offer(&mut table, 1, part(number * 16, number * 16 + 8, false), 0) == Seen::TooMany);
    assert_eq!(refused, Some(16));
    // What lies between two parts makes them one, and is welcome.
    assert_eq!(offer(&mut table, 1, part(8, 16, false), 0), Seen::Passes(1));
}

/// The model: every byte that came, by datagram.
#[derive(Default)]
struct Bytes {
    seen: BTreeSet<u16>,
    end: Option<u16>,
    has_first: bool,
    waiting: Vec<u16>,
}

proptest! {
    #[test]
    fn fragments_pass_as_the_model_says(fragments in vec((0u8..3, 0u16..12, 1u16..5, any::<bool>()), 0..120)) {
        let mut table = Table::new(64, 1024);
        let mut model: BTreeMap<u8, Bytes> = BTreeMap::new();
        for (key, start, length, is_last) in fragments {
            let bytes = model.entry(key).or_default();
            let range = start..start + length;
            let overlaps = range.clone().any(|byte| bytes.seen.contains(&byte))
                || bytes.end.is_some_and(|end| range.end > end || (is_last && range.end != end))
                || (is_last && bytes.seen.iter().any(|byte| *byte >= range.end));
            let seen = offer(&mut table, key, part(range.start, range.end, is_last), 0);
            if overlaps {
                prop_assert_eq!(seen, Seen::Overlaps);
                continue;
            }
            bytes.seen.extend(range.clone());
            bytes.end = bytes.end.or(is_last.then_some(range.end));
            bytes.has_first |= start == 0;
            if bytes.has_first {
                prop_assert_eq!(seen, Seen::Passes(key));
            } else {
                prop_assert!(matches!(seen, Seen::Early(_)));
                bytes.waiting.push(start);
            }
            let expected: Vec<_> = match bytes.has_first {
                true => bytes.waiting.drain(..).map(|start| (key, start)).collect(),
                false => Vec::new(),
            };
            prop_assert_eq!(released(&mut table), expected);
            if bytes.end.is_some_and(|end| bytes.seen.len() == usize::from(end)) {
                model.remove(&key);
            }
            prop_assert_eq!(table.len(), model.values().filter(|bytes| !bytes.seen.is_empty()).count());
        }
    }
}
