//! A vRouter by hand, and the frames that it is given.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use ipnet::{IpNet, Ipv4Net};
use weft_dataplane::{
    ByHand, Config, Timeouts,
    change::{Change, DeviceSpec, Encapsulation, NextHopSpec, PortPolicy, PortSpec, TunnelTarget, VrfSpec},
    dpdk::{BURST, Batch},
    drops::Reason,
    statistics::STAGES,
};
use weft_packet::{Label, Mac, VlanId, Vni};
use weft_table::{
    NextHopId, PolicyId, PortId, VrfId,
    policy::{Action, Defaults, RuleSet},
};
use weft_tests::host;

use super::rules;
use crate::{
    fib::routes::{self, Random},
    generator::{
        frame::Frame,
        stream::{Frames, Identifier, Sizes, Tunnel},
        tuple::{Act, Addresses, Life, Ports, Sessions, Space, Tuple},
    },
    harness::{replay, turns::Samples},
};

const RED: VrfId = VrfId(1);
const TRUNK: PortId = PortId(1);
const TENANT: PortId = PortId(2);
const SINK: PortId = PortId(3);
const UPLINK: PortId = PortId(4);
const POLICY: PolicyId = PolicyId(1);
const OUT: NextHopId = NextHopId(1);
const TO_SINK: NextHopId = NextHopId(2);
const TO_TENANT: NextHopId = NextHopId(3);

/// Sessions that the table holds at most.
const SESSIONS: u32 = 1_310_720;
/// New ones that are opened beside those that are there, before all are ended.
const MORE: u64 = 200_000;
const ROUTES: usize = 1_000_000;

/// What the vRouter has and what it is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scene {
    /// Tagged packets of so many known sessions, out in VXLAN.
    Known(u64),
    /// The first packets of sessions, with about so many in the table, out in VXLAN.
    New(u64),
    /// The same with few sessions and 10,000 rules.
    ManyRules,
    /// Packet mode, a million routes, destinations in any of them.
    ManyRoutes,
    /// Known sessions that come in VXLAN and leave by a tenant's port.
    Decap,
    /// Known sessions, out in MPLS over UDP.
    MplsOverUdp,
}

impl Scene {
    fn known(self) -> Option<u64> {
        match self {
            Scene::Known(sessions) => Some(sessions),
            Scene::Decap | Scene::MplsOverUdp => Some(1000),
            Scene::New(_) | Scene::ManyRules | Scene::ManyRoutes => None,
        }
    }

    fn rules(self) -> usize {
        if self == Scene::ManyRules { 10_000 } else { 50 }
    }
}

/// See the module.
pub struct World {
    scene: Scene,
    router: ByHand,
    device: PortId,
    frame: Frame,
    sessions: Sessions,
    /// Number of the next packet.
    next: u64,
    /// In place of the sessions': as the route table has them.
    destinations: Vec<u32>,
}

impl World {
    /// Configures it, and makes known what should be.
    pub fn new(scene: Scene) -> Result<Self> {
        let config = Config {
            worker_cpus: vec![0],
            no_huge: false,
            memory_mib: 0,
            mbufs: 4095,
            mbuf_room: 256,
            file_prefix: format!("weft-{}-stages", host::run_number()),
            pci_devices: Vec::new(),
            sessions: SESSIONS,
            idle_sleep: Duration::ZERO,
            timeouts: Timeouts::default(),
        };
        let mut router = ByHand::new(&config)?;
        router.apply(configuration(scene)?)?;
        let mut destinations = Vec::new();
        if scene == Scene::ManyRoutes {
            let mut random = Random(1);
            let table = routes::table::<u32>(ROUTES, &mut random);
            destinations = routes::routed_destinations(&table, 1 << 20, &mut random);
            let change = |address, length| Change::SetRoute(RED, network(address, length), OUT);
            let all = table
                .iter()
                .map(|(prefix, _)| change(prefix.address(), prefix.length()));
            router.apply(all.collect())?;
        }
        let space = Space {
            source: addresses([10, 0, 0, 2], 8),
            destination: match scene {
                Scene::Decap => addresses([10, 2, 0, 2], 8),
                Scene::ManyRules => addresses([10, 1, 0, 2], 15),
                _ => addresses([10, 1, 0, 2], 8),
            },
            source_port: Ports::MANY,
            destination_port: Ports::MANY,
        };
        let mut world = World {
            scene,
            router,
            device: if scene == Scene::Decap { UPLINK } else { TRUNK },
            frame: frame(scene)?,
            sessions: Sessions::new(space, scene.known(), Life::Datagrams, false),
            next: 0,
            destinations,
        };
        world.prepare()?;
        Ok(world)
    }

