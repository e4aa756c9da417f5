//! The shipped weftd as a process: started with a configuration of its own, configured and read over its own API.
//!
//! Its workers have the last CPUs to themselves: every other thread of it is moved to the CPUs that are left.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use tokio::runtime::Runtime;
use tonic::transport::Channel;
use weft_cli::{args::Connection, client::Client, manifest};
use weft_proto::v1::{self, weft_client::WeftClient};
use weft_tests::{host, sys, within};

use super::{
    machine::{self, Machine},
    threads,
};

/// How long weftd may take to answer first, and how long it may take to end.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long an answer may take: a table of a million routes is applied in one call.
const ANSWER_SECONDS: u64 = 300;
/// Who owns what the benchmarks configure.
const OWNER: &str = "bench";

/// What `weftd.toml` says beside names and paths.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Tells several weftd of one run apart.
    pub name: String,
    /// Workers, one CPU each.
    pub workers: usize,
    /// Memory for DPDK, MiB of hugepages.
    pub memory_mib: u32,
    /// Packet buffers.
    pub mbufs: u32,
    /// Bytes of a packet that one buffer holds.
    pub mbuf_room: u16,
    /// Sessions a family.
    pub sessions: u32,
    /// How long a UDP session may be idle, seconds.
    pub idle_seconds: u32,
    /// How long a closed TCP session may stay, seconds.
    pub closed_seconds: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            name: "weft".into(),
            workers: 1,
            memory_mib: 256,
            mbufs: 32_768,
            mbuf_room: 2048,
            sessions: 262_144,
            idle_seconds: 600,
            closed_seconds: 5,
        }
    }
}

/// A running weftd.
pub struct Daemon {
    process: Child,
    directory: PathBuf,
    workers: usize,
    runtime: Runtime,
    api: WeftClient<Channel>,
}

/// What a weftd did in a stretch of time.
#[derive(Clone, Debug, PartialEq)]
pub struct Work {
    /// Packets a second that left, all ports and workers together.
    pub sent: f64,
    /// How long that was.
    pub elapsed: Duration,
    /// Packets a second that were dropped.
    pub dropped: f64,
    /// Seconds a second that a worker ran: less than 1 if others had its CPU meanwhile.
    pub ran: f64,
    /// TSC cycles a received packet that the workers count as busy.
    pub busy_cycles: f64,
    /// The longest time in which a worker did not look at its queues, known to a fifth.
    pub longest_round: Duration,
    /// Busy cycles a received packet, stage by stage.
    pub stages: Vec<(String, f64)>,
}

/// The counters at one time.
pub struct Look {
    asked: Instant,
    statistics: v1::GetStatsResponse,
    clock: Instant,
    ran: f64,
}

impl Daemon {
    /// Starts it in an empty state directory and waits until it answers.
    pub fn start(machine: &Machine, settings: &Settings) -> Result<Self> {
        let directory = host::run_directory().join(&settings.name);
        let _ = fs::remove_dir_all(&directory);
        Self::start_in(machine, settings, directory)
    }

    /// Starts it again on what it has stored, after [`stop`](Self::stop).
    pub fn start_again(machine: &Machine, settings: &Settings) -> Result<Self> {
        Self::start_in(machine, settings, host::run_directory().join(&settings.name))
    }

