//! The difference between what the data plane has and what is wanted, as one ordered batch.
//!
//! The order lets the data plane check each step by itself: what is named is set before what names it, and removed
//! after it. Workers see none of the steps, only the whole.

use std::{borrow::Cow, net::IpAddr, path::PathBuf, sync::Arc};

use hashbrown::{HashMap, HashSet};
use ipnet::IpNet;
use weft_dataplane::change::{
    Change, DeviceSpec, FloatingIpSpec, NextHopSpec, PoolSpec, PortSpec, ServicePort, ServiceSpec,
    TunnelTarget, VrfSpec,
};
use weft_packet::{Label, VlanId, Vni};
use weft_table::{
    AddressGroupId, NatId, NextHopId, PolicyId, PortId, VrfId,
    policy::{AddressGroup, RuleSet},
};

use super::graph::NodeId;

/// Something that the data plane holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Resource {
    Vrf(VrfId),
    Port(PortId),
    Endpoint(IpAddr),
    NextHop(NextHopId),
    Route(VrfId, IpNet),
    Vni(Vni),
    Label(Label),
    Policy(PolicyId),
    /// Before the pools, which services name: in this order they are removed.
    Service(NatId),
    FloatingIp(NatId),
    Pool(NatId),
    AddressGroup(AddressGroupId),
}

/// What it holds there.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Value {
    Vrf(Box<VrfSpec>),
    Port(Box<PortSpec>),
    Endpoint,
    NextHop(Box<NextHopSpec>),
    Route(NextHopId),
    Target(TunnelTarget),
    Policy(Arc<RuleSet>),
    FloatingIp(FloatingIpSpec),
    Pool(Box<PoolSpec>),
    Service(Box<ServiceSpec>),
    AddressGroup(Arc<AddressGroup>),
}

/// What is wanted of a resource, and by whom.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// None: it goes.
    pub value: Option<Value>,
    /// The node that asks for it, or that asked for it last.
    pub node: NodeId,
}

/// One step of a batch.
#[derive(Clone, Debug)]
pub struct Step {
    /// Its place in the batch.
    pub(super) order: Order,
    /// What it is about.
    pub resource: Resource,
    /// What it comes to hold; None: it goes.
    pub value: Option<Value>,
    /// Whose it is.
    pub node: NodeId,
}

impl Step {
    /// The step in the data plane's words.
    pub fn change(&self) -> Change {
        match (self.resource, &self.value) {
            (Resource::NextHop(id), _) if self.order == Order::Detach => {
                Change::SetNextHop(id, NextHopSpec::Discard)
            }
            (Resource::Vrf(id), Some(Value::Vrf(spec))) => Change::SetVrf(id, (**spec).clone()),
            (Resource::Port(id), Some(Value::Port(spec))) => Change::SetPort(id, (**spec).clone()),
            (Resource::NextHop(id), Some(Value::NextHop(spec))) => Change::SetNextHop(id, (**spec).clone()),
            (Resource::Route(vrf, prefix), Some(Value::Route(hop))) => Change::SetRoute(vrf, prefix, *hop),
            (Resource::Vni(vni), Some(Value::Target(target))) => Change::SetVni(vni, *target),
            (Resource::Label(label), Some(Value::Target(target))) => Change::SetLabel(label, *target),
            (Resource::Policy(id), Some(Value::Policy(rules))) => Change::SetPolicy(id, rules.clone()),
            (Resource::FloatingIp(id), Some(Value::FloatingIp(spec))) => Change::SetFloatingIp(id, *spec),
            (Resource::Service(id), Some(Value::Service(spec))) => Change::SetService(id, (**spec).clone()),
            (Resource::Pool(id), Some(Value::Pool(spec))) => Change::SetPool(id, (**spec).clone()),
            (Resource::AddressGroup(id), Some(Value::AddressGroup(group))) => {
                Change::SetAddressGroup(id, group.clone())
            }
            (Resource::Endpoint(address), Some(_)) => Change::SetEndpoint(address),
            (Resource::Vrf(id), _) => Change::RemoveVrf(id),
            (Resource::Port(id), _) => Change::RemovePort(id),
            (Resource::NextHop(id), _) => Change::RemoveNextHop(id),
            (Resource::Route(vrf, prefix), _) => Change::RemoveRoute(vrf, prefix),
            (Resource::Vni(vni), _) => Change::RemoveVni(vni),
            (Resource::Label(label), _) => Change::RemoveLabel(label),
            (Resource::Policy(id), _) => Change::RemovePolicy(id),
            (Resource::FloatingIp(id), _) => Change::RemoveFloatingIp(id),
            (Resource::Pool(id), _) => Change::RemovePool(id),
            (Resource::Service(id), _) => Change::RemoveService(id),
            (Resource::AddressGroup(id), _) => Change::RemoveAddressGroup(id),
            (Resource::Endpoint(address), None) => Change::RemoveEndpoint(address),
        }
    }
}

