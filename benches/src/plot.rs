//! Plots of what was measured, from the lines that `--json` prints: an SVG a benchmark, and a page with the figures.
//!
//! Bars, one a subject, grouped by case; a panel a unit. What the peers of a case are stands below weft's bar.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufRead, BufReader},
    path::Path,
};

use anyhow::{Context, Result, anyhow, ensure};
use plotters::{
    prelude::{DrawingArea, IntoDrawingArea, IntoTextStyle, Rectangle, SVGBackend, Text},
    style::{
        Color, RGBColor,
        text_anchor::{HPos, Pos, VPos},
    },
};

use crate::harness::{
    aims,
    report::{Record, WEFT, figure},
};

/// What the page begins with.
const PAGE: &str = "# Figures\n\nWritten by `./dev bench plot` from `results.jsonl`. What is measured and how, \
                    [benchmarks.md](../benchmarks.md) says. Bold figures are short of their aim.\n";

const WIDTH: u32 = 960;
const MARGIN: i32 = 16;
/// Where bars begin and end: cases are left of it, figures right.
const BARS: std::ops::Range<i32> = 240..820;
const BAR: i32 = 15;
const GAP: i32 = 8;
const TITLE: i32 = 34;
const WEFTS: RGBColor = RGBColor(0x1b, 0x6e, 0xc2);
/// Peers' colours, in the order in which they appear.
const PEERS: [RGBColor; 6] = [
    RGBColor(0xb5, 0xb5, 0xb5),
    RGBColor(0x82, 0x82, 0x82),
    RGBColor(0xe0, 0x8a, 0x1e),
    RGBColor(0x5a, 0x9e, 0x5a),
    RGBColor(0xa0, 0x6c, 0xb8),
    RGBColor(0x8c, 0x56, 0x4b),
];
/// Values further apart than this are drawn by their logarithm.
const LINEAR_WITHIN: f64 = 30.0;

/// Draws every benchmark that has lines in the file into `directory`, each as NAME.svg, and writes README.md with the
/// figures beside them. Of a figure that was measured several times the last stands.
pub fn draw(results: &Path, directory: &Path) -> Result<()> {
    let lines = BufReader::new(File::open(results).with_context(|| results.display().to_string())?).lines();
    let mut benches: BTreeMap<String, Vec<Record>> = BTreeMap::new();
    for (number, line) in (1..).zip(lines) {
        let record: Record =
            serde_json::from_str(&line?).with_context(|| format!("{}, line {number}", results.display()))?;
        let records = benches.entry(record.bench.clone()).or_default();
        let same = |known: &&mut Record| {
            (&known.case, &known.subject, &known.peer) == (&record.case, &record.subject, &record.peer)
        };
        match records.iter_mut().find(same) {
            Some(known) => *known = record,
            None => records.push(record),
        }
    }
    ensure!(!benches.is_empty(), "{}: no figures in it", results.display());
    fs::create_dir_all(directory)?;
    let mut page = PAGE.to_owned();
    for (bench, records) in &benches {
        let svg = svg(bench, records)?;
        fs::write(directory.join(format!("{bench}.svg")), svg)?;
        page += &figures(bench, records);
    }
    fs::write(directory.join("README.md"), page)?;
    Ok(())
}

/// The figures of a benchmark as a table; bold is what is short of its aim.
fn figures(bench: &str, records: &[Record]) -> String {
    let about = &records[0];
    let mut text = format!(
        "\n## {bench}\n\n![{bench}]({bench}.svg)\n\nweft {}, {}, {}.\n\n\
         | case | weft | unit | spread | peer | its | times better | aim |\n\
         | --- | --: | --- | --: | --- | --: | --: | --- |\n",
        about.version, about.machine, about.date
    );
    for record in records {
        let aim = aims::of(record);
        let short = |text: String, times: bool| match &aim {
            Some(aim) if !aim.reached && aim.times == times => format!("**{text}**"),
            _ => text,
        };
        let optional = |value: Option<f64>| value.map(figure).unwrap_or_default();
        let subject = match record.subject.as_str() {
            WEFT => String::new(),
            peer => format!(" ({peer})"),
        };
        text += &format!(
            "| {}{subject} | {} | {} | {} | {} | {} | {} | {} |\n",
            record.case,
            short(figure(record.value), false),
            record.unit,
            figure(record.spread),
            record.peer.as_deref().unwrap_or_default(),
            optional(record.peer_value),
            short(optional(record.ratio), true),
            aim.as_ref().map(|aim| aim.text.as_str()).unwrap_or_default(),
        );
    }
    text
}

