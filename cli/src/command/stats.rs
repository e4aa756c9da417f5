//! Counters: drops, workers, stages, tables, the balance, and flows as a table.

use weft_proto::v1;

use crate::{
    args::{OutputFormat, Resource},
    client::Client,
    error::CliError,
    manifest,
    print::{
        self, Column, Table,
        units::{self, count, exact},
    },
    terminal::Terminal,
};

pub(super) async fn get(
    client: &Client,
    resource: Resource,
    format: OutputFormat,
    terminal: &mut Terminal<'_>,
) -> Result<(), CliError> {
    let stats = client
        .call(client.api().get_stats(v1::GetStatsRequest {}))
        .await?;
    if format != OutputFormat::Table {
        let value = part(resource, &stats)?;
        return match format {
            OutputFormat::Yaml => print::yaml(terminal, &value),
            _ => print::json(terminal, &value),
        };
    }
    match resource {
        Resource::Drops => show_drops(&stats.drops, terminal),
        Resource::Workers => workers(&stats.workers).print(terminal),
        Resource::Stages => stages(&stats.workers).print(terminal),
        Resource::Tables => tables(&stats).print(terminal),
        Resource::Balance => show_balance(&stats, terminal),
        _ => {
            terminal.line("PORTS")?;
            ports(&stats.ports).print(terminal)?;
            terminal.line("\nWORKERS")?;
            workers(&stats.workers).print(terminal)?;
            terminal.line("\nDROPS")?;
            show_drops(&stats.drops, terminal)?;
            terminal.line("\nTABLES")?;
            tables(&stats).print(terminal)?;
            terminal.line("\nBALANCE")?;
            show_balance(&stats, terminal)
        }
    }
}

/// The part of the API's answer that was asked for, under its own name.
fn part(resource: Resource, stats: &v1::GetStatsResponse) -> Result<serde_json::Value, CliError> {
    let mut all = manifest::to_json("GetStatsResponse", stats, true)?;
    let field = match resource {
        Resource::Drops => "drops",
        Resource::Workers | Resource::Stages => "workers",
        Resource::Tables => "tables",
        Resource::Balance => "balance",
        _ => return Ok(all),
    };
    let value = all
        .get_mut(field)
        .map(serde_json::Value::take)
        .unwrap_or_default();
    Ok(serde_json::json!({ field: value }))
}

/// Growth a second; a counter that went back (its port was made anew) counts as none.
pub(super) fn per_second(before: u64, after: u64, seconds: f64) -> f64 {
    if seconds > 0.0 {
        after.saturating_sub(before) as f64 / seconds
    } else {
        0.0
    }
}

/// Reasons with packets, most first.
pub(super) fn drop_table(drops: &[v1::DropCount]) -> Table {
    let mut drops: Vec<&v1::DropCount> = drops.iter().filter(|drop| drop.packets > 0).collect();
    drops.sort_by(|a, b| b.packets.cmp(&a.packets).then_with(|| a.reason.cmp(&b.reason)));
    let mut table = Table::new([
        Column::Text("REASON"),
        Column::Number("PACKETS"),
        Column::Text("HELP"),
    ]);
    for drop in drops {
        table.row([drop.reason.clone(), count(drop.packets), drop.help.clone()]);
    }
    table
}

fn show_drops(drops: &[v1::DropCount], terminal: &mut Terminal<'_>) -> Result<(), CliError> {
    let table = drop_table(drops);
    if table.is_empty() {
        terminal.line("no drops")
    } else {
        table.print(terminal)
    }
}

fn ports(ports: &[v1::PortStats]) -> Table {
    let mut table = Table::new([
        Column::Text("NAME"),
        Column::Number("RX-PACKETS"),
        Column::Number("RX-BYTES"),
        Column::Number("TX-PACKETS"),
        Column::Number("TX-BYTES"),
        Column::Number("MISSED"),
        Column::Text("DROPS"),
    ]);
    for port in ports {
        let missed = port.device_rx_missed + port.device_rx_no_buffer;
        table.row([
            port.name.clone(),
            count(port.rx_packets),
            units::bytes(port.rx_bytes),
            count(port.tx_packets),
            units::bytes(port.tx_bytes),
            units::count_or_dash(missed),
            print::objects::drops(&port.drops),
        ]);
    }
    table
}

fn workers(workers: &[v1::WorkerStats]) -> Table {
    let mut table = Table::new([
        Column::Number("WORKER"),
        Column::Number("LCORE"),
        Column::Number("PACKETS"),
        Column::Number("PACKETS/BURST"),
        Column::Number("CYCLES/PACKET"),
        Column::Number("BUSY"),
        Column::Number("SNAPSHOT"),
        Column::Text("STATE"),
    ]);
    for worker in workers {
        table.row([
            worker.index.to_string(),
            worker.lcore.to_string(),
            count(worker.packets),
            units::ratio(worker.packets, worker.bursts),
            units::ratio(worker.busy_cycles, worker.packets),
            units::share(
                worker.busy_cycles,
                worker.busy_cycles.saturating_add(worker.idle_cycles),
            ),
            worker.snapshot.to_string(),
            worker_state(worker),
        ]);
    }
    table
}

