//! The world of one seed.

use super::client::{FILE_STAMP, JobClient, SimItem, digest_by};
use super::disk::Disk;
use super::history::{Happened, judge};
use super::totals::Totals;
use hashcluster_controller::core::{Action, Core, Event, Limits, Rights, WorkerId};
use hashcluster_controller::jobs::{Book, BookAction, BookEvent, Caller, Instants, Retirement};
use hashcluster_controller::journal::{Query, Write};
use ipc_proto::message::{
    Backend, ClaimsWork, ClientReply, DirEntry, EntryKind, Failure, JobId, JobState, LeaseId,
    ListOutcome, ListWork, Planes, SandboxLayers, Work, WorkerIntro, WorkerReply, WorkerRequest,
};
use ipc_proto::{Algorithm, Algorithms, Blob};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;
use test_kit::Random;

const STEPS_MAX: u64 = 200_000;

/// A part of a world that does not do what it should, for tests of the test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    Nothing,
    /// Syncs lie: what they wrote is not always durable.
    Sync,
    /// The core takes an answer of an old attempt for one of the attempt of now.
    Fence,
}

struct HeldLease {
    lease: LeaseId,
    attempt: u32,
    algorithms: Algorithms,
    work: Work,
    is_revoked: bool,
}

enum Todo {
    Core(Event<()>),
    /// An answer of a worker, and the one that a broken core takes it for.
    Mistaken(Box<Happened>, Event<()>),
    Book(BookEvent),
}

pub(crate) struct JobsWorld {
    random: Random,
    /// Time of the controller, which starts again with it.
    now: Duration,
    wall_s: u64,
    /// Bound of the journal, which each start makes larger.
    len_max: u64,
    disk: Disk,
    core: Core<()>,
    book: Book,
    commit: Option<(u64, Vec<Write>)>,
    /// A commit that is durable, of which the book has not heard.
    done: Option<u64>,
    reads: VecDeque<(u64, Query)>,
    workers: BTreeMap<WorkerId, Vec<HeldLease>>,
    next_worker: u64,
    clients: Vec<JobClient>,
    /// Callers of before a crash are never used again.
    first_caller: u64,
    crashes_left: u64,
    full_left: u64,
    broken: Broken,
    /// Leases of workers that are gone, of which a broken core takes answers.
    orphans: Vec<(WorkerId, HeldLease)>,
    /// Ends of jobs of which no event tells yet, each with the write of its commit.
    ends: Vec<(JobId, Write)>,
    told: BTreeSet<JobId>,
    history: Vec<Happened>,
    totals: Totals,
}

impl JobsWorld {
    pub(crate) fn new(seed: u64, broken: Broken) -> Self {
        let mut random = Random::new(seed);
        let clients: Vec<JobClient> =
            (0..1 + random.index(5)).map(|number| JobClient::new(number, &mut random)).collect();
        let crashes_left = if broken == Broken::Sync { 6 } else { random.below(12) };
        let wall_s = 1_800_000_000;
        let len_max = random.one_of(&[u64::MAX, 50_000, 10_000, 2_000]);
        Self {
            now: Duration::ZERO,
            wall_s,
            len_max,
            disk: Disk::default(),
            core: core(wall_s),
            book: book(wall_s).bounded(len_max),
            commit: None,
            done: None,
            reads: VecDeque::new(),
            workers: BTreeMap::new(),
            next_worker: 0,
            clients,
            first_caller: 0,
            crashes_left,
            full_left: random.below(4),
            broken,
            orphans: Vec::new(),
            ends: Vec::new(),
            told: BTreeSet::new(),
            history: Vec::new(),
            totals: Totals::default(),
            random,
        }
    }

