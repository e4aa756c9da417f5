//! Every interleaving of the lock-free code, in small (`RUSTFLAGS="--cfg loom" cargo test --release --test loom`).
//!
//! Loom runs each model under all schedules (with at most so many preemptions) and all values that weak memory allows
//! a load to return.
#![cfg(loom)]
#![allow(unsafe_code)]

use std::sync::Arc;

use loom::{cell::UnsafeCell, thread};
use weft_table::{
    VrfId, WorkerId,
    flow::{
        Decision, DirectionIndex, FlowConfig, FlowTable, InsertError, Inserted, Key, Key4, NewDirection,
        NewSession, Redecided, Removed, WorkerFlows,
    },
    rcu::{Domain, Published, Writer},
    stamps::NO_OBJECT,
};

/// As many of the schedules as fit into 20 seconds, for a model that has too many loads for all of them.
fn check_some(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 20_000;
    builder.max_duration = Some(std::time::Duration::from_secs(20));
    builder.check(model);
}

fn check(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 20_000;
    builder.check(model);
}

/// One cell a value, which only loom looks at.
struct Uses([UnsafeCell<()>; 3]);

// SAFETY: whether accesses from several threads are ordered is what the models check; there is nothing inside.
unsafe impl Send for Uses {}
// SAFETY: as above.
unsafe impl Sync for Uses {}

/// Tells whoever reads a value from whoever frees it: loom fails a model in which the two are not ordered.
struct Value {
    id: usize,
    uses: Arc<Uses>,
}

impl Drop for Value {
    fn drop(&mut self) {
        self.uses.0[self.id].with_mut(|_| ());
    }
}

struct Values {
    uses: Arc<Uses>,
    values: Vec<Option<Arc<Value>>>,
    addresses: [usize; 3],
}

impl Values {
    fn new() -> Self {
        let uses = Arc::new(Uses([
            UnsafeCell::new(()),
            UnsafeCell::new(()),
            UnsafeCell::new(()),
        ]));
        let values: Vec<_> = (0..3)
            .map(|id| {
                Some(Arc::new(Value {
                    id,
                    uses: uses.clone(),
                }))
            })
            .collect();
        let addresses = [0, 1, 2].map(|id| Arc::as_ptr(values[id].as_ref().unwrap()) as usize);
        Values {
            uses,
            values,
            addresses,
        }
    }

    fn take(&mut self, id: usize) -> Arc<Value> {
        self.values[id].take().unwrap()
    }

    /// Uses a value by its address alone: if it was freed, that is what loom shall say, and not the allocator.
    fn reading(&self) -> impl Fn(*const Value) -> usize + Send + 'static {
        let (uses, addresses) = (self.uses.clone(), self.addresses);
        move |value| {
            let id = addresses
                .iter()
                .position(|address| *address == value as usize)
                .unwrap();
            uses.0[id].with(|_| ());
            id
        }
    }
}

#[test]
fn what_a_reader_loaded_is_not_freed_before_its_quiescent_state() {
    check(3, || {
        let (domain, mut writer) = Domain::new();
        let mut values = Values::new();
        let published = Arc::new(Published::new(&domain, values.take(0)));
        let read = values.reading();
        let mut reader = domain.register(0).unwrap();
        let seen = published.clone();
        let other = thread::spawn(move || {
            let mut last = 0;
            for _ in 0..2 {
                let id = read(seen.load(&reader));
                assert!(id >= last, "went back from {last} to {id}");
                last = id;
                reader.quiescent();
            }
        });
        writer.publish(&published, values.take(1));
        writer.collect();
        writer.publish(&published, values.take(2));
        writer.collect();
        other.join().unwrap();
        assert_eq!(writer.collect(), 0, "a reader that is gone delays nobody");
    });
}

#[test]
fn a_reader_that_comes_online_finds_nothing_freed() {
    check(3, || {
        let (domain, mut writer) = Domain::new();
        let mut values = Values::new();
        let published = Arc::new(Published::new(&domain, values.take(0)));
        let read = values.reading();
        let mut reader = domain.register(0).unwrap();
        let seen = published.clone();
        let other = thread::spawn(move || {
            read(seen.load(&reader));
            drop(reader.offline());
            read(seen.load(&reader));
        });
        writer.publish(&published, values.take(1));
        writer.collect();
        other.join().unwrap();
    });
}

#[test]
fn a_reader_that_registers_late_finds_nothing_freed() {
    check(3, || {
        let (domain, mut writer) = Domain::new();
        let mut values = Values::new();
        let published = Arc::new(Published::new(&domain, values.take(0)));
        let read = values.reading();
        let seen = published.clone();
        let late = domain.clone();
        let other = thread::spawn(move || {
            let reader = late.register(1).unwrap();
            read(seen.load(&reader));
        });
        writer.publish(&published, values.take(1));
        writer.collect();
        other.join().unwrap();
    });
}

