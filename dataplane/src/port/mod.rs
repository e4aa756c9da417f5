//! The burst interface: how a worker receives and sends, whatever is behind the port.
//!
//! Each driver is one file: [`ethdev`] (all that DPDK drives), [`vhost`] (guests), [`tap`] (containers and the host).
//! A VLAN sub-interface is no device: its parent's frames are told apart by the pipeline.
//!
//! A [`Driver`] is shared by the workers. Each queue has one user at a time: the worker that polls receive queue q is
//! alone on it, and a worker that transmits uses the queue that [`Driver::transmit_queue`] gives for it. Where there
//! are fewer transmit queues than workers, the driver serialises those that share one (a spin lock held for a burst).
//! No call allocates; what system calls and locks each driver makes itself, its file says.

pub mod address;
mod attach;
mod claim;
mod device;
pub mod doorbell;
pub mod error;
pub mod ethdev;
mod kernel_quiet;
mod netlink;
mod packet_sockets;
pub mod tap;
pub mod vhost;
mod virtio;

use weft_packet::Mac;
use weft_table::WorkerId;

use crate::{
    change::DeviceSpec,
    dpdk::{Batch, Mempool},
    view::DeviceStatistics,
};

use doorbell::{Doorbell, DoorbellId};

pub use crate::dpdk::BURST;
pub use error::OpenError;

/// An open device. Dropping it closes the device and frees all that it held; no worker may use it any more then.
pub enum Driver {
    /// A DPDK ethdev.
    Ethdev(ethdev::Ethdev),
    /// A vhost-user backend.
    Vhost(vhost::Vhost),
    /// A Linux tap.
    Tap(tap::Tap),
}

/// What a port needs of its surroundings to be opened.
pub struct OpenContext<'a> {
    /// Buffers for what it receives.
    pub pool: &'a Mempool,
    /// Workers that may transmit.
    pub workers: u16,
    /// The address that the port should have: the container's (tap) or the uplink's own. None: the device's.
    pub mac: Option<Mac>,
    /// Largest L3 packet, bytes.
    pub mtu: u16,
    /// The port's name, for messages.
    pub name: &'a str,
    /// The port leads to the underlay: it listens promiscuously, and the kernel is kept out of it.
    pub uplink: bool,
    /// Distinguishes several instances on one host (`file_prefix`).
    pub instance: &'a str,
}

impl<'a> OpenContext<'a> {
    /// What all ports of a vRouter have in common; the rest is each port's own.
    pub fn new(pool: &'a Mempool, workers: u16, instance: &'a str) -> Self {
        OpenContext {
            pool,
            workers,
            mac: None,
            mtu: 0,
            name: "",
            uplink: false,
            instance,
        }
    }
}

/// Which offloads may be left pending on a packet that is transmitted here. Without the capability the caller
/// completes the checksum, or segments, first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// TCP and UDP checksums.
    pub checksum: bool,
    /// TCP segmentation, IPv4 and IPv6.
    pub segmentation: bool,
}

/// Opens the device of a port. A VLAN sub-interface has none and is refused.
pub fn open(spec: &DeviceSpec, context: &OpenContext<'_>) -> Result<Driver, OpenError> {
    match spec {
        DeviceSpec::Ethdev { device, queues } => {
            ethdev::Ethdev::open(device, *queues, context).map(Driver::Ethdev)
        }
        DeviceSpec::VhostUser {
            socket,
            server,
            queues,
        } => vhost::Vhost::open(socket, *server, *queues, context).map(Driver::Vhost),
        DeviceSpec::Tap {
            interface,
            queues,
            netns,
        } => tap::Tap::open(interface, *queues, netns.as_deref(), context).map(Driver::Tap),
        DeviceSpec::Vlan { .. } => Err(OpenError::NoDevice {
            port: context.name.to_owned(),
        }),
    }
}

macro_rules! each_driver {
    ($self:ident, $driver:ident => $call:expr) => {
        match $self {
            Driver::Ethdev($driver) => $call,
            Driver::Vhost($driver) => $call,
            Driver::Tap($driver) => $call,
        }
    };
}

