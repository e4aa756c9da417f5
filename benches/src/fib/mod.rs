//! The FIB alone, beside DPDK's route tables in the same run: bulk lookups in bursts of 64, memory a route, route
//! updates a second, with and without a worker that reads.
//!
//! `1m/random` asks a table of a million routes for any address, `1m/skewed` for addresses in its routes as traffic does;
//! sizes are 20k, 200k, 1m, 2m and v6-250k. `…/memory` is what lookups have to do with, `…/memory-all` all that is taken,
//! `…/random-for-memory` the product of time and memory. `1m/updates` changes routes in batches of 1,000, of which each is
//! published; `1m/updates-with-reader` does so beside a reader, which `1m/random-while-updating` measures.
//!
//! Turns are measured by their best windows (see [`windows`]). `rte_lpm` adds a route by a look at all others of its
//! length, so it is left out where that takes longer than everything else.

mod peers;
pub mod routes;
mod updates;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use weft_dataplane::dpdk::Eal;
use weft_table::{
    RouteId,
    fib::{Fib, NO_ROUTE, Prefix, View},
};

use crate::harness::{
    Bench, dpdk,
    report::{Better, WEFT},
    turns::{Samples, TURNS, in_turns},
    windows,
};
use peers::PeerTable;
use routes::{Family, Random};

const NANOSECONDS: &str = "ns";
const BYTES_A_ROUTE: &str = "bytes/route";
/// As many as a worker's burst.
const BURST: usize = 64;
/// Lookups in a window.
const WINDOW: usize = 4096;
/// Destinations, asked for in turn.
const DESTINATIONS: usize = 1 << 20;
/// Destinations of which it is checked that all tables agree.
const CHECKED: usize = 20_000;
/// Routes from which on `rte_lpm` takes too long to fill, and with `--quick`.
const LPM_MOST: usize = 1_000_000;
const LPM_MOST_QUICK: usize = 20_000;

const IPV4: [(&str, usize); 4] = [
    ("20k", 20_000),
    ("200k", 200_000),
    ("1m", 1_000_000),
    ("2m", 2_000_000),
];
const IPV6: [(&str, usize); 1] = [("v6-250k", 250_000)];
/// The tables whose updates are measured.
const UPDATED: [&str; 2] = ["1m", "v6-250k"];
const QUICK: [&str; 3] = ["20k", "1m", "v6-250k"];

/// See the module.
pub fn run(bench: &mut Bench) -> Result<()> {
    let eal = dpdk::eal(&bench.machine)?;
    for (size, count) in chosen(bench, &IPV4) {
        let table = Table::<u32>::new(bench, size, count)?;
        table.beside::<peers::Fib>(bench, eal)?;
        let most = if bench.options.quick {
            LPM_MOST_QUICK
        } else {
            LPM_MOST
        };
        if count <= most {
            table.beside::<peers::Lpm>(bench, eal)?;
        }
        updates::measure::<peers::Fib>(bench, eal, table)?;
    }
    for (size, count) in chosen(bench, &IPV6) {
        let table = Table::<u128>::new(bench, size, count)?;
        table.beside::<peers::Fib6>(bench, eal)?;
        table.beside::<peers::Lpm6>(bench, eal)?;
        updates::measure::<peers::Fib6>(bench, eal, table)?;
    }
    Ok(())
}

