//! Devices that do not open, disks that are full, requests that panic.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use redb::{Database, StorageBackend, backends::InMemoryBackend};

use super::*;
use crate::writer::{Delta, RETRY_FIRST, Unavailable, Writer};

fn put(object: v1::Object) -> Delta {
    Delta::Put(Object::from_proto(&object))
}

#[test]
fn a_device_that_does_not_open_is_the_ports_error_and_changes_nothing() {
    let mut world = World::new();
    world.apply(&[vrf("red")]);
    world.engine.break_port("vm", true);
    let error = world.refused(&[
        vrf("blue"),
        tap("vm", "red", &["10.0.0.5"]),
        tap("ok", "red", &[]),
    ]);
    assert!(
        error.starts_with("port.device: ") && error.contains("no such device"),
        "{error}"
    );
    // The numbers that the batch had taken are free again.
    world.apply(&[vrf("green"), tap("next", "red", &[])]);
    assert_eq!(world.engine.tables().vrfs[&VrfId(2)].name, "green");
}

#[test]
fn a_waiting_port_that_does_not_open_fails_alone_and_is_tried_again() {
    let mut world = World::new();
    world.engine.break_port("vm", true);
    world.apply(&[
        tap("vm", "red", &["10.0.0.5"]),
        route("r", "red", "10.1.0.0/16", to_port("vm")),
    ]);
    // Another owner's VRF is not to suffer from the port.
    let answer = world.try_apply("p", &[vrf("red")], &[]);
    assert!(matches!(
        answer.verdicts[0],
        Verdict::Done {
            state: Some(State::Active),
            ..
        }
    ));
    let (state, message) = world.status(Kind::Port, "vm");
    assert!(
        state == State::Failed && message.contains("no such device"),
        "{message}"
    );
    let (state, message) = world.status(Kind::Route, "r");
    assert!(
        state == State::Pending && message.starts_with("port \"vm\" has failed: "),
        "{message}"
    );

    let start = Instant::now();
    world.core.retry(start);
    world.engine.break_port("vm", false);
    world.core.retry(start + RETRY_FIRST / 2);
    assert_eq!(
        world.status(Kind::Port, "vm").0,
        State::Failed,
        "tried before its time"
    );
    world.core.retry(start + RETRY_FIRST);
    assert_eq!(world.status(Kind::Port, "vm").0, State::Active);
    assert_eq!(world.status(Kind::Route, "r").0, State::Active);
    assert_eq!(world.routes().len(), 2);
}

#[test]
fn the_pause_between_tries_grows() {
    let mut world = World::new();
    world.engine.break_port("vm", true);
    world.apply(&[tap("vm", "red", &[])]);
    world.apply(&[vrf("red")]);
    let start = Instant::now();
    let second = Duration::from_secs(1);
    for tick in 0..3 {
        world.core.retry(start + tick * second);
    }
    // Tried at 1 s; next at 3 s.
    world.engine.break_port("vm", false);
    world.core.retry(start + 2 * second);
    assert_eq!(world.status(Kind::Port, "vm").0, State::Failed);
    world.core.retry(start + 3 * second);
    assert_eq!(world.status(Kind::Port, "vm").0, State::Active);
}

#[test]
fn a_failed_port_that_is_applied_again_is_tried_at_once() {
    let mut world = World::new();
    world.engine.break_port("vm", true);
    world.apply(&[tap("vm", "red", &[])]);
    world.apply(&[vrf("red")]);
    assert_eq!(world.status(Kind::Port, "vm").0, State::Failed);
    world.refused(&[tap("vm", "red", &[])]);
    assert_eq!(world.status(Kind::Port, "vm").0, State::Failed);
    // While it is not plugged, even its device may change.
    world.engine.break_port("vm", false);
    world.apply(&[port("vm", "red", tap_device("other"))]);
    assert_eq!(world.status(Kind::Port, "vm").0, State::Active);
}

#[test]
fn a_start_with_a_lost_device_restores_all_the_rest() {
    let directory = tempfile::tempdir().unwrap();
    let mut world = World::restored(Store::open(directory.path()).unwrap(), Arc::default());
    let names = ["a", "b", "c"];
    let mut objects = vec![vrf("red"), port("a-5", "red", vlan_device("a", 5))];
    objects.extend(
        names
            .iter()
            .enumerate()
            .map(|(i, name)| tap(name, "red", &[&format!("10.0.0.{i}")])),
    );
    objects.push(group("g", &names.map(|name| (name, to_port(name)))));
    objects.push(route("r", "red", "0.0.0.0/0", to_group("g")));
    world.apply(&objects);
    drop(world);
    let engine = Arc::new(MemoryEngine::default());
    engine.break_port("a", true);
    let world = World::restored(Store::open(directory.path()).unwrap(), engine);
    assert_eq!(world.status(Kind::Port, "a").0, State::Failed);
    assert_eq!(world.status(Kind::Port, "a-5").0, State::Pending);
    for (kind, name) in [
        (Kind::Port, "b"),
        (Kind::Port, "c"),
        (Kind::NextHopGroup, "g"),
        (Kind::Route, "r"),
    ] {
        assert_eq!(world.status(kind, name).0, State::Active, "{name}");
    }
    assert_eq!(world.engine.tables().ports.len(), 2);
}

