//! The configuration of weftd: one commented TOML file, a few environment variables over it.
//!
//! `docs/weftd.toml.example` is the only place where keys, meanings and defaults are told; `weftd --print-config`
//! prints it, and a test holds it against this code.

mod cpus;
mod text;

use std::{
    collections::HashSet,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use weft_dataplane::{Config as DataplaneConfig, Timeouts, dpdk::mempool::DATA_ROOM};

pub use text::parse_duration;

/// The commented file with every key at its default.
pub const EXAMPLE: &str = include_str!("../../../docs/weftd.toml.example");
/// Where weftd looks for its file when nobody names one.
pub const DEFAULT_PATH: &str = "/etc/weft/weftd.toml";

/// Environment variables and the keys that they override.
const OVERRIDES: [(&str, &[&str]); 10] = [
    ("WEFT_WORKERS", &["workers"]),
    ("WEFT_MEMORY_MIB", &["memory_mib"]),
    ("WEFT_MBUFS", &["mbufs"]),
    ("WEFT_NO_HUGE", &["no_huge"]),
    ("WEFT_FILE_PREFIX", &["file_prefix"]),
    ("WEFT_SESSIONS", &["sessions"]),
    ("WEFT_STATE_DIR", &["state_dir"]),
    ("WEFT_SOCKET", &["socket"]),
    ("WEFT_LOG", &["log"]),
    ("WEFT_METRICS_LISTEN", &["metrics", "listen"]),
];

/// The configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum ConfigError {
    #[error("{} cannot be read: {source}", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    /// With line and column.
    #[error("{}: {source}", path.display())]
    Syntax {
        path: PathBuf,
        source: Box<toml::de::Error>,
    },
    #[error("environment variable {variable}=\"{value}\": {reason}")]
    Environment {
        variable: &'static str,
        value: String,
        reason: String,
    },
    #[error("{key} = {value}: {reason}")]
    Value {
        key: &'static str,
        value: String,
        reason: String,
    },
}

/// The file as it is written.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
struct File {
    workers: Workers,
    idle_sleep: String,
    memory_mib: u32,
    mbufs: u32,
    mbuf_room: u16,
    no_huge: bool,
    file_prefix: String,
    pci_devices: Vec<String>,
    sessions: u32,
    state_dir: PathBuf,
    socket: PathBuf,
    socket_owner: String,
    socket_group: String,
    socket_mode: String,
    log: String,
    timeouts: TimeoutsFile,
    metrics: MetricsFile,
    control: ControlFile,
}

/// How many, or which CPUs.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(
    untagged,
    expecting = "write a count such as 2, or a list of CPUs such as [2, 3]"
)]
enum Workers {
    Count(u16),
    Cpus(Vec<u16>),
}

#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
struct TimeoutsFile {
    tcp_opening: String,
    tcp: String,
    tcp_closed: String,
    udp: String,
    icmp: String,
    other: String,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
struct MetricsFile {
    listen: String,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
struct ControlFile {
    listen: String,
    certificate: PathBuf,
    key: PathBuf,
    client_ca: PathBuf,
}

impl Default for File {
    fn default() -> Self {
        File {
            workers: Workers::Count(1),
            idle_sleep: "50us".into(),
            memory_mib: 256,
            mbufs: 32_768,
            mbuf_room: DATA_ROOM,
            no_huge: false,
            file_prefix: "weft".into(),
            pci_devices: Vec::new(),
            sessions: 262_144,
            state_dir: "/var/lib/weft".into(),
            socket: "/run/weft/weft.sock".into(),
            socket_owner: String::new(),
            socket_group: String::new(),
            socket_mode: "0660".into(),
            log: "warn,weft::policy=info".into(),
            timeouts: TimeoutsFile::default(),
            metrics: MetricsFile::default(),
            control: ControlFile::default(),
        }
    }
}

impl Default for TimeoutsFile {
    fn default() -> Self {
        let text = |duration: Duration| format!("{}s", duration.as_secs());
        let Timeouts {
            tcp_opening,
            tcp,
            tcp_closed,
            udp,
            icmp,
            other,
        } = Timeouts::default();
        TimeoutsFile {
            tcp_opening: text(tcp_opening),
            tcp: text(tcp),
            tcp_closed: text(tcp_closed),
            udp: text(udp),
            icmp: text(icmp),
            other: text(other),
        }
    }
}

/// A configuration that can be used.
#[derive(Clone, Debug)]
pub struct Config {
    /// For the data plane.
    pub dataplane: DataplaneConfig,
    /// The store's directory.
    pub state_dir: PathBuf,
    /// The API's unix socket.
    pub socket: Socket,
    /// The API over TCP, if wanted.
    pub control: Option<Control>,
    /// Metrics, if wanted.
    pub metrics: Option<Listen>,
    /// Filter of the log.
    pub log: String,
}

/// A unix socket and who may use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Socket {
    /// Its path.
    pub path: PathBuf,
    /// Owner; None: weftd's own user.
    pub user: Option<u32>,
    /// Group; None: weftd's own.
    pub group: Option<u32>,
    /// Permission bits.
    pub mode: u32,
}

/// The API over TCP with mutual TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Control {
    pub listen: SocketAddr,
    pub certificate: PathBuf,
    pub key: PathBuf,
    pub client_ca: PathBuf,
}

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Listen {
    Unix(PathBuf),
    Tcp(SocketAddr),
}

