//! Two workers where one was: what they bring, and what they do to each other.
//!
//! - `two-over-one`: how many times the packets of one worker two forward, 100,000 sessions, the directions of each split
//!   over both; testpmd's own gain from two cores beside it, in the same turns.
//! - `elephant/1` and `/2`: one session, on one worker, and a direction on each of two.
//! - `one-line/1` and `/2`: one direction of one session, on one worker, and on both at once: both count in the same
//!   cache line, the worst that a table line can meet.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use super::WEFT;
use crate::harness::{
    Bench,
    daemon::{Daemon, Settings},
    replay::{Replay, Size, VLAN, Wrapping},
    report::Better,
    testpmd::{Mode, Testpmd},
    turns::{TURNS, in_turns},
};

/// Bytes of a packet that a buffer holds: those of a replay lie in memory all at once.
const ROOM: u16 = 128;
const SPARE_BUFFERS: usize = 32_768;

const fn replay(sessions: usize) -> Replay {
    Replay {
        sessions,
        size: Size::Small,
        wrapping: Wrapping::Tagged,
    }
}

/// How weft's receive queues are made and shared out.
struct Layout<'a> {
    name: &'a str,
    workers: usize,
    /// Ports, each with the files of its queues and the workers that poll them.
    ports: Vec<(Vec<&'a Path>, Vec<usize>)>,
    packets: usize,
}

/// See the module.
pub fn gain(bench: &mut Bench) -> Result<()> {
    let replay = replay(100_000);
    let files = replay.directions()?;
    let [there, back] = files.each_ref().map(PathBuf::as_path);
    let layout = |name, workers, owners: [usize; 2]| Layout {
        name,
        workers,
        ports: vec![(vec![there], vec![owners[0]]), (vec![back], vec![owners[1]])],
        packets: replay.packets(),
    };
    let one = start(bench, &layout("one", 1, [0, 0]), replay.sessions)?;
    let two = start(bench, &layout("two", 2, [0, 1]), replay.sessions)?;
    let mut io_one = Testpmd::start(&bench.machine, &[&replay.file()?], replay.packets(), ROOM)?;
    let mut io_two = Testpmd::start(&bench.machine, &[there, back], replay.packets(), ROOM)?;
    let (settle, window) = times(bench);
    let rate = |daemon: &Daemon| Ok(daemon.turn(settle, window)?.undisturbed() / 1e6);
    let mut weft_one = || rate(&one);
    let mut weft_two = || rate(&two);
    let mut floor_one = || Ok(io_one.undisturbed_turn(Mode::Io, settle, window)? / 1e6);
    let mut floor_two = || Ok(io_two.undisturbed_turn(Mode::Io, settle, window)? / 1e6);
    let samples = in_turns(
        TURNS,
        &mut [&mut weft_one, &mut weft_two, &mut floor_one, &mut floor_two],
    )?;
    let over = |one: usize, two: usize| samples[two].with(&samples[one], |two, one| two / one);
    let report = &mut bench.report;
    let (mine, its) = (over(0, 1), over(2, 3));
    report.against(
        "two-over-one",
        "times",
        Better::More,
        &mine,
        Mode::Io.subject(),
        &its,
    );
    report.alone("two-over-one/one", WEFT, "Mpps", &samples[0]);
    report.alone("two-over-one/two", WEFT, "Mpps", &samples[1]);
    one.stop()?;
    two.stop()
}

/// See the module.
pub fn one_session(bench: &mut Bench) -> Result<()> {
    let replay = replay(1);
    let files = replay.directions()?;
    let [there, back] = files.each_ref().map(PathBuf::as_path);
    let packets = replay.packets();
    for (case, ports) in [
        ("elephant/1", vec![(vec![there], vec![0]), (vec![back], vec![0])]),
        ("elephant/2", vec![(vec![there], vec![0]), (vec![back], vec![1])]),
        ("one-line/1", vec![(vec![there, there], vec![0, 0])]),
        ("one-line/2", vec![(vec![there, there], vec![0, 1])]),
    ] {
        if !bench.options.wants(case) {
            continue;
        }
        let layout = Layout {
            name: "one-session",
            workers: if case.ends_with('1') { 1 } else { 2 },
            ports,
            packets,
        };
        let daemon = start(bench, &layout, replay.sessions).with_context(|| case.to_owned())?;
        let (settle, window) = times(bench);
        let mut rate = || Ok(daemon.turn(settle, window)?.undisturbed() / 1e6);
        let samples = in_turns(TURNS, &mut [&mut rate])?;
        bench.report.alone(case, WEFT, "Mpps", &samples[0]);
        daemon.stop()?;
    }
    Ok(())
}

fn times(bench: &Bench) -> (Duration, Duration) {
    let window = if bench.options.quick { 250 } else { 1000 };
    (Duration::from_millis(100), Duration::from_millis(window))
}

/// A weftd that forwards, halted: tagged tenants on each port, everything to a device that drops it.
fn start(bench: &Bench, layout: &Layout<'_>, sessions: usize) -> Result<Daemon> {
    let mbufs = layout.packets + SPARE_BUFFERS;
    let settings = Settings {
        name: layout.name.into(),
        workers: layout.workers,
        memory_mib: 64 + ((mbufs * (64 + 128 + 128 + usize::from(ROOM)) * 11 / 10) >> 20) as u32,
        mbufs: mbufs as u32,
        mbuf_room: ROOM,
        sessions: (sessions as u32 * 5 / 4).max(65_536),
        ..Settings::default()
    };
    let daemon = Daemon::start(&bench.machine, &settings)?;
    let mut objects = vec![
        "kind: Vrf\nname: red\n".to_owned(),
        "kind: Port\nname: sink\nspec: {ethdev: {device: \"net_null0,no-rx=1\"}, vrf: red, \
         mac: \"02:00:00:00:00:dd\"}\n"
            .to_owned(),
        "kind: Route\nname: all\nspec: {vrf: red, prefix: 10.0.0.0/8, next_hop: {port: {port: sink}}}\n"
            .to_owned(),
    ];
    for (number, (files, workers)) in layout.ports.iter().enumerate() {
        let queues = files.len();
        let replays: Vec<String> = files
            .iter()
            .map(|file| format!("rx_pcap={}", file.display()))
            .collect();
        objects.push(format!(
            "kind: Port\nname: trunk-{number}\nspec: {{ethdev: {{device: \"net_pcap{number},{},infinite_rx=1\", \
             queues: {queues}}}, vrf: red, workers: {workers:?}}}\n---\n\
             kind: Port\nname: tenant-{number}\nspec: {{vlan: {{parent: trunk-{number}, vlan: {VLAN}}}, vrf: red}}\n",
            replays.join(",")
        ));
    }
    daemon.apply(&objects.join("---\n"))?;
    let warm = weft_tests::within(Duration::from_secs(60), || {
        let statistics = daemon.statistics().ok()?.1;
        let enough = statistics.balance?.received > 4 * layout.packets as u64;
        (enough && statistics.tables?.sessions >= sessions as u64).then_some(())
    });
    ensure!(warm.is_some(), "{}: weft does not see every session", layout.name);
    daemon.pause()?;
    Ok(daemon)
}
