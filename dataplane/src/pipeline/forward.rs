//! Decide where a packet goes: the VRF's FIB, then groups, leaks and gateways down to a hop that can be applied.
//!
//! For packets without a session (they get one, see [`learn`](super::learn)), for sessions whose route is out of date,
//! and in packet mode for every packet. Routes are looked up in bulk.
//!
//! A floating IP on the way translates, see [`nat`]: its route ends at its port, and a route that leads into its VRF makes
//! it the source of what its port sends there. A virtual IP leads to a backend, see [`service`].
//!
//! Drops: no-route, discarded, leak-loop, empty-group, neighbour-unresolved, no-underlay-route, port-down,
//! redecision-budget, new-flow-budget (see [`budget`]), no-backend and service-port (see [`service`]).

use weft_packet::refusal::Because;
use weft_table::{
    NatId, PortId, RouteId, VrfId,
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
    service::{self, Sought},
};
use crate::{
    dpdk::BURST,
    drops::Reason,
    shared::Punt,
    snapshot::{Hop, HopId, NextHop, Role, Snapshot, VirtualIp, Vrf},
};

/// VRFs that a packet may be led through.
const LEAKS: usize = FURTHER;
/// Sessions whose way a burst finds anew; those beyond drop, and never follow a decision that was revoked.
const REDECISIONS: usize = 48;

/// Where a packet goes, and what that was decided from.
#[derive(Clone, Copy, Debug)]
pub struct Decision {
    /// Can be applied: neither a group nor a VRF. Says besides whether packets are translated.
    pub hop: HopId,
    /// In whose table the way ended.
    pub vrf: VrfId,
    /// The first route, then those of the VRFs it led to.
    pub routes: [u32; 1 + FURTHER],
    /// The port of this host that it ends at.
    pub egress: Option<PortId>,
    /// What translates the packets.
    pub by: Translators,
}

/// What is asked of the routes.
pub struct Question<A> {
    /// In whose table the way begins.
    pub vrf: VrfId,
    /// Where to.
    pub destination: A,
    /// What spreads flows over the members of a group.
    pub hash: u32,
    /// The hop of a session that should stay with its group's member.
    pub current: Option<HopId>,
    /// Who opens a session.
    pub opener: Option<Opener<A>>,
    /// What it asks of a virtual IP. None: nothing but whose it is.
    pub sought: Option<Sought<A>>,
    /// Whom answers to the address of a pool or virtual IP are for: VRF, address and port of who opened their session.
    pub answers: Option<(VrfId, A, u16)>,
}

/// Who opens a session.
#[derive(Clone, Copy)]
pub struct Opener<A> {
    /// By which port of this host.
    pub port: Option<PortId>,
    /// From which VRF.
    pub vrf: VrfId,
    /// As whom.
    pub source: A,
}

impl<A> Question<A> {
    /// The way of packets that nothing translates on account of who sends them.
    pub fn new(vrf: VrfId, destination: A, hash: u32) -> Self {
        Question {
            vrf,
            destination,
            hash,
            current: None,
            opener: None,
            sought: None,
            answers: None,
        }
    }
}

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
    let routes = lookup::<F>(context, wanted);
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
    let route = context
        .snapshot
        .vrf(question.vrf)
        .map_or(NO_ROUTE, |table| route_in::<F>(table, question.destination));
    let decision = decide_from::<F>(context, &question, route)?;
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

/// The routes to some destinations, a burst's worth at most: runs of one VRF are looked up together.
pub fn lookup<F: Family>(
    context: &Context<'_>,
    wanted: impl Iterator<Item = (VrfId, F::Address)>,
) -> [RouteId; BURST] {
    let mut routes = [NO_ROUTE; BURST];
    let mut destinations = [F::Address::default(); BURST];
    let mut run = VrfId(0);
    let (mut start, mut end) = (0, 0);
    let mut look = |vrf, destinations: &[F::Address], start: usize, end: usize| {
        if let Some(vrf) = context.snapshot.vrf(vrf) {
            F::fib(vrf).lookup_bulk(&destinations[start..end], &mut routes[start..end]);
        }
    };
    for (vrf, destination) in wanted.take(BURST) {
        if vrf != run {
            look(run, &destinations, start, end);
            (run, start) = (vrf, end);
        }
        destinations[end] = destination;
        end += 1;
    }
    look(run, &destinations, start, end);
    routes
}

/// Where a packet to `destination` goes from `vrf`.
pub fn decide<F: Family>(
    context: &Context<'_>,
    vrf: VrfId,
    destination: F::Address,
    hash: u32,
) -> Result<Decision, Reason> {
    let route = context
        .snapshot
        .vrf(vrf)
        .map_or(NO_ROUTE, |table| route_in::<F>(table, destination));
    decide_from::<F>(context, &Question::new(vrf, destination, hash), route)
}

