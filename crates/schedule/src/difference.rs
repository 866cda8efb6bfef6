//! Differences of two runs: a merge of two lists of files in the order of a walk.
//!
//! [`Differences::wants`] says which list it needs more of; [`Differences::push`] and [`Differences::end`] give it that, and
//! [`Differences::pull`] returns what is known so far. New and gone files are held back until the end, as they may turn out to
//! be moved.
//!
//! Memory: two files, and at most [`MOVES_MAX`] that are held back. Beyond that, files are new or gone, not moved, and
//! [`Differences::has_all_moves`] is false.

use crate::moves::{Arrival, ContentKey, NewContent, OldContent, Presence, explain};
use ipc_proto::Algorithm;
use std::cmp::Ordering;
use std::collections::HashMap;

/// Most files that are held back because they may have moved.
pub const MOVES_MAX: usize = 100_000;

/// Longest time between two timestamps of a file system, in nanoseconds: FAT has even seconds only.
const TICK_NS: i64 = 2_000_000_000;

/// Cause of another digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Nothing is known of its metadata.
    Unknown,
    /// It was written to or replaced.
    Modified,
    /// It was replaced by an earlier version.
    Older,
    /// Its size and time of modification are as before: its content rotted.
    Rotted,
}

/// Size of a file and time of its last modification, in nanoseconds since 1970.
pub type SizeAndTime = (u64, i64);

impl Cause {
    /// The cause for a file that looked like `before` and looks like `now`; `is_racy` if it could have been written
    /// to after it was read without a trace in these.
    #[must_use]
    pub fn of(before: SizeAndTime, now: SizeAndTime, is_racy: bool) -> Self {
        if before.1 > now.1 {
            Self::Older
        } else if before != now || is_racy {
            Self::Modified
        } else {
            Self::Rotted
        }
    }

    /// Words for people, where the cause is known.
    #[must_use]
    pub fn text(self) -> Option<&'static str> {
        match self {
            Self::Unknown => None,
            Self::Modified => Some("modified: its size or time of modification is another one"),
            Self::Older => Some("older: it was replaced by an earlier version"),
            Self::Rotted => Some(
                "ROTTED: size and time of modification are as they were, the content is not; restore \
                 it from a copy",
            ),
        }
    }

    /// The name in JSON, where the cause is known.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        match self {
            Self::Unknown => None,
            Self::Modified => Some("modified"),
            Self::Older => Some("older"),
            Self::Rotted => Some("rotted"),
        }
    }
}

/// A file as a run found it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunFile {
    /// Its name in the manifest.
    pub name: Vec<u8>,
    /// Its digests, back to back; none if it has no digest.
    pub digests: Option<Vec<u8>>,
    /// Length in bytes.
    pub size: u64,
    /// Time of the last modification, in nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Time of the last status change, in nanoseconds since 1970.
    pub ctime_ns: i64,
}

/// One of the two lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunSide {
    /// Files of the run before.
    Before,
    /// Files of the later run.
    After,
}

/// A file that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileDifference {
    /// Its name; of a file that is gone the one it had.
    pub name: Vec<u8>,
    /// The difference.
    pub change: FileChange,
}

/// The difference of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileChange {
    /// It was not there.
    New,
    /// It is not there any more.
    Gone,
    /// It has another content.
    Changed(Cause),
    /// It had this name.
    Moved(Vec<u8>),
}

/// A list whose names are not in the order of a walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unordered;

#[derive(Debug, Default)]
struct Input {
    next: Option<RunFile>,
    last: Vec<u8>,
    has_ended: bool,
}

/// A comparison that goes on.
#[derive(Debug)]
pub struct Differences {
    /// Beginning of the run before, in nanoseconds since 1970.
    began_ns: i64,
    moves_max: usize,
    before: Input,
    after: Input,
    /// Files that are gone, or that have another content: their old name and content.
    left: Vec<(RunFile, Presence)>,
    arrived: Vec<RunFile>,
    has_all_moves: bool,
    /// Held back ones once both lists have ended, the last one first.
    rest: Option<Vec<FileDifference>>,
}

/// Order of two names in a walk, which sorts each directory: `a/b` is before `a.c`.
#[must_use]
pub fn walk_order(a: &[u8], b: &[u8]) -> Ordering {
    a.split(|&byte| byte == b'/').cmp(b.split(|&byte| byte == b'/'))
}

impl Differences {
    /// A comparison with a run that began at `began_ns`, in nanoseconds since 1970.
    #[must_use]
    pub fn new(began_ns: i64) -> Self {
        Self::with_moves_max(began_ns, MOVES_MAX)
    }

    /// The same with another number of files that are held back.
    #[must_use]
    pub fn with_moves_max(began_ns: i64, moves_max: usize) -> Self {
        Self {
            began_ns,
            moves_max,
            before: Input::default(),
            after: Input::default(),
            left: Vec::new(),
            arrived: Vec::new(),
            has_all_moves: true,
            rest: None,
        }
    }

    /// The list of which the next file, or the end, is needed; none if both have ended.
    #[must_use]
    pub fn wants(&self) -> Option<RunSide> {
        let is_needed = |input: &Input| input.next.is_none() && !input.has_ended;
        match () {
            () if is_needed(&self.before) => Some(RunSide::Before),
            () if is_needed(&self.after) => Some(RunSide::After),
            () => None,
        }
    }

