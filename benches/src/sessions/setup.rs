//! New sessions a second: while the table fills, and for ever while others die.

use std::{thread, time::Duration};

use anyhow::{Result, ensure};

use crate::{
    generator::{pace::Rate, stream::Stream},
    harness::{
        Bench,
        daemon::Settings,
        guest::{self, Guest},
        report::WEFT,
        turns::Samples,
    },
};

/// TCP sessions that are open at a time.
const OPEN: u64 = 100_000;
/// Sessions that die a second after their last packet, and are looked for twice a second: so many of them are held.
const ROOM: u32 = 5_200_000;
/// From its first packet until a session is gone.
const LIFE: Duration = Duration::from_millis(2500);

fn settings(sessions: u32) -> Settings {
    Settings {
        sessions,
        idle_seconds: 1,
        closed_seconds: 1,
        ..Settings::default()
    }
}

/// While the table fills.
pub fn filling(bench: &mut Bench) -> Result<()> {
    let fills = if bench.options.quick { [5, 3] } else { [15, 9] };
    let cases = [
        ("setup/50-rules", 100_000, fills[0]),
        ("setup/50-rules-1m", 1_000_000, fills[1]),
    ];
    let wanted: Vec<_> = cases
        .into_iter()
        .filter(|(case, ..)| bench.options.wants(case))
        .collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let mut guest = Guest::start(bench, &settings(1_310_720))?;
    for (case, sessions, fills) in wanted {
        bench.say(case);
        let (rates, stages) = guest.fills(sessions, fills)?;
        bench.say(&format!("{case}: cycles by weft's own count: {stages}"));
        bench.report.alone(case, WEFT, guest::PER_SECOND, &rates);
    }
    drop(guest.generator);
    guest.daemon.stop()
}

/// While as many die.
pub fn sustained(bench: &mut Bench) -> Result<()> {
    type Load = fn(&Guest) -> Stream;
    let cases: [(&str, Load); 2] = [
        ("sustained/50-rules", |guest| guest.stream(Rate::Unpaced)),
        ("sustained/50-rules/tcp", |guest| guest.tcp(Rate::Unpaced, OPEN)),
    ];
    for (case, load) in cases {
        if bench.options.wants(case) {
            bench.say(case);
            as_many_die(bench, case, load)?;
        }
    }
    Ok(())
}

/// As fast as weft takes them, for ever.
fn as_many_die(bench: &mut Bench, case: &str, load: impl Fn(&Guest) -> Stream) -> Result<()> {
    let (windows, window) = match bench.options.quick {
        true => (5, Duration::from_secs(1)),
        false => (10, Duration::from_secs(2)),
    };
    let mut guest = Guest::start(bench, &settings(ROOM))?;
    guest.generator.begin(vec![load(&guest)])?;
    // The first have died, and the looks for those that follow are spread over time.
    thread::sleep(2 * LIFE);
    let [mut rates, mut held, mut dropped] = [(); 3].map(|()| Samples::default());
    let began = guest.tables()?;
    for _ in 0..windows {
        let before = guest.tables()?.sessions_created;
        let work = guest.daemon.work(window)?;
        let tables = guest.tables()?;
        // What a guest whose ring is full waits for is the worker.
        let created = (tables.sessions_created - before) as f64;
        rates.push(created / work.elapsed.as_secs_f64() / work.ran);
        held.push(tables.sessions as f64);
        dropped.push(100.0 * work.dropped / (work.dropped + work.sent));
    }
    let ended = guest.tables()?;
    guest.generator.end()?;
    let created = (ended.sessions_created - began.sessions_created) as f64;
    let died = (ended.sessions_expired - began.sessions_expired) as f64;
    ensure!(
        (0.5..2.0).contains(&(died / created)),
        "{died} sessions died while {created} were opened"
    );
    let report = &mut bench.report;
    report.alone(case, WEFT, guest::PER_SECOND, &rates);
    report.alone(&format!("{case}/held"), WEFT, "sessions", &held);
    report.alone(&format!("{case}/dropped"), WEFT, "% of packets", &dropped);
    drop(guest.generator);
    guest.daemon.stop()
}
