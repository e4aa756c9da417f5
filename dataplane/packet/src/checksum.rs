//! The Internet checksum: sums over whole packets (RFC 1071) and small changes to finished ones (RFC 1624).

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::{bytes::get_array, ip::Addresses};

/// A ones' complement sum in the making. Pieces may have any length, odd ones too; together they count as one run of
/// bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum {
    total: u64,
    odd: bool,
}

impl Sum {
    /// Of nothing.
    #[inline]
    pub const fn new() -> Self {
        Sum { total: 0, odd: false }
    }

    /// Of a pseudo header (RFC 9293 section 3.1, RFC 8200 section 8.1). `length` is that of transport header and data.
    #[inline]
    pub fn pseudo_header(addresses: Addresses, protocol: u8, length: u32) -> Self {
        match addresses {
            Addresses::V4 { source, destination } => {
                Sum::pseudo_header_v4(source, destination, protocol, length)
            }
            Addresses::V6 { source, destination } => {
                Sum::pseudo_header_v6(source, destination, protocol, length)
            }
        }
    }

    /// As [`Sum::pseudo_header`].
    #[inline]
    pub fn pseudo_header_v4(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, length: u32) -> Self {
        let total = u64::from(source.to_bits()) + u64::from(destination.to_bits());
        Sum {
            total: total + u64::from(protocol) + u64::from(length),
            odd: false,
        }
    }

    /// As [`Sum::pseudo_header`].
    #[inline]
    pub fn pseudo_header_v6(source: Ipv6Addr, destination: Ipv6Addr, protocol: u8, length: u32) -> Self {
        let mut sum = Sum {
            total: u64::from(protocol) + u64::from(length),
            odd: false,
        };
        sum.add(&source.octets());
        sum.add(&destination.octets());
        sum
    }

    /// Adds the next bytes.
    #[inline]
    pub fn add(&mut self, bytes: &[u8]) {
        let sum = sum_of(bytes);
        self.total += u64::from(if self.odd { sum.swap_bytes() } else { sum });
        self.odd ^= bytes.len() % 2 == 1;
    }

    /// Adds a number as two bytes that stand at an even place.
    #[inline]
    pub fn add_u16(&mut self, value: u16) {
        self.total += u64::from(value);
    }

    /// The sum so far in 16 bits: what a partial checksum (virtio, and network cards) wants in the field.
    #[inline]
    pub const fn folded(self) -> u16 {
        fold(self.total)
    }

    /// The checksum.
    #[inline]
    pub const fn checksum(self) -> u16 {
        !self.folded()
    }

    /// The checksum of UDP, where 0 would mean that there is none (RFC 768).
    #[inline]
    pub const fn udp_checksum(self) -> u16 {
        match self.checksum() {
            0 => 0xffff,
            checksum => checksum,
        }
    }

    /// True if the bytes, checksum included, are as they were sent.
    #[inline]
    pub const fn is_valid(self) -> bool {
        self.folded() == 0xffff
    }
}

/// The Internet checksum of one run of bytes; 0 over bytes that include their right checksum.
#[inline]
pub fn internet(bytes: &[u8]) -> u16 {
    !sum_of(bytes)
}

/// True if an IPv4 header without options carries its right checksum.
#[inline]
pub fn is_valid_ipv4_header(header: &[u8; 20]) -> bool {
    // A ones' complement sum of 0xffff is the same in either byte order, so the words are read as they lie.
    let word = |offset| u64::from(u32::from_ne_bytes(get_array::<20, 4>(header, offset)));
    fold(word(0) + word(4) + word(8) + word(12) + word(16)) == 0xffff
}

/// What changes of some fields add to a checksum that covers them (RFC 1624, equation 3). Fields must start at an
/// even place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delta(u64);

impl Delta {
    /// Of no change.
    pub const NONE: Delta = Delta(0);

    /// A 16-bit field.
    #[inline]
    pub const fn u16(self, old: u16, new: u16) -> Self {
        Delta(self.0 + !old as u64 + new as u64)
    }

    /// A 32-bit field.
    #[inline]
    pub const fn u32(self, old: u32, new: u32) -> Self {
        Delta(self.0 + !old as u64 + new as u64)
    }

    /// A 128-bit field.
    #[inline]
    pub const fn u128(self, old: u128, new: u128) -> Self {
        self.u32((old >> 96) as u32, (new >> 96) as u32)
            .u32((old >> 64) as u32, (new >> 64) as u32)
            .u32((old >> 32) as u32, (new >> 32) as u32)
            .u32(old as u32, new as u32)
    }

    /// Both changes.
    #[inline]
    pub const fn and(self, other: Delta) -> Self {
        Delta(self.0 + other.0)
    }

    /// The checksum after the change.
    #[inline]
    pub const fn apply(self, checksum: u16) -> u16 {
        !fold(!checksum as u64 + self.0)
    }

    /// The UDP checksum after the change: none (0) stays none, and one that comes out as 0 is written as 0xffff.
    #[inline]
    pub const fn apply_udp(self, checksum: u16) -> u16 {
        if checksum == 0 {
            return 0;
        }
        match self.apply(checksum) {
            0 => 0xffff,
            checksum => checksum,
        }
    }

    /// The partial checksum (a sum that is not complemented) after the change.
    #[inline]
    pub const fn apply_partial(self, sum: u16) -> u16 {
        fold(sum as u64 + self.0)
    }
}

/// Ones' complement: carries come back in at the bottom.
#[inline]
const fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}

/// Folded sum of bytes that start at an even place. Words are added as they lie in memory and the result is brought
/// into network order at the end (RFC 1071, section 2 B).
#[inline]
fn sum_of(bytes: &[u8]) -> u16 {
    let words = bytes.chunks_exact(8);
    let rest = words.remainder();
    // Halves of 64-bit words: a u64 holds 2^32 of them, more than any packet has. Two sums, so that they overlap.
    let (mut low, mut high) = (0u64, 0u64);
    for word in words {
        let word = u64::from_ne_bytes([
            word[0], word[1], word[2], word[3], word[4], word[5], word[6], word[7],
        ]);
        low += word & 0xffff_ffff;
        high += word >> 32;
    }
    let mut last = [0u8; 8];
    last[..rest.len()].copy_from_slice(rest);
    let last = u64::from_ne_bytes(last);
    u16::from_be(fold(fold(low) as u64 + fold(high) as u64 + fold(last) as u64))
}
