//! One job: its items that wait, those that are split, and how far it is.
//!
//! Within a job, files from [`LARGE_LEN`] on go largest first so that the tail is short; the
//! others are batched in their order. Both kinds get an equal share, so that neither holds up the
//! other: results start to come at once, and the largest file starts early. What was lost before
//! goes first of all.
//!
//! Invariant: every item received is in exactly one place: queued, split, leased, or resolved.

use super::batch::{Batch, File, Load, file_cost};
use super::limits::{LARGE_LEN, PART_LEN_MIN, PARTS_PER_THREAD, SPLIT_LEN};
use super::{ClientId, JobKey, LeaseId};
use ipc_proto::limits::{BATCH_FILES_MAX, CHAINING_VALUE_LEN, MERGE_VALUES_MAX};
use ipc_proto::message::{JobId, JobStatus, Window};
use ipc_proto::{Algorithm, Blob};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// Who opened a job, and what it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order {
    pub(super) key: JobKey,
    pub(super) client: ClientId,
    pub(super) id: JobId,
    pub(super) uid: u32,
    pub(super) pid: u32,
    pub(super) algorithm: Algorithm,
    pub(super) weight: u8,
    pub(super) opened: Duration,
}

#[derive(Debug)]
pub(super) struct Job<F> {
    pub(super) order: Order,
    pub(super) window: Window,
    /// Items received, and so the index of the next one.
    pub(super) received: u64,
    pub(super) resolved: u64,
    pub(super) failed: u64,
    /// Inline bytes received and not resolved.
    pub(super) inline_bytes: u64,
    /// Whether the client said that there are no more items.
    pub(super) finished: bool,
    pub(super) leases: BTreeSet<LeaseId>,
    queue: Queue<F>,
    splits: BTreeMap<u64, Split>,
}

#[derive(Debug)]
struct Queue<F> {
    retry: VecDeque<Batch<F>>,
    inline: VecDeque<Batch<F>>,
    small: VecDeque<File<F>>,
    large: BTreeMap<(u64, Reverse<u64>), Large<F>>,
    /// Cost of `small` and of what is left in `large`.
    cost: u64,
    given_small: u64,
    given_large: u64,
}

#[derive(Debug)]
struct Large<F> {
    file: File<F>,
    /// Where the next part starts and how long each is, once the file is being split.
    cut: Option<(u64, u64)>,
}

/// A file whose parts are on their way.
#[derive(Debug)]
struct Split {
    values: Vec<u8>,
    missing: usize,
}

/// What the next batch is for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Aim {
    /// Cost that should be in it.
    pub(super) cost: u64,
    /// Threads that share the work.
    pub(super) threads: u64,
}

impl<F: Clone> Job<F> {
    pub(super) fn new(order: Order, window: Window) -> Self {
        let queue = Queue {
            retry: VecDeque::new(),
            inline: VecDeque::new(),
            small: VecDeque::new(),
            large: BTreeMap::new(),
            cost: 0,
            given_small: 0,
            given_large: 0,
        };
        Self {
            order,
            window,
            received: 0,
            resolved: 0,
            failed: 0,
            inline_bytes: 0,
            finished: false,
            leases: BTreeSet::new(),
            queue,
            splits: BTreeMap::new(),
        }
    }

    pub(super) fn unresolved(&self) -> u64 {
        self.received - self.resolved
    }

    pub(super) fn is_done(&self) -> bool {
        self.finished && self.unresolved() == 0
    }

    /// Whether a batch can be taken.
    pub(super) fn has_work(&self) -> bool {
        let queue = &self.queue;
        !(queue.retry.is_empty()
            && queue.inline.is_empty()
            && queue.small.is_empty()
            && queue.large.is_empty())
    }

    /// Cost of the files that wait.
    pub(super) fn queued_cost(&self) -> u64 {
        self.queue.cost
    }

    pub(super) fn push_file(&mut self, file: File<F>) {
        self.received += 1;
        self.queue.cost += file_cost(file.stamp.size);
        if file.stamp.size < LARGE_LEN {
            self.queue.small.push_back(file);
        } else {
            let key = (file.stamp.size, Reverse(file.index));
            self.queue.large.insert(key, Large { file, cut: None });
        }
    }

    pub(super) fn push_inline(&mut self, load: Load<F>) {
        let batch = Batch::new(load);
        self.received += batch.items_len() as u64;
        self.inline_bytes += batch.bytes();
        self.queue.inline.push_back(batch);
    }

    pub(super) fn push_retry(&mut self, batch: Batch<F>) {
        if !self.is_abandoned(&batch) {
            self.queue.retry.push_back(batch);
        }
    }

    /// The batch that goes out next if it was lost before.
    pub(super) fn peek_retry(&self) -> Option<&Batch<F>> {
        self.queue.retry.front()
    }

