//! Everything below a directory with its metadata, in the order of the walk.

use super::table::{BytesTable, ROWS_MAX};
use crate::input::open::{Kind, kind_of, open_dir};
use crate::input::selection::Selection;
use crate::input::walk::{Visitor, walk};
use crate::problem::{Problem, Special};
use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{FileStat, fstatat, lstat, stat};
use std::ffi::CString;
use std::os::fd::OwnedFd;

/// Metadata that shows that a file was written to or replaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Metadata {
    pub(crate) size: u64,
    /// Nanoseconds since 1970; what does not fit is the nearest that does.
    pub(crate) mtime_ns: i64,
    pub(crate) ctime_ns: i64,
    pub(crate) inode: u64,
}

impl Metadata {
    pub(crate) fn new(stat: &FileStat) -> Self {
        Self {
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mtime_ns: nanoseconds(stat.st_mtime, stat.st_mtime_nsec),
            ctime_ns: nanoseconds(stat.st_ctime, stat.st_ctime_nsec),
            inode: stat.st_ino,
        }
    }
}

fn nanoseconds(seconds: i64, nanoseconds: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds)
}

/// Metadata of the file at `path`, links followed.
pub(crate) fn look_at(path: &[u8]) -> Option<Metadata> {
    stat(path).ok().map(|stat| Metadata::new(&stat))
}

/// Kind of what is at `path`, links followed, if that is neither a regular file nor a directory.
pub(crate) fn special_at(path: &[u8]) -> Option<Special> {
    match kind_of(&stat(path).ok()?) {
        Kind::Special(special) => Some(special),
        Kind::File | Kind::Directory => None,
    }
}

/// One file on one file system, whatever its names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct FileId {
    pub(crate) device: u64,
    pub(crate) inode: u64,
}

impl FileId {
    pub(crate) fn new(stat: &FileStat) -> Self {
        Self { device: stat.st_dev, inode: stat.st_ino }
    }
}

/// Files below a directory. Names are relative to it.
#[derive(Debug)]
pub(crate) struct FoundTree {
    /// Path of the directory, with a slash at its end.
    root: Vec<u8>,
    selection: Selection,
    pub(crate) names: BytesTable,
    metadata: Vec<Metadata>,
    /// Device of each file: an index into `device_numbers`.
    devices: Vec<u16>,
    device_numbers: Vec<u64>,
    /// Neither regular files nor directories.
    pub(crate) specials: BytesTable,
    special_kinds: Vec<Special>,
    /// Directories that could not be read to their end, and files without metadata.
    pub(crate) problem_names: BytesTable,
    problems: Vec<Problem>,
}

impl FoundTree {
    /// Walks what `selection` has of the tree below `path`.
    ///
    /// # Errors
    /// The directory itself cannot be opened.
    pub(crate) fn collect(path: &[u8], selection: &Selection) -> Result<Self, Errno> {
        let name = CString::new(path).map_err(|_| Errno::EINVAL)?;
        let dir = open_dir(&name)?;
        let mut root = path.to_vec();
        if root.last() != Some(&b'/') {
            root.push(b'/');
        }
        let mut tree = Self {
            root,
            selection: selection.clone(),
            names: BytesTable::default(),
            metadata: Vec::new(),
            devices: Vec::new(),
            device_numbers: Vec::new(),
            specials: BytesTable::default(),
            special_kinds: Vec::new(),
            problem_names: BytesTable::default(),
            problems: Vec::new(),
        };
        let Ok(()) = walk(dir, path, &mut Collector { tree: &mut tree }, selection);
        tree.names.sort();
        tree.specials.sort();
        tree.problem_names.sort();
        Ok(tree)
    }

    /// Path by which a file is opened, from its name.
    pub(crate) fn path(&self, name: &[u8]) -> Vec<u8> {
        [&self.root, name].concat()
    }

    /// False for the name of a file that was left out, and counts for nothing.
    pub(crate) fn selects(&self, name: &[u8]) -> bool {
        self.selection.has_name(name)
    }

    /// True if there is a file of this name, maybe one that was left out.
    pub(crate) fn has(&self, name: &[u8]) -> bool {
        let is_there = || lstat(&*self.path(name)).is_ok();
        self.names.first(name).is_some() || !self.selects(name) && is_there()
    }

    pub(crate) fn len(&self) -> usize {
        self.metadata.len()
    }

    pub(crate) fn metadata(&self, index: u32) -> &Metadata {
        &self.metadata[index as usize]
    }

    pub(crate) fn id(&self, index: u32) -> FileId {
        let device = self.device_numbers[usize::from(self.devices[index as usize])];
        FileId { device, inode: self.metadata(index).inode }
    }

    /// The kind of `name` or of what stands above it in the place of a directory, if that is
    /// neither a regular file nor a directory.
    pub(crate) fn special(&self, name: &[u8]) -> Option<Special> {
        let index = with_ancestors(name).find_map(|path| self.specials.first(path))?;
        Some(self.special_kinds[index as usize])
    }

    /// The problem for which nothing is known of `name`: its own, or that of a directory above it.
    pub(crate) fn problem(&self, name: &[u8]) -> Option<Problem> {
        let index = with_ancestors(name).find_map(|path| self.problem_names.first(path))?;
        Some(self.problem_at(index))
    }

