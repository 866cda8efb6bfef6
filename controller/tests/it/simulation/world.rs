//! The peers of the simulated core, and the judge.

mod drains;
mod judge;
mod nonsense;
mod pages;
mod progress;
mod quarantine;

use super::model::{self, FileNumber};
use super::tally::CoreCounts;
use hashcluster_controller::core::{
    Action, ClientId, Core, Event, Limits, ListTag, Principal, Rights, Standing, WorkerId,
};
use ipc_proto::message::{
    Backend, ByteRange, ClientReply, ClientRequest, Failure, FileItem, FileSource, Items, JobId,
    LeaseId, ListWork, Message, Planes, SandboxLayers, Stamp, Window, Work, WorkerIntro,
    WorkerReply, WorkerRequest,
};
use ipc_proto::{Algorithm, Algorithms, Blob};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;
use test_kit::Random;

/// Datasets of the controller.
const DATASETS: [&str; 2] = ["everywhere", "rare"];

/// The user who may release workers.
const ADMINISTRATOR: Principal = Principal::Uid(0);

const EPOCH: u32 = 1_800_000_000;
const STEPS: u64 = 400;
const WORKERS_MAX: u64 = 6;
const CLIENTS_MAX: usize = 5;
const ITEMS_MAX: u64 = 700;

#[derive(Debug)]
struct Worker {
    name: u64,
    datasets: Vec<String>,
    queue: VecDeque<(LeaseId, u32, Algorithms, Work, Vec<FileNumber>)>,
    /// Offset of the last checkpoint of each lease.
    done: BTreeMap<LeaseId, u64>,
    /// Answers already given, to be given again.
    given: Vec<WorkerReply>,
    /// Credits of revoked leases.
    owed: usize,
    hung: bool,
}

#[derive(Clone, Debug)]
enum Want {
    Digest(Vec<u8>),
    Failure,
    /// There is no such dataset.
    Unknown,
    /// Whatever length the step has.
    Step,
}

#[derive(Debug)]
struct Job {
    algorithms: Algorithms,
    window: Window,
    left: u64,
    sent: u64,
    bytes_out: u64,
    want: BTreeMap<u64, (Want, u64)>,
    /// Losses of items whose result is on its way.
    dead: BTreeMap<u64, usize>,
    resolved: u64,
    failed: u64,
    finish_sent: bool,
}

#[derive(Debug, Default)]
struct Client {
    jobs: BTreeMap<JobId, Job>,
    /// Asked for, by tag.
    opening: BTreeMap<u32, Job>,
    next_tag: u32,
}

