//! Hashing in this process, without a cluster: the lister's tasks go to threads that open, read and
//! hash, and enter what comes of it into the reorder buffer.
//!
//! Isolation is given up here: what a file holds is parsed by nothing, but read by this very process.
//!
//! Every file is read by the quiet rule of the crate `engine`, as a worker would. Small ones are
//! hashed together (`task`); long ones go to a queue of their own (`queue`), from which a thread takes as
//! many as its kernel interleaves, or a part of a BLAKE3 tree (`tree`). What can be read only once, as
//! standard input or a FIFO, is read in input order (`special`).
//!
//! Invariants: the same as of a run over a cluster: one outcome per entry, bounded memory, and no wait
//! for a FIFO or device unless the options ask for it.

mod queue;
mod special;
mod task;
mod tree;

use super::function::Blake3Mode;
use super::lister::{Last, Lister, OpenTask, TaskSink};
use super::reorder::{End, Reorder, Stopped, Tally};
use super::{Printer, raise_open_files};
use crate::input::datasets::Folder;
use crate::output::Out;
use crate::progress::{Progress, poll_timeout};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use queue::WorkQueue;
use std::fmt;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use task::Hand;

/// Most entries of a task.
const TASK_LEN_MAX: usize = 1024;

/// Most hashing threads.
pub(crate) const THREADS_MAX: u16 = 1024;

/// Settings of a run.
#[derive(Clone, Debug)]
pub(crate) struct EmbeddedOptions {
    /// Hashing threads; `None` for one per processor that this process may use.
    pub(crate) threads: Option<u16>,
    /// Named devices and FIFOs are read to their end, and waited for; never those in a tree.
    pub(crate) reads_special: bool,
    /// Standard input was open when the program started.
    pub(crate) has_stdin: bool,
    /// Standard output was.
    pub(crate) has_stdout: bool,
    /// Errors of standard output are returned when everything is hashed.
    pub(crate) defers_write_errors: bool,
    /// Looks for writers of every file, not only of those that changed recently.
    pub(crate) strict_reads: bool,
    pub(crate) blake3: Blake3Mode,
}

/// Why a run ends before everything is printed.
#[derive(Debug)]
pub(crate) enum EmbeddedError {
    /// Standard output cannot be written.
    Stdout(io::Error),
    /// The system refused a thread, or an event.
    System(io::Error),
    /// The caller's flag was set.
    Interrupted,
    /// Nothing was hashed for this long.
    Silence(Duration),
}

impl fmt::Display for EmbeddedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdout(error) | Self::System(error) => error.fmt(f),
            Self::Interrupted => f.write_str("interrupted"),
            Self::Silence(limit) => write!(f, "no result for {} s", limit.as_secs()),
        }
    }
}

/// Hashes what `list` finds, and prints it. Signals keep the meaning that they have.
pub(crate) fn run(
    options: EmbeddedOptions,
    printer: &mut impl Printer,
    list: impl FnOnce(&mut Lister) -> Result<(), Stopped> + Send + 'static,
) -> Result<(), EmbeddedError> {
    let mut run = EmbeddedRun::new(&options).map_err(EmbeddedError::System)?;
    run.all(options, printer, list)
}

/// A run that can be interrupted, and shows its progress.
pub(crate) struct EmbeddedRun {
    pub(crate) reorder: Arc<Reorder>,
    pub(crate) is_interrupted: Arc<AtomicBool>,
    pub(crate) progress: Option<Progress>,
    /// Longest time in which nothing is hashed.
    pub(crate) timeout: Option<Duration>,
    out: Out,
}

impl EmbeddedRun {
    pub(crate) fn new(options: &EmbeddedOptions) -> io::Result<Self> {
        let mut out = Out::new(options.has_stdout);
        if options.defers_write_errors {
            out.defer_errors();
        }
        Ok(Self {
            reorder: Arc::new(Reorder::new()?),
            is_interrupted: Arc::default(),
            progress: None,
            timeout: None,
            out,
        })
    }

    /// Hashes and prints everything.
    pub(crate) fn all(
        &mut self,
        options: EmbeddedOptions,
        printer: &mut impl Printer,
        list: impl FnOnce(&mut Lister) -> Result<(), Stopped> + Send + 'static,
    ) -> Result<(), EmbeddedError> {
        raise_open_files().map_err(EmbeddedError::System)?;
        let hands = Hands::new(Arc::clone(&self.reorder), options);
        let shared = hands.shared;
        let starter = Hands { shared };
        let mut lister = Lister::new(Arc::clone(&self.reorder), Box::new(hands));
        let listing = move || {
            // Without it the run was stopped.
            let _ = list(&mut lister).and_then(|()| lister.flush(Last::OfAll));
            drop(lister);
            if shared.lister_hashes.load(Ordering::Relaxed) {
                Hand::new(shared).run();
            }
        };
        let result = match thread::Builder::new().spawn(listing) {
            Ok(_) => self.print_all(printer, &starter),
            Err(error) => Err(EmbeddedError::System(error)),
        };
        self.reorder.stop();
        shared.stop();
        result
    }

