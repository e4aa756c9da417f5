//! Taps: containers' ports.

use std::path::PathBuf;

use weft_dataplane::{
    change::DeviceSpec,
    dpdk::{Batch, HeaderLengths, Pending, Transport},
    port::{self, Capabilities, Driver, OpenContext, OpenError},
};
use weft_packet::Mac;
use weft_tests::{
    eventually,
    namespace::{self, Namespace},
    sys::Offload,
    within,
};

use crate::{World, bytes, context, packet, packet_in_segments, receive_that, send, world};

const CONTAINER: Mac = Mac([2, 0, 0, 0, 0, 0xc]);
const GATEWAY: [u8; 6] = [0, 0, 0x5e, 0, 1, 0];

fn tap(interface: &str, queues: u16, netns: Option<&Namespace>) -> DeviceSpec {
    DeviceSpec::Tap {
        interface: interface.to_owned(),
        queues,
        netns: netns.map(Namespace::path),
    }
}

fn container_context<'a>(world: &'a World, name: &'a str) -> OpenContext<'a> {
    OpenContext {
        mac: Some(CONTAINER),
        mtu: 1450,
        ..context(world, name)
    }
}

/// A container's namespace with its tap `eth0` in it.
fn container(world: &World, role: &str, queues: u16) -> (Namespace, Driver) {
    let namespace = Namespace::silent(role);
    let driver = port::open(
        &tap("eth0", queues, Some(&namespace)),
        &container_context(world, role),
    )
    .unwrap();
    (namespace, driver)
}

fn refusal(world: &World, spec: &DeviceSpec) -> String {
    match port::open(spec, &container_context(world, "web-1")) {
        Ok(driver) => panic!("{} was opened", driver.describe()),
        Err(error) => error.to_string(),
    }
}

fn frame(to: [u8; 6], from: [u8; 6], ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = [&to[..], &from, &ethertype.to_be_bytes(), payload].concat();
    frame.resize(frame.len().max(60), 0);
    frame
}

fn is(ethertype: u16) -> impl Fn(&[u8]) -> bool {
    move |frame| frame[12..14] == ethertype.to_be_bytes()
}

#[test]
fn a_container_pings_through_its_tap_by_hand_written_answers() {
    let world = world();
    let (namespace, driver) = container(&world, "ping", 1);
    assert_eq!(driver.mac(), CONTAINER);
    assert_eq!(
        driver.capabilities(),
        Capabilities {
            checksum: true,
            segmentation: true
        }
    );
    assert_eq!(driver.describe(), "tap eth0");
    let shown = namespace.run("ip link show eth0");
    assert!(
        shown.contains("mtu 1450") && shown.contains("02:00:00:00:00:0c"),
        "{shown}"
    );
    namespace.run("ip addr add 10.0.0.7/24 dev eth0");

    let mut ping = namespace
        .command("ping")
        .args(["-c1", "-W20", "10.0.0.1"])
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let request = bytes(&receive_that(&driver, is(0x0806)));
    assert_eq!(request[..12], [&[0xff; 6][..], &CONTAINER.0].concat());
    assert_eq!(request[38..42], [10, 0, 0, 1]);
    let mut answer = frame(CONTAINER.0, GATEWAY, 0x0806, &request[14..42]);
    answer[21] = 2;
    answer[22..28].copy_from_slice(&GATEWAY);
    answer[28..32].copy_from_slice(&[10, 0, 0, 1]);
    answer[32..38].copy_from_slice(&CONTAINER.0);
    answer[38..42].copy_from_slice(&[10, 0, 0, 7]);
    send(&driver, 0, packet(&world.pool, &answer));

    let mut echo = bytes(&receive_that(&driver, is(0x0800)));
    assert_eq!(echo[..12], [&GATEWAY[..], &CONTAINER.0].concat());
    assert_eq!(echo[34], 8, "an echo request");
    let (to, from): ([u8; 4], [u8; 4]) = (echo[26..30].try_into().unwrap(), echo[30..34].try_into().unwrap());
    echo[26..30].copy_from_slice(&from);
    echo[30..34].copy_from_slice(&to);
    echo[..6].copy_from_slice(&CONTAINER.0);
    echo[6..12].copy_from_slice(&GATEWAY);
    echo[34] = 0;
    // The ICMP checksum of the reply: the type fell by 8 (RFC 1624).
    let checksum = u32::from(u16::from_be_bytes([echo[36], echo[37]])) + 0x0800;
    let checksum = (checksum & 0xffff) + (checksum >> 16);
    echo[36..38].copy_from_slice(&(checksum as u16).to_be_bytes());
    send(&driver, 0, packet(&world.pool, &echo));
    assert!(ping.wait().unwrap().success());
}

