//! `weft`, the command line of weftd: the API of `weft.v1` for people and scripts.
//!
//! [`run`] is the whole program with its terminal passed in, so that tests hold it against what a person would see.
//! Objects are written in YAML (`manifest`), everything is printed through one layer (`print`), and each command is
//! a file of its own (`command`). What the rules for an object are, weftd knows alone: here only names and types of
//! fields are checked, against the descriptor of the API.

pub mod args;
pub mod client;
mod command;
pub mod error;
pub mod kind;
pub mod manifest;
pub mod packet;
pub mod print;
mod suggest;
pub mod terminal;

use std::ffi::OsString;

use clap::Parser;
use hugepage_setup::Host;

pub use error::{CliError, ExitCode};
pub use terminal::Terminal;

/// Runs `weft` with these words (the first is the program's name). What it prints goes to the terminal; `host` is
/// the machine that `weft doctor` looks at.
pub fn run<I, W>(words: I, host: &Host, terminal: &mut Terminal<'_>) -> ExitCode
where
    I: IntoIterator<Item = W>,
    W: Into<OsString> + Clone,
{
    let outcome = match args::Arguments::try_parse_from(words) {
        Ok(arguments) => command::run(&arguments, host, terminal),
        Err(refused) => return show_usage(&refused, terminal),
    };
    match outcome.and_then(|code| terminal.flush().map(|()| code)) {
        Ok(code) => code,
        // Whoever read our output has seen enough (`weft get routes | head`).
        Err(CliError::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::Success,
        Err(error) => {
            // If nobody reads the error either, the exit code still tells.
            let _ = terminal.complain(&error.complaints());
            error.exit_code()
        }
    }
}

/// Help and version go to standard output and are no failure; a command line that cannot be read is one.
fn show_usage(refused: &clap::Error, terminal: &mut Terminal<'_>) -> ExitCode {
    let text = refused.render();
    let _ = if refused.use_stderr() {
        let text = if terminal.colour {
            text.ansi().to_string()
        } else {
            text.to_string()
        };
        terminal.errors.write_all(text.as_bytes())
    } else {
        let text = if terminal.colour {
            text.ansi().to_string()
        } else {
            text.to_string()
        };
        terminal
            .output
            .write_all(text.as_bytes())
            .and_then(|()| terminal.output.flush())
    };
    if refused.use_stderr() {
        ExitCode::Usage
    } else {
        ExitCode::Success
    }
}
