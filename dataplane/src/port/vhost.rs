//! Guests' virtio-net devices, by DPDK's vhost library (vhost-user protocol; virtio 1.2, section 5.1).
//!
//! weft is the client by default: the guest's QEMU owns the socket, and guests outlive a restart of weft. A missing
//! socket is no error then; the library connects as soon as it is there.
//!
//! **Who calls when.** The library's own threads call back when a guest connects ([`new_device`]), enables a queue or
//! leaves; workers see that through atomics. A worker enters a queue (one atomic write), reads the device number, and
//! leaves after the burst. [`destroy_device`] takes the number away and waits until nobody is inside: after it the
//! library frees the device. This is Dekker's handshake, hence `SeqCst` on both sides; a worker never waits in it.
//!
//! Inside the library a burst takes the queue's spin lock (a lock of its own: contended only by workers that share a
//! transmit queue and by the guest's control messages), and may write an eventfd to wake the guest.
//!
//! **Numbers.** Receive queue q of the port is the guest's transmit virtqueue 2q+1, transmit queue q its receive
//! virtqueue 2q. A guest may enable fewer queue pairs than the port has, or more: transmit queues fall back on the
//! enabled ones, and receive queues take the additional ones in turn.
//!
//! **Hostile guests.** The library checks rings and addresses. What comes out of it is checked for its length here and
//! for its offloads by [`Mbuf::pending`](crate::dpdk::Mbuf::pending). One packet may take as many buffers as its
//! descriptor chain names, until the pool is empty; it is then dropped by the library and gives them back.
#![allow(unsafe_code)]

use std::{
    collections::HashMap,
    ffi::{CStr, CString, c_char, c_int, c_void},
    fs, io,
    os::unix::{ffi::OsStrExt, fs::FileTypeExt, net::UnixStream},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU32, AtomicU64, Ordering, fence},
    },
    thread,
};

use dpdk_sys as ffi;
use weft_packet::Mac;

use super::{
    Capabilities, OpenContext,
    doorbell::{self, Doorbell},
    error::OpenError,
};
use crate::{
    dpdk::{Batch, Mempool, log},
    view::DeviceStatistics,
};

/// Queue pairs a port can have: as many as a bit mask holds.
const MOST_QUEUES: u16 = 64;
/// What `sun_path` holds with its NUL.
const LONGEST_PATH: usize = 107;
/// An IP packet with two tags in front: no honest guest sends more at once.
const LARGEST_PACKET: usize = 65_535 + 14 + 8;
const NO_DEVICE: i32 = -1;

/// UDP fragmentation offload is history (Linux removed it), and ECN with segmentation is not kept over a tunnel.
const REFUSED_FEATURES: u64 = 1 << ffi::VIRTIO_NET_F_HOST_UFO
    | 1 << ffi::VIRTIO_NET_F_GUEST_UFO
    | 1 << ffi::VIRTIO_NET_F_HOST_ECN
    | 1 << ffi::VIRTIO_NET_F_GUEST_ECN;

/// Open ports by socket path, for the callbacks.
static PORTS: Mutex<Option<HashMap<Vec<u8>, Arc<Shared>>>> = Mutex::new(None);

fn ports() -> MutexGuard<'static, Option<HashMap<Vec<u8>, Arc<Shared>>>> {
    PORTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A guest's device, connected or not.
pub struct Vhost {
    socket: PathBuf,
    c_socket: CString,
    server: bool,
    shared: Arc<Shared>,
    pool: Mempool,
    mac: Mutex<Mac>,
}

/// What workers and the library's threads both see.
struct Shared {
    /// The library's number of the device; [`NO_DEVICE`]: no guest.
    device: AtomicI32,
    /// Enabled guest transmit virtqueues, a bit a pair.
    receive_enabled: AtomicU64,
    /// Enabled guest receive virtqueues, a bit a pair.
    transmit_enabled: AtomicU64,
    /// 1: checksum, 2: segmentation.
    capabilities: AtomicU8,
    /// The guest uses packed rings, whose fill the library cannot count.
    packed: AtomicBool,
    receive: Box<[Side]>,
    transmit: Box<[Side]>,
    oversized: AtomicU64,
}

/// One direction of a queue pair.
#[derive(Default)]
#[repr(align(128))]
struct Side {
    /// Threads inside a burst.
    inside: AtomicU32,
    /// Bit masks of the virtqueue pairs (as in `receive_enabled`) whose kicks were switched off since they were
    /// enabled.
    quiet: AtomicU64,
    /// By which a receive queue is heard while it is quiet.
    doorbell: Option<Doorbell>,
}

