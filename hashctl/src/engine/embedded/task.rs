//! One hashing thread, and how it does a task.

use super::queue::{Job, LongJob};
use super::special::{self, Once};
use super::tree::TreeJob;
use super::{EmbeddedOptions, Shared};
use crate::engine::dirs::{DirCache, unshare_descriptors};
use crate::engine::function::Function;
use crate::engine::lister::{Dir, OpenTask, Target, split};
use crate::engine::reorder::{Batch, Change, Tag, Verdict};
use crate::input::open::{Kind, Links, OpenedAny, look, open_any};
use crate::problem::{Problem, Special};
use engine::exec::local::{self, LocalFiles, LongFiles, NoDescriptor};
use engine::exec::order::{Order, ReadOptions, Scratch};
use engine::exec::run;
use engine::hash::{OutputSlot, Stream};
use engine::input::dataset::Datasets;
use engine::input::reader::Reader;
use ipc_proto::message::{Failure, FileItem, FileSource, Stamp, Work};
use ipc_proto::{Algorithm, Algorithms};
use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::sys::resource::{Resource, getrlimit};
use std::mem;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// Files from this length on are hashed while they are read, from a queue of their own.
const LONG_LEN: u64 = 4 << 20;

/// BLAKE3 files from this length on are hashed by several threads.
const TREE_LEN: u64 = 8 << 20;

/// Files that are neither small nor long and are open at once.
const REST_MAX: usize = 32;

/// Descriptors of a run besides those of small files.
const OTHER_DESCRIPTORS: u64 = 128;

/// Pause and retries when no descriptor is free.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(5);
const EXHAUSTED_RETRIES: u32 = 2_000;

/// One hashing thread.
pub(super) struct Hand {
    shared: &'static Shared,
    scratch: Scratch,
    dirs: DirCache,
    open_max: usize,
}

impl Hand {
    pub(super) fn new(shared: &'static Shared) -> Self {
        let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
        let open_max =
            usize::try_from(limit.saturating_sub(OTHER_DESCRIPTORS)).unwrap_or(usize::MAX);
        let options =
            ReadOptions { close: |files| ipc_socket::close_here(files), ..ReadOptions::default() };
        let scratch = Scratch::new(Reader::default(), options);
        let dirs = DirCache::default();
        Self { shared, scratch, dirs, open_max: open_max.clamp(4, 64) }
    }

    pub(super) fn run(mut self) {
        self.dirs.is_own_table = unshare_descriptors();
        loop {
            match self.shared.queue.take(local::interleave_max) {
                Job::Task(task) => self.task(task),
                Job::Long(job) => self.long(job),
                Job::Tree(job) => job.work(self.shared, &mut self.scratch, &mut self.dirs),
                Job::End => return,
            }
        }
    }

    fn task(&mut self, mut task: OpenTask) {
        let mut once = Vec::new();
        let mut next = 0;
        while next < task.targets.len() {
            let function = task.batch.label(next).function;
            let mut files = TaskFiles {
                shared: self.shared,
                task: &task,
                dirs: &mut self.dirs,
                function,
                next,
                retries: 0,
                changes: Vec::new(),
                rest: Vec::new(),
                once: &mut once,
            };
            let strict = self.shared.options.strict_reads;
            match function {
                Function::Standard(algorithm) => {
                    let open_max = self.open_max;
                    local::hash_small(&mut files, algorithm, strict, open_max, &mut self.scratch);
                }
                Function::Several(_) | Function::Blake2b(_) | Function::Blake3 => files.open_rest(),
            }
            next = files.next;
            let (mut changes, rest) = (files.changes, files.rest);
            self.shared.reorder.change(&mut changes);
            match function {
                Function::Standard(algorithm) => self.rest(algorithm.into(), rest, task.first),
                Function::Several(algorithms) => self.rest(algorithms, rest, task.first),
                Function::Blake2b(_) | Function::Blake3 => {
                    self.with_parameters(function, rest, task.first)
                }
            }
        }
        if !once.is_empty() && self.shared.queue.wait_for_turn(task.turn) {
            for Once { position, file } in once {
                let function = task.batch.label(position).function;
                let tag = task.first + position as u64;
                special::hash(self.shared, tag, file, function, &mut self.scratch);
            }
        }
        self.shared.queue.pass_turn(task.turn);
        self.shared.queue.done(mem::take(&mut task.dirs));
    }

