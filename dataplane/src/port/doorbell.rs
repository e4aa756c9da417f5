//! How quiet queues are heard without being asked: a guest kicks the eventfd of its ring (virtio 1.2, section 2.7.10),
//! a tap's descriptor becomes readable, and the worker that owns the queue learns of all of them by one system call
//! that never waits (`epoll_wait`, edge-triggered), at most once in a while.
//!
//! To look at each quiet ring is dearer: its index is in another guest's page, and a thousand of those are a thousand
//! misses of the TLB (measured: 260 cycles a ring by the vhost library's count, 58 by reading the index alone).
//!
//! A kick tells that there may be something, not that there is. Nothing here points into a guest's memory.
#![allow(unsafe_code)]

use std::{
    io,
    num::NonZeroU16,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use weft_table::WorkerId;

use crate::control::MAX_WORKERS;

/// Queues that can have a doorbell; those beyond are polled.
pub const MOST: usize = 16_384;
/// Doorbells heard in one call; what else rang is heard in the next.
pub const HEARD: usize = 64;

/// One a worker, made when its first queue needs it.
static HEARERS: [OnceLock<OwnedFd>; MAX_WORKERS] = [const { OnceLock::new() }; MAX_WORKERS];

/// Numbers that were given back, and the next that never was given out.
static NUMBERS: Mutex<(Vec<DoorbellId>, NonZeroU16)> = Mutex::new((Vec::new(), NonZeroU16::MIN));

/// Names a queue's doorbell to its worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DoorbellId(NonZeroU16);

impl DoorbellId {
    /// For arrays of [`MOST`].
    #[inline(always)]
    pub fn index(self) -> usize {
        usize::from(self.0.get()) % MOST
    }
}

/// The doorbell of a receive queue. Its worker hears it from [`hang`](Self::hang) on, until it is dropped.
pub struct Doorbell {
    id: DoorbellId,
    hung: Mutex<Hung>,
    heard: AtomicBool,
}

#[derive(Default)]
struct Hung {
    /// Who is to hear it, once that is known.
    worker: Option<WorkerId>,
    /// Descriptors of our own: their owners may close theirs at any time.
    kicks: Vec<OwnedFd>,
}

impl Doorbell {
    /// One that nobody hears yet. None: all numbers are taken.
    pub fn new() -> Option<Doorbell> {
        let mut numbers = NUMBERS.lock().unwrap_or_else(PoisonError::into_inner);
        let id = match numbers.0.pop() {
            Some(id) => id,
            None => {
                let id = numbers.1;
                numbers.1 = id.checked_add(1).filter(|next| usize::from(next.get()) <= MOST)?;
                DoorbellId(id)
            }
        };
        Some(Doorbell {
            id,
            hung: Mutex::default(),
            heard: AtomicBool::new(false),
        })
    }

    /// Its name.
    pub fn id(&self) -> DoorbellId {
        self.id
    }

    /// This worker is to hear it from now on.
    pub fn hang(&self, worker: WorkerId) {
        let same = |hung: &Hung| hung.worker == Some(worker);
        if !same(&self.hung.lock().unwrap_or_else(PoisonError::into_inner)) {
            self.change(|hung| hung.worker = Some(worker));
        }
    }

    /// It rings when one of these descriptors gets ready to be read, or is already; none: it does not ring.
    pub fn wire(&self, kicks: Vec<OwnedFd>) {
        self.change(|hung| hung.kicks = kicks);
    }

    /// Its worker hears it.
    #[inline]
    pub fn is_heard(&self) -> bool {
        self.heard.load(Ordering::Relaxed)
    }

    fn change(&self, change: impl FnOnce(&mut Hung)) {
        let mut hung = self.hung.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(epoll) = hung.worker.and_then(hearer) {
            for kick in &hung.kicks {
                // SAFETY: both descriptors are open. One that was not listened to is refused.
                unsafe {
                    let (epoll, kick) = (epoll.as_raw_fd(), kick.as_raw_fd());
                    libc::epoll_ctl(epoll, libc::EPOLL_CTL_DEL, kick, std::ptr::null_mut());
                }
            }
        }
        change(&mut hung);
        let epoll = hung.worker.and_then(hearer);
        let id = self.id;
        let listen = |kick: &OwnedFd| {
            let mut event = libc::epoll_event {
                events: (libc::EPOLLIN | libc::EPOLLET) as u32,
                u64: u64::from(id.0.get()),
            };
            // SAFETY: both descriptors are open, and the event lives during the call.
            epoll.is_some_and(|epoll| unsafe {
                libc::epoll_ctl(
                    epoll.as_raw_fd(),
                    libc::EPOLL_CTL_ADD,
                    kick.as_raw_fd(),
                    &mut event,
                ) == 0
            })
        };
        let heard = !hung.kicks.is_empty() && hung.kicks.iter().all(listen);
        self.heard.store(heard, Ordering::Relaxed);
    }
}

impl Drop for Doorbell {
    fn drop(&mut self) {
        self.change(|hung| hung.kicks.clear());
        let mut numbers = NUMBERS.lock().unwrap_or_else(PoisonError::into_inner);
        numbers.0.push(self.id);
    }
}

fn hearer(worker: WorkerId) -> Option<&'static OwnedFd> {
    let place = HEARERS.get(usize::from(worker.0))?;
    if place.get().is_none() {
        // SAFETY: makes a descriptor that is ours.
        let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if epoll < 0 {
            return None;
        }
        // SAFETY: as above. If another thread was faster, this one is closed again.
        let _ = place.set(unsafe { OwnedFd::from_raw_fd(epoll) });
    }
    place.get()
}

