//! The unit of dispatch: many small items, one part of a large one, or one step of a stream.
//!
//! A batch owns what its items need until they are resolved, so that a lost lease can be given to
//! another worker. A batch that was lost is cut into smaller ones: an item that kills its workers
//! is alone by its third attempt and takes no other with it. One long SHA-2 file resumes from its
//! last checkpoint (`checkpoints`).

use super::check::Vote;
use super::checkpoints::{Checkpoints, ResumePoint};
use super::limits::{
    EXPIRED_MAX, FILE_COST, FILE_COST_MAX, LARGE_LEN, LIST_ENTRY_COST, LOST_WORKERS_MAX,
    MESSAGE_COST,
};
use super::plane::{DatasetId, Datasets, Plane};
use ipc_proto::limits::{
    CHAINING_VALUE_LEN, LONG_LEN, LOSSES_MAX, PROGRESS_LEN_MAX, STATE_LEN_MAX,
};
use ipc_proto::message::{
    Failures, FileItem, FileSource, ListWork, LossCause, Piece, Run, Stamp, Work, WorkerLoss,
};
use ipc_proto::{Algorithm, Algorithms, Blob, Family};
use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::rc::Rc;
use std::slice;
use std::time::Duration;

/// A whole file.
#[derive(Clone, Debug)]
pub(super) struct File<F> {
    pub(super) index: u64,
    pub(super) item: FileItem,
    pub(super) source: Source<F>,
    /// Time of its arrival.
    pub(super) queued: Duration,
}

/// Where its bytes are.
#[derive(Clone, Debug)]
pub(super) enum Source<F> {
    Descriptor(F),
    /// At this path in a dataset.
    Name(DatasetId, Rc<[u8]>),
}

impl<F> Source<F> {
    pub(super) fn plane(&self) -> Plane {
        match self {
            Self::Descriptor(_) => Plane::Descriptors,
            Self::Name(dataset, _) => Plane::Dataset(*dataset),
        }
    }

    /// Bytes that are held for it.
    pub(super) fn path_len(&self) -> usize {
        match self {
            Self::Descriptor(_) => 0,
            Self::Name(_, path) => path.len(),
        }
    }
}

impl<F> File<F> {
    /// The item, if the file has this stamp.
    fn as_found(&self, stamp: Stamp) -> FileItem {
        FileItem { stamp, range: self.item.range }
    }
}

/// The work of a batch. Its files are on one plane.
#[derive(Clone, Debug)]
pub(super) enum Load<F> {
    Files(Vec<File<F>>),
    Inline {
        first: u64,
        lens: Vec<u32>,
        data: Blob,
    },
    Part {
        file: File<F>,
        number: u64,
        offset: u64,
        len: u64,
    },
    Merge {
        index: u64,
        values: Blob,
        path_len: usize,
        parent: Option<Node>,
    },
    Piece {
        index: u64,
        piece: Piece,
    },
    /// A page of a directory: the only item of its job.
    List {
        dataset: DatasetId,
        work: Rc<ListWork>,
    },
}

/// A node in the tree of the parts of a file: a part on level 0, above it what is merged of several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Node {
    pub(super) level: u8,
    /// Counted from the start of the file.
    pub(super) number: u64,
}

/// Attempts and losses of a batch.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    /// Number of leases.
    pub(super) leased: u32,
    /// Time since which it waits, unless since its files came.
    pub(super) queued: Duration,
    /// Losses while a worker was probably busy with it, in order.
    losses: Vec<(Rc<str>, LossCause)>,
    /// Number of leases that expired, and had not advanced.
    expired: u32,
    /// The distinct workers that lost it.
    lost_on: Vec<Rc<str>>,
}

impl History {
    /// True if `worker` lost it before.
    pub(super) fn avoids(&self, worker: &Rc<str>) -> bool {
        self.lost_on.contains(worker)
    }

    /// True if a worker was lost over it: then nothing else should be lost with it.
    pub(super) fn is_suspect(&self) -> bool {
        !self.lost_on.is_empty()
    }

    /// True if it was lost with a worker.
    pub(super) fn was_lost(&self) -> bool {
        !self.losses.is_empty()
    }

    /// Every loss, for the owner of its only item.
    pub(super) fn losses(&self) -> Vec<WorkerLoss> {
        let losses = self.losses.iter();
        losses
            .map(|(worker, cause)| WorkerLoss { worker: worker.to_string(), cause: *cause })
            .collect()
    }

