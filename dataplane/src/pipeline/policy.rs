//! Judge who may open a session: the policy of the port that it comes from (egress), then that of the port that it goes
//! to (ingress), as far as they are ports of this host.
//!
//! What is judged is the session as its initiator opens it. Answers belong to a session that was allowed; if its decision
//! is out of date, they are judged by the initiator's tuple again, whoever sent the packet at hand. So a policy that has
//! changed ends the sessions that it no longer allows with their next packet, in both directions. Answers come from where
//! the initiator's packets go and go where those come from; anything else opens a session of its own.
//!
//! A decision depends on the policies of both ports. Which these are the session says: its ingress and its action.
//! Where addresses are translated ([`nat`]), each port's policy sees what is behind the port: the addresses that it sends
//! to and comes from, and those that it gets packets from and for.
//!
//! Without sessions (packet mode) each packet is judged by itself.
//!
//! Rules may reject: then who sent the packet is told ([`refuse`]), besides. And what they decide may be written down
//! ([`policy_log`]).
//!
//! Drops: policy-denied, policy-rejected, fragment.

use weft_packet::{ip::protocol, refusal::Because};
use weft_table::{
    PolicyId, PortId,
    flow::{Decided, DirectionIndex, Key, SessionIndex},
    policy::{Action, Direction, Tuple, Verdict},
};

use super::{
    Context,
    burst::{Burst, Packet, ingress_port},
    family::Family,
    flow::egress_of,
    forward::{Candidate, Candidates},
    local::refuse::refuse,
    nat, policy_log, routes,
};
use crate::{change::PortPolicy, dpdk::BURST, drops::Reason, snapshot::Snapshot, view::LoggedDecision};

/// Whether the policies that a decision was made with are those of now.
#[inline(always)]
pub fn is_fresh(context: &Context<'_>, decided: &Decided) -> bool {
    let unchanged = |port: PortId| context.shared.changed.policies.get(u32::from(port.0)) <= decided.stamp();
    ingress_port(decided.ingress).is_none_or(unchanged) && egress_of(decided.action).is_none_or(unchanged)
}

/// A session that a packet opens, or that it belongs to, as its initiator opens it.
#[derive(Clone, Copy, Default)]
struct Opening<A> {
    /// Number of the candidate.
    candidate: u8,
    /// Of the port that it comes from.
    egress: PortPolicy,
    /// Of the port that it goes to.
    ingress: PortPolicy,
    /// The port that it comes from, and the one that it goes to.
    ports: [Option<PortId>; 2],
    protocol: u8,
    /// By whom the first sees it opened, to whom.
    sent: Ends<A>,
    /// As the second sees it: translated.
    delivered: Ends<A>,
    /// It is there already, or the packet has none: allowing it is no news.
    known: bool,
    /// Denied: the session ends.
    ends: Option<SessionIndex>,
}

/// Who opens a session to whom.
#[derive(Clone, Copy, Default)]
struct Ends<A> {
    source: A,
    destination: A,
    source_port: u16,
    /// ICMP: type and code.
    destination_port: u16,
}

impl<A> Ends<A> {
    fn of<F: Family<Address = A>>(key: &F::Key) -> Self {
        let ports = F::ports(key);
        let message = ports.icmp_message(key.protocol());
        Ends {
            source: F::source(key),
            destination: F::destination(key),
            source_port: if message.is_some() { 0 } else { ports.source_port },
            destination_port: message.unwrap_or(ports.destination_port),
        }
    }
}

impl<A: Copy> Opening<A> {
    fn policy(&self, direction: Direction) -> PortPolicy {
        match direction {
            Direction::Egress => self.egress,
            Direction::Ingress => self.ingress,
        }
    }

    fn port(&self, direction: Direction) -> Option<PortId> {
        match direction {
            Direction::Egress => self.ports[0],
            Direction::Ingress => self.ports[1],
        }
    }

    fn tuple(&self, direction: Direction) -> Tuple<A> {
        let (ends, remote, local) = match direction {
            Direction::Egress => (&self.sent, self.sent.destination, self.sent.source),
            Direction::Ingress => (&self.delivered, self.delivered.source, self.delivered.destination),
        };
        Tuple {
            remote,
            local,
            protocol: self.protocol,
            source_port: ends.source_port,
            destination_port: ends.destination_port,
        }
    }
}

