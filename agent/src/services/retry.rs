//! Tries again what the data plane refused: a device may open later, when its driver or its peer is there.

use std::time::{Duration, Instant};

use super::Ended;
use crate::writer::Writer;

/// How often the writer looks whose time has come; the pause of each object grows by itself.
const LOOK: Duration = Duration::from_secs(1);

/// Runs for ever.
pub async fn run(writer: Writer) -> Ended {
    let mut tick = tokio::time::interval(LOOK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        writer
            .retry(Instant::now())
            .await
            .map_err(|error| error.to_string())?;
    }
}
