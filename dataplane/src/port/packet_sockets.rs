//! Tells the packet sockets of an af_packet device to leave out what the kernel itself sends.
//!
//! A packet socket gets a copy of each frame that leaves the interface, and DPDK's driver hands it on as received. The
//! driver has no setting for that and keeps its sockets to itself; they are those that this process has after the
//! device was probed and had not before.
#![allow(unsafe_code)]

use std::{collections::HashSet, fs, os::fd::RawFd};

/// The packet sockets that this process has open.
pub(super) struct PacketSockets(HashSet<RawFd>);

impl PacketSockets {
    /// Those open now.
    pub(super) fn now() -> PacketSockets {
        let descriptors = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
        let numbers = descriptors.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        PacketSockets(
            numbers
                .filter(|descriptor| is_packet_socket(*descriptor))
                .collect(),
        )
    }

    /// Tells the sockets that were opened since then. One that cannot be told goes on to copy all.
    pub(super) fn ignore_outgoing_on_newer(&self) {
        let mut program = INCOMING_ONLY;
        let filter = libc::sock_fprog {
            len: program.len() as u16,
            filter: program.as_mut_ptr(),
        };
        for descriptor in PacketSockets::now().0.difference(&self.0) {
            // SAFETY: an open socket; the kernel copies the program, which lives until then.
            unsafe {
                libc::setsockopt(
                    *descriptor,
                    libc::SOL_SOCKET,
                    libc::SO_ATTACH_FILTER,
                    (&raw const filter).cast(),
                    size_of_val(&filter) as libc::socklen_t,
                );
            }
        }
    }
}

/// Classic BPF: all of a frame unless it leaves. PACKET_IGNORE_OUTGOING would be simpler, but the kernel does not look
/// at it on sockets that share an interface (PACKET_FANOUT), as the driver's do.
const INCOMING_ONLY: [libc::sock_filter; 4] = [
    instruction(
        libc::BPF_LD | libc::BPF_B | libc::BPF_ABS,
        0,
        0,
        (libc::SKF_AD_OFF + libc::SKF_AD_PKTTYPE) as u32,
    ),
    instruction(
        libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
        0,
        1,
        libc::PACKET_OUTGOING as u32,
    ),
    instruction(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
    instruction(libc::BPF_RET | libc::BPF_K, 0, 0, u32::MAX),
];

const fn instruction(code: libc::c_uint, if_true: u8, if_false: u8, operand: u32) -> libc::sock_filter {
    libc::sock_filter {
        code: code as u16,
        jt: if_true,
        jf: if_false,
        k: operand,
    }
}

fn is_packet_socket(descriptor: RawFd) -> bool {
    let mut family: libc::c_int = 0;
    let mut length = size_of_val(&family) as libc::socklen_t;
    // SAFETY: asks for an int of a descriptor that may be anything; what is no socket is refused.
    let result = unsafe {
        libc::getsockopt(
            descriptor,
            libc::SOL_SOCKET,
            libc::SO_DOMAIN,
            (&raw mut family).cast(),
            &mut length,
        )
    };
    result == 0 && family == libc::AF_PACKET
}
