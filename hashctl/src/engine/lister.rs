//! The lister thread: puts the names on a command line, in a manifest or below a directory into the
//! reorder buffer, in input order, and gives them to the openers in tasks.
//!
//! Tasks start small, so that output and all workers start at once, and double up to what a frame
//! carries. One that is older than [`AGE_MAX`] goes out as it is, so that a slow listing does not
//! leave workers without work.
//!
//! Names in one directory are opened from it, on a command line from the second name in it on.
//!
//! Invariant: what the tasks on their way need of the limit of open files leaves room in it, also
//! where all threads share one table. Only very deep trees can exhaust it; then the lister waits.

use super::function::Function;
use super::opener::{AGE_MAX, coarse_now};
use super::reorder::{Batch, Label, Reorder, Stopped, Tag, Verdict};
use crate::input::datasets::Folder;
use crate::input::open::{Links, Way, is_too_long, open_dir, open_start};
use crate::input::selection::Selection;
use crate::input::walk::{Visitor, walk};
use crate::problem::{Problem, Special};
use nix::sys::resource::{Resource, getrlimit};
use std::ffi::CString;
use std::mem;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

/// Entries in the first task; each later one may have twice as many as the one before.
const TASK_LEN_FIRST: usize = 16;

/// Most bytes of names in a task: names below a tree can be longer than any path.
const TASK_TEXT_MAX: usize = 1 << 20;

/// Most directories that the files of one task are opened from.
const DIRS_MAX: usize = 64;

/// Descriptors of a run besides those of tasks: standard ones, the socket and its copies, events.
const FIXED_DESCRIPTORS: usize = 16;

/// Neighbouring entries for one opener.
#[derive(Debug)]
pub(crate) struct OpenTask {
    /// Counted from 0: tasks are sent in this order.
    pub(crate) turn: u64,
    /// Of the first entry.
    pub(crate) first: Tag,
    pub(crate) batch: Arc<Batch>,
    /// One per entry.
    pub(crate) targets: Vec<Target>,
    pub(crate) dirs: Vec<Arc<Dir>>,
    pub(crate) last: Last,
}

/// Way to an entry's file.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    /// Its path.
    Path,
    /// Its name in this one of the task's directories.
    In(usize),
    /// Standard input.
    Stdin,
    /// Nothing: its verdict is known.
    Nothing,
}

/// Entries that follow a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Last {
    /// Other tasks.
    No,
    /// Maybe nothing for a while: the open job ends, as others may need its window.
    OfJob,
    /// Nothing.
    OfAll,
}

/// An open directory. It is closed by the thread that opened it, never by an opener, which may have
/// a descriptor table of its own.
#[derive(Debug)]
pub(crate) struct Dir {
    pub(crate) fd: OwnedFd,
    /// Unique in this run.
    pub(crate) id: u64,
    /// Set where files go by name.
    pub(crate) folder: Option<Folder>,
    /// Way by which a file in it is found again.
    pub(crate) way: Way,
}

