//! Finds out what staged objects, and those that depend on them, put into the data plane.

use smallvec::SmallVec;

use super::{
    NodeId, Reconciler,
    graph::Identity,
    needs::rank,
    output,
    plan::{Resource, Value, Wanted},
};

impl Reconciler {
    /// Marks a node to be settled.
    pub(super) fn soil(&mut self, id: NodeId) {
        if !std::mem::replace(&mut self.graph[id].dirty, true) {
            let rank = rank(&self.graph, id);
            self.dirty[rank].push(id);
        }
    }

    /// Settles every marked node, and those whose ground they are.
    pub fn settle(&mut self) {
        // Marks go upwards: what is named has a lower rank than what names it, or (a sub-interface whose parent is
        // one, which never becomes active) the same.
        while let Some(rank) = self.dirty.iter().position(|rank| !rank.is_empty()) {
            if let Some(id) = self.dirty[rank].pop() {
                self.graph[id].dirty = false;
                self.settle_node(id);
            }
        }
    }

    fn settle_node(&mut self, id: NodeId) {
        let outputs = output::of(&self.graph, id);
        let active = outputs.is_some();
        let outputs = outputs.unwrap_or_default();
        let old = std::mem::take(&mut self.graph[id].outputs);
        for resource in old
            .iter()
            .filter(|resource| !outputs.iter().any(|(new, _)| new == *resource))
        {
            self.withdraw(id, *resource);
        }
        let mut resources = SmallVec::with_capacity(outputs.len());
        for (resource, value) in outputs {
            resources.push(resource);
            self.want(id, resource, value, !old.contains(&resource));
        }
        let node = &mut self.graph[id];
        node.outputs = resources;
        if std::mem::replace(&mut node.active, active) != active {
            if matches!(node.identity, Identity::Object(_)) {
                self.stirred.push(id);
            }
            self.soil_users(id);
        }
    }

    /// Marks everything that names the node.
    pub(super) fn soil_users(&mut self, id: NodeId) {
        let users: Vec<NodeId> = self.graph[id].users.iter().collect();
        for user in users {
            self.soil(user);
        }
    }

    fn want(&mut self, node: NodeId, resource: Resource, value: Value, new: bool) {
        if let (Resource::Endpoint(remote), true) = (resource, new) {
            *self.endpoints.entry(remote).or_default() += 1;
        }
        self.touched.insert(
            resource,
            Wanted {
                value: Some(value),
                node,
            },
        );
    }

    fn withdraw(&mut self, node: NodeId, resource: Resource) {
        if let Resource::Endpoint(remote) = resource {
            // Several endpoints may have one remote.
            let left = self.endpoints.get(&remote).map_or(0, |count| count - 1);
            if left > 0 {
                self.endpoints.insert(remote, left);
                return;
            }
            self.endpoints.remove(&remote);
            self.touched.insert(resource, Wanted { value: None, node });
            return;
        }
        match self.touched.get(&resource) {
            // Another object has taken it over in this transaction.
            Some(wanted) if wanted.node != node && wanted.value.is_some() => {}
            _ => drop(self.touched.insert(resource, Wanted { value: None, node })),
        }
    }
}
