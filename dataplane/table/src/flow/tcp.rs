//! The state of a TCP session, tracked loosely: enough to let closed sessions age fast (RFC 9293, section 3.3.2).
//!
//! Each direction notes which of SYN, FIN and RST it carried; the state is what both together say. No sequence
//! numbers are kept: a forged RST shortens a session's life in the table, and its next packet brings it back.

use crate::sync::{AtomicU32, Ordering};

/// FIN of the TCP flags byte.
pub const FIN: u8 = 0x01;
/// SYN of the TCP flags byte.
pub const SYN: u8 = 0x02;
/// RST of the TCP flags byte.
pub const RST: u8 = 0x04;
/// ACK of the TCP flags byte.
pub const ACK: u8 = 0x10;

/// How far a TCP session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TcpState {
    /// One side sent SYN, the other has not answered with its own.
    Opening,
    /// Both sides have spoken, or the session was picked up on its way; sessions of other protocols, always.
    Open,
    /// One side is done.
    Closing,
    /// Both sides are done, or one has reset it.
    Closed,
}

/// What the caller has to do after [`observe`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// Nothing.
    Noted,
    /// A new connection with the same ports begins: what the other direction carried before is history.
    Begins,
}

pub(super) fn observe(seen: &AtomicU32, flags: u8) -> Seen {
    if flags & (SYN | ACK | RST) == SYN {
        seen.store(u32::from(SYN), Ordering::Relaxed);
        return Seen::Begins;
    }
    let new = u32::from(flags & (SYN | FIN | RST));
    if seen.load(Ordering::Relaxed) & new != new {
        seen.fetch_or(new, Ordering::Relaxed);
    }
    Seen::Noted
}

pub(super) fn state(initiator: &AtomicU32, reverse: &AtomicU32) -> TcpState {
    let [one, two] = [initiator, reverse].map(|seen| seen.load(Ordering::Relaxed) as u8);
    if (one | two) & RST != 0 || one & two & FIN != 0 {
        TcpState::Closed
    } else if (one | two) & FIN != 0 {
        TcpState::Closing
    } else if (one ^ two) & SYN != 0 {
        TcpState::Opening
    } else {
        TcpState::Open
    }
}