    /// Files that are neither small nor long, or do not hold still.
    fn rest(&mut self, algorithms: Algorithms, rest: Vec<Rest>, first: Tag) {
        if rest.is_empty() {
            return;
        }
        let items = rest.iter().map(|rest| FileItem::from(rest.stamp)).collect();
        let work = Work::Files { source: FileSource::Descriptors, files: items };
        let (mut tags, mut descriptors, mut changes) = (Vec::new(), Vec::new(), Vec::new());
        for Rest { position, file, stamp } in rest {
            let tag = first + position as u64;
            changes.push((tag, Change::Size(stamp.size)));
            tags.push(tag);
            descriptors.push(file);
        }
        let mut order = Order::new(algorithms, work, descriptors);
        order.strict_reads = self.shared.options.strict_reads;
        let stopped = &self.shared.is_stopped;
        let output = run::run(&order, &Datasets::default(), &mut self.scratch, stopped);
        drop(order);
        if self.shared.is_over() {
            // An output that means nothing.
            return;
        }
        let mut failures = output.failures.into_iter().peekable();
        let mut digests = output.outputs.chunks_exact(algorithms.digests_len());
        for (position, tag) in (0_u32..).zip(tags) {
            let change = match failures.next_if(|(at, _)| *at == position) {
                Some((_, failure)) => Change::Verdict(Verdict::Problem(Problem::Failure(failure))),
                None => Change::digest(digests.next().expect("every file has an outcome")),
            };
            changes.push((tag, change));
        }
        self.shared.reorder.change(&mut changes);
    }

    /// Files whose function has parameters, one after the other.
    fn with_parameters(&mut self, function: Function, rest: Vec<Rest>, first: Tag) {
        for Rest { position, file, stamp } in rest {
            let EmbeddedOptions { strict_reads, .. } = self.shared.options;
            let (streams, output) = streams(&self.shared.options, function);
            let stopped = &self.shared.is_stopped;
            let outcome =
                local::hash_stream(file, &streams, strict_reads, &mut self.scratch, stopped);
            let tag = first + position as u64;
            let mut changes = vec![(tag, Change::Size(stamp.size))];
            changes.extend(outcome_changes(tag, outcome, &output));
            self.shared.reorder.change(&mut changes);
        }
    }

    /// A long file, and others along with it.
    fn long(&mut self, first: LongJob) {
        let algorithm = first.algorithm;
        let shared = self.shared;
        let mut files = Long { shared, dirs: &mut self.dirs, first: Some(first), algorithm };
        let strict = shared.options.strict_reads;
        local::hash_long(&mut files, algorithm, strict, &mut self.scratch, &shared.is_stopped);
    }
}

/// Outcome of a file whose stream is finished.
pub(super) fn outcome_changes(
    tag: Tag,
    outcome: Result<Vec<u8>, Failure>,
    output: &OutputSlot,
) -> impl Iterator<Item = (Tag, Change)> {
    let verdict = outcome_change(outcome);
    let output = output.lock().expect("no holder panics").take();
    let output = output.map(|output| (tag, Change::Output(Box::new(output))));
    output.into_iter().chain([(tag, verdict)])
}

/// Outcome of a file.
pub(super) fn outcome_change(outcome: Result<Vec<u8>, Failure>) -> Change {
    match outcome {
        Ok(digest) => Change::digest(&digest),
        Err(failure) => Change::Verdict(Verdict::Problem(Problem::Failure(failure))),
    }
}

/// A stream per digest of `function`, and where its output will be if that can be of any length.
pub(super) fn streams(options: &EmbeddedOptions, function: Function) -> (Vec<Stream>, OutputSlot) {
    let output = OutputSlot::default();
    let stream = |function| match function {
        Function::Blake2b(len) => Stream::blake2b(len.into()).expect("1 to 64 bytes"),
        Function::Blake3 => Stream::blake3(options.blake3.hasher(), Arc::clone(&output)),
        Function::Standard(_) | Function::Several(_) => Stream::new(function.algorithm()),
    };
    (function.each().map(stream).collect(), output)
}

