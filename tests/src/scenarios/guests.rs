//! Real virtual machines: Linux in QEMU, virtio-net over vhost-user.

use weft_tests::{
    container::{Container, TapPort},
    guest::{Guest, Settings as GuestSettings},
    host::{Host, Settings, run_directory},
    lone::tenants,
    world::{World, in_world},
};

super::scenarios! {
    two_guests_and_a_container_reach_each_other: ["Operations: real guests over vhost-user"],
    a_guest_and_a_container_run_tcp_at_speed: ["Operations: real guests over vhost-user"],
    guests_outlive_a_killed_weftd: ["Operations: weftd killed with guests and containers"],
    a_guest_killed_in_mid_flight_harms_nobody: ["Hostile input: a guest killed in mid-flight"],
}

struct Machines {
    host: Host,
    guests: [Guest; 2],
    container: Container,
}

impl World for Machines {
    fn build() -> Self {
        let mut host = Host::new("vm", &Settings::default());
        // They boot while weftd starts.
        let mut guests = [1, 2].map(|number| {
            Guest::start(
                &run_directory(),
                &GuestSettings {
                    name: format!("g{number}"),
                    mac: format!("02:00:00:00:01:0{number}"),
                    addresses: vec![format!("10.0.0.{number}/24"), format!("fd00:1::{number}/64")],
                    gateways: vec!["10.0.0.254".to_owned(), "fd00:1::fe".to_owned()],
                },
            )
        });
        host.start();
        host.apply(&tenants());
        for (number, guest) in (1..).zip(&mut guests) {
            guest.wait_for_socket();
            host.apply(&format!(
                "kind: Port\nname: vm-{number}\nspec: {{vhost_user: {{socket: {}}}, vrf: red, \
                 mac: \"02:00:00:00:01:0{number}\", addresses: [10.0.0.{number}, \"fd00:1::{number}\"]}}\n",
                guest.socket().display()
            ));
        }
        let port = TapPort::new("red", "web", "02:00:00:00:01:09", &["10.0.0.9", "fd00:1::9"]);
        let container = host.container(&port, &["10.0.0.254", "fd00:1::fe"]);
        let mut world = Machines {
            host,
            guests,
            container,
        };
        for guest in &mut world.guests {
            guest.wait_until_ready();
        }
        world
    }

    fn hosts(&mut self) -> Vec<&mut Host> {
        vec![&mut self.host]
    }
}

fn two_guests_and_a_container_reach_each_other() {
    in_world(|world: &mut Machines| {
        for target in [
            "10.0.0.2",
            "fd00:1::2",
            "10.0.0.9",
            "fd00:1::9",
            "10.0.0.254",
            "fd00:1::fe",
        ] {
            assert_eq!(world.guests[0].ping(target, 3), 3, "guest 1 to {target}");
        }
        for target in ["10.0.0.1", "fd00:1::1", "10.0.0.2", "fd00:1::2"] {
            assert_eq!(world.container.ping(target, 5), 5, "container to {target}");
        }
        // Packets of every size, with the checksums that virtio leaves to others.
        let (status, text) = world.guests[0].run("ping -c 3 -s 1472 10.0.0.9");
        assert_eq!(status, 0, "{text}");
        assert_eq!(world.guests[0].ping("10.0.0.77", 1), 0, "nobody is there");
    });
}

fn a_guest_and_a_container_run_tcp_at_speed() {
    in_world(|world: &mut Machines| {
        // The guest serves iperf3; segmentation offload runs both ways.
        for (target, arguments) in [
            ("10.0.0.1", "--time 3"),
            ("10.0.0.1", "--time 3 --reverse"),
            ("fd00:1::1", "--time 3"),
        ] {
            let rate = world.container.iperf(target, arguments);
            let rate = rate.unwrap_or_else(|error| panic!("iperf3 to {target} {arguments}: {error}"));
            assert!(rate > 0.0, "{rate} Mbit/s to {target} {arguments}");
        }
    });
}

fn guests_outlive_a_killed_weftd() {
    in_world(|world: &mut Machines| {
        assert_eq!(world.guests[0].ping("10.0.0.2", 3), 3);
        world.host.kill();
        world.host.start();
        for guest in &mut world.guests {
            assert!(guest.is_running(), "QEMU is still there");
        }
        weft_tests::eventually("the guests talk again", || {
            (world.guests[0].ping("10.0.0.2", 1) == 1).then_some(())
        });
        assert_eq!(world.guests[0].ping("fd00:1::2", 5), 5);
        world.container.configure();
        assert_eq!(world.container.ping("10.0.0.2", 5), 5);
    });
}

fn a_guest_killed_in_mid_flight_harms_nobody() {
    in_world(|world: &mut Machines| {
        let flood = world
            .container
            .namespace
            .background("ping -n -q -f -s 1400 10.0.0.2");
        assert!(
            world.guests[1].ping("10.0.0.1", 3) > 0,
            "the flooded guest is alive"
        );
        world.guests[1].kill();
        assert_eq!(world.guests[0].ping("10.0.0.9", 5), 5, "the other guest goes on");
        drop(flood);
        assert!(
            world.host.dropped("port-down") > 0,
            "what went to the dead guest is counted: {:?}",
            world.host.drops()
        );
        // This world's second guest is no more.
        let name = world.host.show("get ports vm-2");
        assert!(name.contains("vm-2"), "{name}");
    });
}
