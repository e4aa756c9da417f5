//! A controller's standing connection.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};
use v1::{Kind, Outcome, sync_request::Message};

use super::*;
use crate::testing::*;

struct Controller {
    requests: mpsc::Sender<v1::SyncRequest>,
    answers: Streaming<v1::SyncResponse>,
    revision: u64,
}

impl Controller {
    async fn connect(daemon: &mut Daemon, owner: &str) -> Self {
        let (requests, receiver) = mpsc::channel(64);
        let hello = Message::Hello(v1::SyncHello { owner: owner.into() });
        requests
            .send(v1::SyncRequest { message: Some(hello) })
            .await
            .unwrap();
        let answers = daemon
            .client
            .sync(ReceiverStream::new(receiver))
            .await
            .unwrap()
            .into_inner();
        Controller {
            requests,
            answers,
            revision: 0,
        }
    }

    async fn send(&mut self, message: impl FnOnce(u64) -> Message) {
        self.revision += 1;
        let message = Some(message(self.revision));
        self.requests.send(v1::SyncRequest { message }).await.unwrap();
    }

    async fn put(&mut self, object: v1::Object) {
        self.send(|revision| {
            Message::Put(v1::SyncPut {
                revision,
                object: Some(object),
            })
        })
        .await;
    }

    async fn delete(&mut self, kind: Kind, name: &str) {
        self.send(|revision| {
            Message::Delete(v1::SyncDelete {
                revision,
                key: Some(key(kind, name)),
            })
        })
        .await;
    }

    async fn batch(&mut self, objects: Vec<v1::Object>, deletes: &[(Kind, &str)]) {
        let deletes = deletes.iter().map(|(kind, name)| key(*kind, name)).collect();
        self.send(|revision| {
            Message::Batch(v1::SyncBatch {
                revision,
                objects,
                deletes,
            })
        })
        .await;
    }

    async fn in_sync(&mut self) {
        self.send(|revision| Message::InSync(v1::InSync { revision }))
            .await;
    }

    async fn answer(&mut self) -> v1::SyncResponse {
        self.answers.message().await.unwrap().expect("the stream goes on")
    }

    async fn end(&mut self) -> Status {
        loop {
            match self.answers.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("ended without a word"),
                Err(status) => return status,
            }
        }
    }
}

fn outcome(answer: &v1::SyncResponse) -> Outcome {
    answer.result.as_ref().unwrap().outcome()
}

#[tokio::test]
async fn a_snapshot_is_acknowledged_swept_and_followed_by_deltas() {
    let mut daemon = Daemon::start().await;
    daemon
        .apply("sdn", vec![vrf("old"), vrf("red"), vrf("used"), vrf("kept")])
        .await;
    daemon
        .apply("other", vec![vrf("theirs"), tap("vm", "used", &[])])
        .await;
    let mut controller = Controller::connect(&mut daemon, "sdn").await;
    controller.put(vrf("red")).await;
    controller.put(vrf("blue")).await;
    controller.put(vrf("theirs")).await;
    // Refused: it keeps its last good version, and the sweep leaves it alone.
    let mut bad = vrf("kept");
    bad.owner = "someone".into();
    controller.put(bad).await;
    controller.in_sync().await;
    let mut answers = Vec::new();
    for _ in 0..5 {
        answers.push(controller.answer().await);
    }
    let revisions: Vec<u64> = answers.iter().map(|answer| answer.revision).collect();
    assert_eq!(revisions, [1, 2, 3, 4, 5]);
    let outcomes: Vec<Outcome> = answers[..4].iter().map(outcome).collect();
    assert_eq!(
        outcomes,
        [
            Outcome::Unchanged,
            Outcome::Created,
            Outcome::Refused,
            Outcome::Refused
        ]
    );
    assert!(answers[4].in_sync && answers[4].swept == 1 && answers[4].effective);
    assert_eq!(
        daemon.names(Kind::Vrf).await,
        ["blue", "kept", "red", "theirs", "underlay", "used"]
    );

    controller.delete(Kind::Vrf, "red").await;
    controller.delete(Kind::Vrf, "used").await;
    controller
        .put(route("r", "blue", "10.0.0.0/8", to_port("vm")))
        .await;
    assert_eq!(outcome(&controller.answer().await), Outcome::Deleted);
    let refused = controller.answer().await.result.unwrap();
    assert_eq!(
        refused.error.unwrap().message,
        "vrf \"used\" is still used by port \"vm\""
    );
    assert_eq!(outcome(&controller.answer().await), Outcome::Created);
    assert_eq!(daemon.engine.tables().routes.len(), 1);
}

