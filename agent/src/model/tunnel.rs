//! Tunnel endpoints, and what arrives through tunnels.

use std::net::IpAddr;

use weft_proto::v1;

use super::{
    error::{At, FieldError},
    text::{self, Name},
};

/// The header of a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encapsulation {
    /// RFC 7348.
    Vxlan,
    /// RFC 7510.
    MplsOverUdp,
    /// RFC 4023.
    MplsOverGre,
}

impl std::fmt::Display for Encapsulation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Encapsulation::Vxlan => "VXLAN",
            Encapsulation::MplsOverUdp => "MPLS over UDP",
            Encapsulation::MplsOverGre => "MPLS over GRE",
        })
    }
}

/// Another router, as seen over the underlay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunnelEndpoint {
    /// Its address.
    pub remote: IpAddr,
    /// Ours; None: the chosen uplink's.
    pub local: Option<IpAddr>,
    /// Header.
    pub encapsulation: Encapsulation,
}

impl TunnelEndpoint {
    pub(super) fn from_proto(endpoint: &v1::TunnelEndpoint) -> Result<Self, FieldError> {
        let at = At::root("tunnel_endpoint");
        let remote = text::address(&at.field("remote"), &endpoint.remote)?;
        let local_at = at.field("local");
        let local = match endpoint.local.as_str() {
            "" => None,
            local => Some(text::address(&local_at, local)?),
        };
        if let Some(local) = local {
            if local.is_ipv4() != remote.is_ipv4() {
                let message = format!("{local} and the remote {remote} are of different families");
                return Err(local_at.error(message, "use two IPv4 or two IPv6 addresses"));
            }
            if local == remote {
                let message = format!("{local} is the remote's address too");
                return Err(local_at.error(message, "name an uplink's address, or leave local out"));
            }
        }
        let encapsulation = match v1::Encapsulation::try_from(endpoint.encapsulation) {
            Ok(v1::Encapsulation::Vxlan) => Encapsulation::Vxlan,
            Ok(v1::Encapsulation::MplsOverUdp) => Encapsulation::MplsOverUdp,
            Ok(v1::Encapsulation::MplsOverGre) => Encapsulation::MplsOverGre,
            Ok(v1::Encapsulation::Unspecified) | Err(_) => {
                let message = match endpoint.encapsulation {
                    0 => "is missing".into(),
                    number => format!("{number} is unknown"),
                };
                let help =
                    "choose ENCAPSULATION_VXLAN, ENCAPSULATION_MPLS_OVER_UDP or ENCAPSULATION_MPLS_OVER_GRE";
                return Err(at.field("encapsulation").error(message, help));
            }
        };
        Ok(TunnelEndpoint {
            remote,
            local,
            encapsulation,
        })
    }

    pub(super) fn to_proto(&self) -> v1::TunnelEndpoint {
        let encapsulation = match self.encapsulation {
            Encapsulation::Vxlan => v1::Encapsulation::Vxlan,
            Encapsulation::MplsOverUdp => v1::Encapsulation::MplsOverUdp,
            Encapsulation::MplsOverGre => v1::Encapsulation::MplsOverGre,
        };
        v1::TunnelEndpoint {
            remote: self.remote.to_string(),
            local: self.local.map(|local| local.to_string()).unwrap_or_default(),
            encapsulation: encapsulation as i32,
        }
    }
}

/// What arrives with a VNI or label belongs to this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Look the inner destination up in this VRF.
    Vrf(Name),
    /// Straight to this port.
    Port(Name),
}

impl Target {
    fn from_proto(at: &At, target: Option<&v1::TunnelTarget>) -> Result<Self, FieldError> {
        use v1::tunnel_target::To;
        match target.and_then(|target| target.to.as_ref()) {
            Some(To::Vrf(vrf)) => Ok(Target::Vrf(text::name(&at.field("vrf"), vrf)?)),
            Some(To::Port(port)) => Ok(Target::Port(text::name(&at.field("port"), port)?)),
            None => Err(at.error("is missing", "name a vrf or a port")),
        }
    }

    fn to_proto(&self) -> v1::TunnelTarget {
        use v1::tunnel_target::To;
        v1::TunnelTarget {
            to: Some(match self {
                Target::Vrf(vrf) => To::Vrf(vrf.to_string()),
                Target::Port(port) => To::Port(port.to_string()),
            }),
        }
    }
}

/// What arrives with this VXLAN network identifier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vni {
    /// The identifier.
    pub vni: weft_packet::Vni,
    /// Where to.
    pub target: Target,
}

impl Vni {
    pub(super) fn from_proto(vni: &v1::Vni) -> Result<Self, FieldError> {
        let at = At::root("vni");
        Ok(Vni {
            vni: text::vni(&at.field("vni"), vni.vni)?,
            target: Target::from_proto(&at.field("target"), vni.target.as_ref())?,
        })
    }

    pub(super) fn to_proto(&self) -> v1::Vni {
        v1::Vni {
            vni: self.vni.get(),
            target: Some(self.target.to_proto()),
        }
    }
}

/// What arrives with this MPLS label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// The label.
    pub label: weft_packet::Label,
    /// Where to.
    pub target: Target,
}

impl Label {
    pub(super) fn from_proto(label: &v1::Label) -> Result<Self, FieldError> {
        let at = At::root("label");
        Ok(Label {
            label: text::label(&at.field("label"), label.label)?,
            target: Target::from_proto(&at.field("target"), label.target.as_ref())?,
        })
    }

    pub(super) fn to_proto(&self) -> v1::Label {
        v1::Label {
            label: self.label.get(),
            target: Some(self.target.to_proto()),
        }
    }
}
