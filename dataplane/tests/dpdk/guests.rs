//! vhost-user ports, with a front end that fills virtio rings by hand.

use std::{
    fs,
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use weft_dataplane::{
    change::DeviceSpec,
    dpdk::{BURST, Batch, HeaderLengths, Pending, Transport},
    port::{
        self, Capabilities, Driver, OpenContext,
        doorbell::{self, DoorbellId},
    },
};
use weft_packet::Mac;
use weft_table::WorkerId;
use weft_tests::{
    eventually,
    sys::Offload,
    vhost::{
        BUFFER, Descriptor, FrontEnd, OFFLOADING, PLAIN, RECEIVE, RING_SIZE, TRANSMIT, buffer_address,
        descriptor,
    },
    within,
};

use crate::{World, bytes, context, packet, packet_in_segments, receive, send, world};

fn spec(socket: &Path, server: bool) -> DeviceSpec {
    DeviceSpec::VhostUser {
        socket: socket.to_owned(),
        server,
        queues: 1,
    }
}

/// A port in client mode, and its guest.
fn guest(world: &World, directory: &Path, features: u64) -> (Driver, FrontEnd) {
    let socket = directory.join("guest.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let driver = port::open(&spec(&socket, false), &context(world, "vm")).unwrap();
    let guest = FrontEnd::accept(&listener, features).unwrap();
    eventually("the guest is ready", || driver.link_up().then_some(()));
    (driver, guest)
}

fn receive_nothing(driver: &Driver) -> bool {
    driver.receive(0, &mut Batch::new()) == 0
}

fn frame(length: usize) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5];
    frame.extend((14..length).map(|n| n as u8));
    frame
}

#[test]
fn frames_pass_between_a_guest_and_its_port_both_ways() {
    let world = world();
    let directory = tempfile::tempdir().unwrap();
    let (driver, mut guest) = guest(&world, directory.path(), PLAIN);
    assert_eq!(
        driver.capabilities(),
        Capabilities::default(),
        "the guest wants complete packets"
    );
    assert!(!driver.pending_receive(0));
    for length in [60, 1514, 2034, 2040, 9014] {
        guest.send(&frame(length));
        eventually("the port sees that there is something", || {
            driver.pending_receive(0).then_some(())
        });
        let heard = receive(&driver);
        assert_eq!(bytes(&heard), frame(length));
        assert_eq!(heard.pending(), Ok(Pending::default()));
        send(&driver, driver.transmit_queue(1), heard);
        assert_eq!(guest.receive(), frame(length));
    }
    send(&driver, 0, packet_in_segments(&world.pool, &frame(5000), 333));
    assert_eq!(guest.receive(), frame(5000));
}

/// The doorbells that ring for a worker until `doorbell` has, or never does.
fn rings(worker: u16, doorbell: DoorbellId) -> bool {
    let mut rang = [None; doorbell::HEARD];
    within(Duration::from_millis(500), || {
        let count = doorbell::heard(worker, &mut rang);
        rang[..count].contains(&Some(doorbell)).then_some(())
    })
    .is_some()
}

#[test]
fn a_quiet_guest_rings_when_it_sends_and_a_busy_one_is_asked_not_to() {
    let world = world();
    let directory = tempfile::tempdir().unwrap();
    let (driver, mut guest) = guest(&world, directory.path(), PLAIN);
    let bell = driver.assign(0, WorkerId(7)).expect("a guest has a doorbell");
    assert!(
        guest.wants_silence(TRANSMIT) || receive_nothing(&driver),
        "polled at least once"
    );
    assert!(driver.listen(0), "it is heard");
    assert!(!guest.wants_silence(TRANSMIT), "the guest is asked to kick");
    while rings(7, bell) {}
    guest.send(&frame(64));
    assert!(rings(7, bell));
    assert_eq!(bytes(&receive(&driver)), frame(64));
    assert!(
        guest.wants_silence(TRANSMIT),
        "while it is polled there is no need to kick"
    );
    drop(guest);
    eventually("the guest is gone", || (!driver.link_up()).then_some(()));
    assert!(!driver.listen(0), "nobody is there to ring");
}