    /// Has in the table what should be there when a turn begins.
    fn prepare(&mut self) -> Result<()> {
        let (ends, sessions) = match self.scene {
            Scene::New(sessions) if sessions >= MORE => (self.router.sessions() > sessions + MORE, sessions),
            Scene::New(sessions) => (self.router.sessions() > sessions, 0),
            Scene::ManyRules => (self.router.sessions() > 1000, 0),
            _ => (false, self.scene.known().unwrap_or(0)),
        };
        if ends {
            self.router.end_sessions();
        }
        while self.router.sessions() < sessions {
            let before = self.router.sessions();
            self.burst()?;
            ensure!(self.router.sessions() > before, "sessions do not come about");
        }
        Ok(())
    }

    fn burst(&mut self) -> Result<()> {
        let mut batch = Batch::new();
        ensure!(
            self.router.pool().allocate_bulk(&mut batch, BURST) == BURST,
            "the packet pool is empty"
        );
        for (number, mbuf) in (self.next..).zip(batch.iter_mut()) {
            let (mut tuple, _) = self.sessions.packet(number);
            if !self.destinations.is_empty() {
                tuple.destination = self.destinations[number as usize % self.destinations.len()];
            }
            self.write(mbuf.append(self.frame.length()), tuple)?;
        }
        self.next += BURST as u64;
        self.router.walk(self.device, &mut batch);
        Ok(())
    }

    fn write(&self, bytes: Option<&mut [u8]>, tuple: Tuple) -> Result<()> {
        self.frame.write(
            bytes.context("a frame does not fit its buffer")?,
            tuple,
            Act::Data,
        );
        Ok(())
    }

    /// Walks windows of so many bursts for a while: what each stage took a packet in each of them.
    pub fn turn(&mut self, duration: Duration, bursts: usize) -> Result<[Samples; STAGES.len()]> {
        let mut windows = [(); STAGES.len()].map(|()| Samples::default());
        let began = Instant::now();
        while began.elapsed() < duration || windows[0].values().len() < 10 {
            self.prepare()?;
            let (cycles, packets) = self.counted();
            for _ in 0..bursts {
                self.burst()?;
            }
            let (cycles_now, packets_now) = self.counted();
            for (stage, samples) in windows.iter_mut().enumerate() {
                let count = (packets_now[stage] - packets[stage]).max(1);
                samples.push((cycles_now[stage] - cycles[stage]) as f64 / count as f64);
            }
        }
        Ok(windows)
    }

    fn counted(&self) -> ([u64; STAGES.len()], [u64; STAGES.len()]) {
        let counters = self.router.counters();
        (counters.stage_cycles, counters.stage_packets)
    }

    /// A packet that was dropped did not walk through all stages.
    pub fn nothing_was_lost(&self) -> Result<()> {
        let counters = self.router.counters();
        for reason in Reason::ALL {
            let dropped: u64 = counters
                .ports()
                .iter()
                .map(|port| port.drops[*reason as usize])
                .sum();
            if dropped > 0 {
                bail!("{dropped} packets were dropped: {}", reason.name());
            }
        }
        let books = counters.books;
        ensure!(books.sent == books.received, "{books:?}");
        Ok(())
    }
}

fn addresses(first: [u8; 4], bits: u8) -> Addresses {
    Addresses {
        first: first.into(),
        bits,
    }
}

