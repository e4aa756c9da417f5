//! Gives a NIC to vfio-pci, which hands it to DPDK, and back to its kernel driver.
//!
//! By `driver_override`, so that no other device with the same number is touched (Documentation/ABI/testing/
//! sysfs-bus-pci). What would cut the host off, or leave a device that can write anywhere, is refused.

use crate::{
    action::{Action, Plan},
    error::SetupError,
    host::Host,
    pci::{self, Nic, PciAddress},
};

/// The steps that give `address` to `driver`. `force` binds an interface that is in use.
pub fn plan_bind(host: &Host, address: &PciAddress, driver: &str, force: bool) -> Result<Plan, SetupError> {
    let nic = pci::find(host, address)?;
    let mut plan = Plan::default();
    if nic.driver.as_deref() == Some(driver) {
        plan.notes.push(format!("{address} is bound to {driver} already"));
        return Ok(plan);
    }
    if !force && let Some((interface, why)) = use_by_host(host, &nic) {
        return Err(SetupError::DeviceInUse {
            device: address.to_string(),
            interface,
            why,
        });
    }
    if !pci::driver_loaded(host, driver) {
        if !pci::module_available(host, driver) {
            return Err(SetupError::NoDriver {
                driver: driver.to_owned(),
                kernel: host.kernel_release(),
            });
        }
        plan.actions.push(Action::LoadModule {
            name: driver.to_owned(),
        });
    }
    if driver == "vfio-pci" {
        check_isolation(host, &nic, &mut plan)?;
    }
    plan.actions.push(Action::Bind {
        device: address.to_string(),
        driver: Some(driver.to_owned()),
        before: nic.driver,
    });
    Ok(plan)
}

/// The steps that give `address` back to the kernel's own driver.
pub fn plan_unbind(host: &Host, address: &PciAddress) -> Result<Plan, SetupError> {
    let nic = pci::find(host, address)?;
    let mut plan = Plan::default();
    if nic.is_userspace() || nic.driver.is_none() {
        plan.actions.push(Action::Bind {
            device: address.to_string(),
            driver: None,
            before: nic.driver,
        });
    } else if let Some(driver) = &nic.driver {
        plan.notes
            .push(format!("{address} is with its kernel driver {driver} already"));
    }
    Ok(plan)
}

/// An IOMMU group is the smallest thing that can be kept apart; all of its devices go to userspace, or none.
fn check_isolation(host: &Host, nic: &Nic, plan: &mut Plan) -> Result<(), SetupError> {
    let Some(group) = &nic.iommu_group else {
        if pci::unsafe_without_iommu(host) {
            plan.notes.push(format!(
                "{} has no IOMMU behind it: whatever drives it can write anywhere in memory",
                nic.address
            ));
            return Ok(());
        }
        return Err(SetupError::NoIommu(nic.address.to_string()));
    };
    let held: Vec<String> = pci::group_mates(host, &nic.address, group)
        .into_iter()
        .filter_map(|(name, driver)| {
            driver
                .filter(|driver| driver != "vfio-pci")
                .map(|d| format!("{name} ({d})"))
        })
        .collect();
    if held.is_empty() {
        return Ok(());
    }
    Err(SetupError::SharedGroup {
        device: nic.address.to_string(),
        group: group.clone(),
        mates: held.join(", "),
    })
}

/// An interface of the device that the host itself lives on, and how.
fn use_by_host(host: &Host, nic: &Nic) -> Option<(String, String)> {
    nic.interfaces.iter().find_map(|interface| {
        let routes = host.read("/proc/net/route").unwrap_or_default();
        let routes: Vec<Vec<&str>> = routes
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .filter(|words| words.first() == Some(&interface.as_str()))
            .collect();
        let why = if routes.iter().any(|words| words.get(1) == Some(&"00000000")) {
            "the default route goes over it"
        } else if !routes.is_empty() {
            "routes go over it"
        } else if host.exists(&format!("/sys/class/net/{interface}/master")) {
            "it belongs to a bridge or bond"
        } else if host
            .read(&format!("/sys/class/net/{interface}/operstate"))
            .as_deref()
            == Some("up")
        {
            "it is up"
        } else {
            return None;
        };
        Some((interface.clone(), why.to_owned()))
    })
}

/// Takes the device from its driver and offers it to `driver`, or to whichever the kernel chooses.
pub(crate) fn rebind(host: &Host, address: &PciAddress, driver: Option<&str>) -> Result<(), SetupError> {
    let directory = address.directory();
    let write = |path: String, value: &str| {
        host.write(&path, value)
            .map_err(SetupError::io(format!("write {:?} to {path}", value.trim())))
    };
    // A newline takes the override away.
    write(
        format!("{directory}/driver_override"),
        &format!("{}\n", driver.unwrap_or_default()),
    )?;
    release(host, address)?;
    write("/sys/bus/pci/drivers_probe".to_owned(), &format!("{address}\n"))?;
    let held = host.link_name(&format!("{directory}/driver"));
    match (driver, held) {
        (Some(driver), held) if held.as_deref() != Some(driver) => Err(SetupError::NotTaken {
            device: address.to_string(),
            driver: driver.to_owned(),
            held: held.unwrap_or_else(|| "no driver".to_owned()),
        }),
        _ => Ok(()),
    }
}

/// Puts a device back as it was found: with this driver or without one, and free to be probed again.
pub(crate) fn restore(host: &Host, address: &PciAddress, driver: Option<&str>) -> Result<(), SetupError> {
    match driver {
        Some(_) => rebind(host, address, driver)?,
        None => release(host, address)?,
    }
    clear_override(host, address)
}

fn clear_override(host: &Host, address: &PciAddress) -> Result<(), SetupError> {
    let path = format!("{}/driver_override", address.directory());
    host.write(&path, "\n")
        .map_err(SetupError::io(format!("write \"\" to {path}")))
}

/// Takes the device from whatever driver holds it.
fn release(host: &Host, address: &PciAddress) -> Result<(), SetupError> {
    if host
        .link_name(&format!("{}/driver", address.directory()))
        .is_none()
    {
        return Ok(());
    }
    let path = format!("{}/driver/unbind", address.directory());
    host.write(&path, &format!("{address}\n"))
        .map_err(SetupError::io(format!("write {address} to {path}")))
}
