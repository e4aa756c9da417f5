//! Policies that reject: whose packet is not let through is told so, by a TCP reset or an ICMP error.

use weft_tests::{
    frame::{DONT_FRAGMENT, MORE_FRAGMENTS, Packet, tcp},
    lone::{GATEWAY, Lone, ROUTER, UPLINK, WEB, ways},
    world::in_world,
};

use super::policy::{ADDRESSES, clean, define, give, socket, syn, to_app, to_web, udp};

super::scenarios! {
    who_is_rejected_is_told: [],
    a_session_that_is_rejected_later_is_reset_where_it_stands: [],
    what_comes_out_of_a_tunnel_is_answered_through_it: [],
    resets_errors_and_fragments_are_rejected_without_a_word: [],
}

const GUARD: &str = "guard";
const REJECTED: &str = "policy-rejected";

/// As the vRouter sends it: a packet of its own, that is never fragmented.
fn answer(packet: Packet) -> Packet {
    match packet.source.is_ipv4() {
        true => packet.with_identification(0).with_fragment(DONT_FRAGMENT),
        false => packet,
    }
}

/// A reset from whom the refused segment was for.
pub(super) fn reset(of: (&str, u16), to: (&str, u16), flags: u8, sequence: u32, acknowledged: u32) -> Packet {
    let (from, to) = (socket(of.0, of.1), socket(to.0, to.1));
    answer(Packet::reset(&from, &to, flags, sequence, acknowledged))
}

fn prohibited(refused: &Packet) -> Packet {
    error(refused, Packet::prohibited)
}

/// An error from whom the refused packet was for, that quotes so many bytes of it at most.
pub(super) fn error(refused: &Packet, says: fn(&str, &str, &[u8]) -> Packet) -> Packet {
    let bytes = refused.bytes();
    let (class, quoted) = match refused.source.is_ipv4() {
        true => (0xc0, 576 - 28),
        false => (0, 1280 - 48),
    };
    let error = says(
        &refused.destination.to_string(),
        &refused.source.to_string(),
        &bytes[..bytes.len().min(quoted)],
    );
    answer(error.with_traffic_class(class))
}

/// Web's packet is dropped as rejected, and this is what it hears of it.
fn web_hears(world: &mut Lone, refused: &Packet, expected: &Packet) {
    let frame = refused.frame(GATEWAY, WEB);
    world.host.expect_drops(REJECTED, 1, || world.web.send(&frame));
    world.web.expect(&expected.frame(WEB, GATEWAY));
    world.app.expect_nothing();
}

fn who_is_rejected_is_told() {
    in_world(|world: &mut Lone| {
        define(
            world,
            GUARD,
            &[
                "name: rejects, direction: ingress, action: reject, protocol: tcp, destination_ports: [{first: 80}]",
                "direction: ingress, action: deny, protocol: tcp",
            ],
            "default_ingress: reject, default_egress: allow",
        );
        give(world, "app", &[GUARD]);
        for (web, app) in ADDRESSES {
            let (from, to) = ((web, 4000), (app, 80));
            // RFC 9293, section 3.5.2: what has no acknowledgment is acknowledged, else that says where to go on.
            web_hears(
                world,
                &syn(from, to),
                &reset(to, from, tcp::RST | tcp::ACK, 0, 1001),
            );
            let data = |flags| Packet::tcp(&socket(web, 4000), &socket(app, 80), flags, b"twelve bytes");
            web_hears(world, &data(tcp::ACK), &reset(to, from, tcp::RST, 2000, 0));
            web_hears(
                world,
                &data(tcp::SYN),
                &reset(to, from, tcp::RST | tcp::ACK, 0, 1013),
            );
            for packet in [
                udp((web, 1), (app, 53)),
                Packet::echo_request(web, app, 7, 1),
                Packet::sctp(&socket(web, 1), &socket(app, 80), b"data"),
                Packet::udp(&socket(web, 1), &socket(app, 53), &[7; 1400]),
            ] {
                web_hears(world, &packet, &prohibited(&packet));
            }
            // Deny says nothing.
            let denied = syn((web, 4000), (app, 81)).frame(GATEWAY, WEB);
            world
                .host
                .expect_drops("policy-denied", 1, || world.web.send(&denied));
            world.web.expect_nothing();
        }
        let hits = world.host.show("describe policy guard");
        let row = hits.lines().find(|line| line.contains("rejects"));
        assert!(
            row.is_some_and(|row| row.contains("reject ") && row.trim_end().ends_with('6')),
            "{hits}"
        );
        // What it sends itself is judged by the same action.
        define(
            world,
            GUARD,
            &[],
            "default_ingress: allow, default_egress: reject",
        );
        give(world, "app", &[]);
        give(world, "web", &[GUARD]);
        for (web, app) in ADDRESSES {
            let packet = udp((web, 1), (app, 53));
            web_hears(world, &packet, &prohibited(&packet));
        }
        clean(world, &[GUARD]);
    });
}

