//! Packets through a whole data plane, from one replay file to another. One EAL a process, so one test.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::Path,
    time::{Duration, Instant},
};

use weft_dataplane::{
    Config, Dataplane, Timeouts,
    change::{Change, DeviceSpec, Encapsulation, NextHopSpec, PortSpec, TunnelTarget, VrfSpec},
    drops::Reason,
    view::{Balance, FlowFilter},
};
use weft_packet::{Mac, VlanId, Vni};
use weft_table::{NextHopId, PortId, VrfId};

const GUEST: [u8; 6] = [2, 0, 0, 0, 0, 1];
const RED: VrfId = VrfId(1);

fn config() -> Config {
    Config {
        worker_cpus: vec![0],
        no_huge: true,
        memory_mib: 256,
        mbufs: 16_384,
        mbuf_room: weft_dataplane::dpdk::mempool::DATA_ROOM,
        file_prefix: format!("weft-pipeline-{}", std::process::id()),
        pci_devices: Vec::new(),
        sessions: 10_000,
        idle_sleep: Duration::from_micros(200),
        timeouts: Timeouts::default(),
    }
}

fn port(name: &str, device: DeviceSpec, vrf: VrfId) -> PortSpec {
    PortSpec {
        mac: Some(Mac(GUEST)),
        ..PortSpec::new(name, device, vrf)
    }
}

fn checksum(header: &[u8]) -> u16 {
    let words = header
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

/// An IPv4 UDP packet with 18 bytes of payload.
fn udp(source: [u8; 4], destination: [u8; 4], ports: (u16, u16), ttl: u8) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 46, 0, 0, 0, 0, ttl, 17, 0, 0];
    packet.extend(source);
    packet.extend(destination);
    let sum = checksum(&packet).to_be_bytes();
    packet[10..12].copy_from_slice(&sum);
    packet.extend(ports.0.to_be_bytes());
    packet.extend(ports.1.to_be_bytes());
    packet.extend([0, 26, 0, 0]);
    packet.extend([0x55; 18]);
    packet
}

fn frame(destination: [u8; 6], tag: Option<u16>, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = destination.to_vec();
    frame.extend(GUEST);
    if let Some(tag) = tag {
        frame.extend([0x81, 0]);
        frame.extend(tag.to_be_bytes());
    }
    frame.extend(ethertype.to_be_bytes());
    frame.extend(payload);
    frame
}

fn write_pcap(path: &Path, frames: &[Vec<u8>]) {
    let mut bytes = Vec::new();
    for word in [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 65_535, 1] {
        bytes.extend(word.to_le_bytes());
    }
    for frame in frames {
        for word in [0, 0, frame.len() as u32, frame.len() as u32] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(frame);
    }
    std::fs::write(path, bytes).unwrap();
}

fn read_pcap(path: &Path) -> Vec<Vec<u8>> {
    let bytes = std::fs::read(path).unwrap();
    let (mut frames, mut at) = (Vec::new(), 24);
    while at + 16 <= bytes.len() {
        let length = u32::from_le_bytes(bytes[at + 8..at + 12].try_into().unwrap()) as usize;
        frames.push(bytes[at + 16..at + 16 + length].to_vec());
        at += 16 + length;
    }
    frames
}

fn balanced(balance: &Balance) -> bool {
    balance.received + balance.created
        == balance.sent + balance.delivered + balance.merged + balance.dropped + balance.held
}

fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < until, "{what} did not come about in 10 s");
        std::thread::yield_now();
    }
}

