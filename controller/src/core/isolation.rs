//! Isolation: what two workers were lost over is given to a third one alone, so that nothing else is lost with it.
//!
//! One worker at a time is *reserved*: it gets no more work, and the batch once it is idle. Until that is answered or
//! lost the worker has nothing else.
//!
//! Invariants: exactly the jobs with such a batch on a plane are in `suspects`; a worker holds such a batch alone.

use super::dispatch::Pair;
use super::fleet::skills;
use super::limits::JOBS_SKIPPED_MAX;
use super::plane::Plane;
use super::{Core, JobId};
use ipc_proto::message::Failure;
use std::collections::BTreeSet;
use std::time::Duration;

impl<F: Clone> Core<F> {
    /// Notes on which planes a job has batches that are to be alone.
    pub(super) fn note_suspects(&mut self, key: JobId) {
        let Some(job) = self.jobs.get(&key) else { return };
        for plane in job.planes() {
            if job.peek_suspect(plane).is_some() {
                self.suspects.insert((plane, key));
            } else {
                self.suspects.remove(&(plane, key));
            }
        }
    }

    /// Leases batches that are to be alone to idle workers, and reserves a worker for the next one.
    pub(super) fn isolate(&mut self, now: Duration) {
        self.fail_impossible_suspects();
        while let Some(pair) = self.next_suspect() {
            self.fleet.reserve(Some(pair.worker));
            if !self.fleet.is_free(pair.worker) {
                return;
            }
            self.lease_alone(now, pair);
        }
        self.fleet.reserve(None);
    }

    fn next_suspect(&self) -> Option<Pair> {
        self.suspects.iter().take(JOBS_SKIPPED_MAX).find_map(|&(plane, key)| {
            let job = self.jobs.get(&key)?;
            let batch = job.peek_suspect(plane)?;
            let worker = self.fleet.pick_alone(plane, job.order.algorithms, batch)?;
            Some(Pair { job: key, plane, worker })
        })
    }

    /// Fails what no connected worker can do, like [`Core::fail_the_impossible`].
    fn fail_impossible_suspects(&mut self) {
        let failure_of = |&(plane, key): &(Plane, JobId)| {
            if matches!(plane, Plane::Dataset(id) if self.datasets.is_removed(id)) {
                return Some((plane, key, Failure::UnknownDataset));
            }
            let job = self.jobs.get(&key)?;
            let is_stuck = !self.fleet.is_idle()
                && !self.fleet.is_possible(plane, skills(&*job.order.algorithms));
            is_stuck.then_some((plane, key, Failure::Unsupported))
        };
        let stuck: Vec<_> =
            self.suspects.iter().take(JOBS_SKIPPED_MAX).filter_map(failure_of).collect();
        for (plane, key, failure) in stuck {
            while let Some(batch) = self.jobs.get_mut(&key).and_then(|job| job.take_suspect(plane))
            {
                self.fail(key, &batch, failure);
            }
            self.suspects.remove(&(plane, key));
        }
    }

    /// Asserts that the suspects are known.
    pub(super) fn check_suspects(&self) {
        let has = self.jobs.iter().flat_map(|(&key, job)| {
            let planes = job.planes().filter(|&plane| job.peek_suspect(plane).is_some());
            planes.map(move |plane| (plane, key))
        });
        let has: BTreeSet<_> = has.collect();
        assert_eq!(self.suspects, has, "exactly the jobs with a suspect are known");
    }

    fn lease_alone(&mut self, now: Duration, pair: Pair) {
        let Some(job) = self.jobs.get_mut(&pair.job) else { return };
        let Some(batch) = job.take_suspect(pair.plane) else { return };
        self.lease_batch(now, pair, batch, true);
        self.note_suspects(pair.job);
    }
}
