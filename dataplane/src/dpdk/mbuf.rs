//! Packet buffers: a packet, owned.
//!
//! A packet is a chain of segments; headers are read and written in the first one, and the drivers of weft fill that
//! one before they start a second. Nothing here shares a buffer between packets: a copy is a deep copy, so an owned
//! [`Mbuf`] may be written without asking.
#![allow(unsafe_code)]

use std::{
    mem::ManuallyDrop,
    ptr::{self, NonNull},
    slice,
};

use super::{
    mempool::Mempool,
    offload::{FAMILY_FLAGS, OFFLOAD_FLAGS},
};
use dpdk_sys::rte_mbuf;

/// An owned packet; dropping it gives its buffers back.
#[repr(transparent)]
pub struct Mbuf(pub(super) NonNull<rte_mbuf>);

// SAFETY: an mbuf is plain memory of a pool that any thread may take from and give back to; the owner is alone with it.
unsafe impl Send for Mbuf {}

impl Mbuf {
    /// Takes over a packet from DPDK.
    ///
    /// # Safety
    /// `raw` is a valid mbuf chain that nobody else uses or will free.
    #[inline]
    pub(crate) unsafe fn from_raw(raw: NonNull<rte_mbuf>) -> Self {
        Mbuf(raw)
    }

    /// Gives the packet up to DPDK.
    #[inline]
    pub(crate) fn into_raw(self) -> NonNull<rte_mbuf> {
        ManuallyDrop::new(self).0
    }

    /// A member of a segment's header, by its offset (see `wrapper.h` of dpdk-sys on why not by name).
    ///
    /// # Safety
    /// `segment` is a valid mbuf, and `T` is the type of the member at `offset`.
    #[inline(always)]
    unsafe fn member<T>(segment: NonNull<rte_mbuf>, offset: u32) -> *mut T {
        // SAFETY: the caller's; the offsets come from the C compiler and lie inside the struct.
        unsafe { segment.as_ptr().cast::<u8>().add(offset as usize).cast::<T>() }
    }

    #[inline(always)]
    pub(super) fn get<T: Copy>(&self, offset: u32) -> T {
        // SAFETY: the packet is owned and valid; callers in this module name offset and type of one member.
        unsafe { Self::member::<T>(self.0, offset).read() }
    }

    #[inline(always)]
    pub(super) fn set<T>(&mut self, offset: u32, value: T) {
        // SAFETY: as in `get`, and `&mut self` makes the write exclusive.
        unsafe { Self::member::<T>(self.0, offset).write(value) }
    }

    #[inline(always)]
    fn buffer_and_offset(segment: NonNull<rte_mbuf>) -> (*mut u8, usize) {
        // SAFETY: `segment` belongs to an owned chain.
        unsafe {
            let buffer = Self::member::<*mut u8>(segment, dpdk_sys::RTE_MBUF_OFFSET_BUF_ADDR_).read();
            let offset = Self::member::<u16>(segment, dpdk_sys::RTE_MBUF_OFFSET_DATA_OFF_).read();
            (buffer, usize::from(offset))
        }
    }

    #[inline(always)]
    pub(super) fn segment_length(segment: NonNull<rte_mbuf>) -> u16 {
        // SAFETY: `segment` belongs to an owned chain.
        unsafe { Self::member::<u16>(segment, dpdk_sys::RTE_MBUF_OFFSET_DATA_LEN_).read() }
    }

    #[inline(always)]
    fn next_of(segment: NonNull<rte_mbuf>) -> Option<NonNull<rte_mbuf>> {
        // SAFETY: `segment` belongs to an owned chain.
        NonNull::new(unsafe {
            Self::member::<*mut rte_mbuf>(segment, dpdk_sys::RTE_MBUF_OFFSET_NEXT_).read()
        })
    }

