//! Valid objects survive the way to the API and back; invalid ones are told why, in words that people read.

use proptest::prelude::*;
use prost::Message;
use weft_proto::v1::{self, object::Spec as Proto};

use super::*;
use crate::testing::*;

fn refused(object: &v1::Object) -> String {
    match Object::from_proto(object) {
        Ok(valid) => panic!("taken: {valid:?}"),
        Err(error) => format!("{error}\n  help: {}", error.help),
    }
}

fn report(objects: &[v1::Object]) -> String {
    objects.iter().map(refused).collect::<Vec<_>>().join("\n")
}

#[test]
fn names_and_kinds_that_are_wrong() {
    insta::assert_snapshot!(
        "names",
        report(&[
            vrf(""),
            vrf("Red"),
            vrf("a b"),
            vrf(&"x".repeat(254)),
            v1::Object {
                name: "red".into(),
                ..Default::default()
            },
        ])
    );
    let key = v1::Key {
        kind: 99,
        name: "x".into(),
    };
    assert_eq!(
        Key::from_proto(&key).unwrap_err().to_string(),
        "kind: kind 99 is unknown"
    );
}

#[test]
fn networks_and_routes_that_are_wrong() {
    let vrf_hop = |vrf: &str| hop(v1::next_hop::To::Vrf(vrf.into()));
    let gateway = |gateway: &str| hop(v1::next_hop::To::Gateway(gateway.into()));
    let mut twice = network("n", "red", "10.0.0.0/24", "10.0.0.1");
    if let Some(Proto::Network(network)) = &mut twice.spec {
        network.subnets.push(v1::Subnet {
            prefix: "10.0.0.128/25".into(),
            gateway: "10.0.0.129".into(),
        });
    }
    insta::assert_snapshot!(
        "networks_and_routes",
        report(&[
            network("n", "", "10.0.0.0/24", "10.0.0.1"),
            network("n", "red", "10.0.0.1/24", "10.0.0.1"),
            network("n", "red", "10.0.0.0", "10.0.0.1"),
            network("n", "red", "10.0.0.0/24", ""),
            network("n", "red", "10.0.0.0/24", "10.0.1.1"),
            network("n", "red", "10.0.0.0/24", "10.0.0.255"),
            network("n", "red", "fd00::/64", "10.0.0.1"),
            twice,
            route("r", "red", "10.0.0.7/24", to_port("p")),
            route("r", "red", "10.0.0.0/33", to_port("p")),
            route("r", "red", "", to_port("p")),
            route("r", "red", "10.0.0.0/8", v1::NextHop::default()),
            route("r", "red", "10.0.0.0/8", to_port("")),
            route("r", "red", "10.0.0.0/8", vrf_hop("red")),
            route("r", "red", "10.0.0.0/8", gateway("224.0.0.1")),
            route("r", "red", "10.0.0.0/8", gateway("::ffff:10.0.0.1")),
            route("r", "red", "10.0.0.0/8", gateway("router")),
        ])
    );
}

