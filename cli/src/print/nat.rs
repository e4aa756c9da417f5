//! Floating IPs as rows of a table, with the sessions that they translated.

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