#[test]
fn a_port_in_server_mode_waits_for_its_guest_and_takes_its_socket_along() {
    let world = world();
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("guest.sock");
    let context = OpenContext {
        mac: Some(Mac([2, 0, 0, 0, 0, 7])),
        ..context(&world, "vm")
    };
    let driver = port::open(&spec(&socket, true), &context).unwrap();
    assert_eq!(
        driver.describe(),
        format!("vhost-user {} (server)", socket.display())
    );
    assert_eq!(driver.mac(), Mac([2, 0, 0, 0, 0, 7]));
    assert!(!driver.link_up());
    let mut guest = FrontEnd::connect(&socket, PLAIN).unwrap();
    eventually("the guest is ready", || driver.link_up().then_some(()));
    guest.send(&frame(100));
    assert_eq!(bytes(&receive(&driver)), frame(100));
    drop(driver);
    assert!(!socket.exists());
}

#[test]
fn without_a_guest_nothing_is_received_or_taken() {
    let world = world();
    let directory = tempfile::tempdir().unwrap();
    let driver = port::open(
        &spec(&directory.path().join("guest.sock"), false),
        &context(&world, "vm"),
    )
    .unwrap();
    let mut batch = Batch::new();
    assert!(!driver.pending_receive(0));
    assert_eq!(driver.receive(0, &mut batch), 0);
    assert!(batch.push(packet(&world.pool, &frame(60))).is_ok());
    assert_eq!(driver.transmit(0, &mut batch), 0);
    assert_eq!(batch.len(), 1);
}

#[test]
fn a_port_outlives_its_guest_and_takes_the_next() {
    let world = world();
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("guest.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let driver = port::open(&spec(&socket, false), &context(&world, "vm")).unwrap();
    for _ in 0..3 {
        let mut guest = FrontEnd::accept(&listener, OFFLOADING).unwrap();
        eventually("the guest is ready", || driver.link_up().then_some(()));
        assert_eq!(
            driver.capabilities(),
            Capabilities {
                checksum: true,
                segmentation: true
            }
        );
        guest.send(&frame(64));
        assert_eq!(bytes(&receive(&driver)), frame(64));
        drop(guest);
        eventually("the guest is gone", || (!driver.link_up()).then_some(()));
        assert_eq!(driver.capabilities(), Capabilities::default());
    }
}

#[test]
fn a_queue_that_the_guest_disables_is_left_alone() {
    let world = world();
    let directory = tempfile::tempdir().unwrap();
    let (driver, mut guest) = guest(&world, directory.path(), PLAIN);
    guest.enable(RECEIVE, false);
    eventually("the port sees it", || (!driver.link_up()).then_some(()));
    let mut batch = Batch::new();
    assert!(batch.push(packet(&world.pool, &frame(60))).is_ok());
    assert_eq!(driver.transmit(0, &mut batch), 0);
    guest.enable(RECEIVE, true);
    eventually("the port sees it", || driver.link_up().then_some(()));
    assert_eq!(driver.transmit(0, &mut batch), 1);
    assert_eq!(guest.receive(), frame(60));
}

#[test]
fn a_guest_that_stops_reading_fills_its_ring_and_nothing_else() {
    let world = world();
    let directory = tempfile::tempdir().unwrap();
    let (driver, mut guest) = guest(&world, directory.path(), PLAIN);
    let before = world.pool.in_use();
    let mut taken = 0;
    for _ in 0..10 {
        let mut batch = Batch::new();
        while batch.push(packet(&world.pool, &frame(60))).is_ok() {}
        taken += driver.transmit(0, &mut batch);
    }
    assert_eq!(taken, usize::from(RING_SIZE), "as many as the ring has buffers");
    assert_eq!(world.pool.in_use(), before);
    guest.expect(&frame(60));
}

/// An Ethernet and IPv4 frame with a TCP header and payload.
fn tcp(length: usize) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0];
    frame.extend((length as u16 - 14).to_be_bytes());
    frame.extend([0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 7, 10, 0, 0, 8]);
    frame.extend([
        0x30, 0x39, 0, 80, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 0x20, 0, 0xab, 0xcd, 0, 0,
    ]);
    frame.extend((54..length).map(|n| n as u8));
    frame
}

