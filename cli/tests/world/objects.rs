//! The objects and counters of an example host.

use weft_proto::v1::{self, next_hop::To, object::Spec, port::Device, tunnel_target};

use super::Answers;

/// An active object of owner `demo`.
pub fn object(name: &str, spec: Spec) -> v1::Object {
    v1::Object {
        name: name.to_owned(),
        owner: "demo".to_owned(),
        generation: 3,
        spec: Some(spec),
        status: Some(v1::Status {
            state: v1::State::Active.into(),
            message: String::new(),
        }),
    }
}

/// The same, waiting for something.
pub fn pending(object: v1::Object, message: &str) -> v1::Object {
    let status = v1::Status {
        state: v1::State::Pending.into(),
        message: message.to_owned(),
    };
    v1::Object {
        status: Some(status),
        ..object
    }
}

pub fn port(vrf: &str, addresses: &[&str], device: Device) -> Spec {
    Spec::Port(v1::Port {
        vrf: vrf.to_owned(),
        addresses: addresses.iter().map(|&address| address.to_owned()).collect(),
        device: Some(device),
        ..Default::default()
    })
}

pub fn vhost_user(socket: &str) -> Device {
    Device::VhostUser(v1::VhostUserDevice {
        socket: socket.to_owned(),
        ..Default::default()
    })
}

pub fn vlan(parent: &str, vlan: u32) -> Device {
    Device::Vlan(v1::VlanDevice {
        parent: parent.to_owned(),
        vlan,
    })
}

pub fn to(to: To) -> Option<v1::NextHop> {
    Some(v1::NextHop { to: Some(to) })
}

pub fn tunnel(endpoint: &str, vni: u32, labels: &[u32]) -> To {
    To::Tunnel(v1::TunnelNextHop {
        endpoint: endpoint.to_owned(),
        vni,
        labels: labels.to_vec(),
        ..Default::default()
    })
}

pub fn route(vrf: &str, prefix: &str, next_hop: To) -> Spec {
    Spec::Route(v1::Route {
        vrf: vrf.to_owned(),
        prefix: prefix.to_owned(),
        next_hop: to(next_hop),
    })
}

fn member(name: &str, weight: u32, next_hop: To) -> v1::Member {
    v1::Member {
        name: name.to_owned(),
        weight,
        next_hop: to(next_hop),
    }
}

fn target(vrf: &str) -> Option<v1::TunnelTarget> {
    Some(v1::TunnelTarget {
        to: Some(tunnel_target::To::Vrf(vrf.to_owned())),
    })
}

pub fn drops(counts: &[(&str, u64, &str)]) -> Vec<v1::DropCount> {
    counts
        .iter()
        .map(|(reason, packets, help)| v1::DropCount {
            reason: (*reason).to_owned(),
            packets: *packets,
            help: (*help).to_owned(),
        })
        .collect()
}

pub const VLAN_HELP: &str = "add a VLAN sub-interface, or check the VLAN that the guest or switch sends";

