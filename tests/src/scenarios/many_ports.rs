//! Hundreds of guests and containers on one host, and ports that come and go.

use std::os::unix::net::UnixListener;

use weft_tests::{
    container::TapPort,
    frame::{Mac, Packet},
    host::{Host, Settings},
    lone::GATEWAY,
    namespace::Namespace,
    vhost::{FrontEnd, PLAIN},
    wire::Wire,
    world::{World, in_world},
};

super::scenarios! {
    two_hundred_guests_and_two_hundred_containers_reach_each_other: ["Operations: 200 vhost-user ports and 200 taps"],
    ports_come_and_go_while_others_talk: ["Operations: ports plugged and unplugged in a loop"],
}

const EACH: u16 = 200;

struct Crowd {
    host: Host,
    guests: Vec<FrontEnd>,
    containers: Vec<Wire>,
    space: Namespace,
}

/// Guests are 10.1.0.0/16, containers 10.2.0.0/16.
fn place(kind: u16, number: u16) -> (Mac, String) {
    let [a, b] = number.to_be_bytes();
    ([2, 0, 0, kind as u8, a, b], format!("10.{kind}.{a}.{b}"))
}

fn mac_text(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

impl World for Crowd {
    fn build() -> Self {
        let settings = Settings {
            mbufs: 65_536,
            memory_mib: 384,
            ..Settings::default()
        };
        let mut host = Host::new("crowd", &settings);
        host.start();
        let space = Namespace::silent("crowd-taps");
        let mut text = "kind: Vrf\nname: red\nspec: {}\n".to_owned();
        let mut listeners = Vec::new();
        for number in 1..=EACH {
            let path = host.path(&format!("{number}.vhost"));
            listeners.push(UnixListener::bind(&path).expect("a socket"));
            let (mac, address) = place(1, number);
            text += &format!(
                "---\nkind: Port\nname: guest-{number}\nspec: {{vhost_user: {{socket: {}}}, vrf: red, mac: \"{}\", \
                 addresses: [{address}]}}\n",
                path.display(),
                mac_text(mac)
            );
            let (mac, address) = place(2, number);
            let port = TapPort::new("red", &format!("c{number}"), &mac_text(mac), &[&address]);
            text += "---\n";
            text += &port.yaml(&space);
        }
        host.apply(&text);
        let guests = listeners
            .iter()
            .map(|listener| FrontEnd::accept(listener, PLAIN).expect("weftd connects"))
            .collect();
        space.run(&format!("for i in $(seq {EACH}); do ip link set c$i up; done"));
        let containers = (1..=EACH)
            .map(|number| space.wire(&format!("c{number}")))
            .collect();
        Crowd {
            host,
            guests,
            containers,
            space,
        }
    }

    fn hosts(&mut self) -> Vec<&mut Host> {
        vec![&mut self.host]
    }
}

fn two_hundred_guests_and_two_hundred_containers_reach_each_other() {
    in_world(|world: &mut Crowd| {
        for number in 1..=EACH {
            let index = usize::from(number) - 1;
            let ((guest_mac, guest), (container_mac, container)) = (place(1, number), place(2, number));
            // Guest to container and back.
            let there = Packet::udp(&format!("{guest}:1"), &format!("{container}:2"), b"there");
            world.guests[index].send(&there.frame(GATEWAY, guest_mac));
            world.containers[index].expect(&there.hop().frame(container_mac, GATEWAY));
            let back = Packet::udp(&format!("{container}:2"), &format!("{guest}:1"), b"back");
            world.containers[index].send(&back.frame(GATEWAY, container_mac));
            world.guests[index].expect(&back.hop().frame(guest_mac, GATEWAY));
            // And to the next guest.
            let next = number % EACH + 1;
            let (next_mac, next_address) = place(1, next);
            let packet = Packet::udp(&format!("{guest}:3"), &format!("{next_address}:3"), b"next");
            world.guests[index].send(&packet.frame(GATEWAY, guest_mac));
            world.guests[usize::from(next) - 1].expect(&packet.hop().frame(next_mac, GATEWAY));
        }
        let ports = world.host.json("get ports");
        assert_eq!(weft_tests::host::rows(&ports).len(), 2 * usize::from(EACH));
    });
}

fn ports_come_and_go_while_others_talk() {
    in_world(|world: &mut Crowd| {
        let descriptors = || {
            std::fs::read_dir(format!("/proc/{}/fd", world.host.process_id()))
                .expect("weftd runs")
                .count()
        };
        let before = descriptors();
        let file = world.host.path("plug.yaml");
        let port = TapPort::new("red", "passing", "02:00:00:00:0d:01", &["10.3.0.1"]);
        std::fs::write(&file, port.yaml(&world.space)).expect("a file");
        let ((guest_mac, guest), (container_mac, container)) = (place(1, 1), place(2, 1));
        let talk = Packet::udp(&format!("{guest}:1"), &format!("{container}:2"), b"talk");
        for _ in 0..50 {
            world.host.show(&format!("plug -f {}", file.display()));
            world.guests[0].send(&talk.frame(GATEWAY, guest_mac));
            world.containers[0].expect(&talk.hop().frame(container_mac, GATEWAY));
            world.space.run("ip link set passing up");
            let mut passing = world.space.wire("passing");
            let hello = Packet::udp(&format!("{guest}:5"), "10.3.0.1:5", b"hello");
            world.guests[0].send(&hello.frame(GATEWAY, guest_mac));
            passing.expect(&hello.hop().frame([2, 0, 0, 0, 0xd, 1], GATEWAY));
            world.host.show("unplug red-passing");
            world.guests[0].send(&talk.frame(GATEWAY, guest_mac));
            world.containers[0].expect(&talk.hop().frame(container_mac, GATEWAY));
            // Nobody has its address now.
            world.host.expect_drops("no-route", 1, || {
                world.guests[0].send(&hello.frame(GATEWAY, guest_mac))
            });
        }
        weft_tests::eventually("no descriptor is left over", || {
            (descriptors() <= before + 2).then_some(())
        });
        assert!(
            !world.space.try_run("ip link show passing").status.success(),
            "the tap is gone"
        );
    });
}