const SEGMENTED: Offload = Offload {
    flags: 1,
    segmentation: 1,
    header_length: 54,
    segment_size: 1400,
    checksum_start: 34,
    checksum_offset: 16,
};

#[test]
fn offloads_of_a_guest_are_noted_and_handed_on() {
    let world = world();
    let directory = tempfile::tempdir().unwrap();
    let (driver, mut guest) = guest(&world, directory.path(), OFFLOADING);
    let large = tcp(30_000);
    guest.send_offloaded(&large, SEGMENTED);
    let heard = receive(&driver);
    assert_eq!(bytes(&heard), large);
    assert_eq!(
        heard.pending(),
        Ok(Pending {
            checksum: true,
            segment: Some(1400)
        })
    );
    assert_eq!(
        heard.header_lengths(),
        HeaderLengths {
            l2: 14,
            l3: 20,
            l4: 20
        }
    );
    assert_eq!(
        (heard.pending_transport(), heard.pending_ipv6()),
        (Some(Transport::Tcp), false)
    );
    send(&driver, 0, heard);
    let back = guest.next(std::time::Duration::from_secs(5)).unwrap();
    // The library writes the pseudo header's sum anew, without the length, as NICs want it for segmentation.
    assert_eq!(
        (&back.bytes[..50], &back.bytes[52..]),
        (&large[..50], &large[52..])
    );
    assert_eq!(back.offload, SEGMENTED);

    // A checksum alone: with the length, as virtio has it.
    let mut small = tcp(1000);
    let checksum = Offload {
        segmentation: 0,
        segment_size: 0,
        header_length: 0,
        ..SEGMENTED
    };
    guest.send_offloaded(&small, checksum);
    let heard = receive(&driver);
    assert_eq!(
        heard.pending(),
        Ok(Pending {
            checksum: true,
            segment: None
        })
    );
    send(&driver, 0, heard);
    let back = guest.next(std::time::Duration::from_secs(5)).unwrap();
    // 10.0.0.7, 10.0.0.8, protocol 6, 966 bytes.
    small[50..52].copy_from_slice(&(0x0a00u16 + 7 + 0x0a00 + 8 + 6 + 966).to_be_bytes());
    assert_eq!(back.bytes, small);
    assert_eq!(back.offload, checksum);
}

#[test]
fn a_guest_that_lies_about_its_offloads_gets_no_segments_out_of_it() {
    let world = world();
    let directory = tempfile::tempdir().unwrap();
    let (driver, mut guest) = guest(&world, directory.path(), OFFLOADING);
    let large = tcp(4000);
    let mut headers_only = tcp(54);
    headers_only[46] = 0xf0;
    for (frame, lie) in [
        (
            &large,
            Offload {
                segment_size: 0,
                ..SEGMENTED
            },
        ),
        (
            &large,
            Offload {
                segment_size: 1,
                ..SEGMENTED
            },
        ),
        (
            &large,
            Offload {
                segmentation: 3,
                ..SEGMENTED
            },
        ),
        (
            &large,
            Offload {
                segmentation: 0xff,
                ..SEGMENTED
            },
        ),
        (
            &large,
            Offload {
                checksum_start: 65_535,
                ..SEGMENTED
            },
        ),
        (
            &large,
            Offload {
                checksum_offset: 65_535,
                ..SEGMENTED
            },
        ),
        (
            &large,
            Offload {
                checksum_start: 0,
                checksum_offset: 0,
                ..SEGMENTED
            },
        ),
        (&headers_only, SEGMENTED),
        (&headers_only[..20].to_vec(), SEGMENTED),
        (&headers_only[..14].to_vec(), SEGMENTED),
        (&headers_only[..1].to_vec(), SEGMENTED),
    ] {
        guest.send_offloaded(frame, lie);
        // A broken offload is an error, or the library has forgotten it: never work to do.
        let heard = receive(&driver);
        assert_eq!(&bytes(&heard), frame);
        assert!(
            heard.pending().is_err() || heard.pending().is_ok_and(|p| p.segment.is_none()),
            "{lie:?}"
        );
    }
    guest.send(&frame(60));
    assert_eq!(bytes(&receive(&driver)), frame(60), "and the port lives on");
}

