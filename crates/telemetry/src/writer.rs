//! Lines on their way to standard error, which may take them late or never: a pipe whose reader hangs, a
//! disk that is full or slow.
//!
//! Lines wait in a queue and a thread writes them, so that nobody who logs waits. Lines for which there is
//! no room are counted, and the count is logged once there is.

use crate::dropped::DropReason;
use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Most lines that wait.
const QUEUE_MAX: usize = 1024;

#[derive(Debug)]
pub(crate) struct Writer {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    lines: VecDeque<String>,
    /// Lines for which there was no room.
    dropped: u64,
    /// True if lines wait for the thread, or for there to be one.
    is_queued: bool,
    has_thread: bool,
    is_writing: bool,
}

impl Writer {
    pub(crate) const fn new() -> Self {
        let lines = VecDeque::new();
        let state =
            State { lines, dropped: 0, is_queued: false, has_thread: false, is_writing: false };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// From now on lines wait for the thread.
    pub(crate) fn hold(&self) {
        self.state().is_queued = true;
    }

    /// Starts the thread, which calls `prepare` first.
    pub(crate) fn start(
        &'static self,
        prepare: impl FnOnce() -> io::Result<()> + Send + 'static,
    ) -> io::Result<()> {
        thread::Builder::new().name("log".to_owned()).spawn(|| {
            if prepare().is_ok() {
                self.write_forever();
            }
        })?;
        let mut state = self.state();
        (state.is_queued, state.has_thread) = (true, true);
        Ok(())
    }

    pub(crate) fn write(&self, text: String, count: impl FnOnce(u64) -> String) {
        if text.is_empty() {
            return;
        }
        let mut state = self.state();
        if !state.is_queued {
            drop(state);
            return write(&text);
        }
        if state.lines.len() >= QUEUE_MAX {
            state.dropped += 1;
            DropReason::Output.count(1);
            return;
        }
        if state.dropped > 0 {
            let dropped = std::mem::take(&mut state.dropped);
            state.lines.push_back(count(dropped));
        }
        state.lines.push_back(text);
        drop(state);
        self.changed.notify_all();
    }

    /// Waits until all lines are written, or for `limit`. Without a thread it writes them.
    pub(crate) fn flush(&self, limit: Duration) {
        let mut state = self.state();
        if !state.has_thread {
            state.is_queued = false;
            let lines = std::mem::take(&mut state.lines);
            drop(state);
            return lines.iter().for_each(|line| write(line));
        }
        let is_busy = |state: &mut State| state.is_writing || !state.lines.is_empty();
        drop(self.changed.wait_timeout_while(state, limit, is_busy));
    }

    fn write_forever(&self) {
        let mut state = self.state();
        loop {
            let Some(line) = state.lines.pop_front() else {
                state.is_writing = false;
                self.changed.notify_all();
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            state.is_writing = true;
            drop(state);
            write(&line);
            state = self.state();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A log that cannot be written must not stop the program.
fn write(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}
