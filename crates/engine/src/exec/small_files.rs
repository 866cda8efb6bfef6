//! Whole files of one batch: small ones are read one after the other and hashed beside each other,
//! and those of them that are not in memory are read together before that. Larger ones come last
//! (`later`).
//!
//! Invariants: outputs come in the order of the files that did not fail, failures in that of the
//! files; what lies in the buffer is a file that did not change, before it is hashed.

mod later;

use crate::exec::run::{Output, PAGE_LEN};
use crate::hash::Kernels;
use crate::input::dataset::{Datasets, Found, Small, Visit};
use crate::input::descriptor::{self as source, BUFFER_LEN, Whole};
use crate::input::reader::Reader;
use crate::input::sys::Read;
use ipc_proto::Algorithm;
use ipc_proto::message::{Failure, Named, Stamp};
use later::{Later, Place};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// Files that fit the buffer so often are read whole, several beside each other.
const SMALL_MIN: usize = 2;

/// Most files that are read before they are hashed together.
const GROUP_MAX: usize = 64;

/// Bytes after which files are hashed that a backend does one by one, while they are in the cache.
const ALONE_LEN: usize = 64 << 10;

/// Shorter BLAKE3 files gain from others beside them.
const TREE_LEN_MIN: usize = 32 << 10;

/// A file that is streamed in the place of one in the buffer is read in such pieces.
const PIECE_LEN: usize = 64 << 10;

/// A batch of files on its way.
pub(crate) struct Batch<'a> {
    kernels: Kernels,
    /// Whether open files have to be as the client saw them, and not just hold still.
    pub(crate) strict: bool,
    has_lanes: bool,
    /// How many files are hashed beside each other while they are read.
    beside_max: usize,
    /// Files up to this size are read whole: enough of them fit the buffer to fill the lanes.
    small_len_max: u64,
    buffer: &'a mut [u8],
    reader: &'a mut Reader,
    group: Vec<Slot<'a>>,
    group_max: usize,
    /// Where the next file goes in the buffer.
    used_len: usize,
    /// Files that come last.
    later: Vec<Later<'a>>,
    /// Whose the outputs are, in their order.
    positions: Vec<u32>,
    revoked: &'a AtomicBool,
    output: &'a mut Output,
}

/// A file that is in the buffer, or to be read to it, and not hashed yet.
struct Slot<'a> {
    position: u32,
    span: Range<usize>,
    /// Where it comes from, if it is not there yet.
    late: Option<Late<'a>>,
}

/// A file that is regular, as it should be, and not in memory.
enum Late<'a> {
    Passed(BorrowedFd<'a>, Stamp),
    Named(Found),
}

impl AsFd for Late<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Passed(file, _) => *file,
            Self::Named(found) => found.as_fd(),
        }
    }
}

impl<'a> Batch<'a> {
    /// Reads to `buffer`, which is longer than [`BUFFER_LEN`], and answers to `output`.
    pub(crate) fn new(
        kernels: Kernels,
        (buffer, reader): (&'a mut [u8], &'a mut Reader),
        revoked: &'a AtomicBool,
        output: &'a mut Output,
    ) -> Self {
        debug_assert!(buffer.len() > BUFFER_LEN);
        let mut batch = Self {
            kernels,
            strict: false,
            has_lanes: kernels.lanes() > 1,
            beside_max: 1,
            small_len_max: 0,
            buffer,
            reader,
            group: Vec::with_capacity(GROUP_MAX),
            group_max: GROUP_MAX,
            used_len: 0,
            later: Vec::new(),
            positions: Vec::new(),
            revoked,
            output,
        };
        batch.put_beside(kernels.long_lanes());
        batch
    }

    /// Hashes so many files beside each other while they are read.
    fn put_beside(&mut self, lanes: usize) {
        self.beside_max = lanes;
        self.small_len_max = (BUFFER_LEN / lanes.max(SMALL_MIN)) as u64;
    }

    /// Hashes open files.
    pub(crate) fn run(mut self, stamps: &[Stamp], files: &'a [OwnedFd]) {
        for ((position, &stamp), file) in (0..).zip(stamps).zip(files) {
            if self.is_revoked() {
                return;
            }
            if let Err(failure) = self.passed(position, file.as_fd(), stamp) {
                self.output.failures.push((position, failure));
            }
        }
        self.hash_group(|| {});
        self.hash_later(None);
        self.put_in_order();
    }

