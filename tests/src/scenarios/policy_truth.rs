//! The truth table of policies: nine pods in three namespaces, each of which opens sessions to each by TCP, UDP and SCTP to
//! two ports, under policies that a seed makes up.
//!
//! In each case part of the policies, of the groups that they name, and of who has which policy changes while sessions run.
//! Nothing passes then that neither the old nor the new state allows; once the change is acknowledged, sessions that ran
//! before and new ones pass exactly if the [model](weft_tests::policies) says so, and all others are dropped as denied.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use weft_tests::{
    container::TapPort,
    dice::Dice,
    eventually,
    frame::{Mac, Packet, difference, dump, protocol, tcp},
    lone::{GATEWAY, Lone},
    policies::{Block, Catalogue, Direction, Policy, Prefix, Remote, Rule, Session},
    wire::Wire,
    world::in_world,
};

super::scenarios! {
    what_passes_between_nine_pods_is_what_the_model_says: [],
}

const CASES: usize = 240;
const NAMESPACES: usize = 3;
/// Of each namespace.
const PODS: usize = 3;
const ALL_PODS: usize = NAMESPACES * PODS;
const PROTOCOLS: [u8; 3] = [protocol::TCP, protocol::UDP, protocol::SCTP];
const PORTS: [u16; 2] = [80, 81];
/// Each pod to each, itself too.
const PROBES: usize = ALL_PODS * ALL_PODS * PROTOCOLS.len() * PORTS.len();
/// Probes of one case come from other ports than those of the next; after so many cases they come again, to sessions of
/// states that are long gone.
const GENERATIONS: usize = 8;
const FIRST_SOURCE: u16 = 20_000;
const POLICIES: usize = 6;
const GROUPS: usize = 4;
const DENIED: &str = "policy-denied";

/// One question, by its number in a generation.
#[derive(Clone, Copy, Debug)]
struct Probe {
    from: usize,
    to: usize,
    session: Session,
}

impl Probe {
    fn new(generation: usize, number: usize) -> Self {
        let v6 = generation % 2 == 1;
        let (pods, rest) = (number / (PROTOCOLS.len() * PORTS.len()), number);
        let (from, to) = (pods % ALL_PODS, pods / ALL_PODS);
        let session = Session {
            source: address(from, v6),
            destination: address(to, v6),
            protocol: PROTOCOLS[rest % PROTOCOLS.len()],
            source_port: FIRST_SOURCE + (generation * PROBES + number) as u16,
            destination_port: PORTS[rest / PROTOCOLS.len() % PORTS.len()],
        };
        Probe { from, to, session }
    }

    fn all(generation: usize) -> impl Iterator<Item = Probe> {
        (0..PROBES).map(move |number| Probe::new(generation, number))
    }

    fn packet(&self, mark: &str) -> Packet {
        let socket = |address, port| std::net::SocketAddr::new(address, port).to_string();
        let from = socket(self.session.source, self.session.source_port);
        let to = socket(self.session.destination, self.session.destination_port);
        match self.session.protocol {
            protocol::TCP => Packet::tcp(&from, &to, tcp::SYN, mark.as_bytes()),
            protocol::UDP => Packet::udp(&from, &to, mark.as_bytes()),
            _ => Packet::sctp(&from, &to, mark.as_bytes()),
        }
    }
}

/// Namespaces and pods are counted from 1, so that both have a bit of their own.
fn address(pod: usize, v6: bool) -> IpAddr {
    let (namespace, pod) = ((pod / PODS + 1) as u8, (pod % PODS + 1) as u8);
    match v6 {
        false => Ipv4Addr::new(10, 64, namespace, pod).into(),
        true => Ipv6Addr::new(0xfd00, 0x64, 0, namespace.into(), 0, 0, 0, pod.into()).into(),
    }
}

/// `x-a` to `z-c`.
fn name(pod: usize) -> String {
    let letter = |first: u8, number: usize| char::from(first + number as u8);
    format!("{}-{}", letter(b'x', pod / PODS), letter(b'a', pod % PODS))
}

fn mac(pod: usize) -> Mac {
    [2, 0, 0, 0, 9, pod as u8]
}

fn port(pod: usize, named: &[String]) -> TapPort {
    let mac = mac(pod).map(|byte| format!("{byte:02x}")).join(":");
    let addresses = [false, true].map(|v6| address(pod, v6).to_string());
    let addresses = addresses.each_ref().map(String::as_str);
    TapPort {
        more: format!("policies: [{}]", named.join(", ")),
        ..TapPort::new("pods", &name(pod), &mac, &addresses)
    }
}

/// Prefix lengths at which the pods' addresses part: all, two of three namespaces, one, two of its three pods, one.
fn lengths(v6: bool) -> [u32; 7] {
    match v6 {
        false => [0, 16, 23, 24, 30, 31, 32],
        true => [0, 32, 63, 64, 126, 127, 128],
    }
}

