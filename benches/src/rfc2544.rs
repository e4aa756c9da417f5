//! NDR, PDR and latencies (RFC 2544, RFC 9004) between two guests, by weft's own generator: one session table, both
//! directions, over virtio-user/vhost-user and over memif; OVS-DPDK in turns on the same vhost-user path.
//!
//! A case is a link and a size: `vhost-user/64/ndr` is the highest rate, both directions together, at which at most
//! 0.001 % are lost, `…/pdr` the one with 0.5 %, `…/latency-50/p99` the latency at half of the NDR. What a full ring
//! of the guest's does not take counts as lost.

use anyhow::{Context, Result};

use crate::{
    generator::{
        ends::Link,
        pair::{self, Effort, Pair},
        report::Percentiles,
        stream::Sizes,
    },
    harness::{Bench, daemon::Settings, report::WEFT, turns::Samples},
};

/// Loads at which latencies are measured, percent of the NDR.
const LATENCY_LOADS: [u32; 3] = [10, 50, 90];
/// See the module.
pub fn run(bench: &mut Bench) -> Result<()> {
    let effort = Effort::of(bench);
    for link in [Link::VhostUser, Link::Memif] {
        for (size, sizes) in [("64", Sizes::Fixed(64)), ("imix", Sizes::Imix)] {
            let case = format!("{}/{size}", link.name());
            if !bench.options.wants(&case) || (bench.options.quick && sizes == Sizes::Imix) {
                continue;
            }
            bench.say(&case);
            measure(bench, &case, link, sizes, &effort).with_context(|| case.clone())?;
        }
    }
    Ok(())
}

fn measure(bench: &mut Bench, case: &str, link: Link, sizes: Sizes, effort: &Effort) -> Result<()> {
    let (daemon, mut pair) = pair::weft(bench, &Settings::default(), link, 2, sizes)?;
    let (mut ndr, mut pdr) = (Samples::default(), Samples::default());
    for _ in 0..effort.turns {
        let rates = pair.rates(effort)?;
        ndr.push(rates.ndr / 1e6);
        pdr.push(rates.pdr / 1e6);
    }
    let report = &mut bench.report;
    report.alone(&format!("{case}/ndr"), WEFT, "Mpps", &ndr);
    report.alone(&format!("{case}/pdr"), WEFT, "Mpps", &pdr);
    for percent in LATENCY_LOADS {
        let load = ndr.median() * 1e6 * f64::from(percent) / 100.0;
        latencies(
            bench,
            &format!("{case}/latency-{percent}"),
            &mut pair,
            load,
            effort,
        )?;
    }
    drop(pair);
    daemon.stop()
}

/// A latency of a report, of either direction.
type Part = fn(&Percentiles) -> f64;

fn latencies(bench: &mut Bench, case: &str, pair: &mut Pair, load: f64, effort: &Effort) -> Result<()> {
    const PARTS: [(&str, Part); 4] = [
        ("p50", |latency| latency.p50),
        ("p99", |latency| latency.p99),
        ("p99.9", |latency| latency.p999),
        ("max", |latency| latency.max),
    ];
    let mut samples = PARTS.map(|_| Samples::default());
    for _ in 0..3 {
        let report = pair.trial(load, effort.duration)?;
        for ((_, part), samples) in PARTS.iter().zip(&mut samples) {
            let worst = report.streams.iter().map(|stream| part(&stream.latency));
            samples.push(worst.fold(0.0, f64::max) / 1e3);
        }
    }
    for ((name, _), samples) in PARTS.iter().zip(&samples) {
        bench.report.alone(&format!("{case}/{name}"), WEFT, "us", samples);
    }
    Ok(())
}
