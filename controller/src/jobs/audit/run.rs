//! A comparison of the results of two jobs: a merge of two lists in the order of the walk, in up to three passes. Files without
//! a name in the earlier job are held, then earlier files of the same content, and then findings come out.
//!
//! [`AuditRun::advance`] says which rows of the journal it needs; [`AuditRun::take_rows`] gives it these.
//!
//! Invariant: memory is bounded by [`HELD_FILES_MAX`] and [`HELD_FILES_LEN_MAX`], and by what one read brings.

use super::super::ask::shown_name;
use super::super::packed::unpack;
use super::super::record::{
    BadRow, FINDINGS_ROW, StoredAudit, StoredFindings, StoredResult, end_key, index_of, item_key,
};
use super::super::source::RowRange;
use crate::journal::{Rows, TableId};
use ipc_proto::message::{AuditFinding, AuditRow, Failure, ItemOutcome, JobId, JobSource};
use ipc_proto::{Algorithm, Blob};
use schedule::moves::{Arrival, NewContent, OldContent, Presence, explain};
use schedule::{Cause, walk_order};
use std::cmp::Ordering;
use std::collections::{HashSet, VecDeque};

/// Most new files, and most earlier ones of their contents, of which a comparison finds out where they come from.
const HELD_FILES_MAX: usize = 100_000;

/// Bytes of the names and digests of these, from which on no more are held.
const HELD_FILES_LEN_MAX: usize = 32 << 20;

/// Longest time between two timestamps of a file system, in nanoseconds: FAT has even seconds only.
const TICK_NS: i64 = 2_000_000_000;

/// Results of a job, as far as they are here.
#[derive(Debug)]
struct AuditSide {
    job: JobId,
    /// The next result to read, and their number.
    next: u64,
    end: u64,
    files: VecDeque<StoredResult>,
}

impl AuditSide {
    fn new(job: JobId, end: u64) -> Self {
        Self { job, next: 0, end, files: VecDeque::new() }
    }

    fn range(&self) -> Option<RowRange> {
        let is_needed = self.files.is_empty() && self.next < self.end;
        let range = (TableId::Results, item_key(self.job, self.next), end_key(self.job));
        is_needed.then_some(range)
    }

    /// Takes in rows from `next` on; of their results those that `is_file` accepts.
    fn take(&mut self, rows: &Rows, is_file: impl Fn(&StoredResult) -> bool) -> Result<(), BadRow> {
        let before = self.next;
        for (key, value) in &rows.rows {
            if index_of(key)? != self.next {
                break;
            }
            let results = unpack(value)?;
            self.next += results.len() as u64;
            self.files.extend(results.into_iter().filter(&is_file));
        }
        if self.next == before {
            return Err(BadRow("a chunk of results is missing".to_owned()));
        }
        Ok(())
    }
}

/// A file with a content that may have moved.
#[derive(Debug)]
struct HeldFile {
    root: u16,
    path: Blob,
    digests: Blob,
    presence: Presence,
}

/// Files that are held, within bounds.
#[derive(Debug, Default)]
struct HeldFiles {
    files: Vec<HeldFile>,
    len: usize,
    /// The next one to meet in the pass that writes.
    at: usize,
}

impl HeldFiles {
    fn push(&mut self, of: &StoredResult, presence: Presence) {
        if self.files.len() < HELD_FILES_MAX && self.len < HELD_FILES_LEN_MAX {
            let digests = Blob::from(digests(of));
            self.len += of.path.len() + digests.len();
            self.files.push(HeldFile { root: of.root, path: of.path.clone(), digests, presence });
        }
    }

