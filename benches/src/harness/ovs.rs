//! OVS-DPDK as a peer: Debian's, with directories, a database and a network namespace of its own, so that it meets no
//! other switch of this host.
//!
//! Two bridges as its manual has them for tunnels: `br0` holds the tenants, `brp` the underlay with the address that
//! tunnels end at. Traffic comes by port 1 (a replay) and leaves by a device that drops everything.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use weft_packet::Mac;
use weft_tests::{host, namespace::Namespace, sys, within};

use super::{
    machine::{self, Machine},
    replay::{LOCAL, NEIGHBOUR, REMOTE, UPLINK},
};

const VSWITCHD: &str = "/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk";
const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";
const PATIENCE: Duration = Duration::from_secs(60);
/// MiB of hugepages: its pool has 262,144 buffers at most.
pub const MEMORY_MIB: u32 = 1024;
/// So many packets of a replay fit its pool.
pub const MOST_PACKETS: usize = 262_144 - 16_384;

/// Which bridge the replay comes in by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Tenants' frames.
    Tenants,
    /// Tunnelled ones.
    Underlay,
}

/// Its ports on `br0` by number: the replay, the tenant's sink, the tunnel.
pub mod port {
    /// The replay, on either bridge.
    pub const REPLAY: u32 = 1;
    /// A tenant's device that drops everything.
    pub const TENANT: u32 = 3;
    /// The VXLAN tunnel to [`REMOTE`](super::REMOTE).
    pub const TUNNEL: u32 = 4;
}

/// A guest on vhost-user that OVS connects to.
#[derive(Clone, Debug)]
pub struct Guest {
    /// The guest's socket.
    pub socket: PathBuf,
    /// What is behind it.
    pub subnet: String,
    /// The guest's address.
    pub mac: Mac,
}

/// A running OVS-DPDK.
pub struct Ovs {
    namespace: Namespace,
    directory: PathBuf,
    database: Child,
    switch: Child,
}

impl Ovs {
    /// Is it installed? `./dev bench` sees to that.
    pub fn is_installed() -> bool {
        Path::new(VSWITCHD).exists()
    }

    /// Starts it with an endless replay of the file.
    pub fn start(machine: &Machine, file: &Path, side: Side) -> Result<Self> {
        Self::launch(machine, |ovs| ovs.build(file, side))
    }

    /// Starts it as the router between two guests with these sockets, subnets and addresses: stateful, a hop.
    pub fn between(machine: &Machine, guests: &[Guest; 2]) -> Result<Self> {
        Self::launch(machine, |ovs| ovs.build_between(guests))
    }

