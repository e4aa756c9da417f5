//! The host's own traffic over an uplink that weft has taken: through `weft0`, and answered once.

use weft_tests::{
    container::TapPort,
    frame::{Packet, address, arp_reply, arp_request, difference},
    host::{Host, Settings},
    lone::{GATEWAY, ROUTER, UPLINK, WEB, tenants},
    namespace::Namespace,
    wire::{Neighbour, Wire},
    world::{World, in_world},
};

super::scenarios! {
    the_host_answers_each_ping_and_arp_once: ["Neighbours: exactly one answer"],
    the_host_reaches_the_underlay: [],
    a_tenant_reaches_the_host_and_back: ["Forwarding: VM to the host's own address and back"],
    the_kernel_gets_its_interface_back: ["Neighbours: exactly one answer"],
}

/// A weftd with `weft0`, whose underlay is the test.
struct WithHost {
    host: Host,
    router: Wire,
    web: Wire,
    _spaces: [Namespace; 2],
}

impl World for WithHost {
    fn build() -> Self {
        let mut host = Host::new("own", &Settings::default());
        let outside = Namespace::silent("router");
        let guests = Namespace::silent("guests");
        host.namespace
            .join("u1", "02:00:00:00:aa:01", &outside, "r1", "02:00:00:00:bb:01");
        // The kernel has the address already: without the drop it would answer too.
        host.namespace.run("ip address add 198.18.0.1/24 dev u1");
        host.start();
        let mut router = outside.wire("r1");
        let addresses = ["198.18.0.2", "fd00:198::2"].map(address).to_vec();
        router.play(Neighbour {
            mac: ROUTER,
            addresses,
            vlan: None,
        });
        host.apply(&tenants());
        host.apply(
            "kind: Port\nname: uplink\nspec: {ethdev: {device: \"net_af_packet0,iface=u1\"}, vrf: underlay, \
             mac: \"02:00:00:00:aa:01\", host_interface: weft0, \
             addresses: [\"198.18.0.1/24\", \"fd00:198::1/64\"]}\n",
        );
        host.namespace.run("ip address flush dev u1");
        let web = host.raw_tap(
            &guests,
            &TapPort::new("red", "web", "02:00:00:00:01:01", &["10.0.0.1"]),
        );
        let mut world = WithHost {
            host,
            router,
            web,
            _spaces: [outside, guests],
        };
        world.settle();
        world
    }

    fn hosts(&mut self) -> Vec<&mut Host> {
        vec![&mut self.host]
    }

    fn reset(&mut self) {
        self.settle();
    }
}

impl WithHost {
    /// The host's kernel greets the underlay by itself (router solicitations, group memberships): let it finish.
    fn settle(&mut self) {
        self.router.drain(std::time::Duration::from_millis(300));
        self.web.clear();
    }

    /// Frames that are no greeting of the host's kernel.
    fn answers(&mut self) -> Vec<Vec<u8>> {
        let frames = self.router.drain(std::time::Duration::from_millis(200));
        frames
            .into_iter()
            .filter(|frame| frame[..2] != [0x33, 0x33])
            .collect()
    }
}

fn the_host_answers_each_ping_and_arp_once() {
    in_world(|world: &mut WithHost| {
        for sequence in 1..=10 {
            world
                .router
                .send(&arp_request(ROUTER, "198.18.0.2", "198.18.0.1"));
            assert_eq!(
                world.answers(),
                [arp_reply(UPLINK, "198.18.0.1", ROUTER, "198.18.0.2")]
            );
            for (near, far) in [("198.18.0.1", "198.18.0.2"), ("fd00:198::1", "fd00:198::2")] {
                world
                    .router
                    .send(&Packet::echo_request(far, near, 3, sequence).frame(UPLINK, ROUTER));
                let answers = world.answers();
                assert_eq!(answers.len(), 1, "one ping, one answer: {answers:?}");
                let mut expected = Packet::echo_reply(near, far, 3, sequence);
                let answer = &answers[0];
                if far.contains(':') {
                    expected.flow_label = u32::from_be_bytes([0, answer[15] & 0xf, answer[16], answer[17]]);
                } else {
                    expected.identification = u16::from_be_bytes([answer[18], answer[19]]);
                    expected.fragment = u16::from_be_bytes([answer[20], answer[21]]) & 0x4000;
                }
                let expected = expected.frame(ROUTER, UPLINK);
                assert!(*answer == expected, "{}", difference(&expected, answer));
            }
        }
        // TCP to the host: its kernel says that nobody listens, once.
        let packet = Packet::tcp(
            "198.18.0.2:4000",
            "198.18.0.1:4001",
            weft_tests::frame::tcp::SYN,
            b"",
        );
        world.router.send(&packet.frame(UPLINK, ROUTER));
        let answers = world.answers();
        assert_eq!(answers.len(), 1, "{answers:?}");
        assert_eq!(answers[0][47] & 0x04, 0x04, "a reset");
    });
}

