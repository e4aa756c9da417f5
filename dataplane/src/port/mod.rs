//! The burst interface: how a worker receives and sends, whatever is behind the port.
//!
//! Each driver is one file. A worker owns the queues that it polls; `transmit` may be called by any worker with its
//! own transmit queue (see [`Driver::transmit_queue`]).

pub mod ethdev;
pub mod tap;
pub mod vhost;

use crate::dpdk::mbuf::{Burst, Mbuf};
use weft_packet::Mac;

/// Most packets that one receive hands over.
pub const BURST: usize = 64;

/// An open device. Shared between workers; each call names the queue that its caller owns.
pub enum Driver {
    /// A DPDK ethdev.
    Ethdev(ethdev::Ethdev),
    /// A vhost-user backend.
    Vhost(vhost::Vhost),
    /// A Linux tap.
    Tap(tap::Tap),
}
