//! Everything below a directory, in a stable order and bounded memory.
//!
//! Names are sorted by their bytes within a directory of up to [`RUN_MAX`] entries; a larger one is
//! taken in runs of that many, each sorted. A directory is entered where its name stands. What is
//! below is opened relative to the directory that holds it, so a tree that is renamed meanwhile
//! cannot lead elsewhere, and no symbolic link is followed.
//!
//! A [`Selection`] leaves out parts of the tree, or has links followed.
//!
//! Invariants: at most [`DEPTH_MAX`] directories are open at once; what is neither file nor directory is
//! not opened where the file system says so in the directory.

use super::open::{Kind, Opened, kind_at, kind_of_dirent, open_at};
use super::selection::{Identity, Selected, Selection};
use crate::problem::{Problem, Special};
use engine::input::dirents::{DIRENT_LEN_MIN, dirents, read_entries};
use nix::errno::Errno;
use nix::sys::stat::fstat;
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Most directories above a file, from the one that was named.
pub(crate) const DEPTH_MAX: usize = 256;

/// Most entries that are sorted together.
pub(crate) const RUN_MAX: usize = 65_536;

/// Bytes of entries that are read at once.
const READ_LEN: usize = 64 << 10;

/// Most entries that one read brings.
const READ_ENTRIES_MAX: usize = READ_LEN / DIRENT_LEN_MIN + 1;

/// Takes what is found.
pub(crate) trait Visitor {
    /// A directory that is open.
    type Dir: AsFd;
    /// Why the walk ends early.
    type Stop;

    /// A directory that is walked.
    fn enter(&mut self, dir: OwnedFd) -> Self::Dir;

    /// A regular file in `dir`, by the directory's entry; it is not opened.
    fn file(&mut self, path: &[u8], dir: &Self::Dir) -> Result<(), Self::Stop>;

    /// A file or directory that cannot be read.
    fn problem(&mut self, path: &[u8], problem: Problem) -> Result<(), Self::Stop>;

    /// Something that is not hashed.
    fn skipped(&mut self, path: &[u8], special: Special) -> Result<(), Self::Stop>;

    /// Waits until no descriptor is needed for what was found so far.
    fn wait_for_descriptors(&mut self) -> Result<(), Self::Stop>;

    /// Calls `open`, and once more if no descriptor was free.
    fn retry_when_exhausted<T>(
        &mut self,
        open: impl Fn() -> Result<T, Errno>,
    ) -> Result<Result<T, Errno>, Self::Stop> {
        match open() {
            Err(Errno::EMFILE | Errno::ENFILE) => {
                self.wait_for_descriptors()?;
                Ok(open())
            }
            opened => Ok(opened),
        }
    }
}

/// A directory that is being walked.
struct Level<D> {
    dir: D,
    /// Known where it is needed.
    identity: Option<Identity>,
    /// Length of its path, with a slash at the end.
    path_len: usize,
    names: Vec<u8>,
    /// Sorted.
    found: Vec<Entry>,
    next: usize,
    is_read: bool,
}

/// An entry of a directory.
#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Start of the name, which ends with a zero.
    start: usize,
    kind: Option<Kind>,
    inode: u64,
}

/// Walks what `selection` has of the tree below `root`, which is called `path`.
pub(crate) fn walk<V: Visitor>(
    root: OwnedFd,
    path: &[u8],
    visitor: &mut V,
    selection: &Selection,
) -> Result<(), V::Stop> {
    walk_in_runs(root, path, visitor, selection, RUN_MAX)
}

fn walk_in_runs<V: Visitor>(
    root: OwnedFd,
    path: &[u8],
    visitor: &mut V,
    selection: &Selection,
    run_max: usize,
) -> Result<(), V::Stop> {
    let mut buffer = vec![0; READ_LEN];
    let mut path = path.to_vec();
    let identity = identity_of(&root, selection);
    let mut levels = vec![Level::new(visitor.enter(root), identity, &mut path)];
    let root_len = path.len();
    while let Some(level) = levels.last_mut() {
        path.truncate(level.path_len);
        let Some(&entry) = level.found.get(level.next) else {
            if level.is_read {
                levels.pop();
            } else if let Err(errno) = level.read_run(&mut buffer, run_max) {
                visitor.problem(&path, Problem::Io(errno as i32))?;
                level.is_read = true;
            }
            continue;
        };
        level.next += 1;
        let name = CStr::from_bytes_until_nul(&level.names[entry.start..]);
        let name = name.expect("every name ends with a zero");
        path.extend_from_slice(name.to_bytes());
        let dir = level.dir.as_fd();
        let kind = kind_of_entry(dir, name, entry.kind, selection);
        let selected = match kind {
            Ok(kind) => selection.select(dir, &path[root_len..], name, kind, entry.inode),
            Err(errno) => Err(errno),
        };
        match selected {
            Ok(Selected::No) => continue,
            Ok(Selected::Output) => {
                visitor.skipped(&path, Special::Output)?;
                continue;
            }
            // What is wrong is found when it is opened.
            Ok(Selected::Yes) | Err(_) => {}
        }
        let links = selection.links();
        let opened = match kind {
            Ok(Kind::File) => {
                visitor.file(&path, &level.dir)?;
                continue;
            }
            Ok(Kind::Special(special)) => Ok(Opened::Special(special)),
            Ok(Kind::Directory) => visitor.retry_when_exhausted(|| open_at(dir, name, links))?,
            Err(errno) => Err(errno),
        };
        match opened {
            // It was a directory a moment ago.
            Ok(Opened::File(..)) => visitor.file(&path, &level.dir)?,
            Ok(Opened::Special(special)) => visitor.skipped(&path, special)?,
            Ok(Opened::Directory(_)) if levels.len() == DEPTH_MAX => {
                visitor.problem(&path, Problem::TooDeep)?;
            }
            Ok(Opened::Directory(dir)) => {
                let identity = identity_of(&dir, selection);
                match why_not_entered(&levels, identity, selection) {
                    Some(special) => visitor.skipped(&path, special)?,
                    None => levels.push(Level::new(visitor.enter(dir), identity, &mut path)),
                }
            }
            Err(errno) => visitor.problem(&path, Problem::Io(errno as i32))?,
        }
    }
    Ok(())
}

