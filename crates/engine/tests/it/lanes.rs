//! The fuzz target `lanes` as a plain function: `fuzz/` wraps it for libFuzzer, the test `fuzz` gives it
//! seeded inputs. It panics when files that are hashed together do not get the digests that each has
//! alone, each once and in their order.

use engine::exec::checkpointed::{self, Checkpoint, LeaseSource, Started, Task};
use engine::exec::order::{Order, Output, ReadOptions, Scratch};
use engine::exec::run;
use engine::hash::{self, Backend};
use engine::input::dataset::Datasets;
use engine::input::reader::Reader;
use ipc_proto::message::{ByteRange, FileItem, FileSource, LeaseId, Stamp, Work};
use ipc_proto::{Algorithm, Algorithms, Family};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use test_kit::pattern;

/// Most files of a batch: more than any kernel has lanes.
const FILES_MAX: usize = 24;

/// Most leases of one file each.
const LEASES_MAX: usize = 3;

/// Bytes that describe a file: its length, a shift for it, and what is asked of it.
const HEAD_LEN: usize = 4;

/// Longest leases of one file each, which are interleaved from 4 MiB on.
const LONG_LEN: u64 = 4 << 20;

/// Algorithms, then a head per file.
pub(crate) fn lanes(input: &[u8]) {
    let Some((&[first, second, manner], heads)) = input.split_first_chunk() else { return };
    let algorithm = |byte: u8| Algorithm::ALL[usize::from(byte) % Algorithm::ALL.len()];
    let (first, second) = (algorithm(first), algorithm(second));
    let heads = heads.as_chunks::<HEAD_LEN>().0;
    let heads = &heads[..heads.len().min(FILES_MAX)];
    let is_several = manner & 1 != 0 && first != second;
    let asked = if is_several { vec![first, second] } else { vec![first] };
    batch(&asked, manner & 2 != 0, heads);
    // A long file takes as long as a hundred short batches.
    if manner == 0xf0 && first.has_midstate() {
        leases(first, &heads[..heads.len().min(LEASES_MAX)]);
    }
}

/// Files of one lease.
fn batch(asked: &[Algorithm], check: bool, heads: &[[u8; HEAD_LEN]]) {
    let (mut files, mut descriptors) = (Vec::new(), Vec::new());
    let (mut want, mut failed) = (Vec::new(), Vec::<u32>::new());
    for (at, &[low, high, shift, manner]) in (0..).zip(heads) {
        // Of 0 to 127 KiB, short ones as likely as long ones.
        let len = usize::from(u16::from_le_bytes([low, high])) << 1 >> (shift % 17);
        let bytes = pattern(len);
        let mut item = FileItem::from(stamp_of(&bytes, manner & 32 == 0, &mut descriptors));
        let mut hashed = &bytes[..];
        match manner {
            // Its client saw it with another length: it is hashed as it is now, but not to check what
            // somebody else hashed.
            0 => {
                item.stamp.size += 1;
                failed.extend(check.then_some(at));
            }
            1 => {
                item.range = Some(ByteRange { offset: 0, len: len as u64 + 1 });
                failed.push(at);
            }
            2..32 => {
                hashed = &bytes[len / 3..len / 3 + len / 2];
                item.range = Some(ByteRange { offset: len as u64 / 3, len: len as u64 / 2 });
            }
            _ => {}
        }
        files.push(item);
        if failed.last() != Some(&at) {
            want.extend(asked.iter().flat_map(|&a| Backend::PORTABLE.digests(a, &[hashed])));
        }
    }
    let work = Work::Files { source: FileSource::Descriptors, files };
    let mut order = Order::new(Algorithms::new(asked).expect("a set"), work, descriptors);
    order.check = check;
    let going = AtomicBool::new(false);
    let got = run::run(&order, &Datasets::default(), &mut Scratch::default(), &going);
    assert!(got.outputs == want, "{asked:?} of {heads:?}: {:?}", got.failures);
    let got: Vec<u32> = got.failures.iter().map(|&(at, _)| at).collect();
    assert_eq!(got, failed, "{asked:?} of {heads:?}");
}

