//! Any packet cut into segments and into fragments: every piece reads back, and together they are the packet.

#![no_main]

use libfuzzer_sys::fuzz_target;
use weft_packet::{
    fragment::Fragmenter,
    ip::{self, IpPacket},
    ipv4, l4,
    segment::Segmenter,
    transport,
};

fuzz_target!(|input: &[u8]| {
    let Some((size, packet)) = input.split_first_chunk::<2>() else {
        return;
    };
    let size = u16::from_be_bytes(*size);
    let Ok(parsed) = ip::parse(packet, packet.len()) else {
        return;
    };
    let packet = &packet[..parsed.total_len as usize];
    segments(packet, &parsed, size);
    fragments(packet, &parsed, size);
});

fn segments(packet: &[u8], parsed: &IpPacket, size: u16) {
    let Ok(segmenter) = Segmenter::new(packet, 0, parsed, size) else {
        return;
    };
    l4::parse(packet, parsed).expect("what is segmented has a TCP header");
    let payload = &packet[segmenter.header_len()..];
    let mut next = 0;
    for index in 0..segmenter.count() {
        let mut segment = vec![0; segmenter.header_len()];
        let range = segmenter
            .write(index, &mut segment)
            .expect("every segment up to the count is there");
        assert_eq!(range.start, next);
        assert!(range.len() <= usize::from(size));
        next = range.end;
        segmenter
            .finish(&mut segment, [&payload[range.clone()]])
            .expect("the header has room");
        segment.extend(&payload[range]);
        let again = ip::parse(&segment, segment.len()).expect("a segment reads back");
        assert_eq!(again.total_len as usize, segment.len());
        assert_eq!(transport::is_valid(&segment, &again, []), Ok(true));
    }
    assert_eq!(next, payload.len());
}

fn fragments(packet: &[u8], parsed: &IpPacket, mtu: u16) {
    let Ok(fragmenter) = Fragmenter::new(packet, parsed, mtu) else {
        return;
    };
    let data = &packet[usize::from(parsed.l4_offset)..];
    let mut next = 0;
    for index in 0..fragmenter.count() {
        let mut header = [0; ipv4::MAX_HEADER_LEN];
        let (len, range) = fragmenter
            .write(index, &mut header)
            .expect("every fragment up to the count is there");
        assert_eq!(range.start, next);
        next = range.end;
        let fragment = [&header[..len], &data[range]].concat();
        assert!(fragment.len() <= usize::from(mtu));
        let again = ip::parse(&fragment, fragment.len()).expect("a fragment reads back");
        assert_eq!(again.addresses, parsed.addresses);
    }
    assert_eq!(next, data.len());
}
