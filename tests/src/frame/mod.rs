//! What frames must look like, written down once more and apart from weft's own code.
//!
//! Every byte that a test expects is built here from the RFCs' pictures, the slow and plain way; a scenario holds
//! this model against scapy. Nothing of weft-packet is used, so that one mistake cannot hide in both.

mod show;
mod tunnel;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

pub use show::{difference, dump};
pub use tunnel::{Outer, Tunnel};

use crate::wire::Neighbour;

/// Six bytes.
pub type Mac = [u8; 6];

/// All ones.
pub const BROADCAST: Mac = [0xff; 6];

/// Protocol numbers.
#[allow(missing_docs)]
pub mod protocol {
    pub const HOP_BY_HOP: u8 = 0;
    pub const ICMP: u8 = 1;
    pub const TCP: u8 = 6;
    pub const UDP: u8 = 17;
    pub const GRE: u8 = 47;
    pub const FRAGMENT: u8 = 44;
    pub const ICMPV6: u8 = 58;
    pub const DESTINATION_OPTIONS: u8 = 60;
    pub const SCTP: u8 = 132;
}

/// Ethertypes.
#[allow(missing_docs)]
pub mod ethertype {
    pub const IPV4: u16 = 0x0800;
    pub const ARP: u16 = 0x0806;
    pub const VLAN: u16 = 0x8100;
    pub const SERVICE_VLAN: u16 = 0x88a8;
    pub const IPV6: u16 = 0x86dd;
}

/// TCP flags.
#[allow(missing_docs)]
pub mod tcp {
    pub const FIN: u8 = 1;
    pub const SYN: u8 = 2;
    pub const RST: u8 = 4;
    pub const ACK: u8 = 16;
}

/// `02:00:00:00:00:01`.
pub fn mac(text: &str) -> Mac {
    let mut bytes = [0; 6];
    for (byte, digits) in bytes.iter_mut().zip(text.split(':')) {
        *byte = u8::from_str_radix(digits, 16).expect("a MAC");
    }
    bytes
}

/// An address.
pub fn address(text: &str) -> IpAddr {
    text.parse().unwrap_or_else(|_| panic!("{text:?} is no address"))
}

/// A frame around a payload.
pub fn ethernet(destination: Mac, source: Mac, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&destination[..], &source, &ethertype.to_be_bytes(), payload].concat()
}

/// The same frame with one more tag in front of what it carries; `control` is priority, DEI and VLAN.
pub fn tagged_as(ethertype: u16, control: u16, frame: &[u8]) -> Vec<u8> {
    [
        &frame[..12],
        &ethertype.to_be_bytes(),
        &control.to_be_bytes(),
        &frame[12..],
    ]
    .concat()
}

/// The same frame with an 802.1Q tag.
pub fn tagged(vlan: u16, frame: &[u8]) -> Vec<u8> {
    tagged_as(ethertype::VLAN, vlan, frame)
}

/// RFC 1071, sixteen bits at a time.
pub fn checksum(parts: &[&[u8]]) -> u16 {
    let bytes = parts.concat();
    let mut sum = 0_u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// An IP packet.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Packet {
    pub source: IpAddr,
    pub destination: IpAddr,
    /// Or hop limit.
    pub ttl: u8,
    /// DSCP and ECN.
    pub traffic_class: u8,
    pub identification: u16,
    pub flow_label: u32,
    /// IPv4: the flags with the fragment offset in eights of bytes.
    pub fragment: u16,
    /// IPv4 options, a multiple of four bytes.
    pub options: Vec<u8>,
    /// IPv6 extension headers: number and whole header, whose first byte is filled in here.
    pub extensions: Vec<(u8, Vec<u8>)>,
    pub protocol: u8,
    pub payload: Vec<u8>,
}

/// IPv4: do not fragment.
pub const DONT_FRAGMENT: u16 = 0x4000;
/// IPv4: more fragments follow.
pub const MORE_FRAGMENTS: u16 = 0x2000;

