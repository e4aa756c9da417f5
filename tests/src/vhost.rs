//! A virtual machine's network driver without the machine: a vhost-user front end that fills virtio rings by hand.
//!
//! Hundreds of them fit into a test, and each field of a ring can be made to lie (virtio 1.2, sections 2.7 and 5.1).

use std::{
    fs::File,
    io,
    os::{
        fd::AsRawFd,
        unix::net::{UnixListener, UnixStream},
    },
    path::Path,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use vhost::{
    VhostBackend, VhostUserMemoryRegionInfo, VringConfigData,
    vhost_user::{
        Frontend, VhostUserFrontend,
        message::{VhostUserHeaderFlag, VhostUserProtocolFeatures},
    },
};
use vm_memory::{Bytes, FileOffset, GuestAddress, GuestMemoryMmap};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::{eventually, sys::Offload, sys::Received, wire::PATIENCE};

/// Descriptors a ring.
pub const RING_SIZE: u16 = 64;
/// Bytes a buffer.
pub const BUFFER: u32 = 2048;
/// virtio-net header with its count of buffers.
pub const HEADER: usize = 12;

/// Ring from weftd to the guest.
pub const RECEIVE: usize = 0;
/// Ring from the guest to weftd.
pub const TRANSMIT: usize = 1;

const RING_SPACE: u64 = 0x4000;
const BUFFERS: u64 = 0x1_0000;
const MEMORY: u64 = BUFFERS + 2 * RING_SIZE as u64 * BUFFER as u64;
/// Where the front end says that its memory lies; nothing of ours needs to be there.
const USER_ADDRESS: u64 = 0x7000_0000_0000;

/// Descriptor flags.
#[allow(missing_docs)]
pub mod descriptor {
    pub const NEXT: u16 = 1;
    pub const WRITE: u16 = 2;
    pub const INDIRECT: u16 = 4;
}

/// Virtio feature bits.
#[allow(missing_docs)]
pub mod feature {
    pub const CSUM: u64 = 1;
    pub const GUEST_CSUM: u64 = 1 << 1;
    pub const GUEST_TSO4: u64 = 1 << 7;
    pub const GUEST_TSO6: u64 = 1 << 8;
    pub const HOST_TSO4: u64 = 1 << 11;
    pub const HOST_TSO6: u64 = 1 << 12;
    pub const MRG_RXBUF: u64 = 1 << 15;
    pub const PROTOCOL: u64 = 1 << 30;
    pub const VERSION_1: u64 = 1 << 32;
}

/// What a modest guest asks for.
pub const PLAIN: u64 = feature::VERSION_1 | feature::MRG_RXBUF;

/// What Linux asks for.
pub const OFFLOADING: u64 = PLAIN
    | feature::CSUM
    | feature::GUEST_CSUM
    | feature::GUEST_TSO4
    | feature::GUEST_TSO6
    | feature::HOST_TSO4
    | feature::HOST_TSO6;

/// One descriptor as the guest writes it.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct Descriptor {
    pub address: u64,
    pub length: u32,
    pub flags: u16,
    pub next: u16,
}

/// A guest's driver, connected.
pub struct FrontEnd {
    control: Frontend,
    memory: GuestMemoryMmap,
    kicks: Vec<EventFd>,
    _calls: Vec<EventFd>,
    available: [u16; 2],
    used: [u16; 2],
    /// What both sides agreed upon.
    pub features: u64,
}

impl FrontEnd {
    /// Waits at `listener` for weftd (its client mode), and starts.
    pub fn accept(listener: &UnixListener, wanted: u64) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let stream = eventually("weftd connects to the guest's socket", || {
            match listener.accept() {
                Ok((stream, _)) => Some(Ok(stream)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
                Err(error) => Some(Err(error)),
            }
        })?;
        stream.set_nonblocking(false)?;
        Self::start(stream, wanted)
    }

    /// Connects to weftd's socket (its server mode), and starts.
    pub fn connect(socket: &Path, wanted: u64) -> io::Result<Self> {
        Self::start(
            eventually("weftd listens", || UnixStream::connect(socket).ok()),
            wanted,
        )
    }

    fn start(stream: UnixStream, wanted: u64) -> io::Result<Self> {
        stream.set_read_timeout(Some(PATIENCE))?;
        let file = tempfile::tempfile_in("/dev/shm")?;
        file.set_len(MEMORY)?;
        let region = (
            GuestAddress(0),
            MEMORY as usize,
            Some(FileOffset::new(file.try_clone()?, 0)),
        );
        let memory = GuestMemoryMmap::from_ranges_with_files([region]).map_err(io::Error::other)?;
        let mut front = FrontEnd {
            control: Frontend::from_stream(stream, 2),
            memory,
            kicks: Vec::new(),
            _calls: Vec::new(),
            available: [0; 2],
            used: [0; 2],
            features: 0,
        };
        front.negotiate(&file, wanted).map_err(io::Error::other)?;
        front.fill_receive_ring();
        Ok(front)
    }

