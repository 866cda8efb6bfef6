//! Pages of a directory or a manifest of a dataset, by which a job finds its files without its client.
//!
//! Limits only: the order of the names, and that each can be one, is for whoever asked.

use super::file::{check_dataset, check_path};
use super::{Failure, LimitExceeded, Stamp, at_most, exactly, within};
use crate::limits::{
    CLAIMS_MAX, CLAIMS_STATE_LEN_MAX, LIST_ENTRIES_MAX, NAMES_LEN_MAX, PATH_LEN_MAX,
};
use crate::{Algorithm, Blob, list};
use serde::{Deserialize, Serialize};

/// A page of a directory that is asked for, or of a manifest about files in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListWork {
    /// The dataset's name.
    pub dataset: String,
    /// The directory's path from the dataset's root, as that of a file; empty for the root.
    pub dir: Blob,
    /// The name behind which the page starts; empty for the start of the directory.
    pub after: Blob,
    /// Most entries in the page: 1 to [`LIST_ENTRIES_MAX`]; of a manifest at most [`CLAIMS_MAX`].
    pub entries_max: u16,
    /// The manifest, if its page is wanted. Then `dir` is what its names are relative to, and `after` is empty.
    pub claims: Option<ClaimsWork>,
}

/// A manifest, and the place in it where a page starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimsWork {
    /// The manifest's path from the dataset's root, as that of a file.
    pub path: Blob,
    /// The first byte of the page.
    pub offset: u64,
    /// The manifest as it was when its start was read; it must be the same still.
    pub seen: Option<Stamp>,
    /// State of the parser there, of the worker that read it up to there, at most [`CLAIMS_STATE_LEN_MAX`] bytes; empty
    /// at the start.
    pub state: Blob,
}

impl ClaimsWork {
    fn check(&self, work: &ListWork) -> Result<(), LimitExceeded> {
        check_path(&self.path)?;
        at_most("length of a state", self.state.len(), CLAIMS_STATE_LEN_MAX)?;
        exactly("length of a name before", work.after.len() as u64, 0)?;
        within("claims of a page", work.entries_max.into(), 1, CLAIMS_MAX)
    }
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
        within("entries of a page", self.entries_max.into(), 1, LIST_ENTRIES_MAX)?;
        self.claims.as_ref().map_or(Ok(()), |claims| claims.check(self))
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

/// A file that a manifest names, with its digest there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimEntry {
    /// Its name as the manifest has it: any bytes but zero.
    pub name: Blob,
    /// The file's path from the dataset's root; empty if there can be none.
    pub path: Blob,
    /// Algorithm of the digest.
    pub algorithm: Algorithm,
    /// The digest.
    pub digest: Blob,
    /// Length and times of the file; all 0 if it cannot be seen.
    pub stamp: Stamp,
    /// Why the file is not to be read; then there is no path.
    pub refused: Option<Failure>,
}

impl ClaimEntry {
    fn check(&self) -> Result<(), LimitExceeded> {
        within("length of a name", self.name.len(), 1, PATH_LEN_MAX)?;
        exactly(
            "zero bytes in a name",
            self.name.iter().filter(|&&byte| byte == 0).count() as u64,
            0,
        )?;
        exactly(
            "paths of a claim that is refused",
            u64::from(self.path.is_empty()),
            u64::from(self.refused.is_some()),
        )?;
        if !self.path.is_empty() {
            check_path(&self.path)?;
        }
        exactly("length of a digest", self.digest.len() as u64, self.algorithm.digest_len() as u64)
    }

    /// Bytes of the page's limit that it takes up.
    #[must_use]
    pub fn page_len(&self) -> usize {
        self.name.len() + self.path.len()
    }
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
    /// A page of a manifest.
    Claims {
        /// The manifest as it was.
        stamp: Stamp,
        /// In the order of the manifest.
        #[serde(deserialize_with = "list::at_most::<_, _, CLAIMS_MAX>")]
        entries: Vec<ClaimEntry>,
        /// Lines of the page that are no claim.
        bad_lines: u32,
        /// The first byte behind the page.
        offset: u64,
        /// State of the parser there.
        state: Blob,
        /// There may be more behind it; then it has at least one byte.
        more: bool,
    },
}

impl ListOutcome {
    pub(super) fn check(&self) -> Result<(), LimitExceeded> {
        match self {
            Self::Page { entries, .. } => {
                at_most("entries", entries.len(), LIST_ENTRIES_MAX)?;
                let mut lens = entries.iter().map(|entry| entry.name.len());
                lens.try_for_each(|len| at_most("length of a name", len, PATH_LEN_MAX))?;
                at_most("bytes of names", entries.iter().map(|e| e.name.len()).sum(), NAMES_LEN_MAX)
            }
            Self::Failed { .. } => Ok(()),
            Self::Claims { entries, state, .. } => {
                at_most("claims", entries.len(), CLAIMS_MAX)?;
                entries.iter().try_for_each(ClaimEntry::check)?;
                at_most("length of a state", state.len(), CLAIMS_STATE_LEN_MAX)?;
                at_most(
                    "bytes of names",
                    entries.iter().map(ClaimEntry::page_len).sum(),
                    NAMES_LEN_MAX,
                )
            }
        }
    }

    /// Returns true if it can answer `work`: the names of a directory are plain, ascend, and are behind `after`; a page
    /// of a manifest goes on, and is of the manifest that was seen.
    #[must_use]
    pub fn fits(&self, work: &ListWork) -> bool {
        let (entries, more) = match (self, &work.claims) {
            (Self::Page { entries, more }, None) => (entries, more),
            (Self::Claims { stamp, entries, offset, more, .. }, Some(claims)) => {
                let goes_on =
                    if *more { *offset > claims.offset } else { *offset >= claims.offset };
                return goes_on
                    && entries.len() <= usize::from(work.entries_max)
                    && claims.seen.is_none_or(|seen| seen == *stamp);
            }
            (Self::Failed { .. }, _) => return true,
            (Self::Page { .. } | Self::Claims { .. }, _) => return false,
        };
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
