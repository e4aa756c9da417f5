//! From an object to YAML, in the form that `apply` takes, and from any message of the API to its JSON.

use prost_reflect::{DynamicMessage, Kind, ReflectMessage, SerializeOptions, Value, prost::Message};
use serde_norway::{Mapping, Value as Yaml};
use weft_proto::v1;

use super::{convert, descriptor};
use crate::{error::CliError, kind::KindInfo};

/// An object as a YAML document (without the dashes).
pub fn to_yaml(object: &v1::Object) -> Result<String, CliError> {
    let value = yaml_value(object)?;
    serde_norway::to_string(&value).map_err(|error| CliError::Format(error.to_string()))
}

/// An object in the form that `apply` takes; `generation` and `status` besides, which it reads over.
pub fn yaml_value(object: &v1::Object) -> Result<Yaml, CliError> {
    let mut document = Mapping::new();
    let mut put = |key: &str, value: Yaml| document.insert(Yaml::String(key.to_owned()), value);
    let info = KindInfo::of(object);
    if let Some(info) = info {
        put("kind", Yaml::String(info.title.to_owned()));
    }
    put("name", Yaml::String(object.name.clone()));
    if !object.owner.is_empty() {
        put("owner", Yaml::String(object.owner.clone()));
    }
    if object.generation != 0 {
        put("generation", Yaml::Number(object.generation.into()));
    }
    let message = dynamic("Object", object)?;
    if let Some(info) = info
        && let Some(spec) = message.get_field_by_name(info.field)
    {
        put("spec", yaml_of(&spec, &Kind::Message(message.descriptor())));
    }
    if let Some(status) = message
        .get_field_by_name("status")
        .filter(|_| object.status.is_some())
    {
        put("status", yaml_of(&status, &Kind::Message(message.descriptor())));
    }
    Ok(Yaml::Mapping(document))
}

/// A message of the API as JSON with the API's names. Numbers stay numbers, also those of 64 bits.
pub fn to_json<M: Message>(
    name: &str,
    message: &M,
    with_defaults: bool,
) -> Result<serde_json::Value, CliError> {
    let options = SerializeOptions::new()
        .use_proto_field_name(true)
        .stringify_64_bit_integers(false)
        .skip_default_fields(!with_defaults);
    dynamic(name, message)?
        .serialize_with_options(serde_json::value::Serializer, &options)
        .map_err(|error| CliError::Format(error.to_string()))
}

fn dynamic<M: Message>(name: &str, message: &M) -> Result<DynamicMessage, CliError> {
    let descriptor =
        descriptor(name).ok_or_else(|| CliError::Format(format!("the API has no message {name}")))?;
    let mut dynamic = DynamicMessage::new(descriptor);
    dynamic
        .transcode_from(message)
        .map_err(|error| CliError::Format(error.to_string()))?;
    Ok(dynamic)
}

/// Fields with their default values are left out, as in the files that people write.
fn yaml_of(value: &Value, kind: &Kind) -> Yaml {
    match value {
        Value::Bool(truth) => Yaml::Bool(*truth),
        Value::U32(number) => Yaml::Number((*number).into()),
        Value::U64(number) => Yaml::Number((*number).into()),
        Value::I32(number) => Yaml::Number((*number).into()),
        Value::I64(number) => Yaml::Number((*number).into()),
        Value::F32(number) => Yaml::Number(f64::from(*number).into()),
        Value::F64(number) => Yaml::Number((*number).into()),
        Value::String(text) => Yaml::String(text.clone()),
        Value::Bytes(bytes) => Yaml::String(bytes.iter().map(|byte| format!("{byte:02x}")).collect()),
        Value::EnumNumber(number) => match kind {
            Kind::Enum(descriptor) => match descriptor.get_value(*number) {
                Some(value) => Yaml::String(convert::word(value.name(), &convert::enum_prefix(descriptor))),
                None => Yaml::Number((*number).into()),
            },
            _ => Yaml::Number((*number).into()),
        },
        Value::Message(message) => Yaml::Mapping(
            message
                .fields()
                .map(|(field, value)| {
                    (
                        Yaml::String(field.name().to_owned()),
                        yaml_of(value, &field.kind()),
                    )
                })
                .collect(),
        ),
        Value::List(items) => Yaml::Sequence(items.iter().map(|item| yaml_of(item, kind)).collect()),
        // The API has no maps; were one to come, its keys would be text.
        Value::Map(entries) => Yaml::Mapping(
            entries
                .iter()
                .map(|(key, value)| (Yaml::String(format!("{key:?}")), yaml_of(value, kind)))
                .collect(),
        ),
    }
}
