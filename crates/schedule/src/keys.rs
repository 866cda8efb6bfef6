//! The keys of a schedule file, each with the places where it may stand, its kind of value and its meaning.
//!
//! Reading, the JSON Schema and the table of `docs/schedules.md` all come from this table, or are
//! compared with it.

use ipc_proto::limits::JOB_PRIORITY_MAX;
use std::fmt;

/// Places of keys, as bits.
pub(crate) type KeyLevel = u8;
pub(crate) const FILE: KeyLevel = 1;
pub(crate) const SCHEDULE: KeyLevel = 2;
pub(crate) const GROUP: KeyLevel = 4;
pub(crate) const TASK: KeyLevel = 8;

/// From where a key applies to all that is below, unless it stands there again.
const ALL: KeyLevel = FILE | SCHEDULE | GROUP | TASK;

/// One key.
#[derive(Debug)]
pub(crate) struct KeyRule {
    pub(crate) name: &'static str,
    pub(crate) of: KeyLevel,
    pub(crate) kind: ValueKind,
    pub(crate) text: &'static str,
}

/// Kinds of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ValueKind {
    Schedules,
    Tasks,
    Zone,
    Cron,
    /// Seconds.
    Duration {
        min: u64,
        max: u64,
    },
    Number {
        min: i64,
        max: i64,
    },
    Rate,
    Windows,
    OneOf(&'static [&'static str]),
    Names,
    Dataset,
    Path,
    Algorithms,
    Retries,
    Labels,
    Parameters,
    Notifications,
}

const YEAR: u64 = 366 * 86_400;

pub(crate) const KINDS: &[&str] = &["sum", "check", "audit", "scrub"];
pub(crate) const MISSED: &[&str] = &["once", "skip"];
pub(crate) const OVERLAP: &[&str] = &["forbid", "queue"];
pub(crate) const ON_FAILURE: &[&str] = &["stop", "continue"];
pub(crate) const OCCASIONS: &[&str] = &["failure", "change", "rot", "success"];

pub(crate) const DELAY: ValueKind = ValueKind::Duration { min: 1, max: 7 * 86_400 };
pub(crate) const RETRIES: ValueKind = ValueKind::Number { min: 0, max: 100 };

pub(crate) const KEYS: &[KeyRule] = &[
    key("schedules", FILE, ValueKind::Schedules, "Schedules by name"),
    key(
        "timezone",
        FILE | SCHEDULE,
        ValueKind::Zone,
        "Time zone of `at`, `only` and `${date}` [default: UTC]",
    ),
    key("at", SCHEDULE, ValueKind::Cron, "Due times: a cron expression, or a list of them"),
    key(
        "every",
        SCHEDULE,
        ValueKind::Duration { min: 60, max: YEAR },
        "Due at multiples of this interval since 1970-01-01T00:00Z, instead of `at`",
    ),
    key(
        "jitter",
        FILE | SCHEDULE,
        ValueKind::Duration { min: 0, max: 7 * 86_400 },
        "Delays all due times by 0 to this, depending on the schedule's name only [default: 0s]",
    ),
    key(
        "missed",
        FILE | SCHEDULE,
        ValueKind::OneOf(MISSED),
        "After due times at which the controller did not run: one run, or none [default: once]",
    ),
    key(
        "overlap",
        FILE | SCHEDULE,
        ValueKind::OneOf(OVERLAP),
        "A due time while the run before goes on: skipped, or one run waits for its end [default: forbid]",
    ),
    key(
        "deadline",
        FILE | SCHEDULE,
        ValueKind::Duration { min: 60, max: YEAR },
        "A run is cancelled, and has failed, this long after its due time [default: none]",
    ),
    key(
        "keep",
        FILE | SCHEDULE,
        ValueKind::Number { min: 2, max: 10_000 },
        "Records of runs that are kept [default: 100]",
    ),
    key("notify", FILE | SCHEDULE, ValueKind::Notifications, "Who hears of a run's end"),
    key(
        "parallel",
        SCHEDULE | GROUP,
        ValueKind::Tasks,
        "A group of tasks and groups by name, which run at the same time unless `after` says otherwise",
    ),
    key(
        "sequential",
        SCHEDULE | GROUP,
        ValueKind::Tasks,
        "A group of tasks and groups by name, which run one after the other in the order of the file",
    ),
    key("after", GROUP | TASK, ValueKind::Names, "Tasks or groups that end before this one starts"),
    key(
        "kind",
        SCHEDULE | TASK,
        ValueKind::OneOf(KINDS),
        "Makes this a task: digests, a check of a manifest, differences, or a share of the files per run",
    ),
    key(
        "manifest",
        SCHEDULE | TASK,
        ValueKind::Path,
        "Manifest in the dataset: of a check required; an audit without one compares with the last good run",
    ),
    key(
        "period",
        SCHEDULE | TASK,
        ValueKind::Duration { min: 3_600, max: 10 * YEAR },
        "A scrub reads everything once per period; required",
    ),
    key(
        "dataset",
        ALL,
        ValueKind::Dataset,
        "Name of a dataset of the workers; every task needs one",
    ),
    key("path", ALL, ValueKind::Path, "Directory in the dataset [default: all of it]"),
    key(
        "algorithms",
        ALL,
        ValueKind::Algorithms,
        "One algorithm, or a list of up to 4 [default: sha256]",
    ),
    key(
        "timeout",
        ALL,
        ValueKind::Duration { min: 1, max: YEAR },
        "Time limit of one attempt of a task [default: none]",
    ),
    key(
        "retries",
        ALL,
        ValueKind::Retries,
        "Further attempts after a failure: a number, or `count`, `delay` and `delay_max` [default: 0]",
    ),
    key(
        "on_failure",
        ALL,
        ValueKind::OneOf(ON_FAILURE),
        "A failed task: no further task of the run starts, or those after it start all the same [default: stop]",
    ),
    key(
        "rate",
        ALL,
        ValueKind::Rate,
        "Bytes per second that one task reads at most [default: no limit]",
    ),
    key(
        "only",
        ALL,
        ValueKind::Windows,
        "Hours of the day, or a list of them, outside of which tasks pause [default: always]",
    ),
    key(
        "priority",
        ALL,
        ValueKind::Number { min: 0, max: JOB_PRIORITY_MAX as i64 },
        "Higher ones are served first [default: 0]",
    ),
    key("labels", ALL, ValueKind::Labels, "Labels of the jobs; added to those from above"),
    key(
        "parameters",
        ALL,
        ValueKind::Parameters,
        "Values for `${NAME}` here and below; added to those from above",
    ),
];

