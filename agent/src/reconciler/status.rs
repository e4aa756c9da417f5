//! Where an object stands, and why.

use weft_proto::v1;

use super::{
    NodeId,
    graph::{Graph, Identity, Node},
    output::{endpoint_of, header},
};
use crate::model::{Device, NextHop, Spec};

/// Where an object stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum State {
    Pending,
    Active,
    Failed,
}

impl From<State> for v1::State {
    fn from(state: State) -> Self {
        match state {
            State::Pending => v1::State::Pending,
            State::Active => v1::State::Active,
            State::Failed => v1::State::Failed,
        }
    }
}

/// Where an object stands, and why it is not (wholly) in the data plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// In short.
    pub state: State,
    /// Empty: all is well.
    pub message: String,
}

/// The state of an object's node.
pub fn state_of(node: &Node) -> State {
    match (&node.failed, node.active) {
        (Some(_), _) => State::Failed,
        (None, true) => State::Active,
        (None, false) => State::Pending,
    }
}

/// The status of an object's node.
pub fn of(graph: &Graph, id: NodeId) -> Status {
    let node = &graph[id];
    if let Some(failed) = &node.failed {
        return Status {
            state: State::Failed,
            message: failed.to_string(),
        };
    }
    let missing = |soft: bool| {
        let needs = node
            .needs
            .iter()
            .filter(|need| need.soft == soft && !graph[need.node].active);
        let mut reasons: Vec<String> = needs
            .map(|need| match graph[need.node].identity {
                Identity::PolicySet(_) => {
                    format!("no session is allowed: {}", reason(graph, need.node))
                }
                _ => reason(graph, need.node),
            })
            .collect();
        reasons.sort();
        reasons.dedup();
        reasons.join("; ")
    };
    if node.active {
        let left_out = missing(true);
        let message = if left_out.is_empty() {
            left_out
        } else {
            format!("in part: {left_out}")
        };
        return Status {
            state: State::Active,
            message,
        };
    }
    let mut message = missing(false);
    if message.is_empty() {
        message = own_reason(graph, node).unwrap_or_else(|| missing(true));
    }
    Status {
        state: State::Pending,
        message,
    }
}

/// Why a node that another one needs is not active.
fn reason(graph: &Graph, id: NodeId) -> String {
    let node = &graph[id];
    match (&node.identity, &node.failed) {
        (Identity::Object(key), Some(failed)) => format!("{key} has failed: {failed}"),
        (Identity::Object(key), None) if node.held.is_none() => {
            format!("waits for {key}, which does not exist")
        }
        (Identity::Object(key), None) => format!("waits for {key}, which is pending"),
        (_, Some(failed)) => failed.to_string(),
        // A next hop is nothing that an owner knows: say what it waits for.
        (_, None) => match node.needs.iter().find(|need| !graph[need.node].active) {
            Some(need) => reason(graph, need.node),
            None => own_reason(graph, node).unwrap_or_else(|| "waits for its next hop".into()),
        },
    }
}

/// Why a node is not active although all that it needs is.
fn own_reason(graph: &Graph, node: &Node) -> Option<String> {
    match (&node.identity, node.spec()) {
        (Identity::Hop(hop), _) => {
            let NextHop::Tunnel {
                endpoint, identifier, ..
            } = &**hop
            else {
                return None;
            };
            let encapsulation = endpoint_of(graph, node)?.encapsulation;
            header(encapsulation, identifier).is_none().then(|| {
                format!("tunnel endpoint \"{endpoint}\" is {encapsulation}, which the next hop does not suit")
            })
        }
        (_, Some(Spec::FloatingIp(floating))) => {
            let port = graph[node.needs.get(1)?.node].port()?;
            floating.misfit(port).map(|misfit| misfit.message)
        }
        (_, Some(Spec::Port(port))) => match &port.device {
            Device::Vlan { parent, .. } => Some(format!(
                "port \"{parent}\" is itself a VLAN sub-interface and has none"
            )),
            _ => None,
        },
        _ => None,
    }
}
