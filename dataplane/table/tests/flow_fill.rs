//! How full a flow table gets, what it costs in memory, and how it stays full while sessions come and go.
#![cfg(not(loom))]

use std::{collections::HashMap, sync::Arc};

use weft_table::{
    VrfId, WorkerId,
    flow::{
        ACK, Decision, DirectionIndex, FIN, FlowConfig, FlowTable, FlowTableError, InsertError, Inserted,
        Key, Key4, Key6, NewDirection, NewSession, RST, Redecided, Removed, SYN, TcpState, WorkerFlows,
    },
    rcu::{Domain, Writer},
    stamps::{NO_OBJECT, Stamps},
};

fn table(sessions: u32, workers: usize) -> (FlowTable<Key4>, Arc<Domain>, Writer) {
    let (domain, writer) = Domain::new();
    let config = FlowConfig {
        sessions,
        seed: 0x5eed,
        hugepages: false,
        workers,
    };
    (FlowTable::new(&config, &domain).unwrap(), domain, writer)
}

fn key(number: u32) -> Key4 {
    Key4 {
        source: 0x0a00_0000 + (number >> 10),
        destination: 0x0b00_0000 + (number & 0x3ff),
        source_port: 1024 + (number & 7) as u16,
        destination_port: 80,
        vrf: VrfId(1),
        protocol: 6,
    }
}

fn session(table: &FlowTable<Key4>, key: Key4, now: u32) -> NewSession<Key4> {
    let direction = |key: Key4| NewDirection {
        key,
        hash: table.hash(&key),
        decision: Decision::new(u64::from(key.source), 5, NO_OBJECT, 1),
    };
    NewSession {
        forward: direction(key),
        reverse: direction(key.reversed(key.vrf)),
        now,
    }
}

fn insert(
    table: &FlowTable<Key4>,
    worker: &mut WorkerFlows,
    number: u32,
    now: u32,
) -> Result<Inserted, InsertError> {
    table.insert(worker, &session(table, key(number), now))
}

#[test]
fn one_worker_fills_a_table_to_the_last_session() {
    for sessions in [1, 2, 7, 100, 20_000] {
        let (table, _domain, _writer) = table(sessions, 4);
        let mut worker = table.worker(WorkerId(0)).unwrap();
        for number in 0..sessions {
            assert!(
                matches!(insert(&table, &mut worker, number, 0), Ok(Inserted::New(_))),
                "{number} of {sessions}"
            );
        }
        assert_eq!(insert(&table, &mut worker, sessions, 0), Err(InsertError::Full));
        assert_eq!(
            (table.len(), table.capacity()),
            (u64::from(sessions), u64::from(sessions))
        );
        for number in 0..sessions {
            let key = key(number);
            let found = table.lookup(&key, table.hash(&key));
            let reverse = key.reversed(key.vrf);
            assert_eq!(table.lookup(&reverse, table.hash(&reverse)), found.peer());
        }
    }
}

#[test]
fn four_workers_in_turn_fill_more_than_95_percent() {
    for sessions in [1000, 50_000] {
        let (table, _domain, _writer) = table(sessions, 4);
        let mut workers: Vec<_> = (0..4)
            .map(|worker| table.worker(WorkerId(worker)).unwrap())
            .collect();
        // A worker whose cache is empty is full, though others have a few numbers left.
        for number in 0.. {
            if insert(&table, &mut workers[number as usize % 4], number, 0) == Err(InsertError::Full) {
                break;
            }
        }
        assert!(
            table.len() * 100 >= u64::from(sessions) * 95,
            "{} of {sessions}",
            table.len()
        );
    }
}

#[test]
fn a_nearly_full_table_stays_usable_while_sessions_come_and_go() {
    const SESSIONS: u32 = 20_000;
    let (table, domain, _writer) = table(SESSIONS, 2);
    let mut reader = domain.register(0).unwrap();
    let mut workers: Vec<_> = (0..2)
        .map(|worker| table.worker(WorkerId(worker)).unwrap())
        .collect();
    let mut live: Vec<DirectionIndex> = Vec::new();
    let mut number = 0;
    while live.len() < SESSIONS as usize * 97 / 100 {
        live.push(insert(&table, &mut workers[0], number, 0).unwrap().direction());
        number += 1;
    }
    // Thirty lives a number: long enough for what stays behind in overflow buckets to pile up, if it does.
    let mut random = 0x1234_5678_9abc_def0u64;
    for turn in 0..30 * SESSIONS {
        random = random
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        let victim = (random >> 33) as usize % live.len();
        let worker = &mut workers[turn as usize % 2];
        assert_eq!(table.remove(worker, live[victim].session()), Removed::Done);
        match insert(&table, worker, number, 0) {
            Ok(Inserted::New(direction)) => live[victim] = direction,
            other => panic!("{other:?} in turn {turn}, {} of {SESSIONS} in use", table.len()),
        }
        number += 1;
        if turn % 32 == 0 {
            reader.quiescent();
            for worker in &mut workers {
                table.sweep(worker, 0, 0, |_, _| u32::MAX);
            }
        }
    }
    assert_eq!(table.len(), live.len() as u64);
    for direction in live {
        let key = table.direction(direction).key();
        assert_eq!(table.lookup(&key, table.hash(&key)), direction);
    }
}

