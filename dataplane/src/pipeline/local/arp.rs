//! ARP (RFC 826), answered at the port and never flooded.
//!
//! To a tenant the vRouter is the gateway and every other host of the subnet: it answers with its own MAC for whatever
//! it would route to. It does not answer for the asker's own address, so that probes pass (RFC 5227). On an uplink it
//! answers for its own addresses and for tenants that live in the underlay, and learns its neighbours.
//!
//! Drops: malformed, unanswered, not-flooded.

use std::net::IpAddr;

use weft_packet::{
    Mac,
    arp::{self, Arp, Operation},
    ethernet::Ethernet,
};
use weft_table::VrfId;

use super::{Owner, answers_on_underlay, host, owner};
use crate::{
    dpdk::Mbuf,
    drops::Reason,
    pipeline::{Context, classify::Refused, transmit},
    shared::Punt,
    snapshot::Port,
};

/// From a tenant.
pub fn tenant(
    context: &mut Context<'_>,
    mbuf: Mbuf,
    port: &Port,
    vrf: VrfId,
    ethernet: &Ethernet,
) -> Result<(), Refused> {
    let (mbuf, arp) = parse(mbuf, ethernet)?;
    if arp.operation == Operation::Reply || arp.is_announcement() {
        return Err((mbuf, Reason::NotFlooded));
    }
    match owner(context, vrf, IpAddr::V4(arp.target), port.id) {
        Owner::Router | Owner::Other => answer(context, mbuf, port, ethernet, Mac::VIRTUAL_ROUTER),
        Owner::Nobody => Err((mbuf, Reason::Unanswered)),
    }
}

/// From the underlay.
pub fn uplink(
    context: &mut Context<'_>,
    mbuf: Mbuf,
    port: &Port,
    ethernet: &Ethernet,
) -> Result<(), Refused> {
    let (mbuf, arp) = parse(mbuf, ethernet)?;
    if !arp.sender.is_unspecified() && arp.sender_mac.is_unicast() {
        context.punt(Punt::Learned {
            port: port.id,
            address: IpAddr::V4(arp.sender),
            mac: arp.sender_mac,
        });
    }
    let ours = context.snapshot.local.find4(arp.target.to_bits()).is_some();
    match arp.operation {
        Operation::Request if arp.is_announcement() => host::learned(context, mbuf, port, ethernet),
        Operation::Request if ours || answers_on_underlay(context, IpAddr::V4(arp.target)) => {
            answer(context, mbuf, port, ethernet, port.mac)
        }
        Operation::Request => Err((mbuf, Reason::Unanswered)),
        Operation::Reply => host::learned(context, mbuf, port, ethernet),
    }
}

/// From the host: its own questions go out by its uplink, those for tenants of this vRouter are answered.
pub fn from_host(
    context: &mut Context<'_>,
    mbuf: Mbuf,
    uplink: &Port,
    ethernet: &Ethernet,
) -> Result<(), Refused> {
    let (mbuf, arp) = parse(mbuf, ethernet)?;
    let tap = host::tap(context, uplink);
    match tap {
        Some(tap)
            if arp.operation == Operation::Request
                && !arp.is_announcement()
                && answers_on_underlay(context, IpAddr::V4(arp.target)) =>
        {
            answer(context, mbuf, tap, ethernet, Mac::VIRTUAL_ROUTER)
        }
        _ => host::send_out(context, mbuf, uplink, ethernet),
    }
}

fn parse(mbuf: Mbuf, ethernet: &Ethernet) -> Result<(Mbuf, Arp), Refused> {
    match arp::parse(
        mbuf.data()
            .get(usize::from(ethernet.l3_offset)..)
            .unwrap_or_default(),
    ) {
        Ok(arp) => Ok((mbuf, arp)),
        Err(_) => Err((mbuf, Reason::Malformed)),
    }
}

fn answer(
    context: &mut Context<'_>,
    mut mbuf: Mbuf,
    port: &Port,
    ethernet: &Ethernet,
    mac: Mac,
) -> Result<(), Refused> {
    match arp::answer_in_place(mbuf.data_mut(), usize::from(ethernet.l3_offset), mac) {
        Ok(()) => {
            transmit::push(context, mbuf, port.id, port);
            Ok(())
        }
        Err(_) => Err((mbuf, Reason::Malformed)),
    }
}
