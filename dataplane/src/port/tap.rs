//! A Linux tap: the port of a container, and the host's own path (`weft0`). tun(4), `Documentation/networking/tuntap`.
//!
//! weft holds the descriptors, one a queue; the interface may live in any network namespace and may be moved to
//! another while it is open. Frames carry a virtio-net header, so that checksums and TCP segments of up to 64 KiB are
//! left to the one who can do them best ([`super::virtio`]).
//!
//! Each receive and each sent packet is one system call; a poll of an idle queue is one too, so quiet
//! taps are not polled but [heard](super::doorbell).
#![allow(unsafe_code)]

use std::{
    cell::UnsafeCell,
    fs::{File, OpenOptions},
    io,
    os::{
        fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd},
        unix::fs::OpenOptionsExt,
    },
    path::Path,
    ptr,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use weft_packet::Mac;

use super::{
    Capabilities, OpenContext,
    claim::Claim,
    doorbell::Doorbell,
    error::OpenError,
    netlink::{self, LinkChange, Request},
    virtio,
};
use crate::{
    dpdk::{BURST, Batch, Mbuf, Mempool},
    view::DeviceStatistics,
};

/// MAX_TAP_QUEUES of the kernel.
const MOST_QUEUES: u16 = 256;
/// The largest packet with a segmentation offload, and its link header.
const LARGEST: usize = 65_535 + 22;
/// Segments of a packet that one call sends; more are copied together first.
const MOST_SEGMENTS: usize = 40;

const OFFLOADS: libc::c_uint = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6;
/// Since Linux 5.6, and not yet in the libc crate: a descriptor of the namespace that the interface lives in.
const TUNGETDEVNETNS: libc::Ioctl = 0x54e3;

/// An open tap. Closing the descriptors removes the interface.
pub struct Tap {
    name: String,
    interface: String,
    queues: Box<[Queue]>,
    pool: Mempool,
    mac: Mutex<Mac>,
}

struct Queue {
    file: File,
    claim: Claim,
    /// Rings when the file can be read.
    doorbell: Option<Doorbell>,
    /// Used by the one who holds `claim`.
    receive: UnsafeCell<Receive>,
    no_buffer: AtomicU64,
    receive_errors: AtomicU64,
    transmit_errors: AtomicU64,
}

// SAFETY: `receive` is touched only while `claim` is held, by one thread at a time; the rest is Sync.
unsafe impl Sync for Queue {}

struct Receive {
    /// The buffer of the next packet; kept over reads that find nothing.
    spare: Option<Mbuf>,
    /// What of a packet does not fit the first buffer. Untouched memory until a large packet comes.
    overflow: Box<[u8]>,
}

impl Tap {
    /// Makes the interface `interface`, moves it into `netns` if asked, and brings it up there.
    pub(super) fn open(
        interface: &str,
        queues: u16,
        netns: Option<&Path>,
        context: &OpenContext<'_>,
    ) -> Result<Tap, OpenError> {
        let queues = queues.max(1);
        check_name(interface, context)?;
        if queues > MOST_QUEUES {
            return Err(OpenError::Queues {
                port: context.name.to_owned(),
                device: format!("tap {interface}"),
                queues,
                available: MOST_QUEUES,
            });
        }
        let namespace = netns.map(|path| open_namespace(path, context)).transpose()?;
        let busy = |place: String| OpenError::InterfaceBusy {
            port: context.name.to_owned(),
            interface: interface.to_owned(),
            place,
        };
        if namespace.is_none() && netlink::interface_index(interface).is_some() {
            return Err(busy(String::new()));
        }
        let failed = |step, reason: io::Error| match reason.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => OpenError::Permission {
                port: context.name.to_owned(),
                object: format!("tap \"{interface}\" ({step})"),
                capability: "CAP_NET_ADMIN and access to /dev/net/tun",
            },
            Some(libc::EBUSY | libc::EEXIST) => busy(String::new()),
            _ => OpenError::System {
                port: context.name.to_owned(),
                object: format!("tap \"{interface}\""),
                step,
                reason: reason.to_string(),
            },
        };
        if let (Some(namespace), Some(path)) = (&namespace, netns) {
            let there = netlink::in_namespace(namespace.as_fd(), || Ok(netlink::interface_index(interface)))
                .map_err(|reason| failed("looking into its network namespace", reason))?;
            if there.is_some() {
                return Err(busy(format!(" in {}", path.display())));
            }
        }

