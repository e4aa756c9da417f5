//! A PCI network card, bound to vfio-pci behind an IOMMU: in a virtual machine that QEMU gives both, with weft inside.

use weft_tests::{
    frame::{Outer, Packet, Tunnel, address, arp_reply, arp_request, difference},
    guest::Guest,
    host::run_directory,
    lone::{GATEWAY, ROUTER, UPLINK},
    namespace::Namespace,
    wire::Neighbour,
};

super::scenarios! {
    a_card_bound_by_hugepage_setup_is_an_uplink: ["Operations: a PCI card by vfio"],
}

const CONFIGURATION: &str = r#"workers = [0]
memory_mib = 256
mbufs = 4096
sessions = 4096
state_dir = "/run/state"
socket = "/run/weftd.sock"
pci_devices = ["DEVICE"]
"#;

const OBJECTS: &str = r#"kind: Vrf
name: red
spec: {}
---
kind: Port
name: uplink
spec: {ethdev: {device: "DEVICE"}, vrf: underlay, addresses: ["198.18.0.1/24"]}
---
kind: TunnelEndpoint
name: vxlan
spec: {remote: 198.18.0.2, encapsulation: ENCAPSULATION_VXLAN}
---
kind: TunnelEndpoint
name: mpls
spec: {remote: 198.18.0.3, encapsulation: ENCAPSULATION_MPLS_OVER_UDP}
---
kind: Vni
name: red
spec: {vni: 100, target: {vrf: red}}
---
kind: Route
name: red
spec: {vrf: red, prefix: 10.0.0.0/24, next_hop: {tunnel: {endpoint: mpls, labels: [1000]}}}
"#;

fn a_card_bound_by_hugepage_setup_is_an_uplink() {
    let cable = Namespace::silent("cable");
    cable.run("ip tuntap add t0 mode tap && ip link set t0 up");
    let mut guest = Guest::start_with_nic(&run_directory(), "nic", "02:00:00:00:aa:01", &cable, "t0");
    guest.wait_until_ready();
    let mut router = cable.wire("t0");
    let addresses = ["198.18.0.2", "198.18.0.3"].map(address).to_vec();
    router.play(Neighbour {
        mac: ROUTER,
        addresses,
        vlan: None,
    });

    // The card is the one Ethernet device on the bus.
    let listing = guest.must("hugepage-setup show");
    let device = listing
        .lines()
        .find(|line| line.contains("8086:10d3"))
        .and_then(|line| line.split_whitespace().next())
        .unwrap_or_else(|| panic!("no card: {listing}"))
        .to_owned();
    guest.must("hugepage-setup mount");
    guest.must(&format!("hugepage-setup bind {device}"));
    let listing = guest.must("hugepage-setup show");
    assert!(
        listing
            .lines()
            .any(|line| line.contains(&device) && line.contains("vfio-pci")),
        "{listing}"
    );

    write(
        &mut guest,
        "/run/weftd.toml",
        &CONFIGURATION.replace("DEVICE", &device),
    );
    write(
        &mut guest,
        "/run/objects.yaml",
        &OBJECTS.replace("DEVICE", &device),
    );
    guest.must("weftd --config /run/weftd.toml >/run/weftd.log 2>&1 & true");
    let weft = "weft --socket /run/weftd.sock --timeout 60";
    guest.must(&format!(
        "for i in $(seq 60); do {weft} get vrfs >/dev/null 2>&1 && break; sleep 1; done; {weft} get vrfs"
    ));
    let (status, text) = guest.run(&format!("{weft} apply -f /run/objects.yaml"));
    let (_, log) = guest.run("tail -n 20 /run/weftd.log");
    assert_eq!(status, 0, "{text}\n{log}");
    assert!(
        guest
            .must(&format!("{weft} describe port uplink"))
            .contains(&device)
    );

    // ARP and ping at the card's address.
    weft_tests::within(std::time::Duration::from_secs(20), || {
        router.send(&arp_request(ROUTER, "198.18.0.2", "198.18.0.1"));
        let received = router.next(std::time::Duration::from_millis(500))?;
        (received.bytes[..42] == arp_reply(UPLINK, "198.18.0.1", ROUTER, "198.18.0.2")).then_some(())
    })
    .expect("the card answers ARP");
    router.drain(std::time::Duration::from_millis(200));
    // Out of one tunnel and into the other, to the last byte.
    let vxlan = Tunnel::Vxlan {
        vni: 100,
        destination: GATEWAY,
        source: GATEWAY,
    };
    for length in [64, 600, 1300] {
        let packet = Packet::udp("10.9.0.1:1", "10.0.0.7:2", &vec![0x42; length]);
        let frame = Outer::new("198.18.0.2", "198.18.0.1")
            .carry(&vxlan, &packet)
            .frame(UPLINK, ROUTER);
        let sent = weft_tests::eventually("the packet comes back in its other tunnel", || {
            router.send(&frame);
            router.next(std::time::Duration::from_secs(1))
        });
        let mut outer = Outer::new("198.18.0.1", "198.18.0.3");
        outer.entropy = u16::from_be_bytes([sent.bytes[34], sent.bytes[35]]);
        assert!(outer.entropy >= 49152, "a legal source port");
        let expected = outer
            .carry(&Tunnel::MplsOverUdp(vec![1000]), &packet.hop())
            .frame(ROUTER, UPLINK);
        assert!(sent.bytes == expected, "{}", difference(&expected, &sent.bytes));
    }

    // weftd goes, and the card goes back.
    guest.must("kill $(pidof weftd); while pidof weftd; do sleep 0.2; done; true");
    guest.must("hugepage-setup undo");
    let listing = guest.must("hugepage-setup show");
    assert!(!listing.contains("vfio-pci"), "{listing}");
}

/// Writes a file through the console, a line at a time.
fn write(guest: &mut Guest, path: &str, text: &str) {
    guest.must(&format!("rm -f {path}"));
    for line in text.lines() {
        guest.must(&format!("echo '{line}' >>{path}"));
    }
}
