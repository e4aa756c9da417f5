//! Which of its queues a worker looks at in a round: busy ones each time, but none beyond its share; idle ones now and
//! then.
//!
//! **Shares.** A burst costs its queue the cycles that it took, and those of sessions' first packets [`FIRST_PACKET`]
//! times over: established traffic goes before new sessions. Time for this purpose goes on by [`GRANT`] a round, and a
//! queue that has had more than that sits out until time has caught up with it (start-time fair queueing, Goyal, Vin
//! and Cheng 1996, with the price of a first packet as its weight). So a guest that opens sessions as fast as it can
//! takes from other guests what they leave, and a small share beyond; what it sends beyond that waits in its own ring,
//! and costs nothing. If only those have packets who sit out, time jumps: nothing is taken from anybody for nothing.
//! An uplink carries many tenants' packets and is not charged; see [`budget`](crate::pipeline::budget) for those.
//!
//! **Quiet queues.** A queue that was empty for [`EMPTY_ROUNDS`] is set aside. If its [doorbell](crate::port::doorbell)
//! can be heard, it costs nothing until it rings, but for one look after it was set aside and another now and then, in
//! case a kick got lost. The others are looked at one after the other, as many a round as it takes to see each within
//! [`LOOK_WITHIN`]. So a thousand quiet guests cost next to nothing, and a first packet does not wait long.

use std::time::Duration;

use crate::port::doorbell::{self, DoorbellId};

/// Most queues that a worker polls.
pub const MAX_QUEUES: usize = 65_536;
/// Cycles that a queue may take a round: less than a full burst of established sessions takes.
pub const GRANT: u64 = 8_192;
/// How much dearer a first packet's cycles are.
pub const FIRST_PACKET: u64 = 16;
/// Rounds without a packet after which a queue is set aside.
pub const EMPTY_ROUNDS: u8 = 8;
/// Doorbells are listened to this often, while there are busy queues.
pub const HEAR_EVERY: Duration = Duration::from_micros(50);
/// Each queue that was set aside and has no doorbell is looked at within this.
pub const LOOK_WITHIN: Duration = Duration::from_micros(150);
/// Those with a doorbell, in so many times that.
const TRUSTED_LOOKS: u8 = 128;
/// Fewer queues than that are looked at more often.
const FEW: usize = 16;
/// Looks in a round that found nothing: few, so that busy queues do not wait for the idle ones.
const LOOKS_AT_LEISURE: usize = 64;

/// What a queue had in a round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Served {
    /// Packets.
    pub packets: u64,
    /// Cycles, those of first packets at their price.
    pub cost: u64,
}

#[derive(Clone, Copy, Default)]
struct Queue {
    /// The worker's time from which on it is served.
    ready: u64,
    /// Rounds without a packet.
    empty: u8,
}

/// A queue in the order of polling.
#[derive(Clone, Copy, Default)]
struct Entry {
    place: u16,
    doorbell: Option<DoorbellId>,
    /// Its doorbell can be relied on.
    heard: bool,
    /// How often its turn to be looked at has come since it was last looked at.
    passed: u8,
}

impl Entry {
    #[inline(always)]
    fn place(&self) -> usize {
        usize::from(self.place)
    }
}

/// What is to become of a busy queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It stays.
    Stays,
    /// It is quiet: to be [set aside](Polling::set_aside).
    IsQuiet,
}

impl Queue {
    /// Time goes on in steps: who is served late by less than one has lost nothing.
    #[inline(always)]
    fn charge(&mut self, time: u64, cost: u64) {
        self.ready = self.ready.max(time.saturating_sub(GRANT)) + cost;
    }
}

/// One worker's queues, by their place in the snapshot's list.
pub struct Polling {
    /// First the busy ones, behind them those that are set aside.
    order: Box<[Entry]>,
    count: usize,
    busy: usize,
    queues: Box<[Queue]>,
    /// Where each place is in `order`.
    positions: Box<[u16]>,
    /// The place of each doorbell.
    doorbells: Box<[u16]>,
    /// The snapshot that made the list.
    since: u64,
    time: u64,
    /// The earliest `ready` of those that sat out in this round.
    earliest: Option<u64>,
    /// The next of those set aside, as a position in `order`.
    cursor: usize,
    looked: u64,
    look_within: u64,
    listened: u64,
    hear_every: u64,
}

