//! Find the packets' sessions: a bulk lookup, then a look whether each decision still holds.
//!
//! A decision that is older than the last change is compared with the changes of what it was made from; if none of
//! them came since, it is stamped anew and costs nothing more. Otherwise the next stage decides again.

use weft_packet::l4::tcp_flag;
use weft_table::{
    PortId, RouteId,
    flow::{Decided, DirectionIndex},
    stamps::Stamps,
};

use super::{Context, burst::Burst, family::Family, policy, routes::Decision};
use crate::{dpdk::BURST, snapshot::HopId};

/// Action of a direction whose way was not known when its session was made: decided with its first packet.
pub const UNDECIDED: u64 = u64::MAX;

/// A direction's action: its hop (and whether its packets are translated), and the port of this host that it ends at.
pub fn action_of(decision: &Decision) -> u64 {
    let egress = decision.egress.map_or(0, |port| u64::from(port.0) + 1);
    u64::from(decision.hop.raw()) | egress << 32
}

/// The hop of an action.
#[inline(always)]
pub fn hop_of(action: u64) -> Option<HopId> {
    (action != UNDECIDED).then(|| HopId::from_raw(action as u32).translated(false))
}

/// The port of this host that an action ends at.
#[inline(always)]
pub fn egress_of(action: u64) -> Option<PortId> {
    match action >> 32 {
        0 => None,
        _ if action == UNDECIDED => None,
        port => Some(PortId((port - 1) as u16)),
    }
}

/// An old decision that holds is stamped anew with every so manyth packet of its direction.
const RESTAMPED: u64 = 8;

/// TCP flags that change a session's state.
const TCP_EVENTS: u8 = tcp_flag::SYN | tcp_flag::FIN | tcp_flag::RST;

/// The stage.
#[inline(never)]
pub fn lookup<F: Family>(burst: &mut Burst, context: &mut Context<'_>) {
    let count = F::lane(burst).stateful;
    if count == 0 {
        return;
    }
    let table = F::table(context.shared);
    let lane = F::lane(burst);
    table.lookup_prefetched(
        &lane.keys[..count],
        &lane.hashes[..count],
        &mut lane.found[..count],
    );
    for position in 0..count {
        let lane = F::lane(burst);
        let (found, index) = (lane.found[position], usize::from(lane.packets[position]));
        match hit::<F>(burst, context, index, found) {
            Some(hop) => {
                if hop.is_translated() {
                    table.prefetch_key(found.peer());
                }
                burst.send(index, hop, found);
            }
            None => F::lane(burst).leave_undecided(position),
        }
    }
}

/// The session's decision, if there is one that holds for this packet.
#[inline(always)]
fn hit<F: Family>(
    burst: &Burst,
    context: &Context<'_>,
    index: usize,
    found: DirectionIndex,
) -> Option<HopId> {
    let table = F::table(context.shared);
    let direction = table.get(found)?;
    let decided = direction.decided();
    let packet = &burst.packets[index];
    if decided.ingress != packet.ingress || decided.action == UNDECIDED || decided.stamp() == 0 {
        return None;
    }
    if decided.stamp() < context.snapshot.decided {
        let untouched = is_untouched(context, &decided);
        if !untouched && !is_fresh::<F>(context, found, &decided) {
            return None;
        }
        // While changes come one upon another, a stamp is out of date with the next packet, and writing it is dear.
        if !untouched || direction.packets().is_multiple_of(RESTAMPED) {
            table.restamp(found, &decided, context.snapshot.number);
        }
    }
    account::<F>(burst, context, index, found);
    Some(HopId::from_raw(decided.action as u32))
}

/// Whether the stamps' summaries say that nothing has changed that a decision was made from.
#[inline(always)]
fn is_untouched(context: &Context<'_>, decided: &Decided) -> bool {
    let (changed, stamp) = (&context.shared.changed, decided.stamp());
    let of_route = |stamps: &Stamps| stamps.is_surely_unchanged(decided.route(), stamp);
    // Where there is no port, the entry of another is looked at.
    let of_port = |port: u32| changed.policies.is_surely_unchanged(port, stamp);
    let egress = ((decided.action >> 32) as u32).wrapping_sub(1);
    !decided.has_further()
        && of_route(&changed.routes)
        && of_route(&changed.narrowed)
        && of_port(decided.ingress)
        && of_port(egress)
}

/// Whether nothing has changed that a decision was made from.
#[inline(never)]
fn is_fresh<F: Family>(context: &Context<'_>, found: DirectionIndex, decided: &Decided) -> bool {
    way_is_fresh::<F>(context, found, decided) && policy::is_fresh(context, decided)
}

/// Whether the routes that a decision was made from decide its destination still.
#[inline(always)]
pub fn way_is_fresh<F: Family>(context: &Context<'_>, found: DirectionIndex, decided: &Decided) -> bool {
    let (table, changed) = (F::table(context.shared), &context.shared.changed);
    table.is_fresh(found, decided, &changed.routes)
        && (table.is_fresh(found, decided, &changed.narrowed)
            || keeps_its_route::<F>(context, found, decided))
}

/// Whether a destination is none of those that its route has lost since. The destinations of further routes may be others.
fn keeps_its_route<F: Family>(context: &Context<'_>, found: DirectionIndex, decided: &Decided) -> bool {
    let destination = F::destination(&F::table(context.shared).direction(found).key());
    let latest = F::narrowed(context.snapshot);
    !decided.has_further() && !latest.concern(decided.stamp(), RouteId(decided.route()), destination)
}

/// Counts a packet that takes its session's way.
#[inline(always)]
pub fn account<F: Family>(burst: &Burst, context: &Context<'_>, index: usize, found: DirectionIndex) {
    let (table, packet) = (F::table(context.shared), &burst.packets[index]);
    table
        .direction(found)
        .count(1, u64::from(packet.length), context.now);
    if packet.tcp_flags & TCP_EVENTS != 0 {
        table.observe_tcp(found, packet.tcp_flags);
    }
}

/// A burst fits the indices of its lanes.
const _: () = assert!(BURST <= u8::MAX as usize);