/// The stage: drops the packets of sessions that may not be.
pub fn judge<F: Family>(burst: &mut Burst, context: &mut Context<'_>, candidates: &mut Candidates) {
    let mut openings = [Opening::<F::Address>::default(); BURST];
    let mut count = 0;
    for (number, candidate) in candidates.as_slice().iter().enumerate() {
        let Some(opened) = opened_by::<F>(burst, context, candidate) else {
            continue;
        };
        let found = opened.found;
        openings[count] = Opening {
            candidate: number as u8,
            egress: opened.egress,
            ingress: opened.ingress,
            ports: opened.ports,
            protocol: opened.sent.protocol(),
            sent: Ends::of::<F>(&opened.sent),
            delivered: Ends::of::<F>(&opened.delivered),
            known: found.is_some(),
            ends: ends::<F>(burst, context, candidate, found),
        };
        count += 1;
    }
    if count == 0 {
        return;
    }
    let openings = &openings[..count];
    let mut denied = fragments::<F>(burst, candidates.as_slice(), openings);
    for direction in [Direction::Egress, Direction::Ingress] {
        by_policy::<F>(context, direction, openings, &mut denied);
    }
    let mut dropped = [false; BURST];
    for (opening, denied) in openings.iter().zip(denied) {
        let Some(reason) = denied else { continue };
        let number = usize::from(opening.candidate);
        dropped[number] = true;
        let position = usize::from(candidates.as_slice()[number].position);
        let index = usize::from(F::lane(burst).packets[position]);
        if let (Reason::PolicyRejected, Some(mbuf)) = (reason, &burst.mbufs[index]) {
            refuse(context, mbuf, &burst.packets[index], Because::Prohibited);
        }
        burst.drop(index, reason, context.counters);
        if let Some(session) = opening.ends {
            // Held by another worker, it ends with a later packet.
            let _ = nat::end::<F>(context, session);
        }
    }
    candidates.retain(|number| !dropped[number]);
}

/// The policies that a candidate's session is judged by, and its initiator's key at either end.
struct Opened<K> {
    egress: PortPolicy,
    ingress: PortPolicy,
    /// The port that it comes from, and the one that it goes to.
    ports: [Option<PortId>; 2],
    sent: K,
    delivered: K,
    found: DirectionIndex,
}

/// None: nobody judges.
fn opened_by<F: Family>(
    burst: &mut Burst,
    context: &Context<'_>,
    candidate: &Candidate,
) -> Option<Opened<F::Key>> {
    let position = usize::from(candidate.position);
    let lane = F::lane(burst);
    let (key, found) = (lane.keys[position], lane.found[position]);
    let packet = burst.packets[usize::from(lane.packets[position])];
    let (from, to) = (ingress_port(packet.ingress), candidate.decision.egress);
    let of = |port: Option<PortId>| {
        port.and_then(|port| context.snapshot.port(port))
            .map_or(PortPolicy::Open, |port| port.policy)
    };
    let (egress, ingress) = (of(from), of(to));
    if egress == PortPolicy::Open && ingress == PortPolicy::Open {
        return None;
    }
    if found.is_some() && is_answer::<F>(context, found, from, to) {
        return Some(Opened {
            egress: ingress,
            ingress: egress,
            ports: [to, from],
            sent: F::table(context.shared).direction(found.peer()).key(),
            delivered: key.reversed(F::vrf(&key)),
            found,
        });
    }
    let delivered = match candidate.decision.hop.is_translated() {
        true => nat::leaving::<F>(context, &key, found, candidate.decision.by),
        false => key,
    };
    Some(Opened {
        egress,
        ingress,
        ports: [from, to],
        sent: key,
        delivered,
        found,
    })
}

/// Whether a packet that came by `from` and goes to `to` answers the initiator of the session that it was found in.
fn is_answer<F: Family>(
    context: &Context<'_>,
    found: DirectionIndex,
    from: Option<PortId>,
    to: Option<PortId>,
) -> bool {
    if found.is_initiator() {
        return false;
    }
    let table = F::table(context.shared);
    let initiator = table.direction(found.peer());
    if to != ingress_port(initiator.ingress()) {
        return false;
    }
    if from == egress_of(initiator.action()) {
        return true;
    }
    // The initiator's packets may go elsewhere since its last one.
    let key = initiator.key();
    let hash = Packet::hash_of(table.hash(&key));
    let now = routes::decide_again::<F>(context, &key, found.peer(), hash);
    now.is_ok_and(|decision| decision.egress == from)
}

/// The session that ends if its packet is denied. A packet that came by another way than its session expects says nothing
/// about that.
fn ends<F: Family>(
    burst: &mut Burst,
    context: &Context<'_>,
    candidate: &Candidate,
    found: DirectionIndex,
) -> Option<SessionIndex> {
    let direction = F::table(context.shared).get(found)?;
    let index = usize::from(F::lane(burst).packets[usize::from(candidate.position)]);
    (direction.ingress() == burst.packets[index].ingress).then(|| found.session())
}

