//! One job: its items that wait, those that are split, and how far it is.
//!
//! Invariant: every item received is in exactly one place: queued, split, leased, or resolved.
//!
//! Not here: in which order items go (`queue`).

use super::batch::{Batch, File, Load, Node};
use super::owner::{Owner, Principal};
use super::pace::Pace;
use super::plane::Plane;
use super::queue::{Aim, Queue};
use super::split::{Merge, Split};
use super::{JobId, LeaseId, ListTag, Quota};
use ipc_proto::message::{JobStatus, Window};
use ipc_proto::{Algorithms, Family};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

/// Identity and options of a job.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order {
    pub(super) id: JobId,
    pub(super) owner: Owner,
    pub(super) principal: Principal,
    pub(super) quota: Quota,
    pub(super) pid: u32,
    pub(super) algorithms: Algorithms,
    /// One item in so many is checked; 0 for none.
    pub(super) cross_check: u32,
    pub(super) strict_reads: bool,
    /// Bytes per second that are read at most; 0 for no limit.
    pub(super) rate: u64,
    /// Of a durable job the id that it has there.
    pub(super) durable: Option<JobId>,
    pub(super) opened: Duration,
}

#[derive(Debug)]
pub(super) struct Job<F> {
    pub(super) order: Order,
    pub(super) window: Window,
    pub(super) pace: Pace,
    /// Items received, and so the index of the next one.
    pub(super) received: u64,
    pub(super) resolved: u64,
    pub(super) failed: u64,
    /// Bytes that were hashed.
    pub(super) bytes: u64,
    /// Inline bytes, and bytes of paths, received and not resolved.
    pub(super) inline_bytes: u64,
    /// True once the client has announced that there are no more items.
    pub(super) finished: bool,
    pub(super) leases: BTreeSet<LeaseId>,
    /// Number of unchecked outputs per worker.
    pub(super) unchecked: BTreeMap<Rc<str>, u64>,
    /// The queue of each plane that the job ever used.
    queues: BTreeMap<Plane, Queue<F>>,
    splits: BTreeMap<u64, Split>,
}

impl<F: Clone> Job<F> {
    pub(super) fn new(order: Order, window: Window) -> Self {
        Self {
            order,
            window,
            pace: Pace::new(order.rate),
            received: 0,
            resolved: 0,
            failed: 0,
            bytes: 0,
            inline_bytes: 0,
            finished: false,
            leases: BTreeSet::new(),
            unchecked: BTreeMap::new(),
            queues: BTreeMap::new(),
            splits: BTreeMap::new(),
        }
    }

    /// The page that it is, if it is one.
    pub(super) fn list_tag(&self) -> Option<ListTag> {
        match self.order.owner {
            Owner::Attached(_) | Owner::Durable => None,
            Owner::List(tag) => Some(tag),
        }
    }

    pub(super) fn unresolved(&self) -> u64 {
        self.received - self.resolved
    }

    pub(super) fn is_done(&self) -> bool {
        self.finished && self.unresolved() == 0
    }

