//! Underlay neighbours: who is asked for, what they answered, when to ask again.
//!
//! Answers are learned by the workers and arrive here over a ring; requests leave by a worker's ring. Reachable
//! neighbours are asked again before anybody misses them (RFC 4861, section 7.3; RFC 1122, section 2.3.2.1). Those that
//! the configuration names are known beforehand: never asked for, and no answer changes them.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use hashbrown::{HashMap, HashSet};
use weft_packet::Mac;
use weft_table::PortId;

use super::state::Numbers;
use crate::snapshot::{L2Header, Neighbour, Port, Snapshot};

/// Between two requests for one that does not answer.
const RETRY: Duration = Duration::from_secs(1);
/// Between two requests for one that has not answered for long, but is needed.
const RETRY_SLOWLY: Duration = Duration::from_secs(5);
/// How long an answer holds before it is asked again.
const REFRESH: Duration = Duration::from_secs(30);
/// Requests without an answer until a neighbour counts as gone.
const ATTEMPTS: u32 = 3;
/// Most neighbours that were asked for by packets: a scan of the subnet must not fill the memory.
const MOST_ON_DEMAND: usize = 1024;

/// All neighbours on all uplinks.
#[derive(Default)]
pub struct Neighbours {
    entries: HashMap<(PortId, IpAddr), Entry>,
    numbers: Numbers,
}

struct Entry {
    index: u32,
    mac: Option<Mac>,
    /// A tunnel or gateway needs it: it is never given up.
    wanted: bool,
    /// The configuration says where it is.
    configured: bool,
    attempts: u32,
    next: Instant,
}

/// Ask this uplink's subnet for an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    pub port: PortId,
    pub target: IpAddr,
    /// Where it was last: asked directly first.
    pub known: Option<Mac>,
}

/// What a change of neighbours means for the rest of the tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effect {
    /// The next snapshot differs.
    pub changed: bool,
    /// Somebody came into reach or went out of it.
    pub reachability: bool,
    /// An index is free for another: what was decided from it must be decided again.
    pub forgotten: bool,
}

impl Effect {
    fn and(&mut self, other: Effect) {
        self.changed |= other.changed;
        self.reachability |= other.reachability;
        self.forgotten |= other.forgotten;
    }
}

impl Neighbours {
    /// The index of a neighbour that a tunnel or gateway needs; it is asked for if it is new.
    pub fn want(&mut self, port: PortId, address: IpAddr, draft: &mut Snapshot) -> u32 {
        let entry = self.entry(port, address, draft);
        entry.wanted = true;
        entry.index
    }

    /// Only these are needed by tunnels and gateways from now on; others stay as long as they answer.
    pub fn keep_wanted(&mut self, wanted: &HashSet<u32>) {
        for entry in self.entries.values_mut() {
            entry.wanted = wanted.contains(&entry.index);
        }
    }

    /// A packet needs this neighbour.
    pub fn demand(&mut self, port: PortId, address: IpAddr, draft: &mut Snapshot) {
        if self.entries.len() < MOST_ON_DEMAND
            || self
                .entries
                .values()
                .filter(|e| !e.wanted && !e.configured)
                .count()
                < MOST_ON_DEMAND
        {
            self.entry(port, address, draft);
        }
    }

    fn entry(&mut self, port: PortId, address: IpAddr, draft: &mut Snapshot) -> &mut Entry {
        let numbers = &mut self.numbers;
        self.entries.entry((port, address)).or_insert_with(|| {
            let index = numbers.take();
            draft.neighbours.set(
                index as usize,
                Neighbour {
                    port: Some(port),
                    header: None,
                },
            );
            Arc::make_mut(&mut draft.neighbour_index).insert((port, address), index);
            Entry {
                index,
                mac: None,
                wanted: false,
                configured: false,
                attempts: 0,
                next: Instant::now(),
            }
        })
    }

