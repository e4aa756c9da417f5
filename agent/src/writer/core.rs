//! The state behind the writer: reconciler, store and data plane, kept in step.

use std::{
    sync::{Arc, RwLock},
    time::{Duration, Instant},
};

use hashbrown::HashMap;
use tracing::{error, info, warn};
use weft_table::PolicyId;

use super::{
    events::{Subscribers, Watcher},
    transact::PushError,
};
use crate::{
    engine::{Applied, Engine},
    model::{Key, Kind, Name, Spec, UNDERLAY, Vrf},
    reconciler::{Decider, Held, Names, NodeId, Reconciler, State, Status},
    store::{Store, StoreError},
};

/// First pause before a refused object is tried again; it doubles each time.
pub const RETRY_FIRST: Duration = Duration::from_secs(1);
/// Longest such pause.
pub const RETRY_LONGEST: Duration = Duration::from_secs(60);

/// weftd itself, as the owner of what is there without being asked for.
pub const BUILT_IN_OWNER: &str = "weftd";

/// weftd cannot begin or go on.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The data plane takes nothing.
    #[error("the data plane refuses the stored configuration: {0}")]
    Engine(String),
}

/// An object to be shown.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// Kind and name.
    pub key: Key,
    /// Owner, generation, spec.
    pub held: Held,
    /// Where it stands.
    pub status: Status,
}

/// What it takes to say in names how often rules decided.
#[derive(Clone, Debug, Default)]
pub struct Policies {
    /// Each policy and how many rules it has.
    pub rules: Vec<(Name, usize)>,
    /// Whose each decider of the data plane's policies is.
    pub deciders: Vec<(PolicyId, Vec<Decider>)>,
}

/// Which objects to show.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)]
pub struct Filter {
    pub kind: Option<Kind>,
    pub name: Option<Name>,
    pub owner: Option<Name>,
}

/// When a refused object is tried again.
#[derive(Clone, Copy, Debug)]
struct Retry {
    pause: Duration,
    at: Instant,
}

/// See the module.
pub struct Core {
    pub(super) reconciler: Reconciler,
    pub(super) store: Store,
    pub(super) engine: Arc<dyn Engine>,
    pub(super) subscribers: Subscribers,
    /// The data plane's last answer.
    pub(super) applied: Applied,
    pub(super) revisions: HashMap<Name, u64>,
    names: Arc<RwLock<Arc<Names>>>,
    retries: HashMap<NodeId, Retry>,
}

impl Core {
    /// Restores what the store holds into the data plane. An object that it refuses is marked as failed and the rest
    /// goes on.
    pub fn restore(store: Store, engine: Arc<dyn Engine>, workers: usize) -> Result<Self, RestoreError> {
        let mut core = Core {
            reconciler: Reconciler::new(workers),
            store,
            engine,
            subscribers: Subscribers::default(),
            applied: Applied {
                snapshot: 0,
                effective: true,
            },
            revisions: HashMap::new(),
            names: Arc::default(),
            retries: HashMap::new(),
        };
        core.load()?;
        Ok(core)
    }

    /// After a fault in the middle of a transaction: begins again from the store. The data plane keeps what it has
    /// until the new plan puts it right.
    pub fn rebuild(self) -> Result<Self, RestoreError> {
        let mut core = Core {
            reconciler: self.reconciler.restart(),
            retries: HashMap::new(),
            ..self
        };
        core.load()?;
        Ok(core)
    }

    fn load(&mut self) -> Result<(), RestoreError> {
        self.store.reopen()?;
        let contents = self.store.load()?;
        for (object, error) in &contents.unreadable {
            error!("{object} in the store is not valid any more and is left out: {error}; apply it again");
        }
        let count = contents.objects.len();
        self.revisions = contents.revisions.into_iter().collect();
        for stored in contents.objects {
            self.reconciler.restore(stored);
        }
        if let Err(error) = self.push_carefully() {
            return Err(RestoreError::Engine(error.to_string()));
        }
        self.finish();
        info!("{count} objects restored from the store");
        Ok(())
    }

    /// Ends a transaction that holds: tells those who watch, and keeps the names current.
    pub(super) fn finish(&mut self) {
        let tell = self.subscribers.any();
        let committed = self.reconciler.commit(tell);
        self.subscribers.tell(committed.changed);
        if committed.renamed {
            let names = Arc::new(self.reconciler.names());
            *self
                .names
                .write()
                .unwrap_or_else(std::sync::PoisonError::into_inner) = names;
        }
    }

    /// Names by number, as of the last transaction.
    pub fn names(&self) -> Arc<RwLock<Arc<Names>>> {
        self.names.clone()
    }

