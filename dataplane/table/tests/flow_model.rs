//! The flow table against the plainest of models: a map from key to session.
#![cfg(not(loom))]

use std::collections::{BTreeMap, BTreeSet};

use proptest::{collection::vec, prelude::*};
use weft_table::{
    VrfId, WorkerId,
    flow::{
        Decision, DirectionIndex, FlowConfig, FlowTable, InsertError, Inserted, Key, Key4, Key6,
        NewDirection, NewSession, Removed, SessionIndex, TcpState, WorkerFlows,
    },
    rcu::{Domain, Reader, Writer},
    stamps::NO_OBJECT,
};

const SESSIONS: u32 = 24;
const TIMEOUT: u32 = 10;

/// Keys are named by small numbers, so that steps meet each other.
trait Named: Key + Ord {
    fn named(name: u32) -> Self;
}

impl Named for Key4 {
    fn named(name: u32) -> Self {
        Key4 {
            source: 0x0a00_0000 + name,
            destination: 0x0a01_0000,
            source_port: 1024,
            destination_port: 80,
            vrf: VrfId(1),
            protocol: 17,
        }
    }
}

impl Named for Key6 {
    fn named(name: u32) -> Self {
        Key6 {
            source: u128::from(name).to_be_bytes(),
            destination: [0xfd; 16],
            source_port: 1024,
            destination_port: 80,
            vrf: VrfId(1),
            protocol: 17,
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// Put sessions in whose keys have these places in the list of names; several as a burst.
    Insert(Vec<(usize, usize)>),
    /// Take out the session that has this key.
    Remove(usize),
    /// A packet of this key.
    Packet(usize),
    /// Burst boundary, and time for the table to look after itself.
    Boundary,
    /// Some seconds pass and the whole table is swept.
    Wait(u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let name = || 0..NAMES;
    vec(
        prop_oneof![
            5 => (name(), name()).prop_map(|names| Step::Insert(vec![names])),
            1 => vec((name(), name()), 2..40).prop_map(Step::Insert),
            2 => name().prop_map(Step::Remove),
            2 => name().prop_map(Step::Packet),
            2 => Just(Step::Boundary),
            1 => (1..8u32).prop_map(Step::Wait),
        ],
        1..400,
    )
}

const NAMES: usize = 80;

struct Subject<K: Key> {
    table: FlowTable<K>,
    worker: WorkerFlows,
    reader: Reader,
    _writer: Writer,
    keys: Vec<K>,
}

impl<K: Named> Subject<K> {
    /// `crowded`: all keys fall into the first bucket, so that its overflow chain is long.
    fn new(seed: u64, crowded: bool) -> Self {
        let (domain, writer) = Domain::new();
        let config = FlowConfig {
            sessions: SESSIONS,
            seed,
            hugepages: false,
            workers: 1,
        };
        let table = FlowTable::<K>::new(&config, &domain).unwrap();
        let buckets = u64::from(20 * SESSIONS).div_ceil(56);
        let keys = (0..)
            .map(K::named)
            .filter(|key| !crowded || ((table.hash(key) >> 32) * buckets) >> 32 == 0)
            .take(NAMES)
            .collect();
        let worker = table.worker(WorkerId(0)).unwrap();
        let reader = domain.register(0).unwrap();
        Subject {
            table,
            worker,
            reader,
            _writer: writer,
            keys,
        }
    }

    fn lookup(&self, key: &K) -> DirectionIndex {
        self.table.lookup(key, self.table.hash(key))
    }

    fn insert(&mut self, names: &[(usize, usize)], now: u32) -> Vec<Result<Inserted, InsertError>> {
        let direction = |name: usize| {
            let key = self.keys[name];
            let decision = Decision::new(name as u64, name as u32 + 1, NO_OBJECT, 1);
            NewDirection {
                key,
                hash: self.table.hash(&key),
                decision,
            }
        };
        let new: Vec<_> = names
            .iter()
            .map(|(forward, reverse)| NewSession {
                forward: direction(*forward),
                reverse: direction(*reverse),
                now,
            })
            .collect();
        if let [one] = &new[..] {
            return vec![self.table.insert(&mut self.worker, one)];
        }
        let mut results = vec![Err(InsertError::Busy); new.len()];
        self.table.insert_burst(&mut self.worker, &new, &mut results);
        results
    }
}

/// What the model knows of a session.
#[derive(Clone, Copy, Debug)]
struct Known {
    forward: usize,
    reverse: usize,
    seen: u32,
}

fn agrees_with_the_model<K: Named>(seed: u64, crowded: bool, steps: &[Step]) {
    let mut subject = Subject::<K>::new(seed, crowded);
    let mut sessions: BTreeMap<SessionIndex, Known> = BTreeMap::new();
    let mut held: BTreeMap<usize, DirectionIndex> = BTreeMap::new();
    // Numbers that may not be used again before the next boundary.
    let mut resting: BTreeSet<SessionIndex> = BTreeSet::new();
    let (mut now, mut created, mut expired) = (100, 0, 0);

    for step in steps {
        match step {
            Step::Insert(names) => {
                let results = subject.insert(names, now);
                for (&(forward, reverse), result) in names.iter().zip(results) {
                    match (held.get(&forward), held.get(&reverse)) {
                        (Some(direction), _) => assert_eq!(result, Ok(Inserted::Existing(*direction))),
                        (None, Some(_)) => assert!(
                            result == Err(InsertError::Conflict)
                                || result == Err(InsertError::Full)
                                    && sessions.len() + resting.len() >= SESSIONS as usize,
                            "{result:?}"
                        ),
                        (None, None) => match result {
                            Ok(Inserted::New(direction)) => {
                                assert!(direction.is_initiator());
                                assert!(
                                    !resting.contains(&direction.session()),
                                    "used again within the burst"
                                );
                                let known = Known {
                                    forward,
                                    reverse,
                                    seen: now,
                                };
                                assert!(sessions.insert(direction.session(), known).is_none());
                                held.insert(forward, direction);
                                if forward != reverse {
                                    held.insert(reverse, direction.peer());
                                }
                                created += 1;
                            }
                            Err(InsertError::Full) => {
                                assert!(
                                    sessions.len() + resting.len() >= SESSIONS as usize,
                                    "full too early"
                                );
                            }
                            other => panic!("{other:?}"),
                        },
                    }
                }
            }
            Step::Remove(name) => {
                let Some(session) = held.get(name).map(|direction| direction.session()) else {
                    continue;
                };
                assert_eq!(subject.table.remove(&mut subject.worker, session), Removed::Done);
                assert_eq!(
                    subject.table.remove(&mut subject.worker, session),
                    Removed::NotThere
                );
                let known = sessions.remove(&session).unwrap();
                held.remove(&known.forward);
                held.remove(&known.reverse);
                resting.insert(session);
            }
            Step::Packet(name) => {
                let found = subject.lookup(&subject.keys[*name]);
                if let Some(direction) = subject.table.get(found) {
                    direction.count(1, 100, now);
                    sessions.get_mut(&found.session()).unwrap().seen = now;
                }
            }
            Step::Boundary => {
                subject.reader.quiescent();
                // Often enough for what was freed to leave its limbo, with nothing expired.
                for _ in 0..20 {
                    subject.table.sweep(&mut subject.worker, 0, now, |_, _| u32::MAX);
                    subject.reader.quiescent();
                }
                resting.clear();
            }
            Step::Wait(seconds) => {
                now += seconds;
                let swept = subject
                    .table
                    .sweep(&mut subject.worker, SESSIONS, now, |key, tcp| {
                        let protocol = key.protocol();
                        assert_eq!((protocol, tcp), (17, TcpState::Open));
                        TIMEOUT
                    });
                let idle: Vec<_> = sessions
                    .iter()
                    .filter(|(_, known)| now - known.seen > TIMEOUT)
                    .map(|(session, known)| (*session, *known))
                    .collect();
                assert_eq!(swept as usize, idle.len());
                expired += idle.len() as u64;
                for (session, known) in idle {
                    sessions.remove(&session);
                    held.remove(&known.forward);
                    held.remove(&known.reverse);
                    resting.insert(session);
                }
            }
        }
        // After each step: exactly what the model holds, by single lookups and by bursts.
        let hashes: Vec<u64> = subject.keys.iter().map(|key| subject.table.hash(key)).collect();
        let mut found = vec![DirectionIndex(7); NAMES];
        subject.table.lookup_burst(&subject.keys, &hashes, &mut found);
        for (name, found) in found.iter().enumerate() {
            let expected = held.get(&name).copied().unwrap_or(DirectionIndex::NONE);
            assert_eq!(*found, expected, "key {name} after {step:?}");
            assert_eq!(subject.lookup(&subject.keys[name]), expected);
            if let Some(direction) = subject.table.get(expected) {
                assert_eq!(direction.key(), subject.keys[name]);
                assert_eq!(
                    (direction.action(), direction.ingress()),
                    (name as u64, name as u32 + 1)
                );
            }
        }
        assert_eq!(subject.table.len(), sessions.len() as u64);
    }
    assert_eq!(
        (subject.table.created(), subject.table.expired()),
        (created, expired)
    );
    let mut listed = BTreeMap::new();
    subject.table.for_each(|record| {
        listed.insert(record.session, (record.initiator.key, record.reverse.key));
        true
    });
    let expected: BTreeMap<_, _> = sessions
        .iter()
        .map(|(session, known)| {
            (
                *session,
                (subject.keys[known.forward], subject.keys[known.reverse]),
            )
        })
        .collect();
    assert_eq!(listed, expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn ipv4_sessions_are_those_of_the_model(seed: u64, crowded: bool, steps in steps()) {
        agrees_with_the_model::<Key4>(seed, crowded, &steps);
    }

    #[test]
    fn ipv6_sessions_are_those_of_the_model(seed: u64, crowded: bool, steps in steps()) {
        agrees_with_the_model::<Key6>(seed, crowded, &steps);
    }
}
