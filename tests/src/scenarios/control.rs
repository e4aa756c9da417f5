//! Bad input to weftd and weft: a word that says what and where, an exit code, nothing changed, traffic undisturbed.

use std::{
    fs,
    io::{Read, Write},
    os::unix::net::UnixStream,
    process::Command,
    time::Duration,
};

use weft_tests::{
    frame::Packet,
    host::{Host, Reply, Settings, program},
    lone::{APP, GATEWAY, Lone, WEB},
    namespace::Namespace,
    vhost::{FrontEnd, PLAIN},
    world::in_world,
};

super::scenarios! {
    an_unknown_device_is_refused: ["Bad input: an unknown device"],
    a_socket_path_that_exists_is_refused: ["Bad input: a socket path that exists"],
    a_vlan_used_twice_is_refused: ["Bad input: a VLAN used twice under one parent"],
    a_route_of_another_owner_is_refused: ["Bad input: an overlapping route of another owner"],
    a_prefix_with_host_bits_is_refused: ["Bad input: a prefix with host bits"],
    a_vni_over_24_bits_is_refused: ["Bad input: a VNI over 24 bits"],
    a_reserved_label_is_refused: ["Bad input: a label in the reserved range"],
    a_half_valid_batch_changes_nothing: ["Bad input: a half-valid batch"],
    truncated_requests_change_nothing: ["Bad input: a truncated request"],
    a_second_weftd_on_the_same_directory_is_refused: ["Bad input: a second weftd on the same directory"],
    too_few_hugepages_are_told_with_advice: ["Bad input: no hugepages"],
    a_user_without_permission_is_told: ["Bad input: no permission"],
    an_unknown_key_is_refused_with_its_line: ["Bad input: an unknown key in weftd.toml"],
    a_file_that_is_no_yaml_is_refused_with_its_place: ["Bad input: a truncated request"],
}

/// Everything that is configured.
fn objects(world: &Lone) -> String {
    world.host.show("get all -o yaml")
}

/// The YAML must be refused with words that hold all of `words`; then all is as it was, and traffic runs.
fn refused(world: &mut Lone, yaml: &str, words: &[&str]) {
    let before = objects(world);
    let reply = world.host.try_apply(yaml);
    says(&reply, Some(1), words);
    assert_eq!(objects(world), before, "nothing has changed");
    traffic_runs(world);
}

fn says(reply: &Reply, code: Option<i32>, words: &[&str]) {
    let text = format!("{}{}", reply.output, reply.errors);
    assert!(!reply.status.success(), "it must fail, but said: {text}");
    if code.is_some() {
        assert_eq!(reply.status.code(), code, "{text}");
    }
    for word in words {
        assert!(
            text.to_lowercase().contains(&word.to_lowercase()),
            "{word:?} is missing in: {text}"
        );
    }
}

fn traffic_runs(world: &mut Lone) {
    let packet = Packet::udp("10.0.0.1:1", "10.0.0.2:1", b"undisturbed");
    world.web.send(&packet.frame(GATEWAY, WEB));
    world.app.expect(&packet.hop().frame(APP, GATEWAY));
}

fn an_unknown_device_is_refused() {
    in_world(|world: &mut Lone| {
        for (device, words) in [
            ("net_nosuchdriver0", ["ghost", "net_nosuchdriver0"]),
            ("net_af_packet7,iface=nosuch0", ["ghost", "nosuch0"]),
            ("0000:ff:1f.7", ["ghost", "0000:ff:1f.7"]),
        ] {
            refused(
                world,
                &format!("kind: Port\nname: ghost\nspec: {{ethdev: {{device: \"{device}\"}}, vrf: red}}\n"),
                &words,
            );
        }
        refused(
            world,
            "kind: Port\nname: ghost\nspec: {tap: {interface: a-name-that-is-too-long}, vrf: red}\n",
            &["ghost", "interface", "a-name-that-is-too-long"],
        );
        refused(
            world,
            "kind: Port\nname: ghost\nspec: {tap: {interface: ghost0, netns: no-such-namespace}, vrf: red}\n",
            &["ghost", "no-such-namespace"],
        );
    });
}

fn a_socket_path_that_exists_is_refused() {
    in_world(|world: &mut Lone| {
        let path = world.host.path("in-the-way");
        fs::write(&path, "somebody's file").expect("a file");
        refused(
            world,
            &format!(
                "kind: Port\nname: blocked\nspec: {{vhost_user: {{socket: {}, server: true}}, vrf: red}}\n",
                path.display()
            ),
            &["blocked", "in-the-way"],
        );
        assert_eq!(fs::read_to_string(&path).expect("it is there"), "somebody's file");
    });
}

