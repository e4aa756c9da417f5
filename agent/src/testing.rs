//! Objects in few words, for tests.

use weft_proto::v1::{self, object::Spec};

use crate::model::Object;

/// An object of the API.
pub fn object(name: &str, spec: Spec) -> v1::Object {
    v1::Object {
        name: name.into(),
        spec: Some(spec),
        ..Default::default()
    }
}

pub fn vrf(name: &str) -> v1::Object {
    object(name, Spec::Vrf(v1::Vrf::default()))
}

pub fn network(name: &str, vrf: &str, prefix: &str, gateway: &str) -> v1::Object {
    let subnets = vec![v1::Subnet {
        prefix: prefix.into(),
        gateway: gateway.into(),
    }];
    object(
        name,
        Spec::Network(v1::Network {
            vrf: vrf.into(),
            subnets,
        }),
    )
}

pub fn port(name: &str, vrf: &str, device: v1::port::Device) -> v1::Object {
    object(
        name,
        Spec::Port(v1::Port {
            device: Some(device),
            vrf: vrf.into(),
            ..Default::default()
        }),
    )
}

/// Changes the port inside the object.
pub fn with_port(mut port: v1::Object, change: impl FnOnce(&mut v1::Port)) -> v1::Object {
    if let Some(Spec::Port(port)) = &mut port.spec {
        change(port);
    }
    port
}

pub fn tap_device(interface: &str) -> v1::port::Device {
    v1::port::Device::Tap(v1::TapDevice {
        interface: interface.into(),
        ..Default::default()
    })
}

pub fn vlan_device(parent: &str, vlan: u32) -> v1::port::Device {
    v1::port::Device::Vlan(v1::VlanDevice {
        parent: parent.into(),
        vlan,
    })
}

pub fn vhost_device(socket: &str) -> v1::port::Device {
    v1::port::Device::VhostUser(v1::VhostUserDevice {
        socket: socket.into(),
        ..Default::default()
    })
}

pub fn tap(name: &str, vrf: &str, addresses: &[&str]) -> v1::Object {
    with_port(port(name, vrf, tap_device(name)), |port| {
        port.addresses = addresses.iter().map(|address| address.to_string()).collect();
    })
}

pub fn uplink(name: &str, address: &str) -> v1::Object {
    let device = v1::EthdevDevice {
        device: format!("net_af_packet_{name},iface={name}"),
        queues: 1,
    };
    with_port(port(name, "underlay", v1::port::Device::Ethdev(device)), |port| {
        port.addresses = vec![address.into()];
    })
}

pub fn endpoint(name: &str, remote: &str, encapsulation: v1::Encapsulation) -> v1::Object {
    let endpoint = v1::TunnelEndpoint {
        remote: remote.into(),
        encapsulation: encapsulation as i32,
        ..Default::default()
    };
    object(name, Spec::TunnelEndpoint(endpoint))
}

pub fn hop(to: v1::next_hop::To) -> v1::NextHop {
    v1::NextHop { to: Some(to) }
}

pub fn to_port(port: &str) -> v1::NextHop {
    hop(v1::next_hop::To::Port(v1::PortNextHop {
        port: port.into(),
        ..Default::default()
    }))
}

pub fn to_group(group: &str) -> v1::NextHop {
    hop(v1::next_hop::To::Group(group.into()))
}

pub fn to_vni(endpoint: &str, vni: u32) -> v1::NextHop {
    let tunnel = v1::TunnelNextHop {
        endpoint: endpoint.into(),
        vni,
        ..Default::default()
    };
    hop(v1::next_hop::To::Tunnel(tunnel))
}

pub fn to_labels(endpoint: &str, labels: &[u32]) -> v1::NextHop {
    let tunnel = v1::TunnelNextHop {
        endpoint: endpoint.into(),
        labels: labels.to_vec(),
        ..Default::default()
    };
    hop(v1::next_hop::To::Tunnel(tunnel))
}

pub fn route(name: &str, vrf: &str, prefix: &str, next_hop: v1::NextHop) -> v1::Object {
    let route = v1::Route {
        vrf: vrf.into(),
        prefix: prefix.into(),
        next_hop: Some(next_hop),
    };
    object(name, Spec::Route(route))
}

