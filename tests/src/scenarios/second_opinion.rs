//! The model that judges weft is itself judged by scapy.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use weft_tests::frame::{
    Outer, Packet, Tunnel, arp_reply, arp_request, neighbour_advertisement, neighbour_solicitation, protocol,
    tagged, tcp,
};

super::scenarios! {
    the_model_agrees_with_scapy: ["Operations: the model of the tests agrees with scapy"],
}

const M1: [u8; 6] = [2, 0, 0, 0, 0, 1];
const M2: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// Frames of the model, each with scapy's way to say it.
fn pairs() -> Vec<(&'static str, Vec<u8>)> {
    let udp = Packet::udp("10.0.0.1:1000", "10.0.0.2:2000", b"hello");
    let udp6 = Packet::udp("[fd00::1]:1000", "[fd00::2]:2000", b"hello");
    let vxlan = Tunnel::Vxlan {
        vni: 100,
        destination: M2,
        source: M1,
    };
    let outer = Outer::new("198.18.0.1", "198.18.0.2");
    let outer6 = Outer {
        udp_checksum: true,
        ..Outer::new("fd00:18::1", "fd00:18::2")
    };
    let fragment = udp.clone().with_fragment(0x2000 | 5).with_traffic_class(0xb9);
    let chained = udp6
        .clone()
        .with_extensions(&[(protocol::DESTINATION_OPTIONS, &[0, 0, 1, 4, 0, 0, 0, 0])]);
    vec![
        (
            "E/IP(src='10.0.0.1',dst='10.0.0.2',id=0x1234)/UDP(sport=1000,dport=2000)/b'hello'",
            udp.frame(M2, M1),
        ),
        (
            "E/IPv6(src='fd00::1',dst='fd00::2')/UDP(sport=1000,dport=2000)/b'hello'",
            udp6.frame(M2, M1),
        ),
        (
            "E/Dot1Q(vlan=100)/IP(src='10.0.0.1',dst='10.0.0.2',id=0x1234)/UDP(sport=1000,dport=2000)/b'hello'",
            tagged(100, &udp.frame(M2, M1)),
        ),
        (
            "E/IP(src='10.0.0.1',dst='10.0.0.2',id=0x1234)/TCP(sport=1,dport=2,seq=1000,window=4096,flags='S')",
            Packet::tcp("10.0.0.1:1", "10.0.0.2:2", tcp::SYN, b"").frame(M2, M1),
        ),
        (
            "E/IPv6(src='fd00::1',dst='fd00::2')/TCP(sport=1,dport=2,seq=1000,ack=2000,window=4096,flags='RA')/b'odd'",
            Packet::tcp("[fd00::1]:1", "[fd00::2]:2", tcp::RST | tcp::ACK, b"odd").frame(M2, M1),
        ),
        (
            "E/IP(src='10.0.0.1',dst='10.0.0.2',id=0x1234)/SCTP(sport=1,dport=2)/SCTPChunkData(beginning=1,ending=1,tsn=1,data=b'odd')",
            Packet::sctp("10.0.0.1:1", "10.0.0.2:2", b"odd").frame(M2, M1),
        ),
        (
            "E/IP(src='10.0.0.1',dst='10.0.0.2',id=0x1234)/ICMP(id=7,seq=9)/b'the quick brown fox jumps over the lazy dog'",
            Packet::echo_request("10.0.0.1", "10.0.0.2", 7, 9).frame(M2, M1),
        ),
        (
            "E/IPv6(src='fd00::1',dst='fd00::2')/ICMPv6EchoReply(id=7,seq=9,data=b'the quick brown fox jumps over the lazy dog')",
            Packet::echo_reply("fd00::1", "fd00::2", 7, 9).frame(M2, M1),
        ),
        (
            "E/IP(src='10.0.0.1',dst='10.0.0.2',id=0x1234,tos=0xb9,flags='MF',frag=5)/Raw(bytes(IP(src='10.0.0.1',dst='10.0.0.2')/UDP(sport=1000,dport=2000)/b'hello')[20:])",
            // scapy leaves the protocol of a raw payload at 0.
            Packet {
                protocol: 0,
                ..fragment
            }
            .frame(M2, M1),
        ),
        (
            "E/IPv6(src='fd00::1',dst='fd00::2')/IPv6ExtHdrDestOpt(options=[PadN(optdata=b'\\0\\0\\0\\0')])/UDP(sport=1000,dport=2000)/b'hello'",
            chained.frame(M2, M1),
        ),
        (
            "Ether(dst='ff:ff:ff:ff:ff:ff',src=A)/ARP(op=1,hwsrc=A,psrc='10.0.0.1',hwdst='00:00:00:00:00:00',pdst='10.0.0.2')",
            arp_request(M1, "10.0.0.1", "10.0.0.2"),
        ),
        (
            "E/ARP(op=2,hwsrc=A,psrc='10.0.0.1',hwdst=B,pdst='10.0.0.2')",
            arp_reply(M1, "10.0.0.1", M2, "10.0.0.2"),
        ),
        (
            "Ether(dst='33:33:ff:00:00:02',src=A)/IPv6(src='fd00::1',dst='ff02::1:ff00:2',hlim=255)/ICMPv6ND_NS(tgt='fd00::2')/ICMPv6NDOptSrcLLAddr(lladdr=A)",
            neighbour_solicitation(M1, "fd00::1", "fd00::2"),
        ),
        (
            "E/IPv6(src='fd00::1',dst='fd00::2',hlim=255)/ICMPv6ND_NA(tgt='fd00::1',R=1,S=1,O=1)/ICMPv6NDOptDstLLAddr(lladdr=A)",
            neighbour_advertisement(M1, "fd00::1", M2, "fd00::2", 0xe0),
        ),
        (
            "E/IP(src='198.18.0.1',dst='198.18.0.2',id=0,flags='DF')/UDP(sport=50000,dport=4789,chksum=0)/VXLAN(flags=8,vni=100)/E/IP(src='10.0.0.1',dst='10.0.0.2',id=0x1234)/UDP(sport=1000,dport=2000)/b'hello'",
            outer.carry(&vxlan, &udp).frame(M2, M1),
        ),
        (
            "E/IPv6(src='fd00:18::1',dst='fd00:18::2')/UDP(sport=50000,dport=4789)/VXLAN(flags=8,vni=100)/E/IPv6(src='fd00::1',dst='fd00::2')/UDP(sport=1000,dport=2000)/b'hello'",
            outer6.carry(&vxlan, &udp6).frame(M2, M1),
        ),
        (
            "E/IP(src='198.18.0.1',dst='198.18.0.2',id=0,flags='DF')/UDP(sport=50000,dport=6635,chksum=0)/MPLS(label=16,s=0,ttl=64)/MPLS(label=1048575,s=1,ttl=64)/IP(src='10.0.0.1',dst='10.0.0.2',id=0x1234)/UDP(sport=1000,dport=2000)/b'hello'",
            outer
                .carry(&Tunnel::MplsOverUdp(vec![16, 1_048_575]), &udp)
                .frame(M2, M1),
        ),
        (
            "E/IP(src='198.18.0.1',dst='198.18.0.2',id=0,flags='DF')/GRE(proto=0x8847)/MPLS(label=1000,s=1,ttl=64)/IPv6(src='fd00::1',dst='fd00::2')/UDP(sport=1000,dport=2000)/b'hello'",
            outer.carry(&Tunnel::MplsOverGre(vec![1000]), &udp6).frame(M2, M1),
        ),
    ]
}

