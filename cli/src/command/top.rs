//! `weft top`: rates of workers, ports and drops, drawn again and again.

use std::{collections::HashMap, time::Duration};

use serde::Serialize;
use tokio::time::Instant;
use weft_proto::v1;

use super::stats::{per_second, worker_state};
use crate::{
    args::{OutputFormat, TopArguments},
    client::Client,
    error::{CliError, ExitCode},
    print::{
        self, Column, Table,
        units::{self, count},
    },
    terminal::Terminal,
};

/// Ports shown where the window's height is not known.
const USUAL_PORTS: usize = 20;
/// The fewest ports shown, however low the window.
const FEWEST_PORTS: usize = 3;

/// One look.
#[derive(Debug, Serialize)]
struct Frame {
    seconds: f64,
    packets_per_second: f64,
    sessions: u64,
    session_capacity: u64,
    sessions_per_second: f64,
    workers: Vec<Worker>,
    ports: Vec<Port>,
    drops: Vec<Drop>,
}

#[derive(Debug, Serialize)]
struct Worker {
    index: u32,
    lcore: u32,
    packets_per_second: f64,
    packets_per_burst: f64,
    cycles_per_packet: f64,
    busy: f64,
    state: String,
}

#[derive(Debug, Serialize)]
struct Port {
    name: String,
    rx_packets_per_second: f64,
    tx_packets_per_second: f64,
    rx_bytes_per_second: f64,
    tx_bytes_per_second: f64,
    drops_per_second: f64,
}

#[derive(Debug, Serialize)]
struct Drop {
    reason: String,
    packets_per_second: f64,
    packets: u64,
    help: String,
}

pub(super) async fn run(
    client: &Client,
    options: &TopArguments,
    terminal: &mut Terminal<'_>,
) -> Result<ExitCode, CliError> {
    if options.format.output == OutputFormat::Name {
        return Err(CliError::Usage {
            message: "rates have no names".to_owned(),
            help: "choose table, json or yaml".to_owned(),
        });
    }
    let redraw = terminal.is_terminal && !options.once && options.format.output == OutputFormat::Table;
    if redraw {
        terminal.print(HIDE_CURSOR)?;
    }
    let outcome = tokio::select! {
        outcome = frames(client, options, redraw, terminal) => Some(outcome),
        _ = tokio::signal::ctrl_c() => None,
    };
    if redraw {
        terminal.print(SHOW_CURSOR)?;
        terminal.flush()?;
    }
    outcome.unwrap_or(Ok(ExitCode::Success))
}

const HIDE_CURSOR: &str = "\x1b[?25l\x1b[2J";
const SHOW_CURSOR: &str = "\x1b[?25h";

async fn frames(
    client: &Client,
    options: &TopArguments,
    redraw: bool,
    terminal: &mut Terminal<'_>,
) -> Result<ExitCode, CliError> {
    let interval = Duration::from_secs_f64(options.interval);
    let mut before = look(client).await?;
    loop {
        tokio::time::sleep(interval).await;
        let after = look(client).await?;
        let frame = Frame::between(&before, &after);
        show(&frame, options, redraw, terminal)?;
        terminal.flush()?;
        if options.once {
            return Ok(ExitCode::Success);
        }
        before = after;
    }
}

async fn look(client: &Client) -> Result<(Instant, v1::GetStatsResponse), CliError> {
    let stats = client
        .call(client.api().get_stats(v1::GetStatsRequest {}))
        .await?;
    Ok((Instant::now(), stats))
}

