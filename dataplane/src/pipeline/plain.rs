//! The fast way through classify, for packets as most are: plain ones ([`weft_packet::plain`]) in one buffer, for a
//! tenant's port or out of a VXLAN tunnel.
//!
//! What the tag and the tunnel header lead to is looked up once for a run of packets that have the same. Whatever is
//! not plain, or does not lead to a lane, is left untouched to the general way in [`classify`](super::classify), which
//! also finds the reason if it is to be dropped.

use std::net::{IpAddr, Ipv4Addr};

use weft_packet::{
    Vni,
    plain::{self, Link, Plain},
};
use weft_table::{
    VrfId,
    flow::{DirectionIndex, Key4},
};

use super::{
    Context,
    burst::{Burst, Packet, port_ingress, tunnel_ingress},
    classify,
};
use crate::{
    dpdk::Pending,
    drops::Reason,
    snapshot::{HopId, Port, Quality, Role, Snapshot, Target, VlanContext},
    statistics::Counters,
};

/// What frames with one tag lead to, and how many of them came.
pub struct Arrival<'a> {
    link: Link,
    port: &'a Port,
    way: Way,
    lane: Lane,
    /// What the port may send.
    quality: Option<&'a Quality>,
    /// For a sub-interface; the device's own frames are counted where they are received.
    is_counted: bool,
    packets: u64,
    bytes: u64,
}

/// How packets of a port go on.
#[derive(Clone, Copy)]
enum Way {
    /// Into a lane.
    Lane,
    /// Out of a tunnel first, if it is one's.
    Tunnel,
    /// The general way.
    General,
}

/// In which VRF packets are looked up, by which way they came, and whether they have sessions.
#[derive(Clone, Copy)]
struct Lane {
    vrf: VrfId,
    ingress: u32,
    stateful: bool,
}

/// What one remote's packets with one VNI lead to.
pub struct Tunnel {
    remote: u32,
    vni: u32,
    lane: Lane,
}

impl<'a> Arrival<'a> {
    /// What untagged frames lead to.
    pub fn untagged(snapshot: &Snapshot, device: &'a Port) -> Self {
        Arrival::new(snapshot, Link::UNTAGGED, device, device, device.vrf)
    }

    fn new(snapshot: &Snapshot, link: Link, device: &Port, port: &'a Port, vrf: VrfId) -> Self {
        Arrival {
            link,
            port,
            way: match port.role {
                Role::Tenant => Way::Lane,
                Role::Uplink { .. } => Way::Tunnel,
                Role::Host { .. } => Way::General,
            },
            lane: Lane {
                vrf,
                ingress: port_ingress(port.id),
                stateful: is_stateful(snapshot, port, vrf),
            },
            quality: port.quality.as_deref(),
            is_counted: port.id != device.id,
            packets: 0,
            bytes: 0,
        }
    }

    /// What another frame's link header leads to. None: to nobody, or it is not plain.
    #[cold]
    fn of(snapshot: &'a Snapshot, device: &'a Port, frame: &[u8]) -> Option<Self> {
        let link = Link::of(frame).filter(|link| link.is_of(frame))?;
        if link.vlan() == 0 {
            return Some(Arrival::new(snapshot, link, device, device, device.vrf));
        }
        let known: VlanContext = device.vlans.as_ref()?[usize::from(link.vlan())]?;
        let port = snapshot.port(known.port)?;
        Some(Arrival::new(snapshot, link, device, port, known.vrf))
    }

    /// The run is over: its packets are counted.
    pub fn count(&self, counters: &mut Counters) {
        if let Some(port) = counters.port(self.port.id) {
            port.rx_packets += self.packets;
            port.rx_bytes += self.bytes;
        }
    }
}

fn is_stateful(snapshot: &Snapshot, port: &Port, vrf: VrfId) -> bool {
    let packet_mode = snapshot.vrf(vrf).is_some_and(|vrf| vrf.packet_mode);
    !(packet_mode || port.packet_mode)
}

