//! What a command is about: a kind of object, one object, or something that weftd counts.

use clap::builder::{PossibleValue, TypedValueParser, ValueParserFactory};

use crate::{
    kind::{KINDS, KindInfo},
    suggest,
};

/// What can be listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// Objects of a kind.
    Kind(&'static KindInfo),
    /// Objects of every kind.
    All,
    /// Who owns objects, and their last revisions.
    Owners,
    /// Sessions in the flow table.
    Flows,
    /// Packets dropped, by reason.
    Drops,
    /// Workers and what they did.
    Workers,
    /// What each stage of the packets' way cost.
    Stages,
    /// How full the tables are.
    Tables,
    /// Where every packet went.
    Balance,
    /// All counters at once.
    Counters,
}

const OTHERS: [(&str, Resource, &str); 9] = [
    ("all", Resource::All, "objects of every kind"),
    (
        "owners",
        Resource::Owners,
        "who owns objects, and the last revision of each",
    ),
    ("flows", Resource::Flows, "sessions in the flow table"),
    ("drops", Resource::Drops, "packets dropped, by reason"),
    ("workers", Resource::Workers, "workers and what they did"),
    (
        "stages",
        Resource::Stages,
        "what each stage of the packets' way cost",
    ),
    ("tables", Resource::Tables, "how full the tables are"),
    ("balance", Resource::Balance, "where every packet went"),
    ("counters", Resource::Counters, "all counters at once"),
];

/// A resource, and the name in `port/web-1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// What.
    pub resource: Resource,
    /// Which one; none: the names that follow, or all.
    pub name: Option<String>,
}

impl Target {
    fn from_word(word: &str) -> Option<Self> {
        // Names may hold slashes themselves; kinds do not.
        let (kind, name) = match word.split_once('/') {
            Some((kind, name)) if !name.is_empty() => (kind, Some(name.to_owned())),
            Some(_) => return None,
            None => (word, None),
        };
        let lower = kind.to_lowercase();
        let other = OTHERS
            .iter()
            .find(|(known, ..)| lower == *known || format!("{lower}s") == *known);
        let resource = match (KindInfo::from_word(kind), other) {
            (Some(info), _) => Resource::Kind(info),
            (None, Some((_, resource, _))) => *resource,
            (None, None) => return None,
        };
        Some(Self { resource, name })
    }
}

impl ValueParserFactory for Target {
    type Parser = TargetParser;

    fn value_parser() -> TargetParser {
        TargetParser
    }
}

/// Reads a [`Target`]; knows what shells complete.
#[derive(Clone, Debug)]
pub struct TargetParser;

impl TypedValueParser for TargetParser {
    type Value = Target;

    fn parse_ref(
        &self,
        command: &clap::Command,
        _argument: Option<&clap::Arg>,
        value: &std::ffi::OsStr,
    ) -> Result<Target, clap::Error> {
        let word = value.to_string_lossy();
        if let Some(target) = Target::from_word(&word) {
            return Ok(target);
        }
        let known = || {
            KINDS
                .iter()
                .flat_map(|info| {
                    [info.plural, info.singular]
                        .into_iter()
                        .chain(info.short.iter().copied())
                })
                .chain(OTHERS.iter().map(|(name, ..)| *name))
        };
        let kind = word.split('/').next().unwrap_or_default();
        let help = match suggest::similar(kind, known()) {
            Some(similar) => format!("did you mean {similar:?}?"),
            None => {
                let names: Vec<&str> = KINDS
                    .iter()
                    .map(|info| info.plural)
                    .chain(OTHERS.iter().map(|(name, ..)| *name))
                    .collect();
                format!("known are {}", names.join(", "))
            }
        };
        let mut command = command.clone();
        Err(command.error(
            clap::error::ErrorKind::InvalidValue,
            format!("{word:?} is not known here\n  help: {help}"),
        ))
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let kinds = KINDS
            .iter()
            .map(|info| PossibleValue::new(info.plural).alias(info.singular));
        let others = OTHERS
            .iter()
            .map(|(name, _, help)| PossibleValue::new(*name).help(*help));
        Some(Box::new(kinds.chain(others)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_kind_or_one_object() {
        let port = KindInfo::from_word("port").unwrap();
        assert_eq!(
            Target::from_word("po"),
            Some(Target {
                resource: Resource::Kind(port),
                name: None
            })
        );
        assert_eq!(
            Target::from_word("ports/a/b"),
            Some(Target {
                resource: Resource::Kind(port),
                name: Some("a/b".to_owned())
            })
        );
        assert_eq!(
            Target::from_word("drop").map(|target| target.resource),
            Some(Resource::Drops)
        );
        assert_eq!(Target::from_word("port/"), None);
        assert_eq!(Target::from_word("prots"), None);
    }
}
