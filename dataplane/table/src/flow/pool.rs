//! Free numbers of sessions and of overflow buckets, for many workers and without a lock.
//!
//! Each worker has free numbers of its own in an array, so that it knows those to come and can ask for their memory
//! ahead. What it has too many of goes to the other workers in whole pages, through a shared queue. Numbers that were
//! never used come from a mark that only rises, so that a table that is mostly empty stays small in the caches. A
//! freed number first waits in its worker's limbo until a grace period is over. Nothing is linked through what the
//! numbers name: what is being freed may still be read.

use std::{collections::VecDeque, ops::Range};

use crossbeam::utils::CachePadded;

use crate::{
    memory::FlatMemory,
    rcu::Domain,
    sync::{AtomicU32, Ordering, Queue},
};

/// Numbers that change hands together, at most: a page.
const PAGE: usize = 64;

/// Numbers in limbo are closed into at most so many groups, each with its epoch.
const GROUPS: usize = 64;

/// How many numbers are taken out of limbo at a time, so that no burst pays for a long list.
const BUDGET: u32 = 64;

/// What all workers share.
pub(super) struct Pool {
    /// Page p has the numbers from p * `page` on.
    numbers: FlatMemory<AtomicU32>,
    /// The page behind each in its limbo.
    behind: Box<[AtomicU32]>,
    /// Numbers from here on were never used.
    fresh: CachePadded<AtomicU32>,
    capacity: u32,
    /// Numbers a page.
    page: usize,
    /// Pages of numbers that are free.
    full: Queue,
    /// Pages of nothing. There are as many pages as all numbers can fill, so whoever has a page's worth finds one.
    empty: Queue,
}

/// What one worker has to itself.
pub(super) struct Cache {
    /// Free numbers; the last is used next.
    free: [u32; 2 * PAGE],
    count: usize,
    /// Numbers of the mark that were not used yet.
    fresh: Range<u32>,
    limbo: Limbo,
}

/// First in, first out: the newest in an array, those before in pages, the oldest in an array again.
struct Limbo {
    newest: [u32; PAGE],
    newest_count: usize,
    /// First and last page, and how many.
    pages: (u32, u32),
    page_count: u32,
    oldest: [u32; PAGE],
    oldest_range: Range<usize>,
    /// How many of the oldest belong to each epoch; never grows past GROUPS.
    groups: VecDeque<(u64, u32)>,
    /// Of the newest, not yet closed into a group.
    open: u32,
    /// Calls of `tend` since the first of `open`.
    age: u32,
}

impl Pool {
    /// Places that the numbers from 0 to `capacity - 1` need for `workers` workers.
    pub(super) fn room(capacity: u32, workers: usize) -> usize {
        let page = Self::page(capacity, workers);
        capacity as usize / page * page
    }

    /// Small tables: what sleeps in the workers' caches must stay a small part.
    fn page(capacity: u32, workers: usize) -> usize {
        (capacity as usize / (workers.max(1) * 64)).clamp(1, PAGE)
    }

    /// Numbers from 0 to `capacity - 1` for `workers` workers, in as many places as [`Self::room`] says.
    pub(super) fn new(numbers: FlatMemory<AtomicU32>, capacity: u32, workers: usize) -> Self {
        let page = Self::page(capacity, workers);
        let pages = numbers.len() / page;
        let empty = Queue::new(pages);
        for number in 0..pages {
            empty.push(number as u32);
        }
        Pool {
            numbers,
            behind: (0..pages).map(|_| AtomicU32::default()).collect(),
            fresh: CachePadded::new(AtomicU32::new(0)),
            capacity,
            page,
            full: Queue::new(pages),
            empty,
        }
    }

    /// Memory beside the places.
    pub(super) fn heap_bytes(&self) -> usize {
        size_of_val(&*self.behind) + 2 * self.behind.len() * Queue::BYTES_EACH
    }

    /// No number at or above this was ever used.
    pub(super) fn mark(&self) -> u32 {
        self.fresh.load(Ordering::Acquire)
    }

