//! Ports, or what stands for them, of transport headers: TCP (RFC 9293), UDP (RFC 768), SCTP (RFC 9260), ICMP echo
//! (RFC 792, RFC 4443).

use crate::{
    bytes::get_u16,
    ip::{Fragment, IpPacket, protocol},
    malformed::{Fault, Header, Malformed},
};

/// Flags of a TCP header, its byte 13.
pub mod tcp_flag {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Opens the connection.
    pub const SYN: u8 = 0x02;
    /// Ends it at once.
    pub const RST: u8 = 0x04;
    /// Hand the data to the application now.
    pub const PSH: u8 = 0x08;
    /// The acknowledgment number counts.
    pub const ACK: u8 = 0x10;
    /// The urgent pointer counts.
    pub const URG: u8 = 0x20;
    /// Congestion echo (RFC 3168).
    pub const ECE: u8 = 0x40;
    /// Congestion window reduced (RFC 3168).
    pub const CWR: u8 = 0x80;
}

/// The ports of a packet; both are the identifier of an ICMP echo, and 0 where the protocol or fragment has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub struct Tuple {
    pub source_port: u16,
    pub destination_port: u16,
}

/// What a transport header says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transport {
    /// Ports.
    pub tuple: Tuple,
    /// [`tcp_flag`]s; 0 unless TCP.
    pub tcp_flags: u8,
    /// Bytes of the header; 0 if the protocol is not known here.
    pub header_len: u8,
}

/// Reads the transport header that `ip` (parsed from the same `l3`) points at.
#[inline]
pub fn parse(l3: &[u8], ip: &IpPacket) -> Result<Transport, Malformed> {
    if ip.fragment == Fragment::Later {
        return Ok(Transport::default());
    }
    let l4 = ip.l4(l3);
    match ip.protocol {
        protocol::TCP => tcp(l4, ip),
        protocol::UDP => udp(l4, ip),
        protocol::ICMP | protocol::ICMPV6 => icmp(l4, ip),
        protocol::SCTP => match l4.first_chunk::<12>() {
            Some(header) => Ok(Transport {
                tuple: ports(header),
                tcp_flags: 0,
                header_len: 12,
            }),
            None => Err(truncated(Header::Sctp, ip)),
        },
        _ => Ok(Transport::default()),
    }
}

#[inline(always)]
fn ports<const N: usize>(header: &[u8; N]) -> Tuple {
    Tuple {
        source_port: get_u16(header, 0),
        destination_port: get_u16(header, 2),
    }
}

#[inline]
fn tcp(l4: &[u8], ip: &IpPacket) -> Result<Transport, Malformed> {
    let Some(header) = l4.first_chunk::<20>() else {
        return Err(truncated(Header::Tcp, ip));
    };
    let header_len = (header[12] >> 4) * 4;
    if header_len < 20 || usize::from(header_len) > ip.l4_len() {
        return Err(Malformed::new(
            Header::Tcp,
            usize::from(ip.l4_offset),
            Fault::HeaderLength,
        ));
    }
    Ok(Transport {
        tuple: ports(header),
        tcp_flags: header[13],
        header_len,
    })
}

#[inline]
fn udp(l4: &[u8], ip: &IpPacket) -> Result<Transport, Malformed> {
    let Some(header) = l4.first_chunk::<8>() else {
        return Err(truncated(Header::Udp, ip));
    };
    let length = usize::from(get_u16(header, 4));
    // A first fragment says the length of the whole datagram.
    if length < 8 || (length > ip.l4_len() && ip.fragment == Fragment::Whole) {
        return Err(Malformed::new(
            Header::Udp,
            usize::from(ip.l4_offset),
            Fault::Length,
        ));
    }
    Ok(Transport {
        tuple: ports(header),
        tcp_flags: 0,
        header_len: 8,
    })
}

#[inline]
fn icmp(l4: &[u8], ip: &IpPacket) -> Result<Transport, Malformed> {
    let Some(header) = l4.first_chunk::<8>() else {
        return Err(truncated(Header::Icmp, ip));
    };
    let is_echo = match ip.protocol {
        protocol::ICMP => matches!(header[0], 0 | 8),
        _ => matches!(header[0], 128 | 129),
    };
    let identifier = if is_echo { get_u16(header, 4) } else { 0 };
    let tuple = Tuple {
        source_port: identifier,
        destination_port: identifier,
    };
    Ok(Transport {
        tuple,
        tcp_flags: 0,
        header_len: 8,
    })
}

#[cold]
fn truncated(header: Header, ip: &IpPacket) -> Malformed {
    Malformed::truncated(header, usize::from(ip.l4_offset))
}