    /// The problem at an index of `problem_names`.
    pub(crate) fn problem_at(&self, index: u32) -> Problem {
        self.problems[index as usize]
    }
}

/// The root, which is empty, every directory above `name`, and `name`.
fn with_ancestors(name: &[u8]) -> impl Iterator<Item = &[u8]> {
    let slashes = name.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    [0].into_iter().chain(slashes).chain([name.len()]).map(|len| &name[..len])
}

struct Collector<'a> {
    tree: &'a mut FoundTree,
}

impl Collector<'_> {
    fn relative<'p>(&self, path: &'p [u8]) -> &'p [u8] {
        let name = path.strip_prefix(&*self.tree.root).unwrap_or_default();
        name.strip_suffix(b"/").unwrap_or(name)
    }

    fn device(&mut self, number: u64) -> Option<u16> {
        let numbers = &mut self.tree.device_numbers;
        let known = numbers.iter().rposition(|&known| known == number);
        let index = known.unwrap_or_else(|| {
            numbers.push(number);
            numbers.len() - 1
        });
        u16::try_from(index).ok()
    }
}

impl Visitor for Collector<'_> {
    type Dir = OwnedFd;
    type Stop = std::convert::Infallible;

    fn enter(&mut self, dir: OwnedFd) -> OwnedFd {
        dir
    }

    fn file(&mut self, path: &[u8], dir: &OwnedFd) -> Result<(), Self::Stop> {
        let base = path.rsplit(|&byte| byte == b'/').next().unwrap_or(path);
        let base = CString::new(base).expect("a name in a directory holds no zero byte");
        let stat = match fstatat(dir, base.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            // It was removed a moment ago.
            Err(Errno::ENOENT) => return Ok(()),
            Err(errno) => return self.problem(path, Problem::Io(errno as i32)),
        };
        let name = self.relative(path);
        if let Kind::Special(special) = kind_of(&stat) {
            return self.skipped(path, special);
        }
        let id = FileId::new(&stat);
        let device = self.device(id.device);
        let (Some(device), true) = (device, self.tree.names.len() < ROWS_MAX) else {
            return self.problem(path, Problem::Io(libc::EOVERFLOW));
        };
        self.tree.names.push(name);
        self.tree.metadata.push(Metadata::new(&stat));
        self.tree.devices.push(device);
        Ok(())
    }

    fn problem(&mut self, path: &[u8], problem: Problem) -> Result<(), Self::Stop> {
        if self.tree.problem_names.len() < ROWS_MAX {
            let name = self.relative(path).to_vec();
            self.tree.problem_names.push(&name);
            self.tree.problems.push(problem);
        }
        Ok(())
    }

    fn skipped(&mut self, path: &[u8], special: Special) -> Result<(), Self::Stop> {
        if self.tree.specials.len() < ROWS_MAX {
            let name = self.relative(path).to_vec();
            self.tree.specials.push(&name);
            self.tree.special_kinds.push(special);
        }
        Ok(())
    }

    fn wait_for_descriptors(&mut self) -> Result<(), Self::Stop> {
        // The walk holds one per level; no other thread has any yet that it could wait for.
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};
    use tempfile::tempdir;

    #[test]
    fn names_are_relative_and_in_the_order_of_the_walk() {
        let dir = tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("b")).unwrap();
        for (name, text) in [("b/z", "12"), ("c", "3"), ("a", "")] {
            fs::write(at(name), text).unwrap();
        }
        symlink("a", at("link")).unwrap();
        for suffix in ["", "/"] {
            let path = format!("{}{suffix}", dir.path().display());
            let tree = FoundTree::collect(path.as_bytes(), &Selection::default()).unwrap();
            let names: Vec<&[u8]> = (0..3).map(|index| tree.names.get(index)).collect();
            assert_eq!(names, [&b"a"[..], b"b/z", b"c"]);
            assert_eq!((0..3).map(|i| tree.metadata(i).size).collect::<Vec<_>>(), [0, 2, 1]);
            assert_eq!(tree.id(0).inode, fs::metadata(at("a")).unwrap().ino());
            assert_eq!(tree.special(b"link"), Some(Special::Symlink));
            assert_eq!(tree.special(b"link/x"), Some(Special::Symlink));
            assert_eq!(tree.special(b"a"), None);
            assert_eq!(fs::read(std::str::from_utf8(&tree.path(b"b/z")).unwrap()).unwrap(), b"12");
        }
    }

    #[test]
    fn a_directory_that_cannot_be_read_hides_what_is_below_it() {
        let dir = tempdir().unwrap();
        let path = dir.path().as_os_str().as_encoded_bytes();
        let mut tree = FoundTree::collect(path, &Selection::default()).unwrap();
        tree.problem_names.push(b"a/b");
        tree.problem_names.sort();
        tree.problems.push(Problem::Io(libc::EACCES));
        for (name, is_hidden) in
            [("a/b", true), ("a/b/c", true), ("a/bc", false), ("a", false), ("a/c/b", false)]
        {
            assert_eq!(tree.problem(name.as_bytes()).is_some(), is_hidden, "{name}");
        }
    }
}
