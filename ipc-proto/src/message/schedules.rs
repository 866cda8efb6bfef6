//! Requests about schedules and their runs, and their replies.
//!
//! A schedule is sent as text, in the normal form of the crate `schedule`. Lists are paged: a request names
//! where it continues, and a reply says whether there is more.

use super::{JobId, LimitExceeded, at_most, within};
use crate::limits::{
    NAME_LEN_MAX, PATH_LEN_MAX, REASON_LEN_MAX, SCHEDULE_ROWS_MAX, SCHEDULE_TEXT_LEN_MAX,
    STEP_NAME_LEN_MAX,
};
use crate::{Blob, list};
use serde::{Deserialize, Serialize};

/// A client's request about schedules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ScheduleRequest {
    /// Adds or replaces a schedule, of which no run may be active. Answered by `Changed`.
    Apply {
        /// A file with this one schedule.
        text: String,
    },
    /// Lists schedules in the order of their names. Answered by `Schedules`.
    List {
        /// The last one listed before; empty for none.
        after: String,
        /// Most rows.
        limit: u16,
    },
    /// Answered by `Schedule`.
    Show {
        /// The schedule.
        name: String,
    },
    /// Answered by `Changed`, or by `Started` if a run begins.
    Act {
        /// The schedule.
        name: String,
        /// The change.
        act: ScheduleAct,
    },
    /// Lists runs of a schedule, the newest first. Answered by `Runs`.
    Runs {
        /// The schedule.
        name: String,
        /// The last one listed before.
        before: Option<u64>,
        /// Most rows.
        limit: u16,
    },
    /// A run with the tasks that have begun or ended, in the order of the schedule. Answered by `Run`.
    Run {
        /// The schedule.
        name: String,
        /// Number of the run.
        run: u64,
        /// Number of the first task.
        from: u32,
        /// Most tasks.
        limit: u16,
    },
    /// Files that a task of a run found to differ from the last good run. Answered by `Differences`.
    Differences {
        /// The schedule.
        name: String,
        /// Number of the run.
        run: u64,
        /// Number of the task.
        step: u32,
        /// Number of the page, from 0.
        page: u32,
    },
}

/// A change of a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ScheduleAct {
    /// Holds it back: what is due meanwhile is skipped.
    Pause,
    /// Lets it be due again.
    Resume,
    /// Starts a run now.
    Run,
    /// Ends the active run, with its jobs.
    Cancel,
    /// Forgets it and its runs; jobs that it submitted stay.
    Remove,
}

/// The controller's answer to a [`ScheduleRequest`], unless it is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ScheduleReply {
    /// A schedule after its change, which is durable; a removed one as it was.
    Changed(Box<ScheduleRow>),
    /// A run began.
    Started {
        /// Its number.
        run: u64,
    },
    /// A schedule.
    Schedule {
        /// Its state.
        row: Box<ScheduleRow>,
        /// Its normal form.
        text: String,
    },
    /// Schedules.
    Schedules {
        /// In the order of their names.
        #[serde(deserialize_with = "list::at_most::<_, _, SCHEDULE_ROWS_MAX>")]
        rows: Vec<ScheduleRow>,
        /// There are more after the last of them.
        more: bool,
    },
    /// Runs.
    Runs {
        /// The newest first.
        #[serde(deserialize_with = "list::at_most::<_, _, SCHEDULE_ROWS_MAX>")]
        rows: Vec<RunRow>,
        /// There can be more before the last of them.
        more: bool,
    },
    /// A run with its tasks.
    Run {
        /// The run.
        row: RunRow,
        /// Tasks in the order of their numbers.
        #[serde(deserialize_with = "list::at_most::<_, _, SCHEDULE_ROWS_MAX>")]
        steps: Vec<StepRow>,
        /// There can be more after the last of them.
        more: bool,
    },
    /// Files that differ.
    Differences {
        /// In the order of a walk; files that are new, gone or moved come at the end.
        #[serde(deserialize_with = "list::at_most::<_, _, SCHEDULE_ROWS_MAX>")]
        rows: Vec<DifferenceRow>,
        /// There can be a next page.
        more: bool,
    },
}

