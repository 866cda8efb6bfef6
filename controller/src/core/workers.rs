//! Messages of workers, and what becomes of leases whose worker is lost, overdue or quarantined.
//!
//! Not here: results (`results`).

use super::batch::{AfterLoss, Batch};
use super::checkpoints::ResumePoint;
use super::dispatch::{lease_time, time_for};
use super::fault::Fault;
use super::owner::Owner;
use super::plane::Plane;
use super::tally::{Hashed, PeerRole, Requeue};
use super::{Action, Core, JobId, Lease, WorkerId};
use ipc_proto::message::{ClientReply, Failure, LeaseId, LossCause, WorkerReply, WorkerRequest};
use std::rc::Rc;
use std::time::Duration;

impl<F: Clone> Core<F> {
    pub(super) fn worker_said(
        &mut self,
        now: Duration,
        worker: WorkerId,
        reply: WorkerReply,
    ) -> Result<(), Fault> {
        match reply {
            WorkerReply::Heartbeat => {
                self.actions.push(Action::ToWorker(worker, WorkerRequest::Heartbeat, Vec::new()));
                Ok(())
            }
            WorkerReply::Credit { batches } => self.credit(worker, batches),
            WorkerReply::Leaving { within_ms } => {
                self.leaving(worker, Duration::from_millis(within_ms.into()));
                Ok(())
            }
            WorkerReply::Done { lease, attempt, credit, busy_us, outputs, failures } => {
                self.accept(worker, (lease, attempt), (outputs, failures), busy_us)?;
                self.credit(worker, credit)
            }
            WorkerReply::Listed { lease, attempt, credit, outcome } => {
                self.accept_page(worker, (lease, attempt), outcome)?;
                self.credit(worker, credit)
            }
            WorkerReply::Progress { lease, attempt, file, offset, state } => {
                self.progress(now, worker, (lease, attempt), ResumePoint { file, offset, state })
            }
        }
    }

    fn credit(&mut self, worker: WorkerId, batches: u16) -> Result<(), Fault> {
        self.fleet.credit(worker, batches).then_some(()).ok_or(Fault::CreditExceeded)
    }

    /// Notes how far a lease is, and gives it the time that what it did may have taken: reports alone do
    /// not keep a lease.
    fn progress(
        &mut self,
        now: Duration,
        worker: WorkerId,
        (id, attempt): (LeaseId, u32),
        point: ResumePoint,
    ) -> Result<(), Fault> {
        let fits = |batch: &Batch<F>, algorithms| batch.takes(algorithms, &point);
        let Some(algorithms) = self.counts(worker, (id, attempt), fits)? else { return Ok(()) };
        let name = self.fleet.get(worker).map(|worker| Rc::clone(&worker.name));
        let mut advance = None;
        if let (Some(lease), Some(name)) = (self.leases.get_mut(&id), name) {
            let bytes = point.offset - lease.batch.checkpoints.offset();
            // A check of a result hashes nothing more.
            if lease.batch.votes.is_empty() {
                advance = lease.batch.indexes().first().map(|&index| (lease.job, index, bytes));
            }
            lease.batch.checkpoints.push(&name, point);
            lease.deadline =
                (lease.deadline + time_for(bytes)).min(now + lease_time(&lease.batch, algorithms));
            self.fleet.advanced(worker, bytes);
            let backends = self.fleet.backends_of(worker);
            self.tally.count_hashed(algorithms, &backends, Hashed { bytes, ..Hashed::default() });
            self.counters.bytes = self.counters.bytes.saturating_add(bytes);
        }
        if let Some((job, index, bytes)) = advance {
            self.tell_advance(job, index, bytes);
        }
        self.yield_to_others(worker, id);
        Ok(())
    }

    /// Tells the client of a job that more of an item is hashed. Jobs that wait for nobody have nobody to show it.
    pub(super) fn tell_advance(&mut self, key: JobId, index: u64, bytes: u64) {
        let owner = self.jobs.get(&key).map(|job| job.order.owner);
        if let Some(owner @ Owner::Attached(_)) = owner {
            self.tell(owner, ClientReply::Advanced { job: key, index, bytes });
        }
    }

    /// Takes a lease back that has just reached a checkpoint, if another user's work waits that would go
    /// before the rest of it, so that long files share threads with everybody; or if it is ahead of its job's rate.
    fn yield_to_others(&mut self, worker: WorkerId, id: LeaseId) {
        let Some(lease) = self.leases.get(&id) else { return };
        let Some(job) = self.jobs.get(&lease.job) else { return };
        let (principal, rest) = (job.order.principal, lease.batch.cost_ahead());
        let rest_len = lease.batch.bytes().saturating_sub(lease.batch.checkpoints.offset());
        let planes = self.fleet.planes_of(worker);
        let would_yield = |&plane: &Plane| self.fair.would_yield(plane, principal, rest);
        if job.pace.is_ahead(self.now, rest_len) || planes.iter().any(would_yield) {
            let key = lease.job;
            if let Some(job) = self.jobs.get_mut(&key) {
                job.pace.refund(rest_len);
            }
            self.fair.refund(principal, key, rest);
            self.pass_on(worker, vec![id]);
        }
    }

    /// Puts a batch back whose state the next worker did not take: that counts as lost on who told it.
    pub(super) fn start_over(&mut self, mut lease: Lease<F>) {
        let teller = lease.batch.checkpoints.teller().cloned();
        lease.batch.checkpoints.forget();
        match teller {
            Some(teller) => self.lost(lease, &teller, LossCause::BadCheckpoint),
            None => self.requeue(lease.job, [lease.batch]),
        }
    }

