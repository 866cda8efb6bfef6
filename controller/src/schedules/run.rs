//! A run: which of its steps begin, and what becomes of their jobs.

use super::record::{
    RunOutcome, RunPart, RunRow, StepEnd, StepRow, forget_runs, put_run, put_step,
};
use super::{BookAsk, POLL, Planner, PlannerAction, RUNNING_MAX};
use ipc_proto::Blob;
use ipc_proto::limits::{NAME_LEN_MAX, REASON_LEN_MAX};
use ipc_proto::message::{
    JobAct, JobId, JobKind, JobRoot, JobRow, JobSource, JobSpec, JobState, ServiceRefusal,
    ServiceReply, ServiceRequest,
};
use schedule::{Builtins, OnFailure, Schedule, ScheduledTask};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

/// Interval at which a task outside of its hours looks whether they have come.
const WINDOW_POLL: Duration = Duration::from_secs(20);

/// Delay before a job is submitted again that the book could not take.
const BUSY_DELAY: Duration = Duration::from_secs(5);

/// Results of a run's jobs are kept for this long: the next run is compared with them.
const KEEP_S: u32 = 400 * 86_400;

/// A run that goes on.
#[derive(Debug)]
pub(super) struct ActiveRun {
    pub(super) number: u64,
    row: RunRow,
    steps: Vec<StepState>,
    /// Steps that wait for each step.
    followers: Rc<[Vec<usize>]>,
    /// Steps that could begin.
    ready: BTreeSet<usize>,
    /// Steps that have not ended.
    open: usize,
    has_failed: bool,
    deadline: Option<Duration>,
}

#[derive(Clone, Debug)]
struct StepState {
    attempt: u32,
    job: Option<JobId>,
    /// Steps before it that have not ended.
    waits: usize,
    phase: StepPhase,
    /// When it is looked at next; earlier timers of it are stale.
    look_at: Duration,
}

#[derive(Clone, Debug, PartialEq)]
enum StepPhase {
    /// For other steps, for its hours, or for room.
    Waiting,
    /// For the next attempt.
    Delayed,
    Submitting,
    Running {
        time_limit: Option<Duration>,
        is_timed_out: bool,
    },
    Ended,
}

impl ActiveRun {
    fn new(number: u64, row: RunRow, schedule: &Schedule) -> Self {
        let mut followers = vec![Vec::new(); schedule.steps.len()];
        for (i, step) in schedule.steps.iter().enumerate() {
            step.after.iter().for_each(|&before| followers[before].push(i));
        }
        let state = |step: &schedule::Step| StepState {
            attempt: 0,
            job: None,
            waits: step.after.len(),
            phase: StepPhase::Waiting,
            look_at: Duration::MAX,
        };
        let steps: Vec<StepState> = schedule.steps.iter().map(state).collect();
        let ready = steps.iter().enumerate().filter(|(_, step)| step.waits == 0);
        Self {
            number,
            row,
            followers: followers.into(),
            ready: ready.map(|(i, _)| i).collect(),
            open: steps.len(),
            steps,
            has_failed: false,
            deadline: None,
        }
    }

    /// A run as its rows say; none if the row of the run itself is missing.
    pub(super) fn restored(number: u64, schedule: &Schedule, parts: Vec<RunPart>) -> Option<Self> {
        let mut run = None;
        for part in parts {
            match part {
                RunPart::Head(row) => run = Some(Self::new(number, row, schedule)),
                RunPart::Step(step, row) => {
                    let run = run.as_mut()?;
                    let state = run.steps.get_mut(step)?;
                    (state.attempt, state.job) = (row.attempt, row.job);
                    match row.end {
                        Some(end) => run.end(step, &end, schedule),
                        None if row.job.is_some() => {
                            run.ready.remove(&step);
                            state.phase =
                                StepPhase::Running { time_limit: None, is_timed_out: false };
                        }
                        None => {
                            run.ready.remove(&step);
                            state.phase = StepPhase::Delayed;
                        }
                    }
                }
            }
        }
        run
    }

    /// Notes the end of a step.
    fn end(&mut self, step: usize, end: &StepEnd, schedule: &Schedule) {
        self.ready.remove(&step);
        self.steps[step].phase = StepPhase::Ended;
        self.open -= 1;
        for &follower in &Rc::clone(&self.followers)[step] {
            let state = &mut self.steps[follower];
            state.waits -= 1;
            if state.waits == 0 && state.phase == StepPhase::Waiting {
                self.ready.insert(follower);
            }
        }
        if let StepEnd::Failed(_) = end {
            self.has_failed = true;
            let task = schedule.steps[step].task.as_ref();
            if task.is_some_and(|task| task.on_failure == OnFailure::Stop) {
                self.row.outcome.get_or_insert(RunOutcome::Failed);
            }
        }
    }
}

