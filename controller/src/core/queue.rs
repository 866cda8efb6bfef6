//! The queue of one job on one plane.
//!
//! Files from [`LARGE_LEN`] on go largest first so that the tail is short; the others are batched
//! in their order. Both kinds get an equal share, so that neither holds up the other: results start
//! to come at once, and the largest file starts early. What was lost before goes first of all; but a
//! check goes before everything else to a worker whose work it does not check.

use super::batch::{Batch, File, Load, file_cost, interleaves};
use super::limits::{
    CHECKS_SKIPPED_MAX, LARGE_LEN, LARGE_LOOKED_AT_MAX, PART_LEN_MIN, PARTS_PER_THREAD, SPLIT_LEN,
};
use super::plane::Plane;
use ipc_proto::limits::{FRAME_DESCRIPTORS_MAX, FRAME_NAMES_MAX, NAMES_LEN_MAX};
use ipc_proto::{Algorithm, Algorithms, Family};
use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

#[derive(Debug)]
pub(super) struct Queue<F> {
    retry: VecDeque<Batch<F>>,
    /// Batches that are given to a worker alone. They are no work for the others.
    suspects: VecDeque<Batch<F>>,
    checks: VecDeque<Batch<F>>,
    inline: VecDeque<Batch<F>>,
    small: VecDeque<File<F>>,
    large: BTreeMap<(u64, Reverse<u64>), Large<F>>,
    /// Most files in one batch.
    files_max: usize,
    /// Cost of `small` and of what is left in `large`.
    cost: u64,
    /// Cost of everything that was taken.
    given: u64,
    given_small: u64,
    given_large: u64,
}

#[derive(Debug)]
struct Large<F> {
    file: File<F>,
    /// Where the next part starts and how long each is, once the file is being split.
    cut: Option<(u64, u64)>,
}

/// Requirements on the next batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Aim {
    /// Cost that should be in it.
    pub(super) cost: u64,
    /// Threads that share the work.
    pub(super) threads: u64,
}

impl<F: Clone> Queue<F> {
    pub(super) fn new(plane: Plane) -> Self {
        Self {
            retry: VecDeque::new(),
            suspects: VecDeque::new(),
            checks: VecDeque::new(),
            inline: VecDeque::new(),
            small: VecDeque::new(),
            large: BTreeMap::new(),
            files_max: match plane {
                Plane::Inline | Plane::Descriptors => FRAME_DESCRIPTORS_MAX,
                Plane::Dataset(_) => FRAME_NAMES_MAX,
            },
            cost: 0,
            given: 0,
            given_small: 0,
            given_large: 0,
        }
    }

    /// True if a batch can be taken.
    pub(super) fn has_work(&self) -> bool {
        self.has_new_work() || !self.retry.is_empty() || !self.checks.is_empty()
    }

    fn has_new_work(&self) -> bool {
        !(self.inline.is_empty() && self.small.is_empty() && self.large.is_empty())
    }

    /// Cost of the files that wait.
    pub(super) fn cost(&self) -> u64 {
        self.cost
    }

    /// Where the queue stands among those of its job: less is sooner.
    pub(super) fn rank(&self) -> (bool, u64) {
        (self.retry.is_empty(), self.given)
    }

    pub(super) fn push_file(&mut self, file: File<F>) {
        self.cost += file_cost(file.item.len());
        if file.item.len() < LARGE_LEN {
            self.small.push_back(file);
        } else {
            let key = (file.item.len(), Reverse(file.index));
            self.large.insert(key, Large { file, cut: None });
        }
    }

    pub(super) fn push_inline(&mut self, batch: Batch<F>) {
        self.inline.push_back(batch);
    }

    /// Takes a batch that was lost, or that is to be checked.
    pub(super) fn push_retry(&mut self, batch: Batch<F>) {
        match batch.votes.is_empty() {
            true if batch.history.is_last() => self.suspects.push_back(batch),
            true => self.retry.push_back(batch),
            false => self.checks.push_back(batch),
        }
    }

    /// The next batch that is given to a worker alone.
    pub(super) fn peek_suspect(&self) -> Option<&Batch<F>> {
        self.suspects.front()
    }

    /// Takes that batch.
    pub(super) fn take_suspect(&mut self) -> Option<Batch<F>> {
        let batch = self.suspects.pop_front()?;
        self.given = self.given.saturating_add(batch.cost());
        Some(batch)
    }

