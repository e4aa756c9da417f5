//! Counting: each worker counts for itself in plain memory, and hands a copy over at a burst boundary when asked.
//!
//! So the packet path pays one add a counter, and what is read is consistent: at a burst boundary a worker's books
//! balance (received + created = sent + delivered + merged + dropped + held).

use std::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering},
};

use weft_table::PortId;

use crate::drops::Reason;

/// How many ports a vRouter counts for.
pub const MAX_PORTS: usize = 4096;
/// Ports whose counts are copied together.
const PAGE: usize = MAX_PORTS / u64::BITS as usize;

/// The stages whose cycles are counted, in the order of the pipeline.
pub const STAGES: [&str; 10] = [
    "rx", "classify", "flow", "forward", "policy", "learn", "apply", "tx", "age", "idle",
];

/// Index into [`STAGES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
#[allow(missing_docs)]
pub enum Stage {
    Receive,
    Classify,
    Flow,
    Forward,
    Policy,
    Learn,
    Apply,
    Transmit,
    /// Of sessions, between two rounds.
    Age,
    Idle,
}

/// One port's counts on one worker.
#[derive(Clone, Copy)]
#[allow(missing_docs)]
pub struct PortCounters {
    pub rx_packets: u64,
    pub rx_bytes: u64,
    pub tx_packets: u64,
    pub tx_bytes: u64,
    pub drops: [u64; Reason::ALL.len()],
}

impl PortCounters {
    /// All zero.
    pub const ZERO: Self = PortCounters {
        rx_packets: 0,
        rx_bytes: 0,
        tx_packets: 0,
        tx_bytes: 0,
        drops: [0; Reason::ALL.len()],
    };

    /// Adds another's counts.
    pub fn add(&mut self, other: &Self) {
        self.rx_packets += other.rx_packets;
        self.rx_bytes += other.rx_bytes;
        self.tx_packets += other.tx_packets;
        self.tx_bytes += other.tx_bytes;
        for (mine, its) in self.drops.iter_mut().zip(&other.drops) {
            *mine += its;
        }
    }
}

/// The worker's books. Packets of devices only: what a sub-interface counts is counted here once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Books {
    pub received: u64,
    /// Made here: segments and fragments beyond the first, answers and requests of the vRouter's own.
    pub created: u64,
    pub sent: u64,
    /// Ended at the vRouter itself: answered, learned from.
    pub delivered: u64,
    pub merged: u64,
    pub dropped: u64,
    /// Fragments that wait for the first of their datagram.
    pub held: u64,
}

/// Classes of durations a doubling.
const CLASSES_A_DOUBLING: usize = 4;

/// How often something took how long, in classes that are a fifth wide: counting is a shift and an add, and what was
/// longest between two readings can be told.
#[derive(Clone, Copy)]
pub struct Durations([u64; 64 * CLASSES_A_DOUBLING]);

impl Default for Durations {
    fn default() -> Self {
        Durations([0; 64 * CLASSES_A_DOUBLING])
    }
}

impl Durations {
    /// Counts one that took so many cycles.
    #[inline(always)]
    pub fn count(&mut self, cycles: u64) {
        let cycles = cycles.max(CLASSES_A_DOUBLING as u64);
        let doublings = cycles.ilog2() as usize;
        let class = (cycles >> (doublings - 2)) as usize % CLASSES_A_DOUBLING;
        self.0[doublings * CLASSES_A_DOUBLING + class] += 1;
    }

    /// The classes that are not empty, shortest first: below how many cycles, and how often.
    pub fn classes(&self) -> impl Iterator<Item = (u64, u64)> {
        let counted = self.0.iter().enumerate().filter(|(_, count)| **count > 0);
        counted.map(|(class, count)| {
            let (doublings, part) = (class / CLASSES_A_DOUBLING, class % CLASSES_A_DOUBLING);
            let below = ((CLASSES_A_DOUBLING + part + 1) as u128) << (doublings - 2);
            (u64::try_from(below).unwrap_or(u64::MAX), *count)
        })
    }
}

/// Everything that one worker counts.
#[derive(Clone)]
#[allow(missing_docs)]
pub struct Counters {
    ports: Box<[PortCounters]>,
    /// Pages of ports that were counted for since the last copy, a bit each.
    touched: u64,
    pub books: Books,
    pub bursts: u64,
    /// From the beginning of one round to that of the next: for so long a packet may wait to be seen.
    pub rounds: Durations,
    pub stage_cycles: [u64; STAGES.len()],
    pub stage_packets: [u64; STAGES.len()],
}

impl Default for Counters {
    fn default() -> Self {
        Counters {
            ports: vec![PortCounters::ZERO; MAX_PORTS].into_boxed_slice(),
            touched: 0,
            books: Books::default(),
            bursts: 0,
            rounds: Durations::default(),
            stage_cycles: [0; STAGES.len()],
            stage_packets: [0; STAGES.len()],
        }
    }
}

impl Counters {
    /// A packet that came by `port` was dropped.
    #[inline(always)]
    pub fn drop(&mut self, port: PortId, reason: Reason) {
        self.drops(port, reason, 1);
    }