#[test]
fn tunnels_that_are_wrong() {
    use v1::Encapsulation::{MplsOverUdp, Unspecified, Vxlan};
    let tunnel = |change: fn(&mut v1::TunnelNextHop)| {
        let mut tunnel = v1::TunnelNextHop {
            endpoint: "b".into(),
            ..Default::default()
        };
        change(&mut tunnel);
        route("r", "red", "10.0.0.0/8", hop(v1::next_hop::To::Tunnel(tunnel)))
    };
    let with_local = |remote: &str, local: &str| {
        let mut object = endpoint("b", remote, Vxlan);
        if let Some(Proto::TunnelEndpoint(endpoint)) = &mut object.spec {
            endpoint.local = local.into();
        }
        object
    };
    let mut unknown = endpoint("b", "198.18.0.2", Vxlan);
    if let Some(Proto::TunnelEndpoint(endpoint)) = &mut unknown.spec {
        endpoint.encapsulation = 77;
    }
    insta::assert_snapshot!(
        "tunnels",
        report(&[
            tunnel(|_| {}),
            tunnel(|t| t.vni = 1 << 24),
            tunnel(|t| t.labels = vec![16, 3]),
            tunnel(|t| t.labels = vec![16, 17, 18, 19]),
            tunnel(|t| (t.vni, t.labels) = (7, vec![16])),
            tunnel(|t| (t.labels, t.inner_mac) = (vec![16], "02:00:00:00:00:01".into())),
            tunnel(|t| (t.vni, t.inner_mac) = (7, "01:00:5e:00:00:01".into())),
            tunnel(|t| (t.vni, t.inner_mac) = (7, "02:00:00".into())),
            endpoint("b", "198.18.0.2", Unspecified),
            unknown,
            endpoint("b", "", MplsOverUdp),
            endpoint("b", "0.0.0.0", MplsOverUdp),
            with_local("198.18.0.2", "fd00::1"),
            with_local("198.18.0.2", "198.18.0.2"),
            vni("v", 0, target_vrf("red")),
            vni("v", 16_777_216, target_vrf("red")),
            vni("v", 7, None),
            label("l", 15, target_vrf("red")),
            label("l", 1_048_576, target_vrf("red")),
            label("l", 16, target_port("")),
        ])
    );
}

#[test]
fn groups_that_are_wrong() {
    let weighty = |weight| {
        let mut object = group("g", &[("a", to_port("p")), ("b", to_port("q"))]);
        if let Some(Proto::NextHopGroup(group)) = &mut object.spec {
            group.members[1].weight = weight;
        }
        object
    };
    let names: Vec<String> = (0..257).map(|index| format!("m{index}")).collect();
    let many: Vec<_> = names.iter().map(|name| (name.as_str(), to_port("p"))).collect();
    insta::assert_snapshot!(
        "groups",
        report(&[
            group("g", &[]),
            group("g", &many),
            group("g", &[("a", to_port("p")), ("a", to_port("q"))]),
            group("g", &[("a", to_group("g"))]),
            weighty(1025),
        ])
    );
}

