//! The transactions: a batch as one, a controller's deltas one by one, and the sweep after them.
//!
//! The order is the same in each. Staged first, then the data plane, which may refuse (a device does not open); then
//! the store's commit; then the answer. What fails takes back everything before it, so that a refused batch leaves
//! graph, data plane and store as they were.

use std::cell::OnceCell;

use hashbrown::{HashMap, HashSet};
use tracing::{error, warn};

use super::core::Core;
use crate::{
    engine::Applied,
    model::{Encoder, FieldError, Key, Kind, Name, Object},
    reconciler::{
        NodeId, Outcome, Staged, State, Stored,
        plan::{Resource, Step},
    },
    store::{Changes, Contents, StoreError},
};

/// A batch that is taken as one.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Batch {
    pub owner: Name,
    pub revision: u64,
    pub puts: Vec<Result<Object, FieldError>>,
    pub deletes: Vec<Result<Key, FieldError>>,
    pub dry_run: bool,
}

impl Batch {
    /// A batch of these, not for trial and without a revision.
    pub fn of(
        owner: Name,
        puts: Vec<Result<Object, FieldError>>,
        deletes: Vec<Result<Key, FieldError>>,
    ) -> Self {
        Batch {
            owner,
            revision: 0,
            puts,
            deletes,
            dry_run: false,
        }
    }
}

/// One step of a controller's stream.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum Delta {
    Put(Result<Object, FieldError>),
    Delete(Result<Key, FieldError>),
}

/// What became of one object of a request.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Verdict {
    Done {
        outcome: Outcome,
        generation: u64,
        state: Option<State>,
    },
    Refused(FieldError),
    /// Valid by itself, but another one of the batch was refused.
    NotTried,
}

impl Verdict {
    /// Whether the object is stored and active, or the deleted one gone.
    pub fn is_as_asked(&self) -> bool {
        match self {
            Verdict::Done { state, .. } => state.is_none_or(|state| state == State::Active),
            Verdict::Refused(_) | Verdict::NotTried => false,
        }
    }
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// In the order of the request.
    pub verdicts: Vec<Verdict>,
    /// The snapshot that carries it, and whether every worker follows it.
    pub applied: Applied,
}

/// Nothing could be done, whatever the objects are.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Unavailable {
    #[error("nothing was changed, because it could not be stored: {0}")]
    Store(#[from] StoreError),
    #[error("nothing was changed, because the data plane takes nothing: {0}")]
    Engine(String),
    #[error("weftd is stopping")]
    Stopping,
    #[error("a fault of weftd ended this request; its log says where, and the stored state is in force")]
    Fault,
}

/// The data plane refused a batch.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// Because of this object, which is one of the request's.
    #[error("{message}")]
    Object { node: NodeId, message: String },
    /// Whatever is in it.
    #[error("{0}")]
    Engine(String),
}

/// The nodes of a request and their places in it, found out only if the data plane refuses something.
struct Ours<'a> {
    staged: Vec<Option<&'a Staged>>,
    places: OnceCell<HashMap<NodeId, usize>>,
}

impl<'a> Ours<'a> {
    fn new(staged: impl Iterator<Item = Option<&'a Staged>>) -> Self {
        Ours {
            staged: staged.collect(),
            places: OnceCell::new(),
        }
    }

    /// The last place that names the node.
    fn place(&self, node: NodeId) -> Option<usize> {
        let places = self.places.get_or_init(|| {
            let nodes = self.staged.iter().enumerate();
            nodes
                .filter_map(|(index, staged)| Some(((*staged)?.node?, index)))
                .collect()
        });
        places.get(&node).copied()
    }
}

