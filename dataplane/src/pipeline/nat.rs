//! Translate addresses: a floating IP stands for an address behind a port, in the VRF where others reach it; a pool stands
//! for all sources of another VRF, with a port of its own for each session; a virtual IP for the backends of its services,
//! see [`service`](super::service).
//!
//! What comes to a floating IP goes to its port, and its destination becomes the inside address: the floating IP is a
//! route of its VRF. What its port sends comes from the floating IP when routes lead it into that VRF. Both are found by
//! [`forward`](super::forward) at the first packet. From then on the session says it: a direction's packets leave with
//! what is in the other direction's key, so nothing else is kept of a translation. [`apply`](super::apply) rewrites them.
//!
//! Answers are translated as their session says, and take the way from the VRF in which the floating IP is. A session
//! whose translation is no longer that of the configuration ends with its next packet.
//!
//! Translation needs sessions: in packet mode, and for messages that belong to none, there is none.
//!
//! A pool's ports are handed out in blocks ([`weft_table::nat`]), and a session has one when the flow table says that its
//! answers' key is free. What comes to a pool's address must answer a session.
//!
//! Drops: untranslatable, nat-without-session, nat-exhausted, nat-no-session.

use std::net::IpAddr;

use weft_packet::{
    ip::{self, IpPacket, protocol},
    l4::{self, Tuple},
    quote,
    rewrite::{self, ChecksumState, Ends, Translation},
};
use weft_table::{
    NatId, PortId, VrfId,
    flow::{Decided, DirectionIndex, Key, Removed, SessionIndex},
    nat::{Holder, Place},
    stamps::NO_OBJECT,
};

use super::{
    Context,
    burst::{Packet, ingress_port},
    family::{Family, V4, V6},
    flow, learn,
    routes::Decision,
    service,
};
use crate::{
    change::PoolSpec,
    dpdk::Mbuf,
    drops::Reason,
    snapshot::{FROM_INSIDE, FROM_OUTSIDE, FloatingIp, Pool, Snapshot},
};

/// An address and port of either family.
pub type End = (IpAddr, u16);

/// What translates a packet's source and destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Translators {
    /// Its source becomes this one's address.
    pub source: Option<NatId>,
    /// Its destination is this one's address and becomes the inside one.
    pub destination: Option<NatId>,
    /// The source's address and port, if that is a pool or service.
    pub mapping: Option<End>,
    /// The destination's inside address and port, if that is a pool or service.
    pub inside: Option<End>,
}

impl Translators {
    /// Whether anything does.
    #[inline(always)]
    pub fn any(&self) -> bool {
        self.source.is_some() || self.destination.is_some() || self.inside.is_some()
    }
}

/// Where the way of a packet begins.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// In whose table it is looked up first.
    pub vrf: VrfId,
    /// Answers: what translates their source, since the session says so.
    pub source: Option<NatId>,
    /// Answers from a service: the address and port that they come from.
    pub mapping: Option<End>,
    /// What answers from a service depend on besides routes.
    pub object: u32,
    /// It opens a session, so that what translates its source is found on its way.
    pub opens: bool,
}

impl Start {
    /// A packet that opens a session.
    pub fn opening(vrf: VrfId) -> Self {
        Start {
            vrf,
            source: None,
            mapping: None,
            object: NO_OBJECT,
            opens: true,
        }
    }

    /// The answers to a session that `opens` opens: those from a floating IP or service are routed where that is.
    pub fn answering<F: Family>(
        snapshot: &Snapshot,
        vrf: VrfId,
        destination: Option<NatId>,
        opens: &F::Key,
    ) -> Self {
        if let Some(service) = destination.and_then(|id| snapshot.service(id)) {
            return service::start::<F>(service, opens);
        }
        match destination.and_then(|id| snapshot.floating_ip(id)) {
            Some(floating) => Start::from_floating(floating),
            None => Start {
                opens: false,
                ..Start::opening(vrf)
            },
        }
    }

    fn from_floating(floating: &FloatingIp) -> Self {
        Start {
            source: Some(floating.id),
            opens: false,
            ..Start::opening(floating.spec.vrf)
        }
    }
}

