//! Hands out the numbers by which the data plane knows VRFs, ports, next hops, policies, address groups, floating
//! IPs, pools and services.

use std::{cmp::Reverse, collections::BinaryHeap};

/// Which numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// VRFs; 0 is the underlay's.
    Vrf,
    /// Ports.
    Port,
    /// Next hops and groups.
    Hop,
    /// Policies, and what they are together.
    Policy,
    /// Floating IPs, pools and services.
    Nat,
    /// Address groups.
    AddressGroup,
}

/// The numbers of one space: the lowest free one first, so that tables stay dense.
#[derive(Debug)]
struct Pool {
    next: u32,
    free: BinaryHeap<Reverse<u32>>,
    limit: u32,
}

impl Pool {
    fn new(first: u32, limit: u32) -> Self {
        Pool {
            next: first,
            free: BinaryHeap::new(),
            limit,
        }
    }

    fn take(&mut self) -> Option<u32> {
        if let Some(Reverse(number)) = self.free.pop() {
            return Some(number);
        }
        if self.next == self.limit {
            return None;
        }
        self.next += 1;
        Some(self.next - 1)
    }

    /// Takes this very number; false if it is not free.
    fn reserve(&mut self, number: u32) -> bool {
        if number >= self.limit {
            return false;
        }
        if number < self.next {
            let before = self.free.len();
            self.free.retain(|Reverse(free)| *free != number);
            return self.free.len() < before;
        }
        self.free.extend((self.next..number).map(Reverse));
        self.next = number + 1;
        true
    }
}

/// The numbers of all spaces.
#[derive(Debug)]
pub struct Numbers {
    vrfs: Pool,
    ports: Pool,
    hops: Pool,
    policies: Pool,
    nats: Pool,
    address_groups: Pool,
}

impl Default for Numbers {
    fn default() -> Self {
        Numbers {
            vrfs: Pool::new(1, weft_table::VrfId::MAX as u32),
            ports: Pool::new(0, u32::from(u16::MAX)),
            hops: Pool::new(0, u32::MAX),
            policies: Pool::new(0, u32::from(u16::MAX)),
            nats: Pool::new(0, 1 << 20),
            address_groups: Pool::new(0, 1 << 20),
        }
    }
}

impl Numbers {
    fn pool(&mut self, space: Space) -> &mut Pool {
        match space {
            Space::Vrf => &mut self.vrfs,
            Space::Port => &mut self.ports,
            Space::Hop => &mut self.hops,
            Space::Policy => &mut self.policies,
            Space::Nat => &mut self.nats,
            Space::AddressGroup => &mut self.address_groups,
        }
    }

    /// The lowest free number; None: all are in use.
    pub fn take(&mut self, space: Space) -> Option<u32> {
        self.pool(space).take()
    }

    /// Takes this very number; false if it is not free.
    pub fn reserve(&mut self, space: Space, number: u32) -> bool {
        self.pool(space).reserve(number)
    }

    /// Gives a number back.
    pub fn give_back(&mut self, space: Space, number: u32) {
        self.pool(space).free.push(Reverse(number));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_number_comes_first_and_the_underlay_is_never_handed_out() {
        let mut numbers = Numbers::default();
        assert_eq!(
            (numbers.take(Space::Vrf), numbers.take(Space::Vrf)),
            (Some(1), Some(2))
        );
        numbers.give_back(Space::Vrf, 1);
        assert_eq!(
            (numbers.take(Space::Vrf), numbers.take(Space::Vrf)),
            (Some(1), Some(3))
        );
    }

    #[test]
    fn a_reserved_number_is_not_handed_out_again() {
        let mut numbers = Numbers::default();
        assert!(numbers.reserve(Space::Port, 2));
        assert!(!numbers.reserve(Space::Port, 2));
        assert!(numbers.reserve(Space::Port, 1));
        assert_eq!(
            (numbers.take(Space::Port), numbers.take(Space::Port)),
            (Some(0), Some(3))
        );
    }

    #[test]
    fn the_last_vrf_is_4095() {
        let mut numbers = Numbers::default();
        let taken: Vec<u32> = std::iter::from_fn(|| numbers.take(Space::Vrf)).collect();
        assert_eq!((taken.len(), taken.last()), (4095, Some(&4095)));
    }
}
