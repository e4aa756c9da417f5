//! Addresses and prefixes as the FIB sees them: plain integers in host order, the first bit of the address on top.

use std::{
    fmt,
    hash::Hash,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// The arithmetic that the trie needs of an address. Public in name only: it seals [`Address`].
pub trait Bits: Copy + Eq + Ord + Hash + Default + fmt::Debug + Send + Sync + 'static {
    /// 32-bit words of an address.
    const WORDS: u32;
    /// All bits 0.
    const ZERO: Self;
    /// Shifted to the left; by the full width or more leaves nothing.
    fn shifted_left(self, count: u32) -> Self;
    /// Shifted to the right; by the full width or more leaves nothing.
    fn shifted_right(self, count: u32) -> Self;
    /// Bits of both.
    fn or(self, other: Self) -> Self;
    /// How many leading bits are the same.
    fn common_bits(self, other: Self) -> u32;
    /// The first six bits.
    fn first_six(self) -> u32;
    /// The first 32 bits.
    fn first_word(self) -> u32 {
        self.word(0)
    }
    /// Word by number, the first bits in word 0.
    fn word(self, index: u32) -> u32;
    /// An address that has this word and zeros elsewhere.
    fn from_word(index: u32, word: u32) -> Self;
}

macro_rules! bits {
    ($address:ty) => {
        impl Bits for $address {
            const WORDS: u32 = <$address>::BITS / 32;
            const ZERO: Self = 0;

            #[inline(always)]
            fn shifted_left(self, count: u32) -> Self {
                self.checked_shl(count).unwrap_or(0)
            }

            #[inline(always)]
            fn shifted_right(self, count: u32) -> Self {
                self.checked_shr(count).unwrap_or(0)
            }

            #[inline(always)]
            fn or(self, other: Self) -> Self {
                self | other
            }

            #[inline(always)]
            fn common_bits(self, other: Self) -> u32 {
                (self ^ other).leading_zeros()
            }

            #[inline(always)]
            fn first_six(self) -> u32 {
                (self >> (<$address>::BITS - 6)) as u32
            }

            #[inline(always)]
            fn word(self, index: u32) -> u32 {
                (self >> (<$address>::BITS - 32 - 32 * index)) as u32
            }

            #[inline(always)]
            fn from_word(index: u32, word: u32) -> Self {
                <$address>::from(word) << (<$address>::BITS - 32 - 32 * index)
            }
        }
    };
}

bits!(u32);
bits!(u128);

/// An address family of the FIB: `u32` is IPv4, `u128` is IPv6, both in host order.
pub trait Address: Bits {
    /// Bits of an address, and so the longest prefix.
    const BITS: u8;

    /// The address with only its first `length` bits kept.
    #[inline(always)]
    fn network(self, length: u8) -> Self {
        let host_bits = u32::from(Self::BITS.saturating_sub(length));
        self.shifted_right(host_bits).shifted_left(host_bits)
    }

    /// As the standard library's address, for people to read.
    fn to_ip(self) -> IpAddr;
}

impl Address for u32 {
    const BITS: u8 = 32;

    fn to_ip(self) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from(self))
    }
}

impl Address for u128 {
    const BITS: u8 = 128;

    fn to_ip(self) -> IpAddr {
        IpAddr::V6(Ipv6Addr::from(self))
    }
}

/// Why an address and a length make no prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrefixError {
    /// Bits are set behind the length.
    #[error("prefix {address}/{length} has host bits set: write {network}/{length}")]
    HostBits {
        /// As given.
        address: IpAddr,
        /// As given.
        length: u8,
        /// The address without its host bits.
        network: IpAddr,
    },
    /// The family has fewer bits.
    #[error("prefix {address}/{length} is longer than the address: use a length from 0 to {longest}")]
    TooLong {
        /// As given.
        address: IpAddr,
        /// As given.
        length: u8,
        /// Bits of the family.
        longest: u8,
    },
}

/// A network address and its length, without host bits.
///
/// The order is that of a walk through the trie: by address, a covering prefix before what it covers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix<A> {
    address: A,
    length: u8,
}

impl<A: Address> Prefix<A> {
    /// Refuses host bits and lengths that the family does not have.
    pub fn new(address: A, length: u8) -> Result<Self, PrefixError> {
        if length > A::BITS {
            return Err(PrefixError::TooLong {
                address: address.to_ip(),
                length,
                longest: A::BITS,
            });
        }
        let network = address.network(length);
        if network != address {
            return Err(PrefixError::HostBits {
                address: address.to_ip(),
                length,
                network: network.to_ip(),
            });
        }
        Ok(Prefix { address, length })
    }

    /// The prefix of this length that holds the address; lengths over the family's are cut to a host's.
    pub fn containing(address: A, length: u8) -> Self {
        let length = length.min(A::BITS);
        Prefix {
            address: address.network(length),
            length,
        }
    }

    /// The prefix of one address alone.
    pub fn host(address: A) -> Self {
        Prefix {
            address,
            length: A::BITS,
        }
    }

    /// The first address.
    #[inline(always)]
    pub fn address(self) -> A {
        self.address
    }

    /// How many bits are fixed.
    #[inline(always)]
    pub fn length(self) -> u8 {
        self.length
    }

    /// Whether the address belongs to the prefix.
    pub fn contains(self, address: A) -> bool {
        address.network(self.length) == self.address
    }

    /// Whether the other prefix is this one or a part of it.
    pub fn covers(self, other: Self) -> bool {
        self.length <= other.length && self.contains(other.address)
    }
}

impl<A: Address> fmt::Display for Prefix<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address.to_ip(), self.length)
    }
}

impl<A: Address> fmt::Debug for Prefix<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<Ipv4Net> for Prefix<u32> {
    type Error = PrefixError;

    fn try_from(net: Ipv4Net) -> Result<Self, PrefixError> {
        Prefix::new(net.addr().to_bits(), net.prefix_len())
    }
}

impl TryFrom<Ipv6Net> for Prefix<u128> {
    type Error = PrefixError;

    fn try_from(net: Ipv6Net) -> Result<Self, PrefixError> {
        Prefix::new(net.addr().to_bits(), net.prefix_len())
    }
}

impl From<Prefix<u32>> for Ipv4Net {
    fn from(prefix: Prefix<u32>) -> Self {
        Ipv4Net::new_assert(Ipv4Addr::from_bits(prefix.address), prefix.length)
    }
}

impl From<Prefix<u128>> for Ipv6Net {
    fn from(prefix: Prefix<u128>) -> Self {
        Ipv6Net::new_assert(Ipv6Addr::from_bits(prefix.address), prefix.length)
    }
}

impl From<Prefix<u32>> for IpNet {
    fn from(prefix: Prefix<u32>) -> Self {
        IpNet::V4(prefix.into())
    }
}

impl From<Prefix<u128>> for IpNet {
    fn from(prefix: Prefix<u128>) -> Self {
        IpNet::V6(prefix.into())
    }
}
