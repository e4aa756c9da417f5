//! Each stage alone: the cycles a packet that its own clock counts, in this process, on one lcore, without a driver that
//! receives. Bursts of 64 frames of 64 bytes are made and walk the pipeline, the frames fresh in the first cache, as those
//! of a NIC are in the last one at best.
//!
//! `warm` is with a thousand sessions, `cold` with a million in shuffled order, so that hardly a bucket or session is in a
//! cache of the core.
//!
//! - `classify/warm`, `…/cold`: a tagged frame; the flow table's bucket is asked for here. `classify/decap`: a VXLAN one.
//! - `flow/hit-…`, `flow/miss-…`: the look for the session.
//! - `forward/…`: from the route to the next hop, for a session's first packet; `forward/1m-routes` of a million routes.
//! - `policy/50-rules`, `policy/10k-rules`: whether a session may be. `learn/…`: both directions into the table.
//! - `apply/vxlan`, `…/mpls-udp`, `…/port`: TTL and headers. `transmit/null`: to a device that drops everything.

mod rules;
mod world;

use std::sync::mpsc;

use anyhow::{Context, Result};
use weft_dataplane::statistics::Stage;

use crate::harness::{
    Bench, Options, dpdk,
    report::WEFT,
    turns::{Samples, TURNS},
    windows,
};
use world::{Scene, World};

const CYCLES: &str = "cycles/packet";
const WARM: u64 = 1000;
const COLD: u64 = 1_000_000;
/// Bursts of a window.
const WINDOW: usize = 16;

/// A figure: the case, the scene in which it is measured, and whose clock says it.
struct Case {
    name: &'static str,
    scene: Scene,
    stage: Stage,
}

const fn case(name: &'static str, scene: Scene, stage: Stage) -> Case {
    Case { name, scene, stage }
}

/// Those of one scene beside each other.
const CASES: &[Case] = &[
    case("classify/warm", Scene::Known(WARM), Stage::Classify),
    case("flow/hit-warm", Scene::Known(WARM), Stage::Flow),
    case("apply/vxlan", Scene::Known(WARM), Stage::Apply),
    case("transmit/null", Scene::Known(WARM), Stage::Transmit),
    case("classify/cold", Scene::Known(COLD), Stage::Classify),
    case("flow/hit-cold", Scene::Known(COLD), Stage::Flow),
    case("flow/miss-warm", Scene::New(WARM), Stage::Flow),
    case("forward/warm", Scene::New(WARM), Stage::Forward),
    case("policy/50-rules", Scene::New(WARM), Stage::Policy),
    case("learn/warm", Scene::New(WARM), Stage::Learn),
    case("flow/miss-cold", Scene::New(COLD), Stage::Flow),
    case("forward/cold", Scene::New(COLD), Stage::Forward),
    case("learn/cold", Scene::New(COLD), Stage::Learn),
    case("policy/10k-rules", Scene::ManyRules, Stage::Policy),
    case("forward/1m-routes", Scene::ManyRoutes, Stage::Forward),
    case("classify/decap", Scene::Decap, Stage::Classify),
    case("apply/port", Scene::Decap, Stage::Apply),
    case("apply/mpls-udp", Scene::MplsOverUdp, Stage::Apply),
];

/// Runs the cases that are asked for.
pub fn run(bench: &mut Bench) -> Result<()> {
    let eal = dpdk::eal(&bench.machine)?;
    let (figures, measured) = mpsc::channel();
    let options = bench.options.clone();
    // On an lcore, which has a cache of the packet pool.
    let running = eal.launch(0, move || {
        for cases in CASES.chunk_by(|one, other| one.scene == other.scene) {
            let result = measure(cases, &options);
            // Nobody reads any more once one has failed.
            if figures.send(result).is_err() {
                return;
            }
        }
    })?;
    for figures in measured {
        for (case, samples) in figures? {
            bench.report.alone(case, WEFT, CYCLES, &samples);
        }
    }
    running.wait().map_err(anyhow::Error::msg)
}

/// The cases of one scene.
fn measure(cases: &[Case], options: &Options) -> Result<Vec<(&'static str, Samples)>> {
    let cases: Vec<&Case> = cases.iter().filter(|case| options.wants(case.name)).collect();
    let Some(first) = cases.first() else {
        return Ok(Vec::new());
    };
    let mut world = World::new(first.scene).with_context(|| format!("{:?}", first.scene))?;
    let (turns, turn) = match options.quick {
        true => (3, windows::QUICK_TURN),
        false => (TURNS, windows::TURN),
    };
    let mut figures: Vec<(&'static str, Samples)> =
        cases.iter().map(|case| (case.name, Samples::default())).collect();
    for _ in 0..turns {
        let windows = world.turn(turn, WINDOW)?;
        for (case, (_, samples)) in cases.iter().zip(&mut figures) {
            samples.push(windows[case.stage as usize].quantile(windows::BEST));
        }
    }
    world.nothing_was_lost()?;
    Ok(figures)
}
