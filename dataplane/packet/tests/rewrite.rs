//! Changes in place, each compared with the packet made anew with the changed fields.

mod common;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use common::{Protocol, Spec, any_spec, framed};
use proptest::prelude::*;
use weft_packet::{
    Mac, ip,
    rewrite::{self, ChecksumState, Ends, Translation, Untranslatable},
    transport,
};

#[test]
fn the_last_hop_is_not_taken() {
    for v6 in [false, true] {
        for ttl in [0, 1] {
            let mut packet = Spec {
                v6,
                ttl,
                ..Spec::default()
            }
            .build();
            let before = packet.clone();
            assert!(!rewrite::decrement_ttl(&mut packet));
            assert_eq!(packet, before);
        }
    }
}

#[test]
fn bytes_that_are_no_header_lose_no_hop() {
    for bytes in [&[][..], &[0x45; 19], &[0x60; 7], &[0x00; 60]] {
        assert!(!rewrite::decrement_ttl(&mut bytes.to_vec()));
        let mut same = bytes.to_vec();
        rewrite::set_traffic_class(&mut same, 0xff);
        assert_eq!(same, bytes);
    }
}

#[test]
fn macs_are_set_and_nothing_else() {
    let packet = Spec::default().build();
    let mut frame = framed(&packet);
    rewrite::set_macs(frame.first_chunk_mut().unwrap(), Mac([1; 6]), Mac([2; 6]));
    assert_eq!(frame[..12], [1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2]);
    assert_eq!(frame[12..], framed(&packet)[12..]);
}

#[test]
fn an_address_of_the_other_family_is_refused_and_changes_nothing() {
    for (v6, other) in [
        (false, IpAddr::V6(Ipv6Addr::LOCALHOST)),
        (true, IpAddr::V4(Ipv4Addr::LOCALHOST)),
    ] {
        let mut packet = Spec {
            v6,
            ..Spec::default()
        }
        .build();
        let before = packet.clone();
        let ip = ip::parse(&packet, packet.len()).unwrap();
        for translation in [
            Translation {
                source: Some(other),
                source_port: Some(1),
                ..Translation::default()
            },
            Translation {
                destination: Some(other),
                ..Translation::default()
            },
        ] {
            let result = rewrite::translate(&mut packet, &ip, &translation, ChecksumState::Complete);
            assert_eq!(result, Err(Untranslatable::Family));
            assert_eq!(packet, before);
        }
    }
}

#[test]
fn ports_of_sctp_are_translated_with_its_crc_but_not_in_fragments() {
    // The tag, a checksum, and a chunk; a change of both ports and back leaves all of it as it was.
    let mut packet = Spec {
        payload: (0..40).collect(),
        ..Spec::default()
    }
    .build();
    packet[9] = 132;
    common::mend_ipv4(&mut packet);
    let before = packet.clone();
    let ports = |packet: &mut Vec<u8>, ports: [u16; 2]| {
        let ip = ip::parse(packet, packet.len()).unwrap();
        let translation = Translation {
            source: Some(IpAddr::from([192, 0, 0, 8])),
            source_port: Some(ports[0]),
            destination_port: Some(ports[1]),
            ..Translation::default()
        };
        rewrite::translate(packet, &ip, &translation, ChecksumState::Complete)
    };
    let port = |at: usize| u16::from_be_bytes([before[at], before[at + 1]]);
    ports(&mut packet, [7, 80]).unwrap();
    assert_eq!(packet[20..24], [0, 7, 0, 80]);
    assert_ne!(packet[28..32], before[28..32], "the CRC");
    assert_eq!((&packet[24..28], &packet[32..]), (&before[24..28], &before[32..]));
    ports(&mut packet, [port(20), port(22)]).unwrap();
    assert_eq!(packet[20..], before[20..]);
    // A first fragment says nothing about the length of the whole.
    packet[6] = 0x20;
    common::mend_ipv4(&mut packet);
    let before = packet.clone();
    let result = ports(&mut packet, [7, 80]);
    assert_eq!((result, packet), (Err(Untranslatable::Ports(132)), before));
}
#[test]
fn a_later_fragment_changes_its_addresses_alone() {
    let mut packet = Spec {
        payload: vec![0; 8],
        ..Spec::default()
    }
    .build();
    packet[6..8].copy_from_slice(&[0, 1]);
    common::mend_ipv4(&mut packet);
    let data = packet[20..].to_vec();
    let ip = ip::parse(&packet, packet.len()).unwrap();
    let translation = Translation {
        destination: Some(IpAddr::from([10, 9, 9, 9])),
        destination_port: Some(7),
        ..Translation::default()
    };
    rewrite::translate(&mut packet, &ip, &translation, ChecksumState::Complete).unwrap();
    assert_eq!(
        ip::parse(&packet, packet.len()).unwrap().destination(),
        IpAddr::from([10, 9, 9, 9])
    );
    assert_eq!(packet[20..], data);
}

#[test]
fn a_source_routed_packet_is_not_translated() {
    let mut packet = Spec {
        ipv4_options: vec![131, 7, 4, 1, 2, 3, 4, 0],
        ..Spec::default()
    }
    .build();
    let ip = ip::parse(&packet, packet.len()).unwrap();
    let result = rewrite::translate(&mut packet, &ip, &Translation::default(), ChecksumState::Complete);
    assert_eq!(result, Err(Untranslatable::SourceRouted));
}

fn address(v6: bool, octets: [u8; 16]) -> IpAddr {
    if v6 {
        IpAddr::from(octets)
    } else {
        IpAddr::from([octets[12], octets[13], octets[14], octets[15]])
    }
}

