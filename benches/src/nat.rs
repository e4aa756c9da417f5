//! What translation costs: each packet of a session, and the first.
//!
//! - `snat/added-cycles`: TSC cycles a packet that a NAT pool adds to 100,000 sessions of `ct-vxlan`, against a second weftd
//!   that leads the same packets through the same two VRFs without one, in turns. `snat/100k` is the figure itself.
//! - `service/added-cycles`: the same for sessions with 256 virtual IPs, against a weftd that knows no services.
//! - `setup/1000-rules-snat`: new sessions a second on one worker that a policy of a thousand rules judges and a pool
//!   translates, while the table fills up to 100,000.

use std::{net::Ipv4Addr, path::Path, time::Duration};

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
    let through_public = format!(
        "kind: Vrf\nname: {0}\n---\n{1}---\n\
         kind: Route\nname: out\nspec: {{vrf: {0}, prefix: 10.0.0.0/8, next_hop: {{tunnel: {{endpoint: far, vni: {VNI}}}}}}}\n",
        snat::OUTSIDE,
        snat::leak("red", "10.0.0.0/8"),
    );
    for (case, ways, translation) in [
        ("snat", through_public.as_str(), snat::pool("red")),
        ("service", "", services()),
    ] {
        if bench.options.wants(case) {
            bench.say(case);
            added_cycles(bench, case, ways, &translation).context(case)?;
        }
    }
    if bench.options.wants("setup/1000-rules-snat") {
        bench.say("setup/1000-rules-snat");
        setup(bench).context("setup/1000-rules-snat")?;
    }
    Ok(())
}

/// Each destination of the traffic as a virtual IP with a backend behind the tunnel.
fn services() -> String {
    let service = |number: u32| {
        let [address, backend] = [0x0a01_0002, 0x0a02_0002].map(|first| Ipv4Addr::from(first + number));
        format!(
            "kind: Service\nname: service-{number}\nspec: {{vrf: red, address: {address}, ports: [{{protocol: udp}}], \
             backends: [{{address: {backend}}}]}}\n"
        )
    };
    (0..256).map(service).collect::<Vec<_>>().join("---\n")
}

fn added_cycles(bench: &mut Bench, case: &str, ways: &str, translation: &str) -> Result<()> {
    let _kept_off = bench.machine.keep_off_workers(1)?;
    let [there, _] = TRAFFIC.directions()?;
    let plain = start(bench, &there, [ways, ""])?;
    plain.pause()?;
    let translated = start(bench, &there, [ways, translation])?;
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
            "{case}: cycles by weft's own count, {name} translation: {stages}"
        ));
    }
    let report = &mut bench.report;
    let whole = format!("{case}/100k");
    report.against(
        &whole,
        CYCLES,
        Better::Less,
        &samples[0],
        "untranslated",
        &samples[1],
    );
    let added = samples[0].with(&samples[1], |with, without| with - without);
    report.alone(&format!("{case}/added-cycles"), WEFT, CYCLES, &added);
    for daemon in [translated, plain] {
        daemon.resume()?;
        daemon.stop()?;
    }
    Ok(())
}

/// A weftd that forwards the tenant's packets into a tunnel, with every session of them known.
fn start(bench: &Bench, file: &Path, more: [&str; 2]) -> Result<Daemon> {
    let packets = TRAFFIC.sessions;
    let daemon = Daemon::start(&bench.machine, &forwarding::settings(&TRAFFIC, packets))?;
    let source = format!("net_pcap0,rx_pcap={},infinite_rx=1", file.display());
    // Sessions from before a translation came end, and are opened again.
    daemon.apply(&Job::CtVxlan.configuration(&source, "net_null0,no-rx=1"))?;
    for objects in more {
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
