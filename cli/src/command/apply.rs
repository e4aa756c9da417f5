//! `weft apply`: files become one batch, which weftd takes whole or not at all.

use weft_proto::v1;

use super::outcome::Batch;
use crate::{
    args::ApplyArguments,
    error::CliError,
    manifest::{self, Described},
    terminal::Terminal,
};

/// The owner of what weftd makes by itself.
const WEFTD: &str = "weftd";

/// Reads the files.
pub(super) fn batch(options: &ApplyArguments, terminal: &mut Terminal<'_>) -> Result<Batch, CliError> {
    let mut described = manifest::load(&options.files, options.recursive, terminal.input)?;
    leave_out_weftds_own(&mut described);
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

/// `weft get all -o yaml` shows what weftd makes by itself, too (the underlay's VRF). It is nobody's to apply or
/// delete.
pub(super) fn leave_out_weftds_own(described: &mut Vec<Described>) {
    described.retain(|described| described.object.owner != WEFTD);
}
