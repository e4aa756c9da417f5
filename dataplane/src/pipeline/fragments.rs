//! Give later fragments the ports of their datagram's first, so that they go with its session: the same way, judged once,
//! translated alike ([`weft_table::fragments`]).
//!
//! A fragment that comes before the first leaves the burst and waits; it goes on from here, behind the first, once that
//! has come by the same worker. Packet mode needs no ports, and lets every fragment pass as it comes.
//!
//! Drops: fragment-overlap, fragment-limit, fragment-timeout, port-down.

use std::net::IpAddr;

use weft_packet::{
    ip::{Fragment, IpPacket, Piece},
    l4::Tuple,
};
use weft_table::{
    VrfId,
    fragments::{self, Part, Seen},
};

use super::{
    Context,
    burst::{Burst, Packet},
    family,
};
use crate::{
    dpdk::{BURST, Mbuf},
    drops::Reason,
    statistics::Counters,
};

/// Datagrams that a worker knows at a time.
const DATAGRAMS: u16 = 1024;
/// Fragments that wait for their first. Each keeps a packet buffer.
const WAITING: u16 = 512;

/// A worker's datagrams in fragments.
pub struct Fragments(fragments::Fragments<Datagram, First, Waiting>);

impl Default for Fragments {
    fn default() -> Self {
        Fragments(fragments::Fragments::new(DATAGRAMS, WAITING))
    }
}

/// What the fragments of a datagram have in common.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Datagram {
    vrf: VrfId,
    ingress: u32,
    source: IpAddr,
    destination: IpAddr,
    /// IPv4; of IPv6 the first fragment alone says it (RFC 8200, section 4.5).
    protocol: u8,
    identification: u32,
}

/// What the first fragment says.
#[derive(Clone, Copy)]
struct First {
    protocol: u8,
    tuple: Tuple,
}

/// A fragment that waits, as it left its burst.
struct Waiting {
    mbuf: Mbuf,
    packet: Packet,
    ip: IpPacket,
}

/// Puts a packet with sessions into its family's lane, with the ports of its datagram; or keeps it until they are known.
pub fn enlist(
    burst: &mut Burst,
    context: &mut Context<'_>,
    index: usize,
    ip: &IpPacket,
    tuple: Tuple,
) -> Result<(), Reason> {
    let (piece, own) = match ip.fragment {
        Fragment::Whole => {
            family::enlist(burst, context, index, ip, tuple, true);
            return Ok(());
        }
        Fragment::First(piece) => {
            let protocol = ip.protocol;
            (piece, Some(First { protocol, tuple }))
        }
        Fragment::Later(piece) => (piece, None),
    };
    let packet = burst.packets[index];
    let datagram = datagram(&packet, ip, &piece);
    let part = Part {
        start: piece.offset,
        end: piece.offset + piece.length,
        is_last: !piece.more,
    };
    let table = &mut context.fragments.0;
    match table.see(datagram, packet.ingress, part, own, context.now) {
        Seen::Passes(first) => {
            with_ports(burst, context, index, *ip, first);
            Ok(())
        }
        Seen::Early(place) => {
            let waiting = Waiting {
                mbuf: burst.take(index)?,
                packet,
                ip: *ip,
            };
            match table.hold(place, waiting) {
                Ok(()) => context.counters.books.held += 1,
                Err(Waiting { mbuf, .. }) => context.drop(mbuf, packet.port, Reason::FragmentLimit),
            }
            Ok(())
        }
        Seen::Overlaps => Err(Reason::FragmentOverlap),
        Seen::TooMany => Err(Reason::FragmentLimit),
    }
}

/// Fills an empty burst with fragments that wait no more. False: there are none.
#[inline]
pub fn refill(burst: &mut Burst, context: &mut Context<'_>) -> bool {
    let Some(first) = context.fragments.0.released() else {
        return false;
    };
    resume(burst, context, first);
    true
}

#[cold]
fn resume(burst: &mut Burst, context: &mut Context<'_>, first: (First, Waiting)) {
    burst.clear();
    let mut next = Some(first);
    while let Some((first, Waiting { mbuf, packet, ip })) = next {
        context.counters.books.held -= 1;
        if context.snapshot.port(packet.port).is_some() {
            let index = burst.add(mbuf, packet);
            with_ports(burst, context, index, ip, first);
        } else {
            context.drop(mbuf, packet.port, Reason::PortDown);
        }
        next = (burst.len() < BURST)
            .then(|| context.fragments.0.released())
            .flatten();
    }
}

/// Drops what has waited too long.
#[inline]
pub fn expire(fragments: &mut Fragments, counters: &mut Counters, now: u32) {
    fragments.0.expire(now, |Waiting { mbuf, packet, .. }| {
        counters.books.held -= 1;
        counters.drop(packet.port, Reason::FragmentTimeout);
        drop(mbuf);
    });
}

fn with_ports(burst: &mut Burst, context: &Context<'_>, index: usize, mut ip: IpPacket, first: First) {
    ip.protocol = first.protocol;
    family::enlist(burst, context, index, &ip, first.tuple, true);
}

fn datagram(packet: &Packet, ip: &IpPacket, piece: &Piece) -> Datagram {
    Datagram {
        vrf: packet.vrf,
        ingress: packet.ingress,
        source: ip.source(),
        destination: ip.destination(),
        protocol: if ip.is_v6() { 0 } else { ip.protocol },
        identification: piece.identification,
    }
}
