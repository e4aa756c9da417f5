//! Services as the workers see them: virtual IPs, and the backends that stand behind their ports.

use std::{net::IpAddr, sync::Arc};

use weft_table::{
    NatId, RouteId, VrfId,
    affinity::{self, Affinity},
    group::mix,
    maglev::{Maglev, Share},
};

use super::Hits;
use crate::change::{BackendSpec, BackendState, ServicePort, ServiceSpec};

/// An address with the services that it has.
#[derive(Clone, Debug)]
pub struct VirtualIp {
    /// In which it is reached, and where its backends are.
    pub vrf: VrfId,
    /// The address.
    pub address: IpAddr,
    /// Its services: few, so that a look through the list is the fastest.
    pub services: Vec<Arc<Service>>,
}

impl VirtualIp {
    /// The service of a protocol and port; one that names the port goes before one of all ports.
    #[inline]
    pub fn service(&self, protocol: u8, port: u16) -> Option<(&Service, &ServicePort)> {
        let named = |wanted: Option<u16>| {
            let mut services = self.services.iter();
            services.find_map(|service| {
                let mut ports = service.spec.ports.iter();
                let found = ports.find(|known| known.protocol == protocol && known.port == wanted);
                Some((&**service, found?))
            })
        };
        named(Some(port)).or_else(|| named(None))
    }
}

/// A service.
#[derive(Clone, Debug)]
pub struct Service {
    /// Its number.
    pub id: NatId,
    /// What its sessions depend on: changes with the service.
    pub object: RouteId,
    /// The virtual IP, its ports, and how backends are chosen.
    pub spec: ServiceSpec,
    /// In the order of the spec.
    pub backends: Vec<Backend>,
    chooser: Arc<Maglev>,
    /// Which backend each client had last, if clients are to keep to theirs.
    affinity: Option<Arc<Affinity>>,
}

/// A backend.
#[derive(Clone, Debug)]
pub struct Backend {
    /// Stable identity: the same on every host.
    id: u64,
    /// Sessions that went to it ([`OPENED`]) and that are over ([`CLOSED`]).
    pub sessions: Arc<Hits>,
}

/// Place among the counts of a backend.
pub const OPENED: u32 = 0;
/// Place among the counts of a backend.
pub const CLOSED: u32 = 1;

/// Who opens a session to a service.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    /// Address and port.
    pub end: (IpAddr, u16),
    /// Of the virtual IP.
    pub port: u16,
    /// Seconds since the start.
    pub now: u32,
    /// It only might come: it is not remembered.
    pub supposed: bool,
}

impl Service {
    /// One that nobody has used yet, or that goes on where another version of it is.
    pub fn new(
        id: NatId,
        object: RouteId,
        spec: ServiceSpec,
        known: Option<&Service>,
        workers: usize,
    ) -> Self {
        let backend = |spec: &BackendSpec| {
            let before = known.and_then(|known| known.position(spec.address).map(|at| &known.backends[at]));
            Backend {
                id: identity(spec.address),
                sessions: match before {
                    Some(before) => Arc::clone(&before.sessions),
                    None => Arc::new(Hits::new(vec![0; 2], workers)),
                },
            }
        };
        let backends: Vec<Backend> = spec.backends.iter().map(backend).collect();
        let same = |known: &&Service| known.spec.backends == spec.backends;
        let chooser = match known.filter(same) {
            Some(known) => Arc::clone(&known.chooser),
            None => Arc::new(chooser(&spec.backends, &backends)),
        };
        let affinity = spec.affinity.map(|_| {
            let before = known.and_then(|known| known.affinity.clone());
            before.unwrap_or_default()
        });
        Service {
            id,
            object,
            spec,
            backends,
            chooser,
            affinity,
        }
    }

    /// The same, with another object that its sessions depend on.
    pub fn depending_on(&self, object: RouteId) -> Self {
        Service {
            object,
            ..self.clone()
        }
    }

    /// The backend for a new session; None: none takes any.
    #[inline]
    pub fn choose(&self, client: &Client) -> Option<IpAddr> {
        let (address, port) = client.end;
        let who = identity(address);
        let (Some(affinity), Some(timeout)) = (&self.affinity, self.spec.affinity) else {
            let ports = u64::from(port) << 16 | u64::from(client.port);
            let place = self.chooser.select((mix(who ^ ports) >> 32) as u32)?;
            return Some(self.spec.backends.get(usize::from(place))?.address);
        };
        let remembered = affinity.recall(who, client.now, timeout).and_then(|mark| {
            let mut backends = self.backends.iter().zip(&self.spec.backends);
            let is_it = |(backend, spec): &(&Backend, &BackendSpec)| {
                affinity::mark(backend.id) == mark && spec.state == BackendState::Up
            };
            backends.position(|backend| is_it(&backend))
        });
        let place = match remembered {
            Some(place) => place,
            // The same for all workers that see the client at this time, and another one after a while.
            None => {
                let period = u64::from(client.now / timeout.max(1));
                usize::from(self.chooser.select((mix(who ^ mix(period)) >> 32) as u32)?)
            }
        };
        let (backend, spec) = (self.backends.get(place)?, self.spec.backends.get(place)?);
        if !client.supposed {
            affinity.remember(who, affinity::mark(backend.id), client.now);
        }
        Some(spec.address)
    }

