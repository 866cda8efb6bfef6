//! Doing one batch: what an [`Order`] asks for, with the memory of one thread.
//!
//! Invariants: every item gets an output or a failure, outputs in the order of the items; nothing that
//! a peer can put into an order panics. An order's descriptors stay open: closing them is its owner's.

use crate::exec::checkpointed as long;
use crate::exec::small_files::Batch;
use crate::hash::{self, Kernels, Subtree};
use crate::input::dataset::Datasets;
use crate::input::descriptor::{self as source, BUFFER_LEN};
use crate::input::page_cache::Passage;
use crate::input::reader::Reader;
use ipc_proto::Algorithm;
use ipc_proto::message::{Failure, Failures, Piece, Stamp, Work};
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::AtomicBool;

/// Alignment of a thread's buffer, in bytes.
pub(crate) const PAGE_LEN: usize = 4096;

/// A file from this length on has a batch of its own, and is worth a look at the page cache. In bytes.
const LARGE_LEN: u64 = 4 << 20;

/// What the start and end of a message cost, in bytes hashed: for [`Order::cost_len`].
const MESSAGE_COST_LEN: usize = 64;

/// What there is to do.
#[derive(Debug)]
pub struct Order {
    /// What to compute.
    pub algorithm: Algorithm,
    /// Of what.
    pub work: Work,
    /// As many as `work` needs.
    pub descriptors: Vec<OwnedFd>,
    /// Whether this was computed before and is to be compared: by other kernels than usual.
    pub check: bool,
}

impl Order {
    /// How many bytes take about as long to hash, or `None` if there are files to read.
    #[must_use]
    pub fn cost_len(&self) -> Option<usize> {
        match &self.work {
            Work::Messages { lens, data } => Some(data.len() + lens.len() * MESSAGE_COST_LEN),
            Work::Piece(piece) => Some(piece.len() + MESSAGE_COST_LEN),
            Work::Files { .. }
            | Work::Part { .. }
            | Work::Names { .. }
            | Work::NamedPart { .. }
            | Work::Rest { .. }
            | Work::NamedRest { .. } => None,
        }
    }
}

/// What came out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// Outputs of the items that did not fail, back to back.
    pub outputs: Vec<u8>,
    /// The items that failed.
    pub failures: Failures,
}

impl Output {
    /// The outcome of a batch of one file.
    pub(crate) fn of(outcome: Result<Vec<u8>, Failure>) -> Self {
        match outcome {
            Ok(outputs) => Self { outputs, failures: Failures::new() },
            Err(failure) => Self { outputs: Vec::new(), failures: vec![(0, failure)] },
        }
    }

    /// The outcome of a batch of one item.
    fn push(&mut self, value: Result<hash::ChainingValue, Failure>) {
        match value {
            Ok(value) => self.outputs.extend_from_slice(&value),
            Err(failure) => self.failures.push((0, failure)),
        }
    }
}

/// How files are read.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// After so many bytes of a long file it is said how far it is.
    pub report_len: u64,
    /// Whether large files are dropped from the page cache behind the reader, but for what was there
    /// before.
    pub drop_behind: bool,
}

impl Default for Manner {
    fn default() -> Self {
        Self { report_len: long::REPORT_LEN, drop_behind: false }
    }
}

/// The memory that a thread works in, used again for every batch.
///
/// It starts at a page: the kernel copies from whole pages, and a target that starts a few bytes
/// further into its page than the source, as large allocations of glibc do, makes each load wait for
/// the store before it. That was 20 % of the time of a large BLAKE3 file.
pub struct Scratch {
    memory: Box<[u8]>,
    start: usize,
    reader: Reader,
    manner: Manner,
}

/// Bytes of the buffer behind [`BUFFER_LEN`]: two files that fill it are asked for one more each.
const SLACK_LEN: usize = 2 * PAGE_LEN;

impl Default for Scratch {
    fn default() -> Self {
        Self::new(Reader::default(), Manner::default())
    }
}

