//! Comparison of a task's results with those of its last good run, page by page.
//!
//! A run is good for the next one if every file has a digest and none rotted: what rotted is reported until it is
//! mended. A comparison that a crash cuts off begins again, and writes the same rows.

use super::record::{
    StoredBase, StoredDifferences, forget_base, forget_differences, put_base, put_differences,
};
use super::scrub::{Places, bases_for};
use super::{BookAsk, POLL, POLL_FIRST, Planner};
use crate::journal::Write;
use ipc_proto::Blob;
use ipc_proto::limits::SCHEDULE_ROWS_MAX;
use ipc_proto::message::{
    ChangeCounts, DifferenceKind, DifferenceRow, ItemOutcome, JobId, JobRow, NameShare, ResultRow,
    ServiceRefusal, ServiceRequest, StepEnd,
};
use schedule::{Cause, Differences, FileChange, FileDifference, RunFile, RunSide};
use std::collections::VecDeque;

/// Results of one request.
const RESULTS_LIMIT: u16 = 1_024;

/// Differences of a task that are kept; all are counted.
pub(super) const DIFFERENCES_MAX: usize = 100_000;

/// Bytes of a page from which on the next one begins.
const PAGE_LEN: usize = 256 << 10;

/// A comparison that goes on.
#[derive(Debug)]
pub(super) struct Comparison {
    schedule: String,
    run: u64,
    step: usize,
    differences: Differences,
    before: ResultList,
    after: ResultList,
    /// The places that are compared, and the earlier runs with which the others are.
    places: Places,
    rest: Vec<(StoredBase, Places)>,
    /// The later run, if it is a good one.
    next_base: StoredBase,
    counts: ChangeCounts,
    pages: DifferencePages,
}

/// Differences of a task on their way to the journal.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct DifferencePages {
    page: Vec<DifferenceRow>,
    page_len: usize,
    kept: usize,
    full: Vec<StoredDifferences>,
    /// Number of pages that were written.
    written: u32,
}

impl DifferencePages {
    /// True if no more are kept.
    pub(super) fn is_full(&self) -> bool {
        self.kept >= DIFFERENCES_MAX
    }

    /// Adds one, unless no more are kept.
    pub(super) fn push(&mut self, row: DifferenceRow) {
        if self.is_full() {
            return;
        }
        self.kept += 1;
        self.page_len += row.name.len() + row.from.len() + 16;
        self.page.push(row);
        if self.page_len >= PAGE_LEN || self.page.len() >= SCHEDULE_ROWS_MAX {
            self.end_page();
        }
    }

    /// Ends the page that is not full.
    pub(super) fn end_page(&mut self) {
        self.page_len = 0;
        let page = std::mem::take(&mut self.page);
        self.full.extend((!page.is_empty()).then_some(StoredDifferences(page)));
    }

    /// Writes of the pages that are full.
    pub(super) fn writes(&mut self, of: (&str, u64, usize)) -> Vec<Write> {
        let full = std::mem::take(&mut self.full);
        let pages = (self.written..).zip(full);
        let writes: Vec<Write> =
            pages.map(|(number, page)| put_differences(of, number, &page)).collect();
        self.written += u32::try_from(writes.len()).unwrap_or(u32::MAX);
        writes
    }
}

/// Results of a job, as far as they are here.
#[derive(Debug)]
struct ResultList {
    job: JobId,
    /// The first item that is not here yet.
    next: u64,
    files: VecDeque<RunFile>,
    has_ended: bool,
}

impl ResultList {
    fn new(job: JobId) -> Self {
        Self { job, next: 0, files: VecDeque::new(), has_ended: false }
    }
}

/// The state of a comparison after a step.
enum Progress {
    /// It needs results of this job from that item on.
    Wants(JobId, u64),
    Done,
    /// The names of a job are not in the order of a walk, so that nothing can be said.
    Unordered,
}