    /// It was lost on `worker`, which is no proof against its items where it `advanced` before.
    fn lose(&mut self, worker: &Rc<str>, cause: LossCause, advanced: bool) {
        self.losses.push((Rc::clone(worker), cause));
        if !advanced && !self.avoids(worker) {
            self.lost_on.push(Rc::clone(worker));
        }
    }

    /// True if it fails when one more worker loses it.
    pub(super) fn is_last(&self) -> bool {
        self.lost_on.len() + 1 == LOST_WORKERS_MAX
    }

    fn is_exhausted(&self) -> bool {
        self.lost_on.len() >= LOST_WORKERS_MAX
            || self.losses.len() >= LOSSES_MAX
            || self.expired >= EXPIRED_MAX
    }
}

#[derive(Clone, Debug)]
pub(super) struct Batch<F> {
    pub(super) load: Load<F>,
    pub(super) history: History,
    /// Outputs of other runs, of which this is a check; none if it is none.
    pub(super) votes: Vec<Vote>,
    /// Of its file, if it is the SHA-2 of one.
    pub(super) checkpoints: Checkpoints,
}

/// Next step of a batch that a worker lost.
#[derive(Debug)]
pub(super) enum AfterLoss<F> {
    /// Try again.
    Retry(Vec<Batch<F>>),
    /// Its only item fails.
    Fail(Box<Batch<F>>),
}

impl<F: Clone> Batch<F> {
    pub(super) fn new(load: Load<F>) -> Self {
        Self {
            load,
            history: History::default(),
            votes: Vec::new(),
            checkpoints: Checkpoints::default(),
        }
    }

    /// True if another worker than `worker` should have it: `worker` lost it, or it checks an output
    /// of `worker`.
    pub(super) fn avoids(&self, worker: &Rc<str>) -> bool {
        self.history.avoids(worker) || self.has_vote_of(worker)
    }

    /// Time since which it waits for a worker.
    pub(super) fn queued(&self) -> Duration {
        let arrived = match &self.load {
            Load::Files(files) => files.first().map(|file| file.queued),
            Load::Part { file, .. } => Some(file.queued),
            Load::Inline { .. } | Load::Merge { .. } | Load::Piece { .. } | Load::List { .. } => {
                None
            }
        };
        self.history.queued.max(arrived.unwrap_or_default())
    }

    /// Items that are in it alone: the others of a split file are counted with their job.
    pub(super) fn whole_items_len(&self) -> usize {
        match &self.load {
            Load::Files(_) | Load::Inline { .. } | Load::Piece { .. } => self.items_len(),
            Load::Part { .. } | Load::Merge { .. } | Load::List { .. } => 0,
        }
    }

    pub(super) fn has_vote_of(&self, worker: &Rc<str>) -> bool {
        self.votes.iter().any(|o| o.worker == *worker)
    }

    pub(super) fn items_len(&self) -> usize {
        match &self.load {
            Load::Files(files) => files.len(),
            Load::Inline { lens, .. } => lens.len(),
            Load::Part { .. } | Load::Merge { .. } | Load::Piece { .. } | Load::List { .. } => 1,
        }
    }

    /// Returns true if nobody can have changed its bytes between two runs.
    pub(super) fn is_proof(&self) -> bool {
        match &self.load {
            Load::Files(_) | Load::Part { .. } | Load::List { .. } => false,
            Load::Inline { .. } | Load::Merge { .. } | Load::Piece { .. } => true,
        }
    }

    /// Requirements on a worker for it.
    pub(super) fn plane(&self) -> Plane {
        match &self.load {
            Load::Files(files) => {
                files.first().map_or(Plane::Descriptors, |file| file.source.plane())
            }
            Load::Part { file, .. } => file.source.plane(),
            Load::Inline { .. } | Load::Merge { .. } | Load::Piece { .. } => Plane::Inline,
            Load::List { dataset, .. } => Plane::Dataset(*dataset),
        }
    }

    /// Bytes of the job's window that its items take up.
    pub(super) fn held_bytes(&self) -> u64 {
        let held_len = match &self.load {
            Load::Files(files) => files.iter().map(|file| file.source.path_len()).sum(),
            Load::Inline { data, .. } => data.len(),
            Load::Part { file, .. } => file.source.path_len(),
            Load::Merge { path_len, .. } => *path_len,
            Load::Piece { piece, .. } => piece.len(),
            Load::List { .. } => 0,
        };
        held_len as u64
    }

