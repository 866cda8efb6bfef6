//! Waiting for a cluster that another supervisor has started.

use super::control;
use super::error::Error;
use crate::say::say;
use client::{Address, Client, ClientError, Readiness};
use std::path::Path;
use std::time::Duration;

/// Time limit for the supervisor to answer at all.
const SUPERVISOR_LIMIT: Duration = Duration::from_secs(2);

/// Time limit for the controller to have a worker.
const WORKER_LIMIT: Duration = Duration::from_secs(1);

/// Waits until the supervisor of `run_dir` says that its cluster is ready. A supervisor that does not
/// answer, for which this is false, is not needed while the controller does, and has a worker.
pub(super) fn await_ready(run_dir: &Path) -> Result<bool, Error> {
    let answers = control::ask_within(run_dir, control::PS, SUPERVISOR_LIMIT).is_ok();
    if !answers && has_worker(run_dir) {
        say("its supervisor does not answer, but the controller does");
        return Ok(false);
    }
    control::send(run_dir, "ready").map(|()| true)
}

fn has_worker(run_dir: &Path) -> bool {
    let Ok(address) = Address::in_dir(run_dir) else { return false };
    let Ok(mut client) = Client::connect(&address) else { return false };
    let ready: Result<Readiness, ClientError> = client.wait_ready(1, WORKER_LIMIT);
    ready.is_ok_and(|ready| ready.enough)
}
