//! The demo's world, what is proved in it, and what is shown of it.
//!
//! ```text
//!            host a  198.18.0.1                       host b  198.18.0.2
//!   red   web 10.0.0.1   vm 10.0.0.10  ══ VXLAN ═══  db 10.0.0.2
//!   blue  web 10.0.0.1                 ═ MPLSoUDP ═  db 10.0.0.2   vm 10.0.0.10   only 10.0.0.30
//!   red   10.0.0.21 on VLAN 100        ══ VXLAN ═══  10.0.0.22 on VLAN 200
//! ```

use weft_tests::{
    container::{Container, TapPort},
    eventually,
    frame::{Packet, tagged},
    guest::{Guest, Settings as GuestSettings},
    host::{Host, Settings, hugepages_are_free, program, run_directory},
    lone::{GATEWAY, tenants},
    namespace::Namespace,
    wire::Wire,
};

use crate::{
    checks::{Checks, title},
    underlay::{Capture, Crossed},
};

pub struct Site {
    a: Host,
    b: Host,
    red: [Container; 2],
    blue: [Container; 2],
    /// Blue alone has its address.
    only_blue: Container,
    vm_red: Guest,
    vm_blue: Guest,
    /// Behind VLAN 100 on a, behind VLAN 200 on b.
    tagged: [Wire; 2],
    captures: Vec<Capture>,
    _trunks: [Namespace; 2],
}

const RED_GATEWAYS: [&str; 2] = ["10.0.0.254", "fd00:1::fe"];
const BLUE_GATEWAYS: [&str; 1] = ["10.0.0.254"];
const NEAR: [u8; 6] = [2, 0, 0, 0, 1, 0x21];
const FAR: [u8; 6] = [2, 0, 0, 0, 1, 0x22];

impl Site {
    /// Builds everything but waits for no guest.
    pub fn build() -> Self {
        title("Two hosts, each a network namespace with its own weftd");
        let hugepages = hugepages_are_free(512);
        println!(
            "  memory from {}",
            if hugepages {
                "hugepages"
            } else {
                "ordinary pages: no hugepages are free"
            }
        );
        let cores = std::thread::available_parallelism().map_or(1, usize::from) as u16;
        let settings = |worker: u16| Settings {
            workers: vec![worker % cores],
            hugepages,
            ..Settings::default()
        };
        let (mut a, mut b) = (Host::new("a", &settings(0)), Host::new("b", &settings(1)));
        let vm = |tenant: &str, mac: &str| {
            let red = tenant == "red";
            Guest::start(
                &run_directory(),
                &GuestSettings {
                    name: format!("vm-{tenant}"),
                    mac: mac.to_owned(),
                    addresses: [&["10.0.0.10/24"][..], if red { &["fd00:1::10/64"] } else { &[] }]
                        .concat()
                        .iter()
                        .map(|text| (*text).to_owned())
                        .collect(),
                    gateways: if red { &RED_GATEWAYS[..] } else { &BLUE_GATEWAYS }
                        .iter()
                        .map(|text| (*text).to_owned())
                        .collect(),
                },
            )
        };
        let (mut vm_red, mut vm_blue) = (vm("red", "02:00:00:00:01:10"), vm("blue", "02:00:00:00:02:10"));
        a.namespace
            .join("u1", "02:00:00:00:aa:01", &b.namespace, "u1", "02:00:00:00:aa:02");
        for host in [&mut a, &mut b] {
            host.start();
            host.apply(&tenants());
        }
        for (host, own) in [(&a, 1), (&b, 2)] {
            host.apply(&uplink(own));
        }
        title("Tenants red and blue, both with 10.0.0.0/24");
        let container = |host: &Host, tenant: &str, name: &str, mac: &str, addresses: &[&str]| {
            let gateways = if tenant == "red" {
                &RED_GATEWAYS[..]
            } else {
                &BLUE_GATEWAYS
            };
            host.container(&TapPort::new(tenant, name, mac, addresses), gateways)
        };
        let red = [
            container(&a, "red", "rweb", "02:00:00:00:01:01", &["10.0.0.1", "fd00:1::1"]),
            container(&b, "red", "rdb", "02:00:00:00:01:02", &["10.0.0.2", "fd00:1::2"]),
        ];
        let blue = [
            container(&a, "blue", "bweb", "02:00:00:00:02:01", &["10.0.0.1"]),
            container(&b, "blue", "bdb", "02:00:00:00:02:02", &["10.0.0.2"]),
        ];
        let only_blue = container(&b, "blue", "bonly", "02:00:00:00:02:30", &["10.0.0.30"]);
        let trunks = [Namespace::silent("trunk-a"), Namespace::silent("trunk-b")];
        let tagged = [
            behind_vlan(
                &a,
                &trunks[0],
                "02:00:00:00:01:20",
                100,
                "02:00:00:00:01:21",
                "10.0.0.21",
            ),
            behind_vlan(
                &b,
                &trunks[1],
                "02:00:00:00:01:20",
                200,
                "02:00:00:00:01:22",
                "10.0.0.22",
            ),
        ];
        for (host, guest, tenant, more) in [
            (&a, &mut vm_red, "red", ", \"fd00:1::10\""),
            (&b, &mut vm_blue, "blue", ""),
        ] {
            guest.wait_for_socket();
            let digit = if tenant == "red" { 1 } else { 2 };
            host.apply(&format!(
                "kind: Port\nname: {tenant}-vm\nspec: {{vhost_user: {{socket: {}}}, vrf: {tenant}, \
                 mac: \"02:00:00:00:0{digit}:10\", addresses: [10.0.0.10{more}]}}\n",
                guest.socket().display()
            ));
        }
        let captures = vec![
            Capture::start(&a.namespace, &run_directory().join("underlay-to-a.pcap")),
            Capture::start(&b.namespace, &run_directory().join("underlay-to-b.pcap")),
        ];
        a.apply(&fabric(
            2,
            &["10.0.0.2", "fd00:1::2", "10.0.0.22"],
            &["10.0.0.2", "10.0.0.10", "10.0.0.30"],
        ));
        b.apply(&fabric(
            1,
            &["10.0.0.1", "fd00:1::1", "10.0.0.10", "fd00:1::10", "10.0.0.21"],
            &["10.0.0.1"],
        ));
        Site {
            a,
            b,
            red,
            blue,
            only_blue,
            vm_red,
            vm_blue,
            tagged,
            captures,
            _trunks: trunks,
        }
    }

