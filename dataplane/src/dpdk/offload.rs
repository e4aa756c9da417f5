//! Pending offloads: what a packet's sender left to the device.
//!
//! A guest or a container may hand over a packet whose checksum or segmentation it left to the
//! device (virtio 1.2, section 5.1.6.2). What is still to be done is kept in the mbuf's transmit flags, as DPDK's
//! vhost library and its drivers have it, and read by [`Mbuf::pending`]. While a checksum is pending, the TCP or UDP
//! checksum field holds the folded sum of the pseudo header (not inverted), as virtio has it.

use thiserror::Error;

use super::mbuf::Mbuf;

/// Smallest TCP payload a segment may be asked to have: what is left of the smallest MSS that Linux takes (48) after
/// 40 bytes of options. A guest that asks for less wants many packets for few bytes.
pub const SMALLEST_SEGMENT: u16 = 8;

pub(super) const OFFLOAD_FLAGS: u64 =
    dpdk_sys::RTE_MBUF_F_TX_L4_MASK | dpdk_sys::RTE_MBUF_F_TX_TCP_SEG | dpdk_sys::RTE_MBUF_F_TX_UDP_SEG;
pub(super) const FAMILY_FLAGS: u64 =
    dpdk_sys::RTE_MBUF_F_TX_IPV4 | dpdk_sys::RTE_MBUF_F_TX_IPV6 | dpdk_sys::RTE_MBUF_F_TX_IP_CKSUM;

/// What was left to the device and is still to be done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pending {
    /// The TCP or UDP checksum is to be completed (its field holds the pseudo header's sum).
    pub checksum: bool,
    /// The packet is TCP and to be cut into segments with at most this much payload.
    pub segment: Option<u16>,
}

impl Pending {
    /// Nothing is left to do.
    #[inline]
    pub fn is_none(self) -> bool {
        self == Pending::default()
    }
}

/// Which checksum is pending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Transport {
    Tcp,
    Udp,
}

/// How long the headers of a packet with pending offloads are. `l2` is all that stands before the IP header to which
/// the offload belongs (127 bytes at most: room for an outer header of a tunnel).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct HeaderLengths {
    pub l2: u16,
    pub l3: u16,
    pub l4: u16,
}

/// A sender asked for an offload that contradicts its packet; it is dropped as `bad-offload`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the offload asked for does not fit the packet")]
pub struct BadOffload;

// Shift and width of the bit-fields in `tx_offload`; little-endian C compilers lay them out from the lowest bit.
const L2: (u32, u32) = (0, dpdk_sys::RTE_MBUF_L2_LEN_BITS);
const L3: (u32, u32) = (L2.0 + L2.1, dpdk_sys::RTE_MBUF_L3_LEN_BITS);
const L4: (u32, u32) = (L3.0 + L3.1, dpdk_sys::RTE_MBUF_L4_LEN_BITS);
const SEGMENT_SIZE: (u32, u32) = (L4.0 + L4.1, dpdk_sys::RTE_MBUF_TSO_SEGSZ_BITS);

impl Mbuf {
    /// What the sender left to the device, checked against the packet: the headers named are in the first segment,
    /// and the segments asked for have a sane size.
    #[inline]
    pub fn pending(&self) -> Result<Pending, BadOffload> {
        if self.is_pending() {
            self.checked_pending()
        } else {
            Ok(Pending::default())
        }
    }

    /// Something is pending: one look at the flags, unchecked.
    #[inline(always)]
    pub fn is_pending(&self) -> bool {
        self.get::<u64>(dpdk_sys::RTE_MBUF_OFFSET_OL_FLAGS_) & OFFLOAD_FLAGS != 0
    }

    fn checked_pending(&self) -> Result<Pending, BadOffload> {
        let flags = self.get::<u64>(dpdk_sys::RTE_MBUF_OFFSET_OL_FLAGS_);
        let HeaderLengths { l2, l3, l4 } = self.header_lengths();
        let first = usize::from(Self::segment_length(self.0));
        let before_l4 = usize::from(l2) + usize::from(l3);
        let shortest_l3 = if flags & dpdk_sys::RTE_MBUF_F_TX_IPV6 != 0 {
            40
        } else {
            20
        };
        if l2 < 14 || l3 < shortest_l3 || flags & FAMILY_FLAGS == 0 {
            return Err(BadOffload);
        }
        let transport = flags & dpdk_sys::RTE_MBUF_F_TX_L4_MASK;
        if flags & dpdk_sys::RTE_MBUF_F_TX_TCP_SEG != 0 {
            let segment = self.offload_bits(SEGMENT_SIZE);
            let headers = before_l4 + usize::from(l4);
            let tcp = transport == 0 || transport == dpdk_sys::RTE_MBUF_F_TX_TCP_CKSUM;
            if !tcp || l4 < 20 || headers > first || segment < SMALLEST_SEGMENT {
                return Err(BadOffload);
            }
            let several = self.len() - headers > usize::from(segment);
            return Ok(Pending {
                checksum: true,
                segment: several.then_some(segment),
            });
        }
        let shortest_l4 = match transport {
            dpdk_sys::RTE_MBUF_F_TX_TCP_CKSUM => 20,
            dpdk_sys::RTE_MBUF_F_TX_UDP_CKSUM => 8,
            _ => return Err(BadOffload),
        };
        if before_l4 + shortest_l4 > first {
            return Err(BadOffload);
        }
        Ok(Pending {
            checksum: true,
            segment: None,
        })
    }

