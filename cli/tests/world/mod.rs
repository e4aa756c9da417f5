//! A weftd of canned answers on a socket of its own, and `weft` run against it with everything it prints kept.

#![allow(dead_code, missing_docs)]

pub mod objects;

use std::{
    collections::VecDeque,
    path::PathBuf,
    sync::{Arc, Mutex},
    thread,
};

use hugepage_setup::Host;
use tokio::{net::UnixListener, sync::oneshot};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status, transport::Server};
use weft_cli::{ExitCode, Terminal};
use weft_proto::v1::{
    self,
    weft_server::{Weft, WeftServer},
};

/// What the made-up weftd answers, and what it was asked.
#[derive(Default)]
pub struct Answers {
    pub objects: Vec<v1::Object>,
    pub owners: Vec<v1::OwnerRevision>,
    /// A worker does not come round: what is plugged and unplugged is not yet effective.
    pub slow: bool,
    /// One after the other; the last one stays.
    pub stats: VecDeque<v1::GetStatsResponse>,
    pub states: Vec<v1::PortState>,
    pub policies: Vec<v1::PolicyStats>,
    pub floating_ips: Vec<v1::FloatingIpStats>,
    pub nat_pools: Vec<v1::NatPoolStats>,
    pub services: Vec<v1::ServiceStats>,
    pub what_if: v1::WhatIfResponse,
    pub flows: Vec<Vec<v1::Flow>>,
    pub events: Vec<v1::WatchEvent>,
    /// None: every object is created and active.
    pub apply: Option<v1::ApplyResponse>,
    /// Every call fails with this.
    pub failure: Option<Status>,
    /// Calls after that many looks at the counters fail.
    pub looks_before_failure: Option<usize>,
    /// No call is ever answered.
    pub silent: bool,
    pub applied: Vec<v1::ApplyRequest>,
    pub listed: Vec<v1::ListFlowsRequest>,
    pub supposed: Vec<v1::WhatIfRequest>,
    pub watched: Vec<v1::WatchRequest>,
    pub plugged: Vec<v1::PlugPortRequest>,
    pub unplugged: Vec<v1::UnplugPortRequest>,
}

#[derive(Clone)]
struct MadeUpWeftd(Arc<Mutex<Answers>>);

type Stream<T> = tokio_stream::Iter<std::vec::IntoIter<Result<T, Status>>>;

fn stream<T>(items: Vec<T>) -> Stream<T> {
    tokio_stream::iter(items.into_iter().map(Ok).collect::<Vec<_>>())
}

impl MadeUpWeftd {
    async fn answers<T>(
        &self,
        answer: impl FnOnce(&mut Answers) -> Result<T, Status>,
    ) -> Result<Response<T>, Status> {
        let silent = self.0.lock().unwrap().silent;
        if silent {
            std::future::pending::<()>().await;
        }
        let mut answers = self.0.lock().unwrap();
        match answers.failure.clone() {
            Some(failure) => Err(failure),
            None => answer(&mut answers).map(Response::new),
        }
    }
}

fn key_of(object: &v1::Object) -> v1::Key {
    let kind = weft_cli::kind::KindInfo::of(object).map_or(v1::Kind::Unspecified, |info| info.kind);
    v1::Key {
        kind: kind.into(),
        name: object.name.clone(),
    }
}

#[tonic::async_trait]
impl Weft for MadeUpWeftd {
    type WatchStream = Stream<v1::WatchEvent>;
    type SyncStream = Stream<v1::SyncResponse>;
    type ListFlowsStream = Stream<v1::ListFlowsResponse>;

    async fn apply(&self, request: Request<v1::ApplyRequest>) -> Result<Response<v1::ApplyResponse>, Status> {
        let request = request.into_inner();
        self.answers(|answers| {
            answers.applied.push(request.clone());
            let result = |key, outcome: v1::Outcome| v1::ObjectResult {
                key: Some(key),
                outcome: outcome.into(),
                state: v1::State::Active.into(),
                generation: 1,
                error: None,
            };
            let created = request
                .objects
                .iter()
                .map(|object| result(key_of(object), v1::Outcome::Created));
            let deleted = request
                .deletes
                .iter()
                .map(|key| result(key.clone(), v1::Outcome::Deleted));
            Ok(answers.apply.clone().unwrap_or_else(|| v1::ApplyResponse {
                results: created.chain(deleted).collect(),
                effective: true,
                snapshot: 7,
            }))
        })
        .await
    }

