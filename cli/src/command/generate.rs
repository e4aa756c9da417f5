//! `weft completion` and `weft man`: generated from the command line itself.

use std::{fs, path::Path};

use clap::{CommandFactory, builder::TypedValueParser};
use clap_complete::Shell;

use crate::{
    args::{Arguments, TargetParser},
    error::{CliError, ExitCode},
    terminal::Terminal,
};

pub(super) fn completion(shell: Shell, terminal: &mut Terminal<'_>) -> Result<ExitCode, CliError> {
    // Into memory first: the generator panics where standard output is closed.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "weft", &mut script);
    terminal.print(&String::from_utf8_lossy(&script))?;
    if shell == Shell::Fish {
        // The generator leaves positional arguments out for fish.
        let words: Vec<String> = TargetParser
            .possible_values()
            .into_iter()
            .flatten()
            .map(|value| value.get_name().to_owned())
            .collect();
        terminal.line(&format!(
            "complete -c weft -n \"__fish_seen_subcommand_from get describe delete watch\" -f -a \"{}\"",
            words.join(" ")
        ))?;
    }
    Ok(ExitCode::Success)
}

pub(super) fn manual(directory: &Path, terminal: &mut Terminal<'_>) -> Result<ExitCode, CliError> {
    let failed = |source| CliError::File {
        path: directory.display().to_string(),
        source,
    };
    fs::create_dir_all(directory).map_err(failed)?;
    clap_mangen::generate_to(Arguments::command(), directory).map_err(failed)?;
    let pages = fs::read_dir(directory).map_err(failed)?.count();
    terminal.line(&format!("{pages} pages in {}", directory.display()))?;
    Ok(ExitCode::Success)
}