#[test]
fn an_ipv4_session_takes_192_bytes_at_most() {
    for sessions in [1_000_000, 1 << 20, 4_000_000] {
        let (table, _domain, _writer) = table(sessions, 4);
        let bytes = table.bytes() as f64 / table.capacity() as f64;
        assert!(bytes <= 192.0, "{bytes} bytes a session of {sessions}");
    }
}

#[test]
fn sizes_that_make_no_sense_are_refused() {
    let (domain, _writer) = Domain::new();
    let config = FlowConfig {
        sessions: 0,
        seed: 1,
        hugepages: false,
        workers: 1,
    };
    let refused = FlowTable::<Key6>::new(&config, &domain).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "sessions = 0: a flow table holds 1 to 536870912 sessions; change `sessions`"
    );
    let table = FlowTable::<Key6>::new(
        &FlowConfig {
            sessions: 1,
            ..config
        },
        &domain,
    )
    .unwrap();
    let _worker = table.worker(WorkerId(0)).unwrap();
    assert!(matches!(
        table.worker(WorkerId(0)),
        Err(FlowTableError::WorkerTaken { .. })
    ));
    assert!(matches!(
        table.worker(WorkerId(1)),
        Err(FlowTableError::NoSuchWorker { workers: 1, .. })
    ));
}

#[test]
fn a_session_with_two_equal_keys_has_one_entry() {
    let (table, domain, _writer) = table(10, 1);
    let mut worker = table.worker(WorkerId(0)).unwrap();
    let mut reader = domain.register(0).unwrap();
    let own = Key4 {
        source: 9,
        destination: 9,
        source_port: 5,
        destination_port: 5,
        ..key(0)
    };
    for _ in 0..50 {
        let Ok(Inserted::New(direction)) = table.insert(&mut worker, &session(&table, own, 0)) else {
            panic!()
        };
        assert_eq!(table.lookup(&own, table.hash(&own)), direction);
        assert_eq!(table.remove(&mut worker, direction.session()), Removed::Done);
        assert!(table.lookup(&own, table.hash(&own)).is_none());
        reader.quiescent();
    }
    assert!(table.is_empty());
}

#[test]
fn a_conflict_leaves_everything_as_it_was() {
    let (table, _domain, _writer) = table(10, 1);
    let mut worker = table.worker(WorkerId(0)).unwrap();
    let held = insert(&table, &mut worker, 1, 0).unwrap().direction();
    // Another initiator whose answers would come under the same key.
    let mut new = session(&table, key(2), 0);
    new.reverse = session(&table, key(1), 0).reverse;
    for _ in 0..100 {
        assert_eq!(table.insert(&mut worker, &new), Err(InsertError::Conflict));
    }
    assert_eq!((table.len(), table.created()), (1, 1));
    assert!(table.lookup(&key(2), table.hash(&key(2))).is_none());
    assert_eq!(table.lookup(&new.reverse.key, new.reverse.hash), held.peer());
    // The packet's own key is there: its session it is, whatever reverse this one would have had.
    let mut same = session(&table, key(1), 0);
    same.reverse = session(&table, key(3), 0).reverse;
    assert_eq!(table.insert(&mut worker, &same), Ok(Inserted::Existing(held)));
    // Its answers' key is in use as another's forward key: the same.
    assert_eq!(
        table.insert(&mut worker, &session(&table, new.reverse.key, 0)),
        Ok(Inserted::Existing(held.peer()))
    );
}

