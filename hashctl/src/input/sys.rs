#![expect(unsafe_code, reason = "getdents64 and dispositions of signals have no safe form")]
//! The system calls that no crate offers in a form that fits.

use nix::errno::Errno;
use nix::sys::signal::{SigHandler, Signal, signal};
use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Where the fields of a record of getdents64(2) start: the inode and then an offset come first.
const INODE_LEN: usize = 8;
const RECLEN_AT: usize = 16;
const TYPE_AT: usize = 18;
const NAME_AT: usize = 19;

/// Shortest record of getdents64(2): its header, a name of one byte and its zero, aligned to 8.
pub(crate) const DIRENT_LEN_MIN: usize = 24;

/// Reads entries of `dir` into `buffer`; how many bytes, 0 at the end.
pub(crate) fn read_dir(dir: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: the kernel writes at most as many bytes as `buffer` has.
    let len = unsafe {
        libc::syscall(libc::SYS_getdents64, dir.as_raw_fd(), buffer.as_mut_ptr(), buffer.len())
    };
    usize::try_from(len).map_err(|_| Errno::last())
}

/// The inode, type (`DT_REG` …) and name of each entry in what [`read_dir`] read, without `.` and `..`.
pub(crate) fn dirents(mut bytes: &[u8]) -> impl Iterator<Item = (u64, u8, &CStr)> {
    std::iter::from_fn(move || {
        let len = bytes.get(RECLEN_AT..TYPE_AT)?;
        let len = usize::from(u16::from_ne_bytes([len[0], len[1]]));
        let (record, rest) = bytes.split_at_checked(len.max(NAME_AT))?;
        bytes = rest;
        let name = CStr::from_bytes_until_nul(&record[NAME_AT..]).ok()?;
        let inode = record.first_chunk::<INODE_LEN>()?;
        Some((u64::from_ne_bytes(*inode), record[TYPE_AT], name))
    })
    .filter(|(_, _, name)| !matches!(name.to_bytes(), b"." | b".."))
}

/// True if this process was started with `signal` ignored, as `nohup` and a shell's `&` do.
pub fn is_ignored(signal: Signal) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: no new action is given, and the old one is written to memory of its size; all zeroes
    // are a valid value of it should the call fail.
    let action = unsafe {
        libc::sigaction(signal as libc::c_int, std::ptr::null(), action.as_mut_ptr());
        action.assume_init()
    };
    action.sa_sigaction == libc::SIG_IGN
}

/// Lets SIGPIPE end this process, which the standard library prevents.
pub(crate) fn restore_sigpipe() {
    // SAFETY: no handler is installed. It cannot fail for this signal.
    let _ = unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) };
}
