//! Which session a packet belongs to, and the session's 5-tuple: pure functions of the packet's number.
//!
//! Nothing is stored a session, so a stream can have a few of them, millions, or a new one with each packet for ever.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

/// Addresses from `first` on, 2 to the power of `bits` of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Addresses {
    pub first: Ipv4Addr,
    pub bits: u8,
}

impl Addresses {
    /// One address.
    pub const fn one(first: Ipv4Addr) -> Self {
        Addresses { first, bits: 0 }
    }
}

/// Ports from `first` on, 2 to the power of `bits` of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Ports {
    pub first: u16,
    pub bits: u8,
}

impl Ports {
    /// Half of all ports, none of them well-known.
    pub const MANY: Ports = Ports {
        first: 0x4000,
        bits: 15,
    };

    /// One port.
    pub const fn one(first: u16) -> Self {
        Ports { first, bits: 0 }
    }
}

/// Where sessions take their addresses and ports from, as the initiator writes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Space {
    pub source: Addresses,
    pub destination: Addresses,
    pub source_port: Ports,
    pub destination_port: Ports,
}

/// The part of a session's 5-tuple that differs from session to session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub struct Tuple {
    pub source: u32,
    pub destination: u32,
    pub source_port: u16,
    pub destination_port: u16,
}

impl Tuple {
    /// As the answers have it.
    pub const fn reversed(self) -> Self {
        Tuple {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
        }
    }
}

impl Space {
    /// How many different sessions it has.
    pub fn sessions(&self) -> u64 {
        let bits =
            self.source.bits + self.destination.bits + self.source_port.bits + self.destination_port.bits;
        1 << bits.min(63)
    }

    /// The 5-tuple of a session. Neighbouring numbers differ in address first, then in ports.
    #[inline(always)]
    pub fn tuple(&self, session: u64) -> Tuple {
        let mut rest = session;
        let mut take = |bits: u8| {
            let part = rest & ((1 << bits) - 1);
            rest >>= bits;
            part
        };
        let source = take(self.source.bits) as u32;
        let destination = take(self.destination.bits) as u32;
        let source_port = take(self.source_port.bits) as u16;
        let destination_port = take(self.destination_port.bits) as u16;
        Tuple {
            source: self.source.first.to_bits().wrapping_add(source),
            destination: self.destination.first.to_bits().wrapping_add(destination),
            source_port: self.source_port.first.wrapping_add(source_port),
            destination_port: self.destination_port.first.wrapping_add(destination_port),
        }
    }
}

/// What a packet does to its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Nothing in particular.
    Data,
    /// The first of a TCP session.
    Open,
    /// The last: a reset.
    Close,
}

/// How sessions begin and end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Life {
    /// UDP: a packet is a packet.
    #[default]
    Datagrams,
    /// TCP. Packets open a session and reset another in turn, so that `open` sessions are open at any time.
    OpenAndReset {
        /// How many sessions after its own a session is reset.
        open: u64,
    },
}

/// The sessions of a stream and the order in which their packets come.
#[derive(Clone, Copy, Debug)]
pub struct Sessions {
    space: Space,
    count: u64,
    mask: u64,
    shift: u32,
    life: Life,
    reversed: bool,
}

impl Sessions {
    /// `count` sessions of the space, over and over (None: all of it, which is practically a new one each time).
    /// `reversed`: what is sent are the answers.
    pub fn new(space: Space, count: Option<u64>, life: Life, reversed: bool) -> Self {
        let count = count.unwrap_or(u64::MAX).clamp(1, space.sessions());
        let mask = count.next_power_of_two() - 1;
        Sessions {
            space,
            count,
            mask,
            shift: (u64::BITS - mask.leading_zeros()).div_ceil(2),
            life,
            reversed,
        }
    }

    /// TCP rather than UDP.
    pub fn is_tcp(&self) -> bool {
        self.life != Life::Datagrams
    }

