//! Datagrams that pass in fragments: what the first one says goes for all, those that came before it wait, and no byte
//! passes twice (RFC 791, RFC 8200 section 4.5, RFC 8900).
//!
//! Nothing is put together. A datagram is known from its first fragment that is seen, whichever it is, until all of it
//! has passed or its time is over. All memory is taken at the start. What one sender can take of it is bounded: senders
//! are told apart by a number, and each has a quarter of the room, with those whose number leaves the same remainder.

use std::{collections::VecDeque, hash::Hash, ops::Range};

use hashbrown::HashMap;

/// Parts that one datagram may have fallen into so far, those that touch counted as one.
const PARTS: usize = 16;
/// Senders are told apart by their number's remainder.
const SENDERS: usize = 64;
/// What a sender may have of all room: one part in so many.
const SHARE: usize = 4;

/// How long a datagram is remembered whose first fragment came, seconds (RFC 791).
pub const REMEMBERED: u32 = 15;
/// How long fragments wait for the first, seconds.
pub const WAITING: u32 = 2;

/// Bytes of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// First byte, and the one behind the last: at most 65,535.
    pub start: u16,
    /// See `start`.
    pub end: u16,
    /// Nothing comes behind it.
    pub is_last: bool,
}

impl Part {
    fn is_empty(&self) -> bool {
        self.start >= self.end
    }
}

/// What becomes of a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen<P> {
    /// It passes, as the first one says.
    Passes(P),
    /// The first has not come yet: it may be [held](Fragments::hold).
    Early(Place),
    /// Some of it has come before, or lies behind the datagram's end; or there is nothing in it.
    Overlaps,
    /// The sender has too many datagrams under way, or this one is in too many parts.
    TooMany,
}

/// A datagram, for the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(u16);

/// Datagrams named by `K`, of which the first fragment says `P`; `T` are fragments that wait.
pub struct Fragments<K, P, T> {
    datagrams: Vec<Option<Datagram<K, P>>>,
    free: Vec<u16>,
    places: HashMap<K, u16>,
    waiting: Vec<Waiting<T>>,
    free_waiting: Vec<u16>,
    /// What each sender has: datagrams, and fragments that wait.
    taken: [[u16; 2]; SENDERS],
    released: VecDeque<(P, T)>,
    /// When was last looked for what is out of time.
    looked: u32,
}

struct Datagram<K, P> {
    key: K,
    sender: u8,
    /// Second at which the first of it was seen.
    since: u32,
    first: Option<P>,
    /// Where it ends, once that is known.
    end: Option<u16>,
    /// What came, in order; parts that touch are one.
    parts: [(u16, u16); PARTS],
    parts_count: usize,
    /// The fragments that wait: the first and the last of a list.
    held: Option<(u16, u16)>,
}

struct Waiting<T> {
    fragment: Option<T>,
    next: Option<u16>,
}

impl<K: Copy + Eq + Hash, P: Copy, T> Fragments<K, P, T> {
    /// Room for so many datagrams, and for so many fragments that wait (65,535 of either at most).
    pub fn new(datagrams: u16, waiting: u16) -> Self {
        let mut places = HashMap::new();
        // Twice as many, so that removals never have it grow.
        places.reserve(2 * usize::from(datagrams));
        let nobody = || Waiting {
            fragment: None,
            next: None,
        };
        Fragments {
            datagrams: std::iter::repeat_with(|| None).take(datagrams.into()).collect(),
            free: (0..datagrams).rev().collect(),
            places,
            waiting: std::iter::repeat_with(nobody).take(waiting.into()).collect(),
            free_waiting: (0..waiting).rev().collect(),
            taken: [[0; 2]; SENDERS],
            released: VecDeque::with_capacity(waiting.into()),
            looked: 0,
        }
    }

    /// A fragment came in second `now`; `first` is what the first fragment of a datagram says.
    pub fn see(&mut self, key: K, sender: u32, part: Part, first: Option<P>, now: u32) -> Seen<P> {
        let sender = (sender as usize % SENDERS) as u8;
        let place = match self.places.get(&key) {
            Some(place) => *place,
            None => match self.begin(key, sender, now) {
                Some(place) => place,
                None => return Seen::TooMany,
            },
        };
        let Some(datagram) = &mut self.datagrams[usize::from(place)] else {
            return Seen::TooMany;
        };
        if part.is_empty()
            || datagram
                .end
                .is_some_and(|end| part.end > end || (part.is_last && part.end != end))
            || (part.is_last && datagram.parts().last().is_some_and(|(_, end)| *end > part.end))
        {
            return Seen::Overlaps;
        }
        match datagram.add(part.start..part.end) {
            Added::Done => {}
            Added::Overlaps => return Seen::Overlaps,
            Added::TooManyParts => return Seen::TooMany,
        }
        if part.is_last {
            datagram.end = Some(part.end);
        }
        if let Some(first) = first {
            datagram.first = Some(first);
            let held = datagram.held.take();
            self.release(place, held, first);
        }
        match self.datagrams[usize::from(place)].as_ref() {
            Some(Datagram {
                first: Some(first), ..
            }) => {
                let first = *first;
                self.forget_if_whole(place);
                Seen::Passes(first)
            }
            _ => Seen::Early(Place(place)),
        }
    }