    /// The planes on which it has, or had, items.
    pub(super) fn planes(&self) -> impl Iterator<Item = Plane> + '_ {
        self.queues.keys().copied()
    }

    /// Time since which something of it waits for a worker.
    pub(super) fn waits_since(&self) -> Option<Duration> {
        self.queues.values().filter_map(Queue::waits_since).min()
    }

    /// Files that are hashed in parts.
    pub(super) fn split_len(&self) -> usize {
        self.splits.len()
    }

    /// True if a batch can be taken from `plane`.
    pub(super) fn has_work(&self, plane: Plane) -> bool {
        self.queues.get(&plane).is_some_and(Queue::has_work)
    }

    /// Cost of the files that wait on `plane`.
    pub(super) fn queued_cost(&self, plane: Plane) -> u64 {
        self.queues.get(&plane).map_or(0, Queue::cost)
    }

    /// Where `plane` stands among those of this job: less is sooner.
    pub(super) fn rank(&self, plane: Plane) -> Option<(bool, u64)> {
        self.queues.get(&plane).map(Queue::rank)
    }

    /// Queues files on `plane`, which hold `paths_len` bytes of paths.
    pub(super) fn push_files(
        &mut self,
        plane: Plane,
        files: impl Iterator<Item = File<F>>,
        paths_len: u64,
    ) {
        let queue = self.queues.entry(plane).or_insert_with(|| Queue::new(plane));
        for file in files {
            queue.push_file(file);
            self.received += 1;
        }
        self.inline_bytes += paths_len;
    }

    pub(super) fn push_inline(&mut self, now: Duration, load: Load<F>) {
        let mut batch = Batch::new(load);
        batch.history.queued = now;
        self.received += batch.items_len() as u64;
        self.inline_bytes += batch.held_bytes();
        self.queue(Plane::Inline).push_inline(batch);
    }

    pub(super) fn push_retry(&mut self, batch: Batch<F>) {
        if !self.is_abandoned(&batch) {
            self.queue(batch.plane()).push_retry(batch);
        }
    }

    /// Discards checkpoints of its lost batches that depend on the worker called `name`.
    pub(super) fn distrust(&mut self, name: &Rc<str>) {
        self.queues.values_mut().for_each(|queue| queue.distrust(name));
    }

    /// The batch that goes out next on `plane` if it was given to a worker before.
    pub(super) fn peek_again(&self, plane: Plane) -> Option<&Batch<F>> {
        self.queues.get(&plane)?.peek_again()
    }

    /// The next batch on `plane` that is given to a worker alone.
    pub(super) fn peek_suspect(&self, plane: Plane) -> Option<&Batch<F>> {
        self.queues.get(&plane)?.peek_suspect()
    }

    /// Takes that batch.
    pub(super) fn take_suspect(&mut self, plane: Plane) -> Option<Batch<F>> {
        self.queues.get_mut(&plane)?.take_suspect()
    }

    /// A check on `plane` of what others than `worker` gave.
    pub(super) fn take_check(&mut self, plane: Plane, worker: &Rc<str>) -> Option<Batch<F>> {
        self.queues.get_mut(&plane)?.take_check(worker)
    }

    /// The family with which the next batch of `plane` interleaves.
    pub(super) fn next_interleaves(&self, plane: Plane) -> Option<Family> {
        self.queues.get(&plane)?.next_interleaves(self.order.algorithms)
    }

    pub(super) fn take(&mut self, plane: Plane, aim: Aim) -> Option<Batch<F>> {
        let batch = self.queues.get_mut(&plane)?.take(self.order.algorithms, aim)?;
        if let Load::Part { file, number: 0, len, .. } = &batch.load {
            // It may be there already: then this part was lost before.
            self.splits
                .entry(file.index)
                .or_insert_with(|| Split::new(file.item.len(), *len, file.source.path_len()));
        }
        Some(batch)
    }

    /// True if [`Job::take_short`] finds a batch.
    pub(super) fn has_short_work(&self, plane: Plane) -> bool {
        self.queues.get(&plane).is_some_and(Queue::has_short_work)
    }

    /// A batch of `plane` that is not long.
    pub(super) fn take_short(&mut self, plane: Plane, aim: Aim) -> Option<Batch<F>> {
        self.queues.get_mut(&plane)?.take_short(aim)
    }

    fn queue(&mut self, plane: Plane) -> &mut Queue<F> {
        self.queues.entry(plane).or_insert_with(|| Queue::new(plane))
    }

    /// A part gave its chaining value; the merge, if it was the last one of several.
    pub(super) fn part_done(&mut self, index: u64, number: u64, value: &[u8]) -> Option<Batch<F>> {
        let split = self.splits.get_mut(&index)?;
        split.part_done(number, value).map(|merge| batch_of(index, split.path_len, merge))
    }

    /// A merge gave the chaining value of `node`; the next merge, if it was the last one of several.
    pub(super) fn merge_done(&mut self, index: u64, node: Node, value: &[u8]) -> Option<Batch<F>> {
        let split = self.splits.get_mut(&index)?;
        split.merge_done(node, value).map(|merge| batch_of(index, split.path_len, merge))
    }

    /// True if the part or merge belongs to a file that is already resolved.
    pub(super) fn is_abandoned(&self, batch: &Batch<F>) -> bool {
        is_abandoned(&self.splits, batch)
    }

    /// Lets go of the items of `batch`, which are resolved; the inline bytes that they held.
    pub(super) fn let_go(&mut self, batch: &Batch<F>) -> u64 {
        match &batch.load {
            Load::Files(_) | Load::Inline { .. } | Load::Piece { .. } | Load::List { .. } => {}
            Load::Part { file, .. } => self.drop_split(file.index),
            Load::Merge { index, parent: Some(_), .. } => self.drop_split(*index),
            // Nothing else is left of it.
            Load::Merge { index, parent: None, .. } => _ = self.splits.remove(index),
        }
        let held_bytes = batch.held_bytes();
        self.inline_bytes -= held_bytes;
        held_bytes
    }

    /// Forgets the parts and merges of a file that wait.
    fn drop_split(&mut self, index: u64) {
        let Some(split) = self.splits.remove(&index) else { return };
        let splits = &self.splits;
        for queue in self.queues.values_mut() {
            queue.drop_file(index, split.size, |batch| is_abandoned(splits, batch));
        }
    }

    /// Asserts that every item received is in exactly one place: queued, split, in one of the batches
    /// that are `leased`, or resolved; and the parts of a split file likewise.
    pub(super) fn check_invariants<'a>(&'a self, leased: impl Iterator<Item = &'a Batch<F>>) {
        let id = self.order.id;
        assert!(self.resolved <= self.received && self.failed <= self.resolved, "job {id}");
        assert!(!self.is_done(), "job {id} is done and not closed");
        let received = usize::try_from(self.received).expect("a test's items are few");
        let mut census = Census { items: vec![false; received], ..Census::default() };
        for (&plane, queue) in &self.queues {
            queue.check_invariants();
            for batch in queue.batches() {
                assert!(!self.is_abandoned(batch), "job {id} queues a part that is resolved");
                assert_eq!(batch.plane(), plane, "job {id} queues a batch on its plane");
                census.count(batch);
            }
            queue.files().for_each(|(file, cut)| census.count_file(file, cut));
        }
        leased.filter(|batch| !self.is_abandoned(batch)).for_each(|batch| census.count(batch));
        for (index, split) in &self.splits {
            let (taken, rest) = census.parts.remove(index).unwrap_or_default();
            assert!(taken.iter().all(|part| !rest.contains(part)), "job {id}, item {index}");
            let parts_len = taken.len() as u64 + (rest.end - rest.start);
            assert_eq!(parts_len, split.missing, "job {id}, parts of item {index}");
            let merges = census.merges.remove(index).unwrap_or_default();
            assert_eq!(merges, split.merging, "job {id}, merges of item {index}");
            assert!(split.missing > 0 || split.merging > 0, "job {id}, item {index} is whole");
            census.count_item(*index);
            census.held_bytes += split.path_len as u64;
        }
        assert!(census.merges.is_empty(), "job {id} merges what is not split");
        assert!(census.parts.is_empty(), "job {id} has parts of what is not split");
        assert_eq!(census.items_len, self.unresolved(), "job {id}, unresolved items");
        assert_eq!(census.held_bytes, self.inline_bytes, "job {id}, inline bytes");
        assert!(self.unresolved() <= self.window.items.into(), "job {id}, window");
        assert!(self.inline_bytes <= self.window.bytes, "job {id}, window");
    }

    pub(super) fn status(&self, now: Duration) -> JobStatus {
        let order = &self.order;
        JobStatus {
            id: order.id,
            uid: order.principal.uid(),
            pid: order.pid,
            algorithms: order.algorithms,
            age_ms: super::millis(now.saturating_sub(order.opened)),
            items: self.received,
            resolved: self.resolved,
            failed: self.failed,
            leases: u32::try_from(self.leases.len()).unwrap_or(u32::MAX),
            finished: self.finished,
            bytes: self.bytes,
            durable: order.durable,
        }
    }
}