    /// Bytes that are read or absorbed.
    pub(super) fn bytes(&self) -> u64 {
        match &self.load {
            Load::Files(files) => {
                files.iter().fold(0, |sum, file| sum.saturating_add(file.item.len()))
            }
            Load::Inline { data, .. } => data.len() as u64,
            Load::Part { len, .. } => *len,
            Load::Merge { values, .. } => values.len() as u64,
            Load::Piece { piece, .. } => piece.len() as u64,
            Load::List { .. } => 0,
        }
    }

    /// True if a worker whose threads all have such a one begins a shorter one at once.
    pub(super) fn is_long(&self) -> bool {
        self.bytes().saturating_sub(self.checkpoints.offset()) >= LONG_LEN
    }

    /// Bytes to read before the next checkpoint, or the end, for `algorithms`.
    pub(super) fn bytes_ahead(&self, algorithms: Algorithms) -> u64 {
        if !self.has_checkpoints(algorithms) {
            return self.bytes();
        }
        let len = match (&self.load, self.checkpoints.last()) {
            (Load::Files(files), Some(point)) => files[0].as_found(point.file).len(),
            _ => self.bytes(),
        };
        (len - self.checkpoints.offset()).min(PROGRESS_LEN_MAX)
    }

    /// The family with which it interleaves, for `algorithms`.
    pub(super) fn interleaves(&self, algorithms: Algorithms) -> Option<Family> {
        let Load::Files(files) = &self.load else { return None };
        let [file] = &files[..] else { return None };
        let is_free = !self.history.is_suspect() && self.votes.is_empty();
        let len = file.item.len().saturating_sub(self.checkpoints.offset());
        interleaves(algorithms, len).filter(|_| is_free)
    }

    /// Reports whether its worker sends checkpoints.
    fn has_checkpoints(&self, algorithms: Algorithms) -> bool {
        algorithms.single().is_some_and(Algorithm::has_midstate)
            && matches!(&self.load, Load::Files(files) if files.len() == 1)
    }

    /// True if a worker that does it for `algorithm` can have reached `point`.
    pub(super) fn takes(&self, algorithms: Algorithms, point: &ResumePoint) -> bool {
        let Load::Files(files) = &self.load else { return false };
        let fits = files.iter().all(|file| {
            let found = file.as_found(point.file);
            let is_it = match &file.source {
                // A descriptor's file is taken as its first reader found it.
                Source::Descriptor(_) => true,
                // By a name, another file may be found, if it came later.
                Source::Name(..) => {
                    let (seen, found) = (file.item.stamp, point.file);
                    (seen.size, seen.mtime_ns) == (found.size, found.mtime_ns)
                        || (found.mtime_ns > seen.mtime_ns && found.ctime_ns > seen.ctime_ns)
                }
            };
            is_it && found.end() <= point.file.size && point.offset <= found.len()
        });
        fits && self.has_checkpoints(algorithms) && self.checkpoints.takes(point)
    }

    /// Work in it, in bytes hashed: what is fixed about an item counts as bytes.
    pub(super) fn cost(&self) -> u64 {
        match &self.load {
            Load::Files(files) if self.checkpoints.started() > 0 => {
                let size: u64 = files.iter().map(|file| file.item.len()).sum();
                file_cost(size.saturating_sub(self.checkpoints.started()))
            }
            Load::Files(files) => files.iter().map(|file| file_cost(file.item.len())).sum(),
            Load::Part { len, .. } => file_cost(*len),
            Load::List { work, .. } => LIST_ENTRY_COST * u64::from(work.entries_max),
            Load::Inline { .. } | Load::Merge { .. } | Load::Piece { .. } => {
                self.bytes() + MESSAGE_COST * self.items_len() as u64
            }
        }
    }

    /// Part of [`Self::cost`] that is left after the last checkpoint.
    pub(super) fn cost_ahead(&self) -> u64 {
        self.cost().saturating_sub(self.checkpoints.offset() - self.checkpoints.started())
    }