/// Rules of every shape, and how often they decided.
pub fn policy() -> (v1::Object, v1::PolicyStats) {
    use v1::{PolicyAction::*, PolicyDirection::*};
    let block = |prefix: &str, except: &[&str]| {
        Some(v1::AddressBlock {
            prefix: prefix.to_owned(),
            except: except.iter().map(|&hole| hole.to_owned()).collect(),
        })
    };
    let ports = |ports: &[(u32, u32)]| {
        let range = |&(first, last): &(u32, u32)| v1::PortRange { first, last };
        ports.iter().map(range).collect()
    };
    let rules = vec![
        v1::PolicyRule {
            name: "web".to_owned(),
            direction: Ingress.into(),
            action: Allow.into(),
            protocol: "tcp".to_owned(),
            remote: block("10.0.0.0/8", &["10.1.0.0/16", "10.2.0.0/16"]),
            destination_ports: ports(&[(80, 0), (8000, 8080)]),
            ..Default::default()
        },
        v1::PolicyRule {
            direction: Ingress.into(),
            action: Allow.into(),
            protocol: "icmp".to_owned(),
            icmp_type: Some(8),
            icmp_code: Some(0),
            ..Default::default()
        },
        v1::PolicyRule {
            name: "no-mail".to_owned(),
            direction: Egress.into(),
            action: Deny.into(),
            protocol: "tcp".to_owned(),
            remote: block("fd00::/8", &[]),
            local: block("fd00:1::7/128", &[]),
            source_ports: ports(&[(1024, 65535)]),
            destination_ports: ports(&[(25, 25)]),
            ..Default::default()
        },
        v1::PolicyRule {
            direction: Egress.into(),
            action: Deny.into(),
            remote_group: "suspects".to_owned(),
            ..Default::default()
        },
    ];
    let policy = v1::Policy {
        rules,
        default_ingress: Deny.into(),
        default_egress: 0,
    };
    let stats = v1::PolicyStats {
        name: "guarded".to_owned(),
        rules: vec![1_234_567, 2, 30, 0],
        default_ingress: 400,
        default_egress: 5,
    };
    (object("guarded", Spec::Policy(policy)), stats)
}

/// A floating IP, and how many sessions it translated.
pub fn floating_ip() -> (v1::Object, v1::FloatingIpStats) {
    let floating = v1::FloatingIp {
        vrf: "public".to_owned(),
        address: "203.0.113.7".to_owned(),
        port: "vm-7".to_owned(),
        inside_address: "10.0.0.7".to_owned(),
    };
    let stats = v1::FloatingIpStats {
        name: "vm-7-public".to_owned(),
        sessions_from_inside: 1_234_567,
        sessions_from_outside: 42,
    };
    (object("vm-7-public", Spec::FloatingIp(floating)), stats)
}

/// A pool, and who has which ports of it.
pub fn nat_pool() -> (v1::Object, v1::NatPoolStats) {
    let pool = v1::NatPool {
        vrf: "public".to_owned(),
        addresses: vec!["203.0.113.64/30".to_owned()],
        inside_vrf: "red".to_owned(),
        sources: vec!["10.0.0.0/8".to_owned()],
        first_port: 1024,
        last_port: 65535,
        block_size: 64,
        deterministic: false,
    };
    let stats = v1::NatPoolStats {
        name: "shared".to_owned(),
        blocks: 4032,
        sessions: 9,
        held: 1,
        holders: vec![v1::NatBlock {
            address: "203.0.113.65".to_owned(),
            first_port: 2048,
            holder: "10.0.0.7".to_owned(),
            worker: 1,
            sessions: 9,
        }],
    };
    (object("shared", Spec::NatPool(pool)), stats)
}

