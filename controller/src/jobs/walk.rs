//! Walks through datasets: a job that names directories has their files found by workers, page by page, and stored in
//! the journal as a client would store them.
//!
//! Files come in the order of `hashctl sum -r`: by the bytes of their names, and a directory where its name stands.
//!
//! Invariants:
//! - what is durable of a walk is a prefix of it, together with the place where it goes on;
//! - one page is asked for at a time, and none while [`WALK_AHEAD`] items wait;
//! - the entries in memory are bounded: those of directories further up are listed again where they are too many.

use super::limits::OPEN_PAUSE;
use super::manifest::ManifestWalk;
use super::record::{StoredItem, StoredItems, WalkPlace, put_items};
use super::usage::Amount;
use super::{Book, BookAction};
use crate::core::{ListTag, PageWanted};
use ipc_proto::Blob;
use ipc_proto::limits::{FRAME_NAMES_MAX, LIST_ENTRIES_MAX, PATH_LEN_MAX};
use ipc_proto::message::{
    DirEntry, EntryKind, Failure, FileItem, JobId, JobRoot, JobSource, JobState, ListOutcome,
    ListWork, NameShare,
};
use std::collections::VecDeque;
use std::io;
use std::time::Duration;

/// Items without a result from which on no more are looked for.
const WALK_AHEAD: u64 = 32 << 10;

/// Rows of items that are written in one step.
const ROWS_MAX: usize = 8;

/// Bytes of items from which on a row is full: with one more it fits a frame of the codec.
pub(super) const ROW_LEN: usize = 256 << 10;

/// Entries in memory from which on those of the directories further up are dropped.
const ENTRIES_MAX: usize = 16 << 10;

/// Times that a page is asked for again over which workers were lost.
const LOST_MAX: u32 = 5;

/// A directory that is entered.
#[derive(Debug)]
struct WalkLevel {
    /// The name of the last entry that was taken; empty for none.
    last: Blob,
    rest: VecDeque<DirEntry>,
    /// There may be more entries behind those in `rest`, or behind `last`.
    more: bool,
}

impl WalkLevel {
    fn after(last: Blob) -> Self {
        Self { last, rest: VecDeque::new(), more: true }
    }
}

/// A walk through the roots of a job.
#[derive(Debug)]
pub(super) struct Walk {
    pub(super) tag: ListTag,
    root: u16,
    /// From the root down.
    levels: Vec<WalkLevel>,
    /// A page is on its way.
    pub(super) is_asked: bool,
    /// The commit with what was found last.
    pub(super) after: u64,
    /// Times in a row that workers were lost over the page, and when it is asked for again.
    lost: u32,
    not_before: Duration,
    /// The manifest that is read instead of directories.
    pub(super) manifest: Option<ManifestWalk>,
}

/// The next need of a walk.
#[derive(Debug, PartialEq, Eq)]
enum WalkStep {
    /// Room for more items.
    Room,
    /// The page of the innermost directory.
    Page,
    /// Nothing: there are no more roots.
    Nothing,
}

impl Walk {
    /// A walk that goes on at `place`.
    pub(super) fn new(tag: ListTag, place: &WalkPlace) -> Self {
        let names = place.path.split(|&byte| byte == b'/');
        let levels = names.map(|name| WalkLevel::after(name.into())).collect();
        Self {
            tag,
            root: place.root,
            levels,
            is_asked: false,
            after: 0,
            lost: 0,
            not_before: Duration::ZERO,
            manifest: None,
        }
    }

    /// A walk through a manifest that goes on at `place`.
    pub(super) fn through_manifest(tag: ListTag, place: &WalkPlace) -> Self {
        let manifest = Some(ManifestWalk::new(place));
        Self { levels: Vec::new(), manifest, ..Self::new(tag, &WalkPlace::default()) }
    }

    /// The place where it goes on.
    fn place(&self) -> WalkPlace {
        let names: Vec<&[u8]> = self.levels.iter().map(|level| &level.last[..]).collect();
        WalkPlace { root: self.root, path: Blob(names.join(&b'/')) }
    }

    /// Path of the innermost directory below its root.
    fn dir(&self) -> Vec<u8> {
        let above = self.levels.len().saturating_sub(1);
        let names: Vec<&[u8]> = self.levels[..above].iter().map(|level| &level.last[..]).collect();
        names.join(&b'/')
    }

