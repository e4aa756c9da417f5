//! Where the program reads and writes.

use std::io::{self, Read, Write};

use crate::error::{CliError, Complaint};

/// Standard input, output and error, and what kind of reader sits behind them.
pub struct Terminal<'a> {
    /// Standard input (`apply -f -`).
    pub input: &'a mut dyn Read,
    /// Standard output.
    pub output: &'a mut dyn Write,
    /// Standard error.
    pub errors: &'a mut dyn Write,
    /// True if a person looks at the output: `weft top` redraws only then.
    pub is_terminal: bool,
    /// Colour is wanted.
    pub colour: bool,
    /// Height of the window.
    pub rows: Option<usize>,
}

impl Terminal<'_> {
    /// Writes text as it is.
    pub fn print(&mut self, text: &str) -> Result<(), CliError> {
        self.output.write_all(text.as_bytes()).map_err(CliError::Output)
    }

    /// Writes a line.
    pub fn line(&mut self, text: &str) -> Result<(), CliError> {
        self.print(text)?;
        self.print("\n")
    }

    /// Makes sure that what was written is seen now.
    pub fn flush(&mut self) -> Result<(), CliError> {
        self.output.flush().map_err(CliError::Output)
    }

    /// Writes errors, each with its help below.
    pub fn complain(&mut self, complaints: &[Complaint]) -> io::Result<()> {
        let (error, help, end) = self.paint("\x1b[1;31m", "\x1b[36m");
        for complaint in complaints {
            writeln!(self.errors, "{error}error{end}: {}", complaint.message)?;
            if let Some(text) = &complaint.help {
                writeln!(self.errors, "  {help}help{end}: {text}")?;
            }
        }
        self.errors.flush()
    }

    /// Writes a warning.
    pub fn warn(&mut self, message: &str, help: &str) -> Result<(), CliError> {
        let (warning, colour, end) = self.paint("\x1b[1;33m", "\x1b[36m");
        writeln!(
            self.errors,
            "{warning}warning{end}: {message}\n  {colour}help{end}: {help}"
        )
        .map_err(CliError::Output)
    }

    fn paint(&self, first: &'static str, second: &'static str) -> (&'static str, &'static str, &'static str) {
        if self.colour {
            (first, second, "\x1b[0m")
        } else {
            ("", "", "")
        }
    }
}
