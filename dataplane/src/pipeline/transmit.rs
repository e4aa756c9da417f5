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
    statistics::{Counters, MAX_PORTS},
};

/// Packets for one device.
struct Gathered {
    /// Device.
    port: PortId,
    driver: Option<Arc<Driver>>,
    /// Each notes the ports that it is counted at.
    batch: Batch,
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
        };
        Transmit {
            gathered: std::iter::repeat_with(vacant).take(BURST).collect(),
            used: 0,
            place: Box::new([NOWHERE; MAX_PORTS]),
        }
    }
}

/// Adds a complete frame for `egress`; `origin` is the port by which it came.
#[inline(always)]
pub fn push(context: &mut Context<'_>, mut mbuf: Mbuf, origin: PortId, egress: &Port) {
    let mut place = usize::from(context.transmit.place[egress.device.index() % MAX_PORTS]);
    let room = context.transmit.gathered.get(place);
    if room.is_none_or(|gathered| gathered.batch.is_full()) {
        place = make_room(context, egress);
    }
    mbuf.set_ports(origin.0, egress.id.0);
    if let Some(gathered) = context.transmit.gathered.get_mut(place) {
        // There is room: it was sent off if it was full.
        let _ = gathered.batch.push(mbuf);
    }
}

/// Where the next frame of a device goes: a place of its own, or its place, emptied.
#[cold]
fn make_room(context: &mut Context<'_>, egress: &Port) -> usize {
    let device = egress.device.index() % MAX_PORTS;
    if context.transmit.place[device] != NOWHERE {
        let place = usize::from(context.transmit.place[device]);
        send(context, place);
        return place;
    }
    if context.transmit.used == context.transmit.gathered.len() {
        flush(context);
    }
    let transmit = &mut *context.transmit;
    let place = transmit.used;
    transmit.used += 1;
    transmit.place[device] = place as u8;
    let gathered = &mut transmit.gathered[place];
    gathered.port = egress.device;
    gathered.driver = Some(Arc::clone(&egress.driver));
    place
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
    // Counted before they are gone; what the driver does not take is taken back.
    count(&gathered.batch, counters);
    let sent = driver.transmit(driver.transmit_queue(context.worker), &mut gathered.batch);
    counters.books.sent += sent as u64;
    if sent < offered {
        let device = context.snapshot.port(gathered.port);
        let up = device.is_some_and(|device| device.link_up.load(Ordering::Relaxed));
        refused(&mut gathered.batch, up, counters);
    }
}

/// Counts at the ports of departure: a run for one port at once.
#[inline]
fn count(batch: &Batch, counters: &mut Counters) {
    for run in batch
        .as_slice()
        .chunk_by(|before, next| before.ports().1 == next.ports().1)
    {
        if let Some(counters) = counters.port(PortId(run[0].ports().1)) {
            counters.tx_packets += run.len() as u64;
            counters.tx_bytes += run.iter().map(|mbuf| mbuf.len() as u64).sum::<u64>();
        }
    }
}

/// Ends what a driver did not take.
#[cold]
fn refused(batch: &mut Batch, up: bool, counters: &mut Counters) {
    let reason = if up {
        Reason::TransmitFull
    } else {
        Reason::PortDown
    };
    for mbuf in batch.iter() {
        let (arrival, departure) = mbuf.ports();
        if let Some(counters) = counters.port(PortId(departure)) {
            counters.tx_packets -= 1;
            counters.tx_bytes -= mbuf.len() as u64;
        }
        counters.drop(PortId(arrival), reason);
    }
    batch.free_all();
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
