//! The source of a durable job's items.

use super::file::{check_dataset, check_path};
use super::service::check_name;
use super::{AuditBaseline, JobKind, LimitExceeded, at_most, exactly, within};
use crate::limits::{JOB_ROOTS_LEN_MAX, JOB_ROOTS_MAX};
use crate::{Blob, list};
use serde::{Deserialize, Serialize};

/// Where the items of a durable job come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobSource {
    /// From `Store` requests, until `Seal`.
    Stored,
    /// Every regular file below the roots, found by a worker.
    Dataset {
        /// Name of the dataset.
        name: String,
        /// 1 to [`JOB_ROOTS_MAX`] directories.
        #[serde(deserialize_with = "list::at_most::<_, _, JOB_ROOTS_MAX>")]
        roots: Vec<JobRoot>,
    },
    /// Every file that a manifest names, found by a worker; of a [`JobKind::Check`]. A file is hashed by the algorithm
    /// of its line, whatever the job's are.
    Manifest {
        /// Name of the dataset.
        name: String,
        /// Path of the manifest in it.
        path: Blob,
        /// The directory that its names are relative to; empty for the root.
        base: Blob,
    },
    /// Those of a `Dataset`, whose results are compared with earlier ones; of a [`JobKind::Audit`].
    Audit {
        /// Name of the dataset.
        name: String,
        /// As those of a `Dataset`.
        #[serde(deserialize_with = "list::at_most::<_, _, JOB_ROOTS_MAX>")]
        roots: Vec<JobRoot>,
        /// The state that they are compared with.
        baseline: AuditBaseline,
    },
}

impl JobSource {
    pub(super) fn check(&self, kind: JobKind) -> Result<(), LimitExceeded> {
        let is_audit = matches!(self, Self::Audit { .. });
        exactly("audits", u64::from(kind == JobKind::Audit), u64::from(is_audit))?;
        let (name, roots) = match self {
            Self::Stored => return Ok(()),
            Self::Dataset { name, roots } | Self::Audit { name, roots, .. } => (name, roots),
            Self::Manifest { name, path, base } => {
                exactly("checks of a manifest", u64::from(kind == JobKind::Check), 1)?;
                check_dataset(name)?;
                check_path(path)?;
                return if base.is_empty() { Ok(()) } else { check_path(base) };
            }
        };
        if let Self::Audit { baseline, .. } = self {
            baseline.check()?;
        }
        check_dataset(name)?;
        within("roots", roots.len(), 1, JOB_ROOTS_MAX)?;
        for JobRoot { path, shown } in roots {
            if !path.is_empty() {
                check_path(path)?;
            }
            if !shown.is_empty() {
                check_name(shown)?;
            }
        }
        let roots_len = roots.iter().map(|root| root.path.len() + root.shown.len()).sum();
        at_most("bytes of roots", roots_len, JOB_ROOTS_LEN_MAX)
    }

    /// The manifest at `path` of the dataset `name`, whose names are relative to `base`, or to its own directory; `None`
    /// if either can be no path in a dataset.
    #[must_use]
    pub fn manifest(name: &str, path: &[u8], base: Option<&[u8]>) -> Option<Self> {
        let path = plain(path).filter(|path| !path.is_empty())?;
        let base = match base {
            Some(base) => plain(base)?,
            None => path[..path.iter().rposition(|&byte| byte == b'/').unwrap_or(0)].to_vec(),
        };
        Some(Self::Manifest { name: name.to_owned(), path: Blob(path), base: Blob(base) })
    }

    /// An audit of `dirs` of the dataset `name` against the manifest at `path`, whose names are relative to `base`, or to its own
    /// directory; without any, of that directory. `None` if a path can be none in a dataset.
    #[must_use]
    pub fn audit_of_manifest(
        name: &str,
        path: &[u8],
        base: Option<&[u8]>,
        dirs: &[&[u8]],
    ) -> Option<Self> {
        let Self::Manifest { name, path, base } = Self::manifest(name, path, base)? else {
            return None;
        };
        let root = |dir: &&[u8]| Some(JobRoot { path: Blob(plain(dir)?), shown: Blob::from(*dir) });
        let mut roots: Vec<JobRoot> = dirs.iter().map(root).collect::<Option<_>>()?;
        if roots.is_empty() {
            // Names are those of the manifest.
            roots.push(JobRoot { path: base.clone(), shown: Blob::default() });
        }
        Some(Self::Audit { name, roots, baseline: AuditBaseline::Manifest { path, base } })
    }

    /// The dataset that it is about, if it is one.
    #[must_use]
    pub fn dataset(&self) -> Option<&str> {
        match self {
            Self::Stored => None,
            Self::Dataset { name, .. } | Self::Manifest { name, .. } | Self::Audit { name, .. } => {
                Some(name)
            }
        }
    }

    /// The directories that a worker walks; none of other sources.
    #[must_use]
    pub fn roots(&self) -> &[JobRoot] {
        match self {
            Self::Dataset { roots, .. } | Self::Audit { roots, .. } => roots,
            Self::Stored | Self::Manifest { .. } => &[],
        }
    }

    /// Bytes of the paths in it.
    #[must_use]
    pub fn paths_len(&self) -> usize {
        let roots = self.roots().iter();
        let roots_len = roots.map(|root| root.path.len() + root.shown.len()).sum();
        match self {
            Self::Manifest { path, base, .. } => path.len() + base.len(),
            Self::Audit { baseline, .. } => roots_len + baseline.paths_len(),
            Self::Stored | Self::Dataset { .. } => roots_len,
        }
    }
}

/// A path in a dataset without what says nothing in it; `None` if it leads elsewhere.
fn plain(path: &[u8]) -> Option<Vec<u8>> {
    let parts = path.split(|&byte| byte == b'/').filter(|part| !matches!(*part, b"" | b"."));
    let plain = parts.collect::<Vec<_>>().join(&b'/');
    let is_path = plain.is_empty() || check_path(&plain).is_ok();
    (is_path && !path.starts_with(b"/")).then_some(plain)
}

/// A directory of a dataset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRoot {
    /// Path from the root of the dataset, like that of a file; empty for the root itself.
    pub path: Blob,
    /// Its name in the manifest, before a slash and the path of a file below it; may be empty.
    pub shown: Blob,
}
