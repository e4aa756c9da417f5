//! The machine that figures belong to: processor, clock, kernel, versions, date.

use std::{
    ffi::OsStr,
    fs,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use weft_dataplane::dpdk::clock;

/// Where the figures were measured.
#[derive(Clone, Debug)]
pub struct Machine {
    /// As /proc/cpuinfo names it.
    pub processor: String,
    /// CPUs that this process may use, in order.
    pub cpus: Vec<u16>,
    /// Cycles a second of the time-stamp counter: the cycles of every report.
    pub tsc_hz: f64,
    /// Linux.
    pub kernel: String,
    /// Of the installed libdpdk.
    pub dpdk: String,
    /// Of the installed OVS-DPDK, if there is one.
    pub ovs: Option<String>,
    /// Year-month-day.
    pub date: String,
}

impl Machine {
    /// Looks, and times the counter for a moment.
    pub fn look() -> Result<Self> {
        let read = |path: &str| fs::read_to_string(path).with_context(|| path.to_owned());
        let processor = field(&read("/proc/cpuinfo")?, "model name").unwrap_or_else(|| "unknown".into());
        let allowed = field(&read("/proc/self/status")?, "Cpus_allowed_list").unwrap_or_default();
        let cpus = cpu_list(&allowed)
            .with_context(|| format!("Cpus_allowed_list of /proc/self/status: {allowed:?}"))?;
        Ok(Machine {
            processor,
            cpus,
            tsc_hz: tsc_hz(),
            kernel: read("/proc/sys/kernel/osrelease")?.trim().into(),
            dpdk: first_line("pkg-config", &["--modversion", "libdpdk"]).unwrap_or_else(|| "unknown".into()),
            ovs: first_line("dpkg-query", &["-Wf", "${Version}\n", "openvswitch-switch-dpdk"]),
            date: first_line("date", &["-u", "+%Y-%m-%d"]).context("the program `date`")?,
        })
    }

    /// The CPUs of `workers` workers: the last ones, as weftd itself chooses them.
    pub fn worker_cpus(&self, workers: usize) -> Result<&[u16]> {
        ensure!(
            self.cpus.len() >= workers && self.cpus.len() > 1,
            "{workers} workers need as many CPUs, and two at least; this process may use {:?}",
            self.cpus
        );
        Ok(&self.cpus[self.cpus.len() - workers..])
    }

    /// The CPUs that are left beside `workers` workers. If there are none, the control half shares the first worker's.
    pub fn control_cpus(&self, workers: usize) -> Result<&[u16]> {
        let taken = self.worker_cpus(workers)?.len();
        Ok(&self.cpus[..(self.cpus.len() - taken).max(1)])
    }

    /// A program that may use every CPU that this process could at first.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("taskset");
        command.args(["-c", &list(&self.cpus)]).arg(program);
        command
    }

    /// Leaves the CPUs of so many workers to them, with every thread of this process, until what it returns is dropped.
    pub fn keep_off_workers(&self, workers: usize) -> Result<KeptOff> {
        move_to(&list(self.control_cpus(workers)?), "-acp", &this_process())?;
        Ok(KeptOff {
            all: list(&self.cpus),
        })
    }

    /// Cycles a packet of a worker that handles so many packets a second.
    pub fn cycles(&self, packets_a_second: f64) -> f64 {
        self.tsc_hz / packets_a_second
    }

    /// In a line.
    pub fn summary(&self) -> String {
        format!(
            "{}, {} CPUs, TSC {:.3} GHz, Linux {}, DPDK {}{}",
            self.processor,
            self.cpus.len(),
            self.tsc_hz / 1e9,
            self.kernel,
            self.dpdk,
            self.ovs
                .as_ref()
                .map_or_else(String::new, |version| format!(", OVS {version}")),
        )
    }
}

/// This process leaves the workers' CPUs alone.
#[must_use = "dropping it lets this process use every CPU again"]
pub struct KeptOff {
    all: String,
}

impl Drop for KeptOff {
    fn drop(&mut self) {
        // Fewer CPUs than before are no harm to who goes on.
        let _ = move_to(&self.all, "-acp", &this_process());
    }
}

fn this_process() -> String {
    std::process::id().to_string()
}

/// Lets a thread (`-cp`), or all of a process (`-acp`), use these CPUs alone.
pub(super) fn move_to(cpus: &str, option: &str, task: &str) -> Result<()> {
    let moved = Command::new("taskset")
        .args([option, cpus, task])
        .output()
        .context("taskset")?;
    ensure!(
        moved.status.success(),
        "taskset: {}",
        String::from_utf8_lossy(&moved.stderr)
    );
    Ok(())
}

/// As the kernel reads it: `0,1,8`.
pub(super) fn list(cpus: &[u16]) -> String {
    let cpus: Vec<String> = cpus.iter().map(u16::to_string).collect();
    cpus.join(",")
}

/// The counter against the kernel's clock, over a tenth of a second.
fn tsc_hz() -> f64 {
    let (start, cycles) = (Instant::now(), clock::now());
    std::thread::sleep(Duration::from_millis(100));
    (clock::now() - cycles) as f64 / start.elapsed().as_secs_f64()
}

/// What stands behind `name:` in a file of /proc.
fn field(text: &str, name: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim().to_owned())
    })
}

/// A list as the kernel writes it: `0-3,8`.
fn cpu_list(list: &str) -> Option<Vec<u16>> {
    let mut cpus = Vec::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        cpus.extend(first.parse::<u16>().ok()?..=last.parse::<u16>().ok()?);
    }
    Some(cpus)
}

fn first_line(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let line = text.lines().next()?.trim();
    (output.status.success() && !line.is_empty()).then(|| line.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_get_the_last_cpus_and_control_the_others() {
        let mut machine = Machine::look().unwrap();
        machine.cpus = cpu_list("0-2,8").unwrap();
        assert_eq!(machine.worker_cpus(1).unwrap(), [8]);
        assert_eq!(machine.control_cpus(1).unwrap(), [0, 1, 2]);
        assert_eq!(machine.worker_cpus(2).unwrap(), [2, 8]);
        assert_eq!(machine.worker_cpus(4).unwrap(), [0, 1, 2, 8]);
        assert_eq!(
            machine.control_cpus(4).unwrap(),
            [0],
            "nothing is left for control"
        );
        assert!(machine.worker_cpus(5).is_err());
    }

    #[test]
    fn cycles_a_packet_come_from_the_rate() {
        let mut machine = Machine::look().unwrap();
        assert!(machine.tsc_hz > 1e6);
        machine.tsc_hz = 2.5e9;
        assert_eq!(machine.cycles(10e6), 250.0);
    }
}
