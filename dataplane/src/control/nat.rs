//! Floating IPs: each is a route of its VRF, and an address that its port's packets come from.
//!
//! Sessions that come to the address depend on its route. Those that the port opens depend on the port: what they come
//! from is looked up anew when one of the port's floating IPs comes, goes or changes.

use std::sync::Arc;

use ipnet::IpNet;
use weft_table::{NatId, PortId, VrfId};

use super::{ChangeError, state::State};
use crate::{
    change::FloatingIpSpec,
    snapshot::{FloatingIp, HopId, HopKind, PortNat},
};

/// Floating IPs are numbered below this.
const NATS: u32 = 1 << 20;

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

    /// Routes are not to take a floating IP's place.
    pub fn check_not_floating(&self, vrf: VrfId, prefix: IpNet) -> Result<(), ChangeError> {
        let route = self.vrfs.get(&vrf).and_then(|entry| entry.get(prefix));
        match route
            .and_then(|route| self.draft.route(route))
            .map(|route| route.next_hop.kind())
        {
            Some(HopKind::FloatingIp(id)) => Err(ChangeError::RouteFloating(vrf, prefix, id)),
            _ => Ok(()),
        }
    }

    /// What translates a port's packets changes.
    fn translate_port(&mut self, port: PortId, change: impl FnOnce(&mut PortNat)) {
        let mut nat = self.draft.nat_of(port).cloned().unwrap_or_default();
        change(&mut nat);
        let nat = (!nat.0.is_empty()).then(|| Arc::new(nat));
        self.draft.port_nat.set(port.index(), nat);
        if let Err(error) = self.nat_stamps.set(u32::from(port.0), self.number()) {
            tracing::error!(%error, "sessions of port {port} keep a translation that has changed");
        }
        self.judge_again(port);
    }
}
