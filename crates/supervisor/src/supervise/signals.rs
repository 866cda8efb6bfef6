//! The signals that ask us to stop, as a descriptor to wait on.

use super::sys;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

const STOP_SIGNALS: [Signal; 4] =
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT];

/// `si_code` of a signal that the kernel itself sent, as a terminal's Ctrl-C (sigaction(2)).
const SI_KERNEL: i32 = 0x80;

/// A signal that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Caught {
    pub(crate) signal: Signal,
    /// True if the whole foreground process group got it too.
    pub(crate) from_terminal: bool,
    /// Process that sent it, and its user; zeros for the kernel.
    pub(crate) pid: u32,
    pub(crate) uid: u32,
}

impl Caught {
    /// A signal that this process gives itself.
    pub(crate) fn own(signal: Signal) -> Self {
        let (pid, uid) = (std::process::id(), nix::unistd::getuid().as_raw());
        Self { signal, from_terminal: false, pid, uid }
    }
}

/// Blocks [`STOP_SIGNALS`] for this thread; children start with an empty mask.
#[derive(Debug)]
pub(crate) struct Signals {
    fd: SignalFd,
}

impl Signals {
    /// Those that were ignored when we started stay so: nohup(1), or a shell's background job.
    pub(crate) fn block() -> io::Result<Self> {
        let wanted = STOP_SIGNALS.into_iter().filter(|&signal| !sys::is_ignored(signal));
        let set: SigSet = wanted.collect();
        set.thread_block()?;
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        Ok(Self { fd })
    }

    /// The next one that has arrived.
    pub(super) fn read(&self) -> io::Result<Option<Caught>> {
        let Some(info) = self.fd.read_signal()? else {
            return Ok(None);
        };
        let number = i32::try_from(info.ssi_signo).expect("signal numbers are small");
        let signal = Signal::try_from(number).expect("only signals of the set arrive");
        let from_terminal = info.ssi_code == SI_KERNEL;
        Ok(Some(Caught { signal, from_terminal, pid: info.ssi_pid, uid: info.ssi_uid }))
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
