//! The policies of a port as one: what the data plane judges by, and whose rule each of its rules is.
//!
//! They are read one after the other: the rules of a policy, then its default if it states one, then the next policy. What
//! none of them decides is denied.

use weft_table::{
    AddressGroupId, PolicyId,
    policy::{Action, Defaults, Direction, RULES_MAX, Rule, RuleSet},
};

use super::{
    Reconciler,
    graph::{Graph, Identity, Node},
};
use crate::model::{FieldError, Kind, Name, Policy, Port, Spec};

/// Who decides: a part of one of the policies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decider {
    /// The policy.
    pub policy: Name,
    /// Which part of it.
    pub part: Part,
}

/// A part of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// A rule, by its place.
    Rule(usize),
    /// What is said to sessions that no rule matches.
    Default(Direction),
}

/// Policies, composed.
pub struct Composed {
    rules: Vec<Rule>,
    defaults: Defaults,
    /// In the order of [`RuleSet::deciders`].
    deciders: Vec<Decider>,
}

impl Composed {
    /// For the data plane.
    pub fn compile(self) -> RuleSet {
        RuleSet::new(self.rules, self.defaults)
    }
}

/// The policies with these names as one; None: one of them, or a group that they name, does not exist.
pub fn compose(graph: &Graph, names: &[Name]) -> Option<Composed> {
    let mut composed = Composed {
        rules: Vec::new(),
        defaults: Defaults {
            ingress: Action::Deny,
            egress: Action::Deny,
        },
        deciders: Vec::new(),
    };
    let last = names.last()?;
    let (mut ingress, mut egress) = (None, None);
    for name in names {
        let policy = policy(graph, name)?;
        for (place, rule) in policy.rules.iter().enumerate() {
            let decided = match rule.rule.direction {
                Direction::Ingress => &ingress,
                Direction::Egress => &egress,
            };
            // A policy before has said what becomes of all that is left.
            if decided.is_none() {
                composed.rules.push(Rule {
                    remote_group: match &rule.remote_group {
                        Some(group) => Some(number_of_group(graph, group)?),
                        None => None,
                    },
                    ..rule.rule.clone()
                });
                composed.deciders.push(Decider {
                    policy: name.clone(),
                    part: Part::Rule(place),
                });
            }
        }
        for (direction, decided) in [
            (Direction::Ingress, &mut ingress),
            (Direction::Egress, &mut egress),
        ] {
            if let Some(action) = policy.default_of(direction).filter(|_| decided.is_none()) {
                *decided = Some((name, action));
            }
        }
    }
    for (direction, decided) in [(Direction::Ingress, ingress), (Direction::Egress, egress)] {
        let (name, action) = decided.unwrap_or((last, Action::Deny));
        match direction {
            Direction::Ingress => composed.defaults.ingress = action,
            Direction::Egress => composed.defaults.egress = action,
        }
        composed.deciders.push(Decider {
            policy: name.clone(),
            part: Part::Default(direction),
        });
    }
    Some(composed)
}

fn policy<'a>(graph: &'a Graph, name: &Name) -> Option<&'a Policy> {
    let node = graph.find(Kind::Policy, name)?;
    match graph[node].spec() {
        Some(Spec::Policy(policy)) => Some(policy),
        _ => None,
    }
}

fn number_of_group(graph: &Graph, name: &Name) -> Option<AddressGroupId> {
    let node = graph.find(Kind::AddressGroup, name)?;
    graph[node].number.map(AddressGroupId)
}

/// How many rules these policies have together, as far as they exist.
fn rules_of(graph: &Graph, names: &[Name]) -> usize {
    let rules = |name| policy(graph, name).map_or(0, |policy| policy.rules.len());
    names.iter().map(rules).sum()
}

impl Reconciler {
    /// Whose each decider of the data plane's policies is, in their order. `name`: only those with this policy.
    pub fn deciders(&self, name: Option<&Name>) -> Vec<(PolicyId, Vec<Decider>)> {
        let sets = self.graph.iter().filter_map(|(_, node)| match &node.identity {
            Identity::PolicySet(names) if node.active => Some((PolicyId(node.number?), names)),
            _ => None,
        });
        let wanted = sets.filter(|(_, names)| name.is_none_or(|name| names.contains(name)));
        wanted
            .filter_map(|(id, names)| Some((id, compose(&self.graph, names)?.deciders)))
            .collect()
    }

    /// How many rules each policy has. `name`: only this one.
    pub fn policies(&self, name: Option<&Name>) -> Vec<(Name, usize)> {
        let policies = self.objects().filter_map(|(_, key, held)| match &held.spec {
            Spec::Policy(policy) => Some((key.name.clone(), policy.rules.len())),
            _ => None,
        });
        let mut policies: Vec<_> = policies
            .filter(|(known, _)| name.is_none_or(|name| name == known))
            .collect();
        policies.sort();
        policies
    }

    /// The policies of a port have no more rules together than the data plane judges by.
    pub(super) fn check_policies(&self, node: &Node, port: &Port) -> Result<(), FieldError> {
        let rules = rules_of(&self.graph, &port.policies);
        if rules <= RULES_MAX || node.needs.is_empty() {
            return Ok(());
        }
        Err(FieldError::new(
            "port.policies",
            format!("they have {rules} rules together"),
            format!("at most {RULES_MAX} are possible; name fewer policies"),
        ))
    }

    /// A policy that grows must leave room for the others of those ports that have it.
    pub(super) fn check_policy(&self, node: &Node, policy: &Policy) -> Result<(), FieldError> {
        for user in node.users.iter() {
            let Identity::PolicySet(names) = &self.graph[user].identity else {
                continue;
            };
            let rules = rules_of(&self.graph, names);
            if rules > RULES_MAX {
                let own = policy.rules.len();
                return Err(FieldError::new(
                    "policy.rules",
                    format!(
                        "there are {own} rules, and with the port's other policies ({}) {rules}",
                        names.join(", ")
                    ),
                    format!("at most {RULES_MAX} are possible for one port"),
                ));
            }
        }
        Ok(())
    }
}
