//! The poll loop: one worker, one core, forever.
//!
//! A round says "quiescent" (nothing of the old snapshot is held), takes the snapshot, polls each queue that the
//! worker owns and walks what it received through the pipeline. Ageing takes a small slice of each round. A worker that
//! finds nothing backs off in steps: pause, then sleeps up to a set limit; a busy one never sleeps. Which queues are
//! looked at in a round is told by [`polling`].

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use weft_table::{
    flow::{Key4, Key6, WorkerFlows},
    rcu::Reader,
};

use crate::{
    ageing::{self, Ageing},
    dpdk::{Batch, clock},
    pipeline::{
        self, Context, Flows, StageClock,
        budget::Budgets,
        burst::Burst,
        family::{V4, V6},
        fragments::{self, Fragments},
        learn::Learner,
        nat,
        transmit::{self, Transmit},
    },
    polling::{self, Next, Polling, Served},
    port::doorbell::{self, DoorbellId},
    shared::Shared,
    snapshot::Poll,
    statistics::{Counters, Stage},
};

/// Rounds without a packet before the worker begins to pause, and before it begins to sleep.
const PAUSE_AFTER: u32 = 64;
const SLEEP_AFTER: u32 = 1024;
/// First sleep; doubled up to the limit.
const FIRST_SLEEP: Duration = Duration::from_micros(5);
/// Port blocks that are looked at for being idle, between two rounds.
const RELEASE: usize = 16;
/// Rounds between two such looks while packets flow.
const RELEASE_EVERY: u64 = 64;

/// One worker's own things.
pub struct Worker {
    index: u16,
    shared: Arc<Shared>,
    reader: Reader,
    flows: Flows,
    budgets: Budgets,
    fragments: Fragments,
    burst: Box<Burst>,
    received: Batch,
    transmit: Transmit,
    counters: Counters,
    start: u64,
    cycles_per_second: u64,
    idle_rounds: u32,
    rounds: u64,
    /// When this round began.
    began: u64,
    /// Where the next look for idle port blocks begins.
    released: usize,
    /// Of the IPv4 and of the IPv6 sessions.
    ageing: [Ageing; 2],
    polling: Polling,
    rang: [Option<DoorbellId>; doorbell::HEARD],
}

impl Worker {
    /// A worker that will run on its lcore.
    pub fn new(
        index: u16,
        shared: Arc<Shared>,
        reader: Reader,
        v4: WorkerFlows,
        v6: WorkerFlows,
        start: u64,
    ) -> Self {
        let pass = clock::cycles(ageing::pass(&shared.timeouts));
        let workers = shared.workers.len() as u64;
        Worker {
            index,
            ageing: [(); 2].map(|()| Ageing::new(pass, workers, start)),
            shared,
            reader,
            flows: Flows {
                v4: Learner::new(v4),
                v6: Learner::new(v6),
            },
            budgets: Budgets::default(),
            fragments: Fragments::default(),
            burst: Box::default(),
            received: Batch::new(),
            transmit: Transmit::default(),
            counters: Counters::default(),
            start,
            cycles_per_second: clock::hz(),
            idle_rounds: 0,
            rounds: 0,
            began: start,
            released: 0,
            polling: Polling::new(clock::hz()),
            rang: [None; doorbell::HEARD],
        }
    }