fn example_objects() -> Vec<v1::Object> {
    let endpoint = |remote: &str, encapsulation: v1::Encapsulation| {
        Spec::TunnelEndpoint(v1::TunnelEndpoint {
            remote: remote.to_owned(),
            encapsulation: encapsulation.into(),
            ..Default::default()
        })
    };
    let uplink = Device::Ethdev(v1::EthdevDevice {
        device: "net_af_packet0,iface=u1".to_owned(),
        queues: 0,
    });
    let tap = Device::Tap(v1::TapDevice {
        interface: "lab0".to_owned(),
        ..Default::default()
    });
    vec![
        object("red", Spec::Vrf(v1::Vrf::default())),
        object(
            "blue",
            Spec::Vrf(v1::Vrf {
                packet_mode: true,
                ..Default::default()
            }),
        ),
        object(
            "red-net",
            Spec::Network(v1::Network {
                vrf: "red".to_owned(),
                subnets: vec![
                    v1::Subnet {
                        prefix: "10.0.0.0/24".to_owned(),
                        gateway: "10.0.0.1".to_owned(),
                    },
                    v1::Subnet {
                        prefix: "fd00:1::/64".to_owned(),
                        gateway: "fd00:1::1".to_owned(),
                    },
                ],
            }),
        ),
        object(
            "vm-7",
            port(
                "red",
                &["10.0.0.7", "fd00:1::7"],
                vhost_user("/run/weft/vm-7.sock"),
            ),
        ),
        object("web-1", port("blue", &["10.0.0.9"], vlan("vm-7", 101))),
        object("uplink", port("underlay", &["198.18.0.1/24"], uplink)),
        pending(
            object("lab", port("green", &[], tap)),
            "vrf \"green\" does not exist: create it, and this port becomes active",
        ),
        object("host-b", endpoint("198.18.0.2", v1::Encapsulation::Vxlan)),
        object("host-c", endpoint("2001:db8::3", v1::Encapsulation::MplsOverUdp)),
        object(
            "web",
            Spec::NextHopGroup(v1::NextHopGroup {
                members: vec![
                    member(
                        "a",
                        3,
                        To::Port(v1::PortNextHop {
                            port: "vm-7".to_owned(),
                            ..Default::default()
                        }),
                    ),
                    member("b", 0, tunnel("host-b", 100, &[])),
                ],
            }),
        ),
        object(
            "red-remote",
            route("red", "10.0.0.128/25", tunnel("host-b", 100, &[])),
        ),
        object(
            "red-service",
            route("red", "10.9.0.0/16", To::Group("web".to_owned())),
        ),
        object(
            "blue-remote",
            route("blue", "10.0.0.128/25", tunnel("host-c", 0, &[1000, 17])),
        ),
        object(
            "blue-null",
            route("blue", "0.0.0.0/0", To::Discard(v1::Discard {})),
        ),
        object(
            "red-in",
            Spec::Vni(v1::Vni {
                vni: 100,
                target: target("red"),
            }),
        ),
        object(
            "blue-in",
            Spec::Label(v1::Label {
                label: 1000,
                target: target("blue"),
            }),
        ),
    ]
}

/// Counters of the example; `later` is by how many packets each has grown.
pub fn example_stats(later: u64) -> v1::GetStatsResponse {
    let ports = vec![
        v1::PortStats {
            name: "vm-7".to_owned(),
            rx_packets: 1_204_117 + later,
            rx_bytes: 77_063_488 + later * 64,
            tx_packets: 1_198_002,
            tx_bytes: 76_672_128,
            drops: Vec::new(),
            ..Default::default()
        },
        v1::PortStats {
            name: "web-1".to_owned(),
            rx_packets: 3_149,
            rx_bytes: 201_536,
            tx_packets: 2_899,
            tx_bytes: 185_536,
            drops: drops(&[
                (
                    "no-route",
                    3,
                    "add a route, or check the address that the guest uses",
                ),
                ("unknown-vlan", 12, VLAN_HELP),
                (
                    "malformed",
                    1,
                    "the sender made a broken frame; capture at the port to see it",
                ),
                ("ttl-exceeded", 0, "a routing loop, or a traceroute"),
            ]),
            device_rx_missed: 5,
            ..Default::default()
        },
        v1::PortStats {
            name: "uplink".to_owned(),
            rx_packets: 64,
            tx_packets: 64,
            ..Default::default()
        },
    ];
    let stage = |name: &str, cycles: u64| v1::StageStats {
        stage: name.to_owned(),
        cycles,
        packets: 1_000_000,
    };
    let workers = vec![
        v1::WorkerStats {
            index: 0,
            lcore: 1,
            packets: 1_207_330 + later,
            bursts: 40_244 + later / 32,
            busy_cycles: 181_099_500 + later * 150,
            idle_cycles: 543_298_500,
            snapshot: 12,
            stages: vec![stage("classify", 30_000_000), stage("flow", 51_500_000)],
            ..Default::default()
        },
        v1::WorkerStats {
            index: 1,
            lcore: 2,
            snapshot: 11,
            stuck_in: "port vm-7".to_owned(),
            ..Default::default()
        },
    ];
    v1::GetStatsResponse {
        ports,
        workers,
        drops: drops(&[
            (
                "malformed",
                1,
                "the sender made a broken frame; capture at the port to see it",
            ),
            (
                "no-route",
                3,
                "add a route, or check the address that the guest uses",
            ),
            ("unknown-vlan", 12 + later, VLAN_HELP),
            ("ttl-exceeded", 0, "a routing loop, or a traceroute"),
        ]),
        tables: Some(v1::TableStats {
            sessions: 100_000,
            session_capacity: 1_048_576,
            sessions_created: 130_000 + later,
            sessions_expired: 30_000,
            routes: 42,
            vrfs: 3,
            next_hops: 9,
            snapshot: 12,
        }),
        balance: Some(v1::Balance {
            received: 1_207_330,
            created: 20,
            sent: 1_200_965,
            delivered: 6_300,
            merged: 5,
            dropped: 16,
            held: 64,
        }),
    }
}

