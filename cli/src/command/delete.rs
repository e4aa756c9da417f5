//! `weft delete`: by name, or what files describe.

use weft_proto::v1;

use super::{get, outcome};
use crate::{
    args::{DeleteArguments, Resource},
    client::Client,
    error::{CliError, ExitCode},
    kind::KindInfo,
    manifest::{self, Described},
    terminal::Terminal,
};

/// A batch of deletes, and where the objects were described, if in files.
pub(super) struct Batch {
    request: v1::ApplyRequest,
    described: Vec<Described>,
}

/// Finds out what shall go.
pub(super) fn request(options: &DeleteArguments, terminal: &mut Terminal<'_>) -> Result<Batch, CliError> {
    let usage = |message: &str, help: &str| CliError::Usage {
        message: message.to_owned(),
        help: help.to_owned(),
    };
    let (deletes, described) = match &options.target {
        Some(target) => {
            let Resource::Kind(info) = target.resource else {
                return Err(usage(
                    "only objects can be deleted",
                    "name a kind: weft delete port web-1",
                ));
            };
            let names = get::names(target.name.as_ref(), &options.names);
            if names.is_empty() {
                return Err(usage(
                    &format!("which {}?", info.plural),
                    &format!("name them: weft delete {} NAME", info.singular),
                ));
            }
            (
                names
                    .into_iter()
                    .map(|name| v1::Key {
                        kind: info.kind.into(),
                        name,
                    })
                    .collect(),
                Vec::new(),
            )
        }
        None => {
            let described = manifest::load(&options.files, options.recursive, terminal.input)?;
            let keys = described.iter().filter_map(|described| {
                let info = KindInfo::of(&described.object)?;
                Some(v1::Key {
                    kind: info.kind.into(),
                    name: described.object.name.clone(),
                })
            });
            (keys.collect(), described)
        }
    };
    let request = v1::ApplyRequest {
        owner: options.owner.owner.clone(),
        deletes,
        dry_run: options.dry_run,
        ..Default::default()
    };
    Ok(Batch { request, described })
}

pub(super) async fn run(
    client: &Client,
    batch: Batch,
    options: &DeleteArguments,
    terminal: &mut Terminal<'_>,
) -> Result<ExitCode, CliError> {
    let response = client.call(client.api().apply(batch.request)).await?;
    let format = options.format.output;
    outcome::report(
        client,
        &response,
        &batch.described,
        options.dry_run,
        format,
        terminal,
    )
    .await
}
