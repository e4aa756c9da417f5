//! What translation costs: each packet of a session, and the first.
//!
//! - `snat/added-cycles`: TSC cycles a packet that a NAT pool adds to 100,000 sessions of `ct-vxlan`, against a second weftd
//!   that leads the same packets through the same two VRFs without one, in turns. `snat/100k` is the figure itself.
//! - `setup/1000-rules-snat`: new sessions a second on one worker that a policy of a thousand rules judges and a pool
//!   translates, while the table fills up to 100,000.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result, ensure};

use crate::harness::{
    Bench,
    daemon::{Daemon, Settings},
    forwarding,
    guest::{self, Guest, Work},
    job::Job,
    replay::{Replay, Size, VNI, Wrapping},
    report::{Better, WEFT},
    share::undisturbed,
    snat,
    turns::{TURNS, in_turns},
};

/// One direction alone: the ports that a pool gives are not known before.
const TRAFFIC: Replay = Replay {
    sessions: 100_000,
    size: Size::Small,
    wrapping: Wrapping::Tagged,
};
const CYCLES: &str = "cycles/packet";

/// See the module.
pub fn run(bench: &mut Bench) -> Result<()> {
    if bench.options.wants("snat") {
        bench.say("snat");
        added_cycles(bench).context("snat")?;
    }
    if bench.options.wants("setup/1000-rules-snat") {
        bench.say("setup/1000-rules-snat");
        setup(bench).context("setup/1000-rules-snat")?;
    }
    Ok(())
}

fn added_cycles(bench: &mut Bench) -> Result<()> {
    let _kept_off = bench.machine.keep_off_workers(1)?;
    let [there, _] = TRAFFIC.directions()?;
    let plain = start(bench, &there, "")?;
    plain.pause()?;
    let translated = start(bench, &there, &snat::pool("red"))?;
    translated.pause()?;
    let (settle, window) = if bench.options.quick {
        (Duration::from_millis(50), Duration::from_millis(250))
    } else {
        (Duration::from_millis(100), Duration::from_millis(1000))
    };
    let machine = bench.machine.clone();
    let mut stages = [String::new(), String::new()];
    let [plain_stages, translated_stages] = &mut stages;
    let turn = |daemon: &Daemon, stages: &mut String| {
        let work = undisturbed(daemon.process_id(), || daemon.turn(settle, window))?;
        ensure!(
            work.dropped < work.sent / 1000.0,
            "weft dropped {:.0} packets a second beside {:.0} sent",
            work.dropped,
            work.sent
        );
        *stages = work.stages();
        Ok(machine.cycles(work.sent))
    };
    let samples = in_turns(
        TURNS,
        &mut [&mut || turn(&translated, &mut *translated_stages), &mut || {
            turn(&plain, &mut *plain_stages)
        }],
    )?;
    for (name, stages) in ["without", "with"].iter().zip(&stages) {
        bench.say(&format!(
            "{name} translation: cycles by weft's own count: {stages}"
        ));
    }
    let report = &mut bench.report;
    report.against(
        "snat/100k",
        CYCLES,
        Better::Less,
        &samples[0],
        "untranslated",
        &samples[1],
    );
    let added = samples[0].with(&samples[1], |with, without| with - without);
    report.alone("snat/added-cycles", WEFT, CYCLES, &added);
    translated.resume()?;
    translated.stop()?;
    plain.resume()?;
    plain.stop()
}

/// A weftd that leads the tenant's packets through the public VRF into a tunnel, with every session of them known.
fn start(bench: &Bench, file: &Path, pool: &str) -> Result<Daemon> {
    let packets = TRAFFIC.sessions;
    let daemon = Daemon::start(&bench.machine, &forwarding::settings(&TRAFFIC, packets))?;
    let source = format!("net_pcap0,rx_pcap={},infinite_rx=1", file.display());
    let ways = format!(
        "kind: Vrf\nname: {0}\n---\n{1}---\n\
         kind: Route\nname: out\nspec: {{vrf: {0}, prefix: 10.0.0.0/8, next_hop: {{tunnel: {{endpoint: far, vni: {VNI}}}}}}}\n",
        snat::OUTSIDE,
        snat::leak("red", "10.0.0.0/8"),
    );
    // Sessions from before the pool came end, and are opened again.
    let job = Job::CtVxlan.configuration(&source, "net_null0,no-rx=1");
    for objects in [job.as_str(), &ways, pool] {
        if !objects.is_empty() {
            daemon.apply(objects)?;
        }
    }
    forwarding::warm_up(&daemon, packets, packets)?;
    Ok(daemon)
}

fn setup(bench: &mut Bench) -> Result<()> {
    let settings = Settings {
        sessions: 131_072,
        idle_seconds: 1,
        closed_seconds: 1,
        ..Settings::default()
    };
    let work = Work {
        rules: 1000,
        is_translated: true,
    };
    let mut guest = Guest::start_with(bench, &settings, work)?;
    let (rates, stages) = guest.fills(100_000, if bench.options.quick { 5 } else { 15 })?;
    bench.say(&format!("cycles by weft's own count: {stages}"));
    bench
        .report
        .alone("setup/1000-rules-snat", WEFT, guest::PER_SECOND, &rates);
    drop(guest.generator);
    guest.daemon.stop()
}