fn a_vlan_used_twice_is_refused() {
    in_world(|world: &mut Lone| {
        let sub = |name: &str| {
            format!("kind: Port\nname: {name}\nspec: {{vlan: {{parent: red-web, vlan: 100}}, vrf: red}}\n")
        };
        world.host.apply(&sub("vlan-first"));
        refused(
            world,
            &sub("vlan-second"),
            &["vlan-second", "100", "red-web", "vlan-first"],
        );
        world.host.delete("port", "vlan-first");
        refused(
            world,
            &format!("{}---\n{}", sub("one"), sub("two")),
            &["100", "red-web"],
        );
        let wrong = "kind: Port\nname: one\nspec: {vlan: {parent: red-web, vlan: 4095}, vrf: red}\n";
        refused(world, wrong, &["one", "vlan", "4095"]);
    });
}

fn a_route_of_another_owner_is_refused() {
    in_world(|world: &mut Lone| {
        let route = |name: &str| {
            format!(
                "kind: Route\nname: {name}\nspec: {{vrf: red, prefix: 10.70.0.0/24, next_hop: {{discard: {{}}}}}}\n"
            )
        };
        world.host.apply(&route("mine"));
        let before = objects(world);
        // The same prefix under another name, and the same name, both by somebody else.
        for name in ["theirs", "mine"] {
            let file = world.host.path("theirs.yaml");
            fs::write(&file, route(name)).expect("a file");
            let reply = world
                .host
                .weft(&format!("apply --owner other -f {}", file.display()));
            says(&reply, Some(1), &["mine", "cli"]);
        }
        let reply = world.host.weft("delete route mine --owner other");
        says(&reply, Some(1), &["mine", "cli"]);
        assert_eq!(objects(world), before, "nothing has changed");
        traffic_runs(world);
        world.host.delete("route", "mine");
    });
}

fn a_prefix_with_host_bits_is_refused() {
    in_world(|world: &mut Lone| {
        for (prefix, better) in [("10.70.0.1/24", "10.70.0.0/24"), ("fd70::1/64", "fd70::/64")] {
            refused(
                world,
                &format!(
                    "kind: Route\nname: bits\nspec: {{vrf: red, prefix: \"{prefix}\", next_hop: {{discard: {{}}}}}}\n"
                ),
                &["bits", "prefix", prefix, better],
            );
        }
    });
}

fn a_vni_over_24_bits_is_refused() {
    in_world(|world: &mut Lone| {
        for vni in [0, 1 << 24, u32::MAX] {
            refused(
                world,
                &format!("kind: Vni\nname: wide\nspec: {{vni: {vni}, target: {{vrf: red}}}}\n"),
                &["wide", "vni", &vni.to_string(), "16777215"],
            );
            refused(
                world,
                &format!(
                    "kind: Route\nname: wide\nspec: {{vrf: red, prefix: 10.70.0.0/24, \
                     next_hop: {{tunnel: {{endpoint: vxlan, vni: {vni}}}}}}}\n"
                ),
                &["wide", "vni"],
            );
        }
    });
}

fn a_reserved_label_is_refused() {
    in_world(|world: &mut Lone| {
        for label in [0, 3, 15, 1 << 20] {
            refused(
                world,
                &format!("kind: Label\nname: low\nspec: {{label: {label}, target: {{vrf: red}}}}\n"),
                &["low", "label", &label.to_string()],
            );
        }
    });
}

fn a_half_valid_batch_changes_nothing() {
    in_world(|world: &mut Lone| {
        refused(
            world,
            "kind: Vrf\nname: half\nspec: {}\n---\n\
             kind: Route\nname: half-good\nspec: {vrf: half, prefix: 10.70.0.0/24, next_hop: {discard: {}}}\n---\n\
             kind: Route\nname: half-bad\nspec: {vrf: half, prefix: 10.70.0.1/24, next_hop: {discard: {}}}\n",
            &["half-bad", "10.70.0.1/24"],
        );
        // A device that does not open takes its whole batch with it.
        refused(
            world,
            "kind: Vrf\nname: half\nspec: {}\n---\n\
             kind: Port\nname: half-ghost\nspec: {ethdev: {device: net_nosuchdriver0}, vrf: half}\n",
            &["half-ghost", "net_nosuchdriver0"],
        );
    });
}

fn truncated_requests_change_nothing() {
    in_world(|world: &mut Lone| {
        let before = objects(world);
        // An HTTP/2 preface with SETTINGS and the head of a request, cut at every byte and in the middle of a body.
        let mut request = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
        request.extend(b"\0\0\x40\x01\x04\0\0\0\x01");
        request.extend([0x83, 0x86, 0x44, 0x14]);
        request.extend(b"/weft.v1.Weft/Apply\0\xff\xff\xff\xff");
        for length in 0..request.len() {
            let mut stream = UnixStream::connect(world.host.socket()).expect("weftd listens");
            stream.write_all(&request[..length]).expect("weftd reads");
        }
        // And kept open in mid-request while others work.
        let mut waiting = UnixStream::connect(world.host.socket()).expect("weftd listens");
        waiting.write_all(&request[..40]).expect("weftd reads");
        // Garbage is answered by an end of the connection, not by silence for ever.
        let mut garbage = UnixStream::connect(world.host.socket()).expect("weftd listens");
        garbage.write_all(&[0xff; 4096]).expect("weftd reads");
        garbage
            .set_read_timeout(Some(Duration::from_secs(10)))
            .expect("a timeout can be set");
        let mut answer = Vec::new();
        let _ = garbage.read_to_end(&mut answer);
        assert_eq!(objects(world), before, "nothing has changed");
        traffic_runs(world);
    });
}

