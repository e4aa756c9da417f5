//! What is done to the packets: weft's configuration for it, OVS's flows, and what must leave.

use std::fmt;

use weft_tests::{
    frame::{Outer, Packet, Tunnel},
    lone::GATEWAY,
};

use super::{
    ovs::port,
    policy,
    replay::{FURTHER, LOCAL, NEIGHBOUR, REMOTE, UPLINK, VLAN, VNI, Wrapping},
};

/// Label of the tenants' network at the other vRouter.
const LABEL: u32 = 5000;
/// The tenant behind the port that nothing comes back from.
const SINK: [u8; 6] = [2, 0, 0, 0, 0, 0xdd];

/// One kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    /// VLAN strip, VRF, VXLAN; no sessions.
    VlanVxlan,
    /// VLAN strip, VRF, stateful policy, VXLAN.
    CtVxlan,
    /// The same into MPLS over UDP.
    CtMplsUdp,
    /// VXLAN in, policy, out to a tenant's port.
    Decap,
    /// From one tenant's port to another's.
    Local,
}

impl Job {
    /// In the order of the report.
    pub const ALL: [Job; 5] = [
        Job::VlanVxlan,
        Job::CtVxlan,
        Job::CtMplsUdp,
        Job::Local,
        Job::Decap,
    ];

    /// How its packets come.
    pub fn wrapping(self) -> Wrapping {
        match self {
            Job::Decap => Wrapping::Vxlan,
            _ => Wrapping::Tagged,
        }
    }

    /// Does it keep sessions?
    pub fn is_stateful(self) -> bool {
        self != Job::VlanVxlan
    }

    fn out(self) -> u32 {
        match self {
            Job::Decap | Job::Local => port::TENANT,
            _ => port::TUNNEL,
        }
    }

    /// weft's objects: packets come from the device `source` and leave by the device `sink`. Tenants' ports with sessions
    /// have the [`policy`].
    pub fn configuration(self, source: &str, sink: &str) -> String {
        let neighbour = mac(NEIGHBOUR);
        let uplink = |device: &str| {
            format!(
                "kind: Port\nname: uplink\nspec: {{ethdev: {{device: \"{device}\"}}, vrf: underlay, \
                 mac: \"{}\", mtu: 1600, addresses: [{LOCAL}/24], \
                 neighbours: [{{address: {REMOTE}, mac: \"{neighbour}\"}}, \
                 {{address: {FURTHER}, mac: \"{neighbour}\"}}]}}\n",
                mac(UPLINK),
            )
        };
        let mut objects = vec![format!(
            "kind: Vrf\nname: red\nspec: {{packet_mode: {}}}\n",
            !self.is_stateful()
        )];
        let encapsulation = match self {
            Job::CtMplsUdp => "ENCAPSULATION_MPLS_OVER_UDP",
            _ => "ENCAPSULATION_VXLAN",
        };
        let next_hop = match self {
            Job::VlanVxlan | Job::CtVxlan => format!("{{tunnel: {{endpoint: far, vni: {VNI}}}}}"),
            Job::CtMplsUdp => format!("{{tunnel: {{endpoint: far, labels: [{LABEL}]}}}}"),
            Job::Decap | Job::Local => "{port: {port: sink}}".to_owned(),
        };
        let mut policies = "";
        if self.is_stateful() {
            objects.push(policy::manifest());
            policies = policy::NAME;
        }
        if self.wrapping() == Wrapping::Tagged {
            objects.push(format!(
                "kind: Port\nname: trunk\nspec: {{ethdev: {{device: \"{source}\"}}, vrf: red}}\n"
            ));
            objects.push(tenant(policies));
        } else {
            objects.push(uplink(source));
            objects.push(format!(
                "kind: Vni\nname: red\nspec: {{vni: {VNI}, target: {{vrf: red}}}}\n"
            ));
        }
        if self.out() == port::TENANT {
            objects.push(format!(
                "kind: Port\nname: sink\nspec: {{ethdev: {{device: \"{sink}\"}}, vrf: red, mac: \"{}\", \
                 policies: [{policies}]}}\n",
                mac(SINK)
            ));
        } else {
            objects.push(uplink(sink));
        }
        if self != Job::Local {
            objects.push(format!(
                "kind: TunnelEndpoint\nname: far\nspec: {{remote: {REMOTE}, encapsulation: {encapsulation}}}\n"
            ));
        }
        objects.push(format!(
            "kind: Route\nname: all\nspec: {{vrf: red, prefix: 10.0.0.0/8, next_hop: {next_hop}}}\n"
        ));
        objects.join("---\n")
    }

