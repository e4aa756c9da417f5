//! How weftd ends when it cannot begin: before it touches the data plane, with a code for scripts and a word for
//! people.

use std::{
    os::unix::{fs::PermissionsExt, net::UnixListener, process::CommandExt},
    path::Path,
    process::{Command, Output},
};

use tempfile::TempDir;
use weft_agent::{exit, store::Store};

struct Host {
    directory: TempDir,
}

impl Host {
    fn new() -> Self {
        Host {
            directory: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// A command with the state and the socket in this directory, and more lines of configuration.
    fn weftd(&self, more: &str) -> Command {
        let path = self.path().display();
        let text =
            format!("state_dir = \"{path}/state\"\nsocket = \"{path}/weft.sock\"\nno_huge = true\n{more}\n");
        let file = self.path().join("weftd.toml");
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_weftd"));
        command.env_clear().arg("--config").arg(file);
        command
    }
}

fn ends(command: &mut Command) -> (Option<i32>, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    (
        status.code(),
        String::from_utf8(stdout).unwrap(),
        String::from_utf8(stderr).unwrap(),
    )
}

#[test]
fn the_printed_configuration_is_the_documented_one_and_valid() {
    let host = Host::new();
    let mut print = Command::new(env!("CARGO_BIN_EXE_weftd"));
    let (code, text, _) = ends(print.arg("--print-config"));
    assert_eq!((code, text.as_str()), (Some(0), weft_agent::config::EXAMPLE));
    let file = host.path().join("printed.toml");
    std::fs::write(&file, text).unwrap();
    let mut check = Command::new(env!("CARGO_BIN_EXE_weftd"));
    let (code, text, _) = ends(check.env_clear().arg("--check").arg("--config").arg(file));
    assert_eq!((code, text.as_str()), (Some(0), "the configuration is valid\n"));
}

#[test]
fn wrong_arguments_and_configuration_end_with_2_and_the_line() {
    let host = Host::new();
    let (code, _, error) = ends(&mut host.weftd("wokers = 1"));
    assert_eq!(code, Some(i32::from(exit::CONFIGURATION)));
    assert!(
        error.contains("line 4") && error.contains("unknown field `wokers`"),
        "{error}"
    );
    let (code, _, error) = ends(host.weftd("").env("WEFT_WORKERS", "none"));
    assert_eq!(code, Some(i32::from(exit::CONFIGURATION)));
    assert!(error.contains("WEFT_WORKERS=\"none\""), "{error}");
    let (code, ..) = ends(host.weftd("").arg("--cofnig"));
    assert_eq!(code, Some(i32::from(exit::CONFIGURATION)));
}

#[test]
fn a_second_weftd_on_a_state_directory_ends_with_3() {
    let host = Host::new();
    let _first = Store::open(&host.path().join("state")).unwrap();
    let (code, _, error) = ends(&mut host.weftd(""));
    assert_eq!(code, Some(i32::from(exit::STATE_IN_USE)));
    assert!(error.contains("in use by another weftd"), "{error}");
}

#[test]
fn a_second_weftd_on_a_socket_ends_with_6() {
    let host = Host::new();
    let _first = UnixListener::bind(host.path().join("weft.sock")).unwrap();
    let (code, _, error) = ends(&mut host.weftd(""));
    assert_eq!(code, Some(i32::from(exit::SOCKET_IN_USE)));
    assert!(error.contains("served by another weftd"), "{error}");
}

#[test]
fn without_hugepages_weftd_ends_with_4_and_says_what_to_do() {
    let host = Host::new();
    // More than any host has free.
    let (code, _, error) = ends(host.weftd("memory_mib = 100000000").env("WEFT_NO_HUGE", "false"));
    assert_eq!(code, Some(i32::from(exit::DATAPLANE)), "{error}");
    assert!(
        error.contains("hugepages") && error.contains("no_huge = true"),
        "{error}"
    );
    assert!(
        !host.path().join("weft.sock").exists(),
        "the socket is taken away again"
    );
}

#[test]
fn without_permission_weftd_ends_with_5() {
    let host = Host::new();
    let state = host.path().join("state");
    std::fs::create_dir(&state).unwrap();
    std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o500)).unwrap();
    let mut command = host.weftd("");
    // Root may write anywhere: give it up. The program may lie where nobody else can reach it, so that a copy does.
    std::fs::set_permissions(host.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    if is_root() {
        let copy = host.path().join("weftd");
        std::fs::copy(env!("CARGO_BIN_EXE_weftd"), &copy).unwrap();
        command = Command::new(copy);
        command
            .env_clear()
            .arg("--config")
            .arg(host.path().join("weftd.toml"))
            .uid(65_534)
            .gid(65_534);
    }
    let (code, _, error) = ends(&mut command);
    assert_eq!(code, Some(i32::from(exit::PERMISSION)), "{error}");
    assert!(error.contains("permission denied"), "{error}");
}

fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    status
        .lines()
        .any(|line| line.starts_with("Uid:") && line.split_whitespace().nth(2) == Some("0"))
}
