//! Floating IPs and pools.
//!
//! A floating IP is a route of its VRF, and an address that its port's packets come from.
//!
//! Sessions that come to the address depend on its route. Those that the port opens depend on the port: what they come
//! from is looked up anew when one of the port's floating IPs comes, goes or changes.

use std::sync::Arc;

use hashbrown::HashSet;
use ipnet::IpNet;
use weft_table::{NatId, NextHopId, PortId, VrfId};

use super::{ChangeError, state::State};
use crate::{
    change::{FloatingIpSpec, PoolSpec},
    snapshot::{FloatingIp, HopId, HopKind, NextHop, Pool, PortNat},
};

/// Floating IPs, pools and services are numbered below this.
pub const NATS: u32 = 1 << 20;

impl State {
    /// Adds or replaces a floating IP; the previous one.
    pub fn set_floating_ip(
        &mut self,
        id: NatId,
        spec: FloatingIpSpec,
    ) -> Result<Option<Arc<FloatingIp>>, ChangeError> {
        if id.0 >= NATS {
            return Err(ChangeError::NatRange(id));
        }
        if !self.ports.contains_key(&spec.port) {
            return Err(ChangeError::UnknownPort(spec.port));
        }
        if spec.address.is_ipv4() != spec.inside.is_ipv4() {
            return Err(ChangeError::FloatingFamilies(spec.address, spec.inside));
        }
        let vrf = self
            .vrfs
            .get(&spec.vrf)
            .ok_or(ChangeError::UnknownVrf(spec.vrf))?;
        let prefix = IpNet::from(spec.address);
        let route = vrf.get(prefix).and_then(|route| self.draft.route(route));
        if route.is_some_and(|route| route.next_hop != HopId::floating_ip(id)) {
            return Err(ChangeError::FloatingRoute(spec.vrf, prefix));
        }
        let mut pools = self.draft.pools.iter();
        if let Some(pool) = pools.find(|pool| pool.spec.holds(spec.vrf, spec.address)) {
            return Err(ChangeError::FloatingInPool(spec.address, pool.id));
        }
        let known = self.draft.floating_ip(id).map(|known| Arc::clone(&known.opened));
        let floating = FloatingIp::new(id, spec, known, usize::from(self.workers));
        self.put_floating_ip(id, Some(Arc::new(floating)))
    }

    /// Removes a floating IP.
    pub fn remove_floating_ip(&mut self, id: NatId) -> Result<Option<Arc<FloatingIp>>, ChangeError> {
        if self.draft.floating_ip(id).is_none() {
            return Err(ChangeError::UnknownFloatingIp(id));
        }
        self.put_floating_ip(id, None)
    }

    /// Sets or removes a floating IP; the previous one.
    pub fn put_floating_ip(
        &mut self,
        id: NatId,
        floating: Option<Arc<FloatingIp>>,
    ) -> Result<Option<Arc<FloatingIp>>, ChangeError> {
        let previous = self.draft.floating_ips.get(id.index()).cloned().flatten();
        if let Some(previous) = &previous {
            let spec = &previous.spec;
            self.put_route(spec.vrf, spec.address.into(), None)?;
            self.count_port(spec.port, -1);
            self.translate_port(spec.port, |port| port.0.retain(|known| known.id != id));
        }
        if let Some(floating) = &floating {
            let spec = &floating.spec;
            self.put_route(spec.vrf, spec.address.into(), Some(HopId::floating_ip(id)))?;
            self.count_port(spec.port, 1);
            self.translate_port(spec.port, |port| port.0.push(Arc::clone(floating)));
        }
        self.draft.floating_ips.set(id.index(), floating);
        Ok(previous)
    }

