//! A data plane in memory: keeps what it is told, strictly. It refuses whatever dangles at any step of a batch, which
//! makes it the oracle of the reconciler's tests, and fails to open the devices that a test names.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{Arc, Mutex},
};

use ipnet::IpNet;
use weft_dataplane::{
    change::{
        BackendSpec, Change, DeviceSpec, FloatingIpSpec, NextHopSpec, PoolSpec, PortPolicy, PortSpec,
        ServicePort, ServiceSpec, TunnelTarget, VrfSpec,
    },
    drops::Reason,
    view::{
        BackendStatistics, FloatingIpStatistics, FlowFilter, FlowRecord, PolicyLog, PoolStatistics,
        PortState, PortStatistics, ServiceStatistics, Statistics, SupposedPacket, TableStatistics, WhatIf,
    },
};
use weft_packet::{Label, Mac, VlanId, Vni};
use weft_table::{
    AddressGroupId, NatId, NextHopId, PolicyId, PortId, VrfId,
    policy::{AddressGroup, RuleSet},
};

use super::{Applied, Engine, Refused};

/// The tables of the model.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(missing_docs)]
pub struct Tables {
    pub vrfs: BTreeMap<VrfId, VrfSpec>,
    pub ports: BTreeMap<PortId, PortSpec>,
    pub next_hops: BTreeMap<NextHopId, NextHopSpec>,
    pub routes: BTreeMap<(VrfId, IpNet), NextHopId>,
    pub vnis: BTreeMap<Vni, TunnelTarget>,
    pub labels: BTreeMap<Label, TunnelTarget>,
    pub endpoints: BTreeSet<IpAddr>,
    pub policies: BTreeMap<PolicyId, Arc<RuleSet>>,
    pub floating_ips: BTreeMap<NatId, FloatingIpSpec>,
    pub pools: BTreeMap<NatId, PoolSpec>,
    pub services: BTreeMap<NatId, ServiceSpec>,
    pub address_groups: BTreeMap<AddressGroupId, Arc<AddressGroup>>,
}

#[derive(Debug, Default)]
struct Inner {
    tables: Tables,
    snapshot: u64,
    /// Ports by name whose device does not open.
    broken: BTreeSet<String>,
    stopping: bool,
    late: bool,
}

/// See the module.
#[derive(Debug)]
pub struct MemoryEngine {
    inner: Mutex<Inner>,
}

impl Default for MemoryEngine {
    fn default() -> Self {
        let mut inner = Inner::default();
        inner.tables.vrfs.insert(VrfId::UNDERLAY, VrfSpec::default());
        MemoryEngine {
            inner: Mutex::new(inner),
        }
    }
}

