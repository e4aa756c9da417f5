//! Objects of each kind as rows of a table.

use weft_proto::v1::{self, Encapsulation, State, next_hop, object::Spec, port::Device, tunnel_target};

use super::{
    policies, services,
    table::{Column, Table},
};
use crate::kind::KindInfo;

/// What of a port is known besides its description, for its row.
#[derive(Clone, Debug, Default)]
pub struct PortRow {
    /// Up or down, from the data plane.
    pub link_up: Option<bool>,
    /// Packets received, or their rate.
    pub received: String,
    /// Packets sent, or their rate.
    pub sent: String,
    /// Drops by reason.
    pub drops: String,
}

/// A table of objects of one kind (not ports, policies, floating IPs, pools and services, which carry counters: see
/// [`ports`], [`policies`](super::policies), [`nat`](super::nat) and [`services`](super::services)).
pub fn table(info: &KindInfo, objects: &[v1::Object]) -> Table {
    use Column::{Number, Text};
    let columns: &[Column] = match info.kind {
        v1::Kind::Vrf => &[Text("MODE")],
        v1::Kind::Network => &[Text("VRF"), Text("SUBNETS"), Text("GATEWAYS")],
        v1::Kind::Route => &[Text("VRF"), Text("PREFIX"), Text("NEXT-HOP")],
        v1::Kind::NextHopGroup => &[Number("MEMBERS"), Text("NEXT-HOPS")],
        v1::Kind::TunnelEndpoint => &[Text("REMOTE"), Text("LOCAL"), Text("ENCAPSULATION")],
        v1::Kind::Vni => &[Number("VNI"), Text("TARGET")],
        v1::Kind::Label => &[Number("LABEL"), Text("TARGET")],
        v1::Kind::AddressGroup => &[Number("MEMBERS"), Text("ADDRESSES")],
        v1::Kind::Port
        | v1::Kind::Policy
        | v1::Kind::FloatingIp
        | v1::Kind::NatPool
        | v1::Kind::Service
        | v1::Kind::Unspecified => &[],
    };
    let mut table = Table::new(
        [Text("NAME")]
            .into_iter()
            .chain(columns.iter().copied())
            .chain([Text("OWNER"), Text("STATE")]),
    );
    for object in objects {
        let mut row = vec![object.name.clone()];
        row.extend(cells(object));
        row.extend([object.owner.clone(), state(object).to_owned()]);
        table.row(row);
    }
    table
}

/// A table of ports; `rates` says whether the numbers are packets a second or totals.
pub fn ports(ports: &[(v1::Object, PortRow)], rates: bool) -> Table {
    use Column::{Number, Text};
    let (received, sent) = if rates {
        ("RX-PPS", "TX-PPS")
    } else {
        ("RX-PACKETS", "TX-PACKETS")
    };
    let mut table = Table::new([
        Text("NAME"),
        Text("KIND"),
        Text("VRF"),
        Text("ADDRESS"),
        Text("STATE"),
        Number(received),
        Number(sent),
        Text("DROPS"),
    ]);
    for (object, row) in ports {
        let Some(Spec::Port(port)) = &object.spec else {
            continue;
        };
        let mut address = port.addresses.join(", ");
        if let Some(Device::Vlan(vlan)) = &port.device {
            address = format!("{address} ({})", vlan.parent).trim_start().to_owned();
        }
        let state = match (state(object), row.link_up) {
            ("active", Some(true)) => "up",
            ("active", Some(false)) => "down",
            (state, _) => state,
        };
        table.row([
            object.name.clone(),
            device(port),
            port.vrf.clone(),
            address,
            state.to_owned(),
            row.received.clone(),
            row.sent.clone(),
            row.drops.clone(),
        ]);
    }
    table
}

/// What kind of device a port is.
pub fn device(port: &v1::Port) -> String {
    match &port.device {
        None => String::new(),
        Some(Device::VhostUser(_)) => "vhost-user".to_owned(),
        Some(Device::Tap(_)) => "tap".to_owned(),
        Some(Device::Vlan(vlan)) => format!("vlan {}", vlan.vlan),
        Some(Device::Ethdev(ethdev)) => {
            // "net_af_packet0,iface=eth1" is an af_packet, "0000:03:00.0" a PCI device.
            let name = ethdev.device.split(',').next().unwrap_or_default();
            match name.strip_prefix("net_") {
                Some(driver) => driver.trim_end_matches(|c: char| c.is_ascii_digit()).to_owned(),
                None => "pci".to_owned(),
            }
        }
    }
}

