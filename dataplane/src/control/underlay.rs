//! The underlay: how a tunnel's remote or a gateway is reached, by the routes of VRF 0 and the uplinks' neighbours.

use std::{net::IpAddr, time::Instant};

use hashbrown::HashSet;
use ipnet::IpNet;
use weft_packet::{Mac, tunnel::Template};
use weft_table::{NextHopId, PortId, VrfId};

use super::{
    neighbours::{Effect, Request},
    state::State,
};
use crate::{
    change::{Encapsulation, NextHopSpec},
    snapshot::{HopId, HopKind, NextHop, TunnelPath},
};

impl State {
    /// Somebody said where an address is. True: the next snapshot differs.
    pub fn learned(&mut self, port: PortId, address: IpAddr, mac: Mac) -> bool {
        let Some(entry) = self.draft.ports.get(port.index()).cloned().flatten() else {
            return false;
        };
        let effect = self.neighbours.learned(&entry, address, mac, &mut self.draft);
        self.follow(effect)
    }

    /// Whom to ask now; and whether the next snapshot differs.
    pub fn tick_neighbours(&mut self, now: Instant) -> (Vec<Request>, bool) {
        let (requests, effect) = self.neighbours.tick(now, &mut self.draft);
        (requests, self.follow(effect))
    }

    fn follow(&mut self, effect: Effect) -> bool {
        self.touched.underlay |= effect.reachability;
        self.touched.reachability |= effect.reachability;
        if effect.forgotten {
            self.connected_changed();
        }
        effect.changed
    }

    /// Sessions to neighbours on the uplinks' subnets look again.
    fn connected_changed(&mut self) {
        let Some(underlay) = self.vrfs.get(&VrfId::UNDERLAY) else {
            return;
        };
        let subnets = self
            .ports
            .values()
            .filter(|entry| entry.spec.vrf == VrfId::UNDERLAY);
        let subnets = subnets.flat_map(|entry| &entry.spec.addresses).map(IpNet::trunc);
        let routes = subnets.filter_map(|subnet| underlay.get(subnet));
        let routes: Vec<_> = routes.collect();
        for route in routes {
            self.route_changed(route);
        }
    }

    /// Neighbours of tunnels and gateways that are gone are not asked for any longer than they answer.
    pub fn release_neighbours(&mut self) {
        let mut wanted = HashSet::new();
        for (_, hop) in self.draft.next_hops.iter() {
            match hop.as_deref() {
                Some(NextHop::Tunnel { paths, .. }) => wanted.extend(paths.iter().map(|path| path.neighbour)),
                Some(NextHop::Gateway(Some(neighbour))) => _ = wanted.insert(*neighbour),
                _ => {}
            }
        }
        self.neighbours.keep_wanted(&wanted);
    }

    /// Every tunnel and gateway is resolved again with the next snapshot.
    pub fn touch_tunnels(&mut self) {
        let resolved =
            |spec: &NextHopSpec| matches!(spec, NextHopSpec::Tunnel { .. } | NextHopSpec::Gateway(_));
        let ids = self
            .hops
            .iter()
            .filter(|(_, entry)| resolved(&entry.spec))
            .map(|(id, _)| *id);
        self.touched.hops.extend(ids);
    }

    /// The neighbour that is this gateway; None: it is on no uplink's subnet.
    pub fn gateway(&mut self, address: IpAddr) -> Option<u32> {
        let uplink = self.uplink_of(address)?;
        Some(self.neighbours.want(uplink, address, &mut self.draft))
    }

    /// The uplink whose subnet holds the address.
    fn uplink_of(&self, address: IpAddr) -> Option<PortId> {
        let on_subnet = |subnet: &IpNet| subnet.contains(&address) && subnet.addr() != address;
        let uplinks = self
            .ports
            .iter()
            .filter(|(_, entry)| entry.spec.vrf == VrfId::UNDERLAY);
        uplinks
            .filter(|(_, entry)| entry.spec.addresses.iter().any(on_subnet))
            .map(|(id, _)| *id)
            .next()
    }

