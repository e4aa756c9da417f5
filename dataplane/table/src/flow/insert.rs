//! Putting a session in: both directions as one step, or neither.
//!
//! The new directions are filled before any lock is taken; both keys' buckets are then locked in the order of their
//! numbers for the few loads and stores that look for the keys and put two entries in. Two workers that saw the same
//! first packet, or the two first packets of both sides, meet at a lock, and the second finds the first one's session.

use super::{
    bucket::{Bucket, SLOTS, tag_of},
    direction::Decision,
    index::{DirectionIndex, SessionIndex},
    key::Key,
    table::{FlowTable, WorkerFlows, add_own, state},
    tags::prefetch_to_write,
};
use crate::sync::{Ordering, fence};

/// Sessions put in between two passes.
const BLOCK: usize = 32;

/// How many sessions ahead memory is asked for when they are put in one by one.
const AHEAD: usize = 3;

/// One direction of a session to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewDirection<K> {
    /// What its packets are found by.
    pub key: K,
    /// [`FlowTable::hash`] of the key.
    pub hash: u64,
    /// What to do with them.
    pub decision: Decision,
}

/// A session to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewSession<K> {
    /// The direction of the packet at hand.
    pub forward: NewDirection<K>,
    /// The direction of the answers.
    pub reverse: NewDirection<K>,
    /// The present second.
    pub now: u32,
}

/// Where the packet at hand finds its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// In the session that was put in.
    New(DirectionIndex),
    /// In one that was there already: another worker saw a first packet too, or the packet came by another way. Its
    /// decision is the one in force; look at it as after a lookup.
    Existing(DirectionIndex),
}

impl Inserted {
    /// The direction, new or not.
    pub fn direction(self) -> DirectionIndex {
        match self {
            Inserted::New(direction) | Inserted::Existing(direction) => direction,
        }
    }
}

/// Why a session was not put in. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InsertError {
    /// No free session, or no room in the keys' buckets.
    #[error("the flow table is full; raise `sessions`, or let sessions expire sooner")]
    Full,
    /// The answers' key belongs to another session.
    #[error("the reverse direction's key belongs to another session; translate to another port")]
    Conflict,
    /// Another worker holds one of the buckets and does not come round.
    #[error("a bucket of the flow table is held by another worker; the next packet tries again")]
    Busy,
}

/// A slot to put an entry in.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Place {
    bucket: u32,
    slot: usize,
    /// The bucket is a new one, to be linked behind this.
    behind: Option<u32>,
}

/// Locks on one or two primary buckets.
pub(super) struct Held<'a> {
    first: &'a Bucket,
    second: Option<&'a Bucket>,
}

impl Drop for Held<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        if let Some(second) = self.second {
            second.unlock();
        }
        self.first.unlock();
    }
}

impl<K: Key> FlowTable<K> {
    /// Puts a session in if both keys are free, and answers with the direction of the packet at hand.
    ///
    /// If the forward key is there already, its session is the packet's, whatever this one would have been. If only
    /// the reverse key is there, it is a [`InsertError::Conflict`]. A session whose two keys are equal has one entry.
    pub fn insert(&self, worker: &mut WorkerFlows, new: &NewSession<K>) -> Result<Inserted, InsertError> {
        // On their way while the session is filled; and those of a session to come.
        self.prefetch_buckets(new);
        if let Some(number) = worker.sessions.peek(AHEAD) {
            self.prefetch_to_fill(SessionIndex(number));
        }
        let filled = self.reserve(worker).inspect(|session| self.fill(*session, new));
        let result = self.settle(worker, filled, new);
        self.count_created(worker, u64::from(matches!(result, Ok(Inserted::New(_)))));
        result
    }

