//! The hashing threads.
//!
//! Each has its own [`Scratch`] and, where configured, its own core. While all of them have long jobs, which
//! can take hours, one more thread runs the short ones: the kernel shares the cores out. A job that panics ends the
//! process: a worker that continues with fewer threads than it announced would be worse.

#[cfg(test)]
mod model;
#[cfg(test)]
mod schedules;

use crate::host;
use crate::sandbox::{Role, Sandbox};
#[cfg(not(test))]
use crossbeam::channel::{Receiver, Sender, bounded};
use engine::exec::order::Scratch;
use ipc_proto::limits::CREDIT_MAX;
#[cfg(test)]
use model::{
    AtomicUsize, ModelReceiver as Receiver, ModelSender as Sender, Ordering, bounded, thread,
};
use std::fmt;
use std::io;
use std::process;
use std::sync::Arc;
#[cfg(not(test))]
use std::sync::atomic::{AtomicUsize, Ordering};
#[cfg(not(test))]
use std::thread;

/// Most jobs that wait: all that one connection can have, and as many that a connection left
/// behind when it broke.
const QUEUE_MAX: usize = 2 * CREDIT_MAX as usize;

/// Most short jobs that wait for the spare thread; a controller hands out one at a time.
const SPARE_QUEUE_MAX: usize = 64;

/// A task that one thread runs once.
pub type Job = Box<dyn FnOnce(&mut Scratch) + Send>;

/// Name of the thread that runs short jobs while the others have long ones.
pub(crate) const SPARE_THREAD: &str = "hash-spare";

/// Threads that take jobs from one queue, oldest first.
pub struct Pool {
    jobs: Sender<Job>,
    idle_probe: IdleProbe,
    threads: u16,
    /// Long jobs that wait or run.
    long: Arc<AtomicUsize>,
    spare_jobs: Sender<Job>,
}

/// A long job, for as long as it exists.
struct LongJob(Arc<AtomicUsize>);

impl LongJob {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for LongJob {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Tells whether jobs wait for a thread.
#[derive(Clone)]
pub(crate) struct IdleProbe {
    queue: Receiver<Job>,
    idle: Arc<AtomicUsize>,
}

impl IdleProbe {
    /// Number of threads that waited for a job a moment ago.
    pub(crate) fn idle(&self) -> usize {
        self.idle.load(Ordering::Relaxed)
    }

    /// Returns true if a job waited, and no thread was about to take it, a moment ago.
    pub(crate) fn is_busy(&self) -> bool {
        !self.queue.is_empty() && self.idle.load(Ordering::Relaxed) == 0
    }
}

/// The queue holds as many jobs as it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl Pool {
    /// Starts a thread for each of `scratches`, each on the next of `cores`, or anywhere if there are
    /// none; and one with `spare`, anywhere. In `sandbox` they can only hash from then on.
    ///
    /// # Errors
    /// The system refused another thread, that core, or the filter.
    ///
    /// # Panics
    /// If there are more than a worker may have threads.
    pub fn start(
        scratches: Vec<Scratch>,
        spare: Scratch,
        cores: &[usize],
        sandbox: Sandbox,
    ) -> io::Result<Self> {
        let threads = u16::try_from(scratches.len()).expect("a worker's threads are counted");
        let (jobs, queue) = bounded(QUEUE_MAX);
        let idle = Arc::new(AtomicUsize::new(0));
        let (spare_jobs, spare_queue) = bounded(SPARE_QUEUE_MAX);
        let (pinned, pins) = bounded(usize::from(threads) + 1);
        let mut cores = cores.iter().copied().cycle();
        let regular = scratches.into_iter().enumerate().map(|(i, scratch)| {
            (format!("hash-{i}"), scratch, cores.next(), queue.clone(), Arc::clone(&idle))
        });
        let spare = (SPARE_THREAD.to_owned(), spare, None, spare_queue, Arc::default());
        for (name, scratch, core, queue, idle) in regular.chain([spare]) {
            let pinned = pinned.clone();
            thread::Builder::new().name(name).spawn(move || {
                let is_pinned = core.map_or(Ok(()), |core| host::pin(&[core]));
                let ready = is_pinned.and_then(|()| sandbox.narrow(Role::Hash));
                let is_ready = ready.is_ok();
                // The pool may have given up on a sibling: then nobody waits for this result.
                let _ = pinned.send(ready);
                drop(pinned);
                if !is_ready {
                    return;
                }
                work(&queue, &idle, scratch);
            })?;
        }
        drop(pinned);
        pins.iter().collect::<io::Result<()>>()?;
        let idle_probe = IdleProbe { queue, idle };
        Ok(Self { jobs, idle_probe, threads, long: Arc::default(), spare_jobs })
    }

    /// Queues a job, which waits for none of the long ones where all threads have such.
    ///
    /// # Errors
    /// [`Full`], with the job dropped.
    pub fn submit(&self, job: Job) -> Result<(), Full> {
        let is_spare_needed = self.long.load(Ordering::Relaxed) >= usize::from(self.threads);
        // Even a spare thread that is busy is free sooner than the others.
        let job = match is_spare_needed {
            true => match self.spare_jobs.try_send(job) {
                Ok(()) => return Ok(()),
                Err(error) => error.into_inner(),
            },
            false => job,
        };
        self.jobs.try_send(job).map_err(|_| Full)
    }

    /// Queues a job that can take long.
    ///
    /// # Errors
    /// [`Full`], with the job dropped.
    pub fn submit_long(&self, job: Job) -> Result<(), Full> {
        let counted = LongJob::new(&self.long);
        let job = Box::new(move |scratch: &mut Scratch| {
            let _counted = counted;
            job(scratch);
        });
        self.jobs.try_send(job).map_err(|_| Full)
    }

    /// Number of threads.
    #[must_use]
    pub fn threads(&self) -> u16 {
        self.threads
    }

    /// Number of threads that waited for a job a moment ago.
    #[must_use]
    pub fn idle(&self) -> usize {
        self.idle_probe.idle()
    }

    pub(crate) fn idle_probe(&self) -> IdleProbe {
        self.idle_probe.clone()
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("threads", &self.threads).finish_non_exhaustive()
    }
}

/// Runs the jobs of `queue`; `idle` counts the threads that wait for one.
fn work(queue: &Receiver<Job>, idle: &AtomicUsize, mut scratch: Scratch) {
    let _abort = AbortOnPanic;
    loop {
        idle.fetch_add(1, Ordering::Relaxed);
        let job = queue.recv();
        idle.fetch_sub(1, Ordering::Relaxed);
        match job {
            Ok(job) => job(&mut scratch),
            Err(_) => return,
        }
    }
}

struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            process::abort();
        }
    }
}
