//! Apply, Get, plugging, statistics, health, reflection, restart.

use tonic::Code;
use v1::{Kind, Outcome, State};

use super::*;
use crate::testing::*;

#[tokio::test]
async fn a_batch_is_taken_whole_and_answered_in_its_order() {
    let mut daemon = Daemon::start().await;
    let objects = vec![
        tap("vm", "red", &["10.0.0.5"]),
        vrf("red"),
        route("r", "red", "10.1.0.0/16", to_port("x")),
    ];
    let response = daemon.apply("o", objects).await;
    assert!(response.effective && response.snapshot > 0);
    let states: Vec<State> = response.results.iter().map(v1::ObjectResult::state).collect();
    assert_eq!(states, [State::Active, State::Active, State::Pending]);
    assert_eq!(outcomes(&response), [Outcome::Created; 3]);
    let keys: Vec<v1::Key> = response
        .results
        .into_iter()
        .filter_map(|result| result.key)
        .collect();
    assert_eq!(
        keys,
        [
            key(Kind::Port, "vm"),
            key(Kind::Vrf, "red"),
            key(Kind::Route, "r")
        ]
    );
    let stored = daemon.objects(Kind::Route).await;
    assert_eq!((&*stored[0].owner, stored[0].generation), ("o", 1));
    let status = stored[0].status.as_ref().unwrap();
    assert_eq!(status.message, "waits for port \"x\", which does not exist");
}

#[tokio::test]
async fn what_if_takes_a_tenants_port_and_a_packet() {
    let mut daemon = Daemon::start().await;
    let objects = vec![vrf("red"), tap("vm", "red", &["10.0.0.5"])];
    daemon.apply("o", objects).await;
    let packet = v1::SupposedPacket {
        protocol: "tcp".into(),
        source: "10.0.0.5".into(),
        destination: "10.0.0.9".into(),
        destination_port: 80,
        ..Default::default()
    };
    let request = |from: &str, packet: &v1::SupposedPacket| v1::WhatIfRequest {
        from: from.into(),
        packet: Some(packet.clone()),
    };
    let answer = daemon
        .client
        .what_if(request("vm", &packet))
        .await
        .unwrap()
        .into_inner();
    assert_eq!((&*answer.vrf, &*answer.drop_reason), ("red", "no-route"));
    let changed = |change: fn(&mut v1::SupposedPacket)| {
        let mut packet = packet.clone();
        change(&mut packet);
        request("vm", &packet)
    };
    for (request, expected) in [
        (
            request("wm", &packet),
            "from: port \"wm\" does not exist, or is no tenant's",
        ),
        (
            v1::WhatIfRequest {
                from: "vm".into(),
                packet: None,
            },
            "packet: is missing",
        ),
        (
            changed(|p| p.protocol = "tpc".into()),
            "packet.protocol: `tpc` is no protocol",
        ),
        (
            changed(|p| p.source = "10.0.0".into()),
            "packet.source: `10.0.0` is no address",
        ),
        (
            changed(|p| p.destination = "fd00::1".into()),
            "packet.destination: fd00::1 and 10.0.0.5 are of different families",
        ),
        (
            changed(|p| p.destination_port = 65_536),
            "packet.destination_port: port 65536 is out of range",
        ),
        (
            changed(|p| p.protocol = "icmpv6".into()),
            "packet.protocol: icmpv6 does not go with 10.0.0.5",
        ),
        (
            changed(|p| (p.protocol, p.icmp_type) = ("icmp".into(), Some(256))),
            "packet.icmp_type: 256 is out of range",
        ),
    ] {
        let status = daemon.client.what_if(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().starts_with(expected), "{status}");
    }
}

