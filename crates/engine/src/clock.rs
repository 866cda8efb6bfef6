//! The only place that reads a clock.
//!
//! [`StampClock`] is the clock that the kernel stamps files with (`CLOCK_REALTIME_COARSE`), together with
//! one that cannot be set, so that a step of the first is noticed.

use nix::time::{ClockId, clock_gettime};
use std::cell::Cell;
use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

/// A write may still be in progress this long after its stamp was set, in nanoseconds.
pub const MARGIN_NS: i64 = 2_000_000_000;

/// Differences of the two clocks below this are ticks between two readings, not steps. In nanoseconds.
const STEP_NS_MIN: i64 = 100_000_000;

/// Interval at which [`StampClock::wait_until_after`] polls.
const POLL: Duration = Duration::from_millis(1);

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

/// One reading of the stamping clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Nanoseconds since 1970 by the clock that stamps files.
    pub real_ns: i64,
    /// The same minus the clock that cannot be set: constant unless the first is set.
    offset_ns: i64,
    /// The clock was set less than the margin ago: stamps may be on either side of the step.
    pub is_unsettled: bool,
}

/// The stamping clock, as one thread reads it.
pub struct StampClock {
    read: Box<dyn Fn() -> (i64, i64) + Send>,
    offset_ns: Cell<i64>,
    /// Until when, by the clock that cannot be set, stamps are not relied on.
    unsettled_until_ns: Cell<i64>,
}

impl Default for StampClock {
    fn default() -> Self {
        Self::new(|| {
            let read = |clock| {
                let time = clock_gettime(clock).expect("every Linux has this clock");
                nanoseconds(time.tv_sec(), time.tv_nsec())
            };
            (read(ClockId::CLOCK_REALTIME_COARSE), read(ClockId::CLOCK_MONOTONIC_COARSE))
        })
    }
}

impl StampClock {
    /// A clock read by `read`: the time of stamps and a time that is never set, in nanoseconds.
    pub fn new(read: impl Fn() -> (i64, i64) + Send + 'static) -> Self {
        let (real_ns, steady_ns) = read();
        let offset_ns = Cell::new(real_ns.wrapping_sub(steady_ns));
        Self { read: Box::new(read), offset_ns, unsettled_until_ns: Cell::new(i64::MIN) }
    }

    /// The time now.
    pub fn now(&self) -> Moment {
        let (real_ns, steady_ns) = (self.read)();
        let offset_ns = real_ns.wrapping_sub(steady_ns);
        if is_step(self.offset_ns.replace(offset_ns), offset_ns) {
            self.unsettled_until_ns.set(steady_ns.saturating_add(MARGIN_NS));
        }
        let is_unsettled = steady_ns < self.unsettled_until_ns.get();
        Moment { real_ns, offset_ns, is_unsettled }
    }

    /// Returns true if the clock was set since `moment`.
    pub fn was_set_since(&self, moment: Moment) -> bool {
        is_step(moment.offset_ns, self.now().offset_ns)
    }

    /// Waits until it is later than `real_ns`, but not longer than the margin; in vain if the clock is
    /// set back meanwhile.
    pub fn wait_until_after(&self, real_ns: i64) {
        let start = self.now();
        let end_ns = real_ns.min(start.real_ns.saturating_add(MARGIN_NS));
        while self.now().real_ns <= end_ns && !self.was_set_since(start) {
            thread::sleep(POLL);
        }
    }
}

impl fmt::Debug for StampClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StampClock").finish_non_exhaustive()
    }
}

/// Nanoseconds since 1970, modulo 2^64.
pub(crate) fn nanoseconds(seconds: i64, nanoseconds: i64) -> i64 {
    seconds.wrapping_mul(1_000_000_000).wrapping_add(nanoseconds)
}

fn is_step(before_ns: i64, after_ns: i64) -> bool {
    after_ns.wrapping_sub(before_ns).unsigned_abs() > STEP_NS_MIN.unsigned_abs()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};

    /// A clock that stands still unless a test sets it: the time of stamps and the steady one.
    #[derive(Clone, Debug, Default)]
    pub(crate) struct Hands(Arc<(AtomicI64, AtomicI64)>);

    impl Hands {
        pub(crate) fn clock(&self) -> StampClock {
            let hands = Arc::clone(&self.0);
            StampClock::new(move || {
                (hands.0.load(Ordering::SeqCst), hands.1.load(Ordering::SeqCst))
            })
        }

        pub(crate) fn pass(&self, ns: i64) {
            self.0.0.fetch_add(ns, Ordering::SeqCst);
            self.0.1.fetch_add(ns, Ordering::SeqCst);
        }

        /// Sets the time of stamps forward or back.
        pub(crate) fn set(&self, by_ns: i64) {
            self.0.0.fetch_add(by_ns, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_clock_step_leaves_the_clock_unsettled_for_the_margin() {
        for by_ns in [-3_600_000_000_000, 3_600_000_000_000, -STEP_NS_MIN - 1] {
            let hands = Hands::default();
            let clock = hands.clock();
            let before = clock.now();
            hands.pass(MARGIN_NS);
            assert!(!clock.was_set_since(before) && !clock.now().is_unsettled);
            hands.set(by_ns);
            assert!(clock.was_set_since(before) && clock.now().is_unsettled, "{by_ns}");
            hands.pass(MARGIN_NS - 1);
            assert!(clock.now().is_unsettled, "{by_ns}");
            hands.pass(1);
            assert!(!clock.now().is_unsettled && clock.was_set_since(before), "{by_ns}");
        }
    }

    #[test]
    fn ticks_between_two_clock_reads_are_not_a_step() {
        let hands = Hands::default();
        let clock = hands.clock();
        let before = clock.now();
        hands.set(STEP_NS_MIN);
        assert!(!clock.was_set_since(before) && !clock.now().is_unsettled);
    }

    #[test]
    fn a_wait_ends_after_its_moment() {
        let clock = StampClock::default();
        let start = clock.now();
        clock.wait_until_after(start.real_ns);
        assert!(clock.now().real_ns > start.real_ns);
    }
}
