//! The control thread's own tables, from which each snapshot is made.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use hashbrown::{HashMap, HashSet};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use weft_packet::{Label, Vni};
use weft_table::{
    AddressGroupId, NextHopId, PolicyId, PortId, RouteId, VrfId,
    fib::{Fib, Prefix},
};

use super::neighbours::Neighbours;
use crate::{
    change::{NextHopSpec, PortSpec, TunnelTarget, VrfSpec},
    port::Driver,
    shared::Changed,
    snapshot::{Snapshot, Vrf},
};

/// Everything that configuration is, and the snapshot that is being made of it.
pub struct State {
    /// Shares its tables with the snapshots that were published.
    pub draft: Snapshot,
    pub vrfs: HashMap<VrfId, VrfEntry>,
    pub ports: BTreeMap<PortId, PortEntry>,
    pub hops: HashMap<NextHopId, HopEntry>,
    pub vnis: HashMap<Vni, TunnelTarget>,
    pub labels: HashMap<Label, TunnelTarget>,
    /// Remotes and their numbers as ingresses; a number is never given to another remote.
    pub endpoints: HashMap<IpAddr, Endpoint>,
    pub neighbours: Neighbours,
    /// Policies and how many ports have each.
    pub policies: HashMap<PolicyId, u32>,
    /// Address groups and how many policies name each.
    pub address_groups: HashMap<AddressGroupId, u32>,
    /// What sessions compare their decisions with.
    pub changed: Arc<Changed>,
    pub route_ids: Numbers,
    pub virtual_ip_ids: Numbers,
    pub touched: Touched,
    pub incarnations: u32,
    pub next_endpoint: u32,
    pub workers: u16,
}

/// A VRF and its routes.
pub struct VrfEntry {
    pub spec: VrfSpec,
    pub fib4: Fib<u32>,
    pub fib6: Fib<u128>,
    pub no_route: RouteId,
    /// Ports, leaks and targets that name it.
    pub users: u32,
}

impl VrfEntry {
    /// The route of exactly this prefix.
    pub fn get(&self, prefix: IpNet) -> Option<RouteId> {
        match prefix {
            IpNet::V4(prefix) => self.fib4.get(prefix4(prefix)),
            IpNet::V6(prefix) => self.fib6.get(prefix6(prefix)),
        }
    }

    /// Adds a route; what decided its traffic before: the route that covers it, or that there is none.
    pub fn insert(&mut self, prefix: IpNet, route: RouteId) -> RouteId {
        let cover = match prefix {
            IpNet::V4(prefix) => {
                self.fib4.insert(prefix4(prefix), route);
                self.fib4.covering(prefix4(prefix)).map(|(_, route)| route)
            }
            IpNet::V6(prefix) => {
                self.fib6.insert(prefix6(prefix), route);
                self.fib6.covering(prefix6(prefix)).map(|(_, route)| route)
            }
        };
        cover.unwrap_or(self.no_route)
    }

    /// Removes the route of exactly this prefix.
    pub fn remove(&mut self, prefix: IpNet) -> Option<RouteId> {
        match prefix {
            IpNet::V4(prefix) => self.fib4.remove(prefix4(prefix)),
            IpNet::V6(prefix) => self.fib6.remove(prefix6(prefix)),
        }
    }

    /// The route that decides an address.
    pub fn longest_match(&self, address: IpAddr) -> Option<RouteId> {
        match address {
            IpAddr::V4(address) => self.fib4.longest_match(address.into()).map(|(_, route)| route),
            IpAddr::V6(address) => self.fib6.longest_match(address.into()).map(|(_, route)| route),
        }
    }

    /// Routes of both families.
    pub fn routes(&self) -> usize {
        self.fib4.len() + self.fib6.len()
    }
}

fn prefix4(prefix: Ipv4Net) -> Prefix<u32> {
    Prefix::containing(prefix.addr().into(), prefix.prefix_len())
}

