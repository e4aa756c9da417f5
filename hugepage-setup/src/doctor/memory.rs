//! Is there memory that does not move, enough of it, and in the right place?

use crate::{
    cpu,
    doctor::Requirements,
    finding::Finding,
    host::Host,
    hugepages::{self, Pool},
    mount, pci,
};

pub(super) fn hugepages(host: &Host, wanted: &Requirements) -> Finding {
    const CHECK: &str = "hugepages";
    let need = wanted.memory_mib;
    let pools = hugepages::pools(host);
    let free: u64 = pools.iter().map(Pool::free_mib).sum();
    let total: u64 = pools.iter().map(Pool::total_mib).sum();
    let reserve = format!("hugepage-setup reserve --mib {need}");
    if wanted.weftd_runs {
        return if total > 0 {
            Finding::ok(
                CHECK,
                format!("{free} MiB free of {total} MiB, with weftd running"),
            )
        } else {
            Finding::warning(
                CHECK,
                "none reserved, weftd runs without",
                format!("faster with them: {reserve}"),
            )
        };
    }
    if total == 0 {
        return Finding::problem(
            CHECK,
            "none reserved",
            format!("{reserve} (or no_huge = true in weftd.toml, which is slower)"),
        );
    }
    let found = format!("{free} MiB free of {total} MiB");
    if free >= need {
        Finding::ok(CHECK, found)
    } else if total >= need {
        Finding::warning(
            CHECK,
            format!("{found}, weftd wants {need} MiB"),
            "fine if weftd holds the rest; otherwise another program does: reserve more",
        )
    } else {
        Finding::problem(CHECK, format!("{found}, weftd wants {need} MiB"), reserve)
    }
}

/// Pages on the nodes where workers and NICs are; asked only of machines with several nodes.
pub(super) fn placement(host: &Host, wanted: &Requirements) -> Vec<Finding> {
    let nodes = cpu::nodes(host);
    if nodes.len() < 2 {
        return Vec::new();
    }
    let pools = hugepages::pools(host);
    let nics = pci::nics(host);
    nodes
        .into_iter()
        .map(|node| {
            let check = format!("hugepages-node{node}");
            let free: u64 = pools
                .iter()
                .filter(|pool| pool.node == node)
                .map(Pool::free_mib)
                .sum();
            let total: u64 = pools
                .iter()
                .filter(|pool| pool.node == node)
                .map(Pool::total_mib)
                .sum();
            let found = format!("{free} MiB free of {total} MiB");
            let mut users = Vec::new();
            if wanted.workers.overlaps(&cpu::of_node(host, node)) {
                users.push("workers".to_owned());
            }
            users.extend(
                nics.iter()
                    .filter(|nic| nic.node == Some(node))
                    .map(|nic| nic.address.to_string()),
            );
            if total > 0 || users.is_empty() {
                return Finding::ok(check, found);
            }
            Finding::warning(
                check,
                format!("{found}, but it has {}", users.join(", ")),
                format!("hugepage-setup reserve --mib {} --node {node}", wanted.memory_mib),
            )
        })
        .collect()
}

pub(super) fn mounted(host: &Host) -> Finding {
    const CHECK: &str = "hugetlbfs";
    let mounts = mount::mounts(host);
    if mounts.is_empty() {
        return Finding::warning(
            CHECK,
            "not mounted",
            "hugepage-setup mount (weftd runs without; QEMU guests on hugepages need it)",
        );
    }
    let list: Vec<String> = mounts
        .iter()
        .map(|mount| format!("{} ({})", mount.path, mount.size))
        .collect();
    Finding::ok(CHECK, list.join(", "))
}

/// CAP_IPC_LOCK, which is bit 14, lifts the limit (capabilities(7)).
fn may_lock_more(host: &Host) -> bool {
    let status = host.read("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| u64::from_str_radix(line.strip_prefix("CapEff:")?.trim(), 16).ok())
        .is_some_and(|capabilities| capabilities & (1 << 14) != 0)
}

/// Memory that a NIC writes to must be locked, and vfio counts it against this limit.
pub(super) fn lockable(host: &Host, wanted: &Requirements) -> Finding {
    const CHECK: &str = "memlock";
    let limits = host.read("/proc/self/limits").unwrap_or_default();
    let limit = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max locked memory"))
        .and_then(|rest| rest.split_whitespace().next());
    match limit.map(|limit| (limit, limit.parse::<u64>())) {
        None => Finding::warning(
            CHECK,
            "the kernel does not say",
            "check `ulimit -l` of weftd's service",
        ),
        Some(("unlimited", _)) => Finding::ok(CHECK, "unlimited"),
        Some((_, Ok(bytes))) if bytes / 1024 / 1024 >= wanted.memory_mib => {
            Finding::ok(CHECK, format!("{} MiB", bytes / 1024 / 1024))
        }
        Some((text, _)) if may_lock_more(host) => {
            Finding::ok(CHECK, format!("{text} bytes, which do not bind root"))
        }
        Some((text, parsed)) => Finding::warning(
            CHECK,
            parsed.map_or_else(
                |_| text.to_owned(),
                |bytes| format!("{} MiB for this shell", bytes / 1024 / 1024),
            ),
            "LimitMEMLOCK=infinity in weftd's unit, or `ulimit -l unlimited`: vfio counts a NIC's memory against it",
        ),
    }
}
