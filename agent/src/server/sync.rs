//! Sync: a controller's standing connection. Its snapshot, a mark, then deltas, each acknowledged.
//!
//! What has arrived while the writer was busy goes to it as one run: one commit and one batch, however fast the
//! controller sends.

use std::sync::{Arc, Mutex, PoisonError};

use hashbrown::{HashMap, HashSet};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tonic::{Status, Streaming};
use weft_proto::v1::{self, sync_request::Message};

use super::{Stop, api::Stream_, convert, stopped};
use crate::{
    model::{Key, Name, key_of},
    writer::{Delta, Writer},
};

/// Most deltas of one run.
const RUN: usize = 16_384;
/// Acknowledgements on their way to the controller.
const ACKNOWLEDGEMENTS: usize = 1024;

/// Which controller is connected, by owner: a new connection takes over from one that may be dead.
#[derive(Debug, Default)]
pub struct Controllers(Mutex<HashMap<Name, oneshot::Sender<()>>>);

impl Controllers {
    /// Says goodbye to the owner's former connection; the receiver hears when it is this one's turn.
    fn enter(&self, owner: &Name) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, sender| !sender.is_closed());
        if let Some(former) = all.insert(owner.clone(), sender) {
            // Gone by itself is as good.
            let _ = former.send(());
        }
        receiver
    }
}

/// One step, checked away from the writer.
enum Step {
    Delta {
        revision: u64,
        key: v1::Key,
        known: Option<Key>,
        delta: Delta,
    },
    InSync {
        revision: u64,
    },
}

/// The answer to a sync.
pub fn stream(
    requests: Streaming<v1::SyncRequest>,
    writer: Writer,
    controllers: Arc<Controllers>,
    stop: Stop,
) -> Stream_<v1::SyncResponse> {
    let (sender, receiver) = mpsc::channel(ACKNOWLEDGEMENTS);
    tokio::spawn(async move {
        let ended = tokio::select! {
            ended = serve(requests, &writer, &controllers, &sender) => ended,
            () = stopped(stop) => Err(Status::unavailable("weftd is stopping: connect again")),
            () = sender.closed() => return,
        };
        if let Err(status) = ended {
            let _ = sender.send(Err(status)).await;
        }
    });
    Box::pin(ReceiverStream::new(receiver))
}

type Answers = mpsc::Sender<Result<v1::SyncResponse, Status>>;

async fn serve(
    mut requests: Streaming<v1::SyncRequest>,
    writer: &Writer,
    controllers: &Controllers,
    answers: &Answers,
) -> Result<(), Status> {
    let owner = match requests.next().await {
        None => return Ok(()),
        Some(first) => match first?.message {
            Some(Message::Hello(hello)) => convert::owner(&hello.owner)?,
            _ => {
                return Err(Status::invalid_argument(
                    "the first message of a sync must be hello",
                ));
            }
        },
    };
    let replaced = controllers.enter(&owner);
    let (steps, mut queue) = mpsc::channel(RUN);
    let read = async {
        while let Some(request) = requests.next().await {
            let step = parse(&owner, request?)?;
            if steps.send(step).await.is_err() {
                break;
            }
        }
        drop(steps);
        Ok(())
    };
    let process = process(&owner, writer, &mut queue, answers);
    tokio::select! {
        done = async { tokio::try_join!(read, process).map(drop) } => done,
        _ = replaced => Err(Status::aborted(format!("another connection of owner \"{owner}\" took over"))),
    }
}

fn parse(owner: &Name, request: v1::SyncRequest) -> Result<Step, Status> {
    match request.message {
        Some(Message::Put(v1::SyncPut { revision, object })) => {
            let object = object.ok_or_else(|| Status::invalid_argument("put.object: is missing"))?;
            let key = key_of(&object);
            let known = Key::from_proto(&key).ok();
            Ok(Step::Delta {
                revision,
                key,
                known,
                delta: Delta::Put(convert::parse(owner, &object)),
            })
        }
        Some(Message::Delete(v1::SyncDelete { revision, key })) => {
            let key = key.ok_or_else(|| Status::invalid_argument("delete.key: is missing"))?;
            let parsed = Key::from_proto(&key);
            Ok(Step::Delta {
                revision,
                key,
                known: parsed.clone().ok(),
                delta: Delta::Delete(parsed),
            })
        }
        Some(Message::InSync(v1::InSync { revision })) => Ok(Step::InSync { revision }),
        Some(Message::Hello(_)) => Err(Status::invalid_argument(
            "hello: is only the first message of a sync",
        )),
        None => Err(Status::invalid_argument(
            "message: fill in one of put, delete, in_sync",
        )),
    }
}

async fn process(
    owner: &Name,
    writer: &Writer,
    queue: &mut mpsc::Receiver<Step>,
    answers: &Answers,
) -> Result<(), Status> {
    // What the controller has named since hello: a refused object keeps its last good version, hence is named too.
    let mut named: HashSet<Key> = HashSet::new();
    let mut run = Vec::new();
    while queue.recv_many(&mut run, RUN).await > 0 {
        let (mut keys, mut deltas) = (Vec::with_capacity(run.len()), Vec::with_capacity(run.len()));
        for step in run.drain(..) {
            match step {
                Step::Delta {
                    revision,
                    key,
                    known,
                    delta,
                } => {
                    match (&delta, known) {
                        (Delta::Put(_), Some(known)) => drop(named.insert(known)),
                        (Delta::Delete(_), Some(known)) => drop(named.remove(&known)),
                        (_, None) => {}
                    }
                    keys.push((revision, key));
                    deltas.push(delta);
                }
                Step::InSync { revision } => {
                    hand_over(owner, writer, &mut keys, &mut deltas, answers).await?;
                    let swept = writer.sweep(owner.clone(), named.clone()).await;
                    let (swept, applied) = swept.map_err(convert::unavailable)?;
                    let effective = applied.effective;
                    answer(
                        answers,
                        v1::SyncResponse {
                            revision,
                            in_sync: true,
                            swept,
                            effective,
                            result: None,
                        },
                    )
                    .await?;
                }
            }
        }
        hand_over(owner, writer, &mut keys, &mut deltas, answers).await?;
    }
    Ok(())
}

async fn hand_over(
    owner: &Name,
    writer: &Writer,
    keys: &mut Vec<(u64, v1::Key)>,
    deltas: &mut Vec<Delta>,
    answers: &Answers,
) -> Result<(), Status> {
    let Some((revision, _)) = keys.last() else {
        return Ok(());
    };
    let taken = writer
        .deltas(owner.clone(), *revision, std::mem::take(deltas))
        .await;
    let taken = taken.map_err(convert::unavailable)?;
    let effective = taken.applied.effective;
    for ((revision, key), verdict) in keys.drain(..).zip(taken.verdicts) {
        let result = Some(convert::result(key, verdict));
        answer(
            answers,
            v1::SyncResponse {
                revision,
                result,
                effective,
                ..Default::default()
            },
        )
        .await?;
    }
    Ok(())
}

async fn answer(answers: &Answers, response: v1::SyncResponse) -> Result<(), Status> {
    answers
        .send(Ok(response))
        .await
        .map_err(|_| Status::cancelled("the controller is gone"))
}
