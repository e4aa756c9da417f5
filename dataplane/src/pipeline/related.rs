//! Find the session that an ICMP error is about (RFC 5508, section 4).
//!
//! An error quotes the packet that could not be delivered, as it left here: reversed, that is the key of the direction
//! that answers it. The error goes with that direction from here on, by the same way, judged by the same rules, and
//! translated with it. An error that came by another way than the answers do says nothing about the session; it is routed
//! by its own addresses, as one that quotes no session is.

use std::net::IpAddr;

use weft_packet::{
    ip::{self, Addresses, protocol},
    quote,
};
use weft_table::flow::Key;

use super::{
    Context,
    burst::{Burst, Packet},
    family::Family,
};

/// Finds the sessions of the errors among these places in the lane.
pub fn find<F: Family>(burst: &mut Burst, context: &Context<'_>, undecided: &[u8]) {
    for &position in undecided {
        let position = usize::from(position);
        let lane = F::lane(burst);
        let key = &lane.keys[position];
        let is_icmp = matches!(key.protocol(), protocol::ICMP | protocol::ICMPV6);
        if is_icmp && lane.found[position].is_none() && position < lane.stateful {
            error::<F>(burst, context, position);
        }
    }
}

#[cold]
fn error<F: Family>(burst: &mut Burst, context: &Context<'_>, position: usize) {
    let index = usize::from(F::lane(burst).packets[position]);
    let vrf = burst.packets[index].vrf;
    let l3 = burst.data(index);
    let quote = ip::parse(l3, burst.length(index)).ok();
    let Some(quote) = quote.and_then(|ip| quote::parse(l3, &ip)) else {
        return;
    };
    let (source, destination) = match quote.addresses {
        Addresses::V4 { source, destination } => (IpAddr::V4(source), IpAddr::V4(destination)),
        Addresses::V6 { source, destination } => (IpAddr::V6(source), IpAddr::V6(destination)),
    };
    let (Some(source), Some(destination)) = (F::of_ip(source), F::of_ip(destination)) else {
        return;
    };
    let answers = F::key(vrf, quote.protocol, source, destination, quote.tuple).reversed(vrf);
    let table = F::table(context.shared);
    let hash = table.hash(&answers);
    let found = table.lookup(&answers, hash);
    let expected = table.get(found).map(|direction| direction.ingress());
    if expected != Some(burst.packets[index].ingress) {
        return;
    }
    let lane = F::lane(burst);
    lane.keys[position] = answers;
    lane.hashes[position] = hash;
    lane.found[position] = found;
    burst.packets[index].hash = Packet::hash_of(hash);
}