/// A schedule and its state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleRow {
    /// Its name.
    pub name: String,
    /// User that applied it, for a person. Its jobs are submitted with the rights of this one.
    pub principal: String,
    /// That is the client that asks.
    pub is_own: bool,
    /// Its time zone.
    pub zone: String,
    /// It has due times, and does not run by hand only.
    pub has_trigger: bool,
    /// It is held back.
    pub is_paused: bool,
    /// Its next due time, in seconds since 1970.
    pub next_s: Option<i64>,
    /// Tasks.
    pub tasks: u32,
    /// Number of the active run.
    pub active: Option<u64>,
    /// Runs that have begun.
    pub runs: u64,
    /// The last run that ended.
    pub last: Option<RunRow>,
}

/// A run of a schedule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRow {
    /// Its number, from 1.
    pub run: u64,
    /// Its due time, in seconds since 1970.
    pub due_s: i64,
    /// Time when it began, in seconds since 1970.
    pub started_s: u64,
    /// Time of its end, in seconds since 1970; 0 for not yet.
    pub ended_s: u64,
    /// Somebody started it.
    pub is_by_hand: bool,
    /// Its end, or how it will end.
    pub outcome: Option<RunOutcome>,
    /// Tasks that failed.
    pub failed: u32,
    /// Differences of the tasks that were compared, with their last good runs or manifests; `None` if none was.
    pub changes: Option<ChangeCounts>,
}

/// Numbers of files that differ from the last good run, or of an audit from its manifest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeCounts([u64; DifferenceKind::ALL.len()]);

impl ChangeCounts {
    /// Counts one more file.
    pub fn add_one(&mut self, kind: DifferenceKind) {
        self.add_many(kind, 1);
    }

    /// Counts this many more files.
    pub fn add_many(&mut self, kind: DifferenceKind, files: u64) {
        let count = &mut self.0[kind as usize];
        *count = count.saturating_add(files);
    }

    /// Adds the numbers of another task.
    pub fn add(&mut self, other: Self) {
        self.0.iter_mut().zip(other.0).for_each(|(sum, more)| *sum = sum.saturating_add(more));
    }

    /// The number of files that differ in this way.
    #[must_use]
    pub fn of(self, kind: DifferenceKind) -> u64 {
        self.0[kind as usize]
    }

    /// The number of files that differ.
    #[must_use]
    pub fn total(self) -> u64 {
        self.0.iter().fold(0, |sum, more| sum.saturating_add(*more))
    }
}

/// The way in which a file differs from the last good run, or of an audit from its manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DifferenceKind {
    /// It was not there.
    New,
    /// It is not there any more.
    Gone,
    /// It has another content, and was written to.
    Changed,
    /// It had another name.
    Moved,
    /// Its content is another one, its size and time of modification are not: bit rot.
    Rotted,
    /// It was replaced by an earlier version.
    Older,
}

impl DifferenceKind {
    /// All ways.
    pub const ALL: [Self; 6] =
        [Self::New, Self::Gone, Self::Changed, Self::Moved, Self::Rotted, Self::Older];

    /// Its word in text, JSON and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Gone => "gone",
            Self::Changed => "changed",
            Self::Moved => "moved",
            Self::Rotted => "rotted",
            Self::Older => "older",
        }
    }
}

/// A file that differs from the last good run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DifferenceRow {
    /// The way.
    pub kind: DifferenceKind,
    /// Its name in the manifest; of one that is gone, the one that it had.
    pub name: Blob,
    /// The name that a moved one had, and of a new one in an audit against a manifest the name of the file that it is a copy of; empty otherwise.
    pub from: Blob,
}

/// The end of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RunOutcome {
    /// Every task succeeded.
    Succeeded,
    /// A task failed.
    Failed,
    /// Its deadline expired.
    Late,
    /// Somebody ended it.
    Cancelled,
}

impl RunOutcome {
    /// All outcomes.
    pub const ALL: [Self; 4] = [Self::Succeeded, Self::Failed, Self::Late, Self::Cancelled];

