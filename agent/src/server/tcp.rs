//! The API over TCP, with mutual TLS and not without: whoever reaches it controls the vRouter.

use std::{io, path::Path};

use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    service::Routes,
    transport::{Certificate, Identity, ServerTlsConfig},
};

use super::{Stop, server, stopped};
use crate::config::Control;

/// The API is not open over TCP.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum TcpError {
    #[error("{key} = {path}: cannot be read: {source}")]
    File {
        key: &'static str,
        path: String,
        source: io::Error,
    },
    #[error("control.listen = {address}: cannot be listened on: {source}")]
    Listen { address: String, source: io::Error },
    #[error("certificate, key and client_ca of [control] do not make a TLS server: {0}")]
    Tls(#[source] tonic::transport::Error),
    #[error("the API over TCP has ended: {0}")]
    Ended(#[source] tonic::transport::Error),
}

fn read(key: &'static str, path: &Path) -> Result<Vec<u8>, TcpError> {
    std::fs::read(path).map_err(|source| TcpError::File {
        key,
        path: path.display().to_string(),
        source,
    })
}

/// Listens and serves until it is time to stop.
pub async fn serve(routes: Routes, control: &Control, stop: Stop) -> Result<(), TcpError> {
    let certificate = read("control.certificate", &control.certificate)?;
    let key = read("control.key", &control.key)?;
    let client_ca = read("control.client_ca", &control.client_ca)?;
    let tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(certificate, key))
        .client_ca_root(Certificate::from_pem(client_ca))
        .client_auth_optional(false);
    let mut server = server().tls_config(tls).map_err(TcpError::Tls)?;
    let listener = TcpListener::bind(control.listen)
        .await
        .map_err(|source| TcpError::Listen {
            address: control.listen.to_string(),
            source,
        })?;
    let incoming = TcpListenerStream::new(listener);
    let served = server
        .add_routes(routes)
        .serve_with_incoming_shutdown(incoming, stopped(stop))
        .await;
    served.map_err(TcpError::Ended)
}
