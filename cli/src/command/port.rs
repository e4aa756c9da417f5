//! `weft plug`, `weft unplug`, `weft check port`: ports one at a time, with their devices awaited.

use std::path::Path;

use weft_proto::v1;

use super::{get, outcome};
use crate::{
    args::{Format, OutputFormat, Owner},
    client::Client,
    error::{CliError, Complaint, ExitCode},
    kind::{KindInfo, path_of},
    manifest::{self, Described},
    print::{self, Column, Table, objects},
    suggest,
    terminal::Terminal,
};

/// Reads the one port that shall be plugged.
pub(super) fn read(file: &Path, terminal: &mut Terminal<'_>) -> Result<Described, CliError> {
    let mut described = manifest::load(&[file.to_owned()], false, terminal.input)?;
    match (described.pop(), described.is_empty()) {
        (Some(port), true) if get::port_of(&port.object).is_some() => Ok(port),
        _ => Err(CliError::Refused(vec![Complaint::new(
            format!(
                "{}: plug takes a file with one Port and nothing else",
                file.display()
            ),
            "use `weft apply -f` for several objects",
        )])),
    }
}

pub(super) async fn plug(
    client: &Client,
    described: Described,
    owner: &Owner,
    terminal: &mut Terminal<'_>,
) -> Result<ExitCode, CliError> {
    let (place, name) = (described.place, described.object.name.clone());
    let request = v1::PlugPortRequest {
        owner: owner.owner.clone(),
        port: Some(described.object),
    };
    let (port, effective) = match client.call(client.api().plug_port(request)).await {
        Ok(answer) => (answer.port.unwrap_or_default(), answer.effective),
        Err(CliError::Status(mut status)) if !is_connection(&status) => {
            // File and object are part of what the reader must know, and in the file the fields are below `spec`.
            let message = match status.message().strip_prefix("port.") {
                Some(field) => format!("{place}: port {name:?}: spec.{field}"),
                None => format!("{place}: port {name:?}: {}", status.message()),
            };
            *status = tonic::Status::new(status.code(), message);
            return Err(CliError::Status(status));
        }
        Err(error) => return Err(error),
    };
    let reason = port
        .status
        .as_ref()
        .map(|status| status.message.clone())
        .unwrap_or_default();
    let mut line = format!("{} plugged, {}", path_of(&port), objects::state(&port));
    if !reason.is_empty() {
        line += &format!(": {reason}");
    }
    terminal.line(&line)?;
    if !effective && objects::state(&port) == "active" {
        outcome::not_yet_effective("a worker does not poll the port yet", terminal)?;
    }
    Ok(if objects::state(&port) == "failed" {
        ExitCode::Failure
    } else {
        ExitCode::Success
    })
}

fn is_connection(status: &tonic::Status) -> bool {
    status.code() == tonic::Code::Unavailable
}

pub(super) async fn unplug(
    client: &Client,
    port: &str,
    owner: &Owner,
    terminal: &mut Terminal<'_>,
) -> Result<ExitCode, CliError> {
    let request = v1::UnplugPortRequest {
        owner: owner.owner.clone(),
        name: port.to_owned(),
    };
    match client.call(client.api().unplug_port(request)).await {
        Ok(answer) => {
            terminal.line(&format!("port/{port} unplugged"))?;
            if !answer.effective {
                outcome::not_yet_effective("a worker may still hold packets of the port", terminal)?;
            }
            Ok(ExitCode::Success)
        }
        Err(error) => Err(not_found(client, port, error).await),
    }
}

/// Whether a port's link is up, by what the data plane says.
pub(super) async fn check(
    client: &Client,
    name: &str,
    format: Format,
    terminal: &mut Terminal<'_>,
) -> Result<ExitCode, CliError> {
    let request = v1::CheckPortRequest {
        name: name.to_owned(),
    };
    let answer = match client.call(client.api().check_port(request)).await {
        Ok(answer) => answer,
        Err(error) => return Err(not_found(client, name, error).await),
    };
    let up = answer.state.as_ref().is_some_and(|state| state.link_up);
    match format.output {
        OutputFormat::Json => {
            print::json(terminal, &manifest::to_json("CheckPortResponse", &answer, true)?)?;
        }
        OutputFormat::Yaml => {
            print::yaml(terminal, &manifest::to_json("CheckPortResponse", &answer, true)?)?;
        }
        OutputFormat::Name => terminal.line(&format!("port/{name}"))?,
        OutputFormat::Table => {
            let port = answer.port.unwrap_or_default();
            let mut table =
                Table::new(["NAME", "STATE", "LINK", "QUEUES", "MAC", "DEVICE"].map(Column::Text));
            let state = answer.state.unwrap_or_default();
            table.row([
                name.to_owned(),
                objects::state(&port).to_owned(),
                if up { "up" } else { "down" }.to_owned(),
                state.queues.to_string(),
                state.mac,
                state.device,
            ]);
            table.print(terminal)?;
            if let Some(status) = port.status.filter(|status| !status.message.is_empty()) {
                terminal.line(&status.message)?;
            }
        }
    }
    Ok(if up { ExitCode::Success } else { ExitCode::Failure })
}

/// A port that does not exist gets the name that was probably meant.
async fn not_found(client: &Client, name: &str, error: CliError) -> CliError {
    let CliError::Status(status) = &error else {
        return error;
    };
    let Some(info) = KindInfo::from_api(v1::Kind::Port).filter(|_| status.code() == tonic::Code::NotFound)
    else {
        return error;
    };
    let known = get::named(client, info, &[], None).await.unwrap_or_default();
    let similar = suggest::similar(name, known.iter().map(|object| object.name.as_str()));
    CliError::NotFound {
        kind: info,
        name: name.to_owned(),
        similar: similar.map(str::to_owned),
    }
}
