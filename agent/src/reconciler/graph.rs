//! The graph of what names what.
//!
//! A node is an object, a next hop that routes and groups share, or the host routes that a port's addresses become. An
//! object that others name and that does not exist (yet) has a node too, so that it is found when it appears.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};

use super::plan::Resource;
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
    Hop(Box<NextHop>),
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
    /// A group's member, a trunk's VLAN.
    pub soft: bool,
}

/// A node.
#[derive(Debug)]
pub struct Node {
    pub identity: Identity,
    pub held: Option<Box<Held>>,
    /// VRF, port or next-hop number.
    pub number: Option<u32>,
    /// In the fixed order that `needs_of` gives.
    pub needs: Vec<Need>,
    pub users: HashSet<NodeId>,
    /// What the data plane said when it refused it.
    pub failed: Option<Arc<str>>,
    pub active: bool,
    pub dirty: bool,
    /// What it put into the data plane when it was settled last.
    pub outputs: Vec<Resource>,
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

/// All nodes, found by number and by what they stand for.
#[derive(Debug, Default)]
pub struct Graph {
    nodes: Vec<Option<Node>>,
    free: Vec<NodeId>,
    objects: HashMap<Key, NodeId>,
    hops: HashMap<NextHop, NodeId>,
    hosts: HashMap<Name, NodeId>,
    /// Nodes that may have lost their last reason to be there.
    orphans: Vec<NodeId>,
}

impl std::ops::Index<NodeId> for Graph {
    type Output = Node;

    fn index(&self, id: NodeId) -> &Node {
        self.nodes[id.0 as usize]
            .as_ref()
            .expect("an id lives as long as its node: only `collect` frees nodes")
    }
}

impl std::ops::IndexMut<NodeId> for Graph {
    fn index_mut(&mut self, id: NodeId) -> &mut Node {
        self.nodes[id.0 as usize]
            .as_mut()
            .expect("an id lives as long as its node: only `collect` frees nodes")
    }
}

impl Graph {
    fn insert(&mut self, identity: Identity) -> NodeId {
        let node = Node {
            identity,
            held: None,
            number: None,
            needs: Vec::new(),
            users: HashSet::new(),
            failed: None,
            active: false,
            dirty: false,
            outputs: Vec::new(),
        };
        if let Some(id) = self.free.pop() {
            self.nodes[id.0 as usize] = Some(node);
            return id;
        }
        let id =
            NodeId(u32::try_from(self.nodes.len()).expect("four thousand million objects fit in no memory"));
        self.nodes.push(Some(node));
        id
    }

    /// The object's node, made if nothing named it before.
    pub fn object(&mut self, key: &Key) -> NodeId {
        if let Some(id) = self.objects.get(key) {
            return *id;
        }
        let id = self.insert(Identity::Object(key.clone()));
        self.objects.insert(key.clone(), id);
        self.orphans.push(id);
        id
    }

    /// The object's node, if there is one.
    pub fn find(&self, key: &Key) -> Option<NodeId> {
        self.objects.get(key).copied()
    }

    /// The next hop's node and whether it is new: then the caller gives it number and needs.
    pub fn hop(&mut self, hop: &NextHop) -> (NodeId, bool) {
        if let Some(id) = self.hops.get(hop) {
            return (*id, false);
        }
        let id = self.insert(Identity::Hop(Box::new(hop.clone())));
        self.hops.insert(hop.clone(), id);
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
            .enumerate()
            .filter_map(|(index, node)| Some((NodeId(index as u32), node.as_ref()?)))
    }

    /// Draws the edges from a node to what it names.
    pub fn connect(&mut self, id: NodeId, needs: Vec<Need>) {
        for need in &needs {
            self[need.node].users.insert(id);
        }
        self[id].needs = needs;
    }

    /// Takes the edges away; calls `lonely` with each node that nothing names any more.
    pub fn disconnect(&mut self, id: NodeId, mut lonely: impl FnMut(NodeId)) {
        for need in std::mem::take(&mut self[id].needs) {
            let users = &mut self[need.node].users;
            if users.remove(&id) && users.is_empty() {
                self.orphans.push(need.node);
                lonely(need.node);
            }
        }
        self.orphans.push(id);
    }

    /// Frees nodes that hold no object, are named by nothing and have nothing in the data plane. Calls `freed` with
    /// each of them, and with its number if it is a next hop.
    pub fn collect(&mut self, mut freed: impl FnMut(NodeId, Option<u32>)) {
        while let Some(id) = self.orphans.pop() {
            let Some(node) = &self.nodes[id.0 as usize] else {
                continue;
            };
            let wanted = node.held.is_some() || !node.users.is_empty() || !node.outputs.is_empty();
            let derived = matches!(node.identity, Identity::Hosts(_)) && !node.needs.is_empty();
            if wanted || derived || node.is_underlay() {
                continue;
            }
            self.disconnect(id, |_| {});
            if let Some(node) = self.nodes[id.0 as usize].take() {
                let number = match &node.identity {
                    Identity::Object(key) => self.objects.remove(key).and(None),
                    Identity::Hosts(port) => self.hosts.remove(port).and(None),
                    Identity::Hop(hop) => self.hops.remove(&**hop).and(node.number),
                };
                freed(id, number);
                self.free.push(id);
            }
        }
    }
}
