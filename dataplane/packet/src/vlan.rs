//! Taking VLAN tags off frames and putting them back: only the two MACs move, 12 bytes.

use crate::{
    ethernet::{self, Tag},
    malformed::{Header, Malformed},
};

/// Bytes of one tag.
pub const TAG_LEN: usize = 4;

/// Takes the outer tag off: the frame then starts [`TAG_LEN`] bytes later. The caller knows that there is a tag.
#[inline]
pub fn strip(frame: &mut [u8]) -> Result<(), Malformed> {
    if frame.len() < ethernet::HEADER_LEN + TAG_LEN {
        return Err(Malformed::truncated(Header::Vlan, 12));
    }
    frame.copy_within(..12, TAG_LEN);
    Ok(())
}

/// Puts a tag into a frame that starts [`TAG_LEN`] bytes inside the slice; afterwards it starts with the slice.
#[inline]
pub fn push(frame: &mut [u8], tag: Tag) -> Result<(), Malformed> {
    if frame.len() < TAG_LEN + ethernet::HEADER_LEN {
        return Err(Malformed::truncated(Header::Ethernet, TAG_LEN));
    }
    frame.copy_within(TAG_LEN..TAG_LEN + 12, 0);
    frame[12..14].copy_from_slice(&tag.protocol.to_be_bytes());
    frame[14..16].copy_from_slice(&tag.control.to_be_bytes());
    Ok(())
}
