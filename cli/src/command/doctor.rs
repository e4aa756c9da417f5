//! `weft doctor`: the checks of the host, and whether weftd is well.

use hugepage_setup::{CpuSet, Finding, Host, Requirements, State, report};
use weft_proto::v1;

use crate::{
    args::{Connection, DoctorArguments, OutputFormat},
    client::Client,
    error::{CliError, ExitCode, count},
    print,
    terminal::Terminal,
};

pub(super) async fn run(
    options: &DoctorArguments,
    connection: &Connection,
    host: &Host,
    terminal: &mut Terminal<'_>,
) -> Result<ExitCode, CliError> {
    let (stats, mut of_weftd) = match ask(connection).await {
        Ok(stats) => {
            let findings = weftd_findings(&stats);
            (Some(stats), findings)
        }
        Err(error @ (CliError::BadSocket(_) | CliError::Start(_))) => return Err(error),
        Err(error) => {
            let complaint = error.complaints().remove(0);
            let advice = complaint.help.unwrap_or_else(|| "look at its log".to_owned());
            (None, vec![Finding::warning("weftd", complaint.message, advice)])
        }
    };
    let running: CpuSet = stats
        .iter()
        .flat_map(|stats| &stats.workers)
        .map(|worker| worker.lcore)
        .collect();
    let wanted = Requirements {
        memory_mib: options.memory,
        workers: options.workers.clone().unwrap_or(running),
        weftd_runs: stats.is_some(),
    };
    let mut findings = hugepage_setup::doctor(host, &wanted);
    findings.append(&mut of_weftd);
    match options.format.output {
        OutputFormat::Table => terminal.print(&report::findings_text(&findings, terminal.colour))?,
        OutputFormat::Json => print::json(terminal, &findings)?,
        OutputFormat::Yaml => print::yaml(terminal, &findings)?,
        OutputFormat::Name => findings
            .iter()
            .try_for_each(|finding| terminal.line(&finding.check))?,
    }
    let problem = findings.iter().any(|finding| finding.state == State::Problem);
    Ok(if problem {
        ExitCode::Failure
    } else {
        ExitCode::Success
    })
}

async fn ask(connection: &Connection) -> Result<v1::GetStatsResponse, CliError> {
    let client = Client::connect(connection).await?;
    client.call(client.api().get_stats(v1::GetStatsRequest {})).await
}

fn weftd_findings(stats: &v1::GetStatsResponse) -> Vec<Finding> {
    let mut findings = vec![Finding::ok(
        "weftd",
        format!(
            "answers; {}, {}",
            count(stats.workers.len(), "worker"),
            count(stats.ports.len(), "port")
        ),
    )];
    let stuck: Vec<String> = stats
        .workers
        .iter()
        .filter(|worker| !worker.stuck_in.is_empty())
        .map(|worker| format!("worker {} in {}", worker.index, worker.stuck_in))
        .collect();
    findings.push(if stuck.is_empty() {
        Finding::ok("weftd-workers", "every worker comes round")
    } else {
        Finding::problem(
            "weftd-workers",
            format!("stuck: {}", stuck.join(", ")),
            "the driver named there does not return: unplug its port, or restart weftd",
        )
    });
    let tables = stats.tables.unwrap_or_default();
    let found = format!("{} of {}", tables.sessions, tables.session_capacity);
    // Beyond nine tenths, bursts of new flows begin to find no place.
    findings.push(
        if tables.sessions > tables.session_capacity / 10 * 9 && tables.session_capacity > 0 {
            Finding::warning("weftd-sessions", found, "raise `sessions` in weftd.toml")
        } else {
            Finding::ok("weftd-sessions", found)
        },
    );
    let lost: u64 = stats
        .ports
        .iter()
        .map(|port| port.device_rx_missed + port.device_rx_no_buffer)
        .sum();
    findings.push(if lost == 0 {
        Finding::ok(
            "weftd-losses",
            "no device lost packets before the workers saw them",
        )
    } else {
        Finding::warning(
            "weftd-losses",
            format!("{lost} packets lost by devices before the workers saw them"),
            "more workers or queues, or larger rings: see `weft get counters`",
        )
    });
    findings
}
