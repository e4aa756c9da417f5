//! Say what would become of a packet that nobody sent: what the stages know of one walks those that decide, watched.
//!
//! The stages are the workers' own. Where they would change something, they look whether they are watched: then they end no
//! session, give away no port of a pool, ask for no neighbour and count no hit. Sessions are not made, and nothing leaves.
//!
//! What depends on the load is not foreseen: full tables and queues, budgets, and an MTU that is too small.

use std::{cell::RefCell, net::IpAddr};

use weft_packet::ip::{IpPacket, protocol};
use weft_table::{
    PolicyId, PortId, RouteId, VrfId,
    flow::{DirectionIndex, Key},
    policy::{Action, Direction, Verdict},
};

use super::{
    Context,
    apply::{self, Way},
    burst::Burst,
    family::Family,
    forward, learn,
    local::host,
    nat::{self, Translators},
    policy,
};
use crate::{dpdk::BURST, drops::Reason, snapshot::HopId};

/// What the stages tell about a packet that is only supposed.
#[derive(Default)]
pub struct Watch {
    lookups: RefCell<Vec<Lookup>>,
    judgements: RefCell<Vec<Judgement>>,
}

/// A look into a VRF's table.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct Lookup {
    pub vrf: VrfId,
    pub destination: IpAddr,
    /// What it gave; there may be none.
    pub route: RouteId,
}

/// What a port's policy said.
#[derive(Clone, Copy, Debug)]
pub struct Judgement {
    /// Whose policy; None: a port that is gone.
    pub port: Option<PortId>,
    /// As seen from the port.
    pub direction: Direction,
    /// The action and who decided; None: one of the port's policies does not exist, and it may have no session.
    pub by: Option<(PolicyId, Verdict)>,
}

impl Judgement {
    /// What becomes of the session.
    pub fn action(&self) -> Action {
        self.by.map_or(Action::Deny, |(_, verdict)| verdict.action)
    }
}

impl Watch {
    /// A table was asked for the way.
    #[cold]
    pub fn looked_up(&self, vrf: VrfId, destination: IpAddr, route: RouteId) {
        self.lookups.borrow_mut().push(Lookup {
            vrf,
            destination,
            route,
        });
    }

    /// The packet's session would end, and what it said of the way with it.
    #[cold]
    pub fn ends_session(&self) {
        self.lookups.borrow_mut().clear();
    }

    /// A policy was asked.
    #[cold]
    pub fn judged(&self, direction: Direction, port: Option<PortId>, by: Option<(PolicyId, Verdict)>) {
        self.judgements
            .borrow_mut()
            .push(Judgement { port, direction, by });
    }
}

/// What would become of a packet.
pub struct Foreseen<K> {
    /// The direction of a session that it belongs to.
    pub found: DirectionIndex,
    /// What that says holds: the packet follows it.
    pub holds: bool,
    /// The way, as far as it was looked up.
    pub lookups: Vec<Lookup>,
    /// Of the ports' policies.
    pub judgements: Vec<Judgement>,
    /// As it came, and as it would leave.
    pub keys: [K; 2],
    /// What translates it.
    pub by: Translators,
    /// Where it goes, and the port of this host by which it leaves; or why it does not.
    pub outcome: Result<(HopId, Option<PortId>), Reason>,
}

/// Walks the stages with the only packet of a burst, whose IP header would be this one. `context` is watched by `watch`.
pub fn foresee<F: Family>(
    burst: &mut Burst,
    context: &mut Context<'_>,
    watch: &Watch,
    ip: &IpPacket,
) -> Foreseen<F::Key> {
    let lane = F::lane(burst);
    let stateful = lane.stateful > 0;
    let position = if stateful { 0 } else { BURST - 1 };
    let (key, hash) = (lane.keys[position], lane.hashes[position]);
    let found = match stateful {
        true => F::table(context.shared).lookup(&key, hash),
        false => DirectionIndex::NONE,
    };
    F::lane(burst).found[position] = found;
    let decided = forward::route_holds::<F>(burst, context, position);
    let decided = decided.filter(|decided| policy::is_fresh(context, decided));
    context.budgets.begin();
    let mut candidates = forward::forward::<F>(burst, context, &[position as u8]);
    // Later looks, such as for the way of an answer, are no part of it.
    let lookups = watch.lookups.take();
    policy::judge::<F>(burst, context, &mut candidates);
    let judgements = watch.judgements.take();
    let decision = candidates.as_slice().first().map(|candidate| candidate.decision);
    let by = decision.map(|decision| decision.by).unwrap_or_default();
    // A session that would end is not there any more.
    let kept = F::lane(burst).found[position];
    let outcome = match decision {
        None => Err(dropped(context, burst.packets[0].port)),
        Some(decision) => {
            let opens = stateful && learn::opens::<F>(context.snapshot, &key, &decision).is_some();
            match decided.map_or(decision.hop, |decided| HopId::from_raw(decided.action as u32)) {
                hop if hop.is_translated() && kept.is_none() && !opens => Err(Reason::NatWithoutSession),
                hop => way::<F>(burst, context, hop, &key, ip).map(|port| (hop, port)),
            }
        }
    };
    let leaving = match outcome {
        Ok((hop, _)) if hop.is_translated() => nat::leaving::<F>(context, &key, kept, by),
        _ => key,
    };
    Foreseen {
        found,
        holds: decided.is_some(),
        lookups,
        judgements,
        keys: [key, leaving],
        by,
        outcome,
    }
}

/// Why the burst's only packet, which came by `port`, was dropped.
fn dropped(context: &mut Context<'_>, port: PortId) -> Reason {
    let drops = context.counters.port(port).map(|counters| counters.drops);
    let reason = drops.and_then(|drops| {
        let reason = drops.iter().position(|packets| *packets > 0)?;
        Reason::ALL.get(reason).copied()
    });
    reason.unwrap_or(Reason::PortDown)
}

/// The port by which what has this hop leaves; None: it goes to the vRouter or the host.
fn way<F: Family>(
    burst: &mut Burst,
    context: &Context<'_>,
    hop: HopId,
    key: &F::Key,
    ip: &IpPacket,
) -> Result<Option<PortId>, Reason> {
    burst.packets[0].hop = hop;
    match apply::way(context, &burst.packets[0]) {
        Way::Out(egress) | Way::OutByHash(egress) => Ok(Some(egress.port.id)),
        Way::Ends(reason) => Err(reason),
        Way::Receive if host::owns(context, ip) => Ok(None),
        // Of the vRouter's own services there is one.
        Way::Receive => {
            let is_icmp = matches!(ip.protocol, protocol::ICMP | protocol::ICMPV6);
            match is_icmp && F::ports(key).begins_session(key.protocol()) {
                true => Ok(None),
                false => Err(Reason::NotService),
            }
        }
    }
}
