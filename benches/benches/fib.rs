//! The FIB alone: lookups in bulk and one by one, route updates in batches, memory a route.
//!
//! The IPv4 tables have a million routes with the prefix lengths of the Internet's; in one the addresses are spread
//! evenly over unicast space (the hard case: nothing shares a node by design), in the other they come in allocations
//! as registries hand them out. `floor` is what two dependent loads from tables of that size cost on this machine
//! with nothing around them: a lookup cannot be faster, and says what the neighbours leave of the cache.
//!
//! Large tables go to hugetlb pages if there are free ones (16 are enough here); without, lookups take longer.

use std::{collections::HashSet, hint::black_box};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use weft_table::{
    RouteId,
    fib::{Address, Fib, NO_ROUTE, Prefix, View},
    memory::FlatMemory,
};

/// SplitMix64: the same tables in each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        ((u128::from(self.next()) * limit as u128) >> 64) as usize
    }

    fn wide(&mut self) -> u128 {
        (u128::from(self.next()) << 64) | u128::from(self.next())
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// An address of unicast space.
    fn unicast(&mut self) -> u32 {
        loop {
            let address = (self.next() >> 32) as u32;
            if !matches!(address >> 24, 0 | 10 | 127 | 224..) {
                return address;
            }
        }
    }

    /// Prefix lengths as in the Internet's table, with some longer than /24 on top.
    fn internet_length(&mut self) -> u8 {
        const SHARES: [(usize, u8); 16] = [
            (600, 24),
            (690, 23),
            (795, 22),
            (845, 21),
            (890, 20),
            (920, 19),
            (935, 18),
            (945, 17),
            (960, 16),
            (966, 15),
            (970, 14),
            (972, 13),
            (973, 12),
            (974, 11),
            (975, 10),
            (976, 8),
        ];
        let share = self.below(1000);
        match SHARES.iter().find(|(below, _)| share < *below) {
            Some((_, length)) => *length,
            None => self.of(&[25, 26, 27, 28, 29, 30, 32, 32]),
        }
    }
}

/// Collects prefixes, each once.
struct Prefixes<A> {
    seen: HashSet<Prefix<A>>,
    list: Vec<Prefix<A>>,
}

impl<A: Address> Prefixes<A> {
    fn new() -> Self {
        Prefixes {
            seen: HashSet::new(),
            list: Vec::new(),
        }
    }

    fn add(&mut self, prefix: Prefix<A>) -> bool {
        let new = self.seen.insert(prefix);
        if new {
            self.list.push(prefix);
        }
        new
    }

    /// The first so many, in no order.
    fn shuffled(mut self, count: usize, random: &mut Random) -> Vec<Prefix<A>> {
        for end in (1..self.list.len()).rev() {
            self.list.swap(end, random.below(end + 1));
        }
        self.list.truncate(count);
        self.list
    }
}

fn spread(count: usize, random: &mut Random) -> Vec<Prefix<u32>> {
    let mut prefixes = Prefixes::new();
    while prefixes.list.len() < count {
        let length = random.internet_length();
        prefixes.add(Prefix::containing(random.unicast(), length));
    }
    prefixes.list
}

/// Allocations of /16 to /22, each announced and cut up more or less.
fn allocated(count: usize, random: &mut Random) -> Vec<Prefix<u32>> {
    let mut prefixes = Prefixes::new();
    while prefixes.list.len() < count {
        let length = random.of(&[16, 16, 17, 18, 18, 19, 19, 20, 20, 21, 22]);
        let allocation = Prefix::containing(random.unicast(), length);
        prefixes.add(allocation);
        for _ in 0..=random.below(1 << (24 - length).min(6)) {
            let host = (random.next() >> 32) as u32 & (u32::MAX >> length);
            let length = random.internet_length().max(length + 1);
            prefixes.add(Prefix::containing(allocation.address() | host, length));
        }
    }
    prefixes.shuffled(count, random)
}

