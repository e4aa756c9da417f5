//! Segments and fragments: put together again they are what was cut.

mod common;

use common::{Protocol, Spec, any_spec, framed, naive_checksum};
use proptest::prelude::*;
use weft_packet::{
    fragment::{Fragmenter, NotFragmentable},
    ip::{self, Fragment, Piece},
    l4::{self, tcp_flag},
    segment::{NotSegmentable, Segmenter},
    transport,
};

const ALL_FLAGS: u8 =
    tcp_flag::FIN | tcp_flag::PSH | tcp_flag::ACK | tcp_flag::URG | tcp_flag::ECE | tcp_flag::CWR;

/// Cuts a packet into whole segments, frames included.
fn segments(frame: &[u8], size: u16) -> Vec<Vec<u8>> {
    let ip = ip::parse(&frame[14..], frame.len() - 14).unwrap();
    // Only the headers need be at hand.
    let transport = l4::parse(&frame[14..], &ip).unwrap();
    let header_len = 14 + usize::from(ip.l4_offset) + usize::from(transport.header_len);
    let segmenter = Segmenter::new(&frame[..header_len], 14, &ip, size).unwrap();
    assert_eq!(segmenter.header_len(), header_len);
    let payload = &frame[header_len..14 + ip.total_len as usize];
    let segments = (0..segmenter.count()).map(|index| {
        let mut header = vec![0xee; header_len];
        let range = segmenter.write(index, &mut header).unwrap();
        let (first, second) = payload[range.clone()].split_at(range.len() / 3);
        let mut offloaded = header.clone();
        segmenter.finish(&mut header, [first, second]).unwrap();

        // What a network card makes of the same headers.
        let partial = &[&offloaded[14 + usize::from(ip.l4_offset)..], first, second].concat();
        let field = 14 + usize::from(ip.l4_offset) + 16;
        let sum = naive_checksum(partial);
        offloaded[field..field + 2].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(offloaded, header);
        [&header[..], first, second].concat()
    });
    segments.collect()
}

#[test]
fn flags_sequence_and_identification_are_each_segments_own() {
    let packet = Spec {
        protocol: Protocol::Tcp,
        tcp_flags: ALL_FLAGS,
        payload: (0..250u8).collect(),
        tcp_option_words: 3,
        ..Spec::default()
    }
    .build();
    let segments = segments(&framed(&packet), 100);
    assert_eq!(segments.len(), 3);
    let middle = tcp_flag::ACK | tcp_flag::URG | tcp_flag::ECE;
    let expected = [
        (100, 0x1234, 0xffff_fff0u32, middle | tcp_flag::CWR),
        (100, 0x1235, 0x0000_0054, middle),
        (50, 0x1236, 0x0000_00b8, middle | tcp_flag::FIN | tcp_flag::PSH),
    ];
    for (segment, (payload_len, identification, sequence, flags)) in segments.iter().zip(expected) {
        assert_eq!(segment.len(), 14 + 20 + 32 + payload_len);
        assert_eq!(u16::from_be_bytes([segment[18], segment[19]]), identification);
        assert_eq!(u32::from_be_bytes(segment[38..42].try_into().unwrap()), sequence);
        assert_eq!(segment[47], flags);
        assert_eq!(segment[54..66], [1; 12]);
    }
}

#[test]
fn what_is_no_whole_tcp_packet_is_not_segmented() {
    let refused = |packet: &[u8], size| {
        let ip = ip::parse(packet, packet.len()).unwrap();
        Segmenter::new(packet, 0, &ip, size).unwrap_err()
    };
    let tcp = Spec {
        protocol: Protocol::Tcp,
        payload: vec![0; 4],
        ..Spec::default()
    };
    assert_eq!(refused(&Spec::default().build(), 100), NotSegmentable::NotTcp);
    assert_eq!(refused(&tcp.build(), 0), NotSegmentable::ZeroSize);
    let mut fragment = tcp.build();
    fragment[6] = 0x20;
    common::mend_ipv4(&mut fragment);
    assert_eq!(refused(&fragment, 100), NotSegmentable::NotTcp);
    for offset in [0x40, 0xf0] {
        let mut lying = tcp.build();
        lying[32] = offset;
        assert_eq!(refused(&lying, 100), NotSegmentable::Headers);
    }
    let packet = tcp.build();
    let ip = ip::parse(&packet, packet.len()).unwrap();
    for len in 0..40 {
        let error = Segmenter::new(&packet[..len], 0, &ip, 100).unwrap_err();
        assert_eq!(error, NotSegmentable::Headers);
    }
    let segmenter = Segmenter::new(&packet, 0, &ip, 100).unwrap();
    assert_eq!(segmenter.count(), 1);
    assert_eq!(segmenter.write(1, &mut [0; 40]), None);
    assert_eq!(segmenter.write(0, &mut [0; 39]), None);
}