    /// Bytes of the first segment; headers are there.
    #[inline]
    pub fn data(&self) -> &[u8] {
        let (buffer, offset) = Self::buffer_and_offset(self.0);
        // SAFETY: DPDK keeps data_off + data_len within the buffer, which lives as long as the packet.
        unsafe { slice::from_raw_parts(buffer.add(offset), usize::from(Self::segment_length(self.0))) }
    }

    /// Bytes of the first segment, to be written.
    #[inline]
    pub fn data_mut(&mut self) -> &mut [u8] {
        let (buffer, offset) = Self::buffer_and_offset(self.0);
        // SAFETY: as in `data`; buffers are never shared between packets, so `&mut self` is exclusive.
        unsafe { slice::from_raw_parts_mut(buffer.add(offset), usize::from(Self::segment_length(self.0))) }
    }

    /// Bytes of the whole packet.
    #[inline]
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.get::<u32>(dpdk_sys::RTE_MBUF_OFFSET_PKT_LEN_) as usize
    }

    /// Number of segments, at least one.
    #[inline]
    pub fn segments(&self) -> usize {
        usize::from(self.get::<u16>(dpdk_sys::RTE_MBUF_OFFSET_NB_SEGS_))
    }

    /// The packet has one segment: [`data`](Self::data) is all of it.
    #[inline]
    pub fn is_contiguous(&self) -> bool {
        self.segments() == 1
    }

    /// Notes by which port the packet came and by which it leaves, in a field that receivers fill and senders ignore.
    #[inline(always)]
    pub fn set_ports(&mut self, arrival: u16, departure: u16) {
        let ports = u32::from(arrival) | u32::from(departure) << 16;
        self.set(dpdk_sys::RTE_MBUF_OFFSET_HASH_USR_, ports);
    }

    /// What [`set_ports`](Self::set_ports) noted.
    #[inline(always)]
    pub fn ports(&self) -> (u16, u16) {
        let ports = self.get::<u32>(dpdk_sys::RTE_MBUF_OFFSET_HASH_USR_);
        (ports as u16, (ports >> 16) as u16)
    }

    /// Free bytes in front of the first segment.
    #[inline]
    pub fn headroom(&self) -> usize {
        usize::from(self.get::<u16>(dpdk_sys::RTE_MBUF_OFFSET_DATA_OFF_))
    }

    fn tailroom_of(segment: NonNull<rte_mbuf>) -> usize {
        // SAFETY: `segment` belongs to an owned chain.
        let size = unsafe { Self::member::<u16>(segment, dpdk_sys::RTE_MBUF_OFFSET_BUF_LEN_).read() };
        let (_, offset) = Self::buffer_and_offset(segment);
        usize::from(size).saturating_sub(offset + usize::from(Self::segment_length(segment)))
    }

    /// One segment without pending offloads, as most are: [`data`](Self::data) is all there is to it.
    #[inline(always)]
    pub fn is_plain(&self) -> bool {
        self.is_contiguous() && !self.is_pending()
    }

    /// Cuts a packet of one segment to `length` bytes from `offset` on. False, and no change: it is shorter.
    #[inline(always)]
    pub fn narrow(&mut self, offset: usize, length: usize) -> bool {
        debug_assert!(self.is_contiguous());
        if length == 0 || offset + length > usize::from(Self::segment_length(self.0)) {
            return false;
        }
        self.set(
            dpdk_sys::RTE_MBUF_OFFSET_DATA_OFF_,
            (self.headroom() + offset) as u16,
        );
        self.set(dpdk_sys::RTE_MBUF_OFFSET_DATA_LEN_, length as u16);
        self.set(dpdk_sys::RTE_MBUF_OFFSET_PKT_LEN_, length as u32);
        true
    }

    /// The `N` bytes in front of the packet, to be written before it is [prepended](Self::prepend) to. None: the
    /// headroom is smaller.
    #[inline(always)]
    pub fn headroom_mut<const N: usize>(&mut self) -> Option<&mut [u8; N]> {
        let (buffer, offset) = Self::buffer_and_offset(self.0);
        // SAFETY: the `offset` bytes before the data belong to the packet's own buffer, and `&mut self` is exclusive.
        (offset >= N).then(|| unsafe { &mut *buffer.add(offset - N).cast::<[u8; N]>() })
    }

    /// Makes the packet `count` bytes longer in front and returns them; what they hold is left over from before.
    /// None, and no change: the headroom is too small.
    #[inline]
    pub fn prepend(&mut self, count: usize) -> Option<&mut [u8]> {
        let headroom = self.headroom();
        let length = Self::segment_length(self.0);
        if count > headroom || usize::from(length) + count > usize::from(u16::MAX) {
            return None;
        }
        self.set(dpdk_sys::RTE_MBUF_OFFSET_DATA_OFF_, (headroom - count) as u16);
        self.set(dpdk_sys::RTE_MBUF_OFFSET_DATA_LEN_, length + count as u16);
        self.set(dpdk_sys::RTE_MBUF_OFFSET_PKT_LEN_, (self.len() + count) as u32);
        Some(&mut self.data_mut()[..count])
    }

    /// Takes `count` bytes off the front, over segments if need be; buffers that get empty are given back. False, and
    /// no change: the packet is not longer than that.
    #[inline]
    pub fn trim_front(&mut self, count: usize) -> bool {
        let total = self.len();
        if count >= total {
            return false;
        }
        if count >= usize::from(Self::segment_length(self.0)) {
            self.trim_front_over_segments(count);
        } else {
            self.trim_first_segment(count);
        }
        self.set(dpdk_sys::RTE_MBUF_OFFSET_PKT_LEN_, (total - count) as u32);
        true
    }

    /// `count` is less than the first segment's length. Leaves the packet's length to the caller.
    #[inline]
    fn trim_first_segment(&mut self, count: usize) {
        let offset = self.headroom() + count;
        let length = usize::from(Self::segment_length(self.0)) - count;
        self.set(dpdk_sys::RTE_MBUF_OFFSET_DATA_OFF_, offset as u16);
        self.set(dpdk_sys::RTE_MBUF_OFFSET_DATA_LEN_, length as u16);
    }

    #[cold]
    fn trim_front_over_segments(&mut self, mut count: usize) {
        // `count` is less than the packet, so a segment that it leaves bytes of comes before the chain's end.
        while count >= usize::from(Self::segment_length(self.0)) {
            let Some(next) = Self::next_of(self.0) else { return };
            count -= usize::from(Self::segment_length(self.0));
            let (segments, flags, offload) = (
                self.get::<u16>(dpdk_sys::RTE_MBUF_OFFSET_NB_SEGS_),
                self.get::<u64>(dpdk_sys::RTE_MBUF_OFFSET_OL_FLAGS_),
                self.get::<u64>(dpdk_sys::RTE_MBUF_OFFSET_TX_OFFLOAD_),
            );
            let first = std::mem::replace(&mut self.0, next);
            // SAFETY: the first segment is cut off the chain, so only it is freed, and nobody uses it any more.
            unsafe { dpdk_sys::rte_pktmbuf_free_seg(first.as_ptr()) };
            self.set(dpdk_sys::RTE_MBUF_OFFSET_NB_SEGS_, segments - 1);
            self.set(dpdk_sys::RTE_MBUF_OFFSET_OL_FLAGS_, flags);
            self.set(dpdk_sys::RTE_MBUF_OFFSET_TX_OFFLOAD_, offload);
        }
        self.trim_first_segment(count);
    }

    /// Cuts the packet to `length` bytes (padding after an IP packet); segments that get empty are given back. False,
    /// and no change: it is shorter, or `length` is 0.
    pub fn trim_back(&mut self, length: usize) -> bool {
        let total = self.len();
        if length > total || length == 0 {
            return false;
        }
        if length == total {
            return true;
        }
        let mut segment = self.0;
        let mut left = length;
        let mut kept: u16 = 1;
        while left > usize::from(Self::segment_length(segment)) {
            left -= usize::from(Self::segment_length(segment));
            // The lengths of the segments add up to `total`, more than `length`.
            let Some(next) = Self::next_of(segment) else { break };
            segment = next;
            kept += 1;
        }
        // SAFETY: `segment` belongs to this chain; what comes after it is cut off and freed, once.
        unsafe {
            Self::member::<u16>(segment, dpdk_sys::RTE_MBUF_OFFSET_DATA_LEN_).write(left as u16);
            let rest = Self::member::<*mut rte_mbuf>(segment, dpdk_sys::RTE_MBUF_OFFSET_NEXT_)
                .replace(ptr::null_mut());
            free_chain(rest);
        }
        self.set(dpdk_sys::RTE_MBUF_OFFSET_NB_SEGS_, kept);
        self.set(dpdk_sys::RTE_MBUF_OFFSET_PKT_LEN_, length as u32);
        true
    }

    /// Makes the packet `count` bytes longer at its end and returns them, unwritten. None, and no change: the last
    /// segment has no room for them.
    pub fn append(&mut self, count: usize) -> Option<&mut [u8]> {
        let mut last = self.0;
        while let Some(next) = Self::next_of(last) {
            last = next;
        }
        if count > Self::tailroom_of(last) {
            return None;
        }
        let length = usize::from(Self::segment_length(last));
        self.set(dpdk_sys::RTE_MBUF_OFFSET_PKT_LEN_, (self.len() + count) as u32);
        // SAFETY: `last` belongs to this chain, and its buffer has `count` bytes of room behind its data.
        unsafe {
            Self::member::<u16>(last, dpdk_sys::RTE_MBUF_OFFSET_DATA_LEN_).write((length + count) as u16);
            let (buffer, offset) = Self::buffer_and_offset(last);
            Some(slice::from_raw_parts_mut(buffer.add(offset + length), count))
        }
    }

    /// Makes a packet of one segment empty, to be filled again.
    pub(crate) fn clear(&mut self) {
        debug_assert!(self.is_contiguous());
        self.set(dpdk_sys::RTE_MBUF_OFFSET_DATA_LEN_, 0u16);
        self.set(dpdk_sys::RTE_MBUF_OFFSET_PKT_LEN_, 0u32);
    }

    /// Sees to it that the first `count` bytes are in the first segment, by moving them there from the next ones.
    /// False, and no change to the packet's bytes: it is shorter, or the first segment has no room.
    pub fn make_contiguous(&mut self, count: usize) -> bool {
        let have = usize::from(Self::segment_length(self.0));
        if count <= have {
            return true;
        }
        let missing = count - have;
        if count > self.len() || missing > Self::tailroom_of(self.0) {
            return false;
        }
        let (buffer, offset) = Self::buffer_and_offset(self.0);
        // SAFETY: the room behind the first segment's data was measured above.
        let room = unsafe { slice::from_raw_parts_mut(buffer.add(offset + have), missing) };
        copy_segments(Self::next_of(self.0), 0, room);
        self.set(dpdk_sys::RTE_MBUF_OFFSET_DATA_LEN_, count as u16);

        // Take the moved bytes off the segments behind.
        let mut left = missing;
        let mut segments = self.get::<u16>(dpdk_sys::RTE_MBUF_OFFSET_NB_SEGS_);
        while let Some(second) = Self::next_of(self.0) {
            let length = usize::from(Self::segment_length(second));
            if length > left {
                // SAFETY: `second` belongs to this chain, and it keeps at least one byte.
                unsafe {
                    let start = Self::member::<u16>(second, dpdk_sys::RTE_MBUF_OFFSET_DATA_OFF_);
                    start.write(start.read() + left as u16);
                    Self::member::<u16>(second, dpdk_sys::RTE_MBUF_OFFSET_DATA_LEN_)
                        .write((length - left) as u16);
                }
                break;
            }
            left -= length;
            let third = Self::next_of(second).map_or(ptr::null_mut(), NonNull::as_ptr);
            self.set(dpdk_sys::RTE_MBUF_OFFSET_NEXT_, third);
            segments -= 1;
            // SAFETY: `second` was just taken out of the chain.
            unsafe { dpdk_sys::rte_pktmbuf_free_seg(second.as_ptr()) };
        }
        self.set(dpdk_sys::RTE_MBUF_OFFSET_NB_SEGS_, segments);
        true
    }

    /// Makes the packet one segment. False, and no change to its bytes: it does not fit into one.
    pub fn linearize(&mut self) -> bool {
        self.make_contiguous(self.len())
    }

    /// Copies bytes from `offset` on, over segments; returns how many there were.
    pub fn copy_to(&self, offset: usize, into: &mut [u8]) -> usize {
        copy_segments(Some(self.0), offset, into)
    }

    /// Writes `bytes` from `offset` on, over segments. False, and no change: they do not fit the packet's length.
    pub fn write_at(&mut self, offset: usize, mut bytes: &[u8]) -> bool {
        if offset.checked_add(bytes.len()).is_none_or(|end| end > self.len()) {
            return false;
        }
        let mut skip = offset;
        self.for_each_segment(|segment| {
            let start = skip.min(segment.len());
            skip -= start;
            let room = &mut segment[start..];
            let (now, later) = bytes.split_at(room.len().min(bytes.len()));
            room[..now.len()].copy_from_slice(now);
            bytes = later;
        });
        true
    }

    /// The segments' bytes, in order.
    #[inline]
    pub fn segment_slices(&self) -> SegmentSlices<'_> {
        SegmentSlices {
            next: Some(self.0),
            packet: std::marker::PhantomData,
        }
    }

    /// Runs over the segments' bytes, to write them.
    pub fn for_each_segment(&mut self, mut each: impl FnMut(&mut [u8])) {
        let mut current = Some(self.0);
        while let Some(segment) = current {
            let (buffer, offset) = Self::buffer_and_offset(segment);
            // SAFETY: as in `data_mut`, one segment at a time.
            each(unsafe {
                slice::from_raw_parts_mut(buffer.add(offset), usize::from(Self::segment_length(segment)))
            });
            current = Self::next_of(segment);
        }
    }

    /// Hangs `tail` behind this packet as further segments; this packet's flags stand. Gives `tail` back if the chain
    /// would get too long.
    pub fn chain(&mut self, tail: Mbuf) -> Result<(), Mbuf> {
        let segments = self.segments() + tail.segments();
        if segments > usize::from(u16::MAX) {
            return Err(tail);
        }
        let length = self.len() + tail.len();
        let mut last = self.0;
        while let Some(next) = Self::next_of(last) {
            last = next;
        }
        let tail = tail.into_raw().as_ptr();
        // SAFETY: `last` ends this chain, and the tail was owned and is given up to it.
        unsafe { Self::member::<*mut rte_mbuf>(last, dpdk_sys::RTE_MBUF_OFFSET_NEXT_).write(tail) };
        self.set(dpdk_sys::RTE_MBUF_OFFSET_NB_SEGS_, segments as u16);
        self.set(dpdk_sys::RTE_MBUF_OFFSET_PKT_LEN_, length as u32);
        Ok(())
    }

    /// Fetches the mbuf's header into the cache.
    #[inline(always)]
    pub fn prefetch(&self) {
        prefetch(self.0.as_ptr().cast());
    }

    /// Fetches the packet's first cache line; reads the mbuf's header (see [`prefetch`](Self::prefetch)).
    #[inline(always)]
    pub fn prefetch_data(&self) {
        let (buffer, offset) = Self::buffer_and_offset(self.0);
        let data = buffer.wrapping_add(offset).cast_const();
        prefetch(data);
        prefetch(data.wrapping_sub(64));
    }

    /// A copy of the packet in buffers of its own, with its pending offloads. None: the pool is empty.
    pub fn clone_deep(&self, pool: &Mempool) -> Option<Mbuf> {
        // SAFETY: the packet and the pool are valid; the copy is a new chain that belongs to us.
        NonNull::new(unsafe { dpdk_sys::rte_pktmbuf_copy(self.0.as_ptr(), pool.as_raw(), 0, u32::MAX) })
            .map(Mbuf)
    }

    /// Forgets what the receiving device said of the packet (its hash, type, tags and checksum results); pending
    /// offloads stay.
    #[inline]
    pub fn clear_receive_state(&mut self) {
        let flags = self.get::<u64>(dpdk_sys::RTE_MBUF_OFFSET_OL_FLAGS_) & (OFFLOAD_FLAGS | FAMILY_FLAGS);
        self.set(dpdk_sys::RTE_MBUF_OFFSET_OL_FLAGS_, flags);
        self.set(dpdk_sys::RTE_MBUF_OFFSET_PACKET_TYPE_, 0u32);
        self.set(dpdk_sys::RTE_MBUF_OFFSET_VLAN_TCI_, 0u16);
    }
}

