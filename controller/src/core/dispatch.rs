//! Dispatch: while a worker is ready and a job has work, lease a batch.
//!
//! A worker whose threads all have long leases takes a short one of another job besides: nobody waits for files
//! that take hours. When no worker is ready, and only long files without subtrees wait, they are interleaved
//! with those that threads have. Anything else that waits keeps them from it: a thread that always
//! has another one would never be free. Batches that are to be alone come last, and have a worker reserved (`isolation`).

use super::batch::{Batch, Load};
use super::fleet::{ALL_SKILLS, skills};
use super::job::Order;
use super::limits::{
    BATCH_TIME, BATCH_TIME_MIN, JOBS_SKIPPED_MAX, LEASE_SPEED_MIN, LEASE_TIME, LIST_TIME,
};
use super::plane::Plane;
use super::queue::Aim;
use super::{Action, Core, JobId, Lease, WorkerId};
use ipc_proto::Algorithms;
use ipc_proto::limits::LONG_LEN;
use ipc_proto::message::{Failure, LeaseId, WorkerRequest};
use std::time::Duration;

/// A ready worker, and the work that it gets next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pair {
    pub(super) job: JobId,
    pub(super) plane: Plane,
    pub(super) worker: WorkerId,
}

impl<F: Clone> Core<F> {
    pub(super) fn dispatch(&mut self, now: Duration) {
        self.fail_the_impossible();
        loop {
            let pair = self.next_pair().or_else(|| self.next_interleaved());
            match pair.map(|pair| (pair, false)).or_else(|| Some((self.next_spare()?, true))) {
                Some((pair, is_spare)) => self.lease(now, pair, is_spare),
                None => break,
            }
        }
        self.isolate(now);
    }

    /// The job to serve next, with the plane and the worker to serve it. Of every plane on which a
    /// worker is ready the first job counts, and of those the one that stands first.
    fn next_pair(&self) -> Option<Pair> {
        if !self.fleet.any_ready() {
            return None;
        }
        let first_of = |plane| {
            self.fair.iter(plane).take(JOBS_SKIPPED_MAX).find_map(|place| {
                let job = self.jobs.get(&place.1.1)?;
                let worker = self.fleet.pick(plane, job.order.algorithms, job.peek_again(plane))?;
                Some(((place, job.rank(plane)), Pair { job: job.order.id, plane, worker }))
            })
        };
        let firsts = self.fleet.ready_planes().filter_map(first_of);
        firsts.min_by_key(|(place, _)| *place).map(|(_, pair)| pair)
    }

    /// The job whose next file is interleaved with another one, if that is all there is to do.
    fn next_interleaved(&self) -> Option<Pair> {
        if !self.fleet.has_interleave_room() {
            return None;
        }
        let mut first = None;
        // What no worker has waits in nobody's way.
        for plane in self.fair.planes().filter(|plane| self.fleet.threads(*plane) > 0) {
            for place in self.fair.iter(plane).take(JOBS_SKIPPED_MAX) {
                let job = self.jobs.get(&place.1.1)?;
                let family = job.next_interleaves(plane)?;
                if let Some(worker) =
                    self.fleet.pick_to_interleave((plane, family), job.order.algorithms)
                {
                    let pair = Pair { job: job.order.id, plane, worker };
                    first =
                        first.into_iter().chain([(place, pair)]).min_by_key(|(place, _)| *place);
                }
            }
        }
        first.map(|(_, pair)| pair)
    }

    /// A job with a short batch, and a worker whose threads all have long ones, not all of that job.
    fn next_spare(&self) -> Option<Pair> {
        if !self.fleet.any_spare() {
            return None;
        }
        let first_of = |plane| {
            self.fair.iter(plane).take(JOBS_SKIPPED_MAX).find_map(|place| {
                let job = self.jobs.get(&place.1.1).filter(|job| job.has_short_work(plane))?;
                let is_other = |id| self.leases.get(&id).is_some_and(|l| l.job != job.order.id);
                let mut spare = self.fleet.spare(plane, job.order.algorithms);
                let worker = spare
                    .find_map(|(worker, mut leases)| leases.any(is_other).then_some(worker))?;
                Some((place, Pair { job: job.order.id, plane, worker }))
            })
        };
        let firsts = self.fair.planes().filter_map(first_of);
        firsts.min_by_key(|(place, _)| *place).map(|(_, pair)| pair)
    }

    fn lease(&mut self, now: Duration, pair: Pair, is_spare: bool) {
        let aim = self.aim(pair);
        let Pair { job: key, plane, worker } = pair;
        let job = self.jobs.get_mut(&key).expect("the fair queue holds open jobs");
        let batch = if is_spare {
            job.take_short(plane, Aim { cost: aim.cost.min(LONG_LEN / 2), ..aim })
        } else {
            let check =
                self.fleet.get(worker).and_then(|worker| job.take_check(plane, &worker.name));
            check.or_else(|| job.take(plane, aim))
        };
        let batch = batch.expect("the fair queue holds jobs with work");
        self.lease_batch(now, pair, batch, false);
    }

