//! The items of a running job that are in memory, in order: those that wait to be handed to the core, those
//! that it has, and those whose result waits for one before it.
//!
//! Invariants: results leave in the order of the items; an item gets one result; a chunk of results is
//! written as a whole, so that writing it again changes nothing.

use super::limits::{CHUNK_ITEMS, PENDING_LEN_MAX, PENDING_MAX};
use super::manifest::expectation;
use super::record::{StoredDeath, StoredResult, StoredResults};
use super::source::ItemSource;
use super::walk::Walk;
use ipc_proto::limits::{FRAME_NAMES_MAX, INLINE_LEN_MAX, NAMES_LEN_MAX};
use ipc_proto::message::{
    Failure, FileItem, FileSource, ItemOutcome, Items, JobId, JobKind, JobSource, JobSpec, Stamp,
    Window, WorkerLoss,
};
use ipc_proto::{Algorithm, Algorithms, Blob};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

/// Bytes of an item, or where they are.
#[derive(Clone, Debug)]
pub(super) enum ItemContent {
    /// A file of a dataset.
    Named { dataset: Rc<str>, path: Blob, file: FileItem },
    /// The bytes themselves.
    Bytes(Blob),
}

impl ItemContent {
    /// Bytes of the core's window that it takes up.
    fn len(&self) -> usize {
        match self {
            Self::Named { path, .. } => path.len(),
            Self::Bytes(bytes) => bytes.len(),
        }
    }
}

/// An item that enters a feed.
#[derive(Clone, Debug)]
pub(super) struct FeedItem {
    pub(super) root: u16,
    pub(super) path: Blob,
    pub(super) stamp: Stamp,
    pub(super) expected: Blob,
    /// Its result of before, if its failed items are hashed again.
    pub(super) before: Option<ItemOutcome>,
    /// `None` if nothing is to be hashed: it has its result.
    pub(super) content: Option<ItemContent>,
    pub(super) outcome: Option<ItemOutcome>,
}

#[derive(Debug)]
struct Slot {
    item: FeedItem,
    /// Twice its index in the core's job, and 1 more if it is there: without that, of the next one that is.
    order: u64,
    /// Bytes of the window that it holds in the core.
    held: usize,
    /// Why it failed, if its workers were lost.
    losses: Vec<WorkerLoss>,
}

/// Results that left a feed, in order.
#[derive(Debug, Default)]
pub(super) struct Settled {
    pub(super) counted: Counted,
    /// Chunks that are complete, with the index of their first item.
    pub(super) full: Vec<(u64, StoredResults)>,
    /// Items whose workers were lost, or were lost the time before.
    pub(super) deaths: Vec<(u64, Option<StoredDeath>)>,
}

/// Sums over the results that left a feed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) resolved: u64,
    /// Of before, of the same items.
    pub(super) failed_before: u64,
    pub(super) failed: u64,
    pub(super) mismatched: u64,
    pub(super) bytes: u64,
}

/// A running job.
#[derive(Debug)]
pub(super) struct Feed {
    pub(super) number: u32,
    pub(super) core: Option<JobId>,
    pub(super) window: Window,
    /// Those of the core's job.
    pub(super) algorithms: Algorithms,
    /// Each item has its algorithm, which is one of these: see [`Self::other_algorithms`].
    is_of_manifest: bool,
    /// Algorithms of items that the core's job was handed.
    used: Vec<Algorithm>,
    pub(super) source: ItemSource,
    /// Finds items, until there are no more.
    pub(super) walk: Option<Walk>,
    pub(super) is_finished: bool,
    slots: VecDeque<Slot>,
    /// Slots in front that need not be handed to the core any more.
    handed: usize,
    /// Index of the next item for the core, and of the first one of the core's job.
    next_core: u64,
    core_base: u64,
    unresolved: u64,
    held: u64,
    content_len: usize,
    /// Losses of items of the core's job whose result is on its way.
    losses: BTreeMap<u64, Vec<WorkerLoss>>,
    /// The results of the chunk that is being filled, and the index of the first.
    chunk: Vec<StoredResult>,
    chunk_first: u64,
    is_dirty: bool,
}

