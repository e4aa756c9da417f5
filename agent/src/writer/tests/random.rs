//! Random histories: whatever was applied, deleted, synced and refused, the data plane has what a fresh start from the
//! store would give it, and what was refused left no trace.

use proptest::prelude::*;

use super::*;
use crate::writer::Delta;

/// The port whose device never opens.
const BROKEN: &str = "p3";

fn pick(names: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    proptest::sample::select(names)
}

const VRFS: &[&str] = &["underlay", "red", "blue", "green"];
const PORTS: &[&str] = &["p0", "p1", "p2", "p3", "p4"];
const ENDPOINTS: &[&str] = &["e0", "e1"];
const GROUPS: &[&str] = &["g0", "g1"];
const ADDRESS_GROUPS: &[&str] = &["a0", "a1"];
const POLICIES: &[&str] = &["q0", "q1", "q2"];
const PREFIXES: &[&str] = &[
    "10.0.0.0/24",
    "10.0.0.1/32",
    "10.0.0.2/32",
    "0.0.0.0/0",
    "fd00::/64",
    "fd00::1/128",
];

fn a_hop(groups: bool) -> impl Strategy<Value = v1::NextHop> {
    use v1::next_hop::To;
    let tunnel =
        (pick(ENDPOINTS), 0..2u32, proptest::option::of(pick(VRFS))).prop_map(|(endpoint, kind, vrf)| {
            let mut hop = if kind == 0 {
                to_vni(endpoint, 7)
            } else {
                to_labels(endpoint, &[16, 17])
            };
            if let Some(To::Tunnel(tunnel)) = &mut hop.to {
                tunnel.return_vrf = vrf.unwrap_or_default().into();
            }
            hop
        });
    let group = if groups {
        pick(GROUPS)
    } else {
        pick(&["not-there"])
    };
    let to_a_group = group.prop_map(move |name| match groups {
        true => to_group(name),
        false => hop(To::Gateway("198.18.0.9".into())),
    });
    prop_oneof![
        4 => pick(PORTS).prop_map(to_port),
        3 => tunnel,
        2 => to_a_group,
        1 => pick(VRFS).prop_map(|vrf| hop(To::Vrf(vrf.into()))),
        1 => Just(hop(To::Discard(v1::Discard {}))),
    ]
}

fn a_port() -> impl Strategy<Value = v1::Object> {
    let device = prop_oneof![
        3 => pick(&["t0", "t1", "t2"]).prop_map(tap_device),
        1 => pick(&["/s0", "/s1"]).prop_map(vhost_device),
        3 => (pick(PORTS), 1..4u32).prop_map(|(parent, vlan)| vlan_device(parent, vlan)),
    ];
    let hosts = proptest::sample::subsequence(vec!["10.0.0.1", "10.0.0.2", "fd00::1"], 0..=2);
    let trunk = proptest::option::of((1..4u32, pick(VRFS)));
    let policies = proptest::sample::subsequence(POLICIES.to_vec(), 0..=2);
    (
        pick(PORTS),
        device,
        pick(VRFS),
        hosts,
        trunk,
        any::<bool>(),
        policies,
    )
        .prop_map(|(name, device, vrf, hosts, trunk, packet_mode, policies)| {
            with_port(port(name, vrf, device), |port| {
                let length = if vrf == "underlay" { "/16" } else { "" };
                // The first address of a /16 is none; 10.0.0.1 and so on are.
                port.addresses = hosts.iter().map(|host| format!("{host}{length}")).collect();
                if vrf == "underlay" {
                    port.addresses.retain(|address| !address.contains(':'));
                }
                if !matches!(port.device, Some(v1::port::Device::Vlan(_))) {
                    port.trunk = trunk
                        .iter()
                        .map(|(vlan, vrf)| v1::TrunkVlan {
                            vlan: *vlan,
                            vrf: vrf.to_string(),
                        })
                        .collect();
                }
                port.packet_mode = packet_mode;
                if vrf != "underlay" {
                    port.policies = policies.iter().map(|policy| policy.to_string()).collect();
                }
            })
        })
}