#[test]
fn two_readers_must_both_pass() {
    check(2, || {
        let (domain, mut writer) = Domain::new();
        let mut values = Values::new();
        let published = Arc::new(Published::new(&domain, values.take(0)));
        let others: Vec<_> = (0..2)
            .map(|slot| {
                let (read, seen) = (values.reading(), published.clone());
                let mut reader = domain.register(slot).unwrap();
                thread::spawn(move || {
                    read(seen.load(&reader));
                    reader.quiescent();
                    read(seen.load(&reader));
                })
            })
            .collect();
        writer.publish(&published, values.take(1));
        writer.collect();
        for other in others {
            other.join().unwrap();
        }
    });
}

fn key(source: u32, destination: u32) -> Key4 {
    // The ports follow the addresses, so that key(2, 1) is what answers key(1, 2).
    let (source_port, destination_port) = (source as u16, destination as u16);
    Key4 {
        source,
        destination,
        source_port,
        destination_port,
        vrf: VrfId(1),
        protocol: 6,
    }
}

/// What a session's packets must find in it, and nothing else.
fn action(key: &Key4) -> u64 {
    u64::from(key.source) << 32 | u64::from(key.destination)
}

struct World {
    table: Arc<FlowTable<Key4>>,
    domain: Arc<Domain>,
    _writer: Writer,
}

fn world(sessions: u32) -> World {
    let (domain, writer) = Domain::new();
    let config = FlowConfig {
        sessions,
        seed: 7,
        hugepages: false,
        workers: 2,
    };
    World {
        table: Arc::new(FlowTable::new(&config, &domain).unwrap()),
        domain,
        _writer: writer,
    }
}

fn session(table: &FlowTable<Key4>, key: Key4) -> NewSession<Key4> {
    let direction = |key: Key4| NewDirection {
        key,
        hash: table.hash(&key),
        decision: Decision::new(action(&key), key.source, NO_OBJECT, 1),
    };
    NewSession {
        forward: direction(key),
        reverse: direction(key.reversed(key.vrf)),
        now: 0,
    }
}

fn insert(table: &FlowTable<Key4>, worker: &mut WorkerFlows, key: Key4) -> Result<Inserted, InsertError> {
    table.insert(worker, &session(table, key))
}

/// Looks a key up; what it finds must be its own session, whole.
fn find(table: &FlowTable<Key4>, key: Key4) -> DirectionIndex {
    let found = table.lookup(&key, table.hash(&key));
    if let Some(direction) = table.get(found) {
        assert_eq!(direction.key(), key);
        let decided = direction.decided();
        assert_eq!(
            (decided.action, decided.ingress, decided.stamp()),
            (action(&key), key.source, 1)
        );
    }
    found
}

#[test]
fn the_two_first_packets_make_one_session() {
    for opposite in [false, true] {
        check(3, move || {
            let world = world(4);
            let (mine, theirs) = (key(1, 2), if opposite { key(2, 1) } else { key(1, 2) });
            let (mut worker, table) = (world.table.worker(WorkerId(1)).unwrap(), world.table.clone());
            let other = thread::spawn(move || insert(&table, &mut worker, theirs).unwrap());
            let mut worker = world.table.worker(WorkerId(0)).unwrap();
            let one = insert(&world.table, &mut worker, mine).unwrap();
            let other = other.join().unwrap();
            let new = [one, other]
                .iter()
                .filter(|inserted| matches!(inserted, Inserted::New(_)))
                .count();
            assert_eq!((new, world.table.len()), (1, 1));
            let expected = if opposite {
                one.direction().peer()
            } else {
                one.direction()
            };
            assert_eq!(other.direction(), expected);
            assert_eq!(find(&world.table, mine), one.direction());
            assert_eq!(
                find(&world.table, mine.reversed(mine.vrf)),
                one.direction().peer()
            );
        });
    }
}

#[test]
fn a_lookup_finds_a_session_whole_or_not_while_two_workers_insert() {
    check(2, || {
        // One bucket: both sessions meet in it.
        let world = world(2);
        let (mut worker, table) = (world.table.worker(WorkerId(1)).unwrap(), world.table.clone());
        let inserting = thread::spawn(move || insert(&table, &mut worker, key(3, 4)).unwrap());
        let table = world.table.clone();
        let looking = thread::spawn(move || {
            find(&table, key(2, 1));
            find(&table, key(3, 4));
        });
        let mut worker = world.table.worker(WorkerId(0)).unwrap();
        let one = insert(&world.table, &mut worker, key(1, 2)).unwrap();
        assert!(matches!(one, Inserted::New(_)));
        looking.join().unwrap();
        let other = inserting.join().unwrap();
        assert_eq!(find(&world.table, key(1, 2)), one.direction());
        assert_eq!(find(&world.table, key(4, 3)), other.direction().peer());
    });
}

#[test]
fn locks_taken_from_both_ends_never_wait_for_each_other_for_ever() {
    check(2, || {
        // Two buckets; whichever key lies in which, both orders are asked for.
        let world = world(4);
        let (mut worker, table) = (world.table.worker(WorkerId(1)).unwrap(), world.table.clone());
        let other = thread::spawn(move || {
            insert(&table, &mut worker, key(1, 2)).unwrap();
        });
        let mut worker = world.table.worker(WorkerId(0)).unwrap();
        insert(&world.table, &mut worker, key(6, 5)).unwrap();
        other.join().unwrap();
        assert_eq!(world.table.len(), 2);
    });
}