#[test]
fn a_tap_can_be_moved_and_renamed_while_it_is_open() {
    let world = world();
    let (first, driver) = container(&world, "from", 1);
    let second = Namespace::silent("to");
    first.run(&format!("ip link set eth0 netns {} name net7", second.name()));
    eventually("the tap is down after the move", || {
        (!driver.link_up()).then_some(())
    });
    second.run("ip link set net7 up");
    eventually("the tap is up again", || driver.link_up().then_some(()));
    driver.set_mtu(1300).unwrap();
    driver.set_mac(Mac([2, 0, 0, 0, 0, 0xd])).unwrap();
    let shown = second.run("ip link show net7");
    assert!(
        shown.contains("mtu 1300") && shown.contains("02:00:00:00:00:0d"),
        "{shown}"
    );
    assert_eq!(driver.mac(), Mac([2, 0, 0, 0, 0, 0xd]));
    let mut wire = second.wire("net7");
    let hello = frame([2, 0, 0, 0, 0, 0xd], GATEWAY, 0x88b5, b"hello");
    send(&driver, 0, packet(&world.pool, &hello));
    wire.expect(&hello);
    wire.send(&hello);
    assert_eq!(bytes(&receive_that(&driver, is(0x88b5))), hello);
}

#[test]
fn a_tap_that_is_down_takes_nothing_and_one_that_is_gone_neither() {
    let world = world();
    let (namespace, driver) = container(&world, "down", 1);
    assert!(driver.link_up());
    namespace.run("ip link set eth0 down");
    assert!(!driver.link_up());
    let mut batch = Batch::new();
    assert_eq!(world.pool.allocate_bulk(&mut batch, 2), 2);
    for packet in batch.iter_mut() {
        packet.append(60).unwrap().fill(1);
    }
    assert_eq!(driver.transmit(0, &mut batch), 0);
    assert_eq!(batch.len(), 2, "what was not taken stays");
    namespace.run("ip link set eth0 up");
    assert_eq!(driver.transmit(0, &mut batch), 2);
    namespace.run("ip link delete eth0");
    assert!(!driver.link_up());
    let mut received = Batch::new();
    assert_eq!(driver.receive(0, &mut received), 0);
    assert!(driver.set_mtu(1400).is_err());
}

#[test]
fn the_namespace_of_a_container_can_go_while_its_tap_is_open() {
    let world = world();
    let (namespace, driver) = container(&world, "gone", 2);
    assert!(driver.link_up());
    drop(namespace);
    eventually("the tap went with its namespace", || {
        (!driver.link_up()).then_some(())
    });
}

