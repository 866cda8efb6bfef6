//! Exit statuses of this program beside 0.

/// Something that was asked for did not happen.
pub(crate) const FAILED: u8 = 1;
/// The command line or a file that it names is wrong, as clap says it.
pub(crate) const USAGE: u8 = 2;
/// There is no cluster, or it cannot be started.
pub(crate) const NOT_RUNNING: u8 = 3;
/// A signal came before the cluster was ready.
pub(crate) const INTERRUPTED: u8 = 4;
/// COMMAND was found and cannot be started, as shells say it.
pub(crate) const NOT_EXECUTABLE: u8 = 126;
/// COMMAND was not found, as shells say it.
pub(crate) const NOT_FOUND: u8 = 127;
/// Added to the number of the signal that killed COMMAND, as shells do.
pub(crate) const KILLED: i32 = 128;
