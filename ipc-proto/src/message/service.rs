//! Requests about durable jobs, which outlive the connection that submits them, and their replies.
//!
//! The same enum serves the client socket and every other way into the controller. Lists are paged: a
//! request names what it has already, and a reply says whether there is more.
//!
//! Not here: jobs that end with their connection (`client`).

use super::loss::check_losses;
use super::{
    AuditCounts, AuditRow, EventRow, Failure, Items, JobId, JobSource, LimitExceeded, NameShare,
    RuleRow, ScheduleReply, ScheduleRequest, Stamp, WorkerLoss, at_most, exactly, within,
};
use crate::limits::{
    BACKUP_PIECE_LEN_MAX, EVENT_ROWS_MAX, FRAME_NAMES_MAX, JOB_KEY_LEN_MAX, JOB_LABELS_MAX,
    JOB_PRIORITY_MAX, JOB_ROWS_MAX, LOSSES_MAX, NAME_LEN_MAX, NAMES_LEN_MAX, OUTPUTS_LEN_MAX,
    PATH_LEN_MAX, REASON_LEN_MAX, RULES_MAX,
};
use crate::{Algorithms, Blob, list};
use serde::{Deserialize, Serialize};

/// A client's request about durable jobs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServiceRequest {
    /// Creates a job. With a `key` that this principal used before the job of that time is meant, if its
    /// `spec` is the same. Answered by `Job`.
    Submit {
        /// Chosen by the client, unique among the jobs of its principal; empty for none.
        key: String,
        /// The job.
        spec: Box<JobSpec>,
    },
    /// Adds items to a job whose source is [`JobSource::Stored`]. Answered by `Job`.
    Store {
        /// The job.
        job: JobId,
        /// Index of the first item: the number of items stored before. Items that are stored already
        /// are not stored again.
        first: u64,
        /// The name of each item in the manifest.
        #[serde(deserialize_with = "list::at_most::<_, _, FRAME_NAMES_MAX>")]
        names: Vec<Blob>,
        /// The expected digests of each item in a [`JobKind::Check`]; otherwise empty.
        #[serde(deserialize_with = "list::at_most::<_, _, FRAME_NAMES_MAX>")]
        expected: Vec<Blob>,
        /// The items, 1 to [`FRAME_NAMES_MAX`].
        items: Items,
    },
    /// There are no more items: the job runs from here on. Answered by `Job`.
    Seal {
        /// The job.
        job: JobId,
    },
    /// Lists jobs in ascending order of their ids. Answered by `Jobs`.
    Jobs {
        /// The jobs to list.
        filter: JobFilter,
        /// The last one listed before.
        after: Option<JobId>,
        /// Most rows.
        limit: u16,
    },
    /// Answered by `Job`.
    Job {
        /// The job.
        job: JobId,
    },
    /// Answered by `Job`, as soon as the job has ended or the time is over.
    Wait {
        /// The job.
        job: JobId,
        /// Longest time to wait, in milliseconds.
        timeout_ms: u32,
    },
    /// Answered by `Results`, as soon as there is one or the time is over.
    Results {
        /// The job.
        job: JobId,
        /// Index of the first item.
        from: u64,
        /// Most rows.
        limit: u16,
        /// Longest time to wait, in milliseconds.
        wait_ms: u32,
    },
    /// Answered by `Job`.
    Act {
        /// The job.
        job: JobId,
        /// The change.
        act: JobAct,
    },
    /// Lists items that failed because their workers were lost. Answered by `Deaths`.
    Deaths {
        /// The job.
        job: JobId,
        /// Index of the first item to list.
        from: u64,
        /// Most rows.
        limit: u16,
    },
    /// A request about schedules. Answered by `Schedule`.
    Schedule(ScheduleRequest),
    /// Lists events of the audit trail, in ascending order of their numbers. Answered by `Events`.
    Events {
        /// The last one that is known; 0 for none.
        after: u64,
        /// Most rows.
        limit: u16,
    },
    /// Lists the rules of the policy, in their order. Answered by `Rules`.
    Rules,
    /// Reads a piece of a backup of the controller's journal. Answered by `Backup`.
    Backup {
        /// Bytes of the pieces before it; with 0 a backup begins, of the journal as it is then.
        from: u64,
    },
    /// Lists the findings of an audit that is done, in the order of the walk. Answered by `Findings`.
    Findings {
        /// The job.
        job: JobId,
        /// Number of findings before the first one to list.
        from: u64,
        /// Most rows.
        limit: u16,
    },
}

