//! Carries out one order with the memory of one thread.
//!
//! Invariants: every item gets an output or a failure, outputs in the order of the items; nothing that
//! a peer can put into an order panics. An order's descriptors stay open: closing them is its owner's.

use crate::exec::interleave::{self, FileQueue};
use crate::exec::long_file::{self, FileTask, Hasher, LongFile};
use crate::exec::order::{Order, Output, Scratch, ScratchParts, Source};
use crate::exec::small_files::{self, Batch};
use crate::hash::{self, Subtree};
use crate::input::dataset::Datasets;
use crate::input::open_file::BUFFER_LEN;
use crate::input::quiet::{Expected, Rule};
use ipc_proto::Algorithm;
use ipc_proto::message::{ByteRange, Failure, FileItem, Piece, Work};
use std::sync::atomic::AtomicBool;

/// Carries out `order`; names in it are of `datasets`. Once `revoked` is true it may stop early, with
/// an output that means nothing.
#[must_use]
pub fn run(
    order: &Order,
    datasets: &Datasets,
    scratch: &mut Scratch,
    revoked: &AtomicBool,
) -> Output {
    let source = |source| Source::of(source, &order.descriptors, datasets);
    match &order.work {
        Work::Files { source: files_source, files } => match source(files_source) {
            Ok(source) => Batch::new(order, source, files, scratch.tools(), revoked).run(),
            Err(failure) => {
                let failures = (0..).zip(files).map(|(at, _)| (at, failure)).collect();
                Output { outputs: Vec::new(), failures }
            }
        },
        Work::Inline { lens, data } => {
            let (kernels, mut outputs) = (order.kernels().collect::<Vec<_>>(), Vec::new());
            small_files::hash_many(&kernels, &split(lens, data), &mut outputs);
            Output { outputs, failures: Vec::new() }
        }
        Work::Subtree { source: file_source, file, offset, len } => {
            let range = ByteRange { offset: *offset, len: *len };
            Output::of(
                source(file_source).and_then(|source| {
                    subtree(order, source, *file, range, scratch.tools(), revoked)
                }),
            )
        }
        // Threads with checkpoints resume (`checkpointed`), and a page is no output (`Datasets::list`).
        Work::Resume { .. } | Work::List(_) => Output::of(Err(Failure::Invalid)),
        Work::Piece(piece) => {
            let output = order.algorithms.single().and_then(|algorithm| step(algorithm, piece));
            Output::of(output.ok_or(Failure::Invalid))
        }
    }
}

/// The chaining value of a range of an item.
fn subtree(
    order: &Order,
    mut source: Source<'_>,
    file: FileItem,
    ByteRange { offset, len }: ByteRange,
    ScratchParts { buffer, clock, options, .. }: ScratchParts<'_>,
    revoked: &AtomicBool,
) -> Result<Vec<u8>, Failure> {
    let subtree =
        Subtree::new(offset, len).filter(|_| order.algorithms.single() == Some(Algorithm::Blake3));
    let hasher = Hasher::Subtree(subtree.ok_or(Failure::Invalid)?);
    let rule = Rule { clock, strict: order.strict_reads };
    // Others read the other parts.
    let expected = Expected::SameContent(file.stamp);
    let io_limit = source.io_limit();
    let (source, stamp) = {
        let now_ns = clock.now().real_ns;
        long_file::open(|| source.open(0), expected, rule, now_ns)?
    };
    let drop_behind = options.drop_behind;
    let (offset, len) = (file.offset().saturating_add(offset), Some(len));
    let task = FileTask { source, stamp, expected, offset, len, hasher, io_limit, drop_behind };
    let mut queue = Single { file: Some(LongFile::new(task, rule)), revoked, outcome: None };
    interleave::run(&mut queue, vec![&mut buffer[..BUFFER_LEN]], clock);
    queue.outcome.unwrap_or(Err(Failure::Invalid))
}

/// One file.
struct Single<'a, 'r> {
    file: Option<LongFile<'a>>,
    revoked: &'r AtomicBool,
    outcome: Option<Result<Vec<u8>, Failure>>,
}

impl<'a> FileQueue<'a> for Single<'a, '_> {
    type Ticket = ();

    fn next(&mut self) -> Option<((), Result<LongFile<'a>, Failure>)> {
        self.file.take().map(|file| ((), Ok(file)))
    }

    fn revoked<'t>(&'t self, (): &'t ()) -> &'t AtomicBool {
        self.revoked
    }

