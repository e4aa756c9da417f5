//! From prefixes with exceptions and lists of ports to ascending ranges that do not overlap.

use std::ops::RangeInclusive;

use ipnet::IpNet;

use super::rule::AddressBlock;

/// A field of the tuple.
pub trait Value: Copy + Ord + Default + Send + Sync + 'static {
    /// The largest.
    const MAX: Self;
    /// The next larger; of the largest itself.
    fn after(self) -> Self;
    /// The next smaller; of zero itself.
    fn before(self) -> Self;
}

macro_rules! value {
    ($($integer:ty),*) => {
        $(impl Value for $integer {
            const MAX: Self = <$integer>::MAX;

            fn after(self) -> Self {
                self.saturating_add(1)
            }

            fn before(self) -> Self {
                self.saturating_sub(1)
            }
        })*
    };
}

value!(u8, u16, u32, u128);

/// An address of one family.
pub trait Address: Value {
    /// First and last address of a prefix; None: it is of the other family.
    fn bounds(prefix: IpNet) -> Option<(Self, Self)>;
}

impl Address for u32 {
    fn bounds(prefix: IpNet) -> Option<(u32, u32)> {
        match prefix {
            IpNet::V4(prefix) => Some((prefix.network().into(), prefix.broadcast().into())),
            IpNet::V6(_) => None,
        }
    }
}

impl Address for u128 {
    fn bounds(prefix: IpNet) -> Option<(u128, u128)> {
        match prefix {
            IpNet::V4(_) => None,
            IpNet::V6(prefix) => Some((prefix.network().into(), prefix.broadcast().into())),
        }
    }
}

/// Ascending ranges, first and last value.
pub type Ranges<T> = Vec<(T, T)>;

/// All values.
pub fn any<T: Value>() -> Ranges<T> {
    vec![(T::default(), T::MAX)]
}

/// The addresses of a block; None: it is of the other family. No block: all of them.
pub fn of_block<A: Address>(block: Option<&AddressBlock>) -> Option<Ranges<A>> {
    let Some(block) = block else {
        return Some(any());
    };
    let (first, last) = A::bounds(block.prefix)?;
    let mut holes: Ranges<A> = block.except.iter().filter_map(|hole| A::bounds(*hole)).collect();
    holes.sort_unstable();
    let mut ranges = Vec::with_capacity(holes.len() + 1);
    let mut from = first;
    for (hole, end) in holes {
        if end < from {
            continue;
        }
        if hole > last {
            break;
        }
        if hole > from {
            ranges.push((from, hole.before()));
        }
        if end >= last {
            return Some(ranges);
        }
        from = end.after();
    }
    ranges.push((from, last));
    Some(ranges)
}

/// The union of port ranges; none: all ports.
pub fn of_ports(ports: &[RangeInclusive<u16>]) -> Ranges<u16> {
    if ports.is_empty() {
        return any();
    }
    let ports = ports.iter().filter(|ports| !ports.is_empty());
    union(ports.map(|ports| (*ports.start(), *ports.end())).collect())
}

/// The same values in ranges that neither overlap nor touch.
pub fn union<T: Value>(mut unordered: Ranges<T>) -> Ranges<T> {
    unordered.sort_unstable();
    let mut ranges: Ranges<T> = Vec::with_capacity(unordered.len());
    for (first, last) in unordered {
        match ranges.last_mut() {
            Some((_, end)) if first <= end.after() => *end = last.max(*end),
            _ => ranges.push((first, last)),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(prefix: &str, except: &[&str]) -> AddressBlock {
        AddressBlock {
            prefix: prefix.parse().unwrap(),
            except: except.iter().map(|hole| hole.parse().unwrap()).collect(),
        }
    }

    #[test]
    fn exceptions_leave_the_addresses_between_them() {
        let ranges = |prefix, except: &[&str]| of_block::<u32>(Some(&block(prefix, except))).unwrap();
        assert_eq!(
            ranges("10.0.0.0/8", &["10.2.0.0/16", "10.0.0.0/16", "10.2.3.0/24"]),
            [(0x0a01_0000, 0x0a01_ffff), (0x0a03_0000, 0x0aff_ffff)]
        );
        assert_eq!(
            ranges("0.0.0.0/0", &["128.0.0.0/1"]),
            [(0, 0x7fff_ffff)],
            "a hole at the end"
        );
        assert_eq!(ranges("10.0.0.0/8", &["0.0.0.0/0"]), []);
        assert_eq!(
            ranges("10.0.0.0/8", &["11.0.0.0/8"]),
            [(0x0a00_0000, 0x0aff_ffff)]
        );
        assert_eq!(of_block::<u128>(Some(&block("10.0.0.0/8", &[]))), None);
        assert_eq!(
            of_block::<u128>(Some(&block("::/0", &["8000::/1"]))).unwrap(),
            [(0, u128::MAX >> 1)]
        );
    }

    #[test]
    fn port_ranges_that_touch_become_one() {
        assert_eq!(of_ports(&[]), [(0, 65535)]);
        assert_eq!(
            of_ports(&[443..=443, 80..=90, 91..=99, 85..=87, 65535..=65535]),
            [(80, 99), (443, 443), (65535, 65535)]
        );
        #[allow(clippy::reversed_empty_ranges)]
        let empty = 5..=4;
        assert_eq!(of_ports(&[empty]), []);
    }
}
