//! The command line of `hugepage-setup`.

use std::io::{self, Write};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{
    action::Plan,
    bind,
    cpu::CpuSet,
    doctor::{DEFAULT_MEMORY_MIB, Requirements, doctor},
    error::SetupError,
    finding::State,
    host::Host,
    hugepages::{self, Amount, PageSize, Reserve},
    isolation,
    journal::{Journal, Undone},
    mount,
    pci::PciAddress,
    report::{self, Overview},
};

/// Prepares this host for weft: hugepages, vfio, CPU isolation.
#[derive(Debug, Parser)]
#[command(name = "hugepage-setup", version)]
pub struct Arguments {
    /// Say what would be done, and do nothing
    #[arg(long, global = true)]
    pub dry_run: bool,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show nodes, hugepages, mounts and NICs
    Show(Format),
    /// Reserve hugepages
    Reserve(ReserveArguments),
    /// Mount a hugetlbfs
    Mount {
        /// Size of the pages, such as 2M or 1G (default: the kernel's)
        #[arg(long)]
        size: Option<PageSize>,
        /// Where (default: /dev/hugepages, /dev/hugepages1G, …)
        #[arg(long, value_name = "DIRECTORY")]
        at: Option<String>,
        /// Write a systemd mount unit too
        #[arg(long)]
        persistent: bool,
    },
    /// Give a NIC or virtual function to a userspace driver
    Bind {
        /// PCI address, such as 0000:03:00.0
        pci: PciAddress,
        /// The driver
        #[arg(long, default_value = "vfio-pci")]
        driver: String,
        /// Even if the host uses the interface
        #[arg(long)]
        force: bool,
    },
    /// Give a NIC back to its kernel driver
    Unbind {
        /// PCI address, such as 0000:03:00.0
        pci: PciAddress,
    },
    /// Say how to keep CPUs for the workers (changes nothing)
    Isolate {
        /// The workers' CPUs, such as 2-5 (default: all but one core a node)
        #[arg(long)]
        cpus: Option<CpuSet>,
    },
    /// Take back all that was done
    Undo,
    /// Check whether this host is ready; exit code 1 if there is a problem
    Doctor(DoctorArguments),
}

/// Options of `reserve`.
#[derive(Debug, Args)]
pub struct ReserveArguments {
    /// How many pages the pool shall hold
    #[arg(long, required_unless_present = "mib", conflicts_with = "mib", value_parser = clap::value_parser!(u64).range(1..))]
    pub pages: Option<u64>,
    /// How much memory the pool shall hold
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub mib: Option<u64>,
    /// Size of the pages, such as 2M or 1G (default: the kernel's)
    #[arg(long)]
    pub size: Option<PageSize>,
    /// NUMA node (default: spread over all)
    #[arg(long)]
    pub node: Option<u32>,
    /// Again at each boot
    #[arg(long)]
    pub persistent: bool,
}

/// Options of `doctor`, here and in `weft doctor`.
#[derive(Clone, Debug, Args)]
pub struct DoctorArguments {
    /// Hugepage memory that weftd will take, in MiB
    #[arg(long, value_name = "MIB", default_value_t = DEFAULT_MEMORY_MIB)]
    pub memory: u64,
    /// CPUs of the workers, such as 2-5
    #[arg(long, value_name = "CPUS", default_value = "", hide_default_value = true)]
    pub workers: CpuSet,
    #[command(flatten)]
    /// How to print
    pub format: Format,
}

impl DoctorArguments {
    /// What weftd will want.
    pub fn requirements(&self) -> Requirements {
        Requirements {
            memory_mib: self.memory,
            workers: self.workers.clone(),
            weftd_runs: false,
        }
    }
}

/// How to print.
#[derive(Clone, Copy, Debug, Args)]
pub struct Format {
    /// Output format
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub output: Output,
}

/// Output formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    Table,
    /// For programs
    Json,
}

/// Why a command did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// Refused or failed.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// Nobody reads what we write.
    #[error("write: {0}")]
    Output(#[from] io::Error),
}

/// Does what was asked. The answer is the exit code.
pub fn run(
    arguments: &Arguments,
    host: &Host,
    out: &mut dyn Write,
    colour: bool,
) -> Result<u8, CommandError> {
    let dry_run = arguments.dry_run;
    let plan = match &arguments.command {
        Command::Show(format) => {
            let overview = Overview::of(host);
            match format.output {
                Output::Table => write!(out, "{}", overview.text())?,
                Output::Json => write_json(out, &overview)?,
            }
            return Ok(0);
        }
        Command::Doctor(options) => {
            let findings = doctor(host, &options.requirements());
            match options.format.output {
                Output::Table => write!(out, "{}", report::findings_text(&findings, colour))?,
                Output::Json => write_json(out, &findings)?,
            }
            return Ok(u8::from(
                findings.iter().any(|finding| finding.state == State::Problem),
            ));
        }
        Command::Isolate { cpus } => {
            let workers = cpus.clone().unwrap_or_else(|| isolation::proposal(host));
            write!(out, "{}", isolation::advice(host, &workers))?;
            return Ok(0);
        }
        Command::Undo => return undo(host, dry_run, out),
        Command::Reserve(wish) => {
            let amount = match (wish.pages, wish.mib) {
                (Some(pages), _) => Amount::Pages(pages),
                (None, mib) => Amount::Mib(mib.unwrap_or(0)),
            };
            let wish = Reserve {
                amount,
                size: wish.size,
                node: wish.node,
                persistent: wish.persistent,
            };
            hugepages::plan_reserve(host, &wish)?
        }
        Command::Mount { size, at, persistent } => {
            mount::plan_mount(host, *size, at.as_deref(), *persistent)?
        }
        Command::Bind { pci, driver, force } => bind::plan_bind(host, pci, driver, *force)?,
        Command::Unbind { pci } => bind::plan_unbind(host, pci)?,
    };
    carry_out(&plan, host, dry_run, out)?;
    Ok(0)
}

fn carry_out(plan: &Plan, host: &Host, dry_run: bool, out: &mut dyn Write) -> Result<(), CommandError> {
    if dry_run {
        for action in &plan.actions {
            writeln!(out, "would {action}")?;
        }
    } else if !plan.actions.is_empty() {
        let mut journal = Journal::load(host)?;
        let mut written = Ok(());
        plan.perform(host, &mut journal, |action| {
            // What was done is done, whether or not somebody reads it: go on, and report at the end.
            if written.is_ok() {
                written = writeln!(out, "done: {action}");
            }
        })?;
        written?;
    }
    for note in &plan.notes {
        writeln!(out, "note: {note}")?;
    }
    Ok(())
}

fn undo(host: &Host, dry_run: bool, out: &mut dyn Write) -> Result<u8, CommandError> {
    let mut journal = Journal::load(host)?;
    if journal.is_empty() {
        writeln!(out, "nothing to undo")?;
        return Ok(0);
    }
    let mut written = Ok(());
    journal.undo(host, dry_run, |undone| {
        let line = match (undone, dry_run) {
            (Undone::Restored(what), true) => format!("would {what}"),
            (Undone::Restored(what), false) => format!("done: {what}"),
            (Undone::GoneSinceBoot(what), _) => format!("gone since the last boot: {what}"),
        };
        if written.is_ok() {
            written = writeln!(out, "{line}");
        }
    })?;
    written?;
    Ok(0)
}

fn write_json(out: &mut dyn Write, value: &impl serde::Serialize) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    writeln!(out)
}
