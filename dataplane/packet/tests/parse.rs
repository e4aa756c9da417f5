//! IP and transport headers: known bytes, hostile bytes, and every packet against a simple parser and
//! a second opinion.

mod common;

use std::net::IpAddr;

use common::{Protocol, Spec, any_spec, framed, mend_ipv4, naive};
use proptest::prelude::*;
use weft_packet::{
    ethernet,
    ip::{self, Fragment, IpPacket, Piece},
    ipv4, ipv6, l4,
    malformed::{Fault, Header, Malformed},
};

fn whole(packet: &[u8]) -> Result<IpPacket, Malformed> {
    ip::parse(packet, packet.len())
}

fn fault<T: std::fmt::Debug>(result: Result<T, Malformed>) -> (Header, u16, Fault) {
    let Malformed {
        header,
        offset,
        fault,
    } = result.unwrap_err();
    (header, offset, fault)
}

/// The well-known example of an IPv4 header checksum: 0xb861.
const KNOWN_IPV4: [u8; 20] = [
    0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0xb8, 0x61, 0xc0, 0xa8, 0x00, 0x01, 0xc0,
    0xa8, 0x00, 0xc7,
];

#[test]
fn the_known_ipv4_header_reads_as_it_should() {
    // Only the header at hand; 0x73 bytes of packet and padding in all.
    let packet = ip::parse(&KNOWN_IPV4, 0x80).unwrap();
    assert_eq!(packet.source(), "192.168.0.1".parse::<IpAddr>().unwrap());
    assert_eq!(packet.destination(), "192.168.0.199".parse::<IpAddr>().unwrap());
    assert_eq!(
        (packet.total_len, packet.l4_offset, packet.protocol),
        (0x73, 20, 17)
    );
    assert_eq!(
        (packet.fragment, packet.ttl, packet.has_options),
        (Fragment::Whole, 64, false)
    );
    assert!(!packet.is_v6() && !packet.source_routed);
}

#[test]
fn any_flipped_bit_of_an_ipv4_header_is_refused() {
    for bit in 0..160 {
        let mut header = KNOWN_IPV4;
        header[bit / 8] ^= 1 << (bit % 8);
        assert!(ip::parse(&header, 0x8073).is_err(), "bit {bit}");
    }
}

#[test]
fn ipv4_lengths_that_lie_are_refused() {
    let good = Spec::default().build();
    for ihl in 0..5u8 {
        let mut packet = good.clone();
        packet[0] = 0x40 | ihl;
        assert_eq!(fault(whole(&packet)), (Header::Ipv4, 0, Fault::HeaderLength));
    }
    for total_len in [0, 19, good.len() as u16 + 1, 0xffff] {
        let mut packet = good.clone();
        packet[2..4].copy_from_slice(&total_len.to_be_bytes());
        mend_ipv4(&mut packet);
        assert_eq!(fault(whole(&packet)), (Header::Ipv4, 0, Fault::Length));
    }
    let mut beyond = good.clone();
    beyond[0] = 0x4f;
    assert_eq!(
        fault(whole(&beyond[..40.min(beyond.len())])),
        (Header::Ipv4, 0, Fault::Truncated)
    );
    assert_eq!(
        fault(ipv4::parse(&[0x65; 60], 60)),
        (Header::Ipv4, 0, Fault::Version)
    );
    assert_eq!(
        fault(ipv6::parse(&[0x45; 60], 60)),
        (Header::Ipv6, 0, Fault::Version)
    );
    assert_eq!(fault(whole(&[0x00; 60])), (Header::Ip, 0, Fault::Version));
    assert_eq!(fault(whole(&[])), (Header::Ip, 0, Fault::Truncated));
}