impl Core {
    /// Takes a batch as one.
    pub fn apply(&mut self, batch: Batch) -> Result<Answer, Unavailable> {
        let count = batch.puts.len() + batch.deletes.len();
        let deletes: Vec<Option<Key>> = batch
            .deletes
            .iter()
            .map(|key| key.as_ref().ok().cloned())
            .collect();
        let first_delete = batch.puts.len();
        let staged = match self.reconciler.stage_all(&batch.owner, batch.puts, batch.deletes) {
            Ok(staged) => staged,
            Err(errors) => {
                self.roll_back();
                return Ok(self.answer(errors.into_iter().map(refused_or_not_tried).collect()));
            }
        };
        if batch.dry_run {
            self.reconciler.settle();
            let verdicts = staged.iter().map(|staged| self.verdict(*staged)).collect();
            self.roll_back();
            return Ok(self.answer(verdicts));
        }
        let ours = Ours::new(staged.iter().map(Some));
        match self.push(&|node| ours.place(node).is_some()) {
            Ok(()) => {}
            Err(PushError::Object { node, message }) => {
                let culprit = ours.place(node);
                let refusal = self.refusal(node, message);
                self.roll_back();
                let mut verdicts = vec![Verdict::NotTried; count];
                if let Some(verdict) = culprit.and_then(|index| verdicts.get_mut(index)) {
                    *verdict = Verdict::Refused(refusal);
                }
                return Ok(self.answer(verdicts));
            }
            Err(PushError::Engine(message)) => {
                self.roll_back();
                return Err(Unavailable::Engine(message));
            }
        }
        let (mut changes, mut encoder) = (Changes::default(), Encoder::default());
        for (index, staged) in staged.iter().enumerate() {
            let deleted = index
                .checked_sub(first_delete)
                .and_then(|index| deletes[index].as_ref());
            self.note(&mut changes, &mut encoder, *staged, deleted);
        }
        changes.revision = self.revision(&batch.owner, batch.revision);
        let verdicts = staged.iter().map(|staged| self.verdict(*staged)).collect();
        self.keep(changes)?;
        Ok(self.answer(verdicts))
    }

    /// Takes a controller's deltas in their order, each by itself: a refused one keeps its last good version. One
    /// commit and one batch for all of them.
    pub fn deltas(&mut self, owner: &Name, revision: u64, deltas: &[Delta]) -> Result<Answer, Unavailable> {
        let mut refused: HashMap<usize, FieldError> = HashMap::new();
        loop {
            let mut done: Vec<Result<Staged, FieldError>> = Vec::with_capacity(deltas.len());
            for (index, delta) in deltas.iter().enumerate() {
                let staged = match (refused.get(&index), delta) {
                    (Some(error), _) => Err(error.clone()),
                    (None, Delta::Put(Ok(object))) => self.reconciler.stage_put(owner, object.clone()),
                    (None, Delta::Delete(Ok(key))) => self.reconciler.stage_delete(owner, key),
                    (None, Delta::Put(Err(error)) | Delta::Delete(Err(error))) => Err(error.clone()),
                };
                done.push(staged);
            }
            let ours = Ours::new(done.iter().map(|staged| staged.as_ref().ok()));
            match self.push(&|node| ours.place(node).is_some()) {
                Ok(()) => {}
                Err(PushError::Object { node, message }) => {
                    let refusal = self.refusal(node, message);
                    self.roll_back();
                    // Without the culprit, once more: the others are not to suffer.
                    match ours.place(node) {
                        Some(index) => drop(refused.insert(index, refusal)),
                        None => return Err(Unavailable::Engine(refusal.to_string())),
                    }
                    continue;
                }
                Err(PushError::Engine(message)) => {
                    self.roll_back();
                    return Err(Unavailable::Engine(message));
                }
            }
            let changes = self.net_changes(owner, revision, deltas, &done);
            let verdicts = done.into_iter().map(|staged| match staged {
                Ok(staged) => self.verdict(staged),
                Err(error) => Verdict::Refused(error),
            });
            let verdicts = verdicts.collect();
            self.keep(changes)?;
            return Ok(self.answer(verdicts));
        }
    }

    /// Removes what the owner has and does not name. What others still refer to stays, with a line in the log.
    pub fn sweep(&mut self, owner: &Name, named: &HashSet<Key>) -> Result<(u64, Applied), Unavailable> {
        let mut stale: Vec<Key> = self
            .reconciler
            .objects()
            .filter(|(_, key, held)| held.owner == *owner && !named.contains(*key))
            .map(|(_, key, _)| key.clone())
            .collect();
        // Those who name others go first.
        stale.sort_by_key(|key| (removal_order(key.kind), key.clone()));
        let (subinterfaces, stale): (Vec<Key>, Vec<Key>) =
            stale.into_iter().partition(|key| self.is_subinterface(key));
        let split = stale.partition_point(|key| removal_order(key.kind) < removal_order(Kind::Port));
        let order = stale[..split].iter().chain(&subinterfaces).chain(&stale[split..]);
        let deltas: Vec<Delta> = order.map(|key| Delta::Delete(Ok(key.clone()))).collect();
        let answer = self.deltas(owner, 0, &deltas)?;
        let mut swept = 0;
        for verdict in &answer.verdicts {
            match verdict {
                Verdict::Refused(error) => {
                    warn!("not swept although owner \"{owner}\" names it no more: {error}")
                }
                _ => swept += 1,
            }
        }
        Ok((swept, answer.applied))
    }

