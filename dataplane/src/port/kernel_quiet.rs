//! Keeps the kernel out of an interface whose frames weft takes by a packet socket.
//!
//! A packet socket only copies: the kernel would go on to answer ARP, ping and TCP by itself, and each question would
//! get two answers. An nftables chain on the interface's ingress hook drops what the kernel gets; packet sockets see
//! frames before that hook. (What the kernel itself sends there is copied too, unless the socket is told otherwise:
//! `packet_sockets`.) The table is named after instance and interface, is replaced in one transaction (so that
//! one left over from a killed process does no harm) and taken away on close. Tables of this instance that a killed
//! process left on other interfaces go with the first use.

use std::{
    collections::HashSet,
    io::Write,
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
};

use super::error::OpenError;

/// While it lives, the kernel gets nothing from the interface.
#[derive(Debug)]
pub(crate) struct KernelQuiet {
    table: String,
}

/// Instances whose leftovers were swept by this process.
static SWEPT: Mutex<Option<HashSet<String>>> = Mutex::new(None);

impl KernelQuiet {
    /// Drops what the kernel would get from `interface`, in the caller's network namespace.
    pub(crate) fn new(port: &str, instance: &str, interface: &str) -> Result<Self, OpenError> {
        let named = |reason: Failure| match reason {
            Failure::Missing => OpenError::NftMissing {
                port: port.to_owned(),
                interface: interface.to_owned(),
            },
            Failure::NotPermitted => OpenError::Permission {
                port: port.to_owned(),
                object: format!("an nftables chain on \"{interface}\""),
                capability: "CAP_NET_ADMIN",
            },
            Failure::Said(reason) => OpenError::System {
                port: port.to_owned(),
                object: format!("interface \"{interface}\""),
                step: "keeping the kernel out of it with nft",
                reason,
            },
        };
        sweep(instance).map_err(named)?;
        let table = table_name(instance, interface);
        // `add` makes `delete` succeed whether or not the table is there; the file is one transaction.
        let script = format!(
            "add table netdev {table}\n\
             delete table netdev {table}\n\
             table netdev {table} {{\n\
             \tchain ingress {{\n\
             \t\ttype filter hook ingress device \"{interface}\" priority 0; policy drop;\n\
             \t}}\n\
             }}\n"
        );
        nft(&["-f", "-"], &script).map_err(named)?;
        Ok(KernelQuiet { table })
    }
}

impl Drop for KernelQuiet {
    fn drop(&mut self) {
        let script = format!("add table netdev {0}\ndelete table netdev {0}\n", self.table);
        if let Err(reason) = nft(&["-f", "-"], &script) {
            tracing::warn!(
                table = self.table,
                "nft table not removed, the kernel gets nothing from that interface: {reason:?}"
            );
        }
    }
}

/// Removes what a killed process of this instance left; once a process and instance, before its first table.
fn sweep(instance: &str) -> Result<(), Failure> {
    let mut swept = SWEPT.lock().unwrap_or_else(PoisonError::into_inner);
    let swept = swept.get_or_insert_default();
    if swept.contains(instance) {
        return Ok(());
    }
    let prefix = format!("{}.", table_prefix(instance));
    let listed = nft(&["list", "tables", "netdev"], "")?;
    let script: String = listed
        .lines()
        .filter_map(|line| line.trim().strip_prefix("table netdev "))
        .filter(|table| table.starts_with(&prefix))
        .map(|table| format!("delete table netdev {table}\n"))
        .collect();
    if !script.is_empty() {
        nft(&["-f", "-"], &script)?;
    }
    swept.insert(instance.to_owned());
    Ok(())
}

fn table_prefix(instance: &str) -> String {
    format!("weft.{}", escaped(instance))
}

fn table_name(instance: &str, interface: &str) -> String {
    format!("{}.{}", table_prefix(instance), escaped(interface))
}

/// Letters and digits stay; all else becomes `_` and two hex digits: two names never meet in one table.
fn escaped(text: &str) -> String {
    text.bytes()
        .map(|byte| {
            if byte.is_ascii_alphanumeric() {
                (byte as char).to_string()
            } else {
                format!("_{byte:02x}")
            }
        })
        .collect()
}

#[derive(Debug)]
enum Failure {
    Missing,
    NotPermitted,
    Said(String),
}

fn nft(arguments: &[&str], script: &str) -> Result<String, Failure> {
    // The second: what the PATH of an ordinary user lacks on Debian.
    let spawned = ["nft", "/usr/sbin/nft"].iter().find_map(|program| {
        match Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
        {
            Err(reason) if reason.kind() == std::io::ErrorKind::NotFound => None,
            other => Some(other),
        }
    });
    let said = |reason: std::io::Error| Failure::Said(reason.to_string());
    let mut child = spawned.ok_or(Failure::Missing)?.map_err(said)?;
    if let Some(mut input) = child.stdin.take() {
        // nft may end before it reads all; its exit status then says why.
        let _ = input.write_all(script.as_bytes());
    }
    let output = child.wait_with_output().map_err(said)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    if words.contains("Operation not permitted") {
        return Err(Failure::NotPermitted);
    }
    let first = words
        .lines()
        .find(|line| !line.trim().is_empty())
        .unwrap_or("nft failed without a word");
    Err(Failure::Said(first.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_names_of_different_instances_and_interfaces_never_meet() {
        let names = [
            ("a", "b_c"),
            ("a_b", "c"),
            ("a", "b.c"),
            ("a.b", "c"),
            ("a", "b-c"),
            ("a-b", "c"),
        ];
        let tables: HashSet<String> = names.iter().map(|(i, n)| table_name(i, n)).collect();
        assert_eq!(tables.len(), names.len());
        assert_eq!(table_name("weft-1", "eth0.7"), "weft.weft_2d1.eth0_2e7");
    }
}