#[test]
fn a_large_tcp_packet_keeps_its_virtio_header_both_ways() {
    let world = world();
    let (namespace, driver) = container(&world, "tso", 1);
    let mut wire = namespace.wire("eth0");
    for (ipv6, length) in [(false, 40_000usize), (true, 3000), (true, 65_000)] {
        let l3 = if ipv6 { 40 } else { 20 };
        let segment = tcp(ipv6, length - 14 - l3 - 20);
        let offload = Offload {
            flags: 1,
            segmentation: if ipv6 { 4 } else { 1 },
            header_length: 14 + l3 as u16 + 20,
            segment_size: 1300,
            checksum_start: 14 + l3 as u16,
            checksum_offset: 16,
        };
        // From the container: noted on the packet.
        wire.send_offloaded(&segment, offload);
        let heard = receive_that(&driver, is(if ipv6 { 0x86dd } else { 0x0800 }));
        assert_eq!(bytes(&heard), segment);
        assert_eq!(
            heard.pending(),
            Ok(Pending {
                checksum: true,
                segment: Some(1300)
            })
        );
        assert_eq!(
            heard.header_lengths(),
            HeaderLengths {
                l2: 14,
                l3: l3 as u16,
                l4: 20
            }
        );
        assert_eq!(
            (heard.pending_transport(), heard.pending_ipv6()),
            (Some(Transport::Tcp), ipv6)
        );
        assert_eq!(heard.segments(), length.div_ceil(2048));
        // To the container: told to its kernel.
        wire.clear();
        send(&driver, 0, heard);
        let got = wire.receive_with_offload();
        assert_eq!(got.bytes, segment);
        assert_eq!(
            (
                got.offload.flags,
                got.offload.segmentation,
                got.offload.segment_size
            ),
            (1, offload.segmentation, 1300)
        );
        assert_eq!(
            (got.offload.checksum_start, got.offload.checksum_offset),
            (14 + l3 as u16, 16)
        );
    }
}

/// A TCP segment with so much payload and the pseudo header's sum in its checksum field.
fn tcp(ipv6: bool, payload: usize) -> Vec<u8> {
    let mut packet = Vec::new();
    let length = 20 + payload;
    if ipv6 {
        packet.extend([0x60, 0, 0, 0]);
        packet.extend((length as u16).to_be_bytes());
        packet.extend([6, 64]);
        packet.extend([0xfd; 32]);
    } else {
        packet.extend([0x45, 0]);
        packet.extend((20 + length as u16).to_be_bytes());
        packet.extend([0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 7, 10, 0, 0, 8]);
        let checksum = !sum(&packet);
        packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    }
    let addresses = if ipv6 { &packet[8..40] } else { &packet[12..20] };
    let mut pseudo = addresses.to_vec();
    pseudo.extend((length as u32).to_be_bytes());
    pseudo.extend([0, 6]);
    let pseudo = sum(&pseudo);
    packet.extend([0x30, 0x39, 0, 80, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 0x20, 0]);
    packet.extend(pseudo.to_be_bytes());
    packet.extend([0, 0]);
    packet.extend((0..payload).map(|n| n as u8));
    frame(GATEWAY, CONTAINER.0, if ipv6 { 0x86dd } else { 0x0800 }, &packet)
}

/// The folded one's complement sum.
fn sum(bytes: &[u8]) -> u16 {
    let words = bytes
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)])));
    let sum: u32 = words.sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

#[test]
fn a_partial_checksum_of_udp_is_noted_and_one_of_another_protocol_is_completed() {
    let world = world();
    let (namespace, driver) = container(&world, "checksum", 1);
    let wire = namespace.wire("eth0");
    let mut ip = vec![0x45, 0, 0, 48, 0, 1, 0, 0, 64, 17, 0, 0, 10, 0, 0, 7, 10, 0, 0, 8];
    ip.extend((0..28u8).map(|n| n * 3));
    let udp = frame(GATEWAY, CONTAINER.0, 0x0800, &ip);
    let offload = Offload {
        flags: 1,
        checksum_start: 34,
        checksum_offset: 6,
        ..Offload::default()
    };
    wire.send_offloaded(&udp, offload);
    let heard = receive_that(&driver, is(0x0800));
    assert_eq!(bytes(&heard), udp);
    assert_eq!(
        heard.pending(),
        Ok(Pending {
            checksum: true,
            segment: None
        })
    );
    assert_eq!(heard.pending_transport(), Some(Transport::Udp));

    // ICMP: its checksum stands 2 bytes into its header.
    ip[9] = 1;
    ip[22..24].copy_from_slice(&[0, 0]);
    let icmp = frame(GATEWAY, CONTAINER.0, 0x0800, &ip);
    let icmp = &icmp[..62];
    wire.send_offloaded(
        icmp,
        Offload {
            flags: 1,
            checksum_start: 34,
            checksum_offset: 2,
            ..Offload::default()
        },
    );
    let heard = receive_that(&driver, is(0x0800));
    assert_eq!(heard.pending(), Ok(Pending::default()));
    let heard = bytes(&heard);
    assert_eq!(sum(&heard[34..]), 0xffff, "the checksum is complete");
    assert_eq!(
        (&heard[..36], &heard[38..]),
        (&icmp[..36], &icmp[38..]),
        "and nothing else was touched"
    );
}

