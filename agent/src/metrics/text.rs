//! The same statistics as over the API, as Prometheus' text (exposition format 0.0.4). Each metric is told once, here.

use std::fmt::{Display, Write};

use weft_dataplane::view::{PortStatistics, Statistics, WorkerStatistics};

use crate::reconciler::Names;

/// Writes metrics one after another.
#[derive(Default)]
struct Page(String);

impl Page {
    /// One metric with its samples: labels in braces (or nothing), and the value.
    fn metric<L: Display>(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        samples: impl IntoIterator<Item = (L, u64)>,
    ) {
        let page = &mut self.0;
        // A text takes any write.
        let _ = writeln!(page, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in samples {
            let _ = writeln!(page, "{name}{labels} {value}");
        }
    }
}

/// A label's value: backslash, quote and line feed are escaped.
fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

/// The page.
pub fn render(statistics: &Statistics, names: &Names) -> String {
    let mut page = Page::default();
    ports(&mut page, statistics, names);
    workers(&mut page, statistics);
    drops(&mut page, statistics);
    tables(&mut page, statistics);
    balance(&mut page, statistics);
    page.0
}

fn ports(page: &mut Page, statistics: &Statistics, names: &Names) {
    let name = |port: &PortStatistics| {
        names
            .ports
            .get(&port.port)
            .map_or_else(|| escaped(&port.name), |name| escaped(name))
    };
    let mut each = |metric: &str, help: &str, value: fn(&PortStatistics) -> u64| {
        let samples = statistics
            .ports
            .iter()
            .map(|port| (format!("{{port=\"{}\"}}", name(port)), value(port)));
        page.metric(metric, "counter", help, samples);
    };
    each(
        "weft_port_receive_packets_total",
        "Packets received from the port.",
        |port| port.rx_packets,
    );
    each(
        "weft_port_receive_bytes_total",
        "Bytes received from the port.",
        |port| port.rx_bytes,
    );
    each(
        "weft_port_transmit_packets_total",
        "Packets sent to the port.",
        |port| port.tx_packets,
    );
    each(
        "weft_port_transmit_bytes_total",
        "Bytes sent to the port.",
        |port| port.tx_bytes,
    );
    each(
        "weft_port_device_receive_missed_packets_total",
        "Packets that the device lost for want of room.",
        |port| port.device.rx_missed,
    );
    each(
        "weft_port_device_receive_no_buffer_total",
        "Receptions that failed for want of a buffer.",
        |port| port.device.rx_no_buffer,
    );
    each(
        "weft_port_device_receive_errors_total",
        "Packets that the device received broken.",
        |port| port.device.rx_errors,
    );
    each(
        "weft_port_device_transmit_errors_total",
        "Packets that the device failed to send.",
        |port| port.device.tx_errors,
    );
    let drops = statistics.ports.iter().flat_map(|port| {
        let name = name(port);
        port.drops.iter().map(move |(reason, packets)| {
            (
                format!("{{port=\"{name}\",reason=\"{}\"}}", reason.name()),
                *packets,
            )
        })
    });
    page.metric(
        "weft_port_dropped_packets_total",
        "counter",
        "Packets dropped, by port and reason.",
        drops,
    );
}

fn workers(page: &mut Page, statistics: &Statistics) {
    let mut each = |metric: &str, kind: &str, help: &str, value: fn(&WorkerStatistics) -> u64| {
        let labels = |worker: &WorkerStatistics| {
            format!("{{worker=\"{}\",lcore=\"{}\"}}", worker.worker, worker.lcore)
        };
        let samples = statistics
            .workers
            .iter()
            .map(|worker| (labels(worker), value(worker)));
        page.metric(metric, kind, help, samples);
    };
    each(
        "weft_worker_packets_total",
        "counter",
        "Packets that the worker handled.",
        |worker| worker.packets,
    );
    each(
        "weft_worker_bursts_total",
        "counter",
        "Bursts that the worker handled.",
        |worker| worker.bursts,
    );
    each(
        "weft_worker_busy_cycles_total",
        "counter",
        "TSC cycles spent on packets.",
        |worker| worker.busy_cycles,
    );
    each(
        "weft_worker_idle_cycles_total",
        "counter",
        "TSC cycles spent waiting.",
        |worker| worker.idle_cycles,
    );
    each(
        "weft_worker_snapshot",
        "gauge",
        "Number of the snapshot that the worker uses.",
        |worker| worker.snapshot,
    );
    each(
        "weft_worker_stuck",
        "gauge",
        "1 while the worker has not come round for over a second.",
        |worker| u64::from(worker.stuck_in.is_some()),
    );
    for (metric, help, cycles) in [
        (
            "weft_stage_cycles_total",
            "TSC cycles spent in a stage of the pipeline.",
            true,
        ),
        (
            "weft_stage_packets_total",
            "Packets that went through a stage of the pipeline.",
            false,
        ),
    ] {
        let samples = statistics.workers.iter().flat_map(|worker| {
            worker.stages.iter().map(move |(stage, spent, packets)| {
                let value = if cycles { *spent } else { *packets };
                (
                    format!("{{worker=\"{}\",stage=\"{stage}\"}}", worker.worker),
                    value,
                )
            })
        });
        page.metric(metric, "counter", help, samples);
    }
}

fn drops(page: &mut Page, statistics: &Statistics) {
    let samples = statistics
        .drops
        .iter()
        .map(|(reason, packets)| (format!("{{reason=\"{}\"}}", reason.name()), *packets));
    page.metric(
        "weft_dropped_packets_total",
        "counter",
        "Packets dropped, by reason.",
        samples,
    );
}

fn tables(page: &mut Page, statistics: &Statistics) {
    let tables = &statistics.tables;
    for (metric, kind, help, value) in [
        (
            "weft_sessions",
            "gauge",
            "Sessions in the flow table.",
            tables.sessions,
        ),
        (
            "weft_sessions_limit",
            "gauge",
            "Sessions that the flow table holds.",
            tables.session_capacity,
        ),
        (
            "weft_sessions_created_total",
            "counter",
            "Sessions learned.",
            tables.sessions_created,
        ),
        (
            "weft_sessions_expired_total",
            "counter",
            "Sessions that ended or were idle too long.",
            tables.sessions_expired,
        ),
        ("weft_routes", "gauge", "Routes in all VRFs.", tables.routes),
        (
            "weft_vrfs",
            "gauge",
            "VRFs, the underlay among them.",
            tables.vrfs,
        ),
        (
            "weft_next_hops",
            "gauge",
            "Next hops and groups.",
            tables.next_hops,
        ),
        (
            "weft_snapshot",
            "gauge",
            "Number of the newest snapshot.",
            tables.snapshot,
        ),
    ] {
        page.metric(metric, kind, help, [("", value)]);
    }
}

fn balance(page: &mut Page, statistics: &Statistics) {
    let balance = &statistics.balance;
    for (metric, kind, help, value) in [
        (
            "weft_balance_received_packets_total",
            "counter",
            "Packets received.",
            balance.received,
        ),
        (
            "weft_balance_created_packets_total",
            "counter",
            "Packets made by the vRouter.",
            balance.created,
        ),
        (
            "weft_balance_sent_packets_total",
            "counter",
            "Packets that a driver accepted.",
            balance.sent,
        ),
        (
            "weft_balance_delivered_packets_total",
            "counter",
            "Packets consumed by the vRouter.",
            balance.delivered,
        ),
        (
            "weft_balance_merged_packets_total",
            "counter",
            "Packets merged into others.",
            balance.merged,
        ),
        (
            "weft_balance_dropped_packets_total",
            "counter",
            "Packets dropped.",
            balance.dropped,
        ),
        (
            "weft_balance_held_packets",
            "gauge",
            "Packets that the vRouter holds.",
            balance.held,
        ),
    ] {
        page.metric(metric, kind, help, [("", value)]);
    }
}

#[cfg(test)]
mod tests {
    use weft_dataplane::{
        drops::Reason,
        view::{Balance, DeviceStatistics, TableStatistics},
    };
    use weft_table::{PortId, WorkerId};

