//! What workers compute in the simulation: no hash, but as hard to get right by accident.

use ipc_proto::message::{Failure, Failures, Named, Piece, Stamp, Work};
use ipc_proto::{Algorithm, Blob};

/// The descriptor of a simulated file: its number.
pub(super) type FileNumber = u64;

/// Small, seeded, and the same everywhere (Vigna, `SplitMix64`).
#[derive(Clone, Debug)]
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(super) fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).expect("below a length")
    }

    pub(super) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

fn spread(seed: u64, len: usize) -> Vec<u8> {
    let mut random = Random(seed);
    (0..len.div_ceil(8)).flat_map(|_| random.next().to_le_bytes()).take(len).collect()
}

/// The digest of file `number`.
pub(super) fn file_digest(algorithm: Algorithm, number: FileNumber) -> Vec<u8> {
    spread(number.wrapping_mul(31) ^ algorithm as u64, algorithm.digest_len())
}

/// The digest of a message.
pub(super) fn message_digest(algorithm: Algorithm, message: &[u8]) -> Vec<u8> {
    let seed = message.iter().fold(7u64, |seed, &b| seed.wrapping_mul(131).wrapping_add(b.into()));
    spread(seed ^ algorithm as u64, algorithm.digest_len())
}

/// A part's value says what it covers: file, offset, length, and a mark.
fn part_value(number: FileNumber, offset: u64, len: u64, size: u64) -> Vec<u8> {
    [number, offset, len, size].iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// The digest, if the values cover one file exactly, in order.
fn merged(algorithm: Algorithm, values: &[u8]) -> Option<Vec<u8>> {
    let word = |value: &[u8], i: usize| {
        u64::from_le_bytes(value[8 * i..8 * i + 8].try_into().expect("eight bytes"))
    };
    let number = word(values, 0);
    let mut next = 0;
    for value in values.chunks(32) {
        if word(value, 0) != number || word(value, 1) != next {
            return None;
        }
        next += word(value, 2);
    }
    (next == word(values, 3)).then(|| file_digest(algorithm, number))
}

/// Whether file `number` cannot be read.
pub(super) fn is_unreadable(number: FileNumber) -> bool {
    number % 97 == 13
}

/// Whether file `number` kills every worker that touches it.
pub(super) fn is_poison(number: FileNumber) -> bool {
    number % 501 == 250
}

/// What file `number` is called in a dataset.
pub(super) fn name_of(number: FileNumber, size: u64) -> Named {
    let path = Blob(format!("dir/{number}").into_bytes());
    Named { path, stamp: Stamp { size, mtime_ns: 1, ctime_ns: 2 } }
}

fn number_of(file: &Named) -> FileNumber {
    let path = std::str::from_utf8(&file.path).expect("a name of ours");
    path.strip_prefix("dir/").expect("a name of ours").parse().expect("a number")
}

/// The dataset that work needs.
pub(super) fn dataset_of(work: &Work) -> Option<&str> {
    match work {
        Work::Names { dataset, .. }
        | Work::NamedPart { dataset, .. }
        | Work::NamedRest { dataset, .. } => Some(dataset),
        Work::Files { .. }
        | Work::Messages { .. }
        | Work::Part { .. }
        | Work::Piece(_)
        | Work::Rest { .. } => None,
    }
}

/// The files that work is about; `passed` are the descriptors that came with it.
pub(super) fn files_of(work: &Work, passed: Vec<FileNumber>) -> Vec<FileNumber> {
    match work {
        Work::Names { files, .. } => files.iter().map(number_of).collect(),
        Work::NamedPart { file, .. } | Work::NamedRest { file, .. } => vec![number_of(file)],
        Work::Files { .. }
        | Work::Messages { .. }
        | Work::Part { .. }
        | Work::Piece(_)
        | Work::Rest { .. } => passed,
    }
}

/// The one file that `work` is the SHA-2 of as a whole, and where it starts.
pub(super) fn whole_of(algorithm: Algorithm, work: &Work) -> Option<(Stamp, u64)> {
    let whole = match work {
        Work::Files { files } if files.len() == 1 => Some((files[0], 0)),
        Work::Names { files, .. } if files.len() == 1 => Some((files[0].stamp, 0)),
        Work::Rest { file, offset, .. } => Some((*file, *offset)),
        Work::NamedRest { file, offset, .. } => Some((file.stamp, *offset)),
        Work::Files { .. }
        | Work::Names { .. }
        | Work::Messages { .. }
        | Work::Part { .. }
        | Work::NamedPart { .. }
        | Work::Piece(_) => None,
    };
    whole.filter(|_| algorithm != Algorithm::Blake3)
}

/// Whether it starts from what only a liar can have said.
pub(super) fn starts_from_a_lie(work: &Work) -> bool {
    matches!(work, Work::Rest { state, .. } | Work::NamedRest { state, .. } if *state == false_state())
}

/// The state after the first `offset` bytes of file `number`: says what it covers.
pub(super) fn state_at(algorithm: Algorithm, number: FileNumber, offset: u64) -> Blob {
    Blob(part_value(number, 0, offset, algorithm as u64))
}

/// A state that only a liar tells, and that is worth nothing.
pub(super) fn false_state() -> Blob {
    Blob(vec![0xee; 32])
}

/// A state of which nobody can see that it is wrong.
pub(super) fn poisoned_state() -> Blob {
    Blob(vec![0xdd; 32])
}

/// What a worker that does its best answers.
pub(super) fn compute(algorithm: Algorithm, work: &Work, files: &[FileNumber]) -> (Blob, Failures) {
    let mut outputs = Vec::new();
    let mut failures = Vec::new();
    match work {
        Work::Files { .. } | Work::Names { .. } => {
            assert_eq!(work.items_len(), files.len(), "a descriptor for every stamp");
            for (position, &number) in (0..).zip(files) {
                if is_unreadable(number) {
                    failures.push((position, Failure::Io { errno: 5 }));
                } else {
                    outputs.extend(file_digest(algorithm, number));
                }
            }
        }
        Work::Rest { offset, state, .. } | Work::NamedRest { offset, state, .. } => {
            assert_ne!(*state, poisoned_state(), "the state of a worker that was found out");
            if *state == false_state() {
                failures.push((0, Failure::Invalid));
            } else if is_unreadable(files[0]) {
                failures.push((0, Failure::Changed));
            } else {
                assert_eq!(*state, state_at(algorithm, files[0], *offset), "the file's start");
                outputs = file_digest(algorithm, files[0]);
            }
        }
        Work::Messages { lens, data } => {
            let mut rest: &[u8] = data;
            for &len in lens {
                let (message, after) = rest.split_at(len as usize);
                outputs.extend(message_digest(algorithm, message));
                rest = after;
            }
        }
        Work::Part { file: Stamp { size, .. }, offset, len }
        | Work::NamedPart { file: Named { stamp: Stamp { size, .. }, .. }, offset, len, .. } => {
            if is_unreadable(files[0]) {
                failures.push((0, Failure::Changed));
            } else {
                outputs = part_value(files[0], *offset, *len, *size);
            }
        }
        Work::Piece(Piece::Merge { values, .. }) => {
            outputs = merged(algorithm, values).expect("the parts cover the file once, in order");
        }
        Work::Piece(Piece::Segment { data, last, .. }) => {
            outputs = if *last { message_digest(algorithm, data) } else { data.to_vec() };
            outputs.resize(if *last { algorithm.digest_len() } else { 40 }, 1);
        }
        Work::Piece(Piece::Subtree { data, .. }) => {
            outputs = message_digest(Algorithm::Blake3, data);
        }
    }
    (Blob(outputs), failures)
}