fn the_host_reaches_the_underlay() {
    in_world(|world: &mut WithHost| {
        for (near, far) in [("198.18.0.1", "198.18.0.2"), ("fd00:198::1", "fd00:198::2")] {
            let v6 = far.contains(':');
            let line = format!("ping -n -c 1 -W 5 -I {near} {far}");
            let mut ping = world.host.namespace.background(&line);
            let request = weft_tests::eventually("the host's ping crosses the uplink", || {
                let frame = world.router.next(std::time::Duration::from_millis(500))?.bytes;
                let echo = if v6 {
                    frame.get(54) == Some(&128)
                } else {
                    frame.get(23) == Some(&1)
                };
                echo.then_some(frame)
            });
            assert_eq!(
                request[..12],
                [ROUTER, UPLINK].concat(),
                "from the uplink's MAC to the neighbour's"
            );
            // The answer is the request with addresses and type turned round.
            let mut reply = [&request[6..12], &request[..6], &request[12..]].concat();
            let (source, length, kind, sum) = if v6 { (22, 16, 54, 56) } else { (26, 4, 34, 36) };
            let addresses = reply[source..source + 2 * length].to_vec();
            reply[source..source + length].copy_from_slice(&addresses[length..]);
            reply[source + length..source + 2 * length].copy_from_slice(&addresses[..length]);
            reply[kind] = if v6 { 129 } else { 0 };
            // RFC 1624: the sum moves by what the type lost or gained.
            let old = u16::from_be_bytes([reply[sum], reply[sum + 1]]);
            let change = if v6 {
                old.wrapping_sub(0x0100)
            } else {
                old.wrapping_add(0x0800)
            };
            let carry = if v6 { u16::from(old < 0x0100) } else { 0 };
            let new = if v6 {
                change.wrapping_sub(carry)
            } else {
                change.wrapping_add(u16::from(change < 0x0800))
            };
            reply[sum..sum + 2].copy_from_slice(&new.to_be_bytes());
            world.router.send(&reply);
            assert!(ping.succeeds(), "the host's ping to {far} is answered");
        }
    });
}

fn a_tenant_reaches_the_host_and_back() {
    in_world(|world: &mut WithHost| {
        world.host.apply(
            "kind: Route\nname: red-host\nspec: {vrf: red, prefix: 198.18.0.1/32, next_hop: {vrf: underlay}}\n---\n\
             kind: Route\nname: host-red\nspec: {vrf: underlay, prefix: 10.0.0.1/32, next_hop: {vrf: red}}\n",
        );
        world.host.namespace.run("ip route replace 10.0.0.1/32 dev weft0");
        for sequence in 1..=3 {
            world
                .web
                .send(&Packet::echo_request("10.0.0.1", "198.18.0.1", 9, sequence).frame(GATEWAY, WEB));
            let answer = world.web.receive();
            let mut expected = Packet::echo_reply("198.18.0.1", "10.0.0.1", 9, sequence);
            expected.identification = u16::from_be_bytes([answer[18], answer[19]]);
            expected.fragment = u16::from_be_bytes([answer[20], answer[21]]) & 0x4000;
            expected.ttl = answer[22];
            assert!((62..=64).contains(&expected.ttl), "TTL {}", expected.ttl);
            let expected = expected.frame(WEB, GATEWAY);
            assert!(answer == expected, "{}", difference(&expected, &answer));
        }
        world.host.delete("route", "red-host host-red");
    });
}

fn the_kernel_gets_its_interface_back() {
    in_world(|world: &mut WithHost| {
        assert!(
            !world.host.namespace.run("nft list tables").is_empty(),
            "the kernel is kept out while weftd runs"
        );
        assert!(world.host.stop().success(), "weftd ends well when asked to");
        assert_eq!(world.host.namespace.run("nft list tables"), "", "nothing is left");
        world.host.namespace.run("ip address add 198.18.0.1/24 dev u1");
        world.router.drain(std::time::Duration::from_millis(100));
        world
            .router
            .send(&arp_request(ROUTER, "198.18.0.2", "198.18.0.1"));
        world
            .router
            .expect(&arp_reply(UPLINK, "198.18.0.1", ROUTER, "198.18.0.2"));
        world.host.namespace.run("ip address flush dev u1");
        world.host.start();
        world.settle();
        world
            .router
            .send(&arp_request(ROUTER, "198.18.0.2", "198.18.0.1"));
        assert_eq!(
            world.answers(),
            [arp_reply(UPLINK, "198.18.0.1", ROUTER, "198.18.0.2")]
        );
    });
}
