//! The flow table alone: lookups by the number of sessions held, new sessions a second into an empty table and into one
//! from which as many go, what ageing costs, and memory; beside `rte_hash`, which holds the same keys.
//!
//! A worker's way is followed: bursts of 64, looked up first and missed, then both directions put in. `rte_hash` has no
//! sessions: it is given two keys each, one after the other, and forgets them by name.

use std::{cell::RefCell, time::Duration};

use anyhow::{Context, Result, ensure};
use weft_dataplane::dpdk::{Eal, clock};
use weft_table::{
    VrfId, WorkerId,
    flow::{
        Decision, DirectionIndex, FlowConfig, FlowTable, InsertError, Key, Key4, NewDirection, NewSession,
        WorkerFlows,
    },
    rcu::{Domain, Reader, Writer},
};

use super::hash::{self, Hash};
use crate::harness::{
    Bench, dpdk,
    report::{Better, WEFT},
    turns::{Samples, TURNS, in_turns},
    windows,
};

const BURST: usize = 64;
/// Sessions put in or asked for in a window.
const WINDOW: usize = 4096;
/// The second in which everything happens, and for how long a session may be idle then.
const NOW: u32 = 100;
const TIMEOUT: u32 = 50;
const NANOSECONDS: &str = "ns";
const RATE: &str = "sessions/s";
const BYTES: &str = "bytes/session";

/// Sessions held when keys are looked up.
const HELD: [(&str, u32); 6] = [
    ("1", 1),
    ("10k", 10_000),
    ("100k", 100_000),
    ("1m", 1_000_000),
    ("4m", 4_000_000),
    ("8m", 8_000_000),
];
/// Beyond these a table takes long to fill, and `rte_hash` gigabytes.
const MOST_QUICK: u32 = 1_000_000;
const HASH_MOST: u32 = 1_000_000;
/// Table sizes into which sessions are put.
const FILLED: [(&str, u32); 2] = [("100k", 100_000), ("1m", 1_000_000)];

/// See the module.
pub fn run(bench: &mut Bench) -> Result<()> {
    let eal = dpdk::eal(&bench.machine)?;
    let most = if bench.options.quick { MOST_QUICK } else { u32::MAX };
    for (name, sessions) in HELD.into_iter().filter(|(_, sessions)| *sessions <= most) {
        if bench.options.wants(&format!("table/lookup/{name}")) {
            look_up(bench, eal, name, sessions)?;
        }
    }
    for (name, sessions) in FILLED {
        if bench.options.wants(&format!("table/insert/{name}")) {
            insert(bench, eal, name, sessions)?;
        }
    }
    if bench.options.wants("table/insert-and-age/1m") {
        insert_and_age(bench, "1m", 1_000_000)?;
    }
    if bench.options.wants("memory/session") {
        memory(bench, eal, 1_000_000)?;
    }
    Ok(())
}

/// The n-th session's first key: clients of many addresses and ports, a server for every hundred.
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

/// weft's table and its one worker.
struct World {
    table: FlowTable<Key4>,
    worker: WorkerFlows,
    reader: Reader,
    _writer: Writer,
    /// Sessions with numbers from `oldest` up to `next` are in it.
    oldest: u32,
    next: u32,
    now: u32,
}

impl World {
    fn new(sessions: u32) -> Result<Self> {
        let (domain, writer) = Domain::new();
        let config = FlowConfig {
            sessions,
            seed: 0x5eed_5eed_5eed,
            hugepages: true,
            workers: 1,
        };
        let table = FlowTable::new(&config, &domain)?;
        let worker = table.worker(WorkerId(0))?;
        let reader = domain.register(0)?;
        Ok(World {
            table,
            worker,
            reader,
            _writer: writer,
            oldest: 0,
            next: 0,
            now: NOW,
        })
    }

    /// What a worker does with a burst of first packets.
    fn insert(&mut self, count: usize) {
        let mut keys = [key(0); BURST];
        let mut hashes = [0; BURST];
        for (number, (key_place, hash)) in keys.iter_mut().zip(&mut hashes).enumerate() {
            *key_place = key(self.next + number as u32);
            *hash = self.table.hash(key_place);
        }
        let mut found = [DirectionIndex::NONE; BURST];
        self.table
            .lookup_burst(&keys[..count], &hashes[..count], &mut found[..count]);
        let new: [NewSession<Key4>; BURST] = std::array::from_fn(|place| {
            let (key, hash) = (keys[place], hashes[place]);
            let reverse = key.reversed(key.vrf);
            let decision = |action: u64| Decision::new(action, 3, key.source & 0xff, 1);
            NewSession {
                forward: NewDirection {
                    key,
                    hash,
                    decision: decision(1),
                },
                reverse: NewDirection {
                    key: reverse,
                    hash: self.table.hash(&reverse),
                    decision: decision(2),
                },
                now: self.now,
            }
        });
        let mut results = [Err(InsertError::Busy); BURST];
        self.table
            .insert_burst(&mut self.worker, &new[..count], &mut results[..count]);
        std::hint::black_box(&results);
        self.reader.quiescent();
        self.next += count as u32;
    }

