//! One user at a time: what makes a shared queue safe to use through `&self`.

use std::{
    hint,
    sync::atomic::{AtomicBool, Ordering},
};

/// Held by at most one thread. On a cache line of its own, since each queue's worker writes it once a burst.
#[derive(Default)]
#[repr(align(128))]
pub(crate) struct Claim(AtomicBool);

/// Ends the claim when dropped.
pub(crate) struct Claimed<'a>(&'a AtomicBool);

impl Claim {
    /// Takes it, or not if another thread has it: for receive queues, which have one poller by agreement.
    #[inline]
    pub(crate) fn try_take(&self) -> Option<Claimed<'_>> {
        (!self.0.swap(true, Ordering::Acquire)).then_some(Claimed(&self.0))
    }

    /// Takes it, after the burst of the thread that has it: for transmit queues that workers share.
    #[inline]
    pub(crate) fn take(&self) -> Claimed<'_> {
        loop {
            if let Some(claimed) = self.try_take() {
                return claimed;
            }
            while self.0.load(Ordering::Relaxed) {
                hint::spin_loop();
            }
        }
    }
}

impl Drop for Claimed<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}