#[test]
fn a_tagged_packet_leaves_in_the_tunnel_of_its_tenant_and_the_books_balance() {
    let folder = std::env::temp_dir().join(format!("weft-pipeline-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (input, output, underlay) = (
        folder.join("in.pcap"),
        folder.join("out.pcap"),
        folder.join("underlay.pcap"),
    );
    let tenant = [
        udp([10, 0, 0, 1], [10, 1, 0, 9], (4000, 53), 64),
        udp([10, 0, 0, 1], [10, 1, 0, 9], (4000, 53), 1),
    ];
    let frames = [
        frame([2, 0, 0, 0, 0, 0xaa], Some(100), 0x0800, &tenant[0]),
        frame([2, 0, 0, 0, 0, 0xaa], Some(100), 0x0800, &tenant[0]),
        frame([2, 0, 0, 0, 0, 0xaa], Some(100), 0x0800, &tenant[1]),
        frame([2, 0, 0, 0, 0, 0xaa], Some(101), 0x0800, &tenant[0]),
        frame(
            [2, 0, 0, 0, 0, 0xaa],
            Some(100),
            0x0800,
            &udp([10, 0, 0, 1], [172, 16, 0, 1], (1, 2), 64),
        ),
        frame([2, 0, 0, 0, 0, 0xaa], Some(100), 0x88cc, &[0; 46]),
        frame([2, 0, 0, 0, 0, 0xaa], Some(100), 0x0800, &tenant[0][..10]),
        frame(
            [0xff; 6],
            Some(100),
            0x0800,
            &udp([10, 0, 0, 1], [255; 4], (68, 67), 64),
        ),
    ];
    write_pcap(&input, &frames);
    // The first fragment of a tunnelled packet: sockets would put it together, so it is shown here.
    let mut fragment = udp([198, 18, 0, 2], [198, 18, 0, 1], (50_000, 4789), 64);
    fragment[2..4].copy_from_slice(&44u16.to_be_bytes());
    fragment[6] = 0x20;
    fragment[10..12].copy_from_slice(&[0, 0]);
    let sum = checksum(&fragment[..20]).to_be_bytes();
    fragment[10..12].copy_from_slice(&sum);
    write_pcap(&underlay, &[frame(GUEST, None, 0x0800, &fragment)]);

    let dataplane = Dataplane::start(config()).unwrap();
    let uplink = DeviceSpec::Ethdev {
        device: format!(
            "net_pcap_up,rx_pcap={},tx_pcap={}",
            underlay.display(),
            output.display()
        ),
        queues: 1,
    };
    let mut uplink = port("uplink", uplink, VrfId::UNDERLAY);
    uplink.addresses = vec!["198.18.0.1/24".parse().unwrap()];
    let remote = IpAddr::V4(Ipv4Addr::new(198, 18, 0, 2));
    let tunnel = NextHopSpec::Tunnel {
        remote,
        local: None,
        encapsulation: Encapsulation::Vxlan {
            vni: Vni::new(5000).unwrap(),
            inner_mac: Mac::VIRTUAL_ROUTER,
        },
        return_vrf: None,
    };
    let applied = dataplane
        .apply(vec![
            Change::SetVrf(
                RED,
                VrfSpec {
                    name: "red".into(),
                    packet_mode: false,
                    ..VrfSpec::default()
                },
            ),
            Change::SetPort(PortId(1), uplink),
            Change::SetNextHop(NextHopId(1), tunnel),
            Change::SetRoute(RED, "10.1.0.0/16".parse().unwrap(), NextHopId(1)),
            Change::SetVni(Vni::new(5000).unwrap(), TunnelTarget::Vrf(RED)),
        ])
        .unwrap();
    assert!(applied.effective);
    // The router asks who has the remote: that is the first frame on the underlay.
    wait_for("an ARP request", || dataplane.statistics().balance.sent >= 1);

    let trunk = DeviceSpec::Ethdev {
        device: format!("net_pcap_guest,rx_pcap={}", input.display()),
        queues: 1,
    };
    let guest = DeviceSpec::Vlan {
        parent: PortId(2),
        vlan: VlanId::new(100).unwrap(),
    };
    let plugged = dataplane.apply(vec![
        Change::SetPort(PortId(2), port("trunk", trunk, RED)),
        Change::SetPort(PortId(3), port("web", guest, RED)),
    ]);
    assert!(plugged.unwrap().effective);
    wait_for("all frames", || {
        dataplane.statistics().balance.received > frames.len() as u64
    });

    let statistics = dataplane.statistics();
    assert!(balanced(&statistics.balance), "{:?}", statistics.balance);
    let drops = |reason: Reason| {
        statistics
            .drops
            .iter()
            .find(|(dropped, _)| *dropped == reason)
            .map_or(0, |(_, count)| *count)
    };
    // Nobody answers on this underlay, so what is sound waits for its neighbour in vain.
    assert_eq!(drops(Reason::NeighbourUnresolved), 2);
    assert_eq!(drops(Reason::TtlExceeded), 1);
    assert_eq!(drops(Reason::UnknownVlan), 1);
    assert_eq!(drops(Reason::NoRoute), 1);
    assert_eq!(drops(Reason::UnknownEthertype), 1);
    assert_eq!(drops(Reason::Malformed), 1);
    assert_eq!(drops(Reason::NotFlooded), 1);
    assert_eq!(drops(Reason::OuterFragment), 1);
    let flows = dataplane.flows(FlowFilter::default(), 100);
    assert_eq!(flows.len(), 2, "{flows:?}");
    assert_eq!(
        flows.iter().find(|flow| flow.initiator).map(|flow| flow.packets),
        Some(3),
        "{flows:?}"
    );

    // A refused batch leaves no trace.
    let refused = dataplane.apply(vec![
        Change::SetRoute(RED, "10.2.0.0/16".parse().unwrap(), NextHopId(1)),
        Change::SetRoute(RED, "10.3.0.0/16".parse().unwrap(), NextHopId(99)),
    ]);
    assert_eq!(refused.unwrap_err().index, 1);
    assert_eq!(dataplane.statistics().tables.routes, statistics.tables.routes);
    drop(dataplane);

    let sent = read_pcap(&output);
    let request = &sent[0];
    assert_eq!(&request[..14], &[&[0xff; 6][..], &GUEST, &[8, 6]].concat()[..]);
    assert_eq!(&request[28..32], &[198, 18, 0, 1]);
    assert_eq!(&request[38..42], &[198, 18, 0, 2]);
    std::fs::remove_dir_all(&folder).unwrap();
}
