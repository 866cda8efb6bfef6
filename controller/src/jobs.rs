//! Durable jobs: a pure state machine above the core, which runs their items, and the journal, which keeps
//! what a reply has said. [`Book::step`] takes one event and returns the actions that follow from it.
//!
//! Results are committed in the order of a job's items, together with the counts and the place from which
//! the job goes on after a restart. What was resolved beyond that is in a bounded buffer, and is hashed
//! again after a crash: recovery reads the records of the jobs and no items, and a manifest has the same
//! bytes after any number of crashes.
//!
//! Invariants:
//! - every reply waits for the commit of all that it speaks of;
//! - one commit is in flight at a time; all that happens meanwhile goes into the next one;
//! - a result is accepted once, for an item that was handed out and has none;
//! - what is in memory is bounded by `limits`, however many items a job has;
//! - after a commit that failed, the state is read from the journal again: it never runs ahead of it.
//!
//! Not here: the table rows' encoding (`record`), who gets which lease (`core`), files (`journal`).

mod act;
mod ask;
mod audit;
mod commit;
mod feed;
pub mod limits;
mod manifest;
mod packed;
mod record;
mod recover;
mod room;
mod run;
mod source;
mod store;
mod usage;
mod walk;

pub(crate) use ask::AskRefusal;
pub use commit::Retirement;
pub use record::BadRow;
pub(crate) use record::{StoredPrincipal, record as decoded, value as encoded};
pub use room::JOURNAL_LEN_MIN;

use crate::core::{BookRequest, ListTag, PageWanted, Principal, Rights};
use crate::journal::{Query, Rows, TableId, Write};
use audit::AuditRun;
use commit::Commits;
use feed::Feed;
use ipc_proto::Algorithms;
use ipc_proto::limits::REASON_LEN_MAX;
use ipc_proto::message::{
    AuditBaseline, ClientReply, JobId, JobRow, JobSource, JobState, ListOutcome, ServiceRefusal,
    ServiceReply, ServiceRequest,
};
use record::{JobOrigin, JobProgress, StoredAudit, StoredClaims};
use room::JournalRoom;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;
use usage::{HeldMax, Usage};

/// The time of an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Instants {
    /// Time since some fixed moment, which never goes back.
    pub monotonic: Duration,
    /// Seconds since 1970 by the wall clock: data, by which nothing is decided but what to keep.
    pub wall_s: u64,
}

/// Whoever asks: a connection, or a part of this process. Never used again after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Caller(pub u64);

/// An input of the book.
#[derive(Debug)]
pub enum BookEvent {
    /// Somebody asks for something.
    Asked {
        /// Its connection.
        caller: Caller,
        /// Comes back in the reply.
        tag: u32,
        /// The principal that is charged.
        principal: Principal,
        /// Its rights.
        rights: Rc<Rights>,
        /// The request.
        request: ServiceRequest,
    },
    /// A caller is gone: it gets no more replies.
    Left(Caller),
    /// The core reports something of a job that the book opened.
    Core(ClientReply),
    /// A commit is durable.
    Persisted(u64),
    /// A commit failed, and nothing of it is durable or, if it is `final`, an unknown part; then no later
    /// one is tried.
    PersistFailed {
        /// The commit.
        sequence: u64,
        /// Why, for a person.
        text: String,
        /// The journal takes no more.
        is_final: bool,
    },
    /// A read of the journal is done.
    Read(u64, Result<Rows, String>),
    /// Answers [`BookAction::List`].
    Listed(ListTag, ListOutcome),
    /// Datasets that the controller has.
    Datasets(Vec<String>),
    /// Bytes of the journal's rows, after a commit of anybody.
    JournalLen(u64),
    /// Time passed.
    Tick,
}

/// An output of the book, for the driver.
#[derive(Debug, PartialEq, Eq)]
pub enum BookAction {
    /// Commit these writes; answered by `Persisted` or `PersistFailed`.
    Persist(u64, Vec<Write>),
    /// Read rows; answered by `Read`.
    Read(u64, Query),
    /// Give this to the core.
    Core(BookRequest),
    /// Have a page of a dataset listed; answered by `Listed`.
    List(PageWanted),
    /// The page is not wanted any more; there is no answer.
    Unlist(ListTag),
    /// Send a reply.
    Reply(Caller, u32, ServiceReply),
    /// A job is done or failed, durably: tell whoever follows that. Until `told` is durable, it comes again after a restart.
    Ended {
        /// The job.
        row: Box<JobRow>,
        /// For the commit of the event that tells of it.
        told: Write,
    },
    /// An ended job is kept no more, durably.
    Retired(JobId, Retirement),
}

