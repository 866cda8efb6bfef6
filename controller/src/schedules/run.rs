//! A run: which of its steps begin, and how it ends.

mod attempts;

use super::findings::Collected;
use super::notice::{FAILURES_SHOWN, notices};
use super::record::{RunPart, StoredRun, StoredStep, forget_runs, put_notice, put_run, put_step};
use super::{POLL_FIRST, Planner, PlannerAction, RUNNING_MAX};
use ipc_proto::message::{ChangeCounts, JobAct, JobId, NameShare, RunOutcome, StepEnd};
use schedule::{OnFailure, Schedule, ScheduledTask};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

/// Interval at which a task outside of its hours looks whether they have come.
const WINDOW_POLL: Duration = Duration::from_secs(20);

/// A run that goes on.
#[derive(Debug)]
pub(super) struct ActiveRun {
    pub(super) number: u64,
    pub(super) row: StoredRun,
    steps: Vec<StepState>,
    /// Steps that wait for each step.
    followers: Rc<[Vec<usize>]>,
    /// Steps that could begin.
    ready: BTreeSet<usize>,
    /// Steps that have not ended.
    open: usize,
    /// The first tasks that failed, with their reasons.
    pub(super) failures: Vec<(String, String)>,
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
    /// Interval at which its job is asked for.
    poll: Duration,
    changes: Option<ChangeCounts>,
    /// The share whose files its job has read, if it is a scrub.
    read: Option<NameShare>,
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
    /// Its results are compared with those of the last good run.
    Comparing,
    /// Its findings become those of the run.
    Collecting(Collected),
    Ended,
}

