//! Objects in files: YAML or JSON, in the form that `-o yaml` prints.
//!
//! ```yaml
//! kind: Port
//! name: web-1
//! spec:
//!   vhost_user: {socket: /run/weft/web-1.sock}
//!   vrf: red
//! ```
//! The fields of `spec` are those of the API; they are read against its descriptor, so that a field that does not
//! exist or holds the wrong type is refused here, with its file, document, object and path. What a value must be
//! beyond its type, weftd says.

mod convert;
mod document;
mod files;
mod write;

use std::{fmt, sync::LazyLock};

use prost_reflect::{DescriptorPool, MessageDescriptor};
use weft_proto::v1;

use crate::error::Complaint;
pub use convert::FieldProblem;
pub use files::{load, load_text};
pub use write::{to_json, to_yaml, yaml_value};

/// The API's own description of itself.
static API: LazyLock<DescriptorPool> = LazyLock::new(|| {
    // The bytes come from the same build as this program: they cannot be wrong.
    DescriptorPool::decode(weft_proto::FILE_DESCRIPTOR_SET).unwrap_or_default()
});

/// The descriptor of a message of `weft.v1`. None only if the API has no such message.
pub(crate) fn descriptor(message: &str) -> Option<MessageDescriptor> {
    API.get_message_by_name(&format!("weft.v1.{message}"))
}

/// Where an object was described.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file as it was named; "standard input" for -.
    pub file: String,
    /// Which document in it, from 1; none if it holds only one.
    pub document: Option<usize>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        match self.document {
            Some(number) => write!(f, ": document {number}"),
            None => Ok(()),
        }
    }
}

/// An object and where it was described.
#[derive(Clone, Debug, PartialEq)]
pub struct Described {
    /// Where.
    pub place: Place,
    /// What.
    pub object: v1::Object,
}

/// Why a file or a document in it cannot be taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// The file cannot be read.
    #[error("{file}: {}", crate::error::reason(.source))]
    Read {
        /// The file.
        file: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// No YAML or JSON files where some should be.
    #[error("{0}: no .yaml, .yml or .json file in this directory")]
    EmptyDirectory(String),
    /// Files without a single object.
    #[error("{0}: no object in it")]
    NoObject(String),
    /// Not YAML, or not JSON.
    #[error("{place}: {message}")]
    Syntax {
        /// Where.
        place: Place,
        /// What the parser said, with line and column.
        message: String,
    },
    /// A field that is not as the API wants it.
    #[error("{place}: {object}{problem}")]
    Field {
        /// Where.
        place: Place,
        /// `port "web-1": `, as far as it is known.
        object: String,
        /// What is wrong.
        problem: FieldProblem,
    },
    /// Two descriptions of one object.
    #[error("{place}: {path} is described in {first} already")]
    Twice {
        /// Where.
        place: Place,
        /// `port/web-1`.
        path: String,
        /// Where it was first.
        first: Place,
    },
}

impl ManifestError {
    pub(crate) fn complaint(&self) -> Complaint {
        let help = match self {
            Self::Field { problem, .. } => problem.help.clone(),
            Self::Twice { .. } => "keep one of the two".to_owned(),
            Self::NoObject(_) => {
                "write `kind:`, `name:` and `spec:`; `weft get ports -o yaml` shows the form".to_owned()
            }
            Self::EmptyDirectory(_) => "name another, or look deeper with --recursive".to_owned(),
            _ => String::new(),
        };
        Complaint::new(self.to_string(), help)
    }
}
