//! Find out whose packet it is and what names its flow: one pass over the headers.
//!
//! The VLAN tag names the sub-interface or trunk VRF (IEEE 802.1Q); on an uplink the tunnel header names the VRF (see
//! [`decap`](super::decap)). What is addressed to the vRouter itself goes to [`local`]. What is left starts with its IP
//! header afterwards and is in a lane, to be looked up.
//!
//! Drops: egress-limit, malformed, too-many-headers, bad-checksum, unknown-ethertype, unknown-vlan, not-for-us, not-flooded, bad-offload,
//! and those of [`fragments`].

use weft_packet::{
    Mac, Malformed,
    ethernet::{self, Ethernet, ethertype},
    ip::{self, Addresses, IpPacket, protocol},
    l4,
    malformed::{Fault, Header},
    rewrite,
};
use weft_table::{PortId, flow::DirectionIndex};

use super::{
    Context,
    burst::{Burst, port_ingress},
    decap, family, fragments, local,
    plain::{self, Arrival},
};
use crate::{
    dpdk::{HeaderLengths, Mbuf, Pending},
    drops::Reason,
    snapshot::{HopId, Port, Role},
};

/// How far ahead of the packet at hand headers are fetched.
const PREFETCH: usize = 4;

/// The stage.
#[inline(never)]
pub fn classify(burst: &mut Burst, context: &mut Context<'_>) {
    let Some(device) = context.snapshot.port(burst.device) else {
        return drop_all(burst, context);
    };
    let mut arrival = Arrival::untagged(context.snapshot, device);
    let mut tunnel = None;
    for index in 0..burst.len() {
        if let Some(Some(ahead)) = burst.mbufs.get(index + PREFETCH) {
            ahead.prefetch_data();
        }
        if plain::classify(burst, context, index, device, &mut arrival, &mut tunnel) {
            continue;
        }
        general(burst, context, index, device);
    }
    arrival.count(context.counters);
}

/// The way of everything that is not plain.
#[inline(never)]
fn general(burst: &mut Burst, context: &mut Context<'_>, index: usize, device: &Port) {
    burst.packets[index].port = device.id;
    if let Err(reason) = frame(burst, context, index, device) {
        burst.drop(index, reason, context.counters);
    }
}

/// The port was unplugged while its packets were on the way.
fn drop_all(burst: &mut Burst, context: &mut Context<'_>) {
    for index in 0..burst.len() {
        burst.packets[index].port = burst.device;
        burst.drop(index, Reason::PortDown, context.counters);
    }
}

/// One frame: into a lane, answered, handed over, or an error that ends it.
#[inline(always)]
fn frame(burst: &mut Burst, context: &mut Context<'_>, index: usize, device: &Port) -> Result<(), Reason> {
    let ethernet = ethernet::parse(burst.data(index)).map_err(reason)?;
    // Two tags, or a provider's: nobody here is behind them.
    if ethernet
        .outer_tag
        .is_some_and(|tag| tag.protocol != ethertype::VLAN)
        || ethernet.inner_tag.is_some()
    {
        return Err(Reason::UnknownVlan);
    }
    let (port, vrf) = match ethernet.vlan() {
        None => (device, device.vrf),
        Some(vlan) => {
            let known = device
                .vlans
                .as_ref()
                .and_then(|vlans| vlans[usize::from(vlan.get())]);
            let known = known.ok_or(Reason::UnknownVlan)?;
            (
                context.snapshot.port(known.port).ok_or(Reason::UnknownVlan)?,
                known.vrf,
            )
        }
    };
    if port.id != device.id {
        count_sub_interface(context, port.id, burst.length(index));
    }
    let packet = &mut burst.packets[index];
    packet.port = port.id;
    packet.vrf = vrf;
    packet.ingress = port_ingress(port.id);
    let quality = port.quality.as_deref();
    let bytes = burst.length(index) as u64;
    if quality.is_some_and(|quality| !quality.egress.lets_pass(bytes, context.began)) {
        return Err(Reason::EgressLimit);
    }
    match port.role {
        Role::Tenant => tenant(burst, context, index, port, &ethernet),
        Role::Uplink { .. } => uplink(burst, context, index, port, &ethernet),
        Role::Host { uplink } => from_host(burst, context, index, uplink, &ethernet),
    }
}

