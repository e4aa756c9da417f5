//! Network namespaces: hosts, containers and the wires between them.

use std::{
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
};

use crate::{host::run_number, sys, wire::Wire};

/// A network namespace under /run/netns, removed when dropped.
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes one. Its name carries the process id, so that runs do not meet.
    pub fn new(role: &str) -> Self {
        let name = format!("weft-{}-{role}", run_number());
        run(&format!("ip netns add {name}"));
        let namespace = Namespace { name };
        namespace.run("ip link set lo up");
        namespace
    }

    /// One in which the kernel answers nothing by itself: what leaves it is what the test sends.
    pub fn silent(role: &str) -> Self {
        let namespace = Namespace::new(role);
        namespace.run("sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1");
        namespace
    }

    /// Its name under /run/netns.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its file.
    pub fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.name)
    }

    /// Runs a shell line in it; the test fails if the line does.
    pub fn run(&self, line: &str) -> String {
        checked(line, &self.try_run(line))
    }

    /// Runs a shell line in it.
    pub fn try_run(&self, line: &str) -> Output {
        self.command("sh")
            .args(["-c", line])
            .output()
            .expect("ip netns exec starts")
    }

    /// A program that will run in it.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// A command that runs in it until it ends or is dropped.
    pub fn background(&self, line: &str) -> Background {
        let mut words = line.split_whitespace();
        let mut command = self.command(words.next().unwrap_or_default());
        command
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = sys::end_with_us(&mut command).spawn();
        Background(child.unwrap_or_else(|error| panic!("{line}: {error}")))
    }

    /// Sends and receives raw frames on one of its interfaces.
    pub fn wire(&self, interface: &str) -> Wire {
        let (path, name) = (self.path(), interface.to_owned());
        let open =
            move || sys::in_namespace(&path, || sys::PacketSocket::open(&name)).and_then(|socket| socket);
        let wire = Wire::new(format!("{interface} in {}", self.name), Box::new(open));
        wire.unwrap_or_else(|error| panic!("{interface} in {}: {error}", self.name))
    }

    /// Joins two namespaces by a pair of interfaces with these MACs. Checksums are finished before frames cross.
    pub fn join(&self, near: &str, near_mac: &str, other: &Namespace, far: &str, far_mac: &str) {
        run(&format!(
            "ip link add {near} netns {} address {near_mac} mtu 9200 type veth \
             peer name {far} netns {} address {far_mac} mtu 9200",
            self.name, other.name
        ));
        for (namespace, interface) in [(self, near), (other, far)] {
            namespace.run(&format!(
                "ethtool -K {interface} tx off rx off tso off gso off >/dev/null"
            ));
            namespace.run(&format!("ip link set {interface} up"));
        }
    }
}

/// A command that ends with the scenario, however that ends.
pub struct Background(Child);

impl Background {
    /// Waits for its end; did it do what it should?
    pub fn succeeds(&mut self) -> bool {
        self.0.wait().is_ok_and(|status| status.success())
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Best effort: `./dev` removes what a killed run left.
        let _ = Command::new("ip").args(["netns", "del", &self.name]).output();
    }
}

/// Runs a shell line on the host; the test fails if the line does.
pub fn run(line: &str) -> String {
    checked(
        line,
        &Command::new("sh").args(["-c", line]).output().expect("sh starts"),
    )
}

fn checked(line: &str, output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "`{line}` ended with {}\n{text}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    text
}
