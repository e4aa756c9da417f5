//! Outer headers, byte by byte, and back again.

mod common;

use std::net::IpAddr;

use common::{Spec, any_spec, mend_ipv4, naive_checksum};
use proptest::prelude::*;
use weft_packet::{
    Label, Mac, Vni,
    checksum::Sum,
    ip::{self, IpPacket},
    tunnel::{
        self, Decap, DoesNotFit, Identifier, Inner, Kind, MAX_TEMPLATE_LEN, OuterChecksum, Template,
        TemplateError, TunnelError, decap, entropy,
    },
};

const INNER_MAC: Mac = Mac([0x52, 0x54, 0, 0, 0, 9]);

fn v4() -> (IpAddr, IpAddr) {
    (IpAddr::from([198, 18, 0, 1]), IpAddr::from([198, 18, 0, 2]))
}

fn v6() -> (IpAddr, IpAddr) {
    ("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap())
}

fn label(value: u32) -> Label {
    Label::new(value).unwrap()
}

fn written(template: &Template, inner_len: usize, traffic_class: u8, inner_is_v6: bool) -> Vec<u8> {
    let mut header = vec![0xee; template.len()];
    template
        .write(&mut header, inner_len, 0xc123, traffic_class, inner_is_v6)
        .unwrap();
    header
}

#[test]
fn vxlan_over_ipv4_is_what_rfc_7348_draws() {
    let (local, remote) = v4();
    let template = Template::vxlan(local, remote, Vni::new(0x01_02_03).unwrap(), INNER_MAC).unwrap();
    assert_eq!(
        (template.len(), template.is_v6(), template.has_entropy()),
        (50, false, true)
    );
    let mut expected = vec![
        0x45, 0xb9, 0, 150, 0, 0, 0x40, 0, 64, 17, 0, 0, 198, 18, 0, 1, 198, 18, 0, 2, // IPv4
        0xc1, 0x23, 0x12, 0xb5, 0, 130, 0, 0, // UDP
        0x08, 0, 0, 0, 1, 2, 3, 0, // VXLAN
        0x52, 0x54, 0, 0, 0, 9, 0, 0, 0x5e, 0, 1, 0, 0x08, 0, // Ethernet
    ];
    mend_ipv4(&mut expected);
    assert_eq!(written(&template, 100, 0xb9, false), expected);
    expected[48..].copy_from_slice(&[0x86, 0xdd]);
    assert_eq!(written(&template, 100, 0xb9, true), expected);
}

#[test]
fn mpls_over_udp_over_ipv6_is_what_rfc_7510_draws() {
    let (local, remote) = v6();
    let labels = [label(0x12345), label(16)];
    let template = Template::mpls_over_udp(local, remote, &labels).unwrap();
    assert_eq!(
        (template.len(), template.is_v6(), template.has_entropy()),
        (56, true, true)
    );
    let expected = [
        &[0x6b, 0x90, 0xc1, 0x23, 0, 116, 17, 64][..], // traffic class b9, flow label 0c123
        &[0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
        &[0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2],
        &[0xc1, 0x23, 0x19, 0xeb, 0, 116, 0, 0],
        &[0x12, 0x34, 0x50, 64, 0, 1, 1, 64],
    ]
    .concat();
    assert_eq!(written(&template, 100, 0xb9, true), expected);
}

#[test]
fn mpls_over_gre_over_ipv4_is_what_rfc_4023_draws() {
    let (local, remote) = v4();
    let template = Template::mpls_over_gre(local, remote, &[label(0xfffff)]).unwrap();
    assert_eq!((template.len(), template.has_entropy()), (28, false));
    let mut expected = vec![
        0x45, 0, 0, 128, 0, 0, 0x40, 0, 64, 47, 0, 0, 198, 18, 0, 1, 198, 18, 0, 2, // IPv4
        0, 0, 0x88, 0x47, // GRE
        0xff, 0xff, 0xf1, 64, // MPLS
    ];
    mend_ipv4(&mut expected);
    assert_eq!(written(&template, 100, 0, false), expected);
}

#[test]
fn a_template_wants_one_family_and_one_to_three_labels() {
    let ((local, _), (_, remote)) = (v4(), v6());
    let error = Template::vxlan(local, remote, Vni::MIN, INNER_MAC).unwrap_err();
    assert_eq!(error, TemplateError::Families { local, remote });
    assert_eq!(
        error.to_string(),
        "tunnel from 198.18.0.1 to fd00::2: both addresses must be IPv4, or both IPv6"
    );
    let (local, remote) = v4();
    assert_eq!(
        Template::mpls_over_udp(local, remote, &[]),
        Err(TemplateError::LabelCount(0))
    );
    assert_eq!(
        Template::mpls_over_gre(local, remote, &[label(99); 4]),
        Err(TemplateError::LabelCount(4))
    );
}

#[test]
fn a_template_is_not_written_where_it_does_not_fit() {
    let (local, remote) = v4();
    let template = Template::mpls_over_udp(local, remote, &[label(99)]).unwrap();
    let len = template.len();
    let mut room = [0; MAX_TEMPLATE_LEN];
    assert_eq!(
        template.write(&mut room[..len - 1], 1, 0, 0, false),
        Err(DoesNotFit::WrongRoom)
    );
    assert_eq!(
        template.write(&mut room[..len + 1], 1, 0, 0, false),
        Err(DoesNotFit::WrongRoom)
    );
    assert_eq!(
        template.write(&mut room[..len], 65_536 - len, 0, 0, false),
        Err(DoesNotFit::TooLong)
    );
    assert_eq!(
        template.write(&mut room[..len], usize::MAX, 0, 0, false),
        Err(DoesNotFit::TooLong)
    );
    assert_eq!(
        template.write(&mut room[..len], 65_535 - len, 0, 0, false),
        Ok(())
    );
    assert_eq!(
        template.patch(&mut room[..1], 1, 0, 0, false),
        Err(DoesNotFit::WrongRoom)
    );
}

#[test]
fn entropy_is_an_ephemeral_port_of_both_halves() {
    assert_eq!(entropy(0), 49152);
    assert_eq!(entropy(0x0000_ffff), 65535);
    assert_eq!(entropy(0x3fff_0000), 65535);
    assert_ne!(entropy(0x0001_0000), entropy(0));
}

/// A template's header before an inner packet: the whole underlay packet.
fn tunnelled(template: &Template, inner: &[u8], traffic_class: u8) -> Vec<u8> {
    let mut packet = vec![0; template.len()];
    let inner_is_v6 = inner[0] >> 4 == 6;
    template
        .write(&mut packet, inner.len(), 0xc001, traffic_class, inner_is_v6)
        .unwrap();
    packet.extend(inner);
    packet
}

fn parsed(packet: &[u8]) -> (IpPacket, Result<Option<Decap>, TunnelError>) {
    let ip = ip::parse(packet, packet.len()).unwrap();
    let decap = tunnel::parse(packet, &ip);
    (ip, decap)
}

fn error(packet: &[u8]) -> TunnelError {
    parsed(packet).1.unwrap_err()
}

fn vxlan() -> Vec<u8> {
    let (local, remote) = v4();
    let template = Template::vxlan(local, remote, Vni::new(7).unwrap(), INNER_MAC).unwrap();
    tunnelled(&template, &Spec::default().build(), 0)
}

fn mpls_over_udp(labels: &[Label]) -> Vec<u8> {
    let (local, remote) = v4();
    tunnelled(
        &Template::mpls_over_udp(local, remote, labels).unwrap(),
        &Spec::default().build(),
        0,
    )
}

fn mpls_over_gre() -> Vec<u8> {
    let (local, remote) = v4();
    tunnelled(
        &Template::mpls_over_gre(local, remote, &[label(99)]).unwrap(),
        &Spec::default().build(),
        0,
    )
}

#[test]
fn reserved_vxlan_bits_are_ignored_but_the_flag_and_a_vni_are_wanted() {
    let good = vxlan();
    let expected = parsed(&good).1.unwrap().unwrap();
    assert_eq!(expected.identifier, Identifier::Vni(Vni::new(7).unwrap()));
    assert_eq!(
        (expected.kind, expected.inner, expected.inner_offset),
        (Kind::Vxlan, Inner::Ethernet, 36)
    );

    let mut reserved = good.clone();
    reserved[28..32].copy_from_slice(&[0xff; 4]);
    reserved[35] = 0xff;
    assert_eq!(parsed(&reserved).1, Ok(Some(expected)));
    let mut unflagged = good.clone();
    unflagged[28] = 0xf7;
    assert_eq!(error(&unflagged), TunnelError::NoVni);
    let mut zero = good.clone();
    zero[34] = 0;
    assert_eq!(error(&zero), TunnelError::ZeroVni);
}

#[test]
fn only_one_ordinary_label_may_arrive() {
    assert_eq!(
        error(&mpls_over_udp(&[label(99), label(100)])),
        TunnelError::StackTooDeep
    );
    let mut endless = mpls_over_udp(&[label(99)]);
    for entry in endless[28..].chunks_exact_mut(4) {
        entry.copy_from_slice(&[0, 6, 0x30, 64]);
    }
    assert_eq!(error(&endless), TunnelError::StackTooDeep);
    let mut reserved = mpls_over_udp(&[label(99)]);
    reserved[28..32].copy_from_slice(&[0, 0, 0xf1, 64]);
    assert_eq!(error(&reserved), TunnelError::ReservedLabel(15));
    let mut expired = mpls_over_udp(&[label(99)]);
    expired[31] = 0;
    assert_eq!(error(&expired), TunnelError::LabelTtl);
}

#[test]
fn gre_options_are_looked_over_and_unknown_flags_refused() {
    let plain = mpls_over_gre();
    for (flags, words) in [(0x80, 1), (0x20, 1), (0x10, 1), (0xa0, 2), (0xb0, 3)] {
        let mut packet = plain[..24].to_vec();
        packet[20] = flags;
        packet.extend(vec![0xaa; 4 * words]);
        packet.extend(&plain[24..]);
        let total = packet.len() as u16;
        packet[2..4].copy_from_slice(&total.to_be_bytes());
        mend_ipv4(&mut packet);
        let decap = parsed(&packet).1.unwrap().unwrap();
        assert_eq!(decap.identifier, Identifier::Label(label(99)));
        assert_eq!(usize::from(decap.inner_offset), 28 + 4 * words);
        assert_eq!(decap.outer_checksum == OuterChecksum::Gre, flags & 0x80 != 0);
    }
    for flags in [0x40, 0x08, 0x04] {
        let mut packet = plain.clone();
        packet[20] = flags;
        assert_eq!(error(&packet), TunnelError::GreFlags);
    }
}

#[test]
fn what_is_no_tunnel_of_ours_is_left_alone() {
    for spec in [
        Spec::default(),
        Spec {
            v6: true,
            ..Spec::default()
        },
    ] {
        assert_eq!(parsed(&spec.build()).1, Ok(None));
    }
    let short = Spec {
        payload: vec![],
        ..Spec::default()
    }
    .build();
    assert_eq!(parsed(&short).1, Ok(None));
    let mut ethernet_in_gre = mpls_over_gre();
    ethernet_in_gre[22..24].copy_from_slice(&[0x65, 0x58]);
    assert_eq!(parsed(&ethernet_in_gre).1, Ok(None));
    let mut pptp = mpls_over_gre();
    pptp[21] = 1;
    assert_eq!(parsed(&pptp).1, Ok(None));
}

#[test]
fn fragments_of_tunnelled_packets_are_refused() {
    for mut packet in [vxlan(), mpls_over_udp(&[label(99)]), mpls_over_gre()] {
        packet.truncate((packet.len() - 20) / 8 * 8 + 20);
        let total = packet.len() as u16;
        packet[2..4].copy_from_slice(&total.to_be_bytes());
        packet[6..8].copy_from_slice(&[0x20, 0]);
        mend_ipv4(&mut packet);
        assert_eq!(error(&packet), TunnelError::OuterFragment);
        packet[6..8].copy_from_slice(&[0x20, 1]);
        mend_ipv4(&mut packet);
        assert!(parsed(&packet).0.fragment.is_later());
        assert_eq!(parsed(&packet).1, Ok(None));
    }
}

#[test]
fn an_outer_udp_length_that_lies_is_refused() {
    for delta in [-1i16, 1] {
        let mut packet = vxlan();
        let length = u16::from_be_bytes([packet[24], packet[25]]).wrapping_add_signed(delta);
        packet[24..26].copy_from_slice(&length.to_be_bytes());
        assert_eq!(error(&packet), TunnelError::Length);
    }
}

#[test]
fn a_tunnel_header_with_nothing_behind_is_refused() {
    for (packet, header_len) in [
        (vxlan(), 36),
        (mpls_over_udp(&[label(99)]), 32),
        (mpls_over_gre(), 28),
    ] {
        for len in 20..=header_len {
            let mut cut = packet[..len].to_vec();
            cut[2..4].copy_from_slice(&(len as u16).to_be_bytes());
            mend_ipv4(&mut cut);
            if len >= 26 && packet[9] == 17 {
                cut[24..26].copy_from_slice(&(len as u16 - 20).to_be_bytes());
            }
            let named = if packet[9] == 17 { 24 } else { 20 };
            let expected = if len < named {
                Ok(None)
            } else {
                Err(TunnelError::Truncated)
            };
            assert_eq!(parsed(&cut).1, expected, "{len} bytes of {packet:02x?}");
        }
    }
}

/// Found by fuzzing: two bytes behind the label were reported as if the header itself were cut off.
#[test]
fn a_few_bytes_behind_a_label_are_refused_as_shorter_than_any_packet() {
    let (local, remote) = v6();
    let template = Template::mpls_over_udp(local, remote, &[label(77)]).unwrap();
    let packet = tunnelled(&template, &[7, 82], 0xff);
    assert_eq!(error(&packet), TunnelError::Truncated);
    assert!(
        TunnelError::Truncated
            .to_string()
            .ends_with("what follows is shorter than any packet")
    );
    let packet = tunnelled(&template, &[0x45, 0, 0, 4], 0);
    assert!(matches!(parsed(&packet).1, Ok(Some(_))));
}

fn any_template() -> impl Strategy<Value = (Template, Kind, Identifier)> {
    let addresses = prop_oneof![Just(v4()), Just(v6())];
    (addresses, 0..3, 16u32..1 << 20).prop_map(|((local, remote), kind, number)| match kind {
        0 => {
            let vni = Vni::new(number).unwrap();
            (
                Template::vxlan(local, remote, vni, INNER_MAC).unwrap(),
                Kind::Vxlan,
                Identifier::Vni(vni),
            )
        }
        1 => (
            Template::mpls_over_udp(local, remote, &[label(number)]).unwrap(),
            Kind::MplsOverUdp,
            Identifier::Label(label(number)),
        ),
        _ => (
            Template::mpls_over_gre(local, remote, &[label(number)]).unwrap(),
            Kind::MplsOverGre,
            Identifier::Label(label(number)),
        ),
    })
}

proptest! {
    #[test]
    fn what_goes_into_a_tunnel_comes_out_of_it(
        (template, kind, identifier) in any_template(),
        inner in any_spec(),
    ) {
        let bytes = inner.build();
        let packet = tunnelled(&template, &bytes, inner.traffic_class);
        let (ip, decap) = parsed(&packet);
        let decap = decap.unwrap().unwrap();
        prop_assert_eq!((decap.kind, decap.identifier), (kind, identifier));
        prop_assert_eq!(decap.outer_checksum, OuterChecksum::Absent);
        prop_assert_eq!(ip.total_len as usize, packet.len());
        prop_assert_eq!((ip.ttl, ip.traffic_class), (64, inner.traffic_class));
        let mut inside = &packet[usize::from(decap.inner_offset)..];
        if decap.inner == Inner::Ethernet {
            let ethertype = if inner.v6 { [0x86, 0xdd] } else { [0x08, 0x00] };
            prop_assert_eq!(&inside[..6], &INNER_MAC.0);
            prop_assert_eq!(&inside[6..12], &Mac::VIRTUAL_ROUTER.0);
            prop_assert_eq!(&inside[12..14], &ethertype);
            inside = &inside[14..];
        }
        prop_assert_eq!(inside, &bytes[..]);

        // A second opinion on the outer headers.
        let outer = etherparse::SlicedPacket::from_ip(&packet).unwrap();
        if let Some(etherparse::TransportSlice::Udp(udp)) = &outer.transport {
            prop_assert_eq!(usize::from(udp.length()), ip.l4_len());
            prop_assert_eq!((udp.source_port(), udp.checksum()), (0xc001, 0));
        }
        if let Some(etherparse::NetSlice::Ipv4(ipv4)) = &outer.net {
            let header = ipv4.header().to_header();
            prop_assert!(header.dont_fragment);
            prop_assert_eq!(header.header_checksum, header.calc_header_checksum());
        }
    }

    #[test]
    fn a_patched_copy_is_the_same_header(
        (template, _, _) in any_template(),
        inner_len in 20usize..60_000,
        hash: u32,
        traffic_class: u8,
        inner_is_v6: bool,
    ) {
        let mut exact = vec![0; template.len()];
        template.write(&mut exact, inner_len, entropy(hash), traffic_class, inner_is_v6).unwrap();
        let mut copy = template.bytes().to_vec();
        template.patch(&mut copy, inner_len, entropy(hash), traffic_class, inner_is_v6).unwrap();
        prop_assert_eq!(copy, exact);
    }

    #[test]
    fn an_outer_checksum_is_verified_over_any_buffers(
        (template, kind, _) in any_template(),
        inner in any_spec(),
        cut in any::<prop::sample::Index>(),
        damage in any::<prop::sample::Index>(),
    ) {
        let mut packet = tunnelled(&template, &inner.build(), 0);
        let l4_offset = if template.is_v6() { 40 } else { 20 };
        if kind == Kind::MplsOverGre {
            // With a checksum: four bytes more (RFC 2784).
            packet.splice(l4_offset..l4_offset + 4, [0x80, 0, 0x88, 0x47, 0, 0, 0, 0]);
            let field = if template.is_v6() { 4 } else { 2 };
            let len = packet.len() - if template.is_v6() { 40 } else { 0 };
            packet[field..field + 2].copy_from_slice(&(len as u16).to_be_bytes());
            if !template.is_v6() {
                mend_ipv4(&mut packet);
            }
            let sum = naive_checksum(&packet[l4_offset..]);
            packet[l4_offset + 4..l4_offset + 6].copy_from_slice(&sum.to_be_bytes());
        } else {
            let ip = ip::parse(&packet, packet.len()).unwrap();
            weft_packet::transport::fill_checksum(&mut packet, &ip, []).unwrap();
        }
        let verify = |packet: &[u8]| {
            let (ip, decap) = parsed(packet);
            let decap = decap.unwrap().unwrap();
            assert_ne!(decap.outer_checksum, OuterChecksum::Absent);
            let at_hand = usize::from(decap.inner_offset);
            let cut = at_hand + cut.index(packet.len() - at_hand + 1);
            let mut sum: Sum = decap::checksum(&packet[..cut], &ip, &decap);
            sum.add(&packet[cut..]);
            sum.is_valid()
        };
        prop_assert!(verify(&packet));
        let inner_offset = usize::from(parsed(&packet).1.unwrap().unwrap().inner_offset);
        let place = inner_offset + damage.index(packet.len() - inner_offset);
        packet[place] ^= 0x10;
        prop_assert!(!verify(&packet));
    }

    #[test]
    fn a_tunnelled_packet_cut_or_damaged_anywhere_breaks_nothing(
        (template, _, _) in any_template(),
        place in any::<prop::sample::Index>(),
        value: u8,
    ) {
        let packet = tunnelled(&template, &Spec::default().build(), 0);
        let ip = ip::parse(&packet, packet.len()).unwrap();
        let headers = usize::from(parsed(&packet).1.unwrap().unwrap().inner_offset);
        for len in 0..packet.len() {
            // Cut at hand: found whole, or an error; never a guess.
            match tunnel::parse(&packet[..len], &ip) {
                Ok(Some(decap)) => prop_assert!(usize::from(decap.inner_offset) == headers && len >= headers),
                Ok(None) => prop_assert!(len < headers),
                Err(error) => prop_assert_eq!(error, TunnelError::Truncated),
            }
        }
        let mut damaged = packet.clone();
        damaged[place.index(packet.len())] = value;
        let found = ip::parse(&damaged, damaged.len()).map(|ip| tunnel::parse(&damaged, &ip));
        if let Ok(Ok(Some(decap))) = found {
            prop_assert!(usize::from(decap.inner_offset) < damaged.len());
        }
    }
}
