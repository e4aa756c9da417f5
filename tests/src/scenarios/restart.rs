//! weftd dies without warning and comes back from its own store, with no controller in reach.

use weft_tests::{
    container::{Container, TapPort},
    host::{Host, Settings},
    lone::{encapsulation, tenants, ways},
    namespace::Namespace,
    world::{World, in_world},
};

super::scenarios! {
    two_hosts_carry_their_tenants_over_each_tunnel: [],
    a_killed_weftd_forwards_again_from_its_store: ["Operations: weftd killed with guests and containers"],
    a_deleted_object_stays_deleted_over_a_restart: [],
}

/// Two hosts joined by a wire, a container of red on each.
pub(super) struct TwoHosts {
    pub(super) hosts: [Host; 2],
    pub(super) containers: Vec<Container>,
}

impl World for TwoHosts {
    fn build() -> Self {
        let mut hosts = ["a", "b"].map(|name| Host::new(name, &Settings::default()));
        let [a, b] = &mut hosts;
        a.namespace
            .join("u1", "02:00:00:00:aa:01", &b.namespace, "u1", "02:00:00:00:aa:02");
        let mut containers = Vec::new();
        for (host, (own, other)) in hosts.iter_mut().zip([(1, 2), (2, 1)]) {
            host.start();
            host.apply(&tenants());
            host.apply(&format!(
                "kind: Port\nname: uplink\nspec: {{ethdev: {{device: \"net_af_packet0,iface=u1\"}}, \
                 vrf: underlay, mac: \"02:00:00:00:aa:0{own}\", mtu: 1600, \
                 addresses: [\"198.18.0.{own}/24\", \"fd00:198::{own}/64\"]}}\n"
            ));
            host.apply(&fabric(other));
            let port = TapPort::new(
                "red",
                &format!("web{own}"),
                &format!("02:00:00:00:01:0{own}"),
                &[&format!("10.0.0.{own}"), &format!("fd00:1::{own}")],
            );
            containers.push(host.container(&port, &["10.0.0.254", "fd00:1::fe"]));
        }
        TwoHosts { hosts, containers }
    }

    fn hosts(&mut self) -> Vec<&mut Host> {
        self.hosts.iter_mut().collect()
    }
}

/// Endpoints for each encapsulation; red is reached by VXLAN to begin with.
fn fabric(other: u8) -> String {
    let mut text = "kind: Vni\nname: red\nspec: {vni: 100, target: {vrf: red}}\n---\n\
                    kind: Label\nname: red\nspec: {label: 1000, target: {vrf: red}}\n"
        .to_owned();
    for way in ways() {
        let remote = if way.local.contains(':') {
            format!("fd00:198::{other}")
        } else {
            format!("198.18.0.{other}")
        };
        let (kind, _) = encapsulation(&way.tunnel);
        text += &format!(
            "---\nkind: TunnelEndpoint\nname: {}\nspec: {{remote: \"{remote}\", encapsulation: {kind}}}\n",
            way.name
        );
    }
    text + "---\n" + &route(other, 0)
}

fn route(other: u8, way: usize) -> String {
    let way = &ways()[way];
    let (_, number) = encapsulation(&way.tunnel);
    ["10.0.0.N/32", "fd00:1::N/128"]
        .map(|prefix| {
            format!(
                "kind: Route\nname: other-{}\nspec: {{vrf: red, prefix: \"{}\", \
                 next_hop: {{tunnel: {{endpoint: {}, {number}}}}}}}\n",
                if prefix.contains(':') { "v6" } else { "v4" },
                prefix.replace('N', &other.to_string()),
                way.name
            )
        })
        .join("---\n")
}

fn everybody_reaches_everybody(world: &TwoHosts) {
    for target in ["10.0.0.2", "fd00:1::2"] {
        // The first may wait for the underlay's neighbour.
        world.containers[0].ping(target, 1);
        assert_eq!(world.containers[0].ping(target, 10), 10, "{target}");
    }
}

fn two_hosts_carry_their_tenants_over_each_tunnel() {
    in_world(|world: &mut TwoHosts| {
        for way in 0..ways().len() {
            world.hosts[0].apply(&route(2, way));
            world.hosts[1].apply(&route(1, way));
            everybody_reaches_everybody(world);
            let server = world.containers[1].iperf_server();
            let rate = world.containers[0]
                .iperf("10.0.0.2", "--time 1")
                .expect("iperf3 runs");
            drop(server);
            assert!(rate > 0.0, "{}: {rate} Mbit/s", ways()[way].name);
        }
        world.hosts[0].apply(&route(2, 0));
        world.hosts[1].apply(&route(1, 0));
    });
}

fn a_killed_weftd_forwards_again_from_its_store() {
    in_world(|world: &mut TwoHosts| {
        everybody_reaches_everybody(world);
        for victim in [0, 1] {
            let before = world.hosts[victim].show("get all -o yaml");
            world.hosts[victim].kill();
            world.hosts[victim].start();
            assert_eq!(
                world.hosts[victim].show("get all -o yaml"),
                before,
                "all objects are back"
            );
            // The container's interface was made anew; its runtime gives it addresses again.
            let port = &world.containers[victim].port.interface;
            weft_tests::eventually("the tap is back in its namespace", || {
                let found = world.containers[victim]
                    .namespace
                    .try_run(&format!("ip link show {port}"));
                found.status.success().then_some(())
            });
            world.containers[victim].configure();
            everybody_reaches_everybody(world);
        }
        // A tap whose namespace went away while weftd was dead does not keep it from starting.
        let gone = Namespace::new("gone");
        world.hosts[0].apply(&TapPort::new("red", "lost", "02:00:00:00:0c:01", &["10.0.0.99"]).yaml(&gone));
        world.hosts[0].kill();
        drop(gone);
        world.hosts[0].start();
        let ports = world.hosts[0].show("get ports");
        assert!(ports.contains("red-lost"), "{ports}");
        world.containers[0].configure();
        everybody_reaches_everybody(world);
        world.hosts[0].delete("port", "red-lost");
    });
}

fn a_deleted_object_stays_deleted_over_a_restart() {
    in_world(|world: &mut TwoHosts| {
        let host = &mut world.hosts[0];
        host.apply("kind: Vrf\nname: passing\nspec: {}\n");
        host.delete("vrf", "passing");
        host.apply("kind: Vrf\nname: staying\nspec: {packet_mode: true}\n");
        host.kill();
        host.start();
        let names = host.show("get vrfs -o name");
        assert!(names.contains("staying") && !names.contains("passing"), "{names}");
        host.delete("vrf", "staying");
        world.containers[0].configure();
    });
}
