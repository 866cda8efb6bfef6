//! The only clocks of this crate.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

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

/// The host's time, in seconds since 1970.
pub(crate) fn seconds_since_1970() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}
