//! What would become of a packet: the stages are asked, see [`what_if`], and what they say is put into terms that outlive
//! the snapshot.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use weft_packet::{
    ip::{Addresses, Fragment, IpPacket},
    l4,
};
use weft_table::{PortId, VrfId};

use super::{
    flows::{Listed, shown},
    thread::Control,
};
use crate::{
    change::NextHopSpec,
    dpdk::clock,
    drops::Reason,
    pipeline::{
        Context,
        budget::Budgets,
        burst::{Burst, Packet, port_ingress},
        classify,
        family::{self, Family, V4, V6},
        fragments::Fragments,
        transmit::Transmit,
        what_if::{Foreseen, Judgement, Lookup, Watch, foresee},
    },
    snapshot::{HopId, HopKind, Poll, Role},
    statistics::Counters,
    view::{KnownSession, LeadsTo, PolicyVerdict, RouteLookup, SupposedPacket, Translation, WayOut, WhatIf},
};

/// Bytes of a transport header that has ports, or of an ICMP header.
const TRANSPORT_LEN: u16 = 8;

impl Control {
    /// What would become of a packet from a tenant's port; None: there is no such port.
    pub(super) fn what_if(&mut self, from: PortId, supposed: &SupposedPacket) -> Option<WhatIf> {
        let snapshot = &self.state.draft;
        let port = snapshot.port(from).filter(|port| port.role == Role::Tenant)?;
        let vrf = snapshot.vrf(port.vrf)?;
        let ip = ip_of(supposed)?;
        let (mut burst, mut counters) = (Box::<Burst>::default(), Counters::default());
        let (mut transmit, mut budgets) = (Transmit::default(), Budgets::default());
        let mut fragments = Fragments::default();
        let watch = Watch::default();
        // Who would see it: ports of pools belong to workers.
        let sees = |polls: &Vec<Poll>| polls.iter().any(|poll| poll.port == port.device);
        let worker = snapshot.polls.iter().position(sees).unwrap_or(0);
        let mut context = Context {
            snapshot,
            shared: &self.shared,
            counters: &mut counters,
            transmit: &mut transmit,
            flows: &mut self.flows,
            budgets: &mut budgets,
            fragments: &mut fragments,
            now: ((clock::now() - self.start) / clock::hz()) as u32,
            began: clock::now(),
            worker: worker as u16,
            watch: Some(&watch),
        };
        burst.device = port.device;
        burst.mbufs[0] = Some(self.shared.pool.allocate()?);
        burst.packets[0] = Packet {
            port: port.id,
            vrf: port.vrf,
            ingress: port_ingress(port.id),
            length: ip.total_len,
            v6: ip.is_v6(),
            ..Packet::NONE
        };
        let stateful = !(vrf.packet_mode || port.packet_mode);
        let vrf = port.vrf;
        if classify::is_multicast(&ip) {
            return Some(WhatIf::dropped(vrf, Reason::NotFlooded));
        }
        let tuple = l4::first_bytes(&supposed.transport, supposed.protocol);
        family::enlist(&mut burst, &context, 0, &ip, tuple, stateful);
        match ip.is_v6() {
            false => {
                let foreseen = foresee::<V4>(&mut burst, &mut context, &watch, &ip);
                Some(self.put::<V4>(vrf, foreseen))
            }
            true => {
                let foreseen = foresee::<V6>(&mut burst, &mut context, &watch, &ip);
                Some(self.put::<V6>(vrf, foreseen))
            }
        }
    }

    fn put<F: Family>(&self, vrf: VrfId, foreseen: Foreseen<F::Key>) -> WhatIf
    where
        F::Key: Listed,
    {
        let [arrives, leaves] = &foreseen.keys;
        let found = foreseen.found;
        let verdict = |judgement: &Judgement| PolicyVerdict {
            port: judgement.port,
            direction: judgement.direction,
            by: judgement.by.map(|(policy, verdict)| (policy, verdict.decider)),
            action: judgement.action(),
        };
        let translation = Translation {
            source: shown(leaves.source(), leaves),
            destination: shown(leaves.destination(), leaves),
            source_by: foreseen.by.source,
            destination_by: foreseen.by.destination,
        };
        WhatIf {
            vrf,
            session: found.is_some().then(|| KnownSession {
                number: session_number::<F::Key>(found.session().0),
                initiator: found.is_initiator(),
                holds: foreseen.holds,
            }),
            lookups: foreseen
                .lookups
                .iter()
                .map(|lookup| self.route_lookup(lookup))
                .collect(),
            verdicts: foreseen.judgements.iter().map(verdict).collect(),
            translation: (arrives != leaves).then_some(translation),
            outcome: foreseen.outcome.map(|(hop, port)| WayOut {
                to: self.leads_to(hop),
                port,
            }),
        }
    }

