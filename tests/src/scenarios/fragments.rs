//! Fragments of tenants' packets: by the FIB in packet mode, refused with a reason where sessions need ports.

use weft_tests::{
    container::TapPort,
    frame::{MORE_FRAGMENTS, Packet, protocol},
    lone::{GATEWAY, Lone, WEB, test_mac},
    world::in_world,
};

super::scenarios! {
    packet_mode_forwards_every_fragment_in_any_order: ["Fragments: packet mode"],
    sessions_drop_later_fragments_with_a_reason: ["Fragments: with sessions"],
}

/// Three pieces of one datagram, in order.
fn pieces(source: &str, destination: &str, v6: bool) -> Vec<Packet> {
    let whole = Packet::udp(source, destination, &[0x77; 3000]);
    let cut = [0, 1024, 2048, whole.payload.len()];
    cut.windows(2)
        .map(|range| {
            let last = range[1] == whole.payload.len();
            let mut piece = whole.clone();
            piece.payload = whole.payload[range[0]..range[1]].to_vec();
            if v6 {
                // RFC 8200, section 4.5: offset in eights of bytes, and the M flag.
                let offset = (range[0] as u16) | u16::from(!last);
                let header = [&[0, 0][..], &offset.to_be_bytes(), &[0xde, 0xad, 0xbe, 0xef]].concat();
                piece.with_extensions(&[(protocol::FRAGMENT, &header)])
            } else {
                piece.with_fragment((range[0] / 8) as u16 | if last { 0 } else { MORE_FRAGMENTS })
            }
        })
        .collect()
}

fn packet_mode_forwards_every_fragment_in_any_order() {
    in_world(|world: &mut Lone| {
        world
            .host
            .apply("kind: Vrf\nname: fast\nspec: {packet_mode: true}\n");
        let one = TapPort::new("fast", "fast1", "02:00:00:00:06:01", &["10.6.0.1", "fd00:6::1"]);
        let two = TapPort::new("fast", "fast2", "02:00:00:00:06:02", &["10.6.0.2", "fd00:6::2"]);
        let one = world.host.raw_tap(&world.guests, &one);
        let mut two = world.host.raw_tap(&world.guests, &two);
        for (source, destination, v6) in [
            ("10.6.0.1:1", "10.6.0.2:2", false),
            ("[fd00:6::1]:1", "[fd00:6::2]:2", true),
        ] {
            for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
                let pieces = pieces(source, destination, v6);
                for piece in order {
                    one.send(&pieces[piece].frame(GATEWAY, test_mac(0x601)));
                    two.expect(&pieces[piece].hop().frame(test_mac(0x602), GATEWAY));
                }
            }
        }
        assert_eq!(
            weft_tests::host::rows(&world.host.json("get flows --vrf fast --match src=10.6.0.1")).len(),
            0,
            "no sessions"
        );
        world.host.delete("port", "fast-fast1 fast-fast2");
        world.host.delete("vrf", "fast");
    });
}

fn sessions_drop_later_fragments_with_a_reason() {
    in_world(|world: &mut Lone| {
        for (source, destination, v6) in [
            ("10.0.0.1:1", "10.0.0.2:2", false),
            ("[fd00:1::1]:1", "[fd00:1::2]:2", true),
        ] {
            let pieces = pieces(source, destination, v6);
            for piece in &pieces[1..] {
                world
                    .host
                    .expect_drops("fragment", 1, || world.web.send(&piece.frame(GATEWAY, WEB)));
            }
        }
        world.app.expect_nothing();
    });
}
