//! DPDK's environment: started once a process, with one lcore a worker.
//!
//! `rte_eal_init` pins the thread that calls it, and children inherit that; so it runs in a thread of its own. Lcore 0
//! is that one, free to float over the allowed CPUs and idle; worker n is lcore n + 1, pinned to its CPU.
#![allow(unsafe_code)]

use std::{
    ffi::{CStr, CString, OsStr, c_char, c_int},
    fs, io, mem,
    os::unix::ffi::OsStrExt,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use thiserror::Error;

use super::{errno_text, last_errno, log};

/// How to start EAL.
#[derive(Clone, Debug, Default)]
pub struct EalConfig {
    /// CPUs of the workers, one worker each, in order.
    pub worker_cpus: Vec<u16>,
    /// Run without hugepages.
    pub no_huge: bool,
    /// Memory, MiB.
    pub memory_mib: u32,
    /// Distinguishes the DPDK files of several instances on one host.
    pub file_prefix: String,
    /// PCI devices to probe at start. Others can be plugged later.
    pub pci_devices: Vec<String>,
    /// Keep the hugepages of a size in one file instead of one each: a vhost-user front end (virtio-user) has to hand
    /// over a descriptor for each, and there may be eight.
    pub single_file_segments: bool,
}

/// EAL did not start.
#[derive(Debug, Error)]
#[allow(missing_docs)]
pub enum EalError {
    #[error("DPDK runs once a process, and it has been started before; restart the process")]
    AlreadyStarted,
    #[error("{field} = {value}: {why}")]
    Config {
        field: &'static str,
        value: String,
        why: String,
    },
    #[error(
        "worker_cpus: CPU {cpu} may not be used by this process, only {allowed}; change worker_cpus or the cgroup"
    )]
    CpuNotAllowed { cpu: u16, allowed: String },
    #[error(
        "hugepages: {needed_mib} MiB are needed (memory_mib), {free_mib} MiB are free of {total_mib} MiB; \
         reserve more with hugepage-setup, lower memory_mib, or set no_huge = true"
    )]
    Hugepages {
        needed_mib: u64,
        free_mib: u64,
        total_mib: u64,
    },
    #[error(
        "no permission: {reason}; run as root, or give the process CAP_IPC_LOCK and a writable /run/dpdk"
    )]
    Permission { reason: String },
    #[error(
        "memory: {needed_mib} MiB could not be had: {reason}; lower memory_mib, or check the cgroup's limits"
    )]
    Memory { needed_mib: u64, reason: String },
    #[error("DPDK does not start: {reason}")]
    Init { reason: String },
    #[error("a thread for DPDK could not be started: {0}")]
    Thread(#[from] io::Error),
}

static STARTED: AtomicBool = AtomicBool::new(false);

/// The running environment. Ports, pools and packets need it: drop it last.
pub struct Eal {
    worker_cpus: Vec<u16>,
}

impl Eal {
    /// Starts DPDK: checks what can be checked before (CPUs, hugepages), since DPDK's own words are short, then
    /// initialises it. One try a process: DPDK cannot be initialised twice.
    pub fn start(config: &EalConfig) -> Result<Eal, EalError> {
        check(config)?;
        let allowed = allowed_cpus()?;
        let arguments = arguments(config, &allowed)?;
        if STARTED.swap(true, Ordering::SeqCst) {
            return Err(EalError::AlreadyStarted);
        }
        raise_descriptor_limit();
        log::start()?;
        let before = log::mark();
        let failed = thread::Builder::new()
            .name("dpdk-main".to_owned())
            .spawn(move || init(arguments))?
            .join()
            .unwrap_or(Some(libc::EFAULT));
        match failed {
            None => Ok(Eal {
                worker_cpus: config.worker_cpus.clone(),
            }),
            Some(number) => Err(explain(config, number, log::since(before))),
        }
    }

    /// How many workers there are.
    pub fn workers(&self) -> u16 {
        self.worker_cpus.len() as u16
    }

    /// The CPU of a worker; None: there is no such worker.
    pub fn cpu_of(&self, worker: u16) -> Option<u16> {
        self.worker_cpus.get(usize::from(worker)).copied()
    }