#[test]
fn ports_that_are_wrong() {
    let changed = |change: fn(&mut v1::Port)| with_port(tap("p", "red", &["10.0.0.5"]), change);
    let ethdev = |device: &str| {
        let device = v1::EthdevDevice {
            device: device.into(),
            queues: 0,
        };
        port("p", "red", v1::port::Device::Ethdev(device))
    };
    let trunk = |vlan, vrf: &str| v1::TrunkVlan {
        vlan,
        vrf: vrf.into(),
    };
    let neighbours = |neighbours: &[(&str, &str)]| {
        let neighbour = |(address, mac): &(&str, &str)| v1::Neighbour {
            address: address.to_string(),
            mac: mac.to_string(),
        };
        let neighbours = neighbours.iter().map(neighbour).collect();
        with_port(uplink("u", "198.18.0.1/24"), |p| p.neighbours = neighbours)
    };
    let (near, far) = (
        ("198.18.0.2", "02:00:00:00:00:02"),
        ("198.18.1.2", "02:00:00:00:00:02"),
    );
    insta::assert_snapshot!(
        "ports",
        report(&[
            changed(|p| p.device = None),
            changed(|p| p.vrf = "".into()),
            changed(|p| p.mac = "ff:ff:ff:ff:ff:ff".into()),
            changed(|p| p.mac = "00:00:00:00:00:00".into()),
            changed(|p| p.mac = "52:54:00".into()),
            changed(|p| p.addresses = vec!["10.0.0.5/24".into()]),
            changed(|p| p.addresses = vec!["10.0.0.5".into(), "10.0.0.5/32".into()]),
            changed(|p| p.addresses = vec!["127.0.0.1".into()]),
            changed(|p| p.mtu = 575),
            changed(|p| p.mtu = 9501),
            changed(|p| (p.addresses, p.mtu) = (vec!["fd00::1".into()], 1279)),
            changed(|p| p.workers = vec![0, 70_000]),
            changed(|p| p.host_interface = "weft0".into()),
            changed(|p| p.device = Some(tap_device("a-name-of-16-chr"))),
            changed(|p| p.device = Some(tap_device("a/b"))),
            changed(|p| p.device = Some(tap_device(""))),
            with_port(changed(|_| {}), |p| p.trunk =
                vec![trunk(5, "blue"), trunk(5, "red")]),
            with_port(changed(|_| {}), |p| p.trunk = vec![trunk(4095, "blue")]),
            with_port(port("p", "red", vlan_device("q", 7)), |p| p.trunk =
                vec![trunk(5, "blue")]),
            port("p", "red", vlan_device("p", 7)),
            port("p", "red", vlan_device("q", 0)),
            port("p", "red", vhost_device("vm.sock")),
            port("p", "red", vhost_device(&format!("/{}", "x".repeat(107)))),
            ethdev(""),
            ethdev("eth1"),
            ethdev("0000:03:00.8"),
            ethdev("net_pcap0,rx_pcap=a file"),
            with_port(uplink("u", "198.18.0.1"), |_| {}),
            uplink("u", "198.18.0.0/24"),
            uplink("u", "198.18.0.255/24"),
            with_port(uplink("u", "198.18.0.1/24"), |p| p.host_interface = "a b".into()),
            neighbours(&[near, far]),
            neighbours(&[("fd00::2", near.1)]),
            neighbours(&[near, near]),
            neighbours(&[("198.18.0.1", near.1)]),
            neighbours(&[("", near.1)]),
            neighbours(&[(near.0, "")]),
            neighbours(&[(near.0, "ff:ff:ff:ff:ff:ff")]),
            changed(|p| p.neighbours = vec![v1::Neighbour::default()]),
            changed(|p| {
                p.device = Some(v1::port::Device::Tap(v1::TapDevice {
                    interface: "t".into(),
                    queues: 129,
                    netns: String::new(),
                }));
            }),
            changed(|p| p.quality = quality_of(|quality| quality.dscp = Some(64))),
            changed(|p| p.quality = egress_of(|limit| limit.bits_per_second = 7)),
            changed(|p| p.quality = egress_of(|limit| limit.packets_per_second = u64::MAX)),
            changed(|p| p.quality = egress_of(|limit| limit.burst_bytes = 1500)),
            changed(|p| {
                p.quality = egress_of(|limit| (limit.packets_per_second, limit.burst_packets) = (1, 1 << 33));
            }),
            changed(|p| {
                (p.vrf, p.quality) = ("underlay".into(), quality_of(|quality| quality.dscp = Some(1)));
                p.addresses.clear();
            }),
            changed(|p| {
                p.device = Some(v1::port::Device::Tap(v1::TapDevice {
                    interface: "t".into(),
                    queues: 1,
                    netns: "../x".into(),
                }));
            }),
        ])
    );
}

fn quality_of(change: impl FnOnce(&mut v1::PortQuality)) -> Option<v1::PortQuality> {
    let mut quality = v1::PortQuality::default();
    change(&mut quality);
    Some(quality)
}

fn egress_of(change: impl FnOnce(&mut v1::RateLimit)) -> Option<v1::PortQuality> {
    let mut limit = v1::RateLimit::default();
    change(&mut limit);
    quality_of(|quality| quality.egress = Some(limit))
}