    pub(crate) fn run(mut self) -> Result<Totals, String> {
        self.book(BookEvent::Tick)?;
        for _ in 0..STEPS_MAX {
            if self.clients.iter().all(JobClient::is_over) {
                if self.crashes_left > 0 {
                    // What was acknowledged is there after another one.
                    self.crash()?;
                    continue;
                }
                self.tell_ends()?;
                if let Some(id) = self.disk.ended().find(|id| !self.told.contains(id)) {
                    return Err(format!("no event tells of the end of {id}"));
                }
                self.totals.retries = self.clients.iter().map(|client| client.retries).sum();
                self.totals.items = self.clients.iter().map(|c| c.items.len() as u64).sum();
                self.totals.findings = self.clients.iter().map(|client| client.findings).sum();
                judge(&self.history)?;
                return Ok(self.totals);
            }
            // A broken world shows in its history first.
            self.one_step().map_err(|loss| judge(&self.history).err().unwrap_or(loss))?;
        }
        Err("the jobs do not end".to_owned())
    }

    fn one_step(&mut self) -> Result<(), String> {
        match self.random.below(100) {
            0..=24 => self.ask(),
            25..=44 => self.sync(),
            45..=59 => self.answer_read(),
            60..=84 => self.work(),
            85..=89 => self.tick(),
            90 => self.tell_ends(),
            91..=93 => self.join(),
            94 => self.lose_worker(),
            95 if self.crashes_left > 0 => self.crash(),
            // Somebody gives the journal more room.
            96 if self.book.shortage().is_some() => {
                self.totals.short += 1;
                self.crashes_left += 1;
                self.crash()
            }
            _ => self.tick(),
        }
    }

    fn instants(&self) -> Instants {
        Instants { monotonic: self.now, wall_s: self.wall_s }
    }

    fn book(&mut self, event: BookEvent) -> Result<(), String> {
        self.carry_out(Todo::Book(event))
    }

