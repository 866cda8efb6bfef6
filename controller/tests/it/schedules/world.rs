//! A planner with a journal in memory and a book that is played.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use hashcluster_controller::core::{Principal, Rights};
use hashcluster_controller::jobs::{Caller, Instants};
use hashcluster_controller::journal::{MemoryStorage, Storage};
use hashcluster_controller::notices::Notice;
use hashcluster_controller::schedules::{
    Planner, PlannerAction, PlannerEvent, RUNNING_MAX, ScheduleAsk, ScheduleOwner,
};
use ipc_proto::message::{
    AuditCounts, AuditRow, ItemOutcome, JobAct, JobId, JobKind, JobRow, JobSpec, JobState,
    NameShare, ResultRow, RunOutcome, RunRow, ScheduleAct, ScheduleReply, ScheduleRequest,
    ScheduleRow, ServiceRefusal, ServiceReply, ServiceRequest, Stamp, StepRow,
};
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;
use test_kit::Random;

/// The world begins at a midnight of UTC: 2026-01-01.
pub(crate) const START_S: i64 = 1_767_225_600;

const OWNER: ScheduleOwner = ScheduleOwner { principal: Principal::Uid(1000), gid: 100 };

fn planner() -> Planner {
    Planner::new(vec!["d".into()])
}

/// A job of the played book.
#[derive(Debug)]
struct PlayedJob {
    id: JobId,
    spec: JobSpec,
    state: JobState,
    left_s: u64,
    failed: u64,
    created_s: u64,
    files: Vec<ResultRow>,
    /// Of an audit against a manifest.
    findings: Option<Vec<AuditRow>>,
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
    pub(crate) answers: Vec<ServiceReply>,
    /// Notices that were handed out, each as often as it was.
    pub(crate) notices: Vec<Notice>,
    /// Notices are delivered at once.
    pub(crate) delivers: bool,
    pub(crate) crashes: usize,
    /// Seconds that a job takes.
    pub(crate) job_s: u64,
    pub(crate) fail_percent: u64,
    /// The book takes no jobs.
    pub(crate) is_busy: bool,
    /// The book lets nobody submit.
    pub(crate) is_forbidden: bool,
    /// Files of the dataset, in the order of a walk: name, content, length and time of modification.
    pub(crate) files: BTreeMap<&'static str, (u8, u64, i64)>,
    /// Findings of audits against manifests.
    pub(crate) findings: Vec<AuditRow>,
    /// Requests for results and findings wait.
    pub(crate) holds_results: bool,
    /// A job whose results are gone.
    pub(crate) lost: Option<JobId>,
    /// The next commit fails.
    pub(crate) fails_commit: bool,
    /// The next commit is done, but nobody hears of it.
    is_crashing: bool,
    /// Bytes of rows in one read.
    pub(crate) page_len: usize,
    luck: Random,
    events: VecDeque<PlannerEvent>,
}

impl PlannerWorld {
    pub(crate) fn new() -> Self {
        let mut world = Self {
            planner: planner(),
            storage: MemoryStorage::default(),
            at: Instants { monotonic: Duration::ZERO, wall_s: START_S.unsigned_abs() },
            jobs: BTreeMap::new(),
            submitted: Vec::new(),
            ended: Vec::new(),
            answers: Vec::new(),
            notices: Vec::new(),
            delivers: true,
            crashes: 0,
            job_s: 10,
            fail_percent: 0,
            is_busy: false,
            is_forbidden: false,
            files: BTreeMap::from([("a", (1, 1, 1)), ("b", (2, 2, 2)), ("c", (3, 3, 3))]),
            findings: Vec::new(),
            holds_results: false,
            lost: None,
            fails_commit: false,
            is_crashing: false,
            page_len: 300,
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
            let reply = self.answer(ScheduleRequest::Apply { text: schedule.to_json() });
            assert!(
                matches!(reply, ServiceReply::Schedule(ScheduleReply::Changed(_))),
                "{reply:?}"
            );
        }
    }

    pub(crate) fn ask(&mut self, request: ScheduleRequest) {
        self.ask_as(OWNER, Rights::ALL, request);
    }

