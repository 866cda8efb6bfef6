//! A sequence of statuses: rates over time, times left, recent events.

use crate::event::{ClusterEvent, events_between, is_restarted};
use ipc_proto::limits::STATUS_ROWS_MAX;
use ipc_proto::message::{JobId, JobStatus, Status};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// Rates that are kept of each worker, one per status.
pub const RATES_MAX: usize = 60;

/// Events that are kept.
pub const EVENTS_MAX: usize = 200;

/// Part of a new speed in the one that is used, in percent: that of a moment jumps.
const NEW_SPEED_PERCENT: f64 = 30.0;

/// The longest time left that is worth telling; what takes longer may as well never end.
const ETA_MAX: Duration = Duration::from_secs(100 * 86_400);

/// The statuses of a cluster so far: call [`push`](Self::push) for each, with the time at which it was asked
/// for.
#[derive(Clone, Debug, Default)]
pub struct StatusHistory {
    last: Option<(Duration, Status)>,
    /// Bytes per second of each worker, oldest first. A worker that left has zeros until it is forgotten.
    rates: BTreeMap<String, VecDeque<u64>>,
    /// The same of all workers together.
    total: VecDeque<u64>,
    /// Items resolved, and items per second, of each job.
    speeds: BTreeMap<JobId, (u64, f64)>,
    events: VecDeque<(Duration, ClusterEvent)>,
}

impl StatusHistory {
    /// Takes the next status.
    pub fn push(&mut self, now: Duration, status: Status) {
        if let Some((_, old)) = &self.last {
            for event in events_between(old, &status) {
                self.record(now, event);
            }
        }
        self.push_rates(&status);
        let speed = |job: &JobStatus| (job.id, (job.resolved, self.speed(now, &status, job)));
        self.speeds = status.jobs.iter().map(speed).collect();
        self.last = Some((now, status));
    }

    /// Adds an event that no status tells, such as a lost connection.
    pub fn record(&mut self, now: Duration, event: ClusterEvent) {
        if self.events.len() == EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back((now, event));
    }

    /// The last status, and when it was asked for.
    #[must_use]
    pub fn last(&self) -> Option<(Duration, &Status)> {
        self.last.as_ref().map(|(at, status)| (*at, status))
    }

    /// Bytes per second of a worker, oldest first, at most [`RATES_MAX`].
    pub fn rates(&self, worker: &str) -> impl DoubleEndedIterator<Item = u64> {
        self.rates.get(worker).into_iter().flatten().copied()
    }

    /// Bytes per second of all workers together, oldest first, at most [`RATES_MAX`].
    pub fn total_rates(&self) -> impl DoubleEndedIterator<Item = u64> {
        self.total.iter().copied()
    }

    /// Events with their times, newest first, at most [`EVENTS_MAX`].
    pub fn events(&self) -> impl Iterator<Item = &(Duration, ClusterEvent)> {
        self.events.iter().rev()
    }

    /// Time until a job is done at its present speed; `None` while its client may still send items, or
    /// nothing moves.
    #[must_use]
    pub fn time_left(&self, job: &JobStatus) -> Option<Duration> {
        let left = job.items.checked_sub(job.resolved).filter(|_| job.finished)?;
        if left == 0 {
            return Some(Duration::ZERO);
        }
        let seconds = as_float(left) / self.speeds.get(&job.id)?.1;
        Duration::try_from_secs_f64(seconds).ok().filter(|&time| time <= ETA_MAX)
    }

    fn push_rates(&mut self, status: &Status) {
        for rates in self.rates.values_mut() {
            append(rates, 0);
        }
        for worker in &status.workers {
            let rates = self.rates.entry(worker.name.clone()).or_insert_with(|| [0].into());
            if let Some(rate) = rates.back_mut() {
                *rate = worker.bytes_per_s;
            }
        }
        // Names come from peers: those of the past are not kept for ever.
        let here: BTreeSet<&str> = status.workers.iter().map(|worker| &*worker.name).collect();
        let has_room = self.rates.len() <= 2 * STATUS_ROWS_MAX;
        self.rates.retain(|name, rates| {
            here.contains(&**name) || has_room && rates.iter().any(|&rate| rate > 0)
        });
        let total = status.workers.iter().fold(0, |sum: u64, w| sum.saturating_add(w.bytes_per_s));
        append(&mut self.total, total);
    }

    /// Items per second of `job`, smoothed; of a job that is seen for the first time, since it was opened.
    fn speed(&self, now: Duration, status: &Status, job: &JobStatus) -> f64 {
        let last = self.last.as_ref().filter(|(_, old)| !is_restarted(old, status));
        let time = last.and_then(|(at, _)| now.checked_sub(*at));
        match time.zip(self.speeds.get(&job.id)) {
            Some((time, &(resolved, speed))) if !time.is_zero() => {
                let new = as_float(job.resolved.saturating_sub(resolved)) / time.as_secs_f64();
                speed + (new - speed) * NEW_SPEED_PERCENT / 100.0
            }
            Some((_, &(_, speed))) => speed,
            None => {
                let age = Duration::from_millis(job.age_ms.max(1));
                as_float(job.resolved) / age.as_secs_f64()
            }
        }
    }
}

fn append(rates: &mut VecDeque<u64>, rate: u64) {
    if rates.len() == RATES_MAX {
        rates.pop_front();
    }
    rates.push_back(rate);
}

#[expect(clippy::cast_precision_loss, reason = "a speed for people")]
fn as_float(count: u64) -> f64 {
    count as f64
}