    fn start_in(machine: &Machine, settings: &Settings, directory: PathBuf) -> Result<Self> {
        fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
        let workers = machine.worker_cpus(settings.workers)?;
        let configuration = directory.join("weftd.toml");
        fs::write(&configuration, toml(settings, workers, &directory))?;
        let log = File::create(directory.join("weftd.log"))?;
        let mut command = machine.command(host::program("weftd"));
        command
            .arg("--config")
            .arg(&configuration)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let mut process = sys::end_with_us(&mut command).spawn().context("starting weftd")?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        let connection = Connection {
            socket: directory.join("weftd.sock").display().to_string(),
            timeout: ANSWER_SECONDS,
        };
        let api = within(PATIENCE, || {
            if !matches!(process.try_wait(), Ok(None)) {
                return Some(None);
            }
            let client = runtime.block_on(Client::connect(&connection)).ok()?;
            let answer = runtime.block_on(client.api().get_stats(v1::GetStatsRequest {}));
            answer.is_ok().then(|| Some(client.api()))
        });
        let Some(Some(api)) = api else {
            let _ = process.kill();
            let _ = process.wait();
            bail!("weftd does not answer; it said last:\n{}", log_tail(&directory));
        };
        let daemon = Daemon {
            process,
            directory,
            workers: workers.len(),
            runtime,
            api,
        };
        daemon.keep_off_workers(machine.control_cpus(settings.workers)?)?;
        Ok(daemon)
    }

    /// Moves every thread but the workers to these CPUs.
    fn keep_off_workers(&self, control: &[u16]) -> Result<()> {
        for task in fs::read_dir(format!("/proc/{}/task", self.process_id()))? {
            let task = task?;
            if threads::polls(&fs::read_to_string(task.path().join("comm")).unwrap_or_default()) {
                continue;
            }
            let moved = machine::move_to(
                &machine::list(control),
                "-cp",
                &task.file_name().to_string_lossy(),
            );
            // A thread may have ended meanwhile.
            if task.path().exists() {
                moved?;
            }
        }
        Ok(())
    }

    /// weftd's process id.
    pub fn process_id(&self) -> u32 {
        self.process.id()
    }

    /// A path in weftd's directory.
    pub fn path(&self, file: &str) -> PathBuf {
        self.directory.join(file)
    }

    /// The calls of the API, for what runs on [`runtime`](Self::runtime).
    pub fn api(&self) -> WeftClient<Channel> {
        self.api.clone()
    }

    /// Where calls of the API run.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Applies objects written as `weft apply` takes them; each must become active.
    pub fn apply(&self, yaml: &str) -> Result<v1::ApplyResponse> {
        let described = manifest::load_text("benchmark", yaml).map_err(|error| {
            let complaints: Vec<String> = error.complaints().into_iter().map(|said| said.message).collect();
            anyhow!("{}\n{yaml}", complaints.join("\n"))
        })?;
        self.apply_objects(described.into_iter().map(|described| described.object).collect())
    }

    /// The same with the API's own objects.
    pub fn apply_objects(&self, objects: Vec<v1::Object>) -> Result<v1::ApplyResponse> {
        self.apply_for(OWNER, objects)
    }

    /// The same in somebody's name.
    pub fn apply_for(&self, owner: &str, objects: Vec<v1::Object>) -> Result<v1::ApplyResponse> {
        let request = v1::ApplyRequest {
            owner: owner.into(),
            objects,
            ..Default::default()
        };
        let response = self
            .runtime
            .block_on(self.api().apply(request))
            .with_context(|| log_tail(&self.directory))?
            .into_inner();
        let refused = response
            .results
            .iter()
            .find(|result| result.state() != v1::State::Active);
        match refused {
            None => Ok(response),
            Some(result) => bail!("weftd did not put it into the data plane: {result:?}"),
        }
    }

    /// All counters, and when they were read.
    pub fn statistics(&self) -> Result<(Instant, v1::GetStatsResponse)> {
        let asked = Instant::now();
        let statistics = self
            .runtime
            .block_on(self.api().get_stats(v1::GetStatsRequest {}))
            .with_context(|| log_tail(&self.directory))?
            .into_inner();
        // The workers hand their counters over some time between question and answer.
        Ok((asked + asked.elapsed() / 2, statistics))
    }

    /// What it does in the next `window`.
    pub fn work(&self, window: Duration) -> Result<Work> {
        self.work_during(|| {
            std::thread::sleep(window);
            Ok(())
        })
    }