/// One bar.
#[derive(Clone, Debug, PartialEq)]
struct Bar<'a> {
    subject: &'a str,
    value: f64,
}

/// A case's bars, weft's first.
type Group<'a> = (&'a str, Vec<Bar<'a>>);

/// Cases by unit, both in the order of the records.
fn panels(records: &[Record]) -> Vec<(&str, Vec<Group<'_>>)> {
    let mut panels: Vec<(&str, Vec<Group<'_>>)> = Vec::new();
    for record in records {
        let groups = entry(&mut panels, record.unit.as_str());
        let bars = entry(groups, record.case.as_str());
        let mut add = |subject, value| {
            if !bars.iter().any(|bar| bar.subject == subject) {
                bars.push(Bar { subject, value });
            }
        };
        add(record.subject.as_str(), record.value);
        if let (Some(peer), Some(value)) = (&record.peer, record.peer_value) {
            add(peer.as_str(), value);
        }
    }
    panels
}

/// The list under a name, made if it is not there.
fn entry<'a, 'b, T>(lists: &'b mut Vec<(&'a str, Vec<T>)>, name: &'a str) -> &'b mut Vec<T> {
    let place = lists
        .iter()
        .position(|(known, _)| *known == name)
        .unwrap_or_else(|| {
            lists.push((name, Vec::new()));
            lists.len() - 1
        });
    &mut lists[place].1
}

fn svg(bench: &str, records: &[Record]) -> Result<String> {
    let panels = panels(records);
    let height: i32 = panels
        .iter()
        .map(|(_, groups)| {
            TITLE
                + groups
                    .iter()
                    .map(|(_, bars)| bars.len() as i32 * BAR + GAP)
                    .sum::<i32>()
        })
        .sum();
    let mut text = String::new();
    {
        let height = (height + 2 * TITLE + 2 * MARGIN) as u32;
        let area = SVGBackend::with_string(&mut text, (WIDTH, height)).into_drawing_area();
        let canvas = Canvas { area };
        canvas.fill()?;
        let about = &records[0];
        canvas.words(
            MARGIN,
            MARGIN + 8,
            &format!("weft {}: {bench}", about.version),
            18,
            HPos::Left,
        )?;
        canvas.words(
            MARGIN,
            MARGIN + 28,
            &format!("{}, {}", about.machine, about.date),
            11,
            HPos::Left,
        )?;
        let mut peers: Vec<&str> = Vec::new();
        let mut top = MARGIN + 2 * TITLE - 20;
        for (unit, groups) in &panels {
            canvas.words(BARS.start, top + TITLE / 2 + 6, unit, 13, HPos::Left)?;
            top += TITLE;
            let scale = Scale::of(groups.iter().flat_map(|(_, bars)| bars).map(|bar| bar.value));
            for (case, bars) in groups {
                canvas.words(BARS.start - 8, top + BAR / 2, case, 12, HPos::Right)?;
                for bar in bars {
                    let colour = if bar.subject == WEFT {
                        WEFTS
                    } else {
                        let place = peers.iter().position(|peer| *peer == bar.subject);
                        let place = place.unwrap_or_else(|| {
                            peers.push(bar.subject);
                            peers.len() - 1
                        });
                        PEERS[place % PEERS.len()]
                    };
                    let end = BARS.start + (scale.part(bar.value) * BARS.len() as f64) as i32;
                    canvas.bar(
                        (BARS.start, top + 1),
                        (end.max(BARS.start + 1), top + BAR - 1),
                        colour,
                    )?;
                    let label = format!("{} {}", figure(bar.value), bar.subject);
                    canvas.words(end + 6, top + BAR / 2, &label, 11, HPos::Left)?;
                    top += BAR;
                }
                top += GAP;
            }
        }
        canvas.area.present().map_err(|error| anyhow!("{error}"))?;
    }
    Ok(text)
}

/// Where a value's bar ends, as a part of the width.
struct Scale {
    least: f64,
    most: f64,
    logarithmic: bool,
}

impl Scale {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let positive: Vec<f64> = values.filter(|value| *value > 0.0).collect();
        let least = positive.iter().copied().fold(f64::INFINITY, f64::min);
        let most = positive.iter().copied().fold(0.0, f64::max);
        Scale {
            // The smallest bar must be seen.
            least: least / 2.0,
            most,
            logarithmic: most / least > LINEAR_WITHIN,
        }
    }

    fn part(&self, value: f64) -> f64 {
        let part = if self.logarithmic {
            (value.max(self.least) / self.least).ln() / (self.most / self.least).ln()
        } else {
            value / self.most
        };
        if part.is_finite() {
            part.clamp(0.0, 1.0)
        } else {
            0.0
        }
    }
}

