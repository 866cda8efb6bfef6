//! Rows of the journal: keys and values of schedules and their runs. The only place that knows their
//! encoding.
//!
//! A schedule has two rows: its text, and its state. A run has a row of its own, and one per task that has begun;
//! keys are big-endian, so that the runs of a schedule are a range, and so are the tasks of a run. A value
//! is one byte, the version of its form, and the encoding of `ipc_proto::codec`.

use super::ScheduleOwner;
use crate::jobs::{BadRow, StoredPrincipal, decoded, encoded};
use crate::journal::{TableId, Write};
use crate::notices::Notice;
use ipc_proto::Algorithms;
use ipc_proto::message::{
    ChangeCounts, DifferenceRow, JobId, JobSource, LimitExceeded, Message, NameShare, RunOutcome,
    RunRow, StepEnd, StepRow,
};
use notifier::DeliveryTarget;
use serde::{Deserialize, Serialize};

/// Kinds of a schedule's rows.
const TEXT_ROW: u8 = 0;
const STATE_ROW: u8 = 1;
/// Of each task that has a good run; the task's name comes behind, and behind that of a scrub the run's number.
const BASE_ROW: u8 = 3;
/// Of each task that is a scrub; its name comes behind.
const PLACE_ROW: u8 = 4;

/// Kinds of the rows of runs.
const RUN_ROW: u8 = 0;
const STEP_ROW: u8 = 1;
const DIFFERENCES_ROW: u8 = 2;

/// Key of the number that the next new schedule gets: no schedule has an empty name.
const GENERATION_KEY: &[u8] = &[0, 2];

/// A schedule's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ScheduleState {
    /// Its jobs are those of this principal.
    principal: StoredPrincipal,
    /// Group by which the policy may name it.
    gid: u32,
    /// A number that no other schedule has, not even an earlier one of its name.
    pub(super) generation: u32,
    pub(super) is_paused: bool,
    /// Due times up to this one have been looked at, in seconds since 1970.
    pub(super) considered_s: i64,
    /// Number of the next run.
    pub(super) next_run: u64,
    /// The run that goes on.
    pub(super) active: Option<u64>,
    /// Due time of the run that waits for the end of that.
    pub(super) queued_s: Option<i64>,
    /// The last run that ended, by its number.
    pub(super) last: Option<(u64, StoredRun)>,
}

/// A run as it began, and how it ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoredRun {
    pub(super) due_s: i64,
    pub(super) started_s: u64,
    pub(super) is_by_hand: bool,
    pub(super) ended_s: u64,
    pub(super) outcome: Option<RunOutcome>,
    /// Tasks that failed.
    pub(super) failed: u32,
    /// Differences of all tasks; `None` if none was compared, or not yet.
    pub(super) changes: Option<ChangeCounts>,
}

/// A task of a run that has begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoredStep {
    /// Its name, as the schedule can be another one later.
    pub(super) name: String,
    /// Attempts so far, this one included.
    pub(super) attempt: u32,
    /// The job of this attempt; the last one if it has ended.
    pub(super) job: Option<JobId>,
    pub(super) end: Option<StepEnd>,
    /// Differences to the last good run.
    pub(super) changes: Option<ChangeCounts>,
}

/// The last good run of a task, with which the next one is compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoredBase {
    pub(super) job: JobId,
    /// When its first file may have been read, in seconds since 1970.
    pub(super) began_s: u64,
    pub(super) algorithms: Algorithms,
    pub(super) source: JobSource,
    pub(super) share: NameShare,
}

impl StoredBase {
    /// True if both read the same by the same algorithms, whatever their shares of it.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.algorithms == other.algorithms && self.source == other.source
    }
}

/// Where a scrub goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ScrubPlace {
    /// The place behind the last share that was read.
    pub(super) next: u32,
    /// Due time of the run that read it.
    pub(super) due_s: i64,
}

/// A page of differences.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoredDifferences(pub(super) Vec<DifferenceRow>);

/// A notice that is not delivered yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct StoredNotice {
    id: String,
    to: DeliveryTarget,
    body: String,
}

impl StoredRun {
    pub(super) fn row(&self, run: u64) -> RunRow {
        let Self { due_s, started_s, is_by_hand, ended_s, outcome, failed, changes } = *self;
        RunRow { run, due_s, started_s, ended_s, is_by_hand, outcome, failed, changes }
    }
}

impl StoredStep {
    pub(super) fn row(self, step: u32) -> StepRow {
        let Self { name, attempt, job, end, changes } = self;
        StepRow { step, name, attempt, job, end, changes }
    }
}

/// Names hold no zero byte, so that a name is no prefix of another one's key.
fn prefix(name: &str) -> Vec<u8> {
    [name.as_bytes(), &[0]].concat()
}

/// Keys of the rows of one kind of the runs of a schedule, up to a run's number.
fn run_prefix(name: &str, kind: u8, run: u64) -> Vec<u8> {
    [&prefix(name)[..], &[kind], &run.to_be_bytes()].concat()
}

