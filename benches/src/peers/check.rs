//! The second pass: the same configuration with a file as its sink, and every byte in it held against the model of the
//! system tests. A figure counts only if this passes.

use std::{collections::HashMap, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use weft_tests::{
    frame::{difference, dump},
    host, within,
};

use super::CHECKED;
use crate::harness::{
    daemon::{Daemon, Settings},
    forwarding,
    job::Job,
    machine::Machine,
    replay::{self, Replay},
};

const WITHIN: Duration = Duration::from_secs(60);
/// Source ports of tunnels.
const DYNAMIC: u16 = 49_152;

/// Sends the first packets of the replay once, and compares what leaves.
pub fn what_leaves_is_right(machine: &Machine, job: Job, replay: &Replay) -> Result<()> {
    let count = replay.packets().min(CHECKED);
    let directory = host::run_directory();
    let (arriving, leaving) = (directory.join("arriving.pcap"), directory.join("leaving.pcap"));
    replay::write(
        &arriving,
        replay.inner().take(count).map(|packet| replay.frame(&packet)),
    )?;
    let daemon = Daemon::start(
        machine,
        &Settings {
            name: "check".into(),
            ..forwarding::settings(replay, CHECKED)
        },
    )?;
    daemon.apply(&job.configuration(
        &format!("net_pcap0,rx_pcap={}", arriving.display()),
        &format!("net_pcap1,tx_pcap={}", leaving.display()),
    ))?;
    let mut balance = None;
    let arrived = within(WITHIN, || {
        balance = daemon.statistics().ok()?.1.balance;
        (balance?.sent >= count as u64).then_some(())
    });
    ensure!(
        arrived.is_some(),
        "{count} packets were sent in, and this became of them: {balance:?}"
    );
    daemon.stop()?;
    let frames = replay::read(&leaving)?;
    compare(
        job,
        replay.inner().take(count).map(|packet| job.leaves(&packet)),
        frames,
    )
}

/// Each expected frame once, in any order: packets of one burst may overtake each other.
fn compare(job: Job, expected: impl Iterator<Item = Vec<u8>>, frames: Vec<Vec<u8>>) -> Result<()> {
    let mut missing: HashMap<Vec<u8>, usize> = HashMap::new();
    for frame in expected {
        *missing.entry(frame).or_default() += 1;
    }
    for mut frame in frames {
        if let Some(port) = job.entropy().and_then(|at| frame.get_mut(at)) {
            let source = u16::from_be_bytes([port[0], port[1]]);
            ensure!(source >= DYNAMIC, "source port {source} in\n{}", dump(&frame));
            port.fill(0);
        }
        match missing.get_mut(&frame) {
            Some(1) => _ = missing.remove(&frame),
            Some(count) => *count -= 1,
            None => {
                let wanted = missing.keys().next().context("more frames than were sent in")?;
                bail!("for instance, {}", difference(wanted, &frame));
            }
        }
    }
    ensure!(missing.is_empty(), "{} frames did not leave", missing.len());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::replay::{Size, Wrapping};

    fn expected() -> Vec<Vec<u8>> {
        let replay = Replay {
            sessions: 2,
            size: Size::Small,
            wrapping: Wrapping::Tagged,
        };
        replay
            .inner()
            .take(4)
            .map(|packet| Job::CtVxlan.leaves(&packet))
            .collect()
    }

    fn sent() -> Vec<Vec<u8>> {
        let mut frames = expected();
        for frame in &mut frames {
            frame[34..36].copy_from_slice(&50_123_u16.to_be_bytes());
        }
        frames
    }

    fn outcome(frames: Vec<Vec<u8>>) -> Result<()> {
        compare(Job::CtVxlan, expected().into_iter(), frames)
    }

    #[test]
    fn the_right_frames_pass_in_any_order() {
        let mut frames = sent();
        frames.reverse();
        outcome(frames).unwrap();
    }

    #[test]
    fn one_wrong_byte_a_low_port_and_a_lost_or_doubled_frame_are_found() {
        for at in [0, 14, 49, 72, 109] {
            let mut frames = sent();
            frames[2][at] ^= 1;
            assert!(outcome(frames).is_err(), "byte {at}");
        }
        let mut frames = sent();
        frames[1][34] = 0;
        assert!(outcome(frames).is_err());
        assert!(outcome(sent()[1..].to_vec()).is_err());
        assert!(outcome([sent(), sent()[..1].to_vec()].concat()).is_err());
    }
}
