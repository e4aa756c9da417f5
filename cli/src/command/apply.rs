//! `weft apply`: files become one batch, which weftd takes whole or not at all.

use weft_proto::v1;

use super::outcome;
use crate::{
    args::ApplyArguments,
    client::Client,
    error::{CliError, ExitCode},
    manifest::{self, Described},
    terminal::Terminal,
};

/// A batch, and where each of its objects was described.
pub(super) struct Batch {
    request: v1::ApplyRequest,
    described: Vec<Described>,
}

/// Reads the files.
pub(super) fn request(options: &ApplyArguments, terminal: &mut Terminal<'_>) -> Result<Batch, CliError> {
    let described = manifest::load(&options.files, options.recursive, terminal.input)?;
    let request = v1::ApplyRequest {
        owner: options.owner.owner.clone(),
        revision: options.revision,
        objects: described
            .iter()
            .map(|described| described.object.clone())
            .collect(),
        deletes: Vec::new(),
        dry_run: options.dry_run,
    };
    Ok(Batch { request, described })
}

pub(super) async fn run(
    client: &Client,
    batch: Batch,
    options: &ApplyArguments,
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
