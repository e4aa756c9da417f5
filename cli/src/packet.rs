//! A packet in words, as `weft trace` takes it: `tcp 10.0.0.5:4000 > 10.0.0.9:80`.
//!
//! ```text
//! packet   = protocol end ">" end { option }
//! protocol = "tcp" | "udp" | "sctp" | "icmp" | "icmpv6" | NUMBER
//! end      = ADDRESS | ADDRESS ":" PORT | "[" ADDRESS "]" [ ":" PORT ]
//! option   = "type" NUMBER | "code" NUMBER | "id" NUMBER
//! ```
//! TCP, UDP and SCTP have ports, others have none; options are ICMP's, which is an echo request without them.

use std::net::{IpAddr, SocketAddr};

use weft_proto::v1;

/// Why words are no packet: which of them, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{part}: {message}")]
pub struct PacketError {
    /// `protocol`, `source`, `destination`, or the option's name.
    pub part: &'static str,
    /// What is wrong with it.
    pub message: String,
    /// What to do.
    pub help: String,
}

const EXAMPLE: &str = "write a packet such as 'tcp 10.0.0.5:4000 > 10.0.0.9:80' or 'icmp fd00::5 > fd00::9'";

impl PacketError {
    fn new(part: &'static str, message: impl Into<String>, help: impl Into<String>) -> Self {
        PacketError {
            part,
            message: message.into(),
            help: help.into(),
        }
    }
}

/// Reads a packet.
pub fn parse(text: &str) -> Result<v1::SupposedPacket, PacketError> {
    let spaced = text.replace('>', " > ");
    let mut words = spaced.split_whitespace();
    let protocol = protocol(words.next())?;
    let has_ports = matches!(protocol.as_str(), "tcp" | "udp" | "sctp" | "6" | "17" | "132");
    let (source, source_port) = end("source", words.next(), has_ports)?;
    if words.next() != Some(">") {
        return Err(PacketError::new("source", "no > comes after it", EXAMPLE));
    }
    let (destination, destination_port) = end("destination", words.next(), has_ports)?;
    if source.is_ipv4() != destination.is_ipv4() {
        let message = format!("{destination} and {source} are of different families");
        return Err(PacketError::new(
            "destination",
            message,
            "give two addresses of one family",
        ));
    }
    let mut packet = v1::SupposedPacket {
        protocol: of_family(protocol, source),
        source: source.to_string(),
        source_port: source_port.into(),
        destination: destination.to_string(),
        destination_port: destination_port.into(),
        ..Default::default()
    };
    options(&mut packet, words)?;
    Ok(packet)
}

fn protocol(word: Option<&str>) -> Result<String, PacketError> {
    let word = word.ok_or_else(|| PacketError::new("protocol", "is missing", EXAMPLE))?;
    let known = ["tcp", "udp", "sctp", "icmp", "icmpv6"];
    let lower = word.to_lowercase();
    if known.contains(&lower.as_str()) || word.parse::<u8>().is_ok() {
        return Ok(lower);
    }
    let message = format!("{word:?} is no protocol");
    let help = "write tcp, udp, sctp, icmp, icmpv6 or a number from 0 to 255";
    Err(PacketError::new("protocol", message, help))
}

/// `icmp` is that of the addresses.
fn of_family(protocol: String, source: IpAddr) -> String {
    match (protocol.as_str(), source) {
        ("icmp", IpAddr::V6(_)) => "icmpv6".to_owned(),
        _ => protocol,
    }
}

