//! Files of one batch: small ones are read one after the other and hashed together, and those of
//! them that are not in memory are read together before that. Larger ones, ranges, and those that do
//! not hold still come last (`long_file`).
//!
//! Invariants: outputs come in the order of the files that did not fail, failures in that of the
//! files; what lies in the buffer held still, before it is hashed.

use crate::clock::Moment;
use crate::exec::interleave::{self, FileQueue};
use crate::exec::long_file::{self, FileTask, Hasher, LongFile};
use crate::exec::order::{Order, Output, PAGE_LEN, ReadOptions, ScratchParts, Source};
use crate::hash::{self, Kernels, Midstate};
use crate::input::io_limit::{IoLimit, Permit};
use crate::input::open_file::{BUFFER_LEN, LastFileSystem, OpenFile, Validation};
use crate::input::quiet::{Expected, Rule, Trial};
use crate::input::reader::Reader;
use crate::input::sys::Read;
use ipc_proto::message::{Failure, Failures, FileItem};
use ipc_proto::{Algorithm, Algorithms};
use std::cmp::Reverse;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// Files that fit the buffer this often are read whole, several at a time.
const SMALL_MIN: usize = 2;

/// Most files that are read before they are hashed together.
pub(crate) const GROUP_MAX: usize = 64;

/// Bytes after which files are hashed that a backend does one by one, while they are in the cache.
const ALONE_LEN: usize = 64 << 10;

/// Shorter BLAKE3 files gain from being hashed together.
const TREE_LEN_MIN: usize = 32 << 10;

/// Files that are closed in one call: a call for each takes 0.3 µs more per file, of 0.85.
const CLOSE_MAX: usize = 32;

/// A batch of files on its way.
pub(crate) struct Batch<'a> {
    algorithms: Algorithms,
    /// One per algorithm.
    kernels: Vec<Kernels>,
    rule: Rule<'a>,
    /// Before the first file is read.
    start: Moment,
    source: Source<'a>,
    files: &'a [FileItem],
    is_check: bool,
    has_lanes: bool,
    /// Maximum number of files that are interleaved while they are read.
    interleave_max: usize,
    /// Files up to this size are read whole: enough of them fit the buffer to fill the kernel.
    small_len_max: u64,
    options: ReadOptions,
    buffer: &'a mut [u8],
    reader: &'a mut Reader,
    /// The file system supports reads that do not wait.
    can_read_ready: bool,
    last_file_system: LastFileSystem,
    permit: Option<Permit<'a>>,
    /// Files that were opened by their names and read, to be closed.
    spent: Vec<OwnedFd>,
    group: Vec<Slot<'a>>,
    group_max: usize,
    /// Offset of the next file in the buffer.
    used_len: usize,
    /// Files that come last: at the end, the next one is the last of these.
    deferred: Vec<usize>,
    outcomes: Outcomes,
    revoked: &'a AtomicBool,
}

/// A file that is in the buffer, or to be read to it, and not hashed yet.
struct Slot<'a> {
    position: usize,
    span: Range<usize>,
    /// A regular file that is not in memory.
    late: Option<(OpenFile<'a>, Trial)>,
}

/// Digests by position.
#[derive(Default)]
struct Outcomes {
    outputs: Vec<u8>,
    /// The file of each output.
    positions: Vec<usize>,
    failures: Failures,
}

impl<'a> Batch<'a> {
    /// The files of `order`.
    pub(crate) fn new(
        order: &Order,
        source: Source<'a>,
        files: &'a [FileItem],
        tools: ScratchParts<'a>,
        revoked: &'a AtomicBool,
    ) -> Self {
        let ScratchParts { buffer, reader, options, clock } = tools;
        debug_assert!(buffer.len() > BUFFER_LEN);
        let kernels: Vec<_> = order.kernels().collect();
        // Several algorithms are streamed together, one file at a time.
        let interleave_max =
            if let [kernels] = &kernels[..] { kernels.interleave_max() } else { 1 };
        let mut batch = Self {
            algorithms: order.algorithms,
            has_lanes: kernels.iter().any(|kernels| kernels.preferred_batch() > 1),
            kernels,
            rule: Rule { clock, strict: order.strict_reads },
            start: clock.now(),
            source,
            files,
            is_check: order.check,
            interleave_max: 1,
            small_len_max: 0,
            options,
            buffer,
            reader,
            can_read_ready: true,
            last_file_system: LastFileSystem::default(),
            permit: None,
            spent: Vec::new(),
            group: Vec::with_capacity(GROUP_MAX),
            group_max: GROUP_MAX,
            used_len: 0,
            deferred: Vec::new(),
            outcomes: Outcomes::default(),
            revoked,
        };
        batch.interleave(interleave_max);
        batch
    }

