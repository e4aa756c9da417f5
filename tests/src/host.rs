//! A host of the underlay: a network namespace with its own weftd, spoken to by the real CLI.

use std::{
    collections::BTreeMap,
    fmt, fs,
    fs::File,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use serde_json::Value;

use crate::{eventually, namespace::Namespace, sys, within};

/// What `weftd.toml` says beside names and paths.
#[derive(Clone, Debug)]
pub struct Settings {
    /// CPUs of the workers.
    pub workers: Vec<u16>,
    /// Take memory from hugepages.
    pub hugepages: bool,
    /// Memory for DPDK, MiB.
    pub memory_mib: u32,
    /// Packet buffers.
    pub mbufs: u32,
    /// Sessions a family.
    pub sessions: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            workers: vec![1],
            hugepages: false,
            memory_mib: 128,
            mbufs: 8192,
            sessions: 16384,
        }
    }
}

/// Can a weftd have this much memory from hugepages of 2 MiB now?
pub fn hugepages_are_free(mib: u64) -> bool {
    let free =
        fs::read_to_string("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages").unwrap_or_default();
    free.trim().parse::<u64>().is_ok_and(|pages| 2 * pages >= mib)
}

/// What a program said.
#[derive(Debug)]
pub struct Reply {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub output: String,
    /// Its standard error.
    pub errors: String,
}

impl fmt::Display for Reply {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}\n{}{}", self.status, self.output, self.errors)
    }
}

/// A namespace with its weftd.
pub struct Host {
    /// The underlay side lives here.
    pub namespace: Namespace,
    /// Tells hosts of a run apart.
    pub name: String,
    directory: PathBuf,
    process: Option<Child>,
}

/// Directory of this run; unix sockets want short paths.
pub fn run_directory() -> PathBuf {
    let directory = PathBuf::from(format!("/run/weft-{}", run_number()));
    fs::create_dir_all(&directory).expect("a directory under /run");
    directory
}

/// Takes it away, unless the logs in it are wanted.
pub fn clear_run_directory() {
    if std::env::var_os("WEFT_KEEP_LOGS").is_none() {
        let _ = fs::remove_dir_all(run_directory());
    }
}

/// Tells runs apart: `./dev` gives its own process id, so that it can clean up.
pub fn run_number() -> String {
    std::env::var("WEFT_RUN").unwrap_or_else(|_| std::process::id().to_string())
}

/// Where weftd and weft are: beside this program.
pub fn program(name: &str) -> PathBuf {
    let path = std::env::current_exe()
        .expect("this program has a path")
        .with_file_name(name);
    assert!(path.exists(), "{} is missing: run `./dev test`", path.display());
    path
}