/// The state in a word.
pub fn state(object: &v1::Object) -> &'static str {
    state_word(
        object
            .status
            .as_ref()
            .map_or(State::Unspecified, v1::Status::state),
    )
}

/// The state in a word.
pub fn state_word(state: State) -> &'static str {
    match state {
        State::Unspecified => "-",
        State::Pending => "pending",
        State::Active => "active",
        State::Failed => "failed",
    }
}

/// An encapsulation by its usual name.
fn encapsulation(endpoint: &v1::TunnelEndpoint) -> &'static str {
    match endpoint.encapsulation() {
        Encapsulation::Unspecified => "-",
        Encapsulation::Vxlan => "VXLAN",
        Encapsulation::MplsOverUdp => "MPLSoUDP",
        Encapsulation::MplsOverGre => "MPLSoGRE",
    }
}

/// Where a next hop leads, in words.
pub fn next_hop(hop: Option<&v1::NextHop>) -> String {
    use next_hop::To;
    let Some(to) = hop.and_then(|hop| hop.to.as_ref()) else {
        return String::new();
    };
    match to {
        To::Port(port) if port.vlan != 0 => format!("port {} vlan {}", port.port, port.vlan),
        To::Port(port) => format!("port {}", port.port),
        To::Tunnel(tunnel) => {
            let labels: Vec<String> = tunnel.labels.iter().map(u32::to_string).collect();
            match (tunnel.vni, labels.as_slice()) {
                (0, []) => format!("tunnel {}", tunnel.endpoint),
                (0, [label]) => format!("tunnel {} label {label}", tunnel.endpoint),
                (0, labels) => format!("tunnel {} labels {}", tunnel.endpoint, labels.join("/")),
                (vni, _) => format!("tunnel {} vni {vni}", tunnel.endpoint),
            }
        }
        To::Group(group) => format!("group {group}"),
        To::Vrf(vrf) => format!("vrf {vrf}"),
        To::Gateway(gateway) => format!("gateway {gateway}"),
        To::Receive(_) => "receive".to_owned(),
        To::Discard(_) => "discard".to_owned(),
    }
}

fn target(target: Option<&v1::TunnelTarget>) -> String {
    match target.and_then(|target| target.to.as_ref()) {
        Some(tunnel_target::To::Vrf(vrf)) => format!("vrf {vrf}"),
        Some(tunnel_target::To::Port(port)) => format!("port {port}"),
        None => String::new(),
    }
}

