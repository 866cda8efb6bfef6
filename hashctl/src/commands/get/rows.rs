//! Rows of each register.

use super::{RegisterKind, bridge};
use crate::commands::jobs::{JobSession, dead_items, nonsense};
use crate::commands::schedule::{all as schedules, differences_text, runs_of};
use crate::commands::status::ask;
use crate::exit::Exit;
use crate::lists::quote::quote;
use crate::problem::losses_text;
use ipc_proto::limits::EVENT_ROWS_MAX;
use ipc_proto::message::{
    DeadItem, EventRow, JobFilter, JobRow, RuleRow, RunOutcome, RunRow, ScheduleRow,
    ServiceRefusal, ServiceReply, ServiceRequest, Status,
};
use overview::{
    DeadObject, JobObject, RunObject, ScheduleObject, bytes, health, instruction_sets,
    worker_objects,
};
use serde_json::{Value, json};

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
    /// True for its name, the key of a job, the schedule of a run, and what an event is about.
    pub(super) fn is_named(&self, name: &str) -> bool {
        let is_of = |key: &&str| self.object.get(key).is_some_and(|key| key == name);
        let is_lost = |loss: &Value| loss.get("worker").is_some_and(|worker| worker == name);
        let losses = self.object.get("losses").and_then(Value::as_array);
        self.id == name
            || (!name.is_empty() && ["key", "schedule", "subject", "job"].iter().any(is_of))
            || losses.is_some_and(|losses| losses.iter().any(is_lost))
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
            "WORKER", "HEALTH", "HOST", "VERSION", "BACKEND", "THREADS", "ITEMS/S", "BYTES/S",
            "ITEMS", "BYTES", "LOST",
        ],
        RegisterKind::Jobs => {
            &["JOB", "STATE", "KIND", "ITEMS", "DONE", "FAILED", "BYTES", "USER", "KEY", "LABELS"]
        }
        RegisterKind::Datasets => &["DATASET"],
        RegisterKind::Schedules => {
            &["SCHEDULE", "OWNER", "NEXT", "TASKS", "ACTIVE", "RUNS", "LAST"]
        }
        RegisterKind::Runs => {
            &["RUN", "DUE", "STARTED", "ENDED", "OUTCOME", "FAILED", "DIFFERENCES"]
        }
        RegisterKind::Policies => &["RULE", "WHO", "MAY", "DATASETS", "QUOTA"],
        RegisterKind::Events => &["EVENT", "TIME", "KIND", "SUBJECT", "BY", "TEXT"],
        RegisterKind::Dead => &["ITEM", "KEY", "NAME", "LOST"],
        RegisterKind::Hosts => &[
            "HOST", "STATE", "SHARDS", "DONE", "RETURNED", "DEAD", "BYTES", "SEEN", "CLOCK",
            "VERSION", "DATASETS",
        ],
        RegisterKind::DeadShards => &["SHARD", "TIME", "DATASET", "FILES", "BYTES", "REASONS"],
    }
}

