//! Next hops: from what was asked for to what a worker applies.

use std::sync::Arc;

use hashbrown::HashSet;
use weft_packet::Mac;
use weft_table::{
    NextHopId, PortId, RouteId,
    group::{Group, Member},
};

use super::state::{PortEntry, State};
use crate::{
    change::{MemberSpec, NextHopSpec},
    snapshot::{HopKind, L2Header, NextHop, Route},
};

impl NextHopSpec {
    /// Whether it leads out of this port.
    pub fn names_port(&self, id: PortId) -> bool {
        matches!(self, NextHopSpec::Port { port, .. } if *port == id)
    }
}

impl State {
    /// Makes the touched next hops of the next snapshot, and the groups over them.
    pub fn rebuild_hops(&mut self) {
        let touched: HashSet<NextHopId> = self.touched.hops.drain().collect();
        let groups = self.hops.iter().filter(|(id, entry)| match &entry.spec {
            NextHopSpec::Group(members) => {
                touched.contains(*id)
                    || self.touched.reachability
                    || members.iter().any(|member| touched.contains(&member.next_hop))
            }
            _ => false,
        });
        // Groups last: they look at what their members have become.
        let groups: Vec<_> = groups.map(|(id, _)| *id).collect();
        let plain: Vec<_> = touched.into_iter().filter(|id| !groups.contains(id)).collect();
        let mut moved = HashSet::new();
        for id in plain.into_iter().chain(groups) {
            let spec = self.hops.get(&id).map(|entry| entry.spec.clone());
            // Sessions that hold a member's number follow it without asking the group.
            let led_elsewhere = match &spec {
                Some(NextHopSpec::Group(members)) => {
                    members.iter().any(|member| moved.contains(&member.next_hop))
                }
                _ => false,
            };
            let next = spec.map(|spec| self.build_hop(spec));
            if led_elsewhere || self.redirects(id, next.as_ref()) {
                moved.insert(id);
            }
            self.draft.next_hops.set(id.index(), next.map(Arc::new));
        }
        if !moved.is_empty() {
            self.mark_routes(&moved);
        }
    }

    /// Whether sessions must look again: those that point at a plain next hop follow it by themselves, those that
    /// went through a group or another VRF hold what it led to.
    fn redirects(&self, id: NextHopId, next: Option<&NextHop>) -> bool {
        let previous = self.draft.next_hops.get(id.index()).and_then(Option::as_deref);
        let Some(previous) = previous else { return false };
        match (previous, next) {
            (NextHop::Group(old), Some(NextHop::Group(new))) => old != new,
            (NextHop::Vrf(old), Some(NextHop::Vrf(new))) => old != new,
            (NextHop::Gateway(old), Some(NextHop::Gateway(new))) => old != new,
            // The reply is expected elsewhere now.
            (NextHop::Port { port: old, .. }, Some(NextHop::Port { port: new, .. })) => old != new,
            (NextHop::Tunnel { endpoint: old, .. }, Some(NextHop::Tunnel { endpoint: new, .. })) => {
                old != new
            }
            (old, Some(new)) => std::mem::discriminant(old) != std::mem::discriminant(new),
            (_, None) => true,
        }
    }

    /// Routes that lead to one of these next hops have changed.
    pub(super) fn mark_routes(&mut self, moved: &HashSet<NextHopId>) {
        let leads_there = |(index, route): (usize, &Route)| match route.next_hop.kind() {
            HopKind::Table(id) if moved.contains(&id) => Some(RouteId(index as u32)),
            _ => None,
        };
        let routes: Vec<_> = self.draft.routes.iter().filter_map(leads_there).collect();
        for route in routes {
            self.route_changed(route);
        }
    }

    fn build_hop(&mut self, spec: NextHopSpec) -> NextHop {
        match spec {
            NextHopSpec::Port { port, mac, vlan } => {
                let Some(entry) = self.draft.port(port) else {
                    return NextHop::Discard;
                };
                let tag = vlan.or(entry.vlan);
                let trunk = entry
                    .vlans
                    .as_ref()
                    .zip(vlan)
                    .and_then(|(table, vlan)| table[usize::from(vlan.get())]);
                NextHop::Port {
                    port,
                    vrf: trunk.map_or(entry.vrf, |context| context.vrf),
                    header: L2Header::new(mac.unwrap_or(entry.mac), Mac::VIRTUAL_ROUTER, tag),
                }
            }
            NextHopSpec::Tunnel {
                remote,
                local,
                encapsulation,
                return_vrf,
            } => self.build_tunnel(remote, local, &encapsulation, return_vrf),
            NextHopSpec::Group(members) => {
                let reachable = members
                    .iter()
                    .filter(|member| self.reachable(member))
                    .map(|member| Member {
                        id: member.id,
                        weight: member.weight.max(1),
                        next_hop: member.next_hop,
                    });
                let reachable: Vec<_> = reachable.collect();
                NextHop::Group(Group::new(&reachable, members.len()))
            }
            NextHopSpec::Vrf(vrf) => NextHop::Vrf(vrf),
            NextHopSpec::Gateway(address) => NextHop::Gateway(self.gateway(address)),
            NextHopSpec::Receive => NextHop::Receive,
            NextHopSpec::Discard => NextHop::Discard,
        }
    }

    /// Whether a group may send flows to a member.
    fn reachable(&self, member: &MemberSpec) -> bool {
        let link_up = |port: PortId| self.ports.get(&port).is_some_and(PortEntry::is_up);
        match self
            .draft
            .next_hops
            .get(member.next_hop.index())
            .and_then(Option::as_deref)
        {
            Some(NextHop::Port { port, .. }) => link_up(*port),
            Some(NextHop::Tunnel { paths, .. }) => paths.iter().any(|path| {
                let neighbour = self.draft.neighbours.get(path.neighbour as usize);
                neighbour.is_some_and(|neighbour| {
                    neighbour.header.is_some() && neighbour.port.is_some_and(link_up)
                })
            }),
            Some(NextHop::Gateway(Some(index))) => self
                .draft
                .neighbours
                .get(*index as usize)
                .is_some_and(|neighbour| neighbour.header.is_some()),
            Some(NextHop::Vrf(_) | NextHop::Receive) => true,
            Some(NextHop::Gateway(None) | NextHop::Group(_) | NextHop::Discard) | None => false,
        }
    }
}