/// Puts a plain packet into its lane. False: it is not plain, and untouched.
#[inline(always)]
pub fn classify<'a>(
    burst: &mut Burst,
    context: &mut Context<'a>,
    index: usize,
    device: &'a Port,
    arrival: &mut Arrival<'a>,
    tunnel: &mut Option<Tunnel>,
) -> bool {
    let Some(mbuf) = &mut burst.mbufs[index] else {
        return false;
    };
    if !mbuf.is_plain() {
        return false;
    }
    let frame = mbuf.data();
    if !arrival.link.is_of(frame) {
        let Some(other) = Arrival::of(context.snapshot, device, frame) else {
            return false;
        };
        arrival.count(context.counters);
        *arrival = other;
    }
    let Some(outer) = arrival.link.packet(frame) else {
        return false;
    };
    let length = frame.len() as u64;
    let (lane, packet) = match arrival.way {
        Way::Lane => (arrival.lane, outer),
        Way::Tunnel => match decapsulate(context.snapshot, arrival.port, frame, outer, tunnel) {
            Some(inner) => inner,
            None => return false,
        },
        Way::General => return false,
    };
    if !mbuf.narrow(packet.l3_offset(), usize::from(packet.total_len())) {
        return false;
    }
    if arrival.is_counted {
        arrival.packets += 1;
        arrival.bytes += length;
    }
    if let Some(quality) = arrival.quality {
        burst.packets[index].port = arrival.port.id;
        if !quality.egress.lets_pass(length, context.began) {
            burst.drop(index, Reason::EgressLimit, context.counters);
            return true;
        }
    }
    enlist(burst, context, index, arrival.port, lane, packet);
    if let Some(dscp) = arrival.quality.and_then(|quality| quality.spec.dscp) {
        classify::mark(burst, index, dscp);
    }
    true
}

/// Takes a packet to the vRouter out of its VXLAN tunnel. None: it is for the general way.
#[inline(never)]
fn decapsulate(
    snapshot: &Snapshot,
    port: &Port,
    frame: &[u8],
    outer: Plain,
    tunnel: &mut Option<Tunnel>,
) -> Option<(Lane, Plain)> {
    let for_us = frame.first_chunk::<6>() == Some(&port.mac.0);
    if !for_us || snapshot.local.find4(outer.destination()).is_none() {
        return None;
    }
    let (vni, inner) = plain::vxlan(frame, outer)?;
    match tunnel {
        Some(same) if same.remote == outer.source() && same.vni == vni => {}
        _ => *tunnel = Tunnel::find(snapshot, port, outer.source(), vni),
    }
    Some((tunnel.as_ref()?.lane, inner))
}

impl Tunnel {
    /// None: no endpoint, no VNI, or one that leads straight to a port.
    fn find(snapshot: &Snapshot, port: &Port, remote: u32, vni: u32) -> Option<Tunnel> {
        let &endpoint = snapshot.endpoints.get(&IpAddr::V4(Ipv4Addr::from(remote)))?;
        match *snapshot.vnis.get(&Vni::new(vni).ok()?)? {
            Target::Vrf(vrf) => Some(Tunnel {
                remote,
                vni,
                lane: Lane {
                    vrf,
                    ingress: tunnel_ingress(endpoint),
                    stateful: is_stateful(snapshot, port, vrf),
                },
            }),
            Target::Port(_) => None,
        }
    }
}

#[inline(always)]
fn enlist(burst: &mut Burst, context: &Context<'_>, index: usize, port: &Port, lane: Lane, plain: Plain) {
    let (addresses, ports) = (plain.addresses(), plain.ports());
    let key = Key4 {
        source: addresses as u32,
        destination: (addresses >> 32) as u32,
        source_port: ports as u16,
        destination_port: (ports >> 16) as u16,
        vrf: lane.vrf,
        protocol: plain.protocol(),
    };
    let hash = context.shared.sessions4.hash(&key);
    if lane.stateful {
        context.shared.sessions4.prefetch(hash);
    }
    burst.v4.push(index, key, hash, lane.stateful);
    burst.packets[index] = Packet {
        port: port.id,
        vrf: lane.vrf,
        ingress: lane.ingress,
        hash: Packet::hash_of(hash),
        length: u32::from(plain.total_len()),
        traffic_class: plain.traffic_class(),
        v6: false,
        tcp_flags: plain.tcp_flags(),
        pending: Pending::default(),
        hop: HopId::RECEIVE,
        session: DirectionIndex::NONE,
    };
}
