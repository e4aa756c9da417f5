//! Ports on DPDK's drivers.

use std::{fs, path::Path};

use weft_dataplane::{
    change::DeviceSpec,
    dpdk::Batch,
    port::{self, Capabilities, Driver, OpenContext, OpenError},
};
use weft_packet::Mac;
use weft_tests::{eventually, namespace::Namespace, sys};

use crate::{World, bytes, context, packet, receive, receive_that, send, world};

fn ethdev(device: &str, queues: u16) -> DeviceSpec {
    DeviceSpec::Ethdev {
        device: device.to_owned(),
        queues,
    }
}

fn open(world: &World, device: &str) -> Result<Driver, OpenError> {
    port::open(&ethdev(device, 1), &context(world, "p1"))
}

/// The words of the error; the test fails if there is none.
fn refusal(world: &World, device: &str, queues: u16) -> String {
    match port::open(&ethdev(device, queues), &context(world, "p1")) {
        Ok(driver) => panic!("{} was opened", driver.describe()),
        Err(error) => error.to_string(),
    }
}

/// A capture file in the classic format, with these frames.
fn write_pcap(path: &Path, frames: &[Vec<u8>]) {
    let mut file = Vec::new();
    for word in [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 65535, 1] {
        file.extend(word.to_ne_bytes());
    }
    for frame in frames {
        for word in [1, 2, frame.len() as u32, frame.len() as u32] {
            file.extend(word.to_ne_bytes());
        }
        file.extend(frame);
    }
    fs::write(path, file).unwrap();
}

fn read_pcap(path: &Path) -> Vec<Vec<u8>> {
    let file = fs::read(path).unwrap();
    let mut rest = &file[24..];
    let mut frames = Vec::new();
    while !rest.is_empty() {
        let length = u32::from_ne_bytes(rest[8..12].try_into().unwrap()) as usize;
        frames.push(rest[16..16 + length].to_vec());
        rest = &rest[16 + length..];
    }
    frames
}

#[test]
fn frames_of_a_capture_come_in_and_go_out_to_another() {
    let world = world();
    let directory = tempfile::tempdir().unwrap();
    let (from, to) = (
        directory.path().join("in.pcap"),
        directory.path().join("out.pcap"),
    );
    let frames: Vec<Vec<u8>> = [60usize, 61, 1514, 9000]
        .iter()
        .map(|length| (0..*length).map(|n| n as u8).collect())
        .collect();
    write_pcap(&from, &frames);

    let device = format!("net_pcap0,rx_pcap={},tx_pcap={}", from.display(), to.display());
    let driver = open(&world, &device).unwrap();
    assert_eq!((driver.receive_queues(), driver.transmit_queues()), (1, 1));
    assert_eq!(
        driver.transmit_queue(1),
        0,
        "two workers share the one transmit queue"
    );
    let mut batch = Batch::new();
    eventually("the capture is read", || {
        driver.receive(0, &mut batch);
        (batch.len() == frames.len()).then_some(())
    });
    assert_eq!(batch.iter().map(bytes).collect::<Vec<_>>(), frames);
    assert_eq!(batch.as_slice()[3].segments(), 5, "a jumbo frame is a chain");
    assert_eq!(driver.transmit(0, &mut batch), 4);
    assert!(batch.is_empty());
    drop(driver);
    assert_eq!(read_pcap(&to), frames);
}

#[test]
fn null_takes_everything_and_gives_nothing() {
    let world = world();
    let driver = open(&world, "net_null0,no-rx=1").unwrap();
    assert_eq!(driver.capabilities(), Capabilities::default());
    assert!(driver.link_up());
    let mut batch = Batch::new();
    assert_eq!(driver.receive(0, &mut batch), 0);
    assert_eq!(
        driver.receive(9, &mut batch),
        0,
        "a queue that does not exist is silent"
    );
    assert_eq!(world.pool.allocate_bulk(&mut batch, 33), 33);
    assert_eq!(driver.transmit(9, &mut batch), 0);
    assert_eq!(driver.transmit(1, &mut batch), 33);
    assert!(batch.is_empty());
    assert_eq!(driver.describe(), "ethdev 0 (net_null0,no-rx=1)");
}

