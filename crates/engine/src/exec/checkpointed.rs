//! SHA-2 of files that are long enough to say on the way how far they are.
//!
//! Such a file is a batch of its own. What the bytes before an offset gave is told every so often, so
//! that another worker can go on from there; and a thread that has one takes others along when
//! they wait and no thread is free: several messages are hashed beside each other in little more time
//! than one (`beside`). Each keeps its own lease: one that fails, ends or is revoked leaves the others
//! as they are.
//!
//! Invariant: offsets that are told ascend, and are block borders.

use crate::clock::Stopwatch;
use crate::exec::interleave::{self as beside, File, Source};
use crate::exec::run::{Manner, Order, Output, Scratch};
use crate::hash::Midway;
use crate::input::dataset::{Datasets, Visit};
use crate::input::descriptor as source;
use ipc_proto::Sha2;
use ipc_proto::message::{Failure, LeaseId, Named, Stamp, Work};
use nix::errno::Errno;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// After so many bytes of a file its state is told, unless something else was asked for.
pub const REPORT_LEN: u64 = 2 << 30;

/// Shorter files are not worth it.
const LEN_MIN: u64 = 4 << 20;

/// Which half of the SHA-2 family `order` is of, if it is for such a file.
pub fn family_of(order: &Order) -> Option<Sha2> {
    let family = order.algorithm.sha2()?;
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

/// A lease that a thread may work on.
#[derive(Debug)]
pub struct Started {
    /// How often the batch was leased before, plus one.
    pub attempt: u32,
    /// What to do.
    pub order: Order,
    /// Turns true when nobody waits for the answer any more.
    pub revoked: Arc<AtomicBool>,
}

/// A lease of such a file.
#[derive(Debug)]
pub struct Task {
    /// Names it.
    pub lease: LeaseId,
    /// What to do.
    pub started: Started,
}

/// How far a lease is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// The lease.
    pub lease: LeaseId,
    /// The attempt that it was assigned with.
    pub attempt: u32,
    /// What the file looked like before it was read.
    pub file: Stamp,
    /// How many of its bytes are absorbed.
    pub offset: u64,
    /// What they gave.
    pub state: Vec<u8>,
}

/// Where leases come from and answers go.
pub trait Desk {
    /// Another one of `family`, if it would wait otherwise.
    fn next(&self, family: Sha2) -> Option<Task>;
    /// A lease came so far.
    fn advanced(&self, point: Point);
    /// A lease is done, after so much of the thread's time.
    fn done(&self, lease: LeaseId, attempt: u32, busy_us: u64, output: Output);
}

/// Does `first`, and what it takes along.
pub fn run(first: Task, datasets: &Datasets, scratch: &mut Scratch, desk: &dyn Desk) {
    let order = &first.started.order;
    // What is checked goes alone: by other kernels than what was hashed beside others.
    let lanes_max = if order.check { 1 } else { Midway::lanes(order.algorithm) };
    run_beside(first, lanes_max, datasets, scratch, desk);
}

/// Does `first`, beside others up to `lanes_max`.
fn run_beside(
    first: Task,
    lanes_max: usize,
    datasets: &Datasets,
    scratch: &mut Scratch,
    desk: &dyn Desk,
) {
    let family = family_of(&first.started.order);
    let manner = scratch.manner();
    let mut windows = beside::windows(scratch.buffer(), lanes_max);
    let mut lanes = Vec::with_capacity(lanes_max);
    lanes.extend(windows.pop().map(|window| Lane::new(first, window)));
    while !lanes.is_empty() {
        let stopwatch = Stopwatch::start();
        while !windows.is_empty()
            && let Some(task) = family.and_then(|family| desk.next(family))
        {
            lanes.extend(windows.pop().map(|window| Lane::new(task, window)));
        }
        for lane in &mut lanes {
            lane.read(datasets, manner);
        }
        beside::absorb(lanes.iter_mut().filter_map(Lane::ready));
        let busy_ns = stopwatch.elapsed_ns() / lanes.len() as u64;
        for lane in &mut lanes {
            lane.busy_ns += busy_ns;
            lane.finish();
            lane.tell(manner.report_len, desk);
        }
        for lane in lanes.extract_if(.., |lane| lane.outcome.is_some()) {
            windows.push(lane.answer(desk));
        }
    }
}

