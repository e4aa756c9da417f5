//! One field of the tuple: which rules a value of it satisfies.
//!
//! The values fall into intervals within which the same rules are satisfied. An interval is found by binary search
//! without branches, several values in step so that their loads overlap. Its rules are a bit vector: up to 64 rules it
//! is one word; more rules stand in groups of 4096, with a summary of the words that are not zero and those words alone,
//! which intervals with the same rules share.

use std::hint::select_unpredictable;

use hashbrown::HashMap;

use super::ranges::{Ranges, Value};

/// Rules that one word holds.
pub const WORD: usize = 64;
/// Rules of a group: as many words as a summary has bits.
pub const GROUP: usize = WORD * WORD;

/// The rules of an interval, of one group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// At most [`WORD`] rules in all: the rules. Else: which of the group's words are not zero.
    pub bits: u64,
    /// Where those words begin.
    first: u32,
}

/// See the module.
pub struct Dimension<T> {
    /// Smallest value of each interval, ascending from zero.
    starts: Box<[T]>,
    /// An interval's heads side by side, one a group.
    heads: Box<[Head]>,
    words: Box<[u64]>,
    groups: usize,
}

impl<T: Value> Dimension<T> {
    /// From the values that satisfy each rule.
    pub fn new(rules: &[Ranges<T>]) -> Self {
        let mut edges = edges(rules);
        edges.sort_unstable_by_key(|edge| edge.at);
        let groups = rules.len().div_ceil(GROUP).max(1);
        let mut builder = Builder {
            satisfied: vec![0; rules.len().div_ceil(WORD).max(1)],
            single: rules.len() <= WORD,
            starts: Vec::new(),
            heads: Vec::new(),
            words: Vec::new(),
            known: HashMap::new(),
        };
        let mut edges = edges.into_iter().peekable();
        let mut start = T::default();
        loop {
            while let Some(edge) = edges.next_if(|edge| edge.at == start) {
                builder.satisfied[edge.rule / WORD] ^= 1 << (edge.rule % WORD);
            }
            builder.interval(start, groups);
            match edges.peek() {
                Some(edge) => start = edge.at,
                None => break,
            }
        }
        Dimension {
            starts: builder.starts.into(),
            heads: builder.heads.into(),
            words: builder.words.into(),
            groups,
        }
    }

    /// The place of each value's interval, for [`Self::head`].
    #[inline(always)]
    pub fn find<const N: usize>(&self, values: [T; N]) -> [usize; N] {
        let starts = &*self.starts;
        let mut places = [0; N];
        let mut size = starts.len();
        while size > 1 {
            let half = size / 2;
            for (place, value) in places.iter_mut().zip(&values) {
                let middle = *place + half;
                // Which half it is cannot be guessed.
                *place = select_unpredictable(starts[middle] <= *value, middle, *place);
            }
            size -= half;
        }
        places.map(|place| place * self.groups)
    }

    /// The rules of the interval at this place, of one group.
    #[inline(always)]
    pub fn head(&self, place: usize, group: usize) -> Head {
        self.heads[place + group]
    }

    /// The group's rules in one word of 64; `bits` of the head must have that word.
    #[inline(always)]
    pub fn word(&self, head: Head, word: u32) -> u64 {
        let before = head.bits & ((1 << word) - 1);
        self.words[head.first as usize + before.count_ones() as usize]
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.starts) + size_of_val(&*self.heads) + size_of_val(&*self.words)
    }
}

/// From this value on a rule is satisfied, or no longer.
struct Edge<T> {
    at: T,
    rule: usize,
}

fn edges<T: Value>(rules: &[Ranges<T>]) -> Vec<Edge<T>> {
    let mut edges = Vec::with_capacity(2 * rules.len());
    for (rule, ranges) in rules.iter().enumerate() {
        for &(first, last) in ranges {
            edges.push(Edge { at: first, rule });
            if last < T::MAX {
                edges.push(Edge {
                    at: last.after(),
                    rule,
                });
            }
        }
    }
    edges
}

struct Builder<T> {
    /// Rules that the values at hand satisfy.
    satisfied: Vec<u64>,
    single: bool,
    starts: Vec<T>,
    heads: Vec<Head>,
    words: Vec<u64>,
    /// Where words that are there already begin.
    known: HashMap<Vec<u64>, u32>,
}

impl<T: Value> Builder<T> {
    /// Adds an interval; one with the rules of its predecessor is part of that.
    fn interval(&mut self, start: T, groups: usize) {
        let before = self.heads.len();
        if self.single {
            self.heads.push(Head {
                bits: self.satisfied[0],
                first: 0,
            });
        } else {
            let satisfied = std::mem::take(&mut self.satisfied);
            for group in satisfied.chunks(WORD) {
                let head = self.group(group);
                self.heads.push(head);
            }
            self.satisfied = satisfied;
        }
        let same = before >= groups && self.heads[before - groups..before] == self.heads[before..];
        if same {
            self.heads.truncate(before);
        } else {
            self.starts.push(start);
        }
    }

    fn group(&mut self, satisfied: &[u64]) -> Head {
        let mut bits = 0;
        let mut words = Vec::new();
        for (index, &word) in satisfied.iter().enumerate() {
            if word != 0 {
                bits |= 1 << index;
                words.push(word);
            }
        }
        let first = match self.known.get(&words) {
            Some(first) => *first,
            None => {
                let first = self.words.len() as u32;
                self.words.extend_from_slice(&words);
                self.known.insert(words, first);
                first
            }
        };
        Head { bits, first }
    }
}
