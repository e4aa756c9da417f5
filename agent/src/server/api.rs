//! The methods of `weft.v1`. What takes time is done by the writer or away from the async threads.

use std::{pin::Pin, sync::Arc};

use tokio::task::spawn_blocking;
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};
use weft_proto::v1::{self, weft_server::Weft};

use super::{
    Stop, convert, flows, stats,
    sync::{self, Controllers},
    watch, what_if,
};
use crate::{
    engine::Engine,
    model::{FieldError, Key, Kind, Name, Object, Spec, error::At, key_of, text},
    writer::{Answer, Batch, Filter, Verdict, Writer},
};

/// Flows in one message.
const FLOWS_PAGE: usize = 1000;

/// An answer that goes on.
pub type Stream_<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The service.
pub struct Api {
    writer: Writer,
    engine: Arc<dyn Engine>,
    controllers: Arc<Controllers>,
    stop: Stop,
}

impl Api {
    /// On this writer and data plane, until it is time to stop.
    pub fn new(writer: Writer, engine: Arc<dyn Engine>, stop: Stop) -> Self {
        Api {
            writer,
            engine,
            controllers: Arc::default(),
            stop,
        }
    }

    /// Calls the data plane where it may block.
    async fn engine<T: Send + 'static>(
        &self,
        call: impl FnOnce(&dyn Engine) -> T + Send + 'static,
    ) -> Result<T, Status> {
        let engine = self.engine.clone();
        spawn_blocking(move || call(&*engine)).await.map_err(fault)
    }

    async fn single(&self, batch: Batch) -> Result<(Verdict, Answer), Status> {
        let mut answer = self.writer.apply(batch).await.map_err(convert::unavailable)?;
        match answer.verdicts.pop() {
            Some(Verdict::Refused(error)) => Err(Status::failed_precondition(format!(
                "{error}\n  help: {}",
                error.help
            ))),
            Some(verdict) => Ok((verdict, answer)),
            None => Err(Status::internal("the writer gave no verdict")),
        }
    }

    async fn port(&self, name: Name) -> Result<(v1::Object, Option<weft_table::PortId>), Status> {
        match self
            .writer
            .port(name.clone())
            .await
            .map_err(convert::unavailable)?
        {
            Some((view, number)) => Ok((convert::view(&view), number)),
            None => Err(Status::not_found(format!("port \"{name}\" does not exist"))),
        }
    }
}

/// A task of weftd's ended in a panic.
fn fault(error: tokio::task::JoinError) -> Status {
    Status::internal(format!("a fault of weftd ended this request: {error}"))
}

fn filter_kind(kind: i32) -> Result<Option<Kind>, Status> {
    match kind {
        0 => Ok(None),
        number => Kind::from_number(number)
            .map(Some)
            .ok_or_else(|| Status::invalid_argument(format!("kind: kind {number} is unknown"))),
    }
}

fn optional_name(field: &'static str, text: &str) -> Result<Option<Name>, Status> {
    text::optional_name(&At::root(field), text).map_err(|error| convert::refused(&error))
}

#[tonic::async_trait]
impl Weft for Api {
    async fn apply(&self, request: Request<v1::ApplyRequest>) -> Result<Response<v1::ApplyResponse>, Status> {
        let request = request.into_inner();
        let owner = convert::owner(&request.owner)?;
        let (batch, keys) = spawn_blocking(move || parse_batch(owner, request))
            .await
            .map_err(fault)?;
        let answer = self.writer.apply(batch).await.map_err(convert::unavailable)?;
        let results = keys.into_iter().zip(answer.verdicts);
        Ok(Response::new(v1::ApplyResponse {
            results: results
                .map(|(key, verdict)| convert::result(key, verdict))
                .collect(),
            effective: answer.applied.effective,
            snapshot: answer.applied.snapshot,
        }))
    }

