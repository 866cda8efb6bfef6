//! Staying connected: one connection after the other, with growing pauses between failures.

use crate::link::connection::{self, Ended};
use crate::link::shutdown::Stop;
use crate::log;
use crate::pool::Pool;
use engine::input::dataset::Datasets;
use ipc_proto::endpoint::Endpoint;
use ipc_proto::message::{RefuseReason, Role, WorkerIntro};
use ipc_socket::{ConnectError, Connection};
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

/// The pause after the first failure.
const PAUSE_MIN: Duration = Duration::from_millis(50);

/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(5);

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
            RefuseReason::WrongSocket => f.write_str("; give it the workers' socket"),
            RefuseReason::NotOurs
            | RefuseReason::NameTaken
            | RefuseReason::Busy
            | RefuseReason::Timeout => Ok(()),
        }
    }
}

impl std::error::Error for Rejected {}

/// Works for the controller at `endpoint`, whenever it is there, until it or `stop` says that it
/// is enough.
///
/// # Errors
/// [`Rejected`].
pub fn run(
    endpoint: &Endpoint,
    intro: &WorkerIntro,
    pool: &Pool,
    credit: u16,
    datasets: &Arc<Datasets>,
    stop: &Stop,
) -> Result<(), Rejected> {
    let mut pause = Pause::default();
    let mut said = Said::default();
    while !stop.is_requested() {
        match Connection::open(endpoint, Role::Worker(intro.clone())) {
            Ok(connection) => {
                said.line(format_args!("connected to the controller at {endpoint}"));
                match connection::serve(connection, pool, credit, datasets, stop) {
                    Ended::Left => break,
                    Ended::Lost { reason, proven } => {
                        said.line(format_args!("lost the controller at {endpoint}: {reason}"));
                        if proven {
                            pause = Pause::default();
                        }
                    }
                }
            }
            Err(ConnectError::Refused { reason, text }) if is_final(reason) => {
                return Err(Rejected { endpoint: endpoint.clone(), reason, text });
            }
            Err(error) => said.line(format_args!(
                "no connection to the controller at {endpoint}: {error}; trying until there is one"
            )),
        }
        if stop.wait(pause.next(RandomState::new().hash_one(0))) {
            break;
        }
    }
    Ok(())
}

/// Whether asking again cannot help. A name may be taken only by our own last connection, whose
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

/// Says what changes, not what stays.
#[derive(Debug, Default)]
struct Said(String);

impl Said {
    fn line(&mut self, text: fmt::Arguments<'_>) {
        let text = text.to_string();
        if self.0 != text {
            log::line(format_args!("{text}"));
            self.0 = text;
        }
    }
}

/// Pauses that double up to [`PAUSE_MAX`], each a random half to whole of its turn's.
#[derive(Debug)]
struct Pause(Duration);

impl Default for Pause {
    fn default() -> Self {
        Self(PAUSE_MIN)
    }
}

impl Pause {
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
        let mut pause = Pause::default();
        for want_ms in [50, 100, 200, 400, 800, 1600, 3200, 5000, 5000] {
            let whole = Duration::from_millis(want_ms);
            let mut twin = Pause(pause.0);
            assert_eq!(twin.next(0), whole / 2);
            let got = pause.next(u64::MAX / 3);
            assert!(got >= whole / 2 && got <= whole, "{got:?} of {whole:?}");
        }
        assert!(Pause::default().next(7) <= PAUSE_MIN);
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
