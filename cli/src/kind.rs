//! The kinds of objects: their names in commands, files and the API, declared once.

use weft_proto::v1::{self, object::Spec};

/// A kind and its names.
#[derive(Debug, PartialEq, Eq)]
pub struct KindInfo {
    /// In the API.
    pub kind: v1::Kind,
    /// In files: `kind: Port`.
    pub title: &'static str,
    /// In messages and in `-o name`.
    pub singular: &'static str,
    /// In commands.
    pub plural: &'static str,
    /// Also taken in commands.
    pub short: &'static [&'static str],
    /// The field of `weft.v1.Object` that holds it.
    pub field: &'static str,
}

/// Every kind, in the order in which one thing needs another.
pub static KINDS: [KindInfo; 13] = [
    KindInfo {
        kind: v1::Kind::Vrf,
        title: "Vrf",
        singular: "vrf",
        plural: "vrfs",
        short: &[],
        field: "vrf",
    },
    KindInfo {
        kind: v1::Kind::Network,
        title: "Network",
        singular: "network",
        plural: "networks",
        short: &["net", "nets"],
        field: "network",
    },
    KindInfo {
        kind: v1::Kind::AddressGroup,
        title: "AddressGroup",
        singular: "address-group",
        plural: "address-groups",
        short: &["ag"],
        field: "address_group",
    },
    KindInfo {
        kind: v1::Kind::Policy,
        title: "Policy",
        singular: "policy",
        plural: "policies",
        short: &["pol"],
        field: "policy",
    },
    KindInfo {
        kind: v1::Kind::Port,
        title: "Port",
        singular: "port",
        plural: "ports",
        short: &["po"],
        field: "port",
    },
    KindInfo {
        kind: v1::Kind::TunnelEndpoint,
        title: "TunnelEndpoint",
        singular: "tunnel-endpoint",
        plural: "tunnel-endpoints",
        short: &["endpoint", "endpoints", "te"],
        field: "tunnel_endpoint",
    },
    KindInfo {
        kind: v1::Kind::NextHopGroup,
        title: "NextHopGroup",
        singular: "next-hop-group",
        plural: "next-hop-groups",
        short: &["group", "groups", "nhg"],
        field: "next_hop_group",
    },
    KindInfo {
        kind: v1::Kind::Route,
        title: "Route",
        singular: "route",
        plural: "routes",
        short: &["rt"],
        field: "route",
    },
    KindInfo {
        kind: v1::Kind::FloatingIp,
        title: "FloatingIp",
        singular: "floating-ip",
        plural: "floating-ips",
        short: &["fip", "fips"],
        field: "floating_ip",
    },
    KindInfo {
        kind: v1::Kind::NatPool,
        title: "NatPool",
        singular: "nat-pool",
        plural: "nat-pools",
        short: &["pool", "pools"],
        field: "nat_pool",
    },
    KindInfo {
        kind: v1::Kind::Service,
        title: "Service",
        singular: "service",
        plural: "services",
        short: &["svc"],
        field: "service",
    },
    KindInfo {
        kind: v1::Kind::Vni,
        title: "Vni",
        singular: "vni",
        plural: "vnis",
        short: &[],
        field: "vni",
    },
    KindInfo {
        kind: v1::Kind::Label,
        title: "Label",
        singular: "label",
        plural: "labels",
        short: &[],
        field: "label",
    },
];

impl KindInfo {
    /// The kind that a person means: any of its names, in any case, with or without dashes.
    pub fn from_word(word: &str) -> Option<&'static Self> {
        let plain = |word: &str| word.to_lowercase().replace(['-', '_'], "");
        let word = plain(word);
        KINDS.iter().find(|info| {
            [info.singular, info.plural]
                .iter()
                .chain(info.short)
                .any(|name| plain(name) == word)
        })
    }

    /// The kind of an object of the API; none if it has no spec.
    pub fn of(object: &v1::Object) -> Option<&'static Self> {
        let kind = match object.spec.as_ref()? {
            Spec::Vrf(_) => v1::Kind::Vrf,
            Spec::Network(_) => v1::Kind::Network,
            Spec::Port(_) => v1::Kind::Port,
            Spec::Route(_) => v1::Kind::Route,
            Spec::NextHopGroup(_) => v1::Kind::NextHopGroup,
            Spec::TunnelEndpoint(_) => v1::Kind::TunnelEndpoint,
            Spec::Vni(_) => v1::Kind::Vni,
            Spec::Label(_) => v1::Kind::Label,
            Spec::Policy(_) => v1::Kind::Policy,
            Spec::FloatingIp(_) => v1::Kind::FloatingIp,
            Spec::NatPool(_) => v1::Kind::NatPool,
            Spec::AddressGroup(_) => v1::Kind::AddressGroup,
            Spec::Service(_) => v1::Kind::Service,
        };
        Self::from_api(kind)
    }

    /// The kind of the API.
    pub fn from_api(kind: v1::Kind) -> Option<&'static Self> {
        KINDS.iter().find(|info| info.kind == kind)
    }

    /// `port/web-1`.
    pub fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.singular)
    }
}

/// `port/web-1`, as an object of the API names itself.
pub fn path_of(object: &v1::Object) -> String {
    KindInfo::of(object).map_or_else(|| object.name.clone(), |info| info.path(&object.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_a_kind_is_taken_and_no_name_means_two() {
        for info in &KINDS {
            for word in [info.title, info.singular, info.plural, info.field]
                .iter()
                .chain(info.short)
            {
                assert_eq!(KindInfo::from_word(word), Some(info), "{word}");
                assert_eq!(KindInfo::from_word(&word.to_uppercase()), Some(info), "{word}");
            }
            assert_eq!(KindInfo::from_api(info.kind), Some(info));
        }
        assert_eq!(KindInfo::from_word("prot"), None);
        assert_eq!(KindInfo::from_word(""), None);
    }
}