    async fn get(&self, request: Request<v1::GetRequest>) -> Result<Response<v1::GetResponse>, Status> {
        let request = request.into_inner();
        self.answers(|answers| {
            let fits = |object: &&v1::Object| {
                (request.kind == 0 || key_of(object).kind == request.kind)
                    && (request.name.is_empty() || object.name == request.name)
                    && (request.owner.is_empty() || object.owner == request.owner)
            };
            Ok(v1::GetResponse {
                owners: answers.owners.clone(),
                objects: answers.objects.iter().filter(fits).cloned().collect(),
            })
        })
        .await
    }

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let request = request.into_inner();
        self.answers(|answers| {
            answers.watched.push(request);
            Ok(stream(answers.events.clone()))
        })
        .await
    }

    async fn sync(
        &self,
        _request: Request<tonic::Streaming<v1::SyncRequest>>,
    ) -> Result<Response<Self::SyncStream>, Status> {
        Err(Status::unimplemented("weft does not sync"))
    }

    async fn plug_port(
        &self,
        request: Request<v1::PlugPortRequest>,
    ) -> Result<Response<v1::PlugPortResponse>, Status> {
        let request = request.into_inner();
        self.answers(|answers| {
            answers.plugged.push(request.clone());
            let status = Some(v1::Status {
                state: v1::State::Active.into(),
                message: String::new(),
            });
            Ok(v1::PlugPortResponse {
                effective: !answers.slow,
                port: request.port.map(|port| v1::Object { status, ..port }),
            })
        })
        .await
    }

    async fn unplug_port(
        &self,
        request: Request<v1::UnplugPortRequest>,
    ) -> Result<Response<v1::UnplugPortResponse>, Status> {
        let request = request.into_inner();
        self.answers(|answers| {
            answers.unplugged.push(request.clone());
            match answers.objects.iter().any(|object| object.name == request.name) {
                true => Ok(v1::UnplugPortResponse {
                    effective: !answers.slow,
                }),
                false => Err(Status::not_found(format!(
                    "port {:?} does not exist",
                    request.name
                ))),
            }
        })
        .await
    }

    async fn check_port(
        &self,
        request: Request<v1::CheckPortRequest>,
    ) -> Result<Response<v1::CheckPortResponse>, Status> {
        let name = request.into_inner().name;
        self.answers(|answers| {
            let port = answers.objects.iter().find(|object| object.name == name).cloned();
            let state = answers.states.iter().find(|state| state.name == name).cloned();
            if port.is_none() {
                return Err(Status::not_found(format!("port {name:?} does not exist")));
            }
            Ok(v1::CheckPortResponse { port, state })
        })
        .await
    }

    async fn list_flows(
        &self,
        request: Request<v1::ListFlowsRequest>,
    ) -> Result<Response<Self::ListFlowsStream>, Status> {
        let request = request.into_inner();
        self.answers(|answers| {
            answers.listed.push(request);
            Ok(stream(
                answers
                    .flows
                    .iter()
                    .cloned()
                    .map(|flows| v1::ListFlowsResponse { flows })
                    .collect(),
            ))
        })
        .await
    }

    async fn get_stats(
        &self,
        _request: Request<v1::GetStatsRequest>,
    ) -> Result<Response<v1::GetStatsResponse>, Status> {
        self.answers(|answers| {
            if let Some(left) = &mut answers.looks_before_failure {
                match left.checked_sub(1) {
                    Some(less) => *left = less,
                    None => return Err(Status::unavailable("the counters are gone")),
                }
            }
            match answers.stats.len() {
                0 => Ok(v1::GetStatsResponse::default()),
                1 => Ok(answers.stats[0].clone()),
                _ => Ok(answers.stats.pop_front().unwrap()),
            }
        })
        .await
    }

    async fn get_policy_stats(
        &self,
        request: Request<v1::GetPolicyStatsRequest>,
    ) -> Result<Response<v1::GetPolicyStatsResponse>, Status> {
        let name = request.into_inner().name;
        self.answers(|answers| {
            let fits = |stats: &&v1::PolicyStats| name.is_empty() || stats.name == name;
            Ok(v1::GetPolicyStatsResponse {
                policies: answers.policies.iter().filter(fits).cloned().collect(),
            })
        })
        .await
    }

    async fn what_if(
        &self,
        request: Request<v1::WhatIfRequest>,
    ) -> Result<Response<v1::WhatIfResponse>, Status> {
        let request = request.into_inner();
        self.answers(|answers| {
            answers.supposed.push(request);
            Ok(answers.what_if.clone())
        })
        .await
    }

    async fn get_nat_stats(
        &self,
        _request: Request<v1::GetNatStatsRequest>,
    ) -> Result<Response<v1::GetNatStatsResponse>, Status> {
        self.answers(|answers| {
            Ok(v1::GetNatStatsResponse {
                floating_ips: answers.floating_ips.clone(),
                nat_pools: answers.nat_pools.clone(),
                services: answers.services.clone(),
            })
        })
        .await
    }
}

