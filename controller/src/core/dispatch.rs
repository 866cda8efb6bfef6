//! Who gets what next: while a worker is ready and a job has work, lease a batch.

use super::batch::Batch;
use super::job::Aim;
use super::limits::{BATCH_TIME, BATCH_TIME_MIN, JOBS_SKIPPED_MAX, LEASE_SPEED_MIN, LEASE_TIME};
use super::{Action, Core, JobKey, Lease, WorkerId};
use ipc_proto::message::{Failure, LeaseId, WorkerRequest};
use std::time::Duration;

impl<F: Clone> Core<F> {
    pub(super) fn dispatch(&mut self, now: Duration) {
        self.fail_the_impossible();
        while self.fleet.any_ready()
            && let Some((key, worker)) = self.next_pair()
        {
            self.lease(now, key, worker);
        }
    }

    /// The job to serve next, with the worker to serve it.
    fn next_pair(&self) -> Option<(JobKey, WorkerId)> {
        self.fair.iter().take(JOBS_SKIPPED_MAX).find_map(|key| {
            let job = self.jobs.get(&key)?;
            let history = job.peek_retry().map(|batch| &batch.history);
            Some((key, self.fleet.pick(job.order.algorithm, history)?))
        })
    }

    fn lease(&mut self, now: Duration, key: JobKey, worker: WorkerId) {
        let aim = self.aim(key, worker);
        let job = self.jobs.get_mut(&key).expect("the fair queue holds open jobs");
        let mut batch = job.take(aim).expect("the fair queue holds jobs with work");
        self.fair.charge(job.order.uid, key, job.order.weight, batch.cost());
        if !job.has_work() {
            self.fair.leave(job.order.uid, key);
        }
        let id = LeaseId(self.next_lease);
        self.next_lease += 1;
        job.leases.insert(id);
        batch.history.leased += 1;
        let algorithm = job.order.algorithm;
        let (work, descriptors) = batch.work();
        self.counters.leases += 1;
        self.fleet.assign(worker, id, batch.cost());
        let attempt = batch.history.leased;
        let request = WorkerRequest::Assign { lease: id, attempt, algorithm, work };
        self.actions.push(Action::ToWorker(worker, request, descriptors));
        let deadline = now + lease_time(&batch);
        self.leases.insert(id, Lease { job: key, worker, batch, deadline });
    }

    /// How large the next batch should be: some time of this worker's, and no more than leaves
    /// enough for the other threads.
    fn aim(&self, key: JobKey, worker: WorkerId) -> Aim {
        let threads = self.fleet.threads().max(1);
        let queued = self.jobs.get(&key).map_or(0, |job| job.queued_cost());
        let cost = self.fleet.get(worker).map_or(0, |worker| {
            let share = queued / (2 * threads);
            share.clamp(worker.cost_in(BATCH_TIME_MIN), worker.cost_in(BATCH_TIME))
        });
        Aim { cost, threads }
    }

    /// Fails what no connected worker can do: with workers there, waiting would be for ever.
    fn fail_the_impossible(&mut self) {
        if self.fleet.threads() == 0 || self.fleet.can_do_all() {
            return;
        }
        let stuck = |key: &JobKey| {
            self.jobs.get(key).is_some_and(|job| !self.fleet.can_do(job.order.algorithm))
        };
        let stuck: Vec<JobKey> = self.fair.iter().take(JOBS_SKIPPED_MAX).filter(stuck).collect();
        for key in stuck {
            let aim = Aim { cost: u64::MAX, threads: 1 };
            while let Some(batch) = self.jobs.get_mut(&key).and_then(|job| job.take(aim)) {
                self.fail(key, &batch, Failure::Unsupported);
            }
        }
    }
}

fn lease_time<F: Clone>(batch: &Batch<F>) -> Duration {
    LEASE_TIME + Duration::from_secs(batch.bytes() / LEASE_SPEED_MIN)
}
