//! The gRPC server: `weft.v1` with health and reflection, on a unix socket and, with mutual TLS only, over TCP.

mod api;
mod convert;
mod flows;
pub mod socket;
mod stats;
mod sync;
mod tcp;
#[cfg(test)]
mod tests;
mod watch;
mod what_if;

use std::sync::Arc;

use tokio::{net::UnixListener, sync::watch as signal};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{service::Routes, transport::Server};
use weft_proto::{FILE_DESCRIPTOR_SET, v1::weft_server::WeftServer};

use crate::{engine::Engine, writer::Writer};
pub use api::Api;
pub use tcp::{TcpError, serve as serve_tcp};

/// Largest request: an Apply of a hundred thousand objects is a tenth of it.
pub const REQUEST_MAX: usize = 64 << 20;
/// What a client may send before it waits for weftd: a controller's snapshot flows without stops.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;

/// Says when to stop: streams end, no new requests are taken.
pub type Stop = signal::Receiver<bool>;

/// Ends when it is time to stop.
pub async fn stopped(mut stop: Stop) {
    // An error means that whoever could say stop is gone: that is a stop too.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// A server with its windows set.
fn server() -> Server {
    Server::builder()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
}

/// The services: `weft.v1`, health and reflection.
pub async fn services(writer: Writer, engine: Arc<dyn Engine>, stop: Stop) -> Routes {
    let api = Api::new(writer, engine, stop);
    // Answers may be as large as what is stored.
    let weft = WeftServer::new(api)
        .max_decoding_message_size(REQUEST_MAX)
        .max_encoding_message_size(usize::MAX);
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_serving::<WeftServer<Api>>().await;
    let mut routes = Routes::new(weft).add_service(health);
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    match (reflection().build_v1(), reflection().build_v1alpha()) {
        (Ok(v1), Ok(v1alpha)) => routes = routes.add_service(v1).add_service(v1alpha),
        (Err(error), _) | (_, Err(error)) => tracing::error!("no reflection service: {error}"),
    }
    routes
}

/// Serves on the unix socket until it is time to stop and the last request is answered.
pub async fn serve_unix(
    routes: Routes,
    listener: UnixListener,
    stop: Stop,
) -> Result<(), tonic::transport::Error> {
    let incoming = UnixListenerStream::new(listener);
    server()
        .add_routes(routes)
        .serve_with_incoming_shutdown(incoming, stopped(stop))
        .await
}
