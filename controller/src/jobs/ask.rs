//! Requests: who may make them, and those that change nothing.

use super::limits::{REPLY_LEN, WAITS_MAX};
use super::packed::unpack;
use super::record::{StoredDeath, end_key, index_of, item_key, record};
use super::{BadRow, Book, Caller, JobWait, Phase, ReadFor};
use crate::core::{Principal, Rights};
use crate::journal::{Rows, TableId};
use ipc_proto::Blob;
use ipc_proto::message::{
    DeadItem, JobFilter, JobId, JobSource, ResultRow, ServiceRefusal, ServiceReply, ServiceRequest,
};
use std::time::Duration;

/// Whoever asks, and how to answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asker<'a> {
    pub(super) caller: Caller,
    pub(super) tag: u32,
    pub(super) principal: Principal,
    pub(super) rights: &'a Rights,
}

impl Asker<'_> {
    /// True if it may know of the jobs of `owner`.
    fn may_see(&self, owner: Principal) -> bool {
        self.rights.see_jobs || self.principal == owner
    }

    /// True if it may change the jobs of `owner`.
    pub(super) fn may_change(&self, owner: Principal) -> bool {
        self.rights.submit && (self.principal == owner || self.rights.manage_jobs)
    }
}

/// Why a request is refused: for a program, and for a person.
pub(crate) type AskRefusal = (ServiceRefusal, String);

impl Book {
    pub(super) fn ask(
        &mut self,
        caller: Caller,
        tag: u32,
        principal: Principal,
        rights: &Rights,
        request: ServiceRequest,
    ) {
        let asker = Asker { caller, tag, principal, rights };
        let done = match request {
            ServiceRequest::Submit { key, spec } => self.submit(asker, key, *spec),
            ServiceRequest::Store { job, first, names, expected, items } => {
                self.store(asker, (job, first), (names, expected), items)
            }
            ServiceRequest::Seal { job } => self.seal(asker, job),
            ServiceRequest::Act { job, act } => self.act(asker, job, act),
            ServiceRequest::Jobs { filter, after, limit } => {
                self.list(asker, &filter, after, limit);
                Ok(())
            }
            ServiceRequest::Job { job } => {
                self.seen(asker, job).map(|()| self.reply_job(caller, tag, job))
            }
            ServiceRequest::Deaths { job, from, limit } => self.seen(asker, job).map(|()| {
                let range = (TableId::Deaths, item_key(job, from), end_key(job));
                self.read(ReadFor::Deaths { caller, tag, job, from, limit }, range);
            }),
            ServiceRequest::Findings { job, from, limit } => self
                .seen(asker, job)
                .map(|()| self.read_findings((caller, tag), job, (from, limit))),
            ServiceRequest::Wait { job, timeout_ms } => self.wait(asker, job, timeout_ms, None),
            ServiceRequest::Results { job, from, limit, wait_ms } => {
                self.wait(asker, job, wait_ms, Some((from, limit)))
            }
            ServiceRequest::Schedule(_)
            | ServiceRequest::Events { .. }
            | ServiceRequest::Rules
            | ServiceRequest::Backup { .. } => {
                let text = "this is not the book's to answer".to_owned();
                Err((ServiceRefusal::UnknownSchedule, text))
            }
        };
        if let Err((reason, text)) = done {
            self.refuse(caller, tag, reason, text);
        }
    }

    /// Checks that changes are possible at all, and for this client.
    pub(super) fn may_submit(&self, asker: Asker<'_>) -> Result<(), AskRefusal> {
        if !asker.rights.submit {
            let text = "this client may not submit jobs; see the controller's --policy";
            return Err((ServiceRefusal::Forbidden, text.to_owned()));
        }
        match &self.phase {
            Phase::Open => Ok(()),
            Phase::Full { text, .. } | Phase::Failed { text } => {
                Err((ServiceRefusal::JournalFailed, text.clone()))
            }
        }
    }

    /// Checks that `asker` may see `job`. One that it may not see looks as if there were none.
    pub(super) fn seen(&self, asker: Asker<'_>, id: JobId) -> Result<(), AskRefusal> {
        let owner = self.jobs.get(&id).map(|job| job.origin.principal.into());
        if owner.is_some_and(|owner| asker.may_see(owner)) {
            return Ok(());
        }
        Err((ServiceRefusal::UnknownJob, format!("there is no job {id}")))
    }

    fn list(&mut self, asker: Asker<'_>, filter: &JobFilter, after: Option<JobId>, limit: u16) {
        let first = after.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        let mut rows = Vec::new();
        let (mut len, mut more) = (0, false);
        for (&id, job) in self.jobs.range((first, std::ops::Bound::Unbounded)) {
            let (origin, state) = (&job.origin, job.progress.state);
            let fits = asker.may_see(origin.principal.into())
                && filter.state.is_none_or(|wanted| wanted == state)
                && (filter.key.is_empty() || filter.key == origin.key)
                && (filter.label.is_empty() || origin.spec.labels.contains(&filter.label));
            if !fits {
                continue;
            }
            if rows.len() >= usize::from(limit) || len >= REPLY_LEN {
                more = true;
                break;
            }
            let source = &origin.spec.source;
            len += 1024 + source.paths_len() + 8 * source.roots().len();
            rows.extend(self.row(id));
        }
        self.reply(asker.caller, asker.tag, ServiceReply::Jobs { rows, more });
    }

