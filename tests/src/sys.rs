//! The few system calls that the standard library lacks: network namespaces, packet sockets, signals.
//!
//! A packet socket shows every byte that crosses an interface. The kernel takes an outer VLAN tag off before any
//! socket sees the frame and hands it over beside it (packet(7), PACKET_AUXDATA); it is put back here.
#![allow(unsafe_code)]

use std::{
    ffi::CString,
    fs::File,
    io::{self, Error},
    mem,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::Path,
    process::Command,
    ptr, thread,
    time::{Duration, Instant},
};

const VIRTIO_HEADER: usize = 10;
const LARGEST_FRAME: usize = 70_000;

/// Runs `work` on a thread that has entered the network namespace at `path`.
pub fn in_namespace<T: Send>(path: &Path, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    let namespace = File::open(path)?;
    thread::scope(|scope| {
        let worker = scope.spawn(|| {
            // SAFETY: plain system call on a descriptor that is open; it changes this thread alone.
            if unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) } != 0 {
                return Err(Error::last_os_error());
            }
            Ok(work())
        });
        worker
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Makes the kernel kill the command when the thread that starts it ends, however it ends.
pub fn end_with_us(command: &mut Command) -> &mut Command {
    // SAFETY: prctl with constant arguments is safe between fork and exec.
    unsafe {
        command.pre_exec(|| {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(Error::last_os_error());
            }
            Ok(())
        })
    }
}

/// Lets this process have as many descriptors as the hard limit allows.
pub fn allow_descriptors() -> io::Result<()> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: both calls use a live struct.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) != 0 {
            return Err(Error::last_os_error());
        }
        limit.rlim_cur = limit.rlim_max;
        match libc::setrlimit(libc::RLIMIT_NOFILE, &limit) {
            0 => Ok(()),
            _ => Err(Error::last_os_error()),
        }
    }
}

/// Sends a signal to a process that we started.
pub fn signal(process: u32, signal: i32) -> io::Result<()> {
    // SAFETY: plain system call.
    match unsafe { libc::kill(process as i32, signal) } {
        0 => Ok(()),
        _ => Err(Error::last_os_error()),
    }
}

/// A frame as an interface delivered it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// From the destination MAC on, VLAN tags included.
    pub bytes: Vec<u8>,
    /// What is left to do for whoever takes it, as virtio says it.
    pub offload: Offload,
}

/// The virtio-net header in front of a frame (virtio 1.2, section 5.1.6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    /// 1: the transport checksum is partial.
    pub flags: u8,
    /// 0: none, 1: TCP over IPv4, 4: TCP over IPv6.
    pub segmentation: u8,
    /// Bytes of headers in front of each segment.
    pub header_length: u16,
    /// Payload of each segment.
    pub segment_size: u16,
    /// Where the checksum begins.
    pub checksum_start: u16,
    /// Where it goes, from there.
    pub checksum_offset: u16,
}

impl Offload {
    /// In the kernel's byte order.
    pub fn bytes(self) -> [u8; VIRTIO_HEADER] {
        let mut bytes = [0; VIRTIO_HEADER];
        bytes[0] = self.flags;
        bytes[1] = self.segmentation;
        let fields = [
            self.header_length,
            self.segment_size,
            self.checksum_start,
            self.checksum_offset,
        ];
        for (slot, field) in bytes[2..].chunks_exact_mut(2).zip(fields) {
            slot.copy_from_slice(&field.to_ne_bytes());
        }
        bytes
    }

    /// The other way round.
    pub fn parse(bytes: &[u8; VIRTIO_HEADER]) -> Self {
        let field = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        Offload {
            flags: bytes[0],
            segmentation: bytes[1],
            header_length: field(2),
            segment_size: field(4),
            checksum_start: field(6),
            checksum_offset: field(8),
        }
    }
}

/// Sends and receives whole frames on one interface.
pub struct PacketSocket {
    socket: OwnedFd,
}

impl PacketSocket {
    /// Opens one on an interface of the caller's network namespace.
    pub fn open(interface: &str) -> io::Result<Self> {
        let name = CString::new(interface)?;
        // SAFETY: `name` is a C string.
        let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
        if index == 0 {
            return Err(Error::last_os_error());
        }
        let protocol = (libc::ETH_P_ALL as u16).to_be();
        // SAFETY: plain system call; the result is checked before it is owned.
        let socket = unsafe {
            libc::socket(
                libc::AF_PACKET,
                libc::SOCK_RAW | libc::SOCK_CLOEXEC,
                i32::from(protocol),
            )
        };
        if socket < 0 {
            return Err(Error::last_os_error());
        }
        // SAFETY: `socket` is open and nobody else's.
        let socket = unsafe { OwnedFd::from_raw_fd(socket) };
        let socket = PacketSocket { socket };
        socket.set(libc::SOL_PACKET, libc::PACKET_VNET_HDR, 1)?;
        socket.set(libc::SOL_PACKET, libc::PACKET_AUXDATA, 1)?;
        socket.set(libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, 1)?;
        socket.set(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, 32 << 20)?;
        let promiscuous = libc::packet_mreq {
            mr_ifindex: index as i32,
            mr_type: libc::PACKET_MR_PROMISC as u16,
            mr_alen: 0,
            mr_address: [0; 8],
        };
        socket.set_value(libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &promiscuous)?;
        // SAFETY: all zeros is a valid sockaddr_ll.
        let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = protocol;
        address.sll_ifindex = index as i32;
        // SAFETY: `address` is a sockaddr_ll and its length is given.
        let bound = unsafe {
            libc::bind(
                socket.socket.as_raw_fd(),
                ptr::from_ref(&address).cast(),
                mem::size_of_val(&address) as u32,
            )
        };
        if bound != 0 {
            return Err(Error::last_os_error());
        }
        // What other interfaces delivered between socket() and bind() is not ours.
        while socket.receive(Duration::ZERO)?.is_some() {}
        Ok(socket)
    }

