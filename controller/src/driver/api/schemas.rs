//! Schemas of the bodies that the API takes and gives (JSON Schema 2020-12, as OpenAPI 3.1 has it).

use super::routes::{ITEM_MAX, STATES};
use ipc_proto::Algorithm;
use ipc_proto::limits::{
    DATASET_LEN_MAX, ITEM_ALGORITHMS_MAX, JOB_LABELS_MAX, JOB_PRIORITY_MAX, JOB_ROOTS_MAX,
    NAME_LEN_MAX, PATH_LEN_MAX,
};
use ipc_proto::message::{AuditFinding, DifferenceKind, JobState, RunOutcome};
use serde_json::{Map, Value, json};

/// An object with these properties, of which `required` ones are always there.
fn object(required: &[(&str, Value)], optional: &[(&str, Value)]) -> Value {
    let names: Vec<&str> = required.iter().map(|(name, _)| *name).collect();
    let all = required.iter().chain(optional);
    let properties: Map<String, Value> =
        all.map(|(name, schema)| ((*name).to_owned(), schema.clone())).collect();
    json!({ "type": "object", "required": names, "properties": properties })
}

/// The same, of which a client sends no others.
fn strict(required: &[(&str, Value)], optional: &[(&str, Value)]) -> Value {
    let mut schema = object(required, optional);
    schema["additionalProperties"] = false.into();
    schema
}

fn array(of: &Value) -> Value {
    json!({ "type": "array", "items": of })
}

fn text() -> Value {
    json!({ "type": "string" })
}

fn number() -> Value {
    json!({ "type": "integer", "minimum": 0 })
}

