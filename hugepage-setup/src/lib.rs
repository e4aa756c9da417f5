//! Prepares a host for weft: hugepages, hugetlbfs, binding of NICs to vfio-pci, advice on CPU isolation, and the
//! checks that `weft doctor` shows.
//!
//! Everything is read from and written to a [`Host`], whose root can be any directory, so that each answer can be
//! tested against a made-up /sys and /proc. A change is a [`Plan`] of [`Action`]s first: it can be printed instead of
//! done, and each step that is done is recorded in a [`Journal`], from which `undo` restores what was there before.
//! What this crate does not do: start weftd, or touch a network interface's addresses.

pub mod action;
pub mod bind;
pub mod command;
pub mod cpu;
pub mod doctor;
pub mod error;
pub mod finding;
pub mod host;
pub mod hugepages;
pub mod isolation;
pub mod journal;
pub mod mount;
pub mod pci;
pub mod report;

pub use action::{Action, Plan};
pub use cpu::CpuSet;
pub use doctor::{Requirements, doctor};
pub use error::SetupError;
pub use finding::{Finding, State};
pub use host::{Host, Kernel};
pub use journal::Journal;
