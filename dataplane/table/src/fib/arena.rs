//! Blocks of words for the nodes of one table, with copy on write.
//!
//! A block made since the last publish is *fresh*: no view leads to it and it is changed in place. Any other block
//! is left as it is; what takes its place is a new block, and the old one is *retired*: it is free again when the
//! last view that leads to it is gone.
#![allow(unsafe_code)]

use std::sync::Arc;

use super::{
    node::MAX_WORDS,
    words::{LINE, Words},
};

/// Words in the first piece.
const FIRST_WORDS: usize = 128;
/// Words in a hugepage: large pieces are multiples of it.
const HUGE_PAGE_WORDS: usize = (2 << 20) / size_of::<u32>();

/// Place and words of a block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block {
    pub(super) place: u32,
    pub(super) words: u32,
}

/// The writer's blocks.
pub(super) struct Arena {
    words: Arc<Words>,
    hugepages: bool,
    /// Nothing at or behind this place was ever handed out.
    top: u32,
    /// Free blocks by size. Not linked through the blocks themselves: these are in no cache any more.
    free: Vec<Vec<u32>>,
    free_words: u64,
    live_words: u64,
    /// Words handed out since the piece was made.
    turnover: u64,
    /// A bit a word: a fresh block begins here.
    fresh: Vec<u64>,
    /// Where bits are set, and maybe more; none is kept once clearing all is as cheap.
    fresh_places: Option<Vec<u32>>,
    /// Blocks replaced since the last publish.
    retired: Vec<Block>,
}

impl Arena {
    pub(super) fn new(hugepages: bool) -> Arena {
        Arena {
            words: Arc::new(Words::new(0, false)),
            hugepages,
            top: 0,
            free: Vec::new(),
            free_words: 0,
            live_words: 0,
            turnover: 0,
            fresh: Vec::new(),
            fresh_places: Some(Vec::new()),
            retired: Vec::new(),
        }
    }

    /// An arena that takes over from another, with room for `words` and as much again as it may need until the next
    /// time it is made anew.
    pub(super) fn successor(&self, words: u64) -> Arena {
        let mut arena = Arena::new(self.hugepages);
        arena.grow(words + words / 8);
        arena
    }

    /// What was handed out so far does not count as turnover.
    pub(super) fn settle(&mut self) {
        self.turnover = 0;
    }

    /// The piece of memory in use.
    pub(super) fn words(&self) -> &Arc<Words> {
        &self.words
    }

    /// Words of the blocks that the writer's trie is made of.
    pub(super) fn live_words(&self) -> u64 {
        self.live_words
    }

    /// Words in free blocks.
    pub(super) fn free_words(&self) -> u64 {
        self.free_words
    }

    /// Words handed out since the piece was made: what a new piece has to be worth.
    pub(super) fn turnover(&self) -> u64 {
        self.turnover
    }

    /// Memory of the bookkeeping in bytes.
    pub(super) fn writer_bytes(&self) -> usize {
        self.free.capacity() * size_of::<Vec<u32>>()
            + self.free.iter().map(Vec::capacity).sum::<usize>() * size_of::<u32>()
            + self.fresh.capacity() * size_of::<u64>()
            + self.fresh_places.as_ref().map_or(0, Vec::capacity) * size_of::<u32>()
            + self.retired.capacity() * size_of::<Block>()
    }

    /// A fresh block; what is in it is anything.
    pub(super) fn allocate(&mut self, words: u32) -> u32 {
        let place = self.take_free(words).unwrap_or_else(|| self.take_new(words));
        self.live_words += u64::from(words);
        self.turnover += u64::from(words);
        self.fresh[place as usize / 64] |= 1 << (place % 64);
        match &mut self.fresh_places {
            Some(places) if places.len() < self.fresh.len() => places.push(place),
            places => *places = None,
        }
        place
    }

    fn take_free(&mut self, words: u32) -> Option<u32> {
        let place = self.free.get_mut(words as usize)?.pop()?;
        self.free_words -= u64::from(words);
        Some(place)
    }

    /// Takes memory that was never used. A block that fits into a cache line lies in one, a larger one begins with
    /// one: a reader waits once for a node. What is left of the line before becomes a free block.
    fn take_new(&mut self, words: u32) -> u32 {
        let room = LINE - self.top % LINE;
        let gap = if words <= room || room == LINE { 0 } else { room };
        let top = u64::from(self.top) + u64::from(gap) + u64::from(words);
        if top > self.words.len() as u64 {
            self.grow(top);
        }
        if gap > 0 {
            self.put_free(Block {
                place: self.top,
                words: gap,
            });
        }
        let place = self.top + gap;
        self.top = place + words;
        place
    }