    /// Every claim of the demo.
    pub fn prove(&mut self, checks: &mut Checks) {
        title("Containers across hosts");
        for container in [&self.red[0], &self.blue[0]] {
            // The first may wait for the underlay's neighbour.
            container.ping("10.0.0.2", 1);
        }
        checks.pings(
            "red web reaches red db over VXLAN",
            10,
            self.red[0].ping("10.0.0.2", 10),
            10,
        );
        checks.pings(
            "red web reaches red db over IPv6",
            10,
            self.red[0].ping("fd00:1::2", 10),
            10,
        );
        checks.pings(
            "blue web reaches blue db over MPLSoUDP",
            10,
            self.blue[0].ping("10.0.0.2", 10),
            10,
        );
        checks.pings(
            "red web reaches its gateway",
            3,
            self.red[0].ping("10.0.0.254", 3),
            3,
        );
        checks.rate(
            "red runs TCP over VXLAN",
            tcp(&self.red[0], &self.red[1], "10.0.0.2"),
        );
        checks.rate(
            "red runs TCP over VXLAN and IPv6",
            tcp(&self.red[0], &self.red[1], "fd00:1::2"),
        );
        checks.rate(
            "blue runs TCP over MPLSoUDP",
            tcp(&self.blue[0], &self.blue[1], "10.0.0.2"),
        );

        title("Virtual machines");
        self.vm_red.wait_until_ready();
        self.vm_blue.wait_until_ready();
        checks.pings(
            "red vm on a reaches red db on b",
            5,
            self.vm_red.ping("10.0.0.2", 5),
            5,
        );
        checks.pings(
            "red vm reaches red db over IPv6",
            5,
            self.vm_red.ping("fd00:1::2", 5),
            5,
        );
        checks.pings(
            "blue vm on b reaches blue web on a",
            5,
            self.vm_blue.ping("10.0.0.1", 5),
            5,
        );
        checks.pings(
            "red web reaches the red vm on its own host",
            5,
            self.red[0].ping("10.0.0.10", 5),
            5,
        );
        checks.rate(
            "red db on b runs TCP to the red vm on a",
            self.red[1].iperf("10.0.0.10", "--time 3"),
        );
        checks.rate(
            "blue web on a runs TCP to the blue vm on b",
            self.blue[0].iperf("10.0.0.10", "--time 3"),
        );

        title("VLAN sub-interfaces");
        let answered = self.vlan_pings(5);
        checks.pings("VLAN 100 on a reaches VLAN 200 on b", 5, answered, 5);

        title("Tenants are apart");
        checks.pings(
            "blue web reaches the address that only blue has",
            3,
            self.blue[0].ping("10.0.0.30", 3),
            3,
        );
        checks.pings("red web does not", 0, self.red[0].ping("10.0.0.30", 2), 2);
        let before = received(&self.blue[1]);
        let answered = self.red[0].ping("10.0.0.2", 20);
        let grown = received(&self.blue[1]) - before;
        checks.add(
            "red's pings to 10.0.0.2 are red db's alone",
            answered > 0 && grown == 0,
            &format!("{answered} answered, and {grown} packets at blue's 10.0.0.2"),
        );

        title("The hosts themselves, through weft0");
        let ping = |target: &str| {
            let output = self
                .a
                .namespace
                .try_run(&format!("ping -n -c 3 -i 0.1 -W 2 {target}"));
            weft_tests::guest::received_pings(&String::from_utf8_lossy(&output.stdout))
        };
        checks.pings("host a reaches host b", 3, ping("198.18.0.2"), 3);
        checks.pings("host a reaches host b over IPv6", 3, ping("fd00:198::2"), 3);

        title("The wire between the hosts");
        // Give flooding every chance: broadcast and multicast of both tenants.
        for container in self.red.iter().chain(&self.blue) {
            let port = &container.port.interface;
            container
                .namespace
                .try_run("ping -n -b -c 3 -i 0.1 -W 1 10.0.0.255");
            container
                .namespace
                .try_run(&format!("ping -n -c 3 -i 0.1 -W 1 -I {port} 224.0.0.251"));
            container
                .namespace
                .try_run(&format!("ping -n -c 3 -i 0.1 -W 1 ff02::1%{port}"));
            container.namespace.try_run("ping -n -c 1 -W 1 10.0.0.99");
        }
        let mut crossed = Crossed::default();
        for capture in self.captures.drain(..) {
            capture.count(&mut crossed);
        }
        checks.add(
            "red crossed in VXLAN",
            crossed.vxlan > 1000,
            &format!("{} frames", crossed.vxlan),
        );
        checks.add(
            "blue crossed in MPLS over UDP",
            crossed.mpls_over_udp > 1000,
            &format!("{} frames", crossed.mpls_over_udp),
        );
        checks.add(
            "no tenant's broadcast or multicast crossed",
            crossed.flooded == 0,
            &format!("{} such frames", crossed.flooded),
        );
        for frame in crossed.strange.iter().take(3) {
            println!("{frame}");
        }
        checks.add(
            "outside the tunnels only ARP, ND and the hosts' own traffic",
            crossed.strange.is_empty() && crossed.neighbours > 0,
            &format!(
                "{} ARP and ND, {} of the hosts, {} other",
                crossed.neighbours,
                crossed.hosts,
                crossed.strange.len()
            ),
        );

        title("The books");
        for (name, host) in [("a", &self.a), ("b", &self.b)] {
            let balance = eventually("the books of one moment balance", || {
                let balance = host.balance();
                balance.is_even().then_some(balance)
            });
            checks.add(
                &format!("host {name}: every packet is accounted for"),
                balance.received > 1000,
                &format!(
                    "{} received + {} created = {} sent + {} delivered + {} merged + {} dropped + {} held",
                    balance.received,
                    balance.created,
                    balance.sent,
                    balance.delivered,
                    balance.merged,
                    balance.dropped,
                    balance.held
                ),
            );
        }
    }

