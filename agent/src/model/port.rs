//! Ports and what is behind them.

use std::{net::IpAddr, path::PathBuf};

use ipnet::IpNet;
use weft_packet::{Mac, VlanId};
use weft_proto::v1;

use super::{
    UNDERLAY,
    error::{At, FieldError},
    quality::Quality,
    text::{self, Name},
};

/// MTU of a port that names none.
pub const MTU_DEFAULT: u32 = 1500;
/// Smallest MTU: what every IPv4 host takes (RFC 791).
pub const MTU_MIN: u32 = 576;
/// Largest MTU: jumbo frames.
pub const MTU_MAX: u32 = 9500;
/// Smallest MTU of an IPv6 link (RFC 8200, section 5).
const MTU_MIN_IPV6: u32 = 1280;
/// Most policies of a port.
const POLICIES_MAX: usize = 16;
/// Most queues (pairs) of a port: what librte_vhost takes.
pub const QUEUES_MAX: u32 = 128;

/// An interface of the vRouter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// What is behind it.
    pub device: Device,
    /// VRF of what arrives untagged.
    pub vrf: Name,
    /// The guest's, or the uplink's own; None: the device's.
    pub mac: Option<Mac>,
    /// Tenants: each a host route, with the full length. Uplinks: with the length of their subnet.
    pub addresses: Vec<IpNet>,
    /// Largest L3 packet.
    pub mtu: u16,
    /// Forward by the FIB alone.
    pub packet_mode: bool,
    /// VLANs of other VRFs.
    pub trunk: Vec<(VlanId, Name)>,
    /// Workers by index; empty: spread.
    pub workers: Vec<u16>,
    /// Uplinks: the host's tap.
    pub host_interface: Option<String>,
    /// Uplinks: neighbours that are known beforehand.
    pub neighbours: Vec<(IpAddr, Mac)>,
    /// Which sessions it may have, in this order; empty: all.
    pub policies: Vec<Name>,
    /// Tenants: how much it may send and get.
    pub quality: Quality,
}

/// What is behind a port.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Device {
    Ethdev {
        device: String,
        queues: u16,
    },
    VhostUser {
        socket: PathBuf,
        server: bool,
        queues: u16,
    },
    Tap {
        interface: String,
        queues: u16,
        netns: Option<PathBuf>,
    },
    Vlan {
        parent: Name,
        vlan: VlanId,
    },
}

impl Device {
    fn from_proto(name: &Name, at: &At, device: Option<&v1::port::Device>) -> Result<Self, FieldError> {
        use v1::port::Device as Proto;
        let queues = |at: &At, queues| Ok(text::count(&at.field("queues"), queues, 1, QUEUES_MAX)? as u16);
        match device {
            None => Err(at
                .field("device")
                .error("is missing", "fill in one of ethdev, vhost_user, tap, vlan")),
            Some(Proto::Ethdev(ethdev)) => {
                let at = at.field("ethdev");
                let device = ethdev_name(&at.field("device"), &ethdev.device)?;
                Ok(Device::Ethdev {
                    device,
                    queues: queues(&at, ethdev.queues)?,
                })
            }
            Some(Proto::VhostUser(vhost)) => {
                let at = at.field("vhost_user");
                let socket = text::socket_path(&at.field("socket"), &vhost.socket)?;
                Ok(Device::VhostUser {
                    socket,
                    server: vhost.server,
                    queues: queues(&at, vhost.queues)?,
                })
            }
            Some(Proto::Tap(tap)) => {
                let at = at.field("tap");
                Ok(Device::Tap {
                    interface: text::interface_name(&at.field("interface"), &tap.interface)?,
                    queues: queues(&at, tap.queues)?,
                    netns: text::netns(&at.field("netns"), &tap.netns)?,
                })
            }
            Some(Proto::Vlan(vlan)) => {
                let at = at.field("vlan");
                let parent = text::name(&at.field("parent"), &vlan.parent)?;
                if parent == *name {
                    return Err(at.field("parent").error(
                        format!("\"{parent}\" is the port itself"),
                        "name the port whose tagged frames these are",
                    ));
                }
                Ok(Device::Vlan {
                    parent,
                    vlan: text::vlan(&at.field("vlan"), vlan.vlan)?,
                })
            }
        }
    }

