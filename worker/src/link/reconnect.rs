//! Reconnecting: one connection after the other, with growing pauses between failures.
//!
//! No path is resolved after the start: [`Dialer::new`] makes the directory of the controller's socket the
//! working directory, and every connection is to a plain name in it. `docs/decisions/0019` has why.

use crate::link::connection::{self, Ended};
use crate::link::hang::HangDetector;
use crate::link::shutdown::Shutdown;
use crate::log::{Event, LOG};
use crate::pool::Pool;
use engine::input::dataset::Datasets;
use ipc_proto::endpoint::Endpoint;
use ipc_proto::message::{RefuseReason, Role, WorkerIntro};
use ipc_socket::{ConnectError, Connection};
use std::env;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The pause after the first failure.
const PAUSE_MIN: Duration = Duration::from_millis(50);

/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// The way to the controller, as far as it was prepared before the sandbox.
#[derive(Debug)]
pub struct Dialer {
    /// For messages.
    endpoint: Endpoint,
    /// For connecting: in the working directory, if it is a socket there.
    local: Endpoint,
}

impl Dialer {
    /// Prepares to connect to `endpoint`: the directory of its socket becomes the working directory.
    ///
    /// # Errors
    /// The directory cannot be entered.
    pub fn new(endpoint: Endpoint) -> io::Result<Self> {
        let local = match &endpoint {
            Endpoint::Unix(path) => Endpoint::Unix(enter(path)?),
            Endpoint::VsockUnix { path, port } => {
                Endpoint::VsockUnix { path: enter(path)?, port: *port }
            }
            Endpoint::Vsock { .. } => endpoint.clone(),
        };
        Ok(Self { endpoint, local })
    }

    /// Returns true if descriptors can arrive over it.
    #[must_use]
    pub fn carries_descriptors(&self) -> bool {
        self.endpoint.carries_descriptors()
    }

    /// Returns true if the socket is in the working directory.
    #[must_use]
    pub fn is_in_working_directory(&self) -> bool {
        !matches!(self.local, Endpoint::Vsock { .. })
    }

    /// Returns true if the directory of the socket was removed.
    fn is_directory_removed(&self) -> bool {
        self.is_in_working_directory() && env::current_dir().is_err()
    }

    fn dial(&self, intro: &WorkerIntro) -> Result<Connection, ConnectError> {
        Connection::open(&self.local, Role::Worker(intro.clone()))
    }
}

/// Enters the directory of a socket, and returns the socket's name in it.
fn enter(socket: &Path) -> io::Result<PathBuf> {
    let name = socket.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    if let Some(dir) = socket.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        env::set_current_dir(dir)?;
    }
    Ok(Path::new(".").join(name))
}

/// A controller that will not have this worker, however often it asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Where.
    pub endpoint: Endpoint,
    /// Why, for a program.
    pub reason: RefuseReason,
    /// Why, in the controller's words.
    pub text: String,
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { endpoint, reason, text } = self;
        write!(f, "the controller at {endpoint} refuses this worker: {text}")?;
        match reason {
            RefuseReason::Version => f.write_str("; install the same release on both sides"),
            RefuseReason::Forbidden => {
                f.write_str("; run it as the controller's user, or allow this one with --allow-uid")
            }
            RefuseReason::WrongSocket => f.write_str("; connect to the workers' socket"),
            RefuseReason::NotOurs
            | RefuseReason::NameTaken
            | RefuseReason::Busy
            | RefuseReason::Timeout => Ok(()),
        }
    }
}

impl std::error::Error for Rejected {}

/// Reasons not to reconnect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReconnectError {
    /// The controller will not have this worker.
    Rejected(Rejected),
    /// The directory of the controller's socket was removed: a new one of that name is another one.
    DirectoryRemoved(Endpoint),
}

impl fmt::Display for ReconnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected(rejected) => rejected.fmt(f),
            Self::DirectoryRemoved(endpoint) => {
                write!(f, "the directory of {endpoint} was removed; start this worker again")
            }
        }
    }
}

impl std::error::Error for ReconnectError {}

