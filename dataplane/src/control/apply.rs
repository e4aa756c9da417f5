//! Batches: each change edits the state and leaves behind how to undo it, so that a refused batch leaves no trace.

use std::{net::IpAddr, sync::Arc};

use ipnet::IpNet;
use weft_packet::{Label, Vni};
use weft_table::{AddressGroupId, NatId, NextHopId, PolicyId, PortId, RouteId, VrfId, policy::AddressGroup};

use super::{
    ChangeError, Refused,
    state::{HopEntry, PortEntry, State},
};
use crate::{
    change::{Change, NextHopSpec, PortSpec, TunnelTarget, VrfSpec},
    port::OpenContext,
    snapshot::{FloatingIp, HopId, Policy, Pool, Route, Service},
};

/// How to take back one step.
enum Undo {
    Vrf(VrfId, Option<VrfSpec>),
    Port(PortId, Option<Box<PortEntry>>),
    Route(VrfId, IpNet, Option<HopId>),
    NextHop(NextHopId, Option<NextHopSpec>),
    Vni(Vni, Option<TunnelTarget>),
    Label(Label, Option<TunnelTarget>),
    Endpoint(IpAddr, bool),
    Policy(PolicyId, Option<Arc<Policy>>),
    FloatingIp(NatId, Option<Arc<FloatingIp>>),
    Pool(NatId, Option<Arc<Pool>>),
    Service(NatId, Option<Arc<Service>>),
    AddressGroup(AddressGroupId, Option<Arc<AddressGroup>>),
}

impl State {
    /// Edits the state by a whole batch, or not at all. The caller publishes afterwards.
    pub fn apply(&mut self, batch: Vec<Change>, context: &OpenContext<'_>) -> Result<(), Refused> {
        let mut undo = Vec::with_capacity(batch.len());
        for (index, change) in batch.into_iter().enumerate() {
            match self.step(change, context) {
                Ok(step) => undo.push(step),
                Err(reason) => {
                    for step in undo.into_iter().rev() {
                        self.take_back(step);
                    }
                    return Err(Refused { index, reason });
                }
            }
        }
        Ok(())
    }