/// A worker inside a queue; the device stays while it lives.
struct Inside<'a> {
    device: c_int,
    side: &'a Side,
}

impl Drop for Inside<'_> {
    #[inline]
    fn drop(&mut self) {
        self.side.inside.fetch_sub(1, Ordering::Release);
    }
}

impl Shared {
    /// Enters a queue, if there is a guest.
    #[inline]
    fn enter<'a>(&self, side: &'a Side) -> Option<Inside<'a>> {
        if self.device.load(Ordering::Relaxed) == NO_DEVICE {
            return None;
        }
        side.inside.fetch_add(1, Ordering::SeqCst);
        let inside = Inside {
            device: self.device.load(Ordering::SeqCst),
            side,
        };
        (inside.device != NO_DEVICE).then_some(inside)
    }

    /// Wires the doorbells to the eventfds by which the guest kicks; each rings once, since the guest may have kicked
    /// before. Runs on the library's thread that handles this device's messages, and alone changes its rings.
    fn wire_doorbells(&self, device: c_int) {
        let enabled = self.receive_enabled.load(Ordering::Relaxed);
        for (queue, side) in self.receive.iter().enumerate() {
            let Some(doorbell) = &side.doorbell else { continue };
            let (mut kicks, mut complete) = (Vec::new(), true);
            let mut pairs = self.pairs_of(queue as u16) & enabled;
            while pairs != 0 {
                let pair = pairs.trailing_zeros();
                pairs &= pairs - 1;
                let mut ring = ffi::rte_vhost_vring::default();
                // SAFETY: the device exists while its callback runs; the library checks the virtqueue's number and
                // fills the struct.
                let result = unsafe {
                    ffi::rte_vhost_get_vhost_vring(device, virtqueue_of_guest_transmit(pair), &mut ring)
                };
                let eventfd = (result == 0).then(|| doorbell::own(ring.kickfd)).flatten();
                complete &= eventfd.is_some();
                eventfd.iter().for_each(doorbell::kick);
                kicks.extend(eventfd);
            }
            // A guest that polls on one of its rings does not kick there.
            doorbell.wire(if complete { kicks } else { Vec::new() });
        }
    }

    /// Every pair whose number is `queue` modulo the port's queues.
    #[inline]
    fn pairs_of(&self, queue: u16) -> u64 {
        let queues = self.receive.len();
        let mut mask = 0;
        let mut pair = usize::from(queue);
        while pair < usize::from(MOST_QUEUES) {
            mask |= 1 << pair;
            pair += queues;
        }
        mask
    }

    /// Takes the device away and waits for those inside. Runs on a thread of the library, or the control thread.
    fn leave(&self) {
        self.device.store(NO_DEVICE, Ordering::SeqCst);
        for side in self.receive.iter().chain(self.transmit.iter()) {
            // A burst is over in microseconds.
            while side.inside.load(Ordering::SeqCst) != 0 {
                thread::yield_now();
            }
            side.quiet.store(0, Ordering::Relaxed);
            if let Some(doorbell) = &side.doorbell {
                doorbell.wire(Vec::new());
            }
        }
    }
}

impl Vhost {
    /// Registers the socket; the guest may come at any time.
    pub(super) fn open(
        socket: &Path,
        server: bool,
        queues: u16,
        context: &OpenContext<'_>,
    ) -> Result<Vhost, OpenError> {
        let queues = queues.max(1);
        if queues > MOST_QUEUES {
            return Err(OpenError::Queues {
                port: context.name.to_owned(),
                device: format!("vhost-user {}", socket.display()),
                queues,
                available: MOST_QUEUES,
            });
        }
        let c_socket = check_path(socket, server, context)?;
        let shared = Arc::new(Shared {
            device: AtomicI32::new(NO_DEVICE),
            receive_enabled: AtomicU64::new(0),
            transmit_enabled: AtomicU64::new(0),
            capabilities: AtomicU8::new(0),
            packed: AtomicBool::new(false),
            receive: (0..queues)
                .map(|_| Side {
                    doorbell: Doorbell::new(),
                    ..Side::default()
                })
                .collect(),
            transmit: (0..queues).map(|_| Side::default()).collect(),
            oversized: AtomicU64::new(0),
        });
        {
            let mut ports = ports();
            let ports = ports.get_or_insert_default();
            if ports.contains_key(c_socket.as_bytes()) {
                return Err(OpenError::SocketBusy {
                    port: context.name.to_owned(),
                    socket: socket.to_owned(),
                });
            }
            ports.insert(c_socket.as_bytes().to_vec(), Arc::clone(&shared));
        }
        // From here on, dropping undoes all.
        let vhost = Vhost {
            socket: socket.to_owned(),
            c_socket,
            server,
            shared,
            pool: context.pool.clone(),
            mac: Mutex::new(context.mac.unwrap_or(Mac::ZERO)),
        };
        vhost.register(context)?;
        Ok(vhost)
    }

