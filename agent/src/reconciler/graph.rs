//! The graph of what names what.
//!
//! A node is an object, a next hop that routes and groups share, the policies that a port has together (which ports
//! share, too), or the host routes that a port's addresses become. An
//! object that others name and that does not exist (yet) has a node too, so that it is found when it appears.

use std::{hash::Hash, sync::Arc};

use hashbrown::{Equivalent, HashMap};
use smallvec::SmallVec;

use super::{numbers::Space, plan::Resource};
use crate::model::{Key, Kind, Name, NextHop, Port, Spec, UNDERLAY};

/// A place in the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(u32);

/// What a node stands for.
#[derive(Clone, Debug, PartialEq)]
pub enum Identity {
    /// An object, existing or only named.
    Object(Key),
    /// A next hop, one for all that lead there.
    Hop(Arc<NextHop>),
    /// The policies with these names, one after the other; one for all ports that have them.
    PolicySet(Arc<[Name]>),
    /// The addresses behind the port with this name.
    Hosts(Name),
}

/// An object as it is held.
#[derive(Clone, Debug, PartialEq)]
pub struct Held {
    /// Who wants it.
    pub owner: Name,
    /// Grows with each change.
    pub generation: u64,
    /// What it asks for.
    pub spec: Spec,
}

/// One edge: a node that this one cannot do without, or, if `soft`, whose absence leaves out a part only.
#[derive(Clone, Copy, Debug)]
pub struct Need {
    /// The node that is named.
    pub node: NodeId,
    /// A group's member, a trunk's VLAN, a port's policies.
    pub soft: bool,
    /// Where the edge stands among the users of that node.
    pub(super) place: u32,
}

impl Need {
    /// An edge that is still to be drawn.
    pub fn new(node: NodeId, soft: bool) -> Self {
        Need { node, soft, place: 0 }
    }
}

/// What a node names, without memory of its own for the many nodes that name two.
pub type Needs = SmallVec<[Need; 2]>;

/// The other end of the edges: who names a node, each need once. A VRF may have a million users, so that one comes and
/// goes without a search.
#[derive(Debug, Default)]
pub struct Users(Vec<(NodeId, u32)>);

impl Users {
    /// Whether nothing names the node.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Who names the node; twice who names it twice.
    pub fn iter(&self) -> impl Iterator<Item = NodeId> {
        self.0.iter().map(|(user, _)| *user)
    }
}

/// A node.
#[derive(Debug)]
pub struct Node {
    pub identity: Identity,
    pub held: Option<Box<Held>>,
    /// VRF, port, next-hop or policy number.
    pub number: Option<u32>,
    /// In the fixed order that `needs_of` gives.
    pub needs: Needs,
    pub users: Users,
    /// What the data plane said when it refused it.
    pub failed: Option<Arc<str>>,
    pub active: bool,
    pub dirty: bool,
    /// What it put into the data plane when it was settled last.
    pub outputs: SmallVec<[Resource; 1]>,
}

impl Node {
    /// The object's spec.
    pub fn spec(&self) -> Option<&Spec> {
        self.held.as_deref().map(|held| &held.spec)
    }

    /// The port, if the node is one and it exists.
    pub fn port(&self) -> Option<&Port> {
        match self.spec() {
            Some(Spec::Port(port)) => Some(port),
            _ => None,
        }
    }

    /// The VRF that exists without an object.
    pub fn is_underlay(&self) -> bool {
        matches!(&self.identity, Identity::Object(key) if key.kind == Kind::Vrf && &*key.name == UNDERLAY)
    }
}

/// A [`Key`] that is looked for.
#[derive(Hash)]
struct Named<'a> {
    kind: Kind,
    name: &'a str,
}

impl Equivalent<Key> for Named<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        self.kind == key.kind && *self.name == *key.name
    }
}

/// Nodes that are kept together: more of them come without moving those that are there.
const CHUNK: usize = 1024;

/// All nodes, found by number and by what they stand for.
#[derive(Debug, Default)]
pub struct Graph {
    /// Chunks, all of them full but the last.
    nodes: Vec<Vec<Option<Node>>>,
    free: Vec<NodeId>,
    objects: HashMap<Key, NodeId>,
    hops: HashMap<Arc<NextHop>, NodeId>,
    policy_sets: HashMap<Arc<[Name]>, NodeId>,
    hosts: HashMap<Name, NodeId>,
    /// Nodes that may have lost their last reason to be there.
    orphans: Vec<NodeId>,
}

impl std::ops::Index<NodeId> for Graph {
    type Output = Node;

    fn index(&self, id: NodeId) -> &Node {
        self.slot(id)
            .as_ref()
            .expect("an id lives as long as its node: only `collect` frees nodes")
    }
}

impl std::ops::IndexMut<NodeId> for Graph {
    fn index_mut(&mut self, id: NodeId) -> &mut Node {
        self.slot_mut(id)
            .as_mut()
            .expect("an id lives as long as its node: only `collect` frees nodes")
    }
}

impl Graph {
    fn slot(&self, id: NodeId) -> &Option<Node> {
        &self.nodes[id.0 as usize / CHUNK][id.0 as usize % CHUNK]
    }

    fn slot_mut(&mut self, id: NodeId) -> &mut Option<Node> {
        &mut self.nodes[id.0 as usize / CHUNK][id.0 as usize % CHUNK]
    }

