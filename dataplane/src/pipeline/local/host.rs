//! The host's own traffic: by its tap on the uplink, with the uplink's MAC and addresses.
//!
//! Drops: no-service (the uplink has no host tap), malformed.

use weft_packet::{
    Mac,
    ethernet::{Ethernet, ethertype},
    icmp,
    ip::{Addresses, IpPacket},
};
use weft_table::PortId;

use crate::{
    dpdk::{HeaderLengths, Mbuf},
    drops::Reason,
    pipeline::{
        Context,
        burst::{Burst, Packet},
        encap::{self, Egress},
        transmit,
    },
    snapshot::{L2Header, Port, Role},
};

/// A frame from the underlay, as it is.
pub fn deliver_frame(
    burst: &mut Burst,
    context: &mut Context<'_>,
    index: usize,
    port: &Port,
    ethernet: &Ethernet,
) -> Result<(), Reason> {
    match tap(context, port) {
        Some(host) => {
            transmit::untag(burst.get(index)?, ethernet)?;
            let mbuf = burst.take(index)?;
            transmit::push(context, mbuf, port.id, host);
            Ok(())
        }
        None if ethernet.destination.is_multicast() => Err(Reason::NotFlooded),
        None => Err(Reason::NotService),
    }
}

/// A packet from the underlay to the uplink's address. Without a host the vRouter answers ping itself.
pub fn deliver(
    burst: &mut Burst,
    context: &mut Context<'_>,
    index: usize,
    port: &Port,
    ethernet: &Ethernet,
    ip: &IpPacket,
) -> Result<(), Reason> {
    if tap(context, port).is_some() {
        return deliver_frame(burst, context, index, port, ethernet);
    }
    let frame = burst.get(index)?.data_mut();
    let (link, l3) = frame.split_at_mut(usize::from(ethernet.l3_offset));
    if !icmp::is_echo_request(l3, ip) || icmp::answer_echo_in_place(l3, ip).is_err() {
        return Err(Reason::NotService);
    }
    link[..6].copy_from_slice(&ethernet.source.0);
    link[6..12].copy_from_slice(&port.mac.0);
    let mbuf = burst.take(index)?;
    transmit::push(context, mbuf, port.id, port);
    Ok(())
}

/// A frame of the host to the underlay: as it is, with what the kernel left to the device done.
pub fn send_out(
    burst: &mut Burst,
    context: &mut Context<'_>,
    index: usize,
    uplink: &Port,
    ethernet: &Ethernet,
) -> Result<(), Reason> {
    let mut mbuf = burst.take(index)?;
    let Ok(pending) = mbuf.pending() else {
        context.drop(mbuf, uplink.id, Reason::BadOffload);
        return Ok(());
    };
    if pending.is_none() {
        transmit::frame_by_uplink(context, mbuf, uplink);
        return Ok(());
    }
    let l3_offset = usize::from(ethernet.l3_offset);
    let lengths = mbuf.header_lengths();
    if usize::from(lengths.l2) != l3_offset || !mbuf.trim_front(l3_offset) {
        context.drop(mbuf, uplink.id, Reason::BadOffload);
        return Ok(());
    }
    mbuf.set_header_lengths(HeaderLengths { l2: 0, ..lengths });
    let (length, v6) = (mbuf.len() as u32, ethernet.ethertype == ethertype::IPV6);
    let packet = Packet {
        port: uplink.id,
        length,
        v6,
        pending,
        ..Packet::NONE
    };
    let header = L2Header::new(ethernet.destination, ethernet.source, uplink.vlan);
    encap::send(
        context,
        mbuf,
        &packet,
        &Egress {
            port: uplink,
            header: &header,
            template: None,
        },
    );
    Ok(())
}

/// An answer that the vRouter learned from: the host may have asked too.
pub fn learned(
    burst: &mut Burst,
    context: &mut Context<'_>,
    index: usize,
    port: &Port,
    ethernet: &Ethernet,
) -> Result<(), Reason> {
    if tap(context, port).is_some() {
        return deliver_frame(burst, context, index, port, ethernet);
    }
    drop(burst.take(index)?);
    context.counters.books.delivered += 1;
    Ok(())
}

/// Whether the destination is an address of an uplink.
pub fn owns(context: &Context<'_>, ip: &IpPacket) -> bool {
    uplink_of(context, ip).is_some()
}

/// A routed packet to an address of an uplink, at its IP header: from a tenant to the host.
pub fn deliver_packet(context: &mut Context<'_>, mbuf: Mbuf, packet: &Packet, ip: &IpPacket) {
    let uplink = uplink_of(context, ip).and_then(|port| context.snapshot.port(port));
    let Some((uplink, host)) = uplink.and_then(|uplink| Some((uplink, tap(context, uplink)?))) else {
        return context.drop(mbuf, packet.port, Reason::NotService);
    };
    let header = L2Header::new(uplink.mac, Mac::VIRTUAL_ROUTER, None);
    encap::send(
        context,
        mbuf,
        packet,
        &Egress {
            port: host,
            header: &header,
            template: None,
        },
    );
}

fn uplink_of(context: &Context<'_>, ip: &IpPacket) -> Option<PortId> {
    match ip.addresses {
        Addresses::V4 { destination, .. } => context.snapshot.local.find4(destination.to_bits()),
        Addresses::V6 { destination, .. } => context.snapshot.local.find6(destination.to_bits()),
    }
}

/// The host's tap on an uplink.
pub fn tap<'a>(context: &Context<'a>, port: &Port) -> Option<&'a Port> {
    match port.role {
        Role::Uplink { host } => context.snapshot.port(host?),
        _ => None,
    }
}
