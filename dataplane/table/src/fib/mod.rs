//! The FIB: longest-prefix match, one table per VRF and address family.
//!
//! [`Fib`] is the writer's handle and lives on the control thread. [`Fib::publish`] makes everything that changed
//! since the last publish visible at once in a new [`View`], which readers use without locks or counters; older
//! views keep answering as they did until they are dropped.
//!
//! Inside is one compressed trie (its nodes: `node`), which the views share. A change copies the nodes on its path
//! that a view leads to and leaves all others, so that a publish costs what changed, not what is there. The trie
//! holds each prefix exactly once and is the writer's own store too: there is no second copy of the routes.
//!
//! From the bottom up: `words` is memory, `arena` hands out blocks of it and knows which may be changed in place,
//! `blocks` changes one node, `trie` inserts and removes, `walk` reads for the writer, `lookup` for the packet
//! path, `compact` closes gaps, `crown` and `directory` speed up large tables.

mod address;
mod arena;
mod blocks;
#[cfg(test)]
mod check;
mod compact;
mod crown;
mod directory;
mod lookup;
mod node;
mod trie;
mod view;
mod walk;
mod words;

use std::{collections::VecDeque, fmt, sync::Arc};

use address::Bits;
pub use address::{Address, Prefix, PrefixError};
use arena::{Arena, Block};
use crown::Crown;
use directory::Directory;
use node::Entry;
use trie::Rest;
use view::Hold;
pub use view::View;

use crate::RouteId;

/// What [`View::lookup_bulk`] writes for an address that no route covers.
pub const NO_ROUTE: RouteId = RouteId(u32::MAX);

/// The largest number a route may have: the trie keeps one bit of the word for itself.
pub const MAX_ROUTE_ID: RouteId = RouteId((1 << 31) - 1);

/// Memory of one FIB, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryUse {
    /// The nodes that hold the routes, unpublished changes included: what readers' caches have to do with.
    pub lookup: usize,
    /// All memory taken for nodes: those, nodes of older views, gaps and room to grow.
    pub reserved: usize,
    /// What only the writer keeps, to know which nodes are free or may be changed in place.
    pub writer: usize,
}

/// A view that is not the last one any more, and what only it and older ones lead to.
struct Retired {
    hold: Hold,
    blocks: Vec<Block>,
}

/// The writer's handle of one routing table. Changes are invisible to readers until [`Fib::publish`].
pub struct Fib<A: Address> {
    arena: Arena,
    root: Entry,
    crown: Option<Crown>,
    routes: usize,
    changed: bool,
    published: View<A>,
    /// Oldest first. A block that a publish replaced may be in each older view, so they are freed in this order.
    retired: VecDeque<Retired>,
}

impl<A: Address> Default for Fib<A> {
    fn default() -> Self {
        Self::new()
    }
}

impl<A: Address> Fib<A> {
    /// An empty table; takes no memory for nodes until it has a few routes. A large one goes to hugetlb pages while
    /// there are free ones.
    pub fn new() -> Self {
        Self::with_hugepages(true)
    }

    /// [`Self::new`] that says whether hugetlb pages may be used.
    pub fn with_hugepages(hugepages: bool) -> Self {
        Fib {
            arena: Arena::new(hugepages),
            root: Entry::NOTHING,
            crown: None,
            routes: 0,
            changed: false,
            published: View::default(),
            retired: VecDeque::new(),
        }
    }

    /// Adds or replaces a route and gives back the one that was there.
    ///
    /// # Panics
    /// If the number is over [`MAX_ROUTE_ID`] (numbers are handed out from 0 upwards and reused), or if the table
    /// would need over 2 GiB.
    pub fn insert(&mut self, prefix: Prefix<A>, route: RouteId) -> Option<RouteId> {
        assert!(
            route <= MAX_ROUTE_ID,
            "route {route} of {prefix} is over {MAX_ROUTE_ID}"
        );
        let (root, old) = trie::insert(&mut self.arena, self.root, Rest::of(prefix), route.0);
        self.root = root;
        self.routes += usize::from(old.is_none());
        self.changed |= old != Some(route.0);
        old.map(RouteId)
    }

    /// Removes the route of exactly this prefix and gives it back.
    pub fn remove(&mut self, prefix: Prefix<A>) -> Option<RouteId> {
        let pinned = self.crown.as_ref().map_or(0, |crown| crown.levels);
        let (root, route) = trie::remove(&mut self.arena, self.root, Rest::of(prefix), pinned)?;
        self.root = root;
        self.routes -= 1;
        self.changed = true;
        Some(RouteId(route))
    }