    /// OVS's way to do the same: where the packets leave, and the flows of `br0`. None: OVS cannot.
    pub fn flows(self) -> Option<(u32, Vec<String>)> {
        let out = self.out();
        let mut routed = format!("dec_ttl,mod_dl_src={},mod_dl_dst=", mac(GATEWAY));
        routed += &match out {
            port::TENANT => format!("{},output:{out}", mac(SINK)),
            _ => format!("{},set_field:{VNI}->tun_id,output:{out}", mac(GATEWAY)),
        };
        let (arrives, strip) = match self.wrapping() {
            Wrapping::Tagged => (format!("in_port={},dl_vlan={VLAN},ip", port::REPLAY), "pop_vlan,"),
            Wrapping::Vxlan => (format!("in_port={},tun_id={VNI},ip", port::TUNNEL), ""),
        };
        match self {
            Job::CtMplsUdp => None,
            Job::VlanVxlan => Some((
                out,
                vec![format!("{arrives},nw_dst=10.0.0.0/8,actions={strip}{routed}")],
            )),
            Job::CtVxlan | Job::Decap | Job::Local => Some((
                out,
                vec![
                    format!("table=0,{arrives},actions={strip}ct(table=1,zone={VLAN})"),
                    format!("table=1,ct_state=+new+trk,ip,actions=ct(commit,zone={VLAN}),goto_table:2"),
                    "table=1,ct_state=+est+trk,ip,actions=goto_table:2".to_owned(),
                    format!("table=2,ip,nw_dst=10.0.0.0/8,actions={routed}"),
                ],
            )),
        }
    }

    /// The frame that must leave for a packet that came, with 0 for the tunnel's source port.
    pub fn leaves(self, packet: &Packet) -> Vec<u8> {
        let mut outer = Outer::new(LOCAL, REMOTE);
        outer.entropy = 0;
        let tunnel = match self {
            Job::VlanVxlan | Job::CtVxlan => Tunnel::Vxlan {
                vni: VNI,
                destination: GATEWAY,
                source: GATEWAY,
            },
            Job::CtMplsUdp => Tunnel::MplsOverUdp(vec![LABEL]),
            Job::Decap | Job::Local => return packet.hop().frame(SINK, GATEWAY),
        };
        outer.carry(&tunnel, &packet.hop()).frame(NEIGHBOUR, UPLINK)
    }

    /// Where the tunnel's source port is, which may be any of the dynamic ones (RFC 7348, section 5).
    pub fn entropy(self) -> Option<std::ops::Range<usize>> {
        (self.out() == port::TUNNEL).then_some(34..36)
    }
}

/// The tenant's port that the packets come from, with its policies in their order.
pub fn tenant(policies: &str) -> String {
    format!(
        "kind: Port\nname: tenant\nspec: {{vlan: {{parent: trunk, vlan: {VLAN}}}, vrf: red, \
         policies: [{policies}]}}\n"
    )
}

impl fmt::Display for Job {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Job::VlanVxlan => "vlan-vxlan",
            Job::CtVxlan => "ct-vxlan",
            Job::CtMplsUdp => "ct-mplsudp",
            Job::Decap => "decap",
            Job::Local => "local",
        })
    }
}

fn mac(bytes: [u8; 6]) -> String {
    bytes.map(|byte| format!("{byte:02x}")).join(":")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::replay::{Replay, Size};

    #[test]
    fn configurations_are_objects_of_the_api() {
        for job in Job::ALL {
            let yaml = job.configuration("net_pcap0,rx_pcap=/f,infinite_rx=1", "net_null0,no-rx=1");
            let objects = weft_cli::manifest::load_text("benchmark", &yaml);
            assert!(
                objects.is_ok_and(|objects| objects.len() >= 5 - usize::from(job == Job::Local)),
                "{job}\n{yaml}"
            );
        }
    }

    #[test]
    fn what_leaves_has_one_hop_less_and_the_tunnel_of_the_job() {
        let replay = Replay {
            sessions: 1,
            size: Size::Small,
            wrapping: Wrapping::Tagged,
        };
        let packet = replay.inner().next().unwrap();
        for (job, length, ttl_at) in [
            (Job::CtVxlan, 110, 72),
            (Job::CtMplsUdp, 92, 54),
            (Job::Local, 60, 22),
        ] {
            let frame = job.leaves(&packet);
            assert_eq!(frame.len(), length, "{job}");
            assert_eq!(frame[ttl_at], 63, "{job}");
            if let Some(entropy) = job.entropy() {
                assert_eq!(frame[entropy], [0, 0], "{job}");
            }
        }
    }
}