#[test]
fn a_device_that_does_not_exist_is_refused_with_a_way_out() {
    let world = world();
    let before = crate::open_descriptors();
    for (device, queues, words) in [
        (
            "net_nosuchdriver0",
            1,
            &["unknown device \"net_nosuchdriver0\"", "check the driver's name"][..],
        ),
        (
            "net_af_packet0,iface=nosuch0",
            1,
            &["no interface \"nosuch0\"", "check ip link"],
        ),
        ("net_af_packet0", 1, &["it names no interface (iface=NAME)"]),
        (
            "net_pcap0,rx_pcap=/nosuch.pcap",
            1,
            &["net_pcap0", "/nosuch.pcap"],
        ),
        (
            "ffff:ff:1f.7",
            1,
            &["unknown device \"ffff:ff:1f.7\"", "hugepage-setup bind"],
        ),
        ("", 1, &["write a PCI address such as 0000:03:00.0"]),
        ("net_null0,size=x", 1, &["net_null0,size=x"]),
        (
            "net_pcap0,rx_iface=lo",
            7,
            &["7 queues asked of", "it has 1; ask for fewer"],
        ),
    ] {
        let said = refusal(&world, device, queues);
        assert!(said.starts_with("port \"p1\": "), "{said}");
        for word in words {
            assert!(said.contains(word), "{device}: {said}");
        }
    }
    assert_eq!(
        crate::open_descriptors(),
        before,
        "a refused device leaves nothing open"
    );
    // Nothing of the refused ones is left: the names are free, and the port's number is the first.
    assert_eq!(
        open(&world, "net_null0,no-rx=1").unwrap().describe(),
        "ethdev 0 (net_null0,no-rx=1)"
    );
}

#[test]
fn a_device_serves_one_port() {
    let world = world();
    let first = open(&world, "net_null0,no-rx=1").unwrap();
    let said = refusal(&world, "net_null0,no-rx=1", 1);
    assert_eq!(
        said,
        "port \"p1\": device \"net_null0\" is already used by another port; unplug that first"
    );
    drop(first);
    open(&world, "net_null0,no-rx=1").unwrap();
}

#[test]
fn the_thirty_third_ethdev_is_refused() {
    let world = world();
    let limit = dpdk_sys::RTE_MAX_ETHPORTS;
    let open: Vec<Driver> = (0..limit)
        .map(|n| open(&world, &format!("net_null{n},no-rx=1")).unwrap())
        .collect();
    let said = refusal(&world, "net_null99,no-rx=1", 1);
    assert!(
        said.contains(&format!("this DPDK has {limit} ethdev ports and all are taken")),
        "{said}"
    );
    assert!(said.contains("use vhost-user or tap ports"), "{said}");
    drop(open);
    assert!(refusal(&world, "net_nosuchdriver0", 1).contains("unknown device"));
}

#[test]
fn a_bond_makes_its_members_and_takes_them_along() {
    let world = world();
    let mut context = context(&world, "bond");
    context.mac = Some(Mac([2, 0, 0, 0, 0, 9]));
    let words = "net_bonding0,mode=0,member=(net_null1,no-rx=1),member=(net_null2,no-rx=1)";
    let bond = port::open(&ethdev(words, 1), &context).unwrap();
    assert_eq!(bond.mac(), Mac([2, 0, 0, 0, 0, 9]));
    let said = refusal(&world, "net_null2,no-rx=1", 1);
    assert!(said.contains("already used"), "{said}");
    // Members' links come up on the library's own thread.
    eventually("the bond has a member", || bond.link_up().then_some(()));
    send(&bond, 0, packet(&world.pool, &[1; 60]));
    drop(bond);
    drop(open(&world, "net_null2,no-rx=1").unwrap());
    let said = refusal(&world, "net_bonding0,mode=0,member=(net_nosuchdriver0)", 1);
    assert!(said.contains("net_nosuchdriver0"), "{said}");
}

