//! Watch: what exists, a mark, then what changes.

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use weft_proto::v1;

use super::{Stop, api::Stream_, convert, stopped};
use crate::writer::{BACKLOG, Ended, View, Watcher};

/// Messages on their way to the client, beside what the connection itself holds.
const QUEUE: usize = 64;

/// The answer to a watch. The mark follows what exists, even if that was not asked for: then at once.
pub fn stream(existing: Vec<View>, mut watcher: Watcher, stop: Stop) -> Stream_<v1::WatchEvent> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        let told = async {
            for view in &existing {
                let object = Some(convert::view(view));
                let put = v1::WatchEvent {
                    r#type: v1::EventType::Put as i32,
                    object,
                };
                sender.send(Ok(put)).await.ok()?;
            }
            drop(existing);
            let mark = v1::WatchEvent {
                r#type: v1::EventType::InSync as i32,
                object: None,
            };
            sender.send(Ok(mark)).await.ok()?;
            loop {
                let next = tokio::select! {
                    next = watcher.next() => next,
                    () = sender.closed() => return None,
                };
                match next {
                    Ok(changed) => sender.send(Ok(convert::event(&changed))).await.ok()?,
                    Err(ended) => return Some(ended),
                }
            }
        };
        let ended = tokio::select! {
            ended = told => ended,
            () = stopped(stop) => Some(Ended::Stopped),
        };
        let status = match ended {
            None => return,
            Some(Ended::Lagged) => Status::resource_exhausted(format!(
                "this watch is more than {BACKLOG} changes behind: read faster, and watch again"
            )),
            Some(Ended::Stopped) => Status::unavailable("weftd is stopping: watch again"),
        };
        // A client that does not read has nothing of it; it sees the connection end.
        let _ = sender.try_send(Err(status));
    });
    Box::pin(ReceiverStream::new(receiver))
}
