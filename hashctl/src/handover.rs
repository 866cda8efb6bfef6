//! What the producer thread gives to the main thread: entries, before their files are sent, and
//! what it learns about them later.
//!
//! Invariant: at most [`ENTRIES_MAX`] entries and [`TEXT_LEN_MAX`] bytes of names, and one batch
//! more, wait to be printed; then the producer waits.

use crate::order::{Batch, Order};
use crate::problem::Problem;
use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Condvar, Mutex, MutexGuard};

/// Most entries that wait behind the slowest one. More than a job's window, so that a huge file in
/// front of many small ones does not leave the workers without work.
pub(crate) const ENTRIES_MAX: usize = 65_536;

/// Most bytes of names that wait with them.
pub(crate) const TEXT_LEN_MAX: usize = 16 << 20;

/// Batches whose memory is kept for the next ones.
const SPARE_MAX: usize = 8;

/// Why the producer ends early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stopped;

/// Both ends of it.
#[derive(Debug)]
pub(crate) struct Handover {
    state: Mutex<State>,
    room: Condvar,
    bell: EventFd,
}

#[derive(Debug, Default)]
struct State {
    batches: Vec<Batch>,
    late: Vec<Late>,
    spare: Vec<Batch>,
    entries: usize,
    text_len: usize,
    end: Option<End>,
    is_stopped: bool,
}

/// How the producer ended.
#[derive(Debug)]
pub(crate) enum End {
    /// With everything sent.
    Done,
    /// Because it could not send.
    Failed(String),
    /// Because the connection or the jobs ended.
    Stopped,
}

/// What is learned about an entry after it was handed over.
#[derive(Clone, Copy, Debug)]
enum Late {
    Size(u64, u64),
    Problem(u64, Problem),
}

impl Handover {
    pub(crate) fn new() -> Result<Self, Errno> {
        let bell = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        Ok(Self { state: Mutex::default(), room: Condvar::new(), bell })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    /// Hands over a batch, when there is room, and gives an empty one.
    pub(crate) fn push(&self, batch: Batch) -> Result<Batch, Stopped> {
        let mut state = self.lock();
        while (state.entries >= ENTRIES_MAX || state.text_len >= TEXT_LEN_MAX) && !state.is_stopped
        {
            state = self.room.wait(state).expect("no holder panics");
        }
        if state.is_stopped {
            return Err(Stopped);
        }
        state.entries += batch.len();
        state.text_len += batch.text_len();
        let has_outcome = batch.has_outcome();
        state.batches.push(batch);
        let empty = state.spare.pop().unwrap_or_default();
        drop(state);
        if has_outcome {
            self.ring();
        }
        Ok(empty)
    }

    /// The length of a file, known only now. To be called before its result can come.
    pub(crate) fn late_size(&self, number: u64, size: u64) {
        self.lock().late.push(Late::Size(number, size));
    }

    /// An entry that was to have a result will have none.
    pub(crate) fn late_problem(&self, number: u64, problem: Problem) {
        self.lock().late.push(Late::Problem(number, problem));
        self.ring();
    }

    /// The producer's last word.
    pub(crate) fn end(&self, end: End) {
        self.lock().end = Some(end);
        self.ring();
    }

    /// Wakes the main thread.
    pub(crate) fn ring(&self) {
        // It fails only when 2^64 - 2 rings were not heard.
        let _ = self.bell.write(1);
    }

    /// Makes the producer end.
    pub(crate) fn stop(&self) {
        self.lock().is_stopped = true;
        self.room.notify_all();
    }

    /// Moves everything that was handed over into `order`; how the producer ended, once.
    pub(crate) fn absorb(&self, order: &mut Order) -> Option<End> {
        let mut state = self.lock();
        for batch in state.batches.drain(..) {
            order.push(batch);
        }
        for late in state.late.drain(..) {
            match late {
                Late::Size(number, size) => order.set_size(number, size),
                Late::Problem(number, problem) => {
                    let waited = order.resolve(number, Err(problem));
                    debug_assert!(waited, "the producer speaks once of an entry");
                }
            }
        }
        state.end.take()
    }

    /// Takes back batches that are printed.
    pub(crate) fn release(&self, spent: &mut Vec<Batch>) {
        if spent.is_empty() {
            return;
        }
        let mut state = self.lock();
        for mut batch in spent.drain(..) {
            state.entries -= batch.len();
            state.text_len -= batch.text_len();
            batch.clear();
            if state.spare.len() < SPARE_MAX {
                state.spare.push(batch);
            }
        }
        self.room.notify_all();
    }

    /// Forgets the rings so far.
    pub(crate) fn quiet(&self) {
        // It fails when nobody rang.
        let _ = self.bell.read();
    }
}

impl AsFd for Handover {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}
