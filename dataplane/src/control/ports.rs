//! Ports: opening their devices, sharing them with sub-interfaces, spreading their queues over the workers.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use hashbrown::HashSet;
use ipnet::IpNet;
use weft_packet::Mac;
use weft_table::{PortId, VrfId, WorkerId};

use super::{
    ChangeError, MAX_PORT_ID,
    state::{PortEntry, State},
};
use crate::{
    change::{DeviceSpec, PortSpec, QualitySpec},
    dpdk::clock,
    port::{self, Driver, OpenContext},
    snapshot::{HopId, L2Header, LocalAddresses, Poll, Port, Quality, Role, VlanContext},
    statistics::MAX_PORTS,
};

impl State {
    /// VLANs of a device belong to one sub-interface or trunk entry each.
    pub fn check_vlans(&self, id: PortId, spec: &PortSpec) -> Result<(), ChangeError> {
        let in_use = |parent: PortId, vlan, owner| ChangeError::VlanInUse { parent, vlan, owner };
        if let DeviceSpec::Vlan { parent, vlan } = spec.device {
            let entry = self.ports.get(&parent).ok_or(ChangeError::UnknownPort(parent))?;
            if matches!(entry.spec.device, DeviceSpec::Vlan { .. }) {
                return Err(ChangeError::NestedVlan(parent));
            }
            if entry.spec.trunk.iter().any(|(taken, _)| *taken == vlan) {
                return Err(in_use(parent, vlan, parent));
            }
            let twin = self.ports.iter().find(|(other, entry)| {
                **other != id && entry.spec.device == DeviceSpec::Vlan { parent, vlan }
            });
            if let Some((owner, _)) = twin {
                return Err(in_use(parent, vlan, *owner));
            }
        }
        let mut seen = HashSet::new();
        for (vlan, _) in &spec.trunk {
            let twin = self.ports.iter().find(|(_, entry)| {
                entry.spec.device
                    == DeviceSpec::Vlan {
                        parent: id,
                        vlan: *vlan,
                    }
            });
            if let Some((owner, _)) = twin {
                return Err(in_use(id, *vlan, *owner));
            }
            if !seen.insert(*vlan) {
                return Err(in_use(id, *vlan, id));
            }
        }
        Ok(())
    }

    /// Opens the device of a new port, and the host's tap on it if it is an uplink with one.
    pub fn open_port(
        &mut self,
        id: PortId,
        spec: PortSpec,
        context: &OpenContext<'_>,
    ) -> Result<PortEntry, ChangeError> {
        let driver = match spec.device {
            DeviceSpec::Vlan { parent, .. } => {
                let entry = self.ports.get(&parent).ok_or(ChangeError::UnknownPort(parent))?;
                Arc::clone(&entry.driver)
            }
            _ => {
                let own = OpenContext {
                    mac: spec.mac,
                    mtu: spec.mtu,
                    name: &spec.name,
                    uplink: spec.vrf == VrfId::UNDERLAY,
                    ..*context
                };
                Arc::new(port::open(&spec.device, &own)?)
            }
        };
        let host = match &spec.host_interface {
            Some(name) => Some(self.open_host_tap(name, id, &spec, &driver, context)?),
            None => None,
        };
        self.incarnations += 1;
        let link_up = Arc::new(AtomicBool::new(driver.link_up()));
        Ok(PortEntry {
            spec,
            incarnation: self.incarnations,
            link_up,
            driver,
            users: 0,
            host,
            uplink: None,
        })
    }

    /// The host's own way onto an uplink: a tap with the uplink's MAC and addresses.
    fn open_host_tap(
        &mut self,
        name: &str,
        uplink: PortId,
        spec: &PortSpec,
        driver: &Driver,
        context: &OpenContext<'_>,
    ) -> Result<(PortId, Box<PortEntry>), ChangeError> {
        let failed = |reason: String| ChangeError::HostInterface {
            name: name.to_owned(),
            reason,
        };
        let id = (MAX_PORT_ID + 1..MAX_PORTS as u16)
            .map(PortId)
            .find(|id| !self.ports.contains_key(id))
            .ok_or_else(|| failed("no number is left for another host interface".into()))?;
        let mac = spec.mac.or(known(driver.mac()));
        let device = DeviceSpec::Tap {
            interface: name.to_owned(),
            queues: 1,
            netns: None,
        };
        let own = OpenContext {
            mac,
            mtu: spec.mtu,
            name,
            uplink: false,
            ..*context
        };
        let tap = port::open(&device, &own)?;
        for address in &spec.addresses {
            port::address::add(name, *address)
                .map_err(|error| failed(format!("address {address}: {error}")))?;
        }
        self.incarnations += 1;
        let host_spec = PortSpec {
            mac,
            mtu: spec.mtu,
            ..PortSpec::new(name, device, VrfId::UNDERLAY)
        };
        let entry = PortEntry {
            spec: host_spec,
            incarnation: self.incarnations,
            link_up: Arc::new(AtomicBool::new(true)),
            driver: Arc::new(tap),
            users: 0,
            host: None,
            uplink: Some(uplink),
        };
        Ok((id, Box::new(entry)))
    }