#[test]
fn a_guest_that_lies_about_its_rings_harms_nobody() {
    let world = world();
    let before = world.pool.in_use();
    let own = |slot| buffer_address(TRANSMIT, slot);
    let entry = |address, length, flags, next| Descriptor {
        address,
        length,
        flags,
        next,
    };
    let lies: [(&str, Vec<Descriptor>); 7] = [
        (
            "an address outside of its memory",
            vec![entry(1 << 40, 100, 0, 0)],
        ),
        ("an address that wraps", vec![entry(u64::MAX - 8, 100, 0, 0)]),
        ("a length beyond its memory", vec![entry(own(0), u32::MAX, 0, 0)]),
        (
            "a chain that bites its tail",
            vec![
                entry(own(0), 64, descriptor::NEXT, 1),
                entry(own(1), 64, descriptor::NEXT, 0),
            ],
        ),
        (
            "a next descriptor that does not exist",
            vec![entry(own(0), 64, descriptor::NEXT, 0xffff)],
        ),
        ("less than a header", vec![entry(own(0), 3, 0, 0)]),
        (
            "an indirect table of odd size",
            vec![entry(own(0), 17, descriptor::INDIRECT, 0)],
        ),
    ];
    for (lie, descriptors) in lies {
        let directory = tempfile::tempdir().unwrap();
        let (driver, mut guest) = guest(&world, directory.path(), PLAIN);
        for (slot, descriptor) in descriptors.into_iter().enumerate() {
            guest.write_descriptor(TRANSMIT, slot as u16, descriptor);
        }
        guest.offer(TRANSMIT, 0);
        let mut batch = Batch::new();
        for _ in 0..20 {
            driver.receive(0, &mut batch);
            assert!(batch.iter().all(|packet| packet.len() <= 65_557), "{lie}");
            batch.free_all();
        }
        drop(guest);
        eventually("the guest is gone", || (!driver.link_up()).then_some(()));
    }
    // Indices: a descriptor's number out of range, and more entries than the ring has.
    let directory = tempfile::tempdir().unwrap();
    let (driver, mut guest) = guest(&world, directory.path(), PLAIN);
    guest.offer(TRANSMIT, 0xfff0);
    guest.announce(TRANSMIT, 0x7fff);
    let mut batch = Batch::new();
    for _ in 0..2 * usize::from(RING_SIZE) {
        driver.receive(0, &mut batch);
        batch.free_all();
    }
    guest.announce(RECEIVE, guest.available_index(RECEIVE).wrapping_add(1000));
    for _ in 0..4 {
        while batch.push(packet(&world.pool, &frame(60))).is_ok() {}
        driver.transmit(0, &mut batch);
    }
    batch.free_all();
    drop((guest, driver));
    assert_eq!(world.pool.in_use(), before, "no buffer is lost");
}

#[test]
fn a_packet_longer_than_any_is_dropped_and_counted() {
    let world = world();
    let directory = tempfile::tempdir().unwrap();
    let (driver, mut guest) = guest(&world, directory.path(), PLAIN);
    // All of the ring's buffers in one chain, and the last descriptor spanning several of them.
    let slots = RING_SIZE;
    for slot in 0..slots {
        let flags = if slot + 1 == slots { 0 } else { descriptor::NEXT };
        let entry = Descriptor {
            address: buffer_address(TRANSMIT, 0),
            length: BUFFER,
            flags,
            next: slot + 1,
        };
        guest.write_descriptor(TRANSMIT, slot, entry);
    }
    guest.offer(TRANSMIT, 0);
    let mut batch = Batch::new();
    eventually("it is dropped", || {
        assert_eq!(driver.receive(0, &mut batch), 0);
        (driver.statistics().rx_errors == 1).then_some(())
    });
    assert!(batch.is_empty());
}

