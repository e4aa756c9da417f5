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
        burst::Packet,
        classify::Refused,
        encap::{self, Egress},
        transmit,
    },
    snapshot::{L2Header, Port, Role},
};

/// A frame from the underlay, as it is.
pub fn deliver_frame(
    context: &mut Context<'_>,
    mbuf: Mbuf,
    port: &Port,
    ethernet: &Ethernet,
) -> Result<(), Refused> {
    match tap(context, port) {
        Some(host) => {
            let mbuf = transmit::untag(mbuf, ethernet)?;
            transmit::push(context, mbuf, port.id, host);
            Ok(())
        }
        None if ethernet.destination.is_multicast() => Err((mbuf, Reason::NotFlooded)),
        None => Err((mbuf, Reason::NotService)),
    }
}

/// A packet from the underlay to the uplink's address. Without a host the vRouter answers ping itself.
pub fn deliver(
    context: &mut Context<'_>,
    mut mbuf: Mbuf,
    port: &Port,
    ethernet: &Ethernet,
    ip: &IpPacket,
) -> Result<(), Refused> {
    if tap(context, port).is_some() {
        return deliver_frame(context, mbuf, port, ethernet);
    }
    let offset = usize::from(ethernet.l3_offset);
    if icmp::is_echo_request(&mbuf.data()[offset..], ip)
        && icmp::answer_echo_in_place(&mut mbuf.data_mut()[offset..], ip).is_ok()
    {
        let (to, from) = (ethernet.source, port.mac);
        mbuf.data_mut()[..6].copy_from_slice(&to.0);
        mbuf.data_mut()[6..12].copy_from_slice(&from.0);
        transmit::push(context, mbuf, port.id, port);
        return Ok(());
    }
    Err((mbuf, Reason::NotService))
}

/// A frame of the host to the underlay: as it is, with what the kernel left to the device done.
pub fn send_out(
    context: &mut Context<'_>,
    mut mbuf: Mbuf,
    uplink: &Port,
    ethernet: &Ethernet,
) -> Result<(), Refused> {
    let Ok(pending) = mbuf.pending() else {
        return Err((mbuf, Reason::BadOffload));
    };
    if pending.is_none() {
        return transmit::frame_by_uplink(context, mbuf, uplink);
    }
    let l3_offset = usize::from(ethernet.l3_offset);
    let length = mbuf.len() - l3_offset;
    let v6 = ethernet.ethertype == ethertype::IPV6;
    let lengths = mbuf.header_lengths();
    if usize::from(lengths.l2) != l3_offset || !mbuf.trim_front(l3_offset) {
        return Err((mbuf, Reason::BadOffload));
    }
    mbuf.set_header_lengths(HeaderLengths { l2: 0, ..lengths });
    let packet = Packet {
        port: uplink.id,
        length: length as u32,
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
    context: &mut Context<'_>,
    mbuf: Mbuf,
    port: &Port,
    ethernet: &Ethernet,
) -> Result<(), Refused> {
    if tap(context, port).is_some() {
        return deliver_frame(context, mbuf, port, ethernet);
    }
    context.counters.books.delivered += 1;
    drop(mbuf);
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
