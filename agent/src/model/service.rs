//! Services: virtual IPs, and the backends that stand behind their ports.

use std::net::IpAddr;

use hashbrown::HashSet;
use weft_packet::ip::protocol;
use weft_proto::v1;
use weft_table::maglev::Maglev;

use super::{
    NatPool, Port, UNDERLAY,
    error::{At, FieldError},
    policy::{protocol_name, protocol_number},
    text::{self, Name},
};

/// Most ports of a service.
const PORTS_MAX: usize = 64;
/// Largest weight of a backend.
const WEIGHT_MAX: u32 = 256;
/// Longest affinity: a day.
const AFFINITY_MAX: u32 = 86_400;

/// Ports of a virtual IP, and who serves them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// The VRF of the virtual IP and of the backends.
    pub vrf: Name,
    /// The virtual IP.
    pub address: IpAddr,
    /// At least one.
    pub ports: Vec<ServicePort>,
    /// Who serves.
    pub backends: Vec<Backend>,
    /// Seconds for which a client keeps its backend.
    pub client_affinity: Option<u32>,
    /// Only backends of this host serve.
    pub local_only: bool,
    /// The pool that backends see addresses of.
    pub source_pool: Option<Name>,
}

/// A port of a virtual IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ServicePort {
    /// Of IP: TCP, UDP or SCTP.
    pub protocol: u8,
    /// None: all that no other service has.
    pub port: Option<u16>,
    /// The backends'; None: the same.
    pub target: Option<u16>,
}

/// Who serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Of the virtual IP's family.
    pub address: IpAddr,
    /// Its part of the sessions.
    pub weight: u32,
    /// Which sessions it has.
    pub state: BackendState,
    /// Where it is, if it is known to be on this host.
    pub port: Option<Name>,
}

/// Which sessions a backend has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BackendState {
    /// Old and new ones.
    #[default]
    Up,
    /// Old ones.
    Draining,
    /// None.
    Down,
}

impl Service {
    pub(super) fn from_proto(service: &v1::Service) -> Result<Self, FieldError> {
        let at = At::root("service");
        let vrf_at = at.field("vrf");
        let vrf = text::name(&vrf_at, &service.vrf)?;
        if &*vrf == UNDERLAY {
            let help = "name a tenant's VRF; a route of the underlay may lead there";
            return Err(vrf_at.error("the underlay has no services", help));
        }
        let address = text::address(&at.field("address"), &service.address)?;
        let ports = ports(&at.field("ports"), &service.ports)?;
        let backends = backends(&at.field("backends"), &service.backends, address)?;
        let affinity_at = at.field("client_affinity_seconds");
        let affinity = service.client_affinity_seconds;
        if affinity > AFFINITY_MAX {
            let help = format!("{AFFINITY_MAX} are possible, a day; 0: none");
            return Err(affinity_at.error(format!("{affinity} is too long"), help));
        }
        let pool_at = at.field("source_pool");
        let source_pool = text::optional_name(&pool_at, &service.source_pool)?;
        if let (Some(pool), IpAddr::V6(_)) = (&source_pool, address) {
            let message = format!("\"{pool}\" is of IPv4, the virtual IP {address} is not");
            return Err(pool_at.error(message, "leave it out: IPv6 services have no pool"));
        }
        Ok(Service {
            vrf,
            address,
            ports,
            backends,
            client_affinity: (affinity > 0).then_some(affinity),
            local_only: service.local_only,
            source_pool,
        })
    }

    pub(super) fn to_proto(&self) -> v1::Service {
        v1::Service {
            vrf: self.vrf.to_string(),
            address: self.address.to_string(),
            ports: self.ports.iter().map(|port| port.to_proto()).collect(),
            backends: self.backends.iter().map(Backend::to_proto).collect(),
            client_affinity_seconds: self.client_affinity.unwrap_or_default(),
            local_only: self.local_only,
            source_pool: self.source_pool.as_deref().unwrap_or_default().to_owned(),
        }
    }

    /// Why this port cannot be that of one of the backends.
    pub fn misfit(&self, index: usize, port: &Port) -> Option<FieldError> {
        let backend = self.backends.get(index)?;
        let (name, at) = (backend.port.as_ref()?, At::root("service"));
        let (backends_at, address) = (at.field("backends"), backend.address);
        let at = backends_at.index(index);
        if port.vrf != self.vrf {
            let message = format!(
                "port \"{name}\" is in vrf \"{}\", not in \"{}\"",
                port.vrf, self.vrf
            );
            let help = "name a port of the service's VRF";
            return Some(at.field("port").error(message, help));
        }
        if !port.hosts().any(|host| host == address) {
            let message = format!("port \"{name}\" does not have {address}");
            let help = "name one of the port's addresses, or add this one to the port";
            return Some(at.field("address").error(message, help));
        }
        None
    }

    /// Why this pool cannot be that of the sources.
    pub fn pool_misfit(&self, pool: &NatPool) -> Option<FieldError> {
        let name = self.source_pool.as_ref()?;
        let (message, help) = if pool.vrf != self.vrf {
            let message = format!(
                "NAT pool \"{name}\" is in vrf \"{}\", not in \"{}\"",
                pool.vrf, self.vrf
            );
            (message, "name a pool of the service's VRF")
        } else if pool.deterministic {
            let message = format!("NAT pool \"{name}\" is deterministic");
            (message, "name a pool that hands out its blocks")
        } else {
            return None;
        };
        Some(At::root("service").field("source_pool").error(message, help))
    }
}

