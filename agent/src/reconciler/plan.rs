//! The difference between what the data plane has and what is wanted, as one ordered batch.
//!
//! The order lets the data plane check each step by itself: what is named is set before what names it, and removed
//! after it. Workers see none of the steps, only the whole.

use std::{net::IpAddr, path::PathBuf};

use hashbrown::{HashMap, HashSet};
use ipnet::IpNet;
use weft_dataplane::change::{Change, DeviceSpec, NextHopSpec, PortSpec, TunnelTarget, VrfSpec};
use weft_packet::{Label, VlanId, Vni};
use weft_table::{NextHopId, PortId, VrfId};

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
    /// For the data plane.
    pub change: Change,
    /// Whose it is.
    pub node: NodeId,
    /// What it is about.
    pub resource: Resource,
}

/// What the data plane has.
pub type Installed = HashMap<Resource, Value>;

/// The steps from what is installed to what is wanted.
pub fn plan(installed: &Installed, touched: &HashMap<Resource, Wanted>) -> Vec<Step> {
    let mut steps: Vec<(Order, Step)> = Vec::with_capacity(touched.len());
    for (resource, wanted) in touched {
        let old = installed.get(resource);
        let change = match (&wanted.value, old) {
            (Some(value), _) if old != Some(value) => set(*resource, value),
            (None, Some(_)) => remove(*resource),
            _ => continue,
        };
        let Some(change) = change else { continue };
        let order = order(&change, old);
        steps.push((
            order,
            Step {
                change,
                node: wanted.node,
                resource: *resource,
            },
        ));
    }
    break_before_make(installed, touched, &mut steps);
    steps.sort_by(|(one, a), (other, b)| one.cmp(other).then_with(|| a.resource.cmp(&b.resource)));
    steps.into_iter().map(|(_, step)| step).collect()
}

fn set(resource: Resource, value: &Value) -> Option<Change> {
    Some(match (resource, value) {
        (Resource::Vrf(id), Value::Vrf(spec)) => Change::SetVrf(id, (**spec).clone()),
        (Resource::Port(id), Value::Port(spec)) => Change::SetPort(id, (**spec).clone()),
        (Resource::Endpoint(address), Value::Endpoint) => Change::SetEndpoint(address),
        (Resource::NextHop(id), Value::NextHop(spec)) => Change::SetNextHop(id, (**spec).clone()),
        (Resource::Route(vrf, prefix), Value::Route(hop)) => Change::SetRoute(vrf, prefix, *hop),
        (Resource::Vni(vni), Value::Target(target)) => Change::SetVni(vni, *target),
        (Resource::Label(label), Value::Target(target)) => Change::SetLabel(label, *target),
        _ => return None,
    })
}

fn remove(resource: Resource) -> Option<Change> {
    Some(match resource {
        // The underlay's VRF is always wanted; should it ever not be, it stays all the same.
        Resource::Vrf(VrfId::UNDERLAY) => return None,
        Resource::Vrf(id) => Change::RemoveVrf(id),
        Resource::Port(id) => Change::RemovePort(id),
        Resource::Endpoint(address) => Change::RemoveEndpoint(address),
        Resource::NextHop(id) => Change::RemoveNextHop(id),
        Resource::Route(vrf, prefix) => Change::RemoveRoute(vrf, prefix),
        Resource::Vni(vni) => Change::RemoveVni(vni),
        Resource::Label(label) => Change::RemoveLabel(label),
    })
}

/// The place of a step in its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Order {
    RemoveUsers,
    /// Only where a new port takes over what a removed one had; see `break_before_make`.
    Detach,
    RemoveTakenSubinterface,
    RemoveTakenPort,
    SetVrf,
    /// Before new ports: a changed port may give up a VLAN or interface that a new one takes.
    ChangePort,
    AddPort,
    SetSubinterface,
    SetEndpoint,
    SetNextHop,
    SetGroup,
    SetRoute,
    SetTarget,
    RemoveGroup,
    RemoveNextHop,
    RemoveEndpoint,
    RemoveSubinterface,
    RemovePort,
    RemoveVrf,
}

