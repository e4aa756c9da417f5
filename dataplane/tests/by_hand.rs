//! Bursts that walk the stages without a worker. An EAL a process, so one test.

use std::{sync::Arc, time::Duration};

use weft_dataplane::{
    ByHand, Config, Timeouts,
    change::{Change, DeviceSpec, MemberSpec, NextHopSpec, PortPolicy, PortSpec, VrfSpec},
    dpdk::{Batch, Eal, EalConfig},
    statistics::Stage,
};
use weft_packet::Mac;
use weft_table::{
    NextHopId, PolicyId, PortId, VrfId,
    policy::{Action, Defaults, Direction, Rule, RuleSet},
};
use weft_tests::frame::Packet;

const RED: VrfId = VrfId(1);
const GUEST: PortId = PortId(1);
const LEFT: PortId = PortId(2);
const RIGHT: PortId = PortId(3);
const POLICY: PolicyId = PolicyId(1);
const TO_LEFT: NextHopId = NextHopId(2);
const TO_RIGHT: NextHopId = NextHopId(3);
const TO_ONE_OF_BOTH: NextHopId = NextHopId(4);

fn port(id: PortId, policy: PortPolicy) -> Change {
    let device = DeviceSpec::Ethdev {
        device: format!("net_null{id},no-rx=1"),
        queues: 1,
    };
    let spec = PortSpec {
        mac: Some(Mac([2, 0, 0, 0, 0, 1])),
        policy,
        ..PortSpec::new(format!("port-{id}"), device, RED)
    };
    Change::SetPort(id, spec)
}

fn hop_to(port: PortId) -> NextHopSpec {
    NextHopSpec::Port {
        port,
        mac: None,
        vlan: None,
    }
}

fn configuration() -> Vec<Change> {
    let no_twelve = Rule {
        remote: Some("10.12.0.0/16".parse::<ipnet::IpNet>().unwrap().into()),
        ..Rule::new(Direction::Egress, Action::Deny)
    };
    let defaults = Defaults {
        ingress: Action::Allow,
        egress: Action::Allow,
    };
    let member = |next_hop: NextHopId| MemberSpec {
        id: u64::from(next_hop.0),
        weight: 1,
        next_hop,
    };
    let route = |prefix: &str, hop| Change::SetRoute(RED, prefix.parse().unwrap(), hop);
    let red = VrfSpec {
        name: "red".into(),
        packet_mode: false,
        ..VrfSpec::default()
    };
    vec![
        Change::SetVrf(RED, red),
        Change::SetPolicy(POLICY, Arc::new(RuleSet::new(vec![no_twelve], defaults))),
        port(GUEST, PortPolicy::Judged(POLICY)),
        port(LEFT, PortPolicy::Open),
        port(RIGHT, PortPolicy::Open),
        Change::SetNextHop(TO_LEFT, hop_to(LEFT)),
        Change::SetNextHop(TO_RIGHT, hop_to(RIGHT)),
        Change::SetNextHop(
            TO_ONE_OF_BOTH,
            NextHopSpec::Group(vec![member(TO_LEFT), member(TO_RIGHT)]),
        ),
        route("10.1.0.0/16", TO_LEFT),
        route("10.2.0.0/16", TO_RIGHT),
        route("10.3.0.0/16", TO_ONE_OF_BOTH),
        route("10.12.0.0/16", TO_LEFT),
    ]
}

/// A burst from the guest: each session to the network that `network` says.
fn burst(router: &mut ByHand, network: impl Fn(u16) -> u8) {
    let mut batch = Batch::new();
    assert_eq!(router.pool().allocate_bulk(&mut batch, 64), 64);
    for (number, mbuf) in (0u16..).zip(batch.iter_mut()) {
        let to = format!("10.{}.0.1:53", network(number));
        let packet = Packet::udp(&format!("10.0.0.1:{}", 1000 + number), &to, &[0; 18]);
        let frame = packet.frame([2, 0, 0, 0, 0, 9], [2, 0, 0, 0, 0, 1]);
        mbuf.append(frame.len()).unwrap().copy_from_slice(&frame);
    }
    router.walk(GUEST, &mut batch);
}

fn sent(router: &ByHand) -> [u64; 2] {
    [LEFT, RIGHT].map(|port| router.counters().ports()[port.index()].tx_packets)
}

#[test]
fn each_packet_of_a_burst_goes_where_its_own_route_leads() {
    let file_prefix = format!("weft-by-hand-{}", std::process::id());
    let eal = Eal::start(&EalConfig {
        worker_cpus: vec![0],
        no_huge: true,
        memory_mib: 128,
        file_prefix: file_prefix.clone(),
        ..EalConfig::default()
    })
    .unwrap();
    let mut router = ByHand::new(&Config {
        worker_cpus: vec![0],
        no_huge: true,
        memory_mib: 0,
        mbufs: 2047,
        mbuf_room: 256,
        file_prefix,
        pci_devices: Vec::new(),
        sessions: 65_536,
        idle_sleep: Duration::ZERO,
        timeouts: Timeouts::default(),
    })
    .unwrap();
    router.apply(configuration()).unwrap();

    // Trains of three, one, one and three.
    burst(&mut router, |number| 1 + u8::from(matches!(number % 8, 3 | 5..)));
    assert_eq!(sent(&router), [32, 32]);
    assert_eq!(router.sessions(), 64);
    // Their sessions are known now.
    burst(&mut router, |number| 1 + u8::from(matches!(number % 8, 3 | 5..)));
    assert_eq!(sent(&router), [64, 64]);
    let counters = router.counters();
    assert_eq!(counters.stage_packets[Stage::Classify as usize], 128);
    assert_eq!(counters.stage_packets[Stage::Learn as usize], 64);

    router.end_sessions();
    assert_eq!(router.sessions(), 0);
    // Members are chosen by the flow, not by the packet before.
    burst(&mut router, |_| 3);
    let [left, right] = sent(&router).map(|packets| packets - 64);
    assert_eq!(left + right, 64);
    assert!(left > 8 && right > 8, "{left} and {right}");

    let before = sent(&router);
    burst(&mut router, |_| 12);
    assert_eq!(sent(&router), before, "the policy allows it");
    let books = router.counters().books;
    assert_eq!((books.received, books.sent, books.dropped), (256, 192, 64));
    drop(router);
    drop(eal);
}
