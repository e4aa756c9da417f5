//! More workers and more queues: what they bring and what they cost.

mod idle;
mod workers;

use anyhow::{Context, Result};

use crate::harness::{Bench, report::WEFT};

/// Runs the cases that are asked for.
pub fn run(bench: &mut Bench) -> Result<()> {
    if bench.options.wants("two-over-one") {
        workers::gain(bench).context("two-over-one")?;
    }
    workers::one_session(bench)?;
    if bench.options.wants("idle-ports/1000") {
        idle::run(bench).context("idle-ports/1000")?;
    }
    Ok(())
}