impl Packet {
    /// A packet around a finished payload.
    pub fn new(source: IpAddr, destination: IpAddr, protocol: u8, payload: Vec<u8>) -> Self {
        assert_eq!(source.is_ipv4(), destination.is_ipv4(), "one family");
        Packet {
            source,
            destination,
            ttl: 64,
            traffic_class: 0,
            identification: 0x1234,
            flow_label: 0,
            fragment: 0,
            options: Vec::new(),
            extensions: Vec::new(),
            protocol,
            payload,
        }
    }

    /// UDP from `address:port` to `address:port`.
    pub fn udp(source: &str, destination: &str, data: &[u8]) -> Self {
        let (source, destination) = (socket_address(source), socket_address(destination));
        Packet::new(
            source.ip(),
            destination.ip(),
            protocol::UDP,
            udp(source, destination, data),
        )
    }

    /// TCP without options from `address:port` to `address:port`.
    pub fn tcp(source: &str, destination: &str, flags: u8, data: &[u8]) -> Self {
        Packet::tcp_at(source, destination, flags, 1000, data)
    }

    /// The same at another sequence number.
    pub fn tcp_at(source: &str, destination: &str, flags: u8, sequence: u32, data: &[u8]) -> Self {
        let acknowledged = if flags & tcp::ACK == 0 { 0 } else { 2000 };
        Packet::segment(source, destination, (flags, 4096), (sequence, acknowledged), data)
    }

    /// A TCP segment from a host that knows nothing of the connection.
    pub fn reset(source: &str, destination: &str, flags: u8, sequence: u32, acknowledged: u32) -> Self {
        Packet::segment(source, destination, (flags, 0), (sequence, acknowledged), b"")
    }

    fn segment(
        source: &str,
        destination: &str,
        (flags, window): (u8, u16),
        (sequence, acknowledged): (u32, u32),
        data: &[u8],
    ) -> Self {
        let (source, destination) = (socket_address(source), socket_address(destination));
        let mut segment = [
            &source.port().to_be_bytes()[..],
            &destination.port().to_be_bytes(),
            &sequence.to_be_bytes(),
            &acknowledged.to_be_bytes(),
            &[5 << 4, flags],
            &window.to_be_bytes(),
            &[0; 4],
            data,
        ]
        .concat();
        fill_checksum(source.ip(), destination.ip(), protocol::TCP, &mut segment, 16);
        Packet::new(source.ip(), destination.ip(), protocol::TCP, segment)
    }

    /// SCTP with a chunk of data from `address:port` to `address:port` (RFC 9260).
    pub fn sctp(source: &str, destination: &str, data: &[u8]) -> Self {
        let (source, destination) = (socket_address(source), socket_address(destination));
        let mut packet = [
            &source.port().to_be_bytes()[..],
            &destination.port().to_be_bytes(),
            // Verification tag and checksum.
            &[0; 8],
            // First and last of its message; sequence number, stream, number in the stream, protocol.
            &[0, 3],
            &(16 + data.len() as u16).to_be_bytes(),
            &1_u32.to_be_bytes(),
            &[0; 8],
            data,
            &vec![0; data.len().next_multiple_of(4) - data.len()],
        ]
        .concat();
        let sum = crc32c(&packet).to_le_bytes();
        packet[8..12].copy_from_slice(&sum);
        Packet::new(source.ip(), destination.ip(), protocol::SCTP, packet)
    }

    /// A ping.
    pub fn echo_request(source: &str, destination: &str, identifier: u16, sequence: u16) -> Self {
        Packet::echo(8, 128, source, destination, identifier, sequence)
    }

    /// Its answer.
    pub fn echo_reply(source: &str, destination: &str, identifier: u16, sequence: u16) -> Self {
        Packet::echo(0, 129, source, destination, identifier, sequence)
    }

    fn echo(kind: u8, kind_v6: u8, source: &str, destination: &str, identifier: u16, sequence: u16) -> Self {
        let (source, destination) = (address(source), address(destination));
        let (kind, protocol) = if source.is_ipv4() {
            (kind, protocol::ICMP)
        } else {
            (kind_v6, protocol::ICMPV6)
        };
        let mut message = [
            &[kind, 0, 0, 0][..],
            &identifier.to_be_bytes(),
            &sequence.to_be_bytes(),
            b"the quick brown fox jumps over the lazy dog",
        ]
        .concat();
        fill_checksum(source, destination, protocol, &mut message, 2);
        Packet::new(source, destination, protocol, message)
    }

