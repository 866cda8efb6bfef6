//! The function that workers compute in the simulation: no hash, but as hard to get right by accident.

use ipc_proto::message::{ByteRange, Failure, Failures, FileItem, FileSource, Piece, Work};
use ipc_proto::{Algorithm, Algorithms, Blob};
use test_kit::Random;

/// The descriptor of a simulated file: its number.
pub(super) type FileNumber = u64;

fn spread(seed: u64, len: usize) -> Vec<u8> {
    Random::new(seed).bytes(len)
}

fn digests(algorithms: Algorithms, seed: u64) -> Vec<u8> {
    let digest = |&a: &Algorithm| spread(seed ^ a as u64, a.digest_len());
    algorithms.iter().flat_map(digest).collect()
}

/// The content of an item, as a number: that of the file, and which range of it.
pub(super) fn content_of(number: FileNumber, item: &FileItem) -> u64 {
    let range = item.range.map_or(0, |ByteRange { offset, len }| offset.wrapping_mul(77) ^ len | 1);
    number ^ range.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// The digests of an item with this content.
pub(super) fn file_digests(algorithms: Algorithms, content: u64) -> Vec<u8> {
    digests(algorithms, content.wrapping_mul(31))
}

/// The digests of a message.
pub(super) fn message_digests(algorithms: Algorithms, message: &[u8]) -> Vec<u8> {
    let seed = message.iter().fold(7u64, |seed, &b| seed.wrapping_mul(131).wrapping_add(b.into()));
    digests(algorithms, seed)
}

/// A part's value says what it covers: content, offset, length, and a mark.
fn part_value(content: u64, offset: u64, len: u64, size: u64) -> Vec<u8> {
    [content, offset, len, size].iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// The digest, if the values cover one file exactly, in order.
fn merged(algorithms: Algorithms, values: &[u8]) -> Option<Vec<u8>> {
    let word = |value: &[u8], i: usize| {
        u64::from_le_bytes(value[8 * i..8 * i + 8].try_into().expect("eight bytes"))
    };
    let content = word(values, 0);
    let mut next = 0;
    for value in values.chunks(32) {
        if word(value, 0) != content || word(value, 1) != next {
            return None;
        }
        next += word(value, 2);
    }
    (next == word(values, 3)).then(|| file_digests(algorithms, content))
}

/// True if file `number` cannot be read.
pub(super) fn is_unreadable(number: FileNumber) -> bool {
    number % 97 == 13
}

/// True if file `number` kills every worker that touches it.
pub(super) fn is_poison(number: FileNumber) -> bool {
    number % 501 == 250
}

/// Path of file `number` in a dataset.
pub(super) fn path_of(number: FileNumber) -> Blob {
    Blob(format!("dir/{number}").into_bytes())
}

fn number_of(path: &Blob) -> FileNumber {
    let path = std::str::from_utf8(path).expect("a name of ours");
    path.strip_prefix("dir/").expect("a name of ours").parse().expect("a number")
}

fn source_of(work: &Work) -> Option<&FileSource> {
    match work {
        Work::Files { source, .. } | Work::Subtree { source, .. } | Work::Resume { source, .. } => {
            Some(source)
        }
        Work::Inline { .. } | Work::Piece(_) | Work::List(_) => None,
    }
}

/// The dataset that work needs.
pub(super) fn dataset_of(work: &Work) -> Option<&str> {
    if let Work::List(page) = work {
        return Some(&page.dataset);
    }
    match source_of(work)? {
        FileSource::Dataset { name, .. } => Some(name),
        FileSource::Descriptors => None,
    }
}

/// The files that work is about; `passed` are the descriptors that came with it.
pub(super) fn files_of(work: &Work, passed: Vec<FileNumber>) -> Vec<FileNumber> {
    match source_of(work) {
        Some(FileSource::Dataset { paths, .. }) => paths.iter().map(number_of).collect(),
        _ => passed,
    }
}

/// The one item that `work` is the SHA-2 of as a whole, and where it starts.
pub(super) fn whole_of(algorithms: Algorithms, work: &Work) -> Option<(FileItem, u64)> {
    algorithms.single().filter(|algorithm| algorithm.has_midstate())?;
    match work {
        Work::Files { files, .. } if files.len() == 1 => Some((files[0], 0)),
        Work::Resume { file, offset, .. } => Some((*file, *offset)),
        Work::Files { .. }
        | Work::Inline { .. }
        | Work::Subtree { .. }
        | Work::Piece(_)
        | Work::List(_) => None,
    }
}

/// True if it starts from a checkpoint that only a liar can have sent.
pub(super) fn starts_from_a_lie(work: &Work) -> bool {
    matches!(work, Work::Resume { state, .. } if *state == false_state())
}

/// The state after the first `offset` bytes of an item: says what it covers.
pub(super) fn state_at(algorithms: Algorithms, content: u64, offset: u64) -> Blob {
    Blob(part_value(content, 0, offset, algorithms[0] as u64))
}

/// A state that only a liar tells, and that is worth nothing.
pub(super) fn false_state() -> Blob {
    Blob(vec![0xee; 32])
}

/// A state of which nobody can see that it is wrong.
pub(super) fn poisoned_state() -> Blob {
    Blob(vec![0xdd; 32])
}

/// The answer of an honest worker.
pub(super) fn compute(
    algorithms: Algorithms,
    work: &Work,
    numbers: &[FileNumber],
) -> (Blob, Failures) {
    let mut outputs = Vec::new();
    let mut failures = Vec::new();
    match work {
        Work::List(_) => unreachable!("a page is no output: `pages`"),
        Work::Files { files, .. } => {
            assert_eq!(files.len(), numbers.len(), "a descriptor for every file");
            for ((position, item), &number) in (0..).zip(files).zip(numbers) {
                if is_unreadable(number) {
                    failures.push((position, Failure::Io { errno: 5 }));
                } else {
                    outputs.extend(file_digests(algorithms, content_of(number, item)));
                }
            }
        }
        Work::Resume { file, offset, state, .. } => {
            assert_ne!(*state, poisoned_state(), "the state of a worker that was found out");
            let content = content_of(numbers[0], file);
            if *state == false_state() {
                failures.push((0, Failure::Invalid));
            } else if is_unreadable(numbers[0]) {
                failures.push((0, Failure::Changed));
            } else {
                assert_eq!(*state, state_at(algorithms, content, *offset), "the item's start");
                outputs = file_digests(algorithms, content);
            }
        }
        Work::Inline { lens, data } => {
            let mut rest: &[u8] = data;
            for &len in lens {
                let (message, after) = rest.split_at(len as usize);
                outputs.extend(message_digests(algorithms, message));
                rest = after;
            }
        }
        Work::Subtree { file, offset, len, .. } => {
            assert_eq!(algorithms.single(), Some(Algorithm::Blake3));
            if is_unreadable(numbers[0]) {
                failures.push((0, Failure::Changed));
            } else {
                outputs = part_value(content_of(numbers[0], file), *offset, *len, file.len());
            }
        }
        Work::Piece(Piece::Merge { values, .. }) => {
            outputs = merged(algorithms, values).expect("the parts cover the file once, in order");
        }
        Work::Piece(Piece::Segment { data, last, .. }) => {
            outputs = if *last { message_digests(algorithms, data) } else { data.to_vec() };
            outputs.resize(if *last { algorithms.digests_len() } else { 40 }, 1);
        }
        Work::Piece(Piece::Subtree { data, .. }) => {
            outputs = message_digests(Algorithm::Blake3.into(), data);
        }
    }
    (Blob(outputs), failures)
}
