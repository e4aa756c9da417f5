//! Every object survives the way through a file: what `-o yaml` and `-o json` print, `apply` reads back the same.

#![allow(missing_docs)]

use proptest::{collection::vec, option, prelude::*};
use weft_cli::manifest;
use weft_proto::v1::{self, next_hop::To, object::Spec, port::Device, tunnel_target};

/// Text as people write it, and text that YAML could take for something else.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z0-9][a-z0-9./_-]{0,12}",
        Just("null".to_owned()),
        Just("~".to_owned()),
        Just("true".to_owned()),
        Just("no".to_owned()),
        Just("1e5".to_owned()),
        Just("0x1f".to_owned()),
        Just("0o17".to_owned()),
        Just(".inf".to_owned()),
        Just("1_000".to_owned()),
        Just("12:30:45".to_owned()),
        Just("52:54:00:12:34:56".to_owned()),
        Just("fd00::1".to_owned()),
        Just("2026-01-01".to_owned()),
        Just("--- x".to_owned()),
        Just("<<".to_owned()),
        Just("a: b # c".to_owned()),
        Just("- \"quoted' \\ text\"\n\ttwo lines\n".to_owned()),
        "\\PC{0,8}",
    ]
}

fn next_hop() -> impl Strategy<Value = v1::NextHop> {
    let tunnel = (text(), any::<u32>(), vec(any::<u32>(), 0..4), text(), text()).prop_map(
        |(endpoint, vni, labels, inner_mac, return_vrf)| {
            To::Tunnel(v1::TunnelNextHop {
                endpoint,
                vni,
                labels,
                inner_mac,
                return_vrf,
            })
        },
    );
    let port = (text(), text(), any::<u32>())
        .prop_map(|(port, mac, vlan)| To::Port(v1::PortNextHop { port, mac, vlan }));
    let to = prop_oneof![
        tunnel,
        port,
        text().prop_map(To::Group),
        text().prop_map(To::Vrf),
        text().prop_map(To::Gateway),
        Just(To::Receive(v1::Receive {})),
        Just(To::Discard(v1::Discard {})),
    ];
    option::of(to).prop_map(|to| v1::NextHop { to })
}

fn device() -> impl Strategy<Value = Device> {
    prop_oneof![
        (text(), any::<u32>())
            .prop_map(|(device, queues)| Device::Ethdev(v1::EthdevDevice { device, queues })),
        (text(), any::<bool>(), any::<u32>()).prop_map(|(socket, server, queues)| {
            Device::VhostUser(v1::VhostUserDevice {
                socket,
                server,
                queues,
            })
        }),
        (text(), any::<u32>(), text()).prop_map(|(interface, queues, netns)| Device::Tap(v1::TapDevice {
            interface,
            queues,
            netns
        })),
        (text(), any::<u32>()).prop_map(|(parent, vlan)| Device::Vlan(v1::VlanDevice { parent, vlan })),
    ]
}

fn quality() -> impl Strategy<Value = v1::PortQuality> {
    let limit = || {
        let limit = (any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>()).prop_map(
            |(packets_per_second, bits_per_second, burst_packets, burst_bytes)| v1::RateLimit {
                packets_per_second,
                bits_per_second,
                burst_packets,
                burst_bytes,
            },
        );
        option::of(limit)
    };
    (limit(), limit(), option::of(any::<u32>())).prop_map(|(egress, ingress, dscp)| v1::PortQuality {
        egress,
        ingress,
        dscp,
    })
}

fn port() -> impl Strategy<Value = v1::Port> {
    let trunk = vec(
        (any::<u32>(), text()).prop_map(|(vlan, vrf)| v1::TrunkVlan { vlan, vrf }),
        0..3,
    );
    (
        option::of(device()),
        text(),
        text(),
        vec(text(), 0..3),
        any::<u32>(),
        any::<bool>(),
        trunk,
        vec(any::<u32>(), 0..3),
        text(),
        vec(
            (text(), text()).prop_map(|(address, mac)| v1::Neighbour { address, mac }),
            0..3,
        ),
        vec(text(), 0..3),
        option::of(quality()),
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
            )| v1::Port {
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
            },
        )
}