    fn wait(
        &mut self,
        asker: Asker<'_>,
        job: JobId,
        timeout_ms: u32,
        results: Option<(u64, u16)>,
    ) -> Result<(), AskRefusal> {
        self.seen(asker, job)?;
        let Asker { caller, tag, .. } = asker;
        if self.waits.iter().filter(|wait| wait.caller == caller).count() >= WAITS_MAX {
            let text = format!("a client may wait for {WAITS_MAX} things at a time");
            return Err((ServiceRefusal::TooMuch, text));
        }
        let deadline = self.at.monotonic + Duration::from_millis(timeout_ms.into());
        self.waits.push(JobWait { caller, tag, job, deadline, results });
        Ok(())
    }

    /// Reads results for a reply, if there are any.
    pub(super) fn read_results(
        &mut self,
        (caller, tag): (Caller, u32),
        id: JobId,
        (from, limit): (u64, u16),
    ) {
        let Some(job) = self.jobs.get(&id) else { return };
        let shown = job.shown();
        if from >= shown {
            return self.reply_results((caller, tag), id, from, Vec::new());
        }
        let chunk = from - from % super::limits::CHUNK_ITEMS;
        let end = shown.min(from.saturating_add(limit.into()));
        let range = (TableId::Results, item_key(id, chunk), item_key(id, end));
        self.read(ReadFor::Reply { caller, tag, job: id, from, limit }, range);
    }

    pub(super) fn results_read(
        &mut self,
        (caller, tag): (Caller, u32),
        id: JobId,
        (from, limit): (u64, u16),
        rows: Result<Rows, String>,
    ) {
        let Some(job) = self.jobs.get(&id) else {
            let text = format!("job {id} was removed");
            return self.refuse(caller, tag, ServiceRefusal::UnknownJob, text);
        };
        let end = job.shown().min(from.saturating_add(limit.into()));
        let spec = &job.origin.spec;
        let found = rows.and_then(|rows| {
            let mut found = Vec::new();
            let mut len = 0;
            for (key, value) in &rows.rows {
                let first = index_of(key).map_err(|row| row.0)?;
                let results = unpack(value).map_err(|row| row.0)?;
                for (index, result) in (first..).zip(results) {
                    if index == from + found.len() as u64 && index < end && len < REPLY_LEN {
                        let name = shown_name(&spec.source, result.root, result.path);
                        let row = ResultRow { name, stamp: result.stamp, outcome: result.outcome };
                        len += row.name.len() + 300;
                        found.push(row);
                    }
                }
            }
            Ok(found)
        });
        match found {
            Ok(found) => self.reply_results((caller, tag), id, from, found),
            Err(text) => {
                let text = format!("the journal cannot be read: {text}");
                self.refuse(caller, tag, ServiceRefusal::JournalFailed, text);
            }
        }
    }

    pub(super) fn deaths_read(
        &mut self,
        (caller, tag): (Caller, u32),
        id: JobId,
        limit: u16,
        rows: Result<Rows, String>,
    ) {
        let Some(job) = self.jobs.get(&id) else {
            let text = format!("job {id} was removed");
            return self.refuse(caller, tag, ServiceRefusal::UnknownJob, text);
        };
        let source = &job.origin.spec.source;
        let found = rows.and_then(|read| {
            let dead = read.rows.iter().take(limit.into()).map(|(key, value)| {
                let index = index_of(key)?;
                let StoredDeath { root, path, losses } = record(value)?;
                Ok(DeadItem { index, name: shown_name(source, root, path), losses })
            });
            let dead: Result<Vec<DeadItem>, BadRow> = dead.collect();
            let more = read.more || read.rows.len() > usize::from(limit);
            dead.map(|rows| ServiceReply::Deaths { rows, more }).map_err(|row| row.0)
        });
        match found {
            Ok(reply) => self.reply(caller, tag, reply),
            Err(text) => {
                let text = format!("the journal cannot be read: {text}");
                self.refuse(caller, tag, ServiceRefusal::JournalFailed, text);
            }
        }
    }

    fn reply_results(
        &mut self,
        (caller, tag): (Caller, u32),
        id: JobId,
        from: u64,
        rows: Vec<ResultRow>,
    ) {
        let Some(job) = self.jobs.get(&id) else { return };
        let state = job.progress.state;
        let is_last = state.has_ended() && from + rows.len() as u64 >= job.shown();
        let reply = ServiceReply::Results { job: id, from, rows, state, is_last };
        self.reply(caller, tag, reply);
    }
}

/// Name of an item in the manifest.
pub(super) fn shown_name(source: &JobSource, root: u16, path: Blob) -> Blob {
    let shown = source.roots().get(usize::from(root)).map_or(&[][..], |root| &root.shown[..]);
    if path.is_empty() || shown.is_empty() {
        return if path.is_empty() { shown.into() } else { path };
    }
    let slash: &[u8] = if shown.ends_with(b"/") { b"" } else { b"/" };
    Blob([shown, slash, &path[..]].concat())
}
