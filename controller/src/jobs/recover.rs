//! Recovery: the records of all jobs are read from the journal, and those that run go on.
//!
//! It writes nothing, so that a crash in the middle of it changes nothing.

use super::record::{
    self, FINDINGS_ROW, JobOrigin, JobProgress, JobRecord, WalkPlace, end_key, item_key,
};
use super::usage::Amount;
use super::{Book, BookAction, DurableJob, JobWait, Phase, ReadFor};
use crate::core::{BookRequest, Principal};
use crate::journal::{Rows, TableId};
use ipc_proto::message::{JobId, JobState};
use std::cmp::Reverse;
use std::rc::Rc;
use std::time::Duration;

impl Book {
    /// Forgets everything, and reads it again.
    pub(super) fn recover(&mut self) {
        let pages = std::mem::take(&mut self.of_list);
        self.actions.extend(pages.into_keys().map(BookAction::Unlist));
        let core_jobs: Vec<JobId> = self.of_core.keys().copied().collect();
        let drop = |job| BookAction::Core(BookRequest::Cancel { job });
        self.actions.extend(core_jobs.into_iter().map(drop));
        self.of_core.clear();
        self.opening.clear();
        self.jobs.clear();
        self.keys.clear();
        self.usage.clear();
        self.ready.clear();
        self.fed.clear();
        self.auditing.clear();
        self.audit = None;
        // Reads for a reply are done again.
        let deadline = self.at.monotonic;
        for read in std::mem::take(&mut self.reads).into_values() {
            match read {
                ReadFor::Reply { caller, tag, job, from, limit } => {
                    let results = Some((from, limit));
                    self.waits.push(JobWait { caller, tag, job, deadline, results });
                }
                // Not of what is being decided, so that it can be read at once.
                read @ ReadFor::Deaths { job, from, .. } => {
                    self.read(read, (TableId::Deaths, item_key(job, from), end_key(job)));
                }
                read @ ReadFor::Findings { job, from, .. } => {
                    let first = from - from % FINDINGS_ROW;
                    self.read(read, (TableId::Findings, item_key(job, first), end_key(job)));
                }
                ReadFor::LastId | ReadFor::Records | ReadFor::Feed(..) | ReadFor::Audit(..) => {}
            }
        }
        self.read(ReadFor::LastId, record::last_id_range());
        self.read(ReadFor::Records, (TableId::Jobs, Vec::new(), Vec::new()));
    }

    /// Takes in records; a page of them, or the last id.
    pub(super) fn recovered(&mut self, purpose: ReadFor, rows: Result<Rows, String>) {
        let rows = match rows {
            Ok(rows) => rows,
            Err(text) => return self.not_recovered(format!("the journal cannot be read: {text}")),
        };
        let taken = rows.rows.iter().try_for_each(|(key, value)| {
            if purpose == ReadFor::LastId {
                self.last_id = self.last_id.max(record::last_id(value)?);
                return Ok(());
            }
            let (id, record) = record::job_record(key, value)?;
            self.recall(id, record);
            Ok(())
        });
        if let Err(record::BadRow(text)) = taken {
            return self.not_recovered(format!("the journal is damaged: {text}"));
        }
        if purpose == ReadFor::LastId {
            return;
        }
        if rows.more
            && let Some((last, _)) = rows.rows.last()
        {
            let next = [last, &[0][..]].concat();
            return self.read(ReadFor::Records, (TableId::Jobs, next, Vec::new()));
        }
        self.all_recovered();
    }

    fn not_recovered(&mut self, text: String) {
        self.phase = Phase::Failed { text };
        self.answer_held();
    }

    fn recall(&mut self, id: JobId, record: JobRecord) {
        // A later id than the one that was noted, if that was not noted yet.
        self.last_id = self.last_id.max(id);
        match record {
            JobRecord::Origin(origin) => {
                let progress = JobProgress::new(&origin);
                self.jobs.insert(id, DurableJob::new(Rc::new(*origin), progress));
            }
            JobRecord::Audit(audited) => {
                if let Some(job) = self.jobs.get_mut(&id) {
                    job.audited = Some(audited);
                }
            }
            JobRecord::Claims(claims) => {
                if let Some(job) = self.jobs.get_mut(&id) {
                    job.claims = Some(claims);
                }
            }
            JobRecord::ItemsMax(items_max) => {
                if let Some(job) = self.jobs.get_mut(&id) {
                    job.items_max = items_max;
                }
            }
            // What this process has ended it tells of.
            JobRecord::Untold if self.has_recovered => {}
            JobRecord::Untold => self.untold.push(id),
            // The origin comes first, as its key does.
            JobRecord::Progress(progress) => {
                if let Some(job) = self.jobs.get_mut(&id) {
                    job.committed = progress.resolved;
                    job.readable = progress.items;
                    job.progress = progress;
                }
            }
        }
    }

    fn all_recovered(&mut self) {
        for (&id, job) in &self.jobs {
            let principal = Principal::from(job.origin.principal);
            self.usage.add(principal, Amount::of(&job.origin, &job.progress));
            if !job.origin.key.is_empty() {
                self.keys.insert((principal, job.origin.key.clone()), id);
            }
            if job.progress.state == JobState::Running {
                self.ready.insert((Reverse(job.origin.spec.priority), id));
            }
        }
        self.has_recovered = true;
        for id in std::mem::take(&mut self.untold) {
            self.tell_end(id);
        }
        self.answer_held();
    }

    fn answer_held(&mut self) {
        for (caller, tag, principal, rights, request) in std::mem::take(&mut self.held) {
            self.ask(caller, tag, principal, &rights, request);
        }
    }
}

impl JobProgress {
    /// Of a job that was just submitted.
    pub(super) fn new(origin: &JobOrigin) -> Self {
        let is_stored = origin.spec.source == ipc_proto::message::JobSource::Stored;
        Self {
            state: if is_stored { JobState::Filling } else { JobState::Running },
            reason: String::new(),
            items: 0,
            is_complete: false,
            resolved: 0,
            failed: 0,
            mismatched: 0,
            bytes: 0,
            started_s: 0,
            ended_s: 0,
            stored_len: 0,
            walked: (!is_stored).then(WalkPlace::default),
            again: None,
        }
    }
}

impl DurableJob {
    pub(super) fn new(origin: Rc<JobOrigin>, progress: JobProgress) -> Self {
        Self {
            origin,
            progress,
            committed: 0,
            readable: 0,
            run_after: 0,
            feed: None,
            audited: None,
            claims: None,
            items_max: u64::MAX,
            not_before: Duration::ZERO,
            expired: None,
        }
    }
}
