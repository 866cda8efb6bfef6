//! The only clock of this crate.

use std::time::{Duration, Instant};

/// Time since its start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DriverClock(Instant);

impl DriverClock {
    /// A clock that starts now.
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    /// Time since then.
    pub(crate) fn now(self) -> Duration {
        self.0.elapsed()
    }
}
