//! From what the owners want to what the data plane is told: names become numbers, and the difference between the two
//! becomes one ordered batch of changes.
//!
//! Work is a transaction. [`stage`] takes objects in and out of the [`graph`], or says why not; [`settle`] finds out
//! what the staged objects, and those that depend on them, put into the data plane; [`plan`] puts the difference into
//! order. Then the caller hands the batch to the data plane and the objects to the store, and calls
//! [`Reconciler::commit`] or [`Reconciler::undo`]. Nothing here blocks, touches a file or knows a protocol. The cost of
//! a transaction is that of what it changes, not of what exists.

mod check;
mod claims;
mod graph;
mod needs;
mod numbers;
mod output;
pub mod plan;
mod policies;
mod settle;
mod stage;
mod status;

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use hashbrown::HashMap;
use weft_table::{NatId, PortId, VrfId};

use crate::model::{Key, Kind, Name, Spec, UNDERLAY};
use claims::Claims;
use graph::{Graph, Identity};
pub use graph::{Held, NodeId};
use needs::RANKS;
use numbers::{Numbers, Space};
use plan::{Installed, Order, Resource, Step, Wanted};
pub use policies::{Decider, Part};
pub use stage::{Outcome, Staged};
pub use status::{State, Status};

/// See the module.
#[derive(Debug)]
pub struct Reconciler {
    graph: Graph,
    claims: Claims,
    numbers: Numbers,
    /// How many workers the data plane has.
    workers: usize,
    /// What the data plane took.
    installed: Installed,
    /// How many endpoints have this remote.
    endpoints: HashMap<IpAddr, u32>,
    /// Nodes to settle, by rank.
    dirty: [Vec<NodeId>; RANKS],
    /// What the transaction wants of resources that it touched.
    touched: HashMap<Resource, Wanted>,
    /// How to undo what was staged.
    journal: Vec<Undo>,
    /// Numbers that are free after the commit, and no sooner: the data plane still knows them.
    retired: Vec<(Space, u32)>,
    /// Objects whose status may have changed.
    stirred: Vec<NodeId>,
    /// Nodes that the data plane refused.
    failing: BTreeSet<NodeId>,
    /// VRFs, ports, endpoints, floating IPs, pools and services: what statistics and flows are shown by.
    named: BTreeSet<NodeId>,
}

/// One step back.
#[derive(Debug)]
enum Undo {
    /// An object was taken out: put it back, with its number and what the data plane had said of it.
    PutBack {
        node: NodeId,
        held: Box<Held>,
        number: Option<u32>,
        failed: Option<Arc<str>>,
    },
    /// An object was put in: take it out.
    TakeOut { node: NodeId },
    /// A number was given to a node: take it back.
    Numbered { node: NodeId, space: Space, number: u32 },
    /// A number was noted to be free after the commit: it is not.
    Retired,
    /// What the data plane says of a node changed.
    Failed { node: NodeId, before: Option<Arc<str>> },
}

/// An object as the store keeps it.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// Kind and name.
    pub key: Key,
    /// Owner, generation, spec.
    pub held: Held,
    /// VRF or port number; None for kinds without.
    pub number: Option<u32>,
}

/// What became of an object in a transaction.
#[derive(Clone, Debug, PartialEq)]
pub struct Changed {
    /// Kind and name.
    pub key: Key,
    /// None: it is gone.
    pub now: Option<(Held, Status)>,
}

/// A transaction that has ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Committed {
    /// What became of each object that it touched.
    pub changed: Vec<Changed>,
    /// Whether a VRF, port, endpoint, floating IP, pool or service was among them.
    pub renamed: bool,
}

impl Reconciler {
    /// With the underlay's VRF and nothing else, for a data plane of so many workers.
    pub fn new(workers: usize) -> Self {
        let mut reconciler = Reconciler {
            graph: Graph::default(),
            claims: Claims::default(),
            numbers: Numbers::default(),
            workers,
            installed: Installed::default(),
            endpoints: HashMap::new(),
            dirty: Default::default(),
            touched: HashMap::new(),
            journal: Vec::new(),
            retired: Vec::new(),
            stirred: Vec::new(),
            failing: BTreeSet::new(),
            named: BTreeSet::new(),
        };
        let underlay = reconciler.graph.object(Kind::Vrf, &UNDERLAY.into());
        reconciler.graph[underlay].number = Some(u32::from(VrfId::UNDERLAY.0));
        reconciler.soil(underlay);
        reconciler
    }

