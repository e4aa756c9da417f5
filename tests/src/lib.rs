//! Whole-system tests of weft: worlds of namespaces, guests and wires, in a few words.
//!
//! What lives here: the harness ([`world`], [`host`], [`container`], [`guest`], [`vhost`], [`wire`]) and a model of the
//! bytes that must be on the wire ([`frame`]). The scenarios themselves are in `scenarios/`, run by `weft-system-test`;
//! the demo is `bin/demo`. They start the real weftd and speak to it through the real CLI.

pub mod container;
pub mod dice;
pub mod frame;
pub mod guest;
pub mod host;
pub mod lone;
pub mod namespace;
pub mod policies;
pub mod sys;
pub mod vhost;
pub mod wire;
pub mod world;

use std::time::{Duration, Instant};

/// How long anything may take that weft or the kernel does by itself.
const PATIENCE: Duration = Duration::from_secs(20);

/// Asks again until there is an answer; the test fails if none comes.
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, &mut ask).unwrap_or_else(|| panic!("waited {PATIENCE:?} in vain until {what}"))
}

/// Asks again until there is an answer or the time is over.
pub fn within<T>(patience: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
}