    /// Moves to a larger piece, at least this large.
    fn grow(&mut self, least: u64) {
        assert!(
            least <= u64::from(MAX_WORDS),
            "a FIB needs more than {MAX_WORDS} words: spread its routes over several VRFs"
        );
        let old = self.words.len();
        let least = least as usize;
        let count = if least < HUGE_PAGE_WORDS / 2 {
            least
                .max(old + old / 2)
                .max(FIRST_WORDS)
                .next_multiple_of(FIRST_WORDS)
        } else {
            least.max(old + old / 8).next_multiple_of(HUGE_PAGE_WORDS)
        };
        let count = count.min(MAX_WORDS as usize);
        let mut words = Words::new(count, self.hugepages);
        words.fill_from(&self.words, self.top);
        self.words = Arc::new(words);
        self.fresh.resize(count.div_ceil(64), 0);
    }

    /// Gives a block of the writer's trie back: at once if it is fresh, else when the views that lead to it are gone.
    pub(super) fn release(&mut self, place: u32, words: u32) {
        self.live_words -= u64::from(words);
        let block = Block { place, words };
        if self.is_fresh(place) {
            self.fresh[place as usize / 64] &= !(1 << (place % 64));
            self.put_free(block);
        } else {
            self.retired.push(block);
        }
    }

    /// Words of blocks replaced since the last publish, and how far memory was ever handed out.
    #[cfg(test)]
    pub(super) fn retired_words_and_top(&self) -> (u64, u64) {
        (
            self.retired.iter().map(|block| u64::from(block.words)).sum(),
            u64::from(self.top),
        )
    }

    /// Makes a retired block, to which no view leads any more, free.
    pub(super) fn put_free(&mut self, block: Block) {
        let Block { place, words } = block;
        if self.free.len() <= words as usize {
            self.free.resize_with(words as usize + 1, Vec::new);
        }
        self.free[words as usize].push(place);
        self.free_words += u64::from(words);
    }

    /// Whether the block may be changed in place.
    #[inline(always)]
    pub(super) fn is_fresh(&self, place: u32) -> bool {
        self.fresh[place as usize / 64] & (1 << (place % 64)) != 0
    }

    /// From now on a view leads to all blocks: none is fresh. Gives the blocks that it does not lead to any more.
    pub(super) fn seal(&mut self) -> Vec<Block> {
        match &mut self.fresh_places {
            Some(places) => {
                for place in places.drain(..) {
                    self.fresh[place as usize / 64] = 0;
                }
            }
            places => {
                self.fresh.fill(0);
                *places = Some(Vec::new());
            }
        }
        std::mem::take(&mut self.retired)
    }

    /// A word of a block.
    #[inline(always)]
    pub(super) fn get(&self, block: u32, offset: u32) -> u32 {
        self.words.get(block + offset)
    }

    /// Two words of a block as one.
    #[inline(always)]
    pub(super) fn get_wide(&self, block: u32, offset: u32) -> u64 {
        u64::from(self.get(block, offset)) | u64::from(self.get(block, offset + 1)) << 32
    }

    /// Writes a word of a fresh block.
    #[inline(always)]
    pub(super) fn set(&mut self, block: u32, offset: u32, value: u32) {
        debug_assert!(self.is_fresh(block), "block {block} is published");
        // SAFETY: the block is fresh (every caller allocated it or asked), so no view leads to it; `&mut self` is
        // the one writer.
        unsafe { self.words.set(block + offset, value) };
    }

    /// Writes two words of a fresh block.
    #[inline(always)]
    pub(super) fn set_wide(&mut self, block: u32, offset: u32, value: u64) {
        self.set(block, offset, value as u32);
        self.set(block, offset + 1, (value >> 32) as u32);
    }

    /// Copies words of any block into a fresh one, which may be the same.
    pub(super) fn copy(&mut self, from: (u32, u32), to: (u32, u32), count: u32) {
        debug_assert!(self.is_fresh(to.0), "block {} is published", to.0);
        // SAFETY: as in `set`, for the destination.
        unsafe { self.words.copy(from.0 + from.1, to.0 + to.1, count) };
    }

    /// Copies a block of another arena into a fresh block of this one.
    pub(super) fn adopt(&mut self, source: &Arena, from: u32, words: u32) -> u32 {
        let to = self.allocate(words);
        for offset in 0..words {
            self.set(to, offset, source.get(from, offset));
        }
        to
    }
}
