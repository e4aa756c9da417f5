//! Start, loop and stop of the control thread; [`Handle`] is how the rest of the process talks to it.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crossbeam::{
    channel::{self, Receiver, RecvTimeoutError, Sender},
    queue::ArrayQueue,
};
use weft_packet::{arp, nd};
use weft_table::{
    PolicyId, PortId, WorkerId,
    flow::{FlowConfig, FlowTable},
    rcu::{Domain, Published, Writer},
};

use super::{Applied, ChangeError, MAX_WORKERS, Refused, StartError, neighbours::Request, state::State};
use crate::{
    Config,
    change::{BackendSpec, Change},
    dpdk::{Eal, EalConfig, Mempool, clock, lcore::Running},
    pipeline::{Flows, learn::Learner},
    port::OpenContext,
    shared::{Changed, PUNT_RING, Punt, Shared, WorkerShared},
    snapshot::{Backend, CLOSED, FROM_INSIDE, FROM_OUTSIDE, FloatingIp, OPENED, Pool, Service, Snapshot},
    view::{
        BackendStatistics, FloatingIpStatistics, FlowFilter, FlowRecord, PolicyLog, PoolStatistics,
        PortState, ServiceStatistics, Statistics, SupposedPacket, WhatIf,
    },
    worker::Worker,
};

/// How long an answer waits for the workers to follow.
const EFFECTIVE_WITHIN: Duration = Duration::from_secs(1);
/// Between two looks at the workers' punts.
const TICK: Duration = Duration::from_millis(2);
/// Between two looks at the links.
const LINK_TICK: Duration = Duration::from_millis(100);
/// A worker that has not come round for so long is stuck.
const STUCK_AFTER: Duration = Duration::from_secs(1);

/// Blocks of a pool that are listed with their holders.
const BLOCKS_SHOWN: usize = 10_000;

enum Command {
    Apply(Vec<Change>, Sender<Result<Applied, Refused>>),
    Statistics(Sender<Statistics>),
    Flows(FlowFilter, usize, Sender<Vec<FlowRecord>>),
    PortState(PortId, Sender<Option<PortState>>),
    PolicyHits(Sender<Vec<(PolicyId, Vec<u64>)>>),
    FloatingIps(Sender<Vec<FloatingIpStatistics>>),
    Pools(Sender<Vec<PoolStatistics>>),
    Services(Sender<Vec<ServiceStatistics>>),
    WhatIf(PortId, SupposedPacket, Sender<Option<WhatIf>>),
    PolicyLog(usize, Sender<PolicyLog>),
    Stop,
}

/// The way to the control thread. Dropping it stops the workers and closes the ports.
pub struct Handle {
    commands: Sender<Command>,
    thread: Option<JoinHandle<()>>,
}

impl Handle {
    /// See [`Dataplane::apply`](crate::Dataplane::apply).
    pub fn apply(&self, batch: Vec<Change>) -> Result<Applied, Refused> {
        self.ask(|reply| Command::Apply(batch, reply))
            .unwrap_or(Err(Refused {
                index: 0,
                reason: ChangeError::Stopping,
            }))
    }

    /// Counters of everything.
    pub fn statistics(&self) -> Statistics {
        self.ask(Command::Statistics).unwrap_or_default()
    }

    /// Sessions that match.
    pub fn flows(&self, filter: FlowFilter, limit: usize) -> Vec<FlowRecord> {
        self.ask(|reply| Command::Flows(filter, limit, reply))
            .unwrap_or_default()
    }

    /// What a device says of itself.
    pub fn port_state(&self, port: PortId) -> Option<PortState> {
        self.ask(|reply| Command::PortState(port, reply)).flatten()
    }

    /// How often each decider of each policy decided.
    pub fn policy_hits(&self) -> Vec<(PolicyId, Vec<u64>)> {
        self.ask(Command::PolicyHits).unwrap_or_default()
    }

    /// How many sessions each floating IP translated.
    pub fn floating_ips(&self) -> Vec<FloatingIpStatistics> {
        self.ask(Command::FloatingIps).unwrap_or_default()
    }

    /// How full the pools are.
    pub fn pools(&self) -> Vec<PoolStatistics> {
        self.ask(Command::Pools).unwrap_or_default()
    }

    /// How many sessions the services' backends have.
    pub fn services(&self) -> Vec<ServiceStatistics> {
        self.ask(Command::Services).unwrap_or_default()
    }

    /// What would become of a packet.
    pub fn what_if(&self, from: PortId, packet: SupposedPacket) -> Option<WhatIf> {
        self.ask(|reply| Command::WhatIf(from, packet, reply)).flatten()
    }