    fn print_all(
        &mut self,
        printer: &mut impl Printer,
        hands: &Hands,
    ) -> Result<(), EmbeddedError> {
        let mut is_listed = false;
        let (mut seen, mut since) = (Tally::default(), Instant::now());
        loop {
            match self.reorder.take_end() {
                Some(End::Failed(text)) => {
                    return Err(EmbeddedError::System(io::Error::other(text)));
                }
                Some(End::Done) => is_listed = true,
                Some(End::Stopped) | None => {}
            }
            self.print_ready(printer).map_err(EmbeddedError::Stdout)?;
            if is_listed && self.reorder.is_empty() {
                let finished = printer.finish(&mut self.out).and_then(|()| self.out.flush());
                let finished = finished.and_then(|()| self.out.finish());
                return finished.map_err(EmbeddedError::Stdout);
            }
            if self.is_interrupted.load(Ordering::Acquire) {
                return Err(EmbeddedError::Interrupted);
            }
            // Long files and trees are found by the threads themselves.
            hands.start_if_behind();
            let mut timeout = PollTimeout::NONE;
            if let Some(limit) = self.timeout {
                let tally = self.reorder.tally();
                if tally != seen {
                    (seen, since) = (tally, Instant::now());
                }
                if since.elapsed() >= limit {
                    return Err(EmbeddedError::Silence(limit));
                }
                timeout = poll_timeout(since + limit);
            }
            if let Some(progress) = &mut self.progress {
                progress.show(&self.reorder, is_listed);
                timeout = progress.timeout().map_or(timeout, |update| match timeout.is_none() {
                    true => update,
                    false => update.min(timeout),
                });
            }
            // It fails when a signal comes, or memory is short: look again.
            let _ = poll(&mut [PollFd::new(self.reorder.as_fd(), PollFlags::POLLIN)], timeout);
            self.reorder.clear_wakes();
        }
    }

    /// Prints what is complete.
    pub(crate) fn print_ready(&mut self, printer: &mut impl Printer) -> io::Result<()> {
        while let Some(complete) = self.reorder.take() {
            for item in complete.items() {
                printer.print(&item, &mut self.out)?;
            }
            self.reorder.release(&complete);
        }
        self.out.flush()
    }
}

/// The lister's end of the hashing threads.
struct Hands {
    shared: &'static Shared,
}

/// State that the threads of a run share. It lives as long as the process: a thread must not be the one that
/// closes the descriptors in it, as its own table has other files under their numbers.
struct Shared {
    reorder: Arc<Reorder>,
    options: EmbeddedOptions,
    threads_max: usize,
    queue: WorkQueue,
    /// The lister's thread is one of those that hash, once everything is listed. A run of few files needs
    /// no other.
    lister_hashes: AtomicBool,
    /// The run is over: threads stop reading.
    is_stopped: AtomicBool,
}

impl Hands {
    fn new(reorder: Arc<Reorder>, options: EmbeddedOptions) -> Self {
        let available = || thread::available_parallelism().map_or(1, usize::from);
        let threads_max = options.threads.map_or_else(available, usize::from);
        let threads_max = threads_max.clamp(1, THREADS_MAX.into());
        let shared = Shared {
            reorder,
            options,
            threads_max,
            queue: WorkQueue::default(),
            lister_hashes: AtomicBool::new(false),
            is_stopped: AtomicBool::new(false),
        };
        Self { shared: Box::leak(Box::new(shared)) }
    }

    /// Starts threads, if there is work for them. Called by threads that have the descriptor table of the
    /// process.
    fn start_if_behind(&self) {
        let (running, wanted) = self.shared.queue.count_threads(self.shared.threads_max);
        self.start(running..running + wanted);
    }

    fn start(&self, numbers: Range<usize>) {
        let shared = self.shared;
        for number in numbers {
            let started = thread::Builder::new().spawn(move || Hand::new(shared).run());
            match started {
                Ok(_) => {}
                // One is enough.
                Err(error) if number == 0 => {
                    let text = format!("start of a thread: {}", crate::say::io_text(&error));
                    shared.reorder.end(End::Failed(text));
                }
                Err(_) => {}
            }
        }
    }
}

impl TaskSink for Hands {
    fn give(&self, task: OpenTask) -> Result<(), Stopped> {
        let is_last = task.last == Last::OfAll;
        self.shared.queue.give(task)?;
        if !is_last {
            self.start_if_behind();
            return Ok(());
        }
        let (running, wanted) = self.shared.queue.count_threads(self.shared.threads_max);
        self.shared.lister_hashes.store(wanted > 0, Ordering::Relaxed);
        self.start(running + wanted.min(1)..running + wanted);
        self.shared.reorder.end(End::Done);
        Ok(())
    }

    fn close_dirs(&self) {
        self.shared.queue.close_dirs();
    }

    fn wait_for(&self, _: u64) {
        self.shared.queue.wait_until_idle();
    }

    fn folder(&self, _: BorrowedFd<'_>) -> Option<Folder> {
        None
    }

    fn task_len_max(&self) -> usize {
        TASK_LEN_MAX
    }

    fn tasks_max(&self) -> usize {
        queue::TASKS_MAX + self.shared.threads_max
    }

    /// A thread has at most a group of files open.
    fn keeps_files_open(&self) -> bool {
        false
    }
}

impl Shared {
    fn is_over(&self) -> bool {
        self.is_stopped.load(Ordering::Relaxed)
    }

    fn stop(&self) {
        self.is_stopped.store(true, Ordering::Release);
        self.queue.stop();
    }
}
