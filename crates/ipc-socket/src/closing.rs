//! Closing descriptors where waiting is nobody's loss.
//!
//! close(2) can wait: for unsent bytes of a socket with SO_LINGER, for the server of a FUSE file that is
//! to flush it, for a server that is gone. A peer chooses what it passes, so a process that has started
//! the [`closers`](start_closers) closes nothing of a peer's itself, nor a socket in which such
//! descriptors may still be queued.
//!
//! Closed later means that a limit of open files is used up for longer: a caller who left too many waits
//! for them, for a moment.
//!
//! Invariants: a closer that is about to close leaves another one that waits for work, as long as there
//! are fewer than [`CLOSERS_MAX`]; without closers everything is closed at once, by whoever drops it.

use crate::sys::close_here;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock};
use std::thread;
use std::time::Duration;

/// Most threads that close: as many closings can hang before others wait for them.
const CLOSERS_MAX: usize = 64;

/// More threads than this that wait for work are too many.
const IDLE_MAX: usize = 2;

/// Time that a caller waits for what the others close.
const PATIENCE: Duration = Duration::from_millis(10);

const STACK_LEN: usize = 64 << 10;

static CLOSERS: OnceLock<Closers> = OnceLock::new();

struct Closers {
    state: Mutex<State>,
    /// There is work for a thread that waits.
    work: Condvar,
    /// Something was closed.
    closed: Condvar,
    slack: usize,
    /// Called by each thread at its start.
    prepare: Box<dyn Fn() -> io::Result<()> + Send + Sync>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Batch>,
    /// Descriptors of the present epoch that are open.
    open: usize,
    /// Incremented when a caller stops waiting: nobody waits for the same descriptors again.
    epoch: u64,
    idle: usize,
    threads: usize,
}

/// The descriptors of one call of [`close_all`]. Only within one of these a closing delays others.
struct Batch {
    descriptors: Vec<OwnedFd>,
    epoch: u64,
}

/// Starts threads that close descriptors for the others, once per process; `prepare` is called in each.
/// Up to `slack` descriptors may stay open while callers of [`close_all`] go on.
///
/// # Errors
/// The system refused a thread. Later, when others hang, that only makes closing wait.
pub fn start_closers(
    slack: usize,
    prepare: impl Fn() -> io::Result<()> + Send + Sync + 'static,
) -> io::Result<()> {
    let closers = CLOSERS.get_or_init(|| Closers {
        state: Mutex::default(),
        work: Condvar::new(),
        closed: Condvar::new(),
        slack,
        prepare: Box::new(prepare),
    });
    let mut state = closers.state();
    if state.threads > 0 { Ok(()) } else { closers.add(&mut state) }
}

/// Closes descriptors, in another thread if there are closers. Returns at once, or, if more are open
/// than [`start_closers`] was told, when few enough are or after 10 ms.
pub fn close_all(descriptors: impl IntoIterator<Item = OwnedFd>) {
    let Some(closers) = CLOSERS.get() else { return close_here(descriptors) };
    let descriptors: Vec<OwnedFd> = descriptors.into_iter().collect();
    if descriptors.is_empty() {
        return;
    }
    let mut state = closers.state();
    let epoch = state.epoch;
    state.open += descriptors.len();
    state.waiting.push_back(Batch { descriptors, epoch });
    closers.work.notify_one();
    if state.open > closers.slack {
        let too_many = |state: &mut State| state.epoch == epoch && state.open > closers.slack;
        let waited = closers.closed.wait_timeout_while(state, PATIENCE, too_many);
        let (mut state, result) = waited.expect("nothing panics while it holds the lock");
        if result.timed_out() {
            state.epoch += 1;
            state.open = 0;
        }
    }
}

impl Closers {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds the lock")
    }

    fn add(&'static self, state: &mut State) -> io::Result<()> {
        let closer = thread::Builder::new().name("closer".to_owned()).stack_size(STACK_LEN);
        closer.spawn(|| {
            if (self.prepare)().is_ok() {
                self.close_forever();
            }
        })?;
        state.threads += 1;
        Ok(())
    }

    /// Closes what comes; returns if others wait for it, too.
    fn close_forever(&'static self) {
        let mut state = self.state();
        loop {
            let Some(batch) = state.waiting.pop_front() else {
                if state.idle >= IDLE_MAX {
                    state.threads -= 1;
                    return;
                }
                state.idle += 1;
                state = self.work.wait(state).expect("nothing panics while it holds the lock");
                state.idle -= 1;
                continue;
            };
            if state.idle == 0 && state.threads < CLOSERS_MAX {
                // Without another thread the rest waits for this one.
                let _ = self.add(&mut state);
            }
            drop(state);
            let len = batch.descriptors.len();
            close_here(batch.descriptors);
            state = self.state();
            if state.epoch == batch.epoch {
                state.open -= len;
                self.closed.notify_all();
            }
        }
    }
}

/// An object of the kernel's that a peer may have chosen: dropping it closes it as [`close_all`] does.
pub struct Passed<T: Into<OwnedFd> = OwnedFd>(Option<T>);

impl<T: Into<OwnedFd>> Passed<T> {
    /// The object itself, to be closed by the caller.
    #[must_use]
    pub fn into_inner(mut self) -> T {
        self.0.take().expect("it is there until it is dropped")
    }
}

impl<T: Into<OwnedFd>> From<T> for Passed<T> {
    fn from(object: T) -> Self {
        Self(Some(object))
    }
}

impl<T: Into<OwnedFd>> Deref for Passed<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("it is there until it is dropped")
    }
}

impl<T: Into<OwnedFd> + AsFd> AsFd for Passed<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        (**self).as_fd()
    }
}

impl<T: Into<OwnedFd>> Drop for Passed<T> {
    fn drop(&mut self) {
        close_all(self.0.take().map(Into::into));
    }
}

impl<T: Into<OwnedFd> + fmt::Debug> fmt::Debug for Passed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
