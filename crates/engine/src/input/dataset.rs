//! The datasets of this worker: directories that are opened at the start, and the files in them.
//!
//! Invariants:
//! - no symbolic link is followed, and no path leads out of its dataset: the kernel resolves it,
//!   and refuses. For the length of a batch the last directory stays open, wherever it is moved;
//! - opening does not wait for a FIFO's other end or a device.
//!
//! Not here: whether a file is the one that a client named (`quiet::Expected`).

use crate::clock::StampClock;
use crate::input::claims;
use crate::input::io_limit::IoLimit;
use crate::input::listing::{self, ListingCache};
use crate::input::open_file::{failure, regular_stamp};
use ipc_proto::limits::DATASETS_MAX;
use ipc_proto::message::{Failure, ListOutcome, ListWork, check_dataset};
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat, openat2};
use nix::sys::stat::Mode;
use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU16;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::atomic::AtomicBool;

/// A dataset as given on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    name: String,
    dir: PathBuf,
}

impl FromStr for Mount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, dir) = text.split_once('=').ok_or("write a dataset as NAME=DIR")?;
        check_dataset(name).map_err(|error| error.to_string())?;
        if dir.is_empty() {
            return Err("write a dataset as NAME=DIR".to_owned());
        }
        Ok(Self { name: name.to_owned(), dir: dir.into() })
    }
}

/// Reason why the datasets cannot be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountError {
    /// Its directory cannot be opened.
    Open(Mount, Errno),
    /// Two have the same name.
    Duplicate(String),
    /// There are more than a worker may have.
    TooMany,
    /// Threads are limited for a dataset that does not exist.
    Unknown(String),
}

impl fmt::Display for MountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(Mount { name, dir }, errno) => {
                write!(f, "dataset {name}: {}: {}", dir.display(), errno.desc())
            }
            Self::Duplicate(name) => write!(f, "dataset {name} is named twice"),
            Self::TooMany => write!(f, "more than {DATASETS_MAX} datasets"),
            Self::Unknown(name) => write!(f, "--io-threads for dataset {name}, which is not given"),
        }
    }
}

impl std::error::Error for MountError {}

/// Number of threads that may read from a dataset at once, as given on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IoThreads {
    name: String,
    most: NonZeroU16,
}

impl FromStr for IoThreads {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, most) = text.split_once('=').ok_or("write NAME=N")?;
        check_dataset(name).map_err(|error| error.to_string())?;
        let is_number = most.bytes().all(|byte| byte.is_ascii_digit());
        let most = most.parse().ok().filter(|_| is_number).ok_or("write NAME=N, N from 1 on")?;
        Ok(Self { name: name.to_owned(), most })
    }
}

/// The roots, by name.
#[derive(Debug, Default)]
pub struct Datasets {
    roots: BTreeMap<String, Root>,
    listings: ListingCache,
}

#[derive(Debug)]
struct Root {
    dir: OwnedFd,
    io_limit: Option<IoLimit>,
}

impl Datasets {
    /// Opens the directories.
    ///
    /// # Errors
    /// See [`MountError`].
    pub fn open(mounts: Vec<Mount>) -> Result<Self, MountError> {
        let mut roots = BTreeMap::new();
        for mount in mounts {
            let dir = match open(&mount.dir, DIRECTORY, Mode::empty()) {
                Ok(dir) => dir,
                Err(errno) => return Err(MountError::Open(mount, errno)),
            };
            if roots.insert(mount.name.clone(), Root { dir, io_limit: None }).is_some() {
                return Err(MountError::Duplicate(mount.name));
            }
        }
        if roots.len() > DATASETS_MAX {
            return Err(MountError::TooMany);
        }
        Ok(Self { roots, listings: ListingCache::default() })
    }

    /// Lets at most this many threads read from each of these at once.
    ///
    /// # Errors
    /// [`MountError::Unknown`].
    pub fn limit(&mut self, limits: Vec<IoThreads>) -> Result<(), MountError> {
        for IoThreads { name, most } in limits {
            let Some(root) = self.roots.get_mut(&name) else {
                return Err(MountError::Unknown(name));
            };
            root.io_limit = Some(IoLimit::new(most));
        }
        Ok(())
    }

    /// Their names.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.roots.keys().cloned().collect()
    }

    /// Their directories, which a sandbox replaces by the same ones in a view of their own.
    pub fn roots_mut(&mut self) -> impl Iterator<Item = &mut OwnedFd> {
        self.roots.values_mut().map(|root| &mut root.dir)
    }

    /// A page of a directory or a manifest. Once `revoked` is true it may end early, with an outcome that means nothing.
    #[must_use]
    pub fn list(&self, work: &ListWork, revoked: &AtomicBool) -> ListOutcome {
        let Some(root) = self.roots.get(&work.dataset) else {
            return ListOutcome::Failed { failure: Failure::UnknownDataset };
        };
        let _permit = root.io_limit.as_ref().map(IoLimit::acquire);
        if let Some(manifest) = &work.claims {
            return claims::page(root.dir.as_fd(), work, manifest, revoked)
                .unwrap_or_else(|failure| ListOutcome::Failed { failure });
        }
        let path = if work.dir.is_empty() { &b"."[..] } else { &work.dir };
        let open = || open_below(root.dir.as_fd(), path, LISTED_DIRECTORY);
        let now_ns = StampClock::default().now().real_ns;
        listing::page(open, work, (&self.listings, now_ns), revoked)
            .unwrap_or_else(|failure| ListOutcome::Failed { failure })
    }

    /// A reader of one dataset, for the files of one batch.
    ///
    /// # Errors
    /// [`Failure::UnknownDataset`].
    pub(crate) fn reader(&self, dataset: &str) -> Result<DatasetReader<'_>, Failure> {
        let root = self.roots.get(dataset).ok_or(Failure::UnknownDataset)?;
        Ok(DatasetReader { root, prefix: Vec::new(), kept: None })
    }
}

