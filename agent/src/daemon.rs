//! Start and stop of weftd, in order.

use std::{sync::Arc, time::Duration};

use sd_notify::NotifyState;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tracing::{error, info};
use weft_dataplane::Dataplane;

use crate::{
    config::Config,
    engine::Engine,
    exit::Fatal,
    metrics,
    server::{self, socket},
    services::{policy_log, retry, supervise, watchdog},
    store::Store,
    writer::{Core, Writer},
};

/// How long requests may take after it is time to stop.
const GRACE: Duration = Duration::from_secs(5);

/// Starts everything, serves until SIGTERM or SIGINT, and stops everything.
///
/// What can fail cheaply comes first, so that a second weftd or a wrong permission is told before hugepages and
/// devices are touched. The socket answers only when the stored configuration is in the data plane.
pub async fn run(config: Config) -> Result<(), Fatal> {
    let store = Store::open(&config.state_dir)?;
    let (listener, bound) = socket::bind(&config.socket)?;
    let workers = config.dataplane.worker_cpus.len();
    let dataplane = config.dataplane.clone();
    let engine: Arc<dyn Engine> = Arc::new(
        blocking(move || Dataplane::start(dataplane))
            .await?
            .map_err(Fatal::Start)?,
    );
    let for_core = engine.clone();
    let core = blocking(move || Core::restore(store, for_core, workers)).await??;
    let (writer, thread) =
        Writer::start(core).map_err(|error| Fatal::Other(format!("no thread for the writer: {error}")))?;

    let (say_stop, stop) = watch::channel(false);
    let routes = server::services(writer.clone(), engine.clone(), stop.clone()).await;
    let (report, mut reports) = mpsc::channel(2);
    let unix = server::serve_unix(routes.clone(), listener, stop.clone());
    let servers = [
        report_end(report.clone(), async {
            unix.await.map_err(|error| Fatal::Other(error.to_string()))
        }),
        report_end(report, serve_control(config.clone(), routes, stop.clone())),
    ];
    let services = start_services(&config, &writer, &engine, &stop);
    notify(&[NotifyState::Ready]);
    info!("weftd serves {}", config.socket.path.display());

    let ended = tokio::select! {
        asked = stop_signal() => asked,
        Some(ended) = reports.recv() => {
            ended.and_then(|()| Err(Fatal::Other("the API has ended unasked".into())))
        }
        () = writer.ended() => Err(Fatal::Other("the writer has ended; the log says why".into())),
    };

    notify(&[NotifyState::Stopping]);
    // Nobody listens any more if everything has ended already.
    let _ = say_stop.send(true);
    for task in services.into_iter().chain(servers) {
        if tokio::time::timeout(GRACE, task).await.is_err() {
            error!(
                "a request did not end in {} s; weftd stops without it",
                GRACE.as_secs()
            );
        }
    }
    drop(bound);
    // The writer's thread ends with the last way to it; the store closes with the thread.
    drop(writer);
    if !ended_in_time(thread).await {
        error!("the writer is still waiting for the data plane; weftd stops without it");
    }
    // The data plane stops its workers and closes the ports.
    let _ = tokio::task::spawn_blocking(move || drop(engine)).await;
    ended
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Fatal> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|fault| Fatal::Other(fault.to_string()))
}

/// The API over TCP; without it, waits for the end.
async fn serve_control(
    config: Config,
    routes: tonic::service::Routes,
    stop: server::Stop,
) -> Result<(), Fatal> {
    match &config.control {
        Some(control) => Ok(server::serve_tcp(routes, control, stop).await?),
        None => {
            server::stopped(stop).await;
            Ok(())
        }
    }
}

fn start_services(
    config: &Config,
    writer: &Writer,
    engine: &Arc<dyn Engine>,
    stop: &server::Stop,
) -> Vec<JoinHandle<()>> {
    let mut services = Vec::new();
    let for_retry = writer.clone();
    services.push(supervise("retry", stop.clone(), move || {
        retry::run(for_retry.clone())
    }));
    let (log_writer, log_engine) = (writer.clone(), engine.clone());
    services.push(supervise("policy log", stop.clone(), move || {
        policy_log::run(log_writer.clone(), log_engine.clone())
    }));
    if let Some(timeout) = sd_notify::watchdog_enabled() {
        let writer = writer.clone();
        services.push(supervise("watchdog", stop.clone(), move || {
            watchdog::run(writer.clone(), timeout)
        }));
    }
    if let Some(listen) = config.metrics.clone() {
        let (writer, engine, until) = (writer.clone(), engine.clone(), stop.clone());
        services.push(supervise("metrics", stop.clone(), move || {
            metrics::run(listen.clone(), writer.clone(), engine.clone(), until.clone())
        }));
    }
    services
}

/// Runs a server as a task that tells how it ended.
fn report_end(
    report: mpsc::Sender<Result<(), Fatal>>,
    server: impl Future<Output = Result<(), Fatal>> + Send + 'static,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        // After the stop nobody listens any more.
        let _ = report.send(server.await).await;
    })
}

async fn stop_signal() -> Result<(), Fatal> {
    let listen =
        |kind| signal(kind).map_err(|error| Fatal::Other(format!("signals cannot be caught: {error}")));
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => info!("SIGTERM: stopping"),
        _ = interrupt.recv() => info!("SIGINT: stopping"),
    }
    Ok(())
}

async fn ended_in_time(thread: std::thread::JoinHandle<()>) -> bool {
    let joined = tokio::task::spawn_blocking(move || drop(thread.join()));
    tokio::time::timeout(GRACE, joined).await.is_ok()
}

fn notify(state: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(state) {
        error!("systemd cannot be told: {error}");
    }
}