/// Allocations of /28 to /36 and what is announced below them, mostly /48.
fn ipv6(count: usize, random: &mut Random) -> Vec<Prefix<u128>> {
    let mut prefixes = Prefixes::new();
    let mut allocations = vec![Prefix::containing(0x2001_0db8_u128 << 96, 32)];
    while prefixes.list.len() < count {
        if random.below(100) < 22 {
            let block = 0x2000 + random.below(0x0e00) as u128;
            let address = (block << 112) | (u128::from(random.next()) << 48);
            let allocation = Prefix::containing(address, random.of(&[32, 32, 32, 29, 30, 28, 36]));
            if prefixes.add(allocation) {
                allocations.push(allocation);
            }
        } else {
            let allocation = random.of(&allocations);
            let length = random.of(&[48, 48, 48, 48, 48, 44, 40, 36, 46, 47, 64, 33, 42, 128]);
            if length > allocation.length() {
                let below = random.wide() >> allocation.length();
                prefixes.add(Prefix::containing(allocation.address() | below, length));
            }
        }
    }
    prefixes.shuffled(count, random)
}

fn filled<A: Address>(name: &str, prefixes: &[Prefix<A>]) -> Fib<A> {
    let mut fib = Fib::new();
    for (number, prefix) in prefixes.iter().enumerate() {
        fib.insert(*prefix, RouteId(number as u32));
        if number % 1000 == 999 {
            fib.publish();
        }
    }
    fib.publish();
    let memory = fib.memory();
    let each = |bytes: usize| bytes as f64 / fib.len() as f64;
    eprintln!(
        "{name}: {} routes; bytes a route: {:.2} looked up in, {:.2} reserved, {:.2} for the writer",
        fib.len(),
        each(memory.lookup),
        each(memory.reserved),
        each(memory.writer),
    );
    fib
}

const ADDRESSES: usize = 1 << 16;
/// As many as a worker's burst.
const BURST: usize = 64;

fn lookups<A: Address>(criterion: &mut Criterion, table: &str, view: &View<A>, kinds: &[(&str, Vec<A>)]) {
    let mut group = criterion.benchmark_group(format!("fib/{table}"));
    group.throughput(Throughput::Elements(ADDRESSES as u64));
    for (kind, addresses) in kinds {
        group.bench_function(format!("bulk, {kind}"), |bencher| {
            let mut routes = [NO_ROUTE; BURST];
            bencher.iter(|| {
                for burst in addresses.chunks_exact(BURST) {
                    view.lookup_bulk(burst, &mut routes);
                    black_box(&routes);
                }
            });
        });
        group.bench_function(format!("one by one, {kind}"), |bencher| {
            bencher.iter(|| {
                addresses
                    .iter()
                    .filter(|address| view.lookup(**address).is_some())
                    .count()
            });
        });
    }
    group.finish();
}

/// Replaces, removes and adds back routes in batches, each published. The reader's view of before is let go after
/// each publish, as after a grace period.
fn updates<A: Address>(criterion: &mut Criterion, table: &str, fib: &mut Fib<A>, prefixes: &[Prefix<A>]) {
    let mut group = criterion.benchmark_group(format!("fib/{table}"));
    let mut random = Random(11);
    for batch in [1, 1000, 10_000] {
        group.throughput(Throughput::Elements(batch as u64));
        let mut removed = Vec::new();
        let size = if batch == 1 {
            BatchSize::SmallInput
        } else {
            BatchSize::PerIteration
        };
        group.bench_function(format!("updates, {batch} a publish"), |bencher| {
            bencher.iter_batched(
                || {
                    (0..batch)
                        .map(|_| (random.below(3), random.of(prefixes)))
                        .collect::<Vec<_>>()
                },
                |changes| {
                    for (kind, prefix) in changes {
                        if kind == 0 && fib.remove(prefix).is_some() {
                            removed.push(prefix);
                        } else if kind == 1 {
                            fib.insert(removed.pop().unwrap_or(prefix), RouteId(3));
                        } else {
                            fib.insert(prefix, RouteId(u32::from(prefix.length())));
                        }
                    }
                    drop(fib.publish());
                },
                size,
            );
        });
    }
    group.finish();
}

