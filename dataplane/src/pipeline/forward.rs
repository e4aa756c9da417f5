//! Decide where a packet goes: the VRF's FIB, then groups, leaks and gateways down to a hop that can be applied.
//!
//! For packets without a session (they get one, see [`learn`]), for sessions whose decision is out of date, and in
//! packet mode for every packet. Routes are looked up in bulk.
//!
//! Drops: no-route, discarded, leak-loop, empty-group, neighbour-unresolved, no-underlay-route, port-down,
//! redecision-budget.

use weft_table::{RouteId, VrfId, fib::NO_ROUTE, flow::FURTHER, stamps::NO_OBJECT};

use super::{Context, burst::Burst, family::Family, flow, learn};
use crate::{
    dpdk::BURST,
    drops::Reason,
    shared::Punt,
    snapshot::{Hop, HopId, NextHop, Role, Snapshot, Vrf},
};

/// VRFs that a packet may be led through.
const LEAKS: usize = FURTHER;
/// Sessions that a burst decides anew; those beyond drop, and never follow a decision that was revoked.
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
}

/// The stage. How many packets it decided.
#[inline(never)]
pub fn forward<F: Family>(burst: &mut Burst, context: &mut Context<'_>) -> u64 {
    let (undecided, count) = undecided::<F>(burst);
    if count == 0 {
        return 0;
    }
    let routes = routes::<F>(burst, context, &undecided[..count]);
    let mut redecisions = 0;
    for (&position, &route) in undecided[..count].iter().zip(&routes) {
        let position = usize::from(position);
        let lane = F::lane(burst);
        let (key, hash) = (lane.keys[position], lane.hashes[position]);
        let (found, index, stateful) = (
            lane.found[position],
            usize::from(lane.packets[position]),
            position < lane.stateful,
        );
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
        let current = current
            .filter(|action| *action != flow::UNDECIDED)
            .map(|action| HopId::from_raw(action as u32));
        let flow_hash = burst.packets[index].hash;
        let decision = decide_from::<F>(
            context,
            F::vrf(&key),
            route,
            F::destination(&key),
            flow_hash,
            current,
        );
        let outcome = decision.and_then(|decision| match stateful {
            true => learn::learn::<F>(burst, context, index, &key, hash, found, &decision),
            false => Ok(decision.hop),
        });
        match outcome {
            Ok(hop) => burst.send(index, hop),
            Err(reason) => burst.drop(index, reason, context.counters),
        }
    }
    count as u64
}

/// Positions in the lane: sessions to be decided, then the packets of packet mode.
fn undecided<F: Family>(burst: &mut Burst) -> ([u8; BURST], usize) {
    let lane = F::lane(burst);
    let (mut positions, mut count) = (lane.undecided, lane.undecided_count);
    for position in (BURST - lane.stateless)..BURST {
        positions[count] = position as u8;
        count += 1;
    }
    // Packet mode fills the lane from its end: back in the order of arrival.
    positions[lane.undecided_count..count].reverse();
    (positions, count)
}

/// The routes of some packets: runs of one VRF are looked up together.
fn routes<F: Family>(burst: &mut Burst, context: &Context<'_>, positions: &[u8]) -> [RouteId; BURST] {
    let mut routes = [NO_ROUTE; BURST];
    let mut destinations = [F::Address::default(); BURST];
    let lane = F::lane(burst);
    for (destination, &position) in destinations.iter_mut().zip(positions) {
        *destination = F::destination(&lane.keys[usize::from(position)]);
    }
    let vrf_at = |at: usize| F::vrf(&lane.keys[usize::from(positions[at])]);
    let mut start = 0;
    while start < positions.len() {
        let vrf = vrf_at(start);
        let mut end = start + 1;
        while end < positions.len() && vrf_at(end) == vrf {
            end += 1;
        }
        if let Some(vrf) = context.snapshot.vrf(vrf) {
            F::fib(vrf).lookup_bulk(&destinations[start..end], &mut routes[start..end]);
        }
        start = end;
    }
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
fn decide_from<F: Family>(
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
            Way::Ends(hop) => return Ok(Decision { hop, vrf, routes }),
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
    Ends(HopId),
    LeadsTo(VrfId),
}

fn terminal<F: Family>(
    context: &Context<'_>,
    snapshot: &Snapshot,
    hop: HopId,
    destination: F::Address,
) -> Result<Way, Reason> {
    match snapshot.hop(hop).ok_or(Reason::PortDown)? {
        Hop::Receive | Hop::Neighbour(_) => Ok(Way::Ends(hop)),
        Hop::Port(port) => match port.role {
            // A subnet of an uplink: the destination is the neighbour.
            Role::Uplink { .. } => {
                let address = F::address(destination);
                match snapshot.neighbour_index.get(&(port.id, address)) {
                    Some(&index) => Ok(Way::Ends(HopId::neighbour(index))),
                    None => {
                        context.punt(Punt::Resolve {
                            port: port.id,
                            address,
                        });
                        Err(Reason::NeighbourUnresolved)
                    }
                }
            }
            _ => Ok(Way::Ends(hop)),
        },
        Hop::Table(entry) => match entry {
            NextHop::Port { .. } | NextHop::Tunnel { .. } => Ok(Way::Ends(hop)),
            NextHop::Receive => Ok(Way::Ends(HopId::RECEIVE)),
            NextHop::Gateway(Some(index)) => Ok(Way::Ends(HopId::neighbour(*index))),
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