impl Frame {
    fn between(
        (start, before): &(Instant, v1::GetStatsResponse),
        (end, after): &(Instant, v1::GetStatsResponse),
    ) -> Self {
        let seconds = end.duration_since(*start).as_secs_f64();
        let rate = |before: u64, after: u64| per_second(before, after, seconds);
        let old_workers: HashMap<u32, &v1::WorkerStats> = before
            .workers
            .iter()
            .map(|worker| (worker.index, worker))
            .collect();
        let workers: Vec<Worker> = after
            .workers
            .iter()
            .map(|now| {
                let old = old_workers.get(&now.index).copied().cloned().unwrap_or_default();
                let grown = |old: u64, now: u64| now.saturating_sub(old) as f64;
                let over = |part: f64, whole: f64| if whole > 0.0 { part / whole } else { 0.0 };
                let packets = grown(old.packets, now.packets);
                let busy = grown(old.busy_cycles, now.busy_cycles);
                let idle = grown(old.idle_cycles, now.idle_cycles);
                Worker {
                    index: now.index,
                    lcore: now.lcore,
                    packets_per_second: rate(old.packets, now.packets),
                    packets_per_burst: over(packets, grown(old.bursts, now.bursts)),
                    cycles_per_packet: over(busy, packets),
                    busy: over(busy, busy + idle),
                    state: worker_state(now),
                }
            })
            .collect();
        let old_ports: HashMap<&str, &v1::PortStats> = before
            .ports
            .iter()
            .map(|port| (port.name.as_str(), port))
            .collect();
        let mut ports: Vec<Port> = after
            .ports
            .iter()
            .map(|now| {
                // A port that has just appeared has no rate yet.
                let old = old_ports.get(now.name.as_str()).copied().unwrap_or(now);
                Port {
                    name: now.name.clone(),
                    rx_packets_per_second: rate(old.rx_packets, now.rx_packets),
                    tx_packets_per_second: rate(old.tx_packets, now.tx_packets),
                    rx_bytes_per_second: rate(old.rx_bytes, now.rx_bytes),
                    tx_bytes_per_second: rate(old.tx_bytes, now.tx_bytes),
                    drops_per_second: rate(dropped(&old.drops), dropped(&now.drops)),
                }
            })
            .collect();
        let traffic = |port: &Port| port.rx_packets_per_second + port.tx_packets_per_second;
        ports.sort_by(|a, b| {
            traffic(b)
                .total_cmp(&traffic(a))
                .then_with(|| a.name.cmp(&b.name))
        });
        let old_drops: HashMap<&str, u64> = before
            .drops
            .iter()
            .map(|drop| (drop.reason.as_str(), drop.packets))
            .collect();
        let mut drops: Vec<Drop> = after
            .drops
            .iter()
            .filter(|drop| drop.packets > 0)
            .map(|drop| Drop {
                reason: drop.reason.clone(),
                packets_per_second: rate(
                    old_drops.get(drop.reason.as_str()).copied().unwrap_or(0),
                    drop.packets,
                ),
                packets: drop.packets,
                help: drop.help.clone(),
            })
            .collect();
        drops.sort_by(|a, b| {
            b.packets_per_second
                .total_cmp(&a.packets_per_second)
                .then_with(|| b.packets.cmp(&a.packets))
        });
        let (old, now) = (
            before.tables.unwrap_or_default(),
            after.tables.unwrap_or_default(),
        );
        Self {
            seconds,
            packets_per_second: workers.iter().map(|worker| worker.packets_per_second).sum(),
            sessions: now.sessions,
            session_capacity: now.session_capacity,
            sessions_per_second: rate(old.sessions_created, now.sessions_created),
            workers,
            ports,
            drops,
        }
    }

