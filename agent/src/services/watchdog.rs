//! Tells systemd that weftd lives, as long as the writer comes round.

use std::time::Duration;

use sd_notify::NotifyState;

use super::Ended;
use crate::writer::Writer;

/// Runs for ever; `timeout` is what systemd allows between two signs of life.
pub async fn run(writer: Writer, timeout: Duration) -> Ended {
    let mut tick = tokio::time::interval(timeout / 2);
    loop {
        tick.tick().await;
        writer.ping().await.map_err(|error| error.to_string())?;
        sd_notify::notify(&[NotifyState::Watchdog]).map_err(|error| error.to_string())?;
    }
}
