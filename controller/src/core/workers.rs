//! What workers answer, and what becomes of leases whose worker is lost, late or lying.

use super::answer::Answer;
use super::batch::{AfterLoss, Batch, Load};
use super::dispatch::lease_time;
use super::fault::Fault;
use super::midway::Point;
use super::{Action, Core, JobId, Lease, WorkerId};
use ipc_proto::message::{
    ClientReply, Failure, Failures, LeaseId, Run, WorkerReply, WorkerRequest,
};
use ipc_proto::{Algorithms, Blob};
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
            WorkerReply::Done { lease, attempt, credit, busy_us, outputs, failures } => {
                self.done(worker, lease, attempt, (outputs, failures, busy_us))?;
                self.credit(worker, credit)
            }
            WorkerReply::Progress { lease, attempt, file, offset, state } => {
                self.progress(now, worker, (lease, attempt), Point { file, offset, state })
            }
        }
    }

    fn credit(&mut self, worker: WorkerId, batches: u16) -> Result<(), Fault> {
        self.fleet.credit(worker, batches).then_some(()).ok_or(Fault::CreditExceeded)
    }

    fn done(
        &mut self,
        worker: WorkerId,
        id: LeaseId,
        attempt: u32,
        (outputs, failures, busy_us): (Blob, Failures, u64),
    ) -> Result<(), Fault> {
        let Some(lease) = self.held(worker, id, attempt)? else {
            self.counters.answers_fenced += 1;
            return Ok(());
        };
        let Some(job) = self.jobs.get(&lease.job) else { unreachable!("a lease's job is open") };
        let items_len = lease.batch.items_len();
        let answer = Answer { items_len, outputs, failures, busy_us };
        if !fits(&lease.batch, job.order.algorithms, &answer) {
            self.quarantine(worker, Fault::WrongAnswer(id));
            return Ok(());
        }
        let lease = self.take_lease(id).expect("it was just there");
        if lease.batch.midway.started() > 0 && answer.failures == [(0, Failure::Invalid)] {
            self.start_over(lease);
            return Ok(());
        }
        let (cost, bytes) = (lease.batch.cost(), lease.batch.bytes_done(&answer.failures));
        self.fleet.measure(worker, cost, items_len as u64, bytes, answer.busy_us);
        self.counters.bytes = self.counters.bytes.saturating_add(bytes);
        let name = self.fleet.get(worker).map(|worker| Rc::clone(&worker.name));
        self.take_answer(lease.job, &name.expect("it holds a lease"), lease.batch, answer);
        Ok(())
    }

    /// The lease, if it is still the one that `worker` speaks of: it may have been revoked, or passed
    /// on, meanwhile.
    fn held(
        &self,
        worker: WorkerId,
        id: LeaseId,
        attempt: u32,
    ) -> Result<Option<&Lease<F>>, Fault> {
        match self.leases.get(&id) {
            None if id.epoch != self.epoch || id.number < self.next_lease => Ok(None),
            Some(lease) if lease.worker == worker => {
                Ok(Some(lease).filter(|lease| lease.batch.history.leased == attempt))
            }
            _ => Err(Fault::ForeignLease(id)),
        }
    }

    /// Notes how far a lease is, and gives it the time for what comes next.
    fn progress(
        &mut self,
        now: Duration,
        worker: WorkerId,
        (id, attempt): (LeaseId, u32),
        point: Point,
    ) -> Result<(), Fault> {
        let Some(lease) = self.held(worker, id, attempt)? else {
            self.counters.answers_fenced += 1;
            return Ok(());
        };
        let Some(job) = self.jobs.get(&lease.job) else { unreachable!("a lease's job is open") };
        let algorithms = job.order.algorithms;
        if !lease.batch.takes(algorithms, &point) {
            self.quarantine(worker, Fault::WrongAnswer(id));
            return Ok(());
        }
        let name = self.fleet.get(worker).map(|worker| Rc::clone(&worker.name));
        if let (Some(lease), Some(name)) = (self.leases.get_mut(&id), name) {
            let bytes = point.offset - lease.batch.midway.offset();
            lease.batch.midway.push(&name, point);
            lease.deadline = now + lease_time(&lease.batch, algorithms);
            self.fleet.advanced(worker, bytes);
            self.counters.bytes = self.counters.bytes.saturating_add(bytes);
        }
        Ok(())
    }

    /// Puts a batch back whose state the next worker did not take: that counts as lost on who told it.
    fn start_over(&mut self, mut lease: Lease<F>) {
        let teller = lease.batch.midway.teller().cloned();
        lease.batch.midway.forget();
        match teller {
            Some(teller) => self.lost(lease, &teller),
            None => self.requeue(lease),
        }
    }

    /// Passes the results of a batch on to its owner, unless they are only a part of one.
    pub(super) fn resolve(&mut self, key: JobId, batch: &Batch<F>, answer: Answer) {
        let Some(job) = self.jobs.get_mut(&key) else { return };
        if job.is_abandoned(batch) {
            return;
        }
        if let (Load::Part { file, number, .. }, true) = (&batch.load, answer.failures.is_empty()) {
            if let Some(merge) = job.part_done(file.index, *number, &answer.outputs) {
                job.push_retry(merge);
                self.enqueue(key);
            }
            return;
        }
        self.inline_bytes -= job.let_go(batch);
        self.enqueue(key);
        self.report(key, batch.runs(), answer);
    }

    /// Resolves items.
    fn report(&mut self, key: JobId, runs: Vec<Run>, answer: Answer) {
        let Some(job) = self.jobs.get_mut(&key) else { return };
        let items_len = runs.iter().map(|run| u64::from(run.len)).sum::<u64>();
        let failed = answer.failures.len() as u64;
        job.resolved += items_len;
        job.failed += failed;
        self.unresolved -= items_len;
        self.counters.items += items_len;
        self.counters.items_failed += failed;
        let Answer { outputs, failures, .. } = answer;
        let owner = job.order.owner;
        self.tell(owner, ClientReply::Results { job: key, runs, outputs, failures });
        self.close_if_done(key);
    }

    /// Resolves items that were just admitted, without looking at them.
    pub(super) fn turn_down(&mut self, key: JobId, run: Run, failure: Failure) {
        let Some(job) = self.jobs.get_mut(&key) else { return };
        job.received += u64::from(run.len);
        self.report(key, vec![run], Answer::failed(run.len as usize, failure));
    }

    pub(super) fn close_worker(&mut self, worker: WorkerId, fault: Fault) {
        self.worker_left(worker);
        self.counters.peers_faulty += 1;
        self.actions.push(Action::CloseWorker(worker, fault));
    }

    pub(super) fn worker_left(&mut self, worker: WorkerId) {
        let Some((name, leases, busy_len)) = self.fleet.leave(worker) else { return };
        self.quarantine.leave(&name);
        for (i, id) in leases.into_iter().enumerate() {
            // An item that fails here can end its job, and with it the job's other leases.
            let Some(lease) = self.take_lease(id) else { continue };
            self.fleet.count_lost(&name);
            self.counters.leases_lost += 1;
            if i < busy_len || lease.batch.midway.has_advanced() {
                self.lost(lease, &name);
            } else {
                self.requeue(lease);
            }
        }
    }

    pub(super) fn lease_overdue(&mut self, id: LeaseId) {
        let Some(lease) = self.take_lease(id) else { return };
        let worker = lease.worker;
        let name = self.fleet.get(worker).map(|worker| Rc::clone(&worker.name));
        let revoke = WorkerRequest::Revoke { leases: vec![id] };
        self.actions.push(Action::ToWorker(worker, revoke, Vec::new()));
        self.counters.leases_lost += 1;
        let Some(name) = name else { return self.requeue(lease) };
        self.fleet.count_lost(&name);
        self.lost(lease, &name);
        if self.fleet.overdue(worker) {
            self.quarantine(worker, Fault::Overdue);
        }
    }

    /// Gives what `worker` holds to others.
    pub(super) fn take_back(&mut self, worker: WorkerId) {
        let held: Vec<LeaseId> = self
            .leases
            .iter()
            .filter(|(_, lease)| lease.worker == worker)
            .map(|(&id, _)| id)
            .collect();
        for &id in &held {
            let lease = self.take_lease(id).expect("it was just listed");
            self.requeue(lease);
        }
        if !held.is_empty() {
            let request = WorkerRequest::Revoke { leases: held };
            self.actions.push(Action::ToWorker(worker, request, Vec::new()));
        }
    }

    /// Starts over, or from the point before, whatever was begun by the worker called `name`.
    pub(super) fn distrust(&mut self, name: &Rc<str>) {
        self.jobs.values_mut().for_each(|job| job.distrust(name));
        let mut begun = Vec::new();
        for (&id, lease) in &mut self.leases {
            if lease.batch.midway.distrust(name) {
                begun.push((lease.worker, id));
            }
        }
        for (worker, id) in begun {
            let lease = self.take_lease(id).expect("it was just listed");
            self.requeue(lease);
            let revoke = WorkerRequest::Revoke { leases: vec![id] };
            self.actions.push(Action::ToWorker(worker, revoke, Vec::new()));
        }
    }

    fn take_lease(&mut self, id: LeaseId) -> Option<Lease<F>> {
        let lease = self.leases.remove(&id)?;
        self.fleet.release(lease.worker, id);
        if let Some(job) = self.jobs.get_mut(&lease.job) {
            job.leases.remove(&id);
        }
        Some(lease)
    }

    /// Puts a batch back that nobody was busy with.
    fn requeue(&mut self, lease: Lease<F>) {
        if let Some(job) = self.jobs.get_mut(&lease.job) {
            job.push_retry(lease.batch);
            self.enqueue(lease.job);
        }
    }

    /// Puts a batch back that the worker called `name` was busy with when it was lost.
    fn lost(&mut self, lease: Lease<F>, name: &Rc<str>) {
        match lease.batch.after_loss(name) {
            AfterLoss::Retry(batches) => {
                if let Some(job) = self.jobs.get_mut(&lease.job) {
                    batches.into_iter().for_each(|batch| job.push_retry(batch));
                    self.enqueue(lease.job);
                }
            }
            AfterLoss::Fail(batch, attempts) => {
                self.fail(lease.job, &batch, Failure::WorkersLost { attempts });
            }
        }
    }

    /// Resolves every item of `batch` without a digest.
    pub(super) fn fail(&mut self, job: JobId, batch: &Batch<F>, failure: Failure) {
        let items_len = batch.items_len();
        self.resolve(job, batch, Answer::failed(items_len, failure));
    }
}

/// Whether an answer has one outcome for every item, and outputs of the right length.
fn fits<F: Clone>(batch: &Batch<F>, algorithms: Algorithms, answer: &Answer) -> bool {
    let items_len = batch.items_len();
    let position_fits = |&(position, failure): &(u32, Failure)| {
        usize::try_from(position).is_ok_and(|position| position < items_len)
            && !matches!(failure, Failure::WorkersLost { .. } | Failure::Disputed)
    };
    if answer.failures.len() > items_len || !answer.failures.iter().all(position_fits) {
        return false;
    }
    match items_len - answer.failures.len() {
        0 => answer.outputs.is_empty(),
        digests_len => {
            answer.outputs.len().is_multiple_of(digests_len)
                && batch.output_len(algorithms).contains(&(answer.outputs.len() / digests_len))
        }
    }
}