    /// The lcore of a worker.
    pub fn lcore_of(worker: u16) -> u32 {
        u32::from(worker) + 1
    }
}

impl Drop for Eal {
    /// Gives back memory and files. Workers must have returned (see [`super::lcore::Running::wait`]).
    fn drop(&mut self) {
        for worker in 0..self.workers() {
            // SAFETY: the lcore exists; its state is read.
            let state = unsafe { dpdk_sys::rte_eal_get_lcore_state(Eal::lcore_of(worker)) };
            if state != dpdk_sys::WAIT {
                tracing::warn!(worker, "DPDK is not cleaned up: a worker still runs");
                return;
            }
        }
        // SAFETY: reads a string that EAL keeps until it is cleaned up.
        let directory = unsafe { CStr::from_ptr(dpdk_sys::rte_eal_get_runtime_dir()) }.to_owned();
        // SAFETY: no worker runs, and ports and pools are dropped before (the caller's duty, as documented).
        unsafe { dpdk_sys::rte_eal_cleanup() };
        // EAL makes it and leaves it. If something is in it, it is not ours to remove.
        let _ = fs::remove_dir(Path::new(OsStr::from_bytes(directory.to_bytes())));
    }
}

fn check(config: &EalConfig) -> Result<(), EalError> {
    let bad = |field, value: String, why: &str| EalError::Config {
        field,
        value,
        why: why.to_owned(),
    };
    let cpus = &config.worker_cpus;
    if cpus.is_empty() {
        return Err(bad("worker_cpus", "[]".to_owned(), "name at least one CPU"));
    }
    let most = dpdk_sys::RTE_MAX_LCORE as usize - 1;
    if cpus.len() > most {
        return Err(bad(
            "worker_cpus",
            format!("{} CPUs", cpus.len()),
            &format!("DPDK takes {most} at most"),
        ));
    }
    if let Some(twice) = cpus.iter().enumerate().find(|(n, cpu)| cpus[..*n].contains(cpu)) {
        return Err(bad(
            "worker_cpus",
            format!("{cpus:?}"),
            &format!("CPU {} is named twice", twice.1),
        ));
    }
    let prefix_fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if config.file_prefix.is_empty()
        || config.file_prefix.len() > 64
        || !config.file_prefix.chars().all(prefix_fits)
    {
        return Err(bad(
            "file_prefix",
            format!("\"{}\"", config.file_prefix),
            "use 1 to 64 letters, digits, '-', '_' and '.'",
        ));
    }
    if config.memory_mib == 0 {
        return Err(bad(
            "memory_mib",
            "0".to_owned(),
            "DPDK needs memory; 512 is a small start",
        ));
    }
    for device in &config.pci_devices {
        if !is_pci_address(device.split(',').next().unwrap_or_default()) {
            return Err(bad(
                "pci_devices",
                format!("\"{device}\""),
                "write a PCI address such as 0000:03:00.0",
            ));
        }
    }
    if !config.no_huge {
        let (total_mib, free_mib) = hugepages(Path::new("/sys/kernel/mm/hugepages"));
        let needed_mib = u64::from(config.memory_mib);
        if free_mib < needed_mib {
            return Err(EalError::Hugepages {
                needed_mib,
                free_mib,
                total_mib,
            });
        }
    }
    Ok(())
}

/// `domain:bus:device.function`, the domain may be left out.
pub(crate) fn is_pci_address(text: &str) -> bool {
    let hex = |part: &str, most: usize| {
        !part.is_empty() && part.len() <= most && part.chars().all(|c| c.is_ascii_hexdigit())
    };
    let Some((front, function)) = text.rsplit_once('.') else {
        return false;
    };
    let parts: Vec<&str> = front.split(':').collect();
    let address = match parts[..] {
        [bus, device] => hex(bus, 2) && hex(device, 2),
        [domain, bus, device] => hex(domain, 8) && hex(bus, 2) && hex(device, 2),
        _ => false,
    };
    address && matches!(function.as_bytes(), [b'0'..=b'7'])
}

