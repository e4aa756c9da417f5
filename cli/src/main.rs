//! `weft`: the command line of weftd.

use std::{
    io::{self, BufWriter, IsTerminal},
    process,
};

use hugepage_setup::Host;
use weft_cli::Terminal;

fn main() -> process::ExitCode {
    let (stdout, stderr) = (io::stdout(), io::stderr());
    let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let is_terminal = stdout.is_terminal();
    let mut terminal = Terminal {
        input: &mut io::stdin().lock(),
        output: &mut BufWriter::new(stdout.lock()),
        errors: &mut stderr.lock(),
        is_terminal,
        colour: is_terminal && stderr.is_terminal() && !no_colour,
        rows: terminal_size::terminal_size().map(|(_, height)| usize::from(height.0)),
    };
    weft_cli::run(std::env::args_os(), &Host::local(), &mut terminal).into()
}
