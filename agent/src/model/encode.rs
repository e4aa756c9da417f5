//! Encodes specs as the store keeps them.
//!
//! Routes come by the hundred thousand and lead to few next hops, so that they are written field by field, and each next
//! hop is put into its message once. The result is that of [`Spec::encode`], which a test compares.

use std::{fmt::Write, sync::Arc};

use hashbrown::HashMap;
use prost::{
    Message,
    encoding::{WireType, encode_key, encode_varint, encoded_len_varint},
};

use super::{NextHop, Route, Spec};

/// Numbers of the fields in `weft/v1/objects.proto`.
mod field {
    pub const OBJECT_ROUTE: u32 = 13;
    pub const ROUTE_VRF: u32 = 1;
    pub const ROUTE_PREFIX: u32 = 2;
    pub const ROUTE_NEXT_HOP: u32 = 3;
}

/// Encodes the specs of one transaction.
#[derive(Default)]
pub struct Encoder {
    /// The next hops that were met, held so that an address means the same one all the time.
    hops: HashMap<*const NextHop, (Arc<NextHop>, Vec<u8>)>,
    text: String,
    route: Vec<u8>,
}

impl Encoder {
    /// The encoded API's form of a spec, with what was left out filled in.
    pub fn encode(&mut self, spec: &Spec) -> Vec<u8> {
        match spec {
            Spec::Route(route) => self.route(route),
            other => other.encode(),
        }
    }

    fn route(&mut self, route: &Route) -> Vec<u8> {
        let Encoder {
            hops,
            text,
            route: body,
        } = self;
        let (_, hop) = hops.entry(Arc::as_ptr(&route.next_hop)).or_insert_with(|| {
            let encoded = route.next_hop.to_proto().encode_to_vec();
            (route.next_hop.clone(), encoded)
        });
        text.clear();
        // A string takes any text.
        let _ = write!(text, "{}", route.prefix);
        body.clear();
        put(body, field::ROUTE_VRF, route.vrf.as_bytes());
        put(body, field::ROUTE_PREFIX, text.as_bytes());
        put(body, field::ROUTE_NEXT_HOP, hop);
        let mut object = Vec::with_capacity(body.len() + 1 + encoded_len_varint(body.len() as u64));
        put(&mut object, field::OBJECT_ROUTE, body);
        object
    }
}

/// A field with its length in front: a text or a message.
fn put(to: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    encode_key(field, WireType::LengthDelimited, to);
    encode_varint(bytes.len() as u64, to);
    to.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::Object, testing};
    use weft_proto::v1::{self, next_hop::To};

    #[test]
    fn a_route_is_encoded_as_its_message_is() {
        let tunnel = v1::TunnelNextHop {
            endpoint: "pe-1".into(),
            labels: vec![16, 17],
            return_vrf: "blue".into(),
            ..Default::default()
        };
        let hops = [
            testing::hop(To::Discard(v1::Discard {})),
            testing::hop(To::Vrf("blue".into())),
            testing::hop(To::Gateway("198.18.0.254".into())),
            testing::hop(To::Tunnel(tunnel)),
            testing::hop(To::Discard(v1::Discard {})),
        ];
        let mut encoder = Encoder::default();
        for hop in hops {
            for prefix in ["0.0.0.0/0", "10.1.2.0/24", "fd00:1::/64"] {
                let proto = testing::route("r", &"red".repeat(60), prefix, hop.clone());
                let spec = Object::from_proto(&proto).unwrap().spec;
                assert_eq!(encoder.encode(&spec), spec.encode());
            }
        }
        // Equal next hops have one address here only if they were shared.
        assert_eq!(encoder.hops.len(), 15);
    }
}
