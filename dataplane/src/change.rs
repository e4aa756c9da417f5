//! What the control half asks of the data plane: changes in the data plane's own terms, numbers instead of names.
//!
//! The caller (weftd's reconciler) hands out the numbers and keeps the names. A batch of changes becomes visible to
//! each worker at one burst boundary, or, if one of them is refused, not at all.

use std::{net::IpAddr, ops::RangeInclusive, path::PathBuf, sync::Arc};

use ipnet::{IpNet, Ipv4Net};
use weft_packet::{Label, Mac, VlanId, Vni};
use weft_table::{
    AddressGroupId, NatId, NextHopId, PolicyId, PortId, VrfId, WorkerId,
    policy::{AddressGroup, RuleSet},
};

use crate::VrfTimeouts;

/// One step of a batch.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Adds a VRF or changes its settings.
    SetVrf(VrfId, VrfSpec),
    /// Removes a VRF; refused while a port, route or tunnel target names it.
    RemoveVrf(VrfId),
    /// Adds a port and opens its device, or changes what may change while it runs (all but the device).
    SetPort(PortId, PortSpec),
    /// Removes a port, closes its device after a grace period.
    RemovePort(PortId),
    /// Adds or replaces a route.
    SetRoute(VrfId, IpNet, NextHopId),
    /// Removes a route.
    RemoveRoute(VrfId, IpNet),
    /// Adds or replaces a next hop; sessions that use it follow at once.
    SetNextHop(NextHopId, NextHopSpec),
    /// Removes a next hop; refused while a route, group or target names it.
    RemoveNextHop(NextHopId),
    /// Accept this VXLAN network identifier on the uplinks.
    SetVni(Vni, TunnelTarget),
    /// Refuse it again.
    RemoveVni(Vni),
    /// Accept this MPLS label on the uplinks.
    SetLabel(Label, TunnelTarget),
    /// Refuse it again.
    RemoveLabel(Label),
    /// Accept tunnelled packets from this underlay address.
    SetEndpoint(IpAddr),
    /// Refuse them again.
    RemoveEndpoint(IpAddr),
    /// Adds or replaces a policy; the sessions of every port that has it are judged again.
    SetPolicy(PolicyId, Arc<RuleSet>),
    /// Removes a policy; refused while a port has it.
    RemovePolicy(PolicyId),
    /// Adds or replaces a floating IP; sessions that it translates end unless it still says the same.
    SetFloatingIp(NatId, FloatingIpSpec),
    /// Removes a floating IP, and with it the sessions that it translates.
    RemoveFloatingIp(NatId),
    /// Adds or replaces a pool; sessions keep addresses and ports that are still its own.
    SetPool(NatId, PoolSpec),
    /// Removes a pool, and with it the sessions that it translates.
    RemovePool(NatId),
    /// Adds or replaces a service; sessions stay with backends that it still has.
    SetService(NatId, ServiceSpec),
    /// Removes a service, and with it its sessions.
    RemoveService(NatId),
    /// Adds or replaces a group; the sessions of every port whose policy names it are judged again.
    SetAddressGroup(AddressGroupId, Arc<AddressGroup>),
    /// Removes a group; refused while a policy names it.
    RemoveAddressGroup(AddressGroupId),
}

/// Settings of a VRF.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VrfSpec {
    /// For messages and metrics.
    pub name: String,
    /// Forward by the FIB alone.
    pub packet_mode: bool,
    /// How long its sessions may be idle.
    pub timeouts: VrfTimeouts,
}

