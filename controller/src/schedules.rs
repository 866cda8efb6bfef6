//! Schedules: a pure state machine that submits durable jobs when they are due. [`Planner::step`] takes one event
//! and returns the actions that follow from it.
//!
//! A due time starts a *run*, which submits a job per task when everything that the task waits for has ended. All that a
//! run did is in the journal before anything follows from it, and jobs are submitted under keys made of
//! schedule, run, task and attempt: after a crash the same submission finds the same job.
//!
//! Wall-clock time decides only when a schedule is due; delays, time limits and polls follow the monotonic
//! clock. A clock that was set forward makes due times *missed* (see `LATE_S`); one that was set back by up to
//! [`BACK_S`] makes none due twice, and one that was set back further starts anew from its time.
//!
//! Invariants:
//! - a due time starts at most one run, whatever crashes and clocks do;
//! - a task begins only after everything before it has ended, and once per run and attempt;
//! - one run of a schedule at a time, and at most [`RUNNING_MAX`] tasks of all of them;
//! - after a commit that failed, the state is read from the journal again: it never runs ahead of it.
//!
//! Not here: files of schedules and due times (the crate `schedule`), the jobs themselves (`jobs`).

mod ask;
mod compare;
mod due;
mod findings;
mod history;
mod load;
mod notice;
mod record;
mod run;
mod scrub;

use crate::core::{Principal, Rights};
use crate::jobs::{AskRefusal, Caller, Instants};
use crate::journal::{Query, Rows, TableId, Write};
use crate::notices::Notice;
use compare::Comparison;
use history::PageAsk;
use ipc_proto::limits::REASON_LEN_MAX;
use ipc_proto::message::{
    ChangeCounts, RunOutcome, ScheduleRequest, ServiceRefusal, ServiceReply, ServiceRequest,
};
use load::Loading;
use record::{ScheduleState, ScrubPlace};
use run::ActiveRun;
use schedule::Schedule;
use scrub::Bases;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;

/// Most tasks of all schedules that have a job at once.
pub const RUNNING_MAX: usize = 16;

/// Most schedules of a controller.
pub const SCHEDULES_MAX: usize = schedule::SCHEDULES_MAX;

/// Most bytes that the normal forms of one principal's schedules have together.
pub const PRINCIPAL_TEXTS_LEN_MAX: usize = 16 << 20;

/// A due time that is noticed this many seconds later was missed.
const LATE_S: i64 = 60;

/// Seconds by which a clock can be set back without due times being forgotten.
pub const BACK_S: i64 = 86_400;

/// Interval at which the book is asked about a running job; shorter at its beginning.
const POLL: Duration = Duration::from_secs(1);

/// First interval, which doubles.
const POLL_FIRST: Duration = Duration::from_millis(50);

/// Delay after which the journal is read again when a commit failed; it doubles from one failure to the next.
const RELOAD_PAUSE: Duration = Duration::from_secs(1);

/// Longest of these delays.
const RELOAD_PAUSE_MAX: Duration = Duration::from_secs(60);

/// Bytes of rows that one read of the journal brings.
const READ_LEN: usize = 1 << 20;

/// Most requests that wait until the journal is read.
const HELD_MAX: usize = 1024;

/// The client that a schedule belongs to: its jobs are submitted with the rights of this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScheduleOwner {
    /// The principal that is charged.
    pub principal: Principal,
    /// Effective group of a user, by which the policy may name it.
    pub gid: u32,
}

/// A request of a client, and how to answer it.
#[derive(Clone, Debug)]
pub struct ScheduleAsk {
    /// Its connection, or the part of this process that asks.
    pub caller: Caller,
    /// Comes back in the reply.
    pub tag: u32,
    /// The client.
    pub owner: ScheduleOwner,
    /// Its rights.
    pub rights: Rc<Rights>,
    /// The request.
    pub request: ScheduleRequest,
}

/// An input of the planner.
#[derive(Debug)]
pub enum PlannerEvent {
    /// A client asks for something.
    Asked(ScheduleAsk),
    /// The book answers a request.
    Book(u32, ServiceReply),
    /// A commit is durable.
    Persisted(u64),
    /// A commit failed, and nothing of it is durable, or an unknown part.
    PersistFailed(u64),
    /// A read of the journal is done.
    Read(u64, Result<Rows, String>),
    /// Datasets that the controller has.
    Datasets(Vec<String>),
    /// The notice of this key was delivered or given up.
    Noticed(Vec<u8>),
    /// Time passed.
    Tick,
}