pub(super) struct World {
    seed: u64,
    random: Random,
    now: Duration,
    core: Core<FileNumber>,
    limits: Limits,
    workers: BTreeMap<WorkerId, Worker>,
    clients: BTreeMap<ClientId, Client>,
    next_id: u64,
    next_file: u64,
    /// True if the worker of this name sometimes gives wrong outputs, and everything is checked.
    liar: Option<u64>,
    /// Workers that gave a wrong answer and were not released.
    quarantined: BTreeSet<u64>,
    /// Those of these, and of drained ones, that are kept for the next controller.
    kept: BTreeMap<u64, Standing>,
    calm: bool,
    traced: bool,
    tally: CoreCounts,
    /// Valid checkpoints of each file with their workers: nothing before the last is read again.
    reported: BTreeMap<FileNumber, Vec<(u64, u64)>>,
    /// Pages that are wanted.
    pages: BTreeMap<ListTag, ListWork>,
    /// Workers that an operator drained.
    drained: BTreeSet<u64>,
    /// Workers that are shutting down.
    leaving: BTreeSet<WorkerId>,
    /// Workers that were told that they may leave.
    left: Vec<WorkerId>,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let limits = Limits {
            items_max: 1000 + random.below(4000),
            bytes_max: (2 + random.below(6)) << 20,
            ..Limits::default()
        };
        let mut core = Core::new(limits, DATASETS.map(str::to_owned).to_vec(), EPOCH);
        let liar = random.chance(25).then_some(1);
        if liar.is_some() {
            core.cross_check(1, seed);
        }
        Self {
            seed,
            random,
            now: Duration::ZERO,
            core,
            limits,
            workers: BTreeMap::new(),
            clients: BTreeMap::new(),
            next_id: 0,
            next_file: seed * 1000,
            liar,
            quarantined: BTreeSet::new(),
            kept: BTreeMap::new(),
            calm: false,
            traced: false,
            tally: CoreCounts::default(),
            reported: BTreeMap::new(),
            pages: BTreeMap::new(),
            drained: BTreeSet::new(),
            leaving: BTreeSet::new(),
            left: Vec::new(),
        }
    }

    pub(super) fn traced(mut self) -> Self {
        self.traced = true;
        self
    }

    pub(super) fn run(mut self) -> CoreCounts {
        for _ in 0..STEPS {
            self.disturb();
            self.advance();
        }
        self.calm_down();
        self.tally
    }

    /// Peace: two good workers, nobody opens or cancels; every living job must finish.
    fn calm_down(&mut self) {
        self.calm = true;
        let workers: Vec<_> = self.workers.keys().copied().collect();
        workers.into_iter().for_each(|worker| self.kill(worker));
        self.join_worker(100);
        self.join_worker(101);
        for round in 0.. {
            if self.clients.values().all(|client| client.jobs.is_empty()) && self.pages.is_empty() {
                break;
            }
            assert!(
                round < 30_000,
                "seed {}: jobs are stuck: {:.2000}",
                self.seed,
                format!("{:?}", self.clients)
            );
            if self.workers.len() < 2 {
                self.join_worker(200 + round);
            }
            self.advance();
        }
        let status = self.core.status(self.now, 10);
        let in_use = (status.limits.items, status.limits.bytes, status.jobs.len());
        assert_eq!(in_use, (0, 0, 0), "seed {}: nothing is left behind", self.seed);
        let leases: u32 = status.workers.iter().map(|worker| worker.leases).sum();
        assert_eq!(leases, 0, "seed {}: no lease outlives its job", self.seed);
        self.tally.stale += status.counters.answers_fenced;
        self.tally.contradicted += status.counters.items_contradicted;
        if self.liar.is_none() {
            let wronged = status.counters.items_contradicted;
            assert_eq!(wronged, 0, "seed {}: nobody lies", self.seed);
        }
    }

    fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn pick<K: Copy + Ord, V>(random: &mut Random, map: &BTreeMap<K, V>) -> Option<K> {
        map.keys().nth(random.index(map.len().max(1))).copied()
    }

    fn disturb(&mut self) {
        match self.random.below(100) {
            0..6 if (self.workers.len() as u64) < WORKERS_MAX => {
                let name = self.random.below(WORKERS_MAX);
                self.join_worker(name);
            }
            6..9 => {
                if let Some(worker) = Self::pick(&mut self.random, &self.workers) {
                    self.kill(worker);
                }
            }
            9..11 => {
                if let Some(worker) = Self::pick(&mut self.random, &self.workers) {
                    self.workers.get_mut(&worker).expect("picked").hung = true;
                    self.tally.hangs += 1;
                }
            }
            11..14 => self.answer_again(),
            14 => self.answer_wrongly(),
            15..25 if self.clients.len() < CLIENTS_MAX => {
                let client = ClientId(self.new_id());
                self.clients.insert(client, Client::default());
                let uid = u32::try_from(self.random.below(3)).expect("small");
                // The third principal is who comes over vsock.
                let principal = if uid == 2 { Principal::Token(0) } else { Principal::Uid(uid) };
                let release = principal == ADMINISTRATOR;
                let rights = Rc::new(Rights { release, drain: release, ..Rights::ALL });
                self.step(Event::ClientJoined { client, principal, pid: 1, rights });
            }
            25..40 => self.open_job(),
            40..42 => self.cancel_job(),
            42 => {
                if let Some(client) = Self::pick(&mut self.random, &self.clients) {
                    self.clients.remove(&client);
                    self.step(Event::ClientLeft(client));
                    self.tally.cancelled += 1;
                }
            }
            43 => self.say_nonsense(),
            44 => self.lie_about_progress(),
            45..48 => self.release_worker(),
            48..58 => self.want_page(),
            58 => self.drop_page(),
            59 => self.lie_about_a_page(),
            60 => self.drain_worker(),
            61..64 => self.undrain_worker(),
            64 => self.shut_down_worker(),
            _ => {}
        }
    }

    /// A little time passes; everybody does some of what is next for them.
    fn advance(&mut self) {
        self.now += Duration::from_millis(1 + self.random.below(120));
        for client in self.clients.keys().copied().collect::<Vec<_>>() {
            self.send_items(client);
        }
        for worker in self.workers.keys().copied().collect::<Vec<_>>() {
            self.work(worker);
        }
        self.step(Event::Tick);
    }

    fn join_worker(&mut self, name: u64) {
        let text = format!("w{name}");
        if self.core.is_name_taken(&text) {
            return;
        }
        let id = WorkerId(self.new_id());
        let threads = u16::try_from(1 + self.random.below(4)).expect("small");
        let mut datasets = vec![DATASETS[0].to_owned(), "of no use".to_owned()];
        if self.calm || self.random.chance(20) {
            datasets.insert(0, DATASETS[1].to_owned());
        }
        let backend =
            |algorithm| Backend { algorithm, backend: "model".to_owned(), interleave_max: 2 };
        let intro = WorkerIntro {
            name: text,
            software: "0".to_owned(),
            image: String::new(),
            pid: 1,
            threads,
            memory_bytes: 1,
            backends: Algorithm::ALL.map(backend).to_vec(),
            planes: Planes { descriptors: true, inline: true, datasets: datasets.clone() },
            reading: String::new(),
            sandbox: SandboxLayers::default(),
            token: Blob::default(),
            host: String::new(),
            cpu: String::new(),
        };
        let queue = VecDeque::new();
        let worker = Worker {
            name,
            datasets,
            queue,
            done: BTreeMap::new(),
            given: Vec::new(),
            owed: 0,
            hung: false,
        };
        self.workers.insert(id, worker);
        self.step(Event::WorkerJoined(id, intro));
        self.step(Event::WorkerSaid(id, WorkerReply::Credit { batches: threads + 2 }));
    }

    fn kill(&mut self, worker: WorkerId) {
        self.workers.remove(&worker);
        self.tally.deaths += 1;
        self.step(Event::WorkerLeft(worker));
    }

    fn work(&mut self, id: WorkerId) {
        if self.workers.get(&id).is_none_or(|worker| worker.hung) {
            return;
        }
        let owed = self.workers.get_mut(&id).map_or(0, |worker| std::mem::take(&mut worker.owed));
        if owed > 0 {
            let batches = u16::try_from(owed).expect("a worker's leases are few");
            self.step(Event::WorkerSaid(id, WorkerReply::Credit { batches }));
        }
        if self.random.chance(40) && self.come_forward(id, None) {
            return;
        }
        let worker = self.workers.get_mut(&id).expect("it lives");
        let Some((lease, attempt, algorithms, work, files)) = worker.queue.pop_front() else {
            return self.step(Event::WorkerSaid(id, WorkerReply::Heartbeat));
        };
        if files.iter().any(|&file| model::is_poison(file)) {
            let name = worker.name;
            self.kill(id);
            return self.join_worker(name);
        }
        if let Work::List(page) = &work {
            return self.answer_page(id, (lease, attempt), &page.clone());
        }
        let (mut outputs, failures) = model::compute(algorithms, &work, &files);
        if self.liar == Some(worker.name) && !outputs.is_empty() && self.random.chance(40) {
            let at = self.random.index(outputs.len());
            outputs.0[at] ^= 1 + (self.random.byte() & 0x7f);
            self.tally.lies += 1;
        }
        let reply = WorkerReply::Done { lease, attempt, credit: 1, busy_us: 50, outputs, failures };
        worker.given.push(reply.clone());
        if model::whole_of(algorithms, &work).is_some() {
            // What comes next of this file is a check, or a new start.
            self.reported.remove(&files[0]);
        }
        if progress::says_invalid(&reply) {
            self.tally.started_over += 1;
        }
        self.step(Event::WorkerSaid(id, reply));
    }

    fn open_job(&mut self) {
        let Some(id) = Self::pick(&mut self.random, &self.clients) else { return };
        let mut list = Algorithm::ALL.to_vec();
        (0..list.len()).for_each(|i| list.swap(i, self.random.index(i + 1)));
        let algorithms_len = if self.random.chance(20) { 1 + self.random.index(4) } else { 1 };
        let algorithms = Algorithms::new(&list[..algorithms_len]).expect("distinct");
        let left = 1 + self.random.below(ITEMS_MAX);
        let client = self.clients.get_mut(&id).expect("picked");
        let tag = client.next_tag;
        client.next_tag += 1;
        let job = Job {
            algorithms,
            window: Window::default(),
            left,
            sent: 0,
            bytes_out: 0,
            want: BTreeMap::new(),
            dead: BTreeMap::new(),
            resolved: 0,
            failed: 0,
            finish_sent: false,
        };
        client.opening.insert(tag, job);
        let cross_check = [0, 0, 3][self.random.index(3)];
        let strict_reads = self.random.chance(10);
        let open = ClientRequest::Open { tag, algorithms, cross_check, strict_reads };
        self.step(Event::ClientSaid(id, open, Vec::new()));
    }

    fn cancel_job(&mut self) {
        let Some(id) = Self::pick(&mut self.random, &self.clients) else { return };
        let Some(job) = Self::pick(&mut self.random, &self.clients[&id].jobs) else { return };
        self.step(Event::ClientSaid(id, ClientRequest::Cancel { job }, Vec::new()));
        let client = self.clients.get(&id).expect("cancelling closes nobody");
        assert!(!client.jobs.contains_key(&job), "seed {}: cancelled at once", self.seed);
    }

    fn send_items(&mut self, id: ClientId) {
        let jobs: Vec<JobId> = self.clients[&id].jobs.keys().copied().collect();
        for number in jobs {
            let client = self.clients.get_mut(&id).expect("a living client");
            let Some(job) = client.jobs.get_mut(&number) else { continue };
            let room = u64::from(job.window.items).saturating_sub(job.want.len() as u64);
            let len = room.min(job.left).min(1 + self.random.below(250));
            if len > 0 {
                let request = self.make_items(id, number, len);
                if let Some((request, files)) = request {
                    self.step(Event::ClientSaid(id, request, files));
                }
            } else if job.left == 0 && !job.finish_sent {
                job.finish_sent = true;
                let finish = ClientRequest::Finish { job: number };
                self.step(Event::ClientSaid(id, finish, Vec::new()));
            }
        }
    }

    fn make_items(
        &mut self,
        id: ClientId,
        number: JobId,
        len: u64,
    ) -> Option<(ClientRequest, Vec<FileNumber>)> {
        let client = self.clients.get_mut(&id).expect("a living client");
        let job = client.jobs.get_mut(&number).expect("a living job");
        let first = job.sent;
        let (random, algorithms) = (&mut self.random, job.algorithms);
        if random.chance(20) {
            let lens: Vec<u32> =
                (0..len).map(|_| u32::try_from(random.below(300)).expect("small")).collect();
            let data: Vec<u8> = (0..lens.iter().sum::<u32>()).map(|_| random.byte()).collect();
            if job.bytes_out + data.len() as u64 > job.window.bytes {
                return None;
            }
            let mut rest: &[u8] = &data;
            for (index, &len) in (first..).zip(&lens) {
                let (message, after) = rest.split_at(len as usize);
                let digests = model::message_digests(algorithms, message);
                job.want.insert(index, (Want::Digest(digests), len.into()));
                rest = after;
            }
            job.bytes_out += data.len() as u64;
            job.sent += len;
            job.left -= len;
            let items = Items::Inline { lens, data: Blob(data) };
            return Some((ClientRequest::Items { job: number, first, items }, Vec::new()));
        }
        if random.chance(5) && algorithms.single().is_some_and(Algorithm::has_midstate) {
            let piece = ipc_proto::message::Piece::Segment {
                state: Blob::default(),
                data: Blob(vec![3; 256]),
                last: random.chance(50),
            };
            job.want.insert(first, (Want::Step, 256));
            job.bytes_out += 256;
            job.sent += 1;
            job.left -= 1;
            return Some((ClientRequest::Piece { job: number, index: first, piece }, vec![]));
        }
        let dataset = match random.below(100) {
            0..5 => Some("nowhere"),
            5..20 => Some(DATASETS[1]),
            20..50 => Some(DATASETS[0]),
            _ => None,
        };
        let mut numbers = Vec::new();
        let mut files = Vec::new();
        let mut paths = Vec::new();
        for index in first..first + len {
            let file = self.next_file;
            self.next_file += 1;
            let size = match random.below(40) {
                0 => random.below(1 << 33),
                1..4 => random.below(64 << 20),
                _ => random.below(100_000),
            };
            let range = random.chance(10).then(|| {
                let offset = random.below(size + 1);
                ByteRange { offset, len: random.below(size - offset + 1) }
            });
            let item = FileItem { stamp: Stamp { size, mtime_ns: 1, ctime_ns: 2 }, range };
            let path = model::path_of(file);
            let path_len = if dataset.is_some() { path.len() as u64 } else { 0 };
            if job.bytes_out + path_len > job.window.bytes {
                break;
            }
            let want = if dataset == Some("nowhere") {
                Want::Unknown
            } else if model::is_unreadable(file) || model::is_poison(file) {
                Want::Failure
            } else {
                Want::Digest(model::file_digests(algorithms, model::content_of(file, &item)))
            };
            job.want.insert(index, (want, path_len));
            job.bytes_out += path_len;
            job.sent += 1;
            job.left -= 1;
            numbers.push(file);
            files.push(item);
            paths.push(path);
        }
        if files.is_empty() {
            return None;
        }
        let (source, passed) = match dataset {
            Some(name) => (FileSource::Dataset { name: name.to_owned(), paths }, vec![]),
            None => (FileSource::Descriptors, numbers),
        };
        let items = Items::Files { source, files };
        Some((ClientRequest::Items { job: number, first, items }, passed))
    }

    /// One event into the core, its actions to the peers, and a look at the bounds.
    fn step(&mut self, event: Event<FileNumber>) {
        if self.traced {
            self.tally.trace.push(format!("{:?} <- {event:?}", self.now));
        }
        let actions = self.core.step(self.now, event);
        self.core.check_invariants();
        let mut lost = BTreeSet::new();
        for action in actions {
            if self.traced {
                self.tally.trace.push(format!("-> {action:?}"));
            }
            self.take_action(action, &mut lost);
        }
        let limits = self.core.status(self.now, 0).limits;
        assert!(limits.items <= self.limits.items_max, "seed {}: items are bounded", self.seed);
        assert!(limits.bytes <= self.limits.bytes_max, "seed {}: bytes are bounded", self.seed);
        self.judge_kept();
        for worker in lost {
            self.workers.remove(&worker);
        }
        while let Some(worker) = self.left.pop() {
            let before = self.core.status(self.now, 0).counters.leases_lost;
            self.step(Event::WorkerLeft(worker));
            let after = self.core.status(self.now, 0).counters.leases_lost;
            assert_eq!(before, after, "seed {}: a worker that may leave loses nothing", self.seed);
            self.tally.left += 1;
        }
    }

    fn take_action(&mut self, action: Action<FileNumber>, lost: &mut BTreeSet<WorkerId>) {
        match action {
            Action::ToClient(client, reply) => {
                reply.check().expect("what is sent fits the protocol");
                self.take_reply(client, reply);
            }
            Action::ToWorker(id, request, files) => {
                request.check().expect("what is sent fits the protocol");
                assert_eq!(request.descriptors_len(), files.len());
                if let Some(worker) = self.workers.get_mut(&id) {
                    let is_work = matches!(request, WorkerRequest::Assign { .. });
                    let is_quarantined = self.quarantined.contains(&worker.name);
                    assert!(!is_work || !is_quarantined, "seed {}: w{}", self.seed, worker.name);
                    let is_drained =
                        self.drained.contains(&worker.name) || self.leaving.contains(&id);
                    assert!(!is_work || !is_drained, "seed {}: w{}", self.seed, worker.name);
                    if request == WorkerRequest::Leave {
                        assert!(self.leaving.contains(&id) && worker.queue.is_empty());
                        lost.insert(id);
                        self.left.push(id);
                        return;
                    }
                    Self::take_request(&mut self.tally, &self.reported, worker, request, files);
                }
            }
            Action::CloseClient(client, _) => {
                assert!(self.clients.remove(&client).is_some());
                self.tally.closed_clients += 1;
            }
            Action::CloseWorker(worker, _) => {
                lost.insert(worker);
            }
            Action::Listed(tag, outcome) => self.take_page(tag, outcome),
            Action::Quarantined(worker, fault) => self.take_quarantine(&worker, fault),
            Action::ToBook(reply) => {
                panic!("seed {}: no durable job is open: {reply:?}", self.seed)
            }
            Action::Doubted(worker) => self.take_doubt(&worker),
            Action::Keep(worker, standing) => self.take_kept(&worker, &standing),
            Action::BackInQuarantine { worker, .. } => self.take_back_in_quarantine(&worker),
            Action::DrainAsked { worker, by, refused } => self.take_drain(&worker, by, refused),
            Action::Drained(worker) => self.take_drained(&worker),
            Action::UndrainAsked { worker, by, outcome } => {
                self.take_undrain(&worker, by, outcome);
            }
            Action::ReleaseAsked { worker, by, outcome } => {
                self.take_release(&worker, by, outcome);
            }
        }
    }
}
