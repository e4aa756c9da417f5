//! What is wrong with an object: the field, its value, the other object, and what to do.

use std::fmt;

use weft_proto::v1;

/// One field that cannot be taken as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct FieldError {
    /// For instance `route.prefix` or `next_hop_group.members[2].weight`; empty: the object as a whole.
    pub field: String,
    /// The value and what is wrong with it.
    pub message: String,
    /// What to do.
    pub help: String,
}

impl FieldError {
    /// An error of the field with this path.
    pub fn new(field: impl Into<String>, message: impl Into<String>, help: impl Into<String>) -> Self {
        FieldError {
            field: field.into(),
            message: message.into(),
            help: help.into(),
        }
    }
}

impl From<FieldError> for v1::FieldError {
    fn from(error: FieldError) -> Self {
        v1::FieldError {
            field: error.field,
            message: error.message,
            help: error.help,
        }
    }
}

/// The place of a field, as a chain on the stack: no text is made unless there is an error to report.
#[derive(Clone, Copy)]
pub struct At<'a> {
    parent: Option<&'a At<'a>>,
    step: Step,
}

#[derive(Clone, Copy)]
enum Step {
    Field(&'static str),
    Index(usize),
}

impl<'a> At<'a> {
    /// A field of the object itself.
    pub const fn root(field: &'static str) -> At<'static> {
        At {
            parent: None,
            step: Step::Field(field),
        }
    }

    /// A field inside this one.
    pub const fn field(&'a self, field: &'static str) -> At<'a> {
        At {
            parent: Some(self),
            step: Step::Field(field),
        }
    }

    /// An element of this list.
    pub const fn index(&'a self, index: usize) -> At<'a> {
        At {
            parent: Some(self),
            step: Step::Index(index),
        }
    }

    /// An error at this place.
    pub fn error(&self, message: impl Into<String>, help: impl Into<String>) -> FieldError {
        FieldError::new(self.to_string(), message, help)
    }
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match (self.step, self.parent.is_some()) {
            (Step::Field(field), true) => write!(f, ".{field}"),
            (Step::Field(field), false) => f.write_str(field),
            (Step::Index(index), _) => write!(f, "[{index}]"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_reads_like_the_path_in_the_api() {
        let group = At::root("next_hop_group");
        let members = group.field("members");
        let member = members.index(2);
        assert_eq!(
            member.field("weight").to_string(),
            "next_hop_group.members[2].weight"
        );
    }
}
