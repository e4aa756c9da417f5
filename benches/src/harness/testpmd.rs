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

use super::{forwarding::SPARE_BUFFERS, machine::Machine};

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

/// A testpmd on one worker's CPU, from the replay of a file to a device that drops everything.
pub struct Testpmd {
    process: Child,
    input: ChildStdin,
    output: Receiver<String>,
}

impl Testpmd {
    /// Starts it, halted, with buffers of `room` bytes for the `packets` of the file.
    pub fn start(machine: &Machine, file: &Path, packets: usize, room: u16) -> Result<Self> {
        let (control, worker) = (machine.control_cpus(1)?[0], machine.worker_cpus(1)?[0]);
        // Without a terminal its output would wait for a full buffer.
        let mut command = machine.command("stdbuf");
        command
            .args(["-oL", "dpdk-testpmd", "--in-memory", "--no-pci", "--no-telemetry"])
            .arg(format!("--lcores={control},{worker}"))
            .arg(format!("--main-lcore={control}"))
            .arg(format!("--file-prefix=weft-{}-testpmd", host::run_number()))
            .arg(format!(
                "--vdev=net_pcap0,rx_pcap={},infinite_rx=1",
                file.display()
            ))
            .args(["--vdev=net_null0,no-rx=1", "--", "-i", "--nb-cores=1"])
            .arg(format!("--total-num-mbufs={}", packets + SPARE_BUFFERS))
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
            input,
            output,
        };
        testpmd.sent().context("testpmd does not start")?;
        Ok(testpmd)
    }

    /// Forwards for `settle`, then measures for `window` how many packets a second leave, then halts.
    pub fn turn(&mut self, mode: Mode, settle: Duration, window: Duration) -> Result<f64> {
        self.say(&format!("set fwd {}\nstart", mode.name()))?;
        std::thread::sleep(settle);
        let (start, before) = self.sent()?;
        std::thread::sleep(window);
        let (end, after) = self.sent()?;
        self.say("stop")?;
        // The answer comes when the worker has stopped.
        self.sent()?;
        Ok((after - before) as f64 / (end - start).as_secs_f64())
    }

    /// Its process id.
    pub fn process_id(&self) -> u32 {
        self.process.id()
    }

    /// Packets that have left so far.
    fn sent(&mut self) -> Result<(Instant, u64)> {
        self.say("show port stats 1")?;
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