    fn to_proto(&self) -> v1::port::Device {
        use v1::port::Device as Proto;
        let path = |path: &PathBuf| path.to_string_lossy().into_owned();
        match self {
            Device::Ethdev { device, queues } => Proto::Ethdev(v1::EthdevDevice {
                device: device.clone(),
                queues: (*queues).into(),
            }),
            Device::VhostUser {
                socket,
                server,
                queues,
            } => Proto::VhostUser(v1::VhostUserDevice {
                socket: path(socket),
                server: *server,
                queues: (*queues).into(),
            }),
            Device::Tap {
                interface,
                queues,
                netns,
            } => Proto::Tap(v1::TapDevice {
                interface: interface.clone(),
                queues: (*queues).into(),
                netns: netns.as_ref().map(path).unwrap_or_default(),
            }),
            Device::Vlan { parent, vlan } => Proto::Vlan(v1::VlanDevice {
                parent: parent.to_string(),
                vlan: (*vlan).into(),
            }),
        }
    }
}

/// A PCI address, or a virtual device of DPDK with its arguments.
fn ethdev_name(at: &At, text: &str) -> Result<String, FieldError> {
    let help =
        "write a PCI address such as 0000:03:00.0, or a virtual device such as net_af_packet0,iface=eth1";
    if text.is_empty() {
        return Err(at.error("is missing", help));
    }
    let wrong = || at.error(format!("`{}` is no DPDK device", text.escape_debug()), help);
    if text.len() > 1024 || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(wrong());
    }
    if let Some(address) = pci_address(text) {
        return Ok(address);
    }
    let driver = text.split(',').next().unwrap_or_default();
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if driver.len() <= 4 || driver.len() > 63 || !driver.starts_with("net_") || !driver.bytes().all(legal) {
        return Err(wrong());
    }
    Ok(text.into())
}

/// `0000:03:00.0` or `03:00.0`, in lower case and with its domain.
pub fn pci_address(text: &str) -> Option<String> {
    let hex = |text: &str, digits: usize| {
        (text.len() == digits && text.bytes().all(|b| b.is_ascii_hexdigit()))
            .then(|| text.to_ascii_lowercase())
    };
    let (rest, function) = text.split_once('.')?;
    if !matches!(function.as_bytes(), [b'0'..=b'7']) {
        return None;
    }
    let mut parts = rest.rsplit(':');
    let (device, bus) = (hex(parts.next()?, 2)?, hex(parts.next()?, 2)?);
    let domain = parts
        .next()
        .map_or(Some("0000".to_owned()), |domain| hex(domain, 4))?;
    parts
        .next()
        .is_none()
        .then(|| format!("{domain}:{bus}:{device}.{function}"))
}

impl Port {
    /// Whether this port leads to the underlay.
    pub fn is_uplink(&self) -> bool {
        &*self.vrf == UNDERLAY
    }

