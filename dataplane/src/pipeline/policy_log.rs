//! Tell what rules with `log` decide: a record a decision, over a bounded ring to whoever writes it down.
//!
//! A worker never waits for that: what is more than a port's rate ([`rate`](super::rate)) or does not fit the ring is counted
//! and lost.

use std::sync::atomic::Ordering;

use super::Context;
use crate::{dpdk::clock, view::LoggedDecision};

/// Tells of a decision.
#[cold]
pub fn tell(context: &mut Context<'_>, decision: LoggedDecision) {
    let rates = &mut context.budgets.logged;
    let log = &context.shared.policy_log;
    let told = rates.allows(decision.port, context.began, clock::hz()) && log.ring.push(decision).is_ok();
    if !told {
        log.lost.fetch_add(1, Ordering::Relaxed);
    }
}
