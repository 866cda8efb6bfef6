//! The signals that ask us to stop, as a descriptor to wait on.

use super::sys;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::stat::fstat;
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

impl Caught {
    /// True if the kernel sent it for a terminal, or for one that has gone: its shell passes the hangup on
    /// before the kernel does.
    pub(crate) fn is_from_terminal(self) -> bool {
        self.from_terminal || (self.signal == Signal::SIGHUP && has_lost_terminal())
    }
}

/// True if one of the standard streams is a terminal that nobody has any more.
fn has_lost_terminal() -> bool {
    let (input, output, errors) = (io::stdin(), io::stdout(), io::stderr());
    [input.as_fd(), output.as_fd(), errors.as_fd()].into_iter().any(|fd| {
        let is_device = fstat(fd).is_ok_and(|found| found.st_mode & libc::S_IFMT == libc::S_IFCHR);
        let mut polled = [PollFd::new(fd, PollFlags::empty())];
        let is_known = poll(&mut polled, PollTimeout::ZERO).is_ok();
        let hung_up = polled[0].revents().is_some_and(|found| found.contains(PollFlags::POLLHUP));
        is_device && is_known && hung_up
    })
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
