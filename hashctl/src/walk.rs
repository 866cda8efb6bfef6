//! Everything below a directory, in a stable order and bounded memory.
//!
//! Names are sorted by their bytes within a directory of up to [`RUN_MAX`] entries; a larger one is
//! taken in runs of that many, each sorted. A directory is entered where its name stands. What is
//! below is opened relative to the directory that holds it, so a tree that is renamed meanwhile
//! cannot lead elsewhere, and no symbolic link is followed.
//!
//! Invariants: at most [`DEPTH_MAX`] directories are open at once; what is no file or directory is
//! not opened where the file system says so in the directory.

use crate::datasets::{Folder, Name};
use crate::open::{Kind, Links, Opened, glance_at, kind_at, kind_of_dirent, open_at};
use crate::problem::{Problem, Special};
use crate::sys::{self, DIRENT_LEN_MIN};
use ipc_proto::message::Stamp;
use nix::errno::Errno;
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Most directories above a file, from the one that was named.
pub const DEPTH_MAX: usize = 256;

/// Most entries that are sorted together.
pub const RUN_MAX: usize = 65_536;

/// Bytes of entries that are read at once.
const READ_LEN: usize = 64 << 10;

/// Most entries that one read brings.
const READ_ENTRIES_MAX: usize = READ_LEN / DIRENT_LEN_MIN + 1;

/// Takes what is found.
pub trait Visitor {
    /// Why the walk ends early.
    type Stop;

    /// A directory that is gone into; how the files in it are named to workers, if they are.
    fn enter(&mut self, dir: BorrowedFd<'_>) -> Option<Folder>;

    /// A regular file in a directory with names, which was not opened.
    ///
    /// # Errors
    /// Ends the walk.
    fn named(&mut self, path: &[u8], name: Name, stamp: Stamp) -> Result<(), Self::Stop>;

    /// A regular file.
    ///
    /// # Errors
    /// Ends the walk.
    fn file(&mut self, path: &[u8], file: OwnedFd, stamp: Stamp) -> Result<(), Self::Stop>;

    /// A file or directory that cannot be read.
    ///
    /// # Errors
    /// Ends the walk.
    fn problem(&mut self, path: &[u8], problem: Problem) -> Result<(), Self::Stop>;

    /// Something that is not hashed.
    ///
    /// # Errors
    /// Ends the walk.
    fn skipped(&mut self, path: &[u8], special: Special) -> Result<(), Self::Stop>;
}

/// A directory that is being walked.
struct Level {
    dir: OwnedFd,
    folder: Option<Folder>,
    /// Length of its path, with a slash at the end.
    path_len: usize,
    names: Vec<u8>,
    /// Sorted; each name starts here in `names` and ends with a zero.
    found: Vec<(usize, Option<Kind>)>,
    next: usize,
    is_read: bool,
}

/// Walks everything below `root`, which is called `path`.
///
/// # Errors
/// Those of `visitor`.
pub fn walk<V: Visitor>(root: OwnedFd, path: &[u8], visitor: &mut V) -> Result<(), V::Stop> {
    walk_in_runs(root, path, visitor, RUN_MAX)
}

fn walk_in_runs<V: Visitor>(
    root: OwnedFd,
    path: &[u8],
    visitor: &mut V,
    run_max: usize,
) -> Result<(), V::Stop> {
    let mut buffer = vec![0; READ_LEN];
    let mut path = path.to_vec();
    let folder = visitor.enter(root.as_fd());
    let mut levels = vec![Level::new(root, folder, &mut path)];
    while let Some(level) = levels.last_mut() {
        path.truncate(level.path_len);
        let Some(&(start, kind)) = level.found.get(level.next) else {
            if level.is_read {
                levels.pop();
            } else if let Err(errno) = level.read_run(&mut buffer, run_max) {
                visitor.problem(&path, Problem::Io(errno as i32))?;
                level.is_read = true;
            }
            continue;
        };
        level.next += 1;
        let name = level.name(start);
        path.extend_from_slice(name.to_bytes());
        if let Some((name, stamp)) = level.glance(name, kind) {
            visitor.named(&path, name, stamp)?;
            continue;
        }
        match level.open(name, kind) {
            Ok(Opened::File(file, stamp)) => visitor.file(&path, file, stamp)?,
            Ok(Opened::Special(special)) => visitor.skipped(&path, special)?,
            Ok(Opened::Directory(_)) if levels.len() == DEPTH_MAX => {
                visitor.problem(&path, Problem::TooDeep)?;
            }
            Ok(Opened::Directory(dir)) => {
                let folder = visitor.enter(dir.as_fd());
                levels.push(Level::new(dir, folder, &mut path));
            }
            Err(errno) => visitor.problem(&path, Problem::Io(errno as i32))?,
        }
    }
    Ok(())
}

impl Level {
    fn new(dir: OwnedFd, folder: Option<Folder>, path: &mut Vec<u8>) -> Self {
        if path.last() != Some(&b'/') {
            path.push(b'/');
        }
        let path_len = path.len();
        let (names, found) = (Vec::new(), Vec::new());
        Self { dir, folder, path_len, names, found, next: 0, is_read: false }
    }

    fn name(&self, start: usize) -> &CStr {
        CStr::from_bytes_until_nul(&self.names[start..]).expect("every name ends with a zero")
    }

    /// What a file is called and looks like, if workers find it by a name.
    fn glance(&self, name: &CStr, kind: Option<Kind>) -> Option<(Name, Stamp)> {
        let folder = self.folder.as_ref().filter(|_| matches!(kind, None | Some(Kind::File)))?;
        let stamp = glance_at(self.dir.as_fd(), name)?;
        Some((folder.name(name)?, stamp))
    }

