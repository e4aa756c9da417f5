//! Any frame, from its Ethernet header to its transport header, and then changed in place: what was accepted stays
//! consistent, and a checksum that was right stays right.

#![no_main]

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use weft_packet::{
    ethernet, ip, l4,
    rewrite::{self, ChecksumState, Translation},
    transport, vlan,
};

fuzz_target!(|input: &[u8]| {
    // The first byte says how much of the frame lies in a later buffer.
    let Some((&hidden, frame)) = input.split_first() else {
        return;
    };
    let Ok(link) = ethernet::parse(frame) else { return };
    assert!(usize::from(link.l3_offset) <= frame.len());
    if let Some(tag) = link.outer_tag {
        let mut stripped = frame.to_vec();
        vlan::strip(&mut stripped).unwrap();
        vlan::push(&mut stripped, tag).unwrap();
        assert_eq!(stripped, frame);
    }
    let l3 = &frame[usize::from(link.l3_offset)..];
    at_hand(&l3[..l3.len().saturating_sub(usize::from(hidden))], l3.len());
    whole(l3);
});

fn at_hand(bytes: &[u8], packet_len: usize) {
    let Ok(parsed) = ip::parse(bytes, packet_len) else {
        return;
    };
    assert!(parsed.total_len as usize <= packet_len);
    assert!(usize::from(parsed.l4_offset) <= bytes.len());
    let _ = l4::parse(bytes, &parsed);
    let _ = transport::fill_checksum(&mut bytes.to_vec(), &parsed, []);
}

fn whole(packet: &[u8]) {
    let Ok(parsed) = ip::parse(packet, packet.len()) else {
        return;
    };
    assert!(u32::from(parsed.l4_offset) <= parsed.total_len);
    let Ok(transport) = l4::parse(packet, &parsed) else {
        return;
    };
    assert!(usize::from(transport.header_len) <= parsed.l4_len());

    let mut changed = packet.to_vec();
    if rewrite::decrement_ttl(&mut changed) {
        let again = ip::parse(&changed, changed.len()).expect("a packet with a hop less is still one");
        assert_eq!((again.ttl, again.addresses), (parsed.ttl - 1, parsed.addresses));
    } else {
        assert!(parsed.ttl <= 1);
    }
    rewrite::set_traffic_class(&mut changed, !parsed.traffic_class);
    let again = ip::parse(&changed, changed.len()).expect("a packet of another class is still one");
    assert_eq!(again.traffic_class, !parsed.traffic_class);

    let valid = transport::is_valid(packet, &parsed, []);
    let translation = Translation {
        source: Some(swapped(parsed.source())),
        destination: Some(swapped(parsed.destination())),
        source_port: Some(!transport.tuple.source_port),
        destination_port: None,
    };
    let mut translated = packet.to_vec();
    if rewrite::translate(&mut translated, &parsed, &translation, ChecksumState::Complete).is_ok() {
        let again = ip::parse(&translated, translated.len()).expect("a translated packet is still one");
        assert_eq!(again.source(), swapped(parsed.source()));
        assert_eq!(transport::is_valid(&translated, &again, []), valid);
    } else {
        assert_eq!(translated, packet);
    }

    let mut filled = packet.to_vec();
    if transport::fill_checksum(&mut filled, &parsed, []).is_ok() {
        assert_eq!(transport::is_valid(&filled, &parsed, []), Ok(true));
    }
}

/// Another address of the same family.
fn swapped(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) => IpAddr::from((!address.to_bits()).to_be_bytes()),
        IpAddr::V6(address) => IpAddr::from((!address.to_bits()).to_be_bytes()),
    }
}
