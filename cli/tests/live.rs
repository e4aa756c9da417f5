//! `weft top` and `weft doctor`.

#![allow(missing_docs)]

mod world;

use insta::assert_snapshot;
use weft_cli::ExitCode;
use world::{World, objects};

fn busy() -> World {
    let world = World::example();
    world.change(|answers| answers.stats.push_back(objects::example_stats(100_000)));
    world
}

#[test]
fn top_once_measures_rates_between_two_looks() {
    let (text, _, code) = busy().raw("top --once --interval 0.1 -o json", "", false);
    assert_eq!(code, ExitCode::Success);
    let frame: serde_json::Value = serde_json::from_str(&text).unwrap();
    let seconds = frame["seconds"].as_f64().unwrap();
    assert!(seconds >= 0.1, "{seconds}");
    let near = |value: &serde_json::Value, grown: f64| {
        let rate = value.as_f64().unwrap();
        assert!(
            (rate * seconds - grown).abs() < 1.0,
            "{rate} in {seconds} s is not {grown}"
        );
    };
    near(&frame["packets_per_second"], 100_000.0);
    near(&frame["sessions_per_second"], 100_000.0);
    near(&frame["ports"][0]["rx_packets_per_second"], 100_000.0);
    near(&frame["ports"][0]["rx_bytes_per_second"], 6_400_000.0);
    near(&frame["drops"][0]["packets_per_second"], 100_000.0);
    assert_eq!(frame["ports"][0]["name"], "vm-7");
    assert_eq!(frame["drops"][0]["reason"], "unknown-vlan");
    assert_eq!(frame["workers"][0]["busy"], 1.0);
    assert_eq!(frame["workers"][0]["packets_per_burst"], 32.0);
    assert_eq!(frame["workers"][0]["cycles_per_packet"], 150.0);
    assert_eq!(frame["workers"][1]["state"], "stuck in port vm-7");
}

