//! A router without a worker, for tests that walk bursts through the stages by hand. An EAL a process, so one test a file.

use std::time::Duration;

use weft_dataplane::{
    ByHand, Config, Timeouts,
    change::{Change, DeviceSpec, PortPolicy, PortSpec},
    dpdk::{Batch, Eal, EalConfig},
};
use weft_packet::Mac;
use weft_table::{PortId, VrfId};
use weft_tests::frame::Packet;

/// The VRF of all ports.
pub const RED: VrfId = VrfId(1);

/// The router, and EAL, which must outlive it.
pub fn router(name: &str) -> (ByHand, Eal) {
    let file_prefix = format!("weft-{name}-{}", std::process::id());
    let eal = Eal::start(&EalConfig {
        worker_cpus: vec![0],
        no_huge: true,
        memory_mib: 128,
        file_prefix: file_prefix.clone(),
        ..EalConfig::default()
    })
    .unwrap();
    let router = ByHand::new(&Config {
        worker_cpus: vec![0],
        no_huge: true,
        memory_mib: 0,
        mbufs: 2047,
        mbuf_room: 256,
        file_prefix,
        pci_devices: Vec::new(),
        sessions: 65_536,
        idle_sleep: Duration::ZERO,
        timeouts: Timeouts::default(),
    })
    .unwrap();
    (router, eal)
}

/// A port that receives nothing and takes everything.
pub fn port(id: PortId, policy: PortPolicy) -> Change {
    let device = DeviceSpec::Ethdev {
        device: format!("net_null{id},no-rx=1"),
        queues: 1,
    };
    let spec = PortSpec {
        mac: Some(Mac([2, 0, 0, 0, 0, 1])),
        policy,
        ..PortSpec::new(format!("port-{id}"), device, RED)
    };
    Change::SetPort(id, spec)
}

/// Walks these packets, as if they came from a port's device.
pub fn walk(router: &mut ByHand, from: PortId, packets: impl ExactSizeIterator<Item = Packet>) {
    let mut batch = Batch::new();
    let count = packets.len();
    assert_eq!(router.pool().allocate_bulk(&mut batch, count), count);
    for (packet, mbuf) in packets.zip(batch.iter_mut()) {
        let frame = packet.frame([2, 0, 0, 0, 0, 9], [2, 0, 0, 0, 0, 1]);
        mbuf.append(frame.len()).unwrap().copy_from_slice(&frame);
    }
    router.walk(from, &mut batch);
}

/// What was sent to each of these ports so far.
pub fn sent<const N: usize>(router: &ByHand, ports: [PortId; N]) -> [u64; N] {
    ports.map(|port| router.counters().ports()[port.index()].tx_packets)
}
