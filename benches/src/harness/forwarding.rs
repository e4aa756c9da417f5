//! A weftd that forwards an endless replay on one worker, with every session of it known.

use std::{path::Path, time::Duration};

use anyhow::{Result, ensure};

use super::{
    daemon::{Daemon, Settings},
    job::Job,
    machine::Machine,
    replay::Replay,
};

/// How long weft may take to see every session.
const WARM_WITHIN: Duration = Duration::from_secs(120);
/// Buffers beside those that hold the replay: descriptors, caches, what is under way.
pub(super) const SPARE_BUFFERS: usize = 16_384;

/// Starts it and waits until every packet has come by twice and no session is new.
pub fn start(machine: &Machine, job: Job, replay: &Replay, file: &Path) -> Result<Daemon> {
    let daemon = Daemon::start(machine, &settings(replay, replay.packets()))?;
    let source = format!("net_pcap0,rx_pcap={},infinite_rx=1", file.display());
    daemon.apply(&job.configuration(&source, "net_null0,no-rx=1"))?;
    let sessions = if job.is_stateful() { replay.sessions } else { 0 };
    warm_up(&daemon, replay.packets(), sessions)?;
    Ok(daemon)
}

/// A weftd that holds `packets` of a replay in its pool, and all of its sessions.
pub fn settings(replay: &Replay, packets: usize) -> Settings {
    Settings {
        memory_mib: memory_mib(replay, packets),
        mbufs: (packets + SPARE_BUFFERS) as u32,
        mbuf_room: mbuf_room(replay),
        sessions: (replay.sessions as u32 * 5 / 4).max(65_536),
        ..Settings::default()
    }
}

/// What DPDK needs for so many packets of a replay, MiB.
pub fn memory_mib(replay: &Replay, packets: usize) -> u32 {
    // Headers of the pool and of the buffer, headroom; a tenth for how the pool spreads them.
    let buffer = 64 + 128 + 128 + usize::from(mbuf_room(replay));
    64 + (((packets + SPARE_BUFFERS) * buffer * 11 / 10) >> 20) as u32
}

/// Buffers just large enough: those of a replay lie in memory all at once, and 2 KiB each would measure the memory.
pub fn mbuf_room(replay: &Replay) -> u16 {
    (replay.longest() as u16).next_multiple_of(128)
}

/// Waits until so many packets have come by twice while no session was new, and there are as many as expected.
pub fn warm_up(daemon: &Daemon, packets: usize, sessions: usize) -> Result<()> {
    let expected = sessions as u64;
    let mut last = (0, u64::MAX);
    let warm = weft_tests::within(WARM_WITHIN, || {
        let (_, statistics) = daemon.statistics().ok()?;
        let received = statistics.balance?.received;
        let sessions = statistics.tables?.sessions_created;
        let still = sessions == last.1 && received >= last.0 + 2 * packets as u64;
        if sessions != last.1 {
            last = (received, sessions);
        }
        still.then_some(())
    });
    ensure!(
        warm.is_some() && last.1 >= expected,
        "after {WARM_WITHIN:?} weft has {} of {expected} sessions",
        last.1
    );
    Ok(())
}