#[test]
fn padding_behind_the_packet_is_told_apart_from_it() {
    let spec = Spec {
        payload: vec![7; 3],
        ..Spec::default()
    };
    let packet = spec.build();
    let padded = [&packet[..], &[0xee; 20]].concat();
    let parsed = whole(&padded).unwrap();
    assert_eq!(parsed.total_len as usize, packet.len());
    assert_eq!(parsed.l4(&padded), &packet[20..]);
    assert_eq!(parsed.l4_len(), 11);
}

#[test]
fn fragments_are_told_apart_and_impossible_ones_refused() {
    let with = |field: u16, data: usize| {
        let mut packet = Spec {
            payload: vec![0; data - 8],
            ..Spec::default()
        }
        .build();
        packet[6..8].copy_from_slice(&field.to_be_bytes());
        mend_ipv4(&mut packet);
        whole(&packet).map(|packet| packet.fragment)
    };
    assert_eq!(with(0x4000, 17), Ok(Fragment::Whole));
    let piece = |offset, length, more| Piece {
        identification: u32::from(Spec::default().identification),
        offset,
        length,
        more,
    };
    assert_eq!(with(0x2000, 16), Ok(Fragment::First(piece(0, 16, true))));
    assert_eq!(with(0x2001, 16), Ok(Fragment::Later(piece(8, 16, true))));
    assert_eq!(with(0x0001, 17), Ok(Fragment::Later(piece(8, 17, false))));
    assert_eq!(with(0x1ffd, 23), Ok(Fragment::Later(piece(0xffe8, 23, false))));
    let refused = (Header::Ipv4, 0, Fault::Fragment);
    assert_eq!(fault(with(0x2000, 17)), refused);
    // "Ping of death": ends beyond 65535.
    assert_eq!(fault(with(0x1ffd, 24)), refused);
    assert_eq!(fault(with(0x1fff, 8)), refused);
}

#[test]
fn later_fragments_have_no_ports() {
    let mut packet = Spec {
        payload: vec![0; 8],
        ..Spec::default()
    }
    .build();
    packet[6..8].copy_from_slice(&[0, 1]);
    mend_ipv4(&mut packet);
    let parsed = whole(&packet).unwrap();
    assert_eq!(l4::parse(&packet, &parsed), Ok(l4::Transport::default()));
}

#[test]
fn a_source_route_with_hops_left_is_seen() {
    let route = |pointer| vec![131, 7, pointer, 10, 9, 9, 9, 0];
    for (pointer, left) in [(4, true), (8, false)] {
        let packet = Spec {
            ipv4_options: route(pointer),
            ..Spec::default()
        }
        .build();
        assert_eq!(whole(&packet).unwrap().source_routed, left);
    }
    // An option that claims more than there is ends the list; the packet is passed on.
    let packet = Spec {
        ipv4_options: vec![131, 40, 4, 10],
        ..Spec::default()
    }
    .build();
    assert!(!whole(&packet).unwrap().source_routed);
}

#[test]
fn ipv6_extension_headers_are_looked_through_up_to_eight() {
    let with = |extensions: Vec<u8>| {
        let packet = Spec {
            v6: true,
            extensions,
            ..Spec::default()
        }
        .build();
        let parsed = whole(&packet)?;
        Ok((
            parsed.protocol,
            parsed.l4_offset,
            l4::parse(&packet, &parsed)?.tuple.destination_port,
        ))
    };
    assert_eq!(with(vec![]), Ok((17, 40, 2000)));
    assert_eq!(with(vec![0, 60, 43, 44, 51, 60, 60, 60]), Ok((17, 112, 2000)));
    assert_eq!(
        fault(with(vec![60; 9])),
        (Header::Ipv6Extension, 104, Fault::TooMany)
    );
    assert_eq!(
        fault(with(vec![60, 0])),
        (Header::Ipv6Extension, 48, Fault::Order)
    );
    assert_eq!(
        fault(with(vec![44, 44])),
        (Header::Ipv6Extension, 48, Fault::Order)
    );
}

