//! The first rule of a direction and family that matches a tuple.

use super::{
    dimension::{Dimension, WORD},
    ranges::{self, Address},
    rule::{Action, Direction, Rule},
};

/// Tuples that are looked up in step.
const STEP: usize = 8;

/// A session as a rule sees it, by its first packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tuple<A> {
    /// The far end.
    pub remote: A,
    /// The workload's end.
    pub local: A,
    /// IP protocol number.
    pub protocol: u8,
    /// 0 where the protocol has none.
    pub source_port: u16,
    /// 0 where the protocol has none; ICMP: type in the high byte, code in the low one.
    pub destination_port: u16,
}

/// See the module.
pub struct Classifier<A> {
    remote: Dimension<A>,
    local: Dimension<A>,
    protocol: Dimension<u8>,
    source_port: Dimension<u16>,
    destination_port: Dimension<u16>,
    /// Number in the set and action of each rule.
    rules: Box<[(u32, Action)]>,
}

/// Places of a tuple's intervals in each dimension.
#[derive(Clone, Copy)]
struct Places {
    remote: usize,
    local: usize,
    protocol: usize,
    source_port: usize,
    destination_port: usize,
}

impl<A: Address> Classifier<A> {
    /// Of the rules of this direction and family.
    pub fn new(rules: &[Rule], direction: Direction) -> Self {
        let (mut numbers, mut remote, mut local) = (Vec::new(), Vec::new(), Vec::new());
        let (mut protocol, mut source_port, mut destination_port) = (Vec::new(), Vec::new(), Vec::new());
        for (number, rule) in rules.iter().enumerate() {
            if rule.direction != direction {
                continue;
            }
            let addresses = (
                ranges::of_block(rule.remote.as_ref()),
                ranges::of_block(rule.local.as_ref()),
            );
            let (Some(far), Some(near)) = addresses else {
                continue;
            };
            numbers.push((number as u32, rule.action));
            remote.push(far);
            local.push(near);
            protocol.push(match rule.protocol {
                Some(protocol) => vec![(protocol, protocol)],
                None => ranges::any(),
            });
            source_port.push(ranges::of_ports(&rule.source_ports));
            destination_port.push(ranges::of_ports(&rule.destination_ports));
        }
        Classifier {
            remote: Dimension::new(&remote),
            local: Dimension::new(&local),
            protocol: Dimension::new(&protocol),
            source_port: Dimension::new(&source_port),
            destination_port: Dimension::new(&destination_port),
            rules: numbers.into(),
        }
    }

    /// Number and action of the first rule that matches.
    #[inline]
    pub fn first_match(&self, tuple: &Tuple<A>) -> Option<(Action, u32)> {
        let [places] = self.places([tuple; 1]);
        self.first_at(places)
    }

    /// As [`Self::first_match`] for several tuples; `tell` gets each one's index with the answer.
    pub fn first_matches(&self, tuples: &[Tuple<A>], mut tell: impl FnMut(usize, Option<(Action, u32)>)) {
        let (steps, rest) = tuples.as_chunks::<STEP>();
        for (step, tuples) in steps.iter().enumerate() {
            let places = self.places(tuples.each_ref());
            for (index, places) in places.into_iter().enumerate() {
                tell(step * STEP + index, self.first_at(places));
            }
        }
        for (index, tuple) in rest.iter().enumerate() {
            tell(steps.len() * STEP + index, self.first_match(tuple));
        }
    }

    #[inline(always)]
    fn places<const N: usize>(&self, tuples: [&Tuple<A>; N]) -> [Places; N] {
        let remote = self.remote.find(tuples.map(|tuple| tuple.remote));
        let local = self.local.find(tuples.map(|tuple| tuple.local));
        let protocol = self.protocol.find(tuples.map(|tuple| tuple.protocol));
        let source_port = self.source_port.find(tuples.map(|tuple| tuple.source_port));
        let destination_port = self
            .destination_port
            .find(tuples.map(|tuple| tuple.destination_port));
        std::array::from_fn(|index| Places {
            remote: remote[index],
            local: local[index],
            protocol: protocol[index],
            source_port: source_port[index],
            destination_port: destination_port[index],
        })
    }

    /// The lowest rule that all dimensions have.
    #[inline(always)]
    fn first_at(&self, places: Places) -> Option<(Action, u32)> {
        let mut group = 0;
        let mut first = 0;
        loop {
            let remote = self.remote.head(places.remote, group);
            let local = self.local.head(places.local, group);
            let protocol = self.protocol.head(places.protocol, group);
            let source_port = self.source_port.head(places.source_port, group);
            let destination_port = self.destination_port.head(places.destination_port, group);
            let mut bits =
                remote.bits & local.bits & protocol.bits & source_port.bits & destination_port.bits;
            if self.rules.len() <= WORD {
                return self.rule(bits, 0);
            }
            while bits != 0 {
                let word = bits.trailing_zeros();
                let rules = self.remote.word(remote, word)
                    & self.local.word(local, word)
                    & self.protocol.word(protocol, word)
                    & self.source_port.word(source_port, word)
                    & self.destination_port.word(destination_port, word);
                if rules != 0 {
                    return self.rule(rules, first + word as usize * WORD);
                }
                bits &= bits - 1;
            }
            group += 1;
            first += WORD * WORD;
            if first >= self.rules.len() {
                return None;
            }
        }
    }

    /// The lowest of these rules, which begin with number `first`.
    #[inline(always)]
    fn rule(&self, bits: u64, first: usize) -> Option<(Action, u32)> {
        if bits == 0 {
            return None;
        }
        let (number, action) = *self.rules.get(first + bits.trailing_zeros() as usize)?;
        Some((action, number))
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        self.remote.bytes()
            + self.local.bytes()
            + self.protocol.bytes()
            + self.source_port.bytes()
            + self.destination_port.bytes()
            + size_of_val(&*self.rules)
    }
}
