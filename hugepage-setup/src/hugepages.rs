//! Hugepage pools: what each NUMA node holds, and how to fill them.
//!
//! The kernel keeps a pool a size and node (Documentation/admin-guide/mm/hugetlbpage.rst). A write without a node
//! spreads the pages over all nodes; weft wants them on the nodes of its workers and NICs.

use std::{fmt, str::FromStr};

use serde::Serialize;

use crate::{
    action::{Action, Plan},
    cpu,
    error::SetupError,
    host::Host,
};

/// Where `reserve --persistent` writes pools of the default size.
pub const SYSCTL_FILE: &str = "/etc/sysctl.d/80-weft-hugepages.conf";
/// Where `reserve --persistent` writes pools of a node or of another size.
pub const TMPFILES_FILE: &str = "/etc/tmpfiles.d/weft-hugepages.conf";

/// Size of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageSize {
    kib: u64,
}

impl PageSize {
    /// 2 MiB, which every x86-64 has.
    pub const M2: Self = Self { kib: 2048 };
    /// 1 GiB, where the CPU has pdpe1gb.
    pub const G1: Self = Self { kib: 1024 * 1024 };

    /// In KiB, as the kernel counts.
    pub const fn kib(self) -> u64 {
        self.kib
    }

    /// How many MiB a number of pages holds.
    pub const fn mib(self, pages: u64) -> u64 {
        pages.saturating_mul(self.kib) / 1024
    }

    fn directory(self) -> String {
        format!("hugepages-{}kB", self.kib)
    }
}

impl fmt::Display for PageSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kib {
            kib if kib % (1024 * 1024) == 0 => write!(f, "{}G", kib / 1024 / 1024),
            kib if kib % 1024 == 0 => write!(f, "{}M", kib / 1024),
            kib => write!(f, "{kib}K"),
        }
    }
}

impl Serialize for PageSize {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl FromStr for PageSize {
    type Err = SetupError;

    fn from_str(text: &str) -> Result<Self, SetupError> {
        let bad = || SetupError::BadPageSize(text.to_owned());
        let upper = text.trim().to_uppercase();
        let number = upper.trim_end_matches("IB").trim_end_matches('B');
        let (digits, scale) = match number.chars().last() {
            Some('K') => (&number[..number.len() - 1], 1),
            Some('M') => (&number[..number.len() - 1], 1024),
            Some('G') => (&number[..number.len() - 1], 1024 * 1024),
            _ => return Err(bad()),
        };
        let count: u64 = digits.parse().map_err(|_| bad())?;
        match count.checked_mul(scale) {
            Some(kib) if kib > 0 => Ok(Self { kib }),
            _ => Err(bad()),
        }
    }
}

/// The pages of one size on one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pool {
    /// NUMA node.
    pub node: u32,
    /// Size of a page.
    pub size: PageSize,
    /// Pages in the pool.
    pub total: u64,
    /// Pages that nobody uses.
    pub free: u64,
}

impl Pool {
    /// What nobody uses, in MiB.
    pub const fn free_mib(&self) -> u64 {
        self.size.mib(self.free)
    }

    /// All of it, in MiB.
    pub const fn total_mib(&self) -> u64 {
        self.size.mib(self.total)
    }
}

/// Sizes that the kernel offers, smallest first.
pub fn sizes(host: &Host) -> Vec<PageSize> {
    sizes_in(host, "/sys/kernel/mm/hugepages")
}

/// The size used when nobody asks for one.
pub fn default_size(host: &Host) -> PageSize {
    host.read("/proc/meminfo")
        .and_then(|text| {
            let line = text.lines().find_map(|line| line.strip_prefix("Hugepagesize:"))?;
            line.trim().strip_suffix("kB")?.trim().parse().ok()
        })
        .filter(|kib| *kib > 0)
        .map_or(PageSize::M2, |kib| PageSize { kib })
}

/// Every pool, by node and size.
pub fn pools(host: &Host) -> Vec<Pool> {
    let mut pools = Vec::new();
    for node in cpu::nodes(host) {
        let directory = format!("/sys/devices/system/node/node{node}/hugepages");
        for size in sizes_in(host, &directory) {
            pools.push(pool(host, &directory, node, size));
        }
    }
    if pools.is_empty() {
        // A kernel without NUMA keeps them in one place.
        for size in sizes(host) {
            pools.push(pool(host, "/sys/kernel/mm/hugepages", 0, size));
        }
    }
    pools
}

/// How much to reserve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// A number of pages.
    Pages(u64),
    /// Memory, rounded up to whole pages.
    Mib(u64),
}

/// What `hugepage-setup reserve` was asked for.
#[derive(Clone, Debug)]
pub struct Reserve {
    /// How large the pool shall be at least.
    pub amount: Amount,
    /// Size of a page; none: the kernel's default.
    pub size: Option<PageSize>,
    /// NUMA node; none: spread over all.
    pub node: Option<u32>,
    /// Again after each boot.
    pub persistent: bool,
}

