//! SHA-2 of files that are long enough to say on the way how far they are.
//!
//! Such a file is a batch of its own. What the bytes before an offset gave is told every so often, so
//! that another worker can go on from there; and a thread that has one takes another one along when
//! it waits and no thread is free: two messages are hashed beside each other in little more time than
//! one. Each keeps its own lease: one that fails, ends or is revoked leaves the other as it is.
//!
//! Invariants:
//! - a digest, or a state, covers each byte once, from the first on;
//! - a file has the same stamp before its first byte is read, by whichever worker, and after its last;
//! - offsets that are told ascend, and are block borders.

use crate::clock::Stopwatch;
use crate::datasets::{Datasets, Found, Visit};
use crate::hash::Midway;
use crate::leases::Started;
use crate::passage::Passage;
use crate::source;
use crate::task::{Manner, Order, Output, Scratch};
use ipc_proto::Algorithm;
use ipc_proto::limits::SEGMENT_ALIGN;
use ipc_proto::message::{Failure, LeaseId, Named, Stamp, Work};
use nix::errno::Errno;
use std::mem;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;

/// After so many bytes of a file its state is told, unless something else was asked for.
pub(crate) const REPORT_LEN: u64 = 2 << 30;

/// Shorter files are not worth it.
const LEN_MIN: u64 = 4 << 20;

/// How many bytes of a file are read before they are hashed: two files' stay in the second cache.
const WINDOW_LEN: usize = 64 << 10;

/// Files that a thread hashes beside each other.
const LANES: usize = 2;

/// Algorithms whose messages can be hashed beside each other: they have blocks of one length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    Sha256,
    Sha512,
}

/// The family of what `order` asks for, if that is such a file.
pub(crate) fn family_of(order: &Order) -> Option<Family> {
    let family = match order.algorithm {
        Algorithm::Sha224 | Algorithm::Sha256 => Family::Sha256,
        Algorithm::Sha384 | Algorithm::Sha512 | Algorithm::Sha512_256 => Family::Sha512,
        Algorithm::Blake3 => return None,
    };
    let is_long = match &order.work {
        Work::Files { files } => matches!(files[..], [Stamp { size: LEN_MIN.., .. }]),
        Work::Names { files, .. } => {
            matches!(files[..], [Named { stamp: Stamp { size: LEN_MIN.., .. }, .. }])
        }
        Work::Rest { .. } | Work::NamedRest { .. } => true,
        Work::Messages { .. } | Work::Part { .. } | Work::Piece(_) | Work::NamedPart { .. } => {
            false
        }
    };
    is_long.then_some(family)
}

/// A lease of such a file.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) lease: LeaseId,
    pub(crate) started: Started,
}

/// How far a lease is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Point {
    pub(crate) lease: LeaseId,
    pub(crate) attempt: u32,
    pub(crate) file: Stamp,
    pub(crate) offset: u64,
    pub(crate) state: Vec<u8>,
}

/// Where leases come from and answers go.
pub(crate) trait Desk {
    /// Another one of `family`, if it would wait otherwise.
    fn next(&self, family: Family) -> Option<Task>;
    /// A lease came so far.
    fn advanced(&self, point: Point);
    /// A lease is done, after so much of the thread's time.
    fn done(&self, lease: LeaseId, attempt: u32, busy_us: u64, output: Output);
}

/// Does `first`, and what it takes along.
pub(crate) fn run(first: Task, datasets: &Datasets, scratch: &mut Scratch, desk: &dyn Desk) {
    // Kernels of SHA-512 gain from more messages than these.
    let family = family_of(&first.started.order).filter(|family| *family == Family::Sha256);
    let manner = scratch.manner();
    let (one, rest) = scratch.buffer().split_at_mut(WINDOW_LEN);
    let mut buffers = [one, &mut rest[..WINDOW_LEN]];
    let mut lanes = vec![Lane::new(first)];
    while !lanes.is_empty() {
        let stopwatch = Stopwatch::start();
        if lanes.len() < LANES
            && let Some(task) = family.and_then(|family| desk.next(family))
        {
            lanes.push(Lane::new(task));
        }
        for (lane, buffer) in lanes.iter_mut().zip(&mut buffers) {
            lane.read(datasets, manner, buffer);
        }
        hash_beside(&mut lanes, &buffers);
        let busy_ns = stopwatch.elapsed_ns() / lanes.len() as u64;
        for lane in &mut lanes {
            lane.busy_ns += busy_ns;
            lane.tell(manner.report_len, desk);
        }
        if lanes[0].outcome.is_some() {
            // The other one's bytes stay where they are, and it becomes the first.
            buffers.swap(0, 1);
        }
        lanes.retain_mut(|lane| !lane.has_answered(desk));
    }
}