    fn text(&self, most_ports: usize) -> String {
        let mut text = format!(
            "{} packets/s   {} of {} sessions, {} new/s\n\n",
            units::rate(self.packets_per_second),
            count(self.sessions),
            count(self.session_capacity),
            units::rate(self.sessions_per_second)
        );
        let mut workers = Table::new([
            Column::Number("WORKER"),
            Column::Number("LCORE"),
            Column::Number("PPS"),
            Column::Number("PACKETS/BURST"),
            Column::Number("CYCLES/PACKET"),
            Column::Number("BUSY"),
            Column::Text("STATE"),
        ]);
        for worker in &self.workers {
            workers.row([
                worker.index.to_string(),
                worker.lcore.to_string(),
                units::rate(worker.packets_per_second),
                format!("{:.1}", worker.packets_per_burst),
                format!("{:.0}", worker.cycles_per_packet),
                format!("{:.0} %", worker.busy * 100.0),
                worker.state.clone(),
            ]);
        }
        text += &workers.text();
        let mut ports = Table::new([
            Column::Text("PORT"),
            Column::Number("RX-PPS"),
            Column::Number("TX-PPS"),
            Column::Number("RX"),
            Column::Number("TX"),
            Column::Number("DROPS/S"),
        ]);
        for port in self.ports.iter().take(most_ports) {
            ports.row([
                port.name.clone(),
                units::rate(port.rx_packets_per_second),
                units::rate(port.tx_packets_per_second),
                units::bit_rate(port.rx_bytes_per_second),
                units::bit_rate(port.tx_bytes_per_second),
                units::rate(port.drops_per_second),
            ]);
        }
        if !ports.is_empty() {
            text += &format!("\n{}", ports.text());
        }
        if self.ports.len() > most_ports {
            text += &format!("and {} more\n", self.ports.len() - most_ports);
        }
        let mut drops = Table::new([
            Column::Text("DROPS"),
            Column::Number("PPS"),
            Column::Number("TOTAL"),
            Column::Text("HELP"),
        ]);
        for drop in &self.drops {
            drops.row([
                drop.reason.clone(),
                units::rate(drop.packets_per_second),
                count(drop.packets),
                drop.help.clone(),
            ]);
        }
        if !drops.is_empty() {
            text += &format!("\n{}", drops.text());
        }
        text
    }
}

fn dropped(drops: &[v1::DropCount]) -> u64 {
    drops.iter().map(|drop| drop.packets).sum()
}

fn show(
    frame: &Frame,
    options: &TopArguments,
    redraw: bool,
    terminal: &mut Terminal<'_>,
) -> Result<(), CliError> {
    match options.format.output {
        OutputFormat::Json if options.once => return print::json(terminal, frame),
        OutputFormat::Json => return print::json_line(terminal, frame),
        OutputFormat::Yaml => {
            terminal.print(if options.once { "" } else { "---\n" })?;
            return print::yaml(terminal, frame);
        }
        OutputFormat::Table | OutputFormat::Name => {}
    }
    // Headings, the summary and the other two tables take their lines first.
    let others = frame.workers.len() + frame.drops.len() + 8;
    let fits = match terminal.rows.filter(|_| redraw) {
        Some(rows) => rows.saturating_sub(others).max(FEWEST_PORTS),
        None => USUAL_PORTS,
    };
    let text = frame.text(options.ports.unwrap_or(fits));
    if redraw {
        // Over the old picture, line by line, so that nothing flickers; what is left of the old one goes.
        let lines: String = text.lines().map(|line| format!("{line}\x1b[K\n")).collect();
        terminal.print(&format!("\x1b[H{lines}\x1b[J"))
    } else {
        terminal.print(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_that_starts_anew_and_a_port_that_appears_have_no_rate() {
        let start = Instant::now();
        let look = |seconds, ports: &[(&str, u64)]| {
            let ports = ports
                .iter()
                .map(|(name, rx_packets)| v1::PortStats {
                    name: (*name).to_owned(),
                    rx_packets: *rx_packets,
                    ..Default::default()
                })
                .collect();
            (
                start + Duration::from_secs(seconds),
                v1::GetStatsResponse {
                    ports,
                    ..Default::default()
                },
            )
        };
        let before = look(0, &[("again", 1_000), ("steady", 500)]);
        let after = look(2, &[("again", 10), ("new", 4_000), ("steady", 700)]);
        let frame = Frame::between(&before, &after);
        let rates: Vec<(&str, f64)> = frame
            .ports
            .iter()
            .map(|port| (port.name.as_str(), port.rx_packets_per_second))
            .collect();
        assert_eq!(rates, [("steady", 100.0), ("again", 0.0), ("new", 0.0)]);
    }
}