/// The steps to a pool of at least the asked size. A larger pool is left as it is.
pub fn plan_reserve(host: &Host, wish: &Reserve) -> Result<Plan, SetupError> {
    let size = wish.size.unwrap_or_else(|| default_size(host));
    let known = sizes(host);
    if !known.contains(&size) {
        return Err(SetupError::UnknownPageSize {
            size: size.to_string(),
            known: list(&known),
        });
    }
    let nodes = cpu::nodes(host);
    if let Some(node) = wish.node.filter(|node| !nodes.contains(node)) {
        return Err(SetupError::UnknownNode {
            node,
            known: list(&nodes),
        });
    }
    let pages = match wish.amount {
        Amount::Pages(pages) => pages,
        Amount::Mib(mib) => mib.saturating_mul(1024).div_ceil(size.kib()),
    };
    if pages == 0 {
        return Err(SetupError::NoPages);
    }
    let directory = match wish.node {
        Some(node) => format!(
            "/sys/devices/system/node/node{node}/hugepages/{}",
            size.directory()
        ),
        None => format!("/sys/kernel/mm/hugepages/{}", size.directory()),
    };
    let path = format!("{directory}/nr_hugepages");
    let before = host.read_number(&path).unwrap_or(0);

    let mut plan = Plan::default();
    if before >= pages {
        plan.notes.push(format!(
            "the pool holds {before} pages of {size} ({} MiB) already, nothing to reserve",
            size.mib(before)
        ));
    } else {
        plan.actions.push(Action::SetPages {
            path: path.clone(),
            pages,
            before,
        });
    }
    if wish.persistent {
        plan.actions.extend(persist(host, wish.node, size, pages, &path));
    }
    if size == PageSize::G1 {
        plan.notes.push(format!(
            "pages of 1G are found for certain only at boot; on the kernel command line: \
             hugepagesz=1G hugepages={pages}"
        ));
    }
    Ok(plan)
}

/// The file that asks for the pool at each boot; nothing if it says so already.
fn persist(host: &Host, node: Option<u32>, size: PageSize, pages: u64, path: &str) -> Option<Action> {
    let (file, key, line) = if node.is_none() && size == default_size(host) {
        (
            SYSCTL_FILE,
            "vm.nr_hugepages".to_owned(),
            format!("vm.nr_hugepages = {pages}"),
        )
    } else {
        (
            TMPFILES_FILE,
            format!("w {path} "),
            format!("w {path} - - - - {pages}"),
        )
    };
    let before = host.read_exact(file).ok();
    let mut lines: Vec<&str> = before.as_deref().unwrap_or_default().lines().collect();
    if lines.is_empty() {
        lines.push("# Hugepages for weft, written by hugepage-setup.");
    }
    lines.retain(|old| !old.starts_with(&key));
    lines.push(&line);
    let content = lines.join("\n") + "\n";
    (before.as_deref() != Some(&content)).then(|| Action::WriteFile {
        path: file.to_owned(),
        content,
        before,
    })
}

fn sizes_in(host: &Host, directory: &str) -> Vec<PageSize> {
    let mut sizes: Vec<PageSize> = host
        .list(directory)
        .iter()
        .filter_map(|name| {
            let kib = name
                .strip_prefix("hugepages-")?
                .strip_suffix("kB")?
                .parse()
                .ok()?;
            Some(PageSize { kib })
        })
        .collect();
    sizes.sort_unstable();
    sizes
}

fn pool(host: &Host, directory: &str, node: u32, size: PageSize) -> Pool {
    let number = |name: &str| {
        host.read_number(&format!("{directory}/{}/{name}", size.directory()))
            .unwrap_or(0)
    };
    Pool {
        node,
        size,
        total: number("nr_hugepages"),
        free: number("free_hugepages"),
    }
}

fn list<T: ToString>(items: &[T]) -> String {
    if items.is_empty() {
        return "none".to_owned();
    }
    items
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, kib) in [
            ("2M", 2048),
            ("2MiB", 2048),
            ("2048kB", 2048),
            ("1g", 1 << 20),
            ("64K", 64),
        ] {
            assert_eq!(text.parse::<PageSize>().unwrap().kib(), kib, "{text}");
        }
        for text in [
            "",
            "2",
            "M",
            "0M",
            "-1M",
            "two",
            "99999999999999999999G",
            "18014398509481984G",
        ] {
            assert!(text.parse::<PageSize>().is_err(), "{text:?} was taken");
        }
        assert_eq!(PageSize::M2.to_string(), "2M");
        assert_eq!(PageSize::G1.to_string(), "1G");
    }
}
