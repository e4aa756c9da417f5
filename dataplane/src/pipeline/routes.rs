//! Where a destination leads: the VRF's FIB, then groups, leaks, gateways and virtual IPs, down to a hop that can be applied.
//!
//! A floating IP on the way translates, see [`nat`]: its route ends at its port, and a route that leads into its VRF makes
//! it the source of what its port sends there. A virtual IP leads to a backend, see [`service`].
//!
//! Drops: no-route, discarded, leak-loop, empty-group, neighbour-unresolved, no-underlay-route, port-down, nat-no-session,
//! no-backend and service-port (see [`service`]).

use weft_table::{
    NatId, PortId, RouteId, VrfId,
    fib::NO_ROUTE,
    flow::{DirectionIndex, FURTHER},
    stamps::NO_OBJECT,
};

use super::{
    Context,
    family::Family,
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

impl Decision {
    /// Nothing was decided.
    pub const NONE: Decision = Decision {
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

    /// The routes behind the first, as the flow table wants them.
    pub fn further(&self) -> [u32; FURTHER] {
        let mut further = [NO_OBJECT; FURTHER];
        further.copy_from_slice(&self.routes[1..]);
        further
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

/// The route to a destination.
pub fn route_in<F: Family>(vrf: &Vrf, destination: F::Address) -> RouteId {
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
    /// What a route alone decided in this burst, for packets that nothing translates on account of who sends them.
    #[inline(always)]
    pub fn known(&self, route: RouteId) -> Option<Decision> {
        (route == self.route && route != NO_ROUTE).then_some(self.decision)
    }

    /// As [`decide_from`].
    #[inline(always)]
    pub fn decide<F: Family>(
        &mut self,
        context: &Context<'_>,
        question: &Question<F::Address>,
        route: RouteId,
    ) -> Result<Decision, Reason> {
        if let Some(decision) = self.known(route) {
            return Ok(decision);
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
