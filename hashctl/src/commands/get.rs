//! `hashctl get` and `hashctl search`: what the controller has a register of, as rows of one form.
//!
//! A row is the JSON object of a thing and what a table shows of it. Selectors choose by the keys of the objects,
//! so that they are the same for every kind.

mod bridge;
mod rows;
mod worker;

use super::jobs::JobSession;
use crate::cli::print;
use crate::columns::aligned;
use crate::config::Config;
use crate::examples;
use crate::exit::Exit;
use crate::json::put_line;
use crate::lists::quote::quote;
use crate::say::say;
use clap::{Args, ValueEnum};
use rows::RegisterRow;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::thread;
use std::time::Duration;

/// Time between two looks of `--watch`.
const WATCH_PAUSE: Duration = Duration::from_secs(1);

/// A register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RegisterKind {
    /// Connected workers, and those that are drained or in quarantine
    #[value(alias = "worker")]
    Workers,
    /// Durable jobs that you may see
    #[value(alias = "job")]
    Jobs,
    /// Datasets in which you may name files
    #[value(alias = "dataset")]
    Datasets,
    /// Schedules that you may see
    #[value(alias = "schedule")]
    Schedules,
    /// Runs of these schedules, the newest first
    #[value(alias = "run")]
    Runs,
    /// Rules of the policy
    #[value(alias = "policy")]
    Policies,
    /// The audit trail: who did what, and when
    #[value(alias = "event")]
    Events,
    /// Items of durable jobs over which three workers were lost
    #[value(alias = "dead-items")]
    Dead,
    /// Hosts that share work through a broker, by hashcluster-bridge
    #[value(alias = "host")]
    Hosts,
    /// Shards that no host could finish, by hashcluster-bridge
    #[value(alias = "dead-shard")]
    DeadShards,
}

impl RegisterKind {
    /// Those that are searched: things first, and then what happened to them.
    const SEARCHED: [Self; 7] = [
        Self::Workers,
        Self::Jobs,
        Self::Datasets,
        Self::Schedules,
        Self::Policies,
        Self::Runs,
        Self::Events,
    ];

    /// True if rows are only added.
    fn only_grows(self) -> bool {
        self == Self::Events
    }

    /// The word for one of them.
    fn one(self) -> &'static str {
        match self {
            Self::Workers => "worker",
            Self::Jobs => "job",
            Self::Datasets => "dataset",
            Self::Schedules => "schedule",
            Self::Runs => "run",
            Self::Policies => "policy",
            Self::Events => "event",
            Self::Dead => "dead item",
            Self::Hosts => "host",
            Self::DeadShards => "dead shard",
        }
    }
}

/// `KEY=VALUE`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct RowSelector {
    key: String,
    value: String,
}

impl std::str::FromStr for RowSelector {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('=') {
            Some((key, value)) if !key.is_empty() => {
                Ok(Self { key: key.to_owned(), value: value.to_owned() })
            }
            _ => Err("write KEY=VALUE"),
        }
    }
}

impl RowSelector {
    /// True if the object has the value, or an array or object with it.
    fn fits(&self, object: &Value) -> bool {
        let is_value = |value: &Value| match value {
            Value::String(text) => *text == self.value,
            Value::Number(number) => number.to_string() == self.value,
            Value::Bool(flag) => flag.to_string() == self.value,
            Value::Null | Value::Array(_) | Value::Object(_) => false,
        };
        match object.get(&self.key) {
            Some(Value::Array(values)) => values.iter().any(is_value),
            Some(Value::Object(values)) => values.values().any(is_value),
            Some(value) => is_value(value),
            None => false,
        }
    }
}

#[derive(Debug, Args)]
#[command(after_help = examples::GET)]
pub(crate) struct GetArgs {
    /// The register
    #[arg(value_name = "KIND", value_enum)]
    kind: RegisterKind,
    /// Only this one: the name of a worker, dataset or schedule, the id or key of a job, a run as SCHEDULE/RUN or all of a
    /// schedule, the number of a rule, events of a job, worker or schedule, dead items of a job or that a worker was lost
    /// over
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// Print one JSON object per line; docs/json.md says which
    #[arg(long)]
    json: bool,
    /// Go on, and print rows again that change
    #[arg(short, long)]
    watch: bool,
    /// Only rows whose JSON has this value under this key, or in an array there
    #[arg(short, long, value_name = "KEY=VALUE", value_delimiter = ',')]
    selector: Vec<RowSelector>,
}