/// The items of a job by where they are.
#[derive(Default)]
struct Census {
    /// By index, true for those that were found.
    items: Vec<bool>,
    items_len: u64,
    /// Numbers of the parts of each split file that were taken once, and those that were not.
    parts: BTreeMap<u64, (BTreeSet<u64>, Range<u64>)>,
    merges: BTreeMap<u64, usize>,
    held_bytes: u64,
}

impl Census {
    fn count<F: Clone>(&mut self, batch: &Batch<F>) {
        match &batch.load {
            Load::Part { file, number, .. } => self.count_part(file.index, *number),
            Load::Merge { index, .. } => *self.merges.entry(*index).or_default() += 1,
            Load::Files(_) | Load::Inline { .. } | Load::Piece { .. } | Load::List { .. } => {
                let items = batch.runs().into_iter();
                let indexes = items.flat_map(|run| run.first..run.first + u64::from(run.len));
                indexes.for_each(|index| self.count_item(index));
                self.held_bytes += batch.held_bytes();
            }
        }
    }

    /// A file that waits whole, or from a part on, with the length of each part.
    fn count_file<F>(&mut self, file: &File<F>, cut: Option<(u64, u64)>) {
        match cut {
            None => {
                self.count_item(file.index);
                self.held_bytes += file.source.path_len() as u64;
            }
            Some((start, part_len)) => {
                let parts = start / part_len..file.item.len().div_ceil(part_len);
                self.parts.entry(file.index).or_default().1 = parts;
            }
        }
    }

