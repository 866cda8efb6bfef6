//! Names and files: walking trees, opening, datasets, and how files reach the workers.

pub(crate) mod datasets;
pub(crate) mod open;
pub(crate) mod plane;
pub(crate) mod selection;
mod sys;
pub(crate) mod walk;

pub use sys::is_ignored;
pub(crate) use sys::restore_sigpipe;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::fs::File;
use std::os::fd::AsFd;

/// True if reading would have to wait, as for a pipe whose writer is slow.
pub(crate) fn is_waiting(input: &File) -> bool {
    let mut fds = [PollFd::new(input.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO) == Ok(0)
}