    /// Keeps a fragment until the first of its datagram comes. It comes back if there is no room.
    pub fn hold(&mut self, place: Place, fragment: T) -> Result<(), T> {
        let limit = self.waiting.len() / SHARE;
        let Some(datagram) = self
            .datagrams
            .get_mut(usize::from(place.0))
            .and_then(Option::as_mut)
        else {
            return Err(fragment);
        };
        let taken = &mut self.taken[usize::from(datagram.sender)][1];
        if usize::from(*taken) >= limit {
            return Err(fragment);
        }
        let Some(number) = self.free_waiting.pop() else {
            return Err(fragment);
        };
        *taken += 1;
        self.waiting[usize::from(number)] = Waiting {
            fragment: Some(fragment),
            next: None,
        };
        datagram.held = match datagram.held {
            None => Some((number, number)),
            Some((head, tail)) => {
                self.waiting[usize::from(tail)].next = Some(number);
                Some((head, number))
            }
        };
        Ok(())
    }

    /// A fragment that waited and waits no more, with what the first one says.
    #[inline(always)]
    pub fn released(&mut self) -> Option<(P, T)> {
        self.released.pop_front()
    }

    /// Forgets the datagrams whose time is over, and gives back what waited for their first fragments. Looks once a second.
    #[inline]
    pub fn expire(&mut self, now: u32, lost: impl FnMut(T)) {
        if self.looked != now {
            self.looked = now;
            self.look(now, lost);
        }
    }

    fn look(&mut self, now: u32, mut lost: impl FnMut(T)) {
        if self.places.is_empty() {
            return;
        }
        for place in 0..self.datagrams.len() {
            let Some(datagram) = &mut self.datagrams[place] else {
                continue;
            };
            let time = if datagram.first.is_some() {
                REMEMBERED
            } else {
                WAITING
            };
            if now.saturating_sub(datagram.since) <= time {
                continue;
            }
            let (sender, mut held) = (datagram.sender, datagram.held.take().map(|(head, _)| head));
            while let Some(number) = held {
                let (fragment, next) = self.give_back(number, sender);
                fragment.into_iter().for_each(&mut lost);
                held = next;
            }
            self.forget(place as u16);
        }
    }

    /// How many datagrams are under way.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// None is.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    fn begin(&mut self, key: K, sender: u8, now: u32) -> Option<u16> {
        let taken = &mut self.taken[usize::from(sender)][0];
        if usize::from(*taken) >= self.datagrams.len() / SHARE {
            return None;
        }
        let place = self.free.pop()?;
        *taken += 1;
        self.places.insert(key, place);
        self.datagrams[usize::from(place)] = Some(Datagram {
            key,
            sender,
            since: now,
            first: None,
            end: None,
            parts: [(0, 0); PARTS],
            parts_count: 0,
            held: None,
        });
        Some(place)
    }

    fn release(&mut self, place: u16, held: Option<(u16, u16)>, first: P) {
        let Some(sender) = self.datagrams[usize::from(place)]
            .as_ref()
            .map(|datagram| datagram.sender)
        else {
            return;
        };
        let mut held = held.map(|(head, _)| head);
        while let Some(number) = held {
            let (fragment, next) = self.give_back(number, sender);
            self.released.extend(fragment.map(|fragment| (first, fragment)));
            held = next;
        }
    }

    /// Frees the place of a fragment that waited; the fragment, and the place of the next.
    fn give_back(&mut self, number: u16, sender: u8) -> (Option<T>, Option<u16>) {
        let waiting = &mut self.waiting[usize::from(number)];
        let (fragment, next) = (waiting.fragment.take(), waiting.next.take());
        self.free_waiting.push(number);
        self.taken[usize::from(sender)][1] -= 1;
        (fragment, next)
    }

    fn forget_if_whole(&mut self, place: u16) {
        let is_whole = |datagram: &Datagram<K, P>| match (datagram.parts(), datagram.end) {
            ([(0, end)], Some(last)) => *end == last,
            _ => false,
        };
        if self.datagrams[usize::from(place)].as_ref().is_some_and(is_whole) {
            self.forget(place);
        }
    }

    fn forget(&mut self, place: u16) {
        if let Some(datagram) = self.datagrams[usize::from(place)].take() {
            self.places.remove(&datagram.key);
            self.taken[usize::from(datagram.sender)][0] -= 1;
            self.free.push(place);
        }
    }
}

enum Added {
    Done,
    Overlaps,
    TooManyParts,
}

impl<K, P> Datagram<K, P> {
    fn parts(&self) -> &[(u16, u16)] {
        &self.parts[..self.parts_count]
    }

    /// Notes that these bytes came.
    fn add(&mut self, new: Range<u16>) -> Added {
        let behind = self.parts().partition_point(|(start, _)| *start < new.start);
        let before = behind.checked_sub(1).map(|index| self.parts[index]);
        let next = self.parts().get(behind).copied();
        if before.is_some_and(|(_, end)| end > new.start) || next.is_some_and(|(start, _)| start < new.end) {
            return Added::Overlaps;
        }
        let touches_before = before.is_some_and(|(_, end)| end == new.start);
        let touches_next = next.is_some_and(|(start, _)| start == new.end);
        match (touches_before, touches_next) {
            (true, true) => {
                self.parts[behind - 1].1 = self.parts[behind].1;
                self.parts.copy_within(behind + 1..self.parts_count, behind);
                self.parts_count -= 1;
            }
            (true, false) => self.parts[behind - 1].1 = new.end,
            (false, true) => self.parts[behind].0 = new.start,
            (false, false) if self.parts_count == PARTS => return Added::TooManyParts,
            (false, false) => {
                self.parts.copy_within(behind..self.parts_count, behind + 1);
                self.parts[behind] = (new.start, new.end);
                self.parts_count += 1;
            }
        }
        Added::Done
    }
}