    /// Whether a session may stay with this backend.
    #[inline]
    pub fn keeps(&self, address: IpAddr) -> bool {
        let mut backends = self.spec.backends.iter();
        backends.any(|backend| backend.address == address && backend.state != BackendState::Down)
    }

    /// The place of the backend with this address.
    #[inline]
    pub fn position(&self, address: IpAddr) -> Option<usize> {
        self.spec
            .backends
            .iter()
            .position(|backend| backend.address == address)
    }
}

fn chooser(specs: &[BackendSpec], backends: &[Backend]) -> Maglev {
    let shares = specs.iter().zip(backends).enumerate();
    let shares = shares.filter(|(_, (spec, _))| spec.state == BackendState::Up);
    let share = |(number, (spec, backend)): (usize, (&BackendSpec, &Backend))| Share {
        id: backend.id,
        weight: spec.weight,
        number: number as u16,
    };
    Maglev::new(&shares.map(share).collect::<Vec<_>>(), specs.len())
}

/// An address as a number that is spread over 64 bits, the same on every host and after every start.
#[inline]
fn identity(address: IpAddr) -> u64 {
    match address {
        IpAddr::V4(address) => mix(u64::from(address.to_bits()) + 1),
        IpAddr::V6(address) => {
            let bits = address.to_bits();
            mix(mix((bits >> 64) as u64 + 1) ^ bits as u64)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(backends: &[(&str, BackendState)], affinity: Option<u32>) -> ServiceSpec {
        let backend = |(address, state): &(&str, BackendState)| BackendSpec {
            address: address.parse().unwrap(),
            weight: 1,
            state: *state,
        };
        ServiceSpec {
            vrf: VrfId(1),
            address: "10.0.0.80".parse().unwrap(),
            ports: Vec::new(),
            backends: backends.iter().map(backend).collect(),
            affinity,
            source_pool: None,
        }
    }

    fn service(spec: ServiceSpec, known: Option<&Service>) -> Service {
        Service::new(NatId(1), RouteId(1), spec, known, 1)
    }

    fn client(number: u32, port: u16, now: u32) -> Client {
        Client {
            end: (IpAddr::V4(number.into()), port),
            port: 80,
            now,
            supposed: false,
        }
    }

    const TWO: [(&str, BackendState); 2] = [("10.0.0.1", BackendState::Up), ("10.0.0.2", BackendState::Up)];

    #[test]
    fn sessions_of_one_client_are_spread_unless_it_is_to_keep_its_backend() {
        let chosen = |service: &Service, now: u32| -> Vec<IpAddr> {
            let mut chosen: Vec<_> = (1..100)
                .filter_map(|port| service.choose(&client(7, port, now)))
                .collect();
            chosen.sort();
            chosen.dedup();
            chosen
        };
        assert_eq!(chosen(&service(spec(&TWO, None), None), 0).len(), 2);
        let sticky = service(spec(&TWO, Some(10)), None);
        // Every five seconds: never out of the timeout, over many of its periods.
        let kept: Vec<_> = (0..40).flat_map(|tick| chosen(&sticky, tick * 5)).collect();
        assert!(kept.iter().all(|backend| *backend == kept[0]), "{kept:?}");
        // After pauses it is chosen anew, now one and now the other.
        let moved = (0..40).map(|pause| chosen(&sticky, 1000 + pause * 11)[0]);
        let moved: std::collections::BTreeSet<_> = moved.collect();
        assert_eq!(moved.len(), 2);
    }

    #[test]
    fn a_backend_that_drains_or_is_down_takes_no_session_not_even_of_its_client() {
        for state in [BackendState::Draining, BackendState::Down] {
            for affinity in [None, Some(100)] {
                let before = service(spec(&TWO, affinity), None);
                for number in 0..50 {
                    before.choose(&client(number, 1, 0));
                }
                let after = [("10.0.0.1", state), TWO[1]];
                let after = service(spec(&after, affinity), Some(&before));
                for number in 0..50 {
                    assert_eq!(
                        after.choose(&client(number, 1, 0)),
                        Some(after.spec.backends[1].address)
                    );
                }
                let keeps = after.keeps(after.spec.backends[0].address);
                assert_eq!(keeps, state == BackendState::Draining);
            }
        }
        let nobody = service(spec(&[("10.0.0.1", BackendState::Down)], Some(100)), None);
        assert_eq!(nobody.choose(&client(1, 1, 0)), None);
    }

    #[test]
    fn a_port_that_is_named_goes_before_all_ports() {
        let port = |protocol, port| ServicePort {
            protocol,
            port,
            target: None,
        };
        let all = ServiceSpec {
            ports: vec![port(6, None)],
            ..spec(&TWO, None)
        };
        let web = ServiceSpec {
            ports: vec![port(6, Some(80))],
            ..spec(&TWO, None)
        };
        let virtual_ip = VirtualIp {
            vrf: VrfId(1),
            address: all.address,
            services: vec![
                Arc::new(Service::new(NatId(1), RouteId(1), all, None, 1)),
                Arc::new(Service::new(NatId(2), RouteId(2), web, None, 1)),
            ],
        };
        let found = |protocol, port| virtual_ip.service(protocol, port).map(|(service, _)| service.id);
        assert_eq!(
            (found(6, 80), found(6, 81), found(17, 80)),
            (Some(NatId(2)), Some(NatId(1)), None)
        );
    }
}
