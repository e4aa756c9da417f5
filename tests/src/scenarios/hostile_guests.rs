//! Guests that break the rules of virtio. They may harm themselves; nobody else may notice.

use std::{
    os::unix::net::{UnixListener, UnixStream},
    time::Duration,
};

use weft_tests::{
    frame::Packet,
    lone::{APP, GATEWAY, Lone, WEB, test_mac},
    sys::Offload,
    vhost::{
        BUFFER, Descriptor, FrontEnd, OFFLOADING, PLAIN, RECEIVE, RING_SIZE, TRANSMIT, buffer_address,
        descriptor,
    },
    world::in_world,
};

super::scenarios! {
    a_front_end_of_the_tests_is_a_guest_like_any_other: [],
    rings_that_lie_harm_nobody_else: ["Hostile input: vhost peers that lie about rings"],
    lengths_that_lie_harm_nobody_else: ["Hostile input: vhost peers that lie about lengths"],
    offloads_that_lie_are_dropped_by_name: ["Hostile input: vhost peers that lie about csum_start"],
    a_guest_that_stops_polling_fills_its_own_ring_only: ["Hostile input: a guest that stops polling"],
    a_guest_killed_in_mid_flight_can_come_back: ["Hostile input: a guest killed in mid-flight"],
    a_socket_survives_a_thousand_connections: ["Hostile input: sockets reconnected a thousand times"],
}

/// Breaks a rule of the ring, given a descriptor that is right.
type Lie = fn(&mut FrontEnd, Descriptor);

const NAME: &str = "evil";
const ADDRESS: &str = "10.0.0.66";

/// A port for a hostile guest, weftd being the client.
struct Port {
    listener: UnixListener,
}

impl Port {
    fn new(world: &Lone) -> Self {
        let path = world.host.path("evil.vhost");
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).expect("a socket");
        world.host.apply(&format!(
            "kind: Port\nname: {NAME}\nspec: {{vhost_user: {{socket: {}}}, vrf: red, mac: \"02:00:00:00:0a:66\", \
             addresses: [{ADDRESS}]}}\n",
            path.display()
        ));
        Port { listener }
    }

    fn guest(&self, features: u64) -> FrontEnd {
        FrontEnd::accept(&self.listener, features).expect("weftd connects")
    }

    fn end(self, world: &Lone) {
        world.host.delete("port", NAME);
    }
}

fn to_web() -> Packet {
    Packet::udp("10.0.0.66:1", "10.0.0.1:1", b"from the guest")
}

fn honest(world: &mut Lone, guest: &mut FrontEnd) {
    guest.send(&to_web().frame(GATEWAY, test_mac(0xa66)));
    world.web.expect(&to_web().hop().frame(WEB, GATEWAY));
    let packet = Packet::udp("10.0.0.1:1", "10.0.0.66:1", b"to the guest");
    world.web.send(&packet.frame(GATEWAY, WEB));
    guest.expect(&packet.hop().frame(test_mac(0xa66), GATEWAY));
}

fn others_notice_nothing(world: &mut Lone) {
    let packet = Packet::udp("10.0.0.1:1", "10.0.0.2:1", b"undisturbed");
    for _ in 0..3 {
        world.web.send(&packet.frame(GATEWAY, WEB));
        world.app.expect(&packet.hop().frame(APP, GATEWAY));
    }
}

fn a_front_end_of_the_tests_is_a_guest_like_any_other() {
    in_world(|world: &mut Lone| {
        let port = Port::new(world);
        for features in [PLAIN, OFFLOADING] {
            let mut guest = port.guest(features);
            assert_eq!(guest.features & features, features, "weftd offers what it needs");
            for _ in 0..200 {
                honest(world, &mut guest);
            }
        }
        port.end(world);
    });
}

