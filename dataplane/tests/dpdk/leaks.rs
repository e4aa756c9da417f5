//! Plugging and unplugging a thousand times leaves nothing behind.

use std::{os::unix::net::UnixListener, path::PathBuf};

use weft_dataplane::{
    change::DeviceSpec,
    port::{self, Driver},
};
use weft_tests::{
    eventually,
    namespace::Namespace,
    sys,
    vhost::{FrontEnd, PLAIN},
};

use crate::{World, context, open_descriptors, world};

const CYCLES: usize = 1000;

/// Memory mappings of this process.
fn mappings() -> usize {
    std::fs::read_to_string("/proc/self/maps")
        .unwrap()
        .lines()
        .count()
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

/// Opens and closes until a leak would show; some resources are made once, so the first cycles do not count.
fn cycle(world: &World, cycles: usize, mut once: impl FnMut()) {
    for _ in 0..4 {
        once();
    }
    let before = (open_descriptors(), world.pool.in_use());
    let (threads_before, mapped) = (threads(), mappings());
    for _ in 0..cycles {
        once();
    }
    assert_eq!((open_descriptors(), world.pool.in_use()), before);
    // DPDK starts threads of its own when it first needs them, and keeps them.
    let more = threads().saturating_sub(threads_before);
    assert!(more <= 2, "{more} threads more after {cycles} cycles");
    let more = mappings().saturating_sub(mapped);
    assert!(
        more < cycles / 20 + 16,
        "{more} mappings more after {cycles} cycles"
    );
}

fn open(world: &World, spec: &DeviceSpec) -> Driver {
    port::open(spec, &context(world, "p1")).unwrap()
}

#[test]
fn an_ethdev_comes_and_goes() {
    let world = world();
    let spec = DeviceSpec::Ethdev {
        device: "net_null0,no-rx=1".to_owned(),
        queues: 2,
    };
    cycle(&world, CYCLES, || {
        assert_eq!(
            open(&world, &spec).describe(),
            "ethdev 0 (net_null0,no-rx=1)",
            "the port's number is free again"
        );
    });
}

#[test]
fn an_af_packet_port_comes_and_goes() {
    let world = world();
    let (router, peer) = (Namespace::silent("cycle-r"), Namespace::silent("cycle-p"));
    router.join("u1", "02:00:00:00:00:01", &peer, "p1", "02:00:00:00:00:02");
    let spec = DeviceSpec::Ethdev {
        device: "net_af_packet0,iface=u1".to_owned(),
        queues: 2,
    };
    sys::in_namespace(&router.path(), || cycle(&world, 50, || drop(open(&world, &spec)))).unwrap();
    assert_eq!(router.run("nft list tables netdev"), "");
}

#[test]
fn a_tap_comes_and_goes() {
    let world = world();
    let namespace = Namespace::silent("cycle");
    let spec = DeviceSpec::Tap {
        interface: "eth0".to_owned(),
        queues: 2,
        netns: Some(namespace.path()),
    };
    cycle(&world, CYCLES, || assert!(open(&world, &spec).link_up()));
    assert!(!namespace.run("ip -o link show").contains("eth0"));
}

#[test]
fn a_vhost_port_without_a_guest_comes_and_goes() {
    let world = world();
    let directory = tempfile::tempdir().unwrap();
    for server in [false, true] {
        let socket: PathBuf = directory.path().join(format!("{server}.sock"));
        let spec = DeviceSpec::VhostUser {
            socket: socket.clone(),
            server,
            queues: 2,
        };
        cycle(&world, CYCLES, || assert!(!open(&world, &spec).link_up()));
        assert!(!socket.exists(), "a server's socket goes with it");
    }
}

#[test]
fn a_guests_port_comes_and_goes_under_it() {
    let world = world();
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("guest.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let spec = DeviceSpec::VhostUser {
        socket,
        server: false,
        queues: 1,
    };
    cycle(&world, 100, || {
        let driver = open(&world, &spec);
        let guest = FrontEnd::accept(&listener, PLAIN).unwrap();
        eventually("the guest is ready", || driver.link_up().then_some(()));
        drop(driver);
        drop(guest);
    });
}

#[test]
fn a_guest_reconnects_a_hundred_times_to_one_port() {
    let world = world();
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("guest.sock");
    let driver = open(
        &world,
        &DeviceSpec::VhostUser {
            socket: socket.clone(),
            server: true,
            queues: 1,
        },
    );
    cycle(&world, 100, || {
        let guest = FrontEnd::connect(&socket, PLAIN).unwrap();
        eventually("the guest is ready", || driver.link_up().then_some(()));
        drop(guest);
        eventually("the guest is gone", || (!driver.link_up()).then_some(()));
    });
}