    /// Sets or removes a port's entry; the previous one.
    pub fn put_port(&mut self, id: PortId, entry: Option<PortEntry>) -> Option<PortEntry> {
        let previous = self.ports.remove(&id);
        let policy = |entry: &Option<PortEntry>| entry.as_ref().map(|entry| entry.spec.policy);
        if policy(&previous) != policy(&entry) {
            self.judge_again(id);
        }
        if let Some(previous) = &previous {
            self.count_port_spec(id, previous, false);
            if let Some((host, _)) = &previous.host {
                self.ports.remove(host);
                self.touched.ports.insert(*host);
            }
        }
        match entry {
            Some(entry) => {
                let users = previous.as_ref().map_or(entry.users, |previous| previous.users);
                if let Some((host, tap)) = &entry.host {
                    self.ports.insert(*host, PortEntry::clone(tap));
                    self.touched.ports.insert(*host);
                }
                self.count_port_spec(id, &entry, true);
                self.ports.insert(id, PortEntry { users, ..entry });
            }
            None => self.neighbours.forget_port(id, &mut self.draft),
        }
        previous
    }

    /// What a port names is used once more or less; an uplink's subnets are routes of the underlay.
    fn count_port_spec(&mut self, id: PortId, entry: &PortEntry, more: bool) {
        let step = if more { 1 } else { -1 };
        self.count_policy(entry.spec.policy, step);
        self.count_vrf(entry.spec.vrf, step);
        for (_, vrf) in &entry.spec.trunk {
            self.count_vrf(*vrf, step);
        }
        if let DeviceSpec::Vlan { parent, .. } = entry.spec.device {
            self.count_port(parent, step);
            self.touched.ports.insert(parent);
        }
        self.touched.ports.insert(id);
        self.touched.reachability = true;
        if entry.spec.vrf == VrfId::UNDERLAY && entry.uplink.is_none() {
            self.touched.underlay = true;
            for address in &entry.spec.addresses {
                let own = IpNet::from(address.addr());
                self.own_route(own, more.then_some(HopId::RECEIVE));
                if own != address.trunc() {
                    self.own_route(address.trunc(), more.then_some(HopId::port(id)));
                }
            }
        }
    }

    fn own_route(&mut self, prefix: IpNet, hop: Option<HopId>) {
        if let Err(error) = self.put_route(VrfId::UNDERLAY, prefix, hop) {
            tracing::error!(%error, "no underlay route for the uplink's own {prefix}");
        }
    }

    /// Makes the touched ports of the next snapshot, with those that share a device with them.
    pub fn rebuild_ports(&mut self) {
        if self.touched.ports.is_empty() {
            return;
        }
        let mut ids: HashSet<PortId> = self.touched.ports.drain().collect();
        let children = self.ports.iter().filter(|(_, entry)| match entry.spec.device {
            DeviceSpec::Vlan { parent, .. } => ids.contains(&parent),
            _ => entry.uplink.is_some_and(|uplink| ids.contains(&uplink)),
        });
        let children: Vec<_> = children.map(|(id, _)| *id).collect();
        ids.extend(children);
        for id in ids {
            let port = self
                .ports
                .get(&id)
                .map(|entry| Arc::new(self.build_port(id, entry)));
            if let (Some(port), Some(entry)) = (&port, self.ports.get(&id)) {
                let known = &entry.spec.neighbours;
                self.neighbours.configure(port, known, &mut self.draft);
            }
            self.draft.ports.set(id.index(), port);
            // Next hops carry the port's header.
            let named = self
                .hops
                .iter()
                .filter(|(_, hop)| hop.spec.names_port(id))
                .map(|(hop, _)| *hop);
            self.touched.hops.extend(named);
        }
        self.rebuild_local_addresses();
        self.rebuild_polls();
    }

