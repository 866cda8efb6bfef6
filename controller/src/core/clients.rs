//! What clients ask for: jobs opened, filled, finished, cancelled.

use super::batch::{File, Load, Source};
use super::fault::Fault;
use super::job::{Job, Order};
use super::{Action, ClientId, Core, JobKey, Waiter};
use ipc_proto::Algorithm;
use ipc_proto::limits::CLIENT_JOBS_MAX;
use ipc_proto::message::{
    ClientReply, ClientRequest, Failure, JobId, Named, RejectReason, Run, WorkerRequest,
};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

/// What a client wants of a job.
struct Wish {
    algorithm: Algorithm,
    weight: u8,
    cross_check: u32,
}

impl<F: Clone> Core<F> {
    pub(super) fn client_said(
        &mut self,
        now: Duration,
        client: ClientId,
        request: ClientRequest,
        descriptors: Vec<F>,
    ) -> Result<(), Fault> {
        match request {
            ClientRequest::Open { job, algorithm, weight, cross_check } => {
                self.open_job(now, client, job, &Wish { algorithm, weight, cross_check })
            }
            ClientRequest::Files { job, first, files } => {
                let key = self.admit(client, job, first, files.len(), 0)?;
                let job = self.jobs.get_mut(&key).expect("admitted to an open job");
                for ((stamp, descriptor), index) in files.into_iter().zip(descriptors).zip(first..)
                {
                    let source = Source::Descriptor(descriptor);
                    job.push_file(File { index, stamp, source });
                }
                self.enqueue(key);
                Ok(())
            }
            ClientRequest::Names { job, first, dataset, files } => {
                self.named(client, job, first, &dataset, &files)
            }
            ClientRequest::Messages { job, first, lens, data } => {
                let key = self.admit(client, job, first, lens.len(), data.len() as u64)?;
                self.push_inline(key, Load::Messages { first, lens, data });
                Ok(())
            }
            ClientRequest::Piece { job, index, piece } => {
                let key = self.admit(client, job, index, 1, piece.len() as u64)?;
                self.push_inline(key, Load::Piece { index, piece });
                Ok(())
            }
            ClientRequest::Finish { job } => {
                let key = self.job_of(client, job)?;
                self.jobs.get_mut(&key).expect("a client's jobs are open").finished = true;
                self.close_if_done(key);
                Ok(())
            }
            ClientRequest::Cancel { job } => {
                // It may cross the job's own end; then there is nothing left to cancel or to say.
                let Ok(key) = self.job_of(client, job) else { return Ok(()) };
                let unresolved = self.drop_job(key);
                self.counters.jobs_cancelled += 1;
                self.actions
                    .push(Action::ToClient(client, ClientReply::Cancelled { job, unresolved }));
                Ok(())
            }
            ClientRequest::Status => {
                let status = self.status(now, usize::MAX);
                self.actions.push(Action::ToClient(client, ClientReply::Status(Box::new(status))));
                Ok(())
            }
            ClientRequest::Release { worker } => {
                self.release(client, &worker);
                Ok(())
            }
            ClientRequest::WaitReady { workers, timeout_ms } => {
                let workers = usize::try_from(workers).unwrap_or(usize::MAX);
                let deadline = now + Duration::from_millis(timeout_ms.into());
                self.waiters.insert(client, Waiter { workers, deadline });
                Ok(())
            }
        }
    }

    pub(super) fn client_left(&mut self, client: ClientId) {
        self.waiters.remove(&client);
        let Some(client) = self.clients.remove(&client) else { return };
        for key in client.jobs.into_values() {
            self.drop_job(key);
            self.counters.jobs_cancelled += 1;
        }
    }

    fn open_job(
        &mut self,
        now: Duration,
        client: ClientId,
        id: JobId,
        wish: &Wish,
    ) -> Result<(), Fault> {
        let jobs_max = usize::try_from(self.limits.jobs_max).unwrap_or(usize::MAX);
        let Some(known) = self.clients.get_mut(&client) else { return Err(Fault::UnknownJob(id)) };
        if known.jobs.contains_key(&id) {
            return Err(Fault::JobInUse(id));
        }
        if known.jobs.len() >= CLIENT_JOBS_MAX || self.jobs.len() >= jobs_max {
            let text = format!(
                "too many open jobs: at most {CLIENT_JOBS_MAX} a connection and {jobs_max} in all"
            );
            let reply = ClientReply::Rejected { job: id, reason: RejectReason::TooManyJobs, text };
            self.actions.push(Action::ToClient(client, reply));
            return Ok(());
        }
        let key = JobKey(self.next_job);
        self.next_job += 1;
        known.jobs.insert(id, key);
        let (uid, pid) = (known.uid, known.pid);
        *self.jobs_of_users.entry(uid).or_default() += 1;
        let window = self.ledger.open(key, uid);
        let Wish { algorithm, weight, cross_check } = *wish;
        let order =
            Order { key, client, id, uid, pid, algorithm, weight, cross_check, opened: now };
        self.jobs.insert(key, Job::new(order, window));
        self.counters.jobs += 1;
        let workers = u32::try_from(self.fleet.ready_len()).unwrap_or(u32::MAX);
        self.actions
            .push(Action::ToClient(client, ClientReply::Opened { job: id, window, workers }));
        Ok(())
    }