#[test]
fn an_authentication_header_shorter_than_its_fixed_part_is_refused() {
    let mut packet = Spec {
        v6: true,
        extensions: vec![51],
        ..Spec::default()
    }
    .build();
    packet[41] = 0;
    assert_eq!(
        fault(whole(&packet)),
        (Header::Ipv6Extension, 40, Fault::HeaderLength)
    );
}

#[test]
fn an_extension_header_that_reaches_beyond_the_packet_is_refused() {
    let mut packet = Spec {
        v6: true,
        extensions: vec![60],
        ..Spec::default()
    }
    .build();
    packet[41] = 255;
    assert_eq!(
        fault(whole(&packet)),
        (Header::Ipv6Extension, 40, Fault::HeaderLength)
    );
    // A jumbogram says length 0, and its hop-by-hop header is then beyond the end.
    let mut jumbo = Spec {
        v6: true,
        extensions: vec![0],
        ..Spec::default()
    }
    .build();
    jumbo[4..6].copy_from_slice(&[0, 0]);
    assert_eq!(
        fault(whole(&jumbo)),
        (Header::Ipv6Extension, 40, Fault::Truncated)
    );
    // In the packet, but not at hand.
    let long = Spec {
        v6: true,
        extensions: vec![60, 60],
        ..Spec::default()
    }
    .build();
    assert_eq!(
        fault(ip::parse(&long[..50], long.len())),
        (Header::Ipv6Extension, 48, Fault::Truncated)
    );
}

#[test]
fn ipv6_fragments_are_told_apart() {
    let with = |field: u16| {
        let spec = Spec {
            v6: true,
            extensions: vec![44],
            payload: vec![0; 8],
            ..Spec::default()
        };
        let mut packet = spec.build();
        packet[42..44].copy_from_slice(&field.to_be_bytes());
        packet[44..48].copy_from_slice(&0xdead_beef_u32.to_be_bytes());
        let parsed = whole(&packet)?;
        Ok((parsed.fragment, l4::parse(&packet, &parsed)?.tuple.source_port))
    };
    assert_eq!(with(0), Ok((Fragment::Whole, 1000)));
    let piece = |offset| Piece {
        identification: 0xdead_beef,
        offset,
        length: 16,
        more: true,
    };
    assert_eq!(with(1), Ok((Fragment::First(piece(0)), 1000)));
    assert_eq!(with(9), Ok((Fragment::Later(piece(8)), 0)));
    assert_eq!(fault(with(0xfff8)), (Header::Ipv6Extension, 40, Fault::Fragment));
}

#[test]
fn transport_headers_that_do_not_fit_are_refused() {
    let with = |protocol, change: fn(&mut Vec<u8>)| {
        let mut packet = Spec {
            protocol,
            ..Spec::default()
        }
        .build();
        change(&mut packet);
        let parsed = whole(&packet).unwrap();
        l4::parse(&packet, &parsed)
    };
    let tcp = |change| fault(with(Protocol::Tcp, change));
    assert_eq!(
        tcp(|packet| packet[32] = 0x40),
        (Header::Tcp, 20, Fault::HeaderLength)
    );
    assert_eq!(
        tcp(|packet| packet[32] = 0xf0),
        (Header::Tcp, 20, Fault::HeaderLength)
    );
    let udp = |change| fault(with(Protocol::Udp, change));
    assert_eq!(udp(|packet| packet[25] = 7), (Header::Udp, 20, Fault::Length));
    assert_eq!(udp(|packet| packet[25] += 1), (Header::Udp, 20, Fault::Length));
    assert!(with(Protocol::Udp, |packet| packet[25] -= 1).is_ok());
}