fn rings_that_lie_harm_nobody_else() {
    in_world(|world: &mut Lone| {
        let port = Port::new(world);
        let good = |slot: u16| Descriptor {
            address: buffer_address(TRANSMIT, slot),
            length: 64,
            flags: 0,
            next: 0,
        };
        let lies: [(&str, Lie); 8] = [
            ("the available index runs far ahead", |guest, _| {
                guest.announce(TRANSMIT, 50_000)
            }),
            ("the available index runs backwards", |guest, _| {
                guest.announce(TRANSMIT, 0xffff)
            }),
            ("a descriptor beyond the ring", |guest, _| {
                guest.offer(TRANSMIT, RING_SIZE + 1)
            }),
            ("the last descriptor number of all", |guest, _| {
                guest.offer(TRANSMIT, 0xffff)
            }),
            ("a chain that bites its tail", |guest, entry| {
                guest.write_descriptor(
                    TRANSMIT,
                    0,
                    Descriptor {
                        flags: descriptor::NEXT,
                        next: 1,
                        ..entry
                    },
                );
                guest.write_descriptor(
                    TRANSMIT,
                    1,
                    Descriptor {
                        flags: descriptor::NEXT,
                        next: 0,
                        ..entry
                    },
                );
                guest.offer(TRANSMIT, 0);
            }),
            ("a chain out of the ring", |guest, entry| {
                guest.write_descriptor(
                    TRANSMIT,
                    0,
                    Descriptor {
                        flags: descriptor::NEXT,
                        next: 9999,
                        ..entry
                    },
                );
                guest.offer(TRANSMIT, 0);
            }),
            ("an indirect table that was not agreed upon", |guest, entry| {
                guest.write_descriptor(
                    TRANSMIT,
                    0,
                    Descriptor {
                        flags: descriptor::INDIRECT,
                        length: 17,
                        ..entry
                    },
                );
                guest.offer(TRANSMIT, 0);
            }),
            (
                "a receive buffer that is read-only and nowhere",
                |guest, entry| {
                    for slot in 0..RING_SIZE {
                        let wild = Descriptor {
                            address: u64::MAX - 100,
                            length: BUFFER,
                            flags: 0,
                            ..entry
                        };
                        guest.write_descriptor(RECEIVE, slot, wild);
                    }
                    guest.announce(RECEIVE, 40_000);
                },
            ),
        ];
        for (what, lie) in lies {
            let mut guest = port.guest(PLAIN);
            honest(world, &mut guest);
            lie(&mut guest, good(0));
            // Packets to the liar as well: his receive ring is used.
            let packet = Packet::udp("10.0.0.1:1", "10.0.0.66:1", b"to the guest");
            for _ in 0..5 {
                world.web.send(&packet.frame(GATEWAY, WEB));
            }
            others_notice_nothing(world);
            assert!(world.host.is_running(), "{what}");
            drop(guest);
            world.web.clear();
        }
        // The port itself is as good as new.
        let mut guest = port.guest(PLAIN);
        honest(world, &mut guest);
        port.end(world);
    });
}

fn lengths_that_lie_harm_nobody_else() {
    in_world(|world: &mut Lone| {
        let port = Port::new(world);
        let mut guest = port.guest(PLAIN);
        honest(world, &mut guest);
        let frame = to_web().frame(GATEWAY, test_mac(0xa66));
        for slot in 0..4 {
            guest.write_bytes(buffer_address(TRANSMIT, slot), &[&[0; 12][..], &frame].concat());
        }
        for (address, length) in [
            (buffer_address(TRANSMIT, 0), 0),
            (buffer_address(TRANSMIT, 0), 1),
            (buffer_address(TRANSMIT, 0), 11),
            (buffer_address(TRANSMIT, 0), 12),
            (buffer_address(TRANSMIT, 0), 13),
            (buffer_address(TRANSMIT, 0), 25),
            (buffer_address(TRANSMIT, 0), 26),
            (buffer_address(TRANSMIT, 0), 60),
            (buffer_address(TRANSMIT, 0), u32::MAX),
            (buffer_address(TRANSMIT, 0), 0x4_0000),
            (u64::MAX - 10, 100),
            (0x7fff_ffff_0000, 1500),
        ] {
            guest.write_descriptor(
                TRANSMIT,
                0,
                Descriptor {
                    address,
                    length,
                    flags: 0,
                    next: 0,
                },
            );
            guest.offer(TRANSMIT, 0);
            others_notice_nothing(world);
        }
        world.web.expect_nothing();
        // A chain whose pieces are as many as the ring is long: 64 times 2,048 bytes and no honest frame.
        let mut guest = {
            drop(guest);
            port.guest(PLAIN)
        };
        for slot in 0..RING_SIZE {
            let last = slot + 1 == RING_SIZE;
            let flags = if last { 0 } else { descriptor::NEXT };
            let entry = Descriptor {
                address: buffer_address(TRANSMIT, slot),
                length: BUFFER,
                flags,
                next: slot + 1,
            };
            guest.write_descriptor(TRANSMIT, slot, entry);
        }
        guest.write_bytes(buffer_address(TRANSMIT, 0), &[&[0; 12][..], &frame].concat());
        guest.offer(TRANSMIT, 0);
        others_notice_nothing(world);
        drop(guest);
        let mut guest = port.guest(PLAIN);
        honest(world, &mut guest);
        port.end(world);
    });
}

