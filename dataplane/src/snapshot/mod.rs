//! One consistent view of the configuration: what a worker reads for the length of a burst.
//!
//! The control thread builds the next snapshot from its own tables (shared, copied on write) and publishes it; a
//! worker picks it up at a burst boundary. Nothing in here changes after that.

mod narrowed;
mod nat;
mod next_hop;
mod policy;
mod port;
mod quality;
mod service;

use std::{net::IpAddr, sync::Arc, time::Duration};

use hashbrown::HashMap;
use weft_packet::{Label, Vni};
use weft_table::{
    AddressGroupId, NatId, NextHopId, PolicyId, PortId, RouteId, VrfId,
    cow::CowArray,
    fib::View,
    flow::TcpState,
    policy::{AddressGroup, Groups},
};

use crate::{Timeouts, VrfTimeouts};

pub use narrowed::LatestNarrowed;
pub use nat::{FROM_INSIDE, FROM_OUTSIDE, FloatingIp, Pool, PortNat};
pub use next_hop::{Hop, HopId, HopKind, L2Header, Neighbour, NextHop, TunnelPath};
pub use policy::{Hits, Policy};
pub use port::{Poll, Port, Role, VlanContext};
pub use quality::{Limit, Quality};
pub use service::{Backend, CLOSED, Client, OPENED, Service, VirtualIp};

/// See the module.
#[derive(Clone)]
pub struct Snapshot {
    /// Counts published snapshots, from 1.
    pub number: u64,
    /// The last snapshot that changed what a session's decision may depend on: a decision as new as this is fresh
    /// without looking further.
    pub decided: u64,
    /// By [`PortId`].
    pub ports: CowArray<Option<Arc<Port>>>,
    /// By [`VrfId`].
    pub vrfs: CowArray<Option<Arc<Vrf>>>,
    /// By [`RouteId`].
    pub routes: CowArray<Route>,
    /// IPv4 routes that lost destinations to longer prefixes.
    pub narrowed4: Arc<LatestNarrowed<u32>>,
    /// The same for IPv6.
    pub narrowed6: Arc<LatestNarrowed<u128>>,
    /// By [`NextHopId`].
    pub next_hops: CowArray<Option<Arc<NextHop>>>,
    /// By [`PolicyId`].
    pub policies: CowArray<Option<Arc<Policy>>>,
    /// By [`NatId`].
    pub floating_ips: CowArray<Option<Arc<FloatingIp>>>,
    /// Pools of addresses: few, so that a look through the list is the fastest.
    pub pools: Arc<Vec<Arc<Pool>>>,
    /// By [`NatId`].
    pub services: CowArray<Option<Arc<Service>>>,
    /// Addresses that have services.
    pub virtual_ips: CowArray<Option<Arc<VirtualIp>>>,
    /// Index of a virtual IP by its VRF and address.
    pub virtual_ip_index: Arc<HashMap<(VrfId, IpAddr), u32>>,
    /// By [`PortId`]; None: nothing translates what it sends.
    pub port_nat: CowArray<Option<Arc<PortNat>>>,
    /// By [`AddressGroupId`].
    pub address_groups: CowArray<Option<Arc<AddressGroup>>>,
    /// Underlay neighbours by their index.
    pub neighbours: CowArray<Neighbour>,
    /// Index of an underlay neighbour by its uplink and address.
    pub neighbour_index: Arc<HashMap<(PortId, IpAddr), u32>>,
    /// What arrives with a VXLAN network identifier.
    pub vnis: Arc<HashMap<Vni, Target>>,
    /// What arrives with an MPLS label.
    pub labels: Arc<HashMap<Label, Target>>,
    /// Remotes whose tunnelled packets are taken, and their number as an ingress.
    pub endpoints: Arc<HashMap<IpAddr, u32>>,
    /// The uplinks' own addresses: few, so that a look through the list is the fastest.
    pub local: Arc<LocalAddresses>,
    /// The queues that each worker polls.
    pub polls: Arc<Vec<Vec<Poll>>>,
    /// The snapshot that changed them last.
    pub polls_since: u64,
}

/// Addresses of the vRouter's own on the underlay, with the uplink that has them.
#[derive(Clone, Debug, Default)]
pub struct LocalAddresses {
    /// IPv4, host order.
    pub v4: Vec<(u32, PortId)>,
    /// IPv6, host order.
    pub v6: Vec<(u128, PortId)>,
}

impl LocalAddresses {
    /// The uplink that has an IPv4 address.
    #[inline(always)]
    pub fn find4(&self, address: u32) -> Option<PortId> {
        self.v4
            .iter()
            .find(|(own, _)| *own == address)
            .map(|(_, port)| *port)
    }

    /// The uplink that has an IPv6 address.
    #[inline(always)]
    pub fn find6(&self, address: u128) -> Option<PortId> {
        self.v6
            .iter()
            .find(|(own, _)| *own == address)
            .map(|(_, port)| *port)
    }
}

