//! Frames from the wild: real protocols, and those that crashed parsers before (tests/data).

use std::{fs, path::Path};

use weft_tests::{
    frame::Packet,
    lone::{APP, GATEWAY, Lone, WEB},
    world::in_world,
};

super::scenarios! {
    captures_from_a_tenant_disturb_nobody: ["Hostile input: real-world and malformed captures"],
    captures_from_the_underlay_disturb_nobody: ["Hostile input: real-world and malformed captures"],
    captures_with_our_macs_disturb_nobody: ["Hostile input: real-world and malformed captures"],
    a_capture_file_is_a_port: ["Hostile input: real-world and malformed captures"],
}

const CAPTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/tcpdump.pcap");

/// The frames of a little-endian pcap file.
fn frames() -> Vec<Vec<u8>> {
    let file = fs::read(Path::new(CAPTURE)).expect("tests/data/tcpdump.pcap");
    let mut rest = &file[24..];
    let mut frames = Vec::new();
    while rest.len() > 16 {
        let length = u32::from_le_bytes(rest[8..12].try_into().expect("four bytes")) as usize;
        frames.push(rest[16..16 + length].to_vec());
        rest = &rest[16 + length..];
    }
    assert_eq!(frames.len(), 1551, "the whole capture");
    frames
}

/// Plays the frames; whatever comes out, none of it may come out at blue, and weftd goes on.
fn play(world: &mut Lone, from_tenant: bool, change: impl Fn(Vec<u8>) -> Vec<u8>) {
    let before = world.host.balance();
    let mut sent = 0;
    for (number, frame) in frames().into_iter().enumerate() {
        let wire = if from_tenant { &world.web } else { &world.router };
        // The packet sockets of an af_packet uplink put IPv4 fragments together by themselves, or wait for the rest.
        let kept = !from_tenant && is_fragment(&frame);
        sent += u64::from(wire.try_send(&change(frame)) && !kept);
        if number % 100 == 0 {
            sent += pass(world);
        }
    }
    sent += pass(world);
    weft_tests::eventually("weftd has taken every frame", || {
        (world.host.balance().received >= before.received + sent).then_some(())
    });
    world.blue.expect_nothing();
}

/// A packet from red to red: what was sent before it has been taken, and weftd goes on. How many it took.
fn pass(world: &mut Lone) -> u64 {
    let packet = Packet::udp("10.0.0.1:1", "10.0.0.2:1", b"as before");
    let (there, here) = (packet.frame(GATEWAY, WEB), packet.hop().frame(APP, GATEWAY));
    let mut sent = 0;
    weft_tests::eventually("a packet passes as before", || {
        for wire in [&mut world.web, &mut world.router] {
            wire.clear();
        }
        world.web.send(&there);
        sent += 1;
        let arrived = world.app.drain(std::time::Duration::from_millis(20));
        arrived.contains(&here).then_some(())
    });
    sent
}

fn is_fragment(frame: &[u8]) -> bool {
    frame.get(12..14) == Some(&[8, 0])
        && frame
            .get(20..22)
            .is_some_and(|field| field[0] & 0x3f | field[1] != 0)
}

fn captures_from_a_tenant_disturb_nobody() {
    in_world(|world: &mut Lone| play(world, true, |frame| frame));
}

fn captures_from_the_underlay_disturb_nobody() {
    in_world(|world: &mut Lone| play(world, false, |frame| frame));
}

fn captures_with_our_macs_disturb_nobody() {
    in_world(|world: &mut Lone| {
        // Addressed to the router's MAC, so that they get beyond the first check.
        let to = |mac: [u8; 6]| move |frame: Vec<u8>| [&mac[..], &frame[6..]].concat();
        play(world, true, to(GATEWAY));
        play(world, false, to(weft_tests::lone::UPLINK));
    });
}

fn a_capture_file_is_a_port() {
    in_world(|world: &mut Lone| {
        let before = world.host.balance();
        world.host.apply(&format!(
            "kind: Port\nname: replay\nspec: {{ethdev: {{device: \"net_pcap0,rx_pcap={CAPTURE}\"}}, vrf: blue}}\n"
        ));
        weft_tests::eventually("the file is played to its end", || {
            (world.host.balance().received >= before.received + 1551).then_some(())
        });
        world.host.delete("port", "replay");
        for wire in [&mut world.web, &mut world.app, &mut world.router] {
            wire.expect_nothing();
        }
        world.blue.clear();
    });
}