impl Planner {
    /// Begins a run and returns its number.
    pub(super) fn begin_run(&mut self, name: &str, due_s: i64, is_by_hand: bool) -> u64 {
        let started_s = self.at.wall_s;
        let Some(planned) = self.planned.get_mut(name) else { return 0 };
        let number = planned.state.next_run;
        planned.state.next_run += 1;
        planned.state.active = Some(number);
        let row = RunRow { due_s, started_s, is_by_hand, ended_s: 0, outcome: None };
        self.next.writes.push(put_run(name, number, &row));
        let keep = u64::from(planned.schedule.keep);
        if number > keep {
            self.next.writes.push(forget_runs(name, number - keep + 1));
        }
        planned.run = Some(ActiveRun::new(number, row, &planned.schedule));
        self.resume_run(name);
        number
    }

    /// Sets the timers of a run that has just begun or was read from the journal.
    pub(super) fn resume_run(&mut self, name: &str) {
        let (now, wall_s) = (self.at.monotonic, i64::try_from(self.at.wall_s).unwrap_or(i64::MAX));
        let Some(planned) = self.planned.get_mut(name) else { return };
        let Some(run) = &mut planned.run else {
            // Its rows are gone: there is nothing to go on with.
            if planned.state.active.take().is_some() {
                self.save(name);
            }
            return;
        };
        if let Some(deadline) = planned.schedule.deadline {
            let passed_s = u64::try_from(wall_s.saturating_sub(run.row.due_s)).unwrap_or(0);
            // A run that begins late has its time from its beginning on.
            let passed_s = passed_s.min(self.at.wall_s.saturating_sub(run.row.started_s));
            let at = now + deadline.saturating_sub(Duration::from_secs(passed_s));
            run.deadline = Some(at);
            self.timers.insert((at, name.to_owned(), None));
        }
        for (i, step) in run.steps.iter_mut().enumerate() {
            match &mut step.phase {
                StepPhase::Running { time_limit, .. } => {
                    let task = planned.schedule.steps[i].task.as_ref();
                    *time_limit = task.and_then(|task| task.timeout).map(|limit| now + limit);
                    self.running += 1;
                }
                StepPhase::Delayed => {}
                StepPhase::Waiting | StepPhase::Submitting | StepPhase::Ended => continue,
            }
            step.look_at = now;
            self.timers.insert((now, name.to_owned(), Some(i)));
        }
        self.hungry.insert(name.to_owned());
    }

    /// Looks at the steps and runs whose time has come.
    pub(super) fn fire_timers(&mut self) {
        let now = self.at.monotonic;
        while let Some((at, name, step)) = self.timers.first().cloned() {
            if at > now {
                break;
            }
            self.timers.pop_first();
            let Some(run) = self.planned.get(&name).and_then(|planned| planned.run.as_ref()) else {
                continue;
            };
            let Some(step) = step else {
                if run.deadline.is_some_and(|deadline| deadline <= now) {
                    self.stop_run(&name, RunOutcome::Late);
                }
                continue;
            };
            let Some(state) = run.steps.get(step).filter(|state| state.look_at == at) else {
                continue;
            };
            match state.phase {
                StepPhase::Running { .. } => self.poll(&name, step),
                StepPhase::Delayed => self.make_ready(&name, step),
                StepPhase::Waiting if state.waits == 0 => self.make_ready(&name, step),
                StepPhase::Waiting | StepPhase::Submitting | StepPhase::Ended => {}
            }
        }
    }

    /// Has a step looked at after `delay`, and not before.
    fn look_later(&mut self, name: &str, step: usize, delay: Duration) {
        let at = self.at.monotonic + delay;
        if let Some(run) = self.run_mut(name) {
            run.steps[step].look_at = at;
            self.timers.insert((at, name.to_owned(), Some(step)));
        }
    }

    fn make_ready(&mut self, name: &str, step: usize) {
        if let Some(run) = self.run_mut(name) {
            run.steps[step].phase = StepPhase::Waiting;
            run.ready.insert(step);
            self.hungry.insert(name.to_owned());
        }
    }

    fn run_mut(&mut self, name: &str) -> Option<&mut ActiveRun> {
        self.planned.get_mut(name)?.run.as_mut()
    }