        // What goes into a namespace gets its name there: here it may be the host's own (eth0).
        let mut first_name = if namespace.is_some() {
            "weft-tap%d".to_owned()
        } else {
            interface.to_owned()
        };
        let mut made = Vec::new();
        for _ in 0..queues {
            let (file, name) =
                open_queue(&first_name, queues > 1).map_err(|(step, reason)| failed(step, reason))?;
            first_name = name;
            made.push(Queue::new(file));
        }
        let tap = Tap {
            name: context.name.to_owned(),
            interface: interface.to_owned(),
            queues: made.into_boxed_slice(),
            pool: context.pool.clone(),
            mac: Mutex::new(Mac::ZERO),
        };
        if let Some(mac) = context.mac {
            tap.change_mac(mac)
                .map_err(|reason| failed("setting its MAC address", reason))?;
        }
        *tap.mac.lock().unwrap_or_else(PoisonError::into_inner) = tap
            .read_mac()
            .map_err(|reason| failed("reading its MAC address", reason))?;
        if let Some(namespace) = &namespace {
            let index = netlink::interface_index(&first_name)
                .ok_or_else(|| failed("finding it", io::Error::from_raw_os_error(libc::ENODEV)))?;
            let change = LinkChange {
                namespace: Some(namespace.as_fd()),
                name: Some(interface),
                ..LinkChange::default()
            };
            netlink::change_link(index, &change)
                .map_err(|reason| failed("moving it into its network namespace", reason))?;
        }
        let up = LinkChange {
            mtu: Some(u32::from(context.mtu)),
            up: Some(true),
            ..LinkChange::default()
        };
        tap.change(&up)
            .map_err(|reason| failed("setting its MTU and bringing it up", reason))?;
        Ok(tap)
    }

    fn any(&self) -> &File {
        &self.queues[0].file
    }

    /// Changes the interface wherever it lives now.
    fn change(&self, change: &LinkChange<'_>) -> io::Result<()> {
        // The name too may have been changed by whoever moved it.
        let interface = self.current_name()?;
        let act = || {
            let index = netlink::interface_index(&interface)
                .ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))?;
            netlink::change_link(index, change)
        };
        // SAFETY: asks for a descriptor that is then ours.
        let namespace = unsafe {
            let namespace = ioctl(self.any().as_raw_fd(), TUNGETDEVNETNS, ptr::null_mut())?;
            OwnedFd::from_raw_fd(namespace)
        };
        netlink::in_namespace(namespace.as_fd(), act)
    }

    fn current_name(&self) -> io::Result<String> {
        let mut request = Request::new("")?;
        // SAFETY: the call fills the ifreq.
        unsafe {
            ioctl(
                self.any().as_raw_fd(),
                libc::TUNGETIFF,
                (&raw mut request.0).cast(),
            )?
        };
        Ok(request.name())
    }

    fn read_mac(&self) -> io::Result<Mac> {
        let mut request = Request::new("")?;
        // SAFETY: the call fills the hardware address of the ifreq.
        let data = unsafe {
            ioctl(
                self.any().as_raw_fd(),
                libc::SIOCGIFHWADDR,
                (&raw mut request.0).cast(),
            )?;
            request.0.ifr_ifru.ifru_hwaddr.sa_data
        };
        let mut mac = Mac::ZERO;
        for (to, from) in mac.0.iter_mut().zip(data) {
            *to = from as u8;
        }
        Ok(mac)
    }

    fn change_mac(&self, mac: Mac) -> io::Result<()> {
        let mut request = Request::new("")?;
        let mut data = [0; 14];
        for (to, from) in data.iter_mut().zip(mac.0) {
            *to = from as libc::c_char;
        }
        request.0.ifr_ifru.ifru_hwaddr = libc::sockaddr {
            sa_family: libc::ARPHRD_ETHER,
            sa_data: data,
        };
        // SAFETY: the ifreq is filled in, and the call reads it.
        unsafe {
            ioctl(
                self.any().as_raw_fd(),
                libc::SIOCSIFHWADDR,
                (&raw mut request.0).cast(),
            )?
        };
        Ok(())
    }

    /// See [`super::Driver::receive`]. One read a packet, and one more to find the queue empty.
    pub fn receive(&self, queue: u16, batch: &mut Batch) -> usize {
        let Some(queue) = self.queues.get(usize::from(queue)) else {
            return 0;
        };
        let Some(_claimed) = queue.claim.try_take() else {
            return 0;
        };
        // SAFETY: the claim makes this the only use of `receive`.
        let state = unsafe { &mut *queue.receive.get() };
        let before = batch.len();
        // Bounded also when packets are lost for want of buffers.
        for _ in 0..BURST - before {
            let Some(first) = state.spare.take().or_else(|| self.pool.allocate()) else {
                queue.no_buffer.fetch_add(1, Ordering::Relaxed);
                break;
            };
            match self.read(queue, state, first) {
                Read::Packet(packet) => {
                    if let Err(packet) = batch.push(packet) {
                        drop(packet);
                    }
                }
                Read::Dropped => {}
                Read::Nothing => break,
            }
        }
        batch.len() - before
    }

    fn read(&self, queue: &Queue, state: &mut Receive, mut first: Mbuf) -> Read {
        let mut header = [0u8; virtio::LENGTH];
        let first_room = usize::from(self.pool.room());
        let Some(room) = first.append(first_room) else {
            return Read::Dropped;
        };
        let parts = [
            libc::iovec {
                iov_base: header.as_mut_ptr().cast(),
                iov_len: header.len(),
            },
            libc::iovec {
                iov_base: room.as_mut_ptr().cast(),
                iov_len: room.len(),
            },
            libc::iovec {
                iov_base: state.overflow.as_mut_ptr().cast(),
                iov_len: state.overflow.len(),
            },
        ];
        // SAFETY: the parts are live, exclusive memory of the lengths given.
        let got = unsafe { libc::readv(queue.file.as_raw_fd(), parts.as_ptr(), parts.len() as libc::c_int) };
        let Some(length) = usize::try_from(got)
            .ok()
            .and_then(|got| got.checked_sub(header.len()))
        else {
            // Nothing there, or the interface is down or gone. The buffer is kept for the next poll.
            first.clear();
            state.spare = Some(first);
            return Read::Nothing;
        };
        if length == 0 {
            queue.receive_errors.fetch_add(1, Ordering::Relaxed);
            return Read::Dropped;
        }
        if length <= first_room {
            first.trim_back(length);
        } else if !self.append_overflow(&mut first, &state.overflow[..length - first_room]) {
            queue.no_buffer.fetch_add(1, Ordering::Relaxed);
            return Read::Dropped;
        }
        virtio::Header::read(&header).note(&mut first);
        Read::Packet(first)
    }

    fn append_overflow(&self, first: &mut Mbuf, rest: &[u8]) -> bool {
        let mut tail: Option<Mbuf> = None;
        // From the end, so that each buffer is hung before those that follow it.
        for bytes in rest.chunks(usize::from(self.pool.room())).rev() {
            let Some(mut segment) = self.pool.allocate() else {
                return false;
            };
            let Some(room) = segment.append(bytes.len()) else {
                return false;
            };
            room.copy_from_slice(bytes);
            if let Some(tail) = tail.take()
                && segment.chain(tail).is_err()
            {
                return false;
            }
            tail = Some(segment);
        }
        tail.is_none_or(|tail| first.chain(tail).is_ok())
    }

    /// See [`super::Driver::transmit`]. One write a packet. A packet that the kernel refuses for itself is freed and
    /// counted as an error of the device.
    pub fn transmit(&self, queue: u16, batch: &mut Batch) -> usize {
        // The kernel takes writes of several workers side by side; no claim is needed.
        let Some(queue) = self.queues.get(usize::from(queue)) else {
            return 0;
        };
        let mut taken = 0;
        for packet in batch.iter_mut() {
            match write(queue.file.as_raw_fd(), packet) {
                Ok(()) => {}
                // Full; or down (EIO) or gone (EBADFD), which the packets that stay tell the caller.
                Err(libc::EAGAIN | libc::ENOBUFS | libc::EIO | libc::EBADFD) => break,
                Err(_) => {
                    queue.transmit_errors.fetch_add(1, Ordering::Relaxed);
                }
            }
            taken += 1;
        }
        batch.free_front(taken);
        taken
    }

    /// See [`super::Driver::pending_receive`]: only the read itself can tell.
    #[inline]
    pub fn pending_receive(&self, _queue: u16) -> bool {
        true
    }

    /// The doorbell of a receive queue.
    pub fn doorbell(&self, queue: u16) -> Option<&Doorbell> {
        self.queues.get(usize::from(queue))?.doorbell.as_ref()
    }

    /// See [`super::Driver::receive_queues`].
    #[inline]
    pub fn receive_queues(&self) -> u16 {
        self.queues.len() as u16
    }

    /// See [`super::Driver::transmit_queues`].
    #[inline]
    pub fn transmit_queues(&self) -> u16 {
        self.queues.len() as u16
    }

    /// See [`super::Driver::capabilities`].
    #[inline]
    pub fn capabilities(&self) -> Capabilities {
        Capabilities {
            checksum: true,
            segmentation: true,
        }
    }

    /// See [`super::Driver::link_up`]: the interface exists and is up, wherever it lives.
    pub fn link_up(&self) -> bool {
        let mut poll = libc::pollfd {
            fd: self.any().as_raw_fd(),
            events: libc::POLLOUT,
            revents: 0,
        };
        // SAFETY: one live pollfd; the call does not wait.
        let ready = unsafe { libc::poll(&mut poll, 1, 0) };
        // tun says that it takes packets only while the interface is up.
        ready == 1 && poll.revents & libc::POLLOUT != 0 && poll.revents & libc::POLLERR == 0
    }

    /// The container's address.
    pub fn mac(&self) -> Mac {
        *self.mac.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// See [`super::Driver::set_mac`].
    pub fn set_mac(&self, mac: Mac) -> Result<(), OpenError> {
        let mut current = self.mac.lock().unwrap_or_else(PoisonError::into_inner);
        self.change_mac(mac)
            .map_err(|reason| self.failed("setting its MAC address", reason))?;
        *current = mac;
        Ok(())
    }

    /// See [`super::Driver::set_mtu`].
    pub fn set_mtu(&self, mtu: u16) -> Result<(), OpenError> {
        self.change(&LinkChange {
            mtu: Some(u32::from(mtu)),
            ..LinkChange::default()
        })
        .map_err(|reason| self.failed("setting its MTU", reason))
    }

    fn failed(&self, step: &'static str, reason: io::Error) -> OpenError {
        OpenError::System {
            port: self.name.clone(),
            object: format!("tap \"{}\"", self.interface),
            step,
            reason: reason.to_string(),
        }
    }

    /// See [`super::Driver::statistics`].
    pub fn statistics(&self) -> DeviceStatistics {
        let sum = |counter: fn(&Queue) -> &AtomicU64| {
            self.queues
                .iter()
                .map(|queue| counter(queue).load(Ordering::Relaxed))
                .sum()
        };
        DeviceStatistics {
            rx_missed: 0,
            rx_no_buffer: sum(|queue| &queue.no_buffer),
            rx_errors: sum(|queue| &queue.receive_errors),
            tx_errors: sum(|queue| &queue.transmit_errors),
        }
    }

    /// See [`super::Driver::describe`].
    pub fn describe(&self) -> String {
        format!("tap {}", self.interface)
    }
}

