//! Rows of each register.

use super::RegisterKind;
use crate::commands::jobs::JobSession;
use crate::commands::status::ask;
use crate::exit::Exit;
use ipc_proto::message::{
    JobFilter, JobRow, ServiceRefusal, ServiceReply, ServiceRequest, WorkerStatus,
};
use overview::{JobObject, bytes, health, worker_json};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// A thing in a register.
#[derive(Clone, Debug)]
pub(super) struct RegisterRow {
    /// Its name, or the id of a job.
    pub(super) id: String,
    /// All of it.
    pub(super) object: Value,
    /// Its columns in a table.
    pub(super) cells: Vec<String>,
}

impl RegisterRow {
    /// True for its name, or the key of a job.
    pub(super) fn is_named(&self, name: &str) -> bool {
        let has_key = self.object.get("key").is_some_and(|key| key == name);
        self.id == name || (has_key && !name.is_empty())
    }

    /// The first of its texts in which `wanted`, in lower case, stands, and the key of that.
    pub(super) fn word_with(&self, wanted: &str) -> Option<(String, String)> {
        let Value::Object(values) = &self.object else { return None };
        values.iter().find_map(|(key, value)| Some((key.clone(), text_with(value, wanted)?)))
    }
}

/// The first text in a value that has `wanted`.
fn text_with(value: &Value, wanted: &str) -> Option<String> {
    match value {
        Value::String(text) => text.to_lowercase().contains(wanted).then(|| text.clone()),
        Value::Array(values) => values.iter().find_map(|value| text_with(value, wanted)),
        Value::Object(values) => values.values().find_map(|value| text_with(value, wanted)),
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

/// The head of a table.
pub(super) fn head(kind: RegisterKind) -> &'static [&'static str] {
    match kind {
        RegisterKind::Workers => &[
            "WORKER", "HEALTH", "VERSION", "BACKEND", "THREADS", "ITEMS/S", "BYTES/S", "ITEMS",
            "BYTES", "LOST",
        ],
        RegisterKind::Jobs => {
            &["JOB", "STATE", "KIND", "ITEMS", "DONE", "FAILED", "BYTES", "USER", "KEY", "LABELS"]
        }
        RegisterKind::Datasets => &["DATASET"],
    }
}

/// All rows of a register.
pub(super) fn all(
    session: &mut JobSession<'_>,
    kind: RegisterKind,
) -> Result<Vec<RegisterRow>, Exit> {
    match kind {
        RegisterKind::Workers => {
            let status = ask(session.config(), |client| client.status())?;
            Ok(status.workers.iter().map(worker).collect())
        }
        RegisterKind::Jobs => Ok(session.jobs(&JobFilter::default())?.iter().map(job).collect()),
        RegisterKind::Datasets => {
            let names =
                ask(session.config(), |client| Ok(client.welcome().planes.datasets.clone()))?;
            let row = |name: String| {
                let object = json!({ "name": name });
                RegisterRow { id: name.clone(), object, cells: vec![name] }
            };
            Ok(names.into_iter().map(row).collect())
        }
    }
}

/// The same; none where there is no such register, as without a journal.
pub(super) fn for_search(
    session: &mut JobSession<'_>,
    kind: RegisterKind,
) -> Result<Vec<RegisterRow>, Exit> {
    if kind == RegisterKind::Jobs {
        let filter = JobFilter::default();
        let request = ServiceRequest::Jobs { filter, after: None, limit: 1 };
        let reply = ask(session.config(), |client| client.service(request))?;
        if matches!(reply, ServiceReply::Refused { reason: ServiceRefusal::NoJournal, .. }) {
            return Ok(Vec::new());
        }
    }
    all(session, kind)
}

fn worker(worker: &WorkerStatus) -> RegisterRow {
    let backends: BTreeSet<&str> =
        worker.backends.iter().flat_map(|chosen| chosen.backend.split('/')).collect();
    RegisterRow {
        id: worker.name.clone(),
        object: worker_json(worker),
        cells: vec![
            worker.name.clone(),
            health(worker.health).to_owned(),
            worker.software.clone(),
            backends.into_iter().collect::<Vec<_>>().join(","),
            worker.threads.to_string(),
            worker.items_per_s.to_string(),
            bytes(worker.bytes_per_s),
            worker.items.to_string(),
            bytes(worker.bytes),
            worker.leases_lost.to_string(),
        ],
    }
}

fn job(row: &JobRow) -> RegisterRow {
    let more = if row.is_complete { "" } else { "+" };
    RegisterRow {
        id: row.id.to_string(),
        object: serde_json::to_value(JobObject::new(row)).unwrap_or_default(),
        cells: vec![
            row.id.to_string(),
            row.state.name().to_owned(),
            overview::kind_name(row.spec.kind).to_owned(),
            format!("{}{more}", row.items),
            row.resolved.to_string(),
            (row.failed + row.mismatched).to_string(),
            bytes(row.bytes),
            row.principal.clone(),
            row.key.clone(),
            row.spec.labels.join(","),
        ],
    }
}
