//! What the data plane shows of itself: plain values, read at burst boundaries, in the data plane's own numbers.

use std::{net::IpAddr, time::Duration};

use weft_packet::Mac;
use weft_table::{
    NatId, PolicyId, PortId, VrfId, WorkerId,
    policy::{Action, Direction},
};

use crate::{change::Encapsulation, drops::Reason};

/// Counters of everything, taken at one moment per worker.
#[derive(Clone, Debug, Default)]
pub struct Statistics {
    /// One a port, ports that are plugged now.
    pub ports: Vec<PortStatistics>,
    /// One a worker.
    pub workers: Vec<WorkerStatistics>,
    /// Drops of all ports and of ports that are gone, by reason; zeros left out.
    pub drops: Vec<(Reason, u64)>,
    /// Fill of the tables.
    pub tables: TableStatistics,
    /// The books.
    pub balance: Balance,
}

/// Counters of one port, summed over the workers.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct PortStatistics {
    pub port: PortId,
    /// As its spec says; a host's tap: the interface's name.
    pub name: String,
    pub rx_packets: u64,
    pub rx_bytes: u64,
    pub tx_packets: u64,
    pub tx_bytes: u64,
    pub drops: Vec<(Reason, u64)>,
    pub device: DeviceStatistics,
}

/// What a device lost by itself; not part of the balance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct DeviceStatistics {
    pub rx_missed: u64,
    pub rx_no_buffer: u64,
    pub rx_errors: u64,
    pub tx_errors: u64,
}

/// How a worker spends its time.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct WorkerStatistics {
    pub worker: WorkerId,
    pub lcore: u32,
    pub packets: u64,
    pub bursts: u64,
    pub busy_cycles: u64,
    pub idle_cycles: u64,
    /// Number of the snapshot that it uses.
    pub snapshot: u64,
    /// Where it is, if it has not come round for over a second.
    pub stuck_in: Option<String>,
    /// Rounds by how long they took: below how long, and how many.
    pub rounds: Vec<(Duration, u64)>,
    /// Cycles and packets a stage, in the order of the pipeline.
    pub stages: Vec<(&'static str, u64, u64)>,
}

/// Fill of the tables.
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs)]
pub struct TableStatistics {
    pub sessions: u64,
    pub session_capacity: u64,
    pub sessions_created: u64,
    pub sessions_expired: u64,
    pub routes: u64,
    pub vrfs: u64,
    pub next_hops: u64,
    pub snapshot: u64,
}

/// received + created = sent + delivered + merged + dropped + held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Balance {
    pub received: u64,
    pub created: u64,
    pub sent: u64,
    pub delivered: u64,
    pub merged: u64,
    pub dropped: u64,
    pub held: u64,
}

/// How many sessions a floating IP translated, since it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FloatingIpStatistics {
    /// Its number.
    pub id: NatId,
    /// Sessions opened by the workload behind the port.
    pub from_inside: u64,
    /// Sessions opened by others.
    pub from_outside: u64,
}

/// How full a pool is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolStatistics {
    /// Its number.
    pub id: NatId,
    /// How many blocks it has.
    pub blocks: u64,
    /// How many somebody has; a deterministic pool hands none out.
    pub held_count: u64,
    /// The first of these.
    pub held: Vec<weft_table::nat::Block>,
    /// Sessions that it translates.
    pub sessions: u64,
}

/// How many sessions a service has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceStatistics {
    /// Its number.
    pub id: NatId,
    /// One a backend.
    pub backends: Vec<BackendStatistics>,
}

/// How many sessions a backend has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackendStatistics {
    /// Which one it is.
    pub address: IpAddr,
    /// Sessions that went to it, since the service has it.
    pub opened: u64,
    /// Those of them that are not over.
    pub sessions: u64,
}

/// What one port's device says of itself.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct PortState {
    pub port: PortId,
    pub link_up: bool,
    pub device: String,
    pub queues: u16,
    pub mac: Mac,
}

/// Which flows to list.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)]
pub struct FlowFilter {
    pub vrf: Option<VrfId>,
    pub protocol: Option<u8>,
    pub source: Option<ipnet::IpNet>,
    pub destination: Option<ipnet::IpNet>,
    pub source_port: Option<u16>,
    pub destination_port: Option<u16>,
}

/// By which way a flow's packets arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ingress {
    /// A port of this host.
    Port(PortId),
    /// A tunnel from this underlay address.
    Tunnel(IpAddr),
    /// A tunnel whose VNI or label leads straight to this port.
    Direct(PortId),
}

