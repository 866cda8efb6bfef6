//! One message of every kind about schedules.

use crate::samples_service::DURABLE;
use ipc_proto::message::{
    ChangeCounts, DifferenceKind, DifferenceRow, RunOutcome, RunRow, ScheduleAct, ScheduleReply,
    ScheduleRequest, ScheduleRow, StepEnd, StepRow,
};

/// Every number differs from its neighbours.
fn changes() -> ChangeCounts {
    let mut changes = ChangeCounts::default();
    for (i, kind) in DifferenceKind::ALL.into_iter().enumerate() {
        (0..=i).for_each(|_| changes.add_one(kind));
    }
    changes
}

/// Every field differs from its neighbours, so that no two can be swapped unseen.
pub(crate) fn run_row(outcome: Option<RunOutcome>) -> RunRow {
    RunRow {
        run: 7,
        due_s: 1_800_000_000,
        started_s: 1_800_000_001,
        ended_s: 1_800_000_002,
        is_by_hand: true,
        outcome,
        failed: 3,
        changes: Some(changes()),
    }
}

pub(crate) fn schedule_row() -> ScheduleRow {
    ScheduleRow {
        name: "nightly".to_owned(),
        principal: "uid 1000".to_owned(),
        is_own: true,
        zone: "UTC".to_owned(),
        has_trigger: true,
        is_paused: false,
        next_s: Some(-1),
        tasks: 5,
        active: Some(8),
        runs: 9,
        last: Some(run_row(None)),
    }
}

pub(crate) fn step_row(end: Option<StepEnd>) -> StepRow {
    StepRow {
        step: 1,
        name: "disks.a".to_owned(),
        attempt: 2,
        job: Some(DURABLE),
        end,
        changes: None,
    }
}

pub(crate) fn schedule_requests() -> Vec<(String, ScheduleRequest)> {
    let name = || "nightly".to_owned();
    let act = |act| ScheduleRequest::Act { name: name(), act };
    [
        ("apply", ScheduleRequest::Apply { text: "schedules: {}".to_owned() }),
        ("list", ScheduleRequest::List { after: name(), limit: 512 }),
        ("show", ScheduleRequest::Show { name: name() }),
        ("act/pause", act(ScheduleAct::Pause)),
        ("act/resume", act(ScheduleAct::Resume)),
        ("act/run", act(ScheduleAct::Run)),
        ("act/cancel", act(ScheduleAct::Cancel)),
        ("act/remove", act(ScheduleAct::Remove)),
        ("runs", ScheduleRequest::Runs { name: name(), before: Some(70_000), limit: 1 }),
        ("run", ScheduleRequest::Run { name: name(), run: 70_000, from: 251, limit: 2 }),
        (
            "differences",
            ScheduleRequest::Differences { name: name(), run: 70_000, step: 251, page: 2 },
        ),
    ]
    .map(|(label, request)| (format!("schedule/{label}"), request))
    .into()
}

pub(crate) fn schedule_replies() -> Vec<(String, ScheduleReply)> {
    let row = || Box::new(schedule_row());
    let runs = RunOutcome::ALL.into_iter().map(|outcome| run_row(Some(outcome))).collect();
    let failed = StepEnd::Failed("why".to_owned());
    let ends = [None, Some(StepEnd::Succeeded), Some(failed), Some(StepEnd::Skipped)];
    let steps = ends.into_iter().map(step_row).collect();
    let text = "schedules: {}".to_owned();
    let difference = |kind| DifferenceRow { kind, name: b"a/b"[..].into(), from: b"c"[..].into() };
    let differences = DifferenceKind::ALL.into_iter().map(difference).collect();
    [
        ("changed", ScheduleReply::Changed(row())),
        ("started", ScheduleReply::Started { run: 251 }),
        ("schedule", ScheduleReply::Schedule { row: row(), text }),
        ("schedules", ScheduleReply::Schedules { rows: vec![schedule_row()], more: true }),
        ("runs", ScheduleReply::Runs { rows: runs, more: true }),
        ("run", ScheduleReply::Run { row: run_row(None), steps, more: false }),
        ("differences", ScheduleReply::Differences { rows: differences, more: true }),
    ]
    .map(|(label, reply)| (format!("schedule/{label}"), reply))
    .into()
}
