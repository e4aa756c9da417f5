//! What containers and guests leave to their network card: checksums and segmentation (virtio 1.2, section 5.1.6).

use weft_tests::{
    container::TapPort,
    frame::{Mac, Packet, difference, partial_checksum, tcp},
    lone::{APP, GATEWAY, Lone, ROUTER, UPLINK, WEB, test_mac, ways},
    sys::Offload,
    world::in_world,
};

super::scenarios! {
    a_partial_checksum_is_finished_on_the_way_into_a_tunnel: ["Offloads: partial checksums"],
    a_partial_checksum_may_stay_so_towards_a_tap: ["Offloads: partial checksums"],
    a_large_segment_is_cut_on_the_way_into_a_tunnel: ["Offloads: segmentation in software"],
    a_large_segment_stays_whole_towards_a_tap: ["Offloads: segmentation by the receiver"],
    a_packet_that_may_be_fragmented_is: [],
}

const NEEDS_CHECKSUM: u8 = 1;

/// The packet with only the pseudo header's sum in its checksum, and the header that says so.
fn unfinished(packet: &Packet, at: u16) -> (Packet, Offload) {
    let mut partial = packet.clone();
    let sum = partial_checksum(packet);
    let field = usize::from(at);
    partial.payload[field..field + 2].copy_from_slice(&sum.to_be_bytes());
    let start = 14 + if packet.source.is_ipv4() { 20 } else { 40 };
    let offload = Offload {
        flags: NEEDS_CHECKSUM,
        checksum_start: start,
        checksum_offset: at,
        ..Offload::default()
    };
    (partial, offload)
}

fn packets(v4: &str, v6: &str) -> [(Packet, u16); 4] {
    let data = [0xc3; 333];
    [
        (Packet::udp("10.0.0.1:9000", &format!("{v4}:1"), &data), 6),
        (Packet::udp("[fd00:1::1]:9000", &format!("[{v6}]:1"), &data), 6),
        (
            Packet::tcp("10.0.0.1:9001", &format!("{v4}:1"), tcp::ACK, &data),
            16,
        ),
        (
            Packet::tcp("[fd00:1::1]:9001", &format!("[{v6}]:1"), tcp::ACK, &data),
            16,
        ),
    ]
}

fn a_partial_checksum_is_finished_on_the_way_into_a_tunnel() {
    in_world(|world: &mut Lone| {
        for way in ways() {
            for (whole, at) in packets(&way.inner(false), &way.inner(true)) {
                let (partial, offload) = unfinished(&whole, at);
                world.web.send_offloaded(&partial.frame(GATEWAY, WEB), offload);
                let sent = world.router.receive();
                let expected = way.outgoing(&whole.hop(), &sent).frame(ROUTER, UPLINK);
                assert!(sent == expected, "{}\n{}", way.name, difference(&expected, &sent));
            }
        }
    });
}

fn a_partial_checksum_may_stay_so_towards_a_tap() {
    in_world(|world: &mut Lone| {
        for (whole, at) in packets("10.0.0.2", "fd00:1::2") {
            let (partial, offload) = unfinished(&whole, at);
            world.web.send_offloaded(&partial.frame(GATEWAY, WEB), offload);
            let received = world.app.receive_with_offload();
            let finished = received.offload.flags & NEEDS_CHECKSUM == 0;
            let expected = if finished { whole.hop() } else { partial.hop() }.frame(APP, GATEWAY);
            assert!(
                received.bytes == expected,
                "{}",
                difference(&expected, &received.bytes)
            );
            if !finished {
                assert_eq!(received.offload.checksum_start, offload.checksum_start);
                assert_eq!(received.offload.checksum_offset, at);
            }
        }
    });
}

/// A TCP packet too large for any frame, and the header with which a kernel sends it.
fn large(source: &str, destination: &str, size: u16) -> (Packet, Offload) {
    let data: Vec<u8> = (0..9000_u32).map(|number| (number % 251) as u8).collect();
    let whole = Packet::tcp(source, destination, tcp::ACK | tcp::FIN, &data);
    let (partial, offload) = unfinished(&whole, 16);
    let v4 = whole.source.is_ipv4();
    let offload = Offload {
        segmentation: if v4 { 1 } else { 4 },
        segment_size: size,
        header_length: offload.checksum_start + 20,
        ..offload
    };
    (partial, offload)
}

