//! The virtio-net header in front of each frame of a tap, and what it says about pending offloads (virtio 1.2,
//! section 5.1.6; the same words as in `linux/virtio_net.h`).

use weft_packet::Mac;

use crate::dpdk::{HeaderLengths, Mbuf, Transport};

/// Length of `struct virtio_net_hdr`, in the host's byte order.
pub(super) const LENGTH: usize = 10;

const NEEDS_CHECKSUM: u8 = 1;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_ECN: u8 = 0x80;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPE_VLAN: u16 = 0x8100;
const ETHERTYPE_QINQ: u16 = 0x88a8;
/// Where TCP and UDP have their checksum.
const TCP_CHECKSUM: u16 = 16;
const UDP_CHECKSUM: u16 = 6;

/// The header, taken apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) flags: u8,
    pub(super) gso_type: u8,
    pub(super) header_length: u16,
    pub(super) gso_size: u16,
    pub(super) checksum_start: u16,
    pub(super) checksum_offset: u16,
}

impl Header {
    pub(super) fn read(bytes: &[u8; LENGTH]) -> Header {
        let word = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        Header {
            flags: bytes[0],
            gso_type: bytes[1],
            header_length: word(2),
            gso_size: word(4),
            checksum_start: word(6),
            checksum_offset: word(8),
        }
    }

    pub(super) fn write(self) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        bytes[0] = self.flags;
        bytes[1] = self.gso_type;
        for (at, word) in [
            (2, self.header_length),
            (4, self.gso_size),
            (6, self.checksum_start),
            (8, self.checksum_offset),
        ] {
            bytes[at..at + 2].copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }

    /// What must stand in front of a packet, from its pending offloads.
    pub(super) fn of(packet: &Mbuf) -> Header {
        let Ok(pending) = packet.pending() else {
            return Header::default();
        };
        if !pending.checksum {
            return Header::default();
        }
        let HeaderLengths { l2, l3, l4 } = packet.header_lengths();
        let udp = packet.pending_transport() == Some(Transport::Udp);
        let mut header = Header {
            flags: NEEDS_CHECKSUM,
            checksum_start: l2 + l3,
            checksum_offset: if udp { UDP_CHECKSUM } else { TCP_CHECKSUM },
            ..Header::default()
        };
        if let Some(size) = pending.segment {
            header.gso_type = if packet.pending_ipv6() {
                GSO_TCPV6
            } else {
                GSO_TCPV4
            };
            header.gso_size = size;
            header.header_length = l2 + l3 + l4;
        }
        header
    }

    /// Notes on a received packet what its sender left to do. A header that contradicts its packet is noted as such
    /// (`pending` is then an error).
    pub(super) fn note(self, packet: &mut Mbuf) {
        if self.flags & NEEDS_CHECKSUM == 0 && self.gso_type == 0 {
            return;
        }
        if self.noted(packet).is_none() {
            packet.set_bad_offload();
        }
    }

    fn noted(self, packet: &mut Mbuf) -> Option<()> {
        if self.flags & NEEDS_CHECKSUM == 0 {
            // Segmentation without a checksum to complete: each segment would need one.
            return None;
        }
        let frame = packet.data();
        let (l2, ethertype) = link_header(frame)?;
        let ipv6 = match ethertype {
            ETHERTYPE_IPV4 => false,
            ETHERTYPE_IPV6 => true,
            _ => return self.complete(packet),
        };
        let l3 = self.checksum_start.checked_sub(l2)?;
        let transport = match self.checksum_offset {
            TCP_CHECKSUM => Transport::Tcp,
            UDP_CHECKSUM => Transport::Udp,
            _ => return self.complete(packet),
        };
        let segment = match self.gso_type & !GSO_ECN {
            0 => None,
            GSO_TCPV4 if !ipv6 && transport == Transport::Tcp => Some(self.gso_size),
            GSO_TCPV6 if ipv6 && transport == Transport::Tcp => Some(self.gso_size),
            _ => return None,
        };
        let l4 = match transport {
            // The data offset, in words of four bytes, is the upper half of byte 12.
            Transport::Tcp => u16::from(*frame.get(usize::from(self.checksum_start) + 12)? >> 4) * 4,
            Transport::Udp => 8,
        };
        packet.set_pending(transport, ipv6, HeaderLengths { l2, l3, l4 }, segment);
        Some(())
    }

    /// A checksum of another protocol than TCP and UDP (ICMPv6 by a program's raw socket): completed at once, so that
    /// the pipeline knows two transports only.
    fn complete(self, packet: &mut Mbuf) -> Option<()> {
        let start = usize::from(self.checksum_start);
        let at = start + usize::from(self.checksum_offset);
        if self.gso_type != 0 || at + 2 > packet.len() {
            return None;
        }
        let mut skip = start;
        let mut odd = false;
        let mut sum = 0u64;
        for segment in packet.segment_slices() {
            let from = skip.min(segment.len());
            skip -= from;
            for byte in &segment[from..] {
                sum += if odd {
                    u64::from(*byte)
                } else {
                    u64::from(*byte) << 8
                };
                odd = !odd;
            }
        }
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        packet.write_at(at, &(!(sum as u16)).to_be_bytes()).then_some(())
    }
}

/// Length of the link-layer header with its tags, and the ethertype behind them.
fn link_header(frame: &[u8]) -> Option<(u16, u16)> {
    let mut at = size_of::<Mac>() * 2;
    for _ in 0..3 {
        let ethertype = u16::from_be_bytes([*frame.get(at)?, *frame.get(at + 1)?]);
        if ethertype != ETHERTYPE_VLAN && ethertype != ETHERTYPE_QINQ {
            return Some((at as u16 + 2, ethertype));
        }
        at += 4;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_survives_writing_and_reading() {
        let header = Header {
            flags: 1,
            gso_type: 4,
            header_length: 74,
            gso_size: 1440,
            checksum_start: 54,
            checksum_offset: 16,
        };
        assert_eq!(Header::read(&header.write()), header);
        assert_eq!(header.write()[4..6], 1440u16.to_ne_bytes());
    }

    #[test]
    fn tags_count_to_the_link_header() {
        let mut frame = vec![0; 12];
        frame.extend([0x88, 0xa8, 0, 7, 0x81, 0, 0, 9, 0x86, 0xdd, 0x60]);
        assert_eq!(link_header(&frame), Some((22, ETHERTYPE_IPV6)));
        assert_eq!(link_header(&frame[..21]), None);
        frame[20..22].copy_from_slice(&[0x81, 0]);
        assert_eq!(link_header(&frame), None);
    }
}
