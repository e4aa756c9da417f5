//! The CPU time of the threads that poll: what a worker had of its CPU, however many others wanted it too.

use std::fs;

use anyhow::{Context, Result};

/// Seconds that the threads of a process have run that are pinned to one of these CPUs, each to one alone.
pub fn pinned_seconds(process: u32, cpus: &[u16]) -> Result<f64> {
    let mut nanoseconds = 0;
    for task in fs::read_dir(format!("/proc/{process}/task")).context("the process has ended")? {
        let path = task?.path();
        // A thread may end meanwhile.
        let read = |file: &str| fs::read_to_string(path.join(file)).unwrap_or_default();
        if pinned_to(&read("status")).is_some_and(|cpu| cpus.contains(&cpu)) {
            nanoseconds += ran(&read("schedstat")).unwrap_or(0);
        }
    }
    Ok(nanoseconds as f64 / 1e9)
}

/// The only CPU that a thread may use, from its `status`.
pub fn pinned_to(status: &str) -> Option<u16> {
    let allowed = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    allowed.trim().parse().ok()
}

/// Nanoseconds that a thread ran, from its `schedstat`.
fn ran(schedstat: &str) -> Option<u64> {
    schedstat.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::{process::Command, thread, time::Duration};

    use super::*;
    use crate::harness::machine::Machine;

    #[test]
    fn a_thread_is_pinned_if_it_may_use_one_cpu_alone() {
        assert_eq!(pinned_to("Name:\tx\nCpus_allowed_list:\t3\n"), Some(3));
        assert_eq!(pinned_to("Name:\tx\nCpus_allowed_list:\t0-3\n"), None);
        assert_eq!(ran("123456 789 12\n"), Some(123_456));
    }

    #[test]
    fn only_the_time_of_pinned_threads_counts() {
        let cpu = Machine::look().unwrap().cpus[0];
        let mut spinning = Command::new("taskset")
            .args(["-c", &cpu.to_string(), "sh", "-c", "while :; do :; done"])
            .spawn()
            .unwrap();
        let busy = weft_tests::within(Duration::from_secs(30), || {
            thread::park_timeout(Duration::from_millis(10));
            (pinned_seconds(spinning.id(), &[cpu]).unwrap() > 0.02).then_some(())
        });
        let elsewhere = pinned_seconds(spinning.id(), &[cpu + 1]).unwrap();
        spinning.kill().unwrap();
        spinning.wait().unwrap();
        assert!(busy.is_some());
        assert_eq!(elsewhere, 0.0);
    }
}