/// The device counts what it receives; a sub-interface is counted where it is found.
fn count_sub_interface(context: &mut Context<'_>, port: PortId, bytes: usize) {
    if let Some(counters) = context.counters.port(port) {
        counters.rx_packets += 1;
        counters.rx_bytes += bytes as u64;
    }
}

#[inline(always)]
fn tenant(
    burst: &mut Burst,
    context: &mut Context<'_>,
    index: usize,
    port: &Port,
    ethernet: &Ethernet,
) -> Result<(), Reason> {
    match ethernet.ethertype {
        ethertype::IPV4 | ethertype::IPV6 => {
            let ip = parse_ip(burst, index, ethernet)?;
            if ip.protocol == protocol::ICMPV6 && local::nd::is_discovery(burst.data(index), ethernet, &ip) {
                return local::nd::tenant(burst, context, index, port, ethernet, &ip);
            }
            if ethernet.destination.is_multicast() || is_multicast(&ip) {
                return Err(Reason::NotFlooded);
            }
            enlist(burst, context, index, port, usize::from(ethernet.l3_offset), &ip)
        }
        ethertype::ARP => local::arp::tenant(burst, context, index, port, ethernet),
        _ => Err(Reason::UnknownEthertype),
    }
}

#[inline(always)]
fn uplink(
    burst: &mut Burst,
    context: &mut Context<'_>,
    index: usize,
    port: &Port,
    ethernet: &Ethernet,
) -> Result<(), Reason> {
    let for_us = ethernet.destination == port.mac;
    if !for_us && !ethernet.destination.is_multicast() {
        return Err(Reason::NotForUs);
    }
    match ethernet.ethertype {
        ethertype::IPV4 | ethertype::IPV6 => {
            let ip = parse_ip(burst, index, ethernet)?;
            if ip.protocol == protocol::ICMPV6 && local::nd::is_discovery(burst.data(index), ethernet, &ip) {
                return local::nd::uplink(burst, context, index, port, ethernet, &ip);
            }
            if !for_us {
                return local::host::deliver_frame(burst, context, index, port, ethernet);
            }
            let local = match ip.addresses {
                Addresses::V4 { destination, .. } => context.snapshot.local.find4(destination.to_bits()),
                Addresses::V6 { destination, .. } => context.snapshot.local.find6(destination.to_bits()),
            };
            match local {
                None => enlist(burst, context, index, port, usize::from(ethernet.l3_offset), &ip),
                Some(_) => decap::decapsulate(burst, context, index, port, ethernet, &ip),
            }
        }
        ethertype::ARP => local::arp::uplink(burst, context, index, port, ethernet),
        _ => local::host::deliver_frame(burst, context, index, port, ethernet),
    }
}

/// The host's frames leave by its uplink as they are, but what it sends to the vRouter's MAC is routed: that is how it
/// reaches tenants whose addresses are in the underlay.
fn from_host(
    burst: &mut Burst,
    context: &mut Context<'_>,
    index: usize,
    uplink: PortId,
    ethernet: &Ethernet,
) -> Result<(), Reason> {
    let uplink = context.snapshot.port(uplink).ok_or(Reason::PortDown)?;
    match ethernet.ethertype {
        ethertype::ARP => local::arp::from_host(burst, context, index, uplink, ethernet),
        ethertype::IPV4 | ethertype::IPV6 if ethernet.destination == Mac::VIRTUAL_ROUTER => {
            let ip = parse_ip(burst, index, ethernet)?;
            let port = context.snapshot.port(burst.device).ok_or(Reason::PortDown)?;
            enlist(burst, context, index, port, usize::from(ethernet.l3_offset), &ip)
        }
        ethertype::IPV6 => local::nd::from_host(burst, context, index, uplink, ethernet),
        _ => local::host::send_out(burst, context, index, uplink, ethernet),
    }
}