/// Where the way of a packet begins that came by `ingress` and is looked up by `key`. None: it belongs to a session whose
/// translation is gone.
#[inline]
pub fn start<F: Family>(
    context: &Context<'_>,
    key: &F::Key,
    ingress: u32,
    found: DirectionIndex,
) -> Option<Start> {
    if found.is_none() || found.is_initiator() {
        return Some(Start::opening(F::vrf(key)));
    }
    // As the initiator knows who answers.
    let opens = F::table(context.shared).direction(found.peer()).key();
    if let Some(start) = service::answering::<F>(context.snapshot, &opens, key) {
        return start;
    }
    let (inside, known) = (F::address(F::source(key)), F::address(F::destination(&opens)));
    if inside == known {
        return Some(Start {
            opens: false,
            ..Start::opening(F::vrf(key))
        });
    }
    let nat = context.snapshot.nat_of(ingress_port(ingress)?)?;
    nat.between(inside, known).map(Start::from_floating)
}

/// What translates the source of a packet from this port when it is led into a VRF.
#[inline]
pub fn of_source(
    snapshot: &Snapshot,
    port: Option<PortId>,
    from: VrfId,
    into: VrfId,
    inside: IpAddr,
) -> Option<NatId> {
    let floating = port.and_then(|port| snapshot.nat_of(port)?.in_vrf(into, inside));
    let pool = || {
        snapshot
            .pools
            .iter()
            .find(|pool| pool.translates(from, into, inside))
    };
    floating.map(|floating| floating.id).or_else(|| Some(pool()?.id))
}

/// An address and port of a pool; None: not of its family.
fn place_of(address: IpAddr, port: u16) -> Option<Place> {
    match address {
        IpAddr::V4(address) => Some((address.to_bits(), port)),
        IpAddr::V6(_) => None,
    }
}

fn end_of((address, port): Place) -> End {
    (IpAddr::V4(address.into()), port)
}

/// Who opened the session that a packet answers; None: it answers none.
pub fn answered<F: Family>(context: &Context<'_>, found: DirectionIndex) -> Option<(VrfId, F::Address, u16)> {
    if found.is_none() || found.is_initiator() {
        return None;
    }
    let opened = F::table(context.shared).direction(found.peer()).key();
    Some((F::vrf(&opened), F::source(&opened), F::ports(&opened).source_port))
}

/// A session keeps the address and port of its pool as long as they are the pool's.
pub fn keep<F: Family>(context: &Context<'_>, key: &F::Key, found: DirectionIndex, decision: &mut Decision) {
    let pool = decision.by.source.and_then(|id| context.snapshot.pool(id));
    if let (Some(pool), true) = (pool, found.is_some()) {
        let leaving = leaving::<F>(context, key, found, Translators::default());
        let (inside, _) = place_of(F::address(F::source(key)), 0).unwrap_or_default();
        let (address, port) = (F::address(F::source(&leaving)), F::ports(&leaving).source_port);
        let place = place_of(address, port).filter(|place| pool.has(inside, *place));
        decision.by.mapping = place.map(end_of);
    }
}

/// Gives a session that a pool translates an address and port, which nobody has most likely: the flow table says so when the
/// session is put in. Others are left as they are.
pub fn place<F: Family>(context: &Context<'_>, key: &F::Key, decision: Decision) -> Result<Decision, Reason> {
    match context.watch {
        None => place_if::<F>(context, key, decision, |_| true),
        Some(_) => place_free::<F>(context, key, decision),
    }
}

/// As [`place`], after the flow table was asked.
#[cold]
pub fn place_free<F: Family>(
    context: &Context<'_>,
    key: &F::Key,
    decision: Decision,
) -> Result<Decision, Reason> {
    let (_, reverse_vrf) = learn::way_back(context.snapshot, &decision).ok_or(Reason::NatWithoutSession)?;
    let table = F::table(context.shared);
    place_if::<F>(context, key, decision, |mapping| {
        let by = Translators {
            mapping: Some(mapping),
            ..decision.by
        };
        let answers = translated::<F>(context.snapshot, key, by).reversed(reverse_vrf);
        let found = table.lookup(&answers, table.hash(&answers));
        // A session that is out of date makes way, see `learn`.
        let holds = |decided: Decided| flow::way_is_fresh::<F>(context, found, &decided);
        !table
            .get(found)
            .is_some_and(|direction| holds(direction.decided()))
    })
}