fn end(part: &'static str, word: Option<&str>, has_ports: bool) -> Result<(IpAddr, u16), PacketError> {
    let word = word
        .filter(|word| *word != ">")
        .ok_or_else(|| PacketError::new(part, "is missing", EXAMPLE))?;
    let bare = word.strip_prefix('[').and_then(|word| word.strip_suffix(']'));
    let address = bare.unwrap_or(word).parse::<IpAddr>();
    match (address, word.parse::<SocketAddr>(), has_ports) {
        (Ok(address), _, false) => Ok((address, 0)),
        (_, Ok(end), true) => Ok((end.ip(), end.port())),
        (Ok(address), _, true) => {
            let example = SocketAddr::new(address, 80);
            let message = format!("{address} has no port");
            Err(PacketError::new(
                part,
                message,
                format!("write {example}, for instance"),
            ))
        }
        (_, Ok(end), false) => {
            let message = format!("{word} has a port, but the protocol has none");
            Err(PacketError::new(part, message, format!("write {}", end.ip())))
        }
        (Err(_), Err(_), _) => {
            let message = format!("{word:?} is no address");
            let help = "write 10.0.0.5 or fd00::5; with a port 10.0.0.5:80 or [fd00::5]:80";
            Err(PacketError::new(part, message, help))
        }
    }
}

fn options<'a>(
    packet: &mut v1::SupposedPacket,
    mut words: impl Iterator<Item = &'a str>,
) -> Result<(), PacketError> {
    let is_icmp = matches!(packet.protocol.as_str(), "icmp" | "icmpv6" | "1" | "58");
    while let Some(word) = words.next() {
        let (part, most) = match word {
            "type" => ("type", u32::from(u8::MAX)),
            "code" => ("code", u32::from(u8::MAX)),
            "id" => ("id", u32::from(u16::MAX)),
            other => {
                let message = format!("{other:?} comes after it");
                let help = "end there; only icmp has options: type, code and id, each with a number";
                return Err(PacketError::new("destination", message, help));
            }
        };
        if !is_icmp {
            let message = format!("{} has none", packet.protocol);
            return Err(PacketError::new(part, message, "leave it out: it is ICMP's"));
        }
        let value = words.next().unwrap_or_default();
        let number = value.parse::<u32>().ok().filter(|number| *number <= most);
        let number = number.ok_or_else(|| {
            PacketError::new(
                part,
                format!("{value:?} is no number that it can have"),
                format!("write a number from 0 to {most}"),
            )
        })?;
        match part {
            "type" => packet.icmp_type = Some(number),
            "code" => packet.icmp_code = Some(number),
            _ => packet.icmp_identifier = number,
        }
    }
    if packet.icmp_code.is_some() && packet.icmp_type.is_none() {
        return Err(PacketError::new(
            "code",
            "is given without a type",
            "give the type, too",
        ));
    }
    Ok(())
}

/// The packet in the words that [`parse`] reads.
pub fn words(packet: &v1::SupposedPacket) -> String {
    let has_ports = matches!(
        packet.protocol.as_str(),
        "tcp" | "udp" | "sctp" | "6" | "17" | "132"
    );
    let mut words = format!(
        "{} {} > {}",
        packet.protocol,
        end_in_words(&packet.source, packet.source_port, has_ports),
        end_in_words(&packet.destination, packet.destination_port, has_ports)
    );
    let identifier = Some(packet.icmp_identifier).filter(|identifier| *identifier > 0);
    for (name, value) in [
        ("type", packet.icmp_type),
        ("code", packet.icmp_code),
        ("id", identifier),
    ] {
        if let Some(value) = value {
            words += &format!(" {name} {value}");
        }
    }
    words
}

