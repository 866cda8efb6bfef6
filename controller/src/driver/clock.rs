//! The only place that reads a clock.

use std::time::{Duration, Instant};

/// Time since the controller started.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    start: Instant,
}

impl Clock {
    pub(super) fn start() -> Self {
        Self { start: Instant::now() }
    }

    pub(super) fn now(self) -> Duration {
        self.start.elapsed()
    }
}
