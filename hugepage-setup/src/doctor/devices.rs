//! Can ports be opened: taps, the kernel kept off an uplink, NICs and virtual functions by vfio?

use crate::{
    cpu::{self, CpuSet},
    doctor::Requirements,
    finding::{Finding, State},
    host::Host,
    pci::{self, Nic},
};

pub(super) fn tun(host: &Host) -> Finding {
    const CHECK: &str = "tun";
    if host.exists("/dev/net/tun") {
        Finding::ok(CHECK, "/dev/net/tun")
    } else {
        Finding::problem(
            CHECK,
            "/dev/net/tun does not exist",
            "modprobe tun; in a container pass the device in (--device /dev/net/tun)",
        )
    }
}

pub(super) fn nft(host: &Host) -> Finding {
    const CHECK: &str = "nft";
    match host.find_command("nft") {
        Some(path) => Finding::ok(CHECK, path),
        None => Finding::warning(
            CHECK,
            "the command nft is not installed",
            "apt install nftables: an af_packet uplink needs it to keep the kernel from answering too",
        ),
    }
}

pub(super) fn iommu(host: &Host) -> Finding {
    const CHECK: &str = "iommu";
    let groups = host.list("/sys/kernel/iommu_groups").len();
    if groups > 0 {
        Finding::ok(CHECK, format!("{groups} groups"))
    } else {
        Finding::warning(
            CHECK,
            "off or missing",
            "needed for NICs and VFs on vfio-pci only: switch it on in the firmware and boot with intel_iommu=on \
             iommu=pt (Intel) or iommu=pt (AMD)",
        )
    }
}

pub(super) fn vfio(host: &Host) -> Finding {
    const CHECK: &str = "vfio";
    if pci::driver_loaded(host, "vfio-pci") {
        if pci::unsafe_without_iommu(host) && !pci::has_iommu(host) {
            return Finding::warning(
                CHECK,
                "loaded, in no-IOMMU mode",
                "whatever drives a NIC can write anywhere in memory: for tests only",
            );
        }
        return Finding::ok(CHECK, "vfio-pci is loaded");
    }
    if pci::module_available(host, "vfio-pci") {
        return Finding::warning(
            CHECK,
            "vfio-pci is not loaded",
            "modprobe vfio-pci, if a NIC shall be bound to it (hugepage-setup bind does so)",
        );
    }
    Finding::warning(
        CHECK,
        format!("kernel {} has no vfio", host.kernel_release()),
        "no PCI NIC can be bound here; af_packet and af_xdp uplinks, taps and vhost-user work without",
    )
}

/// A finding a NIC, and one more a physical function with virtual ones.
pub(super) fn nics(host: &Host, wanted: &Requirements) -> Vec<Finding> {
    let nics = pci::nics(host);
    if nics.is_empty() {
        return vec![Finding::ok("nics", "no PCI network device")];
    }
    nics.iter()
        .flat_map(|nic| {
            let virtual_functions =
                (nic.most_virtual_functions > 0).then(|| virtual_functions(host, nic, &nics));
            [Some(one_nic(host, nic, wanted)), virtual_functions]
        })
        .flatten()
        .collect()
}

fn one_nic(host: &Host, nic: &Nic, wanted: &Requirements) -> Finding {
    let check = format!("nic-{}", nic.address);
    let mut found = nic.driver.clone().unwrap_or_else(|| "no driver".to_owned());
    if !nic.interfaces.is_empty() {
        found += &format!(", interface {}", nic.interfaces.join(", "));
    }
    if let Some(physical) = &nic.physical_function {
        found += &format!(", virtual function of {physical}");
    }
    if let Some(node) = nic.node {
        found += &format!(", node {node}");
    }
    if nic.is_userspace() {
        if let Some(finding) = group_is_whole(host, nic, &check, &found) {
            return finding;
        }
        if let Some(node) = nic.node {
            let far: CpuSet = wanted.workers.without(&cpu::of_node(host, node));
            if !far.is_empty() {
                return Finding::warning(
                    check,
                    format!("{found}; workers {far} are on another node"),
                    format!("use workers among CPUs {}", cpu::of_node(host, node)),
                );
            }
        }
    }
    Finding::ok(check, found)
}

/// vfio opens a group only if no kernel driver holds a part of it.
fn group_is_whole(host: &Host, nic: &Nic, check: &str, found: &str) -> Option<Finding> {
    let group = nic.iommu_group.as_ref()?;
    let held: Vec<String> = pci::group_mates(host, &nic.address, group)
        .into_iter()
        .filter_map(|(name, driver)| {
            driver
                .filter(|d| d != "vfio-pci")
                .map(|d| format!("{name} ({d})"))
        })
        .collect();
    (!held.is_empty()).then(|| {
        Finding::problem(
            check,
            format!("{found}; IOMMU group {group} is shared with {}", held.join(", ")),
            "bind the whole group to vfio-pci, or move the card to another slot",
        )
    })
}

fn virtual_functions(host: &Host, nic: &Nic, nics: &[Nic]) -> Finding {
    let check = format!("sriov-{}", nic.address);
    let made = nic.virtual_functions.len();
    let found = format!("{made} of {} virtual functions", nic.most_virtual_functions);
    if made == 0 {
        return Finding::ok(check, found);
    }
    let bound = nic
        .virtual_functions
        .iter()
        .filter(|address| {
            nics.iter()
                .any(|other| other.address.as_str() == *address && other.is_userspace())
        })
        .count();
    let found = format!("{found}, {bound} bound to userspace");
    if !pci::has_iommu(host) {
        return Finding {
            check,
            state: State::Problem,
            found: format!("{found}, without an IOMMU"),
            advice: Some("a virtual function needs the IOMMU: see the check iommu".to_owned()),
        };
    }
    if nic.is_userspace() && bound < made {
        return Finding::warning(
            check,
            found,
            "their physical function is on vfio-pci too: bind them with hugepage-setup bind, one by one",
        );
    }
    Finding::ok(check, found)
}