    fn step(&mut self, change: Change, context: &OpenContext<'_>) -> Result<Undo, ChangeError> {
        match change {
            Change::SetVrf(id, spec) => {
                if id.index() >= VrfId::MAX {
                    return Err(ChangeError::VrfRange(id));
                }
                Ok(Undo::Vrf(id, self.put_vrf(id, Some(spec))))
            }
            Change::RemoveVrf(id) => {
                let entry = self.vrfs.get(&id).ok_or(ChangeError::UnknownVrf(id))?;
                let routes = entry.routes() as u32;
                if id == VrfId::UNDERLAY {
                    return Err(ChangeError::UnderlayVrf);
                }
                if entry.users + routes > 0 {
                    return Err(ChangeError::VrfInUse(id, entry.users + routes));
                }
                Ok(Undo::Vrf(id, self.put_vrf(id, None)))
            }
            Change::SetPort(id, spec) => {
                let entry = self.port_for(id, spec, context)?;
                Ok(Undo::Port(id, self.put_port(id, Some(entry)).map(Box::new)))
            }
            Change::RemovePort(id) => {
                let entry = self.ports.get(&id).ok_or(ChangeError::UnknownPort(id))?;
                if entry.users > 0 {
                    return Err(ChangeError::PortInUse(id, entry.users));
                }
                Ok(Undo::Port(id, self.put_port(id, None).map(Box::new)))
            }
            Change::SetRoute(vrf, prefix, next_hop) => {
                if prefix != prefix.trunc() {
                    return Err(ChangeError::HostBits(prefix));
                }
                if !self.vrfs.contains_key(&vrf) {
                    return Err(ChangeError::UnknownVrf(vrf));
                }
                if !self.hops.contains_key(&next_hop) {
                    return Err(ChangeError::UnknownNextHop(next_hop));
                }
                self.check_not_floating(vrf, prefix)?;
                Ok(Undo::Route(
                    vrf,
                    prefix,
                    self.put_route(vrf, prefix, Some(HopId::of(next_hop)))?,
                ))
            }
            Change::RemoveRoute(vrf, prefix) => {
                self.check_not_floating(vrf, prefix)?;
                let previous = self.put_route(vrf, prefix, None)?;
                let previous = previous.ok_or(ChangeError::UnknownRoute(vrf, prefix))?;
                Ok(Undo::Route(vrf, prefix, Some(previous)))
            }
            Change::SetNextHop(id, spec) => {
                self.check_next_hop(id, &spec)?;
                Ok(Undo::NextHop(id, self.put_next_hop(id, Some(spec))))
            }
            Change::RemoveNextHop(id) => {
                let entry = self.hops.get(&id).ok_or(ChangeError::UnknownNextHop(id))?;
                if entry.users > 0 {
                    return Err(ChangeError::NextHopInUse(id, entry.users));
                }
                Ok(Undo::NextHop(id, self.put_next_hop(id, None)))
            }
            Change::SetVni(vni, target) => {
                self.check_target(target)?;
                Ok(Undo::Vni(vni, self.put_vni(vni, Some(target))))
            }
            Change::RemoveVni(vni) => {
                let previous = self.put_vni(vni, None).ok_or(ChangeError::UnknownVni(vni))?;
                Ok(Undo::Vni(vni, Some(previous)))
            }
            Change::SetLabel(label, target) => {
                self.check_target(target)?;
                Ok(Undo::Label(label, self.put_label(label, Some(target))))
            }
            Change::RemoveLabel(label) => {
                let previous = self
                    .put_label(label, None)
                    .ok_or(ChangeError::UnknownLabel(label))?;
                Ok(Undo::Label(label, Some(previous)))
            }
            Change::SetEndpoint(remote) => Ok(Undo::Endpoint(remote, self.put_endpoint(remote, true))),
            Change::RemoveEndpoint(remote) => {
                if !self
                    .endpoints
                    .get(&remote)
                    .is_some_and(|endpoint| endpoint.configured)
                {
                    return Err(ChangeError::UnknownEndpoint(remote));
                }
                Ok(Undo::Endpoint(remote, self.put_endpoint(remote, false)))
            }
            Change::SetPolicy(id, rules) => Ok(Undo::Policy(id, self.set_policy(id, rules)?)),
            Change::RemovePolicy(id) => Ok(Undo::Policy(id, self.remove_policy(id)?)),
            Change::SetFloatingIp(id, spec) => Ok(Undo::FloatingIp(id, self.set_floating_ip(id, spec)?)),
            Change::SetPool(id, spec) => Ok(Undo::Pool(id, self.set_pool(id, spec)?)),
            Change::RemovePool(id) => Ok(Undo::Pool(id, self.remove_pool(id)?)),
            Change::SetService(id, spec) => Ok(Undo::Service(id, self.set_service(id, spec)?)),
            Change::RemoveService(id) => Ok(Undo::Service(id, self.remove_service(id)?)),
            Change::RemoveFloatingIp(id) => Ok(Undo::FloatingIp(id, self.remove_floating_ip(id)?)),
            Change::SetAddressGroup(id, group) => {
                Ok(Undo::AddressGroup(id, self.set_address_group(id, group)?))
            }
            Change::RemoveAddressGroup(id) => Ok(Undo::AddressGroup(id, self.remove_address_group(id)?)),
        }
    }

    fn take_back(&mut self, step: Undo) {
        match step {
            Undo::Vrf(id, previous) => drop(self.put_vrf(id, previous)),
            Undo::Port(id, previous) => drop(self.put_port(id, previous.map(|entry| *entry))),
            // Room for it was found when the route was first set.
            Undo::Route(vrf, prefix, previous) => drop(self.put_route(vrf, prefix, previous)),
            Undo::NextHop(id, previous) => drop(self.put_next_hop(id, previous)),
            Undo::Vni(vni, previous) => drop(self.put_vni(vni, previous)),
            Undo::Label(label, previous) => drop(self.put_label(label, previous)),
            Undo::Endpoint(remote, configured) => _ = self.put_endpoint(remote, configured),
            Undo::Policy(id, previous) => drop(self.put_policy(id, previous)),
            // Its route was there before.
            Undo::Pool(id, previous) => drop(self.put_pool(id, previous)),
            Undo::Service(id, previous) => drop(self.restore_service(id, previous)),
            Undo::FloatingIp(id, previous) => drop(self.put_floating_ip(id, previous)),
            Undo::AddressGroup(id, previous) => drop(self.put_address_group(id, previous)),
        }
    }

    fn put_vrf(&mut self, id: VrfId, spec: Option<VrfSpec>) -> Option<VrfSpec> {
        self.touched.vrfs.insert(id);
        match (self.vrfs.get_mut(&id), spec) {
            (Some(entry), Some(spec)) => Some(std::mem::replace(&mut entry.spec, spec)),
            (Some(_), None) => self.vrfs.remove(&id).map(|entry| {
                self.route_changed(entry.no_route);
                self.route_ids.give_back(entry.no_route.0);
                entry.spec
            }),
            (None, Some(spec)) => {
                self.add_vrf(id, spec);
                None
            }
            (None, None) => None,
        }
    }

