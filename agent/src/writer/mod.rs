//! The writer: one thread that alone changes desired state. Requests queue up to it and are answered after the store's
//! commit.
//!
//! It is a thread and no task, since it waits for the disk and for grace periods. A panic in a request ends that
//! request: the state is then built anew from the store, and the data plane brought in line with it.

mod core;
mod events;
#[cfg(test)]
mod tests;
mod transact;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, RwLock},
    thread::JoinHandle,
    time::Instant,
};

use hashbrown::HashSet;
use tokio::sync::{mpsc, oneshot};
use tracing::error;
use weft_table::PortId;

pub use self::core::{BUILT_IN_OWNER, Core, Filter, Policies, RETRY_FIRST, RestoreError, View};
pub use events::{BACKLOG, Ended, Watcher};
pub use transact::{Answer, Batch, Delta, Unavailable, Verdict};

use crate::{
    engine::Applied,
    model::{Key, Kind, Name},
    reconciler::Names,
};

/// Requests that may wait before those who ask have to.
const QUEUE: usize = 64;

type Job = Box<dyn FnOnce(&mut Core) + Send>;

/// The way to the writer; cheap to copy.
#[derive(Clone)]
pub struct Writer {
    jobs: mpsc::Sender<Job>,
    names: Arc<RwLock<Arc<Names>>>,
}

impl Writer {
    /// Starts the writer's thread, which ends when the last `Writer` is gone or on a fault that cannot be mended.
    pub fn start(core: Core) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (jobs, queue) = mpsc::channel(QUEUE);
        let names = core.names();
        let thread = std::thread::Builder::new()
            .name("weft-writer".into())
            .spawn(move || run(core, queue))?;
        Ok((Writer { jobs, names }, thread))
    }

    async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Core) -> T + Send + 'static,
    ) -> Result<T, Unavailable> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |core| drop(reply.send(work(core))));
        self.jobs.send(job).await.map_err(|_| Unavailable::Stopping)?;
        answer.await.map_err(|_| Unavailable::Fault)
    }

    /// Takes a batch as one.
    pub async fn apply(&self, batch: Batch) -> Result<Answer, Unavailable> {
        self.ask(move |core| core.apply(batch)).await?
    }

    /// Takes a controller's deltas, each by itself.
    pub async fn deltas(
        &self,
        owner: Name,
        revision: u64,
        deltas: Vec<Delta>,
    ) -> Result<Answer, Unavailable> {
        self.ask(move |core| core.deltas(&owner, revision, &deltas))
            .await?
    }

    /// Removes what the owner has and does not name; says how many, and gives the names back.
    pub async fn sweep(
        &self,
        owner: Name,
        named: HashSet<Key>,
    ) -> Result<(u64, Applied, HashSet<Key>), Unavailable> {
        self.ask(move |core| {
            core.sweep(&owner, &named)
                .map(|(swept, applied)| (swept, applied, named))
        })
        .await?
    }

    /// The objects that match, and each owner's revision.
    pub async fn get(&self, filter: Filter) -> Result<(Vec<View>, Vec<(Name, u64)>), Unavailable> {
        self.ask(move |core| (core.get(&filter), core.revisions())).await
    }

    /// The port and its number in the data plane.
    pub async fn port(&self, name: Name) -> Result<Option<(View, Option<PortId>)>, Unavailable> {
        self.ask(move |core| core.port(&name)).await
    }

    /// The policies with the number of their rules, and whose the data plane's deciders are. `name`: only this one.
    pub async fn policies(&self, name: Option<Name>) -> Result<Policies, Unavailable> {
        self.ask(move |core| core.policies(name.as_ref())).await
    }

    /// Existing objects of this kind (if asked for), and from then on every change.
    pub async fn watch(
        &self,
        kind: Option<Kind>,
        initial: bool,
    ) -> Result<(Vec<View>, Watcher), Unavailable> {
        self.ask(move |core| core.watch(kind, initial)).await
    }

    /// Tries again what the data plane refused and whose time has come.
    pub async fn retry(&self, now: Instant) -> Result<(), Unavailable> {
        self.ask(move |core| core.retry(now)).await
    }

    /// Returns when the writer comes round.
    pub async fn ping(&self) -> Result<(), Unavailable> {
        self.ask(|_| ()).await
    }

    /// Ends when the writer has ended, which it does by itself only after a fault that cannot be mended.
    pub async fn ended(&self) {
        self.jobs.closed().await;
    }

    /// Names by number.
    pub fn names(&self) -> Arc<Names> {
        self.names
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone()
    }

    #[cfg(test)]
    pub(crate) async fn panic_once(&self) -> Result<(), Unavailable> {
        self.ask(|_| panic!("a test asked for it")).await
    }
}

fn run(mut core: Core, mut queue: mpsc::Receiver<Job>) {
    while let Some(job) = queue.blocking_recv() {
        if catch_unwind(AssertUnwindSafe(|| job(&mut core))).is_ok() {
            continue;
        }
        error!("a request ended in a panic; the state is built anew from the store");
        core = match core.rebuild() {
            Ok(core) => core,
            Err(error) => {
                error!("weftd cannot go on: {error}");
                return;
            }
        };
    }
}
