//! The DPDK wrappers and the ports' drivers, against the real library and the real kernel.
//!
//! Runs as root, without hugepages. A process has one EAL, so the tests share it and take turns.

mod ethdevs;
mod guests;
mod lcores;
mod leaks;
mod multi_queue;
mod packets;
mod taps;

use std::{
    path::Path,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
};

use weft_dataplane::{
    dpdk::{BURST, Batch, Eal, EalConfig, Mbuf, Mempool},
    port::{Driver, OpenContext},
};
use weft_tests::eventually;

/// What all tests share.
struct World {
    eal: Eal,
    pool: Mempool,
}

/// The world, for one test at a time.
fn world() -> MutexGuard<'static, World> {
    static WORLD: OnceLock<Mutex<World>> = OnceLock::new();
    let world = WORLD.get_or_init(|| {
        let config = EalConfig {
            worker_cpus: vec![1],
            no_huge: true,
            memory_mib: 512,
            file_prefix: "weft-test".to_owned(),
            ..EalConfig::default()
        };
        let eal = Eal::start(&config).expect("EAL starts without hugepages");
        let pool = Mempool::new("packets", 16 * 1024, 256).expect("a pool fits into 512 MiB");
        Mutex::new(World { eal, pool })
    });
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a port is opened with, unless the test is about that.
fn context<'a>(world: &'a World, name: &'a str) -> OpenContext<'a> {
    OpenContext {
        pool: &world.pool,
        workers: 2,
        mac: None,
        mtu: 1500,
        name,
        uplink: false,
        instance: "dpdk-test",
    }
}

/// A packet with these bytes, in segments of `segment` bytes.
fn packet_in_segments(pool: &Mempool, bytes: &[u8], segment: usize) -> Mbuf {
    let mut chunks = bytes.chunks(segment);
    let mut packet = filled(pool, chunks.next().expect("a packet has a byte"));
    for chunk in chunks {
        assert!(packet.chain(filled(pool, chunk)).is_ok());
    }
    packet
}

/// A packet with these bytes, in as few segments as they fit.
fn packet(pool: &Mempool, bytes: &[u8]) -> Mbuf {
    packet_in_segments(pool, bytes, 2048)
}

fn filled(pool: &Mempool, bytes: &[u8]) -> Mbuf {
    let mut packet = pool.allocate().expect("a buffer");
    packet.append(bytes.len()).expect("room").copy_from_slice(bytes);
    packet
}

/// All bytes of a packet.
fn bytes(packet: &Mbuf) -> Vec<u8> {
    packet.segment_slices().collect::<Vec<_>>().concat()
}

/// Sends one packet, which the device must take.
fn send(driver: &Driver, queue: u16, packet: Mbuf) {
    let mut batch = Batch::new();
    assert!(batch.push(packet).is_ok());
    eventually("the device takes a packet", || {
        driver.transmit(queue, &mut batch);
        batch.is_empty().then_some(())
    });
}

/// The next packet of the port, from whichever queue.
fn receive(driver: &Driver) -> Mbuf {
    receive_that(driver, |_| true)
}

/// The next packet for which `wanted` holds; others (a kernel's own chatter) are dropped.
fn receive_that(driver: &Driver, wanted: impl Fn(&[u8]) -> bool) -> Mbuf {
    eventually("the expected packet arrives", || {
        (0..driver.receive_queues()).find_map(|queue| {
            let mut batch = Batch::new();
            driver.receive(queue, &mut batch);
            batch.drain_front(BURST).find(|packet| wanted(&bytes(packet)))
        })
    })
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd")
        .expect("proc is mounted")
        .count()
}

fn shared_memory_files(prefix: &str) -> usize {
    let runtime = Path::new("/var/run/dpdk");
    let Ok(entries) = std::fs::read_dir(runtime.join(prefix)) else {
        return 0;
    };
    entries.count()
}