#[tokio::test]
async fn a_batch_with_one_wrong_object_changes_nothing_and_names_it() {
    let mut daemon = Daemon::start().await;
    let mut foreign = vrf("green");
    foreign.owner = "p".into();
    let wrong = route("r", "red", "10.0.0.1/24", to_port("vm"));
    let response = daemon
        .apply("o", vec![vrf("red"), wrong, foreign, v1::Object::default()])
        .await;
    use Outcome::{NotTried, Refused};
    assert_eq!(outcomes(&response), [NotTried, Refused, Refused, Refused]);
    let fields: Vec<&str> = response
        .results
        .iter()
        .flat_map(|r| &r.error)
        .map(|error| &*error.field)
        .collect();
    assert_eq!(fields, ["route.prefix", "owner", "name"]);
    assert_eq!(daemon.names(Kind::Vrf).await, ["underlay"]);
}

#[tokio::test]
async fn deletes_replays_revisions_and_dry_runs() {
    let mut daemon = Daemon::start().await;
    daemon.apply("o", vec![vrf("red"), vrf("blue")]).await;
    let mut request = v1::ApplyRequest {
        owner: "o".into(),
        revision: 42,
        objects: vec![vrf("red")],
        deletes: vec![key(Kind::Vrf, "blue"), key(Kind::Vrf, "never")],
        dry_run: true,
    };
    let would = daemon.client.apply(request.clone()).await.unwrap().into_inner();
    assert_eq!(
        outcomes(&would),
        [Outcome::Unchanged, Outcome::Deleted, Outcome::Unchanged]
    );
    assert_eq!(daemon.names(Kind::Vrf).await, ["blue", "red", "underlay"]);
    request.dry_run = false;
    let did = daemon.client.apply(request).await.unwrap().into_inner();
    assert_eq!(outcomes(&did), outcomes(&would));
    let all = daemon
        .client
        .get(v1::GetRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        all.owners,
        [v1::OwnerRevision {
            owner: "o".into(),
            revision: 42
        }]
    );
    assert_eq!(all.objects.len(), 2);
}

#[tokio::test]
async fn requests_that_make_no_sense_are_refused_as_such() {
    let mut daemon = Daemon::start().await;
    let status = daemon
        .client
        .apply(v1::ApplyRequest::default())
        .await
        .unwrap_err();
    assert!(
        status.code() == Code::InvalidArgument && status.message().starts_with("owner: is missing"),
        "{status}"
    );
    let status = daemon
        .client
        .get(v1::GetRequest {
            kind: 77,
            ..Default::default()
        })
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let status = daemon
        .client
        .check_port(v1::CheckPortRequest {
            name: "nowhere".into(),
        })
        .await
        .unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::NotFound, "port \"nowhere\" does not exist")
    );
    let flows = v1::ListFlowsRequest {
        vrf: "nowhere".into(),
        ..Default::default()
    };
    let status = daemon.client.list_flows(flows).await.unwrap_err();
    assert!(
        status
            .message()
            .starts_with("vrf: vrf \"nowhere\" does not exist"),
        "{status}"
    );
    let flows = v1::ListFlowsRequest::default();
    let mut none = daemon.client.list_flows(flows).await.unwrap().into_inner();
    assert_eq!(none.message().await.unwrap(), None);
}

#[tokio::test]
async fn a_port_is_plugged_checked_and_unplugged() {
    let mut daemon = Daemon::start().await;
    daemon.apply("o", vec![vrf("red")]).await;
    let plug = |port| v1::PlugPortRequest {
        owner: "cni".into(),
        port: Some(port),
    };
    let plugged = daemon
        .client
        .plug_port(plug(tap("vm", "red", &["10.0.0.5"])))
        .await
        .unwrap()
        .into_inner();
    assert!(plugged.effective);
    let port = plugged.port.unwrap();
    assert_eq!(
        (&*port.owner, port.status.unwrap().state()),
        ("cni", State::Active)
    );
    let checked = daemon
        .client
        .check_port(v1::CheckPortRequest { name: "vm".into() })
        .await
        .unwrap();
    let state = checked.into_inner().state.unwrap();
    assert!(state.link_up && state.device == "model");

    daemon.engine.break_port("bad", true);
    let status = daemon
        .client
        .plug_port(plug(tap("bad", "red", &[])))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().starts_with("port.device: "), "{status}");
    let status = daemon.client.plug_port(plug(vrf("x"))).await.unwrap_err();
    assert!(
        status.message().starts_with("port: the object is a vrf"),
        "{status}"
    );

    let unplug = |owner: &str| v1::UnplugPortRequest {
        owner: owner.into(),
        name: "vm".into(),
    };
    let status = daemon.client.unplug_port(unplug("other")).await.unwrap_err();
    assert!(status.message().contains("belongs to owner \"cni\""), "{status}");
    daemon.engine.set_late(true);
    assert!(
        !daemon
            .client
            .unplug_port(unplug("cni"))
            .await
            .unwrap()
            .into_inner()
            .effective
    );
    daemon.engine.set_late(false);
    daemon.client.unplug_port(unplug("cni")).await.unwrap();
    assert!(daemon.engine.tables().ports.is_empty());
}

