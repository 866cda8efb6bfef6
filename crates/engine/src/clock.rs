//! The only place that reads a clock.

use std::time::Instant;

/// A moment from which time is measured.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Measures from now.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Time since the start, in microseconds.
    pub fn elapsed_us(self) -> u64 {
        u64::try_from(self.0.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Time since the start, in nanoseconds.
    pub fn elapsed_ns(self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}
