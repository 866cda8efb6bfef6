//! Requests of clients: jobs opened, filled, finished, cancelled.

use super::batch::{File, Load, Source};
use super::fault::Fault;
use super::job::{Job, Order};
use super::owner::Owner;
use super::plane::Plane;
use super::tally::ClientState;
use super::{Action, ClientId, Core, JobId, Waiter};
use ipc_proto::Algorithms;
use ipc_proto::limits::CLIENT_JOBS_MAX;
use ipc_proto::message::{
    ClientReply, ClientRequest, Failure, FileItem, FileSource, Items, RejectReason, Run,
    ServiceRefusal, ServiceReply,
};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

/// A client's wish for a job.
struct Wish {
    tag: u32,
    algorithms: Algorithms,
    cross_check: u32,
    strict_reads: bool,
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
            ClientRequest::Open { tag, algorithms, cross_check, strict_reads } => {
                self.open_job(now, client, &Wish { tag, algorithms, cross_check, strict_reads });
                Ok(())
            }
            ClientRequest::Items { job, first, items: Items::Files { source, files } } => {
                self.files(client, (job, first), &source, files, descriptors)
            }
            ClientRequest::Items { job, first, items: Items::Inline { lens, data } } => {
                let (items_len, bytes) = (lens.len(), data.len() as u64);
                let admitted = self.admit(client, job, first, items_len, bytes)?;
                admitted.push_inline(now, Load::Inline { first, lens, data });
                self.enqueue(job);
                Ok(())
            }
            ClientRequest::Piece { job, index, piece } => {
                let admitted = self.admit(client, job, index, 1, piece.len() as u64)?;
                admitted.push_inline(now, Load::Piece { index, piece });
                self.enqueue(job);
                Ok(())
            }
            ClientRequest::Finish { job } => {
                self.job_of(client, job)?.finished = true;
                self.close_if_done(job);
                Ok(())
            }
            ClientRequest::Cancel { job } => {
                // It may cross the job's own end; then there is nothing left to cancel or to say.
                if self.job_of(client, job).is_err() {
                    return Ok(());
                }
                let unresolved = self.drop_job(job);
                self.counters.jobs_cancelled += 1;
                self.tally.results[ClientState::Cancelled as usize] += unresolved;
                self.actions
                    .push(Action::ToClient(client, ClientReply::Cancelled { job, unresolved }));
                Ok(())
            }
            ClientRequest::Status => {
                let status = self.status_for(client, now, usize::MAX);
                self.actions.push(Action::ToClient(client, ClientReply::Status(Box::new(status))));
                Ok(())
            }
            ClientRequest::Release { worker } => {
                self.release(client, &worker);
                Ok(())
            }
            ClientRequest::Service { tag, .. } => {
                let reply = ServiceReply::Refused {
                    reason: ServiceRefusal::NoJournal,
                    text: "this controller keeps no journal; see its --state-dir".to_owned(),
                };
                self.actions.push(Action::ToClient(client, ClientReply::Service { tag, reply }));
                Ok(())
            }
            ClientRequest::WaitReady { workers, timeout_ms } => {
                let workers = usize::try_from(workers).unwrap_or(usize::MAX);
                let deadline = now + Duration::from_millis(timeout_ms.into());
                let waiter = Waiter { workers, deadline };
                match waiter.answer(self.fleet.ready_len(), now) {
                    Some(reply) => self.actions.push(Action::ToClient(client, reply)),
                    None => _ = self.waiters.insert(client, waiter),
                }
                Ok(())
            }
        }
    }

    pub(super) fn client_left(&mut self, client: ClientId) {
        self.waiters.remove(&client);
        let Some(client) = self.clients.remove(&client) else { return };
        for job in client.jobs {
            let unresolved = self.drop_job(job);
            self.counters.jobs_cancelled += 1;
            self.tally.results[ClientState::Left as usize] += unresolved;
        }
    }

    fn open_job(&mut self, now: Duration, client: ClientId, wish: &Wish) {
        let Wish { tag, algorithms, cross_check, strict_reads } = *wish;
        let Some(known) = self.clients.get_mut(&client) else { return };
        if !known.rights.submit {
            let reply = ClientReply::Rejected {
                tag,
                reason: RejectReason::Forbidden,
                text: "this client may not open jobs; see the controller's --policy".to_owned(),
            };
            self.actions.push(Action::ToClient(client, reply));
            return;
        }
        let (principal, quota, pid) = (known.principal, known.rights.quota, known.pid);
        if known.jobs.len() >= CLIENT_JOBS_MAX || self.job_shares.room(principal, quota.jobs) == 0 {
            let text = format!(
                "too many open jobs: at most {CLIENT_JOBS_MAX} per connection and now {} of {principal}",
                self.job_shares.limit(principal, quota.jobs)
            );
            let reply = ClientReply::Rejected { tag, reason: RejectReason::TooManyJobs, text };
            self.actions.push(Action::ToClient(client, reply));
            return;
        }
        let id = JobId { epoch: self.epoch, number: self.next_job };
        self.next_job += 1;
        known.jobs.insert(id);
        self.job_shares.take(principal, 1);
        let window = self.ledger.open(id, principal, quota);
        let order = Order {
            id,
            owner: Owner::Attached(client),
            principal,
            pid,
            algorithms,
            cross_check,
            strict_reads,
            opened: now,
        };
        self.jobs.insert(id, Job::new(order, window));
        self.counters.jobs += 1;
        let workers = u32::try_from(self.fleet.ready_len()).unwrap_or(u32::MAX);
        let reply = ClientReply::Opened { tag, job: id, window, workers };
        self.actions.push(Action::ToClient(client, reply));
    }

    fn files(
        &mut self,
        client: ClientId,
        (id, first): (JobId, u64),
        source: &FileSource,
        files: Vec<FileItem>,
        descriptors: Vec<F>,
    ) -> Result<(), Fault> {
        let items = (first..).zip(files);
        let queued = self.now;
        let file = |((index, item), source)| File { index, item, source, queued };
        match source {
            FileSource::Descriptors => {
                let job = self.admit(client, id, first, descriptors.len(), 0)?;
                let sources = descriptors.into_iter().map(Source::Descriptor);
                job.push_files(Plane::Descriptors, items.zip(sources).map(file), 0);
            }
            FileSource::Dataset { name, paths } => {
                let rights = self.clients.get(&client).map(|client| &client.rights.datasets);
                let is_granted = rights.is_some_and(|datasets| datasets.includes(name));
                let Some(dataset) = self.datasets.find(name).filter(|_| is_granted) else {
                    self.admit(client, id, first, paths.len(), 0)?;
                    let len = u32::try_from(paths.len()).expect("a frame's files are counted");
                    self.turn_down(id, Run { first, len }, Failure::UnknownDataset);
                    return Ok(());
                };
                let paths_len = paths.iter().map(|path| path.len() as u64).sum();
                let job = self.admit(client, id, first, paths.len(), paths_len)?;
                let sources = paths.iter().map(|path| Source::Name(dataset, Rc::from(&**path)));
                job.push_files(Plane::Dataset(dataset), items.zip(sources).map(file), paths_len);
            }
        }
        self.enqueue(id);
        Ok(())
    }

    fn job_of(&mut self, client: ClientId, id: JobId) -> Result<&mut Job<F>, Fault> {
        let job = self.jobs.get_mut(&id).filter(|job| job.order.owner == Owner::Attached(client));
        job.ok_or(Fault::UnknownJob(id))
    }

    /// Admits items that fit the job that they are for, which it returns: its next index, its end,
    /// its window.
    fn admit(
        &mut self,
        client: ClientId,
        id: JobId,
        first: u64,
        items_len: usize,
        inline_bytes: u64,
    ) -> Result<&mut Job<F>, Fault> {
        let job = self.job_of(client, id)?;
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
        let (window, principal) = (job.window, job.order.principal);
        let is_used = (job.unresolved() + items_len).saturating_mul(2) >= window.items.into()
            || (job.inline_bytes + inline_bytes).saturating_mul(2) >= window.bytes;
        self.unresolved += items_len;
        self.inline_bytes += inline_bytes;
        let quota = self.clients.get(&client).map(|client| client.rights.quota).filter(|_| is_used);
        let larger = quota.and_then(|quota| self.ledger.grow(principal, quota, window));
        self.open_windows(larger.map(|window| (id, window)));
        self.job_of(client, id)
    }

    /// Brings the fair queue in line with what waits of a job.
    pub(super) fn enqueue(&mut self, key: JobId) {
        let Some(job) = self.jobs.get(&key) else { return };
        for plane in job.planes() {
            if job.has_work(plane) {
                self.fair.enter(plane, job.order.principal, key);
            } else {
                self.fair.leave(plane, job.order.principal, key);
            }
        }
    }

    /// Closes the job if its last item is resolved.
    pub(super) fn close_if_done(&mut self, key: JobId) {
        let Some(job) = self.jobs.get(&key).filter(|job| job.is_done()) else { return };
        let owner = job.order.owner;
        let reply = ClientReply::Finished { job: key, items: job.received, failed: job.failed };
        self.drop_job(key);
        self.tell(owner, reply);
    }

    /// Forgets a job and takes back its leases; how many items it leaves unresolved.
    fn drop_job(&mut self, key: JobId) -> u64 {
        let Some(job) = self.jobs.remove(&key) else { return 0 };
        let principal = job.order.principal;
        job.planes().for_each(|plane| self.fair.leave(plane, principal, key));
        self.fair.close(principal, key);
        let Owner::Attached(client) = job.order.owner;
        if let Some(client) = self.clients.get_mut(&client) {
            client.jobs.remove(&key);
        }
        self.job_shares.give_back(principal, 1);
        if self.job_shares.held(principal) == 0 {
            self.fair.forget(principal);
        }
        let unresolved = job.unresolved();
        self.unresolved -= unresolved;
        self.inline_bytes -= job.inline_bytes;
        self.revoke_all(&job);
        let opened = self.ledger.close(key, principal, job.window);
        self.open_windows(opened);
        unresolved
    }

    fn revoke_all(&mut self, job: &Job<F>) {
        let mut by_worker: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for &id in &job.leases {
            if let Some(lease) = self.leases.remove(&id) {
                self.fleet.release(lease.worker, id);
                by_worker.entry(lease.worker).or_default().push(id);
            }
        }
        for (worker, leases) in by_worker {
            self.revoke(worker, leases);
        }
    }
}