    /// Carries out all that follows from one event.
    fn carry_out(&mut self, todo: Todo) -> Result<(), String> {
        let mut todo = VecDeque::from([todo]);
        while let Some(next) = todo.pop_front() {
            match next {
                Todo::Core(event) => self.core_step(input(&event), event, &mut todo),
                Todo::Mistaken(said, event) => self.core_step(*said, event, &mut todo),
                Todo::Book(event) => {
                    let at = self.instants();
                    for action in self.book.step(at, event) {
                        self.book_action(action, &mut todo)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn core_step(&mut self, said: Happened, event: Event<()>, todo: &mut VecDeque<Todo>) {
        self.history.push(said);
        for action in self.core.step(self.now, event) {
            self.core_action(action, todo);
        }
        self.core.check_invariants();
    }

    fn core_action(&mut self, action: Action<()>, todo: &mut VecDeque<Todo>) {
        match action {
            Action::Listed(tag, outcome) => {
                todo.push_back(Todo::Book(BookEvent::Listed(tag, outcome)));
            }
            Action::ToBook(reply) => {
                if let ClientReply::Results { job, runs, outputs, .. } = &reply {
                    let (job, runs, digests_len) = (*job, runs.clone(), outputs.len());
                    self.history.push(Happened::Reported { job, runs, digests_len });
                }
                todo.push_back(Todo::Book(BookEvent::Core(reply)));
            }
            Action::ToWorker(
                worker,
                WorkerRequest::Assign { lease, attempt, algorithms, work, .. },
                _,
            ) => {
                self.history.push(Happened::Leased { worker, lease, attempt });
                let held = self.workers.get_mut(&worker).expect("it is connected");
                held.push(HeldLease { lease, attempt, algorithms, work, is_revoked: false });
            }
            Action::ToWorker(worker, WorkerRequest::Revoke { leases }, _) => {
                let revoked = |&lease| Happened::Revoked { worker, lease };
                self.history.extend(leases.iter().map(revoked));
                let held = self.workers.get_mut(&worker).expect("it is connected");
                for held in held.iter_mut().filter(|held| leases.contains(&held.lease)) {
                    held.is_revoked = true;
                }
            }
            Action::ToWorker(_, WorkerRequest::Heartbeat | WorkerRequest::Leave, _) => {}
            Action::CloseWorker(worker, _) => {
                self.history.push(Happened::Left(worker));
                self.workers.remove(&worker);
            }
            other @ (Action::ToClient(..)
            | Action::CloseClient(..)
            | Action::Quarantined(..)
            | Action::Doubted(_)
            | Action::Keep(..)
            | Action::BackInQuarantine { .. }
            | Action::DrainAsked { .. }
            | Action::Drained(_)
            | Action::UndrainAsked { .. }
            | Action::ReleaseAsked { .. }) => panic!("{other:?}"),
        }
    }

    fn book_action(&mut self, action: BookAction, todo: &mut VecDeque<Todo>) -> Result<(), String> {
        match action {
            BookAction::Persist(sequence, writes) => {
                assert!(self.commit.is_none() && self.done.is_none(), "one commit at a time");
                self.commit = Some((sequence, writes));
            }
            BookAction::Read(tag, query) => self.reads.push_back((tag, query)),
            BookAction::Core(request) => todo.push_back(Todo::Core(Event::BookSaid(request))),
            BookAction::List(page) => todo.push_back(Todo::Core(Event::List(page))),
            BookAction::Unlist(tag) => todo.push_back(Todo::Core(Event::Unlist(tag))),
            BookAction::Ended { row, told } => {
                let is_over = matches!(row.state, JobState::Done | JobState::Failed);
                assert!(is_over && row.ended_s > 0, "an end that is none: {row:?}");
                self.totals.ended += 1;
                self.ends.push((row.id, told));
            }
            BookAction::Retired(id, retirement) => {
                assert!(retirement == Retirement::Room && self.disk.removed.contains(&id));
                self.totals.retired += 1;
            }
            BookAction::Reply(caller, tag, reply) => {
                let number = caller.0.checked_sub(self.first_caller).expect("it is connected");
                let number = usize::try_from(number).expect("few");
                self.history.extend(Happened::of_reply(&reply));
                self.clients[number].take(tag, reply, &self.disk.removed, &mut self.random)?;
            }
        }
        Ok(())
    }

    /// Commits the events that tell of ends.
    fn tell_ends(&mut self) -> Result<(), String> {
        for (id, told) in std::mem::take(&mut self.ends) {
            self.disk.commit(&[told], self.broken == Broken::Sync);
            self.told.insert(id);
        }
        Ok(())
    }

    fn ask(&mut self) -> Result<(), String> {
        let number = self.random.index(self.clients.len());
        let client = &mut self.clients[number];
        let Some((tag, request)) = client.next_request(&mut self.random) else { return Ok(()) };
        let principal = client.principal();
        let caller = Caller(self.first_caller + number as u64);
        let rights = Rc::new(Rights::ALL);
        self.book(BookEvent::Asked { caller, tag, principal, rights, request })
    }

    /// The writer thread of the journal.
    fn sync(&mut self) -> Result<(), String> {
        if let Some(sequence) = self.done.take() {
            return self.persisted(sequence);
        }
        let Some((sequence, writes)) = self.commit.take() else { return Ok(()) };
        if self.full_left > 0 && self.random.chance(5) {
            self.full_left -= 1;
            self.totals.full += 1;
            let text = "no space left for the journal".to_owned();
            return self.book(BookEvent::PersistFailed { sequence, text, is_final: false });
        }
        let lies = self.broken == Broken::Sync && self.random.chance(50);
        self.disk.commit(&writes, lies);
        self.totals.commits += 1;
        if self.random.chance(50) {
            self.done = Some(sequence);
            return Ok(());
        }
        self.persisted(sequence)
    }

    fn persisted(&mut self, sequence: u64) -> Result<(), String> {
        self.book(BookEvent::Persisted(sequence))?;
        self.book(BookEvent::JournalLen(self.disk.rows_len()))
    }

    fn answer_read(&mut self) -> Result<(), String> {
        let Some((tag, query)) = self.reads.pop_front() else { return Ok(()) };
        let rows = self.disk.read(&query);
        self.book(BookEvent::Read(tag, Ok(rows)))
    }

    fn tick(&mut self) -> Result<(), String> {
        let pause = self.random.below(250);
        self.now += Duration::from_millis(pause);
        let heard: Vec<WorkerId> = self.workers.keys().copied().collect();
        for worker in heard {
            self.carry_out(Todo::Core(Event::WorkerSaid(worker, WorkerReply::Heartbeat)))?;
        }
        self.carry_out(Todo::Core(Event::Tick))?;
        self.book(BookEvent::Tick)
    }

    fn join(&mut self) -> Result<(), String> {
        if self.workers.len() >= 3 {
            return Ok(());
        }
        let worker = WorkerId(self.next_worker);
        self.next_worker += 1;
        self.workers.insert(worker, Vec::new());
        let backend =
            |algorithm| Backend { algorithm, backend: "portable".to_owned(), interleave_max: 1 };
        let intro = WorkerIntro {
            name: format!("w{}", worker.0),
            software: String::new(),
            image: String::new(),
            pid: 1,
            threads: 2,
            memory_bytes: 0,
            backends: Algorithm::ALL.map(backend).to_vec(),
            planes: Planes { descriptors: false, inline: true, datasets: vec!["d".to_owned()] },
            reading: String::new(),
            sandbox: SandboxLayers::default(),
            token: Blob::default(),
            host: String::new(),
            cpu: String::new(),
        };
        self.carry_out(Todo::Core(Event::WorkerJoined(worker, intro)))?;
        let credit = WorkerReply::Credit { batches: 3 };
        self.carry_out(Todo::Core(Event::WorkerSaid(worker, credit)))
    }

    fn lose_worker(&mut self) -> Result<(), String> {
        let Some((worker, held)) = self.workers.pop_first() else { return Ok(()) };
        if self.broken == Broken::Fence {
            let orphans = held.into_iter().map(|held| HeldLease { is_revoked: true, ..held });
            self.orphans.extend(orphans.map(|held| (worker, held)));
        }
        self.totals.lost_workers += 1;
        self.carry_out(Todo::Core(Event::WorkerLeft(worker)))
    }

    /// One of the leases of a worker, taken out of its hands.
    fn next_lease(&mut self) -> Option<(WorkerId, HeldLease)> {
        if !self.orphans.is_empty() && self.random.chance(50) {
            return self.orphans.pop();
        }
        let workers: Vec<WorkerId> = self.workers.keys().copied().collect();
        if workers.is_empty() {
            return None;
        }
        let worker = workers[self.random.index(workers.len())];
        let held = self.workers.get_mut(&worker).expect("it was just listed");
        if held.is_empty() {
            return None;
        }
        Some((worker, held.remove(self.random.index(held.len()))))
    }

    /// A worker answers one of its leases.
    fn work(&mut self) -> Result<(), String> {
        let Some((worker, held)) = self.next_lease() else { return Ok(()) };
        let HeldLease { lease, attempt, algorithms, work, is_revoked } = held;
        self.totals.late += u64::from(is_revoked);
        let said = Happened::Answered { worker, lease, attempt };
        let is_unfenced = is_revoked && self.broken == Broken::Fence;
        let mistaken = if is_unfenced { self.attempt_of_now(&work, algorithms) } else { None };
        if is_unfenced && mistaken.is_none() {
            return Ok(());
        }
        if let Work::List(work) = work {
            self.totals.pages += 1;
            let outcome = match &work.claims {
                None => self.page(&work, is_revoked),
                Some(claims) => self.claims(claims, is_revoked),
            };
            let listed = WorkerReply::Listed { lease, attempt, credit: 1, outcome };
            return self.carry_out(Todo::Core(Event::WorkerSaid(worker, listed)));
        }
        let contents: Vec<Vec<u8>> = match work {
            Work::Files { source, .. } => {
                let ipc_proto::message::FileSource::Dataset { paths, .. } = source else {
                    panic!("durable items have names")
                };
                paths.into_iter().map(|path| self.bytes_of(path)).collect()
            }
            Work::Inline { lens, data } => {
                let mut rest = &data[..];
                let cut = |&len: &u32| {
                    let (bytes, after) = rest.split_at(len as usize);
                    rest = after;
                    bytes.to_vec()
                };
                lens.iter().map(cut).collect()
            }
            other @ (Work::Subtree { .. }
            | Work::Resume { .. }
            | Work::Piece(_)
            | Work::List(_)) => {
                panic!("{other:?}")
            }
        };
        let (mut outputs, mut failures) = (Vec::new(), Vec::new());
        let has_failures = self.random.chance(10);
        for (position, content) in (0..).zip(contents) {
            if has_failures && self.random.chance(20) {
                failures.push((position, Failure::Io { errno: 5 }));
            } else if is_revoked && !is_unfenced {
                // One that is accepted shows.
                outputs.extend(vec![0xee; algorithms.digests_len()]);
            } else {
                let digests = algorithms.iter().map(|&algorithm| digest_by(algorithm, &content));
                outputs.extend(digests.flatten());
            }
        }
        let outputs = Blob(outputs);
        if let Some((worker, HeldLease { lease, attempt, .. })) = mistaken {
            let done =
                WorkerReply::Done { lease, attempt, credit: 1, busy_us: 9, outputs, failures };
            return self.carry_out(Todo::Mistaken(Box::new(said), Event::WorkerSaid(worker, done)));
        }
        let done = WorkerReply::Done { lease, attempt, credit: 1, busy_us: 9, outputs, failures };
        if self.random.chance(5) {
            self.totals.repeated += 1;
            self.carry_out(Todo::Core(Event::WorkerSaid(worker, done.clone())))?;
        }
        self.carry_out(Todo::Core(Event::WorkerSaid(worker, done)))
    }

    /// Takes a lease of as much work that was not revoked out of a worker's hands.
    fn attempt_of_now(
        &mut self,
        work: &Work,
        algorithms: Algorithms,
    ) -> Option<(WorkerId, HeldLease)> {
        if let Work::List(_) = work {
            return None;
        }
        let is_like =
            |other: &Work| !matches!(other, Work::List(_)) && other.items_len() == work.items_len();
        self.workers.iter_mut().find_map(|(&worker, held)| {
            let at = held.iter().position(|held| {
                is_like(&held.work) && held.algorithms == algorithms && !held.is_revoked
            })?;
            Some((worker, held.remove(at)))
        })
    }

    /// Bytes of a file: those of one that is gone are its path.
    fn bytes_of(&self, path: Blob) -> Vec<u8> {
        let mut items = self.clients.iter().flat_map(|client| &client.items);
        items.find(|item| item.content == path.0).map_or(path.0, |item| item.bytes.clone())
    }

    /// A page of a directory that holds what clients have in it, as short as a worker likes; one of a revoked
    /// lease has a name that nobody knows.
    fn page(&mut self, work: &ListWork, is_revoked: bool) -> ListOutcome {
        let prefix = [&work.dir[..], b"/"].concat();
        let mut found = BTreeMap::new();
        for item in self.clients.iter().flat_map(|client| &client.items) {
            let Some(rest) = item.content.strip_prefix(&prefix[..]) else { continue };
            let (name, kind) = match rest.iter().position(|&byte| byte == b'/') {
                Some(end) => (&rest[..end], EntryKind::Directory),
                None => (rest, EntryKind::File),
            };
            found.insert(name.to_vec(), kind);
        }
        if is_revoked {
            found.insert(b"zz-late".to_vec(), EntryKind::File);
        }
        let mut entries: Vec<DirEntry> = found
            .into_iter()
            .filter(|(name, _)| name[..] > work.after[..])
            .map(|(name, kind)| DirEntry {
                name: Blob(name),
                kind,
                stamp: FILE_STAMP,
                inode: 0,
                device: 0,
            })
            .collect();
        let len_max = if self.random.chance(50) { 3 } else { 500 };
        let len = 1 + self.random.index(len_max);
        let more = entries.len() > len;
        entries.truncate(len);
        ListOutcome::Page { entries, more }
    }

    /// A page of a client's manifest, as short as a worker likes; one of a revoked lease has a name that nobody knows. A
    /// line is a byte long.
    fn claims(&mut self, work: &ClaimsWork, is_revoked: bool) -> ListOutcome {
        self.totals.claims += 1;
        let lens = if work.offset == 0 { (None, 0) } else { (Some(FILE_STAMP), 1) };
        assert_eq!((work.seen, work.state.len()), lens, "what the page before said comes back");
        let client = self.clients.iter().find(|client| client.manifest_path() == work.path);
        let client = client.expect("a client's");
        let all: Vec<_> = match &client.audit {
            Some(audit) => audit.claims(),
            None => client.items.iter().map(SimItem::claim).collect(),
        };
        let from = usize::try_from(work.offset).expect("few");
        let len_max = if self.random.chance(50) { 3 } else { 500 };
        let to = all.len().min(from + 1 + self.random.index(len_max));
        let mut entries = all[from..to].to_vec();
        if is_revoked {
            (entries[0].name, entries[0].path) = (b"zz-late"[..].into(), b"zz-late"[..].into());
        }
        ListOutcome::Claims {
            stamp: FILE_STAMP,
            entries,
            bad_lines: 0,
            offset: to as u64,
            state: b"s"[..].into(),
            more: to < all.len(),
        }
    }

    /// The controller dies, and another one starts on its journal.
    fn crash(&mut self) -> Result<(), String> {
        self.crashes_left -= 1;
        self.totals.crashes += 1;
        self.totals.crashes_in_commit += u64::from(self.commit.is_some() || self.done.is_some());
        let is_read = |query: &Query| query.table == hashcluster_controller::journal::TableId::Jobs;
        self.totals.crashes_in_recovery +=
            u64::from(self.reads.iter().any(|(_, query)| is_read(query)));
        // A commit that was on its way came through, or not.
        if let Some((_, writes)) = self.commit.take()
            && self.random.chance(50)
        {
            self.disk.commit(&writes, self.broken == Broken::Sync);
        }
        self.disk.crash();
        self.orphans.clear();
        self.ends.clear();
        self.history.push(Happened::Crashed);
        self.done = None;
        self.reads.clear();
        self.workers.clear();
        self.first_caller += 1000;
        self.now = Duration::ZERO;
        // The clock goes on, stands still, or was set back.
        self.wall_s = self.wall_s + self.random.below(3) - self.random.below(2);
        self.core = core(self.wall_s);
        self.len_max = self.len_max.saturating_mul(2);
        self.book = book(self.wall_s).bounded(self.len_max);
        self.clients.iter_mut().for_each(JobClient::reconnect);
        self.book(BookEvent::JournalLen(self.disk.rows_len()))
    }
}

/// An input of the core, as the history has it.
fn input(event: &Event<()>) -> Happened {
    if let Event::WorkerSaid(worker, WorkerReply::Done { lease, attempt, .. }) = event {
        return Happened::Answered { worker: *worker, lease: *lease, attempt: *attempt };
    }
    if let Event::WorkerLeft(worker) = event {
        return Happened::Left(*worker);
    }
    Happened::OtherInput
}

fn epoch(wall_s: u64) -> u32 {
    u32::try_from(wall_s).expect("before 2106")
}

fn core(wall_s: u64) -> Core<()> {
    Core::new(Limits::default(), vec!["d".to_owned()], epoch(wall_s))
}

fn book(wall_s: u64) -> Book {
    Book::new(epoch(wall_s), vec!["d".to_owned()])
}
