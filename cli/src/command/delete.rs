//! `weft delete`: by name, or what files describe.

use weft_proto::v1;

use super::{apply::leave_out_weftds_own, get, outcome::Batch};
use crate::{
    args::{DeleteArguments, Resource},
    error::CliError,
    kind::KindInfo,
    manifest,
    terminal::Terminal,
};

/// Finds out what shall go.
pub(super) fn batch(options: &DeleteArguments, terminal: &mut Terminal<'_>) -> Result<Batch, CliError> {
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
            let mut described = manifest::load(&options.files, options.recursive, terminal.input)?;
            leave_out_weftds_own(&mut described);
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
