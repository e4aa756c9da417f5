//! EAL and its lcores.

use std::sync::mpsc;

use weft_dataplane::dpdk::{Eal, EalConfig, EalError, clock, lcore::LaunchError};

use crate::{shared_memory_files, world};

#[test]
fn a_second_start_is_refused() {
    let _world = world();
    let config = EalConfig {
        worker_cpus: vec![0],
        no_huge: true,
        memory_mib: 16,
        file_prefix: "weft-second".to_owned(),
        ..EalConfig::default()
    };
    assert!(matches!(Eal::start(&config), Err(EalError::AlreadyStarted)));
}

#[test]
fn a_worker_runs_on_its_cpu_and_the_callers_thread_stays_free() {
    let world = world();
    let (told, heard) = mpsc::channel();
    let running = world
        .eal
        .launch(0, move || told.send(allowed_cpus()).unwrap())
        .unwrap();
    assert_eq!(running.lcore(), 1);
    running.wait().unwrap();
    assert_eq!(heard.recv().unwrap(), "1");
    assert_ne!(allowed_cpus(), "1", "EAL has pinned its caller");
}

#[test]
fn a_worker_takes_one_closure_at_a_time() {
    let world = world();
    let (release, wait) = mpsc::channel::<()>();
    let running = world.eal.launch(0, move || assert!(wait.recv().is_ok())).unwrap();
    assert!(matches!(
        world.eal.launch(0, || ()),
        Err(LaunchError::Busy { worker: 0, lcore: 1 })
    ));
    assert!(matches!(
        world.eal.launch(1, || ()),
        Err(LaunchError::NoSuchWorker {
            worker: 1,
            workers: 1
        })
    ));
    assert!(!running.is_finished());
    release.send(()).unwrap();
    running.wait().unwrap();
    world.eal.launch(0, || ()).unwrap().wait().unwrap();
}

#[test]
fn a_panic_on_a_worker_is_told_and_the_lcore_lives_on() {
    let world = world();
    let panicked = world
        .eal
        .launch(0, || panic!("on purpose"))
        .unwrap()
        .wait()
        .unwrap_err();
    assert_eq!(panicked.to_string(), "lcore 1 panicked: on purpose");
    world.eal.launch(0, || ()).unwrap().wait().unwrap();
}

#[test]
fn the_clock_runs_at_its_frequency() {
    let _world = world();
    let (start, before) = (std::time::Instant::now(), clock::now());
    while start.elapsed().as_millis() < 50 {
        std::hint::spin_loop();
    }
    let (passed, measured) = (start.elapsed(), clock::duration(clock::now() - before));
    let off = measured.abs_diff(passed);
    assert!(
        off.as_millis() < 10,
        "{measured:?} by the counter, {passed:?} by the clock"
    );
    assert_eq!(clock::cycles(std::time::Duration::from_secs(3)), 3 * clock::hz());
}

#[test]
fn without_hugepages_eal_leaves_no_files() {
    let _world = world();
    assert_eq!(shared_memory_files("weft-test"), 0);
}

/// The CPUs that the calling thread may use, as the kernel lists them.
fn allowed_cpus() -> String {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("Cpus_allowed_list"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().to_owned()
}