fn a_second_weftd_on_the_same_directory_is_refused() {
    in_world(|world: &mut Lone| {
        let reply = world.host.weftd_that_fails(&world.host.path("weftd.toml"));
        says(&reply, None, &[&world.host.path("state").display().to_string()]);
        assert!(
            reply.status.code().is_some_and(|code| code != 0 && code != 101),
            "{reply}"
        );
        // Another socket, but the same directory.
        let text = fs::read_to_string(world.host.path("weftd.toml")).expect("weftd.toml");
        let second = world.host.path("second.toml");
        let text = text
            .replace("weftd.sock", "second.sock")
            .replace("file_prefix = \"", "file_prefix = \"second-");
        fs::write(&second, text).expect("a file");
        let reply = world.host.weftd_that_fails(&second);
        says(&reply, None, &[&world.host.path("state").display().to_string()]);
        traffic_runs(world);
    });
}

/// A weftd of its own that is not meant to start.
fn fails_to_start(name: &str, change: impl FnOnce(&Host)) -> Reply {
    let host = Host::new(name, &Settings::default());
    change(&host);
    host.weftd_that_fails(&host.path("weftd.toml"))
}

fn too_few_hugepages_are_told_with_advice() {
    let reply = fails_to_start("huge", |host| {
        host.configure(&Settings {
            hugepages: true,
            memory_mib: 900_000,
            ..Settings::default()
        });
    });
    says(&reply, None, &["hugepages", "no_huge"]);
    assert!(
        reply.status.code().is_some_and(|code| code != 0 && code != 101),
        "{reply}"
    );
    // Without them weftd starts if told so: every other scenario does.
}

fn a_user_without_permission_is_told() {
    in_world(|world: &mut Lone| {
        // weft as nobody, towards root's socket.
        let reply = Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(program("weft"))
            .arg("--socket")
            .arg(world.host.socket())
            .args(["get", "ports"])
            .output()
            .expect("setpriv starts");
        let text = String::from_utf8_lossy(&reply.stderr);
        assert_eq!(reply.status.code(), Some(3), "{text}");
        assert!(text.to_lowercase().contains("permission"), "{text}");
        // weftd as nobody: it may not even read root's configuration or make its directory.
        let namespace = Namespace::new("nobody");
        let reply = namespace
            .command("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(program("weftd"))
            .arg("--config")
            .arg(world.host.path("weftd.toml"))
            .output()
            .expect("setpriv starts");
        let text = String::from_utf8_lossy(&reply.stderr);
        assert!(
            reply.status.code().is_some_and(|code| code != 0 && code != 101),
            "{text}"
        );
        assert!(text.to_lowercase().contains("permission"), "{text}");
        traffic_runs(world);
    });
}

fn an_unknown_key_is_refused_with_its_line() {
    let reply = fails_to_start("key", |host| {
        let path = host.path("weftd.toml");
        let text = fs::read_to_string(&path).expect("weftd.toml");
        fs::write(&path, format!("{text}wokers = 3\n")).expect("a file");
    });
    says(&reply, None, &["wokers", "line 9"]);
}

fn a_file_that_is_no_yaml_is_refused_with_its_place() {
    in_world(|world: &mut Lone| {
        let before = objects(world);
        for (text, words) in [
            (
                "kind: Route\nname: cut\nspec: {vrf: red, prefix: ",
                vec!["apply.yaml"],
            ),
            ("kind: Rout\nname: cut\nspec: {}\n", vec!["apply.yaml", "Rout"]),
            (
                "kind: Route\nname: cut\nspec: {vrf: red, prefx: 10.0.0.0/8}\n",
                vec!["apply.yaml", "prefx"],
            ),
            (
                "kind: Route\nname: cut\nspec: {vrf: red, prefix: 10.70.0.0/24}\n",
                vec!["cut", "next_hop"],
            ),
            ("\u{0}\u{1}\u{2}", vec!["apply.yaml"]),
        ] {
            let reply = world.host.try_apply(text);
            says(&reply, None, &words);
        }
        assert_eq!(objects(world), before, "nothing has changed");
        // A socket that a guest took before weftd: weftd is the client there, so that is as it should be.
        let path = world.host.path("early.vhost");
        let listener = std::os::unix::net::UnixListener::bind(&path).expect("a socket");
        world.host.apply(&format!(
            "kind: Port\nname: early\nspec: {{vhost_user: {{socket: {}}}, vrf: red, mac: \"02:00:00:00:0a:01\"}}\n",
            path.display()
        ));
        drop(FrontEnd::accept(&listener, PLAIN).expect("weftd connects"));
        world.host.delete("port", "early");
    });
}