    /// The batch that goes out next if it was given to a worker before.
    pub(super) fn peek_again(&self) -> Option<&Batch<F>> {
        match self.has_new_work() {
            true => self.retry.front(),
            false => self.retry.front().or_else(|| self.checks.front()),
        }
    }

    /// A check of what others than `worker` gave, if there is one among the first.
    pub(super) fn take_check(&mut self, worker: &Rc<str>) -> Option<Batch<F>> {
        let first = self.checks.iter().take(CHECKS_SKIPPED_MAX);
        let found = first.enumerate().find(|(_, batch)| !batch.avoids(worker));
        let position = found.map(|(position, _)| position)?;
        let batch = self.checks.remove(position)?;
        self.given = self.given.saturating_add(batch.cost());
        Some(batch)
    }

    /// Discards checkpoints of lost batches that depend on the worker called `name`.
    pub(super) fn distrust(&mut self, name: &Rc<str>) {
        let lost = self.retry.iter_mut().chain(&mut self.suspects).chain(&mut self.checks);
        lost.for_each(|batch| _ = batch.checkpoints.distrust(name));
    }

    /// The family with which the next batch interleaves.
    pub(super) fn next_interleaves(&self, algorithms: Algorithms) -> Option<Family> {
        if let Some(batch) = self.retry.front() {
            return batch.interleaves(algorithms);
        }
        let is_next = self.inline.is_empty() && self.large_is_next();
        let ((size, _), _) = self.large.last_key_value().filter(|_| is_next)?;
        interleaves(algorithms, *size)
    }

    pub(super) fn take(&mut self, algorithms: Algorithms, aim: Aim) -> Option<Batch<F>> {
        let batch = self.next(algorithms, aim)?;
        self.given = self.given.saturating_add(batch.cost());
        Some(batch)
    }

    /// Takes a batch that is not long, if one waits.
    pub(super) fn take_short(&mut self, aim: Aim) -> Option<Batch<F>> {
        let batch = match self.has_short_retry() {
            true => self.retry.pop_front(),
            false => self.inline.pop_front().or_else(|| self.take_small(aim)),
        }?;
        self.given = self.given.saturating_add(batch.cost());
        Some(batch)
    }

    /// True if [`Queue::take_short`] finds one.
    pub(super) fn has_short_work(&self) -> bool {
        self.has_short_retry() || !self.inline.is_empty() || !self.small.is_empty()
    }

    fn has_short_retry(&self) -> bool {
        self.retry.front().is_some_and(|batch| !batch.is_long())
    }

    /// Forgets what waits of the large file `index`, and the lost batches that are `abandoned`.
    pub(super) fn drop_file(
        &mut self,
        index: u64,
        size: u64,
        abandoned: impl Fn(&Batch<F>) -> bool,
    ) {
        if let Some(large) = self.large.remove(&(size, Reverse(index))) {
            let start = large.cut.map_or(0, |(start, _)| start);
            self.cost -= file_cost(size - start);
        }
        self.retry.retain(|batch| !abandoned(batch));
        self.suspects.retain(|batch| !abandoned(batch));
        self.checks.retain(|batch| !abandoned(batch));
    }

    /// Time since which something waits, of what goes out first and of some large files.
    pub(super) fn waits_since(&self) -> Option<Duration> {
        let firsts =
            [self.retry.front(), self.suspects.front(), self.checks.front(), self.inline.front()];
        let batches = firsts.into_iter().flatten().map(Batch::queued);
        let large =
            self.large.values().rev().take(LARGE_LOOKED_AT_MAX).map(|large| large.file.queued);
        batches.chain(self.small.front().map(|file| file.queued)).chain(large).min()
    }

    /// Batches that wait.
    pub(super) fn batches(&self) -> impl Iterator<Item = &Batch<F>> {
        self.retry.iter().chain(&self.suspects).chain(&self.checks).chain(&self.inline)
    }

    /// Files that wait, with the start of the next part and its length where one is being split.
    pub(super) fn files(&self) -> impl Iterator<Item = (&File<F>, Option<(u64, u64)>)> {
        let large = self.large.values().map(|large| (&large.file, large.cut));
        self.small.iter().map(|file| (file, None)).chain(large)
    }