    /// Takes items of the share among the entries that are known, as many as fit a row.
    fn take(
        &mut self,
        roots: &[JobRoot],
        share: NameShare,
        found: &mut Vec<StoredItem>,
    ) -> WalkStep {
        let mut len = 0;
        while found.len() < FRAME_NAMES_MAX && len < ROW_LEN {
            let Some(root) = roots.get(usize::from(self.root)) else { return WalkStep::Nothing };
            let dir = self.dir();
            let Some(level) = self.levels.last_mut() else {
                self.root += 1;
                self.levels.push(WalkLevel::after(Blob::default()));
                continue;
            };
            let Some(entry) = level.rest.pop_front() else {
                if level.more {
                    return WalkStep::Page;
                }
                self.levels.pop();
                continue;
            };
            level.last = entry.name;
            let path = below(&dir, &level.last);
            let content = below(&root.path, &path);
            let failure = if content.len() > PATH_LEN_MAX {
                Some(Failure::Io { errno: libc::ENAMETOOLONG })
            } else if let EntryKind::Unknown { errno } = entry.kind {
                Some(Failure::Io { errno })
            } else {
                None
            };
            match entry.kind {
                EntryKind::Directory if failure.is_none() => self.enter(),
                EntryKind::File if !share.contains(NameShare::place(&content)) => {}
                EntryKind::File | EntryKind::Directory | EntryKind::Unknown { .. } => {
                    len += path.len() + content.len();
                    found.push(StoredItem {
                        root: self.root,
                        name: Blob(path),
                        file: FileItem::from(entry.stamp),
                        content: Blob(if failure.is_none() { content } else { Vec::new() }),
                        failure,
                        ..StoredItem::default()
                    });
                }
                EntryKind::Symlink
                | EntryKind::Fifo
                | EntryKind::Socket
                | EntryKind::CharDevice
                | EntryKind::BlockDevice => {}
            }
        }
        WalkStep::Room
    }

    /// Enters the directory that was taken last.
    fn enter(&mut self) {
        let mut known: usize = self.levels.iter().map(|level| level.rest.len()).sum();
        for level in &mut self.levels {
            if known <= ENTRIES_MAX {
                break;
            }
            known -= level.rest.len();
            level.more |= !level.rest.is_empty();
            level.rest = VecDeque::new();
        }
        self.levels.push(WalkLevel::after(Blob::default()));
    }

    /// The innermost directory cannot be listed: it is left, as an item that failed, unless it is a root.
    fn leave(&mut self, failure: Failure) -> Option<StoredItem> {
        let name = self.dir();
        self.levels.pop();
        (!self.levels.is_empty()).then(|| StoredItem {
            root: self.root,
            name: Blob(name),
            failure: Some(failure),
            ..StoredItem::default()
        })
    }
}

/// The path of `name` in `dir`, where either may be empty.
fn below(dir: &[u8], name: &[u8]) -> Vec<u8> {
    let parts = [dir, name].into_iter().filter(|part| !part.is_empty());
    parts.collect::<Vec<_>>().join(&b'/')
}

/// Why a dataset cannot be listed, for a person.
pub(super) fn reason(failure: Failure) -> String {
    match failure {
        Failure::Io { errno } => io::Error::from_raw_os_error(errno).to_string(),
        Failure::UnknownDataset => "the controller has none of this name".to_owned(),
        Failure::Unsupported => "no worker has it".to_owned(),
        Failure::WorkersLost { attempts } => format!("{attempts} workers were lost over it"),
        Failure::Changed
        | Failure::NotRegular
        | Failure::Invalid
        | Failure::Disputed
        | Failure::Outside
        | Failure::NotAList
        | Failure::BadLines { .. } => "a worker refused to".to_owned(),
    }
}

