//! The number of threads that read from one dataset at once: on a rotating disk each further one costs
//! time.
//!
//! A thread holds a [`Permit`] while it reads, and gives it up before it hashes. Invariant: permits are
//! given in the order in which they were asked for.

use std::num::NonZeroU16;
use std::sync::{Condvar, Mutex, MutexGuard};

/// The permits of one dataset.
#[derive(Debug)]
pub(crate) struct IoLimit {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    free: u16,
    /// The number of the next thread that asks.
    next: u64,
    /// The number of the thread that gets the next permit.
    served: u64,
}

/// The right to read. Given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Permit<'a>(&'a IoLimit);

impl IoLimit {
    pub(crate) fn new(most: NonZeroU16) -> Self {
        let state = State { free: most.get(), next: 0, served: 0 };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Waits for a permit.
    pub(crate) fn acquire(&self) -> Permit<'_> {
        let mut state = self.lock();
        let number = state.next;
        state.next += 1;
        while state.served != number || state.free == 0 {
            state = self.changed.wait(state).expect("no holder panics");
        }
        state.served += 1;
        state.free -= 1;
        drop(state);
        // The next one may be able to read as well.
        self.changed.notify_all();
        Permit(self)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    /// Returns true if a thread waits for a permit.
    #[cfg(test)]
    pub(crate) fn is_wanted(&self) -> bool {
        let state = self.lock();
        state.next != state.served
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.0.lock().free += 1;
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    #[test]
    fn at_most_the_limit_reads_at_once_and_every_thread_gets_a_permit() {
        for most in [1, 2, 3] {
            let limit = IoLimit::new(NonZeroU16::new(most).unwrap());
            let (now, peak, total) =
                (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
            thread::scope(|scope| {
                for _ in 0..6 {
                    scope.spawn(|| {
                        for _ in 0..200 {
                            let _permit = limit.acquire();
                            let readers = now.fetch_add(1, Ordering::SeqCst) + 1;
                            peak.fetch_max(readers, Ordering::SeqCst);
                            thread::yield_now();
                            now.fetch_sub(1, Ordering::SeqCst);
                            total.fetch_add(1, Ordering::SeqCst);
                        }
                    });
                }
            });
            assert_eq!(total.into_inner(), 1200);
            assert!(peak.into_inner() <= usize::from(most));
            assert_eq!(limit.lock().free, most, "every permit came back");
        }
    }
}
