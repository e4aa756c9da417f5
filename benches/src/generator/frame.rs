//! Frames made ahead, in which only the 5-tuple, the checksums and the stamp differ from packet to packet.

use std::net::IpAddr;

use weft_packet::{
    Label, Mac, OutOfRange, VlanId, Vni,
    checksum::Sum,
    ethernet::{self, Tag, ethertype},
    ip::protocol,
    ipv4,
    l4::tcp_flag,
    tunnel::{self, DoesNotFit, Template, TemplateError},
};

use super::{
    stamp,
    stream::{Frames, Identifier, Tunnel},
    tuple::{Act, Tuple},
};

const FCS: usize = 4;
const UDP_LEN: usize = 8;
const TCP_LEN: usize = 20;
const TTL: u8 = 64;

/// A stream's frames cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// A number is too large for its field.
    #[error(transparent)]
    Identifier(#[from] OutOfRange),
    /// No such tunnel.
    #[error(transparent)]
    Tunnel(#[from] TemplateError),
    /// It is longer than a tunnel can carry.
    #[error(transparent)]
    Length(#[from] DoesNotFit),
}

/// A frame of one length.
#[derive(Clone, Debug)]
pub struct Frame {
    bytes: Vec<u8>,
    /// Where the IPv4 header begins.
    l3: usize,
    tcp: bool,
    /// Sum of the IPv4 header without addresses and checksum.
    header_sum: u32,
    /// Sum of TCP's pseudo header and header without addresses, ports, flags and payload.
    transport_sum: u32,
}

impl Frame {
    /// The frames of a stream, one for each length of its pattern.
    pub fn all(frames: &Frames, tcp: bool) -> Result<Vec<Frame>, FrameError> {
        let pattern = frames.sizes.pattern();
        pattern
            .iter()
            .map(|size| Frame::new(frames, usize::from(*size), tcp))
            .collect()
    }

    /// One of `size` bytes with the FCS (that of the inner frame, untagged), or as many as headers and stamp need.
    fn new(frames: &Frames, size: usize, tcp: bool) -> Result<Frame, FrameError> {
        let transport_len = if tcp { TCP_LEN } else { UDP_LEN };
        let least = ipv4::HEADER_LEN + transport_len + stamp::LEN;
        let packet_len = size.saturating_sub(FCS + ethernet::HEADER_LEN).max(least);

        let mut bytes = link_header(frames)?;
        if let Some(tunnel) = &frames.tunnel {
            let template = template(tunnel)?;
            let start = bytes.len();
            bytes.resize(start + template.len(), 0);
            template.write(&mut bytes[start..], packet_len, tunnel::entropy(0), 0, false)?;
        }
        let l3 = bytes.len();
        bytes.resize(l3 + packet_len, 0);
        let protocol = if tcp { protocol::TCP } else { protocol::UDP };
        let payload_len = packet_len - ipv4::HEADER_LEN;
        let packet = &mut bytes[l3..];
        packet[0] = 0x45;
        packet[2..4].copy_from_slice(&(packet_len as u16).to_be_bytes());
        packet[8] = TTL;
        packet[9] = protocol;
        let header_sum = sum(&packet[..ipv4::HEADER_LEN]);
        let transport = &mut packet[ipv4::HEADER_LEN..];
        let mut transport_sum = 0;
        if tcp {
            transport[12] = (TCP_LEN as u8 / 4) << 4;
            transport[14..16].copy_from_slice(&0x2000u16.to_be_bytes());
            transport_sum = u32::from(protocol) + payload_len as u32 + sum(&transport[..TCP_LEN]);
        } else {
            transport[4..6].copy_from_slice(&(payload_len as u16).to_be_bytes());
        }
        Ok(Frame {
            bytes,
            l3,
            tcp,
            header_sum,
            transport_sum,
        })
    }

    /// Bytes in memory, without the FCS.
    #[inline(always)]
    pub fn length(&self) -> usize {
        self.bytes.len()
    }

    /// Fills a frame of [`length`](Self::length) bytes; the stamp follows, and then [`finish`](Self::finish).
    #[inline(always)]
    pub fn write(&self, into: &mut [u8], tuple: Tuple, act: Act) {
        into.copy_from_slice(&self.bytes);
        let Some(headers) = into.get_mut(self.l3..).and_then(<[u8]>::first_chunk_mut::<36>) else {
            return;
        };
        headers[12..16].copy_from_slice(&tuple.source.to_be_bytes());
        headers[16..20].copy_from_slice(&tuple.destination.to_be_bytes());
        headers[20..22].copy_from_slice(&tuple.source_port.to_be_bytes());
        headers[22..24].copy_from_slice(&tuple.destination_port.to_be_bytes());
        let checksum = !fold(self.header_sum + address_sum(tuple));
        headers[10..12].copy_from_slice(&checksum.to_be_bytes());
        if self.tcp {
            headers[33] = match act {
                Act::Data => tcp_flag::ACK,
                Act::Open => tcp_flag::SYN,
                Act::Close => tcp_flag::RST,
            };
        }
    }

    /// Completes TCP's checksum, once the stamp is there. UDP goes without one (RFC 768 allows it over IPv4).
    #[inline(always)]
    pub fn finish(&self, into: &mut [u8], tuple: Tuple) {
        if !self.tcp {
            return;
        }
        let transport = &mut into[self.l3 + ipv4::HEADER_LEN..];
        let ports = u32::from(tuple.source_port) + u32::from(tuple.destination_port);
        let flags = u32::from(transport[13]);
        let payload = sum(&transport[TCP_LEN..]);
        let checksum = !fold(self.transport_sum + address_sum(tuple) + ports + flags + payload);
        transport[16..18].copy_from_slice(&checksum.to_be_bytes());
    }
}

fn link_header(frames: &Frames) -> Result<Vec<u8>, FrameError> {
    let mut header = [0; ethernet::HEADER_LEN];
    ethernet::write(&mut header, frames.destination, frames.source, ethertype::IPV4);
    let mut bytes = header.to_vec();
    if let Some(vlan) = frames.vlan {
        let tag = Tag::new(VlanId::new(u32::from(vlan))?);
        bytes.splice(
            12..12,
            [tag.protocol.to_be_bytes(), tag.control.to_be_bytes()].concat(),
        );
    }
    Ok(bytes)
}

fn template(tunnel: &Tunnel) -> Result<Template, FrameError> {
    let (local, remote) = (IpAddr::V4(tunnel.local), IpAddr::V4(tunnel.remote));
    Ok(match tunnel.identifier {
        Identifier::Vni(vni) => Template::vxlan(local, remote, Vni::new(vni)?, Mac::VIRTUAL_ROUTER)?,
        Identifier::Label(label) => Template::mpls_over_udp(local, remote, &[Label::new(label)?])?,
    })
}

fn sum(bytes: &[u8]) -> u32 {
    let mut sum = Sum::new();
    sum.add(bytes);
    u32::from(sum.folded())
}

#[inline(always)]
fn address_sum(tuple: Tuple) -> u32 {
    (tuple.source >> 16) + (tuple.source & 0xffff) + (tuple.destination >> 16) + (tuple.destination & 0xffff)
}

#[inline(always)]
fn fold(sum: u32) -> u16 {
    let once = (sum >> 16) + (sum & 0xffff);
    ((once >> 16) + once) as u16
}

/// An answer to an ARP request, whatever address it asks for: the generator is every host behind its devices. None:
/// `frame` is no request.
pub fn arp_answer(frame: &[u8], mac: Mac) -> Option<Vec<u8>> {
    let ethernet = ethernet::parse(frame).ok()?;
    let l3 = usize::from(ethernet.l3_offset);
    if ethernet.ethertype != ethertype::ARP {
        return None;
    }
    let asked = weft_packet::arp::parse(frame.get(l3..)?).ok()?;
    if asked.operation != weft_packet::arp::Operation::Request || asked.is_announcement() {
        return None;
    }
    let mut answer = frame.to_vec();
    weft_packet::arp::answer_in_place(&mut answer, l3, mac).ok()?;
    Some(answer)
}

/// An address of the generator's own making: locally administered.
pub const fn own_mac(device: u8) -> Mac {
    Mac([2, 0, 0, 0, 0xee, device])
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;
    use weft_packet::{
        checksum,
        ip::{self, Addresses},
        l4, transport,
    };

    use super::*;
    use crate::generator::{stamp::Stamp, stream::Sizes};

    const FAR_END: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);

    fn frames(sizes: Sizes) -> Frames {
        Frames {
            destination: Mac::VIRTUAL_ROUTER,
            source: own_mac(0),
            vlan: None,
            tunnel: None,
            sizes,
        }
    }

    fn made(frame: &Frame, tuple: Tuple, act: Act) -> Vec<u8> {
        let mut bytes = vec![0xff; frame.length()];
        frame.write(&mut bytes, tuple, act);
        let stamp = Stamp {
            run: 1,
            stream: 2,
            sequence: 3,
            time: 0x0405_0607_0809_0a0b,
        };
        stamp.write(&mut bytes);
        frame.finish(&mut bytes, tuple);
        assert_eq!(Stamp::read(&bytes), Some(stamp));
        bytes
    }

    /// The inner packet is what it should be, as weft's own parser and checksums see it.
    fn check(packet: &[u8], tuple: Tuple, tcp: bool) {
        let ip = ip::parse(packet, packet.len()).expect("a good IPv4 header");
        assert!(checksum::is_valid_ipv4_header(packet.first_chunk().unwrap()));
        assert_eq!(ip.total_len as usize, packet.len(), "no padding");
        let addresses = Addresses::V4 {
            source: Ipv4Addr::from_bits(tuple.source),
            destination: Ipv4Addr::from_bits(tuple.destination),
        };
        assert_eq!(ip.addresses, addresses);
        let found = l4::parse(packet, &ip).expect("a good transport header").tuple;
        assert_eq!(
            (found.source_port, found.destination_port),
            (tuple.source_port, tuple.destination_port)
        );
        if tcp {
            assert!(transport::is_valid(packet, &ip, []).expect("TCP has a checksum"));
        }
    }

    proptest! {
        #[test]
        fn every_frame_is_right_to_its_checksums(
            source: u32, destination: u32, source_port: u16, destination_port: u16, tcp: bool, size in 0u16..1600
        ) {
            let tuple = Tuple { source, destination, source_port, destination_port };
            for frame in Frame::all(&frames(Sizes::Fixed(size)), tcp).unwrap() {
                let bytes = made(&frame, tuple, Act::Open);
                check(&bytes[ethernet::HEADER_LEN..], tuple, tcp);
            }
        }
    }

    #[test]
    fn lengths_are_those_of_rfc_2544() {
        let lengths = |sizes| -> Vec<usize> {
            let frames = Frame::all(&frames(sizes), false).unwrap();
            frames.iter().map(Frame::length).collect()
        };
        assert_eq!(lengths(Sizes::Fixed(64)), [60]);
        assert_eq!(lengths(Sizes::Fixed(1518)), [1514]);
        let imix = lengths(Sizes::Imix);
        let count = |length| imix.iter().filter(|l| **l == length).count();
        assert_eq!((count(60), count(590), count(1514)), (7, 4, 1));
    }

    #[test]
    fn tags_and_tunnels_stand_in_front_of_the_same_packet() {
        let tuple = Tuple {
            source: 0x0a00_0001,
            destination: 0x0a00_0002,
            source_port: 1,
            destination_port: 2,
        };
        let tagged = Frames {
            vlan: Some(100),
            ..frames(Sizes::Fixed(64))
        };
        let bytes = made(&Frame::all(&tagged, false).unwrap()[0], tuple, Act::Data);
        assert_eq!(bytes.len(), 64);
        let ethernet = ethernet::parse(&bytes).unwrap();
        assert_eq!(ethernet.vlan().unwrap().get(), 100);
        check(&bytes[usize::from(ethernet.l3_offset)..], tuple, false);

        for identifier in [Identifier::Vni(100), Identifier::Label(1000)] {
            let tunnelled = Frames {
                tunnel: Some(Tunnel {
                    local: FAR_END,
                    remote: Ipv4Addr::new(198, 18, 0, 1),
                    identifier,
                }),
                ..frames(Sizes::Fixed(64))
            };
            let bytes = made(&Frame::all(&tunnelled, false).unwrap()[0], tuple, Act::Data);
            let outer = &bytes[ethernet::HEADER_LEN..];
            let ip = ip::parse(outer, outer.len()).unwrap();
            let decap = tunnel::parse(outer, &ip).unwrap().expect("it is a tunnel's");
            assert!(matches!(
                (identifier, decap.identifier),
                (Identifier::Vni(_), tunnel::Identifier::Vni(_))
                    | (Identifier::Label(_), tunnel::Identifier::Label(_))
            ));
            check(&outer[outer.len() - 46..], tuple, false);
        }
    }

    #[test]
    fn a_request_is_answered_for_whatever_address() {
        let mut request = [0; weft_packet::arp::FRAME_LEN];
        let asker = Ipv4Addr::new(198, 18, 0, 1);
        weft_packet::arp::write_announcement(&mut request, Mac([2, 0, 0, 0, 0, 1]), asker);
        assert_eq!(
            arp_answer(&request, own_mac(0)),
            None,
            "an announcement asks nothing"
        );
        let asked = weft_packet::arp::Arp {
            operation: weft_packet::arp::Operation::Request,
            sender_mac: Mac([2, 0, 0, 0, 0, 1]),
            sender: asker,
            target_mac: Mac::ZERO,
            target: FAR_END,
        };
        weft_packet::arp::write(&mut request, Mac::BROADCAST, asked.sender_mac, &asked);
        let answer = arp_answer(&request, own_mac(0)).expect("it is answered");
        let answer = weft_packet::arp::parse(&answer[ethernet::HEADER_LEN..]).unwrap();
        assert_eq!((answer.sender_mac, answer.sender), (own_mac(0), FAR_END));
    }
}
