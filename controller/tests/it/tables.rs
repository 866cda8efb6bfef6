//! Histories written by hand: what the core must do, step by step.

use crate::pages::NOT_OF_READING;
use hashcluster_controller::core::{
    Action, ClientId, Core, Event, Fault, Limits, Principal, Rights, WorkerId,
};
use ipc_proto::message::{
    Backend, ByteRange, ClientReply, ClientRequest, Failure, Failures, FileItem, FileSource, Items,
    JobId, JobStatus, LeaseId, LossCause, Planes, Run, SandboxLayers, Stamp, Work, WorkerHealth,
    WorkerIntro, WorkerReply, WorkerRequest,
};
use ipc_proto::{Algorithm, Algorithms, Blob, Family};
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

pub(crate) const CLIENT: ClientId = ClientId(1);

/// The start of the controller of all tables.
pub(crate) const EPOCH: u32 = 1_800_000_000;

/// The first job that is opened.
pub(crate) const JOB: JobId = job(0);

pub(crate) const fn job(number: u64) -> JobId {
    JobId { epoch: EPOCH, number }
}

pub(crate) const fn lease_id(number: u64) -> LeaseId {
    LeaseId { epoch: EPOCH, number }
}

pub(crate) fn open(algorithm: Algorithm, cross_check: u32) -> ClientRequest {
    let algorithms = algorithm.into();
    ClientRequest::Open { tag: 0, algorithms, cross_check, strict_reads: false }
}

/// Passed files of these sizes.
pub(crate) fn files(job: JobId, first: u64, sizes: &[u64]) -> ClientRequest {
    let stamp = |&size: &u64| Stamp { size, ..Stamp::default() }.into();
    let files = sizes.iter().map(stamp).collect();
    let items = Items::Files { source: FileSource::Descriptors, files };
    ClientRequest::Items { job, first, items }
}

pub(crate) fn inline(job: JobId, first: u64, lens: Vec<u32>, data: Blob) -> ClientRequest {
    ClientRequest::Items { job, first, items: Items::Inline { lens, data } }
}

/// A batch in a worker's hands.
#[derive(Debug)]
pub(crate) struct Leased {
    pub(crate) worker: u64,
    pub(crate) lease: (LeaseId, u32),
    pub(crate) check: bool,
    pub(crate) work: Work,
    pub(crate) files: Vec<u64>,
}

pub(crate) struct Table {
    pub(crate) core: Core<u64>,
    pub(crate) now: Duration,
    /// Everything the core wanted done and no test has looked at yet.
    pub(crate) actions: Vec<Action<u64>>,
}

impl Table {
    pub(crate) fn new(limits: Limits) -> Self {
        Self::with_datasets(limits, &[])
    }

    pub(crate) fn with_datasets(limits: Limits, datasets: &[&str]) -> Self {
        let datasets = datasets.iter().map(|&name| name.to_owned()).collect();
        let (core, now) = (Core::new(limits, datasets, EPOCH), Duration::ZERO);
        let mut table = Self { core, now, actions: Vec::new() };
        table.step(Event::ClientJoined {
            client: CLIENT,
            principal: Principal::Uid(7),
            pid: 70,
            rights: Rc::new(Rights::ALL),
        });
        table
    }

    pub(crate) fn step(&mut self, event: Event<u64>) {
        self.actions.extend(self.core.step(self.now, event));
        self.core.check_invariants();
    }

    pub(crate) fn say(&mut self, request: ClientRequest, files: &[u64]) {
        self.step(Event::ClientSaid(CLIENT, request, files.to_vec()));
    }

    pub(crate) fn open(&mut self, algorithm: Algorithm) {
        self.say(open(algorithm, 0), &[]);
        self.told();
    }

    pub(crate) fn send_files(&mut self, first: u64, sizes: &[u64]) {
        let descriptors: Vec<u64> = (first..).take(sizes.len()).collect();
        self.say(files(JOB, first, sizes), &descriptors);
    }

    pub(crate) fn join(&mut self, worker: u64, credit: u16) {
        let planes = Planes { descriptors: true, inline: true, datasets: Vec::new() };
        self.join_with(worker, credit, planes);
    }

    pub(crate) fn join_with(&mut self, worker: u64, credit: u16, planes: Planes) {
        self.join_if(worker, credit, planes, |_| true);
    }

