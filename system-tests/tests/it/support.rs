//! Running commands and waiting for events, always with a deadline.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};
use system_tests::Cluster;

pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Runs `command` to its end and takes what it writes.
#[track_caller]
pub(crate) fn output(command: &mut Command) -> Output {
    finish(spawn(command.stdout(Stdio::piped())))
}

/// Starts `command`, whose standard error is taken.
#[track_caller]
pub(crate) fn spawn(command: &mut Command) -> Child {
    let spawned = command.stderr(Stdio::piped()).spawn();
    spawned.unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// Waits for the end of `child`, which is killed if it does not come.
#[track_caller]
pub(crate) fn finish(child: Child) -> Output {
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
    let (ended, watched) = channel::<()>();
    let watchdog = thread::spawn(move || {
        let is_late = watched.recv_timeout(DEADLINE) == Err(RecvTimeoutError::Timeout);
        if is_late {
            kill(pid, Signal::SIGKILL).unwrap();
        }
        is_late
    });
    let output = child.wait_with_output().unwrap();
    drop(ended);
    assert!(!watchdog.join().unwrap(), "it did not end in {DEADLINE:?}: {output:?}");
    output
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Asks until there is an answer.
#[track_caller]
pub(crate) fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what} did not happen in {DEADLINE:?}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A line in KiB of a living process' `/proc/PID/status`, such as `VmRSS`.
#[track_caller]
pub(crate) fn memory_kib(pid: u32, line: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let value = status.lines().find_map(|text| text.strip_prefix(line)?.strip_prefix(':'));
    value.unwrap().trim().trim_end_matches(" kB").parse().unwrap()
}

/// Waits until the controller has no job and no worker holds a lease.
#[track_caller]
pub(crate) fn until_idle(cluster: &Cluster) {
    until("an idle cluster", || {
        let status = cluster.status();
        let is_idle = status.jobs.is_empty() && status.workers.iter().all(|w| w.leases == 0);
        is_idle.then_some(())
    });
}
