//! What only one object may have: a VLAN under a parent, a route of a VRF, a VNI, a socket.

use std::{net::IpAddr, path::PathBuf};

use hashbrown::HashMap;
use ipnet::IpNet;
use weft_packet::VlanId;

use super::graph::{Graph, Held, Identity, NodeId};
use crate::model::{Device, FieldError, Key, Kind, Name, Object, Port, Spec, UNDERLAY};

/// Something that has one holder.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Claim {
    /// A tag of a parent port.
    Vlan(Name, VlanId),
    /// A prefix in a VRF, by a route, a port's address, a gateway or a floating IP.
    Prefix(Name, IpNet),
    /// A VXLAN network identifier.
    Vni(weft_packet::Vni),
    /// An MPLS label.
    Label(weft_packet::Label),
    /// A vhost-user socket.
    Socket(PathBuf),
    /// A Linux interface, in a network namespace or (None) in weftd's own.
    Interface(Option<PathBuf>, String),
    /// A DPDK device.
    Ethdev(String),
    /// What a port's address is in a VRF (the first name).
    Floating(Name, Name, IpAddr),
}

/// Calls `visit` with each claim of an object and the field that it comes from.
pub fn visit(name: &Name, spec: &Spec, mut visit: impl FnMut(Claim, &dyn Fn() -> String)) {
    match spec {
        Spec::Vrf(_)
        | Spec::NextHopGroup(_)
        | Spec::TunnelEndpoint(_)
        | Spec::Policy(_)
        | Spec::AddressGroup(_) => {}
        Spec::Route(route) => {
            visit(Claim::Prefix(route.vrf.clone(), route.prefix), &|| {
                "route.prefix".into()
            });
        }
        Spec::Network(network) => {
            for (index, subnet) in network.subnets.iter().enumerate() {
                let gateway = IpNet::from(subnet.gateway);
                visit(Claim::Prefix(network.vrf.clone(), gateway), &|| {
                    format!("network.subnets[{index}].gateway")
                });
            }
        }
        Spec::NatPool(pool) => {
            for (index, prefix) in pool.addresses.iter().enumerate() {
                visit(Claim::Prefix(pool.vrf.clone(), (*prefix).into()), &|| {
                    format!("nat_pool.addresses[{index}]")
                });
            }
        }
        Spec::FloatingIp(floating) => {
            let prefix = IpNet::from(floating.address);
            visit(Claim::Prefix(floating.vrf.clone(), prefix), &|| {
                "floating_ip.address".into()
            });
            let (vrf, port) = (floating.vrf.clone(), floating.port.clone());
            visit(Claim::Floating(vrf, port, floating.inside_address), &|| {
                "floating_ip.inside_address".into()
            });
        }
        Spec::Vni(vni) => visit(Claim::Vni(vni.vni), &|| "vni.vni".into()),
        Spec::Label(label) => visit(Claim::Label(label.label), &|| "label.label".into()),
        Spec::Port(port) => of_port(name, port, &mut visit),
    }
}

fn of_port(name: &Name, port: &Port, visit: &mut impl FnMut(Claim, &dyn Fn() -> String)) {
    match &port.device {
        Device::Ethdev { device, .. } => {
            let mut parts = device.split(',');
            let driver = parts.next().unwrap_or_default();
            visit(Claim::Ethdev(driver.into()), &|| "port.ethdev.device".into());
            if let Some(interface) = parts.find_map(|argument| argument.strip_prefix("iface=")) {
                visit(Claim::Interface(None, interface.into()), &|| {
                    "port.ethdev.device".into()
                });
            }
        }
        Device::VhostUser { socket, .. } => {
            visit(Claim::Socket(socket.clone()), &|| "port.vhost_user.socket".into());
        }
        Device::Tap { interface, netns, .. } => {
            visit(Claim::Interface(netns.clone(), interface.clone()), &|| {
                "port.tap.interface".into()
            });
        }
        Device::Vlan { parent, vlan } => {
            visit(Claim::Vlan(parent.clone(), *vlan), &|| "port.vlan.vlan".into());
        }
    }
    for (index, (vlan, _)) in port.trunk.iter().enumerate() {
        visit(Claim::Vlan(name.clone(), *vlan), &|| {
            format!("port.trunk[{index}].vlan")
        });
    }
    for (index, address) in port.hosts().enumerate() {
        visit(Claim::Prefix(port.vrf.clone(), address.into()), &|| {
            format!("port.addresses[{index}]")
        });
    }
    if let Some(interface) = &port.host_interface {
        visit(Claim::Interface(None, interface.clone()), &|| {
            "port.host_interface".into()
        });
    }
}

/// Who holds what.
#[derive(Debug, Default)]
pub struct Claims {
    /// By the VRF's node, which is there as long as the holder, who names it: most of what is claimed are prefixes.
    prefixes: HashMap<(NodeId, IpNet), NodeId>,
    others: HashMap<Claim, NodeId>,
}

