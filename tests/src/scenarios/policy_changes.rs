//! Policies and the address groups that they name change at random while packets run: nothing passes that neither the old nor the new state allows, and once a
//! change is acknowledged exactly what the new one allows passes. What it allows is told by a model of a few lines.

use std::{collections::BTreeSet, time::Duration};

use weft_tests::{
    container::TapPort,
    dice::Dice,
    frame::{Packet, difference, dump, tcp},
    lone::{APP, GATEWAY, Lone, WEB},
    world::in_world,
};

super::scenarios! {
    nothing_passes_that_neither_the_old_nor_the_new_policies_allow: [],
}

/// How many changes.
const ROUNDS: usize = 40;
/// Sessions that run throughout.
const PAIRS: usize = 24;
/// Answers and questions until a session is what the state makes of it.
const SETTLE: u32 = 2;

/// A packet in the terms of rules.
#[derive(Clone, Copy, Debug)]
struct Probe {
    from_web: bool,
    v6: bool,
    tcp: bool,
    source: u16,
    destination: u16,
}

impl Probe {
    /// Any, but for its source port.
    fn roll(dice: &mut Dice) -> Self {
        Probe {
            from_web: dice.below(2) == 0,
            v6: dice.below(2) == 0,
            tcp: dice.below(2) == 0,
            source: 0,
            destination: 50 + dice.below(8) as u16,
        }
    }

    fn answer(self) -> Self {
        Probe {
            from_web: !self.from_web,
            source: self.destination,
            destination: self.source,
            ..self
        }
    }

    fn packet(&self, mark: &str) -> Packet {
        let hosts = match self.v6 {
            true => ["[fd00:1::1]", "[fd00:1::2]"],
            false => ["10.0.0.1", "10.0.0.2"],
        };
        let [web, app] = hosts;
        let (from, to) = if self.from_web { (web, app) } else { (app, web) };
        let (from, to) = (
            format!("{from}:{}", self.source),
            format!("{to}:{}", self.destination),
        );
        match self.tcp {
            true => Packet::tcp(&from, &to, tcp::ACK, mark.as_bytes()),
            false => Packet::udp(&from, &to, mark.as_bytes()),
        }
    }
}

/// Whom a rule is about.
#[derive(Clone, Copy, Debug)]
enum Remote {
    Anybody,
    Family { v6: bool },
    Group,
}

/// Whether the far ends of either family are in the group that rules name.
#[derive(Clone, Copy, Debug)]
struct Group {
    v4: bool,
    v6: bool,
}

impl Group {
    fn roll(dice: &mut Dice) -> Self {
        Group {
            v4: dice.below(2) == 0,
            v6: dice.below(2) == 0,
        }
    }

    fn yaml(self) -> String {
        let mut members = vec!["172.16.0.0/12"];
        members.extend(self.v4.then_some("10.0.0.0/30"));
        members.extend(self.v6.then_some("\"fd00:1::1\", \"fd00:1::2\""));
        format!(
            "kind: AddressGroup\nname: roll\nspec: {{members: [{}]}}\n",
            members.join(", ")
        )
    }
}

#[derive(Clone, Copy, Debug)]
struct Rule {
    ingress: bool,
    allow: bool,
    tcp: Option<bool>,
    remote: Remote,
    ports: (u16, u16),
}

impl Rule {
    fn roll(dice: &mut Dice) -> Self {
        let remote = match dice.below(5) {
            0 => Remote::Anybody,
            1 => Remote::Family { v6: true },
            2 => Remote::Family { v6: false },
            _ => Remote::Group,
        };
        let first = 50 + dice.below(6) as u16;
        Rule {
            ingress: dice.below(2) == 0,
            allow: dice.below(3) > 0,
            tcp: Some(dice.below(2) == 0),
            remote,
            ports: (first, first + dice.below(3) as u16),
        }
    }

    fn matches(&self, ingress: bool, probe: &Probe, group: Group) -> bool {
        let is_meant = match self.remote {
            Remote::Anybody => true,
            Remote::Family { v6 } => v6 == probe.v6,
            Remote::Group => {
                if probe.v6 {
                    group.v6
                } else {
                    group.v4
                }
            }
        };
        self.ingress == ingress
            && self.tcp.is_none_or(|tcp| tcp == probe.tcp)
            && is_meant
            && (self.ports.0..=self.ports.1).contains(&probe.destination)
    }

    fn yaml(&self) -> String {
        let word = |yes, one: &'static str, other: &'static str| if yes { one } else { other };
        let remote = match self.remote {
            Remote::Family { v6: true } => ", remote: {prefix: \"fd00::/16\"}",
            Remote::Family { v6: false } => ", remote: {prefix: 10.0.0.0/8}",
            Remote::Group => ", remote_group: roll",
            Remote::Anybody => "",
        };
        format!(
            "{{direction: {}, action: {}, protocol: {}, destination_ports: [{{first: {}, last: {}}}]{remote}}}",
            word(self.ingress, "ingress", "egress"),
            word(self.allow, "allow", "deny"),
            word(self.tcp == Some(true), "tcp", "udp"),
            self.ports.0,
            self.ports.1,
        )
    }
}