/// A lease on its way.
struct Lane<'a> {
    task: Task,
    window: &'a mut [u8],
    /// `None` until it is open.
    file: Option<File<'a>>,
    /// Where it is found, if it has a name.
    visit: Option<Visit<'a>>,
    /// How much of it the controller knows.
    told: u64,
    /// Once it is done.
    outcome: Option<Result<Vec<u8>, Failure>>,
    busy_ns: u64,
}

impl<'a> Lane<'a> {
    fn new(task: Task, window: &'a mut [u8]) -> Self {
        Self { task, window, file: None, visit: None, told: 0, outcome: None, busy_ns: 0 }
    }

    /// Reads the next bytes, if those before are absorbed.
    fn read(&mut self, datasets: &'a Datasets, manner: Manner) {
        if let Err(failure) = self.try_read(datasets, manner) {
            self.outcome = Some(Err(failure));
        }
    }

    fn try_read(&mut self, datasets: &'a Datasets, manner: Manner) -> Result<(), Failure> {
        let revoked = &self.task.started.revoked;
        if self.file.is_none() && !revoked.load(Ordering::Relaxed) {
            let opened = begin(&mut self.task.started.order, datasets, manner)?;
            self.told = opened.0.midway().len();
            (self.file, self.visit) = (Some(opened.0), opened.1);
        }
        let Some(file) = &mut self.file else { return Err(source::failure(Errno::ECANCELED)) };
        // For as long as it reads: another file of this thread may wait for it.
        if let Some(visit) = &mut self.visit {
            visit.take_turn();
        }
        let read = file.read(self.window, revoked);
        if let Some(visit) = &mut self.visit {
            visit.pause();
        }
        read
    }

    /// Its file, and the bytes of it that are to be absorbed, unless it is done.
    fn ready(&mut self) -> Option<(&mut File<'a>, &[u8])> {
        let file = self.file.as_mut().filter(|_| self.outcome.is_none())?;
        Some((file, self.window))
    }

    /// Ends the file where it ends.
    fn finish(&mut self) {
        if let Some((file, window)) = self.ready() {
            self.outcome = file.finish(window);
        }
    }

    /// Says how far it is if that is news, and not the end.
    fn tell(&mut self, report_len: u64, desk: &dyn Desk) {
        let (Some(file), None) = (&self.file, &self.outcome) else { return };
        let offset = file.midway().len();
        if offset - self.told < report_len {
            return;
        }
        self.told = offset;
        let (lease, attempt) = (self.task.lease, self.task.started.attempt);
        let state = file.midway().save();
        desk.advanced(Point { lease, attempt, file: file.before(), offset, state });
    }

    /// Answers, and gives the window back.
    fn answer(self, desk: &dyn Desk) -> &'a mut [u8] {
        // Closed before the answer gives credit for another.
        drop(self.file);
        let output = self.outcome.map(Output::of).unwrap_or_default();
        desk.done(self.task.lease, self.task.started.attempt, self.busy_ns / 1000, output);
        self.window
    }
}