#[test]
fn a_packet_in_many_segments_is_sent_whole() {
    let world = world();
    let (namespace, driver) = container(&world, "segments", 1);
    let mut wire = namespace.wire("eth0");
    let whole = frame(
        CONTAINER.0,
        GATEWAY,
        0x88b5,
        &(0..1400u32).map(|n| n as u8).collect::<Vec<_>>(),
    );
    for segment in [1414, 700, 64, 30] {
        send(&driver, 0, packet_in_segments(&world.pool, &whole, segment));
        wire.expect(&whole);
    }
    assert_eq!(driver.statistics().tx_errors, 0);
}

#[test]
fn a_frame_that_the_kernel_refuses_is_counted_and_holds_up_nothing() {
    let world = world();
    let (namespace, driver) = container(&world, "refused", 1);
    let mut wire = namespace.wire("eth0");
    let good = frame(CONTAINER.0, GATEWAY, 0x88b5, b"good");
    let mut batch = Batch::new();
    // Shorter than an Ethernet header.
    for bytes in [&good[..5], &good] {
        assert!(batch.push(packet(&world.pool, bytes)).is_ok());
    }
    assert_eq!(driver.transmit(0, &mut batch), 2);
    wire.expect(&good);
    assert_eq!(driver.statistics().tx_errors, 1);
}

#[test]
fn an_empty_pool_costs_packets_and_nothing_else() {
    let world = world();
    let (namespace, driver) = container(&world, "dry", 1);
    let wire = namespace.wire("eth0");
    let hello = frame(GATEWAY, CONTAINER.0, 0x88b5, b"hello");
    let mut held = Vec::new();
    while let Some(packet) = world.pool.allocate() {
        held.push(packet);
    }
    wire.send(&hello);
    let mut batch = Batch::new();
    assert_eq!(driver.receive(0, &mut batch), 0);
    assert!(driver.statistics().rx_no_buffer > 0);
    held.clear();
    // It waited in the kernel.
    assert_eq!(bytes(&receive_that(&driver, is(0x88b5))), hello);
}

#[test]
fn several_queues_carry_a_containers_flows() {
    let world = world();
    let (namespace, driver) = container(&world, "queues", 4);
    assert_eq!((driver.receive_queues(), driver.transmit_queues()), (4, 4));
    let wire = namespace.wire("eth0");
    let mut used = [false; 4];
    let mut source = 0u16;
    eventually("more than one queue carries flows", || {
        source += 1;
        let [high, low] = source.to_be_bytes();
        let ip = [
            0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 7, 10, 0, 0, 8, high, low, 0, 9, 0, 8, 0, 0,
        ];
        wire.send(&frame(GATEWAY, CONTAINER.0, 0x0800, &ip));
        let mut batch = Batch::new();
        for queue in 0..4 {
            used[usize::from(queue)] |= driver.receive(queue, &mut batch) > 0;
        }
        (used.iter().filter(|used| **used).count() > 1).then_some(())
    });
}