impl Scratch {
    /// For a thread that reads with `reader`, in this `manner`.
    #[must_use]
    pub fn new(reader: Reader, manner: Manner) -> Self {
        let memory: Box<[u8]> = vec![0; BUFFER_LEN + SLACK_LEN + PAGE_LEN].into();
        let start = memory.as_ptr().align_offset(PAGE_LEN) % PAGE_LEN;
        Self { memory, start, reader, manner }
    }

    pub(crate) fn manner(&self) -> Manner {
        self.manner
    }

    pub(crate) fn buffer(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + BUFFER_LEN]
    }

    /// The buffer with its slack, and what reads to it.
    pub(crate) fn for_files(&mut self) -> (&mut [u8], &mut Reader) {
        let end = self.start + BUFFER_LEN + SLACK_LEN;
        (&mut self.memory[self.start..end], &mut self.reader)
    }
}

impl fmt::Debug for Scratch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scratch").finish_non_exhaustive()
    }
}

/// Does `order`; names in it are of `datasets`. Once `revoked` is true it may stop early, with an
/// output that means nothing.
#[must_use]
pub fn run(
    order: &Order,
    datasets: &Datasets,
    scratch: &mut Scratch,
    revoked: &AtomicBool,
) -> Output {
    let Order { algorithm, work, descriptors, check } = order;
    let (algorithm, check) = (*algorithm, *check);
    let kernels = if check { Kernels::others(algorithm) } else { Kernels::usual(algorithm) };
    let drop_behind = scratch.manner.drop_behind;
    let mut output = Output::default();
    match work {
        Work::Files { files } if is_large(files) => {
            let file = descriptors.first().ok_or(Failure::Invalid);
            output = Output::of(file.and_then(|file| {
                let file = file.as_fd();
                let before = source::stamp_of(file)?;
                stream(algorithm, |sink| {
                    through(file, (0, before.size), drop_behind, sink, |sink| {
                        source::read_stream(file, before, scratch.buffer(), revoked, sink)?
                            .map_err(|_| Failure::Changed)
                    })
                })
            }));
        }
        Work::Names { dataset, files } if is_large(files.iter().map(|file| &file.stamp)) => {
            output = Output::of(datasets.visit(dataset).and_then(|mut visit| {
                let found = visit.find(&files[0])?;
                stream(algorithm, |sink| {
                    through(found.as_fd(), (0, found.size()), drop_behind, sink, |sink| {
                        found.read_stream(scratch.buffer(), revoked, |bytes| {
                            sink(bytes);
                            visit.spend(bytes.len());
                        })
                    })
                })
            }));
        }
        Work::Files { files } => {
            let mut batch = Batch::new(kernels, scratch.for_files(), revoked, &mut output);
            batch.strict = check;
            batch.run(files, descriptors);
        }
        Work::Names { dataset, files } => {
            let batch = Batch::new(kernels, scratch.for_files(), revoked, &mut output);
            batch.run_named(datasets, dataset, files);
        }
        Work::Messages { lens, data } => {
            kernels.hash_many(&split(lens, data), &mut output.outputs);
        }
        Work::Part { file, offset, len } => {
            let value = descriptors.first().ok_or(Failure::Invalid).and_then(|source| {
                let (file, offset, len) = (*file, *offset, *len);
                let range = (offset, len);
                part(algorithm, range, |sink| {
                    let source = source.as_fd();
                    through(source, range, drop_behind, sink, |sink| {
                        let buffer = scratch.buffer();
                        source::read_part(source, file, offset, len, buffer, revoked, sink)
                    })
                })
            });
            output.push(value);
        }
        Work::NamedPart { dataset, file, offset, len } => {
            let (offset, len) = (*offset, *len);
            let value = part(algorithm, (offset, len), |sink| {
                let mut visit = datasets.visit(dataset)?;
                let found = visit.find(file)?;
                let buffer = scratch.buffer();
                through(found.as_fd(), (offset, len), drop_behind, sink, |sink| {
                    found.read_part(offset, len, buffer, revoked, |bytes| {
                        sink(bytes);
                        visit.spend(bytes.len());
                    })
                })
            });
            output.push(value);
        }
        // A thread that has one tells how far it is: `long`.
        Work::Rest { .. } | Work::NamedRest { .. } => {
            output.failures.push((0, Failure::Invalid));
        }
        Work::Piece(piece) => match step(algorithm, piece) {
            Some(value) => output.outputs = value,
            None => output.failures.push((0, Failure::Invalid)),
        },
    }
    output
}

