//! SIGINT, SIGTERM and SIGHUP: the first one asks for an orderly end, the second one ends at once.

use crate::exit::Exit;
use crate::input::is_ignored;
use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use std::{process, thread};

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

    /// Calls `first` at the first of them, in its own thread.
    pub(crate) fn watch(self, first: impl FnOnce() + Send + 'static) {
        if self.0.iter().next().is_none() {
            return;
        }
        thread::spawn(move || {
            if self.0.wait().is_ok() {
                first();
            }
            if self.0.wait().is_ok() {
                process::exit(i32::from(Exit::Interrupted.code()));
            }
        });
    }
}
