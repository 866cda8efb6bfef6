//! The hashing threads.
//!
//! Each has its own [`Scratch`] and, where configured, its own core. A job that panics ends the
//! process: a worker that continues with fewer threads than it announced would be worse.

use crate::host;
use crate::sandbox::{Role, Sandbox};
use crossbeam::channel::{Receiver, Sender, bounded};
use engine::exec::order::Scratch;
use ipc_proto::limits::CREDIT_MAX;
use std::fmt;
use std::io;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Most jobs that wait: all that one connection can have, and as many that a connection left
/// behind when it broke.
const QUEUE_MAX: usize = 2 * CREDIT_MAX as usize;

/// A task that one thread runs once.
pub type Job = Box<dyn FnOnce(&mut Scratch) + Send>;

/// Threads that take jobs from one queue, oldest first.
pub struct Pool {
    jobs: Sender<Job>,
    idle_probe: IdleProbe,
    threads: u16,
}

/// Tells whether jobs wait for a thread.
#[derive(Clone)]
pub(crate) struct IdleProbe {
    queue: Receiver<Job>,
    idle: Arc<AtomicUsize>,
}

impl IdleProbe {
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
    /// none. In `sandbox` it can only hash from then on.
    ///
    /// # Errors
    /// The system refused another thread, that core, or the filter.
    ///
    /// # Panics
    /// If there are more than a worker may have threads.
    pub fn start(scratches: Vec<Scratch>, cores: &[usize], sandbox: Sandbox) -> io::Result<Self> {
        let threads = u16::try_from(scratches.len()).expect("a worker's threads are counted");
        let (jobs, queue) = bounded(QUEUE_MAX);
        let idle = Arc::new(AtomicUsize::new(0));
        let (pinned, pins) = bounded(usize::from(threads));
        let mut cores = cores.iter().copied().cycle();
        for (i, scratch) in scratches.into_iter().enumerate() {
            let (queue, idle, pinned) = (queue.clone(), Arc::clone(&idle), pinned.clone());
            let core = cores.next();
            thread::Builder::new().name(format!("hash-{i}")).spawn(move || {
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
        Ok(Self { jobs, idle_probe: IdleProbe { queue, idle }, threads })
    }

    /// Queues a job.
    ///
    /// # Errors
    /// [`Full`], with the job dropped.
    pub fn submit(&self, job: Job) -> Result<(), Full> {
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
        self.idle_probe.idle.load(Ordering::Relaxed)
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
        if thread::panicking() {
            process::abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam::channel::unbounded;
    use std::collections::HashSet;
    use std::sync::Barrier;
    use std::time::Duration;

    fn scratches(threads: usize) -> Vec<Scratch> {
        (0..threads).map(|_| Scratch::default()).collect()
    }

    const DEADLINE: Duration = Duration::from_secs(20);

    #[test]
    fn jobs_run_on_every_thread() {
        let pool = Pool::start(scratches(3), &[], Sandbox::default()).unwrap();
        let (done, results) = unbounded();
        let together = Arc::new(Barrier::new(3));
        for _ in 0..3 {
            let (done, together) = (done.clone(), Arc::clone(&together));
            let job = Box::new(move |_: &mut Scratch| {
                together.wait();
                done.send(thread::current().id()).unwrap();
            });
            pool.submit(job).unwrap();
        }
        let threads: HashSet<_> = (0..3).map(|_| results.recv_timeout(DEADLINE).unwrap()).collect();
        assert_eq!(threads.len(), 3);
    }

    #[test]
    fn the_queue_is_full_at_its_limit() {
        let pool = Pool::start(scratches(1), &[], Sandbox::default()).unwrap();
        let (started, has_started) = bounded(0);
        let (release, released) = bounded::<()>(0);
        let job = Box::new(move |_: &mut Scratch| {
            started.send(()).unwrap();
            assert!(released.recv().is_err(), "released by a drop");
        });
        pool.submit(job).unwrap();
        has_started.recv_timeout(DEADLINE).unwrap();
        for i in 0..QUEUE_MAX {
            assert_eq!(pool.submit(Box::new(|_| {})), Ok(()), "job {i}");
        }
        assert_eq!(pool.submit(Box::new(|_| {})), Err(Full));
        drop(release);
    }

    #[test]
    fn a_missing_core_is_an_error() {
        assert!(Pool::start(scratches(2), &[1023], Sandbox::default()).is_err());
    }
}
