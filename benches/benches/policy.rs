//! Policies alone: nanoseconds a first packet's decision, by the number of rules, alone and in a burst; and how long a
//! set takes to compile.
//!
//! The rules are of three kinds in turn, as security groups have them: a service of everybody's, a prefix, a host with a
//! range of ports; a deny now and then. Sessions are spread over all of them, and some match none.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ipnet::IpNet;
use weft_table::policy::{Action, Defaults, Direction, Family, Rule, RuleSet, Tuple, Verdict};

const BURST: usize = 64;
const SESSIONS: usize = 1 << 16;
const SIZES: [usize; 3] = [50, 1000, 10_000];

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
    let defaults = Defaults {
        ingress: Action::Deny,
        egress: Action::Allow,
    };
    RuleSet::new(rules(count, v6), defaults)
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

fn judge<A: Family>(c: &mut Criterion, family: &str, address: impl Fn(u64) -> A) {
    let mut group = c.benchmark_group(format!("policy/{family}"));
    for count in SIZES {
        let (set, sessions) = (set(count, size_of::<A>() == 16), sessions(count, &address));
        let mut at = 0;
        group.throughput(Throughput::Elements(1));
        group.bench_function(BenchmarkId::new("alone", count), |bench| {
            bench.iter(|| {
                // Each session waits for the verdict on the one before.
                let verdict = set.judge(&(), Direction::Ingress, &sessions[at]);
                at = (at + 1 + (verdict.decider as usize & 1)) % SESSIONS;
                verdict
            });
        });
        group.throughput(Throughput::Elements(BURST as u64));
        let mut verdicts = [Verdict {
            action: Action::Deny,
            decider: 0,
        }; BURST];
        group.bench_function(BenchmarkId::new("bulk", count), |bench| {
            bench.iter(|| {
                set.judge_bulk(&(), Direction::Ingress, &sessions[at..at + BURST], &mut verdicts);
                at = (at + BURST) % (SESSIONS - BURST);
                black_box(&verdicts);
            });
        });
    }
    group.finish();
}

fn decide(c: &mut Criterion) {
    judge(c, "ipv4", |rule| 0x0a00_0000u32 | (rule as u32) << 8);
    judge(c, "ipv6", |rule| 0xfd00u128 << 112 | u128::from(rule) << 64);
}

fn compile(c: &mut Criterion) {
    let mut group = c.benchmark_group("policy/compile");
    group.sample_size(20);
    for count in SIZES {
        let bytes = set(count, false).bytes();
        eprintln!("{count} rules take {bytes} bytes");
        group.bench_function(BenchmarkId::from_parameter(count), |bench| {
            bench.iter(|| set(count, false))
        });
    }
    group.finish();
}

criterion_group!(benches, decide, compile);
criterion_main!(benches);
