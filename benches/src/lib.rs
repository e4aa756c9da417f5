//! weft's benchmarks: one file a subject, on one harness.
//!
//! [`BENCHMARKS`] lists them; `./dev bench NAME` prepares the machine and runs one. What they share is in [`harness`]:
//! weftd and its peers as processes, replay files, measuring in turns, and the report. What replay files cannot do
//! (a given rate, new sessions for ever, latencies) is done by [`generator`], a process of its own. `docs/benchmarks.md` says what
//! was measured, on which machine and how.

pub mod generator;
pub mod harness;
pub mod peers;

use anyhow::Result;
pub use harness::Bench;

/// A benchmark.
pub struct Benchmark {
    /// As it is called on the command line and in the field `bench` of the report.
    pub name: &'static str,
    /// What it measures, in a line.
    pub about: &'static str,
    /// Measures and reports.
    pub run: fn(&mut Bench) -> Result<()>,
}

/// Every benchmark, in the order in which `all` runs them.
pub const BENCHMARKS: &[Benchmark] = &[Benchmark {
    name: "peers",
    about: "One worker beside testpmd and OVS-DPDK, from replay to null port: cycles a packet",
    run: peers::run,
}];
