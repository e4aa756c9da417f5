//! Route updates a second: replaced, removed and added back by thirds, alone and beside a reader.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use weft_dataplane::dpdk::Eal;
use weft_table::{
    RouteId,
    fib::Prefix,
    rcu::{Domain, Published},
};

use super::{
    ALONE, Table, UPDATED, lookup_turn,
    peers::PeerTable,
    routes::{Family, Random},
    turn, two,
};
use crate::harness::{
    Bench,
    report::Better,
    turns::{Samples, TURNS, in_turns},
};

/// Changes that are published together.
pub const BATCH: usize = 1000;
/// Changes that are made again and again, in batches.
const CHANGES: usize = 300_000;
const RATE: &str = "routes/s";

/// What is done to a prefix.
#[derive(Clone, Copy)]
enum Change<A> {
    Remove(Prefix<A>),
    Insert(Prefix<A>, RouteId),
}

/// Changes after which the table is as it was, but for the routes' numbers.
fn changes<A: Family>(routes: &[(Prefix<A>, RouteId)]) -> Vec<Change<A>> {
    let mut random = Random(11);
    let mut order: Vec<usize> = (0..routes.len()).collect();
    let mut changes = Vec::with_capacity(CHANGES);
    let third = (CHANGES / 3).min(routes.len() / 3);
    for number in 0..third {
        // Each route once: half of them stay and get another number, half leave and come back later.
        for place in [2 * number, 2 * number + 1] {
            let other = place + random.below(order.len() - place);
            order.swap(place, other);
        }
        let (replaced, _) = routes[order[2 * number]];
        let (removed, _) = routes[order[2 * number + 1]];
        changes.push(Change::Insert(replaced, RouteId(number as u32)));
        changes.push(Change::Remove(removed));
        if let Some(earlier) = number.checked_sub(BATCH) {
            changes.push(back(routes[order[2 * earlier + 1]]));
        }
    }
    for number in third.saturating_sub(BATCH)..third {
        changes.push(back(routes[order[2 * number + 1]]));
    }
    changes
}

fn back<A: Family>((prefix, route): (Prefix<A>, RouteId)) -> Change<A> {
    Change::Insert(prefix, route)
}

/// Updates of weft's table in turns with the peer's, then beside a reader.
pub(super) fn measure<T: PeerTable<Family: Family>>(
    bench: &mut Bench,
    eal: &Eal,
    table: Table<T::Family>,
) -> Result<()> {
    if !UPDATED.contains(&table.size) {
        return Ok(());
    }
    bench.say(&format!("updating {}", table.size));
    let (mut peer, _) = table.peer::<T>(eal)?;
    let Table {
        size,
        routes,
        mut fib,
        destinations,
    } = table;
    let turns = if bench.options.quick { 3 } else { TURNS };
    let turn = turn(bench);
    let changes = changes(&routes);
    let mut batches = changes.chunks(BATCH).cycle();
    let mut mine = || {
        Ok(rate(turn, || {
            let batch = batches.next().unwrap_or_default();
            for change in batch {
                match *change {
                    Change::Remove(prefix) => drop(fib.remove(prefix)),
                    Change::Insert(prefix, route) => drop(fib.insert(prefix, route)),
                }
            }
            drop(fib.publish());
            batch.len()
        }))
    };
    let mut its_batches = changes.chunks(BATCH).cycle();
    let mut its = || {
        let mut outcome = Ok(());
        let rate = rate(turn, || {
            let batch = its_batches.next().unwrap_or_default();
            for change in batch {
                let done = match *change {
                    Change::Remove(prefix) => peer.remove(T::address(prefix.address()), prefix.length()),
                    Change::Insert(prefix, route) => {
                        peer.insert(T::address(prefix.address()), prefix.length(), route.0)
                    }
                };
                if outcome.is_ok() {
                    outcome = done;
                }
            }
            batch.len()
        });
        outcome.map(|()| rate)
    };
    let [my_rates, its_rates] = two(in_turns(turns, &mut [&mut mine, &mut its])?)?;
    bench.report.against(
        &format!("{size}/updates"),
        RATE,
        Better::More,
        &my_rates,
        T::NAME,
        &its_rates,
    );
    drop(peer);

    // A worker's view of it: the published table, loaded at each burst boundary.
    let (domain, mut writer) = Domain::new();
    let published = Published::new(&domain, Arc::new(fib.view()));
    let mut reader = domain.register(0)?;
    let stop = AtomicBool::new(false);
    let (mut rates, mut times) = (Samples::default(), Samples::default());
    let destinations = &destinations[0].1;
    let to_nanoseconds = 1e9 / bench.machine.tsc_hz;
    std::thread::scope(|scope| -> Result<()> {
        let reading = scope.spawn(|| {
            let mut times = Samples::default();
            let slice = Duration::from_millis(2);
            let mut parts = destinations.chunks(destinations.len() / 16).cycle();
            while !stop.load(Ordering::Relaxed) {
                let view = published.load(&reader);
                times.push(lookup_turn(slice, view, parts.next().unwrap_or_default()) * to_nanoseconds);
                reader.quiescent();
            }
            times
        });
        for _ in 0..turns {
            rates.push(rate(turn, || {
                let batch = batches.next().unwrap_or_default();
                for change in batch {
                    match *change {
                        Change::Remove(prefix) => drop(fib.remove(prefix)),
                        Change::Insert(prefix, route) => drop(fib.insert(prefix, route)),
                    }
                }
                writer.publish(&published, Arc::new(fib.publish()));
                writer.collect();
                batch.len()
            }));
        }
        stop.store(true, Ordering::Relaxed);
        times = reading.join().ok().context("the reader panicked")?;
        Ok(())
    })?;
    bench
        .report
        .alone(&format!("{size}/updates-with-reader"), ALONE, RATE, &rates);
    bench.report.alone(
        &format!("{size}/random-while-updating"),
        ALONE,
        super::NANOSECONDS,
        &times,
    );
    Ok(())
}

/// Calls `batch`, which says how many changes it made, for `turn`; changes a second.
fn rate(turn: Duration, mut batch: impl FnMut() -> usize) -> f64 {
    let began = Instant::now();
    let mut made = 0;
    while began.elapsed() < turn {
        made += batch();
    }
    made as f64 / began.elapsed().as_secs_f64()
}
