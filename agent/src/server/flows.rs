//! Which flows to list, and how they read.

use weft_dataplane::view::{FlowFilter, FlowRecord, Ingress};
use weft_proto::v1;

use crate::{
    model::{FieldError, error::At, protocol_name, protocol_number},
    reconciler::Names,
};

/// Flows that are listed when the request names no limit.
const LIMIT: usize = 10_000;

/// The request's filter and limit.
pub fn filter(request: &v1::ListFlowsRequest, names: &Names) -> Result<(FlowFilter, usize), FieldError> {
    let mut filter = FlowFilter::default();
    if !request.vrf.is_empty() {
        let found = names.vrfs.iter().find(|(_, name)| ***name == *request.vrf);
        let (id, _) = found.ok_or_else(|| {
            At::root("vrf").error(
                format!("vrf \"{}\" does not exist", request.vrf),
                "`weft get vrfs` lists them",
            )
        })?;
        filter.vrf = Some(*id);
    }
    let at = At::root("match");
    for condition in request
        .r#match
        .split(',')
        .map(str::trim)
        .filter(|condition| !condition.is_empty())
    {
        let help = "write conditions such as proto=tcp,src=10.0.0.0/24,dst=10.0.0.5,sport=1024,dport=80";
        let wrong = || at.error(format!("`{condition}` is no condition"), help);
        let (field, value) = condition.split_once('=').ok_or_else(wrong)?;
        match field {
            "proto" => filter.protocol = Some(protocol_number(value).ok_or_else(wrong)?),
            "src" => filter.source = Some(prefix(value).ok_or_else(wrong)?),
            "dst" => filter.destination = Some(prefix(value).ok_or_else(wrong)?),
            "sport" => filter.source_port = Some(value.parse().map_err(|_| wrong())?),
            "dport" => filter.destination_port = Some(value.parse().map_err(|_| wrong())?),
            _ => return Err(wrong()),
        }
    }
    let limit = if request.limit == 0 {
        LIMIT
    } else {
        request.limit as usize
    };
    Ok((filter, limit))
}

fn prefix(text: &str) -> Option<ipnet::IpNet> {
    let prefix = text
        .parse()
        .or_else(|_| text.parse::<std::net::IpAddr>().map(Into::into));
    prefix.ok().map(|prefix: ipnet::IpNet| prefix.trunc())
}

/// A flow, with names for numbers.
pub fn flow(flow: &FlowRecord, names: &Names) -> v1::Flow {
    let ingress = match flow.ingress {
        Ingress::Port(port) => names
            .ports
            .get(&port)
            .map_or_else(|| format!("port {port}"), |name| name.to_string()),
        Ingress::Direct(port) => names.ports.get(&port).map_or_else(
            || format!("tunnel to port {port}"),
            |name| format!("tunnel to {name}"),
        ),
        Ingress::Tunnel(remote) => names
            .endpoints
            .get(&remote)
            .map_or_else(|| remote.to_string(), |name| name.to_string()),
    };
    let (source, destination) = flow.translated.unzip();
    let address = |end: Option<(std::net::IpAddr, u16)>| end.map(|(address, _)| address.to_string());
    let port = |end: Option<(std::net::IpAddr, u16)>| end.map(|(_, port)| u32::from(port));
    v1::Flow {
        vrf: names
            .vrfs
            .get(&flow.vrf)
            .map_or_else(|| flow.vrf.to_string(), |name| name.to_string()),
        protocol: protocol_name(flow.protocol),
        source: flow.source.0.to_string(),
        source_port: flow.source.1.into(),
        destination: flow.destination.0.to_string(),
        destination_port: flow.destination.1.into(),
        ingress,
        action: flow.action.clone(),
        packets: flow.packets,
        bytes: flow.bytes,
        idle_seconds: flow.idle_seconds,
        initiator: flow.initiator,
        session: flow.session,
        translated_source: address(source).unwrap_or_default(),
        translated_source_port: port(source).unwrap_or_default(),
        translated_destination: address(destination).unwrap_or_default(),
        translated_destination_port: port(destination).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_table::{PortId, VrfId};

    fn names() -> Names {
        let mut names = Names::default();
        names.vrfs.insert(VrfId(3), "red".into());
        names.ports.insert(PortId(1), "vm-7".into());
        names
            .endpoints
            .insert("198.18.0.2".parse().unwrap(), "host-b".into());
        names
    }

    fn request(vrf: &str, conditions: &str) -> v1::ListFlowsRequest {
        v1::ListFlowsRequest {
            vrf: vrf.into(),
            r#match: conditions.into(),
            limit: 0,
        }
    }

    #[test]
    fn every_condition_reaches_the_filter() {
        let request = request("red", "proto=tcp, src=10.0.0.7/24,dst=fd00::1,sport=1,dport=80");
        let (filter, limit) = filter(&request, &names()).unwrap();
        assert_eq!(
            (filter.vrf, filter.protocol, limit),
            (Some(VrfId(3)), Some(6), LIMIT)
        );
        assert_eq!(filter.source, Some("10.0.0.0/24".parse().unwrap()));
        assert_eq!(filter.destination, Some("fd00::1/128".parse().unwrap()));
        assert_eq!((filter.source_port, filter.destination_port), (Some(1), Some(80)));
    }

    #[test]
    fn what_is_no_condition_is_refused_with_an_example() {
        for conditions in ["tcp", "proto=", "port=80", "sport=65536", "src=10.0.0"] {
            let error = filter(&request("", conditions), &names()).unwrap_err();
            assert_eq!(error.message, format!("`{conditions}` is no condition"));
            assert!(error.help.contains("proto=tcp"));
        }
        assert_eq!(filter(&request("blue", ""), &names()).unwrap_err().field, "vrf");
    }

    #[test]
    fn a_flow_is_shown_by_names() {
        let record = FlowRecord {
            session: 9,
            initiator: true,
            vrf: VrfId(3),
            protocol: 17,
            source: ("10.0.0.1".parse().unwrap(), 53),
            destination: ("10.0.0.2".parse().unwrap(), 54),
            translated: Some((
                ("203.0.113.1".parse().unwrap(), 53),
                ("10.0.0.2".parse().unwrap(), 54),
            )),
            ingress: Ingress::Tunnel("198.18.0.2".parse().unwrap()),
            action: "port vm-7".into(),
            packets: 1,
            bytes: 2,
            idle_seconds: 3,
        };
        let shown = flow(&record, &names());
        assert_eq!(
            (&*shown.vrf, &*shown.protocol, &*shown.ingress),
            ("red", "udp", "host-b")
        );
        assert_eq!(
            (&*shown.translated_source, shown.translated_source_port),
            ("203.0.113.1", 53)
        );
        let there = FlowRecord {
            translated: None,
            ingress: Ingress::Port(PortId(1)),
            vrf: VrfId(4),
            protocol: 47,
            ..record
        };
        let shown = flow(&there, &names());
        assert_eq!(
            (&*shown.vrf, &*shown.protocol, &*shown.ingress),
            ("4", "47", "vm-7")
        );
        assert_eq!((&*shown.translated_source, shown.translated_source_port), ("", 0));
    }
}