impl Polling {
    /// With a counter of `cycles_per_second`.
    pub fn new(cycles_per_second: u64) -> Self {
        let cycles = |time: Duration| time.as_nanos() as u64 * cycles_per_second / 1_000_000_000;
        Polling {
            order: vec![Entry::default(); MAX_QUEUES].into_boxed_slice(),
            count: 0,
            busy: 0,
            queues: vec![Queue::default(); MAX_QUEUES].into_boxed_slice(),
            positions: vec![0; MAX_QUEUES].into_boxed_slice(),
            doorbells: vec![0; doorbell::MOST].into_boxed_slice(),
            since: u64::MAX,
            time: 0,
            earliest: None,
            cursor: 0,
            looked: 0,
            look_within: cycles(LOOK_WITHIN).max(1),
            listened: 0,
            hear_every: cycles(HEAR_EVERY),
        }
    }

    /// Begins a round with the list of queues that snapshot `since` made.
    #[inline]
    pub fn begin(&mut self, since: u64, doorbells: impl ExactSizeIterator<Item = Option<DoorbellId>>) {
        self.time += GRANT;
        self.earliest = None;
        if self.since != since {
            self.since = since;
            self.reset(doorbells);
        }
    }

    #[cold]
    fn reset(&mut self, doorbells: impl ExactSizeIterator<Item = Option<DoorbellId>>) {
        self.count = doorbells.len().min(MAX_QUEUES);
        self.busy = self.count;
        for (place, doorbell) in doorbells.take(MAX_QUEUES).enumerate() {
            self.order[place] = Entry {
                place: place as u16,
                doorbell,
                ..Entry::default()
            };
            self.positions[place] = place as u16;
            self.queues[place] = Queue::default();
            if let Some(doorbell) = doorbell {
                self.doorbells[doorbell.index()] = place as u16;
            }
        }
    }

    /// Is it time to listen to the doorbells? `leisure`: the last round found nothing.
    #[inline]
    pub fn listens(&mut self, now: u64, leisure: bool) -> bool {
        let time =
            self.busy < self.count && (leisure || now.saturating_sub(self.listened) >= self.hear_every);
        if time {
            self.listened = now;
        }
        time
    }

    /// This doorbell rang: its queue is busy.
    #[inline]
    pub fn rang(&mut self, doorbell: DoorbellId) {
        let position = usize::from(self.positions[usize::from(self.doorbells[doorbell.index()])]);
        // It may belong to a list of before.
        if position >= self.busy && position < self.count && self.order[position].doorbell == Some(doorbell) {
            self.wake(position);
        }
    }

    fn wake(&mut self, position: usize) {
        self.queues[self.order[position].place()].empty = 0;
        self.swap(position, self.busy);
        self.busy += 1;
    }

    #[inline(always)]
    fn swap(&mut self, one: usize, other: usize) {
        self.order.swap(one, other);
        self.positions[self.order[one].place()] = one as u16;
        self.positions[self.order[other].place()] = other as u16;
    }

    /// The busy queue at this position; None: there are no more.
    #[inline(always)]
    pub fn busy(&self, position: usize) -> Option<usize> {
        (position < self.busy).then(|| self.order[position].place())
    }

    /// May this queue be served in this round?
    #[inline(always)]
    pub fn is_due(&mut self, place: usize) -> bool {
        let ready = self.queues[place].ready;
        if ready <= self.time {
            return true;
        }
        self.earliest = Some(self.earliest.map_or(ready, |earliest| earliest.min(ready)));
        false
    }

    /// What the busy queue at `position` had. `rests`: it may be set aside.
    #[inline(always)]
    pub fn served(&mut self, position: usize, rests: bool, served: Served) -> Next {
        let queue = &mut self.queues[self.order[position].place()];
        if served.packets > 0 {
            queue.empty = 0;
            queue.charge(self.time, served.cost);
            return Next::Stays;
        }
        queue.empty = queue.empty.saturating_add(1);
        if rests && queue.empty >= EMPTY_ROUNDS {
            Next::IsQuiet
        } else {
            Next::Stays
        }
    }

    /// Sets the busy queue at `position` aside; another takes its position. `heard`: it rings if something comes.
    pub fn set_aside(&mut self, position: usize, heard: bool) {
        let entry = &mut self.order[position];
        entry.heard = heard;
        entry.passed = 0;
        self.busy -= 1;
        self.swap(position, self.busy);
    }

    /// How many of the queues that were set aside are looked at in this round. `leisure`: nothing came by the busy ones;
    /// `idle`: for long.
    #[inline]
    pub fn looks(&mut self, now: u64, leisure: bool, idle: bool) -> usize {
        let aside = self.count - self.busy;
        if aside == 0 || idle {
            self.looked = now;
            return aside;
        }
        let now = now.max(self.looked);
        let elapsed = (now - self.looked).min(self.look_within);
        let rate = aside.max(FEW) as u64;
        let due = elapsed * rate / self.look_within;
        // What is left over of a look's time counts in the next round.
        self.looked = now - (elapsed - due * self.look_within / rate);
        let leisure = if leisure { LOOKS_AT_LEISURE } else { 0 };
        leisure.max(due as usize).min(aside)
    }