    fn register(&self, context: &OpenContext<'_>) -> Result<(), OpenError> {
        let mark = log::mark();
        let step = |step: &'static str, result: c_int| {
            if result == 0 {
                return Ok(());
            }
            let said = log::since(mark).unwrap_or_else(|| {
                format!(
                    "the vhost library refused; it has {} devices at most",
                    ffi::RTE_MAX_VHOST_DEVICE
                )
            });
            if said.contains("Permission denied") {
                return Err(OpenError::Permission {
                    port: context.name.to_owned(),
                    object: format!("socket {} ({said})", self.socket.display()),
                    capability: "the directory's owner or group",
                });
            }
            Err(OpenError::System {
                port: context.name.to_owned(),
                object: format!("socket {}", self.socket.display()),
                step,
                reason: said,
            })
        };
        let path = self.c_socket.as_ptr();
        let flags = if self.server {
            0
        } else {
            u64::from(ffi::RTE_VHOST_USER_CLIENT)
        };
        // SAFETY: the path is a C string that the library copies; the callbacks are static.
        unsafe {
            step("registering it", ffi::rte_vhost_driver_register(path, flags))?;
            step(
                "choosing features",
                ffi::rte_vhost_driver_disable_features(path, REFUSED_FEATURES),
            )?;
            step(
                "registering callbacks",
                ffi::rte_vhost_driver_callback_register(path, callbacks()),
            )?;
            step("starting", ffi::rte_vhost_driver_start(path))
        }
    }

    /// See [`super::Driver::receive`].
    #[inline]
    pub fn receive(&self, queue: u16, batch: &mut Batch) -> usize {
        let shared = &*self.shared;
        let Some(side) = shared.receive.get(usize::from(queue)) else {
            return 0;
        };
        let Some(inside) = shared.enter(side) else {
            return 0;
        };
        let before = batch.len();
        // Pairs that the guest has beyond the port's are shared out.
        let mut pairs = shared.pairs_of(queue) & shared.receive_enabled.load(Ordering::Relaxed);
        while pairs != 0 {
            let pair = pairs.trailing_zeros();
            pairs &= pairs - 1;
            hush(&inside, pair, virtqueue_of_guest_transmit(pair));
            let (room, free) = batch.room();
            if free == 0 {
                break;
            }
            // SAFETY: the device stays while we are inside, the library checks the virtqueue's number and locks it;
            // `room` has place for `free` pointers, and the packets received are owned by nobody else.
            unsafe {
                let count = ffi::rte_vhost_dequeue_burst(
                    inside.device,
                    virtqueue_of_guest_transmit(pair),
                    self.pool.as_raw(),
                    room,
                    free,
                );
                batch.grow(usize::from(count));
            }
        }
        drop(inside);
        if batch.as_slice()[before..]
            .iter()
            .any(|packet| packet.len() > LARGEST_PACKET)
        {
            self.drop_oversized(before, batch);
        }
        batch.len() - before
    }

    #[cold]
    fn drop_oversized(&self, mut from: usize, batch: &mut Batch) {
        while from < batch.len() {
            if batch.as_slice()[from].len() > LARGEST_PACKET {
                drop(batch.take(from));
                self.shared.oversized.fetch_add(1, Ordering::Relaxed);
            } else {
                from += 1;
            }
        }
    }

    /// See [`super::Driver::transmit`].
    #[inline]
    pub fn transmit(&self, queue: u16, batch: &mut Batch) -> usize {
        let shared = &*self.shared;
        let Some(side) = shared.transmit.get(usize::from(queue)) else {
            return 0;
        };
        let Some(inside) = shared.enter(side) else {
            return 0;
        };
        let enabled = shared.transmit_enabled.load(Ordering::Relaxed);
        let Some(pair) = choose(enabled, queue) else {
            return 0;
        };
        let virtqueue = virtqueue_of_guest_receive(pair);
        hush(&inside, pair, virtqueue);
        let count = batch.len() as u16;
        // SAFETY: the device stays while we are inside, the library checks the virtqueue's number and locks it, and
        // copies from the packets, which stay ours.
        let sent = unsafe { ffi::rte_vhost_enqueue_burst(inside.device, virtqueue, batch.raw_mut(), count) };
        drop(inside);
        batch.free_front(usize::from(sent));
        usize::from(sent)
    }

    /// See [`super::Driver::pending_receive`].
    #[inline]
    pub fn pending_receive(&self, queue: u16) -> bool {
        let shared = &*self.shared;
        let Some(side) = shared.receive.get(usize::from(queue)) else {
            return false;
        };
        let Some(inside) = shared.enter(side) else {
            return false;
        };
        let mut pairs = shared.pairs_of(queue) & shared.receive_enabled.load(Ordering::Relaxed);
        if shared.packed.load(Ordering::Relaxed) {
            return pairs != 0;
        }
        while pairs != 0 {
            let pair = pairs.trailing_zeros();
            pairs &= pairs - 1;
            // SAFETY: the device stays while we are inside; the library checks the virtqueue's number.
            let count =
                unsafe { ffi::rte_vhost_rx_queue_count(inside.device, virtqueue_of_guest_transmit(pair)) };
            if count > 0 {
                return true;
            }
        }
        false
    }

    /// The doorbell of a receive queue.
    pub fn doorbell(&self, queue: u16) -> Option<&Doorbell> {
        self.shared.receive.get(usize::from(queue))?.doorbell.as_ref()
    }

    /// See [`super::Driver::listen`]: asks the guest to kick.
    pub fn listen(&self, queue: u16) -> bool {
        let shared = &*self.shared;
        let Some(side) = shared.receive.get(usize::from(queue)) else {
            return false;
        };
        if !side.doorbell.as_ref().is_some_and(Doorbell::is_heard) {
            return false;
        }
        let Some(inside) = shared.enter(side) else {
            return false;
        };
        let mut pairs = shared.pairs_of(queue) & shared.receive_enabled.load(Ordering::Relaxed);
        let mut heard = pairs != 0;
        while pairs != 0 {
            let pair = pairs.trailing_zeros();
            pairs &= pairs - 1;
            // The next receive asks for silence again.
            side.quiet.fetch_and(!(1 << pair), Ordering::Relaxed);
            // SAFETY: the device stays while we are inside; the library checks the virtqueue's number.
            heard &= unsafe {
                ffi::rte_vhost_enable_guest_notification(inside.device, virtqueue_of_guest_transmit(pair), 1)
            } == 0;
        }
        // The guest sees that it is to kick, or we see what it has made available.
        fence(Ordering::SeqCst);
        heard
    }

    /// See [`super::Driver::receive_queues`].
    #[inline]
    pub fn receive_queues(&self) -> u16 {
        self.shared.receive.len() as u16
    }

    /// See [`super::Driver::transmit_queues`].
    #[inline]
    pub fn transmit_queues(&self) -> u16 {
        self.shared.transmit.len() as u16
    }

    /// See [`super::Driver::capabilities`]: what the guest takes.
    #[inline]
    pub fn capabilities(&self) -> Capabilities {
        let bits = self.shared.capabilities.load(Ordering::Relaxed);
        Capabilities {
            checksum: bits & 1 != 0,
            segmentation: bits & 2 != 0,
        }
    }

    /// See [`super::Driver::link_up`]: a guest is connected and takes packets.
    #[inline]
    pub fn link_up(&self) -> bool {
        self.shared.device.load(Ordering::Relaxed) != NO_DEVICE
            && self.shared.transmit_enabled.load(Ordering::Relaxed) != 0
    }

    /// The guest's address, as the port's settings have it.
    pub fn mac(&self) -> Mac {
        *self.mac.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the guest's address, which QEMU sets.
    pub fn set_mac(&self, mac: Mac) -> Result<(), OpenError> {
        *self.mac.lock().unwrap_or_else(PoisonError::into_inner) = mac;
        Ok(())
    }

    /// Nothing to do: the guest's MTU is set by QEMU (`host_mtu`), DHCP or router advertisements.
    pub fn set_mtu(&self, _mtu: u16) -> Result<(), OpenError> {
        Ok(())
    }

    /// See [`super::Driver::statistics`].
    pub fn statistics(&self) -> DeviceStatistics {
        DeviceStatistics {
            rx_errors: self.shared.oversized.load(Ordering::Relaxed),
            ..DeviceStatistics::default()
        }
    }

    /// See [`super::Driver::describe`].
    pub fn describe(&self) -> String {
        format!(
            "vhost-user {} ({})",
            self.socket.display(),
            if self.server { "server" } else { "client" }
        )
    }
}

