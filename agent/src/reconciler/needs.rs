//! Which other objects a spec names, in a fixed order that [`output`](super::output) reads by position.

use smallvec::smallvec;

use super::{
    graph::{Graph, Identity, Need, Needs, NodeId},
    numbers::Space,
};
use crate::model::{Device, Kind, Name, NextHop, Port, Spec, Target};

/// Draws the graph's edges; new next hops get their number from `number`.
pub struct Edges<'a> {
    pub graph: &'a mut Graph,
    /// Hands out the number of a next hop or of policies.
    pub number: &'a mut dyn FnMut(Space) -> Option<u32>,
    /// Called with each of these that gained its first user or is new: it has to be settled.
    pub stirred: &'a mut dyn FnMut(NodeId),
}

impl Edges<'_> {
    fn hard(&mut self, kind: Kind, name: &Name) -> Need {
        Need::new(self.graph.object(kind, name), false)
    }

    /// The node that a next hop leads to: a group's own, or the shared one.
    fn hop(&mut self, hop: &NextHop) -> Need {
        if let NextHop::Group(group) = hop {
            return self.hard(Kind::NextHopGroup, group);
        }
        let (node, new) = self.graph.hop(hop);
        if new {
            let number = (self.number)(Space::Hop);
            let needs = self.of_hop(hop);
            self.graph[node].number = number;
            self.graph.connect(node, needs);
        }
        if self.graph[node].users.is_empty() {
            (self.stirred)(node);
        }
        Need::new(node, false)
    }

    /// The shared node of a port's policies. A port can be without them: then it has no sessions.
    fn policies(&mut self, policies: &[Name]) -> Option<Need> {
        if policies.is_empty() {
            return None;
        }
        let (node, new) = self.graph.policy_set(policies);
        if new {
            let number = (self.number)(Space::Policy);
            let needs = policies.iter().map(|policy| self.hard(Kind::Policy, policy));
            let needs = needs.collect();
            self.graph[node].number = number;
            self.graph.connect(node, needs);
        }
        if self.graph[node].users.is_empty() {
            (self.stirred)(node);
        }
        Some(Need::new(node, true))
    }

    fn of_hop(&mut self, hop: &NextHop) -> Needs {
        match hop {
            NextHop::Port { port, .. } => smallvec![self.hard(Kind::Port, port)],
            NextHop::Tunnel {
                endpoint, return_vrf, ..
            } => {
                let endpoint = self.hard(Kind::TunnelEndpoint, endpoint);
                let vrf = return_vrf.as_ref().map(|vrf| self.hard(Kind::Vrf, vrf));
                std::iter::once(endpoint).chain(vrf).collect()
            }
            NextHop::Vrf(vrf) => smallvec![self.hard(Kind::Vrf, vrf)],
            NextHop::Group(_) | NextHop::Gateway(_) | NextHop::Receive | NextHop::Discard => Needs::new(),
        }
    }

    /// What the object names: for a port its VRF, its parent, the VRFs of its trunk and its policies; for a network and a
    /// route the VRF and the next hop; for a floating IP the VRF and the port; for a pool its two VRFs; for a service its
    /// VRF, its pool and the ports of its backends; for a group its members; for a policy the address groups of its rules; for a VNI or label the target.
    pub fn of_spec(&mut self, spec: &Spec) -> Needs {
        let target = |edges: &mut Self, target: &Target| match target {
            Target::Vrf(vrf) => smallvec![edges.hard(Kind::Vrf, vrf)],
            Target::Port(port) => smallvec![edges.hard(Kind::Port, port)],
        };
        match spec {
            Spec::Vrf(_) | Spec::TunnelEndpoint(_) | Spec::AddressGroup(_) => Needs::new(),
            Spec::Policy(policy) => {
                let groups = policy.groups().into_iter();
                groups.map(|group| self.hard(Kind::AddressGroup, group)).collect()
            }
            Spec::Network(network) => {
                smallvec![self.hard(Kind::Vrf, &network.vrf), self.hop(&NextHop::Receive)]
            }
            Spec::NatPool(pool) => {
                smallvec![
                    self.hard(Kind::Vrf, &pool.vrf),
                    self.hard(Kind::Vrf, &pool.inside_vrf)
                ]
            }
            Spec::Service(service) => {
                let mut needs: Needs = smallvec![self.hard(Kind::Vrf, &service.vrf)];
                let pool = service.source_pool.iter();
                needs.extend(pool.map(|pool| self.hard(Kind::NatPool, pool)));
                let ports = service
                    .backends
                    .iter()
                    .filter_map(|backend| backend.port.as_ref());
                needs.extend(ports.map(|port| Need {
                    soft: true,
                    ..self.hard(Kind::Port, port)
                }));
                needs
            }
            Spec::FloatingIp(floating) => {
                smallvec![
                    self.hard(Kind::Vrf, &floating.vrf),
                    self.hard(Kind::Port, &floating.port)
                ]
            }
            Spec::Route(route) => smallvec![self.hard(Kind::Vrf, &route.vrf), self.hop(&route.next_hop)],
            Spec::NextHopGroup(group) => {
                let member = |member: &crate::model::Member| Need {
                    soft: true,
                    ..self.hop(&member.next_hop)
                };
                group.members.iter().map(member).collect()
            }
            Spec::Vni(vni) => target(self, &vni.target),
            Spec::Label(label) => target(self, &label.target),
            Spec::Port(port) => {
                let mut needs: Needs = smallvec![self.hard(Kind::Vrf, &port.vrf)];
                if let Device::Vlan { parent, .. } = &port.device {
                    needs.push(self.hard(Kind::Port, parent));
                }
                for (_, vrf) in &port.trunk {
                    needs.push(Need {
                        soft: true,
                        ..self.hard(Kind::Vrf, vrf)
                    });
                }
                needs.extend(self.policies(&port.policies));
                needs
            }
        }
    }

    /// What the host routes of a port need: its VRF and the next hop to it.
    pub fn of_hosts(&mut self, name: &Name, port: &Port) -> Needs {
        let hop = NextHop::Port {
            port: name.clone(),
            mac: None,
            vlan: None,
        };
        smallvec![self.hard(Kind::Vrf, &port.vrf), self.hop(&hop)]
    }
}

/// In which order nodes are settled: what is named comes before what names it.
pub fn rank(graph: &Graph, id: NodeId) -> usize {
    let node = &graph[id];
    match &node.identity {
        Identity::Object(key) => match key.kind {
            Kind::Vrf | Kind::TunnelEndpoint | Kind::AddressGroup => 0,
            Kind::Policy => 1,
            Kind::Port
                if matches!(
                    node.port(),
                    Some(Port {
                        device: Device::Vlan { .. },
                        ..
                    })
                ) =>
            {
                4
            }
            Kind::Port => 3,
            Kind::NextHopGroup => 6,
            Kind::Network | Kind::Route | Kind::Vni | Kind::Label | Kind::FloatingIp | Kind::NatPool => 7,
            Kind::Service => 8,
        },
        Identity::PolicySet(_) => 2,
        Identity::Hop(_) => 5,
        Identity::Hosts(_) => 7,
    }
}

/// How many ranks there are.
pub const RANKS: usize = 9;
