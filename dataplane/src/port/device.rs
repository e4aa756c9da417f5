//! A DPDK device in words: `0000:03:00.0`, `net_af_packet0,iface=eth1`, or a bond with the devices that it joins.
//!
//! DPDK's own grammar has no way to make a bond's members in the same breath, since their arguments have commas too.
//! Here a member may stand in parentheses and is made first:
//! `net_bonding0,mode=1,member=(net_af_packet0,iface=eth1),member=(0000:03:00.1)`. `slave=`, DPDK's word until 23.11,
//! is taken too; what is handed to DPDK is the word of the DPDK that is linked.

use crate::dpdk::eal::is_pci_address;

/// What a port asked for, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Device {
    /// `0000:03:00.0`, `net_af_packet0`.
    pub(crate) name: String,
    /// `key=value` or `key`, in order.
    pub(crate) arguments: Vec<(String, Option<String>)>,
    /// A bond's members that are to be made first.
    pub(crate) members: Vec<Device>,
}

/// The word for a bond's member in the DPDK that is linked.
const MEMBER: &str =
    if dpdk_sys::RTE_VER_YEAR > 23 || (dpdk_sys::RTE_VER_YEAR == 23 && dpdk_sys::RTE_VER_MONTH >= 11) {
        "member"
    } else {
        "slave"
    };

impl Device {
    /// Takes the words apart; the error says what is wrong with them.
    pub(crate) fn parse(text: &str) -> Result<Device, String> {
        if text.bytes().any(|byte| byte.is_ascii_control()) {
            return Err("it has control characters".to_owned());
        }
        let mut parts = split(text)?.into_iter();
        let name = parts.next().unwrap_or_default().to_owned();
        if name.is_empty() {
            return Err("it has no name".to_owned());
        }
        let mut name = name;
        if is_pci_address(&name) && name.matches(':').count() == 1 {
            // DPDK names devices in full.
            name = format!("0000:{name}");
        }
        let mut device = Device {
            name,
            arguments: Vec::new(),
            members: Vec::new(),
        };
        for part in parts {
            let (key, value) = match part.split_once('=') {
                Some((key, value)) => (key, Some(value)),
                None => (part, None),
            };
            if key.is_empty() {
                return Err(format!("an argument has no name: \"{part}\""));
            }
            if key != "slave" && key != "member" {
                device.arguments.push((key.to_owned(), value.map(str::to_owned)));
                continue;
            }
            let value = value.ok_or("a member has no name")?;
            let inner = value.strip_prefix('(').and_then(|value| value.strip_suffix(')'));
            let member = if inner.is_some() || is_pci_address(value) {
                let member = Device::parse(inner.unwrap_or(value))?;
                let name = member.name.clone();
                device.members.push(member);
                name
            } else {
                value.to_owned()
            };
            device.arguments.push((MEMBER.to_owned(), Some(member)));
        }
        Ok(device)
    }

    /// On the PCI bus, not made up of software.
    pub(crate) fn is_pci(&self) -> bool {
        is_pci_address(&self.name)
    }

    /// The driver of a virtual device is the start of its name: `net_af_packet` of `net_af_packet0`.
    pub(crate) fn is_driver(&self, driver: &str) -> bool {
        let rest = self
            .name
            .strip_prefix(driver)
            .or_else(|| self.name.strip_prefix(driver.strip_prefix("net_")?));
        rest.is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
    }

    /// The value of an argument.
    pub(crate) fn argument(&self, key: &str) -> Option<&str> {
        self.arguments
            .iter()
            .find(|(name, _)| name == key)
            .and_then(|(_, value)| value.as_deref())
    }

    /// Adds an argument unless it is there.
    pub(crate) fn default_argument(&mut self, key: &str, value: String) {
        if !self.arguments.iter().any(|(name, _)| name == key) {
            self.arguments.push((key.to_owned(), Some(value)));
        }
    }

    /// As DPDK takes it.
    pub(crate) fn words(&self) -> String {
        let mut words = self.name.clone();
        for (key, value) in &self.arguments {
            words.push(',');
            words.push_str(key);
            if let Some(value) = value {
                words.push('=');
                words.push_str(value);
            }
        }
        words
    }
}

/// Cuts at commas that are in no parentheses or brackets.
fn split(text: &str) -> Result<Vec<&str>, String> {
    let mut depth = 0u32;
    let mut start = 0;
    let mut parts = Vec::new();
    for (at, character) in text.char_indices() {
        match character {
            '(' | '[' => depth += 1,
            ')' | ']' => {
                depth = depth
                    .checked_sub(1)
                    .ok_or("a bracket is closed that was not opened")?
            }
            ',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    if depth != 0 {
        return Err("a bracket is not closed".to_owned());
    }
    parts.push(&text[start..]);
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_virtual_device_keeps_its_arguments_in_order() {
        let device = Device::parse("net_pcap0,rx_pcap=a.pcap,infinite_rx=1,tx_iface=lo").unwrap();
        assert_eq!(device.name, "net_pcap0");
        assert_eq!(device.argument("infinite_rx"), Some("1"));
        assert_eq!(
            device.words(),
            "net_pcap0,rx_pcap=a.pcap,infinite_rx=1,tx_iface=lo"
        );
        assert!(device.is_driver("net_pcap"));
        assert!(!device.is_driver("net_p"));
        assert!(!device.is_pci());
    }

    #[test]
    fn a_pci_address_gets_its_domain() {
        let device = Device::parse("03:00.1").unwrap();
        assert_eq!(device.words(), "0000:03:00.1");
        assert!(device.is_pci());
    }

    #[test]
    fn a_bond_names_its_members_and_makes_those_in_parentheses() {
        let device = Device::parse(
            "net_bonding0,mode=1,slave=(net_af_packet0,iface=eth1),member=0000:03:00.1,member=net_null9",
        )
        .unwrap();
        let member = MEMBER;
        assert_eq!(
            device.words(),
            format!("net_bonding0,mode=1,{member}=net_af_packet0,{member}=0000:03:00.1,{member}=net_null9")
        );
        let made: Vec<String> = device.members.iter().map(Device::words).collect();
        assert_eq!(made, ["net_af_packet0,iface=eth1", "0000:03:00.1"]);
    }

    #[test]
    fn an_argument_is_added_only_if_it_is_missing() {
        let mut device = Device::parse("net_af_packet0,iface=eth1,qpairs=3").unwrap();
        device.default_argument("qpairs", "2".to_owned());
        device.default_argument("framesz", "4096".to_owned());
        assert_eq!(device.words(), "net_af_packet0,iface=eth1,qpairs=3,framesz=4096");
    }

    #[test]
    fn broken_words_are_refused() {
        for bad in [
            "",
            ",iface=x",
            "net_null0,=1",
            "net_bonding0,slave",
            "net_bonding0,slave=(x",
            "a)",
            "a\nb",
            "a,,b",
        ] {
            assert!(Device::parse(bad).is_err(), "{bad:?}");
        }
    }
}