    pub(super) fn take(&mut self, aim: Aim) -> Option<Batch<F>> {
        let queue = &mut self.queue;
        if let Some(batch) = queue.retry.pop_front().or_else(|| queue.inline.pop_front()) {
            return Some(batch);
        }
        let large_is_next = queue.small.is_empty() || queue.given_large <= queue.given_small;
        if large_is_next && !queue.large.is_empty() {
            let batch = self.take_large(aim)?;
            self.queue.given_large += batch.cost();
            return Some(batch);
        }
        let batch = queue.take_small(aim)?;
        queue.given_small += batch.cost();
        Some(batch)
    }

    fn take_large(&mut self, aim: Aim) -> Option<Batch<F>> {
        let mut entry = self.queue.large.last_entry()?;
        let size = entry.get().file.stamp.size;
        let (start, part_len) = match entry.get().cut {
            Some(cut) => cut,
            None => match part_len(self.order.algorithm, size, aim) {
                Some(part_len) => (0, part_len),
                None => {
                    let file = entry.remove().file;
                    self.queue.cost -= file_cost(size);
                    return Some(Batch::new(Load::Files(vec![file])));
                }
            },
        };
        let parts_len = usize::try_from(size.div_ceil(part_len)).expect("at most 8192 parts");
        let len = part_len.min(size - start);
        let file = entry.get().file.clone();
        if start == 0 {
            let values = vec![0; parts_len * CHAINING_VALUE_LEN];
            self.splits.insert(file.index, Split { values, missing: parts_len });
        }
        self.queue.cost -= file_cost(size - start);
        if start + len == size {
            entry.remove();
        } else {
            entry.get_mut().cut = Some((start + len, part_len));
            self.queue.cost += file_cost(size - start - len);
        }
        let number = usize::try_from(start / part_len).expect("at most 8192 parts");
        Some(Batch::new(Load::Part { file, number, offset: start, len }))
    }

    /// A part gave its chaining value; the merge, if it was the last one.
    pub(super) fn part_done(
        &mut self,
        index: u64,
        number: usize,
        value: &[u8],
    ) -> Option<Batch<F>> {
        let split = self.splits.get_mut(&index)?;
        let at = number * CHAINING_VALUE_LEN;
        split.values[at..at + CHAINING_VALUE_LEN].copy_from_slice(value);
        split.missing -= 1;
        if split.missing > 0 {
            return None;
        }
        // The merge stays in `splits`, empty: what is left of the file is this one batch.
        let values = Blob::from(std::mem::take(&mut split.values));
        Some(Batch::new(Load::Merge { index, values }))
    }

    /// Whether the part or merge belongs to a file that is resolved already.
    pub(super) fn is_abandoned(&self, batch: &Batch<F>) -> bool {
        match &batch.load {
            Load::Part { file, .. } => !self.splits.contains_key(&file.index),
            Load::Merge { index, .. } => !self.splits.contains_key(index),
            Load::Files(_) | Load::Messages { .. } | Load::Piece { .. } => false,
        }
    }

    /// The items of `batch` are resolved, `failed` of them without a digest.
    pub(super) fn resolve(&mut self, batch: &Batch<F>, failed: u64) {
        self.resolved += batch.items_len() as u64;
        self.failed += failed;
        match &batch.load {
            Load::Files(_) => {}
            Load::Messages { .. } | Load::Piece { .. } => self.inline_bytes -= batch.bytes(),
            Load::Part { file, .. } => self.drop_split(file.index, file.stamp.size),
            Load::Merge { index, .. } => {
                self.splits.remove(index);
            }
        }
    }

    fn drop_split(&mut self, index: u64, size: u64) {
        self.splits.remove(&index);
        if let Some(large) = self.queue.large.remove(&(size, Reverse(index))) {
            let start = large.cut.map_or(0, |(start, _)| start);
            self.queue.cost -= file_cost(size - start);
        }
        let queued = std::mem::take(&mut self.queue.retry);
        self.queue.retry = queued.into_iter().filter(|batch| !self.is_abandoned(batch)).collect();
    }

    pub(super) fn status(&self, now: Duration) -> JobStatus {
        let order = &self.order;
        JobStatus {
            id: order.key.0,
            uid: order.uid,
            pid: order.pid,
            algorithm: order.algorithm,
            weight: order.weight,
            age_ms: super::millis(now.saturating_sub(order.opened)),
            items: self.received,
            resolved: self.resolved,
            failed: self.failed,
            leases: u32::try_from(self.leases.len()).unwrap_or(u32::MAX),
            finished: self.finished,
        }
    }
}