    /// Hashes this many files at a time while they are read.
    fn interleave(&mut self, files_max: usize) {
        self.interleave_max = files_max;
        self.small_len_max = (BUFFER_LEN / files_max.max(SMALL_MIN)) as u64;
    }

    /// Hashes them.
    pub(crate) fn run(mut self) -> Output {
        for position in 0..self.files.len() {
            if self.is_revoked() {
                return Output::default();
            }
            if let Err(failure) = self.add(position) {
                self.outcomes.fail(position, failure);
            }
        }
        self.hash_group();
        if self.rule.clock.was_set_since(self.start) {
            // Stamps that looked old may have been set meanwhile.
            self.outcomes = Outcomes::default();
            self.deferred = (0..self.files.len()).collect();
        }
        (self.options.close)(std::mem::take(&mut self.spent));
        self.hash_deferred();
        self.outcomes.in_order(self.algorithms.digests_len())
    }

    fn is_revoked(&self) -> bool {
        self.revoked.load(Ordering::Relaxed)
    }

    fn expected(&self, position: usize) -> Expected {
        let is_named = matches!(self.source, Source::Dataset { .. });
        Expected::of_item(is_named, self.is_check, self.files[position].stamp)
    }

    /// Reads a small file if it is in memory and held still, else leaves it for later.
    fn add(&mut self, position: usize) -> Result<(), Failure> {
        let FileItem { stamp, range } = self.files[position];
        if range.is_some() || stamp.size > self.small_len_max {
            self.deferred.push(position);
            return Ok(());
        }
        let size = usize::try_from(stamp.size).expect("a small file's size fits the buffer");
        let start = self.make_room(size);
        if self.permit.is_none() {
            self.permit = self.source.io_limit().map(IoLimit::acquire);
        }
        let handle = self.source.open(position)?;
        let buffer = &mut self.buffer[start..=start + size];
        let (file, trial, ready_len, now) = if self.rule.wants_probe(stamp, self.start) {
            let (file, now) = handle.look(&mut self.last_file_system)?;
            let trial = Trial::of(self.rule, &file, now);
            if !trial.is_trusted(self.rule, file.validation()) {
                self.deferred.push(position);
                return Ok(());
            }
            let ready_len = file.read_ready(buffer, &mut self.can_read_ready)?;
            let now = if ready_len.is_some() { file.stamp()? } else { now };
            (file, trial, ready_len, now)
        } else {
            let ready_len = handle.read_ready(buffer, &mut self.can_read_ready)?;
            let (file, now) = handle.look(&mut self.last_file_system)?;
            (file, Trial::without_look(self.start), ready_len, now)
        };
        let is_as_seen = now.size == stamp.size
            && self.expected(position).admits(now, file.validation())
            && file.validation() != Validation::Sizeless;
        match ready_len {
            _ if !is_as_seen => self.deferred.push(position),
            Some(len) if len > size => self.deferred.push(position),
            Some(len) if len == size => {
                if trial.is_good(self.rule, file.validation(), now) {
                    self.close(file);
                    self.push(position, size, None);
                } else {
                    self.deferred.push(position);
                }
            }
            _ => {
                let trial = Trial::of(self.rule, &file, now);
                if trial.is_trusted(self.rule, file.validation()) {
                    self.push(position, size, Some((file, trial)));
                } else {
                    self.deferred.push(position);
                }
            }
        }
        Ok(())
    }

    /// Closes a file that was opened by its name, now with others or at the end.
    fn close(&mut self, file: OpenFile<'a>) {
        self.spent.extend(file.into_owned());
        if self.spent.len() == CLOSE_MAX {
            (self.options.close)(std::mem::take(&mut self.spent));
        }
    }

