//! Address groups: addresses that rules of policies name together.

use ipnet::IpNet;
use weft_proto::v1;
use weft_table::policy::MEMBERS_MAX;

use super::{
    error::{At, FieldError},
    text,
};

/// An address group.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AddressGroup {
    /// As they were given; a single address is a prefix of full length.
    pub members: Vec<IpNet>,
}

impl AddressGroup {
    pub(super) fn from_proto(group: &v1::AddressGroup) -> Result<Self, FieldError> {
        let root = At::root("address_group");
        let at = root.field("members");
        if group.members.len() > MEMBERS_MAX {
            let message = format!("there are {} members", group.members.len());
            return Err(at.error(message, format!("at most {MEMBERS_MAX} are possible")));
        }
        let member = |(index, member): (usize, &String)| text::address_or_prefix(&at.index(index), member);
        let members = group.members.iter().enumerate().map(member);
        Ok(AddressGroup {
            members: members.collect::<Result<_, _>>()?,
        })
    }

    pub(super) fn to_proto(&self) -> v1::AddressGroup {
        let text = |member: &IpNet| match member.prefix_len() == member.max_prefix_len() {
            true => member.addr().to_string(),
            false => member.to_string(),
        };
        v1::AddressGroup {
            members: self.members.iter().map(text).collect(),
        }
    }
}
