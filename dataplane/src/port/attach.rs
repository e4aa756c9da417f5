//! Finds, probes and removes the devices behind an ethdev port.
#![allow(unsafe_code)]

use std::{collections::HashSet, ffi::CString};

use dpdk_sys as ffi;

use super::{
    OpenContext,
    device::Device,
    error::OpenError,
    netlink::{self, LinkChange},
};
use crate::dpdk::{errno_text, log};

/// What af_packet needs of its frames for itself (TPACKET2_HDRLEN less the address), rounded up.
pub(super) const AF_PACKET_OVERHEAD: u32 = 64;
/// What fits the largest frame whose size is a power of two and a 16-bit number.
pub(super) const AF_PACKET_LARGEST_MTU: u16 = 32_000;

const HELP_PCI: &str = "check lspci, and give it to vfio-pci with hugepage-setup bind";
const HELP_VIRTUAL: &str = "check the driver's name and its arguments (DPDK's guide to NIC drivers)";
const HELP_INTERFACE: &str = "check ip link";

/// Probed devices: the port's own first, then a bond's members. Dropping closes and removes them, in that order.
/// Used by the thread that holds `ethdev::CONTROL` alone.
pub(super) struct Attached(Vec<u16>);

impl Attached {
    /// The port's own id.
    pub(super) fn port(&self) -> u16 {
        self.0[0]
    }

    /// Its own and its members' ids.
    pub(super) fn all(&self) -> impl Iterator<Item = u16> {
        self.0.iter().copied()
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        for port in &self.0 {
            close(*port);
        }
    }
}

/// A kernel interface that a device works on.
pub(super) struct Interface {
    pub(super) name: String,
    /// Frames are copied to us, and the kernel gets them too.
    pub(super) copied: bool,
}

/// A frame slot of af_packet that takes frames of this length.
pub(super) fn frame_size(frame: u32) -> u32 {
    (frame + AF_PACKET_OVERHEAD).next_power_of_two().max(2048)
}

/// Adds the arguments that queues and MTU ask for, where they are not given.
pub(super) fn prepare(device: &mut Device, queues: u16, frame: u32) {
    if device.is_driver("net_af_packet") {
        if queues > 1 {
            device.default_argument("qpairs", queues.to_string());
        }
        let slot = frame_size(frame);
        if slot > 2048 {
            device.default_argument("framesz", slot.to_string());
            device.default_argument("blocksz", slot.max(65536).to_string());
        }
    }
    if device.is_driver("net_af_xdp") && queues > 1 {
        device.default_argument("queue_count", queues.to_string());
    }
    for member in &mut device.members {
        prepare(member, queues, frame);
    }
}

/// The kernel's interfaces that the device and its members work on; an error if one does not exist.
pub(super) fn kernel_interfaces(
    device: &Device,
    context: &OpenContext<'_>,
) -> Result<Vec<Interface>, OpenError> {
    let mut interfaces = Vec::new();
    let copied = device.is_driver("net_af_packet");
    if copied || device.is_driver("net_af_xdp") {
        let refused = |reason: String| OpenError::UnknownDevice {
            port: context.name.to_owned(),
            device: device.words(),
            reason,
            help: HELP_INTERFACE,
        };
        let name = device
            .argument("iface")
            .ok_or_else(|| refused("it names no interface (iface=NAME)".to_owned()))?;
        if netlink::interface_index(name).is_none() {
            return Err(refused(format!(
                "no interface \"{name}\" in this network namespace"
            )));
        }
        interfaces.push(Interface {
            name: name.to_owned(),
            copied,
        });
    }
    for member in &device.members {
        interfaces.extend(kernel_interfaces(member, context)?);
    }
    Ok(interfaces)
}

/// Brings the interface up, with an MTU large enough.
pub(super) fn prepare_interface(
    interface: &Interface,
    words: &str,
    context: &OpenContext<'_>,
) -> Result<(), OpenError> {
    let name = &interface.name;
    let failed = |step, reason: std::io::Error| match reason.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => OpenError::Permission {
            port: context.name.to_owned(),
            object: format!("interface \"{name}\""),
            capability: "CAP_NET_ADMIN and CAP_NET_RAW",
        },
        _ => OpenError::System {
            port: context.name.to_owned(),
            object: format!("interface \"{name}\" of \"{words}\""),
            step,
            reason: reason.to_string(),
        },
    };
    raise_mtu(name, context.mtu).map_err(|reason| failed("raising its MTU", reason))?;
    let index = netlink::interface_index(name)
        .ok_or_else(|| failed("finding it", std::io::Error::from_raw_os_error(libc::ENODEV)))?;
    let up = LinkChange {
        up: Some(true),
        ..LinkChange::default()
    };
    netlink::change_link(index, &up).map_err(|reason| failed("bringing it up", reason))
}