fn roll_pod(dice: &mut Dice, v6: bool) -> IpAddr {
    address(dice.below(ALL_PODS as u64) as usize, v6)
}

fn roll_prefix(dice: &mut Dice, v6: bool) -> Prefix {
    Prefix::around(roll_pod(dice, v6), dice.pick(&lengths(v6)))
}

fn roll_block(dice: &mut Dice, v6: bool) -> Block {
    let lengths = lengths(v6);
    let class = dice.below(lengths.len() as u64) as usize;
    let prefix = Prefix::around(roll_pod(dice, v6), lengths[class]);
    let mut except = Vec::new();
    for _ in 0..dice.below(3) {
        let pod = roll_pod(dice, v6);
        if prefix.contains(pod) && class + 1 < lengths.len() {
            except.push(Prefix::around(pod, dice.pick(&lengths[class + 1..])));
        }
    }
    Block { prefix, except }
}

/// Most of them part the two ports.
fn roll_ports(dice: &mut Dice) -> Vec<(u16, u16)> {
    match dice.below(7) {
        0 => vec![],
        1 => vec![(80, 80)],
        2 => vec![(81, 81)],
        3 => vec![(1, 80)],
        4 => vec![(81, u16::MAX)],
        5 => vec![(443, 443), (80, 81)],
        _ => vec![(70, 79), (82, 90)],
    }
}

fn roll_source_ports(dice: &mut Dice) -> Vec<(u16, u16)> {
    if !dice.one_in(5) {
        return vec![];
    }
    let middle = FIRST_SOURCE + dice.below((GENERATIONS * PROBES) as u64) as u16;
    match dice.below(2) {
        0 => vec![(1024, middle)],
        _ => vec![(middle, u16::MAX)],
    }
}

fn roll_rule(dice: &mut Dice, allow: bool) -> Rule {
    let v6 = dice.one_in(2);
    let protocol = (!dice.one_in(4)).then(|| dice.pick(&PROTOCOLS));
    let remote = match dice.below(4) {
        0 => Remote::Anybody,
        1 => Remote::Block(roll_block(dice, v6)),
        _ => Remote::Group(group(dice.below(GROUPS as u64) as usize)),
    };
    Rule {
        direction: dice.pick(&[Direction::Ingress, Direction::Egress]),
        allow,
        protocol,
        remote,
        local: dice.one_in(5).then(|| roll_block(dice, v6)),
        // Only protocols with ports may name some.
        source_ports: protocol.map_or(vec![], |_| roll_source_ports(dice)),
        destination_ports: protocol.map_or(vec![], |_| roll_ports(dice)),
    }
}

fn roll_policy(dice: &mut Dice) -> Policy {
    let count = dice.below(9);
    // As Kubernetes has it: what is allowed, and nothing else, in the directions that the policy is for.
    if dice.one_in(2) {
        let isolated = |dice: &mut Dice| dice.one_in(2).then_some(false);
        return Policy {
            rules: (0..count).map(|_| roll_rule(dice, true)).collect(),
            ingress: isolated(dice),
            egress: isolated(dice),
        };
    }
    let default = |dice: &mut Dice| dice.pick(&[None, Some(true), Some(true), Some(false)]);
    let allow = |dice: &mut Dice| !dice.one_in(3);
    let rule = |dice: &mut Dice| {
        let allow = allow(dice);
        roll_rule(dice, allow)
    };
    Policy {
        rules: (0..count).map(|_| rule(dice)).collect(),
        ingress: default(dice),
        egress: default(dice),
    }
}

/// Some pods one by one, by their namespace or by anything else that they share, in either family by itself.
fn roll_group(dice: &mut Dice) -> Vec<Prefix> {
    let mut members = Vec::new();
    for v6 in [false, true] {
        for _ in 0..dice.below(5) {
            members.push(match dice.one_in(3) {
                true => roll_prefix(dice, v6),
                false => Prefix::of(roll_pod(dice, v6)),
            });
        }
    }
    members
}

fn group(number: usize) -> String {
    format!("group-{number}")
}

fn policy(number: usize) -> String {
    format!("policy-{number}")
}

/// What is in force.
#[derive(Clone, Debug)]
struct State {
    catalogue: Catalogue,
    /// The policies of each pod.
    named: Vec<Vec<String>>,
}

impl State {
    /// The same for everybody.
    fn open() -> Self {
        let policies = (0..POLICIES).map(|number| (policy(number), Policy::default()));
        let groups = (0..GROUPS).map(|number| (group(number), vec![]));
        State {
            catalogue: Catalogue {
                policies: policies.collect(),
                groups: groups.collect(),
            },
            named: vec![vec![]; ALL_PODS],
        }
    }

