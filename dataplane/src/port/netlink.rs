//! The few words of rtnetlink(7) that ports need: change a link, move it into a namespace, act inside a namespace.
//!
//! Synchronous on purpose: ports are opened by one control thread, and the data plane has no async runtime.
#![allow(unsafe_code)]

use std::{
    ffi::CString,
    io, mem,
    net::IpAddr,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    thread,
};

use ipnet::IpNet;
use weft_packet::Mac;

/// What to change of a link; what is None stays.
#[derive(Default)]
pub(crate) struct LinkChange<'a> {
    pub(crate) mac: Option<Mac>,
    pub(crate) mtu: Option<u32>,
    pub(crate) up: Option<bool>,
    pub(crate) namespace: Option<BorrowedFd<'a>>,
    /// A new name; with a namespace, the name there.
    pub(crate) name: Option<&'a str>,
}

/// Index of an interface in the caller's namespace; None: there is none of that name.
pub(crate) fn interface_index(name: &str) -> Option<u32> {
    let name = CString::new(name).ok()?;
    // SAFETY: reads a C string.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => None,
        index => Some(index),
    }
}

/// Flags of an interface (IFF_UP, IFF_RUNNING, …) in the caller's namespace.
pub(crate) fn interface_flags(name: &str) -> io::Result<u32> {
    let mut request = Request::new(name)?;
    request.ioctl(libc::SIOCGIFFLAGS)?;
    // SAFETY: the call filled the flags.
    Ok(unsafe { request.0.ifr_ifru.ifru_flags } as u16 as u32)
}

/// Largest L3 packet of an interface in the caller's namespace.
pub(crate) fn interface_mtu(name: &str) -> io::Result<u32> {
    let mut request = Request::new(name)?;
    request.ioctl(libc::SIOCGIFMTU)?;
    // SAFETY: the call filled the MTU.
    Ok(unsafe { request.0.ifr_ifru.ifru_mtu } as u32)
}

/// An `ifreq` that names an interface.
pub(crate) struct Request(pub(crate) libc::ifreq);

impl Request {
    pub(crate) fn new(name: &str) -> io::Result<Self> {
        // SAFETY: an all-zero ifreq is valid.
        let mut request: libc::ifreq = unsafe { mem::zeroed() };
        if name.len() >= request.ifr_name.len() {
            return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG));
        }
        for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
            *to = from as libc::c_char;
        }
        Ok(Request(request))
    }

    /// The name that it holds now.
    pub(crate) fn name(&self) -> String {
        let bytes = self
            .0
            .ifr_name
            .iter()
            .take_while(|byte| **byte != 0)
            .map(|byte| *byte as u8);
        String::from_utf8_lossy(&bytes.collect::<Vec<u8>>()).into_owned()
    }

    fn ioctl(&mut self, number: libc::Ioctl) -> io::Result<()> {
        let socket = socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
        // SAFETY: an open socket and a valid ifreq.
        check(unsafe { libc::ioctl(socket.as_raw_fd(), number, &mut self.0) })?;
        Ok(())
    }
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn socket(family: libc::c_int, kind: libc::c_int, protocol: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: creates a descriptor that nobody else owns.
    unsafe {
        let socket = check(libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol))?;
        Ok(OwnedFd::from_raw_fd(socket))
    }
}

/// Changes the link with this index in the caller's namespace.
pub(crate) fn change_link(index: u32, change: &LinkChange<'_>) -> io::Result<()> {
    let mut message = Message::new(libc::RTM_NEWLINK, 0);
    message.link_header(index, change.up);
    if let Some(mac) = change.mac {
        message.attribute(libc::IFLA_ADDRESS, &mac.0);
    }
    if let Some(mtu) = change.mtu {
        message.attribute(libc::IFLA_MTU, &mtu.to_ne_bytes());
    }
    if let Some(namespace) = change.namespace {
        message.attribute(libc::IFLA_NET_NS_FD, &namespace.as_raw_fd().to_ne_bytes());
    }
    if let Some(name) = change.name {
        let mut name = name.as_bytes().to_vec();
        name.push(0);
        message.attribute(libc::IFLA_IFNAME, &name);
    }
    message.exchange()
}

