//! Pages of a directory of a dataset, by which a job finds its files without its client.
//!
//! Limits only: the order of the names, and that each can be one, is for whoever asked.

use super::file::{check_dataset, check_path};
use super::{Failure, LimitExceeded, Stamp, at_most, exactly, within};
use crate::limits::{LIST_ENTRIES_MAX, NAMES_LEN_MAX, PATH_LEN_MAX};
use crate::{Blob, list};
use serde::{Deserialize, Serialize};

/// A page of a directory that is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListWork {
    /// The dataset's name.
    pub dataset: String,
    /// The directory's path from the dataset's root, as that of a file; empty for the root.
    pub dir: Blob,
    /// The name behind which the page starts; empty for the start of the directory.
    pub after: Blob,
    /// Most entries in the page: 1 to [`LIST_ENTRIES_MAX`].
    pub entries_max: u16,
}

impl ListWork {
    /// Compares every field with its limit.
    ///
    /// # Errors
    /// The first field that breaks one.
    pub fn check(&self) -> Result<(), LimitExceeded> {
        check_dataset(&self.dataset)?;
        if !self.dir.is_empty() {
            check_path(&self.dir)?;
        }
        if !self.after.is_empty() {
            check_path(&self.after)?;
            let slashes_len = self.after.iter().filter(|&&byte| byte == b'/').count();
            exactly("slashes in a name", slashes_len as u64, 0)?;
        }
        within("entries of a page", self.entries_max.into(), 1, LIST_ENTRIES_MAX)
    }
}

/// The kind of a directory's entry. A symbolic link is not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory, which may be on another file system.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A FIFO.
    Fifo,
    /// A socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// It is there, but the system refuses to say more.
    Unknown {
        /// The system's error number (`errno`).
        errno: i32,
    },
}

/// An entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirEntry {
    /// Its name: any bytes but zero and the slash.
    pub name: Blob,
    /// Its kind.
    pub kind: EntryKind,
    /// Its length and times; all 0 if its kind is unknown.
    pub stamp: Stamp,
    /// Its inode, on its file system.
    pub inode: u64,
    /// The file system that it is on, as `st_dev` in the C library.
    pub device: u64,
}

/// Answer to a [`ListWork`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ListOutcome {
    /// A page.
    Page {
        /// Entries in ascending order of their names' bytes.
        #[serde(deserialize_with = "list::at_most::<_, _, LIST_ENTRIES_MAX>")]
        entries: Vec<DirEntry>,
        /// There may be more behind them; then there is at least one entry.
        more: bool,
    },
    /// The directory cannot be listed.
    Failed {
        /// Why not.
        failure: Failure,
    },
}

impl ListOutcome {
    pub(super) fn check(&self) -> Result<(), LimitExceeded> {
        let Self::Page { entries, .. } = self else { return Ok(()) };
        at_most("entries", entries.len(), LIST_ENTRIES_MAX)?;
        entries.iter().try_for_each(|e| at_most("length of a name", e.name.len(), PATH_LEN_MAX))?;
        at_most("bytes of names", entries.iter().map(|e| e.name.len()).sum(), NAMES_LEN_MAX)
    }

    /// Returns true if it can answer `work`: the names are plain, ascend, and are behind `after`.
    #[must_use]
    pub fn fits(&self, work: &ListWork) -> bool {
        let Self::Page { entries, more } = self else { return true };
        let is_plain = |name: &[u8]| {
            !matches!(name, b"" | b"." | b"..") && !name.iter().any(|byte| matches!(byte, 0 | b'/'))
        };
        let names = || entries.iter().map(|entry| &entry.name[..]);
        // An empty `after` is less than every name.
        let ascends = names().is_sorted_by(|a, b| a < b)
            && names().next().is_none_or(|first| *first > *work.after);
        let len_fits = entries.len() <= usize::from(work.entries_max);
        len_fits && !(*more && entries.is_empty()) && ascends && names().all(is_plain)
    }
}