pub fn group(name: &str, members: &[(&str, v1::NextHop)]) -> v1::Object {
    let member = |(name, next_hop): &(&str, v1::NextHop)| v1::Member {
        name: name.to_string(),
        weight: 1,
        next_hop: Some(next_hop.clone()),
    };
    object(
        name,
        Spec::NextHopGroup(v1::NextHopGroup {
            members: members.iter().map(member).collect(),
        }),
    )
}

pub fn target_vrf(vrf: &str) -> Option<v1::TunnelTarget> {
    Some(v1::TunnelTarget {
        to: Some(v1::tunnel_target::To::Vrf(vrf.into())),
    })
}

pub fn target_port(port: &str) -> Option<v1::TunnelTarget> {
    Some(v1::TunnelTarget {
        to: Some(v1::tunnel_target::To::Port(port.into())),
    })
}

pub fn vni(name: &str, vni: u32, target: Option<v1::TunnelTarget>) -> v1::Object {
    object(name, Spec::Vni(v1::Vni { vni, target }))
}

pub fn label(name: &str, label: u32, target: Option<v1::TunnelTarget>) -> v1::Object {
    object(name, Spec::Label(v1::Label { label, target }))
}

/// The object as a type.
pub fn valid(object: &v1::Object) -> Object {
    Object::from_proto(object).unwrap_or_else(|error| panic!("{object:?}: {error} ({})", error.help))
}

/// A rule of a policy for every session of its direction, changed by `change`.
pub fn rule(
    direction: v1::PolicyDirection,
    action: v1::PolicyAction,
    change: impl FnOnce(&mut v1::PolicyRule),
) -> v1::PolicyRule {
    let mut rule = v1::PolicyRule {
        direction: direction as i32,
        action: action as i32,
        ..Default::default()
    };
    change(&mut rule);
    rule
}

/// A policy with its defaults for ingress and egress.
pub fn policy(name: &str, rules: Vec<v1::PolicyRule>, defaults: [v1::PolicyAction; 2]) -> v1::Object {
    let [ingress, egress] = defaults;
    object(
        name,
        Spec::Policy(v1::Policy {
            rules,
            default_ingress: ingress as i32,
            default_egress: egress as i32,
        }),
    )
}

/// A floating IP.
pub fn floating_ip(name: &str, vrf: &str, address: &str, port: &str, inside: &str) -> v1::Object {
    object(
        name,
        Spec::FloatingIp(v1::FloatingIp {
            vrf: vrf.into(),
            address: address.into(),
            port: port.into(),
            inside_address: inside.into(),
        }),
    )
}

/// An address group with these members.
pub fn address_group(name: &str, members: &[&str]) -> v1::Object {
    let members = members.iter().map(|member| member.to_string()).collect();
    object(name, Spec::AddressGroup(v1::AddressGroup { members }))
}

/// A pool with the default ports and blocks.
pub fn nat_pool(name: &str, vrf: &str, addresses: &[&str], inside: &str, sources: &[&str]) -> v1::Object {
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    object(
        name,
        Spec::NatPool(v1::NatPool {
            vrf: vrf.into(),
            addresses: texts(addresses),
            inside_vrf: inside.into(),
            sources: texts(sources),
            ..Default::default()
        }),
    )
}

/// A service with these TCP ports (0: all) and backends.
pub fn service(name: &str, vrf: &str, address: &str, ports: &[u32], backends: &[&str]) -> v1::Object {
    let port = |port: &u32| v1::ServicePort {
        protocol: "tcp".into(),
        port: *port,
        target_port: 0,
    };
    let backend = |address: &&str| v1::Backend {
        address: (*address).into(),
        ..Default::default()
    };
    object(
        name,
        Spec::Service(v1::Service {
            vrf: vrf.into(),
            address: address.into(),
            ports: ports.iter().map(port).collect(),
            backends: backends.iter().map(backend).collect(),
            ..Default::default()
        }),
    )
}

/// The service with another spec.
pub fn with_service(mut object: v1::Object, change: impl FnOnce(&mut v1::Service)) -> v1::Object {
    if let Some(Spec::Service(service)) = &mut object.spec {
        change(service);
    }
    object
}

/// The port with these policies.
pub fn with_policies(port: v1::Object, policies: &[&str]) -> v1::Object {
    with_port(port, |port| {
        port.policies = policies.iter().map(|policy| policy.to_string()).collect();
    })
}