enum Read {
    Packet(Mbuf),
    /// Taken from the kernel and lost, counted.
    Dropped,
    Nothing,
}

impl Queue {
    fn new(file: File) -> Queue {
        let doorbell = Doorbell::new();
        if let (Some(doorbell), Ok(same)) = (&doorbell, file.try_clone()) {
            doorbell.wire(vec![same.into()]);
        }
        Queue {
            file,
            claim: Claim::default(),
            doorbell,
            receive: UnsafeCell::new(Receive {
                spare: None,
                overflow: vec![0; LARGEST].into_boxed_slice(),
            }),
            no_buffer: AtomicU64::new(0),
            receive_errors: AtomicU64::new(0),
            transmit_errors: AtomicU64::new(0),
        }
    }
}

/// Sends one packet; the error is the system's number.
fn write(descriptor: RawFd, packet: &mut Mbuf) -> Result<(), i32> {
    if packet.segments() > MOST_SEGMENTS && !packet.linearize() {
        return Err(libc::EMSGSIZE);
    }
    let header = virtio::Header::of(packet).write();
    let nothing = libc::iovec {
        iov_base: ptr::null_mut(),
        iov_len: 0,
    };
    let mut parts = [nothing; MOST_SEGMENTS + 1];
    parts[0] = libc::iovec {
        iov_base: header.as_ptr().cast_mut().cast(),
        iov_len: header.len(),
    };
    let mut count = 1;
    for (part, segment) in parts[1..].iter_mut().zip(packet.segment_slices()) {
        *part = libc::iovec {
            iov_base: segment.as_ptr().cast_mut().cast(),
            iov_len: segment.len(),
        };
        count += 1;
    }
    // SAFETY: the parts are live memory of the lengths given, which the call reads.
    let sent = unsafe { libc::writev(descriptor, parts.as_ptr(), count) };
    if sent >= 0 {
        return Ok(());
    }
    Err(io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL))
}