pub(super) fn put_text(name: &str, text: &str) -> Write {
    let key = [&prefix(name)[..], &[TEXT_ROW]].concat();
    Write::Put { table: TableId::Schedules, key, value: text.into() }
}

pub(super) fn put_state(name: &str, state: &ScheduleState) -> Write {
    let key = [&prefix(name)[..], &[STATE_ROW]].concat();
    Write::Put { table: TableId::Schedules, key, value: encoded(state) }
}

pub(super) fn remove_schedule(name: &str) -> [Write; 2] {
    [TableId::Schedules, TableId::Runs].map(|table| {
        let to = [name.as_bytes(), &[1]].concat();
        Write::DeleteRange { table, from: prefix(name), to }
    })
}

/// Sets the number of the next new schedule.
pub(super) fn put_generation(generation: u32) -> Write {
    let value = generation.to_be_bytes().to_vec();
    Write::Put { table: TableId::Schedules, key: GENERATION_KEY.to_vec(), value }
}

pub(super) fn put_run(name: &str, run: u64, row: &StoredRun) -> Write {
    let key = run_prefix(name, RUN_ROW, run);
    Write::Put { table: TableId::Runs, key, value: encoded(row) }
}

pub(super) fn put_step(name: &str, run: u64, step: usize, row: &StoredStep) -> Write {
    let key = step_key(name, run, step);
    Write::Put { table: TableId::Runs, key, value: encoded(row) }
}

/// Adds a good run of a task; number 0 is the last one that read everything.
pub(super) fn put_base(name: &str, task: &str, run: u64, base: &StoredBase) -> Write {
    Write::Put { table: TableId::Schedules, key: base_key(name, task, run), value: encoded(base) }
}

/// Forgets a good run of a task.
pub(super) fn forget_base(name: &str, task: &str, run: u64) -> Write {
    Write::Delete { table: TableId::Schedules, key: base_key(name, task, run) }
}

fn base_key(name: &str, task: &str, run: u64) -> Vec<u8> {
    let key = [&prefix(name)[..], &[BASE_ROW], task.as_bytes()].concat();
    if run == 0 { key } else { [&key[..], &[0], &run.to_be_bytes()].concat() }
}

/// Sets where a scrub goes on.
pub(super) fn put_place(name: &str, task: &str, place: ScrubPlace) -> Write {
    let key = [&prefix(name)[..], &[PLACE_ROW], task.as_bytes()].concat();
    Write::Put { table: TableId::Schedules, key, value: encoded(&place) }
}

pub(super) fn put_differences(
    (name, run, step): (&str, u64, usize),
    page: u32,
    rows: &StoredDifferences,
) -> Write {
    let key = differences_key(name, run, step, page);
    Write::Put { table: TableId::Runs, key, value: encoded(rows) }
}

/// Forgets the differences of a task, which are looked for again.
pub(super) fn forget_differences(name: &str, run: u64, step: usize) -> Write {
    let from = differences_key(name, run, step, 0);
    let to = differences_key(name, run, step + 1, 0);
    Write::DeleteRange { table: TableId::Runs, from, to }
}

fn differences_key(name: &str, run: u64, step: usize, page: u32) -> Vec<u8> {
    let step = u32::try_from(step).unwrap_or(u32::MAX).to_be_bytes();
    [&run_prefix(name, DIFFERENCES_ROW, run)[..], &step, &page.to_be_bytes()].concat()
}

/// The row of a page of differences.
pub(super) fn differences_range(name: &str, run: u64, step: u32, page: u32) -> KeyRange {
    let key = differences_key(name, run, step as usize, page);
    let to = [&key[..], &[0]].concat();
    (key, to)
}

fn step_key(name: &str, run: u64, step: usize) -> Vec<u8> {
    let step = u32::try_from(step).unwrap_or(u32::MAX).to_be_bytes();
    [&run_prefix(name, STEP_ROW, run)[..], &step].concat()
}

/// Keeps a notice of a run until it is delivered.
pub(super) fn put_notice(notice: &Notice) -> Write {
    let Notice { key, id, to, body } = notice.clone();
    let value = encoded(&StoredNotice { id, to, body });
    Write::Put { table: TableId::Notices, key, value }
}

pub(super) fn forget_notice(key: Vec<u8>) -> Write {
    Write::Delete { table: TableId::Notices, key }
}

/// Key of a notice: of a run of a schedule of this generation, to one of its recipients.
pub(super) fn notice_key(generation: u32, run: u64, recipient: u16) -> Vec<u8> {
    [&generation.to_be_bytes()[..], &run.to_be_bytes(), &recipient.to_be_bytes()].concat()
}

pub(super) fn notice(key: Vec<u8>, value: &[u8]) -> Result<Notice, BadRow> {
    let StoredNotice { id, to, body } = decoded(value)?;
    Ok(Notice { key, id, to, body })
}

/// Forgets the runs of a schedule before `run`.
pub(super) fn forget_runs(name: &str, run: u64) -> [Write; 3] {
    [RUN_ROW, STEP_ROW, DIFFERENCES_ROW].map(|kind| {
        let (from, to) = (run_prefix(name, kind, 0), run_prefix(name, kind, run));
        Write::DeleteRange { table: TableId::Runs, from, to }
    })
}

