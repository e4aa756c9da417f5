//! Choose who serves a session to a virtual IP: a backend of the service that has the protocol and port.
//!
//! A virtual IP is a route of its VRF. [`forward`](super::forward) asks here when a packet's way comes by it, and goes on to
//! the backend by the same VRF's routes; the session then says it all, see [`nat`](super::nat). It stays with its backend
//! as long as the service has that and it is not down. Backends see the client's own address, unless the service has a
//! pool for its sources. A backend that reaches itself sees the virtual IP: its answers would never leave it otherwise.
//!
//! Pings to the virtual IP are answered by the vRouter itself, as those to a gateway are.
//!
//! Drops: service-port, no-backend; who sent the packet is told that nobody listens.

use weft_packet::{ip::protocol, l4::Tuple};
use weft_table::flow::{DirectionIndex, Key};

use super::{
    Context,
    family::Family,
    nat::{Start, Translators},
};
use crate::{
    drops::Reason,
    snapshot::{Backend, CLOSED, Client, OPENED, Service, Snapshot, VirtualIp},
};

/// What a packet asks of a virtual IP, should its way come by one.
#[derive(Clone, Copy)]
pub struct Sought<A> {
    protocol: u8,
    source: A,
    ports: Tuple,
    /// Of the session that the packet belongs to.
    backend: Option<A>,
}

impl<A: Copy> Sought<A> {
    /// Of a packet with this key, by its session if it has one.
    pub fn new<F: Family<Address = A>>(context: &Context<'_>, key: &F::Key, found: DirectionIndex) -> Self {
        let session = F::table(context.shared).get(found.peer());
        Sought {
            protocol: key.protocol(),
            source: F::source(key),
            ports: F::ports(key),
            backend: session
                .filter(|_| found.is_some())
                .map(|answers| F::source(&answers.key())),
        }
    }

    /// Whether a service can have it: the rest is the vRouter's own.
    pub fn is_served(&self) -> bool {
        !matches!(self.protocol, protocol::ICMP | protocol::ICMPV6)
    }
}

/// The backend for a packet, and what its session depends on besides routes. Notes how it is translated.
pub fn choose<F: Family>(
    context: &Context<'_>,
    virtual_ip: &VirtualIp,
    sought: &Sought<F::Address>,
    by: &mut Translators,
) -> Result<(F::Address, u32), Reason> {
    let Tuple {
        source_port,
        destination_port,
    } = sought.ports;
    let served = virtual_ip.service(sought.protocol, destination_port);
    let (service, port) = served.ok_or(Reason::ServicePort)?;
    let stays = sought
        .backend
        .filter(|backend| service.keeps(F::address(*backend)));
    let client = Client {
        end: (F::address(sought.source), source_port),
        port: destination_port,
        now: context.now,
        supposed: context.watch.is_some(),
    };
    let backend = stays.or_else(|| F::of_ip(service.choose(&client)?));
    let backend = backend.ok_or(Reason::NoBackend)?;
    by.destination = Some(service.id);
    by.inside = Some((F::address(backend), port.target.unwrap_or(destination_port)));
    if let Some(pool) = service.spec.source_pool {
        context.snapshot.pool(pool).ok_or(Reason::NatExhausted)?;
        by.source = Some(pool);
    } else if by.source.is_none() && sought.source == backend {
        by.source = Some(service.id);
        by.mapping = Some((virtual_ip.address, source_port));
    }
    Ok((backend, service.object.0))
}

/// Where the way of answers begins, if who opened their session knows who answers as a virtual IP. `Some(None)`: the
/// service does not have the backend any more.
pub fn answering<F: Family>(snapshot: &Snapshot, opens: &F::Key, answers: &F::Key) -> Option<Option<Start>> {
    let virtual_ip = virtual_ip::<F>(snapshot, opens, answers)?;
    let known = F::ports(opens).destination_port;
    let served = virtual_ip
        .service(opens.protocol(), known)
        .filter(|(service, port)| {
            let target = port.target.unwrap_or(known);
            service.keeps(F::address(F::source(answers))) && F::ports(answers).source_port == target
        });
    Some(served.map(|(service, _)| start::<F>(service, opens)))
}

/// Answers to a session with a service are routed where its virtual IP is, and come from there.
pub fn start<F: Family>(service: &Service, opens: &F::Key) -> Start {
    Start {
        vrf: service.spec.vrf,
        source: Some(service.id),
        mapping: Some((
            F::address(F::destination(opens)),
            F::ports(opens).destination_port,
        )),
        object: service.object.0,
        opens: false,
    }
}

/// The virtual IP that a session with these keys goes to: that of the VRF in which backends answer, or of that in which
/// the session was opened.
fn virtual_ip<'a, F: Family>(
    snapshot: &'a Snapshot,
    opens: &F::Key,
    answers: &F::Key,
) -> Option<&'a VirtualIp> {
    if snapshot.virtual_ip_index.is_empty() || F::destination(opens) == F::source(answers) {
        return None;
    }
    let address = F::address(F::destination(opens));
    let at = |vrf| snapshot.virtual_ip_at(vrf, address);
    at(F::vrf(answers)).or_else(|| at(F::vrf(opens)))
}

fn backend<'a, F: Family>(snapshot: &'a Snapshot, opens: &F::Key, answers: &F::Key) -> Option<&'a Backend> {
    let virtual_ip = virtual_ip::<F>(snapshot, opens, answers)?;
    let (service, _) = virtual_ip.service(opens.protocol(), F::ports(opens).destination_port)?;
    let position = service.position(F::address(F::source(answers)))?;
    service.backends.get(position)
}

/// A session with these keys was put in.
pub fn opened<F: Family>(snapshot: &Snapshot, worker: u16, opens: &F::Key, answers: &F::Key) {
    if let Some(backend) = backend::<F>(snapshot, opens, answers) {
        backend.sessions.count(worker, OPENED);
    }
}

/// A session with these keys was taken out.
pub fn closed<F: Family>(snapshot: &Snapshot, worker: u16, opens: &F::Key, answers: &F::Key) {
    if let Some(backend) = backend::<F>(snapshot, opens, answers) {
        backend.sessions.count(worker, CLOSED);
    }
}