/// An output of the planner, for the driver.
#[derive(Debug, PartialEq)]
pub enum PlannerAction {
    /// Commit these writes; answered by `Persisted` or `PersistFailed`.
    Persist(u64, Vec<Write>),
    /// Read rows; answered by `Read` with the same number.
    Read(u64, Query),
    /// Give this to the book in the name of a schedule's owner; answered by `Book` with the same number. A `Submit` needs
    /// the rights that the owner has now, everything else none.
    Book(u32, ScheduleOwner, ServiceRequest),
    /// Send a reply.
    Reply(Caller, u32, ServiceReply),
    /// Deliver this, or give it up; answered by `Noticed`.
    Notice(Notice),
    /// A run has ended.
    Ended {
        /// Its schedule.
        schedule: String,
        /// Its number.
        run: u64,
        /// Its end.
        outcome: RunOutcome,
        /// Differences to the last good run.
        changes: ChangeCounts,
    },
}

/// A schedule and its run.
#[derive(Debug)]
struct Planned {
    schedule: Rc<Schedule>,
    text: Rc<str>,
    state: ScheduleState,
    /// Its next due time, under which it is in the calendar.
    next_s: Option<i64>,
    run: Option<ActiveRun>,
    /// The good runs of each task with which a later one can be compared.
    bases: Bases,
    /// Where the scrubs among the tasks go on.
    places: BTreeMap<String, ScrubPlace>,
}

/// The purpose of a request to the book.
#[derive(Clone, Debug)]
struct BookAsk {
    schedule: String,
    run: u64,
    step: usize,
    owner: ScheduleOwner,
    is_submit: bool,
}

/// The purpose of a read.
#[derive(Debug)]
enum PlannerRead {
    Load,
    Reply(PageAsk),
}

/// A commit, and what follows once it is durable.
#[derive(Debug, Default)]
struct Batch {
    writes: Vec<Write>,
    then: Vec<PlannerAction>,
}

/// All schedules of a controller.
#[derive(Debug)]
pub struct Planner {
    at: Instants,
    datasets: Vec<String>,
    loading: Option<Loading>,
    /// Commits that failed since one succeeded.
    failures: u32,
    held: VecDeque<ScheduleAsk>,
    next_generation: u32,
    planned: BTreeMap<String, Planned>,
    calendar: BTreeSet<(i64, String)>,
    /// Times at which a step of a run is looked at, and the run itself at its deadline.
    timers: BTreeSet<(Duration, String, Option<usize>)>,
    /// Schedules whose runs have steps that could begin.
    hungry: BTreeSet<String>,
    /// Steps that have a job.
    running: usize,
    /// The step whose results are compared: one at a time, as that takes memory.
    comparison: Option<Comparison>,
    asked: BTreeMap<u32, BookAsk>,
    next_ask: u32,
    reads: BTreeMap<u64, PlannerRead>,
    next_read: u64,
    commit: u64,
    in_flight: Option<Batch>,
    next: Batch,
    actions: Vec<PlannerAction>,
}

impl Planner {
    /// The longest time between two events while anything depends on them.
    pub const TICK: Duration = Duration::from_secs(1);

    /// The planner of a controller that has `datasets`. Its first step reads the journal.
    #[must_use]
    pub fn new(datasets: Vec<String>) -> Self {
        Self {
            at: Instants::default(),
            datasets,
            loading: Some(Loading::at_once()),
            failures: 0,
            held: VecDeque::new(),
            next_generation: 1,
            planned: BTreeMap::new(),
            calendar: BTreeSet::new(),
            timers: BTreeSet::new(),
            hungry: BTreeSet::new(),
            running: 0,
            comparison: None,
            asked: BTreeMap::new(),
            next_ask: 0,
            reads: BTreeMap::new(),
            next_read: 0,
            commit: 0,
            in_flight: None,
            next: Batch::default(),
            actions: Vec::new(),
        }
    }

