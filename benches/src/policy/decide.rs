//! Rule sets alone: nanoseconds a first packet's decision, in a burst and alone; and how long a set takes to compile.
//!
//! The rules are of three kinds in turn, as security groups have them: a service of everybody's, a prefix, a host with a
//! range of ports; a deny now and then. Sessions are spread over all of them, and some match none.

use std::hint::black_box;

use anyhow::Result;
use ipnet::IpNet;
use weft_table::policy::{Action, Defaults, Direction, Family, Rule, RuleSet, Tuple, Verdict};

use crate::harness::{
    Bench,
    report::WEFT,
    turns::{Samples, TURNS, in_turns},
    windows,
};

const BURST: usize = 64;
const SESSIONS: usize = 1 << 16;
const SIZES: [usize; 3] = [50, 1000, 10_000];
/// Sessions judged in a window.
const WINDOW: usize = 4096;

/// Measures sets of all sizes, in both families.
pub fn run(bench: &mut Bench) -> Result<()> {
    for count in SIZES {
        let case = format!("decide/{count}-rules");
        if bench.options.wants(&case) {
            let address = |rule| 0x0a00_0000u32 | (rule as u32) << 8;
            judge(bench, &case, count, address)?;
        }
        let case = format!("decide-v6/{count}-rules");
        if bench.options.wants(&case) {
            let address = |rule| 0xfd00u128 << 112 | u128::from(rule) << 64;
            judge(bench, &case, count, address)?;
        }
    }
    for count in SIZES {
        let case = format!("compile/{count}-rules");
        if bench.options.wants(&case) {
            compile(bench, &case, count)?;
        }
    }
    Ok(())
}

/// `CASE` is a burst's worth at once, as a worker asks; `CASE/alone` one after the other.
fn judge<A: Family>(bench: &mut Bench, case: &str, count: usize, address: impl Fn(u64) -> A) -> Result<()> {
    let (set, sessions) = (set(count, size_of::<A>() == 16), sessions(count, address));
    let nobody = Verdict {
        action: Action::Deny,
        decider: 0,
    };
    let turn = if bench.options.quick {
        windows::QUICK_TURN
    } else {
        windows::TURN
    };
    let nanoseconds = 1e9 / bench.machine.tsc_hz;
    let mut windows_of_sessions = sessions.chunks_exact(WINDOW).cycle();
    let mut bulk = || {
        let cycles = windows::cycles_each(turn, WINDOW, || {
            for burst in windows_of_sessions.next().unwrap_or_default().chunks_exact(BURST) {
                let mut verdicts = [nobody; BURST];
                set.judge_bulk(&(), Direction::Ingress, burst, &mut verdicts);
                black_box(&verdicts);
            }
        });
        Ok(cycles * nanoseconds)
    };
    let mut at = 0;
    let mut alone = || {
        let cycles = windows::cycles_each(turn, WINDOW, || {
            for _ in 0..WINDOW {
                let verdict = set.judge(&(), Direction::Ingress, &sessions[at]);
                // Each session waits for the verdict on the one before.
                at = (at + 1 + (verdict.decider as usize & 1)) % SESSIONS;
            }
        });
        Ok(cycles * nanoseconds)
    };
    let samples = in_turns(TURNS, &mut [&mut bulk, &mut alone])?;
    for (case, samples) in [case.to_owned(), format!("{case}/alone")].iter().zip(&samples) {
        bench.report.alone(case, WEFT, "ns", samples);
    }
    Ok(())
}

fn compile(bench: &mut Bench, case: &str, count: usize) -> Result<()> {
    let rules = rules(count, false);
    let mut took = Samples::default();
    let mut bytes = 0;
    for _ in 0..TURNS {
        let start = std::time::Instant::now();
        let set = RuleSet::new(rules.clone(), DEFAULTS);
        took.push(start.elapsed().as_secs_f64() * 1e3);
        bytes = black_box(set).bytes();
    }
    bench.report.alone(case, WEFT, "ms", &took);
    let memory = Samples::from([bytes as f64 / count as f64]);
    bench
        .report
        .alone(&format!("{case}/memory"), WEFT, "bytes/rule", &memory);
    Ok(())
}

const DEFAULTS: Defaults = Defaults {
    ingress: Action::Deny,
    egress: Action::Allow,
};

/// A generator that needs no crate (SplitMix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }
}

fn network(number: usize, length: u8, v6: bool) -> IpNet {
    let host = number as u32;
    match v6 {
        false => IpNet::new(std::net::Ipv4Addr::from(0x0a00_0000 | host << 8).into(), length),
        true => IpNet::new(
            std::net::Ipv6Addr::from(0xfd00 << 112 | u128::from(host) << 64).into(),
            if length == 32 { 128 } else { 64 },
        ),
    }
    .expect("a length of the family")
    .trunc()
}

fn rules(count: usize, v6: bool) -> Vec<Rule> {
    let rule = |number: usize| {
        let mut rule = Rule::new(Direction::Ingress, Action::Allow);
        rule.protocol = Some(if number.is_multiple_of(4) { 17 } else { 6 });
        let port = (1000 + number % 20_000) as u16;
        match number % 3 {
            0 => rule.destination_ports = vec![port..=port],
            1 => {
                rule.remote = Some(network(number, 24, v6).into());
                rule.destination_ports = vec![80..=80, 443..=443];
            }
            _ => {
                rule.remote = Some(network(number, 32, v6).into());
                rule.destination_ports = vec![port..=port + 10];
            }
        }
        if number.is_multiple_of(10) {
            rule.action = Action::Deny;
        }
        rule
    };
    (0..count).map(rule).collect()
}

fn set(count: usize, v6: bool) -> RuleSet {
    RuleSet::new(rules(count, v6), DEFAULTS)
}

fn sessions<A: Family>(count: usize, address: impl Fn(u64) -> A) -> Vec<Tuple<A>> {
    let mut numbers = Numbers(1);
    let mut session = || {
        let (random, rule) = (numbers.next(), numbers.next() as usize % count);
        let port = match rule % 3 {
            1 => 443,
            _ => (1000 + rule % 20_000) as u16,
        };
        Tuple {
            remote: address(rule as u64),
            local: address(1 << 20),
            protocol: if rule.is_multiple_of(4) { 17 } else { 6 },
            source_port: random as u16 | 1024,
            destination_port: if random.is_multiple_of(8) { 22 } else { port },
        }
    };
    (0..SESSIONS).map(|_| session()).collect()
}
