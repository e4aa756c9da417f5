//! Packets and bursts against vectors.

use proptest::prelude::*;
use weft_dataplane::dpdk::{
    BURST, BadOffload, Batch, HeaderLengths, Mempool, MempoolError, Pending, Transport, mempool::HEADROOM,
};

use crate::{bytes, packet, packet_in_segments, world};

#[derive(Clone, Debug)]
enum Step {
    Prepend(Vec<u8>),
    Append(Vec<u8>),
    TrimFront(usize),
    TrimBack(usize),
    MakeContiguous(usize),
    Linearize,
    WriteAt(usize, Vec<u8>),
    Chain(Vec<u8>),
}

fn step() -> impl Strategy<Value = Step> {
    let short = || prop::collection::vec(any::<u8>(), 1..90);
    prop_oneof![
        short().prop_map(Step::Prepend),
        short().prop_map(Step::Append),
        (0usize..700).prop_map(Step::TrimFront),
        (0usize..3000).prop_map(Step::TrimBack),
        (0usize..3000).prop_map(Step::MakeContiguous),
        Just(Step::Linearize),
        ((0usize..1500), short()).prop_map(|(at, bytes)| Step::WriteAt(at, bytes)),
        short().prop_map(Step::Chain),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_packet_behaves_like_a_vector_of_bytes(
        start in prop::collection::vec(any::<u8>(), 1..3000),
        segment in 1usize..2048,
        steps in prop::collection::vec(step(), 0..24),
    ) {
        let world = world();
        let pool = &world.pool;
        let before = pool.in_use();
        let segment = segment.max(start.len() / 100 + 1);
        let mut packet = packet_in_segments(pool, &start, segment);
        packet.set_pending(Transport::Udp, false, HeaderLengths { l2: 14, l3: 20, l4: 8 }, None);
        let mut model = start;
        for step in steps {
            let first = packet.data().len();
            match step {
                Step::Prepend(new) => {
                    let fits = new.len() <= packet.headroom();
                    let room = packet.prepend(new.len());
                    prop_assert_eq!(room.is_some(), fits);
                    if let Some(room) = room {
                        room.copy_from_slice(&new);
                        model.splice(..0, new);
                    }
                }
                Step::Append(new) => {
                    if let Some(room) = packet.append(new.len()) {
                        room.copy_from_slice(&new);
                        model.extend(new);
                    }
                }
                Step::TrimFront(count) => {
                    let fits = count < model.len();
                    prop_assert_eq!(packet.trim_front(count), fits);
                    if fits {
                        model.drain(..count);
                    }
                }
                Step::TrimBack(length) => {
                    let fits = length > 0 && length <= model.len();
                    prop_assert_eq!(packet.trim_back(length), fits);
                    if fits {
                        model.truncate(length);
                    }
                }
                Step::MakeContiguous(count) => {
                    if packet.make_contiguous(count) {
                        prop_assert!(packet.data().len() >= count);
                    } else {
                        prop_assert!(count > model.len() || packet.data().len() == first);
                    }
                }
                Step::Linearize => prop_assert_eq!(packet.linearize(), packet.is_contiguous()),
                Step::WriteAt(at, new) => {
                    let fits = at + new.len() <= model.len();
                    prop_assert_eq!(packet.write_at(at, &new), fits);
                    if fits {
                        model[at..at + new.len()].copy_from_slice(&new);
                    }
                }
                Step::Chain(new) => {
                    prop_assert!(packet.chain(crate::packet(pool, &new)).is_ok());
                    model.extend(new);
                }
            }
            prop_assert_eq!(packet.len(), model.len());
            prop_assert_eq!(packet.segments(), packet.segment_slices().count());
            prop_assert_eq!(&bytes(&packet), &model);
            prop_assert!(packet.segment_slices().all(|segment| !segment.is_empty()));
            prop_assert!(packet.is_pending());
            prop_assert_eq!(packet.header_lengths(), HeaderLengths { l2: 14, l3: 20, l4: 8 });
        }
        let offset = model.len() / 3;
        let mut copied = vec![0; model.len()];
        let count = packet.copy_to(offset, &mut copied);
        prop_assert_eq!(&copied[..count], &model[offset..]);
        let copy = packet.clone_deep(pool).unwrap();
        drop(packet);
        prop_assert_eq!(bytes(&copy), model);
        prop_assert!(copy.is_pending());
        drop(copy);
        prop_assert_eq!(pool.in_use(), before);
    }

    #[test]
    fn a_batch_behaves_like_a_vector_of_packets(steps in prop::collection::vec((0u8..6, 0usize..80), 0..120)) {
        let world = world();
        let pool = &world.pool;
        let before = pool.in_use();
        let mut batch = Batch::new();
        let mut model: Vec<u16> = Vec::new();
        for (number, (kind, at)) in steps.into_iter().enumerate() {
            let number = number as u16;
            match kind {
                0 | 1 => {
                    let pushed = batch.push(packet(pool, &number.to_be_bytes())).is_ok();
                    prop_assert_eq!(pushed, model.len() < BURST);
                    if pushed {
                        model.push(number);
                    }
                }
                2 => prop_assert_eq!(batch.pop().map(|packet| tag(&packet)), model.pop()),
                3 => {
                    let expected = (at < model.len()).then(|| model.swap_remove(at));
                    prop_assert_eq!(batch.take(at).map(|packet| tag(&packet)), expected);
                }
                4 => {
                    let count = at.min(model.len());
                    let drained: Vec<u16> = batch.drain_front(at).map(|packet| tag(&packet)).collect();
                    prop_assert_eq!(drained, model.drain(..count).collect::<Vec<_>>());
                }
                _ => {
                    let count = (at % 9).min(model.len());
                    batch.free_front(at % 9);
                    model.drain(..count);
                }
            }
            let held: Vec<u16> = batch.iter().map(tag).collect();
            prop_assert_eq!(&held, &model);
            prop_assert_eq!(pool.in_use() - before, model.len() as u32);
        }
        drop(batch);
        prop_assert_eq!(pool.in_use(), before);
    }
}

fn tag(packet: &weft_dataplane::dpdk::Mbuf) -> u16 {
    u16::from_be_bytes([packet.data()[0], packet.data()[1]])
}

#[test]
fn a_half_used_drain_frees_the_rest() {
    let world = world();
    let before = world.pool.in_use();
    let mut batch = Batch::new();
    assert_eq!(world.pool.allocate_bulk(&mut batch, 10), 10);
    let first = batch.drain_front(6).next();
    assert_eq!(world.pool.in_use() - before, 5);
    drop((first, batch));
    assert_eq!(world.pool.in_use(), before);
}

#[test]
fn an_empty_pool_gives_nothing_and_says_so() {
    let _world = world();
    let pool = Mempool::new("small", 63, 0).unwrap();
    assert!(matches!(
        Mempool::new("small", 63, 0),
        Err(MempoolError::Name { .. })
    ));
    let mut batch = Batch::new();
    assert_eq!(
        pool.allocate_bulk(&mut batch, BURST),
        0,
        "more than there are: none"
    );
    assert_eq!(pool.allocate_bulk(&mut batch, 63), 63);
    assert!(pool.allocate().is_none());
    assert_eq!((pool.in_use(), pool.available()), (63, 0));
    drop(batch);
    assert_eq!((pool.in_use(), pool.available()), (0, 63));
    assert_eq!(pool.name(), "small");
    drop(pool);
    drop(Mempool::new("small", 63, 0).expect("the name is free again"));
    let error = Mempool::new("large", 100_000_000, 0).err().unwrap();
    assert!(matches!(error, MempoolError::Memory { .. }), "{error}");
}

#[test]
fn a_fresh_packet_has_room_for_a_tunnel_in_front() {
    let world = world();
    let mut packet = packet(&world.pool, &[7; 60]);
    assert_eq!(packet.headroom(), usize::from(HEADROOM));
    packet.prepend(74).expect("VXLAN over IPv6 with a tag").fill(1);
    assert_eq!(packet.len(), 134);
    assert!(packet.prepend(128).is_none());
    assert_eq!(packet.data()[74..], [7; 60]);
}

#[test]
fn pending_offloads_are_what_was_set() {
    let world = world();
    let lengths = HeaderLengths {
        l2: 18,
        l3: 40,
        l4: 32,
    };
    let mut packet = packet(&world.pool, &[0; 2000]);
    assert_eq!(packet.pending(), Ok(Pending::default()));
    packet.set_pending(Transport::Tcp, true, lengths, Some(1400));
    assert_eq!(
        packet.pending(),
        Ok(Pending {
            checksum: true,
            segment: Some(1400)
        })
    );
    assert_eq!(packet.header_lengths(), lengths);
    assert_eq!(packet.pending_transport(), Some(Transport::Tcp));
    assert!(packet.pending_ipv6());
    packet.clear_receive_state();
    assert!(packet.is_pending());
    // The payload fits one segment: a checksum is all that is left.
    packet.trim_back(1490);
    assert_eq!(
        packet.pending(),
        Ok(Pending {
            checksum: true,
            segment: None
        })
    );
    packet.clear_pending();
    assert_eq!(packet.pending(), Ok(Pending::default()));
    packet.set_pending(
        Transport::Udp,
        false,
        HeaderLengths {
            l2: 14,
            l3: 20,
            l4: 8,
        },
        None,
    );
    assert_eq!(
        packet.pending(),
        Ok(Pending {
            checksum: true,
            segment: None
        })
    );
    assert_eq!(packet.pending_transport(), Some(Transport::Udp));
}

#[test]
fn offloads_that_contradict_the_packet_are_bad() {
    let world = world();
    let good = HeaderLengths {
        l2: 14,
        l3: 20,
        l4: 20,
    };
    for (lengths, transport, segment, length) in [
        (HeaderLengths { l2: 12, ..good }, Transport::Tcp, None, 200),
        (HeaderLengths { l3: 16, ..good }, Transport::Tcp, None, 200),
        (HeaderLengths { l4: 16, ..good }, Transport::Tcp, Some(100), 200),
        (good, Transport::Tcp, Some(7), 200),
        (good, Transport::Tcp, Some(0), 200),
        (good, Transport::Udp, Some(100), 200),
        (good, Transport::Tcp, None, 53),
        (good, Transport::Udp, None, 41),
        (HeaderLengths { l4: 60, ..good }, Transport::Tcp, Some(100), 93),
    ] {
        let mut packet = packet(&world.pool, &vec![0; length]);
        packet.set_pending(transport, false, lengths, segment);
        assert_eq!(
            packet.pending(),
            Err(BadOffload),
            "{lengths:?} {transport:?} {segment:?} {length}"
        );
    }
}