impl Feed {
    /// The feed of a job from item `next` on.
    pub(super) fn new(number: u32, next: u64, source: ItemSource, spec: &JobSpec) -> Self {
        Self {
            number,
            core: None,
            window: Window::default(),
            algorithms: spec.algorithms,
            is_of_manifest: matches!(spec.source, JobSource::Manifest { .. }),
            used: Vec::new(),
            source,
            walk: None,
            is_finished: false,
            slots: VecDeque::new(),
            handed: 0,
            next_core: 0,
            core_base: 0,
            unresolved: 0,
            held: 0,
            content_len: 0,
            losses: BTreeMap::new(),
            chunk: Vec::new(),
            chunk_first: next - next % CHUNK_ITEMS,
            is_dirty: false,
        }
    }

    /// The results of the chunk in which the job goes on, up to there.
    pub(super) fn restore_chunk(&mut self, results: Vec<StoredResult>) {
        debug_assert!(self.chunk.is_empty() && self.slots.is_empty());
        self.chunk = results;
    }

    /// Index of the next item to commit.
    pub(super) fn next_index(&self) -> u64 {
        self.chunk_first + self.chunk.len() as u64
    }

    /// Skips items up to `first`, which starts a chunk, whose results stay as they are.
    pub(super) fn skip_to(&mut self, first: u64) {
        debug_assert!(self.slots.is_empty() && self.chunk.is_empty());
        debug_assert!(first.is_multiple_of(CHUNK_ITEMS));
        self.chunk_first = first;
    }