const fn key(name: &'static str, of: KeyLevel, kind: ValueKind, text: &'static str) -> KeyRule {
    KeyRule { name, of, kind, text }
}

/// Names of the keys that may stand at `level`.
pub(crate) fn keys_of(level: KeyLevel) -> impl Iterator<Item = &'static str> + Clone {
    KEYS.iter().filter(move |rule| rule.of & level != 0).map(|rule| rule.name)
}

/// The kind of a key of this table.
pub(crate) fn kind_of(name: &str) -> ValueKind {
    let rule = KEYS.iter().find(|rule| rule.name == name);
    rule.map_or(ValueKind::Names, |rule| rule.kind)
}

/// Words for the kind, behind `write`.
impl fmt::Display for ValueKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Schedules => f.write_str("a map of schedules by name"),
            Self::Tasks => f.write_str("a map of tasks and groups by name"),
            Self::Zone => f.write_str("a name of the IANA database, such as Europe/Berlin"),
            Self::Cron => f.write_str("a cron expression, such as \"30 2 * * *\""),
            Self::Duration { min, max } => {
                let [min, max] =
                    [*min, *max].map(|s| crate::duration_text(std::time::Duration::from_secs(s)));
                write!(f, "a duration of {min} to {max}, such as 90s, 1h30m or 2d")
            }
            Self::Number { min, max } => write!(f, "a number of {min} to {max}"),
            Self::Rate => f.write_str("bytes per second, perhaps with K, M, G or T, such as 200M"),
            Self::Windows => f.write_str("hours such as 22:00-06:00, or a list of them"),
            Self::OneOf(words) => f.write_str(&words.join(" or ")),
            Self::Names => f.write_str("a name, or a list of names"),
            Self::Dataset => {
                write!(f, "a name of up to {} bytes", ipc_proto::limits::DATASET_LEN_MAX)
            }
            Self::Path => f.write_str("a relative path without '..', '.' or '//'"),
            Self::Algorithms => {
                let names = ipc_proto::Algorithm::ALL.map(ipc_proto::Algorithm::name).join(", ");
                let max = ipc_proto::limits::ITEM_ALGORITHMS_MAX;
                write!(f, "one to {max} of {names}")
            }
            Self::Retries => {
                write!(f, "a number of 0 to 100, or a map of count, delay and delay_max")
            }
            Self::Labels | Self::Parameters => f.write_str("a map of names to values"),
            Self::Notifications => f.write_str("a map with url or command, or a list of them"),
        }
    }
}