fn offloads_that_lie_are_dropped_by_name() {
    in_world(|world: &mut Lone| {
        let port = Port::new(world);
        let mut guest = port.guest(OFFLOADING);
        honest(world, &mut guest);
        let tcp = Packet::tcp(
            "10.0.0.66:1",
            "10.0.0.1:1",
            weft_tests::frame::tcp::ACK,
            &[1; 1000],
        );
        let tcp = tcp.frame(GATEWAY, test_mac(0xa66));
        let udp = to_web().frame(GATEWAY, test_mac(0xa66));
        let sum = |start, offset| Offload {
            flags: 1,
            checksum_start: start,
            checksum_offset: offset,
            ..Offload::default()
        };
        let cut = |size, header| Offload {
            flags: 1,
            segmentation: 1,
            segment_size: size,
            header_length: header,
            checksum_start: 34,
            checksum_offset: 16,
        };
        for (frame, offload) in [
            (&udp, sum(0xffff, 6)),
            (&udp, sum(34, 0xffff)),
            (&udp, sum(udp.len() as u16, 0)),
            (&udp, sum(udp.len() as u16 - 1, 1)),
            (&udp, sum(0, 0)),
            (&udp, sum(14, 10)),
            (&tcp, cut(0, 54)),
            (&udp, cut(100, 54)),
            (
                &tcp,
                Offload {
                    segmentation: 4,
                    ..cut(100, 54)
                },
            ),
            (
                &tcp,
                Offload {
                    segmentation: 0x7f,
                    ..cut(100, 54)
                },
            ),
            (
                &tcp,
                Offload {
                    checksum_start: 0xfff0,
                    ..cut(100, 54)
                },
            ),
        ] {
            let before = world.host.drops();
            guest.send_offloaded(frame, offload);
            // Dropped by name, or taken for what the packet itself says; never sent on as the lie has it.
            let dropped = weft_tests::within(Duration::from_secs(2), || {
                (world.host.drops() != before).then_some(true).or_else(|| {
                    world.web.next(Duration::ZERO).map(|received| {
                        let length = received.bytes.len();
                        assert!(
                            usize::from(received.offload.checksum_start) < length,
                            "{received:?}"
                        );
                        false
                    })
                })
            });
            let grown: Vec<String> = world
                .host
                .drops()
                .into_iter()
                .filter(|(reason, packets)| before.get(reason).unwrap_or(&0) < packets)
                .map(|(reason, _)| reason)
                .collect();
            match dropped {
                Some(true) => {
                    assert!(
                        grown
                            .iter()
                            .all(|reason| ["bad-offload", "malformed"].contains(&&**reason)),
                        "{offload:?}: {grown:?}"
                    );
                }
                Some(false) => {}
                None => panic!("{offload:?} has vanished"),
            }
            others_notice_nothing(world);
        }
        world.web.clear();
        honest(world, &mut guest);
        port.end(world);
    });
}

