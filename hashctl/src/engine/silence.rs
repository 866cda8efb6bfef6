//! Silence: no result comes. The controller is asked for the reason from time to time, and a limit that a
//! person gave ends the run. A job that has to wait for its window says so.

use crate::progress::poll_timeout;
use crate::say::say;
use client::{Address, Client, ClientError};
use ipc_proto::message::{JobId, WorkerHealth};
use nix::poll::PollTimeout;
use std::time::{Duration, Instant};

/// Interval between two questions.
const INTERVAL: Duration = Duration::from_secs(3);

/// Time after which a job that waits for its window says so.
const WINDOW_WAIT: Duration = Duration::from_secs(2);

/// Time until the first one where no worker was connected at first: it may be starting.
const START_INTERVAL: Duration = Duration::from_secs(1);

/// Time limit for an answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Silence {
    address: Address,
    limit: Option<Duration>,
    since: Instant,
    /// When the next question is due.
    question: Instant,
    has_said: bool,
    /// The job that waits for its window, and when it says so.
    waiting: Option<(JobId, Instant)>,
}

impl Silence {
    pub(crate) fn new(address: Address, limit: Option<Duration>) -> Self {
        let now = Instant::now();
        let question = now + INTERVAL;
        Self { address, limit, since: now, question, has_said: false, waiting: None }
    }

    /// No worker is connected yet.
    pub(crate) fn ask_soon(&mut self) {
        self.question = self.question.min(Instant::now() + START_INTERVAL);
    }

    /// A result came.
    pub(crate) fn end(&mut self) {
        self.since = Instant::now();
        self.question = self.since + INTERVAL;
        self.has_said = false;
    }

    /// The controller was found again: its jobs are others.
    pub(crate) fn start_again(&mut self) {
        self.end();
        self.waiting = None;
    }

    /// A job has to wait for its window.
    pub(crate) fn wait_for_window(&mut self, job: JobId) {
        self.waiting = Some((job, Instant::now() + WINDOW_WAIT));
    }

    /// A job has a window.
    pub(crate) fn has_window(&mut self, job: JobId) {
        self.waiting = self.waiting.filter(|(waiting, _)| *waiting != job);
    }

    /// The limit, if it has passed. Says once if there is no worker, or no window.
    pub(crate) fn passed(&mut self) -> Option<Duration> {
        let now = Instant::now();
        if self.waiting.take_if(|(_, due)| *due <= now).is_some() {
            say(format_args!(
                "waiting: other jobs of this user have all the room at the controller; see hashctl status"
            ));
        }
        if now >= self.question {
            self.question = now + INTERVAL;
            // A controller that does not answer is told of by the connection with the jobs.
            if !self.has_said && matches!(self.has_workers(), Ok(false)) {
                self.has_said = true;
                say(format_args!("no worker is ready; waiting for one"));
            }
        }
        self.limit.filter(|&limit| now.duration_since(self.since) >= limit)
    }

    /// Longest wait until [`Self::passed`] has to be called.
    pub(crate) fn timeout(&self) -> PollTimeout {
        let limit = self.limit.map(|limit| self.since + limit);
        let due = [limit, self.waiting.map(|(_, due)| due)].into_iter().flatten();
        poll_timeout(due.fold(self.question, Instant::min))
    }

    fn has_workers(&self) -> Result<bool, ClientError> {
        let Ok(mut client) = Client::connect(&self.address) else { return Ok(true) };
        client.set_timeout(Some(ANSWER_LIMIT))?;
        let status = client.status()?;
        Ok(status.workers.iter().any(|worker| worker.health == WorkerHealth::Ready))
    }
}
