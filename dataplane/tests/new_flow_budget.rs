//! Two tenants on one trunk: one opens a session with each packet, the other has one. An EAL a process, so one test.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use weft_dataplane::{
    Config, Dataplane, Timeouts,
    change::{Change, DeviceSpec, NextHopSpec, PortSpec, VrfSpec},
    drops::Reason,
};
use weft_packet::{Mac, VlanId};
use weft_table::{NextHopId, PortId, VrfId};
use weft_tests::frame::{Packet, tagged};

const TENANTS: VrfId = VrfId(1);
const TRUNK: PortId = PortId(1);
const SINK: PortId = PortId(2);
const QUIET: PortId = PortId(3);
const ATTACKER: PortId = PortId(4);

/// Sessions of the attacker, and as many packets of the other's one session between them.
const SESSIONS: u16 = 20_000;

fn port(name: &str, device: DeviceSpec) -> PortSpec {
    PortSpec {
        mac: Some(Mac([2, 0, 0, 0, 0, 1])),
        ..PortSpec::new(name, device, TENANTS)
    }
}

fn vlan(vlan: u32) -> DeviceSpec {
    DeviceSpec::Vlan {
        parent: TRUNK,
        vlan: VlanId::new(vlan).unwrap(),
    }
}

fn frames() -> impl Iterator<Item = Vec<u8>> {
    let frame = |vlan, source: &str, port: u16| {
        let packet = Packet::udp(&format!("{source}:{port}"), "10.1.0.1:53", &[0; 18]);
        tagged(vlan, &packet.frame([2, 0, 0, 0, 0, 9], [2, 0, 0, 0, 0, 1]))
    };
    (0..SESSIONS).flat_map(move |number| {
        [
            frame(100, "10.0.0.1", 1000),
            frame(200, "10.0.0.2", 1000 + number),
        ]
    })
}

fn write_pcap(path: &Path, frames: impl Iterator<Item = Vec<u8>>) {
    let mut bytes = Vec::new();
    for word in [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 65_535, 1] {
        bytes.extend(word.to_le_bytes());
    }
    for frame in frames {
        for word in [0, 0, frame.len() as u32, frame.len() as u32] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(frame);
    }
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn who_opens_sessions_without_end_is_held_back_and_the_established_traffic_beside_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let replay = folder.path().join("replay.pcap");
    write_pcap(&replay, frames());
    let dataplane = Dataplane::start(Config {
        worker_cpus: vec![0],
        no_huge: true,
        memory_mib: 256,
        mbufs: 65_536,
        mbuf_room: 128,
        file_prefix: format!("weft-budget-{}", std::process::id()),
        pci_devices: Vec::new(),
        sessions: 65_536,
        idle_sleep: Duration::from_micros(200),
        timeouts: Timeouts::default(),
    })
    .unwrap();
    let ethdev = |device: String| DeviceSpec::Ethdev { device, queues: 1 };
    let replay = ethdev(format!("net_pcap0,rx_pcap={},infinite_rx=1", replay.display()));
    let red = VrfSpec {
        name: "red".into(),
        packet_mode: false,
        ..VrfSpec::default()
    };
    let next_hop = NextHopSpec::Port {
        port: SINK,
        mac: None,
        vlan: None,
    };
    dataplane
        .apply(vec![
            Change::SetVrf(TENANTS, red),
            Change::SetPort(SINK, port("sink", ethdev("net_null0,no-rx=1".into()))),
            Change::SetNextHop(NextHopId(1), next_hop),
            Change::SetRoute(TENANTS, "10.1.0.0/16".parse().unwrap(), NextHopId(1)),
            Change::SetPort(TRUNK, port("trunk", replay)),
            Change::SetPort(QUIET, port("quiet", vlan(100))),
            Change::SetPort(ATTACKER, port("attacker", vlan(200))),
        ])
        .unwrap();

    let until = Instant::now() + Duration::from_secs(60);
    let statistics = loop {
        let statistics = dataplane.statistics();
        if statistics.balance.received > 20 * u64::from(SESSIONS) {
            break statistics;
        }
        assert!(Instant::now() < until, "the replay does not come");
        std::thread::yield_now();
    };
    let counters = |port: PortId| {
        let found = statistics.ports.iter().find(|counters| counters.port == port);
        found.expect("the port has counters").clone()
    };
    let dropped = |port: PortId, reason: Reason| {
        let drops = counters(port).drops;
        drops
            .iter()
            .find(|(why, _)| *why == reason)
            .map_or(0, |(_, count)| *count)
    };
    let held_back = dropped(ATTACKER, Reason::NewFlowBudget);
    assert!(held_back > 0, "the attacker took what it liked");
    assert_eq!(dropped(QUIET, Reason::NewFlowBudget), 0);
    assert!(
        statistics.tables.sessions > 1,
        "a few sessions are always allowed"
    );
    assert_eq!(
        statistics.balance.received - statistics.balance.sent,
        held_back + dropped(TRUNK, Reason::UnknownVlan),
        "nothing else was lost"
    );
}