    /// Bytes of the items that did not fail, without those that were counted as progress.
    pub(super) fn bytes_done(&self, failures: &Failures) -> u64 {
        if failures.is_empty() {
            return self.bytes().saturating_sub(self.checkpoints.offset());
        }
        let failed: BTreeSet<u32> = failures.iter().map(|&(position, _)| position).collect();
        let done = |lens: &mut dyn Iterator<Item = u64>| {
            let done = (0..).zip(lens).filter(|(position, _)| !failed.contains(position));
            done.fold(0, |sum: u64, (_, len)| sum.saturating_add(len))
        };
        match &self.load {
            Load::Files(files) => done(&mut files.iter().map(|file| file.item.len())),
            Load::Inline { lens, .. } => done(&mut lens.iter().map(|&len| u64::from(len))),
            Load::Part { .. } | Load::Merge { .. } | Load::Piece { .. } | Load::List { .. } => 0,
        }
    }

    /// Bytes of the items that failed, as announced.
    pub(super) fn bytes_failed(&self, failures: &Failures) -> u64 {
        match failures.is_empty() {
            true => 0,
            false => self.bytes().saturating_sub(self.bytes_done(failures)),
        }
    }

    /// The work as a worker is sent it, and the descriptors that ride along.
    pub(super) fn work(&self, datasets: &Datasets) -> (Work, Vec<F>) {
        match &self.load {
            Load::Files(files) => {
                let (source, descriptors) = source_of(files, datasets);
                let work = match (self.checkpoints.last(), &files[..]) {
                    (Some(point), [file]) => {
                        let ResumePoint { file: stamp, offset, state } = point.clone();
                        Work::Resume { source, file: file.as_found(stamp), offset, state }
                    }
                    _ => {
                        Work::Files { source, files: files.iter().map(|file| file.item).collect() }
                    }
                };
                (work, descriptors)
            }
            Load::Inline { lens, data, .. } => {
                (Work::Inline { lens: lens.clone(), data: data.clone() }, Vec::new())
            }
            Load::Part { file, offset, len, .. } => {
                let (source, descriptors) = source_of(slice::from_ref(file), datasets);
                let (file, offset, len) = (file.item, *offset, *len);
                (Work::Subtree { source, file, offset, len }, descriptors)
            }
            Load::Merge { values, parent, .. } => {
                let (values, root) = (values.clone(), parent.is_none());
                (Work::Piece(Piece::Merge { values, root }), Vec::new())
            }
            Load::Piece { piece, .. } => (Work::Piece(piece.clone()), Vec::new()),
            Load::List { work, .. } => (Work::List(ListWork::clone(work)), Vec::new()),
        }
    }

    /// The lengths that the output of one of its items can have, in bytes.
    pub(super) fn output_len(&self, algorithms: Algorithms) -> RangeInclusive<usize> {
        let exactly = |len| len..=len;
        match &self.load {
            // It has none, and so an answer with an output does not fit.
            Load::List { .. } => exactly(0),
            Load::Part { .. }
            | Load::Merge { parent: Some(_), .. }
            | Load::Piece { piece: Piece::Subtree { .. }, .. } => exactly(CHAINING_VALUE_LEN),
            Load::Piece { piece: Piece::Segment { last: false, .. }, .. } => 1..=STATE_LEN_MAX,
            Load::Piece {
                piece: Piece::Merge { .. } | Piece::Segment { last: true, .. }, ..
            }
            | Load::Files(_)
            | Load::Inline { .. }
            | Load::Merge { parent: None, .. } => exactly(algorithms.digests_len()),
        }
    }

    /// Which items it resolves, in order.
    pub(super) fn runs(&self) -> Vec<Run> {
        match &self.load {
            Load::Files(files) => runs_of(files.iter().map(|file| file.index)),
            Load::Inline { first, lens, .. } => {
                let len = u32::try_from(lens.len()).expect("a frame's messages are counted");
                vec![Run { first: *first, len }]
            }
            Load::Part { file, .. } => vec![Run { first: file.index, len: 1 }],
            Load::Merge { index, .. } | Load::Piece { index, .. } => {
                vec![Run { first: *index, len: 1 }]
            }
            Load::List { .. } => vec![Run { first: 0, len: 1 }],
        }
    }

    /// The index of each item, in order.
    pub(super) fn indexes(&self) -> Vec<u64> {
        let runs = self.runs().into_iter();
        runs.flat_map(|run| run.first..run.first + u64::from(run.len)).collect()
    }

