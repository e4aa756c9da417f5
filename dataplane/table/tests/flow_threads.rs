//! The flow table under threads: what must hold whatever the timing.
#![cfg(not(loom))]

use std::{
    sync::{
        Barrier,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

use weft_table::{
    VrfId, WorkerId,
    flow::{Decision, FlowConfig, FlowTable, InsertError, Inserted, Key, Key4, NewDirection, NewSession},
    rcu::Domain,
    stamps::NO_OBJECT,
};

fn key(number: u32) -> Key4 {
    Key4 {
        source: number,
        destination: !number,
        source_port: number as u16,
        destination_port: 53,
        vrf: VrfId(1),
        protocol: 17,
    }
}

/// What a session's packets must find in it, and in no other.
fn action(key: &Key4) -> u64 {
    u64::from(key.source) << 32 | u64::from(key.destination)
}

fn session(table: &FlowTable<Key4>, key: Key4, now: u32) -> NewSession<Key4> {
    let direction = |key: Key4| NewDirection {
        key,
        hash: table.hash(&key),
        decision: Decision::new(action(&key), key.source, NO_OBJECT, 1),
    };
    NewSession {
        forward: direction(key),
        reverse: direction(key.reversed(key.vrf)),
        now,
    }
}

#[test]
fn simultaneous_first_packets_of_either_side_make_one_session() {
    const WORKERS: usize = 4;
    const SESSIONS: u32 = 3000;
    let (domain, _writer) = Domain::new();
    let config = FlowConfig {
        sessions: SESSIONS + 600,
        seed: 3,
        hugepages: false,
        workers: WORKERS,
    };
    let table = FlowTable::<Key4>::new(&config, &domain).unwrap();
    let (barrier, new) = (Barrier::new(WORKERS), AtomicU64::new(0));
    thread::scope(|scope| {
        for number in 0..WORKERS {
            let (table, barrier, new) = (&table, &barrier, &new);
            scope.spawn(move || {
                let mut worker = table.worker(WorkerId(number as u16)).unwrap();
                for first in (0..SESSIONS).step_by(100) {
                    barrier.wait();
                    for source in first..first + 100 {
                        let key = key(source);
                        let key = if number % 2 == 0 {
                            key
                        } else {
                            key.reversed(key.vrf)
                        };
                        let inserted = loop {
                            match table.insert(&mut worker, &session(table, key, 0)) {
                                // Its holder lost its CPU.
                                Err(InsertError::Busy) => thread::yield_now(),
                                other => break other.unwrap(),
                            }
                        };
                        assert_eq!(table.direction(inserted.direction()).key(), key);
                        if let Inserted::New(_) = inserted {
                            new.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
    });
    assert_eq!(
        (new.into_inner(), table.len()),
        (u64::from(SESSIONS), u64::from(SESSIONS))
    );
    for source in 0..SESSIONS {
        let key = key(source);
        let reverse = key.reversed(key.vrf);
        let found = table.lookup(&key, table.hash(&key));
        assert!(found.is_some());
        assert_eq!(table.lookup(&reverse, table.hash(&reverse)), found.peer());
    }
}

#[test]
fn nobody_finds_another_sessions_action_while_sessions_come_and_go() {
    const WORKERS: usize = 4;
    const KEYS: u32 = 400;
    const BURSTS: u32 = 6000;
    let (domain, _writer) = Domain::new();
    // Fewer sessions than keys, so that numbers change hands all the time.
    let config = FlowConfig {
        sessions: 128,
        seed: 4,
        hugepages: false,
        workers: WORKERS,
    };
    let table = FlowTable::<Key4>::new(&config, &domain).unwrap();
    let (hits, done) = (AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let working: Vec<_> = (0..WORKERS)
            .map(|number| {
                let (table, domain, hits) = (&table, &domain, &hits);
                scope.spawn(move || {
                    let mut reader = domain.register(number).unwrap();
                    let mut worker = table.worker(WorkerId(number as u16)).unwrap();
                    let mut random = number as u64 + 1;
                    let mut next = |bound: u32| {
                        random = random
                            .wrapping_mul(6364136223846793005)
                            .wrapping_add(1442695040888963407);
                        (random >> 33) as u32 % bound
                    };
                    // A worker that the host keeps from running delays every grace period, and then the others find
                    // a table that is full of what is gone: they go on until enough was found.
                    for burst in 0.. {
                        if burst >= BURSTS && hits.load(Ordering::Relaxed) > u64::from(BURSTS) {
                            break;
                        }
                        let mut held = Vec::new();
                        for _ in 0..16 {
                            let key = key(next(KEYS));
                            let key = if next(2) == 0 { key } else { key.reversed(key.vrf) };
                            let found = table.lookup(&key, table.hash(&key));
                            if found.is_some() {
                                held.push((key, found));
                                if next(4) == 0 {
                                    table.remove(&mut worker, found.session());
                                }
                            } else if let Ok(inserted) =
                                table.insert(&mut worker, &session(table, key, burst))
                            {
                                held.push((key, inserted.direction()));
                            }
                        }
                        hits.fetch_add(held.len() as u64, Ordering::Relaxed);
                        // Until the burst ends, what was found is what was looked for, removed or not.
                        for (key, found) in held {
                            let decided = table.direction(found).decided();
                            assert_eq!((decided.action, decided.ingress), (action(&key), key.source));
                            assert_eq!(table.direction(found).key(), key);
                            assert_eq!(table.direction(found.peer()).key(), key.reversed(key.vrf));
                        }
                        reader.quiescent();
                        table.sweep(&mut worker, 8, burst, |_, _| u32::MAX);
                        if burst % 64 == 0 {
                            thread::yield_now();
                        }
                    }
                })
            })
            .collect();
        // The control thread's listing, which no grace period waits for.
        scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                table.for_each(|record| {
                    for side in [record.initiator, record.reverse] {
                        assert_eq!(side.decided.action, action(&side.key));
                    }
                    assert_eq!(record.reverse.key, record.initiator.key.reversed(VrfId(1)));
                    true
                });
            }
        });
        let results: Vec<_> = working.into_iter().map(|worker| worker.join()).collect();
        done.store(true, Ordering::Release);
        for result in results {
            result.unwrap();
        }
    });
    // Nothing was lost: what is listed is found, both ways, and is counted.
    let mut listed = 0;
    table.for_each(|record| {
        listed += 1;
        for (side, direction) in [
            (record.initiator, record.session.initiator()),
            (record.reverse, record.session.reverse()),
        ] {
            assert_eq!(table.lookup(&side.key, table.hash(&side.key)), direction);
        }
        true
    });
    assert_eq!(table.len(), listed);
}

#[test]
fn a_decision_is_read_whole_while_others_publish() {
    let (domain, _writer) = Domain::new();
    let config = FlowConfig {
        sessions: 4,
        seed: 5,
        hugepages: false,
        workers: 1,
    };
    let table = FlowTable::<Key4>::new(&config, &domain).unwrap();
    let mut worker = table.worker(WorkerId(0)).unwrap();
    let direction = table
        .insert(&mut worker, &session(&table, key(1), 0))
        .unwrap()
        .direction();
    let decision = |stamp: u64| Decision::new(stamp * 3, stamp as u32 * 5, stamp as u32 * 7, stamp);
    const LAST: u64 = 300_000;
    table.redecide(direction, &decision(2));
    thread::scope(|scope| {
        for start in [3, 4] {
            let table = &table;
            scope.spawn(move || {
                for stamp in (start..=LAST).step_by(2) {
                    table.redecide(direction, &decision(stamp));
                }
                // The other writer may have been in the way of the last one.
                table.redecide(direction, &decision(LAST + 1));
            });
        }
        let mut last = 0;
        while last < LAST {
            let decided = table.direction(direction).decided();
            let stamp = decided.stamp();
            if stamp != 0 {
                assert!(stamp >= last);
                let expected = (stamp * 3, stamp as u32 * 5, stamp as u32 * 7);
                assert_eq!((decided.action, decided.ingress, decided.route()), expected);
                last = stamp;
            }
        }
    });
    assert_eq!(table.direction(direction).stamp(), LAST + 1);
}
