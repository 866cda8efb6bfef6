//! Silence: no result comes. The controller is asked for the reason from time to time, and a limit that a
//! person gave ends the run.

use crate::progress::poll_timeout;
use crate::say::say;
use client::{Address, Client, ClientError};
use ipc_proto::message::WorkerHealth;
use nix::poll::PollTimeout;
use std::time::{Duration, Instant};

/// Interval between two questions.
const INTERVAL: Duration = Duration::from_secs(3);

/// Time limit for an answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Silence {
    address: Address,
    limit: Option<Duration>,
    since: Instant,
    asked: Instant,
    has_said: bool,
}

impl Silence {
    pub(crate) fn new(address: Address, limit: Option<Duration>) -> Self {
        let now = Instant::now();
        Self { address, limit, since: now, asked: now, has_said: false }
    }

    /// It was said already that there is no worker.
    pub(crate) fn is_known(&mut self) {
        self.has_said = true;
    }

    /// A result came.
    pub(crate) fn end(&mut self) {
        self.since = Instant::now();
        self.asked = self.since;
        self.has_said = false;
    }

    /// The limit, if it has passed. Says once if there is no worker.
    pub(crate) fn passed(&mut self) -> Option<Duration> {
        let now = Instant::now();
        if now.duration_since(self.asked) >= INTERVAL {
            self.asked = now;
            // A controller that does not answer is told of by the connection with the jobs.
            if !self.has_said && matches!(self.has_workers(), Ok(false)) {
                self.has_said = true;
                say(format_args!("no worker is ready any more; waiting for one"));
            }
        }
        self.limit.filter(|&limit| now.duration_since(self.since) >= limit)
    }

    /// Longest wait until [`Self::passed`] has to be called.
    pub(crate) fn timeout(&self) -> PollTimeout {
        let question = self.asked + INTERVAL;
        poll_timeout(self.limit.map_or(question, |limit| question.min(self.since + limit)))
    }

    fn has_workers(&self) -> Result<bool, ClientError> {
        let Ok(mut client) = Client::connect(&self.address) else { return Ok(true) };
        client.set_timeout(Some(ANSWER_LIMIT))?;
        let status = client.status()?;
        Ok(status.workers.iter().any(|worker| worker.health == WorkerHealth::Ready))
    }
}
