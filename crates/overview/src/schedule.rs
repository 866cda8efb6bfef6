//! Schedules and their runs as JSON objects; docs/schedules.md has the keys. Times are seconds since 1970.

use ipc_proto::message::{ChangeCounts, DifferenceKind, RunRow, ScheduleRow, StepEnd, StepRow};
use serde::Serialize;
use std::collections::BTreeMap;

/// Numbers of differences by their names.
pub type DifferenceCounts = BTreeMap<&'static str, u64>;

/// A schedule.
#[derive(Debug, Serialize)]
pub struct ScheduleObject<'a> {
    schedule: &'a str,
    owner: &'a str,
    own: bool,
    timezone: &'a str,
    paused: bool,
    next: Option<i64>,
    tasks: u32,
    active: Option<u64>,
    runs: u64,
    last: Option<RunObject<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    definition: Option<serde_json::Value>,
}

/// A run of a schedule.
#[derive(Debug, Serialize)]
pub struct RunObject<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    schedule: Option<&'a str>,
    run: u64,
    due: i64,
    by_hand: bool,
    started: u64,
    ended: Option<u64>,
    outcome: Option<&'static str>,
    failed: u32,
    differences: Option<DifferenceCounts>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tasks: Option<Vec<TaskObject<'a>>>,
}

#[derive(Debug, Serialize)]
struct TaskObject<'a> {
    task: &'a str,
    attempts: u32,
    job: Option<String>,
    outcome: Option<&'static str>,
    differences: Option<DifferenceCounts>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

impl<'a> ScheduleObject<'a> {
    /// A schedule.
    #[must_use]
    pub fn new(row: &'a ScheduleRow) -> Self {
        Self {
            schedule: &row.name,
            owner: &row.principal,
            own: row.is_own,
            timezone: &row.zone,
            paused: row.is_paused,
            next: row.next_s,
            tasks: row.tasks,
            active: row.active,
            runs: row.runs,
            last: row.last.as_ref().map(|run| RunObject::new(None, run)),
            definition: None,
        }
    }

    /// The same with its normal form.
    #[must_use]
    pub fn with_definition(self, definition: Option<serde_json::Value>) -> Self {
        Self { definition, ..self }
    }
}

impl<'a> RunObject<'a> {
    /// A run, with its schedule unless that is around it.
    #[must_use]
    pub fn new(schedule: Option<&'a str>, run: &RunRow) -> Self {
        Self {
            schedule,
            run: run.run,
            due: run.due_s,
            by_hand: run.is_by_hand,
            started: run.started_s,
            ended: (run.ended_s > 0).then_some(run.ended_s),
            outcome: run.outcome.filter(|_| run.ended_s > 0).map(|outcome| outcome.name()),
            failed: run.failed,
            differences: counts(run.changes),
            tasks: None,
        }
    }

    /// The same with its tasks.
    #[must_use]
    pub fn with_tasks(self, steps: &'a [StepRow]) -> Self {
        Self { tasks: Some(steps.iter().map(task).collect()), ..self }
    }
}

fn task(step: &StepRow) -> TaskObject<'_> {
    TaskObject {
        task: &step.name,
        attempts: step.attempt,
        job: step.job.map(|job| job.to_string()),
        outcome: step.end.as_ref().map(StepEnd::name),
        differences: counts(step.changes),
        reason: match &step.end {
            Some(StepEnd::Failed(reason)) => Some(reason),
            Some(StepEnd::Succeeded | StepEnd::Skipped) | None => None,
        },
    }
}

fn counts(changes: Option<ChangeCounts>) -> Option<DifferenceCounts> {
    let changes = changes?;
    Some(DifferenceKind::ALL.map(|kind| (kind.name(), changes.of(kind))).into())
}
