//! Rows of the journal: keys and values of schedules and their runs. The only place that knows their
//! encoding.
//!
//! A schedule has two rows: its text, and how far it is. A run has a row of its own, and one per task that has begun;
//! keys are big-endian, so that the rows of a run are a range, and those of a schedule another. A value
//! is one byte, the version of its form, and the encoding of `ipc_proto::codec`.

use crate::core::Principal;
use crate::jobs::{BadRow, StoredPrincipal, decoded, encoded};
use crate::journal::{TableId, Write};
use ipc_proto::message::{JobId, LimitExceeded, Message};
use serde::{Deserialize, Serialize};

/// Kinds of a schedule's rows.
const TEXT_ROW: u8 = 0;
const STATE_ROW: u8 = 1;

/// Kinds of a run's rows.
const RUN_ROW: u8 = 0;
const STEP_ROW: u8 = 1;

/// A schedule's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ScheduleState {
    /// Its jobs are those of this principal.
    pub(super) principal: StoredPrincipal,
    pub(super) is_paused: bool,
    /// Due times up to this one have been looked at, in seconds since 1970.
    pub(super) considered_s: i64,
    /// Number of the next run.
    pub(super) next_run: u64,
    /// The run that goes on.
    pub(super) active: Option<u64>,
    /// Due time of the run that waits for the end of that.
    pub(super) queued_s: Option<i64>,
}

/// A run as it began, and how it ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RunRow {
    pub(super) due_s: i64,
    pub(super) started_s: u64,
    pub(super) is_by_hand: bool,
    pub(super) ended_s: u64,
    pub(super) outcome: Option<RunOutcome>,
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

/// A task of a run that has begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StepRow {
    /// Attempts so far, this one included.
    pub(super) attempt: u32,
    /// The job of this attempt; the last one if it has ended.
    pub(super) job: Option<JobId>,
    pub(super) end: Option<StepEnd>,
}

/// The end of a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StepEnd {
    /// Every file has a digest, the expected one if there is one.
    Succeeded,
    /// The last attempt failed.
    Failed(String),
    /// It never began, or was cancelled: an earlier task or the run failed.
    Skipped,
}

/// Names hold no zero byte, so that a name is no prefix of another one's key.
fn prefix(name: &str) -> Vec<u8> {
    [name.as_bytes(), &[0]].concat()
}

fn run_prefix(name: &str, run: u64) -> Vec<u8> {
    [&prefix(name)[..], &run.to_be_bytes()].concat()
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

pub(super) fn put_run(name: &str, run: u64, row: &RunRow) -> Write {
    let key = [&run_prefix(name, run)[..], &[RUN_ROW]].concat();
    Write::Put { table: TableId::Runs, key, value: encoded(row) }
}

pub(super) fn put_step(name: &str, run: u64, step: usize, row: &StepRow) -> Write {
    let step = u32::try_from(step).unwrap_or(u32::MAX).to_be_bytes();
    let key = [&run_prefix(name, run)[..], &[STEP_ROW], &step].concat();
    Write::Put { table: TableId::Runs, key, value: encoded(row) }
}

/// Forgets the runs of a schedule before `run`.
pub(super) fn forget_runs(name: &str, run: u64) -> Write {
    Write::DeleteRange { table: TableId::Runs, from: prefix(name), to: run_prefix(name, run) }
}

/// First key of a run's rows, and the one after the last.
pub(super) fn run_range(name: &str, run: u64) -> (Vec<u8>, Vec<u8>) {
    (run_prefix(name, run), run_prefix(name, run + 1))
}

/// A row of a run: its own, or that of a step.
#[derive(Debug)]
pub(super) enum RunPart {
    Head(RunRow),
    Step(usize, StepRow),
}

/// A row of a schedule.
#[derive(Debug)]
pub(super) enum SchedulePart {
    Text(String),
    State(ScheduleState),
}

pub(super) fn schedule_part(key: &[u8], value: &[u8]) -> Result<(String, SchedulePart), BadRow> {
    let bad = || BadRow("a key that is not a schedule's".to_owned());
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|_| bad());
    match key {
        [name @ .., 0, TEXT_ROW] => Ok((text(name)?, SchedulePart::Text(text(value)?))),
        [name @ .., 0, STATE_ROW] => Ok((text(name)?, SchedulePart::State(decoded(value)?))),
        _ => Err(bad()),
    }
}

pub(super) fn run_part(key: &[u8], value: &[u8]) -> Result<RunPart, BadRow> {
    let bad = || BadRow("a key that is not a run's".to_owned());
    let name_len = key.iter().position(|&byte| byte == 0).ok_or_else(bad)?;
    match key.get(name_len + 1 + size_of::<u64>()..).ok_or_else(bad)? {
        [RUN_ROW] => Ok(RunPart::Head(decoded(value)?)),
        [STEP_ROW, step @ ..] => {
            let step = u32::from_be_bytes(step.try_into().map_err(|_| bad())?);
            Ok(RunPart::Step(step as usize, decoded(value)?))
        }
        _ => Err(bad()),
    }
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

records!(ScheduleState, RunRow, StepRow);

impl ScheduleState {
    /// Of a schedule that is new.
    pub(super) fn new(principal: Principal, now_s: i64) -> Self {
        Self {
            principal: principal.into(),
            is_paused: false,
            considered_s: now_s,
            next_run: 1,
            active: None,
            queued_s: None,
        }
    }
}