#[test]
fn tcp_sessions_age_by_their_state() {
    let (table, _domain, _writer) = table(10, 1);
    let mut worker = table.worker(WorkerId(0)).unwrap();
    let direction = insert(&table, &mut worker, 1, 100).unwrap().direction();
    let state = || table.tcp_state(direction.session());
    assert_eq!(state(), TcpState::Open);
    table.observe_tcp(direction, SYN);
    assert_eq!(state(), TcpState::Opening);
    table.observe_tcp(direction.peer(), SYN | ACK);
    assert_eq!(state(), TcpState::Open);
    table.observe_tcp(direction.peer(), FIN | ACK);
    assert_eq!(state(), TcpState::Closing);
    table.observe_tcp(direction, FIN | ACK);
    assert_eq!(state(), TcpState::Closed);
    // The same ports, used again.
    table.observe_tcp(direction, SYN);
    assert_eq!(state(), TcpState::Opening);
    table.observe_tcp(direction.peer(), RST | ACK);
    assert_eq!(state(), TcpState::Closed);

    let timeout = |key: &_, state: TcpState| {
        assert_eq!(Key::protocol(key), 6);
        if state == TcpState::Closed { 5 } else { 7440 }
    };
    table.direction(direction.peer()).count(1, 60, 103);
    assert_eq!(table.sweep(&mut worker, 64, 108, timeout), 0);
    // A packet of a second that this worker has not reached yet.
    table.direction(direction.peer()).count(1, 60, 110);
    assert_eq!(table.sweep(&mut worker, 64, 109, timeout), 0);
    assert_eq!(table.sweep(&mut worker, 64, 116, timeout), 1);
    assert_eq!((table.len(), table.expired()), (0, 1));
}

#[test]
fn a_decision_is_fresh_until_something_it_rests_on_changes() {
    let (table, _domain, _writer) = table(10, 1);
    let mut worker = table.worker(WorkerId(0)).unwrap();
    let stamps = Stamps::new(false);
    let mut new = session(&table, key(1), 0);
    new.forward.decision = Decision::new(1, 5, 70, 3);
    new.reverse.decision = Decision {
        further: [NO_OBJECT, 80, 90],
        ..Decision::new(2, 5, NO_OBJECT, 3)
    };
    let forward = table.insert(&mut worker, &new).unwrap().direction();
    let fresh = |direction| {
        let decided = table.direction(direction).decided();
        table.is_fresh(direction, &decided, &stamps)
    };
    assert!(fresh(forward) && fresh(forward.peer()));
    for (object, forward_fresh, reverse_fresh) in [(71, true, true), (70, false, true), (90, false, false)] {
        stamps.set(object, 4).unwrap();
        assert_eq!(
            (fresh(forward), fresh(forward.peer())),
            (forward_fresh, reverse_fresh),
            "object {object}"
        );
    }

    // The same result in snapshot 4.
    let decided = table.direction(forward).decided();
    assert_eq!(
        (decided.route(), table.direction(forward.peer()).decided().route()),
        (70, NO_OBJECT)
    );
    assert!(table.restamp(forward, &decided, 4));
    assert!(fresh(forward) && table.direction(forward).action() == 1);
    assert!(
        !table.restamp(forward, &decided, 5),
        "what was read is not what is there any more"
    );

    // Another result.
    let other = Decision::new(9, 6, 75, 4);
    assert_eq!(table.redecide(forward.peer(), &other), Redecided::Published);
    let decided = table.direction(forward.peer()).decided();
    assert_eq!(
        (decided.action, decided.ingress, decided.route(), decided.stamp()),
        (9, 6, 75, 4)
    );
    assert!(fresh(forward.peer()) && table.further(forward.peer()) == [NO_OBJECT; 3]);
    // A worker that is a snapshot behind.
    assert_eq!(
        table.redecide(forward.peer(), &Decision::new(2, 5, 70, 3)),
        Redecided::Newer
    );
    assert_eq!(table.direction(forward.peer()).action(), 9);
}

#[test]
fn a_sweep_looks_at_each_session_once_a_round() {
    let (table, _domain, _writer) = table(1000, 2);
    let mut workers = [
        table.worker(WorkerId(0)).unwrap(),
        table.worker(WorkerId(1)).unwrap(),
    ];
    for number in 0..640 {
        insert(&table, &mut workers[0], number, 0).unwrap();
    }
    let looked = std::cell::Cell::new(0);
    // Slices of 64 by two workers in turn: ten make a round over what was ever used.
    for slice in 0..10 {
        table.sweep(&mut workers[slice % 2], 64, 50, |_, _| {
            looked.set(looked.get() + 1);
            u32::MAX
        });
    }
    assert!((630..=640).contains(&looked.get()), "{}", looked.get());
}

#[test]
fn counters_are_read_as_they_were_counted() {
    let (table, _domain, _writer) = table(10, 1);
    let mut worker = table.worker(WorkerId(0)).unwrap();
    let mut expected = HashMap::new();
    for number in 0..5 {
        let direction = insert(&table, &mut worker, number, 7).unwrap().direction();
        for packet in 0..number {
            table.direction(direction).count(1, 64, 8 + packet);
        }
        expected.insert(
            key(number),
            (u64::from(number), u64::from(number) * 64, 7 + number),
        );
    }
    table.for_each(|record| {
        let read = (
            record.initiator.packets,
            record.initiator.bytes,
            record.initiator.last_seen,
        );
        assert_eq!(expected.remove(&record.initiator.key), Some(read));
        assert_eq!((record.reverse.packets, record.created), (0, 7));
        true
    });
    assert!(expected.is_empty());
}
