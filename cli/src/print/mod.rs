//! The one layer through which everything is printed.

pub mod nat;
pub mod objects;
pub mod policies;
pub mod services;
pub mod table;
pub mod trace;
pub mod units;

use serde::Serialize;
use weft_proto::v1;

use crate::{error::CliError, manifest, terminal::Terminal};
pub use table::{Column, Table};

/// Prints a value as indented JSON.
pub fn json<T: Serialize>(terminal: &mut Terminal<'_>, value: &T) -> Result<(), CliError> {
    let text = serde_json::to_string_pretty(value).map_err(|error| CliError::Format(error.to_string()))?;
    terminal.line(&text)
}

/// Prints a value as one line of JSON, for streams.
pub fn json_line<T: Serialize>(terminal: &mut Terminal<'_>, value: &T) -> Result<(), CliError> {
    let text = serde_json::to_string(value).map_err(|error| CliError::Format(error.to_string()))?;
    terminal.line(&text)
}

/// Prints a value as YAML.
pub fn yaml<T: Serialize>(terminal: &mut Terminal<'_>, value: &T) -> Result<(), CliError> {
    let text = serde_norway::to_string(value).map_err(|error| CliError::Format(error.to_string()))?;
    terminal.print(&text)
}

/// Prints objects as documents that `weft apply` takes.
pub fn yaml_objects(terminal: &mut Terminal<'_>, objects: &[v1::Object]) -> Result<(), CliError> {
    for (index, object) in objects.iter().enumerate() {
        if index > 0 {
            terminal.print("---\n")?;
        }
        terminal.print(&manifest::to_yaml(object)?)?;
    }
    Ok(())
}
