//! A durable job for programs: the same object in `hashctl jobs --json` and in the HTTP API.

use crate::JsonName;
use ipc_proto::message::{
    AuditBaseline, AuditCounts, AuditFinding, JobKind, JobRoot, JobRow, JobSource,
};
use serde::{Serialize, Serializer};

/// The word for a kind of job.
#[must_use]
pub const fn kind_name(kind: JobKind) -> &'static str {
    match kind {
        JobKind::Sum => "sum",
        JobKind::Check => "check",
        JobKind::Audit => "audit",
        JobKind::Scrub => "scrub",
    }
}

/// The places of a share.
const PLACES: f64 = 4_294_967_296.0;

/// A durable job with stable keys, which `docs/jobs.md` lists.
#[derive(Debug, Serialize)]
pub struct JobObject<'a> {
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
    /// The list of a check or an audit, if it is in the dataset; then each line of a check has its algorithm.
    #[serde(skip_serializing_if = "Option::is_none")]
    manifest: Option<JsonName<'a>>,
    /// The job that an audit is compared with.
    #[serde(skip_serializing_if = "Option::is_none")]
    against_job: Option<String>,
    labels: &'a [String],
    priority: u8,
    /// Bytes per second; none without a limit.
    rate: Option<u64>,
    /// Part of its files, of 1; none for all.
    share: Option<f64>,
    principal: &'a str,
    items: u64,
    complete: bool,
    done: u64,
    failed: u64,
    mismatched: u64,
    /// Files per finding of an audit that is done.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "put_counts")]
    findings: Option<AuditCounts>,
    bytes: u64,
    created: u64,
    started: Option<u64>,
    ended: Option<u64>,
}

#[expect(clippy::ref_option, reason = "the form that serde wants")]
fn put_counts<S: Serializer>(counts: &Option<AuditCounts>, to: S) -> Result<S::Ok, S::Error> {
    let counts = counts.unwrap_or_default();
    to.collect_map(AuditFinding::ALL.map(|finding| (finding.name(), counts.of(finding))))
}

impl<'a> JobObject<'a> {
    /// The object of a job.
    #[must_use]
    pub fn new(row: &'a JobRow) -> Self {
        let spec = &row.spec;
        let (mut manifest, mut against_job) = (None, None);
        let paths = |roots: &'a [JobRoot]| {
            roots.iter().map(|root| JsonName { key: "path", bytes: &root.path }).collect()
        };
        let (dataset, roots) = match &spec.source {
            JobSource::Stored => (None, Vec::new()),
            JobSource::Dataset { name, roots } => (Some(name.as_str()), paths(roots)),
            JobSource::Audit { name, roots, baseline } => {
                match baseline {
                    AuditBaseline::Job(job) => against_job = Some(job.to_string()),
                    AuditBaseline::Manifest { path, .. } => {
                        manifest = Some(JsonName { key: "path", bytes: path });
                    }
                }
                (Some(name.as_str()), paths(roots))
            }
            JobSource::Manifest { name, path, .. } => {
                manifest = Some(JsonName { key: "path", bytes: path });
                (Some(name.as_str()), Vec::new())
            }
        };
        let algorithms = if manifest.is_some() { &[][..] } else { &spec.algorithms[..] };
        let time = |seconds: u64| (seconds > 0).then_some(seconds);
        Self {
            job: row.id.to_string(),
            key: &row.key,
            state: row.state.name(),
            reason: &row.reason,
            kind: kind_name(spec.kind),
            algorithms: algorithms.iter().map(|algorithm| algorithm.name()).collect(),
            dataset,
            roots,
            manifest,
            against_job,
            labels: &spec.labels,
            priority: spec.priority,
            rate: (spec.rate > 0).then_some(spec.rate),
            share: (spec.share.len > 0).then(|| f64::from(spec.share.len) / PLACES),
            principal: &row.principal,
            items: row.items,
            complete: row.is_complete,
            done: row.resolved,
            failed: row.failed,
            mismatched: row.mismatched,
            findings: row.findings,
            bytes: row.bytes,
            created: row.created_s,
            started: time(row.started_s),
            ended: time(row.ended_s),
        }
    }
}