    /// Begins steps that can, as far as there is room.
    pub(super) fn feed_hungry(&mut self) {
        while let Some(name) = self.hungry.first().cloned() {
            let Some(planned) = self.planned.get(&name) else {
                self.hungry.remove(&name);
                continue;
            };
            let schedule = Rc::clone(&planned.schedule);
            let Some(run) = &planned.run else {
                self.hungry.remove(&name);
                continue;
            };
            let Some(&step) = run.ready.first() else {
                let is_over = run.open == 0;
                self.hungry.remove(&name);
                if is_over {
                    self.finish_run(&name);
                }
                continue;
            };
            let is_stopped = run.row.outcome.is_some();
            match &schedule.steps[step].task {
                _ if is_stopped => self.end_step(&name, step, StepEnd::Skipped),
                None => self.end_step(&name, step, StepEnd::Succeeded),
                Some(task) if !self.is_open(&schedule, task) => {
                    if let Some(run) = self.run_mut(&name) {
                        run.ready.remove(&step);
                    }
                    self.look_later(&name, step, WINDOW_POLL);
                }
                Some(_) if self.running >= RUNNING_MAX => return,
                Some(task) => self.submit(&name, step, &schedule, task),
            }
        }
    }

    /// Returns true in the hours of a task.
    fn is_open(&self, schedule: &Schedule, task: &ScheduledTask) -> bool {
        let minute = schedule.zone.minute_of_day(i64::try_from(self.at.wall_s).unwrap_or(i64::MAX));
        task.only.is_empty() || task.only.iter().any(|only| only.contains(minute))
    }

    fn submit(&mut self, name: &str, step: usize, schedule: &Schedule, task: &ScheduledTask) {
        let Some(planned) = self.planned.get_mut(name) else { return };
        let principal = planned.state.principal.into();
        let Some(run) = &mut planned.run else { return };
        run.ready.remove(&step);
        let state = &mut run.steps[step];
        state.attempt += 1;
        state.phase = StepPhase::Submitting;
        let date = |days| schedule.zone.date(run.row.due_s, days);
        let (date, yesterday) = (date(0), date(-1));
        let step_name = schedule.steps[step].name.as_str();
        let builtins =
            Builtins { date: &date, yesterday: &yesterday, schedule: name, task: step_name };
        let key = format!("schedule:{name}:{}:{step}:{}", run.number, state.attempt);
        let number = run.number;
        let spec = Box::new(job_spec(task, &builtins));
        self.running += 1;
        let ask = BookAsk { schedule: name.to_owned(), run: number, step };
        self.ask_book(ask, principal, ServiceRequest::Submit { key, spec });
    }

    /// Asks for the job of a step.
    fn poll(&mut self, name: &str, step: usize) {
        self.ask_about(name, step, |job| ServiceRequest::Job { job });
    }

    fn act(&mut self, name: &str, step: usize, act: JobAct) {
        self.ask_about(name, step, |job| ServiceRequest::Act { job, act });
    }

    fn ask_about(
        &mut self,
        name: &str,
        step: usize,
        request: impl FnOnce(JobId) -> ServiceRequest,
    ) {
        let Some(planned) = self.planned.get(name) else { return };
        let Some(run) = &planned.run else { return };
        let Some(job) = run.steps[step].job else { return };
        let ask = BookAsk { schedule: name.to_owned(), run: run.number, step };
        let principal = planned.state.principal.into();
        self.ask_book(ask, principal, request(job));
    }