/// In packet mode fragments come by without their ports, and nobody can say what rule they fall under.
fn fragments<F: Family>(
    burst: &mut Burst,
    candidates: &[Candidate],
    openings: &[Opening<F::Address>],
) -> [Option<Reason>; BURST] {
    let stateful = F::lane(burst).stateful;
    let mut denied = [None; BURST];
    for (denied, opening) in denied.iter_mut().zip(openings) {
        let position = usize::from(candidates[usize::from(opening.candidate)].position);
        let has_ports = matches!(opening.protocol, protocol::TCP | protocol::UDP | protocol::SCTP);
        if position >= stateful
            && has_ports
            && (opening.sent.source_port, opening.sent.destination_port) == (0, 0)
        {
            *denied = Some(Reason::Fragment);
        }
    }
    denied
}

/// Has the ports' policies judge in one direction. Runs of one policy are judged together.
fn by_policy<F: Family>(
    context: &mut Context<'_>,
    direction: Direction,
    openings: &[Opening<F::Address>],
    denied: &mut [Option<Reason>; BURST],
) {
    let mut start = 0;
    while let Some(first) = openings.get(start) {
        let policy = first.policy(direction);
        let run = openings[start..]
            .iter()
            .take_while(|opening| opening.policy(direction) == policy);
        let end = start + run.count();
        match policy {
            PortPolicy::Open => {}
            PortPolicy::Closed => closed(context, direction, first.port(direction), &mut denied[start..end]),
            PortPolicy::Judged(_) => {
                by_rules::<F>(
                    context,
                    direction,
                    policy,
                    &openings[start..end],
                    &mut denied[start..end],
                );
            }
        }
        start = end;
    }
}

/// One of the port's policies does not exist: nobody knows what it would have said.
fn closed(context: &Context<'_>, direction: Direction, port: Option<PortId>, denied: &mut [Option<Reason>]) {
    if let (Some(watch), [None]) = (context.watch, &*denied) {
        watch.judged(direction, port, None);
    }
    denied.fill(Some(Reason::PolicyDenied));
}

fn by_rules<F: Family>(
    context: &mut Context<'_>,
    direction: Direction,
    policy: PortPolicy,
    openings: &[Opening<F::Address>],
    denied: &mut [Option<Reason>],
) {
    let Some((id, policy)) = judge_of(context.snapshot, policy) else {
        let port = openings.first().and_then(|opening| opening.port(direction));
        return closed(context, direction, port, denied);
    };
    let mut tuples = [Tuple::<F::Address>::default(); BURST];
    for (tuple, opening) in tuples.iter_mut().zip(openings) {
        *tuple = opening.tuple(direction);
    }
    let nobody = Verdict {
        action: Action::Deny,
        decider: u32::MAX,
    };
    let mut verdicts = [nobody; BURST];
    let count = openings.len();
    policy.rules.judge_bulk(
        context.snapshot,
        direction,
        &tuples[..count],
        &mut verdicts[..count],
    );
    for ((opening, denied), verdict) in openings.iter().zip(denied).zip(verdicts) {
        // The other port's policy was first to say no.
        if denied.is_some() {
            continue;
        }
        *denied = match verdict.action {
            Action::Allow => None,
            Action::Deny => Some(Reason::PolicyDenied),
            Action::Reject => Some(Reason::PolicyRejected),
        };
        if let Some(watch) = context.watch {
            watch.judged(direction, opening.port(direction), Some((id, verdict)));
        } else if denied.is_some() || !opening.known {
            policy.hits.count(context.worker, verdict.decider);
            if policy.logs(verdict.decider) {
                log::<F>(context, direction, id, &verdict, opening);
            }
        }
    }
}

#[cold]
fn log<F: Family>(
    context: &mut Context<'_>,
    direction: Direction,
    policy: PolicyId,
    verdict: &Verdict,
    opening: &Opening<F::Address>,
) {
    let Some(port) = opening.port(direction) else {
        return;
    };
    let ends = match direction {
        Direction::Egress => &opening.sent,
        Direction::Ingress => &opening.delivered,
    };
    let decision = LoggedDecision {
        policy,
        decider: verdict.decider,
        action: verdict.action,
        direction,
        port,
        protocol: opening.protocol,
        source: F::address(ends.source),
        destination: F::address(ends.destination),
        source_port: ends.source_port,
        destination_port: ends.destination_port,
    };
    policy_log::tell(context, decision);
}

fn judge_of(snapshot: &Snapshot, policy: PortPolicy) -> Option<(PolicyId, &crate::snapshot::Policy)> {
    match policy {
        PortPolicy::Judged(id) => Some((id, snapshot.policy(id)?)),
        PortPolicy::Open | PortPolicy::Closed => None,
    }
}