#[tokio::test]
async fn a_controller_that_comes_back_with_other_state_replaces_what_it_had() {
    let mut daemon = Daemon::start().await;
    let mut controller = Controller::connect(&mut daemon, "sdn").await;
    for object in [
        vrf("red"),
        tap("vm", "red", &["10.0.0.5"]),
        route("r", "red", "10.1.0.0/16", to_port("vm")),
    ] {
        controller.put(object).await;
    }
    controller.in_sync().await;
    while !controller.answer().await.in_sync {}
    let directory = daemon.stop().await;

    // The controller is away; the state holds.
    let mut daemon = Daemon::start_in(directory, Arc::default()).await;
    assert_eq!(daemon.engine.tables().routes.len(), 2);
    let mut controller = Controller::connect(&mut daemon, "sdn").await;
    controller.put(vrf("blue")).await;
    controller.put(tap("vm", "blue", &["10.0.0.5"])).await;
    controller.in_sync().await;
    loop {
        let answer = controller.answer().await;
        if answer.in_sync {
            assert_eq!(answer.swept, 2);
            break;
        }
    }
    assert_eq!(daemon.names(Kind::Vrf).await, ["blue", "underlay"]);
    assert_eq!(daemon.engine.tables().routes.len(), 1);
}

/// Count, and of each exception the place, what became of it and where it stands.
fn of_batch(answer: v1::SyncResponse) -> (u32, Vec<(u32, Outcome, v1::State)>) {
    let batch = answer.batch.unwrap();
    let exceptions = batch.exceptions.into_iter().map(|exception| {
        let result = exception.result.unwrap();
        (exception.index, result.outcome(), result.state())
    });
    (batch.count, exceptions.collect())
}

#[tokio::test]
async fn of_a_batch_each_object_is_taken_or_refused_by_itself() {
    let mut daemon = Daemon::start().await;
    daemon
        .apply("sdn", vec![vrf("old"), vrf("used"), vrf("gone")])
        .await;
    daemon
        .apply("other", vec![vrf("theirs"), tap("vm", "used", &[])])
        .await;
    let mut controller = Controller::connect(&mut daemon, "sdn").await;
    let objects = vec![
        vrf("red"),
        vrf("theirs"),
        route("r", "red", "10.0.0.0/8", to_port("vm")),
        route("waits", "red", "10.1.0.0/16", to_port("none")),
        route("wrong", "red", "10.2.0.1/16", to_port("vm")),
        vrf("No Name"),
    ];
    controller
        .batch(
            objects,
            &[(Kind::Vrf, "used"), (Kind::Vrf, "gone"), (Kind::Vrf, "never-was")],
        )
        .await;
    // Between two batches, a delta alone.
    controller.put(vrf("blue")).await;
    controller.batch(vec![], &[]).await;
    controller.in_sync().await;

    let answer = controller.answer().await;
    assert_eq!((answer.revision, answer.result.is_none()), (1, true));
    let unspecified = v1::State::Unspecified;
    assert_eq!(
        of_batch(answer),
        (
            9,
            vec![
                (1, Outcome::Refused, unspecified),
                (3, Outcome::Created, v1::State::Pending),
                (4, Outcome::Refused, unspecified),
                (5, Outcome::Refused, unspecified),
                (6, Outcome::Refused, unspecified),
            ]
        )
    );
    assert_eq!(outcome(&controller.answer().await), Outcome::Created);
    let answer = controller.answer().await;
    assert_eq!((answer.revision, of_batch(answer)), (3, (0, vec![])));
    // What a batch names is named for the sweep too.
    let answer = controller.answer().await;
    assert!(answer.in_sync && answer.swept == 1, "{answer:?}");
    assert_eq!(
        daemon.names(Kind::Vrf).await,
        ["blue", "red", "theirs", "underlay", "used"]
    );
    assert_eq!(daemon.engine.tables().routes.len(), 1);
}

