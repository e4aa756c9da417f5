//! Sync: a controller's standing connection. Its snapshot, a mark, then deltas, each acknowledged.
//!
//! What has arrived while the writer was busy goes to it as one run: one commit and one batch, however fast the
//! controller sends.

use std::sync::{Arc, Mutex, PoisonError};

use hashbrown::{HashMap, HashSet};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tonic::{Status, Streaming};
use weft_proto::v1::{self, sync_request::Message};

use super::{Stop, api::Stream_, convert, stopped};
use crate::{
    model::{Key, Name, key_of},
    writer::{Delta, Writer},
};

/// Deltas that wait for the writer; what has come together goes to it as one run. A larger batch waits alone.
const RUN: usize = 65_536;
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

/// What an acknowledgement is about.
enum Subject {
    Known(Key),
    /// Kind or name are no such thing.
    Unknown(v1::Key),
}

impl From<Subject> for v1::Key {
    fn from(subject: Subject) -> Self {
        match subject {
            Subject::Known(key) => (&key).into(),
            Subject::Unknown(key) => key,
        }
    }
}

/// One message, checked away from the writer.
struct Step {
    revision: u64,
    work: Work,
    /// Lets the next messages in when the writer has this one.
    _room: OwnedSemaphorePermit,
}

enum Work {
    Delta(Subject, Delta),
    Batch(Vec<(Subject, Delta)>),
    InSync,
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
    let (steps, mut queue) = mpsc::unbounded_channel();
    let room = Arc::new(Semaphore::new(RUN));
    let read = async {
        while let Some(request) = requests.next().await {
            let (revision, work) = parse(&owner, request?)?;
            let weight = match &work {
                Work::Batch(deltas) => deltas.len().clamp(1, RUN),
                Work::Delta(..) | Work::InSync => 1,
            };
            // It is closed by nobody.
            let Ok(room) = room.clone().acquire_many_owned(weight as u32).await else {
                break;
            };
            let step = Step {
                revision,
                work,
                _room: room,
            };
            if steps.send(step).is_err() {
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

fn put(owner: &Name, object: &v1::Object) -> (Subject, Delta) {
    let parsed = convert::parse(owner, object);
    let subject = match &parsed {
        Ok(object) => Subject::Known(object.key.clone()),
        Err(_) => {
            let key = key_of(object);
            Key::from_proto(&key).map_or(Subject::Unknown(key), Subject::Known)
        }
    };
    (subject, Delta::Put(parsed))
}

fn delete(key: v1::Key) -> (Subject, Delta) {
    let parsed = Key::from_proto(&key);
    let subject = parsed.clone().map_or(Subject::Unknown(key), Subject::Known);
    (subject, Delta::Delete(parsed))
}

fn parse(owner: &Name, request: v1::SyncRequest) -> Result<(u64, Work), Status> {
    match request.message {
        Some(Message::Put(v1::SyncPut { revision, object })) => {
            let object = object.ok_or_else(|| Status::invalid_argument("put.object: is missing"))?;
            let (subject, delta) = put(owner, &object);
            Ok((revision, Work::Delta(subject, delta)))
        }
        Some(Message::Delete(v1::SyncDelete { revision, key })) => {
            let key = key.ok_or_else(|| Status::invalid_argument("delete.key: is missing"))?;
            let (subject, delta) = delete(key);
            Ok((revision, Work::Delta(subject, delta)))
        }
        Some(Message::Batch(v1::SyncBatch {
            revision,
            objects,
            deletes,
        })) => {
            let puts = objects.iter().map(|object| put(owner, object));
            let deltas = puts.chain(deletes.into_iter().map(delete)).collect();
            Ok((revision, Work::Batch(deltas)))
        }
        Some(Message::InSync(v1::InSync { revision })) => Ok((revision, Work::InSync)),
        Some(Message::Hello(_)) => Err(Status::invalid_argument(
            "hello: is only the first message of a sync",
        )),
        None => Err(Status::invalid_argument(
            "message: fill in one of put, delete, in_sync, batch",
        )),
    }
}

/// What goes to the writer as one, and how to acknowledge it.
#[derive(Default)]
struct Run {
    deltas: Vec<Delta>,
    subjects: Vec<Subject>,
    acknowledgements: Vec<Acknowledgement>,
}

/// One answer is owed.
struct Acknowledgement {
    revision: u64,
    /// None: for a delta that came alone. Otherwise for so many.
    batch: Option<usize>,
}

impl Run {
    /// What the controller names from now on: a refused object keeps its last good version, hence is named too.
    fn add(&mut self, subject: Subject, delta: Delta, named: &mut HashSet<Key>) {
        match (&delta, &subject) {
            (Delta::Put(_), Subject::Known(key)) => drop(named.insert(key.clone())),
            (Delta::Delete(_), Subject::Known(key)) => drop(named.remove(key)),
            (_, Subject::Unknown(_)) => {}
        }
        self.subjects.push(subject);
        self.deltas.push(delta);
    }
}

async fn process(
    owner: &Name,
    writer: &Writer,
    queue: &mut mpsc::UnboundedReceiver<Step>,
    answers: &Answers,
) -> Result<(), Status> {
    let mut named: HashSet<Key> = HashSet::new();
    let (mut steps, mut run) = (Vec::new(), Run::default());
    while queue.recv_many(&mut steps, RUN).await > 0 {
        for Step { revision, work, .. } in steps.drain(..) {
            let batch = match work {
                Work::Delta(subject, delta) => {
                    run.add(subject, delta, &mut named);
                    None
                }
                Work::Batch(deltas) => {
                    let count = deltas.len();
                    for (subject, delta) in deltas {
                        run.add(subject, delta, &mut named);
                    }
                    Some(count)
                }
                Work::InSync => {
                    hand_over(owner, writer, &mut run, answers).await?;
                    let swept = writer.sweep(owner.clone(), std::mem::take(&mut named)).await;
                    let (swept, applied, still) = swept.map_err(convert::unavailable)?;
                    named = still;
                    let response = v1::SyncResponse {
                        revision,
                        in_sync: true,
                        swept,
                        effective: applied.effective,
                        ..Default::default()
                    };
                    answer(answers, response).await?;
                    continue;
                }
            };
            run.acknowledgements.push(Acknowledgement { revision, batch });
        }
        hand_over(owner, writer, &mut run, answers).await?;
    }
    Ok(())
}

async fn hand_over(owner: &Name, writer: &Writer, run: &mut Run, answers: &Answers) -> Result<(), Status> {
    let Some(Acknowledgement { revision, .. }) = run.acknowledgements.last() else {
        return Ok(());
    };
    let taken = writer
        .deltas(owner.clone(), *revision, std::mem::take(&mut run.deltas))
        .await;
    let taken = taken.map_err(convert::unavailable)?;
    let mut results = run.subjects.drain(..).zip(taken.verdicts);
    for Acknowledgement { revision, batch } in run.acknowledgements.drain(..) {
        let mut response = v1::SyncResponse {
            revision,
            effective: taken.applied.effective,
            ..Default::default()
        };
        match batch {
            None => {
                response.result = results
                    .next()
                    .map(|(subject, verdict)| convert::result(subject.into(), verdict));
            }
            Some(count) => {
                let exceptions = results.by_ref().take(count).enumerate();
                let exceptions = exceptions.filter(|(_, (_, verdict))| !verdict.is_as_asked());
                let exceptions = exceptions.map(|(index, (subject, verdict))| v1::SyncException {
                    index: index as u32,
                    result: Some(convert::result(subject.into(), verdict)),
                });
                response.batch = Some(v1::SyncBatchResult {
                    count: count as u32,
                    exceptions: exceptions.collect(),
                });
            }
        }
        answer(answers, response).await?;
    }
    Ok(())
}

async fn answer(answers: &Answers, response: v1::SyncResponse) -> Result<(), Status> {
    answers
        .send(Ok(response))
        .await
        .map_err(|_| Status::cancelled("the controller is gone"))
}
