//! Decide where a packet goes: the VRF's FIB, then groups, leaks and gateways down to a hop that can be applied.
//!
//! For packets without a session (they get one, see [`learn`](super::learn)), for sessions whose route is out of date,
//! and in packet mode for every packet. Routes are looked up in bulk.
//!
//! Drops: no-route, discarded, leak-loop, empty-group, neighbour-unresolved, no-underlay-route, port-down,
//! redecision-budget.

use weft_table::{
    PortId, RouteId, VrfId,
    fib::NO_ROUTE,
    flow::{Decided, FURTHER},
    stamps::NO_OBJECT,
};

use super::{
    Context,
    burst::{Burst, direct_ingress_port},
    family::Family,
    flow,
};
use crate::{
    dpdk::BURST,
    drops::Reason,
    shared::Punt,
    snapshot::{Hop, HopId, NextHop, Role, Snapshot, Vrf},
};

/// VRFs that a packet may be led through.
const LEAKS: usize = FURTHER;
/// Sessions whose way a burst finds anew; those beyond drop, and never follow a decision that was revoked.
const REDECISIONS: usize = 48;

/// Where a packet goes, and what that was decided from.
#[derive(Clone, Copy, Debug)]
pub struct Decision {
    /// Can be applied: neither a group nor a VRF.
    pub hop: HopId,
    /// In whose table the way ended.
    pub vrf: VrfId,
    /// The first route, then those of the VRFs it led to.
    pub routes: [u32; 1 + FURTHER],
    /// The port of this host that it ends at.
    pub egress: Option<PortId>,
}

/// A packet for which a way was found, on its way through the stages that follow.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    /// Its place in the lane.
    pub position: u8,
    /// What was decided for it.
    pub decision: Decision,
    /// What its session says, if that still holds but for the policies.
    pub kept: Option<Decided>,
}

/// The packets of a burst for which a way was found, in the order in which they came.
pub struct Candidates {
    list: [Candidate; BURST],
    count: usize,
}

impl Candidates {
    fn new() -> Self {
        let none = Candidate {
            position: 0,
            decision: Decision {
                hop: HopId::RECEIVE,
                vrf: VrfId(0),
                routes: [NO_OBJECT; 1 + FURTHER],
                egress: None,
            },
            kept: None,
        };
        Candidates {
            list: [none; BURST],
            count: 0,
        }
    }

    fn push(&mut self, candidate: Candidate) {
        if let Some(place) = self.list.get_mut(self.count) {
            *place = candidate;
            self.count += 1;
        }
    }

    /// All of them.
    #[inline(always)]
    pub fn as_slice(&self) -> &[Candidate] {
        &self.list[..self.count]
    }

    /// Keeps those whose number `keep` is true for.
    pub fn retain(&mut self, mut keep: impl FnMut(usize) -> bool) {
        let mut kept = 0;
        for index in 0..self.count {
            if keep(index) {
                self.list[kept] = self.list[index];
                kept += 1;
            }
        }
        self.count = kept;
    }
}

