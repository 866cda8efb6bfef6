//! A worker over time: its totals, its recent speed, signs that it hangs, and its row of the status.

use super::Worker;
use crate::core::{limits::STALL_TIME, millis};
use ipc_proto::Algorithm;
use ipc_proto::message::{AlgorithmSpeed, WorkerHealth, WorkerStatus};
use std::collections::BTreeMap;
use std::time::Duration;

/// Totals of a worker, and its recent speed.
#[derive(Debug, Default)]
pub(super) struct Throughput {
    pub(super) items: u64,
    pub(super) bytes: u64,
    items_before: u64,
    bytes_before: u64,
    since: Duration,
    pub(super) items_per_s: u64,
    pub(super) bytes_per_s: u64,
    /// Bytes and time of one thread, in microseconds, by algorithm.
    by_algorithm: BTreeMap<Algorithm, (u64, u64)>,
}

impl Throughput {
    const PERIOD: Duration = Duration::from_secs(2);

    /// Thread time after which earlier work counts for half.
    const HALF_LIFE_US: u64 = 60_000_000;

    /// Fastest speed that is believed, in bytes per second.
    const SPEED_MAX: u64 = 1 << 36;

    /// Takes in `bytes` that one thread hashed in `busy_us`.
    pub(super) fn hashed(&mut self, algorithm: Algorithm, bytes: u64, busy_us: u64) {
        let (all, all_us) = self.by_algorithm.entry(algorithm).or_default();
        *all = all.saturating_add(bytes);
        *all_us = all_us.saturating_add(busy_us);
        if *all_us > Self::HALF_LIFE_US {
            (*all, *all_us) = (*all / 2, *all_us / 2);
        }
    }

    fn speeds(&self) -> Vec<AlgorithmSpeed> {
        let speed = |(&algorithm, &(bytes, busy_us)): (&Algorithm, &(u64, u64))| {
            let bytes_per_s = u128::from(bytes) * 1_000_000 / u128::from(busy_us.max(1));
            let bytes_per_s = u64::try_from(bytes_per_s).unwrap_or(u64::MAX).min(Self::SPEED_MAX);
            AlgorithmSpeed { algorithm, bytes_per_s }
        };
        self.by_algorithm.iter().filter(|(_, (bytes, _))| *bytes > 0).map(speed).collect()
    }

    pub(super) fn new(now: Duration) -> Self {
        Self { since: now, ..Self::default() }
    }

    pub(super) fn tick(&mut self, now: Duration) {
        let period = now.saturating_sub(self.since);
        if period < Self::PERIOD {
            return;
        }
        let per_s = |count: u64| {
            u64::try_from(u128::from(count) * 1000 / period.as_millis().max(1)).unwrap_or(u64::MAX)
        };
        self.items_per_s = per_s(self.items - self.items_before);
        self.bytes_per_s = per_s(self.bytes - self.bytes_before);
        (self.items_before, self.bytes_before, self.since) = (self.items, self.bytes, now);
    }
}

/// Signs that a worker hangs, in steps of the tick.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// When it last had no lease, or answered.
    last: Duration,
    has_answered: bool,
    /// It has leases, and has answered nothing for a while.
    pub(super) is_stalled: bool,
    /// Since when all of its threads hang.
    hang_since: Option<Duration>,
}

impl Turns {
    pub(super) fn new(now: Duration) -> Self {
        Self { last: now, ..Self::default() }
    }

    pub(super) fn answered(&mut self) {
        self.has_answered = true;
        self.is_stalled = false;
    }

    /// Returns true if the worker has just stalled.
    pub(super) fn tick(&mut self, now: Duration, has_no_lease: bool, all_hang: bool) -> bool {
        if std::mem::take(&mut self.has_answered) || has_no_lease {
            self.last = now;
        }
        self.hang_since = all_hang.then(|| self.hang_since.unwrap_or(now));
        let was_stalled = self.is_stalled;
        self.is_stalled = now.saturating_sub(self.last) >= STALL_TIME;
        self.is_stalled && !was_stalled
    }

    /// True if all of its threads have hung for longer than an answer takes.
    fn hang_for_long(&self, now: Duration) -> bool {
        self.hang_since.is_some_and(|since| now.saturating_sub(since) >= STALL_TIME)
    }
}

impl Worker {
    pub(super) fn row(&self, now: Duration, leases_lost: u64) -> WorkerStatus {
        WorkerStatus {
            name: self.intro.name.clone(),
            software: self.intro.software.clone(),
            pid: self.intro.pid,
            health: self.health_shown(now),
            threads: self.intro.threads,
            backends: self.intro.backends.clone(),
            credits: self.credits,
            leases: u32::try_from(self.leases.len()).unwrap_or(u32::MAX),
            uptime_ms: millis(now.saturating_sub(self.joined)),
            items: self.meter.items,
            bytes: self.meter.bytes,
            items_per_s: self.meter.items_per_s,
            bytes_per_s: self.meter.bytes_per_s,
            leases_lost,
            reading: self.intro.reading.clone(),
            sandbox: self.intro.sandbox,
            image: self.intro.image.clone(),
            host: self.intro.host.clone(),
            cpu: self.intro.cpu.clone(),
            speeds: self.meter.speeds(),
        }
    }

    fn health_shown(&self, now: Duration) -> WorkerHealth {
        match self.is_served() && self.turns.hang_for_long(now) {
            true => WorkerHealth::Suspended,
            false => self.health,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_speed_is_that_of_recent_work_and_no_claim_is_believed_beyond_all_hardware() {
        let mut meter = Throughput::new(Duration::ZERO);
        assert_eq!(meter.speeds(), []);
        meter.hashed(Algorithm::Sha256, 0, 5);
        assert_eq!(meter.speeds(), [], "empty files say nothing");
        let speed = |algorithm, bytes_per_s| AlgorithmSpeed { algorithm, bytes_per_s };
        meter.hashed(Algorithm::Sha256, 10, 5);
        meter.hashed(Algorithm::Md5, u64::MAX, 0);
        meter.hashed(Algorithm::Md5, u64::MAX, 0);
        let mut want =
            [speed(Algorithm::Sha256, 1_000_000), speed(Algorithm::Md5, Throughput::SPEED_MAX)];
        want.sort_by_key(|speed| speed.algorithm);
        assert_eq!(meter.speeds(), want);
        // It becomes slower, and that counts more than what was long ago.
        for _ in 0..100 {
            meter.hashed(Algorithm::Sha256, 10_000_000, 10_000_000);
        }
        let now = meter.speeds().into_iter().find(|speed| speed.algorithm == Algorithm::Sha256);
        let now = now.map_or(0, |speed| speed.bytes_per_s);
        assert!((990_000..=1_010_000).contains(&now), "{now}");
    }
}