    /// [`Self::insert`] of a burst's sessions, in the order given, in passes that each ask for the memory of the next.
    /// Of two with the same key the second finds the first.
    ///
    /// # Panics
    /// If the slices are not of one length.
    pub fn insert_burst(
        &self,
        worker: &mut WorkerFlows,
        new: &[NewSession<K>],
        results: &mut [Result<Inserted, InsertError>],
    ) {
        assert_eq!(new.len(), results.len(), "a burst's arrays are of one length");
        for (new, results) in new.chunks(BLOCK).zip(results.chunks_mut(BLOCK)) {
            let mut sessions = [None; BLOCK];
            for (new, session) in new.iter().zip(&mut sessions) {
                self.prefetch_buckets(new);
                *session = self.reserve(worker);
                if let Some(session) = *session {
                    self.prefetch_to_fill(session);
                }
            }
            for (new, session) in new.iter().zip(sessions) {
                if let Some(session) = session {
                    self.fill(session, new);
                }
            }
            let mut created = 0;
            for ((new, session), result) in new.iter().zip(sessions).zip(results) {
                // One of before may have given its number back.
                let filled =
                    session.or_else(|| self.reserve(worker).inspect(|session| self.fill(*session, new)));
                *result = self.settle(worker, filled, new);
                created += u64::from(matches!(result, Ok(Inserted::New(_))));
            }
            self.count_created(worker, created);
        }
    }

    fn prefetch_buckets(&self, new: &NewSession<K>) {
        prefetch_to_write(self.bucket(self.primary(new.forward.hash)));
        prefetch_to_write(self.bucket(self.primary(new.reverse.hash)));
    }

    /// A number that is nobody's.
    #[inline(always)]
    fn reserve(&self, worker: &mut WorkerFlows) -> Option<SessionIndex> {
        worker
            .sessions
            .take(&self.sessions, &self.domain)
            .map(SessionIndex)
    }

    /// Links a session that was filled, or finds the one that is there.
    #[inline(always)]
    fn settle(
        &self,
        worker: &mut WorkerFlows,
        filled: Option<SessionIndex>,
        new: &NewSession<K>,
    ) -> Result<Inserted, InsertError> {
        let Some(session) = filled else {
            let found = self.lookup(&new.forward.key, new.forward.hash);
            return if found.is_some() {
                Ok(Inserted::Existing(found))
            } else {
                Err(InsertError::Full)
            };
        };
        let result = self.link(worker, session, new);
        if !matches!(result, Ok(Inserted::New(_))) {
            worker.sessions.give_back(session.0, &self.sessions);
        }
        result
    }

    fn count_created(&self, worker: &WorkerFlows, sessions: u64) {
        add_own(&self.counters[worker.worker].created, sessions);
    }

    /// Writes both directions and the record of a session that nobody can find yet.
    #[inline(always)]
    fn fill(&self, session: SessionIndex, new: &NewSession<K>) {
        // A listing that reads any of these stores must see that the number's last life is over.
        fence(Ordering::Release);
        let record = &self.records[session.index()];
        for (direction, new_direction) in [
            (session.initiator(), &new.forward),
            (session.reverse(), &new.reverse),
        ] {
            self.direction(direction)
                .fill(&new_direction.key, &new_direction.decision, new.now);
            for (place, object) in record
                .further(direction)
                .iter()
                .zip(new_direction.decision.further)
            {
                place.store(object, Ordering::Relaxed);
            }
        }
        record.created.store(new.now, Ordering::Relaxed);
    }

    /// Puts the entries of a filled session in, under the locks of both its buckets.
    #[inline(always)]
    fn link(
        &self,
        worker: &mut WorkerFlows,
        session: SessionIndex,
        new: &NewSession<K>,
    ) -> Result<Inserted, InsertError> {
        let primaries = [&new.forward, &new.reverse].map(|direction| self.primary(direction.hash));
        let held = self.lock(primaries[0], primaries[1]).ok_or(InsertError::Busy)?;
        // Nearly always: two buckets with room, and nothing in them that could be the keys.
        let buckets = primaries.map(|primary| self.bucket(primary));
        let words = buckets.map(Bucket::words);
        let tags = [tag_of(new.forward.hash), tag_of(new.reverse.hash)];
        match (words[0].plain_place(tags[0]), words[1].plain_place(tags[1])) {
            (Some(forward), Some(reverse)) if primaries[0] != primaries[1] => {
                buckets[0].put_into(words[0], forward, tags[0], session.initiator());
                buckets[1].put_into(words[1], reverse, tags[1], session.reverse());
            }
            _ => {
                if let Some(found) = self.link_into_chains(worker, session, new, primaries)? {
                    return Ok(Inserted::Existing(found));
                }
            }
        }
        let record = &self.records[session.index()];
        let life = (record.state.load(Ordering::Relaxed) & !state::MASK).wrapping_add(state::LIFE);
        record.state.store(life | state::LIVE, Ordering::Release);
        drop(held);
        Ok(Inserted::New(session.initiator()))
    }

