//! Schedules and runs as text and as JSON. Times are local to the schedule's time zone for people, and seconds since
//! 1970 in JSON.

use crate::columns::columns;
use crate::json::put_line;
use ipc_proto::message::{
    ChangeCounts, DifferenceKind, DifferenceRow, RunRow, ScheduleRow, StepEnd, StepRow,
};
use overview::{JsonName, RunObject, ScheduleObject, one_line};
use schedule::{Zone, duration_text, local_text};
use serde::Serialize;
use std::fmt::Write;
use std::time::Duration;

fn state(row: &ScheduleRow) -> String {
    match row.active {
        Some(run) => format!("run {run}"),
        None if row.is_paused => "paused".to_owned(),
        None => "waiting".to_owned(),
    }
}

fn next(row: &ScheduleRow, zone: &Zone) -> String {
    match row.next_s {
        Some(at) => local_text(zone, at),
        None if !row.has_trigger => "by hand".to_owned(),
        None if row.is_paused => "-".to_owned(),
        None => "no due time left".to_owned(),
    }
}

fn outcome(run: &RunRow) -> &'static str {
    run.outcome.filter(|_| run.ended_s > 0).map_or("active", |outcome| outcome.name())
}

fn time(zone: &Zone, seconds: u64) -> String {
    match i64::try_from(seconds) {
        Ok(0) => "-".to_owned(),
        Ok(seconds) => local_text(zone, seconds),
        Err(_) => format!("@{seconds}"),
    }
}

fn took(run: &RunRow) -> String {
    if run.ended_s == 0 {
        return "-".to_owned();
    }
    duration_text(Duration::from_secs(run.ended_s.saturating_sub(run.started_s)))
}

/// Numbers of files that differ from the last good run.
pub(crate) fn differences(changes: Option<ChangeCounts>) -> String {
    let Some(changes) = changes else { return "-".to_owned() };
    let counts = DifferenceKind::ALL.map(|kind| (changes.of(kind), kind.name()));
    let counts = counts.iter().filter(|(count, _)| *count > 0);
    let texts: Vec<String> = counts.map(|(count, name)| format!("{count} {name}")).collect();
    if texts.is_empty() { "none".to_owned() } else { texts.join(", ") }
}

/// A file that differs, of a task that is named where there are several.
pub(super) fn difference(task: Option<&str>, row: &DifferenceRow) -> String {
    let name = |bytes: &[u8]| one_line(&String::from_utf8_lossy(bytes));
    let from = match row.kind {
        DifferenceKind::Moved => format!(" (from {})", name(&row.from)),
        DifferenceKind::New if !row.from.is_empty() => format!(" (copy of {})", name(&row.from)),
        DifferenceKind::New
        | DifferenceKind::Gone
        | DifferenceKind::Changed
        | DifferenceKind::Rotted
        | DifferenceKind::Older => String::new(),
    };
    let task = task.map_or_else(String::new, |task| format!("{}: ", one_line(task)));
    format!("{:<8} {task}{}{from}\n", row.kind.name(), name(&row.name))
}

#[derive(Serialize)]
struct DifferenceLine<'a> {
    task: &'a str,
    difference: &'static str,
    #[serde(flatten)]
    name: JsonName<'a>,
    #[serde(flatten)]
    from: Option<JsonName<'a>>,
}

/// The same as a line of JSON.
pub(super) fn difference_json(task: &str, row: &DifferenceRow) -> String {
    let from = JsonName { key: "from", bytes: &row.from };
    line(&DifferenceLine {
        task,
        difference: row.kind.name(),
        name: JsonName::new(&row.name),
        from: (!row.from.is_empty()).then_some(from),
    })
}

/// A table of schedules.
pub(super) fn schedules(rows: &[ScheduleRow]) -> String {
    let head = ["SCHEDULE", "STATE", "NEXT", "LAST", "RUNS", "TASKS", "OWNER"];
    let cells = rows.iter().map(|row| {
        let zone = Zone::named(&row.zone).unwrap_or_else(Zone::utc);
        [
            one_line(&row.name),
            state(row),
            next(row, &zone),
            row.last.as_ref().map_or("-", outcome).to_owned(),
            row.runs.to_string(),
            row.tasks.to_string(),
            one_line(&row.principal),
        ]
    });
    columns(head, cells)
}