/// A service with a backend here, one elsewhere that drains and one whose port is missing.
pub fn service() -> (v1::Object, v1::ServiceStats) {
    let backend = |address: &str, weight: Option<u32>, state: v1::BackendState, port: &str| v1::Backend {
        address: address.to_owned(),
        weight,
        state: state.into(),
        port: port.to_owned(),
    };
    let spec = v1::Service {
        vrf: "red".to_owned(),
        address: "10.0.0.80".to_owned(),
        ports: vec![
            v1::ServicePort {
                protocol: "tcp".to_owned(),
                port: 80,
                target_port: 8080,
            },
            v1::ServicePort {
                protocol: "udp".to_owned(),
                ..Default::default()
            },
        ],
        backends: vec![
            backend("10.0.0.7", Some(2), v1::BackendState::Up, "vm-7"),
            backend("10.0.0.130", None, v1::BackendState::Draining, ""),
            backend("10.0.0.8", None, v1::BackendState::Unspecified, "vm-8"),
        ],
        ..Default::default()
    };
    let stats = |address: &str, sessions, opened| v1::BackendStats {
        address: address.to_owned(),
        sessions,
        opened,
    };
    let stats = v1::ServiceStats {
        name: "web".to_owned(),
        backends: vec![stats("10.0.0.7", 41, 1_234), stats("10.0.0.130", 1, 600)],
    };
    (object("web", Spec::Service(spec)), stats)
}

/// The whole example.
pub fn example() -> Answers {
    let state = |name: &str, link_up: bool, device: &str| v1::PortState {
        name: name.to_owned(),
        id: 4,
        link_up,
        device: device.to_owned(),
        queues: 2,
        mac: "02:00:00:00:00:07".to_owned(),
    };
    let flow = |session: u64, initiator: bool, source: (&str, u32), destination: (&str, u32)| v1::Flow {
        vrf: "red".to_owned(),
        protocol: "tcp".to_owned(),
        source: source.0.to_owned(),
        source_port: source.1,
        destination: destination.0.to_owned(),
        destination_port: destination.1,
        ingress: if initiator { "vm-7" } else { "host-b" }.to_owned(),
        action: if initiator {
            "tunnel host-b vni 100"
        } else {
            "port vm-7"
        }
        .to_owned(),
        packets: 1_500,
        bytes: 2_100_000,
        idle_seconds: 75,
        initiator,
        session,
        ..Default::default()
    };
    Answers {
        objects: example_objects(),
        stats: [example_stats(0)].into(),
        states: vec![
            state("vm-7", true, "vhost-user, 2 queues, mergeable buffers"),
            state("web-1", false, "vlan 101 of vm-7"),
            state("uplink", true, "net_af_packet"),
        ],
        flows: vec![
            vec![flow(1, true, ("10.0.0.7", 40_000), ("10.0.0.130", 80))],
            vec![
                flow(1, false, ("10.0.0.130", 80), ("10.0.0.7", 40_000)),
                flow(2, true, ("fd00:1::7", 1), ("fd00:1::9", 0)),
            ],
        ],
        ..Default::default()
    }
}
