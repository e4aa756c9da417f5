//! Policies: ordered rules by which the sessions of a port are allowed, denied or rejected.
//!
//! A [`RuleSet`] is compiled once, never changes, and is shared by all ports that use it. Its rules are seen from the
//! workload behind the port: *egress* rules judge the sessions that it opens, *ingress* rules those that are opened to
//! it. The first rule that matches decides; what none matches gets the default of its direction.
//!
//! Each direction and family has a [`classifier`] of its own: the bit vectors of Lakshman and Stiliadis (SIGCOMM 1998)
//! with a summary over them (Baboescu and Varghese, SIGCOMM 2001). Each field of the tuple is looked up by itself, which
//! gives a set of rules; the lowest rule in all of these sets is the first that matches. The cost does not depend on
//! what the rules say, so nobody can write a rule set that is slow for others. Rules may name a [`group`] of addresses
//! instead of a prefix; that is looked up in the group for rules that match in all else.
//!
//! # Use
//! ```
//! use weft_table::policy::{Action, Defaults, Direction, Rule, RuleSet, Tuple};
//!
//! let https = Rule {
//!     protocol: Some(6),
//!     remote: Some("10.0.0.0/8".parse::<ipnet::IpNet>()?.into()),
//!     destination_ports: vec![443..=443],
//!     ..Rule::new(Direction::Ingress, Action::Allow)
//! };
//! let set = RuleSet::new(vec![https], Defaults { ingress: Action::Deny, egress: Action::Allow });
//! let mut session = Tuple::<u32> {
//!     remote: 0x0a01_0203,
//!     local: 0x0a00_0001,
//!     protocol: 6,
//!     source_port: 40_000,
//!     destination_port: 443,
//! };
//! assert_eq!(set.judge(&(), Direction::Ingress, &session).action, Action::Allow);
//! session.destination_port = 80;
//! assert_eq!(set.judge(&(), Direction::Ingress, &session).action, Action::Deny);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod classifier;
mod dimension;
mod group;
mod ranges;
mod rule;

use std::fmt;

use crate::AddressGroupId;

pub use classifier::Tuple;
pub use group::{AddressGroup, Groups, MEMBERS_MAX};
pub use rule::{Action, AddressBlock, Direction, Rule};

use classifier::Classifier;
use group::Spans;
use ranges::Address;

/// How many rules a set may have; what the agent lets through. A set of that size takes a few MiB, at worst 50.
pub const RULES_MAX: usize = 10_000;

/// What becomes of a session that no rule matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Defaults {
    pub ingress: Action,
    pub egress: Action,
}

impl Defaults {
    fn of(self, direction: Direction) -> Action {
        match direction {
            Direction::Ingress => self.ingress,
            Direction::Egress => self.egress,
        }
    }
}

/// What a set says to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What becomes of it.
    pub action: Action,
    /// Who said so: a rule by its number in the set, or a default, see [`RuleSet::deciders`].
    pub decider: u32,
}

/// Rules, compiled. See the [module](self).
pub struct RuleSet {
    rules: Box<[Rule]>,
    groups: Box<[AddressGroupId]>,
    defaults: Defaults,
    ingress: Classifiers,
    egress: Classifiers,
}

struct Classifiers {
    v4: Classifier<u32>,
    v6: Classifier<u128>,
}

impl Classifiers {
    fn new(rules: &[Rule], direction: Direction) -> Self {
        Classifiers {
            v4: Classifier::new(rules, direction),
            v6: Classifier::new(rules, direction),
        }
    }
}

/// An address family that sessions are judged in: `u32` and `u128`, in host order.
pub trait Family: Address {
    #[doc(hidden)]
    fn classifier(set: &RuleSet, direction: Direction) -> &Classifier<Self>;
    #[doc(hidden)]
    fn spans(group: &AddressGroup) -> &Spans<Self>;
}

impl Family for u32 {
    #[inline(always)]
    fn classifier(set: &RuleSet, direction: Direction) -> &Classifier<u32> {
        &set.classifiers(direction).v4
    }

    #[inline(always)]
    fn spans(group: &AddressGroup) -> &Spans<u32> {
        group.v4()
    }
}

impl Family for u128 {
    #[inline(always)]
    fn classifier(set: &RuleSet, direction: Direction) -> &Classifier<u128> {
        &set.classifiers(direction).v6
    }

    #[inline(always)]
    fn spans(group: &AddressGroup) -> &Spans<u128> {
        group.v6()
    }
}

impl RuleSet {
    /// Compiles rules; some milliseconds for ten thousand.
    pub fn new(rules: impl Into<Box<[Rule]>>, defaults: Defaults) -> Self {
        let rules = rules.into();
        let mut groups: Vec<_> = rules.iter().filter_map(|rule| rule.remote_group).collect();
        groups.sort_unstable();
        groups.dedup();
        RuleSet {
            groups: groups.into(),
            ingress: Classifiers::new(&rules, Direction::Ingress),
            egress: Classifiers::new(&rules, Direction::Egress),
            rules,
            defaults,
        }
    }

    /// The groups that rules name, each once.
    pub fn groups(&self) -> &[AddressGroupId] {
        &self.groups
    }

    /// The rules, in their order.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// What decides where no rule does.
    pub fn defaults(&self) -> Defaults {
        self.defaults
    }

    /// How many numbers [`Verdict::decider`] can have: one a rule, then the default of ingress and that of egress.
    pub fn deciders(&self) -> usize {
        self.rules.len() + 2
    }

    /// The number of a direction's default.
    #[inline(always)]
    pub fn default_decider(&self, direction: Direction) -> usize {
        self.rules.len() + direction as usize
    }

    /// Judges one session.
    #[inline]
    pub fn judge<A: Family>(
        &self,
        groups: &(impl Groups + ?Sized),
        direction: Direction,
        tuple: &Tuple<A>,
    ) -> Verdict {
        let found = A::classifier(self, direction).first_match(groups, tuple);
        self.verdict(direction, found)
    }

    /// Judges several sessions, whose lookups wait for memory together.
    pub fn judge_bulk<A: Family>(
        &self,
        groups: &(impl Groups + ?Sized),
        direction: Direction,
        tuples: &[Tuple<A>],
        verdicts: &mut [Verdict],
    ) {
        let classifier = A::classifier(self, direction);
        classifier.first_matches(groups, tuples, |index, found| {
            if let Some(verdict) = verdicts.get_mut(index) {
                *verdict = self.verdict(direction, found);
            }
        });
    }

    #[inline(always)]
    fn verdict(&self, direction: Direction, found: Option<(Action, u32)>) -> Verdict {
        let (action, decider) = found.unwrap_or((
            self.defaults.of(direction),
            self.default_decider(direction) as u32,
        ));
        Verdict { action, decider }
    }

    #[inline(always)]
    fn classifiers(&self, direction: Direction) -> &Classifiers {
        match direction {
            Direction::Ingress => &self.ingress,
            Direction::Egress => &self.egress,
        }
    }

    /// Memory of the compiled form, bytes.
    pub fn bytes(&self) -> usize {
        [&self.ingress, &self.egress]
            .map(|family| family.v4.bytes() + family.v6.bytes())
            .iter()
            .sum()
    }
}

/// Two sets are the same if their rules are.
impl PartialEq for RuleSet {
    fn eq(&self, other: &Self) -> bool {
        self.defaults == other.defaults && self.rules == other.rules
    }
}

impl Eq for RuleSet {}

impl fmt::Debug for RuleSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RuleSet")
            .field("rules", &self.rules)
            .field("defaults", &self.defaults)
            .finish_non_exhaustive()
    }
}
