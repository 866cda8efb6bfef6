//! Long SHA-2 files, which have a lease each, and checkpoints from which another worker can resume.
//!
//! A thread that has one takes others along when they wait and no thread is idle (`interleave`). Each
//! keeps its own lease: one that fails, ends or is revoked leaves the others as they are.
//!
//! Invariant: offsets that are reported ascend, and are block borders.

use crate::clock::StampClock;
use crate::exec::interleave::{self, FileQueue};
use crate::exec::long_file::{self, FileTask, Hasher, LongFile};
use crate::exec::order::{Order, Output, ReadOptions, Scratch, ScratchParts};
use crate::hash::Midstate;
use crate::input::dataset::Datasets;
use crate::input::open_file::{Handle, LastFileSystem, failure};
use crate::input::quiet::{Expected, Rule};
use ipc_proto::Family;
use ipc_proto::message::{Failure, FileSource, LeaseId, Stamp, Work};
use nix::errno::Errno;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Bytes of a file after which a checkpoint is reported, unless something else was asked for: there the
/// controller can give the thread to somebody else, so that this is about a second.
pub const REPORT_LEN: u64 = 512 << 20;

/// Shorter files are not worth it.
const LEN_MIN: u64 = 4 << 20;

/// The half of the SHA-2 family that `order` belongs to, if it is for such a file.
pub fn family_of(order: &Order) -> Option<Family> {
    let family = order.algorithms.single()?.family();
    let is_long = match &order.work {
        Work::Files { files, .. } => files.len() == 1 && files[0].len() >= LEN_MIN,
        Work::Resume { .. } => true,
        Work::Inline { .. } | Work::Subtree { .. } | Work::Piece(_) | Work::List(_) => false,
    };
    (is_long && family.has_midstate()).then_some(family)
}

/// A lease that a thread may work on.
#[derive(Debug)]
pub struct Started {
    /// Number of earlier leases of the batch, plus one.
    pub attempt: u32,
    /// The work.
    pub order: Order,
    /// Set when the lease is revoked and no answer is expected.
    pub revoked: Arc<AtomicBool>,
}

/// A lease of such a file.
#[derive(Debug)]
pub struct Task {
    /// Names it.
    pub lease: LeaseId,
    /// The work.
    pub started: Started,
}

/// Progress of a lease, from which another worker can resume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The lease.
    pub lease: LeaseId,
    /// The attempt that it was assigned with.
    pub attempt: u32,
    /// The file's stamp before it was read.
    pub file: Stamp,
    /// Number of bytes hashed so far.
    pub offset: u64,
    /// The state of the hash there.
    pub state: Vec<u8>,
}

/// Supplies leases and takes their answers.
pub trait LeaseSource {
    /// Another lease of `family`, if it would wait otherwise.
    fn next(&self, family: Family) -> Option<Task>;
    /// A lease advanced.
    fn advanced(&self, checkpoint: Checkpoint);
    /// A lease is done, after this much of the thread's time.
    fn done(&self, lease: LeaseId, attempt: u32, busy_us: u64, output: Output);
}

/// Carries out `first`, and what it takes along.
pub fn run(first: Task, datasets: &Datasets, scratch: &mut Scratch, leases: &dyn LeaseSource) {
    let order = &first.started.order;
    // A cross-check is not interleaved: it uses other kernels.
    let files_max = match order.algorithms.single() {
        Some(algorithm) if !order.check => Midstate::interleave_max(algorithm),
        _ => 1,
    };
    run_up_to(files_max, first, datasets, scratch, leases);
}

fn run_up_to(
    files_max: usize,
    first: Task,
    datasets: &Datasets,
    scratch: &mut Scratch,
    leases: &dyn LeaseSource,
) {
    let ScratchParts { buffer, clock, options, .. } = scratch.tools();
    let family = family_of(&first.started.order);
    let mut queue =
        LeaseQueue { first: Some(first), held: 0, family, datasets, options, clock, leases };
    interleave::run(&mut queue, interleave::windows(buffer, files_max), clock);
}

struct LeaseQueue<'a, 'l> {
    first: Option<Task>,
    /// Leases that are not done yet.
    held: usize,
    family: Option<Family>,
    datasets: &'a Datasets,
    options: ReadOptions,
    clock: &'l StampClock,
    leases: &'l dyn LeaseSource,
}