    async fn get(&self, request: Request<v1::GetRequest>) -> Result<Response<v1::GetResponse>, Status> {
        let request = request.into_inner();
        let filter = Filter {
            kind: filter_kind(request.kind)?,
            name: optional_name("name", &request.name)?,
            owner: optional_name("owner", &request.owner)?,
        };
        let (views, revisions) = self.writer.get(filter).await.map_err(convert::unavailable)?;
        let objects = spawn_blocking(move || views.iter().map(convert::view).collect())
            .await
            .map_err(fault)?;
        let revision = |(owner, revision): (Name, u64)| v1::OwnerRevision {
            owner: owner.to_string(),
            revision,
        };
        let owners = revisions.into_iter().map(revision).collect();
        Ok(Response::new(v1::GetResponse { objects, owners }))
    }

    type WatchStream = Stream_<v1::WatchEvent>;

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let request = request.into_inner();
        let kind = filter_kind(request.kind)?;
        let (existing, watcher) = self
            .writer
            .watch(kind, request.initial)
            .await
            .map_err(convert::unavailable)?;
        Ok(Response::new(watch::stream(existing, watcher, self.stop.clone())))
    }

    type SyncStream = Stream_<v1::SyncResponse>;

    async fn sync(
        &self,
        request: Request<Streaming<v1::SyncRequest>>,
    ) -> Result<Response<Self::SyncStream>, Status> {
        let requests = request.into_inner();
        let (writer, controllers, stop) = (self.writer.clone(), self.controllers.clone(), self.stop.clone());
        Ok(Response::new(sync::stream(requests, writer, controllers, stop)))
    }

    async fn plug_port(
        &self,
        request: Request<v1::PlugPortRequest>,
    ) -> Result<Response<v1::PlugPortResponse>, Status> {
        let request = request.into_inner();
        let owner = convert::owner(&request.owner)?;
        let port = convert::parse_port(&owner, request.port.as_ref()).map_err(|e| convert::refused(&e))?;
        let name = port.key.name.clone();
        let (_, answer) = self.single(Batch::of(owner, vec![Ok(port)], vec![])).await?;
        let (port, _) = self.port(name).await?;
        Ok(Response::new(v1::PlugPortResponse {
            port: Some(port),
            effective: answer.applied.effective,
        }))
    }

    async fn unplug_port(
        &self,
        request: Request<v1::UnplugPortRequest>,
    ) -> Result<Response<v1::UnplugPortResponse>, Status> {
        let request = request.into_inner();
        let owner = convert::owner(&request.owner)?;
        let name = text::name(&At::root("name"), &request.name).map_err(|e| convert::refused(&e))?;
        let key = Key {
            kind: Kind::Port,
            name,
        };
        let (_, answer) = self.single(Batch::of(owner, vec![], vec![Ok(key)])).await?;
        Ok(Response::new(v1::UnplugPortResponse {
            effective: answer.applied.effective,
        }))
    }

    async fn check_port(
        &self,
        request: Request<v1::CheckPortRequest>,
    ) -> Result<Response<v1::CheckPortResponse>, Status> {
        let name = request.into_inner().name;
        let name = text::name(&At::root("name"), &name).map_err(|error| convert::refused(&error))?;
        let (port, number) = self.port(name.clone()).await?;
        let state = match number {
            Some(number) => self.engine(move |engine| engine.port_state(number)).await?,
            None => None,
        };
        let state = state.map(|state| v1::PortState {
            name: name.to_string(),
            id: u32::from(state.port.0),
            link_up: state.link_up,
            device: state.device,
            queues: u32::from(state.queues),
            mac: state.mac.to_string(),
        });
        Ok(Response::new(v1::CheckPortResponse {
            port: Some(port),
            state,
        }))
    }

    type ListFlowsStream = Stream_<v1::ListFlowsResponse>;

    async fn list_flows(
        &self,
        request: Request<v1::ListFlowsRequest>,
    ) -> Result<Response<Self::ListFlowsStream>, Status> {
        let request = request.into_inner();
        let names = self.writer.names();
        let (filter, limit) = flows::filter(&request, &names).map_err(|error| convert::refused(&error))?;
        let flows = self.engine(move |engine| engine.flows(filter, limit)).await?;
        let (sender, receiver) = tokio::sync::mpsc::channel(4);
        tokio::spawn(async move {
            for page in flows.chunks(FLOWS_PAGE) {
                let flows = page.iter().map(|flow| flows::flow(flow, &names)).collect();
                if sender.send(Ok(v1::ListFlowsResponse { flows })).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver).fuse())))
    }

    async fn get_stats(
        &self,
        _: Request<v1::GetStatsRequest>,
    ) -> Result<Response<v1::GetStatsResponse>, Status> {
        let statistics = self.engine(|engine| engine.statistics()).await?;
        Ok(Response::new(stats::response(&statistics, &self.writer.names())))
    }

    async fn get_policy_stats(
        &self,
        request: Request<v1::GetPolicyStatsRequest>,
    ) -> Result<Response<v1::GetPolicyStatsResponse>, Status> {
        let name = optional_name("name", &request.into_inner().name)?;
        let policies = self
            .writer
            .policies(name.clone())
            .await
            .map_err(convert::unavailable)?;
        if let (Some(name), true) = (name, policies.rules.is_empty()) {
            return Err(Status::not_found(format!("policy \"{name}\" does not exist")));
        }
        let hits = self.engine(|engine| engine.policy_hits()).await?;
        Ok(Response::new(stats::policies(policies, &hits)))
    }

    async fn what_if(
        &self,
        request: Request<v1::WhatIfRequest>,
    ) -> Result<Response<v1::WhatIfResponse>, Status> {
        let request = request.into_inner();
        let names = self.writer.names();
        let from = what_if::from(&request, &names).map_err(|error| convert::refused(&error))?;
        let packet = what_if::packet(&request).map_err(|error| convert::refused(&error))?;
        let policies = self.writer.policies(None).await.map_err(convert::unavailable)?;
        let answer = self.engine(move |engine| engine.what_if(from, packet)).await?;
        let answer = answer.ok_or_else(|| convert::refused(&what_if::not_a_tenants(&request.from)))?;
        let filter = Filter {
            kind: Some(Kind::Policy),
            ..Filter::default()
        };
        let (objects, _) = self.writer.get(filter).await.map_err(convert::unavailable)?;
        let rule_name = |policy: &str, place: usize| {
            let held = objects.iter().find(|view| *view.key.name == *policy);
            let name = held.and_then(|view| match &view.held.spec {
                Spec::Policy(policy) => policy.rules.get(place)?.name.clone(),
                _ => None,
            });
            name.map(|name| name.to_string()).unwrap_or_default()
        };
        let policies = what_if::Policies {
            deciders: &policies.deciders,
            rule_name: &rule_name,
        };
        Ok(Response::new(what_if::response(&answer, &names, &policies)))
    }

    async fn get_nat_stats(
        &self,
        _request: Request<v1::GetNatStatsRequest>,
    ) -> Result<Response<v1::GetNatStatsResponse>, Status> {
        let all = self.engine(|engine| (engine.floating_ips(), engine.pools(), engine.services()));
        let (floating_ips, pools, services) = all.await?;
        let names = self.writer.names();
        Ok(Response::new(stats::nat(
            &floating_ips,
            &pools,
            &services,
            &names,
        )))
    }
}

/// The batch, and what its results will be about.
fn parse_batch(owner: Name, request: v1::ApplyRequest) -> (Batch, Vec<v1::Key>) {
    let keys = request
        .objects
        .iter()
        .map(key_of)
        .chain(request.deletes.iter().cloned())
        .collect();
    let puts: Vec<Result<Object, FieldError>> = request
        .objects
        .iter()
        .map(|object| convert::parse(&owner, object))
        .collect();
    let deletes = request.deletes.iter().map(Key::from_proto).collect();
    (
        Batch {
            owner,
            revision: request.revision,
            puts,
            deletes,
            dry_run: request.dry_run,
        },
        keys,
    )
}
