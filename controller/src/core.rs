//! State and decisions of the controller, without I/O: [`Core::step`] takes one event and returns
//! the actions that follow from it.
//!
//! Invariants, which the simulation checks on random histories:
//! - every item of a living job is resolved exactly once;
//! - an answer counts only for a lease that its sender holds at that moment;
//! - what is held is bounded by [`Limits`], whatever peers send;
//! - the same events at the same times give the same actions: no clock, no randomness, no
//!   iteration in an order that is not sorted.
//!
//! `F` is a file's descriptor, opaque here. Not here: sockets, timers, credentials (`driver`).

mod batch;
mod check;
mod checkpoints;
mod clients;
mod dispatch;
mod drains;
pub mod durable;
mod fair;
mod fault;
mod fleet;
mod invariants;
mod isolation;
mod job;
mod ledger;
pub mod limits;
mod lists;
mod owner;
mod pace;
mod plane;
mod quarantine;
mod queue;
mod results;
mod rights;
pub mod share;
mod split;
mod standing;
pub mod tally;
mod workers;

pub use durable::BookRequest;
pub use fault::Fault;
pub use limits::{Limits, Quota};
pub use lists::{ListTag, PageWanted};
pub use owner::{Principal, PrincipalName};
pub use rights::{DatasetRights, Rights};
pub use standing::{LastingDrain, Standing};

use check::Sampler;
use drains::Drains;
use fair::FairQueue;
use fleet::Fleet;
use ipc_proto::limits::STATUS_ROWS_MAX;
use ipc_proto::message::{
    ClientReply, ClientRequest, Counters, DrainOutcome, JobId, LeaseId, LimitStatus, ListOutcome,
    LossCause, RefuseReason, ReleaseOutcome, Status, Window, WorkerIntro, WorkerReply,
    WorkerRequest,
};
use job::Job;
use ledger::Ledger;
use plane::Datasets;
use plane::Plane;
use quarantine::Quarantine;
use share::Shares;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;
use tally::{BackendIndexes, Backlog, BadFrame, CoreCounts, NO_BACKENDS, PeerRole, Timings};

/// A client connection; never used again after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(pub u64);

/// A worker connection; never used again after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId(pub u64);

/// An input of the core.
#[derive(Debug)]
pub enum Event<F> {
    /// A client completed its handshake.
    ClientJoined {
        /// Its connection.
        client: ClientId,
        /// Its principal.
        principal: Principal,
        /// Its process.
        pid: u32,
        /// Its rights.
        rights: Rc<Rights>,
    },
    /// A client's connection ended.
    ClientLeft(ClientId),
    /// A client sent a message.
    ClientSaid(ClientId, ClientRequest, Vec<F>),
    /// A worker completed its handshake; its name is free.
    WorkerJoined(WorkerId, WorkerIntro),
    /// A worker's connection ended.
    WorkerLeft(WorkerId),
    /// A worker sent a message.
    WorkerSaid(WorkerId, WorkerReply),
    /// The book of durable jobs wants something.
    BookSaid(BookRequest),
    /// From now on files may be named in these datasets only.
    Datasets(Vec<String>),
    /// A page of a directory is wanted: [`Action::Listed`] follows, unless it is cancelled.
    List(PageWanted),
    /// A page is not wanted any more.
    Unlist(ListTag),
    /// Time passed; at least every [`Core::TICK`].
    Tick,
}

