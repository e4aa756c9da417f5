//! What would become of a packet: the question in numbers, the answer in names.

use std::net::IpAddr;

use weft_dataplane::{
    change::Encapsulation,
    view::{LeadsTo, PolicyVerdict, RouteLookup, SupposedPacket, WhatIf},
};
use weft_packet::ip::protocol;
use weft_proto::v1;
use weft_table::{
    PolicyId, PortId,
    policy::{Action, Direction},
};

use crate::{
    model::{FieldError, error::At, protocol_number, text},
    reconciler::{Decider, Names, Part},
};

/// The port that the packet comes from.
pub fn from(request: &v1::WhatIfRequest, names: &Names) -> Result<PortId, FieldError> {
    let at = At::root("from");
    let name = text::name(&at, &request.from)?;
    let mut ports = names.ports.iter();
    let found = ports.find(|(_, known)| **known == name);
    found
        .map(|(port, _)| *port)
        .ok_or_else(|| not_a_tenants(&request.from))
}

/// The data plane knows no tenant's port of this name.
pub fn not_a_tenants(name: &str) -> FieldError {
    At::root("from").error(
        format!("port \"{name}\" does not exist, or is no tenant's"),
        "`weft get ports` lists them; packets out of a tunnel are not asked about",
    )
}

/// The packet.
pub fn packet(request: &v1::WhatIfRequest) -> Result<SupposedPacket, FieldError> {
    let at = At::root("packet");
    let packet = request.packet.as_ref();
    let packet = packet.ok_or_else(|| at.error("is missing", "say which packet is meant"))?;
    let source = address(&at.field("source"), &packet.source)?;
    let destination = address(&at.field("destination"), &packet.destination)?;
    if source.is_ipv4() != destination.is_ipv4() {
        let message = format!("{destination} and {source} are of different families");
        return Err(at
            .field("destination")
            .error(message, "give two addresses of one family"));
    }
    let protocol_at = at.field("protocol");
    let unknown = || {
        let message = format!("`{}` is no protocol", packet.protocol.escape_debug());
        protocol_at.error(
            message,
            "write tcp, udp, sctp, icmp, icmpv6 or a number from 0 to 255",
        )
    };
    let number = protocol_number(&packet.protocol).ok_or_else(unknown)?;
    let (icmp, other) = match source.is_ipv4() {
        true => (protocol::ICMP, protocol::ICMPV6),
        false => (protocol::ICMPV6, protocol::ICMP),
    };
    if number == other {
        let message = format!("{} does not go with {source}", packet.protocol);
        return Err(protocol_at.error(message, "write icmp for IPv4 and icmpv6 for IPv6"));
    }
    Ok(SupposedPacket {
        protocol: number,
        source,
        destination,
        transport: match number == icmp {
            true => icmp_header(&at, packet, source.is_ipv4())?,
            false => ports(&at, packet)?,
        },
    })
}

fn address(at: &At, text: &str) -> Result<IpAddr, FieldError> {
    let wrong = |_| {
        at.error(
            format!("`{}` is no address", text.escape_debug()),
            "write an address such as 10.0.0.5 or fd00::5",
        )
    };
    text.parse().map_err(wrong)
}

fn ports(at: &At, packet: &v1::SupposedPacket) -> Result<[u8; 8], FieldError> {
    let port = |at: At, port: u32| {
        let wrong = |_| at.error(format!("port {port} is out of range"), "legal are 0 to 65535");
        u16::try_from(port).map_err(wrong)
    };
    let source = port(at.field("source_port"), packet.source_port)?.to_be_bytes();
    let destination = port(at.field("destination_port"), packet.destination_port)?.to_be_bytes();
    Ok([source[0], source[1], destination[0], destination[1], 0, 0, 0, 0])
}

/// An echo request, unless the packet says otherwise.
fn icmp_header(at: &At, packet: &v1::SupposedPacket, v4: bool) -> Result<[u8; 8], FieldError> {
    let byte = |at: At, value: u32| {
        let wrong = |_| at.error(format!("{value} is out of range"), "legal are 0 to 255");
        u8::try_from(value).map_err(wrong)
    };
    let echo = if v4 { 8 } else { 128 };
    let kind = byte(at.field("icmp_type"), packet.icmp_type.unwrap_or(echo))?;
    let code = byte(at.field("icmp_code"), packet.icmp_code.unwrap_or(0))?;
    let identifier_at = at.field("icmp_identifier");
    let identifier = u16::try_from(packet.icmp_identifier).map_err(|_| {
        let message = format!("{} is out of range", packet.icmp_identifier);
        identifier_at.error(message, "legal are 0 to 65535")
    })?;
    let [high, low] = identifier.to_be_bytes();
    Ok([kind, code, 0, 0, high, low, 0, 0])
}

/// Whose the deciders of the policies are, and what rules are called.
pub struct Policies<'a> {
    /// Of each set of the data plane.
    pub deciders: &'a [(PolicyId, Vec<Decider>)],
    /// The name of a policy's rule; empty: it has none.
    pub rule_name: &'a dyn Fn(&str, usize) -> String,
}

