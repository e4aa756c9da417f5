//! ARP, neighbour discovery and echo: answers byte by byte, questions as smoltcp reads them.

mod common;

use std::net::{Ipv4Addr, Ipv6Addr};

use common::{Protocol, Spec, framed, naive_checksum};
use proptest::prelude::*;
use smoltcp::{
    phy::ChecksumCapabilities,
    wire::{
        ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, Icmpv6Packet, Icmpv6Repr,
        Ipv6Packet, NdiscNeighborFlags, NdiscRepr,
    },
};
use weft_packet::{
    Mac, arp, ip,
    malformed::{Fault, Malformed},
    nd,
};

const OUR_MAC: Mac = Mac::VIRTUAL_ROUTER;
const HOST_MAC: Mac = Mac([0x52, 0x54, 0, 0, 0, 1]);
const HOST: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 5);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const HOST6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0x5054, 0xff, 0xfe00, 1);

fn request_frame() -> [u8; arp::FRAME_LEN] {
    let mut frame = [0; arp::FRAME_LEN];
    arp::write_request(&mut frame, HOST_MAC, HOST, GATEWAY, None);
    frame
}

#[test]
fn an_arp_request_is_what_rfc_826_draws() {
    let expected = [
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x52, 0x54, 0, 0, 0, 1, 0x08, 0x06, // Ethernet
        0, 1, 0x08, 0, 6, 4, 0, 1, // Ethernet, IPv4, request
        0x52, 0x54, 0, 0, 0, 1, 10, 0, 0, 5, // sender
        0, 0, 0, 0, 0, 0, 10, 0, 0, 1, // target
    ];
    assert_eq!(request_frame(), expected);
    let mut to_one = request_frame();
    arp::write_request(&mut to_one, HOST_MAC, HOST, GATEWAY, Some(OUR_MAC));
    assert_eq!(to_one[..6], OUR_MAC.0);
    assert_eq!(to_one[6..], expected[6..]);
}

#[test]
fn an_arp_request_is_answered_in_its_own_frame() {
    // Tagged, and padded to what Ethernet wants.
    let request = request_frame();
    let mut frame = [&request[..12], &[0x81, 0, 0, 100], &request[12..], &[0xee; 18]].concat();
    arp::answer_in_place(&mut frame, 18, OUR_MAC).unwrap();
    let expected = [
        &[
            0x52, 0x54, 0, 0, 0, 1, 0, 0, 0x5e, 0, 1, 0, 0x81, 0, 0, 100, 0x08, 0x06,
        ][..],
        &[0, 1, 0x08, 0, 6, 4, 0, 2],
        &[0, 0, 0x5e, 0, 1, 0, 10, 0, 0, 1],
        &[0x52, 0x54, 0, 0, 0, 1, 10, 0, 0, 5],
        &[0xee; 18],
    ]
    .concat();
    assert_eq!(frame, expected);
}

#[test]
fn probes_and_announcements_are_told_from_requests() {
    let arp = arp::parse(&request_frame()[14..]).unwrap();
    assert!(!arp.is_probe() && !arp.is_announcement());
    assert_eq!(arp.operation, arp::Operation::Request);

    let mut frame = [0; arp::FRAME_LEN];
    arp::write_request(&mut frame, HOST_MAC, Ipv4Addr::UNSPECIFIED, HOST, None);
    let probe = arp::parse(&frame[14..]).unwrap();
    assert!(probe.is_probe() && !probe.is_announcement());
    // The answer to a probe tells that the address is taken, and nobody's address as the asker's.
    arp::answer_in_place(&mut frame, 14, OUR_MAC).unwrap();
    let answer = arp::parse(&frame[14..]).unwrap();
    assert_eq!(
        (answer.operation, answer.sender, answer.target),
        (arp::Operation::Reply, HOST, Ipv4Addr::UNSPECIFIED)
    );

    arp::write_announcement(&mut frame, HOST_MAC, HOST);
    let announcement = arp::parse(&frame[14..]).unwrap();
    assert!(announcement.is_announcement() && !announcement.is_probe());
    assert_eq!(frame[..6], Mac::BROADCAST.0);
}

