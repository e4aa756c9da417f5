//! Free numbers of sessions and of overflow buckets, for many workers and without a lock.
//!
//! Each worker has a small cache of its own, exchanged in whole chunks with a shared queue of chunks. Numbers that
//! were never used come from a mark that only rises, so that a table that is mostly empty stays small in the caches.
//! A freed number first waits in its worker's limbo until a grace period is over. Lists are linked through an array
//! of their own: what is being freed may still be read, so nothing may be written into it.

use std::collections::VecDeque;

use crossbeam::utils::CachePadded;

use crate::{
    memory::{FlatMemory, MemoryError},
    rcu::Domain,
    sync::{AtomicU32, Ordering, Queue},
};

/// Numbers in limbo are closed into at most so many groups, each with its epoch.
const GROUPS: usize = 64;

/// How many numbers are taken out of limbo at a time, so that no burst pays for a long list.
const BUDGET: u32 = 64;

const END: u32 = u32::MAX;

/// What all workers share.
pub(super) struct Pool {
    links: FlatMemory<AtomicU32>,
    /// Numbers from here on were never used.
    fresh: CachePadded<AtomicU32>,
    capacity: u32,
    /// Numbers that change hands together.
    chunk: u32,
    /// Heads of lists of exactly `chunk` numbers.
    chunks: Queue,
}

/// What one worker has to itself.
pub(super) struct Cache {
    active: List,
    spare: Option<u32>,
    /// Numbers of the mark that were not used yet.
    fresh: std::ops::Range<u32>,
    limbo: Limbo,
}

#[derive(Clone, Copy)]
struct List {
    head: u32,
    count: u32,
}

const EMPTY: List = List { head: END, count: 0 };

/// First in, first out, linked through the pool's array.
struct Limbo {
    head: u32,
    tail: u32,
    /// How many of the front belong to each epoch; never grows past GROUPS.
    groups: VecDeque<(u64, u32)>,
    /// At the back, not yet closed.
    open: u32,
    total: u32,
    /// Calls of `tend` since the first of `open`.
    age: u32,
}

impl Pool {
    /// Numbers from 0 to `capacity - 1` for `workers` workers.
    pub(super) fn new(
        purpose: &'static str,
        capacity: u32,
        workers: usize,
        hugepages: bool,
    ) -> Result<Self, MemoryError> {
        // Small tables: what sleeps in the workers' caches must stay a small part.
        let chunk = (capacity / (workers.max(1) as u32 * 64)).clamp(1, 64);
        Ok(Pool {
            links: FlatMemory::new(purpose, capacity as usize, hugepages)?,
            fresh: CachePadded::new(AtomicU32::new(0)),
            capacity,
            chunk,
            chunks: Queue::new((capacity / chunk) as usize + 1),
        })
    }

    pub(super) fn bytes(&self) -> usize {
        self.links.bytes()
    }

    /// No number at or above this was ever used.
    pub(super) fn mark(&self) -> u32 {
        self.fresh.load(Ordering::Acquire)
    }

    fn take_fresh(&self) -> std::ops::Range<u32> {
        let mut start = self.fresh.load(Ordering::Relaxed);
        loop {
            let end = self.capacity.min(start + self.chunk);
            if start >= end {
                return 0..0;
            }
            match self
                .fresh
                .compare_exchange(start, end, Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(_) => return start..end,
                Err(now) => start = now,
            }
        }
    }
}

impl Cache {
    pub(super) fn new() -> Self {
        Cache {
            active: EMPTY,
            spare: None,
            fresh: 0..0,
            limbo: Limbo {
                head: END,
                tail: END,
                groups: VecDeque::with_capacity(GROUPS),
                open: 0,
                total: 0,
                age: 0,
            },
        }
    }

    /// A number that nobody uses. None: all are in use, or wait in limbo, or lie in another worker's cache.
    pub(super) fn take(&mut self, pool: &Pool, domain: &Domain) -> Option<u32> {
        if let Some(number) = self.pop(pool) {
            return Some(number);
        }
        if let Some(number) = self.fresh.next() {
            return Some(number);
        }
        self.refill(pool, domain);
        self.pop(pool).or_else(|| self.fresh.next())
    }

