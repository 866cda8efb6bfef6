//! From the tree of a file to schedules. Reading goes on after an error, so that all are reported at once.

use crate::calendar::{CronExpression, Trigger, Zone};
use crate::error::{ScheduleErrors, shown};
use crate::fields::{Fields, items, map};
use crate::graph::{GroupMember, MemberKind, steps};
use crate::keys::{self, FILE, GROUP, SCHEDULE, TASK, ValueKind, kind_of};
use crate::model::{
    Backoff, Missed, Notification, Occasion, OnFailure, Overlap, Recipient, Schedule,
    ScheduledTask, Schedules, TaskKind,
};
use crate::template::{Builtins, Parameters, Template, is_builtin};
use crate::values::{self, Daily};
use crate::yaml::{YamlNode, YamlValue, tree};
use crate::{ENTRIES_MAX, SCHEDULES_MAX, TASKS_MAX};
use ipc_proto::limits::{ITEM_ALGORITHMS_MAX, JOB_LABELS_MAX};
use ipc_proto::message::check_dataset;
use ipc_proto::{Algorithm, Algorithms};
use std::collections::BTreeMap;
use std::time::Duration;

const NO_BACKOFF: Backoff =
    Backoff { count: 0, delay: Duration::from_secs(60), delay_max: Duration::from_secs(3_600) };

/// Names of tasks in a message; those of groups in front of them count.
const TASK_NAME_RULE: &str = "1 to 256 letters, digits, '-', '_', and dots inside";

/// Values that tasks inherit from the levels above them.
#[derive(Clone, Debug)]
struct Scope {
    parameters: Parameters,
    dataset: Option<String>,
    path: Template,
    algorithms: Algorithms,
    timeout: Option<Duration>,
    retries: Backoff,
    on_failure: OnFailure,
    rate: Option<u64>,
    only: Vec<Daily>,
    priority: u8,
    labels: BTreeMap<String, Template>,
}

/// Values that schedules inherit from the file.
#[derive(Clone, Debug)]
struct Common {
    zone: Zone,
    jitter: Duration,
    missed: Missed,
    overlap: Overlap,
    deadline: Option<Duration>,
    keep: u32,
    notify: Vec<Notification>,
}

/// Reads a whole file.
///
/// # Errors
/// Every error of the file, or the first one if it is no YAML.
pub fn parse(bytes: &[u8]) -> Result<Schedules, ScheduleErrors> {
    let root = tree(bytes)?;
    let mut errors = ScheduleErrors::default();
    let mut reader = Reader { tasks: 0, errors: &mut errors };
    let schedules = reader.file(&root).unwrap_or_default();
    errors.unless(Schedules { schedules })
}

struct Reader<'e> {
    /// Tasks and groups so far, of the whole file.
    tasks: usize,
    errors: &'e mut ScheduleErrors,
}

