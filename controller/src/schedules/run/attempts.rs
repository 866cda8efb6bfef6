//! Attempts of a task: its job is submitted, looked at, and tried again if it failed.

use super::{ActiveRun, StepPhase};
use crate::schedules::record::{StoredStep, forget_differences, put_step};
use crate::schedules::{BookAsk, POLL, POLL_FIRST, Planner};
use ipc_proto::Blob;
use ipc_proto::limits::{NAME_LEN_MAX, REASON_LEN_MAX};
use ipc_proto::message::{
    JobAct, JobId, JobKind, JobRoot, JobRow, JobSource, JobSpec, JobState, NameShare, RunOutcome,
    ServiceRefusal, ServiceReply, ServiceRequest, StepEnd,
};
use schedule::{Builtins, Schedule, ScheduledTask, TaskKind};
use std::rc::Rc;
use std::time::Duration;

/// Delay before a job is submitted again that the book could not take.
const BUSY_DELAY: Duration = Duration::from_secs(5);

/// Results of a run's jobs are kept for this long at least: the next run is compared with them.
const KEEP_S: u32 = 400 * 86_400;

impl Planner {
    pub(super) fn submit(
        &mut self,
        name: &str,
        step: usize,
        schedule: &Schedule,
        task: &ScheduledTask,
    ) {
        let share = self.share_of(name, step, task);
        let Some(planned) = self.planned.get_mut(name) else { return };
        let (owner, generation) = (planned.state.owner(), planned.state.generation);
        let Some(run) = &mut planned.run else { return };
        run.ready.remove(&step);
        let state = &mut run.steps[step];
        state.attempt += 1;
        state.phase = StepPhase::Submitting;
        state.poll = POLL_FIRST;
        let date = |days| schedule.zone.date(run.row.due_s, days);
        let (date, yesterday) = (date(0), date(-1));
        let step_name = schedule.steps[step].name.as_str();
        let builtins =
            Builtins { date: &date, yesterday: &yesterday, schedule: name, task: step_name };
        let key = format!("schedule:{name}:{generation}:{}:{step}:{}", run.number, state.attempt);
        let number = run.number;
        let spec = job_spec(task, share, &builtins);
        self.running += 1;
        let spec = match spec {
            Ok(spec) => Box::new(spec),
            Err(text) => return self.attempt_failed(name, step, &text),
        };
        let ask = BookAsk { schedule: name.to_owned(), run: number, step, owner, is_submit: true };
        self.ask_book(ask, ServiceRequest::Submit { key, spec });
    }

    /// Asks for the job of a step.
    pub(super) fn poll(&mut self, name: &str, step: usize) {
        self.ask_about(name, step, |job| ServiceRequest::Job { job });
    }

    pub(super) fn act(&mut self, name: &str, step: usize, act: JobAct) {
        self.ask_about(name, step, |job| ServiceRequest::Act { job, act });
    }

    pub(in crate::schedules) fn ask_about(
        &mut self,
        name: &str,
        step: usize,
        request: impl FnOnce(JobId) -> ServiceRequest,
    ) {
        let Some(planned) = self.planned.get(name) else { return };
        let Some(run) = &planned.run else { return };
        let Some(job) = run.steps[step].job else { return };
        let (owner, number) = (planned.state.owner(), run.number);
        let ask = BookAsk { schedule: name.to_owned(), run: number, step, owner, is_submit: false };
        self.ask_book(ask, request(job));
    }