/// Opens the files that one batch names in a dataset.
#[derive(Debug)]
pub(crate) struct DatasetReader<'a> {
    root: &'a Root,
    /// The path of the last file, up to its last slash.
    prefix: Vec<u8>,
    /// That directory, from its second file on.
    kept: Option<OwnedFd>,
}

impl<'a> DatasetReader<'a> {
    /// The limit of threads that read from it at once, if there is one.
    pub(crate) fn io_limit(&self) -> Option<&'a IoLimit> {
        self.root.io_limit.as_ref()
    }

    /// Opens a file.
    ///
    /// # Errors
    /// Why the item fails, as openat2(2).
    pub(crate) fn open(&mut self, path: &[u8]) -> Result<OwnedFd, Failure> {
        let at = path.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
        let (prefix, base) = path.split_at(at);
        if matches!(base, b"" | b"." | b"..") {
            return open_below(self.root.dir.as_fd(), path, FILE);
        }
        if prefix.is_empty() {
            return open_in(self.root.dir.as_fd(), base);
        }
        if self.prefix != prefix {
            self.prefix.clear();
            self.prefix.extend_from_slice(prefix);
            self.kept = None;
            return open_below(self.root.dir.as_fd(), path, FILE);
        }
        let dir = match self.kept.take() {
            Some(dir) => dir,
            None => open_below(self.root.dir.as_fd(), &prefix[..at - 1], DIRECTORY)?,
        };
        open_in(self.kept.insert(dir).as_fd(), base)
    }
}

/// Flags for files: opening waits for nothing, whatever they are.
pub(crate) const FILE: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_CLOEXEC).union(OFlag::O_NOFOLLOW).union(OFlag::O_NONBLOCK);

/// Flags for files of which only their status is wanted.
pub(crate) const PLACE: OFlag = OFlag::O_PATH.union(OFlag::O_CLOEXEC).union(OFlag::O_NOFOLLOW);

/// Flags for directories, which serve only to open files in them.
const DIRECTORY: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);

/// Flags for directories that are listed.
const LISTED_DIRECTORY: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC).union(OFlag::O_NONBLOCK);

pub(crate) fn open_below(
    root: BorrowedFd<'_>,
    path: &[u8],
    flags: OFlag,
) -> Result<OwnedFd, Failure> {
    let resolve = ResolveFlag::RESOLVE_BENEATH
        | ResolveFlag::RESOLVE_NO_SYMLINKS
        | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    opened(flags, |flags| openat2(root, path, OpenHow::new().flags(flags).resolve(resolve)))
}

/// Opens the file `base`, a plain name, in `dir`.
fn open_in(dir: BorrowedFd<'_>, base: &[u8]) -> Result<OwnedFd, Failure> {
    opened(FILE, |flags| openat(dir, base, flags, Mode::empty()))
}

fn opened(
    flags: OFlag,
    open: impl Fn(OFlag) -> Result<OwnedFd, Errno>,
) -> Result<OwnedFd, Failure> {
    loop {
        match open(flags) {
            Ok(file) => return Ok(file),
            Err(Errno::EINTR) => {}
            // A socket, or a device without driver.
            Err(Errno::ENXIO | Errno::ENODEV) => return Err(Failure::NotRegular),
            // Devices are denied as a whole, where a file can be.
            Err(Errno::EACCES) if !flags.contains(OFlag::O_DIRECTORY) => {
                let place = open(OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC);
                let kind = place.map(|place| regular_stamp(place.as_fd()));
                return Err(kind.ok().and_then(Result::err).unwrap_or(failure(Errno::EACCES)));
            }
            Err(errno) => return Err(failure(errno)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_a_dataset_as_name_and_directory() {
        for (text, want) in [
            ("d=/a=b", Ok(("d", "/a=b"))),
            ("a-1_b=rel", Ok(("a-1_b", "rel"))),
            ("d", Err("NAME=DIR")),
            ("d=", Err("NAME=DIR")),
            ("=/a", Err("name")),
            ("D=/a", Err("a-z")),
        ] {
            let got: Result<Mount, String> = text.parse();
            match (got, want) {
                (Ok(mount), Ok((name, dir))) => {
                    assert_eq!(mount, Mount { name: name.to_owned(), dir: dir.into() });
                }
                (Err(error), Err(want)) => assert!(error.contains(want), "{error}"),
                (got, _) => panic!("{text}: {got:?}"),
            }
        }
    }

    #[test]
    fn keeps_the_directory_of_several_files_open_when_it_moves() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("a")).unwrap();
        for name in ["a/1", "a/2", "a/3", "4"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let mount = format!("d={}", dir.path().display()).parse().unwrap();
        let datasets = Datasets::open(vec![mount]).unwrap();
        let mut reader = datasets.reader("d").unwrap();
        for path in [&b"a/1"[..], b"a/2"] {
            reader.open(path).unwrap();
        }
        std::fs::rename(dir.path().join("a"), dir.path().join("b")).unwrap();
        reader.open(b"a/3").unwrap();
        reader.open(b"4").unwrap();
        assert_eq!(datasets.reader("e").unwrap_err(), Failure::UnknownDataset);
    }
}