    pub(super) fn has_room(&self) -> bool {
        self.slots.len() < PENDING_MAX && self.content_len < PENDING_LEN_MAX
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    pub(super) fn push(&mut self, item: FeedItem) {
        let is_for_core = item.content.is_some();
        debug_assert!(is_for_core != item.outcome.is_some(), "hashed, or known");
        let order = 2 * self.next_core + u64::from(is_for_core);
        self.next_core += u64::from(is_for_core);
        self.content_len += item.content.as_ref().map_or(0, ItemContent::len) + item.path.len();
        self.slots.push_back(Slot { item, order, held: 0, losses: Vec::new() });
    }

    /// The next items for the core, as many as fit a frame and the window, with the index of the first.
    pub(super) fn take_frame(&mut self) -> Option<(u64, Items)> {
        let mut frame = Frame::default();
        let mut first = None;
        while let Some(slot) = self.slots.get_mut(self.handed) {
            if let Some(content) = &slot.item.content {
                let algorithm = slot.item.algorithm(self.is_of_manifest);
                if algorithm.is_some_and(|wanted| !self.algorithms.contains(&wanted)) {
                    break;
                }
                let has_room = self.unresolved < self.window.items.into()
                    && self.held + content.len() as u64 <= self.window.bytes;
                if !has_room || !frame.takes(content) {
                    break;
                }
                if let Some(algorithm) = algorithm.filter(|wanted| !self.used.contains(wanted)) {
                    self.used.push(algorithm);
                }
                slot.held = content.len();
                self.held += content.len() as u64;
                self.unresolved += 1;
                first.get_or_insert(slot.order / 2);
                self.content_len -= content.len();
                frame.push(slot.item.content.take());
            }
            self.handed += 1;
        }
        Some((first? - self.core_base, frame.into_items()?))
    }

    /// The algorithms that the core's job should have from here on, if the next item is of another one: those of the items
    /// before as well, as lists often repeat them, unless that are too many. All that was handed out has its result.
    pub(super) fn other_algorithms(&self) -> Option<Algorithms> {
        let item = &self.slots.get(self.handed)?.item;
        let wanted = item.algorithm(self.is_of_manifest && item.content.is_some())?;
        if self.core.is_none() || self.unresolved > 0 || self.algorithms.contains(&wanted) {
            return None;
        }
        let together = [&self.used[..], &[wanted]].concat();
        Some(Algorithms::new(&together).unwrap_or(wanted.into()))
    }

    /// Goes on with another job of the core, which is not opened yet.
    pub(super) fn switch(&mut self, algorithms: Algorithms) {
        debug_assert!(self.unresolved == 0 && self.held == 0, "nothing is on its way");
        self.core = None;
        self.window = Window::default();
        self.used.retain(|used| algorithms.contains(used));
        self.algorithms = algorithms;
        self.core_base = self.slots.get(self.handed).map_or(self.next_core, |slot| slot.order / 2);
    }

    /// True if everything was handed out that it has.
    pub(super) fn is_handed_out(&self) -> bool {
        self.handed == self.slots.len()
    }

    /// Notes why an item of the core's job fails, whose result follows.
    pub(super) fn die(&mut self, core_index: u64, losses: Vec<WorkerLoss>) {
        self.losses.insert(self.core_base + core_index, losses);
    }

    /// Takes in the result of an item of the core's job.
    ///
    /// # Panics
    /// If it has one, or was not handed out: results are never accepted twice.
    pub(super) fn resolve(&mut self, core_index: u64, outcome: ItemOutcome, kind: JobKind) {
        let core_index = self.core_base + core_index;
        let order = 2 * core_index + 1;
        let at = self.slots.partition_point(|slot| slot.order < order);
        let slot = self.slots.get_mut(at).filter(|slot| slot.order == order);
        let slot = slot.expect("a result is of an item that was handed out and has none");
        assert!(at < self.handed && slot.item.outcome.is_none(), "an item gets one result");
        self.unresolved -= 1;
        self.held -= slot.held as u64;
        slot.losses = self.losses.remove(&core_index).unwrap_or_default();
        slot.item.outcome = Some(match (kind, outcome) {
            (JobKind::Check, ItemOutcome::Digests(digests)) => {
                let (digests, expected) = match self.is_of_manifest {
                    true => wanted_digest(self.algorithms, &digests, &slot.item.expected),
                    false => (digests, &slot.item.expected[..]),
                };
                if digests[..] == *expected {
                    ItemOutcome::Digests(digests)
                } else {
                    ItemOutcome::Mismatch(digests)
                }
            }
            (_, outcome) => outcome,
        });
    }

    /// Moves the results in front to their chunk, as far as there is none missing.
    pub(super) fn settle(&mut self) -> Settled {
        let Settled { mut counted, mut full, mut deaths } = Settled::default();
        while let Some(slot) = self.slots.front()
            && self.handed > 0
            && slot.item.outcome.is_some()
        {
            let Some(Slot { item, losses, .. }) = self.slots.pop_front() else { break };
            let Some(outcome) = item.outcome else { break };
            self.handed -= 1;
            self.content_len -= item.path.len();
            counted.resolved += 1;
            let (mut now, mut before) = (Tally::default(), Tally::default());
            now.add(&outcome, item.stamp);
            item.before.iter().for_each(|outcome| before.add(outcome, item.stamp));
            counted.failed += now.failed;
            counted.failed_before += before.failed;
            counted.mismatched += now.mismatched.saturating_sub(before.mismatched);
            counted.bytes += now.bytes.saturating_sub(before.bytes);
            let FeedItem { root, path, stamp, before, .. } = item;
            if !losses.is_empty() {
                let death = StoredDeath { root, path: path.clone(), losses };
                deaths.push((self.next_index(), Some(death)));
            } else if before.as_ref().is_some_and(is_death) && !is_death(&outcome) {
                deaths.push((self.next_index(), None));
            }
            self.chunk.push(StoredResult { root, path, stamp, outcome });
            self.is_dirty = true;
            if self.chunk.len() as u64 == CHUNK_ITEMS {
                full.push((self.chunk_first, StoredResults(std::mem::take(&mut self.chunk))));
                self.chunk_first += CHUNK_ITEMS;
            }
        }
        Settled { counted, full, deaths }
    }

    /// The chunk that is not full, if it has changed.
    pub(super) fn take_dirty(&mut self) -> Option<(u64, StoredResults)> {
        let is_dirty = std::mem::take(&mut self.is_dirty) && !self.chunk.is_empty();
        is_dirty.then(|| (self.chunk_first, StoredResults(self.chunk.clone())))
    }
}

impl FeedItem {
    /// Algorithm of an item of a manifest.
    fn algorithm(&self, is_of_manifest: bool) -> Option<Algorithm> {
        is_of_manifest.then(|| expectation(&self.expected))?.map(|(algorithm, _)| algorithm)
    }
}

/// Of the digests of a file by `algorithms` the one that its line has, and that of the line.
fn wanted_digest<'a>(
    algorithms: Algorithms,
    digests: &[u8],
    expected: &'a [u8],
) -> (Blob, &'a [u8]) {
    let (wanted, expected) = expectation(expected).unwrap_or((algorithms[0], &[]));
    let before = algorithms.iter().take_while(|&&algorithm| algorithm != wanted);
    let start: usize = before.map(|algorithm| algorithm.digest_len()).sum();
    let digest = digests.get(start..).unwrap_or_default();
    let len = wanted.digest_len().min(digest.len());
    (digest[..len].into(), expected)
}