/// What the data plane has.
#[derive(Debug, Default)]
pub struct Installed {
    /// Apart from the rest and compact: there may be a million of them.
    routes: HashMap<(VrfId, IpNet), NextHopId>,
    others: HashMap<Resource, Value>,
}

impl Installed {
    /// What it holds there, if anything.
    pub fn get(&self, resource: &Resource) -> Option<Cow<'_, Value>> {
        match resource {
            Resource::Route(vrf, prefix) => {
                let hop = self.routes.get(&(*vrf, *prefix));
                hop.map(|hop| Cow::Owned(Value::Route(*hop)))
            }
            other => self.others.get(other).map(Cow::Borrowed),
        }
    }

    /// The port, if it is there.
    pub fn port(&self, id: PortId) -> Option<&PortSpec> {
        match self.others.get(&Resource::Port(id)) {
            Some(Value::Port(spec)) => Some(spec),
            _ => None,
        }
    }

    /// It holds this there from now on; None: nothing.
    pub fn set(&mut self, resource: Resource, value: Option<Value>) {
        match (resource, value) {
            (Resource::Route(vrf, prefix), Some(Value::Route(hop))) => {
                self.routes.insert((vrf, prefix), hop);
            }
            (Resource::Route(vrf, prefix), _) => drop(self.routes.remove(&(vrf, prefix))),
            (other, Some(value)) => drop(self.others.insert(other, value)),
            (other, None) => drop(self.others.remove(&other)),
        }
    }

    /// Everything that it holds, in no particular order.
    pub fn resources(&self) -> impl Iterator<Item = Resource> {
        let routes = self
            .routes
            .keys()
            .map(|(vrf, prefix)| Resource::Route(*vrf, *prefix));
        routes.chain(self.others.keys().copied())
    }
}

/// The steps from what is installed to what is wanted.
pub fn plan(installed: &Installed, touched: &HashMap<Resource, Wanted>) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::with_capacity(touched.len());
    for (resource, wanted) in touched {
        let old = installed.get(resource);
        let old = old.as_deref();
        // The underlay's VRF is always wanted; should it ever not be, it stays all the same.
        let stays = wanted.value.is_none() && *resource == Resource::Vrf(VrfId::UNDERLAY);
        if wanted.value.as_ref() == old || stays {
            continue;
        }
        // What a changed floating IP, pool or service gives up may be another's in the same batch.
        let gives_up = match (&wanted.value, old) {
            (Some(Value::FloatingIp(_)), Some(_)) => true,
            (Some(Value::Pool(new)), Some(Value::Pool(old))) => {
                (new.vrf, &new.addresses) != (old.vrf, &old.addresses)
            }
            (Some(Value::Service(new)), Some(Value::Service(old))) => place_of(new) != place_of(old),
            _ => false,
        };
        if gives_up {
            steps.push(Step {
                order: Order::RemoveUsers,
                resource: *resource,
                value: None,
                node: wanted.node,
            });
        }
        steps.push(Step {
            order: order(resource, wanted.value.as_ref(), old),
            resource: *resource,
            value: wanted.value.clone(),
            node: wanted.node,
        });
    }
    break_before_make(installed, touched, &mut steps);
    steps.sort_unstable_by_key(|step| (step.order, step.resource));
    steps
}

