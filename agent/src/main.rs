//! weftd: the vRouter's daemon. See `weftd --help`, and `weftd --print-config` for the configuration.

use std::{io::Write, path::PathBuf, process::ExitCode};

use clap::Parser;
use weft_agent::{
    config::{self, Config},
    daemon,
    exit::{self, Fatal},
    log,
};

/// Objects come and go by the hundred thousand, made by one thread and freed by another.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The vRouter's daemon: forwards packets between ports, VRFs and tunnels, and follows the objects that controllers
/// describe over its API.
#[derive(Parser)]
#[command(name = "weftd", version, after_help = exit::HELP)]
struct Arguments {
    /// The configuration; without it /etc/weft/weftd.toml if that exists, or else the defaults
    #[arg(long, short, value_name = "FILE", env = "WEFT_CONFIG")]
    config: Option<PathBuf>,
    /// Check the configuration and stop
    #[arg(long)]
    check: bool,
    /// Print the configuration with every key, its meaning and its default, and stop
    #[arg(long)]
    print_config: bool,
}

fn main() -> ExitCode {
    // Wrong arguments end with code 2, which is the configuration's.
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Not through the log: whoever starts weftd by hand or by script is to see it, whatever the filter.
            let _ = writeln!(std::io::stderr(), "weftd: {error}");
            ExitCode::from(error.code())
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Fatal> {
    if arguments.print_config {
        // A closed pipe is the reader's choice.
        let _ = std::io::stdout().write_all(config::EXAMPLE.as_bytes());
        return Ok(());
    }
    let config = Config::load(arguments.config.as_deref(), |variable| {
        std::env::var(variable).ok()
    })?;
    if arguments.check {
        let _ = writeln!(std::io::stdout(), "the configuration is valid");
        return Ok(());
    }
    log::start(&config.log);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("weft-agent")
        .enable_all()
        .build()
        .map_err(|error| Fatal::Other(format!("no threads for the API: {error}")))?;
    runtime.block_on(daemon::run(config))
}
