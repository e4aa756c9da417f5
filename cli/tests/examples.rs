//! The examples can be applied as they are, and the two hosts fit each other.

#![allow(missing_docs)]

use std::collections::{BTreeMap, BTreeSet};

use weft_cli::{
    kind::KindInfo,
    manifest::{self, Described},
};
use weft_proto::v1::{self, next_hop::To, object::Spec, port::Device, tunnel_target};

fn read(files: &[&str]) -> Vec<v1::Object> {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let files: Vec<_> = files.iter().map(|file| directory.join(file)).collect();
    let described: Vec<Described> = manifest::load(&files, false, &mut std::io::empty())
        .unwrap_or_else(|error| panic!("{:#?}", error.complaints()));
    described.into_iter().map(|described| described.object).collect()
}

/// Names of each kind.
fn names(objects: &[v1::Object]) -> BTreeSet<(&'static str, String)> {
    let mut names: BTreeSet<_> = objects
        .iter()
        .map(|object| (KindInfo::of(object).unwrap().singular, object.name.clone()))
        .collect();
    names.insert(("vrf", "underlay".to_owned()));
    names
}

fn next_hop_needs(hop: Option<&v1::NextHop>) -> Vec<(&'static str, String)> {
    match hop.and_then(|hop| hop.to.as_ref()).expect("a next hop") {
        To::Port(port) => vec![("port", port.port.clone())],
        To::Tunnel(tunnel) => vec![("tunnel-endpoint", tunnel.endpoint.clone())],
        To::Group(group) => vec![("next-hop-group", group.clone())],
        To::Vrf(vrf) => vec![("vrf", vrf.clone())],
        To::Gateway(_) | To::Receive(_) | To::Discard(_) => Vec::new(),
    }
}

fn needs(object: &v1::Object) -> Vec<(&'static str, String)> {
    match object.spec.as_ref().unwrap() {
        Spec::Vrf(_) | Spec::TunnelEndpoint(_) | Spec::AddressGroup(_) => Vec::new(),
        Spec::Policy(policy) => {
            let groups = policy.rules.iter().map(|rule| rule.remote_group.clone());
            let named = groups.filter(|group| !group.is_empty());
            named.map(|group| ("address-group", group)).collect()
        }
        Spec::Network(network) => vec![("vrf", network.vrf.clone())],
        Spec::NatPool(pool) => vec![("vrf", pool.vrf.clone()), ("vrf", pool.inside_vrf.clone())],
        Spec::Service(service) => {
            let ports = service.backends.iter().map(|backend| backend.port.clone());
            let ports = ports.filter(|port| !port.is_empty()).map(|port| ("port", port));
            let pool = Some(("nat-pool", service.source_pool.clone())).filter(|(_, pool)| !pool.is_empty());
            [("vrf", service.vrf.clone())]
                .into_iter()
                .chain(ports)
                .chain(pool)
                .collect()
        }
        Spec::FloatingIp(floating) => vec![("vrf", floating.vrf.clone()), ("port", floating.port.clone())],
        Spec::Port(port) => {
            let parent = match &port.device {
                Some(Device::Vlan(vlan)) => Some(("port", vlan.parent.clone())),
                Some(_) => None,
                None => panic!("port {:?} has no device", object.name),
            };
            let policies = port.policies.iter().map(|policy| ("policy", policy.clone()));
            parent
                .into_iter()
                .chain([("vrf", port.vrf.clone())])
                .chain(policies)
                .collect()
        }
        Spec::Route(route) => {
            let mut needs = next_hop_needs(route.next_hop.as_ref());
            needs.push(("vrf", route.vrf.clone()));
            needs
        }
        Spec::NextHopGroup(group) => group
            .members
            .iter()
            .flat_map(|member| next_hop_needs(member.next_hop.as_ref()))
            .collect(),
        Spec::Vni(v1::Vni { target, .. }) | Spec::Label(v1::Label { target, .. }) => {
            match target
                .as_ref()
                .and_then(|target| target.to.as_ref())
                .expect("a target")
            {
                tunnel_target::To::Vrf(vrf) => vec![("vrf", vrf.clone())],
                tunnel_target::To::Port(port) => vec![("port", port.clone())],
            }
        }
    }
}

#[test]
fn everything_that_an_example_names_is_described_in_it() {
    for files in [
        &["host-a.yaml"][..],
        &["host-b.yaml"],
        &["host-a.yaml", "service.yaml"],
        &["host-a.yaml", "policy.yaml"],
        &["host-a.yaml", "virtual-ip.yaml"],
        &["host-a.yaml", "floating-ip.yaml"],
        &["host-a.yaml", "floating-ip.yaml", "nat-pool.yaml"],
    ] {
        let objects = read(files);
        let names = names(&objects);
        for object in &objects {
            for need in needs(object) {
                assert!(
                    names.contains(&need),
                    "{files:?}: {:?} names {need:?}",
                    object.name
                );
            }
        }
    }
}

/// By VNI or label: the VRF that a host puts what it receives into.
fn receives(objects: &[v1::Object]) -> BTreeMap<(&'static str, u32), String> {
    let vrf = |target: &Option<v1::TunnelTarget>| match target.as_ref().and_then(|target| target.to.clone()) {
        Some(tunnel_target::To::Vrf(vrf)) => vrf,
        other => panic!("{other:?}"),
    };
    objects
        .iter()
        .filter_map(|object| match object.spec.as_ref()? {
            Spec::Vni(vni) => Some((("vni", vni.vni), vrf(&vni.target))),
            Spec::Label(label) => Some((("label", label.label), vrf(&label.target))),
            _ => None,
        })
        .collect()
}

/// Every tunnel route: VRF, VNI or label, and the endpoint's address.
fn sends(objects: &[v1::Object]) -> Vec<(String, (&'static str, u32), String)> {
    let remotes: BTreeMap<&str, &str> = objects
        .iter()
        .filter_map(|object| match object.spec.as_ref()? {
            Spec::TunnelEndpoint(endpoint) => Some((object.name.as_str(), endpoint.remote.as_str())),
            _ => None,
        })
        .collect();
    objects
        .iter()
        .filter_map(|object| match object.spec.as_ref()? {
            Spec::Route(v1::Route {
                vrf,
                next_hop:
                    Some(v1::NextHop {
                        to: Some(To::Tunnel(tunnel)),
                    }),
                ..
            }) => {
                let mark = if tunnel.vni != 0 {
                    ("vni", tunnel.vni)
                } else {
                    ("label", tunnel.labels[0])
                };
                Some((vrf.clone(), mark, remotes[tunnel.endpoint.as_str()].to_owned()))
            }
            _ => None,
        })
        .collect()
}

fn uplink_address(objects: &[v1::Object]) -> String {
    let port = objects
        .iter()
        .find(|object| object.name == "uplink")
        .and_then(|object| object.spec.clone());
    match port {
        Some(Spec::Port(port)) => port.addresses[0].split('/').next().unwrap().to_owned(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_one_host_sends_the_other_puts_into_the_same_tenant() {
    let (a, b) = (read(&["host-a.yaml"]), read(&["host-b.yaml"]));
    for (from, to) in [(&a, &b), (&b, &a)] {
        let sends = sends(from);
        assert!(sends.len() >= 3, "{sends:?}");
        for (vrf, mark, remote) in sends {
            assert_eq!(receives(to).get(&mark), Some(&vrf), "{mark:?}");
            assert_eq!(remote, uplink_address(to));
        }
    }
}
