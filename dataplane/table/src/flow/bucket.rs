//! A bucket of the flow table: ten 16-bit tags and ten direction numbers in one cache line.
//!
//! ```text
//!  0        tags 0..4
//!  8        tags 4..8
//! 16        tags 8, 9 · link to an overflow bucket (31 bits) · lock bit
//! 24        direction numbers 0..10
//! ```
//! A lookup loads three words and compares ten tags at once (`tags`); it takes no lock. Writers hold the lock bit of
//! the primary bucket for a few stores; it covers the whole chain of overflow buckets behind it. A number is stored
//! before its tag, both with Release: who finds a tag finds the number and the direction filled in before it.
#![allow(unsafe_code)]

use super::{index::DirectionIndex, tags};
use crate::{
    memory::Zeroable,
    sync::{AtomicU32, AtomicU64, Ordering, spin_loop},
};

/// Entries a bucket.
pub(super) const SLOTS: usize = 10;

const LOCK: u64 = 1 << 63;
const LINK_SHIFT: u32 = 32;
const LINK_MASK: u64 = 0x7fff_ffff << LINK_SHIFT;

/// How often a writer asks for a held lock before it gives up. A holder needs some ten stores; one that lost its CPU
/// is not waited for.
const PATIENCE: u32 = 4096;

#[derive(Default)]
#[repr(C, align(64))]
pub(super) struct Bucket {
    words: [AtomicU64; 3],
    numbers: [AtomicU32; SLOTS],
}

// SAFETY: made of atomic integers.
unsafe impl Zeroable for Bucket {}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Bucket>() == 64);

/// The tags and the link of a bucket as they were at one moment (each word at its own).
#[derive(Clone, Copy)]
pub(super) struct Words([u64; 3]);

impl Words {
    /// One bit a slot that has this tag.
    #[inline(always)]
    pub(super) fn matches(self, tag: u16) -> u32 {
        tags::matches(self.0, tag)
    }

    /// One bit a free slot.
    #[inline(always)]
    pub(super) fn free(self) -> u32 {
        tags::matches(self.0, 0)
    }

    /// A free slot, if this bucket is the whole chain, has room, and holds nothing of this tag.
    #[inline(always)]
    pub(super) fn plain_place(self, tag: u16) -> Option<usize> {
        let free = self.free();
        (self.matches(tag) == 0 && !self.has_link() && free != 0).then(|| free.trailing_zeros() as usize)
    }

    /// Whether no slot is taken.
    pub(super) fn is_empty(self) -> bool {
        self.free() == (1 << SLOTS) - 1
    }

    /// The overflow bucket behind this one.
    #[inline(always)]
    pub(super) fn link(self) -> Option<u32> {
        (((self.0[2] & LINK_MASK) >> LINK_SHIFT) as u32).checked_sub(1)
    }

    /// Whether there is an overflow bucket to look in.
    #[inline(always)]
    pub(super) fn has_link(self) -> bool {
        self.0[2] & LINK_MASK != 0
    }
}

/// The 16 bits of a hash that stand in the bucket; 0 means free.
#[inline(always)]
pub(super) fn tag_of(hash: u64) -> u16 {
    let tag = hash as u16;
    if tag == 0 { 1 } else { tag }
}

impl Bucket {
    #[inline(always)]
    pub(super) fn words(&self) -> Words {
        Words([
            self.words[0].load(Ordering::Acquire),
            self.words[1].load(Ordering::Acquire),
            self.words[2].load(Ordering::Acquire),
        ])
    }

    #[inline(always)]
    pub(super) fn number(&self, slot: usize) -> DirectionIndex {
        DirectionIndex(self.numbers[slot].load(Ordering::Acquire))
    }

    /// Takes the lock. False: its holder does not come round.
    #[inline(always)]
    pub(super) fn lock(&self) -> bool {
        self.try_lock() || self.wait_for_lock()
    }

    #[inline(always)]
    fn try_lock(&self) -> bool {
        let word = self.words[2].load(Ordering::Relaxed);
        word & LOCK == 0
            && self.words[2]
                .compare_exchange(word, word | LOCK, Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
    }

    #[cold]
    fn wait_for_lock(&self) -> bool {
        (1..PATIENCE).any(|_| {
            spin_loop();
            self.try_lock()
        })
    }

    /// Gives the lock back; by its holder.
    #[inline(always)]
    pub(super) fn unlock(&self) {
        let word = self.words[2].load(Ordering::Relaxed);
        debug_assert!(word & LOCK != 0, "unlocked a bucket that nobody holds");
        self.words[2].store(word & !LOCK, Ordering::Release);
    }

    /// Puts a direction into a free slot; under the lock, or before the bucket is linked.
    pub(super) fn put(&self, slot: usize, tag: u16, direction: DirectionIndex) {
        self.numbers[slot].store(direction.0, Ordering::Release);
        self.set_tag(slot, tag);
    }

    /// [`Self::put`] for who has read the words under the lock and found the slot free.
    #[inline(always)]
    pub(super) fn put_into(&self, words: Words, slot: usize, tag: u16, direction: DirectionIndex) {
        self.numbers[slot].store(direction.0, Ordering::Release);
        let word = words.0[slot / 4] | u64::from(tag) << (slot % 4 * 16);
        self.words[slot / 4].store(word, Ordering::Release);
    }

    /// Frees a slot; under the lock. Its number stays: a lookup that has seen the tag may still read it.
    pub(super) fn clear(&self, slot: usize) {
        self.set_tag(slot, 0);
    }

    fn set_tag(&self, slot: usize, tag: u16) {
        let (word, shift) = (slot / 4, slot % 4 * 16);
        // Only the lock's holder writes these words, so load and store need not be one step.
        let old = self.words[word].load(Ordering::Relaxed);
        let new = old & !(0xffff << shift) | u64::from(tag) << shift;
        self.words[word].store(new, Ordering::Release);
    }

    /// Links an overflow bucket behind this one; under the primary's lock.
    pub(super) fn set_link(&self, overflow: Option<u32>) {
        let old = self.words[2].load(Ordering::Relaxed);
        let link = overflow.map_or(0, |overflow| u64::from(overflow + 1) << LINK_SHIFT);
        self.words[2].store(old & !LINK_MASK | link, Ordering::Release);
    }

    /// Empties an overflow bucket that no reader can find.
    pub(super) fn reset(&self) {
        for word in &self.words {
            word.store(0, Ordering::Relaxed);
        }
    }
}