#[test]
fn protocols_without_ports_have_zeros_and_sctp_has_ports() {
    let with = |protocol: u8| {
        let mut packet = Spec {
            payload: vec![0; 4],
            ..Spec::default()
        }
        .build();
        packet[9] = protocol;
        mend_ipv4(&mut packet);
        let parsed = whole(&packet).unwrap();
        l4::parse(&packet, &parsed).unwrap()
    };
    assert_eq!(with(50), l4::Transport::default());
    let tuple = l4::Tuple {
        source_port: 1000,
        destination_port: 2000,
    };
    assert_eq!(
        with(132),
        l4::Transport {
            tuple,
            tcp_flags: 0,
            header_len: 12
        }
    );
    // An ICMP message other than echo; the ports' bytes stand where its type and code are.
    let unreachable = with(1).tuple;
    assert_eq!((unreachable.source_port, unreachable.destination_port), (0, 1000));
    assert_eq!(unreachable.icmp_message(1), Some(l4::message(3, 0xe8)));
    assert!(!unreachable.begins_session(1) && tuple.begins_session(132));
    assert_eq!(unreachable.echo_identifier(1), None);
}

#[test]
fn an_echo_request_and_its_reply_are_two_directions_and_no_reply_is_a_request() {
    for (v6, number, kinds) in [(false, 1, [8, 0]), (true, 58, [128, 129])] {
        let echo = |protocol, identifier: u16| {
            let spec = Spec {
                v6,
                protocol,
                source_port: identifier,
                destination_port: identifier,
                ..Spec::default()
            };
            let packet = spec.build();
            l4::parse(&packet, &whole(&packet).unwrap()).unwrap().tuple
        };
        let mut requests = std::collections::HashSet::new();
        let mut replies = Vec::new();
        for identifier in 0..=u16::MAX {
            let (request, reply) = (
                echo(Protocol::EchoRequest, identifier),
                echo(Protocol::EchoReply, identifier),
            );
            let turned = l4::Tuple {
                source_port: request.destination_port,
                destination_port: request.source_port,
            };
            assert_eq!(reply, turned, "identifier {identifier}");
            assert_eq!(request.icmp_message(number), Some(l4::message(kinds[0], 0)));
            assert_eq!(reply.icmp_message(number), Some(l4::message(kinds[1], 0)));
            assert!(request.begins_session(number) && !reply.begins_session(number));
            let shown = request.echo_identifier(number).unwrap();
            assert_eq!(reply.echo_identifier(number), Some(shown));
            assert!(shown == identifier || shown == identifier ^ 1);
            requests.insert(request);
            replies.push(reply);
        }
        assert!(replies.iter().all(|reply| !requests.contains(reply)));
    }
}

#[test]
fn the_ip_packet_stays_within_a_cache_line() {
    assert!(size_of::<IpPacket>() <= 64, "{}", size_of::<IpPacket>());
}

/// What the fast parser says, in the naive one's words.
fn in_naive_words(parsed: &IpPacket) -> naive::Naive {
    let octets = |address| match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    naive::Naive {
        v6: parsed.is_v6(),
        source: octets(parsed.source()),
        destination: octets(parsed.destination()),
        total_len: parsed.total_len as usize,
        l4_offset: usize::from(parsed.l4_offset),
        protocol: parsed.protocol,
        fragment: None,
        ttl: parsed.ttl,
        traffic_class: parsed.traffic_class,
    }
}

fn agrees(bytes: &[u8], packet_len: usize) {
    let fast = ip::parse(bytes, packet_len);
    let Some(mut expected) = naive::parse(bytes, packet_len) else {
        assert!(fast.is_err(), "accepted {bytes:02x?}");
        return;
    };
    let fast = fast.unwrap_or_else(|error| panic!("{error} in {bytes:02x?}"));
    let piece = match fast.fragment {
        Fragment::Whole => None,
        Fragment::First(piece) | Fragment::Later(piece) => Some((usize::from(piece.offset), piece.more)),
    };
    assert_eq!(piece, expected.fragment.take());
    assert_eq!(in_naive_words(&fast), expected);
    let _ = l4::parse(bytes, &fast);
}