/// All rows of a register; of one that only grows those after number `after`.
pub(super) fn all(
    session: &mut JobSession<'_>,
    kind: RegisterKind,
    after: Option<u64>,
) -> Result<Vec<RegisterRow>, Exit> {
    match kind {
        RegisterKind::Workers => {
            let status = ask(session.config(), |client| client.status())?;
            Ok(worker_objects(&status).into_iter().map(|row| worker(row, &status)).collect())
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
        RegisterKind::Schedules => Ok(schedules(session)?.iter().map(schedule).collect()),
        RegisterKind::Runs => {
            let mut rows = Vec::new();
            for ScheduleRow { name, .. } in schedules(session)? {
                rows.extend(runs_of(session, &name, u32::MAX)?.iter().map(|row| run(&name, row)));
            }
            Ok(rows)
        }
        RegisterKind::Policies => {
            let ServiceReply::Rules(rules) = session.ask(&ServiceRequest::Rules)? else {
                return Err(nonsense());
            };
            Ok((1..).zip(&rules).map(rule).collect())
        }
        RegisterKind::Events => events(session, after.unwrap_or(0)),
        RegisterKind::Dead => {
            let mut rows = Vec::new();
            for job in session.jobs(&JobFilter::default())?.iter().filter(|job| job.failed > 0) {
                rows.extend(dead_items(session, job.id)?.iter().map(|item| dead(job, item)));
            }
            Ok(rows)
        }
        RegisterKind::Hosts | RegisterKind::DeadShards => bridge::rows(kind),
    }
}

/// Events of a worker in the audit trail; none without a journal, or for those who may not read it.
pub(super) fn history(session: &mut JobSession<'_>, name: &str) -> Result<Vec<Value>, Exit> {
    let request = ServiceRequest::Events { after: 0, limit: 1 };
    let reply = ask(session.config(), |client| client.service(request))?;
    if matches!(reply, ServiceReply::Refused { .. }) {
        return Ok(Vec::new());
    }
    let of = |row: &Value, key: &str| row.get(key).and_then(Value::as_str).map(str::to_owned);
    let mut found: Vec<Value> = events(session, 0)?.into_iter().map(|row| row.object).collect();
    found.retain(|row| {
        of(row, "subject").is_some_and(|subject| subject == name)
            && of(row, "event").is_some_and(|event| event.starts_with("worker-"))
    });
    Ok(found.split_off(found.len().saturating_sub(HISTORY_MAX)))
}

/// Most events of a worker's history; the oldest are left out.
const HISTORY_MAX: usize = 100;

fn events(session: &mut JobSession<'_>, mut after: u64) -> Result<Vec<RegisterRow>, Exit> {
    let mut rows = Vec::new();
    loop {
        let limit = u16::try_from(EVENT_ROWS_MAX).unwrap_or(u16::MAX);
        let ServiceReply::Events { rows: page, more } =
            session.ask(&ServiceRequest::Events { after, limit })?
        else {
            return Err(nonsense());
        };
        after = page.last().map_or(after, |row| row.number);
        let is_over = !more || page.is_empty();
        rows.extend(page.iter().map(event));
        if is_over {
            return Ok(rows);
        }
    }
}

/// The same; none where there is no such register, as without a journal, or the policy does not show it.
pub(super) fn for_search(
    session: &mut JobSession<'_>,
    kind: RegisterKind,
) -> Result<Vec<RegisterRow>, Exit> {
    let probe = match kind {
        RegisterKind::Jobs | RegisterKind::Schedules | RegisterKind::Runs | RegisterKind::Dead => {
            let filter = JobFilter::default();
            Some(ServiceRequest::Jobs { filter, after: None, limit: 1 })
        }
        RegisterKind::Events => Some(ServiceRequest::Events { after: 0, limit: 1 }),
        RegisterKind::Policies => Some(ServiceRequest::Rules),
        RegisterKind::Workers
        | RegisterKind::Datasets
        | RegisterKind::Hosts
        | RegisterKind::DeadShards => None,
    };
    if let Some(request) = probe {
        let reply = ask(session.config(), |client| client.service(request))?;
        let (none, hidden) = (ServiceRefusal::NoJournal, ServiceRefusal::Forbidden);
        if matches!(reply, ServiceReply::Refused { reason, .. } if [none, hidden].contains(&reason))
        {
            return Ok(Vec::new());
        }
    }
    all(session, kind, None)
}

fn schedule(row: &ScheduleRow) -> RegisterRow {
    let time = |seconds: Option<i64>| seconds.map_or_else(|| "-".to_owned(), schedule::utc_text);
    let last = row.last.as_ref().and_then(|run| run.outcome);
    RegisterRow {
        id: row.name.clone(),
        object: serde_json::to_value(ScheduleObject::new(row)).unwrap_or_default(),
        cells: vec![
            row.name.clone(),
            row.principal.clone(),
            if row.is_paused { "paused".to_owned() } else { time(row.next_s) },
            row.tasks.to_string(),
            row.active.map_or_else(|| "-".to_owned(), |run| format!("run {run}")),
            row.runs.to_string(),
            last.map_or("-", RunOutcome::name).to_owned(),
        ],
    }
}

fn run(schedule: &str, run: &RunRow) -> RegisterRow {
    let time = |seconds: u64| match i64::try_from(seconds) {
        Ok(1..) => schedule::utc_text(seconds.cast_signed()),
        Ok(_) | Err(_) => "-".to_owned(),
    };
    let is_over = run.ended_s > 0;
    let id = format!("{schedule}/{}", run.run);
    RegisterRow {
        object: serde_json::to_value(RunObject::new(Some(schedule), run)).unwrap_or_default(),
        cells: vec![
            id.clone(),
            if run.is_by_hand { "by hand".to_owned() } else { schedule::utc_text(run.due_s) },
            time(run.started_s),
            time(run.ended_s),
            run.outcome.filter(|_| is_over).map_or("-", RunOutcome::name).to_owned(),
            run.failed.to_string(),
            differences_text(run.changes),
        ],
        id,
    }
}

fn dead(job: &JobRow, item: &DeadItem) -> RegisterRow {
    let id = format!("{}/{}", job.id, item.index);
    RegisterRow {
        object: serde_json::to_value(DeadObject::of(job, item)).unwrap_or_default(),
        cells: vec![id.clone(), job.key.clone(), quote(&item.name), losses_text(&item.losses)],
        id,
    }
}

fn rule((number, rule): (usize, &RuleRow)) -> RegisterRow {
    let words = |word: &str, ids: &[u32]| -> Vec<String> {
        ids.iter().map(|id| format!("{word} {id}")).collect()
    };
    let mut who = [words("uid", &rule.uids), words("gid", &rule.gids)].concat();
    who.extend(rule.has_token.then(|| "holders of a token".to_owned()));
    let quota: Vec<String> =
        rule.quota.iter().map(|(name, bound)| format!("{name} {bound}")).collect();
    let quota_object: serde_json::Map<String, Value> =
        rule.quota.iter().map(|(name, bound)| (name.clone(), json!(bound))).collect();
    RegisterRow {
        id: number.to_string(),
        object: json!({
            "rule": number, "uids": rule.uids, "gids": rule.gids, "token": rule.has_token,
            "may": rule.may, "datasets": rule.datasets, "quota": quota_object,
        }),
        cells: vec![
            number.to_string(),
            who.join(", "),
            rule.may.join(", "),
            rule.datasets.join(", "),
            quota.join(", "),
        ],
    }
}

fn event(row: &EventRow) -> RegisterRow {
    let EventRow { number, at_s, kind, subject, by, text } = row;
    RegisterRow {
        id: number.to_string(),
        object: json!({
            "id": number, "time": at_s, "event": kind, "subject": subject, "by": by, "text": text,
        }),
        cells: vec![
            number.to_string(),
            i64::try_from(*at_s).map_or_else(|_| "-".to_owned(), schedule::utc_text),
            kind.clone(),
            subject.clone(),
            by.clone(),
            text.clone(),
        ],
    }
}

fn worker(object: Value, status: &Status) -> RegisterRow {
    let name = object.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let is_connected = object.get("connected") == Some(&Value::Bool(true));
    let here = status.workers.iter().find(|row| row.name == name).filter(|_| is_connected);
    let Some(row) = here else {
        let health = if object.get("quarantine").is_some() { "quarantined" } else { "drained" };
        let mut cells = vec![name.clone(), format!("{health}, away")];
        cells.resize(head(RegisterKind::Workers).len(), "-".to_owned());
        return RegisterRow { id: name, object, cells };
    };
    let or_none = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    RegisterRow {
        object,
        cells: vec![
            name.clone(),
            health(row.health).to_owned(),
            or_none(&row.host),
            row.software.clone(),
            instruction_sets(row),
            row.threads.to_string(),
            row.items_per_s.to_string(),
            bytes(row.bytes_per_s),
            row.items.to_string(),
            bytes(row.bytes),
            row.leases_lost.to_string(),
        ],
        id: name,
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
            row.bad_items().to_string(),
            bytes(row.bytes),
            row.principal.clone(),
            row.key.clone(),
            row.spec.labels.join(","),
        ],
    }
}
