//! What operators read: aligned tables, and JSON with the same facts.

use serde::Serialize;

use crate::{
    cpu::{self, CpuSet},
    finding::{Finding, State},
    host::Host,
    hugepages::{self, Pool},
    mount::{self, Mount},
    pci::{self, Nic},
};

/// Everything that `hugepage-setup show` shows.
#[derive(Clone, Debug, Serialize)]
pub struct Overview {
    /// NUMA nodes.
    pub nodes: Vec<Node>,
    /// Hugepage pools.
    pub pools: Vec<Pool>,
    /// Mounted hugetlbfs.
    pub mounts: Vec<Mount>,
    /// PCI network devices.
    pub nics: Vec<Nic>,
}

/// A NUMA node.
#[derive(Clone, Debug, Serialize)]
pub struct Node {
    /// Its number.
    pub node: u32,
    /// Its CPUs, as the kernel writes sets.
    pub cpus: String,
    /// Those of them that are isolated.
    pub isolated: String,
    /// Its memory in MiB.
    pub memory_mib: u64,
    /// What of it is free, in MiB.
    pub free_mib: u64,
}

impl Overview {
    /// Looks at the host.
    pub fn of(host: &Host) -> Self {
        let isolated = cpu::isolation(host).isolated;
        let nodes = cpu::nodes(host)
            .into_iter()
            .map(|node| {
                let cpus = match cpu::of_node(host, node) {
                    none if none.is_empty() => cpu::online(host),
                    cpus => cpus,
                };
                let inside: CpuSet = cpus.iter().filter(|cpu| isolated.contains(*cpu)).collect();
                Node {
                    node,
                    cpus: cpus.to_string(),
                    isolated: inside.to_string(),
                    memory_mib: memory(host, node, "MemTotal:"),
                    free_mib: memory(host, node, "MemFree:"),
                }
            })
            .collect();
        Self {
            nodes,
            pools: hugepages::pools(host),
            mounts: mount::mounts(host),
            nics: pci::nics(host),
        }
    }

    /// As tables.
    pub fn text(&self) -> String {
        let dash = |text: &str| {
            if text.is_empty() {
                "-".to_owned()
            } else {
                text.to_owned()
            }
        };
        let mut text = table(
            &["NODE", "CPUS", "ISOLATED", "MEMORY", "FREE"],
            self.nodes.iter().map(|node| {
                vec![
                    node.node.to_string(),
                    dash(&node.cpus),
                    dash(&node.isolated),
                    format!("{} MiB", node.memory_mib),
                    format!("{} MiB", node.free_mib),
                ]
            }),
        );
        text.push('\n');
        text += &table(
            &["NODE", "PAGES", "TOTAL", "FREE", "MEMORY"],
            self.pools.iter().map(|pool| {
                vec![
                    pool.node.to_string(),
                    pool.size.to_string(),
                    pool.total.to_string(),
                    pool.free.to_string(),
                    format!("{} MiB", pool.total_mib()),
                ]
            }),
        );
        text.push('\n');
        if self.mounts.is_empty() {
            text += "hugetlbfs is not mounted\n";
        } else {
            text += &table(
                &["HUGETLBFS", "PAGES"],
                self.mounts
                    .iter()
                    .map(|mount| vec![mount.path.clone(), mount.size.to_string()]),
            );
        }
        text.push('\n');
        if self.nics.is_empty() {
            text += "no PCI network device\n";
        } else {
            text += &table(
                &["PCI", "ID", "DRIVER", "INTERFACE", "NODE", "IOMMU-GROUP", "VFS"],
                self.nics.iter().map(|nic| {
                    vec![
                        nic.address.to_string(),
                        nic.id.clone(),
                        dash(nic.driver.as_deref().unwrap_or_default()),
                        dash(&nic.interfaces.join(",")),
                        nic.node.map_or("-".to_owned(), |node| node.to_string()),
                        dash(nic.iommu_group.as_deref().unwrap_or_default()),
                        match (&nic.physical_function, nic.most_virtual_functions) {
                            (Some(physical), _) => format!("of {physical}"),
                            (None, 0) => "-".to_owned(),
                            (None, most) => format!("{} of {most}", nic.virtual_functions.len()),
                        },
                    ]
                }),
            );
        }
        text
    }
}

/// Findings as a list for people: state, check, what was found, and the advice below.
pub fn findings_text(findings: &[Finding], colour: bool) -> String {
    let width = findings
        .iter()
        .map(|finding| finding.check.len())
        .max()
        .unwrap_or(0);
    let mut text = String::new();
    for finding in findings {
        let state = format!("{:<7}", finding.state.name());
        let state = match (colour, finding.state) {
            (false, _) => state,
            (true, State::Ok) => format!("\x1b[32m{state}\x1b[0m"),
            (true, State::Warning) => format!("\x1b[33m{state}\x1b[0m"),
            (true, State::Problem) => format!("\x1b[31m{state}\x1b[0m"),
        };
        text += &format!("{state}  {:<width$}  {}\n", finding.check, finding.found);
        if let Some(advice) = &finding.advice {
            text += &format!("{:9}{:width$}  help: {advice}\n", "", "");
        }
    }
    let count = |state| findings.iter().filter(|finding| finding.state == state).count();
    let plural = |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
    text += &format!(
        "\n{} ok, {}, {}\n",
        count(State::Ok),
        plural(count(State::Warning), "warning"),
        plural(count(State::Problem), "problem")
    );
    text
}

fn memory(host: &Host, node: u32, key: &str) -> u64 {
    let node_file = host.read(&format!("/sys/devices/system/node/node{node}/meminfo"));
    let text = node_file
        .or_else(|| host.read("/proc/meminfo"))
        .unwrap_or_default();
    text.lines()
        .find_map(|line| {
            line.split_once(key)?
                .1
                .trim()
                .strip_suffix("kB")?
                .trim()
                .parse::<u64>()
                .ok()
        })
        .unwrap_or(0)
        / 1024
}

fn table(header: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let header = header.iter().map(|&name| name.to_owned()).collect();
    let rows: Vec<Vec<String>> = std::iter::once(header).chain(rows).collect();
    let columns = rows[0].len();
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            rows.iter()
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    rows.iter()
        .map(|row| {
            let line: Vec<String> = row
                .iter()
                .zip(&widths)
                .map(|(cell, width)| format!("{cell:<width$}"))
                .collect();
            line.join("  ").trim_end().to_owned() + "\n"
        })
        .collect()
}