    fn negotiate(&mut self, file: &File, wanted: u64) -> vhost::Result<()> {
        self.control.set_owner()?;
        let offered = self.control.get_features()?;
        self.features = offered & (wanted | feature::PROTOCOL);
        if offered & feature::PROTOCOL != 0 {
            let protocol = self.control.get_protocol_features()?;
            self.control
                .set_protocol_features(protocol & VhostUserProtocolFeatures::REPLY_ACK)?;
            // From here on each message is answered, so that the next step finds it done.
            self.control.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
        }
        self.control.set_features(self.features)?;
        self.control.set_mem_table(&[VhostUserMemoryRegionInfo {
            guest_phys_addr: 0,
            memory_size: MEMORY,
            userspace_addr: USER_ADDRESS,
            mmap_offset: 0,
            mmap_handle: file.as_raw_fd(),
        }])?;
        for queue in [RECEIVE, TRANSMIT] {
            let (kick, call) = (event(), event());
            let ring = queue as u64 * RING_SPACE;
            self.control.set_vring_num(queue, RING_SIZE)?;
            self.control.set_vring_base(queue, 0)?;
            self.control.set_vring_addr(
                queue,
                &VringConfigData {
                    queue_max_size: RING_SIZE,
                    queue_size: RING_SIZE,
                    flags: 0,
                    desc_table_addr: USER_ADDRESS + ring,
                    used_ring_addr: USER_ADDRESS + ring + 0x2000,
                    avail_ring_addr: USER_ADDRESS + ring + 0x1000,
                    log_addr: None,
                },
            )?;
            self.control.set_vring_call(queue, &call)?;
            self.control.set_vring_kick(queue, &kick)?;
            self.kicks.push(kick);
            self._calls.push(call);
        }
        for queue in [RECEIVE, TRANSMIT] {
            self.control.set_vring_enable(queue, true)?;
        }
        Ok(())
    }

    /// Tells weftd to stop or go on using a ring.
    pub fn enable(&mut self, queue: usize, enable: bool) {
        self.control
            .set_vring_enable(queue, enable)
            .expect("weftd takes SET_VRING_ENABLE");
    }

    /// Sends a frame.
    pub fn send(&mut self, frame: &[u8]) {
        self.send_offloaded(frame, Offload::default());
    }

    /// Sends a frame with work left to do, over as many descriptors as it takes.
    pub fn send_offloaded(&mut self, frame: &[u8], offload: Offload) {
        let bytes = [&offload.bytes()[..], &[0, 0], frame].concat();
        let pieces: Vec<&[u8]> = bytes.chunks(BUFFER as usize).collect();
        assert!(pieces.len() <= RING_SIZE as usize, "the frame fits the ring");
        eventually("weftd takes what the guest sent before", || {
            (self.used_index(TRANSMIT) == self.available[TRANSMIT]).then_some(())
        });
        let last = pieces.len() - 1;
        for (slot, piece) in pieces.iter().enumerate() {
            let address = buffer_address(TRANSMIT, slot as u16);
            self.memory
                .write_slice(piece, GuestAddress(address))
                .expect("inside the memory");
            let flags = if slot == last { 0 } else { descriptor::NEXT };
            let next = if slot == last { 0 } else { slot as u16 + 1 };
            self.write_descriptor(
                TRANSMIT,
                slot as u16,
                Descriptor {
                    address,
                    length: piece.len() as u32,
                    flags,
                    next,
                },
            );
        }
        self.offer(TRANSMIT, 0);
    }

    /// The next frame, if one comes in time.
    pub fn next(&mut self, patience: Duration) -> Option<Received> {
        let deadline = Instant::now() + patience;
        while self.used_index(RECEIVE) == self.used[RECEIVE] {
            if Instant::now() >= deadline {
                return None;
            }
            std::thread::park_timeout(Duration::from_micros(200));
        }
        let (bytes, buffers) = self.take_buffer();
        let mut bytes = bytes;
        for _ in 1..buffers {
            let (more, _) = self.take_raw();
            bytes.extend(more);
        }
        let header: [u8; 10] = bytes[..10].try_into().expect("ten bytes");
        Some(Received {
            offload: Offload::parse(&header),
            bytes: bytes.split_off(HEADER),
        })
    }

    /// The next frame; the test fails if none comes.
    pub fn receive(&mut self) -> Vec<u8> {
        self.next(PATIENCE).expect("a frame comes to the guest").bytes
    }