impl Config {
    /// Reads the file (None: [`DEFAULT_PATH`] if it exists) and the environment.
    pub fn load(
        path: Option<&Path>,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let file = match (path, Path::new(DEFAULT_PATH)) {
            (Some(path), _) => read(path)?,
            (None, default) if default.exists() => read(default)?,
            (None, _) => File::default(),
        };
        Self::check(overridden(file, environment)?)
    }

    /// As [`load`](Self::load), from a text.
    pub fn parse(text: &str, environment: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let file = parse(Path::new("weftd.toml"), text)?;
        Self::check(overridden(file, environment)?)
    }

    fn check(file: File) -> Result<Self, ConfigError> {
        let sockets = Socket {
            user: text::user("socket_owner", &file.socket_owner)?,
            group: text::group("socket_group", &file.socket_group)?,
            mode: text::mode("socket_mode", &file.socket_mode)?,
            path: text::absolute("socket", file.socket)?,
        };
        if sockets.path.as_os_str().len() > crate::model::text::SOCKET_PATH_MAX {
            return Err(value(
                "socket",
                sockets.path.display(),
                "a socket's path has at most 107 characters",
            ));
        }
        Ok(Config {
            dataplane: DataplaneConfig {
                worker_cpus: worker_cpus(file.workers)?,
                no_huge: file.no_huge,
                memory_mib: at_least("memory_mib", file.memory_mib, 64)?,
                mbufs: at_least("mbufs", file.mbufs, 1024)?,
                mbuf_room: mbuf_room(file.mbuf_room)?,
                file_prefix: file_prefix(file.file_prefix)?,
                pci_devices: text::pci_devices("pci_devices", file.pci_devices)?,
                sessions: at_least("sessions", file.sessions, 64)?,
                idle_sleep: idle_sleep(&file.idle_sleep)?,
                timeouts: timeouts(&file.timeouts)?,
            },
            state_dir: text::absolute("state_dir", file.state_dir)?,
            socket: sockets,
            control: control(file.control)?,
            metrics: metrics(&file.metrics.listen)?,
            log: text::log_filter("log", file.log)?,
        })
    }
}

fn read(path: &Path) -> Result<File, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable {
        path: path.into(),
        source,
    };
    parse(path, &std::fs::read_to_string(path).map_err(unreadable)?)
}

fn parse(path: &Path, text: &str) -> Result<File, ConfigError> {
    toml::from_str(text).map_err(|source| ConfigError::Syntax {
        path: path.into(),
        source: Box::new(source),
    })
}

/// Puts environment variables over the file's values.
fn overridden(file: File, environment: impl Fn(&str) -> Option<String>) -> Result<File, ConfigError> {
    let mut file = file;
    for (variable, path) in OVERRIDES {
        let Some(text) = environment(variable) else {
            continue;
        };
        let wrong = |reason: String| ConfigError::Environment {
            variable,
            value: text.clone(),
            reason,
        };
        let mut table = toml::Table::try_from(&file).map_err(|error| wrong(error.to_string()))?;
        let mut target = &mut table;
        let (last, parents) = path.split_last().unwrap_or((&"", &[]));
        for parent in parents {
            target = match target.get_mut(*parent) {
                Some(toml::Value::Table(table)) => table,
                _ => return Err(wrong(format!("{parent} is no table"))),
            };
        }
        // Where the file has a text, a text is meant; elsewhere what TOML reads there.
        let value = match target.get(*last) {
            Some(toml::Value::String(_)) => toml::Value::String(text.clone()),
            _ => text
                .parse()
                .map_err(|_| wrong("this is no value for this key".into()))?,
        };
        target.insert((*last).to_owned(), value);
        file = table
            .try_into()
            .map_err(|error: toml::de::Error| wrong(error.message().into()))?;
    }
    Ok(file)
}

fn value(key: &'static str, value: impl std::fmt::Display, reason: impl Into<String>) -> ConfigError {
    ConfigError::Value {
        key,
        value: value.to_string(),
        reason: reason.into(),
    }
}

