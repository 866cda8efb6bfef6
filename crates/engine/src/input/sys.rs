#![expect(unsafe_code, reason = "system calls that neither std nor nix has")]
//! System calls that neither std nor nix has.

pub(crate) mod uring;

use crate::input::descriptor::nanoseconds;
use ipc_proto::message::Stamp;
use nix::errno::Errno;
use nix::unistd::{SysconfVar, sysconf};
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd};

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

/// A read from the start of a file that may wait.
#[derive(Debug)]
pub(crate) struct Read<'a> {
    pub(crate) file: BorrowedFd<'a>,
    pub(crate) buffer: &'a mut [u8],
    /// How many bytes came, if it is done.
    pub(crate) result: Result<usize, Errno>,
}

impl<'a> Read<'a> {
    pub(crate) fn new(file: BorrowedFd<'a>, buffer: &'a mut [u8]) -> Self {
        Self { file, buffer, result: Err(Errno::EAGAIN) }
    }
}

/// What the system says of a file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Status {
    pub(crate) mode: u32,
    pub(crate) stamp: Stamp,
}

/// What `file` is and looks like now: a file system that is shared from elsewhere does not answer
/// from memory.
pub(crate) fn fresh_status(file: BorrowedFd<'_>) -> Result<Status, Errno> {
    let flags = libc::AT_EMPTY_PATH | libc::AT_STATX_FORCE_SYNC;
    let mask = libc::STATX_TYPE | libc::STATX_SIZE | libc::STATX_MTIME | libc::STATX_CTIME;
    // SAFETY: `statx` is plain integers, for which all zeroes is a valid value.
    let mut statx: libc::statx = unsafe { mem::zeroed() };
    let empty = c"".as_ptr();
    // SAFETY: the path is an empty string with its zero byte, and `statx`, which the call fills, is
    // ours alone.
    let result = unsafe {
        libc::syscall(libc::SYS_statx, file.as_raw_fd(), empty, flags, mask, &raw mut statx)
    };
    Errno::result(result)?;
    let time = |time: libc::statx_timestamp| nanoseconds(time.tv_sec, time.tv_nsec.into());
    let (mtime_ns, ctime_ns) = (time(statx.stx_mtime), time(statx.stx_ctime));
    let stamp = Stamp { size: statx.stx_size, mtime_ns, ctime_ns };
    Ok(Status { mode: statx.stx_mode.into(), stamp })
}