    /// Hashes files of a dataset.
    pub(crate) fn run_named(mut self, datasets: &'a Datasets, dataset: &str, files: &'a [Named]) {
        let mut visit = match datasets.visit(dataset) {
            Ok(visit) => visit,
            Err(failure) => {
                let failed = (0..).zip(files).map(|(position, _)| (position, failure));
                return self.output.failures.extend(failed);
            }
        };
        for (position, named) in (0..).zip(files) {
            if self.is_revoked() {
                return;
            }
            if let Err(failure) = self.named(position, &mut visit, named) {
                self.output.failures.push((position, failure));
            }
        }
        self.hash_group(|| visit.pause());
        self.hash_later(Some(&mut visit));
        self.put_in_order();
    }

    fn put_in_order(&mut self) {
        self.output.failures.sort_unstable_by_key(|&(position, _)| position);
        if self.positions.is_sorted() {
            return;
        }
        let digest_len = self.kernels.algorithm().digest_len();
        let digests = self.output.outputs.chunks_exact(digest_len);
        let mut ordered: Vec<(u32, &[u8])> = self.positions.iter().copied().zip(digests).collect();
        ordered.sort_unstable_by_key(|&(position, _)| position);
        self.output.outputs = ordered.into_iter().flat_map(|(_, digest)| digest).copied().collect();
    }

    fn is_revoked(&self) -> bool {
        self.revoked.load(Ordering::Relaxed)
    }

    fn passed(&mut self, position: u32, file: BorrowedFd<'a>, stamp: Stamp) -> Result<(), Failure> {
        if self.is_later(stamp) {
            self.later.push(Later { position, stamp, place: Place::Passed(file) });
            return Ok(());
        }
        if stamp.size > self.small_len_max {
            let before = source::stamp_of(file)?;
            if self.strict && before != stamp {
                return Err(Failure::Changed);
            }
            return self.stream(position, file, before);
        }
        let start = self.make_room(stamp.size, || {});
        let late = match source::read_present(file, stamp, &mut self.buffer[start..])? {
            Whole::Read { .. } => None,
            Whole::Absent => Some(Late::Passed(file, stamp)),
            Whole::Unequal { .. } if self.strict => return Err(Failure::Changed),
            // It may have changed while it waited: what counts is that it holds still from now on.
            Whole::Unequal { now } => return self.stream(position, file, now),
        };
        self.push(position, stamp.size, late, || {});
        Ok(())
    }

    fn named(
        &mut self,
        position: u32,
        visit: &mut Visit<'a>,
        named: &'a Named,
    ) -> Result<(), Failure> {
        let (stamp, size) = (named.stamp, named.stamp.size);
        if self.is_later(stamp) {
            self.later.push(Later { position, stamp, place: Place::Named(named) });
            return Ok(());
        }
        if size > self.small_len_max {
            self.hash_group(|| visit.pause());
            let found = visit.find(named)?;
            let mut stream = self.kernels.stream();
            found.read_stream(&mut self.buffer[..BUFFER_LEN], self.revoked, |bytes| {
                stream.update(bytes);
                visit.spend(bytes.len());
            })?;
            stream.finish(&mut self.output.outputs);
            self.positions.push(position);
            return Ok(());
        }
        let start = self.make_room(size, || visit.pause());
        let late = match visit.read_present(named, &mut self.buffer[start..])? {
            Small::Read => None,
            Small::Absent(found) => Some(Late::Named(found)),
        };
        self.push(position, size, late, || visit.pause());
        Ok(())
    }

    /// Where in the buffer a small file and one more byte can be read to. `pause` is called when
    /// nothing is read for a while.
    fn make_room(&mut self, size: u64, pause: impl FnOnce()) -> usize {
        let size = usize::try_from(size).expect("a small file's size fits the buffer");
        // An odd one out is hashed alone, which takes as long as two beside each other.
        let files_len = if self.group.len().is_multiple_of(2) { 2 } else { 1 };
        let needed_len = (files_len - 1) * stride(size) + size + 1;
        if self.buffer.len() - self.used_len < needed_len {
            self.hash_group(pause);
        }
        self.used_len
    }

    /// Takes the next `size` bytes of the buffer for a file.
    fn push(&mut self, position: u32, size: u64, late: Option<Late<'a>>, pause: impl FnOnce()) {
        let size = usize::try_from(size).expect("a small file's size fits the buffer");
        let start = self.used_len;
        self.group.push(Slot { position, span: start..start + size, late });
        self.used_len = (start + stride(size)).min(self.buffer.len());
        let is_alone = !self.has_lanes
            || (self.kernels.algorithm() == Algorithm::Blake3
                && self.used_len >= TREE_LEN_MIN * self.group.len());
        let is_enough = is_alone && self.used_len >= ALONE_LEN;
        let are_late = || self.group.iter().any(|slot| slot.late.is_some());
        if self.group.len() == self.group_max || (is_enough && !are_late()) {
            self.hash_group(pause);
        }
    }