    fn is_subinterface(&self, key: &Key) -> bool {
        use crate::model::{Device, Spec};
        match self.reconciler.get(key).map(|(_, held)| &held.spec) {
            Some(Spec::Port(port)) => matches!(port.device, Device::Vlan { .. }),
            _ => false,
        }
    }

    /// Brings the data plane to what is staged. What it refuses and is not `ours` is marked as failed and left out.
    pub(super) fn push(&mut self, ours: &dyn Fn(NodeId) -> bool) -> Result<(), PushError> {
        loop {
            self.reconciler.settle();
            let steps = self.reconciler.plan();
            match self.hand_over(steps) {
                Ok(()) => return Ok(()),
                Err((None, message)) => return Err(PushError::Engine(message)),
                Err((Some(step), message)) => {
                    let node = self.reconciler.object_behind(step.node, ours);
                    if ours(node) {
                        return Err(PushError::Object { node, message });
                    }
                    self.leave_out(&step, message)?;
                }
            }
        }
    }

    /// As [`push`](Self::push), but a port that does not open costs the others nothing: after a refusal each port is
    /// a batch of its own.
    pub(super) fn push_carefully(&mut self) -> Result<(), PushError> {
        self.reconciler.settle();
        let steps = self.reconciler.plan();
        if self.hand_over(steps).is_ok() {
            return Ok(());
        }
        let first = |step: &Step| {
            step.value.is_some()
                && matches!(
                    step.resource,
                    Resource::Vrf(_) | Resource::AddressGroup(_) | Resource::Policy(_) | Resource::Port(_)
                )
        };
        for step in self.reconciler.plan().into_iter().filter(first) {
            // A sub-interface goes with its parent.
            self.reconciler.settle();
            if !self.reconciler.is_active(step.node) {
                continue;
            }
            match self.hand_over(vec![step]) {
                Ok(()) => {}
                Err((None, message)) => return Err(PushError::Engine(message)),
                Err((Some(step), message)) => self.leave_out(&step, message)?,
            }
        }
        self.push(&|_| false)
    }

    fn hand_over(&mut self, mut steps: Vec<Step>) -> Result<(), (Option<Step>, String)> {
        if steps.is_empty() {
            return Ok(());
        }
        match self.engine.apply(steps.iter().map(Step::change).collect()) {
            Ok(applied) => {
                self.reconciler.took(steps);
                self.applied = applied;
                Ok(())
            }
            Err(refused) => {
                let index = refused.change.filter(|index| *index < steps.len());
                let step = index.map(|index| steps.swap_remove(index));
                // The object is named by whoever shows the message.
                let own = step
                    .as_ref()
                    .map(|step| format!("{}: ", self.reconciler.describe(step.node)));
                let message = own.and_then(|own| refused.message.strip_prefix(&own).map(Into::into));
                Err((step, message.unwrap_or(refused.message)))
            }
        }
    }

    fn leave_out(&mut self, step: &Step, message: String) -> Result<(), PushError> {
        let node = self.reconciler.object_behind(step.node, |_| false);
        // Leaving out helps against an addition, and once.
        if step.value.is_none() || self.reconciler.is_failed(node) {
            return Err(PushError::Engine(format!("{:?}: {message}", step.change())));
        }
        warn!(
            "{} is refused by the data plane: {message}",
            self.reconciler.describe(node)
        );
        self.reconciler.fail(node, &message);
        Ok(())
    }

    /// Takes back what was staged, in the data plane too if that had followed already.
    pub(super) fn roll_back(&mut self) {
        self.reconciler.undo();
        if let Err(refused) = self.push(&|_| false) {
            error!("the data plane does not go back to the stored state: {refused}");
        }
        self.reconciler.forget();
    }

    /// Commits to the store, and ends the transaction.
    fn keep(&mut self, changes: Changes) -> Result<(), Unavailable> {
        if let Err(error) = self.write(&changes) {
            self.roll_back();
            return Err(error.into());
        }
        if let Some((owner, revision)) = changes.revision {
            self.revisions.insert(owner, revision);
        }
        self.finish();
        Ok(())
    }

    fn write(&mut self, changes: &Changes) -> Result<(), StoreError> {
        if !self.store.is_closed() {
            return if changes.is_empty() {
                Ok(())
            } else {
                self.store.write(changes)
            };
        }
        // The disk failed before: whether that commit is on it nobody knows. Everything is compared.
        self.store.reopen()?;
        let difference = self.difference(self.store.load()?, changes.revision.clone());
        self.store.write(&difference)
    }

