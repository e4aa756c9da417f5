//! TCP segmentation in software (TSO): a guest sends one packet of up to 64 KiB, and the way out takes less.
//!
//! Only headers are made here; which buffers the payload lies in is the caller's. Fields follow what Linux and network
//! cards do: FIN and PSH on the last segment only, CWR on the first only (RFC 3168, section 6.1.2), IPv4
//! identification counted up.

use std::ops::Range;

use thiserror::Error;

use crate::{
    bytes::{array, array_mut, get_u16, get_u32, put},
    checksum::{Delta, Sum},
    ip::{Addresses, Fragment, IpPacket, protocol},
    ipv4, ipv6,
    l4::tcp_flag,
};

/// The longest headers, link to transport, that are copied in front of each segment.
pub const MAX_HEADER_LEN: usize = 256;

/// Why a packet cannot be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NotSegmentable {
    /// Not TCP, a fragment, or source-routed.
    #[error("only whole TCP packets without a source route are cut into segments")]
    NotTcp,
    /// The headers are not all there, contradict themselves, or are longer than [`MAX_HEADER_LEN`].
    #[error("its headers are cut off, contradict themselves, or take more than 256 bytes")]
    Headers,
    /// A segment size of 0.
    #[error("a segment size of 0")]
    ZeroSize,
}

/// Makes the headers of a large TCP packet's segments.
#[derive(Clone, Copy, Debug)]
pub struct Segmenter<'a> {
    header: &'a [u8],
    l3_offset: usize,
    l4_offset: usize,
    payload_len: usize,
    size: usize,
    addresses: Addresses,
}

impl<'a> Segmenter<'a> {
    /// Prepares to cut the packet that starts with `packet` (link header on; at least all headers) and whose IP header,
    /// at `l3_offset`, reads `ip`, into segments of up to `size` bytes of payload. A rewritten packet is parsed anew
    /// first.
    pub fn new(packet: &'a [u8], l3_offset: usize, ip: &IpPacket, size: u16) -> Result<Self, NotSegmentable> {
        if ip.protocol != protocol::TCP || ip.fragment != Fragment::Whole || ip.source_routed {
            return Err(NotSegmentable::NotTcp);
        }
        if size == 0 {
            return Err(NotSegmentable::ZeroSize);
        }
        let l4_offset = l3_offset + usize::from(ip.l4_offset);
        let tcp = array::<20>(packet, l4_offset).ok_or(NotSegmentable::Headers)?;
        let tcp_len = usize::from(tcp[12] >> 4) * 4;
        let header = packet.get(..l4_offset + tcp_len).ok_or(NotSegmentable::Headers)?;
        if tcp_len < 20 || tcp_len > ip.l4_len() || header.len() > MAX_HEADER_LEN {
            return Err(NotSegmentable::Headers);
        }
        let payload_len = ip.l4_len() - tcp_len;
        Ok(Segmenter {
            header,
            l3_offset,
            l4_offset,
            payload_len,
            size: usize::from(size),
            addresses: ip.addresses,
        })
    }

    /// Bytes of the headers in front of each segment's payload.
    #[inline]
    pub const fn header_len(&self) -> usize {
        self.header.len()
    }

    /// How many segments; one at least.
    #[inline]
    pub const fn count(&self) -> usize {
        if self.payload_len == 0 {
            1
        } else {
            self.payload_len.div_ceil(self.size)
        }
    }

    /// Writes the headers of segment `index` into `header` ([`Segmenter::header_len`] bytes) and says which bytes of the
    /// payload follow. None: no such segment, or no room.
    ///
    /// The TCP checksum's field holds the pseudo header's sum: complete it with [`Segmenter::finish`], or let the
    /// network card do it.
    pub fn write(&self, index: usize, header: &mut [u8]) -> Option<Range<usize>> {
        if index >= self.count() || header.len() != self.header.len() {
            return None;
        }
        let start = index * self.size;
        let end = self.payload_len.min(start + self.size);
        header.copy_from_slice(self.header);
        let l4_len = header.len() - self.l4_offset + (end - start);
        self.write_ip(index, l4_len, header)?;
        let tcp = array_mut::<20>(header, self.l4_offset)?;
        let sequence = get_u32(tcp, 4).wrapping_add(start as u32);
        put(tcp, 4, sequence.to_be_bytes());
        if end < self.payload_len {
            tcp[13] &= !(tcp_flag::FIN | tcp_flag::PSH);
        }
        if index > 0 {
            tcp[13] &= !tcp_flag::CWR;
        }
        let sum = Sum::pseudo_header(self.addresses, protocol::TCP, l4_len as u32);
        put(tcp, 16, sum.folded().to_be_bytes());
        Some(start..end)
    }

    fn write_ip(&self, index: usize, l4_len: usize, header: &mut [u8]) -> Option<()> {
        let ip_len = self.l4_offset - self.l3_offset + l4_len;
        match self.addresses {
            Addresses::V4 { .. } => {
                let ip = array_mut::<{ ipv4::HEADER_LEN }>(header, self.l3_offset)?;
                let (old_len, old_id) = (get_u16(ip, 2), get_u16(ip, 4));
                let (new_len, new_id) = (u16::try_from(ip_len).ok()?, old_id.wrapping_add(index as u16));
                let delta = Delta::NONE.u16(old_len, new_len).u16(old_id, new_id);
                let checksum = delta.apply(get_u16(ip, 10));
                put(ip, 2, new_len.to_be_bytes());
                put(ip, 4, new_id.to_be_bytes());
                put(ip, 10, checksum.to_be_bytes());
            }
            Addresses::V6 { .. } => {
                let ip = array_mut::<{ ipv6::HEADER_LEN }>(header, self.l3_offset)?;
                let payload_len = u16::try_from(ip_len - ipv6::HEADER_LEN).ok()?;
                put(ip, 4, payload_len.to_be_bytes());
            }
        }
        Some(())
    }

    /// Completes the TCP checksum in the headers of a segment with its payload, in as many pieces as it lies in.
    pub fn finish<'b>(&self, header: &mut [u8], payload: impl IntoIterator<Item = &'b [u8]>) -> Option<()> {
        let mut sum = Sum::new();
        sum.add(header.get(self.l4_offset..)?);
        for bytes in payload {
            sum.add(bytes);
        }
        *array_mut::<2>(header, self.l4_offset + 16)? = sum.checksum().to_be_bytes();
        Some(())
    }
}