    /// The same data plane, from an empty graph: what it has is kept, and the next transaction puts it right.
    pub fn restart(self) -> Self {
        let mut fresh = Reconciler::new(self.workers);
        let nobody = fresh.graph.object(Kind::Vrf, &UNDERLAY.into());
        fresh.touched = self
            .installed
            .resources()
            .map(|resource| {
                (
                    resource,
                    Wanted {
                        value: None,
                        node: nobody,
                    },
                )
            })
            .collect();
        for resource in self.installed.resources() {
            let (space, number) = match resource {
                Resource::NextHop(hop) => (Space::Hop, hop.0),
                Resource::Policy(policy) => (Space::Policy, policy.0),
                Resource::AddressGroup(group) => (Space::AddressGroup, group.0),
                _ => continue,
            };
            // A number that names another one now must not be used before that one is gone.
            fresh.numbers.reserve(space, number);
            fresh.retired.push((space, number));
        }
        fresh.installed = self.installed;
        fresh
    }

    /// The steps from what the data plane has to what is wanted. Settle first.
    pub fn plan(&self) -> Vec<Step> {
        plan::plan(&self.installed, &self.touched)
    }

    /// The data plane took these steps.
    pub fn took(&mut self, steps: Vec<Step>) {
        for step in steps {
            if step.order == Order::Detach {
                // Its last word comes later in the batch.
                continue;
            }
            self.installed.set(step.resource, step.value);
        }
    }

    /// Ends a transaction: what was staged stays. Says whether names changed that [`names`](Self::names) knows and, if
    /// asked for, what became of each object.
    pub fn commit(&mut self, tell: bool) -> Committed {
        for (space, number) in self.retired.drain(..) {
            self.numbers.give_back(space, number);
        }
        self.journal.clear();
        self.touched.clear();
        let mut stirred = std::mem::take(&mut self.stirred);
        if tell {
            stirred.sort_unstable();
            stirred.dedup();
        }
        let named = |id: &NodeId| match &self.graph[*id].identity {
            Identity::Object(key) => is_named(key.kind),
            _ => false,
        };
        let renamed = stirred.iter().any(named);
        let told = if tell { stirred } else { Vec::new() };
        let changed = told.into_iter().filter_map(|id| self.changed(id)).collect();
        self.collect();
        Committed { changed, renamed }
    }

    fn changed(&self, id: NodeId) -> Option<Changed> {
        let Identity::Object(key) = &self.graph[id].identity else {
            return None;
        };
        let now = self.graph[id]
            .held
            .as_deref()
            .map(|held| (held.clone(), self.status(id)));
        Some(Changed {
            key: key.clone(),
            now,
        })
    }

    /// Takes back everything that was staged since the last commit. If the data plane took a batch meanwhile, apply
    /// [`plan`](Self::plan) before [`forget`](Self::forget).
    pub fn undo(&mut self) {
        self.undo_to(0);
        self.settle();
    }

    /// Takes back what was staged since the journal had this length.
    fn undo_to(&mut self, length: usize) {
        while self.journal.len() > length {
            let Some(step) = self.journal.pop() else { break };
            match step {
                Undo::PutBack {
                    node,
                    held,
                    number,
                    failed,
                } => {
                    self.graph[node].number = number;
                    self.set_failed(node, failed);
                    self.attach(node, held);
                }
                Undo::TakeOut { node } => drop(self.detach(node)),
                Undo::Numbered { node, space, number } => {
                    self.graph[node].number = None;
                    self.numbers.give_back(space, number);
                }
                Undo::Retired => drop(self.retired.pop()),
                Undo::Failed { node, before } => {
                    self.set_failed(node, before);
                    self.soil(node);
                }
            }
        }
    }

    /// Ends a transaction that was undone.
    pub fn forget(&mut self) {
        self.journal.clear();
        self.touched.clear();
        self.stirred.clear();
        self.collect();
    }

    fn collect(&mut self) {
        self.graph.collect(|id, number| {
            self.failing.remove(&id);
            if let Some((space, number)) = number {
                self.numbers.give_back(space, number);
            }
        });
    }

    /// The data plane refused the node, which is not of this batch: it is left out from now on.
    pub fn fail(&mut self, id: NodeId, message: &str) {
        let before = self.set_failed(id, Some(message.into()));
        self.journal.push(Undo::Failed { node: id, before });
        self.stirred.push(id);
        self.soil(id);
    }

    /// The next settling tries this node again.
    pub fn try_again(&mut self, id: NodeId) {
        if let Some(before) = self.set_failed(id, None) {
            self.journal.push(Undo::Failed {
                node: id,
                before: Some(before),
            });
            self.stirred.push(id);
            self.soil(id);
        }
    }

    /// Nodes that the data plane refused.
    pub fn failed(&self) -> Vec<NodeId> {
        self.failing.iter().copied().collect()
    }

    fn set_failed(&mut self, id: NodeId, message: Option<Arc<str>>) -> Option<Arc<str>> {
        if message.is_some() {
            self.failing.insert(id);
        } else {
            self.failing.remove(&id);
        }
        std::mem::replace(&mut self.graph[id].failed, message)
    }