    /// What it does while `something` is done.
    pub fn work_during(&self, something: impl FnOnce() -> Result<()>) -> Result<Work> {
        let before = self.look()?;
        something()?;
        self.work_since(&before)
    }

    /// Where the counters stand, for [`work_since`](Self::work_since).
    pub fn look(&self) -> Result<Look> {
        let (asked, statistics) = self.statistics()?;
        Ok(Look {
            asked,
            statistics,
            clock: Instant::now(),
            ran: self.worker_seconds()?,
        })
    }

    /// What it did since.
    pub fn work_since(&self, before: &Look) -> Result<Work> {
        // A little inside of the counts, with a clock of its own.
        let ran = (self.worker_seconds()? - before.ran) / before.clock.elapsed().as_secs_f64();
        let (asked, after) = self.statistics()?;
        let ran = (ran / self.workers as f64).min(1.0);
        Ok(Work::between(
            &before.statistics,
            &after,
            asked - before.asked,
            ran,
        ))
    }

    /// Seconds that the workers have run, all together.
    pub fn worker_seconds(&self) -> Result<f64> {
        threads::polling_seconds(self.process_id())
    }

    /// The work of one turn: lets it run for `settle`, then measures for `window`, then halts it again.
    pub fn turn(&self, settle: Duration, window: Duration) -> Result<Work> {
        self.resume()?;
        std::thread::sleep(settle);
        let work = self.work(window)?;
        self.pause()?;
        Ok(work)
    }

    /// Halts the whole process, so that others can have its CPUs.
    pub fn pause(&self) -> Result<()> {
        sys::signal(self.process_id(), libc::SIGSTOP).context("halting weftd")
    }

    /// Lets it run on.
    pub fn resume(&self) -> Result<()> {
        sys::signal(self.process_id(), libc::SIGCONT).context("waking weftd")
    }