/// Total and free hugepages of all sizes, MiB.
fn hugepages(directory: &Path) -> (u64, u64) {
    let Ok(sizes) = fs::read_dir(directory) else {
        return (0, 0);
    };
    let mut sum = (0, 0);
    for size in sizes.flatten() {
        let name = size.file_name();
        let kib = name
            .to_str()
            .and_then(|name| {
                name.strip_prefix("hugepages-")?
                    .strip_suffix("kB")?
                    .parse::<u64>()
                    .ok()
            })
            .unwrap_or(0);
        let pages = |file: &str| {
            fs::read_to_string(size.path().join(file))
                .ok()
                .and_then(|text| text.trim().parse::<u64>().ok())
                .unwrap_or(0)
        };
        sum.0 += pages("nr_hugepages") * kib / 1024;
        sum.1 += pages("free_hugepages") * kib / 1024;
    }
    sum
}

/// Each queue of a guest takes descriptors, and each tap: the usual soft limit of 1,024 is too low for 200 ports. The
/// hard limit is the operator's.
fn raise_descriptor_limit() {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: both calls use a live struct; a refusal leaves the limit as it was.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 && limit.rlim_cur < limit.rlim_max {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        }
    }
}

/// CPUs that the kernel lets this process use.
fn allowed_cpus() -> Result<Vec<u16>, EalError> {
    // SAFETY: an all-zero cpu_set_t is an empty set, and the call fills it.
    let set = unsafe {
        let mut set: libc::cpu_set_t = mem::zeroed();
        if libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) != 0 {
            return Err(EalError::Thread(io::Error::last_os_error()));
        }
        set
    };
    // SAFETY: the indices are below CPU_SETSIZE.
    Ok((0..libc::CPU_SETSIZE as u16)
        .filter(|cpu| unsafe { libc::CPU_ISSET(usize::from(*cpu), &set) })
        .collect())
}

fn list(cpus: &[u16]) -> String {
    cpus.iter().map(u16::to_string).collect::<Vec<_>>().join(",")
}

fn arguments(config: &EalConfig, allowed: &[u16]) -> Result<Vec<CString>, EalError> {
    if let Some(cpu) = config.worker_cpus.iter().find(|cpu| !allowed.contains(cpu)) {
        return Err(EalError::CpuNotAllowed {
            cpu: *cpu,
            allowed: list(allowed),
        });
    }
    let mut lcores = format!("0@({})", list(allowed));
    for (worker, cpu) in config.worker_cpus.iter().enumerate() {
        lcores += &format!(",{}@{cpu}", worker + 1);
    }
    let mut arguments = vec![
        "weftd".to_owned(),
        format!("--lcores={lcores}"),
        "--main-lcore=0".to_owned(),
        format!("--file-prefix={}", config.file_prefix),
        "--no-telemetry".to_owned(),
        "--log-level=error".to_owned(),
        // What a guest can cause packet by packet is counted, not logged.
        "--log-level=lib.vhost.data:emergency".to_owned(),
        "-m".to_owned(),
        config.memory_mib.to_string(),
    ];
    // Without hugepages DPDK refuses --in-memory; its one mapping is anonymous anyway, and --no-shconf leaves no file.
    if config.no_huge {
        arguments.extend(["--no-huge".to_owned(), "--no-shconf".to_owned()]);
    } else {
        arguments.push("--in-memory".to_owned());
    }
    if config.single_file_segments {
        arguments.push("--single-file-segments".to_owned());
    }
    if config.pci_devices.is_empty() && Path::new("/sys/bus/pci/devices").exists() {
        // An allow list that names only the host bridge, which no driver takes: the bus is scanned and left alone,
        // and a device that a port names later can still be probed. --no-pci would forbid that.
        arguments.push("--allow=0000:00:00.0".to_owned());
    } else if config.pci_devices.is_empty() {
        arguments.push("--no-pci".to_owned());
    }
    for device in &config.pci_devices {
        arguments.push(format!("--allow={device}"));
    }
    arguments
        .into_iter()
        .map(|argument| {
            CString::new(argument).map_err(|reason| EalError::Config {
                field: "pci_devices",
                value: format!("{:?}", config.pci_devices),
                why: reason.to_string(),
            })
        })
        .collect()
}

