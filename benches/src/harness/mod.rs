//! What the benchmarks share: the machine, weftd and its peers as processes, replay files, turns, and the report.

pub mod aims;
pub mod controller;
pub mod daemon;
pub mod dpdk;
pub mod forwarding;
pub mod guest;
pub mod job;
pub mod machine;
pub mod ovs;
pub mod policy;
pub mod replay;
pub mod report;
pub mod search;
pub mod share;
pub mod snat;
pub mod testpmd;
pub mod threads;
pub mod turns;
pub mod windows;

use clap::Args;

use machine::Machine;
use report::Report;

/// Options of every benchmark.
#[derive(Args, Clone, Debug, Default)]
pub struct Options {
    /// One JSON object a line, in place of a table
    #[arg(long)]
    pub json: bool,
    /// Within three minutes: fewer cases and shorter turns
    #[arg(long)]
    pub quick: bool,
    /// Only cases whose names begin with one of these
    #[arg(value_name = "CASE")]
    pub cases: Vec<String>,
}

impl Options {
    /// Is this case asked for?
    pub fn wants(&self, case: &str) -> bool {
        self.cases.is_empty() || self.cases.iter().any(|wanted| case.starts_with(wanted.as_str()))
    }
}

/// What a benchmark is given.
pub struct Bench {
    /// What was asked for.
    pub options: Options,
    /// Where it runs.
    pub machine: Machine,
    /// Where its figures go.
    pub report: Report,
}

impl Bench {
    /// For the benchmark of this name.
    pub fn new(name: &'static str, options: Options, machine: Machine) -> Self {
        let report = Report::new(name, options.json, &machine);
        Bench {
            options,
            machine,
            report,
        }
    }

    /// Tells who waits what is being done: on standard error, so that the figures stay apart.
    #[allow(clippy::print_stderr)] // That is where it goes.
    pub fn say(&self, what: &str) {
        eprintln!("{}: {what}", self.report.bench());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_are_chosen_by_their_beginning() {
        let mut options = Options::default();
        assert!(options.wants("ct-vxlan/1"));
        options.cases = vec!["ct-vxlan/10k".into(), "local".into()];
        assert!(options.wants("ct-vxlan/10k/imix") && options.wants("local/1"));
        assert!(!options.wants("ct-vxlan/1") && !options.wants("decap/1"));
    }
}
