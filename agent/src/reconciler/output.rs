//! What a node puts into the data plane: numbers instead of names.

use std::{sync::Arc, time::Duration};

use smallvec::{SmallVec, smallvec};
use weft_dataplane::VrfTimeouts;
use weft_dataplane::change::{
    BackendSpec, BackendState, DeviceSpec, Encapsulation as Header, FloatingIpSpec, MemberSpec, NextHopSpec,
    PoolSpec, PortPolicy, PortSpec, QualitySpec, Rate, RateSpec, ServicePort, ServiceSpec, TunnelTarget,
    VrfSpec,
};
use weft_packet::Label;
use weft_table::{
    AddressGroupId, NatId, NextHopId, PolicyId, PortId, VrfId, WorkerId, policy::AddressGroup as AddressSet,
};

use super::{
    graph::{Graph, Identity, Node, NodeId},
    plan::{Resource, Value},
    policies,
};
use crate::model::{
    self, Device, Encapsulation, Identifier, Limit, NextHop, Port, Spec, Target, TunnelEndpoint, Vrf,
};

/// What one node puts into the data plane: one thing, mostly.
pub type Outputs = SmallVec<[(Resource, Value); 1]>;

/// The outputs of a node, or None while something that it needs is not there.
pub fn of(graph: &Graph, id: NodeId) -> Option<Outputs> {
    let node = &graph[id];
    if node.failed.is_some()
        || node
            .needs
            .iter()
            .any(|need| !need.soft && !graph[need.node].active)
    {
        return None;
    }
    match &node.identity {
        Identity::Object(key) => match (node.spec(), node.is_underlay()) {
            (Some(spec), _) => of_object(graph, node, &key.name, spec),
            (None, true) => Some(smallvec![vrf(VrfId::UNDERLAY, &key.name, &Vrf::default())]),
            (None, false) => None,
        },
        Identity::Hop(hop) => {
            let number = NextHopId(node.number?);
            let value = if node.users.is_empty() {
                None
            } else {
                of_hop(graph, node, hop)
            };
            value.map(|spec| smallvec![(Resource::NextHop(number), Value::NextHop(Box::new(spec)))])
        }
        Identity::PolicySet(policies) => {
            let number = PolicyId(node.number?);
            if node.users.is_empty() {
                return None;
            }
            let rules = policies::compose(graph, policies)?.compile();
            Some(smallvec![(
                Resource::Policy(number),
                Value::Policy(Arc::new(rules))
            )])
        }
        Identity::Hosts(port) => {
            // Without needs the port has no address any more, or is gone.
            let (vrf, hop) = (vrf_at(graph, node, 0)?, hop_at(graph, node, 1)?);
            let port = graph.find(crate::model::Kind::Port, port)?;
            let route = |address: std::net::IpAddr| (Resource::Route(vrf, address.into()), Value::Route(hop));
            Some(graph[port].port()?.hosts().map(route).collect())
        }
    }
}

fn of_object(graph: &Graph, node: &Node, name: &str, spec: &Spec) -> Option<Outputs> {
    Some(match spec {
        Spec::Vrf(spec) => smallvec![vrf(vrf_number(node)?, name, spec)],
        Spec::TunnelEndpoint(endpoint) => smallvec![(Resource::Endpoint(endpoint.remote), Value::Endpoint)],
        Spec::Port(port) => {
            let spec = of_port(graph, node, name, port)?;
            smallvec![(Resource::Port(port_number(node)?), Value::Port(Box::new(spec)))]
        }
        Spec::NextHopGroup(group) => {
            let mut members = Vec::with_capacity(group.members.len());
            for (member, need) in group.members.iter().zip(&node.needs) {
                let hop = &graph[need.node];
                if let (true, Some(number)) = (hop.active, hop.number) {
                    let next_hop = NextHopId(number);
                    members.push(MemberSpec {
                        id: member.id(),
                        weight: member.weight,
                        next_hop,
                    });
                }
            }
            if members.is_empty() {
                return None;
            }
            let value = Value::NextHop(Box::new(NextHopSpec::Group(members)));
            smallvec![(Resource::NextHop(NextHopId(node.number?)), value)]
        }
        Spec::Route(route) => {
            let (vrf, hop) = (vrf_at(graph, node, 0)?, hop_at(graph, node, 1)?);
            smallvec![(Resource::Route(vrf, route.prefix), Value::Route(hop))]
        }
        Spec::NatPool(pool) => {
            let spec = PoolSpec {
                vrf: vrf_at(graph, node, 0)?,
                inside_vrf: vrf_at(graph, node, 1)?,
                sources: pool.sources.clone(),
                addresses: pool.addresses.clone(),
                ports: pool.ports.clone(),
                block_size: pool.block_size,
                deterministic: pool.deterministic,
            };
            let number = NatId(node.number?);
            smallvec![(Resource::Pool(number), Value::Pool(Box::new(spec)))]
        }
        Spec::FloatingIp(floating) => {
            let port = &graph[node.needs.get(1)?.node];
            if floating.misfit(port.port()?).is_some() {
                return None;
            }
            let spec = FloatingIpSpec {
                vrf: vrf_at(graph, node, 0)?,
                address: floating.address,
                port: port_number(port)?,
                inside: floating.inside_address,
            };
            smallvec![(Resource::FloatingIp(NatId(node.number?)), Value::FloatingIp(spec))]
        }
        Spec::Service(service) => {
            let spec = of_service(graph, node, service)?;
            smallvec![(
                Resource::Service(NatId(node.number?)),
                Value::Service(Box::new(spec))
            )]
        }
        Spec::Network(network) => {
            let (vrf, hop) = (vrf_at(graph, node, 0)?, hop_at(graph, node, 1)?);
            let gateway = |subnet: &crate::model::Subnet| {
                (Resource::Route(vrf, subnet.gateway.into()), Value::Route(hop))
            };
            network.subnets.iter().map(gateway).collect()
        }
        Spec::Vni(vni) => smallvec![(Resource::Vni(vni.vni), target(graph, node, &vni.target)?)],
        Spec::Label(label) => smallvec![(Resource::Label(label.label), target(graph, node, &label.target)?)],
        // It is in the data plane by the ports that have it.
        Spec::Policy(_) => SmallVec::new(),
        Spec::AddressGroup(group) => {
            let members = AddressSet::new(group.members.clone());
            smallvec![(
                Resource::AddressGroup(AddressGroupId(node.number?)),
                Value::AddressGroup(Arc::new(members))
            )]
        }
    })
}