fn a_policy() -> impl Strategy<Value = v1::Object> {
    use v1::{
        PolicyAction::*,
        PolicyDirection::{Egress, Ingress},
    };
    let action = || proptest::sample::select(vec![Allow, Deny, Unspecified]);
    let a_group = proptest::option::weighted(0.3, pick(ADDRESS_GROUPS));
    let a_rule = (proptest::sample::select(vec![Ingress, Egress]), 1..9u32, a_group);
    let a_rule = a_rule.prop_map(|(direction, port, group)| {
        rule(direction, if port < 5 { Allow } else { Deny }, |rule| {
            rule.remote_group = group.unwrap_or_default().into();
            rule.protocol = "udp".into();
            rule.destination_ports = vec![v1::PortRange { first: port, last: 9 }];
        })
    });
    (
        pick(POLICIES),
        proptest::collection::vec(a_rule, 0..3),
        action(),
        action(),
    )
        .prop_map(|(name, rules, ingress, egress)| policy(name, rules, [ingress, egress]))
}

fn an_object() -> impl Strategy<Value = v1::Object> {
    use v1::Encapsulation::{MplsOverGre, Vxlan};
    let target = || prop_oneof![pick(VRFS).prop_map(target_vrf), pick(PORTS).prop_map(target_port)];
    let packet_mode = |(name, packet_mode)| {
        object(
            name,
            v1::object::Spec::Vrf(v1::Vrf {
                packet_mode,
                ..Default::default()
            }),
        )
    };
    prop_oneof![
        3 => (pick(VRFS), any::<bool>()).prop_map(packet_mode),
        1 => (pick(&["n0", "n1"]), pick(VRFS), 1..4u32)
            .prop_map(|(name, vrf, host)| network(name, vrf, "10.0.0.0/24", &format!("10.0.0.{host}"))),
        5 => a_port(),
        3 => a_policy(),
        3 => (pick(&["m0", "m1"]), pick(VRFS), pick(VRFS), pick(&["10.0.0.16/28", "10.0.0.32/32", "10.0.0.48/28"]))
            .prop_map(|(name, vrf, inside, prefix)| nat_pool(name, vrf, &[prefix], inside, &["10.0.0.0/8"])),
        4 => (
            (pick(&["s0", "s1"]), pick(VRFS), pick(&["10.0.0.1", "10.0.0.2", "10.0.0.17"])),
            proptest::sample::subsequence(vec![0, 80, 443], 1..=2),
            (any::<bool>(), prop_oneof![Just(""), pick(PORTS)], prop_oneof![3 => Just(""), 1 => pick(&["m0", "m1"])]),
        )
            .prop_map(|((name, vrf, address), ports, (local_only, port, source_pool))| {
                with_service(service(name, vrf, address, &ports, &["10.0.0.3", "10.0.0.4"]), |service| {
                    service.local_only = local_only;
                    service.backends[1].port = port.into();
                    service.source_pool = source_pool.into();
                })
            }),
        3 => (pick(&["f0", "f1"]), pick(VRFS), pick(&["10.0.0.1", "10.0.0.2"]), pick(PORTS), pick(&["10.0.0.1", "10.0.0.2"]))
            .prop_map(|(name, vrf, address, port, inside)| floating_ip(name, vrf, address, port, inside)),
        2 => (pick(ADDRESS_GROUPS), proptest::sample::subsequence(vec!["10.0.0.1", "10.0.0.0/8", "fd00::1"], 0..=2))
            .prop_map(|(name, members)| address_group(name, &members)),
        5 => (pick(&["r0", "r1", "r2", "r3", "r4"]), pick(VRFS), pick(PREFIXES), a_hop(true))
            .prop_map(|(name, vrf, prefix, hop)| route(name, vrf, prefix, hop)),
        2 => (pick(GROUPS), a_hop(false), proptest::option::of(a_hop(false))).prop_map(|(name, a, b)| {
            let members: Vec<_> = [Some(("a", a)), b.map(|b| ("b", b))].into_iter().flatten().collect();
            group(name, &members)
        }),
        2 => (pick(ENDPOINTS), pick(&["198.18.0.2", "198.18.0.3"]), proptest::sample::select(vec![Vxlan, MplsOverGre]))
            .prop_map(|(name, remote, encapsulation)| endpoint(name, remote, encapsulation)),
        1 => (pick(&["v0", "v1"]), 1..3u32, target()).prop_map(|(name, number, to)| vni(name, number, to)),
        1 => (pick(&["l0", "l1"]), 16..18u32, target()).prop_map(|(name, number, to)| label(name, number, to)),
    ]
}

#[derive(Clone, Debug)]
enum Act {
    Apply {
        owner: &'static str,
        objects: Vec<v1::Object>,
        deletes: Vec<Key>,
        dry_run: bool,
    },
    Deltas {
        owner: &'static str,
        puts: Vec<v1::Object>,
        deletes: Vec<Key>,
    },
    Sweep {
        owner: &'static str,
        named: Vec<Key>,
    },
    Retry,
}

