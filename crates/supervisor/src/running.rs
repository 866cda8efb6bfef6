//! Supervisors of this user on this host, found by what they hold: each keeps the lock of its run directory
//! open, also when that directory has been removed.

use crate::supervise::sys;
use std::ffi::OsStr;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The name of this program, as `/proc/PID/exe` ends.
const PROGRAM: &str = "hashcluster-vm";

/// Words that the kernel appends to the path of a file that was removed.
const DELETED: &[u8] = b" (deleted)";

/// A supervisor that runs.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) pid: u32,
    /// Readable once it has ended.
    pub(crate) pidfd: OwnedFd,
    pub(crate) run_dir: PathBuf,
    /// True if its run directory was removed.
    pub(crate) is_lost: bool,
}

/// All supervisors of this user, by their run directories.
pub(crate) fn all() -> Vec<Running> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut found: Vec<Running> = entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(supervisor)
        .collect();
    found.sort_by(|a, b| a.run_dir.cmp(&b.run_dir));
    found
}

/// The supervisor of `run_dir` that has lost it: nothing in the directory leads to it.
pub(crate) fn lost(run_dir: &Path) -> Option<Running> {
    let run_dir = std::path::absolute(run_dir).ok()?;
    all().into_iter().find(|running| running.is_lost && running.run_dir == run_dir)
}

fn supervisor(pid: u32) -> Option<Running> {
    let process = PathBuf::from(format!("/proc/{pid}"));
    if fs::metadata(&process).ok()?.uid() != nix::unistd::geteuid().as_raw() {
        return None;
    }
    // Opened before the rest is looked at, so that all of it is of one process.
    let pidfd = sys::pidfd_open(pid).ok()?;
    let program = fs::read_link(process.join("exe")).ok()?;
    let (program, _) = without_deleted(program.as_os_str());
    if program.file_name()? != PROGRAM {
        return None;
    }
    let files = fs::read_dir(process.join("fd")).ok()?.flatten();
    let lock = files.filter_map(|file| fs::read_link(file.path()).ok()).find_map(|path| {
        let (path, is_deleted) = without_deleted(path.as_os_str());
        (path.file_name()? == crate::run_dir::LOCK).then(|| (path.to_owned(), is_deleted))
    });
    let (lock, is_lost) = lock?;
    Some(Running { pid, pidfd, run_dir: lock.parent()?.to_owned(), is_lost })
}

fn without_deleted(path: &OsStr) -> (&Path, bool) {
    match path.as_bytes().strip_suffix(DELETED) {
        Some(path) => (Path::new(OsStr::from_bytes(path)), true),
        None => (Path::new(path), false),
    }
}