#[test]
fn a_tap_that_cannot_be_is_refused_with_a_way_out() {
    let world = world();
    let namespace = Namespace::silent("busy");
    let open = port::open(
        &tap("eth0", 1, Some(&namespace)),
        &container_context(&world, "web-0"),
    )
    .unwrap();
    let nowhere = |netns: &str| DeviceSpec::Tap {
        interface: "eth0".to_owned(),
        queues: 1,
        netns: Some(PathBuf::from(netns)),
    };
    for (spec, words) in [
        (
            tap("sixteen-bytes-xx", 1, None),
            "it has more than 15 bytes; choose another name",
        ),
        (tap("", 1, None), "it is empty"),
        (tap("a/b", 1, None), "it is not a name that the kernel takes"),
        (tap("x%d", 1, None), "it is not a name that the kernel takes"),
        (tap("a b", 1, None), "it has blanks"),
        (
            tap("lo", 1, None),
            "interface \"lo\" exists already; choose another name, or remove it first",
        ),
        (
            tap("eth0", 1, Some(&namespace)),
            "interface \"eth0\" exists already in /run/netns/",
        ),
        (
            tap("many", 300, None),
            "300 queues asked of \"tap many\", it has 256; ask for fewer",
        ),
        (
            nowhere("/run/netns/nosuch"),
            "network namespace /run/netns/nosuch: No such file",
        ),
        (nowhere("/etc/passwd"), "it is not a network namespace"),
    ] {
        let said = refusal(&world, &spec);
        assert!(
            said.starts_with("port \"web-1\": ") && said.contains(words),
            "{said}"
        );
    }
    assert!(
        within(std::time::Duration::ZERO, || open.link_up().then_some(())).is_some(),
        "the one there lives on"
    );
    let left = namespace::run("ip -o link show");
    assert!(
        !left.contains("weft-tap"),
        "nothing is left in the host's namespace: {left}"
    );
    let vlan = DeviceSpec::Vlan {
        parent: weft_table::PortId(1),
        vlan: weft_packet::VlanId::try_from(7u16).unwrap(),
    };
    assert!(matches!(
        port::open(&vlan, &context(&world, "sub")),
        Err(OpenError::NoDevice { .. })
    ));
}

#[test]
fn the_hosts_own_tap_gets_addresses() {
    let world = world();
    let namespace = Namespace::new("host");
    weft_tests::sys::in_namespace(&namespace.path(), || {
        let context = OpenContext {
            mac: Some(CONTAINER),
            ..context(&world, "weft0")
        };
        let driver = port::open(&tap("weft0", 1, None), &context).unwrap();
        for address in ["198.18.9.1/24", "fd00:9::1/64", "198.18.9.1/24"] {
            port::address::add("weft0", address.parse().unwrap()).unwrap();
        }
        let shown = namespace.run("ip addr show weft0");
        assert!(
            shown.contains("inet 198.18.9.1/24") && shown.contains("inet6 fd00:9::1/64"),
            "{shown}"
        );
        let own = shown.lines().find(|line| line.contains("fd00:9::1")).unwrap();
        assert!(!own.contains("tentative"), "{shown}");
        assert!(port::address::add("nosuch0", "10.0.0.1/8".parse().unwrap()).is_err());
        drop(driver);
        assert!(!namespace.run("ip link").contains("weft0"));
    })
    .unwrap();
}

#[test]
fn two_hundred_taps_are_open_at_once() {
    let world = world();
    let namespace = Namespace::silent("many");
    let names: Vec<String> = (0..200).map(|n| format!("t{n}")).collect();
    let open: Vec<Driver> = names
        .iter()
        .map(|name| port::open(&tap(name, 1, Some(&namespace)), &context(&world, name)).unwrap())
        .collect();
    assert!(open.iter().all(Driver::link_up));
    let mut wire = namespace.wire("t137");
    let hello = frame([0xff; 6], GATEWAY, 0x88b5, b"hello");
    send(&open[137], 0, packet(&world.pool, &hello));
    wire.expect(&hello);
    wire.send(&hello);
    assert_eq!(bytes(&receive_that(&open[137], is(0x88b5))), hello);
    drop(open);
    assert!(!namespace.run("ip -o link show").contains("t137"));
}