    /// A worker with those backends that `has` selects.
    fn join_if(
        &mut self,
        worker: u64,
        credit: u16,
        planes: Planes,
        has: impl Fn(&Backend) -> bool,
    ) {
        let backend = |algorithm: Algorithm| {
            // As with the SHA extensions and AVX2.
            let interleave_max = match algorithm.family() {
                Family::Sha256 => 2,
                Family::Sha512 => 4,
                Family::Blake3 | Family::Md5 | Family::Sha1 | Family::Blake2b => 1,
            };
            Backend { algorithm, backend: "portable".to_owned(), interleave_max }
        };
        let intro = WorkerIntro {
            name: format!("w{worker}"),
            software: String::new(),
            image: String::new(),
            pid: 1,
            threads: 1,
            memory_bytes: 0,
            backends: Algorithm::ALL.map(backend).into_iter().filter(has).collect(),
            planes,
            reading: "plain".to_owned(),
            sandbox: SandboxLayers::default(),
            token: Blob::default(),
            host: String::new(),
            cpu: String::new(),
        };
        self.step(Event::WorkerJoined(WorkerId(worker), intro));
        self.hear(worker, WorkerReply::Credit { batches: credit });
    }

    pub(crate) fn hear(&mut self, worker: u64, reply: WorkerReply) {
        self.step(Event::WorkerSaid(WorkerId(worker), reply));
    }

    pub(crate) fn done(
        &mut self,
        worker: u64,
        (lease, attempt): (LeaseId, u32),
        digests: u8,
        failures: Failures,
    ) {
        let outputs = Blob((0..digests).flat_map(|digest| [digest; 32]).collect());
        self.hear(
            worker,
            WorkerReply::Done { lease, attempt, credit: 1, busy_us: 10, outputs, failures },
        );
    }

    pub(crate) fn wait(&mut self, time: Duration) {
        self.now += time;
        self.step(Event::Tick);
    }

    /// The batches assigned since the last look.
    pub(crate) fn leased(&mut self) -> Vec<Leased> {
        let mut leased = Vec::new();
        self.actions.retain(|action| {
            let Action::ToWorker(worker, request, files) = action else { return true };
            let WorkerRequest::Assign { lease, attempt, check, work, .. } = request else {
                return true;
            };
            let (worker, lease, check) = (worker.0, (*lease, *attempt), *check);
            leased.push(Leased { worker, lease, check, work: work.clone(), files: files.clone() });
            false
        });
        leased
    }

    /// The same: worker, lease and attempt, descriptors.
    pub(crate) fn assigned(&mut self) -> Vec<(u64, (LeaseId, u32), Vec<u64>)> {
        self.leased().into_iter().map(|held| (held.worker, held.lease, held.files)).collect()
    }

    /// Replies to the client since the last call.
    pub(crate) fn told(&mut self) -> Vec<ClientReply> {
        let mut told = Vec::new();
        self.actions.retain(|action| {
            let Action::ToClient(CLIENT, reply) = action else { return true };
            let is_advance = matches!(reply, ClientReply::Advanced { .. });
            if !is_advance {
                told.push(reply.clone());
            }
            is_advance
        });
        told
    }

    /// Items that came forward since this was last asked, each with its bytes.
    pub(crate) fn advanced(&mut self) -> Vec<(u64, u64)> {
        let mut advanced = Vec::new();
        self.actions.retain(|action| {
            let Action::ToClient(CLIENT, ClientReply::Advanced { index, bytes, .. }) = action
            else {
                return true;
            };
            advanced.push((*index, *bytes));
            false
        });
        advanced
    }

    #[track_caller]
    fn check_closed(&mut self, want: Fault) {
        let closed = Action::CloseClient(CLIENT, want);
        assert!(self.actions.contains(&closed), "{:?}", self.actions);
        assert_eq!(self.core.status(self.now, 9).jobs, [], "its jobs are gone");
    }
}

pub(crate) fn table() -> Table {
    let mut table = Table::new(Limits::default());
    table.open(Algorithm::Sha256);
    table
}

pub(crate) fn results(run: Run, digest: u8, failures: Failures) -> ClientReply {
    let digests_len = run.len as usize - failures.len();
    let outputs = Blob((0..digests_len).flat_map(|_| [digest; 32]).collect());
    ClientReply::Results { job: JOB, runs: vec![run], outputs, failures }
}

