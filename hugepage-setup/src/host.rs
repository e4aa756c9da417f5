//! The machine as files under a root: /proc, /sys, /etc and /var/lib.
//!
//! Reading goes to the file system directly. What makes the kernel act (a write to a control file, a command) goes
//! through [`Kernel`], which a test replaces by one that behaves as the kernel would.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

/// What changes the machine.
pub trait Kernel: Send + Sync {
    /// Writes a control file or a configuration file; `path` lies under the host's root already.
    fn write(&self, path: &Path, value: &str) -> io::Result<()>;

    /// Runs a command; what it wrote to standard error becomes the error's text.
    fn run(&self, program: &str, arguments: &[&str]) -> io::Result<()>;
}

/// The kernel that this process runs on.
pub struct LiveKernel;

impl Kernel for LiveKernel {
    fn write(&self, path: &Path, value: &str) -> io::Result<()> {
        fs::write(path, value)
    }

    fn run(&self, program: &str, arguments: &[&str]) -> io::Result<()> {
        let output = Command::new(program).args(arguments).output()?;
        if output.status.success() {
            return Ok(());
        }
        let message = String::from_utf8_lossy(&output.stderr);
        let message = message.trim();
        Err(io::Error::other(if message.is_empty() {
            output.status.to_string()
        } else {
            message.to_owned()
        }))
    }
}

/// Files of another root only: commands would act on the machine itself, so there are none.
struct FilesOnly;

impl Kernel for FilesOnly {
    fn write(&self, path: &Path, value: &str) -> io::Result<()> {
        fs::write(path, value)
    }

    fn run(&self, program: &str, _arguments: &[&str]) -> io::Result<()> {
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            format!("`{program}` runs on the machine itself only, not under another root"),
        ))
    }
}

/// A machine to look at and to prepare.
pub struct Host {
    root: PathBuf,
    kernel: Box<dyn Kernel>,
}

impl Host {
    /// This machine.
    pub fn local() -> Self {
        Self::with_kernel(Path::new("/"), Box::new(LiveKernel))
    }

    /// The machine whose /proc, /sys, /etc and /var lie under `root`. Under another root than "/" no command runs.
    pub fn at(root: &Path) -> Self {
        if root == Path::new("/") {
            return Self::local();
        }
        Self::with_kernel(root, Box::new(FilesOnly))
    }

    /// A machine with a kernel of its own making.
    pub fn with_kernel(root: &Path, kernel: Box<dyn Kernel>) -> Self {
        Self {
            root: root.to_owned(),
            kernel,
        }
    }

    /// Where `path` ("/sys/…") lies under the root.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// A file's text without the white space around it; none if it cannot be read.
    pub fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.path(path))
            .ok()
            .map(|text| text.trim().to_owned())
    }

    /// A file's text as it is.
    pub fn read_exact(&self, path: &str) -> io::Result<String> {
        fs::read_to_string(self.path(path))
    }

    /// A file that holds one number.
    pub fn read_number(&self, path: &str) -> Option<u64> {
        self.read(path)?.parse().ok()
    }

    /// Names in a directory, sorted; empty if there is none.
    pub fn list(&self, path: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path(path)) else {
            return Vec::new();
        };
        let mut names: Vec<String> = entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort();
        names
    }

    /// True for files, directories and links.
    pub fn exists(&self, path: &str) -> bool {
        fs::symlink_metadata(self.path(path)).is_ok()
    }

    /// The last part of what a link points at, which is how sysfs names drivers and groups.
    pub fn link_name(&self, path: &str) -> Option<String> {
        let target = fs::read_link(self.path(path)).ok()?;
        Some(target.file_name()?.to_str()?.to_owned())
    }

    /// Where a command lies, looked for where Debian puts commands.
    pub fn find_command(&self, name: &str) -> Option<String> {
        [
            "/usr/sbin",
            "/usr/bin",
            "/sbin",
            "/bin",
            "/usr/local/sbin",
            "/usr/local/bin",
        ]
        .iter()
        .map(|directory| format!("{directory}/{name}"))
        .find(|path| self.path(path).is_file())
    }

    /// Writes a file through the kernel.
    pub fn write(&self, path: &str, value: &str) -> io::Result<()> {
        self.kernel.write(&self.path(path), value)
    }

    /// Runs a command through the kernel.
    pub fn run(&self, program: &str, arguments: &[&str]) -> io::Result<()> {
        self.kernel.run(program, arguments)
    }

    /// Makes a directory and those above it.
    pub fn make_directory(&self, path: &str) -> io::Result<()> {
        fs::create_dir_all(self.path(path))
    }

    /// Removes a file; one that is not there is no error.
    pub fn remove_file(&self, path: &str) -> io::Result<()> {
        match fs::remove_file(self.path(path)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Removes an empty directory; one that is not there is no error.
    pub fn remove_directory(&self, path: &str) -> io::Result<()> {
        match fs::remove_dir(self.path(path)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Changes from start to start of the machine; tells what a reboot has undone already.
    pub fn boot_id(&self) -> String {
        self.read("/proc/sys/kernel/random/boot_id").unwrap_or_default()
    }

    /// The kernel's release, as `uname -r` shows it.
    pub fn kernel_release(&self) -> String {
        self.read("/proc/sys/kernel/osrelease").unwrap_or_default()
    }

    /// A parameter of the kernel command line: `Some("")` for one without a value.
    pub fn boot_parameter(&self, name: &str) -> Option<String> {
        let line = self.read("/proc/cmdline")?;
        line.split_whitespace().find_map(|word| {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            (key == name).then(|| value.to_owned())
        })
    }
}
