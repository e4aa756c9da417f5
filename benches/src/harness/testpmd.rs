//! DPDK's testpmd as a peer: the same devices without a router in between. What it needs is the floor of the I/O.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, Stdio},
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use weft_tests::{host, sys};

use super::{forwarding::SPARE_BUFFERS, machine::Machine, threads};

/// How long testpmd may take to fill its pool.
const PATIENCE: Duration = Duration::from_secs(120);

/// How testpmd forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Hands packets on untouched.
    Io,
    /// Swaps the addresses of every header, down to the ports.
    Swap,
}

impl Mode {
    /// As the report names it.
    pub fn subject(self) -> &'static str {
        match self {
            Mode::Io => "testpmd-io",
            Mode::Swap => "testpmd-5tswap",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Mode::Io => "io",
            Mode::Swap => "5tswap",
        }
    }
}

/// A testpmd from replays to devices that drop everything, one of each a worker.
pub struct Testpmd {
    process: Child,
    workers: usize,
    input: ChildStdin,
    output: Receiver<String>,
}

impl Testpmd {
    /// Starts it, halted, with a worker for each file, and buffers of `room` bytes for the `packets` of all of them.
    pub fn start(machine: &Machine, files: &[&Path], packets: usize, room: u16) -> Result<Self> {
        let workers = files.len();
        let control = machine.control_cpus(workers)?[0];
        let mut lcores = format!("0@{control}");
        for (number, cpu) in machine.worker_cpus(workers)?.iter().enumerate() {
            lcores += &format!(",{}@{cpu}", number + 1);
        }
        // Without a terminal its output would wait for a full buffer.
        let mut command = machine.command("stdbuf");
        command
            .args(["-oL", "dpdk-testpmd", "--in-memory", "--no-pci", "--no-telemetry"])
            .arg(format!("--lcores={lcores}"))
            .arg("--main-lcore=0")
            .arg(format!(
                "--file-prefix=weft-{}-testpmd-{workers}",
                host::run_number()
            ));
        for (number, file) in files.iter().enumerate() {
            command
                .arg(format!(
                    "--vdev=net_pcap{number},rx_pcap={},infinite_rx=1",
                    file.display()
                ))
                .arg(format!("--vdev=net_null{number},no-rx=1"));
        }
        command
            .args(["--", "-i"])
            .arg(format!("--nb-cores={workers}"))
            .arg(format!("--total-num-mbufs={}", packets + workers * SPARE_BUFFERS))
            .arg(format!(
                "--mbuf-size={}",
                room + weft_dataplane::dpdk::mempool::HEADROOM
            ))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut process = sys::end_with_us(&mut command)
            .spawn()
            .context("starting dpdk-testpmd")?;
        let input = process.stdin.take().context("its standard input")?;
        let lines = BufReader::new(process.stdout.take().context("its standard output")?).lines();
        let (sender, output) = channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let mut testpmd = Testpmd {
            process,
            workers,
            input,
            output,
        };
        testpmd.sent().context("testpmd does not start")?;
        Ok(testpmd)
    }

    /// Forwards for `settle`, then measures for `window` how many packets a second leave, then halts.
    pub fn turn(&mut self, mode: Mode, settle: Duration, window: Duration) -> Result<f64> {
        Ok(self.measure(mode, settle, window)?.0)
    }

    /// The same, if the workers had had their CPUs to themselves.
    pub fn undisturbed_turn(&mut self, mode: Mode, settle: Duration, window: Duration) -> Result<f64> {
        let (rate, ran) = self.measure(mode, settle, window)?;
        Ok(rate / ran)
    }

    /// Packets a second, and the part of the time that the workers ran.
    fn measure(&mut self, mode: Mode, settle: Duration, window: Duration) -> Result<(f64, f64)> {
        self.say(&format!("set fwd {}\nstart", mode.name()))?;
        std::thread::sleep(settle);
        let (start, before) = self.sent()?;
        let (clock, ran) = (Instant::now(), threads::polling_seconds(self.process_id())?);
        std::thread::sleep(window);
        let ran = (threads::polling_seconds(self.process_id())? - ran) / clock.elapsed().as_secs_f64();
        let (end, after) = self.sent()?;
        self.say("stop")?;
        // The answer comes when the worker has stopped.
        self.sent()?;
        let ran = (ran / self.workers as f64).clamp(f64::MIN_POSITIVE, 1.0);
        Ok(((after - before) as f64 / (end - start).as_secs_f64(), ran))
    }

    /// Its process id.
    pub fn process_id(&self) -> u32 {
        self.process.id()
    }

    /// Packets that have left so far.
    fn sent(&mut self) -> Result<(Instant, u64)> {
        let mut sum = 0;
        let mut when = Instant::now();
        for worker in 0..self.workers {
            // Each replay is followed by its sink.
            self.say(&format!("show port stats {}", 2 * worker + 1))?;
            let (now, count) = self.answer()?;
            when = now;
            sum += count;
        }
        Ok((when, sum))
    }

    fn answer(&mut self) -> Result<(Instant, u64)> {
        let mut said = Vec::new();
        while let Ok(line) = self.output.recv_timeout(PATIENCE) {
            let now = Instant::now();
            if let Some(count) = sent_packets(&line) {
                return Ok((now, count));
            }
            said.push(line);
        }
        bail!("testpmd says nothing more; last:\n{}", said.join("\n"))
    }

    fn say(&mut self, command: &str) -> Result<()> {
        writeln!(self.input, "{command}").context("speaking to testpmd")
    }
}

/// From `TX-packets: 12   TX-errors: 0 …`, as a device has it; the sums that `stop` prints have no errors in them.
fn sent_packets(line: &str) -> Option<u64> {
    let words = line.trim().strip_prefix("TX-packets:")?;
    let count = words.split_whitespace().next()?.parse().ok()?;
    words.contains("TX-errors:").then_some(count)
}

impl Drop for Testpmd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_devices_own_line_is_its_count() {
        assert_eq!(
            sent_packets("  TX-packets: 12         TX-errors: 0          TX-bytes:  768"),
            Some(12)
        );
        assert_eq!(
            sent_packets("  TX-packets: 99             TX-dropped: 0             TX-total: 99"),
            None
        );
        assert_eq!(
            sent_packets("  RX-packets: 12         RX-missed: 0          RX-bytes:  768"),
            None
        );
    }
}