impl Book {
    /// Stores what is known of the files of a job, and asks for more.
    pub(super) fn walk(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let progress = &job.progress;
        let Some(walk) = job.feed.as_mut().and_then(|feed| feed.walk.as_mut()) else { return };
        let waiting = progress.items - progress.resolved;
        if walk.is_asked
            || walk.not_before > self.at.monotonic
            || !self.commits.is_durable(walk.after)
            || waiting >= WALK_AHEAD
        {
            return;
        }
        if walk.manifest.is_some() {
            return self.read_manifest(id);
        }
        let (name, roots) = match &job.origin.spec.source {
            JobSource::Dataset { name, roots } | JobSource::Audit { name, roots, .. } => {
                (name, roots)
            }
            JobSource::Manifest { .. } | JobSource::Stored => return,
        };
        let (mut rows, mut step) = (Vec::new(), WalkStep::Room);
        while step == WalkStep::Room && rows.len() < ROWS_MAX {
            let mut items = Vec::new();
            step = walk.take(roots, job.origin.spec.share, &mut items);
            rows.extend((!items.is_empty()).then_some(items));
        }
        let place = (step != WalkStep::Nothing).then(|| walk.place());
        if step == WalkStep::Page {
            walk.is_asked = true;
            let root = &roots[usize::from(walk.root)];
            let after = walk.levels.last().map(|level| level.last.clone()).unwrap_or_default();
            self.of_list.insert(walk.tag, id);
            self.actions.push(BookAction::List(PageWanted {
                tag: walk.tag,
                principal: job.origin.principal.into(),
                algorithms: job.origin.spec.algorithms,
                work: ListWork {
                    dataset: name.clone(),
                    dir: Blob(below(&root.path, &walk.dir())),
                    after,
                    entries_max: u16::try_from(LIST_ENTRIES_MAX).unwrap_or(u16::MAX),
                    claims: None,
                },
            }));
        }
        if !rows.is_empty() || place.is_none() {
            let dataset = name.clone();
            self.found(id, &dataset, rows, place);
        }
    }