    /// The next file of a list that is wanted.
    ///
    /// # Errors
    /// It does not come after the one before.
    ///
    /// # Panics
    /// The list is not wanted.
    pub fn push(&mut self, side: RunSide, file: RunFile) -> Result<(), Unordered> {
        let input = self.input(side);
        assert!(input.next.is_none() && !input.has_ended, "{side:?} is not wanted");
        if !input.last.is_empty() && walk_order(&input.last, &file.name) != Ordering::Less {
            return Err(Unordered);
        }
        input.last.clone_from(&file.name);
        input.next = Some(file);
        Ok(())
    }

    /// The end of a list.
    pub fn end(&mut self, side: RunSide) {
        self.input(side).has_ended = true;
    }

    fn input(&mut self, side: RunSide) -> &mut Input {
        match side {
            RunSide::Before => &mut self.before,
            RunSide::After => &mut self.after,
        }
    }

    /// False if some files that moved may be reported as new and gone.
    #[must_use]
    pub fn has_all_moves(&self) -> bool {
        self.has_all_moves
    }

    /// The next difference; none if more files are wanted, or at the end.
    pub fn pull(&mut self) -> Option<FileDifference> {
        while self.wants().is_none() {
            if let Some(rest) = &mut self.rest {
                return rest.pop();
            }
            let order = match (&self.before.next, &self.after.next) {
                (Some(before), Some(after)) => walk_order(&before.name, &after.name),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => {
                    self.rest = Some(self.held_back());
                    continue;
                }
            };
            let before = self.before.next.take_if(|_| order != Ordering::Greater);
            let after = self.after.next.take_if(|_| order != Ordering::Less);
            let found = match (before, after) {
                (Some(before), Some(after)) => self.compare(before, &after),
                (Some(before), None) => self.hold(before, FileChange::Gone),
                (None, Some(after)) => self.hold(after, FileChange::New),
                (None, None) => None,
            };
            if found.is_some() {
                return found;
            }
        }
        None
    }

    fn compare(&mut self, before: RunFile, after: &RunFile) -> Option<FileDifference> {
        // Without both digests there is nothing to compare.
        let (old, new) = (before.digests.as_ref()?, after.digests.as_ref()?);
        if old == new {
            return None;
        }
        // A file whose status changed while that run went on could have been read before the change.
        let is_racy = before.ctime_ns >= self.began_ns.saturating_sub(TICK_NS);
        let times = |file: &RunFile| (file.size, file.mtime_ns);
        let cause = Cause::of(times(&before), times(after), is_racy);
        let name = after.name.clone();
        if self.has_room() && before.size > 0 {
            self.left.push((before, Presence::Changed));
        }
        Some(FileDifference { name, change: FileChange::Changed(cause) })
    }

    fn has_room(&mut self) -> bool {
        let has_room = self.left.len() + self.arrived.len() < self.moves_max;
        self.has_all_moves &= has_room;
        has_room
    }

    fn hold(&mut self, file: RunFile, change: FileChange) -> Option<FileDifference> {
        // Every empty file equals every other one.
        if file.size == 0 || file.digests.is_none() || !self.has_room() {
            return Some(FileDifference { name: file.name, change });
        }
        match change {
            FileChange::New => self.arrived.push(file),
            FileChange::Gone | FileChange::Changed(_) | FileChange::Moved(_) => {
                self.left.push((file, Presence::Missing));
            }
        }
        None
    }

    /// Files that were held back, the last one first.
    fn held_back(&mut self) -> Vec<FileDifference> {
        let (left, arrived) = (std::mem::take(&mut self.left), std::mem::take(&mut self.arrived));
        let old = (0..).zip(&left).map(|(index, (file, presence))| OldContent {
            key: key(file),
            name: &file.name,
            index,
            presence: *presence,
        });
        let new = (0..).zip(&arrived).map(|(index, file)| NewContent {
            key: key(file),
            name: &file.name,
            file: index,
        });
        let arrivals = explain(old.collect(), new.collect(), arrived.len());
        let moved: HashMap<u32, usize> = arrivals
            .iter()
            .enumerate()
            .filter_map(|(to, arrival)| match arrival {
                Arrival::Moved(from) => Some((*from, to)),
                Arrival::New | Arrival::Copied(_) => None,
            })
            .collect();
        let gone = (0..).zip(&left).filter(|(index, (_, presence))| {
            *presence == Presence::Missing && !moved.contains_key(index)
        });
        let mut rest: Vec<FileDifference> = gone
            .map(|(_, (file, _))| FileDifference {
                name: file.name.clone(),
                change: FileChange::Gone,
            })
            .collect();
        let from: HashMap<usize, u32> = moved.into_iter().map(|(from, to)| (to, from)).collect();
        for (i, file) in arrived.into_iter().enumerate() {
            let change = match from.get(&i) {
                Some(&from) => FileChange::Moved(left[from as usize].0.name.clone()),
                None => FileChange::New,
            };
            rest.push(FileDifference { name: file.name, change });
        }
        rest.sort_by(|a, b| walk_order(&b.name, &a.name));
        rest
    }
}

/// Digests of one run are of the same algorithms, so that any name stands for them.
fn key(file: &RunFile) -> ContentKey<'_> {
    (Algorithm::Sha256, file.digests.as_deref().unwrap_or_default())
}