    /// Takes in an answer of the book about a step.
    pub(super) fn answered(&mut self, ask: &BookAsk, reply: ServiceReply) {
        let BookAsk { schedule: name, run: number, step } = ask;
        let (now, step) = (self.at.monotonic, *step);
        let Some(planned) = self.planned.get_mut(name) else { return };
        let Some(run) = planned.run.as_mut().filter(|run| run.number == *number) else { return };
        let Some(task) = planned.schedule.steps[step].task.as_ref() else { return };
        let limit = task.timeout.map(|limit| now + limit);
        let state = &mut run.steps[step];
        match (&state.phase, reply) {
            (StepPhase::Submitting, ServiceReply::Job(job)) => {
                state.job = Some(job.id);
                state.phase = StepPhase::Running { time_limit: limit, is_timed_out: false };
                let row = StepRow { attempt: state.attempt, job: state.job, end: None };
                self.next.writes.push(put_step(name, *number, step, &row));
                self.look_at(name, step, &job);
            }
            (StepPhase::Submitting, ServiceReply::Refused { reason, .. }) if is_busy(reason) => {
                // That was no attempt.
                state.attempt -= 1;
                self.delay(name, step, BUSY_DELAY);
            }
            (StepPhase::Running { .. }, ServiceReply::Job(job)) => self.look_at(name, step, &job),
            (StepPhase::Running { .. }, ServiceReply::Refused { reason, .. })
                if reason != ServiceRefusal::UnknownJob =>
            {
                self.look_later(name, step, POLL);
            }
            (
                StepPhase::Submitting | StepPhase::Running { .. },
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
        match job.state {
            JobState::Done if job.failed == 0 && job.mismatched == 0 => {
                self.running -= 1;
                self.end_step(name, step, StepEnd::Succeeded);
            }
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
                self.look_later(name, step, POLL);
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
    fn attempt_failed(&mut self, name: &str, step: usize, text: &str) {
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
        let Some(run) = self.run_mut(name) else { return };
        run.steps[step].phase = StepPhase::Delayed;
        let row = StepRow { attempt: run.steps[step].attempt, job: None, end: None };
        let number = run.number;
        self.next.writes.push(put_step(name, number, step, &row));
        self.look_later(name, step, delay);
    }

    fn end_step(&mut self, name: &str, step: usize, end: StepEnd) {
        let Some(planned) = self.planned.get_mut(name) else { return };
        let Some(run) = &mut planned.run else { return };
        let had_outcome = run.row.outcome;
        run.end(step, &end, &planned.schedule);
        if planned.schedule.steps[step].task.is_some() {
            let StepState { attempt, job, .. } = run.steps[step];
            let row = StepRow { attempt, job, end: Some(end) };
            self.next.writes.push(put_step(name, run.number, step, &row));
        }
        if run.row.outcome != had_outcome {
            self.next.writes.push(put_run(name, run.number, &run.row));
        }
        self.hungry.insert(name.to_owned());
        if run.row.outcome.is_some() {
            self.skip_delayed(name);
        }
    }

    /// Ends a run before its time: its jobs are cancelled, and nothing more begins.
    pub(super) fn stop_run(&mut self, name: &str, outcome: RunOutcome) {
        let Some(run) = self.run_mut(name) else { return };
        run.row.outcome = Some(outcome);
        let (number, row) = (run.number, run.row.clone());
        let is_running = |step: &StepState| matches!(step.phase, StepPhase::Running { .. });
        let with_jobs = run.steps.iter().enumerate().filter(|(_, step)| is_running(step));
        let with_jobs: Vec<usize> = with_jobs.map(|(i, _)| i).collect();
        self.next.writes.push(put_run(name, number, &row));
        for step in with_jobs {
            self.act(name, step, JobAct::Cancel);
        }
        self.skip_delayed(name);
        self.hungry.insert(name.to_owned());
    }

    /// Lets steps that wait for their next attempt or their hours be skipped now.
    fn skip_delayed(&mut self, name: &str) {
        let Some(run) = self.run_mut(name) else { return };
        for (i, step) in run.steps.iter_mut().enumerate() {
            let is_held = step.phase == StepPhase::Waiting && step.waits == 0;
            if is_held || matches!(step.phase, StepPhase::Delayed) {
                step.phase = StepPhase::Waiting;
                run.ready.insert(i);
            }
        }
    }

    fn finish_run(&mut self, name: &str) {
        let ended_s = self.at.wall_s;
        let Some(planned) = self.planned.get_mut(name) else { return };
        let Some(mut run) = planned.run.take() else { return };
        let by_steps = if run.has_failed { RunOutcome::Failed } else { RunOutcome::Succeeded };
        let outcome = *run.row.outcome.get_or_insert(by_steps);
        run.row.ended_s = ended_s;
        self.next.writes.push(put_run(name, run.number, &run.row));
        planned.state.active = None;
        let queued_s = planned.state.queued_s.take();
        let schedule = name.to_owned();
        self.next.then.push(PlannerAction::Ended { schedule, run: run.number, outcome });
        if let Some(due_s) = queued_s {
            self.begin_run(name, due_s, false);
        }
        self.save(name);
    }

    /// Forgets a run; its jobs are cancelled.
    pub(super) fn drop_run(&mut self, name: &str) {
        self.stop_run(name, RunOutcome::Cancelled);
        let Some(run) = self.planned.get_mut(name).and_then(|planned| planned.run.take()) else {
            return;
        };
        let has_slot = |step: &&StepState| {
            matches!(step.phase, StepPhase::Running { .. } | StepPhase::Submitting)
        };
        self.running -= run.steps.iter().filter(has_slot).count();
    }
}

/// True if the same request may be taken later.
fn is_busy(reason: ServiceRefusal) -> bool {
    matches!(
        reason,
        ServiceRefusal::JournalFailed | ServiceRefusal::NoJournal | ServiceRefusal::TooMuch
    )
}

fn job_spec(task: &ScheduledTask, run: &Builtins<'_>) -> JobSpec {
    let path = Blob::from(task.path.render(run).into_bytes());
    let label = |(name, value): (&String, &schedule::Template)| {
        let mut label = format!("{name}={}", value.render(run));
        label.truncate(label.floor_char_boundary(NAME_LEN_MAX));
        label
    };
    let roots = vec![JobRoot { shown: path.clone(), path }];
    JobSpec {
        kind: JobKind::Sum,
        algorithms: task.algorithms,
        source: JobSource::Dataset { name: task.dataset.clone(), roots },
        cross_check: 0,
        strict_reads: false,
        labels: task.labels.iter().map(label).collect(),
        priority: task.priority,
        keep_s: KEEP_S,
    }
}
