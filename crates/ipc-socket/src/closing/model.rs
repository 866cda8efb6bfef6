//! Threads, locks and close(2) of a model: shuttle runs the threads of a test one at a time, in another
//! order in each run, and finds those in which nobody can go on. Outside of such a test descriptors are
//! closed as ever.

use crate::sys;
use shuttle::future;
use shuttle::rand::{Rng, thread_rng};
use std::cell::RefCell;
use std::collections::HashSet;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LockResult};
use std::time::Duration;

pub(super) use shuttle::sync::{Mutex, MutexGuard};

/// Turns of other threads after which a time limit may expire.
const TURNS_MAX: usize = 20;

thread_local! {
    static WORLD: RefCell<Option<World>> = const { RefCell::new(None) };
}

/// Everything outside of the threads, of one run.
#[derive(Default)]
pub(super) struct World {
    /// Number of descriptors that were closed.
    pub(super) closed: usize,
    /// Descriptors whose closing never ends.
    pub(super) hung: HashSet<RawFd>,
    /// Threads that were started.
    pub(super) started: usize,
}

impl World {
    /// Starts a run.
    pub(super) fn begin() {
        WORLD.set(Some(Self::default()));
    }

    pub(super) fn with<T>(look: impl FnOnce(&mut Self) -> T) -> T {
        WORLD.with_borrow_mut(|world| look(world.as_mut().expect("a run has begun")))
    }
}

pub(super) fn close_here(descriptors: impl IntoIterator<Item = OwnedFd>) {
    if WORLD.with_borrow(Option::is_none) {
        return sys::close_here(descriptors);
    }
    for descriptor in descriptors {
        shuttle::thread::yield_now();
        if World::with(|world| world.hung.contains(&descriptor.as_raw_fd())) {
            let (never, forever) = (Mutex::new(()), shuttle::sync::Condvar::new());
            let _never = forever.wait_while(never.lock().expect("new"), |()| true);
        }
        drop(descriptor);
        World::with(|world| world.closed += 1);
    }
}

pub(super) struct Condvar(Arc<shuttle::sync::Condvar>);

/// The outcome of a wait with a time limit.
pub(super) struct Waited(bool);

impl Waited {
    pub(super) fn timed_out(&self) -> bool {
        self.0
    }
}

impl Condvar {
    pub(super) fn new() -> Self {
        Self(Arc::new(shuttle::sync::Condvar::new()))
    }

    pub(super) fn notify_one(&self) {
        self.0.notify_one();
    }

    pub(super) fn notify_all(&self) {
        self.0.notify_all();
    }

    pub(super) fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>> {
        self.0.wait(guard)
    }

    /// The limit expires sooner or later, or before anything else.
    pub(super) fn wait_timeout_while<'a, T>(
        &self,
        mut guard: MutexGuard<'a, T>,
        _limit: Duration,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> LockResult<(MutexGuard<'a, T>, Waited)> {
        let (has_expired, is_over) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let timer = (Arc::clone(&self.0), Arc::clone(&has_expired), Arc::clone(&is_over));
        drop(future::spawn(async move { expire(&timer.0, &timer.1, &timer.2) }));
        let outcome = loop {
            match (condition(&mut guard), has_expired.load(Ordering::Relaxed)) {
                (false, _) => break Ok((guard, Waited(false))),
                (true, true) => break Ok((guard, Waited(true))),
                (true, false) => guard = self.0.wait(guard).expect("no thread of a run panics"),
            }
        };
        is_over.store(true, Ordering::Relaxed);
        outcome
    }
}

fn expire(condvar: &shuttle::sync::Condvar, has_expired: &AtomicBool, is_over: &AtomicBool) {
    for _ in 0..thread_rng().gen_range(0..TURNS_MAX) {
        shuttle::thread::yield_now();
    }
    has_expired.store(true, Ordering::Relaxed);
    while !is_over.load(Ordering::Relaxed) {
        condvar.notify_all();
        shuttle::thread::yield_now();
    }
}

pub(super) mod thread {
    use super::{World, future, io};

    /// A thread for which nobody waits at the end.
    pub(in crate::closing) struct Builder;

    impl Builder {
        pub(in crate::closing) fn new() -> Self {
            Self
        }

        pub(in crate::closing) fn name(self, _name: String) -> Self {
            self
        }

        pub(in crate::closing) fn stack_size(self, _len: usize) -> Self {
            self
        }

        pub(in crate::closing) fn spawn(
            self,
            run: impl FnOnce() + Send + 'static,
        ) -> io::Result<()> {
            World::with(|world| world.started += 1);
            drop(future::spawn(async move { run() }));
            Ok(())
        }
    }
}
