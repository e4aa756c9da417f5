//! The one world that stands at a time: built when a scenario asks for it, shared by the scenarios of its kind.
//!
//! After each scenario weftd must be alive and its books must balance. A scenario that fails takes its world down with
//! it, so that the next one starts clean.

use std::{
    any::Any,
    panic::{self, AssertUnwindSafe},
    sync::{Mutex, PoisonError},
};

use crate::{host::Host, within};

/// Something in which scenarios take place.
pub trait World: Any + Send + Sized {
    /// Builds it.
    fn build() -> Self;
    /// Every weftd in it.
    fn hosts(&mut self) -> Vec<&mut Host>;
    /// Brings it back to where each scenario starts.
    fn reset(&mut self) {}
}

static CURRENT: Mutex<Option<Box<dyn Any + Send>>> = Mutex::new(None);

/// Runs a scenario in the world of its kind.
pub fn in_world<W: World>(scenario: impl FnOnce(&mut W)) {
    let mut current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
    let mut world = match current.take().map(|world| world.downcast::<W>()) {
        Some(Ok(world)) => world,
        other => {
            // The old world goes before the new one comes.
            drop(other);
            Box::new(W::build())
        }
    };
    let result = panic::catch_unwind(AssertUnwindSafe(|| {
        world.reset();
        scenario(&mut world);
        for host in world.hosts() {
            check(host);
        }
    }));
    match result {
        Ok(()) => *current = Some(world),
        Err(reason) => {
            for host in world.hosts() {
                eprintln!("{}", host.log_tail());
            }
            drop(world);
            panic::resume_unwind(reason);
        }
    }
}

/// Takes the last world down.
pub fn end() {
    drop(CURRENT.lock().unwrap_or_else(PoisonError::into_inner).take());
}

fn check(host: &mut Host) {
    assert!(host.is_running(), "weftd ended in the scenario");
    // Each worker's numbers are of one burst boundary; two workers' boundaries are not the same moment.
    let balance = within(std::time::Duration::from_secs(3), || {
        let balance = host.balance();
        balance.is_even().then_some(())
    });
    if balance.is_none() {
        host.check_balance();
    }
}
