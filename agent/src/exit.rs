//! Exit codes of weftd, for scripts and service managers.

use crate::{
    config::ConfigError,
    server::{TcpError, socket::SocketError},
    store::StoreError,
    writer::RestoreError,
};
use weft_dataplane::StartError;

/// Anything else: a fault, or a disk that fails.
pub const FAULT: u8 = 1;
/// Wrong arguments or configuration.
pub const CONFIGURATION: u8 = 2;
/// Another weftd uses the state directory.
pub const STATE_IN_USE: u8 = 3;
/// No hugepages, or DPDK does not start.
pub const DATAPLANE: u8 = 4;
/// Permission denied.
pub const PERMISSION: u8 = 5;
/// Another weftd serves the socket.
pub const SOCKET_IN_USE: u8 = 6;
/// The state was written by a newer weftd.
pub const STATE_NEWER: u8 = 7;

/// The table for `--help`.
pub const HELP: &str = "\
Exit codes:
  0  stopped as asked
  1  a fault of weftd or of the disk; the log says which
  2  wrong arguments or configuration
  3  another weftd uses the state directory
  4  no hugepages, or DPDK does not start
  5  permission denied
  6  another weftd serves the socket
  7  the state was written by a newer weftd";

/// Why weftd ends.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Fatal {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Socket(#[from] SocketError),
    #[error("the data plane does not start: {0}")]
    Start(#[source] StartError),
    #[error(transparent)]
    Restore(#[from] RestoreError),
    #[error(transparent)]
    Tcp(#[from] TcpError),
    #[error("{0}")]
    Other(String),
}

impl Fatal {
    /// The exit code.
    pub fn code(&self) -> u8 {
        match self {
            Fatal::Config(_) | Fatal::Tcp(_) => CONFIGURATION,
            Fatal::Store(StoreError::InUse { .. }) => STATE_IN_USE,
            Fatal::Store(StoreError::Permission { .. }) => PERMISSION,
            Fatal::Store(StoreError::Newer { .. }) => STATE_NEWER,
            Fatal::Socket(SocketError::InUse { .. }) => SOCKET_IN_USE,
            Fatal::Socket(SocketError::Permission { .. }) => PERMISSION,
            Fatal::Socket(SocketError::NoSocket { .. }) => CONFIGURATION,
            Fatal::Start(error) if crate::engine::is_permission(error) => PERMISSION,
            Fatal::Start(_) => DATAPLANE,
            Fatal::Store(StoreError::Unusable { .. } | StoreError::Directory { .. })
            | Fatal::Socket(SocketError::Io { .. })
            | Fatal::Restore(_)
            | Fatal::Other(_) => FAULT,
        }
    }
}
