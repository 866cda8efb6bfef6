//! The file of `--resume`, by which an interrupted check goes on where it was: `docs/resume.md`.
//!
//! Entries of a list are numbered from 1. Those that matched are kept as ranges of numbers, which are
//! few in a check that goes well, however long the list is.

use crate::args::CheckOptions;
use crate::lists::quote::quote;
use crate::replace::Replacement;
use crate::say::io_text;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use std::env;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Version of the file.
const RESUME_VERSION: u32 = 1;

/// Interval between two writes.
const SAVE_INTERVAL: Duration = Duration::from_secs(1);

/// Entries of a list that matched: first and last numbers, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Verified(Vec<(u64, u64)>);

impl Verified {
    /// Adds an entry.
    fn add(&mut self, number: u64) {
        let after = self.0.partition_point(|(first, _)| *first <= number);
        match after.checked_sub(1).map(|before| &mut self.0[before]) {
            Some((_, last)) if *last >= number => {}
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => self.0.insert(after, (number, number)),
        }
    }

    pub(super) fn has(&self, number: u64) -> bool {
        let after = self.0.partition_point(|(first, _)| *first <= number);
        after.checked_sub(1).is_some_and(|before| self.0[before].1 >= number)
    }
}

/// Progress of the check of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ListProgress {
    /// Name of the list as it was given, in base64.
    list_b64: String,
    /// Its length and last modification: with others, it is another list.
    size: u64,
    mtime_ns: i128,
    verified: Verified,
}

/// The whole file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ResumeFile {
    version: u32,
    /// Settings that give names their meaning: with others, the entries are of other files.
    algorithm: Option<String>,
    directory_b64: String,
    strip_components: usize,
    lists: Vec<ListProgress>,
}

/// The progress of this check.
#[derive(Debug)]
pub(super) struct Resume {
    /// As it was given, for messages.
    pub(super) name: String,
    path: PathBuf,
    file: ResumeFile,
    /// Index of the list that is printed.
    selected: usize,
    saved: Instant,
}

/// Reason why a check cannot be resumed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ResumeError {
    #[error("{0}")]
    Io(String),
    #[error("standard input cannot be read a second time; give --resume a list in a file")]
    Stdin,
    #[error("not a file of --resume, or a damaged one; remove it to start again ({0})")]
    Damaged(#[source] serde_json::Error),
    #[error("version {0} of the file is unknown; remove it to start again")]
    Version(u32),
    #[error("it is of a check with another algorithm, directory or --strip-components")]
    OtherCheck,
}

impl From<io::Error> for ResumeError {
    fn from(error: io::Error) -> Self {
        Self::Io(io_text(&error))
    }
}

impl Resume {
    /// Reads `path`, named from `start`, if it is there. Call it in the directory that files are
    /// named from.
    ///
    /// # Errors
    /// It cannot be used.
    pub(super) fn load(
        start: &Path,
        path: &Path,
        options: &CheckOptions,
    ) -> Result<Self, ResumeError> {
        let name = quote(path.as_os_str().as_bytes());
        let path = start.join(path);
        let directory_b64 = STANDARD.encode(env::current_dir()?.as_os_str().as_bytes());
        let new = ResumeFile {
            version: RESUME_VERSION,
            algorithm: options.algorithm.map(|algorithm| algorithm.name().to_owned()),
            directory_b64,
            strip_components: options.strip_components,
            lists: Vec::new(),
        };
        let file = match fs::read(&path) {
            Ok(text) => parse(&text, &new)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => new,
            Err(error) => return Err(error.into()),
        };
        Ok(Self { name, path, file, selected: 0, saved: Instant::now() })
    }

    /// Entries verified of a list that is open: none if it is another one by now.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn open_list(&mut self, list: &[u8], input: &File) -> io::Result<Verified> {
        let metadata = input.metadata()?;
        let list_b64 = STANDARD.encode(list);
        let (size, seconds) = (metadata.len(), i128::from(metadata.mtime()));
        let mtime_ns = seconds * 1_000_000_000 + i128::from(metadata.mtime_nsec());
        let new = ListProgress { list_b64, size, mtime_ns, verified: Verified::default() };
        let is_same = |known: &&mut ListProgress| known.list_b64 == new.list_b64;
        let Some(known) = self.file.lists.iter_mut().find(is_same) else {
            self.file.lists.push(new);
            return Ok(Verified::default());
        };
        if (known.size, known.mtime_ns) != (size, mtime_ns) {
            *known = new;
        }
        Ok(known.verified.clone())
    }

    /// Makes a list that was opened the one that entries are added to.
    pub(super) fn select(&mut self, list: &[u8]) {
        let list_b64 = STANDARD.encode(list);
        let known = self.file.lists.iter().position(|known| known.list_b64 == list_b64);
        self.selected = known.expect("it was opened");
    }

    /// Takes note that entry `number` of the selected list matched.
    pub(super) fn add(&mut self, number: u64) {
        self.file.lists[self.selected].verified.add(number);
    }

    /// Writes the file from time to time.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn save_if_due(&mut self) -> io::Result<()> {
        if self.saved.elapsed() < SAVE_INTERVAL {
            return Ok(());
        }
        self.save()
    }

    /// Writes the file.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn save(&mut self) -> io::Result<()> {
        self.saved = Instant::now();
        let mut file = Replacement::new(&self.path)?;
        serde_json::to_writer(&mut file, &self.file)?;
        file.write_all(b"\n")?;
        file.commit()
    }

    /// Removes the file: the check is at its end.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn remove(&self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }
}

fn parse(text: &[u8], new: &ResumeFile) -> Result<ResumeFile, ResumeError> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let Versioned { version } = serde_json::from_slice(text).map_err(ResumeError::Damaged)?;
    if version != RESUME_VERSION {
        return Err(ResumeError::Version(version));
    }
    let file: ResumeFile = serde_json::from_slice(text).map_err(ResumeError::Damaged)?;
    let without_lists = |file: &ResumeFile| ResumeFile { lists: Vec::new(), ..file.clone() };
    match without_lists(&file) == without_lists(new) {
        true => Ok(file),
        false => Err(ResumeError::OtherCheck),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_that_matched_are_kept_as_ranges() {
        let mut verified = Verified::default();
        for number in [1, 2, 3, 5, 8, 9, 4, 9, 7] {
            verified.add(number);
        }
        assert_eq!(verified.0, [(1, 4), (5, 5), (7, 7), (8, 9)]);
        let has: Vec<u64> = (0..12).filter(|number| verified.has(*number)).collect();
        assert_eq!(has, [1, 2, 3, 4, 5, 7, 8, 9]);
    }
}
