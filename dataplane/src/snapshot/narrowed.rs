//! Routes that lost some of their destinations to a longer prefix: the latest ones, so that only the sessions to those
//! destinations are decided anew.
//!
//! A route that comes inside of another changes nothing for the other's remaining sessions. Who depends on the other
//! looks here whether its destination is among those that went. What no longer has room here counts as a change of the
//! whole route ([`Changed`](crate::shared::Changed)).

use weft_table::{
    RouteId,
    fib::{Address, Prefix},
};

/// How many are kept: enough that a session meets them here while some hundred routes a second come.
const KEPT: usize = 64;

/// A prefix that went to a route of its own.
#[derive(Clone, Copy)]
struct Narrowed<A> {
    number: u64,
    /// What decided it before.
    route: RouteId,
    prefix: Prefix<A>,
}

/// The latest ones of a family.
#[derive(Clone)]
pub struct LatestNarrowed<A> {
    /// The newest last.
    list: Vec<Narrowed<A>>,
}

impl<A> Default for LatestNarrowed<A> {
    fn default() -> Self {
        LatestNarrowed { list: Vec::new() }
    }
}

impl<A: Address> LatestNarrowed<A> {
    /// Adds what went from a route with the snapshot of this number; returns number and route of what there is no room for
    /// any more.
    pub fn push(&mut self, number: u64, route: RouteId, prefix: Prefix<A>) -> Option<(u64, RouteId)> {
        let oldest = (self.list.len() == KEPT).then(|| self.list.remove(0));
        self.list.push(Narrowed {
            number,
            route,
            prefix,
        });
        oldest.map(|oldest| (oldest.number, oldest.route))
    }

    /// Whether a destination that `route` decided when a session was stamped has gone to another since.
    #[inline]
    pub fn concern(&self, stamp: u64, route: RouteId, destination: A) -> bool {
        self.list
            .iter()
            .rev()
            .take_while(|narrowed| narrowed.number > stamp)
            .any(|narrowed| narrowed.route == route && narrowed.prefix.contains(destination))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_since_the_stamp_concerns_its_own_route_and_destinations_alone() {
        let mut latest = LatestNarrowed::<u32>::default();
        assert!(
            latest
                .push(5, RouteId(1), Prefix::containing(0x0a01_0000, 24))
                .is_none()
        );
        assert!(
            latest
                .push(7, RouteId(2), Prefix::containing(0x0a02_0000, 24))
                .is_none()
        );
        let concern = |stamp, route, destination| latest.concern(stamp, RouteId(route), destination);
        assert!(concern(4, 1, 0x0a01_0005) && concern(6, 2, 0x0a02_00ff));
        assert!(!concern(5, 1, 0x0a01_0005), "it was decided with that");
        assert!(
            !concern(4, 1, 0x0a01_0105) && !concern(4, 1, 0x0a02_0005),
            "others"
        );
    }

    #[test]
    fn the_oldest_makes_room() {
        let mut latest = LatestNarrowed::<u32>::default();
        let mut push = |number| latest.push(number, RouteId(1), Prefix::containing(0u32, 8));
        assert!((0..KEPT as u64).all(|number| push(number).is_none()));
        assert_eq!(push(KEPT as u64), Some((0, RouteId(1))));
    }
}
