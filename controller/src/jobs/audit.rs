//! Audits: once every file of such a job has its result, these are compared with the results of an earlier job.
//!
//! Invariants:
//! - findings depend on durable results only: a comparison that a crash cuts off begins again, and writes the same rows;
//! - one comparison goes on at a time;
//! - an earlier job is neither removed nor changed before the audits that need it have ended.
//!
//! Not here: the comparison itself (`run`), and the meaning of equal contents (`schedule::moves`).

mod claims;
mod earlier;
mod run;

use super::ask::{AskRefusal, Asker};
use super::record::{
    FINDINGS_ROW, StoredAudit, StoredFindings, delete_audit, delete_findings, end_key, index_of,
    item_key, put_audit, put_findings, record,
};
use super::usage::{Amount, HeldMax};
use super::{Book, Caller, Phase, ReadFor};
use crate::journal::{Rows, TableId};
use earlier::{ClaimSide, EarlierSide, ResultSide};
use ipc_proto::Blob;
use ipc_proto::message::{
    AuditBaseline, JobId, JobRoot, JobSource, JobSpec, JobState, ServiceRefusal, ServiceReply,
};
use run::AuditNeed;
pub(super) use run::AuditRun;
use std::collections::BTreeSet;

/// The job that an audit is compared with.
fn baseline(spec: &JobSpec) -> Option<JobId> {
    match &spec.source {
        JobSource::Audit { baseline: AuditBaseline::Job(base), .. } => Some(*base),
        JobSource::Stored
        | JobSource::Dataset { .. }
        | JobSource::Manifest { .. }
        | JobSource::Audit { .. } => None,
    }
}

/// Path of the manifest that an audit is compared with.
fn list_of(spec: &JobSpec) -> Option<Blob> {
    match &spec.source {
        JobSource::Audit { baseline: AuditBaseline::Manifest { path, .. }, .. } => {
            Some(path.clone())
        }
        JobSource::Stored
        | JobSource::Dataset { .. }
        | JobSource::Manifest { .. }
        | JobSource::Audit { .. } => None,
    }
}

/// True if a directory is one of the others, or inside of one.
fn has_overlap(roots: &[JobRoot]) -> bool {
    let mut paths: Vec<Vec<&[u8]>> = roots
        .iter()
        .map(|root| {
            let parts = root.path.split(|&byte| byte == b'/');
            parts.filter(|part| !part.is_empty()).collect()
        })
        .collect();
    paths.sort_unstable();
    paths.windows(2).any(|pair| pair[1].starts_with(&pair[0]))
}

impl Book {
    /// Checks that an audit can be compared with its baseline.
    pub(super) fn may_compare(&self, asker: Asker<'_>, spec: &JobSpec) -> Result<(), AskRefusal> {
        if list_of(spec).is_some() && has_overlap(spec.source.roots()) {
            let text = "the directories of an audit against a list are not inside each other";
            return Err((ServiceRefusal::WrongItems, text.to_owned()));
        }
        let Some(id) = baseline(spec) else { return Ok(()) };
        self.seen(asker, id)?;
        let Some(base) = self.jobs.get(&id) else { return Ok(()) };
        let state = base.progress.state;
        let of = &base.origin.spec;
        let paths = |spec: &JobSpec| {
            let roots = spec.source.roots().iter();
            roots.map(|root| root.path.clone()).collect::<Vec<_>>()
        };
        let text = if state != JobState::Done {
            format!("job {id} is {}; an audit is compared with one that is done", state.name())
        } else if paths(of).is_empty() {
            format!("job {id} did not walk directories of a dataset, which an audit does")
        } else if (of.source.dataset(), paths(of)) != (spec.source.dataset(), paths(spec)) {
            format!("job {id} is about other directories")
        } else if base.algorithms() != spec.algorithms {
            format!("job {id} has the digests {}, not {}", base.algorithms(), spec.algorithms)
        } else if of.share != spec.share {
            format!("job {id} is about another share of the files")
        } else {
            return Ok(());
        };
        Err((ServiceRefusal::WrongState, text))
    }