#[test]
fn a_lost_connection_passes_its_lease_on_and_a_late_answer_is_dropped() {
    let mut table = table();
    table.join(1, 1);
    table.send_files(0, &[10]);
    let first = table.assigned();
    assert_eq!(first, [(1, (lease_id(0), 1), vec![0])]);
    table.step(Event::WorkerLeft(WorkerId(1)));
    table.join(2, 1);
    let second = table.assigned();
    assert_eq!(second, [(2, (lease_id(1), 2), vec![0])]);
    table.join(1, 0);
    table.done(1, first[0].1, 1, vec![]);
    assert_eq!(table.told(), [], "the old attempt counts for nothing");
    table.done(2, second[0].1, 1, vec![]);
    assert_eq!(table.told(), [results(Run { first: 0, len: 1 }, 0, vec![])]);
    let counters = table.core.status(table.now, 9).counters;
    assert_eq!((counters.answers_fenced, counters.leases_lost, counters.items), (1, 1, 1));
}

#[test]
fn a_silent_worker_loses_its_leases_at_the_heartbeat_deadline() {
    let mut table = table();
    table.join(1, 1);
    table.send_files(0, &[10]);
    table.wait(Duration::from_millis(4_999));
    table.join(2, 1);
    assert_eq!(table.assigned().len(), 1, "the first worker still holds it");
    table.hear(2, WorkerReply::Heartbeat);
    table.wait(Duration::from_millis(1));
    assert_eq!(table.assigned(), [(2, (lease_id(1), 2), vec![0])]);
    assert!(table.actions.contains(&Action::CloseWorker(WorkerId(1), Fault::Silent)));
}

#[test]
fn a_heartbeat_is_answered_and_keeps_a_worker() {
    let mut table = table();
    table.join(1, 1);
    for _ in 0..10 {
        table.wait(Duration::from_secs(4));
        table.hear(1, WorkerReply::Heartbeat);
    }
    let beat = Action::ToWorker(WorkerId(1), WorkerRequest::Heartbeat, vec![]);
    assert_eq!(table.actions.iter().filter(|&action| *action == beat).count(), 10);
}

#[test]
fn after_three_distinct_workers_an_item_fails_and_the_job_goes_on() {
    let mut table = table();
    table.send_files(0, &[10, 20]);
    let mut killed = 0;
    for worker in 1..=4 {
        table.join(worker, 1);
        let (worker, lease, files) = table.assigned().pop().expect("there is work");
        if files.contains(&0) {
            killed += 1;
            table.step(Event::WorkerLeft(WorkerId(worker)));
        } else {
            table.done(worker, lease, 1, vec![]);
        }
    }
    assert_eq!(killed, 3);
    let lost = Failure::WorkersLost { attempts: 3 };
    let [other, death, failed] = table.told().try_into().expect("each item is resolved once");
    assert_eq!(other, results(Run { first: 1, len: 1 }, 0, vec![]));
    let ClientReply::Death { job: JOB, index: 0, losses } = death else { panic!("{death:?}") };
    assert!(losses.iter().all(|loss| loss.cause == LossCause::Disconnected));
    let workers: BTreeSet<String> = losses.into_iter().map(|loss| loss.worker).collect();
    assert_eq!(workers.len(), 3, "{workers:?}");
    assert_eq!(failed, results(Run { first: 0, len: 1 }, 0, vec![(0, lost)]));
    table.say(ClientRequest::Finish { job: JOB }, &[]);
    let finished = ClientReply::Finished { job: JOB, items: 2, failed: 1 };
    assert_eq!(table.told().pop(), Some(finished));
}

#[test]
fn the_last_attempt_goes_to_a_worker_with_a_record_of_good_work() {
    let mut table = table();
    table.join(1, 1);
    table.send_files(0, &[10]);
    let (_, lease, _) = table.assigned().pop().expect("there is work");
    table.done(1, lease, 1, vec![]);
    table.send_files(1, &[20]);
    let (busy, good, _) = table.assigned().pop().expect("there is work");
    assert_eq!(busy, 1);
    // Whoever takes its first lease and leaves, under new names.
    table.send_files(2, &[30]);
    for worker in 2..=3 {
        table.join(worker, 1);
        let (liar, _, files) = table.assigned().pop().expect("there is work");
        assert_eq!((liar, files), (worker, vec![2]));
        table.step(Event::WorkerLeft(WorkerId(worker)));
    }
    table.join(4, 1);
    assert_eq!(table.assigned(), [], "it waits for the worker that is busy");
    table.done(1, good, 1, vec![]);
    let (last, lease, files) = table.assigned().pop().expect("there is work");
    assert_eq!((last, files), (1, vec![2]));
    table.done(1, lease, 1, vec![]);
    assert_eq!(table.told().len(), 3, "every item has a digest");
}

