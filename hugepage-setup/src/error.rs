//! What can go wrong while a host is prepared, each with the way out.

use std::io;

/// A preparation that was refused or failed. `Display` says what; [`SetupError::help`] says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// The kernel offers no hugepages of this size.
    #[error("hugepages of {size} are not offered by this kernel; it has {known}")]
    UnknownPageSize {
        /// The size that was asked for.
        size: String,
        /// The sizes that exist.
        known: String,
    },
    /// A size that is no size.
    #[error("page size {0:?} is not a size such as 2M or 1G")]
    BadPageSize(String),
    /// A CPU list that cannot be read.
    #[error("CPU list {0:?} is not a list such as 1-3,8")]
    BadCpuList(String),
    /// The node does not exist.
    #[error("NUMA node {node} does not exist; there is {known}")]
    UnknownNode {
        /// The node that was asked for.
        node: u32,
        /// The nodes that exist.
        known: String,
    },
    /// A pool of no pages is not reserved.
    #[error("0 hugepages were asked for")]
    NoPages,
    /// The kernel found too little contiguous memory. What it had found was given back.
    #[error("only {got} of {asked} hugepages could be had; the pool is back at {before}")]
    NotEnoughMemory {
        /// Pages that were asked for.
        asked: u64,
        /// Pages that the kernel found.
        got: u64,
        /// Pages before and after.
        before: u64,
    },
    /// Not a PCI address.
    #[error("{0:?} is not a PCI address such as 0000:03:00.0")]
    BadPciAddress(String),
    /// No such device.
    #[error("PCI device {0} does not exist")]
    UnknownDevice(String),
    /// The host uses the device itself.
    #[error("{device} is interface {interface}, which is in use: {why}")]
    DeviceInUse {
        /// PCI address.
        device: String,
        /// Its Linux interface.
        interface: String,
        /// How it is used.
        why: String,
    },
    /// The driver is neither loaded nor there to be loaded.
    #[error("driver {driver} is neither loaded nor a module of kernel {kernel}")]
    NoDriver {
        /// Name of the driver.
        driver: String,
        /// Release of the kernel.
        kernel: String,
    },
    /// vfio-pci without an IOMMU.
    #[error("{0} is in no IOMMU group: the IOMMU is off or missing")]
    NoIommu(String),
    /// Devices of one IOMMU group must be bound together.
    #[error("{device} shares IOMMU group {group} with {mates}, which other drivers hold")]
    SharedGroup {
        /// PCI address.
        device: String,
        /// Number of the group.
        group: String,
        /// The others, each with its driver.
        mates: String,
    },
    /// The kernel took the request, but the driver did not take the device.
    #[error("{device} was offered to {driver}, but is held by {held}")]
    NotTaken {
        /// PCI address.
        device: String,
        /// The driver that should have it.
        driver: String,
        /// The driver that has it.
        held: String,
    },
    /// Something else is mounted there.
    #[error("{0} is a mount point already, of another kind")]
    MountPointTaken(String),
    /// The file system or a command refused.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The journal cannot be read.
    #[error("{path}: not a journal of hugepage-setup: {why}")]
    BadJournal {
        /// The journal's file.
        path: String,
        /// What is wrong with it.
        why: String,
    },
}

impl SetupError {
    /// What to do about it.
    pub fn help(&self) -> Option<String> {
        Some(match self {
            Self::UnknownPageSize { .. } => {
                "1G pages need the CPU flag pdpe1gb; choose a size that the kernel has".to_owned()
            }
            Self::BadPageSize(_) => "write a number and K, M or G".to_owned(),
            Self::BadCpuList(_) => "write CPU numbers and ranges, joined by commas".to_owned(),
            Self::UnknownNode { .. } => {
                "see the nodes with `hugepage-setup show`, or leave --node out".to_owned()
            }
            Self::NoPages => "ask for at least one; `hugepage-setup undo` gives pages back".to_owned(),
            Self::NotEnoughMemory { got, .. } => format!(
                "memory is in use or fragmented: ask for {got} at most, stop what uses memory, or reserve at boot \
                 (hugepages=N on the kernel command line)"
            ),
            Self::BadPciAddress(_) | Self::UnknownDevice(_) => {
                "see the devices with `hugepage-setup show`".to_owned()
            }
            Self::DeviceInUse { interface, .. } => format!(
                "move the addresses and routes of {interface} elsewhere and set it down, or use --force if you have \
                 another way to this host"
            ),
            Self::NoDriver { driver, .. } if driver == "vfio-pci" => {
                "this kernel was built without vfio: use a distribution kernel, or an af_packet or af_xdp uplink, \
                 which leave the NIC with its kernel driver"
                    .to_owned()
            }
            Self::NoDriver { .. } => "check the name with `ls /sys/bus/pci/drivers`".to_owned(),
            Self::NoIommu(_) => {
                "switch the IOMMU on in the firmware and boot with intel_iommu=on iommu=pt (Intel) or iommu=pt (AMD)"
                    .to_owned()
            }
            Self::SharedGroup { .. } => {
                "bind the whole group, or move the card to a slot with a group of its own".to_owned()
            }
            Self::NotTaken { .. } => "look at the kernel's log: `dmesg | tail`".to_owned(),
            Self::MountPointTaken(_) => "choose another directory with --at".to_owned(),
            Self::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "run as root (sudo hugepage-setup …)".to_owned()
            }
            Self::BadJournal { path, .. } => {
                format!("move {path} away; what it recorded must then be undone by hand")
            }
            Self::Io { .. } => return None,
        })
    }

    /// Wraps an I/O error with what was tried.
    pub fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}