/// The stage. `undecided` are places in the lane.
pub fn forward<F: Family>(burst: &mut Burst, context: &mut Context<'_>, undecided: &[u8]) -> Candidates {
    let mut kept = [None; BURST];
    for (kept, &position) in kept.iter_mut().zip(undecided) {
        *kept = route_holds::<F>(burst, context, usize::from(position));
    }
    let lane = F::lane(burst);
    let wanted = undecided.iter().zip(&kept).filter(|(_, kept)| kept.is_none());
    let wanted = wanted.map(|(position, _)| {
        let key = &lane.keys[usize::from(*position)];
        (F::vrf(key), F::destination(key))
    });
    let routes = lookup::<F>(context, wanted);
    let mut routes = routes.iter();
    let mut candidates = Candidates::new();
    let mut redecisions = 0;
    for (&position, kept) in undecided.iter().zip(kept) {
        let lane = F::lane(burst);
        let place = usize::from(position);
        let (key, found, index) = (
            lane.keys[place],
            lane.found[place],
            usize::from(lane.packets[place]),
        );
        if let Some(decided) = kept {
            let decision = Decision {
                hop: HopId::from_raw(decided.action as u32),
                vrf: F::vrf(&key),
                routes: [NO_OBJECT; 1 + FURTHER],
                egress: flow::egress_of(decided.action),
            };
            candidates.push(Candidate {
                position,
                decision,
                kept,
            });
            continue;
        }
        let route = routes.next().copied().unwrap_or(NO_ROUTE);
        let current = F::table(context.shared)
            .get(found)
            .map(|direction| direction.action());
        if current.is_some() {
            redecisions += 1;
            if redecisions > REDECISIONS {
                burst.drop(index, Reason::RedecisionBudget, context.counters);
                continue;
            }
        }
        let packet = &burst.packets[index];
        let decision = match direct_ingress_port(packet.ingress) {
            Some(port) => straight_to(context.snapshot, port, F::vrf(&key)),
            None => {
                let current = current.and_then(flow::hop_of);
                let destination = F::destination(&key);
                decide_from::<F>(context, F::vrf(&key), route, destination, packet.hash, current)
            }
        };
        match decision {
            Ok(decision) => candidates.push(Candidate {
                position,
                decision,
                kept,
            }),
            Err(reason) => burst.drop(index, reason, context.counters),
        }
    }
    candidates
}

/// What the packet's session says, if nothing but a policy has changed since.
fn route_holds<F: Family>(burst: &mut Burst, context: &Context<'_>, position: usize) -> Option<Decided> {
    let lane = F::lane(burst);
    let (found, index) = (lane.found[position], usize::from(lane.packets[position]));
    let table = F::table(context.shared);
    let decided = table.get(found)?.decided();
    let holds = decided.ingress == burst.packets[index].ingress
        && decided.action != flow::UNDECIDED
        && table.is_fresh(found, &decided, &context.shared.stamps);
    holds.then_some(decided)
}

/// The way of a packet whose VNI or label names its port.
fn straight_to(snapshot: &Snapshot, port: PortId, vrf: VrfId) -> Result<Decision, Reason> {
    match snapshot.port(port) {
        Some(_) => Ok(Decision {
            hop: HopId::port(port),
            vrf,
            routes: [NO_OBJECT; 1 + FURTHER],
            egress: Some(port),
        }),
        None => Err(Reason::PortDown),
    }
}

/// The routes to some destinations, a burst's worth at most: runs of one VRF are looked up together.
pub fn lookup<F: Family>(
    context: &Context<'_>,
    wanted: impl Iterator<Item = (VrfId, F::Address)>,
) -> [RouteId; BURST] {
    let mut routes = [NO_ROUTE; BURST];
    let mut destinations = [F::Address::default(); BURST];
    let mut run = VrfId(0);
    let (mut start, mut end) = (0, 0);
    let mut look = |vrf, destinations: &[F::Address], start: usize, end: usize| {
        if let Some(vrf) = context.snapshot.vrf(vrf) {
            F::fib(vrf).lookup_bulk(&destinations[start..end], &mut routes[start..end]);
        }
    };
    for (vrf, destination) in wanted.take(BURST) {
        if vrf != run {
            look(run, &destinations, start, end);
            (run, start) = (vrf, end);
        }
        destinations[end] = destination;
        end += 1;
    }
    look(run, &destinations, start, end);
    routes
}

/// Where a packet to `destination` goes from `vrf`.
pub fn decide<F: Family>(
    context: &Context<'_>,
    vrf: VrfId,
    destination: F::Address,
    hash: u32,
) -> Result<Decision, Reason> {
    let route = context
        .snapshot
        .vrf(vrf)
        .map_or(NO_ROUTE, |table| route_in::<F>(table, destination));
    decide_from::<F>(context, vrf, route, destination, hash, None)
}

