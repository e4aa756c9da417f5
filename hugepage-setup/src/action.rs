//! The steps that change a host: each can be shown, done, and undone.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{bind, error::SetupError, host::Host, journal::Journal, pci::PciAddress};

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Sets the size of a hugepage pool, all or nothing.
    SetPages {
        /// The pool's nr_hugepages.
        path: String,
        /// Pages wanted.
        pages: u64,
        /// Pages now.
        before: u64,
    },
    /// Writes a configuration file.
    WriteFile {
        /// The file.
        path: String,
        /// Its new text.
        content: String,
        /// Its text now; none: it does not exist.
        before: Option<String>,
    },
    /// Makes a directory.
    MakeDirectory {
        /// The directory.
        path: String,
    },
    /// Mounts a hugetlbfs.
    Mount {
        /// Where.
        path: String,
        /// Size of its pages.
        size: String,
    },
    /// Loads a kernel module.
    LoadModule {
        /// The module.
        name: String,
    },
    /// Gives a PCI device to a driver.
    Bind {
        /// The device.
        device: String,
        /// The driver; none: whichever the kernel would choose.
        driver: Option<String>,
        /// The driver that holds it now.
        before: Option<String>,
    },
}

/// What takes a step back. Kept in the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "undo", rename_all = "kebab-case")]
pub enum Undo {
    /// Sets a pool back.
    SetPages {
        /// The pool's nr_hugepages.
        path: String,
        /// Pages to go back to.
        pages: u64,
    },
    /// Puts a file's old text back, or removes the file.
    RestoreFile {
        /// The file.
        path: String,
        /// Its old text; none: it did not exist.
        content: Option<String>,
    },
    /// Removes a directory that was made.
    RemoveDirectory {
        /// The directory.
        path: String,
    },
    /// Unmounts.
    Unmount {
        /// Where.
        path: String,
    },
    /// Gives a device back to the driver that had it.
    Rebind {
        /// The device.
        device: String,
        /// The driver; none: no driver had it.
        driver: Option<String>,
    },
}

/// Steps in order, and what the operator should know besides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// What will be done.
    pub actions: Vec<Action>,
    /// What will not be done, and why, or what is left to do by hand.
    pub notes: Vec<String>,
}

impl Plan {
    /// Does every step, each recorded before it is done, so that a crash in between can be undone too. Stops at the
    /// first that fails; those before it stay and stay recorded.
    pub fn perform(
        &self,
        host: &Host,
        journal: &mut Journal,
        mut done: impl FnMut(&Action),
    ) -> Result<(), SetupError> {
        for action in &self.actions {
            if let Some(undo) = action.undo() {
                journal.record(host, undo, action.to_string())?;
            }
            if let Err(error) = action.perform(host) {
                if action.undo().is_some() {
                    journal.forget_last(host)?;
                }
                return Err(error);
            }
            done(action);
        }
        Ok(())
    }
}

impl Action {
    /// What takes this step back; none for a module, which does no harm and may have found users.
    fn undo(&self) -> Option<Undo> {
        Some(match self {
            Self::SetPages { path, before, .. } => Undo::SetPages {
                path: path.clone(),
                pages: *before,
            },
            Self::WriteFile { path, before, .. } => Undo::RestoreFile {
                path: path.clone(),
                content: before.clone(),
            },
            Self::MakeDirectory { path } => Undo::RemoveDirectory { path: path.clone() },
            Self::Mount { path, .. } => Undo::Unmount { path: path.clone() },
            Self::Bind { device, before, .. } => Undo::Rebind {
                device: device.clone(),
                driver: before.clone(),
            },
            Self::LoadModule { .. } => return None,
        })
    }