/// Reads the IP header, and holds the ethertype to it.
#[inline(always)]
fn parse_ip(burst: &Burst, index: usize, ethernet: &Ethernet) -> Result<IpPacket, Reason> {
    let offset = usize::from(ethernet.l3_offset);
    let l3 = burst.data(index).get(offset..).unwrap_or_default();
    let ip = ip::parse(l3, burst.length(index).saturating_sub(offset)).map_err(reason)?;
    if ip.is_v6() == (ethernet.ethertype == ethertype::IPV6) {
        Ok(ip)
    } else {
        Err(Reason::Malformed)
    }
}

/// Puts a packet into the lane of its family. `l3_offset` bytes are taken off in front, padding behind.
#[inline(always)]
pub fn enlist(
    burst: &mut Burst,
    context: &mut Context<'_>,
    index: usize,
    port: &Port,
    l3_offset: usize,
    ip: &IpPacket,
) -> Result<(), Reason> {
    let Some(mbuf) = &mut burst.mbufs[index] else {
        return Ok(());
    };
    let pending = mbuf.pending().map_err(|_| Reason::BadOffload)?;
    let l3 = mbuf.data().get(l3_offset..).unwrap_or_default();
    let transport = l4::parse(l3, ip).map_err(reason)?;
    let packet = &mut burst.packets[index];
    let vrf = context.snapshot.vrf(packet.vrf).ok_or(Reason::NoRoute)?;
    let stateful = !(vrf.packet_mode || port.packet_mode);
    start_at_ip(mbuf, l3_offset, ip)?;
    if !pending.is_none() {
        let lengths = mbuf.header_lengths();
        if usize::from(lengths.l2) != l3_offset || lengths.l3 != ip.l4_offset {
            return Err(Reason::BadOffload);
        }
        mbuf.set_header_lengths(HeaderLengths { l2: 0, ..lengths });
    }
    packet.length = ip.total_len;
    packet.traffic_class = ip.traffic_class;
    packet.v6 = ip.is_v6();
    packet.tcp_flags = transport.tcp_flags;
    packet.pending = pending;
    if let Some(dscp) = port.quality.as_ref().and_then(|quality| quality.spec.dscp) {
        mark(burst, index, dscp);
    }
    if stateful {
        return fragments::enlist(burst, context, index, ip, transport.tuple);
    }
    family::enlist(burst, context, index, ip, transport.tuple, false);
    Ok(())
}

/// A packet whose way is known before any lookup: into no lane.
pub fn direct(
    burst: &mut Burst,
    index: usize,
    l3_offset: usize,
    ip: &IpPacket,
    hop: HopId,
) -> Result<(), Reason> {
    let Some(mbuf) = &mut burst.mbufs[index] else {
        return Ok(());
    };
    start_at_ip(mbuf, l3_offset, ip)?;
    let packet = &mut burst.packets[index];
    packet.length = ip.total_len;
    packet.traffic_class = ip.traffic_class;
    packet.v6 = ip.is_v6();
    packet.pending = Pending::default();
    packet.hash = 0;
    burst.send(index, hop, DirectionIndex::NONE);
    Ok(())
}

/// Gives a packet that starts with its IP header another class.
pub fn mark(burst: &mut Burst, index: usize, dscp: u8) {
    let packet = &mut burst.packets[index];
    packet.traffic_class = dscp << 2 | packet.traffic_class & 3;
    if let Some(mbuf) = &mut burst.mbufs[index] {
        rewrite::set_traffic_class(mbuf.data_mut(), packet.traffic_class);
    }
}

/// Takes off what stands before the IP header, and the padding behind the packet.
#[inline(always)]
fn start_at_ip(mbuf: &mut Mbuf, l3_offset: usize, ip: &IpPacket) -> Result<(), Reason> {
    let length = ip.total_len as usize;
    let trimmed = mbuf.trim_front(l3_offset) && (mbuf.len() <= length || mbuf.trim_back(length));
    if trimmed { Ok(()) } else { Err(Reason::Malformed) }
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