    pub(crate) fn ask_as(
        &mut self,
        owner: ScheduleOwner,
        rights: Rights,
        request: ScheduleRequest,
    ) {
        let (caller, tag, rights) = (Caller(1), 1, Rc::new(rights));
        self.event(PlannerEvent::Asked(ScheduleAsk { caller, tag, owner, rights, request }));
    }

    /// The answer to a request.
    pub(crate) fn answer(&mut self, request: ScheduleRequest) -> ServiceReply {
        self.ask(request);
        self.answers.pop().unwrap()
    }

    pub(crate) fn act(&mut self, name: &str, act: ScheduleAct) {
        self.ask(ScheduleRequest::Act { name: name.into(), act });
    }

    pub(crate) fn list(&mut self) -> Vec<ScheduleRow> {
        let list = ScheduleRequest::List { after: String::new(), limit: 512 };
        let ServiceReply::Schedule(ScheduleReply::Schedules { rows, .. }) = self.answer(list)
        else {
            panic!("no list");
        };
        rows
    }

    /// A page of runs.
    pub(crate) fn runs(&mut self, name: &str, before: Option<u64>, limit: u16) -> Vec<RunRow> {
        let runs = ScheduleRequest::Runs { name: name.into(), before, limit };
        let reply = self.answer(runs);
        let ServiceReply::Schedule(ScheduleReply::Runs { rows, .. }) = reply else {
            panic!("{reply:?}");
        };
        rows
    }

