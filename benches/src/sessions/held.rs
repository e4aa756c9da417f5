//! Millions of sessions: how fast they are opened, and established traffic over all of them.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use weft_tests::host;

use crate::{
    generator::{pace::Rate, stream::Stream},
    harness::{Bench, daemon::Settings, guest::Guest, report::WEFT, turns::Samples},
};

const SIZES: [(&str, u64); 3] = [("1m", 1_000_000), ("4m", 4_000_000), ("8m", 8_000_000)];

/// See the module.
pub fn run(bench: &mut Bench) -> Result<()> {
    for (name, sessions) in SIZES {
        let case = format!("held/{name}");
        if !bench.options.wants(&case) {
            continue;
        }
        // Both families' tables, and packet buffers.
        let needed = (sessions * (192 + 320)) >> 20;
        if !host::hugepages_are_free(needed + 512) {
            bench.say(&format!("{case} is left out: it needs {needed} MiB of hugepages"));
            continue;
        }
        bench.say(&case);
        measure(bench, &case, sessions).with_context(|| case.clone())?;
    }
    Ok(())
}

fn measure(bench: &mut Bench, case: &str, sessions: u64) -> Result<()> {
    // Not to the last one: a table is full a little before.
    let fill = sessions - sessions / 50;
    let mut guest = Guest::start(bench, &settings(sessions as u32))?;
    let rate = guest.fill(fill)?.rate;
    let window = Duration::from_secs(if bench.options.quick { 1 } else { 4 });
    guest.generator.begin(vec![Stream {
        sessions: Some(fill),
        ..guest.stream(Rate::Unpaced)
    }])?;
    let (mut packets, mut ageing) = (Samples::default(), Samples::default());
    for _ in 0..3 {
        let work = guest.daemon.work(window)?;
        packets.push(work.sent / 1e6);
        ageing.push(100.0 * work.part_of("age"));
    }
    guest.generator.end()?;
    let held = guest.sessions()?;
    ensure!(held == fill, "{held} sessions are held instead of {fill}");
    let report = &mut bench.report;
    report.alone(case, WEFT, "Mpps", &packets);
    report.alone(&format!("{case}/ageing"), WEFT, "% of a worker", &ageing);
    report.alone(
        &format!("{case}/setup"),
        WEFT,
        "sessions/s",
        &Samples::from([rate]),
    );
    drop(guest.generator);
    guest.daemon.stop()
}

fn settings(sessions: u32) -> Settings {
    Settings {
        sessions,
        idle_seconds: 3600,
        ..Settings::default()
    }
}
