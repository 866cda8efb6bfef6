//! Schedules of the controller and their runs: listed, shown, started.

use super::apply::all;
use super::{ask, nonsense, text};
use crate::cli::print;
use crate::commands::jobs::JobSession;
use crate::config::Config;
use crate::exit::Exit;
use crate::say::say;
use ipc_proto::limits::SCHEDULE_ROWS_MAX;
use ipc_proto::message::{
    ChangeCounts, RunOutcome, RunRow, ScheduleAct, ScheduleReply, ScheduleRequest, ScheduleRow,
    StepEnd, StepRow,
};
use schedule::Zone;
use std::thread;
use std::time::Duration;

/// Shortest and longest pause between two looks at a run.
const LOOK_MIN: Duration = Duration::from_millis(50);
const LOOK_MAX: Duration = Duration::from_secs(1);

pub(super) fn list(config: &Config, json: bool) -> Result<Exit, Exit> {
    let rows = all(&mut JobSession::new(config))?;
    let text =
        if json { rows.iter().map(text::schedule_json).collect() } else { text::schedules(&rows) };
    Ok(print(config.stdio, &text))
}

pub(super) fn show(config: &Config, name: String, json: bool) -> Result<Exit, Exit> {
    let (row, definition) = shown(&mut JobSession::new(config), name)?;
    let text = if json {
        text::definition_json(&row, &definition)
    } else {
        text::schedule_details(&row) + "\n" + &overview::plain_lines(&definition)
    };
    Ok(print(config.stdio, &text))
}

/// A schedule and its normal form.
pub(super) fn shown(
    session: &mut JobSession<'_>,
    name: String,
) -> Result<(ScheduleRow, String), Exit> {
    let reply = ask(session, ScheduleRequest::Show { name })?;
    let ScheduleReply::Schedule { row, text } = reply else { return Err(nonsense()) };
    Ok((*row, text))
}

/// The time zone of a schedule, which this program may not know.
fn zone_of(row: &ScheduleRow) -> Zone {
    Zone::named(&row.zone).unwrap_or_else(Zone::utc)
}

pub(super) fn runs(config: &Config, name: &str, count: u32, json: bool) -> Result<Exit, Exit> {
    let mut session = JobSession::new(config);
    let (row, _) = shown(&mut session, name.to_owned())?;
    let rows = runs_of(&mut session, name, count)?;
    let text = match json {
        true => rows.iter().map(|run| text::run_json(name, run)).collect(),
        false => text::runs(&rows, &zone_of(&row)),
    };
    Ok(print(config.stdio, &text))
}

/// The last runs of a schedule, the newest first.
pub(crate) fn runs_of(
    session: &mut JobSession<'_>,
    name: &str,
    count: u32,
) -> Result<Vec<RunRow>, Exit> {
    let mut rows: Vec<RunRow> = Vec::new();
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    while rows.len() < count {
        let limit = u16::try_from((count - rows.len()).min(SCHEDULE_ROWS_MAX)).unwrap_or(1);
        let before = rows.last().map(|row| row.run);
        let request = ScheduleRequest::Runs { name: name.to_owned(), before, limit };
        let ScheduleReply::Runs { rows: page, more } = ask(session, request)? else {
            return Err(nonsense());
        };
        let is_over = page.is_empty() || !more;
        rows.extend(page);
        if is_over {
            break;
        }
    }
    Ok(rows)
}

pub(super) fn show_run(config: &Config, name: &str, run: u64, json: bool) -> Result<Exit, Exit> {
    let mut session = JobSession::new(config);
    let (schedule, _) = shown(&mut session, name.to_owned())?;
    let (row, steps) = whole_run(&mut session, name, run)?;
    let text = match json {
        true => text::run_with_tasks_json(name, &row, &steps),
        false => text::run_details(name, &row, &steps, &zone_of(&schedule)),
    };
    Ok(print(config.stdio, &text))
}