/// As [`decide`], for the packets of a session.
pub fn decide_again<F: Family>(
    context: &Context<'_>,
    key: &F::Key,
    found: DirectionIndex,
    hash: u32,
) -> Result<Decision, Reason> {
    let question = Question {
        sought: Some(Sought::new::<F>(context, key, found)),
        ..Question::new(F::vrf(key), F::destination(key), hash)
    };
    let route = context
        .snapshot
        .vrf(question.vrf)
        .map_or(NO_ROUTE, |table| route_in::<F>(table, question.destination));
    decide_from::<F>(context, &question, route)
}

fn route_in<F: Family>(vrf: &Vrf, destination: F::Address) -> RouteId {
    F::fib(vrf).lookup(destination).unwrap_or(NO_ROUTE)
}

/// Decisions of one burst. Packets come in trains: what the route alone decides is decided once for those that follow.
pub struct Ways {
    route: RouteId,
    decision: Decision,
}

impl Default for Ways {
    fn default() -> Self {
        Ways {
            route: NO_ROUTE,
            decision: Decision::NONE,
        }
    }
}

impl Ways {
    /// As [`decide_from`].
    #[inline(always)]
    pub fn decide<F: Family>(
        &mut self,
        context: &Context<'_>,
        question: &Question<F::Address>,
        route: RouteId,
    ) -> Result<Decision, Reason> {
        if route == self.route && route != NO_ROUTE {
            return Ok(self.decision);
        }
        let decision = decide_from::<F>(context, question, route)?;
        // Neither a group's member, nor another VRF's route, nor a neighbour of the destination's address, nor translated.
        let by_route = context.snapshot.route(route).map(|route| route.next_hop);
        if by_route == Some(decision.hop) {
            (self.route, self.decision) = (route, decision);
        }
        Ok(decision)
    }
}

/// As [`decide`], from a route that was looked up.
pub fn decide_from<F: Family>(
    context: &Context<'_>,
    question: &Question<F::Address>,
    mut route: RouteId,
) -> Result<Decision, Reason> {
    let snapshot = context.snapshot;
    let (mut vrf, mut destination) = (question.vrf, question.destination);
    let mut routes = [NO_OBJECT; 1 + FURTHER];
    let mut by = Translators::default();
    let mut is_served = false;
    for _ in 0..=LEAKS {
        if let Some(watch) = context.watch {
            watch.looked_up(vrf, F::address(destination), route);
        }
        if route == NO_ROUTE {
            return Err(Reason::NoRoute);
        }
        depend(&mut routes, route.0)?;
        let mut hop = snapshot.route(route).ok_or(Reason::NoRoute)?.next_hop;
        if let Some(Hop::Table(NextHop::Group(group))) = snapshot.hop(hop) {
            let stays = question.current.filter(|current| match current.kind() {
                crate::snapshot::HopKind::Table(id) => group.contains(id),
                _ => false,
            });
            hop = match stays {
                Some(current) => current,
                None => HopId::of(group.select(question.hash).ok_or(Reason::EmptyGroup)?),
            };
        }
        match terminal::<F>(context, snapshot, hop, destination)? {
            Way::Ends(hop, egress) => {
                // The vRouter answers who asks, not what stands for it.
                if hop == HopId::RECEIVE && vrf != VrfId::UNDERLAY {
                    by = Translators::default();
                }
                return Ok(Decision {
                    hop: hop.translated(by.any()),
                    vrf,
                    routes,
                    egress,
                    by,
                });
            }
            // What stands for others itself serves nobody.
            Way::Translated(..) | Way::Pooled(_) | Way::Served(_) if is_served => {
                return Err(Reason::NoBackend);
            }
            Way::Translated(port, id) => {
                by.destination = Some(id);
                return Ok(Decision {
                    hop: HopId::port(port).translated(true),
                    vrf,
                    routes,
                    egress: Some(port),
                    by,
                });
            }
            Way::Pooled(id) => {
                let (inside_vrf, address, port) = question.answers.ok_or(Reason::NatNoSession)?;
                by.destination = Some(id);
                by.inside = Some((F::address(address), port));
                (vrf, destination) = (inside_vrf, address);
                route = snapshot
                    .vrf(vrf)
                    .map_or(NO_ROUTE, |table| route_in::<F>(table, destination));
            }
            Way::Served(virtual_ip) => {
                match (question.answers, question.sought.filter(Sought::is_served)) {
                    // From a backend that reached itself: back to it.
                    (Some((inside_vrf, address, port)), _) => {
                        by.inside = Some((F::address(address), port));
                        (vrf, destination) = (inside_vrf, address);
                    }
                    (None, Some(sought)) => {
                        let (backend, object) = service::choose::<F>(context, virtual_ip, &sought, &mut by)?;
                        depend(&mut routes, object)?;
                        (vrf, destination) = (virtual_ip.vrf, backend);
                    }
                    (None, None) => {
                        return Ok(Decision {
                            hop: HopId::RECEIVE,
                            vrf,
                            routes,
                            egress: None,
                            by: Translators::default(),
                        });
                    }
                }
                is_served = true;
                route = snapshot
                    .vrf(vrf)
                    .map_or(NO_ROUTE, |table| route_in::<F>(table, destination));
            }
            Way::LeadsTo(next) => {
                vrf = next;
                route = snapshot
                    .vrf(vrf)
                    .map_or(NO_ROUTE, |table| route_in::<F>(table, destination));
                if let (None, Some(opener)) = (by.source, question.opener) {
                    by.source =
                        nat::of_source(snapshot, opener.port, opener.vrf, vrf, F::address(opener.source));
                }
            }
        }
    }
    Err(Reason::LeakLoop)
}