    /// What weft shows of itself.
    pub fn show_tables(&self) {
        for arguments in [
            "get ports",
            "get routes --vrf red",
            "get routes --vrf blue",
            "get tunnel-endpoints",
            "get flows --vrf blue --limit 6",
            "get workers",
            "get drops",
            "get balance",
        ] {
            println!("\nhost a$ weft {arguments}");
            print!("{}", self.a.show(arguments));
        }
    }

    /// What to try while it stays up.
    pub fn print_commands(&self) {
        title("Try, as root:");
        let weft = program("weft");
        for host in [&self.a, &self.b] {
            println!(
                "  {} --socket {} get flows",
                weft.display(),
                host.socket().display()
            );
        }
        println!("  {} --socket {} top", weft.display(), self.a.socket().display());
        println!(
            "  {} --socket {} describe port red-rweb",
            weft.display(),
            self.a.socket().display()
        );
        for (container, target) in [
            (&self.red[0], "10.0.0.2"),
            (&self.blue[0], "10.0.0.10"),
            (&self.only_blue, "10.0.0.1"),
        ] {
            println!("  ip netns exec {} ping {target}", container.namespace.name());
        }
        println!("  ip netns exec {} tcpdump -ni u1", self.a.namespace.name());
    }

    /// Pings from behind one tag to behind another; both ends are played here, since a kernel without 802.1Q cannot.
    fn vlan_pings(&mut self, count: u16) -> u32 {
        let [near, far] = &mut self.tagged;
        let patience = std::time::Duration::from_secs(3);
        let mut answered = 0;
        for sequence in 1..=count {
            let request = Packet::echo_request("10.0.0.21", "10.0.0.22", 42, sequence);
            near.send(&tagged(100, &request.frame(GATEWAY, NEAR)));
            // One hop at each host.
            let arrived = far.next(patience).map(|received| received.bytes);
            if arrived != Some(tagged(200, &request.hop().hop().frame(FAR, GATEWAY))) {
                continue;
            }
            let reply = Packet::echo_reply("10.0.0.22", "10.0.0.21", 42, sequence);
            far.send(&tagged(200, &reply.frame(GATEWAY, FAR)));
            let back = near.next(patience).map(|received| received.bytes);
            answered += u32::from(back == Some(tagged(100, &reply.hop().hop().frame(NEAR, GATEWAY))));
        }
        answered
    }
}