/// Hashes what was read: beside each other as far as both files have whole blocks.
fn hash_beside(lanes: &mut [Lane<'_>], buffers: &[&mut [u8]; LANES]) {
    if let [one, other] = lanes {
        let len = one.whole_len().min(other.whole_len());
        if let (1.., Some(a), Some(b)) = (len, &mut one.file, &mut other.file) {
            let data =
                [&buffers[0][one.held.start..][..len], &buffers[1][other.held.start..][..len]];
            Midway::update_pair([&mut a.midway, &mut b.midway], data);
            one.held.start += len;
            other.held.start += len;
            return;
        }
    }
    for (lane, buffer) in lanes.iter_mut().zip(buffers) {
        lane.hash(buffer);
    }
}

/// A file on its way.
struct Lane<'a> {
    task: Task,
    /// `None` until it is open.
    file: Option<File<'a>>,
    /// Where in the buffer the bytes are that were read and not hashed.
    held: Range<usize>,
    /// Whether these are the last.
    is_last: bool,
    /// Once it is done.
    outcome: Option<Result<Vec<u8>, Failure>>,
    busy_ns: u64,
}

/// An open file.
struct File<'a> {
    source: Source<'a>,
    /// What it looked like before its first byte was read.
    before: Stamp,
    midway: Midway,
    passage: Passage,
    /// How much of it the controller knows.
    told: u64,
}

enum Source<'a> {
    Passed(OwnedFd),
    Found(Found, Visit<'a>),
}

impl<'a> Lane<'a> {
    fn new(task: Task) -> Self {
        Self { task, file: None, held: 0..0, is_last: false, outcome: None, busy_ns: 0 }
    }

    /// Reads the next bytes to `buffer`, if those before are hashed.
    fn read(&mut self, datasets: &'a Datasets, manner: Manner, buffer: &mut [u8]) {
        if self.held.is_empty()
            && !self.is_last
            && let Err(failure) = self.try_read(datasets, manner, buffer)
        {
            self.outcome = Some(Err(failure));
        }
    }

    fn try_read(
        &mut self,
        datasets: &'a Datasets,
        manner: Manner,
        buffer: &mut [u8],
    ) -> Result<(), Failure> {
        let Started { order, revoked, .. } = &mut self.task.started;
        if revoked.load(Ordering::Relaxed) {
            return Err(source::failure(Errno::ECANCELED));
        }
        let file = match &mut self.file {
            Some(file) => file,
            closed => closed.insert(File::begin(order, datasets, manner)?),
        };
        let offset = file.midway.len();
        // For as long as it reads: another file of this thread may wait for it.
        file.source.take_turn();
        file.passage.reach(file.source.as_fd(), offset);
        // One byte more than there should be shows that the file grew.
        let missing_len = file.before.size.saturating_add(1).saturating_sub(offset);
        let window_len = usize::try_from(missing_len).map_or(buffer.len(), |n| n.min(buffer.len()));
        let filled = source::fill_at(file.source.as_fd(), &mut buffer[..window_len], offset);
        file.source.pause();
        let len = filled?;
        self.held = 0..len;
        self.is_last = len < window_len;
        let end = offset + len as u64;
        if if self.is_last { end != file.before.size } else { end > file.before.size } {
            return Err(Failure::Changed);
        }
        Ok(())
    }

    /// How many bytes that are not hashed are whole blocks.
    fn whole_len(&self) -> usize {
        if self.outcome.is_some() { 0 } else { self.held.len() / SEGMENT_ALIGN * SEGMENT_ALIGN }
    }

    /// Hashes all that was read, and ends the file there if it ends there.
    fn hash(&mut self, buffer: &[u8]) {
        let (Some(file), None) = (&mut self.file, &self.outcome) else { return };
        let data = &buffer[mem::replace(&mut self.held, 0..0)];
        if !self.is_last {
            file.midway.update(data);
        } else {
            let digest = file.midway.finish(data);
            self.outcome = Some(file.agree().map(|()| digest));
        }
    }

