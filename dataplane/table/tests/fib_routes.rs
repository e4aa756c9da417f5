//! The named route scenarios, in both families: each is told once, for a family that says how to write a prefix.

use weft_table::{
    RouteId,
    fib::{Address, Fib, NO_ROUTE, Prefix, View},
};

/// Writes the scenarios' prefixes in a family: the 32 bits of an IPv4 address, which for IPv6 stand behind fd00::/16.
trait Family: Address {
    const SHIFT: u8;
    fn address(bits: u32) -> Self;
}

impl Family for u32 {
    const SHIFT: u8 = 0;
    fn address(bits: u32) -> u32 {
        bits
    }
}

impl Family for u128 {
    const SHIFT: u8 = 16;
    fn address(bits: u32) -> u128 {
        0xfd00 << 112 | u128::from(bits) << 80
    }
}

fn address<A: Family>(text: &str) -> A {
    A::address(text.parse::<std::net::Ipv4Addr>().unwrap().to_bits())
}

/// "10.1.0.0/16" in the family.
fn prefix<A: Family>(text: &str) -> Prefix<A> {
    let (network, length) = text.split_once('/').unwrap();
    let length: u8 = length.parse().unwrap();
    if length == 0 {
        return Prefix::containing(A::default(), 0);
    }
    Prefix::new(address::<A>(network), length + A::SHIFT).unwrap()
}

/// A table made of (prefix, route) and published.
struct Table<A: Family> {
    fib: Fib<A>,
    view: View<A>,
}

impl<A: Family> Table<A> {
    fn of(routes: &[(&str, u32)]) -> Self {
        let mut fib = Fib::new();
        for (text, route) in routes {
            assert_eq!(
                fib.insert(prefix(text), RouteId(*route)),
                None,
                "{text} was there already"
            );
        }
        let view = fib.publish();
        Table { fib, view }
    }

    fn add(&mut self, text: &str, route: u32) {
        assert_eq!(self.fib.insert(prefix(text), RouteId(route)), None);
        self.view = self.fib.publish();
    }

    fn replace(&mut self, text: &str, old: u32, new: u32) {
        assert_eq!(self.fib.insert(prefix(text), RouteId(new)), Some(RouteId(old)));
        self.view = self.fib.publish();
    }

    fn delete(&mut self, text: &str, route: u32) {
        assert_eq!(self.fib.remove(prefix(text)), Some(RouteId(route)));
        self.view = self.fib.publish();
    }

    /// Each address leads to the route, one by one and in bulk.
    #[track_caller]
    fn leads(&self, expected: &[(&str, Option<u32>)]) {
        let addresses: Vec<A> = expected.iter().map(|(text, _)| address(text)).collect();
        let mut bulk = vec![RouteId(12345); addresses.len()];
        self.view.lookup_bulk(&addresses, &mut bulk);
        for ((text, route), (address, bulk)) in expected.iter().zip(addresses.iter().zip(bulk)) {
            let route = route.map(RouteId);
            assert_eq!(self.view.lookup(*address), route, "{text}");
            assert_eq!(bulk, route.unwrap_or(NO_ROUTE), "{text} in bulk");
            assert_eq!(
                self.fib.longest_match(*address).map(|(_, route)| route),
                route,
                "{text} at the writer"
            );
        }
    }
}

