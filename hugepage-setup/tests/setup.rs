//! Preparing a made-up host and taking it back.

#![allow(missing_docs)]

mod world;

use insta::assert_snapshot;
use world::World;

const POOL: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";

#[test]
fn a_dry_run_says_what_would_be_done_and_changes_nothing() {
    let world = World::server();
    let before = world.everything();
    let mut text = world.run("reserve --mib 1024 --persistent --dry-run");
    text += &world.run("reserve --pages 4 --size 1G --node 1 --persistent --dry-run");
    text += &world.run("mount --size 1G --persistent --dry-run");
    text += &world.run("bind 81:00.0 --dry-run");
    assert_snapshot!(text, @r#"
    $ hugepage-setup reserve --mib 1024 --persistent --dry-run
    would write 512 to /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages (now 0)
    would write /etc/sysctl.d/80-weft-hugepages.conf: vm.nr_hugepages = 512
    $ hugepage-setup reserve --pages 4 --size 1G --node 1 --persistent --dry-run
    would write 4 to /sys/devices/system/node/node1/hugepages/hugepages-1048576kB/nr_hugepages (now 0)
    would write /etc/tmpfiles.d/weft-hugepages.conf: w /sys/devices/system/node/node1/hugepages/hugepages-1048576kB/nr_hugepages - - - - 4
    note: pages of 1G are found for certain only at boot; on the kernel command line: hugepagesz=1G hugepages=4
    $ hugepage-setup mount --size 1G --persistent --dry-run
    would make directory /dev/hugepages1G
    would mount hugetlbfs with pages of 1G at /dev/hugepages1G
    would write /etc/systemd/system/dev-hugepages1G.mount (14 lines)
    note: to mount it at each boot: systemctl enable dev-hugepages1G.mount
    $ hugepage-setup bind 81:00.0 --dry-run
    would bind 0000:81:00.0 to vfio-pci (now i40e)
    "#);
    assert_eq!(world.everything(), before);
}

#[test]
fn undo_restores_everything_that_was_there_before() {
    let world = World::server();
    world.file(
        "/etc/sysctl.d/80-weft-hugepages.conf",
        "# mine\nvm.nr_hugepages = 16\nvm.swappiness = 1\n",
    );
    let before = world.everything();
    let mut text = world.run("reserve --mib 1024 --persistent");
    text += &world.run("reserve --pages 100 --node 1 --persistent");
    text += &world.run("mount --size 1G --persistent");
    text += &world.run("bind 0000:81:00.0");
    assert_eq!(world.read(POOL), "512");
    assert_eq!(world.driver("0000:81:00.0").as_deref(), Some("vfio-pci"));
    assert_eq!(
        world.read("/etc/sysctl.d/80-weft-hugepages.conf"),
        "# mine\nvm.swappiness = 1\nvm.nr_hugepages = 512\n"
    );
    assert_ne!(world.everything(), before);
    text += &world.run("undo --dry-run");
    text += &world.run("undo");
    text += &world.run("undo");
    assert_snapshot!(text, @r#"
    $ hugepage-setup reserve --mib 1024 --persistent
    done: write 512 to /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages (now 0)
    done: change /etc/sysctl.d/80-weft-hugepages.conf: vm.swappiness = 1; vm.nr_hugepages = 512
    $ hugepage-setup reserve --pages 100 --node 1 --persistent
    done: write 100 to /sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages (now 0)
    done: write /etc/tmpfiles.d/weft-hugepages.conf: w /sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages - - - - 100
    $ hugepage-setup mount --size 1G --persistent
    done: make directory /dev/hugepages1G
    done: mount hugetlbfs with pages of 1G at /dev/hugepages1G
    done: write /etc/systemd/system/dev-hugepages1G.mount (14 lines)
    note: to mount it at each boot: systemctl enable dev-hugepages1G.mount
    $ hugepage-setup bind 0000:81:00.0
    done: bind 0000:81:00.0 to vfio-pci (now i40e)
    $ hugepage-setup undo --dry-run
    would give 0000:81:00.0 back to i40e
    would remove /etc/systemd/system/dev-hugepages1G.mount
    would unmount /dev/hugepages1G
    would remove directory /dev/hugepages1G
    would remove /etc/tmpfiles.d/weft-hugepages.conf
    would write 0 to /sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages
    would restore /etc/sysctl.d/80-weft-hugepages.conf
    would write 0 to /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages
    $ hugepage-setup undo
    done: give 0000:81:00.0 back to i40e
    done: remove /etc/systemd/system/dev-hugepages1G.mount
    done: unmount /dev/hugepages1G
    done: remove directory /dev/hugepages1G
    done: remove /etc/tmpfiles.d/weft-hugepages.conf
    done: write 0 to /sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages
    done: restore /etc/sysctl.d/80-weft-hugepages.conf
    done: write 0 to /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages
    $ hugepage-setup undo
    nothing to undo
    "#);
    let directories = ["/etc/tmpfiles.d", "/etc/systemd/system"];
    for directory in directories {
        assert!(
            std::fs::read_dir(world.path(directory)).unwrap().next().is_none(),
            "{directory} is not empty"
        );
    }
    assert_eq!(world.everything(), before);
}

#[test]
fn what_a_reboot_has_undone_is_not_undone_again() {
    let world = World::server();
    world.run("reserve --pages 64 --persistent");
    world.file("/proc/sys/kernel/random/boot_id", "boot-2");
    // The file that persists filled the pool again at boot, and somebody else has made it larger since.
    world.file(POOL, "100");
    assert_snapshot!(world.run("undo"), @r#"
    $ hugepage-setup undo
    done: remove /etc/sysctl.d/80-weft-hugepages.conf
    gone since the last boot: write 64 to /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages (now 0)
    "#);
    assert_eq!(world.read(POOL), "100");
    assert!(!world.path("/etc/sysctl.d/80-weft-hugepages.conf").exists());
}

#[test]
fn reserving_twice_changes_nothing_the_second_time() {
    let world = World::server();
    world.run("reserve --pages 64 --persistent");
    let once = world.everything();
    assert_snapshot!(world.run("reserve --pages 32"), @r#"
    $ hugepage-setup reserve --pages 32
    note: the pool holds 64 pages of 2M (128 MiB) already, nothing to reserve
    "#);
    assert_snapshot!(world.run("reserve --pages 64 --persistent"), @r#"
    $ hugepage-setup reserve --pages 64 --persistent
    note: the pool holds 64 pages of 2M (128 MiB) already, nothing to reserve
    "#);
    assert_eq!(world.everything(), once);
}

#[test]
fn a_pool_that_cannot_be_filled_is_given_back_whole() {
    let world = World::server_with(300, None);
    let before = world.everything();
    assert_snapshot!(world.run("reserve --pages 512 --persistent"), @r#"
    $ hugepage-setup reserve --pages 512 --persistent
    error: only 300 of 512 hugepages could be had; the pool is back at 0
      help: memory is in use or fragmented: ask for 300 at most, stop what uses memory, or reserve at boot (hugepages=N on the kernel command line)
    [exit code 1]
    "#);
    assert_eq!(world.everything(), before);
}

#[test]
fn wrong_wishes_are_refused_with_what_exists() {
    let world = World::server();
    let before = world.everything();
    let mut text = world.run("reserve --pages 1 --size 16M");
    text += &world.run("reserve --pages 1 --node 7");
    text += &world.run("bind 0000:99:00.0");
    text += &world.run("bind 0000:81:00.0 --driver vfoi-pci");
    assert_snapshot!(text, @r#"
    $ hugepage-setup reserve --pages 1 --size 16M
    error: hugepages of 16M are not offered by this kernel; it has 2M, 1G
      help: 1G pages need the CPU flag pdpe1gb; choose a size that the kernel has
    [exit code 1]
    $ hugepage-setup reserve --pages 1 --node 7
    error: NUMA node 7 does not exist; there is 0, 1
      help: see the nodes with `hugepage-setup show`, or leave --node out
    [exit code 1]
    $ hugepage-setup bind 0000:99:00.0
    error: PCI device 0000:99:00.0 does not exist
      help: see the devices with `hugepage-setup show`
    [exit code 1]
    $ hugepage-setup bind 0000:81:00.0 --driver vfoi-pci
    error: driver vfoi-pci is neither loaded nor a module of kernel 6.1.0-18-amd64
      help: check the name with `ls /sys/bus/pci/drivers`
    [exit code 1]
    "#);
    assert_eq!(world.everything(), before);
}

#[test]
fn a_nic_that_the_host_lives_on_is_not_taken_from_it() {
    let world = World::virtual_machine();
    assert_snapshot!(world.run("bind 0000:00:03.0"), @r#"
    $ hugepage-setup bind 0000:00:03.0
    error: 0000:00:03.0 is interface eth0, which is in use: the default route goes over it
      help: move the addresses and routes of eth0 elsewhere and set it down, or use --force if you have another way to this host
    [exit code 1]
    "#);
    // Forced, it still needs a driver to go to.
    assert_snapshot!(world.run("bind 0000:00:03.0 --force"), @r#"
    $ hugepage-setup bind 0000:00:03.0 --force
    error: driver vfio-pci is neither loaded nor a module of kernel 6.1.0-18-amd64
      help: this kernel was built without vfio: use a distribution kernel, or an af_packet or af_xdp uplink, which leave the NIC with its kernel driver
    [exit code 1]
    "#);
    assert_eq!(world.driver("0000:00:03.0").as_deref(), Some("virtio-pci"));
    let server = World::server();
    assert_snapshot!(server.run("bind 0000:81:00.1"), @r#"
    $ hugepage-setup bind 0000:81:00.1
    error: 0000:81:00.1 is interface ens1f1, which is in use: it is up
      help: move the addresses and routes of ens1f1 elsewhere and set it down, or use --force if you have another way to this host
    [exit code 1]
    "#);
    assert_eq!(server.driver("0000:81:00.1").as_deref(), Some("i40e"));
}

#[test]
fn an_iommu_group_shared_with_a_kernel_driver_is_refused_but_bridges_do_not_count() {
    let world = World::server();
    world.group_mate("0000:80:01.0", "0x060400", "pcieport", "40");
    assert!(
        world
            .run("bind 0000:81:00.0 --dry-run")
            .contains("would bind 0000:81:00.0 to vfio-pci")
    );
    world.group_mate("0000:81:00.4", "0x010802", "nvme", "40");
    assert_snapshot!(world.run("bind 0000:81:00.0"), @r#"
    $ hugepage-setup bind 0000:81:00.0
    error: 0000:81:00.0 shares IOMMU group 40 with 0000:81:00.4 (nvme), which other drivers hold
      help: bind the whole group, or move the card to a slot with a group of its own
    [exit code 1]
    "#);
    assert_eq!(world.driver("0000:81:00.0").as_deref(), Some("i40e"));
}

#[test]
fn without_an_iommu_binding_is_refused_unless_the_unsafe_mode_is_on() {
    let world = World::server();
    world.remove("/sys/bus/pci/devices/0000:81:00.0/iommu_group");
    assert_snapshot!(world.run("bind 0000:81:00.0"), @r#"
    $ hugepage-setup bind 0000:81:00.0
    error: 0000:81:00.0 is in no IOMMU group: the IOMMU is off or missing
      help: switch the IOMMU on in the firmware and boot with intel_iommu=on iommu=pt (Intel) or iommu=pt (AMD)
    [exit code 1]
    "#);
    world.file("/sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "Y\n");
    assert_snapshot!(world.run("bind 0000:81:00.0"), @r#"
    $ hugepage-setup bind 0000:81:00.0
    done: bind 0000:81:00.0 to vfio-pci (now i40e)
    note: 0000:81:00.0 has no IOMMU behind it: whatever drives it can write anywhere in memory
    "#);
    assert_eq!(world.driver("0000:81:00.0").as_deref(), Some("vfio-pci"));
}

#[test]
fn a_driver_that_is_a_module_is_loaded_first() {
    let world = World::server();
    world.remove("/sys/bus/pci/drivers/vfio-pci");
    world.file(
        "/lib/modules/6.1.0-18-amd64/modules.dep",
        "kernel/drivers/vfio/pci/vfio-pci.ko: kernel/drivers/vfio/vfio.ko\n",
    );
    assert_snapshot!(world.run("bind 0000:81:00.0"), @r#"
    $ hugepage-setup bind 0000:81:00.0
    done: load kernel module vfio-pci
    done: bind 0000:81:00.0 to vfio-pci (now i40e)
    "#);
    assert_eq!(world.driver("0000:81:00.0").as_deref(), Some("vfio-pci"));
}

#[test]
fn a_device_that_its_new_driver_refuses_goes_back_to_the_old_one() {
    let world = World::server_with(0, Some("vfio-pci"));
    let before = world.everything();
    assert_snapshot!(world.run("bind 0000:81:00.0"), @r#"
    $ hugepage-setup bind 0000:81:00.0
    error: 0000:81:00.0 was offered to vfio-pci, but is held by no driver
      help: look at the kernel's log: `dmesg | tail`
    [exit code 1]
    "#);
    assert_eq!(world.driver("0000:81:00.0").as_deref(), Some("i40e"));
    assert_eq!(world.everything(), before);
}

#[test]
fn unbind_gives_a_device_back_to_the_driver_that_the_kernel_chooses() {
    let world = World::server();
    world.run("bind 0000:81:00.0");
    let mut text = world.run("unbind 0000:81:00.0");
    assert_eq!(world.driver("0000:81:00.0").as_deref(), Some("i40e"));
    text += &world.run("unbind 0000:81:00.0");
    assert_snapshot!(text, @r#"
    $ hugepage-setup unbind 0000:81:00.0
    done: give 0000:81:00.0 back to its kernel driver (now vfio-pci)
    $ hugepage-setup unbind 0000:81:00.0
    note: 0000:81:00.0 is with its kernel driver i40e already
    "#);
}

#[test]
fn a_mount_that_exists_is_used_and_another_file_system_is_not_covered() {
    let world = World::server();
    let mut text = world.run("mount");
    text += &world.run("mount");
    world.file("/proc/self/mounts", "tmpfs /mnt/huge tmpfs rw 0 0\n");
    text += &world.run("mount --at /mnt/huge");
    assert_snapshot!(text, @r#"
    $ hugepage-setup mount
    done: make directory /dev/hugepages
    done: mount hugetlbfs with pages of 2M at /dev/hugepages
    $ hugepage-setup mount
    note: hugetlbfs with pages of 2M is mounted at /dev/hugepages already
    $ hugepage-setup mount --at /mnt/huge
    error: /mnt/huge is a mount point already, of another kind
      help: choose another directory with --at
    [exit code 1]
    "#);
}

#[test]
fn a_journal_that_cannot_be_read_stops_before_anything_is_done() {
    let world = World::server();
    world.file("/var/lib/weft/host-setup.json", "{ not json");
    let before = world.everything();
    let mut text = world.run("reserve --pages 4");
    text += &world.run("undo");
    assert_snapshot!(text, @r#"
    $ hugepage-setup reserve --pages 4
    error: /var/lib/weft/host-setup.json: not a journal of hugepage-setup: key must be a string at line 1 column 3
      help: move /var/lib/weft/host-setup.json away; what it recorded must then be undone by hand
    [exit code 1]
    $ hugepage-setup undo
    error: /var/lib/weft/host-setup.json: not a journal of hugepage-setup: key must be a string at line 1 column 3
      help: move /var/lib/weft/host-setup.json away; what it recorded must then be undone by hand
    [exit code 1]
    "#);
    assert_eq!(world.everything(), before);
}