/// Kind of an entry, of the file behind a link if links are followed.
fn kind_of_entry(
    dir: BorrowedFd<'_>,
    name: &CStr,
    known: Option<Kind>,
    selection: &Selection,
) -> Result<Kind, Errno> {
    match known {
        Some(Kind::Special(Special::Symlink)) if selection.follows_links => {}
        Some(kind) => return Ok(kind),
        None => {}
    }
    kind_at(dir, name, selection.links())
}

fn identity_of(dir: &OwnedFd, selection: &Selection) -> Option<Identity> {
    let is_needed = selection.follows_links || selection.one_file_system;
    is_needed.then(|| fstat(dir).ok())?.as_ref().map(Identity::from)
}

/// Reason to leave out a directory that is open.
fn why_not_entered<D>(
    levels: &[Level<D>],
    identity: Option<Identity>,
    selection: &Selection,
) -> Option<Special> {
    let identity = identity?;
    let device = levels.first()?.identity?.device;
    if selection.one_file_system && identity.device != device {
        return Some(Special::OtherFileSystem);
    }
    let is_above = levels.iter().any(|level| level.identity == Some(identity));
    is_above.then_some(Special::LinkLoop)
}

impl<D: AsFd> Level<D> {
    fn new(dir: D, identity: Option<Identity>, path: &mut Vec<u8>) -> Self {
        if path.last() != Some(&b'/') {
            path.push(b'/');
        }
        let (path_len, names, found) = (path.len(), Vec::new(), Vec::new());
        Self { dir, identity, path_len, names, found, next: 0, is_read: false }
    }

    /// Reads the next entries and sorts them.
    fn read_run(&mut self, buffer: &mut [u8], run_max: usize) -> Result<(), Errno> {
        self.names.clear();
        self.found.clear();
        self.next = 0;
        while self.found.is_empty() || self.found.len() + READ_ENTRIES_MAX <= run_max {
            let len = read_entries(self.dir.as_fd(), buffer)?;
            if len == 0 {
                self.is_read = true;
                break;
            }
            for (inode, d_type, name) in dirents(&buffer[..len]) {
                let (start, kind) = (self.names.len(), kind_of_dirent(d_type));
                self.found.push(Entry { start, kind, inode });
                self.names.extend_from_slice(name.to_bytes_with_nul());
            }
        }
        let names = &self.names;
        // The zero at the end of a name is less than any byte in one.
        self.found.sort_unstable_by(|a, b| names[a.start..].cmp(&names[b.start..]));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use tempfile::tempdir;

    /// Paths of files in the order of the walk.
    #[derive(Default)]
    struct Log(Vec<String>);

    impl Visitor for Log {
        type Dir = OwnedFd;
        type Stop = Problem;

        fn enter(&mut self, dir: OwnedFd) -> OwnedFd {
            dir
        }

        fn file(&mut self, path: &[u8], _: &OwnedFd) -> Result<(), Problem> {
            self.0.push(String::from_utf8_lossy(path).into_owned());
            Ok(())
        }

        fn wait_for_descriptors(&mut self) -> Result<(), Problem> {
            unreachable!("there are enough")
        }

        fn problem(&mut self, _: &[u8], problem: Problem) -> Result<(), Problem> {
            Err(problem)
        }

        fn skipped(&mut self, _: &[u8], special: Special) -> Result<(), Problem> {
            Err(Problem::Special(special))
        }
    }

    #[test]
    fn a_large_directory_is_listed_completely_in_sorted_runs() {
        let dir = tempdir().unwrap();
        let names: Vec<String> =
            (0..6000).map(|i| format!("./{i:04}-{}", "x".repeat(60))).collect();
        for name in &names {
            File::create(dir.path().join(&name[2..])).unwrap();
        }
        let mut whole = Log::default();
        walk(File::open(dir.path()).unwrap().into(), b".", &mut whole, &Selection::default())
            .unwrap();
        assert_eq!(whole.0, names);
        let mut runs = Log::default();
        walk_in_runs(
            File::open(dir.path()).unwrap().into(),
            b".",
            &mut runs,
            &Selection::default(),
            1,
        )
        .unwrap();
        let descents = runs.0.windows(2).filter(|pair| pair[0] > pair[1]).count();
        assert!((1..20).contains(&descents), "a few runs, not {descents}");
        runs.0.sort();
        assert_eq!(runs.0, names);
    }
}
