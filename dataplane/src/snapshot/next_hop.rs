//! Next hops as a worker applies them: headers prebuilt, underlay already resolved.

use std::net::IpAddr;

use weft_packet::{Mac, VlanId, tunnel::Template};
use weft_table::{NatId, NextHopId, PortId, VrfId, group::Group};

/// Reference to a next hop: an entry of the table that the control half numbers, an underlay neighbour, or a port's
/// own. Fits the action word of a session, where a bit says besides whether its packets are translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HopId(u32);

/// What a [`HopId`] refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HopKind {
    /// The next-hop table.
    Table(NextHopId),
    /// The neighbour table.
    Neighbour(u32),
    /// The guest behind a port; an uplink: the neighbour that has the destination's address.
    Port(PortId),
    /// The port that has a floating IP.
    FloatingIp(NatId),
    /// The sources of the sessions that a pool's addresses stand for.
    Pool(NatId),
    /// The backends of a virtual IP's services.
    VirtualIp(u32),
    /// The vRouter itself.
    Receive,
}

impl HopId {
    const NEIGHBOUR: u32 = 1 << 31;
    const PORT: u32 = 1 << 30;
    const TRANSLATED: u32 = 1 << 29;
    const FLOATING_IP: u32 = 1 << 28;
    const POOL: u32 = 1 << 27;
    const VIRTUAL_IP: u32 = 1 << 26;
    /// The vRouter itself; in the underlay, the host.
    pub const RECEIVE: HopId = HopId(Self::PORT | 1 << 16);
    /// The control half's numbers lie below.
    pub const TABLE_SIZE: u32 = Self::VIRTUAL_IP;

    /// An entry of the next-hop table.
    pub const fn of(id: NextHopId) -> Self {
        HopId(id.0)
    }

    /// An underlay neighbour by its index.
    pub const fn neighbour(index: u32) -> Self {
        HopId(Self::NEIGHBOUR | index)
    }

    /// The guest behind a port, or the neighbours on an uplink.
    pub const fn port(port: PortId) -> Self {
        HopId(Self::PORT | port.0 as u32)
    }

    /// The port that has a floating IP, by the number of that.
    pub const fn floating_ip(id: NatId) -> Self {
        HopId(Self::FLOATING_IP | id.0)
    }

    /// The sources of a pool's sessions.
    pub const fn pool(id: NatId) -> Self {
        HopId(Self::POOL | id.0)
    }

    /// The backends of a virtual IP's services, by the index of that.
    pub const fn virtual_ip(index: u32) -> Self {
        HopId(Self::VIRTUAL_IP | index)
    }

    /// The same hop for packets that are translated on their way to it.
    pub const fn translated(self, translated: bool) -> Self {
        match translated {
            true => HopId(self.0 | Self::TRANSLATED),
            false => HopId(self.0 & !Self::TRANSLATED),
        }
    }

    /// Whether packets are translated on their way to it.
    #[inline(always)]
    pub const fn is_translated(self) -> bool {
        self.0 & Self::TRANSLATED != 0
    }

    /// What it refers to.
    #[inline(always)]
    pub const fn kind(self) -> HopKind {
        let hop = self.0 & !Self::TRANSLATED;
        if hop & Self::NEIGHBOUR != 0 {
            HopKind::Neighbour(hop & !Self::NEIGHBOUR)
        } else if hop == Self::RECEIVE.0 {
            HopKind::Receive
        } else if hop & Self::PORT != 0 {
            HopKind::Port(PortId(hop as u16))
        } else if hop & Self::FLOATING_IP != 0 {
            HopKind::FloatingIp(NatId(hop & !Self::FLOATING_IP))
        } else if hop & Self::POOL != 0 {
            HopKind::Pool(NatId(hop & !Self::POOL))
        } else if hop & Self::VIRTUAL_IP != 0 {
            HopKind::VirtualIp(hop & !Self::VIRTUAL_IP)
        } else {
            HopKind::Table(NextHopId(hop))
        }
    }

    /// As the low half of a session's action word.
    #[inline(always)]
    pub const fn raw(self) -> u32 {
        self.0
    }

    /// Back from [`raw`](Self::raw).
    #[inline(always)]
    pub const fn from_raw(raw: u32) -> Self {
        HopId(raw)
    }
}