    /// Ends it as a service manager does, and waits for that. What it has stored stays.
    pub fn stop(mut self) -> Result<()> {
        self.resume()?;
        sys::signal(self.process_id(), libc::SIGTERM)?;
        within(PATIENCE, || self.process.try_wait().ok().flatten())
            .context("weftd does not end when asked to")?;
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Work {
    /// Cycles a packet by stage, in a line.
    pub fn stages(&self) -> String {
        let busy = self.stages.iter().filter(|(name, _)| name != "idle");
        let each: Vec<String> = busy.map(|(name, cycles)| format!("{name} {cycles:.0}")).collect();
        each.join(", ")
    }

    /// Part of the cycles that the workers count, idle ones too, that goes into a stage.
    pub fn part_of(&self, stage: &str) -> f64 {
        let all: f64 = self.stages.iter().map(|(_, cycles)| cycles).sum();
        let its = self.stages.iter().find(|(name, _)| name == stage);
        its.map_or(0.0, |(_, cycles)| cycles / all.max(f64::MIN_POSITIVE))
    }

    /// Packets a second that would leave if the workers had their CPUs to themselves.
    pub fn undisturbed(&self) -> f64 {
        self.sent / self.ran.max(f64::MIN_POSITIVE)
    }

    fn between(
        before: &v1::GetStatsResponse,
        after: &v1::GetStatsResponse,
        elapsed: Duration,
        ran: f64,
    ) -> Self {
        let grown = |of: fn(&v1::GetStatsResponse) -> u64| of(after).saturating_sub(of(before)) as f64;
        let book = |response: &v1::GetStatsResponse| response.balance.unwrap_or_default();
        let seconds = elapsed.as_secs_f64();
        let received = ((book(after).received - book(before).received) as f64).max(1.0);
        let stages = |response: &v1::GetStatsResponse| {
            let mut sums: Vec<(String, u64)> = Vec::new();
            for stage in response.workers.iter().flat_map(|worker| &worker.stages) {
                match sums.iter_mut().find(|(name, _)| *name == stage.stage) {
                    Some((_, cycles)) => *cycles += stage.cycles,
                    None => sums.push((stage.stage.clone(), stage.cycles)),
                }
            }
            sums
        };
        Work {
            sent: (book(after).sent - book(before).sent) as f64 / seconds,
            dropped: (book(after).dropped - book(before).dropped) as f64 / seconds,
            elapsed,
            ran,
            busy_cycles: grown(|all| all.workers.iter().map(|worker| worker.busy_cycles).sum()) / received,
            longest_round: longest_round(before, after),
            stages: stages(after)
                .into_iter()
                .zip(stages(before))
                .map(|((name, after), (_, before))| (name, (after - before) as f64 / received))
                .collect(),
        }
    }
}

/// The upper end of the highest class of rounds that grew.
fn longest_round(before: &v1::GetStatsResponse, after: &v1::GetStatsResponse) -> Duration {
    let workers = before.workers.iter().zip(&after.workers);
    let grown = workers.flat_map(|(before, after)| {
        after.rounds.iter().filter(|class| {
            let known = before
                .rounds
                .iter()
                .find(|known| known.below_ns == class.below_ns);
            class.rounds > known.map_or(0, |known| known.rounds)
        })
    });
    Duration::from_nanos(grown.map(|class| class.below_ns).max().unwrap_or(0))
}

fn toml(settings: &Settings, workers: &[u16], directory: &Path) -> String {
    format!(
        "workers = {workers:?}\nmemory_mib = {}\nmbufs = {}\nmbuf_room = {}\nsessions = {}\n\
         file_prefix = \"weft-{}-{}\"\nstate_dir = {:?}\nsocket = {:?}\n\
         [timeouts]\nudp = \"{}s\"\ntcp_closed = \"{}s\"\n",
        settings.memory_mib,
        settings.mbufs,
        settings.mbuf_room,
        settings.sessions,
        host::run_number(),
        settings.name,
        directory.join("state"),
        directory.join("weftd.sock"),
        settings.idle_seconds,
        settings.closed_seconds,
    )
}

/// The last lines of the log.
fn log_tail(directory: &Path) -> String {
    let text = fs::read_to_string(directory.join("weftd.log")).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_what_the_books_grew_by() {
        let class = |below_ns, rounds| v1::RoundStats { below_ns, rounds };
        let books = |received, sent, dropped, busy_cycles, rounds| v1::GetStatsResponse {
            balance: Some(v1::Balance {
                received,
                sent,
                dropped,
                ..Default::default()
            }),
            workers: vec![v1::WorkerStats {
                busy_cycles,
                rounds,
                stages: vec![v1::StageStats {
                    stage: "flow".into(),
                    cycles: busy_cycles / 2,
                    packets: received,
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        let work = Work::between(
            &books(1000, 900, 100, 50_000, vec![class(1000, 9), class(9000, 1)]),
            &books(
                3000,
                2800,
                200,
                250_000,
                vec![class(1000, 19), class(2000, 1), class(9000, 1)],
            ),
            Duration::from_millis(500),
            0.5,
        );
        assert_eq!(work.undisturbed(), 7600.0);
        assert_eq!(
            work,
            Work {
                elapsed: Duration::from_millis(500),
                sent: 3800.0,
                dropped: 200.0,
                ran: 0.5,
                busy_cycles: 100.0,
                longest_round: Duration::from_micros(2),
                stages: vec![("flow".into(), 50.0)],
            }
        );
    }

    #[test]
    fn weftd_can_read_what_is_written_for_it() {
        let text = toml(&Settings::default(), &[1], Path::new("/run/weft-1/weft"));
        for line in [
            "workers = [1]",
            "mbuf_room = 2048",
            "socket = \"/run/weft-1/weft/weftd.sock\"",
        ] {
            assert!(text.lines().any(|written| written == line), "{line} in\n{text}");
        }
    }
}
