//! Metrics over HTTP, at `/metrics`, in Prometheus' text format. Off unless configured.

mod text;

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::{net::TcpListener, task::spawn_blocking};

use crate::{
    config::{Listen, Socket},
    engine::Engine,
    server::{Stop, socket, stopped},
    services::Ended,
    writer::Writer,
};

/// The version of the text format, as scrapers want to hear it.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

#[derive(Clone)]
struct Source {
    writer: Writer,
    engine: Arc<dyn Engine>,
}

/// Serves until it is time to stop.
pub async fn run(listen: Listen, writer: Writer, engine: Arc<dyn Engine>, stop: Stop) -> Ended {
    let router = Router::new()
        .route("/metrics", get(show))
        .with_state(Source { writer, engine });
    let served = match &listen {
        Listen::Tcp(address) => {
            let listener = TcpListener::bind(address)
                .await
                .map_err(|error| format!("metrics.listen = {address}: cannot be listened on: {error}"))?;
            axum::serve(listener, router)
                .with_graceful_shutdown(stopped(stop))
                .await
        }
        Listen::Unix(path) => {
            let socket = Socket {
                path: path.clone(),
                user: None,
                group: None,
                mode: 0o666,
            };
            let (listener, _bound) =
                socket::bind(&socket).map_err(|error| format!("metrics.listen: {error}"))?;
            axum::serve(listener, router)
                .with_graceful_shutdown(stopped(stop))
                .await
        }
    };
    served.map_err(|error| error.to_string())
}

async fn show(State(source): State<Source>) -> Response {
    let engine = source.engine.clone();
    match spawn_blocking(move || engine.statistics()).await {
        Ok(statistics) => {
            let text = text::render(&statistics, &source.writer.names());
            ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response()
        }
        Err(fault) => (StatusCode::INTERNAL_SERVER_ERROR, fault.to_string()).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::UnixStream,
        sync::watch,
    };

    use super::*;
    use crate::{
        engine::memory::MemoryEngine,
        store::Store,
        writer::{Batch, Core},
    };

    #[tokio::test]
    async fn a_scraper_gets_the_page_with_the_ports_names() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("metrics.sock");
        let engine = Arc::new(MemoryEngine::default());
        let core = Core::restore(Store::in_memory(), engine.clone(), 1).unwrap();
        let (writer, _thread) = Writer::start(core).unwrap();
        let objects = [crate::testing::vrf("red"), crate::testing::tap("vm", "red", &[])];
        let puts = objects.iter().map(crate::model::Object::from_proto).collect();
        writer.apply(Batch::of("o".into(), puts, vec![])).await.unwrap();
        let (say_stop, stop) = watch::channel(false);
        let serving = tokio::spawn(run(Listen::Unix(path.clone()), writer, engine, stop));
        let mut stream = loop {
            match UnixStream::connect(&path).await {
                Ok(stream) => break stream,
                Err(_) => tokio::task::yield_now().await,
            }
        };
        let request = "GET /metrics HTTP/1.1\r\nHost: weft\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        assert!(
            answer.contains("content-type: text/plain; version=0.0.4"),
            "{answer}"
        );
        assert!(
            answer.contains("weft_port_receive_packets_total{port=\"vm\"} 0"),
            "{answer}"
        );
        say_stop.send(true).unwrap();
        serving.await.unwrap().unwrap();
    }
}