    fn build_port(&self, id: PortId, entry: &PortEntry) -> Port {
        let spec = &entry.spec;
        let (device, vlan) = match spec.device {
            DeviceSpec::Vlan { parent, vlan } => (parent, Some(vlan)),
            _ => (id, None),
        };
        let role = match (entry.uplink, spec.vrf) {
            (Some(uplink), _) => Role::Host { uplink },
            (None, VrfId::UNDERLAY) => Role::Uplink {
                host: entry.host.as_ref().map(|(host, _)| *host),
            },
            _ => Role::Tenant,
        };
        let mac = spec
            .mac
            .or(known(entry.driver.mac()))
            .unwrap_or_else(|| default_mac(id));
        let source = match role {
            Role::Tenant | Role::Host { .. } => Mac::VIRTUAL_ROUTER,
            Role::Uplink { .. } => mac,
        };
        Port {
            id,
            incarnation: entry.incarnation,
            name: spec.name.clone(),
            role,
            vrf: spec.vrf,
            mac,
            mtu: spec.mtu,
            packet_mode: spec.packet_mode,
            driver: Arc::clone(&entry.driver),
            link_up: Arc::clone(&entry.link_up),
            device,
            vlan,
            vlans: self.vlan_contexts(id, spec),
            header: L2Header::new(mac, source, vlan),
            policy: spec.policy,
            quality: self.quality(id, spec.quality.as_deref()),
        }
    }

    /// The buckets of a port go on as they are while nothing else is asked for.
    fn quality(&self, id: PortId, spec: Option<&QualitySpec>) -> Option<Arc<Quality>> {
        let spec = *spec?;
        let known = self.draft.port(id).and_then(|port| port.quality.clone());
        let known = known.filter(|known| known.spec == spec);
        Some(known.unwrap_or_else(|| Arc::new(Quality::new(spec, clock::hz()))))
    }

    fn vlan_contexts(&self, id: PortId, spec: &PortSpec) -> Option<Box<[Option<VlanContext>; 4096]>> {
        let children = self
            .ports
            .iter()
            .filter_map(|(child, entry)| match entry.spec.device {
                DeviceSpec::Vlan { parent, vlan } if parent == id => Some((vlan, *child, entry.spec.vrf)),
                _ => None,
            });
        let trunk = spec.trunk.iter().map(|(vlan, vrf)| (*vlan, id, *vrf));
        let mut contexts = None;
        for (vlan, port, vrf) in children.chain(trunk) {
            let table = contexts.get_or_insert_with(|| Box::new([None; 4096]));
            table[usize::from(vlan.get())] = Some(VlanContext { port, vrf });
        }
        contexts
    }

    fn rebuild_local_addresses(&mut self) {
        let mut local = LocalAddresses::default();
        for (id, entry) in &self.ports {
            if entry.spec.vrf != VrfId::UNDERLAY {
                continue;
            }
            for address in &entry.spec.addresses {
                match address.addr() {
                    IpAddr::V4(address) => local.v4.push((address.into(), *id)),
                    IpAddr::V6(address) => local.v6.push((address.into(), *id)),
                }
            }
        }
        self.draft.local = Arc::new(local);
    }

    /// Queue n of a port goes to the n-th of its workers; without a wish, ports start at different workers.
    fn rebuild_polls(&mut self) {
        let mut polls = vec![Vec::new(); usize::from(self.workers)];
        for (id, entry) in &self.ports {
            if matches!(entry.spec.device, DeviceSpec::Vlan { .. }) {
                continue;
            }
            for queue in 0..entry.driver.receive_queues() {
                let wished = match entry.spec.workers.as_slice() {
                    [] => WorkerId(id.0.wrapping_add(queue)),
                    workers => workers[usize::from(queue) % workers.len()],
                };
                let worker = usize::from(wished.0 % self.workers);
                polls[worker].push(Poll {
                    port: *id,
                    queue,
                    driver: Arc::clone(&entry.driver),
                    rests: entry.driver.rests(),
                    doorbell: entry.driver.assign(queue, WorkerId(worker as u16)),
                    charged: entry.spec.vrf != VrfId::UNDERLAY,
                });
            }
        }
        self.draft.polls = Arc::new(polls);
        self.draft.polls_since = self.number();
    }

    /// Looks at every link; true if one changed.
    pub fn watch_links(&mut self) -> bool {
        let mut changed = false;
        for entry in self.ports.values() {
            let up = entry.driver.link_up();
            changed |= entry.link_up.swap(up, Ordering::Relaxed) != up;
        }
        self.touched.reachability |= changed;
        changed
    }
}

fn known(mac: Mac) -> Option<Mac> {
    (!mac.is_zero()).then_some(mac)
}

/// Locally administered, the same for each incarnation of a port.
fn default_mac(id: PortId) -> Mac {
    let [high, low] = id.0.to_be_bytes();
    Mac([0x02, 0x77, 0x65, 0x66, high, low])
}
