//! One worker of the shipped weftd beside what its users would pick instead: testpmd (the floor of the I/O) and OVS-DPDK,
//! in turns, on the same replay files, from `net_pcap` to `net_null`.
//!
//! A case is what is done to the packets and how many sessions they belong to: `ct-vxlan/100k`, and with frames of
//! mixed sizes `ct-vxlan/100k/imix`. The figures are TSC cycles a packet; `…/above-io` is what weft spends above
//! testpmd's, `…/rate` the same in Mpps. OVS runs without the policy's rules, which favours it; it has no MPLS over UDP,
//! and its buffer pool does not hold the packets of a million sessions.

mod check;

use std::{cell::RefCell, path::Path, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use weft_tests::host::hugepages_are_free;

use crate::harness::{
    Bench, forwarding,
    job::Job,
    ovs::{self, Ovs},
    replay::{Replay, Size, Wrapping},
    report::{Better, WEFT},
    share::undisturbed,
    testpmd::{Mode, Testpmd},
    turns::{TURNS, in_turns},
};

const CYCLES: &str = "cycles/packet";
/// How long OVS revalidates and gathers connections after its flows were changed.
const OVS_WARM: Duration = Duration::from_secs(4);
/// Packets that are looked at, byte by byte, behind weft.
const CHECKED: usize = 20_000;

/// Sessions of a case, as its name says them.
const SESSIONS: [(&str, usize); 4] = [("1", 1), ("10k", 10_000), ("100k", 100_000), ("1m", 1_000_000)];

struct Case {
    name: String,
    job: Job,
    replay: Replay,
}

/// See the module.
pub fn run(bench: &mut Bench) -> Result<()> {
    let cases: Vec<Case> = all()
        .filter(|case| bench.options.wants(&case.name))
        .filter(|case| !bench.options.quick || keeps_when_quick(case))
        .collect();
    ensure!(!cases.is_empty(), "no such case: {:?}", bench.options.cases);
    let _kept_off = bench.machine.keep_off_workers(1)?;
    // One testpmd and one OVS a file: it is they who take long to start.
    for cases in cases.chunk_by(|one, other| one.replay == other.replay) {
        measure(bench, cases)?;
    }
    Ok(())
}

/// Every case, those with one replay file beside each other.
fn all() -> impl Iterator<Item = Case> {
    let files = [Size::Small, Size::Imix].into_iter().flat_map(|size| {
        SESSIONS.into_iter().flat_map(move |(count, sessions)| {
            [Wrapping::Tagged, Wrapping::Vxlan].map(|wrapping| {
                (
                    count,
                    Replay {
                        sessions,
                        size,
                        wrapping,
                    },
                )
            })
        })
    });
    files.flat_map(|(count, replay)| {
        let jobs = Job::ALL
            .into_iter()
            .filter(move |job| job.wrapping() == replay.wrapping);
        jobs.map(move |job| Case {
            name: match replay.size {
                Size::Small => format!("{job}/{count}"),
                Size::Imix => format!("{job}/{count}/imix"),
            },
            job,
            replay,
        })
    })
}

fn keeps_when_quick(case: &Case) -> bool {
    let sessions = case.replay.sessions;
    case.replay.size == Size::Small
        && (case.job == Job::CtVxlan
            || (sessions == 100_000)
            || (sessions == 1 && case.job == Job::VlanVxlan))
}

/// The peers of the cases of one file.
struct Peers {
    testpmd: RefCell<Testpmd>,
    ovs: Option<Ovs>,
}

fn measure(bench: &mut Bench, cases: &[Case]) -> Result<()> {
    let replay = cases[0].replay;
    bench.say(&format!("{} packets of {replay}", replay.packets()));
    let with_ovs =
        replay.packets() <= ovs::MOST_PACKETS && cases.iter().any(|case| case.job.flows().is_some());
    // weft and testpmd hold the replay, each.
    let needed =
        2 * forwarding::memory_mib(&replay, replay.packets()) + if with_ovs { ovs::MEMORY_MIB } else { 0 };
    if !hugepages_are_free(needed.into()) {
        bench.say(&format!("left out: {needed} MiB of hugepages are not free"));
        return Ok(());
    }
    let file = replay.file()?;
    let side = match replay.wrapping {
        Wrapping::Tagged => ovs::Side::Tenants,
        Wrapping::Vxlan => ovs::Side::Underlay,
    };
    if with_ovs && !Ovs::is_installed() {
        bail!("OVS-DPDK is missing: `./dev bench` installs openvswitch-switch-dpdk");
    }
    let room = forwarding::mbuf_room(&replay);
    let peers = Peers {
        ovs: with_ovs
            .then(|| Ovs::start(&bench.machine, &file, side))
            .transpose()
            .context("OVS-DPDK")?,
        testpmd: RefCell::new(
            Testpmd::start(&bench.machine, &[&file], replay.packets(), room).context("testpmd")?,
        ),
    };
    if let Some(ovs) = &peers.ovs {
        ovs.pause()?;
    }
    for case in cases {
        bench.say(&case.name);
        check::what_leaves_is_right(&bench.machine, case.job, &replay)
            .with_context(|| format!("{}: what leaves weft is wrong", case.name))?;
        take_turns(bench, case, &file, &peers).with_context(|| case.name.clone())?;
    }
    Ok(())
}

fn take_turns(bench: &mut Bench, case: &Case, file: &Path, peers: &Peers) -> Result<()> {
    let (settle, window) = if bench.options.quick {
        (Duration::from_millis(50), Duration::from_millis(250))
    } else {
        (Duration::from_millis(100), Duration::from_millis(1000))
    };
    let daemon = forwarding::start(&bench.machine, case.job, &case.replay, file)?;
    daemon.pause()?;
    let flows = case.job.flows();
    let ovs = peers.ovs.as_ref().zip(flows.as_ref());
    if let Some((ovs, (out, flows))) = ovs {
        ovs.resume()?;
        ovs.program(*out, flows)?;
        std::thread::sleep(OVS_WARM);
        check_ovs(ovs)?;
        ovs.pause()?;
    }

    let machine = bench.machine.clone();
    let mut stages = String::new();
    let mut weft = || {
        let work = undisturbed(daemon.process_id(), || daemon.turn(settle, window))?;
        ensure!(
            work.dropped < work.sent / 1000.0,
            "weft dropped {:.0} packets a second beside {:.0} sent",
            work.dropped,
            work.sent
        );
        stages = work.stages();
        Ok(machine.cycles(work.sent))
    };
    let swapped = |mode| {
        let machine = &machine;
        move || {
            let mut testpmd = peers.testpmd.borrow_mut();
            let rate = undisturbed(testpmd.process_id(), || testpmd.turn(mode, settle, window))?;
            Ok(machine.cycles(rate))
        }
    };
    let (mut io, mut swap) = (swapped(Mode::Io), swapped(Mode::Swap));
    let samples = match ovs {
        Some((ovs, _)) => {
            let mut switch = || undisturbed(ovs.process_id(), || ovs.turn(settle, window));
            in_turns(TURNS, &mut [&mut weft, &mut io, &mut swap, &mut switch])?
        }
        None => in_turns(TURNS, &mut [&mut weft, &mut io, &mut swap])?,
    };
    bench.say(&format!("{}: cycles by weft's own count: {stages}", case.name));
    let names = [Mode::Io.subject(), Mode::Swap.subject(), "ovs-dpdk"];
    let weft = &samples[0];
    let report = &mut bench.report;
    for (peer, its) in names.into_iter().zip(&samples[1..]) {
        report.against(&case.name, CYCLES, Better::Less, weft, peer, its);
    }
    let above = weft.with(&samples[1], |weft, io| weft - io);
    report.alone(&format!("{}/above-io", case.name), WEFT, CYCLES, &above);
    let rate = weft.map(|cycles| machine.tsc_hz / cycles / 1e6);
    report.alone(&format!("{}/rate", case.name), WEFT, "Mpps", &rate);
    Ok(())
}

/// OVS must send what it receives, or its figure is that of something else.
fn check_ovs(ovs: &Ovs) -> Result<()> {
    let before = ovs.packets()?;
    std::thread::sleep(Duration::from_millis(500));
    let after = ovs.packets()?;
    let (received, sent) = ((after.0 - before.0) as f64, (after.1 - before.1) as f64);
    ensure!(
        received > 0.0 && (0.9..1.1).contains(&(sent / received)),
        "OVS received {received} packets and sent {sent}"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_job_has_its_cases_and_quick_keeps_those_that_are_asked_for() {
        let names: Vec<String> = all().map(|case| case.name).collect();
        assert_eq!(names.len(), 5 * 4 * 2);
        for job in ["vlan-vxlan", "ct-vxlan", "ct-mplsudp", "decap", "local"] {
            for count in ["1", "10k", "100k", "1m", "100k/imix"] {
                assert!(names.contains(&format!("{job}/{count}")), "{job}/{count}");
            }
        }
        let quick: Vec<String> = all().filter(keeps_when_quick).map(|case| case.name).collect();
        for name in [
            "ct-vxlan/1",
            "ct-vxlan/10k",
            "ct-vxlan/100k",
            "ct-vxlan/1m",
            "vlan-vxlan/100k",
            "local/100k",
        ] {
            assert!(quick.contains(&name.to_owned()), "{name}");
        }
    }
}