fn route_in<F: Family>(vrf: &Vrf, destination: F::Address) -> RouteId {
    F::fib(vrf).lookup(destination).unwrap_or(NO_ROUTE)
}

/// As [`decide`], from a route that was looked up. `current` is the hop of a session that should stay with its group's
/// member.
pub fn decide_from<F: Family>(
    context: &Context<'_>,
    mut vrf: VrfId,
    mut route: RouteId,
    destination: F::Address,
    hash: u32,
    current: Option<HopId>,
) -> Result<Decision, Reason> {
    let snapshot = context.snapshot;
    let mut routes = [NO_OBJECT; 1 + FURTHER];
    for depth in 0..=LEAKS {
        if route == NO_ROUTE {
            return Err(Reason::NoRoute);
        }
        routes[depth] = route.0;
        let mut hop = snapshot.route(route).ok_or(Reason::NoRoute)?.next_hop;
        if let Some(Hop::Table(NextHop::Group(group))) = snapshot.hop(hop) {
            let stays = current.filter(|current| match current.kind() {
                crate::snapshot::HopKind::Table(id) => group.contains(id),
                _ => false,
            });
            hop = match stays {
                Some(current) => current,
                None => HopId::of(group.select(hash).ok_or(Reason::EmptyGroup)?),
            };
        }
        match terminal::<F>(context, snapshot, hop, destination)? {
            Way::Ends(hop, egress) => {
                return Ok(Decision {
                    hop,
                    vrf,
                    routes,
                    egress,
                });
            }
            Way::LeadsTo(next) => {
                vrf = next;
                route = snapshot
                    .vrf(vrf)
                    .map_or(NO_ROUTE, |table| route_in::<F>(table, destination));
            }
        }
    }
    Err(Reason::LeakLoop)
}

enum Way {
    /// At a port of this host, or elsewhere.
    Ends(HopId, Option<PortId>),
    LeadsTo(VrfId),
}

fn terminal<F: Family>(
    context: &Context<'_>,
    snapshot: &Snapshot,
    hop: HopId,
    destination: F::Address,
) -> Result<Way, Reason> {
    match snapshot.hop(hop).ok_or(Reason::PortDown)? {
        Hop::Receive | Hop::Neighbour(_) => Ok(Way::Ends(hop, None)),
        Hop::Port(port) => match port.role {
            // A subnet of an uplink: the destination is the neighbour.
            Role::Uplink { .. } => {
                let address = F::address(destination);
                match snapshot.neighbour_index.get(&(port.id, address)) {
                    Some(&index) => Ok(Way::Ends(HopId::neighbour(index), None)),
                    None => {
                        context.punt(Punt::Resolve {
                            port: port.id,
                            address,
                        });
                        Err(Reason::NeighbourUnresolved)
                    }
                }
            }
            _ => Ok(Way::Ends(hop, Some(port.id))),
        },
        Hop::Table(entry) => match entry {
            NextHop::Port { port, .. } => Ok(Way::Ends(hop, Some(*port))),
            NextHop::Tunnel { .. } => Ok(Way::Ends(hop, None)),
            NextHop::Receive => Ok(Way::Ends(HopId::RECEIVE, None)),
            NextHop::Gateway(Some(index)) => Ok(Way::Ends(HopId::neighbour(*index), None)),
            NextHop::Gateway(None) => Err(Reason::NoUnderlayRoute),
            NextHop::Vrf(vrf) => Ok(Way::LeadsTo(*vrf)),
            NextHop::Discard => Err(Reason::Discarded),
            // A group has no groups as members.
            NextHop::Group(_) => Err(Reason::EmptyGroup),
        },
    }
}

/// What a decision depends on, as the flow table wants it.
impl Decision {
    /// The routes behind the first.
    pub fn further(&self) -> [u32; FURTHER] {
        let mut further = [NO_OBJECT; FURTHER];
        further.copy_from_slice(&self.routes[1..]);
        further
    }
}
