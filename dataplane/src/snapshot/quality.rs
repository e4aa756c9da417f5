//! How much a port may send and get, and in which class: its buckets, shared by the workers and kept while snapshots come
//! and go.

use weft_table::bucket::TokenBucket;

use crate::change::{QualitySpec, Rate, RateSpec};

/// See the module.
#[derive(Debug)]
pub struct Quality {
    /// As asked for.
    pub spec: QualitySpec,
    /// Of what the port sends.
    pub egress: Limit,
    /// Of what it gets.
    pub ingress: Limit,
}

/// A limit of packets, bytes, or both.
#[derive(Debug)]
pub struct Limit {
    packets: Option<TokenBucket>,
    bytes: Option<TokenBucket>,
}

impl Quality {
    /// With full buckets; the clock of [`Limit::lets_pass`] ticks `hz` times a second.
    pub fn new(spec: QualitySpec, hz: u64) -> Self {
        Quality {
            spec,
            egress: Limit::new(&spec.egress, hz),
            ingress: Limit::new(&spec.ingress, hz),
        }
    }
}

impl Limit {
    fn new(spec: &RateSpec, hz: u64) -> Self {
        let bucket = |rate: Option<Rate>| rate.map(|rate| TokenBucket::new(rate.per_second, rate.burst, hz));
        Limit {
            packets: bucket(spec.packets),
            bytes: bucket(spec.bytes),
        }
    }

    /// Whether a frame of so many bytes may pass at cycle `now`; if so, it is counted.
    #[inline]
    pub fn lets_pass(&self, bytes: u64, now: u64) -> bool {
        let has_some =
            |bucket: &Option<TokenBucket>| bucket.as_ref().is_none_or(|bucket| bucket.has_some(now));
        if !has_some(&self.packets) || !has_some(&self.bytes) {
            return false;
        }
        for (bucket, units) in [(&self.packets, 1), (&self.bytes, bytes)] {
            if let Some(bucket) = bucket {
                bucket.take(units, now);
            }
        }
        true
    }
}
