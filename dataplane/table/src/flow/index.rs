//! Numbers of sessions and of their directions.

use std::fmt;

/// One direction of a session, as the table numbers it. A worker may use it until its next quiescent state; after
/// that the number may belong to another session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(transparent)]
pub struct DirectionIndex(pub u32);

/// A session. Its directions are 2s (the initiator's) and 2s + 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(transparent)]
pub struct SessionIndex(pub u32);

impl DirectionIndex {
    /// No such direction: what a lookup that finds nothing answers.
    pub const NONE: DirectionIndex = DirectionIndex(u32::MAX);

    /// Whether it is [`Self::NONE`].
    #[inline(always)]
    pub const fn is_none(self) -> bool {
        self.0 == u32::MAX
    }

    /// Whether it names a direction.
    #[inline(always)]
    pub const fn is_some(self) -> bool {
        !self.is_none()
    }

    /// The other direction of the same session.
    #[inline(always)]
    pub const fn peer(self) -> Self {
        DirectionIndex(self.0 ^ 1)
    }

    /// The session it belongs to.
    #[inline(always)]
    pub const fn session(self) -> SessionIndex {
        SessionIndex(self.0 >> 1)
    }

    /// Whether it is the direction of the session's first packet.
    #[inline(always)]
    pub const fn is_initiator(self) -> bool {
        self.0 & 1 == 0
    }

    #[inline(always)]
    pub(super) const fn index(self) -> usize {
        self.0 as usize
    }
}

impl SessionIndex {
    /// The direction of the session's first packet.
    #[inline(always)]
    pub const fn initiator(self) -> DirectionIndex {
        DirectionIndex(self.0 << 1)
    }

    /// The direction of the answers.
    #[inline(always)]
    pub const fn reverse(self) -> DirectionIndex {
        DirectionIndex(self.0 << 1 | 1)
    }

    #[inline(always)]
    pub(super) const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for SessionIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
