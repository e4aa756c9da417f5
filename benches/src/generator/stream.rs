//! What a stream is: which frames with which sessions leave by which device, how fast.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};
use weft_packet::Mac;

use super::{
    pace::Rate,
    tuple::{Life, Space},
};

/// See the module. Streams are numbered by their place in the list that a run starts with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stream {
    /// Index of the device that sends; its frames are counted wherever they arrive.
    pub device: usize,
    /// How fast.
    pub rate: Rate,
    /// Ends after so many packets.
    pub packets: Option<u64>,
    /// What the frames are.
    pub frames: Frames,
    /// Where sessions take their addresses and ports from, as the initiator writes them.
    pub space: Space,
    /// So many sessions, over and over; None: a new one with each packet.
    pub sessions: Option<u64>,
    /// How sessions begin and end.
    pub life: Life,
    /// What is sent are the answers.
    pub reversed: bool,
}

/// The headers that all frames of a stream have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Frames {
    /// The next router's address.
    #[serde(with = "MacBytes")]
    pub destination: Mac,
    /// The sender's.
    #[serde(with = "MacBytes")]
    pub source: Mac,
    /// Tag.
    pub vlan: Option<u16>,
    /// Sent as another vRouter would send it.
    pub tunnel: Option<Tunnel>,
    /// How long.
    pub sizes: Sizes,
}

/// The outer header of what comes out of the underlay.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tunnel {
    /// The far end's address.
    pub local: Ipv4Addr,
    /// weft's.
    pub remote: Ipv4Addr,
    /// VNI or label.
    pub identifier: Identifier,
}

/// Which encapsulation, with the number that names the VRF.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum Identifier {
    Vni(u32),
    Label(u32),
}

/// Lengths of frames, bytes with the FCS, as RFC 2544 counts them (in memory they are 4 shorter). With a tag or a
/// tunnel it is the frame inside that has this length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sizes {
    /// All alike; TCP frames have 74 at least.
    Fixed(u16),
    /// 7 of 64, 4 of 594 and 1 of 1518: 366 bytes on average.
    Imix,
}

impl Sizes {
    /// The lengths in the order in which they come, over and over.
    pub fn pattern(self) -> Vec<u16> {
        match self {
            Sizes::Fixed(size) => vec![size],
            Sizes::Imix => vec![64, 594, 64, 594, 64, 1518, 64, 594, 64, 594, 64, 64],
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Mac")]
struct MacBytes([u8; 6]);