    /// Polls until it is told to stop.
    pub fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        self.began = clock::now();
        while !shared.stop.load(Ordering::Relaxed) {
            self.round(&shared);
        }
        shared.workers[usize::from(self.index)]
            .mailbox
            .serve(&mut self.counters);
    }

    fn round(&mut self, shared: &Shared) {
        let own = &shared.workers[usize::from(self.index)];
        let began = clock::now();
        self.counters.rounds.count(began.saturating_sub(self.began));
        self.began = began;
        self.rounds += 1;
        own.rounds.store(self.rounds, Ordering::Relaxed);
        own.mailbox.serve(&mut self.counters);
        self.reader.quiescent();
        let snapshot = shared.snapshot.load(&self.reader);
        own.snapshot.store(snapshot.number, Ordering::Relaxed);
        let now = ((began - self.start) / self.cycles_per_second) as u32;
        let mut context = Context {
            snapshot,
            shared,
            counters: &mut self.counters,
            transmit: &mut self.transmit,
            flows: &mut self.flows,
            budgets: &mut self.budgets,
            fragments: &mut self.fragments,
            now,
            began,
            worker: self.index,
            watch: None,
        };
        let mut packets = inject(&mut context);
        let polls = &snapshot.polls[usize::from(self.index)];
        let polling = &mut self.polling;
        let mut serve = |poll: &Poll| {
            own.polling.store(u32::from(poll.port.0) + 1, Ordering::Relaxed);
            receive(&mut context, poll, &mut self.received, &mut self.burst)
        };
        polling.begin(snapshot.polls_since, polls.iter().map(|poll| poll.doorbell));
        if polling.listens(began, self.idle_rounds > 0) {
            let count = doorbell::heard(self.index, &mut self.rang);
            for doorbell in self.rang[..count].iter().flatten() {
                polling.rang(*doorbell);
            }
        }
        let served = serve_busy(polling, polls, &mut serve);
        packets += served;
        if served == 0 && polling.jump() {
            packets += serve_busy(polling, polls, &mut serve);
        }
        let long_idle = self.idle_rounds > PAUSE_AFTER;
        let mut looks = polling.looks(clock::now(), packets == 0, long_idle);
        while let Some(place) = polling.look(&mut looks) {
            let poll = &polls[place];
            let served = match poll.driver.pending_receive(poll.queue) {
                true => serve(poll),
                false => Served::default(),
            };
            packets += served.packets;
            polling.looked(served);
        }
        own.polling.store(0, Ordering::Relaxed);
        fragments::expire(&mut self.fragments, &mut self.counters, now);
        let mut clock = StageClock { since: clock::now() };
        let Flows { v4, v6 } = &mut self.flows;
        let [ageing4, ageing6] = &mut self.ageing;
        let cycles = clock.since;
        let timeout = |vrf, protocol, state| snapshot.timeout(&shared.timeouts, vrf, protocol, state);
        let timeout4 = |key: &Key4, state| timeout(key.vrf, key.protocol, state);
        let timeout6 = |key: &Key6, state| timeout(key.vrf, key.protocol, state);
        let worker = self.index;
        let left4 = |opens: &Key4, answers: &Key4| nat::closed::<V4>(snapshot, worker, opens, answers);
        let left6 = |opens: &Key6, answers: &Key6| nat::closed::<V6>(snapshot, worker, opens, answers);
        let sessions = ageing4.sweep(&shared.sessions4, &mut v4.flows, timeout4, cycles, now, left4)
            + ageing6.sweep(&shared.sessions6, &mut v6.flows, timeout6, cycles, now, left6);
        if packets == 0 || self.rounds.is_multiple_of(RELEASE_EVERY) {
            for pool in snapshot.pools.iter() {
                let start = self.released % pool.blocks.len().max(1);
                pool.blocks.release(self.index, start, RELEASE);
            }
            self.released = self.released.wrapping_add(RELEASE);
        }
        let ageing = match sessions {
            0 => 0,
            _ => clock.lap(&mut self.counters, Stage::Age, sessions),
        };
        if packets == 0 {
            self.back_off(shared, began + ageing);
        } else {
            self.idle_rounds = 0;
        }
    }

    /// Nothing was found: wait a little before the next look, the longer the longer nothing comes.
    fn back_off(&mut self, shared: &Shared, began: u64) {
        self.idle_rounds = self.idle_rounds.saturating_add(1);
        if self.idle_rounds > SLEEP_AFTER {
            let doublings = ((self.idle_rounds - SLEEP_AFTER) / 8).min(16);
            let sleep = (FIRST_SLEEP * 2u32.pow(doublings)).min(shared.idle_sleep);
            if !sleep.is_zero() {
                let _offline = self.reader.offline();
                std::thread::sleep(sleep);
            }
        } else if self.idle_rounds > PAUSE_AFTER {
            for _ in 0..32 {
                std::hint::spin_loop();
            }
        }
        self.counters.stage_cycles[Stage::Idle as usize] += clock::now() - began;
        self.counters.stage_packets[Stage::Idle as usize] += 1;
    }
}

/// Serves each busy queue that is due; how many packets they had.
#[inline]
fn serve_busy(polling: &mut Polling, polls: &[Poll], mut serve: impl FnMut(&Poll) -> Served) -> u64 {
    let (mut packets, mut position) = (0, 0);
    while let Some(place) = polling.busy(position) {
        if !polling.is_due(place) {
            position += 1;
            continue;
        }
        let poll = &polls[place];
        let served = serve(poll);
        packets += served.packets;
        match polling.served(position, poll.rests, served) {
            Next::Stays => position += 1,
            Next::IsQuiet => polling.set_aside(position, poll.driver.listen(poll.queue)),
        }
    }
    packets
}

/// Polls one queue and walks what came through the pipeline.
#[inline]
fn receive(context: &mut Context<'_>, poll: &Poll, received: &mut Batch, burst: &mut Burst) -> Served {
    let began = clock::now();
    let count = poll.driver.receive(poll.queue, received) as u64;
    if count == 0 {
        return Served::default();
    }
    let bytes: usize = received.iter().map(|mbuf| mbuf.len()).sum();
    let counters = &mut *context.counters;
    counters.books.received += count;
    counters.bursts += 1;
    if let Some(port) = counters.port(poll.port) {
        port.rx_packets += count;
        port.rx_bytes += bytes as u64;
    }
    counters.stage_cycles[Stage::Receive as usize] += clock::now() - began;
    counters.stage_packets[Stage::Receive as usize] += count;
    burst.begin(poll.port, received);
    let first_packets = pipeline::run(burst, context);
    Served {
        packets: count,
        cost: match poll.charged {
            true => clock::now() - began + first_packets * (polling::FIRST_PACKET - 1),
            false => 0,
        },
    }
}

/// Sends what the control thread has to say.
fn inject(context: &mut Context<'_>) -> u64 {
    let ring = &context.shared.workers[usize::from(context.worker)].inject;
    let mut count = 0;
    while let Some((port, mbuf)) = ring.pop() {
        count += 1;
        context.counters.books.created += 1;
        match context.snapshot.port(port) {
            Some(egress) => transmit::push(context, mbuf, port, egress),
            None => context.drop(mbuf, port, crate::drops::Reason::PortDown),
        }
    }
    if count > 0 {
        transmit::flush(context);
    }
    count
}
