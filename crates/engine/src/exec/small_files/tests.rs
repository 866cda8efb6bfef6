use super::*;
use crate::clock::StampClock;
use crate::exec::order::Scratch;
use crate::exec::run;
use crate::hash::Backend;
use crate::input::dataset::Datasets;
use crate::input::open_file::{failure, regular_stamp};
use crate::input::reader::{Asked, Reading};
use ipc_proto::Blob;
use ipc_proto::message::{FileSource, Stamp, Work};
use nix::errno::Errno;
use std::fs::{self, File};
use std::sync::Mutex;
use test_kit::pattern;

static GOING: AtomicBool = AtomicBool::new(false);

const LENS: [usize; 13] =
    [0, 1, 4096, 65_536, 100_000, 262_144, 262_145, 5, 524_287, 524_288, 524_289, 7, 1_048_577];

fn digests<'a>(algorithm: Algorithm, inputs: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let inputs: Vec<&[u8]> = inputs.into_iter().collect();
    Backend::PORTABLE.digests(algorithm, &inputs)
}

fn order(algorithm: Algorithm) -> Order {
    let work = Work::Files { source: FileSource::Descriptors, files: vec![] };
    Order::new(algorithm.into(), work, vec![])
}

/// Files that nobody can write to, with these contents.
fn files(dir: &tempfile::TempDir, contents: &[Vec<u8>]) -> (Vec<FileItem>, Vec<OwnedFd>) {
    let open = |(i, bytes): (usize, &Vec<u8>)| {
        let path = dir.path().join(i.to_string());
        fs::write(&path, bytes).unwrap();
        let file = File::open(path).unwrap();
        (FileItem::from(regular_stamp(file.as_fd()).unwrap()), OwnedFd::from(file))
    };
    contents.iter().enumerate().map(open).unzip()
}

#[test]
fn files_of_every_size_keep_their_order_whatever_the_group() {
    let dir = tempfile::tempdir().unwrap();
    let contents = LENS.map(pattern);
    let (stamps, files) = files(&dir, &contents);
    for algorithm in [Algorithm::Sha256, Algorithm::Blake3] {
        let outputs = digests(algorithm, contents.iter().map(Vec::as_slice));
        let all_len = LENS.len() + 1;
        for (group_max, files_max) in (1..=all_len).zip([1, 2, 3, 8].into_iter().cycle()) {
            let mut scratch = Scratch::default();
            let source = Source::Descriptors(&files);
            let order = order(algorithm);
            let mut batch = Batch::new(&order, source, &stamps, scratch.tools(), &GOING);
            batch.group_max = group_max;
            if algorithm != Algorithm::Blake3 {
                batch.interleave(files_max);
            }
            let want = Output { outputs: outputs.clone(), failures: vec![] };
            assert_eq!(batch.run(), want, "{algorithm} {group_max}");
        }
    }
}

fn readers() -> Vec<(&'static str, Reader)> {
    [Asked::Plain, Asked::Uring]
        .map(|asked| {
            let (reading, mut readers) = Reading::open(asked, 1).expect("tests need io_uring");
            (reading.name(), readers.pop().unwrap())
        })
        .into()
}

/// A file that is not in memory is read later than it was looked at.
#[test]
fn deferred_files_keep_their_order_and_are_read_again_if_they_changed() {
    let lens = [10, 0, 70_000, 4096, 1, 200_000, 33, 8192];
    for (how, reader) in readers() {
        let dir = tempfile::tempdir().unwrap();
        let mut now = lens.map(pattern).to_vec();
        let (stamps, files) = files(&dir, &now);
        let mut scratch = Scratch::new(reader, ReadOptions::default());
        let order = order(Algorithm::Sha256);
        let mut batch =
            Batch::new(&order, Source::Descriptors(&files), &stamps, scratch.tools(), &GOING);
        for (position, size) in lens.into_iter().enumerate() {
            let handle = batch.source.open(position).unwrap();
            let (file, stamp) = handle.look(&mut LastFileSystem::default()).unwrap();
            let trial = Trial::of(batch.rule, &file, stamp);
            let start = batch.make_room(size);
            batch.push(position, size, (position != 4).then_some((file, trial)));
            if position == 4 {
                batch.buffer[start..start + size].copy_from_slice(&now[4]);
            }
        }
        for (at, bytes) in [(2, pattern(50)), (3, pattern(90_000)), (6, vec![7; 33])] {
            fs::write(dir.path().join(at.to_string()), &bytes).unwrap();
            now[at] = bytes;
        }
        batch.files = &[];
        batch.hash_group();
        batch.files = &stamps;
        batch.hash_deferred();
        let outcomes = std::mem::take(&mut batch.outcomes);
        let outputs = digests(Algorithm::Sha256, now.iter().map(Vec::as_slice));
        assert_eq!(outcomes.in_order(32), Output { outputs, failures: vec![] }, "{how}");
    }
}

