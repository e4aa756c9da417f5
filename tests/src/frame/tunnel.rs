//! The three tunnels: VXLAN (RFC 7348), MPLS in UDP (RFC 7510) and MPLS in GRE (RFC 4023).

use std::net::{IpAddr, SocketAddr};

use super::{Mac, Packet, address, ethernet, protocol, udp};

/// What stands between the outer IP header and the inner packet.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum Tunnel {
    /// Identifier, and the MACs of the inner frame.
    Vxlan { vni: u32, destination: Mac, source: Mac },
    /// Labels, outermost first.
    MplsOverUdp(Vec<u32>),
    /// Labels, outermost first.
    MplsOverGre(Vec<u32>),
}

/// The outer header.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Outer {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub ttl: u8,
    pub traffic_class: u8,
    pub identification: u16,
    pub fragment: u16,
    /// UDP source port, the flow's entropy.
    pub entropy: u16,
    /// UDP with a checksum; without one the field is zero (RFC 7348, section 5; RFC 6935 over IPv6).
    pub udp_checksum: bool,
    /// TTL of every label.
    pub label_ttl: u8,
    /// Traffic class of every label (RFC 5462).
    pub label_class: u8,
}

impl Outer {
    /// From one tunnel endpoint to another.
    pub fn new(source: &str, destination: &str) -> Self {
        Outer {
            source: address(source),
            destination: address(destination),
            ttl: 64,
            traffic_class: 0,
            identification: 0,
            fragment: super::DONT_FRAGMENT,
            entropy: 50_000,
            udp_checksum: false,
            label_ttl: 64,
            label_class: 0,
        }
    }

    /// The whole outer packet around `inner`.
    pub fn carry(&self, tunnel: &Tunnel, inner: &Packet) -> Packet {
        self.carry_bytes(tunnel, inner.ethertype(), &inner.bytes())
    }

    /// The same around bytes that need not be a packet.
    pub fn carry_bytes(&self, tunnel: &Tunnel, ethertype: u16, inner: &[u8]) -> Packet {
        match tunnel {
            Tunnel::Vxlan {
                vni,
                destination,
                source,
            } => self.carry_frame(*vni, &ethernet(*destination, *source, ethertype, inner)),
            Tunnel::MplsOverUdp(labels) => {
                self.datagram(6635, &[self.stack(labels), inner.to_vec()].concat())
            }
            Tunnel::MplsOverGre(labels) => self.packet(
                protocol::GRE,
                [vec![0, 0, 0x88, 0x47], self.stack(labels), inner.to_vec()].concat(),
            ),
        }
    }

    /// VXLAN around a whole inner frame.
    pub fn carry_frame(&self, vni: u32, frame: &[u8]) -> Packet {
        let [_, a, b, c] = vni.to_be_bytes();
        self.datagram(4789, &[&[0x08, 0, 0, 0, a, b, c, 0], frame].concat())
    }

    /// A UDP datagram of the underlay.
    pub fn datagram(&self, port: u16, data: &[u8]) -> Packet {
        let mut payload = udp(
            SocketAddr::new(self.source, self.entropy),
            SocketAddr::new(self.destination, port),
            data,
        );
        if !self.udp_checksum {
            payload[6..8].fill(0);
        }
        self.packet(protocol::UDP, payload)
    }

    /// An IP packet of the underlay.
    pub fn packet(&self, protocol: u8, payload: Vec<u8>) -> Packet {
        let mut packet = Packet::new(self.source, self.destination, protocol, payload);
        packet.ttl = self.ttl;
        packet.traffic_class = self.traffic_class;
        packet.identification = self.identification;
        packet.fragment = self.fragment;
        packet
    }

    /// A label stack (RFC 3032).
    fn stack(&self, labels: &[u32]) -> Vec<u8> {
        let last = labels.len() - 1;
        let entry = |(at, label): (usize, &u32)| {
            let bottom = u32::from(at == last);
            (label << 12 | u32::from(self.label_class) << 9 | bottom << 8 | u32::from(self.label_ttl))
                .to_be_bytes()
        };
        labels.iter().enumerate().flat_map(entry).collect()
    }
}