    fn perform(&self, host: &Host) -> Result<(), SetupError> {
        let failed = || SetupError::io(self.to_string());
        match self {
            Self::SetPages { path, pages, before } => set_pages(host, path, *pages, *before),
            Self::WriteFile { path, content, .. } => write_file(host, path, content),
            Self::MakeDirectory { path } => host.make_directory(path).map_err(failed()),
            Self::Mount { path, size } => {
                let options = format!("pagesize={size}");
                host.run("mount", &["-t", "hugetlbfs", "-o", &options, "nodev", path])
                    .map_err(failed())
            }
            Self::LoadModule { name } => host.run("modprobe", &[name]).map_err(failed()),
            Self::Bind {
                device,
                driver,
                before,
            } => {
                let device = device.parse::<PciAddress>()?;
                bind::rebind(host, &device, driver.as_deref()).inspect_err(|_| {
                    // The device must not stay without a driver; the first error is the one to report.
                    let _ = bind::restore(host, &device, before.as_deref());
                })
            }
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SetPages { path, pages, before } => write!(f, "write {pages} to {path} (now {before})"),
            Self::WriteFile {
                path,
                content,
                before,
            } => {
                let verb = if before.is_some() { "change" } else { "write" };
                let lines: Vec<&str> = content
                    .lines()
                    .filter(|line| !line.starts_with('#') && !line.is_empty())
                    .collect();
                if lines.len() > 3 {
                    return write!(f, "{verb} {path} ({} lines)", content.lines().count());
                }
                write!(f, "{verb} {path}: {}", lines.join("; "))
            }
            Self::MakeDirectory { path } => write!(f, "make directory {path}"),
            Self::Mount { path, size } => write!(f, "mount hugetlbfs with pages of {size} at {path}"),
            Self::LoadModule { name } => write!(f, "load kernel module {name}"),
            Self::Bind {
                device,
                driver,
                before,
            } => {
                let before = before.as_deref().unwrap_or("no driver");
                match driver {
                    Some(driver) => write!(f, "bind {device} to {driver} (now {before})"),
                    None => write!(f, "give {device} back to its kernel driver (now {before})"),
                }
            }
        }
    }
}

impl Undo {
    /// True if a reboot does the same, so that nothing is left to take back.
    pub fn ends_with_boot(&self) -> bool {
        !matches!(self, Self::RestoreFile { .. })
    }

    /// Takes the step back.
    pub fn perform(&self, host: &Host) -> Result<(), SetupError> {
        let failed = || SetupError::io(self.to_string());
        match self {
            Self::SetPages { path, pages } => host.write(path, &format!("{pages}\n")).map_err(failed()),
            Self::RestoreFile {
                path,
                content: Some(content),
            } => write_file(host, path, content),
            Self::RestoreFile { path, content: None } => host.remove_file(path).map_err(failed()),
            Self::RemoveDirectory { path } => host.remove_directory(path).map_err(failed()),
            Self::Unmount { path } => host.run("umount", &[path]).map_err(failed()),
            Self::Rebind { device, driver } => {
                bind::restore(host, &device.parse::<PciAddress>()?, driver.as_deref())
            }
        }
    }
}

impl fmt::Display for Undo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SetPages { path, pages } => write!(f, "write {pages} to {path}"),
            Self::RestoreFile {
                path,
                content: Some(_),
            } => write!(f, "restore {path}"),
            Self::RestoreFile { path, content: None } => write!(f, "remove {path}"),
            Self::RemoveDirectory { path } => write!(f, "remove directory {path}"),
            Self::Unmount { path } => write!(f, "unmount {path}"),
            Self::Rebind {
                device,
                driver: Some(driver),
            } => write!(f, "give {device} back to {driver}"),
            Self::Rebind { device, driver: None } => write!(f, "leave {device} without a driver"),
        }
    }
}

fn set_pages(host: &Host, path: &str, pages: u64, before: u64) -> Result<(), SetupError> {
    let failed = || SetupError::io(format!("write {pages} to {path}"));
    host.write(path, &format!("{pages}\n")).map_err(failed())?;
    // The kernel takes what it finds and reports no error: only reading it back tells.
    let got = host.read_number(path).unwrap_or(0);
    if got >= pages {
        return Ok(());
    }
    host.write(path, &format!("{before}\n")).map_err(failed())?;
    Err(SetupError::NotEnoughMemory {
        asked: pages,
        got,
        before,
    })
}

fn write_file(host: &Host, path: &str, content: &str) -> Result<(), SetupError> {
    if let Some((directory, _)) = path
        .rsplit_once('/')
        .filter(|(directory, _)| !directory.is_empty())
    {
        host.make_directory(directory)
            .map_err(SetupError::io(format!("make directory {directory}")))?;
    }
    host.write(path, content)
        .map_err(SetupError::io(format!("write {path}")))
}
