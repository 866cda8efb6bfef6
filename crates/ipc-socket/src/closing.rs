//! Closing descriptors where waiting is nobody's loss.
//!
//! close(2) can wait: for unsent bytes of a socket with SO_LINGER, for the server of a FUSE file that is
//! to flush it, for a server that is gone. A peer chooses what it passes, so a process that has started
//! the [`closers`](start_closers) closes nothing of a peer's itself, nor a socket in which such
//! descriptors may still be queued.
//!
//! Closed later means that a limit of open files is used up for longer: a caller who left too many waits
//! for them, for a moment, and [`unclosed`] tells how many of an [`PassedBy`] are left.
//!
//! Invariants:
//! - a closer that is about to close leaves another one that waits for work, as long as there are fewer
//!   than [`CLOSERS_MAX`];
//! - an owner has at most half of the closers that others leave, so that closings which hang delay their
//!   own owner's only;
//! - without closers everything is closed at once, by whoever drops it.

#[cfg(test)]
mod model;
#[cfg(test)]
mod schedules;

#[cfg(not(test))]
use crate::sys::close_here;
#[cfg(test)]
use model::{Condvar, Mutex, MutexGuard, close_here, thread};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;
use std::ops::{Bound, Deref};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;
#[cfg(not(test))]
use std::sync::{Condvar, Mutex, MutexGuard};
#[cfg(not(test))]
use std::thread;
use std::time::Duration;

/// Most threads that close: as many closings can hang before others wait for them.
const CLOSERS_MAX: usize = 64;

/// More threads than this that wait for work are too many.
const IDLE_MAX: usize = 2;

/// Time that a caller waits for what the others close.
const PATIENCE: Duration = Duration::from_millis(10);

const STACK_LEN: usize = 64 << 10;

/// Whoever passed a descriptor, as far as a process tells them apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PassedBy(pub u64);

static CLOSERS: OnceLock<Closers> = OnceLock::new();

struct Closers {
    state: Mutex<State>,
    /// There is work for a thread that waits.
    work: Condvar,
    /// Something was closed.
    closed: Condvar,
    slack: usize,
}

#[derive(Default)]
struct State {
    owners: BTreeMap<PassedBy, Unclosed>,
    /// The owner that was served last: they take turns.
    last: PassedBy,
    /// Threads that close, of all owners.
    busy: usize,
    /// Descriptors of the present epoch that are open.
    open: usize,
    /// Incremented when a caller stops waiting: nobody waits for the same descriptors again.
    epoch: u64,
    idle: usize,
    threads: usize,
}

/// Descriptors of one owner.
#[derive(Default)]
struct Unclosed {
    waiting: VecDeque<Batch>,
    /// Number of descriptors, waiting or being closed.
    len: usize,
    /// Threads that close some.
    busy: usize,
}

/// The descriptors of one call of [`close_for`]. Only within one of these a closing delays others.
struct Batch {
    descriptors: Vec<OwnedFd>,
    epoch: u64,
}

/// Starts threads that close descriptors for the others, once per process. The first one calls `prepare`;
/// all others are started by it and inherit what it gave up, as they could not give it up again.
/// Up to `slack` descriptors may stay open while callers of [`close_all`] go on.
///
/// # Errors
/// The system refused a thread. Later, when others hang, that only makes closing wait.
pub fn start_closers(
    slack: usize,
    prepare: impl FnOnce() -> io::Result<()> + Send + 'static,
) -> io::Result<()> {
    CLOSERS.get_or_init(|| Closers::new(slack)).start(prepare)
}

/// Closes descriptors of no particular owner, as [`close_for`].
pub fn close_all(descriptors: impl IntoIterator<Item = OwnedFd>) {
    close_for(PassedBy::default(), descriptors);
}

/// Closes descriptors, in another thread if there are closers. Returns at once, or, if more are open
/// than [`start_closers`] was told, when few enough are or after 10 ms.
pub fn close_for(owner: PassedBy, descriptors: impl IntoIterator<Item = OwnedFd>) {
    let Some(closers) = CLOSERS.get() else { return close_here(descriptors) };
    let descriptors: Vec<OwnedFd> = descriptors.into_iter().collect();
    if !descriptors.is_empty() {
        closers.close_for(owner, descriptors);
    }
}

/// Number of descriptors of `owner` that were left to the closers and are still open.
#[must_use]
pub fn unclosed(owner: PassedBy) -> usize {
    let of = |closers: &Closers| closers.state().owners.get(&owner).map(|unclosed| unclosed.len);
    CLOSERS.get().and_then(of).unwrap_or(0)
}

impl State {
    /// The next batch of an owner that does not have its share of threads, the owners in turn.
    fn next(&mut self) -> Option<(PassedBy, Batch)> {
        let busy = self.busy;
        let is_due = |(_, unclosed): &(&PassedBy, &Unclosed)| {
            let left = CLOSERS_MAX - (busy - unclosed.busy);
            !unclosed.waiting.is_empty() && unclosed.busy < (left / 2).max(1)
        };
        let last = self.last;
        let (after, up_to) = ((Bound::Excluded(last), Bound::Unbounded), ..=last);
        let mut in_turn = self.owners.range(after).chain(self.owners.range(up_to));
        let owner = *in_turn.find(is_due)?.0;
        let unclosed = self.owners.get_mut(&owner)?;
        let batch = unclosed.waiting.pop_front()?;
        unclosed.busy += 1;
        self.busy += 1;
        self.last = owner;
        Some((owner, batch))
    }