    /// An ICMP error about a packet: its port is unreachable. What is quoted need not be whole.
    pub fn unreachable(source: &str, destination: &str, quoted: &[u8]) -> Self {
        Packet::error([(3, 3), (1, 4)], source, destination, quoted)
    }

    /// An ICMP error about a packet: a filter does not let it through.
    pub fn prohibited(source: &str, destination: &str, quoted: &[u8]) -> Self {
        Packet::error([(3, 13), (1, 1)], source, destination, quoted)
    }

    /// Type and code are those of IPv4, then those of IPv6.
    fn error(says: [(u8, u8); 2], source: &str, destination: &str, quoted: &[u8]) -> Self {
        let (source, destination) = (address(source), address(destination));
        let ((kind, code), protocol) = if source.is_ipv4() {
            (says[0], protocol::ICMP)
        } else {
            (says[1], protocol::ICMPV6)
        };
        let mut message = [&[kind, code, 0, 0, 0, 0, 0, 0][..], quoted].concat();
        fill_checksum(source, destination, protocol, &mut message, 2);
        Packet::new(source, destination, protocol, message)
    }

    /// As it looks behind one router.
    pub fn hop(&self) -> Self {
        Packet {
            ttl: self.ttl - 1,
            ..self.clone()
        }
    }

    /// With this TTL or hop limit.
    pub fn with_ttl(mut self, ttl: u8) -> Self {
        self.ttl = ttl;
        self
    }

    /// With this DSCP and ECN.
    pub fn with_traffic_class(mut self, traffic_class: u8) -> Self {
        self.traffic_class = traffic_class;
        self
    }

    /// With these flags and fragment offset (IPv4).
    pub fn with_fragment(mut self, fragment: u16) -> Self {
        self.fragment = fragment;
        self
    }

    /// With another identification (IPv4).
    pub fn with_identification(mut self, identification: u16) -> Self {
        self.identification = identification;
        self
    }

    /// With IPv6 extension headers.
    pub fn with_extensions(mut self, extensions: &[(u8, &[u8])]) -> Self {
        self.extensions = extensions
            .iter()
            .map(|(number, header)| (*number, header.to_vec()))
            .collect();
        self
    }

    /// 0x0800 or 0x86dd.
    pub fn ethertype(&self) -> u16 {
        if self.source.is_ipv4() {
            ethertype::IPV4
        } else {
            ethertype::IPV6
        }
    }

    /// On the wire, from the version on.
    pub fn bytes(&self) -> Vec<u8> {
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => self.ipv4(source, destination),
            (IpAddr::V6(source), IpAddr::V6(destination)) => self.ipv6(source, destination),
            _ => panic!("one family"),
        }
    }

    /// In a frame.
    pub fn frame(&self, destination: Mac, source: Mac) -> Vec<u8> {
        ethernet(destination, source, self.ethertype(), &self.bytes())
    }

    fn ipv4(&self, source: Ipv4Addr, destination: Ipv4Addr) -> Vec<u8> {
        let header_length = 20 + self.options.len();
        let mut header = [
            &[0x40 | (header_length / 4) as u8, self.traffic_class][..],
            &((header_length + self.payload.len()) as u16).to_be_bytes(),
            &self.identification.to_be_bytes(),
            &self.fragment.to_be_bytes(),
            &[self.ttl, self.protocol, 0, 0],
            &source.octets(),
            &destination.octets(),
            &self.options,
        ]
        .concat();
        let sum = checksum(&[&header]);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        [header, self.payload.clone()].concat()
    }

    fn ipv6(&self, source: Ipv6Addr, destination: Ipv6Addr) -> Vec<u8> {
        let numbers: Vec<u8> = self
            .extensions
            .iter()
            .map(|(number, _)| *number)
            .chain([self.protocol])
            .collect();
        let mut body = Vec::new();
        for ((_, header), next) in self.extensions.iter().zip(&numbers[1..]) {
            body.push(*next);
            body.extend(&header[1..]);
        }
        body.extend(&self.payload);
        let first = 6 << 28 | u32::from(self.traffic_class) << 20 | self.flow_label;
        [
            &first.to_be_bytes()[..],
            &(body.len() as u16).to_be_bytes(),
            &[numbers[0], self.ttl],
            &source.octets(),
            &destination.octets(),
            &body,
        ]
        .concat()
    }
}

