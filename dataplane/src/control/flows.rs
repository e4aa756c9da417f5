//! What the control thread shows: counters of all workers together, and sessions in words.

use std::{
    net::IpAddr,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use weft_packet::l4::Tuple;
use weft_table::{
    PortId, WorkerId,
    flow::{DirectionRecord, FlowTable, Key, Key4, Key6},
};

use super::thread::Control;
use crate::{
    dpdk::{Eal, clock},
    drops::Reason,
    pipeline::{
        burst::{TUNNEL_INGRESS, direct_ingress_port, ingress_port},
        flow::UNDECIDED,
    },
    snapshot::{Hop, HopId, NextHop},
    statistics::{Books, MAX_PORTS, PortCounters, STAGES, Stage},
    view::{
        Balance, FlowFilter, FlowRecord, Ingress, PortStatistics, Statistics, TableStatistics,
        WorkerStatistics,
    },
};

/// How long an answer waits for the workers' counters; a stuck one's last are taken then.
const COUNTERS_WITHIN: Duration = Duration::from_millis(500);

impl Control {
    /// Counters of everything, each worker's at one of its burst boundaries.
    pub(super) fn statistics(&mut self) -> Statistics {
        let tickets: Vec<_> = self
            .shared
            .workers
            .iter()
            .map(|worker| worker.mailbox.ask())
            .collect();
        let until = Instant::now() + COUNTERS_WITHIN;
        let all_answered = || {
            self.shared
                .workers
                .iter()
                .zip(&tickets)
                .all(|(worker, ticket)| worker.mailbox.answered(*ticket))
        };
        while !all_answered() && Instant::now() < until {
            std::thread::sleep(Duration::from_micros(50));
        }
        let mut ports = vec![PortCounters::ZERO; MAX_PORTS];
        let mut books = Books::default();
        let mut workers = Vec::with_capacity(self.shared.workers.len());
        for (index, worker) in self.shared.workers.iter().enumerate() {
            let counters = worker.mailbox.read();
            for (sum, own) in ports.iter_mut().zip(counters.ports()) {
                sum.add(own);
            }
            books.add(&counters.books);
            let cycles = |stage: usize| counters.stage_cycles[stage];
            let idle = cycles(Stage::Idle as usize);
            workers.push(WorkerStatistics {
                worker: WorkerId(index as u16),
                lcore: Eal::lcore_of(index as u16),
                packets: counters.books.received,
                bursts: counters.bursts,
                busy_cycles: (0..STAGES.len()).map(cycles).sum::<u64>() - idle,
                idle_cycles: idle,
                snapshot: worker.snapshot.load(Ordering::Relaxed),
                stuck_in: self.stuck_in(index),
                rounds: counters
                    .rounds
                    .classes()
                    .map(|(below, rounds)| (clock::duration(below), rounds))
                    .collect(),
                stages: (0..STAGES.len())
                    .map(|at| (STAGES[at], cycles(at), counters.stage_packets[at]))
                    .collect(),
            });
        }
        self.assemble(&ports, books, workers)
    }

    fn assemble(&self, ports: &[PortCounters], books: Books, workers: Vec<WorkerStatistics>) -> Statistics {
        let nonzero = |drops: &[u64; Reason::ALL.len()]| -> Vec<(Reason, u64)> {
            Reason::ALL
                .iter()
                .zip(drops)
                .filter(|(_, count)| **count > 0)
                .map(|(r, count)| (*r, *count))
                .collect()
        };
        let mut total = PortCounters::ZERO;
        for port in ports {
            total.add(port);
        }
        let plugged = self.state.ports.iter().filter(|(id, _)| id.index() < MAX_PORTS);
        let shown = plugged.map(|(id, entry)| {
            let counters = &ports[id.index()];
            PortStatistics {
                port: *id,
                name: entry.spec.name.clone(),
                rx_packets: counters.rx_packets,
                rx_bytes: counters.rx_bytes,
                tx_packets: counters.tx_packets,
                tx_bytes: counters.tx_bytes,
                drops: nonzero(&counters.drops),
                device: entry.driver.statistics(),
            }
        });
        let (v4, v6) = (&self.shared.sessions4, &self.shared.sessions6);
        Statistics {
            ports: shown.collect(),
            workers,
            drops: nonzero(&total.drops),
            tables: TableStatistics {
                sessions: v4.len() + v6.len(),
                session_capacity: v4.capacity() + v6.capacity(),
                sessions_created: v4.created() + v6.created(),
                sessions_expired: v4.expired() + v6.expired(),
                routes: self.state.vrfs.values().map(|vrf| vrf.routes() as u64).sum(),
                vrfs: self.state.vrfs.len() as u64,
                next_hops: self.state.hops.len() as u64,
                snapshot: self.state.draft.number,
            },
            balance: Balance {
                received: books.received,
                created: books.created,
                sent: books.sent,
                delivered: books.delivered,
                merged: books.merged,
                dropped: books.dropped,
                held: books.held,
            },
        }
    }

    /// Sessions' directions that match, `limit` at most.
    pub(super) fn flows(&self, filter: &FlowFilter, limit: usize) -> Vec<FlowRecord> {
        let mut records = Vec::new();
        self.list(&self.shared.sessions4, filter, limit, &mut records);
        self.list(&self.shared.sessions6, filter, limit, &mut records);
        records
    }

    fn list<K: Listed>(
        &self,
        table: &FlowTable<K>,
        filter: &FlowFilter,
        limit: usize,
        records: &mut Vec<FlowRecord>,
    ) {
        let now = ((clock::now() - self.start) / clock::hz()) as u32;
        table.for_each(|session| {
            let (opens, answers) = (&session.initiator, &session.reverse);
            for (direction, other, initiator) in [(opens, answers, true), (answers, opens, false)] {
                if records.len() < limit && matches(filter, &direction.key) {
                    let mut record = self.record(session.session.0, direction, initiator, now);
                    let leaving = other.key.reversed(direction.key.vrf());
                    record.translated = (leaving != direction.key).then(|| {
                        (
                            shown(leaving.source(), &leaving),
                            shown(leaving.destination(), &leaving),
                        )
                    });
                    records.push(record);
                }
            }
            records.len() < limit
        });
    }

    fn record<K: Listed>(
        &self,
        session: u32,
        direction: &DirectionRecord<K>,
        initiator: bool,
        now: u32,
    ) -> FlowRecord {
        let key = &direction.key;
        let family = if K::V6 { 1 << 32 } else { 0 };
        FlowRecord {
            session: u64::from(session) | family,
            initiator,
            vrf: key.vrf(),
            protocol: key.protocol(),
            source: shown(key.source(), key),
            destination: shown(key.destination(), key),
            translated: None,
            ingress: self.ingress(direction.decided.ingress),
            action: self.action(direction.decided.action),
            packets: direction.packets,
            bytes: direction.bytes,
            idle_seconds: now.saturating_sub(direction.last_seen),
        }
    }

    fn ingress(&self, ingress: u32) -> Ingress {
        if let Some(port) = ingress_port(ingress) {
            return Ingress::Port(port);
        }
        if let Some(port) = direct_ingress_port(ingress) {
            return Ingress::Direct(port);
        }
        let number = ingress & !TUNNEL_INGRESS;
        let remote = self
            .state
            .endpoints
            .iter()
            .find(|(_, endpoint)| endpoint.number == number);
        Ingress::Tunnel(remote.map_or(IpAddr::from([0, 0, 0, 0]), |(remote, _)| *remote))
    }

    /// Where a direction goes, in words.
    fn action(&self, action: u64) -> String {
        if action == UNDECIDED {
            return "undecided".to_owned();
        }
        let name = |port: PortId| match self.state.ports.get(&port) {
            Some(entry) => entry.spec.name.clone(),
            None => format!("port {port}"),
        };
        match self.state.draft.hop(HopId::from_raw(action as u32)) {
            Some(Hop::Receive | Hop::Table(NextHop::Receive)) => "receive".to_owned(),
            Some(Hop::Port(port)) => format!("to {}", port.name),
            Some(Hop::Neighbour(neighbour)) => match neighbour.port {
                Some(port) => format!("to {} via {}", name(port), self.neighbour_name(action)),
                None => "gone".to_owned(),
            },
            Some(Hop::Table(NextHop::Port { port, .. })) => format!("to {}", name(*port)),
            Some(Hop::Table(NextHop::Tunnel { remote, .. })) => format!("tunnel to {remote}"),
            Some(Hop::Table(NextHop::Discard)) => "discard".to_owned(),
            Some(Hop::Table(NextHop::Group(_) | NextHop::Vrf(_) | NextHop::Gateway(_))) => {
                "re-decided next".to_owned()
            }
            Some(Hop::FloatingIp(_) | Hop::Pool(_) | Hop::VirtualIp(_)) | None => "gone".to_owned(),
        }
    }

    fn neighbour_name(&self, action: u64) -> String {
        let hop = HopId::from_raw(action as u32).translated(false);
        let known = self
            .state
            .draft
            .neighbour_index
            .iter()
            .find(|(_, index)| HopId::neighbour(**index) == hop);
        known.map_or_else(
            || "an unknown neighbour".to_owned(),
            |((_, address), _)| address.to_string(),
        )
    }
}

impl Books {
    /// Adds another worker's.
    fn add(&mut self, other: &Books) {
        self.received += other.received;
        self.created += other.created;
        self.sent += other.sent;
        self.delivered += other.delivered;
        self.merged += other.merged;
        self.held += other.held;
        self.dropped += other.dropped;
    }
}

/// A key as it is shown.
pub(super) trait Listed: Key {
    const V6: bool;
    fn vrf(&self) -> weft_table::VrfId;
    fn source(&self) -> (IpAddr, u16);
    fn destination(&self) -> (IpAddr, u16);
}

impl Listed for Key4 {
    const V6: bool = false;

    fn vrf(&self) -> weft_table::VrfId {
        self.vrf
    }

    fn source(&self) -> (IpAddr, u16) {
        (IpAddr::V4(self.source.into()), self.source_port)
    }

    fn destination(&self) -> (IpAddr, u16) {
        (IpAddr::V4(self.destination.into()), self.destination_port)
    }
}

impl Listed for Key6 {
    const V6: bool = true;

    fn vrf(&self) -> weft_table::VrfId {
        self.vrf
    }

    fn source(&self) -> (IpAddr, u16) {
        (IpAddr::V6(self.source.into()), self.source_port)
    }

    fn destination(&self) -> (IpAddr, u16) {
        (IpAddr::V6(self.destination.into()), self.destination_port)
    }
}

/// An address with its port as people know it: both ends of an ICMP echo have its identifier.
pub(super) fn shown<K: Listed>((address, port): (IpAddr, u16), key: &K) -> (IpAddr, u16) {
    let ports = Tuple {
        source_port: key.source().1,
        destination_port: key.destination().1,
    };
    (address, ports.echo_identifier(key.protocol()).unwrap_or(port))
}

fn matches<K: Listed>(filter: &FlowFilter, key: &K) -> bool {
    let (source, source_port) = shown(key.source(), key);
    let (destination, destination_port) = shown(key.destination(), key);
    filter.vrf.is_none_or(|vrf| vrf == key.vrf())
        && filter.protocol.is_none_or(|protocol| protocol == key.protocol())
        && filter.source.is_none_or(|prefix| prefix.contains(&source))
        && filter
            .destination
            .is_none_or(|prefix| prefix.contains(&destination))
        && filter.source_port.is_none_or(|port| port == source_port)
        && filter
            .destination_port
            .is_none_or(|port| port == destination_port)
}