impl MemoryEngine {
    fn with<T>(&self, act: impl FnOnce(&mut Inner) -> T) -> T {
        act(&mut self
            .inner
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// What it holds now.
    pub fn tables(&self) -> Tables {
        self.with(|inner| inner.tables.clone())
    }

    /// From now on the device of the port with this name does not open, or opens again.
    pub fn break_port(&self, name: &str, broken: bool) {
        self.with(|inner| {
            if broken {
                inner.broken.insert(name.into())
            } else {
                inner.broken.remove(name)
            }
        });
    }

    /// From now on every batch is refused, as by a data plane that stops; or no longer.
    pub fn set_stopping(&self, stopping: bool) {
        self.with(|inner| inner.stopping = stopping);
    }

    /// From now on batches are answered as not yet effective, or no longer.
    pub fn set_late(&self, late: bool) {
        self.with(|inner| inner.late = late);
    }
}

impl Engine for MemoryEngine {
    fn apply(&self, batch: Vec<Change>) -> Result<Applied, Refused> {
        self.with(|inner| {
            if inner.stopping {
                return Err(Refused {
                    change: None,
                    message: "the data plane is stopping".into(),
                });
            }
            let mut tables = inner.tables.clone();
            for (index, change) in batch.iter().enumerate() {
                step(&mut tables, &inner.broken, change).map_err(|message| Refused {
                    change: Some(index),
                    message,
                })?;
            }
            inner.tables = tables;
            inner.snapshot += 1;
            Ok(Applied {
                snapshot: inner.snapshot,
                effective: !inner.late,
            })
        })
    }

    fn statistics(&self) -> Statistics {
        self.with(|inner| Statistics {
            ports: inner.tables.ports.keys().map(|port| idle_port(*port)).collect(),
            tables: TableStatistics {
                routes: inner.tables.routes.len() as u64,
                vrfs: inner.tables.vrfs.len() as u64,
                next_hops: inner.tables.next_hops.len() as u64,
                snapshot: inner.snapshot,
                ..Default::default()
            },
            ..Default::default()
        })
    }

    fn flows(&self, _: FlowFilter, _: usize) -> Vec<FlowRecord> {
        Vec::new()
    }

    /// Each decider has decided as often as its number says.
    fn policy_hits(&self) -> Vec<(PolicyId, Vec<u64>)> {
        self.with(|inner| {
            let hits = |rules: &RuleSet| (0..rules.deciders() as u64).collect();
            let policies = inner.tables.policies.iter();
            policies.map(|(id, rules)| (*id, hits(rules))).collect()
        })
    }

    /// Each has translated as many sessions as its number says from inside, and one more from outside.
    fn floating_ips(&self) -> Vec<FloatingIpStatistics> {
        self.with(|inner| {
            let statistics = |id: &NatId| FloatingIpStatistics {
                id: *id,
                from_inside: u64::from(id.0),
                from_outside: u64::from(id.0) + 1,
            };
            inner.tables.floating_ips.keys().map(statistics).collect()
        })
    }

    /// Each has as many sessions as addresses.
    fn pools(&self) -> Vec<PoolStatistics> {
        self.with(|inner| {
            let statistics = |(id, spec): (&NatId, &PoolSpec)| PoolStatistics {
                id: *id,
                blocks: 1,
                held_count: 0,
                held: Vec::new(),
                sessions: spec.addresses.len() as u64,
            };
            inner.tables.pools.iter().map(statistics).collect()
        })
    }

    /// Each backend has as many sessions as its weight is.
    fn services(&self) -> Vec<ServiceStatistics> {
        self.with(|inner| {
            let backend = |spec: &BackendSpec| BackendStatistics {
                address: spec.address,
                opened: spec.weight.into(),
                sessions: spec.weight.into(),
            };
            let statistics = |(id, spec): (&NatId, &ServiceSpec)| ServiceStatistics {
                id: *id,
                backends: spec.backends.iter().map(backend).collect(),
            };
            inner.tables.services.iter().map(statistics).collect()
        })
    }

    /// Nothing is decided here.
    fn policy_log(&self, _limit: usize) -> PolicyLog {
        PolicyLog::default()
    }

    /// It knows no way: every packet is dropped for want of a route.
    fn what_if(&self, from: PortId, _packet: SupposedPacket) -> Option<WhatIf> {
        self.with(|inner| {
            let port = inner.tables.ports.get(&from)?;
            Some(WhatIf::dropped(port.vrf, Reason::NoRoute))
        })
    }

    fn port_state(&self, port: PortId) -> Option<PortState> {
        self.with(|inner| {
            inner.tables.ports.get(&port).map(|spec| PortState {
                port,
                link_up: true,
                device: "model".into(),
                queues: 1,
                mac: spec.mac.unwrap_or(Mac([2, 0, 0, 0, 0, 1])),
            })
        })
    }
}

fn idle_port(port: PortId) -> PortStatistics {
    PortStatistics {
        port,
        name: format!("port {port}"),
        rx_packets: 0,
        rx_bytes: 0,
        tx_packets: 0,
        tx_bytes: 0,
        drops: Vec::new(),
        device: Default::default(),
    }
}

fn need(holds: bool, message: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(message()) }
}

fn step(tables: &mut Tables, broken: &BTreeSet<String>, change: &Change) -> Result<(), String> {
    match change {
        Change::SetVrf(id, spec) => {
            need(id.index() < VrfId::MAX, || format!("VRF {id} is out of range"))?;
            tables.vrfs.insert(*id, spec.clone());
        }
        Change::RemoveVrf(id) => {
            need(*id != VrfId::UNDERLAY, || "the underlay's VRF stays".into())?;
            need(tables.vrfs.remove(id).is_some(), || {
                format!("VRF {id} does not exist")
            })?;
            still_whole(tables)?;
        }
        Change::SetPort(id, spec) => set_port(tables, broken, *id, spec)?,
        Change::RemovePort(id) => {
            need(tables.ports.remove(id).is_some(), || {
                format!("port {id} does not exist")
            })?;
            still_whole(tables)?;
        }
        Change::SetRoute(vrf, prefix, hop) => {
            need(tables.vrfs.contains_key(vrf), || {
                format!("VRF {vrf} does not exist")
            })?;
            need(tables.next_hops.contains_key(hop), || {
                format!("next hop {hop} does not exist")
            })?;
            need(prefix.trunc() == *prefix, || format!("{prefix} has host bits"))?;
            let mut pools = tables.pools.values().filter(|pool| pool.vrf == *vrf);
            need(
                !pools.any(|pool| pool.addresses.iter().any(|known| IpNet::V4(*known) == *prefix)),
                || format!("route {prefix} of VRF {vrf} is a pool's"),
            )?;
            let mut services = tables.services.values();
            need(
                !services.any(|service| (service.vrf, service.address.into()) == (*vrf, *prefix)),
                || format!("route {prefix} of VRF {vrf} is a virtual IP's"),
            )?;
            let mut floating = tables.floating_ips.values();
            need(
                !floating.any(|floating| (floating.vrf, floating.address.into()) == (*vrf, *prefix)),
                || format!("route {prefix} of VRF {vrf} is a floating IP"),
            )?;
            tables.routes.insert((*vrf, *prefix), *hop);
        }
        Change::RemoveRoute(vrf, prefix) => {
            need(tables.routes.remove(&(*vrf, *prefix)).is_some(), || {
                format!("no route {prefix} in VRF {vrf}")
            })?;
        }
        Change::SetNextHop(id, spec) => {
            need(hop_is_whole(tables, spec), || {
                format!("next hop {id}: {spec:?} dangles")
            })?;
            tables.next_hops.insert(*id, spec.clone());
        }
        Change::RemoveNextHop(id) => {
            need(tables.next_hops.remove(id).is_some(), || {
                format!("next hop {id} does not exist")
            })?;
            still_whole(tables)?;
        }
        Change::SetVni(vni, target) => {
            need(target_is_whole(tables, target), || {
                format!("VNI {vni}: {target:?} dangles")
            })?;
            tables.vnis.insert(*vni, *target);
        }
        Change::RemoveVni(vni) => {
            need(tables.vnis.remove(vni).is_some(), || {
                format!("VNI {vni} is unknown")
            })?;
        }
        Change::SetLabel(label, target) => {
            need(target_is_whole(tables, target), || {
                format!("label {label}: {target:?} dangles")
            })?;
            tables.labels.insert(*label, *target);
        }
        Change::RemoveLabel(label) => {
            need(tables.labels.remove(label).is_some(), || {
                format!("label {label} is unknown")
            })?;
        }
        Change::SetEndpoint(address) => {
            tables.endpoints.insert(*address);
        }
        Change::RemoveEndpoint(address) => {
            need(tables.endpoints.remove(address), || {
                format!("endpoint {address} is unknown")
            })?;
        }
        Change::SetPolicy(id, rules) => {
            let unknown = |group: &&AddressGroupId| !tables.address_groups.contains_key(*group);
            let dangling = rules.groups().iter().find(unknown);
            need(dangling.is_none(), || {
                format!("policy {id}: address group {dangling:?} dangles")
            })?;
            tables.policies.insert(*id, rules.clone());
        }
        Change::SetAddressGroup(id, group) => {
            tables.address_groups.insert(*id, group.clone());
        }
        Change::RemoveAddressGroup(id) => {
            need(tables.address_groups.remove(id).is_some(), || {
                format!("address group {id} does not exist")
            })?;
            let mut policies = tables.policies.values();
            need(!policies.any(|rules| rules.groups().contains(id)), || {
                format!("address group {id} is still used")
            })?;
        }
        Change::RemovePolicy(id) => {
            need(tables.policies.remove(id).is_some(), || {
                format!("policy {id} does not exist")
            })?;
            still_whole(tables)?;
        }
        Change::SetFloatingIp(id, spec) => {
            let route = (spec.vrf, IpNet::from(spec.address));
            let mut others = tables.floating_ips.iter().filter(|(other, _)| *other != id);
            let taken = others.any(|(_, other)| (other.vrf, other.address) == (spec.vrf, spec.address));
            need(!taken && !tables.routes.contains_key(&route), || {
                format!("floating IP {id}: {} has a route already", spec.address)
            })?;
            let mut services = tables.services.values();
            let mut pools = tables.pools.values();
            let is_virtual =
                services.any(|service| (service.vrf, service.address) == (spec.vrf, spec.address));
            need(
                !is_virtual && !pools.any(|pool| pool.holds(spec.vrf, spec.address)),
                || format!("floating IP {id} is in a pool, or a virtual IP"),
            )?;
            tables.floating_ips.insert(*id, *spec);
            still_whole(tables)?;
        }
        Change::SetPool(id, spec) => {
            for prefix in &spec.addresses {
                let prefix = IpNet::V4(*prefix);
                let mut others = tables.pools.iter().filter(|(other, _)| *other != id);
                let taken = others.any(|(_, other)| {
                    other.vrf == spec.vrf && other.addresses.iter().any(|known| IpNet::V4(*known) == prefix)
                });
                need(!taken && !tables.routes.contains_key(&(spec.vrf, prefix)), || {
                    format!("pool {id}: {prefix} has a route already")
                })?;
            }
            let floating = tables
                .floating_ips
                .values()
                .map(|floating| (floating.vrf, floating.address));
            let services = tables
                .services
                .values()
                .map(|service| (service.vrf, service.address));
            let mut others = floating.chain(services);
            need(!others.any(|(vrf, address)| spec.holds(vrf, address)), || {
                format!("pool {id} has the address of a floating IP or virtual IP")
            })?;
            tables.pools.insert(*id, spec.clone());
            still_whole(tables)?;
        }
        Change::SetService(id, spec) => {
            let route = (spec.vrf, IpNet::from(spec.address));
            let floating = tables.floating_ips.values();
            let mut floating = floating.map(|floating| (floating.vrf, floating.address));
            let taken = floating.any(|other| other == (spec.vrf, spec.address));
            need(!taken && !tables.routes.contains_key(&route), || {
                format!("service {id}: {} has a route already", spec.address)
            })?;
            let mut pools = tables.pools.values();
            need(!pools.any(|pool| pool.holds(spec.vrf, spec.address)), || {
                format!("service {id} is in a pool")
            })?;
            let others = tables.services.iter().filter(|(other, _)| *other != id);
            let mut others =
                others.filter(|(_, other)| (other.vrf, other.address) == (spec.vrf, spec.address));
            let shared = others.any(|(_, other)| {
                let mut ports = other.ports.iter().map(ServicePort::key);
                ports.any(|port| spec.ports.iter().any(|own| own.key() == port))
            });
            need(!shared, || format!("service {id} has a port of another one"))?;
            let pool = spec.source_pool.is_none_or(|pool| {
                let pool = tables.pools.get(&pool);
                pool.is_some_and(|pool| pool.vrf == spec.vrf)
            });
            need(pool, || format!("service {id}: its pool dangles"))?;
            tables.services.insert(*id, spec.clone());
            still_whole(tables)?;
        }
        Change::RemoveService(id) => {
            need(tables.services.remove(id).is_some(), || {
                format!("service {id} does not exist")
            })?;
        }
        Change::RemovePool(id) => {
            need(tables.pools.remove(id).is_some(), || {
                format!("pool {id} does not exist")
            })?;
        }
        Change::RemoveFloatingIp(id) => {
            need(tables.floating_ips.remove(id).is_some(), || {
                format!("floating IP {id} does not exist")
            })?;
        }
    }
    Ok(())
}

fn set_port(
    tables: &mut Tables,
    broken: &BTreeSet<String>,
    id: PortId,
    spec: &PortSpec,
) -> Result<(), String> {
    need(!broken.contains(&spec.name), || {
        format!("{:?} does not open: no such device", spec.device)
    })?;
    need(port_is_whole(tables, spec), || {
        format!("port {id}: its VRF, trunk, parent or policy dangles")
    })?;
    if let Some(old) = tables.ports.get(&id) {
        need(old.device == spec.device, || {
            format!("port {id}: the device is fixed")
        })?;
    }
    for (other, known) in tables.ports.iter().filter(|(other, _)| **other != id) {
        need(!same_device(&known.device, &spec.device), || {
            format!("{:?} does not open: port {other} has it", spec.device)
        })?;
        let taken = trunk_takes(id, spec, known).or(trunk_takes(*other, known, spec));
        need(taken.is_none(), || {
            format!("port {id}: VLAN {taken:?} is in use by port {other}")
        })?;
    }
    tables.ports.insert(id, spec.clone());
    Ok(())
}

/// The VLAN of the sub-interface that the port's trunk names too.
fn trunk_takes(port: PortId, spec: &PortSpec, sub: &PortSpec) -> Option<VlanId> {
    match sub.device {
        DeviceSpec::Vlan { parent, vlan } if parent == port => {
            spec.trunk.iter().map(|(tag, _)| *tag).find(|tag| *tag == vlan)
        }
        _ => None,
    }
}

fn same_device(one: &DeviceSpec, other: &DeviceSpec) -> bool {
    match (one, other) {
        (DeviceSpec::Ethdev { device: a, .. }, DeviceSpec::Ethdev { device: b, .. }) => {
            a.split(',').next() == b.split(',').next()
        }
        (DeviceSpec::VhostUser { socket: a, .. }, DeviceSpec::VhostUser { socket: b, .. }) => a == b,
        (
            DeviceSpec::Tap {
                interface: a,
                netns: m,
                ..
            },
            DeviceSpec::Tap {
                interface: b,
                netns: n,
                ..
            },
        ) => a == b && m == n,
        (DeviceSpec::Vlan { .. }, DeviceSpec::Vlan { .. }) => one == other,
        _ => false,
    }
}

fn port_is_whole(tables: &Tables, spec: &PortSpec) -> bool {
    let parent = match spec.device {
        DeviceSpec::Vlan { parent, .. } => tables
            .ports
            .get(&parent)
            .is_some_and(|parent| !matches!(parent.device, DeviceSpec::Vlan { .. })),
        _ => true,
    };
    let policy = match spec.policy {
        PortPolicy::Judged(id) => tables.policies.contains_key(&id),
        PortPolicy::Open | PortPolicy::Closed => true,
    };
    parent
        && policy
        && tables.vrfs.contains_key(&spec.vrf)
        && spec.trunk.iter().all(|(_, vrf)| tables.vrfs.contains_key(vrf))
}

fn hop_is_whole(tables: &Tables, spec: &NextHopSpec) -> bool {
    match spec {
        NextHopSpec::Port { port, .. } => tables.ports.contains_key(port),
        NextHopSpec::Tunnel { return_vrf, .. } => return_vrf.is_none_or(|vrf| tables.vrfs.contains_key(&vrf)),
        NextHopSpec::Group(members) => members.iter().all(|member| {
            matches!(tables.next_hops.get(&member.next_hop), Some(hop) if !matches!(hop, NextHopSpec::Group(_)))
        }),
        NextHopSpec::Vrf(vrf) => tables.vrfs.contains_key(vrf),
        NextHopSpec::Gateway(_) | NextHopSpec::Receive | NextHopSpec::Discard => true,
    }
}

fn target_is_whole(tables: &Tables, target: &TunnelTarget) -> bool {
    match target {
        TunnelTarget::Vrf(vrf) => tables.vrfs.contains_key(vrf),
        TunnelTarget::Port(port) => tables.ports.contains_key(port),
    }
}

/// After a removal nothing may name what is gone.
fn still_whole(tables: &Tables) -> Result<(), String> {
    for (id, spec) in &tables.ports {
        need(port_is_whole(tables, spec), || {
            format!("port {id} still names it")
        })?;
    }
    for (id, spec) in &tables.next_hops {
        need(hop_is_whole(tables, spec), || {
            format!("next hop {id} still names it")
        })?;
    }
    for ((vrf, prefix), hop) in &tables.routes {
        need(
            tables.vrfs.contains_key(vrf) && tables.next_hops.contains_key(hop),
            || format!("route {prefix} of VRF {vrf} still names it"),
        )?;
    }
    for (id, floating) in &tables.floating_ips {
        let whole = tables.vrfs.contains_key(&floating.vrf) && tables.ports.contains_key(&floating.port);
        need(whole, || format!("floating IP {id} still names it"))?;
    }
    for (id, pool) in &tables.pools {
        let whole = tables.vrfs.contains_key(&pool.vrf) && tables.vrfs.contains_key(&pool.inside_vrf);
        need(whole, || format!("pool {id} still names it"))?;
    }
    for (id, service) in &tables.services {
        need(tables.vrfs.contains_key(&service.vrf), || {
            format!("service {id} still names it")
        })?;
    }
    for (name, target) in tables
        .vnis
        .iter()
        .map(|(v, t)| (v.get(), t))
        .chain(tables.labels.iter().map(|(l, t)| (l.get(), t)))
    {
        need(target_is_whole(tables, target), || {
            format!("tunnel target {name} still names it")
        })?;
    }
    Ok(())
}
