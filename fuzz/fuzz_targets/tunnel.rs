//! Any underlay packet, looked at as a tunnel's, down to what is inside; and any inner packet through any tunnel and
//! out again.

#![no_main]

use std::net::IpAddr;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use weft_packet::{
    Label, Mac, Vni, ethernet, ip, l4,
    tunnel::{self, Identifier, Inner, Template, decap},
};

#[derive(Arbitrary, Debug)]
enum Input<'a> {
    Arriving(&'a [u8]),
    Leaving {
        through: Through,
        v6: bool,
        hash: u32,
        traffic_class: u8,
        inner: &'a [u8],
    },
}

#[derive(Arbitrary, Debug)]
enum Through {
    Vxlan(u32, [u8; 6]),
    MplsOverUdp(u32),
    MplsOverGre(u32),
}

fuzz_target!(|input: Input| match input {
    Input::Arriving(packet) => arriving(packet),
    Input::Leaving {
        through,
        v6,
        hash,
        traffic_class,
        inner,
    } => {
        leaving(&through, v6, hash, traffic_class, inner);
    }
});

fn arriving(packet: &[u8]) {
    let Ok(outer) = ip::parse(packet, packet.len()) else {
        return;
    };
    let Ok(Some(found)) = tunnel::parse(packet, &outer) else {
        return;
    };
    assert!(u32::from(found.inner_offset) < outer.total_len);
    let _ = decap::checksum(packet, &outer, &found).is_valid();
    let inner = &packet[usize::from(found.inner_offset)..outer.total_len as usize];
    let inner = match found.inner {
        Inner::Ip => inner,
        Inner::Ethernet => match ethernet::parse(inner) {
            Ok(link) => &inner[usize::from(link.l3_offset)..],
            Err(_) => return,
        },
    };
    let Ok(parsed) = ip::parse(inner, inner.len()) else {
        return;
    };
    if let Ok(ecn) = tunnel::ecn_decapsulate(outer.ecn(), parsed.ecn()) {
        let mut inner = inner.to_vec();
        weft_packet::rewrite::set_ecn(&mut inner, &parsed, ecn);
        assert_eq!(ip::parse(&inner, inner.len()).map(|ip| ip.ecn()), Ok(ecn));
    }
    let _ = l4::parse(inner, &parsed);
}

fn leaving(through: &Through, v6: bool, hash: u32, traffic_class: u8, inner: &[u8]) {
    let (local, remote) = if v6 {
        (IpAddr::from([0xfd; 16]), IpAddr::from([0xfe; 16]))
    } else {
        (IpAddr::from([198, 18, 0, 1]), IpAddr::from([198, 18, 0, 2]))
    };
    let (template, identifier) = match *through {
        Through::Vxlan(number, mac) => {
            let Ok(vni) = Vni::new(number) else { return };
            (
                Template::vxlan(local, remote, vni, Mac(mac)),
                Identifier::Vni(vni),
            )
        }
        Through::MplsOverUdp(number) => {
            let Ok(label) = Label::new(number) else { return };
            (
                Template::mpls_over_udp(local, remote, &[label]),
                Identifier::Label(label),
            )
        }
        Through::MplsOverGre(number) => {
            let Ok(label) = Label::new(number) else { return };
            (
                Template::mpls_over_gre(local, remote, &[label]),
                Identifier::Label(label),
            )
        }
    };
    let template = template.expect("both addresses are of one family");
    let entropy = tunnel::entropy(hash);
    let mut header = vec![0xee; template.len()];
    if template
        .write(&mut header, inner.len(), entropy, traffic_class, v6)
        .is_err()
    {
        assert!(template.len() + inner.len() > 65_535);
        return;
    }
    let packet = [&header, inner].concat();
    let outer = ip::parse(&packet, packet.len()).expect("what is sent can be read");
    assert_eq!(
        (outer.total_len as usize, outer.traffic_class),
        (packet.len(), traffic_class)
    );
    match tunnel::parse(&packet, &outer) {
        Ok(Some(found)) => assert_eq!(found.identifier, identifier),
        // MPLS over what is shorter than any packet.
        other => assert!(inner.len() < 4, "{other:?}"),
    }
}