fn a_guest_that_stops_polling_fills_its_own_ring_only() {
    in_world(|world: &mut Lone| {
        let port = Port::new(world);
        let mut guest = port.guest(PLAIN);
        honest(world, &mut guest);
        // The ring has 64 free buffers, and nobody gives them back.
        let packet = Packet::udp("10.0.0.1:1", "10.0.0.66:1", b"unread");
        let lost = |world: &Lone| world.host.dropped("transmit-full") + world.host.dropped("port-down");
        let before = lost(world);
        for _ in 0..200 {
            world.web.send(&packet.frame(GATEWAY, WEB));
        }
        weft_tests::eventually("what does not fit is counted", || {
            (lost(world) == before + 200 - u64::from(RING_SIZE)).then_some(())
        });
        // A guest that has come just now may still be counted as away; soon it is a full ring.
        weft_tests::eventually("a full ring is called a full ring", || {
            let before = world.host.dropped("transmit-full");
            let sum = lost(world);
            world.web.send(&packet.frame(GATEWAY, WEB));
            weft_tests::eventually("the packet is counted", || (lost(world) == sum + 1).then_some(()));
            (world.host.dropped("transmit-full") == before + 1).then_some(())
        });
        others_notice_nothing(world);
        for _ in 0..RING_SIZE {
            guest.expect(&packet.hop().frame(test_mac(0xa66), GATEWAY));
        }
        honest(world, &mut guest);
        // Both rings off: packets to it end by name.
        guest.enable(RECEIVE, false);
        guest.enable(TRANSMIT, false);
        let drops: u64 = world.host.drops().values().sum();
        world.web.send(&packet.frame(GATEWAY, WEB));
        weft_tests::eventually("a packet to a switched-off guest is counted", || {
            (world.host.drops().values().sum::<u64>() == drops + 1).then_some(())
        });
        others_notice_nothing(world);
        port.end(world);
    });
}

fn a_guest_killed_in_mid_flight_can_come_back() {
    in_world(|world: &mut Lone| {
        let port = Port::new(world);
        let packet = Packet::udp("10.0.0.1:1", "10.0.0.66:1", b"in flight");
        for _ in 0..20 {
            let mut guest = port.guest(PLAIN);
            honest(world, &mut guest);
            // Both ways are busy when it goes.
            for _ in 0..30 {
                world.web.send(&packet.frame(GATEWAY, WEB));
            }
            guest.send(&to_web().frame(GATEWAY, test_mac(0xa66)));
            drop(guest);
            others_notice_nothing(world);
            world.web.clear();
        }
        weft_tests::eventually("packets to nobody are counted", || {
            let before = world.host.dropped("port-down");
            world.web.send(&packet.frame(GATEWAY, WEB));
            weft_tests::within(Duration::from_millis(300), || {
                (world.host.dropped("port-down") > before).then_some(())
            })
        });
        port.end(world);
    });
}

fn a_socket_survives_a_thousand_connections() {
    in_world(|world: &mut Lone| {
        // weftd as the server, since its client waits a second before it tries again.
        let path = world.host.path("server.vhost");
        world.host.apply(&format!(
            "kind: Port\nname: {NAME}\nspec: {{vhost_user: {{socket: {}, server: true}}, vrf: red, \
             mac: \"02:00:00:00:0a:66\", addresses: [{ADDRESS}]}}\n",
            path.display()
        ));
        let descriptors = open_descriptors(world.host.process_id());
        for round in 0..1000 {
            match round % 4 {
                // Gone before a word.
                0 => drop(UnixStream::connect(&path).expect("weftd listens")),
                // Gone in the middle of a word.
                1 => {
                    let mut stream = UnixStream::connect(&path).expect("weftd listens");
                    let _ = std::io::Write::write_all(&mut stream, &[1, 0, 0, 0, 1]);
                }
                _ => drop(FrontEnd::connect(&path, PLAIN).expect("weftd answers")),
            }
        }
        let mut guest = FrontEnd::connect(&path, PLAIN).expect("weftd answers");
        honest(world, &mut guest);
        others_notice_nothing(world);
        drop(guest);
        weft_tests::eventually("no descriptor is left over", || {
            (open_descriptors(world.host.process_id()) <= descriptors + 2).then_some(())
        });
        world.host.delete("port", NAME);
        assert!(!path.exists(), "weftd takes its socket away");
    });
}

fn open_descriptors(process: u32) -> usize {
    std::fs::read_dir(format!("/proc/{process}/fd"))
        .expect("weftd runs")
        .count()
}