#[test]
fn a_data_plane_that_takes_nothing_is_no_fault_of_the_objects() {
    let mut world = World::new();
    world.engine.set_stopping(true);
    let batch = Batch {
        owner: "o".into(),
        revision: 0,
        puts: vec![Ok(valid(&vrf("red")))],
        deletes: vec![],
        dry_run: false,
    };
    assert!(matches!(
        world.core.apply(batch.clone()),
        Err(Unavailable::Engine(_))
    ));
    world.engine.set_stopping(false);
    assert!(world.stored().is_empty());
    assert!(matches!(
        world.core.apply(batch).unwrap().verdicts[0],
        Verdict::Done { .. }
    ));
}

#[test]
fn a_refused_delta_keeps_its_last_good_version_and_the_others_go_on() {
    let mut world = World::new();
    world.apply(&[vrf("red"), tap("vm", "red", &["10.0.0.5"])]);
    world.engine.break_port("bad", true);
    let deltas = [
        put(vrf("blue")),
        put(tap("vm", "red", &["10.0.0.300"])),
        put(tap("bad", "red", &[])),
        put(tap("good", "red", &["10.0.0.6"])),
        Delta::Delete(Ok(key(Kind::Vrf, "red"))),
        put(tap("dup", "red", &["10.0.0.6"])),
    ];
    let answer = world.core.deltas(&"o".into(), 4, &deltas).unwrap();
    let taken: Vec<bool> = answer
        .verdicts
        .iter()
        .map(|v| matches!(v, Verdict::Done { .. }))
        .collect();
    assert_eq!(taken, [true, false, false, true, false, false]);
    let addresses: Vec<String> = world
        .routes()
        .keys()
        .map(|(_, prefix)| prefix.to_string())
        .collect();
    assert_eq!(addresses, ["10.0.0.5/32", "10.0.0.6/32"]);
    assert_eq!(world.stored().len(), 4);
    assert_eq!(world.core.revisions(), [("o".into(), 4)]);
}

#[test]
fn one_object_may_come_and_go_several_times_in_a_run_of_deltas() {
    let mut world = World::new();
    let red = key(Kind::Vrf, "red");
    let vm = key(Kind::Port, "vm");
    let deltas = [
        put(vrf("red")),
        put(tap("vm", "red", &[])),
        Delta::Delete(Ok(vm.clone())),
        put(port("vm", "red", vhost_device("/run/vm.sock"))),
        Delta::Delete(Ok(red.clone())),
        Delta::Delete(Ok(vm)),
        Delta::Delete(Ok(red)),
        put(vrf("red")),
        put(tap("vm", "red", &["10.0.0.1"])),
    ];
    let answer = world.core.deltas(&"o".into(), 0, &deltas).unwrap();
    let refused = answer
        .verdicts
        .iter()
        .position(|verdict| matches!(verdict, Verdict::Refused(_)));
    assert_eq!(refused, Some(4), "only the VRF in use is not deleted");
    assert_eq!((world.stored().len(), world.engine.tables().ports.len()), (2, 1));
    // A run later the device changes hands within one run.
    let deltas = [
        Delta::Delete(Ok(key(Kind::Port, "vm"))),
        put(port("vm", "red", vhost_device("/run/vm.sock"))),
        put(port("vm2", "red", tap_device("vm"))),
    ];
    let answer = world.core.deltas(&"o".into(), 0, &deltas).unwrap();
    assert!(
        answer
            .verdicts
            .iter()
            .all(|verdict| matches!(verdict, Verdict::Done { .. })),
        "{answer:?}"
    );
    assert_eq!(world.engine.tables().ports.len(), 2);
}

