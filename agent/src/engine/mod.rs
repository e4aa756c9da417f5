//! What the agent asks of a data plane, as a trait: [`weft_dataplane::Dataplane`] fulfils it, and so does a model in
//! memory by which the reconciler is tested.

mod dataplane;
#[cfg(any(test, fuzzing, feature = "model"))]
pub mod memory;

pub use dataplane::is_permission;

use weft_dataplane::{
    change::Change,
    view::{
        FloatingIpStatistics, FlowFilter, FlowRecord, PolicyLog, PoolStatistics, PortState,
        ServiceStatistics, Statistics, SupposedPacket, WhatIf,
    },
};
use weft_table::{PolicyId, PortId};

/// A data plane, as the agent sees it. Every call may block for as long as a grace period takes.
pub trait Engine: Send + Sync + 'static {
    /// Applies a batch as one, or refuses it whole.
    fn apply(&self, batch: Vec<Change>) -> Result<Applied, Refused>;
    /// Counters of everything.
    fn statistics(&self) -> Statistics;
    /// Sessions' directions that match, `limit` at most.
    fn flows(&self, filter: FlowFilter, limit: usize) -> Vec<FlowRecord>;
    /// How often each decider of each policy decided.
    fn policy_hits(&self) -> Vec<(PolicyId, Vec<u64>)>;
    /// How many sessions each floating IP translated.
    fn floating_ips(&self) -> Vec<FloatingIpStatistics>;
    /// How full each pool is.
    fn pools(&self) -> Vec<PoolStatistics>;
    /// How many sessions the services' backends have.
    fn services(&self) -> Vec<ServiceStatistics>;
    /// What rules with `log` decided since this was asked last, `limit` decisions at most.
    fn policy_log(&self, limit: usize) -> PolicyLog;
    /// What would become of a packet from a tenant's port; None: there is no such port.
    fn what_if(&self, from: PortId, packet: SupposedPacket) -> Option<WhatIf>;
    /// What a port's device says of itself.
    fn port_state(&self, port: PortId) -> Option<PortState>;
}

/// A batch was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Number of the snapshot that carries it.
    pub snapshot: u64,
    /// Whether every worker follows it already.
    pub effective: bool,
}

/// A batch was refused whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    /// Which change of the batch is to blame; None: the data plane itself takes nothing.
    pub change: Option<usize>,
    /// Why.
    pub message: String,
}
