//! Find out whose packet it is and what names its flow: one pass over the headers.
//!
//! The VLAN tag names the sub-interface or trunk VRF (IEEE 802.1Q); on an uplink the tunnel header names the VRF (see
//! [`decap`](super::decap)). What is addressed to the vRouter itself goes to [`local`]. What is left starts with its IP
//! header afterwards and is in a lane, to be looked up.
//!
//! Drops: malformed, too-many-headers, bad-checksum, unknown-ethertype, unknown-vlan, not-for-us, not-flooded, fragment,
//! bad-offload.

use weft_packet::{
    Malformed,
    ethernet::{self, Ethernet, ethertype},
    ip::{self, Addresses, Fragment, IpPacket, protocol},
    l4,
    malformed::{Fault, Header},
};
use weft_table::PortId;

use super::{
    Context,
    burst::{Burst, port_ingress},
    decap, family, local,
};
use crate::{
    dpdk::{HeaderLengths, Mbuf, Pending},
    drops::Reason,
    snapshot::{Port, Role},
};

/// How far ahead of the packet at hand headers are fetched.
const PREFETCH: usize = 4;

/// The stage.
pub fn classify(burst: &mut Burst, context: &mut Context<'_>) {
    let Some(device) = context.snapshot.port(burst.device) else {
        return drop_all(burst, context);
    };
    for index in 0..burst.len() {
        if let Some(Some(ahead)) = burst.mbufs.get(index + PREFETCH) {
            ahead.prefetch_data();
        }
        burst.packets[index].port = device.id;
        let Some(mbuf) = burst.mbufs[index].take() else {
            continue;
        };
        if let Err((mbuf, reason)) = frame(burst, context, index, mbuf, device) {
            let port = burst.packets[index].port;
            context.drop(mbuf, port, reason);
        }
    }
}

/// The port was unplugged while its packets were on the way.
fn drop_all(burst: &mut Burst, context: &mut Context<'_>) {
    for index in 0..burst.len() {
        burst.packets[index].port = burst.device;
        burst.drop(index, Reason::PortDown, context.counters);
    }
}

/// The packet comes back with the reason for which it ends.
pub type Refused = (Mbuf, Reason);

fn frame(
    burst: &mut Burst,
    context: &mut Context<'_>,
    index: usize,
    mbuf: Mbuf,
    device: &Port,
) -> Result<(), Refused> {
    let ethernet = match ethernet::parse(mbuf.data()) {
        Ok(ethernet) => ethernet,
        Err(malformed) => return Err((mbuf, reason(malformed))),
    };
    let (port, vrf) = match ethernet.vlan() {
        None => (device, device.vrf),
        Some(vlan) => {
            let known = device
                .vlans
                .as_ref()
                .and_then(|vlans| vlans[usize::from(vlan.get())]);
            let sub_interface = known.and_then(|known| Some((context.snapshot.port(known.port)?, known.vrf)));
            match sub_interface {
                Some(known) => known,
                None => return Err((mbuf, Reason::UnknownVlan)),
            }
        }
    };
    if port.id != device.id {
        count_sub_interface(context, port.id, &mbuf);
    }
    let packet = &mut burst.packets[index];
    packet.port = port.id;
    packet.vrf = vrf;
    packet.ingress = port_ingress(port.id);
    if ethernet.inner_tag.is_some() {
        return Err((mbuf, Reason::UnknownVlan));
    }
    match port.role {
        Role::Tenant => tenant(burst, context, index, mbuf, port, &ethernet),
        Role::Uplink { .. } => uplink(burst, context, index, mbuf, port, &ethernet),
        Role::Host { uplink } => from_host(burst, context, index, mbuf, uplink, &ethernet),
    }
}

/// The device counts what it receives; a sub-interface is counted where it is found.
fn count_sub_interface(context: &mut Context<'_>, port: PortId, mbuf: &Mbuf) {
    if let Some(counters) = context.counters.port(port) {
        counters.rx_packets += 1;
        counters.rx_bytes += mbuf.len() as u64;
    }
}