/// Condition of the book.
#[derive(Debug)]
enum Phase {
    /// Work goes on.
    Open,
    /// The journal is full: nothing is changed until a commit succeeds again.
    Full { text: String, retry: Duration },
    /// The journal takes no more: nothing is changed until the controller restarts.
    Failed { text: String },
}

/// A durable job.
#[derive(Debug)]
struct DurableJob {
    origin: Rc<JobOrigin>,
    progress: JobProgress,
    /// Results that are durable.
    committed: u64,
    /// Items that are durable.
    readable: u64,
    /// The commit before which it must not run: it reads what that wrote.
    run_after: u64,
    feed: Option<Feed>,
    /// It is not started before.
    not_before: Duration,
    /// Summary of its findings, of an audit that is done.
    audited: Option<StoredAudit>,
    /// Its manifest, of an audit against one.
    claims: Option<StoredClaims>,
    /// Most items that its principal may hold, by the rights with which it was submitted.
    items_max: u64,
    /// When it was first seen to be too old.
    expired: Option<Duration>,
}

/// A request that waits for something to happen to a job.
#[derive(Debug)]
struct JobWait {
    caller: Caller,
    tag: u32,
    job: JobId,
    deadline: Duration,
    /// Where its results start, and how many it wants; `None` if it waits for the end.
    results: Option<(u64, u16)>,
}

/// The purpose of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReadFor {
    LastId,
    Records,
    /// For the feed of this number.
    Feed(JobId, u32),
    Reply {
        caller: Caller,
        tag: u32,
        job: JobId,
        from: u64,
        limit: u16,
    },
    Deaths {
        caller: Caller,
        tag: u32,
        job: JobId,
        from: u64,
        limit: u16,
    },
    /// For the comparison of this number.
    Audit(JobId, u32),
    Findings {
        caller: Caller,
        tag: u32,
        job: JobId,
        from: u64,
        limit: u16,
    },
}

/// The state of all durable jobs.
#[derive(Debug)]
pub struct Book {
    at: Instants,
    epoch: u32,
    /// The last id that was given out, by any controller.
    last_id: JobId,
    phase: Phase,
    datasets: Vec<String>,
    jobs: BTreeMap<JobId, DurableJob>,
    keys: BTreeMap<(Principal, String), JobId>,
    usage: Usage,
    /// Running jobs without a feed, in the order in which they start.
    ready: BTreeSet<(Reverse<u8>, JobId)>,
    /// Jobs with a feed.
    fed: BTreeSet<JobId>,
    /// Audits that are or wait to be compared, and the comparison that goes on.
    auditing: BTreeSet<JobId>,
    audit: Option<AuditRun>,
    /// The feed of each job of the core.
    of_core: BTreeMap<JobId, JobId>,
    /// The job of each page without an answer.
    of_list: BTreeMap<ListTag, JobId>,
    /// The feed of each `Open` without an answer.
    opening: BTreeMap<u32, JobId>,
    next_feed: u32,
    commits: Commits,
    reads: BTreeMap<u64, ReadFor>,
    next_read: u64,
    waits: Vec<JobWait>,
    held: VecDeque<(Caller, u32, Principal, Rc<Rights>, ServiceRequest)>,
    retention: Duration,
    room: JournalRoom,
    /// Ended jobs of which a process before this one told nobody.
    untold: Vec<JobId>,
    has_recovered: bool,
    actions: Vec<BookAction>,
}

impl Book {
    /// The longest time between two events while anything waits: deadlines are seen with this precision.
    pub const TICK: Duration = Duration::from_millis(250);