/// A regular file that is open.
pub(super) struct Rest {
    position: usize,
    file: OwnedFd,
    stamp: Stamp,
}

/// The files of a task that have one function.
struct TaskFiles<'t> {
    shared: &'static Shared,
    task: &'t OpenTask,
    dirs: &'t mut DirCache,
    function: Function,
    next: usize,
    /// Attempts to open the next one that found no descriptor.
    retries: u32,
    changes: Vec<(Tag, Change)>,
    rest: Vec<Rest>,
    once: &'t mut Vec<Once>,
}

impl TaskFiles<'_> {
    fn tag(&self, position: usize) -> Tag {
        self.task.first + position as u64
    }

    fn verdict(&mut self, position: usize, verdict: Verdict) {
        self.changes.push((self.tag(position), Change::Verdict(verdict)));
    }

    /// Opens what is left of the same function, as far as there is room.
    fn open_rest(&mut self) {
        loop {
            match LocalFiles::open(self) {
                Ok(Some((position, file))) => LocalFiles::other(self, position, file),
                Ok(None) => return,
                Err(NoDescriptor) if self.rest.is_empty() => {}
                Err(NoDescriptor) => return,
            }
        }
    }

    fn try_open(&mut self, position: usize) -> Result<OpenedAny, Errno> {
        match self.task.targets[position] {
            Target::Path => open_any(AT_FDCWD, self.task.batch.path(position, 0), Links::Follow),
            Target::In(dir) => {
                let dir = &self.task.dirs[dir];
                open_in(&self.task.batch, position, dir, self.dirs)
            }
            Target::Stdin | Target::Nothing => unreachable!("it has no path"),
        }
    }

    fn is_in_tree(&self, position: usize) -> bool {
        matches!(self.task.targets[position],
            Target::In(dir) if self.task.dirs[dir].links() == Links::Refuse)
    }

    /// Something that is neither a regular file nor a directory, open if it could be opened.
    fn special(&mut self, position: usize, special: Special, file: Option<OwnedFd>) {
        let reads = self.shared.options.reads_special;
        match file {
            _ if self.is_in_tree(position) => self.verdict(position, Verdict::Skipped(special)),
            Some(file) if reads => self.once.push(Once { position, file: Some(file) }),
            None if reads => {
                self.verdict(position, Verdict::Problem(Problem::Io(Errno::ENXIO as i32)));
            }
            _ => self.verdict(position, Verdict::Problem(Problem::Special(special))),
        }
    }

    fn long(&mut self, position: usize, algorithm: Algorithm, stamp: Stamp) {
        let tag = self.tag(position);
        self.changes.push((tag, Change::Size(stamp.size)));
        // Its outcome may come before the end of the task.
        self.shared.reorder.change(&mut self.changes);
        let (dir, links) = match self.task.targets[position] {
            Target::In(dir) => {
                let dir = &self.task.dirs[dir];
                (Some(Arc::clone(dir)), dir.links())
            }
            Target::Path | Target::Stdin | Target::Nothing => (None, Links::Follow),
        };
        let batch = Arc::clone(&self.task.batch);
        let job = LongJob { tag, batch, position, dir, links, algorithm };
        let are_several = self.shared.threads_max > 1;
        if algorithm == Algorithm::Blake3 && are_several && stamp.size >= TREE_LEN {
            self.shared.queue.give_tree(Arc::new(TreeJob::new(job, stamp)));
        } else {
            self.shared.queue.give_long(job);
        }
        self.shared.reorder.wake();
    }
}