/// Adds an address with the length of its subnet to the interface with this index; one that is there stays.
pub(crate) fn add_address(index: u32, address: IpNet) -> io::Result<()> {
    let (family, octets) = match address.addr() {
        IpAddr::V4(address) => (libc::AF_INET, address.octets().to_vec()),
        IpAddr::V6(address) => (libc::AF_INET6, address.octets().to_vec()),
    };
    let mut message = Message::new(libc::RTM_NEWADDR, libc::NLM_F_CREATE | libc::NLM_F_REPLACE);
    // struct ifaddrmsg. Nobody else has the address, so it is not asked for first (duplicate address detection).
    message
        .0
        .extend([family as u8, address.prefix_len(), libc::IFA_F_NODAD as u8, 0]);
    message.0.extend(index.to_ne_bytes());
    message.attribute(libc::IFA_LOCAL, &octets);
    message.attribute(libc::IFA_ADDRESS, &octets);
    message.exchange()
}

struct Message(Vec<u8>);

impl Message {
    /// struct nlmsghdr
    fn new(kind: u16, flags: libc::c_int) -> Self {
        let mut header = vec![0; 16];
        header[4..6].copy_from_slice(&kind.to_ne_bytes());
        let flags = (libc::NLM_F_REQUEST | libc::NLM_F_ACK | flags) as u16;
        header[6..8].copy_from_slice(&flags.to_ne_bytes());
        header[8..12].copy_from_slice(&1u32.to_ne_bytes());
        Message(header)
    }

    /// struct ifinfomsg
    fn link_header(&mut self, index: u32, up: Option<bool>) {
        let flag = libc::IFF_UP as u32;
        let (flags, mask) = up.map_or((0, 0), |up| (if up { flag } else { 0 }, flag));
        self.0.extend([libc::AF_UNSPEC as u8, 0, 0, 0]);
        self.0.extend(index.to_ne_bytes());
        self.0.extend(flags.to_ne_bytes());
        self.0.extend(mask.to_ne_bytes());
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.0.extend(((4 + value.len()) as u16).to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    /// Sends it and waits for the kernel's answer.
    fn exchange(mut self) -> io::Result<()> {
        let length = self.0.len() as u32;
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        let socket = socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE)?;
        // SAFETY: sends the bytes of a live vector. An unconnected netlink socket talks to the kernel.
        let sent = unsafe { libc::send(socket.as_raw_fd(), self.0.as_ptr().cast(), self.0.len(), 0) };
        if sent < 0 {
            return Err(io::Error::last_os_error());
        }
        let mut answer = [0u8; 4096];
        // SAFETY: receives into a live array.
        let got = unsafe { libc::recv(socket.as_raw_fd(), answer.as_mut_ptr().cast(), answer.len(), 0) };
        if got < 0 {
            return Err(io::Error::last_os_error());
        }
        // struct nlmsghdr (16 bytes), then struct nlmsgerr, which starts with the negative error number.
        let kind = u16::from_ne_bytes([answer[4], answer[5]]);
        if got < 20 || i32::from(kind) != libc::NLMSG_ERROR {
            return Err(io::Error::other("rtnetlink gave no acknowledgement"));
        }
        match i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]]) {
            0 => Ok(()),
            error => Err(io::Error::from_raw_os_error(-error)),
        }
    }
}

/// Runs `work` inside a network namespace, in a thread of its own, so that the caller stays where it is.
pub(crate) fn in_namespace<T: Send>(
    namespace: BorrowedFd<'_>,
    work: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new()
            .name("netns".to_owned())
            .spawn_scoped(scope, || {
                // SAFETY: changes the namespace of this thread alone.
                check(unsafe { libc::setns(namespace.as_fd().as_raw_fd(), libc::CLONE_NEWNET) })?;
                work()
            })?;
        thread
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the thread in the namespace panicked")))
    })
}