    /// Leases a batch that was taken from its queue; with `is_alone` its worker has nothing else.
    pub(super) fn lease_batch(
        &mut self,
        now: Duration,
        Pair { job: key, plane, worker }: Pair,
        mut batch: Batch<F>,
        is_alone: bool,
    ) {
        let Some(job) = self.jobs.get_mut(&key) else { return };
        batch.checkpoints.start();
        self.fair.charge(job.order.principal, key, batch.cost());
        job.pace.charge(now, batch.bytes().saturating_sub(batch.checkpoints.started()));
        if job.pace.is_held(now) {
            job.planes().for_each(|plane| self.fair.leave(plane, job.order.principal, key));
            self.held.insert(key);
        } else if !job.has_work(plane) {
            self.fair.leave(plane, job.order.principal, key);
        }
        let id = LeaseId { epoch: self.epoch, number: self.next_lease };
        self.next_lease += 1;
        job.leases.insert(id);
        batch.history.leased += 1;
        let Order { algorithms, strict_reads, .. } = job.order;
        let (work, descriptors) = batch.work(&self.datasets);
        self.counters.leases += 1;
        self.timings.waits.push(now.saturating_sub(batch.queued()));
        if batch.history.was_lost() {
            self.tally.retries += batch.items_len() as u64;
        }
        let interleaves = batch.interleaves(algorithms);
        self.fleet.assign(worker, id, batch.cost(), interleaves, batch.is_long());
        if is_alone {
            self.fleet.set_alone(worker, id);
        }
        let attempt = batch.history.leased;
        let check = !batch.votes.is_empty();
        let request =
            WorkerRequest::Assign { lease: id, attempt, algorithms, work, check, strict_reads };
        self.actions.push(Action::ToWorker(worker, request, descriptors));
        let deadline = now + lease_time(&batch, algorithms);
        let before =
            self.leases.insert(id, Lease { job: key, worker, batch, leased: now, deadline });
        debug_assert!(before.is_none(), "lease {id} is never reused");
    }

    /// Size of the next batch: some time of this worker's, and no more than leaves enough for the
    /// other threads.
    fn aim(&self, Pair { job, plane, worker }: Pair) -> Aim {
        let threads = self.fleet.threads(plane).max(1);
        let job = self.jobs.get(&job);
        let queued = job.map_or(0, |job| job.queued_cost(plane));
        let cost_max = job.map_or(u64::MAX, |job| job.pace.cost_max());
        let cost = self.fleet.get(worker).map_or(0, |worker| {
            let share = queued / (2 * threads);
            share.clamp(worker.cost_in(BATCH_TIME_MIN), worker.cost_in(BATCH_TIME))
        });
        Aim { cost: cost.min(cost_max), threads }
    }

    /// Lets jobs go on whose rate allows it again.
    pub(super) fn release_held(&mut self, now: Duration) {
        let is_free = |key: &JobId| self.jobs.get(key).is_none_or(|job| !job.pace.is_held(now));
        let free: Vec<JobId> = self.held.extract_if(.., is_free).collect();
        free.into_iter().for_each(|key| self.enqueue(key));
    }

    /// Fails what no connected worker can do, as with workers there, waiting would be for ever; and files
    /// that are named in a removed dataset.
    fn fail_the_impossible(&mut self) {
        let mut stuck: Vec<(Plane, JobId, Failure)> = Vec::new();
        for plane in self.fair.planes() {
            let jobs = self.fair.iter(plane).take(JOBS_SKIPPED_MAX).map(|(_, (_, key))| key);
            if matches!(plane, Plane::Dataset(id) if self.datasets.is_removed(id)) {
                stuck.extend(jobs.map(|key| (plane, key, Failure::UnknownDataset)));
                continue;
            }
            if self.fleet.is_idle() || self.fleet.is_possible(plane, ALL_SKILLS) {
                continue;
            }
            let is_stuck = |key: &JobId| {
                let needed = self.jobs.get(key).map(|job| skills(&*job.order.algorithms));
                needed.is_some_and(|needed| !self.fleet.is_possible(plane, needed))
            };
            let stuck_here = jobs.filter(is_stuck).map(|key| (plane, key, Failure::Unsupported));
            stuck.extend(stuck_here);
        }
        for (plane, key, failure) in stuck {
            let aim = Aim { cost: u64::MAX, threads: 1 };
            while let Some(batch) = self.jobs.get_mut(&key).and_then(|job| job.take(plane, aim)) {
                self.fail(key, &batch, failure);
            }
        }
    }
}

/// Duration of a lease from its start, or from its last checkpoint.
pub(super) fn lease_time<F: Clone>(batch: &Batch<F>, algorithms: Algorithms) -> Duration {
    if matches!(batch.load, Load::List { .. }) {
        return LIST_TIME;
    }
    LEASE_TIME + time_for(batch.bytes_ahead(algorithms))
}

/// Longest time that a worker may take for `bytes`.
pub(super) fn time_for(bytes: u64) -> Duration {
    Duration::from_millis(bytes / (LEASE_SPEED_MIN / 1000))
}