impl Driver {
    /// Receives into the room that `batch` has, from a queue that the caller alone polls; returns how many.
    #[inline]
    pub fn receive(&self, queue: u16, batch: &mut Batch) -> usize {
        each_driver!(self, driver => driver.receive(queue, batch))
    }

    /// Sends from the front of `batch` what the device takes; that leaves the batch, the rest stays. Returns how many
    /// were taken. Packets with offloads beyond [`capabilities`](Self::capabilities) must not be in it.
    #[inline]
    pub fn transmit(&self, queue: u16, batch: &mut Batch) -> usize {
        each_driver!(self, driver => driver.transmit(queue, batch))
    }

    /// A cheap look whether [`receive`](Self::receive) may find something; true if the device cannot tell.
    #[inline]
    pub fn pending_receive(&self, queue: u16) -> bool {
        each_driver!(self, driver => driver.pending_receive(queue))
    }

    /// An empty queue may be looked at less often: whoever sends waits until there is room in its ring. A NIC would
    /// lose what comes meanwhile.
    pub fn rests(&self) -> bool {
        !matches!(self, Driver::Ethdev(_))
    }

    /// A receive queue belongs to this worker from now on; the doorbell by which it may be heard when it is quiet.
    pub fn assign(&self, queue: u16, worker: WorkerId) -> Option<DoorbellId> {
        let doorbell = match self {
            Driver::Vhost(vhost) => vhost.doorbell(queue)?,
            Driver::Tap(tap) => tap.doorbell(queue)?,
            Driver::Ethdev(_) => return None,
        };
        doorbell.hang(worker);
        Some(doorbell.id())
    }

    /// An empty queue is to ring from now on when something comes. False: it cannot, so it must be looked at. What came
    /// at the same time may not ring: look at the queue once more.
    #[inline]
    pub fn listen(&self, queue: u16) -> bool {
        match self {
            Driver::Vhost(vhost) => vhost.listen(queue),
            Driver::Tap(tap) => tap.doorbell(queue).is_some_and(Doorbell::is_heard),
            Driver::Ethdev(_) => false,
        }
    }

    /// Number of receive queues, fixed while it is open.
    #[inline]
    pub fn receive_queues(&self) -> u16 {
        each_driver!(self, driver => driver.receive_queues())
    }

    /// Number of transmit queues, fixed while it is open.
    #[inline]
    pub fn transmit_queues(&self) -> u16 {
        each_driver!(self, driver => driver.transmit_queues())
    }

    /// The transmit queue of a worker. Workers may share one: the driver sees to that.
    #[inline]
    pub fn transmit_queue(&self, worker: u16) -> u16 {
        worker % self.transmit_queues().max(1)
    }

    /// Which offloads may be left pending at [`transmit`](Self::transmit). A guest decides when it connects, so this
    /// may change while the port is open; one atomic load.
    #[inline]
    pub fn capabilities(&self) -> Capabilities {
        each_driver!(self, driver => driver.capabilities())
    }

    /// The link is up: carrier, a connected guest, an interface that is up.
    pub fn link_up(&self) -> bool {
        each_driver!(self, driver => driver.link_up())
    }

    /// The address of what is behind the port (tap: the container's) or of the device itself. Zero: not known.
    pub fn mac(&self) -> Mac {
        each_driver!(self, driver => driver.mac())
    }

    /// Changes the address, where the device can.
    pub fn set_mac(&self, mac: Mac) -> Result<(), OpenError> {
        each_driver!(self, driver => driver.set_mac(mac))
    }

    /// Changes the largest L3 packet, where the device can.
    pub fn set_mtu(&self, mtu: u16) -> Result<(), OpenError> {
        each_driver!(self, driver => driver.set_mtu(mtu))
    }

    /// What the device lost by itself.
    pub fn statistics(&self) -> DeviceStatistics {
        each_driver!(self, driver => driver.statistics())
    }

    /// The device in words, for people.
    pub fn describe(&self) -> String {
        each_driver!(self, driver => driver.describe())
    }
}