#[test]
fn policies_that_are_wrong() {
    use v1::{PolicyAction::*, PolicyDirection::*};
    let none = [v1::PolicyAction::Unspecified; 2];
    let with = |change: fn(&mut v1::PolicyRule)| policy("p", vec![rule(Ingress, Allow, change)], none);
    let block = |prefix: &str, except: &[&str]| {
        Some(v1::AddressBlock {
            prefix: prefix.into(),
            except: except.iter().map(|hole| hole.to_string()).collect(),
        })
    };
    let remote = |prefix: &str, except: &[&str]| {
        let block = block(prefix, except);
        policy("p", vec![rule(Ingress, Allow, |rule| rule.remote = block)], none)
    };
    let families = |protocol: &str, remote: &str, local: &str| {
        let local = (!local.is_empty()).then(|| block(local, &[])).flatten();
        let rule = rule(Egress, Deny, |rule| {
            (rule.protocol, rule.remote, rule.local) = (protocol.into(), block(remote, &[]), local);
        });
        policy("p", vec![rule], none)
    };
    let range = |first, last| v1::PortRange { first, last };
    let ports = |protocol: &str, ports: &[v1::PortRange]| {
        let rule = rule(Ingress, Allow, |rule| {
            (rule.protocol, rule.destination_ports) = (protocol.into(), ports.to_vec());
        });
        policy("p", vec![rule], none)
    };
    let named = |name: &str| rule(Ingress, Allow, |rule| rule.name = name.into());
    insta::assert_snapshot!(
        "policies",
        report(&[
            with(|rule| rule.direction = 0),
            with(|rule| rule.direction = 9),
            with(|rule| rule.action = 0),
            with(|rule| rule.action = 9),
            with(|rule| rule.protocol = "tpc".into()),
            with(|rule| rule.protocol = "256".into()),
            with(|rule| rule.remote_group = "Clients".into()),
            with(|rule| {
                rule.remote_group = "clients".into();
                rule.remote = Some(v1::AddressBlock {
                    prefix: "10.0.0.0/8".into(),
                    except: vec![],
                });
            }),
            address_group("clients", &["10.0.0.1", "10.0.0.256"]),
            address_group("clients", &["10.0.0.1/24"]),
            address_group("clients", &[""]),
            address_group("clients", &["10.0.0.1"; 100_001]),
            remote("", &[]),
            remote("10.0.0.1/8", &[]),
            remote("10.0.0.0/8", &["10.0.0.0/8"]),
            remote("10.0.0.0/8", &["10.1.0.0/16", "11.0.0.0/16"]),
            remote("10.0.0.0/8", &["0.0.0.0/0"]),
            remote("10.0.0.0/8", &["fd00::/8"]),
            families("", "10.0.0.0/8", "fd00::/8"),
            families("icmp", "fd00::/8", ""),
            families("icmpv6", "10.0.0.0/8", ""),
            ports("", &[range(80, 0)]),
            ports("icmp", &[range(80, 0)]),
            ports("47", &[range(80, 0)]),
            ports("tcp", &[range(80, 0), range(90, 89)]),
            ports("udp", &[range(70_000, 0)]),
            ports("udp", &[range(1, 65_536)]),
            ports("udp", &vec![range(1, 2); 1025]),
            with(|rule| (rule.protocol, rule.icmp_type) = ("tcp".into(), Some(8))),
            with(|rule| rule.icmp_code = Some(0)),
            with(|rule| (rule.protocol, rule.icmp_type) = ("icmp".into(), Some(256))),
            with(|rule| {
                (rule.protocol, rule.icmp_type) = ("icmp".into(), Some(3));
                rule.icmp_code = Some(999);
            }),
            with(|rule| {
                (rule.protocol, rule.icmp_type) = ("icmp".into(), Some(8));
                rule.source_ports = vec![v1::PortRange { first: 1, last: 0 }];
            }),
            policy("p", vec![named("a"), named("b"), named("a")], none),
            policy("p", vec![named("A")], none),
            policy("p", vec![named(""); 10_001], none),
            object(
                "p",
                Proto::Policy(v1::Policy {
                    default_egress: 7,
                    ..Default::default()
                })
            ),
            with_policies(tap("p", "red", &[]), &["web", "web"]),
            with_policies(tap("p", "red", &[]), &["Web"]),
            with_policies(
                tap("p", "red", &[]),
                &[
                    "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q"
                ]
            ),
            with_policies(uplink("u", "198.18.0.1/24"), &["web"]),
        ])
    );
}