    fn open(&self, name: &CStr, kind: Option<Kind>) -> Result<Opened, Errno> {
        let kind = match kind {
            Some(kind) => kind,
            None => kind_at(self.dir.as_fd(), name, Links::Refuse)?,
        };
        match kind {
            Kind::File | Kind::Directory => open_at(self.dir.as_fd(), name, Links::Refuse),
            Kind::Special(special) => Ok(Opened::Special(special)),
        }
    }

    /// Reads the next entries and sorts them.
    fn read_run(&mut self, buffer: &mut [u8], run_max: usize) -> Result<(), Errno> {
        self.names.clear();
        self.found.clear();
        self.next = 0;
        while self.found.is_empty() || self.found.len() + READ_ENTRIES_MAX <= run_max {
            let len = sys::read_dir(self.dir.as_fd(), buffer)?;
            if len == 0 {
                self.is_read = true;
                break;
            }
            for (d_type, name) in sys::dirents(&buffer[..len]) {
                self.found.push((self.names.len(), kind_of_dirent(d_type)));
                self.names.extend_from_slice(name.to_bytes_with_nul());
            }
        }
        let names = &self.names;
        // The zero at the end of a name is less than any byte in one.
        self.found.sort_unstable_by(|a, b| names[a.0..].cmp(&names[b.0..]));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;
    use std::path::Path;
    use tempfile::tempdir;

    #[derive(Default)]
    struct Log {
        lines: Vec<String>,
        stop_after: Option<usize>,
    }

    impl Log {
        fn add(&mut self, what: &str, path: &[u8]) -> Result<(), ()> {
            let name = String::from_utf8_lossy(path).into_owned();
            self.lines.push(format!("{what}{name}"));
            if self.stop_after == Some(self.lines.len()) { Err(()) } else { Ok(()) }
        }
    }

    impl Visitor for Log {
        type Stop = ();

        fn enter(&mut self, _: BorrowedFd<'_>) -> Option<Folder> {
            None
        }

        fn named(&mut self, _: &[u8], _: Name, _: Stamp) -> Result<(), ()> {
            unreachable!("no directory has names")
        }

        fn file(&mut self, path: &[u8], _: OwnedFd, stamp: Stamp) -> Result<(), ()> {
            assert_eq!(stamp.size, 0);
            self.add("", path)
        }

        fn problem(&mut self, path: &[u8], problem: Problem) -> Result<(), ()> {
            self.add(&format!("{problem:?} "), path)
        }

        fn skipped(&mut self, path: &[u8], special: Special) -> Result<(), ()> {
            self.add(&format!("{special:?} "), path)
        }
    }

    fn open(path: &Path) -> OwnedFd {
        File::open(path).unwrap().into()
    }

    #[test]
    fn names_come_sorted_by_bytes_and_directories_in_their_place() {
        let dir = tempdir().unwrap();
        for name in ["b/z", "b/a", "a", "c", "b.txt", "B"] {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            File::create(path).unwrap();
        }
        File::create(dir.path().join(std::ffi::OsStr::from_bytes(b"\xff"))).unwrap();
        let mut log = Log::default();
        walk(open(dir.path()), b"top", &mut log).unwrap();
        let want = ["top/B", "top/a", "top/b/a", "top/b/z", "top/b.txt", "top/c", "top/\u{fffd}"];
        assert_eq!(log.lines, want);
        let mut log = Log { stop_after: Some(2), ..Log::default() };
        walk(open(dir.path()), b"top/", &mut log).unwrap_err();
        assert_eq!(log.lines, ["top/B", "top/a"]);
    }

    #[test]
    fn what_is_no_file_is_named_and_neither_opened_nor_followed() {
        let dir = tempdir().unwrap();
        let outside = tempdir().unwrap();
        File::create(outside.path().join("secret")).unwrap();
        symlink(outside.path(), dir.path().join("link")).unwrap();
        let _socket = UnixListener::bind(dir.path().join("socket")).unwrap();
        nix::unistd::mkfifo(&dir.path().join("fifo"), nix::sys::stat::Mode::S_IRUSR).unwrap();
        let mut log = Log::default();
        walk(open(dir.path()), b".", &mut log).unwrap();
        assert_eq!(log.lines, ["Fifo ./fifo", "Symlink ./link", "Socket ./socket"]);
    }

    #[test]
    fn a_large_directory_comes_in_sorted_runs_and_nothing_is_left_out() {
        let dir = tempdir().unwrap();
        let names: Vec<String> =
            (0..6000).map(|i| format!("./{i:04}-{}", "x".repeat(60))).collect();
        for name in &names {
            File::create(dir.path().join(&name[2..])).unwrap();
        }
        let mut whole = Log::default();
        walk(open(dir.path()), b".", &mut whole).unwrap();
        assert_eq!(whole.lines, names);
        let mut runs = Log::default();
        walk_in_runs(open(dir.path()), b".", &mut runs, 1).unwrap();
        let descents = runs.lines.windows(2).filter(|pair| pair[0] > pair[1]).count();
        assert!((1..20).contains(&descents), "a few runs, not {descents}");
        runs.lines.sort();
        assert_eq!(runs.lines, names);
    }

    #[test]
    fn a_tree_that_is_too_deep_is_cut_with_its_name() {
        let dir = tempdir().unwrap();
        let depth = DEPTH_MAX + 3;
        fs::create_dir_all(dir.path().join("d/".repeat(depth))).unwrap();
        let mut log = Log::default();
        walk(open(dir.path()), b".", &mut log).unwrap();
        assert_eq!(log.lines, [format!("TooDeep .{}", "/d".repeat(DEPTH_MAX))]);
    }
}