/// Cuts a packet into whole fragments.
fn fragments(packet: &[u8], mtu: u16) -> Result<Vec<Vec<u8>>, NotFragmentable> {
    let ip = ip::parse(packet, packet.len()).unwrap();
    let header_len = usize::from(ip.l4_offset);
    let fragmenter = Fragmenter::new(&packet[..header_len], &ip, mtu)?;
    let data = &packet[header_len..ip.total_len as usize];
    let fragments = (0..fragmenter.count()).map(|index| {
        let mut header = [0xee; weft_packet::ipv4::MAX_HEADER_LEN];
        let (len, range) = fragmenter.write(index, &mut header).unwrap();
        [&header[..len], &data[range]].concat()
    });
    Ok(fragments.collect())
}

/// Data of fragments in order, with the offset of the first, and whether more come after the last.
fn put_together(fragments: &[Vec<u8>]) -> (usize, Vec<u8>, bool) {
    let (mut start, mut data, mut more) = (None, Vec::new(), true);
    for fragment in fragments {
        assert!(more, "a fragment after the last");
        let ip = ip::parse(fragment, fragment.len()).unwrap();
        let offset = usize::from(u16::from_be_bytes([fragment[6], fragment[7]]) & 0x1fff) * 8;
        let start = *start.get_or_insert(offset);
        assert_eq!(offset, start + data.len());
        data.extend(ip.l4(fragment));
        more = fragment[6] & 0x20 != 0;
    }
    (start.unwrap(), data, more)
}

#[test]
fn options_that_are_not_copied_stay_in_the_first_fragment() {
    // A recorded route (not copied) and a router alert (copied).
    let ipv4_options = vec![7, 7, 4, 0, 0, 0, 0, 1, 148, 4, 0, 0];
    let packet = Spec {
        ipv4_options,
        payload: vec![5; 100],
        ..Spec::default()
    }
    .build();
    let fragments = fragments(&packet, 72).unwrap();
    assert_eq!(fragments.len(), 3);
    assert_eq!((fragments[0][0], fragments[1][0]), (0x48, 0x46));
    assert_eq!(fragments[0].len(), 32 + 40);
    assert_eq!(fragments[1][20..24], [148, 4, 0, 0]);
    assert_eq!(fragments[1].len(), 24 + 48);
}

#[test]
fn a_packet_that_must_not_or_cannot_be_cut_is_refused() {
    let whole = Spec {
        dont_fragment: true,
        ..Spec::default()
    }
    .build();
    assert_eq!(fragments(&whole, 28), Err(NotFragmentable::DontFragment));
    let v6 = Spec {
        v6: true,
        ..Spec::default()
    }
    .build();
    assert_eq!(fragments(&v6, 1280), Err(NotFragmentable::DontFragment));
    let packet = Spec::default().build();
    assert_eq!(fragments(&packet, 27), Err(NotFragmentable::MtuTooSmall(27)));
    assert_eq!(fragments(&packet, 28).unwrap().len(), 2);
    assert_eq!(fragments(&packet, 35).unwrap(), std::slice::from_ref(&packet));
    let ip = ip::parse(&packet, packet.len()).unwrap();
    for len in 0..20 {
        let error = Fragmenter::new(&packet[..len], &ip, 28).unwrap_err();
        assert_eq!(error, NotFragmentable::Header);
    }
    let fragmenter = Fragmenter::new(&packet, &ip, 28).unwrap();
    assert_eq!(fragmenter.write(2, &mut [0; 60]), None);
    assert_eq!(fragmenter.write(0, &mut [0; 19]), None);
}

