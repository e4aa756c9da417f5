//! Packets made byte by byte, and the simple models that the crate's fast ways are held against. Nothing here uses the
//! crate's own code for what it judges.

#![allow(dead_code)] // Each test file uses its part.

use proptest::prelude::*;

pub mod naive;

/// The Internet checksum as RFC 1071 tells it, one 16-bit word at a time.
pub fn naive_checksum(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        if sum > 0xffff {
            sum = (sum & 0xffff) + 1;
        }
    }
    !(sum as u16)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Tcp,
    Udp,
    EchoRequest,
    EchoReply,
}

/// A whole packet, from the IP header on.
#[derive(Clone, Debug)]
pub struct Spec {
    pub v6: bool,
    /// IPv4 takes the last four bytes.
    pub source: [u8; 16],
    pub destination: [u8; 16],
    pub protocol: Protocol,
    pub source_port: u16,
    pub destination_port: u16,
    pub payload: Vec<u8>,
    pub ttl: u8,
    pub traffic_class: u8,
    pub identification: u16,
    pub dont_fragment: bool,
    /// Whole IPv4 options, a multiple of four bytes.
    pub ipv4_options: Vec<u8>,
    /// Types of IPv6 extension headers: eight bytes each, authentication sixteen.
    pub extensions: Vec<u8>,
    pub tcp_flags: u8,
    /// Words of NOPs behind the TCP header.
    pub tcp_option_words: usize,
    pub udp_without_checksum: bool,
}

impl Default for Spec {
    fn default() -> Self {
        let mut source = [0; 16];
        let mut destination = [0; 16];
        source[..2].copy_from_slice(&[0xfd, 0]);
        source[12..].copy_from_slice(&[10, 0, 0, 1]);
        destination[..2].copy_from_slice(&[0xfd, 1]);
        destination[12..].copy_from_slice(&[10, 0, 0, 2]);
        Spec {
            v6: false,
            source,
            destination,
            protocol: Protocol::Udp,
            source_port: 1000,
            destination_port: 2000,
            payload: b"payload".to_vec(),
            ttl: 64,
            traffic_class: 0,
            identification: 0x1234,
            dont_fragment: false,
            ipv4_options: Vec::new(),
            extensions: Vec::new(),
            tcp_flags: 0x18,
            tcp_option_words: 0,
            udp_without_checksum: false,
        }
    }
}

impl Spec {
    pub fn protocol_number(&self) -> u8 {
        match (self.protocol, self.v6) {
            (Protocol::Tcp, _) => 6,
            (Protocol::Udp, _) => 17,
            (_, false) => 1,
            (_, true) => 58,
        }
    }

    pub fn source_octets(&self) -> &[u8] {
        if self.v6 { &self.source } else { &self.source[12..] }
    }

    pub fn destination_octets(&self) -> &[u8] {
        if self.v6 {
            &self.destination
        } else {
            &self.destination[12..]
        }
    }

    pub fn l4_offset(&self) -> usize {
        if self.v6 {
            40 + self.extensions_len()
        } else {
            20 + self.ipv4_options.len()
        }
    }

    fn extensions_len(&self) -> usize {
        self.extensions
            .iter()
            .map(|kind| if *kind == 51 { 16 } else { 8 })
            .sum()
    }

    pub fn transport(&self) -> Vec<u8> {
        let mut l4 = Vec::new();
        match self.protocol {
            Protocol::Tcp => {
                l4.extend(self.source_port.to_be_bytes());
                l4.extend(self.destination_port.to_be_bytes());
                l4.extend(0xffff_fff0u32.to_be_bytes());
                l4.extend(7u32.to_be_bytes());
                l4.extend([
                    (5 + self.tcp_option_words as u8) << 4,
                    self.tcp_flags,
                    0x20,
                    0,
                    0,
                    0,
                    0,
                    0,
                ]);
                l4.extend(vec![1; 4 * self.tcp_option_words]);
            }
            Protocol::Udp => {
                l4.extend(self.source_port.to_be_bytes());
                l4.extend(self.destination_port.to_be_bytes());
                l4.extend((8 + self.payload.len() as u16).to_be_bytes());
                l4.extend([0, 0]);
            }
            Protocol::EchoRequest | Protocol::EchoReply => {
                let kind = match (self.protocol, self.v6) {
                    (Protocol::EchoRequest, false) => 8,
                    (Protocol::EchoRequest, true) => 128,
                    (_, false) => 0,
                    (_, true) => 129,
                };
                l4.extend([kind, 0, 0, 0]);
                let identifier = match self.protocol {
                    Protocol::EchoRequest => self.source_port,
                    _ => self.destination_port,
                };
                l4.extend(identifier.to_be_bytes());
                l4.extend([0, 9]);
            }
        }
        l4.extend(&self.payload);
        if self.protocol == Protocol::Udp && self.udp_without_checksum {
            return l4;
        }
        let mut covered = Vec::new();
        if self.protocol_number() != 1 {
            covered.extend(self.source_octets());
            covered.extend(self.destination_octets());
            covered.extend((l4.len() as u32).to_be_bytes());
            covered.extend([0, 0, 0, self.protocol_number()]);
        }
        covered.extend(&l4);
        let mut checksum = naive_checksum(&covered);
        if self.protocol == Protocol::Udp && checksum == 0 {
            checksum = 0xffff;
        }
        let field = match self.protocol {
            Protocol::Tcp => 16,
            Protocol::Udp => 6,
            _ => 2,
        };
        l4[field..field + 2].copy_from_slice(&checksum.to_be_bytes());
        l4
    }