    /// Jobs that audits which have not ended are compared with.
    pub(super) fn baselines(&self) -> BTreeSet<JobId> {
        let open = self.jobs.values().filter(|job| !job.progress.state.has_ended());
        open.filter_map(|job| baseline(&job.origin.spec)).collect()
    }

    /// True if the job is an audit, which ends with a comparison.
    pub(super) fn is_audit(&self, id: JobId) -> bool {
        let source = self.jobs.get(&id).map(|job| &job.origin.spec.source);
        matches!(source, Some(JobSource::Audit { .. }))
    }

    /// Has a job compared whose files all have their results, once these are durable.
    pub(super) fn begin_audit(&mut self, id: JobId) {
        self.stop(id);
        let run_after = self.commits.next_sequence();
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.run_after = run_after;
        self.auditing.insert(id);
    }

    /// Forgets the findings of before.
    pub(super) fn forget_audit(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let Some(audited) = job.audited.take() else { return };
        job.progress.stored_len = job.progress.stored_len.saturating_sub(audited.len);
        let amount = Amount { bytes: audited.len, ..Amount::default() };
        self.usage.give_back(job.origin.principal.into(), amount);
        self.commits.write([delete_audit(id), delete_findings(id)]);
    }

    /// Goes on with a comparison.
    pub(super) fn advance_audit(&mut self) {
        // What is written is bounded by what one read brings.
        if !self.commits.is_idle() {
            return;
        }
        if self.audit.is_none() {
            self.next_audit();
        }
        let Some(mut run) = self.audit.take_if(|run| !run.is_reading) else { return };
        let (id, number) = (run.job, run.number);
        let Some(job) = self.jobs.get(&id) else { return };
        let mut full = Vec::new();
        let need = run.advance(&job.origin.spec.source, &mut full);
        for (first, findings) in full {
            self.commits.write([put_findings(id, first, &findings)]);
        }
        match need {
            AuditNeed::Rows(range) => {
                run.is_reading = true;
                self.audit = Some(run);
                self.read(ReadFor::Audit(id, number), range);
            }
            AuditNeed::Nothing => self.end_audit(id, run.summary),
        }
    }

    /// Begins the next comparison that can.
    fn next_audit(&mut self) {
        let waiting = self.auditing.iter().copied().collect::<Vec<_>>();
        for id in waiting {
            let Some(job) = self.jobs.get(&id) else { continue };
            if !self.commits.is_durable(job.run_after) {
                continue;
            }
            let Some(base) = baseline(&job.origin.spec) else {
                let lines =
                    job.claims.as_ref().map_or(0, |of| of.bad_lines.saturating_add(of.refused));
                let path = list_of(&job.origin.spec).unwrap_or_default();
                let before = EarlierSide::Manifest(ClaimSide::new(id));
                return self.start_audit(id, before, 0, Some((path, lines)));
            };
            let of = self.jobs.get(&base);
            let why = match of.map(|of| of.progress.state) {
                Some(JobState::Done) => String::new(),
                Some(state) if !state.has_ended() => continue,
                Some(state) => format!("is {}", state.name()),
                None => "was removed".to_owned(),
            };
            let Some(of) = of.filter(|_| why.is_empty()) else {
                let text = format!("job {base}, with which it is compared, {why}");
                return self.end(id, JobState::Failed, text);
            };
            if !self.commits.is_durable(of.run_after) {
                continue;
            }
            let results = ResultSide::new(base, of.progress.resolved);
            let (algorithms, began_s) = (of.algorithms(), of.origin.created_s);
            let before = EarlierSide::Job { results, algorithms, next: None };
            return self.start_audit(id, before, began_s, None);
        }
    }