/// A durable job as it was submitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSpec {
    /// Purpose of the digests.
    pub kind: JobKind,
    /// The digests of each item, in this order.
    pub algorithms: Algorithms,
    /// Where its items come from.
    pub source: JobSource,
    /// One item per this many is hashed a second time; 0 for none.
    pub cross_check: u32,
    /// A file must be shown to have no writer before it is read, however old its stamp.
    pub strict_reads: bool,
    /// Words to find it by.
    #[serde(deserialize_with = "list::at_most::<_, _, JOB_LABELS_MAX>")]
    pub labels: Vec<String>,
    /// 0 to [`JOB_PRIORITY_MAX`]; jobs of a higher one start first.
    pub priority: u8,
    /// Seconds that it is kept for after its end; 0 for as long as the controller keeps jobs.
    pub keep_s: u32,
    /// Bytes per second that are read for it at most; 0 for no limit.
    pub rate: u64,
    /// Its files among those of its source; of [`JobSource::Stored`] all.
    pub share: NameShare,
}

/// Purpose of a durable job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobKind {
    /// Digests.
    Sum,
    /// Digests, compared with expected ones.
    Check,
    /// Digests, compared with those of an earlier job, and what was found or is missing.
    Audit,
    /// Digests of a share of the files, of a schedule that reads everything once per period.
    Scrub,
}

/// A choice of durable jobs. Every part that is given must fit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobFilter {
    /// In this state.
    pub state: Option<JobState>,
    /// With this label; empty for any.
    pub label: String,
    /// With this key; empty for any.
    pub key: String,
}

/// State of a durable job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobState {
    /// Items are being stored.
    Filling,
    /// It runs, or will as soon as there is room for it.
    Running,
    /// It waits for `Resume`.
    Paused,
    /// Every item has a result.
    Done,
    /// It ended before every item had a result.
    Cancelled,
    /// It cannot go on.
    Failed,
}

impl JobState {
    /// Its word in text and JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Filling => "filling",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Done => "done",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
        }
    }

    /// True if it changes only by a request.
    #[must_use]
    pub fn has_ended(self) -> bool {
        matches!(self, Self::Done | Self::Cancelled | Self::Failed)
    }
}

/// A change of a durable job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobAct {
    /// Ends it; the results so far stay.
    Cancel,
    /// Hashes the items again that failed.
    Retry,
    /// Holds it back.
    Pause,
    /// Lets it run again.
    Resume,
    /// Forgets it, with its items and results. It must have ended.
    Remove,
}

/// The controller's answer to a [`ServiceRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServiceReply {
    /// Nothing was changed.
    Refused {
        /// Why, for a program.
        reason: ServiceRefusal,
        /// Why, for a person.
        text: String,
    },
    /// A job, after the change that was asked for; that change is durable.
    Job(Box<JobRow>),
    /// Jobs.
    Jobs {
        /// In ascending order of their ids.
        #[serde(deserialize_with = "list::at_most::<_, _, JOB_ROWS_MAX>")]
        rows: Vec<JobRow>,
        /// There are more after the last of them.
        more: bool,
    },
    /// Durable results of neighbouring items.
    Results {
        /// The job.
        job: JobId,
        /// Index of the first item.
        from: u64,
        /// In the order of the items.
        #[serde(deserialize_with = "list::at_most::<_, _, FRAME_NAMES_MAX>")]
        rows: Vec<ResultRow>,
        /// State of the job.
        state: JobState,
        /// The job has ended, and no result comes after these.
        is_last: bool,
    },
    /// Items that failed because their workers were lost.
    Deaths {
        /// In ascending order of their indexes.
        #[serde(deserialize_with = "list::at_most::<_, _, FRAME_NAMES_MAX>")]
        rows: Vec<DeadItem>,
        /// There are more after the last of them.
        more: bool,
    },
    /// The answer to a request about schedules.
    Schedule(ScheduleReply),
    /// Events of the audit trail.
    Events {
        /// In ascending order of their numbers.
        #[serde(deserialize_with = "list::at_most::<_, _, EVENT_ROWS_MAX>")]
        rows: Vec<EventRow>,
        /// There are more after the last of them.
        more: bool,
    },
    /// The rules of the policy; the first one that names a peer is its own.
    Rules(#[serde(deserialize_with = "list::at_most::<_, _, RULES_MAX>")] Vec<RuleRow>),
    /// A piece of a backup.
    Backup {
        /// Bytes of the pieces before it.
        from: u64,
        /// At most [`BACKUP_PIECE_LEN_MAX`] bytes, at least one.
        bytes: Blob,
        /// The backup ends with it.
        is_last: bool,
    },
    /// Findings of an audit.
    Findings {
        /// In the order of the walk, from `from` on.
        #[serde(deserialize_with = "list::at_most::<_, _, FRAME_NAMES_MAX>")]
        rows: Vec<AuditRow>,
        /// There are more after the last of them.
        more: bool,
    },
}

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServiceRefusal {
    /// The controller keeps no journal.
    NoJournal,
    /// The journal takes no more for now, or not until the controller restarts.
    JournalFailed,
    /// The controller's policy does not let this client do it.
    Forbidden,
    /// No job of this id, or none that this client may see.
    UnknownJob,
    /// The controller has no dataset of this name, or not for this client.
    UnknownDataset,
    /// The key is that of a job with another spec.
    KeyTaken,
    /// Not in the state that the job is in.
    WrongState,
    /// Items were left out, or do not fit the job.
    WrongItems,
    /// Passed descriptors end with their connection.
    NotDurable,
    /// A limit on what is stored is reached.
    TooMuch,
    /// No schedule of this name, or no run of this number, or none that this client may see.
    UnknownSchedule,
    /// The text is no schedule, or one that this controller cannot run.
    BadSchedule,
}