    /// The object that stands behind a node: itself, the port of host routes, or the first of `candidates` that uses
    /// the next hop or the policies.
    pub fn object_behind(&self, id: NodeId, candidates: impl Fn(NodeId) -> bool) -> NodeId {
        let owner = |id: NodeId| match &self.graph[id].identity {
            Identity::Hosts(port) => self.graph.find(Kind::Port, port).unwrap_or(id),
            _ => id,
        };
        match &self.graph[id].identity {
            Identity::Hop(_) | Identity::PolicySet(_) => {
                let mut users: Vec<NodeId> = self.graph[id].users.iter().map(owner).collect();
                users.sort_unstable();
                users.into_iter().find(|user| candidates(*user)).unwrap_or(id)
            }
            _ => owner(id),
        }
    }

    /// What a node stands for, in words.
    pub fn describe(&self, id: NodeId) -> String {
        match &self.graph[id].identity {
            Identity::Object(key) => key.to_string(),
            Identity::Hop(hop) => format!("next hop {hop:?}"),
            Identity::PolicySet(policies) => format!("policies {}", policies.join(", ")),
            Identity::Hosts(port) => format!("addresses of port \"{port}\""),
        }
    }

    /// Whether the data plane refused this node.
    pub fn is_failed(&self, id: NodeId) -> bool {
        self.graph[id].failed.is_some()
    }

    /// Whether the node, as settled last, has its place in the data plane.
    pub fn is_active(&self, id: NodeId) -> bool {
        self.graph[id].active
    }

    /// Whether the data plane has the port of this node, as it is or as it was before the transaction.
    pub fn is_plugged(&self, id: NodeId) -> bool {
        let number = self.graph[id]
            .number
            .and_then(|number| u16::try_from(number).ok());
        number.is_some_and(|number| self.installed.port(PortId(number)).is_some())
    }

    /// The object of this node, if it exists.
    pub fn object(&self, id: NodeId) -> Option<(&Key, &Held)> {
        match (&self.graph[id].identity, self.graph[id].held.as_deref()) {
            (Identity::Object(key), Some(held)) => Some((key, held)),
            _ => None,
        }
    }

    /// The object with this key.
    pub fn get(&self, key: &Key) -> Option<(NodeId, &Held)> {
        let id = self.graph.find(key.kind, &key.name)?;
        Some((id, self.graph[id].held.as_deref()?))
    }

    /// Every object, in no particular order.
    pub fn objects(&self) -> impl Iterator<Item = (NodeId, &Key, &Held)> {
        self.graph
            .iter()
            .filter_map(|(id, node)| match (&node.identity, node.held.as_deref()) {
                (Identity::Object(key), Some(held)) => Some((id, key, held)),
                _ => None,
            })
    }

    /// The number that the data plane knows the object by.
    pub fn number(&self, id: NodeId) -> Option<u32> {
        self.graph[id].number
    }

    /// Where the object stands, in short.
    pub fn state(&self, id: NodeId) -> State {
        status::state_of(&self.graph[id])
    }

    /// Where the object stands, and why.
    pub fn status(&self, id: NodeId) -> Status {
        status::of(&self.graph, id)
    }

    /// Names of the VRFs, ports, floating IPs, pools and services by their numbers, and of the endpoints by their remote.
    pub fn names(&self) -> Names {
        let mut names = Names::default();
        names.vrfs.insert(VrfId::UNDERLAY, UNDERLAY.into());
        for id in &self.named {
            let node = &self.graph[*id];
            let Identity::Object(key) = &node.identity else {
                continue;
            };
            if let (Kind::FloatingIp | Kind::NatPool | Kind::Service, Some(number)) = (key.kind, node.number)
            {
                names.nat.insert(NatId(number), key.name.clone());
                continue;
            }
            match (
                key.kind,
                node.number.and_then(|number| u16::try_from(number).ok()),
                node.spec(),
            ) {
                (Kind::Vrf, Some(number), _) => drop(names.vrfs.insert(VrfId(number), key.name.clone())),
                (Kind::Port, Some(number), _) => drop(names.ports.insert(PortId(number), key.name.clone())),
                (_, _, Some(Spec::TunnelEndpoint(endpoint))) => {
                    let name = names
                        .endpoints
                        .entry(endpoint.remote)
                        .or_insert_with(|| key.name.clone());
                    if key.name < *name {
                        *name = key.name.clone();
                    }
                }
                _ => {}
            }
        }
        names
    }
}

/// Whether objects of this kind are in [`Names`].
fn is_named(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Vrf | Kind::Port | Kind::TunnelEndpoint | Kind::FloatingIp | Kind::NatPool | Kind::Service
    )
}

/// From the data plane's numbers back to names.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)]
pub struct Names {
    pub vrfs: HashMap<VrfId, Name>,
    pub ports: HashMap<PortId, Name>,
    pub endpoints: HashMap<IpAddr, Name>,
    pub nat: HashMap<NatId, Name>,
}
