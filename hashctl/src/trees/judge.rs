//! Judging a file by all the digests that manifests have of it.

use super::claims::ClaimTable;
use super::found::look_at;
use crate::engine::function::Function;
use crate::engine::reorder::{Item, Verdict};
use crate::problem::Problem;
use schedule::Cause;

/// Digests of one file, collected from a run's items.
#[derive(Debug, Default)]
pub(crate) struct FileDigests {
    digests: Vec<(Function, Vec<u8>)>,
    pub(crate) problem: Option<Problem>,
    pub(crate) size: u64,
}

impl FileDigests {
    /// Takes the outcome of one read.
    pub(crate) fn take(&mut self, item: &Item<'_>) {
        match item.verdict {
            Verdict::Digest => {
                self.size = item.size;
                let digests = item.each().map(|item| (item.label.function, item.digest.to_vec()));
                self.digests.extend(digests);
            }
            Verdict::Problem(problem) => self.problem = self.problem.or(Some(problem)),
            Verdict::Waiting | Verdict::Skipped(_) | Verdict::Mark(_) => {}
        }
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (Function, &[u8])> {
        self.digests.iter().map(|(function, digest)| (*function, &**digest))
    }

    pub(crate) fn get(&self, function: Function) -> Option<&[u8]> {
        self.all().find(|(other, _)| *other == function).map(|(_, digest)| digest)
    }

    /// The first of these entries that has another digest.
    pub(crate) fn wrong(&self, claims: &ClaimTable, rows: &[u32]) -> Option<u32> {
        let is_wrong = |row: u32| self.get(claims.function(row)) != Some(claims.digest(row));
        rows.iter().copied().find(|&row| is_wrong(row))
    }
}

/// The cause of a wrong digest of the file at `path` with these entries, as far as a state tells.
pub(crate) fn cause_of(claims: &ClaimTable, rows: &[u32], path: &[u8]) -> Cause {
    let Some(seen) = rows.iter().find_map(|&row| claims.seen(row)) else { return Cause::Unknown };
    // Looked at now, not before it was read: it may have been written to since.
    look_at(path).map_or(Cause::Unknown, |now| seen.cause(&now))
}