impl LocalFiles for TaskFiles<'_> {
    fn open(&mut self) -> Result<Option<(usize, OwnedFd)>, NoDescriptor> {
        loop {
            let position = self.next;
            let is_other = |at: usize| self.task.batch.label(at).function != self.function;
            let is_over = position == self.task.targets.len() || self.shared.is_over();
            if is_over || is_other(position) || self.rest.len() >= REST_MAX {
                if self.shared.is_over() {
                    self.next = self.task.targets.len();
                }
                return Ok(None);
            }
            match self.task.targets[position] {
                Target::Nothing => {}
                Target::Stdin => self.once.push(Once { position, file: None }),
                Target::Path | Target::In(_) => match self.try_open(position) {
                    Ok(OpenedAny::Open(file)) => {
                        (self.next, self.retries) = (position + 1, 0);
                        return Ok(Some((position, file)));
                    }
                    Ok(OpenedAny::Special(special)) => self.special(position, special, None),
                    Err(Errno::EMFILE | Errno::ENFILE) if self.retries < EXHAUSTED_RETRIES => {
                        if self.retries > 0 {
                            thread::sleep(EXHAUSTED_PAUSE);
                        }
                        self.retries += 1;
                        // What the rest of the files hold is given back first.
                        return if self.rest.is_empty() { Err(NoDescriptor) } else { Ok(None) };
                    }
                    Err(errno) => {
                        self.verdict(position, Verdict::Problem(Problem::Io(errno as i32)));
                    }
                },
            }
            (self.next, self.retries) = (position + 1, 0);
        }
    }

    fn done(&mut self, position: usize, size: u64, digest: &[u8]) {
        let tag = self.tag(position);
        self.changes.push((tag, Change::Size(size)));
        self.changes.push((tag, Change::digest(digest)));
    }

    fn other(&mut self, position: usize, file: OwnedFd) {
        let (kind, stamp) = match look(&file) {
            Ok(found) => found,
            Err(errno) => {
                return self.verdict(position, Verdict::Problem(Problem::Io(errno as i32)));
            }
        };
        match (kind, self.function) {
            (Kind::Directory, _) => self.verdict(position, Verdict::Problem(Problem::Directory)),
            (Kind::Special(special), _) => self.special(position, special, Some(file)),
            (Kind::File, Function::Standard(algorithm)) if stamp.size >= LONG_LEN => {
                self.long(position, algorithm, stamp);
            }
            (Kind::File, _) => self.rest.push(Rest { position, file, stamp }),
        }
    }
}

/// Opens the file of an entry in its directory.
pub(super) fn open_in(
    batch: &Batch,
    position: usize,
    dir: &Dir,
    dirs: &mut DirCache,
) -> Result<OpenedAny, Errno> {
    let (prefix, _) = split(batch.label(position).name);
    let base = batch.path(position, prefix.len());
    open_any(dirs.fd(dir)?, base, dir.links())
}

impl LongJob {
    /// Opens the file again, which may have become another one.
    pub(super) fn open(&self, dirs: &mut DirCache) -> Result<OwnedFd, Failure> {
        let opened = match &self.dir {
            Some(dir) => open_in(&self.batch, self.position, dir, dirs),
            None => open_any(AT_FDCWD, self.batch.path(self.position, 0), self.links),
        };
        match opened {
            Ok(OpenedAny::Open(file)) => Ok(file),
            Ok(OpenedAny::Special(_)) => Err(Failure::NotRegular),
            Err(errno) => Err(Failure::Io { errno: errno as i32 }),
        }
    }
}

/// Long files that one thread hashes interleaved.
struct Long<'d> {
    shared: &'static Shared,
    dirs: &'d mut DirCache,
    first: Option<LongJob>,
    algorithm: Algorithm,
}

impl LongFiles for Long<'_> {
    type Name = LongJob;

    fn next(&mut self) -> Option<(LongJob, Result<OwnedFd, Failure>)> {
        let next = self.first.take();
        let job = next.or_else(|| self.shared.queue.take_long(self.algorithm))?;
        let file = job.open(self.dirs);
        Some((job, file))
    }

    fn advanced(&mut self, job: &mut LongJob, done_len: u64) {
        self.shared.reorder.advance(job.tag, done_len);
    }

    fn done(&mut self, job: LongJob, outcome: Result<Vec<u8>, Failure>) {
        if !self.shared.is_over() {
            self.shared.reorder.change(&mut vec![(job.tag, outcome_change(outcome))]);
        }
        self.shared.queue.done(job.dir.into_iter().collect());
    }
}
