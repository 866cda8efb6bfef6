//! Pages of runs, and of the tasks of a run, read from the journal.

use super::record::{
    KeyRange, RunPart, StoredDifferences, StoredRun, differences_range, run_part, runs_range,
    steps_range,
};
use super::{Planner, PlannerRead};
use crate::jobs::{AskRefusal, Caller};
use crate::journal::{Rows, TableId};
use ipc_proto::message::{RunRow, ScheduleReply, ServiceRefusal, StepRow};

/// A request that waits for rows.
#[derive(Debug)]
pub(super) struct PageAsk {
    pub(super) reply_to: (Caller, u32),
    name: String,
    limit: u16,
    wanted: Wanted,
}

#[derive(Debug)]
enum Wanted {
    Runs { first: u64 },
    Head { run: u64, from: u32 },
    Steps { run: u64, head: StoredRun },
    Differences,
}

impl Planner {
    /// Reads the runs before a number, the newest ones.
    pub(super) fn read_runs(
        &mut self,
        reply_to: (Caller, u32),
        name: String,
        before: u64,
        limit: u16,
    ) {
        // Runs are numbered without holes, from 1.
        let first = before.saturating_sub(limit.into()).max(1);
        let range = runs_range(&name, first, before.max(1));
        self.read_page(PageAsk { reply_to, name, limit, wanted: Wanted::Runs { first } }, range);
    }

    /// Reads a run, and then its tasks from a number on.
    pub(super) fn read_run(
        &mut self,
        reply_to: (Caller, u32),
        name: String,
        run: u64,
        (from, limit): (u32, u16),
    ) {
        let range = runs_range(&name, run, run.saturating_add(1));
        self.read_page(
            PageAsk { reply_to, name, limit, wanted: Wanted::Head { run, from } },
            range,
        );
    }

    /// Reads a page of the differences of a task.
    pub(super) fn read_differences(
        &mut self,
        reply_to: (Caller, u32),
        name: String,
        run: u64,
        (step, page): (u32, u32),
    ) {
        let range = differences_range(&name, run, step, page);
        self.read_page(PageAsk { reply_to, name, limit: 1, wanted: Wanted::Differences }, range);
    }

    fn read_page(&mut self, page: PageAsk, (from, to): KeyRange) {
        self.read(PlannerRead::Reply(page), (TableId::Runs, from, to));
    }

    /// Takes in rows, and answers or reads on.
    pub(super) fn page_read(&mut self, page: PageAsk, rows: Result<Rows, String>) {
        let PageAsk { reply_to, name, limit, wanted } = page;
        let parts = rows.and_then(|rows| {
            let part = |(key, value): &(Vec<u8>, Vec<u8>)| {
                run_part(key, value).map(|(_, part)| part).map_err(|row| row.0)
            };
            let parts: Result<Vec<RunPart>, String> = rows.rows.iter().map(part).collect();
            parts.map(|parts| (parts, rows.more))
        });
        let (parts, is_cut) = match parts {
            Ok(parts) => parts,
            Err(text) => {
                let text = format!("the journal cannot be read: {text}");
                return self.refuse(reply_to, (ServiceRefusal::JournalFailed, text));
            }
        };
        let answer = match wanted {
            Wanted::Runs { first } => {
                let mut rows = run_rows(parts);
                rows.reverse();
                Ok(ScheduleReply::Runs { rows, more: first > 1 })
            }
            Wanted::Head { run, from } => match parts.into_iter().next() {
                Some(RunPart::Head(_, head)) => {
                    let range = steps_range(&name, run, from as usize);
                    let wanted = Wanted::Steps { run, head };
                    return self.read_page(PageAsk { reply_to, name, limit, wanted }, range);
                }
                Some(RunPart::Step(..) | RunPart::Differences(_)) | None => {
                    Err(unknown_run(&name, run))
                }
            },
            Wanted::Steps { run, head } => {
                let mut steps = step_rows(parts);
                let more = is_cut || steps.len() > usize::from(limit);
                steps.truncate(limit.into());
                Ok(ScheduleReply::Run { row: head.row(run), steps, more })
            }
            Wanted::Differences => {
                let rows = match parts.into_iter().next() {
                    Some(RunPart::Differences(StoredDifferences(rows))) => rows,
                    Some(RunPart::Head(..) | RunPart::Step(..)) | None => Vec::new(),
                };
                // Only the one after the last is empty.
                let more = !rows.is_empty();
                Ok(ScheduleReply::Differences { rows, more })
            }
        };
        self.answer(reply_to, answer);
    }
}

fn run_rows(parts: Vec<RunPart>) -> Vec<RunRow> {
    let row = |part| match part {
        RunPart::Head(run, row) => Some(row.row(run)),
        RunPart::Step(..) | RunPart::Differences(_) => None,
    };
    parts.into_iter().filter_map(row).collect()
}

fn step_rows(parts: Vec<RunPart>) -> Vec<StepRow> {
    let row = |part| match part {
        RunPart::Step(step, row) => Some(row.row(step)),
        RunPart::Head(..) | RunPart::Differences(_) => None,
    };
    parts.into_iter().filter_map(row).collect()
}

fn unknown_run(name: &str, run: u64) -> AskRefusal {
    let text = format!("there is no run {run} of {name}; see hashctl schedule runs {name}");
    (ServiceRefusal::UnknownSchedule, text)
}
