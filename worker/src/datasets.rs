//! The datasets of this worker: directories that were opened at the start, and the files in them.
//!
//! A file counts as the one that a client named if its size and the time of its last modification
//! are those that the client saw, before its first and after its last byte was read. Its status
//! change is compared only with itself: a copy in a read-only image has another one. The system is
//! asked to ask whoever shares the directory, as what it remembers of a share may be old.
//!
//! Invariants:
//! - no symbolic link is followed, and no path leads out of its dataset: the kernel resolves it,
//!   and refuses;
//! - opening does not wait for a FIFO's other end or a device, and nothing is read but what is
//!   known to be a regular file;
//! - no read goes more than one byte beyond the size of a stamp.

use crate::source::{self, Want};
use crate::sys;
use ipc_proto::limits::DATASETS_MAX;
use ipc_proto::message::{Failure, Named, Stamp, check_dataset};
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::Mode;
use std::collections::BTreeMap;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::atomic::AtomicBool;

/// A dataset, as it is named on the command line.
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

/// Why the datasets cannot be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountError {
    /// Its directory cannot be opened.
    Open(Mount, Errno),
    /// Another one has the same name.
    Twice(String),
    /// There are more than a worker may have.
    TooMany,
}

impl fmt::Display for MountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(Mount { name, dir }, errno) => {
                write!(f, "dataset {name}: {}: {}", dir.display(), errno.desc())
            }
            Self::Twice(name) => write!(f, "dataset {name} is named twice"),
            Self::TooMany => write!(f, "more than {DATASETS_MAX} datasets"),
        }
    }
}

impl std::error::Error for MountError {}

/// The roots, by name.
#[derive(Debug, Default)]
pub struct Datasets {
    roots: BTreeMap<String, OwnedFd>,
}

impl Datasets {
    /// Opens the directories.
    ///
    /// # Errors
    /// See [`MountError`].
    pub fn open(mounts: Vec<Mount>) -> Result<Self, MountError> {
        let mut roots = BTreeMap::new();
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        for mount in mounts {
            let root = match open(&mount.dir, flags, Mode::empty()) {
                Ok(root) => root,
                Err(errno) => return Err(MountError::Open(mount, errno)),
            };
            if roots.insert(mount.name.clone(), root).is_some() {
                return Err(MountError::Twice(mount.name));
            }
        }
        if roots.len() > DATASETS_MAX {
            return Err(MountError::TooMany);
        }
        Ok(Self { roots })
    }

    /// Their names.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.roots.keys().cloned().collect()
    }

    /// Opens the file that a client named.
    ///
    /// # Errors
    /// Why the item fails: as openat2(2), or [`Failure::Changed`] if it is not the file that the
    /// client saw.
    pub fn find(&self, dataset: &str, named: &Named) -> Result<Found, Failure> {
        let root = self.roots.get(dataset).ok_or(Failure::UnknownDataset)?;
        let file = open_below(root.as_fd(), &named.path)?;
        let before = fresh_stamp_of(file.as_fd())?;
        let Stamp { size, mtime_ns, .. } = named.stamp;
        if (before.size, before.mtime_ns) != (size, mtime_ns) {
            return Err(Failure::Changed);
        }
        Ok(Found { file, before })
    }
}

/// An open file of a dataset.
#[derive(Debug)]
pub struct Found {
    file: OwnedFd,
    before: Stamp,
}

impl Found {
    /// Its length in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.before.size
    }

    /// What it looked like when it was opened.
    pub(crate) fn before(&self) -> Stamp {
        self.before
    }

    /// It, open.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Reads all of it, which is less than `buffer`, to the start of `buffer`; its length.
    ///
    /// # Errors
    /// Why the item fails.
    ///
    /// # Panics
    /// If its size and one more byte do not fit the buffer.
    pub fn read_whole(&self, buffer: &mut [u8]) -> Result<usize, Failure> {
        let size = usize::try_from(self.before.size).expect("a small file's size fits the buffer");
        let len = source::fill(self.file.as_fd(), &mut buffer[..=size], 0)?;
        self.agree(len == size)?;
        Ok(len)
    }

    /// Reads all of it into `sink`, piece by piece.
    ///
    /// # Errors
    /// Why the item fails.
    pub fn read_stream(
        &self,
        buffer: &mut [u8],
        revoked: &AtomicBool,
        sink: impl FnMut(&[u8]),
    ) -> Result<(), Failure> {
        let want = Want { offset: 0, len: self.before.size.saturating_add(1) };
        let read_len = source::read_range(self.file.as_fd(), want, buffer, revoked, sink)?;
        self.agree(read_len == self.before.size)
    }

    /// Reads `len` bytes from `offset` on into `sink`, piece by piece.
    ///
    /// # Errors
    /// Why the item fails.
    pub fn read_part(
        &self,
        offset: u64,
        len: u64,
        buffer: &mut [u8],
        revoked: &AtomicBool,
        sink: impl FnMut(&[u8]),
    ) -> Result<(), Failure> {
        let want = Want { offset, len };
        let read_len = source::read_range(self.file.as_fd(), want, buffer, revoked, sink)?;
        self.agree(read_len == len)
    }

    /// Whether what was read is good: as long as it should be, of a file that is as it was.
    pub(crate) fn agree(&self, is_complete: bool) -> Result<(), Failure> {
        if is_complete && fresh_stamp_of(self.file.as_fd())? == self.before {
            return Ok(());
        }
        Err(Failure::Changed)
    }
}

