//! What is wrong with a packet, in four bytes: cheap to return from the hot parsers, and still a full sentence.

use std::fmt;

use thiserror::Error;

/// A packet that is shorter than its headers say, or whose headers contradict themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{header} at byte {offset}: {fault}")]
pub struct Malformed {
    /// In which header.
    pub header: Header,
    /// Where that header starts, counted from the start of what was parsed.
    pub offset: u16,
    /// What is wrong with it.
    pub fault: Fault,
}

impl Malformed {
    /// Cold, so that the parsers' straight way is the well-formed packet.
    #[cold]
    pub(crate) fn new(header: Header, offset: usize, fault: Fault) -> Self {
        Malformed {
            header,
            offset: u16::try_from(offset).unwrap_or(u16::MAX),
            fault,
        }
    }

    #[cold]
    pub(crate) fn truncated(header: Header, offset: usize) -> Self {
        Malformed::new(header, offset, Fault::Truncated)
    }
}

macro_rules! headers {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// The headers that are parsed here.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Header { $($(#[$doc])* $variant,)* }

        impl fmt::Display for Header {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Header::$variant => $name,)* })
            }
        }
    };
}

headers! {
    /// IEEE 802.3.
    Ethernet = "Ethernet header",
    /// IEEE 802.1Q.
    Vlan = "VLAN tag",
    /// RFC 826.
    Arp = "ARP packet",
    /// Neither 4 nor 6.
    Ip = "IP header",
    /// RFC 791.
    Ipv4 = "IPv4 header",
    /// RFC 8200.
    Ipv6 = "IPv6 header",
    /// RFC 8200, section 4.
    Ipv6Extension = "IPv6 extension header",
    /// RFC 9293.
    Tcp = "TCP header",
    /// RFC 768.
    Udp = "UDP header",
    /// RFC 9260.
    Sctp = "SCTP header",
    /// RFC 792 and RFC 4443.
    Icmp = "ICMP header",
    /// RFC 4861.
    NeighbourDiscovery = "neighbour discovery message",
    /// What has no name here.
    Transport = "transport header",
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum Fault {
    /// The bytes end before the header does.
    #[error("the packet ends inside it")]
    Truncated,
    /// The version is neither 4 nor 6, or not the one that the layer below says.
    #[error("its version is wrong")]
    Version,
    /// A header length below the least, or beyond the packet.
    #[error("its header length is below the least, or longer than the packet")]
    HeaderLength,
    /// A length field that says more than there is, or less than the headers take.
    #[error("its length field does not fit the packet")]
    Length,
    /// The checksum does not fit.
    #[error("its checksum is wrong")]
    Checksum,
    /// More headers of this kind than any sane sender stacks.
    #[error("too many of them are stacked")]
    TooMany,
    /// A VLAN identifier that IEEE 802.1Q reserves (4095).
    #[error("VLAN 4095 is reserved")]
    ReservedVlan,
    /// An extension header where it may not stand.
    #[error("it may not stand here")]
    Order,
    /// A fragment that reaches beyond 65535 bytes, or a middle one that is no multiple of 8 bytes.
    #[error("its fragment offset and length do not fit together")]
    Fragment,
    /// ARP for another hardware or protocol than Ethernet and IPv4, or an operation other than request and reply.
    #[error("only Ethernet and IPv4, request and reply are known")]
    NotEthernetIpv4,
    /// A neighbour discovery message with a hop limit other than 255: it came through a router.
    #[error("its hop limit is not 255: it did not start on this link")]
    HopLimit,
    /// A neighbour discovery message that RFC 4861 tells to discard.
    #[error("RFC 4861 tells to discard it")]
    NeighbourDiscovery,
    /// The checksum cannot be made here: a fragment, a source route, or a protocol without such a checksum.
    #[error("its checksum cannot be made here")]
    NoChecksum,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_takes_four_bytes_and_reads_as_a_sentence() {
        assert_eq!(size_of::<Malformed>(), 4);
        assert_eq!(
            Malformed::new(Header::Ipv4, 14, Fault::Checksum).to_string(),
            "IPv4 header at byte 14: its checksum is wrong"
        );
        assert_eq!(Malformed::truncated(Header::Tcp, 1 << 20).offset, u16::MAX);
    }
}
