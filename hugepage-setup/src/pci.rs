//! PCI network devices: their drivers, interfaces, nodes, IOMMU groups and virtual functions, as sysfs shows them.

use std::fmt;

use serde::Serialize;

use crate::{error::SetupError, host::Host};

const DEVICES: &str = "/sys/bus/pci/devices";

/// Address of a PCI device, written in full ("0000:03:00.0").
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct PciAddress(String);

impl PciAddress {
    /// As sysfs writes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its directory in sysfs.
    pub fn directory(&self) -> String {
        format!("{DEVICES}/{}", self.0)
    }
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for PciAddress {
    type Err = SetupError;

    /// The domain may be left out, as lspci does.
    fn from_str(text: &str) -> Result<Self, SetupError> {
        let bad = || SetupError::BadPciAddress(text.to_owned());
        let lower = text.trim().to_lowercase();
        let full = if lower.matches(':').count() == 1 {
            format!("0000:{lower}")
        } else {
            lower
        };
        let (rest, function) = full.rsplit_once('.').ok_or_else(bad)?;
        let parts: Vec<&str> = rest.split(':').collect();
        let hex = |part: &str, digits: std::ops::RangeInclusive<usize>| {
            digits.contains(&part.len()) && part.chars().all(|c| c.is_ascii_hexdigit())
        };
        let fits = parts.len() == 3
            && hex(parts[0], 4..=8)
            && hex(parts[1], 2..=2)
            && hex(parts[2], 2..=2)
            && matches!(function.as_bytes(), [b'0'..=b'7']);
        if fits { Ok(Self(full)) } else { Err(bad()) }
    }
}

/// A network device on the PCI bus.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Nic {
    /// Where.
    pub address: PciAddress,
    /// Vendor and device number ("8086:1572").
    pub id: String,
    /// The driver that holds it; none: nobody.
    pub driver: Option<String>,
    /// Linux interfaces on it.
    pub interfaces: Vec<String>,
    /// NUMA node; none where the machine has one node or does not say.
    pub node: Option<u32>,
    /// IOMMU group; none: no IOMMU.
    pub iommu_group: Option<String>,
    /// For a virtual function, its physical one.
    pub physical_function: Option<String>,
    /// Virtual functions that exist.
    pub virtual_functions: Vec<String>,
    /// Virtual functions that it could have.
    pub most_virtual_functions: u64,
}

impl Nic {
    /// True if a userspace driver (vfio-pci, uio) holds it.
    pub fn is_userspace(&self) -> bool {
        matches!(
            self.driver.as_deref(),
            Some("vfio-pci" | "uio_pci_generic" | "igb_uio")
        )
    }
}

/// Every network device, by address.
pub fn nics(host: &Host) -> Vec<Nic> {
    host.list(DEVICES)
        .into_iter()
        .filter(|name| is_network(host, name))
        .map(|name| read_nic(host, PciAddress(name)))
        .collect()
}

/// One device, of whatever class.
pub fn find(host: &Host, address: &PciAddress) -> Result<Nic, SetupError> {
    if !host.exists(&address.directory()) {
        return Err(SetupError::UnknownDevice(address.to_string()));
    }
    Ok(read_nic(host, address.clone()))
}

/// The other devices of an IOMMU group with their drivers; bridges are left out, which need no driver.
pub fn group_mates(host: &Host, address: &PciAddress, group: &str) -> Vec<(String, Option<String>)> {
    host.list(&format!("/sys/kernel/iommu_groups/{group}/devices"))
        .into_iter()
        .filter(|name| name != address.as_str())
        .filter(|name| !class_of(host, name).starts_with("0x06"))
        .map(|name| {
            let driver = host.link_name(&format!("{DEVICES}/{name}/driver"));
            (name, driver)
        })
        .collect()
}

/// True if an IOMMU keeps devices apart.
pub fn has_iommu(host: &Host) -> bool {
    !host.list("/sys/kernel/iommu_groups").is_empty()
}

/// Whether a driver is loaded.
pub fn driver_loaded(host: &Host, driver: &str) -> bool {
    host.exists(&format!("/sys/bus/pci/drivers/{driver}"))
}

/// Whether the running kernel has the module to load, built in or not.
pub fn module_available(host: &Host, driver: &str) -> bool {
    let file = driver.replace('_', "-");
    ["modules.dep", "modules.builtin"].iter().any(|list| {
        let path = format!("/lib/modules/{}/{list}", host.kernel_release());
        host.read(&path).is_some_and(|text| {
            text.lines().any(|line| {
                let name = line
                    .split(':')
                    .next()
                    .unwrap_or_default()
                    .rsplit('/')
                    .next()
                    .unwrap_or_default();
                name.split('.').next().unwrap_or_default().replace('_', "-") == file
            })
        })
    })
}

/// Whether vfio works without an IOMMU, which lets a device write anywhere in memory.
pub fn unsafe_without_iommu(host: &Host) -> bool {
    matches!(
        host.read("/sys/module/vfio/parameters/enable_unsafe_noiommu_mode")
            .as_deref(),
        Some("Y" | "1")
    )
}

fn class_of(host: &Host, name: &str) -> String {
    host.read(&format!("{DEVICES}/{name}/class")).unwrap_or_default()
}

/// PCI class 02: network controllers.
fn is_network(host: &Host, name: &str) -> bool {
    class_of(host, name).starts_with("0x02")
}

fn read_nic(host: &Host, address: PciAddress) -> Nic {
    let directory = address.directory();
    let read = |file: &str| host.read(&format!("{directory}/{file}"));
    let number = |file: &str| read(file).unwrap_or_default().trim_start_matches("0x").to_owned();
    let mut interfaces = host.list(&format!("{directory}/net"));
    // A virtio device's interface hangs below the virtio device.
    for child in host
        .list(&directory)
        .iter()
        .filter(|name| name.starts_with("virtio"))
    {
        interfaces.extend(host.list(&format!("{directory}/{child}/net")));
    }
    let virtual_functions = host
        .list(&directory)
        .iter()
        .filter(|name| name.starts_with("virtfn"))
        .filter_map(|name| host.link_name(&format!("{directory}/{name}")))
        .collect();
    Nic {
        id: format!("{}:{}", number("vendor"), number("device")),
        driver: host.link_name(&format!("{directory}/driver")),
        interfaces,
        node: read("numa_node").and_then(|node| node.parse().ok()),
        iommu_group: host.link_name(&format!("{directory}/iommu_group")),
        physical_function: host.link_name(&format!("{directory}/physfn")),
        virtual_functions,
        most_virtual_functions: host
            .read_number(&format!("{directory}/sriov_totalvfs"))
            .unwrap_or(0),
        address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_written_in_full() {
        assert_eq!("03:00.0".parse::<PciAddress>().unwrap().as_str(), "0000:03:00.0");
        assert_eq!(
            "0000:AF:1f.7".parse::<PciAddress>().unwrap().as_str(),
            "0000:af:1f.7"
        );
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "eth0",
            "0000:03:00",
            "0000:03:00.8",
            "0:3:0.0",
            "0000:03:00.00",
            "../../etc.0",
            "03.0",
        ] {
            assert!(text.parse::<PciAddress>().is_err(), "{text:?} was taken");
        }
    }
}
