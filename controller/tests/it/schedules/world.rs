//! A planner with a journal in memory and a book that is played.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use hashcluster_controller::core::Principal;
use hashcluster_controller::jobs::{Caller, Instants};
use hashcluster_controller::journal::{MemoryStorage, Storage};
use hashcluster_controller::schedules::{
    Planner, PlannerAction, PlannerEvent, RUNNING_MAX, RunOutcome, ScheduleAnswer, ScheduleAsk,
};
use ipc_proto::message::{
    JobAct, JobId, JobRow, JobSpec, JobState, ServiceRefusal, ServiceReply, ServiceRequest,
};
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::time::Duration;
use test_kit::Random;

/// The world begins at a midnight of UTC: 2026-01-01.
pub(crate) const START_S: i64 = 1_767_225_600;

const OWNER: Principal = Principal::Uid(1000);

/// A job of the played book.
#[derive(Debug)]
struct PlayedJob {
    id: JobId,
    spec: JobSpec,
    state: JobState,
    left_s: u64,
    failed: u64,
}

/// Everything outside of the planner is here, and survives its crashes.
#[derive(Debug)]
pub(crate) struct PlannerWorld {
    planner: Planner,
    storage: MemoryStorage,
    at: Instants,
    jobs: BTreeMap<String, PlayedJob>,
    /// Keys of new jobs, in the order of their submission.
    pub(crate) submitted: Vec<String>,
    pub(crate) ended: Vec<(String, u64, RunOutcome)>,
    pub(crate) answers: Vec<ScheduleAnswer>,
    pub(crate) crashes: usize,
    /// Seconds that a job takes.
    pub(crate) job_s: u64,
    pub(crate) fail_percent: u64,
    /// The book takes no jobs.
    pub(crate) is_busy: bool,
    /// The next commit fails.
    pub(crate) fails_commit: bool,
    /// The next commit is done, but nobody hears of it.
    is_crashing: bool,
    luck: Random,
    events: VecDeque<PlannerEvent>,
}

impl PlannerWorld {
    pub(crate) fn new() -> Self {
        let mut world = Self {
            planner: Planner::new(),
            storage: MemoryStorage::default(),
            at: Instants { monotonic: Duration::ZERO, wall_s: START_S.unsigned_abs() },
            jobs: BTreeMap::new(),
            submitted: Vec::new(),
            ended: Vec::new(),
            answers: Vec::new(),
            crashes: 0,
            job_s: 10,
            fail_percent: 0,
            is_busy: false,
            fails_commit: false,
            is_crashing: false,
            luck: Random::new(7),
            events: VecDeque::new(),
        };
        world.event(PlannerEvent::Tick);
        world
    }

    /// Applies every schedule of a file.
    pub(crate) fn apply(&mut self, text: &str) {
        let all = schedule::parse(text.as_bytes()).unwrap_or_else(|errors| panic!("{errors}"));
        for schedule in all.schedules {
            self.ask(ScheduleAsk::Apply(schedule.to_json()));
            assert_eq!(self.answers.pop(), Some(ScheduleAnswer::Done));
        }
    }

    pub(crate) fn ask(&mut self, ask: ScheduleAsk) {
        let (caller, tag, principal) = (Caller(1), 1, OWNER);
        self.event(PlannerEvent::Asked { caller, tag, principal, ask });
    }

    /// Carries out an event and all that follows from it at once.
    fn event(&mut self, event: PlannerEvent) {
        self.events.push_back(event);
        while let Some(event) = self.events.pop_front() {
            for action in self.planner.step(self.at, event) {
                self.carry_out(action);
            }
        }
    }