#[derive(Debug, Args)]
#[command(after_help = examples::SEARCH)]
pub(crate) struct SearchArgs {
    /// The text, in upper or lower case
    #[arg(value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    text: String,
}

/// Prints rows of a register.
pub(crate) fn get(config: &Config, args: &GetArgs) -> Exit {
    let mut session = JobSession::new(config);
    let mut before = match chosen(&mut session, args) {
        Ok(rows) => rows,
        Err(exit) => return exit,
    };
    let printed = print(config.stdio, &shown(args, &before, true));
    if !args.watch || printed != Exit::Success {
        return printed;
    }
    // Events do not change: those after the last one are read.
    let mut last = before.last().map(|row| row.id.clone()).filter(|_| args.kind.only_grows());
    loop {
        thread::sleep(WATCH_PAUSE);
        let after = last.as_deref().and_then(|id| id.parse().ok());
        let now = match rows::all(&mut session, args.kind, after).map(|rows| of_args(rows, args)) {
            Ok(rows) => rows,
            Err(exit) => return exit,
        };
        let news = match args.kind.only_grows() {
            true => shown(args, &now, false),
            false => changes(args, &before, &now),
        };
        let printed = print(config.stdio, &news);
        if printed != Exit::Success {
            return printed;
        }
        if args.kind.only_grows() {
            last = now.last().map(|row| row.id.clone()).or(last);
        }
        before = now;
    }
}

/// The rows that `args` choose.
fn of_args(mut rows: Vec<RegisterRow>, args: &GetArgs) -> Vec<RegisterRow> {
    rows.retain(|row| {
        args.name.as_ref().is_none_or(|name| row.is_named(name))
            && args.selector.iter().all(|selector| selector.fits(&row.object))
    });
    rows
}

/// The rows that `args` choose; a failure, which is reported, if a named one is missing.
fn chosen(session: &mut JobSession<'_>, args: &GetArgs) -> Result<Vec<RegisterRow>, Exit> {
    let mut rows = rows::all(session, args.kind, None)?;
    if let Some(name) = &args.name {
        rows.retain(|row| row.is_named(name));
        if rows.is_empty() {
            let (one, name) = (args.kind.one(), quote(name.as_bytes()));
            say(format_args!("there is no {one} {name}"));
            return Err(Exit::Failure);
        }
    }
    if args.kind == RegisterKind::Workers && args.name.is_some() && !args.watch {
        rows.iter_mut().try_for_each(|row| worker::add_history(session, row))?;
    }
    for selector in &args.selector {
        let has_key = |row: &RegisterRow| row.object.get(&selector.key).is_some();
        if !rows.is_empty() && !rows.iter().any(has_key) {
            let (one, key) = (args.kind.one(), quote(selector.key.as_bytes()));
            say(format_args!("no {one} has a key {key}; --json shows them"));
            return Err(Exit::Failure);
        }
    }
    Ok(of_args(rows, args))
}

/// Rows as text, with a head or without.
fn shown(args: &GetArgs, rows: &[RegisterRow], has_head: bool) -> String {
    if args.json {
        let mut out = Vec::new();
        rows.iter().for_each(|row| put_line(&row.object, &mut out));
        return String::from_utf8_lossy(&out).into_owned();
    }
    if args.kind == RegisterKind::Workers && args.name.is_some() && !args.watch {
        return rows.iter().map(worker::text).collect();
    }
    table(rows::head(args.kind), rows, has_head)
}

/// Rows that are new, or not what they were, and the names of those that are gone.
fn changes(args: &GetArgs, before: &[RegisterRow], now: &[RegisterRow]) -> String {
    let known: BTreeMap<&str, &RegisterRow> =
        before.iter().map(|row| (row.id.as_str(), row)).collect();
    let is_new =
        |row: &&RegisterRow| known.get(row.id.as_str()).is_none_or(|old| old.cells != row.cells);
    let fresh: Vec<RegisterRow> = now.iter().filter(is_new).cloned().collect();
    let mut text = shown(args, &fresh, false);
    for old in before.iter().filter(|old| now.iter().all(|row| row.id != old.id)) {
        if args.json {
            let mut out = Vec::new();
            put_line(&serde_json::json!({ "gone": old.id }), &mut out);
            text.push_str(&String::from_utf8_lossy(&out));
        } else {
            let _ = writeln!(text, "{}  gone", overview::one_line(&old.id));
        }
    }
    text
}

