//! Files as items: what a client saw of each, which bytes of it, and where workers find it.
//!
//! Invariant: a path that passes [`FileSource::check`] has only plain components, so that none leads
//! up or starts at a root. What a component is on disk is for whoever opens it.

use super::{LimitExceeded, at_most, exactly, within};
use crate::limits::{
    DATASET_LEN_MAX, DATASETS_MAX, FRAME_DESCRIPTORS_MAX, FRAME_NAMES_MAX, NAMES_LEN_MAX,
    PATH_LEN_MAX,
};
use crate::{Blob, list};
use serde::{Deserialize, Serialize};

/// Length and times of a file when its reader began: an unequal stamp afterwards means that it may
/// have changed while it was read. `ctime` cannot be set back by a program, so it sees what a
/// restored `mtime` hides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Stamp {
    /// Length in bytes.
    pub size: u64,
    /// Time of the last modification, in nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Time of the last status change, in nanoseconds since 1970.
    pub ctime_ns: i64,
}

/// A range of a file's bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ByteRange {
    /// First byte.
    pub offset: u64,
    /// Length in bytes, possibly 0.
    pub len: u64,
}

/// A file, or a range of one, that is an item of a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FileItem {
    /// Metadata of the file when the client opened it.
    pub stamp: Stamp,
    /// Bytes to hash, inside of `stamp.size`; the whole file if `None`.
    pub range: Option<ByteRange>,
}

impl FileItem {
    /// Where the item starts in its file, in bytes.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.range.map_or(0, |range| range.offset)
    }

    /// Bytes to hash.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.range.map_or(self.stamp.size, |range| range.len)
    }

    /// Where the item ends in its file, in bytes.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.offset().saturating_add(self.len())
    }

    /// Returns true if there are no bytes to hash.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn check(&self) -> Result<(), LimitExceeded> {
        let ByteRange { offset, len } = self.range.unwrap_or_default();
        let limit = self.stamp.size;
        if offset.checked_add(len).is_some_and(|end| end <= limit) {
            return Ok(());
        }
        Err(LimitExceeded { field: "end of a range", value: self.end(), limit })
    }
}

impl From<Stamp> for FileItem {
    /// The whole file.
    fn from(stamp: Stamp) -> Self {
        Self { stamp, range: None }
    }
}

/// Where the bytes of files come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FileSource {
    /// Descriptors that ride on the frame, one per file, in order.
    Descriptors,
    /// A dataset, a directory that workers have under this name.
    Dataset {
        /// Its name.
        name: String,
        /// The path of each file from the dataset's root, in order: 1 to [`PATH_LEN_MAX`] bytes,
        /// relative, without zero bytes and without empty, `.` or `..` components.
        #[serde(deserialize_with = "list::at_most::<_, _, FRAME_NAMES_MAX>")]
        paths: Vec<Blob>,
    },
}

impl FileSource {
    /// The number of descriptors that ride along with `files_len` files.
    #[must_use]
    pub fn descriptors_len(&self, files_len: usize) -> usize {
        match self {
            Self::Descriptors => files_len,
            Self::Dataset { .. } => 0,
        }
    }

    /// Compares the source of `files` with its limits, and the ranges with the files.
    pub(super) fn check(&self, files: &[FileItem]) -> Result<(), LimitExceeded> {
        match self {
            Self::Descriptors => within("files", files.len(), 1, FRAME_DESCRIPTORS_MAX)?,
            Self::Dataset { name, paths } => {
                check_dataset(name)?;
                within("files", files.len(), 1, FRAME_NAMES_MAX)?;
                exactly("paths", paths.len() as u64, files.len() as u64)?;
                paths.iter().try_for_each(|path| check_path(path))?;
                at_most("bytes of paths", paths.iter().map(|p| p.len()).sum(), NAMES_LEN_MAX)?;
            }
        }
        files.iter().try_for_each(FileItem::check)
    }
}

pub(super) fn check_path(path: &[u8]) -> Result<(), LimitExceeded> {
    within("path length", path.len(), 1, PATH_LEN_MAX)?;
    let zeros_len = path.iter().filter(|&&byte| byte == 0).count();
    exactly("zero bytes in a path", zeros_len as u64, 0)?;
    let is_plain = |component: &&[u8]| !matches!(*component, b"" | b"." | b"..");
    let others_len = path.split(|&byte| byte == b'/').filter(|c| !is_plain(c)).count();
    exactly("empty, . and .. components of a path", others_len as u64, 0)
}

/// Checks that `name` can be that of a dataset: 1 to [`DATASET_LEN_MAX`] of `a` to `z`, `0` to `9`,
/// `_` and `-`.
///
/// # Errors
/// The rule that it breaks.
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
