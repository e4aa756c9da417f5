//! IPv6 neighbour discovery (RFC 4861), answered at the port like [`arp`](super::arp).
//!
//! Drops: malformed, unanswered, not-flooded, no-service.

use std::net::{IpAddr, Ipv6Addr};

use super::{Owner, answers_on_underlay, host, owner};
use crate::{
    drops::Reason,
    pipeline::{Context, burst::Burst, classify::reason, transmit},
    shared::Punt,
    snapshot::Port,
};
use weft_packet::{
    Mac,
    ethernet::Ethernet,
    ip::{self, IpPacket},
    nd::{self, Answer, Message, Solicitation},
};

/// ICMPv6 types of RFC 4861: router solicitation to redirect.
const DISCOVERY: std::ops::RangeInclusive<u8> = 133..=137;

/// Whether an ICMPv6 packet belongs here.
pub fn is_discovery(frame: &[u8], ethernet: &Ethernet, ip: &IpPacket) -> bool {
    let offset = usize::from(ethernet.l3_offset) + usize::from(ip.l4_offset);
    frame.get(offset).is_some_and(|kind| DISCOVERY.contains(kind))
}

/// From a tenant.
pub fn tenant(
    burst: &mut Burst,
    context: &mut Context<'_>,
    index: usize,
    port: &Port,
    ethernet: &Ethernet,
    ip: &IpPacket,
) -> Result<(), Reason> {
    match parse(burst, index, ethernet, ip)? {
        Some(Message::Solicitation(asked)) => {
            let vrf = burst.packets[index].vrf;
            let gateway = asked.target == nd::VIRTUAL_ROUTER;
            let owner = if gateway {
                Owner::Router
            } else {
                owner(context, vrf, IpAddr::V6(asked.target), port.id)
            };
            let answer = match owner {
                Owner::Router => Answer {
                    mac: Mac::VIRTUAL_ROUTER,
                    router: true,
                    override_known: true,
                },
                Owner::Other => Answer {
                    mac: Mac::VIRTUAL_ROUTER,
                    router: false,
                    override_known: false,
                },
                Owner::Nobody => return Err(Reason::Unanswered),
            };
            self::answer(burst, context, index, port, ethernet, &asked, answer)
        }
        Some(Message::Advertisement(_)) => Err(Reason::NotFlooded),
        None => Err(Reason::NotService),
    }
}

/// From the underlay.
pub fn uplink(
    burst: &mut Burst,
    context: &mut Context<'_>,
    index: usize,
    port: &Port,
    ethernet: &Ethernet,
    ip: &IpPacket,
) -> Result<(), Reason> {
    match parse(burst, index, ethernet, ip)? {
        Some(Message::Solicitation(asked)) => {
            if let Some(mac) = asked.source_mac.filter(|_| !asked.source.is_unspecified()) {
                learn(context, port, asked.source, mac);
            }
            let ours = context.snapshot.local.find6(asked.target.to_bits()).is_some();
            if ours || answers_on_underlay(context, IpAddr::V6(asked.target)) {
                let answer = Answer {
                    mac: port.mac,
                    router: true,
                    override_known: ours,
                };
                return self::answer(burst, context, index, port, ethernet, &asked, answer);
            }
            // The host's link-local address is its own to defend.
            host::deliver_frame(burst, context, index, port, ethernet)
        }
        Some(Message::Advertisement(told)) => {
            learn(
                context,
                port,
                told.target,
                told.target_mac.unwrap_or(ethernet.source),
            );
            host::learned(burst, context, index, port, ethernet)
        }
        None => host::deliver_frame(burst, context, index, port, ethernet),
    }
}

/// From the host: as with ARP.
pub fn from_host(
    burst: &mut Burst,
    context: &mut Context<'_>,
    index: usize,
    uplink: &Port,
    ethernet: &Ethernet,
) -> Result<(), Reason> {
    let l3 = burst
        .data(index)
        .get(usize::from(ethernet.l3_offset)..)
        .unwrap_or_default();
    let parsed = ip::parse(l3, l3.len())
        .ok()
        .and_then(|ip| nd::parse(l3, &ip).ok().flatten());
    match (parsed, host::tap(context, uplink)) {
        (Some(Message::Solicitation(asked)), Some(tap))
            if answers_on_underlay(context, IpAddr::V6(asked.target)) =>
        {
            let answer = Answer {
                mac: Mac::VIRTUAL_ROUTER,
                router: false,
                override_known: false,
            };
            self::answer(burst, context, index, tap, ethernet, &asked, answer)
        }
        _ => host::send_out(burst, context, index, uplink, ethernet),
    }
}

fn parse(burst: &Burst, index: usize, ethernet: &Ethernet, ip: &IpPacket) -> Result<Option<Message>, Reason> {
    let l3 = burst
        .data(index)
        .get(usize::from(ethernet.l3_offset)..)
        .unwrap_or_default();
    nd::parse(l3, ip).map_err(reason)
}

fn learn(context: &Context<'_>, port: &Port, address: Ipv6Addr, mac: Mac) {
    if mac.is_unicast() {
        context.punt(Punt::Learned {
            port: port.id,
            address: IpAddr::V6(address),
            mac,
        });
    }
}

fn answer(
    burst: &mut Burst,
    context: &mut Context<'_>,
    index: usize,
    port: &Port,
    ethernet: &Ethernet,
    asked: &Solicitation,
    answer: Answer,
) -> Result<(), Reason> {
    let l3_offset = usize::from(ethernet.l3_offset);
    let mbuf = burst.get(index)?;
    // The answer has an option that the question may lack.
    let missing = (l3_offset + nd::PACKET_LEN).saturating_sub(mbuf.data().len());
    if missing > 0 && mbuf.append(missing).is_none() {
        return Err(Reason::NoBuffer);
    }
    let length =
        nd::answer_in_place(mbuf.data_mut(), l3_offset, asked, answer).map_err(|_| Reason::Malformed)?;
    if mbuf.len() > length && !mbuf.trim_back(length) {
        return Err(Reason::Malformed);
    }
    let mbuf = burst.take(index)?;
    transmit::push(context, mbuf, port.id, port);
    Ok(())
}
