//! Runs a closure on a worker's lcore: an EAL thread pinned to the worker's CPU.
#![allow(unsafe_code)]

use std::{
    ffi::{c_int, c_void},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, PoisonError},
};

use thiserror::Error;

use super::eal::Eal;

/// A closure that runs on a worker's lcore, or has run there.
pub struct Running {
    lcore: u32,
    outcome: Arc<Outcome>,
}

#[derive(Default)]
struct Outcome {
    ended: Mutex<Option<Result<(), Panicked>>>,
    changed: Condvar,
}

/// The closure was not started.
#[derive(Debug, Error)]
pub enum LaunchError {
    /// There is no such worker.
    #[error("worker {worker} does not exist: EAL was started with {workers} worker CPUs")]
    NoSuchWorker {
        /// Asked for.
        worker: u16,
        /// How many there are.
        workers: u16,
    },
    /// Another closure still runs there.
    #[error("worker {worker} (lcore {lcore}) still runs what it was given before; wait for that first")]
    Busy {
        /// Asked for.
        worker: u16,
        /// Its lcore.
        lcore: u32,
    },
}

/// What ran on the lcore panicked.
#[derive(Clone, Debug, Error)]
#[error("lcore {lcore} panicked: {message}")]
pub struct Panicked {
    /// Where.
    pub lcore: u32,
    /// The panic's words.
    pub message: String,
}

type Job = (Box<dyn FnOnce() + Send>, u32, Arc<Outcome>);

impl Eal {
    /// Runs `work` on the lcore of worker `worker` (counted from 0) and returns at once.
    pub fn launch(&self, worker: u16, work: impl FnOnce() + Send + 'static) -> Result<Running, LaunchError> {
        let workers = self.workers();
        if worker >= workers {
            return Err(LaunchError::NoSuchWorker { worker, workers });
        }
        let lcore = Eal::lcore_of(worker);
        let outcome = Arc::new(Outcome::default());
        let job: Box<Job> = Box::new((Box::new(work), lcore, Arc::clone(&outcome)));
        let job = Box::into_raw(job);
        // SAFETY: `run` takes the box that `job` came from, once, on success; the lcore exists.
        let result = unsafe { dpdk_sys::rte_eal_remote_launch(Some(run), job.cast(), lcore) };
        if result != 0 {
            // SAFETY: the launch was refused, so the box is still ours.
            drop(unsafe { Box::from_raw(job) });
            return Err(LaunchError::Busy { worker, lcore });
        }
        Ok(Running { lcore, outcome })
    }
}

/// What the EAL thread calls. A panic must not unwind into C.
unsafe extern "C" fn run(job: *mut c_void) -> c_int {
    // SAFETY: `launch` made this pointer from a box and gave it up.
    let (work, lcore, outcome) = *unsafe { Box::from_raw(job.cast::<Job>()) };
    let result = catch_unwind(AssertUnwindSafe(work)).map_err(|cause| {
        let message = cause
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| cause.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "without words".to_owned());
        Panicked { lcore, message }
    });
    *outcome.ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
    outcome.changed.notify_all();
    0
}

impl Running {
    /// The lcore it runs on.
    pub fn lcore(&self) -> u32 {
        self.lcore
    }

    /// It has returned, or panicked.
    pub fn is_finished(&self) -> bool {
        self.outcome
            .ended
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some()
    }

    /// Sleeps until it returns; the lcore is then free for the next closure.
    pub fn wait(self) -> Result<(), Panicked> {
        let mut ended = self.outcome.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let result = loop {
            match ended.take() {
                Some(result) => break result,
                None => {
                    ended = self
                        .outcome
                        .changed
                        .wait(ended)
                        .unwrap_or_else(PoisonError::into_inner)
                }
            }
        };
        drop(ended);
        // The closure is done; the EAL thread needs a few instructions more to be ready again.
        // SAFETY: the lcore exists; waiting for it has no other effect.
        unsafe { dpdk_sys::rte_eal_wait_lcore(self.lcore) };
        result
    }
}