    /// Where in the buffer a small file and one more byte can be read to.
    fn make_room(&mut self, size: usize) -> usize {
        // An odd one out is hashed alone, which takes as long as two together.
        let files_len = if self.group.len().is_multiple_of(2) { 2 } else { 1 };
        let needed_len = (files_len - 1) * stride(size) + size + 1;
        if self.buffer.len() - self.used_len < needed_len {
            self.hash_group();
        }
        self.used_len
    }

    /// Takes the next `size` bytes of the buffer for a file.
    fn push(&mut self, position: usize, size: usize, late: Option<(OpenFile<'a>, Trial)>) {
        let start = self.used_len;
        self.group.push(Slot { position, span: start..start + size, late });
        self.used_len = (start + stride(size)).min(self.buffer.len());
        let algorithm = self.algorithms.single();
        let is_enough = is_enough(self.has_lanes, algorithm, self.used_len, self.group.len());
        let are_late = || self.group.iter().any(|slot| slot.late.is_some());
        if self.group.len() == self.group_max || (is_enough && !are_late()) {
            self.hash_group();
        }
    }

    /// Reads what is late, and hashes the files in the buffer.
    fn hash_group(&mut self) {
        let mut group = std::mem::take(&mut self.group);
        let lens = self.read_late(&group);
        for (i, read_len) in lens {
            let slot = &mut group[i];
            let (file, trial) = slot.late.as_ref().expect("it was late a moment ago");
            let buffer = &mut self.buffer[slot.span.start..=slot.span.end];
            match is_whole(file, *trial, self.rule, buffer, read_len) {
                Ok(true) => slot.late = None,
                Ok(false) => self.deferred.push(slot.position),
                Err(failure) => self.outcomes.fail(slot.position, failure),
            }
        }
        self.permit = None;
        group.retain(|slot| slot.late.is_none());
        let mut inputs = [&[][..]; GROUP_MAX];
        let inputs = &mut inputs[..group.len()];
        for (input, Slot { span, .. }) in inputs.iter_mut().zip(&group) {
            *input = &self.buffer[span.clone()];
        }
        if !inputs.is_empty() {
            hash_many(&self.kernels, inputs, &mut self.outcomes.outputs);
            self.outcomes.positions.extend(group.iter().map(|slot| slot.position));
        }
        group.clear();
        self.group = group;
        self.used_len = 0;
    }

    /// Which of `group` were late, and how many bytes of each came.
    fn read_late(&mut self, group: &[Slot<'a>]) -> Vec<(usize, usize)> {
        let mut reads = Vec::new();
        let mut numbers = Vec::new();
        let (mut rest, mut rest_at) = (&mut *self.buffer, 0);
        for (i, Slot { span, late, .. }) in group.iter().enumerate() {
            let Some((file, _)) = late else { continue };
            let (_, after) = rest.split_at_mut(span.start - rest_at);
            let (memory, after) = after.split_at_mut(span.len() + 1);
            (rest, rest_at) = (after, span.end + 1);
            reads.push(Read::new(file.as_fd(), memory));
            numbers.push(i);
        }
        if !reads.is_empty() {
            self.reader.read_many(&mut reads);
        }
        numbers.into_iter().zip(reads.iter().map(|read| read.result.unwrap_or(0))).collect()
    }

    /// Hashes the files that come last, the longest first.
    fn hash_deferred(&mut self) {
        let files = self.files;
        self.deferred.sort_by_key(|&position| (files[position].len(), Reverse(position)));
        let buffer = std::mem::take(&mut self.buffer);
        let windows = match self.hasher() {
            Hasher::Midstate(_) => interleave::windows(buffer, self.interleave_max),
            Hasher::Streams(_) | Hasher::Subtree(_) => vec![&mut buffer[..BUFFER_LEN]],
        };
        let clock = self.rule.clock;
        interleave::run(self, windows, clock);
    }

    fn hasher(&self) -> Hasher {
        match self.algorithms.single().and_then(Midstate::new) {
            Some(midstate) => Hasher::Midstate(midstate),
            None => {
                Hasher::Streams(self.algorithms.iter().map(|&a| hash::Stream::new(a)).collect())
            }
        }
    }
}

/// Appends the digests of each input by each of `kernels`.
pub(crate) fn hash_many(kernels: &[Kernels], inputs: &[&[u8]], out: &mut Vec<u8>) {
    if let [kernels] = kernels {
        return kernels.hash_many(inputs, out);
    }
    let digests = kernels.iter().map(|kernels| {
        let mut digests = Vec::new();
        kernels.hash_many(inputs, &mut digests);
        (digests, kernels.algorithm().digest_len())
    });
    let digests: Vec<_> = digests.collect();
    for i in 0..inputs.len() {
        for (digests, len) in &digests {
            out.extend_from_slice(&digests[i * len..][..*len]);
        }
    }
}

/// Reads the rest of a file, of which `len` bytes are in `buffer`, which has room for one more than
/// there should be; returns true if it is whole and held still.
fn is_whole(
    file: &OpenFile<'_>,
    trial: Trial,
    rule: Rule<'_>,
    buffer: &mut [u8],
    len: usize,
) -> Result<bool, Failure> {
    let is_complete = file.fill_at(buffer, len, 0)? + 1 == buffer.len();
    Ok(is_complete && trial.is_good(rule, file.validation(), file.stamp()?))
}

impl Outcomes {
    fn fail(&mut self, position: usize, failure: Failure) {
        self.failures.push((u32::try_from(position).expect("files of a batch"), failure));
    }

    fn in_order(mut self, digest_len: usize) -> Output {
        self.failures.sort_unstable_by_key(|&(position, _)| position);
        if self.positions.is_sorted() {
            return Output { outputs: self.outputs, failures: self.failures };
        }
        let digests = self.outputs.chunks_exact(digest_len);
        let mut ordered: Vec<_> = self.positions.iter().zip(digests).collect();
        ordered.sort_unstable_by_key(|&(position, _)| position);
        let outputs = ordered.into_iter().flat_map(|(_, digest)| digest).copied().collect();
        Output { outputs, failures: self.failures }
    }
}

/// The files that come last.
impl<'a> FileQueue<'a> for Batch<'a> {
    type Ticket = usize;

    fn next(&mut self) -> Option<(usize, Result<LongFile<'a>, Failure>)> {
        let position = self.deferred.pop().filter(|_| !self.is_revoked())?;
        let (item, expected) = (self.files[position], self.expected(position));
        let io_limit = self.source.io_limit();
        let open = || self.source.open(position);
        let opened = long_file::open(open, expected, self.rule, self.start.real_ns);
        let file = opened.map(|(source, stamp)| {
            let (hasher, drop_behind) = (self.hasher(), self.options.drop_behind);
            let (offset, len) = (item.offset(), item.range.map(|range| range.len));
            let task =
                FileTask { source, stamp, expected, offset, len, hasher, io_limit, drop_behind };
            LongFile::new(task, self.rule)
        });
        Some((position, file))
    }

    fn revoked<'t>(&'t self, _: &'t usize) -> &'t AtomicBool {
        self.revoked
    }

    fn advanced(&mut self, _: &mut usize, _: &LongFile<'a>) {}

    fn done(&mut self, position: usize, outcome: Result<Vec<u8>, Failure>, _: u64) {
        match outcome {
            Ok(digest) => {
                self.outcomes.outputs.extend_from_slice(&digest);
                self.outcomes.positions.push(position);
            }
            Err(failure) => self.outcomes.fail(position, failure),
        }
    }
}

/// Returns true if these files, `used_len` bytes in all, are better hashed now, while they are in the
/// cache, than with more of them.
pub(crate) fn is_enough(
    has_lanes: bool,
    algorithm: Option<Algorithm>,
    used_len: usize,
    files: usize,
) -> bool {
    let is_alone =
        !has_lanes || (algorithm == Some(Algorithm::Blake3) && used_len >= TREE_LEN_MIN * files);
    is_alone && used_len >= ALONE_LEN
}

/// From one file to the next in the buffer, with the byte between them that only a file has which is
/// longer than it should be. A target that starts further into its page than the source is slow to
/// copy to (`order::Scratch`), and short files begin with a line of the cache.
pub(crate) fn stride(size: usize) -> usize {
    (size + 1).next_multiple_of(if size < PAGE_LEN { 64 } else { PAGE_LEN })
}

#[cfg(test)]
mod tests;
