//! Taking sessions out: at request, or when they have been idle for too long.

use super::{
    bucket::tag_of,
    index::{DirectionIndex, SessionIndex},
    key::Key,
    table::{FlowTable, WorkerFlows, add_own, state},
    tags::prefetch_to_write,
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

/// How many sessions a sweep finds idle before it takes them out, while their buckets come.
const BLOCK: usize = 16;

/// A session that is to be taken out.
#[derive(Clone, Copy)]
struct Leaver {
    session: SessionIndex,
    /// Its record's state: another life has another.
    state: u32,
    hashes: [u64; 2],
}

impl<K: Key> FlowTable<K> {
    /// Takes a session out, both directions as one step. Its number is used again after a grace period.
    pub fn remove(&self, worker: &mut WorkerFlows, session: SessionIndex) -> Removed {
        let state = self.records[session.index()].state.load(Ordering::Acquire);
        if !self.leave(session, state) {
            return Removed::NotThere;
        }
        let hashes = self.hashes(session);
        self.take_out(
            worker,
            &Leaver {
                session,
                state,
                hashes,
            },
        )
    }

    /// Whether it falls to the caller to take this life of a session out.
    fn leave(&self, session: SessionIndex, state: u32) -> bool {
        let leaving = state & !state::MASK | state::LEAVING;
        state::is_live(state)
            && self.records[session.index()]
                .state
                .compare_exchange(state, leaving, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
    }

    /// The keys of a session that lives, the initiator's first.
    pub fn keys(&self, session: SessionIndex) -> [K; 2] {
        [session.initiator(), session.reverse()].map(|direction| self.direction(direction).key())
    }

    #[inline(always)]
    fn hashes(&self, session: SessionIndex) -> [u64; 2] {
        [session.initiator(), session.reverse()].map(|direction| self.hash(&self.direction(direction).key()))
    }

    /// Takes out what [`Self::leave`] gave to the caller.
    fn take_out(&self, worker: &mut WorkerFlows, leaver: &Leaver) -> Removed {
        let Leaver {
            session,
            state,
            hashes,
        } = *leaver;
        let Some(held) = self.lock(self.primary(hashes[0]), self.primary(hashes[1])) else {
            self.records[session.index()]
                .state
                .store(state, Ordering::Release);
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
        timeout: impl Fn(&K, TcpState) -> u32,
    ) -> u32 {
        self.sweep_with(worker, slots, now, timeout, |_, _| {})
    }

    /// As [`sweep`](Self::sweep); calls `left` with both keys of each session that it took out, the initiator's first.
    pub fn sweep_with(
        &self,
        worker: &mut WorkerFlows,
        slots: u32,
        now: u32,
        timeout: impl Fn(&K, TcpState) -> u32,
        mut left: impl FnMut(&K, &K),
    ) -> u32 {
        worker.sessions.tend(&self.sessions, &self.domain);
        worker.overflow.tend(&self.overflow, &self.domain);
        // What was never used need not be looked at.
        let used = self.sessions.mark();
        if used == 0 || slots == 0 {
            return 0;
        }
        let slots = slots.min(used);
        let mut place = self.cursor.fetch_add(slots, Ordering::Relaxed) % used;
        let mut expired = 0;
        let mut leavers = [None; BLOCK];
        let mut count = 0;
        for looked in 1..=slots {
            if place + AHEAD < used {
                self.prefetch_session(SessionIndex(place + AHEAD));
            }
            let session = SessionIndex(place);
            place = if place + 1 < used { place + 1 } else { 0 };
            let state = self.records[session.index()].state.load(Ordering::Acquire);
            if state::is_live(state) && self.idle(session, now) > self.timeout(session, &timeout) {
                let hashes = self.hashes(session);
                for hash in hashes {
                    prefetch_to_write(self.bucket(self.primary(hash)));
                }
                leavers[count] = Some(Leaver {
                    session,
                    state,
                    hashes,
                });
                count += 1;
            }
            if count == BLOCK || looked == slots {
                for leaver in leavers[..count].iter().flatten() {
                    if !self.leave(leaver.session, leaver.state) {
                        continue;
                    }
                    let [opens, answers] = self.keys(leaver.session);
                    if self.take_out(worker, leaver) == Removed::Done {
                        left(&opens, &answers);
                        expired += 1;
                    }
                }
                count = 0;
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

    fn timeout(&self, session: SessionIndex, timeout: impl Fn(&K, TcpState) -> u32) -> u32 {
        timeout(
            &self.direction(session.initiator()).key(),
            self.tcp_state(session),
        )
    }
}
