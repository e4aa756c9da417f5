//! Ports of a pool's addresses, in blocks that belong to one holder at a time.
//!
//! Many hosts share few addresses if each session gets a port of its own (RFC 3022). A block is a run of ports of one
//! address. It belongs to a worker and the inside address that it translates, so that two workers never take the same port
//! for the same remote, and so that a port's user can be told from its block (RFC 6888, section 4). An inside address
//! keeps to one address of the pool as long as that has room (RFC 4787, requirement 2).
//!
//! A port may be used by several sessions at a time if they go to different remotes: whether it is free for one is asked
//! of the flow table. Deterministic pools (RFC 7422) hand nothing out: an inside address has one block, by its number.

use std::ops::RangeInclusive;

use crate::{
    id::VrfId,
    sync::{AtomicU32, AtomicU64, Ordering},
};

/// Addresses of a pool that are looked through for a holder.
const ADDRESSES: u32 = 4;
/// Blocks of an address that are looked through: eight cache lines.
const PROBES: u32 = 64;
/// Ports of one block that are tried for a session, and of all blocks of a holder.
const TRIES: u32 = 8;
const TRIES_IN_ALL: u32 = 32;
/// Holders whose last block is remembered, or fewer where they share a place.
const RECENT: usize = if cfg!(loom) { 2 } else { 1024 };
/// As many more before a holder is told that there is none.
const LAST_TRIES: u32 = 128;

/// Runs of IPv4 addresses, numbered through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses(Vec<RangeInclusive<u32>>);

impl Addresses {
    /// These runs, in this order.
    pub fn new(runs: Vec<RangeInclusive<u32>>) -> Self {
        Addresses(runs)
    }

    /// How many addresses there are.
    pub fn len(&self) -> u64 {
        self.0.iter().map(run).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The number of an address; None: it is not among them.
    #[inline]
    pub fn number(&self, address: u32) -> Option<u64> {
        let mut before = 0;
        for range in &self.0 {
            if range.contains(&address) {
                return Some(before + u64::from(address - range.start()));
            }
            before += run(range);
        }
        None
    }

    /// The address with this number.
    #[inline]
    pub fn get(&self, mut number: u64) -> Option<u32> {
        for range in &self.0 {
            if number < run(range) {
                return Some(range.start() + number as u32);
            }
            number -= run(range);
        }
        None
    }
}

fn run(range: &RangeInclusive<u32>) -> u64 {
    u64::from(range.end() - range.start()) + 1
}

/// Who has a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The VRF of the inside address.
    pub vrf: VrfId,
    /// Whose sessions are translated.
    pub address: u32,
    /// Who hands the ports out.
    pub worker: u16,
}

impl Holder {
    /// Never 0: nobody's inside VRF is the underlay.
    fn word(self) -> u64 {
        u64::from(self.worker) << 48 | u64::from(self.vrf.0) << 32 | u64::from(self.address)
    }

    fn of(word: u64) -> Option<Self> {
        (word != VACANT).then_some(Holder {
            vrf: VrfId((word >> 32) as u16),
            address: word as u32,
            worker: (word >> 48) as u16,
        })
    }

    /// Spreads inside addresses over the pool; the same for all workers.
    fn hash(self) -> u64 {
        (self.word() & 0xffff_ffff_ffff).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

const VACANT: u64 = 0;

/// A block of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Of the pool.
    pub address: u32,
    /// Its first port.
    pub first_port: u16,
    /// Who has it.
    pub holder: Holder,
    /// How many sessions use it.
    pub sessions: u32,
}

/// The blocks of a pool. See the module.
#[derive(Debug)]
pub struct Blocks {
    addresses: Addresses,
    first_port: u16,
    block_size: u32,
    per_address: u32,
    holders: Box<[AtomicU64]>,
    sessions: Box<[AtomicU32]>,
    /// Where the next look for a port begins.
    next: Box<[AtomicU32]>,
    /// The block that last had a port for a holder, by the holder's hash: mostly it has another. A holder may find another's here,
    /// which the block itself denies.
    recent: [AtomicU32; RECENT],
}

/// An address and port of a pool.
pub type Place = (u32, u16);

impl Blocks {
    /// All blocks are free. Ports that do not fill a block are left out. `block_size` is a power of two.
    ///
    /// # Panics
    /// If `block_size` is no power of two.
    pub fn new(addresses: Addresses, ports: RangeInclusive<u16>, block_size: u16) -> Self {
        assert!(
            block_size.is_power_of_two(),
            "a block has a power of two of ports"
        );
        let count = u32::from(*ports.end()) + 1 - u32::from(*ports.start()).min(u32::from(*ports.end()) + 1);
        let per_address = count / u32::from(block_size);
        let blocks = addresses.len() as usize * per_address as usize;
        Blocks {
            addresses,
            first_port: *ports.start(),
            block_size: u32::from(block_size),
            per_address,
            holders: (0..blocks).map(|_| AtomicU64::new(VACANT)).collect(),
            sessions: (0..blocks).map(|_| AtomicU32::new(0)).collect(),
            next: (0..blocks).map(|_| AtomicU32::new(0)).collect(),
            recent: std::array::from_fn(|_| AtomicU32::new(0)),
        }
    }