    fn set(&self, level: i32, option: i32, value: i32) -> io::Result<()> {
        self.set_value(level, option, &value)
    }

    fn set_value<T>(&self, level: i32, option: i32, value: &T) -> io::Result<()> {
        // SAFETY: `value` lives through the call and its length is given.
        let result = unsafe {
            libc::setsockopt(
                self.socket.as_raw_fd(),
                level,
                option,
                ptr::from_ref(value).cast(),
                mem::size_of::<T>() as u32,
            )
        };
        if result == 0 {
            Ok(())
        } else {
            Err(Error::last_os_error())
        }
    }

    /// Sends a frame, with what is left to do for its receiver.
    pub fn send(&self, frame: &[u8], offload: Offload) -> io::Result<()> {
        let header = offload.bytes();
        let parts = [
            libc::iovec {
                iov_base: header.as_ptr().cast_mut().cast(),
                iov_len: header.len(),
            },
            libc::iovec {
                iov_base: frame.as_ptr().cast_mut().cast(),
                iov_len: frame.len(),
            },
        ];
        // SAFETY: both parts live through the call, which only reads them.
        let sent = unsafe { libc::writev(self.socket.as_raw_fd(), parts.as_ptr(), parts.len() as i32) };
        if sent < 0 {
            Err(Error::last_os_error())
        } else {
            Ok(())
        }
    }

    /// The next frame, if one comes in time.
    pub fn receive(&self, patience: Duration) -> io::Result<Option<Received>> {
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let mut poll = libc::pollfd {
                fd: self.socket.as_raw_fd(),
                events: libc::POLLIN,
                revents: 0,
            };
            // SAFETY: one pollfd that lives through the call. Rounded up, so that the last millisecond is waited for.
            let ready = unsafe { libc::poll(&mut poll, 1, left.as_micros().div_ceil(1000) as i32) };
            if ready < 0 && Error::last_os_error().kind() != io::ErrorKind::Interrupted {
                return Err(Error::last_os_error());
            }
            if ready > 0 {
                match self.receive_now() {
                    // The interface went away or down; the next poll says whether frames are left.
                    Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => {}
                    result => return result.map(Some),
                }
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
        }
    }

    fn receive_now(&self) -> io::Result<Received> {
        let mut header = [0_u8; VIRTIO_HEADER];
        let mut bytes = vec![0_u8; LARGEST_FRAME];
        let mut control = [0_u64; 16];
        let mut parts = [
            libc::iovec {
                iov_base: header.as_mut_ptr().cast(),
                iov_len: header.len(),
            },
            libc::iovec {
                iov_base: bytes.as_mut_ptr().cast(),
                iov_len: bytes.len(),
            },
        ];
        // SAFETY: all zeros is a valid msghdr.
        let mut message: libc::msghdr = unsafe { mem::zeroed() };
        message.msg_iov = parts.as_mut_ptr();
        message.msg_iovlen = parts.len();
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = mem::size_of_val(&control);
        // SAFETY: `message` names buffers that live through the call, with their lengths.
        let length = unsafe { libc::recvmsg(self.socket.as_raw_fd(), &mut message, libc::MSG_DONTWAIT) };
        if length < 0 {
            return Err(Error::last_os_error());
        }
        bytes.truncate(length as usize - VIRTIO_HEADER);
        if let Some(tag) = vlan_tag(&message) {
            bytes.splice(12..12, tag);
        }
        Ok(Received {
            bytes,
            offload: Offload::parse(&header),
        })
    }
}

/// The tag that the kernel took off, if any.
fn vlan_tag(message: &libc::msghdr) -> Option<[u8; 4]> {
    // SAFETY: `message` was filled by recvmsg.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(message) };
    while !header.is_null() {
        // SAFETY: not null, so inside the control buffer.
        let (level, kind) = unsafe { ((*header).cmsg_level, (*header).cmsg_type) };
        if level == libc::SOL_PACKET && kind == libc::PACKET_AUXDATA {
            // SAFETY: the kernel put a tpacket_auxdata behind this header; it may be unaligned.
            let data: libc::tpacket_auxdata = unsafe { ptr::read_unaligned(libc::CMSG_DATA(header).cast()) };
            if data.tp_status & libc::TP_STATUS_VLAN_VALID == 0 {
                return None;
            }
            let kind = if data.tp_status & libc::TP_STATUS_VLAN_TPID_VALID != 0 {
                data.tp_vlan_tpid
            } else {
                0x8100
            };
            let [a, b] = kind.to_be_bytes();
            let [c, d] = data.tp_vlan_tci.to_be_bytes();
            return Some([a, b, c, d]);
        }
        // SAFETY: as above.
        header = unsafe { libc::CMSG_NXTHDR(message, header) };
    }
    None
}