    /// Which checksum is pending; None if none is.
    pub fn pending_transport(&self) -> Option<Transport> {
        let flags = self.get::<u64>(dpdk_sys::RTE_MBUF_OFFSET_OL_FLAGS_);
        match flags & dpdk_sys::RTE_MBUF_F_TX_L4_MASK {
            _ if flags & dpdk_sys::RTE_MBUF_F_TX_TCP_SEG != 0 => Some(Transport::Tcp),
            dpdk_sys::RTE_MBUF_F_TX_TCP_CKSUM => Some(Transport::Tcp),
            dpdk_sys::RTE_MBUF_F_TX_UDP_CKSUM => Some(Transport::Udp),
            _ => None,
        }
    }

    /// The packet whose offloads are pending is IPv6.
    pub fn pending_ipv6(&self) -> bool {
        self.get::<u64>(dpdk_sys::RTE_MBUF_OFFSET_OL_FLAGS_) & dpdk_sys::RTE_MBUF_F_TX_IPV6 != 0
    }

    /// Notes that the sender's request contradicts the packet: [`pending`](Self::pending) is an error from now on.
    pub(crate) fn set_bad_offload(&mut self) {
        // SCTP checksums are never left to weft, so this one alone cannot be a real request.
        let flags = self.get::<u64>(dpdk_sys::RTE_MBUF_OFFSET_OL_FLAGS_) & !(OFFLOAD_FLAGS | FAMILY_FLAGS);
        self.set(
            dpdk_sys::RTE_MBUF_OFFSET_OL_FLAGS_,
            flags | dpdk_sys::RTE_MBUF_F_TX_SCTP_CKSUM,
        );
        self.set(dpdk_sys::RTE_MBUF_OFFSET_TX_OFFLOAD_, 0u64);
    }

    /// Leaves a checksum, and with `segment` also segmentation, to the device. The checksum field must hold the pseudo
    /// header's sum.
    pub fn set_pending(
        &mut self,
        transport: Transport,
        ipv6: bool,
        lengths: HeaderLengths,
        segment: Option<u16>,
    ) {
        let mut flags =
            self.get::<u64>(dpdk_sys::RTE_MBUF_OFFSET_OL_FLAGS_) & !(OFFLOAD_FLAGS | FAMILY_FLAGS);
        flags |= match transport {
            Transport::Tcp => dpdk_sys::RTE_MBUF_F_TX_TCP_CKSUM,
            Transport::Udp => dpdk_sys::RTE_MBUF_F_TX_UDP_CKSUM,
        };
        flags |= if ipv6 {
            dpdk_sys::RTE_MBUF_F_TX_IPV6
        } else {
            dpdk_sys::RTE_MBUF_F_TX_IPV4
        };
        if segment.is_some() {
            flags |= dpdk_sys::RTE_MBUF_F_TX_TCP_SEG;
        }
        self.set(dpdk_sys::RTE_MBUF_OFFSET_OL_FLAGS_, flags);
        self.set_header_lengths(lengths);
        self.set_offload_bits(SEGMENT_SIZE, segment.unwrap_or(0));
    }

    /// Nothing is pending any more: checksum and segmentation are done.
    pub fn clear_pending(&mut self) {
        let flags = self.get::<u64>(dpdk_sys::RTE_MBUF_OFFSET_OL_FLAGS_) & !(OFFLOAD_FLAGS | FAMILY_FLAGS);
        self.set(dpdk_sys::RTE_MBUF_OFFSET_OL_FLAGS_, flags);
        self.set(dpdk_sys::RTE_MBUF_OFFSET_TX_OFFLOAD_, 0u64);
    }

    /// Lengths of the headers that pending offloads count from.
    #[inline]
    pub fn header_lengths(&self) -> HeaderLengths {
        HeaderLengths {
            l2: self.offload_bits(L2),
            l3: self.offload_bits(L3),
            l4: self.offload_bits(L4),
        }
    }

    /// Keeps the lengths right when a header is taken off or put in front while offloads are pending.
    #[inline]
    pub fn set_header_lengths(&mut self, lengths: HeaderLengths) {
        self.set_offload_bits(L2, lengths.l2);
        self.set_offload_bits(L3, lengths.l3);
        self.set_offload_bits(L4, lengths.l4);
    }

    #[inline]
    fn offload_bits(&self, (shift, width): (u32, u32)) -> u16 {
        let all = self.get::<u64>(dpdk_sys::RTE_MBUF_OFFSET_TX_OFFLOAD_);
        ((all >> shift) & ((1 << width) - 1)) as u16
    }

    #[inline]
    fn set_offload_bits(&mut self, (shift, width): (u32, u32), value: u16) {
        let mask = ((1u64 << width) - 1) << shift;
        let all = self.get::<u64>(dpdk_sys::RTE_MBUF_OFFSET_TX_OFFLOAD_);
        let value = (u64::from(value) << shift) & mask;
        self.set(dpdk_sys::RTE_MBUF_OFFSET_TX_OFFLOAD_, (all & !mask) | value);
    }
}