#[test]
fn arp_of_another_kind_and_cut_off_arp_are_refused() {
    let frame = request_frame();
    for place in [14, 15, 16, 17, 18, 19, 20, 21] {
        let mut other = frame;
        other[place] ^= 0x40;
        assert_eq!(
            arp::parse(&other[14..]).unwrap_err().fault,
            Fault::NotEthernetIpv4,
            "byte {place}"
        );
    }
    for len in 0..arp::LEN {
        assert_eq!(
            arp::parse(&frame[14..14 + len]).unwrap_err().fault,
            Fault::Truncated
        );
        let mut cut = frame[..14 + len].to_vec();
        assert_eq!(
            arp::answer_in_place(&mut cut, 14, OUR_MAC).unwrap_err().fault,
            Fault::Truncated
        );
        assert_eq!(cut, frame[..14 + len]);
    }
}

#[test]
fn a_sender_that_differs_from_its_frame_is_seen() {
    let mut frame = request_frame();
    assert!(arp::sender_matches_frame(&frame, 14));
    frame[22] ^= 2;
    assert!(!arp::sender_matches_frame(&frame, 14));
    assert!(!arp::sender_matches_frame(&frame[..20], 14));
}

fn message(frame: &[u8]) -> Result<Option<nd::Message>, Malformed> {
    let ip = ip::parse(&frame[14..], frame.len() - 14).unwrap();
    nd::parse(&frame[14..], &ip)
}

/// The message as smoltcp reads it, checksum verified.
fn second_opinion(frame: &[u8]) -> (Ipv6Addr, Ipv6Addr, NdiscRepr<'_>) {
    let ipv6 = Ipv6Packet::new_checked(&frame[14..]).unwrap();
    assert_eq!(ipv6.hop_limit(), 255);
    let (source, destination) = (ipv6.src_addr(), ipv6.dst_addr());
    let icmp = Icmpv6Packet::new_checked(ipv6.payload()).unwrap();
    match Icmpv6Repr::parse(&source, &destination, &icmp, &ChecksumCapabilities::default()).unwrap() {
        Icmpv6Repr::Ndisc(repr) => (source, destination, repr),
        other => panic!("{other:?} is no neighbour discovery"),
    }
}

fn lladdr(mac: Mac) -> Option<smoltcp::wire::RawHardwareAddress> {
    Some(EthernetAddress(mac.0).into())
}

fn solicitation_frame(target: Ipv6Addr) -> Vec<u8> {
    let mut frame = [0; nd::FRAME_LEN];
    nd::write_solicitation(&mut frame, HOST_MAC, HOST6, target, None);
    frame.to_vec()
}

/// Duplicate address detection: from nobody, without the option, so eight bytes less.
fn detection_frame(target: Ipv6Addr) -> Vec<u8> {
    let mut frame = solicitation_frame(target);
    frame.truncate(14 + 40 + 24);
    frame[18..20].copy_from_slice(&24u16.to_be_bytes());
    frame[22..38].fill(0);
    mend(&mut frame);
    frame
}

fn mend(frame: &mut [u8]) {
    let len = (frame.len() - 54) as u32;
    frame[56..58].fill(0);
    let covered = [&frame[22..54], &len.to_be_bytes(), &[0, 0, 0, 58], &frame[54..]].concat();
    let sum = naive_checksum(&covered);
    frame[56..58].copy_from_slice(&sum.to_be_bytes());
}