    /// How many blocks there are.
    pub fn len(&self) -> usize {
        self.holders.len()
    }

    /// Whether the ports do not fill one block.
    pub fn is_empty(&self) -> bool {
        self.holders.is_empty()
    }

    /// An address and port that `is_free`, in a block of the holder's; a free block becomes the holder's if it has none
    /// with such a port. None: there is none.
    #[inline]
    pub fn take(&self, holder: Holder, mut is_free: impl FnMut(Place) -> bool) -> Option<Place> {
        let word = holder.word();
        let mut tries = TRIES_IN_ALL;
        let recent = &self.recent[(holder.hash() >> 20) as usize % RECENT];
        let last = recent.load(Ordering::Relaxed) as usize;
        if last < self.len()
            && let Some(place) = self.take_own(last, word, &mut tries, &mut is_free)
        {
            return Some(place);
        }
        let place = self.look(holder, tries, is_free)?;
        if let Some(block) = self.block_of(place) {
            recent.store(block as u32, Ordering::Relaxed);
        }
        Some(place)
    }

    /// As [`take`](Self::take), of all blocks that may be the holder's.
    #[inline(never)]
    fn look(&self, holder: Holder, mut tries: u32, mut is_free: impl FnMut(Place) -> bool) -> Option<Place> {
        let word = holder.word();
        for window in self.windows(holder) {
            // The last one that it was given has room most likely.
            for block in window.clone().rev() {
                if let Some(place) = self.take_own(block, word, &mut tries, &mut is_free) {
                    return Some(place);
                }
            }
            for block in window {
                let claimed = self.holders[block].load(Ordering::Relaxed) == VACANT
                    && self.holders[block]
                        .compare_exchange(VACANT, word, Ordering::AcqRel, Ordering::Relaxed)
                        .is_ok();
                if claimed && let Some(place) = self.take_of(block, &mut is_free) {
                    return Some(place);
                }
            }
        }
        let mut tries = LAST_TRIES;
        let mut all = self.windows(holder).flatten();
        all.find_map(|block| self.take_own(block, word, &mut tries, &mut is_free))
    }

    /// The blocks that are looked through for a holder, an address at a time.
    fn windows(
        &self,
        holder: Holder,
    ) -> impl Iterator<Item = impl DoubleEndedIterator<Item = usize> + Clone> {
        let (hash, per_address) = (holder.hash(), self.per_address);
        let addresses = self.addresses.len() as u32;
        let home = (((hash >> 32) * u64::from(addresses)) >> 32) as u32;
        let start = (hash as u32).checked_rem(per_address).unwrap_or(0);
        (0..addresses.min(ADDRESSES)).map(move |distance| {
            let first = (home + distance) % addresses * per_address;
            (0..per_address.min(PROBES)).map(move |probe| (first + (start + probe) % per_address) as usize)
        })
    }

    fn take_own(
        &self,
        block: usize,
        word: u64,
        tries: &mut u32,
        is_free: &mut impl FnMut(Place) -> bool,
    ) -> Option<Place> {
        if *tries == 0 || self.holders[block].load(Ordering::Relaxed) != word {
            return None;
        }
        *tries = tries.saturating_sub(TRIES.min(self.block_size));
        self.take_of(block, is_free)
    }

    /// As [`take`](Self::take) of the one block that belongs to an inside address with this number.
    #[inline]
    pub fn take_numbered(&self, number: u64, mut is_free: impl FnMut(Place) -> bool) -> Option<Place> {
        let block = usize::try_from(number).ok().filter(|block| *block < self.len())?;
        (0..TRIES_IN_ALL / TRIES).find_map(|_| self.take_of(block, &mut is_free))
    }

