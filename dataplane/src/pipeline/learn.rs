//! Make sessions of first packets' decisions: both directions at once, no agent asked. And give sessions whose decision
//! is out of date their new one.
//!
//! The answers are looked up in the VRF of the port by which the packet leaves; those out of a tunnel in the VRF whose
//! route led into it (the initiator's, or the one that leaks led to), unless the next hop names another.
//!
//! Drops: session-table-full, session-conflict, nat-without-session.

use weft_table::{
    VrfId,
    flow::{self as table, InsertError, Inserted, Key, NewDirection, NewSession, WorkerFlows},
    stamps::NO_OBJECT,
};

use super::{
    Context,
    burst::{Burst, port_ingress, tunnel_ingress},
    family::Family,
    flow::{UNDECIDED, account, action_of, way_is_fresh},
    forward::Candidate,
    nat::{self, Start},
    routes::{self, Decision, Question, Ways},
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

/// Ports of a pool that are tried when the first is taken after all.
const RETRIES: usize = 4;

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
        } else if let Some((reverse_ingress, reverse_vrf)) =
            opens::<F>(context.snapshot, &lane.keys[position], &candidate.decision)
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
        let lane = F::lane(burst);
        let position = usize::from(candidate.position);
        let (index, session) = (usize::from(lane.packets[position]), lane.found[position]);
        let hop = candidate.decision.hop;
        let refused =
            refused.or((hop.is_translated() && session.is_none()).then_some(Reason::NatWithoutSession));
        match refused {
            None => burst.send(index, hop, session),
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
    let (mut answers, mut starts) = ([lane.keys[0]; BURST], [None; BURST]);
    for ((answers, start), opened) in answers.iter_mut().zip(&mut starts).zip(opened) {
        let key = &F::lane(burst).keys[position(opened)];
        let by = candidates[usize::from(opened.candidate)].decision.by;
        let leaving = nat::translated::<F>(context.snapshot, key, by);
        *answers = leaving.reversed(opened.reverse_vrf);
        *start = Some(Start::answering::<F>(
            context.snapshot,
            opened.reverse_vrf,
            by.destination,
            key,
        ));
    }
    let wanted = starts.iter().zip(&answers);
    let wanted = wanted.map_while(|(start, answers)| Some((start.as_ref()?.vrf, F::destination(answers))));
    let routes = routes::lookup::<F>(context, wanted);
    let sessions = F::table(context.shared);
    let mut new = std::mem::take(&mut F::learner(context.flows).new);
    new.clear();
    let mut ways = Ways::default();
    let answered = answers.iter().zip(starts).zip(&routes);
    for (opened, ((&reverse_key, start), &route)) in opened.iter().zip(answered) {
        let position = position(opened);
        let lane = F::lane(burst);
        let (key, hash) = (lane.keys[position], lane.hashes[position]);
        let packet = &burst.packets[usize::from(lane.packets[position])];
        let decision = &candidates[usize::from(opened.candidate)].decision;
        let forward = entry(context, decision, packet.ingress);
        let back = match ways.known(route) {
            Some(back) if !decision.by.any() => Ok(back),
            _ => {
                let start = start.unwrap_or(Start::opening(opened.reverse_vrf));
                let question = Question {
                    answers: Some((F::vrf(&key), F::source(&key), F::ports(&key).source_port)),
                    ..Question::new(start.vrf, F::destination(&reverse_key), packet.hash)
                };
                let back = ways.decide::<F>(context, &question, route);
                back.and_then(|back| back.answering(&start))
            }
        };
        let reverse = match back {
            Ok(back) if back.by.any() == decision.by.any() => entry(context, &back, opened.reverse_ingress),
            _ => table::Decision::new(UNDECIDED, opened.reverse_ingress, NO_OBJECT, forward.stamp),
        };
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
    for ((opened, new), result) in opened.iter().zip(&new).zip(&mut results) {
        let decision = &candidates[usize::from(opened.candidate)].decision;
        if decision.by.any() && *result == Err(InsertError::Conflict) {
            *result = again::<F>(context, new);
        }
        for _ in 0..RETRIES {
            let pool = decision.by.source.and_then(|id| context.snapshot.pool(id));
            if pool.is_none() || *result != Err(InsertError::Conflict) {
                break;
            }
            *result = match elsewhere::<F>(context, new, *decision) {
                Ok(result) => result,
                Err(reason) => {
                    refused[usize::from(opened.candidate)] = Some(reason);
                    break;
                }
            };
        }
    }
    F::learner(context.flows).new = new;
    for (opened, result) in opened.iter().zip(results) {
        match result {
            Ok(inserted) => {
                let lane = F::lane(burst);
                let index = usize::from(lane.packets[position(opened)]);
                lane.found[position(opened)] = inserted.direction();
                account::<F>(burst, context, index, inserted.direction());
                let by = candidates[usize::from(opened.candidate)].decision.by;
                if let Inserted::New(session) = inserted
                    && by.any()
                {
                    nat::count(context, by);
                    let [opens, answers] = F::table(context.shared).keys(session.session());
                    nat::opened::<F>(context.snapshot, context.worker, &opens, &answers);
                }
            }
            Err(InsertError::Conflict) => {
                refused[usize::from(opened.candidate)].get_or_insert(Reason::SessionConflict);
            }
            Err(InsertError::Full | InsertError::Busy) => {
                refused[usize::from(opened.candidate)] = Some(Reason::SessionTableFull);
            }
        }
    }
}

/// Puts in a session whose answers' key is another's, if that one is out of date: what it was decided from before an
/// address was translated says nothing about the address now.
#[cold]
fn again<F: Family>(context: &mut Context<'_>, new: &NewSession<F::Key>) -> Result<Inserted, InsertError> {
    let table = F::table(context.shared);
    let held = table.lookup(&new.reverse.key, new.reverse.hash);
    let decided = table.get(held).map(|direction| direction.decided());
    if decided.is_some_and(|decided| way_is_fresh::<F>(context, held, &decided)) {
        return Err(InsertError::Conflict);
    }
    nat::end::<F>(context, held.session());
    table.insert(&mut F::learner(context.flows).flows, new)
}

/// Puts a session in with another port of its pool; a reason: there is none.
#[cold]
fn elsewhere<F: Family>(
    context: &mut Context<'_>,
    new: &NewSession<F::Key>,
    decision: Decision,
) -> Result<Result<Inserted, InsertError>, Reason> {
    let decision = nat::place_free::<F>(context, &new.forward.key, decision)?;
    let table = F::table(context.shared);
    let leaving = nat::translated::<F>(context.snapshot, &new.forward.key, decision.by);
    let key = leaving.reversed(F::vrf(&new.reverse.key));
    let reverse = NewDirection {
        key,
        hash: table.hash(&key),
        ..new.reverse
    };
    let learner = F::learner(context.flows);
    Ok(table.insert(&mut learner.flows, &NewSession { reverse, ..*new }))
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

/// As [`way_back`], of a packet that opens a session where there are sessions. None: it opens none.
pub fn opens<F: Family>(snapshot: &Snapshot, key: &F::Key, decision: &Decision) -> Option<(u32, VrfId)> {
    way_back(snapshot, decision).filter(|_| F::ports(key).begins_session(key.protocol()))
}

/// By which way and in which VRF the answers will come. None: the vRouter answers itself.
pub fn way_back(snapshot: &Snapshot, decision: &Decision) -> Option<(u32, VrfId)> {
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