#[derive(Clone, Debug)]
struct Policy {
    rules: Vec<Rule>,
    ingress: Option<bool>,
    egress: Option<bool>,
}

impl Policy {
    fn roll(dice: &mut Dice) -> Self {
        let default = |dice: &mut Dice| match dice.below(4) {
            0 => None,
            side => Some(side > 1),
        };
        Policy {
            rules: (0..dice.below(6)).map(|_| Rule::roll(dice)).collect(),
            ingress: default(dice),
            egress: default(dice),
        }
    }

    fn decides(&self, ingress: bool, probe: &Probe, group: Group) -> Option<bool> {
        let rule = self.rules.iter().find(|rule| rule.matches(ingress, probe, group));
        let default = if ingress { self.ingress } else { self.egress };
        rule.map(|rule| rule.allow).or(default)
    }

    fn yaml(&self, name: usize) -> String {
        let default = |direction, stated: Option<bool>| match stated {
            Some(allow) => format!(", default_{direction}: {}", if allow { "allow" } else { "deny" }),
            None => String::new(),
        };
        let rules: Vec<String> = self.rules.iter().map(Rule::yaml).collect();
        format!(
            "kind: Policy\nname: roll-{name}\nspec: {{rules: [{}]{}{}}}\n",
            rules.join(", "),
            default("ingress", self.ingress),
            default("egress", self.egress)
        )
    }
}

/// What a port names: policies by number, the last of which may not exist.
#[derive(Clone, Debug)]
struct State {
    group: Group,
    policies: [Policy; 2],
    web: Vec<usize>,
    app: Vec<usize>,
}

impl State {
    fn roll(dice: &mut Dice, before: &State) -> Self {
        let policies = [0, 1].map(|number| match dice.below(2) {
            0 => before.policies[number].clone(),
            _ => Policy::roll(dice),
        });
        let named = |dice: &mut Dice, before: &Vec<usize>| match dice.below(8) {
            0 => vec![],
            1 => vec![0, 1],
            2 => vec![1],
            3 => vec![1, 2],
            _ => before.clone(),
        };
        let group = match dice.below(2) {
            0 => before.group,
            _ => Group::roll(dice),
        };
        State {
            group,
            web: named(dice, &before.web),
            app: named(dice, &before.app),
            policies,
        }
    }

    /// Whether somebody may open this session.
    fn allows(&self, probe: &Probe) -> bool {
        let (from, to) = if probe.from_web {
            (&self.web, &self.app)
        } else {
            (&self.app, &self.web)
        };
        self.judges(from, false, probe) && self.judges(to, true, probe)
    }

    fn judges(&self, named: &[usize], ingress: bool, probe: &Probe) -> bool {
        if named.is_empty() {
            return true;
        }
        let known: Option<Vec<&Policy>> = named.iter().map(|number| self.policies.get(*number)).collect();
        let decides = |policies: Vec<&Policy>| {
            policies
                .into_iter()
                .find_map(|policy| policy.decides(ingress, probe, self.group))
        };
        known.and_then(decides).unwrap_or(false)
    }

    /// Whether a session's packets may pass in either direction, whoever opened it.
    fn allows_either(&self, probe: &Probe) -> bool {
        self.allows(probe) || self.allows(&probe.answer())
    }

    fn yaml(&self, world: &Lone) -> String {
        let port = |container, mac, host, named: &Vec<usize>| {
            let names: Vec<String> = named.iter().map(|number| format!("roll-{number}")).collect();
            let (v4, v6) = (format!("10.0.0.{host}"), format!("fd00:1::{host}"));
            let port = TapPort {
                more: format!("policies: [{}]", names.join(", ")),
                ..TapPort::new("red", container, mac, &[&v4, &v6])
            };
            port.yaml(&world.guests)
        };
        [
            self.group.yaml(),
            self.policies[0].yaml(0),
            self.policies[1].yaml(1),
            port("web", "02:00:00:00:01:01", 1, &self.web),
            port("app", "02:00:00:00:01:02", 2, &self.app),
        ]
        .join("---\n")
    }
}

/// What was sent, and when.
struct Sent {
    probe: Probe,
    /// The first of its tuple.
    first: bool,
    round: usize,
    /// The change was not acknowledged yet.
    during: bool,
}

impl Sent {
    fn may_pass(&self, states: &[State]) -> bool {
        let allows = |state: &State| match self.first {
            true => state.allows(&self.probe),
            false => state.allows_either(&self.probe),
        };
        allows(&states[self.round]) || (self.during && allows(&states[self.round - 1]))
    }
}

/// Everything that was sent, and which of it has arrived.
#[derive(Default)]
struct Log {
    sent: Vec<Sent>,
    arrived: BTreeSet<usize>,
    sources: u16,
}

impl Log {
    fn send(&mut self, world: &Lone, sent: Sent) -> usize {
        let number = self.sent.len();
        let packet = sent.probe.packet(&mark(number));
        match sent.probe.from_web {
            true => world.web.send(&packet.frame(GATEWAY, WEB)),
            false => world.app.send(&packet.frame(GATEWAY, APP)),
        }
        self.sent.push(sent);
        number
    }

