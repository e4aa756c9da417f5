//! The API as a client sees it: over a unix socket, with the model of a data plane behind it.

mod requests;
mod sync;
mod tcp;
mod watch;

use std::{path::PathBuf, sync::Arc, thread::JoinHandle as Thread};

use tempfile::TempDir;
use tokio::{sync::watch as signal, task::JoinHandle};
use tonic::transport::{Channel, Endpoint};
use weft_proto::v1::{self, weft_client::WeftClient};

use super::*;
use crate::{config::Socket, engine::memory::MemoryEngine, store::Store, writer::Core};

/// A weftd with a model for a data plane.
pub struct Daemon {
    pub engine: Arc<MemoryEngine>,
    pub client: WeftClient<Channel>,
    pub channel: Channel,
    say_stop: signal::Sender<bool>,
    serving: JoinHandle<()>,
    thread: Thread<()>,
    directory: TempDir,
}

impl Daemon {
    pub async fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), Arc::default()).await
    }

    pub async fn start_in(directory: TempDir, engine: Arc<MemoryEngine>) -> Self {
        let store = Store::open(&directory.path().join("state")).unwrap();
        let core = Core::restore(store, engine.clone(), 2).unwrap();
        let (writer, thread) = Writer::start(core).unwrap();
        let path = socket_path(&directory);
        let socket = Socket {
            path: path.clone(),
            user: None,
            group: None,
            mode: 0o600,
        };
        let (listener, bound) = socket::bind(&socket).unwrap();
        let (say_stop, stop) = signal::channel(false);
        let routes = services(writer, engine.clone(), stop.clone()).await;
        let serving = tokio::spawn(async move {
            serve_unix(routes, listener, stop).await.unwrap();
            drop(bound);
        });
        let channel = Endpoint::from_shared(format!("unix:{}", path.display()))
            .unwrap()
            .connect()
            .await
            .unwrap();
        let client = WeftClient::new(channel.clone()).max_decoding_message_size(usize::MAX);
        Daemon {
            engine,
            client,
            channel,
            say_stop,
            serving,
            thread,
            directory,
        }
    }

    /// Stops as on SIGTERM; the directory stays for the next start.
    pub async fn stop(self) -> TempDir {
        let Daemon {
            client,
            channel,
            say_stop,
            serving,
            thread,
            directory,
            ..
        } = self;
        say_stop.send(true).unwrap();
        drop((client, channel));
        serving.await.unwrap();
        tokio::task::spawn_blocking(|| thread.join().unwrap())
            .await
            .unwrap();
        directory
    }

    pub async fn apply(&mut self, owner: &str, objects: Vec<v1::Object>) -> v1::ApplyResponse {
        let request = v1::ApplyRequest {
            owner: owner.into(),
            objects,
            ..Default::default()
        };
        self.client.apply(request).await.unwrap().into_inner()
    }

    pub async fn objects(&mut self, kind: v1::Kind) -> Vec<v1::Object> {
        let request = v1::GetRequest {
            kind: kind as i32,
            ..Default::default()
        };
        self.client.get(request).await.unwrap().into_inner().objects
    }

    pub async fn names(&mut self, kind: v1::Kind) -> Vec<String> {
        self.objects(kind)
            .await
            .into_iter()
            .map(|object| object.name)
            .collect()
    }
}

fn socket_path(directory: &TempDir) -> PathBuf {
    directory.path().join("weft.sock")
}

pub fn outcomes(response: &v1::ApplyResponse) -> Vec<v1::Outcome> {
    response.results.iter().map(v1::ObjectResult::outcome).collect()
}

pub fn key(kind: v1::Kind, name: &str) -> v1::Key {
    v1::Key {
        kind: kind as i32,
        name: name.into(),
    }
}