/// The state of a schedule.
pub(super) fn schedule_details(row: &ScheduleRow) -> String {
    let zone = Zone::named(&row.zone).unwrap_or_else(Zone::utc);
    let last = row.last.as_ref().map_or_else(
        || "-".to_owned(),
        |run| format!("run {}, {}, {}", run.run, outcome(run), time(&zone, run.ended_s)),
    );
    let mut text = String::new();
    for (name, value) in [
        ("schedule", one_line(&row.name)),
        ("state", state(row)),
        ("next", next(row, &zone)),
        ("last", last),
        ("runs", row.runs.to_string()),
        ("tasks", row.tasks.to_string()),
        ("time zone", one_line(&row.zone)),
        ("applied by", one_line(&row.principal)),
    ] {
        let _ = writeln!(text, "{name:<13}{value}");
    }
    text
}

/// A table of runs.
pub(super) fn runs(rows: &[RunRow], zone: &Zone) -> String {
    let head = ["RUN", "DUE", "STARTED", "TOOK", "OUTCOME", "FAILED", "DIFFERENCES"];
    let cells = rows.iter().map(|run| {
        let due = if run.is_by_hand { "by hand".to_owned() } else { local_text(zone, run.due_s) };
        [
            run.run.to_string(),
            due,
            time(zone, run.started_s),
            took(run),
            outcome(run).to_owned(),
            run.failed.to_string(),
            differences(run.changes),
        ]
    });
    columns(head, cells)
}

/// A run with its tasks.
pub(super) fn run_details(name: &str, run: &RunRow, steps: &[StepRow], zone: &Zone) -> String {
    let due = if run.is_by_hand { "by hand".to_owned() } else { local_text(zone, run.due_s) };
    let mut text = String::new();
    for (key, value) in [
        ("schedule", one_line(name)),
        ("run", run.run.to_string()),
        ("due", due),
        ("started", time(zone, run.started_s)),
        ("ended", time(zone, run.ended_s)),
        ("took", took(run)),
        ("outcome", outcome(run).to_owned()),
        ("differences", differences(run.changes)),
    ] {
        let _ = writeln!(text, "{key:<13}{value}");
    }
    let cells = steps.iter().map(|step| {
        let reason = match &step.end {
            Some(StepEnd::Failed(reason)) => one_line(reason),
            Some(StepEnd::Succeeded | StepEnd::Skipped) | None => String::new(),
        };
        [
            one_line(&step.name),
            step.end.as_ref().map_or("active", StepEnd::name).to_owned(),
            step.attempt.to_string(),
            step.job.map_or_else(|| "-".to_owned(), |job| job.to_string()),
            differences(step.changes),
            reason,
        ]
    });
    let head = ["TASK", "STATE", "ATTEMPTS", "JOB", "DIFFERENCES", "REASON"];
    text + "\n" + &columns(head, cells)
}

fn line(line: &impl Serialize) -> String {
    let mut text = Vec::new();
    put_line(line, &mut text);
    String::from_utf8(text).expect("JSON is text")
}

/// A line of JSON of a schedule.
pub(super) fn schedule_json(row: &ScheduleRow) -> String {
    line(&ScheduleObject::new(row))
}

/// The same with its normal form, which is JSON, too.
pub(super) fn definition_json(row: &ScheduleRow, definition: &str) -> String {
    let definition = serde_json::from_str(definition).ok();
    line(&ScheduleObject::new(row).with_definition(definition))
}

/// A line of JSON of a run.
pub(super) fn run_json(name: &str, run: &RunRow) -> String {
    line(&RunObject::new(Some(name), run))
}

/// The same with its tasks.
pub(super) fn run_with_tasks_json(name: &str, run: &RunRow, steps: &[StepRow]) -> String {
    line(&RunObject::new(Some(name), run).with_tasks(steps))
}
