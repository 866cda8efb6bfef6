//! Work that waits for a hashing thread: the lister's tasks, long files, and parts of BLAKE3 trees.

use super::tree::TreeJob;
use crate::engine::lister::{Dir, OpenTask};
use crate::engine::reorder::{Batch, Stopped, Tag};
use crate::input::open::Links;
use ipc_proto::Algorithm;
use std::collections::{BTreeSet, VecDeque};
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

/// Tasks that wait.
pub(super) const TASKS_MAX: usize = 4;

/// Tasks after which a long file that waited is taken, though it is alone.
const PASSED_MAX: usize = 32;

/// A file that is hashed while it is read. It was looked at, and is opened again.
pub(super) struct LongJob {
    pub(super) tag: Tag,
    pub(super) batch: Arc<Batch>,
    pub(super) position: usize,
    pub(super) dir: Option<Arc<Dir>>,
    pub(super) links: Links,
    pub(super) algorithm: Algorithm,
}

/// Next work of a thread.
pub(super) enum Job {
    Task(OpenTask),
    Long(LongJob),
    Tree(Arc<TreeJob>),
    End,
}

#[derive(Default)]
pub(super) struct WorkQueue {
    state: Mutex<State>,
    /// Signalled when there is something to take.
    work: Condvar,
    /// Signalled when there is room, a turn passed, or something ended.
    change: Condvar,
}

#[derive(Default)]
struct State {
    tasks: VecDeque<OpenTask>,
    long: VecDeque<LongJob>,
    trees: VecDeque<Arc<TreeJob>>,
    /// Tasks, long files and trees that are not done.
    pending: usize,
    /// Tasks that were taken since a long file waits.
    passed: usize,
    threads: usize,
    waiting_threads: usize,
    is_stopped: bool,
    /// Directories that the lister may close.
    dirs: Vec<Arc<Dir>>,
    /// The task whose special files may be read, and later ones that have none.
    turn: u64,
    turns_passed: BTreeSet<u64>,
}

impl WorkQueue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    /// Adds a task when there is room.
    pub(super) fn give(&self, task: OpenTask) -> Result<(), Stopped> {
        let is_full = |state: &mut State| state.tasks.len() >= TASKS_MAX && !state.is_stopped;
        let mut state = self.change.wait_while(self.lock(), is_full).expect("no holder panics");
        if state.is_stopped {
            return Err(Stopped);
        }
        state.tasks.push_back(task);
        state.pending += 1;
        self.work.notify_one();
        Ok(())
    }

    pub(super) fn give_long(&self, job: LongJob) {
        let mut state = self.lock();
        state.long.push_back(job);
        state.pending += 1;
        self.work.notify_one();
    }

    pub(super) fn give_tree(&self, job: Arc<TreeJob>) {
        let mut state = self.lock();
        state.trees.push_back(job);
        state.pending += 1;
        self.work.notify_all();
    }

    /// The next job. A long file waits for as many as are interleaved, unless there is nothing else.
    pub(super) fn take(&self, interleave_max: impl Fn(Algorithm) -> usize) -> Job {
        let mut state = self.lock();
        loop {
            if state.is_stopped {
                return Job::End;
            }
            while let Some(tree) = state.trees.front() {
                if tree.has_parts() {
                    return Job::Tree(Arc::clone(tree));
                }
                state.trees.pop_front();
            }
            if let Some(first) = state.long.front() {
                let are_enough = state.long.len() >= interleave_max(first.algorithm);
                if are_enough || state.tasks.is_empty() || state.passed >= PASSED_MAX {
                    state.passed = 0;
                    return Job::Long(state.long.pop_front().expect("just seen"));
                }
                state.passed += 1;
            }
            if let Some(task) = state.tasks.pop_front() {
                self.change.notify_all();
                return Job::Task(task);
            }
            state.waiting_threads += 1;
            state = self.work.wait(state).expect("no holder panics");
            state.waiting_threads -= 1;
        }
    }

    /// Another long file of `algorithm`, to be interleaved with what a thread has.
    pub(super) fn take_long(&self, algorithm: Algorithm) -> Option<LongJob> {
        let mut state = self.lock();
        // Other threads are to have something, too.
        if state.is_stopped || (state.waiting_threads > 0 && state.long.len() <= 1) {
            return None;
        }
        let at = state.long.iter().position(|job| job.algorithm == algorithm)?;
        state.long.remove(at)
    }

    /// A task, long file or tree is done; `dirs` may be closed.
    pub(super) fn done(&self, mut dirs: Vec<Arc<Dir>>) {
        let mut state = self.lock();
        state.dirs.append(&mut dirs);
        state.pending -= 1;
        self.change.notify_all();
    }

    /// Waits for the turn of a task to read special files; false if the run is over.
    pub(super) fn wait_for_turn(&self, turn: u64) -> bool {
        let is_early = |state: &mut State| state.turn != turn && !state.is_stopped;
        let state = self.change.wait_while(self.lock(), is_early).expect("no holder panics");
        !state.is_stopped
    }

    /// The special files of a task are read.
    pub(super) fn pass_turn(&self, turn: u64) {
        let mut state = self.lock();
        state.turns_passed.insert(turn);
        while let next = state.turn
            && state.turns_passed.remove(&next)
        {
            state.turn += 1;
        }
        self.change.notify_all();
    }

    pub(super) fn close_dirs(&self) {
        let dirs = mem::take(&mut self.lock().dirs);
        drop(dirs);
    }

    pub(super) fn wait_until_idle(&self) {
        let is_busy = |state: &mut State| state.pending > 0 && !state.is_stopped;
        drop(self.change.wait_while(self.lock(), is_busy).expect("no holder panics"));
    }

    /// Counts the threads to start, for which there is something to do: one more for other work than
    /// theirs, all for a tree. Returns the number of those before them, too.
    pub(super) fn count_threads(&self, threads_max: usize) -> (usize, usize) {
        let mut state = self.lock();
        let threads = state.threads;
        let wanted = if state.trees.iter().any(|tree| tree.has_parts()) {
            threads_max
        } else if state.waiting_threads == 0 && state.pending > threads.min(1) {
            threads + 1
        } else {
            threads
        };
        state.threads = wanted.clamp(threads, threads_max.max(threads));
        (threads, state.threads - threads)
    }

    pub(super) fn stop(&self) {
        self.lock().is_stopped = true;
        self.work.notify_all();
        self.change.notify_all();
    }
}
