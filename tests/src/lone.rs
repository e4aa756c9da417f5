//! One weftd whose whole surroundings are the test: it plays the containers and the router of the underlay.
//!
//! Every byte that goes into weftd is the test's, and every byte that leaves it is seen.
//!
//! ```text
//!  red-web 10.0.0.1 ─┐                                ┌─ 198.18.0.2, .3, .4 and fd00:198::2, ::3, ::4:
//!  red-app 10.0.0.2 ─┤ weftd 198.18.0.1 ── router ────┤  tunnel endpoints by VXLAN, MPLSoUDP, MPLSoGRE
//!  blue-web 10.0.0.1 ┘       fd00:198::1              └─ 198.18.0.254: the way to 198.19.0.0/16
//! ```

use crate::{
    container::TapPort,
    frame::{Mac, Outer, Packet, Tunnel, address, mac},
    host::{Host, Settings},
    namespace::Namespace,
    wire::{Neighbour, Wire},
    world::World,
};

/// The MAC of every gateway, and the source of what weft hands to tenants.
pub const GATEWAY: Mac = [0, 0, 0x5e, 0, 1, 0];
/// weftd's on the underlay.
pub const UPLINK: Mac = [2, 0, 0, 0, 0xaa, 1];
/// The other end's.
pub const ROUTER: Mac = [2, 0, 0, 0, 0xbb, 1];
/// Red's containers.
pub const WEB: Mac = [2, 0, 0, 0, 1, 1];
/// Red's second container.
pub const APP: Mac = [2, 0, 0, 0, 1, 2];
/// Blue's container.
pub const BLUE: Mac = [2, 0, 0, 0, 2, 1];

/// VNI and label of red.
pub const RED_VNI: u32 = 100;
/// Label of red.
pub const RED_LABEL: u32 = 1000;

/// A kind of tunnel over a family of the underlay, with the inner addresses that lead into it.
#[derive(Clone, Debug)]
pub struct Way {
    /// For messages.
    pub name: &'static str,
    /// weftd's address.
    pub local: &'static str,
    /// The far end's.
    pub remote: &'static str,
    /// Last part of the inner destinations, 10.0.0.x and fd00:1::x.
    pub host: &'static str,
    /// Header.
    pub tunnel: Tunnel,
}

/// All six.
pub fn ways() -> Vec<Way> {
    let vxlan = || Tunnel::Vxlan {
        vni: RED_VNI,
        destination: GATEWAY,
        source: GATEWAY,
    };
    let udp = || Tunnel::MplsOverUdp(vec![RED_LABEL]);
    let gre = || Tunnel::MplsOverGre(vec![RED_LABEL]);
    let v4 = "198.18.0.1";
    let v6 = "fd00:198::1";
    let way = |name, local, remote, host, tunnel| Way {
        name,
        local,
        remote,
        host,
        tunnel,
    };
    vec![
        way("vxlan", v4, "198.18.0.2", "12", vxlan()),
        way("mpls-udp", v4, "198.18.0.3", "13", udp()),
        way("mpls-gre", v4, "198.18.0.4", "14", gre()),
        way("vxlan-v6", v6, "fd00:198::2", "22", vxlan()),
        way("mpls-udp-v6", v6, "fd00:198::3", "23", udp()),
        way("mpls-gre-v6", v6, "fd00:198::4", "24", gre()),
    ]
}

impl Way {
    /// The inner destination of a family behind it.
    pub fn inner(&self, v6: bool) -> String {
        if v6 {
            format!("fd00:1::{}", self.host)
        } else {
            format!("10.0.0.{}", self.host)
        }
    }

    /// What weftd must send for `inner`: UDP source port and flow label are taken from what it did send, once they
    /// are seen to be legal.
    pub fn outgoing(&self, inner: &Packet, sent: &[u8]) -> Packet {
        let mut outer = Outer::new(self.local, self.remote);
        outer.traffic_class = inner.traffic_class;
        let v6 = outer.source.is_ipv6();
        let gre = matches!(self.tunnel, Tunnel::MplsOverGre(_));
        let at = if v6 { 54 } else { 34 };
        let flow_label = u16::from_be_bytes([sent[16], sent[17]]);
        outer.entropy = if gre {
            flow_label
        } else {
            u16::from_be_bytes([sent[at], sent[at + 1]])
        };
        assert!(
            outer.entropy >= 49152 || (gre && !v6),
            "{}: source port {} is not in 49152 to 65535",
            self.name,
            outer.entropy
        );
        let mut packet = outer.carry(&self.tunnel, inner);
        if v6 {
            // RFC 6438: the flow label carries the entropy too.
            packet.flow_label = outer.entropy.into();
        }
        packet
    }

    /// A frame from the router that carries `inner` to weftd.
    pub fn incoming(&self, inner: &Packet) -> Vec<u8> {
        self.incoming_with(inner, |_| {})
    }

    /// The same with a change to the outer header.
    pub fn incoming_with(&self, inner: &Packet, change: impl FnOnce(&mut Outer)) -> Vec<u8> {
        let mut outer = Outer::new(self.remote, self.local);
        change(&mut outer);
        outer.carry(&self.tunnel, inner).frame(UPLINK, ROUTER)
    }
}

/// The world.
pub struct Lone {
    /// weftd.
    pub host: Host,
    /// The underlay's far end.
    pub router: Wire,
    /// red, 10.0.0.1 and fd00:1::1.
    pub web: Wire,
    /// red, 10.0.0.2 and fd00:1::2.
    pub app: Wire,
    /// blue, 10.0.0.1 and fd00:1::1.
    pub blue: Wire,
    /// Where the taps are.
    pub guests: Namespace,
    /// Where the router is.
    pub outside: Namespace,
}