    /// Takes in an answer of the book about a step.
    pub(in crate::schedules) fn answered(&mut self, ask: &BookAsk, reply: ServiceReply) {
        let BookAsk { schedule: name, run: number, step, owner: _, is_submit } = ask;
        let (now, step) = (self.at.monotonic, *step);
        let is_it = |run: &&ActiveRun| run.number == *number;
        let planned = self.planned.get(name);
        if planned.and_then(|planned| planned.run.as_ref()).filter(is_it).is_none() {
            // Its run was dropped meanwhile, and nobody wants the job.
            if let (true, ServiceReply::Job(job)) = (is_submit, reply) {
                let request = ServiceRequest::Act { job: job.id, act: JobAct::Cancel };
                self.ask_book(BookAsk { is_submit: false, ..ask.clone() }, request);
            }
            return;
        }
        let Some(planned) = self.planned.get_mut(name) else { return };
        let Some(run) = &mut planned.run else { return };
        let Some(task) = planned.schedule.steps[step].task.as_ref() else { return };
        let limit = task.timeout.map(|limit| now + limit);
        let state = &mut run.steps[step];
        match (&state.phase, reply) {
            (StepPhase::Submitting, ServiceReply::Job(job)) => {
                state.job = Some(job.id);
                state.phase = StepPhase::Running { time_limit: limit, is_timed_out: false };
                let row = StoredStep {
                    name: planned.schedule.steps[step].name.clone(),
                    attempt: state.attempt,
                    job: state.job,
                    end: None,
                    changes: None,
                };
                self.next.writes.push(put_step(name, *number, step, &row));
                self.look_at(name, step, &job);
            }
            (StepPhase::Submitting, ServiceReply::Refused { reason, .. }) if is_busy(reason) => {
                // That was no attempt.
                state.attempt -= 1;
                self.delay(name, step, BUSY_DELAY);
            }
            (StepPhase::Comparing, ServiceReply::Results { job, from, rows, is_last, .. }) => {
                self.results_came(job, from, rows, is_last);
            }
            (StepPhase::Comparing, ServiceReply::Refused { reason, .. }) => {
                self.results_refused(name, step, reason);
            }
            (StepPhase::Collecting(_), ServiceReply::Findings { rows, more }) => {
                self.findings_came(name, step, rows, more);
            }
            (StepPhase::Collecting(_), ServiceReply::Refused { reason, .. })
                if reason != ServiceRefusal::UnknownJob =>
            {
                self.look_later(name, step, POLL);
            }
            (StepPhase::Running { .. }, ServiceReply::Job(job)) => self.look_at(name, step, &job),
            (StepPhase::Running { .. }, ServiceReply::Refused { reason, .. })
                if reason != ServiceRefusal::UnknownJob =>
            {
                self.look_later(name, step, POLL);
            }
            (
                StepPhase::Submitting | StepPhase::Running { .. } | StepPhase::Collecting(_),
                ServiceReply::Refused { text, .. },
            ) => self.attempt_failed(name, step, &text),
            _ => {}
        }
    }

    /// Decides by the state of a step's job.
    fn look_at(&mut self, name: &str, step: usize, job: &JobRow) {
        let now = self.at.monotonic;
        let Some(planned) = self.planned.get_mut(name) else { return };
        let schedule = Rc::clone(&planned.schedule);
        let Some(task) = &schedule.steps[step].task else { return };
        let Some(run) = &mut planned.run else { return };
        let is_ending = matches!(run.row.outcome, Some(RunOutcome::Cancelled | RunOutcome::Late));
        let StepPhase::Running { time_limit, is_timed_out } = &mut run.steps[step].phase else {
            return;
        };
        let is_over = !*is_timed_out && time_limit.is_some_and(|limit| limit <= now);
        *is_timed_out |= is_over;
        let is_timed_out = *is_timed_out;
        let is_scrub = matches!(task.kind, TaskKind::Scrub { .. });
        run.steps[step].read = (is_scrub && job.state == JobState::Done).then_some(job.spec.share);
        match job.state {
            JobState::Done if matches!(task.kind, TaskKind::Audit { manifest: Some(_) }) => {
                self.begin_collecting(name, step, job);
            }
            JobState::Done if job.failed == 0 && job.mismatched == 0 => match task.kind {
                // It was compared with its manifest.
                TaskKind::Check { .. } => self.compared(name, step, None),
                TaskKind::Sum | TaskKind::Audit { .. } | TaskKind::Scrub { .. } => {
                    self.begin_comparison(name, step, job);
                }
            },
            JobState::Done => {
                let text = format!(
                    "{} of {} files have no digest, {} not the expected one",
                    job.failed, job.items, job.mismatched
                );
                self.attempt_failed(name, step, &text);
            }
            JobState::Failed => self.attempt_failed(name, step, &job.reason),
            JobState::Cancelled if is_timed_out => {
                self.attempt_failed(name, step, "its time limit expired");
            }
            JobState::Cancelled => self.attempt_failed(name, step, "its job was cancelled"),
            JobState::Filling | JobState::Running | JobState::Paused => {
                let poll = run.steps[step].poll;
                run.steps[step].poll = (poll * 2).min(POLL);
                self.look_later(name, step, poll);
                let is_open = self.is_open(&schedule, task);
                if is_over || is_ending {
                    self.act(name, step, JobAct::Cancel);
                } else if job.state == JobState::Running && !is_open {
                    self.act(name, step, JobAct::Pause);
                } else if job.state == JobState::Paused && is_open && !task.only.is_empty() {
                    self.act(name, step, JobAct::Resume);
                }
            }
        }
    }

