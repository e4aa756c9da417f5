//! Answers to echo requests: each is the reply made anew.

mod common;

use common::{Protocol, Spec, any_spec, framed};
use proptest::prelude::*;
use weft_packet::{Mac, ethernet, icmp, ip, rewrite};

#[test]
fn echo_requests_to_many_or_with_options_or_in_fragments_are_not_answered() {
    let request = |spec: Spec| {
        let packet = Spec {
            protocol: Protocol::EchoRequest,
            ..spec
        }
        .build();
        let ip = ip::parse(&packet, packet.len()).unwrap();
        icmp::is_echo_request(&packet, &ip)
    };
    let to = |v6: bool, destination: [u8; 16]| Spec {
        v6,
        destination,
        ..Spec::default()
    };
    assert!(
        request(Spec::default())
            && request(Spec {
                v6: true,
                ..Spec::default()
            })
    );
    assert!(
        !request(to(false, [224; 16])) && !request(to(false, [255; 16])) && !request(to(true, [255; 16]))
    );
    assert!(!request(Spec {
        source: [0; 16],
        ..Spec::default()
    }));
    assert!(!request(Spec {
        source: [0; 16],
        v6: true,
        ..Spec::default()
    }));
    assert!(!request(Spec {
        ipv4_options: vec![7, 7, 4, 0, 0, 0, 0, 0],
        ..Spec::default()
    }));
    assert!(!request(Spec {
        v6: true,
        extensions: vec![60],
        ..Spec::default()
    }));

    for protocol in [Protocol::EchoReply, Protocol::Udp] {
        let packet = Spec {
            protocol,
            ..Spec::default()
        }
        .build();
        let ip = ip::parse(&packet, packet.len()).unwrap();
        assert!(!icmp::is_echo_request(&packet, &ip));
    }
    let mut fragment = Spec {
        protocol: Protocol::EchoRequest,
        payload: vec![0; 8],
        ..Spec::default()
    }
    .build();
    fragment[6] = 0x20;
    common::mend_ipv4(&mut fragment);
    let ip = ip::parse(&fragment, fragment.len()).unwrap();
    assert!(!icmp::is_echo_request(&fragment, &ip));
}

#[test]
fn macs_of_an_answered_echo_are_the_callers() {
    let mut frame = framed(
        &Spec {
            protocol: Protocol::EchoRequest,
            ..Spec::default()
        }
        .build(),
    );
    let asker = ethernet::parse(&frame).unwrap().source;
    let ip = ip::parse(&frame[14..], frame.len() - 14).unwrap();
    icmp::answer_echo_in_place(&mut frame[14..], &ip).unwrap();
    rewrite::set_macs(frame.first_chunk_mut().unwrap(), asker, Mac::VIRTUAL_ROUTER);
    let answer = ethernet::parse(&frame).unwrap();
    assert_eq!((answer.destination, answer.source), (asker, Mac::VIRTUAL_ROUTER));
}

proptest! {
    #[test]
    fn an_answered_echo_is_the_reply_made_anew(spec in any_spec(), only_headers: bool) {
        let request = Spec {
            protocol: Protocol::EchoRequest,
            ipv4_options: Vec::new(),
            extensions: Vec::new(),
            ..spec
        };
        let reply = Spec {
            protocol: Protocol::EchoReply,
            source: request.destination,
            destination: request.source,
            destination_port: request.source_port,
            ttl: 64,
            ..request.clone()
        };
        let mut packet = request.build();
        let ip = ip::parse(&packet, packet.len()).unwrap();
        let at_hand = if only_headers { request.l4_offset() + 8 } else { packet.len() };
        icmp::answer_echo_in_place(&mut packet[..at_hand], &ip).unwrap();
        prop_assert_eq!(&packet, &reply.build());
        for len in 0..request.l4_offset() + 8 {
            prop_assert!(icmp::answer_echo_in_place(&mut packet[..len], &ip).is_err());
        }
    }
}
