//! Runs the scenarios, one after the other: `weft-system-test [--list] [FILTER]`; `--scenarios` shows what is covered.
//!
//! Needs root: it makes network namespaces. `./dev test` builds and calls it.
#![allow(clippy::print_stdout)] // A program for a terminal.

mod scenarios;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};
use scenarios::{Scenario, catalogue};

fn main() -> ExitCode {
    if std::env::args().any(|argument| argument == "--scenarios") {
        print!("{}", catalogue::report());
        return ExitCode::SUCCESS;
    }
    let mut arguments = Arguments::from_args();
    // One world at a time: the machine's cores belong to the workers.
    arguments.test_threads = Some(1);
    let trials = scenarios::all()
        .map(|scenario| Trial::test(scenario.title(), move || run(scenario)))
        .collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    weft_tests::world::end();
    weft_tests::host::clear_run_directory();
    conclusion.exit_code()
}

fn run(scenario: &'static Scenario) -> Result<(), Failed> {
    let start = std::time::Instant::now();
    (scenario.run)();
    if start.elapsed().as_secs() >= 10 {
        eprintln!("{} took {:.0} s", scenario.title(), start.elapsed().as_secs_f64());
    }
    Ok(())
}