impl Comparison {
    /// True if it is of a run of this schedule.
    pub(super) fn is_of(&self, schedule: &str) -> bool {
        self.schedule == schedule
    }

    /// Begins with the next one of the earlier runs; false if there is none.
    fn begin_next(&mut self) -> bool {
        let Some((base, places)) = self.rest.pop() else { return false };
        let began_ns = i64::try_from(base.began_s).unwrap_or(0).saturating_mul(1_000_000_000);
        self.differences = Differences::new(began_ns);
        self.before = ResultList::new(base.job);
        self.after = ResultList::new(self.next_base.job);
        self.places = places;
        true
    }

    fn list(&mut self, side: RunSide) -> &mut ResultList {
        match side {
            RunSide::Before => &mut self.before,
            RunSide::After => &mut self.after,
        }
    }

    /// Goes on as far as results are here.
    fn advance(&mut self) -> Progress {
        loop {
            if let Some(side) = self.differences.wants() {
                let list = self.list(side);
                match list.files.pop_front() {
                    Some(file) => {
                        if self.differences.push(side, file).is_err() {
                            return Progress::Unordered;
                        }
                    }
                    None if list.has_ended => self.differences.end(side),
                    None => return Progress::Wants(list.job, list.next),
                }
            } else if let Some(found) = self.differences.pull() {
                self.found(found);
            } else if self.differences.wants().is_none() && !self.begin_next() {
                self.pages.end_page();
                return Progress::Done;
            }
        }
    }

    fn found(&mut self, found: FileDifference) {
        let (kind, from) = match found.change {
            FileChange::New => (DifferenceKind::New, Vec::new()),
            FileChange::Gone => (DifferenceKind::Gone, Vec::new()),
            FileChange::Moved(from) => (DifferenceKind::Moved, from),
            FileChange::Changed(Cause::Rotted) => (DifferenceKind::Rotted, Vec::new()),
            FileChange::Changed(Cause::Older) => (DifferenceKind::Older, Vec::new()),
            FileChange::Changed(Cause::Modified | Cause::Unknown) => {
                (DifferenceKind::Changed, Vec::new())
            }
        };
        self.counts.add_one(kind);
        self.pages.push(DifferenceRow { kind, name: Blob(found.name), from: Blob(from) });
    }
}

impl Planner {
    /// Compares a task whose job is done with its last good run, if there is one, and then ends it.
    pub(super) fn begin_comparison(&mut self, name: &str, step: usize, job: &JobRow) {
        let Some(planned) = self.planned.get_mut(name) else { return };
        let task = planned.schedule.steps[step].name.clone();
        let Some(run) = &mut planned.run else { return };
        let next_base = StoredBase {
            job: job.id,
            began_s: job.created_s,
            algorithms: job.spec.algorithms,
            source: job.spec.source.clone(),
            share: job.spec.share,
        };
        let mut rest = bases_for(&planned.bases, &task, &next_base);
        // The latest is taken first, from the end.
        rest.reverse();
        if rest.is_empty() {
            let number = run.number;
            self.set_base(name, &task, number, next_base);
            return self.compared(name, step, None);
        }
        if self.comparison.is_some() {
            return self.look_later(name, step, POLL_FIRST);
        }
        run.set_comparing(step);
        let number = run.number;
        self.next.writes.push(forget_differences(name, number, step));
        let comparison = self.comparison.insert(Comparison {
            schedule: name.to_owned(),
            run: number,
            step,
            differences: Differences::new(0),
            before: ResultList::new(job.id),
            after: ResultList::new(job.id),
            places: Places::new(),
            rest,
            next_base,
            counts: ChangeCounts::default(),
            pages: DifferencePages::default(),
        });
        comparison.begin_next();
        self.compare();
    }

    fn set_base(&mut self, name: &str, task: &str, run: u64, base: StoredBase) {
        let run = if base.share == NameShare::ALL { 0 } else { run };
        self.next.writes.push(put_base(name, task, run, &base));
        if let Some(planned) = self.planned.get_mut(name) {
            planned.bases.insert((task.to_owned(), run), base);
        }
        self.forget_bases(name, task);
    }