    /// Exactly these neighbours of an uplink are known beforehand from now on. Those that were and are no longer stay
    /// where they are while they answer.
    pub fn configure(&mut self, port: &Port, known: &[(IpAddr, Mac)], draft: &mut Snapshot) {
        let listed = |address: IpAddr| known.iter().any(|(listed, _)| *listed == address);
        for ((_, _), entry) in self
            .entries
            .iter_mut()
            .filter(|((uplink, address), entry)| *uplink == port.id && entry.configured && !listed(*address))
        {
            entry.configured = false;
            entry.attempts = 0;
            entry.next = Instant::now();
        }
        for &(address, mac) in known {
            let entry = self.entry(port.id, address, draft);
            entry.configured = true;
            entry.mac = Some(mac);
            let index = entry.index as usize;
            let neighbour = Neighbour {
                port: Some(port.id),
                header: Some(L2Header::new(mac, port.mac, port.vlan)),
            };
            draft.neighbours.set(index, neighbour);
        }
    }

    /// Somebody said where an address is. Only those that were asked for are kept.
    pub fn learned(&mut self, port: &Port, address: IpAddr, mac: Mac, draft: &mut Snapshot) -> Effect {
        let entry = self.entries.get_mut(&(port.id, address));
        let Some(entry) = entry.filter(|entry| !entry.configured) else {
            return Effect::default();
        };
        let previous = entry.mac.replace(mac);
        entry.attempts = 0;
        entry.next = Instant::now() + REFRESH;
        if previous == Some(mac) {
            return Effect::default();
        }
        let header = Some(L2Header::new(mac, port.mac, port.vlan));
        draft.neighbours.set(
            entry.index as usize,
            Neighbour {
                port: Some(port.id),
                header,
            },
        );
        Effect {
            changed: true,
            reachability: previous.is_none(),
            forgotten: false,
        }
    }

    /// Whom to ask now; gives up those that do not answer.
    pub fn tick(&mut self, now: Instant, draft: &mut Snapshot) -> (Vec<Request>, Effect) {
        let (mut requests, mut effect) = (Vec::new(), Effect::default());
        let mut gone = Vec::new();
        for (&(port, target), entry) in self
            .entries
            .iter_mut()
            .filter(|(_, entry)| !entry.configured && entry.next <= now)
        {
            if entry.attempts >= ATTEMPTS {
                if entry.mac.take().is_some() {
                    draft.neighbours.set(
                        entry.index as usize,
                        Neighbour {
                            port: Some(port),
                            header: None,
                        },
                    );
                    effect.and(Effect {
                        changed: true,
                        reachability: true,
                        forgotten: false,
                    });
                }
                if !entry.wanted {
                    gone.push((port, target));
                    continue;
                }
            }
            requests.push(Request {
                port,
                target,
                known: entry.mac.filter(|_| entry.attempts == 0),
            });
            entry.attempts += 1;
            entry.next = now
                + if entry.attempts > ATTEMPTS {
                    RETRY_SLOWLY
                } else {
                    RETRY
                };
        }
        for key in gone {
            self.forget(key, draft);
            effect.and(Effect {
                changed: true,
                reachability: false,
                forgotten: true,
            });
        }
        (requests, effect)
    }

    /// When [`tick`](Self::tick) has something to do.
    pub fn next_tick(&self) -> Option<Instant> {
        let asked = self.entries.values().filter(|entry| !entry.configured);
        asked.map(|entry| entry.next).min()
    }

    /// An uplink is gone, its neighbours with it.
    pub fn forget_port(&mut self, port: PortId, draft: &mut Snapshot) {
        let keys: Vec<_> = self
            .entries
            .keys()
            .filter(|(uplink, _)| *uplink == port)
            .copied()
            .collect();
        for key in keys {
            self.forget(key, draft);
        }
    }

    /// The caller marks what was decided from it as changed before its index is used again.
    fn forget(&mut self, key: (PortId, IpAddr), draft: &mut Snapshot) {
        if let Some(entry) = self.entries.remove(&key) {
            draft.neighbours.set(entry.index as usize, Neighbour::default());
            Arc::make_mut(&mut draft.neighbour_index).remove(&key);
            self.numbers.give_back(entry.index);
        }
    }
}