    /// The next frame must be this one, to the last byte.
    pub fn expect(&mut self, expected: &[u8]) {
        let received = self.receive();
        assert!(
            received == expected,
            "{}",
            crate::frame::difference(expected, &received)
        );
    }

    fn take_buffer(&mut self) -> (Vec<u8>, u16) {
        let (bytes, _) = self.take_raw();
        let buffers = u16::from_le_bytes([bytes[10], bytes[11]]);
        (bytes, buffers)
    }

    fn take_raw(&mut self) -> (Vec<u8>, u16) {
        eventually("every buffer of a frame is there", || {
            (self.used_index(RECEIVE) != self.used[RECEIVE]).then_some(())
        });
        let entry = ring(RECEIVE) + 0x2000 + 4 + 8 * u64::from(self.used[RECEIVE] % RING_SIZE);
        let id: u32 = self
            .memory
            .read_obj(GuestAddress(entry))
            .expect("inside the memory");
        let length: u32 = self
            .memory
            .read_obj(GuestAddress(entry + 4))
            .expect("inside the memory");
        assert!(
            id < u32::from(RING_SIZE) && length <= BUFFER,
            "weftd used descriptor {id} for {length} bytes"
        );
        let mut bytes = vec![0; length as usize];
        let address = buffer_address(RECEIVE, id as u16);
        self.memory
            .read_slice(&mut bytes, GuestAddress(address))
            .expect("inside the memory");
        self.used[RECEIVE] = self.used[RECEIVE].wrapping_add(1);
        self.offer(RECEIVE, id as u16);
        (bytes, id as u16)
    }

    fn fill_receive_ring(&mut self) {
        for slot in 0..RING_SIZE {
            let address = buffer_address(RECEIVE, slot);
            let entry = Descriptor {
                address,
                length: BUFFER,
                flags: descriptor::WRITE,
                next: 0,
            };
            self.write_descriptor(RECEIVE, slot, entry);
            self.offer(RECEIVE, slot);
        }
    }

    /// Writes any descriptor, true or not.
    pub fn write_descriptor(&mut self, queue: usize, slot: u16, entry: Descriptor) {
        let at = ring(queue) + 16 * u64::from(slot);
        self.write(at, entry.address);
        self.write(at + 8, entry.length);
        self.write(at + 12, entry.flags);
        self.write(at + 14, entry.next);
    }

    /// Puts a descriptor's number, true or not, into the available ring, and kicks.
    pub fn offer(&mut self, queue: usize, slot: u16) {
        let position = self.available[queue] % RING_SIZE;
        self.write(ring(queue) + 0x1000 + 4 + 2 * u64::from(position), slot);
        self.available[queue] = self.available[queue].wrapping_add(1);
        self.announce(queue, self.available[queue]);
    }

    /// Sets the available ring's index to anything, and kicks.
    pub fn announce(&mut self, queue: usize, index: u16) {
        self.memory
            .store(index, GuestAddress(ring(queue) + 0x1002), Ordering::Release)
            .expect("inside the memory");
        let _ = self.kicks[queue].write(1);
    }

    /// Writes bytes at a guest address.
    pub fn write_bytes(&mut self, at: u64, bytes: &[u8]) {
        self.memory
            .write_slice(bytes, GuestAddress(at))
            .expect("inside the memory");
    }

    fn write<T: vm_memory::ByteValued>(&self, at: u64, value: T) {
        self.memory
            .write_obj(value, GuestAddress(at))
            .expect("inside the memory");
    }

    /// How far weftd is in a ring.
    pub fn used_index(&self, queue: usize) -> u16 {
        self.memory
            .load(GuestAddress(ring(queue) + 0x2002), Ordering::Acquire)
            .expect("inside the memory")
    }

    /// weftd asks not to be kicked for this ring (VIRTQ_USED_F_NO_NOTIFY).
    pub fn wants_silence(&self, queue: usize) -> bool {
        let flags: u16 = self
            .memory
            .load(GuestAddress(ring(queue) + 0x2000), Ordering::Acquire)
            .expect("inside the memory");
        flags & 1 != 0
    }

    /// How far the guest is in a ring.
    pub fn available_index(&self, queue: usize) -> u16 {
        self.available[queue]
    }
}

fn ring(queue: usize) -> u64 {
    queue as u64 * RING_SPACE
}

/// Where a slot's own buffer lies.
pub fn buffer_address(queue: usize, slot: u16) -> u64 {
    BUFFERS + (queue as u64 * u64::from(RING_SIZE) + u64::from(slot)) * u64::from(BUFFER)
}

fn event() -> EventFd {
    EventFd::new(EFD_NONBLOCK).expect("an eventfd")
}
