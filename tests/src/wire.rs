//! One end of an interface as a test sees it: frames in, frames out, byte by byte.

use std::time::{Duration, Instant};

use crate::{
    frame::{self, Mac},
    sys::{Offload, PacketSocket, Received},
};

/// How long a frame may take. Generous: a loaded machine is no failure.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Answers what a neighbour on the wire would be asked: ARP and neighbour solicitations for its addresses.
#[derive(Clone, Debug, Default)]
pub struct Neighbour {
    /// Its MAC.
    pub mac: Mac,
    /// Its addresses.
    pub addresses: Vec<std::net::IpAddr>,
    /// The tag under which it lives.
    pub vlan: Option<u16>,
}

/// A raw interface.
pub struct Wire {
    name: String,
    socket: PacketSocket,
    /// Neighbours that this wire plays while it waits for frames.
    pub neighbours: Vec<Neighbour>,
}

impl Wire {
    /// Wraps a socket.
    pub fn new(name: String, socket: PacketSocket) -> Self {
        Wire {
            name,
            socket,
            neighbours: Vec::new(),
        }
    }

    /// Sends a frame.
    pub fn send(&self, frame: &[u8]) {
        self.send_offloaded(frame, Offload::default());
    }

    /// Sends a frame with work left to do, as a kernel with checksum and segmentation offload does.
    pub fn send_offloaded(&self, frame: &[u8], offload: Offload) {
        if let Err(error) = self.socket.send(frame, offload) {
            panic!("sending {} bytes on {}: {error}", frame.len(), self.name);
        }
    }

    /// Sends a frame unless the kernel finds it too short to be one.
    pub fn try_send(&self, frame: &[u8]) -> bool {
        self.socket.send(frame, Offload::default()).is_ok()
    }

    /// The next frame that no neighbour of the wire takes for itself, if one comes in time.
    pub fn next(&mut self, patience: Duration) -> Option<Received> {
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let received = self
                .socket
                .receive(left)
                .unwrap_or_else(|error| panic!("receiving on {}: {error}", self.name))?;
            let answer = self
                .neighbours
                .iter()
                .find_map(|neighbour| frame::neighbour_answer(neighbour, &received.bytes));
            match answer {
                Some(answer) => self.send(&answer),
                None => return Some(received),
            }
        }
    }

    /// The next frame; the test fails if none comes.
    pub fn receive(&mut self) -> Vec<u8> {
        self.receive_with_offload().bytes
    }

    /// The next frame with its virtio header; the test fails if none comes.
    pub fn receive_with_offload(&mut self) -> Received {
        self.next(PATIENCE)
            .unwrap_or_else(|| panic!("no frame came on {}", self.name))
    }

    /// The next frame must be this one, to the last byte.
    pub fn expect(&mut self, expected: &[u8]) {
        let received = self.receive();
        assert!(
            received == expected,
            "another frame on {}\n{}",
            self.name,
            frame::difference(expected, &received)
        );
    }

    /// No frame may be waiting. Call it once a counter or a later frame shows that weftd is past the question.
    pub fn expect_nothing(&mut self) {
        if let Some(received) = self.next(Duration::from_millis(20)) {
            panic!(
                "a frame on {} that should not be\n{}",
                self.name,
                frame::dump(&received.bytes)
            );
        }
    }

    /// Takes what is waiting, and throws it away.
    pub fn clear(&mut self) {
        while self.next(Duration::ZERO).is_some() {}
    }

    /// Takes frames until none has come for `quiet`.
    pub fn drain(&mut self, quiet: Duration) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| self.next(quiet))
            .map(|received| received.bytes)
            .collect()
    }
}