    fn start_audit(
        &mut self,
        id: JobId,
        before: EarlierSide,
        began_s: u64,
        manifest: Option<(Blob, u32)>,
    ) {
        let Some(job) = self.jobs.get(&id) else { return };
        let number = self.next_feed;
        self.next_feed = number.wrapping_add(1);
        let after = (id, job.progress.resolved);
        let run = AuditRun::new(after, job.algorithms(), before, began_s, manifest, number);
        self.audit = Some(run);
        // Rows of a comparison that was cut off are written again.
        self.commits.write([delete_findings(id)]);
    }

    fn end_audit(&mut self, id: JobId, summary: StoredAudit) {
        let Some(job) = self.jobs.get(&id) else { return };
        let amount = Amount { bytes: summary.len, ..Amount::default() };
        if let Err(text) = self.usage.take(job.origin.principal.into(), amount, HeldMax::ANY) {
            return self.end(id, JobState::Failed, text);
        }
        self.end(id, JobState::Done, String::new());
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.progress.stored_len += summary.len;
        job.audited = Some(summary);
        self.commits.write([put_audit(id, &summary)]);
        self.write_progress(id);
    }

    /// Takes in results that a comparison wanted.
    pub(super) fn audit_read(&mut self, id: JobId, number: u32, rows: Result<Rows, String>) {
        let Some(run) = self.audit.as_mut().filter(|run| run.number == number) else { return };
        run.is_reading = false;
        let taken = rows.and_then(|rows| run.take_rows(&rows).map_err(|row| row.0));
        if let Err(text) = taken
            && matches!(self.phase, Phase::Open)
        {
            self.end(id, JobState::Failed, format!("results cannot be read: {text}"));
        }
    }

    /// Reads findings for a reply, if there are any.
    pub(super) fn read_findings(
        &mut self,
        (caller, tag): (Caller, u32),
        id: JobId,
        (from, limit): (u64, u16),
    ) {
        let audited = self.jobs.get(&id).and_then(|job| job.audited);
        if audited.is_none_or(|audited| from >= audited.findings) {
            let reply = ServiceReply::Findings { rows: Vec::new(), more: false };
            return self.reply(caller, tag, reply);
        }
        let first = from - from % FINDINGS_ROW;
        let range = (TableId::Findings, item_key(id, first), end_key(id));
        self.read(ReadFor::Findings { caller, tag, job: id, from, limit }, range);
    }

    pub(super) fn findings_read(
        &mut self,
        (caller, tag): (Caller, u32),
        id: JobId,
        (from, limit): (u64, u16),
        rows: Result<Rows, String>,
    ) {
        if self.is_recovering() {
            // Nothing is known of the job yet.
            let first = from - from % FINDINGS_ROW;
            let range = (TableId::Findings, item_key(id, first), end_key(id));
            return self.read(ReadFor::Findings { caller, tag, job: id, from, limit }, range);
        }
        let Some(audited) = self.jobs.get(&id).and_then(|job| job.audited) else {
            let text = format!("job {id} was removed or is compared again");
            return self.refuse(caller, tag, ServiceRefusal::UnknownJob, text);
        };
        let found = rows.and_then(|read| {
            let mut found = Vec::new();
            for (key, value) in &read.rows {
                let first = index_of(key).map_err(|row| row.0)?;
                let StoredFindings(rows) = record(value).map_err(|row| row.0)?;
                let rows = (first..).zip(rows).filter(|(index, _)| *index >= from);
                found.extend(rows.map(|(_, row)| row));
            }
            Ok(found)
        });
        match found {
            Ok(mut rows) => {
                rows.truncate(limit.into());
                let more = !rows.is_empty() && from + (rows.len() as u64) < audited.findings;
                self.reply(caller, tag, ServiceReply::Findings { rows, more });
            }
            Err(text) => {
                let text = format!("the journal cannot be read: {text}");
                self.refuse(caller, tag, ServiceRefusal::JournalFailed, text);
            }
        }
    }
}
