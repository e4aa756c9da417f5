//! Guests with a router between them, and the rates at which it forwards: trials, NDR and PDR.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{
    client::Generator,
    ends::{End, Link},
    pace::Rate,
    report::Report,
    stream::{Sizes, Stream},
};
use crate::harness::{
    Bench,
    daemon::{Daemon, Settings},
    search::{Goal, search},
};

/// Sessions between the two guests.
pub const SESSIONS: u64 = 10_000;
/// No link takes more packets a second than this.
const MOST: f64 = 60e6;
/// Parts of the packets that may be lost at NDR and PDR.
const NO_DROP: f64 = 0.000_01;
const PARTIAL_DROP: f64 = 0.005;
/// A trial in which the generator left out more than this part was not the load that was asked for.
const LEFT_OUT: f64 = 0.02;

/// How long and how exact a search is.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Of a trial.
    pub duration: Duration,
    /// How close the answer is.
    pub width: f64,
    /// How often all is done.
    pub turns: usize,
}

impl Effort {
    /// As it was asked for.
    pub fn of(bench: &Bench) -> Self {
        match bench.options.quick {
            true => Effort {
                duration: Duration::from_millis(300),
                width: 0.03,
                turns: 1,
            },
            false => Effort {
                duration: Duration::from_secs(2),
                width: 0.01,
                turns: 3,
            },
        }
    }
}

/// Two guests with a router between them.
pub struct Pair {
    ends: Vec<End>,
    generator: Generator,
    sizes: Sizes,
}

/// What one search found, packets a second.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct Rates {
    pub ndr: f64,
    pub pdr: f64,
}

impl Pair {
    /// Before a router whose ports at these ends are open.
    pub fn new(generator: Generator, ends: Vec<End>, sizes: Sizes) -> Result<Self> {
        ensure!(ends.len() >= 2, "a pair has two ends");
        Ok(Pair {
            ends,
            generator,
            sizes,
        })
    }

    /// Sessions from the first end to the second and their answers, `load` packets a second together.
    pub fn streams(&self, load: f64) -> Vec<Stream> {
        let rate = Rate::PerSecond(load / 2.0);
        let asked = self.ends[0].sessions_to(&self.ends[1], Some(SESSIONS), self.sizes, rate);
        let answered = asked.answers(&self.ends[1]);
        vec![asked, answered]
    }

    /// Every session is seen in both directions, slowly, so that none of the first packets is lost.
    pub fn warm_up(&mut self) -> Result<()> {
        let streams = self.streams(SESSIONS as f64 * 4.0);
        let report = self.generator.trial(streams, Duration::from_secs(1))?;
        ensure!(
            report.received_rate(Duration::from_secs(1)) > SESSIONS as f64,
            "hardly a packet came back: {report:?}"
        );
        Ok(())
    }

    /// One trial; repeated where the generator itself did not get round to sending.
    pub fn trial(&mut self, load: f64, duration: Duration) -> Result<Report> {
        let mut last = Report::default();
        for _ in 0..3 {
            last = self.trial_once(load, duration)?;
            let skipped: u64 = last.streams.iter().map(|stream| stream.skipped).sum();
            if skipped as f64 <= LEFT_OUT * load * duration.as_secs_f64() {
                break;
            }
        }
        Ok(last)
    }

    /// One trial, whatever the generator can do.
    pub fn trial_once(&mut self, load: f64, duration: Duration) -> Result<Report> {
        self.generator.trial(self.streams(load), duration)
    }

    /// The rate that comes back when more is sent than can be.
    pub fn overloaded(&mut self, duration: Duration) -> Result<f64> {
        let mut streams = self.streams(0.0);
        for stream in &mut streams {
            stream.rate = Rate::Unpaced;
        }
        Ok(self.generator.trial(streams, duration)?.received_rate(duration))
    }

    /// The highest rate with at most this loss.
    pub fn highest_rate(&mut self, loss: f64, guess: f64, effort: &Effort) -> Result<f64> {
        let goal = Goal {
            loss,
            width: effort.width,
            trials: 3,
        };
        let found = search(&goal, MOST, guess, |load| {
            Ok(self.trial(load, effort.duration)?.loss())
        })?;
        Ok(found.load)
    }

    /// PDR.
    pub fn partial_drop_rate(&mut self, effort: &Effort) -> Result<f64> {
        let guess = self.overloaded(effort.duration)?;
        self.highest_rate(PARTIAL_DROP, guess, effort)
    }

    /// PDR, and NDR from there.
    pub fn rates(&mut self, effort: &Effort) -> Result<Rates> {
        let pdr = self.partial_drop_rate(effort)?;
        let ndr = self.highest_rate(NO_DROP, pdr, effort)?;
        Ok(Rates { ndr, pdr })
    }

    /// The generator, for streams of other kinds.
    pub fn generator(&mut self) -> &mut Generator {
        &mut self.generator
    }

    /// All ends.
    pub fn ends(&self) -> &[End] {
        &self.ends
    }
}

/// A weftd with ports at `count` ends in one VRF, and the generator behind them.
pub fn weft(
    bench: &Bench,
    settings: &Settings,
    link: Link,
    count: u8,
    sizes: Sizes,
) -> Result<(Daemon, Pair)> {
    let daemon = Daemon::start(&bench.machine, settings)?;
    let ends = End::several(count, link, &daemon.path(""));
    let mut objects = vec!["kind: Vrf\nname: red\n".to_owned()];
    objects.extend(ends.iter().map(|end| end.port("red", &[])));
    daemon.apply(&objects.join("---\n"))?;
    let generator = Generator::start(&bench.machine, "generator", &ends)?;
    let mut pair = Pair::new(generator, ends, sizes)?;
    pair.warm_up().context("weft")?;
    Ok((daemon, pair))
}