/// Runs in the thread that becomes lcore 0. None is success, else the error number.
fn init(arguments: Vec<CString>) -> Option<i32> {
    // DPDK keeps pointers into its arguments: they stay allocated.
    let mut pointers: Vec<*mut c_char> = arguments.into_iter().map(CString::into_raw).collect();
    let count = pointers.len() as c_int;
    pointers.push(std::ptr::null_mut());
    let pointers = Vec::leak(pointers);
    // SAFETY: `pointers` are `count` C strings and a final null, allocated for the life of the process.
    let result = unsafe { dpdk_sys::rte_eal_init(count, pointers.as_mut_ptr()) };
    (result < 0).then(last_errno)
}

fn explain(config: &EalConfig, number: i32, said: Option<String>) -> EalError {
    let said = said.unwrap_or_default();
    let reason = if said.is_empty() {
        errno_text(number)
    } else {
        format!("{} ({said})", errno_text(number))
    };
    let lower = reason.to_lowercase();
    let needed_mib = u64::from(config.memory_mib);
    if matches!(number, libc::EACCES | libc::EPERM)
        || lower.contains("permission denied")
        || lower.contains("not permitted")
    {
        EalError::Permission { reason }
    } else if number == libc::ENOMEM || lower.contains("memory") {
        EalError::Memory { needed_mib, reason }
    } else {
        EalError::Init { reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> EalConfig {
        EalConfig {
            worker_cpus: vec![0],
            no_huge: true,
            memory_mib: 64,
            file_prefix: "weft".to_owned(),
            ..EalConfig::default()
        }
    }

    #[test]
    fn a_pci_address_has_bus_device_and_function() {
        for good in ["0000:03:00.0", "03:00.7", "10000:e1:1f.3"] {
            assert!(is_pci_address(good), "{good}");
        }
        for bad in [
            "",
            "eth1",
            "03:00",
            "03:00.8",
            "0000:003:00.0",
            "net_null0",
            "::.0",
            "0:0:0:0.0",
        ] {
            assert!(!is_pci_address(bad), "{bad}");
        }
    }

    #[test]
    fn too_few_hugepages_are_refused_with_the_figures() {
        let error = check(&EalConfig {
            no_huge: false,
            memory_mib: u32::MAX,
            ..config()
        })
        .unwrap_err();
        assert!(
            matches!(
                error,
                EalError::Hugepages {
                    needed_mib: 0xffff_ffff,
                    ..
                }
            ),
            "{error}"
        );
        assert!(error.to_string().contains("hugepage-setup"), "{error}");
    }

    #[test]
    fn a_cpu_outside_of_the_allowed_ones_is_refused() {
        let error = arguments(
            &EalConfig {
                worker_cpus: vec![0, 700],
                ..config()
            },
            &[0, 1],
        )
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            "worker_cpus: CPU 700 may not be used by this process, only 0,1; change worker_cpus or the cgroup"
        );
    }

    #[test]
    fn settings_that_cannot_work_are_refused_by_name() {
        for (config, field) in [
            (
                EalConfig {
                    worker_cpus: vec![],
                    ..config()
                },
                "worker_cpus",
            ),
            (
                EalConfig {
                    worker_cpus: vec![1, 1],
                    ..config()
                },
                "worker_cpus",
            ),
            (
                EalConfig {
                    memory_mib: 0,
                    ..config()
                },
                "memory_mib",
            ),
            (
                EalConfig {
                    file_prefix: "../x".to_owned(),
                    ..config()
                },
                "file_prefix",
            ),
            (
                EalConfig {
                    pci_devices: vec!["eth1".to_owned()],
                    ..config()
                },
                "pci_devices",
            ),
        ] {
            assert!(check(&config).unwrap_err().to_string().starts_with(field));
        }
    }

    #[test]
    fn each_worker_is_an_lcore_pinned_to_its_cpu() {
        let arguments = arguments(
            &EalConfig {
                worker_cpus: vec![1, 3],
                ..config()
            },
            &[0, 1, 3],
        )
        .unwrap();
        assert!(
            arguments.contains(&c"--lcores=0@(0,1,3),1@1,2@3".to_owned()),
            "{arguments:?}"
        );
    }
}
