//! Shutdown request: set by a signal, observed by every wait.

use crate::link::session::Session;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Weak};
use std::time::Duration;

/// Time that leases in flight have after a shutdown request, in milliseconds; then the controller gives them to
/// others.
pub const LEAVE_WITHIN_MS: u32 = 4_000;

/// Requested at most once, seen by every thread that waits.
#[derive(Debug, Default)]
pub struct Shutdown {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    requested: bool,
    session: Weak<Session>,
}

impl Shutdown {
    /// Drains the open connection, if there is one, and ends every wait.
    pub fn request(&self) {
        let mut state = self.state();
        state.requested = true;
        if let Some(session) = state.session.upgrade() {
            session.drain();
        }
        self.changed.notify_all();
    }

    /// Ends the open connection, if there is one.
    pub(crate) fn close(&self) {
        if let Some(session) = self.state().session.upgrade() {
            session.close();
        }
    }

    /// Batches that the open connection holds, if there is one.
    pub(crate) fn leases_len(&self) -> usize {
        let session = self.state().session.upgrade();
        session.map_or(0, |session| session.leases_len())
    }

    /// Returns true once shutdown was requested.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        self.state().requested
    }

    /// Makes `session` the one that is drained.
    pub fn attach(&self, session: &Arc<Session>) {
        let mut state = self.state();
        state.session = Arc::downgrade(session);
        if state.requested {
            session.drain();
        }
    }

    /// Waits for `pause` or for the request; returns true if it was requested.
    #[must_use]
    pub fn wait(&self, pause: Duration) -> bool {
        let (state, _) = self
            .changed
            .wait_timeout_while(self.state(), pause, |state| !state.requested)
            .expect("nothing panics while it holds the state");
        state.requested
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds the state")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn a_shutdown_request_ends_a_wait() {
        let shutdown = Shutdown::default();
        assert!(!shutdown.wait(Duration::ZERO));
        thread::scope(|scope| {
            let waiting = scope.spawn(|| shutdown.wait(Duration::from_secs(60)));
            shutdown.request();
            assert!(waiting.join().unwrap());
        });
        assert!(shutdown.is_requested());
    }
}