/// An output of the core, for the driver.
#[derive(Debug, PartialEq, Eq)]
pub enum Action<F> {
    /// Send a message.
    ToClient(ClientId, ClientReply),
    /// Give a message to the book of durable jobs.
    ToBook(ClientReply),
    /// Send a message with descriptors.
    ToWorker(WorkerId, WorkerRequest, Vec<F>),
    /// Close the connection; the core has forgotten it.
    CloseClient(ClientId, Fault),
    /// Close the connection; the core has forgotten it.
    CloseWorker(WorkerId, Fault),
    /// Answers an [`Event::List`]. The names are as a worker says; nothing proves that they are all.
    Listed(ListTag, ListOutcome),
    /// Tell the operator: the worker of this name, which may have left, is given no more work.
    Quarantined(String, Fault),
    /// Tell the operator: two runs of a file contradict the worker of this name. The file may have been
    /// written to without a trace.
    Doubted(String),
    /// Tell the operator: a worker connected that is given no work.
    BackInQuarantine {
        /// Its name.
        worker: String,
        /// Why it is in quarantine.
        fault: Fault,
        /// For how long it has been.
        age: Duration,
    },
    /// Keep this of the name of a worker, in the place of what was kept of it, for [`Core::restore`] after a restart
    /// of the controller. Messages that follow in the same step tell somebody of it.
    Keep(String, Standing),
    /// Tell the operator: somebody wants a worker to be drained, and why it is not.
    DrainAsked {
        /// The worker's name, in the words of the client.
        worker: String,
        /// The client that requested it.
        by: Principal,
        /// None if it is drained.
        refused: Option<DrainOutcome>,
    },
    /// Tell the operator: the worker of this name holds no lease any more, and may be stopped.
    Drained(String),
    /// Tell the operator: somebody wants a worker to be given work again that was drained.
    UndrainAsked {
        /// The worker's name, in the words of the client.
        worker: String,
        /// The client that requested it.
        by: Principal,
        /// The outcome.
        outcome: DrainOutcome,
    },
    /// Tell the operator: somebody wants a worker to be released from quarantine.
    ReleaseAsked {
        /// The worker's name, in the words of the client.
        worker: String,
        /// The client that requested it.
        by: Principal,
        /// The outcome.
        outcome: ReleaseOutcome,
    },
}

#[derive(Debug)]
struct Client {
    principal: Principal,
    pid: u32,
    rights: Rc<Rights>,
    jobs: BTreeSet<JobId>,
}

#[derive(Debug)]
struct Lease<F> {
    job: JobId,
    worker: WorkerId,
    batch: batch::Batch<F>,
    leased: Duration,
    deadline: Duration,
}

#[derive(Debug)]
struct Waiter {
    workers: usize,
    deadline: Duration,
}

impl Waiter {
    /// Its answer, if this many ready workers are enough or its time is over.
    fn answer(&self, ready_len: usize, now: Duration) -> Option<ClientReply> {
        let enough = ready_len >= self.workers;
        let workers = u32::try_from(ready_len).unwrap_or(u32::MAX);
        (enough || self.deadline <= now).then_some(ClientReply::Ready { workers, enough })
    }
}

/// The controller's state.
#[derive(Debug)]
pub struct Core<F> {
    limits: Limits,
    /// The start of this controller, in seconds since 1970.
    epoch: u32,
    sampler: Sampler,
    /// Of the event that is being taken in.
    now: Duration,
    datasets: Datasets,
    counters: Counters,
    tally: CoreCounts,
    /// Of this step.
    timings: Timings,
    /// Of the worker whose answer is being taken in.
    backends: BackendIndexes,
    clients: BTreeMap<ClientId, Client>,
    jobs: BTreeMap<JobId, Job<F>>,
    /// Jobs that are a page of a directory.
    lists: BTreeMap<ListTag, JobId>,
    fleet: Fleet,
    quarantine: Quarantine,
    drains: Drains,
    leases: BTreeMap<LeaseId, Lease<F>>,
    fair: FairQueue,
    /// Jobs that wait for their rate, and are in no queue.
    held: BTreeSet<JobId>,
    /// Jobs with batches that a worker gets alone.
    suspects: BTreeSet<(Plane, JobId)>,
    ledger: Ledger,
    waiters: BTreeMap<ClientId, Waiter>,
    /// Open jobs.
    job_shares: Shares,
    next_job: u64,
    next_lease: u64,
    unresolved: u64,
    inline_bytes: u64,
    actions: Vec<Action<F>>,
}

impl<F: Clone> Core<F> {
    /// The longest time between two events: deadlines are seen with this precision.
    pub const TICK: Duration = Duration::from_millis(250);

    /// A controller that was started at `epoch`, in seconds since 1970, and knows nobody. Files may be
    /// named in `datasets`.
    ///
    /// # Panics
    /// If these are more than a peer may name.
    #[must_use]
    pub fn new(limits: Limits, datasets: Vec<String>, epoch: u32) -> Self {
        Self {
            limits,
            epoch,
            sampler: Sampler::default(),
            now: Duration::ZERO,
            datasets: Datasets::new(datasets),
            counters: Counters::default(),
            tally: CoreCounts::default(),
            timings: Timings::default(),
            backends: NO_BACKENDS,
            clients: BTreeMap::new(),
            jobs: BTreeMap::new(),
            lists: BTreeMap::new(),
            fleet: Fleet::default(),
            quarantine: Quarantine::default(),
            drains: Drains::default(),
            leases: BTreeMap::new(),
            fair: FairQueue::default(),
            held: BTreeSet::new(),
            suspects: BTreeSet::new(),
            ledger: Ledger::new(&limits),
            waiters: BTreeMap::new(),
            job_shares: Shares::new(limits.jobs_max.into()),
            next_job: 0,
            next_lease: 0,
            unresolved: 0,
            inline_bytes: 0,
            actions: Vec::new(),
        }
    }

