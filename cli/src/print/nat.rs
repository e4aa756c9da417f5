//! Floating IPs and pools as rows of a table, with the sessions that they translated.

use weft_proto::v1::{self, object::Spec};

use super::{
    objects::state,
    table::{Column, Table},
    units,
};

/// A table of floating IPs, each with its statistics if there are some.
pub fn table(floating_ips: &[(v1::Object, Option<v1::FloatingIpStats>)]) -> Table {
    use Column::{Number, Text};
    let mut table = Table::new([
        Text("NAME"),
        Text("VRF"),
        Text("ADDRESS"),
        Text("PORT"),
        Text("INSIDE"),
        Number("FROM-INSIDE"),
        Number("FROM-OUTSIDE"),
        Text("OWNER"),
        Text("STATE"),
    ]);
    for (object, stats) in floating_ips {
        let Some(Spec::FloatingIp(floating)) = &object.spec else {
            continue;
        };
        let sessions = |count: fn(&v1::FloatingIpStats) -> u64| {
            stats.as_ref().map(count).map(units::count).unwrap_or_default()
        };
        table.row([
            object.name.clone(),
            floating.vrf.clone(),
            floating.address.clone(),
            floating.port.clone(),
            floating.inside_address.clone(),
            sessions(|stats| stats.sessions_from_inside),
            sessions(|stats| stats.sessions_from_outside),
            object.owner.clone(),
            state(object).to_owned(),
        ]);
    }
    table
}

/// A table of pools, each with its statistics if there are some.
pub fn pools(pools: &[(v1::Object, Option<v1::NatPoolStats>)]) -> Table {
    use Column::{Number, Text};
    let mut table = Table::new([
        Text("NAME"),
        Text("VRF"),
        Text("ADDRESSES"),
        Text("INSIDE"),
        Text("SOURCES"),
        Number("BLOCKS"),
        Number("HELD"),
        Number("SESSIONS"),
        Text("OWNER"),
        Text("STATE"),
    ]);
    for (object, stats) in pools {
        let Some(Spec::NatPool(pool)) = &object.spec else {
            continue;
        };
        let shown = |count: fn(&v1::NatPoolStats) -> u64| {
            stats.as_ref().map(count).map(units::count).unwrap_or_default()
        };
        table.row([
            object.name.clone(),
            pool.vrf.clone(),
            pool.addresses.join(", "),
            pool.inside_vrf.clone(),
            pool.sources.join(", "),
            shown(|stats| stats.blocks),
            shown(|stats| stats.held),
            shown(|stats| stats.sessions),
            object.owner.clone(),
            state(object).to_owned(),
        ]);
    }
    table
}

/// Who has which ports of a pool.
pub fn blocks(held: &[v1::NatBlock], block_size: u32) -> Table {
    use Column::{Number, Text};
    let mut table = Table::new([
        Text("ADDRESS"),
        Text("PORTS"),
        Text("HOLDER"),
        Number("WORKER"),
        Number("SESSIONS"),
    ]);
    for block in held {
        let last = block.first_port + block_size.max(1) - 1;
        table.row([
            block.address.clone(),
            format!("{}-{last}", block.first_port),
            block.holder.clone(),
            block.worker.to_string(),
            block.sessions.to_string(),
        ]);
    }
    table
}
