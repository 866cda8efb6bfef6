//! Requests of clients: jobs opened, filled, finished, cancelled.

use super::batch::{File, Load, Source};
use super::fault::Fault;
use super::job::{Job, Order};
use super::owner::{Opener, Owner};
use super::plane::Plane;
use super::tally::ClientState;
use super::{Action, ClientId, Core, JobId, Waiter};
use ipc_proto::limits::CLIENT_JOBS_MAX;
use ipc_proto::message::{
    ClientReply, ClientRequest, Failure, FileItem, FileSource, Items, RejectReason, Run,
    ServiceRefusal, ServiceReply,
};
use ipc_proto::{Algorithms, Blob};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

/// A client's options for a job.
#[derive(Clone, Copy, Debug)]
pub(super) struct OpenOptions {
    pub(super) tag: u32,
    pub(super) algorithms: Algorithms,
    pub(super) cross_check: u32,
    pub(super) strict_reads: bool,
    /// Bytes per second; 0 for no limit.
    pub(super) rate: u64,
    /// Of a durable job the id that it has there.
    pub(super) durable: Option<JobId>,
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
                self.open_attached(
                    now,
                    client,
                    &OpenOptions {
                        tag,
                        algorithms,
                        cross_check,
                        strict_reads,
                        rate: 0,
                        durable: None,
                    },
                );
                Ok(())
            }
            ClientRequest::Items { job, first, items: Items::Files { source, files } } => {
                self.files(Owner::Attached(client), (job, first), &source, files, descriptors)
            }
            ClientRequest::Items { job, first, items: Items::Inline { lens, data } } => {
                self.inline(Owner::Attached(client), (job, first), lens, data)
            }
            ClientRequest::Piece { job, index, piece } => {
                let owner = Owner::Attached(client);
                let admitted = self.admit(owner, job, index, 1, piece.len() as u64)?;
                admitted.push_inline(now, Load::Piece { index, piece });
                self.enqueue(job);
                Ok(())
            }
            ClientRequest::Finish { job } => self.finish(Owner::Attached(client), job),
            ClientRequest::Cancel { job } => {
                self.cancel(Owner::Attached(client), job);
                Ok(())
            }
            ClientRequest::Status => {
                let status = self.status_for(client, now, usize::MAX);
                self.actions.push(Action::ToClient(client, ClientReply::Status(Box::new(status))));
                Ok(())
            }
            ClientRequest::Drain { worker, deadline_ms, lasts } => {
                self.drain(client, &worker, Duration::from_millis(deadline_ms.into()), lasts);
                Ok(())
            }
            ClientRequest::Undrain { worker } => {
                self.undrain(client, &worker);
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
        self.drains.forget_client(client);
        let Some(client) = self.clients.remove(&client) else { return };
        for job in client.jobs {
            let unresolved = self.drop_job(job);
            self.counters.jobs_cancelled += 1;
            self.tally.results[ClientState::Left as usize] += unresolved;
        }
    }

    pub(super) fn finish(&mut self, owner: Owner, job: JobId) -> Result<(), Fault> {
        self.job_of(owner, job)?.finished = true;
        self.close_if_done(job);
        Ok(())
    }

    pub(super) fn cancel(&mut self, owner: Owner, job: JobId) {
        // It may cross the job's own end; then there is nothing left to cancel or to say.
        if self.job_of(owner, job).is_err() {
            return;
        }
        let unresolved = self.drop_job(job);
        self.counters.jobs_cancelled += 1;
        self.tally.results[ClientState::Cancelled as usize] += unresolved;
        self.tell(owner, ClientReply::Cancelled { job, unresolved });
    }

    fn open_attached(&mut self, now: Duration, client: ClientId, options: &OpenOptions) {
        let tag = options.tag;
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
        let is_full = known.jobs.len() >= CLIENT_JOBS_MAX;
        let opener = Opener { owner: Owner::Attached(client), principal, pid, quota };
        let opened = if is_full { None } else { self.open_job(now, &opener, options) };
        let Some(id) = opened else {
            let text = format!(
                "too many open jobs: at most {CLIENT_JOBS_MAX} per connection and now {} of {principal}",
                self.job_shares.limit(principal, quota.jobs)
            );
            let reply = ClientReply::Rejected { tag, reason: RejectReason::TooManyJobs, text };
            self.actions.push(Action::ToClient(client, reply));
            return;
        };
        if let Some(known) = self.clients.get_mut(&client) {
            known.jobs.insert(id);
        }
    }

    /// Opens a job and reports it to its owner; `None` if its principal has its most jobs.
    pub(super) fn open_job(
        &mut self,
        now: Duration,
        opener: &Opener,
        options: &OpenOptions,
    ) -> Option<JobId> {
        let OpenOptions { tag, algorithms, cross_check, strict_reads, rate, durable } = *options;
        let Opener { owner, principal, pid, quota } = *opener;
        if self.job_shares.room(principal, quota.jobs) == 0 {
            return None;
        }
        let id = JobId { epoch: self.epoch, number: self.next_job };
        self.next_job += 1;
        self.job_shares.take(principal, 1);
        let window = self.ledger.open(id, principal, quota);
        let order = Order {
            id,
            owner,
            principal,
            quota,
            pid,
            algorithms,
            cross_check,
            strict_reads,
            rate,
            durable,
            opened: now,
        };
        self.jobs.insert(id, Job::new(order, window));
        self.counters.jobs += 1;
        let workers = u32::try_from(self.fleet.ready_len()).unwrap_or(u32::MAX);
        self.tell(owner, ClientReply::Opened { tag, job: id, window, workers });
        Some(id)
    }

    pub(super) fn inline(
        &mut self,
        owner: Owner,
        (id, first): (JobId, u64),
        lens: Vec<u32>,
        data: Blob,
    ) -> Result<(), Fault> {
        let now = self.now;
        let job = self.admit(owner, id, first, lens.len(), data.len() as u64)?;
        job.push_inline(now, Load::Inline { first, lens, data });
        self.enqueue(id);
        Ok(())
    }

    pub(super) fn files(
        &mut self,
        owner: Owner,
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
                let job = self.admit(owner, id, first, descriptors.len(), 0)?;
                let sources = descriptors.into_iter().map(Source::Descriptor);
                job.push_files(Plane::Descriptors, items.zip(sources).map(file), 0);
            }
            FileSource::Dataset { name, paths } => {
                let is_granted = self.may_read(owner, name);
                let Some(dataset) = self.datasets.find(name).filter(|_| is_granted) else {
                    self.admit(owner, id, first, paths.len(), 0)?;
                    let len = u32::try_from(paths.len()).expect("a frame's files are counted");
                    self.turn_down(id, Run { first, len }, Failure::UnknownDataset);
                    return Ok(());
                };
                let paths_len = paths.iter().map(|path| path.len() as u64).sum();
                let job = self.admit(owner, id, first, paths.len(), paths_len)?;
                let sources = paths.iter().map(|path| Source::Name(dataset, Rc::from(&**path)));
                job.push_files(Plane::Dataset(dataset), items.zip(sources).map(file), paths_len);
            }
        }
        self.enqueue(id);
        Ok(())
    }

    /// True if an owner may name files in the dataset `name`.
    fn may_read(&self, owner: Owner, name: &str) -> bool {
        match owner {
            Owner::Attached(client) => {
                let rights = self.clients.get(&client).map(|client| &client.rights.datasets);
                rights.is_some_and(|datasets| datasets.includes(name))
            }
            // Its principal had the right when it submitted the job.
            Owner::Durable | Owner::List(_) => true,
        }
    }

    fn job_of(&mut self, owner: Owner, id: JobId) -> Result<&mut Job<F>, Fault> {
        let job = self.jobs.get_mut(&id).filter(|job| job.order.owner == owner);
        job.ok_or(Fault::UnknownJob(id))
    }

    /// Admits items that fit the job that they are for, which it returns: its next index, its end,
    /// its window.
    fn admit(
        &mut self,
        owner: Owner,
        id: JobId,
        first: u64,
        items_len: usize,
        inline_bytes: u64,
    ) -> Result<&mut Job<F>, Fault> {
        let job = self.job_of(owner, id)?;
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
        let (window, principal, quota) = (job.window, job.order.principal, job.order.quota);
        let is_used = (job.unresolved() + items_len).saturating_mul(2) >= window.items.into()
            || (job.inline_bytes + inline_bytes).saturating_mul(2) >= window.bytes;
        self.unresolved += items_len;
        self.inline_bytes += inline_bytes;
        let larger = if is_used { self.ledger.grow(principal, quota, window) } else { None };
        self.open_windows(larger.map(|window| (id, window)));
        self.job_of(owner, id)
    }

    /// Brings the fair queue in line with what waits of a job.
    pub(super) fn enqueue(&mut self, key: JobId) {
        let Some(job) = self.jobs.get(&key) else { return };
        let is_held = job.pace.is_held(self.now);
        if is_held {
            self.held.insert(key);
        }
        for plane in job.planes() {
            if job.has_work(plane) && !is_held {
                self.fair.enter(plane, job.order.principal, key);
            } else {
                self.fair.leave(plane, job.order.principal, key);
            }
        }
        self.note_suspects(key);
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
    pub(super) fn drop_job(&mut self, key: JobId) -> u64 {
        let Some(job) = self.jobs.remove(&key) else { return 0 };
        self.held.remove(&key);
        job.planes().for_each(|plane| _ = self.suspects.remove(&(plane, key)));
        let principal = job.order.principal;
        job.planes().for_each(|plane| self.fair.leave(plane, principal, key));
        self.fair.close(principal, key);
        self.revoke_all(&job);
        if let Owner::List(tag) = job.order.owner {
            // Charged to nobody: whoever asks counts them.
            self.lists.remove(&tag);
            return 0;
        }
        if let Owner::Attached(client) = job.order.owner
            && let Some(client) = self.clients.get_mut(&client)
        {
            client.jobs.remove(&key);
        }
        self.job_shares.give_back(principal, 1);
        let unresolved = job.unresolved();
        self.unresolved -= unresolved;
        self.inline_bytes -= job.inline_bytes;
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