#[test]
fn what_may_be_left_out_is_filled_in() {
    let port = match valid(&tap("p", "red", &["10.0.0.5/32", "fd00::5"]))
        .spec
        .to_proto()
    {
        Proto::Port(port) => port,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        (port.mtu, port.addresses),
        (1500, vec!["10.0.0.5".to_string(), "fd00::5".to_string()])
    );
    let route = match valid(&route("r", "red", "10.0.0.0/8", to_vni("b", 7)))
        .spec
        .to_proto()
    {
        Proto::Route(route) => route,
        other => panic!("{other:?}"),
    };
    let Some(v1::next_hop::To::Tunnel(tunnel)) = route.next_hop.and_then(|hop| hop.to) else {
        panic!()
    };
    assert_eq!(tunnel.inner_mac, "00:00:5e:00:01:00");
}

#[test]
fn pci_addresses_and_namespaces_have_one_form() {
    let device = |device: &str| {
        let device = v1::EthdevDevice {
            device: device.into(),
            queues: 2,
        };
        match valid(&port("p", "red", v1::port::Device::Ethdev(device))).spec {
            Spec::Port(port) => port.device,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(device("0A:1f.3"), device("0000:0a:1F.3"));
    let tap = v1::TapDevice {
        interface: "t".into(),
        queues: 0,
        netns: "blue".into(),
    };
    match valid(&port("p", "red", v1::port::Device::Tap(tap))).spec {
        Spec::Port(port) => assert_eq!(
            port.device,
            Device::Tap {
                interface: "t".into(),
                queues: 1,
                netns: Some("/run/netns/blue".into())
            }
        ),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_members_number_never_changes() {
    let member = Member {
        name: "backend-1".into(),
        weight: 1,
        next_hop: NextHop::Discard,
    };
    // FNV-1a as in its reference: the empty text and "a" are published values.
    assert_eq!(
        Member {
            name: "a".into(),
            ..member.clone()
        }
        .id(),
        0xaf63_dc4c_8601_ec8c
    );
    assert_eq!(
        Member {
            name: "".into(),
            ..member
        }
        .id(),
        0xcbf2_9ce4_8422_2325
    );
}

/// Texts of which a good part is valid.
fn text(valid: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop_oneof![
        9 => proptest::sample::select(valid).prop_map(String::from),
        1 => "\\PC{0,20}",
    ]
}

fn a_policy() -> impl Strategy<Value = v1::Policy> {
    let block = || {
        let prefix = text(&["10.0.0.0/8", "fd00::/8", "0.0.0.0/0"]);
        let holes = text(&["10.1.0.0/16", "10.1.2.0/24", "fd00:1::/32"]);
        (prefix, proptest::collection::vec(holes, 0..2))
            .prop_map(|(prefix, except)| v1::AddressBlock { prefix, except })
    };
    let ports = || {
        let port = || prop_oneof![5 => 0..65536u32, 1 => any::<u32>()];
        let range =
            (port(), prop_oneof![Just(0), port()]).prop_map(|(first, last)| v1::PortRange { first, last });
        prop_oneof![3 => Just(Vec::new()), 1 => proptest::collection::vec(range, 1..3)]
    };
    let byte = || proptest::option::weighted(0.3, prop_oneof![9 => 0..256u32, 1 => any::<u32>()]);
    let rule = (
        text(&["", "", "ping"]),
        (0..4i32, 0..5i32),
        text(&[
            "", "any", "tcp", "udp", "sctp", "icmp", "icmpv6", "icmp6", "47", "6",
        ]),
        (
            proptest::option::weighted(0.4, block()),
            proptest::option::weighted(0.1, block()),
            text(&["", "", "", "clients"]),
        ),
        (ports(), ports()),
        (byte(), byte(), any::<bool>()),
    )
        .prop_map(
            |(
                name,
                (direction, action),
                protocol,
                (remote, local, remote_group),
                ports,
                (icmp_type, icmp_code, log),
            )| {
                v1::PolicyRule {
                    name,
                    direction,
                    action,
                    protocol,
                    remote,
                    remote_group,
                    local,
                    source_ports: ports.0,
                    destination_ports: ports.1,
                    icmp_type,
                    icmp_code,
                    log,
                }
            },
        );
    (proptest::collection::vec(rule, 0..3), 0..4i32, 0..5i32).prop_map(
        |(rules, default_ingress, default_egress)| v1::Policy {
            rules,
            default_ingress,
            default_egress,
        },
    )
}

#[test]
fn services_are_checked_field_by_field() {
    let web = |change: fn(&mut v1::Service)| {
        with_service(
            service("s", "red", "10.0.0.80", &[80], &["10.0.0.1", "10.0.0.2"]),
            change,
        )
    };
    let port = |protocol: &str, port, target_port| v1::ServicePort {
        protocol: protocol.into(),
        port,
        target_port,
    };
    let ports = |ports: Vec<v1::ServicePort>| with_service(web(|_| {}), |service| service.ports = ports);
    insta::assert_snapshot!(
        "services",
        report(&[
            web(|service| service.vrf = String::new()),
            web(|service| service.vrf = UNDERLAY.into()),
            web(|service| service.address = "10.0.0.0/24".into()),
            ports(vec![]),
            ports(vec![port("", 80, 0)]),
            ports(vec![port("icmp", 80, 0)]),
            ports(vec![port("tcp", 65536, 0)]),
            ports(vec![port("tcp", 80, 65536)]),
            ports(vec![port("tcp", 0, 80)]),
            ports(vec![port("tcp", 80, 81), port("udp", 80, 0), port("tcp", 80, 0)]),
            ports(vec![port("udp", 0, 0), port("udp", 0, 0)]),
            ports((1..=65).map(|number| port("tcp", number, 0)).collect()),
            web(|service| service.backends[1].address = String::new()),
            web(|service| service.backends[1].address = "fd00::1".into()),
            web(|service| service.backends[1].address = "10.0.0.1".into()),
            web(|service| service.backends[1].address = "10.0.0.80".into()),
            web(|service| service.backends[1].weight = Some(0)),
            web(|service| service.backends[1].weight = Some(257)),
            web(|service| service.backends[1].state = 9),
            web(|service| service.backends[1].port = "A".into()),
            web(|service| service.backends = vec![service.backends[0].clone(); 1001]),
            web(|service| service.client_affinity_seconds = 86_401),
            with_service(service("s", "red", "fd00::80", &[80], &[]), |service| service
                .source_pool =
                "p".into()),
        ])
    );
}

fn any_object() -> impl Strategy<Value = v1::Object> {
    let name = || text(&["red", "vm-7", "a/b.c_d"]);
    let address = || {
        text(&[
            "10.0.0.1",
            "fd00::1",
            "198.18.0.1/24",
            "10.0.0.1/32",
            "fd00::9/64",
        ])
    };
    let mac = || text(&["", "52:54:00:12:34:56", "52-54-00-AB-CD-EF"]);
    let number = || prop_oneof![8 => 0..5000u32, 1 => any::<u32>()];
    let hop = move || {
        use v1::next_hop::To;
        let labels = proptest::collection::vec(number(), 0..4);
        prop_oneof![
            (name(), mac(), number()).prop_map(|(port, mac, vlan)| To::Port(v1::PortNextHop {
                port,
                mac,
                vlan
            })),
            (name(), number(), labels, mac(), name()).prop_map(
                |(endpoint, vni, labels, inner_mac, return_vrf)| {
                    To::Tunnel(v1::TunnelNextHop {
                        endpoint,
                        vni,
                        labels,
                        inner_mac,
                        return_vrf,
                    })
                }
            ),
            name().prop_map(To::Group),
            name().prop_map(To::Vrf),
            address().prop_map(To::Gateway),
            Just(To::Receive(v1::Receive {})),
            Just(To::Discard(v1::Discard {})),
        ]
        .prop_map(|to| v1::NextHop { to: Some(to) })
    };
    let device = prop_oneof![
        (text(&["03:00.0", "net_tap0,iface=x"]), number())
            .prop_map(|(device, queues)| v1::port::Device::Ethdev(v1::EthdevDevice { device, queues })),
        (text(&["/run/x.sock"]), any::<bool>(), 0..200u32).prop_map(|(socket, server, queues)| {
            v1::port::Device::VhostUser(v1::VhostUserDevice {
                socket,
                server,
                queues,
            })
        }),
        (text(&["tap0"]), 0..200u32, text(&["", "blue", "/proc/1/ns/net"])).prop_map(
            |(interface, queues, netns)| v1::port::Device::Tap(v1::TapDevice {
                interface,
                queues,
                netns
            })
        ),
        (name(), number()).prop_map(|(parent, vlan)| v1::port::Device::Vlan(v1::VlanDevice { parent, vlan })),
    ];
    let rate = || prop_oneof![Just(0), 1..1_000_000_000u64];
    let limit = move || {
        let limit = (rate(), rate(), rate(), rate()).prop_map(
            |(packets_per_second, bits_per_second, burst_packets, burst_bytes)| v1::RateLimit {
                packets_per_second,
                bits_per_second,
                burst_packets,
                burst_bytes,
            },
        );
        proptest::option::of(limit)
    };
    let quality = (limit(), limit(), proptest::option::of(0..70u32)).prop_map(|(egress, ingress, dscp)| {
        v1::PortQuality {
            egress,
            ingress,
            dscp,
        }
    });
    let port = (
        device,
        text(&["red", "underlay"]),
        mac(),
        proptest::collection::vec(address(), 0..3),
        prop_oneof![Just(0), 500..9600u32],
        any::<bool>(),
        proptest::collection::vec(
            (number(), name()).prop_map(|(vlan, vrf)| v1::TrunkVlan { vlan, vrf }),
            0..3,
        ),
        proptest::collection::vec(number(), 0..3),
        text(&["", "", "weft0"]),
        proptest::collection::vec(
            (text(&["198.18.0.2", "fd00::3", "fd00::4"]), mac())
                .prop_map(|(address, mac)| v1::Neighbour { address, mac }),
            0..3,
        ),
        proptest::collection::vec(name(), 0..3),
        proptest::option::of(quality),
    )
        .prop_map(
            |(
                device,
                vrf,
                mac,
                addresses,
                mtu,
                packet_mode,
                trunk,
                workers,
                host_interface,
                neighbours,
                policies,
                quality,
            )| {
                Proto::Port(v1::Port {
                    device: Some(device),
                    vrf,
                    mac,
                    addresses,
                    mtu,
                    packet_mode,
                    trunk,
                    workers,
                    host_interface,
                    neighbours,
                    policies,
                    quality,
                })
            },
        );
    let subnet = (
        text(&["10.0.0.0/24", "fd00::/64", "10.9.0.0/31"]),
        text(&["10.0.0.1", "fd00::1", "10.9.0.0"]),
    )
        .prop_map(|(prefix, gateway)| v1::Subnet { prefix, gateway });
    let member = (name(), number(), hop()).prop_map(|(name, weight, next_hop)| v1::Member {
        name,
        weight,
        next_hop: Some(next_hop),
    });
    let target = || {
        proptest::option::of(prop_oneof![
            name().prop_map(v1::tunnel_target::To::Vrf),
            name().prop_map(v1::tunnel_target::To::Port),
        ])
        .prop_map(|to| Some(v1::TunnelTarget { to }))
    };
    let spec = prop_oneof![
        a_policy().prop_map(Proto::Policy),
        (
            (
                name(),
                text(&["203.0.113.0/28", "10.0.0.0/8", "fd00::/64"]),
                name()
            ),
            text(&["10.0.0.0/24", "10.0.0.0/20", "10.0.0.1/24"]),
            (number(), number(), number(), any::<bool>()),
        )
            .prop_map(
                |(
                    (vrf, addresses, inside_vrf),
                    sources,
                    (first_port, last_port, block_size, deterministic),
                )| {
                    Proto::NatPool(v1::NatPool {
                        vrf,
                        addresses: vec![addresses],
                        inside_vrf,
                        sources: vec![sources],
                        first_port,
                        last_port,
                        block_size,
                        deterministic,
                    })
                }
            ),
        (
            (name(), address(), number(), number()),
            (text(&["tcp", "udp", "sctp", "icmp", ""]), name(), name()),
            (
                address(),
                proptest::option::of(number()),
                0..5i32,
                number(),
                any::<bool>()
            ),
        )
            .prop_map(
                |(
                    (vrf, virtual_ip, port, target_port),
                    (protocol, backend_port, source_pool),
                    (address, weight, state, client_affinity_seconds, local_only),
                )| {
                    Proto::Service(v1::Service {
                        vrf,
                        address: virtual_ip,
                        ports: vec![v1::ServicePort {
                            protocol,
                            port,
                            target_port,
                        }],
                        backends: vec![v1::Backend {
                            address,
                            weight,
                            state,
                            port: backend_port,
                        }],
                        client_affinity_seconds,
                        local_only,
                        source_pool,
                    })
                }
            ),
        (name(), address(), name(), address()).prop_map(|(vrf, address, port, inside_address)| {
            Proto::FloatingIp(v1::FloatingIp {
                vrf,
                address,
                port,
                inside_address,
            })
        }),
        proptest::collection::vec(
            text(&["10.0.0.1", "10.0.0.0/8", "fd00::/64", "::1", "10.0.0.1/32"]),
            0..4
        )
        .prop_map(|members| Proto::AddressGroup(v1::AddressGroup { members })),
        (any::<bool>(), proptest::option::of(0..700_000u32)).prop_map(|(packet_mode, udp)| {
            let timeouts = udp.map(|udp| v1::SessionTimeouts {
                udp,
                ..Default::default()
            });
            Proto::Vrf(v1::Vrf {
                packet_mode,
                timeouts,
            })
        }),
        (name(), proptest::collection::vec(subnet, 0..3))
            .prop_map(|(vrf, subnets)| Proto::Network(v1::Network { vrf, subnets })),
        port,
        (name(), text(&["10.0.0.0/8", "fd00::/8", "0.0.0.0/0"]), hop()).prop_map(|(vrf, prefix, hop)| {
            Proto::Route(v1::Route {
                vrf,
                prefix,
                next_hop: Some(hop),
            })
        }),
        proptest::collection::vec(member, 0..3)
            .prop_map(|members| Proto::NextHopGroup(v1::NextHopGroup { members })),
        (address(), text(&["", "198.18.0.7"]), 0..5).prop_map(|(remote, local, encapsulation)| {
            Proto::TunnelEndpoint(v1::TunnelEndpoint {
                remote,
                local,
                encapsulation,
            })
        }),
        (number(), target()).prop_map(|(vni, target)| Proto::Vni(v1::Vni { vni, target })),
        (number(), target()).prop_map(|(label, target)| Proto::Label(v1::Label { label, target })),
    ];
    (name(), spec).prop_map(|(name, spec)| object(&name, spec))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

    #[test]
    fn a_valid_object_survives_the_way_to_the_api_and_back(object in any_object()) {
        match Object::from_proto(&object) {
            Ok(valid) => {
                let back = v1::Object { name: object.name, spec: Some(valid.spec.to_proto()), ..Default::default() };
                prop_assert_eq!(Object::from_proto(&back), Ok(valid.clone()));
                let mut decoded = v1::Object::decode(&*valid.spec.encode()).unwrap();
                decoded.name = back.name;
                prop_assert_eq!(Object::from_proto(&decoded), Ok(valid));
            }
            Err(error) => {
                prop_assert!(!error.field.is_empty() && !error.message.is_empty() && !error.help.is_empty());
            }
        }
    }
}
