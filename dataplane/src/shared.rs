//! What the workers and the control thread share: the snapshot, the tables, the rings between them.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64},
    },
    time::Duration,
};

use crossbeam::{queue::ArrayQueue, utils::CachePadded};
use weft_packet::Mac;
use weft_table::{
    PortId,
    flow::{FlowTable, Key4, Key6},
    rcu::Published,
    stamps::Stamps,
};

use crate::{
    Timeouts,
    dpdk::{Mbuf, Mempool},
    snapshot::Snapshot,
    statistics::Mailbox,
    view::LoggedDecision,
};

/// Packets that wait to be sent for the control thread, a worker.
pub const INJECT_RING: usize = 256;
/// What the workers have told the control thread and it has not read yet.
pub const PUNT_RING: usize = 4096;
/// Decisions of policies that wait to be written down.
const LOG_RING: usize = 1024;

/// When what sessions depend on last changed, in numbers of snapshots.
pub struct Changed {
    /// Routes, and VRFs' lack of one, by [`RouteId`](weft_table::RouteId).
    pub routes: Stamps,
    /// The same where only some destinations are concerned; the snapshot says which.
    pub narrowed: Stamps,
    /// The policies of ports, by [`PortId`].
    pub policies: Stamps,
    /// What translates what ports send, by [`PortId`].
    pub nat: Stamps,
}

impl Changed {
    /// Nothing has changed yet.
    pub fn new(hugepages: bool) -> Self {
        Changed {
            routes: Stamps::new(hugepages),
            narrowed: Stamps::new(hugepages),
            policies: Stamps::new(false),
            nat: Stamps::new(false),
        }
    }
}

/// See the module.
pub struct Shared {
    /// The configuration in force.
    pub snapshot: Published<Snapshot>,
    /// IPv4 sessions.
    pub sessions4: FlowTable<Key4>,
    /// IPv6 sessions.
    pub sessions6: FlowTable<Key6>,
    /// When what sessions depend on last changed.
    pub changed: Arc<Changed>,
    /// Packet buffers.
    pub pool: Mempool,
    /// From the workers to the control thread.
    pub punts: ArrayQueue<Punt>,
    /// What policies decided, for those who write it down.
    pub policy_log: PolicyLog,
    /// One a worker.
    pub workers: Vec<WorkerShared>,
    /// Workers return.
    pub stop: AtomicBool,
    /// Longest micro-sleep of an idle worker.
    pub idle_sleep: Duration,
    /// How long sessions may be idle.
    pub timeouts: Timeouts,
}

/// Decisions on their way to whoever writes them down.
pub struct PolicyLog {
    /// Those that wait.
    pub ring: ArrayQueue<LoggedDecision>,
    /// How many there was no room for, since it was asked last.
    pub lost: AtomicU64,
}

impl Default for PolicyLog {
    fn default() -> Self {
        PolicyLog {
            ring: ArrayQueue::new(LOG_RING),
            lost: AtomicU64::new(0),
        }
    }
}

/// What one worker shares with the control thread.
pub struct WorkerShared {
    /// Its counters, when asked for.
    pub mailbox: Mailbox,
    /// Frames that it sends for the control thread, complete, by the port named.
    pub inject: ArrayQueue<(PortId, Mbuf)>,
    /// Grows with each round.
    pub rounds: CachePadded<AtomicU64>,
    /// Number of the snapshot that it uses.
    pub snapshot: AtomicU64,
    /// Port whose device it is in, plus one; 0: none.
    pub polling: AtomicU32,
}

impl Default for WorkerShared {
    fn default() -> Self {
        WorkerShared {
            mailbox: Mailbox::default(),
            inject: ArrayQueue::new(INJECT_RING),
            rounds: CachePadded::default(),
            snapshot: AtomicU64::new(0),
            polling: AtomicU32::new(0),
        }
    }
}

/// What a worker tells the control thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Punt {
    /// An underlay neighbour said where it is.
    Learned {
        /// Uplink.
        port: PortId,
        /// Whose.
        address: IpAddr,
        /// Where.
        mac: Mac,
    },
    /// A packet waits for an underlay neighbour that nobody has asked for.
    Resolve {
        /// Uplink.
        port: PortId,
        /// Whom.
        address: IpAddr,
    },
}
