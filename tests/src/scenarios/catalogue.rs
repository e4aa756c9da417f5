//! What the vRouter must pass, by area: facts from the field, and the demands on its own parts.
//!
//! A scenario counts when packets cross the running weftd and every byte that leaves is checked.

use std::fmt::Write;

/// Areas with their scenarios.
pub const AREAS: &[(&str, &[&str])] = &[
    (
        "Forwarding",
        &[
            "VM to VM in one VN",
            "VM to VM in one VN over IPv6",
            "VM to VM between VNs",
            "VM to fabric intra VN",
            "VM to fabric inter VN",
            "fabric to VM intra VN",
            "fabric to VM inter VN",
            "VM to the host's own address and back",
            "VXLAN",
            "MPLSoUDP",
            "MPLSoGRE",
            "IPv4 and IPv6 inside",
            "IPv6 underlay",
            "tagged uplink with each encapsulation",
            "jumbo frames",
            "TTL 1",
            "DSCP and ECN across tunnels",
            "outer source port entropy",
        ],
    ),
    (
        "Fragments",
        &[
            "packet mode",
            "in order",
            "out of order",
            "towards an ECMP service",
            "timeouts",
            "overlapping dropped",
            "floods bounded",
        ],
    ),
    (
        "Routes",
        &[
            "add",
            "sub-route",
            "super-route",
            "classless prefixes",
            "delete all",
            "delete a sub-route",
            "delete a mid-level super-route",
            "delete a classless super-route",
            "default route with a sub-route deleted",
            "/25, /23 and /20 replaced",
            "64 K and more next hops",
            "IPv6",
        ],
    ),
    (
        "Next hops",
        &[
            "ECMP over local and remote members",
            "a member leaves and other flows stay put",
            "composite with an unreachable member",
            "VRF translate",
            "receive",
            "discard",
            "resolve",
        ],
    ),
    (
        "NAT",
        &[
            "floating IP both ways",
            "hairpin",
            "NAT66",
            "ICMP echo ids",
            "ICMP errors translated inside",
            "FTP-like payloads untouched",
            "fragments through NAT",
            "SNAT with port blocks",
            "exhaustion counted and named",
            "deterministic blocks",
        ],
    ),
    (
        "Services",
        &[
            "TCP, UDP, SCTP, IPv4 and IPv6",
            "port to target port",
            "any port",
            "source IP kept",
            "remote backends",
            "weighted consistent hashing",
            "a backend leaves and other sessions stay",
            "draining",
            "client affinity",
            "local only",
            "full NAT",
            "hairpin to oneself",
            "no backend is refused",
            "ICMP errors translated inside",
        ],
    ),
    (
        "Neighbours",
        &[
            "ARP proxy",
            "ARP probe",
            "ND proxy",
            "underlay ARP",
            "underlay ND",
            "exactly one answer",
        ],
    ),
    (
        "VLAN",
        &[
            "sub-interface by VLAN",
            "the same VLAN under two parents in two VRFs",
            "strip on receive, tag on transmit",
            "unknown VLAN dropped and counted",
            "QinQ",
            "priority tags",
            "native VLAN",
            "trunk",
        ],
    ),
    (
        "Offloads",
        &[
            "partial checksums",
            "segmentation in software",
            "segmentation by the receiver",
        ],
    ),
    (
        "Hostile input",
        &[
            "truncated at every byte",
            "IHL < 5",
            "total length lies",
            "VLAN stacks without end",
            "IPv6 extension header chains",
            "zero checksum UDP",
            "label stacks without end",
            "VXLAN with reserved bits",
            "inner tunnel loops",
            "source address from another tenant",
            "vhost peers that lie about rings",
            "vhost peers that lie about lengths",
            "vhost peers that lie about csum_start",
            "a guest that stops polling",
            "a guest killed in mid-flight",
            "sockets reconnected a thousand times",
            "real-world and malformed captures",
        ],
    ),
    (
        "Bad input",
        &[
            "an unknown device",
            "a socket path that exists",
            "a VLAN used twice under one parent",
            "an overlapping route of another owner",
            "a prefix with host bits",
            "a VNI over 24 bits",
            "a label in the reserved range",
            "a service without port",
            "a half-valid batch",
            "a truncated request",
            "a second weftd on the same directory",
            "no hugepages",
            "no permission",
            "an unknown key in weftd.toml",
        ],
    ),
    (
        "Operations",
        &[
            "weftd killed with guests and containers",
            "two workers split the traffic",
            "200 vhost-user ports and 200 taps",
            "ports plugged and unplugged in a loop",
            "real guests over vhost-user",
            "a PCI card by vfio",
            "the model of the tests agrees with scapy",
        ],
    ),
];

/// Every entry with the tests that cover it.
pub fn report() -> String {
    let mut text = String::new();
    let (mut covered, mut total) = (0, 0);
    for (area, entries) in AREAS {
        let _ = writeln!(text, "{area}");
        for entry in *entries {
            total += 1;
            let key = format!("{area}: {entry}");
            let tests: Vec<&str> = super::all()
                .filter(|scenario| scenario.covers.contains(&key.as_str()))
                .map(|scenario| scenario.title())
                .collect();
            covered += usize::from(!tests.is_empty());
            let _ = writeln!(text, "  {entry}");
            for test in &tests {
                let _ = writeln!(text, "      {test}");
            }
            if tests.is_empty() {
                let _ = writeln!(text, "      not covered");
            }
        }
    }
    let _ = writeln!(
        text,
        "{covered} of {total} scenarios covered by {} tests",
        super::all().count()
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_is_covered_and_every_cover_is_an_entry() {
        let keys: Vec<String> = AREAS
            .iter()
            .flat_map(|(area, entries)| entries.iter().map(move |entry| format!("{area}: {entry}")))
            .collect();
        for scenario in super::super::all() {
            for cover in scenario.covers {
                assert!(
                    keys.iter().any(|key| key == cover),
                    "{}: no such entry: {cover}",
                    scenario.title()
                );
            }
        }
        for key in keys {
            assert!(
                super::super::all().any(|scenario| scenario.covers.contains(&key.as_str())),
                "no test covers {key}"
            );
        }
    }
}