fn check_name(interface: &str, context: &OpenContext<'_>) -> Result<(), OpenError> {
    let reason = if interface.is_empty() {
        "it is empty"
    } else if interface.len() >= libc::IFNAMSIZ {
        "it has more than 15 bytes"
    } else if interface == "." || interface == ".." || interface.contains(['/', ':', '%']) {
        "it is not a name that the kernel takes"
    } else if interface
        .bytes()
        .any(|byte| byte.is_ascii_whitespace() || byte.is_ascii_control())
    {
        "it has blanks"
    } else {
        return Ok(());
    };
    Err(OpenError::InterfaceName {
        port: context.name.to_owned(),
        interface: interface.to_owned(),
        reason,
    })
}

fn open_namespace(path: &Path, context: &OpenContext<'_>) -> Result<File, OpenError> {
    let refused = |reason: String| OpenError::Namespace {
        port: context.name.to_owned(),
        netns: path.to_owned(),
        reason,
    };
    let file = File::open(path).map_err(|reason| refused(reason.to_string()))?;
    // What cannot be entered is no network namespace, whatever its path.
    netlink::in_namespace(file.as_fd(), || Ok(())).map_err(|reason| match reason.raw_os_error() {
        Some(libc::EPERM) => OpenError::Permission {
            port: context.name.to_owned(),
            object: format!("network namespace {}", path.display()),
            capability: "CAP_SYS_ADMIN",
        },
        _ => refused(format!("it is not a network namespace ({reason})")),
    })?;
    Ok(file)
}

