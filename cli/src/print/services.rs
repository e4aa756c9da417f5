//! Services as rows of a table, and their backends with the sessions that they have.

use weft_proto::v1::{self, object::Spec};

use super::{
    objects::state,
    table::{Column, Table},
    units,
};

/// A table of services, each with its statistics if there are some.
pub fn table(services: &[(v1::Object, Option<v1::ServiceStats>)]) -> Table {
    use Column::{Number, Text};
    let mut table = Table::new([
        Text("NAME"),
        Text("VRF"),
        Text("ADDRESS"),
        Text("PORTS"),
        Number("BACKENDS"),
        Number("TAKING"),
        Number("SESSIONS"),
        Text("OWNER"),
        Text("STATE"),
    ]);
    for (object, stats) in services {
        let Some(Spec::Service(service)) = &object.spec else {
            continue;
        };
        let sessions = |stats: &v1::ServiceStats| stats.backends.iter().map(|backend| backend.sessions).sum();
        let taking = service.backends.iter().filter(|backend| {
            let serves = |stats: &v1::ServiceStats| of(stats, &backend.address).is_some();
            takes(backend.state()) && stats.as_ref().is_some_and(serves)
        });
        table.row([
            object.name.clone(),
            service.vrf.clone(),
            service.address.clone(),
            ports(service),
            service.backends.len().to_string(),
            taking.count().to_string(),
            stats.as_ref().map(sessions).map(units::count).unwrap_or_default(),
            object.owner.clone(),
            state(object).to_owned(),
        ]);
    }
    table
}

/// The backends of a service with their sessions. One that has no statistics is left out of the data plane.
pub fn backends(service: &v1::Service, stats: Option<&v1::ServiceStats>) -> Table {
    use Column::{Number, Text};
    let mut table = Table::new([
        Text("BACKEND"),
        Text("PORT"),
        Number("WEIGHT"),
        Text("STATE"),
        Number("SESSIONS"),
        Number("OPENED"),
    ]);
    for backend in &service.backends {
        let known = stats.and_then(|stats| of(stats, &backend.address));
        let shown =
            |count: fn(&v1::BackendStats) -> u64| known.map(count).map(units::exact).unwrap_or_default();
        let state = match backend.state() {
            _ if stats.is_some() && known.is_none() => "left out",
            v1::BackendState::Draining => "draining",
            v1::BackendState::Down => "down",
            v1::BackendState::Up | v1::BackendState::Unspecified => "up",
        };
        table.row([
            backend.address.clone(),
            backend.port.clone(),
            backend.weight.unwrap_or(1).to_string(),
            state.to_owned(),
            shown(|backend| backend.sessions),
            shown(|backend| backend.opened),
        ]);
    }
    table
}

fn of<'a>(stats: &'a v1::ServiceStats, address: &str) -> Option<&'a v1::BackendStats> {
    stats.backends.iter().find(|backend| backend.address == address)
}

fn takes(state: v1::BackendState) -> bool {
    matches!(state, v1::BackendState::Up | v1::BackendState::Unspecified)
}

/// `tcp 80>8080, udp 53`; `sctp *` for all ports.
pub fn ports(service: &v1::Service) -> String {
    let port = |port: &v1::ServicePort| match (port.port, port.target_port) {
        (0, _) => format!("{} *", port.protocol),
        (number, target) if target == 0 || target == number => format!("{} {number}", port.protocol),
        (number, target) => format!("{} {number}>{target}", port.protocol),
    };
    service.ports.iter().map(port).collect::<Vec<_>>().join(", ")
}