#[test]
fn a_number_is_used_again_only_when_no_reader_holds_it() {
    check(3, || {
        // One session: its number is the only one there is.
        let world = world(1);
        let mut worker = world.table.worker(WorkerId(0)).unwrap();
        let first = insert(&world.table, &mut worker, key(1, 2)).unwrap().direction();
        let mut reader = world.domain.register(1).unwrap();
        let table = world.table.clone();
        let other = thread::spawn(move || {
            let found = find(&table, key(1, 2));
            if found.is_some() {
                // Still within the burst: whatever happened meanwhile, this is the session that was found.
                assert_eq!(table.direction(found).action(), action(&key(1, 2)));
                assert_eq!(table.direction(found.peer()).key(), key(2, 1));
            }
            reader.quiescent();
            find(&table, key(3, 4));
        });
        assert_eq!(world.table.remove(&mut worker, first.session()), Removed::Done);
        match insert(&world.table, &mut worker, key(3, 4)) {
            Ok(inserted) => assert_eq!(inserted, Inserted::New(first)),
            Err(refused) => assert_eq!(refused, InsertError::Full),
        }
        other.join().unwrap();
        assert!(find(&world.table, key(1, 2)).is_none());
    });
}

#[test]
fn of_two_removals_one_wins() {
    check(2, || {
        let world = world(2);
        let mut worker = world.table.worker(WorkerId(0)).unwrap();
        let session = insert(&world.table, &mut worker, key(1, 2))
            .unwrap()
            .direction()
            .session();
        let (mut theirs, table) = (world.table.worker(WorkerId(1)).unwrap(), world.table.clone());
        let other = thread::spawn(move || table.remove(&mut theirs, session));
        let one = world.table.remove(&mut worker, session);
        let mut both = [one, other.join().unwrap()];
        both.sort_by_key(|removed| *removed == Removed::NotThere);
        assert_eq!(both, [Removed::Done, Removed::NotThere]);
        assert!(find(&world.table, key(1, 2)).is_none() && find(&world.table, key(2, 1)).is_none());
        assert_eq!(world.table.len(), 0);
    });
}

#[test]
fn a_decision_is_seen_whole_and_a_newer_one_stays() {
    check(2, || {
        let world = world(1);
        let mut worker = world.table.worker(WorkerId(0)).unwrap();
        let direction = insert(&world.table, &mut worker, key(1, 2)).unwrap().direction();
        let decision = |stamp: u64| Decision::new(stamp * 100, stamp as u32 * 10, stamp as u32, stamp);
        world.table.redecide(direction, &decision(2));
        let redecide = |stamp: u64| {
            let table = world.table.clone();
            thread::spawn(move || table.redecide(direction, &decision(stamp)))
        };
        let (three, four) = (redecide(3), redecide(4));
        let decided = world.table.direction(direction).decided();
        if decided.stamp() != 0 {
            let stamp = decided.stamp();
            assert_eq!(
                (decided.action, decided.ingress, decided.route()),
                (stamp * 100, stamp as u32 * 10, stamp as u32)
            );
            // Holds only if nothing newer came.
            if world.table.restamp(direction, &decided, stamp) {
                assert!(stamp <= 4);
            }
        }
        let (three, four) = (three.join().unwrap(), four.join().unwrap());
        let stamp = world.table.direction(direction).stamp();
        match (three, four) {
            (Redecided::Published | Redecided::Newer, Redecided::Published) => assert_eq!(stamp, 4),
            (Redecided::Published, Redecided::Busy) => assert_eq!(stamp, 3),
            (Redecided::Busy, Redecided::Published) => assert_eq!(stamp, 4),
            // Both may lose to the restamp in between.
            (Redecided::Busy, Redecided::Busy) => assert_eq!(stamp, 2),
            other => panic!("{other:?} with stamp {stamp}"),
        }
        assert_eq!(world.table.direction(direction).action(), stamp * 100);
    });
}

#[test]
fn a_listing_shows_one_life_of_a_number() {
    check_some(2, || {
        let world = world(1);
        let mut worker = world.table.worker(WorkerId(0)).unwrap();
        let first = insert(&world.table, &mut worker, key(1, 2)).unwrap().direction();
        let table = world.table.clone();
        // No reader of the domain: the number may change hands while it looks.
        let other = thread::spawn(move || {
            if let Some(record) = table.record(first.session()) {
                let key = record.initiator.key;
                assert_eq!(record.reverse.key, key.reversed(key.vrf));
                assert_eq!(record.initiator.decided.action, action(&key));
                assert_eq!(record.reverse.decided.action, action(&record.reverse.key));
            }
        });
        assert_eq!(world.table.remove(&mut worker, first.session()), Removed::Done);
        assert_eq!(
            insert(&world.table, &mut worker, key(3, 4)),
            Ok(Inserted::New(first))
        );
        other.join().unwrap();
    });
}