    /// Says how far it is if that is news, and not the end.
    fn tell(&mut self, report_len: u64, desk: &dyn Desk) {
        let (Some(file), None) = (&mut self.file, &self.outcome) else { return };
        let offset = file.midway.len();
        if offset - file.told < report_len {
            return;
        }
        file.told = offset;
        let (lease, attempt) = (self.task.lease, self.task.started.attempt);
        let state = file.midway.save();
        desk.advanced(Point { lease, attempt, file: file.before, offset, state });
    }

    fn has_answered(&mut self, desk: &dyn Desk) -> bool {
        let Some(outcome) = self.outcome.take() else { return false };
        // Closed before the answer gives credit for another.
        self.file = None;
        let output = Output::of(outcome);
        desk.done(self.task.lease, self.task.started.attempt, self.busy_ns / 1000, output);
        true
    }
}

impl<'a> File<'a> {
    fn begin(order: &mut Order, datasets: &'a Datasets, manner: Manner) -> Result<Self, Failure> {
        let algorithm = order.algorithm;
        let passed = order.descriptors.pop().ok_or(Failure::Invalid);
        let (source, want, begun) = match &order.work {
            // A check is of what the client saw, and nothing newer.
            Work::Files { files } => {
                (Source::Passed(passed?), files.first().filter(|_| order.check).copied(), None)
            }
            Work::Rest { file, offset, state } => {
                (Source::Passed(passed?), Some(*file), Some((*offset, state)))
            }
            Work::Names { dataset, files } => {
                let [file] = &files[..] else { return Err(Failure::Invalid) };
                (Source::find(datasets, dataset, file)?, None, None)
            }
            Work::NamedRest { dataset, file, offset, state } => {
                let mut visit = datasets.visit(dataset)?;
                let found = visit.find(file)?;
                visit.pause();
                // Another copy, or one that changed in a way that does not show: who began it read
                // something else, perhaps.
                if found.before().ctime_ns != file.stamp.ctime_ns {
                    return Err(Failure::Invalid);
                }
                (Source::Found(found, visit), None, Some((*offset, state)))
            }
            Work::Messages { .. } | Work::Part { .. } | Work::Piece(_) | Work::NamedPart { .. } => {
                return Err(Failure::Invalid);
            }
        };
        let before = source.before()?;
        if want.is_some_and(|want| want != before) {
            return Err(Failure::Changed);
        }
        let midway = match begun {
            None => Midway::new(algorithm),
            Some((offset, state)) => {
                Midway::restore(algorithm, state).filter(|midway| midway.len() == offset)
            }
        };
        let midway = midway.ok_or(Failure::Invalid)?;
        let offset = midway.len();
        let passage = Passage::new(offset, before.size - offset, manner.drop_behind);
        Ok(Self { source, before, midway, passage, told: offset })
    }

    /// Whether the file is as it was.
    fn agree(&self) -> Result<(), Failure> {
        match &self.source {
            Source::Found(found, _) => found.agree(true),
            Source::Passed(file) if source::stamp_of(file.as_fd())? == self.before => Ok(()),
            Source::Passed(_) => Err(Failure::Changed),
        }
    }
}

impl Drop for File<'_> {
    fn drop(&mut self) {
        self.passage.leave(self.source.as_fd());
    }
}

impl<'a> Source<'a> {
    fn find(datasets: &'a Datasets, dataset: &str, file: &Named) -> Result<Self, Failure> {
        let mut visit = datasets.visit(dataset)?;
        let found = visit.find(file)?;
        visit.pause();
        Ok(Self::Found(found, visit))
    }

    fn take_turn(&mut self) {
        if let Self::Found(_, visit) = self {
            visit.take_turn();
        }
    }

    fn pause(&mut self) {
        if let Self::Found(_, visit) = self {
            visit.pause();
        }
    }

