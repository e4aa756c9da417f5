//! Who serves a session: Maglev's table against slots by rendezvous, which next-hop groups have. What each costs to make
//! and to ask, how even shares are, and how many sessions move that need not when a backend goes.

#![allow(clippy::print_stdout)] // The shares and moves are no times.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use weft_table::{
    NextHopId,
    group::{Group, Member, mix},
    maglev::{Maglev, Share},
};

const COUNTS: [u16; 4] = [3, 10, 50, 200];
const SESSIONS: u32 = 1 << 20;

fn shares(count: u16) -> Vec<Share> {
    let share = |number| Share {
        id: mix(u64::from(number) + 1),
        weight: 1,
        number,
    };
    (0..count).map(share).collect()
}

fn members(count: u16) -> Vec<Member> {
    let member = |share: Share| Member {
        id: share.id,
        weight: share.weight,
        next_hop: NextHopId(u32::from(share.number)),
    };
    shares(count).into_iter().map(member).collect()
}

fn hash(session: u32) -> u32 {
    (mix(u64::from(session)) >> 32) as u32
}

fn make(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("backends/make");
    for count in COUNTS {
        let (shares, members) = (shares(count), members(count));
        let capacity = usize::from(count);
        group.bench_function(BenchmarkId::new("maglev", count), |bench| {
            bench.iter(|| Maglev::new(black_box(&shares), capacity));
        });
        group.bench_function(BenchmarkId::new("rendezvous", count), |bench| {
            bench.iter(|| Group::new(black_box(&members), capacity));
        });
    }
    group.finish();
}

fn ask(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("backends/ask");
    for count in COUNTS {
        let capacity = usize::from(count);
        let maglev = Maglev::new(&shares(count), capacity);
        let slots = Group::new(&members(count), capacity);
        let mut session = 0;
        group.bench_function(BenchmarkId::new("maglev", count), |bench| {
            bench.iter(|| {
                session += 1;
                maglev.select(hash(session))
            });
        });
        group.bench_function(BenchmarkId::new("rendezvous", count), |bench| {
            bench.iter(|| {
                session += 1;
                slots.select(hash(session))
            });
        });
    }
    group.finish();
}

/// The share that is furthest off, and the part of others' sessions that moves when the first backend goes.
fn quality(count: u16, select: [&dyn Fn(u32) -> Option<u32>; 2]) -> (f64, f64) {
    let mut served = vec![0u32; usize::from(count)];
    let (mut moved, mut others) = (0u32, 0u32);
    for session in 0..SESSIONS {
        let [before, after] = [0, 1].map(|which| select[which](hash(session)).unwrap_or(0));
        served[before as usize] += 1;
        if before != 0 {
            others += 1;
            moved += u32::from(before != after);
        }
    }
    let even = f64::from(SESSIONS) / f64::from(count);
    let off = served
        .iter()
        .map(|served| (f64::from(*served) - even).abs() / even);
    (off.fold(0.0, f64::max), f64::from(moved) / f64::from(others))
}

fn shares_and_moves(_: &mut Criterion) {
    for count in COUNTS {
        let capacity = usize::from(count);
        let maglev = |gone: usize| {
            let table = Maglev::new(&shares(count)[gone..], capacity);
            move |hash| table.select(hash).map(u32::from)
        };
        let rendezvous = |gone: usize| {
            let slots = Group::new(&members(count)[gone..], capacity);
            move |hash| slots.select(hash).map(|hop| hop.0)
        };
        for (name, (off, moved)) in [
            ("maglev", quality(count, [&maglev(0), &maglev(1)])),
            ("rendezvous", quality(count, [&rendezvous(0), &rendezvous(1)])),
        ] {
            let (off, moved) = (off * 100.0, moved * 100.0);
            println!(
                "{name}, {count} backends: shares are off by up to {off:.1} %, {moved:.2} % of the others' sessions move"
            );
        }
    }
}

criterion_group!(backends, shares_and_moves, make, ask);
criterion_main!(backends);
