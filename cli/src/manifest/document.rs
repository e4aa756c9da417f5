//! From one document to an object: `kind`, `name`, `owner` and `spec`; or an object as the API's JSON has it.

use prost_reflect::{DynamicMessage, MessageDescriptor, Value};
use serde_norway::Value as Yaml;
use weft_proto::v1;

use super::{Described, ManifestError, Place, convert::Reader, descriptor};
use crate::{
    kind::{KINDS, KindInfo},
    suggest,
};

/// What stands beside `spec`. What weftd sets itself is read over, so that what `-o yaml` printed can be applied.
const FIELDS: [&str; 6] = ["kind", "name", "owner", "spec", "generation", "status"];

/// Reads a document, which may hold several objects if it is a list or the API's answer to Get.
pub(super) fn read(place: &Place, document: &Yaml, errors: &mut Vec<ManifestError>) -> Vec<Described> {
    match document {
        Yaml::Null => Vec::new(),
        Yaml::Sequence(documents) => documents
            .iter()
            .flat_map(|item| read(place, item, errors))
            .collect(),
        Yaml::Mapping(mapping) => match mapping.get("objects") {
            Some(Yaml::Sequence(objects)) => objects
                .iter()
                .flat_map(|object| read(place, object, errors))
                .collect(),
            _ => read_one(place, document, errors).into_iter().collect(),
        },
        other => read_one(place, other, errors).into_iter().collect(),
    }
}

fn read_one(place: &Place, document: &Yaml, errors: &mut Vec<ManifestError>) -> Option<Described> {
    let mut reader = Reader::default();
    let (title, object) = match document.as_mapping() {
        Some(mapping) if mapping.contains_key("kind") => described_form(&mut reader, document),
        Some(mapping) if KINDS.iter().any(|info| api_field(mapping, info)) => api_form(&mut reader, document),
        Some(_) => {
            let titles: Vec<&str> = KINDS.iter().map(|info| info.title).collect();
            reader.problem("has no `kind:`", format!("write one of {}", titles.join(", ")));
            (String::new(), None)
        }
        None => {
            reader.mapping(document, &FIELDS.map(str::to_owned));
            (String::new(), None)
        }
    };
    let failed = !reader.problems.is_empty();
    errors.extend(reader.problems.into_iter().map(|problem| ManifestError::Field {
        place: place.clone(),
        object: title.clone(),
        problem,
    }));
    let object = object.filter(|_| !failed)?;
    Some(Described {
        place: place.clone(),
        object,
    })
}

/// True if the mapping is an object of the API with this kind's field.
fn api_field(mapping: &serde_norway::Mapping, info: &KindInfo) -> bool {
    mapping.contains_key(info.field) || camel_case(info.field).is_some_and(|name| mapping.contains_key(name))
}

fn camel_case(field: &str) -> Option<String> {
    let mut words = field.split('_');
    let first = words.next()?.to_owned();
    Some(words.fold(first, |name, word| {
        let (initial, rest) = word.split_at(1);
        name + &initial.to_uppercase() + rest
    }))
}

/// `kind`, `name` and `spec`.
fn described_form(reader: &mut Reader, document: &Yaml) -> (String, Option<v1::Object>) {
    let Some(mapping) = document.as_mapping() else {
        return (String::new(), None);
    };
    let text = |field: &str| mapping.get(field).and_then(Yaml::as_str);
    let Some(info) = text("kind").and_then(KindInfo::from_word) else {
        let given = text("kind").unwrap_or_default();
        let titles: Vec<&str> = KINDS.iter().map(|info| info.title).collect();
        let help = match suggest::similar(given, titles.iter().copied()) {
            Some(similar) => format!("did you mean {similar:?}?"),
            None => format!("write one of {}", titles.join(", ")),
        };
        reader.inside("kind".to_owned(), |reader| {
            reader.problem(format!("is {given:?}, which is not known"), help);
        });
        return (String::new(), None);
    };
    let title = match text("name") {
        Some(name) => format!("{} {name:?}: ", info.singular),
        None => format!("{}: ", info.singular),
    };
    for (key, _) in mapping {
        let Some(key) = reader.key(key) else { continue };
        if !FIELDS.contains(&key) {
            reader.inside(key.to_owned(), |reader| match key {
                "metadata" | "apiVersion" => {
                    reader.problem("there is no such field", "weft has none: name stands beside kind");
                }
                _ => reader.unknown(key, &FIELDS.map(str::to_owned)),
            });
        }
    }
    let name = required_text(reader, mapping, "name");
    let owner = if mapping.contains_key("owner") {
        required_text(reader, mapping, "owner")
    } else {
        None
    };
    let spec = descriptor("Object").and_then(|object| {
        let field = object.get_field_by_name(info.field)?;
        Some((object, field.kind().as_message()?.clone()))
    });
    let Some((object_descriptor, spec_descriptor)) = spec else {
        return (title, None);
    };
    let spec = mapping
        .get("spec")
        .cloned()
        .unwrap_or_else(|| Yaml::Mapping(Default::default()));
    let spec = if spec.is_null() {
        Yaml::Mapping(Default::default())
    } else {
        spec
    };
    let spec = reader.inside("spec".to_owned(), |reader| {
        reader.message(&spec, &spec_descriptor)
    });
    let mut message = DynamicMessage::new(object_descriptor);
    message.set_field_by_name(info.field, Value::Message(spec));
    let object = message
        .transcode_to::<v1::Object>()
        .ok()
        .map(|object| v1::Object {
            name: name.unwrap_or_default(),
            owner: owner.unwrap_or_default(),
            ..object
        });
    (title, object)
}

fn required_text(reader: &mut Reader, mapping: &serde_norway::Mapping, field: &str) -> Option<String> {
    let value = mapping.get(field);
    if let Some(Yaml::String(text)) = value
        && !text.is_empty()
    {
        return Some(text.clone());
    }
    reader.inside(field.to_owned(), |reader| match value {
        None => reader.problem("is missing", "every object has one, unique in its kind"),
        Some(Yaml::Number(number)) => reader.problem(
            format!("is the number {number}, text is wanted"),
            format!("put it in quotes: \"{number}\""),
        ),
        Some(_) => reader.problem("is no text", "write letters, digits and - . _ /"),
    });
    None
}

/// An object as `-o json` prints it, which is the API's own form.
fn api_form(reader: &mut Reader, document: &Yaml) -> (String, Option<v1::Object>) {
    let Some(object) = descriptor("Object") else {
        return (String::new(), None);
    };
    let message = read_api(reader, document, &object);
    let object = message.transcode_to::<v1::Object>().ok();
    let title = object
        .as_ref()
        .map_or(String::new(), |object| match KindInfo::of(object) {
            Some(info) => format!("{} {:?}: ", info.singular, object.name),
            None => format!("{:?}: ", object.name),
        });
    if object.as_ref().is_some_and(|object| object.name.is_empty()) {
        reader.inside("name".to_owned(), |reader| {
            reader.problem("is missing", "every object has one, unique in its kind");
        });
    }
    (
        title,
        object.map(|object| v1::Object {
            generation: 0,
            status: None,
            ..object
        }),
    )
}

/// What weftd sets itself is taken out first: a status is nothing to be refused for.
fn read_api(reader: &mut Reader, document: &Yaml, descriptor: &MessageDescriptor) -> DynamicMessage {
    let mut document = document.clone();
    if let Some(mapping) = document.as_mapping_mut() {
        mapping.remove("generation");
        mapping.remove("status");
    }
    reader.message(&document, descriptor)
}