    fn carry_out(&mut self, action: PlannerAction) {
        match action {
            PlannerAction::Persist(number, _) if self.fails_commit => {
                self.fails_commit = false;
                self.events.push_back(PlannerEvent::PersistFailed(number));
            }
            PlannerAction::Persist(number, writes) => {
                self.storage.commit(&writes).unwrap();
                if !self.is_crashing {
                    self.events.push_back(PlannerEvent::Persisted(number));
                }
            }
            PlannerAction::Read(query) => {
                let snapshot = self.storage.snapshot().unwrap();
                // Small pages, so that there are several.
                let rows = snapshot.range(query.table, &query.from, &query.to, 300).unwrap();
                self.events.push_back(PlannerEvent::Read(Ok(rows)));
            }
            PlannerAction::Book(number, principal, request) => {
                assert_eq!(principal, OWNER);
                let reply = self.play(request);
                self.events.push_back(PlannerEvent::Book(number, reply));
            }
            PlannerAction::Answer(_, _, answer) => self.answers.push(answer),
            PlannerAction::Ended { schedule, run, outcome } => {
                self.ended.push((schedule, run, outcome));
            }
        }
    }

    fn play(&mut self, request: ServiceRequest) -> ServiceReply {
        let refused = |reason| ServiceReply::Refused { reason, text: "no".into() };
        match request {
            ServiceRequest::Submit { .. } if self.is_busy => refused(ServiceRefusal::TooMuch),
            ServiceRequest::Submit { key, spec } => {
                let failed = u64::from(self.luck.chance(self.fail_percent));
                let number = self.jobs.len() as u64 + 1;
                let is_new = !self.jobs.contains_key(&key);
                if is_new {
                    self.submitted.push(key.clone());
                }
                let (state, left_s) = match self.job_s {
                    0 => (JobState::Done, 0),
                    left_s => (JobState::Running, left_s),
                };
                let job = self.jobs.entry(key.clone()).or_insert_with(|| PlayedJob {
                    id: JobId { epoch: 1, number },
                    spec: (*spec).clone(),
                    state,
                    left_s,
                    failed,
                });
                assert_eq!(job.spec, *spec, "{key} was submitted as something else");
                ServiceReply::Job(Box::new(row(&key, job)))
            }
            ServiceRequest::Job { job } => self.with_job(job, |_| ()),
            ServiceRequest::Act { job, act } => self.with_job(job, |job| {
                job.state = match (job.state, act) {
                    (JobState::Running | JobState::Paused, JobAct::Cancel) => JobState::Cancelled,
                    (JobState::Running, JobAct::Pause) => JobState::Paused,
                    (JobState::Paused, JobAct::Resume) => JobState::Running,
                    (state, _) => state,
                };
            }),
            ServiceRequest::Store { .. }
            | ServiceRequest::Seal { .. }
            | ServiceRequest::Jobs { .. }
            | ServiceRequest::Wait { .. }
            | ServiceRequest::Results { .. } => panic!("{request:?}"),
        }
    }

    fn with_job(&mut self, id: JobId, change: impl FnOnce(&mut PlayedJob)) -> ServiceReply {
        let (key, job) = self.jobs.iter_mut().find(|(_, job)| job.id == id).unwrap();
        change(job);
        ServiceReply::Job(Box::new(row(key, job)))
    }

    /// Lets seconds pass on both clocks.
    pub(crate) fn advance(&mut self, seconds: u64, random: &mut Random) {
        self.at.monotonic += Duration::from_secs(seconds);
        self.at.wall_s += seconds;
        for job in self.jobs.values_mut().filter(|job| job.state == JobState::Running) {
            job.left_s = job.left_s.saturating_sub(seconds);
            if job.left_s == 0 {
                job.state = if random.chance(98) { JobState::Done } else { JobState::Cancelled };
            }
        }
        self.event(PlannerEvent::Tick);
    }