impl World for Lone {
    fn build() -> Self {
        let mut host = Host::new("lone", &Settings::default());
        host.namespace
            .run("sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1");
        let outside = Namespace::silent("router");
        let guests = Namespace::silent("guests");
        host.namespace
            .join("u1", "02:00:00:00:aa:01", &outside, "r1", "02:00:00:00:bb:01");
        host.start();
        let mut router = outside.wire("r1");
        router.play(Neighbour {
            mac: ROUTER,
            addresses: router_addresses(),
            vlan: None,
        });
        host.apply(&tenants());
        host.apply(
            "kind: Port\nname: uplink\nspec: {ethdev: {device: \"net_af_packet0,iface=u1\"}, vrf: underlay, \
             mac: \"02:00:00:00:aa:01\", mtu: 1600, addresses: [\"198.18.0.1/24\", \"fd00:198::1/64\"]}\n",
        );
        let web = host.raw_tap(
            &guests,
            &TapPort::new("red", "web", "02:00:00:00:01:01", &["10.0.0.1", "fd00:1::1"]),
        );
        let app = host.raw_tap(
            &guests,
            &TapPort::new("red", "app", "02:00:00:00:01:02", &["10.0.0.2", "fd00:1::2"]),
        );
        let blue = host.raw_tap(
            &guests,
            &TapPort::new("blue", "bweb", "02:00:00:00:02:01", &["10.0.0.1", "fd00:1::1"]),
        );
        host.apply(&fabric());
        let mut world = Lone {
            host,
            router,
            web,
            app,
            blue,
            guests,
            outside,
        };
        world.meet_neighbours();
        world
    }

    fn hosts(&mut self) -> Vec<&mut Host> {
        vec![&mut self.host]
    }

    fn reset(&mut self) {
        for wire in [&mut self.router, &mut self.web, &mut self.app, &mut self.blue] {
            wire.clear();
        }
    }
}

impl Lone {
    /// Makes weftd resolve its neighbours, so that no later packet waits for one.
    fn meet_neighbours(&mut self) {
        for way in ways() {
            let packet = Packet::udp("10.0.0.1:1", &format!("{}:1", way.inner(false)), b"hello");
            crate::eventually("weftd knows its neighbours", || {
                self.web.send(&packet.frame(GATEWAY, WEB));
                self.router.next(std::time::Duration::from_millis(100))
            });
        }
        self.router.drain(std::time::Duration::from_millis(50));
    }
}

fn router_addresses() -> Vec<std::net::IpAddr> {
    ways()
        .iter()
        .map(|way| address(way.remote))
        .chain([address("198.18.0.254"), address("fd00:198::fe")])
        .collect()
}

/// Two tenants with the same addresses.
pub fn tenants() -> String {
    ["red", "blue"]
        .map(|tenant| {
            format!(
                "kind: Vrf\nname: {tenant}\nspec: {{}}\n---\nkind: Network\nname: {tenant}\nspec: {{vrf: {tenant}, \
                 subnets: [{{prefix: 10.0.0.0/24, gateway: 10.0.0.254}}, \
                 {{prefix: \"fd00:1::/64\", gateway: \"fd00:1::fe\"}}]}}\n"
            )
        })
        .join("---\n")
}

/// The far ends, red's routes to them, and what arrives from them. What comes back is red's, even if another VRF's
/// packets were led here.
fn fabric() -> String {
    let mut objects = vec![
        format!("kind: Vni\nname: red\nspec: {{vni: {RED_VNI}, target: {{vrf: red}}}}\n"),
        format!("kind: Label\nname: red\nspec: {{label: {RED_LABEL}, target: {{vrf: red}}}}\n"),
        "kind: Route\nname: far\nspec: {vrf: underlay, prefix: 198.19.0.0/16, next_hop: {gateway: 198.18.0.254}}\n"
            .to_owned(),
    ];
    for way in ways() {
        let (encapsulation, number) = encapsulation(&way.tunnel);
        let Way { name, remote, .. } = way;
        objects.push(format!(
            "kind: TunnelEndpoint\nname: {name}\nspec: {{remote: \"{remote}\", encapsulation: {encapsulation}}}\n"
        ));
        for (family, prefix) in [
            ("v4", format!("{}/32", way.inner(false))),
            ("v6", format!("{}/128", way.inner(true))),
        ] {
            objects.push(format!(
                "kind: Route\nname: red-{name}-{family}\nspec: {{vrf: red, prefix: \"{prefix}\", \
                 next_hop: {{tunnel: {{endpoint: {name}, {number}, return_vrf: red}}}}}}\n"
            ));
        }
    }
    objects.join("---\n")
}

/// How the API names a kind of tunnel, and the field with its number.
pub fn encapsulation(tunnel: &Tunnel) -> (&'static str, String) {
    match tunnel {
        Tunnel::Vxlan { vni, .. } => ("ENCAPSULATION_VXLAN", format!("vni: {vni}")),
        Tunnel::MplsOverUdp(labels) => ("ENCAPSULATION_MPLS_OVER_UDP", format!("labels: {labels:?}")),
        Tunnel::MplsOverGre(labels) => ("ENCAPSULATION_MPLS_OVER_GRE", format!("labels: {labels:?}")),
    }
}

/// A MAC of the test's own making.
pub fn test_mac(number: u16) -> Mac {
    let [a, b] = number.to_be_bytes();
    let mut address = mac("02:00:00:00:00:00");
    address[4..].copy_from_slice(&[a, b]);
    address
}
