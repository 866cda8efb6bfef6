#![expect(unsafe_code, reason = "system calls that neither std nor nix has")]
//! System calls that neither std nor nix has.

pub(crate) mod uring;

use crate::clock::nanoseconds;
use ipc_proto::message::Stamp;
use nix::errno::Errno;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::unistd::{SysconfVar, sysconf};
use std::ffi::CStr;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Once;

/// Reads from `offset` what is in memory already; never waits. `EAGAIN` if that is nothing, and
/// `EOPNOTSUPP` where the kind of file has no such read.
pub(crate) fn read_ready(
    file: BorrowedFd<'_>,
    buffer: &mut [u8],
    offset: u64,
) -> Result<usize, Errno> {
    let offset = i64::try_from(offset).map_err(|_| Errno::EINVAL)?;
    let iov = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: one iovec is passed, and it describes `buffer`, which is ours alone during the call.
    let len =
        unsafe { libc::preadv2(file.as_raw_fd(), &raw const iov, 1, offset, libc::RWF_NOWAIT) };
    usize::try_from(len).map_err(|_| Errno::last())
}

/// Bytes of the pages of a range, which is not empty, that are in memory; needs Linux 6.5 (cachestat(2)).
pub(crate) fn cached_len(file: BorrowedFd<'_>, offset: u64, len: u64) -> Result<u64, Errno> {
    /// The same on every architecture.
    const CACHESTAT: libc::c_long = 451;
    let range = [offset, len];
    // Pages that are cached, dirty, being written, evicted, and evicted recently.
    let mut pages = [0_u64; 5];
    // SAFETY: `range` and `pages` have the layout of `cachestat_range` and `cachestat`, and are ours
    // alone during the call, which reads the one and fills the other.
    let result = unsafe {
        libc::syscall(CACHESTAT, file.as_raw_fd(), range.as_ptr(), pages.as_mut_ptr(), 0)
    };
    Errno::result(result)?;
    let page_len = sysconf(SysconfVar::PAGE_SIZE).ok().flatten().unwrap_or(4096);
    Ok(pages[0].saturating_mul(u64::try_from(page_len).unwrap_or(4096)))
}

/// The same by mincore(2), on every kernel.
#[cfg(test)]
pub(crate) fn resident_len(file: BorrowedFd<'_>, offset: u64, len: u64) -> Result<u64, Errno> {
    const PAGE_LEN: usize = 4096;
    let len = usize::try_from(len).map_err(|_| Errno::EINVAL)?;
    let at = libc::off_t::try_from(offset).map_err(|_| Errno::EINVAL)?;
    let (access, sharing, file) = (libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd());
    // SAFETY: a new mapping, which nobody reads.
    let map = unsafe { libc::mmap(std::ptr::null_mut(), len, access, sharing, file, at) };
    let mut pages = vec![0_u8; len.div_ceil(PAGE_LEN)];
    // SAFETY: the mapping made above, and a byte for each of its pages.
    let result = unsafe { libc::mincore(map, len, pages.as_mut_ptr()) };
    let result = Errno::result(result);
    // SAFETY: the mapping made above, which nobody else knows.
    unsafe { libc::munmap(map, len) };
    result?;
    Ok((pages.iter().filter(|page| *page & 1 == 1).count() * PAGE_LEN) as u64)
}

/// A read from the start of a file that may wait.
#[derive(Debug)]
pub(crate) struct Read<'a> {
    pub(crate) file: BorrowedFd<'a>,
    pub(crate) buffer: &'a mut [u8],
    /// Number of bytes read, once it is done.
    pub(crate) result: Result<usize, Errno>,
}

impl<'a> Read<'a> {
    pub(crate) fn new(file: BorrowedFd<'a>, buffer: &'a mut [u8]) -> Self {
        Self { file, buffer, result: Err(Errno::EAGAIN) }
    }
}

