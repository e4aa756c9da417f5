//! What crosses the wire between the hosts: caught by tcpdump, judged frame by frame.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Stdio},
};

use weft_tests::{eventually, namespace::Namespace, sys};

/// tcpdump on one end of the wire, for what arrives there.
pub struct Capture {
    process: Child,
    file: PathBuf,
}

impl Capture {
    /// Starts it.
    pub fn start(namespace: &Namespace, file: &Path) -> Self {
        let log = file.with_extension("log");
        let mut command = namespace.command("tcpdump");
        command
            .args([
                "-i", "u1", "-Q", "in", "-s", "160", "-B", "32768", "-U", "-Z", "root", "-w",
            ])
            .arg(file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log).expect("a log file"));
        let process = sys::end_with_us(&mut command).spawn().expect("tcpdump starts");
        eventually("tcpdump listens", || {
            fs::read_to_string(&log)
                .ok()?
                .contains("listening on")
                .then_some(())
        });
        Capture {
            process,
            file: file.to_owned(),
        }
    }

    /// Ends it and counts what it caught.
    pub fn count(mut self, into: &mut Crossed) {
        sys::signal(self.process.id(), libc::SIGTERM).expect("tcpdump is there");
        let _ = self.process.wait();
        let bytes = fs::read(&self.file).expect("the capture");
        let mut rest = bytes.get(24..).unwrap_or_default();
        while let Some((header, body)) = rest.split_at_checked(16) {
            let length = u32::from_le_bytes([header[8], header[9], header[10], header[11]]) as usize;
            let Some((frame, more)) = body.split_at_checked(length) else {
                break;
            };
            into.take(frame);
            rest = more;
        }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Frames by what they are.
#[derive(Debug, Default)]
pub struct Crossed {
    /// Carrying tenants' packets in VXLAN.
    pub vxlan: u64,
    /// Carrying tenants' packets in MPLS over UDP.
    pub mpls_over_udp: u64,
    /// Of these, with a broadcast or multicast destination inside.
    pub flooded: u64,
    /// ARP and neighbour discovery of the underlay.
    pub neighbours: u64,
    /// The hosts' own packets.
    pub hosts: u64,
    /// Everything else: nothing, if all is well.
    pub strange: Vec<String>,
}

impl Crossed {
    fn take(&mut self, frame: &[u8]) {
        let kind = frame
            .get(12..14)
            .map(|kind| u16::from_be_bytes([kind[0], kind[1]]));
        match kind {
            Some(0x0806) if frame.get(28..31) == Some(&[198, 18, 0]) => self.neighbours += 1,
            Some(0x0800) if frame.get(26..29) == Some(&[198, 18, 0]) => self.take_ipv4(frame),
            // Link-local or the underlay's prefix.
            Some(0x86dd)
                if matches!(frame.get(22..24), Some([0xfe, 0x80] | [0xfd, 0x00])) && !tenant_v6(frame) =>
            {
                match frame.get(54) {
                    Some(133..=137) if frame[20] == 58 => self.neighbours += 1,
                    _ => self.hosts += 1,
                }
            }
            // The unspecified address: a host that asks whether an address of its own is free, or joins a group.
            Some(0x86dd) if frame.get(22..38) == Some(&[0; 16]) => self.neighbours += 1,
            _ => self.strange.push(weft_tests::frame::dump(frame)),
        }
    }

    fn take_ipv4(&mut self, frame: &[u8]) {
        let port = frame
            .get(36..38)
            .map(|port| u16::from_be_bytes([port[0], port[1]]));
        match (frame.get(23), port) {
            (Some(17), Some(4789)) => {
                self.vxlan += 1;
                // The inner frame: its MAC, and the packet behind it.
                let multicast = frame.get(50).is_none_or(|byte| byte & 1 == 1);
                self.flooded += u64::from(multicast || flooding(frame.get(64..).unwrap_or_default()));
            }
            (Some(17), Some(6635)) => {
                self.mpls_over_udp += 1;
                self.flooded += u64::from(flooding(frame.get(46..).unwrap_or_default()));
            }
            _ => self.hosts += 1,
        }
    }
}

/// fd00:1::/64 is red's: it has no business on the underlay by itself.
fn tenant_v6(frame: &[u8]) -> bool {
    [22, 38]
        .into_iter()
        .any(|at| frame.get(at..at + 4) == Some(&[0xfd, 0, 0, 1]))
}

/// Is this packet for more than one?
fn flooding(packet: &[u8]) -> bool {
    match packet.first().map(|byte| byte >> 4) {
        Some(4) => packet
            .get(16..20)
            .is_none_or(|address| address[0] >= 224 || address[3] == 255),
        Some(6) => packet.get(24).is_none_or(|byte| *byte == 0xff),
        _ => true,
    }
}
