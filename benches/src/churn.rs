//! What established traffic notices of changes: throughput kept, and the longest gap, beside the same weftd without
//! changes, in turns.
//!
//! - `routes-policies`: 1,000 routes and 100 policies a second change over gRPC, one in a hundred of them among those that
//!   the traffic's own sessions are decided from. A route that comes or goes inside of another makes every session of
//!   that other be looked at again, a policy that changes all those of its ports.
//! - `routes-in-use`: the same with one in ten, which is 100 a second in one tenant's network.
//! - `replace-1m`: a table of a million routes in the traffic's VRF is replaced by another, route by route.
//!
//! `…/kept` is the throughput during the changes in per cent of that without; `…/longest-gap` the longest time in which
//! the worker did not look at its queues, and the peer `no-changes` the same without changes.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use weft_proto::v1::{self, object};

use crate::harness::{
    Bench, controller,
    daemon::{Daemon, Work},
    forwarding,
    job::{self, Job},
    policy,
    replay::{FURTHER, Replay, Size, VLAN, VNI, Wrapping},
    report::{Better, WEFT},
    turns::{Samples, TURNS},
};

const TRAFFIC: Replay = Replay {
    sessions: 100_000,
    size: Size::Small,
    wrapping: Wrapping::Tagged,
};
/// Batches a second, and what is in each of them.
const BATCHES: u32 = 100;
const ROUTES: u32 = 10;
/// Routes that take part; one batch after another takes the next ones.
const SLOTS: u32 = 1000;
/// Policies that take part, one a batch. The first is the traffic's port's, each of the others has a port of its own.
const POLICIES: u32 = 100;
/// How much of the rate must have been reached for a figure to count.
const REACHED: f64 = 0.95;
/// Routes of the table that is replaced.
const TABLE: u32 = 1_000_000;
/// Endpoints between which routes are moved.
const ENDPOINTS: [&str; 2] = ["far", "further"];

/// See the module.
pub fn run(bench: &mut Bench) -> Result<()> {
    let _kept_off = bench.machine.keep_off_workers(1)?;
    let file = TRAFFIC.file()?;
    let daemon = forwarding::start(&bench.machine, Job::CtVxlan, &TRAFFIC, &file)?;
    daemon.apply(&format!(
        "kind: TunnelEndpoint\nname: further\n\
         spec: {{remote: {FURTHER}, encapsulation: ENCAPSULATION_VXLAN}}\n"
    ))?;
    for (case, one_in) in [("routes-policies", 100), ("routes-in-use", 10)] {
        if bench.options.wants(case) {
            bench.say(case);
            routes_and_policies(bench, &daemon, case, one_in)?;
        }
    }
    if bench.options.wants("replace-1m") {
        bench.say("a million routes");
        replace(bench, &daemon)?;
    }
    Ok(())
}

/// With and without changes, turn by turn.
#[derive(Default)]
struct Turns {
    kept: Samples,
    stages: [String; 2],
    gap: Samples,
    quiet_gap: Samples,
}

impl Turns {
    fn add(&mut self, quiet: &Work, busy: &Work) {
        let milliseconds = |work: &Work| work.longest_round.as_secs_f64() * 1e3;
        self.kept.push(100.0 * busy.sent / quiet.sent);
        self.gap.push(milliseconds(busy));
        self.quiet_gap.push(milliseconds(quiet));
        self.stages = [quiet.stages(), busy.stages()];
    }

    fn report(&self, bench: &mut Bench, case: &str) {
        let [quiet, busy] = &self.stages;
        bench.say(&format!(
            "{case}: cycles a packet without changes: {quiet}; with: {busy}"
        ));
        let report = &mut bench.report;
        report.alone(&format!("{case}/kept"), WEFT, "%", &self.kept);
        report.against(
            &format!("{case}/longest-gap"),
            "ms",
            Better::Less,
            &self.gap,
            "no-changes",
            &self.quiet_gap,
        );
        let added = self.gap.with(&self.quiet_gap, |gap, quiet| gap - quiet);
        report.alone(&format!("{case}/added-gap"), WEFT, "ms", &added);
    }
}

