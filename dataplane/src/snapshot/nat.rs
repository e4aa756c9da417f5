//! Translations as the workers see them.

use std::{net::IpAddr, ops::RangeInclusive, sync::Arc};

use ipnet::Ipv4Net;
use weft_table::{
    NatId, VrfId,
    nat::{Addresses, Blocks, Holder, Place},
};

use super::Hits;
use crate::change::{FloatingIpSpec, PoolSpec};

/// A floating IP.
#[derive(Clone, Debug)]
pub struct FloatingIp {
    /// Its number.
    pub id: NatId,
    /// The addresses that stand for each other, and where.
    pub spec: FloatingIpSpec,
    /// Sessions opened by the workload ([`FROM_INSIDE`]) and by others ([`FROM_OUTSIDE`]).
    pub opened: Arc<Hits>,
}

/// Place among the counts of a floating IP.
pub const FROM_INSIDE: u32 = 0;
/// Place among the counts of a floating IP.
pub const FROM_OUTSIDE: u32 = 1;

impl FloatingIp {
    /// One that has translated nothing yet, or goes on counting where another version of it is.
    pub fn new(id: NatId, spec: FloatingIpSpec, opened: Option<Arc<Hits>>, workers: usize) -> Self {
        FloatingIp {
            id,
            spec,
            opened: opened.unwrap_or_else(|| Arc::new(Hits::new(vec![0; 2], workers))),
        }
    }
}

/// The floating IPs of one port: few, so that a look through the list is the fastest.
#[derive(Clone, Debug, Default)]
pub struct PortNat(pub Vec<Arc<FloatingIp>>);

impl PortNat {
    /// The one that stands for an inside address in a VRF.
    pub fn in_vrf(&self, vrf: VrfId, inside: IpAddr) -> Option<&FloatingIp> {
        let mut all = self.0.iter();
        let found = all.find(|floating| floating.spec.vrf == vrf && floating.spec.inside == inside);
        found.map(Arc::as_ref)
    }

    /// The one by which this inside address is that outside one.
    pub fn between(&self, inside: IpAddr, address: IpAddr) -> Option<&FloatingIp> {
        let mut all = self.0.iter();
        let found = all.find(|floating| floating.spec.inside == inside && floating.spec.address == address);
        found.map(Arc::as_ref)
    }
}

/// A pool of addresses.
#[derive(Clone, Debug)]
pub struct Pool {
    /// Its number.
    pub id: NatId,
    /// What it translates, and into what.
    pub spec: PoolSpec,
    sources: Addresses,
    /// Its ports, shared with the versions of it that have the same.
    pub blocks: Arc<Blocks>,
}

impl Pool {
    /// One that has handed nothing out yet, or goes on with what `known` has.
    pub fn new(id: NatId, spec: PoolSpec, known: Option<&Pool>) -> Self {
        let same = |known: &&Pool| {
            (&known.spec.addresses, &known.spec.ports, known.spec.block_size)
                == (&spec.addresses, &spec.ports, spec.block_size)
        };
        let blocks = match known.filter(same) {
            Some(known) => Arc::clone(&known.blocks),
            None => Arc::new(Blocks::new(
                addresses(&spec.addresses),
                spec.ports.clone(),
                spec.block_size,
            )),
        };
        Pool {
            id,
            sources: addresses(&spec.sources),
            spec,
            blocks,
        }
    }

    /// Whether it translates what comes from this source and is led from its VRF into that one.
    pub fn translates(&self, from: VrfId, into: VrfId, source: IpAddr) -> bool {
        let IpAddr::V4(source) = source else { return false };
        (self.spec.inside_vrf, self.spec.vrf) == (from, into)
            && self.sources.number(source.to_bits()).is_some()
    }

    /// An address and port that are free.
    pub fn take(&self, holder: Holder, is_free: impl FnMut(Place) -> bool) -> Option<Place> {
        match self.spec.deterministic {
            true => self
                .blocks
                .take_numbered(self.sources.number(holder.address)?, is_free),
            false => self.blocks.take(holder, is_free),
        }
    }

    /// The address and port that [`take`](Self::take) would give; it stays where it is.
    pub fn peek(&self, holder: Holder, is_free: impl FnMut(Place) -> bool) -> Option<Place> {
        match self.spec.deterministic {
            true => self
                .blocks
                .peek_numbered(self.sources.number(holder.address)?, is_free),
            false => self.blocks.peek(holder, is_free),
        }
    }

    /// Whether a session from this source may have this address and port.
    pub fn has(&self, source: u32, place: Place) -> bool {
        let Some(block) = self.blocks.block_of(place) else {
            return false;
        };
        !self.spec.deterministic || self.sources.number(source) == Some(block as u64)
    }
}

fn addresses(prefixes: &[Ipv4Net]) -> Addresses {
    let run = |prefix: &Ipv4Net| -> RangeInclusive<u32> {
        prefix.network().to_bits()..=prefix.broadcast().to_bits()
    };
    Addresses::new(prefixes.iter().map(run).collect())
}