/// Two dependent loads an address, prefetched in groups: from 2 MB of pairs, then from 7 MB of cache lines.
fn floor(criterion: &mut Criterion) {
    const LINE: usize = 16;
    let lines = (9 << 20) / (4 * LINE);
    let Ok(memory) = FlatMemory::<std::sync::atomic::AtomicU32>::new("floor", lines * LINE, true) else {
        return;
    };
    let mut random = Random(5);
    for word in memory.iter() {
        word.store(random.next() as u32, std::sync::atomic::Ordering::Relaxed);
    }
    let pairs = (2 << 20) / 4;
    let addresses: Vec<u32> = (0..ADDRESSES).map(|_| random.next() as u32).collect();
    let mut group = criterion.benchmark_group("fib");
    group.throughput(Throughput::Elements(ADDRESSES as u64));
    group.bench_function(format!("floor, in {}", memory.pages()), |bencher| {
        let load = |place: usize| memory[place].load(std::sync::atomic::Ordering::Relaxed);
        bencher.iter(|| {
            let mut sum = 0_u32;
            let mut places = [0; 32];
            for group in addresses.chunks_exact(32) {
                // Independent loads: the core overlaps what it can hold, as prefetches would.
                for (place, address) in places.iter_mut().zip(group) {
                    let pair = load((address >> 14) as usize * 2);
                    *place = pairs + (pair as usize % (lines - pairs / LINE)) * LINE;
                }
                for place in places {
                    sum = sum.wrapping_add(load(place));
                }
            }
            sum
        });
    });
    group.finish();
}

fn fib(criterion: &mut Criterion) {
    floor(criterion);
    let mut random = Random(1);
    let anywhere: Vec<u32> = (0..ADDRESSES).map(|_| random.unicast()).collect();
    for (name, prefixes) in [
        ("1 M IPv4 routes, spread", spread(1_000_000, &mut random)),
        ("1 M IPv4 routes, allocated", allocated(1_000_000, &mut random)),
    ] {
        let mut fib = filled(name, &prefixes);
        let inside: Vec<u32> = (0..ADDRESSES).map(|_| random.of(&prefixes).address()).collect();
        let kinds = [
            ("random destinations", anywhere.clone()),
            ("destinations in routes", inside),
        ];
        lookups(criterion, name, &fib.view(), &kinds);
        updates(criterion, name, &mut fib, &prefixes);
    }

    let prefixes = ipv6(250_000, &mut random);
    let mut fib = filled("250 k IPv6 routes", &prefixes);
    let inside = (0..ADDRESSES)
        .map(|_| {
            let prefix = random.of(&prefixes);
            prefix.address() | (random.wide().checked_shr(u32::from(prefix.length())).unwrap_or(0))
        })
        .collect();
    lookups(
        criterion,
        "250 k IPv6 routes",
        &fib.view(),
        &[("destinations in routes", inside)],
    );
    updates(criterion, "250 k IPv6 routes", &mut fib, &prefixes);

    // A tenant: a default route, its subnet, some machines.
    let tenant: Vec<Prefix<u32>> = [Prefix::containing(0, 0), Prefix::containing(0x0a00_0000, 24)]
        .into_iter()
        .chain((0..32).map(|host| Prefix::host(0x0a00_0000 + host * 7)))
        .collect();
    let fib = filled("a tenant's 34 routes", &tenant);
    let near = (0..ADDRESSES)
        .map(|_| 0x0a00_0000 + random.below(256) as u32)
        .collect();
    lookups(
        criterion,
        "a tenant's 34 routes",
        &fib.view(),
        &[("destinations in the subnet", near)],
    );
}

criterion_group!(benches, fib);
criterion_main!(benches);