    /// Has one item in `every` cross-checked, or none if that is 0; which ones follows from `seed`,
    /// which workers should not know.
    pub fn cross_check(&mut self, every: u32, seed: u64) {
        self.sampler = Sampler { every, seed };
    }

    /// Takes in one event.
    ///
    /// `now` is the time since some fixed moment and never goes back.
    pub fn step(&mut self, now: Duration, event: Event<F>) -> Vec<Action<F>> {
        self.now = now;
        self.timings.batches.clear();
        self.timings.waits.clear();
        let ready_before = self.fleet.ready_len();
        let is_tick = matches!(event, Event::Tick);
        match event {
            Event::ClientJoined { client, principal, pid, rights } => {
                let jobs = BTreeSet::new();
                self.tally.connections[PeerRole::Client as usize] += 1;
                self.clients.insert(client, Client { principal, pid, rights, jobs });
            }
            Event::ClientLeft(client) => self.client_left(client),
            Event::ClientSaid(client, request, descriptors) => {
                if let Err(fault) = self.client_said(now, client, request, descriptors) {
                    self.client_left(client);
                    self.counters.peers_faulty += 1;
                    self.tally.count_bad_frame(PeerRole::Client, fault.into());
                    self.actions.push(Action::CloseClient(client, fault));
                }
            }
            Event::WorkerJoined(worker, intro) => {
                self.tally.connections[PeerRole::Worker as usize] += 1;
                let planes = self.datasets.planes_of(&intro.planes);
                let health = self.health_of(&intro.name);
                self.fleet.join(now, worker, intro, planes, health);
            }
            Event::WorkerLeft(worker) => self.worker_left(worker, LossCause::Disconnected),
            Event::WorkerSaid(worker, reply) => {
                self.fleet.seen(now, worker);
                if let Err(fault) = self.worker_said(now, worker, reply) {
                    self.close_worker(worker, fault);
                }
            }
            Event::BookSaid(request) => self.book_said(now, request),
            Event::Datasets(names) => self.datasets.set(names),
            Event::List(page) => self.list(page),
            Event::Unlist(tag) => self.unlist(tag),
            Event::Tick => self.tick(now),
        }
        self.dispatch(now);
        self.answer_drains();
        if is_tick || self.fleet.ready_len() != ready_before {
            self.answer_waiters(now);
        }
        std::mem::take(&mut self.actions)
    }

    /// The principal of a client, and its rights.
    #[must_use]
    pub fn client(&self, client: ClientId) -> Option<(Principal, Rc<Rights>)> {
        let client = self.clients.get(&client)?;
        Some((client.principal, Rc::clone(&client.rights)))
    }

    /// True if a connected worker has this name.
    #[must_use]
    pub fn is_name_taken(&self, name: &str) -> bool {
        self.fleet.is_named(name)
    }

    /// True if anything depends on [`Event::Tick`].
    #[must_use]
    pub fn needs_ticks(&self) -> bool {
        self.fleet.len() > 0 || !self.waiters.is_empty()
    }

    /// Workers that are given work.
    #[must_use]
    pub fn ready_workers(&self) -> usize {
        self.fleet.ready_len()
    }

    /// Counts a peer that was refused in the handshake.
    pub fn count_refused(&mut self, role: PeerRole, reason: RefuseReason) {
        self.counters.peers_refused += 1;
        self.tally.count_refused(role, reason);
    }

    /// Counts a peer that was closed for breaking the protocol below the level of messages.
    pub fn count_faulty(&mut self, role: PeerRole, reason: BadFrame) {
        self.counters.peers_faulty += 1;
        self.tally.count_bad_frame(role, reason);
    }

    /// Counts since the start.
    #[must_use]
    pub fn tally(&self) -> &CoreCounts {
        &self.tally
    }

    /// Durations that ended within the last step.
    #[must_use]
    pub fn timings(&self) -> &Timings {
        &self.timings
    }

