//! Replay files: UDP sessions between two tenants' subnets, each in both directions, so that stateful routers see them
//! established. Sessions come in shuffled order, as many users' packets do.
//!
//! Session k runs from 10.0.0.(2 + k mod 256) port 1024 + k mod 50,000 to 10.1.0.(2 + k div 256 mod 256) port
//! 2000 + k div 50,000. Files are made once and kept beside the programs, named by what is in them.

use std::{
    fmt, fs,
    io::{BufWriter, Read, Write},
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use weft_tests::frame::{self, Mac, Outer, Packet, Tunnel};

/// To whom tenants send: any address that is not theirs.
pub const ROUTER: Mac = [2, 0, 0, 0, 0, 0x01];
/// The tenants' own.
pub const TENANT: Mac = [2, 0, 0, 0, 0, 0xaa];
/// weft's on the underlay.
pub const UPLINK: Mac = [2, 0, 0, 0, 0, 0xbb];
/// The underlay's router, behind which the other vRouters are.
pub const NEIGHBOUR: Mac = [2, 0, 0, 0, 0, 0xcc];
/// weft's address on the underlay.
pub const LOCAL: &str = "198.18.0.1";
/// The other vRouter's.
pub const REMOTE: &str = "198.18.0.2";
/// A third's.
pub const FURTHER: &str = "198.18.0.3";
/// Tag of the tenants' frames.
pub const VLAN: u16 = 100;
/// VXLAN identifier of their network.
pub const VNI: u32 = 5000;

/// The classic mix, as 7 : 4 : 1; bytes of an untagged frame with its FCS.
const IMIX: [usize; 12] = [64, 594, 64, 64, 594, 64, 1518, 64, 594, 64, 64, 594];
/// A file holds at least so many sessions' packets: a shorter one would stay in the first cache.
const LEAST: usize = 5000;
const FCS: usize = 4;

/// How long the frames are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Size {
    /// 64 bytes, FCS included, once the tag or tunnel is gone.
    Small,
    /// 64, 594 and 1518 bytes as 7 : 4 : 1.
    Imix,
}

/// How the packets are wrapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wrapping {
    /// Tagged with [`VLAN`].
    Tagged,
    /// In VXLAN, from [`REMOTE`] to [`LOCAL`].
    Vxlan,
}

/// What is in a replay file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub struct Replay {
    pub sessions: usize,
    pub size: Size,
    pub wrapping: Wrapping,
}

impl fmt::Display for Replay {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = match self.size {
            Size::Small => "64",
            Size::Imix => "imix",
        };
        let wrapping = match self.wrapping {
            Wrapping::Tagged => "vlan",
            Wrapping::Vxlan => "vxlan",
        };
        write!(formatter, "{wrapping}-{size}-{}", self.sessions)
    }
}

impl Replay {
    /// Packets in the file.
    pub fn packets(&self) -> usize {
        2 * self.sessions * self.rounds()
    }

    fn rounds(&self) -> usize {
        (LEAST / self.sessions).max(1)
    }

    /// Bytes of the longest frame, without FCS.
    pub fn longest(&self) -> usize {
        let untagged = match self.size {
            Size::Small => 64,
            Size::Imix => 1518,
        };
        untagged - FCS
            + match self.wrapping {
                Wrapping::Tagged => 4,
                Wrapping::Vxlan => 50,
            }
    }

    /// The packets, in the order of the file, as they are inside of tag or tunnel.
    pub fn inner(self) -> impl Iterator<Item = Packet> {
        let mut order: Vec<usize> = (0..self.sessions).collect();
        shuffle(&mut order);
        (0..self.packets()).map(move |number| {
            let session = order[number / 2 % self.sessions];
            let frame = match self.size {
                Size::Small => 64,
                Size::Imix => IMIX[number % IMIX.len()],
            };
            packet(session, number % 2 == 1, frame - FCS - 14)
        })
    }