    /// A thread closed a batch of `owner`.
    fn closed(&mut self, owner: PassedBy, len: usize, epoch: u64) {
        self.busy -= 1;
        if let Some(unclosed) = self.owners.get_mut(&owner) {
            unclosed.busy -= 1;
            unclosed.len -= len;
            if unclosed.len == 0 {
                self.owners.remove(&owner);
            }
        }
        if self.epoch == epoch {
            self.open -= len;
        }
    }
}

impl Closers {
    fn new(slack: usize) -> Self {
        Self { state: Mutex::default(), work: Condvar::new(), closed: Condvar::new(), slack }
    }

    fn start(
        &'static self,
        prepare: impl FnOnce() -> io::Result<()> + Send + 'static,
    ) -> io::Result<()> {
        let mut state = self.state();
        if state.threads > 0 { Ok(()) } else { self.add(&mut state, prepare) }
    }

    fn close_for(&self, owner: PassedBy, descriptors: Vec<OwnedFd>) {
        let mut state = self.state();
        let epoch = state.epoch;
        state.open += descriptors.len();
        let unclosed = state.owners.entry(owner).or_default();
        unclosed.len += descriptors.len();
        unclosed.waiting.push_back(Batch { descriptors, epoch });
        self.work.notify_one();
        if state.open > self.slack {
            let too_many = |state: &mut State| state.epoch == epoch && state.open > self.slack;
            let waited = self.closed.wait_timeout_while(state, PATIENCE, too_many);
            let (mut state, result) = waited.expect("nothing panics while it holds the lock");
            if result.timed_out() {
                state.epoch += 1;
                state.open = 0;
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds the lock")
    }

    fn add(
        &'static self,
        state: &mut State,
        prepare: impl FnOnce() -> io::Result<()> + Send + 'static,
    ) -> io::Result<()> {
        let closer = thread::Builder::new().name("closer".to_owned()).stack_size(STACK_LEN);
        closer.spawn(|| {
            if prepare().is_ok() {
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
            let Some((owner, batch)) = state.next() else {
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
                let _ = self.add(&mut state, || Ok(()));
            }
            drop(state);
            let len = batch.descriptors.len();
            close_here(batch.descriptors);
            state = self.state();
            state.closed(owner, len, batch.epoch);
            self.closed.notify_all();
        }
    }
}

/// An object of the kernel's that a peer may have chosen: dropping it closes it as [`close_for`] does.
pub struct Passed<T: Into<OwnedFd> = OwnedFd> {
    object: Option<T>,
    owner: PassedBy,
}

impl<T: Into<OwnedFd>> Passed<T> {
    /// An object that came from `owner`.
    pub fn of(owner: PassedBy, object: T) -> Self {
        Self { object: Some(object), owner }
    }

    /// The object itself, to be closed by the caller.
    #[must_use]
    pub fn into_inner(mut self) -> T {
        self.object.take().expect("it is there until it is dropped")
    }

    pub(crate) fn set_owner(&mut self, owner: PassedBy) {
        self.owner = owner;
    }
}

impl<T: Into<OwnedFd>> From<T> for Passed<T> {
    fn from(object: T) -> Self {
        Self::of(PassedBy::default(), object)
    }
}

impl<T: Into<OwnedFd>> Deref for Passed<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.object.as_ref().expect("it is there until it is dropped")
    }
}

impl<T: Into<OwnedFd> + AsFd> AsFd for Passed<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        (**self).as_fd()
    }
}

impl<T: Into<OwnedFd>> Drop for Passed<T> {
    fn drop(&mut self) {
        close_for(self.owner, self.object.take().map(Into::into));
    }
}

impl<T: Into<OwnedFd> + fmt::Debug> fmt::Debug for Passed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queued(state: &mut State, owner: u64, batches: usize) {
        let unclosed = state.owners.entry(PassedBy(owner)).or_default();
        unclosed.len += batches;
        let batch = || Batch { descriptors: Vec::new(), epoch: 0 };
        unclosed.waiting.extend((0..batches).map(|_| batch()));
    }

    #[test]
    fn closings_that_hang_leave_threads_to_the_closings_of_others() {
        let mut state = State { open: 10_000, ..State::default() };
        for (owner, share) in [(7, 32), (3, 16), (9, 8), (1, 4)] {
            queued(&mut state, owner, 100);
            for i in 0..share {
                let (of, _) = state.next().unwrap_or_else(|| panic!("{i} of owner {owner}"));
                assert_eq!(of, PassedBy(owner));
            }
            assert!(state.next().is_none(), "owner {owner} has its share");
        }
        queued(&mut state, 5, 1);
        assert_eq!(state.next().map(|(owner, _)| owner), Some(PassedBy(5)));
    }

    #[test]
    fn owners_take_turns() {
        let mut state = State { open: 100, ..State::default() };
        (1..=3).for_each(|owner| queued(&mut state, owner, 2));
        let order: Vec<u64> =
            std::iter::from_fn(|| state.next()).map(|(owner, _)| owner.0).collect();
        assert_eq!(order, [1, 2, 3, 1, 2, 3]);
        for owner in [1, 2, 3, 1, 2, 3] {
            state.closed(PassedBy(owner), 1, 0);
        }
        assert_eq!((state.owners.len(), state.busy, state.open), (0, 0, 94));
    }
}