/// True if its workers were lost.
fn is_death(outcome: &ItemOutcome) -> bool {
    matches!(outcome, ItemOutcome::Failed(Failure::WorkersLost { .. }))
}

#[derive(Default)]
struct Tally {
    failed: u64,
    mismatched: u64,
    bytes: u64,
}

impl Tally {
    fn add(&mut self, outcome: &ItemOutcome, stamp: Stamp) {
        match outcome {
            ItemOutcome::Digests(_) => self.bytes += stamp.size,
            ItemOutcome::Mismatch(_) => {
                self.bytes += stamp.size;
                self.mismatched += 1;
            }
            ItemOutcome::Failed(_) => self.failed += 1,
        }
    }
}

/// Items of one kind that are handed to the core together.
#[derive(Default)]
struct Frame {
    contents: Vec<ItemContent>,
    len: usize,
}

impl Frame {
    fn takes(&self, content: &ItemContent) -> bool {
        let len_max = match content {
            ItemContent::Named { .. } => NAMES_LEN_MAX,
            ItemContent::Bytes(_) => INLINE_LEN_MAX,
        };
        let is_alike = match (self.contents.first(), content) {
            (
                Some(ItemContent::Named { dataset, .. }),
                ItemContent::Named { dataset: other, .. },
            ) => dataset == other,
            (Some(ItemContent::Bytes(_)), ItemContent::Bytes(_)) | (None, _) => true,
            (Some(ItemContent::Named { .. }), ItemContent::Bytes(_))
            | (Some(ItemContent::Bytes(_)), ItemContent::Named { .. }) => false,
        };
        is_alike && self.contents.len() < FRAME_NAMES_MAX && self.len + content.len() <= len_max
    }

    fn push(&mut self, content: Option<ItemContent>) {
        let Some(content) = content else { return };
        self.len += content.len();
        self.contents.push(content);
    }

    fn into_items(self) -> Option<Items> {
        let (mut lens, mut data) = (Vec::new(), Vec::new());
        let (mut name, mut paths, mut files) = (String::new(), Vec::new(), Vec::new());
        for content in self.contents {
            match content {
                ItemContent::Named { dataset, path, file } => {
                    name = dataset.to_string();
                    paths.push(path);
                    files.push(file);
                }
                ItemContent::Bytes(bytes) => {
                    lens.push(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
                    data.extend_from_slice(&bytes);
                }
            }
        }
        if !files.is_empty() {
            return Some(Items::Files { source: FileSource::Dataset { name, paths }, files });
        }
        (!lens.is_empty()).then_some(Items::Inline { lens, data: Blob(data) })
    }
}
