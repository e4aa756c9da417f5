//! Wrong files, wrong words, and a weftd that does not answer.

#![allow(missing_docs)]

mod world;

use std::os::unix::net::UnixListener;

use clap::CommandFactory;
use insta::assert_snapshot;
use weft_cli::ExitCode;
use world::World;

#[test]
fn every_wrong_field_is_named_with_its_place_and_a_way_out() {
    let world = World::without_weftd();
    world.file(
        "wrong.yaml",
        r#"
kind: Port
name: web-1
spec:
  vhost_user: {sokcet: /run/weft/web-1.sock}
  vrf: 12
  addresses: 10.0.0.1
  mtu: "9000"
  tap: {}
  packet_mode: yes please
  trunk:
    - {vlan: 100, vrf: red}
    - {vlan: -1, vrf: [blue]}
---
kind: Prot
---
kind: Vni
name: x
metadata: {}
spec: {vni: 1.5, target: {vrf: red, port: x}}
---
kind: Route
name: r
spec:
  vrf: red
  next_hop: {discard: }
  nextHop: {receive: {now: true}}
---
kind: TunnelEndpoint
name: 100
spec: {encapsulation: vxlna}
---
name: nothing
spec: {}
---
just text
---
kind: Label
spec: [1, 2]
---
kind: Vni
name: big
spec: {vni: 4294967296}
"#,
    );
    assert_snapshot!(world.run("apply -f DIR/wrong.yaml"), @r#"
    $ weft apply -f DIR/wrong.yaml
    error: DIR/wrong.yaml: document 1: port "web-1": spec.vhost_user.sokcet: there is no such field
      help: did you mean "socket"?
    error: DIR/wrong.yaml: document 1: port "web-1": spec.vrf: is the number 12, text is wanted
      help: put it in quotes: "12"
    error: DIR/wrong.yaml: document 1: port "web-1": spec.addresses: is the text "10.0.0.1", a list is wanted
      help: write it as a list: [...]
    error: DIR/wrong.yaml: document 1: port "web-1": spec.mtu: is the text "9000", a number is wanted
      help: take the quotes away: 9000
    error: DIR/wrong.yaml: document 1: port "web-1": spec.tap: cannot be given together with "vhost_user"
      help: keep one of the two
    error: DIR/wrong.yaml: document 1: port "web-1": spec.packet_mode: is the text "yes please", true or false is wanted
      help: write true or false
    error: DIR/wrong.yaml: document 1: port "web-1": spec.trunk[1].vlan: is -1, a whole number from 0 to 4294967295 is wanted
    error: DIR/wrong.yaml: document 1: port "web-1": spec.trunk[1].vrf: is a list, one text is wanted
      help: take the brackets or the dash away
    error: DIR/wrong.yaml: document 2: kind: is "Prot", which is not known
      help: did you mean "Port"?
    error: DIR/wrong.yaml: document 3: vni "x": metadata: there is no such field
      help: weft has none: name stands beside kind
    error: DIR/wrong.yaml: document 3: vni "x": spec.vni: is 1.5, a whole number from 0 to 4294967295 is wanted
    error: DIR/wrong.yaml: document 3: vni "x": spec.target.port: cannot be given together with "vrf"
      help: keep one of the two
    error: DIR/wrong.yaml: document 4: route "r": spec.next_hop.discard: has no value
      help: write `discard: {}`
    error: DIR/wrong.yaml: document 4: route "r": spec.nextHop: is given twice
      help: keep one of the two
    error: DIR/wrong.yaml: document 5: tunnel-endpoint: name: is the number 100, text is wanted
      help: put it in quotes: "100"
    error: DIR/wrong.yaml: document 5: tunnel-endpoint: spec.encapsulation: is "vxlna", which is not known
      help: did you mean "vxlan"?
    error: DIR/wrong.yaml: document 6: has no `kind:`
      help: write one of Vrf, Network, AddressGroup, Policy, Port, TunnelEndpoint, NextHopGroup, Route, FloatingIp, NatPool, Service, Vni, Label
    error: DIR/wrong.yaml: document 7: is the text "just text", fields are wanted
      help: write its fields: kind, name, owner, spec, generation, status
    error: DIR/wrong.yaml: document 8: label: name: is missing
      help: every object has one, unique in its kind
    error: DIR/wrong.yaml: document 8: label: spec: is a list, fields are wanted
      help: write its fields: label, target
    error: DIR/wrong.yaml: document 9: vni "big": spec.vni: is 4294967296, a whole number from 0 to 4294967295 is wanted
    [exit code 1]
    "#);
}

#[test]
fn files_that_cannot_be_read_are_all_named() {
    let world = World::without_weftd();
    world.file("broken.yaml", "kind: Vrf\nname: 'red\n");
    world.file("broken.json", "{\"kind\": \"Vrf\",\n \"name\": }");
    world.file(
        "twice.yaml",
        "kind: Vrf\nname: a\n---\nkind: Vrf\nname: b\n---\nkind: vrf\nname: a\n",
    );
    world.file("double.yaml", "kind: Vrf\nname: a\nname: b\n");
    world.file("empty.yaml", "# nothing here\n");
    std::fs::create_dir(world.path("directory")).unwrap();
    let files = [
        "broken.yaml",
        "broken.json",
        "twice.yaml",
        "double.yaml",
        "empty.yaml",
        "directory",
        "missing.yaml",
    ];
    let words: Vec<String> = files.iter().map(|file| format!("-f DIR/{file}")).collect();
    assert_snapshot!(world.run(&format!("apply {}", words.join(" "))), @r#"
    $ weft apply -f DIR/broken.yaml -f DIR/broken.json -f DIR/twice.yaml -f DIR/double.yaml -f DIR/empty.yaml -f DIR/directory -f DIR/missing.yaml
    error: DIR/broken.yaml: found unexpected end of stream at line 3 column 1, while scanning a quoted scalar at line 2 column 7
    error: DIR/broken.json: expected value at line 2 column 10
    error: DIR/double.yaml: duplicate entry with key "name"
    error: DIR/empty.yaml: no object in it
      help: write `kind:`, `name:` and `spec:`; `weft get ports -o yaml` shows the form
    error: DIR/directory: no .yaml, .yml or .json file in this directory
      help: name another, or look deeper with --recursive
    error: DIR/missing.yaml: No such file or directory
    error: DIR/twice.yaml: document 3: vrf/a is described in DIR/twice.yaml: document 1 already
      help: keep one of the two
    [exit code 1]
    "#);
}

#[test]
fn a_weftd_that_is_not_there_has_an_exit_code_of_its_own() {
    let world = World::without_weftd();
    let mut text = world.run("get ports");
    // A socket that nobody listens at any more.
    drop(UnixListener::bind(world.path("weft.sock")).unwrap());
    text += &world.run("get ports");
    text += &world.run("--socket http://127.0.0.1:1 get ports");
    assert_snapshot!(text, @r#"
    $ weft get ports
    error: weftd is not reachable at unix://DIR/weft.sock: No such file or directory
      help: start weftd (`systemctl start weftd`), or name its socket with --socket or WEFT_SOCKET
    [exit code 3]
    $ weft get ports
    error: weftd is not reachable at unix://DIR/weft.sock: Connection refused
      help: the socket is there but weftd is not: `systemctl start weftd`
    [exit code 3]
    $ weft --socket http://127.0.0.1:1 get ports
    error: socket "http://127.0.0.1:1" is no unix socket
      help: write unix:///run/weft/weft.sock, or a path
    [exit code 2]
    "#);
    assert_eq!(world.run_with("top --once", "", false).1, ExitCode::Unreachable);
}

#[test]
fn a_weftd_that_does_not_answer_is_not_waited_for_without_end() {
    let world = World::example();
    world.change(|answers| answers.silent = true);
    assert_snapshot!(world.run("--timeout 1 get vrfs"), @r#"
    $ weft --timeout 1 get vrfs
    error: weftd at unix://DIR/weft.sock did not answer within 1 s
      help: look at its log, or wait longer with --timeout
    [exit code 3]
    "#);
}

#[test]
fn errors_of_weftd_are_passed_on() {
    let world = World::example();
    let mut text = String::new();
    for failure in [
        tonic::Status::invalid_argument(
            "match: \"prot\" is not known\n  help: write proto, src, dst, sport or dport",
        ),
        tonic::Status::unavailable("stopping"),
        tonic::Status::permission_denied("port \"vm-7\" belongs to owner \"neutron\""),
        tonic::Status::unimplemented(""),
    ] {
        world.change(|answers| answers.failure = Some(failure));
        text += &world.run("get flows");
    }
    assert_snapshot!(text, @r#"
    $ weft get flows
    error: match: "prot" is not known
      help: write proto, src, dst, sport or dport
    [exit code 1]
    $ weft get flows
    error: stopping
      help: weftd went away: look at its log (`journalctl -u weftd`)
    [exit code 3]
    $ weft get flows
    error: port "vm-7" belongs to owner "neutron"
      help: name the owner with --owner or WEFT_OWNER
    [exit code 1]
    $ weft get flows
    error: weftd: Operation is not implemented or not supported
      help: this weftd is of another version than this weft
    [exit code 1]
    "#);
}

#[test]
fn words_that_do_not_fit_are_refused_before_weftd_is_asked() {
    let world = World::without_weftd();
    let mut text = String::new();
    for words in [
        "get prots",
        "get ports --match dport=80",
        "get drops --vrf red",
        "get flows --owner x",
        "get workers 1",
        "get vrfs --rates",
        "get drops -o name",
        "apply",
        "delete",
        "frobnicate",
        "top --interval 0",
    ] {
        text += &world.run(words);
    }
    assert_snapshot!(text, @r#"
    $ weft get prots
    error: "prots" is not known here
      help: did you mean "ports"?

    Usage: weft get [OPTIONS] <TARGET> [NAMES]...

    For more information, try '--help'.
    [exit code 2]
    $ weft get ports --match dport=80
    error: --match and --limit are for flows
      help: weft get flows --match dst=10.0.0.5
    [exit code 2]
    $ weft get drops --vrf red
    error: --vrf is for objects and flows
      help: leave it out
    [exit code 2]
    $ weft get flows --owner x
    error: --owner is for objects
      help: leave it out
    [exit code 2]
    $ weft get workers 1
    error: only objects have names
      help: leave the names out
    [exit code 2]
    $ weft get vrfs --rates
    error: --rates is for ports
      help: weft get ports --rates, or weft top
    [exit code 2]
    $ weft get drops -o name
    error: -o name is for objects
      help: choose table, json or yaml
    [exit code 2]
    $ weft apply
    error: the following required arguments were not provided:
      --file <FILE>

    Usage: weft apply --file <FILE>

    For more information, try '--help'.
    [exit code 2]
    $ weft delete
    error: the following required arguments were not provided:
      <TARGET>

    Usage: weft delete <TARGET> [NAMES]...

    For more information, try '--help'.
    [exit code 2]
    $ weft frobnicate
    error: unrecognized subcommand 'frobnicate'

    Usage: weft [OPTIONS] <COMMAND>

    For more information, try '--help'.
    [exit code 2]
    $ weft top --interval 0
    error: invalid value '0' for '--interval <SECONDS>': is not a number of seconds from 0.05 to 3600

    For more information, try '--help'.
    [exit code 2]
    "#);
}

#[test]
fn the_help_shows_every_command() {
    let mut command = weft_cli::args::Arguments::command().term_width(100);
    assert_snapshot!(command.render_help(), @r#"
    Control weftd, the virtual router of this host

    Usage: weft [OPTIONS] <COMMAND>

    Commands:
      get         List objects, flows, drops or counters
      describe    Show all there is to know of objects
      apply       Make or change the objects in files, all of them or none
      delete      Delete objects by name or by the files that describe them
      watch       Show objects as they change
      plug        Add a port and wait until its device is open
      unplug      Remove a port and wait until no packet of it is left
      check       Ask the data plane about a port: exit code 1 unless its link is up
      trace       Say what would become of a packet; exit code 1 if it would be dropped
      top         Show workers, ports and drops as they run
      doctor      Check this host and weftd; exit code 1 if there is a problem
      completion  Print a completion script for a shell
      man         Write the manual pages

    Options:
          --socket <SOCKET>    Socket of weftd [env: WEFT_SOCKET] [default: unix:///run/weft/weft.sock]
          --timeout <SECONDS>  Seconds to wait for an answer [default: 30]
      -h, --help               Print help
      -V, --version            Print version

    Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 weftd does not answer.
    "#);
    let get = command
        .find_subcommand("get")
        .unwrap()
        .clone()
        .term_width(100)
        .render_help();
    assert_snapshot!(get, @r#"
    List objects, flows, drops or counters

    Usage: get [OPTIONS] <TARGET> [NAMES]...

    Arguments:
      <TARGET>    A kind (ports, routes, …), flows, drops, workers, stages, tables, balance, counters,
                  owners, all, or KIND/NAME [possible values: vrfs, networks, address-groups, policies,
                  ports, tunnel-endpoints, next-hop-groups, routes, floating-ips, nat-pools, services,
                  vnis, labels, all, owners, flows, drops, workers, stages, tables, balance, counters]
      [NAMES]...  Names; none: all

    Options:
          --socket <SOCKET>     Socket of weftd [env: WEFT_SOCKET] [default: unix:///run/weft/weft.sock]
          --vrf <VRF>           Only what is in this VRF
          --match <CONDITIONS>  Flows that fit:
                                proto=tcp,src=10.0.0.0/24,dst=10.0.0.5,sport=1024,dport=80 (all must
                                hold)
          --timeout <SECONDS>   Seconds to wait for an answer [default: 30]
          --limit <COUNT>       The most flows to show
          --owner <OWNER>       Only objects of this owner
          --rates               Ports: packets a second, measured for a moment, in place of totals
      -o, --output <FORMAT>     Output format [default: table] [possible values: table, json, yaml,
                                name]
      -h, --help                Print help (see more with '--help')
    "#);
}

#[test]
fn completions_and_manual_pages_cover_every_command() {
    let world = World::without_weftd();
    let commands: Vec<String> = weft_cli::args::Arguments::command()
        .get_subcommands()
        .map(|command| command.get_name().to_owned())
        .collect();
    for shell in ["bash", "zsh", "fish"] {
        let (script, _, code) = world.raw(&format!("completion {shell}"), "", false);
        assert_eq!(code, ExitCode::Success);
        for word in commands
            .iter()
            .map(String::as_str)
            .chain(["next-hop-groups", "balance"])
        {
            assert!(script.contains(word), "{shell} does not complete {word}");
        }
    }
    world.run("man DIR/man");
    for command in &commands {
        let page = std::fs::read_to_string(world.path(&format!("man/weft-{command}.1"))).unwrap();
        assert!(page.contains(".SH SYNOPSIS"), "{command}");
    }
    world.file("file", "");
    assert_snapshot!(world.run("man DIR/file/man"), @r#"
    $ weft man DIR/file/man
    error: DIR/file/man: Not a directory
    [exit code 1]
    "#);
}
