//! `apply`, `delete`, `plug`, `unplug`, `watch`: what changes things, and how refusals read.

#![allow(missing_docs)]

mod world;

use insta::assert_snapshot;
use weft_cli::ExitCode;
use weft_proto::v1::{self, object::Spec, port::Device};
use world::{World, objects};

const TENANT: &str = "\
kind: Vrf
name: red
---
# A guest.
kind: Port
name: web-1
spec:
  vhost_user: {socket: /run/weft/web-1.sock}
  vrf: red
  addresses: [10.0.0.1]
---
kind: route
name: red-out
spec:
  vrf: red
  prefix: 0.0.0.0/0
  nextHop:
    tunnel: {endpoint: host-b, vni: 100, innerMac: '02:00:00:00:00:99'}
";

fn result(kind: v1::Kind, name: &str, outcome: v1::Outcome, state: v1::State) -> v1::ObjectResult {
    v1::ObjectResult {
        key: Some(v1::Key {
            kind: kind.into(),
            name: name.to_owned(),
        }),
        outcome: outcome.into(),
        state: state.into(),
        generation: 2,
        error: None,
    }
}

#[test]
fn apply_sends_all_files_as_one_batch_in_the_name_of_the_owner() {
    let world = World::example();
    world.file("tenants/red.yaml", TENANT);
    world.file(
        "tenants/blue.json",
        r#"{"kind": "Vrf", "name": "blue", "spec": {"packetMode": true}}"#,
    );
    world.file("tenants/notes.txt", "no object");
    world.file("tenants/deeper/more.yml", "kind: Vrf\nname: green\n");
    world.file(
        "vni.yaml",
        "kind: Vni\nname: n\nspec: {vni: 5, target: {port: web-1}}\n",
    );
    let mut text = world.run("apply -f DIR/tenants -f DIR/vni.yaml --owner ops --revision 9");
    text += &world.run("apply -R -f DIR/tenants --dry-run");
    text += &world.run("apply -f DIR/vni.yaml -o name");
    assert_snapshot!(text, @r#"
    $ weft apply -f DIR/tenants -f DIR/vni.yaml --owner ops --revision 9
    vrf/blue created
    vrf/red created
    port/web-1 created
    route/red-out created
    vni/n created
    $ weft apply -R -f DIR/tenants --dry-run
    vrf/blue created (dry run)
    vrf/green created (dry run)
    vrf/red created (dry run)
    port/web-1 created (dry run)
    route/red-out created (dry run)
    $ weft apply -f DIR/vni.yaml -o name
    vni/n
    "#);
    world.change(|answers| {
        let batch = &answers.applied[0];
        assert_eq!(
            (batch.owner.as_str(), batch.revision, batch.dry_run),
            ("ops", 9, false)
        );
        let names: Vec<&str> = batch.objects.iter().map(|object| object.name.as_str()).collect();
        assert_eq!(names, ["blue", "red", "web-1", "red-out", "n"]);
        assert_eq!(
            batch.objects[0].spec,
            Some(Spec::Vrf(v1::Vrf {
                packet_mode: true,
                ..Default::default()
            }))
        );
        let Some(Spec::Port(port)) = &batch.objects[2].spec else {
            panic!("no port")
        };
        assert_eq!(port.device, Some(objects::vhost_user("/run/weft/web-1.sock")));
        let Some(Spec::Route(route)) = &batch.objects[3].spec else {
            panic!("no route")
        };
        let tunnel = v1::TunnelNextHop {
            endpoint: "host-b".to_owned(),
            vni: 100,
            inner_mac: "02:00:00:00:00:99".to_owned(),
            ..Default::default()
        };
        assert_eq!(route.next_hop, objects::to(v1::next_hop::To::Tunnel(tunnel)));
        assert!(answers.applied[1].dry_run);
        assert_eq!(answers.applied[1].objects.len(), 5);
    });
}

#[test]
fn apply_reads_standard_input() {
    let world = World::example();
    let (text, code) = world.run_with("apply -f -", TENANT, false);
    assert_eq!(code, ExitCode::Success, "{text}");
    let (text, code) = world.run_with("apply -f -", "kind: Vrf\nname: [", false);
    assert_eq!(code, ExitCode::Failure);
    assert_snapshot!(text, @r#"
    $ weft apply -f -
    error: standard input: did not find expected node content at line 3 column 1, while parsing a flow node
    [exit code 1]
    "#);
}

#[test]
fn what_weftd_makes_by_itself_is_not_applied_or_deleted() {
    let world = World::example();
    world.change(|answers| {
        let underlay = objects::object("underlay", Spec::Vrf(v1::Vrf::default()));
        answers.objects = vec![
            v1::Object {
                owner: "weftd".to_owned(),
                ..underlay
            },
            answers.objects[0].clone(),
        ];
    });
    let (printed, _, _) = world.raw("get all -o yaml", "", false);
    assert!(printed.contains("name: underlay"), "{printed}");
    world.run_with("apply -f -", &printed, false);
    world.run_with("delete -f -", &printed, false);
    world.change(|answers| {
        let applied: Vec<&str> = answers.applied[0]
            .objects
            .iter()
            .map(|object| object.name.as_str())
            .collect();
        let deleted: Vec<&str> = answers.applied[1]
            .deletes
            .iter()
            .map(|key| key.name.as_str())
            .collect();
        assert_eq!((applied, deleted), (vec!["red"], vec!["red"]));
    });
}

#[test]
fn deleting_what_is_not_there_changes_nothing_and_says_so() {
    let world = World::example();
    let results = vec![result(
        v1::Kind::Port,
        "gone",
        v1::Outcome::Unchanged,
        v1::State::Unspecified,
    )];
    world.change(|answers| {
        answers.apply = Some(v1::ApplyResponse {
            results,
            effective: true,
            snapshot: 3,
        });
    });
    assert_eq!(
        world.run("delete port gone"),
        "$ weft delete port gone\nport/gone did not exist\n"
    );
}

#[test]
fn what_get_printed_can_be_applied_in_each_format() {
    let world = World::example();
    let expected: Vec<v1::Object> = {
        let mut objects = world.answers.lock().unwrap().objects.clone();
        objects.sort_by(|a, b| a.name.cmp(&b.name));
        objects
            .into_iter()
            .map(|object| v1::Object {
                generation: 0,
                status: None,
                ..object
            })
            .collect()
    };
    for format in ["yaml", "json"] {
        let (printed, _, _) = world.raw(&format!("get all -o {format}"), "", false);
        let (text, code) = world.run_with("apply -f -", &printed, false);
        assert_eq!(code, ExitCode::Success, "{text}");
        let mut applied = world.answers.lock().unwrap().applied.pop().unwrap().objects;
        applied.sort_by(|a, b| a.name.cmp(&b.name));
        assert_eq!(applied, expected, "{format}");
    }
}

#[test]
fn a_refusal_names_file_document_object_field_and_the_way_out() {
    let world = World::example();
    world.file("red.yaml", TENANT);
    let mut port = result(
        v1::Kind::Port,
        "web-1",
        v1::Outcome::Refused,
        v1::State::Unspecified,
    );
    port.error = Some(v1::FieldError {
        field: "port.vlan.vlan".to_owned(),
        message: "100 is already used under parent \"vm-7\" by port \"web-0\"".to_owned(),
        help: "choose another VLAN, or delete port \"web-0\" first".to_owned(),
    });
    let mut route = result(
        v1::Kind::Route,
        "red-out",
        v1::Outcome::Refused,
        v1::State::Unspecified,
    );
    route.error = Some(v1::FieldError {
        field: String::new(),
        message: "belongs to owner \"neutron\"".to_owned(),
        help: String::new(),
    });
    let response = v1::ApplyResponse {
        results: vec![
            result(
                v1::Kind::Vrf,
                "red",
                v1::Outcome::NotTried,
                v1::State::Unspecified,
            ),
            port,
            route,
        ],
        effective: true,
        snapshot: 3,
    };
    world.change(|answers| answers.apply = Some(response));
    let (output, errors, code) = world.raw("apply -f DIR/red.yaml", "", false);
    assert_eq!((output.as_str(), code), ("", ExitCode::Failure));
    let errors = errors.replace(&world.directory.path().display().to_string(), "DIR");
    assert_snapshot!(errors, @r#"
    error: DIR/red.yaml: document 2: port "web-1": spec.vlan.vlan: 100 is already used under parent "vm-7" by port "web-0"
      help: choose another VLAN, or delete port "web-0" first
    error: DIR/red.yaml: document 3: route "red-out": belongs to owner "neutron"
    error: nothing was changed: 2 of 3 objects refused
    "#);
    assert_snapshot!(world.run("delete port web-1"), @r#"
    $ weft delete port web-1
    error: port "web-1": spec.vlan.vlan: 100 is already used under parent "vm-7" by port "web-0"
      help: choose another VLAN, or delete port "web-0" first
    error: route "red-out": belongs to owner "neutron"
    error: nothing was changed: 2 of 3 objects refused
    [exit code 1]
    "#);
}

#[test]
fn an_object_that_waits_says_for_what_and_one_that_failed_fails_the_command() {
    let world = World::example();
    world.file(
        "port.yaml",
        "kind: Port\nname: lab\nspec: {vrf: green, tap: {interface: lab0}}\n",
    );
    let mut results = vec![result(
        v1::Kind::Port,
        "lab",
        v1::Outcome::Unchanged,
        v1::State::Pending,
    )];
    let response = |results: &[v1::ObjectResult]| {
        Some(v1::ApplyResponse {
            results: results.to_vec(),
            effective: true,
            snapshot: 3,
        })
    };
    world.change(|answers| answers.apply = response(&results));
    let mut text = world.run("apply -f DIR/port.yaml");
    text += &world.run("apply -f DIR/port.yaml --dry-run");
    results[0].state = v1::State::Failed.into();
    world.change(|answers| answers.apply = response(&results));
    text += &world.run("apply -f DIR/port.yaml");
    assert_snapshot!(text, @r#"
    $ weft apply -f DIR/port.yaml
    port/lab unchanged, pending: vrf "green" does not exist: create it, and this port becomes active
    $ weft apply -f DIR/port.yaml --dry-run
    port/lab unchanged, pending (dry run)
    $ weft apply -f DIR/port.yaml
    port/lab unchanged, failed: vrf "green" does not exist: create it, and this port becomes active
    [exit code 1]
    "#);
}

#[test]
fn a_change_that_a_worker_has_not_seen_yet_is_said_to_be_so() {
    let world = World::example();
    world.file("vrf.yaml", "kind: Vrf\nname: red\n");
    let results = vec![result(
        v1::Kind::Vrf,
        "red",
        v1::Outcome::Changed,
        v1::State::Active,
    )];
    world.change(|answers| {
        answers.apply = Some(v1::ApplyResponse {
            results,
            effective: false,
            snapshot: 12,
        });
    });
    assert_snapshot!(world.run("apply -f DIR/vrf.yaml"), @r#"
    $ weft apply -f DIR/vrf.yaml
    vrf/red changed
    warning: stored, but not yet effective: a worker has not reached snapshot 12
      help: see `weft get workers`: one that is stuck says where
    "#);
}

#[test]
fn delete_takes_names_and_files() {
    let world = World::example();
    world.file("red.yaml", TENANT);
    let mut text = world.run("delete port web-1 vm-7 --owner ops");
    text += &world.run("delete -f DIR/red.yaml --dry-run");
    text += &world.run("delete ports");
    text += &world.run("delete flows x");
    assert_snapshot!(text, @r#"
    $ weft delete port web-1 vm-7 --owner ops
    port/web-1 deleted
    port/vm-7 deleted
    $ weft delete -f DIR/red.yaml --dry-run
    vrf/red deleted (dry run)
    port/web-1 deleted (dry run)
    route/red-out deleted (dry run)
    $ weft delete ports
    error: which ports?
      help: name them: weft delete port NAME
    [exit code 2]
    $ weft delete flows x
    error: only objects can be deleted
      help: name a kind: weft delete port web-1
    [exit code 2]
    "#);
    world.change(|answers| {
        let key = |kind: v1::Kind, name: &str| v1::Key {
            kind: kind.into(),
            name: name.to_owned(),
        };
        assert_eq!(answers.applied.len(), 2);
        assert_eq!(answers.applied[0].owner, "ops");
        assert_eq!(
            answers.applied[0].deletes,
            [key(v1::Kind::Port, "web-1"), key(v1::Kind::Port, "vm-7")]
        );
        assert_eq!(answers.applied[1].deletes.len(), 3);
        assert!(answers.applied[1].objects.is_empty() && answers.applied[1].dry_run);
    });
}

#[test]
fn ports_are_plugged_and_unplugged_one_at_a_time() {
    let world = World::example();
    world.file(
        "port.yaml",
        "kind: Port\nname: c1\nspec: {vrf: red, tap: {interface: c1}}\n",
    );
    world.file("two.yaml", TENANT);
    let mut text = world.run("plug -f DIR/port.yaml");
    text += &world.run("plug -f DIR/two.yaml");
    text += &world.run("unplug vm-7");
    text += &world.run("unplug vm-8");
    world.change(|answers| answers.slow = true);
    text += &world.run("plug -f DIR/port.yaml");
    text += &world.run("unplug vm-7");
    world.change(|answers| {
        answers.failure = Some(tonic::Status::already_exists(
            "port.tap.interface: \"c1\" exists already\n  help: choose another name",
        ));
    });
    text += &world.run("plug -f DIR/port.yaml");
    assert_snapshot!(text, @r#"
    $ weft plug -f DIR/port.yaml
    port/c1 plugged, active
    $ weft plug -f DIR/two.yaml
    error: DIR/two.yaml: plug takes a file with one Port and nothing else
      help: use `weft apply -f` for several objects
    [exit code 1]
    $ weft unplug vm-7
    port/vm-7 unplugged
    $ weft unplug vm-8
    error: port "vm-8" does not exist
      help: did you mean "vm-7"?
    [exit code 1]
    $ weft plug -f DIR/port.yaml
    port/c1 plugged, active
    warning: stored, but not yet effective: a worker does not poll the port yet
      help: see `weft get workers`: one that is stuck says where
    $ weft unplug vm-7
    port/vm-7 unplugged
    warning: stored, but not yet effective: a worker may still hold packets of the port
      help: see `weft get workers`: one that is stuck says where
    $ weft plug -f DIR/port.yaml
    error: DIR/port.yaml: port "c1": spec.tap.interface: "c1" exists already
      help: choose another name
    [exit code 1]
    "#);
    world.change(|answers| {
        assert_eq!(answers.plugged.len(), 2);
        let Some(Spec::Port(port)) = answers.plugged[0].port.clone().unwrap().spec else {
            panic!("no port")
        };
        assert!(matches!(port.device, Some(Device::Tap(tap)) if tap.interface == "c1"));
        assert_eq!(
            (
                answers.unplugged[0].owner.as_str(),
                answers.unplugged[0].name.as_str()
            ),
            ("cli", "vm-7")
        );
    });
}

#[test]
fn watch_shows_events_as_they_come_and_says_when_the_stream_ends() {
    let world = World::example();
    world.change(|answers| {
        let event = |kind: v1::EventType, object: Option<v1::Object>| v1::WatchEvent {
            r#type: kind.into(),
            object,
        };
        let of = |name: &str| answers.objects.iter().find(|object| object.name == name).cloned();
        answers.events = vec![
            event(v1::EventType::Put, of("vm-7")),
            event(v1::EventType::Put, of("lab")),
            event(v1::EventType::InSync, None),
            event(v1::EventType::Put, of("red-remote")),
            event(v1::EventType::Delete, of("red-remote")),
        ];
    });
    let mut text = world.run("watch all");
    text += &world.run("watch ports --until-in-sync");
    text += &world.run("watch all -o name");
    text += &world.run("watch all --until-in-sync -o json");
    text += &world.run("watch all --until-in-sync -o yaml");
    text += &world.run("watch ports/vm-7");
    assert_snapshot!(text, @r#"
    $ weft watch all
    put      active   port/vm-7                         vhost-user  red  10.0.0.7, fd00:1::7
    put      pending  port/lab                          tap  green (vrf "green" does not exist: create it, and this port becomes active)
    in-sync
    put      active   route/red-remote                  red  10.0.0.128/25  tunnel host-b vni 100
    delete   -        route/red-remote                  red  10.0.0.128/25  tunnel host-b vni 100
    error: weftd ended the watch
      help: it may be restarting: run the command again
    [exit code 3]
    $ weft watch ports --until-in-sync
    put      active   port/vm-7                         vhost-user  red  10.0.0.7, fd00:1::7
    put      pending  port/lab                          tap  green (vrf "green" does not exist: create it, and this port becomes active)
    $ weft watch all -o name
    put port/vm-7
    put port/lab
    in-sync
    put route/red-remote
    delete route/red-remote
    error: weftd ended the watch
      help: it may be restarting: run the command again
    [exit code 3]
    $ weft watch all --until-in-sync -o json
    {"object":{"generation":3,"name":"vm-7","owner":"demo","port":{"addresses":["10.0.0.7","fd00:1::7"],"vhost_user":{"socket":"/run/weft/vm-7.sock"},"vrf":"red"},"status":{"state":"STATE_ACTIVE"}},"type":"EVENT_TYPE_PUT"}
    {"object":{"generation":3,"name":"lab","owner":"demo","port":{"tap":{"interface":"lab0"},"vrf":"green"},"status":{"message":"vrf \"green\" does not exist: create it, and this port becomes active","state":"STATE_PENDING"}},"type":"EVENT_TYPE_PUT"}
    $ weft watch all --until-in-sync -o yaml
    # put
    kind: Port
    name: vm-7
    owner: demo
    generation: 3
    spec:
      vhost_user:
        socket: /run/weft/vm-7.sock
      vrf: red
      addresses:
      - 10.0.0.7
      - fd00:1::7
    status:
      state: active
    ---
    # put
    kind: Port
    name: lab
    owner: demo
    generation: 3
    spec:
      tap:
        interface: lab0
      vrf: green
    status:
      state: pending
      message: 'vrf "green" does not exist: create it, and this port becomes active'
    $ weft watch ports/vm-7
    error: a kind is watched as a whole
      help: weft watch ports, or weft watch all; weft top shows counters
    [exit code 2]
    "#);
    world.change(|answers| {
        assert_eq!(
            answers.watched[0],
            v1::WatchRequest {
                kind: 0,
                initial: true
            }
        );
        assert_eq!(
            answers.watched[1],
            v1::WatchRequest {
                kind: v1::Kind::Port.into(),
                initial: true
            }
        );
    });
    world.run("watch vrfs --changes-only");
    world.change(|answers| assert!(!answers.watched.last().unwrap().initial));
}