/// The state of a file, as the system reports it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Status {
    pub(crate) mode: u32,
    /// The file system that it is on.
    pub(crate) device: (u32, u32),
    pub(crate) stamp: Stamp,
}

/// The state of `file` now: a file system that is shared from elsewhere does not answer from memory.
pub(crate) fn status(file: BorrowedFd<'_>) -> Result<Status, Errno> {
    let flags = libc::AT_EMPTY_PATH | libc::AT_STATX_FORCE_SYNC;
    let mask = libc::STATX_TYPE | libc::STATX_SIZE | libc::STATX_MTIME | libc::STATX_CTIME;
    statx(file, c"", flags, mask).map(|(status, _)| status)
}

/// The state and the inode of the entry `name` of `dir`, or of `dir` itself if that is empty. No link is followed.
pub(crate) fn entry_status(dir: BorrowedFd<'_>, name: &CStr) -> Result<(Status, u64), Errno> {
    let flags = libc::AT_EMPTY_PATH | libc::AT_SYMLINK_NOFOLLOW | libc::AT_NO_AUTOMOUNT;
    let mask = libc::STATX_TYPE
        | libc::STATX_SIZE
        | libc::STATX_MTIME
        | libc::STATX_CTIME
        | libc::STATX_INO;
    statx(dir, name, flags, mask)
}

fn statx(dir: BorrowedFd<'_>, name: &CStr, flags: i32, mask: u32) -> Result<(Status, u64), Errno> {
    // SAFETY: `statx` is plain integers, for which all zeroes is a valid value.
    let mut statx: libc::statx = unsafe { mem::zeroed() };
    // SAFETY: the path is a string with its zero byte, and `statx`, which the call fills, is ours alone.
    let result = unsafe {
        libc::syscall(libc::SYS_statx, dir.as_raw_fd(), name.as_ptr(), flags, mask, &raw mut statx)
    };
    Errno::result(result)?;
    let time = |time: libc::statx_timestamp| nanoseconds(time.tv_sec, time.tv_nsec.into());
    let (mtime_ns, ctime_ns) = (time(statx.stx_mtime), time(statx.stx_ctime));
    let stamp = Stamp { size: statx.stx_size, mtime_ns, ctime_ns };
    let device = (statx.stx_dev_major, statx.stx_dev_minor);
    Ok((Status { mode: statx.stx_mode.into(), device, stamp }, statx.stx_ino))
}

/// Reads entries of `dir` into `buffer`; how many bytes, 0 at the end.
///
/// # Errors
/// As getdents64(2).
pub fn read_entries(dir: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: the kernel writes at most as many bytes as `buffer` has.
    let len = unsafe {
        libc::syscall(libc::SYS_getdents64, dir.as_raw_fd(), buffer.as_mut_ptr(), buffer.len())
    };
    usize::try_from(len).map_err(|_| Errno::last())
}

/// The state of a `file` that no other machine can change: the same in half the time.
pub(crate) fn local_status(file: BorrowedFd<'_>) -> Result<Status, Errno> {
    // SAFETY: `stat` is plain data for which all zeroes is a valid value.
    let mut stat: libc::stat = unsafe { mem::zeroed() };
    // Not through the C library, which may make another call of it, that a sandbox would have to allow with
    // any path.
    // SAFETY: `stat` has the layout of the kernel's structure on 64 bits, and is ours alone.
    let result = unsafe { libc::syscall(libc::SYS_fstat, file.as_raw_fd(), &raw mut stat) };
    Errno::result(result)?;
    let stamp = Stamp {
        size: u64::try_from(stat.st_size).unwrap_or(0),
        mtime_ns: nanoseconds(stat.st_mtime, stat.st_mtime_nsec),
        ctime_ns: nanoseconds(stat.st_ctime, stat.st_ctime_nsec),
    };
    let device = (libc::major(stat.st_dev), libc::minor(stat.st_dev));
    Ok(Status { mode: stat.st_mode, device, stamp })
}