/// The doorbells that rang since the worker listened last, [`HEARD`] at most. One system call, which does not wait.
#[inline]
pub fn heard(worker: u16, rang: &mut [Option<DoorbellId>; HEARD]) -> usize {
    let Some(epoll) = HEARERS.get(usize::from(worker)).and_then(OnceLock::get) else {
        return 0;
    };
    let mut events = [libc::epoll_event { events: 0, u64: 0 }; HEARD];
    // SAFETY: the array has room for as many events as it says.
    let count = unsafe { libc::epoll_wait(epoll.as_raw_fd(), events.as_mut_ptr(), HEARD as i32, 0) };
    let count = usize::try_from(count).unwrap_or(0);
    for (place, event) in rang.iter_mut().zip(&events[..count]) {
        let number = event.u64;
        *place = NonZeroU16::new(number as u16).map(DoorbellId);
    }
    count
}

/// A descriptor of our own of what `descriptor` is open on; None: it is not open.
pub fn own(descriptor: i32) -> Option<OwnedFd> {
    if descriptor < 0 {
        return None;
    }
    // SAFETY: borrowed for the call; a number that is not open is refused.
    let borrowed = unsafe { BorrowedFd::borrow_raw(descriptor) };
    borrowed.try_clone_to_owned().map_err(|_: io::Error| ()).ok()
}

/// Kicks an eventfd: something may have come while nobody listened.
pub fn kick(eventfd: &OwnedFd) {
    // SAFETY: eight bytes are written from a live array. A counter that is full has been kicked already.
    unsafe { libc::write(eventfd.as_raw_fd(), 1u64.to_ne_bytes().as_ptr().cast(), 8) };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn eventfd() -> OwnedFd {
        // SAFETY: makes a descriptor that is ours.
        unsafe { OwnedFd::from_raw_fd(libc::eventfd(0, libc::EFD_NONBLOCK)) }
    }

    fn listen(worker: u16) -> Vec<DoorbellId> {
        let mut rang = [None; HEARD];
        let count = heard(worker, &mut rang);
        rang[..count].iter().copied().flatten().collect()
    }

    fn same(eventfd: &OwnedFd) -> OwnedFd {
        eventfd.try_clone().unwrap()
    }

    #[test]
    fn a_kick_is_heard_once_by_the_worker_that_owns_the_queue() {
        let (bell, eventfd) = (Doorbell::new().unwrap(), eventfd());
        bell.wire(vec![same(&eventfd)]);
        assert!(!bell.is_heard(), "nobody is there yet");
        bell.hang(WorkerId(50));
        assert!(bell.is_heard());
        assert_eq!(listen(50), []);
        kick(&eventfd);
        assert_eq!(listen(51), []);
        assert_eq!(listen(50), [bell.id()]);
        assert_eq!(
            listen(50),
            [],
            "and not again, though nobody has read the counter"
        );
        kick(&eventfd);
        assert_eq!(listen(50), [bell.id()]);
        bell.hang(WorkerId(51));
        listen(51);
        kick(&eventfd);
        assert_eq!((listen(50), listen(51)), (vec![], vec![bell.id()]));
    }

    #[test]
    fn a_kick_from_before_the_wiring_is_heard() {
        let (bell, eventfd) = (Doorbell::new().unwrap(), eventfd());
        bell.hang(WorkerId(52));
        kick(&eventfd);
        bell.wire(vec![eventfd]);
        assert_eq!(listen(52), [bell.id()]);
    }

    #[test]
    fn a_doorbell_that_is_gone_does_not_ring_though_its_eventfd_is_open_elsewhere() {
        let (bell, eventfd) = (Doorbell::new().unwrap(), eventfd());
        bell.hang(WorkerId(53));
        bell.wire(vec![same(&eventfd)]);
        bell.wire(Vec::new());
        assert!(!bell.is_heard(), "one without kicks cannot be relied on");
        kick(&eventfd);
        assert_eq!(listen(53), []);
        bell.wire(vec![same(&eventfd)]);
        drop(bell);
        assert_eq!(listen(53), []);
    }

    #[test]
    fn more_than_one_call_holds_are_heard_in_the_next() {
        let bells: Vec<Doorbell> = (0..HEARD + 10).map(|_| Doorbell::new().unwrap()).collect();
        for bell in &bells {
            let eventfd = eventfd();
            kick(&eventfd);
            bell.hang(WorkerId(54));
            bell.wire(vec![eventfd]);
        }
        assert_eq!(
            (listen(54).len(), listen(54).len(), listen(54).len()),
            (HEARD, 10, 0)
        );
    }

    #[test]
    fn numbers_are_used_again() {
        for _ in 0..2 * MOST {
            assert!(Doorbell::new().is_some());
        }
    }
}