    fn launch(machine: &Machine, build: impl FnOnce(&Self) -> Result<()>) -> Result<Self> {
        let directory = host::run_directory().join("ovs");
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory)?;
        let database = directory.join("conf.db");
        run(Command::new("ovsdb-tool")
            .arg("create")
            .arg(&database)
            .arg(SCHEMA))?;
        let namespace = Namespace::new("ovs");
        let log = File::create(directory.join("ovs.log"))?;
        let spawn = |command: &mut Command| {
            command
                .env("OVS_RUNDIR", &directory)
                .current_dir(&directory)
                .stdin(Stdio::null())
                .stdout(log.try_clone()?)
                .stderr(log.try_clone()?);
            sys::end_with_us(command)
                .spawn()
                .with_context(|| format!("{command:?}"))
        };
        let socket = directory.join("db.sock");
        let database = spawn(
            Command::new("ovsdb-server")
                .arg(format!("--remote=punix:{}", socket.display()))
                .arg(&database),
        )?;
        within(PATIENCE, || socket.exists().then_some(())).context("ovsdb-server does not start")?;
        let vsctl = |line: &str| vsctl(&directory, line);
        let (control, worker) = (machine.control_cpus(1)?[0], machine.worker_cpus(1)?[0]);
        vsctl("--no-wait init")?;
        vsctl(&format!(
            "--no-wait set Open_vSwitch . other_config:dpdk-init=true \
             other_config:dpdk-lcore-mask={:#x} other_config:pmd-cpu-mask={:#x} \
             other_config:dpdk-socket-mem={MEMORY_MIB}",
            1_u64 << control,
            1_u64 << worker,
        ))?;
        // Not split at the space.
        run(Command::new("ovs-vsctl")
            .arg(format!("--db=unix:{}", socket.display()))
            .args(["--no-wait", "set", "Open_vSwitch", "."])
            .arg("other_config:dpdk-extra=--no-pci --in-memory"))?;
        let control_socket = directory.join("switch.ctl");
        let switch = spawn(
            namespace
                .command("taskset")
                .args(["-c", &machine::list(&machine.cpus), VSWITCHD])
                .arg(format!("unix:{}", socket.display()))
                .arg(format!("--unixctl={}", control_socket.display())),
        )?;
        within(PATIENCE, || control_socket.exists().then_some(())).context("OVS does not start")?;
        let ovs = Ovs {
            namespace,
            directory,
            database,
            switch,
        };
        build(&ovs).with_context(|| {
            let log = fs::read_to_string(ovs.directory.join("ovs.log")).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            lines[lines.len().saturating_sub(12)..].join("\n")
        })?;
        Ok(ovs)
    }

    fn build(&self, file: &Path, side: Side) -> Result<()> {
        let vsctl = |line: &str| vsctl(&self.directory, line);
        let mac = |bytes: [u8; 6]| bytes.map(|byte| format!("{byte:02x}")).join(":");
        vsctl("add-br br0 -- set bridge br0 datapath_type=netdev")?;
        vsctl(&format!(
            "add-br brp -- set bridge brp datapath_type=netdev other-config:hwaddr={}",
            mac(UPLINK)
        ))?;
        let bridge = match side {
            Side::Tenants => "br0",
            Side::Underlay => "brp",
        };
        vsctl(&format!(
            "add-port {bridge} replay -- set Interface replay type=dpdk ofport_request={} \
             options:dpdk-devargs=eth_pcap0,rx_pcap={},infinite_rx=1",
            port::REPLAY,
            file.display()
        ))?;
        vsctl(&format!(
            "add-port br0 tunnel -- set Interface tunnel type=vxlan ofport_request={} \
             options:remote_ip={REMOTE} options:key=flow",
            port::TUNNEL
        ))?;
        self.namespace.run(&format!(
            "ip addr add {LOCAL}/24 dev brp; ip link set brp up; ip link set br0 up"
        ));
        self.appctl(&["tnl/arp/set", "brp", REMOTE, &mac(NEIGHBOUR)])?;
        self.appctl(&["dpctl/ct-set-maxconns", "3000000"])?;
        Ok(())
    }

    fn build_between(&self, guests: &[Guest; 2]) -> Result<()> {
        vsctl(
            &self.directory,
            "add-br br0 -- set bridge br0 datapath_type=netdev",
        )?;
        self.appctl(&["dpctl/ct-set-maxconns", "3000000"])?;
        self.ofctl(&["del-flows", "br0"])?;
        for (number, guest) in (1..).zip(guests) {
            vsctl(
                &self.directory,
                &format!(
                    "add-port br0 guest-{number} -- set Interface guest-{number} type=dpdkvhostuserclient \
                     ofport_request={number} options:vhost-server-path={}",
                    guest.socket.display()
                ),
            )?;
            self.ofctl(&[
                "add-flow",
                "br0",
                &format!(
                    "table=2,ip,nw_dst={},actions=dec_ttl,mod_dl_src={},mod_dl_dst={},output:{number}",
                    guest.subnet,
                    Mac::VIRTUAL_ROUTER,
                    guest.mac
                ),
            ])?;
        }
        for flow in [
            "table=0,ip,actions=ct(table=1,zone=1)",
            "table=1,ct_state=+new+trk,ip,actions=ct(commit,zone=1),goto_table:2",
            "table=1,ct_state=+est+trk,ip,actions=goto_table:2",
        ] {
            self.ofctl(&["add-flow", "br0", flow])?;
        }
        Ok(())
    }

    /// Sends by these flows of `br0` from now on, out of the tunnel or of the tenant's port.
    pub fn program(&self, out: u32, flows: &[String]) -> Result<()> {
        let (bridge, device) = if out == port::TENANT {
            ("br0", "tenant")
        } else {
            ("brp", "uplink")
        };
        for line in [
            "--if-exists del-port br0 tenant",
            "--if-exists del-port brp uplink",
        ] {
            vsctl(&self.directory, line)?;
        }
        let number = if out == port::TENANT { port::TENANT } else { 2 };
        vsctl(
            &self.directory,
            &format!(
                "add-port {bridge} {device} -- set Interface {device} type=dpdk ofport_request={number} \
                 options:dpdk-devargs=eth_null_{device},no-rx=1"
            ),
        )?;
        self.ofctl(&["del-flows", "br0"])?;
        for flow in flows {
            self.ofctl(&["add-flow", "br0", flow])?;
        }
        Ok(())
    }

    /// Runs for `settle`, then counts for `window`: cycles a packet of its worker, by its own counters.
    pub fn turn(&self, settle: Duration, window: Duration) -> Result<f64> {
        self.resume()?;
        std::thread::sleep(settle);
        self.appctl(&["dpif-netdev/pmd-stats-clear"])?;
        std::thread::sleep(window);
        let text = self.appctl(&["dpif-netdev/pmd-stats-show"])?;
        self.pause()?;
        cycles(&text).with_context(|| format!("no packets in\n{text}"))
    }

    /// Process id of the switch.
    pub fn process_id(&self) -> u32 {
        self.switch.id()
    }

    /// Packets that came in by the replay, and that left.
    pub fn packets(&self) -> Result<(u64, u64)> {
        let mut sum = (0, 0);
        for bridge in ["br0", "brp"] {
            let text = self.ofctl(&["--names", "dump-ports", bridge])?;
            let (received, sent) = device_packets(&text);
            sum = (sum.0 + received, sum.1 + sent);
        }
        Ok(sum)
    }

    /// Halts the switch, so that others can have its CPU.
    pub fn pause(&self) -> Result<()> {
        sys::signal(self.switch.id(), libc::SIGSTOP).context("halting OVS")
    }

    /// Lets it run on.
    pub fn resume(&self) -> Result<()> {
        sys::signal(self.switch.id(), libc::SIGCONT).context("waking OVS")
    }

    fn appctl(&self, words: &[&str]) -> Result<String> {
        run(Command::new("ovs-appctl")
            .arg("-t")
            .arg(self.directory.join("switch.ctl"))
            .args(words))
    }

    fn ofctl(&self, words: &[&str]) -> Result<String> {
        run(Command::new("ovs-ofctl")
            .env("OVS_RUNDIR", &self.directory)
            .args(words))
    }
}

