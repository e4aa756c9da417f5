//! Answers to packets that are not let through, read by the simple models.

mod common;

use common::{Protocol, Spec, any_spec, naive::parse, naive_checksum};
use proptest::prelude::*;
use weft_packet::{
    ip,
    refusal::{Because, MAX_LEN, Refusal},
};

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

fn refuse(packet: &[u8], because: Because) -> Option<Vec<u8>> {
    let ip = ip::parse(packet, packet.len()).unwrap();
    let refusal = Refusal::of(packet, &ip, because)?;
    let mut answer = vec![0xaa; refusal.len()];
    assert!(refusal.write(&mut answer));
    assert!(!refusal.write(&mut vec![0; answer.len() + 1]), "another length");
    Some(answer)
}

/// Header and payload; the checksums are right.
fn read(answer: &[u8]) -> (common::naive::Naive, &[u8]) {
    let header = parse(answer, answer.len()).expect("it reads back");
    assert_eq!(
        (header.total_len, header.ttl, header.fragment),
        (answer.len(), 64, None)
    );
    let payload = &answer[header.l4_offset..];
    let mut covered = Vec::new();
    if header.protocol != 1 {
        covered.extend(&header.source);
        covered.extend(&header.destination);
        covered.extend((payload.len() as u32).to_be_bytes());
        covered.extend([0, 0, 0, header.protocol]);
    }
    covered.extend(payload);
    assert_eq!(naive_checksum(&covered), 0);
    (header, payload)
}

/// Addresses of one host each.
fn hosts(spec: Spec) -> Spec {
    let (mut source, mut destination) = (spec.source, spec.destination);
    (source[0], destination[0]) = (0xfd, 0xfd);
    (source[12], destination[12]) = (10, 100);
    Spec {
        source,
        destination,
        ..spec
    }
}

#[test]
fn a_reset_fits_the_segment_that_it_answers() {
    let segment = |flags, payload: &[u8]| Spec {
        protocol: Protocol::Tcp,
        tcp_flags: flags,
        tcp_option_words: 3,
        payload: payload.to_vec(),
        ..Spec::default()
    };
    // The segments' sequence number is 0xfffffff0, and they acknowledge 7.
    for (flags, payload, sequence, acknowledged) in [
        (SYN, 0, 0, Some(0xffff_fff1_u32)),
        (SYN, 20, 0, Some(5)),
        (0, 20, 0, Some(4)),
        (FIN, 0, 0, Some(0xffff_fff1)),
        (SYN | FIN, 14, 0, Some(0)),
        (ACK, 20, 7, None),
        (SYN | ACK, 0, 7, None),
        (FIN | ACK, 1, 7, None),
    ] {
        for v6 in [false, true] {
            let spec = Spec {
                v6,
                ..segment(flags, &vec![1; payload])
            };
            let answer = refuse(&spec.build(), Because::Prohibited).expect("an answer");
            let (header, reset) = read(&answer);
            assert_eq!((header.protocol, reset.len()), (6, 20));
            assert_eq!(reset[..2], spec.destination_port.to_be_bytes());
            assert_eq!(reset[2..4], spec.source_port.to_be_bytes());
            assert_eq!(reset[4..8], u32::to_be_bytes(sequence), "{flags}");
            assert_eq!(reset[8..12], acknowledged.unwrap_or(0).to_be_bytes(), "{flags}");
            let expected = if acknowledged.is_some() { RST | ACK } else { RST };
            assert_eq!(reset[12..14], [5 << 4, expected]);
        }
    }
    for flags in [RST, RST | ACK] {
        assert_eq!(refuse(&segment(flags, b"").build(), Because::Prohibited), None);
    }
}