/// Long files with a lease each, of which one is revoked.
fn leases(algorithm: Algorithm, heads: &[[u8; HEAD_LEN]]) {
    let lease = |number| LeaseId { epoch: 1, number };
    let (mut tasks, mut wanted) = (Vec::new(), BTreeMap::new());
    for (number, &[low, high, shift, manner]) in (0..).zip(heads) {
        let len = LONG_LEN + (u64::from(u16::from_le_bytes([low, high])) << 4 >> (shift % 20));
        let bytes = pattern(usize::try_from(len).expect("a few MiB"));
        let mut descriptors = Vec::new();
        let files = vec![stamp_of(&bytes, false, &mut descriptors).into()];
        let work = Work::Files { source: FileSource::Descriptors, files };
        let order = Order::new(algorithm.into(), work, descriptors);
        let is_revoked = manner == 0;
        let started = Started { attempt: 1, order, revoked: Arc::new(AtomicBool::new(is_revoked)) };
        tasks.push(Task { lease: lease(number), started });
        wanted.insert(number, (bytes, is_revoked));
    }
    let Some(first) = tasks.pop() else { return };
    let source = Leases { tasks: tasks.into(), ..Leases::default() };
    let options = ReadOptions { report_len: 1 << 20, ..ReadOptions::default() };
    let mut scratch = Scratch::new(Reader::default(), options);
    let mut next = Some(first);
    while let Some(task) = next.take() {
        checkpointed::run(task, &Datasets::default(), &mut scratch, &source);
        next = source.tasks.borrow_mut().pop();
    }
    let (outputs, checkpoints) = (source.outputs.take(), source.checkpoints.take());
    // Nobody waits for the outcome of a revoked one.
    for (number, (bytes, _)) in wanted.into_iter().filter(|(_, (_, is_revoked))| !is_revoked) {
        let want = Backend::PORTABLE.digests(algorithm, &[&bytes]);
        let got = outputs.get(&number);
        assert!(got.is_some_and(|got| got.outputs == want), "{algorithm} of {heads:?}: {got:?}");
        let Checkpoint { offset, state, .. } = &checkpoints[&number];
        let rest = &bytes[usize::try_from(*offset).expect("in the file")..];
        let resumed = hash::segment(algorithm, state, rest, true);
        assert_eq!(resumed.as_ref(), Some(&want), "{algorithm} from {offset} of {heads:?}");
    }
}

#[derive(Default)]
struct Leases {
    tasks: RefCell<Vec<Task>>,
    outputs: RefCell<BTreeMap<u64, Output>>,
    /// The last of each lease.
    checkpoints: RefCell<BTreeMap<u64, Checkpoint>>,
}

impl LeaseSource for Leases {
    fn next(&self, _: Family) -> Option<Task> {
        self.tasks.borrow_mut().pop()
    }

    fn advanced(&self, checkpoint: Checkpoint) {
        let (number, offset) = (checkpoint.lease.number, checkpoint.offset);
        let earlier = self.checkpoints.borrow_mut().insert(number, checkpoint);
        assert!(earlier.is_none_or(|earlier| earlier.offset < offset), "checkpoints ascend");
    }

    fn done(&self, lease: LeaseId, _: u32, _: u64, output: Output) {
        let earlier = self.outputs.borrow_mut().insert(lease.number, output);
        assert_eq!(earlier, None, "answered once");
    }
}

/// Opens a file of `bytes`, that somebody may write to if it `is_writable`; its stamp.
fn stamp_of(bytes: &[u8], is_writable: bool, descriptors: &mut Vec<OwnedFd>) -> Stamp {
    let mut file: File = test_kit::file(bytes);
    if !is_writable {
        file = File::open(format!("/proc/self/fd/{}", file.as_raw_fd())).expect("an open file");
    }
    let meta = file.metadata().expect("an open file");
    let ns = |seconds: i64, ns: i64| seconds * 1_000_000_000 + ns;
    let stamp = Stamp {
        size: meta.size(),
        mtime_ns: ns(meta.mtime(), meta.mtime_nsec()),
        ctime_ns: ns(meta.ctime(), meta.ctime_nsec()),
    };
    descriptors.push(file.into());
    stamp
}
