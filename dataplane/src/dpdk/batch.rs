//! A burst of owned packets, in the form in which DPDK's burst calls take and give them.
#![allow(unsafe_code)]

use std::{
    mem::{ManuallyDrop, MaybeUninit},
    ptr, slice,
};

use dpdk_sys::rte_mbuf;

use super::mbuf::Mbuf;

/// Most packets that one receive hands over, and that one [`Batch`] holds.
pub const BURST: usize = 64;

/// Up to [`BURST`] owned packets, their pointers side by side as DPDK's burst calls take them.
pub struct Batch {
    length: usize,
    packets: [MaybeUninit<Mbuf>; BURST],
}

impl Batch {
    /// No packets.
    #[inline]
    pub const fn new() -> Self {
        Batch {
            length: 0,
            packets: [const { MaybeUninit::uninit() }; BURST],
        }
    }

    /// How many packets it holds.
    #[inline]
    pub fn len(&self) -> usize {
        self.length
    }

    /// No packets.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// No room.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.length == BURST
    }

    /// Adds a packet at the end, or gives it back if there is no room.
    #[inline]
    pub fn push(&mut self, packet: Mbuf) -> Result<(), Mbuf> {
        let Some(slot) = self.packets.get_mut(self.length) else {
            return Err(packet);
        };
        slot.write(packet);
        self.length += 1;
        Ok(())
    }

    /// Takes the last packet.
    #[inline]
    pub fn pop(&mut self) -> Option<Mbuf> {
        self.length = self.length.checked_sub(1)?;
        // SAFETY: packets before the old length are initialised, and this one is no longer counted.
        Some(unsafe { self.packets[self.length].assume_init_read() })
    }

    /// Takes the packet at `index`; the last one moves into its place. None: there is none.
    #[inline]
    pub fn take(&mut self, index: usize) -> Option<Mbuf> {
        if index >= self.length {
            return None;
        }
        self.length -= 1;
        self.packets.swap(index, self.length);
        // SAFETY: as in `pop`.
        Some(unsafe { self.packets[self.length].assume_init_read() })
    }

    /// Takes the first `count` packets (or all, if there are fewer), in order; those left keep theirs.
    #[inline]
    pub fn drain_front(&mut self, count: usize) -> impl Iterator<Item = Mbuf> {
        let mut taken = Batch::new();
        let count = count.min(self.length);
        // SAFETY: the first `count` packets are initialised; they move to `taken`, and `forget_front` forgets them.
        unsafe {
            ptr::copy_nonoverlapping(self.packets.as_ptr(), taken.packets.as_mut_ptr(), count);
            self.forget_front(count);
        }
        let taken = ManuallyDrop::new(taken);
        Drain {
            batch: taken,
            next: 0,
            length: count,
        }
    }

    /// Gives all packets' buffers back.
    #[inline]
    pub fn free_all(&mut self) {
        if self.length > 0 {
            let count = std::mem::take(&mut self.length);
            // SAFETY: the first `count` packets are owned, and no longer counted.
            unsafe { dpdk_sys::rte_pktmbuf_free_bulk(self.raw_mut(), count as u32) };
        }
    }

    /// Gives the buffers of the first `count` packets back (or of all, if there are fewer); those left move up.
    #[inline]
    pub fn free_front(&mut self, count: usize) {
        let count = count.min(self.length);
        if count > 0 {
            // SAFETY: the first `count` packets are owned, and forgotten as they are freed.
            unsafe {
                dpdk_sys::rte_pktmbuf_free_bulk(self.raw_mut(), count as u32);
                self.forget_front(count);
            }
        }
    }

    /// The packets, in order.
    #[inline]
    pub fn as_slice(&self) -> &[Mbuf] {
        // SAFETY: the first `length` packets are initialised.
        unsafe { slice::from_raw_parts(self.packets.as_ptr().cast::<Mbuf>(), self.length) }
    }

    /// The packets, in order, to be written.
    #[inline]
    pub fn as_mut_slice(&mut self) -> &mut [Mbuf] {
        // SAFETY: the first `length` packets are initialised.
        unsafe { slice::from_raw_parts_mut(self.packets.as_mut_ptr().cast::<Mbuf>(), self.length) }
    }

    /// Runs over the packets.
    #[inline]
    pub fn iter(&self) -> slice::Iter<'_, Mbuf> {
        self.as_slice().iter()
    }

    /// Runs over the packets, to write them.
    #[inline]
    pub fn iter_mut(&mut self) -> slice::IterMut<'_, Mbuf> {
        self.as_mut_slice().iter_mut()
    }

    /// The pointers, for DPDK's burst calls.
    #[inline]
    pub(crate) fn raw_mut(&mut self) -> *mut *mut rte_mbuf {
        self.packets.as_mut_ptr().cast()
    }

    /// Where a receive call writes pointers, and how many.
    #[inline]
    pub(crate) fn room(&mut self) -> (*mut *mut rte_mbuf, u16) {
        // SAFETY: `length` is at most BURST: one past the end at most.
        (
            unsafe { self.raw_mut().add(self.length) },
            (BURST - self.length) as u16,
        )
    }

    /// Counts packets that were written into [`room`](Self::room).
    ///
    /// # Safety
    /// `count` valid, owned packets were written there.
    #[inline]
    pub(crate) unsafe fn grow(&mut self, count: usize) {
        debug_assert!(self.length + count <= BURST);
        self.length += count;
    }

    /// Forgets the first `count` packets, whose owner is another now; those left move up.
    ///
    /// # Safety
    /// `count` is at most the length, and the packets were handed over.
    #[inline]
    pub(crate) unsafe fn forget_front(&mut self, count: usize) {
        debug_assert!(count <= self.length);
        self.length -= count;
        if self.length > 0 {
            // SAFETY: both ranges lie in the array; the packets left are moved, not copied.
            unsafe {
                ptr::copy(
                    self.packets.as_ptr().add(count),
                    self.packets.as_mut_ptr(),
                    self.length,
                )
            };
        }
    }
}

impl Default for Batch {
    fn default() -> Self {
        Batch::new()
    }
}

impl Drop for Batch {
    #[inline]
    fn drop(&mut self) {
        self.free_all();
    }
}

struct Drain {
    batch: ManuallyDrop<Batch>,
    next: usize,
    length: usize,
}

impl Iterator for Drain {
    type Item = Mbuf;

    #[inline]
    fn next(&mut self) -> Option<Mbuf> {
        if self.next == self.length {
            return None;
        }
        self.next += 1;
        // SAFETY: each of the first `length` packets is read once.
        Some(unsafe { self.batch.packets[self.next - 1].assume_init_read() })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.length - self.next, Some(self.length - self.next))
    }
}

impl Drop for Drain {
    fn drop(&mut self) {
        for packet in self.by_ref() {
            drop(packet);
        }
    }
}
