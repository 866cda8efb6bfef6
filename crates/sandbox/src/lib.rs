//! The sandbox of a process that reads untrusted bytes: layers of the kernel's that each hold where another
//! one fails.
//!
//! A [`Profile`] says what the process still needs, [`enter`] takes the rest away, and a thread with a
//! narrower task takes more away with [`narrow`]. Everything is inherited by threads that start later,
//! so a process enters while it has a single one. `docs/decisions/0020-the-sandbox.md` has the reasons.

mod calls;
mod enforcement;
mod layers;
mod table;
mod view;

pub use calls::{Call, Condition, narrow};
pub use enforcement::{Enforcement, UnknownEnforcement};
pub use ipc_proto::message::SandboxLayer as Layer;
pub use layers::{EnterError, Report, enter};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::fchdir;
pub use rustix::thread::CapabilitySet;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
pub use table::{AllowedCall, ThreadRole, Users, bits};
pub use view::make_read_only;

/// Makes `dir` the working directory of this thread alone.
///
/// # Errors
/// The thread has narrowed its system calls, or `dir` is no directory.
pub fn work_in(dir: &File) -> io::Result<()> {
    unshare(CloneFlags::CLONE_FS)?;
    Ok(fchdir(dir)?)
}

/// All that a process keeps.
#[derive(Debug)]
pub struct Profile<'a, 'fd> {
    /// Files that it can open.
    pub files: Files<'a, 'fd>,
    /// The limit of locked memory stays as it is set; otherwise it is 0.
    pub keeps_memlock: bool,
    /// Capabilities that it keeps if it has them.
    pub capabilities: CapabilitySet,
    /// System calls that it can make; any other fails with `EPERM`.
    pub calls: &'a [Call],
}

/// Files that can be opened.
#[derive(Debug)]
pub enum Files<'a, 'fd> {
    /// Those below some directories, for reading.
    Below {
        /// The directories. If this process can have a root directory of its own they are all that is
        /// in it, and the descriptors refer to them there.
        directories: &'a mut [&'fd mut OwnedFd],
        /// Sockets in the working directory are connected to. Files in it must not be opened: deny the calls
        /// that name any relative to it.
        keeps_cwd: bool,
    },
    /// None; but files in some directories can be removed. The process keeps the users of the host, by
    /// which it knows its peers.
    Removed {
        /// The directories.
        directories: &'a [OwnedFd],
    },
}
