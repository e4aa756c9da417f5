//! Checksums: the fast sum against one word at a time, changes against summing again, and whole packets against a
//! second opinion.

mod common;

use common::{Protocol, Spec, any_spec, naive_checksum};
use proptest::prelude::*;
use weft_packet::{
    checksum::{self, Delta, Sum},
    ip,
    malformed::Fault,
    transport,
};

#[test]
fn the_example_of_rfc_1071_sums_up() {
    // RFC 1071, section 3: 0001 f203 f4f5 f6f7 sum up to ddf2.
    let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
    assert_eq!(checksum::internet(&bytes), !0xddf2);
    assert_eq!(checksum::internet(&[]), 0xffff);
}

#[test]
fn the_example_of_rfc_1624_is_not_ffff() {
    // RFC 1624, section 4: checksum dd2f, the field 5555 becomes 3285, and the result is 0000.
    assert_eq!(Delta::NONE.u16(0x5555, 0x3285).apply(0xdd2f), 0x0000);
}

#[test]
fn the_longest_packet_of_ones_does_not_overflow() {
    let bytes = vec![0xff; 65_535];
    assert_eq!(checksum::internet(&bytes), naive_checksum(&bytes));
}

#[test]
fn a_udp_checksum_of_zero_is_written_as_ones_and_none_stays_none() {
    let mut sum = Sum::new();
    sum.add(&[0xff, 0xff]);
    assert_eq!((sum.checksum(), sum.udp_checksum()), (0, 0xffff));
    assert_eq!(Delta::NONE.u16(0x5555, 0x3285).apply_udp(0xdd2f), 0xffff);
    assert_eq!(Delta::NONE.u16(0x5555, 0x3285).apply_udp(0), 0);
}

#[test]
fn what_has_no_checksum_here_is_refused() {
    let fault = |packet: &[u8]| {
        let ip = ip::parse(packet, packet.len()).unwrap();
        transport::fill_checksum(&mut packet.to_vec(), &ip, [])
            .unwrap_err()
            .fault
    };
    let mut esp = Spec::default().build();
    esp[9] = 50;
    common::mend_ipv4(&mut esp);
    assert_eq!(fault(&esp), Fault::NoChecksum);
    let mut first = Spec {
        payload: vec![0; 8],
        ..Spec::default()
    }
    .build();
    first[6] = 0x20;
    common::mend_ipv4(&mut first);
    assert_eq!(fault(&first), Fault::NoChecksum);
    let routed = Spec {
        ipv4_options: vec![131, 7, 4, 1, 2, 3, 4, 0],
        ..Spec::default()
    }
    .build();
    assert_eq!(fault(&routed), Fault::NoChecksum);
    let mut longer = Spec::default().build();
    longer[24..26].copy_from_slice(&100u16.to_be_bytes());
    assert_eq!(fault(&longer), Fault::Length);
}

#[test]
fn a_packet_whose_end_is_missing_gets_no_checksum() {
    let packet = Spec {
        protocol: Protocol::Tcp,
        ..Spec::default()
    }
    .build();
    let ip = ip::parse(&packet, packet.len()).unwrap();
    let (head, tail) = packet.split_at(41);
    let mut head = head.to_vec();
    let error = transport::fill_checksum(&mut head, &ip, [&tail[1..]]).unwrap_err();
    assert_eq!(error.fault, Fault::Truncated);
    let error = transport::fill_checksum(&mut packet[..30].to_vec(), &ip, []).unwrap_err();
    assert_eq!(error.fault, Fault::Truncated);
}

#[test]
fn a_udp_datagram_shorter_than_its_ip_packet_is_summed_as_long_as_it_says() {
    let mut packet = Spec {
        payload: vec![1, 2, 3, 4],
        ..Spec::default()
    }
    .build();
    packet[24..26].copy_from_slice(&11u16.to_be_bytes());
    let ip = ip::parse(&packet, packet.len()).unwrap();
    transport::fill_checksum(&mut packet, &ip, []).unwrap();
    let shorter = Spec {
        payload: vec![1, 2, 3],
        ..Spec::default()
    }
    .build();
    assert_eq!(packet[26..28], shorter[26..28]);
}

/// The packet's bytes with its transport checksum spoilt, which must not matter.
fn spoilt(spec: &Spec) -> (Vec<u8>, usize) {
    let mut packet = spec.build();
    let ip = ip::parse(&packet, packet.len()).unwrap();
    let field = transport::checksum_offset(&ip).unwrap();
    packet[field..field + 2].copy_from_slice(&[0xba, 0xad]);
    (packet, field)
}

