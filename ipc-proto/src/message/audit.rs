//! Findings of audits: files of a tree that are not as an earlier job found them.

use super::file::check_path;
use super::{Failure, JobId, LimitExceeded, at_most, within};
use crate::limits::{OUTPUTS_LEN_MAX, PATH_LEN_MAX};
use crate::{Algorithm, Blob};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The state with which an audit compares a tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AuditBaseline {
    /// The results of a durable job that is done, over the same directories and by the same algorithms.
    Job(JobId),
    /// A manifest in the dataset. Files are hashed by all of its algorithms, whatever the job's are.
    Manifest {
        /// Its path.
        path: Blob,
        /// The directory that its names are relative to; empty for the root.
        base: Blob,
    },
}

impl AuditBaseline {
    pub(super) fn check(&self) -> Result<(), LimitExceeded> {
        match self {
            Self::Job(_) => Ok(()),
            Self::Manifest { path, base } => {
                check_path(path)?;
                if base.is_empty() { Ok(()) } else { check_path(base) }
            }
        }
    }

    pub(super) fn paths_len(&self) -> usize {
        match self {
            Self::Job(_) => 0,
            Self::Manifest { path, base } => path.len() + base.len(),
        }
    }
}

/// Outcome of an audit for one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AuditFinding {
    /// It has its content.
    Matched,
    /// It has another content, and another size or time of modification.
    Modified,
    /// It has another content, and an earlier time of modification.
    Older,
    /// It has another content, while size and time of modification are as they were: bit rot.
    Rotted,
    /// It is new, with the content of a name that is missing or has another one now.
    Moved,
    /// It is new, with the content of another file.
    Copied,
    /// It was not there.
    New,
    /// It was there, and is not any more.
    Missing,
    /// It cannot be read; of a manifest, some of its lines are no claims.
    Unreadable,
    /// It has another content, and nothing is known of its metadata of before.
    Changed,
}

impl AuditFinding {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Matched,
        Self::Modified,
        Self::Older,
        Self::Rotted,
        Self::Moved,
        Self::Copied,
        Self::New,
        Self::Missing,
        Self::Unreadable,
        Self::Changed,
    ];

    /// Its word in text and JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Matched => "matched",
            Self::Modified => "modified",
            Self::Older => "older",
            Self::Rotted => "rotted",
            Self::Moved => "moved",
            Self::Copied => "copied",
            Self::New => "new",
            Self::Missing => "missing",
            Self::Unreadable => "unreadable",
            Self::Changed => "changed",
        }
    }
}

/// Number of files per finding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditCounts([u64; AuditFinding::ALL.len()]);

impl AuditCounts {
    /// Counts one more file.
    pub fn add_one(&mut self, finding: AuditFinding) {
        self.0[finding as usize] += 1;
    }

    /// The number of files with this finding.
    #[must_use]
    pub fn of(self, finding: AuditFinding) -> u64 {
        self.0[finding as usize]
    }

    /// The number of files that are not as they were.
    #[must_use]
    pub fn differences(self) -> u64 {
        let others = self.0.iter().skip(1);
        others.fold(0, |sum, more| sum.saturating_add(*more))
    }
}

/// Those that there are, as in `3 matched, 1 moved`.
impl fmt::Display for AuditCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counted = AuditFinding::ALL.iter().filter(|finding| self.of(**finding) > 0);
        for (i, finding) in counted.enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{} {}", self.of(*finding), finding.name())?;
        }
        Ok(())
    }
}

/// A finding of an audit other than [`AuditFinding::Matched`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRow {
    /// The outcome.
    pub finding: AuditFinding,
    /// Its name, as in a manifest.
    pub name: Blob,
    /// The name whose content it has; empty for none.
    pub from: Blob,
    /// Its length in bytes; 0 without a digest.
    pub size: u64,
    /// An algorithm by which it has another digest; none if that does not apply.
    pub algorithm: Option<Algorithm>,
    /// Its digest by that; empty for none.
    pub digest: Blob,
    /// The digest that it should have; empty for none.
    pub expected: Blob,
    /// Why it cannot be read.
    pub failure: Option<Failure>,
}

impl AuditRow {
    pub(super) fn check(&self) -> Result<(), LimitExceeded> {
        // The name of a root and the path of a file below it.
        within("name length", self.name.len(), 1, 2 * PATH_LEN_MAX + 1)?;
        at_most("from length", self.from.len(), 2 * PATH_LEN_MAX + 1)?;
        at_most("digest", self.digest.len(), OUTPUTS_LEN_MAX)?;
        at_most("expected digest", self.expected.len(), OUTPUTS_LEN_MAX)
    }
}
