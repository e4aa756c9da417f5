//! MAC addresses (IEEE 802-2014, clause 8).

use std::{fmt, str::FromStr};

use thiserror::Error;

/// A MAC address.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(transparent)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// All stations.
    pub const BROADCAST: Mac = Mac([0xff; 6]);
    /// Not an address: a field that is not filled in.
    pub const ZERO: Mac = Mac([0; 6]);
    /// The router towards every tenant: the IPv4 virtual router of group 0, which no VRRP group may use (RFC 9568,
    /// section 7.3).
    pub const VIRTUAL_ROUTER: Mac = Mac([0x00, 0x00, 0x5e, 0x00, 0x01, 0x00]);

    /// Addressed to a group; broadcast is the group of all.
    #[inline]
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// Addressed to all.
    #[inline]
    pub const fn is_broadcast(self) -> bool {
        matches!(self.0, [0xff, 0xff, 0xff, 0xff, 0xff, 0xff])
    }

    /// Not filled in.
    #[inline]
    pub const fn is_zero(self) -> bool {
        matches!(self.0, [0, 0, 0, 0, 0, 0])
    }

    /// May stand as a source: neither a group nor zero.
    #[inline]
    pub const fn is_unicast(self) -> bool {
        !self.is_multicast() && !self.is_zero()
    }
}

impl From<[u8; 6]> for Mac {
    #[inline]
    fn from(octets: [u8; 6]) -> Self {
        Mac(octets)
    }
}

impl From<Mac> for [u8; 6] {
    #[inline]
    fn from(mac: Mac) -> Self {
        mac.0
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        // Through `pad`, so that tables may give it a width.
        f.pad(&format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}"))
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is no MAC address.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{text}` is no MAC address: write six octets of two hexadecimal digits, such as 52:54:00:12:34:56")]
pub struct NotAMac {
    /// What was written.
    pub text: String,
}

impl FromStr for Mac {
    type Err = NotAMac;

    /// Octets separated by colons or by hyphens, not by both.
    fn from_str(text: &str) -> Result<Self, NotAMac> {
        let wrong = || NotAMac {
            text: text.to_owned(),
        };
        let separator = if text.contains('-') { '-' } else { ':' };
        let mut octets = [0u8; 6];
        let mut parts = text.split(separator);
        for octet in &mut octets {
            let part = parts.next().ok_or_else(wrong)?;
            // `from_str_radix` takes a sign, hence the look at each digit.
            if part.len() != 2 || !part.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return Err(wrong());
            }
            *octet = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
        }
        if parts.next().is_some() {
            return Err(wrong());
        }
        Ok(Mac(octets))
    }
}

impl TryFrom<&str> for Mac {
    type Error = NotAMac;

    fn try_from(text: &str) -> Result<Self, NotAMac> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_reads_back_what_it_shows() {
        let mac: Mac = "52:54:00:AB:cd:0f".parse().unwrap();
        assert_eq!(mac, Mac([0x52, 0x54, 0x00, 0xab, 0xcd, 0x0f]));
        assert_eq!(mac.to_string(), "52:54:00:ab:cd:0f");
        assert_eq!("52-54-00-ab-cd-0f".parse(), Ok(mac));
        assert_eq!(format!("[{mac:>19}]"), "[  52:54:00:ab:cd:0f]");
    }

    #[test]
    fn what_is_no_mac_is_refused_with_the_text_and_an_example() {
        for text in [
            "",
            "52:54:00:ab:cd",
            "52:54:00:ab:cd:0f:11",
            "52:54:00:ab:cd:0g",
            "5254.00ab.cd0f",
            "52:54:00:ab:cd:+f",
            "52:54:00-ab:cd:0f",
            "2:54:00:ab:cd:0f",
            "52:54:00:ab:cd:0f ",
            "52:54:00:ab:cd:é",
        ] {
            let error = text.parse::<Mac>().unwrap_err();
            assert!(
                error
                    .to_string()
                    .starts_with(&format!("`{text}` is no MAC address")),
                "{error}"
            );
            assert!(error.to_string().contains("52:54:00:12:34:56"));
        }
    }

    #[test]
    fn groups_and_zero_are_no_unicast() {
        assert!(
            Mac::BROADCAST.is_multicast() && Mac::BROADCAST.is_broadcast() && !Mac::BROADCAST.is_unicast()
        );
        let all_nodes = Mac([0x33, 0x33, 0, 0, 0, 1]);
        assert!(all_nodes.is_multicast() && !all_nodes.is_broadcast());
        assert!(Mac::ZERO.is_zero() && !Mac::ZERO.is_unicast());
        assert!(Mac::VIRTUAL_ROUTER.is_unicast());
        assert_eq!(Mac::VIRTUAL_ROUTER.to_string(), "00:00:5e:00:01:00");
    }
}