#[tokio::test]
async fn a_batch_beyond_what_may_wait_is_taken_all_the_same() {
    const COUNT: u32 = 70_000;
    let mut daemon = Daemon::start().await;
    daemon.apply("sdn", vec![vrf("red"), tap("vm", "red", &[])]).await;
    let mut controller = Controller::connect(&mut daemon, "sdn").await;
    let route = |index: u32| {
        let prefix = format!("{}/32", std::net::Ipv4Addr::from(0x0a00_0000 + index));
        route(&format!("r{index}"), "red", &prefix, to_port("vm"))
    };
    controller.batch((0..COUNT).map(route).collect(), &[]).await;
    assert_eq!(of_batch(controller.answer().await), (COUNT, vec![]));
    assert_eq!(daemon.engine.tables().routes.len(), COUNT as usize);
    controller.in_sync().await;
    assert!(controller.answer().await.in_sync);
}

#[tokio::test]
async fn without_the_mark_nothing_is_swept() {
    let mut daemon = Daemon::start().await;
    daemon.apply("sdn", vec![vrf("old")]).await;
    let mut controller = Controller::connect(&mut daemon, "sdn").await;
    controller.put(vrf("new")).await;
    controller.answer().await;
    drop(controller);
    assert_eq!(daemon.names(Kind::Vrf).await, ["new", "old", "underlay"]);
}

#[tokio::test]
async fn a_new_connection_of_an_owner_takes_over() {
    let mut daemon = Daemon::start().await;
    let mut first = Controller::connect(&mut daemon, "sdn").await;
    first.put(vrf("red")).await;
    first.answer().await;
    let mut other = Controller::connect(&mut daemon, "other").await;
    let mut second = Controller::connect(&mut daemon, "sdn").await;
    let status = first.end().await;
    assert!(
        status.code() == Code::Aborted && status.message().contains("\"sdn\" took over"),
        "{status}"
    );
    for controller in [&mut second, &mut other] {
        controller.in_sync().await;
        assert!(controller.answer().await.in_sync);
    }
}

#[tokio::test]
async fn a_sync_begins_with_hello_and_says_it_once() {
    let mut daemon = Daemon::start().await;
    let mut controller = Controller::connect(&mut daemon, "No Name").await;
    assert_eq!(controller.end().await.code(), Code::InvalidArgument);
    let mut controller = Controller::connect(&mut daemon, "sdn").await;
    controller
        .send(|_| Message::Hello(v1::SyncHello { owner: "sdn".into() }))
        .await;
    assert_eq!(controller.end().await.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_stop_ends_the_stream_with_a_word() {
    let mut daemon = Daemon::start().await;
    let mut controller = Controller::connect(&mut daemon, "sdn").await;
    controller.put(vrf("red")).await;
    controller.answer().await;
    let stopping = tokio::spawn(daemon.stop());
    let status = controller.end().await;
    assert!(
        status.code() == Code::Unavailable && status.message().contains("stopping"),
        "{status}"
    );
    stopping.await.unwrap();
}

#[tokio::test]
async fn thousands_of_puts_are_all_acknowledged_in_order() {
    const COUNT: u64 = 20_000;
    let mut daemon = Daemon::start().await;
    daemon.apply("sdn", vec![vrf("red"), tap("vm", "red", &[])]).await;
    let mut controller = Controller::connect(&mut daemon, "sdn").await;
    let requests = controller.requests.clone();
    tokio::spawn(async move {
        for revision in 1..=COUNT {
            let prefix = format!("{}/32", std::net::Ipv4Addr::from(0x0a00_0000 + revision as u32));
            let object = Some(route(&format!("r{revision}"), "red", &prefix, to_port("vm")));
            let message = Some(Message::Put(v1::SyncPut { revision, object }));
            requests.send(v1::SyncRequest { message }).await.unwrap();
        }
    });
    for revision in 1..=COUNT {
        let answer = controller.answer().await;
        assert_eq!((answer.revision, outcome(&answer)), (revision, Outcome::Created));
    }
    assert_eq!(daemon.engine.tables().routes.len() as u64, COUNT);
}