/// RFC 9260, appendix A, a bit at a time.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut sum = !0_u32;
    for byte in bytes {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            sum = (sum >> 1) ^ if sum & 1 == 1 { 0x82f6_3b78 } else { 0 };
        }
    }
    !sum
}

fn socket_address(text: &str) -> SocketAddr {
    text.parse()
        .unwrap_or_else(|_| panic!("{text:?} is no address with a port"))
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// A UDP datagram with its checksum.
pub fn udp(source: SocketAddr, destination: SocketAddr, data: &[u8]) -> Vec<u8> {
    let mut datagram = [
        &source.port().to_be_bytes()[..],
        &destination.port().to_be_bytes(),
        &(8 + data.len() as u16).to_be_bytes(),
        &[0, 0],
        data,
    ]
    .concat();
    fill_checksum(source.ip(), destination.ip(), protocol::UDP, &mut datagram, 6);
    datagram
}

/// The sum over addresses, protocol and length alone, not inverted: what a kernel leaves in the field for a device
/// that completes checksums.
pub fn partial_checksum(packet: &Packet) -> u16 {
    !checksum(&[&pseudo_header(
        packet.source,
        packet.destination,
        packet.protocol,
        packet.payload.len(),
    )])
}

fn pseudo_header(source: IpAddr, destination: IpAddr, protocol: u8, length: usize) -> Vec<u8> {
    [
        octets(source),
        octets(destination),
        (length as u32).to_be_bytes().to_vec(),
        u32::from(protocol).to_be_bytes().to_vec(),
    ]
    .concat()
}

fn fill_checksum(source: IpAddr, destination: IpAddr, protocol: u8, message: &mut [u8], at: usize) {
    message[at..at + 2].fill(0);
    let pseudo = if protocol == protocol::ICMP {
        Vec::new()
    } else {
        pseudo_header(source, destination, protocol, message.len())
    };
    let sum = match checksum(&[&pseudo, message]) {
        // Zero means "none" in UDP (RFC 768).
        0 if protocol == protocol::UDP => 0xffff,
        sum => sum,
    };
    message[at..at + 2].copy_from_slice(&sum.to_be_bytes());
}

/// An ARP packet in a frame (RFC 826); `operation` 1 asks, 2 answers.
pub fn arp(
    frame_destination: Mac,
    operation: u16,
    sender: (Mac, Ipv4Addr),
    target: (Mac, Ipv4Addr),
) -> Vec<u8> {
    let body = [
        &[0, 1, 8, 0, 6, 4][..],
        &operation.to_be_bytes(),
        &sender.0,
        &sender.1.octets(),
        &target.0,
        &target.1.octets(),
    ]
    .concat();
    ethernet(frame_destination, sender.0, ethertype::ARP, &body)
}

/// A broadcast question for an address.
pub fn arp_request(sender: Mac, sender_address: &str, target: &str) -> Vec<u8> {
    arp(BROADCAST, 1, (sender, v4(sender_address)), ([0; 6], v4(target)))
}

/// An answer to one host.
pub fn arp_reply(sender: Mac, sender_address: &str, target: Mac, target_address: &str) -> Vec<u8> {
    arp(
        target,
        2,
        (sender, v4(sender_address)),
        (target, v4(target_address)),
    )
}

fn v4(text: &str) -> Ipv4Addr {
    text.parse()
        .unwrap_or_else(|_| panic!("{text:?} is no IPv4 address"))
}

fn v6(text: &str) -> Ipv6Addr {
    text.parse()
        .unwrap_or_else(|_| panic!("{text:?} is no IPv6 address"))
}

/// The group in which a host listens for questions after its address (RFC 4291, section 2.7.1).
pub fn solicited_node(target: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = target.octets();
    Ipv6Addr::new(
        0xff02,
        0,
        0,
        0,
        0,
        1,
        0xff00 | u16::from(a),
        u16::from(b) << 8 | u16::from(c),
    )
}

/// The MAC of an IPv6 group (RFC 2464, section 7).
pub fn group_mac(group: Ipv6Addr) -> Mac {
    let [.., a, b, c, d] = group.octets();
    [0x33, 0x33, a, b, c, d]
}

/// Neighbour discovery in a frame (RFC 4861): hop limit 255, one link-layer option.
fn discovery(
    frame: (Mac, Mac),
    source: Ipv6Addr,
    destination: Ipv6Addr,
    fixed: &[u8],
    option: (u8, Mac),
) -> Vec<u8> {
    let mut message = [fixed, &[option.0, 1], &option.1].concat();
    fill_checksum(
        source.into(),
        destination.into(),
        protocol::ICMPV6,
        &mut message,
        2,
    );
    let mut packet = Packet::new(source.into(), destination.into(), protocol::ICMPV6, message);
    packet.ttl = 255;
    packet.frame(frame.0, frame.1)
}

/// A multicast question for an IPv6 address.
pub fn neighbour_solicitation(sender: Mac, sender_address: &str, target: &str) -> Vec<u8> {
    let (source, target) = (v6(sender_address), v6(target));
    let group = solicited_node(target);
    let fixed = [&[135, 0, 0, 0, 0, 0, 0, 0][..], &target.octets()].concat();
    discovery((group_mac(group), sender), source, group, &fixed, (1, sender))
}

/// An answer to it. `flags`: router 0x80, solicited 0x40, override 0x20.
pub fn neighbour_advertisement(
    sender: Mac,
    target: &str,
    receiver: Mac,
    receiver_address: &str,
    flags: u8,
) -> Vec<u8> {
    let (source, destination) = (v6(target), v6(receiver_address));
    let fixed = [&[136, 0, 0, 0, flags, 0, 0, 0][..], &source.octets()].concat();
    discovery((receiver, sender), source, destination, &fixed, (2, sender))
}

/// What a neighbour says to a frame that asks for it.
pub fn neighbour_answer(neighbour: &Neighbour, frame: &[u8]) -> Option<Vec<u8>> {
    let tagged_frame = frame.get(12..14)? == ethertype::VLAN.to_be_bytes();
    match neighbour.vlan {
        None if tagged_frame => None,
        None => untagged_answer(neighbour, frame),
        Some(vlan) => {
            let control = u16::from_be_bytes(frame.get(14..16)?.try_into().ok()?);
            if !tagged_frame || control & 0xfff != vlan {
                return None;
            }
            let inner = [&frame[..12], &frame[16..]].concat();
            Some(tagged(vlan, &untagged_answer(neighbour, &inner)?))
        }
    }
}

fn untagged_answer(neighbour: &Neighbour, frame: &[u8]) -> Option<Vec<u8>> {
    let asker: Mac = frame.get(6..12)?.try_into().ok()?;
    let body = &frame[14..];
    match u16::from_be_bytes([frame[12], frame[13]]) {
        ethertype::ARP if body.get(6..8)? == [0, 1] => {
            let asker_address = Ipv4Addr::from(<[u8; 4]>::try_from(body.get(14..18)?).ok()?);
            let target = Ipv4Addr::from(<[u8; 4]>::try_from(body.get(24..28)?).ok()?);
            neighbour
                .addresses
                .contains(&target.into())
                .then(|| arp(asker, 2, (neighbour.mac, target), (asker, asker_address)))
        }
        ethertype::IPV6 if body.get(6) == Some(&protocol::ICMPV6) && body.get(40) == Some(&135) => {
            let asker_address = Ipv6Addr::from(<[u8; 16]>::try_from(body.get(8..24)?).ok()?);
            let target = Ipv6Addr::from(<[u8; 16]>::try_from(body.get(48..64)?).ok()?);
            neighbour.addresses.contains(&target.into()).then(|| {
                neighbour_advertisement(
                    neighbour.mac,
                    &target.to_string(),
                    asker,
                    &asker_address.to_string(),
                    0xe0,
                )
            })
        }
        _ => None,
    }
}