/// The messages in `data`; those that it does not have are left out.
fn split<'a>(lens: &[u32], mut data: &'a [u8]) -> Vec<&'a [u8]> {
    let mut messages = Vec::with_capacity(lens.len());
    for &len in lens {
        let Some((message, rest)) = data.split_at_checked(len as usize) else { break };
        messages.push(message);
        data = rest;
    }
    messages
}

fn step(algorithm: Algorithm, piece: &Piece) -> Option<Vec<u8>> {
    match (algorithm, piece) {
        (Algorithm::Blake3, Piece::Subtree { offset, data }) => {
            let mut subtree = Subtree::new(*offset, data.len() as u64)?;
            subtree.update(data)?;
            subtree.finish().map(Vec::from)
        }
        (Algorithm::Blake3, Piece::Merge { values, root }) => {
            hash::merge(values, *root).map(Vec::from)
        }
        (_, Piece::Segment { state, data, last }) => hash::segment(algorithm, state, data, *last),
        (_, Piece::Subtree { .. } | Piece::Merge { .. }) => None,
    }
}

/// Whether these are one file, and that is worth a look at the page cache.
fn is_large<'a>(files: impl IntoIterator<Item = &'a Stamp>) -> bool {
    let mut files = files.into_iter();
    files.next().is_some_and(|file| file.size >= LARGE_LEN) && files.next().is_none()
}

/// Has `read` give the bytes of a range of `file` to `sink`, with what comes next asked for, and what
/// is behind dropped where that is wanted.
fn through(
    file: BorrowedFd<'_>,
    (offset, len): (u64, u64),
    drop_behind: bool,
    sink: &mut dyn FnMut(&[u8]),
    read: impl FnOnce(&mut dyn FnMut(&[u8])) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut passage = Passage::new(offset, len, drop_behind);
    passage.reach(file, offset);
    let mut at = offset;
    let result = read(&mut |bytes| {
        at = at.saturating_add(bytes.len() as u64);
        passage.reach(file, at);
        sink(bytes);
    });
    passage.leave(file);
    result
}

/// The digest of the bytes that `read` gives to its sink.
fn stream(
    algorithm: Algorithm,
    read: impl FnOnce(&mut dyn FnMut(&[u8])) -> Result<(), Failure>,
) -> Result<Vec<u8>, Failure> {
    let mut stream = hash::stream(algorithm);
    read(&mut |bytes| stream.update(bytes))?;
    let mut digest = Vec::new();
    stream.finish(&mut digest);
    Ok(digest)
}

