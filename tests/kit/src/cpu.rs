//! CPU time of processes.

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

/// CPU time that the living process `pid` has used, all threads together.
pub fn cpu_time(pid: u32) -> Duration {
    let pid = Pid::from_raw(i32::try_from(pid).expect("a process id"));
    let clock = clock_getcpuclockid(pid).expect("the process lives");
    Duration::from(clock_gettime(clock).expect("the process lives"))
}

/// Times of a command.
#[derive(Clone, Copy, Debug)]
pub struct Spent {
    /// Its exit status.
    pub status: ExitStatus,
    /// User and system time of it and its children.
    pub cpu: Duration,
    /// Time on the wall.
    pub wall: Duration,
}

/// Runs `command` to its end; no other child may end meanwhile.
pub fn run_timed(command: &mut Command) -> Spent {
    let before = children_time();
    let start = Instant::now();
    let status = command.status().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    Spent { status, cpu: children_time() - before, wall: start.elapsed() }
}

fn children_time() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("getrusage of our own children");
    let us = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Duration::from_micros(u64::try_from(us).expect("time is not negative"))
}