#[test]
fn a_lease_past_its_deadline_goes_to_another_worker_and_three_quarantine() {
    let mut table = table();
    table.join(1, 9);
    table.send_files(0, &[10]);
    table.assigned();
    for round in 1..=3 {
        for _ in 0..15 {
            table.hear(1, WorkerReply::Heartbeat);
            table.wait(Duration::from_secs(4));
        }
        table.hear(1, WorkerReply::Credit { batches: 1 });
        let passed_on = table.assigned();
        assert_eq!(passed_on.is_empty(), round == 3, "only one worker, until it is quarantined");
    }
    assert!(table.actions.contains(&Action::Quarantined("w1".to_owned(), Fault::Overdue)));
    let row = &table.core.status(table.now, 9).workers[0];
    assert_eq!((row.health, row.leases, row.leases_lost), (WorkerHealth::Suspended, 0, 3));
}

#[test]
fn a_worker_that_answers_in_a_wrong_form_gets_no_more_and_its_batches_pass_on() {
    let wrong = [(2, vec![]), (0, vec![])].into_iter();
    let wrong = wrong.chain([(1, vec![(0, Failure::Changed)]), (0, vec![(1, Failure::Changed)])]);
    for (digests, failures) in wrong.chain(NOT_OF_READING.map(|wrong| (0, vec![(0, wrong)]))) {
        let mut table = table();
        table.join(1, 2);
        table.send_files(0, &[10]);
        let lease = table.assigned()[0].1;
        table.done(1, lease, digests, failures);
        let fault = Fault::WrongAnswer(lease.0);
        assert!(table.actions.contains(&Action::Quarantined("w1".to_owned(), fault)));
        assert_eq!(table.told(), [], "a wrong answer resolves nothing");
        table.join(2, 1);
        assert_eq!(table.assigned()[0].0, 2);
    }
}

#[test]
fn a_worker_that_answers_for_another_is_closed() {
    let mut table = table();
    table.join(1, 1);
    table.send_files(0, &[10]);
    let lease = table.assigned()[0].1;
    table.join(2, 1);
    table.done(2, lease, 1, vec![]);
    let closed = |worker, lease| Action::CloseWorker(WorkerId(worker), Fault::ForeignLease(lease));
    assert!(table.actions.contains(&closed(2, lease.0)));
    table.done(1, (lease_id(77), 1), 1, vec![]);
    assert!(table.actions.contains(&closed(1, lease_id(77))));
    assert_eq!(table.told(), []);
}

#[test]
fn credit_is_never_overdrawn() {
    let mut table = table();
    table.join(1, 2);
    table.send_files(0, &[100 << 20, 101 << 20, 102 << 20, 103 << 20]);
    let assigned = table.assigned();
    let files: Vec<_> = assigned.iter().map(|(_, _, files)| files[0]).collect();
    assert_eq!(files, [3, 2], "two beside each other, largest first");
    table.done(1, assigned[0].1, 1, vec![]);
    assert_eq!(table.assigned()[0].2, [1]);
    table.hear(1, WorkerReply::Credit { batches: 4096 });
    table.hear(1, WorkerReply::Credit { batches: 4096 });
    assert!(table.actions.contains(&Action::CloseWorker(WorkerId(1), Fault::CreditExceeded)));
}

#[test]
fn a_worker_that_renews_its_credit_holds_no_more_leases_than_one_may() {
    let mut table = table();
    table.join(1, 0);
    let closed = Action::CloseWorker(WorkerId(1), Fault::CreditExceeded);
    table.hear(1, WorkerReply::Credit { batches: 4095 });
    table.send_files(0, &[100 << 20, 101 << 20]);
    assert!(!table.assigned().is_empty());
    table.hear(1, WorkerReply::Credit { batches: 1 });
    assert!(!table.actions.contains(&closed));
    table.hear(1, WorkerReply::Credit { batches: 1 });
    assert!(table.actions.contains(&closed));
}