    /// Writes items that were found, and the place where the walk goes on; without one it has ended.
    pub(super) fn found(
        &mut self,
        id: JobId,
        dataset: &str,
        rows: Vec<Vec<StoredItem>>,
        place: Option<WalkPlace>,
    ) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let sizes = rows.iter().flatten().map(|item| item.stored_len());
        let amount = Amount {
            items: rows.iter().map(Vec::len).sum::<usize>() as u64,
            bytes: sizes.sum(),
            ..Amount::default()
        };
        if let Err(text) = self.usage.take(job.origin.principal.into(), amount, job.held_max()) {
            return self.end(id, JobState::Failed, text);
        }
        for items in rows {
            let first = job.progress.items;
            job.progress.items += items.len() as u64;
            let items = StoredItems { dataset: dataset.to_owned(), items };
            self.commits.write([put_items(id, first, &items)]);
        }
        job.progress.stored_len += amount.bytes;
        job.progress.is_complete = place.is_none();
        let after = self.commits.next_sequence();
        if let Some(feed) = job.feed.as_mut() {
            match &place {
                Some(_) => feed.walk.iter_mut().for_each(|walk| walk.after = after),
                None => feed.walk = None,
            }
        }
        job.progress.walked = place;
        self.write_progress(id);
    }

    /// Takes in a page. One of a walk that was stopped meanwhile is of no use.
    pub(super) fn listed(&mut self, tag: ListTag, outcome: ListOutcome) {
        let Some(id) = self.of_list.remove(&tag) else { return };
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let walk = job.feed.as_mut().and_then(|feed| feed.walk.as_mut());
        let Some(walk) = walk.filter(|walk| walk.tag == tag) else { return };
        walk.is_asked = false;
        let failure = match outcome {
            ListOutcome::Page { entries, more } => {
                walk.lost = 0;
                if let Some(level) = walk.levels.last_mut() {
                    level.rest = entries.into();
                    level.more = more;
                }
                return;
            }
            page @ ListOutcome::Claims { .. } => {
                walk.lost = 0;
                if let Some(manifest) = &mut walk.manifest {
                    manifest.page = Some(page);
                }
                return;
            }
            ListOutcome::Failed { failure } => failure,
        };
        // Workers come and go; one that the page kills would do so for ever.
        if matches!(failure, Failure::WorkersLost { .. }) && walk.lost < LOST_MAX {
            walk.lost += 1;
            walk.not_before = self.at.monotonic + OPEN_PAUSE;
            return;
        }
        if walk.manifest.is_some() {
            return self.manifest_failed(id, failure);
        }
        let name = match &job.origin.spec.source {
            JobSource::Dataset { name, .. } | JobSource::Audit { name, .. } => name,
            JobSource::Manifest { .. } | JobSource::Stored => return,
        };
        let dataset = name.clone();
        let is_of_dataset = matches!(failure, Failure::UnknownDataset | Failure::Unsupported);
        let left = if is_of_dataset { None } else { walk.leave(failure) };
        match left {
            Some(item) => {
                let place = Some(walk.place());
                self.found(id, &dataset, vec![vec![item]], place);
            }
            None => {
                let text = format!("dataset {dataset} cannot be listed: {}", reason(failure));
                self.end(id, JobState::Failed, text);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, kind: EntryKind) -> DirEntry {
        let (stamp, inode, device) = Default::default();
        DirEntry { name: name.as_bytes().into(), kind, stamp, inode, device }
    }

    fn roots() -> Vec<JobRoot> {
        vec![JobRoot { path: b"top"[..].into(), shown: b"shown"[..].into() }]
    }

    fn give(walk: &mut Walk, entries: Vec<DirEntry>, more: bool) {
        let level = walk.levels.last_mut().unwrap();
        (level.rest, level.more) = (entries.into(), more);
    }

    #[test]
    fn a_walk_goes_on_behind_every_place_that_it_has_been_at() {
        let mut walk = Walk::new(ListTag(1), &WalkPlace::default());
        let mut found = Vec::new();
        assert_eq!(walk.take(&roots(), NameShare::ALL, &mut found), WalkStep::Page);
        let kinds = [("a", EntryKind::File), ("b", EntryKind::Directory), ("c", EntryKind::Fifo)];
        give(&mut walk, kinds.map(|(name, kind)| entry(name, kind)).to_vec(), false);
        assert_eq!(walk.take(&roots(), NameShare::ALL, &mut found), WalkStep::Page);
        assert_eq!((found.len(), &found[0].content[..]), (1, &b"top/a"[..]));
        // Entered, and nothing of it taken.
        assert_eq!(&walk.place().path[..], b"b/");
        let mut again = Walk::new(ListTag(2), &walk.place());
        assert_eq!((again.dir(), again.levels.len()), (b"b".to_vec(), 2));
        give(&mut again, vec![entry("x", EntryKind::File)], false);
        assert_eq!(again.take(&roots(), NameShare::ALL, &mut found), WalkStep::Page);
        assert_eq!(&found[1].name[..], b"b/x");
        // The directory above is listed again, behind the one that was left.
        assert_eq!(&again.place().path[..], b"b");
        give(&mut again, Vec::new(), false);
        assert_eq!(again.take(&roots(), NameShare::ALL, &mut found), WalkStep::Nothing);
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn directories_far_up_are_listed_again_instead_of_kept() {
        let mut walk = Walk::new(ListTag(1), &WalkPlace::default());
        let mut found = Vec::new();
        for _ in 0..10 {
            let many =
                (0..LIST_ENTRIES_MAX).map(|n| entry(&format!("d{n:05}"), EntryKind::Directory));
            give(&mut walk, many.collect(), false);
            assert_eq!(walk.take(&roots(), NameShare::ALL, &mut found), WalkStep::Page);
        }
        let known: usize = walk.levels.iter().map(|level| level.rest.len()).sum();
        assert!(known <= ENTRIES_MAX, "{known}");
        assert!(walk.levels[0].more && walk.levels[0].rest.is_empty());
        assert_eq!(&walk.levels[0].last[..], b"d00000");
    }

    #[test]
    fn a_directory_that_cannot_be_listed_is_an_item_that_failed_and_a_root_ends_the_job() {
        let mut walk = Walk::new(ListTag(1), &WalkPlace { root: 0, path: b"a/b/"[..].into() });
        let failure = Failure::Io { errno: libc::EACCES };
        let item = walk.leave(failure).unwrap();
        assert_eq!((&item.name[..], item.failure), (&b"a/b"[..], Some(failure)));
        assert_eq!(&walk.place().path[..], b"a/b");
        assert_eq!(Walk::new(ListTag(1), &WalkPlace::default()).leave(failure), None);
    }

    #[test]
    fn a_path_that_no_system_call_takes_is_an_item_that_failed() {
        let name = "n".repeat(250);
        let path = vec![name.as_bytes(); 18].join(&b'/');
        let mut walk = Walk::new(ListTag(1), &WalkPlace { root: 0, path: Blob(path) });
        let mut found = Vec::new();
        give(&mut walk, vec![entry("z", EntryKind::Directory)], false);
        walk.take(&roots(), NameShare::ALL, &mut found);
        assert_eq!(found[0].failure, Some(Failure::Io { errno: libc::ENAMETOOLONG }));
        assert!(found[0].content.is_empty());
    }
}