#[tokio::test]
async fn statistics_come_with_names() {
    let mut daemon = Daemon::start().await;
    daemon
        .apply("o", vec![vrf("red"), tap("vm", "red", &["10.0.0.5"])])
        .await;
    let stats = daemon
        .client
        .get_stats(v1::GetStatsRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(stats.ports[0].name, "vm");
    let tables = stats.tables.unwrap();
    assert_eq!((tables.routes, tables.vrfs), (1, 2));
}

#[tokio::test]
async fn what_was_stored_is_there_after_a_restart() {
    let mut daemon = Daemon::start().await;
    daemon
        .apply("o", vec![vrf("red"), tap("vm", "red", &["10.0.0.5"])])
        .await;
    daemon.apply("o", vec![tap("vm", "red", &["10.0.0.6"])]).await;
    let before = daemon.engine.tables();
    let directory = daemon.stop().await;
    assert!(!socket_path(&directory).exists());
    let mut daemon = Daemon::start_in(directory, Arc::default()).await;
    assert!(daemon.engine.tables() == before);
    assert_eq!(daemon.objects(Kind::Port).await[0].generation, 2);
    let again = daemon
        .apply("o", vec![vrf("red"), tap("vm", "red", &["10.0.0.6"])])
        .await;
    assert_eq!(outcomes(&again), [Outcome::Unchanged; 2]);
}

#[tokio::test]
async fn a_hundred_thousand_objects_fit_in_one_request() {
    let mut daemon = Daemon::start().await;
    let mut objects = vec![vrf("red"), tap("vm", "red", &[])];
    for index in 0..100_000u32 {
        let prefix = format!("{}/32", std::net::Ipv4Addr::from(0x0a00_0000 + index));
        objects.push(route(
            &format!("tenant-red/route-{index}"),
            "red",
            &prefix,
            to_port("vm"),
        ));
    }
    let response = daemon.apply("o", objects).await;
    assert!(
        outcomes(&response)
            .iter()
            .all(|outcome| *outcome == Outcome::Created)
    );
    assert_eq!(daemon.engine.tables().routes.len(), 100_000);
    assert_eq!(daemon.objects(Kind::Route).await.len(), 100_000);
}

#[tokio::test]
async fn health_and_reflection_are_served() {
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let daemon = Daemon::start().await;
    for service in ["", "weft.v1.Weft"] {
        let request = HealthCheckRequest {
            service: service.into(),
        };
        let health = HealthClient::new(daemon.channel.clone())
            .check(request)
            .await
            .unwrap();
        assert_eq!(health.into_inner().status, 1, "{service} is not serving");
    }
    let list = ServerReflectionRequest {
        message_request: Some(MessageRequest::ListServices(String::new())),
        ..Default::default()
    };
    let mut client = ServerReflectionClient::new(daemon.channel.clone());
    let answers = client.server_reflection_info(tokio_stream::once(list)).await;
    let answer = answers.unwrap().into_inner().message().await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(services)) = answer.message_response else {
        panic!()
    };
    assert!(
        services
            .service
            .iter()
            .any(|service| service.name == "weft.v1.Weft")
    );
}
