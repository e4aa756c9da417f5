//! Port blocks against a model that is a list of who uses which port.

#![cfg(not(loom))]

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use weft_table::{
    VrfId,
    nat::{Addresses, Blocks, Holder, Place},
};

fn holder(host: u32, worker: u16) -> Holder {
    Holder {
        vrf: VrfId(1),
        address: 0x0a00_0000 + host,
        worker,
    }
}

fn two_runs() -> Addresses {
    Addresses::new(vec![0xcb00_7140..=0xcb00_7141, 0xcb00_7150..=0xcb00_7150])
}

#[test]
fn addresses_are_numbered_through_their_runs() {
    let addresses = two_runs();
    assert_eq!(addresses.len(), 3);
    for (number, address) in [0xcb00_7140, 0xcb00_7141, 0xcb00_7150].into_iter().enumerate() {
        assert_eq!(addresses.get(number as u64), Some(address));
        assert_eq!(addresses.number(address), Some(number as u64));
    }
    assert_eq!((addresses.get(3), addresses.number(0xcb00_7142)), (None, None));
    assert_eq!(Addresses::new(vec![0..=u32::MAX]).len(), 1 << 32);
}

#[test]
fn blocks_cover_the_ports_that_fill_them() {
    let blocks = Blocks::new(two_runs(), 1024..=65535, 1024);
    assert_eq!(blocks.len(), 3 * 63);
    assert_eq!(blocks.block_of((0xcb00_7140, 1024)), Some(0));
    assert_eq!(blocks.block_of((0xcb00_7141, 65535)), Some(125));
    assert_eq!(blocks.block_of((0xcb00_7150, 2048)), Some(127));
    assert_eq!(blocks.block_of((0xcb00_7140, 1023)), None);
    assert_eq!(blocks.block_of((0xcb00_7142, 1024)), None);
    // The rest of the range is no block.
    let odd = Blocks::new(two_runs(), 5000..=5009, 4);
    assert_eq!((odd.len(), odd.block_of((0xcb00_7140, 5008))), (6, None));
    assert!(Blocks::new(two_runs(), 5000..=5002, 4).is_empty());
}

#[test]
fn a_numbered_source_has_its_own_block() {
    let blocks = Blocks::new(two_runs(), 5000..=5007, 4);
    for number in 0..6 {
        let ports: BTreeSet<Place> = (0..4)
            .map(|_| blocks.take_numbered(number, |_| true).unwrap())
            .collect();
        assert_eq!(ports.len(), 4);
        assert!(
            ports
                .iter()
                .all(|place| blocks.block_of(*place) == Some(number as usize))
        );
    }
    assert_eq!(blocks.take_numbered(6, |_| true), None);
    assert_eq!(blocks.take_numbered(0, |_| false), None);
    assert_eq!(blocks.held().count(), 0);
}

#[test]
fn a_host_keeps_to_one_address_until_that_is_full() {
    let blocks = Blocks::new(two_runs(), 5000..=5015, 4);
    let mut taken = BTreeSet::new();
    let mut order = Vec::new();
    while let Some(place) = blocks.take(holder(7, 0), |place| !taken.contains(&place)) {
        taken.insert(place);
        if order.last() != Some(&place.0) {
            order.push(place.0);
        }
    }
    assert_eq!((order.len(), taken.len()), (3, 48));
}

#[derive(Clone, Debug)]
enum Act {
    Open { host: u32, worker: u16 },
    Close { which: usize },
    Release { worker: u16 },
}

fn an_act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (0..4u32, 0..2u16).prop_map(|(host, worker)| Act::Open { host, worker }),
        3 => any::<usize>().prop_map(|which| Act::Close { which }),
        1 => (0..2u16).prop_map(|worker| Act::Release { worker }),
    ]
}

proptest! {
    #[test]
    fn nobody_gets_a_port_of_anothers_block(acts in prop::collection::vec(an_act(), 1..200)) {
        let blocks = Blocks::new(two_runs(), 5000..=5007, 4);
        // Who uses a port, and who has a block, as the model has it.
        let mut used: BTreeMap<Place, Holder> = BTreeMap::new();
        let mut held: BTreeMap<usize, Holder> = BTreeMap::new();
        for act in acts {
            match act {
                Act::Open { host, worker } => {
                    let holder = holder(host, worker);
                    let place = blocks.take(holder, |place| !used.contains_key(&place));
                    let Some(place) = place else {
                        // Every block is another's, or full.
                        for block in 0..blocks.len() {
                            let of_block = used.keys().filter(|place| blocks.block_of(**place) == Some(block));
                            let full = of_block.count() == 4;
                            prop_assert!(held.get(&block).is_some_and(|other| *other != holder || full));
                        }
                        continue;
                    };
                    let block = blocks.block_of(place).unwrap();
                    prop_assert!(!used.contains_key(&place));
                    prop_assert_eq!(*held.entry(block).or_insert(holder), holder);
                    used.insert(place, holder);
                    blocks.opened(place);
                }
                Act::Close { which } => {
                    let Some(place) = used.keys().nth(which % used.len().max(1)).copied() else {
                        continue;
                    };
                    used.remove(&place);
                    blocks.closed(place);
                }
                Act::Release { worker } => {
                    blocks.release(worker, 0, blocks.len());
                    held.retain(|block, holder| {
                        let in_use = used.keys().any(|place| blocks.block_of(*place) == Some(*block));
                        holder.worker != worker || in_use
                    });
                }
            }
            let now: BTreeMap<usize, Holder> = blocks
                .held()
                .map(|block| (blocks.block_of((block.address, block.first_port)).unwrap(), block.holder))
                .collect();
            prop_assert!(held.iter().all(|(block, holder)| now.get(block) == Some(holder)));
            prop_assert_eq!(blocks.sessions(), used.len() as u64);
        }
    }
}
