//! From the writer's answers to the API's messages.

use tonic::Status;
use weft_proto::v1;

use crate::{
    model::{FieldError, Key, Name, Spec, error::At, text},
    reconciler::{Changed, Held, Outcome, State, Status as ObjectStatus},
    writer::{Unavailable, Verdict, View},
};

/// The owner of a request.
pub fn owner(owner: &str) -> Result<Name, Status> {
    text::name(&At::root("owner"), owner).map_err(|error| refused(&error))
}

/// A field of the request itself, not of one of its objects, is wrong.
pub fn refused(error: &FieldError) -> Status {
    Status::invalid_argument(format!("{error}\n  help: {}", error.help))
}

/// Nothing could be done.
pub fn unavailable(error: Unavailable) -> Status {
    match error {
        Unavailable::Fault => Status::internal(error.to_string()),
        _ => Status::unavailable(error.to_string()),
    }
}

pub fn object(key: &Key, held: &Held, status: &ObjectStatus) -> v1::Object {
    v1::Object {
        name: key.name.to_string(),
        owner: held.owner.to_string(),
        generation: held.generation,
        status: Some(v1::Status {
            state: state(status.state),
            message: status.message.clone(),
        }),
        spec: Some(held.spec.to_proto()),
    }
}

pub fn view(view: &View) -> v1::Object {
    object(&view.key, &view.held, &view.status)
}

fn state(state: State) -> i32 {
    v1::State::from(state) as i32
}

pub fn result(key: v1::Key, verdict: Verdict) -> v1::ObjectResult {
    let mut result = v1::ObjectResult {
        key: Some(key),
        ..Default::default()
    };
    let outcome = match verdict {
        Verdict::Refused(error) => {
            result.error = Some(error.into());
            v1::Outcome::Refused
        }
        Verdict::NotTried => v1::Outcome::NotTried,
        Verdict::Done {
            outcome,
            generation,
            state: now,
        } => {
            result.generation = generation;
            result.state = now.map(state).unwrap_or_default();
            match outcome {
                Outcome::Created => v1::Outcome::Created,
                Outcome::Changed => v1::Outcome::Changed,
                Outcome::Unchanged => v1::Outcome::Unchanged,
                Outcome::Deleted => v1::Outcome::Deleted,
            }
        }
    };
    result.outcome = outcome as i32;
    result
}

/// What a watcher is told of a change.
pub fn event(changed: &Changed) -> v1::WatchEvent {
    match &changed.now {
        Some((held, status)) => {
            let object = Some(object(&changed.key, held, status));
            v1::WatchEvent {
                r#type: v1::EventType::Put as i32,
                object,
            }
        }
        None => {
            let object = Some(gone(&changed.key));
            v1::WatchEvent {
                r#type: v1::EventType::Delete as i32,
                object,
            }
        }
    }
}

/// An object of which only kind and name are left: an empty spec tells the kind.
fn gone(key: &Key) -> v1::Object {
    use crate::model::Kind;
    use v1::object::Spec as Proto;
    let spec = match key.kind {
        Kind::Vrf => Proto::Vrf(Default::default()),
        Kind::Network => Proto::Network(Default::default()),
        Kind::Port => Proto::Port(Default::default()),
        Kind::Route => Proto::Route(Default::default()),
        Kind::NextHopGroup => Proto::NextHopGroup(Default::default()),
        Kind::TunnelEndpoint => Proto::TunnelEndpoint(Default::default()),
        Kind::Vni => Proto::Vni(Default::default()),
        Kind::Label => Proto::Label(Default::default()),
        Kind::Policy => Proto::Policy(Default::default()),
        Kind::FloatingIp => Proto::FloatingIp(Default::default()),
        Kind::NatPool => Proto::NatPool(Default::default()),
        Kind::AddressGroup => Proto::AddressGroup(Default::default()),
        Kind::Service => Proto::Service(Default::default()),
    };
    v1::Object {
        name: key.name.to_string(),
        spec: Some(spec),
        ..Default::default()
    }
}

/// The request's owner and the object's must be the same, if the object names one.
pub fn same_owner(owner: &Name, object: &v1::Object) -> Result<(), FieldError> {
    if object.owner.is_empty() || *object.owner == **owner {
        return Ok(());
    }
    let message = format!(
        "\"{}\" is given, but the request's owner is \"{owner}\"",
        object.owner
    );
    Err(FieldError::new(
        "owner",
        message,
        "leave the object's owner out, or send it as that owner",
    ))
}

/// An object of a request, checked.
pub fn parse(owner: &Name, object: &v1::Object) -> Result<crate::model::Object, FieldError> {
    same_owner(owner, object)?;
    crate::model::Object::from_proto(object)
}

/// A port of a request, checked.
pub fn parse_port(owner: &Name, object: Option<&v1::Object>) -> Result<crate::model::Object, FieldError> {
    let help = "fill in `port` with name and spec";
    let object = object.ok_or_else(|| FieldError::new("port", "is missing", help))?;
    let parsed = parse(owner, object)?;
    match parsed.spec {
        Spec::Port(_) => Ok(parsed),
        other => Err(FieldError::new(
            "port",
            format!("the object is a {}", other.kind()),
            help,
        )),
    }
}