/// The answer.
pub fn response(what_if: &WhatIf, names: &Names, policies: &Policies<'_>) -> v1::WhatIfResponse {
    let (next_hop, port) = match &what_if.outcome {
        Ok(way) => (
            leads_to(&way.to, names),
            way.port.map(|port| port_name(port, names)),
        ),
        Err(_) => Default::default(),
    };
    let reason = what_if.outcome.as_ref().err();
    let nat = |id: Option<weft_table::NatId>| {
        let name = id.and_then(|id| names.nat.get(&id));
        name.map(|name| name.to_string()).unwrap_or_default()
    };
    v1::WhatIfResponse {
        vrf: vrf_name(what_if.vrf, names),
        session: what_if.session.as_ref().map(|session| v1::WhatIfSession {
            number: session.number,
            initiator: session.initiator,
            holds: session.holds,
        }),
        lookups: what_if
            .lookups
            .iter()
            .map(|lookup| route(lookup, names))
            .collect(),
        policies: what_if
            .verdicts
            .iter()
            .map(|verdict| policy(verdict, names, policies))
            .collect(),
        translation: what_if
            .translation
            .as_ref()
            .map(|translation| v1::WhatIfTranslation {
                source: translation.source.0.to_string(),
                source_port: translation.source.1.into(),
                destination: translation.destination.0.to_string(),
                destination_port: translation.destination.1.into(),
                source_by: nat(translation.source_by),
                destination_by: nat(translation.destination_by),
            }),
        next_hop,
        port: port.unwrap_or_default(),
        drop_reason: reason.map(|reason| reason.name().to_owned()).unwrap_or_default(),
        help: reason.map(|reason| reason.help().to_owned()).unwrap_or_default(),
    }
}

fn route(lookup: &RouteLookup, names: &Names) -> v1::RouteLookup {
    v1::RouteLookup {
        vrf: vrf_name(lookup.vrf, names),
        destination: lookup.destination.to_string(),
        prefix: lookup.prefix.map(|prefix| prefix.to_string()).unwrap_or_default(),
        next_hop: leads_to(&lookup.to, names),
    }
}

fn policy(verdict: &PolicyVerdict, names: &Names, policies: &Policies<'_>) -> v1::PolicyVerdict {
    let decider = verdict.by.and_then(|(policy, decider)| {
        let (_, deciders) = policies.deciders.iter().find(|(known, _)| *known == policy)?;
        deciders.get(decider as usize)
    });
    let place = decider.and_then(|decider| match decider.part {
        Part::Rule(place) => Some(place),
        Part::Default(_) => None,
    });
    let policy = decider
        .map(|decider| decider.policy.to_string())
        .unwrap_or_default();
    v1::PolicyVerdict {
        port: verdict
            .port
            .map(|port| port_name(port, names))
            .unwrap_or_default(),
        direction: match verdict.direction {
            Direction::Ingress => v1::PolicyDirection::Ingress,
            Direction::Egress => v1::PolicyDirection::Egress,
        } as i32,
        action: match verdict.action {
            Action::Allow => v1::PolicyAction::Allow,
            Action::Deny => v1::PolicyAction::Deny,
            Action::Reject => v1::PolicyAction::Reject,
        } as i32,
        rule: place.map_or(0, |place| place as u32 + 1),
        rule_name: place
            .map(|place| (policies.rule_name)(&policy, place))
            .unwrap_or_default(),
        policy,
    }
}

fn port_name(port: PortId, names: &Names) -> String {
    let name = names.ports.get(&port);
    name.map_or_else(|| format!("number {port}"), |name| name.to_string())
}

fn vrf_name(vrf: weft_table::VrfId, names: &Names) -> String {
    let name = names.vrfs.get(&vrf);
    name.map_or_else(|| vrf.to_string(), |name| name.to_string())
}

/// Where a route or packet goes, in words.
fn leads_to(to: &LeadsTo, names: &Names) -> String {
    let nat = |id| {
        names
            .nat
            .get(id)
            .map_or_else(String::new, |name| format!(" {name}"))
    };
    match to {
        LeadsTo::Port(port) => format!("port {}", port_name(*port, names)),
        LeadsTo::Tunnel(remote, header) => {
            let endpoint = names.endpoints.get(remote);
            let name = endpoint.map_or_else(String::new, |name| format!("{name}, "));
            let header = match header {
                Encapsulation::Vxlan { vni, .. } => format!("VXLAN VNI {vni}"),
                Encapsulation::MplsOverUdp { labels } => format!("MPLS over UDP, {}", stack(labels)),
                Encapsulation::MplsOverGre { labels } => format!("MPLS over GRE, {}", stack(labels)),
            };
            format!("tunnel to {name}{remote}, {header}")
        }
        LeadsTo::Group => "a next-hop group".to_owned(),
        LeadsTo::Vrf(vrf) => format!("VRF {}", vrf_name(*vrf, names)),
        LeadsTo::Neighbour(address) => format!("neighbour {address}"),
        LeadsTo::FloatingIp(id) => format!("floating IP{}", nat(id)),
        LeadsTo::Pool(id) => format!("NAT pool{}", nat(id)),
        LeadsTo::VirtualIp(address) => format!("virtual IP {address}"),
        LeadsTo::Router => "the vRouter".to_owned(),
        LeadsTo::Nowhere => "nowhere".to_owned(),
    }
}

fn stack(labels: &[weft_packet::Label]) -> String {
    let labels: Vec<String> = labels.iter().map(ToString::to_string).collect();
    format!("label {}", labels.join(" "))
}