fn place_if<F: Family>(
    context: &Context<'_>,
    key: &F::Key,
    mut decision: Decision,
    is_free: impl Fn(End) -> bool,
) -> Result<Decision, Reason> {
    let Some(pool) = decision.by.source.and_then(|id| context.snapshot.pool(id)) else {
        return Ok(decision);
    };
    let ports = F::ports(key);
    if !ports.begins_session(key.protocol()) {
        return Err(Reason::NatWithoutSession);
    }
    if !matches!(
        key.protocol(),
        protocol::TCP | protocol::UDP | protocol::SCTP | protocol::ICMP
    ) {
        return Err(Reason::Untranslatable);
    }
    learn::way_back(context.snapshot, &decision).ok_or(Reason::NatWithoutSession)?;
    let (inside, _) = place_of(F::address(F::source(key)), 0).ok_or(Reason::Untranslatable)?;
    let holder = Holder {
        vrf: F::vrf(key),
        address: inside,
        worker: context.worker,
    };
    // The echo's own number looks like that of its answerer, see `l4`.
    let is_echo = |port| key.protocol() == protocol::ICMP && l4::ECHO.contains(&port);
    let is_free = |place: Place| !is_echo(place.1) && is_free(end_of(place));
    let place = match context.watch {
        None => pool.take(holder, is_free),
        Some(_) => pool.peek(holder, is_free),
    };
    decision.by.mapping = Some(end_of(place.ok_or(Reason::NatExhausted)?));
    Ok(decision)
}

/// The pool's address and port that a session has.
fn pooled<'a, F: Family>(
    snapshot: &'a Snapshot,
    opens: &F::Key,
    answers: &F::Key,
) -> Option<(&'a Pool, Place)> {
    if snapshot.pools.is_empty() || F::source(opens) == F::destination(answers) {
        return None;
    }
    let place = place_of(
        F::address(F::destination(answers)),
        F::ports(answers).destination_port,
    )?;
    // Of sessions with a service, which may come from any VRF, answers say where the pool is.
    let is_here = |pool: &PoolSpec| pool.inside_vrf == F::vrf(opens) || pool.vrf == F::vrf(answers);
    let mut pools = snapshot.pools.iter();
    let pool = pools.find(|pool| is_here(&pool.spec) && pool.blocks.block_of(place).is_some());
    Some((pool?, place))
}

/// A session with these keys was put in.
pub fn opened<F: Family>(snapshot: &Snapshot, worker: u16, opens: &F::Key, answers: &F::Key) {
    service::opened::<F>(snapshot, worker, opens, answers);
    if let Some((pool, place)) = pooled::<F>(snapshot, opens, answers) {
        pool.blocks.opened(place);
    }
}

/// A session with these keys was taken out.
#[inline]
pub fn closed<F: Family>(snapshot: &Snapshot, worker: u16, opens: &F::Key, answers: &F::Key) {
    service::closed::<F>(snapshot, worker, opens, answers);
    if let Some((pool, place)) = pooled::<F>(snapshot, opens, answers) {
        pool.blocks.closed(place);
    }
}

/// Takes a session out.
pub fn end<F: Family>(context: &mut Context<'_>, session: SessionIndex) -> Removed {
    if let Some(watch) = context.watch {
        watch.ends_session();
        return Removed::Done;
    }
    let table = F::table(context.shared);
    let [opens, answers] = table.keys(session);
    let removed = table.remove(&mut F::learner(context.flows).flows, session);
    if removed == Removed::Done {
        closed::<F>(context.snapshot, context.worker, &opens, &answers);
    }
    removed
}

/// Whether what translated a session's packets is what does so now, as far as that depends on the port they come from.
pub fn is_fresh(context: &Context<'_>, decided: &Decided) -> bool {
    ingress_port(decided.ingress)
        .is_none_or(|port| context.shared.changed.nat.get(u32::from(port.0)) <= decided.stamp())
}

/// A packet's key as it leaves: what belongs to its session says so, and what opens one is told by `by`.
#[inline]
pub fn leaving<F: Family>(
    context: &Context<'_>,
    key: &F::Key,
    found: DirectionIndex,
    by: Translators,
) -> F::Key {
    match F::table(context.shared).get(found.peer()) {
        Some(answers) if found.is_some() => answers.key().reversed(F::vrf(key)),
        _ => translated::<F>(context.snapshot, key, by),
    }
}

