//! Two workers share the traffic, the flow table and the books.

use weft_tests::{
    container::{Container, TapPort},
    host::{Host, Settings, hugepages_are_free, number, rows},
    lone::tenants,
    world::{World, in_world},
};

super::scenarios! {
    two_workers_split_the_traffic: ["Operations: two workers split the traffic"],
    both_directions_of_a_flow_are_one_session_whichever_worker_sees_them: [
        "Operations: two workers split the traffic",
    ],
}

struct TwoWorkers {
    host: Host,
    web: Container,
    app: Container,
}

impl World for TwoWorkers {
    fn build() -> Self {
        let mut host = Host::new(
            "pair",
            &Settings {
                workers: vec![0, 1],
                hugepages: hugepages_are_free(256),
                ..Settings::default()
            },
        );
        host.start();
        host.apply(&tenants());
        let container = |interface: &str, mac: &str, address: &str, worker: u8| {
            let mut port = TapPort::new(
                "red",
                interface,
                mac,
                &[address, &address.replace("10.0.0.", "fd00:1::")],
            );
            // One port a worker: requests are one's, answers are the other's.
            port.more = format!("workers: [{worker}]");
            host.container(&port, &["10.0.0.254", "fd00:1::fe"])
        };
        let web = container("web", "02:00:00:00:01:01", "10.0.0.1", 0);
        let app = container("app", "02:00:00:00:01:02", "10.0.0.2", 1);
        TwoWorkers { host, web, app }
    }

    fn hosts(&mut self) -> Vec<&mut Host> {
        vec![&mut self.host]
    }
}

fn packets_by_worker(host: &Host) -> Vec<u64> {
    rows(&host.json("get workers"))
        .iter()
        .map(|worker| number(worker, "packets"))
        .collect()
}

fn two_workers_split_the_traffic() {
    in_world(|world: &mut TwoWorkers| {
        let before = packets_by_worker(&world.host);
        assert_eq!(before.len(), 2);
        for target in ["10.0.0.2", "fd00:1::2"] {
            let server = world.app.iperf_server();
            let rate = world
                .web
                .iperf(target, "--time 2 --parallel 4")
                .expect("iperf3 runs");
            drop(server);
            assert!(rate > 0.0, "{rate} Mbit/s over {target}");
        }
        let after = packets_by_worker(&world.host);
        for (worker, (before, after)) in before.iter().zip(&after).enumerate() {
            assert!(
                after - before > 1000,
                "worker {worker} saw {} packets",
                after - before
            );
        }
        // The answer to anything but traffic: no packet was lost inside.
        let drops = world.host.drops();
        for reason in [
            "session-conflict",
            "no-route",
            "malformed",
            "bad-checksum",
            "new-flow-budget",
        ] {
            assert_eq!(drops.get(reason).copied().unwrap_or(0), 0, "{drops:?}");
        }
    });
}

fn both_directions_of_a_flow_are_one_session_whichever_worker_sees_them() {
    in_world(|world: &mut TwoWorkers| {
        assert_eq!(world.web.ping("10.0.0.2", 20), 20);
        assert_eq!(world.app.ping("fd00:1::1", 20), 20);
        let flows = world.host.json("get flows --vrf red --match proto=icmp");
        let sessions: std::collections::BTreeMap<u64, usize> =
            rows(&flows).iter().fold(Default::default(), |mut map, row| {
                *map.entry(number(row, "session")).or_default() += 1;
                map
            });
        assert!(
            !sessions.is_empty() && sessions.values().all(|directions| *directions == 2),
            "{flows}"
        );
    });
}