fn at_least(key: &'static str, number: u32, least: u32) -> Result<u32, ConfigError> {
    if number < least {
        return Err(value(key, number, format!("is too little: use at least {least}")));
    }
    Ok(number)
}

fn mbuf_room(room: u16) -> Result<u16, ConfigError> {
    if !(128..=DATA_ROOM).contains(&room) {
        return Err(value("mbuf_room", room, format!("use 128 to {DATA_ROOM}")));
    }
    Ok(room)
}

fn worker_cpus(workers: Workers) -> Result<Vec<u16>, ConfigError> {
    let cpus = match workers {
        Workers::Count(count) => cpus::choose(count).map_err(|reason| value("workers", count, reason))?,
        Workers::Cpus(cpus) => cpus,
    };
    let mut seen = HashSet::new();
    match cpus.iter().find(|cpu| !seen.insert(**cpu)) {
        Some(cpu) => Err(value(
            "workers",
            format!("{cpus:?}"),
            format!("lists CPU {cpu} twice"),
        )),
        None if cpus.is_empty() => Err(value("workers", "[]", "name at least one CPU")),
        None => Ok(cpus),
    }
}

fn file_prefix(prefix: String) -> Result<String, ConfigError> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if prefix.is_empty() || prefix.len() > 32 || prefix.starts_with('.') || !prefix.chars().all(legal) {
        let reason = "use 1 to 32 letters, digits, '-', '_' and '.'";
        return Err(value("file_prefix", format!("\"{prefix}\""), reason));
    }
    Ok(prefix)
}

fn idle_sleep(text: &str) -> Result<Duration, ConfigError> {
    const LONGEST: Duration = Duration::from_millis(10);
    let sleep = text::duration("idle_sleep", text)?;
    if sleep > LONGEST {
        return Err(value(
            "idle_sleep",
            format!("\"{text}\""),
            "is too long: use at most \"10ms\"",
        ));
    }
    Ok(sleep)
}

fn timeouts(file: &TimeoutsFile) -> Result<Timeouts, ConfigError> {
    let timeout = |key, text: &str| {
        let timeout = text::duration(key, text)?;
        let legal = Duration::from_secs(1)..=Duration::from_secs(7 * 24 * 3600);
        if !legal.contains(&timeout) {
            return Err(value(key, format!("\"{text}\""), "use \"1s\" to \"168h\""));
        }
        Ok(timeout)
    };
    Ok(Timeouts {
        tcp_opening: timeout("timeouts.tcp_opening", &file.tcp_opening)?,
        tcp: timeout("timeouts.tcp", &file.tcp)?,
        tcp_closed: timeout("timeouts.tcp_closed", &file.tcp_closed)?,
        udp: timeout("timeouts.udp", &file.udp)?,
        icmp: timeout("timeouts.icmp", &file.icmp)?,
        other: timeout("timeouts.other", &file.other)?,
    })
}

fn metrics(listen: &str) -> Result<Option<Listen>, ConfigError> {
    if listen.is_empty() {
        return Ok(None);
    }
    if let Some(path) = listen.strip_prefix("unix:") {
        return Ok(Some(Listen::Unix(text::absolute("metrics.listen", path.into())?)));
    }
    let address = listen.parse().map_err(|_| {
        let reason = "write an address such as \"127.0.0.1:9630\", or \"unix:\" and a path";
        value("metrics.listen", format!("\"{listen}\""), reason)
    })?;
    Ok(Some(Listen::Tcp(address)))
}

fn control(file: ControlFile) -> Result<Option<Control>, ConfigError> {
    let files = [
        ("control.certificate", &file.certificate),
        ("control.key", &file.key),
        ("control.client_ca", &file.client_ca),
    ];
    if file.listen.is_empty() {
        return match files.into_iter().find(|(_, path)| !path.as_os_str().is_empty()) {
            Some((key, path)) => Err(value(
                key,
                path.display(),
                "is given, but control.listen is empty",
            )),
            None => Ok(None),
        };
    }
    let listen = file.listen.parse().map_err(|_| {
        value(
            "control.listen",
            format!("\"{}\"", file.listen),
            "write an address such as \"198.18.0.1:9631\"",
        )
    })?;
    if let Some((key, _)) = files.into_iter().find(|(_, path)| path.as_os_str().is_empty()) {
        return Err(value(
            key,
            "\"\"",
            "is needed: the API is open over TCP only with mutual TLS",
        ));
    }
    Ok(Some(Control {
        listen,
        certificate: text::absolute("control.certificate", file.certificate)?,
        key: text::absolute("control.key", file.key)?,
        client_ca: text::absolute("control.client_ca", file.client_ca)?,
    }))
}

#[cfg(test)]
mod tests;