fn tenant(
    burst: &mut Burst,
    context: &mut Context<'_>,
    index: usize,
    mbuf: Mbuf,
    port: &Port,
    ethernet: &Ethernet,
) -> Result<(), Refused> {
    match ethernet.ethertype {
        ethertype::IPV4 | ethertype::IPV6 => {
            let ip = parse_ip(mbuf, ethernet)?;
            let (mbuf, ip) = ip;
            if ip.protocol == protocol::ICMPV6 && local::nd::is_discovery(&mbuf, ethernet, &ip) {
                return local::nd::tenant(context, mbuf, port, burst.packets[index].vrf, ethernet, &ip);
            }
            if ethernet.destination.is_multicast() || is_multicast(&ip) {
                return Err((mbuf, Reason::NotFlooded));
            }
            enlist(
                burst,
                context,
                index,
                mbuf,
                port,
                usize::from(ethernet.l3_offset),
                &ip,
            )
        }
        ethertype::ARP => local::arp::tenant(context, mbuf, port, burst.packets[index].vrf, ethernet),
        _ => Err((mbuf, Reason::UnknownEthertype)),
    }
}

fn uplink(
    burst: &mut Burst,
    context: &mut Context<'_>,
    index: usize,
    mbuf: Mbuf,
    port: &Port,
    ethernet: &Ethernet,
) -> Result<(), Refused> {
    let for_us = ethernet.destination == port.mac;
    if !for_us && !ethernet.destination.is_multicast() {
        return Err((mbuf, Reason::NotForUs));
    }
    match ethernet.ethertype {
        ethertype::IPV4 | ethertype::IPV6 => {
            let (mbuf, ip) = parse_ip(mbuf, ethernet)?;
            if ip.protocol == protocol::ICMPV6 && local::nd::is_discovery(&mbuf, ethernet, &ip) {
                return local::nd::uplink(context, mbuf, port, ethernet, &ip);
            }
            if !for_us {
                return local::host::deliver_frame(context, mbuf, port, ethernet);
            }
            let local = match ip.addresses {
                Addresses::V4 { destination, .. } => context.snapshot.local.find4(destination.to_bits()),
                Addresses::V6 { destination, .. } => context.snapshot.local.find6(destination.to_bits()),
            };
            match local {
                None => enlist(
                    burst,
                    context,
                    index,
                    mbuf,
                    port,
                    usize::from(ethernet.l3_offset),
                    &ip,
                ),
                Some(_) => decap::decapsulate(burst, context, index, mbuf, port, ethernet, &ip),
            }
        }
        ethertype::ARP => local::arp::uplink(context, mbuf, port, ethernet),
        _ => local::host::deliver_frame(context, mbuf, port, ethernet),
    }
}

/// The host's frames leave by its uplink as they are, but what it sends to the vRouter's MAC is routed: that is how it
/// reaches tenants whose addresses are in the underlay.
fn from_host(
    burst: &mut Burst,
    context: &mut Context<'_>,
    index: usize,
    mbuf: Mbuf,
    uplink: PortId,
    ethernet: &Ethernet,
) -> Result<(), Refused> {
    let Some(uplink) = context.snapshot.port(uplink) else {
        return Err((mbuf, Reason::PortDown));
    };
    match ethernet.ethertype {
        ethertype::ARP => local::arp::from_host(context, mbuf, uplink, ethernet),
        ethertype::IPV4 | ethertype::IPV6 if ethernet.destination == weft_packet::Mac::VIRTUAL_ROUTER => {
            let (mbuf, ip) = parse_ip(mbuf, ethernet)?;
            let Some(port) = context.snapshot.port(burst.device) else {
                return Err((mbuf, Reason::PortDown));
            };
            enlist(
                burst,
                context,
                index,
                mbuf,
                port,
                usize::from(ethernet.l3_offset),
                &ip,
            )
        }
        ethertype::IPV6 => local::nd::from_host(context, mbuf, uplink, ethernet),
        _ => local::host::send_out(context, mbuf, uplink, ethernet),
    }
}

