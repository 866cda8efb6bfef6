//! Schedules as they are checked.

use crate::calendar::{Trigger, Zone};
use crate::keys::OCCASIONS;
use crate::template::Template;
use crate::values::Daily;
use ipc_proto::Algorithms;
use std::collections::BTreeMap;
use std::time::Duration;

/// Content of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedules {
    /// In the order of the file; no two have the same name.
    pub schedules: Vec<Schedule>,
}

/// Tasks that run together, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Its name.
    pub name: String,
    /// When it is due; without one it runs only by hand.
    pub trigger: Option<Trigger>,
    /// Time zone of the trigger, of windows and of `${date}`.
    pub zone: Zone,
    /// Longest delay of each due time. The delay is the same every time: it depends on the name.
    pub jitter: Duration,
    /// Effect of due times at which nothing could run.
    pub missed: Missed,
    /// Effect of a due time while the run before still goes on.
    pub overlap: Overlap,
    /// A run is cancelled, and has failed, this long after its due time.
    pub deadline: Option<Duration>,
    /// Runs whose records are kept.
    pub keep: u32,
    /// Notifications of a run's end.
    pub notify: Vec<Notification>,
    /// Tasks and gates of groups, each behind all that it waits for.
    pub steps: Vec<Step>,
}

/// A node of a schedule's graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its name, unique in its schedule; a group's member has the group's before its own: `group.task`.
    pub name: String,
    /// Indices of the steps that end before this one starts, all smaller than its own.
    pub after: Vec<usize>,
    /// Its work; without any it is the gate of a group, and ends at once.
    pub task: Option<ScheduledTask>,
}

/// One job of a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduledTask {
    /// The job's kind.
    pub kind: TaskKind,
    /// The dataset that it reads.
    pub dataset: String,
    /// Directory in the dataset; empty for all of it.
    pub path: Template,
    /// Algorithms.
    pub algorithms: Algorithms,
    /// Effect of its failure on the tasks that have not started.
    pub on_failure: OnFailure,
    /// Time limit of one attempt.
    pub timeout: Option<Duration>,
    /// Further attempts after a failure.
    pub retries: Backoff,
    /// Bytes per second that are read at most.
    pub rate: Option<u64>,
    /// Hours of the day in which it runs; always if there are none.
    pub only: Vec<Daily>,
    /// Priority of its job: a higher one is served first.
    pub priority: u8,
    /// Labels of its job.
    pub labels: BTreeMap<String, Template>,
}

/// Kinds of tasks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskKind {
    /// Digests of all files.
    Sum,
    /// Digests compared with those of a manifest, a file of the dataset.
    Check {
        /// Path in the dataset.
        manifest: Template,
    },
    /// Differences: new, gone, changed or moved against a manifest, or against the last good run.
    Audit {
        /// Path in the dataset; none means the last good run.
        manifest: Option<Template>,
    },
    /// A share of the files per run, those first that were read longest ago.
    Scrub {
        /// Everything is read once per period.
        period: Duration,
    },
}

/// See [`Schedule::missed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missed {
    /// One run, however many due times were missed.
    Once,
    /// No run before the next due time.
    Skip,
}

/// See [`Schedule::overlap`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overlap {
    /// The due time is skipped.
    Forbid,
    /// One run waits for the end of the run before; further due times are skipped.
    Queue,
}

/// See [`ScheduledTask::on_failure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// No further task of the run starts.
    Stop,
    /// Tasks after it start all the same.
    Continue,
}

/// Attempts after the first, with doubling delays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Further attempts.
    pub count: u32,
    /// Delay before the first of them; each next delay is twice as long.
    pub delay: Duration,
    /// Longest delay.
    pub delay_max: Duration,
}

impl Backoff {
    /// Delay before further attempt `number`, counted from 1; none when attempts are used up.
    #[must_use]
    pub fn delay_before(&self, number: u32) -> Option<Duration> {
        if number == 0 || number > self.count {
            return None;
        }
        let doubled = 1_u32.checked_shl(number - 1).unwrap_or(u32::MAX);
        Some(self.delay.saturating_mul(doubled).min(self.delay_max))
    }
}

/// Recipient of news about runs, and when it hears them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// Occasions, at least one.
    pub on: Vec<Occasion>,
    /// Its receiver.
    pub receiver: Recipient,
}

/// When a notification is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Occasion {
    /// A run failed, was cancelled or missed its deadline.
    Failure,
    /// A run differs from the run before.
    Change,
    /// Content changed while size and time of modification did not.
    Rot,
    /// A run succeeded.
    Success,
}

impl Occasion {
    /// Its word in files and notices.
    #[must_use]
    pub fn name(self) -> &'static str {
        OCCASIONS[self as usize]
    }
}

/// Recipient of a notification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recipient {
    /// JSON is posted there.
    Url {
        /// `http://HOST[:PORT]/PATH` or `unix:SOCKET[:/PATH]`.
        url: String,
        /// Name of the secret that signs it.
        secret: Option<String>,
    },
    /// A command that the controller's operator permits gets JSON on standard input.
    Command {
        /// Its name, without a directory.
        name: String,
        /// Its arguments.
        args: Vec<String>,
    },
}
