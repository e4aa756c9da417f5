//! Decide where a packet goes, by its [`routes`].
//!
//! For packets without a session (they get one, see [`learn`](super::learn)), for sessions whose route is out of date,
//! and in packet mode for every packet. Routes are looked up in bulk.
//!
//! Drops: redecision-budget, new-flow-budget (see [`budget`]), and those of [`routes`].

use weft_packet::refusal::Because;
use weft_table::{
    PortId, RouteId, VrfId,
    fib::NO_ROUTE,
    flow::{Decided, DirectionIndex, FURTHER, Removed},
    stamps::NO_OBJECT,
};

use super::{
    Context, budget,
    burst::{Burst, direct_ingress_port, ingress_port},
    family::Family,
    flow,
    local::refuse::refuse,
    nat::{self, Start, Translators},
    routes::{self, Decision, Opener, Question, Ways},
    service::Sought,
};
use crate::{
    dpdk::BURST,
    drops::Reason,
    snapshot::{HopId, Snapshot},
};

/// Sessions whose way a burst finds anew; those beyond drop, and never follow a decision that was revoked.
const REDECISIONS: usize = 48;

/// A packet for which a way was found, on its way through the stages that follow.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    /// Its place in the lane.
    pub position: u8,
    /// What was decided for it.
    pub decision: Decision,
    /// What its session says, if that still holds but for the policies.
    pub kept: Option<Decided>,
}

/// The packets of a burst for which a way was found, in the order in which they came.
pub struct Candidates {
    list: [Candidate; BURST],
    count: usize,
}

impl Candidates {
    fn new() -> Self {
        let none = Candidate {
            position: 0,
            decision: Decision::NONE,
            kept: None,
        };
        Candidates {
            list: [none; BURST],
            count: 0,
        }
    }

    fn push(&mut self, candidate: Candidate) {
        if let Some(place) = self.list.get_mut(self.count) {
            *place = candidate;
            self.count += 1;
        }
    }

    /// All of them.
    #[inline(always)]
    pub fn as_slice(&self) -> &[Candidate] {
        &self.list[..self.count]
    }

    /// Keeps those whose number `keep` is true for.
    pub fn retain(&mut self, mut keep: impl FnMut(usize) -> bool) {
        let mut kept = 0;
        for index in 0..self.count {
            if keep(index) {
                self.list[kept] = self.list[index];
                kept += 1;
            }
        }
        self.count = kept;
    }
}

/// The stage. `undecided` are places in the lane.
pub fn forward<F: Family>(burst: &mut Burst, context: &mut Context<'_>, undecided: &[u8]) -> Candidates {
    let mut kept = [None; BURST];
    let mut starts = [None; BURST];
    for ((kept, start), &position) in kept.iter_mut().zip(&mut starts).zip(undecided) {
        // Who watches wants to see the way.
        if context.watch.is_none() {
            *kept = route_holds::<F>(burst, context, usize::from(position));
        }
        if kept.is_none() {
            *start = begin::<F>(burst, context, usize::from(position));
        }
    }
    let lane = F::lane(burst);
    let stateful = lane.stateful;
    let wanted = undecided.iter().zip(&starts).filter_map(|(position, start)| {
        let key = &lane.keys[usize::from(*position)];
        Some((start.as_ref()?.vrf, F::destination(key)))
    });
    let routes = routes::lookup::<F>(context, wanted);
    let mut routes = routes.iter();
    let mut ways = Ways::default();
    let mut candidates = Candidates::new();
    let mut redecisions = 0;
    for ((&position, kept), start) in undecided.iter().zip(kept).zip(starts) {
        let lane = F::lane(burst);
        let place = usize::from(position);
        let (key, found, index) = (
            lane.keys[place],
            lane.found[place],
            usize::from(lane.packets[place]),
        );
        if let Some(decided) = kept {
            let decision = Decision {
                hop: HopId::from_raw(decided.action as u32),
                vrf: F::vrf(&key),
                routes: [NO_OBJECT; 1 + FURTHER],
                egress: flow::egress_of(decided.action),
                by: Translators::default(),
            };
            candidates.push(Candidate {
                position,
                decision,
                kept,
            });
            continue;
        }
        // It was dropped.
        let Some(start) = start else { continue };
        let route = routes.next().copied().unwrap_or(NO_ROUTE);
        if found.is_some() {
            redecisions += 1;
            if redecisions > REDECISIONS {
                burst.drop(index, Reason::RedecisionBudget, context.counters);
                continue;
            }
        }
        let decision = match direct_ingress_port(burst.packets[index].ingress) {
            Some(port) => straight_to(context.snapshot, port, F::vrf(&key)),
            None => one::<F>(burst, context, &mut ways, place, start, route),
        };
        let opens = place < stateful && found.is_none();
        let decision = match decision {
            Ok(decision) if opens => {
                budget::charge(burst, context, index, decision.egress).map(|()| decision)
            }
            decided => decided,
        };
        match decision {
            Ok(decision) => candidates.push(Candidate {
                position,
                decision,
                kept,
            }),
            Err(reason) => {
                if let (Reason::NoBackend | Reason::ServicePort, Some(mbuf)) = (reason, &burst.mbufs[index]) {
                    refuse(context, mbuf, &burst.packets[index], Because::NobodyListens);
                }
                burst.drop(index, reason, context.counters);
            }
        }
    }
    candidates
}

