//! Bursts that walk the stages without a worker. An EAL a process, so one test.

mod common;

use std::sync::Arc;

use common::{RED, port, walk};
use weft_dataplane::{
    ByHand,
    change::{Change, MemberSpec, NextHopSpec, PortPolicy, VrfSpec},
    statistics::Stage,
};
use weft_table::{
    NextHopId, PolicyId, PortId,
    policy::{Action, Defaults, Direction, Rule, RuleSet},
};
use weft_tests::frame::Packet;

const GUEST: PortId = PortId(1);
const LEFT: PortId = PortId(2);
const RIGHT: PortId = PortId(3);
const POLICY: PolicyId = PolicyId(1);
const TO_LEFT: NextHopId = NextHopId(2);
const TO_RIGHT: NextHopId = NextHopId(3);
const TO_ONE_OF_BOTH: NextHopId = NextHopId(4);

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
    let packets = (0..64).map(|number| {
        let to = format!("10.{}.0.1:53", network(number));
        Packet::udp(&format!("10.0.0.1:{}", 1000 + number), &to, &[0; 18])
    });
    walk(router, GUEST, packets);
}

fn sent(router: &ByHand) -> [u64; 2] {
    common::sent(router, [LEFT, RIGHT])
}

#[test]
fn each_packet_of_a_burst_goes_where_its_own_route_leads() {
    let (mut router, eal) = common::router("by-hand");
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
