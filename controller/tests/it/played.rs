//! A book of durable jobs with its journal in memory, and a core that is played.

use hashcluster_controller::core::{BookRequest, PageWanted, Principal, Rights};
use hashcluster_controller::jobs::{Book, BookAction, BookEvent, Caller, Instants, Retirement};
use hashcluster_controller::journal::{MemoryStorage, Storage};
use ipc_proto::message::{
    ClientReply, DeadItem, Failures, Items, JobId, JobKind, JobSource, JobSpec, NameShare, Run,
    ServiceReply, ServiceRequest, Window, WorkerLoss,
};
use ipc_proto::{Algorithm, Blob};
use std::collections::VecDeque;
use std::rc::Rc;

const DIGEST_LEN: usize = 32;

/// A book with its journal, and a core that is played.
pub(crate) struct Played {
    pub(crate) book: Book,
    pub(crate) storage: MemoryStorage,
    len_max: u64,
    pub(crate) wall_s: u64,
    pub(crate) rights: Rights,
    pub(crate) principal: Principal,
    replies: Vec<ServiceReply>,
    /// Pages of datasets that are wanted.
    pub(crate) pages: Vec<PageWanted>,
    pub(crate) retired: Vec<(JobId, Retirement)>,
    /// The job of the core, and the items that it has.
    core: JobId,
    pub(crate) handed: u64,
}

impl Played {
    pub(crate) fn new() -> Self {
        Self::bounded(u64::MAX)
    }

    /// One whose journal is bounded.
    pub(crate) fn bounded(len_max: u64) -> Self {
        let mut played = Self {
            book: Book::new(1_800_000_000, vec!["d".to_owned()]).bounded(len_max),
            storage: MemoryStorage::default(),
            len_max,
            wall_s: 0,
            rights: Rights::ALL,
            principal: Principal::Uid(7),
            replies: Vec::new(),
            pages: Vec::new(),
            retired: Vec::new(),
            core: JobId { epoch: 0, number: 0 },
            handed: 0,
        };
        played.tell(BookEvent::Tick);
        played
    }

    /// The controller dies, and another one starts on its journal.
    pub(crate) fn restart(&mut self) {
        self.book = Book::new(1_800_000_001, vec!["d".to_owned()]).bounded(self.len_max);
        self.tell(BookEvent::Tick);
    }

    pub(crate) fn tell(&mut self, event: BookEvent) {
        let mut todo = VecDeque::from([event]);
        while let Some(event) = todo.pop_front() {
            for action in
                self.book.step(Instants { wall_s: self.wall_s, ..Instants::default() }, event)
            {
                let is_commit = matches!(action, BookAction::Persist(..));
                todo.extend(self.carry_out(action));
                if is_commit {
                    todo.push_back(BookEvent::JournalLen(self.storage.rows_len()));
                }
            }
        }
    }

    fn carry_out(&mut self, action: BookAction) -> Option<BookEvent> {
        match action {
            BookAction::Persist(sequence, writes) => {
                self.storage.commit(&writes).expect("memory takes everything");
                Some(BookEvent::Persisted(sequence))
            }
            BookAction::Read(tag, query) => {
                let snapshot = self.storage.snapshot().expect("memory can be read");
                let (from, to) = (&query.from, &query.to);
                let rows = snapshot.range(query.table, from, to, query.bytes_max);
                let rows = rows.expect("memory can be read");
                Some(BookEvent::Read(tag, Ok(rows)))
            }
            BookAction::Core(BookRequest::Open { tag, .. }) => {
                self.core.number += 1;
                self.handed = 0;
                let window = Window { items: 100, bytes: 1 << 20 };
                let opened = ClientReply::Opened { tag, job: self.core, window, workers: 1 };
                Some(BookEvent::Core(opened))
            }
            BookAction::Core(BookRequest::Items { items, .. }) => {
                self.handed += items.items_len() as u64;
                None
            }
            BookAction::Core(BookRequest::Finish { .. } | BookRequest::Cancel { .. })
            | BookAction::Unlist(_)
            | BookAction::Ended { .. } => None,
            BookAction::List(page) => {
                self.pages.push(page);
                None
            }
            BookAction::Retired(id, retirement) => {
                self.retired.push((id, retirement));
                None
            }
            BookAction::Reply(_, _, reply) => {
                self.replies.push(reply);
                None
            }
        }
    }

    #[track_caller]
    pub(crate) fn ask(&mut self, request: ServiceRequest) -> ServiceReply {
        let (caller, principal) = (Caller(1), self.principal);
        let rights = Rc::new(self.rights.clone());
        self.tell(BookEvent::Asked { caller, tag: 1, principal, rights, request });
        self.replies.pop().expect("an answer")
    }

    /// All items that the core has are resolved, with these failures.
    pub(crate) fn resolve(&mut self, failures: Failures) {
        let len = u32::try_from(self.handed).expect("a few");
        let outputs = Blob(vec![7; DIGEST_LEN * (len as usize - failures.len())]);
        let runs = vec![Run { first: 0, len }];
        let job = self.core;
        self.tell(BookEvent::Core(ClientReply::Results { job, runs, outputs, failures }));
        self.tell(BookEvent::Core(ClientReply::Finished { job, items: 0, failed: 0 }));
    }

    pub(crate) fn die(&mut self, index: u64, losses: Vec<WorkerLoss>) {
        let job = self.core;
        self.tell(BookEvent::Core(ClientReply::Death { job, index, losses }));
    }

    #[track_caller]
    pub(crate) fn dead(&mut self, job: JobId, from: u64, limit: u16) -> (Vec<DeadItem>, bool) {
        let reply = self.ask(ServiceRequest::Deaths { job, from, limit });
        let ServiceReply::Deaths { rows, more } = reply else { panic!("{reply:?}") };
        (rows, more)
    }

    /// The request for a job that takes messages.
    pub(crate) fn request(priority: u8) -> ServiceRequest {
        Self::request_of(JobSource::Stored, priority)
    }

    /// The request for a job whose items are from elsewhere.
    pub(crate) fn request_of(source: JobSource, priority: u8) -> ServiceRequest {
        let spec = Box::new(JobSpec {
            kind: JobKind::Sum,
            algorithms: Algorithm::Sha256.into(),
            source,
            cross_check: 0,
            strict_reads: false,
            labels: Vec::new(),
            priority,
            keep_s: 0,
            rate: 0,
            share: NameShare::ALL,
        });
        ServiceRequest::Submit { key: String::new(), spec }
    }

    /// The reply to a request to store three messages.
    pub(crate) fn store(&mut self, job: JobId, first: u64) -> ServiceReply {
        let names = [b"a", b"b", b"c"].map(|name| Blob::from(&name[..])).to_vec();
        let items = Items::Inline { lens: vec![1; 3], data: Blob(b"xyz".to_vec()) };
        self.ask(ServiceRequest::Store { job, first, names, expected: Vec::new(), items })
    }

    /// A job of three messages, all handed to the core.
    pub(crate) fn submit(&mut self) -> JobId {
        let ServiceReply::Job(row) = self.ask(Self::request(0)) else { panic!("no job") };
        let job = row.id;
        self.store(job, 0);
        self.ask(ServiceRequest::Seal { job });
        assert_eq!(self.handed, 3);
        job
    }

    /// A job of three messages that is done.
    pub(crate) fn run(&mut self) -> JobId {
        let job = self.submit();
        self.resolve(Vec::new());
        job
    }
}
