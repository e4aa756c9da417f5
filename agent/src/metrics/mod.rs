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
