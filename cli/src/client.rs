//! The connection to weftd over its unix socket.

use std::{
    future::Future,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};
use weft_proto::v1::weft_client::WeftClient;

use crate::{args::Connection, error::CliError};

/// The API of one weftd. Cheap to clone: clones share the connection.
#[derive(Clone, Debug)]
pub struct Client {
    api: WeftClient<Channel>,
    socket: String,
    timeout: Duration,
}

impl Client {
    /// Connects, so that a weftd that is not there is noticed before anything else is done.
    pub async fn connect(connection: &Connection) -> Result<Self, CliError> {
        let socket = connection.socket.clone();
        let path = socket_path(&socket)?;
        let unreachable = |source| CliError::Unreachable {
            socket: socket.clone(),
            source,
        };
        let stream = UnixStream::connect(&path).await.map_err(unreachable)?;
        // The first connection is the one just made; later ones are made as they are needed.
        let first = Arc::new(Mutex::new(Some(stream)));
        let connector = tower::service_fn(move |_| {
            let stream = first.lock().map_or(None, |mut first| first.take());
            let path = path.clone();
            async move {
                let stream = match stream {
                    Some(stream) => stream,
                    None => UnixStream::connect(path).await?,
                };
                Ok::<_, io::Error>(TokioIo::new(stream))
            }
        });
        // The address is never looked up: the connector goes to the socket.
        let channel = Endpoint::from_static("http://weftd.local")
            .connect_with_connector(connector)
            .await
            .map_err(|error| unreachable(io::Error::other(error)))?;
        // A table of a million routes comes in one message.
        let api = WeftClient::new(channel)
            .max_decoding_message_size(usize::MAX)
            .max_encoding_message_size(usize::MAX);
        Ok(Self {
            api,
            socket,
            timeout: Duration::from_secs(connection.timeout),
        })
    }

    /// The calls of the API.
    pub fn api(&self) -> WeftClient<Channel> {
        self.api.clone()
    }

    /// The next message of a stream that does not wait for events.
    pub async fn next<T>(&self, stream: &mut tonic::Streaming<T>) -> Result<Option<T>, CliError> {
        match tokio::time::timeout(self.timeout, stream.message()).await {
            Ok(message) => Ok(message?),
            Err(_) => Err(self.too_late()),
        }
    }

    fn too_late(&self) -> CliError {
        CliError::Timeout {
            socket: self.socket.clone(),
            seconds: self.timeout.as_secs(),
        }
    }

    /// Waits for an answer, but not for ever.
    pub async fn call<T>(
        &self,
        answer: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    ) -> Result<T, CliError> {
        match tokio::time::timeout(self.timeout, answer).await {
            Ok(answer) => Ok(answer?.into_inner()),
            Err(_) => Err(self.too_late()),
        }
    }
}

/// The path in `unix:///run/weft/weft.sock`, `unix:weft.sock` or a plain path.
fn socket_path(socket: &str) -> Result<PathBuf, CliError> {
    let path = match socket.strip_prefix("unix:") {
        Some(rest) => rest.strip_prefix("//").unwrap_or(rest),
        None if socket.contains("://") => return Err(CliError::BadSocket(socket.to_owned())),
        None => socket,
    };
    if path.is_empty() {
        return Err(CliError::BadSocket(socket.to_owned()));
    }
    Ok(Path::new(path).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_named_by_url_or_path() {
        for name in ["unix:///run/w.sock", "unix:/run/w.sock", "/run/w.sock"] {
            assert_eq!(socket_path(name).unwrap(), Path::new("/run/w.sock"), "{name}");
        }
        assert_eq!(socket_path("w.sock").unwrap(), Path::new("w.sock"));
        for name in ["", "unix://", "http://127.0.0.1:80", "tcp://x"] {
            assert!(
                matches!(socket_path(name), Err(CliError::BadSocket(_))),
                "{name:?} was taken"
            );
        }
    }
}
