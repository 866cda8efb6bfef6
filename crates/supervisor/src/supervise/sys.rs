#![expect(unsafe_code, reason = "pidfds, signal dispositions and code between fork and exec")]
//! The system calls that neither std nor nix offers.

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::getppid;
use std::fs::File;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::ptr;

/// A descriptor that means the process `pid` for ever (pidfd_open(2)); readable once it ended.
///
/// # Errors
/// `ESRCH` if there is no such process.
pub(crate) fn pidfd_open(pid: u32) -> io::Result<OwnedFd> {
    let pid = libc::pid_t::try_from(pid).map_err(|_| io::Error::from(Errno::ESRCH))?;
    // SAFETY: two integers; the kernel returns a new descriptor or an error.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = RawFd::try_from(result).expect("a descriptor, or -1");
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just returned by the kernel, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Takes over descriptor `number`, which whoever started us opened for us; children do not get it.
///
/// # Errors
/// `EBADF` if it is not open.
pub(crate) fn adopt(number: u32) -> io::Result<File> {
    let number = RawFd::try_from(number).map_err(|_| io::Error::from(Errno::EBADF))?;
    // SAFETY: only borrowed for the call, which says whether it is a descriptor at all.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    fcntl(borrowed, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    // SAFETY: it is open, and it was opened for whoever takes its number from the command line.
    Ok(unsafe { File::from_raw_fd(number) })
}

/// Sends `signal` to the process of `pidfd` (pidfd_send_signal(2)).
///
/// # Errors
/// `ESRCH` if it has ended and was waited for.
pub(crate) fn pidfd_signal(pidfd: BorrowedFd<'_>, signal: Signal) -> io::Result<()> {
    let info = ptr::null::<libc::siginfo_t>();
    // SAFETY: a null `siginfo_t` is allowed, the rest are integers.
    let result = unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal as i32, info, 0)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// True if `signal` was ignored when we started, as nohup(1) does.
pub(crate) fn is_ignored(signal: Signal) -> bool {
    // SAFETY: `sigaction` is plain data for which all zeroes is a valid value.
    let mut old: libc::sigaction = unsafe { mem::zeroed() };
    // SAFETY: a null new action changes nothing; `old` is writable and of the right type.
    let result = unsafe { libc::sigaction(signal as i32, ptr::null(), &raw mut old) };
    result == 0 && old.sa_sigaction == libc::SIG_IGN
}

/// Starts `command`, which gets `death_signal` when the calling thread ends, however it ends,
/// blocks no signal, and keeps `kept` open under the same number.
///
/// # Errors
/// As fork(2) and execve(2).
pub(crate) fn spawn(
    command: &mut Command,
    death_signal: Signal,
    kept: Option<BorrowedFd<'_>>,
) -> io::Result<Child> {
    let parent = nix::unistd::getpid();
    let kept = kept.map(|fd| fd.as_raw_fd());
    let before_exec = move || {
        // std leaves it to the child as ours is, with the signals that we wait for blocked.
        SigSet::empty().thread_set_mask()?;
        prctl::set_pdeathsig(death_signal)?;
        if getppid() != parent {
            // We died before the line above.
            return Err(Errno::ESRCH.into());
        }
        if let Some(kept) = kept {
            // SAFETY: `spawn` returns after exec, so the caller's borrow outlives this.
            let kept = unsafe { BorrowedFd::borrow_raw(kept) };
            fcntl(kept, FcntlArg::F_SETFD(FdFlag::empty()))?;
        }
        Ok(())
    };
    // SAFETY: the closure makes system calls only and allocates nothing.
    unsafe { command.pre_exec(before_exec) }.spawn()
}