/// A routing table as a worker sees it.
pub struct Vrf {
    /// IPv4 routes.
    pub fib4: View<u32>,
    /// IPv6 routes.
    pub fib6: View<u128>,
    /// What a decision depends on that found no route: changes when a route appears where none was.
    pub no_route: RouteId,
    /// Forward by the FIB alone.
    pub packet_mode: bool,
    /// How long its sessions may be idle.
    pub timeouts: VrfTimeouts,
}

/// A route's leaf: the FIB leads to it, it leads to a next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Where to.
    pub next_hop: HopId,
}

impl Default for Route {
    fn default() -> Self {
        Route {
            next_hop: HopId::of(NextHopId(0)),
        }
    }
}

/// What a VNI or label leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A lookup in this VRF.
    Vrf(VrfId),
    /// Straight to this port.
    Port(PortId),
}

impl Groups for Snapshot {
    #[inline(always)]
    fn group(&self, id: AddressGroupId) -> Option<&AddressGroup> {
        self.address_groups.get(id.index())?.as_deref()
    }
}

impl Snapshot {
    /// A vRouter with nothing in it.
    pub fn empty(workers: usize) -> Self {
        Snapshot {
            number: 0,
            decided: 0,
            ports: CowArray::new(),
            vrfs: CowArray::new(),
            routes: CowArray::new(),
            narrowed4: Arc::default(),
            narrowed6: Arc::default(),
            next_hops: CowArray::new(),
            policies: CowArray::new(),
            floating_ips: CowArray::new(),
            pools: Arc::default(),
            services: CowArray::new(),
            virtual_ips: CowArray::new(),
            virtual_ip_index: Arc::default(),
            port_nat: CowArray::new(),
            address_groups: CowArray::new(),
            neighbours: CowArray::new(),
            neighbour_index: Arc::default(),
            vnis: Arc::default(),
            labels: Arc::default(),
            endpoints: Arc::default(),
            local: Arc::default(),
            polls: Arc::new(vec![Vec::new(); workers]),
            polls_since: 0,
        }
    }

    /// A plugged port.
    #[inline(always)]
    pub fn port(&self, port: PortId) -> Option<&Port> {
        self.ports.get(port.index())?.as_deref()
    }

    /// A VRF.
    #[inline(always)]
    pub fn vrf(&self, vrf: VrfId) -> Option<&Vrf> {
        self.vrfs.get(vrf.index())?.as_deref()
    }

    /// How long a session may be idle that was opened in this VRF.
    #[inline]
    pub fn timeout(&self, general: &Timeouts, vrf: VrfId, protocol: u8, state: TcpState) -> Duration {
        let own = self.vrf(vrf).and_then(|vrf| *vrf.timeouts.of(protocol, state));
        own.unwrap_or(*general.of(protocol, state))
    }

    /// A policy.
    #[inline(always)]
    pub fn policy(&self, policy: PolicyId) -> Option<&Policy> {
        self.policies.get(policy.index())?.as_deref()
    }

    /// A floating IP.
    #[inline(always)]
    pub fn floating_ip(&self, id: NatId) -> Option<&FloatingIp> {
        self.floating_ips.get(id.index())?.as_deref()
    }

    /// A pool.
    #[inline]
    pub fn pool(&self, id: NatId) -> Option<&Pool> {
        self.pools.iter().find(|pool| pool.id == id).map(Arc::as_ref)
    }

    /// A service.
    #[inline]
    pub fn service(&self, id: NatId) -> Option<&Service> {
        self.services.get(id.index())?.as_deref()
    }

    /// A virtual IP.
    #[inline]
    pub fn virtual_ip(&self, index: u32) -> Option<&VirtualIp> {
        self.virtual_ips.get(index as usize)?.as_deref()
    }

    /// The virtual IP that has an address.
    #[inline]
    pub fn virtual_ip_at(&self, vrf: VrfId, address: IpAddr) -> Option<&VirtualIp> {
        self.virtual_ip(*self.virtual_ip_index.get(&(vrf, address))?)
    }

    /// What translates a port's packets.
    #[inline(always)]
    pub fn nat_of(&self, port: PortId) -> Option<&PortNat> {
        self.port_nat.get(port.index())?.as_deref()
    }

    /// Where a route leads.
    #[inline(always)]
    pub fn route(&self, route: RouteId) -> Option<&Route> {
        self.routes.get(route.index())
    }

    /// What a hop is.
    #[inline(always)]
    pub fn hop(&self, id: HopId) -> Option<Hop<'_>> {
        match id.kind() {
            HopKind::Table(id) => self.next_hops.get(id.index())?.as_deref().map(Hop::Table),
            HopKind::Neighbour(index) => self.neighbours.get(index as usize).map(Hop::Neighbour),
            HopKind::Port(port) => self.port(port).map(Hop::Port),
            HopKind::FloatingIp(id) => self.floating_ip(id).map(Hop::FloatingIp),
            HopKind::Pool(id) => self.pool(id).map(Hop::Pool),
            HopKind::VirtualIp(index) => self.virtual_ip(index).map(Hop::VirtualIp),
            HopKind::Receive => Some(Hop::Receive),
        }
    }
}
