//! Threads and channels of a model: shuttle runs the threads of a test one at a time, in another order in
//! each run, and finds those in which nobody can go on. The channel is crossbeam's by its contract.

use shuttle::sync::{Condvar, Mutex, MutexGuard};
use std::collections::VecDeque;
use std::sync::Arc;

pub(super) use shuttle::sync::atomic::{AtomicUsize, Ordering};
pub(super) use shuttle::thread;

struct Channel<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
    capacity: usize,
}

struct State<T> {
    messages: VecDeque<T>,
    senders: usize,
}

impl<T> Channel<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().expect("no thread of a run panics")
    }
}

pub(super) struct ModelSender<T>(Arc<Channel<T>>);

pub(super) struct ModelReceiver<T>(Arc<Channel<T>>);

/// Every sender is gone, or the channel is full.
#[derive(Debug)]
pub(super) struct ChannelEnd;

/// A message for which a channel has no room.
pub(super) struct NotSent<T>(T);

impl<T> NotSent<T> {
    pub(super) fn into_inner(self) -> T {
        self.0
    }
}

pub(super) fn bounded<T>(capacity: usize) -> (ModelSender<T>, ModelReceiver<T>) {
    let state = Mutex::new(State { messages: VecDeque::new(), senders: 1 });
    let channel = Arc::new(Channel { state, changed: Condvar::new(), capacity });
    (ModelSender(Arc::clone(&channel)), ModelReceiver(channel))
}

impl<T> ModelSender<T> {
    /// Never has to wait: as many messages as threads are sent.
    pub(super) fn send(&self, message: T) -> Result<(), ChannelEnd> {
        self.try_send(message).map_err(|_| ChannelEnd)
    }

    pub(super) fn try_send(&self, message: T) -> Result<(), NotSent<T>> {
        let mut state = self.0.state();
        if state.messages.len() == self.0.capacity {
            return Err(NotSent(message));
        }
        state.messages.push_back(message);
        self.0.changed.notify_one();
        Ok(())
    }
}

impl<T> Clone for ModelSender<T> {
    fn clone(&self) -> Self {
        self.0.state().senders += 1;
        Self(Arc::clone(&self.0))
    }
}

impl<T> Drop for ModelSender<T> {
    fn drop(&mut self) {
        self.0.state().senders -= 1;
        self.0.changed.notify_all();
    }
}

impl<T> ModelReceiver<T> {
    pub(super) fn recv(&self) -> Result<T, ChannelEnd> {
        let mut state = self.0.state();
        loop {
            match state.messages.pop_front() {
                Some(message) => return Ok(message),
                None if state.senders == 0 => return Err(ChannelEnd),
                None => state = self.0.changed.wait(state).expect("no thread of a run panics"),
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.state().messages.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = T> {
        std::iter::from_fn(|| self.recv().ok())
    }
}

impl<T> Clone for ModelReceiver<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}