fn open_below(root: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, Failure> {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let resolve = ResolveFlag::RESOLVE_BENEATH
        | ResolveFlag::RESOLVE_NO_SYMLINKS
        | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    let how = OpenHow::new().flags(flags).resolve(resolve);
    loop {
        match openat2(root, path, how) {
            Ok(file) => return Ok(file),
            Err(Errno::EINTR) => {}
            // A socket, or a device without driver.
            Err(Errno::ENXIO | Errno::ENODEV) => return Err(Failure::NotRegular),
            Err(errno) => return Err(source::failure(errno)),
        }
    }
}

/// What `file` looks like to whoever shares it.
fn fresh_stamp_of(file: BorrowedFd<'_>) -> Result<Stamp, Failure> {
    let fresh = sys::fresh_status(file).map_err(source::failure)?;
    source::regular(fresh.mode)?;
    Ok(fresh.stamp)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipc_proto::Blob;
    use std::fs::{self, File};
    use std::time::SystemTime;
    use tempfile::TempDir;

    static GOING: AtomicBool = AtomicBool::new(false);

    fn dataset() -> (TempDir, Datasets) {
        let dir = tempfile::tempdir().unwrap();
        let mount = format!("d={}", dir.path().display()).parse().unwrap();
        (dir, Datasets::open(vec![mount]).unwrap())
    }

    fn named(dir: &TempDir, name: &str, bytes: &[u8]) -> (File, Named) {
        fs::write(dir.path().join(name), bytes).unwrap();
        let file = File::options().write(true).open(dir.path().join(name)).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        let stamp = fresh_stamp_of(file.as_fd()).unwrap();
        (file, Named { path: Blob::from(name.as_bytes()), stamp })
    }

    #[test]
    fn a_dataset_is_a_name_and_a_directory() {
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
    fn a_stamp_of_both_system_calls_is_the_same() {
        let (dir, _) = dataset();
        let (file, named) = named(&dir, "f", b"four");
        assert_eq!(source::stamp_of(file.as_fd()), Ok(named.stamp));
        assert_eq!((named.stamp.size, named.stamp.mtime_ns), (4, 0));
        let dir = File::open(dir.path()).unwrap();
        assert_eq!(fresh_stamp_of(dir.as_fd()), source::stamp_of(dir.as_fd()));
    }

    #[test]
    fn only_the_file_that_was_seen_is_found() {
        let (dir, datasets) = dataset();
        let (_file, named) = named(&dir, "f", b"four");
        let stamp = named.stamp;
        let find = |stamp| {
            let named = Named { path: named.path.clone(), stamp };
            datasets.find("d", &named).map(|found| found.size())
        };
        assert_eq!(find(stamp), Ok(4));
        assert_eq!(find(Stamp { ctime_ns: 1, ..stamp }), Ok(4), "an image has another");
        assert_eq!(find(Stamp { size: 5, ..stamp }), Err(Failure::Changed));
        assert_eq!(find(Stamp { mtime_ns: 1, ..stamp }), Err(Failure::Changed));
        assert_eq!(datasets.find("e", &named).unwrap_err(), Failure::UnknownDataset);
    }

    #[test]
    fn a_file_that_changes_while_it_is_read_is_not_good() {
        type Change = fn(&File);
        let changes: [(&str, Change); 4] = [
            ("grows", |file| file.set_len(1_000_000).unwrap()),
            ("shrinks", |file| file.set_len(100).unwrap()),
            ("is written", |file| {
                std::os::unix::fs::FileExt::write_all_at(file, b"x", 5).unwrap();
                // Its change shows even if somebody hides it.
                file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
            }),
            ("holds still", |_| {}),
        ];
        for (what, change) in changes {
            let (dir, datasets) = dataset();
            let (file, named) = named(&dir, "f", &[1; 500_000]);
            let want = if what == "holds still" { Ok(()) } else { Err(Failure::Changed) };
            let found = datasets.find("d", &named).unwrap();
            let mut buffer = vec![0; 250_000];
            let got = found.read_stream(&mut buffer, &GOING, |_| change(&file));
            assert_eq!(got, want, "it {what}");
            let mut buffer = vec![0; 500_001];
            let whole = found.read_whole(&mut buffer).map(|len| assert_eq!(len, 500_000));
            assert_eq!(whole, want, "it {what}");
            let part = found.read_part(0, 1024, &mut buffer, &GOING, |_| {});
            assert_eq!(part, want, "it {what}");
        }
    }
}