    /// Takes in one event.
    pub fn step(&mut self, at: Instants, event: PlannerEvent) -> Vec<PlannerAction> {
        let before_s = self.wall_s();
        self.at = at;
        match event {
            PlannerEvent::Asked(ask) if self.loading.is_none() => self.ask(ask),
            PlannerEvent::Asked(ask) if self.held.len() < HELD_MAX => self.held.push_back(ask),
            PlannerEvent::Asked(ask) => {
                let text = "too many requests wait until the journal is read".to_owned();
                self.refuse((ask.caller, ask.tag), (ServiceRefusal::JournalFailed, text));
            }
            PlannerEvent::Book(number, reply) => {
                if let Some(ask) = self.asked.remove(&number) {
                    self.answered(&ask, reply);
                }
            }
            PlannerEvent::Persisted(number) if number == self.commit => {
                let done = self.in_flight.take().unwrap_or_default();
                self.actions.extend(done.then);
                self.failures = 0;
            }
            PlannerEvent::PersistFailed(number) if number == self.commit => self.forget_all(),
            PlannerEvent::Persisted(_) | PlannerEvent::PersistFailed(_) | PlannerEvent::Tick => {}
            PlannerEvent::Read(number, rows) => match self.reads.remove(&number) {
                Some(PlannerRead::Load) => self.loaded(rows),
                Some(PlannerRead::Reply(page)) => self.page_read(page, rows),
                None => {}
            },
            PlannerEvent::Datasets(names) => self.datasets = names,
            PlannerEvent::Noticed(key) => self.next.writes.push(record::forget_notice(key)),
        }
        if self.loading.is_some() {
            self.load();
        } else {
            if self.wall_s() < before_s {
                self.clock_went_back();
            }
            self.fire_timers();
            self.fire_due();
            self.feed_hungry();
        }
        self.commit();
        std::mem::take(&mut self.actions)
    }

    /// True if anything depends on [`PlannerEvent::Tick`].
    #[must_use]
    pub fn needs_ticks(&self) -> bool {
        self.loading.is_some() || !self.planned.is_empty()
    }

    fn wall_s(&self) -> i64 {
        i64::try_from(self.at.wall_s).unwrap_or(i64::MAX)
    }

    /// Hands what was collected to the journal, unless a commit is in flight.
    fn commit(&mut self) {
        if self.in_flight.is_some() {
            return;
        }
        let next = std::mem::take(&mut self.next);
        if next.writes.is_empty() {
            self.actions.extend(next.then);
            return;
        }
        self.commit += 1;
        self.actions.push(PlannerAction::Persist(self.commit, next.writes));
        self.in_flight = Some(Batch { writes: Vec::new(), then: next.then });
    }

    /// Writes the state of a schedule with the next commit.
    fn save(&mut self, name: &str) {
        if let Some(planned) = self.planned.get(name) {
            self.next.writes.push(record::put_state(name, &planned.state));
        }
    }

    /// Sends a request about a step to the book once everything before it is durable.
    fn ask_book(&mut self, ask: BookAsk, request: ServiceRequest) {
        let owner = ask.owner;
        let number = self.next_ask;
        self.next_ask = self.next_ask.wrapping_add(1);
        self.asked.insert(number, ask);
        self.next.then.push(PlannerAction::Book(number, owner, request));
    }

    fn read(&mut self, purpose: PlannerRead, (table, from, to): (TableId, Vec<u8>, Vec<u8>)) {
        let number = self.next_read;
        self.next_read += 1;
        self.reads.insert(number, purpose);
        let query = Query { table, from, to, bytes_max: READ_LEN };
        self.actions.push(PlannerAction::Read(number, query));
    }

    /// Replies once everything that was decided so far is durable.
    fn reply(&mut self, (caller, tag): (Caller, u32), reply: ServiceReply) {
        self.next.then.push(PlannerAction::Reply(caller, tag, reply));
    }

    fn refuse(&mut self, to: (Caller, u32), (reason, text): AskRefusal) {
        let text = crate::jobs::cut(text, REASON_LEN_MAX);
        self.reply(to, ServiceReply::Refused { reason, text });
    }

    /// Nothing that was decided since the last commit holds: all of it is read again after a pause.
    fn forget_all(&mut self) {
        let failed = self.in_flight.take().unwrap_or_default();
        let next = std::mem::take(&mut self.next);
        let refused = || ServiceReply::Refused {
            reason: ServiceRefusal::JournalFailed,
            text: "the journal did not take it; see hashctl status".to_owned(),
        };
        for action in failed.then.into_iter().chain(next.then) {
            if let PlannerAction::Reply(caller, tag, _) = action {
                self.actions.push(PlannerAction::Reply(caller, tag, refused()));
            }
        }
        for read in std::mem::take(&mut self.reads).into_values() {
            if let PlannerRead::Reply(page) = read {
                let (caller, tag) = page.reply_to;
                self.actions.push(PlannerAction::Reply(caller, tag, refused()));
            }
        }
        let pause = RELOAD_PAUSE.saturating_mul(1 << self.failures.min(10)).min(RELOAD_PAUSE_MAX);
        *self = Self {
            at: self.at,
            loading: Some(Loading::not_before(self.at.monotonic + pause)),
            failures: self.failures.saturating_add(1),
            held: std::mem::take(&mut self.held),
            next_ask: self.next_ask,
            next_read: self.next_read,
            commit: self.commit,
            actions: std::mem::take(&mut self.actions),
            ..Self::new(std::mem::take(&mut self.datasets))
        };
    }
}