#[test]
fn a_client_that_breaks_the_rules_is_closed_with_its_jobs() {
    type Case = (fn(&mut Table), Fault);
    let cases: [Case; 4] = [
        (|t| t.send_files(1, &[1]), Fault::WrongIndex { want: 0, got: 1 }),
        (|t| t.say(ClientRequest::Finish { job: job(9) }, &[]), Fault::UnknownJob(job(9))),
        (
            |t| {
                t.send_files(0, &[1]);
                t.say(ClientRequest::Finish { job: JOB }, &[]);
                t.send_files(1, &[1]);
            },
            Fault::ItemAfterFinish(JOB),
        ),
        (
            |t| (0..=4096 / 253).for_each(|i| t.send_files(i * 253, &[1; 253])),
            Fault::WindowExceeded(JOB),
        ),
    ];
    for (act, want) in cases {
        let mut table = table();
        act(&mut table);
        table.check_closed(want);
    }
}

#[test]
fn cancelling_revokes_what_is_leased_and_frees_everything() {
    let mut table = table();
    table.join(1, 1);
    table.send_files(0, &[10, 20]);
    let lease = table.assigned()[0].1;
    table.say(ClientRequest::Cancel { job: JOB }, &[]);
    assert_eq!(table.told(), [ClientReply::Cancelled { job: JOB, unresolved: 2 }]);
    let revoke = WorkerRequest::Revoke { leases: vec![lease.0] };
    assert!(table.actions.contains(&Action::ToWorker(WorkerId(1), revoke, vec![])));
    table.done(1, lease, 2, vec![]);
    assert_eq!(table.told(), [], "an answer that crossed the cancellation is dropped");
    let status = table.core.status(table.now, 9);
    assert_eq!((status.limits.items, status.jobs.len(), status.workers[0].leases), (0, 0, 0));
}

#[test]
fn a_cancellation_that_crosses_the_end_of_its_job_is_nobodys_fault() {
    let mut table = table();
    table.say(ClientRequest::Finish { job: JOB }, &[]);
    assert_eq!(table.told(), [ClientReply::Finished { job: JOB, items: 0, failed: 0 }]);
    table.say(ClientRequest::Cancel { job: JOB }, &[]);
    assert_eq!(table.actions, []);
}

#[test]
fn waiting_for_workers_ends_when_they_are_ready_or_the_time_is_over() {
    let mut table = table();
    let wait = ClientRequest::WaitReady { workers: 2, timeout_ms: 1000 };
    table.say(wait.clone(), &[]);
    table.join(1, 1);
    assert_eq!(table.told(), []);
    table.join(2, 1);
    assert_eq!(table.told(), [ClientReply::Ready { workers: 2, enough: true }]);
    table.step(Event::WorkerLeft(WorkerId(2)));
    table.say(wait, &[]);
    table.wait(Duration::from_millis(999));
    assert_eq!(table.told(), []);
    table.wait(Duration::from_millis(1));
    assert_eq!(table.told(), [ClientReply::Ready { workers: 1, enough: false }]);
}

#[test]
fn too_many_jobs_are_rejected_and_the_connection_stays() {
    let mut table = Table::new(Limits { jobs_max: 4, ..Limits::default() });
    (0..3).for_each(|_| table.say(open(Algorithm::Sha256, 0), &[]));
    let told = table.told();
    assert!(matches!(told[1], ClientReply::Opened { .. }));
    assert!(matches!(&told[2], ClientReply::Rejected { tag: 0, text, .. }
        if text.contains("2 of uid 7")));
}

#[test]
fn a_job_of_another_client_or_of_an_earlier_start_is_not_open() {
    for id in [JOB, JobId { epoch: EPOCH - 1, ..JOB }] {
        let mut table = table();
        let other = ClientId(2);
        table.step(Event::ClientJoined {
            client: other,
            principal: Principal::Uid(7),
            pid: 71,
            rights: Rc::new(Rights::ALL),
        });
        table.step(Event::ClientSaid(other, ClientRequest::Finish { job: id }, vec![]));
        let closed = Action::CloseClient(other, Fault::UnknownJob(id));
        assert!(table.actions.contains(&closed), "{:?}", table.actions);
        assert_eq!(table.told(), [], "the job goes on");
    }
}