/// What a service has for itself.
fn place_of(service: &ServiceSpec) -> (VrfId, IpAddr, Vec<(u8, Option<u16>)>) {
    let mut ports: Vec<_> = service.ports.iter().map(ServicePort::key).collect();
    ports.sort_unstable();
    (service.vrf, service.address, ports)
}

/// The place of a step in its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Order {
    RemoveUsers,
    /// Only where a new port takes over what a removed one had; see `break_before_make`.
    Detach,
    RemoveTakenSubinterface,
    RemoveTakenPort,
    SetVrf,
    SetAddressGroup,
    SetPolicy,
    /// Before new ports: a changed port may give up a VLAN or interface that a new one takes.
    ChangePort,
    AddPort,
    SetSubinterface,
    SetEndpoint,
    SetNextHop,
    SetGroup,
    SetRoute,
    SetPool,
    SetFloatingIp,
    SetService,
    SetTarget,
    RemoveGroup,
    RemoveNextHop,
    RemoveEndpoint,
    RemoveSubinterface,
    RemovePort,
    RemovePolicy,
    RemoveAddressGroup,
    RemoveVrf,
}

fn order(resource: &Resource, value: Option<&Value>, old: Option<&Value>) -> Order {
    let group =
        |value: &Value| matches!(value, Value::NextHop(spec) if matches!(**spec, NextHopSpec::Group(_)));
    let subinterface = |value: &Value| matches!(value, Value::Port(spec) if is_subinterface(spec));
    match (resource, value) {
        (Resource::Vni(_) | Resource::Label(_) | Resource::Route(..), None)
        | (Resource::FloatingIp(_) | Resource::Pool(_) | Resource::Service(_), None) => Order::RemoveUsers,
        (Resource::Service(_), Some(_)) => Order::SetService,
        (Resource::FloatingIp(_), Some(_)) => Order::SetFloatingIp,
        (Resource::Pool(_), Some(_)) => Order::SetPool,
        (Resource::Vrf(_), Some(_)) => Order::SetVrf,
        (Resource::Policy(_), Some(_)) => Order::SetPolicy,
        (Resource::AddressGroup(_), Some(_)) => Order::SetAddressGroup,
        (Resource::Port(_), Some(new)) if subinterface(new) => Order::SetSubinterface,
        (Resource::Port(_), Some(_)) if old.is_some() => Order::ChangePort,
        (Resource::Port(_), Some(_)) => Order::AddPort,
        (Resource::Endpoint(_), Some(_)) => Order::SetEndpoint,
        (Resource::NextHop(_), Some(new)) if group(new) => Order::SetGroup,
        (Resource::NextHop(_), Some(_)) => Order::SetNextHop,
        (Resource::Route(..), Some(_)) => Order::SetRoute,
        (Resource::Vni(_) | Resource::Label(_), Some(_)) => Order::SetTarget,
        (Resource::NextHop(_), None) if old.is_some_and(group) => Order::RemoveGroup,
        (Resource::NextHop(_), None) => Order::RemoveNextHop,
        (Resource::Endpoint(_), None) => Order::RemoveEndpoint,
        (Resource::Port(_), None) if old.is_some_and(subinterface) => Order::RemoveSubinterface,
        (Resource::Port(_), None) => Order::RemovePort,
        (Resource::Policy(_), None) => Order::RemovePolicy,
        (Resource::AddressGroup(_), None) => Order::RemoveAddressGroup,
        (Resource::Vrf(_), None) => Order::RemoveVrf,
    }
}

fn is_subinterface(spec: &PortSpec) -> bool {
    matches!(spec.device, DeviceSpec::Vlan { .. })
}