    /// Lets seconds pass, in steps of one, with jobs that nobody cancels.
    pub(crate) fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.at.monotonic += Duration::from_secs(1);
            self.at.wall_s += 1;
            for job in self.jobs.values_mut().filter(|job| job.state == JobState::Running) {
                job.left_s = job.left_s.saturating_sub(1);
                if job.left_s == 0 {
                    job.state = JobState::Done;
                }
            }
            self.event(PlannerEvent::Tick);
        }
    }

    /// Sets the wall clock.
    pub(crate) fn jump(&mut self, seconds: i64) {
        self.at.wall_s = self.at.wall_s.saturating_add_signed(seconds);
        self.event(PlannerEvent::Tick);
    }

    /// Ends the planner; with `is_late` after a commit of which it does not hear.
    pub(crate) fn crash(&mut self, is_late: bool) {
        if is_late {
            self.is_crashing = true;
            self.at.monotonic += Duration::from_secs(1);
            self.event(PlannerEvent::Tick);
            self.is_crashing = false;
        }
        self.crashes += 1;
        self.planner = Planner::new();
        self.event(PlannerEvent::Tick);
    }

    /// The planner is down for a while.
    pub(crate) fn outage(&mut self, seconds: u64) {
        self.at.monotonic += Duration::from_secs(seconds);
        self.at.wall_s += seconds;
        self.crash(false);
    }

    /// Lets everything come to its end: no new runs, no more failures.
    pub(crate) fn settle(&mut self, random: &mut Random) {
        (self.is_busy, self.fails_commit) = (false, false);
        for _ in 0..10 {
            self.advance(1, random);
        }
        for name in ["often", "queue", "tree", "night"] {
            self.ask(ScheduleAsk::Pause(name.into(), true));
        }
        // A day has all hours, and twice that is enough for a queued run.
        for _ in 0..2 * 24 * 60 {
            self.advance(60, random);
        }
        self.ask(ScheduleAsk::List);
        let Some(ScheduleAnswer::All(all)) = self.answers.pop() else { panic!("no list") };
        for schedule in all {
            assert_eq!(schedule.active, None, "{} still runs", schedule.name);
        }
    }

    /// Invariants at any time.
    pub(crate) fn check(&self) {
        let with_job = |job: &&PlayedJob| matches!(job.state, JobState::Running | JobState::Paused);
        let running = self.jobs.values().filter(with_job).count();
        assert!(running <= RUNNING_MAX, "{running} jobs at once");
        let mut seen = HashSet::new();
        for (schedule, run, _) in &self.ended {
            assert!(seen.insert((schedule, run)), "{schedule} ended its run {run} twice");
        }
        // In the tree, the last task begins when the others have ended.
        for key in self.submitted.iter().filter(|key| key.starts_with("schedule:tree:")) {
            let parts: Vec<&str> = key.split(':').collect();
            let [_, _, run, step, _] = parts[..] else { panic!("{key}") };
            let step: usize = step.parse().unwrap();
            for before in 0..step {
                let prefix = format!("schedule:tree:{run}:{before}:");
                let mut attempts = self.jobs.iter().filter(|(key, _)| key.starts_with(&prefix));
                let has_ended = attempts.all(|(_, job)| job.state.has_ended());
                let is_done = self.jobs[key].state.has_ended() || has_ended;
                assert!(is_done, "{key} began before step {before} had ended");
            }
        }
    }

    pub(crate) fn retries(&self) -> usize {
        self.submitted.iter().filter(|key| !key.ends_with(":1")).count()
    }

    fn count(&self, state: JobState) -> usize {
        self.jobs.values().filter(|job| job.state == state).count()
    }

    pub(crate) fn cancelled(&self) -> usize {
        self.count(JobState::Cancelled)
    }

    pub(crate) fn paused(&self) -> usize {
        self.count(JobState::Paused)
    }
}

fn row(key: &str, job: &PlayedJob) -> JobRow {
    JobRow {
        id: job.id,
        key: key.to_owned(),
        spec: job.spec.clone(),
        principal: String::new(),
        state: job.state,
        reason: String::new(),
        items: 3,
        is_complete: true,
        resolved: 3,
        failed: job.failed,
        mismatched: 0,
        bytes: 0,
        created_s: 0,
        started_s: 0,
        ended_s: 0,
    }
}