    pub(super) fn close_worker(&mut self, worker: WorkerId, fault: Fault) {
        let is_silent = fault == Fault::Silent;
        self.worker_left(worker, if is_silent { LossCause::Silent } else { LossCause::Violation });
        self.counters.peers_faulty += 1;
        self.tally.count_bad_frame(PeerRole::Worker, fault.into());
        self.actions.push(Action::CloseWorker(worker, fault));
    }

    pub(super) fn worker_left(&mut self, worker: WorkerId, cause: LossCause) {
        let Some((name, leases, busy_len)) = self.fleet.leave(worker) else { return };
        self.quarantine.leave(&name);
        self.drained_worker_left(&name);
        for (i, id) in leases.into_iter().enumerate() {
            // An item that fails here can end its job, and with it the job's other leases.
            let Some(lease) = self.take_lease(id) else { continue };
            self.fleet.count_lost(&name);
            self.counters.leases_lost += 1;
            self.tally.requeues[Requeue::Disconnected as usize] += 1;
            if i < busy_len || lease.batch.checkpoints.has_advanced() {
                self.lost(lease, &name, cause);
            } else {
                self.requeue(lease.job, [lease.batch]);
            }
        }
    }

    pub(super) fn lease_overdue(&mut self, id: LeaseId) {
        let Some(mut lease) = self.take_lease(id) else { return };
        lease.batch.expire();
        let worker = lease.worker;
        let name = self.fleet.get(worker).map(|worker| Rc::clone(&worker.name));
        self.revoke(worker, vec![id]);
        self.counters.leases_lost += 1;
        self.tally.requeues[Requeue::Expired as usize] += 1;
        let Some(name) = name else { return self.requeue(lease.job, [lease.batch]) };
        self.fleet.count_lost(&name);
        self.lost(lease, &name, LossCause::Expired);
        if self.fleet.overdue(worker) {
            self.quarantine(worker, Fault::Overdue);
        }
    }

    /// Gives what `worker` holds to others.
    pub(super) fn take_back(&mut self, worker: WorkerId) {
        self.pass_on(worker, self.fleet.leases_of(worker));
    }

    /// Gives leases of `worker` to others, and counts them as no loss.
    pub(super) fn pass_on(&mut self, worker: WorkerId, leases: Vec<LeaseId>) {
        for &id in &leases {
            let lease = self.take_lease(id).expect("it was just listed");
            self.tally.requeues[Requeue::Revoked as usize] += 1;
            self.requeue(lease.job, [lease.batch]);
        }
        if !leases.is_empty() {
            self.revoke(worker, leases);
        }
    }

    /// Starts over, or from the point before, whatever was begun by the worker called `name`.
    pub(super) fn distrust(&mut self, name: &Rc<str>) {
        self.jobs.values_mut().for_each(|job| job.distrust(name));
        let mut begun = Vec::new();
        for (&id, lease) in &mut self.leases {
            if lease.batch.checkpoints.distrust(name) {
                begun.push((lease.worker, id));
            }
        }
        for (worker, id) in begun {
            let lease = self.take_lease(id).expect("it was just listed");
            self.tally.requeues[Requeue::Revoked as usize] += 1;
            self.requeue(lease.job, [lease.batch]);
            self.revoke(worker, vec![id]);
        }
    }

    pub(super) fn revoke(&mut self, worker: WorkerId, leases: Vec<LeaseId>) {
        let request = WorkerRequest::Revoke { leases };
        self.actions.push(Action::ToWorker(worker, request, Vec::new()));
    }

    pub(super) fn take_lease(&mut self, id: LeaseId) -> Option<Lease<F>> {
        let lease = self.leases.remove(&id)?;
        self.fleet.release(lease.worker, id);
        if let Some(job) = self.jobs.get_mut(&lease.job) {
            job.leases.remove(&id);
        }
        Some(lease)
    }

    /// Queues batches of a job that are to be leased again.
    pub(super) fn requeue(&mut self, key: JobId, batches: impl IntoIterator<Item = Batch<F>>) {
        if let Some(job) = self.jobs.get_mut(&key) {
            for mut batch in batches {
                batch.history.queued = self.now;
                job.push_retry(batch);
            }
            self.enqueue(key);
        }
    }

    /// Puts a batch back that the worker called `name` was busy with when it was lost.
    fn lost(&mut self, lease: Lease<F>, name: &Rc<str>, cause: LossCause) {
        match lease.batch.after_loss(name, cause) {
            AfterLoss::Retry(batches) => self.requeue(lease.job, batches),
            AfterLoss::Fail(batch) => self.die(lease.job, &batch),
        }
    }

    /// Fails the only item of a batch that was lost too often, with the reasons before its result.
    fn die(&mut self, key: JobId, batch: &Batch<F>) {
        let Some(job) = self.jobs.get(&key).filter(|job| !job.is_abandoned(batch)) else { return };
        let losses = batch.history.losses();
        let attempts = u32::try_from(losses.len()).unwrap_or(u32::MAX);
        let index = batch.indexes().first().copied().unwrap_or_default();
        self.tell(job.order.owner, ClientReply::Death { job: key, index, losses });
        self.fail(key, batch, Failure::WorkersLost { attempts });
    }
}
