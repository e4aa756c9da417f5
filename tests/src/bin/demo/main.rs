//! weft at work: two hosts, two tenants with the same addresses, containers, virtual machines, tunnels between them.
//!
//! `weft-demo [--check | --keep]`; `./dev demo` builds and calls it. Each claim is a check, and the last line counts
//! them. Needs root: the hosts are network namespaces.
#![allow(clippy::print_stdout)] // A program for a terminal.

mod checks;
mod site;
mod underlay;

use std::{
    panic::{self, AssertUnwindSafe},
    process::ExitCode,
};

use checks::Checks;
use site::Site;

const USAGE: &str = "usage: weft-demo [--check | --keep]\n  --check  for programs: no tables, the exit code tells\n  \
                     --keep   stays up afterwards and prints commands to try";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (quiet, keep) = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => (false, false),
        ["--check"] => (true, false),
        ["--keep"] => (false, true),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    let mut checks = Checks::default();
    // A harness function that gives up panics with its reason: that is one failed check, and the end.
    let outcome = panic::catch_unwind(AssertUnwindSafe(|| {
        let mut site = Site::build();
        site.prove(&mut checks);
        if !quiet {
            site.show_tables();
        }
        site
    }));
    if let Ok(site) = &outcome
        && keep
    {
        println!("{checks}");
        site.print_commands();
        println!("\nCtrl-C takes it all down.");
        loop {
            std::thread::park();
        }
    }
    if outcome.is_err() {
        checks.add("the demo runs to its end", false, "see above");
    }
    // The site goes before the verdict, so that the verdict is the last line.
    drop(outcome);
    println!("{checks}");
    if checks.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