fn prefix6(prefix: Ipv6Net) -> Prefix<u128> {
    Prefix::containing(prefix.addr().into(), prefix.prefix_len())
}

/// A port and its device.
#[derive(Clone)]
pub struct PortEntry {
    pub spec: PortSpec,
    pub incarnation: u32,
    /// Shared with the snapshots: what the last look at the link said.
    pub link_up: Arc<AtomicBool>,
    /// The port's device, or its parent's.
    pub driver: Arc<Driver>,
    /// Sub-interfaces, next hops and targets that name it.
    pub users: u32,
    /// An uplink's host tap: it comes and goes with the uplink.
    pub host: Option<(PortId, Box<PortEntry>)>,
    /// Set on a host's tap.
    pub uplink: Option<PortId>,
}

impl PortEntry {
    /// What the last look at the link said.
    pub fn is_up(&self) -> bool {
        self.link_up.load(Ordering::Relaxed)
    }
}

/// A next hop as asked for, and how many routes and groups lead to it.
#[derive(Clone)]
pub struct HopEntry {
    pub spec: NextHopSpec,
    pub users: u32,
}

/// A tunnel's remote.
#[derive(Clone, Copy)]
pub struct Endpoint {
    pub number: u32,
    /// Named as an endpoint by the control half.
    pub configured: bool,
    /// Next hops that lead to it.
    pub users: u32,
}

/// What the next snapshot must make anew.
#[derive(Default)]
pub struct Touched {
    pub vrfs: HashSet<VrfId>,
    pub ports: HashSet<PortId>,
    pub hops: HashSet<NextHopId>,
    /// Routes of VRF 0, neighbours or uplinks: every tunnel is resolved again.
    pub underlay: bool,
    /// A port came or went, or its link changed: groups look at their members again.
    pub reachability: bool,
    /// A tunnel or gateway went: its neighbours may not be needed any more.
    pub neighbours: bool,
    pub targets: bool,
    pub endpoints: bool,
    /// Something that sessions depend on.
    pub decisions: bool,
}

/// Hands out numbers, the lowest free one first.
#[derive(Default)]
pub struct Numbers {
    next: u32,
    free: Vec<u32>,
}

impl Numbers {
    pub fn take(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.next += 1;
            self.next - 1
        })
    }

    pub fn give_back(&mut self, number: u32) {
        self.free.push(number);
    }
}

impl State {
    /// A vRouter with the underlay's VRF and nothing else.
    pub fn new(workers: u16, changed: Arc<Changed>) -> Self {
        let mut state = State {
            draft: Snapshot::empty(usize::from(workers)),
            vrfs: HashMap::new(),
            ports: BTreeMap::new(),
            hops: HashMap::new(),
            vnis: HashMap::new(),
            labels: HashMap::new(),
            endpoints: HashMap::new(),
            neighbours: Neighbours::default(),
            policies: HashMap::new(),
            address_groups: HashMap::new(),
            changed,
            route_ids: Numbers::default(),
            virtual_ip_ids: Numbers::default(),
            touched: Touched::default(),
            incarnations: 0,
            next_endpoint: 0,
            workers,
        };
        state.add_vrf(
            VrfId::UNDERLAY,
            VrfSpec {
                name: "underlay".into(),
                ..VrfSpec::default()
            },
        );
        state
    }

    /// Adds a VRF without routes.
    pub fn add_vrf(&mut self, id: VrfId, spec: VrfSpec) {
        let no_route = RouteId(self.route_ids.take());
        let (fib4, fib6) = (Fib::new(), Fib::new());
        self.vrfs.insert(
            id,
            VrfEntry {
                spec,
                fib4,
                fib6,
                no_route,
                users: 0,
            },
        );
        self.touched.vrfs.insert(id);
    }

    /// Number of the snapshot that is being made.
    pub fn number(&self) -> u64 {
        self.draft.number + 1
    }