#[test]
fn the_routers_link_local_address_is_that_of_its_mac() {
    assert_eq!(nd::VIRTUAL_ROUTER.to_string(), "fe80::200:5eff:fe00:100");
    assert_eq!(
        nd::solicited_node(nd::VIRTUAL_ROUTER).to_string(),
        "ff02::1:ff00:100"
    );
    assert_eq!(
        nd::multicast_mac(nd::solicited_node(nd::VIRTUAL_ROUTER)).to_string(),
        "33:33:ff:00:01:00"
    );
    assert_eq!(nd::multicast_mac(nd::ALL_NODES).to_string(), "33:33:00:00:00:01");
}

#[test]
fn a_solicitation_goes_to_the_targets_group_and_reads_back() {
    let frame = solicitation_frame(nd::VIRTUAL_ROUTER);
    assert_eq!(frame[..12], [0x33, 0x33, 0xff, 0, 1, 0, 0x52, 0x54, 0, 0, 0, 1]);
    let (source, destination, repr) = second_opinion(&frame);
    assert_eq!(
        (source, destination),
        (HOST6, nd::solicited_node(nd::VIRTUAL_ROUTER))
    );
    assert_eq!(
        repr,
        NdiscRepr::NeighborSolicit {
            target_addr: nd::VIRTUAL_ROUTER,
            lladdr: lladdr(HOST_MAC)
        }
    );
    let expected = nd::Solicitation {
        source: HOST6,
        target: nd::VIRTUAL_ROUTER,
        source_mac: Some(HOST_MAC),
    };
    assert_eq!(message(&frame), Ok(Some(nd::Message::Solicitation(expected))));

    let mut to_one = [0; nd::FRAME_LEN];
    nd::write_solicitation(&mut to_one, HOST_MAC, HOST6, nd::VIRTUAL_ROUTER, Some(OUR_MAC));
    assert_eq!(to_one[..6], OUR_MAC.0);
    assert_eq!(second_opinion(&to_one).1, nd::VIRTUAL_ROUTER);
}

#[test]
fn a_solicitation_is_answered_in_its_own_frame() {
    let mut frame = solicitation_frame(nd::VIRTUAL_ROUTER);
    let Ok(Some(nd::Message::Solicitation(solicitation))) = message(&frame) else {
        panic!()
    };
    let answer = nd::Answer {
        mac: OUR_MAC,
        router: true,
        override_known: true,
    };
    assert_eq!(nd::answer_in_place(&mut frame, 14, &solicitation, answer), Ok(86));
    assert_eq!(frame[..12], [0x52, 0x54, 0, 0, 0, 1, 0, 0, 0x5e, 0, 1, 0]);
    let (source, destination, repr) = second_opinion(&frame);
    assert_eq!((source, destination), (nd::VIRTUAL_ROUTER, HOST6));
    let flags = NdiscNeighborFlags::ROUTER | NdiscNeighborFlags::SOLICITED | NdiscNeighborFlags::OVERRIDE;
    let target_addr = nd::VIRTUAL_ROUTER;
    assert_eq!(
        repr,
        NdiscRepr::NeighborAdvert {
            flags,
            target_addr,
            lladdr: lladdr(OUR_MAC)
        }
    );
    let expected = nd::Advertisement {
        source: nd::VIRTUAL_ROUTER,
        target: nd::VIRTUAL_ROUTER,
        target_mac: Some(OUR_MAC),
        router: true,
        solicited: true,
        override_known: true,
    };
    assert_eq!(message(&frame), Ok(Some(nd::Message::Advertisement(expected))));
}