/// Reads the IP header, and holds the ethertype to it.
fn parse_ip(mbuf: Mbuf, ethernet: &Ethernet) -> Result<(Mbuf, IpPacket), Refused> {
    let offset = usize::from(ethernet.l3_offset);
    let l3 = mbuf.data().get(offset..).unwrap_or_default();
    match ip::parse(l3, mbuf.len() - offset) {
        Ok(ip) if ip.is_v6() == (ethernet.ethertype == ethertype::IPV6) => Ok((mbuf, ip)),
        Ok(_) => Err((mbuf, Reason::Malformed)),
        Err(malformed) => Err((mbuf, reason(malformed))),
    }
}

/// Puts a packet into the lane of its family. `l3_offset` bytes are taken off in front, padding behind.
pub fn enlist(
    burst: &mut Burst,
    context: &Context<'_>,
    index: usize,
    mut mbuf: Mbuf,
    port: &Port,
    l3_offset: usize,
    ip: &IpPacket,
) -> Result<(), Refused> {
    let pending = match mbuf.pending() {
        Ok(pending) => pending,
        Err(_) => return Err((mbuf, Reason::BadOffload)),
    };
    let transport = match l4::parse(&mbuf.data()[l3_offset..], ip) {
        Ok(transport) => transport,
        Err(malformed) => return Err((mbuf, reason(malformed))),
    };
    let Some(vrf) = context.snapshot.vrf(burst.packets[index].vrf) else {
        return Err((mbuf, Reason::NoRoute));
    };
    let stateful = !(vrf.packet_mode || port.packet_mode);
    if stateful && ip.fragment == Fragment::Later {
        return Err((mbuf, Reason::Fragment));
    }
    let length = ip.total_len as usize;
    if !mbuf.trim_front(l3_offset) || (mbuf.len() > length && !mbuf.trim_back(length)) {
        return Err((mbuf, Reason::Malformed));
    }
    if !pending.is_none() {
        let lengths = mbuf.header_lengths();
        if usize::from(lengths.l2) != l3_offset || lengths.l3 != ip.l4_offset {
            return Err((mbuf, Reason::BadOffload));
        }
        mbuf.set_header_lengths(HeaderLengths { l2: 0, ..lengths });
    }
    let packet = &mut burst.packets[index];
    packet.length = ip.total_len;
    packet.traffic_class = ip.traffic_class;
    packet.v6 = ip.is_v6();
    packet.tcp_flags = transport.tcp_flags;
    packet.pending = pending;
    burst.mbufs[index] = Some(mbuf);
    family::enlist(burst, context, index, ip, transport.tuple, stateful);
    Ok(())
}

/// A packet whose way is known before any lookup: into the lane of nobody.
pub fn direct(
    burst: &mut Burst,
    index: usize,
    mut mbuf: Mbuf,
    l3_offset: usize,
    ip: &IpPacket,
    hop: crate::snapshot::HopId,
) -> Result<(), Refused> {
    let length = ip.total_len as usize;
    if !mbuf.trim_front(l3_offset) || (mbuf.len() > length && !mbuf.trim_back(length)) {
        return Err((mbuf, Reason::Malformed));
    }
    let packet = &mut burst.packets[index];
    packet.length = ip.total_len;
    packet.traffic_class = ip.traffic_class;
    packet.v6 = ip.is_v6();
    packet.pending = Pending::default();
    packet.hash = 0;
    burst.mbufs[index] = Some(mbuf);
    burst.send(index, hop);
    Ok(())
}

/// Broadcast and multicast are no tenant's to send through a router that floods nothing.
pub fn is_multicast(ip: &IpPacket) -> bool {
    match ip.addresses {
        Addresses::V4 { destination, .. } => destination.is_multicast() || destination.is_broadcast(),
        Addresses::V6 { destination, .. } => destination.is_multicast(),
    }
}

/// The drop reason for a header that cannot be read.
pub fn reason(malformed: Malformed) -> Reason {
    match (malformed.fault, malformed.header) {
        (Fault::TooMany, _) => Reason::TooManyHeaders,
        (Fault::Checksum, Header::Ipv4) => Reason::BadChecksum,
        _ => Reason::Malformed,
    }
}