#[test]
fn top_on_an_idle_host_shows_every_table() {
    assert_snapshot!(World::example().run("top --once --interval 0.05 --ports 2"), @r#"
    $ weft top --once --interval 0.05 --ports 2
    0 packets/s   100.0 k of 1.0 M sessions, 0 new/s

    WORKER  LCORE  PPS  PACKETS/BURST  CYCLES/PACKET  BUSY  STATE
         0      1    0            0.0              0   0 %  runs
         1      2    0            0.0              0   0 %  stuck in port vm-7

    PORT    RX-PPS  TX-PPS       RX       TX  DROPS/S
    uplink       0       0  0 bit/s  0 bit/s        0
    vm-7         0       0  0 bit/s  0 bit/s        0
    and 1 more

    DROPS         PPS  TOTAL  HELP
    unknown-vlan    0     12  add a VLAN sub-interface, or check the VLAN that the guest or switch sends
    no-route        0      3  add a route, or check the address that the guest uses
    malformed       0      1  the sender made a broken frame; capture at the port to see it
    "#);
}

#[test]
fn top_redraws_on_a_terminal_and_gives_the_cursor_back_when_weftd_goes_away() {
    let world = busy();
    world.change(|answers| answers.looks_before_failure = Some(3));
    let (output, errors, code) = world.raw("top --interval 0.05", "", true);
    assert_eq!(code, ExitCode::Unreachable);
    assert!(output.starts_with("\x1b[?25l"), "{output:?}");
    assert_eq!(output.matches("\x1b[H").count(), 2, "{output:?}");
    assert!(output.ends_with("\x1b[?25h"), "{output:?}");
    assert!(errors.contains("the counters are gone"), "{errors}");
}

/// The least that a host needs.
fn host(world: &World) {
    let files = [
        ("proc/meminfo", "Hugepagesize:       2048 kB\n"),
        (
            "proc/self/mounts",
            "nodev /dev/hugepages hugetlbfs rw,pagesize=2M 0 0\n",
        ),
        (
            "proc/self/limits",
            "Max locked memory         unlimited            unlimited            bytes\n",
        ),
        (
            "proc/cpuinfo",
            "flags : sse4_2 popcnt avx2 constant_tsc nonstop_tsc\n",
        ),
        ("proc/sys/kernel/osrelease", "6.1.0\n"),
        ("sys/devices/system/cpu/online", "0-3\n"),
        ("sys/devices/system/cpu/isolated", "1,2\n"),
        ("sys/devices/system/cpu/nohz_full", "1,2\n"),
        ("proc/cmdline", "rcu_nocbs=1,2\n"),
        ("sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "512\n"),
        ("sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "100\n"),
        ("dev/net/tun", ""),
        ("usr/sbin/nft", ""),
    ];
    for (path, text) in files {
        world.file(&format!("host/{path}"), text);
    }
}

#[test]
fn doctor_looks_at_the_host_and_at_the_running_weftd() {
    let world = World::example();
    host(&world);
    assert_snapshot!(world.run("doctor"), @r#"
    $ weft doctor
    ok       hugepages       200 MiB free of 1024 MiB, with weftd running
    ok       hugetlbfs       /dev/hugepages (2M)
    ok       memlock         unlimited
    ok       tun             /dev/net/tun
    ok       nft             /usr/sbin/nft
    warning  iommu           off or missing
                             help: needed for NICs and VFs on vfio-pci only: switch it on in the firmware and boot with intel_iommu=on iommu=pt (Intel) or iommu=pt (AMD)
    warning  vfio            kernel 6.1.0 has no vfio
                             help: no PCI NIC can be bound here; af_packet and af_xdp uplinks, taps and vhost-user work without
    ok       cpu-features    avx2, constant time stamp counter
    ok       cpus            0-3 online
    ok       cpu-isolation   CPUs 1,2 are isolated, without tick and RCU callbacks
    ok       hyper-threads   each worker has a core of its own
    ok       governor        this kernel shows no CPU frequencies (a virtual machine)
    ok       nics            no PCI network device
    ok       weftd           answers; 2 workers, 3 ports
    problem  weftd-workers   stuck: worker 1 in port vm-7
                             help: the driver named there does not return: unplug its port, or restart weftd
    ok       weftd-sessions  100000 of 1048576
    warning  weftd-losses    5 packets lost by devices before the workers saw them
                             help: more workers or queues, or larger rings: see `weft get counters`

    13 ok, 3 warnings, 1 problem
    [exit code 1]
    "#);
    world.change(|answers| {
        let stats = &mut answers.stats[0];
        stats.workers[1].stuck_in.clear();
        stats.ports[1].device_rx_missed = 0;
        if let Some(tables) = &mut stats.tables {
            tables.sessions = 1_000_000;
        }
    });
    let (json, _, code) = world.raw("doctor -o json", "", false);
    assert_eq!(code, ExitCode::Success);
    let findings: serde_json::Value = serde_json::from_str(&json).unwrap();
    let state = |check: &str| {
        let all = findings.as_array().unwrap();
        all.iter().find(|finding| finding["check"] == check).unwrap()["state"]
            .as_str()
            .unwrap()
    };
    assert_eq!(
        (
            state("weftd-sessions"),
            state("weftd-workers"),
            state("weftd-losses")
        ),
        ("warning", "ok", "ok")
    );
    assert_eq!(state("cpu-isolation"), "ok");
}

#[test]
fn doctor_without_weftd_says_how_to_start_it_and_counts_the_memory_it_will_want() {
    let world = World::without_weftd();
    host(&world);
    let (text, code) = world.run_with("doctor --memory 1024 --workers 3", "", false);
    assert_eq!(code, ExitCode::Success, "{text}");
    assert_snapshot!(text, @r#"
    $ weft doctor --memory 1024 --workers 3
    warning  hugepages      200 MiB free of 1024 MiB, weftd wants 1024 MiB
                            help: fine if weftd holds the rest; otherwise another program does: reserve more
    ok       hugetlbfs      /dev/hugepages (2M)
    ok       memlock        unlimited
    ok       tun            /dev/net/tun
    ok       nft            /usr/sbin/nft
    warning  iommu          off or missing
                            help: needed for NICs and VFs on vfio-pci only: switch it on in the firmware and boot with intel_iommu=on iommu=pt (Intel) or iommu=pt (AMD)
    warning  vfio           kernel 6.1.0 has no vfio
                            help: no PCI NIC can be bound here; af_packet and af_xdp uplinks, taps and vhost-user work without
    ok       cpu-features   avx2, constant time stamp counter
    ok       cpus           0-3 online
    warning  cpu-isolation  CPUs 3 are not in isolcpus; CPUs 3 are not in nohz_full; CPUs 3 are not in rcu_nocbs
                            help: hugepage-setup isolate --cpus 3 says how
    ok       hyper-threads  each worker has a core of its own
    ok       governor       this kernel shows no CPU frequencies (a virtual machine)
    ok       nics           no PCI network device
    warning  weftd          weftd is not reachable at unix://DIR/weft.sock: No such file or directory
                            help: start weftd (`systemctl start weftd`), or name its socket with --socket or WEFT_SOCKET

    9 ok, 5 warnings, 0 problems
    "#);
    assert_eq!(
        world.run_with("doctor --memory 2048", "", false).1,
        ExitCode::Failure
    );
}
