//! Do the workers have CPUs of their own that are fast enough?

use crate::{
    cpu::{self, CpuSet},
    doctor::Requirements,
    finding::Finding,
    host::Host,
};

pub(super) fn features(host: &Host) -> Finding {
    const CHECK: &str = "cpu-features";
    let Some(flags) = cpu::features(host) else {
        return Finding::warning(
            CHECK,
            "/proc/cpuinfo does not say",
            "check the CPU's data sheet for SSE 4.2 and AVX2",
        );
    };
    let has = |flag: &str| flags.contains(flag);
    if has("asimd") {
        return Finding::warning(CHECK, "64-bit Arm", "weft is built and tested for x86-64");
    }
    if !has("sse4_2") || !has("popcnt") {
        return Finding::problem(
            CHECK,
            "no SSE 4.2",
            "DPDK needs it: in a virtual machine choose the host's CPU model (-cpu host)",
        );
    }
    let best = ["avx512f", "avx2", "sse4_2"]
        .iter()
        .find(|flag| has(flag))
        .copied()
        .unwrap_or_default();
    if !has("avx2") {
        return Finding::warning(
            CHECK,
            best,
            "the flow table is slower without AVX2; in a virtual machine choose -cpu host",
        );
    }
    if !(has("constant_tsc") && has("nonstop_tsc")) {
        return Finding::warning(
            CHECK,
            format!("{best}, but the time stamp counter changes its pace"),
            "rates and ageing may be off; in a virtual machine choose -cpu host,+invtsc",
        );
    }
    Finding::ok(CHECK, format!("{best}, constant time stamp counter"))
}

/// A container or service may be confined to fewer CPUs than the machine has.
pub(super) fn allowed(host: &Host, wanted: &Requirements) -> Finding {
    const CHECK: &str = "cpus";
    let online = cpu::online(host);
    let allowed = cpu::allowed(host).map_or_else(|| online.clone(), |allowed| allowed.shared_with(&online));
    let missing = wanted.workers.without(&online);
    if !missing.is_empty() {
        return Finding::problem(
            CHECK,
            format!("workers want {missing}, online are {online}"),
            "correct `workers` in weftd.toml",
        );
    }
    let denied = wanted.workers.without(&allowed);
    if !denied.is_empty() {
        return Finding::problem(
            CHECK,
            format!("workers want {denied}, this cgroup allows {allowed}"),
            "widen the cpuset of the service or pod (AllowedCPUs=, cpuset.cpus)",
        );
    }
    if online.len() < 2 {
        return Finding::warning(
            CHECK,
            format!("{online} online"),
            "a worker shares its only CPU with everything else; use two or more",
        );
    }
    if allowed == online {
        Finding::ok(CHECK, format!("{online} online"))
    } else {
        Finding::ok(CHECK, format!("{online} online, {allowed} allowed here"))
    }
}

pub(super) fn isolation(host: &Host, wanted: &Requirements) -> Finding {
    const CHECK: &str = "cpu-isolation";
    let now = cpu::isolation(host);
    let command = if wanted.workers.is_empty() {
        "hugepage-setup isolate".to_owned()
    } else {
        format!("hugepage-setup isolate --cpus {}", wanted.workers)
    };
    if now.isolated.is_empty() {
        return Finding::warning(
            CHECK,
            "no CPU is isolated",
            format!("{command} says how; without, other tasks interrupt the workers"),
        );
    }
    let workers = if wanted.workers.is_empty() {
        &now.isolated
    } else {
        &wanted.workers
    };
    let lacks = |set: &CpuSet, name: &str| {
        let lacking = workers.without(set);
        (!lacking.is_empty()).then(|| format!("CPUs {lacking} are not in {name}"))
    };
    let lacking: Vec<String> = [
        lacks(&now.isolated, "isolcpus"),
        lacks(&now.tickless, "nohz_full"),
        lacks(&now.without_callbacks, "rcu_nocbs"),
    ]
    .into_iter()
    .flatten()
    .collect();
    if lacking.is_empty() {
        Finding::ok(
            CHECK,
            format!("CPUs {workers} are isolated, without tick and RCU callbacks"),
        )
    } else {
        Finding::warning(CHECK, lacking.join("; "), format!("{command} says how"))
    }
}

/// Two workers on the threads of one core get half a core each.
pub(super) fn shared_cores(host: &Host, wanted: &Requirements) -> Option<Finding> {
    const CHECK: &str = "hyper-threads";
    let pairs: Vec<String> = wanted
        .workers
        .iter()
        .filter_map(|worker| {
            let shared: CpuSet = cpu::siblings(host, worker)
                .iter()
                .filter(|cpu| wanted.workers.contains(*cpu))
                .collect();
            let first = shared.iter().next() == Some(worker);
            (shared.len() > 1 && first).then(|| shared.to_string())
        })
        .collect();
    if wanted.workers.is_empty() {
        return None;
    }
    Some(if pairs.is_empty() {
        Finding::ok(CHECK, "each worker has a core of its own")
    } else {
        Finding::warning(
            CHECK,
            format!("workers share cores: {}", pairs.join(" and ")),
            "take one thread of each core (see `lscpu -e`)",
        )
    })
}

pub(super) fn governor(host: &Host, wanted: &Requirements) -> Finding {
    const CHECK: &str = "governor";
    let cpus = if wanted.workers.is_empty() {
        cpu::online(host)
    } else {
        wanted.workers.clone()
    };
    let governors: Vec<(u32, String)> = cpus
        .iter()
        .filter_map(|cpu| Some((cpu, cpu::governor(host, cpu)?)))
        .collect();
    if governors.is_empty() {
        return Finding::ok(CHECK, "this kernel shows no CPU frequencies (a virtual machine)");
    }
    let slow: Vec<&(u32, String)> = governors
        .iter()
        .filter(|(_, governor)| governor != "performance")
        .collect();
    let Some((_, governor)) = slow.first() else {
        return Finding::ok(CHECK, "performance");
    };
    let cpus: CpuSet = slow.iter().map(|(cpu, _)| *cpu).collect();
    Finding::warning(
        CHECK,
        format!("{governor} on CPUs {cpus}"),
        "cpupower frequency-set -g performance (the CPU slows down while a worker naps)",
    )
}

/// The kernel's automatic moving of pages between nodes stalls whoever touches them.
pub(super) fn balancing(host: &Host) -> Option<Finding> {
    const CHECK: &str = "numa-balancing";
    if cpu::nodes(host).len() < 2 {
        return None;
    }
    let on = host.read_number("/proc/sys/kernel/numa_balancing")? != 0;
    Some(if on {
        Finding::warning(
            CHECK,
            "on",
            "sysctl kernel.numa_balancing=0: it stalls workers to move their memory",
        )
    } else {
        Finding::ok(CHECK, "off")
    })
}
