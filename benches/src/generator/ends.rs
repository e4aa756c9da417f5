//! The ends of a router under test: tenants' ports, each with a device of the generator behind it.
//!
//! End n has the subnet 10.n.0.0/16 and the generator's device n. A guest's device is virtio-user, as a server: the
//! router connects to it and finds it again when it was away.

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use weft_packet::Mac;

use super::{
    frame::own_mac,
    pace::Rate,
    stream::{Frames, Sizes, Stream},
    tuple::{Addresses, Life, Ports, Space},
};

/// Descriptors of a guest's rings.
const RING: u32 = 1024;

/// What lies between generator and router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// virtio-user here, vhost-user there.
    VhostUser,
    /// memif on both sides; the router's is the server.
    Memif,
}

impl Link {
    /// As cases are called.
    pub fn name(self) -> &'static str {
        match self {
            Link::VhostUser => "vhost-user",
            Link::Memif => "memif",
        }
    }
}

/// One end.
#[derive(Clone, Debug)]
pub struct End {
    number: u8,
    link: Link,
    socket: PathBuf,
}

impl End {
    /// The end of this number, with its socket in `directory`.
    pub fn new(number: u8, link: Link, directory: &Path) -> Self {
        End {
            number,
            link,
            socket: directory.join(format!("end-{number}.sock")),
        }
    }

    /// Several, counted from 0.
    pub fn several(count: u8, link: Link, directory: &Path) -> Vec<End> {
        (0..count)
            .map(|number| End::new(number, link, directory))
            .collect()
    }

    /// The socket between both sides.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The address of who is behind it.
    pub fn mac(&self) -> Mac {
        own_mac(self.number)
    }

    /// The generator's device, in DPDK's words.
    pub fn device(&self) -> String {
        let (number, socket) = (self.number, self.socket.display());
        match self.link {
            Link::VhostUser => format!("net_virtio_user{number},path={socket},server=1,queue_size={RING}"),
            Link::Memif => format!("net_memif{number},role=client,socket={socket},socket-abstract=no"),
        }
    }

    /// weft's port, with a route for its subnet, in a VRF. `policies` are judged in this order; without any it is open.
    pub fn port(&self, vrf: &str, policies: &[&str]) -> String {
        let (number, socket, mac) = (self.number, self.socket.display(), self.mac());
        let device = match self.link {
            Link::VhostUser => format!("vhost_user: {{socket: \"{socket}\"}}"),
            Link::Memif => format!(
                "ethdev: {{device: \"net_memif{number},role=server,socket={socket},socket-abstract=no\"}}"
            ),
        };
        let policies = policies.join(", ");
        format!(
            "kind: Port\nname: end-{number}\nspec: {{{device}, vrf: {vrf}, mac: \"{mac}\", policies: [{policies}]}}\n---\n\
             kind: Route\nname: end-{number}\nspec: {{vrf: {vrf}, prefix: {}, next_hop: {{port: {{port: end-{number}}}}}}}\n",
            self.subnet()
        )
    }

    /// "10.n.0.0/16".
    pub fn subnet(&self) -> String {
        format!("10.{}.0.0/16", self.number)
    }

    /// UDP sessions from here to another end: their number must not change between what is asked and what is answered.
    pub fn sessions_to(&self, to: &End, count: Option<u64>, sizes: Sizes, rate: Rate) -> Stream {
        let addresses = |end: &End| Addresses {
            first: Ipv4Addr::new(10, end.number, 0, 2),
            bits: 8,
        };
        Stream {
            device: usize::from(self.number),
            rate,
            packets: None,
            frames: Frames {
                destination: Mac::VIRTUAL_ROUTER,
                source: self.mac(),
                vlan: None,
                tunnel: None,
                sizes,
            },
            space: Space {
                source: addresses(self),
                destination: addresses(to),
                source_port: Ports::MANY,
                destination_port: Ports {
                    first: 1024,
                    bits: 12,
                },
            },
            sessions: count,
            life: Life::Datagrams,
            reversed: false,
        }
    }
}

impl Stream {
    /// What `answerer`, to whom this stream goes, sends back at the same rate.
    pub fn answers(&self, answerer: &End) -> Stream {
        Stream {
            device: usize::from(answerer.number),
            frames: Frames {
                source: answerer.mac(),
                ..self.frames.clone()
            },
            reversed: true,
            ..self.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generator::tuple::Sessions;

    #[test]
    fn ports_are_objects_of_the_api() {
        for link in [Link::VhostUser, Link::Memif] {
            for end in End::several(3, link, Path::new("/run/weft-1")) {
                let objects = weft_cli::manifest::load_text("benchmark", &end.port("red", &["web"]));
                assert!(
                    objects.is_ok_and(|objects| objects.len() == 2),
                    "{}",
                    end.port("red", &["web"])
                );
            }
        }
    }

    #[test]
    fn sessions_run_between_the_subnets_of_their_ends() {
        let ends = End::several(3, Link::VhostUser, Path::new("/run"));
        let asked = ends[1].sessions_to(&ends[2], Some(10_000), Sizes::Fixed(64), Rate::Unpaced);
        let answered = asked.answers(&ends[2]);
        assert_eq!((asked.device, answered.device), (1, 2));
        let packet = |stream: &Stream, number| {
            Sessions::new(stream.space, stream.sessions, stream.life, stream.reversed)
                .packet(number)
                .0
        };
        for number in 0..20_000 {
            let tuple = packet(&asked, number);
            assert_eq!(tuple.reversed(), packet(&answered, number));
            assert_eq!((tuple.source >> 16, tuple.destination >> 16), (0x0a01, 0x0a02));
        }
    }
}