    /// Changes part of it.
    fn roll(&self, dice: &mut Dice) -> Self {
        let mut next = self.clone();
        for policy in next.catalogue.policies.values_mut() {
            if dice.one_in(3) {
                *policy = roll_policy(dice);
            }
        }
        for members in next.catalogue.groups.values_mut() {
            if dice.one_in(3) {
                *members = roll_group(dice);
            }
        }
        for named in &mut next.named {
            if dice.one_in(4) {
                let mut left: Vec<usize> = (0..POLICIES).collect();
                let count = dice.below(4);
                let mut draw = || left.remove(dice.below(left.len() as u64) as usize);
                *named = (0..count).map(|_| policy(draw())).collect();
            }
        }
        next
    }

    fn allows(&self, probe: &Probe) -> bool {
        let judges =
            |pod: usize, direction| self.catalogue.allows(&self.named[pod], direction, &probe.session);
        judges(probe.from, Direction::Egress) && judges(probe.to, Direction::Ingress)
    }

    fn truth(&self, generation: usize) -> Vec<bool> {
        Probe::all(generation).map(|probe| self.allows(&probe)).collect()
    }

    fn yaml(&self, world: &Lone) -> String {
        let mut documents = self.catalogue.yaml();
        let ports = self.named.iter().enumerate();
        documents.extend(ports.map(|(pod, named)| port(pod, named).yaml(&world.guests)));
        documents.join("---\n")
    }

    /// What a probe is judged by.
    fn about(&self, probe: &Probe) -> String {
        let ends = [probe.from, probe.to].map(|pod| format!("{} has {:?}", name(pod), self.named[pod]));
        format!("{}\n{}", ends.join("\n"), self.catalogue.yaml().join("---\n"))
    }
}

/// A frame that was sent.
struct Sent {
    probe: Probe,
    may_pass: bool,
    has_arrived: bool,
}

/// The pods, and what has become of all that they sent.
struct Table {
    wires: Vec<Wire>,
    sent: Vec<Sent>,
    arrived: usize,
    /// Frames before those in `sent`.
    before: usize,
}

impl Table {
    /// Forgets what is settled.
    fn begin(&mut self) {
        self.before += self.sent.len();
        self.sent.clear();
        self.arrived = 0;
    }

    fn send(&mut self, probe: Probe, may_pass: bool) {
        let packet = probe.packet(&mark(self.before + self.sent.len()));
        self.wires[probe.from].send(&packet.frame(GATEWAY, mac(probe.from)));
        self.sent.push(Sent {
            probe,
            may_pass,
            has_arrived: false,
        });
    }

    /// Takes what has arrived: each frame once, as it was sent to the last byte, and none that may not pass.
    fn collect(&mut self, explain: &dyn Fn(&Probe) -> String) {
        for (pod, wire) in self.wires.iter_mut().enumerate() {
            while let Some(received) = wire.next(Duration::ZERO) {
                let frame = received.bytes;
                let number = number_of(&frame);
                let sent = number
                    .checked_sub(self.before)
                    .and_then(|index| self.sent.get_mut(index));
                let sent = sent.unwrap_or_else(|| panic!("a frame of an earlier case\n{}", dump(&frame)));
                let expected = sent.probe.packet(&mark(number)).hop().frame(mac(pod), GATEWAY);
                assert!(
                    frame == expected && sent.probe.to == pod,
                    "at {}: {}",
                    name(pod),
                    difference(&expected, &frame)
                );
                assert!(sent.may_pass, "passed: {}", explain(&sent.probe));
                assert!(!sent.has_arrived, "arrived twice: {}", explain(&sent.probe));
                sent.has_arrived = true;
                self.arrived += 1;
            }
        }
    }
}

/// Eight bytes, so that SCTP need not pad.
fn mark(number: usize) -> String {
    format!("{number:08}")
}

fn number_of(frame: &[u8]) -> usize {
    let mark = frame.last_chunk::<8>().map(|mark| String::from_utf8_lossy(mark));
    let number = mark.and_then(|mark| mark.parse().ok());
    number.unwrap_or_else(|| panic!("a frame without a mark\n{}", dump(frame)))
}

/// Grown since, by reason.
fn grown(world: &Lone, since: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let mut drops = world.host.drops();
    for (reason, packets) in &mut drops {
        *packets -= since.get(reason).unwrap_or(&0);
    }
    drops.retain(|_, packets| *packets > 0);
    drops
}