    pub fn build(&self) -> Vec<u8> {
        let l4 = self.transport();
        let mut packet = Vec::new();
        if self.v6 {
            let mut kinds = self.extensions.clone();
            kinds.push(self.protocol_number());
            packet.extend([0x60 | self.traffic_class >> 4, self.traffic_class << 4, 0, 0]);
            packet.extend(((self.extensions_len() + l4.len()) as u16).to_be_bytes());
            packet.extend([kinds[0], self.ttl]);
            packet.extend(self.source);
            packet.extend(self.destination);
            for pair in kinds.windows(2) {
                match pair[0] {
                    // Whole after all: a fragment header of offset 0 with nothing to come.
                    44 => packet.extend([pair[1], 0, 0, 0, 0, 0, 0, 1]),
                    43 => packet.extend([pair[1], 0, 4, 0, 0, 0, 0, 0]),
                    51 => packet.extend([pair[1], 2, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0]),
                    _ => packet.extend([pair[1], 0, 1, 4, 0, 0, 0, 0]),
                }
            }
        } else {
            let header_len = 20 + self.ipv4_options.len();
            packet.extend([0x40 | (header_len / 4) as u8, self.traffic_class]);
            packet.extend(((header_len + l4.len()) as u16).to_be_bytes());
            packet.extend(self.identification.to_be_bytes());
            packet.extend([
                if self.dont_fragment { 0x40 } else { 0 },
                0,
                self.ttl,
                self.protocol_number(),
                0,
                0,
            ]);
            packet.extend(self.source_octets());
            packet.extend(self.destination_octets());
            packet.extend(&self.ipv4_options);
            let checksum = naive_checksum(&packet);
            packet[10..12].copy_from_slice(&checksum.to_be_bytes());
        }
        packet.extend(l4);
        packet
    }
}

/// Any legal packet.
pub fn any_spec() -> impl Strategy<Value = Spec> {
    let protocol = prop_oneof![
        Just(Protocol::Tcp),
        Just(Protocol::Udp),
        Just(Protocol::EchoRequest),
        Just(Protocol::EchoReply)
    ];
    let payload = prop::collection::vec(any::<u8>(), 0..80);
    // NOPs, a router alert and a recorded route: legal, and of both kinds (copied or not) on fragmentation.
    let options = prop_oneof![
        5 => Just(Vec::new()),
        1 => Just(vec![1, 1, 1, 0]),
        1 => Just(vec![148, 4, 0, 0]),
        1 => Just(vec![7, 7, 4, 0, 0, 0, 0, 1, 148, 4, 0, 0]),
    ];
    let extensions = prop_oneof![
        4 => Just(Vec::new()),
        1 => Just(vec![0]),
        1 => Just(vec![60, 44]),
        1 => Just(vec![0, 60, 43, 44, 51, 60]),
    ];
    let addresses = (any::<[u8; 16]>(), any::<[u8; 16]>());
    let ports = (any::<u16>(), any::<u16>());
    (
        (any::<bool>(), protocol, addresses, ports, payload),
        (
            any::<u8>(),
            any::<u8>(),
            any::<u16>(),
            options,
            extensions,
            0usize..=10,
            any::<bool>(),
        ),
    )
        .prop_map(
            |(
                (v6, protocol, (source, destination), (source_port, destination_port), payload),
                (ttl, traffic_class, identification, ipv4_options, extensions, tcp_option_words, flag),
            )| Spec {
                v6,
                source,
                destination,
                protocol,
                source_port,
                destination_port,
                payload,
                ttl,
                traffic_class,
                identification,
                dont_fragment: flag,
                ipv4_options,
                extensions,
                tcp_flags: 0x10,
                tcp_option_words,
                udp_without_checksum: flag && !v6,
            },
        )
}

/// Writes the right IPv4 header checksum into a packet that was changed.
pub fn mend_ipv4(packet: &mut [u8]) {
    let len = usize::from(packet[0] & 0xf) * 4;
    packet[10..12].copy_from_slice(&[0, 0]);
    let checksum = naive_checksum(&packet[..len.min(packet.len())]);
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
}

/// An untagged Ethernet header before an IP packet.
pub fn framed(packet: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
    frame.extend(if packet[0] >> 4 == 4 {
        [0x08, 0x00]
    } else {
        [0x86, 0xdd]
    });
    frame.extend(packet);
    frame
}