fn network(address: u32, length: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::from_bits(address), length))
}

fn frame(scene: Scene) -> Result<Frame> {
    let decap = scene == Scene::Decap;
    let frames = Frames {
        destination: if decap {
            Mac(replay::UPLINK)
        } else {
            Mac::VIRTUAL_ROUTER
        },
        source: if decap {
            Mac(replay::NEIGHBOUR)
        } else {
            Mac(replay::TENANT)
        },
        vlan: (!decap).then_some(replay::VLAN),
        tunnel: match decap {
            true => Some(Tunnel {
                local: replay::REMOTE.parse()?,
                remote: replay::LOCAL.parse()?,
                identifier: Identifier::Vni(replay::VNI),
            }),
            false => None,
        },
        sizes: Sizes::Fixed(64),
    };
    Frame::all(&frames, false)?.pop().context("a stream has a frame")
}

/// Everything that a scene needs.
fn configuration(scene: Scene) -> Result<Vec<Change>> {
    let remote: IpAddr = replay::REMOTE.parse()?;
    let vni = Vni::new(replay::VNI)?;
    let encapsulation = match scene {
        Scene::MplsOverUdp => Encapsulation::MplsOverUdp {
            labels: vec![Label::new(5000)?],
        },
        _ => Encapsulation::Vxlan {
            vni,
            inner_mac: Mac::VIRTUAL_ROUTER,
        },
    };
    let null = |number: u8| DeviceSpec::Ethdev {
        device: format!("net_null{number},no-rx=1"),
        queues: 1,
    };
    let hop_to = |port| NextHopSpec::Port {
        port,
        mac: None,
        vlan: None,
    };
    let set = RuleSet::new(
        rules::rules(scene.rules()),
        Defaults {
            ingress: Action::Deny,
            egress: Action::Deny,
        },
    );
    let sub_interface = DeviceSpec::Vlan {
        parent: TRUNK,
        vlan: VlanId::new(replay::VLAN.into())?,
    };
    let policy = match scene {
        Scene::ManyRoutes => PortPolicy::Open,
        _ => PortPolicy::Judged(POLICY),
    };
    Ok(vec![
        Change::SetVrf(
            RED,
            VrfSpec {
                name: "red".into(),
                packet_mode: scene == Scene::ManyRoutes,
                ..VrfSpec::default()
            },
        ),
        Change::SetPolicy(POLICY, Arc::new(set)),
        Change::SetPort(
            UPLINK,
            PortSpec {
                mac: Some(Mac(replay::UPLINK)),
                addresses: vec![format!("{}/24", replay::LOCAL).parse()?],
                neighbours: vec![(remote, Mac(replay::NEIGHBOUR))],
                mtu: 1600,
                ..port("uplink", null(0), VrfId::UNDERLAY)
            },
        ),
        Change::SetPort(TRUNK, port("trunk", null(1), RED)),
        Change::SetPort(
            TENANT,
            PortSpec {
                policy,
                ..port("tenant", sub_interface, RED)
            },
        ),
        Change::SetPort(SINK, port("sink", null(2), RED)),
        Change::SetNextHop(
            OUT,
            NextHopSpec::Tunnel {
                remote,
                local: None,
                encapsulation,
                return_vrf: None,
            },
        ),
        Change::SetNextHop(TO_SINK, hop_to(SINK)),
        Change::SetNextHop(TO_TENANT, hop_to(TENANT)),
        Change::SetRoute(RED, network(0x0a00_0000, 16), TO_TENANT),
        Change::SetRoute(RED, network(0x0a01_0000, 16), OUT),
        Change::SetRoute(RED, network(0x0a02_0000, 16), TO_SINK),
        Change::SetVni(vni, TunnelTarget::Vrf(RED)),
        Change::SetEndpoint(remote),
    ])
}

fn port(name: &str, device: DeviceSpec, vrf: VrfId) -> PortSpec {
    PortSpec {
        mac: Some(Mac(replay::TENANT)),
        ..PortSpec::new(name, device, vrf)
    }
}