    /// Adds or replaces a pool; the previous one.
    pub fn set_pool(&mut self, id: NatId, spec: PoolSpec) -> Result<Option<Arc<Pool>>, ChangeError> {
        if id.0 >= NATS {
            return Err(ChangeError::NatRange(id));
        }
        for vrf in [spec.vrf, spec.inside_vrf] {
            if !self.vrfs.contains_key(&vrf) {
                return Err(ChangeError::UnknownVrf(vrf));
            }
        }
        for prefix in &spec.addresses {
            let route = self
                .vrfs
                .get(&spec.vrf)
                .and_then(|entry| entry.get(IpNet::V4(*prefix)));
            let route = route.and_then(|route| self.draft.route(route));
            if route.is_some_and(|route| route.next_hop != HopId::pool(id)) {
                return Err(ChangeError::FloatingRoute(spec.vrf, IpNet::V4(*prefix)));
            }
        }
        let floating = self.draft.floating_ips.iter();
        let floating = floating.filter_map(|(_, floating)| floating.as_deref());
        let others = floating.map(|floating| (floating.spec.vrf, floating.spec.address));
        let others = others.chain(self.draft.virtual_ip_index.keys().copied());
        if let Some((_, address)) = { others }.find(|(vrf, address)| spec.holds(*vrf, *address)) {
            return Err(ChangeError::FloatingInPool(address, id));
        }
        let pool = Pool::new(id, spec, self.draft.pool(id));
        self.put_pool(id, Some(Arc::new(pool)))
    }

    /// Removes a pool.
    pub fn remove_pool(&mut self, id: NatId) -> Result<Option<Arc<Pool>>, ChangeError> {
        match self.draft.pool(id) {
            None => Err(ChangeError::UnknownPool(id)),
            Some(_) => self.put_pool(id, None),
        }
    }

    /// Sets or removes a pool; the previous one. Sessions that routes lead into its VRF are decided anew.
    pub fn put_pool(&mut self, id: NatId, pool: Option<Arc<Pool>>) -> Result<Option<Arc<Pool>>, ChangeError> {
        let previous = self.draft.pools.iter().find(|known| known.id == id).cloned();
        for (pool, hop) in [(&previous, None), (&pool, Some(HopId::pool(id)))] {
            let Some(pool) = pool else { continue };
            for prefix in &pool.spec.addresses {
                self.put_route(pool.spec.vrf, IpNet::V4(*prefix), hop)?;
            }
            let step = if hop.is_some() { 1 } else { -1 };
            self.count_vrf(pool.spec.vrf, step);
            self.count_vrf(pool.spec.inside_vrf, step);
            let leads_there = |hop: &NextHop| matches!(hop, NextHop::Vrf(vrf) if *vrf == pool.spec.vrf);
            let hops = self.draft.next_hops.iter();
            let hops = hops.filter(|(_, hop)| hop.as_deref().is_some_and(leads_there));
            let mut hops: HashSet<_> = hops.map(|(index, _)| NextHopId(index as u32)).collect();
            let groups = self
                .draft
                .next_hops
                .iter()
                .filter(|(_, hop)| match hop.as_deref() {
                    Some(NextHop::Group(group)) => hops.iter().any(|hop| group.contains(*hop)),
                    _ => false,
                });
            let groups: Vec<_> = groups.map(|(index, _)| NextHopId(index as u32)).collect();
            hops.extend(groups);
            self.mark_routes(&hops);
        }
        let others = self.draft.pools.iter().filter(|known| known.id != id).cloned();
        let mut pools: Vec<_> = others.chain(pool).collect();
        pools.sort_by_key(|pool| pool.id);
        self.draft.pools = Arc::new(pools);
        self.pool_of_services_changed(id);
        Ok(previous)
    }

    /// Routes are not to take the place of a floating IP, pool or virtual IP.
    pub fn check_not_floating(&self, vrf: VrfId, prefix: IpNet) -> Result<(), ChangeError> {
        let route = self.vrfs.get(&vrf).and_then(|entry| entry.get(prefix));
        match route
            .and_then(|route| self.draft.route(route))
            .map(|route| route.next_hop.kind())
        {
            Some(HopKind::FloatingIp(_) | HopKind::Pool(_) | HopKind::VirtualIp(_)) => {
                Err(ChangeError::RouteFloating(vrf, prefix))
            }
            _ => Ok(()),
        }
    }

    /// What translates a port's packets changes.
    fn translate_port(&mut self, port: PortId, change: impl FnOnce(&mut PortNat)) {
        let mut nat = self.draft.nat_of(port).cloned().unwrap_or_default();
        change(&mut nat);
        let nat = (!nat.0.is_empty()).then(|| Arc::new(nat));
        self.draft.port_nat.set(port.index(), nat);
        if let Err(error) = self.changed.nat.set(u32::from(port.0), self.number()) {
            tracing::error!(%error, "sessions of port {port} keep a translation that has changed");
        }
        self.judge_again(port);
    }
}