impl Drop for Vhost {
    fn drop(&mut self) {
        // Callbacks of this socket run before or in this call, none after it; they need the entry in `PORTS`, and its
        // lock, which is not held here.
        // SAFETY: a C string. A socket that was never registered is refused.
        unsafe { ffi::rte_vhost_driver_unregister(self.c_socket.as_ptr()) };
        if let Some(ports) = ports().as_mut() {
            ports.remove(self.c_socket.as_bytes());
        }
    }
}

const fn virtqueue_of_guest_receive(pair: u32) -> u16 {
    pair as u16 * 2
}

const fn virtqueue_of_guest_transmit(pair: u32) -> u16 {
    pair as u16 * 2 + 1
}

/// The pair of this number if it is enabled, else one of those that are.
#[inline]
fn choose(enabled: u64, queue: u16) -> Option<u32> {
    if enabled & (1 << queue) != 0 {
        return Some(u32::from(queue));
    }
    if enabled == 0 {
        return None;
    }
    let mut left = enabled;
    for _ in 0..u32::from(queue) % enabled.count_ones() {
        left &= left - 1;
    }
    Some(left.trailing_zeros())
}

/// Tells the guest once a connection not to kick this virtqueue: it is polled. Done by the worker, since the callbacks
/// run, in some DPDK releases, with the virtqueue locked.
#[inline]
fn hush(inside: &Inside<'_>, pair: u32, virtqueue: u16) {
    if inside.side.quiet.load(Ordering::Relaxed) & (1 << pair) == 0 {
        // SAFETY: the device stays while we are inside; the library checks the virtqueue's number.
        let result = unsafe { ffi::rte_vhost_enable_guest_notification(inside.device, virtqueue, 0) };
        if result == 0 {
            inside.side.quiet.fetch_or(1 << pair, Ordering::Relaxed);
        }
    }
}

