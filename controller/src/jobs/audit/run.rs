//! A comparison of the results of two jobs: a merge of two lists in the order of the walk, in up to three passes. Files without
//! a name in the earlier job are held, then earlier files of the same content, and then findings come out.
//!
//! [`AuditRun::advance`] says which rows of the journal it needs; [`AuditRun::take_rows`] gives it these.
//!
//! Invariant: memory is bounded by [`HELD_FILES_MAX`] and [`HELD_FILES_LEN_MAX`], and by what one read brings.

use super::super::ask::shown_name;
use super::super::record::{BadRow, FINDINGS_ROW, StoredAudit, StoredFindings, StoredResult};
use super::super::source::RowRange;
use super::earlier::{AuditDigest, EarlierFile, EarlierSide, ResultSide, digests_of};
use crate::journal::Rows;
use ipc_proto::message::{AuditFinding, AuditRow, Failure, JobId, JobSource, Stamp};
use ipc_proto::{Algorithm, Algorithms, Blob};
use schedule::moves::{Arrival, NewContent, OldContent, Presence, explain};
use schedule::{Cause, walk_order};
use std::cmp::Ordering;
use std::collections::{BTreeSet, HashSet};

/// Most new files, and most earlier ones of their contents, of which a comparison finds out where they come from.
const HELD_FILES_MAX: usize = 100_000;

/// Bytes of the names and digests of these, from which on no more are held.
const HELD_FILES_LEN_MAX: usize = 32 << 20;

/// Longest time between two timestamps of a file system, in nanoseconds: FAT has even seconds only.
const TICK_NS: i64 = 2_000_000_000;

/// A file with a content that may have moved.
#[derive(Debug)]
struct HeldFile {
    root: u16,
    path: Blob,
    /// Of a new file all its digests, of an earlier one the strongest.
    digests: Vec<AuditDigest>,
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
    fn push(&mut self, (root, path): (u16, &Blob), digests: Vec<AuditDigest>, presence: Presence) {
        if self.files.len() < HELD_FILES_MAX && self.len < HELD_FILES_LEN_MAX {
            let digests_len: usize = digests.iter().map(|(_, digest)| digest.len()).sum();
            self.len += path.len() + digests_len;
            self.files.push(HeldFile { root, path: path.clone(), digests, presence });
        }
    }

    /// Position of a file, if it is held. Files are asked for in the order in which they were held.
    fn meet(&mut self, (root, path): (u16, &Blob)) -> Option<usize> {
        let next = self.files.get(self.at)?;
        if (next.root, &next.path) != (root, path) {
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
    algorithms: Algorithms,
    before: EarlierSide,
    after: ResultSide,
    /// Path of the manifest in the dataset, and its lines that count for nothing.
    manifest: Option<(Blob, u32)>,
    /// Beginning of the earlier job, in nanoseconds since 1970.
    began_ns: i64,
    arrivals: HeldFiles,
    origins: HeldFiles,
    /// Explanation of each arrival, and the origins that moved.
    explained: Vec<Arrival>,
    moved: HashSet<usize>,
    contents: BTreeSet<AuditDigest>,
    /// The last file or directory that could not be read: what is below it is not known to be missing.
    unreadable: Option<(u16, Blob, Failure)>,
    pub(super) summary: StoredAudit,
    rows: Vec<AuditRow>,
}

/// An algorithm, the digest by it, and the one that was expected instead.
type WrongDigest = (Algorithm, Blob, Blob);

/// A finding before new files are explained.
struct Judged {
    finding: AuditFinding,
    presence: Presence,
    wrong: Option<WrongDigest>,
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
        algorithms: Algorithms,
        before: EarlierSide,
        began_s: u64,
        manifest: Option<(Blob, u32)>,
        number: u32,
    ) -> Self {
        let began_ns = i64::try_from(began_s).unwrap_or(0).saturating_mul(1_000_000_000);
        Self {
            job,
            number,
            is_reading: false,
            pass: AuditPass::Arrivals,
            algorithms,
            before,
            after: ResultSide::new(job, end),
            manifest,
            began_ns,
            arrivals: HeldFiles::default(),
            origins: HeldFiles::default(),
            explained: Vec::new(),
            moved: HashSet::new(),
            contents: BTreeSet::new(),
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
            let order = match (self.before.front(), self.after.files.front()) {
                (Some(before), Some(after)) => {
                    let roots = before.root.cmp(&after.root);
                    roots.then_with(|| walk_order(&before.path, &after.path))
                }
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) if self.pass == AuditPass::Findings => {
                    self.doubt();
                    self.flush(full);
                    return AuditNeed::Nothing;
                }
                (None, None) => {
                    self.next_pass();
                    continue;
                }
            };
            let before = if order == Ordering::Greater { None } else { self.before.pop() };
            let after = self.after.files.pop_front_if(|_| order != Ordering::Less);
            self.take(source, before.as_ref(), after.as_ref());
            if self.rows.len() as u64 == FINDINGS_ROW {
                self.flush(full);
            }
        }
    }

