//! The first rule of a direction and family that matches a tuple.
#![allow(unsafe_code)]

use super::{
    Family,
    dimension::{Dimension, WORD},
    group::Groups,
    ranges::{self, Address},
    rule::{Action, Direction, Rule},
};
use crate::AddressGroupId;

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
    rules: Box<[Compiled]>,
}

/// What is left of a rule beside its dimensions.
#[derive(Clone, Copy)]
struct Compiled {
    /// In the set.
    number: u32,
    action: Action,
    /// Members only: looked up once the rule matches in every dimension.
    remote_group: Option<AddressGroupId>,
}

/// Whether the far end is in the groups that were asked for, the last answer kept: rules of one group stand together.
struct Membership<'a, A, G: ?Sized> {
    groups: &'a G,
    remote: A,
    last: Option<(AddressGroupId, bool)>,
}

impl<A: Family, G: Groups + ?Sized> Membership<'_, A, G> {
    fn has(&mut self, id: AddressGroupId) -> bool {
        match self.last {
            Some((last, is_member)) if last == id => is_member,
            _ => {
                let group = self.groups.group(id);
                let is_member = group.is_some_and(|group| group.contains(self.remote));
                self.last = Some((id, is_member));
                is_member
            }
        }
    }
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
        let (mut compiled, mut remote, mut local) = (Vec::new(), Vec::new(), Vec::new());
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
            compiled.push(Compiled {
                number: number as u32,
                action: rule.action,
                remote_group: rule.remote_group,
            });
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
            rules: compiled.into(),
        }
    }

    /// Number and action of the first rule that matches.
    #[inline]
    pub fn first_match<G: Groups + ?Sized>(&self, groups: &G, tuple: &Tuple<A>) -> Option<(Action, u32)>
    where
        A: Family,
    {
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        if counting::available() {
            // SAFETY: the processor has the instructions.
            return unsafe { counting::alone(self, groups, tuple) };
        }
        self.alone(groups, tuple)
    }

    #[inline(always)]
    fn alone<G: Groups + ?Sized>(&self, groups: &G, tuple: &Tuple<A>) -> Option<(Action, u32)>
    where
        A: Family,
    {
        let [places] = self.places([tuple; 1]);
        self.first_at(places, groups, tuple.remote)
    }

    /// As [`Self::first_match`] for several tuples; `tell` gets each one's index with the answer.
    pub fn first_matches<G: Groups + ?Sized>(
        &self,
        groups: &G,
        tuples: &[Tuple<A>],
        tell: impl FnMut(usize, Option<(Action, u32)>),
    ) where
        A: Family,
    {
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        if counting::available() {
            // SAFETY: the processor has the instructions.
            return unsafe { counting::in_steps(self, groups, tuples, tell) };
        }
        self.in_steps(groups, tuples, tell);
    }

    #[inline(always)]
    fn in_steps<G: Groups + ?Sized>(
        &self,
        groups: &G,
        tuples: &[Tuple<A>],
        mut tell: impl FnMut(usize, Option<(Action, u32)>),
    ) where
        A: Family,
    {
        let (steps, rest) = tuples.as_chunks::<STEP>();
        for (step, tuples) in steps.iter().enumerate() {
            let places = self.places(tuples.each_ref());
            for (index, (places, tuple)) in places.into_iter().zip(tuples).enumerate() {
                tell(step * STEP + index, self.first_at(places, groups, tuple.remote));
            }
        }
        for (index, tuple) in rest.iter().enumerate() {
            tell(steps.len() * STEP + index, self.alone(groups, tuple));
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

    /// The lowest rule that all dimensions have, and whose group the far end is in.
    #[inline(always)]
    fn first_at<G: Groups + ?Sized>(&self, places: Places, groups: &G, remote: A) -> Option<(Action, u32)>
    where
        A: Family,
    {
        let mut membership = Membership {
            groups,
            remote,
            last: None,
        };
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
                return self.rule(bits, 0, &mut membership);
            }
            while bits != 0 {
                let word = bits.trailing_zeros();
                let rules = self.remote.word(remote, word)
                    & self.local.word(local, word)
                    & self.protocol.word(protocol, word)
                    & self.source_port.word(source_port, word)
                    & self.destination_port.word(destination_port, word);
                let found = self.rule(rules, first + word as usize * WORD, &mut membership);
                if found.is_some() {
                    return found;
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

    /// The lowest of these rules, which begin with number `first`, whose group the far end is in.
    #[inline(always)]
    fn rule<G: Groups + ?Sized>(
        &self,
        mut bits: u64,
        first: usize,
        membership: &mut Membership<'_, A, G>,
    ) -> Option<(Action, u32)>
    where
        A: Family,
    {
        while bits != 0 {
            let rule = self.rules.get(first + bits.trailing_zeros() as usize)?;
            if rule.remote_group.is_none_or(|group| membership.has(group)) {
                return Some((rule.action, rule.number));
            }
            bits &= bits - 1;
        }
        None
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

/// The same code for processors that count bits by one instruction: a word of a dimension is found by counting those
/// before it.
#[cfg(all(target_arch = "x86_64", not(miri)))]
mod counting {
    use super::{Action, Classifier, Family, Groups, Tuple};

    #[inline(always)]
    pub(super) fn available() -> bool {
        is_x86_feature_detected!("popcnt")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2")
    }

    /// # Safety
    /// [`available`].
    #[target_feature(enable = "popcnt,bmi1,bmi2")]
    pub(super) unsafe fn alone<A: Family, G: Groups + ?Sized>(
        classifier: &Classifier<A>,
        groups: &G,
        tuple: &Tuple<A>,
    ) -> Option<(Action, u32)> {
        classifier.alone(groups, tuple)
    }

    /// # Safety
    /// [`available`].
    #[target_feature(enable = "popcnt,bmi1,bmi2")]
    pub(super) unsafe fn in_steps<A: Family, G: Groups + ?Sized>(
        classifier: &Classifier<A>,
        groups: &G,
        tuples: &[Tuple<A>],
        tell: impl FnMut(usize, Option<(Action, u32)>),
    ) {
        classifier.in_steps(groups, tuples, tell);
    }
}