    fn check_target(&self, target: TunnelTarget) -> Result<(), ChangeError> {
        match target {
            TunnelTarget::Vrf(vrf) if !self.vrfs.contains_key(&vrf) => Err(ChangeError::UnknownVrf(vrf)),
            TunnelTarget::Port(port) if !self.ports.contains_key(&port) => {
                Err(ChangeError::UnknownPort(port))
            }
            _ => Ok(()),
        }
    }

    fn count_target(&mut self, target: Option<TunnelTarget>, step: i32) {
        match target {
            Some(TunnelTarget::Vrf(vrf)) => self.count_vrf(vrf, step),
            Some(TunnelTarget::Port(port)) => self.count_port(port, step),
            None => {}
        }
        self.touched.targets = true;
    }

    fn put_vni(&mut self, vni: Vni, target: Option<TunnelTarget>) -> Option<TunnelTarget> {
        let previous = match target {
            Some(target) => self.vnis.insert(vni, target),
            None => self.vnis.remove(&vni),
        };
        self.count_target(target, 1);
        self.count_target(previous, -1);
        previous
    }

    fn put_label(&mut self, label: Label, target: Option<TunnelTarget>) -> Option<TunnelTarget> {
        let previous = match target {
            Some(target) => self.labels.insert(label, target),
            None => self.labels.remove(&label),
        };
        self.count_target(target, 1);
        self.count_target(previous, -1);
        previous
    }

    fn put_endpoint(&mut self, remote: IpAddr, configured: bool) -> bool {
        let previous = std::mem::replace(&mut self.endpoint(remote).configured, configured);
        self.release_endpoint(remote);
        previous
    }

    /// One user more or less of a VRF.
    pub fn count_vrf(&mut self, vrf: VrfId, step: i32) {
        if let Some(entry) = self.vrfs.get_mut(&vrf) {
            entry.users = entry.users.saturating_add_signed(step);
        }
    }

    /// One user more or less of a port.
    pub fn count_port(&mut self, port: PortId, step: i32) {
        if let Some(entry) = self.ports.get_mut(&port) {
            entry.users = entry.users.saturating_add_signed(step);
        }
    }

    /// One user more or less of a next hop.
    pub fn count_hop(&mut self, hop: HopId, step: i32) {
        if let crate::snapshot::HopKind::Table(id) = hop.kind()
            && let Some(HopEntry { users, .. }) = self.hops.get_mut(&id)
        {
            *users = users.saturating_add_signed(step);
        }
    }

    /// Sets or removes a route; the previous hop. A route that comes or goes changes what its cover decides too.
    pub fn put_route(
        &mut self,
        vrf: VrfId,
        prefix: IpNet,
        hop: Option<HopId>,
    ) -> Result<Option<HopId>, ChangeError> {
        let number = self.number();
        let entry = self.vrfs.get_mut(&vrf).ok_or(ChangeError::UnknownVrf(vrf))?;
        let known = entry.get(prefix);
        let previous = known
            .and_then(|route| self.draft.routes.get(route.index()))
            .map(|route| route.next_hop);
        match (known, hop) {
            (None, None) => return Ok(None),
            (Some(route), Some(hop)) => {
                self.draft.routes.set(route.index(), Route { next_hop: hop });
                self.route_changed(route);
            }
            (Some(route), None) => {
                entry.remove(prefix);
                self.route_changed(route);
                self.route_ids.give_back(route.0);
            }
            (None, Some(hop)) => {
                let route = RouteId(self.route_ids.take());
                if let Err(full) = self.changed.routes.set(route.0, number) {
                    self.route_ids.give_back(route.0);
                    return Err(full.into());
                }
                let (cover, no_route) = (entry.insert(prefix, route), entry.no_route);
                self.draft.routes.set(route.index(), Route { next_hop: hop });
                // Where no route was, there are no sessions that remember one.
                if cover == no_route {
                    self.route_changed(no_route);
                } else {
                    self.route_narrowed(cover, prefix);
                }
            }
        }
        self.touched.vrfs.insert(vrf);
        self.touched.underlay |= vrf == VrfId::UNDERLAY;
        if let Some(hop) = hop {
            self.count_hop(hop, 1);
        }
        if let Some(previous) = previous.filter(|_| known.is_some()) {
            self.count_hop(previous, -1);
        }
        Ok(previous)
    }