struct Ticket {
    task: Task,
    /// Length that the last reported checkpoint covers.
    reported_len: u64,
}

impl<'a> FileQueue<'a> for LeaseQueue<'a, '_> {
    type Ticket = Ticket;

    fn next(&mut self) -> Option<(Ticket, Result<LongFile<'a>, Failure>)> {
        // Others are taken along, and do not keep the thread when all of those are done.
        let next = || self.family.filter(|_| self.held > 0).and_then(|f| self.leases.next(f));
        let mut task = self.first.take().or_else(next)?;
        self.held += 1;
        let opened = match task.started.revoked.load(Ordering::Relaxed) {
            true => Err(failure(Errno::ECANCELED)),
            false => self.open(&mut task.started.order),
        };
        let midstate = opened.as_ref().ok().and_then(LongFile::midstate);
        let reported_len = midstate.map_or(0, Midstate::len);
        Some((Ticket { task, reported_len }, opened))
    }

    fn revoked<'t>(&'t self, ticket: &'t Ticket) -> &'t AtomicBool {
        &ticket.task.started.revoked
    }

    fn advanced(&mut self, ticket: &mut Ticket, file: &LongFile<'a>) {
        let due_len = ticket.reported_len.saturating_add(self.options.report_len);
        if file.midstate().is_none_or(|midstate| midstate.len() < due_len) {
            return;
        }
        let Some((midstate, stamp)) = file.checkpoint(self.clock) else { return };
        let (offset, state) = (midstate.len(), midstate.save());
        ticket.reported_len = offset;
        let Task { lease, started } = &ticket.task;
        let (lease, attempt) = (*lease, started.attempt);
        self.leases.advanced(Checkpoint { lease, attempt, file: stamp, offset, state });
    }

    fn done(&mut self, ticket: Ticket, outcome: Result<Vec<u8>, Failure>, busy_ns: u64) {
        self.held -= 1;
        let Task { lease, started } = ticket.task;
        self.leases.done(lease, started.attempt, busy_ns / 1000, Output::of(outcome));
    }
}