    /// A probe whose tuple nobody has used.
    fn first(&mut self, dice: &mut Dice) -> Probe {
        self.sources += 1;
        Probe {
            source: 10_000 + self.sources,
            ..Probe::roll(dice)
        }
    }

    /// Takes what has arrived until nothing comes for this long. Each frame must be what was sent to the last byte, and
    /// one that may pass.
    fn collect(&mut self, world: &mut Lone, states: &[State], quiet: Duration) {
        for (wire, mac) in [(&mut world.app, APP), (&mut world.web, WEB)] {
            while let Some(received) = wire.next(quiet) {
                let frame = received.bytes;
                let number = number_of(&frame);
                let sent = &self.sent[number];
                let expected = sent.probe.packet(&mark(number)).hop().frame(mac, GATEWAY);
                assert!(frame == expected, "{}", difference(&expected, &frame));
                assert!(
                    sent.may_pass(states),
                    "change {}: {:?} passed ({} acknowledged); before {:#?} after {:#?}",
                    sent.round,
                    sent.probe,
                    if sent.during { "not yet" } else { "was" },
                    states[sent.round - 1],
                    states[sent.round],
                );
                self.arrived.insert(number);
            }
        }
    }
}

fn mark(number: usize) -> String {
    format!("<<{number}")
}

fn number_of(frame: &[u8]) -> usize {
    let text = String::from_utf8_lossy(frame);
    let number = text.rsplit_once("<<").and_then(|(_, number)| number.parse().ok());
    number.unwrap_or_else(|| panic!("a frame without a mark\n{}", dump(frame)))
}

fn nothing_passes_that_neither_the_old_nor_the_new_policies_allow() {
    in_world(|world: &mut Lone| {
        let mut dice = Dice::new(0x5eed);
        let open = Policy {
            rules: Vec::new(),
            ingress: Some(true),
            egress: Some(true),
        };
        let mut states = vec![State {
            group: Group { v4: true, v6: false },
            policies: [open.clone(), open],
            web: Vec::new(),
            app: Vec::new(),
        }];
        let pairs: Vec<Probe> = (0..PAIRS)
            .map(|number| Probe {
                source: 30_000 + number as u16,
                ..Probe::roll(&mut dice)
            })
            .collect();
        let mut log = Log::default();
        for round in 1..=ROUNDS {
            states.push(State::roll(&mut dice, &states[round - 1]));
            let yaml = states[round].yaml(world);
            let sent = |probe, first, during| Sent {
                probe,
                first,
                round,
                during,
            };
            let file = world.host.path("change.yaml");
            std::fs::write(&file, &yaml).expect("the YAML is written");
            let mut change = world.host.begin(&format!("apply -f {}", file.display()));
            loop {
                let acknowledged = change.try_wait().expect("weft is our child");
                if let Some(status) = acknowledged {
                    assert!(status.success(), "change {round} was refused\n{yaml}");
                    break;
                }
                for pair in &pairs {
                    log.send(world, sent(*pair, false, true));
                    log.send(world, sent(pair.answer(), false, true));
                }
                let first = log.first(&mut dice);
                log.send(world, sent(first, true, true));
                log.collect(world, &states, Duration::from_millis(1));
            }
            // A session that the state forbids is gone after a packet, and another one is there after the next.
            for _ in 0..SETTLE {
                for pair in &pairs {
                    log.send(world, sent(*pair, false, false));
                    log.send(world, sent(pair.answer(), false, false));
                }
                log.collect(world, &states, Duration::from_millis(1));
            }
            let mut wanted = BTreeSet::new();
            for pair in &pairs {
                let first = log.first(&mut dice);
                for sent in [
                    sent(*pair, false, false),
                    sent(pair.answer(), false, false),
                    sent(first, true, false),
                ] {
                    let passes = sent.may_pass(&states);
                    let number = log.send(world, sent);
                    if passes {
                        wanted.insert(number);
                    }
                }
            }
            weft_tests::eventually("all that the new state allows has passed", || {
                log.collect(world, &states, Duration::from_millis(5));
                wanted.is_subset(&log.arrived).then_some(())
            });
        }
        log.collect(world, &states, Duration::from_millis(50));
        // Of what was sent while nothing changed: how much comes during a change depends on how long that takes.
        let settled: Vec<usize> = (0..log.sent.len())
            .filter(|number| !log.sent[*number].during)
            .collect();
        let arrived = settled
            .iter()
            .filter(|number| log.arrived.contains(*number))
            .count();
        let least = settled.len() / 10;
        assert!(
            arrived > least && settled.len() - arrived > least,
            "the states allow {arrived} of {} packets: too much or too little to prove anything",
            settled.len()
        );
        let nobody = State {
            web: Vec::new(),
            app: Vec::new(),
            ..states[0].clone()
        };
        world.host.apply(&nobody.yaml(world));
        world.host.delete("policy", "roll-0");
        world.host.delete("policy", "roll-1");
        world.host.delete("address-group", "roll");
    });
}