/// # Safety
/// `argument` is what the request `number` takes.
unsafe fn ioctl(
    descriptor: RawFd,
    number: libc::Ioctl,
    argument: *mut libc::c_void,
) -> io::Result<libc::c_int> {
    // SAFETY: the caller's.
    let result = unsafe { libc::ioctl(descriptor, number, argument) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// The descriptor, and the name that the kernel gave the interface.
fn open_queue(interface: &str, several: bool) -> Result<(File, String), (&'static str, io::Error)> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open("/dev/net/tun")
        .map_err(|reason| ("opening /dev/net/tun", reason))?;
    let mut request = Request::new(interface).map_err(|reason| ("naming it", reason))?;
    let mut flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    if several {
        flags |= libc::IFF_MULTI_QUEUE;
    }
    request.0.ifr_ifru.ifru_flags = flags as libc::c_short;
    let mut header_length = virtio::LENGTH as libc::c_int;
    let descriptor = file.as_raw_fd();
    // SAFETY: each request takes what is given: an ifreq, a pointer to an int, and an integer.
    unsafe {
        ioctl(descriptor, libc::TUNSETIFF, (&raw mut request.0).cast())
            .map_err(|reason| ("making it", reason))?;
        ioctl(descriptor, libc::TUNSETVNETHDRSZ, (&raw mut header_length).cast())
            .map_err(|reason| ("setting its header's length", reason))?;
        ioctl(
            descriptor,
            libc::TUNSETOFFLOAD,
            ptr::without_provenance_mut(OFFLOADS as usize),
        )
        .map_err(|reason| ("setting its offloads", reason))?;
    }
    Ok((file, request.name()))
}
