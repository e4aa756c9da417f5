//! DPDK's log lines, brought into weft's own log.
//!
//! DPDK writes to a stdio stream. That stream is a pipe here, never waited for (a full pipe loses lines, not time);
//! a thread reads it, hands lines to `tracing` under the target `dpdk`, a bounded number a second, and remembers the
//! last ones, so that an error about a device can say what its driver complained about.
#![allow(unsafe_code)]

use std::{
    collections::VecDeque,
    fs::File,
    io::{BufRead, BufReader, Write},
    os::fd::{FromRawFd, IntoRawFd, OwnedFd},
    sync::{Condvar, Mutex, OnceLock, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// Lines remembered.
const REMEMBERED: usize = 64;
/// Lines handed on in a second; a hostile guest must not fill the disk.
const LINES_A_SECOND: u32 = 20;

struct Collector {
    state: Mutex<State>,
    changed: Condvar,
    pipe: Mutex<File>,
}

#[derive(Default)]
struct State {
    lines: VecDeque<(u64, String)>,
    number: u64,
    /// The last marker that came out of the pipe.
    marker: u64,
    next_marker: u64,
}

static COLLECTOR: OnceLock<Collector> = OnceLock::new();

/// Starts the collector and points DPDK's log at it. Once a process; later calls do nothing.
pub(super) fn start() -> std::io::Result<()> {
    if COLLECTOR.get().is_some() {
        return Ok(());
    }
    let (read, write) = pipe()?;
    let ours = write.try_clone()?;
    // SAFETY: the descriptor is open and given up to the stream; the mode is a C string.
    let stream = unsafe { libc::fdopen(write.into_raw_fd(), c"w".as_ptr()) };
    if stream.is_null() {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: the stream is open and has not been used; it stays open for the life of the process.
    unsafe {
        libc::setvbuf(stream, std::ptr::null_mut(), libc::_IOLBF, 1024);
        dpdk_sys::rte_openlog_stream(stream.cast());
    }
    let collector = Collector {
        state: Mutex::default(),
        changed: Condvar::new(),
        pipe: Mutex::new(File::from(ours)),
    };
    if COLLECTOR.set(collector).is_ok() {
        thread::Builder::new()
            .name("dpdk-log".to_owned())
            .spawn(move || collect(File::from(read)))?;
    }
    Ok(())
}

fn pipe() -> std::io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [0; 2];
    // SAFETY: the array takes the two descriptors, which nobody else owns.
    let (read, write) = unsafe {
        if libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) != 0 {
            return Err(std::io::Error::last_os_error());
        }
        (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1]))
    };
    // SAFETY: only the writing end's flags change: DPDK must never wait for the reader.
    if unsafe { libc::fcntl(ends[1], libc::F_SETFL, libc::O_NONBLOCK) } != 0 {
        return Err(std::io::Error::last_os_error());
    }
    Ok((read, write))
}

const MARKER: &str = "\u{1}weft-marker ";

fn collect(pipe: File) {
    let Some(collector) = COLLECTOR.get() else { return };
    let mut second = Instant::now();
    let mut in_second = 0;
    for line in BufReader::new(pipe).split(b'\n') {
        let Ok(line) = line else { return };
        let line = String::from_utf8_lossy(&line);
        let line = line.trim_end();
        let mut state = collector.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(number) = line.strip_prefix(MARKER) {
            state.marker = number.parse().unwrap_or(state.marker);
            collector.changed.notify_all();
            continue;
        }
        if line.is_empty() {
            continue;
        }
        state.number += 1;
        let number = state.number;
        state.lines.push_back((number, line.to_owned()));
        if state.lines.len() > REMEMBERED {
            state.lines.pop_front();
        }
        drop(state);

        if second.elapsed() >= Duration::from_secs(1) {
            if in_second > LINES_A_SECOND {
                tracing::warn!(target: "dpdk", lines = in_second - LINES_A_SECOND, "more lines, left out");
            }
            second = Instant::now();
            in_second = 0;
        }
        in_second += 1;
        if in_second <= LINES_A_SECOND {
            tracing::info!(target: "dpdk", "{line}");
        }
    }
}

/// A place in the log, from which to look back later.
#[derive(Clone, Copy, Debug)]
pub struct Mark(u64);

/// Now.
pub fn mark() -> Mark {
    Mark(COLLECTOR.get().map_or(0, |collector| {
        synchronise(collector);
        collector
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .number
    }))
}

/// What DPDK and its drivers have said since `mark`, in one line; None: nothing.
pub fn since(mark: Mark) -> Option<String> {
    let collector = COLLECTOR.get()?;
    synchronise(collector);
    let state = collector.state.lock().unwrap_or_else(PoisonError::into_inner);
    let said: Vec<&str> = state
        .lines
        .iter()
        .filter(|(number, _)| *number > mark.0)
        .map(|(_, line)| line.as_str())
        .collect();
    (!said.is_empty()).then(|| said.join("; "))
}

/// Waits (a tenth of a second at most) until the reader has seen all that is in the pipe now.
fn synchronise(collector: &Collector) {
    let mut state = collector.state.lock().unwrap_or_else(PoisonError::into_inner);
    state.next_marker += 1;
    let wanted = state.next_marker;
    drop(state);
    let text = format!("{MARKER}{wanted}\n");
    let written = collector
        .pipe
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .write_all(text.as_bytes());
    if written.is_err() {
        return;
    }
    let state = collector.state.lock().unwrap_or_else(PoisonError::into_inner);
    let limit = Duration::from_millis(100);
    drop(
        collector
            .changed
            .wait_timeout_while(state, limit, |state| state.marker < wanted),
    );
}
