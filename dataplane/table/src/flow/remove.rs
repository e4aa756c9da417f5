//! Taking sessions out: at request, or when they have been idle for too long.

use super::{
    bucket::tag_of,
    index::{DirectionIndex, SessionIndex},
    key::Key,
    table::{FlowTable, WorkerFlows, add_own, state},
    tcp::TcpState,
};
use crate::sync::Ordering;

/// What became of a removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removed {
    /// This call took the session out.
    Done,
    /// It was out already, or another worker is taking it out.
    NotThere,
    /// Another worker holds one of its buckets and does not come round; it stays.
    Busy,
}

/// How many sessions a sweep asks for ahead.
const AHEAD: u32 = 8;

impl<K: Key> FlowTable<K> {
    /// Takes a session out, both directions as one step. Its number is used again after a grace period.
    pub fn remove(&self, worker: &mut WorkerFlows, session: SessionIndex) -> Removed {
        let record = &self.records[session.index()];
        let live = record.state.load(Ordering::Acquire);
        if !state::is_live(live) {
            return Removed::NotThere;
        }
        let leaving = live & !state::MASK | state::LEAVING;
        if record
            .state
            .compare_exchange(live, leaving, Ordering::AcqRel, Ordering::Relaxed)
            .is_err()
        {
            return Removed::NotThere;
        }
        let hashes = [session.initiator(), session.reverse()]
            .map(|direction| self.hash(&self.direction(direction).key()));
        let Some(held) = self.lock(self.primary(hashes[0]), self.primary(hashes[1])) else {
            record.state.store(live, Ordering::Release);
            return Removed::Busy;
        };
        self.unlink(worker, hashes[0], session.initiator());
        self.unlink(worker, hashes[1], session.reverse());
        drop(held);
        worker.sessions.retire(session.0, &self.sessions, &self.domain);
        add_own(&self.counters[worker.worker].removed, 1);
        Removed::Done
    }

    /// Takes a direction's entry out of its locked chain; a session with two equal keys has none for its reverse.
    fn unlink(&self, worker: &mut WorkerFlows, hash: u64, direction: DirectionIndex) {
        let tag = tag_of(hash);
        let mut before = None;
        let mut at = self.primary(hash);
        loop {
            let bucket = self.bucket(at);
            let words = bucket.words();
            let mut matches = words.matches(tag);
            while matches != 0 {
                let slot = matches.trailing_zeros() as usize;
                if bucket.number(slot) == direction {
                    bucket.clear(slot);
                    if let Some(before) = before
                        && bucket.words().is_empty()
                    {
                        // Readers inside it go on along its own link, which stays as it is until nobody reads it.
                        self.bucket(before).set_link(words.link());
                        worker
                            .overflow
                            .retire(at - self.primaries, &self.overflow, &self.domain);
                    }
                    return;
                }
                matches &= matches - 1;
            }
            let Some(overflow) = words.link() else { return };
            before = Some(at);
            at = self.primaries + overflow;
        }
    }

    /// Looks at the next `slots` sessions and takes out those that were idle for longer than `timeout` says for
    /// their protocol and state, in seconds; returns how many. Workers share one round through the table. Also
    /// brings freed numbers whose grace period is over back into use; to be called at burst boundaries, with few
    /// slots each.
    pub fn sweep(
        &self,
        worker: &mut WorkerFlows,
        slots: u32,
        now: u32,
        timeout: impl Fn(u8, TcpState) -> u32,
    ) -> u32 {
        worker.sessions.tend(&self.sessions, &self.domain);
        worker.overflow.tend(&self.overflow, &self.domain);
        // What was never used need not be looked at.
        let used = self.sessions.mark();
        if used == 0 || slots == 0 {
            return 0;
        }
        let slots = slots.min(used);
        let start = self.cursor.fetch_add(slots, Ordering::Relaxed) % used;
        let mut expired = 0;
        for offset in 0..slots {
            let at =
                |offset: u32| SessionIndex(((u64::from(start) + u64::from(offset)) % u64::from(used)) as u32);
            self.prefetch_session(at(offset + AHEAD));
            let session = at(offset);
            if state::is_live(self.records[session.index()].state.load(Ordering::Acquire))
                && self.idle(session, now) > self.timeout(session, &timeout)
                && self.remove(worker, session) == Removed::Done
            {
                expired += 1;
            }
        }
        if expired > 0 {
            add_own(&self.counters[worker.worker].expired, u64::from(expired));
        }
        expired
    }

    /// Seconds since either direction's last packet. Another worker's clock may be a second ahead of `now`.
    fn idle(&self, session: SessionIndex, now: u32) -> u32 {
        [session.initiator(), session.reverse()]
            .map(|direction| (now.wrapping_sub(self.direction(direction).last_seen()) as i32).max(0) as u32)
            .into_iter()
            .fold(u32::MAX, u32::min)
    }

    fn timeout(&self, session: SessionIndex, timeout: impl Fn(u8, TcpState) -> u32) -> u32 {
        timeout(
            self.direction(session.initiator()).key().protocol(),
            self.tcp_state(session),
        )
    }
}
