//! How many threads read from one dataset at once: on a rotating disk each further one costs time.
//!
//! A thread has a [`Turn`] while it reads, and gives it up before it hashes. Who reads a file that is
//! hashed as it comes gives it up now and then, if others wait, so that their leases do not pass.
//! Invariant: turns are given in the order in which they were asked for.

use std::num::NonZeroU16;
use std::sync::{Condvar, Mutex, MutexGuard};

/// Bytes after which a turn passes on to who waits for it.
const TURN_LEN: usize = 16 << 20;

/// The turns of one dataset.
#[derive(Debug)]
pub(crate) struct Turns {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    free: u16,
    /// The number of whoever asks next.
    next: u64,
    /// The number of who gets the next turn.
    served: u64,
}

/// The right to read. Given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    turns: &'a Turns,
    read_len: usize,
}

impl Turns {
    pub(crate) fn new(most: NonZeroU16) -> Self {
        let state = State { free: most.get(), next: 0, served: 0 };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Waits for a turn.
    pub(crate) fn take(&self) -> Turn<'_> {
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
        Turn { turns: self, read_len: 0 }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }
}

impl Turn<'_> {
    /// Counts what was read, and lets others have the turn for a while once that is much.
    pub(crate) fn spend(&mut self, len: usize) {
        self.read_len += len;
        if self.read_len >= TURN_LEN && self.is_wanted() {
            let turns = self.turns;
            self.give();
            // `take` hands the right on to us; the new turn must not give it back twice.
            std::mem::forget(turns.take());
            self.read_len = 0;
        }
    }

    /// Whether somebody waits for a turn.
    pub(crate) fn is_wanted(&self) -> bool {
        let state = self.turns.lock();
        state.next != state.served
    }

    fn give(&self) {
        self.turns.lock().free += 1;
        self.turns.changed.notify_all();
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.give();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    #[test]
    fn no_more_than_so_many_read_at_once_and_everybody_comes_to_read() {
        for most in [1, 2, 3] {
            let turns = Turns::new(NonZeroU16::new(most).unwrap());
            let (now, peak, total) =
                (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
            thread::scope(|scope| {
                for _ in 0..6 {
                    scope.spawn(|| {
                        for _ in 0..200 {
                            let mut turn = turns.take();
                            for _ in 0..3 {
                                peak.fetch_max(
                                    now.fetch_add(1, Ordering::SeqCst) + 1,
                                    Ordering::SeqCst,
                                );
                                thread::yield_now();
                                now.fetch_sub(1, Ordering::SeqCst);
                                turn.spend(TURN_LEN / 2);
                            }
                            total.fetch_add(1, Ordering::SeqCst);
                        }
                    });
                }
            });
            assert_eq!(total.into_inner(), 1200);
            assert!(peak.into_inner() <= usize::from(most));
            assert_eq!(turns.lock().free, most, "every turn came back");
        }
    }

    #[test]
    fn a_long_reading_lets_others_read_between() {
        let turns = Turns::new(NonZeroU16::MIN);
        let mut long = turns.take();
        thread::scope(|scope| {
            let other = scope.spawn(|| drop(turns.take()));
            while !long.is_wanted() {
                thread::yield_now();
            }
            long.spend(TURN_LEN - 1);
            assert!(!other.is_finished() && long.is_wanted(), "not yet");
            long.spend(1);
            assert!(!long.is_wanted(), "it has read");
        });
    }
}
