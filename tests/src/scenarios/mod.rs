//! The scenarios, a file a subject. Each states what it covers of the [`catalogue`].

mod captures;
pub mod catalogue;
mod control;
mod forwarding;
mod fragments;
mod guests;
mod host_traffic;
mod hostile_frames;
mod hostile_guests;
mod many_ports;
mod nat;
mod nat_changes;
mod nat_pools;
mod neighbours;
mod next_hops;
mod offloads;
mod pci;
mod policy;
mod policy_changes;
mod policy_log;
mod policy_reject;
mod policy_truth;
mod quality;
mod restart;
mod routes;
mod second_opinion;
mod service_changes;
mod services;
mod sessions;
mod tunnels;
mod vlans;
mod what_if;
mod workers;

/// A test with what it covers.
pub struct Scenario {
    /// A sentence, behind its file's name.
    name: &'static str,
    /// Entries of the catalogue.
    pub covers: &'static [&'static str],
    /// Panics if the sentence is not true.
    pub run: fn(),
}

impl Scenario {
    /// `file::sentence`.
    pub fn title(&self) -> &'static str {
        self.name
            .split_once("scenarios::")
            .map_or(self.name, |(_, title)| title)
    }
}

/// Every scenario, those of one world together.
pub fn all() -> impl Iterator<Item = &'static Scenario> {
    [
        second_opinion::SCENARIOS,
        forwarding::SCENARIOS,
        tunnels::SCENARIOS,
        fragments::SCENARIOS,
        neighbours::SCENARIOS,
        routes::SCENARIOS,
        next_hops::SCENARIOS,
        vlans::SCENARIOS,
        policy::SCENARIOS,
        policy_changes::SCENARIOS,
        policy_reject::SCENARIOS,
        policy_log::SCENARIOS,
        policy_truth::SCENARIOS,
        nat::SCENARIOS,
        nat_changes::SCENARIOS,
        nat_pools::SCENARIOS,
        quality::SCENARIOS,
        services::SCENARIOS,
        service_changes::SCENARIOS,
        sessions::SCENARIOS,
        what_if::SCENARIOS,
        offloads::SCENARIOS,
        hostile_frames::SCENARIOS,
        captures::SCENARIOS,
        control::SCENARIOS,
        hostile_guests::SCENARIOS,
        host_traffic::SCENARIOS,
        workers::SCENARIOS,
        restart::SCENARIOS,
        many_ports::SCENARIOS,
        guests::SCENARIOS,
        pci::SCENARIOS,
    ]
    .into_iter()
    .flatten()
}

/// Names each function and what it covers.
macro_rules! scenarios {
    ($($function:ident: [$($covers:literal),* $(,)?],)*) => {
        pub const SCENARIOS: &[super::Scenario] = &[$(super::Scenario {
            name: concat!(module_path!(), "::", stringify!($function)),
            covers: &[$($covers),*],
            run: $function,
        },)*];
    };
}
pub(crate) use scenarios;
