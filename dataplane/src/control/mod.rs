//! The control thread: the only writer of configuration.
//!
//! It takes batches of changes, edits its own tables (with an undo list, so that a refused batch leaves no trace),
//! builds the next [`Snapshot`](crate::snapshot::Snapshot) and publishes it. Between batches it keeps the underlay's
//! neighbours fresh, watches links and frees what a grace period has set free.

mod apply;
mod by_hand;
mod error;
mod flows;
mod hops;
mod nat;
mod neighbours;
mod policies;
mod ports;
mod services;
mod state;
mod thread;
mod underlay;
mod what_if;

pub use by_hand::ByHand;
pub use error::{Reason as ChangeError, Refused, StartError};
pub use thread::{Handle, start};

use crate::statistics::MAX_PORTS;

/// Most workers.
pub const MAX_WORKERS: usize = 60;
/// Highest port number that the control half may use; those above are for the host's taps.
pub const MAX_PORT_ID: u16 = MAX_PORTS as u16 - 64;

/// A batch is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Number of the snapshot that carries it.
    pub snapshot: u64,
    /// Whether every worker follows it already.
    pub effective: bool,
}
