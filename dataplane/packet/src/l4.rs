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

/// The ports of a packet; 0 where the protocol or fragment has none.
///
/// ICMP messages are given some, so that a question and its answer are two directions of one session, and nothing else
/// is taken for either: an echo request comes from its identifier to the port of [`ECHO`], its reply goes back from there.
/// Every other message goes from 0 to its type and code, see [`icmp_message`]; nothing answers it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub struct Tuple {
    pub source_port: u16,
    pub destination_port: u16,
}

/// What stands for the port of those who answer ICMP echo requests: type and code of the request.
pub const ECHO: [u16; 2] = [ECHO_V4, ECHO_V6];

const ECHO_V4: u16 = message(8, 0);
const REPLY_V4: u16 = message(0, 0);
const ECHO_V6: u16 = message(128, 0);
const REPLY_V6: u16 = message(129, 0);

/// An ICMP message's type and code in one.
pub const fn message(kind: u8, code: u8) -> u16 {
    u16::from_be_bytes([kind, code])
}

/// Port of the answerer, and the reply's type and code; None: no ICMP.
#[inline(always)]
const fn echo(protocol: u8) -> Option<(u16, u16)> {
    match protocol {
        protocol::ICMP => Some((ECHO_V4, REPLY_V4)),
        protocol::ICMPV6 => Some((ECHO_V6, REPLY_V6)),
        _ => None,
    }
}

impl Tuple {
    /// Type and code of the ICMP message that these ports stand for; None: the protocol is not ICMP.
    #[inline]
    pub const fn icmp_message(self, protocol: u8) -> Option<u16> {
        match echo(protocol) {
            Some((echo, reply)) if self.source_port == echo => Some(reply),
            Some(_) => Some(self.destination_port),
            None => None,
        }
    }

    /// Identifier of the ICMP echo that these ports stand for; None: they stand for something else.
    pub const fn echo_identifier(self, protocol: u8) -> Option<u16> {
        match echo(protocol) {
            Some((echo, _)) if self.source_port == echo => Some(self.destination_port),
            Some((echo, _)) if self.destination_port == echo => Some(self.source_port),
            _ => None,
        }
    }

    /// Whether a packet may begin a session: any but ICMP messages that nothing answers.
    #[inline]
    pub const fn begins_session(self, protocol: u8) -> bool {
        match echo(protocol) {
            Some((echo, _)) => self.destination_port == echo,
            None => true,
        }
    }
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
    if ip.fragment.is_later() {
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
    Ok(Transport {
        tuple: icmp_tuple(header, ip.protocol),
        tcp_flags: 0,
        header_len: 8,
    })
}

#[inline]
fn icmp_tuple(header: &[u8; 8], protocol: u8) -> Tuple {
    let (request, reply) = match protocol {
        protocol::ICMP => (ECHO_V4, REPLY_V4),
        _ => (ECHO_V6, REPLY_V6),
    };
    // One identifier looks like the answerer's port; it shares a session with its neighbour.
    let identifier = match get_u16(header, 4) {
        identifier if identifier == request => request ^ 1,
        identifier => identifier,
    };
    let message = message(header[0], header[1]);
    let (source_port, destination_port) = match message {
        _ if message == request => (identifier, request),
        _ if message == reply => (request, identifier),
        _ => (0, message),
    };
    Tuple {
        source_port,
        destination_port,
    }
}

/// Ports by the first bytes of a transport header alone, which is all that an ICMP error must quote of it.
pub fn first_bytes(header: &[u8; 8], protocol: u8) -> Tuple {
    match protocol {
        protocol::TCP | protocol::UDP | protocol::SCTP => ports(header),
        protocol::ICMP | protocol::ICMPV6 => icmp_tuple(header, protocol),
        _ => Tuple::default(),
    }
}

#[cold]
fn truncated(header: Header, ip: &IpPacket) -> Malformed {
    Malformed::truncated(header, usize::from(ip.l4_offset))
}
