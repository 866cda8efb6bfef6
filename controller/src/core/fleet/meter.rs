//! A worker over time: its totals, its recent speed, signs that it hangs, and its row of the status.

use super::Worker;
use crate::core::{limits::STALL_TIME, millis};
use ipc_proto::message::{WorkerHealth, WorkerStatus};
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
}

impl Throughput {
    const PERIOD: Duration = Duration::from_secs(2);

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
        }
    }

    fn health_shown(&self, now: Duration) -> WorkerHealth {
        match self.is_served() && self.turns.hang_for_long(now) {
            true => WorkerHealth::Suspended,
            false => self.health,
        }
    }
}
