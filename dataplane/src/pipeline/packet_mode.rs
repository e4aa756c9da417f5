//! Forward packets without sessions (packet mode), as most of them go: by a route that leads to one tunnel, neighbour or
//! port for all, between ports that are open to everybody.
//!
//! What a route leads to is worked out once for a train of packets. Groups, leaks, policies and everything that must be
//! told apart packet by packet is left to the general way, [`forward`](super::forward).

use weft_table::{PortId, RouteId, fib::NO_ROUTE, flow::DirectionIndex};

use super::{
    Context,
    burst::{Burst, direct_ingress_port, ingress_port},
    family::Family,
    routes,
};
use crate::{
    change::PortPolicy,
    dpdk::BURST,
    snapshot::{Hop, HopId, NextHop, Role, Snapshot},
};

/// The stage. How many packets it forwarded; the others wait for the general way among those that are to be decided.
#[inline(never)]
pub fn forward<F: Family>(burst: &mut Burst, context: &mut Context<'_>) -> u64 {
    let lane = F::lane(burst);
    let count = lane.stateless;
    if count == 0 {
        return 0;
    }
    // They fill the lane from its end: back in the order of arrival.
    let positions = (BURST - count..BURST).rev();
    let wanted = positions.clone().map(|position| {
        let key = &lane.keys[position];
        (F::vrf(key), F::destination(key))
    });
    let routes = routes::lookup::<F>(context, wanted);
    lane.stateless = 0;
    let mut forwarded = 0;
    let mut before = (0, NO_ROUTE, None);
    for (position, &route) in positions.zip(&routes) {
        let index = usize::from(F::lane(burst).packets[position]);
        let ingress = burst.packets[index].ingress;
        if (before.0, before.1) != (ingress, route) || route == NO_ROUTE {
            before = (ingress, route, way(context.snapshot, ingress, route));
        }
        match before.2 {
            Some(hop) => {
                burst.send(index, hop, DirectionIndex::NONE);
                forwarded += 1;
            }
            None => F::lane(burst).leave_undecided(position),
        }
    }
    forwarded
}

/// Where all packets go that came this way and have this route. None: they may differ.
fn way(snapshot: &Snapshot, ingress: u32, route: RouteId) -> Option<HopId> {
    let is_open = |port: PortId| {
        let port = snapshot.port(port);
        port.is_some_and(|port| port.policy == PortPolicy::Open)
    };
    if direct_ingress_port(ingress).is_some() || !ingress_port(ingress).is_none_or(is_open) {
        return None;
    }
    let hop = snapshot.route(route)?.next_hop;
    match snapshot.hop(hop)? {
        Hop::Table(NextHop::Tunnel { .. }) | Hop::Neighbour(_) => Some(hop),
        Hop::Table(NextHop::Port { port, .. }) => is_open(*port).then_some(hop),
        Hop::Port(port) => (port.role == Role::Tenant && is_open(port.id)).then_some(hop),
        _ => None,
    }
}