/// Settings of a port.
#[derive(Clone, Debug, PartialEq)]
pub struct PortSpec {
    /// For messages and metrics.
    pub name: String,
    /// What is behind it; fixed for the port's life.
    pub device: DeviceSpec,
    /// The VRF of what arrives untagged; [`VrfId::UNDERLAY`] makes it an uplink.
    pub vrf: VrfId,
    /// Guest's or container's address; an uplink's own. None: the device's.
    pub mac: Option<Mac>,
    /// An uplink's own addresses with the length of their subnet. Tenants' addresses are routes, not listed here.
    pub addresses: Vec<IpNet>,
    /// Largest L3 packet, bytes.
    pub mtu: u16,
    /// Forward by the FIB alone.
    pub packet_mode: bool,
    /// VLANs of this port whose frames belong to other VRFs.
    pub trunk: Vec<(VlanId, VrfId)>,
    /// Workers for its queues, in turn; empty: spread.
    pub workers: Vec<WorkerId>,
    /// Uplinks: name of the host's own tap.
    pub host_interface: Option<String>,
    /// Uplinks: neighbours that are known beforehand, neither asked for nor learned.
    pub neighbours: Vec<(IpAddr, Mac)>,
    /// Which sessions it may have.
    pub policy: PortPolicy,
    /// Tenants: how much it may send and get; None: all, as it is.
    pub quality: Option<Box<QualitySpec>>,
}

impl PortSpec {
    /// A port with sessions, which all are allowed, and an MTU of 1500 bytes; all else is left out.
    pub fn new(name: impl Into<String>, device: DeviceSpec, vrf: VrfId) -> Self {
        PortSpec {
            name: name.into(),
            device,
            vrf,
            mac: None,
            addresses: Vec::new(),
            mtu: 1500,
            packet_mode: false,
            trunk: Vec::new(),
            workers: Vec::new(),
            host_interface: None,
            neighbours: Vec::new(),
            policy: PortPolicy::Open,
            quality: None,
        }
    }
}

/// How much a port may send and get, and in which class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QualitySpec {
    /// What it sends.
    pub egress: RateSpec,
    /// What it gets.
    pub ingress: RateSpec,
    /// Differentiated services code point of all that it sends, 6 bits (RFC 2474). None: its own.
    pub dscp: Option<u8>,
}

/// Limits that hold together; None: no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateSpec {
    /// Packets.
    pub packets: Option<Rate>,
    /// Bytes of frames.
    pub bytes: Option<Rate>,
}

/// A rate, and how much may pass at once after a pause. Both are at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Units a second.
    pub per_second: u64,
    /// Units.
    pub burst: u64,
}

/// An address that stands for one behind a port: what comes to it goes to the port, and what the port sends by way of
/// its VRF comes from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FloatingIpSpec {
    /// In which the address is reached.
    pub vrf: VrfId,
    /// The address as others know it. No other route may have it.
    pub address: IpAddr,
    /// A tenant's port.
    pub port: PortId,
    /// The address behind the port, of the same family.
    pub inside: IpAddr,
}

/// Addresses that many share: what routes lead from one VRF into another comes from one of them, each session from a port
/// of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolSpec {
    /// In which the addresses are reached.
    pub vrf: VrfId,
    /// From which the sessions come; not the underlay.
    pub inside_vrf: VrfId,
    /// Whose sessions are translated.
    pub sources: Vec<Ipv4Net>,
    /// The pool. No other route may have one of these prefixes.
    pub addresses: Vec<Ipv4Net>,
    /// Ports that are handed out.
    pub ports: RangeInclusive<u16>,
    /// Ports that one inside address gets at a time, a power of two.
    pub block_size: u16,
    /// Each source has one block, by its number; else blocks are handed out as they are needed.
    pub deterministic: bool,
}

impl PoolSpec {
    /// Whether an address of this VRF is one of the pool's.
    pub fn holds(&self, vrf: VrfId, address: IpAddr) -> bool {
        let mut prefixes = self.addresses.iter();
        self.vrf == vrf && prefixes.any(|prefix| IpNet::V4(*prefix).contains(&address))
    }
}

/// Ports of a virtual IP, and the backends that sessions to them are spread over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceSpec {
    /// In which the virtual IP is reached, and where the backends are; not the underlay.
    pub vrf: VrfId,
    /// The virtual IP. No route may have it; other services may, with other ports.
    pub address: IpAddr,
    /// At least one.
    pub ports: Vec<ServicePort>,
    /// At most [`Maglev::BACKENDS`](weft_table::maglev::Maglev::BACKENDS), each address once.
    pub backends: Vec<BackendSpec>,
    /// A client keeps to its backend until it has opened no session for so many seconds. None: each session by itself.
    pub affinity: Option<u32>,
    /// Backends see an address and port of this pool, of the same VRF. None: they see the client's own.
    pub source_pool: Option<NatId>,
}

