//! Do to each packet what was decided: hand it to its port, its tunnel, or to the vRouter itself.
//!
//! The TTL is taken down here, once a vRouter; addresses are translated as the session says ([`nat`]); headers are put in front by [`encap`](super::encap).
//!
//! Drops: ttl-exceeded, port-down, neighbour-unresolved, no-underlay-route, discarded,
//! untranslatable, nat-without-session, and those of `encap` and `local`.

use weft_packet::{rewrite, tunnel::Template};

use super::{
    Context,
    burst::{Burst, Packet},
    encap::{self, Egress, Front},
    local, nat,
};
use crate::{
    dpdk::{BURST, Mbuf},
    drops::Reason,
    snapshot::{Hop, HopId, Neighbour, NextHop, TunnelPath},
};

/// The stage.
#[inline(never)]
pub fn apply(burst: &mut Burst, context: &mut Context<'_>) {
    let (ready, count) = burst.ready();
    let ready = &ready[..count];
    let mut start = 0;
    // Packets come in trains: the way is found once for those that have the same.
    while let Some(&first) = ready.get(start) {
        let first = usize::from(first) % BURST;
        start += match way(context, &burst.packets[first]) {
            Way::Out(egress) if burst.packets[first].hop.is_translated() => {
                train::<true>(burst, context, &ready[start..], &egress)
            }
            Way::Out(egress) => train::<false>(burst, context, &ready[start..], &egress),
            way => {
                if let Some(mbuf) = burst.mbufs[first].take() {
                    alone(context, mbuf, &burst.packets[first], way);
                }
                1
            }
        };
    }
}

/// Sends the packets that have the same hop as the first; how many they are. A hop says whether they are translated.
#[inline(always)]
fn train<const TRANSLATED: bool>(
    burst: &mut Burst,
    context: &mut Context<'_>,
    ready: &[u8],
    egress: &Egress<'_>,
) -> usize {
    let front = Front::new(egress);
    let mut hop = None;
    for (count, &index) in ready.iter().enumerate() {
        let index = usize::from(index) % BURST;
        let packet = &burst.packets[index];
        if *hop.get_or_insert(packet.hop) != packet.hop {
            return count;
        }
        if let Some(mut mbuf) = burst.mbufs[index].take() {
            if TRANSLATED && !nat::translate(context, &mut mbuf, packet) {
                context.drop(mbuf, packet.port, Reason::Untranslatable);
                continue;
            }
            forward(context, mbuf, packet, &front);
        }
    }
    ready.len()
}

/// A packet whose way others do not share.
fn alone(context: &mut Context<'_>, mut mbuf: Mbuf, packet: &Packet, way: Way<'_>) {
    if packet.hop.is_translated() && !nat::translate(context, &mut mbuf, packet) {
        return context.drop(mbuf, packet.port, Reason::Untranslatable);
    }
    match way {
        Way::Out(egress) | Way::OutByHash(egress) => forward(context, mbuf, packet, &Front::new(&egress)),
        Way::Receive => local::receive(context, mbuf, packet),
        Way::Ends(reason) => {
            // A packet that has no hops left says so, whatever became of its way.
            let reason = match rewrite::decrement_ttl(mbuf.data_mut()) {
                true => reason,
                false => Reason::TtlExceeded,
            };
            context.drop(mbuf, packet.port, reason);
        }
    }
}

/// One hop less, and out.
#[inline(always)]
fn forward(context: &mut Context<'_>, mut mbuf: Mbuf, packet: &Packet, front: &Front<'_>) {
    let forwarded = if packet.v6 {
        rewrite::decrement_hop_limit(mbuf.data_mut())
    } else {
        rewrite::decrement_ttl_v4(mbuf.data_mut())
    };
    if forwarded {
        front.send(context, mbuf, packet);
    } else {
        context.drop(mbuf, packet.port, Reason::TtlExceeded);
    }
}

/// What becomes of a packet.
pub enum Way<'a> {
    /// Out, as all packets with this hop.
    Out(Egress<'a>),
    /// Out; packets with another hash may leave another way.
    OutByHash(Egress<'a>),
    /// To the vRouter itself.
    Receive,
    /// Dropped.
    Ends(Reason),
}

impl<'a> From<Result<Egress<'a>, Reason>> for Way<'a> {
    fn from(egress: Result<Egress<'a>, Reason>) -> Self {
        egress.map_or_else(Way::Ends, Way::Out)
    }
}

/// Where a packet's hop leads.
#[inline(never)]
pub fn way<'a>(context: &Context<'a>, packet: &Packet) -> Way<'a> {
    let snapshot = context.snapshot;
    match snapshot.hop(packet.hop) {
        Some(Hop::Table(NextHop::Port { port, header, .. })) => match snapshot.port(*port) {
            Some(port) => Way::Out(Egress {
                port,
                header,
                template: None,
            }),
            None => Way::Ends(Reason::PortDown),
        },
        Some(Hop::Table(NextHop::Tunnel { paths, .. })) => match &**paths {
            [] => Way::Ends(Reason::NoUnderlayRoute),
            [only] => path(context, only).into(),
            several => {
                let path = path(context, spread(several, packet.hash));
                path.map_or_else(Way::Ends, Way::OutByHash)
            }
        },
        Some(Hop::Neighbour(neighbour)) => neighbour_egress(context, neighbour, None).into(),
        Some(Hop::Port(port)) => Way::Out(Egress {
            port,
            header: &port.header,
            template: None,
        }),
        Some(Hop::Receive) => Way::Receive,
        Some(Hop::Table(NextHop::Discard)) => Way::Ends(Reason::Discarded),
        Some(Hop::Table(_) | Hop::FloatingIp(_) | Hop::Pool(_) | Hop::VirtualIp(_)) | None => {
            Way::Ends(Reason::PortDown)
        }
    }
}

/// Flows are spread over the ways to a remote by their hash.
#[inline(always)]
fn spread(paths: &[TunnelPath], hash: u32) -> &TunnelPath {
    &paths[((u64::from(hash) * paths.len() as u64) >> 32) as usize]
}

#[inline(always)]
fn path<'a>(context: &Context<'a>, path: &'a TunnelPath) -> Result<Egress<'a>, Reason> {
    let neighbour = context
        .snapshot
        .neighbours
        .get(path.neighbour as usize)
        .ok_or(Reason::NoUnderlayRoute)?;
    neighbour_egress(context, neighbour, Some(&path.template))
}

#[inline(always)]
fn neighbour_egress<'a>(
    context: &Context<'a>,
    neighbour: &'a Neighbour,
    template: Option<&'a Template>,
) -> Result<Egress<'a>, Reason> {
    let header = neighbour.header.as_ref().ok_or(Reason::NeighbourUnresolved)?;
    let port = neighbour.port.and_then(|port| context.snapshot.port(port));
    Ok(Egress {
        port: port.ok_or(Reason::PortDown)?,
        header,
        template,
    })
}

/// Routes a packet that starts here: an answer of the vRouter, already at its IP header, with its whole TTL.
pub fn originate(context: &mut Context<'_>, mbuf: Mbuf, mut packet: Packet, hop: HopId) {
    packet.hop = hop;
    if hop.is_translated() {
        return context.drop(mbuf, packet.port, Reason::NatWithoutSession);
    }
    match way(context, &packet) {
        Way::Out(egress) | Way::OutByHash(egress) => encap::send(context, mbuf, &packet, &egress),
        Way::Receive => local::receive(context, mbuf, &packet),
        Way::Ends(reason) => context.drop(mbuf, packet.port, reason),
    }
}