    /// The address and port that [`take`](Self::take) would give now, if all of a block's ports were tried.
    pub fn peek(&self, holder: Holder, mut is_free: impl FnMut(Place) -> bool) -> Option<Place> {
        let word = holder.word();
        let is = |block: &usize, word: u64| self.holders[*block].load(Ordering::Relaxed) == word;
        self.windows(holder).find_map(|window| {
            let own = window.clone().rev().filter(|block| is(block, word));
            let mut blocks = own.chain(window.filter(|block| is(block, VACANT)));
            blocks.find_map(|block| self.peek_of(block, &mut is_free))
        })
    }

    /// As [`peek`](Self::peek), for [`take_numbered`](Self::take_numbered).
    pub fn peek_numbered(&self, number: u64, mut is_free: impl FnMut(Place) -> bool) -> Option<Place> {
        let block = usize::try_from(number).ok().filter(|block| *block < self.len())?;
        self.peek_of(block, &mut is_free)
    }

    fn peek_of(&self, block: usize, is_free: &mut impl FnMut(Place) -> bool) -> Option<Place> {
        let next = self.next[block].load(Ordering::Relaxed);
        (0..self.block_size).find_map(|step| {
            let offset = next.wrapping_add(step) & (self.block_size - 1);
            let place = (self.address(block)?, self.port(block) + offset as u16);
            is_free(place).then_some(place)
        })
    }

    fn take_of(&self, block: usize, is_free: &mut impl FnMut(Place) -> bool) -> Option<Place> {
        for _ in 0..TRIES.min(self.block_size) {
            let offset = self.next[block].fetch_add(1, Ordering::Relaxed) & (self.block_size - 1);
            let place = (self.address(block)?, self.port(block) + offset as u16);
            if is_free(place) {
                return Some(place);
            }
        }
        None
    }

    fn address(&self, block: usize) -> Option<u32> {
        self.addresses.get(block as u64 / u64::from(self.per_address))
    }

    fn port(&self, block: usize) -> u16 {
        self.first_port + (block as u32 % self.per_address * self.block_size) as u16
    }

    /// The block that an address and port are in; None: they are not the pool's.
    #[inline]
    pub fn block_of(&self, (address, port): Place) -> Option<usize> {
        let number = self.addresses.number(address)?;
        let block = u32::from(port.checked_sub(self.first_port)?) / self.block_size;
        (block < self.per_address).then(|| number as usize * self.per_address as usize + block as usize)
    }

    /// A session uses this.
    #[inline]
    pub fn opened(&self, place: Place) {
        if let Some(block) = self.block_of(place) {
            self.sessions[block].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A session does not use it any more. One that was opened before the blocks were made does not count.
    #[inline]
    pub fn closed(&self, place: Place) {
        if let Some(block) = self.block_of(place) {
            let less = |sessions: u32| sessions.checked_sub(1);
            let _ = self.sessions[block].fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        }
    }

    /// Gives back a worker's blocks that no session uses, among `count` from `start` on. For that worker, between two
    /// bursts: nobody else takes ports of its blocks. How many it gave back.
    pub fn release(&self, worker: u16, start: usize, count: usize) -> usize {
        let blocks = self.holders.iter().zip(&self.sessions).skip(start).take(count);
        let mut released = 0;
        for (holder, sessions) in blocks {
            let own =
                Holder::of(holder.load(Ordering::Relaxed)).is_some_and(|holder| holder.worker == worker);
            if own && sessions.load(Ordering::Relaxed) == 0 {
                holder.store(VACANT, Ordering::Release);
                released += 1;
            }
        }
        released
    }

    /// The blocks that somebody has.
    pub fn held(&self) -> impl Iterator<Item = Block> {
        self.holders.iter().enumerate().filter_map(|(block, holder)| {
            Some(Block {
                address: self.address(block)?,
                first_port: self.port(block),
                holder: Holder::of(holder.load(Ordering::Relaxed))?,
                sessions: self.sessions[block].load(Ordering::Relaxed),
            })
        })
    }

    /// How many blocks somebody has.
    pub fn held_count(&self) -> usize {
        let held = self
            .holders
            .iter()
            .filter(|holder| holder.load(Ordering::Relaxed) != VACANT);
        held.count()
    }

    /// Sessions of all blocks.
    pub fn sessions(&self) -> u64 {
        let count = |sessions: &AtomicU32| u64::from(sessions.load(Ordering::Relaxed));
        self.sessions.iter().map(count).sum()
    }
}