    /// Takes in the rows that it needed.
    pub(super) fn take_rows(&mut self, rows: &Rows) -> Result<(), BadRow> {
        if self.before.range().is_some() {
            return self.before.take(rows);
        }
        // What vanished before it was opened is not there.
        let gone = Failure::Io { errno: libc::ENOENT };
        self.after.take(rows, |of| of.failure() != Some(gone))
    }

    fn next_pass(&mut self) {
        self.pass = if self.pass == AuditPass::Arrivals && !self.arrivals.files.is_empty() {
            let contents = self.arrivals.files.iter().flat_map(|file| file.digests.clone());
            self.contents = contents.collect();
            AuditPass::Origins
        } else {
            self.explain();
            AuditPass::Findings
        };
        self.before = self.before.again();
        self.after = self.after.again();
        self.unreadable = None;
    }

    fn explain(&mut self) {
        let old = (0..).zip(&self.origins.files).flat_map(|(index, held)| {
            held.digests.iter().map(move |(algorithm, digest)| OldContent {
                key: (*algorithm, &digest[..]),
                name: &held.path,
                index,
                presence: held.presence,
            })
        });
        let new = (0..).zip(&self.arrivals.files).flat_map(|(file, held)| {
            held.digests.iter().map(move |(algorithm, digest)| NewContent {
                key: (*algorithm, &digest[..]),
                name: &held.path,
                file,
            })
        });
        self.explained = explain(old.collect(), new.collect(), self.arrivals.files.len());
        let moved = self.explained.iter().filter_map(|arrival| match arrival {
            Arrival::Moved(from) => Some(*from as usize),
            Arrival::New | Arrival::Copied(_) => None,
        });
        self.moved = moved.collect();
    }

    /// Takes one name, as one of the sides or both have it.
    fn take(
        &mut self,
        source: &JobSource,
        before: Option<&EarlierFile>,
        after: Option<&StoredResult>,
    ) {
        if before.is_none() && after.is_some_and(|after| self.is_manifest(source, after)) {
            return;
        }
        let digests = after.map(|after| digests_of(after, self.algorithms)).unwrap_or_default();
        let Judged { finding, presence, wrong } = self.judge(before, after, &digests);
        match self.pass {
            AuditPass::Arrivals => {
                // Every empty file equals every other one: it comes from nowhere.
                if let Some(after) = after
                    && finding == AuditFinding::New
                    && after.stamp.size > 0
                {
                    self.arrivals.push((after.root, &after.path), digests, presence);
                }
            }
            AuditPass::Origins => {
                if let Some(before) = before
                    && let Some(strongest) = before.strongest()
                    && self.contents.contains(strongest)
                {
                    let digests = vec![strongest.clone()];
                    self.origins.push((before.root, &before.path), digests, presence);
                }
            }
            AuditPass::Findings => self.found(source, (before, after), finding, wrong),
        }
    }