#[test]
fn two_memifs_carry_frames_of_several_buffers() {
    let world = world();
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("memif.sock");
    let socket = socket.display();
    let server = open(
        &world,
        &format!("net_memif0,role=server,id=0,socket={socket},socket-abstract=no"),
    )
    .unwrap();
    let client = open(
        &world,
        &format!("net_memif1,role=client,id=0,socket={socket},socket-abstract=no"),
    )
    .unwrap();
    eventually("the memif is up", || {
        (server.link_up() && client.link_up()).then_some(())
    });
    let frame: Vec<u8> = (0..5000u32).map(|n| n as u8).collect();
    send(&client, 0, packet(&world.pool, &frame));
    assert_eq!(bytes(&receive(&server)), frame);
    // The client's first poll gives the server buffers to write into.
    assert_eq!(client.receive(0, &mut Batch::new()), 0);
    send(&server, 0, packet(&world.pool, &frame[..60]));
    assert_eq!(bytes(&receive(&client)), &frame[..60]);
}

/// Two namespaces joined by a wire: the vRouter's end is `u1` in the first, with an address of the kernel's own.
fn wired(role: &str) -> (Namespace, Namespace) {
    let (router, peer) = (
        Namespace::new(&format!("{role}-r")),
        Namespace::silent(&format!("{role}-p")),
    );
    router.join("u1", "02:00:00:00:00:01", &peer, "p1", "02:00:00:00:00:02");
    router.run("ip addr add 198.18.7.1/24 dev u1");
    (router, peer)
}

fn arp_request(target: [u8; 4]) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend([
        2, 0, 0, 0, 0, 2, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 2, 198, 18, 7, 2, 0, 0, 0, 0, 0, 0,
    ]);
    frame.extend(target);
    frame.resize(60, 0);
    frame
}

#[test]
fn on_an_af_packet_port_the_kernel_is_silent_until_it_is_closed() {
    let world = world();
    let (router, peer) = wired("quiet");
    let mut wire = peer.wire("p1");
    let request = arp_request([198, 18, 7, 1]);
    // The kernel's answer, as a proof that it would give one.
    wire.send(&request);
    let answer = eventually("the kernel answers", || {
        Some(wire.receive()).filter(|frame| frame[12..14] == [8, 6] && frame[21] == 2)
    });
    assert_eq!(answer[..6], [2, 0, 0, 0, 0, 2]);

    sys::in_namespace(&router.path(), || {
        // What a killed process left is replaced.
        router.run("nft add table netdev weft.quiet.u1");
        router.run("nft add table netdev weft.quiet.gone0");
        router.run("nft add table netdev weft.quiet_2d2.u9");
        let context = OpenContext {
            uplink: true,
            instance: "quiet",
            ..context(&world, "uplink")
        };
        let driver = port::open(&ethdev("net_af_packet0,iface=u1", 1), &context).unwrap();
        assert!(driver.link_up());
        assert_eq!(driver.mac(), Mac([2, 0, 0, 0, 0, 1]));
        let others = "table netdev weft.quiet_2d2.u9\n";
        assert_eq!(
            router.run("nft list tables netdev"),
            format!("{others}table netdev weft.quiet.u1\n")
        );
        wire.clear();
        wire.send(&request);
        let heard = receive_that(&driver, |frame| frame[12..14] == [8, 6]);
        assert_eq!(bytes(&heard), request);
        // What the kernel sends by itself has not been received.
        let _ = router.try_run("ping -c1 -W1 198.18.7.3");
        wire.clear();
        let mut batch = Batch::new();
        wire.send(&request);
        eventually("the request comes", || {
            driver.receive(0, &mut batch);
            (!batch.is_empty()).then_some(())
        });
        let strange: Vec<_> = batch
            .iter()
            .map(bytes)
            .filter(|frame| frame[6..12] != [2, 0, 0, 0, 0, 2])
            .collect();
        assert!(strange.is_empty(), "the kernel was heard: {strange:x?}");
        wire.clear();
        // Our own answer comes back alone: the kernel's would have come before it.
        let mut answer = request.clone();
        answer[..6].copy_from_slice(&[2, 0, 0, 0, 0, 2]);
        answer[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
        answer[21] = 2;
        send(&driver, driver.transmit_queue(1), packet(&world.pool, &answer));
        let mut answers = wire.drain(std::time::Duration::from_millis(300));
        answers.retain(|frame| frame[12..14] == [8, 6] && frame[21] == 2);
        assert_eq!(answers, vec![answer]);

        let said = match port::open(&ethdev("net_af_packet1,iface=u1", 1), &context) {
            Ok(_) => panic!("one interface in two ports"),
            Err(error) => error.to_string(),
        };
        assert!(said.contains("device \"u1\" is already used"), "{said}");

        peer.run("ip link set p1 down");
        eventually("the port sees that the carrier is gone", || {
            (!driver.link_up()).then_some(())
        });
        peer.run("ip link set p1 up");
        drop(driver);
        assert_eq!(router.run("nft list tables netdev"), others);
    })
    .unwrap();
    eventually("the carrier is back", || {
        router
            .run("ip -o link show u1")
            .contains("state UP")
            .then_some(())
    });
    wire.clear();
    wire.send(&request);
    eventually("the kernel answers again", || {
        Some(wire.receive()).filter(|frame| frame[12..14] == [8, 6] && frame[21] == 2)
    });
}

#[test]
fn jumbo_frames_cross_an_af_packet_port_both_ways() {
    let world = world();
    let (router, peer) = wired("jumbo");
    router.run("ip link set u1 mtu 1500");
    let mut wire = peer.wire("p1");
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5];
    frame.extend((0..8900u32).map(|n| n as u8));
    sys::in_namespace(&router.path(), || {
        let context = OpenContext {
            uplink: true,
            mtu: 9000,
            ..context(&world, "uplink")
        };
        let driver = port::open(&ethdev("net_af_packet0,iface=u1", 1), &context).unwrap();
        assert!(router.run("ip link show u1").contains("mtu 9000"));
        wire.send(&frame);
        let heard = receive_that(&driver, |bytes| bytes[12..14] == [0x88, 0xb5]);
        assert_eq!(bytes(&heard), frame);
        wire.clear();
        send(&driver, 0, packet(&world.pool, &frame));
        wire.expect(&frame);
        assert!(matches!(
            driver.set_mtu(9001),
            Err(OpenError::Mtu {
                mtu: 9001,
                most: 9000,
                ..
            })
        ));
        // The port goes while a packet from its own buffers is still held.
        drop(driver);
        assert_eq!(heard.len(), frame.len());
    })
    .unwrap();
}

