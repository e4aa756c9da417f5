//! How fast what a controller wants is in the data plane, and how fast a weftd that was started forwards.
//!
//! - `apply/10k-ports`: what other hosts' 10,000 ports are to a vRouter: an IPv4 and an IPv6 route each, in 100 VRFs, in one
//!   batch. `apply/100k-routes`: in one VRF. `sync/1m-routes`: a full table over a standing connection, 1,000 routes a message;
//!   `sync-singly` the same with one a message.
//!   The figures are objects a second; `…/until-forwarding` is the time until every worker forwards by the last of them,
//!   which packets sent to it then prove.
//! - `cold-start/10k-objects`: from the start of the process until the first packet has left, with 10,000 objects stored.
//!
//! weftd's control half has the CPUs beside the worker's, which has no traffic; the controller runs where there is room.

use std::{
    fs,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use weft_proto::v1;
use weft_tests::{frame::Packet, host, within};

use crate::harness::{
    Bench,
    controller::{self, tunnel_route},
    daemon::{Daemon, Settings},
    replay::{self, LOCAL, NEIGHBOUR, REMOTE, Replay, Size, UPLINK, VLAN, VNI, Wrapping},
    report::WEFT,
    turns::{Samples, TURNS},
};

const VRFS: u32 = 100;
const PORTS: u32 = 10_000;
const STORED: u32 = 10_000;
/// Packets that prove that routes are in force.
const PROBES: usize = 1000;
const PROBED_WITHIN: Duration = Duration::from_secs(20);

type Load = fn(&Daemon, Vec<v1::Object>) -> Result<Duration>;
type Table = fn() -> Vec<v1::Object>;

/// See the module.
pub fn run(bench: &mut Bench) -> Result<()> {
    let loads: [(&str, Load, Table); 4] = [
        ("apply/10k-ports", controller::apply, routes_of_ports),
        ("apply/100k-routes", controller::apply, || table(100_000)),
        ("sync/1m-routes", sync_in_batches, || table(1_000_000)),
        ("sync-singly/1m-routes", sync_singly, || table(1_000_000)),
    ];
    for (case, load, objects) in loads {
        if bench.options.wants(case) && !(bench.options.quick && case.starts_with("sync-singly")) {
            loaded(bench, case, load, objects)?;
        }
    }
    if bench.options.wants("cold-start/10k-objects") {
        cold_start(bench)?;
    }
    Ok(())
}

fn sync_in_batches(daemon: &Daemon, objects: Vec<v1::Object>) -> Result<Duration> {
    controller::sync(daemon, objects, controller::MESSAGE)
}

fn sync_singly(daemon: &Daemon, objects: Vec<v1::Object>) -> Result<Duration> {
    controller::sync(daemon, objects, 1)
}

fn loaded(bench: &mut Bench, case: &str, load: Load, objects: Table) -> Result<()> {
    let (mut rate, mut until) = (Samples::default(), Samples::default());
    for _ in 0..if bench.options.quick { 2 } else { TURNS } {
        bench.say(case);
        let daemon = Daemon::start(&bench.machine, &Settings::default())?;
        daemon.apply(&network("net_null0,no-rx=1"))?;
        let objects = objects();
        let (count, last) = (
            objects.len(),
            objects.last().and_then(probed).context("no route")?,
        );
        let took = load(&daemon, objects)?;
        forwards(&daemon, &last).context(case.to_owned())?;
        rate.push(count as f64 / took.as_secs_f64());
        until.push(took.as_secs_f64() * 1e3);
    }
    bench.report.alone(case, WEFT, "objects/s", &rate);
    bench
        .report
        .alone(&format!("{case}/until-forwarding"), WEFT, "ms", &until);
    Ok(())
}

/// VRFs, and an uplink whose packets leave by the device `sink`.
fn network(sink: &str) -> String {
    let mac = |bytes: [u8; 6]| bytes.map(|byte| format!("{byte:02x}")).join(":");
    let mut objects: Vec<String> = (0..VRFS)
        .map(|number| format!("kind: Vrf\nname: {}\nspec: {{}}\n", vrf(number)))
        .collect();
    objects.push(format!(
        "kind: Port\nname: uplink\nspec: {{ethdev: {{device: \"{sink}\"}}, vrf: underlay, mac: \"{}\", mtu: 1600, \
         addresses: [{LOCAL}/24], neighbours: [{{address: {REMOTE}, mac: \"{}\"}}]}}\n",
        mac(UPLINK),
        mac(NEIGHBOUR)
    ));
    objects.push(format!(
        "kind: TunnelEndpoint\nname: far\nspec: {{remote: {REMOTE}, encapsulation: ENCAPSULATION_VXLAN}}\n"
    ));
    objects.join("---\n")
}

/// A port whose tagged frames come from the replay of a file, in this VRF.
fn tenant(vrf: &str, source: &str) -> String {
    format!(
        "kind: Port\nname: trunk\nspec: {{ethdev: {{device: \"{source}\"}}, vrf: {vrf}}}\n---\n\
         kind: Port\nname: tenant\nspec: {{vlan: {{parent: trunk, vlan: {VLAN}}}, vrf: {vrf}}}\n"
    )
}

fn vrf(number: u32) -> String {
    format!("tenant-{number}")
}

/// Both families' host routes of other hosts' ports, the same addresses in each VRF.
fn routes_of_ports() -> Vec<v1::Object> {
    let ports = (0..PORTS).map(|port| (port / (PORTS / VRFS), port % (PORTS / VRFS)));
    ports
        .flat_map(|(tenant, host)| {
            let vni = VNI + tenant;
            [
                tunnel_route(
                    format!("p-{tenant}-{host}-v6"),
                    &vrf(tenant),
                    format!("fd00::{:x}/128", 2 + host),
                    "far",
                    vni,
                ),
                tunnel_route(
                    format!("p-{tenant}-{host}"),
                    &vrf(tenant),
                    format!("10.1.0.{}/32", 2 + host),
                    "far",
                    vni,
                ),
            ]
        })
        .collect()
}

fn table(count: u32) -> Vec<v1::Object> {
    controller::full_table(&vrf(0), count, "far", VNI)
}

/// VRF of a route and the first host behind it.
fn probed(object: &v1::Object) -> Option<(String, String)> {
    let Some(v1::object::Spec::Route(route)) = &object.spec else {
        return None;
    };
    let (address, length) = route.prefix.split_once('/')?;
    let address = match length {
        "32" => address.to_owned(),
        _ => format!("{}1", address.strip_suffix('0')?),
    };
    Some((route.vrf.clone(), address))
}

/// Sends packets to a destination, all of which must leave.
fn forwards(daemon: &Daemon, (vrf, destination): &(String, String)) -> Result<()> {
    let file = probes(destination)?;
    daemon.apply(&tenant(vrf, &format!("net_pcap0,rx_pcap={}", file.display())))?;
    all_left(daemon)
}

/// A file of packets to this destination.
fn probes(destination: &str) -> Result<PathBuf> {
    let tagged = Replay {
        sessions: 1,
        size: Size::Small,
        wrapping: Wrapping::Tagged,
    };
    let file = host::run_directory().join("probes.pcap");
    let packets = (0..PROBES).map(|number| {
        let from = format!("10.0.0.2:{}", 1024 + number);
        tagged.frame(&Packet::udp(&from, &format!("{destination}:80"), &[0; 18]))
    });
    replay::write(&file, packets)?;
    Ok(file)
}

fn all_left(daemon: &Daemon) -> Result<()> {
    let mut balance = None;
    let left = within(PROBED_WITHIN, || {
        balance = daemon.statistics().ok()?.1.balance;
        (balance?.sent == PROBES as u64).then_some(())
    });
    ensure!(
        left.is_some() && balance.is_some_and(|balance| balance.dropped == 0),
        "{PROBES} packets were sent in, and this became of them: {balance:?}"
    );
    Ok(())
}

fn cold_start(bench: &mut Bench) -> Result<()> {
    let settings = Settings::default();
    let leaving = host::run_directory().join("leaving.pcap");
    let daemon = Daemon::start(&bench.machine, &settings)?;
    daemon.apply(&network(&format!("net_pcap1,tx_pcap={}", leaving.display())))?;
    let others = daemon.statistics()?.1.tables.map_or(0, |tables| tables.vrfs) as u32 + 4;
    let routes = table(STORED - others);
    let (vrf, destination) = routes.last().and_then(probed).context("no route")?;
    controller::apply(&daemon, routes)?;
    let source = format!("net_pcap0,rx_pcap={}", probes(&destination)?.display());
    daemon.apply(&tenant(&vrf, &source))?;
    all_left(&daemon)?;
    daemon.stop()?;

    let mut until = Samples::default();
    for _ in 0..TURNS {
        bench.say("cold start");
        fs::remove_file(&leaving)?;
        let started = AtomicBool::new(false);
        let start = Instant::now();
        let (daemon, first) = std::thread::scope(|scope| {
            let watching = scope.spawn(|| {
                // A pcap file with no packet in it is its header of 24 bytes.
                while fs::metadata(&leaving).map_or(0, |file| file.len()) <= 24 {
                    if started.load(Ordering::Relaxed) && start.elapsed() > PROBED_WITHIN {
                        return None;
                    }
                    std::thread::park_timeout(Duration::from_micros(200));
                }
                Some(start.elapsed())
            });
            let daemon = Daemon::start_again(&bench.machine, &settings);
            started.store(true, Ordering::Relaxed);
            (daemon, watching.join().ok().flatten())
        });
        let daemon = daemon?;
        all_left(&daemon)?;
        let first = first.context("no packet left after the start")?;
        until.push(first.as_secs_f64() * 1e3);
        daemon.stop()?;
    }
    bench.report.alone("cold-start/10k-objects", WEFT, "ms", &until);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_hosts_ports_have_a_route_of_each_family() {
        let routes = routes_of_ports();
        assert_eq!(routes.len(), 20_000);
        let last = routes.last().and_then(probed);
        assert_eq!(last, Some(("tenant-99".into(), "10.1.0.101".into())));
        assert_eq!(
            table(3).last().and_then(probed),
            Some(("tenant-0".into(), "16.0.2.1".into()))
        );
    }

    #[test]
    fn the_network_is_objects_of_the_api() {
        let yaml = [
            network("net_null0,no-rx=1"),
            tenant("tenant-1", "net_pcap0,rx_pcap=/f"),
        ]
        .join("---\n");
        let objects = weft_cli::manifest::load_text("benchmark", &yaml);
        assert!(objects.is_ok_and(|objects| objects.len() == VRFS as usize + 4));
    }
}
