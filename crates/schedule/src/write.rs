//! One schedule in its normal form: a JSON document, which is YAML too, without parameters and groups; only what all
//! tasks share stands at the schedule itself. [`parse`](crate::parse) reads it to an equal [`Schedule`].

use crate::calendar::Trigger;
use crate::keys::{KINDS, MISSED, ON_FAILURE, OVERLAP};
use crate::model::{
    Missed, Notification, OnFailure, Overlap, Recipient, Schedule, ScheduledTask, Step, TaskKind,
};
use crate::values::{duration_text, rate_text};
use serde_json::{Map, Value, json};

/// Keys of tasks that stand at the schedule itself where all of its tasks have the same value.
const SHARED: [&str; 10] = [
    "algorithms",
    "dataset",
    "labels",
    "on_failure",
    "only",
    "path",
    "priority",
    "rate",
    "retries",
    "timeout",
];

impl Schedule {
    /// The document: a line per key and per step, so that two of them can be compared by lines.
    #[must_use]
    pub fn to_json(&self) -> String {
        let quoted = |text: &str| Value::from(text).to_string();
        let mut text = format!("{{\"schedules\": {{{}: {{\n", quoted(&self.name));
        let mut steps: Vec<Map<String, Value>> =
            self.steps.iter().map(|step| self.step(step)).collect();
        let mut own = self.own();
        own.extend(take_shared(&mut steps));
        for (name, value) in own {
            text += &format!("  {}: {value},\n", quoted(&name));
        }
        // The order of the steps matters, and a map of the library has none.
        text += "  \"parallel\": {\n";
        for (i, (step, fields)) in self.steps.iter().zip(steps).enumerate() {
            let comma = if i + 1 == self.steps.len() { "" } else { "," };
            let fields = Value::Object(fields);
            text += &format!("    {}: {fields}{comma}\n", quoted(&step.name));
        }
        text + "  }\n}}}\n"
    }

    /// The keys of the schedule itself.
    fn own(&self) -> Map<String, Value> {
        let mut own = Map::new();
        let mut put = |name: &str, value: Value| own.insert(name.into(), value);
        match &self.trigger {
            Some(Trigger::At(at)) => {
                put("at", at.iter().map(|at| Value::from(at.as_str())).collect());
            }
            Some(Trigger::Every(every)) => {
                put("every", duration_text(*every).into());
            }
            None => {}
        }
        put("timezone", self.zone.name().into());
        put("jitter", duration_text(self.jitter).into());
        put("missed", MISSED[usize::from(self.missed == Missed::Skip)].into());
        put("overlap", OVERLAP[usize::from(self.overlap == Overlap::Queue)].into());
        if let Some(deadline) = self.deadline {
            put("deadline", duration_text(deadline).into());
        }
        put("keep", self.keep.into());
        put("notify", self.notify.iter().map(notification).collect());
        own
    }

    fn step(&self, step: &Step) -> Map<String, Value> {
        let mut fields = step.task.as_ref().map(task).unwrap_or_default();
        if step.task.is_none() {
            fields.insert("parallel".into(), json!({}));
        }
        let names = step.after.iter().filter_map(|&before| self.steps.get(before));
        let after: Vec<Value> = names.map(|before| before.name.as_str().into()).collect();
        if !after.is_empty() {
            fields.insert("after".into(), after.into());
        }
        fields
    }
}

/// Takes the fields out of tasks that all of them have with the same value, if there are several tasks.
fn take_shared(steps: &mut [Map<String, Value>]) -> Map<String, Value> {
    let mut shared = Map::new();
    let is_task = |fields: &&Map<String, Value>| fields.contains_key("kind");
    if steps.iter().filter(is_task).count() < 2 {
        return shared;
    }
    for key in SHARED {
        let mut values = steps.iter().filter(is_task).map(|fields| fields.get(key));
        let Some(Some(first)) = values.next() else { continue };
        if values.all(|value| value == Some(first)) {
            shared.insert(key.to_owned(), first.clone());
        }
    }
    for fields in steps {
        fields.retain(|key, _| !shared.contains_key(key));
    }
    shared
}

fn task(task: &ScheduledTask) -> Map<String, Value> {
    let mut fields = Map::new();
    let mut put = |name: &str, value: Value| fields.insert(name.into(), value);
    let kind = match &task.kind {
        TaskKind::Sum => 0,
        TaskKind::Check { manifest } => {
            put("manifest", manifest.to_string().into());
            1
        }
        TaskKind::Audit { manifest } => {
            if let Some(manifest) = manifest {
                put("manifest", manifest.to_string().into());
            }
            2
        }
        TaskKind::Scrub { period } => {
            put("period", duration_text(*period).into());
            3
        }
    };
    put("kind", KINDS[kind].into());
    put("dataset", task.dataset.as_str().into());
    if !task.path.is_empty() {
        put("path", task.path.to_string().into());
    }
    let names = task.algorithms.iter().map(|algorithm| algorithm.name());
    put("algorithms", names.map(Value::from).collect());
    put("on_failure", ON_FAILURE[usize::from(task.on_failure == OnFailure::Continue)].into());
    if let Some(timeout) = task.timeout {
        put("timeout", duration_text(timeout).into());
    }
    let retries = json!({
        "count": task.retries.count,
        "delay": duration_text(task.retries.delay),
        "delay_max": duration_text(task.retries.delay_max),
    });
    put("retries", retries);
    if let Some(rate) = task.rate {
        put("rate", rate_text(rate).into());
    }
    if !task.only.is_empty() {
        put("only", task.only.iter().map(|only| Value::from(only.to_string())).collect());
    }
    put("priority", task.priority.into());
    if !task.labels.is_empty() {
        let labels =
            task.labels.iter().map(|(name, value)| (name.clone(), value.to_string().into()));
        put("labels", Value::Object(labels.collect()));
    }
    fields
}

fn notification(notification: &Notification) -> Value {
    // Texts of the model are plain: a dollar sign in them is written twice.
    let plain = |text: &str| text.replace('$', "$$");
    let on: Vec<&str> = notification.on.iter().map(|on| on.name()).collect();
    match &notification.receiver {
        Recipient::Url { url, secret: None } => json!({ "on": on, "url": plain(url) }),
        Recipient::Url { url, secret: Some(secret) } => {
            json!({ "on": on, "url": plain(url), "secret": secret })
        }
        Recipient::Command { name, args } => {
            let words = std::iter::once(name.as_str()).chain(args.iter().map(String::as_str));
            json!({ "on": on, "command": words.map(plain).collect::<Vec<_>>() })
        }
    }
}
