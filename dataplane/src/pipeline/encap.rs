//! Put headers in front of a packet and give it to its port: the tunnel's if there is one, then the link's.
//!
//! Both were made with the snapshot; what differs from packet to packet is patched in. Checksums and segmentation that
//! the sender left undone are passed on to ports that take them, and done here for those that don't (and for tunnels).
//!
//! Drops: too-big, no-buffer, bad-offload, ingress-limit.

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
#[inline]
pub fn send(context: &mut Context<'_>, mbuf: Mbuf, packet: &Packet, egress: &Egress<'_>) {
    Front::new(egress).send(context, mbuf, packet);
}

/// A way out made ready for a train of packets: all that stands in front of them in one piece, the link's header and
/// the tunnel's.
pub struct Front<'a> {
    egress: &'a Egress<'a>,
    mtu: u32,
    length: usize,
    /// The headers end where the array ends, so that copies of fixed size put them in front of a packet.
    bytes: [u8; ROOM],
}

/// Most bytes in front of a packet; its headroom has more.
const ROOM: usize = MAX_TEMPLATE_LEN + L2Header::MAX;
/// As many as VXLAN over IPv4 needs without a tag.
const SHORT: usize = 64;

impl<'a> Front<'a> {
    /// Puts the headers together.
    #[inline]
    pub fn new(egress: &'a Egress<'a>) -> Self {
        let outer = egress.template.map_or(&[][..], Template::bytes);
        let length = outer.len() + egress.header.length();
        let v6 = egress.template.is_some_and(Template::is_v6);
        let mut bytes = [0; ROOM];
        if let Some(place) = bytes.get_mut(ROOM.saturating_sub(outer.len())..) {
            place.copy_from_slice(outer);
        }
        if let Some(place) = bytes.get_mut(ROOM.saturating_sub(length)..) {
            egress.header.write(place, ethertype_of(v6));
        }
        Front {
            egress,
            mtu: egress.mtu(),
            length,
            bytes,
        }
    }

    /// Sends a packet that starts with its IP header.
    #[inline(always)]
    pub fn send(&self, context: &mut Context<'_>, mbuf: Mbuf, packet: &Packet) {
        if packet.pending.is_none() && packet.length <= self.mtu {
            self.frame(context, mbuf, packet);
        } else {
            send_with_work(context, mbuf, packet, self.egress);
        }
    }

    /// Writes the headers, and hands the frame over.
    #[inline(always)]
    fn frame(&self, context: &mut Context<'_>, mut mbuf: Mbuf, packet: &Packet) {
        let inner_length = mbuf.len();
        let written = mbuf
            .headroom_mut::<ROOM>()
            .is_some_and(|room| self.write(room, inner_length, packet));
        if !written || mbuf.prepend(self.length).is_none() {
            return context.drop(mbuf, packet.port, Reason::TooBig);
        }
        if mbuf.is_pending() {
            let lengths = mbuf.header_lengths();
            mbuf.set_header_lengths(HeaderLengths {
                l2: self.length as u16,
                ..lengths
            });
        }
        if let Some(quality) = &self.egress.port.quality
            && !quality.ingress.lets_pass(mbuf.len() as u64, context.began)
        {
            return context.drop(mbuf, packet.port, Reason::IngressLimit);
        }
        transmit::push(context, mbuf, packet.port, self.egress.port);
    }

    /// False: the packet would be longer than its outer header can say.
    #[inline(always)]
    fn write(&self, room: &mut [u8; ROOM], inner_length: usize, packet: &Packet) -> bool {
        if self.length <= SHORT {
            room[ROOM - SHORT..].copy_from_slice(&self.bytes[ROOM - SHORT..]);
        } else {
            *room = self.bytes;
        }
        let Some(template) = self.egress.template else {
            if packet.v6 {
                room[ROOM - 2..].copy_from_slice(&ethertype::IPV6.to_be_bytes());
            }
            return true;
        };
        let (entropy, class) = (tunnel::entropy(packet.hash), packet.traffic_class);
        let outer = room.get_mut(ROOM.saturating_sub(template.len())..);
        outer.is_some_and(|outer| {
            template
                .patch(outer, inner_length, entropy, class, packet.v6)
                .is_ok()
        })
    }
}

const fn ethertype_of(v6: bool) -> u16 {
    if v6 { ethertype::IPV6 } else { ethertype::IPV4 }
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

/// Sends a packet on which nothing is left to do.
pub fn frame(context: &mut Context<'_>, mbuf: Mbuf, packet: &Packet, egress: &Egress<'_>) {
    Front::new(egress).frame(context, mbuf, packet);
}