impl Dir {
    /// Treatment of links in it.
    pub(crate) fn links(&self) -> Links {
        match self.way {
            Way::Path => Links::Follow,
            Way::Below(_) => Links::Refuse,
        }
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Takes the lister's tasks.
pub(crate) trait TaskSink: Send {
    /// Takes a task when there is room for it.
    fn give(&self, task: OpenTask) -> Result<(), Stopped>;

    /// Closes directories that are no longer needed.
    fn close_dirs(&self);

    /// Waits until nothing from before this turn needs a descriptor.
    fn wait_for(&self, turn: u64);

    /// The name of `dir`, if the files in it go by name.
    fn folder(&self, dir: BorrowedFd<'_>) -> Option<Folder>;

    /// Most entries of a task.
    fn task_len_max(&self) -> usize;

    /// Tasks that are on their way at once.
    fn tasks_max(&self) -> usize;

    /// The files of a task are open at once.
    fn keeps_files_open(&self) -> bool;
}

/// Takes entries.
pub(crate) struct Lister {
    reorder: Arc<Reorder>,
    sink: Box<dyn TaskSink>,
    batch: Batch,
    targets: Vec<Target>,
    dirs: Vec<Arc<Dir>>,
    task_len: usize,
    task_len_max: usize,
    dirs_max: usize,
    /// When the task got its first entry.
    since: Duration,
    next_turn: u64,
    next_dir: u64,
    /// Directory of the last path as it was written, with a slash at its end.
    prefix: Vec<u8>,
    prefix_dir: Option<Arc<Dir>>,
}

impl Lister {
    pub(crate) fn new(reorder: Arc<Reorder>, sink: Box<dyn TaskSink>) -> Self {
        let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let files_max = match sink.keeps_files_open() {
            // Two tasks are open at once.
            true => limit.saturating_sub(FIXED_DESCRIPTORS) / 4,
            false => usize::MAX,
        };
        Self {
            reorder,
            batch: Batch::with_capacity(0),
            targets: Vec::new(),
            dirs: Vec::new(),
            task_len: TASK_LEN_FIRST.min(files_max.max(1)),
            task_len_max: files_max.clamp(1, sink.task_len_max()),
            dirs_max: (limit / 4 / (sink.tasks_max() + 2)).clamp(1, DIRS_MAX),
            sink,
            since: Duration::ZERO,
            next_turn: 0,
            next_dir: 0,
            prefix: Vec::new(),
            prefix_dir: None,
        }
    }

    /// A file by its path, which may be a symbolic link; `-` is standard input.
    pub(crate) fn path(&mut self, label: Label<'_>) -> Result<(), Stopped> {
        if label.name == b"-" {
            return self.add(label, Target::Stdin, Verdict::Waiting);
        }
        match self.dir_of(label.name) {
            Some(dir) => self.file(label, &dir),
            None => self.add(label, Target::Path, Verdict::Waiting),
        }
    }

    /// As [`Self::path`], also for a path that is longer than system calls take.
    pub(crate) fn long_path(&mut self, label: Label<'_>) -> Result<(), Stopped> {
        let (prefix, base) = split(label.name);
        if is_too_long(label.name) && !base.is_empty() && self.prefix != prefix {
            let dir = CString::new(prefix).expect("a part of a path holds no zero byte");
            // Otherwise the opener says what is wrong.
            if let Ok(fd) = open_start(&dir) {
                self.prefix.clear();
                self.prefix.extend_from_slice(prefix);
                self.prefix_dir = Some(self.dir(fd, Way::Path));
            }
        }
        self.path(label)
    }

    /// As [`Self::path`], and what `selection` has below it if it is a directory.
    pub(crate) fn tree(&mut self, label: Label<'_>, selection: &Selection) -> Result<(), Stopped> {
        if label.name == b"-" {
            return self.path(label);
        }
        let path = CString::new(label.name).expect("an argument holds no zero byte");
        let way = match selection.links() {
            Links::Follow => Way::Path,
            Links::Refuse => Way::Below(label.name.len().try_into().expect("an argument is short")),
        };
        let mut tree = Tree { lister: self, function: label.function, way };
        match tree.retry_when_exhausted(|| open_dir(&path))? {
            Ok(dir) => walk(dir, label.name, &mut tree, selection),
            // The opener finds out what it is, or why it cannot be opened.
            Err(_) => self.path(label),
        }
    }

    /// An entry whose verdict is known.
    pub(crate) fn known(&mut self, label: Label<'_>, verdict: Verdict) -> Result<(), Stopped> {
        self.add(label, Target::Nothing, verdict)
    }

    /// Waits until everything listed so far is hashed.
    pub(crate) fn wait(&mut self) -> Result<(), Stopped> {
        self.flush(Last::No)?;
        self.sink.wait_for(self.next_turn);
        self.sink.close_dirs();
        Ok(())
    }

    /// Gives away what is waiting, before a pause or at the end.
    pub(crate) fn flush(&mut self, last: Last) -> Result<(), Stopped> {
        self.sink.close_dirs();
        if self.batch.len() == 0 && last == Last::No {
            return Ok(());
        }
        self.task_len = (2 * self.task_len).min(self.task_len_max);
        let next = Batch::with_capacity(self.task_len);
        let batch = Arc::new(mem::replace(&mut self.batch, next));
        let first = match batch.len() {
            0 => 0,
            _ => self.reorder.push(Arc::clone(&batch))?,
        };
        let targets = mem::replace(&mut self.targets, Vec::with_capacity(self.task_len));
        let dirs = mem::take(&mut self.dirs);
        let turn = self.next_turn;
        self.next_turn += 1;
        self.sink.give(OpenTask { turn, first, batch, targets, dirs, last })
    }

    /// A regular file, if the directory is right, in `dir`.
    fn file(&mut self, label: Label<'_>, dir: &Arc<Dir>) -> Result<(), Stopped> {
        if self.dirs.last().is_none_or(|last| last.id != dir.id) {
            if self.dirs.len() == self.dirs_max {
                self.flush(Last::No)?;
            }
            self.dirs.push(Arc::clone(dir));
        }
        self.add(label, Target::In(self.dirs.len() - 1), Verdict::Waiting)
    }

    fn add(&mut self, label: Label<'_>, target: Target, verdict: Verdict) -> Result<(), Stopped> {
        if self.batch.len() == 0 {
            self.since = coarse_now();
        }
        self.batch.push(label, verdict);
        self.targets.push(target);
        let is_full = self.batch.len() >= self.task_len || self.batch.text_len() >= TASK_TEXT_MAX;
        let is_due = || coarse_now().saturating_sub(self.since) >= AGE_MAX;
        if is_full || is_due() { self.flush(Last::No) } else { Ok(()) }
    }

    fn dir(&mut self, fd: OwnedFd, way: Way) -> Arc<Dir> {
        self.next_dir += 1;
        let folder = self.sink.folder(fd.as_fd());
        Arc::new(Dir { fd, id: self.next_dir, folder, way })
    }

    /// The directory from which `path` is opened, if the path before was in the same one.
    fn dir_of(&mut self, path: &[u8]) -> Option<Arc<Dir>> {
        let (prefix, base) = split(path);
        if matches!(base, b"" | b"." | b"..") {
            return None;
        }
        if self.prefix != prefix {
            self.prefix.clear();
            self.prefix.extend_from_slice(prefix);
            self.prefix_dir = None;
            return None;
        }
        if self.prefix_dir.is_none() {
            let path = if prefix.is_empty() { &b"."[..] } else { prefix };
            let path = CString::new(path).expect("a part of a path holds no zero byte");
            // What cannot be kept open may be opened all the same.
            let fd = open_start(&path).ok()?;
            self.prefix_dir = Some(self.dir(fd, Way::Path));
        }
        self.prefix_dir.clone()
    }
}

/// The directory of `path`, with the slash at its end, and the name in it.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    path.split_at(path.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1))
}

/// Lists what a walk finds.
struct Tree<'a> {
    lister: &'a mut Lister,
    function: Function,
    way: Way,
}

impl Tree<'_> {
    fn label<'a>(&self, name: &'a [u8]) -> Label<'a> {
        Label { name, function: self.function, want: b"" }
    }
}

