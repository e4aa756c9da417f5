//! Listing sessions from outside the workers: what a session says is of one life, though it may change while read.

use super::{
    direction::Decided,
    index::{DirectionIndex, SessionIndex},
    key::Key,
    table::{FlowTable, state},
    tcp::TcpState,
};
use crate::sync::{Ordering, fence};

/// One direction as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectionRecord<K> {
    /// What its packets are found by.
    pub key: K,
    /// What is done with them.
    pub decided: Decided,
    /// Packets counted.
    pub packets: u64,
    /// Bytes counted.
    pub bytes: u64,
    /// Second of the last packet.
    pub last_seen: u32,
}

/// A session as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionRecord<K> {
    /// Its number now.
    pub session: SessionIndex,
    /// Second of its first packet.
    pub created: u32,
    /// How far it is, if it is TCP.
    pub tcp: TcpState,
    /// The direction of its first packet.
    pub initiator: DirectionRecord<K>,
    /// The direction of the answers.
    pub reverse: DirectionRecord<K>,
}

impl<K: Key> FlowTable<K> {
    /// Shows every session that lives throughout the call, and some of those that come or go meanwhile. Any thread;
    /// no worker waits for it. `show` returns false to end it.
    pub fn for_each(&self, mut show: impl FnMut(&SessionRecord<K>) -> bool) {
        for number in 0..self.sessions.mark() {
            if let Some(record) = self.record(SessionIndex(number))
                && !show(&record)
            {
                return;
            }
        }
    }

    /// Reads one session; None: there is none with this number.
    pub fn record(&self, session: SessionIndex) -> Option<SessionRecord<K>> {
        let record = self.records.get(session.index())?;
        // Read again if the number changed hands meanwhile; more than a few times in a row it cannot, since a grace
        // period lies between.
        for _ in 0..4 {
            let before = record.state.load(Ordering::Acquire);
            if !state::is_live(before) {
                return None;
            }
            let read = SessionRecord {
                session,
                created: record.created.load(Ordering::Relaxed),
                tcp: self.tcp_state(session),
                initiator: self.read(session.initiator()),
                reverse: self.read(session.reverse()),
            };
            fence(Ordering::Acquire);
            if record.state.load(Ordering::Relaxed) == before {
                return Some(read);
            }
        }
        None
    }

    fn read(&self, direction: DirectionIndex) -> DirectionRecord<K> {
        let direction = self.direction(direction);
        DirectionRecord {
            key: direction.key(),
            decided: direction.decided(),
            packets: direction.packets(),
            bytes: direction.bytes(),
            last_seen: direction.last_seen(),
        }
    }
}
