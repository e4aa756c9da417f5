//! What is addressed to the vRouter itself: answered here, or handed to the host.

pub mod arp;
pub mod host;
pub mod nd;
pub mod refuse;

use std::net::IpAddr;

use weft_packet::{
    icmp,
    ip::{self, Addresses},
};
use weft_table::{PortId, VrfId};

use super::{
    Context, apply,
    burst::Packet,
    family::{V4, V6},
    routes::{self, Decision},
};
use crate::{
    dpdk::Mbuf,
    drops::Reason,
    snapshot::{Hop, NextHop, Role},
};

/// A packet whose route says "receive": ping at the vRouter's own addresses is answered, the underlay's is the host's.
pub fn receive(context: &mut Context<'_>, mut mbuf: Mbuf, packet: &Packet) {
    let ip = match ip::parse(mbuf.data(), mbuf.len()) {
        Ok(ip) => ip,
        Err(_) => return context.drop(mbuf, packet.port, Reason::Malformed),
    };
    if host::owns(context, &ip) {
        return host::deliver_packet(context, mbuf, packet, &ip);
    }
    if !icmp::is_echo_request(mbuf.data(), &ip) || icmp::answer_echo_in_place(mbuf.data_mut(), &ip).is_err() {
        return context.drop(mbuf, packet.port, Reason::NotService);
    }
    let back = match ip.addresses {
        Addresses::V4 { source, .. } => {
            routes::decide::<V4>(context, packet.vrf, source.to_bits(), packet.hash)
        }
        Addresses::V6 { source, .. } => {
            routes::decide::<V6>(context, packet.vrf, source.to_bits(), packet.hash)
        }
    };
    match back {
        // To itself: somebody sent in the vRouter's name.
        Ok(Decision { hop, .. }) if matches!(context.snapshot.hop(hop), Some(Hop::Receive)) => {
            context.drop(mbuf, packet.port, Reason::NotService);
        }
        Ok(Decision { hop, .. }) => apply::originate(context, mbuf, *packet, hop),
        Err(reason) => context.drop(mbuf, packet.port, reason),
    }
}

/// Whom the vRouter answers for when `asker` wants to know the MAC of an address in `vrf`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// An address of the vRouter.
    Router,
    /// Somebody else than the asker, whom the vRouter routes to.
    Other,
    /// The asker itself, or nobody.
    Nobody,
}

/// See [`Owner`].
pub fn owner(context: &Context<'_>, vrf: VrfId, address: IpAddr, asker: PortId) -> Owner {
    let decision = match address {
        IpAddr::V4(address) => routes::decide::<V4>(context, vrf, address.to_bits(), 0),
        IpAddr::V6(address) => routes::decide::<V6>(context, vrf, address.to_bits(), 0),
    };
    let decision = match decision {
        Ok(decision) => decision,
        // An address of a pool: what answers its sessions comes here.
        Err(Reason::NatNoSession) => return Owner::Other,
        Err(_) => return Owner::Nobody,
    };
    match context.snapshot.hop(decision.hop) {
        Some(Hop::Receive) => Owner::Router,
        Some(Hop::Table(NextHop::Port { port, .. })) if *port == asker => Owner::Nobody,
        Some(Hop::Port(port)) if port.id == asker => Owner::Nobody,
        Some(_) => Owner::Other,
        None => Owner::Nobody,
    }
}

/// In the underlay the vRouter answers for tenants whose addresses are in its table, and for nobody else: neighbours
/// answer for themselves.
pub fn answers_on_underlay(context: &Context<'_>, address: IpAddr) -> bool {
    let decision = match address {
        IpAddr::V4(address) => routes::decide::<V4>(context, VrfId::UNDERLAY, address.to_bits(), 0),
        IpAddr::V6(address) => routes::decide::<V6>(context, VrfId::UNDERLAY, address.to_bits(), 0),
    };
    if matches!(decision, Err(Reason::NatNoSession)) {
        return true;
    }
    let is_tenant = |port: PortId| {
        context
            .snapshot
            .port(port)
            .is_some_and(|port| port.role == Role::Tenant)
    };
    match decision
        .ok()
        .and_then(|decision| context.snapshot.hop(decision.hop))
    {
        Some(Hop::Table(NextHop::Port { port, .. })) => is_tenant(*port),
        Some(Hop::Table(NextHop::Tunnel { .. })) => true,
        Some(Hop::Port(port)) => port.role == Role::Tenant,
        _ => false,
    }
}
