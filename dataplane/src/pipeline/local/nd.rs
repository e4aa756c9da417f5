//! IPv6 neighbour discovery (RFC 4861), answered at the port like [`arp`](super::arp).
//!
//! Drops: malformed, unanswered, not-flooded, no-service.

use std::net::{IpAddr, Ipv6Addr};

use weft_packet::{
    Mac,
    ethernet::Ethernet,
    ip::{self, IpPacket},
    nd::{self, Answer, Message, Solicitation},
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

/// ICMPv6 types of RFC 4861: router solicitation to redirect.
const DISCOVERY: std::ops::RangeInclusive<u8> = 133..=137;

/// Whether an ICMPv6 packet belongs here.
pub fn is_discovery(mbuf: &Mbuf, ethernet: &Ethernet, ip: &IpPacket) -> bool {
    let offset = usize::from(ethernet.l3_offset) + usize::from(ip.l4_offset);
    mbuf.data()
        .get(offset)
        .is_some_and(|kind| DISCOVERY.contains(kind))
}

/// From a tenant.
pub fn tenant(
    context: &mut Context<'_>,
    mbuf: Mbuf,
    port: &Port,
    vrf: VrfId,
    ethernet: &Ethernet,
    ip: &IpPacket,
) -> Result<(), Refused> {
    match parse(&mbuf, ethernet, ip) {
        Ok(Some(Message::Solicitation(asked))) => {
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
                Owner::Nobody => return Err((mbuf, Reason::Unanswered)),
            };
            self::answer(context, mbuf, port, ethernet, &asked, answer)
        }
        Ok(Some(Message::Advertisement(_))) => Err((mbuf, Reason::NotFlooded)),
        Ok(None) => Err((mbuf, Reason::NotService)),
        Err(reason) => Err((mbuf, reason)),
    }
}

/// From the underlay.
pub fn uplink(
    context: &mut Context<'_>,
    mbuf: Mbuf,
    port: &Port,
    ethernet: &Ethernet,
    ip: &IpPacket,
) -> Result<(), Refused> {
    match parse(&mbuf, ethernet, ip) {
        Ok(Some(Message::Solicitation(asked))) => {
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
                return self::answer(context, mbuf, port, ethernet, &asked, answer);
            }
            // The host's link-local address is its own to defend.
            host::deliver_frame(context, mbuf, port, ethernet)
        }
        Ok(Some(Message::Advertisement(told))) => {
            let mac = told.target_mac.unwrap_or(ethernet.source);
            learn(context, port, told.target, mac);
            host::learned(context, mbuf, port, ethernet)
        }
        Ok(None) => host::deliver_frame(context, mbuf, port, ethernet),
        Err(reason) => Err((mbuf, reason)),
    }
}

/// From the host: as with ARP.
pub fn from_host(
    context: &mut Context<'_>,
    mbuf: Mbuf,
    uplink: &Port,
    ethernet: &Ethernet,
) -> Result<(), Refused> {
    let l3 = mbuf
        .data()
        .get(usize::from(ethernet.l3_offset)..)
        .unwrap_or_default();
    let parsed = ip::parse(l3, l3.len())
        .ok()
        .and_then(|ip| nd::parse(l3, &ip).ok().flatten());
    let tap = host::tap(context, uplink);
    match (parsed, tap) {
        (Some(Message::Solicitation(asked)), Some(tap))
            if answers_on_underlay(context, IpAddr::V6(asked.target)) =>
        {
            let answer = Answer {
                mac: Mac::VIRTUAL_ROUTER,
                router: false,
                override_known: false,
            };
            self::answer(context, mbuf, tap, ethernet, &asked, answer)
        }
        _ => host::send_out(context, mbuf, uplink, ethernet),
    }
}

fn parse(mbuf: &Mbuf, ethernet: &Ethernet, ip: &IpPacket) -> Result<Option<Message>, Reason> {
    let l3 = mbuf
        .data()
        .get(usize::from(ethernet.l3_offset)..)
        .unwrap_or_default();
    nd::parse(l3, ip).map_err(crate::pipeline::classify::reason)
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
    context: &mut Context<'_>,
    mut mbuf: Mbuf,
    port: &Port,
    ethernet: &Ethernet,
    asked: &Solicitation,
    answer: Answer,
) -> Result<(), Refused> {
    let l3_offset = usize::from(ethernet.l3_offset);
    // The answer has an option that the question may lack.
    let needed = l3_offset + nd::PACKET_LEN;
    let missing = needed.saturating_sub(mbuf.data().len());
    if missing > 0 && mbuf.append(missing).is_none() {
        return Err((mbuf, Reason::NoBuffer));
    }
    match nd::answer_in_place(mbuf.data_mut(), l3_offset, asked, answer) {
        Ok(length) => {
            if mbuf.len() > length && !mbuf.trim_back(length) {
                return Err((mbuf, Reason::Malformed));
            }
            transmit::push(context, mbuf, port.id, port);
            Ok(())
        }
        Err(_) => Err((mbuf, Reason::Malformed)),
    }
}
