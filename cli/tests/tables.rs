//! What `get`, `describe` and `check` show.

#![allow(missing_docs)]

mod world;

use insta::assert_snapshot;
use weft_cli::ExitCode;
use weft_proto::v1;
use world::{Answers, World, objects};

#[test]
fn ports_show_their_device_state_totals_and_drops() {
    assert_snapshot!(World::example().run("get ports"), @r#"
    $ weft get ports
    NAME    KIND        VRF       ADDRESS              STATE    RX-PACKETS  TX-PACKETS  DROPS
    lab     tap         green     -                    pending           -           -  -
    uplink  af_packet   underlay  198.18.0.1/24        up               64          64  -
    vm-7    vhost-user  red       10.0.0.7, fd00:1::7  up            1.2 M       1.2 M  -
    web-1   vlan 101    blue      10.0.0.9 (vm-7)      down          3.1 k       2.9 k  unknown-vlan 12, no-route 3, 1 more
    "#);
}

#[test]
fn ports_with_rates_say_so_in_their_headings() {
    let world = World::example();
    world.change(|answers| answers.stats.push_back(objects::example_stats(1_000_000)));
    let text = world.run("get port vm-7 --rates");
    let rows: Vec<&str> = text.lines().collect();
    assert!(rows[1].contains("RX-PPS  TX-PPS"), "{text}");
    // A million packets in a quarter of a second, or in somewhat more on a busy machine.
    assert!(rows[2].contains(" M       0  -"), "{text}");
}

#[test]
fn every_kind_has_its_table() {
    let world = World::example();
    let kinds = [
        "vrfs",
        "networks",
        "routes",
        "groups",
        "endpoints",
        "vnis",
        "labels",
    ];
    let text: String = kinds
        .iter()
        .map(|kind| world.run(&format!("get {kind}")))
        .collect();
    assert_snapshot!(text, @r#"
    $ weft get vrfs
    NAME  MODE      OWNER  STATE
    blue  packets   demo   active
    red   sessions  demo   active
    $ weft get networks
    NAME     VRF  SUBNETS                   GATEWAYS             OWNER  STATE
    red-net  red  10.0.0.0/24, fd00:1::/64  10.0.0.1, fd00:1::1  demo   active
    $ weft get routes
    NAME         VRF   PREFIX         NEXT-HOP                      OWNER  STATE
    blue-null    blue  0.0.0.0/0      discard                       demo   active
    blue-remote  blue  10.0.0.128/25  tunnel host-c labels 1000/17  demo   active
    red-remote   red   10.0.0.128/25  tunnel host-b vni 100         demo   active
    red-service  red   10.9.0.0/16    group web                     demo   active
    $ weft get groups
    NAME  MEMBERS  NEXT-HOPS                            OWNER  STATE
    web         2  port vm-7 x3, tunnel host-b vni 100  demo   active
    $ weft get endpoints
    NAME    REMOTE       LOCAL  ENCAPSULATION  OWNER  STATE
    host-b  198.18.0.2   -      VXLAN          demo   active
    host-c  2001:db8::3  -      MPLSoUDP       demo   active
    $ weft get vnis
    NAME    VNI  TARGET   OWNER  STATE
    red-in  100  vrf red  demo   active
    $ weft get labels
    NAME     LABEL  TARGET    OWNER  STATE
    blue-in   1000  vrf blue  demo   active
    "#);
}

#[test]
fn policies_show_what_they_allowed_and_denied_and_which_rule_it_was() {
    let world = World::example();
    world.change(|answers| {
        let (policy, stats) = objects::policy();
        answers.objects.push(policy);
        answers.policies.push(stats);
        for object in &mut answers.objects {
            if let ("vm-7", Some(v1::object::Spec::Port(port))) = (&*object.name, &mut object.spec) {
                port.policies = vec!["guarded".to_owned()];
            }
        }
    });
    assert_snapshot!(world.run("get policies"), @r#"
    $ weft get policies
    NAME     RULES  INGRESS  EGRESS  ALLOWED  DENIED  OWNER  STATE
    guarded      4  deny     -         1.2 M     435  demo   active
    "#);
    assert_snapshot!(world.run("describe policy guarded"), @r#"
    $ weft describe policy guarded
    Name:        guarded
    Kind:        Policy
    Owner:       demo
    Generation:  3
    State:       active
    Rules:
      RULE  NAME     DIRECTION  ACTION                SESSIONS                                                                        HITS
         1  web      ingress    allow                 tcp from 10.0.0.0/8 except 10.1.0.0/16, 10.2.0.0/16 to port 80, 8000-8080  1 234 567
         2  -        ingress    allow                 icmp type 8 code 0                                                                 2
         3  no-mail  egress     deny                  tcp from fd00:1::7/128 port 1024-65535 to fd00::/8 port 25                        30
         4  -        egress     deny                  any to group suspects                                                              0
         -  default  ingress    deny                  all others                                                                       400
         -  default  egress     next policy, or deny  all others                                                                         5
    Used by:
      KIND   COUNT  NAMES
      ports      1  vm-7
    "#);
    let json: serde_json::Value =
        serde_json::from_str(&world.raw("get policy guarded -o json", "", false).0).unwrap();
    assert_eq!(json["stats"][0]["rules"][0], 1_234_567);
    assert_eq!(json["objects"][0]["policy"]["rules"][1]["icmp_type"], 8);
}

#[test]
fn floating_ips_show_how_many_sessions_they_translated() {
    let world = World::example();
    world.change(|answers| {
        let (floating, stats) = objects::floating_ip();
        answers.objects.push(floating);
        answers.floating_ips.push(stats);
    });
    assert_snapshot!(world.run("get floating-ips"), @r#"
    $ weft get floating-ips
    NAME         VRF     ADDRESS      PORT  INSIDE    FROM-INSIDE  FROM-OUTSIDE  OWNER  STATE
    vm-7-public  public  203.0.113.7  vm-7  10.0.0.7        1.2 M            42  demo   active
    "#);
    assert_snapshot!(world.run("describe fip vm-7-public"), @r#"
    $ weft describe fip vm-7-public
    Name:        vm-7-public
    Kind:        FloatingIp
    Owner:       demo
    Generation:  3
    State:       active
    Spec:
      vrf: public
      address: 203.0.113.7
      port: vm-7
      inside_address: 10.0.0.7
    Sessions:
      From inside:   1 234 567
      From outside:  42
    "#);
    let json: serde_json::Value = serde_json::from_str(&world.raw("get fips -o json", "", false).0).unwrap();
    assert_eq!(json["stats"][0]["sessions_from_outside"], 42);
    assert_eq!(json["objects"][0]["floating_ip"]["inside_address"], "10.0.0.7");
}

#[test]
fn pools_show_who_has_which_ports() {
    let world = World::example();
    world.change(|answers| {
        let (pool, stats) = objects::nat_pool();
        answers.objects.push(pool);
        answers.nat_pools.push(stats);
    });
    assert_snapshot!(world.run("get nat-pools"), @r#"
    $ weft get nat-pools
    NAME    VRF     ADDRESSES        INSIDE  SOURCES     BLOCKS  HELD  SESSIONS  OWNER  STATE
    shared  public  203.0.113.64/30  red     10.0.0.0/8   4.0 k     1         9  demo   active
    "#);
    assert_snapshot!(world.run("describe pool shared"), @r#"
    $ weft describe pool shared
    Name:        shared
    Kind:        NatPool
    Owner:       demo
    Generation:  3
    State:       active
    Spec:
      vrf: public
      addresses:
      - 203.0.113.64/30
      inside_vrf: red
      sources:
      - 10.0.0.0/8
      first_port: 1024
      last_port: 65535
      block_size: 64
    Sessions:    9
    Blocks:      1 of 4 032 held
      ADDRESS       PORTS      HOLDER    WORKER  SESSIONS
      203.0.113.65  2048-2111  10.0.0.7       1         9
    "#);
    let json: serde_json::Value = serde_json::from_str(&world.raw("get pools -o json", "", false).0).unwrap();
    assert_eq!(json["stats"][0]["holders"][0]["first_port"], 2048);
}

#[test]
fn services_show_their_backends_and_who_has_which_sessions() {
    let world = World::example();
    world.change(|answers| {
        let (service, stats) = objects::service();
        answers.objects.push(service);
        answers.services.push(stats);
    });
    assert_snapshot!(world.run("get services"), @r#"
    $ weft get services
    NAME  VRF  ADDRESS    PORTS               BACKENDS  TAKING  SESSIONS  OWNER  STATE
    web   red  10.0.0.80  tcp 80>8080, udp *         3       1        42  demo   active
    "#);
    assert_snapshot!(world.run("describe svc web"), @r#"
    $ weft describe svc web
    Name:        web
    Kind:        Service
    Owner:       demo
    Generation:  3
    State:       active
    Spec:
      vrf: red
      address: 10.0.0.80
      ports:
      - protocol: tcp
        port: 80
        target_port: 8080
      - protocol: udp
      backends:
      - address: 10.0.0.7
        weight: 2
        state: up
        port: vm-7
      - address: 10.0.0.130
        state: draining
      - address: 10.0.0.8
        port: vm-8
    Backends:
      BACKEND     PORT  WEIGHT  STATE     SESSIONS  OPENED
      10.0.0.7    vm-7       2  up              41   1 234
      10.0.0.130  -          1  draining         1     600
      10.0.0.8    vm-8       1  left out         -       -
    "#);
    let json: serde_json::Value =
        serde_json::from_str(&world.raw("get services -o json", "", false).0).unwrap();
    assert_eq!(json["stats"][0]["backends"][0]["sessions"], 41);
}

#[test]
fn a_translated_flow_shows_what_leaves_in_its_place() {
    let world = World::example();
    world.change(|answers| {
        let flow = &mut answers.flows[0][0];
        flow.translated_source = "203.0.113.7".to_owned();
        flow.translated_source_port = 40_000;
        flow.translated_destination = "10.0.0.130".to_owned();
        flow.translated_destination_port = 80;
    });
    assert_snapshot!(world.run("get flows"), @r#"
    $ weft get flows
    SESSION  DIRECTION  VRF  PROTOCOL  SOURCE          DESTINATION     TRANSLATED                         INGRESS  ACTION                 PACKETS   BYTES        IDLE
          1  forward    red  tcp       10.0.0.7:40000  10.0.0.130:80   203.0.113.7:40000 > 10.0.0.130:80  vm-7     tunnel host-b vni 100    1.5 k  2.1 MB  1 min 15 s
          1  reply      red  tcp       10.0.0.130:80   10.0.0.7:40000  -                                  host-b   port vm-7                1.5 k  2.1 MB  1 min 15 s
          2  forward    red  tcp       [fd00:1::7]:1   fd00:1::9       -                                  vm-7     tunnel host-b vni 100    1.5 k  2.1 MB  1 min 15 s
    "#);
}

#[test]
fn get_all_shows_a_table_a_kind_and_filters() {
    let world = World::example();
    assert_snapshot!(world.run("get all --vrf blue"), @r#"
    $ weft get all --vrf blue
    VRFS
    NAME  MODE     OWNER  STATE
    blue  packets  demo   active

    PORTS
    NAME   KIND      VRF   ADDRESS          STATE  RX-PACKETS  TX-PACKETS  DROPS
    web-1  vlan 101  blue  10.0.0.9 (vm-7)  down        3.1 k       2.9 k  unknown-vlan 12, no-route 3, 1 more

    ROUTES
    NAME         VRF   PREFIX         NEXT-HOP                      OWNER  STATE
    blue-null    blue  0.0.0.0/0      discard                       demo   active
    blue-remote  blue  10.0.0.128/25  tunnel host-c labels 1000/17  demo   active

    LABELS
    NAME     LABEL  TARGET    OWNER  STATE
    blue-in   1000  vrf blue  demo   active
    "#);
    assert_snapshot!(world.run("get all -o name"), @r#"
    $ weft get all -o name
    vrf/blue
    vrf/red
    network/red-net
    port/lab
    port/uplink
    port/vm-7
    port/web-1
    tunnel-endpoint/host-b
    tunnel-endpoint/host-c
    next-hop-group/web
    route/blue-null
    route/blue-remote
    route/red-remote
    route/red-service
    vni/red-in
    label/blue-in
    "#);
    assert_snapshot!(world.run("get all --owner nobody"), @r#"
    $ weft get all --owner nobody
    no objects
    "#);
}

#[test]
fn names_choose_objects_and_a_wrong_one_is_answered_with_a_like_one() {
    let world = World::example();
    let mut text = world.run("get route/red-remote");
    text += &world.run("get routes blue-null red-service -o name");
    text += &world.run("get port vm7");
    text += &world.run("get vrf yellow");
    assert_snapshot!(text, @r#"
    $ weft get route/red-remote
    NAME        VRF  PREFIX         NEXT-HOP               OWNER  STATE
    red-remote  red  10.0.0.128/25  tunnel host-b vni 100  demo   active
    $ weft get routes blue-null red-service -o name
    route/blue-null
    route/red-service
    $ weft get port vm7
    error: port "vm7" does not exist
      help: did you mean "vm-7"?
    [exit code 1]
    $ weft get vrf yellow
    error: vrf "yellow" does not exist
      help: see what there is with `weft get vrfs`
    [exit code 1]
    "#);
}

#[test]
fn counters_are_shown_with_units_and_the_balance_to_the_last_packet() {
    let world = World::example();
    let things = ["drops", "workers", "stages", "tables", "balance"];
    let text: String = things
        .iter()
        .map(|thing| world.run(&format!("get {thing}")))
        .collect();
    assert_snapshot!(text, @r#"
    $ weft get drops
    REASON        PACKETS  HELP
    unknown-vlan       12  add a VLAN sub-interface, or check the VLAN that the guest or switch sends
    no-route            3  add a route, or check the address that the guest uses
    malformed           1  the sender made a broken frame; capture at the port to see it
    $ weft get workers
    WORKER  LCORE  PACKETS  PACKETS/BURST  CYCLES/PACKET  BUSY  SNAPSHOT  STATE
         0      1    1.2 M           30.0          150.0  25 %        12  runs
         1      2        0              -              -     -        11  stuck in port vm-7
    $ weft get stages
    WORKER  STAGE     PACKETS  CYCLES  CYCLES/PACKET
         0  classify    1.0 M  30.0 M           30.0
         0  flow        1.0 M  51.5 M           51.5
    $ weft get tables
    TABLE             ENTRIES  OF
    sessions          100.0 k  1.0 M (10 %)
    sessions created  130.0 k  -
    sessions expired   30.0 k  -
    routes                 42  -
    vrfs                    3  -
    next hops               9  -
    snapshot               12  -
    $ weft get balance
    CAME        PACKETS  WENT         PACKETS
    received  1 207 330  sent       1 200 965
    created          20  delivered      6 300
                         merged             5
                         dropped           16
                         held              64
    the books balance
    "#);
    assert_snapshot!(world.run("get counters"), @r#"
    $ weft get counters
    PORTS
    NAME    RX-PACKETS  RX-BYTES  TX-PACKETS  TX-BYTES  MISSED  DROPS
    vm-7         1.2 M   77.1 MB       1.2 M   76.7 MB       -  -
    web-1        3.1 k  201.5 kB       2.9 k  185.5 kB       5  unknown-vlan 12, no-route 3, 1 more
    uplink          64       0 B          64       0 B       -  -

    WORKERS
    WORKER  LCORE  PACKETS  PACKETS/BURST  CYCLES/PACKET  BUSY  SNAPSHOT  STATE
         0      1    1.2 M           30.0          150.0  25 %        12  runs
         1      2        0              -              -     -        11  stuck in port vm-7

    DROPS
    REASON        PACKETS  HELP
    unknown-vlan       12  add a VLAN sub-interface, or check the VLAN that the guest or switch sends
    no-route            3  add a route, or check the address that the guest uses
    malformed           1  the sender made a broken frame; capture at the port to see it

    TABLES
    TABLE             ENTRIES  OF
    sessions          100.0 k  1.0 M (10 %)
    sessions created  130.0 k  -
    sessions expired   30.0 k  -
    routes                 42  -
    vrfs                    3  -
    next hops               9  -
    snapshot               12  -

    BALANCE
    CAME        PACKETS  WENT         PACKETS
    received  1 207 330  sent       1 200 965
    created          20  delivered      6 300
                         merged             5
                         dropped           16
                         held              64
    the books balance
    "#);
}

#[test]
fn owners_are_shown_with_their_last_revision() {
    let world = World::example();
    world.change(|answers| {
        answers.owners = vec![v1::OwnerRevision {
            owner: "neutron".to_owned(),
            revision: 9,
        }];
    });
    let mut text = world.run("get owners");
    text += &world.run("get owners -o yaml");
    assert_snapshot!(text, @r#"
    $ weft get owners
    OWNER    REVISION  OBJECTS
    demo            -       16
    neutron         9        0
    $ weft get owners -o yaml
    owners:
    - objects: 16
      owner: demo
      revision: 0
    - objects: 0
      owner: neutron
      revision: 9
    "#);
}

#[test]
fn books_that_do_not_balance_are_called_so() {
    let world = World::example();
    world.change(|answers| {
        if let Some(balance) = &mut answers.stats[0].balance {
            balance.sent -= 1;
        }
    });
    assert!(world.run("get balance").ends_with("more came than went: 1\n"));
    world.change(|answers| {
        if let Some(balance) = &mut answers.stats[0].balance {
            balance.sent += 3;
        }
    });
    assert!(world.run("get balance").ends_with("more went than came: 2\n"));
}

#[test]
fn nothing_is_said_in_words() {
    let world = World::new(world::Answers::default());
    let text: String = ["ports", "flows", "drops", "all"]
        .iter()
        .map(|what| world.run(&format!("get {what}")))
        .collect();
    assert_snapshot!(text, @r#"
    $ weft get ports
    no ports
    $ weft get flows
    no flows
    $ weft get drops
    no drops
    $ weft get all
    no objects
    "#);
}

#[test]
fn flows_are_asked_for_by_vrf_and_match() {
    let world = World::example();
    assert_snapshot!(world.run("get flows --vrf red --match proto=tcp,dport=80 --limit 5"), @r#"
    $ weft get flows --vrf red --match proto=tcp,dport=80 --limit 5
    SESSION  DIRECTION  VRF  PROTOCOL  SOURCE          DESTINATION     INGRESS  ACTION                 PACKETS   BYTES        IDLE
          1  forward    red  tcp       10.0.0.7:40000  10.0.0.130:80   vm-7     tunnel host-b vni 100    1.5 k  2.1 MB  1 min 15 s
          1  reply      red  tcp       10.0.0.130:80   10.0.0.7:40000  host-b   port vm-7                1.5 k  2.1 MB  1 min 15 s
          2  forward    red  tcp       [fd00:1::7]:1   fd00:1::9       vm-7     tunnel host-b vni 100    1.5 k  2.1 MB  1 min 15 s
    "#);
    world.change(|answers| {
        let asked = v1::ListFlowsRequest {
            vrf: "red".to_owned(),
            r#match: "proto=tcp,dport=80".to_owned(),
            limit: 5,
        };
        assert_eq!(answers.listed, [asked]);
    });
}

#[test]
fn describe_shows_all_there_is_of_a_port() {
    let world = World::example();
    assert_snapshot!(world.run("describe port web-1"), @r#"
    $ weft describe port web-1
    Name:        web-1
    Kind:        Port
    Owner:       demo
    Generation:  3
    State:       active
    Spec:
      vlan:
        parent: vm-7
        vlan: 101
      vrf: blue
      addresses:
      - 10.0.0.9
    Device:
      Link:      down
      Number:    4
      MAC:       02:00:00:00:00:07
      Queues:    2
      Says:      vlan 101 of vm-7
    Counters:
      Received:  3 149 packets, 201.5 kB
      Sent:      2 899 packets, 185.5 kB
      Lost by the device: 5 missed
    Drops:
      REASON        PACKETS  HELP
      unknown-vlan       12  add a VLAN sub-interface, or check the VLAN that the guest or switch sends
      no-route            3  add a route, or check the address that the guest uses
      malformed           1  the sender made a broken frame; capture at the port to see it
    "#);
    assert_snapshot!(world.run("describe port/lab"), @r#"
    $ weft describe port/lab
    Name:        lab
    Kind:        Port
    Owner:       demo
    Generation:  3
    State:       pending
                 vrf "green" does not exist: create it, and this port becomes active
    Spec:
      tap:
        interface: lab0
      vrf: green
    "#);
}

#[test]
fn describe_tells_what_a_vrf_holds_and_who_uses_an_endpoint() {
    let world = World::example();
    assert_snapshot!(world.run("describe vrf red"), @r#"
    $ weft describe vrf red
    Name:        red
    Kind:        Vrf
    Owner:       demo
    Generation:  3
    State:       active
    Holds:
      KIND      COUNT  NAMES
      networks      1  red-net
      ports         1  vm-7
      routes        2  red-remote, red-service
      vnis          1  red-in
    "#);
    assert_snapshot!(world.run("describe endpoint host-b"), @r#"
    $ weft describe endpoint host-b
    Name:        host-b
    Kind:        TunnelEndpoint
    Owner:       demo
    Generation:  3
    State:       active
    Spec:
      remote: 198.18.0.2
      encapsulation: vxlan
    Used by:
      KIND             COUNT  NAMES
      routes               1  red-remote
      next-hop-groups      1  web
    "#);
}

#[test]
fn check_port_succeeds_only_if_the_link_is_up() {
    let world = World::example();
    let mut text = world.run("check port vm-7");
    text += &world.run("check port web-1");
    text += &world.run("check port lab");
    text += &world.run("check port vm7");
    assert_snapshot!(text, @r#"
    $ weft check port vm-7
    NAME  STATE   LINK  QUEUES  MAC                DEVICE
    vm-7  active  up    2       02:00:00:00:00:07  vhost-user, 2 queues, mergeable buffers
    $ weft check port web-1
    NAME   STATE   LINK  QUEUES  MAC                DEVICE
    web-1  active  down  2       02:00:00:00:00:07  vlan 101 of vm-7
    [exit code 1]
    $ weft check port lab
    NAME  STATE    LINK  QUEUES  MAC  DEVICE
    lab   pending  down  0       -    -
    vrf "green" does not exist: create it, and this port becomes active
    [exit code 1]
    $ weft check port vm7
    error: port "vm7" does not exist
      help: did you mean "vm-7"?
    [exit code 1]
    "#);
}

#[test]
fn json_has_the_names_of_the_api() {
    let world = World::example();
    assert_snapshot!(world.run("get port web-1 -o json"), @r#"
    $ weft get port web-1 -o json
    {
      "objects": [
        {
          "generation": 3,
          "name": "web-1",
          "owner": "demo",
          "port": {
            "addresses": [
              "10.0.0.9"
            ],
            "vlan": {
              "parent": "vm-7",
              "vlan": 101
            },
            "vrf": "blue"
          },
          "status": {
            "state": "STATE_ACTIVE"
          }
        }
      ],
      "states": [
        {
          "device": "vlan 101 of vm-7",
          "id": 4,
          "link_up": false,
          "mac": "02:00:00:00:00:07",
          "name": "web-1",
          "queues": 2
        }
      ],
      "stats": [
        {
          "device_rx_errors": 0,
          "device_rx_missed": 5,
          "device_rx_no_buffer": 0,
          "device_tx_errors": 0,
          "drops": [
            {
              "help": "add a route, or check the address that the guest uses",
              "packets": 3,
              "reason": "no-route"
            },
            {
              "help": "add a VLAN sub-interface, or check the VLAN that the guest or switch sends",
              "packets": 12,
              "reason": "unknown-vlan"
            },
            {
              "help": "the sender made a broken frame; capture at the port to see it",
              "packets": 1,
              "reason": "malformed"
            },
            {
              "help": "a routing loop, or a traceroute",
              "packets": 0,
              "reason": "ttl-exceeded"
            }
          ],
          "name": "web-1",
          "rx_bytes": 201536,
          "rx_packets": 3149,
          "tx_bytes": 185536,
          "tx_packets": 2899
        }
      ]
    }
    "#);
    let (text, _, _) = world.raw("get counters -o json", "", false);
    let counters: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(counters["balance"]["held"], 64);
    assert_eq!(counters["workers"][0]["busy_cycles"], 181_099_500);
    let (text, _, _) = world.raw("get flows -o json", "", false);
    let flows: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(flows["flows"].as_array().unwrap().len(), 3);
    assert_eq!(flows["flows"][2]["destination_port"], 0);
}

#[test]
fn yaml_is_what_people_write() {
    assert_snapshot!(World::example().run("get endpoint host-c -o yaml"), @r#"
    $ weft get endpoint host-c -o yaml
    kind: TunnelEndpoint
    name: host-c
    owner: demo
    generation: 3
    spec:
      remote: 2001:db8::3
      encapsulation: mpls-over-udp
    status:
      state: active
    "#);
    assert_snapshot!(World::example().run("get group -o yaml"), @r#"
    $ weft get group -o yaml
    kind: NextHopGroup
    name: web
    owner: demo
    generation: 3
    spec:
      members:
      - name: a
        weight: 3
        next_hop:
          port:
            port: vm-7
      - name: b
        next_hop:
          tunnel:
            endpoint: host-b
            vni: 100
    status:
      state: active
    "#);
}

#[test]
fn what_if_is_told_line_by_line() {
    let lookup = |vrf: &str, prefix: &str, next_hop: &str| v1::RouteLookup {
        vrf: vrf.to_owned(),
        destination: "203.0.113.9".to_owned(),
        prefix: prefix.to_owned(),
        next_hop: next_hop.to_owned(),
    };
    let tunnel = "tunnel to host-b, 198.18.0.2, VXLAN VNI 300";
    let verdict = v1::PolicyVerdict {
        port: "vm-7".to_owned(),
        direction: v1::PolicyDirection::Egress.into(),
        action: v1::PolicyAction::Allow.into(),
        policy: "web".to_owned(),
        rule: 2,
        rule_name: "https".to_owned(),
    };
    let mut answer = v1::WhatIfResponse {
        vrf: "red".to_owned(),
        session: Some(v1::WhatIfSession {
            number: 77,
            initiator: true,
            holds: true,
        }),
        lookups: vec![
            lookup("red", "0.0.0.0/0", "VRF public"),
            lookup("public", "203.0.113.0/24", tunnel),
        ],
        policies: vec![verdict.clone()],
        translation: Some(v1::WhatIfTranslation {
            source: "203.0.113.64".to_owned(),
            source_port: 1024,
            destination: "203.0.113.9".to_owned(),
            destination_port: 80,
            source_by: "shared".to_owned(),
            destination_by: String::new(),
        }),
        next_hop: tunnel.to_owned(),
        port: "uplink".to_owned(),
        drop_reason: String::new(),
        help: String::new(),
    };
    let world = |answer: &v1::WhatIfResponse| {
        World::new(Answers {
            what_if: answer.clone(),
            ..Answers::default()
        })
    };
    let words = "trace --what-if --from vm-7 tcp 10.0.0.7:4000 > 203.0.113.9:80";
    let asked = world(&answer);
    assert_snapshot!(asked.run(words), @r"
    $ weft trace --what-if --from vm-7 tcp 10.0.0.7:4000 > 203.0.113.9:80
    packet      tcp 10.0.0.7:4000 > 203.0.113.9:80 from vm-7
    session     77, as a packet of its initiator
    route       red: 0.0.0.0/0 to VRF public
    route       public: 203.0.113.0/24 to tunnel to host-b, 198.18.0.2, VXLAN VNI 300
    policy      egress of vm-7: allow by rule 2 (https) of web
    source      203.0.113.64:1024 by shared
    forwarded   tunnel to host-b, 198.18.0.2, VXLAN VNI 300, out of port uplink
    ");
    let request = asked.answers.lock().unwrap().supposed.pop().unwrap();
    assert_eq!(request.from, "vm-7");
    answer.session = None;
    answer.translation = None;
    answer.lookups.truncate(1);
    answer.policies = vec![v1::PolicyVerdict {
        action: v1::PolicyAction::Reject.into(),
        rule: 0,
        rule_name: String::new(),
        ..verdict
    }];
    (answer.drop_reason, answer.help) = ("policy-rejected".to_owned(), "ask its owner".to_owned());
    assert_snapshot!(world(&answer).run(words), @r"
    $ weft trace --what-if --from vm-7 tcp 10.0.0.7:4000 > 203.0.113.9:80
    packet      tcp 10.0.0.7:4000 > 203.0.113.9:80 from vm-7
    session     none yet
    route       red: 0.0.0.0/0 to VRF public
    policy      egress of vm-7: reject by default of web
    dropped     policy-rejected
                help: ask its owner
    [exit code 1]
    ");
}

#[test]
fn a_terminal_gets_colour_and_a_pipe_does_not() {
    let world = World::example();
    let (plain, _) = world.run_with("get vrfs", "", false);
    let (coloured, _) = world.run_with("get vrfs", "", true);
    assert!(!plain.contains('\x1b'));
    assert!(coloured.contains("\x1b[1mNAME"), "{coloured}");
    let (plain, _) = world.run_with("get vrf x", "", false);
    let (coloured, _) = world.run_with("get vrf x", "", true);
    assert!(!plain.contains('\x1b'));
    assert!(coloured.contains("\x1b[1;31merror\x1b[0m: vrf"), "{coloured}");
}

/// A reader that has gone away.
struct ClosedPipe;

impl std::io::Write for ClosedPipe {
    fn write(&mut self, _bytes: &[u8]) -> std::io::Result<usize> {
        Err(std::io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Err(std::io::ErrorKind::BrokenPipe.into())
    }
}

#[test]
fn a_closed_pipe_ends_the_program_in_silence() {
    let world = World::example();
    for words in [
        "get ports",
        "get all -o yaml",
        "describe ports",
        "completion bash",
        "top --once --interval 0.05",
    ] {
        let mut errors = Vec::new();
        let code = world.run_to(words, "", false, &mut ClosedPipe, &mut errors);
        assert_eq!(
            (code, String::from_utf8(errors).unwrap()),
            (ExitCode::Success, String::new()),
            "{words}"
        );
    }
}
