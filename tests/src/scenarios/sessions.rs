//! How long sessions stay.

use weft_tests::{
    frame::{Packet, tcp},
    host::{number, rows},
    lone::{APP, GATEWAY, Lone, WEB},
    world::in_world,
};

super::scenarios! {
    a_vrf_says_how_long_its_sessions_may_be_idle: [],
    a_session_that_nobody_answers_goes_before_those_that_are_open: [],
}

/// Which of these source ports red's sessions from 10.0.0.1 have.
fn held(world: &Lone, ports: &[u16]) -> Vec<u16> {
    let flows = world.host.json("get flows --vrf red --match src=10.0.0.1");
    let rows = rows(&flows);
    let held: Vec<u64> = rows.iter().map(|row| number(row, "source_port")).collect();
    let ports = ports.iter().copied();
    ports.filter(|port| held.contains(&u64::from(*port))).collect()
}

fn set(world: &Lone, timeouts: &str) {
    world.host.apply(&format!(
        "kind: Vrf\nname: red\nspec: {{timeouts: {{{timeouts}}}}}\n"
    ));
}

/// Longer than a pass over all sessions takes, and what they may be idle.
fn becomes(world: &Lone, among: [u16; 2], expected: &[u16]) {
    let patience = std::time::Duration::from_secs(30);
    let became = weft_tests::within(patience, || (held(world, &among) == expected).then_some(()));
    assert!(
        became.is_some(),
        "red has {:?}, not {expected:?}",
        held(world, &among)
    );
}

fn a_vrf_says_how_long_its_sessions_may_be_idle() {
    in_world(|world: &mut Lone| {
        set(world, "udp: 1");
        let udp = Packet::udp("10.0.0.1:31001", "10.0.0.2:53", b"data");
        world.web.send(&udp.frame(GATEWAY, WEB));
        world.app.expect(&udp.hop().frame(APP, GATEWAY));
        let syn = Packet::tcp("10.0.0.1:31002", "10.0.0.2:80", tcp::SYN, b"");
        world.web.send(&syn.frame(GATEWAY, WEB));
        world.app.expect(&syn.hop().frame(APP, GATEWAY));
        becomes(world, [31_001, 31_002], &[31_002]);
        // Without it they stay as long as weftd says.
        set(world, "");
        world.web.send(&udp.frame(GATEWAY, WEB));
        world.app.expect(&udp.hop().frame(APP, GATEWAY));
        becomes(world, [31_001, 31_002], &[31_001, 31_002]);
    });
}

fn a_session_that_nobody_answers_goes_before_those_that_are_open() {
    in_world(|world: &mut Lone| {
        set(world, "tcp_opening: 1");
        for port in [31_011, 31_012] {
            let syn = Packet::tcp(&format!("10.0.0.1:{port}"), "10.0.0.2:80", tcp::SYN, b"");
            world.web.send(&syn.frame(GATEWAY, WEB));
            world.app.expect(&syn.hop().frame(APP, GATEWAY));
        }
        let answer = Packet::tcp("10.0.0.2:80", "10.0.0.1:31011", tcp::SYN | tcp::ACK, b"");
        world.app.send(&answer.frame(GATEWAY, APP));
        world.web.expect(&answer.hop().frame(WEB, GATEWAY));
        becomes(world, [31_011, 31_012], &[31_011]);
        set(world, "");
    });
}
