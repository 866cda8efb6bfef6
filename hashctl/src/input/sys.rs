#![expect(unsafe_code, reason = "dispositions of signals have no safe form")]
//! The system calls that no crate offers in a form that fits.

use nix::sys::signal::{SigHandler, Signal, signal};
use std::mem::MaybeUninit;

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
