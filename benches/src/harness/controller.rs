//! A controller: what tells weftd its routes in the benchmarks, by `Sync` and by `Apply`.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tokio_stream::StreamExt;
use weft_proto::v1::{self, next_hop, object, sync_request::Message};

use super::daemon::Daemon;

/// Who owns what a controller describes.
pub const OWNER: &str = "controller";
/// Objects a message, where nothing else is asked for.
pub const MESSAGE: usize = 1000;

/// A route through a VXLAN tunnel to this endpoint, which must exist.
pub fn tunnel_route(name: String, vrf: &str, prefix: String, endpoint: &str, vni: u32) -> v1::Object {
    let tunnel = v1::TunnelNextHop {
        endpoint: endpoint.into(),
        vni,
        ..Default::default()
    };
    v1::Object {
        name,
        spec: Some(object::Spec::Route(v1::Route {
            vrf: vrf.into(),
            prefix,
            next_hop: Some(v1::NextHop {
                to: Some(next_hop::To::Tunnel(tunnel)),
            }),
        })),
        ..Default::default()
    }
}

/// A table of `count` routes of /24, from 16.0.0.0 on; a million are a sixteenth of the address space.
pub fn full_table(vrf: &str, count: u32, endpoint: &str, vni: u32) -> Vec<v1::Object> {
    (0..count)
        .map(|number| {
            let [a, b, c, d] = (0x1000_0000 + (number << 8)).to_be_bytes();
            tunnel_route(
                format!("t-{number}"),
                vrf,
                format!("{a}.{b}.{c}.{d}/24"),
                endpoint,
                vni,
            )
        })
        .collect()
}

/// Describes all these objects in one standing connection, so many a message, and waits until weftd has them in its data
/// plane. Returns how long that took; what the same owner described before and not now is gone then.
pub fn sync(daemon: &Daemon, objects: Vec<v1::Object>, a_message: usize) -> Result<Duration> {
    let count = objects.len();
    let message = |message| v1::SyncRequest {
        message: Some(message),
    };
    let mut requests = vec![message(Message::Hello(v1::SyncHello { owner: OWNER.into() }))];
    let mut objects = objects.into_iter();
    while objects.len() > 0 {
        let revision = requests.len() as u64;
        let objects: Vec<_> = objects.by_ref().take(a_message.max(1)).collect();
        requests.push(message(Message::Batch(v1::SyncBatch {
            revision,
            objects,
            deletes: Vec::new(),
        })));
    }
    let revision = requests.len() as u64;
    requests.push(message(Message::InSync(v1::InSync { revision })));
    let mut api = daemon.api();
    daemon.runtime().block_on(async move {
        let start = Instant::now();
        // Open until the answers are in: the end of the requests would end the connection.
        let requests = tokio_stream::iter(requests).chain(tokio_stream::pending());
        let mut answers = api.sync(requests).await?.into_inner();
        let mut acknowledged = 0;
        while let Some(answer) = answers.message().await? {
            if let Some(batch) = &answer.batch {
                ensure!(
                    batch.exceptions.is_empty(),
                    "weftd did not take it: {:?}",
                    batch.exceptions.first()
                );
                acknowledged += batch.count as usize;
            }
            if answer.in_sync {
                ensure!(
                    acknowledged == count,
                    "{acknowledged} of {count} objects were acknowledged"
                );
                ensure!(answer.effective, "a worker does not follow");
                return Ok(start.elapsed());
            }
        }
        bail!("weftd ended the connection after {acknowledged} of {count} objects");
    })
}

/// Applies one batch in the controller's name; returns how long it took until every worker followed.
pub fn apply(daemon: &Daemon, objects: Vec<v1::Object>) -> Result<Duration> {
    let start = Instant::now();
    let response = daemon.apply_for(OWNER, objects).context("Apply")?;
    ensure!(response.effective, "a worker does not follow");
    Ok(start.elapsed())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_full_table_has_as_many_different_routes_as_were_asked_for() {
        let table = full_table("red", 1_000_000, "far", 7);
        let prefixes: HashSet<&str> = table
            .iter()
            .filter_map(|object| match &object.spec {
                Some(object::Spec::Route(route)) => Some(route.prefix.as_str()),
                _ => None,
            })
            .collect();
        assert_eq!(prefixes.len(), 1_000_000);
        assert!(prefixes.contains("16.0.0.0/24") && prefixes.contains("31.66.63.0/24"));
    }
}
