//! Figures as they leave the harness: one JSON object a line, or a table for people.

use std::io::Write;

use serde::{Deserialize, Serialize};
use weft_cli::print::table::{Column, Table};

use super::{aims, machine::Machine, turns::Samples};

/// weft, as a subject.
pub const WEFT: &str = "weft";

/// One figure.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Record {
    /// Name of the benchmark.
    pub bench: String,
    /// What was done, for instance `ct-vxlan/100k`.
    pub case: String,
    /// Who did it: `weft`, or a peer measured alone.
    pub subject: String,
    /// Median.
    pub value: f64,
    /// Of the value.
    pub unit: String,
    /// Distance between the quartiles of what was measured, in the same unit.
    pub spread: f64,
    /// Who ran in turns with the subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// Its median.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_value: Option<f64>,
    /// How many times better the subject was: the median over the turns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
    /// Distance between the quartiles of the ratio.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio_spread: Option<f64>,
    /// Where it was measured.
    pub machine: String,
    /// When: year-month-day.
    pub date: String,
    /// Of weft.
    pub version: String,
}

/// Which figures are good ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// Cycles, nanoseconds, bytes.
    Less,
    /// Packets, sessions, routes a second.
    More,
}

impl Better {
    /// How many times better `mine` is than `its`.
    pub fn ratio(self, mine: f64, its: f64) -> f64 {
        match self {
            Better::Less => its / mine,
            Better::More => mine / its,
        }
    }
}

/// The figures of one benchmark.
pub struct Report {
    bench: &'static str,
    json: bool,
    machine: String,
    date: String,
    records: Vec<Record>,
}

impl Report {
    pub(super) fn new(bench: &'static str, json: bool, machine: &Machine) -> Self {
        Report {
            bench,
            json,
            machine: machine.summary(),
            date: machine.date.clone(),
            records: Vec::new(),
        }
    }

    /// Name of the benchmark.
    pub fn bench(&self) -> &'static str {
        self.bench
    }

    /// What was reported so far.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// A figure of one subject.
    pub fn alone(&mut self, case: &str, subject: &str, unit: &str, samples: &Samples) {
        let record = self.record(case, subject, unit, samples);
        self.add(record);
    }

    /// weft's figure beside that of a peer that ran in turns with it.
    pub fn against(
        &mut self,
        case: &str,
        unit: &str,
        better: Better,
        mine: &Samples,
        peer: &str,
        its: &Samples,
    ) {
        let ratios = mine.with(its, |mine, its| better.ratio(mine, its));
        let record = Record {
            peer: Some(peer.into()),
            peer_value: Some(rounded(its.median())),
            ratio: Some(rounded(ratios.median())),
            ratio_spread: Some(rounded(ratios.spread())),
            ..self.record(case, WEFT, unit, mine)
        };
        self.add(record);
    }

    fn record(&self, case: &str, subject: &str, unit: &str, samples: &Samples) -> Record {
        Record {
            bench: self.bench.into(),
            case: case.into(),
            subject: subject.into(),
            value: rounded(samples.median()),
            unit: unit.into(),
            spread: rounded(samples.spread()),
            peer: None,
            peer_value: None,
            ratio: None,
            ratio_spread: None,
            machine: self.machine.clone(),
            date: self.date.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
        }
    }

    /// JSON goes out at once: a run that is ended keeps what it has measured.
    fn add(&mut self, record: Record) {
        if self.json {
            // If nobody reads any more, there is nothing to report to.
            if let Ok(line) = serde_json::to_string(&record) {
                let _ = writeln!(std::io::stdout(), "{line}");
            }
        }
        self.records.push(record);
    }

    /// The table, where it was asked for.
    pub fn finish(&self) {
        if !self.json && !self.records.is_empty() {
            let _ = write!(
                std::io::stdout(),
                "{}, {}\n\n{}",
                self.machine,
                self.date,
                self.table()
            );
        }
    }

    fn table(&self) -> String {
        let mut table = Table::new([
            Column::Text("CASE"),
            Column::Text("SUBJECT"),
            Column::Number("VALUE"),
            Column::Number("SPREAD"),
            Column::Text("UNIT"),
            Column::Text("PEER"),
            Column::Number("PEER'S"),
            Column::Number("TIMES BETTER"),
            Column::Text("AIM"),
        ]);
        let optional = |value: Option<f64>| value.map(figure).unwrap_or_default();
        for record in &self.records {
            table.row([
                record.case.clone(),
                record.subject.clone(),
                figure(record.value),
                figure(record.spread),
                record.unit.clone(),
                record.peer.clone().unwrap_or_default(),
                optional(record.peer_value),
                match (record.ratio, record.ratio_spread) {
                    (Some(ratio), Some(spread)) => format!("{ratio:.2} ± {:.2}", spread / 2.0),
                    _ => String::new(),
                },
                match aims::of(record) {
                    Some(aim) if aim.reached => aim.text,
                    Some(aim) => format!("{}: short", aim.text),
                    None => String::new(),
                },
            ]);
        }
        table.text()
    }
}

/// Four significant digits, as a number.
fn rounded(value: f64) -> f64 {
    format!("{value:.3e}").parse().unwrap_or(value)
}

/// Four significant digits, for people.
pub fn figure(value: f64) -> String {
    let value = rounded(value);
    let digits = match value.abs() {
        small if small < 10.0 => 2,
        small if small < 1000.0 => 1,
        _ => return weft_cli::print::units::exact(value.abs() as u64),
    };
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report {
            bench: "peers",
            json: false,
            machine: "a machine".into(),
            date: "2026-11-23".into(),
            records: Vec::new(),
        }
    }

    #[test]
    fn a_pair_says_how_many_times_better_weft_is_in_the_median_turn() {
        let mut report = report();
        let (mine, its) = (
            Samples::from([100.0, 110.0, 200.0]),
            Samples::from([700.0, 660.0, 1300.0]),
        );
        report.against(
            "ct-vxlan/1",
            "cycles/packet",
            Better::Less,
            &mine,
            "ovs-dpdk",
            &its,
        );
        let record = &report.records()[0];
        assert_eq!((record.value, record.peer_value), (110.0, Some(700.0)));
        // 7.0, 6.0 and 6.5: not 700 / 110.
        assert_eq!(record.ratio, Some(6.5));
        assert_eq!(Better::More.ratio(3.0, 2.0), 1.5);
    }

    #[test]
    fn json_has_the_fields_that_readers_rely_on_and_no_empty_ones() {
        let mut report = report();
        report.alone("setup/50-rules", WEFT, "sessions/s", &Samples::from([3.0e6]));
        let value = serde_json::to_value(&report.records()[0]).unwrap();
        for field in ["bench", "case", "subject", "value", "unit", "spread"] {
            assert!(value.get(field).is_some(), "{field}");
        }
        assert_eq!(value["value"], 3.0e6);
        assert!(value.get("peer").is_none() && value.get("ratio").is_none());
        let again: Record = serde_json::from_value(value).unwrap();
        assert_eq!(again, report.records()[0]);
    }

    #[test]
    fn figures_for_people_have_four_digits() {
        let shown: Vec<String> = [0.12345, 9.994, 123.456, 21_345.6, 3_000_123.0]
            .map(figure)
            .to_vec();
        assert_eq!(shown, ["0.12", "9.99", "123.5", "21 350", "3 000 000"]);
    }
}
