//! Sessions follow routes that come, move and go inside of one another, and only those that a change concerns are decided
//! again. An EAL a process, so one test.

mod common;

use std::{cell::RefCell, collections::BTreeMap, net::Ipv4Addr};

use common::{RED, port, sent, walk};
use ipnet::Ipv4Net;
use proptest::{collection::vec, prelude::*, test_runner::TestRunner};
use weft_dataplane::{
    ByHand,
    change::{Change, NextHopSpec, PortPolicy, VrfSpec},
    statistics::Stage,
};
use weft_table::{NextHopId, PortId};
use weft_tests::frame::Packet;

const GUEST: PortId = PortId(1);
/// Where routes lead to; route 0 of everything leads to the first.
const SINKS: [PortId; 3] = [PortId(2), PortId(3), PortId(4)];
/// Destinations are 10.0.0.0 to 10.0.0.31, each with a session of its own: as many as a burst may decide again.
const SESSIONS: u8 = 32;

fn hop_to(port: PortId) -> NextHopId {
    NextHopId(u32::from(port.0))
}

fn configuration() -> Vec<Change> {
    let red = VrfSpec {
        name: "red".into(),
        packet_mode: false,
        ..VrfSpec::default()
    };
    let sinks = SINKS.into_iter().flat_map(|sink| {
        let hop = NextHopSpec::Port {
            port: sink,
            mac: None,
            vlan: None,
        };
        [
            port(sink, PortPolicy::Open),
            Change::SetNextHop(hop_to(sink), hop),
        ]
    });
    [Change::SetVrf(RED, red), port(GUEST, PortPolicy::Open)]
        .into_iter()
        .chain(sinks)
        .collect()
}

/// The routes by brute force.
#[derive(Clone, Default)]
struct Model(BTreeMap<Ipv4Net, PortId>);

impl Model {
    fn port_to(&self, destination: Ipv4Addr) -> PortId {
        let matching = self.0.iter().filter(|(prefix, _)| prefix.contains(&destination));
        let (_, port) = matching.max_by_key(|(prefix, _)| prefix.prefix_len()).unwrap();
        *port
    }

    /// Sets or removes a route, and says so to the router.
    fn put(&mut self, router: &mut ByHand, prefix: Ipv4Net, port: Option<PortId>) {
        let change = match port {
            Some(port) => {
                self.0.insert(prefix, port);
                Change::SetRoute(RED, prefix.into(), hop_to(port))
            }
            None => {
                self.0.remove(&prefix);
                Change::RemoveRoute(RED, prefix.into())
            }
        };
        router.apply(vec![change]).unwrap();
    }
}

fn destination(session: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, session)
}

/// A packet of each session; how many were decided anew.
fn burst(router: &mut ByHand, model: &Model) -> u64 {
    let decided = |router: &ByHand| router.counters().stage_packets[Stage::Forward as usize];
    let (before, decided_before) = (sent(router, SINKS), decided(router));
    let packets = (0..SESSIONS)
        .map(|session| Packet::udp("10.9.0.1:1000", &format!("{}:53", destination(session)), &[0; 18]));
    walk(router, GUEST, packets);
    let expected = SINKS.map(|sink| {
        let its = (0..SESSIONS).filter(|session| model.port_to(destination(*session)) == sink);
        its.count() as u64
    });
    let after = sent(router, SINKS);
    let got = [0, 1, 2].map(|sink| after[sink] - before[sink]);
    assert_eq!(got, expected, "routes: {:?}", model.0);
    decided(router) - decided_before
}

#[test]
fn sessions_follow_their_routes_and_only_those_that_a_change_concerns_are_decided_again() {
    let (mut router, eal) = common::router("changed-routes");
    router.apply(configuration()).unwrap();
    let mut model = Model::default();
    let prefix = |text: &str| -> Ipv4Net { text.parse().unwrap() };

    model.put(&mut router, prefix("10.0.0.0/8"), Some(SINKS[0]));
    assert_eq!(burst(&mut router, &model), u64::from(SESSIONS));
    assert_eq!(burst(&mut router, &model), 0);
    // A route inside of it takes eight sessions, and leaves the others as they are.
    model.put(&mut router, prefix("10.0.0.8/29"), Some(SINKS[1]));
    assert_eq!(burst(&mut router, &model), 8);
    model.put(&mut router, prefix("10.0.0.12/30"), Some(SINKS[2]));
    assert_eq!(burst(&mut router, &model), 4);
    // One that goes gives its own back.
    model.put(&mut router, prefix("10.0.0.8/29"), None);
    assert_eq!(burst(&mut router, &model), 4);
    // One that moves takes those that it decides itself.
    model.put(&mut router, prefix("10.0.0.0/8"), Some(SINKS[1]));
    assert_eq!(burst(&mut router, &model), 28);
    // More at a time than are remembered one by one.
    let hosts = (0..200u32).map(|host| Ipv4Net::from(Ipv4Addr::from_bits(0x0a01_0000 + host)));
    let many = hosts.map(|host| Change::SetRoute(RED, host.into(), hop_to(SINKS[2])));
    router.apply(many.collect()).unwrap();
    burst(&mut router, &model);

    model.put(&mut router, prefix("10.0.0.12/30"), None);
    let changes = vec(any_change(), 1..40);
    let router = RefCell::new(router);
    TestRunner::default()
        .run(&changes, |changes| {
            let (mut router, mut model) = (router.borrow_mut(), model.clone());
            follow(&mut router, &mut model, &changes);
            // The next case begins with the same routes, and without sessions.
            for prefix in model.0.keys().filter(|prefix| prefix.prefix_len() > 8) {
                router
                    .apply(vec![Change::RemoveRoute(RED, (*prefix).into())])
                    .unwrap();
            }
            router.end_sessions();
            Ok(())
        })
        .unwrap();
    drop(router);
    drop(eal);
}

/// A route comes or moves (to one of the sinks), or goes; then packets may come.
type AnyChange = (Ipv4Net, Option<usize>, bool);

fn any_change() -> impl Strategy<Value = AnyChange> {
    let prefix = (0..SESSIONS, 24u8..=32)
        .prop_map(|(host, length)| Ipv4Net::new(destination(host), length).unwrap().trunc());
    let sink = proptest::option::weighted(0.6, 0..SINKS.len());
    (prefix, sink, proptest::bool::weighted(0.3))
}

fn follow(router: &mut ByHand, model: &mut Model, changes: &[AnyChange]) {
    burst(router, model);
    for (prefix, sink, packets) in changes {
        match sink {
            Some(sink) => model.put(router, *prefix, Some(SINKS[*sink])),
            // The one that is next to it, since few are at the very same.
            None => {
                let mut near = model.0.range(*prefix..).map(|(near, _)| *near);
                if let Some(gone) = near.find(|near| near.prefix_len() > 8) {
                    model.put(router, gone, None);
                }
            }
        }
        if *packets {
            burst(router, model);
        }
    }
    burst(router, model);
}