#[test]
fn clients_over_vsock_are_a_principal_of_their_own_without_a_uid() {
    let mut table = table();
    for (client, principal) in
        [(2, Principal::Token(0)), (3, Principal::Token(0)), (4, Principal::Uid(0))]
    {
        let client = ClientId(client);
        table.step(Event::ClientJoined { client, principal, pid: 0, rights: Rc::new(Rights::ALL) });
        table.step(Event::ClientSaid(client, open(Algorithm::Sha256, 0), vec![]));
    }
    let status = table.core.status(table.now, usize::MAX);
    let uids: Vec<Option<u32>> = status.jobs.iter().map(JobStatus::uid).collect();
    assert_eq!(uids, [Some(7), None, None, Some(0)]);
}

#[test]
fn several_digests_and_ranges_go_to_a_worker_that_has_all_algorithms() {
    let mut table = Table::new(Limits::default());
    let algorithms = Algorithms::new(&[Algorithm::Blake3, Algorithm::Sha256]).unwrap();
    let open = ClientRequest::Open { tag: 3, algorithms, cross_check: 0, strict_reads: true };
    table.say(open, &[]);
    let planes = Planes { descriptors: true, inline: true, datasets: Vec::new() };
    let only = |algorithm: Algorithm| move |backend: &Backend| backend.algorithm == algorithm;
    table.join_if(1, 9, planes.clone(), only(Algorithm::Blake3));
    table.join_if(2, 9, planes.clone(), only(Algorithm::Sha256));
    let stamp = Stamp { size: 1 << 40, ..Stamp::default() };
    let range = Some(ByteRange { offset: 7, len: 1 << 39 });
    let files = vec![FileItem { stamp, range }, Stamp { size: 9, ..stamp }.into()];
    let items = Items::Files { source: FileSource::Descriptors, files: files.clone() };
    table.told();
    table.say(ClientRequest::Items { job: JOB, first: 0, items: items.clone() }, &[0, 1]);
    let failed = table.told();
    assert!(
        matches!(&failed[0], ClientReply::Results { failures, .. }
        if failures.iter().all(|(_, failure)| *failure == Failure::Unsupported)),
        "{failed:?}"
    );
    table.join_with(3, 9, planes);
    table.say(ClientRequest::Items { job: JOB, first: 2, items }, &[0, 1]);
    let mut given = Vec::new();
    for action in std::mem::take(&mut table.actions) {
        let Action::ToWorker(WorkerId(3), request, _) = action else { panic!("{action:?}") };
        let WorkerRequest::Assign { lease, attempt, work, strict_reads, .. } = request else {
            panic!("{request:?}")
        };
        let Work::Files { files, .. } = work else { panic!("no part of several: {work:?}") };
        assert!(strict_reads);
        table.done(3, (lease, attempt), u8::try_from(2 * files.len()).unwrap(), vec![]);
        given.extend(files);
    }
    given.sort_by_key(|file| Reverse(file.stamp.size));
    assert_eq!(given, files, "whole, and as they were sent");
    let outputs_len = |reply| {
        let ClientReply::Results { outputs, .. } = reply else { panic!("{reply:?}") };
        outputs.len()
    };
    assert_eq!(table.told().into_iter().map(outputs_len).sum::<usize>(), 2 * 64);
}

#[test]
fn any_length_that_a_client_claims_is_only_a_claim() {
    for algorithm in [Algorithm::Sha256, Algorithm::Blake3] {
        let mut table = Table::new(Limits::default());
        table.open(algorithm);
        table.join(2, 9);
        table.send_files(0, &[u64::MAX; 253]);
        table.send_files(253, &[i64::MAX as u64, 0, 1 << 44]);
        table.join(1, 99);
        for _ in 0..300 {
            for (worker, lease, _) in table.assigned() {
                table.done(worker, lease, 0, vec![(0, Failure::Changed)]);
            }
        }
        table.say(ClientRequest::Finish { job: JOB }, &[]);
        let finished = ClientReply::Finished { job: JOB, items: 256, failed: 256 };
        assert_eq!(table.told().pop(), Some(finished));
        assert_eq!(table.core.status(table.now, 9).counters.bytes, 0);
    }
}
