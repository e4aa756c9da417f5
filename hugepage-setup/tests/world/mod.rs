//! A made-up machine: files in a temporary directory, and a kernel that answers writes as Linux does.

#![allow(dead_code, missing_docs)]

use std::{
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use hugepage_setup::{Host, Kernel, command};

/// The files of a machine, and how much memory its kernel will find.
pub struct World {
    pub directory: tempfile::TempDir,
    pub host: Host,
}

/// Answers writes and commands as the real one.
struct MadeUpKernel {
    root: PathBuf,
    /// The most hugepages a pool gets.
    most_pages: u64,
    /// This driver refuses every device.
    refusing_driver: Option<String>,
}

impl MadeUpKernel {
    fn driver_link(&self, device: &str) -> PathBuf {
        self.root.join("sys/bus/pci/devices").join(device).join("driver")
    }
}

impl Kernel for MadeUpKernel {
    fn write(&self, path: &Path, value: &str) -> io::Result<()> {
        let value_text = value.trim();
        if path.ends_with("nr_hugepages") {
            let pages = value_text.parse::<u64>().unwrap().min(self.most_pages);
            fs::write(path.with_file_name("free_hugepages"), pages.to_string())?;
            return fs::write(path, pages.to_string());
        }
        if path.ends_with("driver/unbind") {
            let link = self.driver_link(value_text);
            // The interface goes with its driver.
            let _ = fs::rename(link.with_file_name("net"), link.with_file_name("net.gone"));
            return fs::remove_file(link);
        }
        if path.ends_with("drivers_probe") {
            let device = self.root.join("sys/bus/pci/devices").join(value_text);
            let wanted = fs::read_to_string(device.join("driver_override")).unwrap_or_default();
            let driver = match wanted.trim() {
                "" => fs::read_to_string(device.join("usual_driver")).unwrap_or_default(),
                wanted => wanted.to_owned(),
            };
            if driver.is_empty() || self.refusing_driver.as_deref() == Some(&driver) {
                return Ok(());
            }
            if driver != "vfio-pci" {
                let _ = fs::rename(device.join("net.gone"), device.join("net"));
            }
            let target = Path::new("../../../../bus/pci/drivers").join(driver);
            return symlink(target, self.driver_link(value_text));
        }
        fs::write(path, value)
    }

    fn run(&self, program: &str, arguments: &[&str]) -> io::Result<()> {
        let mounts = self.root.join("proc/self/mounts");
        let text = fs::read_to_string(&mounts).unwrap_or_default();
        match (program, arguments) {
            ("mount", ["-t", "hugetlbfs", "-o", options, "nodev", path]) => fs::write(
                mounts,
                format!("{text}nodev {path} hugetlbfs rw,relatime,{options} 0 0\n"),
            ),
            ("umount", [path]) => {
                let kept: String = text
                    .lines()
                    .filter(|line| line.split_whitespace().nth(1) != Some(*path))
                    .map(|line| format!("{line}\n"))
                    .collect();
                fs::write(mounts, kept)
            }
            ("modprobe", [module]) => fs::create_dir_all(self.root.join("sys/bus/pci/drivers").join(module)),
            other => panic!("nobody should run {other:?}"),
        }
    }
}

impl World {
    /// A server: two nodes of four CPUs, a NIC of two ports on node 1 with virtual functions, IOMMU, vfio loaded.
    pub fn server() -> Self {
        Self::server_with(1_000_000, None)
    }

    /// The same with a kernel that finds so many hugepages at most, and a driver that takes no device.
    pub fn server_with(most_pages: u64, refusing_driver: Option<&str>) -> Self {
        let world = Self::empty(most_pages, refusing_driver);
        world.cpus("0-7", &[(0, "0-3"), (1, "4-7")]);
        for cpu in 0..8 {
            let first = cpu / 2 * 2;
            world.file(
                &format!("sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"),
                &format!("{first}-{}", first + 1),
            );
            world.file(
                &format!("sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor"),
                "schedutil",
            );
        }
        world.file("sys/bus/pci/drivers/vfio-pci/new_id", "");
        world.file("proc/sys/kernel/numa_balancing", "1");
        world.nic("0000:81:00.0", "i40e", Some("ens1f0"), 1, Some("40"));
        world.nic("0000:81:00.1", "i40e", Some("ens1f1"), 1, Some("41"));
        world.file("sys/bus/pci/devices/0000:81:00.1/sriov_totalvfs", "64");
        for (index, driver) in ["vfio-pci", "iavf"].iter().enumerate() {
            let address = format!("0000:81:0a.{index}");
            world.nic(&address, driver, None, 1, Some(&format!("5{index}")));
            world.link(
                &format!("sys/bus/pci/devices/{address}/physfn"),
                "../0000:81:00.1",
            );
            world.link(
                &format!("sys/bus/pci/devices/0000:81:00.1/virtfn{index}"),
                &format!("../{address}"),
            );
        }
        world.file("sys/class/net/ens1f0/operstate", "down");
        world.file("sys/class/net/ens1f1/operstate", "up");
        world
    }

    /// A small virtual machine: one node, two CPUs, a virtio NIC that the host lives on, no IOMMU, no vfio.
    pub fn virtual_machine() -> Self {
        let world = Self::empty(1_000_000, None);
        world.cpus("0-1", &[(0, "0-1")]);
        world.nic("0000:00:03.0", "virtio-pci", None, -1, None);
        world.file(
            "sys/bus/pci/devices/0000:00:03.0/virtio2/net/eth0/operstate",
            "up",
        );
        world.file("sys/class/net/eth0/operstate", "up");
        world.file(
            "proc/net/route",
            "Iface\tDestination\tGateway\neth0\t00000000\t010200C0\n",
        );
        world
    }

    fn empty(most_pages: u64, refusing_driver: Option<&str>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().to_owned();
        let kernel = MadeUpKernel {
            root: root.clone(),
            most_pages,
            refusing_driver: refusing_driver.map(str::to_owned),
        };
        let world = Self {
            host: Host::with_kernel(&root, Box::new(kernel)),
            directory,
        };
        world.file("proc/sys/kernel/random/boot_id", "boot-1");
        world.file("proc/sys/kernel/osrelease", "6.1.0-18-amd64");
        world.file("proc/cmdline", "BOOT_IMAGE=/vmlinuz root=/dev/vda1 ro quiet");
        world.file(
            "proc/meminfo",
            "MemTotal:  8388608 kB\nMemFree:  4194304 kB\nHugepagesize:       2048 kB",
        );
        world.file("proc/self/mounts", "proc /proc proc rw 0 0\n");
        world.file(
            "proc/self/status",
            "Name:\tsh\nCapEff:\t0000000000000000\nCpus_allowed_list:\t0-7\n",
        );
        world.file(
            "proc/self/limits",
            "Limit                     Soft Limit           Hard Limit           Units\n\
             Max locked memory         8388608              8388608              bytes\n",
        );
        world.file(
            "proc/cpuinfo",
            "processor\t: 0\nflags\t\t: fpu sse4_2 popcnt avx2 pdpe1gb constant_tsc nonstop_tsc\n",
        );
        world.file("dev/net/tun", "");
        world.file("usr/sbin/nft", "");
        world
    }

    fn cpus(&self, online: &str, nodes: &[(u32, &str)]) {
        self.file("sys/devices/system/cpu/online", online);
        self.file("sys/devices/system/cpu/isolated", "");
        let mut pools = vec!["sys/kernel/mm/hugepages".to_owned()];
        for (node, cpus) in nodes {
            let directory = format!("sys/devices/system/node/node{node}");
            self.file(&format!("{directory}/cpulist"), cpus);
            self.file(
                &format!("{directory}/meminfo"),
                &format!("Node {node} MemTotal:  8388608 kB\nNode {node} MemFree:  4194304 kB"),
            );
            pools.push(format!("{directory}/hugepages"));
        }
        for pool in pools {
            for size in ["2048kB", "1048576kB"] {
                self.file(&format!("{pool}/hugepages-{size}/nr_hugepages"), "0");
                self.file(&format!("{pool}/hugepages-{size}/free_hugepages"), "0");
            }
        }
    }

    fn nic(&self, address: &str, driver: &str, interface: Option<&str>, node: i32, group: Option<&str>) {
        let directory = format!("sys/bus/pci/devices/{address}");
        self.file(&format!("{directory}/class"), "0x020000");
        self.file(&format!("{directory}/vendor"), "0x8086");
        self.file(&format!("{directory}/device"), "0x1572");
        self.file(&format!("{directory}/numa_node"), &node.to_string());
        self.file(&format!("{directory}/usual_driver"), driver);
        self.link(
            &format!("{directory}/driver"),
            &format!("../../../../bus/pci/drivers/{driver}"),
        );
        if let Some(interface) = interface {
            self.file(&format!("{directory}/net/{interface}/mtu"), "1500");
        }
        if let Some(group) = group {
            self.link(
                &format!("{directory}/iommu_group"),
                &format!("../../../kernel/iommu_groups/{group}"),
            );
            self.link(
                &format!("sys/kernel/iommu_groups/{group}/devices/{address}"),
                &format!("/{directory}"),
            );
        }
    }

    /// Makes a device that is no NIC part of an IOMMU group.
    pub fn group_mate(&self, address: &str, class: &str, driver: &str, group: &str) {
        let directory = format!("sys/bus/pci/devices/{address}");
        self.file(&format!("{directory}/class"), class);
        self.link(
            &format!("{directory}/driver"),
            &format!("../../../../bus/pci/drivers/{driver}"),
        );
        self.link(
            &format!("sys/kernel/iommu_groups/{group}/devices/{address}"),
            &format!("/{directory}"),
        );
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.directory.path().join(path.trim_start_matches('/'))
    }

    pub fn file(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub fn link(&self, path: &str, target: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
    }

    pub fn remove(&self, path: &str) {
        let path = self.path(path);
        if path.is_dir() {
            fs::remove_dir_all(path)
        } else {
            fs::remove_file(path)
        }
        .unwrap();
    }

    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }

    /// The driver that holds a device.
    pub fn driver(&self, address: &str) -> Option<String> {
        self.host
            .link_name(&format!("/sys/bus/pci/devices/{address}/driver"))
    }

    /// Every file and link with what is in it: what must be the same after an undo.
    pub fn everything(&self) -> Vec<(PathBuf, String)> {
        fn walk(directory: &Path, all: &mut Vec<(PathBuf, String)>) {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                let kind = fs::symlink_metadata(&path).unwrap().file_type();
                if kind.is_symlink() {
                    let target = fs::read_link(&path).unwrap();
                    all.push((path, target.display().to_string()));
                } else if kind.is_dir() {
                    walk(&path, all);
                } else {
                    let text = fs::read_to_string(&path).unwrap();
                    // An override of nothing and none are the same to the kernel.
                    if !(path.ends_with("driver_override") && text.trim().is_empty()) {
                        all.push((path, text));
                    }
                }
            }
        }
        let mut all = Vec::new();
        walk(self.directory.path(), &mut all);
        all.sort();
        all
    }

    /// Runs `hugepage-setup` with these words. The answer is what a shell would show, exit code included.
    pub fn run(&self, words: &str) -> String {
        use clap::Parser;
        let arguments = command::Arguments::try_parse_from(
            std::iter::once("hugepage-setup").chain(words.split_whitespace()),
        )
        .unwrap_or_else(|error| panic!("{words}: {error}"));
        let mut out = Vec::new();
        let code = command::run(&arguments, &self.host, &mut out, false);
        let mut text = format!("$ hugepage-setup {words}\n{}", String::from_utf8(out).unwrap());
        match code {
            Ok(0) => {}
            Ok(code) => text += &format!("[exit code {code}]\n"),
            Err(command::CommandError::Setup(error)) => {
                text += &format!("error: {error}\n");
                if let Some(help) = error.help() {
                    text += &format!("  help: {help}\n");
                }
                text += "[exit code 1]\n";
            }
            Err(error) => panic!("{words}: {error}"),
        }
        text
    }
}
