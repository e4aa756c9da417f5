//! NDR, PDR and latencies (RFC 2544, RFC 9004) between two guests, by weft's own generator: 10,000 UDP sessions in both
//! directions, over virtio-user/vhost-user and over memif; OVS-DPDK (with connection tracking, without rules) in turns on
//! the same vhost-user path.
//!
//! A case is a link and a size: `vhost-user/64/ndr` is the highest rate, both directions together, at which at most
//! 0.001 % are lost, `…/pdr` the one with 0.5 %, `…/latency-50/p99` the latency at half of the NDR. What a full ring
//! of the guest's does not take counts as lost.

use std::fs;

use anyhow::{Context, Result, ensure};
use weft_tests::host;

use crate::{
    generator::{
        client::Generator,
        ends::{End, Link},
        pair::{self, Effort, Pair},
        report::Percentiles,
        stream::Sizes,
    },
    harness::{
        Bench,
        daemon::{Daemon, Settings},
        ovs::{self, Ovs},
        report::{Better, WEFT},
        turns::Samples,
    },
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

/// A router and its guests. While another has its turn, both are halted.
struct Contender {
    router: Router,
    pair: Pair,
    ndr: Samples,
    pdr: Samples,
}

enum Router {
    Weft(Box<Daemon>),
    Ovs(Box<Ovs>),
}

impl Contender {
    fn weft(bench: &Bench, link: Link, sizes: Sizes) -> Result<Self> {
        let (daemon, pair) = pair::weft(bench, &Settings::default(), link, 2, sizes)?;
        Ok(Self::of(Router::Weft(Box::new(daemon)), pair))
    }

    fn ovs(bench: &Bench, sizes: Sizes) -> Result<Self> {
        let directory = host::run_directory().join("ovs-guests");
        fs::create_dir_all(&directory)?;
        let ends = [0, 1].map(|number| End::new(number, Link::VhostUser, &directory));
        let guests = ends.each_ref().map(|end| ovs::Guest {
            socket: end.socket().to_owned(),
            subnet: end.subnet(),
            mac: end.mac(),
        });
        let ovs = Ovs::between(&bench.machine, &guests)?;
        let generator = Generator::start(&bench.machine, "ovs-guests", &ends)?;
        let mut pair = Pair::new(generator, ends.into(), sizes)?;
        pair.warm_up()?;
        Ok(Self::of(Router::Ovs(Box::new(ovs)), pair))
    }

    fn of(router: Router, pair: Pair) -> Self {
        Contender {
            router,
            pair,
            ndr: Samples::default(),
            pdr: Samples::default(),
        }
    }

    fn halt(&mut self) -> Result<()> {
        self.pair.generator().halt()?;
        match &self.router {
            Router::Weft(daemon) => daemon.pause(),
            Router::Ovs(ovs) => ovs.pause(),
        }
    }

    fn resume(&mut self) -> Result<()> {
        match &self.router {
            Router::Weft(daemon) => daemon.resume()?,
            Router::Ovs(ovs) => ovs.resume()?,
        }
        self.pair.generator().resume()
    }

    /// Has its turn.
    fn search(&mut self, effort: &Effort) -> Result<()> {
        self.resume()?;
        // What is learned and cached may have grown old meanwhile.
        self.pair.warm_up()?;
        let rates = self.pair.rates(effort)?;
        self.ndr.push(rates.ndr / 1e6);
        self.pdr.push(rates.pdr / 1e6);
        self.halt()
    }
}

fn measure(bench: &mut Bench, case: &str, link: Link, sizes: Sizes, effort: &Effort) -> Result<()> {
    let mut weft = Contender::weft(bench, link, sizes).context("weft")?;
    weft.halt()?;
    let mut ovs = match link {
        Link::VhostUser => {
            ensure!(
                Ovs::is_installed(),
                "OVS-DPDK is missing: `./dev bench` installs openvswitch-switch-dpdk"
            );
            let mut ovs = Contender::ovs(bench, sizes).context("OVS-DPDK")?;
            ovs.halt()?;
            Some(ovs)
        }
        Link::Memif => None,
    };
    for _ in 0..effort.turns {
        weft.search(effort).context("weft")?;
        if let Some(ovs) = &mut ovs {
            ovs.search(effort).context("OVS-DPDK")?;
        }
    }
    let rates = |of: &Contender| [of.ndr.clone(), of.pdr.clone()];
    let peer = ovs.as_ref().map(rates);
    for (part, (name, mine)) in ["ndr", "pdr"].into_iter().zip(rates(&weft)).enumerate() {
        let (case, report) = (format!("{case}/{name}"), &mut bench.report);
        match &peer {
            Some(its) => report.against(&case, "Mpps", Better::More, &mine, "ovs-dpdk", &its[part]),
            None => report.alone(&case, WEFT, "Mpps", &mine),
        }
    }
    let most = weft.ndr.median() * 1e6;
    weft.resume()?;
    for percent in LATENCY_LOADS {
        let load = most * f64::from(percent) / 100.0;
        latencies(
            bench,
            &format!("{case}/latency-{percent}"),
            &mut weft.pair,
            load,
            effort,
        )?;
    }
    Ok(())
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