const PRELUDE: &str = "
import sys, logging
logging.getLogger('scapy').setLevel(logging.ERROR)
from scapy.layers.l2 import Ether, ARP, Dot1Q, GRE
from scapy.layers.inet import IP, UDP, TCP, ICMP
from scapy.layers.inet6 import *
from scapy.layers.sctp import SCTP, SCTPChunkData
from scapy.layers.vxlan import VXLAN
from scapy.contrib.mpls import MPLS
from scapy.packet import Raw
A, B = '02:00:00:00:00:01', '02:00:00:00:00:02'
E = Ether(src=A, dst=B)
for line in sys.stdin:
    print(bytes(eval(line)).hex())
";

fn the_model_agrees_with_scapy() {
    // Debian's scapy belongs to Debian's Python.
    let mut python = Command::new("/usr/bin/python3")
        .args(["-c", PRELUDE])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 starts");
    let pairs = pairs();
    let mut input = python.stdin.take().expect("a pipe");
    for (expression, _) in &pairs {
        writeln!(input, "{expression}").expect("scapy takes a line");
    }
    drop(input);
    let output = python.wait_with_output().expect("scapy ends");
    assert!(
        output.status.success(),
        "scapy failed: is python3-scapy installed?"
    );
    let text = String::from_utf8(output.stdout).expect("hexadecimal digits");
    assert_eq!(text.lines().count(), pairs.len());
    for (line, (expression, ours)) in text.lines().zip(&pairs) {
        let theirs: Vec<u8> = (0..line.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&line[at..at + 2], 16).expect("hexadecimal digits"))
            .collect();
        assert!(
            *ours == theirs,
            "{expression}\n{}",
            weft_tests::frame::difference(&theirs, ours)
        );
    }
}
