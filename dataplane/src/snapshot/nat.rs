//! Translations as the workers see them.

use std::{net::IpAddr, sync::Arc};

use weft_table::{NatId, VrfId};

use super::Hits;
use crate::change::FloatingIpSpec;

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
