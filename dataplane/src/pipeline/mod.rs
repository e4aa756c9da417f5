//! The way of a packet. One burst of one receive queue walks it from top to bottom, run to completion:
//!
//! ```text
//! rx ─ classify ─ flow ──hit───────────────────────────── apply (nat) ─ encap ─ transmit
//!         │         ├─miss─ forward (nat, service) ─ policy ─ learn ┤
//!         │         └─ without sessions: packet_mode ───────────────┘
//!         └─ to us: local (arp, nd, echo, host)
//! ```
//!
//! Each stage is one file that tells its drop reasons and works on the arrays of a [`burst::Burst`]. Nothing here
//! allocates, locks, logs or waits; what it reads of the configuration is one [`Snapshot`].

pub mod apply;
pub mod budget;
pub mod burst;
pub mod classify;
pub mod decap;
pub mod encap;
pub mod family;
pub mod flow;
pub mod forward;
pub mod fragments;
pub mod learn;
pub mod local;
pub mod nat;
pub mod offload;
mod packet_mode;
mod plain;
pub mod policy;
pub mod policy_log;
pub mod rate;
pub mod related;
pub mod routes;
pub mod service;
pub mod transmit;
pub mod what_if;

use weft_table::flow::{Key4, Key6};

use crate::{
    dpdk::{Mbuf, clock},
    drops::Reason,
    shared::{Punt, Shared},
    snapshot::Snapshot,
    statistics::{Counters, Stage},
};
use budget::Budgets;
use burst::Burst;
use family::{Family, V4, V6};
use fragments::Fragments;
use learn::Learner;
use transmit::Transmit;
use weft_table::PortId;
use what_if::Watch;

/// What the stages need beside the burst: the configuration, the tables, and the worker's own things.
pub struct Context<'a> {
    /// The configuration for this burst.
    pub snapshot: &'a Snapshot,
    /// Tables and rings of all workers.
    pub shared: &'a Shared,
    /// This worker's counters.
    pub counters: &'a mut Counters,
    /// What this burst sends.
    pub transmit: &'a mut Transmit,
    /// This worker's part in the flow tables.
    pub flows: &'a mut Flows,
    /// What ports may open.
    pub budgets: &'a mut Budgets,
    /// This worker's datagrams in fragments.
    pub fragments: &'a mut Fragments,
    /// Seconds since the start.
    pub now: u32,
    /// When this round began, by the clock of cycles.
    pub began: u64,
    /// This worker.
    pub worker: u16,
    /// Set where a packet is only supposed: then nothing may come of it.
    pub watch: Option<&'a Watch>,
}

/// A worker's part in the flow tables.
pub struct Flows {
    /// IPv4.
    pub v4: Learner<Key4>,
    /// IPv6.
    pub v6: Learner<Key6>,
}

impl Context<'_> {
    /// Ends a packet with a reason.
    #[inline]
    pub fn drop(&mut self, packet: Mbuf, port: PortId, reason: Reason) {
        self.counters.drop(port, reason);
        drop(packet);
    }

    /// Tells the control thread something; lost if it does not keep up, since it will be told again.
    #[inline]
    pub fn punt(&self, punt: Punt) {
        if self.watch.is_none() {
            let _ = self.shared.punts.push(punt);
        }
    }
}

/// Walks a burst through all stages. Returns the cycles that it took to decide on sessions' first packets.
pub fn run(burst: &mut Burst, context: &mut Context<'_>) -> u64 {
    let mut clock = StageClock { since: clock::now() };
    classify::classify(burst, context);
    clock.lap(context.counters, Stage::Classify, burst.len() as u64);
    let mut deciding = classified(burst, context, &mut clock);
    while fragments::refill(burst, context) {
        deciding += classified(burst, context, &mut clock);
    }
    deciding
}

/// The stages behind classify, for what it put into lanes.
#[inline(always)]
fn classified(burst: &mut Burst, context: &mut Context<'_>, clock: &mut StageClock) -> u64 {
    let packets = burst.len() as u64;
    flow::lookup::<V4>(burst, context);
    flow::lookup::<V6>(burst, context);
    clock.lap(context.counters, Stage::Flow, packets);
    context.budgets.begin();
    let first = (burst.v4.first_packets() + burst.v6.first_packets()) as u64;
    let stateless = packet_mode::forward::<V4>(burst, context) + packet_mode::forward::<V6>(burst, context);
    if stateless > 0 {
        clock.lap(context.counters, Stage::Forward, stateless);
    }
    let (missed4, deciding4) = miss::<V4>(burst, context, clock);
    let (missed6, deciding6) = miss::<V6>(burst, context, clock);
    apply::apply(burst, context);
    clock.lap(context.counters, Stage::Apply, packets);
    transmit::flush(context);
    clock.lap(context.counters, Stage::Transmit, packets);
    (deciding4 + deciding6) * first / (missed4 + missed6).max(1)
}

/// The way of packets without a decision that holds; how many they are, and how many cycles they took.
#[inline(never)]
fn miss<F: Family>(burst: &mut Burst, context: &mut Context<'_>, clock: &mut StageClock) -> (u64, u64) {
    let lane = F::lane(burst);
    let (undecided, count) = (lane.undecided, lane.undecided_count);
    if count == 0 {
        return (0, 0);
    }
    related::find::<F>(burst, context, &undecided[..count]);
    let mut candidates = forward::forward::<F>(burst, context, &undecided[..count]);
    let forward = clock.lap(context.counters, Stage::Forward, count as u64);
    let judged = candidates.as_slice().len() as u64;
    policy::judge::<F>(burst, context, &mut candidates);
    let policy = clock.lap(context.counters, Stage::Policy, judged);
    let allowed = candidates.as_slice();
    learn::learn::<F>(burst, context, allowed);
    let learn = clock.lap(context.counters, Stage::Learn, allowed.len() as u64);
    (count as u64, forward + policy + learn)
}

/// Charges the cycles since the last look to a stage.
pub struct StageClock {
    /// When the stage began.
    pub since: u64,
}

impl StageClock {
    /// The stage is over; how many cycles it took.
    #[inline(always)]
    pub fn lap(&mut self, counters: &mut Counters, stage: Stage, packets: u64) -> u64 {
        let now = clock::now();
        let cycles = now - self.since;
        counters.stage_cycles[stage as usize] += cycles;
        counters.stage_packets[stage as usize] += packets;
        self.since = now;
        cycles
    }
}
