//! How soon a change of a policy is in force at all of its ports.

use std::time::Duration;

use anyhow::{Result, ensure};
use weft_proto::v1::{self, object};

use crate::harness::{
    Bench, controller,
    daemon::{Daemon, Settings},
    report::WEFT,
    turns::{Samples, TURNS},
};

const PORTS: u32 = 1000;
const RULES: u32 = 50;
const MEMBERS: u32 = 10_000;
const POLICY: &str = "web";
const GROUP: &str = "clients";
const CASES: [&str; 2] = ["change/1000-ports", "change-member/1000-ports"];

/// Measures both kinds of changes, in turns on one weftd.
pub fn run(bench: &mut Bench) -> Result<()> {
    if !CASES.iter().any(|case| bench.options.wants(case)) {
        return Ok(());
    }
    bench.say("a thousand ports");
    let daemon = Daemon::start(&bench.machine, &Settings::default())?;
    daemon.apply(
        "kind: Vrf\nname: red\nspec: {}\n---\n\
         kind: Port\nname: trunk\nspec: {ethdev: {device: \"net_null0,no-rx=1\"}, vrf: red}\n",
    )?;
    controller::apply(&daemon, vec![group(0), policy(0)])?;
    controller::apply(&daemon, (0..PORTS).map(port).collect())?;
    let (mut rules, mut members) = (Samples::default(), Samples::default());
    for turn in 1..=2 * TURNS as u32 {
        rules.push(milliseconds(controller::apply(&daemon, vec![policy(turn)])?));
        members.push(milliseconds(controller::apply(&daemon, vec![group(turn)])?));
    }
    for (case, samples) in CASES.iter().zip([rules, members]) {
        bench.report.alone(case, WEFT, "ms", &samples);
    }
    let ports = daemon.statistics()?.1.ports.len();
    ensure!(ports > PORTS as usize, "weftd has {ports} ports only");
    daemon.stop()
}

fn milliseconds(took: Duration) -> f64 {
    took.as_secs_f64() * 1e3
}

/// The first rule is another each time; the last one names the group.
fn policy(turn: u32) -> v1::Object {
    let rule = |number: u32| v1::PolicyRule {
        direction: v1::PolicyDirection::Ingress.into(),
        action: v1::PolicyAction::Allow.into(),
        protocol: "tcp".into(),
        remote_group: if number == RULES - 1 { GROUP } else { "" }.into(),
        destination_ports: vec![v1::PortRange {
            first: 8000 + number + if number == 0 { 1000 + turn } else { 0 },
            last: 0,
        }],
        ..Default::default()
    };
    named(
        POLICY.into(),
        object::Spec::Policy(v1::Policy {
            rules: (0..RULES).map(rule).collect(),
            default_ingress: v1::PolicyAction::Deny.into(),
            default_egress: v1::PolicyAction::Allow.into(),
        }),
    )
}

/// One member more each time.
fn group(turn: u32) -> v1::Object {
    let member = |number: u32| std::net::Ipv4Addr::from(0x0a00_0000 + 2 * number).to_string();
    let members = (0..MEMBERS + turn).map(member).collect();
    named(
        GROUP.into(),
        object::Spec::AddressGroup(v1::AddressGroup { members }),
    )
}

fn port(number: u32) -> v1::Object {
    let vlan = v1::VlanDevice {
        parent: "trunk".into(),
        vlan: 1 + number,
    };
    named(
        format!("port-{number}"),
        object::Spec::Port(v1::Port {
            device: Some(v1::port::Device::Vlan(vlan)),
            vrf: "red".into(),
            policies: vec![POLICY.into()],
            ..Default::default()
        }),
    )
}

fn named(name: String, spec: object::Spec) -> v1::Object {
    v1::Object {
        name,
        spec: Some(spec),
        ..Default::default()
    }
}