    fn take_fresh(&self) -> Range<u32> {
        let mut start = self.fresh.load(Ordering::Relaxed);
        loop {
            let end = self.capacity.min(start + self.page as u32);
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

    /// Puts a page's worth of numbers into an empty page.
    fn write_page(&self, numbers: &[u32]) -> Option<u32> {
        debug_assert_eq!(numbers.len(), self.page);
        let page = self.empty.pop();
        debug_assert!(page.is_some(), "more pages than the pool has numbers for");
        let start = page? as usize * self.page;
        for (place, number) in self.numbers[start..][..self.page].iter().zip(numbers) {
            place.store(*number, Ordering::Relaxed);
        }
        page
    }

    /// Takes the numbers out of a page, which is empty then.
    fn read_page(&self, page: u32, numbers: &mut [u32]) {
        let start = page as usize * self.page;
        for (number, place) in numbers.iter_mut().zip(&self.numbers[start..][..self.page]) {
            *number = place.load(Ordering::Relaxed);
        }
        self.empty.push(page);
    }
}

impl Cache {
    pub(super) fn new() -> Self {
        Cache {
            free: [0; 2 * PAGE],
            count: 0,
            fresh: 0..0,
            limbo: Limbo {
                newest: [0; PAGE],
                newest_count: 0,
                pages: (0, 0),
                page_count: 0,
                oldest: [0; PAGE],
                oldest_range: 0..0,
                groups: VecDeque::with_capacity(GROUPS),
                open: 0,
                age: 0,
            },
        }
    }

    /// A number that nobody uses. None: all are in use, or wait in limbo, or lie in another worker's cache.
    #[inline]
    pub(super) fn take(&mut self, pool: &Pool, domain: &Domain) -> Option<u32> {
        if self.count == 0 && self.fresh.is_empty() {
            self.refill(pool, domain);
        }
        match self.count.checked_sub(1) {
            Some(last) => {
                self.count = last;
                Some(self.free[last])
            }
            None => self.fresh.next(),
        }
    }

    /// What `take` will most likely return after `ahead` others.
    #[inline]
    pub(super) fn peek(&self, ahead: usize) -> Option<u32> {
        match self.count.checked_sub(ahead + 1) {
            Some(place) => Some(self.free[place]),
            None => {
                let number = self.fresh.start + (ahead - self.count) as u32;
                self.fresh.contains(&number).then_some(number)
            }
        }
    }

    #[cold]
    fn refill(&mut self, pool: &Pool, domain: &Domain) {
        self.release(pool, domain);
        if self.count > 0 {
            return;
        }
        if let Some(page) = pool.full.pop() {
            pool.read_page(page, &mut self.free[..pool.page]);
            self.count = pool.page;
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
    #[inline]
    pub(super) fn give_back(&mut self, number: u32, pool: &Pool) {
        if self.count == 2 * pool.page {
            self.share(pool);
        }
        self.free[self.count] = number;
        self.count += 1;
    }

    /// Lets the other workers have those that this one would use last.
    #[cold]
    fn share(&mut self, pool: &Pool) {
        if let Some(page) = pool.write_page(&self.free[..pool.page]) {
            pool.full.push(page);
        }
        self.free.copy_within(pool.page..2 * pool.page, 0);
        self.count = pool.page;
    }

    /// Gives back a number that readers may still hold, though none can find it any more.
    pub(super) fn retire(&mut self, number: u32, pool: &Pool, domain: &Domain) {
        self.limbo.push(number, pool);
        if self.limbo.open as usize >= pool.page {
            self.limbo.close(domain);
        }
    }

    /// Takes out of limbo what may be used again, a bounded number; to be called now and then.
    pub(super) fn tend(&mut self, pool: &Pool, domain: &Domain) {
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
                let number = self.limbo.pop(pool);
                self.give_back(number, pool);
            }
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

    fn push(&mut self, number: u32, pool: &Pool) {
        if self.newest_count == pool.page {
            if let Some(page) = pool.write_page(&self.newest[..pool.page]) {
                if self.page_count == 0 {
                    self.pages.0 = page;
                } else {
                    pool.behind[self.pages.1 as usize].store(page, Ordering::Relaxed);
                }
                self.pages.1 = page;
                self.page_count += 1;
            }
            self.newest_count = 0;
        }
        self.newest[self.newest_count] = number;
        self.newest_count += 1;
        self.open += 1;
    }

    /// The oldest; there is one.
    fn pop(&mut self, pool: &Pool) -> u32 {
        if self.oldest_range.is_empty() {
            if self.page_count > 0 {
                let page = self.pages.0;
                self.pages.0 = pool.behind[page as usize].load(Ordering::Relaxed);
                self.page_count -= 1;
                pool.read_page(page, &mut self.oldest[..pool.page]);
                self.oldest_range = 0..pool.page;
            } else {
                std::mem::swap(&mut self.oldest, &mut self.newest);
                self.oldest_range = 0..self.newest_count;
                self.newest_count = 0;
            }
        }
        let place = self.oldest_range.next();
        debug_assert!(place.is_some(), "the groups count more numbers than there are");
        self.oldest[place.unwrap_or_default()]
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Take(usize),
        GiveBack(usize),
        Retire(usize),
        /// Every reader is quiescent, and each worker looks after its limbo.
        Grace,
    }

    fn steps() -> impl Strategy<Value = Vec<(usize, Step)>> {
        let step = prop_oneof![
            4 => (1..300_usize).prop_map(Step::Take),
            1 => (1..300_usize).prop_map(Step::GiveBack),
            4 => (1..300_usize).prop_map(Step::Retire),
            2 => Just(Step::Grace),
        ];
        vec((0..2_usize, step), 1..100)
    }

    proptest! {
        #[test]
        fn no_number_is_handed_out_twice_and_none_is_lost(capacity in 1..2000_u32, steps in steps()) {
            let (domain, _writer) = Domain::new();
            let mut reader = domain.register(0).unwrap();
            let places = FlatMemory::new("test", Pool::room(capacity, 2), false).unwrap();
            let pool = Pool::new(places, capacity, 2);
            let mut caches = [Cache::new(), Cache::new()];
            let mut held: Vec<u32> = Vec::new();
            let mut used = vec![false; capacity as usize];
            let mut resting = vec![false; capacity as usize];
            let mut grace = |caches: &mut [Cache; 2]| {
                for _ in 0..capacity / BUDGET + 20 {
                    reader.quiescent();
                    caches.iter_mut().for_each(|cache| cache.tend(&pool, &domain));
                }
            };
            for (worker, step) in steps {
                let cache = &mut caches[worker];
                match step {
                    Step::Take(count) => for _ in 0..count {
                        let expected = cache.peek(0);
                        let Some(number) = cache.take(&pool, &domain) else { break };
                        prop_assert!(expected.is_none_or(|expected| expected == number));
                        prop_assert!(!std::mem::replace(&mut used[number as usize], true), "{number} twice");
                        prop_assert!(!resting[number as usize], "{number} before its grace period");
                        held.push(number);
                    },
                    Step::GiveBack(count) => for number in held.split_off(held.len().saturating_sub(count)) {
                        used[number as usize] = false;
                        cache.give_back(number, &pool);
                    },
                    Step::Retire(count) => for number in held.drain(..count.min(held.len())) {
                        used[number as usize] = false;
                        resting[number as usize] = true;
                        cache.retire(number, &pool, &domain);
                    },
                    Step::Grace => {
                        grace(&mut caches);
                        resting.fill(false);
                    }
                }
            }
            grace(&mut caches);
            for cache in &mut caches {
                while let Some(number) = cache.take(&pool, &domain) {
                    prop_assert!(!std::mem::replace(&mut used[number as usize], true));
                }
            }
            prop_assert!(used.iter().all(|used| *used), "a number is lost");
        }
    }
}