/// Where a packet's way begins. A session whose translation is gone ends, and its packet opens another; None: it was
/// dropped, since the session is held.
fn begin<F: Family>(burst: &mut Burst, context: &mut Context<'_>, position: usize) -> Option<Start> {
    let lane = F::lane(burst);
    let (key, found, index) = (
        lane.keys[position],
        lane.found[position],
        usize::from(lane.packets[position]),
    );
    let start = nat::start::<F>(context, &key, burst.packets[index].ingress, found);
    if start.is_some() {
        return start;
    }
    if !end::<F>(burst, context, position) {
        burst.drop(index, Reason::RedecisionBudget, context.counters);
        return None;
    }
    Some(Start::opening(F::vrf(&key)))
}

/// The way of one packet, from its first route. A session that would be translated otherwise now ends, and the packet
/// opens another.
fn one<F: Family>(
    burst: &mut Burst,
    context: &mut Context<'_>,
    ways: &mut Ways,
    position: usize,
    start: Start,
    route: RouteId,
) -> Result<Decision, Reason> {
    let lane = F::lane(burst);
    let (key, found) = (lane.keys[position], lane.found[position]);
    // Most first packets come in trains that one route decides.
    if let (true, Some(decision)) = (found.is_none(), ways.known(route)) {
        return Ok(decision);
    }
    let packet = burst.packets[usize::from(lane.packets[position])];
    let opener = || Opener {
        port: ingress_port(packet.ingress),
        vrf: F::vrf(&key),
        source: F::source(&key),
    };
    let session = F::table(context.shared).get(found);
    let mut question = Question {
        current: session.and_then(|session| flow::hop_of(session.action())),
        opener: start.opens.then(opener),
        sought: Some(Sought::new::<F>(context, &key, found)),
        answers: nat::answered::<F>(context, found),
        ..Question::new(start.vrf, F::destination(&key), packet.hash)
    };
    let decision = ways.decide::<F>(context, &question, route);
    let mut decision = decision.and_then(|decision| decision.answering(&start));
    if let Ok(decision) = &mut decision {
        nat::keep::<F>(context, &key, found, decision);
    }
    let translates = |decision: &Decision| decision.hop.is_translated();
    let was_translated =
        found.is_some() && nat::leaving::<F>(context, &key, found, Translators::default()) != key;
    if !was_translated && !decision.as_ref().is_ok_and(translates) {
        return decision;
    }
    if found.is_none() {
        return decision.and_then(|decision| nat::place::<F>(context, &key, decision));
    }
    let agrees = |decision: &Decision| nat::agrees::<F>(context, &key, found, decision.by);
    if decision.as_ref().is_ok_and(agrees) {
        return decision;
    }
    if !end::<F>(burst, context, position) {
        return Err(Reason::RedecisionBudget);
    }
    if start.opens {
        return decision.and_then(|decision| nat::place::<F>(context, &key, decision));
    }
    question = Question {
        opener: Some(opener()),
        sought: Some(Sought::new::<F>(context, &key, DirectionIndex::NONE)),
        ..Question::new(F::vrf(&key), F::destination(&key), packet.hash)
    };
    let route = context.snapshot.vrf(question.vrf).map_or(NO_ROUTE, |table| {
        routes::route_in::<F>(table, question.destination)
    });
    let decision = routes::decide_from::<F>(context, &question, route)?;
    nat::place::<F>(context, &key, decision)
}

/// Ends the session of a packet, which has none then. False: another worker holds it.
fn end<F: Family>(burst: &mut Burst, context: &mut Context<'_>, position: usize) -> bool {
    let found = std::mem::replace(&mut F::lane(burst).found[position], DirectionIndex::NONE);
    nat::end::<F>(context, found.session()) != Removed::Busy
}

/// What the packet's session says, if nothing but a policy has changed since.
pub fn route_holds<F: Family>(burst: &mut Burst, context: &Context<'_>, position: usize) -> Option<Decided> {
    let lane = F::lane(burst);
    let (found, index) = (lane.found[position], usize::from(lane.packets[position]));
    let table = F::table(context.shared);
    let decided = table.get(found)?.decided();
    let holds = decided.ingress == burst.packets[index].ingress
        && decided.action != flow::UNDECIDED
        && flow::way_is_fresh::<F>(context, found, &decided)
        && nat::is_fresh(context, &decided);
    holds.then_some(decided)
}

/// The way of a packet whose VNI or label names its port.
fn straight_to(snapshot: &Snapshot, port: PortId, vrf: VrfId) -> Result<Decision, Reason> {
    match snapshot.port(port) {
        Some(_) => Ok(Decision {
            hop: HopId::port(port),
            vrf,
            routes: [NO_OBJECT; 1 + FURTHER],
            egress: Some(port),
            by: Translators::default(),
        }),
        None => Err(Reason::PortDown),
    }
}