/// The chaining value of a part, `len` bytes from `offset` on, that `read` gives to its sink.
fn part(
    algorithm: Algorithm,
    (offset, len): (u64, u64),
    read: impl FnOnce(&mut dyn FnMut(&[u8])) -> Result<(), Failure>,
) -> Result<hash::ChainingValue, Failure> {
    if algorithm != Algorithm::Blake3 {
        return Err(Failure::Invalid);
    }
    let mut subtree = Subtree::new(offset, len).ok_or(Failure::Invalid)?;
    let mut fits = Some(());
    read(&mut |bytes| fits = fits.and_then(|()| subtree.update(bytes)))?;
    fits.and_then(|()| subtree.finish()).ok_or(Failure::Changed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::Backend;
    use ipc_proto::Blob;
    use std::fs::File;
    use std::os::unix::fs::FileExt;
    use tempfile::tempfile;

    static GOING: AtomicBool = AtomicBool::new(false);

    fn pattern(len: usize) -> Vec<u8> {
        (0..=250).cycle().skip(len % 251).take(len).collect()
    }

    fn file(bytes: &[u8]) -> (Stamp, File) {
        let file = tempfile().unwrap();
        file.write_all_at(bytes, 0).unwrap();
        (source::stamp_of(file.as_fd()).unwrap(), file)
    }

    fn digests<'a>(algorithm: Algorithm, inputs: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
        let mut out = Vec::new();
        let inputs: Vec<_> = inputs.into_iter().collect();
        Backend::Portable.hash_many(algorithm, &inputs, &mut out);
        out
    }

    fn order(algorithm: Algorithm, work: Work, files: Vec<File>) -> Order {
        let descriptors = files.into_iter().map(OwnedFd::from).collect();
        Order { algorithm, work, descriptors, check: false }
    }

    fn output(algorithm: Algorithm, work: Work, files: Vec<File>) -> Output {
        run(&order(algorithm, work, files), &Datasets::default(), &mut Scratch::default(), &GOING)
    }

    fn files(algorithm: Algorithm, files: Vec<(Stamp, File)>) -> Output {
        let (files, descriptors) = files.into_iter().unzip();
        output(algorithm, Work::Files { files }, descriptors)
    }

    #[track_caller]
    fn check_piece(algorithm: Algorithm, piece: Piece, want: Option<&[u8]>) {
        let output = output(algorithm, Work::Piece(piece), Vec::new());
        match want {
            Some(want) => assert_eq!((&output.outputs[..], output.failures), (want, vec![])),
            None => {
                let failures = vec![(0, Failure::Invalid)];
                assert_eq!(output, Output { outputs: Vec::new(), failures });
            }
        }
    }

    const LENS: [usize; 12] =
        [0, 1, 4096, 65_536, 100_000, 131_071, 131_072, 131_073, 262_144, 262_145, 5, 1_048_577];

    #[test]
    fn a_buffer_starts_at_a_page_and_is_as_long_as_said() {
        let mut scratch = Scratch::default();
        assert_eq!(scratch.buffer().as_ptr().addr() % PAGE_LEN, 0);
        assert_eq!(scratch.buffer().len(), BUFFER_LEN);
    }

    #[test]
    fn files_of_every_size_keep_their_order() {
        let contents = LENS.map(pattern);
        for algorithm in Algorithm::ALL {
            let output = files(algorithm, contents.iter().map(|bytes| file(bytes)).collect());
            let want = digests(algorithm, contents.iter().map(Vec::as_slice));
            assert_eq!(output, Output { outputs: want, failures: vec![] }, "{algorithm}");
        }
    }

    #[test]
    fn a_failed_file_leaves_the_others_their_digests() {
        let null = File::open("/dev/null").unwrap();
        let batch = vec![file(b"one"), (Stamp::default(), null), file(b"three")];
        let output = files(Algorithm::Blake3, batch);
        assert_eq!(output.failures, vec![(1, Failure::NotRegular)]);
        assert_eq!(output.outputs, digests(Algorithm::Blake3, [&b"one"[..], b"three"]));
    }

    #[test]
    fn a_file_that_changed_before_it_was_read_gets_the_digest_of_what_it_is_now() {
        for len in [10, 300_000] {
            let (stamp, changed) = file(&pattern(len));
            let now = pattern(len + 1);
            changed.write_all_at(&now, 0).unwrap();
            let output = files(Algorithm::Sha256, vec![(stamp, changed)]);
            let want = digests(Algorithm::Sha256, [&now[..]]);
            assert_eq!(output, Output { outputs: want, failures: vec![] }, "{len} bytes");
        }
    }

    #[test]
    fn a_check_gives_the_same_digests_and_none_of_a_file_that_is_not_as_it_was() {
        for algorithm in Algorithm::ALL {
            let contents = LENS.map(pattern);
            let check = |files: Vec<(Stamp, File)>| {
                let (stamps, files) = files.into_iter().unzip();
                let order =
                    Order { check: true, ..order(algorithm, Work::Files { files: stamps }, files) };
                run(&order, &Datasets::default(), &mut Scratch::default(), &GOING)
            };
            let want = digests(algorithm, contents.iter().map(Vec::as_slice));
            let output = check(contents.iter().map(|bytes| file(bytes)).collect());
            assert_eq!(output, Output { outputs: want, failures: vec![] }, "{algorithm}");
            for len in [10, 300_000] {
                let (stamp, changed) = file(&pattern(len));
                changed.write_all_at(&pattern(len + 1), 0).unwrap();
                let output = check(vec![(stamp, changed)]);
                let failures = vec![(0, Failure::Changed)];
                assert_eq!(output, Output { outputs: vec![], failures }, "{len} bytes");
            }
        }
    }

    /// Files of procfs say that they are empty, and are not.
    #[test]
    fn a_file_that_is_never_as_its_stamp_says_has_no_digest() {
        let version = File::open("/proc/version").unwrap();
        let stamp = source::stamp_of(version.as_fd()).unwrap();
        assert_eq!(stamp.size, 0);
        let output = files(Algorithm::Sha256, vec![(stamp, version)]);
        let failures = vec![(0, Failure::Changed)];
        assert_eq!(output, Output { outputs: vec![], failures });
    }

    #[test]
    fn messages_are_cut_at_their_lengths() {
        let messages = [&b""[..], b"a", b"", b"bcd", &[7; 500]];
        let lens = messages.map(|message| u32::try_from(message.len()).unwrap()).into();
        let work = Work::Messages { lens, data: messages.concat().into() };
        let output = output(Algorithm::Sha512, work, Vec::new());
        assert_eq!(output.outputs, digests(Algorithm::Sha512, messages));
    }

    #[test]
    fn parts_of_a_file_merge_to_its_hash() {
        let bytes = pattern(1_000_000);
        let part_len = 256 << 10;
        let mut values = Vec::new();
        for (i, part) in bytes.chunks(part_len).enumerate() {
            let (stamp, file) = file(&bytes);
            let (offset, len) = ((i * part_len) as u64, part.len() as u64);
            let work = Work::Part { file: stamp, offset, len };
            let output = output(Algorithm::Blake3, work, vec![file]);
            assert_eq!((output.outputs.len(), output.failures), (32, vec![]));
            values.extend(output.outputs);
        }
        let merge = Piece::Merge { values: values.into(), root: true };
        check_piece(Algorithm::Blake3, merge, Some(blake3::hash(&bytes).as_bytes()));
    }

    #[test]
    fn a_part_of_a_changed_file_has_no_value() {
        let (stamp, part) = file(&[1; 4096]);
        part.set_len(4095).unwrap();
        let work = Work::Part { file: stamp, offset: 2048, len: 2048 };
        let output = output(Algorithm::Blake3, work, vec![part]);
        assert_eq!(output.failures, vec![(0, Failure::Changed)]);
    }

    #[test]
    fn a_part_or_piece_of_another_algorithm_is_invalid() {
        let (stamp, part) = file(&[1; 4096]);
        let work = Work::Part { file: stamp, offset: 0, len: 1024 };
        let output = output(Algorithm::Sha256, work, vec![part]);
        assert_eq!(output.failures, vec![(0, Failure::Invalid)]);
        let data = Blob(vec![0; 64]);
        let subtree = Piece::Subtree { offset: 0, data: data.clone() };
        let merge = Piece::Merge { values: data.clone(), root: true };
        let segment = Piece::Segment { state: Blob::default(), data, last: true };
        check_piece(Algorithm::Sha256, subtree, None);
        check_piece(Algorithm::Sha256, merge, None);
        check_piece(Algorithm::Blake3, segment, None);
    }

    #[test]
    fn a_shape_or_state_that_the_libraries_do_not_take_is_invalid() {
        let blob = |len| Blob(vec![0xff; len]);
        for (offset, len) in [(1, 10), (1024, 2000), (0, 0), (u64::MAX - 1, 10)] {
            check_piece(Algorithm::Blake3, Piece::Subtree { offset, data: blob(len) }, None);
        }
        for len in [0, 32, 33] {
            check_piece(Algorithm::Blake3, Piece::Merge { values: blob(len), root: false }, None);
        }
        for len in [1, 104, 208] {
            let segment = Piece::Segment { state: blob(len), data: blob(128), last: true };
            check_piece(Algorithm::Sha256, segment.clone(), None);
            check_piece(Algorithm::Sha512, segment, None);
        }
    }

    #[test]
    fn many_empty_messages_are_not_free() {
        let work = Work::Messages { lens: vec![0; 8192], data: Blob::default() };
        assert_eq!(order(Algorithm::Sha256, work, vec![]).cost_len(), Some(8192 * 64));
    }
}