#[test]
fn a_sweep_removes_what_is_named_no_more_but_not_what_others_use() {
    let mut world = World::new();
    world.apply(&[
        vrf("red"),
        vrf("blue"),
        tap("vm", "red", &["10.0.0.5"]),
        port("vm-5", "red", vlan_device("vm", 5)),
        route("r", "red", "10.1.0.0/16", to_port("vm-5")),
        vrf("kept"),
    ]);
    world.try_apply(
        "p",
        &[route(
            "theirs",
            "blue",
            "10.0.0.0/8",
            hop(v1::next_hop::To::Discard(v1::Discard {})),
        )],
        &[],
    );
    let named = [key(Kind::Vrf, "kept")].into_iter().collect();
    let (swept, _) = world.core.sweep(&"o".into(), &named).unwrap();
    assert_eq!(swept, 4);
    let left: Vec<String> = world
        .stored()
        .iter()
        .map(|stored| stored.key.name.to_string())
        .collect();
    assert_eq!(left, ["blue", "kept", "theirs"]);
}

#[tokio::test]
async fn a_panic_ends_one_request_and_the_state_comes_back_from_the_store() {
    let mut world = World::new();
    world.apply(&[
        vrf("red"),
        tap("vm", "red", &["10.0.0.5"]),
        group("g", &[("m", to_port("vm"))]),
        route("r", "red", "10.1.0.0/16", to_group("g")),
    ]);
    let before = by_value(&world.engine.tables());
    let World { core, engine } = world;
    let (writer, thread) = Writer::start(core).unwrap();
    assert!(matches!(writer.panic_once().await, Err(Unavailable::Fault)));
    writer.ping().await.unwrap();
    assert!(by_value(&engine.tables()) == before);
    let (views, _) = writer.get(Filter::default()).await.unwrap();
    assert_eq!(views.len(), 5);
    drop(writer);
    thread.join().unwrap();
}

/// A disk that can be full, and that is still there when the store is opened again.
#[derive(Clone, Debug)]
struct Disk(Arc<(InMemoryBackend, AtomicBool)>);

impl Disk {
    fn new() -> Self {
        Disk(Arc::new((InMemoryBackend::new(), AtomicBool::new(false))))
    }

    fn set_full(&self, full: bool) {
        self.0.1.store(full, Ordering::SeqCst);
    }

    fn store(&self) -> Store {
        let disk = self.clone();
        let path = "/disk/weft.redb".into();
        let open = move || {
            Database::builder()
                .create_with_backend(disk.clone())
                .map_err(|error| crate::store::StoreError::Unusable {
                    path: "/disk/weft.redb".into(),
                    source: error.into(),
                })
        };
        Store::with(path, Some(Box::new(open))).unwrap()
    }

    fn room(&self) -> Result<(), std::io::Error> {
        match self.0.1.load(Ordering::SeqCst) {
            true => Err(std::io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> Result<u64, std::io::Error> {
        self.0.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), std::io::Error> {
        self.0.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> Result<(), std::io::Error> {
        self.room()?;
        self.0.0.set_len(len)
    }

    fn sync_data(&self) -> Result<(), std::io::Error> {
        self.room()?;
        self.0.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), std::io::Error> {
        self.room()?;
        self.0.0.write(offset, data)
    }
}

#[test]
fn a_full_disk_changes_nothing_and_weftd_goes_on_when_there_is_room() {
    let disk = Disk::new();
    let mut world = World::restored(disk.store(), Arc::default());
    world.apply(&[vrf("red"), tap("vm", "red", &["10.0.0.5"])]);
    let before = by_value(&world.engine.tables());
    disk.set_full(true);
    let batch = |objects: &[v1::Object], deletes: &[Key]| {
        let deletes = deletes.iter().cloned().map(Ok).collect();
        Batch::of(
            "o".into(),
            objects.iter().map(Object::from_proto).collect(),
            deletes,
        )
    };
    for _ in 0..2 {
        let moved = [tap("vm", "red", &["10.0.0.6"]), vrf("blue")];
        let error = world.core.apply(batch(&moved, &[])).unwrap_err().to_string();
        assert!(
            error.starts_with("nothing was changed, because it could not be stored: /disk/weft.redb"),
            "{error}"
        );
        assert!(by_value(&world.engine.tables()) == before);
        let gone = [key(Kind::Port, "vm"), key(Kind::Vrf, "red")];
        assert!(matches!(
            world.core.apply(batch(&[], &gone)),
            Err(Unavailable::Store(_))
        ));
        assert!(by_value(&world.engine.tables()) == before);
    }
    disk.set_full(false);
    world.apply(&[vrf("green")]);
    let names: Vec<String> = world
        .stored()
        .iter()
        .map(|stored| stored.key.name.to_string())
        .collect();
    assert_eq!(names, ["green", "red", "vm"]);
    let tables = by_value(&world.engine.tables());
    drop(world);
    let world = World::restored(disk.store(), Arc::default());
    assert!(by_value(&world.engine.tables()) == tables);
}
