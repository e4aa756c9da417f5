//! Sessions: how fast they are made, found and forgotten, and what one costs.
//!
//! [`table`] measures the flow table alone, beside `rte_hash`.

mod hash;
mod table;

use anyhow::Result;

use crate::harness::Bench;

/// See the module.
pub fn run(bench: &mut Bench) -> Result<()> {
    table::run(bench)
}