impl Host {
    /// Makes the namespace and the directory; weftd is started by [`Host::start`].
    pub fn new(name: &str, settings: &Settings) -> Self {
        let directory = run_directory().join(name);
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).expect("a directory for the host");
        let host = Host {
            namespace: Namespace::new(name),
            name: name.to_owned(),
            directory,
            process: None,
        };
        host.configure(settings);
        host
    }

    /// Writes weftd.toml.
    pub fn configure(&self, settings: &Settings) {
        let text = format!(
            "workers = {:?}\nno_huge = {}\nmemory_mib = {}\nmbufs = {}\nsessions = {}\n\
             file_prefix = \"weft-{}-{}\"\nstate_dir = {:?}\nsocket = {:?}\n",
            settings.workers,
            !settings.hugepages,
            settings.memory_mib,
            settings.mbufs,
            settings.sessions,
            run_number(),
            self.name,
            self.path("state"),
            self.socket(),
        );
        fs::write(self.path("weftd.toml"), text).expect("weftd.toml is written");
    }

    /// A path in the host's directory.
    pub fn path(&self, file: &str) -> PathBuf {
        self.directory.join(file)
    }

    /// Where weftd listens.
    pub fn socket(&self) -> PathBuf {
        self.path("weftd.sock")
    }

    /// Starts weftd and waits until it answers.
    pub fn start(&mut self) {
        assert!(self.process.is_none(), "weftd of {} runs already", self.name);
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.path("weftd.log"))
            .expect("a log file");
        let mut command = self.namespace.command(&program("weftd").display().to_string());
        command.arg("--config").arg(self.path("weftd.toml"));
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log);
        self.process = Some(sys::end_with_us(&mut command).spawn().expect("weftd starts"));
        let answers = within(Duration::from_secs(30), || {
            if !self.is_running() {
                return Some(false);
            }
            self.weft("get vrfs -o name").status.success().then_some(true)
        });
        assert!(
            answers == Some(true),
            "weftd of {} does not answer\n{}",
            self.name,
            self.log_tail()
        );
    }

    /// Starts a second program of weft with this host's configuration and waits for its end.
    pub fn weftd_that_fails(&self, configuration: &Path) -> Reply {
        let mut command = self.namespace.command(&program("weftd").display().to_string());
        reply(command.arg("--config").arg(configuration))
    }

    /// Is weftd alive?
    pub fn is_running(&mut self) -> bool {
        self.process
            .as_mut()
            .is_some_and(|process| matches!(process.try_wait(), Ok(None)))
    }

    /// weftd's process id.
    pub fn process_id(&self) -> u32 {
        self.process.as_ref().expect("weftd runs").id()
    }

    /// Ends weftd without a word of warning.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Asks weftd to end, and returns how it did.
    pub fn stop(&mut self) -> ExitStatus {
        let mut process = self.process.take().expect("weftd runs");
        sys::signal(process.id(), libc::SIGTERM).expect("weftd is there");
        eventually("weftd ends when asked to", || {
            process.try_wait().expect("weftd is our child")
        })
    }

    /// Runs `weft` with these arguments, split at spaces.
    pub fn weft(&self, arguments: &str) -> Reply {
        let mut command = Command::new(program("weft"));
        reply(
            command
                .arg("--socket")
                .arg(self.socket())
                .args(arguments.split_whitespace()),
        )
    }

    /// Starts `weft` with these arguments and leaves it to its work; what it prints is lost.
    pub fn begin(&self, arguments: &str) -> Child {
        let mut command = Command::new(program("weft"));
        command
            .arg("--socket")
            .arg(self.socket())
            .args(arguments.split_whitespace())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        sys::end_with_us(&mut command).spawn().expect("weft starts")
    }

    /// Runs `weft`, which must succeed, and returns its output.
    pub fn show(&self, arguments: &str) -> String {
        let reply = self.weft(arguments);
        assert!(
            reply.status.success(),
            "weft {arguments}: {reply}\n{}",
            self.log_tail()
        );
        reply.output
    }

    /// The same as JSON.
    pub fn json(&self, arguments: &str) -> Value {
        let text = self.show(&format!("{arguments} -o json"));
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("weft {arguments}: {error}\n{text}"))
    }

    /// Applies YAML, which must be accepted.
    pub fn apply(&self, yaml: &str) {
        let reply = self.try_apply(yaml);
        assert!(
            reply.status.success(),
            "weft apply: {reply}\n{yaml}\n{}",
            self.log_tail()
        );
    }

    /// Applies YAML.
    pub fn try_apply(&self, yaml: &str) -> Reply {
        let file = self.path("apply.yaml");
        fs::write(&file, yaml).expect("the YAML is written");
        self.weft(&format!("apply -f {}", file.display()))
    }

    /// Deletes an object, which must be there.
    pub fn delete(&self, kind: &str, name: &str) {
        self.show(&format!("delete {kind} {name}"));
    }

    /// Drops by reason, all ports together.
    pub fn drops(&self) -> BTreeMap<String, u64> {
        let drops = self.json("get drops");
        let rows = rows(&drops);
        rows.iter()
            .map(|row| (text(row, "reason"), number(row, "packets")))
            .collect()
    }

    /// Drops for one reason.
    pub fn dropped(&self, reason: &str) -> u64 {
        self.drops().get(reason).copied().unwrap_or(0)
    }

    /// Does something after which exactly `packets` more are counted under `reason`, and none under another.
    pub fn expect_drops<T>(&self, reason: &str, packets: u64, action: impl FnOnce() -> T) -> T {
        let before = self.drops();
        let result = action();
        let mut after = BTreeMap::new();
        let arrived = within(Duration::from_secs(5), || {
            after = self.drops();
            let grown = after.get(reason).unwrap_or(&0) - before.get(reason).unwrap_or(&0);
            (grown >= packets).then_some(())
        });
        let mut expected = before.clone();
        *expected.entry(reason.to_owned()).or_default() += packets;
        assert!(
            arrived.is_some() && after == expected,
            "drops: expected {packets} more of {reason}\nbefore {before:?}\nafter  {after:?}"
        );
        result
    }

    /// The packet balance: what came in, and what became of it.
    pub fn balance(&self) -> Balance {
        let value = self.json("get balance")["balance"].take();
        let field = |name: &str| number(&value, name);
        Balance {
            received: field("received"),
            created: field("created"),
            sent: field("sent"),
            delivered: field("delivered"),
            merged: field("merged"),
            dropped: field("dropped"),
            held: field("held"),
        }
    }

    /// The books must balance.
    pub fn check_balance(&self) {
        let balance = self.balance();
        assert!(
            balance.is_even(),
            "the books of {} do not balance: {balance:?}",
            self.name
        );
    }

    /// The last lines of weftd's log.
    pub fn log_tail(&self) -> String {
        let text = fs::read_to_string(self.path("weftd.log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        format!(
            "weftd of {} said last:\n{}",
            self.name,
            lines[lines.len().saturating_sub(20)..].join("\n")
        )
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.kill();
        if std::env::var_os("WEFT_KEEP_LOGS").is_none() {
            let _ = fs::remove_dir_all(&self.directory);
        }
    }
}

fn reply(command: &mut Command) -> Reply {
    let output = command
        .stdin(Stdio::null())
        .output()
        .expect("a program of weft starts");
    Reply {
        status: output.status,
        output: String::from_utf8_lossy(&output.stdout).into_owned(),
        errors: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Everything that came in equals everything that became of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Balance {
    pub received: u64,
    pub created: u64,
    pub sent: u64,
    pub delivered: u64,
    pub merged: u64,
    pub dropped: u64,
    pub held: u64,
}

impl Balance {
    /// Do the books balance?
    pub fn is_even(&self) -> bool {
        self.received + self.created == self.sent + self.delivered + self.merged + self.dropped + self.held
    }
}

/// The objects of a listing, whether it is a list or an object around one.
pub fn rows(value: &Value) -> Vec<Value> {
    match value {
        Value::Array(rows) => rows.clone(),
        Value::Object(fields) => fields
            .values()
            .find_map(Value::as_array)
            .cloned()
            .unwrap_or_else(|| vec![value.clone()]),
        _ => Vec::new(),
    }
}

/// A field that is text.
pub fn text(row: &Value, field: &str) -> String {
    row[field].as_str().unwrap_or_default().to_owned()
}

/// A field that is a number; JSON of protobuf writes 64 bits as text.
pub fn number(row: &Value, field: &str) -> u64 {
    match &row[field] {
        Value::String(text) => text.parse().unwrap_or(0),
        value => value.as_u64().unwrap_or(0),
    }
}

/// Makes a file readable and executable by its owner alone.
pub fn private(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).expect("permissions can be set");
}