    fn route_lookup(&self, lookup: &Lookup) -> RouteLookup {
        let route = self.state.draft.route(lookup.route);
        RouteLookup {
            vrf: lookup.vrf,
            destination: lookup.destination,
            prefix: self.prefix(lookup.vrf, lookup.destination),
            to: route.map_or(LeadsTo::Nowhere, |route| self.leads_to(route.next_hop)),
        }
    }

    fn prefix(&self, vrf: VrfId, destination: IpAddr) -> Option<IpNet> {
        let table = self.state.vrfs.get(&vrf)?;
        match destination {
            IpAddr::V4(address) => {
                let (prefix, _) = table.fib4.longest_match(address.to_bits())?;
                let net = Ipv4Net::new(prefix.address().into(), prefix.length());
                net.ok().map(IpNet::V4)
            }
            IpAddr::V6(address) => {
                let (prefix, _) = table.fib6.longest_match(address.to_bits())?;
                let net = Ipv6Net::new(prefix.address().into(), prefix.length());
                net.ok().map(IpNet::V6)
            }
        }
    }

    fn leads_to(&self, hop: HopId) -> LeadsTo {
        match hop.kind() {
            HopKind::Receive => LeadsTo::Router,
            HopKind::Port(port) => LeadsTo::Port(port),
            HopKind::FloatingIp(id) => LeadsTo::FloatingIp(id),
            HopKind::Pool(id) => LeadsTo::Pool(id),
            HopKind::VirtualIp(index) => {
                let virtual_ip = self.state.draft.virtual_ip(index);
                virtual_ip.map_or(LeadsTo::Nowhere, |served| LeadsTo::VirtualIp(served.address))
            }
            HopKind::Neighbour(index) => {
                let mut known = self.state.draft.neighbour_index.iter();
                let found = known.find(|(_, known)| **known == index);
                found.map_or(LeadsTo::Nowhere, |((_, address), _)| LeadsTo::Neighbour(*address))
            }
            HopKind::Table(id) => match self.state.hops.get(&id).map(|entry| &entry.spec) {
                None => LeadsTo::Nowhere,
                Some(NextHopSpec::Port { port, .. }) => LeadsTo::Port(*port),
                Some(NextHopSpec::Tunnel {
                    remote,
                    encapsulation,
                    ..
                }) => LeadsTo::Tunnel(*remote, encapsulation.clone()),
                Some(NextHopSpec::Group(_)) => LeadsTo::Group,
                Some(NextHopSpec::Vrf(vrf)) => LeadsTo::Vrf(*vrf),
                Some(NextHopSpec::Gateway(address)) => LeadsTo::Neighbour(*address),
                Some(NextHopSpec::Receive) => LeadsTo::Router,
                Some(NextHopSpec::Discard) => LeadsTo::Nowhere,
            },
        }
    }
}

/// As `weft get flows` numbers sessions.
fn session_number<K: Listed>(session: u32) -> u64 {
    u64::from(session) | if K::V6 { 1 << 32 } else { 0 }
}

/// Its header as it would be read; None: the addresses are of two families.
fn ip_of(supposed: &SupposedPacket) -> Option<IpPacket> {
    let (addresses, header) = match (supposed.source, supposed.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => (Addresses::V4 { source, destination }, 20),
        (IpAddr::V6(source), IpAddr::V6(destination)) => (Addresses::V6 { source, destination }, 40),
        _ => return None,
    };
    Some(IpPacket {
        addresses,
        total_len: u32::from(header + TRANSPORT_LEN),
        l4_offset: header,
        protocol: supposed.protocol,
        fragment: Fragment::Whole,
        ttl: 64,
        traffic_class: 0,
        has_options: false,
        source_routed: false,
    })
}