    pub(super) fn from_proto(name: &Name, port: &v1::Port) -> Result<Self, FieldError> {
        let at = At::root("port");
        let device = Device::from_proto(name, &at, port.device.as_ref())?;
        let vrf = text::name(&at.field("vrf"), &port.vrf)?;
        let mac = text::optional_mac(&at.field("mac"), &port.mac)?;
        let uplink = &*vrf == UNDERLAY;
        let addresses = Self::addresses(&at.field("addresses"), uplink, &port.addresses)?;
        let mtu = Self::mtu(&at.field("mtu"), port.mtu, &addresses)?;
        let trunk = Self::trunk(&at.field("trunk"), &device, &port.trunk)?;
        let workers_at = at.field("workers");
        let worker = |(index, worker): (usize, &u32)| {
            u16::try_from(*worker).map_err(|_| {
                let help = "name workers by their index, from 0; `weft top` lists them";
                workers_at
                    .index(index)
                    .error(format!("there is no worker {worker}"), help)
            })
        };
        let workers = port
            .workers
            .iter()
            .enumerate()
            .map(worker)
            .collect::<Result<_, _>>()?;
        let host_at = at.field("host_interface");
        let host_interface = match port.host_interface.as_str() {
            "" => None,
            interface if uplink => Some(text::interface_name(&host_at, interface)?),
            interface => {
                let message = format!("\"{interface}\" is given, but the port's VRF is \"{vrf}\"");
                return Err(host_at.error(message, "only uplinks (vrf: underlay) have a host interface"));
            }
        };
        let neighbours = Self::neighbours(&at.field("neighbours"), uplink, &addresses, &port.neighbours)?;
        let policies = Self::policies(&at.field("policies"), uplink, &port.policies)?;
        let quality = Quality::from_proto(&at.field("quality"), uplink, port.quality.as_ref())?;
        let packet_mode = port.packet_mode;
        Ok(Port {
            device,
            vrf,
            mac,
            addresses,
            mtu,
            packet_mode,
            trunk,
            workers,
            host_interface,
            neighbours,
            policies,
            quality,
        })
    }

    fn policies(at: &At, uplink: bool, texts: &[String]) -> Result<Vec<Name>, FieldError> {
        if uplink && !texts.is_empty() {
            return Err(at.error(
                "are given, but the port is an uplink, which carries the sessions of all tenants",
                "give the policies to the tenants' ports",
            ));
        }
        if texts.len() > POLICIES_MAX {
            let message = format!("there are {} policies", texts.len());
            return Err(at.error(message, format!("at most {POLICIES_MAX} are possible")));
        }
        let mut policies: Vec<Name> = Vec::with_capacity(texts.len());
        for (index, text) in texts.iter().enumerate() {
            let at = at.index(index);
            let policy = text::name(&at, text)?;
            if policies.contains(&policy) {
                return Err(at.error(format!("\"{policy}\" is listed twice"), "remove one of the two"));
            }
            policies.push(policy);
        }
        Ok(policies)
    }

    fn neighbours(
        at: &At,
        uplink: bool,
        own: &[IpNet],
        proto: &[v1::Neighbour],
    ) -> Result<Vec<(IpAddr, Mac)>, FieldError> {
        if !uplink && !proto.is_empty() {
            return Err(at.error(
                "are given, but the port leads to a tenant",
                "only uplinks (vrf: underlay) have neighbours; a route's next hop names the MAC behind a tenant's port",
            ));
        }
        let mut neighbours: Vec<(IpAddr, Mac)> = Vec::with_capacity(proto.len());
        for (index, neighbour) in proto.iter().enumerate() {
            let at = at.index(index);
            let address_at = at.field("address");
            let address = text::address(&address_at, &neighbour.address)?;
            if own.iter().any(|own| own.addr() == address) {
                let message = format!("{address} is the port's own address");
                return Err(address_at.error(message, "name another station of the link"));
            }
            if !own.iter().any(|own| own.contains(&address)) {
                let message = format!("{address} is in none of the port's subnets");
                let help = "name an address inside the subnet of one of the port's addresses";
                return Err(address_at.error(message, help));
            }
            if neighbours.iter().any(|(known, _)| *known == address) {
                let message = format!("{address} is listed twice");
                return Err(address_at.error(message, "remove one of the two"));
            }
            neighbours.push((address, text::mac(&at.field("mac"), &neighbour.mac)?));
        }
        Ok(neighbours)
    }