fn routes_and_policies(bench: &mut Bench, daemon: &Daemon, case: &str, one_in: u32) -> Result<()> {
    let window = Duration::from_secs(if bench.options.quick { 2 } else { 5 });
    let mut turns = Turns::default();
    let mut change = Changes::begin(daemon, one_in)?;
    for _ in 0..TURNS {
        let quiet = daemon.work(window)?;
        let busy = change.during(daemon, || daemon.work(window))?;
        turns.add(&quiet, &busy);
    }
    turns.report(bench, case);
    change.undo(daemon)
}

/// A controller that changes something all the time.
struct Changes {
    /// One route in so many is the traffic's.
    one_in: u32,
    /// Batches so far.
    batch: AtomicU64,
}

impl Changes {
    /// Gives the traffic's port and a hundred others a policy that will change.
    fn begin(daemon: &Daemon, one_in: u32) -> Result<Self> {
        let objects = (0..POLICIES).map(|number| changing_policy(number, 0));
        controller::apply(daemon, objects.chain((1..POLICIES).map(bystander)).collect())?;
        daemon.apply(&job::tenant(&format!("{}, {}", policy_name(0), policy::NAME)))?;
        Ok(Changes {
            one_in,
            batch: AtomicU64::new(0),
        })
    }

    /// Changes routes and policies at their rate while `measure` runs.
    fn during(&mut self, daemon: &Daemon, measure: impl FnOnce() -> Result<Work>) -> Result<Work> {
        let (stop, start, first) = (AtomicBool::new(false), Instant::now(), *self.batch.get_mut());
        let work = std::thread::scope(|scope| {
            let changing = scope.spawn(|| self.change_until(&stop, daemon));
            let work = measure();
            stop.store(true, Ordering::Relaxed);
            let changed = changing
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            changed.and(work)
        })?;
        let rate = (*self.batch.get_mut() - first) as f64 / start.elapsed().as_secs_f64();
        ensure!(
            rate >= REACHED * f64::from(BATCHES),
            "weftd took {:.0} route changes a second where {} were asked for",
            rate * f64::from(ROUTES),
            BATCHES * ROUTES
        );
        Ok(work)
    }

    /// Takes all that it made away.
    fn undo(&mut self, daemon: &Daemon) -> Result<()> {
        daemon.apply(&job::tenant(policy::NAME))?;
        controller::sync(daemon, Vec::new(), controller::MESSAGE).map(|_| ())
    }

    /// One batch each hundredth of a second, by the clock: what is late is made up for.
    fn change_until(&self, stop: &AtomicBool, daemon: &Daemon) -> Result<()> {
        let mut api = daemon.api();
        daemon.runtime().block_on(async {
            let mut clock = tokio::time::interval(Duration::from_secs(1) / BATCHES);
            while !stop.load(Ordering::Relaxed) {
                clock.tick().await;
                let batch = self.batch.fetch_add(1, Ordering::Relaxed);
                let (objects, deletes) = changes(batch, self.one_in);
                let request = v1::ApplyRequest {
                    owner: controller::OWNER.into(),
                    objects,
                    deletes,
                    ..Default::default()
                };
                let results = api.apply(request).await.context("Apply")?.into_inner().results;
                let refused = results.iter().find(|result| result.error.is_some());
                ensure!(refused.is_none(), "weftd refused a change: {refused:?}");
            }
            Ok(())
        })
    }
}

/// The changes of a batch: one policy, and some routes. Each route comes, moves to another endpoint and goes again, in turn with the others.
fn changes(batch: u64, one_in: u32) -> (Vec<v1::Object>, Vec<v1::Key>) {
    let (mut objects, mut deletes) = (Vec::new(), Vec::new());
    for number in 0..u64::from(ROUTES) {
        let change = batch * u64::from(ROUTES) + number;
        let (slot, round) = (change % u64::from(SLOTS), change / u64::from(SLOTS));
        let name = format!("churn-{slot}");
        match ENDPOINTS.get((round % 3) as usize) {
            Some(endpoint) => {
                let prefix = churning_prefix(slot as u32, one_in);
                objects.push(controller::tunnel_route(name, "red", prefix, endpoint, VNI));
            }
            None => deletes.push(v1::Key {
                kind: v1::Kind::Route.into(),
                name,
            }),
        }
    }
    objects.push(changing_policy(
        (batch % u64::from(POLICIES)) as u32,
        (batch / u64::from(POLICIES)) as u32,
    ));
    (objects, deletes)
}

