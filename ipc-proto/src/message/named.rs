//! Files that travel as names: a dataset, and a path in it.
//!
//! Invariant: a path that passes [`Named::check`] has only plain components, so that none leads up
//! or starts at a root. What a component is on disk is for whoever opens it.

use super::{LimitExceeded, Stamp, at_most, exactly, within};
use crate::Blob;
use crate::limits::{DATASET_LEN_MAX, DATASETS_MAX, FRAME_NAMES_MAX, NAMES_LEN_MAX, PATH_LEN_MAX};
use serde::{Deserialize, Serialize};

/// A file in a dataset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// Its path from the dataset's root: 1 to [`PATH_LEN_MAX`] bytes, relative, without zero
    /// bytes and without empty, `.` or `..` components.
    pub path: Blob,
    /// What the client saw when it opened the file.
    pub stamp: Stamp,
}

impl Named {
    pub(super) fn check(&self) -> Result<(), LimitExceeded> {
        within("path length", self.path.len(), 1, PATH_LEN_MAX)?;
        let zeros_len = self.path.iter().filter(|&&byte| byte == 0).count();
        exactly("zero bytes in a path", zeros_len as u64, 0)?;
        let is_plain = |component: &&[u8]| !matches!(*component, b"" | b"." | b"..");
        let others_len = self.path.split(|&byte| byte == b'/').filter(|c| !is_plain(c)).count();
        exactly("empty, . and .. components of a path", others_len as u64, 0)
    }
}

/// Whether `name` can be that of a dataset: 1 to [`DATASET_LEN_MAX`] of `a` to `z`, `0` to `9`, `_`
/// and `-`.
///
/// # Errors
/// What it breaks.
pub fn check_dataset(name: &str) -> Result<(), LimitExceeded> {
    within("length of a dataset's name", name.len(), 1, DATASET_LEN_MAX)?;
    let is_plain = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
    let others_len = name.bytes().filter(|byte| !is_plain(byte)).count();
    exactly("bytes of a dataset's name other than a-z, 0-9, _ and -", others_len as u64, 0)
}

pub(super) fn check_datasets(names: &[String]) -> Result<(), LimitExceeded> {
    at_most("datasets", names.len(), DATASETS_MAX)?;
    for (i, name) in names.iter().enumerate() {
        check_dataset(name)?;
        exactly("datasets of one name", 1 + u64::from(names[..i].contains(name)), 1)?;
    }
    Ok(())
}

pub(super) fn check_names(dataset: &str, files: &[Named]) -> Result<(), LimitExceeded> {
    check_dataset(dataset)?;
    within("names", files.len(), 1, FRAME_NAMES_MAX)?;
    files.iter().try_for_each(Named::check)?;
    at_most("bytes of paths", files.iter().map(|file| file.path.len()).sum(), NAMES_LEN_MAX)
}