impl Drop for Mbuf {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the packet is owned, and this is its end.
        unsafe { dpdk_sys::rte_pktmbuf_free(self.0.as_ptr()) };
    }
}

#[inline(always)]
fn prefetch(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch never faults, whatever the address.
    unsafe {
        core::arch::x86_64::_mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T0 }>(address.cast())
    }
    #[cfg(not(target_arch = "x86_64"))]
    // SAFETY: a prefetch never faults, whatever the address.
    unsafe {
        dpdk_sys::rte_prefetch0(address.cast())
    }
}

/// # Safety
/// `segment` is null or starts a chain of segments that nobody else refers to.
unsafe fn free_chain(mut segment: *mut rte_mbuf) {
    while let Some(current) = NonNull::new(segment) {
        // SAFETY: the caller's; the next pointer is read before the segment goes.
        unsafe {
            segment = Mbuf::member::<*mut rte_mbuf>(current, dpdk_sys::RTE_MBUF_OFFSET_NEXT_).read();
            dpdk_sys::rte_pktmbuf_free_seg(current.as_ptr());
        }
    }
}

fn copy_segments(mut segment: Option<NonNull<rte_mbuf>>, mut offset: usize, into: &mut [u8]) -> usize {
    let mut done = 0;
    while let Some(current) = segment {
        let length = usize::from(Mbuf::segment_length(current));
        if offset < length && done < into.len() {
            let count = (length - offset).min(into.len() - done);
            let (buffer, start) = Mbuf::buffer_and_offset(current);
            // SAFETY: `count` bytes from `offset` lie in the segment, and `into` has room; they cannot overlap, since
            // the segments belong to the packet.
            unsafe {
                ptr::copy_nonoverlapping(buffer.add(start + offset), into.as_mut_ptr().add(done), count);
            }
            done += count;
        }
        offset = offset.saturating_sub(length);
        segment = Mbuf::next_of(current);
    }
    done
}

/// The bytes of a packet, segment by segment.
pub struct SegmentSlices<'a> {
    next: Option<NonNull<rte_mbuf>>,
    packet: std::marker::PhantomData<&'a Mbuf>,
}

impl<'a> Iterator for SegmentSlices<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        let segment = self.next?;
        self.next = Mbuf::next_of(segment);
        let (buffer, offset) = Mbuf::buffer_and_offset(segment);
        // SAFETY: as in `Mbuf::data`; the packet is borrowed for 'a.
        Some(unsafe { slice::from_raw_parts(buffer.add(offset), usize::from(Mbuf::segment_length(segment))) })
    }
}
