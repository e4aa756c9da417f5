//! Containers: network namespaces behind a tap, with the Linux stack or with the test itself inside.

use std::time::Duration;

use serde_json::Value;

use crate::{
    eventually,
    guest::received_pings,
    host::Host,
    namespace::{Background, Namespace},
    wire::Wire,
    within,
};

impl Host {
    /// A raw interface of a port behind a tap that lives in `guests`: the test is the container.
    pub fn raw_tap(&self, guests: &Namespace, port: &TapPort) -> Wire {
        self.apply(&port.yaml(guests));
        port.up(guests);
        guests.wire(&port.interface)
    }

    /// A container with a network stack of its own.
    pub fn container(&self, port: &TapPort, gateways: &[&str]) -> Container {
        let namespace = Namespace::new(&format!("{}-{}", self.name, port.interface));
        self.apply(&port.yaml(&namespace));
        let container = Container {
            namespace,
            port: port.clone(),
            gateways: gateways.iter().map(|text| (*text).to_owned()).collect(),
        };
        container.configure();
        container
    }
}

/// A port whose device is a tap.
#[derive(Clone, Debug)]
pub struct TapPort {
    /// Object name.
    pub name: String,
    /// Linux interface.
    pub interface: String,
    /// Tenant.
    pub vrf: String,
    /// Of the container.
    pub mac: String,
    /// Without prefix length.
    pub addresses: Vec<String>,
    /// 0: the default.
    pub mtu: u32,
    /// More of the specification, as YAML in braces' style ("trunk: [...]").
    pub more: String,
}

impl TapPort {
    /// A port named `vrf/interface`.
    pub fn new(vrf: &str, interface: &str, mac: &str, addresses: &[&str]) -> Self {
        TapPort {
            name: format!("{vrf}-{interface}"),
            interface: interface.to_owned(),
            vrf: vrf.to_owned(),
            mac: mac.to_owned(),
            addresses: addresses.iter().map(|text| (*text).to_owned()).collect(),
            mtu: 0,
            more: String::new(),
        }
    }

    /// The object.
    pub fn yaml(&self, namespace: &Namespace) -> String {
        let more = if self.more.is_empty() {
            String::new()
        } else {
            format!(", {}", self.more)
        };
        format!(
            "kind: Port\nname: {}\nspec: {{tap: {{interface: {}, netns: {}}}, vrf: {}, mac: \"{}\", \
             addresses: [{}], mtu: {}{more}}}\n",
            self.name,
            self.interface,
            namespace.name(),
            self.vrf,
            self.mac,
            quoted(&self.addresses),
            self.mtu,
        )
    }

    fn up(&self, namespace: &Namespace) {
        namespace.run(&format!("ip link set {} up", self.interface));
    }
}

/// `"a", "b"`.
pub fn quoted(words: &[String]) -> String {
    words
        .iter()
        .map(|word| format!("\"{word}\""))
        .collect::<Vec<_>>()
        .join(", ")
}

/// A network namespace with the Linux stack behind a tap.
pub struct Container {
    /// Where it lives.
    pub namespace: Namespace,
    /// How weft sees it.
    pub port: TapPort,
    gateways: Vec<String>,
}

impl Container {
    /// Gives the interface its addresses and routes; once more after weftd made the tap anew.
    pub fn configure(&self) {
        let interface = &self.port.interface;
        self.namespace.run(&format!(
            "sysctl -qw net.ipv6.conf.{interface}.accept_dad=0; ip link set {interface} address {}; \
             ip link set {interface} up",
            self.port.mac
        ));
        for address in &self.port.addresses {
            let length = if address.contains(':') { 64 } else { 24 };
            self.namespace
                .run(&format!("ip address replace {address}/{length} dev {interface}"));
        }
        for gateway in &self.gateways {
            let family = if gateway.contains(':') { "-6" } else { "-4" };
            self.namespace.run(&format!(
                "ip {family} route replace default via {gateway} dev {interface}"
            ));
        }
    }

    /// Pings; returns how many answers came.
    pub fn ping(&self, target: &str, count: u32) -> u32 {
        let output = self
            .namespace
            .try_run(&format!("ping -n -c {count} -i 0.05 -W 2 {target}"));
        received_pings(&String::from_utf8_lossy(&output.stdout))
    }

    /// Starts an iperf3 server that serves one client.
    pub fn iperf_server(&self) -> Background {
        let server = self.namespace.background("iperf3 --server --one-off");
        eventually("iperf3 listens", || {
            let sockets = self.namespace.try_run("ss -Hltn sport = :5201");
            (!sockets.stdout.is_empty()).then_some(())
        });
        server
    }

    /// Runs iperf3 towards a server; Mbit/s that arrived. A server that has just served another listens again shortly.
    pub fn iperf(&self, target: &str, arguments: &str) -> Result<f64, String> {
        let mut last = String::new();
        let rate = within(Duration::from_secs(5), || {
            match self.iperf_once(target, arguments) {
                Err(error)
                    if ["refused", "busy", "reset by peer"]
                        .iter()
                        .any(|word| error.contains(word)) =>
                {
                    last = error;
                    None
                }
                result => Some(result),
            }
        });
        rate.unwrap_or(Err(last))
    }

    fn iperf_once(&self, target: &str, arguments: &str) -> Result<f64, String> {
        let output = self
            .namespace
            .try_run(&format!("iperf3 --client {target} --json {arguments}"));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let value: Value = serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))?;
        value["end"]["sum_received"]["bits_per_second"]
            .as_f64()
            .filter(|rate| *rate > 0.0)
            .map(|rate| rate / 1e6)
            .ok_or_else(|| value["error"].as_str().unwrap_or("no rate").to_owned())
    }
}
