//! `hugepage-setup`: prepares a host for weft.

use std::{
    io::{self, IsTerminal, Write},
    process::ExitCode,
};

use clap::Parser;
use hugepage_setup::{
    Host,
    command::{self, Arguments, CommandError},
};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let stdout = io::stdout();
    let colour = stdout.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    match command::run(&arguments, &Host::local(), &mut stdout.lock(), colour) {
        Ok(code) => ExitCode::from(code),
        Err(CommandError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            let help = match &error {
                CommandError::Setup(error) => error.help(),
                CommandError::Output(_) => None,
            };
            let help = help.map_or(String::new(), |help| format!("\n  help: {help}"));
            // If standard error is gone too, the exit code still tells.
            let _ = writeln!(io::stderr(), "error: {error}{help}");
            ExitCode::FAILURE
        }
    }
}