fn chosen(bench: &Bench, sizes: &[(&'static str, usize)]) -> Vec<(&'static str, usize)> {
    let wanted = |size: &str| {
        // A case is asked for by its own name, or by the beginning of it.
        let cases = &bench.options.cases;
        cases.is_empty()
            || cases
                .iter()
                .any(|case| size.starts_with(case.as_str()) || case.starts_with(&format!("{size}/")))
    };
    sizes
        .iter()
        .copied()
        .filter(|(size, _)| wanted(size) && (!bench.options.quick || QUICK.contains(size)))
        .collect()
}

/// A route table of weft's, filled, and what it will be asked for.
struct Table<A: Family> {
    size: &'static str,
    routes: Vec<(Prefix<A>, RouteId)>,
    fib: Fib<A>,
    /// `random` and `skewed`.
    destinations: [(&'static str, Vec<A>); 2],
}

impl<A: Family> Table<A> {
    fn new(bench: &mut Bench, size: &'static str, count: usize) -> Result<Self> {
        bench.say(&format!("filling {size}"));
        let mut random = Random(count as u64);
        let routes = routes::table::<A>(count, &mut random);
        ensure!(routes.len() == count, "{} routes for {size}", routes.len());
        let mut fib = Fib::new();
        for batch in routes.chunks(updates::BATCH) {
            for (prefix, route) in batch {
                fib.insert(*prefix, *route);
            }
            fib.publish();
        }
        let destinations = [
            ("random", routes::random_destinations(DESTINATIONS, &mut random)),
            (
                "skewed",
                routes::skewed_destinations(&routes, DESTINATIONS, &mut random),
            ),
        ];
        Ok(Table {
            size,
            routes,
            fib,
            destinations,
        })
    }

    /// A peer with the same routes, and how many groups of entries it has.
    fn peer<T: PeerTable<Family = A>>(&self, eal: &Eal) -> Result<(T, usize)> {
        let prefixes = self.routes.iter().map(|(prefix, _)| *prefix);
        let groups = peers::groups(prefixes, |prefix| {
            self.fib.covering(prefix).map(|(around, _)| around.length())
        });
        let mut peer = T::new(eal, self.routes.len(), groups)?;
        // The shortest first, which needs the fewest groups on the way.
        let mut routes = self.routes.clone();
        routes.sort_by_key(|(prefix, _)| prefix.length());
        for (prefix, route) in routes {
            peer.insert(T::address(prefix.address()), prefix.length(), route.0)
                .with_context(|| prefix.to_string())?;
        }
        Ok((peer, groups as usize))
    }

    /// Lookups and memory, in turns with a peer that has the same routes.
    fn beside<T: PeerTable<Family = A>>(&self, bench: &mut Bench, eal: &Eal) -> Result<()> {
        bench.say(&format!("{} beside {}", self.size, T::NAME));
        let before = dpdk::heap_bytes(eal);
        let (peer, groups) = self.peer::<T>(eal)?;
        // What a lookup reads, without what it keeps to change it.
        let looked_up = ((1 << 24) + groups * 256) * size_of::<u32>();
        let taken = dpdk::heap_bytes(eal) - before;
        let view = self.fib.view();
        let turns = if bench.options.quick { 3 } else { TURNS };
        let mut random = None;
        for (kind, destinations) in &self.destinations {
            let asked: Vec<T::Address> = destinations.iter().map(|address| T::address(*address)).collect();
            for (address, asked) in destinations.iter().zip(&asked).take(CHECKED) {
                let (mine, its) = (view.lookup(*address).map(|route| route.0), peer.find(*asked));
                ensure!(
                    mine == its,
                    "{}: {mine:?}, {}: {its:?}",
                    Prefix::host(*address),
                    T::NAME
                );
            }
            let turn = turn(bench);
            let to_nanoseconds = |cycles: f64| cycles / bench.machine.tsc_hz * 1e9;
            let mut mine = || Ok(to_nanoseconds(lookup_turn(turn, &view, destinations)));
            let mut its = || {
                let mut windows = asked.chunks_exact(WINDOW).cycle();
                Ok(to_nanoseconds(windows::cycles_each(turn, WINDOW, || {
                    peer.look_up(windows.next().unwrap_or_default());
                })))
            };
            let [mine, its] = two(in_turns(turns, &mut [&mut mine, &mut its])?)?;
            let case = format!("{}/{kind}", self.size);
            bench
                .report
                .against(&case, NANOSECONDS, Better::Less, &mine, T::NAME, &its);
            random = random.or(Some((mine, its)));
        }

        let each = |bytes: f64| bytes / self.routes.len() as f64;
        let memory = self.fib.memory();
        let (mine, its) = (each(memory.lookup as f64), each(looked_up as f64));
        if let Some((my_time, its_time)) = random {
            bench.report.against(
                &format!("{}/random-for-memory", self.size),
                "ns*bytes/route",
                Better::Less,
                &my_time.map(|time| time * mine),
                T::NAME,
                &its_time.map(|time| time * its),
            );
        }
        for (kind, mine, its) in [
            ("memory", mine, its),
            (
                "memory-all",
                each((memory.reserved + memory.writer) as f64),
                each(taken as f64),
            ),
        ] {
            bench.report.against(
                &format!("{}/{kind}", self.size),
                BYTES_A_ROUTE,
                Better::Less,
                &Samples::from([mine]),
                T::NAME,
                &Samples::from([its]),
            );
        }
        Ok(())
    }
}

fn turn(bench: &Bench) -> Duration {
    if bench.options.quick {
        windows::QUICK_TURN
    } else {
        windows::TURN
    }
}

/// Cycles a lookup in one turn.
fn lookup_turn<A: Family>(turn: Duration, view: &View<A>, destinations: &[A]) -> f64 {
    let mut windows = destinations.chunks_exact(WINDOW).cycle();
    let mut found = [NO_ROUTE; BURST];
    windows::cycles_each(turn, WINDOW, || {
        for burst in windows.next().unwrap_or_default().chunks_exact(BURST) {
            view.lookup_bulk(burst, &mut found);
            std::hint::black_box(&found);
        }
    })
}

fn two(samples: Vec<Samples>) -> Result<[Samples; 2]> {
    samples.try_into().ok().context("two subjects have two series")
}

/// The subject of figures without a peer.
const ALONE: &str = WEFT;
