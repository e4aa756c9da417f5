//! Take a packet out of its tunnel: the VNI or label says whose it is.
//!
//! VXLAN (RFC 7348), MPLS over UDP (RFC 7510), MPLS over GRE (RFC 4023); congestion marks by RFC 6040. Only remotes
//! that are tunnel endpoints are listened to. What is no tunnel's goes to the host.
//!
//! Drops: unknown-endpoint, unknown-vni, unknown-label, bad-tunnel-header, outer-fragment, congestion-mark, bad-checksum,
//! malformed, not-flooded, unknown-vlan.

use weft_packet::{
    ethernet::{self, Ethernet, ethertype},
    ip::{self, IpPacket},
    rewrite,
    tunnel::{self, Decap, Identifier, Inner, OuterChecksum, TunnelError},
};

use super::{
    Context,
    burst::{Burst, direct_ingress, tunnel_ingress},
    classify::{self, reason},
    local,
};
use crate::{
    change::PortPolicy,
    dpdk::Mbuf,
    drops::Reason,
    snapshot::{HopId, Port, Target},
};

/// A packet to one of the uplinks' own addresses: out of its tunnel, or to the host.
pub fn decapsulate(
    burst: &mut Burst,
    context: &mut Context<'_>,
    index: usize,
    port: &Port,
    ethernet: &Ethernet,
    outer: &IpPacket,
) -> Result<(), Reason> {
    let outer_offset = usize::from(ethernet.l3_offset);
    let decap = match tunnel::parse(&burst.data(index)[outer_offset..], outer) {
        Ok(Some(decap)) => decap,
        Ok(None) => return local::host::deliver(burst, context, index, port, ethernet, outer),
        Err(TunnelError::OuterFragment) => return Err(Reason::OuterFragment),
        Err(_) => return Err(Reason::BadTunnelHeader),
    };
    let snapshot = context.snapshot;
    let &endpoint = snapshot
        .endpoints
        .get(&outer.source())
        .ok_or(Reason::UnknownEndpoint)?;
    let mbuf = burst.get(index)?;
    if decap.outer_checksum != OuterChecksum::Absent
        && !outer_checksum_holds(mbuf, outer_offset, outer, &decap)
    {
        return Err(Reason::BadChecksum);
    }
    let target = match decap.identifier {
        Identifier::Vni(vni) => snapshot.vnis.get(&vni).ok_or(Reason::UnknownVni)?,
        Identifier::Label(label) => snapshot.labels.get(&label).ok_or(Reason::UnknownLabel)?,
    };
    let inner_offset = outer_offset + usize::from(decap.inner_offset);
    let end = outer_offset + outer.total_len as usize;
    let (l3_offset, inner) = inner(mbuf.data(), inner_offset, end, &decap)?;
    match tunnel::ecn_decapsulate(outer.ecn(), inner.ecn()) {
        Ok(ecn) if ecn == inner.ecn() => {}
        Ok(ecn) => rewrite::set_ecn(&mut mbuf.data_mut()[l3_offset..], &inner, ecn),
        Err(_) => return Err(Reason::CongestionMark),
    }
    if classify::is_multicast(&inner) {
        return Err(Reason::NotFlooded);
    }
    burst.packets[index].ingress = tunnel_ingress(endpoint);
    match *target {
        Target::Vrf(vrf) => {
            burst.packets[index].vrf = vrf;
            classify::enlist(burst, context, index, port, l3_offset, &inner)
        }
        Target::Port(target) => match snapshot.port(target) {
            // A policy judges sessions.
            Some(tenant) if tenant.policy != PortPolicy::Open => {
                let packet = &mut burst.packets[index];
                (packet.vrf, packet.ingress) = (tenant.vrf, direct_ingress(target));
                classify::enlist(burst, context, index, port, l3_offset, &inner)
            }
            _ => classify::direct(burst, index, l3_offset, &inner, HopId::port(target)),
        },
    }
}

/// The inner IP header and where it starts. `end` is where the outer packet ends: behind it is padding.
fn inner(frame: &[u8], offset: usize, end: usize, decap: &Decap) -> Result<(usize, IpPacket), Reason> {
    let (l3_offset, version) = match decap.inner {
        Inner::Ip => (offset, None),
        Inner::Ethernet => {
            let ethernet = ethernet::parse(frame.get(offset..).unwrap_or_default()).map_err(reason)?;
            if ethernet.destination.is_multicast() {
                return Err(Reason::NotFlooded);
            }
            // RFC 7348, section 6.1: tagged inner frames are not expected.
            if ethernet.outer_tag.is_some() {
                return Err(Reason::UnknownVlan);
            }
            (offset + usize::from(ethernet.l3_offset), Some(ethernet.ethertype))
        }
    };
    let length = end.checked_sub(l3_offset).ok_or(Reason::Malformed)?;
    let ip = match version {
        None | Some(ethertype::IPV4 | ethertype::IPV6) => {
            ip::parse(frame.get(l3_offset..).unwrap_or_default(), length).map_err(reason)?
        }
        Some(_) => return Err(Reason::UnknownEthertype),
    };
    if version.is_some_and(|version| (version == ethertype::IPV6) != ip.is_v6()) {
        return Err(Reason::Malformed);
    }
    Ok((l3_offset, ip))
}

/// Senders should leave the outer checksum out; if they do not, it must be right.
fn outer_checksum_holds(mbuf: &Mbuf, offset: usize, outer: &IpPacket, decap: &Decap) -> bool {
    let mut left = (offset + outer.total_len as usize).saturating_sub(mbuf.data().len());
    let mut sum = tunnel::decap::checksum(&mbuf.data()[offset..], outer, decap);
    for slice in mbuf.segment_slices().skip(1) {
        let slice = &slice[..slice.len().min(left)];
        sum.add(slice);
        left -= slice.len();
    }
    sum.is_valid()
}