    /// Reads what is late, and hashes the files in the buffer.
    fn hash_group(&mut self, pause: impl FnOnce()) {
        let mut group = std::mem::take(&mut self.group);
        let lens = self.read_late(&group);
        pause();
        let mut hashed = 0;
        for (i, read_len) in lens {
            let slot = &mut group[i];
            let buffer = &mut self.buffer[slot.span.start..];
            let whole = match slot.late.take().expect("it was late a moment ago") {
                Late::Named(found) => found.read_rest(buffer, read_len).map(|_| None),
                Late::Passed(file, stamp) => match source::read_rest(file, stamp, buffer, read_len)
                {
                    Ok(Whole::Unequal { .. }) if self.strict => Err(Failure::Changed),
                    Ok(Whole::Unequal { now }) => Ok(Some((file, now))),
                    Ok(Whole::Read { .. } | Whole::Absent) => Ok(None),
                    Err(failure) => Err(failure),
                },
            };
            let result = match whole {
                Ok(None) => continue,
                Ok(Some(changed)) => Ok(changed),
                Err(failure) => Err(failure),
            };
            let position = slot.position;
            self.hash(&group[hashed..i]);
            hashed = i + 1;
            let streamed = result.and_then(|(file, now)| self.stream_aside(position, file, now));
            if let Err(failure) = streamed {
                self.output.failures.push((position, failure));
            }
        }
        self.hash(&group[hashed..]);
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
            let Some(late) = late else { continue };
            let (_, after) = rest.split_at_mut(span.start - rest_at);
            let (memory, after) = after.split_at_mut(span.len() + 1);
            (rest, rest_at) = (after, span.end + 1);
            reads.push(Read::new(late.as_fd(), memory));
            numbers.push(i);
        }
        if !reads.is_empty() {
            self.reader.read_many(&mut reads);
        }
        numbers.into_iter().zip(reads.iter().map(|read| read.result.unwrap_or(0))).collect()
    }

    fn hash(&mut self, slots: &[Slot<'a>]) {
        let mut inputs = [&[][..]; GROUP_MAX];
        let inputs = &mut inputs[..slots.len()];
        for (input, Slot { span, .. }) in inputs.iter_mut().zip(slots) {
            *input = &self.buffer[span.clone()];
        }
        if !inputs.is_empty() {
            self.kernels.hash_many(inputs, &mut self.output.outputs);
            self.positions.extend(slots.iter().map(|slot| slot.position));
        }
    }

    /// Reads and hashes a file of any size, which has to stay as it was `before`.
    fn stream(
        &mut self,
        position: u32,
        file: BorrowedFd<'_>,
        before: Stamp,
    ) -> Result<(), Failure> {
        self.hash_group(|| {});
        let (revoked, kernels) = (self.revoked, self.kernels);
        let memory = &mut self.buffer[..BUFFER_LEN];
        stream(kernels, file, before, memory, revoked, &mut self.output.outputs)?;
        self.positions.push(position);
        Ok(())
    }

    /// As [`Self::stream`], while other files are in the buffer.
    fn stream_aside(
        &mut self,
        position: u32,
        file: BorrowedFd<'_>,
        before: Stamp,
    ) -> Result<(), Failure> {
        let mut memory = vec![0; PIECE_LEN];
        let (revoked, kernels) = (self.revoked, self.kernels);
        stream(kernels, file, before, &mut memory, revoked, &mut self.output.outputs)?;
        self.positions.push(position);
        Ok(())
    }
}

fn stream(
    kernels: Kernels,
    file: BorrowedFd<'_>,
    before: Stamp,
    buffer: &mut [u8],
    revoked: &AtomicBool,
    outputs: &mut Vec<u8>,
) -> Result<(), Failure> {
    let mut stream = kernels.stream();
    source::read_stream(file, before, buffer, revoked, |bytes| stream.update(bytes))?
        .map_err(|_| Failure::Changed)?;
    stream.finish(outputs);
    Ok(())
}