impl Claims {
    /// The first claim of the object that another node holds.
    pub fn conflict(&self, graph: &Graph, node: NodeId, owner: &Name, object: &Object) -> Option<FieldError> {
        let mut error = None;
        visit(&object.key.name, &object.spec, |claim, field| {
            if error.is_some() {
                return;
            }
            if let Some(holder) = self.holder(graph, &claim).filter(|holder| *holder != node) {
                error = describe(graph, owner, &claim, holder, field());
            }
        });
        error
    }

    fn holder(&self, graph: &Graph, claim: &Claim) -> Option<NodeId> {
        match claim {
            Claim::Prefix(vrf, prefix) => {
                let vrf = graph.find(Kind::Vrf, vrf)?;
                self.prefixes.get(&(vrf, *prefix)).copied()
            }
            other => self.others.get(other).copied(),
        }
    }

    /// Gives the node what its object claims, once its edges are drawn.
    pub fn take(&mut self, graph: &Graph, node: NodeId, name: &Name, spec: &Spec) {
        visit(name, spec, |claim, _| match &claim {
            Claim::Prefix(vrf, prefix) => {
                if let Some(vrf) = graph.find(Kind::Vrf, vrf) {
                    self.prefixes.insert((vrf, *prefix), node);
                }
            }
            _ => drop(self.others.insert(claim, node)),
        });
    }

    /// Takes it back, before the edges go.
    pub fn give_back(&mut self, graph: &Graph, node: NodeId, name: &Name, spec: &Spec) {
        visit(name, spec, |claim, _| {
            if self.holder(graph, &claim) != Some(node) {
                return;
            }
            match &claim {
                Claim::Prefix(vrf, prefix) => {
                    if let Some(vrf) = graph.find(Kind::Vrf, vrf) {
                        self.prefixes.remove(&(vrf, *prefix));
                    }
                }
                other => drop(self.others.remove(other)),
            }
        });
    }
}

fn describe(graph: &Graph, owner: &Name, claim: &Claim, holder: NodeId, field: String) -> Option<FieldError> {
    let node = &graph[holder];
    let (Identity::Object(key), Some(held)) = (&node.identity, node.held.as_deref()) else {
        return None;
    };
    let by = if held.owner == *owner {
        key.to_string()
    } else {
        format!("{key} of owner \"{}\"", held.owner)
    };
    let (message, other) = match claim {
        // The trunk of the port itself, or a sub-interface of it.
        Claim::Vlan(parent, vlan) if key.name == *parent => {
            let message = format!("VLAN {vlan} is already used by the trunk of {by}");
            let help = "choose another VLAN, or take this one out of the trunk first";
            return Some(FieldError::new(field, message, help));
        }
        Claim::Vlan(parent, vlan) => {
            let message = format!("VLAN {vlan} is already used under parent \"{parent}\" by {by}");
            (message, "choose another VLAN")
        }
        Claim::Prefix(vrf, prefix) => prefix_taken(key, held, vrf, prefix, &by),
        Claim::Vni(vni) => (format!("VNI {vni} is already used by {by}"), "choose another VNI"),
        Claim::Label(label) => (
            format!("label {label} is already used by {by}"),
            "choose another label",
        ),
        Claim::Socket(path) => (
            format!("socket {} is already used by {by}", path.display()),
            "choose another path",
        ),
        Claim::Interface(None, interface) => (
            format!("interface \"{interface}\" is already used by {by}"),
            "choose another interface",
        ),
        Claim::Interface(Some(netns), interface) => (
            format!(
                "interface \"{interface}\" in {} is already used by {by}",
                netns.display()
            ),
            "choose another interface",
        ),
        Claim::Ethdev(device) => (
            format!("device {device} is already used by {by}"),
            "choose another device",
        ),
        Claim::Floating(vrf, port, inside) => (
            format!("{inside} of port \"{port}\" already has {by} in vrf \"{vrf}\""),
            "choose another inside address or VRF",
        ),
    };
    Some(FieldError::new(
        field,
        message,
        format!("{other}, or delete {key} first"),
    ))
}

fn prefix_taken(key: &Key, held: &Held, vrf: &Name, prefix: &IpNet, by: &str) -> (String, &'static str) {
    let host: Option<IpAddr> = (prefix.prefix_len() == prefix.max_prefix_len()).then(|| prefix.addr());
    match (host, key.kind, &held.spec) {
        (Some(address), Kind::Network, _) => (
            format!("{address} in vrf \"{vrf}\" is already the gateway of {by}"),
            "choose another address",
        ),
        (Some(address), Kind::FloatingIp, _) => (
            format!("{address} in vrf \"{vrf}\" is already {by}"),
            "choose another address",
        ),
        (Some(address), Kind::Port, _) if &**vrf == UNDERLAY => (
            format!("{address} is already an address of uplink {by}"),
            "choose another address",
        ),
        (Some(address), Kind::Port, _) => (
            format!("{address} in vrf \"{vrf}\" is already an address of {by}"),
            "choose another address",
        ),
        _ => (
            format!("{prefix} in vrf \"{vrf}\" already belongs to {by}"),
            "choose another prefix",
        ),
    }
}
