//! IPv4 fragmentation (RFC 791, section 3.2): a packet without DF meets a smaller MTU. IPv6 routers do not fragment.

use std::ops::Range;

use thiserror::Error;

use crate::{
    bytes::{get_u16, put},
    checksum,
    ip::{Addresses, IpPacket},
    ipv4::{self, DONT_FRAGMENT, HEADER_LEN, MAX_HEADER_LEN, MORE_FRAGMENTS, OFFSET_MASK},
};

/// Why a packet cannot be fragmented.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NotFragmentable {
    /// DF is set, or it is IPv6.
    #[error("the packet may not be fragmented: it is IPv6, or DF is set")]
    DontFragment,
    /// Not even eight bytes of data fit.
    #[error("an MTU of {0} bytes has no room for a header and eight bytes of data")]
    MtuTooSmall(u16),
    /// The header is not all there.
    #[error("its header is cut off")]
    Header,
}

/// Makes the IP headers of a packet's fragments. The packet may itself be a fragment.
#[derive(Clone, Copy, Debug)]
pub struct Fragmenter {
    /// Of the first fragment; the others' have only those options that are copied.
    first: [u8; MAX_HEADER_LEN],
    later: [u8; MAX_HEADER_LEN],
    first_len: usize,
    later_len: usize,
    data_len: usize,
    /// The packet fits as it is.
    fits: bool,
    first_size: usize,
    later_size: usize,
    offset: usize,
    more: bool,
}

impl Fragmenter {
    /// Prepares to cut the packet whose IP header, at the start of `l3`, reads `ip`, for links of `mtu` bytes.
    pub fn new(l3: &[u8], ip: &IpPacket, mtu: u16) -> Result<Self, NotFragmentable> {
        let Addresses::V4 { .. } = ip.addresses else {
            return Err(NotFragmentable::DontFragment);
        };
        let first_len = usize::from(ip.l4_offset);
        let header = l3.get(..first_len).ok_or(NotFragmentable::Header)?;
        let fixed = header
            .first_chunk::<HEADER_LEN>()
            .ok_or(NotFragmentable::Header)?;
        let field = get_u16(fixed, 6);
        if field & DONT_FRAGMENT != 0 {
            return Err(NotFragmentable::DontFragment);
        }
        let mut first = [0u8; MAX_HEADER_LEN];
        first
            .get_mut(..first_len)
            .ok_or(NotFragmentable::Header)?
            .copy_from_slice(header);
        let (later, later_len) = copied_options(header, fixed);
        // Data in all fragments but the last is a multiple of eight.
        let size = |header_len: usize| usize::from(mtu).saturating_sub(header_len) & !7;
        let fits = ip.total_len <= u32::from(mtu);
        let (first_size, later_size) = (size(first_len), size(later_len));
        if !fits && (first_size == 0 || later_size == 0) {
            return Err(NotFragmentable::MtuTooSmall(mtu));
        }
        Ok(Fragmenter {
            first,
            later,
            first_len,
            later_len,
            data_len: ip.l4_len(),
            fits,
            first_size,
            later_size,
            offset: usize::from(field & OFFSET_MASK) * 8,
            more: field & MORE_FRAGMENTS != 0,
        })
    }

    /// How many fragments; one if the packet fits as it is.
    pub const fn count(&self) -> usize {
        if self.fits {
            return 1;
        }
        1 + (self.data_len - self.first_size).div_ceil(self.later_size)
    }

    /// Writes the IP header of fragment `index` to the start of `header` ([`ipv4::MAX_HEADER_LEN`] bytes always
    /// suffice). Says how long it is, and which bytes of what followed the original header follow it. None: no such
    /// fragment, or no room.
    pub fn write(&self, index: usize, header: &mut [u8]) -> Option<(usize, Range<usize>)> {
        if index >= self.count() {
            return None;
        }
        let (original, len, start, size) = if self.fits {
            (&self.first, self.first_len, 0, self.data_len)
        } else if index == 0 {
            (&self.first, self.first_len, 0, self.first_size)
        } else {
            let start = self.first_size + (index - 1) * self.later_size;
            (&self.later, self.later_len, start, self.later_size)
        };
        let end = self.data_len.min(start + size);
        let header = header.get_mut(..len)?;
        header.copy_from_slice(&original[..len]);
        let is_last = end == self.data_len;
        let more = if self.more || !is_last { MORE_FRAGMENTS } else { 0 };
        let offset = u16::try_from((self.offset + start) / 8).ok()? & OFFSET_MASK;
        let total_len = u16::try_from(len + end - start).ok()?;
        {
            let fixed = header.first_chunk_mut::<HEADER_LEN>()?;
            put(fixed, 2, total_len.to_be_bytes());
            put(fixed, 6, (more | offset).to_be_bytes());
            put(fixed, 10, [0, 0]);
        }
        let sum = checksum::internet(header);
        put(header.first_chunk_mut::<HEADER_LEN>()?, 10, sum.to_be_bytes());
        Some((len, start..end))
    }
}

/// The header of later fragments: only options whose "copied" bit is set, padded with their end.
fn copied_options(header: &[u8], fixed: &[u8; HEADER_LEN]) -> ([u8; MAX_HEADER_LEN], usize) {
    let mut later = [0u8; MAX_HEADER_LEN];
    later[..HEADER_LEN].copy_from_slice(fixed);
    let mut len = HEADER_LEN;
    let mut options = &header[HEADER_LEN..];
    while let Some((kind, option_len)) = ipv4::next_option(options) {
        if kind & 0x80 != 0 {
            later[len..len + option_len].copy_from_slice(&options[..option_len]);
            len += option_len;
        }
        options = &options[option_len..];
    }
    let len = len.next_multiple_of(4);
    later[0] = 0x40 | (len / 4) as u8;
    (later, len)
}