    /// Sessions that were decided by this route look again.
    pub fn route_changed(&mut self, route: RouteId) {
        self.stamp_route(route, self.number());
        self.touched.decisions = true;
    }

    fn stamp_route(&self, route: RouteId, number: u64) {
        if let Err(error) = self.changed.routes.set(route.0, number) {
            tracing::error!(%error, "sessions of route {route} keep a decision that has changed");
        }
    }

    /// Sessions that were decided by this route look again, if their destination is in the prefix that it lost.
    pub fn route_narrowed(&mut self, route: RouteId, lost: IpNet) {
        if self.changed.narrowed.set(route.0, self.number()).is_err() {
            return self.route_changed(route);
        }
        let number = self.number();
        let retired = match lost {
            IpNet::V4(lost) => Arc::make_mut(&mut self.draft.narrowed4).push(number, route, prefix4(lost)),
            IpNet::V6(lost) => Arc::make_mut(&mut self.draft.narrowed6).push(number, route, prefix6(lost)),
        };
        if let Some((number, route)) = retired {
            self.stamp_route(route, number);
        }
        self.touched.decisions = true;
    }

    /// A tunnel's remote: its number as an ingress.
    pub fn endpoint(&mut self, remote: IpAddr) -> &mut Endpoint {
        self.touched.endpoints = true;
        let next = &mut self.next_endpoint;
        self.endpoints.entry(remote).or_insert_with(|| {
            *next += 1;
            Endpoint {
                number: *next - 1,
                configured: false,
                users: 0,
            }
        })
    }

    /// Forgets a remote that nobody names any more.
    pub fn release_endpoint(&mut self, remote: IpAddr) {
        if self
            .endpoints
            .get(&remote)
            .is_some_and(|endpoint| !endpoint.configured && endpoint.users == 0)
        {
            self.endpoints.remove(&remote);
        }
        self.touched.endpoints = true;
    }

    /// Puts together what was touched and counts the snapshot. The caller publishes the draft.
    pub fn finish(&mut self) -> &Snapshot {
        self.rebuild_ports();
        if self.touched.underlay {
            self.touch_tunnels();
        }
        self.rebuild_hops();
        if std::mem::take(&mut self.touched.neighbours) {
            self.release_neighbours();
        }
        let vrfs: Vec<_> = self.touched.vrfs.drain().collect();
        for id in vrfs {
            let vrf = self.vrfs.get_mut(&id).map(|entry| {
                Arc::new(Vrf {
                    fib4: entry.fib4.publish(),
                    fib6: entry.fib6.publish(),
                    no_route: entry.no_route,
                    packet_mode: entry.spec.packet_mode,
                    timeouts: entry.spec.timeouts,
                })
            });
            self.draft.vrfs.set(id.index(), vrf);
        }
        if std::mem::take(&mut self.touched.targets) {
            self.rebuild_targets();
        }
        if std::mem::take(&mut self.touched.endpoints) {
            let numbers = self
                .endpoints
                .iter()
                .map(|(address, endpoint)| (*address, endpoint.number));
            self.draft.endpoints = Arc::new(numbers.collect());
        }
        self.draft.number += 1;
        if std::mem::take(&mut self.touched.decisions) {
            self.draft.decided = self.draft.number;
        }
        self.touched = Touched::default();
        &self.draft
    }

    fn rebuild_targets(&mut self) {
        use crate::snapshot::Target;
        let target = |target: &TunnelTarget| match *target {
            TunnelTarget::Vrf(vrf) => Target::Vrf(vrf),
            TunnelTarget::Port(port) => Target::Port(port),
        };
        self.draft.vnis = Arc::new(self.vnis.iter().map(|(vni, to)| (*vni, target(to))).collect());
        self.draft.labels = Arc::new(
            self.labels
                .iter()
                .map(|(label, to)| (*label, target(to)))
                .collect(),
        );
    }
}
