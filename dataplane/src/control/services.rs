//! Services: each is a part of its virtual IP, which is a route of the VRF as long as it has services.
//!
//! Sessions depend on their own service: it is an object among the routes, and changes when the service does. A service of
//! all ports changes besides when one that goes before it comes, goes or changes.

use std::sync::Arc;

use ipnet::IpNet;
use weft_table::{NatId, RouteId, VrfId, maglev::Maglev};

use super::{ChangeError, nat::NATS, state::State};
use crate::{
    change::ServiceSpec,
    snapshot::{HopId, Service, VirtualIp},
};

impl State {
    /// Adds or replaces a service; the previous one.
    pub fn set_service(&mut self, id: NatId, spec: ServiceSpec) -> Result<Option<Arc<Service>>, ChangeError> {
        self.check_service(id, &spec)?;
        let known = self.draft.service(id);
        let object = match known {
            Some(known) => known.object,
            None => RouteId(self.route_ids.take()),
        };
        let service = Service::new(id, object, spec, known, usize::from(self.workers));
        self.put_service(id, Some(service))
    }

    fn check_service(&self, id: NatId, spec: &ServiceSpec) -> Result<(), ChangeError> {
        if id.0 >= NATS {
            return Err(ChangeError::NatRange(id));
        }
        let vrf = self
            .vrfs
            .get(&spec.vrf)
            .ok_or(ChangeError::UnknownVrf(spec.vrf))?;
        if spec.vrf == VrfId::UNDERLAY {
            return Err(ChangeError::ServiceOfUnderlay(id));
        }
        if spec.ports.is_empty() {
            return Err(ChangeError::ServiceWithoutPort(id));
        }
        if spec.backends.len() > Maglev::BACKENDS {
            return Err(ChangeError::ServiceBackends(id, spec.backends.len()));
        }
        let mut backends = spec.backends.iter();
        if let Some(other) = backends.find(|backend| backend.address.is_ipv4() != spec.address.is_ipv4()) {
            return Err(ChangeError::FloatingFamilies(spec.address, other.address));
        }
        let prefix = IpNet::from(spec.address);
        let index = self
            .draft
            .virtual_ip_index
            .get(&(spec.vrf, spec.address))
            .copied();
        let route = vrf.get(prefix).and_then(|route| self.draft.route(route));
        if route.is_some_and(|route| Some(route.next_hop) != index.map(HopId::virtual_ip)) {
            return Err(ChangeError::FloatingRoute(spec.vrf, prefix));
        }
        let mut pools = self.draft.pools.iter();
        if let Some(pool) = pools.find(|pool| pool.spec.holds(spec.vrf, spec.address)) {
            return Err(ChangeError::FloatingInPool(spec.address, pool.id));
        }
        if let Some(pool) = spec.source_pool
            && self.draft.pool(pool).is_none_or(|pool| pool.spec.vrf != spec.vrf)
        {
            return Err(ChangeError::UnknownPool(pool));
        }
        let others = index.and_then(|index| self.draft.virtual_ip(index));
        let others = others.map_or(&[][..], |virtual_ip| &virtual_ip.services);
        for port in &spec.ports {
            let has = |other: &&Arc<Service>| {
                let mut ports = other.spec.ports.iter();
                other.id != id && ports.any(|known| known.key() == port.key())
            };
            if let Some(other) = others.iter().find(has) {
                return Err(ChangeError::ServicePort(id, other.id));
            }
        }
        Ok(())
    }

    /// Removes a service.
    pub fn remove_service(&mut self, id: NatId) -> Result<Option<Arc<Service>>, ChangeError> {
        match self.draft.service(id) {
            None => Err(ChangeError::UnknownService(id)),
            Some(_) => self.put_service(id, None),
        }
    }

    /// Takes a step back: what was there before, if anything.
    pub fn restore_service(&mut self, id: NatId, previous: Option<Arc<Service>>) -> Result<(), ChangeError> {
        let service = previous.map(|previous| {
            let object = match self.draft.service(id) {
                Some(known) => known.object,
                None => RouteId(self.route_ids.take()),
            };
            previous.depending_on(object)
        });
        self.put_service(id, service).map(drop)
    }