    /// The book of a controller that was started at `epoch`, in seconds since 1970, and has `datasets`. Its
    /// first step reads the journal.
    #[must_use]
    pub fn new(epoch: u32, datasets: Vec<String>) -> Self {
        let mut book = Self {
            at: Instants::default(),
            epoch,
            last_id: JobId::default(),
            phase: Phase::Open,
            datasets,
            jobs: BTreeMap::new(),
            keys: BTreeMap::new(),
            usage: Usage::default(),
            ready: BTreeSet::new(),
            fed: BTreeSet::new(),
            auditing: BTreeSet::new(),
            audit: None,
            of_core: BTreeMap::new(),
            of_list: BTreeMap::new(),
            opening: BTreeMap::new(),
            next_feed: 0,
            commits: Commits::default(),
            reads: BTreeMap::new(),
            next_read: 0,
            waits: Vec::new(),
            held: VecDeque::new(),
            retention: Duration::ZERO,
            room: JournalRoom::new(u64::MAX),
            untold: Vec::new(),
            has_recovered: false,
            actions: Vec::new(),
        };
        book.recover();
        book
    }

    /// Bounds the journal to `len_max` bytes of rows.
    #[must_use]
    pub fn bounded(mut self, len_max: u64) -> Self {
        self.room = JournalRoom::new(len_max);
        self
    }

    /// Takes in one event.
    pub fn step(&mut self, at: Instants, event: BookEvent) -> Vec<BookAction> {
        self.at = at;
        match event {
            BookEvent::Asked { caller, tag, principal, rights, request } => {
                if !self.is_recovering() {
                    self.ask(caller, tag, principal, &rights, request);
                } else if self.held.len() < limits::HELD_MAX {
                    self.held.push_back((caller, tag, principal, rights, request));
                } else {
                    let text = "too many requests wait until the journal is read";
                    self.refuse(caller, tag, ServiceRefusal::JournalFailed, text);
                }
            }
            BookEvent::Left(caller) => {
                self.waits.retain(|wait| wait.caller != caller);
                self.held.retain(|(of, ..)| *of != caller);
            }
            BookEvent::Core(reply) => self.core_said(reply),
            BookEvent::Persisted(sequence) => self.persisted(sequence),
            BookEvent::PersistFailed { sequence, text, is_final } => {
                self.persist_failed(sequence, text, is_final);
            }
            BookEvent::Read(tag, rows) => self.read_done(tag, rows),
            BookEvent::Listed(tag, outcome) => self.listed(tag, outcome),
            BookEvent::Datasets(names) => self.datasets = names,
            BookEvent::JournalLen(len) => self.journal_len(len),
            BookEvent::Tick => self.tick(),
        }
        if self.is_open() && !self.room.is_used_up() {
            self.start_jobs();
            self.advance();
            self.advance_audit();
        }
        self.answer_waits();
        self.commit();
        std::mem::take(&mut self.actions)
    }

    /// True if anything depends on [`BookEvent::Tick`].
    #[must_use]
    pub fn needs_ticks(&self) -> bool {
        !self.jobs.is_empty() || !self.waits.is_empty() || !matches!(self.phase, Phase::Open)
    }

    /// Why the bound of the journal keeps new jobs out, if it does.
    #[must_use]
    pub fn shortage(&self) -> Option<String> {
        self.room.shortage()
    }

