//! What can go wrong, how it is said, and the exit code that tells scripts.

use std::{io, process};

use crate::{kind::KindInfo, manifest::ManifestError};

/// How `weft` ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// Done.
    Success = 0,
    /// Refused or failed; nothing was changed.
    Failure = 1,
    /// The command line cannot be understood.
    Usage = 2,
    /// weftd does not answer.
    Unreachable = 3,
}

impl From<ExitCode> for process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code as u8)
    }
}

/// One error as a person reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// File, object, field, value.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

impl Complaint {
    /// An error and the way out of it.
    pub fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            help: Some(help.into()).filter(|help| !help.is_empty()),
        }
    }
}

/// Why a command did not succeed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CliError {
    /// Nobody listens at weftd's socket.
    #[error("weftd is not reachable at {socket}: {}", reason(.source))]
    Unreachable {
        /// The socket, as it was named.
        socket: String,
        /// What the system said.
        source: io::Error,
    },
    /// The socket's name is of a kind that weft does not speak.
    #[error("socket {0:?} is no unix socket")]
    BadSocket(String),
    /// weftd took the connection, but did not answer in time.
    #[error("weftd at {socket} did not answer within {seconds} s")]
    Timeout {
        /// The socket, as it was named.
        socket: String,
        /// How long it had.
        seconds: u64,
    },
    /// weftd answered with an error, or went away.
    #[error("{}", status_text(.0))]
    Status(#[from] Box<tonic::Status>),
    /// weftd ended a stream that has no end.
    #[error("weftd ended the watch")]
    WatchEnded,
    /// Files that cannot be applied.
    #[error("{} in the files", count(.0.len(), "error"))]
    Manifest(Vec<ManifestError>),
    /// weftd refused objects; nothing was changed.
    #[error("{} refused", count(.0.len(), "object"))]
    Refused(Vec<Complaint>),
    /// No object of this name.
    #[error("{} {name:?} does not exist", .kind.singular)]
    NotFound {
        /// Its kind.
        kind: &'static KindInfo,
        /// The name that was asked for.
        name: String,
        /// A name that exists and looks alike.
        similar: Option<String>,
    },
    /// Options that do not go together.
    #[error("{message}")]
    Usage {
        /// What does not fit.
        message: String,
        /// What to write instead.
        help: String,
    },
    /// A file could not be written.
    #[error("{path}: {}", reason(.source))]
    File {
        /// The file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The program could not start its own machinery.
    #[error("start: {0}")]
    Start(io::Error),
    /// Standard output cannot be written.
    #[error("write: {0}")]
    Output(io::Error),
    /// The answer cannot be shown in the format asked for.
    #[error("format: {0}")]
    Format(String),
}

impl From<tonic::Status> for CliError {
    fn from(status: tonic::Status) -> Self {
        Self::Status(Box::new(status))
    }
}

impl CliError {
    /// What the shell sees.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Unreachable { .. } | Self::Timeout { .. } | Self::WatchEnded => ExitCode::Unreachable,
            Self::Status(status) if status.code() == tonic::Code::Unavailable => ExitCode::Unreachable,
            Self::Usage { .. } | Self::BadSocket(_) => ExitCode::Usage,
            _ => ExitCode::Failure,
        }
    }

    /// What a person reads.
    pub fn complaints(&self) -> Vec<Complaint> {
        match self {
            Self::Manifest(errors) => errors.iter().map(ManifestError::complaint).collect(),
            Self::Refused(complaints) => complaints.clone(),
            other => vec![Complaint {
                message: other.to_string(),
                help: other.help(),
            }],
        }
    }

    fn help(&self) -> Option<String> {
        Some(match self {
            Self::Unreachable { source, .. } => match source.kind() {
                io::ErrorKind::PermissionDenied => {
                    "run as root, or as a member of the socket's group".to_owned()
                }
                io::ErrorKind::ConnectionRefused => {
                    "the socket is there but weftd is not: `systemctl start weftd`".to_owned()
                }
                _ => "start weftd (`systemctl start weftd`), or name its socket with --socket or WEFT_SOCKET"
                    .to_owned(),
            },
            Self::BadSocket(_) => "write unix:///run/weft/weft.sock, or a path".to_owned(),
            Self::Timeout { .. } => "look at its log, or wait longer with --timeout".to_owned(),
            Self::Status(status) if status.message().contains('\n') => return help_of(status),
            Self::Status(status) => match status.code() {
                tonic::Code::Unavailable => {
                    "weftd went away: look at its log (`journalctl -u weftd`)".to_owned()
                }
                tonic::Code::Unimplemented => "this weftd is of another version than this weft".to_owned(),
                tonic::Code::PermissionDenied => "name the owner with --owner or WEFT_OWNER".to_owned(),
                _ => return None,
            },
            Self::WatchEnded => "it may be restarting: run the command again".to_owned(),
            Self::NotFound { kind, similar, .. } => match similar {
                Some(name) => format!("did you mean {name:?}?"),
                None => format!("see what there is with `weft get {}`", kind.plural),
            },
            Self::Usage { help, .. } => help.clone(),
            _ => return None,
        })
    }
}

/// weftd puts the way out below the error, as this program does.
fn help_of(status: &tonic::Status) -> Option<String> {
    let (_, help) = status.message().split_once('\n')?;
    Some(help.trim().trim_start_matches("help:").trim().to_owned())
}

fn status_text(status: &tonic::Status) -> String {
    let message = status.message().lines().next().unwrap_or_default();
    if message.is_empty() {
        format!("weftd: {}", status.code())
    } else {
        message.to_owned()
    }
}

/// What the system said, without its number for it.
pub(crate) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error ") {
        Some((words, _)) => words.to_owned(),
        None => text,
    }
}

/// "1 object", "2 objects".
pub(crate) fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}
