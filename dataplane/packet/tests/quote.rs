//! ICMP errors: what they quote, and what translation makes of both, held against packets made anew.

mod common;

use std::net::IpAddr;

use common::{Protocol, Spec, any_spec, naive_checksum};
use proptest::prelude::*;
use weft_packet::{
    ip::{self, Addresses},
    l4, quote,
    rewrite::Translation,
};

/// An ICMP error from `source` to `destination` about what is quoted.
fn error(v6: bool, source: [u8; 16], destination: [u8; 16], quoted: &[u8]) -> Vec<u8> {
    let spec = Spec {
        v6,
        source,
        destination,
        protocol: Protocol::EchoRequest,
        payload: quoted.to_vec(),
        ..Spec::default()
    };
    let mut packet = spec.build();
    let start = spec.l4_offset();
    packet[start..start + 8].copy_from_slice(&[if v6 { 1 } else { 3 }, 3, 0, 0, 0, 0, 0, 0]);
    let mut covered = Vec::new();
    if v6 {
        covered.extend(spec.source);
        covered.extend(spec.destination);
        covered.extend(((packet.len() - start) as u32).to_be_bytes());
        covered.extend([0, 0, 0, 58]);
    }
    covered.extend(&packet[start..]);
    let checksum = naive_checksum(&covered);
    packet[start + 2..start + 4].copy_from_slice(&checksum.to_be_bytes());
    packet
}

fn address(v6: bool, octets: [u8; 16]) -> IpAddr {
    match v6 {
        true => IpAddr::from(octets),
        false => IpAddr::from([octets[12], octets[13], octets[14], octets[15]]),
    }
}

fn ends(addresses: Addresses) -> (IpAddr, IpAddr) {
    match addresses {
        Addresses::V4 { source, destination } => (source.into(), destination.into()),
        Addresses::V6 { source, destination } => (source.into(), destination.into()),
    }
}

#[test]
fn what_is_no_error_quotes_nothing() {
    for (v6, kinds) in [(false, [0, 5, 8, 13]), (true, [0, 128, 129, 135])] {
        for kind in kinds {
            let [source, destination] = [[1; 16], [2; 16]];
            let mut packet = error(
                v6,
                source,
                destination,
                &Spec {
                    v6,
                    ..Spec::default()
                }
                .build(),
            );
            let start = if v6 { 40 } else { 20 };
            packet[start] = kind;
            let ip = ip::parse(&packet, packet.len()).unwrap();
            assert_eq!(quote::parse(&packet, &ip), None);
        }
    }
}

#[test]
fn a_quote_of_the_other_family_or_of_a_later_fragment_says_nothing() {
    let other = Spec {
        v6: true,
        ..Spec::default()
    };
    let mut later = Spec::default().build();
    later[6..8].copy_from_slice(&[0, 1]);
    common::mend_ipv4(&mut later);
    for quoted in [other.build(), later] {
        let packet = error(false, [1; 16], [2; 16], &quoted);
        let ip = ip::parse(&packet, packet.len()).unwrap();
        assert_eq!(quote::parse(&packet, &ip), None);
    }
}

proptest! {
    #[test]
    fn a_quote_says_what_the_packet_said(spec in any_spec(), beyond in 0usize..200) {
        let whole = spec.build();
        let quoted = &whole[..whole.len().min(spec.l4_offset() + 8 + beyond)];
        let packet = error(spec.v6, [3; 16], spec.source, quoted);
        let ip = ip::parse(&packet, packet.len()).unwrap();
        let quote = quote::parse(&packet, &ip).unwrap();
        let inner = ip::parse(&whole, whole.len()).unwrap();
        prop_assert_eq!(quote.addresses, inner.addresses);
        prop_assert_eq!(quote.protocol, spec.protocol_number());
        prop_assert_eq!(quote.tuple, l4::parse(&whole, &inner).unwrap().tuple);
    }

    #[test]
    fn a_translated_error_is_the_error_about_the_packet_before_translation(
        before in any_spec(),
        (source, port) in any::<(Option<[u8; 16]>, Option<u16>)>(),
        (router, inside) in any::<([u8; 16], [u8; 16])>(),
        beyond in 0usize..200,
    ) {
        // Of half a checksum nobody can tell what the other half carries into it.
        prop_assume!(before.protocol != Protocol::Tcp || beyond != 9);
        // What was sent, and what the remote saw of it after its source was translated.
        let after = Spec {
            source: source.unwrap_or(before.source),
            source_port: match before.protocol {
                Protocol::EchoReply => before.source_port,
                _ => port.unwrap_or(before.source_port),
            },
            ..before.clone()
        };
        let length = (before.l4_offset() + 8 + beyond).min(before.build().len());
        let mut packet = error(before.v6, router, after.source, &after.build()[..length]);
        let expected = error(before.v6, router, inside, &before.build()[..length]);
        let ip = ip::parse(&packet, packet.len()).unwrap();
        let outer = Translation {
            destination: Some(address(before.v6, inside)),
            ..Translation::default()
        };
        let quoted = Translation {
            source: Some(address(before.v6, before.source)),
            source_port: (before.protocol != Protocol::EchoReply).then_some(before.source_port),
            ..Translation::default()
        };
        quote::translate(&mut packet, &ip, &outer, &quoted).unwrap();
        prop_assert_eq!(&packet, &expected);
        let ip = ip::parse(&packet, packet.len()).unwrap();
        let quote = quote::parse(&packet, &ip).unwrap();
        let (source, destination) = ends(quote.addresses);
        prop_assert_eq!(source, address(before.v6, before.source));
        prop_assert_eq!(destination, address(before.v6, before.destination));
    }

    #[test]
    fn any_bytes_are_read_and_translated_without_harm(
        bytes in prop::collection::vec(any::<u8>(), 0..160),
        v6 in any::<bool>(),
        translation in (any::<Option<[u8; 16]>>(), any::<Option<u16>>()),
    ) {
        let packet = error(v6, [1; 16], [2; 16], &bytes);
        let translation = Translation {
            source: translation.0.map(|octets| address(v6, octets)),
            destination_port: translation.1,
            ..Translation::default()
        };
        let ip = ip::parse(&packet, packet.len()).unwrap();
        for length in 0..packet.len() {
            let mut cut = packet[..length].to_vec();
            let known = quote::parse(&cut, &ip).is_some();
            let translated = quote::translate(&mut cut, &ip, &translation, &translation).is_ok();
            prop_assert!(known || !translated);
            prop_assert!(translated || cut == packet[..length]);
        }
    }
}