/// A decision depends on this besides. What it can depend on is limited.
fn depend(routes: &mut [u32; 1 + FURTHER], object: u32) -> Result<(), Reason> {
    let mut places = routes.iter_mut();
    let place = places.find(|place| **place == NO_OBJECT);
    *place.ok_or(Reason::LeakLoop)? = object;
    Ok(())
}

enum Way<'a> {
    /// At a port of this host, or elsewhere.
    Ends(HopId, Option<PortId>),
    /// At the port that has this floating IP.
    Translated(PortId, NatId),
    /// Back to who opened a session from this pool.
    Pooled(NatId),
    /// At a backend of this one.
    Served(&'a VirtualIp),
    LeadsTo(VrfId),
}

fn terminal<'a, F: Family>(
    context: &Context<'a>,
    snapshot: &'a Snapshot,
    hop: HopId,
    destination: F::Address,
) -> Result<Way<'a>, Reason> {
    match snapshot.hop(hop).ok_or(Reason::PortDown)? {
        Hop::Receive | Hop::Neighbour(_) => Ok(Way::Ends(hop, None)),
        Hop::Port(port) => match port.role {
            // A subnet of an uplink: the destination is the neighbour.
            Role::Uplink { .. } => {
                let address = F::address(destination);
                match snapshot.neighbour_index.get(&(port.id, address)) {
                    Some(&index) => Ok(Way::Ends(HopId::neighbour(index), None)),
                    None => {
                        context.punt(Punt::Resolve {
                            port: port.id,
                            address,
                        });
                        Err(Reason::NeighbourUnresolved)
                    }
                }
            }
            _ => Ok(Way::Ends(hop, Some(port.id))),
        },
        Hop::FloatingIp(floating) => Ok(Way::Translated(floating.spec.port, floating.id)),
        Hop::Pool(pool) => Ok(Way::Pooled(pool.id)),
        Hop::VirtualIp(virtual_ip) => Ok(Way::Served(virtual_ip)),
        Hop::Table(entry) => match entry {
            NextHop::Port { port, .. } => Ok(Way::Ends(hop, Some(*port))),
            NextHop::Tunnel { .. } => Ok(Way::Ends(hop, None)),
            NextHop::Receive => Ok(Way::Ends(HopId::RECEIVE, None)),
            NextHop::Gateway(Some(index)) => Ok(Way::Ends(HopId::neighbour(*index), None)),
            NextHop::Gateway(None) => Err(Reason::NoUnderlayRoute),
            NextHop::Vrf(vrf) => Ok(Way::LeadsTo(*vrf)),
            NextHop::Discard => Err(Reason::Discarded),
            // A group has no groups as members.
            NextHop::Group(_) => Err(Reason::EmptyGroup),
        },
    }
}

/// What a decision depends on, as the flow table wants it.
impl Decision {
    /// Nothing was decided.
    const NONE: Decision = Decision {
        hop: HopId::RECEIVE,
        vrf: VrfId(0),
        routes: [NO_OBJECT; 1 + FURTHER],
        egress: None,
        by: Translators {
            source: None,
            destination: None,
            mapping: None,
            inside: None,
        },
    };

    /// The same for answers that begin their way here: they come from what their session was opened to.
    pub fn answering(mut self, start: &Start) -> Result<Decision, Reason> {
        if start.source.is_some() {
            self.by.source = start.source;
            self.by.mapping = start.mapping;
            self.hop = self.hop.translated(true);
        }
        if start.object != NO_OBJECT {
            depend(&mut self.routes, start.object)?;
        }
        Ok(self)
    }

    /// The routes behind the first.
    pub fn further(&self) -> [u32; FURTHER] {
        let mut further = [NO_OBJECT; FURTHER];
        further.copy_from_slice(&self.routes[1..]);
        further
    }
}