macro_rules! both_families {
    ($($name:ident $told:ident)*) => {
        mod ipv4 {
            $(#[test] fn $name() { super::$told::<u32>(); })*
        }
        mod ipv6 {
            $(#[test] fn $name() { super::$told::<u128>(); })*
        }
    };
}

both_families! {
    a_table_without_routes_leads_nowhere empty
    an_added_route_leads_its_addresses_and_no_others add
    a_sub_route_takes_its_part_of_the_route_above sub_route
    a_super_route_takes_only_what_has_no_route_of_its_own super_route
    classless_prefixes_decide_at_each_bit classless
    deleting_all_routes_leaves_nothing delete_all
    deleting_a_sub_route_gives_its_addresses_back delete_sub_route
    deleting_a_mid_level_super_route_uncovers_the_one_above delete_mid_level
    deleting_a_classless_super_route_uncovers_the_one_above delete_classless_super_route
    the_default_route_takes_over_from_a_deleted_sub_route default_route
    a_replaced_25_23_and_20_lead_to_the_new_route replaced
    host_routes_lead_single_addresses host_routes
    more_than_65536_routes_keep_their_numbers many_routes
    the_covering_route_of_a_prefix_is_the_longest_shorter_one covering
    a_view_answers_as_before_after_later_changes old_views
    a_route_with_the_largest_number_is_kept largest_number
}

fn empty<A: Family>() {
    let table = Table::<A>::of(&[]);
    table.leads(&[("0.0.0.0", None), ("10.0.0.1", None), ("255.255.255.255", None)]);
    assert!(table.fib.is_empty());
    assert_eq!(View::<A>::default().lookup(address("10.0.0.1")), None);
}

fn add<A: Family>() {
    let mut table = Table::<A>::of(&[]);
    table.add("10.1.2.0/24", 7);
    table.leads(&[
        ("10.1.1.255", None),
        ("10.1.2.0", Some(7)),
        ("10.1.2.255", Some(7)),
        ("10.1.3.0", None),
        ("0.0.0.0", None),
    ]);
    assert_eq!(table.fib.len(), 1);
    assert_eq!(table.fib.get(prefix("10.1.2.0/24")), Some(RouteId(7)));
    assert_eq!(table.fib.get(prefix("10.1.2.0/25")), None);
    assert_eq!(table.fib.get(prefix("10.1.2.0/23")), None);
}

fn sub_route<A: Family>() {
    let mut table = Table::<A>::of(&[("10.1.0.0/16", 1)]);
    table.add("10.1.2.0/24", 2);
    table.leads(&[
        ("10.0.255.255", None),
        ("10.1.0.0", Some(1)),
        ("10.1.1.255", Some(1)),
        ("10.1.2.0", Some(2)),
        ("10.1.2.255", Some(2)),
        ("10.1.3.0", Some(1)),
    ]);
}

fn super_route<A: Family>() {
    let mut table = Table::<A>::of(&[("10.1.2.0/24", 2)]);
    table.add("10.1.0.0/16", 1);
    table.add("10.0.0.0/8", 3);
    table.leads(&[
        ("10.1.2.9", Some(2)),
        ("10.1.3.9", Some(1)),
        ("10.2.0.0", Some(3)),
        ("11.0.0.0", None),
        ("9.255.255.255", None),
    ]);
}

fn classless<A: Family>() {
    // 192.0.0.0/1 to /32, each the first half of the one above; the number is the length.
    let mut table = Table::<A>::of(&[]);
    for length in 1..=32 {
        table.add(&format!("128.0.0.0/{length}"), length);
    }
    table.leads(&[
        ("128.0.0.0", Some(32)),
        ("128.0.0.1", Some(31)),
        ("127.255.255.255", None),
    ]);
    for length in 1..32 {
        let behind = std::net::Ipv4Addr::from_bits(0x8000_0000 | 1 << (31 - length));
        table.leads(&[(&behind.to_string(), Some(length))]);
    }
    for length in (1..=32).rev() {
        table.delete(&format!("128.0.0.0/{length}"), length);
        table.leads(&[("128.0.0.0", (length > 1).then(|| length - 1))]);
    }
}

fn delete_all<A: Family>() {
    let routes = [
        ("0.0.0.0/0", 1),
        ("10.0.0.0/8", 2),
        ("10.1.0.0/16", 3),
        ("10.1.2.0/24", 4),
        ("10.1.2.3/32", 5),
    ];
    let mut table = Table::<A>::of(&routes);
    for (text, route) in routes {
        table.delete(text, route);
    }
    table.leads(&[
        ("10.1.2.3", None),
        ("10.1.2.4", None),
        ("10.9.9.9", None),
        ("0.0.0.0", None),
    ]);
    assert!(table.fib.is_empty());
    assert_eq!(table.fib.iter().next(), None);
    assert_eq!(table.fib.memory().lookup, 0);
    for (text, _) in routes {
        assert_eq!(table.fib.remove(prefix(text)), None, "{text} is gone");
    }
}

fn delete_sub_route<A: Family>() {
    let mut table = Table::<A>::of(&[("10.1.0.0/16", 1), ("10.1.2.0/24", 2), ("10.1.2.128/25", 3)]);
    table.delete("10.1.2.0/24", 2);
    table.leads(&[
        ("10.1.2.1", Some(1)),
        ("10.1.2.129", Some(3)),
        ("10.1.3.1", Some(1)),
    ]);
    table.delete("10.1.2.128/25", 3);
    table.leads(&[("10.1.2.129", Some(1))]);
}

fn delete_mid_level<A: Family>() {
    let mut table = Table::<A>::of(&[("10.0.0.0/8", 1), ("10.1.0.0/16", 2), ("10.1.2.0/24", 3)]);
    table.delete("10.1.0.0/16", 2);
    table.leads(&[
        ("10.1.2.1", Some(3)),
        ("10.1.3.1", Some(1)),
        ("10.2.0.1", Some(1)),
        ("11.0.0.0", None),
    ]);
}

fn delete_classless_super_route<A: Family>() {
    let mut table = Table::<A>::of(&[("10.0.0.0/8", 1), ("10.1.160.0/19", 2), ("10.1.168.0/22", 3)]);
    table.leads(&[
        ("10.1.167.255", Some(2)),
        ("10.1.168.0", Some(3)),
        ("10.1.172.0", Some(2)),
    ]);
    table.delete("10.1.160.0/19", 2);
    table.leads(&[
        ("10.1.160.0", Some(1)),
        ("10.1.168.0", Some(3)),
        ("10.1.171.255", Some(3)),
        ("10.1.172.0", Some(1)),
    ]);
}

fn default_route<A: Family>() {
    let mut table = Table::<A>::of(&[("0.0.0.0/0", 1), ("10.1.2.0/24", 2)]);
    table.leads(&[
        ("10.1.2.1", Some(2)),
        ("0.0.0.0", Some(1)),
        ("255.255.255.255", Some(1)),
    ]);
    table.delete("10.1.2.0/24", 2);
    table.leads(&[("10.1.2.1", Some(1)), ("255.255.255.255", Some(1))]);
    table.delete("0.0.0.0/0", 1);
    table.leads(&[("10.1.2.1", None), ("0.0.0.0", None)]);
}

fn replaced<A: Family>() {
    let mut table = Table::<A>::of(&[("10.1.2.128/25", 25), ("10.1.2.0/23", 23), ("10.1.0.0/20", 20)]);
    table.leads(&[
        ("10.1.2.200", Some(25)),
        ("10.1.2.1", Some(23)),
        ("10.1.3.1", Some(23)),
        ("10.1.9.9", Some(20)),
    ]);
    table.replace("10.1.2.128/25", 25, 125);
    table.leads(&[
        ("10.1.2.200", Some(125)),
        ("10.1.2.1", Some(23)),
        ("10.1.9.9", Some(20)),
    ]);
    table.replace("10.1.2.0/23", 23, 123);
    table.leads(&[
        ("10.1.2.200", Some(125)),
        ("10.1.2.1", Some(123)),
        ("10.1.9.9", Some(20)),
    ]);
    table.replace("10.1.0.0/20", 20, 120);
    table.leads(&[
        ("10.1.2.200", Some(125)),
        ("10.1.2.1", Some(123)),
        ("10.1.3.255", Some(123)),
        ("10.1.9.9", Some(120)),
        ("10.1.16.0", None),
    ]);
    assert_eq!(table.fib.len(), 3);
}

fn host_routes<A: Family>() {
    let mut table = Table::<A>::of(&[("10.0.0.0/24", 999)]);
    for host in 1..=254 {
        table.add(&format!("10.0.0.{host}/32"), host);
    }
    for host in 1..=254 {
        table.leads(&[(&format!("10.0.0.{host}"), Some(host))]);
    }
    table.leads(&[
        ("10.0.0.0", Some(999)),
        ("10.0.0.255", Some(999)),
        ("10.0.1.1", None),
    ]);
    let all = Prefix::host(A::address(0));
    assert_eq!(table.fib.get(all), None);
}

fn many_routes<A: Family>() {
    let count = if cfg!(miri) { 500 } else { 140_000 };
    let mut fib = Fib::<A>::new();
    let at = |number: u32| A::address(0x0a00_0000 + (number << 6));
    for number in 0..count {
        fib.insert(Prefix::new(at(number), 26 + A::SHIFT).unwrap(), RouteId(number));
    }
    let view = fib.publish();
    let addresses: Vec<A> = (0..count).map(at).collect();
    let mut bulk = vec![NO_ROUTE; addresses.len()];
    view.lookup_bulk(&addresses, &mut bulk);
    for (number, route) in bulk.into_iter().enumerate() {
        assert_eq!(route, RouteId(number as u32));
        assert_eq!(view.lookup(addresses[number]), Some(route));
    }
    assert_eq!(view.lookup(at(count)), None);
    let listed: Vec<u32> = fib.iter().map(|(_, route)| route.0).collect();
    assert_eq!(listed, (0..count).collect::<Vec<_>>());
}

fn covering<A: Family>() {
    let table = Table::<A>::of(&[
        ("0.0.0.0/0", 1),
        ("10.0.0.0/8", 2),
        ("10.1.2.0/24", 3),
        ("10.1.2.3/32", 4),
    ]);
    let covering = |text| {
        table
            .fib
            .covering(prefix(text))
            .map(|(covering, route)| (covering, route.0))
    };
    assert_eq!(covering("10.1.2.3/32"), Some((prefix("10.1.2.0/24"), 3)));
    assert_eq!(covering("10.1.2.128/25"), Some((prefix("10.1.2.0/24"), 3)));
    assert_eq!(covering("10.1.2.0/24"), Some((prefix("10.0.0.0/8"), 2)));
    assert_eq!(covering("10.1.0.0/16"), Some((prefix("10.0.0.0/8"), 2)));
    assert_eq!(covering("10.0.0.0/8"), Some((prefix("0.0.0.0/0"), 1)));
    assert_eq!(covering("11.0.0.0/8"), Some((prefix("0.0.0.0/0"), 1)));
    assert_eq!(covering("0.0.0.0/0"), None);
}

fn old_views<A: Family>() {
    let mut table = Table::<A>::of(&[("10.0.0.0/8", 1), ("10.1.0.0/16", 2)]);
    let before = table.view.clone();
    table.delete("10.1.0.0/16", 2);
    table.replace("10.0.0.0/8", 1, 3);
    let between = table.fib.view();
    table.add("10.1.2.0/24", 4);
    let seen =
        |view: &View<A>| ["10.1.2.3", "10.2.0.0"].map(|text| view.lookup(address(text)).map(|route| route.0));
    assert_eq!(seen(&before), [Some(2), Some(1)]);
    assert_eq!(seen(&between), [Some(3), Some(3)]);
    assert_eq!(seen(&table.view), [Some(4), Some(3)]);
    // Unpublished changes are seen by the writer alone.
    table.fib.remove(prefix("10.1.2.0/24"));
    assert_eq!(seen(&table.view), [Some(4), Some(3)]);
    assert_eq!(table.fib.get(prefix("10.1.2.0/24")), None);
    drop(table.fib);
    assert_eq!(seen(&before), [Some(2), Some(1)]);
}

fn largest_number<A: Family>() {
    let largest = weft_table::fib::MAX_ROUTE_ID.0;
    let table = Table::<A>::of(&[
        ("10.0.0.0/8", largest),
        ("10.1.0.0/16", 0),
        ("10.1.1.0/24", largest - 1),
    ]);
    table.leads(&[
        ("10.2.0.0", Some(largest)),
        ("10.1.0.0", Some(0)),
        ("10.1.1.1", Some(largest - 1)),
    ]);
}

#[test]
fn prefixes_with_host_bits_or_too_long_are_refused_with_the_way_out() {
    let refused = Prefix::new(0x0a00_0001_u32, 24).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "prefix 10.0.0.1/24 has host bits set: write 10.0.0.0/24"
    );
    let refused = Prefix::<u32>::new(0, 33).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "prefix 0.0.0.0/33 is longer than the address: use a length from 0 to 32"
    );
    let refused = Prefix::new(1_u128, 127).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "prefix ::1/127 has host bits set: write ::/127"
    );
    let net: ipnet::Ipv6Net = "fd00::1/64".parse().unwrap();
    assert!(Prefix::try_from(net).is_err());
    let net: ipnet::Ipv6Net = "fd00:1::/64".parse().unwrap();
    assert_eq!(Prefix::try_from(net).unwrap().to_string(), "fd00:1::/64");
    assert_eq!(
        ipnet::IpNet::from(Prefix::try_from(net).unwrap()),
        ipnet::IpNet::V6(net)
    );
    let net: ipnet::Ipv4Net = "10.0.0.0/8".parse().unwrap();
    assert_eq!(
        ipnet::IpNet::from(Prefix::try_from(net).unwrap()),
        ipnet::IpNet::V4(net)
    );
}