/// Between them are some that fail, and small ones.
#[test]
fn files_that_are_hashed_while_they_are_read_keep_their_order() {
    let dir = tempfile::tempdir().unwrap();
    let contents = [600_000, 9, 1_500_001, 524_289, 700_000].map(pattern);
    let (mut files, _) = files(&dir, &contents);
    let mut paths: Vec<Blob> =
        (0..files.len()).map(|i| Blob::from(i.to_string().as_bytes())).collect();
    let other = Stamp { mtime_ns: i64::MAX, ..files[3].stamp };
    paths.insert(1, Blob::from(&b"missing"[..]));
    files.insert(1, files[2]);
    paths.insert(3, paths[4].clone());
    files.insert(3, other.into());
    let mount = format!("d={}", dir.path().display()).parse().unwrap();
    let datasets = Datasets::open(vec![mount]).unwrap();
    for algorithm in Algorithm::ALL {
        let source = FileSource::Dataset { name: "d".to_owned(), paths: paths.clone() };
        let work = Work::Files { source, files: files.clone() };
        let order = Order { work, ..order(algorithm) };
        let output = run::run(&order, &datasets, &mut Scratch::default(), &GOING);
        let failures = vec![(1, failure(Errno::ENOENT)), (3, Failure::Changed)];
        let outputs = digests(algorithm, contents.iter().map(Vec::as_slice));
        assert_eq!(output, Output { outputs, failures }, "{algorithm}");
    }
}

#[test]
fn files_that_were_opened_by_name_are_closed_several_at_a_time() {
    static CALLS: Mutex<Vec<usize>> = Mutex::new(Vec::new());
    let dir = tempfile::tempdir().unwrap();
    let contents: Vec<_> = (0..CLOSE_MAX + 3).map(pattern).collect();
    let (files, _) = files(&dir, &contents);
    let paths = (0..files.len()).map(|i| Blob::from(i.to_string().as_bytes())).collect();
    let mount = format!("d={}", dir.path().display()).parse().unwrap();
    let datasets = Datasets::open(vec![mount]).unwrap();
    let source = FileSource::Dataset { name: "d".to_owned(), paths };
    let order = Order { work: Work::Files { source, files }, ..order(Algorithm::Sha256) };
    let close = |files: Vec<OwnedFd>| CALLS.lock().unwrap().push(files.len());
    let options = ReadOptions { close, ..ReadOptions::default() };
    // By it the files are old.
    let clock = StampClock::new(|| (i64::MAX / 2, 0));
    let mut scratch = Scratch::new(Reader::default(), options).with_clock(clock);
    let output = run::run(&order, &datasets, &mut scratch, &GOING);
    let want = digests(Algorithm::Sha256, contents.iter().map(Vec::as_slice));
    assert_eq!(output, Output { outputs: want, failures: vec![] });
    assert_eq!(*CALLS.lock().unwrap(), [CLOSE_MAX, 3]);
}

#[test]
fn at_most_the_limit_of_threads_reads_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let (items, _) = files(&dir, &[pattern(10), pattern(1 << 20)]);
    let mount = format!("d={}", dir.path().display()).parse().unwrap();
    let mut datasets = Datasets::open(vec![mount]).unwrap();
    datasets.limit(vec!["d=1".parse().unwrap()]).unwrap();
    let limit = datasets.reader("d").unwrap().io_limit().unwrap();
    for (at, item) in items.into_iter().enumerate() {
        let permit = limit.acquire();
        std::thread::scope(|scope| {
            let other = scope.spawn(|| {
                let paths = vec![Blob::from(at.to_string().as_bytes())];
                let source = FileSource::Dataset { name: "d".to_owned(), paths };
                let work = Work::Files { source, files: vec![item] };
                let order = Order { work, ..order(Algorithm::Sha256) };
                run::run(&order, &datasets, &mut Scratch::default(), &GOING)
            });
            while !limit.is_wanted() {
                assert!(!other.is_finished(), "two read at once");
                std::thread::yield_now();
            }
            drop(permit);
            assert_eq!(other.join().unwrap().failures, vec![]);
        });
    }
}
