//! Lines on their way to an outlet, which may take them late or never: a pipe whose reader hangs, a disk that
//! is full or slow, a collector that is down.
//!
//! Lines wait in a queue and a thread writes them, so that nobody who logs waits. Lines for which there is
//! no room, and those that are refused for good, are counted, and the count is written once that works.

use crate::dropped::DropReason;
use crate::syslog::Collector;
use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

/// Most lines that wait.
const QUEUE_MAX: usize = 1024;

/// Pauses between attempts to reach a collector.
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Where lines go.
#[derive(Debug)]
pub(crate) enum Outlet {
    Stderr,
    Syslog(Collector),
    /// To no collector at present.
    Off,
}

impl From<Option<Collector>> for Outlet {
    fn from(collector: Option<Collector>) -> Self {
        collector.map_or(Self::Off, Self::Syslog)
    }
}

enum Written {
    Whole,
    Lost,
    /// Not yet.
    Later,
}

impl Outlet {
    fn write(&self, line: &str) -> Written {
        match self {
            // A log that cannot be written must not stop the program.
            Self::Stderr => match io::stderr().lock().write_all(line.as_bytes()) {
                Ok(()) => Written::Whole,
                Err(_) => Written::Lost,
            },
            Self::Syslog(collector) => match collector.send(line) {
                Ok(()) => Written::Whole,
                Err(_) => Written::Later,
            },
            Self::Off => Written::Whole,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Writer {
    outlet: Mutex<Outlet>,
    state: Mutex<WriterState>,
    changed: Condvar,
    reason: DropReason,
}

#[derive(Debug)]
struct WriterState {
    lines: VecDeque<String>,
    /// Lines that were lost since the last report of them.
    unreported: u64,
    /// True if lines wait for the thread, or for there to be one.
    is_queued: bool,
    has_thread: bool,
    is_writing: bool,
    /// The outlet does not take the first line.
    is_stuck: bool,
}

impl Writer {
    pub(crate) const fn new(outlet: Outlet, is_queued: bool) -> Self {
        let state = WriterState {
            lines: VecDeque::new(),
            unreported: 0,
            is_queued,
            has_thread: false,
            is_writing: false,
            is_stuck: false,
        };
        let reason = match outlet {
            Outlet::Stderr => DropReason::Output,
            Outlet::Syslog(_) | Outlet::Off => DropReason::Syslog,
        };
        Self {
            outlet: Mutex::new(outlet),
            state: Mutex::new(state),
            changed: Condvar::new(),
            reason,
        }
    }

    /// Writes elsewhere from now on, lines that wait included.
    pub(crate) fn turn_to(&self, outlet: Outlet) {
        *self.outlet() = outlet;
    }

    /// From now on lines wait for the thread.
    pub(crate) fn hold(&self) {
        self.state().is_queued = true;
    }

    /// Starts the thread, and waits until it has called `prepare`.
    ///
    /// When there is nothing to write, the thread calls `idle`, which returns when it is to be called
    /// again; `report` makes a line of the number of lost ones.
    pub(crate) fn start(
        &'static self,
        name: &str,
        prepare: impl FnOnce() -> io::Result<()> + Send + 'static,
        idle: impl Fn() -> Option<Duration> + Send + 'static,
        report: impl Fn(u64) -> String + Send + 'static,
    ) -> io::Result<()> {
        let (sender, prepared) = mpsc::channel();
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            let result = prepare();
            let is_ready = result.is_ok();
            if sender.send(result).is_ok() && is_ready {
                drop(sender);
                self.write_forever(idle, report);
            }
        })?;
        prepared.recv().expect("the thread sends its result")?;
        let mut state = self.state();
        (state.is_queued, state.has_thread) = (true, true);
        Ok(())
    }

    /// The socket's directory, as [`Collector::enter_directory`].
    pub(crate) fn enter_directory(&self) -> Option<std::fs::File> {
        match &mut *self.outlet() {
            Outlet::Stderr | Outlet::Off => None,
            Outlet::Syslog(collector) => collector.enter_directory(),
        }
    }

    pub(crate) fn write(&self, line: String) {
        if line.is_empty() {
            return;
        }
        let mut state = self.state();
        if !state.is_queued {
            drop(state);
            return self.write_here(&line);
        }
        if state.lines.len() >= QUEUE_MAX {
            return self.lose(&mut state);
        }
        state.lines.push_back(line);
        drop(state);
        self.changed.notify_all();
    }

    /// Waits until all lines are written, or for `limit`, or until they cannot be. Without a thread it
    /// writes them.
    pub(crate) fn flush(&self, limit: Duration) {
        let mut state = self.state();
        if !state.has_thread {
            state.is_queued = false;
            let lines = std::mem::take(&mut state.lines);
            drop(state);
            return lines.iter().for_each(|line| self.write_here(line));
        }
        let is_busy = |state: &mut WriterState| {
            !state.is_stuck && (state.is_writing || !state.lines.is_empty())
        };
        drop(self.changed.wait_timeout_while(state, limit, is_busy));
    }

    fn write_here(&self, line: &str) {
        let written = self.outlet().write(line);
        if !matches!(written, Written::Whole) {
            self.lose(&mut self.state());
        }
    }

    fn write_forever(&self, idle: impl Fn() -> Option<Duration>, report: impl Fn(u64) -> String) {
        let mut pause = PAUSE_MIN;
        let mut state = self.state();
        loop {
            let Some(line) = state.lines.pop_front() else {
                state.is_writing = false;
                self.changed.notify_all();
                drop(state);
                let again = idle();
                state = self.wait(again);
                continue;
            };
            state.is_writing = true;
            drop(state);
            let written = self.outlet().write(&line);
            state = self.state();
            state.is_stuck = matches!(written, Written::Later);
            match written {
                Written::Whole => {
                    pause = PAUSE_MIN;
                    if state.unreported > 0 && state.lines.is_empty() {
                        let count = std::mem::take(&mut state.unreported);
                        state.lines.push_back(report(count));
                    }
                }
                Written::Lost => self.lose(&mut state),
                Written::Later => {
                    state.lines.push_front(line);
                    self.changed.notify_all();
                    let waited = self.changed.wait_timeout_while(state, pause, |_| true);
                    state = waited.unwrap_or_else(PoisonError::into_inner).0;
                    pause = PAUSE_MAX.min(pause * 2);
                }
            }
        }
    }

    /// Waits for a line, for `limit` if there is one.
    fn wait(&self, limit: Option<Duration>) -> MutexGuard<'_, WriterState> {
        let state = self.state();
        let is_empty = |state: &mut WriterState| state.lines.is_empty();
        match limit {
            Some(limit) => {
                let waited = self.changed.wait_timeout_while(state, limit, is_empty);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
            None => {
                let waited = self.changed.wait_while(state, is_empty);
                waited.unwrap_or_else(PoisonError::into_inner)
            }
        }
    }

    fn lose(&self, state: &mut WriterState) {
        state.unreported += 1;
        self.reason.count(1);
    }

    fn state(&self) -> MutexGuard<'_, WriterState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn outlet(&self) -> MutexGuard<'_, Outlet> {
        self.outlet.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