/// RFC 9293 by hand: sequence numbers go on, FIN is the last one's, each has its own identification and checksum.
fn segments(source: &str, destination: &str, whole: &Packet, size: usize) -> Vec<Packet> {
    let data = &whole.payload[20..];
    let count = data.len().div_ceil(size);
    data.chunks(size)
        .enumerate()
        .map(|(number, piece)| {
            let flags = if number + 1 == count {
                tcp::ACK | tcp::FIN
            } else {
                tcp::ACK
            };
            let sequence = 1000 + (number * size) as u32;
            let mut segment = Packet::tcp_at(source, destination, flags, sequence, piece);
            if whole.source.is_ipv4() {
                segment.identification = whole.identification.wrapping_add(number as u16);
            }
            segment
        })
        .collect()
}

fn a_large_segment_is_cut_on_the_way_into_a_tunnel() {
    in_world(|world: &mut Lone| {
        for way in ways() {
            for (source, destination) in [
                ("10.0.0.1:9100".to_owned(), format!("{}:1", way.inner(false))),
                ("[fd00:1::1]:9100".to_owned(), format!("[{}]:1", way.inner(true))),
            ] {
                let (partial, offload) = large(&source, &destination, 1400);
                world.web.send_offloaded(&partial.frame(GATEWAY, WEB), offload);
                for segment in segments(&source, &destination, &partial, 1400) {
                    let sent = world.router.receive();
                    let expected = way.outgoing(&segment.hop(), &sent).frame(ROUTER, UPLINK);
                    assert!(sent == expected, "{}\n{}", way.name, difference(&expected, &sent));
                }
            }
        }
        world.router.expect_nothing();
    });
}

fn a_large_segment_stays_whole_towards_a_tap() {
    in_world(|world: &mut Lone| {
        for (source, destination) in [
            ("10.0.0.1:9200", "10.0.0.2:1"),
            ("[fd00:1::1]:9200", "[fd00:1::2]:1"),
        ] {
            let (partial, offload) = large(source, destination, 1400);
            world.web.send_offloaded(&partial.frame(GATEWAY, WEB), offload);
            let received = world.app.receive_with_offload();
            let expected = partial.hop().frame(APP, GATEWAY);
            assert!(
                received.bytes == expected,
                "{}",
                difference(&expected, &received.bytes)
            );
            assert_eq!(received.offload.segmentation, offload.segmentation);
            assert_eq!(received.offload.segment_size, 1400);
            assert_eq!(received.offload.flags & NEEDS_CHECKSUM, NEEDS_CHECKSUM);
        }
        world.app.expect_nothing();
    });
}

fn a_packet_that_may_be_fragmented_is() {
    in_world(|world: &mut Lone| {
        let mut port = TapPort::new("red", "narrow", "02:00:00:00:05:02", &["10.0.0.51"]);
        port.mtu = 800;
        let mut narrow = world.host.raw_tap(&world.guests, &port);
        let narrow_mac: Mac = test_mac(0x502);
        let packet = Packet::udp("10.0.0.1:9300", "10.0.0.51:1", &[0x3c; 1400]);
        world.web.send(&packet.frame(GATEWAY, WEB));
        // RFC 791: pieces of a multiple of eight bytes, as large as the link takes.
        let mut offset = 0;
        while offset < packet.payload.len() {
            let end = (offset + 776).min(packet.payload.len());
            let more = if end < packet.payload.len() {
                weft_tests::frame::MORE_FRAGMENTS
            } else {
                0
            };
            let mut piece = packet.hop().with_fragment((offset / 8) as u16 | more);
            piece.payload = packet.payload[offset..end].to_vec();
            narrow.expect(&piece.frame(narrow_mac, GATEWAY));
            offset = end;
        }
        world.host.delete("port", "red-narrow");
    });
}
