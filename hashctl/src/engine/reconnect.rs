//! A controller that went away and comes back, as it does when it restarts: the run goes on over a new connection, and
//! files without a result are opened and sent again. What was printed stays as it is.

use super::{Broken, Printer, Run};
use crate::config::Config;
use crate::progress::poll_timeout;
use crate::say::say;
use client::{Address, Client, ClientError, ConnectError};
use ipc_proto::message::{Planes, RefuseReason};
use nix::poll::{PollFd, PollFlags, poll};
use std::hash::{BuildHasher, RandomState};
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Time for which a lost controller is looked for.
const RECONNECT_TIME: Duration = Duration::from_secs(30);

/// Shortest and longest pause between two attempts, and the jitter: all that lost it do not come back at the same
/// moment.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);
const JITTER_PERCENT: u64 = 50;

impl Run {
    /// Prints everything, over as many connections as it takes.
    pub(super) fn all(
        &mut self,
        config: &Config,
        planes: &Planes,
        printer: &mut impl Printer,
    ) -> Result<(), Broken> {
        loop {
            match self.all_of_connection(printer) {
                Err(Broken::Controller(error)) if error.is_loss() => {
                    self.reconnect(config, planes, error)?;
                }
                ended => return ended,
            }
        }
    }

    /// Finds the controller again, and sends it what has no result.
    pub(super) fn reconnect(
        &mut self,
        config: &Config,
        planes: &Planes,
        lost: ClientError,
    ) -> Result<(), Broken> {
        let limit = config.timeout.unwrap_or(RECONNECT_TIME).min(RECONNECT_TIME);
        say(format_args!(
            "lost the controller at {}; looking for it for {} s",
            config.endpoint_text(),
            limit.as_secs()
        ));
        let Some(client) = self.find_again(config, Instant::now() + limit)? else {
            return self.give_up_on(lost);
        };
        // Another route would be for other files.
        if client.welcome().planes != *planes {
            return self.give_up_on(lost);
        }
        let tags = self.submitter.reconnect(client, &mut self.replies);
        let Some(files) = tags.and_then(|tags| self.reorder.unanswered(&tags)) else {
            say(format_args!("it is back, but a stream was in the middle and cannot go on"));
            return self.give_up_on(lost);
        };
        if config.verbose {
            say(format_args!("it is back; {} files are sent again", files.len()));
        }
        self.silence.start_again();
        if let Some(resender) = &mut self.resender {
            resender.give(files);
        }
        Ok(())
    }

    fn give_up_on(&self, lost: ClientError) -> Result<(), Broken> {
        self.submitter.stop();
        Err(Broken::Controller(lost))
    }

    /// A connection to the controller, unless there is none before `deadline`.
    fn find_again(&self, config: &Config, deadline: Instant) -> Result<Option<Client>, Broken> {
        let mut pause = PAUSE_MIN;
        loop {
            if self.is_interrupted.load(Ordering::Acquire) {
                return Err(Broken::Interrupted);
            }
            match Client::connect(&address(config)) {
                Ok(client) => return Ok(Some(client)),
                Err(error) if !may_pass(&error) => return Ok(None),
                Err(_) if Instant::now() >= deadline => return Ok(None),
                Err(_) => {}
            }
            let jitter = RandomState::new().hash_one(0) % JITTER_PERCENT;
            let percent = u32::try_from(100 - JITTER_PERCENT / 2 + jitter).unwrap_or(100);
            let next = (Instant::now() + pause * percent / 100).min(deadline);
            // A signal ends the wait.
            let mut fds = [PollFd::new(self.reorder.as_fd(), PollFlags::POLLIN)];
            let _ = poll(&mut fds, poll_timeout(next));
            self.reorder.clear_wakes();
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}

/// Where the controller is now: after a restart it can have another token.
fn address(config: &Config) -> Address {
    let found = config.rediscovered_in.as_ref().and_then(|dir| Address::in_dir(dir).ok());
    found.unwrap_or_else(|| config.address.clone())
}

/// True if the controller may be about to start.
fn may_pass(error: &ConnectError) -> bool {
    match error {
        ConnectError::Io(_) | ConnectError::Wire(_) => true,
        ConnectError::Refused { reason, .. } => {
            matches!(reason, RefuseReason::Busy | RefuseReason::Timeout)
        }
        ConnectError::Protocol(_) => false,
    }
}