    /// Has a step tried again, if it may be.
    pub(in crate::schedules) fn attempt_failed(&mut self, name: &str, step: usize, text: &str) {
        let Some(planned) = self.planned.get_mut(name) else { return };
        let Some(task) = &planned.schedule.steps[step].task else { return };
        let Some(run) = &planned.run else { return };
        let delay = task.retries.delay_before(run.steps[step].attempt);
        match delay {
            Some(delay) if run.row.outcome.is_none() => self.delay(name, step, delay),
            _ => {
                self.running -= 1;
                let text = text.chars().take(REASON_LEN_MAX / 4).collect();
                self.end_step(name, step, StepEnd::Failed(text));
            }
        }
    }

    fn delay(&mut self, name: &str, step: usize, delay: Duration) {
        self.running -= 1;
        let Some(planned) = self.planned.get_mut(name) else { return };
        let Some(run) = &mut planned.run else { return };
        run.steps[step].phase = StepPhase::Delayed;
        if run.steps[step].changes.take().is_some() {
            self.next.writes.push(forget_differences(name, run.number, step));
        }
        let name_of = planned.schedule.steps[step].name.clone();
        let row = StoredStep {
            name: name_of,
            attempt: run.steps[step].attempt,
            job: None,
            end: None,
            changes: None,
        };
        let number = run.number;
        self.next.writes.push(put_step(name, number, step, &row));
        self.look_later(name, step, delay);
    }
}

/// True if the same request may be taken later.
fn is_busy(reason: ServiceRefusal) -> bool {
    matches!(
        reason,
        ServiceRefusal::JournalFailed | ServiceRefusal::NoJournal | ServiceRefusal::TooMuch
    )
}

/// The job of a task, or why there can be none.
fn job_spec(task: &ScheduledTask, share: NameShare, run: &Builtins<'_>) -> Result<JobSpec, String> {
    let path = Blob::from(task.path.render(run).into_bytes());
    let label = |(name, value): (&String, &schedule::Template)| {
        let mut label = format!("{name}={}", value.render(run));
        label.truncate(label.floor_char_boundary(NAME_LEN_MAX));
        label
    };
    let keep_s = match task.kind {
        TaskKind::Scrub { period } => u32::try_from(2 * period.as_secs()).unwrap_or(u32::MAX),
        TaskKind::Sum | TaskKind::Check { .. } | TaskKind::Audit { .. } => 0,
    };
    let keep_s = keep_s.max(KEEP_S);
    let (kind, source) = match &task.kind {
        TaskKind::Check { manifest } => {
            let manifest = manifest.render(run);
            let base = (!path.is_empty()).then_some(&path[..]);
            let source = JobSource::manifest(&task.dataset, manifest.as_bytes(), base);
            let source = source.ok_or_else(|| outside(&manifest, "a check"))?;
            (JobKind::Check, source)
        }
        TaskKind::Audit { manifest: Some(manifest) } => {
            let manifest = manifest.render(run);
            let base = (!path.is_empty()).then_some(&path[..]);
            let source =
                JobSource::audit_of_manifest(&task.dataset, manifest.as_bytes(), base, &[]);
            let source = source.ok_or_else(|| outside(&manifest, "an audit"))?;
            (JobKind::Audit, source)
        }
        TaskKind::Sum | TaskKind::Audit { manifest: None } | TaskKind::Scrub { .. } => {
            let roots = vec![JobRoot { shown: path.clone(), path }];
            let is_scrub = matches!(task.kind, TaskKind::Scrub { .. });
            let kind = if is_scrub { JobKind::Scrub } else { JobKind::Sum };
            (kind, JobSource::Dataset { name: task.dataset.clone(), roots })
        }
    };
    Ok(JobSpec {
        kind,
        algorithms: task.algorithms,
        source,
        cross_check: 0,
        strict_reads: false,
        labels: task.labels.iter().map(label).collect(),
        priority: task.priority,
        keep_s,
        rate: task.rate.unwrap_or(0),
        share,
    })
}

fn outside(manifest: &str, task: &str) -> String {
    format!("{manifest}: the paths of {task} are in its dataset, and do not lead up")
}