    /// A tunnel with one path for each way to its remote.
    pub fn build_tunnel(
        &mut self,
        remote: IpAddr,
        local: Option<IpAddr>,
        encapsulation: &Encapsulation,
        return_vrf: Option<VrfId>,
    ) -> NextHop {
        let neighbours = self.ways_to(remote);
        let paths = neighbours.into_iter().filter_map(|neighbour| {
            let port = self.draft.neighbours.get(neighbour as usize)?.port?;
            let local = local.or_else(|| self.own_address(port, remote.is_ipv4()))?;
            Some(TunnelPath {
                neighbour,
                template: template(encapsulation, local, remote)?,
            })
        });
        let paths = paths.collect();
        let endpoint = self
            .endpoints
            .get(&remote)
            .map_or(u32::MAX >> 2, |endpoint| endpoint.number);
        NextHop::Tunnel {
            paths,
            remote,
            endpoint,
            return_vrf,
        }
    }

    fn own_address(&self, uplink: PortId, v4: bool) -> Option<IpAddr> {
        let addresses = &self.ports.get(&uplink)?.spec.addresses;
        addresses
            .iter()
            .map(IpNet::addr)
            .find(|address| address.is_ipv4() == v4)
    }

    /// The first hops towards an underlay address; several if the route is a group. Unresolved ones only if there is
    /// no other.
    fn ways_to(&mut self, remote: IpAddr) -> Vec<u32> {
        let Some(underlay) = self.vrfs.get(&VrfId::UNDERLAY) else {
            return Vec::new();
        };
        let route = underlay.longest_match(remote);
        let Some(hop) = route
            .and_then(|route| self.draft.route(route))
            .map(|route| route.next_hop)
        else {
            return Vec::new();
        };
        let mut ways = self.neighbours_behind(hop, remote);
        let resolved = |way: &u32| {
            self.draft
                .neighbours
                .get(*way as usize)
                .is_some_and(|n| n.header.is_some())
        };
        if ways.iter().any(resolved) {
            ways.retain(resolved);
        }
        ways
    }

    fn neighbours_behind(&mut self, hop: HopId, destination: IpAddr) -> Vec<u32> {
        match hop.kind() {
            HopKind::Neighbour(index) => vec![index],
            HopKind::Port(uplink) => vec![self.neighbours.want(uplink, destination, &mut self.draft)],
            HopKind::Receive | HopKind::FloatingIp(_) | HopKind::Pool(_) | HopKind::VirtualIp(_) => {
                Vec::new()
            }
            HopKind::Table(id) => self.neighbours_behind_entry(id),
        }
    }

    fn neighbours_behind_entry(&mut self, id: NextHopId) -> Vec<u32> {
        match self.hops.get(&id).map(|entry| entry.spec.clone()) {
            Some(NextHopSpec::Gateway(address)) => self.gateway(address).into_iter().collect(),
            Some(NextHopSpec::Group(members)) => {
                // Groups hold no groups, so this ends.
                members
                    .iter()
                    .flat_map(|member| self.neighbours_behind_entry(member.next_hop))
                    .collect()
            }
            _ => Vec::new(),
        }
    }
}

/// None: addresses or labels that do not fit each other, which a change with them was refused for.
fn template(encapsulation: &Encapsulation, local: IpAddr, remote: IpAddr) -> Option<Template> {
    match encapsulation {
        Encapsulation::Vxlan { vni, inner_mac } => {
            let inner_mac = if *inner_mac == Mac::ZERO {
                Mac::VIRTUAL_ROUTER
            } else {
                *inner_mac
            };
            Template::vxlan(local, remote, *vni, inner_mac).ok()
        }
        Encapsulation::MplsOverUdp { labels } => Template::mpls_over_udp(local, remote, labels).ok(),
        Encapsulation::MplsOverGre { labels } => Template::mpls_over_gre(local, remote, labels).ok(),
    }
}