/// What these make of a key.
pub fn translated<F: Family>(snapshot: &Snapshot, key: &F::Key, by: Translators) -> F::Key {
    let address = |id: Option<NatId>, of: fn(&FloatingIp) -> IpAddr| F::of_ip(of(snapshot.floating_ip(id?)?));
    let mut ports = F::ports(key);
    let mut source = address(by.source, |floating| floating.spec.address).unwrap_or(F::source(key));
    let mut destination =
        address(by.destination, |floating| floating.spec.inside).unwrap_or(F::destination(key));
    if let Some((address, port)) = by.mapping {
        source = F::of_ip(address).unwrap_or(source);
        ports.source_port = port;
    }
    if let Some((address, port)) = by.inside {
        destination = F::of_ip(address).unwrap_or(destination);
        ports.destination_port = port;
    }
    F::key(F::vrf(key), key.protocol(), source, destination, ports)
}

/// Whether a session's packets leave as these would have them leave.
pub fn agrees<F: Family>(
    context: &Context<'_>,
    key: &F::Key,
    found: DirectionIndex,
    by: Translators,
) -> bool {
    translated::<F>(context.snapshot, key, by) == leaving::<F>(context, key, found, by)
}

/// Counts a session that was opened.
pub fn count(context: &Context<'_>, by: Translators) {
    for (id, side) in [(by.source, FROM_INSIDE), (by.destination, FROM_OUTSIDE)] {
        if let Some(floating) = id.and_then(|id| context.snapshot.floating_ip(id)) {
            floating.opened.count(context.worker, side);
        }
    }
}

/// Translates a packet of a session. False: it cannot be, and must not leave.
#[inline]
pub fn translate(context: &Context<'_>, mbuf: &mut Mbuf, packet: &Packet) -> bool {
    match packet.v6 {
        false => rewrite_v4(context, mbuf, packet),
        true => rewrite::<V6>(context, mbuf, packet),
    }
}

#[inline]
fn rewrite_v4(context: &Context<'_>, mbuf: &mut Mbuf, packet: &Packet) -> bool {
    let Some(answers) = context.shared.sessions4.get(packet.session.peer()) else {
        return false;
    };
    let answers = answers.key();
    let new = Ends {
        source: answers.destination,
        destination: answers.source,
        source_port: answers.destination_port,
        destination_port: answers.source_port,
    };
    rewrite::translate_plain(mbuf.data_mut(), &new, state(packet)) || rewrite::<V4>(context, mbuf, packet)
}

fn state(packet: &Packet) -> ChecksumState {
    match packet.pending.checksum {
        true => ChecksumState::Partial,
        false => ChecksumState::Complete,
    }
}

/// Any packet of a session, and errors about it.
#[cold]
fn rewrite<F: Family>(context: &Context<'_>, mbuf: &mut Mbuf, packet: &Packet) -> bool {
    let table = F::table(context.shared);
    let (Some(own), Some(answers)) = (table.get(packet.session), table.get(packet.session.peer())) else {
        return false;
    };
    let length = mbuf.len();
    let Ok(ip) = ip::parse(mbuf.data(), length) else {
        return false;
    };
    let (own, answers) = (own.key(), answers.key());
    let new = answers.reversed(F::vrf(&own));
    let l3 = mbuf.data_mut();
    if quote::parse(l3, &ip).is_some() {
        return error::<F>(l3, &ip, &own, &new);
    }
    rewrite::translate(l3, &ip, &between::<F>(&own, &new), state(packet)).is_ok()
}

/// An error about what went the other way, from whoever noticed it: only the end itself is translated.
fn error<F: Family>(l3: &mut [u8], ip: &IpPacket, own: &F::Key, new: &F::Key) -> bool {
    let packet = between::<F>(own, new);
    let outer = Translation {
        source: packet
            .source
            .filter(|_| ip.source() == F::address(F::source(own))),
        destination: packet.destination,
        ..Translation::default()
    };
    let quoted = Translation {
        source: packet.destination,
        destination: packet.source,
        source_port: packet.destination_port,
        destination_port: packet.source_port,
    };
    quote::translate(l3, ip, &outer, &quoted).is_ok()
}

/// What is different in the new key.
fn between<F: Family>(old: &F::Key, new: &F::Key) -> Translation {
    let address = |old: F::Address, new: F::Address| (old != new).then(|| F::address(new));
    let port = |old: u16, new: u16| (old != new).then_some(new);
    let (old_ports, new_ports): (Tuple, Tuple) = (F::ports(old), F::ports(new));
    Translation {
        source: address(F::source(old), F::source(new)),
        destination: address(F::destination(old), F::destination(new)),
        source_port: port(old_ports.source_port, new_ports.source_port),
        destination_port: port(old_ports.destination_port, new_ports.destination_port),
    }
}
