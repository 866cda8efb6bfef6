//! The earlier side of an audit: results of a job, or claims of a manifest, in the order of the walk.

use super::super::packed::unpack;
use super::super::record::{
    BadRow, StoredClaim, StoredResult, end_key, index_of, item_key, record,
};
use super::super::source::RowRange;
use crate::journal::{Rows, TableId};
use ipc_proto::message::{ItemOutcome, JobId, Stamp};
use ipc_proto::{Algorithm, Algorithms, Blob};
use std::collections::VecDeque;

/// Fewest bytes of a digest by which contents are better told apart than by a legacy one.
const STRONG_LEN_MIN: usize = 28;

/// A digest and its algorithm.
pub(super) type AuditDigest = (Algorithm, Blob);

/// A file as it was, with at least one digest.
#[derive(Debug)]
pub(super) struct EarlierFile {
    pub(super) root: u16,
    pub(super) path: Blob,
    /// Unknown of one that a manifest names.
    pub(super) stamp: Option<Stamp>,
    pub(super) digests: Vec<AuditDigest>,
}

/// Different digests of an algorithm that are kept: of two, one is wrong, and more say no more.
const CLAIMS_KEPT: usize = 2;

impl EarlierFile {
    /// Adds a claim, of which a list may have any number.
    fn claim(&mut self, algorithm: Algorithm, digest: Blob) {
        let of_it = self.digests.iter().filter(|(other, _)| *other == algorithm);
        let (mut kept, mut is_known) = (0, false);
        for (_, known) in of_it {
            kept += 1;
            is_known |= *known == digest;
        }
        if !is_known && kept < CLAIMS_KEPT {
            self.digests.push((algorithm, digest));
        }
    }

    /// The digest that tells most about the content.
    pub(super) fn strongest(&self) -> Option<&AuditDigest> {
        // Of equal ones the first.
        self.digests.iter().rev().max_by_key(|(algorithm, digest)| {
            let is_strong = !algorithm.is_legacy() && digest.len() >= STRONG_LEN_MIN;
            (is_strong, digest.len(), *algorithm)
        })
    }
}

/// Results of a job, as far as they are here.
#[derive(Debug)]
pub(super) struct ResultSide {
    job: JobId,
    /// The next result to read, and their number.
    next: u64,
    end: u64,
    pub(super) files: VecDeque<StoredResult>,
}

impl ResultSide {
    pub(super) fn new(job: JobId, end: u64) -> Self {
        Self { job, next: 0, end, files: VecDeque::new() }
    }

    /// The same from the start.
    pub(super) fn again(&self) -> Self {
        Self::new(self.job, self.end)
    }

    pub(super) fn range(&self) -> Option<RowRange> {
        let is_needed = self.files.is_empty() && self.next < self.end;
        let range = (TableId::Results, item_key(self.job, self.next), end_key(self.job));
        is_needed.then_some(range)
    }

