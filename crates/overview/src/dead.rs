//! Dead letters for programs: items whose workers were lost, with the reasons.

use crate::JsonName;
use ipc_proto::message::{DeadItem, JobRow, WorkerLoss};
use serde::Serialize;

/// A lost worker.
#[derive(Debug, Serialize)]
pub struct LossObject<'a> {
    worker: &'a str,
    cause: &'static str,
}

impl<'a> LossObject<'a> {
    /// The objects of losses, in their order.
    #[must_use]
    pub fn all(losses: &'a [WorkerLoss]) -> Vec<Self> {
        let object = |loss: &'a WorkerLoss| Self { worker: &loss.worker, cause: loss.cause.name() };
        losses.iter().map(object).collect()
    }
}

/// An item of a job over which workers were lost, with every loss.
#[derive(Debug, Serialize)]
pub struct DeadObject<'a> {
    /// The job; not there where that is said elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(flatten)]
    name: JsonName<'a>,
    index: u64,
    losses: Vec<LossObject<'a>>,
}

impl<'a> DeadObject<'a> {
    /// The object of an item of a job that need not be named.
    #[must_use]
    pub fn new(item: &'a DeadItem) -> Self {
        let (name, losses) = (JsonName::new(&item.name), LossObject::all(&item.losses));
        Self { job: None, key: None, name, index: item.index, losses }
    }

    /// The object of an item of `job`.
    #[must_use]
    pub fn of(job: &'a JobRow, item: &'a DeadItem) -> Self {
        Self { job: Some(job.id.to_string()), key: Some(&job.key), ..Self::new(item) }
    }
}
