//! The commands, one file each.

mod apply;
mod delete;
mod describe;
mod doctor;
mod generate;
mod get;
mod outcome;
mod port;
mod stats;
mod top;
mod trace;
mod watch;

use std::future::Future;

use hugepage_setup::Host;

use crate::{
    args::{Arguments, Command},
    client::Client,
    error::{CliError, ExitCode},
    terminal::Terminal,
};

/// Does what the command line asks for.
pub(crate) fn run(
    arguments: &Arguments,
    host: &Host,
    terminal: &mut Terminal<'_>,
) -> Result<ExitCode, CliError> {
    let connection = &arguments.connection;
    // Files are read before weftd is called: what is wrong with them is known without it.
    match &arguments.command {
        Command::Completion { shell } => generate::completion(*shell, terminal),
        Command::Man { directory } => generate::manual(directory, terminal),
        Command::Doctor(options) => wait(doctor::run(options, connection, host, terminal))?,
        Command::Apply(options) => {
            let (batch, format) = (apply::batch(options, terminal)?, options.format.output);
            wait(async { outcome::send(&Client::connect(connection).await?, batch, format, terminal).await })?
        }
        Command::Delete(options) => {
            let (batch, format) = (delete::batch(options, terminal)?, options.format.output);
            wait(async { outcome::send(&Client::connect(connection).await?, batch, format, terminal).await })?
        }
        Command::Plug { file, owner } => {
            let described = port::read(file, terminal)?;
            wait(async { port::plug(&Client::connect(connection).await?, described, owner, terminal).await })?
        }
        Command::Get(options) => {
            get::check_options(options)?;
            wait(async { get::run(&Client::connect(connection).await?, options, terminal).await })?
        }
        Command::Describe { target, names } => {
            wait(async { describe::run(&Client::connect(connection).await?, target, names, terminal).await })?
        }
        Command::Watch(options) => {
            wait(async { watch::run(&Client::connect(connection).await?, options, terminal).await })?
        }
        Command::Unplug { port, owner } => {
            wait(async { port::unplug(&Client::connect(connection).await?, port, owner, terminal).await })?
        }
        Command::Check {
            what: _,
            name,
            format,
        } => wait(async { port::check(&Client::connect(connection).await?, name, *format, terminal).await })?,
        Command::Trace(options) => {
            let packet = trace::packet(options)?;
            wait(async { trace::run(&Client::connect(connection).await?, options, packet, terminal).await })?
        }
        Command::Top(options) => {
            wait(async { top::run(&Client::connect(connection).await?, options, terminal).await })?
        }
    }
}

/// Runs the one thing that this process waits for.
fn wait<F: Future>(work: F) -> Result<F::Output, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(CliError::Start)?;
    Ok(runtime.block_on(work))
}