    /// Position of a file, if it is held. Files are asked for in the order in which they were held.
    fn meet(&mut self, of: &StoredResult) -> Option<usize> {
        let next = self.files.get(self.at)?;
        if (next.root, &next.path) != (of.root, &of.path) {
            return None;
        }
        self.at += 1;
        Some(self.at - 1)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AuditPass {
    /// New files are held.
    Arrivals,
    /// Earlier files with the content of one of those are held.
    Origins,
    /// Findings are written.
    Findings,
}

/// A comparison that goes on.
#[derive(Debug)]
pub(in super::super) struct AuditRun {
    pub(super) job: JobId,
    pub(super) number: u32,
    pub(super) is_reading: bool,
    pass: AuditPass,
    before: AuditSide,
    after: AuditSide,
    /// Beginning of the earlier job, in nanoseconds since 1970.
    began_ns: i64,
    arrivals: HeldFiles,
    origins: HeldFiles,
    /// Explanation of each arrival, and the origins that moved.
    explained: Vec<Arrival>,
    moved: HashSet<usize>,
    contents: HashSet<Vec<u8>>,
    /// The last file or directory that could not be read: what is below it is not known to be missing.
    unreadable: Option<(u16, Blob, Failure)>,
    pub(super) summary: StoredAudit,
    rows: Vec<AuditRow>,
}

/// The next need of a comparison.
pub(super) enum AuditNeed {
    Rows(RowRange),
    /// Nothing: it is over.
    Nothing,
}

impl AuditRun {
    pub(super) fn new(
        (job, end): (JobId, u64),
        (base, base_end): (JobId, u64),
        began_s: u64,
        number: u32,
    ) -> Self {
        let began_ns = i64::try_from(began_s).unwrap_or(0).saturating_mul(1_000_000_000);
        Self {
            job,
            number,
            is_reading: false,
            pass: AuditPass::Arrivals,
            before: AuditSide::new(base, base_end),
            after: AuditSide::new(job, end),
            began_ns,
            arrivals: HeldFiles::default(),
            origins: HeldFiles::default(),
            explained: Vec::new(),
            moved: HashSet::new(),
            contents: HashSet::new(),
            unreadable: None,
            summary: StoredAudit::default(),
            rows: Vec::new(),
        }
    }

    pub(in super::super) fn is_of(&self, job: JobId) -> bool {
        self.job == job
    }

    /// Goes on as far as results are here. Rows of findings that are full are added to `full`, with the number of those
    /// before them.
    pub(super) fn advance(
        &mut self,
        source: &JobSource,
        full: &mut Vec<(u64, StoredFindings)>,
    ) -> AuditNeed {
        loop {
            if let Some(range) = self.before.range().or_else(|| self.after.range()) {
                return AuditNeed::Rows(range);
            }
            let order = match (self.before.files.front(), self.after.files.front()) {
                (Some(before), Some(after)) => {
                    let roots = before.root.cmp(&after.root);
                    roots.then_with(|| walk_order(&before.path, &after.path))
                }
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) if self.pass == AuditPass::Findings => {
                    self.flush(full);
                    return AuditNeed::Nothing;
                }
                (None, None) => {
                    self.next_pass();
                    continue;
                }
            };
            let before = self.before.files.pop_front_if(|_| order != Ordering::Greater);
            let after = self.after.files.pop_front_if(|_| order != Ordering::Less);
            self.take(source, before.as_ref(), after.as_ref());
            if self.rows.len() as u64 == FINDINGS_ROW {
                self.flush(full);
            }
        }
    }

    /// Takes in the rows that it needed.
    pub(super) fn take_rows(&mut self, rows: &Rows) -> Result<(), BadRow> {
        match self.before.range() {
            // Nothing is known of what had no digest.
            Some(_) => self.before.take(rows, |of| of.failure().is_none()),
            // What vanished before it was opened is not there.
            None => {
                let gone = Failure::Io { errno: libc::ENOENT };
                self.after.take(rows, |of| of.failure() != Some(gone))
            }
        }
    }

    fn next_pass(&mut self) {
        self.pass = if self.pass == AuditPass::Arrivals && !self.arrivals.files.is_empty() {
            let contents = self.arrivals.files.iter().map(|file| file.digests.to_vec());
            self.contents = contents.collect();
            AuditPass::Origins
        } else {
            self.explain();
            AuditPass::Findings
        };
        self.before = AuditSide::new(self.before.job, self.before.end);
        self.after = AuditSide::new(self.after.job, self.after.end);
        self.unreadable = None;
    }

    fn explain(&mut self) {
        // Both jobs have the same algorithms, so that any name stands for them.
        let old = (0..).zip(&self.origins.files).map(|(index, file)| OldContent {
            key: (Algorithm::Sha256, &file.digests[..]),
            name: &file.path,
            index,
            presence: file.presence,
        });
        let new = (0..).zip(&self.arrivals.files).map(|(file, held)| NewContent {
            key: (Algorithm::Sha256, &held.digests[..]),
            name: &held.path,
            file,
        });
        self.explained = explain(old.collect(), new.collect(), self.arrivals.files.len());
        let moved = self.explained.iter().filter_map(|arrival| match arrival {
            Arrival::Moved(from) => Some(*from as usize),
            Arrival::New | Arrival::Copied(_) => None,
        });
        self.moved = moved.collect();
    }

    /// Takes one name, as one of the jobs or both have it.
    fn take(
        &mut self,
        source: &JobSource,
        before: Option<&StoredResult>,
        after: Option<&StoredResult>,
    ) {
        let (mut finding, presence) = self.judge(before, after);
        match self.pass {
            AuditPass::Arrivals => {
                // Every empty file equals every other one: it comes from nowhere.
                if let Some(after) = after
                    && finding == AuditFinding::New
                    && after.stamp.size > 0
                {
                    self.arrivals.push(after, presence);
                }
                return;
            }
            AuditPass::Origins => {
                if let Some(before) = before
                    && self.contents.contains(digests(before))
                {
                    self.origins.push(before, presence);
                }
                return;
            }
            AuditPass::Findings => {}
        }
        let name = |root, path: &Blob| shown_name(source, root, path.clone());
        let origin = before.and_then(|before| self.origins.meet(before));
        if finding == AuditFinding::Missing && origin.is_some_and(|at| self.moved.contains(&at)) {
            return;
        }
        let mut from = Blob::default();
        let arrived = after.and_then(|after| self.arrivals.meet(after));
        if let Some(arrival) = arrived.and_then(|at| self.explained.get(at)) {
            let index = match *arrival {
                Arrival::New => None,
                Arrival::Moved(index) => {
                    finding = AuditFinding::Moved;
                    Some(index)
                }
                Arrival::Copied(index) => {
                    finding = AuditFinding::Copied;
                    Some(index)
                }
            };
            let origin = index.and_then(|index| self.origins.files.get(index as usize));
            from = origin.map_or(from, |origin| name(origin.root, &origin.path));
        }
        self.summary.counts.add_one(finding);
        let Some(of) = after.or(before).filter(|_| finding != AuditFinding::Matched) else {
            return;
        };
        let is_change =
            matches!(finding, AuditFinding::Modified | AuditFinding::Older | AuditFinding::Rotted);
        let has_expected = is_change || finding == AuditFinding::Missing;
        let is_here = !matches!(finding, AuditFinding::Missing | AuditFinding::Unreadable);
        let known = |of: Option<&StoredResult>, is_wanted: bool| {
            Blob::from(of.filter(|_| is_wanted).map_or(&[][..], digests))
        };
        let unreadable = self.unreadable.as_ref().map(|(.., failure)| *failure);
        let row = AuditRow {
            finding,
            name: name(of.root, &of.path),
            from,
            size: if is_here { of.stamp.size } else { 0 },
            digests: known(after, is_change),
            expected: known(before, has_expected),
            failure: unreadable.filter(|_| finding == AuditFinding::Unreadable),
        };
        let len = row.name.len() + row.from.len() + row.digests.len() + row.expected.len() + 16;
        self.summary.len += len as u64;
        self.rows.push(row);
    }

    fn judge(
        &mut self,
        before: Option<&StoredResult>,
        after: Option<&StoredResult>,
    ) -> (AuditFinding, Presence) {
        if let Some(after) = after
            && let Some(failure) = after.failure()
        {
            self.unreadable = Some((after.root, after.path.clone(), failure));
            return (AuditFinding::Unreadable, Presence::Present);
        }
        let (before, after) = match (before, after) {
            (Some(before), Some(after)) => (before, after),
            (Some(before), None) if self.is_unreadable(before) => {
                return (AuditFinding::Unreadable, Presence::Present);
            }
            (Some(_), None) => return (AuditFinding::Missing, Presence::Missing),
            (None, _) => return (AuditFinding::New, Presence::Present),
        };
        if digests(before) == digests(after) {
            return (AuditFinding::Matched, Presence::Present);
        }
        // A file whose status changed while that job went on could have been read before the change.
        let is_racy = before.stamp.ctime_ns >= self.began_ns.saturating_sub(TICK_NS);
        let times = |of: &StoredResult| (of.stamp.size, of.stamp.mtime_ns);
        let finding = match Cause::of(times(before), times(after), is_racy) {
            Cause::Unknown | Cause::Modified => AuditFinding::Modified,
            Cause::Older => AuditFinding::Older,
            Cause::Rotted => AuditFinding::Rotted,
        };
        (finding, Presence::Changed)
    }

    /// True if it is below a directory that could not be listed.
    fn is_unreadable(&self, of: &StoredResult) -> bool {
        self.unreadable.as_ref().is_some_and(|(root, dir, _)| {
            let rest = of.path.strip_prefix(&dir[..]);
            *root == of.root && rest.is_some_and(|rest| rest.starts_with(b"/"))
        })
    }

    fn flush(&mut self, full: &mut Vec<(u64, StoredFindings)>) {
        let rows = std::mem::take(&mut self.rows);
        if !rows.is_empty() {
            let first = self.summary.findings;
            self.summary.findings += rows.len() as u64;
            full.push((first, StoredFindings(rows)));
        }
    }
}

/// The digests of a result; empty if it has none.
fn digests(of: &StoredResult) -> &[u8] {
    match &of.outcome {
        ItemOutcome::Digests(digests) | ItemOutcome::Mismatch(digests) => digests,
        ItemOutcome::Failed(_) => &[],
    }
}
