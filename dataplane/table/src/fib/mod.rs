//! The FIB: longest-prefix match, one table per VRF and address family.
//!
//! [`Fib`] is the writer's handle and lives on the control thread. [`Fib::publish`] makes everything that changed
//! since the last publish visible at once in a new [`View`], which readers use without locks or counters; older
//! views keep answering as they did until they are dropped.

mod address;

use std::{collections::BTreeMap, sync::Arc};

pub use address::{Address, Prefix, PrefixError};

use crate::RouteId;

/// What [`View::lookup_bulk`] writes for an address that no route covers.
pub const NO_ROUTE: RouteId = RouteId(u32::MAX);

/// The largest number a route may have: the trie keeps one bit of the word for itself.
pub const MAX_ROUTE_ID: RouteId = RouteId((1 << 31) - 1);

/// Memory of one FIB, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryUse {
    /// What readers touch: nodes of the last published view and of changes since.
    pub lookup: usize,
    /// What is reserved for that, free room and what old views still hold included.
    pub reserved: usize,
    /// What only the writer keeps.
    pub writer: usize,
}

/// The writer's handle of one routing table. Changes are invisible to readers until [`Fib::publish`].
#[derive(Debug)]
pub struct Fib<A: Address> {
    routes: BTreeMap<Prefix<A>, RouteId>,
    published: View<A>,
    changed: bool,
}

impl<A: Address> Default for Fib<A> {
    fn default() -> Self {
        Self::new()
    }
}

impl<A: Address> Fib<A> {
    /// An empty table; takes no memory for nodes until the first route.
    pub fn new() -> Self {
        Fib {
            routes: BTreeMap::new(),
            published: View::default(),
            changed: false,
        }
    }

    /// Adds or replaces a route and gives back the one that was there.
    ///
    /// # Panics
    /// If the number is over [`MAX_ROUTE_ID`]; numbers are handed out from 0 upwards and reused.
    pub fn insert(&mut self, prefix: Prefix<A>, route: RouteId) -> Option<RouteId> {
        assert!(
            route <= MAX_ROUTE_ID,
            "route {route} of {prefix} is over {MAX_ROUTE_ID}"
        );
        self.changed = true;
        self.routes.insert(prefix, route)
    }

    /// Removes the route of exactly this prefix and gives it back.
    pub fn remove(&mut self, prefix: Prefix<A>) -> Option<RouteId> {
        self.changed = true;
        self.routes.remove(&prefix)
    }

    /// The route of exactly this prefix, unpublished changes included.
    pub fn get(&self, prefix: Prefix<A>) -> Option<RouteId> {
        self.routes.get(&prefix).copied()
    }

    /// The longest route that is strictly shorter than this prefix and covers it, unpublished changes included:
    /// what decided the prefix's traffic before it has a route of its own, and again when that is gone.
    pub fn covering(&self, prefix: Prefix<A>) -> Option<(Prefix<A>, RouteId)> {
        (0..prefix.length()).rev().find_map(|length| {
            let shorter = Prefix::containing(prefix.address(), length);
            self.get(shorter).map(|route| (shorter, route))
        })
    }

    /// The route that decides this address and its prefix, unpublished changes included.
    pub fn longest_match(&self, address: A) -> Option<(Prefix<A>, RouteId)> {
        let host = Prefix::host(address);
        self.get(host)
            .map(|route| (host, route))
            .or_else(|| self.covering(host))
    }

    /// How many routes there are, unpublished changes included.
    pub fn len(&self) -> usize {
        self.routes.len()
    }

    /// Whether there are no routes.
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    /// All routes in the order of [`Prefix`]: by address, a covering prefix before what it covers.
    pub fn iter(&self) -> impl Iterator<Item = (Prefix<A>, RouteId)> + '_ {
        self.routes.iter().map(|(prefix, route)| (*prefix, *route))
    }

    /// Bytes in use.
    pub fn memory(&self) -> MemoryUse {
        let writer = self.routes.len() * size_of::<(Prefix<A>, RouteId)>();
        MemoryUse {
            lookup: self.published.routes.len() * size_of::<(Prefix<A>, RouteId)>(),
            reserved: 0,
            writer,
        }
    }

    /// Makes all changes since the last publish visible in the view that it gives back, and takes back the memory of
    /// views that are gone. Without changes it is the last view again.
    pub fn publish(&mut self) -> View<A> {
        if self.changed {
            self.published = View {
                routes: Arc::new(self.routes.clone()),
            };
            self.changed = false;
        }
        self.published.clone()
    }

    /// The last published view.
    pub fn view(&self) -> View<A> {
        self.published.clone()
    }
}

/// One state of the table, which never changes; cheap to clone. It may be dropped on any thread, but readers should
/// borrow it from their snapshot: its memory returns to the [`Fib`] at the next publish after the last clone is gone.
#[derive(Clone, Debug)]
pub struct View<A: Address> {
    routes: Arc<BTreeMap<Prefix<A>, RouteId>>,
}

impl<A: Address> Default for View<A> {
    /// A view of no routes.
    fn default() -> Self {
        View {
            routes: Arc::default(),
        }
    }
}

impl<A: Address> View<A> {
    /// The route of the longest prefix that holds the address.
    #[inline]
    pub fn lookup(&self, address: A) -> Option<RouteId> {
        (0..=A::BITS)
            .rev()
            .find_map(|length| self.routes.get(&Prefix::containing(address, length)).copied())
    }

    /// [`Self::lookup`] of many addresses, whose memory accesses overlap; [`NO_ROUTE`] where none is found. Works on
    /// as many as the shorter slice holds.
    pub fn lookup_bulk(&self, addresses: &[A], routes: &mut [RouteId]) {
        for (address, route) in addresses.iter().zip(routes) {
            *route = self.lookup(*address).unwrap_or(NO_ROUTE);
        }
    }
}