    fn found(
        &mut self,
        source: &JobSource,
        (before, after): (Option<&EarlierFile>, Option<&StoredResult>),
        mut finding: AuditFinding,
        wrong: Option<WrongDigest>,
    ) {
        let name = |root, path: &Blob| shown_name(source, root, path.clone());
        let origin = before.and_then(|before| self.origins.meet((before.root, &before.path)));
        if finding == AuditFinding::Missing && origin.is_some_and(|at| self.moved.contains(&at)) {
            return;
        }
        let mut from = Blob::default();
        let arrived = after.and_then(|after| self.arrivals.meet((after.root, &after.path)));
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
        if finding == AuditFinding::Matched {
            return;
        }
        let place = after.map(|after| (after.root, &after.path));
        let place = place.or(before.map(|before| (before.root, &before.path)));
        let Some((root, path)) = place else { return };
        let is_here = !matches!(finding, AuditFinding::Missing | AuditFinding::Unreadable);
        let unreadable = self.unreadable.as_ref().map(|(.., failure)| *failure);
        let missing = before.filter(|_| finding == AuditFinding::Missing);
        let (algorithm, digest, expected) = match wrong {
            Some((algorithm, digest, expected)) => (Some(algorithm), digest, expected),
            None => {
                let first = missing.and_then(|before| before.digests.first());
                let expected = first.map(|(_, digest)| digest.clone());
                (None, Blob::default(), expected.unwrap_or_default())
            }
        };
        self.push(AuditRow {
            finding,
            name: name(root, path),
            from,
            size: after.filter(|_| is_here).map_or(0, |after| after.stamp.size),
            algorithm,
            digest,
            expected,
            failure: unreadable.filter(|_| finding == AuditFinding::Unreadable),
        });
    }

    fn push(&mut self, row: AuditRow) {
        let len = row.name.len() + row.from.len() + row.digest.len() + row.expected.len() + 16;
        self.summary.len += len as u64;
        self.rows.push(row);
    }

    /// Adds a finding about lines of the manifest that count for nothing.
    fn doubt(&mut self) {
        let Some((name, lines)) = self.manifest.take().filter(|(_, lines)| *lines > 0) else {
            return;
        };
        let finding = AuditFinding::Unreadable;
        self.summary.counts.add_one(finding);
        self.push(AuditRow {
            finding,
            name,
            from: Blob::default(),
            size: 0,
            algorithm: None,
            digest: Blob::default(),
            expected: Blob::default(),
            failure: Some(Failure::BadLines { lines }),
        });
    }

    /// True if it is the manifest, which names itself seldom.
    fn is_manifest(&self, source: &JobSource, of: &StoredResult) -> bool {
        let Some((manifest, _)) = &self.manifest else { return false };
        let root = source.roots().get(usize::from(of.root)).map_or(&[][..], |root| &root.path[..]);
        let rest = if root.is_empty() {
            Some(&manifest[..])
        } else {
            manifest.strip_prefix(root).and_then(|rest| rest.strip_prefix(b"/"))
        };
        rest == Some(&of.path[..])
    }

    fn judge(
        &mut self,
        before: Option<&EarlierFile>,
        after: Option<&StoredResult>,
        digests: &[AuditDigest],
    ) -> Judged {
        let is = |finding, presence| Judged { finding, presence, wrong: None };
        if let Some(after) = after
            && let Some(failure) = after.failure()
        {
            self.unreadable = Some((after.root, after.path.clone(), failure));
            return is(AuditFinding::Unreadable, Presence::Present);
        }
        let (before, after) = match (before, after) {
            (Some(before), Some(after)) => (before, after),
            (Some(before), None) if self.is_unreadable(before) => {
                return is(AuditFinding::Unreadable, Presence::Present);
            }
            (Some(_), None) => return is(AuditFinding::Missing, Presence::Missing),
            (None, _) => return is(AuditFinding::New, Presence::Present),
        };
        let wrong = before.digests.iter().find_map(|(algorithm, expected)| {
            let now = digests.iter().find(|(of, _)| of == algorithm).map(|(_, digest)| digest);
            let is_wrong = now != Some(expected);
            is_wrong.then(|| (*algorithm, now.cloned().unwrap_or_default(), expected.clone()))
        });
        if wrong.is_none() {
            return is(AuditFinding::Matched, Presence::Present);
        }
        let cause = before.stamp.map_or(Cause::Unknown, |stamp| {
            // A file whose status changed while that job went on could have been read before the change.
            let is_racy = stamp.ctime_ns >= self.began_ns.saturating_sub(TICK_NS);
            let times = |of: Stamp| (of.size, of.mtime_ns);
            Cause::of(times(stamp), times(after.stamp), is_racy)
        });
        let finding = match cause {
            Cause::Unknown => AuditFinding::Changed,
            Cause::Modified => AuditFinding::Modified,
            Cause::Older => AuditFinding::Older,
            Cause::Rotted => AuditFinding::Rotted,
        };
        Judged { finding, presence: Presence::Changed, wrong }
    }

    /// True if it is below a directory that could not be listed.
    fn is_unreadable(&self, of: &EarlierFile) -> bool {
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
