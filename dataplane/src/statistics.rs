//! Counting: each worker counts for itself in plain memory, and hands a copy over at a burst boundary when asked.
//!
//! So the packet path pays one add a counter, and what is read is consistent: at a burst boundary a worker's books
//! balance (received + created = sent + delivered + merged + dropped).

use std::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering},
};

use weft_table::PortId;

use crate::drops::Reason;

/// How many ports a vRouter counts for.
pub const MAX_PORTS: usize = 4096;

/// The stages whose cycles are counted, in the order of the pipeline.
pub const STAGES: [&str; 7] = ["rx", "classify", "flow", "miss", "apply", "tx", "idle"];

/// Index into [`STAGES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
#[allow(missing_docs)]
pub enum Stage {
    Receive,
    Classify,
    Flow,
    Miss,
    Apply,
    Transmit,
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
}

/// Everything that one worker counts.
#[derive(Clone)]
#[allow(missing_docs)]
pub struct Counters {
    pub ports: Box<[PortCounters]>,
    pub books: Books,
    pub bursts: u64,
    pub stage_cycles: [u64; STAGES.len()],
    pub stage_packets: [u64; STAGES.len()],
}

impl Default for Counters {
    fn default() -> Self {
        Counters {
            ports: vec![PortCounters::ZERO; MAX_PORTS].into_boxed_slice(),
            books: Books::default(),
            bursts: 0,
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
        if let Some(counters) = self.ports.get_mut(port.index()) {
            counters.drops[reason as usize] += packets;
        }
    }

    /// Counts of a port; None: a number beyond [`MAX_PORTS`], which the control thread never hands out.
    #[inline(always)]
    pub fn port(&mut self, port: PortId) -> Option<&mut PortCounters> {
        self.ports.get_mut(port.index())
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
    pub fn serve(&self, counters: &Counters) {
        let wanted = self.wanted.load(Ordering::Relaxed);
        if wanted != self.answered.load(Ordering::Relaxed) {
            self.answer(counters, wanted);
        }
    }

    #[cold]
    fn answer(&self, counters: &Counters, wanted: u64) {
        if let Ok(mut copy) = self.copy.try_lock() {
            copy.ports.copy_from_slice(&counters.ports);
            copy.books = counters.books;
            copy.bursts = counters.bursts;
            copy.stage_cycles = counters.stage_cycles;
            copy.stage_packets = counters.stage_packets;
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
        mailbox.serve(&counters);
        assert_eq!(mailbox.read().books.dropped, 0);
        let ticket = mailbox.ask();
        assert!(!mailbox.answered(ticket));
        mailbox.serve(&counters);
        assert!(mailbox.answered(ticket));
        assert_eq!(mailbox.read().ports[3].drops[Reason::NoRoute as usize], 1);
    }

    #[test]
    fn a_worker_does_not_wait_for_a_reader() {
        let (mailbox, counters) = (Mailbox::default(), Counters::default());
        let ticket = mailbox.ask();
        let reader = mailbox.read();
        mailbox.serve(&counters);
        assert!(!mailbox.answered(ticket));
        drop(reader);
        mailbox.serve(&counters);
        assert!(mailbox.answered(ticket));
    }
}