#[test]
fn duplicate_address_detection_is_answered_to_all_nodes() {
    let mut frame = detection_frame(HOST6);
    let Ok(Some(nd::Message::Solicitation(solicitation))) = message(&frame) else {
        panic!()
    };
    assert!(solicitation.is_duplicate_address_detection());
    let answer = nd::Answer {
        mac: OUR_MAC,
        router: false,
        override_known: false,
    };
    let no_room = nd::NoRoom {
        needed: 86,
        given: 78,
    };
    assert_eq!(
        nd::answer_in_place(&mut frame, 14, &solicitation, answer),
        Err(no_room)
    );
    frame.resize(90, 0xee);
    assert_eq!(nd::answer_in_place(&mut frame, 14, &solicitation, answer), Ok(86));
    assert_eq!(frame[..6], [0x33, 0x33, 0, 0, 0, 1]);
    let (source, destination, repr) = second_opinion(&frame[..86]);
    assert_eq!((source, destination), (HOST6, nd::ALL_NODES));
    let flags = NdiscNeighborFlags::empty();
    assert_eq!(
        repr,
        NdiscRepr::NeighborAdvert {
            flags,
            target_addr: HOST6,
            lladdr: lladdr(OUR_MAC)
        }
    );
}

#[test]
fn a_tagged_solicitation_keeps_its_tag() {
    let untagged = solicitation_frame(nd::VIRTUAL_ROUTER);
    let mut frame = [&untagged[..12], &[0x81, 0, 0, 100], &untagged[12..]].concat();
    let Ok(Some(nd::Message::Solicitation(solicitation))) = message(&untagged) else {
        panic!()
    };
    let answer = nd::Answer {
        mac: OUR_MAC,
        router: true,
        override_known: true,
    };
    assert_eq!(nd::answer_in_place(&mut frame, 18, &solicitation, answer), Ok(90));
    assert_eq!(frame[12..18], [0x81, 0, 0, 100, 0x86, 0xdd]);
}

#[test]
fn an_announcement_goes_to_all_nodes() {
    let mut frame = [0; nd::FRAME_LEN];
    nd::write_announcement(&mut frame, HOST_MAC, HOST6, false);
    let (source, destination, repr) = second_opinion(&frame);
    assert_eq!((source, destination), (HOST6, nd::ALL_NODES));
    let flags = NdiscNeighborFlags::OVERRIDE;
    assert_eq!(
        repr,
        NdiscRepr::NeighborAdvert {
            flags,
            target_addr: HOST6,
            lladdr: lladdr(HOST_MAC)
        }
    );
}

#[test]
fn what_rfc_4861_tells_to_discard_is_refused() {
    let fault = |frame: &[u8]| message(frame).unwrap_err().fault;
    let good = solicitation_frame(nd::VIRTUAL_ROUTER);
    let with = |place: usize, value: u8| {
        let mut frame = good.clone();
        frame[place] = value;
        mend(&mut frame);
        frame
    };
    assert_eq!(fault(&with(21, 254)), Fault::HopLimit);
    assert_eq!(fault(&with(55, 1)), Fault::NeighbourDiscovery); // code
    assert_eq!(fault(&with(62, 0xff)), Fault::NeighbourDiscovery); // multicast target
    assert_eq!(fault(&with(79, 0)), Fault::NeighbourDiscovery); // option of length 0
    assert_eq!(fault(&with(79, 2)), Fault::NeighbourDiscovery); // option beyond the end
    let mut spoilt = good.clone();
    spoilt[60] ^= 1;
    assert_eq!(fault(&spoilt), Fault::Checksum);
    // From nobody, but with an option or to a single address.
    let mut from_nobody = good.clone();
    from_nobody[22..38].fill(0);
    mend(&mut from_nobody);
    assert_eq!(fault(&from_nobody), Fault::NeighbourDiscovery);
    let mut to_one = detection_frame(HOST6);
    to_one[38..54].copy_from_slice(&HOST6.octets());
    mend(&mut to_one);
    assert_eq!(fault(&to_one), Fault::NeighbourDiscovery);
    // A "solicited" advertisement to a group.
    let mut advertisement = [0; nd::FRAME_LEN];
    nd::write_announcement(&mut advertisement, HOST_MAC, HOST6, false);
    advertisement[58] |= 0x40;
    mend(&mut advertisement);
    assert_eq!(fault(&advertisement), Fault::NeighbourDiscovery);
    // In a fragment (RFC 6980).
    let mut fragment = good.clone();
    fragment.splice(54..54, [58, 0, 0, 1, 0, 0, 0, 1]);
    fragment[18..20].copy_from_slice(&40u16.to_be_bytes());
    fragment[20] = 44;
    assert_eq!(fault(&fragment), Fault::NeighbourDiscovery);
    // Shorter than its fixed part.
    let mut short = good[..14 + 40 + 20].to_vec();
    short[18..20].copy_from_slice(&20u16.to_be_bytes());
    mend(&mut short);
    assert_eq!(fault(&short), Fault::Truncated);
}