/// "runs", or where it has been stuck for over a second.
pub(super) fn worker_state(worker: &v1::WorkerStats) -> String {
    if worker.stuck_in.is_empty() {
        "runs".to_owned()
    } else {
        format!("stuck in {}", worker.stuck_in)
    }
}

fn stages(workers: &[v1::WorkerStats]) -> Table {
    let mut table = Table::new([
        Column::Number("WORKER"),
        Column::Text("STAGE"),
        Column::Number("PACKETS"),
        Column::Number("CYCLES"),
        Column::Number("CYCLES/PACKET"),
    ]);
    for worker in workers {
        for stage in &worker.stages {
            table.row([
                worker.index.to_string(),
                stage.stage.clone(),
                count(stage.packets),
                count(stage.cycles),
                units::ratio(stage.cycles, stage.packets),
            ]);
        }
    }
    table
}

fn tables(stats: &v1::GetStatsResponse) -> Table {
    let tables = stats.tables.unwrap_or_default();
    let mut table = Table::new([
        Column::Text("TABLE"),
        Column::Number("ENTRIES"),
        Column::Text("OF"),
    ]);
    let of = format!(
        "{} ({})",
        count(tables.session_capacity),
        units::share(tables.sessions, tables.session_capacity)
    );
    table.row(["sessions".to_owned(), count(tables.sessions), of]);
    table.row([
        "sessions created".to_owned(),
        count(tables.sessions_created),
        String::new(),
    ]);
    table.row([
        "sessions expired".to_owned(),
        count(tables.sessions_expired),
        String::new(),
    ]);
    table.row(["routes".to_owned(), count(tables.routes), String::new()]);
    table.row(["vrfs".to_owned(), count(tables.vrfs), String::new()]);
    table.row(["next hops".to_owned(), count(tables.next_hops), String::new()]);
    table.row(["snapshot".to_owned(), tables.snapshot.to_string(), String::new()]);
    table
}

/// Where every packet went, to the last one.
fn show_balance(stats: &v1::GetStatsResponse, terminal: &mut Terminal<'_>) -> Result<(), CliError> {
    let balance = stats.balance.unwrap_or_default();
    let came = u128::from(balance.received) + u128::from(balance.created);
    let went: u128 = [
        balance.sent,
        balance.delivered,
        balance.merged,
        balance.dropped,
        balance.held,
    ]
    .into_iter()
    .map(u128::from)
    .sum();
    let mut table = Table::new([
        Column::Text("CAME"),
        Column::Number("PACKETS"),
        Column::Text("WENT"),
        Column::Number("PACKETS"),
    ]);
    let rows = [
        ("received", Some(balance.received), "sent", balance.sent),
        ("created", Some(balance.created), "delivered", balance.delivered),
        ("", None, "merged", balance.merged),
        ("", None, "dropped", balance.dropped),
        ("", None, "held", balance.held),
    ];
    for (name, number, other_name, other) in rows {
        // Blank, not a dash: there is no third way in.
        let name = if name.is_empty() { " " } else { name };
        let number = number.map_or(" ".to_owned(), exact);
        table.row([name.to_owned(), number, other_name.to_owned(), exact(other)]);
    }
    table.print(terminal)?;
    terminal.line(&match came.abs_diff(went) {
        0 => "the books balance".to_owned(),
        difference if came > went => format!("more came than went: {difference}"),
        difference => format!("more went than came: {difference}"),
    })
}

/// Flows as a table; with a column for what leaves in their place if any of them is translated.
pub(super) fn flow_table(flows: &[v1::Flow]) -> Table {
    let is_translated = |flow: &v1::Flow| !flow.translated_source.is_empty();
    let any_translated = flows.iter().any(is_translated);
    let columns = [
        Column::Number("SESSION"),
        Column::Text("DIRECTION"),
        Column::Text("VRF"),
        Column::Text("PROTOCOL"),
        Column::Text("SOURCE"),
        Column::Text("DESTINATION"),
    ];
    let translated = any_translated.then_some(Column::Text("TRANSLATED"));
    let others = [
        Column::Text("INGRESS"),
        Column::Text("ACTION"),
        Column::Number("PACKETS"),
        Column::Number("BYTES"),
        Column::Number("IDLE"),
    ];
    let mut table = Table::new(columns.into_iter().chain(translated).chain(others));
    for flow in flows {
        let mut row = vec![
            flow.session.to_string(),
            if flow.initiator { "forward" } else { "reply" }.to_owned(),
            flow.vrf.clone(),
            flow.protocol.clone(),
            endpoint(&flow.source, flow.source_port),
            endpoint(&flow.destination, flow.destination_port),
        ];
        if any_translated {
            let source = endpoint(&flow.translated_source, flow.translated_source_port);
            let destination = endpoint(&flow.translated_destination, flow.translated_destination_port);
            row.push(match is_translated(flow) {
                true => format!("{source} > {destination}"),
                false => String::new(),
            });
        }
        row.extend([
            flow.ingress.clone(),
            flow.action.clone(),
            count(flow.packets),
            units::bytes(flow.bytes),
            units::duration(flow.idle_seconds),
        ]);
        table.row(row);
    }
    table
}

fn endpoint(address: &str, port: u32) -> String {
    match (port, address.contains(':')) {
        (0, _) => address.to_owned(),
        (port, true) => format!("[{address}]:{port}"),
        (port, false) => format!("{address}:{port}"),
    }
}