    /// True if changes are made.
    fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open) && !self.is_recovering()
    }

    /// Number of jobs in each state, in the order of [`JobState`], and items without a result of those that
    /// run.
    #[must_use]
    pub fn census(&self) -> ([u64; 6], u64) {
        let (mut states, mut pending) = ([0; 6], 0);
        for job in self.jobs.values() {
            states[job.progress.state as usize] += 1;
            if job.progress.state == JobState::Running {
                pending += job.progress.items.saturating_sub(job.progress.resolved);
            }
        }
        (states, pending)
    }

    fn tick(&mut self) {
        let now = self.at.monotonic;
        if let Phase::Full { retry, .. } = &mut self.phase
            && *retry <= now
        {
            *retry = now + limits::FULL_PAUSE;
            self.commits.probe();
        }
        if self.is_open() && self.retention <= now {
            self.retention = now + limits::RETENTION_PAUSE;
            self.retire();
        }
        self.make_room();
    }

    /// True while the records of the jobs are read.
    fn is_recovering(&self) -> bool {
        self.reads.values().any(|read| matches!(read, ReadFor::LastId | ReadFor::Records))
    }

    fn read(&mut self, purpose: ReadFor, (table, from, to): (TableId, Vec<u8>, Vec<u8>)) {
        let tag = self.next_read;
        self.next_read += 1;
        self.reads.insert(tag, purpose);
        // A chunk of results is read as a whole.
        let is_results = table == TableId::Results;
        let bytes_max = if is_results { limits::CHUNK_LEN_MAX } else { limits::READ_LEN };
        let query = Query { table, from, to, bytes_max };
        self.actions.push(BookAction::Read(tag, query));
    }

    fn read_done(&mut self, tag: u64, rows: Result<Rows, String>) {
        let Some(purpose) = self.reads.remove(&tag) else { return };
        match purpose {
            ReadFor::LastId | ReadFor::Records => self.recovered(purpose, rows),
            ReadFor::Feed(job, feed) => self.feed_read(job, feed, rows),
            ReadFor::Reply { caller, tag, job, from, limit } => {
                self.results_read((caller, tag), job, (from, limit), rows);
            }
            ReadFor::Deaths { caller, tag, job, limit, .. } => {
                self.deaths_read((caller, tag), job, limit, rows);
            }
            ReadFor::Audit(job, number) => self.audit_read(job, number, rows),
            ReadFor::Findings { caller, tag, job, from, limit } => {
                self.findings_read((caller, tag), job, (from, limit), rows);
            }
        }
    }

    /// Replies once everything that was decided so far is durable.
    fn reply(&mut self, caller: Caller, tag: u32, reply: ServiceReply) {
        self.commits.reply(caller, tag, reply);
    }

    fn refuse(
        &mut self,
        caller: Caller,
        tag: u32,
        reason: ServiceRefusal,
        text: impl Into<String>,
    ) {
        let text = cut(text.into(), REASON_LEN_MAX);
        self.reply(caller, tag, ServiceReply::Refused { reason, text });
    }

    fn row(&self, id: JobId) -> Option<JobRow> {
        let job = self.jobs.get(&id)?;
        let (origin, progress) = (&job.origin, &job.progress);
        Some(JobRow {
            id,
            key: origin.key.clone(),
            spec: origin.spec.clone(),
            principal: Principal::from(origin.principal).to_string(),
            state: progress.state,
            reason: progress.reason.clone(),
            items: progress.items,
            is_complete: progress.is_complete,
            resolved: progress.resolved,
            failed: progress.failed,
            mismatched: progress.mismatched,
            bytes: progress.bytes,
            created_s: origin.created_s,
            started_s: progress.started_s,
            ended_s: progress.ended_s,
            findings: job.audited.map(|audited| audited.counts),
        })
    }

    /// Replies with the job as it is now.
    fn reply_job(&mut self, caller: Caller, tag: u32, id: JobId) {
        if let Some(row) = self.row(id) {
            self.reply(caller, tag, ServiceReply::Job(Box::new(row)));
        }
    }
}

impl DurableJob {
    /// The bound on what its principal may hold.
    fn held_max(&self) -> HeldMax {
        HeldMax { items: self.items_max, ..HeldMax::ANY }
    }

    /// Algorithms of its results: of an audit against a manifest those of that.
    fn algorithms(&self) -> Algorithms {
        let claims = self.claims.as_ref().filter(|claims| claims.is_read);
        let known = claims.and_then(|claims| Algorithms::new(&claims.algorithms).ok());
        known.unwrap_or(self.origin.spec.algorithms)
    }

    /// True if the manifest of an audit is still to be read.
    fn reads_manifest(&self) -> bool {
        match &self.origin.spec.source {
            JobSource::Manifest { .. } => true,
            JobSource::Audit { baseline: AuditBaseline::Manifest { .. }, .. } => {
                self.claims.as_ref().is_none_or(|claims| !claims.is_read)
            }
            JobSource::Stored | JobSource::Dataset { .. } | JobSource::Audit { .. } => false,
        }
    }

    /// Results that may be shown: durable, and not being made again.
    fn shown(&self) -> u64 {
        let again = self.progress.again.unwrap_or(u64::MAX);
        self.committed.min(again)
    }
}

/// `text`, at most `len_max` bytes of it.
pub(crate) fn cut(mut text: String, len_max: usize) -> String {
    if text.len() > len_max {
        let end = (0..=len_max).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
        text.truncate(end);
    }
    text
}
