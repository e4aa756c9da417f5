//! Put headers in front of a packet and give it to its port: the tunnel's if there is one, then the link's.
//!
//! Both were made with the snapshot; what differs from packet to packet is patched in. Checksums and segmentation that
//! the sender left undone are passed on to ports that take them, and done here for those that don't (and for tunnels).
//!
//! Drops: too-big, no-buffer, bad-offload.

use weft_packet::{
    ethernet::ethertype,
    tunnel::{self, MAX_TEMPLATE_LEN, Template},
};

use super::{Context, burst::Packet, offload, transmit};
use crate::{
    dpdk::{HeaderLengths, Mbuf, Pending},
    drops::Reason,
    port::Capabilities,
    snapshot::{L2Header, Port},
};

/// A way out.
#[derive(Clone, Copy)]
pub struct Egress<'a> {
    /// Port, as the tenant or the underlay knows it.
    pub port: &'a Port,
    /// MACs and tag.
    pub header: &'a L2Header,
    /// Outer header between link and packet.
    pub template: Option<&'a Template>,
}

impl Egress<'_> {
    /// Largest inner packet, bytes.
    #[inline(always)]
    pub fn mtu(&self) -> u32 {
        let outer = self.template.map_or(0, Template::len) as u32;
        u32::from(self.port.mtu).saturating_sub(outer)
    }

    fn capabilities(&self) -> Capabilities {
        match self.template {
            Some(_) => Capabilities::default(),
            None => self.port.driver.capabilities(),
        }
    }
}

/// Sends a packet that starts with its IP header.
#[inline(always)]
pub fn send(context: &mut Context<'_>, mbuf: Mbuf, packet: &Packet, egress: &Egress<'_>) {
    if packet.pending.is_none() && packet.length <= egress.mtu() {
        frame(context, mbuf, packet, egress);
    } else {
        send_with_work(context, mbuf, packet, egress);
    }
}

/// What is pending is done, or left to the port; what is too long is cut.
#[cold]
fn send_with_work(context: &mut Context<'_>, mut mbuf: Mbuf, packet: &Packet, egress: &Egress<'_>) {
    let capabilities = egress.capabilities();
    let Pending { checksum, segment } = packet.pending;
    if let Some(size) = segment {
        let lengths = mbuf.header_lengths();
        let headers = u32::from(lengths.l3 + lengths.l4);
        let fits = headers + u32::from(size) <= egress.mtu();
        if !(capabilities.segmentation && fits) {
            let size = u32::from(size).min(egress.mtu().saturating_sub(headers)) as u16;
            return offload::segment(context, mbuf, packet, size, egress);
        }
        return frame(context, mbuf, packet, egress);
    }
    if packet.length > egress.mtu() {
        return offload::fragment(context, mbuf, packet, egress);
    }
    if checksum && !capabilities.checksum && !offload::complete_checksum(&mut mbuf) {
        return context.drop(mbuf, packet.port, Reason::BadOffload);
    }
    frame(context, mbuf, packet, egress);
}

/// Most bytes in front of a packet: outer header and link's, tag included. The headroom has more.
const ROOM: usize = MAX_TEMPLATE_LEN + L2Header::MAX;

/// Writes the headers, from the packet's start backwards, with copies of fixed size.
#[inline(always)]
pub fn frame(context: &mut Context<'_>, mut mbuf: Mbuf, packet: &Packet, egress: &Egress<'_>) {
    let inner_length = mbuf.len();
    let Some(length) = mbuf
        .headroom_mut::<ROOM>()
        .and_then(|room| headers(room, inner_length, packet, egress))
        .filter(|length| mbuf.prepend(*length).is_some())
    else {
        return context.drop(mbuf, packet.port, Reason::TooBig);
    };
    if mbuf.is_pending() {
        let lengths = mbuf.header_lengths();
        mbuf.set_header_lengths(HeaderLengths {
            l2: length as u16,
            ..lengths
        });
    }
    transmit::push(context, mbuf, packet.port, egress.port);
}

/// Writes the headers at the end of the room; how many bytes they are.
#[inline(always)]
fn headers(
    room: &mut [u8; ROOM],
    inner_length: usize,
    packet: &Packet,
    egress: &Egress<'_>,
) -> Option<usize> {
    let (mut v6, mut length) = (packet.v6, 0);
    if let Some(template) = egress.template {
        let entropy = tunnel::entropy(packet.hash);
        let room = room.last_chunk_mut::<MAX_TEMPLATE_LEN>()?;
        template
            .write_headroom(room, inner_length, entropy, packet.traffic_class, v6)
            .ok()?;
        (v6, length) = (template.is_v6(), template.len());
    }
    let ethertype = if v6 { ethertype::IPV6 } else { ethertype::IPV4 };
    length += egress.header.length();
    egress.header.write(room.get_mut(ROOM - length..)?, ethertype);
    Some(length)
}