impl ActiveRun {
    fn new(number: u64, mut row: StoredRun, schedule: &Schedule) -> Self {
        // Counted again by their rows.
        row.failed = 0;
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
            poll: POLL_FIRST,
            changes: None,
            read: None,
        };
        let steps: Vec<StepState> = schedule.steps.iter().map(state).collect();
        let ready = steps.iter().enumerate().filter(|(_, step)| step.waits == 0);
        Self {
            number,
            row,
            followers: followers.into(),
            ready: ready.map(|(i, _)| i).collect(),
            open: steps.len(),
            failures: Vec::new(),
            steps,
            deadline: None,
        }
    }

    /// A run as its rows say; none if the row of the run itself is missing.
    pub(super) fn restored(number: u64, schedule: &Schedule, parts: Vec<RunPart>) -> Option<Self> {
        let mut run = None;
        for part in parts {
            match part {
                RunPart::Differences(_) => {}
                RunPart::Head(_, row) => run = Some(Self::new(number, row, schedule)),
                RunPart::Step(step, row) => {
                    let (run, step) = (run.as_mut()?, step as usize);
                    let state = run.steps.get_mut(step)?;
                    (state.attempt, state.job) = (row.attempt, row.job);
                    state.changes = row.changes;
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

    /// Differences of all tasks that were compared.
    fn changes(&self) -> Option<ChangeCounts> {
        let compared = self.steps.iter().filter_map(|step| step.changes);
        compared.reduce(|mut sum, more| {
            sum.add(more);
            sum
        })
    }

    /// Takes in the result of a step's comparison.
    pub(super) fn set_changes(&mut self, step: usize, changes: Option<ChangeCounts>) {
        self.steps[step].changes = changes;
    }

    /// Lets a step wait for its comparison.
    pub(super) fn set_comparing(&mut self, step: usize) {
        self.steps[step].phase = StepPhase::Comparing;
    }

    /// Lets a step collect the findings of its job.
    pub(super) fn set_collecting(&mut self, step: usize, collected: Collected) {
        self.steps[step].phase = StepPhase::Collecting(collected);
    }

    /// The job of a step that collects its findings, and what is collected.
    pub(super) fn collected(&mut self, step: usize) -> Option<(JobId, &mut Collected)> {
        let StepState { job, phase: StepPhase::Collecting(collected), .. } =
            self.steps.get_mut(step)?
        else {
            return None;
        };
        Some((job.as_ref().copied()?, collected))
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
        if let StepEnd::Failed(reason) = end {
            self.row.failed += 1;
            if self.failures.len() < FAILURES_SHOWN {
                self.failures.push((schedule.steps[step].name.clone(), reason.clone()));
            }
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
        let row = StoredRun {
            due_s,
            started_s,
            is_by_hand,
            ended_s: 0,
            outcome: None,
            failed: 0,
            changes: None,
        };
        self.next.writes.push(put_run(name, number, &row));
        let keep = u64::from(planned.schedule.keep);
        if number > keep {
            self.next.writes.extend(forget_runs(name, number - keep + 1));
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
                // A comparison goes on where a job is looked at again.
                StepPhase::Waiting
                | StepPhase::Submitting
                | StepPhase::Comparing
                | StepPhase::Collecting(_)
                | StepPhase::Ended => continue,
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
                StepPhase::Comparing => self.compare(),
                StepPhase::Collecting(_) => self.ask_for_findings(&name, step),
                StepPhase::Delayed => self.make_ready(&name, step),
                StepPhase::Waiting if state.waits == 0 => self.make_ready(&name, step),
                StepPhase::Waiting | StepPhase::Submitting | StepPhase::Ended => {}
            }
        }
    }

    /// Has a step looked at after `delay`, and not before.
    pub(super) fn look_later(&mut self, name: &str, step: usize, delay: Duration) {
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

    pub(super) fn run_mut(&mut self, name: &str) -> Option<&mut ActiveRun> {
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

    pub(super) fn end_step(&mut self, name: &str, step: usize, end: StepEnd) {
        let Some(planned) = self.planned.get_mut(name) else { return };
        let Some(run) = &mut planned.run else { return };
        let had_outcome = run.row.outcome;
        run.end(step, &end, &planned.schedule);
        if planned.schedule.steps[step].task.is_some() {
            let StepState { attempt, job, changes, .. } = run.steps[step];
            let name_of = planned.schedule.steps[step].name.clone();
            let row = StoredStep { name: name_of, attempt, job, end: Some(end), changes };
            self.next.writes.push(put_step(name, run.number, step, &row));
        }
        if run.row.outcome != had_outcome {
            self.next.writes.push(put_run(name, run.number, &run.row));
        }
        self.hungry.insert(name.to_owned());
        let (is_stopped, read) = (run.row.outcome.is_some(), run.steps[step].read);
        if let Some(share) = read {
            self.advance_scrub(name, step, share);
        }
        if is_stopped {
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
        let has_failed = run.row.failed > 0;
        let by_steps = if has_failed { RunOutcome::Failed } else { RunOutcome::Succeeded };
        let outcome = *run.row.outcome.get_or_insert(by_steps);
        run.row.ended_s = ended_s;
        run.row.changes = run.changes();
        let changes = run.row.changes.unwrap_or_default();
        self.next.writes.push(put_run(name, run.number, &run.row));
        let notices = notices(planned, &run);
        self.next.writes.extend(notices.iter().map(put_notice));
        self.next.then.extend(notices.into_iter().map(PlannerAction::Notice));
        planned.state.active = None;
        planned.state.last = Some((run.number, run.row));
        let queued_s = planned.state.queued_s.take();
        let schedule = name.to_owned();
        self.next.then.push(PlannerAction::Ended { schedule, run: run.number, outcome, changes });
        if let Some(due_s) = queued_s {
            self.begin_run(name, due_s, false);
        }
        self.save(name);
    }

    /// Forgets a run; its jobs are cancelled.
    pub(super) fn drop_run(&mut self, name: &str) {
        self.stop_run(name, RunOutcome::Cancelled);
        self.comparison.take_if(|comparison| comparison.is_of(name));
        let Some(run) = self.planned.get_mut(name).and_then(|planned| planned.run.take()) else {
            return;
        };
        let has_slot = |step: &&StepState| {
            matches!(
                step.phase,
                StepPhase::Running { .. }
                    | StepPhase::Submitting
                    | StepPhase::Comparing
                    | StepPhase::Collecting(_)
            )
        };
        self.running -= run.steps.iter().filter(has_slot).count();
    }
}