    /// The route of exactly this prefix, unpublished changes included.
    pub fn get(&self, prefix: Prefix<A>) -> Option<RouteId> {
        walk::get(&self.arena, self.root, prefix).map(RouteId)
    }

    /// The longest route that is strictly shorter than this prefix and covers it, unpublished changes included:
    /// what decided the prefix's traffic before it has a route of its own, and again when that is gone.
    pub fn covering(&self, prefix: Prefix<A>) -> Option<(Prefix<A>, RouteId)> {
        self.longest_up_to(prefix.address(), prefix.length().checked_sub(1)?)
    }

    /// The route that decides this address and its prefix, unpublished changes included.
    pub fn longest_match(&self, address: A) -> Option<(Prefix<A>, RouteId)> {
        self.longest_up_to(address, A::BITS)
    }

    fn longest_up_to(&self, address: A, longest: u8) -> Option<(Prefix<A>, RouteId)> {
        let (length, route) = walk::longest_match(&self.arena, self.root, address, u32::from(longest))?;
        Some((Prefix::containing(address, length), RouteId(route)))
    }

    /// How many routes there are, unpublished changes included.
    pub fn len(&self) -> usize {
        self.routes
    }

    /// Whether there are no routes.
    pub fn is_empty(&self) -> bool {
        self.routes == 0
    }

    /// All routes in the order of [`Prefix`]: by address, a covering prefix before what it covers. Unpublished
    /// changes included.
    pub fn iter(&self) -> impl Iterator<Item = (Prefix<A>, RouteId)> + '_ {
        walk::Walk::new(&self.arena, self.root).map(|(prefix, route)| (prefix, RouteId(route)))
    }

    /// Bytes in use.
    pub fn memory(&self) -> MemoryUse {
        let mut older = 0;
        let mut last = self.arena.words();
        for words in self
            .retired
            .iter()
            .map(|retired| retired.hold.words())
            .chain([self.published.words()])
        {
            // Views of one piece follow each other.
            if !Arc::ptr_eq(words, self.arena.words()) && !Arc::ptr_eq(words, last) {
                older += words.bytes();
                last = words;
            }
        }
        let blocks: usize = self.retired.iter().map(|retired| retired.blocks.capacity()).sum();
        MemoryUse {
            lookup: self.arena.live_words() as usize * size_of::<u32>(),
            reserved: self.arena.words().bytes() + older,
            writer: self.arena.writer_bytes()
                + self.retired.capacity() * size_of::<Retired>()
                + blocks * size_of::<Block>(),
        }
    }

    /// Makes all changes since the last publish visible in the view that it gives back, and takes back the memory of
    /// views that are gone. Without changes it is the last view again.
    ///
    /// It costs what changed, but for one thing: when gaps have grown to a fifth of the memory, it copies the table
    /// into a new piece, at the earliest after as much was written as the table is large. That takes some tens of
    /// milliseconds for a million routes.
    pub fn publish(&mut self) -> View<A> {
        self.reclaim();
        if !self.changed {
            return self.published.clone();
        }
        (self.root, self.crown) = crown::fit::<A>(&mut self.arena, self.root, self.crown.take(), self.routes);
        if compact::pays(&self.arena) {
            (self.arena, self.root) = compact::compact::<A>(&self.arena, self.root);
            if let Some(crown) = &mut self.crown {
                crown.directory = Directory::new(&mut self.arena, self.root);
            }
            // Blocks of the old piece go with the piece.
            for retired in &mut self.retired {
                retired.blocks = Vec::new();
            }
        } else if let Some(crown) = &mut self.crown {
            crown.directory.update(&mut self.arena, self.root);
        }
        let blocks = self.arena.seal();
        let view = View::new(self.arena.words().clone(), self.root, self.crown.as_ref());
        let before = std::mem::replace(&mut self.published, view);
        self.retired.push_back(Retired {
            hold: before.into_hold(),
            blocks,
        });
        self.changed = false;
        self.reclaim();
        self.published.clone()
    }

    /// The last published view.
    pub fn view(&self) -> View<A> {
        self.published.clone()
    }

    /// Frees what only views that are gone led to.
    fn reclaim(&mut self) {
        while let Some(mut oldest) = self.retired.pop_front() {
            if !oldest.hold.is_last() {
                self.retired.push_front(oldest);
                break;
            }
            for block in oldest.blocks {
                self.arena.put_free(block);
            }
        }
    }
}

impl<A: Address> fmt::Debug for Fib<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fib")
            .field("routes", &self.routes)
            .field("memory", &self.memory())
            .field("older_views", &self.retired.len())
            .finish_non_exhaustive()
    }
}
