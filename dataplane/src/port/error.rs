//! Why a port's device could not be opened, and what to do about it.

use std::path::PathBuf;

use thiserror::Error;

/// A device was not opened; nothing of it is left behind.
#[derive(Debug, Error)]
#[allow(missing_docs)]
pub enum OpenError {
    #[error("port \"{port}\": a VLAN sub-interface has no device of its own; open its parent")]
    NoDevice { port: String },
    #[error("port \"{port}\": unknown device \"{device}\": {reason}; {help}")]
    UnknownDevice {
        port: String,
        device: String,
        reason: String,
        help: &'static str,
    },
    #[error("port \"{port}\": device \"{device}\" is already used by another port; unplug that first")]
    DeviceBusy { port: String, device: String },
    #[error(
        "port \"{port}\": no room for device \"{device}\": this DPDK has {limit} ethdev ports and all are taken; \
         use vhost-user or tap ports for guests and containers, or unplug an ethdev"
    )]
    TooManyEthdevs {
        port: String,
        device: String,
        limit: u32,
    },
    #[error("port \"{port}\": {queues} queues asked of \"{device}\", it has {available}; ask for fewer")]
    Queues {
        port: String,
        device: String,
        queues: u16,
        available: u16,
    },
    #[error("port \"{port}\": device \"{device}\" does not start: {step}: {reason}")]
    Start {
        port: String,
        device: String,
        step: &'static str,
        reason: String,
    },
    #[error(
        "port \"{port}\": socket {socket} exists already; choose another path, remove it if its owner is gone, \
         or set server: false if it is the guest's"
    )]
    SocketExists { port: String, socket: PathBuf },
    #[error("port \"{port}\": socket {socket}: its directory does not exist; make it first")]
    SocketDirectory { port: String, socket: PathBuf },
    #[error(
        "port \"{port}\": socket {socket}: a path has {limit} bytes at most, this one {length}; choose a shorter one"
    )]
    SocketPathTooLong {
        port: String,
        socket: PathBuf,
        length: usize,
        limit: usize,
    },
    #[error("port \"{port}\": socket {socket} is used by another port; choose another path")]
    SocketBusy { port: String, socket: PathBuf },
    #[error("port \"{port}\": interface name \"{interface}\": {reason}; choose another name")]
    InterfaceName {
        port: String,
        interface: String,
        reason: &'static str,
    },
    #[error(
        "port \"{port}\": interface \"{interface}\" exists already{place}; choose another name, or remove it first"
    )]
    InterfaceBusy {
        port: String,
        interface: String,
        place: String,
    },
    #[error("port \"{port}\": network namespace {netns}: {reason}; make it first (ip netns add NAME)")]
    Namespace {
        port: String,
        netns: PathBuf,
        reason: String,
    },
    #[error("port \"{port}\": no permission for {object}; run as root, or give the process {capability}")]
    Permission {
        port: String,
        object: String,
        capability: &'static str,
    },
    #[error("port \"{port}\": {object}: {step}: {reason}")]
    System {
        port: String,
        object: String,
        step: &'static str,
        reason: String,
    },
    #[error(
        "port \"{port}\": the kernel must be kept out of \"{interface}\", and nft is missing: apt-get install nftables"
    )]
    NftMissing { port: String, interface: String },
    #[error("port \"{port}\": mtu {mtu}: \"{device}\" takes {least} to {most}")]
    Mtu {
        port: String,
        device: String,
        mtu: u16,
        least: u16,
        most: u16,
    },
}
