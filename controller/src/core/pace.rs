//! Rates: a job of a limited rate waits after each batch until the time that its bytes take by that rate is over.
//!
//! Long files with checkpoints are charged as a whole, and taken back at a checkpoint that they reach too soon; so a rate
//! holds over the time of the longest part without a checkpoint, not from one read to the next.

use std::time::Duration;

/// Time by which a job may be ahead of its rate, longer than the interval at which those that wait are looked at.
const AHEAD_MAX: Duration = Duration::from_millis(500);

/// Batches per second of a job that keeps to its rate.
const BATCHES_PER_S: u64 = 4;

/// The rate of a job, and the time up to which it has used it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Bytes per second; 0 for no limit.
    rate: u64,
    used_until: Duration,
}

impl Pace {
    pub(super) fn new(rate: u64) -> Self {
        Self { rate, used_until: Duration::ZERO }
    }

    /// True if nothing of the job may start now.
    pub(super) fn is_held(&self, now: Duration) -> bool {
        self.rate > 0 && self.used_until > now + AHEAD_MAX
    }

    /// True if a batch of which `rest` bytes are not read is further than the rate allows.
    pub(super) fn is_ahead(&self, now: Duration, rest: u64) -> bool {
        self.rate > 0 && self.used_until.saturating_sub(self.time_of(rest)) > now + AHEAD_MAX
    }

    /// Most cost of a batch.
    pub(super) fn cost_max(&self) -> u64 {
        if self.rate == 0 { u64::MAX } else { (self.rate / BATCHES_PER_S).max(1) }
    }

    /// Takes into account that so many bytes will be read.
    pub(super) fn charge(&mut self, now: Duration, bytes: u64) {
        self.used_until = self.used_until.max(now).saturating_add(self.time_of(bytes));
    }

    /// Takes back a charge for what was not read.
    pub(super) fn refund(&mut self, bytes: u64) {
        self.used_until = self.used_until.saturating_sub(self.time_of(bytes));
    }

    fn time_of(&self, bytes: u64) -> Duration {
        if self.rate == 0 {
            return Duration::ZERO;
        }
        let (whole, rest) = (bytes / self.rate, bytes % self.rate);
        let nanos = u128::from(rest) * 1_000_000_000 / u128::from(self.rate);
        Duration::from_secs(whole) + Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_holds_over_any_time_and_what_was_not_read_is_given_back() {
        let mut pace = Pace::new(1_000);
        let (mut now, mut given) = (Duration::from_secs(7), 0);
        while now < Duration::from_secs(17) {
            while !pace.is_held(now) {
                pace.charge(now, pace.cost_max());
                given += pace.cost_max();
            }
            now += Duration::from_millis(250);
        }
        // Ten seconds, what may be ahead, and one batch more.
        assert!((10_000..=10_750).contains(&given), "{given}");
        pace.charge(now, 1_000_000);
        assert!(pace.is_held(now) && !pace.is_ahead(now, 1_000_000) && pace.is_ahead(now, 0));
        pace.refund(1_000_000);
        assert!(!pace.is_held(now + Duration::from_secs(1)));
        let mut free = Pace::new(0);
        free.charge(now, u64::MAX);
        assert!(!free.is_held(now) && !free.is_ahead(now, 0) && free.cost_max() == u64::MAX);
        let mut slow = Pace::new(1);
        slow.charge(now, u64::MAX);
        slow.charge(now, u64::MAX);
        assert!(slow.is_held(now));
    }
}
