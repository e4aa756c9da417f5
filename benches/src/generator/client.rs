//! A run's hold on its generator: starts it, asks it, ends it.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, bail};
use weft_tests::{host, sys, within};

use super::{
    ends::End,
    pace::Rate,
    process::Arguments,
    protocol::{Reply, Request},
    report::Report,
    stream::Stream,
};
use crate::harness::machine::Machine;

/// Hugepages for its buffers, MiB.
const MEMORY_MIB: u32 = 128;
/// Its buffers: enough to fill the rings of three guests, few enough to stay in the cache.
const MBUFS: u32 = 8192;

/// How long packets may still be on their way once nothing is sent.
const DRAIN: Duration = Duration::from_millis(50);

/// How long a generator may take to end.
const PATIENCE: Duration = Duration::from_secs(5);

/// A running generator; dropping it ends it.
pub struct Generator {
    process: Child,
    requests: Option<ChildStdin>,
    replies: BufReader<ChildStdout>,
}

impl Generator {
    /// Starts it before these ends, on the control half's first CPU, and waits until its devices are open: until the
    /// router under test has connected to those that are servers.
    pub fn start(machine: &Machine, name: &str, ends: &[End]) -> anyhow::Result<Self> {
        Self::spawn(&Arguments {
            cpu: *machine.cpus.first().context("no CPU for the generator")?,
            file_prefix: format!("weft-{}-{name}", host::run_number()),
            memory_mib: MEMORY_MIB,
            mbufs: MBUFS,
            devices: ends.iter().map(End::device).collect(),
        })
    }

    fn spawn(arguments: &Arguments) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("finding this program")?;
        let mut command = Command::new(program);
        command
            .arg("generate")
            .args(["--cpu", &arguments.cpu.to_string()])
            .args(["--file-prefix", &arguments.file_prefix])
            .args(["--memory-mib", &arguments.memory_mib.to_string()])
            .args(["--mbufs", &arguments.mbufs.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        for device in &arguments.devices {
            command.args(["--device", device]);
        }
        let mut process = sys::end_with_us(&mut command)
            .spawn()
            .context("starting the generator")?;
        let (Some(requests), Some(replies)) = (process.stdin.take(), process.stdout.take()) else {
            bail!("the generator has no standard input or output");
        };
        let mut generator = Generator {
            process,
            requests: Some(requests),
            replies: BufReader::new(replies),
        };
        match generator.reply()? {
            Reply::Ready => Ok(generator),
            other => bail!("the generator began with {other:?}"),
        }
    }

    /// Sends `streams` for so long, and tells what came back of them.
    pub fn trial(&mut self, streams: Vec<Stream>, duration: Duration) -> anyhow::Result<Report> {
        self.begin(streams)?;
        thread::sleep(duration);
        self.end()
    }

    /// Sends `streams` from now on.
    pub fn begin(&mut self, streams: Vec<Stream>) -> anyhow::Result<()> {
        self.done(&Request::Start(streams))
    }

    /// Stops sending, waits for what is on its way, and tells the counts.
    pub fn end(&mut self) -> anyhow::Result<Report> {
        self.done(&Request::Pause)?;
        thread::sleep(DRAIN);
        self.read()
    }

    /// Sends a stream at another rate.
    pub fn rate(&mut self, stream: usize, rate: Rate) -> anyhow::Result<()> {
        self.done(&Request::Rate { stream, rate })
    }

    /// Counts from zero.
    pub fn clear(&mut self) -> anyhow::Result<()> {
        self.done(&Request::Clear)
    }

    /// The counts.
    pub fn read(&mut self) -> anyhow::Result<Report> {
        match self.ask(&Request::Read)? {
            Reply::Report(report) => Ok(report),
            other => bail!("the generator answered {other:?}"),
        }
    }

    /// Its process id.
    pub fn process_id(&self) -> u32 {
        self.process.id()
    }

    /// Halts the whole process, so that others can have its CPU.
    pub fn halt(&self) -> anyhow::Result<()> {
        sys::signal(self.process.id(), libc::SIGSTOP).context("halting the generator")
    }

    /// Lets it run on.
    pub fn resume(&self) -> anyhow::Result<()> {
        sys::signal(self.process.id(), libc::SIGCONT).context("waking the generator")
    }

    fn done(&mut self, request: &Request) -> anyhow::Result<()> {
        match self.ask(request)? {
            Reply::Done => Ok(()),
            Reply::Refused(why) => bail!("the generator refused: {why}"),
            other => bail!("the generator answered {other:?}"),
        }
    }

    fn ask(&mut self, request: &Request) -> anyhow::Result<Reply> {
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        self.requests
            .as_mut()
            .context("the generator was ended")?
            .write_all(&line)
            .context("the generator is gone")?;
        self.reply()
    }

    fn reply(&mut self) -> anyhow::Result<Reply> {
        let mut line = String::new();
        if self.replies.read_line(&mut line)? == 0 {
            let status = self.process.wait()?;
            bail!("the generator ended: {status}; it said why on standard error");
        }
        Ok(serde_json::from_str(&line)?)
    }
}

impl Drop for Generator {
    fn drop(&mut self) {
        // The end of its input is the generator's end; one that still waits for its devices is not listening.
        self.requests = None;
        let _ = self.resume();
        if within(PATIENCE, || self.process.try_wait().ok().flatten()).is_none() {
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
    }
}