/// A durable job and how far it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRow {
    /// Its id, never used again, by any controller.
    pub id: JobId,
    /// Key of its `Submit`.
    pub key: String,
    /// The job as it was submitted.
    pub spec: JobSpec,
    /// User that submitted it, for a person.
    pub principal: String,
    /// Its state.
    pub state: JobState,
    /// Why it failed; empty otherwise.
    pub reason: String,
    /// Items stored or found so far.
    pub items: u64,
    /// No further items are found or stored.
    pub is_complete: bool,
    /// Items with a result.
    pub resolved: u64,
    /// Those of them without a digest.
    pub failed: u64,
    /// Those of them whose digest is not the expected one.
    pub mismatched: u64,
    /// Bytes of the items with a digest.
    pub bytes: u64,
    /// Time of its submission, in seconds since 1970.
    pub created_s: u64,
    /// Time when it first ran, in seconds since 1970; 0 for not yet.
    pub started_s: u64,
    /// Time of its end, in seconds since 1970; 0 for not yet.
    pub ended_s: u64,
    /// Numbers of the findings of an audit that is done.
    pub findings: Option<AuditCounts>,
}

/// An item that failed because its workers were lost, with the reasons.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadItem {
    /// Its index in the job.
    pub index: u64,
    /// Its name in the manifest.
    pub name: Blob,
    /// Every lease of it that was lost, in order.
    #[serde(deserialize_with = "list::at_most::<_, _, LOSSES_MAX>")]
    pub losses: Vec<WorkerLoss>,
}

/// The durable result of one item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResultRow {
    /// Its name in the manifest.
    pub name: Blob,
    /// Metadata of the file when it was handed out; zeros for bytes.
    pub stamp: Stamp,
    /// The outcome.
    pub outcome: ItemOutcome,
}

/// The outcome of an item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ItemOutcome {
    /// Its digests, back to back, in the order of the algorithms.
    Digests(Blob),
    /// Its digests, which are not the expected ones.
    Mismatch(Blob),
    /// It has no digest.
    Failed(Failure),
}

impl ServiceRequest {
    pub(super) fn descriptors_len(&self) -> usize {
        match self {
            Self::Store { items, .. } => items.descriptors_len(),
            Self::Submit { .. }
            | Self::Seal { .. }
            | Self::Jobs { .. }
            | Self::Job { .. }
            | Self::Wait { .. }
            | Self::Results { .. }
            | Self::Act { .. }
            | Self::Deaths { .. }
            | Self::Schedule(_)
            | Self::Events { .. }
            | Self::Rules
            | Self::Backup { .. }
            | Self::Findings { .. } => 0,
        }
    }

    /// Compares every field with its limit, as a receiver does.
    ///
    /// # Errors
    /// The first field that breaks one.
    pub fn check(&self) -> Result<(), LimitExceeded> {
        match self {
            Self::Submit { key, spec } => {
                at_most("key", key.len(), JOB_KEY_LEN_MAX)?;
                spec.check()
            }
            Self::Store { first, names, expected, items, .. } => {
                items.check()?;
                super::client::check_indexes(*first, items.items_len())?;
                within("names", names.len(), 1, FRAME_NAMES_MAX)?;
                exactly("names", names.len() as u64, items.items_len() as u64)?;
                names.iter().try_for_each(check_name)?;
                at_most("bytes of names", names.iter().map(|n| n.len()).sum(), NAMES_LEN_MAX / 2)?;
                if !expected.is_empty() {
                    exactly("expected digests", expected.len() as u64, names.len() as u64)?;
                }
                expected.iter().try_for_each(|digests| {
                    within("expected digest", digests.len(), 1, OUTPUTS_LEN_MAX)
                })
            }
            Self::Jobs { filter, limit, .. } => {
                at_most("label", filter.label.len(), NAME_LEN_MAX)?;
                at_most("key", filter.key.len(), JOB_KEY_LEN_MAX)?;
                within("limit", (*limit).into(), 1, JOB_ROWS_MAX)
            }
            Self::Results { limit, .. }
            | Self::Deaths { limit, .. }
            | Self::Findings { limit, .. } => within("limit", (*limit).into(), 1, FRAME_NAMES_MAX),
            Self::Schedule(request) => request.check(),
            Self::Events { limit, .. } => within("limit", (*limit).into(), 1, EVENT_ROWS_MAX),
            Self::Seal { .. }
            | Self::Job { .. }
            | Self::Wait { .. }
            | Self::Act { .. }
            | Self::Rules
            | Self::Backup { .. } => Ok(()),
        }
    }
}