/// A run with all of its tasks that have begun or ended.
fn whole_run(
    session: &mut JobSession<'_>,
    name: &str,
    run: u64,
) -> Result<(RunRow, Vec<StepRow>), Exit> {
    let mut all: Vec<StepRow> = Vec::new();
    loop {
        let from = all.last().map_or(0, |step| step.step.saturating_add(1));
        let limit = u16::try_from(SCHEDULE_ROWS_MAX).unwrap_or(u16::MAX);
        let request = ScheduleRequest::Run { name: name.to_owned(), run, from, limit };
        let ScheduleReply::Run { row, steps, more } = ask(session, request)? else {
            return Err(nonsense());
        };
        let is_over = steps.is_empty() || !more;
        all.extend(steps);
        if is_over {
            return Ok((row, all));
        }
    }
}

/// Prints the files of a run, the last one that ended if none is named, that differ from the last good run.
pub(super) fn differences(
    config: &Config,
    name: &str,
    run: Option<u64>,
    json: bool,
) -> Result<Exit, Exit> {
    let mut session = JobSession::new(config);
    let (schedule, _) = shown(&mut session, name.to_owned())?;
    let Some(run) = run.or(schedule.last.map(|last| last.run)) else {
        say(format_args!("no run of {} has ended yet", overview::one_line(name)));
        return Ok(Exit::Failure);
    };
    let (_, steps) = whole_run(&mut session, name, run)?;
    let is_one = schedule.tasks == 1;
    let differ = |step: &&StepRow| step.changes.is_some_and(|changes| changes.total() > 0);
    for step in steps.iter().filter(differ) {
        let mut shown = 0;
        for page in 0.. {
            let (name, step_number) = (name.to_owned(), step.step);
            let request = ScheduleRequest::Differences { name, run, step: step_number, page };
            let ScheduleReply::Differences { rows, more } = ask(&mut session, request)? else {
                return Err(nonsense());
            };
            shown += rows.len() as u64;
            let line = |row| match json {
                true => text::difference_json(&step.name, row),
                false => text::difference((!is_one).then_some(&step.name), row),
            };
            let printed = print(config.stdio, &rows.iter().map(line).collect::<String>());
            if printed != Exit::Success {
                return Ok(printed);
            }
            if !more {
                break;
            }
        }
        let all = step.changes.map_or(0, ChangeCounts::total);
        if shown < all {
            let task = overview::one_line(&step.name);
            say(format_args!("{task}: {} further differences are not kept", all - shown));
        }
    }
    Ok(Exit::Success)
}

pub(super) fn run(config: &Config, name: &str, waits: bool) -> Result<Exit, Exit> {
    let mut session = JobSession::new(config);
    let act = ScheduleRequest::Act { name: name.to_owned(), act: ScheduleAct::Run };
    let ScheduleReply::Started { run } = ask(&mut session, act)? else { return Err(nonsense()) };
    let printed = print(config.stdio, &format!("{run}\n"));
    if !waits || printed != Exit::Success {
        return Ok(printed);
    }
    let mut pause = LOOK_MIN;
    loop {
        let request = ScheduleRequest::Run { name: name.to_owned(), run, from: 0, limit: 1 };
        let ScheduleReply::Run { row, .. } = ask(&mut session, request)? else {
            return Err(nonsense());
        };
        match row.outcome.filter(|_| row.ended_s > 0) {
            None => {}
            Some(RunOutcome::Succeeded) => return Ok(Exit::Success),
            Some(outcome) => {
                say(format_args!("run {run} of {name}: {}", outcome.name()));
                for step in whole_run(&mut session, name, run)?.1 {
                    if let Some(StepEnd::Failed(reason)) = &step.end {
                        let (step, reason) =
                            (overview::one_line(&step.name), overview::one_line(reason));
                        say(format_args!("{name}: {step}: {reason}"));
                    }
                }
                return Ok(Exit::Failure);
            }
        }
        thread::sleep(pause);
        pause = (pause * 2).min(LOOK_MAX);
    }
}