    /// Goes on with the comparison.
    pub(super) fn compare(&mut self) {
        let Some(mut comparison) = self.comparison.take() else { return };
        let progress = comparison.advance();
        let (name, run, step) = (comparison.schedule.clone(), comparison.run, comparison.step);
        self.next.writes.extend(comparison.pages.writes((&name, run, step)));
        let Some(planned) = self.planned.get(&name) else { return };
        let (owner, task) = (planned.state.owner(), planned.schedule.steps[step].name.clone());
        match progress {
            Progress::Wants(job, from) => {
                self.comparison = Some(comparison);
                let ask = BookAsk { schedule: name, run, step, owner, is_submit: false };
                let request =
                    ServiceRequest::Results { job, from, limit: RESULTS_LIMIT, wait_ms: 0 };
                self.ask_book(ask, request);
            }
            Progress::Done => {
                if comparison.counts.of(DifferenceKind::Rotted) == 0 {
                    self.set_base(&name, &task, run, comparison.next_base);
                }
                self.compared(&name, step, Some(comparison.counts));
            }
            Progress::Unordered => {
                self.next.writes.push(forget_differences(&name, run, step));
                self.compared(&name, step, None);
            }
        }
    }

    /// Ends a step, which was compared or cannot be.
    pub(super) fn compared(&mut self, name: &str, step: usize, changes: Option<ChangeCounts>) {
        if let Some(run) = self.run_mut(name) {
            run.set_changes(step, changes);
            self.running -= 1;
            self.end_step(name, step, StepEnd::Succeeded);
        }
    }

    /// Takes in results that the comparison wanted.
    pub(super) fn results_came(
        &mut self,
        job: JobId,
        from: u64,
        rows: Vec<ResultRow>,
        is_last: bool,
    ) {
        let Some(comparison) = &mut self.comparison else { return };
        let side = if job == comparison.before.job { RunSide::Before } else { RunSide::After };
        let places = comparison.places.clone();
        let list = comparison.list(side);
        if job == list.job && from == list.next && list.files.is_empty() {
            list.next += rows.len() as u64;
            // A page without rows of a job that has ended is its end, too.
            list.has_ended = is_last || rows.is_empty();
            let is_wanted = |row: &ResultRow| {
                let place = u64::from(NameShare::place(&row.name));
                places.iter().any(|range| range.contains(&place))
            };
            list.files = rows.into_iter().filter(is_wanted).map(file).collect();
        }
        self.compare();
    }

    /// Gives a comparison up whose results are gone, or has it go on later.
    pub(super) fn results_refused(&mut self, name: &str, step: usize, reason: ServiceRefusal) {
        if reason != ServiceRefusal::UnknownJob {
            return self.look_later(name, step, POLL);
        }
        let Some(comparison) = self.comparison.take() else { return };
        let Some(planned) = self.planned.get(name) else { return };
        let task = planned.schedule.steps[step].name.clone();
        self.next.writes.push(forget_differences(name, comparison.run, step));
        let is_gone = |base: &StoredBase| base.job == comparison.before.job;
        if let Some(planned) = self.planned.get_mut(name) {
            for (key, _) in planned.bases.extract_if(.., |_, base| is_gone(base)) {
                self.next.writes.push(forget_base(name, &key.0, key.1));
            }
        }
        self.set_base(name, &task, comparison.run, comparison.next_base);
        self.compared(name, step, None);
    }
}

fn file(row: ResultRow) -> RunFile {
    let digests = match row.outcome {
        ItemOutcome::Digests(digests) | ItemOutcome::Mismatch(digests) => Some(digests.0),
        ItemOutcome::Failed(_) => None,
    };
    RunFile {
        name: row.name.0,
        digests,
        size: row.stamp.size,
        mtime_ns: row.stamp.mtime_ns,
        ctime_ns: row.stamp.ctime_ns,
    }
}
