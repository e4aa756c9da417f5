//! Make sessions of first packets' decisions: both directions at once, no agent asked. And give sessions whose decision
//! is out of date their new one.
//!
//! The answers are looked up in the VRF of the port by which the packet leaves; those out of a tunnel in the VRF whose
//! route led into it (the initiator's, or the one that leaks led to), unless the next hop names another.
//!
//! Drops: session-table-full, session-conflict.

use weft_table::{
    VrfId,
    flow::{self as table, InsertError, Inserted, Key, NewDirection, NewSession, WorkerFlows},
    stamps::NO_OBJECT,
};

use super::{
    Context,
    burst::{Burst, port_ingress, tunnel_ingress},
    family::Family,
    flow::{UNDECIDED, account, action_of},
    forward::{self, Candidate, Decision},
};
use crate::{
    dpdk::BURST,
    drops::Reason,
    snapshot::{Hop, NextHop, Role, Snapshot},
};

/// A worker's part in a flow table, and the sessions that it is about to put in.
pub struct Learner<K: Key> {
    /// Free numbers and the like.
    pub flows: WorkerFlows,
    new: Vec<NewSession<K>>,
}

impl<K: Key> Learner<K> {
    /// With room for a burst's sessions.
    pub fn new(flows: WorkerFlows) -> Self {
        Learner {
            flows,
            new: Vec::with_capacity(BURST),
        }
    }
}

/// A session to be: of which candidate, and from where its answers will come.
#[derive(Clone, Copy)]
struct Opened {
    candidate: u8,
    reverse_ingress: u32,
    reverse_vrf: VrfId,
}

/// The stage.
pub fn learn<F: Family>(burst: &mut Burst, context: &mut Context<'_>, candidates: &[Candidate]) {
    let nothing = Opened {
        candidate: 0,
        reverse_ingress: 0,
        reverse_vrf: VrfId(0),
    };
    let (mut opened, mut count) = ([nothing; BURST], 0);
    for (number, candidate) in candidates.iter().enumerate() {
        let position = usize::from(candidate.position);
        let lane = F::lane(burst);
        let (found, index) = (lane.found[position], usize::from(lane.packets[position]));
        if position >= lane.stateful {
            continue;
        }
        if let Some(decided) = candidate.kept {
            // Decided by another worker meanwhile, it stays as that says.
            F::table(context.shared).restamp(found, &decided, context.snapshot.number);
            account::<F>(burst, context, index, found);
        } else if found.is_some() {
            let ingress = burst.packets[index].ingress;
            let decision = entry(context, &candidate.decision, ingress);
            F::table(context.shared).redecide(found, &decision);
            account::<F>(burst, context, index, found);
        } else if let Some((reverse_ingress, reverse_vrf)) = way_back(context.snapshot, &candidate.decision)
            && F::ports(&lane.keys[position]).begins_session(lane.keys[position].protocol())
        {
            opened[count] = Opened {
                candidate: number as u8,
                reverse_ingress,
                reverse_vrf,
            };
            count += 1;
        }
    }
    let mut refused = [None; BURST];
    if count > 0 {
        insert::<F>(burst, context, candidates, &opened[..count], &mut refused);
    }
    for (candidate, refused) in candidates.iter().zip(refused) {
        let index = usize::from(F::lane(burst).packets[usize::from(candidate.position)]);
        match refused {
            None => burst.send(index, candidate.decision.hop),
            Some(reason) => burst.drop(index, reason, context.counters),
        }
    }
}

/// Puts sessions in, all together. Says of those that could not be why, by the number of the candidate.
fn insert<F: Family>(
    burst: &mut Burst,
    context: &mut Context<'_>,
    candidates: &[Candidate],
    opened: &[Opened],
    refused: &mut [Option<Reason>; BURST],
) {
    let lane = F::lane(burst);
    let position = |opened: &Opened| usize::from(candidates[usize::from(opened.candidate)].position);
    let wanted = opened
        .iter()
        .map(|opened| (opened.reverse_vrf, F::source(&lane.keys[position(opened)])));
    let routes = forward::lookup::<F>(context, wanted);
    let sessions = F::table(context.shared);
    let mut new = std::mem::take(&mut F::learner(context.flows).new);
    new.clear();
    for (opened, &route) in opened.iter().zip(&routes) {
        let position = position(opened);
        let lane = F::lane(burst);
        let (key, hash) = (lane.keys[position], lane.hashes[position]);
        let packet = &burst.packets[usize::from(lane.packets[position])];
        let decision = &candidates[usize::from(opened.candidate)].decision;
        let forward = entry(context, decision, packet.ingress);
        let back = forward::decide_from::<F>(
            context,
            opened.reverse_vrf,
            route,
            F::source(&key),
            packet.hash,
            None,
        );
        let reverse = match back {
            Ok(back) => entry(context, &back, opened.reverse_ingress),
            Err(_) => table::Decision::new(UNDECIDED, opened.reverse_ingress, NO_OBJECT, forward.stamp),
        };
        let reverse_key = key.reversed(opened.reverse_vrf);
        new.push(NewSession {
            forward: NewDirection {
                key,
                hash,
                decision: forward,
            },
            reverse: NewDirection {
                key: reverse_key,
                hash: sessions.hash(&reverse_key),
                decision: reverse,
            },
            now: context.now,
        });
    }
    let mut results: [Result<Inserted, InsertError>; BURST] = [Err(InsertError::Busy); BURST];
    let learner = F::learner(context.flows);
    sessions.insert_burst(&mut learner.flows, &new, &mut results[..opened.len()]);
    learner.new = new;
    for (opened, result) in opened.iter().zip(results) {
        match result {
            Ok(inserted) => {
                let index = usize::from(F::lane(burst).packets[position(opened)]);
                account::<F>(burst, context, index, inserted.direction());
            }
            Err(InsertError::Conflict) => {
                refused[usize::from(opened.candidate)] = Some(Reason::SessionConflict);
            }
            Err(InsertError::Full | InsertError::Busy) => {
                refused[usize::from(opened.candidate)] = Some(Reason::SessionTableFull);
            }
        }
    }
}

fn entry(context: &Context<'_>, decision: &Decision, ingress: u32) -> table::Decision {
    table::Decision {
        action: action_of(decision),
        ingress,
        route: decision.routes[0],
        further: decision.further(),
        stamp: context.snapshot.number.max(1),
    }
}

/// By which way and in which VRF the answers will come. None: the vRouter answers itself.
fn way_back(snapshot: &Snapshot, decision: &Decision) -> Option<(u32, VrfId)> {
    match snapshot.hop(decision.hop)? {
        Hop::Table(NextHop::Port { port, vrf, .. }) => Some((port_ingress(*port), *vrf)),
        Hop::Table(NextHop::Tunnel {
            endpoint, return_vrf, ..
        }) => Some((tunnel_ingress(*endpoint), return_vrf.unwrap_or(decision.vrf))),
        Hop::Neighbour(neighbour) => Some((port_ingress(neighbour.port?), VrfId::UNDERLAY)),
        Hop::Port(port) => Some((port_ingress(port.id), port.vrf)),
        Hop::Receive if decision.vrf == VrfId::UNDERLAY => {
            let host = snapshot
                .local
                .v4
                .iter()
                .map(|(_, port)| *port)
                .chain(snapshot.local.v6.iter().map(|(_, port)| *port));
            let host = host.filter_map(|uplink| match snapshot.port(uplink)?.role {
                Role::Uplink { host } => host,
                _ => None,
            });
            host.map(|host| (port_ingress(host), VrfId::UNDERLAY)).next()
        }
        _ => None,
    }
}