fn order(change: &Change, old: Option<&Value>) -> Order {
    match change {
        Change::RemoveVni(_) | Change::RemoveLabel(_) | Change::RemoveRoute(..) => Order::RemoveUsers,
        Change::SetVrf(..) => Order::SetVrf,
        Change::SetPort(_, spec) if is_subinterface(spec) => Order::SetSubinterface,
        Change::SetPort(..) if old.is_some() => Order::ChangePort,
        Change::SetPort(..) => Order::AddPort,
        Change::SetEndpoint(_) => Order::SetEndpoint,
        Change::SetNextHop(_, NextHopSpec::Group(_)) => Order::SetGroup,
        Change::SetNextHop(..) => Order::SetNextHop,
        Change::SetRoute(..) => Order::SetRoute,
        Change::SetVni(..) | Change::SetLabel(..) => Order::SetTarget,
        Change::RemoveNextHop(_) => match old {
            Some(Value::NextHop(spec)) if matches!(**spec, NextHopSpec::Group(_)) => Order::RemoveGroup,
            _ => Order::RemoveNextHop,
        },
        Change::RemoveEndpoint(_) => Order::RemoveEndpoint,
        Change::RemovePort(_) => match old {
            Some(Value::Port(spec)) if is_subinterface(spec) => Order::RemoveSubinterface,
            _ => Order::RemovePort,
        },
        Change::RemoveVrf(_) => Order::RemoveVrf,
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
fn break_before_make(
    installed: &Installed,
    touched: &HashMap<Resource, Wanted>,
    steps: &mut Vec<(Order, Step)>,
) {
    let mut taken = HashSet::new();
    let mut any_removed = false;
    for (_, step) in steps.iter() {
        match &step.change {
            Change::SetPort(id, spec) => taken.extend(exclusive(*id, spec)),
            Change::RemovePort(_) => any_removed = true,
            _ => {}
        }
    }
    if taken.is_empty() || !any_removed {
        return;
    }
    let spec_of = |id: PortId| match installed.get(&Resource::Port(id)) {
        Some(Value::Port(spec)) => Some(&**spec),
        _ => None,
    };
    let removed: Vec<PortId> = steps
        .iter()
        .filter_map(|(_, step)| match step.change {
            Change::RemovePort(id) => Some(id),
            _ => None,
        })
        .collect();
    let mut early: HashSet<PortId> = HashSet::new();
    for id in &removed {
        let conflicts =
            spec_of(*id).is_some_and(|spec| exclusive(*id, spec).iter().any(|e| taken.contains(e)));
        if conflicts {
            early.insert(*id);
        }
    }
    // The sub-interfaces of a port that goes early go with it.
    for id in &removed {
        if let Some(DeviceSpec::Vlan { parent, .. }) = spec_of(*id).map(|spec| &spec.device)
            && early.contains(parent)
        {
            early.insert(*id);
        }
    }
    if early.is_empty() {
        return;
    }
    for (order, step) in steps.iter_mut() {
        if let Change::RemovePort(id) = step.change
            && early.contains(&id)
        {
            let subinterface = *order == Order::RemoveSubinterface;
            *order = if subinterface {
                Order::RemoveTakenSubinterface
            } else {
                Order::RemoveTakenPort
            };
        }
    }
    for (resource, wanted) in touched {
        let change = match (resource, installed.get(resource)) {
            (Resource::NextHop(id), Some(Value::NextHop(spec))) => match **spec {
                NextHopSpec::Port { port, .. } if early.contains(&port) => {
                    Change::SetNextHop(*id, NextHopSpec::Discard)
                }
                _ => continue,
            },
            (_, Some(Value::Target(TunnelTarget::Port(port))))
                if early.contains(port) && wanted.value.is_some() =>
            {
                match remove(*resource) {
                    Some(change) => change,
                    None => continue,
                }
            }
            _ => continue,
        };
        steps.push((
            Order::Detach,
            Step {
                change,
                node: wanted.node,
                resource: *resource,
            },
        ));
    }
}
