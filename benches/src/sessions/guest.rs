//! A weftd with one guest that opens sessions, judged by a policy of 50 rules, and nothing behind it that answers.

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
        policy, threads,
    },
};

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

impl Guest {
    /// Starts weftd and the guest.
    pub fn start(bench: &Bench, settings: &Settings) -> Result<Self> {
        let daemon = Daemon::start(&bench.machine, settings)?;
        let end = End::new(0, Link::VhostUser, &daemon.path(""));
        daemon.apply(&format!(
            "kind: Vrf\nname: red\n---\n{}---\n{}---\n\
             kind: Port\nname: sink\nspec: {{ethdev: {{device: \"net_null0,no-rx=1\"}}, vrf: red, mac: \"02:00:00:00:00:dd\"}}\n---\n\
             kind: Route\nname: sink\nspec: {{vrf: red, prefix: 10.1.0.0/16, next_hop: {{port: {{port: sink}}}}}}\n",
            policy::manifest(),
            end.port("red", &[policy::NAME])
        ))?;
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
