//! weft's benchmarks: one file a subject, on one harness.
//!
//! [`BENCHMARKS`] lists them; `./dev bench NAME` prepares the machine and runs one. What they share is in [`harness`]:
//! weftd and its peers as processes, replay files, measuring in turns, and the report. What replay files cannot do
//! (a given rate, new sessions for ever, latencies) is done by [`generator`], a process of its own. `docs/benchmarks.md` says what
//! was measured, on which machine and how.

pub mod churn;
pub mod control;
pub mod fib;
pub mod generator;
pub mod harness;
pub mod nat;
pub mod overload;
pub mod peers;
pub mod plot;
pub mod policy;
pub mod rfc2544;
pub mod scale;
pub mod sessions;
pub mod stages;

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
pub const BENCHMARKS: &[Benchmark] = &[
    Benchmark {
        name: "peers",
        about: "One worker beside testpmd and OVS-DPDK, from replay to null port: cycles a packet",
        run: peers::run,
    },
    Benchmark {
        name: "churn",
        about: "Throughput kept and the longest gap while routes and policies change",
        run: churn::run,
    },
    Benchmark {
        name: "control",
        about: "Objects a second into the data plane, and the time of a cold start",
        run: control::run,
    },
    Benchmark {
        name: "scale",
        about: "More workers, more queues: what they bring and what they cost",
        run: scale::run,
    },
    Benchmark {
        name: "rfc2544",
        about: "NDR, PDR and latencies between two guests, over vhost-user and memif",
        run: rfc2544::run,
    },
    Benchmark {
        name: "overload",
        about: "Twice weft's rate, and an attack of new sessions: what is kept, and whether control answers",
        run: overload::run,
    },
    Benchmark {
        name: "stages",
        about: "Each stage of the pipeline alone, cold and warm tables: cycles a packet",
        run: stages::run,
    },
    Benchmark {
        name: "policy",
        about: "A first packet's decision by the number of rules; how soon a change is in force at a thousand ports",
        run: policy::run,
    },
    Benchmark {
        name: "nat",
        about: "What translation adds to a packet, and to a session's first",
        run: nat::run,
    },
    Benchmark {
        name: "fib",
        about: "Route tables beside rte_fib and rte_lpm: lookups, memory, updates",
        run: fib::run,
    },
    Benchmark {
        name: "sessions",
        about: "New sessions, lookups, ageing and memory a session; the table alone beside rte_hash",
        run: sessions::run,
    },
];