/// A name in a manifest: bytes of a path, which need not lead anywhere.
pub(super) fn check_name(name: &Blob) -> Result<(), LimitExceeded> {
    within("name length", name.len(), 1, PATH_LEN_MAX)?;
    let zeros_len = name.iter().filter(|&&byte| byte == 0).count();
    exactly("zero bytes in a name", zeros_len as u64, 0)
}

impl JobSpec {
    /// Compares every field with its limit.
    ///
    /// # Errors
    /// The first field that breaks one.
    pub fn check(&self) -> Result<(), LimitExceeded> {
        at_most("labels", self.labels.len(), JOB_LABELS_MAX)?;
        self.labels.iter().try_for_each(|label| within("label", label.len(), 1, NAME_LEN_MAX))?;
        at_most("priority", self.priority.into(), JOB_PRIORITY_MAX.into())?;
        self.source.check(self.kind)
    }
}

impl ServiceReply {
    pub(super) fn check(&self) -> Result<(), LimitExceeded> {
        match self {
            Self::Refused { text, .. } => at_most("text", text.len(), REASON_LEN_MAX),
            Self::Job(row) => row.check(),
            Self::Jobs { rows, .. } => {
                at_most("rows", rows.len(), JOB_ROWS_MAX)?;
                rows.iter().try_for_each(JobRow::check)
            }
            Self::Results { rows, .. } => {
                at_most("rows", rows.len(), FRAME_NAMES_MAX)?;
                rows.iter().try_for_each(ResultRow::check)
            }
            Self::Deaths { rows, .. } => {
                at_most("rows", rows.len(), FRAME_NAMES_MAX)?;
                rows.iter().try_for_each(DeadItem::check)
            }
            Self::Schedule(reply) => reply.check(),
            Self::Events { rows, .. } => {
                at_most("rows", rows.len(), EVENT_ROWS_MAX)?;
                rows.iter().try_for_each(EventRow::check)
            }
            Self::Rules(rows) => {
                at_most("rules", rows.len(), RULES_MAX)?;
                rows.iter().try_for_each(RuleRow::check)
            }
            Self::Backup { bytes, .. } => {
                within("bytes of a piece", bytes.len(), 1, BACKUP_PIECE_LEN_MAX)
            }
            Self::Findings { rows, .. } => {
                at_most("rows", rows.len(), FRAME_NAMES_MAX)?;
                rows.iter().try_for_each(AuditRow::check)
            }
        }
    }
}

impl JobRow {
    /// Number of its files that are not as they should be.
    #[must_use]
    pub fn bad_items(&self) -> u64 {
        let findings = self.findings.map_or(0, AuditCounts::differences);
        findings.max(self.failed.saturating_add(self.mismatched))
    }

    fn check(&self) -> Result<(), LimitExceeded> {
        at_most("key", self.key.len(), JOB_KEY_LEN_MAX)?;
        self.spec.check()?;
        at_most("principal", self.principal.len(), NAME_LEN_MAX)?;
        at_most("reason", self.reason.len(), REASON_LEN_MAX)
    }
}

impl DeadItem {
    fn check(&self) -> Result<(), LimitExceeded> {
        within("name length", self.name.len(), 1, 2 * PATH_LEN_MAX + 1)?;
        check_losses(&self.losses)
    }
}

impl ResultRow {
    /// Compares every field with its limit.
    ///
    /// # Errors
    /// The first field that breaks one.
    pub fn check(&self) -> Result<(), LimitExceeded> {
        // The name of a root and the path of a file below it.
        within("name length", self.name.len(), 1, 2 * PATH_LEN_MAX + 1)?;
        match &self.outcome {
            ItemOutcome::Digests(digests) | ItemOutcome::Mismatch(digests) => {
                within("digests", digests.len(), 1, OUTPUTS_LEN_MAX)
            }
            ItemOutcome::Failed(_) => Ok(()),
        }
    }
}