proptest! {
    #[test]
    fn segments_put_together_are_the_packet(
        spec in any_spec(),
        payload in prop::collection::vec(any::<u8>(), 0..600),
        size in 1u16..700,
        padding in 0usize..8,
    ) {
        let spec = Spec { protocol: Protocol::Tcp, payload, tcp_flags: ALL_FLAGS, ..spec };
        let mut frame = framed(&spec.build());
        frame.extend(vec![0xee; padding]);
        let segments = segments(&frame, size);
        let mut payload = Vec::<u8>::new();
        for (index, segment) in segments.iter().enumerate() {
            prop_assert_eq!(&segment[..14], &frame[..14]);
            let packet = &segment[14..];
            let ip = ip::parse(packet, packet.len()).unwrap();
            prop_assert_eq!(ip.total_len as usize, packet.len());
            prop_assert!(transport::is_valid(packet, &ip, []).unwrap());
            let chunk = &ip.l4(packet)[20 + 4 * spec.tcp_option_words..];
            prop_assert!(chunk.len() <= usize::from(size));
            // Each is the packet that a host would have sent by itself.
            let last = index + 1 == segments.len();
            let mut flags = ALL_FLAGS;
            if !last {
                flags &= !(tcp_flag::FIN | tcp_flag::PSH);
            }
            if index > 0 {
                flags &= !tcp_flag::CWR;
            }
            let alone = Spec {
                payload: chunk.to_vec(),
                tcp_flags: flags,
                identification: spec.identification.wrapping_add(index as u16),
                ..spec.clone()
            };
            let mut expected = alone.build();
            let sequence = 0xffff_fff0u32.wrapping_add(payload.len() as u32);
            let l4 = spec.l4_offset();
            expected[l4 + 4..l4 + 8].copy_from_slice(&sequence.to_be_bytes());
            let parsed = ip::parse(&expected, expected.len()).unwrap();
            transport::fill_checksum(&mut expected, &parsed, []).unwrap();
            prop_assert_eq!(packet, &expected[..]);
            payload.extend(chunk);
        }
        prop_assert_eq!(payload, spec.payload);
    }

    #[test]
    fn fragments_put_together_are_the_packet(
        spec in any_spec(),
        payload in prop::collection::vec(any::<u8>(), 0..600),
        mtu in 68u16..400,
        second_mtu in 68u16..200,
    ) {
        let spec = Spec { v6: false, dont_fragment: false, payload, ..spec };
        let packet = spec.build();
        let fragments_once = fragments(&packet, mtu).unwrap();
        let data = packet[spec.l4_offset()..].to_vec();
        prop_assert_eq!(put_together(&fragments_once), (0, data.clone(), false));
        if packet.len() <= usize::from(mtu) {
            prop_assert_eq!(&fragments_once[..], std::slice::from_ref(&packet));
        }
        for (index, fragment) in fragments_once.iter().enumerate() {
            prop_assert!(fragment.len() <= usize::from(mtu));
            prop_assert_eq!(&fragment[4..6], &spec.identification.to_be_bytes());
            prop_assert_eq!(&fragment[12..20], &packet[12..20]);
            let state = ip::parse(fragment, fragment.len()).unwrap().fragment;
            let (count, is_later) = (fragments_once.len(), state.is_later());
            prop_assert_eq!((state == Fragment::Whole, is_later), (count == 1, index > 0));
            if let Fragment::First(piece) | Fragment::Later(piece) = state {
                let data_len = |fragment: &Vec<u8>| fragment.len() - usize::from(fragment[0] & 15) * 4;
                let before: usize = fragments_once[..index].iter().map(data_len).sum();
                let expected = Piece {
                    identification: spec.identification.into(),
                    offset: before as u16,
                    length: data_len(fragment) as u16,
                    more: index + 1 < count,
                };
                prop_assert_eq!(piece, expected);
            }
        }
        // And once more on the way.
        let mut fragments_twice = Vec::new();
        for fragment in &fragments_once {
            fragments_twice.extend(fragments(fragment, second_mtu).unwrap());
        }
        prop_assert_eq!(put_together(&fragments_twice), (0, data, false));
    }
}
