//! More than weft can do: twice its rate between two guests, and a third that attacks with new sessions.
//!
//! The rate is what comes back when guests send as fast as weft takes it, which is above the PDR.
//!
//! - `twice/kept`: what comes back at twice the rate, in parts of the rate: 1 is no collapse.
//! - `twice/uncounted`: packets that are neither back, nor refused at the guest's ring, nor counted as dropped at
//!   one of weft's ports.
//! - `twice/slowest-call`: the slowest of the control calls (an Apply and a Get in turn) during it.
//! - `attack/kept-50`, `attack/kept-90`: what is kept of established traffic at 50 and 90 % of the rate between two
//!   ports while a third sends packets of random new sessions as fast as its ring takes them; `attack/sessions` is what
//!   the attacker gets.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow};
use weft_proto::v1;

use crate::{
    generator::{
        ends::Link,
        pace::Rate,
        pair::{self, Effort, Pair},
        report::Report,
        stream::{Sizes, Stream},
    },
    harness::{
        Bench,
        daemon::{Daemon, Settings},
        report::WEFT,
        turns::Samples,
    },
};

/// Loads of the established traffic during an attack, percent of the rate.
const ATTACKED: [u32; 2] = [50, 90];
/// So many calls' answers are awaited at once.
const PAUSE: Duration = Duration::from_millis(5);
const SIZES: Sizes = Sizes::Fixed(64);

/// See the module.
pub fn run(bench: &mut Bench) -> Result<()> {
    let settings = Settings {
        memory_mib: 512,
        sessions: 2_000_000,
        // Sessions of an attack go soon, so that it goes on finding room.
        idle_seconds: 2,
        closed_seconds: 2,
        ..Settings::default()
    };
    let (daemon, mut pair) = pair::weft(bench, &settings, Link::VhostUser, 3, SIZES)?;
    let effort = Effort::of(bench);
    if bench.options.wants("twice") {
        twice(bench, &daemon, &mut pair, &effort).context("twice")?;
    }
    if bench.options.wants("attack") {
        for percent in ATTACKED {
            attack(bench, &daemon, &mut pair, percent, &effort).context("attack")?;
        }
    }
    drop(pair);
    daemon.stop()
}

fn twice(bench: &mut Bench, daemon: &Daemon, pair: &mut Pair, effort: &Effort) -> Result<()> {
    let [mut rates, mut kept, mut uncounted, mut slowest] = [(); 4].map(|()| Samples::default());
    for _ in 0..effort.turns.max(3) {
        let rate = pair.overloaded(effort.duration)?;
        let before = dropped(daemon)?;
        let (over, calls) = while_calling(daemon, || pair.trial_once(2.0 * rate, effort.duration))?;
        let dropped = dropped(daemon)? - before;
        kept.push(over.received_rate(effort.duration) / rate);
        rates.push(rate / 1e6);
        let refused: u64 = over.streams.iter().map(|stream| stream.refused).sum();
        uncounted.push(over.lost() as f64 - refused as f64 - dropped as f64);
        slowest.push(calls.as_secs_f64() * 1e3);
    }
    let report = &mut bench.report;
    report.alone("twice/rate", WEFT, "Mpps", &rates);
    report.alone("twice/kept", WEFT, "of the rate", &kept);
    report.alone("twice/uncounted", WEFT, "packets", &uncounted);
    let slowest = Samples::from([slowest.quantile(1.0)]);
    report.alone("twice/slowest-call", WEFT, "ms", &slowest);
    Ok(())
}

fn attack(bench: &mut Bench, daemon: &Daemon, pair: &mut Pair, percent: u32, effort: &Effort) -> Result<()> {
    let (mut kept, mut created) = (Samples::default(), Samples::default());
    for _ in 0..effort.turns.max(3) {
        let load = pair.overloaded(effort.duration)? * f64::from(percent) / 100.0;
        let quiet = pair.trial(load, effort.duration)?;
        let before = sessions_created(daemon)?;
        let mut streams = pair.streams(load);
        let established = streams.len();
        streams.push(attacker(pair));
        let report = pair.generator().trial(streams, effort.duration)?;
        let new = sessions_created(daemon)? - before;
        created.push(new as f64 / effort.duration.as_secs_f64());
        kept.push(kept_of(&report.streams[..established]) / kept_of(&quiet.streams));
    }
    let report = &mut bench.report;
    report.alone(&format!("attack/kept-{percent}"), WEFT, "of established", &kept);
    report.alone(
        &format!("attack/sessions-{percent}"),
        WEFT,
        "sessions/s",
        &created,
    );
    Ok(())
}

/// The third end sends to the second, a new session with each packet.
fn attacker(pair: &Pair) -> Stream {
    let ends = pair.ends();
    ends[2].sessions_to(&ends[1], None, SIZES, Rate::Unpaced)
}

/// The part of what was offered that came back.
fn kept_of(streams: &[crate::generator::report::StreamReport]) -> f64 {
    let report = Report {
        streams: streams.to_vec(),
        ..Report::default()
    };
    1.0 - report.loss()
}

fn statistics(daemon: &Daemon) -> Result<v1::GetStatsResponse> {
    Ok(daemon.statistics()?.1)
}

fn dropped(daemon: &Daemon) -> Result<u64> {
    Ok(statistics(daemon)?.balance.unwrap_or_default().dropped)
}

fn sessions_created(daemon: &Daemon) -> Result<u64> {
    Ok(statistics(daemon)?.tables.unwrap_or_default().sessions_created)
}

/// Calls weftd again and again while `work` runs: what came of that, and the longest that a call took.
fn while_calling<T>(daemon: &Daemon, work: impl FnOnce() -> Result<T>) -> Result<(T, Duration)> {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let caller = scope.spawn(|| -> Result<Duration> {
            let mut slowest = Duration::ZERO;
            let mut number = 0u32;
            while !over.load(Ordering::Relaxed) {
                let asked = Instant::now();
                if number.is_multiple_of(2) {
                    daemon.apply(&format!(
                        "kind: Route\nname: churn\nspec: {{vrf: red, prefix: 10.250.{}.0/24, next_hop: {{discard: {{}}}}}}\n",
                        number / 2 % 200
                    ))?;
                } else {
                    daemon.statistics()?;
                }
                slowest = slowest.max(asked.elapsed());
                number += 1;
                thread::sleep(PAUSE);
            }
            Ok(slowest)
        });
        let done = work();
        over.store(true, Ordering::Relaxed);
        let slowest = caller.join().map_err(|_| anyhow!("the caller panicked"))??;
        Ok((done?, slowest))
    })
}