    /// Several packets that came by `port` were dropped.
    #[inline(always)]
    pub fn drops(&mut self, port: PortId, reason: Reason, packets: u64) {
        self.books.dropped += packets;
        if let Some(counters) = self.port(port) {
            counters.drops[reason as usize] += packets;
        }
    }

    /// Counts of a port; None: a number beyond [`MAX_PORTS`], which the control thread never hands out.
    #[inline(always)]
    pub fn port(&mut self, port: PortId) -> Option<&mut PortCounters> {
        let index = port.index();
        self.touched |= 1_u64.wrapping_shl((index / PAGE) as u32);
        self.ports.get_mut(index)
    }

    /// Counts of every port, by number.
    pub fn ports(&self) -> &[PortCounters] {
        &self.ports
    }

    /// Brings `copy` up to date. All ports' counts are over a megabyte: only the pages that changed are copied, so that
    /// a reader holds the worker up for microseconds.
    fn copy_to(&mut self, copy: &mut Counters) {
        let mut touched = std::mem::take(&mut self.touched);
        while touched != 0 {
            let page = touched.trailing_zeros() as usize * PAGE;
            copy.ports[page..page + PAGE].copy_from_slice(&self.ports[page..page + PAGE]);
            touched &= touched - 1;
        }
        copy.books = self.books;
        copy.bursts = self.bursts;
        copy.rounds = self.rounds;
        copy.stage_cycles = self.stage_cycles;
        copy.stage_packets = self.stage_packets;
    }
}

/// Where a worker leaves a copy of its counters when asked.
pub struct Mailbox {
    wanted: AtomicU64,
    answered: AtomicU64,
    copy: Mutex<Counters>,
}

impl Default for Mailbox {
    fn default() -> Self {
        Mailbox {
            wanted: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            copy: Mutex::default(),
        }
    }
}

impl Mailbox {
    /// Asks for a copy; the ticket tells when it is there.
    pub fn ask(&self) -> u64 {
        self.wanted.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// Whether a copy at least as new as the ticket is there.
    pub fn answered(&self, ticket: u64) -> bool {
        self.answered.load(Ordering::Acquire) >= ticket
    }

    /// The newest copy.
    pub fn read(&self) -> std::sync::MutexGuard<'_, Counters> {
        self.copy
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The worker's side, at a burst boundary: one load when nobody asked. Never waits: a reader that holds the copy
    /// gets the next one.
    #[inline(always)]
    pub fn serve(&self, counters: &mut Counters) {
        let wanted = self.wanted.load(Ordering::Relaxed);
        if wanted != self.answered.load(Ordering::Relaxed) {
            self.answer(counters, wanted);
        }
    }

    #[cold]
    fn answer(&self, counters: &mut Counters, wanted: u64) {
        if let Ok(mut copy) = self.copy.try_lock() {
            counters.copy_to(&mut copy);
            self.answered.store(wanted, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_handed_over_only_when_asked() {
        let (mailbox, mut counters) = (Mailbox::default(), Counters::default());
        counters.drop(PortId(3), Reason::NoRoute);
        mailbox.serve(&mut counters);
        assert_eq!(mailbox.read().books.dropped, 0);
        let ticket = mailbox.ask();
        assert!(!mailbox.answered(ticket));
        mailbox.serve(&mut counters);
        assert!(mailbox.answered(ticket));
        assert_eq!(mailbox.read().ports()[3].drops[Reason::NoRoute as usize], 1);
    }

    #[test]
    fn each_copy_has_the_newest_counts_of_every_port() {
        let (mailbox, mut counters) = (Mailbox::default(), Counters::default());
        for (round, port) in [0, 63, 64, 4095, 63, MAX_PORTS as u16].into_iter().enumerate() {
            counters.drop(PortId(port), Reason::NoRoute);
            mailbox.ask();
            mailbox.serve(&mut counters);
            let copy = mailbox.read();
            assert_eq!(copy.books.dropped, round as u64 + 1);
            let same = |(copied, own): (&PortCounters, &PortCounters)| copied.drops == own.drops;
            assert!(
                copy.ports().iter().zip(counters.ports()).all(same),
                "after port {port}"
            );
        }
    }

    #[test]
    fn durations_fall_into_classes_a_fifth_wide() {
        let mut durations = Durations::default();
        for cycles in [0, 1000, 1023, 1024, 1279, 1280, u64::MAX] {
            durations.count(cycles);
        }
        let classes: Vec<_> = durations.classes().collect();
        assert_eq!(classes, [(5, 1), (1024, 2), (1280, 2), (1536, 1), (u64::MAX, 1)]);
    }

    #[test]
    fn a_worker_does_not_wait_for_a_reader() {
        let (mailbox, mut counters) = (Mailbox::default(), Counters::default());
        let ticket = mailbox.ask();
        let reader = mailbox.read();
        mailbox.serve(&mut counters);
        assert!(!mailbox.answered(ticket));
        drop(reader);
        mailbox.serve(&mut counters);
        assert!(mailbox.answered(ticket));
    }
}
