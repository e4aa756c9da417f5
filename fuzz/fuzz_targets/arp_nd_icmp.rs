//! Any frame that might be a question to the vRouter, and the answer to it: it reads back, and goes to the asker.

#![no_main]

use libfuzzer_sys::fuzz_target;
use weft_packet::{
    Mac, arp,
    ethernet::{self, ethertype},
    icmp, ip, l4, nd,
    refusal::{Because, MAX_LEN, Refusal},
    transport,
};

fuzz_target!(|frame: &[u8]| {
    let Ok(link) = ethernet::parse(frame) else { return };
    let offset = usize::from(link.l3_offset);
    match link.ethertype {
        ethertype::ARP => arp_answer(frame, offset),
        ethertype::IPV4 | ethertype::IPV6 => {
            neighbour_answer(frame, offset, link.source);
            echo_answer(&frame[offset..]);
            refusal(&frame[offset..]);
        }
        _ => {}
    }
});

fn arp_answer(frame: &[u8], offset: usize) {
    let Ok(request) = arp::parse(&frame[offset..]) else {
        return;
    };
    let mut answered = frame.to_vec();
    arp::answer_in_place(&mut answered, offset, Mac::VIRTUAL_ROUTER).expect("what was read can be answered");
    let reply = arp::parse(&answered[offset..]).expect("an answer reads back");
    assert_eq!(reply.operation, arp::Operation::Reply);
    assert_eq!(
        (reply.sender_mac, reply.sender),
        (Mac::VIRTUAL_ROUTER, request.target)
    );
    assert_eq!(
        (reply.target_mac, reply.target),
        (request.sender_mac, request.sender)
    );
    assert_eq!(answered[..6], frame[6..12]);
    assert_eq!(answered[offset + arp::LEN..], frame[offset + arp::LEN..]);
}

fn neighbour_answer(frame: &[u8], offset: usize, sender: Mac) {
    let l3 = &frame[offset..];
    let Ok(parsed) = ip::parse(l3, l3.len()) else {
        return;
    };
    let Ok(Some(nd::Message::Solicitation(solicitation))) = nd::parse(l3, &parsed) else {
        return;
    };
    let mut answered = frame.to_vec();
    answered.resize(frame.len().max(offset + nd::PACKET_LEN), 0);
    let answer = nd::Answer {
        mac: Mac::VIRTUAL_ROUTER,
        router: true,
        override_known: true,
    };
    let len = nd::answer_in_place(&mut answered, offset, &solicitation, answer).expect("there is room");
    let l3 = &answered[offset..len];
    let parsed = ip::parse(l3, l3.len()).expect("an answer reads back");
    let Ok(Some(nd::Message::Advertisement(advertisement))) = nd::parse(l3, &parsed) else {
        // To a group: a solicitation whose source is one cannot be answered so that RFC 4861 takes it.
        assert!(solicitation.source.is_multicast());
        return;
    };
    assert_eq!(advertisement.target, solicitation.target);
    assert_eq!(advertisement.target_mac, Some(Mac::VIRTUAL_ROUTER));
    assert_eq!(
        advertisement.solicited,
        !solicitation.is_duplicate_address_detection()
    );
    if advertisement.solicited {
        assert_eq!(answered[..6], solicitation.source_mac.unwrap_or(sender).0);
    }
}

fn refusal(l3: &[u8]) {
    let Ok(parsed) = ip::parse(l3, l3.len()) else {
        return;
    };
    let Some(refusal) = Refusal::of(l3, &parsed, Because::Prohibited) else {
        return;
    };
    let mut answer = vec![0; refusal.len()];
    assert!(answer.len() <= MAX_LEN && refusal.write(&mut answer));
    let read = ip::parse(&answer, answer.len()).expect("an answer reads back");
    assert_eq!(
        (read.source(), read.destination()),
        (parsed.destination(), parsed.source())
    );
    assert!(Refusal::of(&answer, &read, Because::Prohibited).is_none(), "answers are not answered");
}

fn echo_answer(l3: &[u8]) {
    let Ok(parsed) = ip::parse(l3, l3.len()) else {
        return;
    };
    if !icmp::is_echo_request(l3, &parsed) || l4::parse(l3, &parsed).is_err() {
        return;
    }
    let mut answered = l3.to_vec();
    icmp::answer_echo_in_place(&mut answered, &parsed).expect("what was read can be answered");
    let reply = ip::parse(&answered, answered.len()).expect("an answer reads back");
    assert_eq!(
        (reply.source(), reply.destination()),
        (parsed.destination(), parsed.source())
    );
    assert_eq!(reply.total_len, parsed.total_len);
    assert!(!icmp::is_echo_request(&answered, &reply));
    assert_eq!(
        transport::is_valid(&answered, &reply, []),
        transport::is_valid(l3, &parsed, [])
    );
}