#[test]
fn several_af_packet_queues_share_the_flows() {
    let world = world();
    let (router, peer) = wired("queues");
    let wire = peer.wire("p1");
    sys::in_namespace(&router.path(), || {
        let driver = port::open(&ethdev("net_af_packet0,iface=u1", 2), &context(&world, "p1")).unwrap();
        assert_eq!((driver.receive_queues(), driver.transmit_queues()), (2, 2));
        for source in 0..64 {
            let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
            frame.extend([
                0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 198, 18, 7, 2, 198, 18, 7, 1, 16, source, 0, 9, 0,
                8, 0, 0,
            ]);
            frame.resize(60, 0);
            wire.send(&frame);
        }
        let mut counts = [0; 2];
        eventually("all frames arrive", || {
            for queue in 0..2 {
                let mut batch = Batch::new();
                driver.receive(queue, &mut batch);
                counts[usize::from(queue)] += batch
                    .iter()
                    .filter(|packet| packet.data()[12..14] == [8, 0])
                    .count();
            }
            (counts.iter().sum::<usize>() == 64).then_some(())
        });
        assert!(
            counts.iter().all(|count| *count > 0),
            "one queue got all: {counts:?}"
        );
    })
    .unwrap();
}

#[test]
fn af_xdp_carries_frames() {
    let world = world();
    let (router, peer) = wired("xdp");
    // The kernel's limit for XDP on such a wire: a page a frame.
    router.run("ip link set u1 mtu 3000");
    peer.run("ip link set p1 mtu 3000");
    let mut wire = peer.wire("p1");
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5];
    frame.extend((0..400u32).map(|n| n as u8));
    sys::in_namespace(&router.path(), || {
        let context = OpenContext {
            uplink: true,
            workers: 1,
            ..context(&world, "uplink")
        };
        let driver = port::open(&ethdev("net_af_xdp0,iface=u1", 1), &context).unwrap();
        wire.send(&frame);
        let heard = receive_that(&driver, |bytes| bytes[12..14] == [0x88, 0xb5]);
        assert_eq!(bytes(&heard), frame);
        wire.clear();
        send(&driver, 0, packet(&world.pool, &frame));
        wire.expect(&frame);
    })
    .unwrap();
}
