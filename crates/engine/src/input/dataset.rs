//! The datasets of this worker: directories that were opened at the start, and the files in them.
//!
//! A file counts as the one that a client named if its size and the time of its last modification
//! are those that the client saw, before its first and after its last byte was read. Its status
//! change is compared only with itself: a copy in a read-only image has another one. Where it is the
//! client's after reading, though, the client's look was the one before. The system is asked to ask
//! whoever shares the directory, as what it remembers of a share may be old.
//!
//! Invariants:
//! - no symbolic link is followed, and no path leads out of its dataset: the kernel resolves it,
//!   and refuses. For the length of a batch the last directory stays open, wherever it is moved;
//! - opening does not wait for a FIFO's other end or a device, and no read can wait until the file is
//!   known to be a regular one: before that only what is in memory is read;
//! - no read goes more than one byte beyond the size of a stamp.

use crate::input::descriptor::{self as source, Want};
use crate::input::io_limit::{Turn, Turns};
use crate::input::sys;
use ipc_proto::limits::DATASETS_MAX;
use ipc_proto::message::{Failure, Named, Stamp, check_dataset};
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat, openat2};
use nix::sys::stat::Mode;
use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU16;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};

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
    /// Threads are limited for a dataset that is not there.
    Unknown(String),
}

impl fmt::Display for MountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(Mount { name, dir }, errno) => {
                write!(f, "dataset {name}: {}: {}", dir.display(), errno.desc())
            }
            Self::Twice(name) => write!(f, "dataset {name} is named twice"),
            Self::TooMany => write!(f, "more than {DATASETS_MAX} datasets"),
            Self::Unknown(name) => write!(f, "--io-threads for dataset {name}, which is not given"),
        }
    }
}

impl std::error::Error for MountError {}

/// How many threads may read from a dataset at once, as it is said on the command line.
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
}

#[derive(Debug)]
struct Root {
    dir: OwnedFd,
    /// Whether a file was met whose status change is not what the client saw: then one look is not
    /// enough for the others either.
    looks_first: AtomicBool,
    /// Whether its files can be read without waiting at all.
    can_hurry: AtomicBool,
    turns: Option<Turns>,
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
            let dir = match open(&mount.dir, flags, Mode::empty()) {
                Ok(dir) => dir,
                Err(errno) => return Err(MountError::Open(mount, errno)),
            };
            let (looks_first, can_hurry) = (AtomicBool::new(false), AtomicBool::new(true));
            let root = Root { dir, looks_first, can_hurry, turns: None };
            if roots.insert(mount.name.clone(), root).is_some() {
                return Err(MountError::Twice(mount.name));
            }
        }
        if roots.len() > DATASETS_MAX {
            return Err(MountError::TooMany);
        }
        Ok(Self { roots })
    }

    /// Lets at most so many threads read from each of these at once.
    ///
    /// # Errors
    /// [`MountError::Unknown`].
    pub fn limit(&mut self, limits: Vec<IoThreads>) -> Result<(), MountError> {
        for IoThreads { name, most } in limits {
            let Some(root) = self.roots.get_mut(&name) else {
                return Err(MountError::Unknown(name));
            };
            root.turns = Some(Turns::new(most));
        }
        Ok(())
    }

    /// Their names.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.roots.keys().cloned().collect()
    }

    /// A dataset, for the files of one batch.
    ///
    /// # Errors
    /// [`Failure::UnknownDataset`].
    pub fn visit(&self, dataset: &str) -> Result<Visit<'_>, Failure> {
        let root = self.roots.get(dataset).ok_or(Failure::UnknownDataset)?;
        Ok(Visit { root, prefix: Vec::new(), kept: None, turn: None })
    }
}

/// What a thread knows of a dataset while it works on one batch.
#[derive(Debug)]
pub struct Visit<'a> {
    root: &'a Root,
    /// Of the path of the last file, up to its last slash.
    prefix: Vec<u8>,
    /// That directory, from its second file on.
    kept: Option<OwnedFd>,
    turn: Option<Turn<'a>>,
}

/// How far reading a small file came.
#[derive(Debug)]
pub(crate) enum Small {
    /// The buffer starts with the whole file.
    Read,
    /// It is regular and what the client saw, and has to be waited for, or read once more.
    Absent(Found),
}