/// A range of keys: the first one, and the one after the last.
pub(super) type KeyRange = (Vec<u8>, Vec<u8>);

/// The rows of runs from one number on up to but without another one.
pub(super) fn runs_range(name: &str, from: u64, to: u64) -> KeyRange {
    (run_prefix(name, RUN_ROW, from), run_prefix(name, RUN_ROW, to))
}

/// The rows of a run's tasks from one number on.
pub(super) fn steps_range(name: &str, run: u64, from: usize) -> KeyRange {
    (step_key(name, run, from), run_prefix(name, STEP_ROW, run.saturating_add(1)))
}

/// A row of a run: its own, or that of a step.
#[derive(Debug)]
pub(super) enum RunPart {
    Head(u64, StoredRun),
    Step(u32, StoredStep),
    Differences(StoredDifferences),
}

/// A row of a schedule.
#[derive(Debug)]
pub(super) enum SchedulePart {
    Text(String),
    State(Box<ScheduleState>),
    /// Of this task and run.
    Base(String, u64, StoredBase),
    /// Of this task.
    Place(String, ScrubPlace),
}

/// A row of the table of schedules.
#[derive(Debug)]
pub(super) enum ScheduleEntry {
    Part(String, SchedulePart),
    /// Number of the next new schedule.
    Generation(u32),
}

pub(super) fn schedule_entry(key: &[u8], value: &[u8]) -> Result<ScheduleEntry, BadRow> {
    let bad = || BadRow("a key that is not a schedule's".to_owned());
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|_| bad());
    // The number of a run can look like the end of a shorter key.
    let name_len = key.iter().position(|&byte| byte == 0).ok_or_else(bad)?;
    let (name, rest) = (&key[..name_len], &key[name_len + 1..]);
    match rest {
        _ if key == GENERATION_KEY => {
            let number = value.try_into().map_err(|_| bad())?;
            Ok(ScheduleEntry::Generation(u32::from_be_bytes(number)))
        }
        [TEXT_ROW] => Ok(ScheduleEntry::Part(text(name)?, SchedulePart::Text(text(value)?))),
        [STATE_ROW] => {
            Ok(ScheduleEntry::Part(text(name)?, SchedulePart::State(Box::new(decoded(value)?))))
        }
        [BASE_ROW, task @ ..] => {
            let (task, run) = match task.split_last_chunk() {
                Some(([task @ .., 0], run)) => (task, u64::from_be_bytes(*run)),
                Some(_) | None => (task, 0),
            };
            let part = SchedulePart::Base(text(task)?, run, decoded(value)?);
            Ok(ScheduleEntry::Part(text(name)?, part))
        }
        [PLACE_ROW, task @ ..] => {
            let part = SchedulePart::Place(text(task)?, decoded(value)?);
            Ok(ScheduleEntry::Part(text(name)?, part))
        }
        _ => Err(bad()),
    }
}

/// The schedule of a row of a run, and the row.
pub(super) fn run_part(key: &[u8], value: &[u8]) -> Result<(String, RunPart), BadRow> {
    let bad = || BadRow("a key that is not a run's".to_owned());
    let name_len = key.iter().position(|&byte| byte == 0).ok_or_else(bad)?;
    let name = String::from_utf8(key[..name_len].to_vec()).map_err(|_| bad())?;
    let (kind, rest) = key[name_len + 1..].split_first().ok_or_else(bad)?;
    let (run, rest) = rest.split_first_chunk().ok_or_else(bad)?;
    let part = match (*kind, rest) {
        (RUN_ROW, []) => RunPart::Head(u64::from_be_bytes(*run), decoded(value)?),
        (DIFFERENCES_ROW, _) => RunPart::Differences(decoded(value)?),
        (STEP_ROW, step) => {
            let step = u32::from_be_bytes(step.try_into().map_err(|_| bad())?);
            RunPart::Step(step, decoded(value)?)
        }
        _ => return Err(bad()),
    };
    Ok((name, part))
}

macro_rules! records {
    ($($type:ty),+) => {
        $(impl Message for $type {
            fn check(&self) -> Result<(), LimitExceeded> {
                Ok(())
            }
        })+
    };
}

records!(
    ScheduleState,
    StoredRun,
    StoredStep,
    StoredBase,
    ScrubPlace,
    StoredDifferences,
    StoredNotice
);

impl ScheduleState {
    /// Of a schedule that is new.
    pub(super) fn new(owner: ScheduleOwner, generation: u32, now_s: i64) -> Self {
        Self {
            principal: owner.principal.into(),
            gid: owner.gid,
            generation,
            is_paused: false,
            considered_s: now_s,
            next_run: 1,
            active: None,
            queued_s: None,
            last: None,
        }
    }

    pub(super) fn owner(&self) -> ScheduleOwner {
        ScheduleOwner { principal: self.principal.into(), gid: self.gid }
    }

    pub(super) fn set_owner(&mut self, owner: ScheduleOwner) {
        (self.principal, self.gid) = (owner.principal.into(), owner.gid);
    }
}
