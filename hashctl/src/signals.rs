//! SIGINT, SIGTERM and SIGHUP: the first one asks for an orderly end, the second one ends at once.

use crate::exit::Exit;
use crate::input::is_ignored;
use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use std::time::Duration;
use std::{io, process, thread};

/// Time for an orderly end: more than the controller has to confirm it.
const END_LIMIT: Duration = Duration::from_secs(4);

/// The signals, blocked in this thread and in those it starts later. One that was ignored when the
/// program started stays so.
#[derive(Debug)]
pub(crate) struct Signals(SigSet);

impl Signals {
    pub(crate) fn block() -> Result<Self, Errno> {
        let set: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]
            .into_iter()
            .filter(|&signal| !is_ignored(signal))
            .collect();
        set.thread_block()?;
        Ok(Self(set))
    }

    /// Calls `first` at the first of them, in its own thread. The process ends at the second, and when the
    /// orderly end takes too long: it may be stuck in writing.
    ///
    /// # Errors
    /// The system refused a thread.
    pub(crate) fn watch(self, first: impl FnOnce() + Send + 'static) -> io::Result<()> {
        if self.0.iter().next().is_none() {
            return Ok(());
        }
        let watcher = thread::Builder::new();
        watcher.spawn(move || {
            if self.0.wait().is_ok() {
                first();
            }
            let timer = thread::Builder::new().spawn(|| {
                thread::sleep(END_LIMIT);
                end();
            });
            // Without a timer only the second one is left.
            drop(timer);
            if self.0.wait().is_ok() {
                end();
            }
        })?;
        Ok(())
    }
}

fn end() -> ! {
    process::exit(i32::from(Exit::Interrupted.code()));
}
