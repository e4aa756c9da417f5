//! What readers see.
#![allow(unsafe_code)]

use std::{fmt, marker::PhantomData, sync::Arc};

use super::{
    Address, NO_ROUTE,
    crown::Crown,
    lookup::{self, Trie},
    node::Entry,
    words::Words,
};
use crate::RouteId;

/// Words of a table that stays in a core's own cache.
const SMALL: usize = (192 << 10) / size_of::<u32>();

/// What a view keeps alive.
struct Kept {
    words: Arc<Words>,
}

/// Keeps the memory of a view. Its count tells the writer whether anybody still has the view.
#[derive(Clone)]
pub(super) struct Hold(Arc<Kept>);

impl Hold {
    /// Whether this is the last one: then all that readers did through the others has happened before.
    pub(super) fn is_last(&mut self) -> bool {
        Arc::get_mut(&mut self.0).is_some()
    }

    pub(super) fn words(&self) -> &Arc<Words> {
        &self.0.words
    }
}

/// One state of the table, which never changes; cheap to clone. It may be dropped on any thread, but readers should
/// borrow it from their snapshot: its memory returns to the [`Fib`](super::Fib) at the next publish after the last
/// clone is gone.
#[derive(Clone)]
pub struct View<A: Address> {
    trie: Trie,
    hold: Hold,
    family: PhantomData<A>,
}

// SAFETY: the trie points into the memory that `hold` keeps. What the root leads to is never written while a hold of
// this view exists, so any thread may read it.
unsafe impl<A: Address> Send for View<A> {}
// SAFETY: as above.
unsafe impl<A: Address> Sync for View<A> {}

impl<A: Address> View<A> {
    /// The trie below the root must be left alone until the hold is the last one.
    pub(super) fn new(words: Arc<Words>, root: Entry, crown: Option<&Crown>) -> View<A> {
        let trie = Trie {
            base: words.base(),
            root,
            levels: crown.map_or(0, |crown| crown.levels),
            directory: crown.map_or(0, |crown| crown.directory.place()),
            small: crown.is_none() && words.len() < SMALL,
        };
        View {
            trie,
            hold: Hold(Arc::new(Kept { words })),
            family: PhantomData,
        }
    }

    pub(super) fn into_hold(self) -> Hold {
        self.hold
    }

    pub(super) fn words(&self) -> &Arc<Words> {
        self.hold.words()
    }

    /// The route of the longest prefix that holds the address.
    #[inline]
    pub fn lookup(&self, address: A) -> Option<RouteId> {
        // SAFETY: the trie is this view's, and self keeps it.
        let route = RouteId(unsafe { lookup::lookup(self.trie, address) });
        (route != NO_ROUTE).then_some(route)
    }

    /// [`Self::lookup`] of many addresses, whose memory accesses overlap; [`NO_ROUTE`] where none is found. Works on
    /// as many as the shorter slice holds.
    #[inline]
    pub fn lookup_bulk(&self, addresses: &[A], routes: &mut [RouteId]) {
        // SAFETY: the trie is this view's, and self keeps it.
        unsafe { lookup::lookup_bulk(self.trie, addresses, routes) }
    }
}

impl<A: Address> Default for View<A> {
    /// A view of no routes.
    fn default() -> Self {
        View::new(Arc::new(Words::new(0, false)), Entry::NOTHING, None)
    }
}

impl<A: Address> fmt::Debug for View<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View")
            .field("root", &self.trie.root.target())
            .finish_non_exhaustive()
    }
}
