//! Watching.

use tonic::{Code, Streaming};
use v1::{EventType, Kind, State};

use super::*;
use crate::{testing::*, writer::BACKLOG};

async fn watch(daemon: &mut Daemon, kind: Kind, initial: bool) -> Streaming<v1::WatchEvent> {
    daemon
        .client
        .watch(v1::WatchRequest {
            kind: kind as i32,
            initial,
        })
        .await
        .unwrap()
        .into_inner()
}

async fn next(events: &mut Streaming<v1::WatchEvent>) -> (EventType, String, Option<State>) {
    let event = events.message().await.unwrap().expect("the stream goes on");
    let object = event.object.clone().unwrap_or_default();
    (
        event.r#type(),
        object.name,
        object.status.map(|status| status.state()),
    )
}

#[tokio::test]
async fn a_watch_shows_what_is_there_then_a_mark_then_changes() {
    let mut daemon = Daemon::start().await;
    daemon.apply("o", vec![vrf("red"), tap("vm", "blue", &[])]).await;
    let mut all = watch(&mut daemon, Kind::Unspecified, true).await;
    let mut ports = watch(&mut daemon, Kind::Port, false).await;
    let put = |name: &str, state| (EventType::Put, name.to_string(), Some(state));
    let mark = (EventType::InSync, String::new(), None);
    assert_eq!(next(&mut all).await, put("red", State::Active));
    assert_eq!(next(&mut all).await, put("underlay", State::Active));
    assert_eq!(next(&mut all).await, put("vm", State::Pending));
    assert_eq!(next(&mut all).await, mark);
    assert_eq!(next(&mut ports).await, mark);
    // Another object's arrival changes the port's state, which is an event of the port.
    daemon.apply("o", vec![vrf("blue")]).await;
    assert_eq!(next(&mut ports).await, put("vm", State::Active));
    let mut both = [next(&mut all).await, next(&mut all).await];
    both.sort_by(|one, other| one.1.cmp(&other.1));
    assert_eq!(both, [put("blue", State::Active), put("vm", State::Active)]);
    let delete = v1::ApplyRequest {
        owner: "o".into(),
        deletes: vec![key(Kind::Port, "vm")],
        ..Default::default()
    };
    daemon.client.apply(delete).await.unwrap();
    let gone = ports.message().await.unwrap().unwrap();
    assert_eq!(gone.r#type(), EventType::Delete);
    let object = gone.object.unwrap();
    assert!(object.name == "vm" && matches!(object.spec, Some(v1::object::Spec::Port(_))));
}

#[tokio::test]
async fn a_replay_is_no_event() {
    let mut daemon = Daemon::start().await;
    daemon.apply("o", vec![vrf("red")]).await;
    let mut events = watch(&mut daemon, Kind::Vrf, false).await;
    assert_eq!(next(&mut events).await.0, EventType::InSync);
    daemon.apply("o", vec![vrf("red")]).await;
    daemon.apply("o", vec![vrf("blue")]).await;
    assert_eq!(next(&mut events).await.1, "blue");
}

#[tokio::test]
async fn a_watch_that_does_not_read_is_cut_off_with_a_word() {
    let mut daemon = Daemon::start().await;
    let mut events = watch(&mut daemon, Kind::Route, false).await;
    assert_eq!(next(&mut events).await.0, EventType::InSync);
    // More than the backlog and the connection's windows together hold.
    let names: Vec<String> = (0..15_000)
        .map(|index| format!("{index}-{}", "x".repeat(240)))
        .collect();
    for half in 0..2 {
        let routes = names.iter().enumerate().map(|(index, name)| {
            let prefix = format!("{}/32", std::net::Ipv4Addr::from(0x0a00_0000 + index as u32));
            route(
                name,
                if half % 2 == 0 { "red" } else { "blue" },
                &prefix,
                to_port("vm"),
            )
        });
        daemon.apply("o", routes.collect()).await;
    }
    let mut count = 0;
    let status = loop {
        match events.message().await {
            Ok(Some(_)) => count += 1,
            Ok(None) => panic!("ended without a word"),
            Err(status) => break status,
        }
    };
    assert!(count < 2 * names.len() && count >= BACKLOG, "{count}");
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.message().contains("read faster"), "{status}");
}

#[tokio::test]
async fn a_stop_ends_a_watch_with_a_word() {
    let mut daemon = Daemon::start().await;
    let mut events = watch(&mut daemon, Kind::Unspecified, false).await;
    assert_eq!(next(&mut events).await.0, EventType::InSync);
    let stopping = tokio::spawn(daemon.stop());
    assert_eq!(events.message().await.unwrap_err().code(), Code::Unavailable);
    stopping.await.unwrap();
}