fn vrf(id: VrfId, name: &str, vrf: &Vrf) -> (Resource, Value) {
    let time = |seconds| (seconds > 0).then(|| Duration::from_secs(u64::from(seconds)));
    let timeouts = &vrf.timeouts;
    let spec = VrfSpec {
        name: name.into(),
        packet_mode: vrf.packet_mode,
        timeouts: VrfTimeouts {
            tcp_opening: time(timeouts.tcp_opening),
            tcp: time(timeouts.tcp),
            tcp_closed: time(timeouts.tcp_closed),
            udp: time(timeouts.udp),
            icmp: time(timeouts.icmp),
            other: time(timeouts.other),
        },
    };
    (Resource::Vrf(id), Value::Vrf(Box::new(spec)))
}

fn vrf_number(node: &Node) -> Option<VrfId> {
    node.number
        .and_then(|number| u16::try_from(number).ok())
        .map(VrfId)
}

fn port_number(node: &Node) -> Option<PortId> {
    node.number
        .and_then(|number| u16::try_from(number).ok())
        .map(PortId)
}

fn vrf_at(graph: &Graph, node: &Node, position: usize) -> Option<VrfId> {
    vrf_number(&graph[node.needs.get(position)?.node])
}

fn hop_at(graph: &Graph, node: &Node, position: usize) -> Option<NextHopId> {
    graph[node.needs.get(position)?.node].number.map(NextHopId)
}

fn target(graph: &Graph, node: &Node, target: &Target) -> Option<Value> {
    Some(Value::Target(match target {
        Target::Vrf(_) => TunnelTarget::Vrf(vrf_at(graph, node, 0)?),
        Target::Port(_) => TunnelTarget::Port(port_number(&graph[node.needs.first()?.node])?),
    }))
}

fn of_port(graph: &Graph, node: &Node, name: &str, port: &Port) -> Option<PortSpec> {
    let policies = usize::from(!port.policies.is_empty());
    let trunk_at = node.needs.len() - port.trunk.len() - policies;
    let device = match &port.device {
        Device::Ethdev { device, queues } => DeviceSpec::Ethdev {
            device: device.clone(),
            queues: *queues,
        },
        Device::VhostUser {
            socket,
            server,
            queues,
        } => DeviceSpec::VhostUser {
            socket: socket.clone(),
            server: *server,
            queues: *queues,
        },
        Device::Tap {
            interface,
            queues,
            netns,
        } => DeviceSpec::Tap {
            interface: interface.clone(),
            queues: *queues,
            netns: netns.clone(),
        },
        Device::Vlan { vlan, .. } => {
            let parent = &graph[node.needs.get(1)?.node];
            if matches!(parent.port()?.device, Device::Vlan { .. }) {
                return None;
            }
            DeviceSpec::Vlan {
                parent: port_number(parent)?,
                vlan: *vlan,
            }
        }
    };
    let known = |(vlan, need): (weft_packet::VlanId, &super::graph::Need)| {
        let vrf = &graph[need.node];
        Some((vlan, vrf_number(vrf).filter(|_| vrf.active)?))
    };
    let vlans = port.trunk.iter().map(|(vlan, _)| *vlan);
    Some(PortSpec {
        name: name.into(),
        device,
        vrf: vrf_at(graph, node, 0)?,
        mac: port.mac,
        addresses: if port.is_uplink() {
            port.addresses.clone()
        } else {
            Vec::new()
        },
        mtu: port.mtu,
        packet_mode: port.packet_mode,
        trunk: vlans.zip(&node.needs[trunk_at..]).filter_map(known).collect(),
        policy: policy_of(graph, node, port),
        workers: port.workers.iter().map(|worker| WorkerId(*worker)).collect(),
        host_interface: port.host_interface.clone(),
        neighbours: port.neighbours.clone(),
        quality: quality_of(port),
    })
}

