//! Statistics in the API's form.

use std::{collections::BTreeMap, net::Ipv4Addr};

use weft_dataplane::{
    drops::Reason,
    view::{BackendStatistics, FloatingIpStatistics, PoolStatistics, ServiceStatistics, Statistics},
};
use weft_proto::v1;
use weft_table::{PolicyId, policy::Direction};

use crate::{
    model::Name,
    reconciler::{Names, Part},
    writer::Policies,
};

fn drops(drops: &[(Reason, u64)]) -> Vec<v1::DropCount> {
    let count = |(reason, packets): &(Reason, u64)| v1::DropCount {
        reason: reason.name().into(),
        packets: *packets,
        help: reason.help().into(),
    };
    drops.iter().map(count).collect()
}

/// All counters, with names for numbers.
pub fn response(statistics: &Statistics, names: &Names) -> v1::GetStatsResponse {
    let ports = statistics.ports.iter().map(|port| v1::PortStats {
        name: names
            .ports
            .get(&port.port)
            .map_or_else(|| port.name.clone(), |name| name.to_string()),
        rx_packets: port.rx_packets,
        rx_bytes: port.rx_bytes,
        tx_packets: port.tx_packets,
        tx_bytes: port.tx_bytes,
        drops: drops(&port.drops),
        device_rx_missed: port.device.rx_missed,
        device_rx_no_buffer: port.device.rx_no_buffer,
        device_rx_errors: port.device.rx_errors,
        device_tx_errors: port.device.tx_errors,
    });
    let workers = statistics.workers.iter().map(|worker| v1::WorkerStats {
        index: u32::from(worker.worker.0),
        lcore: worker.lcore,
        packets: worker.packets,
        bursts: worker.bursts,
        busy_cycles: worker.busy_cycles,
        idle_cycles: worker.idle_cycles,
        snapshot: worker.snapshot,
        stuck_in: worker.stuck_in.clone().unwrap_or_default(),
        rounds: worker
            .rounds
            .iter()
            .map(|(below, rounds)| v1::RoundStats {
                below_ns: u64::try_from(below.as_nanos()).unwrap_or(u64::MAX),
                rounds: *rounds,
            })
            .collect(),
        stages: worker
            .stages
            .iter()
            .map(|(stage, cycles, packets)| v1::StageStats {
                stage: (*stage).into(),
                cycles: *cycles,
                packets: *packets,
            })
            .collect(),
    });
    let tables = &statistics.tables;
    let balance = &statistics.balance;
    v1::GetStatsResponse {
        ports: ports.collect(),
        workers: workers.collect(),
        drops: drops(&statistics.drops),
        tables: Some(v1::TableStats {
            sessions: tables.sessions,
            session_capacity: tables.session_capacity,
            sessions_created: tables.sessions_created,
            sessions_expired: tables.sessions_expired,
            routes: tables.routes,
            vrfs: tables.vrfs,
            next_hops: tables.next_hops,
            snapshot: tables.snapshot,
        }),
        balance: Some(v1::Balance {
            received: balance.received,
            created: balance.created,
            sent: balance.sent,
            delivered: balance.delivered,
            merged: balance.merged,
            dropped: balance.dropped,
            held: balance.held,
        }),
    }
}

/// How often each part of each policy decided, over all ports that have it.
pub fn policies(policies: Policies, hits: &[(PolicyId, Vec<u64>)]) -> v1::GetPolicyStatsResponse {
    let empty = |(name, rules): (Name, usize)| {
        let stats = v1::PolicyStats {
            name: name.to_string(),
            rules: vec![0; rules],
            ..Default::default()
        };
        (name, stats)
    };
    let mut sums: BTreeMap<Name, v1::PolicyStats> = policies.rules.into_iter().map(empty).collect();
    for (id, deciders) in &policies.deciders {
        let Some((_, hits)) = hits.iter().find(|(known, _)| known == id) else {
            continue;
        };
        for (decider, hits) in deciders.iter().zip(hits) {
            let Some(stats) = sums.get_mut(&decider.policy) else {
                continue;
            };
            let sum = match decider.part {
                Part::Rule(place) => stats.rules.get_mut(place),
                Part::Default(Direction::Ingress) => Some(&mut stats.default_ingress),
                Part::Default(Direction::Egress) => Some(&mut stats.default_egress),
            };
            if let Some(sum) = sum {
                *sum += hits;
            }
        }
    }
    v1::GetPolicyStatsResponse {
        policies: sums.into_values().collect(),
    }
}

/// How many sessions each floating IP, pool and service translated. What the names do not know is gone again.
pub fn nat(
    floating_ips: &[FloatingIpStatistics],
    pools: &[PoolStatistics],
    services: &[ServiceStatistics],
    names: &Names,
) -> v1::GetNatStatsResponse {
    let stats = |statistics: &FloatingIpStatistics| {
        Some(v1::FloatingIpStats {
            name: names.nat.get(&statistics.id)?.to_string(),
            sessions_from_inside: statistics.from_inside,
            sessions_from_outside: statistics.from_outside,
        })
    };
    let mut floating_ips: Vec<_> = floating_ips.iter().filter_map(stats).collect();
    floating_ips.sort_by(|a, b| a.name.cmp(&b.name));
    let block = |block: &weft_table::nat::Block| v1::NatBlock {
        address: Ipv4Addr::from(block.address).to_string(),
        first_port: u32::from(block.first_port),
        holder: Ipv4Addr::from(block.holder.address).to_string(),
        worker: u32::from(block.holder.worker),
        sessions: block.sessions,
    };
    let stats = |statistics: &PoolStatistics| {
        Some(v1::NatPoolStats {
            name: names.nat.get(&statistics.id)?.to_string(),
            blocks: statistics.blocks,
            sessions: statistics.sessions,
            held: statistics.held_count,
            holders: statistics.held.iter().map(block).collect(),
        })
    };
    let mut nat_pools: Vec<_> = pools.iter().filter_map(stats).collect();
    nat_pools.sort_by(|a, b| a.name.cmp(&b.name));
    let backend = |backend: &BackendStatistics| v1::BackendStats {
        address: backend.address.to_string(),
        sessions: backend.sessions,
        opened: backend.opened,
    };
    let stats = |statistics: &ServiceStatistics| {
        Some(v1::ServiceStats {
            name: names.nat.get(&statistics.id)?.to_string(),
            backends: statistics.backends.iter().map(backend).collect(),
        })
    };
    let mut services: Vec<_> = services.iter().filter_map(stats).collect();
    services.sort_by(|a, b| a.name.cmp(&b.name));
    v1::GetNatStatsResponse {
        floating_ips,
        nat_pools,
        services,
    }
}
