//! More queues than one busy one.

mod idle;

use anyhow::{Context, Result};

use crate::harness::{Bench, report::WEFT};

/// Runs the cases that are asked for.
pub fn run(bench: &mut Bench) -> Result<()> {
    if bench.options.wants("idle-ports") {
        idle::run(bench).context("idle-ports")?;
    }
    Ok(())
}