    /// The objects that match, in the order of kinds and names.
    pub fn get(&self, filter: &Filter) -> Vec<View> {
        let fits = |key: &Key, held: &Held| {
            filter.kind.is_none_or(|kind| key.kind == kind)
                && filter.name.as_ref().is_none_or(|name| key.name == *name)
                && filter.owner.as_ref().is_none_or(|owner| held.owner == *owner)
        };
        let mut views: Vec<View> = match (&filter.kind, &filter.name) {
            (Some(kind), Some(name)) => {
                let key = Key::new(*kind, name.clone());
                let found = self.reconciler.get(&key).filter(|(_, held)| fits(&key, held));
                found
                    .map(|(id, held)| self.view(id, &key, held))
                    .into_iter()
                    .collect()
            }
            _ => {
                let objects = self.reconciler.objects().filter(|(_, key, held)| fits(key, held));
                objects.map(|(id, key, held)| self.view(id, key, held)).collect()
            }
        };
        let underlay = self.built_in();
        if underlay.as_ref().is_some_and(|view| fits(&view.key, &view.held)) {
            views.extend(underlay);
        }
        views.sort_unstable_by(|one, other| one.key.cmp(&other.key));
        views
    }

    fn view(&self, id: NodeId, key: &Key, held: &Held) -> View {
        View {
            key: key.clone(),
            held: held.clone(),
            status: self.reconciler.status(id),
        }
    }

    /// The underlay's VRF, as long as nobody has given it settings.
    fn built_in(&self) -> Option<View> {
        let key = Key::new(Kind::Vrf, UNDERLAY);
        if self.reconciler.get(&key).is_some() {
            return None;
        }
        let held = Held {
            owner: BUILT_IN_OWNER.into(),
            generation: 0,
            spec: Spec::Vrf(Vrf::default()),
        };
        Some(View {
            key,
            held,
            status: Status {
                state: State::Active,
                message: String::new(),
            },
        })
    }

    /// The port and its number in the data plane, if it is there.
    pub fn port(&self, name: &Name) -> Option<(View, Option<weft_table::PortId>)> {
        let key = Key::new(Kind::Port, name.clone());
        let (id, held) = self.reconciler.get(&key)?;
        let view = self.view(id, &key, held);
        let number = self
            .reconciler
            .number(id)
            .and_then(|number| u16::try_from(number).ok());
        let plugged = number.filter(|_| view.status.state == State::Active);
        Some((view, plugged.map(weft_table::PortId)))
    }

    /// What it takes to say in names how often rules decided. `name`: of this policy only.
    pub fn policies(&self, name: Option<&Name>) -> Policies {
        Policies {
            rules: self.reconciler.policies(name),
            deciders: self.reconciler.deciders(name),
        }
    }

    /// Existing objects of this kind (if asked for), and from then on every change.
    pub fn watch(&mut self, kind: Option<Kind>, initial: bool) -> (Vec<View>, Watcher) {
        let existing = if initial {
            self.get(&Filter {
                kind,
                ..Default::default()
            })
        } else {
            Vec::new()
        };
        (existing, self.subscribers.add(kind))
    }

    /// The last revision that each owner named.
    pub fn revisions(&self) -> Vec<(Name, u64)> {
        let mut revisions: Vec<_> = self
            .revisions
            .iter()
            .map(|(owner, n)| (owner.clone(), *n))
            .collect();
        revisions.sort();
        revisions
    }

    /// Tries again what the data plane refused and whose time has come.
    pub fn retry(&mut self, now: Instant) {
        let failed = self.reconciler.failed();
        self.retries.retain(|id, _| failed.contains(id));
        for id in failed {
            let first = Retry {
                pause: RETRY_FIRST,
                at: now + RETRY_FIRST,
            };
            let retry = *self.retries.entry(id).or_insert(first);
            if retry.at > now {
                continue;
            }
            let name = self.reconciler.describe(id);
            self.reconciler.try_again(id);
            match self.push(&|node| node == id) {
                Ok(_) => {
                    warn!("{name} is in the data plane now");
                    self.retries.remove(&id);
                    self.finish();
                }
                Err(refused) => {
                    self.roll_back();
                    let pause = (retry.pause * 2).min(RETRY_LONGEST);
                    self.retries.insert(
                        id,
                        Retry {
                            pause,
                            at: now + pause,
                        },
                    );
                    info!(
                        "{name} is still refused, next try in {} s: {refused}",
                        pause.as_secs()
                    );
                    if let PushError::Engine(_) = refused {
                        return;
                    }
                }
            }
        }
    }
}
