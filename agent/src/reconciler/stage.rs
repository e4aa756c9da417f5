//! Takes objects in and out of the graph, one by one or as one batch, or says why not.

use super::{
    Held, NodeId, Reconciler, Stored, Undo,
    graph::{Identity, Need},
    is_named,
    needs::Edges,
    numbers::Space,
};
use crate::model::{FieldError, Key, Kind, Name, Object, Route, Spec};

/// What was done with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Outcome {
    Created,
    Changed,
    Unchanged,
    Deleted,
}

/// An object or a deletion that was taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Staged {
    /// The object's node; None: what was to be deleted did not exist.
    pub node: Option<NodeId>,
    /// What was done.
    pub outcome: Outcome,
    /// The object's generation after it.
    pub generation: u64,
}

fn space_of(kind: Kind) -> Option<Space> {
    match kind {
        Kind::Vrf => Some(Space::Vrf),
        Kind::Port => Some(Space::Port),
        Kind::NextHopGroup => Some(Space::Hop),
        Kind::FloatingIp | Kind::NatPool | Kind::Service => Some(Space::Nat),
        Kind::AddressGroup => Some(Space::AddressGroup),
        _ => None,
    }
}

impl Reconciler {
    /// Takes objects and deletions as one: all, or none with an error for each that is refused. Conflicts are judged
    /// by what the whole batch leads to, whatever the order. After an error, undo.
    pub fn stage_all(
        &mut self,
        owner: &Name,
        puts: Vec<Result<Object, FieldError>>,
        deletes: Vec<Result<Key, FieldError>>,
    ) -> Result<Vec<Staged>, Vec<Option<FieldError>>> {
        let mut errors: Vec<Option<FieldError>> = Vec::new();
        errors.resize(puts.len() + deletes.len(), None);
        let mut seen = hashbrown::HashSet::with_capacity(errors.len());
        // Take everything out first, so that what one object gives up is free for another.
        let mut olds = Vec::with_capacity(puts.len());
        for (put, error) in puts.iter().zip(&mut errors) {
            let old = match put {
                Err(refused) => Err(refused.clone()),
                Ok(object) => once(&mut seen, &object.key).and_then(|()| self.take_out(owner, object)),
            };
            olds.push(old.map_err(|refused| *error = Some(refused)).ok());
        }
        let mut staged_deletes = Vec::with_capacity(deletes.len());
        for (delete, error) in deletes.iter().zip(&mut errors[puts.len()..]) {
            let staged = match delete {
                Err(refused) => Err(refused.clone()),
                Ok(key) => once(&mut seen, key).and_then(|()| self.take_out_for_good(owner, key)),
            };
            staged_deletes.push(staged.map_err(|refused| *error = Some(refused)).ok());
        }
        let mut staged = Vec::with_capacity(errors.len());
        for ((put, old), error) in puts.into_iter().zip(olds).zip(&mut errors) {
            let (Ok(object), Some(old)) = (put, old) else {
                continue;
            };
            match self.put_in(owner, object, old) {
                Ok(done) => staged.push(Some(done)),
                Err(refused) => *error = Some(refused),
            }
        }
        if errors.iter().all(Option::is_none) {
            staged.extend(staged_deletes);
            let staged: Vec<Staged> = staged.into_iter().flatten().collect();
            for (done, error) in staged.iter().zip(&mut errors) {
                *error = self.check(*done).err();
            }
            if errors.iter().all(Option::is_none) {
                return Ok(staged);
            }
        }
        Err(errors)
    }

    /// Takes one object, or says why not and leaves everything as it was.
    pub fn stage_put(&mut self, owner: &Name, object: Object) -> Result<Staged, FieldError> {
        self.stage_one(|reconciler| {
            let old = reconciler.take_out(owner, &object)?;
            reconciler.put_in(owner, object, old)
        })
    }

    /// Takes one deletion, or says why not and leaves everything as it was.
    pub fn stage_delete(&mut self, owner: &Name, key: &Key) -> Result<Staged, FieldError> {
        self.stage_one(|reconciler| reconciler.take_out_for_good(owner, key))
    }

