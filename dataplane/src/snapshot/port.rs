//! A plugged port as the workers see it.

use std::sync::{Arc, atomic::AtomicBool};

use weft_packet::{Mac, VlanId};
use weft_table::{PortId, VrfId};

use super::{L2Header, Quality};
use crate::{
    change::PortPolicy,
    port::{Driver, doorbell::DoorbellId},
};

/// See the module. VLAN sub-interfaces have no driver of their own, they use their parent's.
pub struct Port {
    /// Its number.
    pub id: PortId,
    /// Counts the ports that had this number: what waits in a ring for another incarnation is dropped.
    pub incarnation: u32,
    /// For messages.
    pub name: String,
    /// What its packets are.
    pub role: Role,
    /// The VRF of what arrives untagged.
    pub vrf: VrfId,
    /// The guest's address; an uplink's or host tap's own.
    pub mac: Mac,
    /// Largest L3 packet out of it, bytes.
    pub mtu: u16,
    /// Forward by the FIB alone.
    pub packet_mode: bool,
    /// Device, shared with the sub-interfaces.
    pub driver: Arc<Driver>,
    /// The link, as the control thread saw it last.
    pub link_up: Arc<AtomicBool>,
    /// Port that owns the device: itself, or a sub-interface's parent.
    pub device: PortId,
    /// A sub-interface's tag.
    pub vlan: Option<VlanId>,
    /// By VLAN, if any is known on this device.
    pub vlans: Option<Box<[Option<VlanContext>; 4096]>>,
    /// To the guest behind it: MACs and tag.
    pub header: L2Header,
    /// Which sessions it may have.
    pub policy: PortPolicy,
    /// What it may send and get; None: all.
    pub quality: Option<Arc<Quality>>,
}

/// What a port's packets are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A guest or container.
    Tenant,
    /// The underlay; with the tap of the host, if it has one.
    Uplink {
        /// The host's own way onto this uplink.
        host: Option<PortId>,
    },
    /// The host's tap on this uplink.
    Host {
        /// Where the host's frames go.
        uplink: PortId,
    },
}

/// To whom a tagged frame belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VlanContext {
    /// The sub-interface, or the trunk port itself.
    pub port: PortId,
    /// Where it is routed.
    pub vrf: VrfId,
}

/// A receive queue that a worker polls.
#[derive(Clone)]
pub struct Poll {
    /// Port that owns the device.
    pub port: PortId,
    /// Receive queue.
    pub queue: u16,
    /// The device: kept alive by the snapshot.
    pub driver: Arc<Driver>,
    /// It may be set aside while it is empty (see [`polling`](crate::polling)).
    pub rests: bool,
    /// By which it is heard meanwhile.
    pub doorbell: Option<DoorbellId>,
    /// Its packets are one tenant's, which has its share of the worker.
    pub charged: bool,
}