proptest! {
    #[test]
    fn every_legal_packet_reads_as_it_was_made(spec in any_spec()) {
        let packet = spec.build();
        let parsed = whole(&packet).unwrap();
        agrees(&packet, packet.len());
        prop_assert_eq!(usize::from(parsed.l4_offset), spec.l4_offset());
        prop_assert_eq!(parsed.fragment, Fragment::Whole);
        prop_assert_eq!((parsed.dscp() << 2) | parsed.ecn(), spec.traffic_class);
        let transport = l4::parse(&packet, &parsed).unwrap();
        let echo = l4::ECHO[usize::from(spec.v6)];
        let identifier = |number: u16| if number == echo { echo ^ 1 } else { number };
        let (source, destination) = match spec.protocol {
            Protocol::EchoRequest => (identifier(spec.source_port), echo),
            Protocol::EchoReply => (echo, identifier(spec.destination_port)),
            _ => (spec.source_port, spec.destination_port),
        };
        prop_assert_eq!(transport.tuple.source_port, source);
        prop_assert_eq!(transport.tuple.destination_port, destination);
        let header_len = if spec.protocol == Protocol::Tcp { 20 + 4 * spec.tcp_option_words } else { 8 };
        prop_assert_eq!(usize::from(transport.header_len), header_len);
        prop_assert_eq!(transport.tcp_flags, if spec.protocol == Protocol::Tcp { 0x10 } else { 0 });
    }

    #[test]
    fn a_second_opinion_reads_the_same(spec in any_spec()) {
        let packet = spec.build();
        let parsed = whole(&packet).unwrap();
        let second = etherparse::IpSlice::from_slice(&packet).unwrap();
        prop_assert_eq!(parsed.source(), second.source_addr());
        prop_assert_eq!(parsed.destination(), second.destination_addr());
        prop_assert_eq!(parsed.protocol, second.payload_ip_number().0);
        prop_assert_eq!(parsed.l4(&packet), second.payload().payload);
    }

    #[test]
    fn damaged_packets_are_judged_as_the_simple_parser_judges_them(
        spec in any_spec(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        mend: bool,
        at_hand in any::<prop::sample::Index>(),
        missing in 0usize..8,
    ) {
        let mut packet = spec.build();
        for (place, value) in damage {
            // Headers are where damage tells.
            let place = place.index(packet.len().min(100));
            packet[place] = value;
        }
        if mend && packet[0] >> 4 == 4 {
            mend_ipv4(&mut packet);
        }
        agrees(&packet, packet.len());
        agrees(&packet, packet.len().saturating_sub(missing));
        agrees(&packet[..at_hand.index(packet.len() + 1)], packet.len());
    }

    #[test]
    fn packets_cut_anywhere_are_refused_or_read_without_what_is_missing(spec in any_spec()) {
        let packet = spec.build();
        let frame = framed(&packet);
        for len in 0..frame.len() {
            let _ = ethernet::parse(&frame[..len]);
        }
        for len in 0..packet.len() {
            prop_assert!(whole(&packet[..len]).is_err(), "{} of {} bytes", len, packet.len());
            agrees(&packet[..len], packet.len());
            if let Ok(parsed) = ip::parse(&packet[..len], packet.len()) {
                let header_len = if spec.protocol == Protocol::Tcp { 20 } else { 8 };
                let complete = len >= spec.l4_offset() + header_len;
                prop_assert_eq!(l4::parse(&packet[..len], &parsed).is_ok(), complete);
            }
        }
    }

    #[test]
    fn random_bytes_are_judged_as_the_simple_parser_judges_them(
        mut bytes in prop::collection::vec(any::<u8>(), 0..120),
        v6: bool,
    ) {
        if let Some(first) = bytes.first_mut() {
            *first = *first & 0xf | if v6 { 0x60 } else { 0x40 };
        }
        let _ = ethernet::parse(&bytes);
        agrees(&bytes, bytes.len());
        agrees(&bytes, 70_000);
    }
}
