//! A virtual machine: QEMU with Debian's kernel, a busybox userland and virtio-net over vhost-user.
//!
//! QEMU owns the vhost-user socket and weftd connects to it, so that the guest outlives a restart of weftd.
//! `tests/guest/build` makes kernel and initramfs. TCG with `vectors=0`: QEMU 7.2 without KVM crashes on MSI-X over
//! vhost-user.

use std::{
    fs,
    io::{self, Read, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

use crate::{eventually, namespace::Namespace, sys, within};

/// Boot and each command; TCG on a shared core is slow.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long weftd may take to connect, without which QEMU does nothing.
const MOST: Duration = Duration::from_secs(300);

/// What a guest is told on its kernel's command line.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Used in file names.
    pub name: String,
    /// Of its only interface.
    pub mac: String,
    /// With prefix length.
    pub addresses: Vec<String>,
    /// Default routers, one a family.
    pub gateways: Vec<String>,
}

/// A running virtual machine.
pub struct Guest {
    process: Child,
    console: Option<UnixStream>,
    /// The console, as soon as QEMU opens it: what a guest says to nobody is lost.
    opened: Receiver<UnixStream>,
    socket: PathBuf,
    log: PathBuf,
}

impl Guest {
    /// Starts QEMU; it boots as soon as weftd connects to [`Guest::socket`].
    pub fn start(directory: &Path, settings: &Settings) -> Self {
        let socket = directory.join(format!("{}.vhost", settings.name));
        let mut line = String::new();
        for address in &settings.addresses {
            line += &format!(" weft.address={address}");
        }
        for gateway in &settings.gateways {
            line += &format!(" weft.gateway={gateway}");
        }
        let mut command = Command::new("qemu-system-x86_64");
        command
            .args(["-m", "192"])
            .args(["-object", "memory-backend-memfd,id=memory,size=192M,share=on"])
            .args(["-numa", "node,memdev=memory"])
            .args([
                "-chardev",
                &format!("socket,id=vhost,path={},server=on", socket.display()),
            ])
            .args(["-netdev", "vhost-user,id=net,chardev=vhost"])
            .args([
                "-device",
                &format!(
                    "virtio-net-pci,netdev=net,romfile=,vectors=0,mac={}",
                    settings.mac
                ),
            ]);
        Guest::boot(command, directory, &settings.name, "initramfs", &line, socket)
    }

    /// Starts a machine with an IOMMU, a PCI network card and weft inside; the card's cable is the tap `tap` in
    /// `namespace`.
    pub fn start_with_nic(directory: &Path, name: &str, mac: &str, namespace: &Namespace, tap: &str) -> Self {
        let mut command = namespace.command("qemu-system-x86_64");
        command
            .args([
                "-m",
                "1024",
                "-cpu",
                "max",
                "-machine",
                "q35,kernel-irqchip=split",
            ])
            .args(["-device", "intel-iommu,intremap=on,caching-mode=on"])
            .args([
                "-netdev",
                &format!("tap,id=net,ifname={tap},script=no,downscript=no"),
            ])
            .args(["-device", &format!("e1000e,netdev=net,romfile=,mac={mac}")]);
        let line = " intel_iommu=on iommu=pt hugepages=192";
        Guest::boot(command, directory, name, "initramfs-weft", line, PathBuf::new())
    }

    fn boot(
        mut command: Command,
        directory: &Path,
        name: &str,
        initramfs: &str,
        line: &str,
        socket: PathBuf,
    ) -> Self {
        let image = image_directory();
        let (console_path, log) = (
            directory.join(format!("{name}.console")),
            directory.join(format!("{name}.qemu.log")),
        );
        let output = fs::File::create(&log).expect("a log file");
        let process = sys::end_with_us(
            command
                .args(["-accel", "tcg", "-nodefaults", "-display", "none", "-no-reboot"])
                .arg("-kernel")
                .arg(image.join("vmlinuz"))
                .arg("-initrd")
                .arg(image.join(initramfs))
                .args(["-append", &format!("console=ttyS0 quiet panic=-1{line}")])
                .args([
                    "-serial",
                    &format!("unix:{},server=on,wait=off", console_path.display()),
                ]),
        )
        .stdin(Stdio::null())
        .stdout(output.try_clone().expect("a second handle"))
        .stderr(output)
        .spawn()
        .unwrap_or_else(|error| panic!("qemu-system-x86_64 does not start: {error}"));
        let (listener, opened) = mpsc::channel();
        thread::spawn(move || {
            let console = within(MOST, || UnixStream::connect(&console_path).ok());
            console.map(|console| listener.send(console))
        });
        Guest {
            process,
            console: None,
            opened,
            socket,
            log,
        }
    }

    /// The socket to which weftd connects.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Waits until QEMU's vhost-user socket is there, for weftd to connect to. QEMU goes on only then.
    pub fn wait_for_socket(&mut self) {
        eventually("QEMU makes its vhost-user socket", || {
            self.socket.exists().then_some(())
        });
    }

    /// Runs a shell line in the guest that must succeed.
    pub fn must(&mut self, line: &str) -> String {
        let (status, text) = self.run(line);
        assert_eq!(status, 0, "`{line}` in the guest:\n{text}");
        text
    }

    /// Waits until the guest takes commands.
    pub fn wait_until_ready(&mut self) {
        let console = self
            .opened
            .recv_timeout(PATIENCE)
            .expect("QEMU opens the guest's console");
        console
            .set_read_timeout(Some(Duration::from_secs(1)))
            .expect("a timeout can be set");
        self.console = Some(console);
        self.read_until("guest-ready");
    }

    /// Runs a shell line in the guest and returns its exit status and output.
    pub fn run(&mut self, line: &str) -> (i32, String) {
        self.send(line);
        let text = self.read_until("guest-exit: ");
        let status = self.read_until("\n");
        (status.trim().parse().unwrap_or(-1), text.replace('\r', ""))
    }

    fn send(&mut self, line: &str) {
        let console = self.console.as_mut().expect("the guest is ready");
        console
            .write_all(format!("{line}\n").as_bytes())
            .expect("the console takes a line");
    }

    /// Reads up to and including `mark`, and returns what came before it.
    fn read_until(&mut self, mark: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut text = Vec::new();
        let mut byte = [0];
        while !text.ends_with(mark.as_bytes()) {
            let console = self.console.as_mut().expect("the guest is ready");
            match console.read(&mut byte) {
                Ok(1) => text.push(byte[0]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < deadline => {}
                _ => panic!(
                    "the guest's console said no {mark:?} but:\n{}\nQEMU said:\n{}",
                    String::from_utf8_lossy(&text),
                    fs::read_to_string(&self.log).unwrap_or_default()
                ),
            }
        }
        text.truncate(text.len() - mark.len());
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Pings; returns how many answers came.
    pub fn ping(&mut self, target: &str, count: u32) -> u32 {
        let (_, text) = self.run(&format!("ping -c {count} -i 0.2 -W 3 {target}"));
        received_pings(&text)
    }

    /// Ends the guest in mid-flight.
    pub fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Is QEMU still there?
    pub fn is_running(&mut self) -> bool {
        matches!(self.process.try_wait(), Ok(None))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if let Some(console) = &self.console {
            let _ = console.shutdown(Shutdown::Both);
        }
        self.kill();
    }
}

/// "3 packets transmitted, 2 received" or busybox's "2 packets received".
pub fn received_pings(text: &str) -> u32 {
    let summary = text
        .lines()
        .find(|line| line.contains("packets transmitted"))
        .unwrap_or_default();
    let received = summary
        .split(", ")
        .find(|part| part.contains("received"))
        .unwrap_or_default();
    received
        .split(' ')
        .next()
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}

fn image_directory() -> PathBuf {
    let directory = std::env::var_os("WEFT_GUEST_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/guest"),
        PathBuf::from,
    );
    assert!(
        directory.join("initramfs").exists(),
        "no guest in {}: run `./dev setup`",
        directory.display()
    );
    directory
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_pings_summaries_are_understood() {
        assert_eq!(
            received_pings("5 packets transmitted, 3 packets received, 40% packet loss"),
            3
        );
        assert_eq!(
            received_pings("5 packets transmitted, 4 received, 20% packet loss, time 9ms"),
            4
        );
        assert_eq!(received_pings("ping: unknown host"), 0);
    }
}