    /// The next queue to look at among those set aside, if it comes within so many `looks`, which are used up.
    #[inline(always)]
    pub fn look(&mut self, looks: &mut usize) -> Option<usize> {
        while *looks > 0 {
            *looks -= 1;
            if !(self.busy..self.count).contains(&self.cursor) {
                self.cursor = self.busy;
            }
            let entry = self.order[..self.count].get_mut(self.cursor)?;
            if !entry.heard {
                return Some(entry.place());
            }
            entry.passed = entry.passed % TRUSTED_LOOKS + 1;
            if entry.passed == 1 {
                return Some(entry.place());
            }
            self.cursor += 1;
        }
        None
    }

    /// What the queue had that was looked at last; with packets it is busy again.
    #[inline(always)]
    pub fn looked(&mut self, served: Served) {
        if served.packets == 0 {
            self.cursor += 1;
            return;
        }
        self.queues[self.order[self.cursor].place()].charge(self.time, served.cost);
        // Another comes to the cursor's position, and is looked at next.
        self.wake(self.cursor);
        self.cursor = self.cursor.max(self.busy);
    }

    /// If some sat out, and nobody else had a packet: time goes on to when the first of them is due.
    #[inline]
    pub fn jump(&mut self) -> bool {
        let Some(earliest) = self.earliest.take() else {
            return false;
        };
        self.time = self.time.max(earliest);
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::port::doorbell::Doorbell;

    /// Cycles are nanoseconds.
    const HZ: u64 = 1_000_000_000;
    const WITHIN: u64 = LOOK_WITHIN.as_nanos() as u64;

    /// One round: `serve` says what a queue has. Returns what all of them had.
    fn round(
        polling: &mut Polling,
        count: usize,
        now: u64,
        rests: bool,
        mut serve: impl FnMut(usize) -> Served,
    ) -> u64 {
        polling.begin(1, vec![None; count].into_iter());
        let mut packets = busy(polling, rests, &mut serve);
        if packets == 0 && polling.jump() {
            packets = busy(polling, rests, &mut serve);
        }
        let mut looks = polling.looks(now, packets == 0, false);
        while let Some(place) = polling.look(&mut looks) {
            let served = serve(place);
            packets += served.packets;
            polling.looked(served);
        }
        packets
    }

    fn busy(polling: &mut Polling, rests: bool, mut serve: impl FnMut(usize) -> Served) -> u64 {
        let (mut packets, mut position) = (0, 0);
        while let Some(place) = polling.busy(position) {
            if !polling.is_due(place) {
                position += 1;
                continue;
            }
            let served = serve(place);
            packets += served.packets;
            match polling.served(position, rests, served) {
                Next::Stays => position += 1,
                Next::IsQuiet => polling.set_aside(position, false),
            }
        }
        packets
    }

    fn had(packets: u64, cost: u64) -> Served {
        Served { packets, cost }
    }

    proptest! {
        #[test]
        fn queues_that_always_have_packets_get_the_same_cycles(
            costs in prop::collection::vec(1_000u64..1_000_000, 2..6)
        ) {
            let mut polling = Polling::new(HZ);
            let mut cycles = vec![0; costs.len()];
            for _ in 0..20_000 {
                round(&mut polling, costs.len(), 0, true, |place| {
                    cycles[place] += costs[place];
                    had(64, costs[place])
                });
            }
            // One that costs less than the grant is served each round and cannot take more.
            let share = |place: usize| (costs[place] >= GRANT).then_some(cycles[place]);
            let shares: Vec<u64> = (0..costs.len()).filter_map(share).collect();
            for share in &shares {
                prop_assert!(share.abs_diff(shares[0]) <= shares[0] / 50, "{cycles:?} for {costs:?}");
            }
        }

        #[test]
        fn each_queue_is_looked_at_in_time_whatever_the_others_do(
            count in 1usize..300, step in 1_000u64..50_000, seed in any::<u64>()
        ) {
            let mut polling = Polling::new(HZ);
            let mut seen = vec![0u64; count];
            let mut random = seed | 1;
            for tick in 0..600u64 {
                let now = tick * step;
                round(&mut polling, count, now, true, |place| {
                    seen[place] = now;
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    // One is always busy, one in twenty now and then.
                    let has = place == 0 || (random >> 33) % 20 == 0;
                    if has { had(1, 500) } else { Served::default() }
                });
                for (place, at) in seen.iter().enumerate() {
                    // A round on either side, and looks that go to others that change their places.
                    prop_assert!(now - at <= WITHIN * 5 / 4 + 3 * step, "queue {place} at {now}: last seen at {at}");
                }
            }
        }

        #[test]
        fn a_round_serves_every_busy_queue_once(
            count in 1usize..100, rounds in prop::collection::vec(any::<u128>(), 1..60)
        ) {
            let mut polling = Polling::new(HZ);
            for (tick, bits) in rounds.iter().enumerate() {
                let mut times = vec![0; count];
                round(&mut polling, count, tick as u64 * 5_000, true, |place| {
                    times[place] += 1;
                    if bits >> (place % 128) & 1 == 1 { had(3, 10) } else { Served::default() }
                });
                prop_assert!(times.iter().all(|times| *times <= 2), "{times:?}");
                let mut places: Vec<usize> = polling.order[..count].iter().map(Entry::place).collect();
                places.sort_unstable();
                prop_assert!(places.iter().enumerate().all(|(at, place)| at == *place));
                for (position, entry) in polling.order[..count].iter().enumerate() {
                    prop_assert_eq!(usize::from(polling.positions[entry.place()]), position);
                }
            }
        }
    }

    #[test]
    fn who_takes_too_much_loses_nothing_if_nobody_else_has_packets() {
        let mut polling = Polling::new(HZ);
        let mut served = 0;
        for _ in 0..1000 {
            round(&mut polling, 3, 0, true, |place| match place {
                1 => {
                    served += 1;
                    had(64, 600_000)
                }
                _ => Served::default(),
            });
        }
        assert!(served >= 999, "served in {served} of 1000 rounds");
    }

    #[test]
    fn an_attack_takes_nothing_from_established_traffic_that_leaves_it_a_little() {
        // 13,000 cycles a full burst of 64, offered at 88 % of the worker; the attacker's bursts cost 96,000 cycles,
        // of which 80,000 are for first packets.
        let mut polling = Polling::new(HZ);
        let (mut now, mut waiting, mut most) = (0u64, 0.0, 0.0f64);
        for _ in 0..200_000 {
            let mut spent = 200;
            round(&mut polling, 2, 0, true, |place| {
                if place == 0 {
                    spent += 96_000;
                    return had(64, 96_000 + 80_000 * (FIRST_PACKET - 1));
                }
                let packets = f64::min(waiting, 64.0).floor();
                waiting -= packets;
                spent += packets as u64 * 203;
                had(packets as u64, packets as u64 * 203)
            });
            now += spent;
            waiting += spent as f64 * 0.88 / 203.0;
            most = most.max(waiting);
        }
        assert!(now > 0 && most < 1024.0, "{most} packets waited");
    }

    #[test]
    fn a_device_that_may_not_rest_is_polled_each_round() {
        let mut polling = Polling::new(HZ);
        for _ in 0..100 {
            let mut times = 0;
            round(&mut polling, 1, 0, false, |_| {
                times += 1;
                Served::default()
            });
            assert_eq!(times, 1);
        }
    }

    #[test]
    fn a_queue_that_is_heard_is_left_alone_until_it_rings() {
        let bells: Vec<Doorbell> = (0..3).map(|_| Doorbell::new().unwrap()).collect();
        let ids = || bells.iter().map(|bell| Some(bell.id()));
        let mut polling = Polling::new(HZ);
        polling.begin(1, ids().collect::<Vec<_>>().into_iter());
        for _ in 0..3 {
            polling.set_aside(0, true);
        }
        let mut asked = [0; 3];
        for _ in 0..usize::from(TRUSTED_LOOKS) {
            let mut looks = polling.looks(0, true, true);
            while let Some(place) = polling.look(&mut looks) {
                asked[place] += 1;
                polling.looked(Served::default());
            }
        }
        assert_eq!(asked, [1; 3], "once, for what came while it was set aside");
        assert_eq!(polling.busy(0), None);
        polling.rang(bells[1].id());
        assert_eq!((polling.busy(0), polling.busy(1)), (Some(1), None));
        polling.rang(bells[1].id());
        assert_eq!(polling.busy, 1, "it is busy already");
        polling.begin(2, ids().take(1).collect::<Vec<_>>().into_iter());
        polling.set_aside(0, true);
        polling.rang(bells[2].id());
        assert_eq!(polling.busy, 0, "it is another worker's now");
        polling.rang(bells[0].id());
        assert_eq!(polling.busy(0), Some(0));
    }

    #[test]
    fn a_new_list_begins_with_every_queue_busy() {
        let mut polling = Polling::new(HZ);
        for _ in 0..100 {
            round(&mut polling, 5, 0, true, |_| Served::default());
        }
        assert_eq!(polling.busy, 0);
        polling.begin(2, [None; 7].into_iter());
        assert_eq!((polling.busy, polling.count), (7, 7));
    }
}