fn a_session_that_is_rejected_later_is_reset_where_it_stands() {
    in_world(|world: &mut Lone| {
        define(world, GUARD, &[], "default_ingress: allow, default_egress: allow");
        give(world, "app", &[GUARD]);
        let (web, app) = ADDRESSES[0];
        let segment = |from, to, flags, sequence| {
            Packet::tcp_at(&socket(from, 4000), &socket(to, 4000), flags, sequence, b"data")
        };
        to_app(world, &segment(web, app, tcp::SYN, 1000));
        to_web(world, &segment(app, web, tcp::SYN | tcp::ACK, 5000));
        define(
            world,
            GUARD,
            &[],
            "default_ingress: reject, default_egress: allow",
        );
        let more = segment(web, app, tcp::ACK, 1001);
        web_hears(world, &more, &reset((app, 4000), (web, 4000), tcp::RST, 2000, 0));
        clean(world, &[GUARD]);
    });
}

fn what_comes_out_of_a_tunnel_is_answered_through_it() {
    in_world(|world: &mut Lone| {
        define(
            world,
            GUARD,
            &[],
            "default_ingress: reject, default_egress: allow",
        );
        give(world, "web", &[GUARD]);
        for way in ways() {
            for (v6, web) in [(false, "10.0.0.1"), (true, "fd00:1::1")] {
                let refused = udp((&way.inner(v6), 1), (web, 53));
                world
                    .host
                    .expect_drops(REJECTED, 1, || world.router.send(&way.incoming(&refused)));
                let sent = world.router.receive();
                let expected = way.outgoing(&prohibited(&refused), &sent).frame(ROUTER, UPLINK);
                assert_eq!(sent, expected, "{}", way.name);
                world.web.expect_nothing();
            }
        }
        clean(world, &[GUARD]);
    });
}

fn resets_errors_and_fragments_are_rejected_without_a_word() {
    in_world(|world: &mut Lone| {
        define(
            world,
            GUARD,
            &[],
            "default_ingress: reject, default_egress: allow",
        );
        give(world, "app", &[GUARD]);
        for (web, app) in ADDRESSES {
            let quoted = udp((app, 1), (web, 1)).bytes();
            let mut packets = vec![
                Packet::tcp(&socket(web, 1), &socket(app, 2), tcp::RST, b""),
                Packet::unreachable(web, app, &quoted),
            ];
            if !web.contains(':') {
                // Of all but the last the length is a multiple of eight.
                let first = Packet::udp(&socket(web, 1), &socket(app, 53), b"8 bytes.");
                packets.push(first.with_fragment(MORE_FRAGMENTS));
            }
            for packet in packets {
                let frame = packet.frame(GATEWAY, WEB);
                world.host.expect_drops(REJECTED, 1, || world.web.send(&frame));
                world.web.expect_nothing();
            }
        }
        clean(world, &[GUARD]);
    });
}