impl<F: Clone> Queue<F> {
    fn take_small(&mut self, aim: Aim) -> Option<Batch<F>> {
        let (mut len, mut cost) = (0, 0);
        for file in self.small.iter().take(BATCH_FILES_MAX) {
            if len > 0 && cost + file_cost(file.stamp.size) > aim.cost {
                break;
            }
            cost += file_cost(file.stamp.size);
            len += 1;
        }
        if len == 0 {
            return None;
        }
        self.cost -= cost;
        Some(Batch::new(Load::Files(self.small.drain(..len).collect())))
    }
}

/// Length of the parts that a file of `size` bytes is split into, if it is worth it: a power of
/// two times the chunk, so that each part is a subtree (BLAKE3 paper, section 2.1), and never so
/// short that the merge would be too large.
fn part_len(algorithm: Algorithm, size: u64, aim: Aim) -> Option<u64> {
    if algorithm != Algorithm::Blake3 || size < SPLIT_LEN || aim.threads < 2 {
        return None;
    }
    let fair_len = size / (PARTS_PER_THREAD * aim.threads);
    let longest = prev_power_of_two(aim.cost.max(PART_LEN_MIN));
    let fewest = size.div_ceil(MERGE_VALUES_MAX as u64).checked_next_power_of_two()?;
    let part_len = fair_len.checked_next_power_of_two()?.clamp(PART_LEN_MIN, longest).max(fewest);
    (part_len < size).then_some(part_len)
}

fn prev_power_of_two(value: u64) -> u64 {
    1 << value.max(1).ilog2()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipc_proto::limits::CHUNK_LEN;
    use ipc_proto::message::Stamp;

    fn job(algorithm: Algorithm) -> Job<()> {
        let order = Order {
            key: JobKey(1),
            client: ClientId(1),
            id: JobId(0),
            uid: 7,
            pid: 0,
            algorithm,
            weight: 1,
            opened: Duration::ZERO,
        };
        Job::new(order, Window { items: 4096, bytes: 1 << 20 })
    }

    fn push(job: &mut Job<()>, sizes: &[u64]) {
        for &size in sizes {
            let stamp = Stamp { size, ..Stamp::default() };
            job.push_file(File { index: job.received, stamp, descriptor: () });
        }
    }

    fn take_all(job: &mut Job<()>, aim: Aim) -> Vec<Load<()>> {
        std::iter::from_fn(|| job.take(aim)).map(|batch| batch.load).collect()
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
        assert_eq!(job.queued_cost(), 0);
        assert!(!job.has_work());
    }

    #[test]
    fn a_batch_is_bounded_by_its_cost_and_by_what_a_frame_carries() {
        let mut job = job(Algorithm::Sha256);
        push(&mut job, &[1 << 20; 300]);
        let aim = Aim { cost: 10 << 20, threads: 2 };
        assert_eq!(indexes(&job.take(aim).unwrap().load).len(), 9);
        let aim = Aim { cost: u64::MAX, threads: 2 };
        assert_eq!(indexes(&job.take(aim).unwrap().load).len(), BATCH_FILES_MAX);
    }

    #[test]
    fn parts_cover_a_file_once_and_are_subtrees() {
        for size in [u64::MAX, SPLIT_LEN, SPLIT_LEN + 1, (1 << 30) - 1, 1 << 30, (1 << 40) + 5] {
            for threads in [2, 3, 1000] {
                let mut job = job(Algorithm::Blake3);
                push(&mut job, &[size]);
                let mut next = 0;
                for (want_number, load) in
                    take_all(&mut job, Aim { threads, ..AIM }).into_iter().enumerate()
                {
                    let Load::Part { number, offset, len, .. } = load else { panic!("a part") };
                    assert_eq!((number, offset), (want_number, next));
                    let full_len = len.max(CHUNK_LEN).next_power_of_two();
                    assert!(len == full_len || offset + len == size);
                    assert_eq!(offset % full_len, 0);
                    next = offset + len;
                    assert!(number < MERGE_VALUES_MAX);
                }
                assert_eq!((next, job.queued_cost()), (size, 0));
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
        let Load::Merge { index: 0, values } = &merge.load else { panic!("a merge") };
        assert_eq!(values.chunks(32).map(|value| value[0]).collect::<Vec<_>>(), [0, 1, 2]);
        job.resolve(&merge, 0);
        assert_eq!(job.unresolved(), 0);
    }

    #[test]
    fn a_failed_part_resolves_its_file_and_the_rest_of_it_is_dropped() {
        let mut job = job(Algorithm::Blake3);
        push(&mut job, &[1 << 30, 5]);
        let first = job.take(AIM).unwrap();
        let second = std::iter::from_fn(|| job.take(AIM))
            .find(|batch| matches!(batch.load, Load::Part { .. }))
            .unwrap();
        job.push_retry(second.clone());
        job.resolve(&first, 1);
        assert_eq!((job.unresolved(), job.queued_cost()), (1, 0));
        assert!(!job.has_work());
        job.push_retry(second);
        assert!(!job.has_work(), "a part that comes back late is not tried again");
    }
}
