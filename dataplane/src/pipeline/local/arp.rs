//! ARP (RFC 826), answered at the port and never flooded.
//!
//! To a tenant the vRouter is the gateway and every other host of the subnet: it answers with its own MAC for whatever
//! it would route to. It does not answer for the asker's own address, so that probes pass (RFC 5227). On an uplink it
//! answers for its own addresses and for tenants that live in the underlay, and learns its neighbours.
//!
//! Drops: malformed, unanswered, not-flooded.

use std::net::IpAddr;

use super::{Owner, answers_on_underlay, host, owner};
use crate::{
    drops::Reason,
    pipeline::{Context, burst::Burst, classify::reason, transmit},
    shared::Punt,
    snapshot::Port,
};
use weft_packet::{
    Mac,
    arp::{self, Arp, Operation},
    ethernet::Ethernet,
};

/// From a tenant.
pub fn tenant(
    burst: &mut Burst,
    context: &mut Context<'_>,
    index: usize,
    port: &Port,
    ethernet: &Ethernet,
) -> Result<(), Reason> {
    let arp = parse(burst, index, ethernet)?;
    if arp.operation == Operation::Reply || arp.is_announcement() {
        return Err(Reason::NotFlooded);
    }
    match owner(context, burst.packets[index].vrf, IpAddr::V4(arp.target), port.id) {
        Owner::Router | Owner::Other => answer(burst, context, index, port, ethernet, Mac::VIRTUAL_ROUTER),
        Owner::Nobody => Err(Reason::Unanswered),
    }
}

/// From the underlay.
pub fn uplink(
    burst: &mut Burst,
    context: &mut Context<'_>,
    index: usize,
    port: &Port,
    ethernet: &Ethernet,
) -> Result<(), Reason> {
    let arp = parse(burst, index, ethernet)?;
    if !arp.sender.is_unspecified() && arp.sender_mac.is_unicast() {
        context.punt(Punt::Learned {
            port: port.id,
            address: IpAddr::V4(arp.sender),
            mac: arp.sender_mac,
        });
    }
    let ours = context.snapshot.local.find4(arp.target.to_bits()).is_some();
    match arp.operation {
        Operation::Reply => host::learned(burst, context, index, port, ethernet),
        Operation::Request if arp.is_announcement() => host::learned(burst, context, index, port, ethernet),
        Operation::Request if ours || answers_on_underlay(context, IpAddr::V4(arp.target)) => {
            answer(burst, context, index, port, ethernet, port.mac)
        }
        Operation::Request => Err(Reason::Unanswered),
    }
}

/// From the host: its own questions go out by its uplink, those for tenants of this vRouter are answered.
pub fn from_host(
    burst: &mut Burst,
    context: &mut Context<'_>,
    index: usize,
    uplink: &Port,
    ethernet: &Ethernet,
) -> Result<(), Reason> {
    let arp = parse(burst, index, ethernet)?;
    let asks = arp.operation == Operation::Request && !arp.is_announcement();
    match host::tap(context, uplink) {
        Some(tap) if asks && answers_on_underlay(context, IpAddr::V4(arp.target)) => {
            answer(burst, context, index, tap, ethernet, Mac::VIRTUAL_ROUTER)
        }
        _ => host::send_out(burst, context, index, uplink, ethernet),
    }
}

fn parse(burst: &Burst, index: usize, ethernet: &Ethernet) -> Result<Arp, Reason> {
    let l3 = burst
        .data(index)
        .get(usize::from(ethernet.l3_offset)..)
        .unwrap_or_default();
    arp::parse(l3).map_err(reason)
}

fn answer(
    burst: &mut Burst,
    context: &mut Context<'_>,
    index: usize,
    port: &Port,
    ethernet: &Ethernet,
    mac: Mac,
) -> Result<(), Reason> {
    let frame = burst.get(index)?.data_mut();
    arp::answer_in_place(frame, usize::from(ethernet.l3_offset), mac).map_err(reason)?;
    let mbuf = burst.take(index)?;
    transmit::push(context, mbuf, port.id, port);
    Ok(())
}
