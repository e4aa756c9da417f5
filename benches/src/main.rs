//! `weft-bench NAME [--json] [--quick] [CASE]…`: runs one benchmark, or `all` of them. `./dev bench` builds and calls it.
//! `weft-bench generate` is the traffic generator, which benchmarks start as a process of its own.
#![allow(clippy::print_stderr)] // A program for a terminal.

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{ArgMatches, Args, Command, FromArgMatches};
use weft_benches::{
    BENCHMARKS, Bench, Benchmark,
    generator::process,
    harness::{Options, machine::Machine},
};

const GENERATE: &str = "generate";

fn main() -> ExitCode {
    let mut command = Command::new("weft-bench")
        .bin_name("./dev bench")
        .about("Measures weft, alone and in turns with its peers")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .disable_help_subcommand(true);
    for benchmark in BENCHMARKS {
        command = command.subcommand(Options::augment_args(
            Command::new(benchmark.name).about(benchmark.about),
        ));
    }
    let command = command.subcommand(Options::augment_args(
        Command::new("all").about("Every benchmark, one after the other"),
    ));
    let command = command.subcommand(process::Arguments::augment_args(Command::new(GENERATE)));
    let matches = command.get_matches();
    let Some((name, matches)) = matches.subcommand() else {
        return ExitCode::FAILURE;
    };
    if name == GENERATE {
        return generate(matches);
    }
    let options = match Options::from_arg_matches(matches) {
        Ok(options) => options,
        Err(refused) => refused.exit(),
    };
    let chosen = BENCHMARKS
        .iter()
        .filter(|benchmark| name == "all" || name == benchmark.name);
    let mut outcome = ExitCode::SUCCESS;
    for benchmark in chosen {
        if let Err(error) = run(benchmark, &options) {
            eprintln!("error: {}: {error:#}", benchmark.name);
            outcome = ExitCode::FAILURE;
        }
    }
    weft_tests::host::clear_run_directory();
    outcome
}

fn run(benchmark: &Benchmark, options: &Options) -> Result<()> {
    let machine = Machine::look().context("looking at this machine")?;
    let mut bench = Bench::new(benchmark.name, options.clone(), machine);
    (benchmark.run)(&mut bench)?;
    bench.report.finish();
    Ok(())
}

fn generate(matches: &ArgMatches) -> ExitCode {
    let arguments = match process::Arguments::from_arg_matches(matches) {
        Ok(arguments) => arguments,
        Err(refused) => refused.exit(),
    };
    match process::run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: the traffic generator: {error:#}");
            ExitCode::FAILURE
        }
    }
}
