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
mod due;
mod load;
mod record;
mod run;

pub use ask::{ScheduleAnswer, ScheduleAsk, ScheduleOverview};
pub use record::{RunOutcome, StepEnd};

use crate::core::Principal;
use crate::jobs::{Caller, Instants};
use crate::journal::{Query, Rows, Write};
use ipc_proto::message::{ServiceReply, ServiceRequest};
use load::Loading;
use record::ScheduleState;
use run::ActiveRun;
use schedule::Schedule;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

/// Most tasks of all schedules that have a job at once.
pub const RUNNING_MAX: usize = 16;

/// Most schedules of a controller.
pub const SCHEDULES_MAX: usize = schedule::SCHEDULES_MAX;

/// A due time that is noticed this many seconds later was missed.
const LATE_S: i64 = 60;

/// Seconds by which a clock can be set back without due times being forgotten.
pub const BACK_S: i64 = 86_400;

/// Interval at which the book is asked about a running job.
const POLL: Duration = Duration::from_secs(1);

/// Delay after which the journal is read again when a commit failed.
const RELOAD_PAUSE: Duration = Duration::from_secs(1);

/// An input of the planner.
#[derive(Debug)]
pub enum PlannerEvent {
    /// A client asks for something.
    Asked {
        /// Its connection.
        caller: Caller,
        /// Comes back in the answer.
        tag: u32,
        /// The principal whose the schedule is.
        principal: Principal,
        /// The request.
        ask: ScheduleAsk,
    },
    /// The book answers a request.
    Book(u32, ServiceReply),
    /// A commit is durable.
    Persisted(u64),
    /// A commit failed, and nothing of it is durable, or an unknown part.
    PersistFailed(u64),
    /// A read of the journal is done.
    Read(Result<Rows, String>),
    /// Time passed.
    Tick,
}

/// An output of the planner, for the driver.
#[derive(Debug, PartialEq)]
pub enum PlannerAction {
    /// Commit these writes; answered by `Persisted` or `PersistFailed`.
    Persist(u64, Vec<Write>),
    /// Read rows; answered by `Read`.
    Read(Query),
    /// Give this to the book in the name of a principal; answered by `Book` with the same number.
    Book(u32, Principal, ServiceRequest),
    /// Send an answer.
    Answer(Caller, u32, ScheduleAnswer),
    /// A run has ended.
    Ended {
        /// Its schedule.
        schedule: String,
        /// Its number.
        run: u64,
        /// Its end.
        outcome: RunOutcome,
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
}

/// The purpose of a request to the book.
#[derive(Clone, Debug)]
struct BookAsk {
    schedule: String,
    run: u64,
    step: usize,
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
    loading: Option<Loading>,
    planned: BTreeMap<String, Planned>,
    calendar: BTreeSet<(i64, String)>,
    /// Times at which a step of a run is looked at, and the run itself at its deadline.
    timers: BTreeSet<(Duration, String, Option<usize>)>,
    /// Schedules whose runs have steps that could begin.
    hungry: BTreeSet<String>,
    /// Steps that have a job.
    running: usize,
    asked: BTreeMap<u32, BookAsk>,
    next_ask: u32,
    commit: u64,
    in_flight: Option<Batch>,
    next: Batch,
    actions: Vec<PlannerAction>,
}

impl Planner {
    /// The longest time between two events while there are schedules.
    pub const TICK: Duration = Duration::from_secs(1);

    /// The planner of a controller. Its first step reads the journal.
    #[must_use]
    pub fn new() -> Self {
        Self {
            at: Instants::default(),
            loading: Some(Loading::at_once()),
            planned: BTreeMap::new(),
            calendar: BTreeSet::new(),
            timers: BTreeSet::new(),
            hungry: BTreeSet::new(),
            running: 0,
            asked: BTreeMap::new(),
            next_ask: 0,
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
            PlannerEvent::Asked { caller, tag, principal, ask } => {
                let answer = match self.loading {
                    Some(_) => {
                        ScheduleAnswer::refused("the journal is being read, or takes no more")
                    }
                    None => self.ask(principal, ask),
                };
                self.next.then.push(PlannerAction::Answer(caller, tag, answer));
            }
            PlannerEvent::Book(number, reply) => {
                if let Some(ask) = self.asked.remove(&number) {
                    self.answered(&ask, reply);
                }
            }
            PlannerEvent::Persisted(number) if number == self.commit => {
                let done = self.in_flight.take().unwrap_or_default();
                self.actions.extend(done.then);
            }
            PlannerEvent::PersistFailed(number) if number == self.commit => self.forget_all(),
            PlannerEvent::Persisted(_) | PlannerEvent::PersistFailed(_) | PlannerEvent::Tick => {}
            PlannerEvent::Read(rows) => self.loaded(rows),
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
    fn ask_book(&mut self, ask: BookAsk, principal: Principal, request: ServiceRequest) {
        let number = self.next_ask;
        self.next_ask = self.next_ask.wrapping_add(1);
        self.asked.insert(number, ask);
        self.next.then.push(PlannerAction::Book(number, principal, request));
    }

    /// Nothing that was decided since the last commit holds: all of it is read again after a pause.
    fn forget_all(&mut self) {
        let failed = self.in_flight.take().unwrap_or_default();
        let next = std::mem::take(&mut self.next);
        let text = "the journal did not take it";
        for action in failed.then.into_iter().chain(next.then) {
            if let PlannerAction::Answer(caller, tag, _) = action {
                let answer = ScheduleAnswer::refused(text);
                self.actions.push(PlannerAction::Answer(caller, tag, answer));
            }
        }
        let (actions, commit, next_ask) =
            (std::mem::take(&mut self.actions), self.commit, self.next_ask);
        let (at, loading) = (self.at, Some(Loading::not_before(self.at.monotonic + RELOAD_PAUSE)));
        *self = Self { at, loading, actions, commit, next_ask, ..Self::new() };
    }
}

impl Default for Planner {
    fn default() -> Self {
        Self::new()
    }
}
