//! One end of an interface as a test sees it: frames in, frames out, byte by byte.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError, Weak},
    thread,
    time::{Duration, Instant},
};

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
    /// Opens another socket on the interface.
    open: Box<dyn Fn() -> io::Result<PacketSocket> + Send + Sync>,
    neighbours: Arc<Mutex<Vec<Neighbour>>>,
}

impl Wire {
    /// A wire on the interface that `open` opens a socket on.
    pub fn new(
        name: String,
        open: Box<dyn Fn() -> io::Result<PacketSocket> + Send + Sync>,
    ) -> io::Result<Self> {
        Ok(Wire {
            name,
            socket: open()?,
            open,
            neighbours: Arc::default(),
        })
    }

    /// Plays a neighbour from now on, whatever the test is doing: weftd asks when it wants to know.
    pub fn play(&mut self, neighbour: Neighbour) {
        let mut neighbours = self.neighbours.lock().unwrap_or_else(PoisonError::into_inner);
        neighbours.push(neighbour);
        if neighbours.len() == 1 {
            let ear = (self.open)().unwrap_or_else(|error| panic!("listening on {}: {error}", self.name));
            let neighbours = Arc::downgrade(&self.neighbours);
            thread::spawn(move || answer_while_wanted(&ear, &neighbours));
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
            if answer(&self.neighbours, &received.bytes).is_none() {
                return Some(received);
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

    /// Throws frames away until this one comes; the test fails if it does not.
    pub fn skip_to(&mut self, expected: &[u8]) {
        let deadline = Instant::now() + 2 * PATIENCE;
        while self.receive() != expected {
            assert!(
                Instant::now() < deadline,
                "this frame never came on {}\n{}",
                self.name,
                frame::dump(expected)
            );
        }
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

/// What one of the neighbours says to a frame, if it asks for one of them.
fn answer(neighbours: &Mutex<Vec<Neighbour>>, frame: &[u8]) -> Option<Vec<u8>> {
    let neighbours = neighbours.lock().unwrap_or_else(PoisonError::into_inner);
    neighbours
        .iter()
        .find_map(|neighbour| frame::neighbour_answer(neighbour, frame))
}

/// Ends with the wire, or with its interface.
fn answer_while_wanted(ear: &PacketSocket, neighbours: &Weak<Mutex<Vec<Neighbour>>>) {
    while let Some(neighbours) = neighbours.upgrade() {
        match ear.receive(Duration::from_millis(50)) {
            Ok(Some(received)) => {
                if let Some(answer) = answer(&neighbours, &received.bytes) {
                    let _ = ear.send(&answer, Offload::default());
                }
            }
            Ok(None) => {}
            Err(_) => return,
        }
    }
}