/// What two ports cannot both have.
#[derive(PartialEq, Eq, Hash)]
enum Exclusive {
    Ethdev(String),
    Socket(PathBuf),
    Interface(Option<PathBuf>, String),
    Vlan(PortId, VlanId),
}

fn exclusive(id: PortId, spec: &PortSpec) -> Vec<Exclusive> {
    let mut all = Vec::new();
    match &spec.device {
        DeviceSpec::Ethdev { device, .. } => {
            let mut parts = device.split(',');
            all.extend(parts.next().map(|driver| Exclusive::Ethdev(driver.into())));
            let interface = parts.find_map(|argument| argument.strip_prefix("iface="));
            all.extend(interface.map(|name| Exclusive::Interface(None, name.into())));
        }
        DeviceSpec::VhostUser { socket, .. } => all.push(Exclusive::Socket(socket.clone())),
        DeviceSpec::Tap { interface, netns, .. } => {
            all.push(Exclusive::Interface(netns.clone(), interface.clone()));
        }
        DeviceSpec::Vlan { parent, vlan } => all.push(Exclusive::Vlan(*parent, *vlan)),
    }
    all.extend(spec.trunk.iter().map(|(vlan, _)| Exclusive::Vlan(id, *vlan)));
    all.extend(
        spec.host_interface
            .iter()
            .map(|name| Exclusive::Interface(None, name.clone())),
    );
    all
}

/// Ports are removed last, when nothing names them any more. That is too late where a port of the same batch takes over
/// the device or VLAN of a removed one. Such a port goes first, and what leads to it drops for the moment: between the
/// steps of one batch no packet comes by.
fn break_before_make(installed: &Installed, touched: &HashMap<Resource, Wanted>, steps: &mut Vec<Step>) {
    let mut taken = HashSet::new();
    let mut any_removed = false;
    for step in steps.iter() {
        match (&step.resource, &step.value) {
            (Resource::Port(id), Some(Value::Port(spec))) => taken.extend(exclusive(*id, spec)),
            (Resource::Port(_), None) => any_removed = true,
            _ => {}
        }
    }
    if taken.is_empty() || !any_removed {
        return;
    }
    let removed: Vec<PortId> = steps
        .iter()
        .filter_map(|step| match (step.resource, &step.value) {
            (Resource::Port(id), None) => Some(id),
            _ => None,
        })
        .collect();
    let mut early: HashSet<PortId> = HashSet::new();
    for id in &removed {
        let conflicts = installed
            .port(*id)
            .is_some_and(|spec| exclusive(*id, spec).iter().any(|e| taken.contains(e)));
        if conflicts {
            early.insert(*id);
        }
    }
    // The sub-interfaces of a port that goes early go with it.
    for id in &removed {
        if let Some(DeviceSpec::Vlan { parent, .. }) = installed.port(*id).map(|spec| &spec.device)
            && early.contains(parent)
        {
            early.insert(*id);
        }
    }
    if early.is_empty() {
        return;
    }
    for step in steps.iter_mut() {
        if let (Resource::Port(id), None) = (step.resource, &step.value)
            && early.contains(&id)
        {
            let subinterface = step.order == Order::RemoveSubinterface;
            step.order = if subinterface {
                Order::RemoveTakenSubinterface
            } else {
                Order::RemoveTakenPort
            };
        }
    }
    for (resource, wanted) in touched {
        let leads_there = match installed.get(resource).as_deref() {
            Some(Value::NextHop(spec)) => {
                matches!(**spec, NextHopSpec::Port { port, .. } if early.contains(&port))
            }
            Some(Value::Target(TunnelTarget::Port(port))) => early.contains(port) && wanted.value.is_some(),
            _ => false,
        };
        if leads_there {
            steps.push(Step {
                order: Order::Detach,
                resource: *resource,
                value: None,
                node: wanted.node,
            });
        }
    }
}