    fn stage_one(
        &mut self,
        stage: impl FnOnce(&mut Self) -> Result<Staged, FieldError>,
    ) -> Result<Staged, FieldError> {
        let before = self.journal.len();
        let staged = stage(self).and_then(|staged| self.check(staged).map(|()| staged));
        if staged.is_err() {
            self.undo_to(before);
        }
        staged
    }

    /// Puts back what the store kept. Nothing is checked: it was when it came.
    pub fn restore(&mut self, stored: Stored) {
        let id = self.graph.object(stored.key.kind, &stored.key.name);
        if let (Some(space), Some(number)) = (space_of(stored.key.kind), stored.number)
            && self.numbers.reserve(space, number)
        {
            self.graph[id].number = Some(number);
        }
        if self.graph[id].number.is_none() {
            self.graph[id].number = space_of(stored.key.kind).and_then(|space| self.numbers.take(space));
        }
        self.attach(id, Box::new(stored.held));
    }

    /// Takes the object's old version out; None: there was none, or it is the same.
    fn take_out(&mut self, owner: &Name, object: &Object) -> Result<Old, FieldError> {
        let Some(id) = self.graph.find(object.key.kind, &object.key.name) else {
            return Ok(Old::None);
        };
        let node = &self.graph[id];
        let Some(held) = node.held.as_deref() else {
            return Ok(Old::None);
        };
        same_owner(owner, &object.key, held)?;
        if held.spec == object.spec {
            return Ok(Old::Same);
        }
        if let (true, Spec::Port(old), Spec::Port(new)) = (node.active, &held.spec, &object.spec)
            && old.device != new.device
        {
            return Err(FieldError::new(
                "port.device",
                format!(
                    "the device of port \"{}\" cannot change while the port is plugged",
                    object.key.name
                ),
                "delete the port and add it again, or give the new port another name",
            ));
        }
        let generation = held.generation;
        self.take(id);
        Ok(Old::Other { generation })
    }

    fn put_in(&mut self, owner: &Name, object: Object, old: Old) -> Result<Staged, FieldError> {
        let id = self.graph.object(object.key.kind, &object.key.name);
        if let Old::Same = old {
            let generation = self.graph[id].held.as_deref().map_or(0, |held| held.generation);
            self.try_again(id);
            return Ok(Staged {
                node: Some(id),
                outcome: Outcome::Unchanged,
                generation,
            });
        }
        if let Some(refused) = self.claims.conflict(&self.graph, id, owner, &object) {
            return Err(refused);
        }
        let (outcome, generation) = match old {
            Old::Other { generation } => (Outcome::Changed, generation + 1),
            _ => (Outcome::Created, 1),
        };
        if let Outcome::Created = outcome {
            self.give_number(id, &object.key)?;
        }
        self.set_failed(id, None);
        self.attach(
            id,
            Box::new(Held {
                owner: owner.clone(),
                generation,
                spec: object.spec,
            }),
        );
        self.journal.push(Undo::TakeOut { node: id });
        Ok(Staged {
            node: Some(id),
            outcome,
            generation,
        })
    }

    fn take_out_for_good(&mut self, owner: &Name, key: &Key) -> Result<Staged, FieldError> {
        let nothing = Staged {
            node: None,
            outcome: Outcome::Unchanged,
            generation: 0,
        };
        let Some(id) = self.graph.find(key.kind, &key.name) else {
            return Ok(nothing);
        };
        let Some(held) = self.graph[id].held.as_deref() else {
            return Ok(nothing);
        };
        same_owner(owner, key, held)?;
        let generation = held.generation;
        self.take(id);
        if !self.graph[id].is_underlay()
            && let Some(retired) = space_of(key.kind).zip(self.graph[id].number.take())
        {
            self.retired.push(retired);
            self.journal.push(Undo::Retired);
        }
        self.set_failed(id, None);
        Ok(Staged {
            node: Some(id),
            outcome: Outcome::Deleted,
            generation,
        })
    }

    fn give_number(&mut self, id: NodeId, key: &Key) -> Result<(), FieldError> {
        if self.graph[id].number.is_some() {
            return Ok(());
        }
        let Some(space) = space_of(key.kind) else {
            return Ok(());
        };
        let Some(number) = self.numbers.take(space) else {
            let message = format!(
                "every number that the data plane has for a {} is in use",
                key.kind
            );
            return Err(FieldError::new(
                "name",
                message,
                format!("delete a {} that is not needed", key.kind),
            ));
        };
        self.journal.push(Undo::Numbered {
            node: id,
            space,
            number,
        });
        self.graph[id].number = Some(number);
        Ok(())
    }

