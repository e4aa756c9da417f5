//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use hugepage_setup::CpuSet;

mod target;

pub use target::{Resource, Target, TargetParser};

/// Control weftd, the virtual router of this host.
#[derive(Debug, Parser)]
#[command(
    name = "weft",
    version,
    after_help = "Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 weftd does not answer.",
    disable_help_subcommand = true
)]
pub struct Arguments {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub connection: Connection,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// Where weftd is.
#[derive(Clone, Debug, Args)]
pub struct Connection {
    /// Socket of weftd
    #[arg(
        long,
        global = true,
        env = "WEFT_SOCKET",
        hide_env_values = true,
        default_value = "unix:///run/weft/weft.sock"
    )]
    pub socket: String,
    /// Seconds to wait for an answer
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    pub timeout: u64,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List objects, flows, drops or counters
    Get(GetArguments),
    /// Show all there is to know of objects
    Describe {
        /// A kind (port, route, …), or KIND/NAME
        target: Target,
        /// Names; none: all of the kind
        names: Vec<String>,
    },
    /// Make or change the objects in files, all of them or none
    Apply(ApplyArguments),
    /// Delete objects by name or by the files that describe them
    Delete(DeleteArguments),
    /// Show objects as they change
    Watch(WatchArguments),
    /// Add a port and wait until its device is open
    Plug {
        /// File with one Port, or - for standard input
        #[arg(short, long, value_name = "FILE")]
        file: PathBuf,
        #[command(flatten)]
        #[allow(missing_docs)]
        owner: Owner,
    },
    /// Remove a port and wait until no packet of it is left
    Unplug {
        /// Its name
        port: String,
        #[command(flatten)]
        #[allow(missing_docs)]
        owner: Owner,
    },
    /// Ask the data plane about a port: exit code 1 unless its link is up
    Check {
        /// Only ports can be checked
        what: Checkable,
        /// Its name
        name: String,
        #[command(flatten)]
        #[allow(missing_docs)]
        format: Format,
    },
    /// Say what would become of a packet; exit code 1 if it would be dropped
    Trace(TraceArguments),
    /// Show workers, ports and drops as they run
    Top(TopArguments),
    /// Check this host and weftd; exit code 1 if there is a problem
    Doctor(DoctorArguments),
    /// Print a completion script for a shell
    Completion {
        /// bash, zsh or fish
        shell: Shell,
    },
    /// Write the manual pages
    Man {
        /// Where to
        directory: PathBuf,
    },
}

/// Output formats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// Columns for people
    #[default]
    Table,
    /// The API's own names
    Json,
    /// The form that `weft apply` takes
    Yaml,
    /// KIND/NAME, one a line
    Name,
}

/// How to print.
#[derive(Clone, Copy, Debug, Args)]
pub struct Format {
    /// Output format
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub output: OutputFormat,
}

/// In whose name.
#[derive(Clone, Debug, Args)]
pub struct Owner {
    /// Who wants the objects: only their owner changes or deletes them
    #[arg(long, env = "WEFT_OWNER", hide_env_values = true, default_value = "cli")]
    pub owner: String,
}

/// Options of `get`.
#[derive(Debug, Args)]
pub struct GetArguments {
    /// A kind (ports, routes, …), flows, drops, workers, stages, tables, balance, counters, owners, all, or KIND/NAME
    pub target: Target,
    /// Names; none: all
    pub names: Vec<String>,
    /// Only what is in this VRF
    #[arg(long)]
    pub vrf: Option<String>,
    /// Flows that fit: proto=tcp,src=10.0.0.0/24,dst=10.0.0.5,sport=1024,dport=80 (all must hold)
    #[arg(long = "match", value_name = "CONDITIONS")]
    pub matching: Option<String>,
    /// The most flows to show
    #[arg(long, value_name = "COUNT")]
    pub limit: Option<u32>,
    /// Only objects of this owner
    #[arg(long)]
    pub owner: Option<String>,
    /// Ports: packets a second, measured for a moment, in place of totals
    #[arg(long)]
    pub rates: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub format: Format,
}

/// Options of `apply`.
#[derive(Debug, Args)]
pub struct ApplyArguments {
    /// YAML or JSON file, directory of them, or - for standard input; may be repeated
    #[arg(short, long = "file", value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// Directories within directories too
    #[arg(short = 'R', long)]
    pub recursive: bool,
    /// Check only, change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Your own number for this change; kept and shown
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    pub revision: u64,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub owner: Owner,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub format: Format,
}

/// Options of `delete`.
#[derive(Debug, Args)]
pub struct DeleteArguments {
    /// A kind, or KIND/NAME
    #[arg(required_unless_present = "files", conflicts_with = "files")]
    pub target: Option<Target>,
    /// Names
    pub names: Vec<String>,
    /// Delete what these files describe
    #[arg(short, long = "file", value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Directories within directories too
    #[arg(short = 'R', long)]
    pub recursive: bool,
    /// Check only, change nothing
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub owner: Owner,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub format: Format,
}

/// Options of `watch`.
#[derive(Debug, Args)]
pub struct WatchArguments {
    /// A kind, or all
    pub target: Target,
    /// Only changes, not what exists already
    #[arg(long)]
    pub changes_only: bool,
    /// End once all that exists has been shown
    #[arg(long, conflicts_with = "changes_only")]
    pub until_in_sync: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub format: Format,
}

/// Options of `trace`.
#[derive(Debug, Args)]
pub struct TraceArguments {
    /// Ask what would be: nothing is sent, and nothing changes
    #[arg(long, required = true)]
    pub what_if: bool,
    /// The port that the packet comes from
    #[arg(long, value_name = "PORT")]
    pub from: String,
    /// 'tcp 10.0.0.5:4000 > 10.0.0.9:80', 'udp [fd00::5]:4000 > [fd00::9]:53', 'icmp 10.0.0.5 > 10.0.0.9'
    #[arg(required = true, value_name = "PACKET")]
    pub packet: Vec<String>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub format: Format,
}

/// What `check` can check.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Checkable {
    /// A port
    Port,
}

/// Options of `top`.
#[derive(Debug, Args)]
pub struct TopArguments {
    /// Measure once, print and end
    #[arg(long)]
    pub once: bool,
    /// Seconds between two looks
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0, value_parser = positive_seconds)]
    pub interval: f64,
    /// The most ports to show, busiest first (default: what fits)
    #[arg(long, value_name = "COUNT")]
    pub ports: Option<usize>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub format: Format,
}

/// Options of `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArguments {
    /// Hugepage memory that weftd takes, in MiB
    #[arg(long, value_name = "MIB", default_value_t = hugepage_setup::doctor::DEFAULT_MEMORY_MIB)]
    pub memory: u64,
    /// CPUs of the workers, such as 2-5 (default: those of the running weftd)
    #[arg(long, value_name = "CPUS")]
    pub workers: Option<CpuSet>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub format: Format,
}

fn positive_seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.05..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("is not a number of seconds from 0.05 to 3600".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_contradicts_itself_nowhere() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }
}
