//! A burst of packets and what the stages find out about them, as arrays side by side.

use weft_table::{
    PortId, VrfId,
    flow::{DirectionIndex, Key, Key4, Key6},
};

use crate::{
    dpdk::{BURST, Batch, Mbuf, Pending},
    drops::Reason,
    snapshot::HopId,
    statistics::Counters,
};

/// Bit of an ingress that is a tunnel's remote and no port.
pub const TUNNEL_INGRESS: u32 = 1 << 31;

/// Set besides: what it carried goes straight to the port whose number follows.
const DIRECT_INGRESS: u32 = 1 << 30;

/// By which way a packet came: part of what a session expects.
pub const fn port_ingress(port: PortId) -> u32 {
    port.0 as u32
}

/// As [`port_ingress`], for packets out of a tunnel.
pub const fn tunnel_ingress(endpoint: u32) -> u32 {
    TUNNEL_INGRESS | endpoint
}

/// As [`port_ingress`], for packets out of a tunnel whose VNI or label leads straight to a port.
pub const fn direct_ingress(port: PortId) -> u32 {
    TUNNEL_INGRESS | DIRECT_INGRESS | port.0 as u32
}

/// The port by which a packet came; None: a tunnel.
#[inline(always)]
pub const fn ingress_port(ingress: u32) -> Option<PortId> {
    if ingress & TUNNEL_INGRESS == 0 {
        Some(PortId(ingress as u16))
    } else {
        None
    }
}

/// The port to which a packet's VNI or label leads.
#[inline(always)]
pub const fn direct_ingress_port(ingress: u32) -> Option<PortId> {
    if ingress & (TUNNEL_INGRESS | DIRECT_INGRESS) == TUNNEL_INGRESS | DIRECT_INGRESS {
        Some(PortId(ingress as u16))
    } else {
        None
    }
}

/// What classify found out about a packet that is to be forwarded; its mbuf starts with the IP header then.
#[derive(Clone, Copy)]
#[allow(missing_docs)]
pub struct Packet {
    /// The port as the tenant knows it.
    pub port: PortId,
    pub vrf: VrfId,
    pub ingress: u32,
    pub hash: u32,
    /// Bytes from the IP header on.
    pub length: u32,
    /// DSCP and ECN.
    pub traffic_class: u8,
    pub v6: bool,
    pub tcp_flags: u8,
    /// Offloads that were left to do by the sender.
    pub pending: Pending,
    /// Where it goes.
    pub hop: HopId,
    /// The direction that it belongs to, if there is one: told with the hop.
    pub session: DirectionIndex,
}

impl Packet {
    /// Nothing is known.
    pub const NONE: Packet = Packet {
        port: PortId(0),
        vrf: VrfId(0),
        ingress: 0,
        hash: 0,
        length: 0,
        traffic_class: 0,
        v6: false,
        tcp_flags: 0,
        pending: Pending {
            checksum: false,
            segment: None,
        },
        hop: HopId::RECEIVE,
        session: DirectionIndex::NONE,
    };

    /// What spreads flows over paths and members: other bits than those that choose the flow table's buckets.
    #[inline(always)]
    pub const fn hash_of(hash: u64) -> u32 {
        (hash >> 20) as u32
    }
}

/// Packets of one family on their way through the flow table or the FIB: arrays of one length.
pub struct Lane<K> {
    /// Keys, side by side for the bulk lookup.
    pub keys: [K; BURST],
    /// Their hashes.
    pub hashes: [u64; BURST],
    /// Which packet of the burst each is.
    pub packets: [u8; BURST],
    /// Directions that were found.
    pub found: [DirectionIndex; BURST],
    /// How many with sessions; those without (packet mode) stand at the end of the arrays.
    pub stateful: usize,
    /// How many without.
    pub stateless: usize,
    /// Positions in the lane that the next stage must decide: no session, or one that is out of date; then packets of
    /// packet mode whose route does not say it all.
    pub undecided: [u8; BURST],
    /// How many of them.
    pub undecided_count: usize,
}

impl<K: Key> Lane<K> {
    fn new(key: K) -> Self {
        Lane {
            keys: [key; BURST],
            hashes: [0; BURST],
            packets: [0; BURST],
            found: [DirectionIndex::NONE; BURST],
            stateful: 0,
            stateless: 0,
            undecided: [0; BURST],
            undecided_count: 0,
        }
    }

    /// Adds a packet.
    #[inline(always)]
    pub fn push(&mut self, packet: usize, key: K, hash: u64, stateful: bool) {
        let position = if stateful {
            self.stateful
        } else {
            BURST - 1 - self.stateless
        };
        if position < BURST {
            self.keys[position] = key;
            self.hashes[position] = hash;
            self.packets[position] = packet as u8;
            self.found[position] = DirectionIndex::NONE;
        }
        self.stateful += usize::from(stateful);
        self.stateless += usize::from(!stateful);
    }

