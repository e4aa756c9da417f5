//! The API over TCP: only for those who show a certificate that the right authority has signed.

use std::net::SocketAddr;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

use super::*;
use crate::config::Control;

/// An authority and what it signs.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn sign(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_string()]).unwrap();
        (
            params.signed_by(&key, &self.0).unwrap().pem(),
            key.serialize_pem(),
        )
    }

    fn pem(&self) -> String {
        self.0.pem()
    }
}

async fn ask(address: SocketAddr, tls: Option<ClientTlsConfig>) -> Result<usize, String> {
    let scheme = if tls.is_some() { "https" } else { "http" };
    let mut endpoint = Endpoint::from_shared(format!("{scheme}://{address}")).unwrap();
    if let Some(tls) = tls {
        endpoint = endpoint.tls_config(tls.domain_name("weftd.test")).unwrap();
    }
    let channel = endpoint.connect().await.map_err(|error| error.to_string())?;
    let answer = WeftClient::new(channel).get(v1::GetRequest::default()).await;
    answer
        .map(|answer| answer.into_inner().objects.len())
        .map_err(|status| status.to_string())
}

#[tokio::test]
async fn only_a_client_with_the_right_certificate_is_served() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (certificate, key) = ours.sign("weftd.test");
    // A port that was free a moment ago.
    let listen = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let control = Control {
        listen,
        certificate: file("certificate", &certificate),
        key: file("key", &key),
        client_ca: file("ca", &ours.pem()),
    };
    let core = Core::restore(Store::in_memory(), Arc::new(MemoryEngine::default()), 1).unwrap();
    let (writer, _thread) = Writer::start(core).unwrap();
    let (say_stop, stop) = signal::channel(false);
    let routes = services(writer, Arc::new(MemoryEngine::default()), stop.clone()).await;
    let serving = tokio::spawn(async move { serve_tcp(routes, &control, stop).await });

    let trusting = || ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ours.pem()));
    let with =
        |(certificate, key): (String, String)| trusting().identity(Identity::from_pem(certificate, key));
    let mut right = ask(listen, Some(with(ours.sign("controller")))).await;
    while right.as_ref().is_err_and(|_| !serving.is_finished()) {
        // Not listening yet.
        tokio::task::yield_now().await;
        right = ask(listen, Some(with(ours.sign("controller")))).await;
    }
    assert_eq!(right, Ok(1));
    assert!(
        ask(listen, Some(with(theirs.sign("controller")))).await.is_err(),
        "another authority's client"
    );
    assert!(
        ask(listen, Some(trusting())).await.is_err(),
        "a client without a certificate"
    );
    assert!(ask(listen, None).await.is_err(), "a client without TLS");
    say_stop.send(true).unwrap();
    serving.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_missing_certificate_is_told_by_its_key_and_path() {
    let control = Control {
        listen: "127.0.0.1:0".parse().unwrap(),
        certificate: "/nonexistent/weftd.pem".into(),
        key: "/nonexistent/key.pem".into(),
        client_ca: "/nonexistent/ca.pem".into(),
    };
    let (_say_stop, stop) = signal::channel(false);
    let error = serve_tcp(Routes::default(), &control, stop)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("control.certificate = /nonexistent/weftd.pem: cannot be read"),
        "{error}"
    );
}
