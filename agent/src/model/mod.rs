//! The objects of `weft.v1` as types that cannot be wrong, and the way from and to their messages.
//!
//! Everything that can be judged by looking at one object alone is judged here; what needs the other objects (a VLAN
//! used twice, say) is the [reconciler](crate::reconciler)'s.

mod address_group;
mod encode;
pub mod error;
mod nat;
mod network;
mod next_hop;
mod policy;
mod port;
mod quality;
mod service;
pub mod text;
mod tunnel;

use std::{fmt, sync::Arc};

use weft_proto::v1;

pub use address_group::AddressGroup;
pub use encode::Encoder;
pub use error::FieldError;
pub use nat::{FloatingIp, NatPool};
pub use network::{Network, Route, Subnet, Vrf};
pub use next_hop::{Identifier, Member, NextHop, NextHopGroup};
pub use policy::{Policy, PolicyRule, protocol_name, protocol_number};
pub use port::{Device, Port, pci_address};
pub use quality::{Limit, Quality};
pub use service::{Backend, BackendState, Service, ServicePort};
pub use text::Name;
pub use tunnel::{Encapsulation, Label, Target, TunnelEndpoint, Vni};

use error::At;

/// Name of the VRF that is always there: the underlay's.
pub const UNDERLAY: &str = "underlay";

/// The kinds of objects, with the numbers that the API gives them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Kind {
    Vrf = 1,
    Network = 2,
    Port = 3,
    Route = 4,
    NextHopGroup = 5,
    TunnelEndpoint = 6,
    Vni = 7,
    Label = 8,
    Policy = 9,
    FloatingIp = 10,
    NatPool = 11,
    AddressGroup = 13,
    Service = 14,
}

impl Kind {
    /// Every kind, in the order of their numbers.
    pub const ALL: [Kind; 13] = [
        Kind::Vrf,
        Kind::Network,
        Kind::Port,
        Kind::Route,
        Kind::NextHopGroup,
        Kind::TunnelEndpoint,
        Kind::Vni,
        Kind::Label,
        Kind::Policy,
        Kind::FloatingIp,
        Kind::NatPool,
        Kind::AddressGroup,
        Kind::Service,
    ];

    /// The kind with this number in the API.
    pub fn from_number(number: i32) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| *kind as i32 == number)
    }

    /// The name of the object's field in the API.
    pub const fn field(self) -> &'static str {
        match self {
            Kind::Vrf => "vrf",
            Kind::Network => "network",
            Kind::Port => "port",
            Kind::Route => "route",
            Kind::NextHopGroup => "next_hop_group",
            Kind::TunnelEndpoint => "tunnel_endpoint",
            Kind::Vni => "vni",
            Kind::Label => "label",
            Kind::Policy => "policy",
            Kind::FloatingIp => "floating_ip",
            Kind::NatPool => "nat_pool",
            Kind::AddressGroup => "address_group",
            Kind::Service => "service",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::NextHopGroup => "next hop group",
            Kind::TunnelEndpoint => "tunnel endpoint",
            Kind::FloatingIp => "floating IP",
            Kind::NatPool => "NAT pool",
            Kind::AddressGroup => "address group",
            kind => kind.field(),
        })
    }
}

/// What an object is known by.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Its kind.
    pub kind: Kind,
    /// Its name, unique within the kind.
    pub name: Name,
}

impl Key {
    /// The key of the object with this kind and name.
    pub fn new(kind: Kind, name: impl Into<Name>) -> Self {
        Key {
            kind,
            name: name.into(),
        }
    }

    /// The key in the API's form, checked.
    pub fn from_proto(key: &v1::Key) -> Result<Self, FieldError> {
        let kind = Kind::from_number(key.kind).ok_or_else(|| {
            let legal = "name one of the kinds: KIND_VRF to KIND_ADDRESS_GROUP";
            At::root("kind").error(format!("kind {} is unknown", key.kind), legal)
        })?;
        Ok(Key {
            kind,
            name: text::name(&At::root("name"), &key.name)?,
        })
    }
}

impl From<&Key> for v1::Key {
    fn from(key: &Key) -> Self {
        v1::Key {
            kind: key.kind as i32,
            name: key.name.to_string(),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} \"{}\"", self.kind, self.name)
    }
}

/// What an object asks for.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Spec {
    Vrf(Vrf),
    Network(Network),
    Port(Box<Port>),
    Route(Route),
    NextHopGroup(NextHopGroup),
    TunnelEndpoint(TunnelEndpoint),
    Vni(Vni),
    Label(Label),
    /// Shared: it may be long.
    Policy(Arc<Policy>),
    FloatingIp(FloatingIp),
    NatPool(NatPool),
    /// Shared: it may be long.
    AddressGroup(Arc<AddressGroup>),
    /// Shared: it may be long.
    Service(Arc<Service>),
}