#[test]
fn an_error_says_why() {
    for (v6, because, expected) in [
        (false, Because::Prohibited, [3, 13]),
        (false, Because::NobodyListens, [3, 3]),
        (true, Because::Prohibited, [1, 1]),
        (true, Because::NobodyListens, [1, 4]),
    ] {
        let spec = Spec {
            v6,
            ..Spec::default()
        };
        let answer = refuse(&spec.build(), because).expect("an answer");
        let (header, error) = read(&answer);
        assert_eq!(header.traffic_class, if v6 { 0 } else { 0xc0 });
        assert_eq!(error[..2], expected);
        assert_eq!(error[4..8], [0; 4]);
    }
}

#[test]
fn an_error_quotes_no_more_than_it_may() {
    for (v6, longest) in [(false, 576), (true, MAX_LEN)] {
        let spec = Spec {
            v6,
            payload: vec![7; 2000],
            ..Spec::default()
        };
        let packet = spec.build();
        let answer = refuse(&packet, Because::Prohibited).expect("an answer");
        let (_, error) = read(&answer);
        assert_eq!(answer.len(), longest);
        assert_eq!(error[8..], packet[..error.len() - 8]);
    }
}

#[test]
fn errors_fragments_and_packets_of_or_to_many_are_not_answered() {
    let none = |packet: &[u8]| assert_eq!(refuse(packet, Because::Prohibited), None);
    for (v6, kinds) in [(false, &[3, 4, 5, 11, 12][..]), (true, &[1, 2, 3, 4, 137])] {
        let spec = Spec {
            v6,
            protocol: Protocol::EchoRequest,
            ..Spec::default()
        };
        let mut packet = spec.build();
        assert!(refuse(&packet, Because::Prohibited).is_some());
        for kind in kinds {
            packet[spec.l4_offset()] = *kind;
            none(&packet);
        }
    }
    let from = |v6, source: [u8; 16]| {
        let spec = Spec::default();
        Spec { v6, source, ..spec }.build()
    };
    let to = |v6, destination: [u8; 16]| {
        let spec = Spec::default();
        Spec {
            v6,
            destination,
            ..spec
        }
        .build()
    };
    for many in [[0; 16], [127; 16], [224; 16], [240; 16], [255; 16]] {
        none(&from(false, many));
        none(&to(false, many));
    }
    for many in [[0; 16], [255; 16]] {
        none(&from(true, many));
        none(&to(true, many));
    }
    none(&from(true, std::net::Ipv6Addr::LOCALHOST.octets()));
    let mut fragment = Spec {
        payload: vec![0; 8],
        ..Spec::default()
    }
    .build();
    for (first, second) in [(0x20, 0), (0x20, 1), (0, 1)] {
        (fragment[6], fragment[7]) = (first, second);
        common::mend_ipv4(&mut fragment);
        none(&fragment);
    }
}

proptest! {
    #[test]
    fn an_answer_goes_back_quotes_what_it_answers_and_is_not_answered(
        spec in any_spec().prop_map(hosts),
        flags: u8,
        cut in 0_usize..40,
    ) {
        let spec = Spec { tcp_flags: flags & !RST, ..spec };
        let packet = spec.build();
        let answer = refuse(&packet, Because::Prohibited).expect("an answer");
        let (header, payload) = read(&answer);
        prop_assert_eq!(&header.source[..], spec.destination_octets());
        prop_assert_eq!(&header.destination[..], spec.source_octets());
        prop_assert_eq!(header.v6, spec.v6);
        if spec.protocol != Protocol::Tcp {
            prop_assert_eq!(&payload[8..], &packet[..]);
            // Of what is not at hand nothing is quoted.
            let at_hand = packet.len() - cut.min(packet.len() - spec.l4_offset() - 8);
            let ip = ip::parse(&packet[..at_hand], packet.len()).unwrap();
            let shorter = Refusal::of(&packet[..at_hand], &ip, Because::Prohibited).unwrap();
            prop_assert_eq!(shorter.len() + packet.len() - at_hand, answer.len());
        }
        prop_assert_eq!(refuse(&answer, Because::Prohibited), None);
    }
}
