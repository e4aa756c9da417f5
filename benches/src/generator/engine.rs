//! The loop: one core sends what is due and counts what comes back.

use std::sync::mpsc::{Receiver, SyncSender, TryRecvError};

use weft_dataplane::{
    dpdk::{Batch, Mempool, clock},
    port::Driver,
};

use super::{
    frame::{self, Frame, FrameError},
    pace::Pace,
    protocol::{Reply, Request},
    report::{Latencies, Report, StreamReport},
    stamp::Stamp,
    stream::Stream,
    tuple::Sessions,
};

/// Most packets that a stream sends a round: what comes back is looked at in between.
const SEND: usize = 32;
/// Rounds between two looks for a request.
const LISTEN_EVERY: u32 = 64;

/// A stream that is being sent.
struct Sender {
    device: usize,
    frames: Vec<Frame>,
    sessions: Sessions,
    pace: Pace,
    /// Number of the next packet.
    next: u64,
    /// The stream ends before this one.
    end: u64,
    offered: u64,
    refused: u64,
    first: Option<u64>,
    last: u64,
}

/// What came back of it.
#[derive(Default)]
struct Arrivals {
    received: u64,
    out_of_order: u64,
    highest: u32,
    latencies: Latencies,
}

/// See the module.
pub struct Engine {
    devices: Vec<Driver>,
    pool: Mempool,
    senders: Vec<Sender>,
    arrivals: Vec<Arrivals>,
    foreign: u64,
    run: u8,
    began: u64,
}

impl Engine {
    /// Over these devices, with buffers of this pool.
    pub fn new(devices: Vec<Driver>, pool: Mempool) -> Self {
        Engine {
            devices,
            pool,
            senders: Vec::new(),
            arrivals: Vec::new(),
            foreign: 0,
            run: 0,
            began: clock::now(),
        }
    }

    /// Sends, receives and answers until nobody asks any more.
    pub fn run(mut self, requests: &Receiver<Request>, replies: &SyncSender<Reply>) {
        let mut batch = Batch::new();
        let mut rounds = 0u32;
        loop {
            for index in 0..self.senders.len() {
                self.send(index, &mut batch);
            }
            for device in 0..self.devices.len() {
                self.receive(device, &mut batch);
            }
            rounds = rounds.wrapping_add(1);
            if rounds.is_multiple_of(LISTEN_EVERY) {
                match requests.try_recv() {
                    Ok(request) => {
                        let reply = self.answer(request);
                        if replies.send(reply).is_err() {
                            return;
                        }
                    }
                    Err(TryRecvError::Empty) => {}
                    Err(TryRecvError::Disconnected) => return,
                }
            }
        }
    }

    #[inline]
    fn send(&mut self, index: usize, batch: &mut Batch) {
        let sender = &mut self.senders[index];
        let now = clock::now();
        let most = (sender.end - sender.next).min(SEND as u64) as usize;
        let due = sender.pace.due(now, most);
        if due == 0 {
            return;
        }
        let made = self.pool.allocate_bulk(batch, due);
        for (number, mbuf) in (sender.next..).zip(batch.iter_mut()) {
            let (tuple, act) = sender.sessions.packet(number);
            let frame = &sender.frames[number as usize % sender.frames.len()];
            let Some(bytes) = mbuf.append(frame.length()) else {
                continue;
            };
            frame.write(bytes, tuple, act);
            let stamp = Stamp {
                run: self.run,
                stream: index as u8,
                sequence: number as u32,
                time: now,
            };
            stamp.write(bytes);
            frame.finish(bytes, tuple);
        }
        let taken = self.devices[sender.device].transmit(0, batch);
        batch.free_all();
        if taken > 0 {
            sender.first.get_or_insert(now);
            sender.last = clock::now();
        }
        if sender.pace.waits_for_the_device() {
            // What was not taken is made again.
            sender.next += taken as u64;
            sender.offered += taken as u64;
        } else {
            // An empty pool is the device's fault too: it holds the buffers.
            sender.next += due as u64;
            sender.offered += due as u64;
            sender.refused += (due - taken.min(made)) as u64;
        }
    }

