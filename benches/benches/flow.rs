//! The flow table alone: what a hit costs by the number of sessions, and how many sessions a second can be made.
//!
//! Keys come in random order, as many sessions' packets do; both directions are asked for. Run with hugepages
//! reserved (about 120 for the table of a million): without them the same table is several times slower, which the
//! last group shows.

use std::{hint::black_box, time::Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use weft_table::{
    VrfId, WorkerId,
    flow::{
        Decision, DirectionIndex, FlowConfig, FlowTable, Key, Key4, NewDirection, NewSession, WorkerFlows,
    },
    rcu::{Domain, Reader, Writer},
};

const BURST: usize = 64;
const CAPACITY: u32 = 1 << 20;

struct World {
    table: FlowTable<Key4>,
    worker: WorkerFlows,
    reader: Reader,
    _writer: Writer,
}

fn world(hugepages: bool) -> World {
    let (domain, writer) = Domain::new();
    let config = FlowConfig {
        sessions: CAPACITY,
        seed: 0x5eed_5eed_5eed,
        hugepages,
        workers: 1,
    };
    let table = FlowTable::new(&config, &domain).expect("memory for a million sessions");
    let worker = table.worker(WorkerId(0)).expect("the only worker");
    let reader = domain.register(0).expect("the only reader");
    World {
        table,
        worker,
        reader,
        _writer: writer,
    }
}

/// Tenants' clients on many addresses and ports, one server a hundred sessions.
fn key(number: u32) -> Key4 {
    Key4 {
        source: 0x0a00_0000 + number % 50_000,
        destination: 0x0a80_0000 + number / 100,
        source_port: 1024 + (number / 50_000) as u16,
        destination_port: 443,
        vrf: VrfId(1 + (number % 16) as u16),
        protocol: 6,
    }
}

fn session(table: &FlowTable<Key4>, number: u32) -> NewSession<Key4> {
    let direction = |key: Key4| NewDirection {
        key,
        hash: table.hash(&key),
        decision: Decision::new(u64::from(number), 3, number & 0xff, 1),
    };
    let key = key(number);
    NewSession {
        forward: direction(key),
        reverse: direction(key.reversed(key.vrf)),
        now: 1,
    }
}

/// Keys and hashes of packets of `sessions` sessions, both directions, in random order.
fn packets(table: &FlowTable<Key4>, sessions: u32) -> (Vec<Key4>, Vec<u64>) {
    let count = (2 * sessions as usize).clamp(BURST, 1 << 20) / BURST * BURST;
    let mut random = 88172645463325252u64;
    let keys: Vec<Key4> = (0..count)
        .map(|_| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let key = key((random >> 20) as u32 % sessions);
            if random & 1 == 0 {
                key
            } else {
                key.reversed(key.vrf)
            }
        })
        .collect();
    let hashes = keys.iter().map(|key| table.hash(key)).collect();
    (keys, hashes)
}

fn hit(criterion: &mut Criterion) {
    for hugepages in [true, false] {
        let mut world = world(hugepages);
        let mut group = criterion.benchmark_group(format!("flow hit, {}", world.table.pages()));
        let mut held = 0;
        for sessions in [1, 10_000, 100_000, 1_000_000u32] {
            for number in held..sessions {
                let new = session(&world.table, number);
                world.table.insert(&mut world.worker, &new).expect("room for it");
            }
            held = sessions;
            let (keys, hashes) = packets(&world.table, sessions);
            let mut bursts = keys.chunks(BURST).zip(hashes.chunks(BURST)).cycle();
            let mut found = [DirectionIndex::NONE; BURST];
            group.throughput(Throughput::Elements(BURST as u64));
            group.bench_function(BenchmarkId::new("lookup", sessions), |bencher| {
                bencher.iter(|| {
                    let (keys, hashes) = bursts.next().expect("endless");
                    world.table.lookup_burst(keys, hashes, &mut found);
                    black_box(&found);
                });
            });
            assert!(found.iter().all(|found| found.is_some()));
            group.bench_function(
                BenchmarkId::new("hash, lookup, decision and count", sessions),
                |bencher| {
                    let mut hashes = [0; BURST];
                    bencher.iter(|| {
                        let (keys, _) = bursts.next().expect("endless");
                        for (hash, key) in hashes.iter_mut().zip(keys) {
                            *hash = world.table.hash(key);
                        }
                        world.table.lookup_burst(keys, &hashes, &mut found);
                        for found in &found {
                            if let Some(direction) = world.table.get(*found) {
                                black_box(direction.decided());
                                direction.count(1, 64, 2);
                            }
                        }
                        world.reader.quiescent();
                    });
                },
            );
        }
        group.finish();
    }
}

fn insert(criterion: &mut Criterion) {
    let mut world = world(true);
    let mut group = criterion.benchmark_group(format!("flow insert, {}", world.table.pages()));
    group.sample_size(10);
    for sessions in [10_000, 100_000, 1_000_000u32] {
        group.throughput(Throughput::Elements(u64::from(sessions)));
        group.bench_function(BenchmarkId::from_parameter(sessions), |bencher| {
            bencher.iter_custom(|rounds| {
                let mut elapsed = std::time::Duration::ZERO;
                for _ in 0..rounds {
                    let start = Instant::now();
                    for number in 0..sessions {
                        let new = session(&world.table, number);
                        black_box(world.table.insert(&mut world.worker, &new)).expect("room for it");
                    }
                    elapsed += start.elapsed();
                    // Empty it again, off the clock.
                    while !world.table.is_empty() {
                        world.table.sweep(&mut world.worker, 4096, 100, |_, _| 1);
                        world.reader.quiescent();
                    }
                    for _ in 0..sessions / 64 + 64 {
                        world.table.sweep(&mut world.worker, 0, 100, |_, _| 1);
                        world.reader.quiescent();
                    }
                }
                elapsed
            });
        });
    }
    group.finish();
}

criterion_group!(benches, hit, insert);
criterion_main!(benches);