    /// Sets or removes a service; the previous one.
    fn put_service(
        &mut self,
        id: NatId,
        service: Option<Service>,
    ) -> Result<Option<Arc<Service>>, ChangeError> {
        let previous = self.draft.services.get(id.index()).cloned().flatten();
        let service = service.map(Arc::new);
        let place = |service: &Arc<Service>| (service.spec.vrf, service.spec.address);
        // It joins the new virtual IP before it leaves the old one: a route that stays is not touched.
        if let Some(service) = &service {
            self.change_virtual_ip(place(service), |services| {
                services.retain(|known| known.id != id);
                services.push(Arc::clone(service));
            })?;
            self.count_vrf(service.spec.vrf, 1);
        }
        if let Some(previous) = &previous {
            if service.as_ref().map(place) != Some(place(previous)) {
                self.change_virtual_ip(place(previous), |services| {
                    services.retain(|known| known.id != id)
                })?;
            }
            self.count_vrf(previous.spec.vrf, -1);
        }
        if let (Some(previous), None) = (&previous, &service) {
            self.route_changed(previous.object);
            self.route_ids.give_back(previous.object.0);
        }
        self.draft.services.set(id.index(), service);
        Ok(previous)
    }

    /// Changes the services of a virtual IP, which comes with its first one and goes with its last.
    fn change_virtual_ip(
        &mut self,
        (vrf, address): (VrfId, std::net::IpAddr),
        change: impl FnOnce(&mut Vec<Arc<Service>>),
    ) -> Result<(), ChangeError> {
        let known = self.draft.virtual_ip_index.get(&(vrf, address)).copied();
        let mut services = known
            .and_then(|index| self.draft.virtual_ip(index))
            .map_or_else(Vec::new, |virtual_ip| virtual_ip.services.clone());
        let before = services.clone();
        change(&mut services);
        services.sort_by_key(|service| service.id);
        // Whose part of the address may be another one now.
        let affected = before.iter().chain(&services).filter(|service| {
            let stays = before.iter().any(|other| Arc::ptr_eq(other, service))
                && services.iter().any(|other| Arc::ptr_eq(other, service));
            !stays || service.spec.ports.iter().any(|port| port.port.is_none())
        });
        let affected: Vec<RouteId> = affected.map(|service| service.object).collect();
        let index = match known {
            Some(index) => index,
            None => self.virtual_ip_ids.take(),
        };
        if services.is_empty() {
            self.put_route(vrf, address.into(), None)?;
            self.draft.virtual_ips.set(index as usize, None);
            Arc::make_mut(&mut self.draft.virtual_ip_index).remove(&(vrf, address));
            self.virtual_ip_ids.give_back(index);
        } else {
            if known.is_none() {
                if let Err(full) = self.put_route(vrf, address.into(), Some(HopId::virtual_ip(index))) {
                    self.virtual_ip_ids.give_back(index);
                    return Err(full);
                }
                Arc::make_mut(&mut self.draft.virtual_ip_index).insert((vrf, address), index);
            }
            let virtual_ip = VirtualIp {
                vrf,
                address,
                services,
            };
            self.draft
                .virtual_ips
                .set(index as usize, Some(Arc::new(virtual_ip)));
        }
        for object in affected {
            self.route_changed(object);
        }
        Ok(())
    }

    /// Sessions of the services whose sources come from a pool look again.
    pub fn pool_of_services_changed(&mut self, pool: NatId) {
        let services = self
            .draft
            .services
            .iter()
            .filter_map(|(_, service)| service.as_deref());
        let of_pool = services.filter(|service| service.spec.source_pool == Some(pool));
        let objects: Vec<RouteId> = of_pool.map(|service| service.object).collect();
        for object in objects {
            self.route_changed(object);
        }
    }
}