fn what_passes_between_nine_pods_is_what_the_model_says() {
    let seed = std::env::var("WEFT_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or(0x0009_0081);
    in_world(|world: &mut Lone| {
        world.host.apply("kind: Vrf\nname: pods\nspec: {}\n");
        let mut state = State::open();
        world.host.apply(&state.catalogue.yaml().join("---\n"));
        let wires = (0..ALL_PODS).map(|pod| world.host.raw_tap(&world.guests, &port(pod, &state.named[pod])));
        let mut table = Table {
            wires: wires.collect(),
            sent: Vec::new(),
            arrived: 0,
            before: 0,
        };
        let mut dice = Dice::new(seed);
        let (mut allowed, mut judged) = (0, 0);
        let mut ran = state.truth(0);
        for case in 1..=CASES {
            let (old, new) = ((case - 1) % GENERATIONS, case % GENERATIONS);
            let next = state.roll(&mut dice);
            let running = next.truth(old);
            let fresh = next.truth(new);
            change(world, &mut table, case, seed, (&state, &next), &ran, &running);
            // What ran before, and what begins now.
            let before = world.host.drops();
            table.begin();
            for (generation, truth) in [(old, &running), (new, &fresh)] {
                for (probe, passes) in Probe::all(generation).zip(truth) {
                    table.send(probe, *passes);
                }
            }
            let explain = |probe: &Probe| {
                format!(
                    "seed {seed}, case {case}: {probe:?}; the model says {}\n{}",
                    if next.allows(probe) { "allow" } else { "deny" },
                    next.about(probe)
                )
            };
            settle(world, &mut table, &before, &explain);
            if let Some(denied) = table.sent.iter().find(|sent| sent.may_pass && !sent.has_arrived) {
                panic!("denied: {}", explain(&denied.probe));
            }
            allowed += fresh.iter().filter(|passes| **passes).count();
            judged += fresh.len();
            (state, ran) = (next, fresh);
        }
        // A table that says always the same would prove nothing.
        assert!(
            allowed > judged / 4 && allowed < judged * 3 / 4,
            "seed {seed}: the policies allow {allowed} of {judged} sessions"
        );
        clean(world, &state);
    });
}

/// From one state to the next, while sessions that ran before have packets.
fn change(
    world: &Lone,
    table: &mut Table,
    case: usize,
    seed: u64,
    (before, after): (&State, &State),
    allowed_before: &[bool],
    allowed_after: &[bool],
) {
    let generation = (case - 1) % GENERATIONS;
    let explain = |probe: &Probe| {
        format!(
            "seed {seed}, during change {case}: {probe:?}; before\n{}after\n{}",
            before.about(probe),
            after.about(probe)
        )
    };
    let drops = world.host.drops();
    table.begin();
    let yaml = after.yaml(world);
    let file = world.host.path("change.yaml");
    std::fs::write(&file, &yaml).expect("the YAML is written");
    let mut change = world.host.begin(&format!("apply -f {}", file.display()));
    let mut numbers = (0..PROBES).cycle();
    while change.try_wait().expect("weft is our child").is_none() {
        for number in numbers.by_ref().take(ALL_PODS) {
            let may_pass = allowed_before[number] || allowed_after[number];
            table.send(Probe::new(generation, number), may_pass);
        }
        table.collect(&explain);
    }
    let status = change.wait().expect("weft is our child");
    assert!(status.success(), "seed {seed}: change {case} was refused\n{yaml}");
    settle(world, table, &drops, &explain);
}

/// Waits until each frame has arrived or was dropped, as denied.
fn settle(
    world: &Lone,
    table: &mut Table,
    before: &BTreeMap<String, u64>,
    explain: &dyn Fn(&Probe) -> String,
) {
    let mut dropped = BTreeMap::new();
    let left = weft_tests::within(Duration::from_secs(10), || {
        dropped = grown(world, before);
        table.collect(explain);
        (dropped.values().sum::<u64>() + table.arrived as u64 == table.sent.len() as u64).then_some(())
    });
    let reasons: BTreeSet<&str> = dropped.keys().map(String::as_str).collect();
    assert!(
        left.is_some() && reasons.iter().all(|reason| *reason == DENIED),
        "of {} frames {} arrived, and these were dropped: {dropped:?}; for instance {}",
        table.sent.len(),
        table.arrived,
        table
            .sent
            .iter()
            .find(|sent| sent.may_pass && !sent.has_arrived)
            .map_or_else(String::new, |sent| explain(&sent.probe))
    );
}

fn clean(world: &Lone, state: &State) {
    for pod in 0..ALL_PODS {
        world.host.delete("port", &format!("pods-{}", name(pod)));
    }
    for policy in state.catalogue.policies.keys() {
        world.host.delete("policy", policy);
    }
    for group in state.catalogue.groups.keys() {
        world.host.delete("address-group", group);
    }
    eventually("the pods' VRF is gone", || {
        world.host.weft("delete vrf pods").status.success().then_some(())
    });
}
