//! What only one object may have: a VLAN under a parent, a route of a VRF, a VNI, a socket.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf};

use hashbrown::HashMap;
use ipnet::IpNet;
use weft_packet::VlanId;

use super::graph::{Graph, Held, Identity, NodeId};
use crate::model::{Device, FieldError, Key, Kind, Name, Object, Port, ServicePort, Spec, UNDERLAY};

/// Something that has one holder.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Claim {
    /// A tag of a parent port.
    Vlan(Name, VlanId),
    /// A prefix in a VRF, by a route, a port's address, a gateway, a floating IP or a pool.
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
    /// All addresses of a prefix in a VRF: none is a virtual IP.
    Pool(Name, IpNet),
    /// An address in a VRF, which services share and nothing else has.
    VirtualIp(Name, IpAddr),
    /// A port of a virtual IP.
    Service(Name, IpAddr, ServicePort),
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
                visit(Claim::Pool(pool.vrf.clone(), (*prefix).into()), &|| {
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
        Spec::Service(service) => {
            let (vrf, address) = (&service.vrf, service.address);
            visit(Claim::VirtualIp(vrf.clone(), address), &|| {
                "service.address".into()
            });
            for (index, port) in service.ports.iter().enumerate() {
                let port = ServicePort {
                    target: None,
                    ..*port
                };
                visit(Claim::Service(vrf.clone(), address, port), &|| {
                    format!("service.ports[{index}].port")
                });
            }
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
    /// The services of each virtual IP, by the VRF's node.
    virtual_ips: BTreeMap<(NodeId, IpAddr), Vec<NodeId>>,
    /// The pools of each VRF: few.
    pools: HashMap<NodeId, Vec<(IpNet, NodeId)>>,
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
                let virtual_ip = || {
                    let is_host = prefix.prefix_len() == prefix.max_prefix_len();
                    let services = self.virtual_ips.get(&(vrf, prefix.addr())).filter(|_| is_host)?;
                    services.first().copied()
                };
                self.prefixes.get(&(vrf, *prefix)).copied().or_else(virtual_ip)
            }
            Claim::Pool(vrf, prefix) => {
                let vrf = graph.find(Kind::Vrf, vrf)?;
                let inside = (vrf, prefix.network())..=(vrf, prefix.broadcast());
                let (_, services) = self.virtual_ips.range(inside).next()?;
                services.first().copied()
            }
            Claim::VirtualIp(vrf, address) => {
                let vrf = graph.find(Kind::Vrf, vrf)?;
                let pools = self.pools.get(&vrf).into_iter().flatten();
                let mut pools = pools.filter(|(prefix, _)| prefix.contains(address));
                let holder = self.prefixes.get(&(vrf, IpNet::from(*address)));
                holder.copied().or_else(|| Some(pools.next()?.1))
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
            Claim::Pool(vrf, prefix) => {
                if let Some(vrf) = graph.find(Kind::Vrf, vrf) {
                    self.pools.entry(vrf).or_default().push((*prefix, node));
                }
            }
            Claim::VirtualIp(vrf, address) => {
                if let Some(vrf) = graph.find(Kind::Vrf, vrf) {
                    self.virtual_ips.entry((vrf, *address)).or_default().push(node);
                }
            }
            _ => drop(self.others.insert(claim, node)),
        });
    }

    /// Takes it back, before the edges go.
    pub fn give_back(&mut self, graph: &Graph, node: NodeId, name: &Name, spec: &Spec) {
        visit(name, spec, |claim, _| match &claim {
            Claim::Prefix(vrf, prefix) => {
                if let Some(vrf) = graph.find(Kind::Vrf, vrf)
                    && self.prefixes.get(&(vrf, *prefix)) == Some(&node)
                {
                    self.prefixes.remove(&(vrf, *prefix));
                }
            }
            Claim::Pool(vrf, _) => {
                let vrf = graph.find(Kind::Vrf, vrf);
                if let Some(pools) = vrf.and_then(|vrf| self.pools.get_mut(&vrf)) {
                    pools.retain(|(_, holder)| *holder != node);
                }
            }
            Claim::VirtualIp(vrf, address) => {
                let Some(vrf) = graph.find(Kind::Vrf, vrf) else {
                    return;
                };
                if let Some(services) = self.virtual_ips.get_mut(&(vrf, *address)) {
                    services.retain(|holder| *holder != node);
                    if services.is_empty() {
                        self.virtual_ips.remove(&(vrf, *address));
                    }
                }
            }
            other => {
                if self.others.get(other) == Some(&node) {
                    self.others.remove(other);
                }
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
        Claim::VirtualIp(vrf, address) => prefix_taken(key, held, vrf, &IpNet::from(*address), &by),
        Claim::Pool(vrf, prefix) => (
            format!("{prefix} in vrf \"{vrf}\" has the virtual IP of {by}"),
            "choose another prefix",
        ),
        Claim::Service(vrf, address, port) => (
            format!("{port} of {address} in vrf \"{vrf}\" already belongs to {by}"),
            "choose another port or address",
        ),
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
        (Some(address), Kind::Service, _) => (
            format!("{address} in vrf \"{vrf}\" is already the virtual IP of {by}"),
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
