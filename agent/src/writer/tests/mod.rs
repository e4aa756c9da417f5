//! The transactions against the model of a data plane.

mod conflicts;
mod failures;
mod nat;
mod order;
mod policies;
mod random;
mod services;

use std::{collections::BTreeMap, sync::Arc};

use ipnet::IpNet;
use weft_dataplane::change::{NextHopSpec, PortPolicy, PortSpec};
use weft_proto::v1;
use weft_table::VrfId;

use super::{Answer, Batch, Core, Filter, Verdict};
use crate::{
    engine::memory::{MemoryEngine, Tables},
    model::{Key, Kind, Object},
    reconciler::{Outcome, State, Stored},
    store::Store,
    testing::*,
};

/// A weftd without its server.
pub struct World {
    pub core: Core,
    pub engine: Arc<MemoryEngine>,
}

impl World {
    pub fn new() -> Self {
        Self::restored(Store::in_memory(), Arc::default())
    }

    pub fn restored(store: Store, engine: Arc<MemoryEngine>) -> Self {
        let core = Core::restore(store, engine.clone(), 2).unwrap();
        World { core, engine }
    }

    pub fn try_apply(&mut self, owner: &str, objects: &[v1::Object], deletes: &[Key]) -> Answer {
        let batch = Batch {
            owner: owner.into(),
            revision: 0,
            puts: objects.iter().map(Object::from_proto).collect(),
            deletes: deletes.iter().cloned().map(Ok).collect(),
            dry_run: false,
        };
        self.core.apply(batch).unwrap()
    }

    /// Applies as owner "o", which must succeed; the outcomes.
    pub fn apply(&mut self, objects: &[v1::Object]) -> Vec<Outcome> {
        self.change(objects, &[])
    }

    pub fn change(&mut self, objects: &[v1::Object], deletes: &[Key]) -> Vec<Outcome> {
        let outcome = |verdict: &Verdict| match verdict {
            Verdict::Done { outcome, .. } => *outcome,
            other => panic!("{other:?}"),
        };
        self.try_apply("o", objects, deletes)
            .verdicts
            .iter()
            .map(outcome)
            .collect()
    }

    /// Applies as owner "o", which must be refused, and must change nothing; the errors, one a line.
    pub fn refused(&mut self, objects: &[v1::Object]) -> String {
        self.refused_change("o", objects, &[])
    }

    pub fn refused_change(&mut self, owner: &str, objects: &[v1::Object], deletes: &[Key]) -> String {
        let before = (self.engine.tables(), self.stored());
        let answer = self.try_apply(owner, objects, deletes);
        assert!(
            (self.engine.tables(), self.stored()) == before,
            "a refused batch changed something"
        );
        let text = |verdict: &Verdict| match verdict {
            Verdict::Refused(error) => Some(format!("{error}\n  help: {}", error.help)),
            Verdict::NotTried => None,
            Verdict::Done { .. } => panic!("taken although another one was refused"),
        };
        let errors: Vec<String> = answer.verdicts.iter().filter_map(text).collect();
        assert!(!errors.is_empty(), "nothing was refused: {:?}", answer.verdicts);
        errors.join("\n")
    }

    pub fn stored(&self) -> Vec<Stored> {
        self.core.store.load().unwrap().objects
    }

    pub fn status(&self, kind: Kind, name: &str) -> (State, String) {
        let filter = Filter {
            kind: Some(kind),
            name: Some(name.into()),
            owner: None,
        };
        let view = self
            .core
            .get(&filter)
            .pop()
            .unwrap_or_else(|| panic!("no {kind} {name}"));
        (view.status.state, view.status.message)
    }

    pub fn routes(&self) -> BTreeMap<(VrfId, IpNet), NextHopSpec> {
        let tables = self.engine.tables();
        tables
            .routes
            .iter()
            .map(|(route, hop)| (*route, tables.next_hops[hop].clone()))
            .collect()
    }
}

pub fn key(kind: Kind, name: &str) -> Key {
    Key::new(kind, name)
}

/// The tables with next hops, policies and address groups in place of their numbers, which a restart deals anew.
pub fn by_value(tables: &Tables) -> impl PartialEq + std::fmt::Debug + use<> {
    let resolve = |hop: &weft_table::NextHopId| match &tables.next_hops[hop] {
        NextHopSpec::Group(members) => {
            let member = |m: &weft_dataplane::change::MemberSpec| {
                format!("{} {} {:?}", m.id, m.weight, tables.next_hops[&m.next_hop])
            };
            members.iter().map(member).collect::<Vec<_>>().join(", ")
        }
        hop => format!("{hop:?}"),
    };
    let routes: BTreeMap<_, _> = tables
        .routes
        .iter()
        .map(|(route, hop)| (*route, resolve(hop)))
        .collect();
    let mut hops: Vec<String> = tables.next_hops.keys().map(resolve).collect();
    hops.sort();
    let judges = |rules: &weft_table::policy::RuleSet| {
        let rule = |rule: &weft_table::policy::Rule| {
            let group = rule.remote_group.map(|group| &tables.address_groups[&group]);
            let mut rule = rule.clone();
            rule.remote_group = None;
            format!("{rule:?} of {group:?}")
        };
        let all: Vec<String> = rules.rules().iter().map(rule).collect();
        format!("{all:?} {:?}", rules.defaults())
    };
    let ports: BTreeMap<_, _> = tables
        .ports
        .iter()
        .map(|(id, spec)| {
            let policy = match spec.policy {
                PortPolicy::Judged(policy) => judges(&tables.policies[&policy]),
                other => format!("{other:?}"),
            };
            let spec = PortSpec {
                policy: PortPolicy::Open,
                ..spec.clone()
            };
            (*id, (spec, policy))
        })
        .collect();
    let mut policies: Vec<String> = tables.policies.values().map(|rules| judges(rules)).collect();
    policies.sort();
    let groups = tables.address_groups.values();
    let mut address_groups: Vec<String> = groups.map(|group| format!("{group:?}")).collect();
    address_groups.sort();
    let mut floating_ips: Vec<String> = tables
        .floating_ips
        .values()
        .map(|floating| format!("{floating:?}"))
        .collect();
    floating_ips.extend(tables.pools.values().map(|pool| format!("{pool:?}")));
    floating_ips.extend(tables.services.values().map(|service| format!("{service:?}")));
    floating_ips.sort();
    (
        tables.vrfs.clone(),
        (ports, policies, address_groups, floating_ips),
        routes,
        hops,
        tables.vnis.clone(),
        tables.labels.clone(),
        tables.endpoints.clone(),
    )
}