    fn before(&self) -> Result<Stamp, Failure> {
        match self {
            Self::Passed(file) => source::stamp_of(file.as_fd()),
            Self::Found(found, _) => Ok(found.before()),
        }
    }

    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Passed(file) => file.as_fd(),
            Self::Found(found, _) => found.as_fd(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::Backend;
    use crate::reading::Reader;
    use crate::task::Manner;
    use std::cell::RefCell;
    use std::collections::VecDeque;
    use std::fs;
    use std::os::unix::fs::FileExt;
    use std::sync::Arc;
    use tempfile::tempfile;

    const MIB: usize = 1 << 20;

    fn pattern(len: usize) -> Vec<u8> {
        (0..=250).cycle().skip(len % 251).take(len).collect()
    }

    fn plain(algorithm: Algorithm, bytes: &[u8]) -> Output {
        let mut outputs = Vec::new();
        Backend::Portable.hash_many(algorithm, &[bytes], &mut outputs);
        Output { outputs, failures: vec![] }
    }

    fn file(bytes: &[u8]) -> (fs::File, Stamp) {
        let file = tempfile().unwrap();
        file.write_all_at(bytes, 0).unwrap();
        let stamp = source::stamp_of(file.as_fd()).unwrap();
        (file, stamp)
    }

    fn task(lease: u64, algorithm: Algorithm, work: Work, file: &fs::File) -> Task {
        let descriptors = vec![file.try_clone().unwrap().into()];
        let order = Order { algorithm, work, descriptors, check: false };
        let started = Started { attempt: 3, order, revoked: Arc::default() };
        Task { lease: LeaseId(lease), started }
    }

    fn whole(lease: u64, algorithm: Algorithm, (file, stamp): &(fs::File, Stamp)) -> Task {
        task(lease, algorithm, Work::Files { files: vec![*stamp] }, file)
    }

    /// Notes what it is told, and has more to do.
    #[derive(Default)]
    struct Notes {
        waiting: RefCell<VecDeque<Task>>,
        points: RefCell<Vec<Point>>,
        done: RefCell<Vec<(LeaseId, Output)>>,
        /// What happens when it is told of a point.
        then: Option<Then>,
    }

    type Then = Box<dyn Fn(&Point)>;

    impl Desk for Notes {
        fn next(&self, family: Family) -> Option<Task> {
            let mut waiting = self.waiting.borrow_mut();
            let at = waiting.iter().position(|t| family_of(&t.started.order) == Some(family))?;
            waiting.remove(at)
        }

        fn advanced(&self, point: Point) {
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

    fn run_all(first: Task, notes: &Notes) -> Vec<(LeaseId, Output)> {
        let mut scratch =
            Scratch::new(Reader::default(), Manner { report_len: MIB as u64, ..Manner::default() });
        run(first, &Datasets::default(), &mut scratch, notes);
        assert!(notes.waiting.borrow().is_empty());
        let mut done = notes.done.take();
        done.sort_by_key(|(lease, _)| *lease);
        done
    }

    #[test]
    fn a_file_goes_on_from_each_of_its_points() {
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
            assert_eq!(run_all(whole(7, algorithm, &file), &notes), [(LeaseId(7), want.clone())]);
            let points = notes.points.take();
            let offsets: Vec<u64> = points.iter().map(|point| point.offset).collect();
            let every_mib: Vec<u64> = (1..=len / MIB).map(|i| (i * MIB) as u64).collect();
            assert_eq!(offsets, every_mib, "{algorithm}");
            for Point { file: stamp, offset, state, .. } in points {
                // What is before it is not read again: there is something else now.
                let (other, _) = self::file(&bytes);
                other.write_all_at(&vec![0; usize::try_from(offset).unwrap()], 0).unwrap();
                let now = source::stamp_of(other.as_fd()).unwrap();
                assert_eq!(stamp.size, now.size);
                let rest = Work::Rest { file: now, offset, state: state.into() };
                let done = run_all(task(8, algorithm, rest, &other), &Notes::default());
                assert_eq!(done, [(LeaseId(8), want.clone())], "{algorithm} from {offset}");
            }
        }
    }

    #[test]
    fn files_of_any_lengths_are_hashed_beside_each_other() {
        let lens = [4 * MIB, 9 * MIB + 1, 4 * MIB + 127, 4 * MIB + 128, 5 * MIB - 1, 4 * MIB];
        for algorithms in [[Algorithm::Sha256, Algorithm::Sha224], [Algorithm::Sha256; 2]] {
            let contents = lens.map(pattern);
            let all: Vec<_> = contents.iter().map(|bytes| file(bytes)).collect();
            let turns = (0..).zip(algorithms.into_iter().cycle());
            let tasks = turns.zip(&all).map(|((i, algorithm), file)| whole(i, algorithm, file));
            let mut tasks: VecDeque<Task> = tasks.collect();
            let first = tasks.pop_front().unwrap();
            let notes = Notes { waiting: RefCell::new(tasks), ..Notes::default() };
            let done = run_all(first, &notes);
            for ((i, bytes), (lease, output)) in (0..).zip(&contents).zip(done) {
                assert_eq!(lease, LeaseId(i as u64));
                assert_eq!(output, plain(algorithms[i % 2], bytes), "file {i}");
            }
            let points = notes.points.take();
            assert!(points[..2].iter().any(|p| p.lease == LeaseId(0)), "the first two");
            assert!(points[..2].iter().any(|p| p.lease == LeaseId(1)), "go beside each other");
        }
    }

    #[test]
    fn what_becomes_of_one_does_not_touch_the_other() {
        let bytes = pattern(6 * MIB);
        let (good, other) = (file(&bytes), file(&bytes));
        let want = plain(Algorithm::Sha256, &bytes);
        let changed = other.0.try_clone().unwrap();
        let revoked = whole(2, Algorithm::Sha256, &good);
        let flag = Arc::clone(&revoked.started.revoked);
        let waiting = [whole(1, Algorithm::Sha256, &other), revoked];
        let then = move |point: &Point| {
            if point.lease == LeaseId(1) && point.offset == 2 * MIB as u64 {
                changed.set_len(3 * MIB as u64).unwrap();
            }
            if point.lease == LeaseId(2) {
                flag.store(true, Ordering::Relaxed);
            }
        };
        let waiting = RefCell::new(VecDeque::from(waiting));
        let notes = Notes { waiting, then: Some(Box::new(then)), ..Notes::default() };
        let done = run_all(whole(0, Algorithm::Sha256, &good), &notes);
        let failed = |failure| Output { outputs: vec![], failures: vec![(0, failure)] };
        assert_eq!(done[0], (LeaseId(0), want));
        assert_eq!(done[1], (LeaseId(1), failed(Failure::Changed)));
        assert_eq!(done[2], (LeaseId(2), failed(source::failure(Errno::ECANCELED))));
    }

    #[test]
    fn a_file_that_changed_between_its_parts_has_changed() {
        let bytes = pattern(5 * MIB);
        let (file, stamp) = file(&bytes);
        let mut midway = Midway::new(Algorithm::Sha256).unwrap();
        midway.update(&bytes[..MIB]);
        let rest = |file, offset, state| Work::Rest { file, offset, state };
        let state = || midway.save().into();
        for (work, want) in [
            (rest(stamp, MIB as u64, state()), plain(Algorithm::Sha256, &bytes)),
            (rest(Stamp { mtime_ns: 1, ..stamp }, MIB as u64, state()), failed(Failure::Changed)),
            (rest(Stamp { ctime_ns: 1, ..stamp }, MIB as u64, state()), failed(Failure::Changed)),
            (rest(Stamp { size: 1 << 40, ..stamp }, MIB as u64, state()), failed(Failure::Changed)),
            (rest(stamp, 2 * MIB as u64, state()), failed(Failure::Invalid)),
            (rest(stamp, MIB as u64, vec![1; 7].into()), failed(Failure::Invalid)),
        ] {
            let done = run_all(task(0, Algorithm::Sha256, work, &file), &Notes::default());
            assert_eq!(done, [(LeaseId(0), want)]);
        }
    }

    fn failed(failure: Failure) -> Output {
        Output { outputs: vec![], failures: vec![(0, failure)] }
    }

    #[test]
    fn nothing_goes_beside_a_file_of_another_family_or_where_nothing_is_gained() {
        let bytes = pattern(4 * MIB);
        let file = file(&bytes);
        for (first, other) in
            [(Algorithm::Sha256, Algorithm::Sha512), (Algorithm::Sha384, Algorithm::Sha512)]
        {
            let waiting = RefCell::new(VecDeque::from([whole(1, other, &file)]));
            let notes = Notes { waiting, ..Notes::default() };
            let mut scratch = Scratch::default();
            run(whole(0, first, &file), &Datasets::default(), &mut scratch, &notes);
            assert_eq!(notes.done.take(), [(LeaseId(0), plain(first, &bytes))]);
            assert_eq!(notes.waiting.borrow().len(), 1, "{other} beside {first}");
        }
    }

    #[test]
    fn only_one_long_sha2_file_is_one() {
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
            let work = Work::Files { files };
            let order = Order { algorithm, work, descriptors: vec![], check: false };
            assert_eq!(family_of(&order), want, "{order:?}");
        }
    }
}
