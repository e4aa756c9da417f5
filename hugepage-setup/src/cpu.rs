//! CPUs: the kernel's way to write sets of them, which node they are on, and who else may use them.

use std::{collections::BTreeSet, fmt, str::FromStr};

use crate::{error::SetupError, host::Host};

/// A set of CPU numbers, written as the kernel writes it: "1-3,8".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuSet(BTreeSet<u32>);

/// No machine that weft runs on has more; keeps a slip of the pen from making a list of billions.
const MOST_CPUS: u32 = 16_384;

impl CpuSet {
    /// True if no CPU is in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many CPUs are in it.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True if the CPU is in it.
    pub fn contains(&self, cpu: u32) -> bool {
        self.0.contains(&cpu)
    }

    /// The CPUs in order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().copied()
    }

    /// What is in this set and not in the other.
    pub fn without(&self, other: &Self) -> Self {
        Self(self.0.difference(&other.0).copied().collect())
    }

    /// What is in both sets.
    pub fn shared_with(&self, other: &Self) -> Self {
        Self(self.0.intersection(&other.0).copied().collect())
    }

    /// True if both share a CPU.
    pub fn overlaps(&self, other: &Self) -> bool {
        !self.0.is_disjoint(&other.0)
    }
}

impl FromIterator<u32> for CpuSet {
    fn from_iter<I: IntoIterator<Item = u32>>(cpus: I) -> Self {
        Self(cpus.into_iter().collect())
    }
}

impl FromStr for CpuSet {
    type Err = SetupError;

    fn from_str(text: &str) -> Result<Self, SetupError> {
        let bad = || SetupError::BadCpuList(text.to_owned());
        let number = |part: &str| part.trim().parse::<u32>().ok().filter(|cpu| *cpu < MOST_CPUS);
        let mut cpus = BTreeSet::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (number(first).ok_or_else(bad)?, number(last).ok_or_else(bad)?);
            if first > last {
                return Err(bad());
            }
            cpus.extend(first..=last);
        }
        Ok(Self(cpus))
    }
}

impl fmt::Display for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.iter().copied().peekable();
        let mut separator = "";
        while let Some(first) = rest.next() {
            let mut last = first;
            while rest.next_if_eq(&(last + 1)).is_some() {
                last += 1;
            }
            match last - first {
                0 => write!(f, "{separator}{first}")?,
                1 => write!(f, "{separator}{first},{last}")?,
                _ => write!(f, "{separator}{first}-{last}")?,
            }
            separator = ",";
        }
        Ok(())
    }
}

/// Which CPUs the kernel keeps out of which of its own work.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Isolation {
    /// Not used by the scheduler (`isolcpus=`, or an isolated cpuset partition).
    pub isolated: CpuSet,
    /// Without the timer tick while one task runs (`nohz_full=`).
    pub tickless: CpuSet,
    /// RCU callbacks run elsewhere (`rcu_nocbs=`).
    pub without_callbacks: CpuSet,
}

/// Every CPU that is on.
pub fn online(host: &Host) -> CpuSet {
    set(host, "/sys/devices/system/cpu/online")
}

/// The CPUs that this process may run on: cgroup and affinity taken together.
pub fn allowed(host: &Host) -> Option<CpuSet> {
    let status = host.read("/proc/self/status")?;
    let list = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    list.parse().ok()
}

/// The CPUs of a NUMA node.
pub fn of_node(host: &Host, node: u32) -> CpuSet {
    set(host, &format!("/sys/devices/system/node/node{node}/cpulist"))
}

/// NUMA nodes in order; a kernel without NUMA has none, which counts as node 0.
pub fn nodes(host: &Host) -> Vec<u32> {
    let mut nodes: Vec<u32> = host
        .list("/sys/devices/system/node")
        .iter()
        .filter_map(|name| name.strip_prefix("node")?.parse().ok())
        .collect();
    nodes.sort_unstable();
    if nodes.is_empty() {
        nodes.push(0);
    }
    nodes
}

/// What the kernel was told to keep off.
pub fn isolation(host: &Host) -> Isolation {
    Isolation {
        isolated: set(host, "/sys/devices/system/cpu/isolated"),
        tickless: set(host, "/sys/devices/system/cpu/nohz_full"),
        without_callbacks: host
            .boot_parameter("rcu_nocbs")
            .and_then(|list| {
                if list == "all" {
                    Some(online(host))
                } else {
                    list.parse().ok()
                }
            })
            .unwrap_or_default(),
    }
}

/// The CPUs that share a core with this one, itself included.
pub fn siblings(host: &Host, cpu: u32) -> CpuSet {
    set(
        host,
        &format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"),
    )
}

/// The frequency governor; none where the kernel shows no frequencies (most virtual machines).
pub fn governor(host: &Host, cpu: u32) -> Option<String> {
    host.read(&format!(
        "/sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor"
    ))
}

/// What the first CPU can do, by the kernel's names; none if /proc/cpuinfo does not say.
pub fn features(host: &Host) -> Option<BTreeSet<String>> {
    let info = host.read("/proc/cpuinfo")?;
    let line = info
        .lines()
        .find(|line| line.starts_with("flags") || line.starts_with("Features"))?;
    let (_, flags) = line.split_once(':')?;
    Some(flags.split_whitespace().map(str::to_owned).collect())
}

fn set(host: &Host, path: &str) -> CpuSet {
    host.read(path)
        .and_then(|text| text.parse().ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_written_as_it_was_read() {
        for text in ["", "0", "0,1", "0-2", "1-3,8", "0-2,4,6,8-127"] {
            assert_eq!(text.parse::<CpuSet>().unwrap().to_string(), text);
        }
        assert_eq!("8,1-2,3".parse::<CpuSet>().unwrap().to_string(), "1-3,8");
    }

    #[test]
    fn what_is_no_set_is_refused() {
        for text in ["a", "3-1", "1-", "-1", "1 2", "0-4000000000", "99999"] {
            assert!(text.parse::<CpuSet>().is_err(), "{text:?} was taken");
        }
    }
}