impl Reader<'_> {
    fn file(&mut self, root: &YamlNode) -> Option<Vec<Schedule>> {
        let entries = map("the file", "a map with the key schedules", root, self.errors)?;
        let none = Parameters::new();
        let fields = Fields { place: root.place, entries, parameters: &none };
        fields.known(FILE, self.errors);
        let scope = self.scope(
            fields,
            Scope {
                parameters: Parameters::new(),
                dataset: None,
                path: Template::default(),
                algorithms: Algorithms::from(Algorithm::Sha256),
                timeout: None,
                retries: NO_BACKOFF,
                on_failure: OnFailure::Stop,
                rate: None,
                only: Vec::new(),
                priority: 0,
                labels: BTreeMap::new(),
            },
        );
        let fields = Fields { parameters: &scope.parameters, ..fields };
        let common = self.common(
            fields,
            &Common {
                zone: Zone::utc(),
                jitter: Duration::ZERO,
                missed: Missed::Once,
                overlap: Overlap::Forbid,
                deadline: None,
                keep: 100,
                notify: Vec::new(),
            },
        );
        let Some(node) = fields.node("schedules") else {
            self.errors.at(root.place, "the key schedules is missing");
            return None;
        };
        let entries = map("schedules", &ValueKind::Schedules.to_string(), node, self.errors)?;
        if entries.len() > SCHEDULES_MAX {
            self.errors.at(node.place, format!("more than {SCHEDULES_MAX} schedules"));
            return None;
        }
        let mut schedules = Vec::new();
        for (key, node) in entries {
            if self.errors.is_full() {
                return None;
            }
            self.check_name("a schedule", &key.name, key.place);
            schedules.extend(self.schedule(&key.name, node, &scope, &common));
        }
        Some(schedules)
    }

    fn schedule(
        &mut self,
        name: &str,
        node: &YamlNode,
        above: &Scope,
        common: &Common,
    ) -> Option<Schedule> {
        let entries = map(&format!("schedule {}", shown(name)), "a map", node, self.errors)?;
        let fields = Fields { place: node.place, entries, parameters: &above.parameters };
        fields.known(SCHEDULE, self.errors);
        let scope = self.scope(fields, above.clone());
        let fields = Fields { parameters: &scope.parameters, ..fields };
        let common = self.common(fields, common);
        let trigger = self.trigger(fields);
        let members = match self.work(name, fields, &scope)? {
            MemberKind::Task(task) => {
                vec![GroupMember {
                    place: node.place,
                    name: name.into(),
                    after: Vec::new(),
                    kind: MemberKind::Task(task),
                }]
            }
            group @ MemberKind::Group { .. } => {
                vec![GroupMember {
                    place: node.place,
                    name: String::new(),
                    after: Vec::new(),
                    kind: group,
                }]
            }
        };
        let steps = steps(members, self.errors)?;
        if !steps.iter().any(|step| step.task.is_some()) {
            self.errors.at(node.place, format!("schedule {} has no tasks", shown(name)));
        }
        let Common { zone, jitter, missed, overlap, deadline, keep, notify } = common;
        let name = name.to_owned();
        Some(Schedule {
            name,
            trigger,
            zone,
            jitter,
            missed,
            overlap,
            deadline,
            keep,
            notify,
            steps,
        })
    }

    fn trigger(&mut self, fields: Fields<'_>) -> Option<Trigger> {
        if fields.has("at") && fields.has("every") {
            self.errors.at(fields.place, "at and every exclude each other");
        }
        if let Some(node) = fields.node("at") {
            let mut reasons = Vec::new();
            let parsed = fields.values(
                "at",
                |text| match CronExpression::parse(text) {
                    Ok(at) => Some(Some(at)),
                    Err(reason) => {
                        reasons.push(format!("at: {}: {reason}", shown(text)));
                        Some(None)
                    }
                },
                self.errors,
            );
            reasons.into_iter().for_each(|reason| self.errors.at(node.place, reason));
            return Some(Trigger::At(parsed?.into_iter().collect::<Option<Vec<_>>>()?));
        }
        fields.value("every", duration, self.errors).map(Trigger::Every)
    }

    /// The work of a schedule, group or task: exactly one of three keys names it.
    fn work(&mut self, name: &str, fields: Fields<'_>, scope: &Scope) -> Option<MemberKind> {
        let found: Vec<_> =
            ["kind", "parallel", "sequential"].into_iter().filter(|key| fields.has(key)).collect();
        let [key] = found[..] else {
            let text = match found[..] {
                [] => format!("{} has neither kind, parallel nor sequential", shown(name)),
                _ => format!("{} exclude each other", found.join(" and ")),
            };
            self.errors.at(fields.place, text);
            return None;
        };
        if key == "kind" {
            return self.task(fields, scope.clone()).map(|task| MemberKind::Task(Box::new(task)));
        }
        let stray = ["manifest", "period"].into_iter().find(|key| fields.has(key));
        if let Some(stray) = stray {
            self.errors.at(fields.place, format!("{stray} is a key of a task, not of a group"));
        }
        let node = fields.node(key)?;
        let entries = map(key, &ValueKind::Tasks.to_string(), node, self.errors)?;
        let mut members = Vec::new();
        for (key, node) in entries {
            self.tasks += 1;
            if self.tasks > TASKS_MAX {
                // Once is enough.
                if self.tasks == TASKS_MAX + 1 {
                    self.errors.at(key.place, format!("more than {TASKS_MAX} tasks and groups"));
                }
                return None;
            }
            if self.errors.is_full() {
                return None;
            }
            if values::task_name(&key.name).is_none() {
                let (name, rule) = (shown(&key.name), TASK_NAME_RULE);
                self.errors.at(key.place, format!("{name} is not a name of a task; use {rule}"));
            }
            members.extend(self.member(&key.name, node, scope));
        }
        Some(MemberKind::Group { is_sequential: key == "sequential", members })
    }

    fn member(&mut self, name: &str, node: &YamlNode, above: &Scope) -> Option<GroupMember> {
        let entries = map(&format!("task {}", shown(name)), "a map", node, self.errors)?;
        let fields = Fields { place: node.place, entries, parameters: &above.parameters };
        fields.known(if fields.has("kind") { TASK } else { GROUP }, self.errors);
        let scope = self.scope(fields, above.clone());
        let fields = Fields { parameters: &scope.parameters, ..fields };
        let mut after = Vec::new();
        for node in fields.node("after").map(items).unwrap_or_default() {
            let parse = |text: &str| values::task_name(text).map(str::to_owned);
            let name = fields.value_of("after", ValueKind::Names, node, parse, self.errors);
            after.extend(name.map(|name| (node.place, name)));
        }
        let kind = self.work(name, fields, &scope)?;
        Some(GroupMember { place: node.place, name: name.into(), after, kind })
    }

    fn task(&mut self, fields: Fields<'_>, scope: Scope) -> Option<ScheduledTask> {
        let word = fields.value("kind", word, self.errors)?;
        let manifest = self.path("manifest", fields);
        let period = fields.value("period", duration, self.errors);
        for (key, kinds) in [("manifest", &["check", "audit"][..]), ("period", &["scrub"])] {
            if fields.has(key) && !kinds.contains(&word) {
                self.errors.at(fields.place, format!("{key} has no meaning for {word}"));
            }
        }
        let mut missing = |key: &str| self.errors.at(fields.place, format!("a {word} needs {key}"));
        let kind = match word {
            "sum" => Some(TaskKind::Sum),
            "check" if !fields.has("manifest") => {
                missing("manifest");
                None
            }
            "check" => manifest.map(|manifest| TaskKind::Check { manifest }),
            "audit" => Some(TaskKind::Audit { manifest }),
            _ if !fields.has("period") => {
                missing("period");
                None
            }
            _ => period.map(|period| TaskKind::Scrub { period }),
        };
        if scope.dataset.is_none() && !fields.has("dataset") {
            missing("dataset, here or at a higher level");
        }
        Some(ScheduledTask {
            kind: kind?,
            dataset: scope.dataset?,
            path: scope.path,
            algorithms: scope.algorithms,
            on_failure: scope.on_failure,
            timeout: scope.timeout,
            retries: scope.retries,
            rate: scope.rate,
            only: scope.only,
            priority: scope.priority,
            labels: scope.labels,
        })
    }

    /// The scope of a level below `above`.
    fn scope(&mut self, fields: Fields<'_>, mut scope: Scope) -> Scope {
        let above = std::mem::take(&mut scope.parameters);
        scope.parameters = self.parameters(fields, &above);
        let fields = Fields { parameters: &scope.parameters, ..fields };
        let dataset = |_, text: &str| check_dataset(text).is_ok().then(|| text.to_owned());
        scope.dataset = fields.value("dataset", dataset, self.errors).or(scope.dataset);
        scope.path = self.path("path", fields).unwrap_or(scope.path);
        if let Some(algorithms) = self.algorithms(fields) {
            scope.algorithms = algorithms;
        }
        scope.timeout = fields.value("timeout", duration, self.errors).or(scope.timeout);
        scope.retries = self.retries(fields).unwrap_or(scope.retries);
        scope.on_failure = match fields.value("on_failure", word, self.errors) {
            Some("continue") => OnFailure::Continue,
            Some(_) => OnFailure::Stop,
            None => scope.on_failure,
        };
        scope.rate = fields.value("rate", |_, text| values::rate(text), self.errors).or(scope.rate);
        scope.only = fields.values("only", Daily::parse, self.errors).unwrap_or(scope.only);
        scope.priority = fields.value("priority", number, self.errors).unwrap_or(scope.priority);
        for (key, node) in self.named(fields, "labels", scope.labels.len()) {
            let label = fields.template_of("labels", ValueKind::Labels, node, self.errors);
            scope.labels.extend(label.map(|label| (key.to_owned(), label)));
        }
        scope
    }

    fn common(&mut self, fields: Fields<'_>, above: &Common) -> Common {
        Common {
            zone: fields
                .value("timezone", |_, text| Zone::named(text), self.errors)
                .unwrap_or_else(|| above.zone.clone()),
            jitter: fields.value("jitter", duration, self.errors).unwrap_or(above.jitter),
            missed: match fields.value("missed", word, self.errors) {
                Some("skip") => Missed::Skip,
                Some(_) => Missed::Once,
                None => above.missed,
            },
            overlap: match fields.value("overlap", word, self.errors) {
                Some("queue") => Overlap::Queue,
                Some(_) => Overlap::Forbid,
                None => above.overlap,
            },
            deadline: fields.value("deadline", duration, self.errors).or(above.deadline),
            keep: fields.value("keep", number, self.errors).unwrap_or(above.keep),
            notify: self.notify(fields).unwrap_or_else(|| above.notify.clone()),
        }
    }

    /// The parameters of `above` and those of this level, which may name the former.
    fn parameters(&mut self, fields: Fields<'_>, above: &Parameters) -> Parameters {
        let mut parameters = above.clone();
        let fields = Fields { parameters: above, ..fields };
        for (key, node) in self.named(fields, "parameters", above.len()) {
            if is_builtin(key) {
                self.errors.at(node.place, format!("parameter {} is built in", shown(key)));
            }
            let text = |text: &str| Some(text.to_owned());
            let value = fields.value_of(key, ValueKind::Parameters, node, text, self.errors);
            parameters.extend(value.map(|value| (key.to_owned(), value)));
        }
        parameters
    }

    /// The entries of a map whose keys are names of the author's, `before` of which are there from above.
    fn named<'n>(
        &mut self,
        fields: Fields<'n>,
        name: &'static str,
        before: usize,
    ) -> Vec<(&'n str, &'n YamlNode)> {
        let Some(node) = fields.node(name) else { return Vec::new() };
        let entries = map(name, &kind_of(name).to_string(), node, self.errors).unwrap_or_default();
        let max = if name == "labels" { JOB_LABELS_MAX } else { ENTRIES_MAX };
        if before + entries.len() > max {
            self.errors.at(node.place, format!("{name}: more than {max} entries"));
            return Vec::new();
        }
        for (key, _) in entries {
            self.check_name(name, &key.name, key.place);
        }
        entries.iter().map(|(key, node)| (key.name.as_str(), node)).collect()
    }

    fn path(&mut self, name: &'static str, fields: Fields<'_>) -> Option<Template> {
        let node = fields.node(name)?;
        let path = fields.template_of(name, ValueKind::Path, node, self.errors)?;
        // Builtins have no slashes, and are neither empty nor dots.
        let run = Builtins { date: "0", yesterday: "0", schedule: "0", task: "0" };
        let shown_path = path.render(&run);
        if values::is_inside(&shown_path) && (name == "path" || !path.is_empty()) {
            return Some(path);
        }
        let text = format!("{name}: bad value {}; write {}", shown(&shown_path), ValueKind::Path);
        self.errors.at(node.place, text);
        None
    }

    fn algorithms(&mut self, fields: Fields<'_>) -> Option<Algorithms> {
        let node = fields.node("algorithms")?;
        let parsed: Vec<Algorithm> =
            fields.values("algorithms", |text| text.parse().ok(), self.errors)?;
        let text = format!("algorithms: at most {ITEM_ALGORITHMS_MAX}, each once");
        Algorithms::new(&parsed).map_err(|_| self.errors.at(node.place, text)).ok()
    }

    fn retries(&mut self, fields: Fields<'_>) -> Option<Backoff> {
        let node = fields.node("retries")?;
        let YamlValue::Map(entries) = &node.value else {
            let kind = ValueKind::Retries;
            let parse = |text: &str| number(keys::RETRIES, text);
            let count = fields.value_of("retries", kind, node, parse, self.errors)?;
            return Some(Backoff { count, ..NO_BACKOFF });
        };
        let fields = Fields { place: node.place, entries, ..fields };
        fields.known_of(&["count", "delay", "delay_max"], self.errors);
        let mut backoff = NO_BACKOFF;
        if let Some(node) = fields.node("count") {
            let parse = |text: &str| number(keys::RETRIES, text);
            backoff.count = fields.value_of("count", keys::RETRIES, node, parse, self.errors)?;
        } else {
            self.errors.at(node.place, "retries: count is missing");
        }
        for (name, delay) in [("delay", &mut backoff.delay), ("delay_max", &mut backoff.delay_max)]
        {
            if let Some(node) = fields.node(name) {
                let parse = |text: &str| duration(keys::DELAY, text);
                *delay = fields.value_of(name, keys::DELAY, node, parse, self.errors)?;
            }
        }
        backoff.delay_max = backoff.delay_max.max(backoff.delay);
        Some(backoff)
    }

    fn notify(&mut self, fields: Fields<'_>) -> Option<Vec<Notification>> {
        let node = fields.node("notify")?;
        let nodes = items(node);
        if nodes.len() > ENTRIES_MAX {
            self.errors.at(node.place, format!("notify: more than {ENTRIES_MAX} entries"));
            return None;
        }
        let mut all = Vec::new();
        for node in nodes {
            let hint = ValueKind::Notifications.to_string();
            let Some(entries) = map("notify", &hint, node, self.errors) else { continue };
            let fields = Fields { place: node.place, entries, ..fields };
            all.extend(self.notification(fields));
        }
        Some(all)
    }

    fn notification(&mut self, fields: Fields<'_>) -> Option<Notification> {
        fields.known_of(&["on", "url", "secret", "command"], self.errors);
        let mut on = vec![Occasion::Failure, Occasion::Change, Occasion::Rot];
        if let Some(node) = fields.node("on") {
            on.clear();
            let kind = ValueKind::OneOf(keys::OCCASIONS);
            for node in items(node) {
                on.extend(fields.value_of("on", kind, node, occasion, self.errors));
            }
            on.sort_unstable();
            on.dedup();
        }
        let kind = ValueKind::Notifications;
        let text = |node: &YamlNode, errors: &mut ScheduleErrors| {
            fields.value_of("notify", kind, node, |text| Some(text.to_owned()), errors)
        };
        let receiver = match (fields.node("url"), fields.node("command")) {
            (Some(node), None) => {
                let url = text(node, self.errors)?;
                if let Err(reason) = check_url(&url) {
                    self.errors.at(node.place, format!("url: {}: {reason}", shown(&url)));
                }
                let secret = match fields.node("secret") {
                    Some(node) => {
                        let secret = text(node, self.errors)?;
                        self.check_name("a secret", &secret, node.place);
                        Some(secret)
                    }
                    None => None,
                };
                Recipient::Url { url, secret }
            }
            (None, Some(node)) => {
                let mut words = Vec::new();
                for node in items(node) {
                    words.push(text(node, self.errors)?);
                }
                if words.is_empty() || words.len() > ENTRIES_MAX || fields.has("secret") {
                    let text = format!(
                        "command: a name and up to {} arguments, no secret",
                        ENTRIES_MAX - 1
                    );
                    self.errors.at(node.place, text);
                    return None;
                }
                let name = words.remove(0);
                self.check_name("a command", &name, node.place);
                Recipient::Command { name, args: words }
            }
            _ => {
                self.errors.at(fields.place, "notify: either url or command");
                return None;
            }
        };
        Some(Notification { on, receiver })
    }

    fn check_name(&mut self, what: &str, name: &str, place: crate::LineColumn) {
        if values::name(name).is_none() {
            let rule = "1 to 64 letters, digits, '-', '_', and dots inside";
            self.errors.at(place, format!("{} is not a name of {what}; use {rule}", shown(name)));
        }
    }
}