/// A port of a virtual IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Of IP.
    pub protocol: u8,
    /// None: all ports that no other service of the virtual IP has.
    pub port: Option<u16>,
    /// The backends' port. None: the same.
    pub target: Option<u16>,
}

impl ServicePort {
    /// What no two ports of a virtual IP have in common.
    pub fn key(&self) -> (u8, Option<u16>) {
        (self.protocol, self.port)
    }
}

/// A backend of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendSpec {
    /// Of the virtual IP's family, reached by the VRF's routes.
    pub address: IpAddr,
    /// Its part of the sessions, at least 1.
    pub weight: u32,
    /// Which sessions it has.
    pub state: BackendState,
}

/// Which sessions a backend has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BackendState {
    /// Those it has and new ones.
    #[default]
    Up,
    /// Those it has, no new ones.
    Draining,
    /// None.
    Down,
}

/// Which sessions a port may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PortPolicy {
    /// All of them.
    #[default]
    Open,
    /// None: what it should have is not known yet.
    Closed,
    /// Those that the policy allows.
    Judged(PolicyId),
}

/// What is behind a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceSpec {
    /// A DPDK ethdev by PCI address or by virtual device and arguments.
    Ethdev {
        /// `0000:03:00.0` or `net_af_packet0,iface=eth1`.
        device: String,
        /// Receive queues.
        queues: u16,
    },
    /// A guest's virtio-net device.
    VhostUser {
        /// Path of the unix socket.
        socket: PathBuf,
        /// True: made by us.
        server: bool,
        /// Queue pairs.
        queues: u16,
    },
    /// A Linux tap interface.
    Tap {
        /// Interface name.
        interface: String,
        /// Queue pairs.
        queues: u16,
        /// Network namespace (path) that it is moved into.
        netns: Option<PathBuf>,
    },
    /// The frames of another port that carry this tag.
    Vlan {
        /// A port of any other kind.
        parent: PortId,
        /// The tag.
        vlan: VlanId,
    },
}

/// Where a route, group member or target leads.
#[derive(Clone, Debug, PartialEq)]
pub enum NextHopSpec {
    /// Out of a port, to this MAC (None: the port's), under this tag.
    Port {
        /// Egress.
        port: PortId,
        /// Destination MAC.
        mac: Option<Mac>,
        /// Tag of the port's trunk.
        vlan: Option<VlanId>,
    },
    /// Into a tunnel over the underlay.
    Tunnel {
        /// Outer destination.
        remote: IpAddr,
        /// Outer source; None: the chosen uplink's.
        local: Option<IpAddr>,
        /// Header and identifier.
        encapsulation: Encapsulation,
        /// VRF in which the reply is looked up; None: that of the route that leads here.
        return_vrf: Option<VrfId>,
    },
    /// Weighted members; a flow stays with its member.
    Group(Vec<MemberSpec>),
    /// Look up again in this VRF.
    Vrf(VrfId),
    /// An underlay router.
    Gateway(IpAddr),
    /// To the vRouter itself; in the underlay, to the host.
    Receive,
    /// Drop and count.
    Discard,
}

/// Member of a next-hop group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberSpec {
    /// Stable hash of the member's name: flows stay with it as others come and go.
    pub id: u64,
    /// At least 1.
    pub weight: u32,
    /// Any next hop but a group.
    pub next_hop: NextHopId,
}

/// Tunnel header with its identifier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Encapsulation {
    /// RFC 7348, routed: the inner frame goes to this MAC (RFC 9135).
    Vxlan {
        /// Network identifier.
        vni: Vni,
        /// Inner destination.
        inner_mac: Mac,
    },
    /// RFC 7510. Outermost label first, one to three.
    MplsOverUdp {
        /// The stack.
        labels: Vec<Label>,
    },
    /// RFC 4023. Outermost label first, one to three.
    MplsOverGre {
        /// The stack.
        labels: Vec<Label>,
    },
}

/// What a VNI or label of an arriving packet leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TunnelTarget {
    /// Look the inner destination up in this VRF.
    Vrf(VrfId),
    /// Straight to this port.
    Port(PortId),
}
