//! The JSON Schema of a schedule file, from the table of keys.

use crate::ENTRIES_MAX;
use crate::keys::{FILE, GROUP, KEYS, KeyLevel, OCCASIONS, SCHEDULE, TASK, ValueKind};
use ipc_proto::Algorithm;
use ipc_proto::limits::{DATASET_LEN_MAX, ITEM_ALGORITHMS_MAX, JOB_LABELS_MAX};
use serde_json::{Map, Value, json};

/// The schema (draft 2020-12), which `docs/schedule.schema.json` repeats.
#[must_use]
pub fn schema() -> String {
    let schedule =
        with(object(SCHEDULE), json!({ "oneOf": one_of(&["kind", "parallel", "sequential"]) }));
    let group = with(object(GROUP), json!({ "oneOf": one_of(&["parallel", "sequential"]) }));
    let task = with(object(TASK), json!({ "required": ["kind"] }));
    let file = with(
        object(FILE),
        json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": "Schedules of hashcluster",
            "required": ["schedules"],
            "$defs": {
                "schedule": schedule,
                "member": { "anyOf": [{ "$ref": "#/$defs/task" }, { "$ref": "#/$defs/group" }] },
                "group": group,
                "task": task,
                "name": { "pattern": "^[A-Za-z0-9_]([A-Za-z0-9._-]{0,62}[A-Za-z0-9_-])?$" },
                "task_name": { "pattern": "^[A-Za-z0-9_]([A-Za-z0-9._-]{0,254}[A-Za-z0-9_-])?$" },
                "scalar": { "type": ["string", "number", "boolean"] },
                "duration": { "type": "string", "pattern": "^([0-9]+[wdhms])+$|\\$" },
                "names": one_or_many(&json!({ "type": "string" })),
                "retries": retries(),
                "notification": notification(),
            },
        }),
    );
    format!("{file:#}\n")
}

fn object(level: KeyLevel) -> Value {
    let keys = KEYS.iter().filter(|rule| rule.of & level != 0);
    let properties: Map<String, Value> = keys
        .map(|rule| {
            let value = with(value(rule.kind), json!({ "description": rule.text }));
            (rule.name.to_owned(), value)
        })
        .collect();
    json!({ "type": "object", "additionalProperties": false, "properties": properties })
}

fn value(kind: ValueKind) -> Value {
    match kind {
        ValueKind::Schedules => named("name", &json!({ "$ref": "#/$defs/schedule" })),
        ValueKind::Tasks => named("task_name", &json!({ "$ref": "#/$defs/member" })),
        ValueKind::Zone | ValueKind::Path => json!({ "$ref": "#/$defs/scalar" }),
        ValueKind::Cron | ValueKind::Names => json!({ "$ref": "#/$defs/names" }),
        ValueKind::Duration { .. } => json!({ "$ref": "#/$defs/duration" }),
        // A parameter can stand for it.
        ValueKind::Number { min, max } => json!({
            "type": ["integer", "string"], "minimum": min, "maximum": max, "pattern": "^-?[0-9]+$|\\$",
        }),
        ValueKind::Rate => json!({
            "type": ["integer", "string"], "minimum": 1, "pattern": "^[0-9]+[KMGT]?$|\\$",
        }),
        ValueKind::Windows => one_or_many(&json!({
            "type": "string", "pattern": "^[0-9]{1,2}:[0-9]{2}-[0-9]{1,2}:[0-9]{2}$|\\$",
        })),
        ValueKind::OneOf(words) => json!({ "anyOf": [{ "enum": words }, { "pattern": "\\$" }] }),
        ValueKind::Dataset => {
            let pattern = format!("^[a-z0-9_-]{{1,{DATASET_LEN_MAX}}}$|\\$");
            json!({ "type": ["string", "integer"], "pattern": pattern })
        }
        ValueKind::Algorithms => {
            let names = Algorithm::ALL.map(Algorithm::name);
            let name = json!({ "anyOf": [{ "enum": names }, { "pattern": "\\$" }] });
            let many = json!({ "type": "array", "minItems": 1, "maxItems": ITEM_ALGORITHMS_MAX });
            json!({ "anyOf": [name, with(many, json!({ "items": name }))] })
        }
        ValueKind::Retries => json!({ "$ref": "#/$defs/retries" }),
        ValueKind::Labels => with(
            named("name", &json!({ "$ref": "#/$defs/scalar" })),
            json!({ "maxProperties": JOB_LABELS_MAX }),
        ),
        ValueKind::Parameters => with(
            named("name", &json!({ "$ref": "#/$defs/scalar" })),
            json!({ "maxProperties": ENTRIES_MAX }),
        ),
        ValueKind::Notifications => json!({ "anyOf": [
            { "$ref": "#/$defs/notification" },
            { "type": "array", "maxItems": ENTRIES_MAX, "items": { "$ref": "#/$defs/notification" } },
        ] }),
    }
}

fn named(rule: &str, item: &Value) -> Value {
    let names = json!({ "$ref": format!("#/$defs/{rule}") });
    json!({ "type": "object", "propertyNames": names, "additionalProperties": item })
}

fn one_or_many(item: &Value) -> Value {
    let many = json!({ "type": "array", "minItems": 1, "maxItems": ENTRIES_MAX, "items": item });
    json!({ "anyOf": [item, many] })
}

fn one_of(keys: &[&str]) -> Value {
    keys.iter().map(|key| json!({ "required": [key] })).collect()
}

fn retries() -> Value {
    let delay = json!({ "$ref": "#/$defs/duration" });
    let count = value(crate::keys::RETRIES);
    json!({ "anyOf": [count, {
        "type": "object", "additionalProperties": false, "required": ["count"],
        "properties": { "count": count, "delay": delay, "delay_max": delay },
    }] })
}

fn notification() -> Value {
    let on = json!({ "anyOf": [{ "enum": OCCASIONS }, { "pattern": "\\$" }] });
    json!({
        "type": "object", "additionalProperties": false,
        "oneOf": one_of(&["url", "command"]),
        "properties": {
            "on": one_or_many(&on),
            "url": { "type": "string" },
            "secret": { "type": "string" },
            "command": { "$ref": "#/$defs/names" },
        },
    })
}

/// `object` with more members.
fn with(mut object: Value, more: Value) -> Value {
    if let (Value::Object(into), Value::Object(more)) = (&mut object, more) {
        into.extend(more);
    }
    object
}
