//! Why a start or a batch fails, in words that say what to do.

use std::net::IpAddr;

use ipnet::IpNet;
use thiserror::Error;
use weft_packet::{Label, VlanId, Vni};
use weft_table::{AddressGroupId, NatId, NextHopId, PolicyId, PortId, VrfId};

use crate::{
    dpdk::{eal::EalError, mempool::MempoolError},
    port::OpenError,
};

/// The data plane did not start.
#[derive(Debug, Error)]
#[allow(missing_docs)]
pub enum StartError {
    #[error(transparent)]
    Eal(#[from] EalError),
    #[error(transparent)]
    Mempool(#[from] MempoolError),
    #[error(transparent)]
    Sessions(#[from] weft_table::flow::FlowTableError),
    #[error(transparent)]
    Reader(#[from] weft_table::rcu::RegisterError),
    #[error(transparent)]
    Launch(#[from] crate::dpdk::lcore::LaunchError),
    #[error("{0} workers are configured, the most is {most}", most = crate::control::MAX_WORKERS)]
    TooManyWorkers(usize),
    #[error("no worker is configured: name at least one CPU")]
    NoWorker,
    #[error("the control thread could not be started: {0}")]
    Thread(#[from] std::io::Error),
}

/// A batch was refused; nothing of it is in force.
#[derive(Debug, Error)]
#[error("change {index}: {reason}")]
pub struct Refused {
    /// Which change of the batch.
    pub index: usize,
    /// Why.
    #[source]
    pub reason: Reason,
}

/// Why a change was refused.
#[derive(Debug, Error)]
#[allow(missing_docs)]
pub enum Reason {
    #[error("VRF {0} does not exist")]
    UnknownVrf(VrfId),
    #[error("VRF number {0} is beyond the most, {most}", most = VrfId::MAX - 1)]
    VrfRange(VrfId),
    #[error("VRF {0} is still used by {1} port(s), route(s) or tunnel target(s)")]
    VrfInUse(VrfId, u32),
    #[error("the underlay's VRF can't be removed")]
    UnderlayVrf,
    #[error("port {0} does not exist")]
    UnknownPort(PortId),
    #[error("port number {0} is beyond the most, {most}", most = crate::control::MAX_PORT_ID)]
    PortRange(PortId),
    #[error("port {0} is still used by {1} sub-interface(s), next hop(s) or tunnel target(s)")]
    PortInUse(PortId, u32),
    #[error("port {0}: its device can't be changed while it is plugged; remove the port first")]
    DeviceFixed(PortId),
    #[error("VLAN {vlan} of port {parent} already belongs to port {owner}")]
    VlanInUse {
        parent: PortId,
        vlan: VlanId,
        owner: PortId,
    },
    #[error("port {0} is a VLAN sub-interface itself and can't have sub-interfaces")]
    NestedVlan(PortId),
    #[error("next hop {0} does not exist")]
    UnknownNextHop(NextHopId),
    #[error("next hop number {0} is beyond the most")]
    NextHopRange(NextHopId),
    #[error("next hop {0} is still used by {1} route(s) or group(s)")]
    NextHopInUse(NextHopId, u32),
    #[error("group {0}: member {1} is a group itself")]
    NestedGroup(NextHopId, NextHopId),
    #[error("next hop {0}: the tunnel's remote {1} and local {2} address are of different families")]
    MixedFamilies(NextHopId, IpAddr, IpAddr),
    #[error("next hop {0}: one to three labels are possible, {1} are given")]
    LabelStack(NextHopId, usize),
    #[error("route {1} in VRF {0} does not exist")]
    UnknownRoute(VrfId, IpNet),
    #[error("prefix {0} has host bits set")]
    HostBits(IpNet),
    #[error("VNI {0} is not configured")]
    UnknownVni(Vni),
    #[error("label {0} is not configured")]
    UnknownLabel(Label),
    #[error("tunnel endpoint {0} is not configured")]
    UnknownEndpoint(IpAddr),
    #[error("policy {0} does not exist")]
    UnknownPolicy(PolicyId),
    #[error("policy number {0} is beyond the most")]
    PolicyRange(PolicyId),
    #[error("policy {0} is still used by {1} port(s)")]
    PolicyInUse(PolicyId, u32),
    #[error("floating IP {0} does not exist")]
    UnknownFloatingIp(NatId),
    #[error("floating IP number {0} is beyond the most")]
    NatRange(NatId),
    #[error("{1} in VRF {0} has a route already; it can't be translated")]
    FloatingRoute(VrfId, IpNet),
    #[error("pool {0} does not exist")]
    UnknownPool(NatId),
    #[error("{0} belongs to pool {1}; it can't be a floating IP or virtual IP")]
    FloatingInPool(IpAddr, NatId),
    #[error("{1} in VRF {0} is that of a floating IP, pool or virtual IP; it can't have another route")]
    RouteFloating(VrfId, IpNet),
    #[error("{0} and the address behind it, {1}, are of different families")]
    FloatingFamilies(IpAddr, IpAddr),
    #[error("service {0} does not exist")]
    UnknownService(NatId),
    #[error("service {0}: the underlay has no services; name a tenant's VRF")]
    ServiceOfUnderlay(NatId),
    #[error("service {0} has no port")]
    ServiceWithoutPort(NatId),
    #[error("service {0} has {1} backends, the most is {most}", most = weft_table::maglev::Maglev::BACKENDS)]
    ServiceBackends(NatId, usize),
    #[error("service {0}: service {1} has one of its ports at the same address")]
    ServicePort(NatId, NatId),
    #[error("address group {0} does not exist")]
    UnknownAddressGroup(AddressGroupId),
    #[error("address group number {0} is beyond the most")]
    AddressGroupRange(AddressGroupId),
    #[error("address group {0} is still used by {1} policies")]
    AddressGroupInUse(AddressGroupId, u32),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("host interface {name}: {reason}")]
    HostInterface { name: String, reason: String },
    #[error("no room for another route: {0}")]
    Routes(#[from] weft_table::stamps::StampError),
    #[error("the data plane is stopping")]
    Stopping,
}
