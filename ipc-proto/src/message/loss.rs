//! Losses: leases that ended without an answer, and why. An item that has several of them fails.

use super::{LimitExceeded, at_most, within};
use crate::limits::{LOSSES_MAX, NAME_LEN_MAX};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A lease that its worker did not answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerLoss {
    /// Name of the worker.
    pub worker: String,
    /// The cause.
    pub cause: LossCause,
}

/// Why a lease has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LossCause {
    /// The worker's connection ended.
    Disconnected,
    /// The worker was silent for too long.
    Silent,
    /// The lease expired.
    Expired,
    /// The worker violated the protocol.
    Violation,
    /// The next worker did not accept the checkpoint that this one sent.
    BadCheckpoint,
}

impl LossCause {
    /// Its word in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Disconnected => "disconnected",
            Self::Silent => "silent",
            Self::Expired => "expired",
            Self::Violation => "violation",
            Self::BadCheckpoint => "bad-checkpoint",
        }
    }
}

impl fmt::Display for LossCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disconnected => "connection lost",
            Self::Silent => "heartbeat timeout",
            Self::Expired => "deadline expired",
            Self::Violation => "protocol violation",
            Self::BadCheckpoint => "checkpoint not accepted",
        })
    }
}

/// Checks the losses of one item.
pub(super) fn check_losses(losses: &[WorkerLoss]) -> Result<(), LimitExceeded> {
    within("losses", losses.len(), 1, LOSSES_MAX)?;
    losses.iter().try_for_each(|loss| at_most("worker", loss.worker.len(), NAME_LEN_MAX))
}
