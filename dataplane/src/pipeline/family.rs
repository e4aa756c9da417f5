//! What differs between IPv4 and IPv6 in the stages that are the same for both.

use std::net::IpAddr;

use weft_packet::{
    ip::{Addresses, IpPacket},
    l4::Tuple,
};
use weft_table::{
    VrfId,
    fib::{Address, View},
    flow::{FlowTable, Key, Key4, Key6},
    policy,
};

use super::{
    Context, Flows,
    burst::{Burst, Lane, Packet},
    learn::Learner,
};
use crate::{
    shared::Shared,
    snapshot::{LatestNarrowed, Snapshot, Vrf},
};

/// An address family.
pub trait Family {
    /// Of the flow table.
    type Key: Key;
    /// Of the FIB and of policies.
    type Address: Address + policy::Family;

    /// The burst's packets of this family.
    fn lane(burst: &mut Burst) -> &mut Lane<Self::Key>;
    /// The flow table.
    fn table(shared: &Shared) -> &FlowTable<Self::Key>;
    /// The worker's part in it.
    fn learner(flows: &mut Flows) -> &mut Learner<Self::Key>;
    /// The routes.
    fn fib(vrf: &Vrf) -> &View<Self::Address>;
    /// Routes that lost destinations to longer prefixes.
    fn narrowed(snapshot: &Snapshot) -> &LatestNarrowed<Self::Address>;
    /// To whom.
    fn destination(key: &Self::Key) -> Self::Address;
    /// From whom.
    fn source(key: &Self::Key) -> Self::Address;
    /// From and to which port, or what stands for them.
    fn ports(key: &Self::Key) -> Tuple;
    /// In which table.
    fn vrf(key: &Self::Key) -> VrfId;
    /// For tables that hold both families.
    fn address(address: Self::Address) -> IpAddr;
    /// Back from there; None: it is of the other family.
    fn of_ip(address: IpAddr) -> Option<Self::Address>;
    /// A key of all that is in it.
    fn key(
        vrf: VrfId,
        protocol: u8,
        source: Self::Address,
        destination: Self::Address,
        ports: Tuple,
    ) -> Self::Key;
}

/// IPv4.
pub enum V4 {}
/// IPv6.
pub enum V6 {}

impl Family for V4 {
    type Key = Key4;
    type Address = u32;

    #[inline(always)]
    fn lane(burst: &mut Burst) -> &mut Lane<Key4> {
        &mut burst.v4
    }

    #[inline(always)]
    fn table(shared: &Shared) -> &FlowTable<Key4> {
        &shared.sessions4
    }

    #[inline(always)]
    fn learner(flows: &mut Flows) -> &mut Learner<Key4> {
        &mut flows.v4
    }

    #[inline(always)]
    fn fib(vrf: &Vrf) -> &View<u32> {
        &vrf.fib4
    }

    #[inline(always)]
    fn narrowed(snapshot: &Snapshot) -> &LatestNarrowed<u32> {
        &snapshot.narrowed4
    }

    #[inline(always)]
    fn destination(key: &Key4) -> u32 {
        key.destination
    }

    #[inline(always)]
    fn source(key: &Key4) -> u32 {
        key.source
    }

    #[inline(always)]
    fn ports(key: &Key4) -> Tuple {
        Tuple {
            source_port: key.source_port,
            destination_port: key.destination_port,
        }
    }

    #[inline(always)]
    fn vrf(key: &Key4) -> VrfId {
        key.vrf
    }

    fn address(address: u32) -> IpAddr {
        IpAddr::V4(address.into())
    }

    fn of_ip(address: IpAddr) -> Option<u32> {
        match address {
            IpAddr::V4(address) => Some(address.to_bits()),
            IpAddr::V6(_) => None,
        }
    }

    fn key(vrf: VrfId, protocol: u8, source: u32, destination: u32, ports: Tuple) -> Key4 {
        Key4 {
            source,
            destination,
            source_port: ports.source_port,
            destination_port: ports.destination_port,
            vrf,
            protocol,
        }
    }
}

impl Family for V6 {
    type Key = Key6;
    type Address = u128;

    #[inline(always)]
    fn lane(burst: &mut Burst) -> &mut Lane<Key6> {
        &mut burst.v6
    }

    #[inline(always)]
    fn table(shared: &Shared) -> &FlowTable<Key6> {
        &shared.sessions6
    }

    #[inline(always)]
    fn learner(flows: &mut Flows) -> &mut Learner<Key6> {
        &mut flows.v6
    }

    #[inline(always)]
    fn fib(vrf: &Vrf) -> &View<u128> {
        &vrf.fib6
    }

    #[inline(always)]
    fn narrowed(snapshot: &Snapshot) -> &LatestNarrowed<u128> {
        &snapshot.narrowed6
    }

    #[inline(always)]
    fn destination(key: &Key6) -> u128 {
        u128::from_be_bytes(key.destination)
    }

    #[inline(always)]
    fn source(key: &Key6) -> u128 {
        u128::from_be_bytes(key.source)
    }

    #[inline(always)]
    fn ports(key: &Key6) -> Tuple {
        Tuple {
            source_port: key.source_port,
            destination_port: key.destination_port,
        }
    }

    #[inline(always)]
    fn vrf(key: &Key6) -> VrfId {
        key.vrf
    }

    fn address(address: u128) -> IpAddr {
        IpAddr::V6(address.into())
    }

    fn of_ip(address: IpAddr) -> Option<u128> {
        match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => Some(address.to_bits()),
        }
    }

    fn key(vrf: VrfId, protocol: u8, source: u128, destination: u128, ports: Tuple) -> Key6 {
        Key6 {
            source: source.to_be_bytes(),
            destination: destination.to_be_bytes(),
            source_port: ports.source_port,
            destination_port: ports.destination_port,
            vrf,
            protocol,
        }
    }
}

/// Puts a packet into its family's lane.
#[inline(always)]
pub fn enlist(
    burst: &mut Burst,
    context: &Context<'_>,
    index: usize,
    ip: &IpPacket,
    tuple: Tuple,
    stateful: bool,
) {
    let vrf = burst.packets[index].vrf;
    let Tuple {
        source_port,
        destination_port,
    } = tuple;
    let protocol = ip.protocol;
    let hash = match ip.addresses {
        Addresses::V4 { source, destination } => {
            let (source, destination) = (source.to_bits(), destination.to_bits());
            let key = Key4 {
                source,
                destination,
                source_port,
                destination_port,
                vrf,
                protocol,
            };
            let hash = context.shared.sessions4.hash(&key);
            if stateful {
                context.shared.sessions4.prefetch(hash);
            }
            burst.v4.push(index, key, hash, stateful);
            hash
        }
        Addresses::V6 { source, destination } => {
            let (source, destination) = (source.octets(), destination.octets());
            let key = Key6 {
                source,
                destination,
                source_port,
                destination_port,
                vrf,
                protocol,
            };
            let hash = context.shared.sessions6.hash(&key);
            if stateful {
                context.shared.sessions6.prefetch(hash);
            }
            burst.v6.push(index, key, hash, stateful);
            hash
        }
    };
    burst.packets[index].hash = Packet::hash_of(hash);
}
