//! The CPU time of the threads that poll: what a worker had of its CPU, however many others wanted it too.
//!
//! They are known by their names: those of EAL's lcores, which DPDK calls differently from release to release.

use std::fs;

use anyhow::{Context, Result};

/// How threads are called that poll.
const POLLING: [&str; 4] = ["rte-worker-", "lcore-worker-", "dpdk-worker", "pmd-"];

/// Seconds that the threads of a process have run that poll.
pub fn polling_seconds(process: u32) -> Result<f64> {
    sum(process, ran)
}

fn sum(process: u32, of: fn(&str) -> Option<u64>) -> Result<f64> {
    let mut nanoseconds = 0;
    for task in fs::read_dir(format!("/proc/{process}/task")).context("the process has ended")? {
        let path = task?.path();
        // A thread may end meanwhile.
        let read = |file: &str| fs::read_to_string(path.join(file)).unwrap_or_default();
        if polls(&read("comm")) {
            nanoseconds += of(&read("schedstat")).unwrap_or(0);
        }
    }
    Ok(nanoseconds as f64 / 1e9)
}

/// Seconds that the threads of a process that poll would have run, and others did instead.
pub fn waiting_seconds(process: u32) -> Result<f64> {
    sum(process, waited)
}

/// A thread of this name polls.
pub fn polls(name: &str) -> bool {
    POLLING.iter().any(|polling| name.starts_with(polling))
}

/// Nanoseconds that a thread ran, from its `schedstat`.
fn ran(schedstat: &str) -> Option<u64> {
    schedstat.split_whitespace().next()?.parse().ok()
}

/// Nanoseconds that it was ready to run and did not, from the same.
fn waited(schedstat: &str) -> Option<u64> {
    schedstat.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::{thread, time::Duration};

    use super::*;

    #[test]
    fn only_the_time_of_threads_that_poll_counts() {
        assert!(polls("rte-worker-1\n") && polls("pmd-c01/id:8\n"));
        assert!(!polls("weft-control\n"));
        assert_eq!(ran("123456 789 12\n"), Some(123_456));
        assert_eq!(waited("123456 789 12\n"), Some(789));
        let of = || polling_seconds(std::process::id()).unwrap();
        assert_eq!(of(), 0.0);
        let spinning = thread::Builder::new().name("rte-worker-9".into());
        let counted = spinning
            .spawn(move || weft_tests::within(Duration::from_secs(30), || (of() > 0.02).then_some(())))
            .unwrap();
        assert!(counted.join().unwrap().is_some());
    }
}
