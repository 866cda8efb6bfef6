//! Jobs as text and as JSON.

use crate::json::{JsonName, put_line};
use ipc_proto::message::{JobKind, JobRow, JobSource};
use overview::bytes;
use serde::Serialize;
use std::fmt::Write;

fn kind_name(kind: JobKind) -> &'static str {
    match kind {
        JobKind::Sum => "sum",
        JobKind::Check => "check",
    }
}

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
    if !row.reason.is_empty() {
        let _ = write!(text, ": {}", plain(&row.reason));
    }
    text
}

/// A table of jobs.
pub(super) fn table(rows: &[JobRow]) -> String {
    let head = ["JOB", "STATE", "KIND", "ITEMS", "DONE", "FAILED", "BYTES", "KEY", "LABELS"];
    let mut lines = vec![head.map(str::to_owned)];
    lines.extend(rows.iter().map(|row| {
        let more = if row.is_complete { "" } else { "+" };
        [
            row.id.to_string(),
            row.state.name().to_owned(),
            kind_name(row.spec.kind).to_owned(),
            format!("{}{more}", row.items),
            row.resolved.to_string(),
            (row.failed + row.mismatched).to_string(),
            bytes(row.bytes),
            plain(&row.key),
            plain(&row.spec.labels.join(",")),
        ]
    }));
    let mut widths = [0; 9];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for line in &lines {
        let mut row = String::new();
        for (width, cell) in widths.into_iter().zip(line) {
            let _ = write!(row, "{cell:<width$}  ");
        }
        text.push_str(row.trim_end());
        text.push('\n');
    }
    text
}

/// Everything about a job.
pub(super) fn details(row: &JobRow) -> String {
    let spec = &row.spec;
    let source = match &spec.source {
        JobSource::Stored => "stored items".to_owned(),
        JobSource::Dataset { name, roots } => {
            let roots: Vec<String> = roots
                .iter()
                .map(|root| {
                    plain(&String::from_utf8_lossy(if root.path.is_empty() {
                        b"."
                    } else {
                        &root.path
                    }))
                })
                .collect();
            format!("dataset {name}: {}", roots.join(", "))
        }
    };
    let time = |seconds: u64| if seconds == 0 { "-".to_owned() } else { format!("@{seconds}") };
    let mut text = String::new();
    for (name, value) in [
        ("job", row.id.to_string()),
        ("key", plain(&row.key)),
        ("state", outcome(row)),
        ("kind", kind_name(spec.kind).to_owned()),
        ("algorithms", spec.algorithms.to_string()),
        ("source", source),
        ("labels", plain(&spec.labels.join(", "))),
        ("priority", spec.priority.to_string()),
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

#[derive(Serialize)]
struct JobLine<'a> {
    job: String,
    key: &'a str,
    state: &'static str,
    reason: &'a str,
    kind: &'static str,
    algorithms: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dataset: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    roots: Vec<JsonName<'a>>,
    labels: &'a [String],
    priority: u8,
    principal: &'a str,
    items: u64,
    complete: bool,
    done: u64,
    failed: u64,
    mismatched: u64,
    bytes: u64,
    created: u64,
    started: Option<u64>,
    ended: Option<u64>,
}

/// A line of JSON.
pub(super) fn json(row: &JobRow) -> String {
    let spec = &row.spec;
    let (dataset, roots) = match &spec.source {
        JobSource::Stored => (None, Vec::new()),
        JobSource::Dataset { name, roots } => {
            let paths = roots.iter().map(|root| JsonName { key: "path", bytes: &root.path });
            (Some(name.as_str()), paths.collect())
        }
    };
    let time = |seconds: u64| (seconds > 0).then_some(seconds);
    let line = JobLine {
        job: row.id.to_string(),
        key: &row.key,
        state: row.state.name(),
        reason: &row.reason,
        kind: kind_name(spec.kind),
        algorithms: spec.algorithms.iter().map(|algorithm| algorithm.name()).collect(),
        dataset,
        roots,
        labels: &spec.labels,
        priority: spec.priority,
        principal: &row.principal,
        items: row.items,
        complete: row.is_complete,
        done: row.resolved,
        failed: row.failed,
        mismatched: row.mismatched,
        bytes: row.bytes,
        created: row.created_s,
        started: time(row.started_s),
        ended: time(row.ended_s),
    };
    let mut text = Vec::new();
    put_line(&line, &mut text);
    String::from_utf8(text).expect("JSON is text")
}