fn policy() -> impl Strategy<Value = v1::Policy> {
    let block = || {
        option::of(
            (text(), vec(text(), 0..3)).prop_map(|(prefix, except)| v1::AddressBlock { prefix, except }),
        )
    };
    let ports = || {
        vec(
            any::<(u32, u32)>().prop_map(|(first, last)| v1::PortRange { first, last }),
            0..3,
        )
    };
    let rule = (
        text(),
        (0..3i32, 0..4i32),
        text(),
        (block(), block(), text()),
        (ports(), ports()),
        (option::of(any::<u32>()), option::of(any::<u32>()), any::<bool>()),
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
    (vec(rule, 0..3), 0..4i32, 0..4i32).prop_map(|(rules, default_ingress, default_egress)| v1::Policy {
        rules,
        default_ingress,
        default_egress,
    })
}

fn service() -> impl Strategy<Value = v1::Service> {
    let port =
        (text(), any::<u32>(), any::<u32>()).prop_map(|(protocol, port, target_port)| v1::ServicePort {
            protocol,
            port,
            target_port,
        });
    let backend =
        (text(), any::<Option<u32>>(), 0..4i32, text()).prop_map(|(address, weight, state, port)| {
            v1::Backend {
                address,
                weight,
                state,
                port,
            }
        });
    let more = (any::<u32>(), any::<bool>(), text());
    (text(), text(), vec(port, 0..3), vec(backend, 0..3), more).prop_map(
        |(vrf, address, ports, backends, (client_affinity_seconds, local_only, source_pool))| v1::Service {
            vrf,
            address,
            ports,
            backends,
            client_affinity_seconds,
            local_only,
            source_pool,
        },
    )
}

fn target() -> impl Strategy<Value = Option<v1::TunnelTarget>> {
    let to = prop_oneof![
        text().prop_map(tunnel_target::To::Vrf),
        text().prop_map(tunnel_target::To::Port)
    ];
    option::of(option::of(to).prop_map(|to| v1::TunnelTarget { to }))
}

fn spec() -> impl Strategy<Value = Spec> {
    let subnet = (text(), text()).prop_map(|(prefix, gateway)| v1::Subnet { prefix, gateway });
    let member =
        (text(), any::<u32>(), option::of(next_hop())).prop_map(|(name, weight, next_hop)| v1::Member {
            name,
            weight,
            next_hop,
        });
    prop_oneof![
        (any::<bool>(), option::of(any::<u32>())).prop_map(|(packet_mode, udp)| {
            let timeouts = udp.map(|udp| v1::SessionTimeouts {
                udp,
                ..Default::default()
            });
            Spec::Vrf(v1::Vrf {
                packet_mode,
                timeouts,
            })
        }),
        (text(), vec(subnet, 0..3)).prop_map(|(vrf, subnets)| Spec::Network(v1::Network { vrf, subnets })),
        port().prop_map(Spec::Port),
        policy().prop_map(Spec::Policy),
        service().prop_map(Spec::Service),
        (
            (text(), vec(text(), 0..3), text(), vec(text(), 0..3)),
            any::<(u32, u32, u32, bool)>()
        )
            .prop_map(
                |(
                    (vrf, addresses, inside_vrf, sources),
                    (first_port, last_port, block_size, deterministic),
                )| {
                    Spec::NatPool(v1::NatPool {
                        vrf,
                        addresses,
                        inside_vrf,
                        sources,
                        first_port,
                        last_port,
                        block_size,
                        deterministic,
                    })
                }
            ),
        (text(), text(), text(), text()).prop_map(|(vrf, address, port, inside_address)| Spec::FloatingIp(
            v1::FloatingIp {
                vrf,
                address,
                port,
                inside_address
            }
        )),
        vec(text(), 0..4).prop_map(|members| Spec::AddressGroup(v1::AddressGroup { members })),
        (text(), text(), option::of(next_hop())).prop_map(|(vrf, prefix, next_hop)| Spec::Route(v1::Route {
            vrf,
            prefix,
            next_hop
        })),
        vec(member, 0..3).prop_map(|members| Spec::NextHopGroup(v1::NextHopGroup { members })),
        (text(), text(), 0..4i32).prop_map(|(remote, local, encapsulation)| {
            Spec::TunnelEndpoint(v1::TunnelEndpoint {
                remote,
                local,
                encapsulation,
            })
        }),
        (any::<u32>(), target()).prop_map(|(vni, target)| Spec::Vni(v1::Vni { vni, target })),
        (any::<u32>(), target()).prop_map(|(label, target)| Spec::Label(v1::Label { label, target })),
    ]
}

fn object() -> impl Strategy<Value = v1::Object> {
    let status = option::of((0..4i32, text()).prop_map(|(state, message)| v1::Status { state, message }));
    (
        text().prop_filter("a name", |name| !name.is_empty()),
        text(),
        any::<u64>(),
        spec(),
        status,
    )
        .prop_map(|(name, owner, generation, spec, status)| v1::Object {
            name,
            owner,
            generation,
            spec: Some(spec),
            status,
        })
}

/// What weftd sets itself does not come back.
fn as_written(object: &v1::Object) -> v1::Object {
    v1::Object {
        generation: 0,
        status: None,
        ..object.clone()
    }
}

proptest! {
    #[test]
    fn yaml_gives_the_same_object_back(object in object()) {
        let yaml = manifest::to_yaml(&object).unwrap();
        let back = manifest::load_text("x.yaml", &yaml);
        let back = back.map_err(|error| TestCaseError::fail(format!("{:?}\n{yaml}", error.complaints())))?;
        prop_assert_eq!(back.len(), 1, "{}", yaml);
        prop_assert_eq!(&back[0].object, &as_written(&object), "{}", yaml);
    }

    #[test]
    fn json_gives_the_same_object_back(object in object()) {
        let json = manifest::to_json("Object", &object, false).unwrap().to_string();
        let back = manifest::load_text("x.json", &json);
        let back = back.map_err(|error| TestCaseError::fail(format!("{:?}\n{json}", error.complaints())))?;
        prop_assert_eq!(&back[0].object, &as_written(&object), "{}", json);
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "(kind|name|spec|Port|[a-z]: |[{}\\[\\]:,&*!|>'\"%@`#-]|\n|  |\\PC){0,40}") {
        let _ = manifest::load_text("x.yaml", &text);
        let _ = manifest::load_text("x.json", &text);
    }
}

#[test]
fn both_spellings_of_a_field_mean_the_same() {
    let snake = "kind: NextHopGroup\nname: g\nspec: {members: [{name: a, next_hop: {tunnel: {inner_mac: x, return_vrf: y}}}]}";
    let camel = "kind: next-hop-group\nname: g\nspec: {members: [{name: a, nextHop: {tunnel: {innerMac: x, returnVrf: y}}}]}";
    let (snake, camel) = (
        manifest::load_text("s", snake).unwrap(),
        manifest::load_text("s", camel).unwrap(),
    );
    assert_eq!(snake, camel);
}

#[test]
fn every_spelling_of_an_encapsulation_is_taken() {
    let read = |word: &str| {
        let yaml = format!("kind: TunnelEndpoint\nname: e\nspec: {{encapsulation: {word}}}");
        let objects = manifest::load_text("e", &yaml).unwrap();
        match &objects[0].object.spec {
            Some(Spec::TunnelEndpoint(endpoint)) => endpoint.encapsulation(),
            other => panic!("{other:?}"),
        }
    };
    for word in [
        "mpls-over-udp",
        "mpls_over_udp",
        "MPLS_OVER_UDP",
        "ENCAPSULATION_MPLS_OVER_UDP",
    ] {
        assert_eq!(read(word), v1::Encapsulation::MplsOverUdp, "{word}");
    }
    assert_eq!(read("vxlan"), v1::Encapsulation::Vxlan);
}