/// The cells between name and owner.
fn cells(object: &v1::Object) -> Vec<String> {
    match &object.spec {
        Some(Spec::Vrf(vrf)) => vec![if vrf.packet_mode { "packets" } else { "sessions" }.to_owned()],
        Some(Spec::Network(network)) => {
            let joined = |part: fn(&v1::Subnet) -> &str| {
                network
                    .subnets
                    .iter()
                    .map(part)
                    .filter(|text| !text.is_empty())
                    .collect::<Vec<_>>()
                    .join(", ")
            };
            vec![
                network.vrf.clone(),
                joined(|subnet| &subnet.prefix),
                joined(|subnet| &subnet.gateway),
            ]
        }
        Some(Spec::Route(route)) => {
            vec![
                route.vrf.clone(),
                route.prefix.clone(),
                next_hop(route.next_hop.as_ref()),
            ]
        }
        Some(Spec::NextHopGroup(group)) => {
            let hops: Vec<String> = group
                .members
                .iter()
                .map(|member| match member.weight {
                    0 | 1 => next_hop(member.next_hop.as_ref()),
                    weight => format!("{} x{weight}", next_hop(member.next_hop.as_ref())),
                })
                .collect();
            vec![group.members.len().to_string(), hops.join(", ")]
        }
        Some(Spec::TunnelEndpoint(endpoint)) => {
            vec![
                endpoint.remote.clone(),
                endpoint.local.clone(),
                encapsulation(endpoint).to_owned(),
            ]
        }
        Some(Spec::Vni(vni)) => vec![vni.vni.to_string(), target(vni.target.as_ref())],
        Some(Spec::Label(label)) => vec![label.label.to_string(), target(label.target.as_ref())],
        Some(Spec::Policy(policy)) => {
            let rules = match policy.rules.len() {
                1 => "1 rule".to_owned(),
                rules => format!("{rules} rules"),
            };
            let default = |direction: &str, action| match policies::action(action) {
                "" => String::new(),
                action => format!("{direction} {action}"),
            };
            vec![
                rules,
                default("ingress", policy.default_ingress()),
                default("egress", policy.default_egress()),
            ]
        }
        Some(Spec::FloatingIp(floating)) => vec![
            floating.vrf.clone(),
            floating.address.clone(),
            format!("port {}", floating.port),
            floating.inside_address.clone(),
        ],
        Some(Spec::NatPool(pool)) => vec![
            pool.vrf.clone(),
            pool.addresses.join(", "),
            format!("for {} of {}", pool.sources.join(", "), pool.inside_vrf),
        ],
        Some(Spec::Service(service)) => vec![
            service.vrf.clone(),
            service.address.clone(),
            services::ports(service),
            match service.backends.len() {
                1 => "1 backend".to_owned(),
                backends => format!("{backends} backends"),
            },
        ],
        Some(Spec::AddressGroup(group)) => vec![group.members.len().to_string(), first_of(&group.members)],
        Some(Spec::Port(_)) | None => Vec::new(),
    }
}

/// The first few of a list that may be long.
fn first_of(members: &[String]) -> String {
    const SHOWN: usize = 4;
    let shown = members.iter().take(SHOWN).cloned();
    let more = members
        .len()
        .checked_sub(SHOWN + 1)
        .map(|more| format!("{} more", more + 1));
    shown.chain(more).collect::<Vec<_>>().join(", ")
}

/// An object in a few words, for a line of its own.
pub fn summary(object: &v1::Object) -> String {
    let parts = match &object.spec {
        Some(Spec::Port(port)) => vec![device(port), port.vrf.clone(), port.addresses.join(", ")],
        _ => cells(object),
    };
    parts
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("  ")
}

/// The VRF that an object is in or leads to; none for kinds that are in none.
pub fn vrf_of(object: &v1::Object) -> Option<&str> {
    match object.spec.as_ref()? {
        Spec::Vrf(_) => Some(&object.name),
        Spec::Network(network) => Some(&network.vrf),
        Spec::Port(port) => Some(&port.vrf),
        Spec::Route(route) => Some(&route.vrf),
        Spec::FloatingIp(floating) => Some(&floating.vrf),
        Spec::NatPool(pool) => Some(&pool.vrf),
        Spec::Service(service) => Some(&service.vrf),
        Spec::Vni(v1::Vni { target, .. }) | Spec::Label(v1::Label { target, .. }) => {
            match target.as_ref()?.to.as_ref()? {
                tunnel_target::To::Vrf(vrf) => Some(vrf),
                tunnel_target::To::Port(_) => None,
            }
        }
        Spec::NextHopGroup(_) | Spec::TunnelEndpoint(_) | Spec::Policy(_) | Spec::AddressGroup(_) => None,
    }
}

/// Drops by reason, most first: `unknown-vlan 12, no-route 3, 2 more`.
pub fn drops(counts: &[v1::DropCount]) -> String {
    let mut counts: Vec<&v1::DropCount> = counts.iter().filter(|count| count.packets > 0).collect();
    counts.sort_by(|a, b| b.packets.cmp(&a.packets).then_with(|| a.reason.cmp(&b.reason)));
    let mut parts: Vec<String> = counts
        .iter()
        .take(2)
        .map(|count| format!("{} {}", count.reason, super::units::count(count.packets)))
        .collect();
    if counts.len() > 2 {
        parts.push(format!("{} more", counts.len() - 2));
    }
    parts.join(", ")
}