struct Canvas<'a> {
    area: DrawingArea<SVGBackend<'a>, plotters::coord::Shift>,
}

impl Canvas<'_> {
    fn fill(&self) -> Result<()> {
        self.area
            .fill(&RGBColor(255, 255, 255))
            .map_err(|error| anyhow!("{error}"))
    }

    fn bar(&self, from: (i32, i32), to: (i32, i32), colour: RGBColor) -> Result<()> {
        self.area
            .draw(&Rectangle::new([from, to], colour.filled()))
            .map_err(|error| anyhow!("{error}"))
    }

    fn words(&self, x: i32, y: i32, words: &str, size: i32, side: HPos) -> Result<()> {
        let style = ("sans-serif", size)
            .into_text_style(&self.area)
            .pos(Pos::new(side, VPos::Center));
        self.area
            .draw(&Text::new(words.to_owned(), (x, y), style))
            .map_err(|error| anyhow!("{error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(case: &str, value: f64, peer: &str, peer_value: f64) -> String {
        format!(
            "{{\"bench\":\"peers\",\"case\":\"{case}\",\"subject\":\"weft\",\"value\":{value},\
             \"unit\":\"cycles/packet\",\"spread\":1,\"peer\":\"{peer}\",\"peer_value\":{peer_value},\"ratio\":2,\
             \"machine\":\"m\",\"date\":\"2026-11-23\",\"version\":\"0.1.0\"}}\n"
        )
    }

    #[test]
    fn a_plot_shows_each_case_once_with_all_its_subjects() {
        let directory = tempfile::tempdir().unwrap();
        let results = directory.path().join("results.jsonl");
        let lines = [
            line("ct-vxlan/1", 999.0, "ovs-dpdk", 700.0),
            line("ct-vxlan/1", 100.0, "ovs-dpdk", 600.0),
            line("ct-vxlan/1", 100.0, "testpmd-io", 70.0),
        ];
        fs::write(&results, lines.concat()).unwrap();
        draw(&results, directory.path()).unwrap();
        let svg = fs::read_to_string(directory.path().join("peers.svg")).unwrap();
        for words in [
            "ct-vxlan/1",
            "100.0 weft",
            "600.0 ovs-dpdk",
            "70.0 testpmd-io",
            "cycles/packet",
        ] {
            assert_eq!(svg.matches(words).count(), 1, "{words} in\n{svg}");
        }
        assert!(!svg.contains("999"), "a figure that was measured again is shown");
        let page = fs::read_to_string(directory.path().join("README.md")).unwrap();
        let row = "| ct-vxlan/1 | 100.0 | cycles/packet | 1.00 | ovs-dpdk | 600.0 | **2.00** | ≥ 5.5 times |";
        assert!(page.contains(row), "{page}");
        assert!(
            page.contains("| ct-vxlan/1 | 100.0 | cycles/packet | 1.00 | testpmd-io | 70.0 | 2.00 | ≤ 110 |")
        );
    }

    #[test]
    fn a_broken_line_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let results = directory.path().join("results.jsonl");
        fs::write(&results, line("a", 1.0, "b", 2.0) + "{\n").unwrap();
        let error = draw(&results, directory.path()).unwrap_err();
        assert!(format!("{error:#}").contains("line 2"), "{error:#}");
    }

    #[test]
    fn bars_are_linear_unless_values_are_far_apart() {
        let near = Scale::of([10.0, 100.0].into_iter());
        assert_eq!(
            (near.part(100.0), near.part(50.0), near.part(0.0)),
            (1.0, 0.5, 0.0)
        );
        let far = Scale::of([1.0, 1e6].into_iter());
        assert!(far.logarithmic && far.part(1.0) > 0.0 && far.part(1e3) > 0.4);
        assert_eq!(Scale::of(std::iter::empty()).part(0.0), 0.0);
    }
}