    fn advanced(&mut self, (): &mut (), _: &LongFile<'a>) {}

    fn done(&mut self, (): (), outcome: Result<Vec<u8>, Failure>, _: u64) {
        self.outcome = Some(outcome);
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::Backend;
    use crate::input::open_file::regular_stamp;
    use ipc_proto::message::{FileSource, Stamp};
    use ipc_proto::{Algorithms, Blob};
    use std::fs::File;
    use std::os::fd::AsFd;
    use std::os::fd::OwnedFd;
    use std::os::unix::fs::FileExt;
    use test_kit::pattern;

    static GOING: AtomicBool = AtomicBool::new(false);

    fn file(bytes: &[u8]) -> (Stamp, File) {
        let file = test_kit::file(bytes);
        (regular_stamp(file.as_fd()).unwrap(), file)
    }

    fn digests<'a>(algorithm: Algorithm, inputs: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
        let inputs: Vec<_> = inputs.into_iter().collect();
        Backend::PORTABLE.digests(algorithm, &inputs)
    }

    fn order(algorithm: Algorithm, work: Work, files: Vec<File>) -> Order {
        Order::new(algorithm.into(), work, files.into_iter().map(OwnedFd::from).collect())
    }

    fn output(algorithm: Algorithm, work: Work, files: Vec<File>) -> Output {
        run(&order(algorithm, work, files), &Datasets::default(), &mut Scratch::default(), &GOING)
    }

    fn passed(files: Vec<(Stamp, File)>) -> (Work, Vec<File>) {
        let (stamps, descriptors): (Vec<Stamp>, Vec<File>) = files.into_iter().unzip();
        let files = stamps.into_iter().map(FileItem::from).collect();
        (Work::Files { source: FileSource::Descriptors, files }, descriptors)
    }

    fn part_of(file: Stamp, offset: u64, len: u64) -> Work {
        Work::Subtree { source: FileSource::Descriptors, file: file.into(), offset, len }
    }

    fn files(algorithm: Algorithm, files: Vec<(Stamp, File)>) -> Output {
        let (work, descriptors) = passed(files);
        output(algorithm, work, descriptors)
    }

    const LENS: [usize; 12] =
        [0, 1, 4096, 65_536, 100_000, 131_071, 131_072, 131_073, 262_144, 262_145, 5, 1_048_577];

    /// Descriptors, and the same files in a dataset: ranges, and several digests of one read.
    #[test]
    fn ranges_and_several_algorithms_yield_digests_in_the_given_order() {
        let asked = [Algorithm::Blake3, Algorithm::Sha256, Algorithm::Sha512];
        let contents = LENS.map(pattern);
        let dir = tempfile::tempdir().unwrap();
        let mount = format!("d={}", dir.path().display()).parse().unwrap();
        let datasets = Datasets::open(vec![mount]).unwrap();
        for (i, bytes) in contents.iter().enumerate() {
            std::fs::write(dir.path().join(format!("{i}")), bytes).unwrap();
        }
        for algorithms in [&asked[..1], &asked[1..2], &asked[..2], &asked] {
            let (mut items, mut paths, mut want) = (vec![], vec![], vec![]);
            let mut descriptors = Vec::<OwnedFd>::new();
            for (i, bytes) in contents.iter().enumerate() {
                let (name, len) = (format!("{i}"), bytes.len());
                for range in [None, Some(0..len), Some(len / 3..len / 2), Some(len..len)] {
                    let file = File::open(dir.path().join(&name)).unwrap();
                    let stamp = regular_stamp(file.as_fd()).unwrap();
                    let part = range.clone().map_or(&bytes[..], |range| &bytes[range]);
                    let range =
                        range.map(|r| ByteRange { offset: r.start as u64, len: r.len() as u64 });
                    items.push(FileItem { stamp, range });
                    paths.push(Blob::from(name.as_bytes()));
                    descriptors.push(file.into());
                    algorithms.iter().for_each(|&a| want.extend(digests(a, [part])));
                }
            }
            let dataset = FileSource::Dataset { name: "d".to_owned(), paths };
            for source in [FileSource::Descriptors, dataset] {
                let algorithms = Algorithms::new(algorithms).unwrap();
                let work = Work::Files { source, files: items.clone() };
                let descriptors = descriptors.iter().map(|fd| fd.try_clone().unwrap()).collect();
                let order = Order::new(algorithms, work, descriptors);
                let output = run(&order, &datasets, &mut Scratch::default(), &GOING);
                assert_eq!(output.failures, vec![]);
                assert!(output.outputs == want, "{algorithms}");
            }
        }
        let (lens, data) = (vec![3, 0, 2], Blob(b"abcde".to_vec()));
        let order =
            Order::new(Algorithms::new(&asked).unwrap(), Work::Inline { lens, data }, vec![]);
        let output = run(&order, &datasets, &mut Scratch::default(), &GOING);
        let messages = [&b"abc"[..], b"", b"de"];
        let want = messages.map(|m| asked.map(|a| digests(a, [m])).concat()).concat();
        assert_eq!(output, Output { outputs: want, failures: vec![] });
    }

    #[test]
    fn a_truncated_range_is_reported_as_changed_and_growth_behind_it_is_ignored() {
        for (len, want) in [(9_999, Err(Failure::Changed)), (10_001, Ok(()))] {
            let (stamp, changed) = file(&pattern(10_000));
            changed.set_len(len).unwrap();
            let item = FileItem { stamp, range: Some(ByteRange { offset: 1000, len: 9000 }) };
            let work = Work::Files { source: FileSource::Descriptors, files: vec![item] };
            let output = output(Algorithm::Sha256, work, vec![changed]);
            let outputs = want.map(|()| digests(Algorithm::Sha256, [&pattern(10_000)[1000..]]));
            assert_eq!(output, Output::of(outputs), "now {len} bytes");
        }
    }

    #[test]
    fn a_file_that_fails_does_not_affect_the_others() {
        let null = File::open("/dev/null").unwrap();
        let batch = vec![file(b"one"), (Stamp::default(), null), file(b"three")];
        let output = files(Algorithm::Blake3, batch);
        assert_eq!(output.failures, vec![(1, Failure::NotRegular)]);
        assert_eq!(output.outputs, digests(Algorithm::Blake3, [&b"one"[..], b"three"]));
    }

    #[test]
    fn a_cross_check_has_the_same_digests_and_none_for_a_changed_file() {
        for algorithm in Algorithm::ALL {
            let contents = LENS.map(pattern);
            let check = |files: Vec<(Stamp, File)>| {
                let (work, files) = passed(files);
                let order = Order { check: true, ..order(algorithm, work, files) };
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

    #[test]
    fn inline_messages_are_split_at_their_lengths() {
        let messages = [&b""[..], b"a", b"", b"bcd", &[7; 500]];
        let lens = messages.map(|message| u32::try_from(message.len()).unwrap()).into();
        let work = Work::Inline { lens, data: messages.concat().into() };
        let output = output(Algorithm::Sha512, work, Vec::new());
        assert_eq!(output.outputs, digests(Algorithm::Sha512, messages));
    }

    #[test]
    fn subtrees_of_a_file_or_of_bytes_merge_to_its_digest() {
        let bytes = pattern(1_000_000);
        let part_len = 256 << 10;
        let mut values = Vec::new();
        for (i, part) in bytes.chunks(part_len).enumerate() {
            let (stamp, file) = file(&bytes);
            let (offset, len) = ((i * part_len) as u64, part.len() as u64);
            let of_file = output(Algorithm::Blake3, part_of(stamp, offset, len), vec![file]);
            let piece = Piece::Subtree { offset, data: part.into() };
            let of_bytes = output(Algorithm::Blake3, Work::Piece(piece), vec![]);
            assert_eq!((of_file.outputs.len(), &of_file), (32, &of_bytes));
            values.extend(of_file.outputs);
        }
        let merge = Piece::Merge { values: values.into(), root: true };
        let digest = output(Algorithm::Blake3, Work::Piece(merge), vec![]);
        assert_eq!(digest, Output::of(Ok(blake3::hash(&bytes).as_bytes().into())));
    }

    #[test]
    fn a_step_that_cannot_be_done_is_invalid_and_a_subtree_of_a_changed_file_has_no_value() {
        let blob = |len| Blob(vec![0xff; len]);
        let subtree = |offset, len| Piece::Subtree { offset, data: blob(len) };
        let merge = |len, root| Piece::Merge { values: blob(len), root };
        let segment = |len| Piece::Segment { state: blob(len), data: blob(128), last: true };
        let [blake3, sha256, sha512] = [Algorithm::Blake3, Algorithm::Sha256, Algorithm::Sha512];
        for (algorithm, piece) in [
            (sha256, subtree(0, 64)),
            (sha256, merge(64, true)),
            (blake3, segment(0)),
            (blake3, subtree(1, 10)),
            (blake3, subtree(1024, 2000)),
            (blake3, subtree(0, 0)),
            (blake3, subtree(u64::MAX - 1, 10)),
            (blake3, merge(0, false)),
            (blake3, merge(32, false)),
            (blake3, merge(33, false)),
            (sha256, segment(1)),
            (sha256, segment(40)),
            (sha512, segment(72)),
            (sha512, segment(208)),
            (sha256, Piece::Segment { state: blob(0), data: blob(1), last: false }),
        ] {
            let output = output(algorithm, Work::Piece(piece.clone()), vec![]);
            assert_eq!(output, Output::of(Err(Failure::Invalid)), "{algorithm}, {piece:?}");
        }
        for (algorithm, len, failure) in
            [(sha256, 4096, Failure::Invalid), (blake3, 4095, Failure::Changed)]
        {
            let (stamp, part) = file(&[1; 4096]);
            part.set_len(len).unwrap();
            let output = output(algorithm, part_of(stamp, 2048, 2048), vec![part]);
            assert_eq!(output, Output::of(Err(failure)), "{algorithm}");
        }
    }
}