    fn named(
        &mut self,
        client: ClientId,
        id: JobId,
        first: u64,
        dataset: &str,
        files: &[Named],
    ) -> Result<(), Fault> {
        let Some(dataset) = self.datasets.find(dataset) else {
            let key = self.admit(client, id, first, files.len(), 0)?;
            let len = u32::try_from(files.len()).expect("a frame's names are counted");
            self.turn_down(key, Run { first, len }, Failure::UnknownDataset);
            return Ok(());
        };
        let paths_len = files.iter().map(|file| file.path.len() as u64).sum();
        let key = self.admit(client, id, first, files.len(), paths_len)?;
        let job = self.jobs.get_mut(&key).expect("admitted to an open job");
        for (file, index) in files.iter().zip(first..) {
            let source = Source::Name(dataset, Rc::from(&*file.path));
            job.push_file(File { index, stamp: file.stamp, source });
        }
        self.enqueue(key);
        Ok(())
    }

    fn job_of(&self, client: ClientId, id: JobId) -> Result<JobKey, Fault> {
        let known = self.clients.get(&client).and_then(|client| client.jobs.get(&id));
        known.copied().ok_or(Fault::UnknownJob(id))
    }

    /// Whether items fit the job that they are for: its next index, its end, its window.
    fn admit(
        &mut self,
        client: ClientId,
        id: JobId,
        first: u64,
        items_len: usize,
        inline_bytes: u64,
    ) -> Result<JobKey, Fault> {
        let key = self.job_of(client, id)?;
        let job = self.jobs.get(&key).expect("a client's jobs are open");
        if job.finished {
            return Err(Fault::ItemAfterFinish(id));
        }
        if first != job.received {
            return Err(Fault::WrongIndex { want: job.received, got: first });
        }
        let items_len = items_len as u64;
        if job.unresolved() + items_len > u64::from(job.window.items)
            || job.inline_bytes + inline_bytes > job.window.bytes
        {
            return Err(Fault::WindowExceeded(id));
        }
        self.unresolved += items_len;
        self.inline_bytes += inline_bytes;
        Ok(key)
    }

    fn push_inline(&mut self, key: JobKey, load: Load<F>) {
        self.jobs.get_mut(&key).expect("admitted to an open job").push_inline(load);
        self.enqueue(key);
    }

    /// Brings the fair queue in line with what waits of a job.
    pub(super) fn enqueue(&mut self, key: JobKey) {
        let Some(job) = self.jobs.get(&key) else { return };
        for plane in job.planes() {
            if job.has_work(plane) {
                self.fair.enter(plane, job.order.uid, key);
            } else {
                self.fair.leave(plane, job.order.uid, key);
            }
        }
    }

    /// Closes the job if its last item is resolved.
    pub(super) fn close_if_done(&mut self, key: JobKey) {
        let Some(job) = self.jobs.get(&key).filter(|job| job.is_done()) else { return };
        let client = job.order.client;
        let reply =
            ClientReply::Finished { job: job.order.id, items: job.received, failed: job.failed };
        self.drop_job(key);
        self.actions.push(Action::ToClient(client, reply));
    }

    /// Forgets a job and takes back its leases; how many items it leaves unresolved.
    fn drop_job(&mut self, key: JobKey) -> u64 {
        let Some(job) = self.jobs.remove(&key) else { return 0 };
        let uid = job.order.uid;
        job.planes().for_each(|plane| self.fair.leave(plane, uid, key));
        if let Some(client) = self.clients.get_mut(&job.order.client) {
            client.jobs.remove(&job.order.id);
        }
        if let Some(jobs) = self.jobs_of_users.get_mut(&uid) {
            *jobs -= 1;
            if *jobs == 0 {
                self.jobs_of_users.remove(&uid);
                self.fair.forget(uid);
            }
        }
        let unresolved = job.unresolved();
        self.unresolved -= unresolved;
        self.inline_bytes -= job.inline_bytes;
        self.revoke(&job);
        let opened = self.ledger.close(key, uid, job.window);
        self.open_windows(opened);
        unresolved
    }

    fn revoke(&mut self, job: &Job<F>) {
        let mut by_worker: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for &id in &job.leases {
            if let Some(lease) = self.leases.remove(&id) {
                self.fleet.release(lease.worker, id);
                by_worker.entry(lease.worker).or_default().push(id);
            }
        }
        for (worker, leases) in by_worker {
            let request = WorkerRequest::Revoke { leases };
            self.actions.push(Action::ToWorker(worker, request, Vec::new()));
        }
    }
}
