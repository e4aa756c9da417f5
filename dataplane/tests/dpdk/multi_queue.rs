//! A guest with several queue pairs: more or fewer than its port has.

use std::{fs::File, os::fd::AsRawFd, os::unix::net::UnixStream, sync::atomic::Ordering};

use vhost::{
    VhostBackend, VhostUserMemoryRegionInfo, VringConfigData,
    vhost_user::{Frontend, VhostUserFrontend, message::VhostUserProtocolFeatures},
};
use vm_memory::{Bytes, FileOffset, GuestAddress, GuestMemoryMmap};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};
use weft_dataplane::{change::DeviceSpec, dpdk::Batch, port};
use weft_tests::eventually;

use crate::{bytes, context, packet, send, world};

/// VIRTIO_F_VERSION_1, VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_F_MQ, VHOST_USER_F_PROTOCOL_FEATURES.
const FEATURES: u64 = 1 << 32 | 1 << 15 | 1 << 22 | 1 << 30;
const SLOTS: u16 = 4;
const BUFFER: u64 = 2048;
/// virtio-net header with its count of buffers.
const HEADER: usize = 12;
/// Where the front end says that its memory lies.
const USER_ADDRESS: u64 = 0x6000_0000_0000;
const RING: u64 = 0x8000;

/// Descriptors at the start of a ring's space, then what the guest offers, what was used, and the buffers.
const AVAILABLE: u64 = 0x1000;
const USED: u64 = 0x2000;
const BUFFERS: u64 = 0x3000;

struct Guest {
    control: Frontend,
    memory: GuestMemoryMmap,
    offered: Vec<u16>,
    seen: Vec<u16>,
    _events: Vec<EventFd>,
}

impl Guest {
    fn connect(socket: &std::path::Path, pairs: usize) -> Guest {
        let rings = pairs * 2;
        let stream = eventually("the port listens", || UnixStream::connect(socket).ok());
        let file: File = tempfile::tempfile_in("/dev/shm").unwrap();
        let size = rings as u64 * RING;
        file.set_len(size).unwrap();
        let offset = Some(FileOffset::new(file.try_clone().unwrap(), 0));
        let region = (GuestAddress(0), size as usize, offset);
        let mut guest = Guest {
            control: Frontend::from_stream(stream, rings as u64),
            memory: GuestMemoryMmap::from_ranges_with_files([region]).unwrap(),
            offered: vec![0; rings],
            seen: vec![0; rings],
            _events: Vec::new(),
        };
        let control = &mut guest.control;
        control.set_owner().unwrap();
        let features = control.get_features().unwrap() & FEATURES;
        assert_eq!(features, FEATURES, "the port offers several queues");
        let wanted = VhostUserProtocolFeatures::MQ | VhostUserProtocolFeatures::REPLY_ACK;
        let protocol = control.get_protocol_features().unwrap() & wanted;
        assert_eq!(protocol, wanted);
        control.set_protocol_features(protocol).unwrap();
        control.set_features(features).unwrap();
        let region = VhostUserMemoryRegionInfo {
            guest_phys_addr: 0,
            memory_size: size,
            userspace_addr: USER_ADDRESS,
            mmap_offset: 0,
            mmap_handle: file.as_raw_fd(),
        };
        control.set_mem_table(&[region]).unwrap();
        for ring in 0..rings {
            let at = USER_ADDRESS + ring as u64 * RING;
            control.set_vring_num(ring, SLOTS).unwrap();
            control.set_vring_base(ring, 0).unwrap();
            let addresses = VringConfigData {
                queue_max_size: SLOTS,
                queue_size: SLOTS,
                flags: 0,
                desc_table_addr: at,
                used_ring_addr: at + USED,
                avail_ring_addr: at + AVAILABLE,
                log_addr: None,
            };
            control.set_vring_addr(ring, &addresses).unwrap();
            for kind in [Frontend::set_vring_call, Frontend::set_vring_kick] {
                let event = EventFd::new(EFD_NONBLOCK).unwrap();
                kind(control, ring, &event).unwrap();
                guest._events.push(event);
            }
        }
        for ring in 0..rings {
            guest.control.set_vring_enable(ring, true).unwrap();
        }
        for pair in 0..pairs {
            for slot in 0..SLOTS {
                // Written by the device (flag 2).
                guest.offer(pair * 2, slot, BUFFER as u32, 2);
            }
        }
        guest
    }

