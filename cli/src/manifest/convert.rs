//! From a YAML value to a message of the API, by the message's descriptor.
//!
//! `DynamicMessage` can read itself from serde, but stops at the first error and does not say where it is. This
//! walk names every field that is wrong, with its path and what to write instead.

use std::fmt;

use prost_reflect::{DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor, Value};
use serde_norway::{Mapping, Value as Yaml};

use crate::suggest;

/// A field that is not as the API wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldProblem {
    /// `spec.trunk[1].vlan`; empty: the whole document.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub help: String,
}

impl fmt::Display for FieldProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

/// Reads one document; remembers where it is and what was wrong so far.
#[derive(Debug, Default)]
pub(super) struct Reader {
    path: Vec<String>,
    pub(super) problems: Vec<FieldProblem>,
}

impl Reader {
    /// Notes a problem of the field that is being read.
    pub(super) fn problem(&mut self, message: impl Into<String>, help: impl Into<String>) {
        let path = self.path.concat().trim_start_matches('.').to_owned();
        self.problems.push(FieldProblem {
            path,
            message: message.into(),
            help: help.into(),
        });
    }

    /// Reads something below the current field.
    pub(super) fn inside<T>(&mut self, step: String, read: impl FnOnce(&mut Self) -> T) -> T {
        self.path.push(step);
        let value = read(self);
        self.path.pop();
        value
    }

    /// Reads a message. What is wrong is noted and left out.
    pub(super) fn message(&mut self, value: &Yaml, descriptor: &MessageDescriptor) -> DynamicMessage {
        let mut message = DynamicMessage::new(descriptor.clone());
        let Some(mapping) = self.mapping(value, &names(descriptor)) else {
            return message;
        };
        for (key, value) in mapping {
            let Some(key) = self.key(key) else { continue };
            let field = descriptor
                .get_field_by_name(key)
                .or_else(|| descriptor.get_field_by_json_name(key));
            self.inside(format!(".{key}"), |reader| match field {
                Some(field) => reader.field(value, &field, &mut message),
                None => reader.unknown(key, &names(descriptor)),
            });
        }
        message
    }