fn quality_of(port: &Port) -> Option<Box<QualitySpec>> {
    let rate = |(per_second, burst)| Rate { per_second, burst };
    let limit = |limit: &Limit| RateSpec {
        packets: limit.packets().map(rate),
        bytes: limit.bytes().map(rate),
    };
    let spec = QualitySpec {
        egress: limit(&port.quality.egress),
        ingress: limit(&port.quality.ingress),
        dscp: port.quality.dscp,
    };
    (spec != QualitySpec::default()).then(|| Box::new(spec))
}

fn of_service(graph: &Graph, node: &Node, service: &model::Service) -> Option<ServiceSpec> {
    let source_pool = match &service.source_pool {
        Some(_) => {
            let pool = &graph[node.needs.get(1)?.node];
            let fits = matches!(pool.spec()?, Spec::NatPool(pool) if service.pool_misfit(pool).is_none());
            Some(NatId(pool.number.filter(|_| fits)?))
        }
        None => None,
    };
    let mut ports = node.needs.iter().skip(1 + usize::from(source_pool.is_some()));
    let mut backends = Vec::with_capacity(service.backends.len());
    for (index, backend) in service.backends.iter().enumerate() {
        let serves = match &backend.port {
            Some(_) => {
                let port = &graph[ports.next()?.node];
                let fits = |port: &Port| service.misfit(index, port).is_none();
                port.active && port.port().is_some_and(fits)
            }
            None => !service.local_only,
        };
        if serves {
            backends.push(BackendSpec {
                address: backend.address,
                weight: backend.weight,
                state: match backend.state {
                    model::BackendState::Up => BackendState::Up,
                    model::BackendState::Draining => BackendState::Draining,
                    model::BackendState::Down => BackendState::Down,
                },
            });
        }
    }
    let port = |port: &model::ServicePort| ServicePort {
        protocol: port.protocol,
        port: port.port,
        target: port.target,
    };
    Some(ServiceSpec {
        vrf: vrf_at(graph, node, 0)?,
        address: service.address,
        ports: service.ports.iter().map(port).collect(),
        backends,
        affinity: service.client_affinity,
        source_pool,
    })
}

/// A port whose policies are not all there has no session, whatever it had before.
fn policy_of(graph: &Graph, node: &Node, port: &Port) -> PortPolicy {
    if port.policies.is_empty() {
        return PortPolicy::Open;
    }
    let set = node.needs.last().map(|need| &graph[need.node]);
    match set.filter(|set| set.active).and_then(|set| set.number) {
        Some(number) => PortPolicy::Judged(PolicyId(number)),
        None => PortPolicy::Closed,
    }
}

fn of_hop(graph: &Graph, node: &Node, hop: &NextHop) -> Option<NextHopSpec> {
    Some(match hop {
        NextHop::Port { mac, vlan, .. } => {
            let port = port_number(&graph[node.needs.first()?.node])?;
            NextHopSpec::Port {
                port,
                mac: *mac,
                vlan: *vlan,
            }
        }
        NextHop::Tunnel {
            identifier,
            return_vrf,
            ..
        } => {
            let endpoint = endpoint_of(graph, node)?;
            NextHopSpec::Tunnel {
                remote: endpoint.remote,
                local: endpoint.local,
                encapsulation: header(endpoint.encapsulation, identifier)?,
                return_vrf: match return_vrf {
                    Some(_) => Some(vrf_at(graph, node, 1)?),
                    None => None,
                },
            }
        }
        NextHop::Vrf(_) => NextHopSpec::Vrf(vrf_at(graph, node, 0)?),
        NextHop::Gateway(gateway) => NextHopSpec::Gateway(*gateway),
        NextHop::Receive => NextHopSpec::Receive,
        NextHop::Discard => NextHopSpec::Discard,
        NextHop::Group(_) => return None,
    })
}

/// The endpoint that a tunnel next hop's node names, if it exists.
pub fn endpoint_of<'a>(graph: &'a Graph, hop: &Node) -> Option<&'a TunnelEndpoint> {
    match graph[hop.needs.first()?.node].spec() {
        Some(Spec::TunnelEndpoint(endpoint)) => Some(endpoint),
        _ => None,
    }
}

/// Header and identifier together; None if they do not fit.
pub fn header(encapsulation: Encapsulation, identifier: &Identifier) -> Option<Header> {
    let labels = |labels: &Vec<Label>| labels.clone();
    match (encapsulation, identifier) {
        (Encapsulation::Vxlan, Identifier::Vni { vni, inner_mac }) => Some(Header::Vxlan {
            vni: *vni,
            inner_mac: *inner_mac,
        }),
        (Encapsulation::MplsOverUdp, Identifier::Labels(stack)) => Some(Header::MplsOverUdp {
            labels: labels(stack),
        }),
        (Encapsulation::MplsOverGre, Identifier::Labels(stack)) => Some(Header::MplsOverGre {
            labels: labels(stack),
        }),
        _ => None,
    }
}