/// Opens the file of `order`.
fn begin<'a>(
    order: &mut Order,
    datasets: &'a Datasets,
    manner: Manner,
) -> Result<(File<'a>, Option<Visit<'a>>), Failure> {
    let algorithm = order.algorithm;
    let passed = order.descriptors.pop().ok_or(Failure::Invalid);
    let find = |dataset: &str, file: &Named| {
        let mut visit = datasets.visit(dataset)?;
        let found = visit.find(file)?;
        visit.pause();
        Ok((found, visit))
    };
    let (source, visit, want, begun) = match &order.work {
        // A check is of what the client saw, and nothing newer.
        Work::Files { files } => {
            let want = files.first().filter(|_| order.check).copied();
            (Source::Owned(passed?), None, want, None)
        }
        Work::Rest { file, offset, state } => {
            (Source::Owned(passed?), None, Some(*file), Some((*offset, state)))
        }
        Work::Names { dataset, files } => {
            let [file] = &files[..] else { return Err(Failure::Invalid) };
            let (found, visit) = find(dataset, file)?;
            (Source::Found(found), Some(visit), None, None)
        }
        Work::NamedRest { dataset, file, offset, state } => {
            let (found, visit) = find(dataset, file)?;
            // Another copy, or one that changed in a way that does not show: who began it read
            // something else, perhaps.
            if found.before().ctime_ns != file.stamp.ctime_ns {
                return Err(Failure::Invalid);
            }
            (Source::Found(found), Some(visit), None, Some((*offset, state)))
        }
        Work::Messages { .. } | Work::Part { .. } | Work::Piece(_) | Work::NamedPart { .. } => {
            return Err(Failure::Invalid);
        }
    };
    let before = source.look()?;
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
    Ok((File::new(source, before, midway, manner.drop_behind), visit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::run::Manner;
    use crate::hash::Backend;
    use crate::input::reader::Reader;
    use ipc_proto::Algorithm;
    use std::cell::RefCell;
    use std::collections::VecDeque;
    use std::fs;
    use std::os::fd::AsFd;
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
        fn next(&self, family: Sha2) -> Option<Task> {
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

    fn run_all(first: Task, lanes: usize, notes: &Notes) -> Vec<(LeaseId, Output)> {
        let mut scratch =
            Scratch::new(Reader::default(), Manner { report_len: MIB as u64, ..Manner::default() });
        run_beside(first, lanes, &Datasets::default(), &mut scratch, notes);
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
            assert_eq!(
                run_all(whole(7, algorithm, &file), 2, &notes),
                [(LeaseId(7), want.clone())]
            );
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
                let done = run_all(task(8, algorithm, rest, &other), 1, &Notes::default());
                assert_eq!(done, [(LeaseId(8), want.clone())], "{algorithm} from {offset}");
            }
        }
    }

    #[test]
    fn files_of_any_lengths_are_hashed_beside_each_other() {
        let lens = [4 * MIB, 9 * MIB + 1, 4 * MIB + 127, 4 * MIB + 128, 5 * MIB - 1, 4 * MIB];
        let [sha224, sha256] = [Algorithm::Sha224, Algorithm::Sha256];
        let [sha384, sha512] = [Algorithm::Sha384, Algorithm::Sha512];
        for (algorithms, lanes) in
            [([sha256, sha224], 2), ([sha256; 2], 8), ([sha512, sha384], 3), ([sha512; 2], 5)]
        {
            let contents = lens.map(pattern);
            let all: Vec<_> = contents.iter().map(|bytes| file(bytes)).collect();
            let turns = (0..).zip(algorithms.into_iter().cycle());
            let tasks = turns.zip(&all).map(|((i, algorithm), file)| whole(i, algorithm, file));
            let mut tasks: VecDeque<Task> = tasks.collect();
            let first = tasks.pop_front().unwrap();
            let notes = Notes { waiting: RefCell::new(tasks), ..Notes::default() };
            let done = run_all(first, lanes, &notes);
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
        let done = run_all(whole(0, Algorithm::Sha256, &good), 2, &notes);
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
            let done = run_all(task(0, Algorithm::Sha256, work, &file), 2, &Notes::default());
            assert_eq!(done, [(LeaseId(0), want)]);
        }
    }

    fn failed(failure: Failure) -> Output {
        Output { outputs: vec![], failures: vec![(0, failure)] }
    }

    #[test]
    fn nothing_goes_beside_a_file_of_another_family_or_one_that_is_checked() {
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
            assert_eq!(notes.done.take(), [(LeaseId(0), plain(first, &bytes))]);
            assert_eq!(notes.waiting.borrow().len(), 1, "{other} beside {first}");
        }
    }

    #[test]
    fn only_one_long_sha2_file_is_one() {
        let long = Stamp { size: LEN_MIN, ..Stamp::default() };
        let short = Stamp { size: LEN_MIN - 1, ..long };
        for (algorithm, files, want) in [
            (Algorithm::Sha224, vec![long], Some(Sha2::Bits32)),
            (Algorithm::Sha384, vec![long], Some(Sha2::Bits64)),
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