    /// Takes an object out and notes how to put it back.
    fn take(&mut self, id: NodeId) {
        let (number, failed) = (self.graph[id].number, self.graph[id].failed.clone());
        if let Some(held) = self.detach(id) {
            self.journal.push(Undo::PutBack {
                node: id,
                held,
                number,
                failed,
            });
        }
    }

    /// Puts an object into its node: claims, edges, and for a port the node of its host routes.
    pub(super) fn attach(&mut self, id: NodeId, mut held: Box<Held>) {
        let Identity::Object(key) = self.graph[id].identity.clone() else {
            return;
        };
        let (numbers, mut new_hops) = (&mut self.numbers, Vec::new());
        let mut edges = Edges {
            graph: &mut self.graph,
            number: &mut |space| numbers.take(space),
            stirred: &mut |hop| new_hops.push(hop),
        };
        let needs = edges.of_spec(&held.spec);
        let hosts = match &held.spec {
            Spec::Port(port) if !port.is_uplink() && !port.addresses.is_empty() => {
                Some(edges.of_hosts(&key.name, port))
            }
            _ => None,
        };
        if let Spec::Route(route) = &mut held.spec {
            self.share(route, &needs);
        }
        let value_matters = matches!(
            held.spec,
            Spec::Port(_) | Spec::TunnelEndpoint(_) | Spec::Policy(_) | Spec::NatPool(_)
        );
        self.graph.connect(id, needs);
        self.claims.take(&self.graph, id, &key.name, &held.spec);
        self.graph[id].held = Some(held);
        if is_named(key.kind) {
            self.named.insert(id);
        }
        if let Some(needs) = hosts {
            let hosts = self.graph.hosts(&key.name);
            self.graph.connect(hosts, needs);
            self.soil(hosts);
        }
        for hop in new_hops {
            self.soil(hop);
        }
        self.soil(id);
        self.stirred.push(id);
        if value_matters {
            self.soil_users(id);
        }
    }

    /// Lets a route hold the graph's copies of what it names: there may be a million of them to one next hop.
    fn share(&self, route: &mut Route, needs: &[Need]) {
        let identity = |position: usize| needs.get(position).map(|need| &self.graph[need.node].identity);
        if let Some(Identity::Object(vrf)) = identity(0) {
            route.vrf = vrf.name.clone();
        }
        if let Some(Identity::Hop(hop)) = identity(1) {
            route.next_hop = hop.clone();
        }
    }

    /// Takes the object out of its node.
    pub(super) fn detach(&mut self, id: NodeId) -> Option<Box<Held>> {
        let held = self.graph[id].held.take()?;
        let Identity::Object(key) = self.graph[id].identity.clone() else {
            return None;
        };
        self.claims.give_back(&self.graph, id, &key.name, &held.spec);
        self.named.remove(&id);
        let mut lonely = Vec::new();
        self.graph.disconnect(id, |node| lonely.push(node));
        if let (Kind::Port, Some(hosts)) = (key.kind, self.graph.find_hosts(&key.name)) {
            self.graph.disconnect(hosts, |node| lonely.push(node));
            self.soil(hosts);
        }
        for node in lonely {
            self.soil(node);
        }
        self.soil(id);
        self.stirred.push(id);
        Some(held)
    }
}

/// What was there before.
enum Old {
    None,
    Same,
    Other { generation: u64 },
}

fn once(seen: &mut hashbrown::HashSet<Key>, key: &Key) -> Result<(), FieldError> {
    if seen.insert(key.clone()) {
        return Ok(());
    }
    let message = format!("{key} is named twice in this request");
    Err(FieldError::new(
        "name",
        message,
        "name each object once, either as an object or as a deletion",
    ))
}

fn same_owner(owner: &Name, key: &Key, held: &Held) -> Result<(), FieldError> {
    if held.owner == *owner {
        return Ok(());
    }
    let message = format!("{key} belongs to owner \"{}\", not to \"{owner}\"", held.owner);
    let help = format!("change it as owner \"{}\", or choose another name", held.owner);
    Err(FieldError::new("owner", message, help))
}