fn ports(at: &At, ports: &[v1::ServicePort]) -> Result<Vec<ServicePort>, FieldError> {
    if ports.is_empty() {
        let help = "name at least one, such as {protocol: tcp, port: 80, target_port: 8080}";
        return Err(at.error("is missing", help));
    }
    if ports.len() > PORTS_MAX {
        let help = format!("{PORTS_MAX} are possible; make a second service with the same address");
        return Err(at.error(format!("there are {}", ports.len()), help));
    }
    let mut known = HashSet::new();
    let mut all = Vec::with_capacity(ports.len());
    for (index, port) in ports.iter().enumerate() {
        let at = at.index(index);
        let port = ServicePort::from_proto(&at, port)?;
        if !known.insert((port.protocol, port.port)) {
            return Err(at.error(format!("{port} is named twice"), "remove one of the two"));
        }
        all.push(port);
    }
    Ok(all)
}

impl ServicePort {
    fn from_proto(at: &At, port: &v1::ServicePort) -> Result<Self, FieldError> {
        let protocol = protocol_number(&port.protocol).filter(|protocol| {
            let has_ports = [protocol::TCP, protocol::UDP, protocol::SCTP];
            has_ports.contains(protocol)
        });
        let protocol = protocol.ok_or_else(|| {
            let message = match port.protocol.as_str() {
                "" => "is missing".to_owned(),
                other => format!("`{}` has no ports", other.escape_debug()),
            };
            at.field("protocol").error(message, "choose tcp, udp or sctp")
        })?;
        let number = |field: &'static str, port: u32| match u16::try_from(port) {
            Ok(0) => Ok(None),
            Ok(port) => Ok(Some(port)),
            Err(_) => Err(at
                .field(field)
                .error(format!("{port} is out of range"), "ports are 1 to 65535")),
        };
        let (number, target) = (
            number("port", port.port)?,
            number("target_port", port.target_port)?,
        );
        let target_at = at.field("target_port");
        if let (None, Some(target)) = (number, target) {
            let message = format!("all ports cannot become {target}");
            return Err(target_at.error(message, "name the port, or leave the target out"));
        }
        Ok(ServicePort {
            protocol,
            port: number,
            target: target.filter(|_| target != number),
        })
    }

    fn to_proto(self) -> v1::ServicePort {
        v1::ServicePort {
            protocol: protocol_name(self.protocol),
            port: self.port.map_or(0, u32::from),
            target_port: self.target.map_or(0, u32::from),
        }
    }
}

impl std::fmt::Display for ServicePort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let protocol = protocol_name(self.protocol);
        match self.port {
            Some(port) => write!(f, "{protocol} port {port}"),
            None => write!(f, "every {protocol} port"),
        }
    }
}

fn backends(at: &At, backends: &[v1::Backend], virtual_ip: IpAddr) -> Result<Vec<Backend>, FieldError> {
    if backends.len() > Maglev::BACKENDS {
        let help = format!("{} are possible", Maglev::BACKENDS);
        return Err(at.error(format!("there are {}", backends.len()), help));
    }
    let mut known = HashSet::with_capacity(backends.len());
    let mut all = Vec::with_capacity(backends.len());
    for (index, backend) in backends.iter().enumerate() {
        let at = at.index(index);
        let backend = Backend::from_proto(&at, backend)?;
        let (at, address) = (at.field("address"), backend.address);
        if address.is_ipv4() != virtual_ip.is_ipv4() {
            let message = format!("{address} and the virtual IP {virtual_ip} are of different families");
            return Err(at.error(message, "use one family; there is no NAT64"));
        }
        if address == virtual_ip {
            let message = format!("{address} is the virtual IP itself");
            return Err(at.error(message, "name the address that the backend has"));
        }
        if !known.insert(address) {
            let help = "remove one of the two; a larger weight gives it more sessions";
            return Err(at.error(format!("{address} is named twice"), help));
        }
        all.push(backend);
    }
    Ok(all)
}

impl Backend {
    fn from_proto(at: &At, backend: &v1::Backend) -> Result<Self, FieldError> {
        let address = text::address(&at.field("address"), &backend.address)?;
        let weight = backend.weight.unwrap_or(1);
        if !(1..=WEIGHT_MAX).contains(&weight) {
            let help = format!("weights are 1 to {WEIGHT_MAX}; a backend without new sessions is draining");
            return Err(at.field("weight").error(format!("{weight} is no weight"), help));
        }
        let state = match v1::BackendState::try_from(backend.state) {
            Ok(v1::BackendState::Unspecified | v1::BackendState::Up) => BackendState::Up,
            Ok(v1::BackendState::Draining) => BackendState::Draining,
            Ok(v1::BackendState::Down) => BackendState::Down,
            Err(_) => {
                let help = "choose BACKEND_STATE_UP, BACKEND_STATE_DRAINING or BACKEND_STATE_DOWN";
                return Err(at
                    .field("state")
                    .error(format!("{} is unknown", backend.state), help));
            }
        };
        Ok(Backend {
            address,
            weight,
            state,
            port: text::optional_name(&at.field("port"), &backend.port)?,
        })
    }

    fn to_proto(&self) -> v1::Backend {
        let state = match self.state {
            BackendState::Up => v1::BackendState::Up,
            BackendState::Draining => v1::BackendState::Draining,
            BackendState::Down => v1::BackendState::Down,
        };
        v1::Backend {
            address: self.address.to_string(),
            weight: Some(self.weight),
            state: state.into(),
            port: self.port.as_deref().unwrap_or_default().to_owned(),
        }
    }
}