    /// Positions of its items by whether they are `marked`, in groups that [`Batch::pick`] takes.
    pub(super) fn groups(&self, marked: &[bool]) -> Vec<(bool, Vec<usize>)> {
        let mut groups: Vec<(bool, Vec<usize>)> = Vec::new();
        for (position, &mark) in marked.iter().enumerate() {
            let known = match &self.load {
                Load::Files(_) => groups.iter_mut().find(|(of, _)| *of == mark),
                // Messages lie back to back.
                Load::Inline { .. } => groups.last_mut().filter(|(of, _)| *of == mark),
                Load::Part { .. } | Load::Merge { .. } | Load::Piece { .. } | Load::List { .. } => {
                    None
                }
            };
            match known {
                Some((_, positions)) => positions.push(position),
                None => groups.push((mark, vec![position])),
            }
        }
        groups
    }

    /// A fresh batch of the items at `positions`; of messages these are neighbours.
    pub(super) fn pick(&self, positions: &[usize]) -> Self {
        Self::new(match &self.load {
            Load::Files(files) => {
                Load::Files(positions.iter().map(|&position| files[position].clone()).collect())
            }
            Load::Inline { first, lens, data } => {
                let (start, len) = (positions[0], positions.len());
                let skipped_len: usize = lens[..start].iter().map(|&len| len as usize).sum();
                let lens = lens[start..start + len].to_vec();
                let data_len: usize = lens.iter().map(|&len| len as usize).sum();
                let data = Blob::from(&data[skipped_len..][..data_len]);
                Load::Inline { first: first + start as u64, lens, data }
            }
            single @ (Load::Part { .. }
            | Load::Merge { .. }
            | Load::Piece { .. }
            | Load::List { .. }) => single.clone(),
        })
    }

    /// Notes that its lease expired.
    pub(super) fn expire(&mut self) {
        self.history.expired += u32::from(!self.checkpoints.has_advanced());
    }

    /// Judges the batch after `worker`, which was probably busy with it, was lost.
    pub(super) fn after_loss(mut self, worker: &Rc<str>, cause: LossCause) -> AfterLoss<F> {
        self.history.lose(worker, cause, self.checkpoints.has_advanced());
        let items_len = self.items_len();
        if items_len == 1 {
            return if self.history.is_exhausted() {
                AfterLoss::Fail(Box::new(self))
            } else {
                AfterLoss::Retry(vec![self])
            };
        }
        let piece_len = if self.history.losses.len() == 1 { items_len.isqrt() } else { 1 };
        AfterLoss::Retry(self.cut(piece_len))
    }

    fn cut(self, piece_len: usize) -> Vec<Self> {
        let items_len = self.items_len();
        let positions: Vec<usize> = (0..items_len).collect();
        let piece = |positions: &[usize]| Self {
            history: self.history.clone(),
            votes: self.votes.iter().map(|o| o.pick(positions, items_len)).collect(),
            ..self.pick(positions)
        };
        positions.chunks(piece_len).map(piece).collect()
    }
}

/// The family with which a file interleaves of which `len` bytes are left.
pub(super) fn interleaves(algorithms: Algorithms, len: u64) -> Option<Family> {
    let family = algorithms.single()?.family();
    (family.has_midstate() && len >= LARGE_LEN).then_some(family)
}

/// The source of `files`, which are on one plane, and their descriptors.
fn source_of<F: Clone>(files: &[File<F>], datasets: &Datasets) -> (FileSource, Vec<F>) {
    let (mut descriptors, mut paths, mut dataset) = (Vec::new(), Vec::new(), None);
    for file in files {
        match &file.source {
            Source::Descriptor(descriptor) => descriptors.push(descriptor.clone()),
            Source::Name(id, path) => {
                dataset = Some(*id);
                paths.push(Blob::from(&**path));
            }
        }
    }
    let source = match dataset {
        None => FileSource::Descriptors,
        Some(id) => FileSource::Dataset { name: datasets.name(id).to_owned(), paths },
    };
    (source, descriptors)
}

/// Cost of a file, or of `len` bytes of one.
pub(super) fn file_cost(len: u64) -> u64 {
    len.min(FILE_COST_MAX) + FILE_COST
}

fn runs_of(indexes: impl Iterator<Item = u64>) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for index in indexes {
        match runs.last_mut() {
            Some(run) if run.first + u64::from(run.len) == index => run.len += 1,
            _ => runs.push(Run { first: index, len: 1 }),
        }
    }
    runs
}

#[cfg(test)]
mod tests;
