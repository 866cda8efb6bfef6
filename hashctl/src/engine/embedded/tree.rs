//! A long BLAKE3 file that several threads hash in parts (BLAKE3 paper, section 2.1).

use super::Shared;
use super::queue::LongJob;
use super::task::outcome_change;
use crate::engine::dirs::DirCache;
use engine::exec::local;
use engine::exec::order::{Order, Scratch};
use engine::exec::run;
use engine::hash::{Stream, merge};
use engine::input::dataset::Datasets;
use ipc_proto::Algorithm;
use ipc_proto::limits::{CHAINING_VALUE_LEN, MERGE_VALUES_MAX};
use ipc_proto::message::{Failure, FileSource, Stamp, Work};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Shortest part but for the last one of a file, in bytes.
const PART_LEN_MIN: u64 = 2 << 20;

/// A file in parts.
pub(super) struct TreeJob {
    job: LongJob,
    stamp: Stamp,
    part_len: u64,
    parts: usize,
    /// The next part that nobody has taken.
    next: AtomicUsize,
    done: AtomicUsize,
    done_len: Mutex<u64>,
    values: Mutex<Vec<u8>>,
    has_failed: AtomicBool,
}

impl TreeJob {
    /// A file of more than one part.
    pub(super) fn new(job: LongJob, stamp: Stamp) -> Self {
        let least = stamp.size.div_ceil(MERGE_VALUES_MAX as u64).next_power_of_two();
        let part_len = least.max(PART_LEN_MIN);
        let parts = usize::try_from(stamp.size.div_ceil(part_len)).expect("few parts");
        Self {
            job,
            stamp,
            part_len,
            parts,
            next: AtomicUsize::new(0),
            done: AtomicUsize::new(0),
            done_len: Mutex::new(0),
            values: Mutex::new(vec![0; parts * CHAINING_VALUE_LEN]),
            has_failed: AtomicBool::new(false),
        }
    }

    pub(super) fn has_parts(&self) -> bool {
        self.next.load(Ordering::Relaxed) < self.parts
    }

    /// Hashes parts until all are taken; whoever has the last one merges them.
    pub(super) fn work(&self, shared: &Shared, scratch: &mut Scratch, dirs: &mut DirCache) {
        let mut order = None;
        loop {
            let part = self.next.fetch_add(1, Ordering::Relaxed);
            if part >= self.parts || shared.is_over() {
                return;
            }
            let value = self.part(part, &mut order, shared, scratch, dirs);
            match value {
                Ok(value) if value.len() == CHAINING_VALUE_LEN => {
                    let mut values = self.values.lock().expect("no holder panics");
                    values[part * CHAINING_VALUE_LEN..][..CHAINING_VALUE_LEN]
                        .copy_from_slice(&value);
                }
                _ => self.has_failed.store(true, Ordering::Relaxed),
            }
            if self.done.fetch_add(1, Ordering::AcqRel) + 1 == self.parts {
                drop(order);
                return self.finish(shared, scratch, dirs);
            }
        }
    }

    fn part(
        &self,
        part: usize,
        order: &mut Option<Order>,
        shared: &Shared,
        scratch: &mut Scratch,
        dirs: &mut DirCache,
    ) -> Result<Vec<u8>, Failure> {
        if self.has_failed.load(Ordering::Relaxed) {
            return Err(Failure::Changed);
        }
        let offset = part as u64 * self.part_len;
        let len = self.part_len.min(self.stamp.size - offset);
        let (source, file) = (FileSource::Descriptors, self.stamp.into());
        let work = Work::Subtree { source, file, offset, len };
        let order = match order {
            Some(order) => {
                order.work = work;
                order
            }
            None => {
                let descriptors = vec![self.job.open(dirs)?];
                order.insert(Order::new(Algorithm::Blake3.into(), work, descriptors))
            }
        };
        order.strict_reads = shared.options.strict_reads;
        let output = run::run(order, &Datasets::default(), scratch, &shared.is_stopped);
        let mut done_len = self.done_len.lock().expect("no holder panics");
        *done_len += len;
        shared.reorder.advance(self.job.tag, *done_len);
        match output.failures.first() {
            Some((_, failure)) => Err(*failure),
            None => Ok(output.outputs),
        }
    }

    fn finish(&self, shared: &Shared, scratch: &mut Scratch, dirs: &mut DirCache) {
        let digest = if self.has_failed.load(Ordering::Relaxed) {
            // It did not hold still, or is another file by now: read by one thread, by the whole rule.
            let (strict, stopped) = (shared.options.strict_reads, &shared.is_stopped);
            let stream = [Stream::new(Algorithm::Blake3)];
            let file = self.job.open(dirs);
            file.and_then(|file| local::hash_stream(file, &stream, strict, scratch, stopped))
        } else {
            let values = self.values.lock().expect("no holder panics");
            merge(&values, true).map(Vec::from).ok_or(Failure::Invalid)
        };
        if !shared.is_over() {
            shared.reorder.change(&mut vec![(self.job.tag, outcome_change(digest))]);
        }
        shared.queue.done(self.job.dir.iter().cloned().collect());
    }
}