/// Sees to it that the interface takes L3 packets of `mtu` bytes; one with a larger MTU is left alone.
pub(super) fn raise_mtu(interface: &str, mtu: u16) -> std::io::Result<()> {
    if netlink::interface_mtu(interface)? >= u32::from(mtu) {
        return Ok(());
    }
    let index =
        netlink::interface_index(interface).ok_or_else(|| std::io::Error::from_raw_os_error(libc::ENODEV))?;
    netlink::change_link(
        index,
        &LinkChange {
            mtu: Some(u32::from(mtu)),
            ..LinkChange::default()
        },
    )
}

/// Probes the device, a bond's members before the bond.
pub(super) fn attach(
    device: &Device,
    used: &HashSet<u16>,
    context: &OpenContext<'_>,
) -> Result<Attached, OpenError> {
    let mut members = Attached(Vec::new());
    for member in &device.members {
        members.0.append(&mut attach(member, used, context)?.0);
    }
    let words = device.words();
    let refused = |reason: String| OpenError::UnknownDevice {
        port: context.name.to_owned(),
        device: words.clone(),
        reason,
        help: if device.is_pci() { HELP_PCI } else { HELP_VIRTUAL },
    };
    let c_words = CString::new(words.as_str()).map_err(|reason| refused(reason.to_string()))?;
    let c_name = CString::new(device.name.as_str()).map_err(|reason| refused(reason.to_string()))?;

    if let Some(port) = find(&c_name) {
        if used.contains(&port) {
            return Err(OpenError::DeviceBusy {
                port: context.name.to_owned(),
                device: device.name.clone(),
            });
        }
        if device.is_pci() {
            // Probed when EAL started.
            members.0.insert(0, port);
            return Ok(members);
        }
        close(port);
    }
    // SAFETY: counts ports.
    if u32::from(unsafe { ffi::rte_eth_dev_count_total() }) >= ffi::RTE_MAX_ETHPORTS {
        return Err(OpenError::TooManyEthdevs {
            port: context.name.to_owned(),
            device: words.clone(),
            limit: ffi::RTE_MAX_ETHPORTS,
        });
    }
    let mark = log::mark();
    // SAFETY: a C string that DPDK copies; this thread alone probes devices.
    let result = unsafe { ffi::rte_dev_probe(c_words.as_ptr()) };
    let port = if result == 0 { find(&c_name) } else { None };
    let Some(port) = port else {
        let reason = log::since(mark).unwrap_or_else(|| match result {
            0 => "it is no network device".to_owned(),
            number => errno_text(number),
        });
        if reason.contains("Operation not permitted") || reason.contains("Permission denied") {
            return Err(OpenError::Permission {
                port: context.name.to_owned(),
                object: format!("device \"{words}\" ({reason})"),
                capability: "CAP_NET_RAW, CAP_NET_ADMIN and, for af_xdp, CAP_BPF",
            });
        }
        return Err(refused(reason));
    };
    members.0.insert(0, port);
    Ok(members)
}

/// The port of a device: by its name, or (a PCI device whose driver names its ports otherwise) by an iterator.
fn find(name: &CString) -> Option<u16> {
    let mut port = 0;
    // SAFETY: a C string and a number to write; the iterator is initialised by DPDK and cleaned up by it.
    unsafe {
        if ffi::rte_eth_dev_get_port_by_name(name.as_ptr(), &mut port) == 0 {
            return Some(port);
        }
        let mut iterator = ffi::rte_dev_iterator::default();
        if ffi::rte_eth_iterator_init(&mut iterator, name.as_ptr()) != 0 {
            return None;
        }
        let port = ffi::rte_eth_iterator_next(&mut iterator);
        if u32::from(port) >= ffi::RTE_MAX_ETHPORTS {
            return None;
        }
        ffi::rte_eth_iterator_cleanup(&mut iterator);
        Some(port)
    }
}

/// Stops, closes and removes the device of a port, unless another port sits on the same device.
fn close(port: u16) {
    let mut info = ffi::rte_eth_dev_info::default();
    // SAFETY: DPDK checks the port; workers no longer use it, and this thread alone changes devices. The device
    // outlives its port: only rte_dev_remove frees it.
    unsafe {
        if ffi::rte_eth_dev_info_get(port, &mut info) != 0 {
            return;
        }
        ffi::rte_eth_dev_stop(port);
        let result = ffi::rte_eth_dev_close(port);
        if result != 0 {
            tracing::warn!(port, reason = errno_text(result), "a DPDK device did not close");
        }
        if u32::from(ffi::rte_eth_find_next_of(0, info.device)) < ffi::RTE_MAX_ETHPORTS {
            return;
        }
        let result = ffi::rte_dev_remove(info.device);
        if result != 0 {
            tracing::warn!(port, reason = errno_text(result), "a DPDK device was not removed");
        }
    }
}