fn check_path(socket: &Path, server: bool, context: &OpenContext<'_>) -> Result<CString, OpenError> {
    let port = || context.name.to_owned();
    let bytes = socket.as_os_str().as_bytes();
    if bytes.len() > LONGEST_PATH {
        let (length, limit) = (bytes.len(), LONGEST_PATH);
        return Err(OpenError::SocketPathTooLong {
            port: port(),
            socket: socket.to_owned(),
            length,
            limit,
        });
    }
    let directory = match socket.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => Path::new("/"),
    };
    if !directory.is_dir() || socket.file_name().is_none() {
        return Err(OpenError::SocketDirectory {
            port: port(),
            socket: socket.to_owned(),
        });
    }
    let exists = || OpenError::SocketExists {
        port: port(),
        socket: socket.to_owned(),
    };
    if let Ok(found) = fs::symlink_metadata(socket) {
        if server {
            // A socket that nobody listens on is what a killed process left.
            let left_over = found.file_type().is_socket()
                && UnixStream::connect(socket)
                    .is_err_and(|reason| reason.kind() == io::ErrorKind::ConnectionRefused);
            if !left_over || fs::remove_file(socket).is_err() {
                return Err(exists());
            }
        } else if !fs::metadata(socket).is_ok_and(|found| found.file_type().is_socket()) {
            // A file, or a link to one: no guest will ever listen there.
            return Err(exists());
        }
    }
    CString::new(bytes).map_err(|_| OpenError::SocketDirectory {
        port: port(),
        socket: socket.to_owned(),
    })
}

struct Callbacks(ffi::rte_vhost_device_ops);

// SAFETY: function pointers and unused null pointers, never written.
unsafe impl Sync for Callbacks {}
// SAFETY: as above.
unsafe impl Send for Callbacks {}

/// The library keeps the pointer.
fn callbacks() -> &'static ffi::rte_vhost_device_ops {
    static CALLBACKS: OnceLock<Callbacks> = OnceLock::new();
    let callbacks = CALLBACKS.get_or_init(|| {
        Callbacks(ffi::rte_vhost_device_ops {
            new_device: Some(new_device),
            destroy_device: Some(destroy_device),
            vring_state_changed: Some(vring_state_changed),
            new_connection: Some(new_connection),
            // Its other members differ from release to release.
            ..Default::default()
        })
    });
    &callbacks.0
}