    fn put_next_hop(&mut self, id: NextHopId, spec: Option<NextHopSpec>) -> Option<NextHopSpec> {
        if let Some(spec) = &spec {
            self.count_hop_spec(spec, 1);
        }
        let previous = match spec {
            Some(spec) => match self.hops.get_mut(&id) {
                Some(entry) => Some(std::mem::replace(&mut entry.spec, spec)),
                None => self
                    .hops
                    .insert(id, HopEntry { spec, users: 0 })
                    .map(|entry| entry.spec),
            },
            None => self.hops.remove(&id).map(|entry| entry.spec),
        };
        if let Some(previous) = &previous {
            self.count_hop_spec(previous, -1);
        }
        self.touched.hops.insert(id);
        self.touched.neighbours |= previous.is_some();
        previous
    }

    /// What a next hop names is used once more or less.
    fn count_hop_spec(&mut self, spec: &NextHopSpec, step: i32) {
        match spec {
            NextHopSpec::Port { port, .. } => self.count_port(*port, step),
            NextHopSpec::Vrf(vrf) => self.count_vrf(*vrf, step),
            NextHopSpec::Group(members) => {
                for member in members {
                    self.count_hop(HopId::of(member.next_hop), step);
                }
            }
            NextHopSpec::Tunnel {
                remote, return_vrf, ..
            } => {
                if let Some(vrf) = return_vrf {
                    self.count_vrf(*vrf, step);
                }
                let endpoint = self.endpoint(*remote);
                endpoint.users = endpoint.users.saturating_add_signed(step);
                self.release_endpoint(*remote);
            }
            NextHopSpec::Gateway(_) | NextHopSpec::Receive | NextHopSpec::Discard => {}
        }
    }

    fn check_next_hop(&self, id: NextHopId, spec: &NextHopSpec) -> Result<(), ChangeError> {
        use crate::change::Encapsulation;
        if id.0 >= HopId::TABLE_SIZE {
            return Err(ChangeError::NextHopRange(id));
        }
        match spec {
            NextHopSpec::Port { port, .. } if !self.ports.contains_key(port) => {
                Err(ChangeError::UnknownPort(*port))
            }
            NextHopSpec::Vrf(vrf) if !self.vrfs.contains_key(vrf) => Err(ChangeError::UnknownVrf(*vrf)),
            NextHopSpec::Group(members) => members.iter().try_for_each(|member| {
                match self.hops.get(&member.next_hop).map(|entry| &entry.spec) {
                    None => Err(ChangeError::UnknownNextHop(member.next_hop)),
                    Some(NextHopSpec::Group(_)) => Err(ChangeError::NestedGroup(id, member.next_hop)),
                    Some(_) => Ok(()),
                }
            }),
            NextHopSpec::Tunnel {
                remote,
                local,
                encapsulation,
                return_vrf,
            } => {
                if let Some(local) = local
                    && local.is_ipv4() != remote.is_ipv4()
                {
                    return Err(ChangeError::MixedFamilies(id, *remote, *local));
                }
                if let Encapsulation::MplsOverUdp { labels } | Encapsulation::MplsOverGre { labels } =
                    encapsulation
                    && !(1..=3).contains(&labels.len())
                {
                    return Err(ChangeError::LabelStack(id, labels.len()));
                }
                match return_vrf {
                    Some(vrf) if !self.vrfs.contains_key(vrf) => Err(ChangeError::UnknownVrf(*vrf)),
                    _ => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    fn port_for(
        &mut self,
        id: PortId,
        spec: PortSpec,
        context: &OpenContext<'_>,
    ) -> Result<PortEntry, ChangeError> {
        if id.0 > super::MAX_PORT_ID {
            return Err(ChangeError::PortRange(id));
        }
        for vrf in std::iter::once(spec.vrf).chain(spec.trunk.iter().map(|(_, vrf)| *vrf)) {
            if !self.vrfs.contains_key(&vrf) {
                return Err(ChangeError::UnknownVrf(vrf));
            }
        }
        self.check_vlans(id, &spec)?;
        self.check_policy(spec.policy)?;
        match self.ports.get(&id) {
            Some(PortEntry { spec: old, .. })
                if old.device != spec.device || old.host_interface != spec.host_interface =>
            {
                Err(ChangeError::DeviceFixed(id))
            }
            Some(entry) => Ok(PortEntry {
                spec,
                ..entry.clone()
            }),
            None => self.open_port(id, spec, context),
        }
    }
}
