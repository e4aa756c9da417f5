//! Tasks that run beside the server, each supervised: a panic in one is logged and it starts again, the others go on.

pub mod policy_log;
pub mod retry;
pub mod watchdog;

use std::time::Duration;

use tokio::task::JoinHandle;
use tracing::error;

use crate::server::{Stop, stopped};

/// How a supervised task ended by itself.
pub type Ended = Result<(), String>;

/// Pause before a task that ended is started again.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

/// Runs the task until it is time to stop, and starts it again when it panics or fails.
pub fn supervise<F>(name: &'static str, stop: Stop, task: impl Fn() -> F + Send + 'static) -> JoinHandle<()>
where
    F: Future<Output = Ended> + Send + 'static,
{
    supervise_with(name, stop, RESTART_PAUSE, task)
}

fn supervise_with<F>(
    name: &'static str,
    stop: Stop,
    pause: Duration,
    task: impl Fn() -> F + Send + 'static,
) -> JoinHandle<()>
where
    F: Future<Output = Ended> + Send + 'static,
{
    tokio::spawn(async move {
        loop {
            let mut running = tokio::spawn(task());
            let ended = tokio::select! {
                ended = &mut running => ended,
                () = stopped(stop.clone()) => {
                    running.abort();
                    return;
                }
            };
            match ended {
                Ok(Ok(())) => return,
                Ok(Err(message)) => error!("{name}: {message}; trying again"),
                Err(panic) => error!("{name} ended in a fault and is started again: {panic}"),
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stopped(stop.clone()) => return,
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };

    use tokio::sync::watch;

    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_or_fails_is_started_again_until_it_is_done() {
        let (_say, stop) = watch::channel(false);
        let runs = Arc::new(AtomicU32::new(0));
        let counted = runs.clone();
        let task = move || {
            let runs = counted.clone();
            async move {
                match runs.fetch_add(1, Ordering::SeqCst) {
                    0 => panic!("a test asked for it"),
                    1 => Err("not yet".into()),
                    _ => Ok(()),
                }
            }
        };
        supervise_with("test", stop, Duration::ZERO, task).await.unwrap();
        assert_eq!(runs.load(Ordering::SeqCst), 3);
    }

    #[tokio::test]
    async fn a_task_ends_when_it_is_time_to_stop() {
        let (say, stop) = watch::channel(false);
        let endless = supervise("test", stop, std::future::pending::<Ended>);
        say.send(true).unwrap();
        endless.await.unwrap();
    }
}