/// What a hop is, borrowed from the snapshot.
pub enum Hop<'a> {
    /// An entry of the next-hop table.
    Table(&'a NextHop),
    /// An underlay neighbour.
    Neighbour(&'a Neighbour),
    /// The guest behind a port; an uplink: the neighbour that has the destination's address.
    Port(&'a super::Port),
    /// The port that has a floating IP.
    FloatingIp(&'a super::FloatingIp),
    /// The sources of a pool's sessions.
    Pool(&'a super::Pool),
    /// The backends of a virtual IP's services.
    VirtualIp(&'a super::VirtualIp),
    /// The vRouter itself.
    Receive,
}

/// An entry of the next-hop table.
#[derive(Clone, Debug)]
pub enum NextHop {
    /// Out of a port of this host.
    Port {
        /// Egress as the tenant knows it; a VLAN sub-interface is not its parent.
        port: PortId,
        /// Where the replies are looked up.
        vrf: VrfId,
        /// MACs and tag, ready to copy.
        header: L2Header,
    },
    /// Over the underlay. Flows are spread over the paths; none: the remote has no route.
    Tunnel {
        /// One an underlay path (ECMP).
        paths: Box<[TunnelPath]>,
        /// Outer destination.
        remote: IpAddr,
        /// Number of the remote as an ingress, for the replies.
        endpoint: u32,
        /// VRF in which the reply is looked up; None: that of the route that led here.
        return_vrf: Option<VrfId>,
    },
    /// Spread over members.
    Group(Group),
    /// Look up again.
    Vrf(VrfId),
    /// An underlay router; None: not on any uplink's subnet.
    Gateway(Option<u32>),
    /// To the vRouter, or to the host.
    Receive,
    /// Drop.
    Discard,
}

/// One way to a tunnel's remote.
#[derive(Clone, Debug)]
pub struct TunnelPath {
    /// First hop on the underlay.
    pub neighbour: u32,
    /// Outer header above Ethernet.
    pub template: Template,
}

/// An underlay neighbour (ARP, ND).
#[derive(Clone, Debug, Default)]
pub struct Neighbour {
    /// Uplink by which it is reached; None: the slot is vacant.
    pub port: Option<PortId>,
    /// MACs and tag, ready to copy; None: not resolved.
    pub header: Option<L2Header>,
}

/// Destination and source MAC and the tag if there is one, as they stand in the frame; the ethertype follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct L2Header {
    bytes: [u8; 16],
    macs_length: u8,
}

impl L2Header {
    /// Most bytes that [`write`](Self::write) needs, ethertype included.
    pub const MAX: usize = 18;

    /// Puts the header together.
    pub fn new(destination: Mac, source: Mac, vlan: Option<VlanId>) -> Self {
        let mut bytes = [0; 16];
        bytes[..6].copy_from_slice(&destination.0);
        bytes[6..12].copy_from_slice(&source.0);
        if let Some(vlan) = vlan {
            bytes[12..14].copy_from_slice(&0x8100u16.to_be_bytes());
            bytes[14..16].copy_from_slice(&vlan.get().to_be_bytes());
        }
        L2Header {
            bytes,
            macs_length: if vlan.is_some() { 16 } else { 12 },
        }
    }

    /// Bytes of the whole header, ethertype included: 14 or 18.
    #[inline(always)]
    pub const fn length(&self) -> usize {
        self.macs_length as usize + 2
    }

    /// The destination.
    pub fn destination(&self) -> Mac {
        Mac([
            self.bytes[0],
            self.bytes[1],
            self.bytes[2],
            self.bytes[3],
            self.bytes[4],
            self.bytes[5],
        ])
    }

    /// Writes the header into the first [`length`](Self::length) bytes of `frame`, with copies of fixed size.
    #[inline(always)]
    pub fn write(&self, frame: &mut [u8], ethertype: u16) {
        let ethertype = ethertype.to_be_bytes();
        if self.macs_length == 12 {
            if let Some(frame) = frame.first_chunk_mut::<14>() {
                frame[..12].copy_from_slice(&self.bytes[..12]);
                frame[12..].copy_from_slice(&ethertype);
            }
        } else if let Some(frame) = frame.first_chunk_mut::<18>() {
            frame[..16].copy_from_slice(&self.bytes);
            frame[16..].copy_from_slice(&ethertype);
        }
    }
}