    use super::*;

    #[test]
    fn the_page_shows_every_counter_by_name_and_unit() {
        let statistics = Statistics {
            ports: vec![PortStatistics {
                port: PortId(1),
                name: "web-1".into(),
                rx_packets: 1,
                rx_bytes: 2,
                tx_packets: 3,
                tx_bytes: 4,
                drops: vec![(Reason::UnknownVlan, 5)],
                device: DeviceStatistics {
                    rx_missed: 6,
                    rx_no_buffer: 7,
                    rx_errors: 8,
                    tx_errors: 9,
                },
            }],
            workers: vec![WorkerStatistics {
                worker: WorkerId(0),
                lcore: 3,
                packets: 10,
                bursts: 11,
                busy_cycles: 12,
                idle_cycles: 13,
                snapshot: 14,
                stuck_in: None,
                rounds: Vec::new(),
                stages: vec![("classify", 15, 16)],
            }],
            drops: vec![(Reason::NoRoute, 17)],
            tables: TableStatistics {
                sessions: 18,
                session_capacity: 19,
                sessions_created: 20,
                sessions_expired: 21,
                routes: 22,
                vrfs: 23,
                next_hops: 24,
                snapshot: 25,
            },
            balance: Balance {
                received: 26,
                created: 27,
                sent: 28,
                delivered: 29,
                merged: 30,
                dropped: 31,
                held: 32,
            },
        };
        let mut names = Names::default();
        names.ports.insert(PortId(1), "vm-7".into());
        let page = render(&statistics, &names);
        insta::assert_snapshot!("metrics", page);
        // Every line that is no comment is a name, labels at most once, and a number.
        for line in page.lines().filter(|line| !line.starts_with('#')) {
            let (series, value) = line.rsplit_once(' ').unwrap();
            assert!(
                series.starts_with("weft_") && value.parse::<u64>().is_ok(),
                "{line}"
            );
        }
    }

    #[test]
    fn a_labels_value_is_escaped() {
        assert_eq!(escaped("a\"b\\c\nd"), "a\\\"b\\\\c\\nd");
    }
}
