//! What the figures should be: the numbers that weft was designed for (`docs/architecture.md` and `docs/benchmarks.md`
//! say why). Reports show them beside what was measured, and mark what is short.

use super::report::Record;

/// What is limited.
#[derive(Clone, Copy, Debug)]
enum Limited {
    /// The value of weft itself.
    Value,
    /// How many times better than this peer it is.
    Times(&'static str),
}

#[derive(Clone, Copy, Debug)]
enum Limit {
    AtMost(f64),
    AtLeast(f64),
}

use Limit::{AtLeast, AtMost};
use Limited::{Times, Value};

/// By benchmark and case.
const AIMS: &[(&str, &str, Limited, Limit)] = &[
    ("peers", "ct-vxlan/1", Value, AtMost(110.0)),
    ("peers", "ct-vxlan/10k", Value, AtMost(130.0)),
    ("peers", "ct-vxlan/100k", Value, AtMost(195.0)),
    ("peers", "ct-vxlan/1m", Value, AtMost(230.0)),
    ("peers", "ct-vxlan/1/above-io", Value, AtMost(45.0)),
    ("peers", "ct-vxlan/10k/above-io", Value, AtMost(65.0)),
    ("peers", "ct-vxlan/100k/above-io", Value, AtMost(80.0)),
    ("peers", "ct-vxlan/1", Times("ovs-dpdk"), AtLeast(5.5)),
    ("peers", "ct-vxlan/10k", Times("ovs-dpdk"), AtLeast(15.0)),
    ("peers", "ct-vxlan/100k", Times("ovs-dpdk"), AtLeast(10.0)),
    ("peers", "vlan-vxlan/100k", Value, AtMost(175.0)),
    ("churn", "routes-policies/kept", Value, AtLeast(95.0)),
    ("churn", "routes-policies/added-gap", Value, AtMost(1.0)),
    ("churn", "replace-1m/kept", Value, AtLeast(95.0)),
    ("churn", "replace-1m/added-gap", Value, AtMost(1.0)),
    ("policy", "decide/1000-rules", Value, AtMost(250.0)),
    ("policy", "decide/1000-rules/alone", Value, AtMost(1000.0)),
    ("policy", "change/1000-ports", Value, AtMost(50.0)),
    ("policy", "change-member/1000-ports", Value, AtMost(50.0)),
    ("nat", "snat/added-cycles", Value, AtMost(30.0)),
    ("nat", "service/added-cycles", Value, AtMost(30.0)),
    ("nat", "setup/1000-rules-snat", Value, AtLeast(1.5e6)),
    ("control", "sync/1m-routes", Value, AtLeast(300_000.0)),
    ("control", "cold-start/10k-objects", Value, AtMost(1000.0)),
    ("sessions", "setup/50-rules", Value, AtLeast(3e6)),
    ("sessions", "setup/50-rules-1m", Value, AtLeast(2.5e6)),
    ("sessions", "memory/session", Value, AtMost(192.0)),
    ("scale", "two-over-one", Times("testpmd-io"), AtLeast(0.95)),
    ("scale", "idle-ports/1000", Times("no-idle-ports"), AtLeast(0.9)),
    ("scale", "idle-ports/1000/first-packet/max", Value, AtMost(200.0)),
    ("overload", "twice/slowest-call", Value, AtMost(100.0)),
    ("overload", "attack/kept-50", Value, AtLeast(0.95)),
    ("overload", "attack/kept-90", Value, AtLeast(0.95)),
];

/// An aim beside a figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Aim {
    /// `≤ 110`.
    pub text: String,
    /// It is about how many times better weft is, not about its value.
    pub times: bool,
    /// The figure is as it should be.
    pub reached: bool,
}

/// The aim of a figure, if it has one. Where a case has one for its value and one against a peer, each stands at its own
/// record: that of the peer, or the first of the case.
pub fn of(record: &Record) -> Option<Aim> {
    let own =
        |(bench, case, _, _): &&(&str, &str, Limited, Limit)| *bench == record.bench && *case == record.case;
    let mine = AIMS.iter().filter(own);
    let times = mine.clone().find_map(|(_, _, limited, limit)| match limited {
        Times(peer) if record.peer.as_deref() == Some(peer) => Some((record.ratio?, *limit, true)),
        _ => None,
    });
    let value = || {
        mine.clone().find_map(|(_, _, limited, limit)| match limited {
            Value => Some((record.value, *limit, false)),
            Times(_) => None,
        })
    };
    let (figure, limit, times) = times.or_else(value)?;
    let unit = if times { " times" } else { "" };
    Some(match limit {
        AtMost(most) => Aim {
            text: format!("≤ {most}{unit}"),
            times,
            reached: figure <= most,
        },
        AtLeast(least) => Aim {
            text: format!("≥ {least}{unit}"),
            times,
            reached: figure >= least,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(case: &str, value: f64, peer: Option<&str>, ratio: f64) -> Record {
        Record {
            bench: "peers".into(),
            case: case.into(),
            subject: "weft".into(),
            value,
            unit: "cycles/packet".into(),
            spread: 0.0,
            peer: peer.map(str::to_owned),
            peer_value: None,
            ratio: Some(ratio),
            ratio_spread: None,
            machine: String::new(),
            date: String::new(),
            version: String::new(),
        }
    }

    #[test]
    fn a_value_and_a_ratio_have_aims_of_their_own() {
        let aim = |record: &Record| of(record).map(|aim| (aim.text, aim.reached));
        assert_eq!(
            aim(&record("ct-vxlan/1", 110.0, Some("testpmd-io"), 0.5)),
            Some(("≤ 110".into(), true))
        );
        assert_eq!(
            aim(&record("ct-vxlan/1", 111.0, None, 0.0)),
            Some(("≤ 110".into(), false))
        );
        assert_eq!(
            aim(&record("ct-vxlan/1", 300.0, Some("ovs-dpdk"), 5.6)),
            Some(("≥ 5.5 times".into(), true))
        );
        assert_eq!(aim(&record("local/1", 300.0, Some("ovs-dpdk"), 5.6)), None);
    }
}
