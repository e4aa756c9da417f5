//! Ethernet headers and VLAN tags, byte by byte.

use weft_packet::{
    Mac, VlanId,
    ethernet::{self, Tag, ethertype},
    malformed::{Fault, Header, Malformed},
    vlan,
};

const MACS: [u8; 12] = [0x52, 0x54, 0, 0, 0, 2, 0x52, 0x54, 0, 0, 0, 1];

fn frame(rest: &[u8]) -> Vec<u8> {
    [&MACS[..], rest].concat()
}

fn fault<T: std::fmt::Debug>(result: Result<T, Malformed>) -> (Header, u16, Fault) {
    let Malformed {
        header,
        offset,
        fault,
    } = result.unwrap_err();
    (header, offset, fault)
}

#[test]
fn an_untagged_frame_says_whom_it_is_for_and_what_it_carries() {
    let ethernet = ethernet::parse(&frame(&[0x08, 0x06, 0xff])).unwrap();
    assert_eq!(ethernet.destination.to_string(), "52:54:00:00:00:02");
    assert_eq!(ethernet.source.to_string(), "52:54:00:00:00:01");
    assert_eq!((ethernet.ethertype, ethernet.l3_offset), (ethertype::ARP, 14));
    assert_eq!(
        (ethernet.vlan(), ethernet.outer_tag, ethernet.inner_tag),
        (None, None, None)
    );
}

#[test]
fn a_tag_names_the_vlan_and_its_priority() {
    let ethernet = ethernet::parse(&frame(&[0x81, 0x00, 0xa0, 0x64, 0x08, 0x00])).unwrap();
    assert_eq!(ethernet.vlan(), VlanId::new(100).ok());
    assert_eq!(ethernet.outer_tag.unwrap().priority(), 5);
    assert_eq!((ethernet.ethertype, ethernet.l3_offset), (ethertype::IPV4, 18));
}

#[test]
fn a_priority_tag_belongs_to_no_vlan_but_takes_its_four_bytes() {
    let ethernet = ethernet::parse(&frame(&[0x81, 0x00, 0xe0, 0x00, 0x86, 0xdd])).unwrap();
    assert_eq!(ethernet.vlan(), None);
    assert_eq!(ethernet.outer_tag.unwrap().priority(), 7);
    assert_eq!((ethernet.ethertype, ethernet.l3_offset), (ethertype::IPV6, 18));
}

#[test]
fn a_second_tag_is_seen_and_a_third_refused() {
    let two = [0x88, 0xa8, 0, 10, 0x81, 0x00, 0, 20, 0x08, 0x00];
    let ethernet = ethernet::parse(&frame(&two)).unwrap();
    assert_eq!(
        ethernet.outer_tag,
        Some(Tag {
            protocol: ethertype::PROVIDER_VLAN,
            control: 10
        })
    );
    assert_eq!(
        ethernet.inner_tag,
        Some(Tag {
            protocol: ethertype::VLAN,
            control: 20
        })
    );
    assert_eq!((ethernet.ethertype, ethernet.l3_offset), (ethertype::IPV4, 22));

    let three = [&two[..8], &[0x81, 0x00, 0, 30, 0x08, 0x00]].concat();
    assert_eq!(
        fault(ethernet::parse(&frame(&three))),
        (Header::Vlan, 20, Fault::TooMany)
    );
    let endless = frame(&[0x81, 0x00, 0, 1].repeat(300));
    assert_eq!(
        fault(ethernet::parse(&endless)),
        (Header::Vlan, 20, Fault::TooMany)
    );
}

#[test]
fn vlan_4095_is_refused() {
    let reserved = frame(&[0x81, 0x00, 0x0f, 0xff, 0x08, 0x00]);
    assert_eq!(
        fault(ethernet::parse(&reserved)),
        (Header::Vlan, 12, Fault::ReservedVlan)
    );
}

#[test]
fn a_frame_cut_off_in_its_header_or_tag_says_so() {
    let tagged = frame(&[0x81, 0x00, 0, 10, 0x81, 0x00, 0, 20, 0x08, 0x00]);
    for len in 0..tagged.len() {
        let expected = match len {
            0..14 => (Header::Ethernet, 0),
            14..18 => (Header::Vlan, 12),
            _ => (Header::Vlan, 16),
        };
        let (header, offset, what) = fault(ethernet::parse(&tagged[..len]));
        assert_eq!(
            (header, offset, what),
            (expected.0, expected.1, Fault::Truncated),
            "{len} bytes"
        );
    }
}

#[test]
fn stripping_and_pushing_a_tag_move_the_macs_alone() {
    let tagged = frame(&[0x81, 0x00, 0x20, 0x64, 0x08, 0x00, 0x45]);
    let mut bytes = tagged.clone();
    vlan::strip(&mut bytes).unwrap();
    assert_eq!(bytes[vlan::TAG_LEN..], frame(&[0x08, 0x00, 0x45]));
    vlan::push(
        &mut bytes,
        Tag {
            protocol: 0x8100,
            control: 0x2064,
        },
    )
    .unwrap();
    assert_eq!(bytes, tagged);
    assert_eq!(
        Tag::new(VlanId::MAX),
        Tag {
            protocol: 0x8100,
            control: 4094
        }
    );
    for len in 0..18 {
        assert!(vlan::strip(&mut tagged[..len].to_vec()).is_err());
        assert!(vlan::push(&mut tagged[..len].to_vec(), Tag::new(VlanId::MIN)).is_err());
    }
}

#[test]
fn a_written_ethernet_header_reads_back() {
    let mut header = [0; ethernet::HEADER_LEN];
    ethernet::write(&mut header, Mac::BROADCAST, Mac::VIRTUAL_ROUTER, ethertype::MPLS);
    let ethernet = ethernet::parse(&header).unwrap();
    assert_eq!(
        (ethernet.destination, ethernet.source),
        (Mac::BROADCAST, Mac::VIRTUAL_ROUTER)
    );
    assert_eq!(ethernet.ethertype, ethertype::MPLS);
}
