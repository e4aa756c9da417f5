//! Ethernet frames with up to two VLAN tags (IEEE 802.3, IEEE 802.1Q-2022).

use crate::{
    Mac, VlanId,
    bytes::{array, get_array, get_u16, put},
    malformed::{Fault, Header, Malformed},
};

/// Bytes of an untagged header.
pub const HEADER_LEN: usize = 14;

/// Tags that are looked through; a frame with more is refused.
pub const MAX_TAGS: usize = 2;

/// What a frame carries.
pub mod ethertype {
    /// RFC 894.
    pub const IPV4: u16 = 0x0800;
    /// RFC 826.
    pub const ARP: u16 = 0x0806;
    /// A customer's VLAN tag, IEEE 802.1Q.
    pub const VLAN: u16 = 0x8100;
    /// RFC 2464.
    pub const IPV6: u16 = 0x86dd;
    /// MPLS unicast, RFC 3032 and RFC 4023.
    pub const MPLS: u16 = 0x8847;
    /// A provider's VLAN tag, IEEE 802.1Q (once 802.1ad).
    pub const PROVIDER_VLAN: u16 = 0x88a8;
}

/// A VLAN tag as it is on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    /// [`ethertype::VLAN`] or [`ethertype::PROVIDER_VLAN`].
    pub protocol: u16,
    /// Priority, drop eligibility and VLAN.
    pub control: u16,
}

impl Tag {
    /// A customer's tag of priority 0.
    #[inline]
    pub const fn new(vlan: VlanId) -> Self {
        Tag {
            protocol: ethertype::VLAN,
            control: vlan.get(),
        }
    }

    /// The VLAN; none in a priority tag (VLAN 0).
    #[inline]
    pub fn vlan(self) -> Option<VlanId> {
        VlanId::try_from(self.control & 0xfff).ok()
    }

    /// Priority, 0 to 7.
    #[inline]
    pub const fn priority(self) -> u8 {
        (self.control >> 13) as u8
    }
}

/// What an Ethernet header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ethernet {
    /// To whom.
    pub destination: Mac,
    /// From whom.
    pub source: Mac,
    /// The first tag, a priority tag too.
    pub outer_tag: Option<Tag>,
    /// A second tag behind the first (QinQ).
    pub inner_tag: Option<Tag>,
    /// What follows the tags; below 0x0600 it is an IEEE 802.3 length.
    pub ethertype: u16,
    /// Where it follows.
    pub l3_offset: u16,
}

impl Ethernet {
    /// The VLAN of the frame: a frame with a priority tag belongs to none, like an untagged one.
    #[inline]
    pub fn vlan(&self) -> Option<VlanId> {
        self.outer_tag.and_then(Tag::vlan)
    }
}

/// Reads the header and its tags.
#[inline]
pub fn parse(frame: &[u8]) -> Result<Ethernet, Malformed> {
    let Some(header) = frame.first_chunk::<HEADER_LEN>() else {
        return Err(Malformed::truncated(Header::Ethernet, 0));
    };
    let mut ethernet = Ethernet {
        destination: Mac(get_array(header, 0)),
        source: Mac(get_array(header, 6)),
        outer_tag: None,
        inner_tag: None,
        ethertype: get_u16(header, 12),
        l3_offset: HEADER_LEN as u16,
    };
    if is_tag(ethernet.ethertype) {
        parse_tags(frame, &mut ethernet)?;
    }
    Ok(ethernet)
}

/// Writes an untagged header.
#[inline]
pub fn write(header: &mut [u8; HEADER_LEN], destination: Mac, source: Mac, ethertype: u16) {
    put(header, 0, destination.0);
    put(header, 6, source.0);
    put(header, 12, ethertype.to_be_bytes());
}

#[inline]
const fn is_tag(ethertype: u16) -> bool {
    matches!(ethertype, ethertype::VLAN | ethertype::PROVIDER_VLAN)
}

fn parse_tags(frame: &[u8], ethernet: &mut Ethernet) -> Result<(), Malformed> {
    ethernet.outer_tag = Some(next_tag(frame, ethernet)?);
    if is_tag(ethernet.ethertype) {
        ethernet.inner_tag = Some(next_tag(frame, ethernet)?);
    }
    if is_tag(ethernet.ethertype) {
        return Err(Malformed::new(Header::Vlan, tag_offset(ethernet), Fault::TooMany));
    }
    Ok(())
}

fn next_tag(frame: &[u8], ethernet: &mut Ethernet) -> Result<Tag, Malformed> {
    let Some(bytes) = array::<4>(frame, usize::from(ethernet.l3_offset)) else {
        return Err(Malformed::truncated(Header::Vlan, tag_offset(ethernet)));
    };
    let tag = Tag {
        protocol: ethernet.ethertype,
        control: get_u16(bytes, 0),
    };
    if tag.control & 0xfff == 0xfff {
        return Err(Malformed::new(
            Header::Vlan,
            tag_offset(ethernet),
            Fault::ReservedVlan,
        ));
    }
    ethernet.ethertype = get_u16(bytes, 2);
    ethernet.l3_offset += 4;
    Ok(tag)
}

/// A tag starts with its ethertype, two bytes before what it tags.
fn tag_offset(ethernet: &Ethernet) -> usize {
    usize::from(ethernet.l3_offset) - 2
}
