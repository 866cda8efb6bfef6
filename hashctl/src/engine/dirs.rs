//! Directories that files are opened from, in a thread with a descriptor table of its own.

use super::lister::Dir;
use crate::input::open::open_start;
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// The last directory that files were opened from, as this thread's table has it.
#[derive(Debug, Default)]
pub(super) struct DirCache {
    pub(super) is_own_table: bool,
    last: Option<(u64, OwnedFd)>,
}

impl DirCache {
    pub(super) fn fd<'a>(&'a mut self, dir: &'a Dir) -> Result<BorrowedFd<'a>, Errno> {
        if !self.is_own_table {
            return Ok(dir.fd.as_fd());
        }
        if self.last.as_ref().is_none_or(|(id, _)| *id != dir.id) {
            self.last = None;
            let path = CString::new(format!("/proc/self/fd/{}", dir.fd.as_raw_fd()));
            let fd = open_start(&path.expect("a path without zero bytes"))?;
            self.last = Some((dir.id, fd));
        }
        let (_, fd) = self.last.as_ref().expect("just set");
        Ok(fd.as_fd())
    }
}

/// Unshares this thread's descriptor table, which keeps what is open now; returns true on success.
/// Containers may forbid it, and without `/proc` the lister's directories are out of reach.
pub(super) fn unshare_descriptors() -> bool {
    Path::new("/proc/self/fd").is_dir() && unshare(CloneFlags::CLONE_FILES).is_ok()
}