/// Rows below their head, in columns.
fn table(head: &[&str], rows: &[RegisterRow], has_head: bool) -> String {
    let plain = |cell: &String| overview::one_line(cell);
    let mut lines: Vec<Vec<String>> = Vec::new();
    if has_head {
        lines.push(head.iter().map(|&cell| cell.to_owned()).collect());
    }
    lines.extend(rows.iter().map(|row| row.cells.iter().map(plain).collect()));
    aligned(&lines)
}

/// Prints where a text is found; fails if it is nowhere.
pub(crate) fn search(config: &Config, args: &SearchArgs) -> Exit {
    let mut session = JobSession::new(config);
    let wanted = args.text.to_lowercase();
    let mut found = String::new();
    for kind in RegisterKind::SEARCHED {
        // Without a journal there are workers and datasets all the same.
        let rows = match rows::for_search(&mut session, kind) {
            Ok(rows) => rows,
            Err(exit) => return exit,
        };
        for row in rows {
            let Some((key, word)) = row.word_with(&wanted) else { continue };
            let (id, word) = (overview::one_line(&row.id), overview::one_line(&word));
            let _ = writeln!(found, "{:<8} {id}  {key}: {word}", kind.one());
        }
    }
    if found.is_empty() {
        say(format_args!("nothing has {}", quote(args.text.as_bytes())));
        return Exit::Failure;
    }
    print(config.stdio, &found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn row(id: &str, object: Value, cells: &[&str]) -> RegisterRow {
        let cells = cells.iter().map(|&cell| cell.to_owned()).collect();
        RegisterRow { id: id.to_owned(), object, cells }
    }

    #[test]
    fn a_selector_looks_into_arrays_and_objects() {
        let object = json!({
            "state": "done", "items": 3, "complete": true, "labels": ["a", "b"],
            "backends": { "sha256": "portable" }, "started": null,
        });
        for (text, want) in [
            ("state=done", true),
            ("state=don", false),
            ("items=3", true),
            ("complete=true", true),
            ("labels=b", true),
            ("labels=c", false),
            ("backends=portable", true),
            ("started=null", false),
            ("other=", false),
        ] {
            let selector: RowSelector = text.parse().unwrap();
            assert_eq!(selector.fits(&object), want, "{text}");
        }
        for bad in ["", "state", "=x"] {
            assert!(bad.parse::<RowSelector>().is_err(), "{bad}");
        }
    }

    #[test]
    fn only_changes_are_shown_again() {
        let args = |json| GetArgs {
            kind: RegisterKind::Datasets,
            name: None,
            json,
            watch: true,
            selector: Vec::new(),
        };
        let before = [row("a", json!({}), &["a", "1"]), row("b\x1b", json!({}), &["b", "1"])];
        let now =
            [row("a", json!({ "x": 1 }), &["a", "2"]), row("c", json!({ "x": 2 }), &["c", "1"])];
        assert_eq!(changes(&args(false), &before, &before), "");
        assert_eq!(table(&["NAME", "X"], &now, true), "NAME  X\na     2\nc     1\n");
        let text = changes(&args(true), &before, &now);
        let want = "{\"version\":1,\"x\":1}\n{\"version\":1,\"x\":2}\n{\"version\":1,\"gone\":\"b\\u001b\"}\n";
        assert_eq!(text, want);
        assert!(!changes(&args(false), &before, &[]).contains('\x1b'));
    }

    #[test]
    fn a_text_is_found_in_any_case_wherever_it_stands() {
        let thing =
            row("1-2", json!({ "labels": ["Nightly run"], "roots": [{ "path": "x/y" }] }), &[]);
        let found = |text: &str| thing.word_with(text);
        assert_eq!(found("nightly"), Some(("labels".to_owned(), "Nightly run".to_owned())));
        assert_eq!(found("x/"), Some(("roots".to_owned(), "x/y".to_owned())));
        assert_eq!(found("nothing"), None);
    }
}
