//! Do to each packet what was decided: hand it to its port, its tunnel, or to the vRouter itself.
//!
//! The TTL is taken down here, once a vRouter; headers are put in front by [`encap`](super::encap).
//!
//! Drops: ttl-exceeded, port-down, neighbour-unresolved, no-underlay-route, discarded, and those of `encap` and `local`.

use weft_packet::rewrite;
use weft_table::PortId;

use super::{
    Context,
    burst::{Burst, Packet},
    encap::{self, Egress},
    local,
};
use crate::{
    dpdk::Mbuf,
    drops::Reason,
    snapshot::{Hop, HopId, NextHop, Port, TunnelPath},
};

/// The stage.
pub fn apply(burst: &mut Burst, context: &mut Context<'_>) {
    let (ready, count) = burst.ready();
    for &index in &ready[..count] {
        let index = usize::from(index);
        if let Some(mbuf) = burst.mbufs[index].take() {
            let packet = burst.packets[index];
            route(context, mbuf, &packet, Ttl::Decrement);
        }
    }
}

/// Whether a packet is forwarded, or starts here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ttl {
    /// Forwarded: one hop less.
    Decrement,
    /// The vRouter's own.
    Keep,
}

/// Sends one packet, which starts with its IP header, where its hop says.
#[inline(always)]
pub fn route(context: &mut Context<'_>, mut mbuf: Mbuf, packet: &Packet, ttl: Ttl) {
    let snapshot = context.snapshot;
    let hop = snapshot.hop(packet.hop);
    if ttl == Ttl::Decrement && !matches!(hop, Some(Hop::Receive)) && !rewrite::decrement_ttl(mbuf.data_mut())
    {
        return context.drop(mbuf, packet.port, Reason::TtlExceeded);
    }
    let egress = match hop {
        Some(Hop::Table(NextHop::Port { port, header, .. })) => match snapshot.port(*port) {
            Some(port) => Ok(Egress {
                port,
                header,
                template: None,
            }),
            None => Err(Reason::PortDown),
        },
        Some(Hop::Table(NextHop::Tunnel { paths, .. })) => tunnel(context, paths, packet),
        Some(Hop::Neighbour(_)) => neighbour(context, packet),
        Some(Hop::Port(port)) => Ok(Egress {
            port,
            header: &port.header,
            template: None,
        }),
        Some(Hop::Receive) => return local::receive(context, mbuf, packet),
        Some(Hop::Table(NextHop::Discard)) => Err(Reason::Discarded),
        Some(Hop::Table(_)) | None => Err(Reason::PortDown),
    };
    match egress {
        Ok(egress) => encap::send(context, mbuf, packet, &egress),
        Err(reason) => context.drop(mbuf, packet.port, reason),
    }
}

/// Flows are spread over the ways to the remote by their hash.
#[inline(always)]
fn tunnel<'a>(context: &Context<'a>, paths: &'a [TunnelPath], packet: &Packet) -> Result<Egress<'a>, Reason> {
    let path = match paths {
        [] => return Err(Reason::NoUnderlayRoute),
        [only] => only,
        several => &several[((u64::from(packet.hash) * several.len() as u64) >> 32) as usize],
    };
    let neighbour = context
        .snapshot
        .neighbours
        .get(path.neighbour as usize)
        .ok_or(Reason::NoUnderlayRoute)?;
    let header = neighbour.header.as_ref().ok_or(Reason::NeighbourUnresolved)?;
    let port = underlay_port(context, neighbour.port)?;
    Ok(Egress {
        port,
        header,
        template: Some(&path.template),
    })
}

fn neighbour<'a>(context: &Context<'a>, packet: &Packet) -> Result<Egress<'a>, Reason> {
    let Some(Hop::Neighbour(neighbour)) = context.snapshot.hop(packet.hop) else {
        return Err(Reason::NeighbourUnresolved);
    };
    let header = neighbour.header.as_ref().ok_or(Reason::NeighbourUnresolved)?;
    let port = underlay_port(context, neighbour.port)?;
    Ok(Egress {
        port,
        header,
        template: None,
    })
}

fn underlay_port<'a>(context: &Context<'a>, port: Option<PortId>) -> Result<&'a Port, Reason> {
    port.and_then(|port| context.snapshot.port(port))
        .ok_or(Reason::PortDown)
}

/// Routes a packet that starts here: an answer of the vRouter, already at its IP header.
pub fn originate(context: &mut Context<'_>, mbuf: Mbuf, mut packet: Packet, hop: HopId) {
    packet.hop = hop;
    route(context, mbuf, &packet, Ttl::Keep);
}
