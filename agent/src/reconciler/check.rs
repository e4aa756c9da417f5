//! Conflicts between objects that are more than a claim: judged when everything of a batch is in place.

use hashbrown::HashSet;

use super::{
    NodeId, Outcome, Reconciler, Staged,
    graph::{Identity, Node},
    output::{endpoint_of, header},
};
use crate::model::{Device, Encapsulation, FieldError, Identifier, Name, NextHop, Port, Service, Spec};

/// How many of those that refer to an object a message names.
const NAMED: usize = 3;

impl Reconciler {
    /// Checks what was staged against everything else.
    pub(super) fn check(&self, staged: Staged) -> Result<(), FieldError> {
        let Some(id) = staged.node else { return Ok(()) };
        let node = &self.graph[id];
        match (staged.outcome, node.spec()) {
            (Outcome::Deleted, _) => self.nobody_refers_to(id),
            (Outcome::Unchanged, _) | (_, None) => Ok(()),
            (_, Some(spec)) => match spec {
                Spec::Port(port) => self
                    .check_port(node, port)
                    .and_then(|()| self.check_policies(node, port)),
                Spec::Route(_) => self.check_hops(node, |_| "route.next_hop".into()),
                Spec::NextHopGroup(_) => {
                    self.check_hops(node, |index| format!("next_hop_group.members[{index}].next_hop"))
                }
                Spec::TunnelEndpoint(endpoint) => self.check_endpoint(id, endpoint.encapsulation),
                Spec::Policy(policy) => self.check_policy(node, policy),
                Spec::FloatingIp(floating) => {
                    match node.needs.get(1).and_then(|need| self.graph[need.node].port()) {
                        Some(port) => floating.misfit(port).map_or(Ok(()), Err),
                        None => Ok(()),
                    }
                }
                Spec::Vrf(_)
                | Spec::Network(_)
                | Spec::Vni(_)
                | Spec::Label(_)
                | Spec::AddressGroup(_)
                | Spec::NatPool(_) => Ok(()),
                Spec::Service(service) => self.check_service(node, service),
            },
        }
    }

    fn nobody_refers_to(&self, id: NodeId) -> Result<(), FieldError> {
        let node = &self.graph[id];
        if node.is_underlay() {
            // Only its settings are gone; the VRF stays.
            return Ok(());
        }
        // Next hops stand for those that lead there, policies for the ports that have them together, host routes for their
        // port, which names the VRF itself.
        let mut users = HashSet::new();
        for user in node.users.iter() {
            match &self.graph[user].identity {
                Identity::Object(_) => drop(users.insert(user)),
                Identity::Hosts(_) => {}
                Identity::Hop(_) | Identity::PolicySet(_) => users.extend(self.graph[user].users.iter()),
            }
        }
        if users.is_empty() {
            return Ok(());
        }
        let mut names = Vec::new();
        for user in &users {
            keep_least(&mut names, self.describe(*user));
        }
        let Identity::Object(key) = &node.identity else {
            return Ok(());
        };
        let mut list = names.join(", ");
        if users.len() > names.len() {
            list = format!("{list} and {} more", users.len() - names.len());
        }
        let message = format!("{key} is still used by {list}");
        Err(FieldError::new(
            "name",
            message,
            "delete those first, or in the same request",
        ))
    }

    /// A service fits its pool and its backends' ports, as far as these exist.
    fn check_service(&self, node: &Node, service: &Service) -> Result<(), FieldError> {
        let mut needs = node.needs.iter().skip(1).map(|need| &self.graph[need.node]);
        if service.source_pool.is_some()
            && let Some(Spec::NatPool(pool)) = needs.next().and_then(Node::spec)
            && let Some(misfit) = service.pool_misfit(pool)
        {
            return Err(misfit);
        }
        let backends = service.backends.iter().enumerate();
        for (index, _) in backends.filter(|(_, backend)| backend.port.is_some()) {
            let port = needs.next().and_then(Node::port);
            if let Some(misfit) = port.and_then(|port| service.misfit(index, port)) {
                return Err(misfit);
            }
        }
        Ok(())
    }