    /// Items by where they are, and how long the oldest waits.
    #[must_use]
    pub fn backlog(&self, now: Duration) -> Backlog {
        let leased: usize = self.leases.values().map(|lease| lease.batch.whole_items_len()).sum();
        let split: usize = self.jobs.values().map(Job::split_len).sum();
        let (leased, split) = (leased as u64, split as u64);
        let since = self.jobs.values().filter_map(Job::waits_since).min();
        Backlog {
            queued: self.unresolved.saturating_sub(leased + split),
            leased,
            split,
            oldest: since.map_or(Duration::ZERO, |since| now.saturating_sub(since)),
        }
    }

    /// A picture of everything; what the core cannot know (software, pid, uptime) is left empty.
    #[must_use]
    pub fn status(&self, now: Duration, rows_max: usize) -> Status {
        self.status_with(now, rows_max, self.charged_jobs(), self.jobs.len() - self.lists.len())
    }

    /// The part of it that `client` may see: without the jobs of others, unless it has the right.
    #[must_use]
    pub fn status_for(&self, client: ClientId, now: Duration, rows_max: usize) -> Status {
        match self.clients.get(&client) {
            Some(Client { rights, principal, .. }) if !rights.see_jobs => {
                let own = self.charged_jobs().filter(|job| job.order.principal == *principal);
                let own_len = self.job_shares.held(*principal);
                self.status_with(now, rows_max, own, usize::try_from(own_len).unwrap_or(usize::MAX))
            }
            _ => self.status(now, rows_max),
        }
    }

    /// Jobs that hold a share: all but pages.
    fn charged_jobs(&self) -> impl Iterator<Item = &Job<F>> {
        self.jobs.values().filter(|job| job.list_tag().is_none())
    }

    fn status_with<'a>(
        &'a self,
        now: Duration,
        rows_max: usize,
        jobs: impl Iterator<Item = &'a Job<F>>,
        jobs_len: usize,
    ) -> Status {
        let rows_max = rows_max.min(STATUS_ROWS_MAX);
        let unlisted = |len: usize| u32::try_from(len.saturating_sub(rows_max)).unwrap_or(u32::MAX);
        Status {
            workers: self.fleet.status(now, rows_max),
            workers_unlisted: unlisted(self.fleet.len()),
            jobs: jobs.take(rows_max).map(|job| job.status(now)).collect(),
            jobs_unlisted: unlisted(jobs_len),
            limits: LimitStatus {
                clients: u32::try_from(self.clients.len()).unwrap_or(u32::MAX),
                clients_max: self.limits.clients_max,
                workers_max: self.limits.workers_max,
                jobs_max: self.limits.jobs_max,
                items: self.unresolved,
                items_max: self.limits.items_max,
                bytes: self.inline_bytes,
                bytes_max: self.limits.bytes_max,
            },
            counters: self.counters,
            quarantined: self.quarantine.status(now, rows_max, |name| self.fleet.is_named(name)),
            quarantined_unlisted: unlisted(self.quarantine.len()),
            drained: self.drains.status(now, rows_max, |name| self.fleet.is_named(name)),
            drained_unlisted: unlisted(self.drains.asked_len()),
            ..Status::default()
        }
    }

    fn tick(&mut self, now: Duration) {
        for worker in self.fleet.silent(now) {
            self.close_worker(worker, Fault::Silent);
        }
        let overdue = |lease: &Lease<F>| lease.deadline <= now;
        let overdue: Vec<LeaseId> =
            self.leases.iter().filter(|(_, lease)| overdue(lease)).map(|(&id, _)| id).collect();
        for id in overdue {
            self.lease_overdue(id);
        }
        self.release_held(now);
        self.expire_drains();
        for (worker, queued) in self.fleet.tick(now) {
            self.pass_on(worker, queued);
        }
    }

    fn answer_waiters(&mut self, now: Duration) {
        let ready_len = self.fleet.ready_len();
        let actions = &mut self.actions;
        self.waiters.retain(|&client, waiter| {
            let answer = waiter.answer(ready_len, now);
            let is_over = answer.is_some();
            actions.extend(answer.map(|reply| Action::ToClient(client, reply)));
            !is_over
        });
    }

    /// Gives jobs new windows.
    fn open_windows(&mut self, windows: impl IntoIterator<Item = (JobId, Window)>) {
        for (id, window) in windows {
            if let Some(job) = self.jobs.get_mut(&id) {
                job.window = window;
                let owner = job.order.owner;
                self.tell(owner, ClientReply::Window { job: id, window });
            }
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
