//! Reads the texts of the configuration: durations, paths, modes, users.

use std::{path::PathBuf, time::Duration};

use super::{ConfigError, value};

/// A duration with its unit.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let number: u64 = text[..digits].parse().ok()?;
    match &text[digits..] {
        "us" => Some(Duration::from_micros(number)),
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs),
        "h" => number.checked_mul(3600).map(Duration::from_secs),
        _ => None,
    }
}

pub fn duration(key: &'static str, text: &str) -> Result<Duration, ConfigError> {
    let reason = "write a number and a unit (us, ms, s, m, h), such as \"50us\"";
    parse_duration(text).ok_or_else(|| value(key, format!("\"{text}\""), reason))
}

pub fn absolute(key: &'static str, path: PathBuf) -> Result<PathBuf, ConfigError> {
    if path.is_absolute() {
        return Ok(path);
    }
    Err(value(
        key,
        format!("\"{}\"", path.display()),
        "write an absolute path",
    ))
}

pub fn mode(key: &'static str, text: &str) -> Result<u32, ConfigError> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode & !0o777 == 0 && mode & 0o600 == 0o600 => Ok(mode),
        _ => Err(value(
            key,
            format!("\"{text}\""),
            "write an octal mode between \"0600\" and \"0777\"",
        )),
    }
}

pub fn user(key: &'static str, text: &str) -> Result<Option<u32>, ConfigError> {
    id(key, text, "/etc/passwd")
}

pub fn group(key: &'static str, text: &str) -> Result<Option<u32>, ConfigError> {
    id(key, text, "/etc/group")
}

/// The number of a user or group: both files have it in the third field, after the name.
fn id(key: &'static str, text: &str, file: &str) -> Result<Option<u32>, ConfigError> {
    if text.is_empty() {
        return Ok(None);
    }
    if let Ok(id) = text.parse() {
        return Ok(Some(id));
    }
    let lines = std::fs::read_to_string(file).unwrap_or_default();
    let found = lines.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(text))
            .then(|| fields.nth(1)?.parse().ok())
            .flatten()
    });
    match found {
        Some(id) => Ok(Some(id)),
        None => Err(value(
            key,
            format!("\"{text}\""),
            format!("is not in {file}: use one that is, or a number"),
        )),
    }
}

pub fn pci_devices(key: &'static str, devices: Vec<String>) -> Result<Vec<String>, ConfigError> {
    let wrong = |device: &&String| crate::model::pci_address(device).is_none();
    match devices.iter().find(wrong) {
        Some(device) => Err(value(
            key,
            format!("\"{device}\""),
            "is no PCI address: write one such as \"0000:03:00.0\"",
        )),
        None => Ok(devices
            .iter()
            .filter_map(|device| crate::model::pci_address(device))
            .collect()),
    }
}

pub fn log_filter(key: &'static str, text: String) -> Result<String, ConfigError> {
    match tracing_subscriber::EnvFilter::builder().parse(&text) {
        Ok(_) if !text.is_empty() => Ok(text),
        Ok(_) => Err(value(key, "\"\"", "write a level, such as \"warn\"")),
        Err(error) => Err(value(key, format!("\"{text}\""), error.to_string())),
    }
}
