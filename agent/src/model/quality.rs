//! How much a port may send and get, and in which class.

use weft_proto::v1;

use super::error::{At, FieldError};

/// The largest rate, bits a second: 10 Tbit/s, which nobody has. Packets have the same bound.
const RATE_MAX: u64 = 10_000_000_000_000;
/// The largest burst, packets or bytes.
const BURST_MAX: u64 = 1 << 32;
/// A burst that nobody names: what the rate lets pass in this part of a second, but no less than these.
const BURST_PART: u64 = 100;
const BURST_PACKETS: u64 = 64;
/// What a guest hands over at once at the most.
const BURST_BYTES: u64 = 65_536;
/// Code points are 6 bits (RFC 2474).
const DSCP_MAX: u32 = 63;

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quality {
    /// Of what the port sends.
    pub egress: Limit,
    /// Of what it gets.
    pub ingress: Limit,
    /// Of all that it sends.
    pub dscp: Option<u8>,
}

/// Limits that hold together. 0: none, and of a burst: what the rate makes of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Limit {
    pub packets_per_second: u64,
    pub bits_per_second: u64,
    pub burst_packets: u64,
    pub burst_bytes: u64,
}

impl Quality {
    pub(super) fn from_proto(
        at: &At,
        is_uplink: bool,
        proto: Option<&v1::PortQuality>,
    ) -> Result<Self, FieldError> {
        let Some(proto) = proto else {
            return Ok(Quality::default());
        };
        if is_uplink {
            return Err(at.error(
                "is given, but the port is an uplink, which carries the packets of all tenants",
                "give it to the tenants' ports",
            ));
        }
        let dscp = proto.dscp.map(|dscp| match u8::try_from(dscp) {
            Ok(legal) if dscp <= DSCP_MAX => Ok(legal),
            _ => Err(at.field("dscp").error(
                format!("{dscp} is no code point"),
                format!("legal are 0 to {DSCP_MAX}"),
            )),
        });
        Ok(Quality {
            egress: Limit::from_proto(&at.field("egress"), proto.egress.as_ref())?,
            ingress: Limit::from_proto(&at.field("ingress"), proto.ingress.as_ref())?,
            dscp: dscp.transpose()?,
        })
    }

    pub(super) fn to_proto(self) -> Option<v1::PortQuality> {
        (self != Quality::default()).then(|| v1::PortQuality {
            egress: self.egress.to_proto(),
            ingress: self.ingress.to_proto(),
            dscp: self.dscp.map(u32::from),
        })
    }
}

impl Limit {
    fn from_proto(at: &At, proto: Option<&v1::RateLimit>) -> Result<Self, FieldError> {
        let proto = proto.copied().unwrap_or_default();
        let rate = |name, rate, least| match rate {
            0 => Ok(0),
            rate if (least..=RATE_MAX).contains(&rate) => Ok(rate),
            rate => Err(at.field(name).error(
                format!("{rate} is no rate"),
                format!("legal are {least} to {RATE_MAX}; 0 stands for no limit"),
            )),
        };
        let burst = |name, burst, rate_name, rate: u64| match burst {
            0 => Ok(0),
            _ if rate == 0 => Err(at
                .field(name)
                .error("is given without a rate", format!("give {rate_name} as well"))),
            burst if burst <= BURST_MAX => Ok(burst),
            burst => Err(at.field(name).error(
                format!("{burst} is too much"),
                format!("legal are 1 to {BURST_MAX}"),
            )),
        };
        let packets_per_second = rate("packets_per_second", proto.packets_per_second, 1)?;
        let bits_per_second = rate("bits_per_second", proto.bits_per_second, 8)?;
        Ok(Limit {
            packets_per_second,
            bits_per_second,
            burst_packets: burst(
                "burst_packets",
                proto.burst_packets,
                "packets_per_second",
                packets_per_second,
            )?,
            burst_bytes: burst(
                "burst_bytes",
                proto.burst_bytes,
                "bits_per_second",
                bits_per_second,
            )?,
        })
    }

    fn to_proto(self) -> Option<v1::RateLimit> {
        (self != Limit::default()).then_some(v1::RateLimit {
            packets_per_second: self.packets_per_second,
            bits_per_second: self.bits_per_second,
            burst_packets: self.burst_packets,
            burst_bytes: self.burst_bytes,
        })
    }

    /// Packets a second, and at once. None: no limit.
    pub fn packets(&self) -> Option<(u64, u64)> {
        with_burst(self.packets_per_second, self.burst_packets, BURST_PACKETS)
    }

    /// Bytes a second, and at once. None: no limit.
    pub fn bytes(&self) -> Option<(u64, u64)> {
        with_burst(self.bits_per_second / 8, self.burst_bytes, BURST_BYTES)
    }
}

fn with_burst(rate: u64, burst: u64, least: u64) -> Option<(u64, u64)> {
    let burst = match burst {
        0 => (rate / BURST_PART).max(least),
        burst => burst,
    };
    (rate > 0).then_some((rate, burst))
}