    /// Its word in text, JSON and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Late => "late",
            Self::Cancelled => "cancelled",
        }
    }
}

/// A task of a run that has begun or ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRow {
    /// Its number in the schedule.
    pub step: u32,
    /// Its name.
    pub name: String,
    /// Attempts so far.
    pub attempt: u32,
    /// The job of the last attempt.
    pub job: Option<JobId>,
    /// Its end.
    pub end: Option<StepEnd>,
    /// Differences to the last good run; `None` if it was not compared.
    pub changes: Option<ChangeCounts>,
}

/// The end of a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StepEnd {
    /// Every file has a digest, the expected one if there is one.
    Succeeded,
    /// The last attempt failed, for this reason.
    Failed(String),
    /// It never began, or was cancelled: an earlier task or the run failed.
    Skipped,
}

impl StepEnd {
    /// Its word in text and JSON.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed(_) => "failed",
            Self::Skipped => "skipped",
        }
    }
}

impl ScheduleRequest {
    pub(super) fn check(&self) -> Result<(), LimitExceeded> {
        let check_name = |name: &String| within("name", name.len(), 1, NAME_LEN_MAX);
        let check_limit = |limit: &u16| within("limit", usize::from(*limit), 1, SCHEDULE_ROWS_MAX);
        match self {
            Self::Apply { text } => at_most("text", text.len(), SCHEDULE_TEXT_LEN_MAX),
            Self::List { after, limit } => {
                at_most("after", after.len(), NAME_LEN_MAX)?;
                check_limit(limit)
            }
            Self::Show { name } | Self::Act { name, .. } | Self::Differences { name, .. } => {
                check_name(name)
            }
            Self::Runs { name, limit, .. } | Self::Run { name, limit, .. } => {
                check_name(name)?;
                check_limit(limit)
            }
        }
    }
}

impl ScheduleReply {
    pub(super) fn check(&self) -> Result<(), LimitExceeded> {
        match self {
            Self::Changed(row) => row.check(),
            Self::Started { .. } => Ok(()),
            Self::Schedule { row, text } => {
                row.check()?;
                at_most("text", text.len(), SCHEDULE_TEXT_LEN_MAX)
            }
            Self::Schedules { rows, .. } => {
                at_most("rows", rows.len(), SCHEDULE_ROWS_MAX)?;
                rows.iter().try_for_each(ScheduleRow::check)
            }
            Self::Runs { rows, .. } => at_most("rows", rows.len(), SCHEDULE_ROWS_MAX),
            Self::Run { steps, .. } => {
                at_most("steps", steps.len(), SCHEDULE_ROWS_MAX)?;
                steps.iter().try_for_each(StepRow::check)
            }
            Self::Differences { rows, .. } => {
                at_most("rows", rows.len(), SCHEDULE_ROWS_MAX)?;
                rows.iter().try_for_each(DifferenceRow::check)
            }
        }
    }
}

impl ScheduleRow {
    fn check(&self) -> Result<(), LimitExceeded> {
        within("name", self.name.len(), 1, NAME_LEN_MAX)?;
        at_most("principal", self.principal.len(), NAME_LEN_MAX)?;
        at_most("zone", self.zone.len(), NAME_LEN_MAX)
    }
}

impl DifferenceRow {
    fn check(&self) -> Result<(), LimitExceeded> {
        // As of a result: the name of a root and the path of a file below it.
        within("name length", self.name.len(), 1, 2 * PATH_LEN_MAX + 1)?;
        at_most("name length", self.from.len(), 2 * PATH_LEN_MAX + 1)
    }
}

impl StepRow {
    fn check(&self) -> Result<(), LimitExceeded> {
        within("name", self.name.len(), 1, STEP_NAME_LEN_MAX)?;
        match &self.end {
            Some(StepEnd::Failed(reason)) => at_most("reason", reason.len(), REASON_LEN_MAX),
            Some(StepEnd::Succeeded | StepEnd::Skipped) | None => Ok(()),
        }
    }
}