    /// 5-tuple and act of the packet with this number.
    #[inline(always)]
    pub fn packet(&self, number: u64) -> (Tuple, Act) {
        let (session, act) = match self.life {
            Life::Datagrams => (number, Act::Data),
            Life::OpenAndReset { open } => match (number % 2, (number / 2).checked_sub(open)) {
                (0, _) => (number / 2, Act::Open),
                (_, Some(old)) => (old, Act::Close),
                (_, None) => (number / 2, Act::Data),
            },
        };
        let tuple = self.space.tuple(self.shuffled(session % self.count));
        (if self.reversed { tuple.reversed() } else { tuple }, act)
    }

    /// Neighbours in time are no neighbours in tables and caches: a permutation of the sessions. Each step is a
    /// bijection on the numbers up to `mask`; what lands beyond `count` goes on.
    #[inline(always)]
    fn shuffled(&self, session: u64) -> u64 {
        const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut number = session;
        loop {
            number ^= number >> self.shift;
            number = number.wrapping_mul(ODD) & self.mask;
            number ^= number >> self.shift;
            if number < self.count {
                return number;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn space(bits: [u8; 4]) -> Space {
        Space {
            source: Addresses {
                first: Ipv4Addr::new(10, 0, 0, 2),
                bits: bits[0],
            },
            destination: Addresses {
                first: Ipv4Addr::new(10, 1, 0, 2),
                bits: bits[1],
            },
            source_port: Ports {
                first: 1024,
                bits: bits[2],
            },
            destination_port: Ports {
                first: 2000,
                bits: bits[3],
            },
        }
    }

    proptest! {
        #[test]
        fn each_session_of_a_set_comes_once_a_round(
            bits in [0u8..4, 0u8..4, 0u8..4, 0u8..4], count in 1u64..5000, round in 0u64..3, reversed: bool
        ) {
            let sessions = Sessions::new(space(bits), Some(count), Life::Datagrams, reversed);
            let size = count.min(space(bits).sessions());
            let first: HashSet<Tuple> = (0..size).map(|n| sessions.packet(n).0).collect();
            prop_assert_eq!(first.len() as u64, size);
            let later: HashSet<Tuple> = (round * size..(round + 1) * size).map(|n| sessions.packet(n).0).collect();
            prop_assert_eq!(first, later);
        }

        #[test]
        fn answers_mirror_what_they_answer(number: u64, count in 1u64..1_000_000) {
            let ask = Sessions::new(space([8, 8, 15, 8]), Some(count), Life::Datagrams, false);
            let answer = Sessions::new(space([8, 8, 15, 8]), Some(count), Life::Datagrams, true);
            prop_assert_eq!(ask.packet(number).0.reversed(), answer.packet(number).0);
        }

        #[test]
        fn fresh_sessions_do_not_come_again(start in 0u64..1 << 40) {
            let sessions = Sessions::new(space([4, 8, 15, 15]), None, Life::Datagrams, false);
            let seen: HashSet<Tuple> = (start..start + 2000).map(|n| sessions.packet(n).0).collect();
            prop_assert_eq!(seen.len(), 2000);
        }

        #[test]
        fn addresses_and_ports_stay_in_their_space(session: u64) {
            let tuple = space([8, 4, 10, 3]).tuple(session);
            prop_assert!((0x0a00_0002..0x0a00_0102).contains(&tuple.source));
            prop_assert!((0x0a01_0002..0x0a01_0012).contains(&tuple.destination));
            prop_assert!((1024..2048).contains(&tuple.source_port));
            prop_assert!((2000..2008).contains(&tuple.destination_port));
        }

        #[test]
        fn as_many_sessions_are_open_as_were_asked_for(open in 0u64..50, pairs in 0u64..300) {
            let sessions = Sessions::new(space([4, 4, 8, 8]), None, Life::OpenAndReset { open }, false);
            let mut alive = HashSet::new();
            for number in 0..2 * pairs {
                let (tuple, act) = sessions.packet(number);
                match act {
                    Act::Open => prop_assert!(alive.insert(tuple), "a session is opened once"),
                    Act::Close => prop_assert!(alive.remove(&tuple), "what is closed is open"),
                    Act::Data => prop_assert!(alive.contains(&tuple), "data belongs to an open session"),
                }
            }
            prop_assert_eq!(alive.len() as u64, open.min(pairs));
        }
    }
}
