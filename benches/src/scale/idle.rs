//! A worker with a thousand guests who say nothing, beside a busy port.
//!
//! The guests are real to weftd: vhost-user front ends with their memory and rings, as a virtual machine's network card
//! has them. `idle-ports/1000` is the throughput of the busy port beside them, with that of a weftd without them as
//! `peer_value`; `…/first-packet/max` is the longest that a first packet waited in a ring before it was taken.

use std::{
    hint,
    os::unix::net::UnixListener,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use weft_proto::v1::{Object, Port, VhostUserDevice, object::Spec, port::Device};
use weft_tests::{
    frame::Packet,
    sys,
    vhost::{FrontEnd, PLAIN, TRANSMIT},
};

use crate::harness::{
    Bench,
    daemon::{Daemon, Settings},
    job::Job,
    replay::{Replay, Size, Wrapping},
    report::Better,
    turns::{Samples, in_turns},
};

const GUESTS: usize = 1000;
const REPLAY: Replay = Replay {
    sessions: 10_000,
    size: Size::Small,
    wrapping: Wrapping::Tagged,
};
/// Guests whose first packets are timed.
const TIMED: usize = 500;

/// See the module.
pub fn run(bench: &mut Bench) -> Result<()> {
    let file = REPLAY.file()?;
    sys::allow_descriptors()?;
    let alone = start(bench, "alone", &file)?;
    alone.pause()?;
    let crowded = start(bench, "crowded", &file)?;
    bench.say(&format!("{GUESTS} guests connect"));
    let mut guests = connect(&crowded)?;
    crowded.pause()?;

    let (settle, window, turns) = match bench.options.quick {
        true => (Duration::from_millis(100), Duration::from_millis(300), 5),
        false => (Duration::from_millis(200), Duration::from_secs(1), 9),
    };
    let mut with = || Ok(crowded.turn(settle, window)?.undisturbed() / 1e6);
    let mut without = || Ok(alone.turn(settle, window)?.undisturbed() / 1e6);
    let samples = in_turns(turns, &mut [&mut with, &mut without])?;
    let case = format!("idle-ports/{GUESTS}");
    bench.report.against(
        &case,
        "Mpps",
        Better::More,
        &samples[0],
        "no-idle-ports",
        &samples[1],
    );

    crowded.resume()?;
    let waits = first_packets(&mut guests)?;
    for (name, part) in [("p50", 0.5), ("p99", 0.99), ("max", 1.0)] {
        let wait = Samples::from([waits.quantile(part)]);
        bench
            .report
            .alone(&format!("{case}/first-packet/{name}"), super::WEFT, "us", &wait);
    }
    drop(guests);
    crowded.stop()?;
    alone.stop()
}

/// A weftd with the busy port: a replay that goes from tenant to tenant.
fn start(bench: &Bench, name: &str, file: &Path) -> Result<Daemon> {
    let settings = Settings {
        name: name.into(),
        mbufs: 65_536,
        ..Settings::default()
    };
    let daemon = Daemon::start(&bench.machine, &settings)?;
    let source = format!("net_pcap0,rx_pcap={},infinite_rx=1", file.display());
    daemon.apply(&Job::Local.configuration(&source, "net_null0,no-rx=1"))?;
    Ok(daemon)
}

/// Plugs the guests' ports and plays the guests.
fn connect(daemon: &Daemon) -> Result<Vec<FrontEnd>> {
    let mut listeners = Vec::with_capacity(GUESTS);
    let mut objects = Vec::with_capacity(GUESTS);
    for number in 0..GUESTS {
        let socket = daemon.path(&format!("{number}.sock"));
        listeners.push(UnixListener::bind(&socket).with_context(|| socket.display().to_string())?);
        let [high, low] = (number as u16).to_be_bytes();
        objects.push(Object {
            name: format!("guest-{number}"),
            spec: Some(Spec::Port(Port {
                device: Some(Device::VhostUser(VhostUserDevice {
                    socket: socket.display().to_string(),
                    ..Default::default()
                })),
                vrf: "red".into(),
                mac: format!("02:00:00:00:{high:02x}:{low:02x}"),
                ..Default::default()
            })),
            ..Default::default()
        });
    }
    daemon.apply_objects(objects)?;
    listeners
        .iter()
        .map(|listener| Ok(FrontEnd::accept(listener, PLAIN)?))
        .collect()
}

/// How long each guest's first packet waited, microseconds.
fn first_packets(guests: &mut [FrontEnd]) -> Result<Samples> {
    let packet = Packet::udp("10.2.0.2:1", "10.1.0.2:1", &[0; 18]);
    let frame = packet.frame([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    let mut waits = Samples::default();
    for guest in guests.iter_mut().take(TIMED) {
        let sent = Instant::now();
        guest.send(&frame);
        while guest.used_index(TRANSMIT) != guest.available_index(TRANSMIT) {
            ensure!(
                sent.elapsed() < Duration::from_secs(5),
                "a guest's packet was not taken"
            );
            hint::spin_loop();
        }
        waits.push(sent.elapsed().as_secs_f64() * 1e6);
    }
    Ok(waits)
}