proptest! {
    #[test]
    fn the_sum_agrees_with_one_word_at_a_time_however_it_is_cut(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        mut cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        prop_assert_eq!(checksum::internet(&bytes), naive_checksum(&bytes));
        let mut cuts: Vec<usize> = cuts.drain(..).map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let mut sum = Sum::new();
        for pair in cuts.windows(2) {
            sum.add(&bytes[pair[0]..pair[1]]);
        }
        prop_assert_eq!(sum.checksum(), naive_checksum(&bytes));
    }

    #[test]
    fn a_change_counts_as_summing_again(
        mut bytes in prop::collection::vec(any::<u8>(), 32..64),
        first: u16,
        second: u32,
        third: u128,
    ) {
        // Bytes that are all zero have two right checksums; no header is all zero.
        bytes[31] |= 1;
        let before = naive_checksum(&bytes);
        let old = bytes.clone();
        bytes[0..2].copy_from_slice(&first.to_be_bytes());
        bytes[2..6].copy_from_slice(&second.to_be_bytes());
        bytes[8..24].copy_from_slice(&third.to_be_bytes());
        let delta = Delta::NONE
            .u16(u16::from_be_bytes([old[0], old[1]]), first)
            .and(Delta::NONE.u32(u32::from_be_bytes(old[2..6].try_into().unwrap()), second))
            .u128(u128::from_be_bytes(old[8..24].try_into().unwrap()), third);
        prop_assert_eq!(delta.apply(before), naive_checksum(&bytes));
        prop_assert_eq!(delta.apply_partial(!before), !naive_checksum(&bytes));
    }

    #[test]
    fn a_header_is_valid_exactly_if_it_sums_up(mut header: [u8; 20], mend: bool) {
        if mend {
            header[10..12].copy_from_slice(&[0, 0]);
            let sum = naive_checksum(&header);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        prop_assert_eq!(checksum::is_valid_ipv4_header(&header), naive_checksum(&header) == 0);
    }

    #[test]
    fn a_transport_checksum_is_filled_in_over_any_buffers_and_padding(
        spec in any_spec(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
        padding in 0usize..20,
    ) {
        let spec = Spec { udp_without_checksum: false, ..spec };
        prop_assume!(spec.protocol_number() != 1);
        let expected = spec.build();
        let (mut packet, _) = spoilt(&spec);
        let ip = ip::parse(&packet, packet.len()).unwrap();
        packet.extend(vec![0xee; padding]);
        let headers = spec.l4_offset() + if spec.protocol == Protocol::Tcp { 20 } else { 8 };
        let mut cuts: Vec<usize> =
            cuts.iter().map(|cut| headers + cut.index(packet.len() - headers + 1)).collect();
        cuts.push(packet.len());
        cuts.sort_unstable();
        let tail = packet.split_off(cuts[0]);
        let rest: Vec<&[u8]> =
            cuts.windows(2).map(|pair| &tail[pair[0] - cuts[0]..pair[1] - cuts[0]]).collect();

        prop_assert!(!transport::is_valid(&packet, &ip, rest.iter().copied()).unwrap());
        transport::fill_checksum(&mut packet, &ip, rest.iter().copied()).unwrap();
        prop_assert!(transport::is_valid(&packet, &ip, rest.iter().copied()).unwrap());
        packet.extend(&tail);
        prop_assert_eq!(&packet[..expected.len()], &expected[..]);
    }

    #[test]
    fn a_partial_checksum_is_completed_by_summing_what_follows(spec in any_spec()) {
        let spec = Spec { udp_without_checksum: false, ..spec };
        prop_assume!(spec.protocol_number() != 1);
        let expected = spec.build();
        let (mut packet, field) = spoilt(&spec);
        let ip = ip::parse(&packet, packet.len()).unwrap();
        transport::set_partial(&mut packet, &ip).unwrap();
        // What a network card does.
        let mut sum = naive_checksum(&packet[spec.l4_offset()..]);
        if spec.protocol == Protocol::Udp && sum == 0 {
            sum = 0xffff;
        }
        packet[field..field + 2].copy_from_slice(&sum.to_be_bytes());
        prop_assert_eq!(packet, expected);
    }

    #[test]
    fn a_second_opinion_finds_the_same_tcp_checksum(spec in any_spec()) {
        let spec = Spec { protocol: Protocol::Tcp, ..spec };
        let (mut packet, field) = spoilt(&spec);
        let ip = ip::parse(&packet, packet.len()).unwrap();
        transport::fill_checksum(&mut packet, &ip, []).unwrap();
        let tcp = etherparse::TcpSlice::from_slice(&packet[spec.l4_offset()..]).unwrap();
        let second = if spec.v6 {
            tcp.calc_checksum_ipv6(spec.source, spec.destination).unwrap()
        } else {
            let octets = |octets: &[u8]| <[u8; 4]>::try_from(octets).unwrap();
            tcp.calc_checksum_ipv4(octets(spec.source_octets()), octets(spec.destination_octets())).unwrap()
        };
        prop_assert_eq!(u16::from_be_bytes([packet[field], packet[field + 1]]), second);
    }
}
