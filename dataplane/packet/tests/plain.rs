//! The one look at plain packets against the general parsers: what it takes, they read the same way, and it takes what
//! is plain.

mod common;

use common::{Protocol, Spec, any_spec, framed, mend_ipv4};
use proptest::prelude::*;
use weft_packet::{
    Mac, Vni, ethernet,
    ip::{self, Addresses, Fragment, IpPacket},
    l4,
    plain::{self, Plain},
    tunnel::{self, Identifier, Inner, OuterChecksum, Template},
};

/// A frame with a tag or without, and what the link pads it with.
fn link(packet: &[u8], tag: Option<u16>, padding: usize) -> Vec<u8> {
    let mut frame = framed(packet);
    if let Some(tag) = tag {
        frame.splice(12..12, [0x81, 0, (tag >> 8) as u8, tag as u8]);
    }
    frame.extend(vec![0xee; padding]);
    frame
}

/// Changes a byte, and mends the IPv4 header's checksum if asked to, so that what comes behind is looked at too.
fn damage(bytes: &mut [u8], l3_offset: usize, change: Option<(usize, u8, bool)>) {
    if let Some((at, xor, mend)) = change {
        let at = at % bytes.len();
        bytes[at] ^= xor;
        if mend && bytes.len() >= l3_offset + 20 {
            mend_ipv4(&mut bytes[l3_offset..]);
        }
    }
}

fn says_the_same(plain: Plain, general: &IpPacket, l3: &[u8]) {
    let transport = l4::parse(l3, general).expect("what is plain has a good transport header");
    let Addresses::V4 { source, destination } = general.addresses else {
        panic!("what is plain is IPv4");
    };
    assert_eq!(
        (plain.source(), plain.destination()),
        (source.to_bits(), destination.to_bits())
    );
    assert_eq!(plain.ports() as u16, transport.tuple.source_port);
    assert_eq!((plain.ports() >> 16) as u16, transport.tuple.destination_port);
    assert_eq!(
        plain.addresses(),
        u64::from(plain.source()) | u64::from(plain.destination()) << 32
    );
    assert_eq!(plain.protocol(), general.protocol);
    assert_eq!(plain.traffic_class(), general.traffic_class);
    assert_eq!(plain.tcp_flags(), transport.tcp_flags);
    assert_eq!(u32::from(plain.total_len()), general.total_len);
    assert!(general.fragment == Fragment::Whole && !general.has_options);
    assert!(!destination.is_multicast() && !destination.is_broadcast());
}

fn change() -> impl Strategy<Value = Option<(usize, u8, bool)>> {
    prop::option::of((0usize..70, any::<u8>(), any::<bool>()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn what_is_plain_is_read_as_the_general_parsers_do(
        spec in any_spec(),
        tag in prop::option::of(any::<u16>()),
        padding in 0usize..20,
        change in change(),
    ) {
        let mut frame = link(&spec.build(), tag, padding);
        damage(&mut frame, if tag.is_some() { 18 } else { 14 }, change);
        let Some((vlan, plain)) = plain::parse(&frame) else {
            let group = spec.destination[12] >= 224;
            let plain = !spec.v6 && spec.ipv4_options.is_empty() && !group && spec.build().len() + padding >= 40
                && matches!(spec.protocol, Protocol::Tcp | Protocol::Udp)
                && tag.is_none_or(|tag| tag & 0xfff != 0xfff);
            prop_assert!(change.is_some() || !plain, "a plain packet was not taken for one");
            return Ok(());
        };
        let link = ethernet::parse(&frame).expect("what is plain has a good link header");
        prop_assert_eq!(link.vlan().map_or(0, |vlan| vlan.get()), vlan);
        prop_assert!(link.inner_tag.is_none() && !link.destination.is_multicast());
        prop_assert_eq!(usize::from(link.l3_offset), plain.l3_offset());
        let l3 = &frame[plain.l3_offset()..];
        let general = ip::parse(l3, l3.len()).expect("what is plain has a good IP header");
        says_the_same(plain, &general, l3);
    }

    #[test]
    fn what_is_plain_in_a_tunnel_is_read_as_the_general_parsers_do(
        spec in any_spec(),
        vni in 1u32..1 << 24,
        outer_class in any::<u8>(),
        change in change(),
        inner_change in change(),
    ) {
        let mut inner = spec.build();
        damage(&mut inner, 0, inner_change);
        let ends = ("198.18.0.1".parse().unwrap(), "198.18.0.2".parse().unwrap());
        let template = Template::vxlan(ends.0, ends.1, Vni::new(vni).unwrap(), Mac([2, 0, 0, 0, 0, 9])).unwrap();
        let mut packet = vec![0; template.len()];
        template.write(&mut packet, inner.len(), 50_000, outer_class, spec.v6).unwrap();
        packet.extend(&inner);
        let mut frame = link(&packet, None, 0);
        damage(&mut frame, 14, change);
        let found = plain::parse(&frame).and_then(|(_, outer)| plain::vxlan(&frame, outer));
        let Some((found, inner)) = found else {
            return Ok(());
        };
        let l3 = &frame[14..];
        let outer = ip::parse(l3, l3.len()).unwrap();
        let decap = tunnel::parse(l3, &outer).unwrap().expect("what is a plain tunnel's is a tunnel's");
        prop_assert_eq!(decap.identifier, Identifier::Vni(Vni::new(found).unwrap()));
        prop_assert_eq!((decap.inner, decap.outer_checksum), (Inner::Ethernet, OuterChecksum::Absent));
        let inner_frame = &frame[14 + usize::from(decap.inner_offset)..14 + outer.total_len as usize];
        let link = ethernet::parse(inner_frame).unwrap();
        prop_assert!(link.outer_tag.is_none() && !link.destination.is_multicast());
        prop_assert_eq!(14 + usize::from(decap.inner_offset + link.l3_offset), inner.l3_offset());
        let l3 = &inner_frame[14..];
        let general = ip::parse(l3, l3.len()).unwrap();
        says_the_same(inner, &general, l3);
        prop_assert_eq!(tunnel::ecn_decapsulate(outer.ecn(), general.ecn()), Ok(general.ecn()));
    }
}

#[test]
fn a_plain_packet_in_a_plain_tunnel_is_found() {
    let inner = Spec {
        payload: vec![0; 40],
        ..Spec::default()
    }
    .build();
    let ends = ("198.18.0.1".parse().unwrap(), "198.18.0.2".parse().unwrap());
    let template = Template::vxlan(ends.0, ends.1, Vni::new(5000).unwrap(), Mac([2, 0, 0, 0, 0, 9])).unwrap();
    let mut packet = vec![0; template.len()];
    template
        .write(&mut packet, inner.len(), 50_000, 0, false)
        .unwrap();
    packet.extend(&inner);
    let frame = link(&packet, Some(100), 0);
    let (vlan, outer) = plain::parse(&frame).unwrap();
    let (vni, inner) = plain::vxlan(&frame, outer).unwrap();
    assert_eq!((vlan, vni, inner.l3_offset()), (100, 5000, 18 + 50));
    assert_eq!(inner.ports(), 1000 | 2000 << 16);
}