    /// From what the store holds to what is staged.
    fn difference(&self, contents: Contents, revision: Option<(Name, u64)>) -> Changes {
        let mut held: HashMap<Key, Stored> = contents
            .objects
            .into_iter()
            .map(|stored| (stored.key.clone(), stored))
            .collect();
        let mut changes = Changes {
            revision,
            ..Default::default()
        };
        let mut encoder = Encoder::default();
        for (node, key, _) in self.reconciler.objects() {
            let (Some((stored, encoded)), old) = (self.stored(node, &mut encoder), held.remove(key)) else {
                continue;
            };
            if old.as_ref() != Some(&stored) {
                changes.puts.push((stored, encoded));
            }
        }
        changes.deletes.extend(held.into_keys());
        changes
    }

    fn revision(&self, owner: &Name, revision: u64) -> Option<(Name, u64)> {
        let known = self.revisions.get(owner).copied().unwrap_or_default();
        (revision != 0 && revision != known).then(|| (owner.clone(), revision))
    }

    fn note(&self, changes: &mut Changes, encoder: &mut Encoder, staged: Staged, deleted: Option<&Key>) {
        match (staged.outcome, staged.node) {
            (Outcome::Created | Outcome::Changed, Some(node)) => {
                changes.puts.extend(self.stored(node, encoder))
            }
            (Outcome::Deleted, _) => changes.deletes.extend(deleted.cloned()),
            _ => {}
        }
    }

    fn stored(&self, node: NodeId, encoder: &mut Encoder) -> Option<(Stored, Vec<u8>)> {
        let (key, held) = self.reconciler.object(node)?;
        let numbered = matches!(key.kind, Kind::Vrf | Kind::Port);
        let number = self.reconciler.number(node).filter(|_| numbered);
        let encoded = encoder.encode(&held.spec);
        Some((
            Stored {
                key: key.clone(),
                held: held.clone(),
                number,
            },
            encoded,
        ))
    }

    /// What the store has to know after deltas that may name one object several times.
    fn net_changes(
        &self,
        owner: &Name,
        revision: u64,
        deltas: &[Delta],
        done: &[Result<Staged, FieldError>],
    ) -> Changes {
        let mut changes = Changes {
            revision: self.revision(owner, revision),
            ..Default::default()
        };
        let mut seen = HashSet::with_capacity(deltas.len());
        let mut encoder = Encoder::default();
        for (delta, staged) in deltas.iter().zip(done) {
            let (Ok(staged), Delta::Put(Ok(Object { key, .. })) | Delta::Delete(Ok(key))) = (staged, delta)
            else {
                continue;
            };
            let Some(node) = staged.node.filter(|_| staged.outcome != Outcome::Unchanged) else {
                continue;
            };
            if !seen.insert(node) {
                continue;
            }
            match self.stored(node, &mut encoder) {
                Some(put) => changes.puts.push(put),
                None => changes.deletes.push(key.clone()),
            }
        }
        changes
    }

    fn verdict(&self, staged: Staged) -> Verdict {
        let exists = staged.node.filter(|_| staged.outcome != Outcome::Deleted);
        let exists = exists.filter(|node| self.reconciler.object(*node).is_some());
        let state = exists.map(|node| self.reconciler.state(node));
        Verdict::Done {
            outcome: staged.outcome,
            generation: staged.generation,
            state,
        }
    }

    /// The data plane's words as an error of the object.
    fn refusal(&self, node: NodeId, message: String) -> FieldError {
        let kind = self.reconciler.object(node).map(|(key, _)| key.kind);
        let field = match kind {
            // A port that is plugged keeps its device; what is wrong is something else.
            Some(Kind::Port) if !self.reconciler.is_plugged(node) => "port.device",
            Some(kind) => kind.field(),
            None => "",
        };
        FieldError::new(
            field,
            message,
            "nothing was changed; put right what the message names and try again",
        )
    }

    fn answer(&self, verdicts: Vec<Verdict>) -> Answer {
        Answer {
            verdicts,
            applied: self.applied,
        }
    }
}

fn refused_or_not_tried(error: Option<FieldError>) -> Verdict {
    error.map_or(Verdict::NotTried, Verdict::Refused)
}

/// Kinds in the order in which they can be removed.
fn removal_order(kind: Kind) -> u8 {
    match kind {
        Kind::Route | Kind::Network | Kind::Vni | Kind::Label | Kind::FloatingIp | Kind::Service => 0,
        Kind::NextHopGroup | Kind::NatPool => 1,
        Kind::TunnelEndpoint => 2,
        Kind::Port => 3,
        Kind::Vrf | Kind::Policy => 4,
        Kind::AddressGroup => 5,
    }
}