    /// Asserts that each batch and file is where it belongs, and that their cost was added up.
    pub(super) fn check_invariants(&self) {
        let left = |(file, cut): (&File<F>, Option<(u64, u64)>)| {
            file.item.len() - cut.map_or(0, |(start, _)| start)
        };
        assert_eq!(self.cost, self.files().map(|file| file_cost(left(file))).sum::<u64>());
        assert!(self.small.iter().all(|file| file.item.len() < LARGE_LEN));
        for (&(size, Reverse(index)), large) in &self.large {
            assert_eq!((large.file.item.len(), large.file.index), (size, index));
            assert!(
                size >= LARGE_LEN && large.cut.is_none_or(|(start, _)| 0 < start && start < size)
            );
        }
        assert!(self.retry.iter().chain(&self.inline).all(|batch| batch.votes.is_empty()));
        assert!(self.checks.iter().all(|batch| !batch.votes.is_empty()));
        let is_last = |batch: &Batch<F>| batch.history.is_last() && batch.votes.is_empty();
        assert!(self.suspects.iter().all(is_last) && !self.retry.iter().any(is_last));
        assert!(self.batches().all(|batch| batch.items_len() > 0), "no batch is empty");
    }

    fn next(&mut self, algorithms: Algorithms, aim: Aim) -> Option<Batch<F>> {
        if let Some(batch) = self.retry.pop_front().or_else(|| self.inline.pop_front()) {
            return Some(batch);
        }
        if self.large_is_next() && !self.large.is_empty() {
            let batch = self.take_large(algorithms, aim)?;
            self.given_large = self.given_large.saturating_add(batch.cost());
            return Some(batch);
        }
        if self.small.is_empty() {
            return self.checks.pop_front();
        }
        self.take_small(aim)
    }

    fn large_is_next(&self) -> bool {
        self.small.is_empty() || self.given_large <= self.given_small
    }

    fn take_large(&mut self, algorithms: Algorithms, aim: Aim) -> Option<Batch<F>> {
        let mut entry = self.large.last_entry()?;
        let size = entry.get().file.item.len();
        let (start, part_len) = match entry.get().cut {
            Some(cut) => cut,
            None => match part_len(algorithms, size, aim) {
                Some(part_len) => (0, part_len),
                None => {
                    let file = entry.remove().file;
                    self.cost -= file_cost(size);
                    return Some(Batch::new(Load::Files(vec![file])));
                }
            },
        };
        let len = part_len.min(size - start);
        let file = entry.get().file.clone();
        self.cost -= file_cost(size - start);
        if start + len == size {
            entry.remove();
        } else {
            entry.get_mut().cut = Some((start + len, part_len));
            self.cost += file_cost(size - start - len);
        }
        Some(Batch::new(Load::Part { file, number: start / part_len, offset: start, len }))
    }

    fn take_small(&mut self, aim: Aim) -> Option<Batch<F>> {
        let (mut len, mut cost, mut paths_len) = (0, 0, 0);
        for file in self.small.iter().take(self.files_max) {
            let file_cost = file_cost(file.item.len());
            paths_len += file.source.path_len();
            if len > 0 && (cost + file_cost > aim.cost || paths_len > NAMES_LEN_MAX) {
                break;
            }
            cost += file_cost;
            len += 1;
        }
        if len == 0 {
            return None;
        }
        self.cost -= cost;
        let batch = Batch::new(Load::Files(self.small.drain(..len).collect()));
        self.given_small = self.given_small.saturating_add(batch.cost());
        Some(batch)
    }
}

/// Length of the parts that a file of `size` bytes is split into, if it is worth it: a power of
/// two times the chunk, so that each part is a subtree (BLAKE3 paper, section 2.1).
fn part_len(algorithms: Algorithms, size: u64, aim: Aim) -> Option<u64> {
    if algorithms.single() != Some(Algorithm::Blake3) || size < SPLIT_LEN || aim.threads < 2 {
        return None;
    }
    let fair_len = size / (PARTS_PER_THREAD * aim.threads);
    let longest = prev_power_of_two(aim.cost.max(PART_LEN_MIN));
    let part_len = fair_len.checked_next_power_of_two()?.clamp(PART_LEN_MIN, longest);
    (part_len < size).then_some(part_len)
}

fn prev_power_of_two(value: u64) -> u64 {
    1 << value.max(1).ilog2()
}