    /// The frame around a packet.
    pub fn frame(&self, packet: &Packet) -> Vec<u8> {
        match self.wrapping {
            Wrapping::Tagged => frame::tagged(VLAN, &packet.frame(ROUTER, TENANT)),
            Wrapping::Vxlan => {
                let mut outer = Outer::new(REMOTE, LOCAL);
                // What a sender would make of the flow: the inner ports, folded into the dynamic range.
                let ports = &packet.payload[..4];
                let folded =
                    u16::from_be_bytes([ports[0], ports[1]]) ^ u16::from_be_bytes([ports[2], ports[3]]);
                outer.entropy = 0xc000 | folded;
                let tunnel = Tunnel::Vxlan {
                    vni: VNI,
                    destination: weft_tests::lone::GATEWAY,
                    source: weft_tests::lone::GATEWAY,
                };
                outer.carry(&tunnel, packet).frame(UPLINK, NEIGHBOUR)
            }
        }
    }

    /// The file, made if it is not there yet.
    pub fn file(&self) -> Result<PathBuf> {
        self.stored(&self.to_string(), 0, 1)
    }

    /// A file for each direction: what the initiators send, and what they get back.
    pub fn directions(&self) -> Result<[PathBuf; 2]> {
        Ok([
            self.stored(&format!("{self}-there"), 0, 2)?,
            self.stored(&format!("{self}-back"), 1, 2)?,
        ])
    }

    /// Every `step`th packet from the one at `first` on.
    fn stored(&self, name: &str, first: usize, step: usize) -> Result<PathBuf> {
        let directory = std::env::current_exe()?.with_file_name("replay");
        fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
        let path = directory.join(format!("{name}.pcap"));
        if !path.exists() {
            // Under another name until it is whole.
            let partial = path.with_extension(std::process::id().to_string());
            let packets = self.inner().skip(first).step_by(step);
            let written = write(&partial, packets.map(|packet| self.frame(&packet)));
            written.with_context(|| partial.display().to_string())?;
            fs::rename(&partial, &path)?;
        }
        Ok(path)
    }
}

fn packet(session: usize, back: bool, length: usize) -> Packet {
    let from = Ipv4Addr::from(0x0a00_0002 + (session & 0xff) as u32);
    let to = Ipv4Addr::from(0x0a01_0002 + (session >> 8 & 0xff) as u32);
    let ports = [1024 + (session % 50_000) as u16, 2000 + (session / 50_000) as u16];
    let (from, to, ports) = if back {
        (to, from, [ports[1], ports[0]])
    } else {
        (from, to, ports)
    };
    let datagram = (length - 20) as u16;
    let mut payload = [ports[0], ports[1], datagram, 0].map(u16::to_be_bytes).concat();
    payload.resize(usize::from(datagram), 0);
    let mut packet = Packet::new(from.into(), to.into(), frame::protocol::UDP, payload);
    packet.identification = 0;
    packet
}

/// Fisher and Yates, by a xorshift generator: the same order in each run.
fn shuffle(order: &mut [usize]) {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for end in (1..order.len()).rev() {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        order.swap(end, (random % (end as u64 + 1)) as usize);
    }
}

/// Writes frames as a pcap file (draft-ietf-opsawg-pcap): little-endian, microseconds, Ethernet.
pub fn write(path: &Path, frames: impl Iterator<Item = Vec<u8>>) -> Result<()> {
    let mut file = BufWriter::with_capacity(1 << 20, fs::File::create(path)?);
    for word in [0xa1b2_c3d4_u32, 4 << 16 | 2, 0, 0, 65_535, 1] {
        file.write_all(&word.to_le_bytes())?;
    }
    for frame in frames {
        let length = (frame.len() as u32).to_le_bytes();
        file.write_all(&[[0; 4], [0; 4], length, length].concat())?;
        file.write_all(&frame)?;
    }
    Ok(file.flush()?)
}