/// From one file to the next in the buffer, with the byte between them that only a file has which is
/// longer than it should be. A target that starts further into its page than the source is slow to
/// copy to (`task::Scratch`), and short files begin with a line of the cache.
fn stride(size: usize) -> usize {
    (size + 1).next_multiple_of(if size < PAGE_LEN { 64 } else { PAGE_LEN })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::run::{Manner, Output, Scratch};
    use crate::hash::Backend;
    use crate::input::reader::{Asked, Reading};
    use std::fs::File;
    use std::io::Write;
    use std::os::unix::fs::FileExt;
    use std::time::SystemTime;

    pub(super) static GOING: AtomicBool = AtomicBool::new(false);

    const LENS: [usize; 13] =
        [0, 1, 4096, 65_536, 100_000, 262_144, 262_145, 5, 524_287, 524_288, 524_289, 7, 1_048_577];

    pub(super) fn pattern(len: usize) -> Vec<u8> {
        (0..=250).cycle().skip(len % 251).take(len).collect()
    }

    pub(super) fn file(bytes: &[u8]) -> (Stamp, File) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        (source::stamp_of(file.as_fd()).unwrap(), file)
    }

    pub(super) fn digests<'a>(
        algorithm: Algorithm,
        inputs: impl IntoIterator<Item = &'a [u8]>,
    ) -> Vec<u8> {
        let inputs: Vec<&[u8]> = inputs.into_iter().collect();
        let mut out = Vec::new();
        Backend::Portable.hash_many(algorithm, &inputs, &mut out);
        out
    }

    fn readers() -> Vec<(&'static str, Reader)> {
        [Asked::Plain, Asked::Uring]
            .map(|asked| {
                let (reading, mut readers) = Reading::open(asked, 1).expect("tests need io_uring");
                (reading.name(), readers.pop().unwrap())
            })
            .into()
    }

    #[test]
    fn grouped_files_keep_their_order_whatever_the_group() {
        let contents = LENS.map(pattern);
        for algorithm in [Algorithm::Sha256, Algorithm::Blake3] {
            let want = digests(algorithm, contents.iter().map(Vec::as_slice));
            let all_len = LENS.len() + 1;
            for (group_max, lanes) in (1..=all_len).zip([1, 2, 3, 8].into_iter().cycle()) {
                let (mut output, mut scratch) = (Output::default(), Scratch::default());
                let kernels = Kernels::usual(algorithm);
                let mut batch = Batch::new(kernels, scratch.for_files(), &GOING, &mut output);
                batch.group_max = group_max;
                if algorithm != Algorithm::Blake3 {
                    batch.put_beside(lanes);
                }
                let (stamps, files): (Vec<Stamp>, Vec<OwnedFd>) =
                    contents.iter().map(|bytes| file(bytes)).map(|(s, f)| (s, f.into())).unzip();
                batch.run(&stamps, &files);
                assert_eq!(output, Output { outputs: want.clone(), failures: vec![] });
            }
        }
    }

    /// What is not in memory is read later than it was looked at; some of it is another then.
    #[test]
    fn late_files_keep_their_order_and_what_changed_meanwhile_is_read_anew() {
        let lens = [10, 0, 70_000, 4096, 1, 200_000, 33, 8192];
        for (how, reader) in readers() {
            let files: Vec<(Stamp, OwnedFd)> =
                lens.map(pattern).iter().map(|b| file(b)).map(|(s, f)| (s, f.into())).collect();
            let mut now = lens.map(pattern).to_vec();
            let mut set = |at: usize, bytes: Vec<u8>| {
                let file = File::from(files[at].1.try_clone().unwrap());
                file.set_len(0).unwrap();
                file.write_all_at(&bytes, 0).unwrap();
                now[at] = bytes;
            };
            set(2, pattern(50));
            set(3, pattern(90_000));
            set(6, vec![7; 33]);
            let version = File::open("/proc/version").unwrap();
            let stamp = source::stamp_of(version.as_fd()).unwrap();
            let (mut output, mut scratch) =
                (Output::default(), Scratch::new(reader, Manner::default()));
            let kernels = Kernels::usual(Algorithm::Sha256);
            let mut batch = Batch::new(kernels, scratch.for_files(), &GOING, &mut output);
            for (position, (stamp, file)) in (0..).zip(&files) {
                let late = Late::Passed(file.as_fd(), *stamp);
                batch.push(position, stamp.size, (position != 4).then_some(late), || {});
                if position == 4 {
                    batch.buffer[batch.group[4].span.clone()].copy_from_slice(&now[4]);
                }
            }
            batch.push(8, 0, Some(Late::Passed(version.as_fd(), stamp)), || {});
            batch.hash_group(|| {});
            let want = digests(Algorithm::Sha256, now.iter().map(Vec::as_slice));
            assert_eq!(output.failures, vec![(8, Failure::Changed)], "{how}");
            assert!(output.outputs == want, "{how}");
        }
    }
}