    fn count_item(&mut self, index: u64) {
        let found = usize::try_from(index).ok().and_then(|index| self.items.get_mut(index));
        let found = found.unwrap_or_else(|| panic!("item {index} was not received"));
        assert!(!std::mem::replace(found, true), "item {index} is in two places");
        self.items_len += 1;
    }

    fn count_part(&mut self, index: u64, number: u64) {
        let is_new = self.parts.entry(index).or_default().0.insert(number);
        assert!(is_new, "part {number} of item {index} is in two places");
    }
}

fn batch_of<F: Clone>(index: u64, path_len: usize, merge: Merge) -> Batch<F> {
    let Merge { values, parent } = merge;
    Batch::new(Load::Merge { index, values: values.into(), path_len, parent })
}

fn is_abandoned<F>(splits: &BTreeMap<u64, Split>, batch: &Batch<F>) -> bool {
    match &batch.load {
        Load::Part { file, .. } => !splits.contains_key(&file.index),
        Load::Merge { index, .. } => !splits.contains_key(index),
        Load::Files(_) | Load::Inline { .. } | Load::Piece { .. } | Load::List { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ClientId;
    use crate::core::batch::Source;
    use crate::core::limits::SPLIT_LEN;
    use ipc_proto::Algorithm;
    use ipc_proto::limits::{CHUNK_LEN, FRAME_DESCRIPTORS_MAX};
    use ipc_proto::message::Stamp;

    fn job(algorithm: Algorithm) -> Job<()> {
        let order = Order {
            id: JobId { epoch: 1, number: 1 },
            owner: Owner::Attached(ClientId(1)),
            principal: Principal::Uid(7),
            quota: Quota::MAX,
            pid: 0,
            algorithms: algorithm.into(),
            cross_check: 0,
            strict_reads: false,
            rate: 0,
            durable: None,
            opened: Duration::ZERO,
        };
        Job::new(order, Window { items: 4096, bytes: 1 << 20 })
    }

    fn push(job: &mut Job<()>, sizes: &[u64]) {
        let files = (job.received..).zip(sizes).map(|(index, &size)| {
            let item = Stamp { size, ..Stamp::default() }.into();
            File { index, item, source: Source::Descriptor(()), queued: Duration::ZERO }
        });
        job.push_files(Plane::Descriptors, files, 0);
    }

    fn take_all(job: &mut Job<()>, aim: Aim) -> Vec<Load<()>> {
        std::iter::from_fn(|| job.take(Plane::Descriptors, aim)).map(|batch| batch.load).collect()
    }

    fn indexes(load: &Load<()>) -> Vec<u64> {
        let Load::Files(files) = load else { panic!("files were pushed") };
        files.iter().map(|file| file.index).collect()
    }

    const AIM: Aim = Aim { cost: 64 << 20, threads: 2 };

    #[test]
    fn large_files_go_largest_first_and_small_ones_between_them() {
        let mut job = job(Algorithm::Sha256);
        push(&mut job, &[1, 50 << 20, 2, 90 << 20, 70 << 20, 3]);
        let order: Vec<_> = take_all(&mut job, AIM).iter().map(indexes).collect();
        assert_eq!(order, [vec![3], vec![0, 2, 5], vec![4], vec![1]]);
        assert_eq!(job.queued_cost(Plane::Descriptors), 0);
        assert!(!job.has_work(Plane::Descriptors));
    }

    #[test]
    fn a_batch_is_bounded_by_its_cost_and_by_what_a_frame_carries() {
        let mut job = job(Algorithm::Sha256);
        push(&mut job, &[1 << 20; 300]);
        let aim = Aim { cost: 10 << 20, threads: 2 };
        assert_eq!(indexes(&job.take(Plane::Descriptors, aim).unwrap().load).len(), 9);
        let aim = Aim { cost: u64::MAX, threads: 2 };
        assert_eq!(
            indexes(&job.take(Plane::Descriptors, aim).unwrap().load).len(),
            FRAME_DESCRIPTORS_MAX
        );
    }

    #[test]
    fn parts_cover_a_file_once_and_are_subtrees() {
        for size in [1 << 43, SPLIT_LEN, SPLIT_LEN + 1, (1 << 30) - 1, 1 << 30, (1 << 40) + 5] {
            for threads in [2, 3, 1000] {
                let mut job = job(Algorithm::Blake3);
                push(&mut job, &[size]);
                let mut next = 0;
                for (want_number, load) in
                    take_all(&mut job, Aim { threads, ..AIM }).into_iter().enumerate()
                {
                    let Load::Part { number, offset, len, .. } = load else { panic!("a part") };
                    assert_eq!((number, offset), (want_number as u64, next));
                    let full_len = len.max(CHUNK_LEN).next_power_of_two();
                    assert!(len == full_len || offset + len == size);
                    assert_eq!(offset % full_len, 0);
                    next = offset + len;
                    assert!(len <= AIM.cost, "a part of {len} bytes takes too long");
                }
                assert_eq!((next, job.queued_cost(Plane::Descriptors)), (size, 0));
            }
        }
    }

    #[test]
    fn one_thread_and_other_algorithms_get_the_whole_file() {
        for (algorithm, threads) in [(Algorithm::Blake3, 1), (Algorithm::Sha512, 8)] {
            let mut job = job(algorithm);
            push(&mut job, &[1 << 30]);
            let loads = take_all(&mut job, Aim { threads, ..AIM });
            assert_eq!(loads.iter().map(indexes).collect::<Vec<_>>(), [vec![0]]);
        }
    }

    #[test]
    fn the_last_part_gives_the_merge_in_order_of_the_parts() {
        let mut job = job(Algorithm::Blake3);
        push(&mut job, &[SPLIT_LEN + 1]);
        let parts = take_all(&mut job, AIM).len();
        assert_eq!(parts, 3);
        assert!(job.part_done(0, 2, &[2; 32]).is_none());
        assert!(job.part_done(0, 0, &[0; 32]).is_none());
        let merge = job.part_done(0, 1, &[1; 32]).expect("all parts are there");
        let Load::Merge { index: 0, values, .. } = &merge.load else { panic!("a merge") };
        assert_eq!(values.chunks(32).map(|value| value[0]).collect::<Vec<_>>(), [0, 1, 2]);
        job.let_go(&merge);
        assert!(job.splits.is_empty());
    }

    #[test]
    fn a_failed_part_resolves_its_file_and_the_rest_of_it_is_dropped() {
        let mut job = job(Algorithm::Blake3);
        push(&mut job, &[1 << 30, 5]);
        let first = job.take(Plane::Descriptors, AIM).unwrap();
        let second = std::iter::from_fn(|| job.take(Plane::Descriptors, AIM))
            .find(|batch| matches!(batch.load, Load::Part { .. }))
            .unwrap();
        job.push_retry(second.clone());
        job.let_go(&first);
        assert_eq!(job.queued_cost(Plane::Descriptors), 0);
        assert!(!job.has_work(Plane::Descriptors));
        job.push_retry(second);
        assert!(
            !job.has_work(Plane::Descriptors),
            "a part that comes back late is not tried again"
        );
    }
}
