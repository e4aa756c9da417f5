//! What operators read: `show`, `doctor`, `isolate`.

#![allow(missing_docs)]

mod world;

use hugepage_setup::{Requirements, State, doctor};
use insta::assert_snapshot;
use world::World;

#[test]
fn show_lists_nodes_pools_mounts_and_nics() {
    let world = World::server();
    world.run("reserve --pages 256 --node 1");
    world.run("mount");
    assert_snapshot!(world.run("show"), @r#"
    $ hugepage-setup show
    NODE  CPUS  ISOLATED  MEMORY    FREE
    0     0-3   -         8192 MiB  4096 MiB
    1     4-7   -         8192 MiB  4096 MiB

    NODE  PAGES  TOTAL  FREE  MEMORY
    0     2M     0      0     0 MiB
    0     1G     0      0     0 MiB
    1     2M     256    256   512 MiB
    1     1G     0      0     0 MiB

    HUGETLBFS       PAGES
    /dev/hugepages  2M

    PCI           ID         DRIVER    INTERFACE  NODE  IOMMU-GROUP  VFS
    0000:81:00.0  8086:1572  i40e      ens1f0     1     40           -
    0000:81:00.1  8086:1572  i40e      ens1f1     1     41           2 of 64
    0000:81:0a.0  8086:1572  vfio-pci  -          1     50           of 0000:81:00.1
    0000:81:0a.1  8086:1572  iavf      -          1     51           of 0000:81:00.1
    "#);
    assert_snapshot!(World::virtual_machine().run("show"), @r#"
    $ hugepage-setup show
    NODE  CPUS  ISOLATED  MEMORY    FREE
    0     0,1   -         8192 MiB  4096 MiB

    NODE  PAGES  TOTAL  FREE  MEMORY
    0     2M     0      0     0 MiB
    0     1G     0      0     0 MiB

    hugetlbfs is not mounted

    PCI           ID         DRIVER      INTERFACE  NODE  IOMMU-GROUP  VFS
    0000:00:03.0  8086:1572  virtio-pci  eth0       -     -            -
    "#);
}

#[test]
fn show_as_json_has_the_same_facts() {
    assert_snapshot!(World::virtual_machine().run("show -o json"), @r#"
    $ hugepage-setup show -o json
    {
      "nodes": [
        {
          "node": 0,
          "cpus": "0,1",
          "isolated": "",
          "memory_mib": 8192,
          "free_mib": 4096
        }
      ],
      "pools": [
        {
          "node": 0,
          "size": "2M",
          "total": 0,
          "free": 0
        },
        {
          "node": 0,
          "size": "1G",
          "total": 0,
          "free": 0
        }
      ],
      "mounts": [],
      "nics": [
        {
          "address": "0000:00:03.0",
          "id": "8086:1572",
          "driver": "virtio-pci",
          "interfaces": [
            "eth0"
          ],
          "node": null,
          "iommu_group": null,
          "physical_function": null,
          "virtual_functions": [],
          "most_virtual_functions": 0
        }
      ]
    }
    "#);
}

#[test]
fn doctor_of_a_bare_virtual_machine_names_what_lacks() {
    let world = World::virtual_machine();
    world.remove("/usr/sbin/nft");
    world.remove("/dev/net/tun");
    assert_snapshot!(world.run("doctor"), @r#"
    $ hugepage-setup doctor
    problem  hugepages         none reserved
                               help: hugepage-setup reserve --mib 512 (or no_huge = true in weftd.toml, which is slower)
    warning  hugetlbfs         not mounted
                               help: hugepage-setup mount (weftd runs without; QEMU guests on hugepages need it)
    warning  memlock           8 MiB for this shell
                               help: LimitMEMLOCK=infinity in weftd's unit, or `ulimit -l unlimited`: vfio counts a NIC's memory against it
    problem  tun               /dev/net/tun does not exist
                               help: modprobe tun; in a container pass the device in (--device /dev/net/tun)
    warning  nft               the command nft is not installed
                               help: apt install nftables: an af_packet uplink needs it to keep the kernel from answering too
    warning  iommu             off or missing
                               help: needed for NICs and VFs on vfio-pci only: switch it on in the firmware and boot with intel_iommu=on iommu=pt (Intel) or iommu=pt (AMD)
    warning  vfio              kernel 6.1.0-18-amd64 has no vfio
                               help: no PCI NIC can be bound here; af_packet and af_xdp uplinks, taps and vhost-user work without
    ok       cpu-features      avx2, constant time stamp counter
    ok       cpus              0,1 online
    warning  cpu-isolation     no CPU is isolated
                               help: hugepage-setup isolate says how; without, other tasks interrupt the workers
    ok       governor          this kernel shows no CPU frequencies (a virtual machine)
    ok       nic-0000:00:03.0  virtio-pci, interface eth0

    4 ok, 6 warnings, 2 problems
    [exit code 1]
    "#);
}

#[test]
fn doctor_of_a_server_looks_at_nodes_isolation_and_virtual_functions() {
    let world = World::server();
    world.run("reserve --mib 2048 --node 0");
    world.run("bind 0000:81:00.0");
    assert_snapshot!(world.run("doctor --workers 0-3"), @r#"
    $ hugepage-setup doctor --workers 0-3
    ok       hugepages           2048 MiB free of 2048 MiB
    ok       hugepages-node0     2048 MiB free of 2048 MiB
    warning  hugepages-node1     0 MiB free of 0 MiB, but it has 0000:81:00.0, 0000:81:00.1, 0000:81:0a.0, 0000:81:0a.1
                                 help: hugepage-setup reserve --mib 512 --node 1
    warning  hugetlbfs           not mounted
                                 help: hugepage-setup mount (weftd runs without; QEMU guests on hugepages need it)
    warning  memlock             8 MiB for this shell
                                 help: LimitMEMLOCK=infinity in weftd's unit, or `ulimit -l unlimited`: vfio counts a NIC's memory against it
    ok       tun                 /dev/net/tun
    ok       nft                 /usr/sbin/nft
    ok       iommu               4 groups
    ok       vfio                vfio-pci is loaded
    ok       cpu-features        avx2, constant time stamp counter
    ok       cpus                0-7 online
    warning  cpu-isolation       no CPU is isolated
                                 help: hugepage-setup isolate --cpus 0-3 says how; without, other tasks interrupt the workers
    warning  hyper-threads       workers share cores: 0,1 and 2,3
                                 help: take one thread of each core (see `lscpu -e`)
    warning  governor            schedutil on CPUs 0-3
                                 help: cpupower frequency-set -g performance (the CPU slows down while a worker naps)
    warning  numa-balancing      on
                                 help: sysctl kernel.numa_balancing=0: it stalls workers to move their memory
    warning  nic-0000:81:00.0    vfio-pci, node 1; workers 0-3 are on another node
                                 help: use workers among CPUs 4-7
    ok       nic-0000:81:00.1    i40e, interface ens1f1, node 1
    ok       sriov-0000:81:00.1  2 of 64 virtual functions, 1 bound to userspace
    warning  nic-0000:81:0a.0    vfio-pci, virtual function of 0000:81:00.1, node 1; workers 0-3 are on another node
                                 help: use workers among CPUs 4-7
    ok       nic-0000:81:0a.1    iavf, virtual function of 0000:81:00.1, node 1

    11 ok, 9 warnings, 0 problems
    "#);
}

#[test]
fn doctor_of_a_prepared_server_finds_nothing_wrong() {
    let world = World::server();
    world.run("reserve --mib 2048 --node 0");
    world.run("reserve --mib 2048 --node 1");
    world.run("mount");
    world.run("bind 0000:81:00.0");
    world.file(
        "/proc/cmdline",
        "isolcpus=managed_irq,domain,4,6 nohz_full=4,6 rcu_nocbs=4,6",
    );
    world.file("/sys/devices/system/cpu/isolated", "4,6");
    world.file("/sys/devices/system/cpu/nohz_full", "4,6");
    world.file("/proc/sys/kernel/numa_balancing", "0");
    world.file(
        "/proc/self/limits",
        "Max locked memory         unlimited            unlimited            bytes\n",
    );
    for cpu in [4, 6] {
        world.file(
            &format!("sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor"),
            "performance",
        );
    }
    let wanted = Requirements {
        workers: "4,6".parse().unwrap(),
        ..Requirements::default()
    };
    let not_ok: Vec<_> = doctor(&world.host, &wanted)
        .into_iter()
        .filter(|finding| finding.state != State::Ok)
        .collect();
    assert_eq!(not_ok, []);
    assert_snapshot!(world.run("doctor --workers 4,6"), @r#"
    $ hugepage-setup doctor --workers 4,6
    ok       hugepages           4096 MiB free of 4096 MiB
    ok       hugepages-node0     2048 MiB free of 2048 MiB
    ok       hugepages-node1     2048 MiB free of 2048 MiB
    ok       hugetlbfs           /dev/hugepages (2M)
    ok       memlock             unlimited
    ok       tun                 /dev/net/tun
    ok       nft                 /usr/sbin/nft
    ok       iommu               4 groups
    ok       vfio                vfio-pci is loaded
    ok       cpu-features        avx2, constant time stamp counter
    ok       cpus                0-7 online
    ok       cpu-isolation       CPUs 4,6 are isolated, without tick and RCU callbacks
    ok       hyper-threads       each worker has a core of its own
    ok       governor            performance
    ok       numa-balancing      off
    ok       nic-0000:81:00.0    vfio-pci, node 1
    ok       nic-0000:81:00.1    i40e, interface ens1f1, node 1
    ok       sriov-0000:81:00.1  2 of 64 virtual functions, 1 bound to userspace
    ok       nic-0000:81:0a.0    vfio-pci, virtual function of 0000:81:00.1, node 1
    ok       nic-0000:81:0a.1    iavf, virtual function of 0000:81:00.1, node 1

    20 ok, 0 warnings, 0 problems
    "#);
}

/// The state of one check after something about a prepared world was changed.
fn state_of(check: &str, workers: &str, change: impl FnOnce(&World)) -> State {
    let world = World::server();
    change(&world);
    let wanted = Requirements {
        workers: workers.parse().unwrap(),
        ..Requirements::default()
    };
    let findings = doctor(&world.host, &wanted);
    findings
        .iter()
        .find(|finding| finding.check == check)
        .unwrap_or_else(|| panic!("no check {check}"))
        .state
}

#[test]
fn each_check_notices_what_it_is_there_for() {
    use State::{Ok, Problem, Warning};
    let pool = |world: &World, total: &str, free: &str| {
        let directory = "/sys/devices/system/node/node0/hugepages/hugepages-2048kB";
        world.file(&format!("{directory}/nr_hugepages"), total);
        world.file(&format!("{directory}/free_hugepages"), free);
    };
    assert_eq!(state_of("hugepages", "", |_| {}), Problem);
    assert_eq!(
        state_of("hugepages", "", |world| pool(world, "100", "100")),
        Problem
    );
    assert_eq!(
        state_of("hugepages", "", |world| pool(world, "256", "255")),
        Warning
    );
    assert_eq!(state_of("hugepages", "", |world| pool(world, "256", "256")), Ok);
    let flags = |world: &World, flags: &str| world.file("/proc/cpuinfo", &format!("flags : {flags}\n"));
    assert_eq!(
        state_of("cpu-features", "", |world| flags(world, "sse2")),
        Problem
    );
    assert_eq!(
        state_of("cpu-features", "", |world| flags(world, "sse4_2 popcnt")),
        Warning
    );
    assert_eq!(
        state_of("cpu-features", "", |world| flags(world, "sse4_2 popcnt avx2")),
        Warning
    );
    assert_eq!(state_of("cpu-features", "", |_| {}), Ok);
    assert_eq!(state_of("cpus", "8", |_| {}), Problem);
    let confined = |world: &World| world.file("/proc/self/status", "Cpus_allowed_list:\t0-1\n");
    assert_eq!(state_of("cpus", "2", confined), Problem);
    assert_eq!(state_of("cpus", "1", confined), Ok);
    assert_eq!(state_of("hyper-threads", "2,3", |_| {}), Warning);
    assert_eq!(state_of("hyper-threads", "2,4", |_| {}), Ok);
    assert_eq!(
        state_of("iommu", "", |world| world.remove("/sys/kernel/iommu_groups")),
        Warning
    );
    assert_eq!(state_of("sriov-0000:81:00.1", "", |_| {}), Ok);
    let without = |world: &World| world.remove("/sys/kernel/iommu_groups");
    assert_eq!(state_of("sriov-0000:81:00.1", "", without), Problem);
    assert_eq!(state_of("nic-0000:81:0a.0", "0", |_| {}), Warning);
    assert_eq!(state_of("nic-0000:81:0a.0", "4", |_| {}), Ok);
    let mate = |world: &World| world.group_mate("0000:81:00.4", "0x010802", "nvme", "50");
    assert_eq!(state_of("nic-0000:81:0a.0", "4", mate), Problem);
    let module = |world: &World| {
        world.remove("/sys/bus/pci/drivers/vfio-pci");
        world.file(
            "/lib/modules/6.1.0-18-amd64/modules.builtin",
            "kernel/drivers/vfio/pci/vfio_pci.ko\n",
        );
    };
    assert_eq!(state_of("vfio", "", module), Warning);
    assert_eq!(state_of("vfio", "", |_| {}), Ok);
    assert_eq!(state_of("tun", "", |world| world.remove("/dev/net/tun")), Problem);
    assert_eq!(
        state_of("nft", "", |world| world.remove("/usr/sbin/nft")),
        Warning
    );
}

#[test]
fn doctor_as_json_can_be_read_by_scripts() {
    let text = World::virtual_machine().run("doctor -o json");
    assert!(text.ends_with("[exit code 1]\n"), "{text}");
    let json = text
        .lines()
        .filter(|line| !line.starts_with('$') && !line.starts_with("[exit"))
        .collect::<String>();
    let findings: serde_json::Value = serde_json::from_str(&json).unwrap();
    let hugepages = &findings.as_array().unwrap()[0];
    assert_eq!(hugepages["check"], "hugepages");
    assert_eq!(hugepages["state"], "problem");
    assert_eq!(hugepages["found"], "none reserved");
    assert!(
        hugepages["advice"]
            .as_str()
            .unwrap()
            .starts_with("hugepage-setup reserve --mib")
    );
}

#[test]
fn isolate_leaves_a_core_of_each_node_to_the_host() {
    let world = World::server();
    assert_snapshot!(world.run("isolate"), @r#"
    $ hugepage-setup isolate
    now: isolated none, nohz_full none, rcu_nocbs none

    add to the kernel command line (GRUB_CMDLINE_LINUX in /etc/default/grub, then update-grub and reboot):
      isolcpus=managed_irq,domain,2,3,6,7 nohz_full=2,3,6,7 rcu_nocbs=2,3,6,7 irqaffinity=0,1,4,5

    without a reboot, cgroups keep other tasks off (the timer tick stays), if weftd has a slice of its own (Slice=weft.slice in its unit):
      systemctl set-property --runtime system.slice AllowedCPUs=0,1,4,5
      systemctl set-property --runtime user.slice AllowedCPUs=0,1,4,5

    then in weftd.toml: workers = [2, 3, 6, 7]
    "#);
    assert_snapshot!(world.run("isolate --cpus 0-9"), @r#"
    $ hugepage-setup isolate --cpus 0-9
    CPUs 8,9 do not exist here; online are 0-7
    no CPU would be left for the host itself: keep at least one
    "#);
    world.file("/sys/devices/system/cpu/isolated", "4-6");
    world.file("/sys/devices/system/cpu/nohz_full", "4-6");
    assert_snapshot!(world.run("isolate --cpus 4,5"), @r#"
    $ hugepage-setup isolate --cpus 4,5
    CPUs 4,5 are isolated and without the timer tick already
    "#);
    let small = World::virtual_machine();
    small.file(
        "/sys/devices/system/cpu/cpu0/topology/thread_siblings_list",
        "0-1",
    );
    assert_snapshot!(small.run("isolate"), @r#"
    $ hugepage-setup isolate
    this machine has too few CPUs to keep one for a worker alone: weft shares them, and its workers sleep when idle
    "#);
}