    /// What `take` will most likely return next.
    #[inline]
    pub(super) fn peek(&self) -> Option<u32> {
        match self.active.head {
            END if self.fresh.is_empty() => None,
            END => Some(self.fresh.start),
            number => Some(number),
        }
    }

    #[inline]
    fn pop(&mut self, pool: &Pool) -> Option<u32> {
        let number = self.active.head;
        if number == END {
            return None;
        }
        self.active.head = pool.links[number as usize].load(Ordering::Relaxed);
        self.active.count -= 1;
        Some(number)
    }

    #[cold]
    fn refill(&mut self, pool: &Pool, domain: &Domain) {
        if let Some(head) = self.spare.take() {
            self.active = List {
                head,
                count: pool.chunk,
            };
            return;
        }
        self.release(pool, domain);
        if self.active.count > 0 {
            return;
        }
        if let Some(head) = pool.chunks.pop() {
            self.active = List {
                head,
                count: pool.chunk,
            };
            return;
        }
        self.fresh = pool.take_fresh();
        if self.fresh.is_empty() && self.limbo.open > 0 {
            // Nothing left but what was freed lately: let its grace period begin.
            self.limbo.close(domain);
            self.release(pool, domain);
        }
    }

    /// Gives back a number that no reader has ever found.
    pub(super) fn give_back(&mut self, number: u32, pool: &Pool) {
        if self.active.count == pool.chunk {
            let full = std::mem::replace(&mut self.active, EMPTY);
            if let Some(head) = self.spare.replace(full.head) {
                let pushed = pool.chunks.push(head);
                debug_assert!(pushed, "more chunks than the pool has numbers for");
            }
        }
        pool.links[number as usize].store(self.active.head, Ordering::Relaxed);
        self.active = List {
            head: number,
            count: self.active.count + 1,
        };
    }

    /// Gives back a number that readers may still hold, though none can find it any more.
    pub(super) fn retire(&mut self, number: u32, pool: &Pool, domain: &Domain) {
        let limbo = &mut self.limbo;
        pool.links[number as usize].store(END, Ordering::Relaxed);
        if limbo.total == 0 {
            limbo.head = number;
        } else {
            pool.links[limbo.tail as usize].store(number, Ordering::Relaxed);
        }
        limbo.tail = number;
        limbo.total += 1;
        limbo.open += 1;
        if limbo.open >= pool.chunk {
            limbo.close(domain);
        }
    }

    /// Takes out of limbo what may be used again, a bounded number; to be called now and then.
    pub(super) fn tend(&mut self, pool: &Pool, domain: &Domain) {
        if self.limbo.total == 0 {
            return;
        }
        if self.limbo.open > 0 {
            self.limbo.age += 1;
            if self.limbo.age >= 16 {
                self.limbo.close(domain);
            }
        }
        self.release(pool, domain);
    }

    fn release(&mut self, pool: &Pool, domain: &Domain) {
        let mut budget = BUDGET;
        while budget > 0 {
            let Some((epoch, count)) = self.limbo.groups.front().copied() else {
                return;
            };
            if !domain.grace_passed(epoch) {
                return;
            }
            let step = count.min(budget);
            for _ in 0..step {
                let number = self.limbo.head;
                self.limbo.head = pool.links[number as usize].load(Ordering::Relaxed);
                self.give_back(number, pool);
            }
            self.limbo.total -= step;
            budget -= step;
            if step == count {
                self.limbo.groups.pop_front();
            } else if let Some((_, left)) = self.limbo.groups.front_mut() {
                *left -= step;
            }
        }
    }
}

impl Limbo {
    /// Begins the grace period of what is open.
    fn close(&mut self, domain: &Domain) {
        let epoch = domain.advance();
        let full = self.groups.len() == GROUPS;
        match self.groups.back_mut() {
            // A reader is stuck: its grace period covers these as well.
            Some(last) if full => *last = (epoch, last.1 + self.open),
            _ => self.groups.push_back((epoch, self.open)),
        }
        self.open = 0;
        self.age = 0;
    }
}
