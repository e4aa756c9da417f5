//! What came of a batch, object by object.

use std::collections::HashMap;

use weft_proto::v1::{self, Outcome, State};

use super::get;
use crate::{
    args::OutputFormat,
    client::Client,
    error::{CliError, Complaint, ExitCode, count},
    kind::KindInfo,
    manifest::{self, Described, Place},
    print::{self, objects},
    terminal::Terminal,
};

/// Objects whose status is asked for to say why they wait; more would bury the answer.
const EXPLAINED: usize = 20;

/// A batch, and where its objects were described, if in files.
pub(super) struct Batch {
    /// What weftd is asked to do.
    pub request: v1::ApplyRequest,
    /// Its objects with their places; empty for deletes by name.
    pub described: Vec<Described>,
}

/// Sends a batch and prints what weftd did; refused objects become errors that name file, object and field.
pub(super) async fn send(
    client: &Client,
    batch: Batch,
    format: OutputFormat,
    terminal: &mut Terminal<'_>,
) -> Result<ExitCode, CliError> {
    let (dry_run, deletes) = (batch.request.dry_run, !batch.request.deletes.is_empty());
    let response = &client.call(client.api().apply(batch.request)).await?;
    match format {
        OutputFormat::Json => {
            print::json(terminal, &manifest::to_json("ApplyResponse", response, true)?)?;
        }
        OutputFormat::Yaml => {
            print::yaml(terminal, &manifest::to_json("ApplyResponse", response, true)?)?;
        }
        OutputFormat::Name | OutputFormat::Table => {}
    }
    let refused = complaints(response, &batch.described);
    if !refused.is_empty() {
        return Err(CliError::Refused(refused));
    }
    let reasons = if dry_run {
        HashMap::new()
    } else {
        why_not_active(client, response).await?
    };
    let mut failed = false;
    for result in &response.results {
        let path = path_of(result.key.as_ref());
        failed |= result.state() == State::Failed;
        match format {
            OutputFormat::Name => terminal.line(&path)?,
            OutputFormat::Table => {
                let mut line = format!("{path} {}", outcome_word(result.outcome(), deletes));
                if matches!(result.state(), State::Pending | State::Failed) && !is_gone(result) {
                    line += &format!(", {}", objects::state_word(result.state()));
                    if let Some(reason) = reasons.get(&path) {
                        line += &format!(": {reason}");
                    }
                }
                if dry_run {
                    line += " (dry run)";
                }
                terminal.line(&line)?;
            }
            OutputFormat::Json | OutputFormat::Yaml => {}
        }
    }
    if !response.effective && !dry_run {
        let reached = format!("a worker has not reached snapshot {}", response.snapshot);
        not_yet_effective(&reached, terminal)?;
    }
    Ok(if failed {
        ExitCode::Failure
    } else {
        ExitCode::Success
    })
}

/// Says that what was stored has not come to every worker yet.
pub(super) fn not_yet_effective(why: &str, terminal: &mut Terminal<'_>) -> Result<(), CliError> {
    terminal.flush()?;
    terminal.warn(
        &format!("stored, but not yet effective: {why}"),
        "see `weft get workers`: one that is stuck says where",
    )
}

fn is_gone(result: &v1::ObjectResult) -> bool {
    result.outcome() == Outcome::Deleted
}

fn outcome_word(outcome: Outcome, deletes: bool) -> &'static str {
    match outcome {
        Outcome::Unspecified => "done",
        Outcome::Created => "created",
        Outcome::Changed => "changed",
        Outcome::Unchanged if deletes => "did not exist",
        Outcome::Unchanged => "unchanged",
        Outcome::Deleted => "deleted",
        Outcome::Refused => "refused",
        Outcome::NotTried => "not tried",
    }
}

fn path_of(key: Option<&v1::Key>) -> String {
    let Some(key) = key else { return String::new() };
    KindInfo::from_api(key.kind()).map_or_else(|| key.name.clone(), |info| info.path(&key.name))
}

/// What weftd says of objects that are not in the data plane.
async fn why_not_active(
    client: &Client,
    response: &v1::ApplyResponse,
) -> Result<HashMap<String, String>, CliError> {
    let waiting = response
        .results
        .iter()
        .filter(|result| matches!(result.state(), State::Pending | State::Failed) && !is_gone(result))
        .filter_map(|result| result.key.as_ref());
    let mut reasons = HashMap::new();
    for key in waiting.take(EXPLAINED) {
        let Some(info) = KindInfo::from_api(key.kind()) else {
            continue;
        };
        let found = match get::named(client, info, std::slice::from_ref(&key.name), None).await {
            Err(CliError::NotFound { .. }) => continue,
            found => found?,
        };
        for status in found.into_iter().filter_map(|object| object.status) {
            if !status.message.is_empty() {
                reasons.insert(info.path(&key.name), status.message);
            }
        }
    }
    Ok(reasons)
}

fn complaints(response: &v1::ApplyResponse, described: &[Described]) -> Vec<Complaint> {
    let places: HashMap<String, &Place> = described
        .iter()
        .map(|described| (crate::kind::path_of(&described.object), &described.place))
        .collect();
    let mut complaints: Vec<Complaint> = response
        .results
        .iter()
        .filter(|result| result.outcome() == Outcome::Refused)
        .map(|result| complaint(result, places.get(&path_of(result.key.as_ref())).copied()))
        .collect();
    if complaints.is_empty() {
        return complaints;
    }
    let (refused, all) = (complaints.len(), response.results.len());
    complaints.push(Complaint {
        message: format!(
            "nothing was changed: {refused} of {} refused",
            count(all, "object")
        ),
        help: None,
    });
    complaints
}

fn complaint(result: &v1::ObjectResult, place: Option<&Place>) -> Complaint {
    let key = result.key.clone().unwrap_or_default();
    let info = KindInfo::from_api(key.kind());
    let error = result.error.clone().unwrap_or_default();
    let mut message = String::new();
    if let Some(place) = place {
        message += &format!("{place}: ");
    }
    message += &format!("{} {:?}: ", info.map_or("object", |info| info.singular), key.name);
    if !error.field.is_empty() {
        message += &format!("{}: ", field_in_file(&error.field, info));
    }
    message += if error.message.is_empty() {
        "refused without a reason"
    } else {
        &error.message
    };
    Complaint::new(message, error.help)
}

/// The API's `port.vlan.vlan` is `spec.vlan.vlan` in a file.
fn field_in_file(field: &str, info: Option<&KindInfo>) -> String {
    match info.and_then(|info| field.strip_prefix(info.field)) {
        Some("") => "spec".to_owned(),
        Some(rest) if rest.starts_with('.') => format!("spec{rest}"),
        _ => field.to_owned(),
    }
}
