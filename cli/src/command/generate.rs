//! `weft completion` and `weft man`: generated from the command line itself.

use std::{fs, path::Path};

use clap::CommandFactory;
use clap_complete::Shell;

use crate::{
    args::Arguments,
    error::{CliError, ExitCode},
    terminal::Terminal,
};

pub(super) fn completion(shell: Shell, terminal: &mut Terminal<'_>) -> Result<ExitCode, CliError> {
    // Into memory first: the generator panics where standard output is closed.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "weft", &mut script);
    terminal.print(&String::from_utf8_lossy(&script))?;
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
