//! Make a session of the first packet's decision: both directions at once, no agent asked. Or give a session whose
//! decision is out of date its new one.
//!
//! The answers are looked up in the VRF of the port by which the packet leaves; those out of a tunnel in the VRF whose
//! route led into it (the initiator's, or the one that leaks led to), unless the next hop names another.
//!
//! Drops: session-table-full, session-conflict.

use weft_table::{
    VrfId,
    flow::{self as table, DirectionIndex, InsertError, Key, NewDirection, NewSession},
};

use super::{
    Context,
    burst::{Burst, port_ingress, tunnel_ingress},
    family::Family,
    flow::{UNDECIDED, account},
    forward::{self, Decision},
};
use crate::{
    drops::Reason,
    snapshot::{Hop, HopId, NextHop, Role, Snapshot},
};

/// Puts the decision into the flow table; the hop that the packet takes.
pub fn learn<F: Family>(
    burst: &Burst,
    context: &mut Context<'_>,
    index: usize,
    key: &F::Key,
    hash: u64,
    found: DirectionIndex,
    decision: &Decision,
) -> Result<HopId, Reason> {
    let ingress = burst.packets[index].ingress;
    let forward = entry(context, decision, ingress);
    if found.is_some() {
        F::table(context.shared).redecide(found, &forward);
        account::<F>(burst, context, index, found);
        return Ok(decision.hop);
    }
    // What the vRouter answers itself leaves no session.
    let Some((reverse_ingress, reverse_vrf)) = way_back(context.snapshot, decision) else {
        return Ok(decision.hop);
    };
    let reverse_key = key.reversed(reverse_vrf);
    let back = forward::decide::<F>(context, reverse_vrf, F::source(key), burst.packets[index].hash);
    let reverse = match back {
        Ok(back) => entry(context, &back, reverse_ingress),
        Err(_) => table::Decision::new(
            UNDECIDED,
            reverse_ingress,
            weft_table::stamps::NO_OBJECT,
            forward.stamp,
        ),
    };
    let sessions = F::table(context.shared);
    let session = NewSession {
        forward: NewDirection {
            key: *key,
            hash,
            decision: forward,
        },
        reverse: NewDirection {
            key: reverse_key,
            hash: sessions.hash(&reverse_key),
            decision: reverse,
        },
        now: context.now,
    };
    match sessions.insert(F::flows(context.flows), &session) {
        Ok(inserted) => {
            account::<F>(burst, context, index, inserted.direction());
            Ok(decision.hop)
        }
        Err(InsertError::Conflict) => Err(Reason::SessionConflict),
        Err(InsertError::Full | InsertError::Busy) => Err(Reason::SessionTableFull),
    }
}

fn entry(context: &Context<'_>, decision: &Decision, ingress: u32) -> table::Decision {
    table::Decision {
        action: u64::from(decision.hop.raw()),
        ingress,
        route: decision.routes[0],
        further: decision.further(),
        stamp: context.snapshot.number.max(1),
    }
}

/// By which way and in which VRF the answers will come. None: the vRouter answers itself.
fn way_back(snapshot: &Snapshot, decision: &Decision) -> Option<(u32, VrfId)> {
    match snapshot.hop(decision.hop)? {
        Hop::Table(NextHop::Port { port, vrf, .. }) => Some((port_ingress(*port), *vrf)),
        Hop::Table(NextHop::Tunnel {
            endpoint, return_vrf, ..
        }) => Some((tunnel_ingress(*endpoint), return_vrf.unwrap_or(decision.vrf))),
        Hop::Neighbour(neighbour) => Some((port_ingress(neighbour.port?), VrfId::UNDERLAY)),
        Hop::Port(port) => Some((port_ingress(port.id), port.vrf)),
        Hop::Receive if decision.vrf == VrfId::UNDERLAY => {
            let host = snapshot
                .local
                .v4
                .iter()
                .map(|(_, port)| *port)
                .chain(snapshot.local.v6.iter().map(|(_, port)| *port));
            let host = host.filter_map(|uplink| match snapshot.port(uplink)?.role {
                Role::Uplink { host } => host,
                _ => None,
            });
            host.map(|host| (port_ingress(host), VrfId::UNDERLAY)).next()
        }
        _ => None,
    }
}
