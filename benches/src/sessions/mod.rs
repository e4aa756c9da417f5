//! Sessions that come and go: how fast they are made, found and forgotten, how many are held, and what one costs.
//!
//! [`table`] measures the flow table alone, beside `rte_hash`. The rest goes through the whole of weftd, by weft's own
//! generator: a guest whose port has a policy of 50 rules opens sessions as fast as its ring is emptied, towards a device
//! that drops everything.
//!
//! - `setup/50-rules`: new sessions a second on one worker while the table fills up to 100,000, `…-1m` up to a million.
//! - `sustained/50-rules`: the same for ever, while as many die; `…/held` is how many there are then, `…/dropped` what
//!   found no room. `…/tcp` opens and resets TCP sessions.
//! - `held/1m`, `held/4m` and `held/8m`: packets a second of established traffic over so many sessions; `…/setup` is the
//!   rate at which they were opened, `…/ageing` the part of the worker's time that goes into looking for idle ones.

mod hash;
mod held;
mod setup;
mod table;

use anyhow::{Context, Result};

use crate::harness::Bench;

/// Runs the cases that are asked for.
pub fn run(bench: &mut Bench) -> Result<()> {
    table::run(bench).context("table")?;
    setup::filling(bench).context("setup")?;
    setup::sustained(bench).context("sustained")?;
    held::run(bench).context("held")
}