    fn addresses(at: &At, uplink: bool, texts: &[String]) -> Result<Vec<IpNet>, FieldError> {
        let mut addresses: Vec<IpNet> = Vec::with_capacity(texts.len());
        for (index, text) in texts.iter().enumerate() {
            let at = at.index(index);
            let address = if uplink {
                text::interface_address(&at, text)?
            } else {
                text::host_address(&at, text)?.into()
            };
            if addresses.iter().any(|other| other.addr() == address.addr()) {
                let message = format!("{} is listed twice", address.addr());
                return Err(at.error(message, "remove one of the two"));
            }
            addresses.push(address);
        }
        Ok(addresses)
    }

    fn mtu(at: &At, mtu: u32, addresses: &[IpNet]) -> Result<u16, FieldError> {
        let mtu = if mtu == 0 { MTU_DEFAULT } else { mtu };
        if !(MTU_MIN..=MTU_MAX).contains(&mtu) {
            let help = format!("legal are {MTU_MIN} to {MTU_MAX}; 0 stands for {MTU_DEFAULT}");
            return Err(at.error(format!("{mtu} is out of range"), help));
        }
        let too_small_for = addresses
            .iter()
            .find(|address| mtu < MTU_MIN_IPV6 && matches!(address, IpNet::V6(_)));
        if let Some(v6) = too_small_for {
            let message = format!("{mtu} is too small for IPv6, which {} needs", v6.addr());
            return Err(at.error(message, format!("use at least {MTU_MIN_IPV6} (RFC 8200)")));
        }
        Ok(mtu as u16)
    }

    fn trunk(at: &At, device: &Device, proto: &[v1::TrunkVlan]) -> Result<Vec<(VlanId, Name)>, FieldError> {
        if let (Device::Vlan { vlan, .. }, false) = (device, proto.is_empty()) {
            let message = format!("is given, but the port is itself the sub-interface of VLAN {vlan}");
            return Err(at.error(message, "give the trunk to the parent port"));
        }
        let mut trunk: Vec<(VlanId, Name)> = Vec::with_capacity(proto.len());
        for (index, entry) in proto.iter().enumerate() {
            let at = at.index(index);
            let vlan = text::vlan(&at.field("vlan"), entry.vlan)?;
            let vrf = text::name(&at.field("vrf"), &entry.vrf)?;
            if let Some((_, other)) = trunk.iter().find(|(known, _)| *known == vlan) {
                let message = format!("VLAN {vlan} already leads to vrf \"{other}\"");
                return Err(at.field("vlan").error(message, "list each VLAN once"));
            }
            trunk.push((vlan, vrf));
        }
        Ok(trunk)
    }

    pub(super) fn to_proto(&self) -> v1::Port {
        let uplink = self.is_uplink();
        let address = |address: &IpNet| {
            if uplink {
                address.to_string()
            } else {
                address.addr().to_string()
            }
        };
        let trunk = |(vlan, vrf): &(VlanId, Name)| v1::TrunkVlan {
            vlan: (*vlan).into(),
            vrf: vrf.to_string(),
        };
        let neighbour = |(address, mac): &(IpAddr, Mac)| v1::Neighbour {
            address: address.to_string(),
            mac: mac.to_string(),
        };
        v1::Port {
            device: Some(self.device.to_proto()),
            vrf: self.vrf.to_string(),
            mac: self.mac.map(|mac| mac.to_string()).unwrap_or_default(),
            addresses: self.addresses.iter().map(address).collect(),
            mtu: self.mtu.into(),
            packet_mode: self.packet_mode,
            trunk: self.trunk.iter().map(trunk).collect(),
            workers: self.workers.iter().map(|worker| u32::from(*worker)).collect(),
            host_interface: self.host_interface.clone().unwrap_or_default(),
            neighbours: self.neighbours.iter().map(neighbour).collect(),
            policies: self.policies.iter().map(|policy| policy.to_string()).collect(),
            quality: self.quality.to_proto(),
        }
    }

    /// The addresses behind the port, without lengths.
    pub fn hosts(&self) -> impl Iterator<Item = IpAddr> {
        self.addresses.iter().map(IpNet::addr)
    }
}