#[test]
fn guests_come_and_go_while_workers_poll() {
    let world = world();
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("guest.sock");
    let driver = port::open(&spec(&socket, true), &context(&world, "vm")).unwrap();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut batch = Batch::new();
                    let mut received = 0usize;
                    while !stop.load(Ordering::Relaxed) {
                        driver.pending_receive(0);
                        received += driver.receive(0, &mut batch);
                        driver.transmit(0, &mut batch);
                        batch.free_all();
                    }
                    received
                })
            })
            .collect();
        for _ in 0..30 {
            let mut guest = FrontEnd::connect(&socket, PLAIN).unwrap();
            for _ in 0..5 {
                guest.send(&frame(60));
                guest.expect(&frame(60));
            }
            drop(guest);
        }
        stop.store(true, Ordering::Relaxed);
        let received: usize = workers.into_iter().map(|worker| worker.join().unwrap()).sum();
        assert_eq!(received, 150);
    });
}

#[test]
fn two_hundred_guests_are_connected_at_once() {
    let world = world();
    let directory = tempfile::tempdir().unwrap();
    let sockets: Vec<PathBuf> = (0..200)
        .map(|n| directory.path().join(format!("{n}.sock")))
        .collect();
    let drivers: Vec<Driver> = sockets
        .iter()
        .map(|socket| port::open(&spec(socket, true), &context(&world, "vm")).unwrap())
        .collect();
    let mut guests: Vec<FrontEnd> = sockets
        .iter()
        .map(|socket| FrontEnd::connect(socket, PLAIN).unwrap())
        .collect();
    for (number, (driver, guest)) in drivers.iter().zip(&mut guests).enumerate() {
        guest.send(&frame(60 + number));
        assert_eq!(bytes(&receive(driver)), frame(60 + number));
        send(driver, 0, packet(&world.pool, &frame(60 + number)));
        assert_eq!(guest.receive(), frame(60 + number));
    }
    assert_eq!(drivers.iter().filter(|driver| driver.link_up()).count(), 200);
}

#[test]
fn a_socket_that_cannot_be_is_refused_with_a_way_out() {
    let world = world();
    let directory = tempfile::tempdir().unwrap();
    let (listening, file) = (
        directory.path().join("listening.sock"),
        directory.path().join("file"),
    );
    let _listener = UnixListener::bind(&listening).unwrap();
    fs::write(&file, "text").unwrap();
    let taken = directory.path().join("taken.sock");
    let _open = port::open(&spec(&taken, false), &context(&world, "vm-0")).unwrap();
    let long = directory.path().join("x".repeat(120));
    for (socket, server, words) in [
        (
            &listening,
            true,
            "exists already; choose another path, remove it if its owner is gone",
        ),
        (&file, true, "exists already"),
        (&file, false, "exists already"),
        (&taken, false, "is used by another port; choose another path"),
        (
            &directory.path().join("no/such.sock"),
            false,
            "its directory does not exist; make it first",
        ),
        (
            &directory.path().join("no/such.sock"),
            true,
            "its directory does not exist; make it first",
        ),
        (&long, true, "a path has 107 bytes at most"),
    ] {
        let said = match port::open(&spec(socket, server), &context(&world, "vm-1")) {
            Ok(driver) => panic!("{} was opened", driver.describe()),
            Err(error) => error.to_string(),
        };
        assert!(
            said.starts_with("port \"vm-1\": ") && said.contains(words),
            "{said}"
        );
    }
    assert_eq!(
        fs::read_to_string(&file).unwrap(),
        "text",
        "what is there is left alone"
    );
    let many = DeviceSpec::VhostUser {
        socket: directory.path().join("m"),
        server: true,
        queues: 65,
    };
    assert!(port::open(&many, &context(&world, "vm-1")).is_err());
}

#[test]
fn a_socket_left_by_a_killed_process_is_taken_over() {
    let world = world();
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("left.sock");
    drop(UnixListener::bind(&socket).unwrap());
    assert!(socket.exists());
    let driver = port::open(&spec(&socket, true), &context(&world, "vm")).unwrap();
    let mut guest = FrontEnd::connect(&socket, PLAIN).unwrap();
    guest.send(&frame(60));
    assert_eq!(bytes(&receive(&driver)), frame(60));
    let mut batch = Batch::new();
    while batch.len() < BURST && batch.push(packet(&world.pool, &frame(60))).is_ok() {}
    assert!(driver.transmit(0, &mut batch) > 0);
}