fn keys() -> impl Strategy<Value = Vec<Key>> {
    proptest::collection::vec(an_object().prop_map(|object| key_of(&object)), 0..4)
}

fn key_of(object: &v1::Object) -> Key {
    Key::from_proto(&crate::model::key_of(object)).unwrap()
}

fn an_act() -> impl Strategy<Value = Act> {
    let objects = || proptest::collection::vec(an_object(), 0..6);
    let owner = || pick(&["one", "one", "one", "two"]);
    prop_oneof![
        8 => (owner(), objects(), keys(), proptest::bool::weighted(0.1)).prop_map(
            |(owner, objects, deletes, dry_run)| Act::Apply { owner, objects, deletes, dry_run }),
        4 => (owner(), objects(), keys()).prop_map(|(owner, puts, deletes)| Act::Deltas { owner, puts, deletes }),
        1 => (owner(), keys()).prop_map(|(owner, named)| Act::Sweep { owner, named }),
        1 => Just(Act::Retry),
    ]
}

fn act(world: &mut World, act: &Act) {
    match act {
        Act::Apply {
            owner,
            objects,
            deletes,
            dry_run,
        } => {
            let before = (world.engine.tables(), world.stored());
            let batch = Batch {
                owner: (*owner).into(),
                revision: 0,
                puts: objects.iter().map(Object::from_proto).collect(),
                deletes: deletes.iter().cloned().map(Ok).collect(),
                dry_run: *dry_run,
            };
            let answer = world.core.apply(batch).unwrap();
            let refused = answer
                .verdicts
                .iter()
                .any(|verdict| !matches!(verdict, Verdict::Done { .. }));
            if refused || *dry_run {
                assert!(
                    (world.engine.tables(), world.stored()) == before,
                    "left a trace: {:?}",
                    answer.verdicts
                );
                return;
            }
            // What was taken is unchanged when it comes again, unless it holds the port that never opens.
            let failed = world.core.reconciler.failed();
            let again = world.try_apply(owner, objects, &[]);
            if failed.is_empty() {
                let same = |verdict: &Verdict| {
                    matches!(
                        verdict,
                        Verdict::Done {
                            outcome: Outcome::Unchanged,
                            ..
                        }
                    )
                };
                assert!(again.verdicts.iter().all(same), "{:?}", again.verdicts);
            }
        }
        Act::Deltas { owner, puts, deletes } => {
            let puts = puts.iter().map(|object| Delta::Put(Object::from_proto(object)));
            let deletes = deletes.iter().map(|key| Delta::Delete(Ok(key.clone())));
            let mut deltas: Vec<Delta> = deletes.chain(puts).collect();
            deltas.extend(deltas.clone());
            world.core.deltas(&(*owner).into(), 0, &deltas).unwrap();
        }
        Act::Sweep { owner, named } => {
            world
                .core
                .sweep(&(*owner).into(), &named.iter().cloned().collect())
                .unwrap();
        }
        Act::Retry => world
            .core
            .retry(std::time::Instant::now() + std::time::Duration::from_secs(600)),
    }
}

/// A start from what the store holds.
fn fresh(world: &World) -> World {
    let mut store = Store::in_memory();
    let objects = world.stored();
    let puts = objects.into_iter().map(|stored| {
        let encoded = stored.held.spec.encode();
        (stored, encoded)
    });
    store
        .write(&crate::store::Changes {
            puts: puts.collect(),
            ..Default::default()
        })
        .unwrap();
    let engine = Arc::new(MemoryEngine::default());
    engine.break_port(BROKEN, true);
    World::restored(store, engine)
}

fn states(world: &World) -> Vec<(Key, crate::reconciler::Held, crate::reconciler::Status)> {
    world
        .core
        .get(&Filter::default())
        .into_iter()
        .map(|view| (view.key, view.held, view.status))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn the_data_plane_always_has_what_a_fresh_start_would_give_it(acts in proptest::collection::vec(an_act(), 1..14)) {
        let mut world = World::new();
        world.engine.break_port(BROKEN, true);
        for step in &acts {
            act(&mut world, step);
            let fresh = fresh(&world);
            prop_assert_eq!(by_value(&world.engine.tables()), by_value(&fresh.engine.tables()), "after {:?}", step);
            prop_assert_eq!(states(&world), states(&fresh), "after {:?}", step);
        }
    }
}
