//! The sandbox of a process that reads untrusted bytes: layers of the kernel's that each hold where another
//! one fails.
//!
//! A [`Profile`] says what the process still needs, [`enter`] takes the rest away, and a thread with a
//! narrower task takes more away with [`narrow`]. Everything is inherited by threads that start later,
//! so a process enters while it has a single one. `docs/decisions/0020-the-sandbox.md` has the reasons.

mod calls;
mod enforcement;
mod layers;

pub use calls::{Call, Condition, narrow};
pub use enforcement::{Enforcement, UnknownEnforcement};
pub use layers::{EnterError, Layer, Report, enter};
pub use rustix::thread::CapabilitySet;
use std::os::fd::BorrowedFd;

/// All that a process keeps.
#[derive(Debug)]
pub struct Profile<'a> {
    /// Directories below which files can be opened for reading; there is no other file.
    pub read_below: &'a [BorrowedFd<'a>],
    /// Capabilities that it keeps if it has them.
    pub capabilities: CapabilitySet,
    /// System calls that it can make; any other fails with `EPERM`.
    pub calls: &'a [Call],
}