    fn at(ring: usize, offset: u64) -> GuestAddress {
        GuestAddress(ring as u64 * RING + offset)
    }

    fn offer(&mut self, ring: usize, slot: u16, length: u32, flags: u16) {
        let entry = 16 * u64::from(slot);
        let buffer = Self::at(ring, BUFFERS + BUFFER * u64::from(slot)).0;
        self.memory.write_obj(buffer, Self::at(ring, entry)).unwrap();
        self.memory.write_obj(length, Self::at(ring, entry + 8)).unwrap();
        self.memory.write_obj(flags, Self::at(ring, entry + 12)).unwrap();
        let position = u64::from(self.offered[ring] % SLOTS);
        self.memory
            .write_obj(slot, Self::at(ring, AVAILABLE + 4 + 2 * position))
            .unwrap();
        self.offered[ring] += 1;
        self.memory
            .store(
                self.offered[ring],
                Self::at(ring, AVAILABLE + 2),
                Ordering::Release,
            )
            .unwrap();
    }

    fn send(&mut self, pair: usize, frame: &[u8]) {
        let ring = pair * 2 + 1;
        let slot = self.offered[ring] % SLOTS;
        let bytes = [&[0; HEADER][..], frame].concat();
        self.memory
            .write_slice(&bytes, Self::at(ring, BUFFERS + BUFFER * u64::from(slot)))
            .unwrap();
        self.offer(ring, slot, bytes.len() as u32, 0);
    }

    /// The next frame of this length on this pair.
    fn receive(&mut self, pair: usize, length: usize) -> Vec<u8> {
        let ring = pair * 2;
        eventually("a frame comes on this pair", || {
            let used: u16 = self
                .memory
                .load(Self::at(ring, USED + 2), Ordering::Acquire)
                .unwrap();
            (used != self.seen[ring]).then_some(())
        });
        let position = u64::from(self.seen[ring] % SLOTS);
        let slot: u32 = self
            .memory
            .read_obj(Self::at(ring, USED + 4 + 8 * position))
            .unwrap();
        self.seen[ring] += 1;
        let mut frame = vec![0; length];
        let from = BUFFERS + BUFFER * u64::from(slot) + HEADER as u64;
        self.memory.read_slice(&mut frame, Self::at(ring, from)).unwrap();
        frame
    }
}

#[test]
fn every_pair_of_a_guest_is_served_by_the_queues_that_the_port_has() {
    let world = world();
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("guest.sock");
    let spec = DeviceSpec::VhostUser {
        socket: socket.clone(),
        server: true,
        queues: 2,
    };
    let driver = port::open(&spec, &context(&world, "vm")).unwrap();
    assert_eq!((driver.receive_queues(), driver.transmit_queues()), (2, 2));
    let mut guest = Guest::connect(&socket, 3);
    eventually("the guest is ready", || driver.link_up().then_some(()));

    for (pair, queue) in [(0, 0), (1, 1), (2, 0)] {
        let frame = [pair as u8 + 1; 70];
        guest.send(pair, &frame);
        let mut batch = Batch::new();
        eventually("the frame is there", || {
            driver.pending_receive(queue).then_some(())
        });
        assert!(!driver.pending_receive(1 - queue));
        assert_eq!(driver.receive(1 - queue, &mut batch), 0);
        assert_eq!(driver.receive(queue, &mut batch), 1);
        assert_eq!(bytes(&batch.as_slice()[0]), frame);
    }
    for (queue, pair) in [(0, 0), (1, 1)] {
        let frame = [queue as u8 + 10; 80];
        send(&driver, queue, packet(&world.pool, &frame));
        assert_eq!(guest.receive(pair, 80), frame);
    }
    // The guest's driver gives up a pair: what would go there takes one that is left.
    guest.control.set_vring_enable(2, false).unwrap();
    let mut pair = None;
    eventually("the port has seen it", || {
        send(&driver, 1, packet(&world.pool, &[42; 80]));
        pair = [1, 2].into_iter().find(|pair| {
            let used: u16 = guest
                .memory
                .load(Guest::at(pair * 2, USED + 2), Ordering::Acquire)
                .unwrap();
            used != guest.seen[pair * 2]
        });
        match pair {
            // Sent before it was seen.
            Some(1) => {
                guest.receive(1, 80);
                guest.offer(2, 0, BUFFER as u32, 2);
                None
            }
            other => other,
        }
    });
    assert_eq!(guest.receive(2, 80), [42; 80]);
}