impl<'a> LeaseQueue<'a, '_> {
    /// Opens the file of `order`, where its checkpoint is if it has one.
    fn open(&self, order: &mut Order) -> Result<LongFile<'a>, Failure> {
        let descriptor = order.descriptors.pop();
        let algorithm = order.algorithms.single().ok_or(Failure::Invalid)?;
        let (source, file, checkpoint) = match &order.work {
            Work::Files { source, files } => {
                (source, *files.first().ok_or(Failure::Invalid)?, None)
            }
            Work::Resume { source, file, offset, state } => (source, *file, Some((*offset, state))),
            Work::Inline { .. } | Work::Subtree { .. } | Work::Piece(_) | Work::List(_) => {
                return Err(Failure::Invalid);
            }
        };
        let midstate = match checkpoint {
            None => Midstate::new(algorithm),
            Some((offset, state)) => {
                Midstate::restore(algorithm, state).filter(|midstate| midstate.len() == offset)
            }
        };
        let hasher = Hasher::Midstate(midstate.ok_or(Failure::Invalid)?);
        let rule = Rule { clock: self.clock, strict: order.strict_reads };
        let expected = match checkpoint {
            Some(_) => Expected::SameContent(file.stamp),
            None => {
                let is_named = matches!(source, FileSource::Dataset { .. });
                Expected::of_item(is_named, order.check, file.stamp)
            }
        };
        let now_ns = self.clock.now().real_ns;
        let (source, stamp, io_limit) = match source {
            FileSource::Descriptors => {
                let handle = Handle::Owned(descriptor.ok_or(Failure::Invalid)?);
                let (source, stamp) = handle.look(&mut LastFileSystem::default())?;
                let is_admitted = expected.admits(stamp, source.validation());
                (source, stamp, if is_admitted { None } else { return Err(Failure::Changed) })
            }
            FileSource::Dataset { name, paths } => {
                let path = paths.first().ok_or(Failure::Invalid)?;
                let mut reader = self.datasets.reader(name)?;
                let open = || reader.open(path).map(Handle::Owned);
                let (source, stamp) = long_file::open(open, expected, rule, now_ns)?;
                (source, stamp, reader.io_limit())
            }
        };
        // Somebody else read what is before the checkpoint: where anything has moved since, it is
        // begun again.
        if checkpoint.is_some() && stamp.ctime_ns != file.stamp.ctime_ns {
            return Err(Failure::Invalid);
        }
        let drop_behind = self.options.drop_behind;
        let (offset, len) = (file.offset(), file.range.map(|range| range.len));
        let task = FileTask { source, stamp, expected, offset, len, hasher, io_limit, drop_behind };
        Ok(LongFile::new(task, rule))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::order::ReadOptions;
    use crate::hash::Backend;
    use crate::input::open_file::regular_stamp;
    use crate::input::reader::Reader;
    use ipc_proto::Algorithm;
    use ipc_proto::message::{ByteRange, FileItem};
    use std::cell::RefCell;
    use std::collections::VecDeque;
    use std::fs;
    use std::os::fd::{AsFd, AsRawFd};
    use std::os::unix::fs::FileExt;
    use std::sync::Arc;
    use test_kit::pattern;

    const MIB: usize = 1 << 20;

    fn id(number: u64) -> LeaseId {
        LeaseId { epoch: 1, number }
    }

    fn files(file: impl Into<FileItem>) -> Work {
        Work::Files { source: FileSource::Descriptors, files: vec![file.into()] }
    }

    fn resume(file: impl Into<FileItem>, offset: u64, state: Vec<u8>) -> Work {
        let (source, file, state) = (FileSource::Descriptors, file.into(), state.into());
        Work::Resume { source, file, offset, state }
    }

    fn plain(algorithm: Algorithm, bytes: &[u8]) -> Output {
        let mut outputs = Vec::new();
        Backend::PORTABLE.hash_many(algorithm, &[bytes], &mut outputs);
        Output { outputs, failures: vec![] }
    }

    /// A file without a name, open for reading only: nobody can write to it.
    fn file(bytes: &[u8]) -> (fs::File, Stamp) {
        let writer = test_kit::file(bytes);
        let file = fs::File::open(format!("/proc/self/fd/{}", writer.as_raw_fd())).unwrap();
        let stamp = regular_stamp(file.as_fd()).unwrap();
        (file, stamp)
    }

    /// The same file, open for writing.
    fn writable(file: &fs::File) -> fs::File {
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        fs::File::options().write(true).open(path).unwrap()
    }

    fn task(lease: u64, algorithm: Algorithm, work: Work, file: &fs::File) -> Task {
        let descriptors = vec![file.try_clone().unwrap().into()];
        let order = Order::new(algorithm.into(), work, descriptors);
        let started = Started { attempt: 3, order, revoked: Arc::default() };
        Task { lease: id(lease), started }
    }

    fn whole(lease: u64, algorithm: Algorithm, (file, stamp): &(fs::File, Stamp)) -> Task {
        task(lease, algorithm, files(*stamp), file)
    }

    /// Keeps what is reported, and has more leases.
    #[derive(Default)]
    struct Notes {
        waiting: RefCell<VecDeque<Task>>,
        points: RefCell<Vec<Checkpoint>>,
        done: RefCell<Vec<(LeaseId, Output)>>,
        /// Happens at each checkpoint.
        then: Option<Then>,
    }

    type Then = Box<dyn Fn(&Checkpoint)>;

    impl LeaseSource for Notes {
        fn next(&self, family: Family) -> Option<Task> {
            let mut waiting = self.waiting.borrow_mut();
            let at = waiting.iter().position(|t| family_of(&t.started.order) == Some(family))?;
            waiting.remove(at)
        }

        fn advanced(&self, point: Checkpoint) {
            assert_eq!(point.attempt, 3);
            if let Some(then) = &self.then {
                then(&point);
            }
            self.points.borrow_mut().push(point);
        }

        fn done(&self, lease: LeaseId, attempt: u32, _: u64, output: Output) {
            assert_eq!(attempt, 3);
            self.done.borrow_mut().push((lease, output));
        }
    }

    fn run_all(first: Task, files_max: usize, notes: &Notes) -> Vec<(LeaseId, Output)> {
        let mut scratch = Scratch::new(
            Reader::default(),
            ReadOptions { report_len: MIB as u64, ..ReadOptions::default() },
        );
        run_up_to(files_max, first, &Datasets::default(), &mut scratch, notes);
        assert!(notes.waiting.borrow().is_empty());
        let mut done = notes.done.take();
        done.sort_by_key(|(lease, _)| *lease);
        done
    }

    #[test]
    fn resumes_a_file_from_each_of_its_checkpoints() {
        for (algorithm, len) in [
            (Algorithm::Sha224, 5 * MIB + 77),
            (Algorithm::Sha256, 5 * MIB),
            (Algorithm::Sha512, 4 * MIB + 1),
            (Algorithm::Sha512_256, 6 * MIB - 1),
        ] {
            let bytes = pattern(len);
            let file = file(&bytes);
            let want = plain(algorithm, &bytes);
            let notes = Notes::default();
            assert_eq!(run_all(whole(7, algorithm, &file), 2, &notes), [(id(7), want.clone())]);
            let points = notes.points.take();
            let offsets: Vec<u64> = points.iter().map(|point| point.offset).collect();
            let every_mib: Vec<u64> = (1..=len / MIB).map(|i| (i * MIB) as u64).collect();
            assert_eq!(offsets, every_mib, "{algorithm}");
            for Checkpoint { file: stamp, offset, state, .. } in points {
                // What is before it is not read again: there is something else now.
                let (other, _) = self::file(&bytes);
                writable(&other)
                    .write_all_at(&vec![0; usize::try_from(offset).unwrap()], 0)
                    .unwrap();
                let now = regular_stamp(other.as_fd()).unwrap();
                assert_eq!(stamp.size, now.size);
                let rest = resume(now, offset, state);
                let done = run_all(task(8, algorithm, rest, &other), 1, &Notes::default());
                assert_eq!(done, [(id(8), want.clone())], "{algorithm} from {offset}");
            }
        }
    }

    #[test]
    fn a_long_range_resumes_from_its_checkpoints() {
        let bytes = pattern(7 * MIB);
        let (file, stamp) = file(&bytes);
        let range = ByteRange { offset: 1000, len: (5 * MIB + 99) as u64 };
        let item = FileItem { stamp, range: Some(range) };
        let want = plain(Algorithm::Sha256, &bytes[1000..][..5 * MIB + 99]);
        let notes = Notes::default();
        let whole = task(1, Algorithm::Sha256, files(item), &file);
        assert_eq!(run_all(whole, 2, &notes), [(id(1), want.clone())]);
        let points = notes.points.take();
        assert_eq!(points.len(), 5);
        for Checkpoint { file: stamp, offset, state, .. } in points {
            let work = resume(FileItem { stamp, ..item }, offset, state);
            let rest = task(2, Algorithm::Sha256, work, &file);
            assert_eq!(run_all(rest, 2, &Notes::default()), [(id(2), want.clone())], "{offset}");
        }
    }

    #[test]
    fn interleaves_files_of_any_lengths() {
        let lens = [4 * MIB, 9 * MIB + 1, 4 * MIB + 127, 4 * MIB + 128, 5 * MIB - 1, 4 * MIB];
        let [sha224, sha256] = [Algorithm::Sha224, Algorithm::Sha256];
        let [sha384, sha512] = [Algorithm::Sha384, Algorithm::Sha512];
        for (algorithms, lanes) in
            [([sha256, sha224], 2), ([sha256; 2], 8), ([sha512, sha384], 3), ([sha512; 2], 5)]
        {
            let contents = lens.map(pattern);
            let all: Vec<_> = contents.iter().map(|bytes| file(bytes)).collect();
            let numbered = (0..).zip(algorithms.into_iter().cycle());
            let tasks = numbered.zip(&all).map(|((i, algorithm), file)| whole(i, algorithm, file));
            let mut tasks: VecDeque<Task> = tasks.collect();
            let first = tasks.pop_front().unwrap();
            let notes = Notes { waiting: RefCell::new(tasks), ..Notes::default() };
            let done = run_all(first, lanes, &notes);
            for ((i, bytes), (lease, output)) in (0..).zip(&contents).zip(done) {
                assert_eq!(lease, id(i as u64));
                assert_eq!(output, plain(algorithms[i % 2], bytes), "file {i}");
            }
            let points = notes.points.take();
            assert!(points[..2].iter().any(|p| p.lease == id(0)), "the first two");
            assert!(points[..2].iter().any(|p| p.lease == id(1)), "are interleaved");
        }
    }

    #[test]
    fn the_end_of_one_file_does_not_disturb_the_others() {
        let bytes = pattern(6 * MIB);
        let (good, other) = (file(&bytes), file(&bytes));
        let want = plain(Algorithm::Sha256, &bytes);
        let other_file = other.0.try_clone().unwrap();
        let revoked = whole(2, Algorithm::Sha256, &good);
        let flag = Arc::clone(&revoked.started.revoked);
        let waiting = [whole(1, Algorithm::Sha256, &other), revoked];
        let then = move |point: &Checkpoint| {
            if point.lease == id(1) && point.offset == 2 * MIB as u64 {
                writable(&other_file).set_len(3 * MIB as u64).unwrap();
            }
            if point.lease == id(2) {
                flag.store(true, Ordering::Relaxed);
            }
        };
        let waiting = RefCell::new(VecDeque::from(waiting));
        let notes = Notes { waiting, then: Some(Box::new(then)), ..Notes::default() };
        let done = run_all(whole(0, Algorithm::Sha256, &good), 2, &notes);
        let failed = |failure| Output { outputs: vec![], failures: vec![(0, failure)] };
        assert_eq!(done[0], (id(0), want));
        let cut = plain(Algorithm::Sha256, &bytes[..3 * MIB]);
        assert_eq!(done[1], (id(1), cut), "read again");
        assert_eq!(done[2], (id(2), failed(failure(Errno::ECANCELED))));
    }

    #[test]
    fn does_not_resume_a_file_that_changed() {
        let bytes = pattern(5 * MIB);
        let (file, stamp) = file(&bytes);
        let mut hasher = Midstate::new(Algorithm::Sha256).unwrap();
        hasher.update(&bytes[..MIB]);
        let state = || hasher.save();
        for (work, want) in [
            (resume(stamp, MIB as u64, state()), plain(Algorithm::Sha256, &bytes)),
            (resume(Stamp { mtime_ns: 1, ..stamp }, MIB as u64, state()), failed(Failure::Changed)),
            (resume(Stamp { ctime_ns: 1, ..stamp }, MIB as u64, state()), failed(Failure::Invalid)),
            (
                resume(Stamp { size: 1 << 40, ..stamp }, MIB as u64, state()),
                failed(Failure::Changed),
            ),
            (resume(stamp, 2 * MIB as u64, state()), failed(Failure::Invalid)),
            (resume(stamp, MIB as u64, vec![1; 7]), failed(Failure::Invalid)),
        ] {
            let done = run_all(task(0, Algorithm::Sha256, work, &file), 2, &Notes::default());
            assert_eq!(done, [(id(0), want)]);
        }
    }

    fn failed(failure: Failure) -> Output {
        Output { outputs: vec![], failures: vec![(0, failure)] }
    }

    #[test]
    fn interleaves_neither_another_family_nor_a_check() {
        let bytes = pattern(4 * MIB);
        let file = file(&bytes);
        for (first, other, check) in [
            (Algorithm::Sha256, Algorithm::Sha512, false),
            (Algorithm::Sha384, Algorithm::Sha256, false),
            (Algorithm::Sha256, Algorithm::Sha256, true),
            (Algorithm::Sha512, Algorithm::Sha512, true),
        ] {
            let waiting = RefCell::new(VecDeque::from([whole(1, other, &file)]));
            let notes = Notes { waiting, ..Notes::default() };
            let mut task = whole(0, first, &file);
            task.started.order.check = check;
            run(task, &Datasets::default(), &mut Scratch::default(), &notes);
            assert_eq!(notes.done.take(), [(id(0), plain(first, &bytes))]);
            assert_eq!(notes.waiting.borrow().len(), 1, "{other} with {first}");
        }
    }

    #[test]
    fn only_a_single_long_sha2_file_has_checkpoints() {
        let long = Stamp { size: LEN_MIN, ..Stamp::default() };
        let short = Stamp { size: LEN_MIN - 1, ..long };
        for (algorithm, files, want) in [
            (Algorithm::Sha224, vec![long], Some(Family::Sha256)),
            (Algorithm::Sha384, vec![long], Some(Family::Sha512)),
            (Algorithm::Sha256, vec![short], None),
            (Algorithm::Sha256, vec![long, long], None),
            (Algorithm::Sha256, vec![], None),
            (Algorithm::Blake3, vec![long], None),
        ] {
            let files = files.into_iter().map(FileItem::from).collect();
            let work = Work::Files { source: FileSource::Descriptors, files };
            let order = Order::new(algorithm.into(), work, vec![]);
            assert_eq!(family_of(&order), want, "{order:?}");
        }
    }
}