impl Drop for Ovs {
    fn drop(&mut self) {
        for process in [&mut self.switch, &mut self.database] {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// `avg cycles per packet: 657.02 (12/34)` of the first thread, which is the one that polls.
fn cycles(text: &str) -> Option<f64> {
    let line = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("avg cycles per packet:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Sums of the DPDK devices in `ovs-ofctl dump-ports`: received by the replay, sent by the others.
fn device_packets(text: &str) -> (u64, u64) {
    let number = |line: &str| -> u64 {
        let rest = line.split("pkts=").nth(1).unwrap_or_default();
        rest.split(',')
            .next()
            .and_then(|count| count.parse().ok())
            .unwrap_or(0)
    };
    let (mut sum, mut name) = ((0, 0), String::new());
    for line in text.lines() {
        if let Some(rest) = line.trim().strip_prefix("port ") {
            name = rest
                .split(':')
                .next()
                .unwrap_or_default()
                .trim_matches([' ', '"'])
                .to_owned();
            if name == "replay" {
                sum.0 += number(line);
            }
        } else if line.trim().starts_with("tx") && matches!(name.as_str(), "tenant" | "uplink") {
            sum.1 += number(line);
        }
    }
    sum
}

fn vsctl(directory: &Path, line: &str) -> Result<String> {
    run(Command::new("ovs-vsctl")
        .arg(format!("--db=unix:{}", directory.join("db.sock").display()))
        .arg("--timeout=60")
        .args(line.split_whitespace()))
}

fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cycles_are_those_of_the_polling_thread() {
        let text = "pmd thread numa_id 0 core_id 1:\n  packets received: 12\n\
                    \x20 avg cycles per packet: 657.02 (7884/12)\n\
                    main thread:\n  avg cycles per packet: 9.00 (9/1)\n";
        assert_eq!(cycles(text), Some(657.02));
        assert_eq!(
            cycles("pmd thread numa_id 0 core_id 1:\n  packets received: 0\n"),
            None
        );
    }

    #[test]
    fn packets_are_counted_at_the_devices() {
        let text = "OFPST_PORT reply (xid=0x2): 3 ports\n\
                    \x20 port LOCAL: rx pkts=1, bytes=0, drop=0, errs=0, frame=0, over=0, crc=0\n\
                    \x20          tx pkts=2, bytes=0, drop=0, errs=0, coll=0\n\
                    \x20 port  replay: rx pkts=100, bytes=6400, drop=0, errs=0, frame=?, over=?, crc=?\n\
                    \x20          tx pkts=0, bytes=0, drop=0, errs=0, coll=?\n\
                    \x20 port  tenant: rx pkts=0, bytes=0, drop=0, errs=0, frame=?, over=?, crc=?\n\
                    \x20          tx pkts=99, bytes=0, drop=0, errs=0, coll=?\n";
        assert_eq!(device_packets(text), (100, 99));
    }
}
