//! Starts and watches a set of processes, from one thread that waits in poll(2).
//!
//! [`Supervisor`] starts [`Program`]s, signals them, and reports what happens to them as [`Event`]s.
//!
//! Invariants:
//! - every child was started by the thread that waits here, and is told by the kernel when that
//!   thread ends, so that nothing outlives us, not even after a SIGKILL;
//! - a process is signalled only through its pidfd, never through a number that may have passed on;
//! - nothing sleeps: every wait ends at an event or a deadline.
//!
//! Not here: which programs make up a cluster, and which of them start again (`cluster`).

mod daemon;
pub(crate) mod log;
mod manager;
mod process;
mod signals;
mod supervisor;
pub(crate) mod sys;

pub(crate) use daemon::become_daemon;
pub(crate) use log::tail;
pub(crate) use manager::Manager;
pub(crate) use process::{Console, Program, describe, is_executable};
pub(crate) use signals::{Caught, Signals};
pub(crate) use supervisor::{Event, ProgramId, Supervisor};
