//! The only place that reads a clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Time since the controller started.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    start: Instant,
    epoch: u32,
}

impl Clock {
    pub(super) fn start() -> Self {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // Wraps in 2106: what counts is that it differs from one start to the next.
        let epoch = (since_1970.as_secs() % (1 << 32)).try_into().expect("32 bits");
        Self::at(epoch)
    }

    /// A clock that starts now, which is `epoch` by wall-clock time.
    pub(super) fn at(epoch: u32) -> Self {
        Self { start: Instant::now(), epoch }
    }

    /// The start by wall-clock time, in seconds since 1970.
    pub(super) fn epoch(self) -> u32 {
        self.epoch
    }

    /// Seconds since 1970 by the wall clock, as it is set now.
    #[expect(clippy::unused_self, reason = "the clock is what reads the time")]
    pub(super) fn wall_s(self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
    }

    pub(super) fn now(self) -> Duration {
        self.start.elapsed()
    }
}
