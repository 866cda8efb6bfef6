//! Jobs as text and as JSON.

use crate::columns::columns;
use crate::json::put_line;
use crate::lists::quote::quote;
use crate::problem::losses_text;
use ipc_proto::message::{AuditBaseline, DeadItem, JobRoot, JobRow, JobSource};
use overview::{DeadObject, JobObject, bytes, kind_name};
use serde::Serialize;
use std::fmt::Write;

/// Text of another user that a terminal takes as it is.
fn plain(text: &str) -> String {
    overview::one_line(text)
}

/// State of a job and its counts, in one line.
pub(super) fn outcome(row: &JobRow) -> String {
    let total = if row.is_complete { String::new() } else { "+".to_owned() };
    let mut text = format!("{}, {} of {}{total}", row.state.name(), row.resolved, row.items);
    for (count, what) in [(row.failed, "failed"), (row.mismatched, "do not match")] {
        if count > 0 {
            let _ = write!(text, ", {count} {what}");
        }
    }
    if let Some(findings) = row.findings.map(|findings| findings.to_string())
        && !findings.is_empty()
    {
        let _ = write!(text, ", {findings}");
    }
    if !row.reason.is_empty() {
        let _ = write!(text, ": {}", plain(&row.reason));
    }
    text
}

/// A table of jobs.
pub(super) fn table(rows: &[JobRow]) -> String {
    let head = ["JOB", "STATE", "KIND", "ITEMS", "DONE", "FAILED", "BYTES", "KEY", "LABELS"];
    let cells = rows.iter().map(|row| {
        let more = if row.is_complete { "" } else { "+" };
        [
            row.id.to_string(),
            row.state.name().to_owned(),
            kind_name(row.spec.kind).to_owned(),
            format!("{}{more}", row.items),
            row.resolved.to_string(),
            row.bad_items().to_string(),
            bytes(row.bytes),
            plain(&row.key),
            plain(&row.spec.labels.join(",")),
        ]
    });
    columns(head, cells)
}

fn directories(roots: &[JobRoot]) -> String {
    let roots = roots.iter().map(|root| match &root.path[..] {
        b"" => ".".to_owned(),
        path => plain(&String::from_utf8_lossy(path)),
    });
    roots.collect::<Vec<_>>().join(", ")
}

/// Everything about a job.
pub(super) fn details(row: &JobRow) -> String {
    let spec = &row.spec;
    let source = match &spec.source {
        JobSource::Stored => "stored items".to_owned(),
        JobSource::Dataset { name, roots } => format!("dataset {name}: {}", directories(roots)),
        JobSource::Audit { name, roots, baseline } => {
            let with = match baseline {
                AuditBaseline::Job(job) => format!("job {job}"),
                AuditBaseline::Manifest { path, .. } => {
                    format!("the list {}", plain(&String::from_utf8_lossy(path)))
                }
            };
            format!("dataset {name}: {}, compared with {with}", directories(roots))
        }
        JobSource::Manifest { name, path, base } => {
            let base = if base.is_empty() { "." } else { &*String::from_utf8_lossy(base) };
            let path = String::from_utf8_lossy(path);
            plain(&format!("dataset {name}: files of the list {path}, in {base}"))
        }
    };
    let algorithms = match spec.source {
        JobSource::Manifest { .. }
        | JobSource::Audit { baseline: AuditBaseline::Manifest { .. }, .. } => {
            "those of the list".to_owned()
        }
        JobSource::Stored | JobSource::Dataset { .. } | JobSource::Audit { .. } => {
            spec.algorithms.to_string()
        }
    };
    let time = |seconds: u64| match i64::try_from(seconds) {
        Ok(0) => "-".to_owned(),
        Ok(seconds) => schedule::utc_text(seconds),
        Err(_) => format!("@{seconds}"),
    };
    let rate = match spec.rate {
        0 => "-".to_owned(),
        rate => format!("{}/s", bytes(rate)),
    };
    let share = match spec.share.len {
        0 => "all files".to_owned(),
        len => format!("{:.4} % of the files", f64::from(len) / f64::from(u32::MAX) * 100.0),
    };
    let mut text = String::new();
    for (name, value) in [
        ("job", row.id.to_string()),
        ("key", plain(&row.key)),
        ("state", outcome(row)),
        ("kind", kind_name(spec.kind).to_owned()),
        ("algorithms", algorithms),
        ("source", source),
        ("labels", plain(&spec.labels.join(", "))),
        ("priority", spec.priority.to_string()),
        ("rate", rate),
        ("share", share),
        ("bytes", bytes(row.bytes)),
        ("submitted by", plain(&row.principal)),
        ("submitted", time(row.created_s)),
        ("started", time(row.started_s)),
        ("ended", time(row.ended_s)),
    ] {
        let _ = writeln!(text, "{name:<13}{value}");
    }
    text
}

/// Items whose workers were lost, one per line.
pub(super) fn dead(items: &[DeadItem]) -> String {
    let mut text = String::new();
    for item in items {
        let losses = losses_text(&item.losses);
        let _ = writeln!(text, "{:<13}{}: lost {losses}", "dead", quote(&item.name));
    }
    text
}

#[derive(Serialize)]
struct JobLine<'a> {
    #[serde(flatten)]
    job: JobObject<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    dead: Vec<DeadObject<'a>>,
}

/// A line of JSON.
pub(super) fn json(row: &JobRow) -> String {
    json_with(row, &[])
}

/// A line of JSON, with the items whose workers were lost.
pub(super) fn json_with(row: &JobRow, dead: &[DeadItem]) -> String {
    let line =
        JobLine { job: JobObject::new(row), dead: dead.iter().map(DeadObject::new).collect() };
    let mut text = Vec::new();
    put_line(&line, &mut text);
    String::from_utf8(text).expect("JSON is text")
}