    /// A run, and a page of its tasks.
    pub(crate) fn run(&mut self, name: &str, run: u64, from: u32) -> (RunRow, Vec<StepRow>) {
        let reply = self.answer(ScheduleRequest::Run { name: name.into(), run, from, limit: 512 });
        let ServiceReply::Schedule(ScheduleReply::Run { row, steps, .. }) = reply else {
            panic!("{reply:?}");
        };
        (row, steps)
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
            PlannerAction::Read(number, query) => {
                let snapshot = self.storage.snapshot().unwrap();
                // Small pages, so that there are several.
                let rows =
                    snapshot.range(query.table, &query.from, &query.to, self.page_len).unwrap();
                self.events.push_back(PlannerEvent::Read(number, Ok(rows)));
            }
            PlannerAction::Book(
                _,
                _,
                ServiceRequest::Results { .. } | ServiceRequest::Findings { .. },
            ) if self.holds_results => {}
            PlannerAction::Book(number, owner, request) => {
                assert_eq!(owner, OWNER);
                let reply = self.play(request);
                self.events.push_back(PlannerEvent::Book(number, reply));
            }
            PlannerAction::Reply(_, _, answer) => self.answers.push(answer),
            PlannerAction::Notice(notice) => {
                if self.delivers {
                    self.events.push_back(PlannerEvent::Noticed(notice.key.clone()));
                }
                self.notices.push(notice);
            }
            PlannerAction::Ended { schedule, run, outcome, .. } => {
                self.ended.push((schedule, run, outcome));
            }
        }
    }

    fn play(&mut self, request: ServiceRequest) -> ServiceReply {
        let refused = |reason| ServiceReply::Refused { reason, text: "no".into() };
        match request {
            ServiceRequest::Submit { .. } if self.is_busy => refused(ServiceRefusal::TooMuch),
            ServiceRequest::Submit { .. } if self.is_forbidden => {
                refused(ServiceRefusal::Forbidden)
            }
            ServiceRequest::Submit { key, spec } => {
                let failed = u64::from(self.luck.chance(self.fail_percent));
                let number = self.jobs.len() as u64 + 1;
                let is_new = !self.jobs.contains_key(&key);
                let (created_s, files) = (self.at.wall_s, self.results(spec.share));
                let findings = (spec.kind == JobKind::Audit).then(|| self.findings.clone());
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
                    created_s,
                    files,
                    findings,
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
            ServiceRequest::Findings { job: id, from, .. } if self.lost != Some(id) => {
                let (_, job) = self.jobs.iter().find(|(_, job)| job.id == id).unwrap();
                let (at, all) = (usize::try_from(from).unwrap(), job.findings.iter().flatten());
                // Small pages, so that there are several.
                let rows: Vec<AuditRow> = all.clone().skip(at).take(2).cloned().collect();
                let more = at + rows.len() < all.count();
                ServiceReply::Findings { rows, more }
            }
            ServiceRequest::Results { job, .. } | ServiceRequest::Findings { job, .. }
                if self.lost == Some(job) =>
            {
                refused(ServiceRefusal::UnknownJob)
            }
            ServiceRequest::Results { job: id, from, .. } => {
                let (_, job) = self.jobs.iter().find(|(_, job)| job.id == id).unwrap();
                let at = usize::try_from(from).unwrap();
                // Small pages, so that there are several.
                let rows: Vec<ResultRow> = job.files[at..].iter().take(2).cloned().collect();
                let is_last = at + rows.len() == job.files.len();
                ServiceReply::Results { job: id, from, rows, state: job.state, is_last }
            }
            ServiceRequest::Findings { .. }
            | ServiceRequest::Store { .. }
            | ServiceRequest::Seal { .. }
            | ServiceRequest::Jobs { .. }
            | ServiceRequest::Wait { .. }
            | ServiceRequest::Deaths { .. }
            | ServiceRequest::Schedule(_)
            | ServiceRequest::Events { .. }
            | ServiceRequest::Rules
            | ServiceRequest::Backup { .. } => panic!("{request:?}"),
        }
    }

    /// Results of a job that reads a share of the files now.
    fn results(&self, share: NameShare) -> Vec<ResultRow> {
        let row = |(name, (content, size, mtime_ns)): (&&str, &(u8, u64, i64))| ResultRow {
            name: name.as_bytes().into(),
            stamp: Stamp { size: *size, mtime_ns: *mtime_ns, ctime_ns: *mtime_ns },
            outcome: ItemOutcome::Digests(vec![*content; 32].into()),
        };
        let is_read = |(name, _): &(&&str, &(u8, u64, i64))| {
            share.contains(NameShare::place(name.as_bytes()))
        };
        self.files.iter().filter(is_read).map(row).collect()
    }

    /// The names that each job read, in the order of submission.
    pub(crate) fn read(&self) -> Vec<Vec<String>> {
        let name = |row: &ResultRow| String::from_utf8(row.name.to_vec()).unwrap();
        let files = |key: &String| self.jobs[key].files.iter().map(name).collect();
        self.submitted.iter().map(files).collect()
    }

    /// The spec of the last job.
    pub(crate) fn last_spec(&self) -> &JobSpec {
        &self.jobs[self.submitted.last().unwrap()].spec
    }

    /// The differences that a task of a run found, all pages.
    pub(crate) fn differences(&mut self, name: &str, run: u64, step: u32) -> Vec<String> {
        let mut all = Vec::new();
        for page in 0.. {
            let ask = ScheduleRequest::Differences { name: name.into(), run, step, page };
            let reply = self.answer(ask);
            let ServiceReply::Schedule(ScheduleReply::Differences { rows, more }) = reply else {
                panic!("{reply:?}");
            };
            all.extend(rows.iter().map(|row| {
                let text = |blob: &[u8]| String::from_utf8(blob.to_vec()).unwrap();
                format!("{} {} {}", row.kind.name(), text(&row.name), text(&row.from))
            }));
            if !more {
                break;
            }
        }
        all
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
        self.planner = planner();
        self.event(PlannerEvent::Tick);
    }

    /// Ends the planner, and asks the next one before it has read the journal.
    pub(crate) fn ask_while_starting(&mut self, request: ScheduleRequest) {
        self.planner = planner();
        self.ask(request);
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
        for name in ["often", "queue", "tree", "night", "scrub", "listed"] {
            self.act(name, ScheduleAct::Pause);
        }
        // A day has all hours, and twice that is enough for a queued run.
        for _ in 0..2 * 24 * 60 {
            self.advance(60, random);
        }
        for schedule in self.list() {
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
            let [_, _, generation, run, step, _] = parts[..] else { panic!("{key}") };
            let step: usize = step.parse().unwrap();
            for before in 0..step {
                let prefix = format!("schedule:tree:{generation}:{run}:{before}:");
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
        findings: job.findings.as_ref().filter(|_| job.state == JobState::Done).map(|rows| {
            let mut counts = AuditCounts::default();
            rows.iter().for_each(|row| counts.add_one(row.finding));
            counts
        }),
        bytes: 0,
        created_s: job.created_s,
        started_s: 0,
        ended_s: 0,
    }
}