impl Spec {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Spec::Vrf(_) => Kind::Vrf,
            Spec::Network(_) => Kind::Network,
            Spec::Port(_) => Kind::Port,
            Spec::Route(_) => Kind::Route,
            Spec::NextHopGroup(_) => Kind::NextHopGroup,
            Spec::TunnelEndpoint(_) => Kind::TunnelEndpoint,
            Spec::Vni(_) => Kind::Vni,
            Spec::Label(_) => Kind::Label,
            Spec::Policy(_) => Kind::Policy,
            Spec::FloatingIp(_) => Kind::FloatingIp,
            Spec::NatPool(_) => Kind::NatPool,
            Spec::AddressGroup(_) => Kind::AddressGroup,
            Spec::Service(_) => Kind::Service,
        }
    }

    /// The API's form, with what was left out filled in.
    pub fn to_proto(&self) -> v1::object::Spec {
        use v1::object::Spec as Proto;
        match self {
            Spec::Vrf(vrf) => Proto::Vrf(vrf.to_proto()),
            Spec::Network(network) => Proto::Network(network.to_proto()),
            Spec::Port(port) => Proto::Port(port.to_proto()),
            Spec::Route(route) => Proto::Route(route.to_proto()),
            Spec::NextHopGroup(group) => Proto::NextHopGroup(group.to_proto()),
            Spec::TunnelEndpoint(endpoint) => Proto::TunnelEndpoint(endpoint.to_proto()),
            Spec::Vni(vni) => Proto::Vni(vni.to_proto()),
            Spec::Label(label) => Proto::Label(label.to_proto()),
            Spec::Policy(policy) => Proto::Policy(policy.to_proto()),
            Spec::FloatingIp(floating) => Proto::FloatingIp(floating.to_proto()),
            Spec::NatPool(pool) => Proto::NatPool(pool.to_proto()),
            Spec::AddressGroup(group) => Proto::AddressGroup(group.to_proto()),
            Spec::Service(service) => Proto::Service(service.to_proto()),
        }
    }

    /// The encoded API's form, as the store keeps it.
    pub fn encode(&self) -> Vec<u8> {
        prost::Message::encode_to_vec(&v1::Object {
            spec: Some(self.to_proto()),
            ..Default::default()
        })
    }
}

/// A valid object as it was asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// Kind and name.
    pub key: Key,
    /// The rest.
    pub spec: Spec,
}

impl Object {
    /// Checks an object of the API. What weftd itself sets (generation, status) is ignored.
    pub fn from_proto(object: &v1::Object) -> Result<Self, FieldError> {
        let name = text::name(&At::root("name"), &object.name)?;
        let spec = object.spec.as_ref().ok_or_else(|| {
            let help = "fill in one of vrf, network, port, route, next_hop_group, tunnel_endpoint, vni, label, \
                        policy, floating_ip, nat_pool, address_group, service";
            At::root("spec").error("is missing", help)
        })?;
        use v1::object::Spec as Proto;
        let spec = match spec {
            Proto::Vrf(vrf) => Spec::Vrf(Vrf::from_proto(vrf)?),
            Proto::Network(network) => Spec::Network(Network::from_proto(network)?),
            Proto::Port(port) => Spec::Port(Box::new(Port::from_proto(&name, port)?)),
            Proto::Route(route) => Spec::Route(Route::from_proto(route)?),
            Proto::NextHopGroup(group) => Spec::NextHopGroup(NextHopGroup::from_proto(group)?),
            Proto::TunnelEndpoint(endpoint) => Spec::TunnelEndpoint(TunnelEndpoint::from_proto(endpoint)?),
            Proto::Vni(vni) => Spec::Vni(Vni::from_proto(vni)?),
            Proto::Label(label) => Spec::Label(Label::from_proto(label)?),
            Proto::Policy(policy) => Spec::Policy(Arc::new(Policy::from_proto(policy)?)),
            Proto::FloatingIp(floating) => Spec::FloatingIp(FloatingIp::from_proto(floating)?),
            Proto::NatPool(pool) => Spec::NatPool(NatPool::from_proto(pool)?),
            Proto::AddressGroup(group) => Spec::AddressGroup(Arc::new(AddressGroup::from_proto(group)?)),
            Proto::Service(service) => Spec::Service(Arc::new(Service::from_proto(service)?)),
        };
        Ok(Object {
            key: Key {
                kind: spec.kind(),
                name,
            },
            spec,
        })
    }
}

/// Kind and name of an object that may be wrong in every other way: results name what they are about.
pub fn key_of(object: &v1::Object) -> v1::Key {
    use v1::object::Spec as Proto;
    let kind = match &object.spec {
        None => v1::Kind::Unspecified,
        Some(Proto::Vrf(_)) => v1::Kind::Vrf,
        Some(Proto::Network(_)) => v1::Kind::Network,
        Some(Proto::Port(_)) => v1::Kind::Port,
        Some(Proto::Route(_)) => v1::Kind::Route,
        Some(Proto::NextHopGroup(_)) => v1::Kind::NextHopGroup,
        Some(Proto::TunnelEndpoint(_)) => v1::Kind::TunnelEndpoint,
        Some(Proto::Vni(_)) => v1::Kind::Vni,
        Some(Proto::Label(_)) => v1::Kind::Label,
        Some(Proto::Policy(_)) => v1::Kind::Policy,
        Some(Proto::FloatingIp(_)) => v1::Kind::FloatingIp,
        Some(Proto::NatPool(_)) => v1::Kind::NatPool,
        Some(Proto::AddressGroup(_)) => v1::Kind::AddressGroup,
        Some(Proto::Service(_)) => v1::Kind::Service,
    };
    v1::Key {
        kind: kind as i32,
        name: object.name.clone(),
    }
}

#[cfg(test)]
mod tests;