/// The port of a device number, by the path of its socket.
fn port_of(device: c_int) -> Option<Arc<Shared>> {
    let mut path = [0 as c_char; libc::PATH_MAX as usize];
    // SAFETY: the library writes at most the length given, NUL-terminated.
    let path = unsafe {
        if ffi::rte_vhost_get_ifname(device, path.as_mut_ptr(), path.len() - 1) != 0 {
            return None;
        }
        CStr::from_ptr(path.as_ptr())
    };
    ports().as_ref()?.get(path.to_bytes()).cloned()
}

/// A front end connected; nothing is enabled yet.
unsafe extern "C" fn new_connection(device: c_int) -> c_int {
    static MESSAGES: ffi::rte_vhost_user_extern_ops = ffi::rte_vhost_user_extern_ops {
        pre_msg_handle: None,
        post_msg_handle: Some(after_message),
    };
    let Some(shared) = port_of(device) else { return -1 };
    shared.receive_enabled.store(0, Ordering::Relaxed);
    shared.transmit_enabled.store(0, Ordering::Relaxed);
    // SAFETY: the device exists while its callback runs, and the functions' struct for ever.
    unsafe { ffi::rte_vhost_extern_callback_register(device, &MESSAGES, std::ptr::null_mut()) }
}

/// The library has handled a message of the front end's: other eventfds, perhaps.
unsafe extern "C" fn after_message(device: c_int, _message: *mut c_void) -> ffi::rte_vhost_msg_result {
    if let Some(shared) = port_of(device) {
        shared.wire_doorbells(device);
    }
    ffi::RTE_VHOST_MSG_RESULT_NOT_HANDLED
}

/// The guest's driver is ready.
unsafe extern "C" fn new_device(device: c_int) -> c_int {
    let Some(shared) = port_of(device) else { return -1 };
    let mut features = 0;
    // SAFETY: the device exists while its callback runs; the call fills the number.
    if unsafe { ffi::rte_vhost_get_negotiated_features(device, &mut features) } != 0 {
        return -1;
    }
    let has = |bit: u32| features & (1 << bit) != 0;
    let checksum = has(ffi::VIRTIO_NET_F_GUEST_CSUM);
    let segmentation = checksum && has(ffi::VIRTIO_NET_F_GUEST_TSO4) && has(ffi::VIRTIO_NET_F_GUEST_TSO6);
    shared.capabilities.store(
        u8::from(checksum) | u8::from(segmentation) << 1,
        Ordering::Relaxed,
    );
    shared
        .packed
        .store(has(ffi::VIRTIO_F_RING_PACKED), Ordering::Relaxed);
    shared.device.store(device, Ordering::SeqCst);
    shared.wire_doorbells(device);
    0
}

/// The guest leaves: its memory goes when this returns.
unsafe extern "C" fn destroy_device(device: c_int) {
    if let Some(shared) = port_of(device) {
        shared.leave();
        shared.capabilities.store(0, Ordering::Relaxed);
    }
}

/// A virtqueue was enabled or disabled; may come before [`new_device`].
unsafe extern "C" fn vring_state_changed(device: c_int, virtqueue: u16, enable: c_int) -> c_int {
    let Some(shared) = port_of(device) else { return -1 };
    let pair = virtqueue / 2;
    if pair >= MOST_QUEUES {
        return 0;
    }
    let (mask, sides) = if virtqueue & 1 == 0 {
        (&shared.transmit_enabled, &shared.transmit)
    } else {
        (&shared.receive_enabled, &shared.receive)
    };
    for side in sides.iter() {
        side.quiet.fetch_and(!(1 << pair), Ordering::Relaxed);
    }
    if enable != 0 {
        mask.fetch_or(1 << pair, Ordering::Relaxed);
    } else {
        mask.fetch_and(!(1 << pair), Ordering::Relaxed);
    }
    shared.wire_doorbells(device);
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_sends_on_its_own_pair_or_on_an_enabled_one() {
        assert_eq!(choose(0b1111, 2), Some(2));
        assert_eq!(choose(0b0001, 3), Some(0));
        assert_eq!(choose(0b1010, 2), Some(1));
        assert_eq!(choose(0b1010, 0), Some(1));
        assert_eq!(choose(0b11_0010, 2), Some(5));
        assert_eq!(choose(0, 0), None);
    }
}