fn occasion(text: &str) -> Option<Occasion> {
    let all = [Occasion::Failure, Occasion::Change, Occasion::Rot, Occasion::Success];
    let at = keys::OCCASIONS.iter().position(|word| *word == text)?;
    all.get(at).copied()
}

fn duration(kind: ValueKind, text: &str) -> Option<Duration> {
    let ValueKind::Duration { min, max } = kind else { return None };
    values::duration(text).filter(|duration| (min..=max).contains(&duration.as_secs()))
}

fn number<T: TryFrom<i64>>(kind: ValueKind, text: &str) -> Option<T> {
    let ValueKind::Number { min, max } = kind else { return None };
    let number = text.parse::<i64>().ok().filter(|number| (min..=max).contains(number))?;
    T::try_from(number).ok()
}

/// One of the words of a key.
fn word(kind: ValueKind, text: &str) -> Option<&'static str> {
    let ValueKind::OneOf(words) = kind else { return None };
    words.iter().copied().find(|word| *word == text)
}

fn check_url(url: &str) -> Result<(), &'static str> {
    if url.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err("a URL has no spaces");
    }
    if url.starts_with("https:") {
        return Err("TLS is not spoken here; name a local proxy by http:// or unix:");
    }
    if let Some(path) = url.strip_prefix("unix:") {
        return if path.starts_with('/') { Ok(()) } else { Err("write unix:/PATH/OF/SOCKET") };
    }
    let host = url.strip_prefix("http://").map(|rest| rest.split('/').next().unwrap_or_default());
    match host {
        Some(host) if !host.is_empty() && !host.contains('@') => Ok(()),
        _ => Err("write http://HOST[:PORT]/PATH or unix:/PATH/OF/SOCKET"),
    }
}
