//! `weft-bench NAME [--json] [--quick] [CASE]…`: runs one benchmark, or `all` of them. `./dev bench` builds and calls it.
//! `weft-bench generate` is the traffic generator, which benchmarks start as a process of its own.
#![allow(clippy::print_stderr)] // A program for a terminal.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches, value_parser};
use weft_benches::{
    BENCHMARKS, Bench, Benchmark,
    generator::process,
    harness::{Options, machine::Machine},
    plot,
};

const GENERATE: &str = "generate";
const PLOT: &str = "plot";

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
    let command = command.subcommand(
        Command::new(PLOT)
            .about("Draws what --json printed: an SVG a benchmark")
            .arg(path("RESULTS", "docs/benchmarks/results.jsonl"))
            .arg(path("DIRECTORY", "docs/benchmarks")),
    );
    let command = command.subcommand(process::Arguments::augment_args(Command::new(GENERATE)));
    let matches = command.get_matches();
    let Some((name, matches)) = matches.subcommand() else {
        return ExitCode::FAILURE;
    };
    if name == GENERATE {
        return generate(matches);
    }
    if name == PLOT {
        return draw(matches);
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

fn path(name: &'static str, default: &'static str) -> Arg {
    Arg::new(name)
        .default_value(default)
        .value_parser(value_parser!(PathBuf))
}

fn draw(matches: &ArgMatches) -> ExitCode {
    let path = |name: &str| matches.get_one::<PathBuf>(name).cloned().unwrap_or_default();
    match plot::draw(&path("RESULTS"), &path("DIRECTORY")) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
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