    /// The next stage decides this one.
    #[inline(always)]
    pub fn leave_undecided(&mut self, position: usize) {
        if let Some(place) = self.undecided.get_mut(self.undecided_count) {
            *place = position as u8;
            self.undecided_count += 1;
        }
    }

    /// How many of the undecided have no session yet.
    #[inline(always)]
    pub fn first_packets(&self) -> usize {
        let undecided = &self.undecided[..self.undecided_count];
        let new = |position: &&u8| {
            let position = usize::from(**position);
            position < self.stateful && self.found[position].is_none()
        };
        undecided.iter().filter(new).count()
    }

    fn clear(&mut self) {
        self.stateful = 0;
        self.stateless = 0;
        self.undecided_count = 0;
    }
}

/// See the module.
pub struct Burst {
    /// What was received; a packet that ended or left is gone from its place.
    pub mbufs: [Option<Mbuf>; BURST],
    /// What is known of them.
    pub packets: [Packet; BURST],
    length: usize,
    /// Port whose device they came from.
    pub device: PortId,
    /// IPv4 packets.
    pub v4: Lane<Key4>,
    /// IPv6 packets.
    pub v6: Lane<Key6>,
    /// Packets with a hop.
    ready: [u8; BURST],
    ready_count: usize,
}

impl Default for Burst {
    fn default() -> Self {
        let key4 = Key4 {
            source: 0,
            destination: 0,
            source_port: 0,
            destination_port: 0,
            vrf: VrfId(0),
            protocol: 0,
        };
        let key6 = Key6 {
            source: [0; 16],
            destination: [0; 16],
            source_port: 0,
            destination_port: 0,
            vrf: VrfId(0),
            protocol: 0,
        };
        Burst {
            mbufs: [const { None }; BURST],
            packets: [Packet::NONE; BURST],
            length: 0,
            device: PortId(0),
            v4: Lane::new(key4),
            v6: Lane::new(key6),
            ready: [0; BURST],
            ready_count: 0,
        }
    }
}

impl Burst {
    /// Starts with what was received on a device.
    pub fn begin(&mut self, device: PortId, received: &mut Batch) {
        self.clear();
        self.device = device;
        self.length = received.len();
        for (place, mbuf) in self.mbufs.iter_mut().zip(received.drain_front(BURST)) {
            *place = Some(mbuf);
        }
    }

    /// Nothing is in it.
    pub fn clear(&mut self) {
        self.length = 0;
        self.ready_count = 0;
        self.v4.clear();
        self.v6.clear();
    }

    /// Adds a packet that is known already; its place. There must be room.
    pub fn add(&mut self, mbuf: Mbuf, packet: Packet) -> usize {
        let index = self.length;
        self.mbufs[index] = Some(mbuf);
        self.packets[index] = packet;
        self.length += 1;
        index
    }

    /// How many packets came in.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.length
    }

    /// Nothing came in.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Bytes of a packet's first buffer; none if the packet is gone.
    #[inline(always)]
    pub fn data(&self, packet: usize) -> &[u8] {
        self.mbufs[packet].as_ref().map_or(&[], Mbuf::data)
    }

    /// Bytes of a whole packet.
    #[inline(always)]
    pub fn length(&self, packet: usize) -> usize {
        self.mbufs[packet].as_ref().map_or(0, Mbuf::len)
    }

    /// A packet's buffer, to be written.
    #[inline(always)]
    pub fn get(&mut self, packet: usize) -> Result<&mut Mbuf, Reason> {
        self.mbufs[packet].as_mut().ok_or(Reason::Malformed)
    }

    /// Takes a packet out of the burst: it leaves by another way than through the stages.
    #[inline(always)]
    pub fn take(&mut self, packet: usize) -> Result<Mbuf, Reason> {
        self.mbufs[packet].take().ok_or(Reason::Malformed)
    }

    /// Ends a packet with a reason.
    #[inline]
    pub fn drop(&mut self, packet: usize, reason: Reason, counters: &mut Counters) {
        // Gone already if it was counted where it was taken.
        if self.mbufs[packet].take().is_some() {
            counters.drop(self.packets[packet].port, reason);
        }
    }

    /// A packet's hop is known, and its session if it has one.
    #[inline(always)]
    pub fn send(&mut self, packet: usize, hop: HopId, session: DirectionIndex) {
        self.packets[packet].hop = hop;
        self.packets[packet].session = session;
        if let Some(place) = self.ready.get_mut(self.ready_count) {
            *place = packet as u8;
            self.ready_count += 1;
        }
    }

    /// The packets with a hop, in the order in which it was found.
    #[inline(always)]
    pub fn ready(&self) -> ([u8; BURST], usize) {
        (self.ready, self.ready_count)
    }
}
