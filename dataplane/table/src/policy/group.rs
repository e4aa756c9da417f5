//! Groups of addresses that rules name instead of a prefix: the members of a security group, an address set.
//!
//! A rule set holds a group's number only, so that members come and go without a rule set being compiled again. A group
//! never changes; another takes its place.

use std::fmt;

use ipnet::IpNet;

use super::{
    Family,
    ranges::{self, Address, Ranges},
};
use crate::AddressGroupId;

/// How many members a group may have; what the agent lets through.
pub const MEMBERS_MAX: usize = 100_000;

/// Addresses of both families.
#[derive(Default)]
pub struct AddressGroup {
    members: Box<[IpNet]>,
    v4: Spans<u32>,
    v6: Spans<u128>,
}

/// Ascending ranges that neither overlap nor touch, their first and their last values side by side.
#[derive(Default)]
#[doc(hidden)]
pub struct Spans<A> {
    firsts: Box<[A]>,
    lasts: Box<[A]>,
}

impl<A: Address> Spans<A> {
    fn new(members: &[IpNet]) -> Self {
        let bounds: Ranges<A> = members.iter().filter_map(|member| A::bounds(*member)).collect();
        let (firsts, lasts): (Vec<A>, Vec<A>) = ranges::union(bounds).into_iter().unzip();
        Spans {
            firsts: firsts.into(),
            lasts: lasts.into(),
        }
    }

    fn contains(&self, address: A) -> bool {
        let before = self.firsts.partition_point(|first| *first <= address);
        before > 0 && address <= self.lasts[before - 1]
    }
}

impl AddressGroup {
    /// Of these addresses and prefixes, which may overlap. Some milliseconds for a hundred thousand.
    pub fn new(members: impl Into<Box<[IpNet]>>) -> Self {
        let members = members.into();
        AddressGroup {
            v4: Spans::new(&members),
            v6: Spans::new(&members),
            members,
        }
    }

    /// What it was made of.
    pub fn members(&self) -> &[IpNet] {
        &self.members
    }

    /// Whether the address is a member's.
    #[inline]
    pub fn contains<A: Family>(&self, address: A) -> bool {
        A::spans(self).contains(address)
    }

    #[inline(always)]
    pub(super) fn v4(&self) -> &Spans<u32> {
        &self.v4
    }

    #[inline(always)]
    pub(super) fn v6(&self) -> &Spans<u128> {
        &self.v6
    }
}

/// Two groups are the same if they were made of the same.
impl PartialEq for AddressGroup {
    fn eq(&self, other: &Self) -> bool {
        self.members == other.members
    }
}

impl Eq for AddressGroup {}

impl fmt::Debug for AddressGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AddressGroup").field(&self.members).finish()
    }
}

/// Where judges find the groups that rules name.
pub trait Groups {
    /// The group with this number. None: nobody is a member.
    fn group(&self, id: AddressGroupId) -> Option<&AddressGroup>;
}

/// For rule sets that name no group.
impl Groups for () {
    fn group(&self, _: AddressGroupId) -> Option<&AddressGroup> {
        None
    }
}

/// By their numbers.
impl Groups for [AddressGroup] {
    fn group(&self, id: AddressGroupId) -> Option<&AddressGroup> {
        self.get(id.index())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_that_overlap_or_touch_are_one_range_in_their_family() {
        let members = [
            "10.0.1.0/24",
            "10.0.0.0/24",
            "10.0.1.7/32",
            "10.0.3.0/24",
            "fd00::/64",
        ];
        let group = AddressGroup::new(members.map(|member| member.parse().unwrap()).to_vec());
        assert_eq!(*group.v4.firsts, [0x0a00_0000, 0x0a00_0300]);
        assert_eq!(*group.v4.lasts, [0x0a00_01ff, 0x0a00_03ff]);
        for (address, is_member) in [
            (0x09ff_ffff_u32, false),
            (0x0a00_0000, true),
            (0x0a00_01ff, true),
            (0x0a00_0200, false),
            (0x0a00_03ff, true),
            (0x0a00_0400, false),
        ] {
            assert_eq!(group.contains(address), is_member, "{address:#x}");
        }
        assert!(group.contains(0xfd00u128 << 112) && !group.contains(1u128));
    }
}
