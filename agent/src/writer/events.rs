//! Who watches, and what they are told.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::sync::mpsc;

use crate::{model::Kind, reconciler::Changed};

/// Changes that a watcher may be behind before it is cut off: memory is bounded, whoever watches.
pub const BACKLOG: usize = 16_384;

/// One watcher's end of the queue.
#[derive(Debug)]
pub struct Watcher {
    receiver: mpsc::Receiver<Arc<Changed>>,
    lagged: Arc<AtomicBool>,
}

/// Why there are no more events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The watcher was too slow.
    Lagged,
    /// weftd stops.
    Stopped,
}

impl Watcher {
    /// The next change.
    pub async fn next(&mut self) -> Result<Arc<Changed>, Ended> {
        match self.receiver.recv().await {
            Some(changed) => Ok(changed),
            None if self.lagged.load(Ordering::Acquire) => Err(Ended::Lagged),
            None => Err(Ended::Stopped),
        }
    }
}

#[derive(Debug)]
struct Subscriber {
    kind: Option<Kind>,
    sender: mpsc::Sender<Arc<Changed>>,
    lagged: Arc<AtomicBool>,
}

/// Everyone who watches.
#[derive(Debug, Default)]
pub struct Subscribers(Vec<Subscriber>);

impl Subscribers {
    /// Someone who wants changes of this kind, or of all.
    pub fn add(&mut self, kind: Option<Kind>) -> Watcher {
        let (sender, receiver) = mpsc::channel(BACKLOG);
        let lagged = Arc::new(AtomicBool::new(false));
        self.0.push(Subscriber {
            kind,
            sender,
            lagged: lagged.clone(),
        });
        Watcher { receiver, lagged }
    }

    /// Whether anyone is left to be told.
    pub fn any(&mut self) -> bool {
        self.0.retain(|subscriber| !subscriber.sender.is_closed());
        !self.0.is_empty()
    }

    /// Tells everyone who wants to know; cuts off who is too far behind.
    pub fn tell(&mut self, changes: Vec<Changed>) {
        for changed in changes {
            let changed = Arc::new(changed);
            self.0.retain(|subscriber| {
                if subscriber.kind.is_some_and(|kind| kind != changed.key.kind) {
                    return true;
                }
                match subscriber.sender.try_send(changed.clone()) {
                    Ok(()) => true,
                    Err(mpsc::error::TrySendError::Full(_)) => {
                        subscriber.lagged.store(true, Ordering::Release);
                        false
                    }
                    Err(mpsc::error::TrySendError::Closed(_)) => false,
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Key;

    fn gone(name: String) -> Changed {
        Changed {
            key: Key::new(Kind::Vrf, name),
            now: None,
        }
    }

    #[tokio::test]
    async fn a_slow_watcher_gets_what_fits_and_then_a_clear_end() {
        let mut subscribers = Subscribers::default();
        let mut slow = subscribers.add(None);
        let mut quiet = subscribers.add(Some(Kind::Port));
        subscribers.tell((0..=BACKLOG).map(|index| gone(index.to_string())).collect());
        for index in 0..BACKLOG {
            assert_eq!(*slow.next().await.unwrap(), gone(index.to_string()));
        }
        assert_eq!(slow.next().await, Err(Ended::Lagged));
        assert!(subscribers.any());
        drop(subscribers);
        assert_eq!(quiet.next().await, Err(Ended::Stopped));
    }
}
