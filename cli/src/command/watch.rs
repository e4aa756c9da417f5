//! `weft watch`: objects as they change, a line or a document an event.

use weft_proto::v1::{self, EventType};

use crate::{
    args::{OutputFormat, Resource, WatchArguments},
    client::Client,
    error::{CliError, ExitCode},
    kind::path_of,
    manifest,
    print::{self, objects},
    terminal::Terminal,
};

pub(super) async fn run(
    client: &Client,
    options: &WatchArguments,
    terminal: &mut Terminal<'_>,
) -> Result<ExitCode, CliError> {
    let kind = match (options.target.resource, &options.target.name) {
        (Resource::Kind(info), None) => info.kind,
        (Resource::All, None) => v1::Kind::Unspecified,
        _ => {
            return Err(CliError::Usage {
                message: "a kind is watched as a whole".to_owned(),
                help: "weft watch ports, or weft watch all; weft top shows counters".to_owned(),
            });
        }
    };
    let request = v1::WatchRequest {
        kind: kind.into(),
        initial: !options.changes_only,
    };
    let mut events = client.call(client.api().watch(request)).await?;
    let mut first = true;
    while let Some(event) = events.message().await? {
        if event.r#type() == EventType::InSync && options.until_in_sync {
            return Ok(ExitCode::Success);
        }
        show(&event, options.format.output, first, terminal)?;
        // A watcher wants to see an event when it happens.
        terminal.flush()?;
        first = false;
    }
    Err(CliError::WatchEnded)
}

fn show(
    event: &v1::WatchEvent,
    format: OutputFormat,
    first: bool,
    terminal: &mut Terminal<'_>,
) -> Result<(), CliError> {
    let word = match event.r#type() {
        EventType::Put => "put",
        EventType::Delete => "delete",
        EventType::InSync => "in-sync",
        EventType::Unspecified => "unknown",
    };
    match (format, &event.object) {
        (OutputFormat::Json, _) => {
            print::json_line(terminal, &manifest::to_json("WatchEvent", event, false)?)
        }
        (OutputFormat::Yaml, object) => {
            let separator = if first { "" } else { "---\n" };
            let text = object
                .as_ref()
                .map(manifest::to_yaml)
                .transpose()?
                .unwrap_or_default();
            terminal.print(&format!("{separator}# {word}\n{text}"))
        }
        (OutputFormat::Name, Some(object)) => terminal.line(&format!("{word} {}", path_of(object))),
        (OutputFormat::Name | OutputFormat::Table, None) => terminal.line(word),
        (OutputFormat::Table, Some(object)) => {
            // A deleted object is in no state any more.
            let state = if event.r#type() == EventType::Delete {
                "-"
            } else {
                objects::state(object)
            };
            let summary = objects::summary(object);
            let mut line = format!("{word:<7}  {state:<7}  {:<32}  {summary}", path_of(object));
            if let Some(status) = object.status.as_ref().filter(|status| !status.message.is_empty()) {
                line += &format!(" ({})", status.message);
            }
            terminal.line(line.trim_end())
        }
    }
}