/// A made-up weftd, a made-up host and a directory for files.
pub struct World {
    pub answers: Arc<Mutex<Answers>>,
    pub directory: tempfile::TempDir,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl World {
    /// One where weftd answers.
    pub fn new(answers: Answers) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let answers = Arc::new(Mutex::new(answers));
        let weftd = MadeUpWeftd(answers.clone());
        let socket = directory.path().join("weft.sock");
        let (stop, stopped) = oneshot::channel::<()>();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let listener = UnixListenerStream::new(UnixListener::bind(socket).unwrap());
                ready.send(()).unwrap();
                let server = Server::builder().add_service(WeftServer::new(weftd));
                tokio::select! {
                    served = server.serve_with_incoming(listener) => served.unwrap(),
                    _ = stopped => {}
                }
            });
        });
        is_ready.recv().unwrap();
        Self {
            answers,
            directory,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// One without weftd.
    pub fn without_weftd() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self {
            answers: Arc::default(),
            directory,
            stop: None,
            thread: None,
        }
    }

    /// The host of the examples: two tenants, with everything that can be set up.
    pub fn example() -> Self {
        Self::new(objects::example())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn file(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub fn change(&self, change: impl FnOnce(&mut Answers)) -> &Self {
        change(&mut self.answers.lock().unwrap());
        self
    }

    /// What a shell would show: output, errors and exit code. `DIR/` stands for the world's directory.
    pub fn run(&self, words: &str) -> String {
        self.run_with(words, "", false).0
    }

    /// The same with standard input and colour; tells the exit code as well.
    pub fn run_with(&self, words: &str, input: &str, colour: bool) -> (String, ExitCode) {
        let directory = self.directory.path().display().to_string();
        let (output, errors, code) = self.raw(words, input, colour);
        let mut text = format!("$ weft {words}\n{output}{errors}");
        if code != ExitCode::Success {
            text += &format!("[exit code {}]\n", code as u8);
        }
        (text.replace(&directory, "DIR"), code)
    }

    /// Output and errors apart.
    pub fn raw(&self, words: &str, input: &str, colour: bool) -> (String, String, ExitCode) {
        let (mut output, mut errors) = (Vec::new(), Vec::new());
        let code = self.run_to(words, input, colour, &mut output, &mut errors);
        (
            String::from_utf8(output).unwrap(),
            String::from_utf8(errors).unwrap(),
            code,
        )
    }

    /// With writers of the test's own.
    pub fn run_to(
        &self,
        words: &str,
        input: &str,
        colour: bool,
        output: &mut dyn std::io::Write,
        errors: &mut dyn std::io::Write,
    ) -> ExitCode {
        let directory = self.directory.path().display().to_string();
        let words = words.replace("DIR", &directory);
        let socket = format!("unix://{directory}/weft.sock");
        let mut all = vec!["weft".to_owned()];
        if !words.contains("--socket") {
            all.extend(["--socket".to_owned(), socket]);
        }
        all.extend(words.split_whitespace().map(str::to_owned));
        let mut input = input.as_bytes();
        let mut terminal = Terminal {
            input: &mut input,
            output,
            errors,
            is_terminal: colour,
            colour,
            rows: Some(24),
        };
        weft_cli::run(all, &Host::at(&self.path("host")), &mut terminal)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || thread::panicking(), "the made-up weftd panicked");
        }
    }
}