    /// What rules with `log` decided.
    pub fn policy_log(&self, limit: usize) -> PolicyLog {
        self.ask(|reply| Command::PolicyLog(limit, reply))
            .unwrap_or_default()
    }

    /// None: the control thread is gone.
    fn ask<T>(&self, command: impl FnOnce(Sender<T>) -> Command) -> Option<T> {
        let (reply, answer) = channel::bounded(1);
        self.commands.send(command(reply)).ok()?;
        answer.recv().ok()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let _ = self.commands.send(Command::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Starts EAL, the workers and the control thread.
pub fn start(config: Config) -> Result<Handle, StartError> {
    let count = config.worker_cpus.len();
    if count == 0 {
        return Err(StartError::NoWorker);
    }
    if count > MAX_WORKERS {
        return Err(StartError::TooManyWorkers(count));
    }
    let eal = Eal::start(&EalConfig {
        worker_cpus: config.worker_cpus.clone(),
        no_huge: config.no_huge,
        memory_mib: config.memory_mib,
        file_prefix: config.file_prefix.clone(),
        pci_devices: config.pci_devices.clone(),
        ..EalConfig::default()
    })?;
    let (domain, writer) = Domain::new();
    let (state, shared) = tables(&config, &domain)?;
    let start = clock::now();
    let mut running = Vec::with_capacity(count);
    for index in 0..count as u16 {
        let reader = domain.register(usize::from(index))?;
        let v4 = shared.sessions4.worker(WorkerId(index))?;
        let v6 = shared.sessions6.worker(WorkerId(index))?;
        let worker = Worker::new(index, Arc::clone(&shared), reader, v4, v6, start);
        running.push(eal.launch(index, move || worker.run())?);
    }
    let (commands, receiver) = channel::unbounded();
    let asks = WorkerId(count as u16);
    let control = Control {
        state,
        flows: Flows {
            v4: Learner::new(shared.sessions4.worker(asks)?),
            v6: Learner::new(shared.sessions6.worker(asks)?),
        },
        shared,
        writer,
        running,
        eal,
        instance: config.file_prefix,
        start,
        link_tick: Instant::now(),
        rounds: vec![(0, Instant::now()); count],
    };
    let thread = std::thread::Builder::new()
        .name("weft-control".into())
        .spawn(move || control.run(&receiver))?;
    Ok(Handle {
        commands,
        thread: Some(thread),
    })
}

/// An empty configuration, and what workers share.
pub(super) fn tables(config: &Config, domain: &Arc<Domain>) -> Result<(State, Arc<Shared>), StartError> {
    let workers = config.worker_cpus.len();
    let pool = Mempool::with_room("weft", config.mbufs, 512, config.mbuf_room)?;
    let changed = Arc::new(Changed::new(!config.no_huge));
    let sessions = FlowConfig {
        sessions: config.sessions,
        seed: seed()?,
        hugepages: !config.no_huge,
        // One more, who asks and never puts anything in.
        workers: workers + 1,
    };
    let mut state = State::new(workers as u16, Arc::clone(&changed));
    let first = Arc::new(state.finish().clone());
    let shared = Shared {
        snapshot: Published::new(domain, first),
        sessions4: FlowTable::new(&sessions, domain)?,
        sessions6: FlowTable::new(&sessions, domain)?,
        changed,
        pool,
        punts: ArrayQueue::new(PUNT_RING),
        policy_log: Default::default(),
        workers: std::iter::repeat_with(WorkerShared::default)
            .take(workers)
            .collect(),
        stop: AtomicBool::new(false),
        idle_sleep: config.idle_sleep,
        timeouts: config.timeouts,
    };
    Ok((state, Arc::new(shared)))
}

/// Nobody can aim collisions at a table whose seed he does not know.
fn seed() -> Result<u64, std::io::Error> {
    use std::io::Read;
    let mut bytes = [0; 8];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}

/// The thread's own things. Fields are dropped in order: ports (in the state and the snapshots) before EAL.
pub(super) struct Control {
    pub(super) state: State,
    writer: Writer,
    pub(super) shared: Arc<Shared>,
    /// For packets that are only supposed.
    pub(super) flows: Flows,
    running: Vec<Running>,
    eal: Eal,
    instance: String,
    pub(super) start: u64,
    link_tick: Instant,
    /// Rounds that each worker had made when it was last seen moving.
    rounds: Vec<(u64, Instant)>,
}

impl Control {
    fn run(mut self, commands: &Receiver<Command>) {
        loop {
            match commands.recv_timeout(TICK) {
                Ok(Command::Apply(batch, reply)) => _ = reply.send(self.apply(batch)),
                Ok(Command::Statistics(reply)) => _ = reply.send(self.statistics()),
                Ok(Command::Flows(filter, limit, reply)) => _ = reply.send(self.flows(&filter, limit)),
                Ok(Command::PortState(port, reply)) => _ = reply.send(self.port_state(port)),
                Ok(Command::PolicyHits(reply)) => _ = reply.send(self.policy_hits()),
                Ok(Command::FloatingIps(reply)) => _ = reply.send(self.floating_ips()),
                Ok(Command::Pools(reply)) => _ = reply.send(self.pools()),
                Ok(Command::Services(reply)) => _ = reply.send(self.services()),
                Ok(Command::WhatIf(from, packet, reply)) => _ = reply.send(self.what_if(from, &packet)),
                Ok(Command::PolicyLog(limit, reply)) => _ = reply.send(self.policy_log(limit)),
                Ok(Command::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {}
            }
            self.keep_house();
        }
        self.stop();
    }

    fn apply(&mut self, batch: Vec<Change>) -> Result<Applied, Refused> {
        let context = OpenContext::new(&self.shared.pool, self.state.workers, &self.instance);
        let result = self.state.apply(batch, &context);
        // A refused batch was undone, but what it touched is made anew all the same.
        let epoch = self.publish();
        let effective = self.writer.wait(epoch, EFFECTIVE_WITHIN).is_ok();
        // Devices of removed ports close here.
        self.writer.collect();
        result.map(|()| Applied {
            snapshot: self.state.draft.number,
            effective,
        })
    }

    fn publish(&mut self) -> u64 {
        let snapshot = Arc::new(self.state.finish().clone());
        self.writer.publish(&self.shared.snapshot, snapshot)
    }

    /// What is done between commands.
    fn keep_house(&mut self) {
        let mut changed = false;
        for _ in 0..PUNT_RING {
            let Some(punt) = self.shared.punts.pop() else {
                break;
            };
            changed |= self.punt(punt);
        }
        let now = Instant::now();
        if self.state.neighbours.next_tick().is_some_and(|next| next <= now) {
            let (requests, effect) = self.state.tick_neighbours(now);
            for request in requests {
                self.request(&request);
            }
            changed |= effect;
        }
        if now >= self.link_tick {
            self.link_tick = now + LINK_TICK;
            changed |= self.state.watch_links();
            self.watch_workers(now);
        }
        if changed {
            self.publish();
        }
        self.writer.collect();
    }

    fn punt(&mut self, punt: Punt) -> bool {
        match punt {
            Punt::Learned { port, address, mac } => self.state.learned(port, address, mac),
            Punt::Resolve { port, address } => {
                let known = self.state.draft.neighbour_index.len();
                self.state.neighbours.demand(port, address, &mut self.state.draft);
                self.state.draft.neighbour_index.len() != known
            }
        }
    }

    /// Asks for a neighbour: a frame for the worker that comes first.
    fn request(&self, request: &Request) {
        let Some(port) = self.state.draft.port(request.port) else {
            return;
        };
        let own = self
            .state
            .ports
            .get(&request.port)
            .map(|entry| entry.spec.addresses.as_slice())
            .unwrap_or_default();
        let mut addresses = own
            .iter()
            .filter(|own| own.contains(&request.target))
            .chain(own)
            .map(|own| own.addr());
        let frame: Vec<u8> = match request.target {
            IpAddr::V4(target) => {
                let Some(IpAddr::V4(source)) = addresses.find(IpAddr::is_ipv4) else {
                    return;
                };
                let mut frame = [0; arp::FRAME_LEN];
                arp::write_request(&mut frame, port.mac, source, target, request.known);
                frame.to_vec()
            }
            IpAddr::V6(target) => {
                let Some(IpAddr::V6(source)) = addresses.find(IpAddr::is_ipv6) else {
                    return;
                };
                let mut frame = [0; nd::FRAME_LEN];
                nd::write_solicitation(&mut frame, port.mac, source, target, request.known);
                frame.to_vec()
            }
        };
        let Some(mut mbuf) = self.shared.pool.allocate() else {
            return;
        };
        let tag = port.vlan.map_or(0, |_| weft_packet::vlan::TAG_LEN);
        let Some(room) = mbuf.append(tag + frame.len()) else {
            return;
        };
        room[tag..].copy_from_slice(&frame);
        if let Some(vlan) = port.vlan {
            // There is room for the tag in front.
            let _ = weft_packet::vlan::push(room, weft_packet::ethernet::Tag::new(vlan));
        }
        // A full ring loses the request; it is made again.
        let _ = self.shared.workers[0].inject.push((request.port, mbuf));
    }

    fn watch_workers(&mut self, now: Instant) {
        for (worker, (rounds, since)) in self.shared.workers.iter().zip(&mut self.rounds) {
            let current = worker.rounds.load(Ordering::Relaxed);
            if current != *rounds {
                (*rounds, *since) = (current, now);
            }
        }
        // A worker that died takes the process down: a restart is quick, a vRouter with half its workers is not right.
        if let Some(dead) = self.running.iter().find(|running| running.is_finished()) {
            tracing::error!(lcore = dead.lcore(), "a worker has died; the process ends");
            std::process::abort();
        }
    }

    /// Where a worker is that has not come round for over a second.
    pub(super) fn stuck_in(&self, worker: usize) -> Option<String> {
        let (_, since) = self.rounds.get(worker)?;
        if since.elapsed() < STUCK_AFTER + LINK_TICK {
            return None;
        }
        let polling = self.shared.workers[worker].polling.load(Ordering::Relaxed);
        let port = polling
            .checked_sub(1)
            .and_then(|port| self.state.ports.get(&PortId(port as u16)));
        Some(match port {
            Some(entry) => format!("port \"{}\"", entry.spec.name),
            None => "the poll loop".to_owned(),
        })
    }

    fn port_state(&self, id: PortId) -> Option<PortState> {
        let (entry, port) = (self.state.ports.get(&id)?, self.state.draft.port(id)?);
        Some(PortState {
            port: id,
            link_up: entry.driver.link_up(),
            device: entry.driver.describe(),
            queues: entry.driver.receive_queues(),
            mac: port.mac,
        })
    }

    fn policy_hits(&self) -> Vec<(PolicyId, Vec<u64>)> {
        let policies = self.state.policies.keys();
        let hits = |id: &PolicyId| Some((*id, self.state.draft.policy(*id)?.hits.all()));
        policies.filter_map(hits).collect()
    }

    fn policy_log(&self, limit: usize) -> PolicyLog {
        let log = &self.shared.policy_log;
        PolicyLog {
            decisions: std::iter::from_fn(|| log.ring.pop()).take(limit).collect(),
            lost: log.lost.swap(0, Ordering::Relaxed),
        }
    }

    fn floating_ips(&self) -> Vec<FloatingIpStatistics> {
        let all = self.state.draft.floating_ips.iter();
        let statistics = |(_, floating): (usize, &Option<Arc<FloatingIp>>)| {
            let floating = floating.as_deref()?;
            Some(FloatingIpStatistics {
                id: floating.id,
                from_inside: floating.opened.get(FROM_INSIDE as usize),
                from_outside: floating.opened.get(FROM_OUTSIDE as usize),
            })
        };
        all.filter_map(statistics).collect()
    }

    fn pools(&self) -> Vec<PoolStatistics> {
        let statistics = |pool: &Arc<Pool>| PoolStatistics {
            id: pool.id,
            blocks: pool.blocks.len() as u64,
            held_count: pool.blocks.held_count() as u64,
            held: pool.blocks.held().take(BLOCKS_SHOWN).collect(),
            sessions: pool.blocks.sessions(),
        };
        self.state.draft.pools.iter().map(statistics).collect()
    }

    fn services(&self) -> Vec<ServiceStatistics> {
        let backend = |(backend, spec): (&Backend, &BackendSpec)| {
            let opened = backend.sessions.get(OPENED as usize);
            BackendStatistics {
                address: spec.address,
                opened,
                sessions: opened.saturating_sub(backend.sessions.get(CLOSED as usize)),
            }
        };
        let statistics = |service: &Service| ServiceStatistics {
            id: service.id,
            backends: service
                .backends
                .iter()
                .zip(&service.spec.backends)
                .map(backend)
                .collect(),
        };
        let all = self.state.draft.services.iter();
        all.filter_map(|(_, service)| service.as_deref())
            .map(statistics)
            .collect()
    }

    /// Workers first, then ports, then DPDK: what is used outlives who uses it.
    fn stop(mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for running in self.running.drain(..) {
            if let Err(panic) = running.wait() {
                tracing::error!(%panic, "a worker did not stop well");
            }
        }
        self.state.ports.clear();
        let Control {
            state,
            mut writer,
            shared,
            eal,
            ..
        } = self;
        drop(state);
        writer.publish(&shared.snapshot, Arc::new(Snapshot::empty(shared.workers.len())));
        writer.collect();
        drop(writer);
        drop(shared);
        drop(eal);
    }
}