/// The answer of a lease probe: whether a file is open for writing, or mapped writable, anywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Probe {
    /// Nobody can write to it without opening it first.
    Free,
    /// Somebody can, perhaps through this very descriptor.
    Busy,
    /// Another user owns the file, or its file system has no leases.
    Unknown,
}

/// Takes a read lease on `file` (fcntl(2), `F_SETLEASE`) and releases it at once.
///
/// [`ignore_lease_breaks`] must have been called: whoever opens the file for writing in between makes
/// the kernel send a signal to this process.
pub(crate) fn probe_writers(file: BorrowedFd<'_>) -> Probe {
    // SAFETY: takes no pointer.
    match Errno::result(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_RDLCK) }) {
        Ok(_) => {
            // SAFETY: takes no pointer. It fails only where there is no lease.
            unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_UNLCK) };
            Probe::Free
        }
        Err(Errno::EAGAIN) => Probe::Busy,
        Err(_) => Probe::Unknown,
    }
}

/// Ignores SIGIO, by which the kernel reports that a lease is to be given up and which would end the
/// process, unless the program handles it.
pub(crate) fn ignore_lease_breaks() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
        // SAFETY: to ignore a signal runs no code in this process.
        let before = unsafe { sigaction(Signal::SIGIO, &ignore) };
        if let Ok(before) = before
            && !matches!(before.handler(), SigHandler::SigDfl)
        {
            // SAFETY: the program installed this very action.
            let _ = unsafe { sigaction(Signal::SIGIO, &before) };
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File, OpenOptions};
    use std::os::fd::AsFd;
    use std::os::unix::fs::OpenOptionsExt;
    use std::ptr;

    /// `nobody` on every Linux.
    const NOBODY: libc::uid_t = 65534;

    #[test]
    fn a_lease_probe_detects_writers() {
        ignore_lease_breaks();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, "content").unwrap();
        let file = File::open(&path).unwrap();
        assert_eq!(probe_writers(file.as_fd()), Probe::Free);
        let writer = File::options().write(true).open(&path).unwrap();
        assert_eq!(probe_writers(file.as_fd()), Probe::Busy, "open for writing");
        drop(writer);
        assert_eq!(probe_writers(file.as_fd()), Probe::Free, "the lease was given back");
        let both = File::options().read(true).write(true).open(&path).unwrap();
        assert_eq!(probe_writers(both.as_fd()), Probe::Busy, "it is the writer itself");
        let (access, sharing) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
        // SAFETY: a new mapping, which nobody reads or writes.
        let map = unsafe { libc::mmap(ptr::null_mut(), 7, access, sharing, both.as_raw_fd(), 0) };
        assert_ne!(map, libc::MAP_FAILED);
        drop(both);
        assert_eq!(probe_writers(file.as_fd()), Probe::Busy, "mapped writable, and closed");
        // SAFETY: the mapping that was made above.
        assert_eq!(unsafe { libc::munmap(map, 7) }, 0);
        assert_eq!(probe_writers(file.as_fd()), Probe::Free);
    }

    #[test]
    fn another_users_file_cannot_be_probed() {
        let passwd = File::open("/etc/passwd").unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // SAFETY: no pointers. The system call is that of this thread alone, which ends.
                unsafe { libc::syscall(libc::SYS_setresuid, NOBODY, NOBODY, NOBODY) };
                assert_eq!(probe_writers(passwd.as_fd()), Probe::Unknown);
            });
        });
    }

    #[test]
    fn a_file_that_is_opened_for_writing_during_a_probe_does_not_end_the_process() {
        ignore_lease_breaks();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, "content").unwrap();
        let file = File::open(&path).unwrap();
        // SAFETY: takes no pointer.
        assert_eq!(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_RDLCK) }, 0);
        let nonblocking = OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(&path);
        assert_eq!(nonblocking.unwrap_err().raw_os_error(), Some(libc::EWOULDBLOCK));
        // SAFETY: takes no pointer.
        assert_eq!(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_UNLCK) }, 0);
    }
}