#[test]
fn an_unknown_option_is_skipped_and_the_asker_is_then_who_sent_the_frame() {
    let mut frame = solicitation_frame(nd::VIRTUAL_ROUTER);
    frame[78] = 200;
    mend(&mut frame);
    let Ok(Some(nd::Message::Solicitation(solicitation))) = message(&frame) else {
        panic!()
    };
    assert_eq!(solicitation.source_mac, None);
    let answer = nd::Answer {
        mac: OUR_MAC,
        router: true,
        override_known: true,
    };
    nd::answer_in_place(&mut frame, 14, &solicitation, answer).unwrap();
    assert_eq!(frame[..6], HOST_MAC.0);
}

#[test]
fn other_packets_are_no_neighbour_discovery() {
    for spec in [
        Spec::default(),
        Spec {
            v6: true,
            ..Spec::default()
        },
        Spec {
            v6: true,
            protocol: Protocol::EchoRequest,
            ..Spec::default()
        },
    ] {
        assert_eq!(message(&framed(&spec.build())), Ok(None));
    }
}

proptest! {
    #[test]
    fn smoltcp_reads_and_writes_the_same_arp(
        reply: bool,
        macs: ([u8; 6], [u8; 6]),
        addresses: ([u8; 4], [u8; 4]),
    ) {
        let operation = if reply { ArpOperation::Reply } else { ArpOperation::Request };
        let theirs = ArpRepr::EthernetIpv4 {
            operation,
            source_hardware_addr: EthernetAddress(macs.0),
            source_protocol_addr: Ipv4Addr::from(addresses.0),
            target_hardware_addr: EthernetAddress(macs.1),
            target_protocol_addr: Ipv4Addr::from(addresses.1),
        };
        let ours = arp::Arp {
            operation: if reply { arp::Operation::Reply } else { arp::Operation::Request },
            sender_mac: Mac(macs.0),
            sender: Ipv4Addr::from(addresses.0),
            target_mac: Mac(macs.1),
            target: Ipv4Addr::from(addresses.1),
        };
        let mut frame = [0; arp::FRAME_LEN];
        arp::write(&mut frame, Mac(macs.1), Mac(macs.0), &ours);
        let ethernet = EthernetFrame::new_checked(&frame[..]).unwrap();
        prop_assert_eq!(ArpRepr::parse(&ArpPacket::new_checked(ethernet.payload()).unwrap()).unwrap(), theirs);

        let mut bytes = [0; arp::LEN];
        theirs.emit(&mut ArpPacket::new_unchecked(&mut bytes[..]));
        prop_assert_eq!(arp::parse(&bytes), Ok(ours));
    }

    #[test]
    fn neighbour_discovery_cut_or_damaged_anywhere_breaks_nothing(
        place in any::<prop::sample::Index>(),
        value: u8,
        mended: bool,
    ) {
        let frame = solicitation_frame(nd::VIRTUAL_ROUTER);
        let ip = ip::parse(&frame[14..], frame.len() - 14).unwrap();
        for len in 14..frame.len() {
            let cut = nd::parse(&frame[14..len], &ip);
            prop_assert!(cut == Ok(None) || cut.unwrap_err().fault == Fault::Truncated);
        }
        let mut damaged = frame.clone();
        damaged[54 + place.index(32)] = value;
        if mended {
            mend(&mut damaged);
        }
        let _ = message(&damaged);
    }
}
