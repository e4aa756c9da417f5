//! Tell the sender of a packet that is not let through: by a TCP reset or an ICMP error, see [`refusal`].
//!
//! The packet itself is dropped by whoever refuses it, with the reason for that; the answer is a packet of its own. How
//! many answers a port gets is bounded ([`rate`](crate::pipeline::rate)), as RFC 1812 (section 4.3.2.8) and RFC 4443 (section 2.4 f)
//! want it: beyond that packets are dropped without a word.

use weft_packet::{
    ip::{self, Addresses},
    refusal::{Because, Refusal},
};

use crate::{
    dpdk::{Mbuf, clock},
    pipeline::{
        Context, apply,
        burst::Packet,
        family::{V4, V6},
        routes,
    },
    snapshot::Hop,
};

/// Answers a packet that starts with its IP header, untranslated, as it came. The caller drops it.
#[cold]
pub fn refuse(context: &mut Context<'_>, refused: &Mbuf, packet: &Packet, because: Because) {
    let Ok(ip) = ip::parse(refused.data(), refused.len()) else {
        return;
    };
    let Some(refusal) = Refusal::of(refused.data(), &ip, because) else {
        return;
    };
    let back = match ip.addresses {
        Addresses::V4 { source, .. } => {
            routes::decide::<V4>(context, packet.vrf, source.to_bits(), packet.hash)
        }
        Addresses::V6 { source, .. } => {
            routes::decide::<V6>(context, packet.vrf, source.to_bits(), packet.hash)
        }
    };
    let Ok(back) = back else { return };
    // To itself: somebody sent in the vRouter's name.
    if matches!(context.snapshot.hop(back.hop), Some(Hop::Receive))
        || !context
            .budgets
            .answers
            .allows(packet.port, context.began, clock::hz())
    {
        return;
    }
    let Some(mut answer) = context.shared.pool.allocate() else {
        return;
    };
    let length = refusal.len();
    if !answer.append(length).is_some_and(|room| refusal.write(room)) {
        return;
    }
    context.counters.books.created += 1;
    let packet = Packet {
        port: packet.port,
        vrf: packet.vrf,
        ingress: packet.ingress,
        hash: packet.hash,
        length: length as u32,
        traffic_class: refusal.traffic_class(),
        v6: packet.v6,
        ..Packet::NONE
    };
    apply::originate(context, answer, packet, back.hop);
}
