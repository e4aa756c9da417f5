//! Claims, one line each as they are made, and their count.

use std::fmt;

/// How many held and how many did not.
#[derive(Default)]
pub struct Checks {
    pub passed: usize,
    pub failed: usize,
}

impl Checks {
    /// Prints a claim with what was seen.
    pub fn add(&mut self, claim: &str, holds: bool, seen: &str) {
        let mark = if holds { "ok    " } else { "FAILED" };
        println!("  {mark} {claim}: {seen}");
        if holds { self.passed += 1 } else { self.failed += 1 }
    }

    /// A claim that `seen` answers of `sent` pings came.
    pub fn pings(&mut self, claim: &str, expected: u32, seen: u32, sent: u32) {
        self.add(
            claim,
            seen == expected,
            &format!("{seen} of {sent} pings answered"),
        );
    }

    /// A claim that TCP runs.
    pub fn rate(&mut self, claim: &str, rate: Result<f64, String>) {
        match rate {
            Ok(rate) => self.add(claim, rate > 1.0, &format!("{rate:.0} Mbit/s")),
            Err(reason) => self.add(claim, false, &reason),
        }
    }
}

impl fmt::Display for Checks {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "demo: {} checks passed, {} failed",
            self.passed, self.failed
        )
    }
}

/// A heading.
pub fn title(text: &str) {
    println!("\n{text}");
}
