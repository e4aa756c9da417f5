//! A data plane that does nothing until it is told: no control thread, no poll loop. Its caller configures it and gives it
//! bursts, which walk the same stages as a worker's: for benchmarks of single stages under conditions of their own.

use std::sync::Arc;

use weft_table::{
    PortId, WorkerId,
    rcu::{Domain, Reader, Writer},
};

use super::{Refused, StartError, state::State, thread};
use crate::{
    Config,
    change::Change,
    dpdk::{Batch, Mempool},
    pipeline::{
        self, Context, Flows, budget::Budgets, burst::Burst, fragments::Fragments, learn::Learner,
        transmit::Transmit,
    },
    port::OpenContext,
    shared::Shared,
    statistics::Counters,
};

/// Sessions that are looked at together when all of them end.
const SLICE: u32 = 4096;

/// See the module. EAL runs, outlives it, and there is one worker: whoever calls.
pub struct ByHand {
    instance: String,
    state: State,
    writer: Writer,
    shared: Arc<Shared>,
    reader: Reader,
    flows: Flows,
    budgets: Budgets,
    fragments: Fragments,
    burst: Box<Burst>,
    transmit: Transmit,
    counters: Counters,
}

impl ByHand {
    /// With nothing configured. What `config` says of EAL is not read.
    pub fn new(config: &Config) -> Result<Self, StartError> {
        let (domain, writer) = Domain::new();
        let (state, shared) = thread::tables(config, &domain)?;
        Ok(ByHand {
            instance: config.file_prefix.clone(),
            state,
            writer,
            reader: domain.register(0)?,
            flows: Flows {
                v4: Learner::new(shared.sessions4.worker(WorkerId(0))?),
                v6: Learner::new(shared.sessions6.worker(WorkerId(0))?),
            },
            shared,
            budgets: Budgets::default(),
            fragments: Fragments::default(),
            burst: Box::default(),
            transmit: Transmit::default(),
            counters: Counters::default(),
        })
    }

    /// Applies a batch as one, or refuses it whole.
    pub fn apply(&mut self, batch: Vec<Change>) -> Result<(), Refused> {
        let context = OpenContext::new(&self.shared.pool, self.state.workers, &self.instance);
        let result = self.state.apply(batch, &context);
        let snapshot = Arc::new(self.state.finish().clone());
        self.writer.publish(&self.shared.snapshot, snapshot);
        self.reader.quiescent();
        self.writer.collect();
        result
    }

    /// Where packets come from.
    pub fn pool(&self) -> &Mempool {
        &self.shared.pool
    }

    /// Walks what came by the device of a port through all stages.
    pub fn walk(&mut self, device: PortId, received: &mut Batch) {
        self.reader.quiescent();
        let mut context = Context {
            snapshot: self.shared.snapshot.load(&self.reader),
            shared: &self.shared,
            counters: &mut self.counters,
            transmit: &mut self.transmit,
            flows: &mut self.flows,
            budgets: &mut self.budgets,
            fragments: &mut self.fragments,
            now: 0,
            began: crate::dpdk::clock::now(),
            worker: 0,
            watch: None,
        };
        self.burst.begin(device, received);
        context.counters.books.received += self.burst.len() as u64;
        pipeline::run(&mut self.burst, &mut context);
    }

    /// What was counted so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// IPv4 sessions that are held.
    pub fn sessions(&self) -> u64 {
        self.shared.sessions4.len()
    }

    /// Ends all IPv4 sessions.
    pub fn end_sessions(&mut self) {
        let table = &self.shared.sessions4;
        let flows = &mut self.flows.v4.flows;
        // Once more through all of them: places are free when a grace period is over.
        let mut looked = 0;
        while !table.is_empty() || looked < table.used() {
            looked = if table.is_empty() { looked + SLICE } else { 0 };
            table.sweep(flows, SLICE, 2, |_, _| 1);
            self.reader.quiescent();
        }
    }
}