impl Visitor for Tree<'_> {
    type Dir = Arc<Dir>;
    type Stop = Stopped;

    fn enter(&mut self, dir: OwnedFd) -> Arc<Dir> {
        self.lister.dir(dir, self.way)
    }

    fn file(&mut self, path: &[u8], dir: &Arc<Dir>) -> Result<(), Stopped> {
        self.lister.file(self.label(path), dir)
    }

    fn problem(&mut self, path: &[u8], problem: Problem) -> Result<(), Stopped> {
        self.lister.known(self.label(path), Verdict::Problem(problem))
    }

    fn skipped(&mut self, path: &[u8], special: Special) -> Result<(), Stopped> {
        self.lister.known(self.label(path), Verdict::Skipped(special))
    }

    fn wait_for_descriptors(&mut self) -> Result<(), Stopped> {
        self.lister.wait()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_a_path_into_directory_and_name() {
        for (path, want) in [
            (&b"a"[..], (&b""[..], &b"a"[..])),
            (b"/a", (b"/", b"a")),
            (b"a//b/...", (b"a//b/", b"...")),
            (b"", (b"", b"")),
            (b"a/", (b"a/", b"")),
            (b"..", (b"", b"..")),
        ] {
            assert_eq!(split(path), want, "{path:?}");
        }
    }
}
