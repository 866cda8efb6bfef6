//! Changes of jobs, and the end of those that need not be kept.

use super::Book;
use super::ask::{AskRefusal, Asker};
use super::commit::Retirement;
use super::limits::{EXPIRY_DELAY, KEEP_JOBS_MAX, KEEP_S};
use super::record::delete_job;
use super::usage::Amount;
use crate::core::Principal;
use ipc_proto::message::{JobAct, JobId, JobState, ServiceRefusal};
use std::collections::BTreeMap;

impl Book {
    pub(super) fn act(
        &mut self,
        asker: Asker<'_>,
        id: JobId,
        act: JobAct,
    ) -> Result<(), AskRefusal> {
        self.may_submit(asker)?;
        self.seen(asker, id)?;
        let Some(job) = self.jobs.get_mut(&id) else { return Ok(()) };
        if !asker.may_change(job.origin.principal.into()) {
            let text =
                format!("job {id} is another user's; see may = [\"manage-jobs\"] in the policy");
            return Err((ServiceRefusal::Forbidden, text));
        }
        let (caller, tag) = (asker.caller, asker.tag);
        let state = job.progress.state;
        match (act, state) {
            (JobAct::Cancel, JobState::Cancelled)
            | (JobAct::Pause, JobState::Paused)
            | (JobAct::Resume, JobState::Running) => {}
            (JobAct::Cancel, JobState::Filling | JobState::Running | JobState::Paused) => {
                self.end(id, JobState::Cancelled, String::new());
            }
            (JobAct::Pause, JobState::Running) => {
                job.progress.state = JobState::Paused;
                self.stop(id);
                self.write_progress(id);
            }
            (JobAct::Resume, JobState::Paused) => {
                job.progress.state = JobState::Running;
                self.write_progress(id);
                self.make_ready(id);
            }
            (JobAct::Retry, JobState::Running) if job.progress.again.is_some() => {}
            (JobAct::Retry | JobAct::Remove, _) if self.baselines().contains(&id) => {
                let text = format!("job {id} is what an audit is compared with that has not ended");
                return Err((ServiceRefusal::WrongState, text));
            }
            (JobAct::Retry, JobState::Done | JobState::Failed) => self.retry(id),
            (JobAct::Remove, JobState::Done | JobState::Cancelled | JobState::Failed) => {
                self.reply_job(caller, tag, id);
                self.remove(id);
                return Ok(());
            }
            (
                JobAct::Cancel | JobAct::Pause | JobAct::Resume | JobAct::Retry | JobAct::Remove,
                _,
            ) => {
                let text = format!("job {id} is {}", state.name());
                return Err((ServiceRefusal::WrongState, text));
            }
        }
        self.reply_job(caller, tag, id);
        Ok(())
    }

    /// Has the failed items hashed again, and those that never were.
    fn retry(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let progress = &mut job.progress;
        let has_rest = progress.state == JobState::Failed;
        if progress.failed == 0 && !has_rest {
            return;
        }
        progress.state = JobState::Running;
        progress.reason.clear();
        progress.ended_s = 0;
        progress.again = (!has_rest).then_some(0);
        self.forget_audit(id);
        self.write_progress(id);
        self.make_ready(id);
    }

    fn remove(&mut self, id: JobId) {
        let Some(job) = self.jobs.remove(&id) else { return };
        let principal = Principal::from(job.origin.principal);
        self.usage.give_back(principal, Amount::of(&job.origin, &job.progress));
        if !job.origin.key.is_empty() {
            self.keys.remove(&(principal, job.origin.key.clone()));
        }
        self.commits.write(delete_job(id));
    }

    /// Removes a job that need not be kept.
    pub(super) fn retire_job(&mut self, id: JobId, retirement: Retirement) {
        self.remove(id);
        self.commits.retired(id, retirement);
    }

    /// Removes jobs that ended long ago, or that are too many.
    pub(super) fn retire(&mut self) {
        let (now, wall_s) = (self.at.monotonic, self.at.wall_s);
        let mut ended: BTreeMap<Principal, Vec<(u64, JobId)>> = BTreeMap::new();
        let mut gone = Vec::new();
        let baselines = self.baselines();
        for (&id, job) in &mut self.jobs {
            if !job.progress.state.has_ended() || baselines.contains(&id) {
                continue;
            }
            let keep_s = match job.origin.spec.keep_s {
                0 => KEEP_S,
                keep_s => keep_s.into(),
            };
            let is_old = job.progress.ended_s.saturating_add(keep_s) < wall_s;
            // Only if it stays so: the clock may be wrong for a while.
            let since = if is_old { *job.expired.get_or_insert(now) } else { now };
            if !is_old {
                job.expired = None;
            }
            if is_old && since + EXPIRY_DELAY <= now {
                gone.push((id, Retirement::Age));
            } else {
                let of = ended.entry(job.origin.principal.into()).or_default();
                of.push((job.progress.ended_s, id));
            }
        }
        for mut of in ended.into_values() {
            of.sort_unstable();
            let too_many = of.len().saturating_sub(KEEP_JOBS_MAX);
            gone.extend(of.into_iter().take(too_many).map(|(_, id)| (id, Retirement::Count)));
        }
        gone.into_iter().for_each(|(id, retirement)| self.retire_job(id, retirement));
    }
}