    #[inline]
    fn receive(&mut self, device: usize, batch: &mut Batch) {
        if self.devices[device].receive(0, batch) == 0 {
            return;
        }
        let now = clock::now();
        for (position, mbuf) in batch.iter().enumerate() {
            if let Some(ahead) = batch.as_slice().get(position + 4) {
                ahead.prefetch_data();
            }
            let stamp = Stamp::read(mbuf.data()).filter(|stamp| stamp.run == self.run);
            let known = stamp.and_then(|stamp| {
                let arrivals = self.arrivals.get_mut(usize::from(stamp.stream))?;
                Some((stamp, arrivals))
            });
            let Some((stamp, arrivals)) = known else {
                self.foreign += 1;
                continue;
            };
            arrivals.received += 1;
            arrivals.latencies.record(now.saturating_sub(stamp.time));
            // Numbers go round: the half before the highest is behind it.
            if stamp.sequence.wrapping_sub(arrivals.highest) < 1 << 31 {
                arrivals.highest = stamp.sequence;
            } else {
                arrivals.out_of_order += 1;
            }
        }
        self.answer_neighbours(device, batch);
        batch.free_all();
    }

    /// Whoever asks for a neighbour finds one here.
    fn answer_neighbours(&self, device: usize, batch: &Batch) {
        let mut answers = Batch::new();
        for mbuf in batch.iter() {
            if mbuf.data().get(12..14) != Some(&[0x08, 0x06]) {
                continue;
            }
            let answer = frame::arp_answer(mbuf.data(), frame::own_mac(device as u8));
            let (Some(answer), Some(mut mbuf)) = (answer, self.pool.allocate()) else {
                continue;
            };
            if let Some(bytes) = mbuf.append(answer.len()) {
                bytes.copy_from_slice(&answer);
                // Without room it is asked again.
                let _ = answers.push(mbuf);
            }
        }
        if !answers.is_empty() {
            self.devices[device].transmit(0, &mut answers);
        }
    }

    fn answer(&mut self, request: Request) -> Reply {
        match request {
            Request::Start(streams) => match self.start(&streams) {
                Ok(()) => Reply::Done,
                Err(reason) => Reply::Refused(reason),
            },
            Request::Rate { stream, rate } => match self.senders.get_mut(stream) {
                Some(sender) => {
                    sender.pace.change(rate, clock::now());
                    Reply::Done
                }
                None => Reply::Refused(format!("there is no stream {stream}")),
            },
            Request::Pause => {
                for sender in &mut self.senders {
                    sender.end = sender.next;
                }
                Reply::Done
            }
            Request::Clear => {
                self.clear();
                Reply::Done
            }
            Request::Read => Reply::Report(self.report()),
        }
    }

    fn start(&mut self, streams: &[Stream]) -> Result<(), String> {
        if streams.len() > usize::from(u8::MAX) {
            return Err(format!("{} streams: 255 at most", streams.len()));
        }
        let senders: Result<Vec<Sender>, String> = streams
            .iter()
            .enumerate()
            .map(|(index, stream)| {
                if stream.device >= self.devices.len() {
                    return Err(format!("stream {index}: there is no device {}", stream.device));
                }
                Sender::new(stream).map_err(|error| format!("stream {index}: {error}"))
            })
            .collect();
        self.senders = senders?;
        self.arrivals = streams.iter().map(|_| Arrivals::default()).collect();
        self.run = self.run.wrapping_add(1);
        self.clear();
        Ok(())
    }

    fn clear(&mut self) {
        self.began = clock::now();
        self.foreign = 0;
        for sender in &mut self.senders {
            sender.offered = 0;
            sender.refused = 0;
            sender.pace.skipped = 0;
            sender.first = None;
        }
        for arrivals in &mut self.arrivals {
            arrivals.received = 0;
            arrivals.out_of_order = 0;
            arrivals.latencies.clear();
        }
    }

    fn report(&self) -> Report {
        let hz = clock::hz();
        let seconds = |cycles: u64| cycles as f64 / hz as f64;
        let streams = self.senders.iter().zip(&self.arrivals);
        Report {
            elapsed: seconds(clock::now() - self.began),
            streams: streams
                .map(|(sender, arrivals)| StreamReport {
                    offered: sender.offered,
                    refused: sender.refused,
                    skipped: sender.pace.skipped,
                    received: arrivals.received,
                    out_of_order: arrivals.out_of_order,
                    sending: sender.first.map_or(0.0, |first| seconds(sender.last - first)),
                    latency: arrivals.latencies.percentiles(hz),
                })
                .collect(),
            foreign: self.foreign,
        }
    }
}

impl Sender {
    fn new(stream: &Stream) -> Result<Self, FrameError> {
        let sessions = Sessions::new(stream.space, stream.sessions, stream.life, stream.reversed);
        Ok(Sender {
            device: stream.device,
            frames: Frame::all(&stream.frames, sessions.is_tcp())?,
            sessions,
            pace: Pace::new(stream.rate, clock::hz(), clock::now()),
            next: 0,
            end: stream.packets.unwrap_or(u64::MAX),
            offered: 0,
            refused: 0,
            first: None,
            last: 0,
        })
    }
}