/// `10.0.0.5:80`, `[fd00::5]:80`, or the address alone.
pub fn end_in_words(address: &str, port: u32, has_port: bool) -> String {
    match (has_port, address.contains(':')) {
        (false, _) => address.to_owned(),
        (true, false) => format!("{address}:{port}"),
        (true, true) => format!("[{address}]:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_wrong_is_named() {
        for (text, part, message) in [
            ("", "protocol", "is missing"),
            (
                "tpc 10.0.0.1:1 > 10.0.0.2:2",
                "protocol",
                "\"tpc\" is no protocol",
            ),
            ("256 10.0.0.1 > 10.0.0.2", "protocol", "\"256\" is no protocol"),
            ("tcp > 10.0.0.2:2", "source", "is missing"),
            ("tcp 10.0.0.1 > 10.0.0.2:2", "source", "10.0.0.1 has no port"),
            ("tcp 10.0.0.1:1 10.0.0.2:2", "source", "no > comes after it"),
            ("udp 10.0.0.1:1 >", "destination", "is missing"),
            (
                "udp 10.0.0.1:1 > 10.0.0.2:65536",
                "destination",
                "\"10.0.0.2:65536\" is no address",
            ),
            ("udp fd00::1:1 > 10.0.0.2:2", "source", "fd00::1:1 has no port"),
            (
                "udp [fd00::1]:1 > 10.0.0.2:2",
                "destination",
                "10.0.0.2 and fd00::1 are of different families",
            ),
            (
                "icmp 10.0.0.1:7 > 10.0.0.2",
                "source",
                "10.0.0.1:7 has a port, but the protocol has none",
            ),
            (
                "icmp 10.0.0.1 > 10.0.0.2 type 256",
                "type",
                "\"256\" is no number that it can have",
            ),
            (
                "icmp 10.0.0.1 > 10.0.0.2 id",
                "id",
                "\"\" is no number that it can have",
            ),
            (
                "icmp 10.0.0.1 > 10.0.0.2 code 1",
                "code",
                "is given without a type",
            ),
            ("tcp 10.0.0.1:1 > 10.0.0.2:2 id 7", "id", "tcp has none"),
            (
                "tcp 10.0.0.1:1 > 10.0.0.2:2 now",
                "destination",
                "\"now\" comes after it",
            ),
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!((error.part, error.message.as_str()), (part, message), "{text}");
        }
        let error = parse("tcp fd00::1 > [fd00::2]:2").unwrap_err();
        assert_eq!(error.help, "write [fd00::1]:80, for instance");
    }

    #[test]
    fn blanks_around_the_arrow_are_not_needed() {
        assert_eq!(
            parse("udp [fd00::1]:1>[fd00::2]:2"),
            parse(" UDP  [fd00::1]:1 > [fd00::2]:2 ")
        );
        assert_eq!(parse("icmp fd00::1 > fd00::2").unwrap().protocol, "icmpv6");
    }

    proptest! {
        #[test]
        fn no_words_make_it_panic(text in "(tcp|icmp|[a-z0-9]*) ?[0-9a-f:.\\[\\]]* ?>? ?[0-9a-f:.\\[\\]]*( (type|code|id) [0-9]*)*|.*") {
            let _ = parse(&text);
        }

        #[test]
        fn a_packet_is_read_as_it_is_written(
            protocol in prop::sample::select(vec!["tcp", "udp", "sctp", "icmp", "icmpv6", "47", "6"]),
            v6: bool,
            addresses: (u128, u128),
            ports: (u16, u16),
            message in prop::option::of((any::<u8>(), prop::option::of(any::<u8>()))),
            identifier: u16,
        ) {
            let ((source, destination), (source_port, destination_port)) = (addresses, ports);
            let address = |bits: u128| match v6 {
                true => IpAddr::V6(bits.into()),
                false => IpAddr::V4((bits as u32).into()),
            };
            let protocol = of_family(protocol.to_owned(), address(source));
            let has_ports = matches!(protocol.as_str(), "tcp" | "udp" | "sctp" | "6");
            let is_icmp = protocol.starts_with("icmp");
            let packet = v1::SupposedPacket {
                source: address(source).to_string(),
                source_port: if has_ports { source_port.into() } else { 0 },
                destination: address(destination).to_string(),
                destination_port: if has_ports { destination_port.into() } else { 0 },
                icmp_type: message.filter(|_| is_icmp).map(|(kind, _)| kind.into()),
                icmp_code: message.filter(|_| is_icmp).and_then(|(_, code)| code).map(u32::from),
                icmp_identifier: if is_icmp { identifier.into() } else { 0 },
                protocol,
            };
            prop_assert_eq!(parse(&words(&packet)), Ok(packet));
        }
    }
}
