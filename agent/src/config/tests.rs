//! The file's errors, and the example that is the only description of its keys.

use super::*;

fn none(_: &str) -> Option<String> {
    None
}

fn error(text: &str) -> String {
    Config::parse(text, none).unwrap_err().to_string()
}

#[test]
fn the_example_names_every_key_with_its_default() {
    let example: toml::Table = EXAMPLE.parse().unwrap();
    assert_eq!(example, toml::Table::try_from(File::default()).unwrap());
    Config::parse(EXAMPLE, none).unwrap();
}

#[test]
fn the_example_names_every_environment_variable_and_no_other() {
    let named: HashSet<&str> = EXAMPLE
        .split(|c: char| !(c.is_ascii_uppercase() || c == '_'))
        .filter(|w| w.starts_with("WEFT_"))
        .collect();
    assert_eq!(named, OVERRIDES.iter().map(|(variable, _)| *variable).collect());
}

#[test]
fn an_unknown_key_is_refused_with_its_line() {
    let text = error("workers = 1\n\nworker = 2\n");
    assert!(
        text.contains("line 3") && text.contains("worker = 2") && text.contains("unknown field"),
        "{text}"
    );
    let text = error("[metrics]\nlisten = \"\"\nport = 1\n");
    assert!(
        text.contains("line 3") && text.contains("unknown field `port`"),
        "{text}"
    );
}

#[test]
fn wrong_values_are_told_by_key_value_and_remedy() {
    let texts = [
        "workers = []",
        "workers = [1, 2, 1]",
        "workers = 0",
        "workers = \"two\"",
        "idle_sleep = \"50\"",
        "idle_sleep = \"11ms\"",
        "memory_mib = 63",
        "mbufs = 100",
        "mbuf_room = 64",
        "file_prefix = \"a/b\"",
        "pci_devices = [\"eth0\"]",
        "sessions = 0",
        "state_dir = \"weft\"",
        "socket_mode = \"0060\"",
        "socket_group = \"no-such-group\"",
        "log = \"warn,=\"",
        "[timeouts]\nudp = \"0s\"",
        "[metrics]\nlisten = \"localhost\"",
        "[control]\nlisten = \"0.0.0.0:9631\"",
        "[control]\nkey = \"/etc/weft/key.pem\"",
    ];
    let report: Vec<String> = texts.into_iter().map(error).collect();
    insta::assert_snapshot!("wrong_values", report.join("\n"));
}

#[test]
fn the_environment_overrides_the_file() {
    let environment = |variable: &str| {
        Some(match variable {
            "WEFT_WORKERS" => "[3, 4]".into(),
            "WEFT_NO_HUGE" => "true".into(),
            "WEFT_SOCKET" => "/tmp/w.sock".into(),
            "WEFT_METRICS_LISTEN" => "unix:/tmp/m.sock".into(),
            "WEFT_SESSIONS" => "1000".into(),
            _ => return None,
        })
    };
    let config = Config::parse("workers = 1\nsessions = 70", environment).unwrap();
    assert_eq!(config.dataplane.worker_cpus, [3, 4]);
    assert!(config.dataplane.no_huge);
    assert_eq!(config.dataplane.sessions, 1000);
    assert_eq!(config.socket.path, Path::new("/tmp/w.sock"));
    assert_eq!(config.metrics, Some(Listen::Unix("/tmp/m.sock".into())));
    let wrong = |variable: &str| (variable == "WEFT_MEMORY_MIB").then(|| "much".to_string());
    let error = Config::parse("", wrong).unwrap_err().to_string();
    assert!(error.contains("WEFT_MEMORY_MIB=\"much\""), "{error}");
}

#[test]
fn a_file_that_is_named_must_exist() {
    let error = Config::load(Some(Path::new("/nonexistent/weftd.toml")), none)
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("/nonexistent/weftd.toml cannot be read"),
        "{error}"
    );
}

#[test]
fn users_are_known_by_name_and_number() {
    let config = Config::parse("socket_owner = \"root\"\nsocket_group = \"17\"", none).unwrap();
    assert_eq!(
        (config.socket.user, config.socket.group, config.socket.mode),
        (Some(0), Some(17), 0o660)
    );
}