fn boolean() -> Value {
    json!({ "type": "boolean" })
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

/// The id of a job.
pub(super) fn job_id() -> Value {
    json!({ "type": "string", "pattern": "^[0-3]?[0-9]{1,9}-[0-9]{1,19}$", "examples": ["1800000000-7"] })
}

/// The state of a job.
pub(super) fn job_state() -> Value {
    json!({ "type": "string", "enum": STATES.map(JobState::name) })
}

fn algorithm() -> Value {
    json!({ "type": "string", "enum": Algorithm::ALL.map(Algorithm::name) })
}

/// All schemas, by their names.
pub(super) fn schemas() -> Value {
    let page = |name: &str, of: &str, more: &[(&str, Value)], optional: &[(&str, Value)]| {
        let mut required = vec![(name, array(&reference(of)))];
        required.extend(more.iter().cloned());
        object(&required, optional)
    };
    json!({
        "Problem": object(
            &[("title", text()), ("status", number()), ("detail", text())],
            &[("see", json!({ "type": "string", "description": "Path of what may have been meant." }))],
        ),
        "Job": job(),
        "JobPage": page(
            "jobs",
            "Job",
            &[],
            &[("next", json!({ "type": "string", "description": "Path of the next page, if there is one." }))],
        ),
        "Event": object(
            &[
                ("id", number()),
                ("time", number()),
                ("event", text()),
                ("subject", text()),
                ("by", text()),
                ("text", text()),
            ],
            &[],
        ),
        "EventPage": page("events", "Event", &[], &[("next", text())]),
        "Dead": object(
            &[
                ("job", job_id()),
                ("key", text()),
                ("index", number()),
                ("losses", array(&object(&[("worker", text()), ("cause", text())], &[]))),
            ],
            &[("name", text()), ("name_b64", text())],
        ),
        "DeadPage": page("dead", "Dead", &[], &[("next", text())]),
        "Schedule": schedule(),
        "SchedulePage": page("schedules", "Schedule", &[], &[("next", text())]),
        "Run": run(&[("schedule", text())]),
        "RunPage": page("runs", "Run", &[], &[("next", text())]),
        "Item": item(),
        "Finding": finding(),
        "FindingPage": page("findings", "Finding", &[], &[("next", text())]),
        "Worker": worker(),
        "WorkerPage": page("workers", "Worker", &[("unlisted", number())], &[]),
        "Dataset": object(&[("name", text())], &[]),
        "DatasetPage": page("datasets", "Dataset", &[], &[]),
        "NewItem": new_item(),
        "NewJob": new_job(),
    })
}

fn schedule() -> Value {
    let mut last = run(&[]);
    last["type"] = json!(["object", "null"]);
    object(
        &[
            ("schedule", text()),
            ("owner", text()),
            ("own", boolean()),
            ("timezone", text()),
            ("paused", boolean()),
            ("next", json!({ "type": ["integer", "null"], "description": "Its next due time." })),
            ("tasks", number()),
            (
                "active",
                json!({ "type": ["integer", "null"], "description": "Number of the active run." }),
            ),
            ("runs", number()),
            ("last", last),
        ],
        &[],
    )
}

/// A run, with these properties more.
fn run(more: &[(&str, Value)]) -> Value {
    let counts: Vec<(&str, Value)> =
        DifferenceKind::ALL.iter().map(|kind| (kind.name(), number())).collect();
    let mut differences = object(&counts, &[]);
    differences["type"] = json!(["object", "null"]);
    let outcomes = RunOutcome::ALL.iter().map(|outcome| json!(outcome.name()));
    let outcomes: Vec<Value> = outcomes.chain([Value::Null]).collect();
    let mut required = vec![
        ("run", number()),
        ("due", json!({ "type": "integer" })),
        ("by_hand", boolean()),
        ("started", number()),
        ("ended", json!({ "type": ["integer", "null"] })),
        ("outcome", json!({ "enum": outcomes })),
        ("failed", number()),
        ("differences", differences),
    ];
    required.extend(more.iter().cloned());
    object(&required, &[])
}

fn job() -> Value {
    let time = json!({ "type": ["integer", "null"], "description": "Seconds since 1970; null for not yet." });
    let path = object(&[], &[("path", text()), ("path_b64", text())]);
    let findings = AuditFinding::ALL.map(|finding| (finding.name(), number()));
    let findings = object(&findings, &[]);
    object(
        &[
            ("job", job_id()),
            ("key", text()),
            ("state", job_state()),
            ("reason", text()),
            ("kind", json!({ "type": "string", "enum": ["sum", "check", "audit", "scrub"] })),
            ("algorithms", array(&algorithm())),
            ("labels", array(&text())),
            ("priority", number()),
            ("rate", json!({ "type": ["integer", "null"] })),
            ("share", json!({ "type": ["number", "null"] })),
            ("principal", text()),
            ("items", number()),
            ("complete", boolean()),
            ("done", number()),
            ("failed", number()),
            ("mismatched", number()),
            ("bytes", number()),
            ("created", number()),
            ("started", time.clone()),
            ("ended", time),
        ],
        &[
            ("dataset", text()),
            ("roots", array(&path)),
            ("manifest", path),
            ("against_job", job_id()),
            ("findings", findings),
        ],
    )
}

fn item() -> Value {
    let digests = json!({ "type": "object", "additionalProperties": text() });
    object(
        &[
            ("item", number()),
            ("status", json!({ "type": "string", "enum": ["done", "mismatch", "failed"] })),
        ],
        &[
            ("name", text()),
            ("name_b64", text()),
            ("size", number()),
            ("digests", digests),
            ("error", text()),
            ("errno", json!({ "type": "integer" })),
        ],
    )
}

fn finding() -> Value {
    let words = AuditFinding::ALL.into_iter().filter(|finding| *finding != AuditFinding::Matched);
    let words: Vec<&str> = words.map(AuditFinding::name).collect();
    object(
        &[("status", json!({ "type": "string", "enum": words }))],
        &[
            ("name", text()),
            ("name_b64", text()),
            ("from", text()),
            ("from_b64", text()),
            ("size", number()),
            ("algorithm", algorithm()),
            ("digest", text()),
            ("expected", text()),
            ("error", text()),
        ],
    )
}

/// A worker; of one that is drained or in quarantine and not connected the required keys are all.
fn worker() -> Value {
    let names = json!({ "type": "object", "additionalProperties": text() });
    let numbers = json!({ "type": "object", "additionalProperties": number() });
    let sandbox = object(&[("layers", array(&text())), ("missing", array(&text()))], &[]);
    let health =
        json!({ "type": "string", "enum": ["ready", "suspended", "quarantined", "draining"] });
    let drain = [("by", text()), ("age_ms", number()), ("left_ms", number())];
    object(
        &[("name", text()), ("health", health), ("connected", boolean())],
        &[
            ("quarantine", object(&[("reason", text()), ("age_ms", number())], &[])),
            ("drain", object(&drain, &[])),
            ("version", text()),
            ("image", text()),
            ("host", text()),
            ("cpu", text()),
            ("pid", number()),
            ("threads", number()),
            ("backends", names),
            ("lanes", numbers.clone()),
            ("speeds", numbers),
            ("credits", number()),
            ("in_flight", number()),
            ("uptime_ms", number()),
            ("items", number()),
            ("bytes", number()),
            ("items_per_s", number()),
            ("bytes_per_s", number()),
            ("attempts_lost", number()),
            ("reading", text()),
            ("sandbox", sandbox),
        ],
    )
}

fn new_item() -> Value {
    strict(
        &[
            (
                "name",
                json!({ "type": "string", "minLength": 1, "maxLength": PATH_LEN_MAX, "pattern": "^[^\\u0000]+$",
                    "description": "Its name in the manifest." }),
            ),
            (
                "base64",
                json!({ "type": "string", "contentEncoding": "base64",
                    "pattern": "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?$",
                    "description": "Its bytes, at most 512 KiB." }),
            ),
        ],
        &[(
            "expected",
            json!({ "type": "object", "additionalProperties": { "type": "string", "pattern": "^([0-9A-Fa-f]{2})+$" },
                "description": "Of a check, the digest by each algorithm, in hexadecimal." }),
        )],
    )
}

fn new_job() -> Value {
    let bounded = |maximum: u64, about: &str| json!({ "type": "integer", "minimum": 0, "maximum": maximum, "description": about });
    let mut algorithms = array(&algorithm());
    algorithms["minItems"] = 1.into();
    algorithms["maxItems"] = ITEM_ALGORITHMS_MAX.into();
    algorithms["uniqueItems"] = true.into();
    algorithms["default"] = json!(["sha256"]);
    let label = json!({ "type": "string", "minLength": 1, "maxLength": NAME_LEN_MAX });
    let mut labels = array(&label);
    labels["maxItems"] = JOB_LABELS_MAX.into();
    let path = json!({ "type": "string", "maxLength": PATH_LEN_MAX });
    let mut paths = array(&path);
    paths["minItems"] = 1.into();
    paths["maxItems"] = JOB_ROOTS_MAX.into();
    paths["description"] = "Directories of the dataset; without it the whole of it, or of an audit with a manifest the directory of its names.".into();
    let mut items = array(&reference("NewItem"));
    items["minItems"] = 1.into();
    let mut audited = job_id();
    audited["description"] =
        "Of an audit without a manifest, a job that is done, with whose results the files are compared.".into();
    let mut schema = strict(
        &[],
        &[
            (
                "kind",
                json!({ "type": "string", "enum": ["sum", "check", "audit"], "default": "sum" }),
            ),
            ("algorithms", algorithms),
            ("dataset", json!({ "type": "string", "minLength": 1, "maxLength": DATASET_LEN_MAX })),
            ("paths", paths),
            (
                "manifest",
                json!({ "type": "string", "minLength": 1, "maxLength": PATH_LEN_MAX,
                    "description": "Of a check or an audit, a list of digests in the dataset." }),
            ),
            (
                "directory",
                json!({ "type": "string", "maxLength": PATH_LEN_MAX,
                    "description": "Directory of the dataset that the names in the manifest are relative to; without it the manifest's." }),
            ),
            ("against_job", audited),
            ("items", items),
            ("labels", labels),
            ("priority", bounded(JOB_PRIORITY_MAX.into(), "Jobs of a higher one start first.")),
            (
                "keep_s",
                bounded(
                    u32::MAX.into(),
                    "Seconds that it is kept for after its end; 0 for the usual time.",
                ),
            ),
            (
                "cross_check",
                bounded(
                    u32::MAX.into(),
                    "One item per this many is hashed a second time; 0 for none.",
                ),
            ),
            ("strict_reads", boolean()),
            (
                "rate",
                bounded(u64::MAX, "Bytes per second that are read for it at most; 0 for no limit."),
            ),
        ],
    );
    schema["oneOf"] = json!([{ "required": ["dataset"] }, { "required": ["items"] }]);
    schema
}

/// The number of an item.
pub(super) fn bounded(minimum: u64, maximum: u64) -> Value {
    json!({ "type": "integer", "minimum": minimum, "maximum": maximum.min(ITEM_MAX) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipc_proto::message::{DrainStatus, JobRow, QuarantineStatus, Status, WorkerStatus};
    use overview::{JobObject, worker_objects};

    /// Objects with all keys that there are have the properties of their schemas, and no others.
    #[track_caller]
    fn check(schema: &str, value: &Value) {
        let schemas = schemas();
        let properties = schemas[schema]["properties"].as_object().unwrap();
        for key in value.as_object().unwrap().keys() {
            assert!(properties.contains_key(key), "{schema} has no {key}");
        }
        for required in schemas[schema]["required"].as_array().unwrap() {
            assert!(value.get(required.as_str().unwrap()).is_some(), "{schema}: no {required}");
        }
    }

    #[test]
    fn schemas_have_the_keys_of_what_is_sent() {
        let finding = ipc_proto::message::AuditRow {
            finding: AuditFinding::Moved,
            name: b"a"[..].into(),
            from: b"\xff"[..].into(),
            size: 1,
            algorithm: Some(Algorithm::Md5),
            digest: vec![1; 16].into(),
            expected: vec![2; 16].into(),
            failure: Some(ipc_proto::message::Failure::Changed),
        };
        let finding = super::super::findings::object(&finding, Some("changed"));
        check("Finding", &serde_json::to_value(finding).unwrap());
        let (drained, quarantined) = Default::default();
        let status = Status {
            workers: vec![WorkerStatus { name: "here".to_owned(), ..WorkerStatus::default() }],
            drained: vec![DrainStatus { worker: "away".to_owned(), ..drained }],
            quarantined: vec![QuarantineStatus { worker: "liar".to_owned(), ..quarantined }],
            ..Status::default()
        };
        let workers = worker_objects(&status);
        assert_eq!(workers.len(), 3);
        workers.iter().for_each(|worker| check("Worker", worker));
        let row: JobRow = JobRow {
            id: ipc_proto::message::JobId::default(),
            key: String::new(),
            spec: ipc_proto::message::JobSpec {
                kind: ipc_proto::message::JobKind::Sum,
                algorithms: Algorithm::Sha256.into(),
                source: ipc_proto::message::JobSource::Audit {
                    name: "a".into(),
                    roots: vec![],
                    baseline: ipc_proto::message::AuditBaseline::Job(Default::default()),
                },
                cross_check: 0,
                strict_reads: false,
                labels: vec![],
                priority: 0,
                keep_s: 0,
                rate: 0,
                share: Default::default(),
            },
            principal: String::new(),
            state: JobState::Done,
            reason: String::new(),
            items: 0,
            is_complete: true,
            resolved: 0,
            failed: 0,
            mismatched: 0,
            findings: Some(Default::default()),
            bytes: 0,
            created_s: 0,
            started_s: 0,
            ended_s: 0,
        };
        check("Job", &serde_json::to_value(JobObject::new(&row)).unwrap());
    }
}