impl Visit<'_> {
    /// Opens the file that a client named, of any size.
    ///
    /// # Errors
    /// Why the item fails: as openat2(2), or [`Failure::Changed`] if it is not the file that the
    /// client saw.
    pub fn find(&mut self, named: &Named) -> Result<Found, Failure> {
        self.take_turn();
        let file = self.open(&named.path)?;
        look(file, named.stamp)
    }

    /// Opens a file of less than `buffer.len()` bytes, and reads it to the start of `buffer` if it is
    /// in memory.
    ///
    /// # Errors
    /// As [`Self::find`].
    ///
    /// # Panics
    /// If its size and one more byte do not fit the buffer.
    pub(crate) fn read_present(
        &mut self,
        named: &Named,
        buffer: &mut [u8],
    ) -> Result<Small, Failure> {
        self.take_turn();
        let stamp = named.stamp;
        let file = self.open(&named.path)?;
        let size = usize::try_from(stamp.size).expect("a small file's size fits the buffer");
        if self.root.looks_first.load(Ordering::Relaxed) {
            let found = look(file, stamp)?;
            let len = self.read_ready(found.file.as_fd(), &mut buffer[..=size])?;
            return match len.filter(|&len| len >= size) {
                Some(len) => found.agree(len == size).map(|()| Small::Read),
                None => Ok(Small::Absent(found)),
            };
        }
        let len = self.read_ready(file.as_fd(), &mut buffer[..=size])?;
        let found = look(file, stamp)?;
        if found.before == stamp && len == Some(size) {
            return Ok(Small::Read);
        }
        if found.before != stamp {
            self.root.looks_first.store(true, Ordering::Relaxed);
        }
        Ok(Small::Absent(found))
    }

    /// Lets others read from the dataset until the next file.
    pub(crate) fn pause(&mut self) {
        self.turn = None;
    }

    /// Counts what was read, as [`Turn::spend`].
    pub(crate) fn spend(&mut self, len: usize) {
        if let Some(turn) = &mut self.turn {
            turn.spend(len);
        }
    }

    /// Waits until the dataset may be read.
    pub(crate) fn take_turn(&mut self) {
        if self.turn.is_none() {
            self.turn = self.root.turns.as_ref().map(Turns::take);
        }
    }

    /// What of `file` is in memory; `None` if nobody can tell, or nothing is.
    fn read_ready(
        &self,
        file: BorrowedFd<'_>,
        buffer: &mut [u8],
    ) -> Result<Option<usize>, Failure> {
        if !self.root.can_hurry.load(Ordering::Relaxed) {
            return Ok(None);
        }
        match sys::read_ready(file, buffer, 0) {
            Ok(len) => Ok(Some(len)),
            Err(Errno::EAGAIN) => Ok(None),
            Err(Errno::EOPNOTSUPP) => {
                // What is no regular file tells nothing about the others.
                source::stamp_of(file)?;
                self.root.can_hurry.store(false, Ordering::Relaxed);
                Ok(None)
            }
            Err(errno) => Err(source::refused(file, errno)),
        }
    }

    fn open(&mut self, path: &[u8]) -> Result<OwnedFd, Failure> {
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

/// An open file of a dataset.
#[derive(Debug)]
pub struct Found {
    file: OwnedFd,
    before: Stamp,
}

impl AsFd for Found {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
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

    /// Reads the rest of it, of which `len` bytes are in `buffer`; its length.
    ///
    /// # Errors
    /// Why the item fails.
    ///
    /// # Panics
    /// If its size and one more byte do not fit the buffer.
    pub fn read_rest(&self, buffer: &mut [u8], len: usize) -> Result<usize, Failure> {
        let size = usize::try_from(self.before.size).expect("a small file's size fits the buffer");
        let len = source::fill(self.file.as_fd(), &mut buffer[..=size], len)?;
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

/// How files are opened: without waiting, whatever they are.
const FILE: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_CLOEXEC).union(OFlag::O_NOFOLLOW).union(OFlag::O_NONBLOCK);

/// How directories are, for nothing but to open files in them.
const DIRECTORY: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);

fn open_below(root: BorrowedFd<'_>, path: &[u8], flags: OFlag) -> Result<OwnedFd, Failure> {
    let resolve = ResolveFlag::RESOLVE_BENEATH
        | ResolveFlag::RESOLVE_NO_SYMLINKS
        | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    let how = OpenHow::new().flags(flags).resolve(resolve);
    opened(|| openat2(root, path, how))
}

/// Opens the file `base`, a plain name, in `dir`.
fn open_in(dir: BorrowedFd<'_>, base: &[u8]) -> Result<OwnedFd, Failure> {
    opened(|| openat(dir, base, FILE, Mode::empty()))
}

fn opened(open: impl Fn() -> Result<OwnedFd, Errno>) -> Result<OwnedFd, Failure> {
    loop {
        match open() {
            Ok(file) => return Ok(file),
            Err(Errno::EINTR) => {}
            // A socket, or a device without driver.
            Err(Errno::ENXIO | Errno::ENODEV) => return Err(Failure::NotRegular),
            Err(errno) => return Err(source::failure(errno)),
        }
    }
}

/// An open file, if it is the one that a client saw as `stamp`.
fn look(file: OwnedFd, stamp: Stamp) -> Result<Found, Failure> {
    let before = fresh_stamp_of(file.as_fd())?;
    if (before.size, before.mtime_ns) != (stamp.size, stamp.mtime_ns) {
        return Err(Failure::Changed);
    }
    Ok(Found { file, before })
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
            datasets.visit("d").unwrap().find(&named).map(|found| found.size())
        };
        assert_eq!(find(stamp), Ok(4));
        assert_eq!(find(Stamp { ctime_ns: 1, ..stamp }), Ok(4), "an image has another");
        assert_eq!(find(Stamp { size: 5, ..stamp }), Err(Failure::Changed));
        assert_eq!(find(Stamp { mtime_ns: 1, ..stamp }), Err(Failure::Changed));
        assert_eq!(datasets.visit("e").unwrap_err(), Failure::UnknownDataset);
    }

    #[test]
    fn who_reads_keeps_others_from_reading_beyond_the_limit() {
        let (dir, mut datasets) = dataset();
        let (_file, named) = named(&dir, "f", b"four");
        datasets.limit(vec!["d=1".parse().unwrap()]).unwrap();
        let mut first = datasets.visit("d").unwrap();
        first.find(&named).unwrap();
        std::thread::scope(|scope| {
            let (datasets, named) = (&datasets, &named);
            let second = scope.spawn(|| {
                let mut visit = datasets.visit("d").unwrap();
                visit.read_present(named, &mut [0; 10]).unwrap();
            });
            while !first.turn.as_ref().expect("it reads").is_wanted() {
                assert!(!second.is_finished(), "two read at once");
                std::thread::yield_now();
            }
            first.pause();
            second.join().unwrap();
        });
    }

    /// As in an image that was made of the files.
    #[test]
    fn a_file_with_another_status_change_is_read_between_two_looks() {
        let (dir, datasets) = dataset();
        let (file, named) = named(&dir, "f", b"four");
        let Named { path, stamp } = named;
        let other = Named { path, stamp: Stamp { ctime_ns: 1, ..stamp } };
        let mut visit = datasets.visit("d").unwrap();
        let mut buffer = [0; 10];
        let Ok(Small::Absent(found)) = visit.read_present(&other, &mut buffer) else {
            panic!("one look is not enough")
        };
        assert_eq!(found.read_rest(&mut buffer, 0), Ok(4));
        let again = visit.read_present(&other, &mut buffer);
        assert!(matches!(again, Ok(Small::Read)), "now it is looked at first: {again:?}");
        std::os::unix::fs::FileExt::write_all_at(&file, b"five", 0).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(found.read_rest(&mut buffer, 0), Err(Failure::Changed));
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
            let found = datasets.visit("d").unwrap().find(&named).unwrap();
            let mut buffer = vec![0; 250_000];
            let got = found.read_stream(&mut buffer, &GOING, |_| change(&file));
            assert_eq!(got, want, "it {what}");
            let mut buffer = vec![0; 500_001];
            let whole = found.read_rest(&mut buffer, 0).map(|len| assert_eq!(len, 500_000));
            assert_eq!(whole, want, "it {what}");
            let part = found.read_part(0, 1024, &mut buffer, &GOING, |_| {});
            assert_eq!(part, want, "it {what}");
        }
    }
}
