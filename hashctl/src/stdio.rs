#![expect(unsafe_code, reason = "a function in .init_array, which runs before main")]
//! Standard descriptors that were open when the program started, and whether it ignored SIGPIPE.
//!
//! The standard library opens `/dev/null` in the place of each that is not, before `main` runs: a
//! manifest written to a closed standard output would vanish without an error. How such a
//! descriptor looks tells nothing, because some programs start others with `/dev/null` opened in
//! the same mode on purpose. So it is asked earlier, and so is for SIGPIPE, which the library ignores.

use hashctl::cli::{Stdio, is_ignored};
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::Signal;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};

static HAS_STDIN: AtomicBool = AtomicBool::new(true);
static HAS_STDOUT: AtomicBool = AtomicBool::new(true);
static HAS_STDERR: AtomicBool = AtomicBool::new(true);
static IGNORES_SIGPIPE: AtomicBool = AtomicBool::new(false);

// SAFETY: the loader calls what `.init_array` points to once, as a function of the C ABI, and
// `look` needs nothing that is set up later.
#[used]
#[unsafe(link_section = ".init_array")]
static LOOK: extern "C" fn() = look;

extern "C" fn look() {
    // SAFETY: the borrowed descriptors are only asked for their flags, which a closed one answers
    // with an error.
    let fds = unsafe { [0, 1, 2].map(|fd| BorrowedFd::borrow_raw(fd)) };
    for (fd, is_open) in fds.into_iter().zip([&HAS_STDIN, &HAS_STDOUT, &HAS_STDERR]) {
        is_open.store(fcntl(fd, FcntlArg::F_GETFD).is_ok(), Ordering::Relaxed);
    }
    IGNORES_SIGPIPE.store(is_ignored(Signal::SIGPIPE), Ordering::Relaxed);
}

/// The state at the start.
pub(crate) fn at_start() -> Stdio {
    Stdio {
        has_stdin: HAS_STDIN.load(Ordering::Relaxed),
        has_stdout: HAS_STDOUT.load(Ordering::Relaxed),
        has_stderr: HAS_STDERR.load(Ordering::Relaxed),
        ignores_sigpipe: IGNORES_SIGPIPE.load(Ordering::Relaxed),
    }
}