    fn insert(&mut self, identity: Identity) -> NodeId {
        let node = Node {
            identity,
            held: None,
            number: None,
            needs: Needs::new(),
            users: Users::default(),
            failed: None,
            active: false,
            dirty: false,
            outputs: SmallVec::new(),
        };
        if let Some(id) = self.free.pop() {
            *self.slot_mut(id) = Some(node);
            return id;
        }
        if self.nodes.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.nodes.push(Vec::with_capacity(CHUNK));
        }
        let full = (self.nodes.len() - 1) * CHUNK;
        let last = self
            .nodes
            .last_mut()
            .expect("a chunk was added if there was none");
        let id = u32::try_from(full + last.len()).expect("four thousand million objects fit in no memory");
        last.push(Some(node));
        NodeId(id)
    }

    /// The object's node, made if nothing named it before.
    pub fn object(&mut self, kind: Kind, name: &Name) -> NodeId {
        if let Some(id) = self.find(kind, name) {
            return id;
        }
        let name = name.clone();
        let key = Key { kind, name };
        let id = self.insert(Identity::Object(key.clone()));
        self.objects.insert(key, id);
        self.orphans.push(id);
        id
    }

    /// The object's node, if there is one.
    pub fn find(&self, kind: Kind, name: &str) -> Option<NodeId> {
        self.objects.get(&Named { kind, name }).copied()
    }

    /// The next hop's node and whether it is new: then the caller gives it number and needs.
    pub fn hop(&mut self, hop: &NextHop) -> (NodeId, bool) {
        if let Some(id) = self.hops.get(hop) {
            return (*id, false);
        }
        let shared = Arc::new(hop.clone());
        let id = self.insert(Identity::Hop(shared.clone()));
        self.hops.insert(shared, id);
        self.orphans.push(id);
        (id, true)
    }

    /// The node of these policies and whether it is new: then the caller gives it number and needs.
    pub fn policy_set(&mut self, policies: &[Name]) -> (NodeId, bool) {
        if let Some(id) = self.policy_sets.get(policies) {
            return (*id, false);
        }
        let policies: Arc<[Name]> = policies.into();
        let id = self.insert(Identity::PolicySet(policies.clone()));
        self.policy_sets.insert(policies, id);
        self.orphans.push(id);
        (id, true)
    }

    /// The node of the port's host routes.
    pub fn hosts(&mut self, port: &Name) -> NodeId {
        if let Some(id) = self.hosts.get(port) {
            return *id;
        }
        let id = self.insert(Identity::Hosts(port.clone()));
        self.hosts.insert(port.clone(), id);
        id
    }

    /// The node of the port's host routes, if there is one.
    pub fn find_hosts(&self, port: &Name) -> Option<NodeId> {
        self.hosts.get(port).copied()
    }

    /// Every node.
    pub fn iter(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        self.nodes
            .iter()
            .flatten()
            .enumerate()
            .filter_map(|(index, node)| Some((NodeId(index as u32), node.as_ref()?)))
    }

    /// Draws the edges from a node, which has none, to what it names.
    pub fn connect(&mut self, id: NodeId, mut needs: Needs) {
        debug_assert!(self[id].needs.is_empty(), "edges were drawn already");
        for (index, need) in needs.iter_mut().enumerate() {
            let users = &mut self[need.node].users.0;
            need.place = users.len() as u32;
            users.push((id, index as u32));
        }
        self[id].needs = needs;
    }

    /// Takes the edges away; calls `lonely` with each node that nothing names any more.
    pub fn disconnect(&mut self, id: NodeId, mut lonely: impl FnMut(NodeId)) {
        while let Some(need) = self[id].needs.pop() {
            let users = &mut self[need.node].users.0;
            users.swap_remove(need.place as usize);
            match users.get(need.place as usize).copied() {
                // The last one has taken the place.
                Some((moved, index)) => self[moved].needs[index as usize].place = need.place,
                None if users.is_empty() => {
                    self.orphans.push(need.node);
                    lonely(need.node);
                }
                None => {}
            }
        }
        self.orphans.push(id);
    }

    /// Frees nodes that hold no object, are named by nothing and have nothing in the data plane. Calls `freed` with
    /// each of them, and with its number if nobody but the graph knows it.
    pub fn collect(&mut self, mut freed: impl FnMut(NodeId, Option<(Space, u32)>)) {
        while let Some(id) = self.orphans.pop() {
            let Some(node) = self.slot(id) else {
                continue;
            };
            let wanted = node.held.is_some() || !node.users.is_empty() || !node.outputs.is_empty();
            let derived = matches!(node.identity, Identity::Hosts(_)) && !node.needs.is_empty();
            if wanted || derived || node.is_underlay() {
                continue;
            }
            self.disconnect(id, |_| {});
            if let Some(node) = self.slot_mut(id).take() {
                let number = match &node.identity {
                    Identity::Object(key) => self.objects.remove(key).and(None),
                    Identity::Hosts(port) => self.hosts.remove(port).and(None),
                    Identity::Hop(hop) => {
                        let number = self.hops.remove(&**hop).and(node.number);
                        number.map(|number| (Space::Hop, number))
                    }
                    Identity::PolicySet(policies) => {
                        let number = self.policy_sets.remove(policies).and(node.number);
                        number.map(|number| (Space::Policy, number))
                    }
                };
                freed(id, number);
                self.free.push(id);
            }
        }
    }
}
