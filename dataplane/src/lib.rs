//! weft's data plane: everything that touches a packet, from a port's receive queue to another's transmit queue.
//!
//! The way of a packet is told by the files of [`pipeline`], in order; [`worker`] walks it. [`control`] is the only
//! writer of configuration. No controller, name or protocol of the control half is known here: callers speak in
//! [`change::Change`]s and read [`view`]s.

pub mod ageing;
pub mod change;
pub mod control;
pub mod dpdk;
pub mod drops;
pub mod pipeline;
pub mod polling;
pub mod port;
pub mod shared;
pub mod snapshot;
pub mod statistics;
pub mod view;
pub mod worker;

use std::time::Duration;

use weft_packet::ip::protocol;
use weft_table::flow::TcpState;

pub use control::{Applied, ByHand, Refused, StartError};

/// How to start a data plane.
#[derive(Clone, Debug)]
pub struct Config {
    /// CPUs of the workers, one worker each, in order.
    pub worker_cpus: Vec<u16>,
    /// Run without hugepages.
    pub no_huge: bool,
    /// Memory for DPDK, MiB (hugepages, unless `no_huge`).
    pub memory_mib: u32,
    /// Packet buffers.
    pub mbufs: u32,
    /// Bytes of a packet that one buffer holds; at most [`dpdk::mempool::DATA_ROOM`].
    pub mbuf_room: u16,
    /// Distinguishes the DPDK files of several instances on one host.
    pub file_prefix: String,
    /// PCI devices to probe at start; none: no PCI scan.
    pub pci_devices: Vec<String>,
    /// Sessions that the flow table holds, per family.
    pub sessions: u32,
    /// Longest micro-sleep of an idle worker.
    pub idle_sleep: Duration,
    /// How long a session may be idle.
    pub timeouts: Timeouts,
}

/// How long a session may be idle, by protocol and state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Timeouts<T = Duration> {
    /// Until the other side has answered SYN with its own.
    pub tcp_opening: T,
    pub tcp: T,
    /// After FIN both ways or RST.
    pub tcp_closed: T,
    pub udp: T,
    pub icmp: T,
    pub other: T,
}

/// What a VRF says of it; None: as everywhere.
pub type VrfTimeouts = Timeouts<Option<Duration>>;

impl<T> Timeouts<T> {
    /// That of a session of this protocol.
    pub fn of(&self, protocol: u8, state: TcpState) -> &T {
        match (protocol, state) {
            (protocol::TCP, TcpState::Closed) => &self.tcp_closed,
            (protocol::TCP, TcpState::Opening) => &self.tcp_opening,
            (protocol::TCP, TcpState::Open | TcpState::Closing) => &self.tcp,
            (protocol::UDP, _) => &self.udp,
            (protocol::ICMP | protocol::ICMPV6, _) => &self.icmp,
            _ => &self.other,
        }
    }
}

impl Default for VrfTimeouts {
    fn default() -> Self {
        Timeouts {
            tcp_opening: None,
            tcp: None,
            tcp_closed: None,
            udp: None,
            icmp: None,
            other: None,
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            tcp_opening: Duration::from_secs(120),
            tcp: Duration::from_secs(7440),
            tcp_closed: Duration::from_secs(5),
            udp: Duration::from_secs(180),
            icmp: Duration::from_secs(60),
            other: Duration::from_secs(600),
        }
    }
}

/// A running data plane. Dropping it stops the workers and closes the ports.
pub struct Dataplane {
    control: control::Handle,
}

impl Dataplane {
    /// Starts EAL (in a thread of its own), the workers and the control thread.
    pub fn start(config: Config) -> Result<Self, StartError> {
        Ok(Dataplane {
            control: control::start(config)?,
        })
    }

    /// Applies a batch as one, or refuses it whole. Blocks until every worker follows it, a second at most: then
    /// `effective` is false and the batch is in force as soon as the late worker comes round.
    pub fn apply(&self, batch: Vec<change::Change>) -> Result<Applied, Refused> {
        self.control.apply(batch)
    }

    /// Counters of everything.
    pub fn statistics(&self) -> view::Statistics {
        self.control.statistics()
    }

    /// Sessions' directions that match, `limit` at most.
    pub fn flows(&self, filter: view::FlowFilter, limit: usize) -> Vec<view::FlowRecord> {
        self.control.flows(filter, limit)
    }

    /// How often each decider of each policy decided, in the order of
    /// [`RuleSet::deciders`](weft_table::policy::RuleSet::deciders): sessions when they are opened, each packet that is
    /// denied, and each packet where there are no sessions.
    pub fn policy_hits(&self) -> Vec<(weft_table::PolicyId, Vec<u64>)> {
        self.control.policy_hits()
    }

    /// How many sessions each floating IP translated.
    pub fn floating_ips(&self) -> Vec<view::FloatingIpStatistics> {
        self.control.floating_ips()
    }

    /// How full the pools are.
    pub fn pools(&self) -> Vec<view::PoolStatistics> {
        self.control.pools()
    }

    /// How many sessions the services' backends have.
    pub fn services(&self) -> Vec<view::ServiceStatistics> {
        self.control.services()
    }

    /// What rules with `log` decided since this was asked last, `limit` decisions at most; the others wait, as far as there is
    /// room.
    pub fn policy_log(&self, limit: usize) -> view::PolicyLog {
        self.control.policy_log(limit)
    }

    /// What would become of a packet from a tenant's port, by the workers' own stages; nothing is sent and nothing changes.
    /// None: there is no such port.
    pub fn what_if(&self, from: weft_table::PortId, packet: view::SupposedPacket) -> Option<view::WhatIf> {
        self.control.what_if(from, packet)
    }

    /// What the device of a port says of itself.
    pub fn port_state(&self, port: weft_table::PortId) -> Option<view::PortState> {
        self.control.port_state(port)
    }
}