/// Serves the controller at `dialer`, reconnecting whenever needed, until it drains this worker or
/// `shutdown` is requested.
///
/// # Errors
/// See [`ReconnectError`].
pub fn run(
    dialer: &Dialer,
    intro: &WorkerIntro,
    pool: &Pool,
    credit: u16,
    datasets: &Arc<Datasets>,
    shutdown: &Shutdown,
    hang_detector: &HangDetector,
) -> Result<(), ReconnectError> {
    let endpoint = &dialer.endpoint;
    let mut backoff = ReconnectBackoff::default();
    while !shutdown.is_requested() {
        let threads = hang_detector.working_threads();
        match dialer.dial(&WorkerIntro { threads, ..intro.clone() }) {
            Ok(connection) => {
                LOG.log_change(&Event::Connected { endpoint });
                match connection::serve(connection, pool, credit, datasets, shutdown, hang_detector)
                {
                    Ended::Left => break,
                    Ended::Lost { reason, proven } => {
                        LOG.log_change(&Event::Lost { endpoint, reason: &reason });
                        if proven {
                            backoff = ReconnectBackoff::default();
                        }
                    }
                }
            }
            Err(ConnectError::Refused { reason, text }) if is_final(reason) => {
                let endpoint = endpoint.clone();
                return Err(ReconnectError::Rejected(Rejected { endpoint, reason, text }));
            }
            Err(_) if dialer.is_directory_removed() => {
                return Err(ReconnectError::DirectoryRemoved(endpoint.clone()));
            }
            Err(error) => LOG.log_change(&Event::NoConnection { endpoint, error: &error }),
        }
        if shutdown.wait(backoff.next(RandomState::new().hash_one(0))) {
            break;
        }
    }
    Ok(())
}

/// Returns true if a retry cannot help. A name may be taken only by our own last connection, whose
/// end the controller has not seen yet.
fn is_final(reason: RefuseReason) -> bool {
    match reason {
        RefuseReason::NotOurs
        | RefuseReason::Version
        | RefuseReason::Forbidden
        | RefuseReason::WrongSocket => true,
        RefuseReason::NameTaken | RefuseReason::Busy | RefuseReason::Timeout => false,
    }
}

/// Pauses that double up to [`PAUSE_MAX`], each shortened by a random half at most.
#[derive(Debug)]
struct ReconnectBackoff(Duration);

impl Default for ReconnectBackoff {
    fn default() -> Self {
        Self(PAUSE_MIN)
    }
}

impl ReconnectBackoff {
    fn next(&mut self, random: u64) -> Duration {
        let whole = self.0;
        self.0 = (2 * whole).min(PAUSE_MAX);
        let half_us = u64::try_from(whole.as_micros() / 2).unwrap_or(u64::MAX);
        whole / 2 + Duration::from_micros(random % (half_us + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_limit_and_start_again_small() {
        let mut backoff = ReconnectBackoff::default();
        for want_ms in [50, 100, 200, 400, 800, 1600, 3200, 5000, 5000] {
            let whole = Duration::from_millis(want_ms);
            let mut twin = ReconnectBackoff(backoff.0);
            assert_eq!(twin.next(0), whole / 2);
            let got = backoff.next(u64::MAX / 3);
            assert!(got >= whole / 2 && got <= whole, "{got:?} of {whole:?}");
        }
        assert!(ReconnectBackoff::default().next(7) <= PAUSE_MIN);
    }

    #[test]
    fn a_rejection_says_what_to_do() {
        let rejected = |reason| {
            let endpoint = Endpoint::Unix("/run/x/worker.sock".into());
            let text = "uid 7".to_owned();
            Rejected { endpoint, reason, text }.to_string()
        };
        assert_eq!(
            rejected(RefuseReason::Forbidden),
            "the controller at /run/x/worker.sock refuses this worker: uid 7; \
             run it as the controller's user, or allow this one with --allow-uid"
        );
        assert!(rejected(RefuseReason::Version).ends_with("same release on both sides"));
        assert!(rejected(RefuseReason::WrongSocket).ends_with("the workers' socket"));
    }
}
