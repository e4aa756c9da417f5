//! The memory of one table: words of 32 bits, named by number, in one piece.
//!
//! Small tables (most of 4,096 VRFs) live on the heap, large ones in hugetlb pages if there are some. A piece never
//! moves or grows; the arena copies it into a larger one, and views of before keep the old piece.
#![allow(unsafe_code)]

use std::{cell::UnsafeCell, ptr::NonNull};

use crate::memory::{FlatMemory, Zeroable};

/// From here on a piece is worth pages of its own.
const OWN_PAGES: usize = (1 << 20) / size_of::<u32>();

/// A word that the writer may change while readers look at others.
#[derive(Default)]
#[repr(transparent)]
struct Word(UnsafeCell<u32>);

// SAFETY: an integer in a cell; zero is the default and nothing is dropped.
unsafe impl Zeroable for Word {}
// SAFETY: a word is written only by the one writer and only while no published view leads to it (see `Arena`), so
// no reader looks at it meanwhile.
unsafe impl Sync for Word {}

/// Words that lie in one cache line.
pub(super) const LINE: u32 = 16;

/// A cache line.
#[derive(Default)]
#[repr(C, align(64))]
struct Line([Word; LINE as usize]);

// SAFETY: an array of zeroable values.
unsafe impl Zeroable for Line {}

/// A piece of memory, all zero at first.
pub(super) struct Words {
    lines: NonNull<Line>,
    count: usize,
    /// The pages that the lines are in; none: they are on the heap.
    pages: Option<FlatMemory<Line>>,
}

// SAFETY: Words owns its lines as a Box would.
unsafe impl Send for Words {}
// SAFETY: as for `Word`.
unsafe impl Sync for Words {}

impl Words {
    /// Room for `count` words, whole cache lines; in hugetlb pages if it is large, they are wanted and there are
    /// some.
    pub(super) fn new(count: usize, hugepages: bool) -> Words {
        let count = count.div_ceil(LINE as usize);
        let pages = (count * LINE as usize >= OWN_PAGES).then(|| FlatMemory::new("FIB", count, hugepages));
        // Without a mapping of its own it lives on the heap, where running out ends the process as usual.
        let pages = pages.and_then(Result::ok);
        let lines = match &pages {
            Some(pages) => NonNull::from(&**pages).cast(),
            None => {
                let lines: Box<[Line]> = (0..count).map(|_| Line::default()).collect();
                NonNull::from(Box::leak(lines)).cast()
            }
        };
        Words { lines, count, pages }
    }

    #[inline(always)]
    fn words(&self) -> &[Word] {
        // SAFETY: the lines live as long as self; a line is 16 words and nothing else (repr(C), 64 bytes of 64).
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.count * LINE as usize) }
    }

    /// How many words.
    pub(super) fn len(&self) -> usize {
        self.words().len()
    }

    /// Memory in bytes, with what rounding to pages adds.
    pub(super) fn bytes(&self) -> usize {
        self.pages
            .as_ref()
            .map_or(self.count * size_of::<Line>(), |pages| pages.bytes())
    }

    /// Where readers begin to count.
    pub(super) fn base(&self) -> *const u32 {
        self.lines.as_ptr().cast()
    }

    /// A word that the caller can reach: from a view, or as the writer.
    #[inline(always)]
    pub(super) fn get(&self, place: u32) -> u32 {
        // SAFETY: the writer is the only one to write. It reads what it likes; others read only words to which a
        // view leads, and these the writer leaves alone.
        unsafe { *self.words()[place as usize].0.get() }
    }

    /// # Safety
    /// Only for the one writer, and for a word to which no view leads.
    #[inline(always)]
    pub(super) unsafe fn set(&self, place: u32, value: u32) {
        // SAFETY: as no view leads to the word, nobody reads it; the writer is one thread.
        unsafe { *self.words()[place as usize].0.get() = value }
    }

    /// Copies words from one place to another, which may overlap.
    ///
    /// # Safety
    /// As for [`Self::set`], for each word of the destination.
    pub(super) unsafe fn copy(&self, from: u32, to: u32, count: u32) {
        let words = self.words();
        let count = count as usize;
        let (from, to) = (&words[from as usize..][..count], &words[to as usize..][..count]);
        // SAFETY: both ranges are inside the piece (checked by the slices); the destination is the writer's alone.
        unsafe {
            std::ptr::copy(
                from.as_ptr().cast::<u32>(),
                to.as_ptr().cast::<u32>().cast_mut(),
                count,
            )
        }
    }

    /// Fills the start of this piece, to which no view leads yet, from another.
    pub(super) fn fill_from(&mut self, source: &Words, count: u32) {
        let count = count as usize;
        let (from, to) = (&source.words()[..count], &self.words()[..count]);
        // SAFETY: both ranges are inside their pieces, which are different; this one is borrowed for writing.
        unsafe {
            std::ptr::copy_nonoverlapping(
                from.as_ptr().cast::<u32>(),
                to.as_ptr().cast::<u32>().cast_mut(),
                count,
            );
        }
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        if self.pages.is_none() {
            let lines = std::ptr::slice_from_raw_parts_mut(self.lines.as_ptr(), self.count);
            // SAFETY: the box leaked in `new`, of the same length; no view is left (each keeps its Words).
            drop(unsafe { Box::from_raw(lines) });
        }
    }
}