    /// Takes in rows from `next` on; of their results those that `is_file` accepts.
    pub(super) fn take(
        &mut self,
        rows: &Rows,
        is_file: impl Fn(&StoredResult) -> bool,
    ) -> Result<(), BadRow> {
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

/// Claims of a manifest, as far as they are here.
#[derive(Debug)]
pub(super) struct ClaimSide {
    job: JobId,
    /// The first key that was not read yet; none if all were.
    next: Option<Vec<u8>>,
    /// The last file, of which there may be more claims.
    open: Option<EarlierFile>,
    files: VecDeque<EarlierFile>,
}

impl ClaimSide {
    pub(super) fn new(job: JobId) -> Self {
        Self { job, next: Some(item_key(job, 0)), open: None, files: VecDeque::new() }
    }

    fn take(&mut self, rows: &Rows) -> Result<(), BadRow> {
        for (_, value) in &rows.rows {
            let StoredClaim { root, path, algorithm, digest } = record(value)?;
            match &mut self.open {
                Some(open) if (open.root, &open.path) == (root, &path) => {
                    open.claim(algorithm, digest);
                }
                open => {
                    let digests = vec![(algorithm, digest)];
                    self.files.extend(open.replace(EarlierFile {
                        root,
                        path,
                        stamp: None,
                        digests,
                    }));
                }
            }
        }
        self.next = rows.rows.last().filter(|_| rows.more).map(|(key, _)| [key, &[0][..]].concat());
        if self.next.is_none() {
            self.files.extend(self.open.take());
        }
        Ok(())
    }
}

/// The earlier side.
#[derive(Debug)]
pub(super) enum EarlierSide {
    Job { results: ResultSide, algorithms: Algorithms, next: Option<EarlierFile> },
    Manifest(ClaimSide),
}

impl EarlierSide {
    /// The same from the start.
    pub(super) fn again(&self) -> Self {
        match self {
            Self::Job { results, algorithms, .. } => {
                Self::Job { results: results.again(), algorithms: *algorithms, next: None }
            }
            Self::Manifest(claims) => Self::Manifest(ClaimSide::new(claims.job)),
        }
    }

    pub(super) fn range(&self) -> Option<RowRange> {
        match self {
            Self::Job { next: Some(_), .. } => None,
            Self::Job { results, .. } => results.range(),
            Self::Manifest(ClaimSide { job, next, files, .. }) => {
                let next = next.clone().filter(|_| files.is_empty())?;
                Some((TableId::Claims, next, end_key(*job)))
            }
        }
    }

    pub(super) fn take(&mut self, rows: &Rows) -> Result<(), BadRow> {
        match self {
            // Nothing is known of what had no digest.
            Self::Job { results, .. } => results.take(rows, |of| of.failure().is_none()),
            Self::Manifest(claims) => claims.take(rows),
        }
    }

    /// The next file, if it is here.
    pub(super) fn front(&mut self) -> Option<&EarlierFile> {
        match self {
            Self::Job { results, algorithms, next } => {
                if next.is_none() {
                    *next = results.files.pop_front().map(|result| earlier(result, *algorithms));
                }
                next.as_ref()
            }
            Self::Manifest(claims) => claims.files.front(),
        }
    }

    pub(super) fn pop(&mut self) -> Option<EarlierFile> {
        match self {
            Self::Job { next, .. } => next.take(),
            Self::Manifest(claims) => claims.files.pop_front(),
        }
    }
}

fn earlier(result: StoredResult, algorithms: Algorithms) -> EarlierFile {
    let digests = digests_of(&result, algorithms);
    let StoredResult { root, path, stamp, .. } = result;
    EarlierFile { root, path, stamp: Some(stamp), digests }
}

/// The digests of a result by these algorithms; empty if it has none.
pub(super) fn digests_of(of: &StoredResult, algorithms: Algorithms) -> Vec<AuditDigest> {
    let mut rest = match &of.outcome {
        ItemOutcome::Digests(digests) | ItemOutcome::Mismatch(digests) => &digests[..],
        ItemOutcome::Failed(_) => &[],
    };
    let parts = algorithms.iter().map_while(|&algorithm| {
        let (digest, after) = rest.split_at_checked(algorithm.digest_len())?;
        rest = after;
        Some((algorithm, Blob::from(digest)))
    });
    parts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_that_repeats_a_file_takes_no_memory_for_each_line() {
        let first = (Algorithm::Sha256, Blob(vec![0; 32]));
        let mut file =
            EarlierFile { root: 0, path: Blob::default(), stamp: None, digests: vec![first] };
        for number in 0..10_000_u32 {
            file.claim(Algorithm::Sha256, Blob(vec![u8::from(number % 3 == 1); 32]));
            let digest = [&number.to_le_bytes()[..], &[7; 12]].concat();
            file.claim(Algorithm::Md5, Blob(digest));
        }
        let kept: Vec<(Algorithm, u8)> =
            file.digests.iter().map(|(algorithm, digest)| (*algorithm, digest[0])).collect();
        let (sha, md5) = (Algorithm::Sha256, Algorithm::Md5);
        assert_eq!(kept, [(sha, 0), (md5, 0), (sha, 1), (md5, 1)]);
    }
}
