//! Policies: what a first packet's decision costs, and how soon a change is in force.
//!
//! - `decide/1000-rules`: nanoseconds a decision by so many rules, a burst at once; `…/alone` one after the other;
//!   `decide-v6` for IPv6.
//! - `compile/1000-rules`: milliseconds until such a set is compiled; `…/memory` what it takes.
//! - `change/1000-ports`: milliseconds from the request until every worker judges by a policy that a thousand ports have,
//!   when one of its fifty rules changes. `change-member/1000-ports`: when a member joins an address group of ten thousand
//!   that the policy names.

mod change;
mod decide;

use anyhow::Result;

use crate::harness::Bench;

/// See the module.
pub fn run(bench: &mut Bench) -> Result<()> {
    decide::run(bench)?;
    change::run(bench)
}
