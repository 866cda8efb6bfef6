//! The cluster without VMs: a controller and its workers as processes of this host.
//!
//! [`up`] and [`run`] are the supervisor; [`stop`] and [`status`] look for one in another process.
//! The run directory is the only thing that they share: its lock says that somebody supervises,
//! its pidfile says who.

mod cluster;
mod control;
mod error;
mod pidfile;
mod run_dir;
mod session;

pub(crate) use control::{status, stop};
pub(crate) use session::{run, up};

/// Exit statuses of this program beside 0 and clap's 2.
mod exit {
    /// Something that was asked for did not happen.
    pub(super) const FAILED: u8 = 1;
    /// There is no cluster, or it cannot be started.
    pub(super) const NOT_RUNNING: u8 = 3;
    /// A signal came before the cluster was ready.
    pub(super) const INTERRUPTED: u8 = 4;
    /// COMMAND was found and cannot be started, as shells say it.
    pub(super) const NOT_EXECUTABLE: u8 = 126;
    /// COMMAND was not found, as shells say it.
    pub(super) const NOT_FOUND: u8 = 127;
    /// Added to the number of the signal that killed COMMAND, as shells do.
    pub(super) const KILLED: i32 = 128;
}