    fn check_port(&self, node: &Node, port: &Port) -> Result<(), FieldError> {
        for (index, worker) in port.workers.iter().enumerate() {
            if usize::from(*worker) >= self.workers {
                let last = self.workers.saturating_sub(1);
                return Err(FieldError::new(
                    format!("port.workers[{index}]"),
                    format!("there is no worker {worker}: this weftd has the workers 0 to {last}"),
                    "name one of these, or leave workers out; `workers` in weftd.toml adds some",
                ));
            }
        }
        let Device::Vlan { parent, .. } = &port.device else {
            return Ok(());
        };
        let parent_node = node.needs.get(1).map(|need| &self.graph[need.node]);
        match parent_node.and_then(Node::port).map(|parent| &parent.device) {
            Some(Device::Vlan {
                parent: grandparent, ..
            }) => Err(FieldError::new(
                "port.vlan.parent",
                format!("port \"{parent}\" is itself a VLAN sub-interface, of port \"{grandparent}\""),
                "name a port with a device of its own",
            )),
            _ => Ok(()),
        }
    }

    /// Tunnel next hops fit their endpoints, as far as these exist.
    fn check_hops(&self, node: &Node, field: impl Fn(usize) -> String) -> Result<(), FieldError> {
        // A route's needs are its VRF and its next hop, a group's its members' next hops.
        let first = usize::from(matches!(node.spec(), Some(Spec::Route(_))));
        for (index, need) in node.needs.iter().skip(first).enumerate() {
            let hop = &self.graph[need.node];
            if let Some((endpoint, identifier, encapsulation)) = self.misfit(hop) {
                let (part, given) = match identifier {
                    Identifier::Vni { vni, .. } => ("vni", format!("vni {}", vni.get())),
                    Identifier::Labels(_) => ("labels", "a label stack".into()),
                };
                let needs = match encapsulation {
                    Encapsulation::Vxlan => "a vni",
                    Encapsulation::MplsOverUdp | Encapsulation::MplsOverGre => "labels",
                };
                return Err(FieldError::new(
                    format!("{}.tunnel.{part}", field(index)),
                    format!("{given} is given, but tunnel endpoint \"{endpoint}\" is {encapsulation}"),
                    format!("give {needs}, or name another endpoint"),
                ));
            }
        }
        Ok(())
    }

    /// The tunnel next hop whose identifier does not fit its endpoint.
    fn misfit<'a>(&self, hop: &'a Node) -> Option<(&'a Name, &'a Identifier, Encapsulation)> {
        let Identity::Hop(next_hop) = &hop.identity else {
            return None;
        };
        let NextHop::Tunnel {
            endpoint, identifier, ..
        } = &**next_hop
        else {
            return None;
        };
        let encapsulation = endpoint_of(&self.graph, hop)?.encapsulation;
        header(encapsulation, identifier)
            .is_none()
            .then_some((endpoint, identifier, encapsulation))
    }

    /// A changed encapsulation must suit those that use the endpoint now; who only waits for it goes on waiting.
    fn check_endpoint(&self, id: NodeId, encapsulation: Encapsulation) -> Result<(), FieldError> {
        let mut users = Vec::new();
        for hop in self.graph[id].users.iter() {
            let hop = &self.graph[hop];
            if hop.active && self.misfit(hop).is_some() {
                hop.users
                    .iter()
                    .for_each(|user| keep_least(&mut users, self.describe(user)));
            }
        }
        let Some(user) = users.first() else { return Ok(()) };
        Err(FieldError::new(
            "tunnel_endpoint.encapsulation",
            format!("{encapsulation} does not suit {user}, which uses this endpoint"),
            "change both in one request, or add a second endpoint",
        ))
    }
}

/// Keeps the first few in alphabetical order, so that a message does not depend on the order in memory.
fn keep_least(names: &mut Vec<String>, name: String) {
    let place = names.partition_point(|known| *known < name);
    if place < NAMED && names.get(place) != Some(&name) {
        names.insert(place, name);
        names.truncate(NAMED);
    }
}