/// The frames of a pcap file that was written on this machine.
pub fn read(path: &Path) -> Result<Vec<Vec<u8>>> {
    let mut bytes = Vec::new();
    fs::File::open(path)
        .with_context(|| path.display().to_string())?
        .read_to_end(&mut bytes)?;
    let word = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    if !matches!(word(0), Some(0xa1b2_c3d4 | 0xa1b2_3c4d)) {
        bail!("{}: no pcap file of this machine", path.display());
    }
    let (mut frames, mut at) = (Vec::new(), 24);
    while at < bytes.len() {
        let frame = word(at + 8).and_then(|length| bytes.get(at + 16..at + 16 + length as usize));
        let frame = frame.with_context(|| format!("{}: cut off at byte {at}", path.display()))?;
        frames.push(frame.to_vec());
        at += 16 + frame.len();
    }
    Ok(frames)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const TAGGED: Replay = Replay {
        sessions: 3,
        size: Size::Small,
        wrapping: Wrapping::Tagged,
    };

    #[test]
    fn a_tagged_frame_is_64_bytes_once_its_tag_is_gone() {
        let packet = TAGGED.inner().next().unwrap();
        let frame = TAGGED.frame(&packet);
        assert_eq!(frame.len() + FCS, 64 + 4);
        assert_eq!(frame.len(), TAGGED.longest());
        assert_eq!(frame[12..18], [0x81, 0, 0, 100, 8, 0]);
        // Total length, protocol, source address of the first session there is.
        assert_eq!(frame[20..22], [0, 46]);
        assert_eq!(frame[27], 17);
        assert_eq!(frame::checksum(&[&frame[18..38]]), 0);
    }

    #[test]
    fn every_session_has_both_directions_equally_often() {
        for sessions in [1, 3, 7000] {
            let replay = Replay { sessions, ..TAGGED };
            let mut seen: BTreeMap<Vec<u8>, (usize, usize)> = BTreeMap::new();
            for packet in replay.inner() {
                let bytes = packet.bytes();
                let (from, to) = (
                    [&bytes[12..16], &bytes[20..22]].concat(),
                    [&bytes[16..20], &bytes[22..24]].concat(),
                );
                if from < to {
                    seen.entry([from, to].concat()).or_default().0 += 1;
                } else {
                    seen.entry([to, from].concat()).or_default().1 += 1;
                }
            }
            assert_eq!(seen.len(), sessions);
            let each = replay.packets() / sessions / 2;
            assert!(seen.values().all(|counts| *counts == (each, each)));
        }
    }

    #[test]
    fn order_is_shuffled_and_the_same_each_time() {
        let replay = Replay {
            sessions: 1000,
            ..TAGGED
        };
        let ports = |replay: Replay| {
            replay
                .inner()
                .map(|packet| packet.payload[..2].to_vec())
                .collect::<Vec<_>>()
        };
        let order = ports(replay);
        assert_eq!(order, ports(replay));
        assert!(!order.is_sorted());
    }

    #[test]
    fn imix_is_seven_four_one() {
        let replay = Replay {
            sessions: 6000,
            size: Size::Imix,
            ..TAGGED
        };
        let mut lengths: BTreeMap<usize, usize> = BTreeMap::new();
        for packet in replay.inner() {
            *lengths.entry(replay.frame(&packet).len() + FCS - 4).or_default() += 1;
        }
        assert_eq!(lengths, BTreeMap::from([(64, 7000), (594, 4000), (1518, 1000)]));
    }

    #[test]
    fn a_tunnelled_frame_carries_the_same_packet_in_vxlan() {
        let replay = Replay {
            wrapping: Wrapping::Vxlan,
            ..TAGGED
        };
        let packet = replay.inner().next().unwrap();
        let frame = replay.frame(&packet);
        assert_eq!(frame.len(), replay.longest());
        assert_eq!(frame[36..38], 4789_u16.to_be_bytes());
        assert_eq!(frame[46..49], [0, 0x13, 0x88]);
        assert_eq!(frame[64..], packet.bytes());
    }

    #[test]
    fn a_file_holds_what_was_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.pcap");
        let frames: Vec<Vec<u8>> = TAGGED
            .inner()
            .take(9)
            .map(|packet| TAGGED.frame(&packet))
            .collect();
        write(&path, frames.iter().cloned()).unwrap();
        assert_eq!(read(&path).unwrap(), frames);
        fs::write(&path, &fs::read(&path).unwrap()[..100]).unwrap();
        assert!(read(&path).is_err(), "a file that was cut off was taken");
    }
}