/// A translation, and the packet as it would have been made with the new fields.
fn any_translation() -> impl Strategy<Value = (Spec, Spec, Translation)> {
    let fields = (
        any::<Option<[u8; 16]>>(),
        any::<Option<[u8; 16]>>(),
        any::<Option<u16>>(),
        any::<Option<u16>>(),
    );
    (any_spec(), fields).prop_map(|(spec, (source, destination, source_port, destination_port))| {
        let new = Spec {
            source: source.unwrap_or(spec.source),
            destination: destination.unwrap_or(spec.destination),
            source_port: source_port.unwrap_or(spec.source_port),
            destination_port: destination_port.unwrap_or(spec.destination_port),
            ..spec.clone()
        };
        let translation = Translation {
            source: source.map(|octets| address(spec.v6, octets)),
            destination: destination.map(|octets| address(spec.v6, octets)),
            source_port,
            destination_port,
        };
        (spec, new, translation)
    })
}

proptest! {
    #[test]
    fn a_hop_less_is_the_packet_with_a_smaller_ttl(spec in any_spec()) {
        prop_assume!(spec.ttl > 1);
        let mut packet = spec.build();
        prop_assert!(rewrite::decrement_ttl(&mut packet));
        prop_assert_eq!(packet, Spec { ttl: spec.ttl - 1, ..spec }.build());
    }

    #[test]
    fn another_traffic_class_is_the_packet_made_with_it(spec in any_spec(), new: u8) {
        let expected = Spec { traffic_class: new, ..spec.clone() }.build();
        let mut packet = spec.build();
        let ip = ip::parse(&packet, packet.len()).unwrap();
        rewrite::set_traffic_class(&mut packet, new);
        prop_assert_eq!(&packet, &expected);

        let mut in_halves = spec.build();
        rewrite::set_ecn(&mut in_halves, &ip, new);
        let ip = ip::parse(&in_halves, packet.len()).unwrap();
        prop_assert_eq!((ip.dscp(), ip.ecn()), (spec.traffic_class >> 2, new & 3));
        rewrite::set_dscp(&mut in_halves, &ip, new >> 2);
        prop_assert_eq!(&in_halves, &expected);
    }

    #[test]
    fn a_flow_label_outlives_a_new_traffic_class(label in 0u32..1 << 20, new: u8) {
        let mut packet = Spec { v6: true, ..Spec::default() }.build();
        packet[..4].copy_from_slice(&(0x6000_0000 | label).to_be_bytes());
        rewrite::set_traffic_class(&mut packet, new);
        let first = u32::from_be_bytes([packet[0], packet[1], packet[2], packet[3]]);
        prop_assert_eq!(first, 0x6000_0000 | u32::from(new) << 20 | label);
    }

    #[test]
    fn a_translated_packet_is_the_packet_made_with_the_new_fields((old, new, translation) in any_translation()) {
        let mut packet = old.build();
        let ip = ip::parse(&packet, packet.len()).unwrap();
        rewrite::translate(&mut packet, &ip, &translation, ChecksumState::Complete).unwrap();
        prop_assert_eq!(packet, new.build());
    }

    #[test]
    fn a_plain_packet_is_translated_in_one_look_and_no_other((old, new, translation) in any_translation()) {
        let _ = translation;
        let mut packet = old.build();
        let word = |octets: &[u8]| u32::from_be_bytes([octets[0], octets[1], octets[2], octets[3]]);
        let ends = Ends {
            source: word(&new.source[12..]),
            destination: word(&new.destination[12..]),
            source_port: new.source_port,
            destination_port: new.destination_port,
        };
        let plain = !old.v6 && old.ipv4_options.is_empty() && matches!(old.protocol, Protocol::Tcp | Protocol::Udp);
        let mut partial = packet.clone();
        prop_assert_eq!(rewrite::translate_plain(&mut packet, &ends, ChecksumState::Complete), plain);
        prop_assert_eq!(&packet, &if plain { &new } else { &old }.build());
        if plain && !old.udp_without_checksum {
            let ip = ip::parse(&partial, partial.len()).unwrap();
            transport::set_partial(&mut partial, &ip).unwrap();
            prop_assert!(rewrite::translate_plain(&mut partial, &ends, ChecksumState::Partial));
            let mut expected = new.build();
            transport::set_partial(&mut expected, &ip::parse(&new.build(), packet.len()).unwrap()).unwrap();
            prop_assert_eq!(partial, expected);
        }
    }

    #[test]
    fn a_partial_checksum_stays_partial_and_completes(( old, new, translation) in any_translation()) {
        prop_assume!(old.protocol_number() != 1 && !old.udp_without_checksum);
        let mut packet = old.build();
        let ip = ip::parse(&packet, packet.len()).unwrap();
        transport::set_partial(&mut packet, &ip).unwrap();
        rewrite::translate(&mut packet, &ip, &translation, ChecksumState::Partial).unwrap();
        let field = transport::checksum_offset(&ip).unwrap();
        let mut sum = common::naive_checksum(&packet[old.l4_offset()..]);
        if old.protocol == Protocol::Udp && sum == 0 {
            sum = 0xffff;
        }
        packet[field..field + 2].copy_from_slice(&sum.to_be_bytes());
        prop_assert_eq!(packet, new.build());
    }

    #[test]
    fn cutting_a_packet_before_translation_breaks_nothing((old, _, translation) in any_translation()) {
        let packet = old.build();
        let ip = ip::parse(&packet, packet.len()).unwrap();
        for len in 0..packet.len() {
            let mut cut = packet[..len].to_vec();
            let _ = rewrite::translate(&mut cut, &ip, &translation, ChecksumState::Complete);
            let _ = rewrite::decrement_ttl(&mut cut);
            rewrite::set_traffic_class(&mut cut, 0xff);
        }
    }
}