    /// The fields of a mapping; anything else is a problem.
    pub(super) fn mapping<'a>(&mut self, value: &'a Yaml, fields: &[String]) -> Option<&'a Mapping> {
        if let Yaml::Mapping(mapping) = value {
            return Some(mapping);
        }
        let help = match fields {
            [] => "write {}".to_owned(),
            fields => format!("write its fields: {}", fields.join(", ")),
        };
        self.problem(format!("is {}, fields are wanted", describe(value)), help);
        None
    }

    /// A field's name.
    pub(super) fn key<'a>(&mut self, key: &'a Yaml) -> Option<&'a str> {
        if key.as_str().is_none() {
            self.problem(
                format!("has {} for a field's name", describe(key)),
                "names of fields are text",
            );
        }
        key.as_str()
    }

    /// Notes that the current field does not exist.
    pub(super) fn unknown(&mut self, name: &str, known: &[String]) {
        let help = match suggest::similar(name, known.iter().map(String::as_str)) {
            Some(similar) => format!("did you mean {similar:?}?"),
            None if known.is_empty() => "nothing is set here: write {}".to_owned(),
            None => format!("known here are {}", known.join(", ")),
        };
        self.problem("there is no such field", help);
    }

    fn field(&mut self, value: &Yaml, field: &FieldDescriptor, message: &mut DynamicMessage) {
        if value.is_null() {
            if field.containing_oneof().is_some() {
                self.problem("has no value", example(field));
            }
            return;
        }
        if message.has_field(field) {
            return self.problem("is given twice", "keep one of the two");
        }
        if let Some(other) = field.containing_oneof().and_then(|oneof| {
            oneof
                .fields()
                .find(|other| other != field && message.has_field(other))
        }) {
            return self.problem(
                format!("cannot be given together with {:?}", other.name()),
                "keep one of the two",
            );
        }
        let value = if field.is_list() {
            let Yaml::Sequence(items) = value else {
                return self.problem(
                    format!("is {}, a list is wanted", describe(value)),
                    "write it as a list: [...]",
                );
            };
            let items = items.iter().enumerate();
            let items = items
                .filter_map(|(index, item)| {
                    self.inside(format!("[{index}]"), |reader| reader.single(item, &field.kind()))
                })
                .collect();
            Some(Value::List(items))
        } else {
            self.single(value, &field.kind())
        };
        if let Some(value) = value {
            message.set_field(field, value);
        }
    }

    fn single(&mut self, value: &Yaml, kind: &Kind) -> Option<Value> {
        match kind {
            Kind::Message(descriptor) => Some(Value::Message(self.message(value, descriptor))),
            Kind::Enum(descriptor) => self.enumeration(value, descriptor),
            Kind::String => self.text(value),
            Kind::Bool => self.truth(value),
            Kind::Uint32 => self
                .number(value, u32::MAX.into())
                .map(|number| Value::U32(number as u32)),
            Kind::Uint64 => self.number(value, u64::MAX).map(Value::U64),
            other => {
                self.problem(
                    format!("is of type {other:?}, which files cannot hold"),
                    "use a newer version of weft",
                );
                None
            }
        }
    }

    fn text(&mut self, value: &Yaml) -> Option<Value> {
        match value {
            Yaml::String(text) => return Some(Value::String(text.clone())),
            Yaml::Number(number) => {
                self.problem(
                    format!("is the number {number}, text is wanted"),
                    format!("put it in quotes: \"{number}\""),
                );
            }
            Yaml::Bool(truth) => {
                self.problem(
                    format!("is {truth}, text is wanted"),
                    format!("put it in quotes: \"{truth}\""),
                );
            }
            Yaml::Sequence(items) if items.len() == 1 => {
                self.problem(
                    "is a list, one text is wanted",
                    "take the brackets or the dash away",
                );
            }
            other => self.problem(format!("is {}, text is wanted", describe(other)), ""),
        }
        None
    }

    fn truth(&mut self, value: &Yaml) -> Option<Value> {
        if let Yaml::Bool(truth) = value {
            return Some(Value::Bool(*truth));
        }
        self.problem(
            format!("is {}, true or false is wanted", describe(value)),
            "write true or false",
        );
        None
    }

    fn number(&mut self, value: &Yaml, most: u64) -> Option<u64> {
        match value {
            Yaml::Number(number) => match number.as_u64().filter(|number| *number <= most) {
                Some(number) => return Some(number),
                None => self.problem(
                    format!("is {number}, a whole number from 0 to {most} is wanted"),
                    "",
                ),
            },
            Yaml::String(text) if text.parse::<u64>().is_ok_and(|number| number <= most) => self.problem(
                format!("is the text {text:?}, a number is wanted"),
                format!("take the quotes away: {text}"),
            ),
            other => self.problem(format!("is {}, a number is wanted", describe(other)), ""),
        }
        None
    }

    /// Names of the API (ENCAPSULATION_VXLAN), or without the enum's own name and in any case (vxlan).
    fn enumeration(&mut self, value: &Yaml, descriptor: &EnumDescriptor) -> Option<Value> {
        let Yaml::String(text) = value else {
            self.problem(
                format!("is {}, a word is wanted", describe(value)),
                format!("write one of {}", words(descriptor).join(", ")),
            );
            return None;
        };
        let word = text.to_uppercase().replace('-', "_");
        let full = format!("{}{word}", enum_prefix(descriptor));
        let found = [word, full]
            .iter()
            .find_map(|name| descriptor.get_value_by_name(name));
        if found.is_none() {
            let words = words(descriptor);
            let help = match suggest::similar(text, words.iter().map(String::as_str)) {
                Some(similar) => format!("did you mean {similar:?}?"),
                None => format!("write one of {}", words.join(", ")),
            };
            self.problem(format!("is {text:?}, which is not known"), help);
        }
        found.map(|value| Value::EnumNumber(value.number()))
    }
}

/// What every value of an enum begins with in the API: the enum's name, by the rules of protobuf.
pub(super) fn enum_prefix(descriptor: &EnumDescriptor) -> String {
    let mut prefix = String::new();
    for letter in descriptor.name().chars() {
        if letter.is_uppercase() && !prefix.is_empty() {
            prefix.push('_');
        }
        prefix.push(letter.to_ascii_uppercase());
    }
    prefix + "_"
}

/// An enum's value as people write it: `mpls-over-udp`.
pub(super) fn word(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix)
        .unwrap_or(name)
        .to_lowercase()
        .replace('_', "-")
}

fn words(descriptor: &EnumDescriptor) -> Vec<String> {
    let prefix = enum_prefix(descriptor);
    descriptor
        .values()
        .filter(|value| value.number() != 0)
        .map(|value| word(value.name(), &prefix))
        .collect()
}

fn names(descriptor: &MessageDescriptor) -> Vec<String> {
    descriptor.fields().map(|field| field.name().to_owned()).collect()
}

fn example(field: &FieldDescriptor) -> String {
    match field.kind() {
        Kind::Message(inner) if inner.fields().len() == 0 => format!("write `{}: {{}}`", field.name()),
        Kind::Message(inner) => format!("write its fields: {}", names(&inner).join(", ")),
        _ => "give it a value, or leave it out".to_owned(),
    }
}

fn describe(value: &Yaml) -> String {
    match value {
        Yaml::Null => "empty".to_owned(),
        Yaml::Bool(truth) => truth.to_string(),
        Yaml::Number(number) => format!("the number {number}"),
        Yaml::String(text) => format!("the text {text:?}"),
        Yaml::Sequence(_) => "a list".to_owned(),
        Yaml::Mapping(_) => "a set of fields".to_owned(),
        Yaml::Tagged(tagged) => format!("tagged {}", tagged.tag),
    }
}
