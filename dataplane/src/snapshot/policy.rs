//! A policy as the workers see it: its rules, and how often each of them decided.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use hashbrown::HashMap;
use weft_table::policy::{Direction, RuleSet};

/// See the module.
#[derive(Debug)]
pub struct Policy {
    /// The rules, shared with whoever made them.
    pub rules: Arc<RuleSet>,
    /// Sessions that each rule decided; packets where there are no sessions.
    pub hits: Hits,
    /// Which rules' decisions are written down; None: no one's.
    logs: Option<Box<[bool]>>,
}

impl Policy {
    /// A policy that has not decided anything yet.
    pub fn new(rules: Arc<RuleSet>, workers: usize) -> Self {
        let counts = vec![0; rules.deciders()];
        Policy::counting(rules, counts, workers)
    }

    fn counting(rules: Arc<RuleSet>, counts: Vec<u64>, workers: usize) -> Self {
        let logs: Box<[bool]> = rules.rules().iter().map(|rule| rule.log).collect();
        Policy {
            hits: Hits::new(counts, workers),
            logs: logs.contains(&true).then_some(logs),
            rules,
        }
    }

    /// Whether what this decider decides is written down.
    #[inline(always)]
    pub fn logs(&self, decider: u32) -> bool {
        let logs = self.logs.as_deref();
        logs.is_some_and(|logs| logs.get(decider as usize).copied().unwrap_or(false))
    }

    /// Another version of this policy: rules that are still there go on counting from where they are. What a worker
    /// counts for the old version from now on is lost, a burst's worth at most.
    pub fn replaced(&self, rules: Arc<RuleSet>, workers: usize) -> Self {
        let mut known: HashMap<_, VecDeque<usize>> = HashMap::with_capacity(self.rules.rules().len());
        for (number, rule) in self.rules.rules().iter().enumerate() {
            known.entry(rule).or_default().push_back(number);
        }
        let mut counts: Vec<u64> = Vec::with_capacity(rules.deciders());
        for rule in rules.rules() {
            let before = known.get_mut(rule).and_then(VecDeque::pop_front);
            counts.push(before.map_or(0, |number| self.hits.get(number)));
        }
        for direction in [Direction::Ingress, Direction::Egress] {
            counts.push(self.hits.get(self.rules.default_decider(direction)));
        }
        Policy::counting(rules, counts, workers)
    }
}

/// Counts of a rule set's deciders. Each worker counts for itself.
#[derive(Debug)]
pub struct Hits {
    base: Box<[u64]>,
    workers: Box<[Box<[AtomicU64]>]>,
}

impl Hits {
    /// As many as there are in `base`, from where they are there.
    pub fn new(base: Vec<u64>, workers: usize) -> Self {
        let zeros = || base.iter().map(|_| AtomicU64::new(0)).collect();
        Hits {
            workers: std::iter::repeat_with(zeros).take(workers).collect(),
            base: base.into(),
        }
    }

    /// One more, by this worker.
    #[inline(always)]
    pub fn count(&self, worker: u16, decider: u32) {
        let own = self.workers.get(usize::from(worker));
        if let Some(count) = own.and_then(|own| own.get(decider as usize)) {
            // Nobody else writes it.
            count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        }
    }

    /// One decider's count of all workers.
    pub fn get(&self, decider: usize) -> u64 {
        let counted = |own: &[AtomicU64]| own.get(decider).map_or(0, |count| count.load(Ordering::Relaxed));
        let base = self.base.get(decider).copied().unwrap_or_default();
        base + self.workers.iter().map(|own| counted(own)).sum::<u64>()
    }

    /// The counts of all deciders.
    pub fn all(&self) -> Vec<u64> {
        (0..self.base.len()).map(|decider| self.get(decider)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_table::policy::{Action, Defaults, Rule};

    fn rules(ports: &[u16]) -> Arc<RuleSet> {
        let rule = |port: &u16| Rule {
            destination_ports: vec![*port..=*port],
            ..Rule::new(Direction::Ingress, Action::Allow)
        };
        let defaults = Defaults {
            ingress: Action::Deny,
            egress: Action::Deny,
        };
        Arc::new(RuleSet::new(ports.iter().map(rule).collect::<Vec<_>>(), defaults))
    }

    #[test]
    fn rules_that_stay_keep_their_counts_wherever_they_stand() {
        let policy = Policy::new(rules(&[80, 443, 80]), 2);
        for (decider, hits) in [3, 5, 7, 11, 13].into_iter().enumerate() {
            for hit in 0..hits {
                policy.hits.count(hit % 2, decider as u32);
            }
        }
        let replaced = policy.replaced(rules(&[22, 80, 80, 80, 443]), 2);
        assert_eq!(replaced.hits.all(), [0, 3, 7, 0, 5, 11, 13]);
        replaced.hits.count(1, 4);
        assert_eq!(replaced.hits.get(4), 6);
    }
}