    /// Fills it with so many sessions; cycles a session of each window.
    fn fill(&mut self, sessions: u32) -> Samples {
        let mut cycles = Samples::default();
        while self.next < self.oldest + sessions {
            let window = (self.oldest + sessions - self.next).min(WINDOW as u32);
            let start = clock::now();
            let until = self.next + window;
            while self.next < until {
                self.insert(BURST.min((until - self.next) as usize));
            }
            cycles.push((clock::now() - start) as f64 / f64::from(window));
        }
        cycles
    }

    /// Lets all of them age and gives their numbers back.
    fn empty(&mut self) {
        self.now += 2 * TIMEOUT;
        while !self.table.is_empty() {
            self.table.sweep(&mut self.worker, 4096, self.now, |_, _| TIMEOUT);
            self.reader.quiescent();
        }
        for _ in 0..self.table.capacity() / BURST as u64 + 100 {
            self.table.sweep(&mut self.worker, 0, self.now, |_, _| TIMEOUT);
            self.reader.quiescent();
        }
        self.oldest = self.next;
    }
}

/// Keys of packets of so many sessions, both directions, as they come: at random.
fn packets(sessions: u32) -> Vec<Key4> {
    let mut random = 0x8817_2645_4633_2525_u64;
    let count = (2 * sessions as usize).clamp(WINDOW, 1 << 20) / WINDOW * WINDOW;
    (0..count)
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
        .collect()
}

fn turn(bench: &Bench) -> (usize, Duration) {
    if bench.options.quick {
        (3, windows::QUICK_TURN)
    } else {
        (TURNS, windows::TURN)
    }
}

fn look_up(bench: &mut Bench, eal: &Eal, name: &str, sessions: u32) -> Result<()> {
    bench.say(&format!("looking up {name}"));
    let mut world = World::new(sessions.max(1 << 20))?;
    world.fill(sessions);
    ensure!(world.table.len() == u64::from(sessions), "{:?}", world.table);
    let keys = packets(sessions);
    let hashes: Vec<u64> = keys.iter().map(|key| world.table.hash(key)).collect();
    let (turns, turn) = turn(bench);
    let to_nanoseconds = 1e9 / bench.machine.tsc_hz;
    let reader = RefCell::new(world.reader);
    let mut found = [DirectionIndex::NONE; BURST];
    let mut mine = || {
        let mut windows = keys.chunks(WINDOW).zip(hashes.chunks(WINDOW)).cycle();
        Ok(to_nanoseconds
            * windows::cycles_each(turn, WINDOW, || {
                let (keys, hashes) = windows.next().unwrap_or_default();
                for (keys, hashes) in keys.chunks(BURST).zip(hashes.chunks(BURST)) {
                    world.table.lookup_burst(keys, hashes, &mut found);
                    std::hint::black_box(&found);
                }
                reader.borrow_mut().quiescent();
            }))
    };
    let case = format!("table/lookup/{name}");
    if sessions > HASH_MOST {
        let samples = in_turns(turns, &mut [&mut mine])?;
        bench.report.alone(&case, WEFT, NANOSECONDS, &samples[0]);
        return Ok(());
    }
    let mut peer = Hash::new(eal, 2 * sessions.max(1 << 20))?;
    for number in 0..sessions {
        let key = key(number);
        let reverse = key.reversed(key.vrf);
        peer.insert(&hash::bytes(&key), world.table.hash(&key), number)?;
        peer.insert(&hash::bytes(&reverse), world.table.hash(&reverse), number)?;
    }
    let asked: Vec<hash::Bytes> = keys.iter().map(hash::bytes).collect();
    let mut its = || {
        let mut windows = asked.chunks(WINDOW).zip(hashes.chunks(WINDOW)).cycle();
        let mut missed = 0;
        let cycles = windows::cycles_each(turn, WINDOW, || {
            let (keys, hashes) = windows.next().unwrap_or_default();
            for (keys, hashes) in keys.chunks(BURST).zip(hashes.chunks(BURST)) {
                missed += peer.look_up(keys, hashes);
            }
        });
        ensure!(missed == 0, "rte_hash misses {missed} keys");
        Ok(to_nanoseconds * cycles)
    };
    let samples = in_turns(turns, &mut [&mut mine, &mut its])?;
    bench.report.against(
        &case,
        NANOSECONDS,
        Better::Less,
        &samples[0],
        hash::NAME,
        &samples[1],
    );
    Ok(())
}

