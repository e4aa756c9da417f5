//! A weftd with one guest that opens sessions, judged by a policy, and nothing behind it that answers.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use weft_proto::v1;
use weft_tests::within;

use crate::{
    generator::{
        client::Generator,
        ends::{End, Link},
        pace::Rate,
        stream::{Sizes, Stream},
        tuple::{Addresses, Life, Ports},
    },
    harness::{
        Bench,
        daemon::{Daemon, Settings},
        policy, snat, threads,
        turns::Samples,
    },
};

/// The unit of how fast sessions are opened.
pub const PER_SECOND: &str = "sessions/s";
/// A fill for a greater part of which something else ran is not counted, while there are tries left.
const DISTURBED: f64 = 0.02;
/// How long a fill, or the death of all sessions, may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// See the module.
pub struct Guest {
    /// weftd.
    pub daemon: Daemon,
    /// The guest.
    pub generator: Generator,
    end: End,
}

/// What a fill took.
#[derive(Clone, Debug)]
pub struct Fill {
    /// Sessions a second.
    pub rate: f64,
    /// Part of the time for which something else ran on the worker's or on the guest's CPU.
    pub disturbed: f64,
    /// Where the worker's cycles went.
    pub stages: String,
}

/// What weft does to the guest's sessions.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    /// Rules that judge them.
    pub rules: usize,
    /// A pool stands for the guest.
    pub is_translated: bool,
}

impl Guest {
    /// Starts weftd and the guest, with the policy of fifty rules.
    pub fn start(bench: &Bench, settings: &Settings) -> Result<Self> {
        let work = Work {
            rules: policy::RULES,
            is_translated: false,
        };
        Guest::start_with(bench, settings, work)
    }

    /// As [`Self::start`], with other work to do.
    pub fn start_with(bench: &Bench, settings: &Settings, work: Work) -> Result<Self> {
        let daemon = Daemon::start(&bench.machine, settings)?;
        let end = End::new(0, Link::VhostUser, &daemon.path(""));
        let outside = if work.is_translated { snat::OUTSIDE } else { "red" };
        daemon.apply(&format!(
            "kind: Vrf\nname: red\n---\nkind: Vrf\nname: public\n---\n{}---\n{}---\n\
             kind: Port\nname: sink\nspec: {{ethdev: {{device: \"net_null0,no-rx=1\"}}, vrf: {outside}, mac: \"02:00:00:00:00:dd\"}}\n---\n\
             kind: Route\nname: sink\nspec: {{vrf: {outside}, prefix: 10.1.0.0/16, next_hop: {{port: {{port: sink}}}}}}\n",
            policy::of(work.rules),
            end.port("red", &[policy::NAME])
        ))?;
        if work.is_translated {
            daemon.apply(&snat::leak("red", "10.1.0.0/16"))?;
            daemon.apply(&snat::pool("red"))?;
        }
        let generator = Generator::start(&bench.machine, "guest", std::slice::from_ref(&end))?;
        Ok(Guest {
            daemon,
            generator,
            end,
        })
    }

    /// Sessions from the guest to the sink's subnet.
    pub fn stream(&self, rate: Rate) -> Stream {
        let mut stream = self.end.sessions_to(&self.end, None, Sizes::Fixed(64), rate);
        stream.space.destination = Addresses {
            first: [10, 1, 0, 2].into(),
            bits: 8,
        };
        stream.space.destination_port = Ports::MANY;
        stream
    }

    /// TCP sessions to a service that the policy allows, opened and reset in turn.
    pub fn tcp(&self, rate: Rate, open: u64) -> Stream {
        let mut stream = self.stream(rate);
        stream.space.destination_port = Ports::one(policy::SERVICE);
        stream.life = Life::OpenAndReset { open };
        stream
    }

    /// What weft's tables hold.
    pub fn tables(&self) -> Result<v1::TableStats> {
        Ok(self.daemon.statistics()?.1.tables.unwrap_or_default())
    }

    /// Sessions that are held now.
    pub fn sessions(&self) -> Result<u64> {
        Ok(self.tables()?.sessions)
    }

    /// Opens so many sessions as fast as weft takes them.
    pub fn fill(&mut self, sessions: u64) -> Result<Fill> {
        let before = self.sessions()?;
        let (look, began, waited) = (self.daemon.look()?, Instant::now(), self.waited()?);
        self.generator.begin(vec![Stream {
            packets: Some(sessions),
            sessions: Some(sessions),
            ..self.stream(Rate::Unpaced)
        }])?;
        let generator = &mut self.generator;
        let report = within(PATIENCE, || match generator.read() {
            Ok(report) if report.streams[0].offered == sessions => Some(report),
            _ => None,
        });
        let disturbed = (self.waited()? - waited) / began.elapsed().as_secs_f64();
        let report =
            report.ok_or_else(|| anyhow::anyhow!("{sessions} sessions were not opened in {PATIENCE:?}"))?;
        // The last packets are still in the ring.
        thread::sleep(Duration::from_millis(5));
        let held = self.sessions()? - before;
        ensure!(
            held == sessions,
            "{held} sessions came of {sessions} first packets"
        );
        Ok(Fill {
            rate: sessions as f64 / report.streams[0].sending,
            disturbed,
            stages: self.daemon.work_since(&look)?.stages(),
        })
    }

    fn waited(&self) -> Result<f64> {
        let guest = threads::waiting_seconds(self.generator.process_id())?;
        Ok(threads::waiting_seconds(self.daemon.process_id())? + guest)
    }

    /// Fills the table so often, from empty to empty: sessions a second, and where the worker's cycles went.
    pub fn fills(&mut self, sessions: u64, fills: usize) -> Result<(Samples, String)> {
        let mut rates = Samples::default();
        let (mut tries, mut stages) = (0, String::new());
        while rates.values().len() < fills {
            let fill = self.fill(sessions)?;
            self.empty()?;
            tries += 1;
            if fill.disturbed < DISTURBED || tries > 2 * fills {
                rates.push(fill.rate);
                stages = fill.stages;
            }
        }
        Ok((rates, stages))
    }

    /// Waits until every session has died.
    pub fn empty(&self) -> Result<()> {
        let gone = within(PATIENCE, || {
            thread::sleep(Duration::from_millis(20));
            matches!(self.sessions(), Ok(0)).then_some(())
        });
        ensure!(gone.is_some(), "sessions do not die");
        Ok(())
    }
}
