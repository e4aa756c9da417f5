//! Send: packets are gathered a device, and handed over together when the burst is done.
//!
//! What the driver does not take is dropped and counted at the port by which it came.
//!
//! Drops: transmit-full, port-down.

use std::sync::{Arc, atomic::Ordering};

use weft_packet::{
    ethernet::{self, Ethernet, Tag},
    vlan,
};
use weft_table::PortId;

use super::Context;
use crate::{
    dpdk::{BURST, Batch, Mbuf},
    drops::Reason,
    port::Driver,
    snapshot::Port,
    statistics::MAX_PORTS,
};

/// Packets for one device.
struct Gathered {
    /// Device.
    port: PortId,
    driver: Option<Arc<Driver>>,
    batch: Batch,
    /// Ports that the packets are counted at: of arrival, of departure. And their bytes.
    origins: [(PortId, PortId, u32); BURST],
}

/// What a burst sends. A burst leads to as many devices as it has packets at most.
pub struct Transmit {
    gathered: Vec<Gathered>,
    used: usize,
    /// Place in `gathered` by port; NOWHERE: none yet.
    place: Box<[u8; MAX_PORTS]>,
}

const NOWHERE: u8 = u8::MAX;

impl Default for Transmit {
    fn default() -> Self {
        let vacant = || Gathered {
            port: PortId(0),
            driver: None,
            batch: Batch::new(),
            origins: [(PortId(0), PortId(0), 0); BURST],
        };
        Transmit {
            gathered: std::iter::repeat_with(vacant).take(BURST).collect(),
            used: 0,
            place: Box::new([NOWHERE; MAX_PORTS]),
        }
    }
}

/// Adds a complete frame for `egress`; `origin` is the port by which it came.
#[inline]
pub fn push(context: &mut Context<'_>, mbuf: Mbuf, origin: PortId, egress: &Port) {
    let transmit = &mut *context.transmit;
    let device = egress.device.index() % MAX_PORTS;
    if transmit.place[device] == NOWHERE {
        if transmit.used == transmit.gathered.len() {
            flush(context);
        }
        open(context, egress);
    }
    let place = usize::from(context.transmit.place[device]);
    if context.transmit.gathered[place].batch.is_full() {
        send(context, place);
    }
    let gathered = &mut context.transmit.gathered[place];
    let slot = gathered.batch.len();
    gathered.origins[slot] = (origin, egress.id, mbuf.len() as u32);
    // There is room: it was sent off if it was full.
    let _ = gathered.batch.push(mbuf);
}

fn open(context: &mut Context<'_>, egress: &Port) {
    let transmit = &mut *context.transmit;
    let place = transmit.used;
    transmit.used += 1;
    transmit.place[egress.device.index() % MAX_PORTS] = place as u8;
    let gathered = &mut transmit.gathered[place];
    gathered.port = egress.device;
    gathered.driver = Some(Arc::clone(&egress.driver));
}

/// Sends all that was gathered.
pub fn flush(context: &mut Context<'_>) {
    for place in 0..context.transmit.used {
        send(context, place);
        let gathered = &mut context.transmit.gathered[place];
        gathered.driver = None;
        let port = gathered.port.index();
        context.transmit.place[port % MAX_PORTS] = NOWHERE;
    }
    context.transmit.used = 0;
}

fn send(context: &mut Context<'_>, place: usize) {
    let (gathered, counters) = (&mut context.transmit.gathered[place], &mut *context.counters);
    let Some(driver) = &gathered.driver else { return };
    let offered = gathered.batch.len();
    let sent = driver.transmit(driver.transmit_queue(context.worker), &mut gathered.batch);
    counters.books.sent += sent as u64;
    for (_, port, bytes) in &gathered.origins[..sent] {
        if let Some(counters) = counters.port(*port) {
            counters.tx_packets += 1;
            counters.tx_bytes += u64::from(*bytes);
        }
    }
    if sent < offered {
        let device = context.snapshot.port(gathered.port);
        let up = device.is_some_and(|device| device.link_up.load(Ordering::Relaxed));
        let reason = if up {
            Reason::TransmitFull
        } else {
            Reason::PortDown
        };
        for (origin, _, _) in &gathered.origins[sent..offered] {
            counters.drop(*origin, reason);
        }
        gathered.batch.free_all();
    }
}

/// Sends a frame of the host as it is, under the uplink's tag.
pub fn frame_by_uplink(context: &mut Context<'_>, mut mbuf: Mbuf, uplink: &Port) {
    if let Some(vlan) = uplink.vlan {
        let room = mbuf.prepend(vlan::TAG_LEN).is_some();
        if !room || vlan::push(mbuf.data_mut(), Tag::new(vlan)).is_err() {
            return context.drop(mbuf, uplink.id, Reason::TooBig);
        }
    }
    push(context, mbuf, uplink.id, uplink);
}

/// Takes the tags off a frame.
pub fn untag(mbuf: &mut Mbuf, ethernet: &Ethernet) -> Result<(), Reason> {
    let tags = usize::from(ethernet.l3_offset) - ethernet::HEADER_LEN;
    if tags > 0 {
        mbuf.data_mut().copy_within(..12, tags);
        if !mbuf.trim_front(tags) {
            return Err(Reason::Malformed);
        }
    }
    Ok(())
}
