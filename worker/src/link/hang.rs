//! Threads that hang: a job of theirs was revoked, and they have not come back from it.
//!
//! A read of a file whose server, disk or network never answers cannot be interrupted, so that its thread
//! is lost. Its credit stays out, by which the controller knows of it. A worker without any thread left
//! ends, so that its supervisor starts another one.

use crate::link::shutdown::Shutdown;
use crate::log::{Event, LOG};
use crate::pool::SPARE_THREAD;
use crate::sandbox::{Role, Sandbox};
use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use engine::clock::Stopwatch;
use std::collections::BTreeSet;
use std::io;
use std::process;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

/// A thread hangs if it works on a job this long after the job was revoked.
const HUNG_AFTER: Duration = Duration::from_secs(5);

/// Interval of looks at threads that hang.
const RECHECK: Duration = Duration::from_secs(1);

/// Exit status of a worker whose threads all hang.
const ALL_HANG: i32 = 3;

/// A job that was revoked while a thread worked on it.
#[derive(Debug)]
pub(crate) struct Revoked {
    pub(crate) thread: Arc<str>,
    /// Dropped by everybody else when the thread is done with the job.
    pub(crate) job: Weak<AtomicBool>,
}

impl Revoked {
    fn is_running(&self) -> bool {
        self.job.strong_count() > 0
    }
}

/// The thread that watches those that hash.
#[derive(Clone, Debug)]
pub struct HangDetector {
    revoked: Sender<(Stopwatch, Revoked)>,
    hung: Arc<AtomicU16>,
    threads: u16,
}

impl HangDetector {
    /// Watches `threads` threads. When all of them hang it closes the connection of `shutdown` and ends
    /// the process.
    ///
    /// # Errors
    /// The system refused another thread.
    pub fn start(threads: u16, shutdown: &Arc<Shutdown>, sandbox: Sandbox) -> io::Result<Self> {
        let (revoked, watched) = unbounded();
        let detector = Self { revoked, hung: Arc::default(), threads };
        let (shutdown, hung) = (Arc::clone(shutdown), Arc::clone(&detector.hung));
        thread::Builder::new().name("watch".to_owned()).spawn(move || {
            sandbox.narrow(Role::Watch).expect("the kernel took a filter before");
            watch(&watched, threads, &hung);
            LOG.log(&Event::AllHang { threads });
            // The controller sees it at once; the process may not be able to end while a read goes on.
            shutdown.close();
            LOG.flush();
            process::exit(ALL_HANG);
        })?;
        Ok(detector)
    }

    /// Number of threads that do not hang, as far as is known; one of them is the least.
    pub(crate) fn working_threads(&self) -> u16 {
        self.threads.saturating_sub(self.hung.load(Ordering::Relaxed)).max(1)
    }

    /// Number of threads, whether they hang or not.
    pub(crate) fn threads(&self) -> u16 {
        self.threads
    }

    /// Number of threads that hang, as far as is known.
    pub(crate) fn hung_threads(&self) -> u16 {
        self.hung.load(Ordering::Relaxed)
    }

    pub(crate) fn watch(&self, revoked: Vec<Revoked>) {
        for revoked in revoked {
            // The receiver lives as long as the process.
            let _ = self.revoked.send((Stopwatch::start(), revoked));
        }
    }
}

/// Returns when all threads hang.
fn watch(revoked: &Receiver<(Stopwatch, Revoked)>, threads: u16, hung: &AtomicU16) {
    let mut hanging: Vec<Revoked> = Vec::new();
    loop {
        let next = match hanging.is_empty() {
            true => revoked.recv().map_err(|_| RecvTimeoutError::Disconnected),
            false => revoked.recv_timeout(RECHECK),
        };
        let before: BTreeSet<_> = hanging.iter().map(|job| Arc::clone(&job.thread)).collect();
        // They come in the order of their revocation, and so the one that is waited for is the next.
        if let Ok((since, job)) = next {
            thread::sleep(HUNG_AFTER.saturating_sub(Duration::from_micros(since.elapsed_us())));
            hanging.push(job);
        }
        hanging.retain(Revoked::is_running);
        let after: BTreeSet<_> = hanging.iter().map(|job| Arc::clone(&job.thread)).collect();
        let announced = after.iter().filter(|thread| ***thread != *SPARE_THREAD);
        let len = u16::try_from(announced.count()).unwrap_or(threads);
        hung.store(len, Ordering::Relaxed);
        for thread in after.difference(&before) {
            LOG.log(&Event::Hangs { thread, seconds: HUNG_AFTER.as_secs() });
        }
        for thread in before.difference(&after) {
            LOG.log(&Event::IsBack { thread });
        }
        if len >= threads {
            return;
        }
    }
}