/// Sessions into an empty table until it holds so many.
fn insert(bench: &mut Bench, eal: &Eal, name: &str, sessions: u32) -> Result<()> {
    bench.say(&format!("putting {name} in"));
    let mut world = World::new(sessions.max(1 << 20))?;
    let peer = RefCell::new(Hash::new(eal, 2 * sessions.max(1 << 20))?);
    let rate = |cycles: &Samples| bench.machine.tsc_hz / cycles.quantile(windows::BEST);
    // Every page touched once.
    world.fill(sessions);
    world.empty();
    let seed = world.table.hash(&key(0));
    let mut mine = || {
        let cycles = world.fill(sessions);
        ensure!(world.table.len() == u64::from(sessions), "{:?}", world.table);
        world.empty();
        Ok(rate(&cycles))
    };
    let mut its = || {
        let mut peer = peer.borrow_mut();
        peer.reset();
        let mut cycles = Samples::default();
        let mut failed = None;
        for window in 0..sessions / WINDOW as u32 {
            let start = clock::now();
            for number in window * WINDOW as u32..(window + 1) * WINDOW as u32 {
                let key = key(number);
                for key in [key, key.reversed(key.vrf)] {
                    let done = peer.insert(&hash::bytes(&key), key.hash(seed), number);
                    failed = failed.or(done.err());
                }
            }
            cycles.push((clock::now() - start) as f64 / WINDOW as f64);
        }
        match failed {
            Some(error) => Err(error),
            None => Ok(rate(&cycles)),
        }
    };
    let (turns, _) = turn(bench);
    let samples = in_turns(turns, &mut [&mut mine, &mut its])?;
    let case = format!("table/insert/{name}");
    bench
        .report
        .against(&case, RATE, Better::More, &samples[0], hash::NAME, &samples[1]);
    Ok(())
}

/// A full table in which every second as many sessions begin as end: what a session costs from its first packet until
/// its number is free again, and what a look at one that stays costs.
fn insert_and_age(bench: &mut Bench, name: &str, sessions: u32) -> Result<()> {
    bench.say("letting sessions come and go");
    let mut world = World::new(sessions)?;
    // A tenth is free or on its way there.
    let held = sessions / 10 * 9;
    world.fill(held);
    let (turns, turn) = turn(bench);
    let hz = bench.machine.tsc_hz;
    let (mut rates, mut looks) = (Samples::default(), Samples::default());
    for _ in 0..turns {
        let cycles = windows::cycles_each(turn, WINDOW, || {
            for _ in 0..WINDOW / BURST {
                world
                    .table
                    .sweep(&mut world.worker, BURST as u32, NOW, |_, _| u32::MAX);
                world.reader.quiescent();
            }
        });
        looks.push(cycles / hz * 1e9);
        // Each window ages the oldest 4,096 sessions and puts in as many.
        let mut window = Samples::default();
        let began = std::time::Instant::now();
        while began.elapsed() < turn {
            let old: Vec<Key4> = (world.oldest..).take(WINDOW).map(key).collect();
            for key in &old {
                let found = world.table.lookup(key, world.table.hash(key));
                let direction = world.table.get(found).context("a session is gone too early")?;
                for direction in [direction, world.table.direction(found.peer())] {
                    direction.count(1, 64, 0);
                }
            }
            let start = clock::now();
            for _ in 0..WINDOW / BURST {
                world.insert(BURST);
            }
            let mut gone = 0;
            while gone < WINDOW as u32 {
                gone += world
                    .table
                    .sweep(&mut world.worker, BURST as u32, NOW, |_, _| TIMEOUT);
                world.reader.quiescent();
            }
            window.push((clock::now() - start) as f64 / WINDOW as f64);
            world.oldest += WINDOW as u32;
        }
        rates.push(hz / window.quantile(windows::BEST));
    }
    let case = format!("table/insert-and-age/{name}");
    bench.report.alone(&case, WEFT, RATE, &rates);
    bench
        .report
        .alone(&format!("table/look-at-age/{name}"), WEFT, NANOSECONDS, &looks);
    Ok(())
}

fn memory(bench: &mut Bench, eal: &Eal, sessions: u32) -> Result<()> {
    let world = World::new(sessions)?;
    let each = |bytes: f64| Samples::from([bytes / f64::from(sessions)]);
    let before = dpdk::heap_bytes(eal);
    let peer = Hash::new(eal, 2 * sessions)?;
    let its = dpdk::heap_bytes(eal) - before;
    drop(peer);
    bench.report.against(
        "memory/session",
        BYTES,
        Better::Less,
        &each(world.table.bytes() as f64),
        hash::NAME,
        &each(its as f64),
    );
    Ok(())
}