fn policy_name(number: u32) -> String {
    format!("churn-{number}")
}

/// Ten rules, of which the traffic meets none and leaves the decision to its port's next policy.
fn changing_policy(number: u32, round: u32) -> v1::Object {
    let rule = |rule: u32| v1::PolicyRule {
        direction: v1::PolicyDirection::Egress.into(),
        action: v1::PolicyAction::Deny.into(),
        protocol: "tcp".into(),
        destination_ports: vec![v1::PortRange {
            first: 1 + (round * 10 + rule) % 65_535,
            last: 0,
        }],
        ..Default::default()
    };
    v1::Object {
        name: policy_name(number),
        spec: Some(object::Spec::Policy(v1::Policy {
            rules: (0..10).map(rule).collect(),
            ..Default::default()
        })),
        ..Default::default()
    }
}

/// A port that has nothing but its policy.
fn bystander(number: u32) -> v1::Object {
    let vlan = v1::VlanDevice {
        parent: "trunk".into(),
        vlan: u32::from(VLAN) + number,
    };
    v1::Object {
        name: format!("bystander-{number}"),
        spec: Some(object::Spec::Port(v1::Port {
            device: Some(v1::port::Device::Vlan(vlan)),
            vrf: "red".into(),
            policies: vec![policy_name(number)],
            ..Default::default()
        })),
        ..Default::default()
    }
}

/// One in so many is a host that the traffic goes to, the others are elsewhere in the VRF.
fn churning_prefix(slot: u32, one_in: u32) -> String {
    if slot.is_multiple_of(one_in) {
        format!("10.1.0.{}/32", 2 + slot / one_in)
    } else {
        format!("172.16.{}.{}/32", slot / 256, slot % 256)
    }
}

fn replace(bench: &mut Bench, daemon: &Daemon) -> Result<()> {
    let table = |endpoint| controller::full_table("red", TABLE, endpoint, VNI);
    let first = controller::sync(daemon, table(ENDPOINTS[0]), controller::MESSAGE)?;
    bench.say(&format!("loaded in {:.1} s", first.as_secs_f64()));
    let mut turns = Turns::default();
    for turn in 1..=if bench.options.quick { 1 } else { 3 } {
        let objects = table(ENDPOINTS[turn % 2]);
        let mut took = Duration::ZERO;
        let busy = daemon.work_during(|| {
            took = controller::sync(daemon, objects, controller::MESSAGE)?;
            Ok(())
        })?;
        // As long without changes: the longest of more rounds is longer.
        let quiet = daemon.work(took)?;
        turns.add(&quiet, &busy);
    }
    turns.report(bench, "replace-1m");
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    #[test]
    fn each_batch_changes_ten_routes_and_a_policy_and_no_route_is_left_after_three_rounds() {
        let mut routes = BTreeSet::new();
        let mut changed: BTreeMap<String, u32> = BTreeMap::new();
        for batch in 0..u64::from(3 * SLOTS / ROUTES) {
            let (mut objects, deletes) = changes(batch, 10);
            assert_eq!(objects.len() + deletes.len(), ROUTES as usize + 1);
            let policy = objects.pop().and_then(|object| object.spec);
            assert!(matches!(policy, Some(object::Spec::Policy(_))));
            for object in objects {
                *changed.entry(object.name.clone()).or_default() += 1;
                routes.insert(object.name);
            }
            for key in deletes {
                assert!(routes.remove(&key.name), "{} went before it came", key.name);
            }
        }
        assert!(routes.is_empty());
        assert!(changed.len() == SLOTS as usize && changed.values().all(|times| *times == 2));
    }

    #[test]
    fn one_route_in_so_many_leads_to_the_traffics_destinations() {
        for one_in in [10, 100] {
            let prefixes: BTreeSet<String> = (0..SLOTS).map(|slot| churning_prefix(slot, one_in)).collect();
            assert_eq!(prefixes.len(), SLOTS as usize);
            let near = prefixes.iter().filter(|prefix| prefix.starts_with("10.1.0."));
            assert_eq!(near.count(), (SLOTS / one_in) as usize);
        }
    }
}
