#![expect(unsafe_code, reason = "a function in .init_array, which runs before main")]
//! Which standard descriptors were open when the program started.
//!
//! The standard library opens `/dev/null` in the place of each that is not, before `main` runs: a
//! manifest written to a closed standard output would vanish without an error. How such a
//! descriptor looks tells nothing, because some programs start others with `/dev/null` opened in
//! the same mode on purpose. So it is asked earlier.

use hashctl::cli::Stdio;
use nix::fcntl::{FcntlArg, fcntl};
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};

static HAS_STDIN: AtomicBool = AtomicBool::new(true);
static HAS_STDOUT: AtomicBool = AtomicBool::new(true);

// SAFETY: the loader calls what `.init_array` points to once, as a function of the C ABI, and
// `look` needs nothing that is set up later.
#[used]
#[unsafe(link_section = ".init_array")]
static LOOK: extern "C" fn() = look;

extern "C" fn look() {
    // SAFETY: the borrowed descriptors are only asked for their flags, which a closed one answers
    // with an error.
    let [stdin, stdout] = unsafe { [BorrowedFd::borrow_raw(0), BorrowedFd::borrow_raw(1)] };
    HAS_STDIN.store(fcntl(stdin, FcntlArg::F_GETFD).is_ok(), Ordering::Relaxed);
    HAS_STDOUT.store(fcntl(stdout, FcntlArg::F_GETFD).is_ok(), Ordering::Relaxed);
}

/// The descriptors that were open.
pub(crate) fn at_start() -> Stdio {
    Stdio {
        has_stdin: HAS_STDIN.load(Ordering::Relaxed),
        has_stdout: HAS_STDOUT.load(Ordering::Relaxed),
    }
}
