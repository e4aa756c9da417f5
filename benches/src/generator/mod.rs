//! The traffic generator: a DPDK process of its own that sends at a given rate over virtio-user or memif, to a router
//! under test, and counts what comes back.
//!
//! | file | subject |
//! | --- | --- |
//! | [`stream`] | what is sent: frames, sessions, rate |
//! | [`tuple`] | sessions: a few, millions, or new ones for ever; TCP's beginning and end |
//! | [`frame`], [`stamp`] | the bytes; what is in them to find out loss, order and latency |
//! | [`pace`] | when they are due, by the time-stamp counter |
//! | [`engine`] | the loop on one core: send, receive, count |
//! | [`report`] | what was measured |
//! | [`ends`] | what lies between generator and router: vhost-user or memif, addresses, ports |
//! | [`pair`] | guests with a router between them: trials, NDR and PDR |
//! | [`protocol`], [`client`] | how a run starts a generator and speaks with it |

pub mod client;
pub mod ends;
mod engine;
pub mod frame;
pub mod pace;
pub mod pair;
pub mod process;
pub mod protocol;
pub mod report;
pub mod stamp;
pub mod stream;
pub mod tuple;