    /// [`Self::link`] for whatever the locked chains hold: the session that is there, or none if this one is now.
    #[inline(never)]
    fn link_into_chains(
        &self,
        worker: &mut WorkerFlows,
        session: SessionIndex,
        new: &NewSession<K>,
        [first, second]: [u32; 2],
    ) -> Result<Option<DirectionIndex>, InsertError> {
        let (forward, reverse) = (&new.forward, &new.reverse);
        let found = self.lookup(&forward.key, forward.hash);
        if found.is_some() {
            return Ok(Some(found));
        }
        let one_entry = forward.key == reverse.key;
        if !one_entry && self.lookup(&reverse.key, reverse.hash).is_some() {
            return Err(InsertError::Conflict);
        }

        // Both places are found before anything is stored, so that nothing has to be taken back.
        let place = self.place(worker, first, None).ok_or(InsertError::Full)?;
        let reverse_place = if one_entry {
            None
        } else {
            match self.place(worker, second, Some(place).filter(|_| first == second)) {
                Some(place) => Some(place),
                None => {
                    if place.behind.is_some() {
                        worker
                            .overflow
                            .give_back(place.bucket - self.primaries, &self.overflow);
                    }
                    return Err(InsertError::Full);
                }
            }
        };
        self.put(place, forward.hash, session.initiator());
        if let Some(place) = reverse_place {
            self.put(place, reverse.hash, session.reverse());
        }
        Ok(None)
    }

    /// Locks two primary buckets, the lower one first; they may be the same.
    #[inline(always)]
    pub(super) fn lock(&self, one: u32, other: u32) -> Option<Held<'_>> {
        let first = self.bucket(one.min(other));
        if !first.lock() {
            return None;
        }
        let mut held = Held { first, second: None };
        if one != other {
            let second = self.bucket(one.max(other));
            if !second.lock() {
                return None;
            }
            held.second = Some(second);
        }
        Some(held)
    }

    /// A free slot in a locked chain, other than `taken`; at the end of a full chain in a new bucket, which is not
    /// linked yet.
    fn place(&self, worker: &mut WorkerFlows, primary: u32, taken: Option<Place>) -> Option<Place> {
        let mut at = primary;
        loop {
            let words = self.bucket(at).words();
            let mut free = words.free();
            if let Some(taken) = taken
                && taken.bucket == at
            {
                free &= !(1 << taken.slot);
            }
            if free != 0 {
                return Some(Place {
                    bucket: at,
                    slot: free.trailing_zeros() as usize,
                    behind: None,
                });
            }
            match words.link() {
                Some(overflow) => at = self.primaries + overflow,
                None => break,
            }
        }
        // The other key has just been given the first slot of a new bucket behind this chain.
        if let Some(Place {
            bucket,
            slot,
            behind: Some(_),
        }) = taken
        {
            const { assert!(SLOTS > 1) };
            return Some(Place {
                bucket,
                slot: slot + 1,
                behind: None,
            });
        }
        let bucket = self.primaries + worker.overflow.take(&self.overflow, &self.domain)?;
        self.bucket(bucket).reset();
        Some(Place {
            bucket,
            slot: 0,
            behind: Some(at),
        })
    }

    fn put(&self, place: Place, hash: u64, direction: DirectionIndex) {
        self.bucket(place.bucket).put(place.slot, tag_of(hash), direction);
        if let Some(behind) = place.behind {
            self.bucket(behind).set_link(Some(place.bucket - self.primaries));
        }
    }
}