/// One direction of a session.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct FlowRecord {
    pub session: u64,
    pub initiator: bool,
    pub vrf: VrfId,
    pub protocol: u8,
    pub source: (IpAddr, u16),
    pub destination: (IpAddr, u16),
    /// Source and destination as its packets leave, if they are translated.
    pub translated: Option<((IpAddr, u16), (IpAddr, u16))>,
    pub ingress: Ingress,
    /// Where it goes, in words with the ports' names.
    pub action: String,
    pub packets: u64,
    pub bytes: u64,
    pub idle_seconds: u32,
}

/// A packet that nobody sends.
#[derive(Clone, Copy, Debug)]
pub struct SupposedPacket {
    /// IP protocol number.
    pub protocol: u8,
    /// From whom.
    pub source: IpAddr,
    /// To whom, of the same family.
    pub destination: IpAddr,
    /// What its transport header begins with: ports, or an ICMP message.
    pub transport: [u8; 8],
}

/// What would become of a packet.
#[derive(Clone, Debug)]
pub struct WhatIf {
    /// In which VRF its way begins.
    pub vrf: VrfId,
    /// That it belongs to.
    pub session: Option<KnownSession>,
    /// The way, a table after the other.
    pub lookups: Vec<RouteLookup>,
    /// What the policies of its ports say, as far as they are asked.
    pub verdicts: Vec<PolicyVerdict>,
    /// If addresses change.
    pub translation: Option<Translation>,
    /// Where it goes, or why it goes nowhere.
    pub outcome: Result<WayOut, Reason>,
}

impl WhatIf {
    /// It ends before anything is asked.
    pub fn dropped(vrf: VrfId, reason: Reason) -> Self {
        WhatIf {
            vrf,
            session: None,
            lookups: Vec::new(),
            verdicts: Vec::new(),
            translation: None,
            outcome: Err(reason),
        }
    }
}

/// A session, and what a packet is to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownSession {
    /// As in [`FlowRecord::session`].
    pub number: u64,
    /// The packet goes the way of the one that opened it.
    pub initiator: bool,
    /// It goes on as it is; else its next packet is decided anew.
    pub holds: bool,
}

/// A look into a VRF's table.
#[derive(Clone, Debug)]
pub struct RouteLookup {
    /// Whose.
    pub vrf: VrfId,
    /// What was looked for.
    pub destination: IpAddr,
    /// The longest prefix that covers it.
    pub prefix: Option<ipnet::IpNet>,
    /// Its next hop.
    pub to: LeadsTo,
}

/// What a route or packet leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeadsTo {
    /// What is behind a port of this host.
    Port(PortId),
    /// A tunnel's remote, by this header.
    Tunnel(IpAddr, Encapsulation),
    /// One of several.
    Group,
    /// Another table.
    Vrf(VrfId),
    /// A station on the underlay.
    Neighbour(IpAddr),
    /// The port that has this floating IP.
    FloatingIp(NatId),
    /// Whose session it answers.
    Pool(NatId),
    /// A backend of what is served at this address.
    VirtualIp(IpAddr),
    /// The vRouter or its host.
    Router,
    /// There is no route, or it discards.
    Nowhere,
}

/// What a port's policy says.
#[derive(Clone, Copy, Debug)]
pub struct PolicyVerdict {
    /// Whose; None: a port that is gone.
    pub port: Option<PortId>,
    /// As seen from the workload behind the port.
    pub direction: Direction,
    /// The policy, and its decider in the order of [`RuleSet::deciders`](weft_table::policy::RuleSet::deciders); None: one
    /// of the port's policies does not exist.
    pub by: Option<(PolicyId, u32)>,
    /// What becomes of the session.
    pub action: Action,
}

/// Source and destination as a packet would leave.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct Translation {
    pub source: (IpAddr, u16),
    pub destination: (IpAddr, u16),
    /// The floating IP or pool; None: the session says so.
    pub source_by: Option<NatId>,
    pub destination_by: Option<NatId>,
}

/// Where a packet would go.
#[derive(Clone, Debug)]
pub struct WayOut {
    /// What it leads to.
    pub to: LeadsTo,
    /// By which port of this host it leaves.
    pub port: Option<PortId>,
}

/// What a rule with `log` decided.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct LoggedDecision {
    pub policy: PolicyId,
    /// In the order of [`RuleSet::deciders`](weft_table::policy::RuleSet::deciders).
    pub decider: u32,
    pub action: Action,
    /// As seen from the workload behind the port.
    pub direction: Direction,
    pub port: PortId,
    pub protocol: u8,
    pub source: IpAddr,
    pub destination: IpAddr,
    pub source_port: u16,
    /// ICMP: type and code.
    pub destination_port: u16,
}

/// Decisions that were to be written down.
#[derive(Clone, Debug, Default)]
pub struct PolicyLog {
    /// In their order, as far as one worker made them.
    pub decisions: Vec<LoggedDecision>,
    /// How many more there were.
    pub lost: u64,
}