/// A trunk of red with one sub-interface; the test holds the far end and tags by hand.
fn behind_vlan(
    host: &Host,
    space: &Namespace,
    parent_mac: &str,
    vlan: u16,
    mac: &str,
    address: &str,
) -> Wire {
    let wire = host.raw_tap(space, &TapPort::new("red", "trunk", parent_mac, &[]));
    host.apply(&format!(
        "kind: Port\nname: red-vlan{vlan}\nspec: {{vlan: {{parent: red-trunk, vlan: {vlan}}}, vrf: red, \
         mac: \"{mac}\", addresses: [{address}]}}\n"
    ));
    wire
}

fn tcp(client: &Container, server: &Container, target: &str) -> Result<f64, String> {
    let _server = server.iperf_server();
    client.iperf(target, "--time 2")
}

/// Packets that came to a container.
fn received(container: &Container) -> u64 {
    let path = format!(
        "cat /sys/class/net/{}/statistics/rx_packets",
        container.port.interface
    );
    container.namespace.run(&path).trim().parse().expect("a count")
}

/// The way to the other host; the host's own traffic goes by `weft0`.
fn uplink(own: u8) -> String {
    format!(
        "kind: Port\nname: uplink\nspec: {{ethdev: {{device: \"net_af_packet0,iface=u1,framecnt=2048,qdisc_bypass=1\"}}, vrf: underlay, \
         mac: \"02:00:00:00:aa:0{own}\", mtu: 1600, host_interface: weft0, \
         addresses: [\"198.18.0.{own}/24\", \"fd00:198::{own}/64\"]}}\n"
    )
}

/// Red by VXLAN and blue by MPLS over UDP to the other host, and what arrives from there.
fn fabric(other: u8, red: &[&str], blue: &[&str]) -> String {
    let mut text = format!(
        "kind: TunnelEndpoint\nname: vxlan\nspec: {{remote: 198.18.0.{other}, encapsulation: ENCAPSULATION_VXLAN}}\n---\n\
         kind: TunnelEndpoint\nname: mpls\nspec: {{remote: 198.18.0.{other}, encapsulation: ENCAPSULATION_MPLS_OVER_UDP}}\n---\n\
         kind: Vni\nname: red\nspec: {{vni: 100, target: {{vrf: red}}}}\n---\n\
         kind: Label\nname: blue\nspec: {{label: 2000, target: {{vrf: blue}}}}\n"
    );
    let ways = [
        ("red", red, "endpoint: vxlan, vni: 100"),
        ("blue", blue, "endpoint: mpls, labels: [2000]"),
    ];
    for (tenant, addresses, tunnel) in ways {
        for address in addresses {
            let length = if address.contains(':') { 128 } else { 32 };
            text += &format!(
                "---\nkind: Route\nname: {tenant}/{}\nspec: {{vrf: {tenant}, prefix: \"{address}/{length}\", \
                 next_hop: {{tunnel: {{{tunnel}}}}}}}\n",
                address.replace(':', "-")
            );
        }
    }
    text
}
