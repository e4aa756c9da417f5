//! hugetlbfs: where hugepages are mapped from by name.
//!
//! weftd itself takes anonymous hugepages and runs without a mount; QEMU guests and other DPDK programs on the host
//! want one.

use serde::Serialize;

use crate::{
    action::{Action, Plan},
    error::SetupError,
    host::Host,
    hugepages::{self, PageSize},
};

/// A mounted hugetlbfs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mount {
    /// Where.
    pub path: String,
    /// Size of its pages.
    pub size: PageSize,
}

/// Every hugetlbfs that is mounted.
pub fn mounts(host: &Host) -> Vec<Mount> {
    let default = hugepages::default_size(host);
    let text = host.read("/proc/self/mounts").unwrap_or_default();
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace().skip(1);
            let (path, kind, options) = (words.next()?, words.next()?, words.next()?);
            let size = options
                .split(',')
                .find_map(|option| option.strip_prefix("pagesize="));
            (kind == "hugetlbfs").then(|| Mount {
                path: path.to_owned(),
                size: size.and_then(|size| size.parse().ok()).unwrap_or(default),
            })
        })
        .collect()
}

/// Where Debian's systemd mounts the default size, and its neighbours for the others.
pub fn usual_path(host: &Host, size: PageSize) -> String {
    if size == hugepages::default_size(host) {
        "/dev/hugepages".to_owned()
    } else {
        format!("/dev/hugepages{size}")
    }
}

/// The steps to a mount for pages of this size; persistent by a systemd mount unit.
pub fn plan_mount(
    host: &Host,
    size: Option<PageSize>,
    at: Option<&str>,
    persistent: bool,
) -> Result<Plan, SetupError> {
    let size = size.unwrap_or_else(|| hugepages::default_size(host));
    let known = hugepages::sizes(host);
    if !known.contains(&size) {
        let known = known
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(", ");
        return Err(SetupError::UnknownPageSize {
            size: size.to_string(),
            known,
        });
    }
    let path = at.map_or_else(
        || usual_path(host, size),
        |at| at.trim_end_matches('/').to_owned(),
    );
    let mut plan = Plan::default();
    let mounted = mounts(host);
    if let Some(mount) = mounted
        .iter()
        .find(|mount| mount.size == size && (at.is_none() || mount.path == path))
    {
        plan.notes.push(format!(
            "hugetlbfs with pages of {size} is mounted at {} already",
            mount.path
        ));
    } else if is_mount_point(host, &path) {
        return Err(SetupError::MountPointTaken(path));
    } else {
        if !host.exists(&path) {
            plan.actions.push(Action::MakeDirectory { path: path.clone() });
        }
        plan.actions.push(Action::Mount {
            path: path.clone(),
            size: size.to_string(),
        });
    }
    if persistent {
        // systemd wants the unit's name to be the path, with '-' for '/'.
        let unit = path
            .trim_start_matches('/')
            .replace('-', "\\x2d")
            .replace('/', "-");
        let file = format!("/etc/systemd/system/{unit}.mount");
        let content = format!(
            "# Written by hugepage-setup.\n[Unit]\nDescription=Hugepages of {size} for weft\n\
             DefaultDependencies=no\nBefore=sysinit.target\n\n[Mount]\nWhat=hugetlbfs\nWhere={path}\n\
             Type=hugetlbfs\nOptions=pagesize={size},nosuid,nodev\n\n[Install]\nWantedBy=sysinit.target\n"
        );
        let before = host.read_exact(&file).ok();
        if before.as_deref() != Some(&content) {
            plan.actions.push(Action::WriteFile {
                path: file,
                content,
                before,
            });
            plan.notes
                .push(format!("to mount it at each boot: systemctl enable {unit}.mount"));
        }
    }
    Ok(plan)
}

fn is_mount_point(host: &Host, path: &str) -> bool {
    let text = host.read("/proc/self/mounts").unwrap_or_default();
    text.lines()
        .any(|line| line.split_whitespace().nth(1) == Some(path))
}
